"""Dose reports: kept unreviewed under hashed names, fed as delivered dose, and never trained on as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from _dicom import Records, brisk
from dicom_builders.dose_reports import coded, event, num, report, to_bytes
from scanward.cli.main import cli
from scanward.codecs.dicom_files import open_dicom
from scanward.codecs.rdsr_draft import Decoded, DoseReport
from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Command, Mode
from scanward.errors import AuditError, InputError
from scanward.links.dicom_delivered import Delivered, delivered, to_raise, totals
from scanward.links.dicom_objects import as_file
from scanward.links.dicom_reports import ReportReceiver
from scanward.recordings.pseudonyms import Pseudonyms
from scanward.recordings.quarantine import MARKER, open_quarantine, refuse_unreviewed
from scanward.transport.dicom import Incoming

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"


def incoming(file: bytes, **changes: Any) -> Incoming:
    """A file's data set as it comes over the network, without its file meta information."""
    dataset = open_dicom(file, name="test")
    length = int.from_bytes(file[140:144], "little")
    made = Incoming(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        "CT1",
        "10.0.0.9:5",
        str(dataset.file_meta.TransferSyntaxUID),
        file[144 + length :],
    )
    return replace(made, **changes)


def report_bytes(**header: Any) -> bytes:
    """A dose report of two events."""
    return to_bytes(report(event(uid_value="1.2.3.1"), event(uid_value="1.2.3.2"), **header))


class Bench:
    """A receiver with its quarantine, records and feed."""

    def __init__(self, folder: Path, **bounds: Any) -> None:
        self.records, self.fed = Records(), list[tuple[Delivered, ...]]()
        self.folder = folder
        quarantine = open_quarantine(folder, brisk(**bounds))
        pseudonym = Pseudonyms(b"k" * 32).of
        self.receive = ReportReceiver(quarantine, pseudonym, self.records, self.fed.append, brisk(**bounds))

    @property
    def kept(self) -> list[Path]:
        return sorted((self.folder / "quarantine").glob("*.dcm"))


def test_a_report_is_kept_recorded_and_fed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "received")
    data = report_bytes()
    assert bench.receive(incoming(data)).status == 0
    assert bench.receive(incoming(data)).status == 0  # sent again: the same, kept once
    assert len(bench.kept) == 1
    kept = open_dicom(bench.kept[0], name="kept")
    assert kept == open_dicom(data, name="sent")
    assert [r["new"] for r in bench.records.of("dicom-report")] == [True, False]
    assert [(d.ctdivol, d.dlp, d.phantom) for d in bench.fed[0]] == [(8.0, 240.0, 32)] * 2
    shown = json.dumps(bench.records.kept) + " ".join(path.name for path in bench.kept)
    for secret in ("Doe", "P-0815", "S-4711", "1.2.3", str(kept.SOPInstanceUID)):
        assert secret not in shown.replace("10.0.0.9", "")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, 0xA900),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.88.22"}, 0xA900),
        ({"sop_instance": "1.2.99"}, 0xA900),
        ({"sop_instance": "x"}, 0xC000),
        ({"data": b""}, 0xA900),
        ({"data": b"\xff" * 1000}, 0xC000),
        ({"data": bytes(9 << 20)}, 0xA700),
    ],
)
def test_what_is_no_report_is_refused_and_not_kept(
    tmp_path: Path, changes: dict[str, Any], status: int
) -> None:
    bench = Bench(tmp_path / "received")
    assert bench.receive(incoming(report_bytes(), **changes)).status == status
    assert bench.kept == []
    assert bench.fed == []
    assert len(bench.records.of("dicom-report-refused")) == 1


def test_a_secondary_capture_without_doses_is_no_report(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "received")
    data = to_bytes(report(sop_class="1.2.840.10008.5.1.4.1.1.7"))
    assert bench.receive(incoming(data)).status == 0xA900
    assert bench.kept == []


