"""The node between a sender and an archive, with plain stand-ins for signing and verifying."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    NAME,
    RLE,
    SECONDARY,
    STUDY,
    picture,
    sent,
    storescp,
)
from _dicom import LOCAL, free_port, program, running, storescu
from scanward.config import NODE_BOUNDS
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.signatures.node import Node
from scanward.signatures.node_fresh import Fresh
from scanward.signatures.node_quarantine import Quarantine
from scanward.signatures.node_settings import NodeSettings, OnDoubt, address_of, peer_of, tls_of
from scanward.signatures.node_work import Work, signing, verifying
from scanward.transport.dicom import Incoming, Peer, Reply
from scanward.transport.dicom_names import names_of
from scanward.transport.dicom_part10 import framed, unframed
from scanward.transport.dicom_raw import RawAssociation

NOWHERE = Peer(LOCAL, 1, "PACS")
ALL = (EXPLICIT, IMPLICIT, BIG, RLE, JPEG2000, DEFLATED, "2.25.4711")  # the last: a syntax nobody knows


@dataclass
class Said:
    """A report of a stand-in."""

    genuineness: str

    def as_json(self) -> Mapping[str, Any]:
        """As the verifier's own."""
        return {"genuineness": self.genuineness}


def _verify(file: bytes) -> Said:
    """Genuine unless the picture's last bytes were touched."""
    return Said("altered" if bytes(file).endswith(b"\xff\xff") else "genuine")


def altered(file: bytes) -> bytes:
    """The same with its last two bytes changed."""
    return file[:-2] + b"\xff\xff"


@dataclass
class Events:
    """Everything that a node told."""

    kept: list[tuple[str, dict[str, object]]]

    def __call__(self, kind: str, facts: Mapping[str, object]) -> None:
        json.dumps(facts)
        self.kept.append((kind, dict(facts)))

    def of(self, kind: str) -> list[dict[str, object]]:
        """Facts of one kind."""
        return [facts for each, facts in self.kept if each == kind]


def settings(onward: Peer = NOWHERE, **more: Any) -> NodeSettings:
    """A node on a free port."""
    callers = frozenset({"SENDER"})
    return NodeSettings(title="NODE", listen=(LOCAL, 0), callers=callers, onward=onward, **more)


def node_of(work: Work, onward: Peer = NOWHERE, **more: Any) -> tuple[Node, Events]:
    """A node and what it tells."""
    events = Events([])
    quarantine = more.pop("quarantine", None)
    return Node(settings(onward, **more), work, quarantine=quarantine, tell=events), events


def here(node: Node) -> Peer:
    """The node as its senders call it."""
    return Peer(LOCAL, node.port, "NODE")


VERIFYING = {each: verifying(_verify, each) for each in OnDoubt}


@pytest.mark.parametrize("syntax", ALL)
def test_every_transfer_syntax_passes_byte_for_byte(tmp_path: Path, syntax: str) -> None:
    file = picture(syntax if syntax != ALL[-1] else EXPLICIT)
    _, data = unframed(file)
    file = framed(
        SECONDARY, f"{STUDY}.1", syntax, bytes(data) + b"\x0b"
    )  # an odd length, as no encoder writes it
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, events = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            answer = sent(here(node), file)
    assert answer.reply == Reply(0)
    assert [(one.syntax, one.data) for one in taken] == [(syntax, bytes(unframed(file)[1]))]
    assert [facts["found"] for facts in events.of("handed on")] == ["genuine"]


class _sink:
    """A next hop of ours that keeps what it gets; ``status`` and ``comment`` are its answer."""

    def __init__(self, taken: list[Incoming], status: int = 0, comment: str = "") -> None:
        from scanward.transport.dicom import Acceptor

        def store(incoming: Incoming) -> Reply:
            taken.append(incoming)
            return Reply(status, comment)

        self._acceptor = Acceptor(
            (LOCAL, 0), "PACS", callers=frozenset({"NODE"}), classes=frozenset(), store=store, everything=True
        )

    def __enter__(self) -> Peer:
        self._acceptor.start()
        return Peer(LOCAL, self._acceptor.port, self._acceptor.title)

    def __exit__(self, *_: object) -> None:
        self._acceptor.close()


