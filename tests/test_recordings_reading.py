"""Files and folders: order, books, parallel reading, and what cannot be read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dicom_builders import dose_reports
from dicom_builders.ct_images import ct_slice, to_bytes
from scanward.codecs.defined_protocol_performed import encode_performed_protocol
from scanward.commands import Command, Role
from scanward.errors import DecodeError, DialectError, InputError
from scanward.recordings import Recording, examinations, load_dialect, read, reading
from scanward.recordings.dicom import FileResult
from scanward.recordings.pseudonyms import Pseudonyms


def report(*uids: str) -> bytes:
    events = [
        dose_reports.container(
            "113819",
            dose_reports.uid("113769", uid),
            dose_reports.coded("113820", "P5-08001", "Spiral Acquisition", "SRT"),
            dose_reports.container("113829", dose_reports.num("113830", 5.0 + len(uid), "mGy")),
        )
        for uid in uids
    ]
    return dose_reports.to_bytes(dose_reports.report(*events))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two reports (the second cumulative), a series of images, a table, and what lies about in folders."""
    root = tmp_path / "recordings"
    (root / "b" / "images").mkdir(parents=True)
    (root / "a1.dcm").write_bytes(report("1.1"))
    (root / "a2.dcm").write_bytes(report("1.1", "1.2"))
    for n in range(1, 4):
        (root / "b" / "images" / f"i{n}").write_bytes(to_bytes(ct_slice(n)))
    (root / "b" / "table.csv").write_text("KVP\n120\nx\n")
    (root / "b" / "readme.md").write_text("# nothing, really\n")
    (root / "c.bin").write_bytes(bytes(range(256)))
    (root / "d.csv").write_bytes(b"")
    (root / ".hidden").write_text("x")
    return root


def balanced(recording: Recording) -> dict[str, object]:
    books = recording.books()
    assert books["read"] == books["commands"] + books["duplicates"] + books["rejected"]
    return books


def test_everything_in_a_folder_is_accounted_for(folder: Path) -> None:
    recording = read([folder])
    books = balanced(recording)
    assert (books["files"], books["read"], books["commands"], books["duplicates"], books["rejected"]) == (
        9, 9, 4, 1, 4,
    )  # fmt: skip
    named = [(Path(e.origin.path).name, e.origin.row, type(e).__name__) for e in recording.entries]
    assert named == [
        ("a1.dcm", 0, "Command"),
        ("a2.dcm", 0, "Duplicate"),
        ("a2.dcm", 1, "Command"),
        ("i1", 0, "Command"),
        ("readme.md", 0, "Rejected"),
        ("table.csv", 0, "Command"),
        ("table.csv", 1, "Rejected"),
        ("c.bin", 0, "Rejected"),
        ("d.csv", 0, "Rejected"),
    ]
    reasons = [r.reason for r in recording.rejected]
    assert reasons[0] == "not a recording: neither DICOM nor a table of commands"
    assert reasons[1:] == [
        "KVP is not a number",
        "not a recording: neither DICOM nor a table",
        "the file is empty",
    ]
    assert any("1 hidden" in note for note in recording.notes)


def test_images_and_reports_of_one_study_meet(folder: Path) -> None:
    exams = examinations(read([folder]).commands)
    assert sorted(len(e.commands) for e in exams) == [1, 3]  # the table's row stands alone


def test_parallel_reading_changes_nothing_and_reports_progress(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    alone = read([folder], workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 9) for n in range(1, 10)]
    assert read([folder], workers=2) == alone