def test_another_content_under_a_known_uid_and_a_full_quarantine_are_refused(tmp_path: Path) -> None:
    data = report_bytes()
    bench = Bench(tmp_path / "received", quarantine_bytes=3 * len(data) // 2)
    assert bench.receive(incoming(data)).status == 0
    assert bench.receive(incoming(report_bytes(PatientName="Other^Person"))).status == 0xA700
    assert bench.receive(incoming(report_bytes(SOPInstanceUID="1.2.3.4"))).status == 0xA700
    assert len(bench.kept) == 1


def test_a_report_that_cannot_be_recorded_is_no_success(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "received")
    bench.records.broken = AuditError("full")
    assert bench.receive(incoming(report_bytes())).status == 0xA700
    assert bench.fed == []


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(0, 4000))
def test_any_data_set_gives_an_answer(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    bench = Bench(tmp_path_factory.mktemp("received"))
    good = incoming(report_bytes())
    damaged = good.data[:at] + noise + good.data[at + len(noise) :]
    assert bench.receive(replace(good, data=damaged)).status in (0, 0xC000, 0xA900, 0xA700)


def test_as_file_is_what_readers_read() -> None:
    data = report_bytes()
    assert open_dicom(as_file(incoming(data)), name="made") == open_dicom(data, name="sent")


# --- delivered dose


def dose(examination: str | None, ctdivol: float, dlp: float, phantom: str, uid: str, mode: Mode) -> Command:
    parameters: dict[str, float | str] = {"CTDIvol": ctdivol, "DLP": dlp, "CTDIwPhantomType": phantom}
    return Command(parameters, examination=examination, event=uid or None, mode=mode)


def test_delivered_dose_of_a_report() -> None:
    commands = [
        dose("e1", 10.0, 100.0, HEAD_PHANTOM, "a", Mode.CLINICAL),
        dose("e1", 11.0, 100.0, HEAD_PHANTOM, "a", Mode.CLINICAL),  # the same event again: the larger counts
        dose("e1", 5.0, 50.0, BODY_PHANTOM.upper(), "b", Mode.CLINICAL),
        dose("e1", 5.0, 50.0, "a bucket", "", Mode.CLINICAL),
        dose("e1", 50.0, 500.0, HEAD_PHANTOM, "q", Mode.QA),
        dose(None, 50.0, 500.0, HEAD_PHANTOM, "n", Mode.CLINICAL),
        dose("e1", 0.0, 0.0, HEAD_PHANTOM, "z", Mode.CLINICAL),
    ]
    found = delivered(DoseReport(tuple(Decoded(i, c) for i, c in enumerate(commands))))
    assert found == (
        Delivered("e1", 11.0, 100.0, 16, "a"),
        Delivered("e1", 5.0, 50.0, 32, "b"),
        Delivered("e1", 5.0, 50.0, 0),
    )
    assert totals(found) == {("e1", 16): (11.0, 100.0), ("e1", 32): (5.0, 50.0), ("e1", 0): (5.0, 50.0)}


figures = st.dictionaries(
    st.tuples(st.sampled_from(["e1", "e2"]), st.sampled_from([0, 16, 32])),
    st.tuples(st.floats(0, 1e4), st.floats(0, 1e5)),
)


@given(figures, figures)
def test_a_report_can_only_raise_the_accounts(
    told: dict[tuple[str, int], tuple[float, float]], held: dict[tuple[str, int], tuple[float, float]]
) -> None:
    after = {key: list(value) for key, value in held.items()}
    for more in to_raise(told, held):
        assert more.ctdivol >= 0
        assert more.dlp >= 0
        account = after.setdefault((more.examination, more.phantom), [0.0, 0.0])
        account[0] += more.ctdivol
        account[1] += more.dlp
    for key, (ctdivol, dlp) in held.items():
        assert after[key][0] >= ctdivol
        assert after[key][1] >= dlp
    for key, (ctdivol, dlp) in told.items():
        account = after.get(key, [0.0, 0.0])
        assert account[0] >= ctdivol * (1 - 1e-9)
        assert account[1] >= dlp * (1 - 1e-9)


# --- review


def test_training_refuses_what_nobody_reviewed(tmp_path: Path, own_home: Path) -> None:
    bench = Bench(tmp_path / "received")
    bench.receive(incoming(report_bytes()))
    name = bench.kept[0].name
    inside = tmp_path / "recordings"
    inside.mkdir()
    (inside / "linked.dcm").symlink_to(bench.kept[0])
    whole = tmp_path / "linked"
    whole.symlink_to(bench.folder / "quarantine")
    runner = CliRunner()
    for path in (bench.folder, bench.folder / "quarantine", bench.kept[0], inside, whole, tmp_path):
        done = runner.invoke(cli, ["train", str(path), "--model", str(tmp_path / "model"), "--json"])
        assert done.exit_code == 2, path
        assert "reviewed by nobody" in done.output, path
    done = runner.invoke(cli, ["dicom", "review", str(bench.folder), name, "--accept"])
    assert done.exit_code == 2  # by nobody
    done = runner.invoke(
        cli, ["dicom", "review", str(bench.folder), name, "--accept", "--by", "A. Physicist", "--json"]
    )
    assert done.exit_code == 0, done.output
    refuse_unreviewed([bench.folder / "reviewed"])
    with pytest.raises(InputError):
        refuse_unreviewed([bench.folder])  # the marker stays: more will come
    act = json.loads((bench.folder / "reviews.jsonl").read_text())
    assert (act["who"], act["accepted"], act["files"]) == ("A. Physicist", True, [name])
    # Accepted, it is known: the same report does not come back as new, another one under its UID is refused.
    assert bench.receive(incoming(report_bytes())).status == 0
    assert bench.kept == []
    assert bench.receive(incoming(report_bytes(PatientName="Other^Person"))).status == 0xA700


def test_the_review_lists_what_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "received")
    runner = CliRunner()
    assert "nothing waits" in runner.invoke(cli, ["dicom", "review", str(bench.folder)]).output
    bench.receive(incoming(report_bytes()))
    odd = event(uid_value="1.2.3.9", dose=[num("113830", "80", "mGy"), coded("113835", "113691")])
    bench.receive(incoming(to_bytes(report(odd, SOPInstanceUID="1.2.3.5"))))
    done = runner.invoke(cli, ["dicom", "review", str(bench.folder), "--json"])
    rows = json.loads(done.output)["waiting"]
    assert sorted(row["CTDIvol_max_mGy"] for row in rows) == [8.0, 80.0]
    assert "80" in runner.invoke(cli, ["dicom", "review", str(bench.folder)]).output
    done = runner.invoke(cli, ["dicom", "review", str(bench.folder), "--reject", "--all", "--by", "me"])
    assert done.exit_code == 0
    assert len(list((bench.folder / "rejected").iterdir())) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--accept", "--by", "me"],
        ["--accept", "--all", "0123456789abcdef.dcm", "--by", "me"],
        ["--all"],
        ["../../etc/passwd", "--accept", "--by", "me"],
        ["0123456789abcdef.dcm", "--accept", "--by", "me"],
        ["--accept", "--all", "--by", "me"],
    ],
)
def test_an_act_that_makes_no_sense_moves_nothing(tmp_path: Path, arguments: list[str]) -> None:
    bench = Bench(tmp_path / "received")
    done = CliRunner().invoke(cli, ["dicom", "review", str(bench.folder), *arguments])
    assert done.exit_code == 2
    assert not (bench.folder / "reviews.jsonl").exists()


def test_only_the_owner_reads_the_quarantine(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "received")
    bench.receive(incoming(report_bytes()))
    assert (bench.folder / "quarantine").stat().st_mode & 0o077 == 0
    assert (bench.folder / "quarantine" / MARKER).exists()
    assert bench.kept[0].stat().st_mode & 0o077 == 0
    assert not list((bench.folder / "quarantine").glob(".*"))