def test_dcmtk_sends_through_the_node_to_dcmtk(tmp_path: Path) -> None:
    paths = []
    for number, syntax in enumerate((EXPLICIT, IMPLICIT, EXPLICIT), 1):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(picture(syntax, number))
        paths.append(path)
    node, events = node_of(signing(lambda file: file))
    with storescp(tmp_path / "direct", title="NODE") as direct:
        assert storescu(direct.port, *paths, called="NODE").returncode == 0
    with storescp(tmp_path / "through") as onward:
        node, events = node_of(signing(lambda file: file), onward)
        with node:
            done = storescu(node.port, *paths, called="NODE")
            assert done.returncode == 0, done.stderr
            echo = [program("echoscu"), "-aet", "SENDER", "-aec", "NODE", LOCAL, str(node.port)]
            assert subprocess.run(echo, timeout=60, check=False).returncode == 0
    was = {path.name: unframed(path.read_bytes()) for path in (tmp_path / "direct").iterdir()}
    found = {path.name: unframed(path.read_bytes()) for path in (tmp_path / "through").iterdir()}
    assert found == was
    assert len(found) == 3
    assert len(events.of("handed on")) == 3
    assert node.counts()["signed"] == 3


def test_a_signer_s_bytes_go_on_and_nothing_that_could_not_be_signed(tmp_path: Path) -> None:
    def sign(file: bytes) -> bytes:
        if b"odd" * 2 in file:
            raise InputError("no room for a signature", "file", "")
        return file + b"\xfa\xff\xfa\xff" + bytes(8)

    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, _ = node_of(signing(sign), onward)
        with node:
            assert sent(here(node), picture()).reply == Reply(0)
            refused = sent(here(node), picture(number=2)).reply
    assert refused is not None
    assert refused.status == 0xC000
    assert refused.comment == "cannot be signed: no room for a signature"
    assert [one.data[-12:] for one in taken] == [b"\xfa\xff\xfa\xff" + bytes(8)]
    assert node.counts() == {
        "connections": 2,
        "handed on": 1,
        "not signed": 1,
        "received": 2,
        "refused": 1,
        "signed": 1,
    }


def test_a_signer_that_changes_the_syntax_is_not_believed() -> None:
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, _ = node_of(signing(lambda file: picture(IMPLICIT)), onward)
        with node:
            reply = sent(here(node), picture()).reply
    assert reply is not None
    assert reply.status == 0xC000
    assert taken == []


@pytest.mark.parametrize("on_doubt", list(OnDoubt))
def test_what_is_not_genuine_is_refused_flagged_or_kept(tmp_path: Path, on_doubt: OnDoubt) -> None:
    taken: list[Incoming] = []
    folder = tmp_path / "kept"
    quarantine = Quarantine(folder) if on_doubt is OnDoubt.QUARANTINE else None
    with _sink(taken) as onward:
        node, events = node_of(VERIFYING[on_doubt], onward, quarantine=quarantine)
        with node:
            assert sent(here(node), picture()).reply == Reply(0)
            doubt = sent(here(node), altered(picture(number=2))).reply
            again = sent(here(node), altered(picture(number=2))).reply
    assert doubt == again
    assert doubt is not None
    assert node.counts()["altered"] == 2
    if on_doubt is OnDoubt.FLAG:
        assert doubt.status == 0
        assert [one.data for one in taken[1:]] == [bytes(unframed(altered(picture(number=2)))[1])] * 2
        assert [facts.get("flagged") for facts in events.of("handed on")] == [None, True, True]
        assert node.counts()["flagged"] == 2
        return
    assert doubt == Reply(0x0124, "not genuine: altered")
    assert [one.sop_instance for one in taken] == [f"{STUDY}.1"]
    assert [facts["status"] for facts in events.of("refused")] == ["0x0124"] * 2
    if on_doubt is OnDoubt.QUARANTINE:
        kept = sorted(folder.iterdir())
        assert [path.suffix for path in kept] == [".dcm", ".json"]
        assert unframed(kept[0].read_bytes())[1] == unframed(altered(picture(number=2)))[1]
        told = json.loads(kept[1].read_text())
        assert (told["found"], told["from"]) == ("altered", "SENDER")
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *kept))
        assert node.counts()["quarantined"] == 2