def test_a_reader_process_that_dies_costs_its_file_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of one file is killed for real: the pool breaks, and every file is read again on its own."""
    monkeypatch.setattr(reading, "read_dicom", _dies_on_a2)
    monkeypatch.setattr(reading, "read_chunk", _dies_always)
    recording = read([folder], workers=2)
    assert {Path(r.origin.path).name: r.reason for r in recording.rejected}["a2.dcm"] == (
        "the process that read it died"
    )
    assert balanced(recording)["commands"] == 3


def _dies_always(paths: list[Path], pseudonyms: Pseudonyms) -> list[FileResult]:
    os._exit(9)


def _dies_on_a2(path: Path, pseudonyms: Pseudonyms) -> FileResult:
    from scanward.recordings.dicom import read_dicom

    if path.name == "a2.dcm":
        os._exit(9)
    return read_dicom(path, pseudonyms)


def test_paths_come_in_the_order_given_and_once(folder: Path) -> None:
    a, b = folder / "a2.dcm", folder / "a1.dcm"
    recording = read([a, b, a])
    assert [Path(e.origin.path).name for e in recording.entries] == ["a2.dcm", "a2.dcm", "a1.dcm"]
    assert any("given twice" in note for note in recording.notes)


def test_links_to_folders_make_no_loop(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "b" / "nowhere").symlink_to(folder / "missing")
    reasons = {Path(r.origin.path).name: r.reason for r in read([folder]).rejected}
    assert reasons["loop"] == "not a regular file"
    assert reasons["nowhere"].startswith("cannot be read")


def test_pipes_are_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    reasons = {Path(r.origin.path).name: r.reason for r in read([folder]).rejected}
    assert reasons["pipe"] == "not a regular file"
    with pytest.raises(InputError):
        read([folder / "pipe"])


def test_an_unreadable_folder_is_rejected_and_the_rest_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: os.PathLike[str]) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # Whoever runs the tests may be root, whom no mode bits stop.
    monkeypatch.setattr(os, "scandir", refuse)
    recording = read([folder])
    (rejected,) = [r for r in recording.rejected if Path(r.origin.path).name == "b"]
    assert rejected.reason == "the folder cannot be read (Permission denied)"
    assert balanced(recording)["commands"] == 2
    with pytest.raises(InputError, match="the folder cannot be read"):
        read([folder / "b"])


def test_an_unreadable_file_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self.name == "table.csv":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    reasons = {Path(r.origin.path).name: r.reason for r in read([folder]).rejected}
    assert reasons["table.csv"] == "cannot be read (Permission denied)"


def test_nothing_readable_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read([tmp_path / "missing"])
    with pytest.raises(InputError, match="no path is given"):
        read([])
    with pytest.raises(InputError, match="no files to read"):
        read([tmp_path])
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DecodeError, match="the file is empty"):
        read([tmp_path])
    (tmp_path / "b.dcm").write_bytes(b"\0" * 200)
    with pytest.raises(InputError, match="none of 2 files could be read"):
        read([tmp_path])


@pytest.mark.parametrize("keep", [0, 1, 131, 132, 140, 400, -1])
def test_truncated_dicom(tmp_path: Path, keep: int) -> None:
    whole = report("1.1")
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError) as caught:
        read([path])
    assert str(path) in caught.value.where


def test_dicom_that_holds_no_commands(tmp_path: Path) -> None:
    path = tmp_path / "mr.dcm"
    path.write_bytes(to_bytes(ct_slice(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")))
    with pytest.raises(DecodeError, match="holds no CT commands"):
        read([path])


def test_a_bad_slice_is_rejected_without_its_values(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(to_bytes(ct_slice(1)))
    (tmp_path / "2").write_bytes(to_bytes(ct_slice(2, KVP="-120")))
    recording = read([tmp_path])
    assert [r.reason for r in recording.rejected] == ["KVP is negative"]
    assert "Doe" not in repr(recording)


def test_performed_protocols_are_recordings(tmp_path: Path) -> None:
    made = encode_performed_protocol(
        [Command({"KVP": 120.0, "SpiralPitchFactor": 1.2}), Command({"KVP": 100.0})],
        uid="1.2.7", study_uid="1.2.3", series_uid="1.2.3.7", name="Thorax",
    )  # fmt: skip
    (tmp_path / "p.dcm").write_bytes(to_bytes(made))
    (tmp_path / "i.dcm").write_bytes(to_bytes(ct_slice(1)))
    recording = read([tmp_path])
    assert [c.number("KVP") for c in recording.commands] == [120.0, 120.0, 100.0]
    assert len(examinations(recording.commands)) == 1


def test_a_dialect_that_does_not_fit_is_said(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("KVP\n120\n")
    dialect = load_dialect(repository / "examples" / "dialects" / "covid_ctset.toml")
    with pytest.raises(DialectError, match="which the table lacks") as caught:
        read([path], dialect=dialect)
    assert "covid_ctset.toml" in caught.value.where


# --- the real tables


def shipped(repository: Path, name: str) -> Path:
    return repository / "examples" / "dialects" / f"{name}.toml"


def test_covid_ctset(repository: Path, shared_data: Path) -> None:
    table = shared_data / "ct" / "covid_ctset" / "covid_ctset_acquisitions.csv"
    recording = read([table], dialect=load_dialect(shipped(repository, "covid_ctset")))
    books = balanced(recording)
    assert (books["commands"], books["rejected"], books["duplicates"]) == (381, 0, 0)
    exams = examinations(recording.commands)
    assert len(exams) == 377
    assert [e.commands[0].order for e in exams] == [float(n) for n in range(377)]
    for command in recording.commands:
        p = command.parameters
        assert p["MinimumXRayTubeCurrent"] <= p["XRayTubeCurrentInmA"] <= p["MaximumXRayTubeCurrent"]  # type: ignore[operator]
        assert p["RevolutionTime"] == 0.6
        assert command.role is Role.PERFORMED
        assert isinstance(command.context.get("PatientAge"), float)


def test_covid_ctset_series_are_the_same_acquisitions(repository: Path, shared_data: Path) -> None:
    table = shared_data / "ct" / "covid_ctset" / "covid_ctset_series.csv"
    recording = read([table], dialect=load_dialect(shipped(repository, "covid_ctset_series")))
    books = balanced(recording)
    assert (books["read"], books["commands"], books["duplicates"]) == (1119, 381, 738)
    acquisitions = read(
        [table.with_name("covid_ctset_acquisitions.csv")],
        dialect=load_dialect(shipped(repository, "covid_ctset")),
    )
    assert {c.examination for c in recording.commands} == {c.examination for c in acquisitions.commands}


def test_ge_revolution_protocols(repository: Path, shared_data: Path) -> None:
    table = shared_data / "ct" / "ge_revolution_protocols" / "protocol_scan_groups.csv"
    recording = read([table], dialect=load_dialect(shipped(repository, "ge_revolution_protocols")))
    books = balanced(recording)
    assert (books["commands"], books["rejected"], books["duplicates"]) == (936, 0, 0)
    assert len(examinations(recording.commands)) == 238
    scouts = [c for c in recording.commands if c.text("AcquisitionType") == "CONSTANT_ANGLE"]
    assert len(scouts) == 405
    assert {c.text("PatientPosition") for c in recording.commands} == {"HFS", "HFP", "FFS"}
    assert {c.text("AcquisitionType") for c in recording.commands} == {
        "CONSTANT_ANGLE", "SPIRAL", "SEQUENCED", "STATIONARY",
    }  # fmt: skip
    scans = [c for c in recording.commands if "CTDIvol" in c.parameters]
    assert len(scans) == 531
    assert all(c.role_of("CTDIvol") is Role.FORECAST for c in scans)
    assert all(c.role_of("KVP") is Role.COMMANDED for c in recording.commands)
    assert all(c.parameters.get("CTDIwPhantomType") for c in scans)
    assert sum("NoiseIndex" in c.parameters for c in recording.commands) == 328


def test_a_folder_of_real_reports(shared_data: Path) -> None:
    books = balanced(read([shared_data / "ct" / "openrem_ct_sr" / "dicom"]))
    assert books["files"] == 11
    assert books["rejected"] == 0
    assert books["duplicates"] == 1  # the second of two cumulative reports repeats one event


def test_copies_of_files_are_duplicates(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "ct" / "openrem_ct_sr" / "dicom" / "CT-RDSR-Siemens-Multi-1.dcm"
    once = balanced(read([source]))
    for name in ("a", "b", "c"):
        shutil.copy(source, tmp_path / name)
    books = balanced(read([tmp_path]))
    assert books["commands"] == once["commands"]
    assert books["duplicates"] == 2 * int(str(once["commands"]))
