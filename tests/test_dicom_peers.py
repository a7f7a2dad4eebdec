"""The DICOM link against DCMTK: protocols through the guard to a scanner, real dose reports, a worklist."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from _dicom import (
    LOCAL,
    Records,
    book_in,
    brisk,
    file_of,
    free_port,
    head,
    program,
    settings,
    storescp,
    storescu,
    worklist_server,
)
from scanward.codecs.defined_protocol import decode_defined_protocol, read_dataset
from scanward.commands import Source
from scanward.errors import LinkError, SettingsError
from scanward.guard.dicom_service import DicomService
from scanward.links.dicom import Decision, Holding
from scanward.links.dicom_worklist import Worklist
from scanward.transport.dicom import Caller, Peer

pytest.importorskip("pynetdicom", reason="the extra scanward[dicom] is not installed")


def _sent(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_an_approved_protocol_reaches_the_scanner_and_only_then_is_there_success(tmp_path: Path) -> None:
    approved = head()
    book = book_in(tmp_path / "book", approved)
    with storescp(tmp_path / "scanner") as scanner:
        records = Records()
        with DicomService(settings(tmp_path, scanner=scanner, book=book), records) as service:
            done = storescu(service.port, _sent(tmp_path, "a.dcm", file_of(approved)))
            looser = storescu(service.port, _sent(tmp_path, "b.dcm", file_of(head(ctdivol=480))))
        arrived = list((tmp_path / "scanner").iterdir())
    assert done.returncode == 0, done.stderr
    assert "Success" in done.stderr
    assert "0x124" in looser.stderr
    assert len(arrived) == 1
    received = decode_defined_protocol(read_dataset(arrived[0].read_bytes()))
    assert received == approved
    assert [r["status"] for r in records.of("dicom-forwarded")] == [0]
    # The record of the release is written before anything goes out.
    kinds = [
        kind for kind, _ in records.kept if kind in ("dicom-release", "dicom-forwarded", "dicom-refused")
    ]
    assert kinds == ["dicom-release", "dicom-forwarded", "dicom-refused"]
    refused = records.of("dicom-refused")[0]
    assert refused["layer"] == "protocol_book"
    assert refused["fields"] == ["CTDIvol"]


def test_a_held_protocol_goes_out_when_the_operator_says_so_and_not_before(tmp_path: Path) -> None:
    book = book_in(tmp_path / "book", head())
    unknown = head(name="CT Head New")
    path = _sent(tmp_path, "new.dcm", file_of(unknown))
    with storescp(tmp_path / "scanner") as scanner:
        holding, records = Holding(), Records()
        service = DicomService(settings(tmp_path, scanner=scanner, book=book), records, holding=holding)
        with service:
            answers: list[subprocess.CompletedProcess[str]] = []
            sender = threading.Thread(target=lambda: answers.append(storescu(service.port, path)))
            sender.start()
            until = time.monotonic() + 20
            while not holding.held() and time.monotonic() < until:
                time.sleep(0.02)
            held = holding.held()
            assert [h.judged.name for h in held] == ["CT Head New"]
            assert not list((tmp_path / "scanner").iterdir())
            assert not answers
            assert holding.say(held[0].id, Decision(True, "physicist", "reviewed on paper"))
            sender.join(30)
        assert answers[0].returncode == 0, answers[0].stderr
        assert len(list((tmp_path / "scanner").iterdir())) == 1
    assert records.of("dicom-release")[0]["operator"] == "physicist"
    assert len(records.of("dicom-held")) == 1


def test_nobody_decides_in_time_is_a_refusal(tmp_path: Path) -> None:
    book = book_in(tmp_path / "book", head())
    path = _sent(tmp_path, "new.dcm", file_of(head(name="CT Head New")))
    with storescp(tmp_path / "scanner") as scanner:
        made = settings(tmp_path, scanner=scanner, book=book)
        with DicomService(made, Records(), holding=Holding(), bounds=brisk(hold_seconds=0.5)) as service:
            done = storescu(service.port, path)
        assert "0x124" in done.stderr
        assert not list((tmp_path / "scanner").iterdir())


def test_a_sender_that_gave_up_is_not_released_afterwards(tmp_path: Path) -> None:
    book = book_in(tmp_path / "book", head())
    path = _sent(tmp_path, "new.dcm", file_of(head(name="CT Head New")))
    with storescp(tmp_path / "scanner") as scanner:
        holding, records = Holding(), Records()
        with DicomService(
            settings(tmp_path, scanner=scanner, book=book), records, holding=holding
        ) as service:
            command = [program("storescu"), "-R", "-aet", "SENDER", "-aec", "GUARD", LOCAL, str(service.port)]
            sender = subprocess.Popen([*command, str(path)], stderr=subprocess.DEVNULL)
            until = time.monotonic() + 20
            while not holding.held() and time.monotonic() < until:
                time.sleep(0.02)
            number = holding.held()[0].id
            sender.kill()
            sender.wait()
            until = time.monotonic() + 20
            while holding.held() and time.monotonic() < until:
                time.sleep(0.02)
            assert not holding.say(number, Decision(True, "late", "too late"))
        assert not list((tmp_path / "scanner").iterdir())
    assert records.of("dicom-release") == []
    assert len(records.of("dicom-refused")) == 1


def test_a_scanner_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    book = book_in(tmp_path / "book", head())
    scanner = Peer(LOCAL, free_port(), "SCANNER")
    records = Records()
    with DicomService(settings(tmp_path, scanner=scanner, book=book), records) as service:
        done = storescu(service.port, _sent(tmp_path, "a.dcm", file_of(head())))
    assert "0xa700" in done.stderr.lower() or "OutOfResources" in done.stderr, done.stderr
    assert records.of("dicom-forwarded") == []


def test_a_scanner_s_own_refusal_is_passed_on(tmp_path: Path) -> None:
    """A second guard in front of the first: its refusal, status and comment, comes back through both."""
    book = book_in(tmp_path / "book", head())
    empty = tmp_path / "empty"
    book_in(empty, head(name="Another"))
    path = _sent(tmp_path, "a.dcm", file_of(head()))
    with storescp(tmp_path / "scanner") as scanner:
        inner = settings(tmp_path, scanner=scanner, book=empty, callers=frozenset({"GUARD"}))
        with DicomService(inner, Records()) as second:
            made = settings(tmp_path, scanner=Peer(LOCAL, second.port, "GUARD"), book=book)
            records = Records()
            with DicomService(made, records) as first:
                done = storescu(first.port, path)
        assert not list((tmp_path / "scanner").iterdir())
    assert "0x124" in done.stderr
    assert records.of("dicom-forwarded")[0]["status"] == 0x0124
    comment = str(records.of("dicom-forwarded")[0]["comment"])
    assert comment.startswith("no operator can release it")
    assert len(comment) <= 64


@pytest.mark.parametrize(("title", "called"), [("STRANGER", "GUARD"), ("SENDER", "OTHER")])
def test_unknown_titles_get_no_association(tmp_path: Path, title: str, called: str) -> None:
    made = settings(tmp_path, scanner=Peer(LOCAL, 1, "SCANNER"), book=book_in(tmp_path / "book", head()))
    path = _sent(tmp_path, "a.dcm", file_of(head()))
    records = Records()
    with DicomService(made, records) as service:
        done = storescu(service.port, path, title=title, called=called)
    assert done.returncode != 0
    assert "Rejected" in done.stderr
    assert records.of("dicom-association-ended")[0]["reason"] == "association rejected"


def test_whoever_may_send_reports_may_not_send_protocols(tmp_path: Path) -> None:
    book = book_in(tmp_path / "book", head())
    path = _sent(tmp_path, "a.dcm", file_of(head()))
    with storescp(tmp_path / "scanner") as scanner:
        made = settings(
            tmp_path, scanner=scanner, book=book, reports=tmp_path / "r", reporters=frozenset({"CT1"})
        )
        records = Records()
        with DicomService(made, records) as service:
            assert "0x124" in storescu(service.port, path, title="CT1").stderr
            assert storescu(service.port, path, title="SENDER").returncode == 0
        assert len(list((tmp_path / "scanner").iterdir())) == 1
    assert records.of("dicom-refused")[0]["why"] == "not for this caller"


def test_an_echo_is_answered(tmp_path: Path) -> None:
    made = settings(tmp_path, reports=tmp_path / "received")
    with DicomService(made, Records()) as service:
        command = [program("echoscu"), "-aet", "SENDER", "-aec", "GUARD", LOCAL, str(service.port)]
        assert subprocess.run(command, timeout=60, check=False).returncode == 0
        Caller("SENDER").echo(Peer(LOCAL, service.port, "GUARD"))
        with pytest.raises(LinkError, match="no association"):
            Caller("STRANGER").echo(Peer(LOCAL, service.port, "GUARD"))


def test_real_dose_reports_go_into_quarantine(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "ct" / "openrem_ct_sr" / "dicom"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        pytest.skip(f"no dose reports in {folder}")
    records, fed = Records(), []
    made = settings(tmp_path, reports=tmp_path / "received")
    with DicomService(made, records, feed=fed.append) as service:
        done = storescu(service.port, *files, options=("-R", "--no-halt"))
    kept = sorted((tmp_path / "received" / "quarantine").glob("*.dcm"))
    refused = records.of("dicom-report-refused")
    assert len(kept) >= 10, done.stderr[-2000:]
    # Whatever is kept is a report that decodes, byte for byte as a reader wants it, under a hashed name.
    assert len(records.of("dicom-report")) + len(refused) <= len(files)
    for path in kept:
        again = dcmread(path)
        assert str(again.SOPInstanceUID) not in path.name
        assert path.stat().st_mode & 0o077 == 0
    doses = [dose for doses in fed for dose in doses]
    assert len(doses) > 10
    assert all(dose.ctdivol >= 0 and dose.dlp >= 0 for dose in doses)


_ENTRY = """\
(0008,0050) SH [ACC{n}]
(0010,0010) PN [Doe^Jane]
(0010,0020) LO [{patient}]
(0010,0030) DA [20190610]
(0010,0040) CS [F]
(0010,1020) DS [1.12]
(0010,1030) DS [19.5]
(0020,000d) UI [1.2.3.{n}]
(0032,1060) LO [{requested}]
(0040,0100) SQ
(fffe,e000) na
(0008,0060) CS [CT]
(0040,0001) AE [CT1]
(0040,0002) DA [20260622]
(0040,0003) TM [100000]
(0040,0009) SH [S{n}]
(fffe,e00d) na
(fffe,e0dd) na
(0040,1001) SH [R{n}]
"""


def test_the_worklist_tells_the_context(tmp_path: Path) -> None:
    entries = [
        _ENTRY.format(n=1, patient="P1", requested="CT HEAD"),
        _ENTRY.format(n=2, patient="P1", requested="CT ABDOMEN"),
        _ENTRY.format(n=3, patient="P2", requested="CT HEAD"),
    ]
    with worklist_server(tmp_path / "wl", *entries) as peer:
        worklist = Worklist(Caller("GUARD"), peer)
        one = worklist.ask(accession="ACC1", patient="P1")
        both = worklist.ask(patient="P1")
        nobody = worklist.ask(patient="P9")
        with pytest.raises(SettingsError):
            worklist.ask(patient="P*")
    told = {name: t[0].value for name, t in one.parts.items()}
    assert told == {
        "PatientAge": 7.0,
        "PatientSex": "F",
        "PatientSize": 1.12,
        "PatientWeight": 19.5,
        "RequestedProcedureDescription": "CT HEAD",
    }
    assert {t[0].source for t in one.parts.values()} == {Source.WORKLIST}
    assert both.matches == 2
    assert "RequestedProcedureDescription" not in both.parts
    assert both.parts["PatientAge"][0].value == 7.0
    assert nobody.parts == {}
    assert nobody.reason
    # A worklist that is down gives nothing and a reason: the layers abstain.
    gone = worklist.ask(patient="P1")
    assert gone.parts == {}
    assert "no association" in gone.reason


def test_findscu_and_our_query_agree(tmp_path: Path) -> None:
    with worklist_server(tmp_path / "wl", _ENTRY.format(n=1, patient="P1", requested="CT HEAD")) as peer:
        command = [program("findscu"), "-W", "-aec", peer.title, LOCAL, str(peer.port)]
        done = subprocess.run(
            [*command, "-k", "0010,0020=P1", "-k", "0010,0040"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ours = Worklist(Caller("GUARD"), peer).ask(patient="P1")
    assert "[F" in done.stderr + done.stdout
    assert ours.parts["PatientSex"][0].value == "F"


def test_an_answer_without_bounds_is_no_answer(tmp_path: Path) -> None:
    entries = [_ENTRY.format(n=n, patient="P1", requested="CT HEAD") for n in range(1, 8)]
    with worklist_server(tmp_path / "wl", *entries) as peer:
        answer = Worklist(Caller("GUARD", bounds=brisk(matches=5)), peer).ask(patient="P1")
    assert answer.parts == {}
    assert "more than 5 matches" in answer.reason
