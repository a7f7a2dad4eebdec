"""Tables: whatever is in them becomes commands, rejections with reasons, or one of our errors."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.commands import Command, Mode, Role, Source
from scanward.errors import DecodeError, DialectError, InputError, ScanwardError
from scanward.recordings import Recording, Rejected, examinations, parse_dialect, read, tables

HEADER = "KVP,XRayTubeCurrentInmA,PatientAge,ProtocolName,StudyInstanceUID,AcquisitionDateTime"
ROW = "120,200,034Y,Thorax,1.2.3,20240101120000"


def table(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read_text(folder: Path, text: str | bytes, name: str = "table.csv", **options: object) -> Recording:
    recording = read([table(folder, text, name)], **options)  # type: ignore[arg-type]
    books = recording.books()
    assert books["read"] == books["commands"] + books["duplicates"] + books["rejected"]
    return recording


def only_reason(recording: Recording) -> str:
    (rejected,) = recording.rejected
    return rejected.reason


def test_columns_named_by_keywords_need_no_set_up(tmp_path: Path) -> None:
    head = (
        HEADER + ",Manufacturer,ManufacturerModelName,DeviceSerialNumber,SoftwareVersions,AcquisitionNumber"
    )
    recording = read_text(tmp_path, f"{head}\n{ROW},ACME,CT-1,SN77,v2,3\n")
    (command,) = recording.commands
    assert dict(command.parameters) == {"KVP": 120.0, "XRayTubeCurrentInmA": 200.0}
    assert command.context.get("PatientAge") == 34.0
    assert command.context.parts["ProtocolName"][0].source is Source.HOST
    assert (command.device.manufacturer, command.device.model, command.device.software) == (
        "ACME",
        "CT-1",
        "v2",
    )
    assert command.role is Role.PERFORMED
    assert command.order == 3.0
    assert command.acquired_at == 1704110400.0  # 2024-01-01 12:00:00
    assert command.origin.row == 0


@pytest.mark.parametrize(
    ("cell", "years"),
    [("006M", 0.5), ("034Y", 34.0), ("3W", 21 / 365.25), ("012D", 12 / 365.25), ("41", 41.0), ("0.5", 0.5)],
)
def test_ages(tmp_path: Path, cell: str, years: float) -> None:
    (command,) = read_text(tmp_path, f"KVP,PatientAge\n120,{cell}\n").commands
    assert command.number("PatientAge") == pytest.approx(years)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("NaN", "KVP is NaN"),
        ("nan", "KVP is NaN"),
        ("inf", "KVP is infinite"),
        ("-Infinity", "KVP is infinite"),
        ("1e999", "KVP is infinite"),
        ("-120", "KVP is negative"),
        ("abc", "KVP is not a number"),
        ("1_000", "KVP is not a number"),
        ("١٢٠", "KVP is not a number"),
        ("0x78", "KVP is not a number"),
        ("120 kV", "KVP is not a number"),
        ('"1,200.5"', "KVP is not a number"),
    ],
)
def test_a_number_that_is_none_rejects_its_row_alone(tmp_path: Path, cell: str, reason: str) -> None:
    recording = read_text(tmp_path, f"KVP,Exposure\n100,1\n{cell},2\n80,3\n")
    assert [e.origin.row for e in recording.rejected] == [1]
    assert only_reason(recording) == reason
    assert [c.number("KVP") for c in recording.commands] == [100.0, 80.0]


def test_negative_where_the_form_allows_it(tmp_path: Path) -> None:
    (command,) = read_text(tmp_path, "KVP,GantryDetectorTilt\n120,-12.5\n").commands
    assert command.number("GantryDetectorTilt") == -12.5


@pytest.mark.parametrize("missing", ["", " ", "NA", "N/A", "null"])
def test_a_missing_cell_is_absent(tmp_path: Path, missing: str) -> None:
    (command,) = read_text(tmp_path, f"KVP,Exposure,ProtocolName\n120,{missing},{missing}\n").commands
    assert set(command.parameters) == {"KVP"}
    assert not command.context.parts


def test_a_weight_of_zero_was_not_entered(tmp_path: Path) -> None:
    (command,) = read_text(
        tmp_path, "KVP,PatientWeight,PatientSize,PatientAge,Exposure\n120,0,0.0,0,0\n"
    ).commands
    assert set(command.context.parts) == {"PatientAge"}
    assert command.number("Exposure") == 0.0


def test_few_bytes_cannot_claim_many_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CELLS", 1000)
    wide = ",".join(f"c{n}" for n in range(99))
    keys = json.dumps({f"c{n}": 1 for n in range(99)})
    for text in (f"KVP,{wide}\n" + "1\n" * 20, keys + "\n{}" * 20):
        with pytest.raises(InputError, match="more than 1000 cells"):
            read([table(tmp_path, text)])


def test_a_row_without_any_machine_field_is_rejected(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,PatientAge\n120,40\n,40\n")
    assert only_reason(recording) == "no machine field is present"


def test_aliases_and_their_units(tmp_path: Path) -> None:
    text = "XRayTubeCurrentInuA,ExposureTime,ExposureInuAs\n200000,600,100000\n"
    (command,) = read_text(tmp_path, text).commands
    assert dict(command.parameters) == {
        "XRayTubeCurrentInmA": 200.0,
        "ExposureTimeInms": 600.0,
        "Exposure": 100.0,
    }


def test_the_fields_own_name_goes_before_its_alias(tmp_path: Path) -> None:
    (command,) = read_text(tmp_path, "XRayTubeCurrent,XRayTubeCurrentInmA\n1,2\n").commands
    assert command.number("XRayTubeCurrentInmA") == 2.0


def test_several_sources_and_whom_to_believe(tmp_path: Path) -> None:
    text = "KVP,PatientAge,PatientAge@worklist,BodyPartExamined@localizer,KVP@worklist\n120,40,6,HEAD,80\n"
    (command,) = read_text(tmp_path, text).commands
    assert command.context.get("PatientAge") == 6.0
    assert set(command.context.disagreements()) == {"PatientAge"}
    assert command.context.parts["BodyPartExamined"][0].source is Source.LOCALIZER
    assert command.number("KVP") == 120.0


@pytest.mark.parametrize(
    ("date", "reason"),
    [
        ("yesterday", "AcquisitionDateTime is not a date and time"),
        ("20241301120000", "AcquisitionDateTime is not a date and time"),
    ],
)
def test_a_time_that_is_none(tmp_path: Path, date: str, reason: str) -> None:
    recording = read_text(tmp_path, f"KVP,AcquisitionDateTime\n120,{date}\n120,20240101\n")
    assert only_reason(recording) == reason


def test_times_in_every_usual_form(tmp_path: Path) -> None:
    forms = [
        "20240101120000.5",
        "2024-01-01T12:00:00.5",
        "2024-01-01 12:00:00,5",
        "20240101120000.500000+0100",
    ]
    rows = "".join(f'120,"{form}"\n' for form in forms)
    recording = read_text(tmp_path, f"KVP,AcquisitionDateTime\n{rows}")
    assert [c.acquired_at for c in recording.commands] == [1704110400.5] * 4
    pair = read_text(tmp_path, "KVP,AcquisitionDate,AcquisitionTime\n120,20240101,120000.5\n")
    assert [c.acquired_at for c in pair.commands] == [1704110400.5]


# --- CSV


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_encodings_newlines(tmp_path: Path, mark: str, encoding: str, newline: str) -> None:
    lines = [["KVP", "ProtocolName"], ["120", "Schädel"], ["100", "Thorax"]]
    text = newline.join(mark.join(line) for line in lines)
    recording = read_text(tmp_path, text.encode(encoding))
    assert [c.text("ProtocolName") for c in recording.commands] == ["Schädel", "Thorax"]


def test_windows_1252_is_read_and_said(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,ProtocolName\n120,Schädel\n".encode("cp1252"))
    assert recording.commands[0].text("ProtocolName") == "Schädel"
    assert any("Windows-1252" in note for note in recording.notes)


def test_mixed_encodings_name_the_line(tmp_path: Path) -> None:
    data = "KVP,ProtocolName\n120,Schädel\n".encode() + "100,Schädel\n".encode("cp1252")
    with pytest.raises(DecodeError, match=r"mixed encodings: line 3 is not UTF-8 and line 2 is"):
        read([table(tmp_path, data)])


def test_decimal_comma(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP;RevolutionTime\n120;0,5\n100;1\n")
    assert [c.number("RevolutionTime") for c in recording.commands] == [0.5, 1.0]
    assert any("decimal comma" in note for note in recording.notes)


def test_both_decimal_marks_are_not_guessed_at(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP;RevolutionTime\n120;0,5\n100;0.5\n")
    assert only_reason(recording) == "RevolutionTime is not a number"


def test_quoted_newlines_and_separators(tmp_path: Path) -> None:
    recording = read_text(tmp_path, 'KVP,ProtocolName\n120,"Thorax,\nlate ""x"""\n100,b\n')
    assert [c.text("ProtocolName") for c in recording.commands] == ['Thorax,\nlate "x"', "b"]
    assert [c.origin.row for c in recording.commands] == [0, 1]


