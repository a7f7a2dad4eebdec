"""``scanward inspect``: columns, guesses, books, reports, and dialects that load back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scanward.cli.inspect import inspect_command
from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.recordings import load_dialect, read
from scanward.recordings.guessing import guess, guess_unit
from scanward.recordings.survey import survey

FOREIGN = """kV;mA;Rotation time [ms];Length (cm);Age_years;Nachname;Helical pitch;Shoe;Wgt;mA_min
120;200;500;30,5;41;Doe;1,2;A;70;1
100;150;350;25;6;Roe;0,9;A;22;2
120;x;500;31;70;Poe;1,2;B;81;3
"""


def inspect(*arguments: object) -> Result:
    result = CliRunner().invoke(inspect_command, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, ScanwardError | SystemExit):
        raise result.exception
    return result


def facts(*arguments: object) -> dict[str, Any]:
    result = inspect(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.csv"
    path.write_text(FOREIGN, encoding="utf-8")
    return path


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "known.csv"
    path.write_text(
        "KVP,ExposureTime,RevolutionTime,PatientName,StudyInstanceUID,IrradiationEventUID,Manufacturer\n"
        "120,600,0.5,Doe^Jane,1.2,1.2.1,ACME\n"
        "100,600,500,Doe^Jane,1.2,1.2.2,ACME\n"
        "100,600,500,Doe^Jane,1.2,1.2.2,ACME\n"
        "nan,600,500,Doe^Jane,1.3,1.2.3,ACME\n"
    )
    return path


def test_the_books(known: Path) -> None:
    found = facts(known)
    books = found["books"]
    assert books == {
        "files": 1, "read": 4, "commands": 2, "duplicates": 1, "rejected": 1, "reasons": {"KVP is NaN": 1},
    }  # fmt: skip
    assert found["devices"] == [{"manufacturer": "ACME", "model": "", "software": "", "commands": 2}]
    assert found["examinations"] == {"known": 1, "commands_without": 0, "longest": 2}
    assert found["modes"] == {"CLINICAL": 2}
    assert found["roles"] == {"performed": 2}
    assert found["problem"] is None


def test_columns_and_fields(known: Path) -> None:
    found = facts(known)
    columns = {c["column"]: c for c in found["columns"]}
    assert columns["ExposureTime"]["fields"] == ["ExposureTimeInms"]
    assert columns["ExposureTime"]["unit"] == "ms"
    assert (columns["ExposureTime"]["min"], columns["ExposureTime"]["max"]) == (600.0, 600.0)
    assert columns["PatientName"]["identifying"]
    assert columns["RevolutionTime"]["guess"] is None  # neither seconds nor milliseconds throughout
    fields = {f["field"]: f for f in found["fields"]}
    assert (fields["KVP"]["min"], fields["KVP"]["max"], fields["KVP"]["missing"]) == (100.0, 120.0, 0.0)
    assert fields["KVP"]["roles"] == ["performed"]


def test_a_known_column_in_another_unit_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("RevolutionTime\n" + "500\n350\n" * 5)
    (column,) = facts(path)["columns"]
    assert column["guess"] == {"field": "RevolutionTime", "unit": "ms", "why": "range"}


def test_nobody_is_shown(known: Path, foreign: Path) -> None:
    for arguments in ((known,), (known, "--json"), (foreign,), (foreign, "--json")):
        said = inspect(*arguments).output
        for secret in ("Doe", "Jane", "Roe", "1.2.1"):
            assert secret not in said


def test_a_table_that_needs_a_dialect_is_shown_all_the_same(foreign: Path) -> None:
    found = facts(foreign)
    assert found["books"]["read"] == found["books"]["rejected"] == 3
    assert found["problem"]["what"] == "no column is a known machine field"
    guesses = {c["column"]: c["guess"] for c in found["columns"]}
    guesses = {name: one and (one["field"], one["unit"]) for name, one in guesses.items()}
    assert guesses == {
        "kV": ("KVP", "kV"),
        "mA": ("XRayTubeCurrentInmA", "mA"),
        "Rotation time [ms]": ("RevolutionTime", "ms"),
        "Length (cm)": ("ScanLength", "cm"),
        "Age_years": ("PatientAge", "a"),
        "Nachname": None,
        "Helical pitch": ("SpiralPitchFactor", "1"),
        "Shoe": None,
        "Wgt": None,
        "mA_min": ("MinimumXRayTubeCurrent", "mA"),
    }


def test_the_written_dialect_loads_back_and_reads_the_table(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "site.toml"
    assert inspect(foreign, "--write-dialect", out).exit_code == 0
    assert "Doe" not in out.read_text()
    recording = read([foreign], dialect=load_dialect(out))
    assert [r.reason for r in recording.rejected] == ["XRayTubeCurrentInmA is not a number"]
    first = recording.commands[0]
    assert first.number("RevolutionTime") == 0.5
    assert first.number("ScanLength") == 305.0
    assert first.context.get("PatientAge") == 41.0
    again = tmp_path / "again.toml"
    assert inspect(foreign, "--dialect", out, "--write-dialect", again).exit_code == 0
    assert read([foreign], dialect=load_dialect(again)) == recording


def test_nothing_is_overwritten_unless_forced(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "site.toml"
    out.write_text("precious")
    for option in ("--write-dialect", "--report"):
        result = inspect(foreign, option, out)
        assert isinstance(result.exception, SettingsError)
        assert out.read_text() == "precious"
    assert inspect(foreign, "--write-dialect", out, "--force").exit_code == 0
    assert load_dialect(out).fields


def test_the_report_lists_what_is_no_command(known: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "report.csv"
    assert inspect(known, "--report", out).exit_code == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["outcome"], row["reason"]) for row in rows] == [
        ("2", "duplicate", "the same irradiation event was read elsewhere"),
        ("3", "rejected", "KVP is NaN"),
    ]


def test_the_page_for_people(known: Path) -> None:
    said = inspect(known).output
    for part in (
        "Columns of",
        "Fields of the commands",
        "Devices",
        "Books",
        "KVP is NaN",
        "(never shown)",
        "ACME",
    ):
        assert part in said


def test_bad_paths(tmp_path: Path) -> None:
    assert isinstance(inspect(tmp_path / "missing").exception, InputError)
    (tmp_path / "t.csv").write_text("KVP,KVP\n1,2\n")
    assert isinstance(inspect(tmp_path / "t.csv").exception, InputError)
    assert isinstance(inspect(tmp_path / "t.csv", "--dialect", tmp_path / "no.toml").exception, InputError)


def test_no_dialect_without_a_table(tmp_path: Path) -> None:
    from dicom_builders.ct_images import ct_slice, to_bytes

    (tmp_path / "a.dcm").write_bytes(to_bytes(ct_slice(1)))
    result = inspect(tmp_path, "--write-dialect", tmp_path / "out.toml")
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "out.toml").exists()


@pytest.mark.parametrize(
    ("column", "numbers", "field", "unit"),
    [
        ("kVp", [120, 100], "KVP", "kV"),
        ("Tube current", [200.0], "XRayTubeCurrentInmA", "mA"),
        ("tube_current_uA", [200000.0], "XRayTubeCurrentInmA", "uA"),
        ("exposure time", [600.0], "ExposureTimeInms", "ms"),
        ("exposure time", [0.6, 1.2], "ExposureTimeInms", "s"),
        ("rotation", [500.0, 280.0], "RevolutionTime", "ms"),
        ("patient weight", [70.0], "PatientWeight", "kg"),
        ("height", [172.0, 160.0], "PatientSize", "cm"),
        ("CTDIvol_mGy", [5.0], "CTDIvol", "mGy"),
        ("DLP_mGycm", [500.0], "DLP", "mGy.cm"),
        ("SpiralPitchFaktor", [1.0], "SpiralPitchFactor", "1"),
    ],
)
def test_guesses(column: str, numbers: list[float], field: str, unit: str) -> None:
    found = guess(column, numbers, 0)
    assert found is not None
    assert (found.field, found.unit) == (field, unit)


def test_no_guess_where_nothing_fits() -> None:
    assert guess("kV", [5000.0, 7.0], 0) is None
    assert guess("kV", [], 10) is None
    assert guess("shoe size", [42.0], 0) is None
    assert guess_unit("RevolutionTime", [0.5, 500.0]) is None


def test_the_real_tables_need_no_dialect_to_be_shown(shared_data: Path, tmp_path: Path) -> None:
    tables = {
        "covid_ctset/covid_ctset_acquisitions.csv": 381,
        "ge_revolution_protocols/protocol_scan_groups.csv": 936,
    }
    for name, rows in tables.items():
        out = tmp_path / "d.toml"
        found = facts(shared_data / "ct" / name, "--write-dialect", out, "--force")
        assert found["books"]["read"] == rows
        recording = read([shared_data / "ct" / name], dialect=load_dialect(out))
        assert recording.books()["read"] == rows
        assert recording.books()["rejected"] == 0


def test_survey_keeps_what_read_gives(known: Path) -> None:
    assert survey([known]).recording == read([known])