def test_a_genuine_object_under_another_one_s_name_is_no_genuine_object() -> None:
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, _ = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            reply = sent(here(node), picture(), instance=f"{STUDY}.99").reply
        signer, _ = node_of(signing(lambda file: file), onward)
        with signer:
            unsigned = sent(here(signer), picture(), instance=f"{STUDY}.99").reply
    assert reply == Reply(0x0124, "not genuine: misnamed")
    assert unsigned is not None
    assert unsigned.status == 0xA900
    assert taken == []


def test_the_next_hop_s_own_answer_is_the_sender_s(tmp_path: Path) -> None:
    for status in (0xA700, 0xC123, 0x0124, 0xB007):
        taken: list[Incoming] = []
        with _sink(taken, status, "from the next hop") as onward:
            node, events = node_of(VERIFYING[OnDoubt.REFUSE], onward)
            with node:
                reply = sent(here(node), picture()).reply
        assert reply == Reply(status, "from the next hop")
        assert len(taken) == 1
        assert [kind for kind, _ in events.kept if "hand" in kind] == [
            "handed on" if status == 0xB007 else "not handed on"
        ]
        assert "from the next hop" not in str(events.kept)  # it may quote the patient


def test_a_next_hop_that_is_away_or_takes_nothing_like_it_is_a_failure(tmp_path: Path) -> None:
    node, _ = node_of(VERIFYING[OnDoubt.REFUSE], Peer(LOCAL, free_port(), "PACS"))
    with node:
        away = sent(here(node), picture()).reply
    assert away is not None
    assert away.status == 0xA700
    assert away.comment.startswith("next hop: no association")
    assert node.counts()["not handed on"] == 1
    with storescp(tmp_path / "out", "+xi") as onward:  # implicit little endian alone
        node, _ = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            other = sent(here(node), picture(RLE)).reply
            plain = sent(here(node), picture(IMPLICIT)).reply
    assert other is not None
    assert other.status == 0x0122
    assert plain == Reply(0)


def test_a_next_hop_that_comes_back_takes_what_is_sent_again(tmp_path: Path) -> None:
    port = free_port()
    node, _ = node_of(VERIFYING[OnDoubt.REFUSE], Peer(LOCAL, port, "PACS"))
    contexts = ((SECONDARY, EXPLICIT),)
    with node:
        sender = RawAssociation("SENDER", here(node), contexts)
        syntax, data = unframed(picture())
        try:
            first = sender.store(SECONDARY, f"{STUDY}.1", syntax, data).reply
            folder = tmp_path / "out"
            folder.mkdir()
            command = [program("storescp"), "+B", "-aet", "PACS", "-od", str(folder), str(port)]
            with running(command, port):
                second = sender.store(SECONDARY, f"{STUDY}.1", syntax, data).reply
                third = sender.store(SECONDARY, f"{STUDY}.1", syntax, data).reply
        finally:
            sender.close()
    assert first is not None
    assert [first.status, second, third] == [0xA700, Reply(0), Reply(0)]
    assert len(list(folder.iterdir())) == 1