def test_ragged_rows_are_rejected_one_by_one(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,Exposure\n120,1\n120\n120,1,2\n100,2\n")
    assert [(r.origin.row, r.reason) for r in recording.rejected] == [
        (1, "the row has 1 cells, the header 2"),
        (2, "the row has 3 cells, the header 2"),
    ]
    assert [c.origin.row for c in recording.commands] == [0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("KVP,Exposure\n", "the table has no rows"),
        ("KVP,Exposure", "the table has no rows"),
        ("\n\n", "the table has no header"),
        ("KVP,KVP\n1,2\n", "the column 'KVP' comes twice"),
        ("KVP, KVP\n1,2\n", "the column 'KVP' comes twice"),
        ('KVP,Exposure\n120,"1\n100,2\n', "is not CSV"),
        ("KVP\n" + "1" * 200_000 + "\n", "is not CSV"),
        ("Foo,Bar\n1,2\n", "no column is a known machine field"),
        ("PatientAge\n40\n", "no column is a known machine field"),
        ("KVP\n12\x000\n", "neither DICOM nor a table"),
        (",".join(f"c{n}" for n in range(5000)) + "\n1\n", "more than 4096 columns"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read([table(tmp_path, text)])
    assert str(tmp_path) in caught.value.where
    assert caught.value.todo


def test_one_row_a_constant_column_an_all_missing_column(tmp_path: Path) -> None:
    one = read_text(tmp_path, "KVP,Exposure,DLP\n120,,5\n")
    assert one.books()["commands"] == 1
    many = read_text(tmp_path, "KVP,Exposure,DLP\n" + "120,,5\n" * 50)
    assert many.books()["commands"] == 50
    assert all("Exposure" not in c.parameters for c in many.commands)


def test_unknown_columns_and_categories_are_no_error(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,AcquisitionType,Shoe\n120,NEVER_HEARD_OF,41\n")
    assert recording.commands[0].text("AcquisitionType") == "NEVER_HEARD_OF"
    assert recording.commands[0].value("Shoe") is None


def test_the_limit_of_the_csv_module_is_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read_text(tmp_path, "KVP\n120\n")
    assert csv.field_size_limit() == before


def test_qa_rows_are_labelled(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,ProtocolName\n120,Daily QA phantom\n120,Thorax\n")
    assert [c.mode for c in recording.commands] == [Mode.QA, Mode.CLINICAL]


# --- JSON Lines


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        '{"KVP": 120, "ProtocolName": "Thorax"}',
        '{"KVP": 100.0, "Exposure": null, "ContrastBolusAgent": true}',
        '{"KVP": 80, "KVP": 140}',
        "[1, 2]",
        '{"KVP": [1]}',
        '{"KVP": NaN}',
        '{"KVP": ' + "9" * 400 + "}",
        '{"KVP": ',
        '{"KVP": "90"}',
        "{" * 3000,
    ]
    recording = read_text(tmp_path, "\n".join(rows), "rows.jsonl")
    assert [c.number("KVP") for c in recording.commands] == [120.0, 100.0, 90.0]
    assert recording.commands[1].text("ContrastBolusAgent") == "true"
    assert {r.origin.row: r.reason for r in recording.rejected} == {
        2: "the line has a key twice",
        3: "the line is not a JSON object",
        4: "the line holds a list or an object where a number or a text is needed",
        5: "KVP is NaN",
        6: "KVP is infinite",
        7: "the line is not JSON",
        9: "the line is not JSON",
    }


def test_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [{"KVP": 120 - n, "DLP": n / 8, "ProtocolName": f"p{n}", "FilterType": 1.0} for n in range(20)]
    as_csv = io.StringIO()
    writer = csv.DictWriter(as_csv, list(rows[0]))
    writer.writeheader()
    writer.writerows([{**row, "FilterType": 1} for row in rows])
    first = read_text(tmp_path, as_csv.getvalue(), "a.csv")
    second = read_text(tmp_path, "\n".join(json.dumps(row) for row in rows), "b.jsonl")
    assert [c.parameters for c in first.commands] == [c.parameters for c in second.commands]


# --- Parquet


def test_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "KVP": pa.array([120.0, float("nan"), None], pa.float64()),
        "Exposure": pa.array([100, 2, 3], pa.int32()),
        "ProtocolName": pa.array(["a", "b", "c"]).dictionary_encode(),
        "SmartPrep": pa.array([True, False, None]),
        "AcquisitionDateTime": pa.array([1704110400_000, 0, 0], pa.timestamp("ms")),
    }
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    recording = read([path])
    assert [(r.origin.row, r.reason) for r in recording.rejected] == [(1, "KVP is NaN")]
    first, last = recording.commands
    assert first.number("Exposure") == 100.0
    assert first.text("ProtocolName") == "a"
    assert first.acquired_at == 1704110400.0
    assert "KVP" not in last.parameters


def test_damaged_and_empty_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"KVP": [1.0, 2.0]}), path)
    whole = path.read_bytes()
    for cut in (4, 20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(DecodeError, match="damaged"):
            read([table(tmp_path, whole[:cut], "cut.parquet")])
    pq.write_table(pa.table({"KVP": pa.array([], pa.float64())}), path)
    with pytest.raises(InputError, match="no rows"):
        read([path])


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="need pyarrow") as caught:
        read([table(tmp_path, b"PAR1....PAR1", "t.parquet")])
    assert "scanward[parquet]" in caught.value.todo


