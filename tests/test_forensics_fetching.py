"""A study out of an archive: C-GET, C-MOVE and DICOMweb against Orthanc, and archives that do not behave."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")

from _archive import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    LOCAL,
    PLUGIN,
    RLE,
    SECONDARY,
    STUDY,
    archive,
    free_port,
    picture,
    sent,
    storescp,
)
from _dicom import Orthanc
from scanward.config import FETCH_BOUNDS
from scanward.errors import DecodeError, InputError, LinkError, SettingsError
from scanward.forensics.fetching import ByGet, ByMove, Source, fetch_study
from scanward.forensics.fetching_folder import Landing
from scanward.forensics.fetching_web import WebArchive
from scanward.forensics.multipart import boundary_of, parts
from scanward.transport.dicom import Incoming, Peer
from scanward.transport.dicom_part10 import unframed
from scanward.transport.dicom_retrieve import SYNTAXES, proposals

SYNTAXES_SENT = (EXPLICIT, IMPLICIT, BIG, RLE, JPEG2000, DEFLATED)
FETCHER = "FETCHER"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, int, dict[str, bytes]]]:
    """An archive with a study of one picture in each syntax, another study, and the port it calls us back at."""
    port = free_port()
    folder = tmp_path_factory.mktemp("archive")
    with archive(folder, web=PLUGIN.exists(), FETCHER=port) as orthanc:
        peer = Peer(LOCAL, orthanc.dicom, "ORTHANC")
        files = {}
        for number, syntax in enumerate(SYNTAXES_SENT, 1):
            files[f"{STUDY}.{number}"] = picture(syntax, number)
        for each in (*files.values(), picture(study="2.25.88002")):
            reply = sent(peer, each).reply
            assert reply is not None
            assert reply.status == 0
        yield orthanc, port, files


def _sources(stocked: tuple[Orthanc, int, dict[str, bytes]]) -> dict[str, Source]:
    orthanc, port, _ = stocked
    peer = Peer(LOCAL, orthanc.dicom, "ORTHANC")
    return {
        "get": ByGet(peer, FETCHER),
        "move": ByMove(peer, FETCHER, (LOCAL, port)),
        "web": WebArchive(f"http://{LOCAL}:{orthanc.http}/dicom-web/"),
    }


def _source(stocked: tuple[Orthanc, int, dict[str, bytes]], how: str) -> Source:
    if how == "web" and not PLUGIN.exists():
        pytest.skip(f"no {PLUGIN} (Debian package orthanc-dicomweb)")
    return _sources(stocked)[how]


@pytest.mark.parametrize("how", ["get", "move", "web"])
def test_a_study_comes_whole_and_bit_for_bit(
    stocked: tuple[Orthanc, int, dict[str, bytes]], how: str, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    source = _source(stocked, how)
    found = fetch_study(source, STUDY, tmp_path / "out", progress=lambda n, of: told.append((n, of)))
    files = stocked[2]
    assert [path.stem for path in found] == sorted(files)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in found]
    assert told == [(n, 6) for n in range(1, 7)]
    for path in found:
        (syntax, data), (was, sent_data) = unframed(path.read_bytes()), unframed(files[path.stem])
        assert syntax == was
        if how == "web" and syntax == DEFLATED:  # this archive deflates anew for the web
            assert _inflated(data) == _inflated(sent_data)
        else:
            assert data == sent_data


def _inflated(data: memoryview) -> bytes:
    return zlib.decompressobj(-15).decompress(data)


@pytest.mark.parametrize("how", ["get", "move", "web"])
def test_a_study_that_is_not_there_is_said_to_be_missing(
    stocked: tuple[Orthanc, int, dict[str, bytes]], how: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such study"):
        fetch_study(_source(stocked, how), "2.25.404", tmp_path / "out")


@pytest.mark.parametrize("how", ["get", "move", "web"])
def test_a_study_of_too_many_objects_or_bytes_is_refused(
    stocked: tuple[Orthanc, int, dict[str, bytes]], how: str, tmp_path: Path
) -> None:
    source = _source(stocked, how)
    with pytest.raises(LinkError, match=r"a study of (6|more than 3) objects"):
        fetch_study(source, STUDY, tmp_path / "a", bounds=replace(FETCH_BOUNDS, instances=3))
    assert not list((tmp_path / "a").iterdir())
    with pytest.raises(LinkError, match="more than a study's bytes"):
        fetch_study(source, STUDY, tmp_path / "b", bounds=replace(FETCH_BOUNDS, study_bytes=5000))
    with pytest.raises(LinkError, match="an object of more than 700 bytes"):
        fetch_study(
            source, STUDY, tmp_path / "c", bounds=replace(FETCH_BOUNDS, object_bytes=700, linger_seconds=0.1)
        )


def test_a_destination_that_the_archive_does_not_know_is_said_so(
    stocked: tuple[Orthanc, int, dict[str, bytes]], tmp_path: Path
) -> None:
    peer = Peer(LOCAL, stocked[0].dicom, "ORTHANC")
    ports: list[int] = []
    with pytest.raises(LinkError, match="status 0x"):
        fetch_study(ByMove(peer, "NOBODY", (LOCAL, 0), listening=ports.append), STUDY, tmp_path / "out")
    assert ports


def test_an_archive_that_is_away_or_serves_no_retrieval_is_one_of_our_errors(tmp_path: Path) -> None:
    nobody = Peer(LOCAL, free_port(), "ORTHANC")
    for number, source in enumerate(
        (
            ByGet(nobody, FETCHER),
            ByMove(nobody, FETCHER, (LOCAL, 0)),
            WebArchive(f"http://{LOCAL}:{nobody.port}"),
        )
    ):
        with pytest.raises(LinkError):
            fetch_study(source, STUDY, tmp_path / str(number))
    with storescp(tmp_path / "scp") as peer, pytest.raises(LinkError, match="no association"):
        fetch_study(ByGet(peer, FETCHER), STUDY, tmp_path / "out")


def test_what_is_asked_for_must_make_sense(tmp_path: Path) -> None:
    source = ByGet(Peer(LOCAL, 1, "X"), FETCHER)
    for uid in ("", "1.2/../3", "1.02", "*", "1" * 65):
        with pytest.raises(InputError, match="not a Study Instance UID"):
            fetch_study(source, uid, tmp_path / "out")
    (tmp_path / "there").write_text("x")
    with pytest.raises(InputError, match="holds something"):
        fetch_study(source, STUDY, tmp_path)


def test_contexts_of_one_syntax_each_as_far_as_there_is_room() -> None:
    one = proposals((SECONDARY,))
    assert [syntaxes for _, syntaxes in one] == [(syntax,) for syntax in SYNTAXES]
    for count in (5, 9, 10, 40, 127, 300):
        made = proposals(tuple(f"1.2.{n}" for n in range(count)))
        assert len(made) <= 127
        assert {uid for uid, _ in made} == {f"1.2.{n}" for n in range(min(count, 127))}
        for uid in {uid for uid, _ in made}:  # every syntax of every class, in one context or another
            assert {s for each, syntaxes in made if each == uid for s in syntaxes} == set(SYNTAXES)


# --- where objects land


def _incoming(file: bytes, instance: str = f"{STUDY}.1") -> Incoming:
    syntax, data = unframed(file)
    return Incoming(SECONDARY, instance, "ORTHANC", "peer", syntax, bytes(data))


def test_objects_of_another_study_or_under_another_name_do_not_land(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "out", STUDY)
    assert landing.store(_incoming(picture(study="2.25.88002"), "2.25.88002.1")).status == 0xA900
    assert landing.store(_incoming(picture(), "2.25.5")).status == 0xA900
    assert landing.store(_incoming(picture(), "../../x")).status == 0xA900
    assert landing.store(replace(_incoming(picture()), data=b"\xff" * 64)).status == 0xA900
    with pytest.raises(LinkError, match="4 objects were not taken: an object of another study"):
        landing.refuse_troubles()
    assert landing.store(_incoming(picture())).status == 0
    assert [path.name for path in landing.files()] == [f"{STUDY}.1.dcm"]


def test_a_full_disk_is_told_and_nothing_half_is_left(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "out", STUDY)
    (tmp_path / "out" / "arriving.part").mkdir()  # nothing can be written there
    assert landing.store(_incoming(picture())).status == 0xA700
    with pytest.raises(LinkError, match="cannot be written"):
        landing.refuse_troubles()
    assert landing.files() == ()


# --- multipart


def _pieces(body: bytes, size: int) -> Callable[[], bytes]:
    rest = [body[at : at + size] for at in range(0, len(body), size)]
    return lambda: rest.pop(0) if rest else b""


def _multipart(
    bodies: list[bytes], boundary: str = "bound", preamble: bytes = b"", end: bytes = b"--"
) -> bytes:
    made = preamble
    for body in bodies:
        made += b"\r\n--" + boundary.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + body
    return made + b"\r\n--" + boundary.encode() + end


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n--", b"--boun", b"\r\n", b"\r\n--boun\r\n"]),
        max_size=4,
    ),
    st.integers(1, 50),
    st.booleans(),
)
def test_parts_come_out_as_they_went_in_however_they_are_cut(
    bodies: list[bytes], size: int, bare: bool
) -> None:
    bodies = [body for body in bodies if b"\r\n--bound" not in body]
    whole = _multipart(bodies, preamble=b"" if bare else b"a word before")
    whole = whole[2:] if bare and bodies else whole
    found = [
        (headers["content-type"], b"".join(body))
        for headers, body in parts(_pieces(whole, size), "bound", 200)
    ]
    assert found == [("application/dicom", body) for body in bodies]


@given(st.binary(max_size=200), st.integers(1, 40), st.integers(0, 60))
def test_hostile_multipart_is_only_ever_our_error(noise: bytes, size: int, at: int) -> None:
    whole = bytearray(_multipart([b"one", b"two"]))
    whole[at : at + len(noise) // 2] = noise
    with suppress(DecodeError):
        _all(_pieces(bytes(whole), size), 64)


def _all(read: Callable[[], bytes], most: int) -> list[bytes]:
    return [b"".join(body) for _, body in parts(read, "bound", most)]


def test_multipart_that_breaks_off_or_has_endless_headers_is_refused() -> None:
    for whole in (
        _multipart([b"body"])[:-4],
        _multipart([b"body"], end=b""),
        b"",
        _multipart([b""], end=b"x\r\n"),
    ):
        with pytest.raises(DecodeError):
            _all(_pieces(whole, 7), 100)
    endless: Callable[[], bytes] = lambda: b"x" * 64  # noqa: E731
    with pytest.raises(DecodeError, match="bytes of headers"):
        list(parts(endless, "bound", 1000))
    for header in ("", "text/html", "multipart/related", 'multipart/related; boundary="a\\"é"'):
        with pytest.raises(DecodeError):
            boundary_of(header)
    assert boundary_of('Multipart/Related; type="application/dicom"; boundary="a b"') == "a b"


# --- services that do not behave


class _Service:
    """Answers by the path's last word: (status, headers, body)."""

    def __init__(
        self, instances: tuple[int, dict[str, str], bytes], study: tuple[int, dict[str, str], bytes]
    ) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, headers, body = instances if "/instances" in self.path else study
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((LOCAL, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{LOCAL}:{self._server.server_address[1]}/web"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> _Service:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _list(*uids: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=bound'}
ONE, TWO = picture(), picture(number=2)
NAMES = (f"{STUDY}.1", f"{STUDY}.2")


@pytest.mark.parametrize(
    ("instances", "study", "why"),
    [
        (_list(*NAMES), (200, RELATED, _multipart([ONE])), "1 of 2 objects came"),
        (_list(NAMES[0]), (200, RELATED, _multipart([ONE, TWO])), "more objects than were listed"),
        (_list(*NAMES), (200, RELATED, _multipart([ONE, TWO])[:-300]), "ends before its last boundary"),
        (
            _list(*NAMES),
            (200, {**RELATED, "Content-Length": "999999"}, _multipart([ONE])[:-9]),
            "cannot be read",
        ),
        (_list(*NAMES), (200, RELATED, _multipart([ONE, picture(study="2.25.5")])), "another study"),
        (_list(*NAMES), (200, RELATED, _multipart([b"no file"])), "no file meta information"),
        (_list(*NAMES), (200, {"Content-Type": "text/html"}, b"<html>"), "not multipart/related"),
        (_list(*NAMES), (302, {"Location": "http://elsewhere/"}, b""), "redirect"),
        (_list(*NAMES), (500, {}, b""), "status 500"),
        ((401, {}, b""), (200, {}, b""), "refused"),
        ((200, {}, b"<html>"), (200, {}, b""), "no JSON"),
        ((200, {}, b"[" * 100_000), (200, {}, b""), "no JSON"),
        ((200, {}, b'[{"00080018": {"Value": ["../x"]}}]'), (200, {}, b""), "without SOP Instance UIDs"),
        ((200, {}, b'[{"00080018": []}, 7]'), (200, {}, b""), "without SOP Instance UIDs"),
        ((200, {}, b" " * 5000), (200, {}, b""), "a list of more than"),
    ],
)
def test_a_web_service_that_does_not_behave_is_our_error(
    tmp_path: Path,
    instances: tuple[int, dict[str, str], bytes],
    study: tuple[int, dict[str, str], bytes],
    why: str,
) -> None:
    bounds = replace(FETCH_BOUNDS, list_bytes=4000 if "more than" in why and "list" in why else 1 << 20)
    with _Service(instances, study) as service, pytest.raises(LinkError, match=why):
        fetch_study(WebArchive(service.url), STUDY, tmp_path / "out", bounds=bounds)


def test_a_well_behaved_service_gets_credentials_and_an_empty_list_is_no_study(tmp_path: Path) -> None:
    with _Service(_list(*NAMES), (200, RELATED, _multipart([ONE, TWO]))) as service:
        archive_ = WebArchive(f"{service.url}/", {"Authorization": "Bearer x"})
        found = fetch_study(archive_, STUDY, tmp_path / "out")
        assert [path.read_bytes() for path in found] == [ONE, TWO]
        assert service.asked[1] == f"/web/studies/{STUDY}"
    for status, body in ((204, b""), (200, b"[]"), (404, b"")):
        with _Service((status, {}, body), (200, {}, b"")) as service, pytest.raises(InputError):
            fetch_study(WebArchive(service.url), STUDY, tmp_path / f"{status}")


@pytest.mark.parametrize(
    "archive_",
    [
        WebArchive("ftp://host/x"),
        WebArchive("https://"),
        WebArchive("https://user:secret@host/x"),
        WebArchive("https://host:99999/x"),
        WebArchive("https://host/a b"),
        WebArchive("http://pacs.example.org/x", {"Authorization": "Bearer x"}),
        WebArchive("https://host/x", {"Authorization": "a\r\nHost: b"}),
    ],
)
def test_bases_that_are_none_are_refused_before_anything_is_asked(
    tmp_path: Path, archive_: WebArchive
) -> None:
    with pytest.raises(SettingsError) as refused:
        fetch_study(archive_, STUDY, tmp_path / "out")
    assert "secret" not in str(refused.value)