def test_one_association_in_is_one_association_out(tmp_path: Path) -> None:
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, _ = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            sender = RawAssociation("SENDER", here(node), ((SECONDARY, EXPLICIT), (SECONDARY, RLE)))
            try:
                for number in range(1, 6):
                    syntax, data = unframed(picture(RLE if number % 2 else EXPLICIT, number))
                    assert sender.store(SECONDARY, f"{STUDY}.{number}", syntax, data).reply == Reply(0)
            finally:
                sender.close()
            until = time.monotonic() + 10
            while node._sessions and time.monotonic() < until:
                time.sleep(0.01)
            assert not node._sessions
    assert len({one.peer for one in taken}) == 1
    assert [one.sop_instance for one in taken] == [f"{STUDY}.{number}" for number in range(1, 6)]


def test_senders_side_by_side_all_get_their_own_answers() -> None:
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, _ = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            answers: dict[int, Reply | None] = {}

            def one(number: int) -> None:
                file = picture(number=number)
                answers[number] = sent(here(node), altered(file) if number % 3 == 0 else file).reply

            threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 7)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
    assert {number: reply and reply.status for number, reply in answers.items()} == {
        number: 0x0124 if number % 3 == 0 else 0 for number in range(1, 7)
    }
    assert sorted(one.sop_instance for one in taken) == [f"{STUDY}.{n}" for n in (1, 2, 4, 5)]


def test_strangers_and_too_many_get_no_association() -> None:
    node, events = node_of(VERIFYING[OnDoubt.REFUSE])
    with node:
        assert "rejected" in sent(here(node), picture(), title="STRANGER").why
        assert "rejected" in sent(replace(here(node), title="OTHER"), picture()).why
    assert node.counts() == {"connections": 2}
    node, events = node_of(VERIFYING[OnDoubt.REFUSE], bounds=replace(NODE_BOUNDS, associations=1))
    with node:
        first = RawAssociation("SENDER", here(node), ((SECONDARY, EXPLICIT),))
        try:
            syntax, data = unframed(picture())
            assert first.store(SECONDARY, f"{STUDY}.1", syntax, data).reply is not None
            assert sent(here(node), picture()).reply is None
        finally:
            first.close()
    assert len(events.of("refused at door")) == 1


def test_an_object_over_the_bound_ends_the_association() -> None:
    node, events = node_of(VERIFYING[OnDoubt.REFUSE], bounds=replace(NODE_BOUNDS, object_bytes=100_000))
    with node:
        big = sent(here(node), picture(side=1024))
        assert big.reply is None
        middling = framed(SECONDARY, f"{STUDY}.1", EXPLICIT, bytes(unframed(picture())[1]) + bytes(200_000))
        reply = sent(here(node), middling).reply
    assert reply is not None
    assert reply.status == 0xA700
    assert "too many bytes" in {facts["reason"] for facts in events.of("association ended")}


def test_an_object_in_work_ends_before_the_node_does() -> None:
    began, go = threading.Event(), threading.Event()

    def slow(file: bytes) -> bytes:
        began.set()
        assert go.wait(30)
        return file

    taken: list[Incoming] = []
    answers: list[Reply | None] = []
    with _sink(taken) as onward:
        node, _ = node_of(signing(slow), onward)
        node.start()
        sender = threading.Thread(target=lambda: answers.append(sent(here(node), picture()).reply))
        sender.start()
        assert began.wait(30)
        closing = threading.Thread(target=node.close)
        closing.start()
        time.sleep(0.1)
        assert closing.is_alive()
        go.set()
        closing.join(60)
        sender.join(60)
    assert answers == [Reply(0)]
    assert len(taken) == 1


def test_a_sender_that_went_away_is_not_handed_on_for() -> None:
    began, go = threading.Event(), threading.Event()

    def slow(file: bytes) -> bytes:
        began.set()
        assert go.wait(30)
        return file

    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, events = node_of(signing(slow), onward)
        with node:
            sender = RawAssociation("SENDER", here(node), ((SECONDARY, EXPLICIT),))
            syntax, data = unframed(picture())
            thread = threading.Thread(target=lambda: sender.store(SECONDARY, f"{STUDY}.1", syntax, data))
            thread.start()
            assert began.wait(30)
            for front in sender._fronts:
                front.close()
            until = time.monotonic() + 20
            while not events.of("association ended") and time.monotonic() < until:
                time.sleep(0.01)
            go.set()
            thread.join(30)
            sender.close()
    assert taken == []
    assert len(events.of("abandoned")) == 1
    assert not node._sessions