# --- identity


SECRETS = ("Doe^Jane", "19631107", "ID-4711", "1.2.840.99.7", "SN-12345", "ACC-9")


def test_no_identity_is_kept_anywhere(tmp_path: Path) -> None:
    head = "KVP,PatientName,PatientBirthDate,PatientID,StudyInstanceUID,DeviceSerialNumber,AccessionNumber"
    # ragged, unreadable and shifted rows: the reasons must not repeat what stands in them
    rows = [
        f"120,{','.join(SECRETS)}",
        f"x,{','.join(SECRETS)}",
        ",".join(SECRETS),
        ",".join((*SECRETS, "y", "z")),
    ]
    rows.append(",".join((*SECRETS, "120")))
    recording = read_text(tmp_path, head + "\n" + "\n".join(rows) + "\n")
    assert recording.books()["commands"] == 1
    said = repr(recording)
    for secret in SECRETS:
        assert secret not in said


def test_the_site_key_changes_every_hash_and_only_them(tmp_path: Path) -> None:
    text = f"{HEADER},IrradiationEventUID,DeviceSerialNumber\n{ROW},1.9.9,SN1\n"
    plain, again = read_text(tmp_path, text), read_text(tmp_path, text)
    keyed = read_text(tmp_path, text, site_key=bytes(range(32)))
    assert plain == again
    first, second = plain.commands[0], keyed.commands[0]
    for a, b in (
        (first.examination, second.examination),
        (first.event, second.event),
        (first.device.serial, second.device.serial),
    ):
        assert a is not None
        assert b is not None
        assert len(a) == len(b) == 16
        assert a != b
    assert first.parameters == second.parameters
    assert any("--site-key" in note for note in plain.notes)
    assert not any("--site-key" in note for note in keyed.notes)