def test_nothing_told_names_the_patient(tmp_path: Path) -> None:
    taken: list[Incoming] = []
    with _sink(taken) as onward:
        node, events = node_of(VERIFYING[OnDoubt.REFUSE], onward)
        with node:
            for file in (picture(), altered(picture(number=2)), picture(number=3)[:-2000]):
                sent(here(node), file)
    told = json.dumps([events.kept, node.counts()])
    assert f"{STUDY}.1" in told
    for secret in (NAME, "ROSSI", "R-1", "19600101", "A-1"):
        assert secret not in told


# --- small parts


def test_files_are_read_again_when_they_change_and_trusted_no_longer_when_they_break(tmp_path: Path) -> None:
    path = tmp_path / "crl.pem"
    path.write_text("one")
    loads: list[str] = []

    def load() -> str:
        loads.append(path.read_text())
        if loads[-1] == "broken":
            raise InputError("no revocation list", str(path), "")
        return loads[-1]

    fresh = Fresh([path], load)
    assert (fresh(), fresh()) == ("one", "one")
    assert loads == ["one"]
    path.write_text("another")
    assert fresh() == "another"
    path.write_text("broken")
    for _ in range(2):
        with pytest.raises(InputError, match="no revocation list"):
            fresh()
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        fresh()
    path.write_text("whole")
    assert fresh() == "whole"
    with pytest.raises(InputError):
        Fresh([tmp_path / "absent"], load)


def test_what_cannot_be_verified_now_is_a_doubt_and_no_fault_of_the_object() -> None:
    def verify(file: bytes) -> Said:
        raise InputError("no revocation list", "crl.pem", "")

    def malformed(file: bytes) -> Said:
        raise DecodeError("no data set", "file", "")

    syntax, data = unframed(picture())
    one = Incoming(SECONDARY, f"{STUDY}.1", "SENDER", "peer", syntax, bytes(data))
    assert verifying(verify, OnDoubt.REFUSE)(one).reply == Reply(0x0124, "not genuine: not verified")
    assert verifying(malformed, OnDoubt.REFUSE)(one).reply == Reply(0x0124, "not genuine: malformed")
    flagged = verifying(verify, OnDoubt.FLAG)(one)
    assert (flagged.flagged, flagged.word, flagged.onward) == (True, "not verified", data)