def test_a_site_key_of_the_wrong_length(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="32 bytes"):
        read([table(tmp_path, "KVP\n120\n")], site_key=b"short")


# --- duplicates, order


def test_the_same_irradiation_event_is_a_duplicate(tmp_path: Path) -> None:
    text = "KVP,IrradiationEventUID,Exposure\n120,1.2,\n120,1.2,5\n100,1.3,1\n120,1.2,5\n100,,\n100,,\n"
    recording = read_text(tmp_path, text)
    assert [c.origin.row for c in recording.commands] == [
        1,
        2,
        4,
        5,
    ]  # of 1.2 the fullest
    assert [d.origin.row for d in recording.duplicates] == [0, 3]
    assert any("say something else" in note for note in recording.notes)


def test_duplicates_are_found_across_files(tmp_path: Path) -> None:
    text = "KVP,IrradiationEventUID\n120,1.2\n"
    paths = [table(tmp_path, text, "a.csv"), table(tmp_path, text, "b.csv")]
    books = read(paths).books()
    assert (books["read"], books["commands"], books["duplicates"]) == (2, 1, 1)


@given(st.randoms(use_true_random=False))
def test_shuffling_rows_changes_no_examination(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("shuffle")
    head = "KVP,Exposure,StudyInstanceUID,AcquisitionDateTime,AcquisitionNumber,IrradiationEventUID"
    rows = [
        f"{80 + 20 * (n % 4)},{n % 3},{'1.' + str(n % 5) if n % 7 else ''},"
        f"{f'2024010112{n % 6:02d}00' if n % 4 else ''},{n % 3},{'9.' + str(n % 15) if n % 2 else ''}"
        for n in range(40)
    ]
    before = read_text(folder, "\n".join([head, *rows]))
    chance.shuffle(rows)
    after = read_text(folder, "\n".join([head, *rows]))
    assert _without_origin(before) == _without_origin(after)


def _without_origin(recording: Recording) -> list[tuple[str, list[str]]]:
    from dataclasses import replace

    from scanward.commands import Origin

    return [
        (e.identifier, [repr(replace(c, origin=Origin())) for c in e.commands])
        for e in examinations(recording.commands)
    ]


def test_commands_without_examination_stand_alone(tmp_path: Path) -> None:
    recording = read_text(tmp_path, "KVP,StudyInstanceUID\n120,\n120,\n100,1.2\n80,1.2\n")
    exams = examinations(recording.commands)
    lone = [e for e in exams if e.identifier.startswith("lone-")]
    assert [len(e.commands) for e in lone] == [1, 1]
    assert len({e.identifier for e in exams}) == 3
    assert all(e.commands[0].examination is None for e in lone)


# --- hostile bytes

_JUNK = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(
        st.sampled_from(
            ["KVP", "PatientAge", ",", ";", "\n", '"', "120", "-1", "nan", "1,5", "{", "}", ":", "é", " "]
        ),
        max_size=40,
    ).map(lambda parts: "".join(parts).encode()),
    st.binary(max_size=100).map(lambda tail: b"KVP,Exposure\n120,1\n" + tail),
    st.binary(max_size=100).map(lambda tail: b'{"KVP": 120}\n' + tail),
    st.binary(max_size=100).map(lambda tail: b"PAR1" + tail + b"PAR1"),
    st.binary(max_size=100).map(lambda tail: bytes(128) + b"DICM" + tail),
    st.binary(max_size=100).map(lambda tail: b"\x08\0\x16\0UI" + tail),
    st.binary(max_size=100).map(lambda tail: "KVP\n120\n".encode("utf-16") + tail),
)


@given(data=_JUNK, name=st.sampled_from(["x.csv", "x.jsonl", "x", "x.parquet"]))
def test_random_bytes_give_a_recording_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("junk") / name
    path.write_bytes(data)
    try:
        recording = read([path])
    except ScanwardError:
        return
    books = recording.books()
    assert books["read"] == books["commands"] + books["duplicates"] + books["rejected"] > 0
    assert all(isinstance(e, Command | Rejected) or e.command for e in recording.entries)


@given(data=st.binary(max_size=120))
def test_random_bytes_in_a_cell(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    text = json.dumps({"KVP": data.decode("latin-1"), "ProtocolName": data.decode("latin-1"), "DLP": 1})
    path = tmp_path_factory.mktemp("cell") / "x.jsonl"
    path.write_text(text, encoding="utf-8")
    assert len(read([path]).entries) == 1


@given(text=st.text(max_size=300))
def test_random_text_is_a_dialect_or_a_dialect_error(text: str) -> None:
    with contextlib.suppress(DialectError):  # anything else fails the test
        parse_dialect("format = 1\n" + text)