@pytest.mark.parametrize("as_json", [True, False])
def test_an_event_is_one_line_and_a_lost_reader_ends_the_node(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanward.cli import node as command

    ended = threading.Event()
    tell = command._teller(as_json, ended)
    tell("refused", {"found": "altered\n\x1b[31m", "kept": None, "counts": {"received": 2}})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    if as_json:
        assert json.loads(out)["counts"] == {"received": 2}
    else:
        assert "refused" in out
        assert "received=2" in out

    def broken(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(command.click, "echo", broken)
    thread = threading.Thread(target=lambda: tell("refused", {}))
    thread.start()
    thread.join(30)
    assert ended.is_set()
    with pytest.raises(BrokenPipeError):
        tell("stopped", {})


def test_a_quarantine_is_bounded_private_and_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "q"
    file = picture()
    quarantine = Quarantine(folder, most=len(file) + 100)
    name = quarantine.keep(file, {"found": "altered"})
    assert name
    assert quarantine.keep(file, {}) == name
    assert quarantine.keep(altered(file), {}) == ""
    (folder / "torn.part").write_bytes(b"half")
    again = Quarantine(folder, most=len(file) + 100)
    assert again.keep(altered(file), {}) == ""
    assert not (folder / "torn.part").exists()
    folder.chmod(0o777)
    with pytest.raises(InputError, match="others may write"):
        Quarantine(folder)
    folder.chmod(0o700)
    with pytest.raises(InputError, match="no folder"):
        Quarantine(tmp_path / "q" / f"{name}.dcm" / "x")


@given(st.binary(max_size=400))
def test_hostile_files_and_data_sets_are_only_ever_our_error(noise: bytes) -> None:
    for attempt in (noise, bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + noise):
        try:
            syntax, data = unframed(attempt)
        except DecodeError:
            continue
        assert len(data) <= len(attempt)
        assert syntax
    for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED, "2.25.1"):
        try:
            names = names_of(syntax, noise, 4096)
        except DecodeError:
            continue
        assert all(names.values())


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_a_damaged_header_never_yields_another_data_set_unnoticed(at: int, noise: bytes) -> None:
    file = picture()
    damaged = file[:at] + noise + file[at + len(noise) :]
    try:
        _, data = unframed(damaged)
    except DecodeError:
        return
    assert bytes(data) in damaged
    assert damaged.endswith(bytes(data))


def test_a_data_set_with_two_names_has_none() -> None:
    _, data = unframed(picture())
    one = bytes(data[: bytes(data).index(b"\x08\x00\x18\x00")])
    name = b"\x08\x00\x18\x00UI\x0c\x002.25.77001.1"
    rest = bytes(data[len(one) + len(name) :])
    assert one + name + rest == bytes(data)
    assert names_of(EXPLICIT, one + name + rest, 4096)
    for hostile in (
        one + name + name + rest,
        name + one + rest,
        one + name.replace(b"1.1", b"1.2") + name + rest,
    ):
        with pytest.raises(DecodeError, match=r"twice or out of order|no SOP"):
            names_of(EXPLICIT, hostile, 4096)


def test_a_deflated_bomb_is_inflated_no_further_than_its_names() -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(50_000_000)) + packer.flush()
    with pytest.raises(DecodeError):
        names_of(DEFLATED, bomb, NODE_BOUNDS.names_bytes)


def test_framing_and_unframing_are_inverse_for_every_length() -> None:
    import io

    from pydicom import dcmread

    for length in range(5):
        file = framed("1.2.3", "1.2.34", EXPLICIT, b"x" * length, "SENDER")
        assert unframed(file) == (EXPLICIT, memoryview(b"x" * length))
    meta = dcmread(
        io.BytesIO(framed("1.2.3", "1.2.34", EXPLICIT, unframed(picture())[1], "SENDER"))
    ).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == ("1.2.3", "1.2.34")
    assert meta.SourceApplicationEntityTitle == "SENDER"
    for bad in ("", "1.02", "x", "1" * 65, "3.4"):
        with pytest.raises(DecodeError):
            framed(bad, "1.2", EXPLICIT, b"")


def test_addresses_and_entities() -> None:
    assert address_of("0.0.0.0:104", "--listen") == ("0.0.0.0", 104)
    assert address_of(":104", "--listen") == (LOCAL, 104)
    assert address_of("[::1]:104", "--listen") == ("::1", 104)
    assert peer_of("PACS@10.1.2.3:104", "--next") == Peer("10.1.2.3", 104, "PACS")
    for bad in ("", "host", "host:", "host:x", "host:65536", "host:-1", "host:١"):
        with pytest.raises(SettingsError):
            address_of(bad, "--listen")
    for bad in ("10.1.2.3:104", "@h:1", "PACS@h", "PACS@h:0", "A" * 17 + "@h:1", "A\\B@h:1"):
        with pytest.raises(SettingsError):
            peer_of(bad, "--next")
    assert settings(Peer("127.0.0.1", 1, "X")).plain is False
    assert settings(Peer("10.0.0.1", 1, "X")).plain is True
    with pytest.raises(SettingsError, match="TLS files"):
        tls_of(Path("no.pem"), Path("no.key"), Path("no.ca"))
    with pytest.raises(SettingsError):
        Node(settings(bounds=replace(NODE_BOUNDS, associations=0)), VERIFYING[OnDoubt.REFUSE])
