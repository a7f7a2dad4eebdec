"""Each rule for a maker's reports: applied where its evidence is, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_builders import dose_reports as build
from dicom_builders.dose_reports import coded, container, event, num, source, text
from scanward.codecs.rdsr import decode_dose_file
from scanward.codecs.rdsr_quirks import QUIRKS
from scanward.commands import Command

SCOUT = ("DCM", "113805")


def _read(rule: str, *more: Dataset, maker: str = "ACME", **how: Any) -> tuple[Command, bool]:
    data = build.to_bytes(build.report(event(*more, **how), Manufacturer=maker))
    report = decode_dose_file(data, path="r.dcm", pseudonym=str.upper)
    (command,) = report.commands
    return command, any(note.startswith(f"rule {rule} (1 event)") for note in report.notes)


def _spiral(exposure: str, *, rotation: str = "0.5", width: str = "38.4", unit: str = "s") -> list[Dataset]:
    return [
        num("113824", exposure, unit),
        num("113825", "300", "mm"),
        num("113827", width, "mm"),
        num("113828", "0.8", "{ratio}"),
        source("A", rotation=rotation),
    ]


@pytest.mark.parametrize(
    ("maker", "parameters", "milliseconds", "applied"),
    [
        # 300 mm at pitch 0.8 and 38.4 mm in 0.5 s: about 5 s of beam
        ("Philips", _spiral("4880"), 4880.0, True),
        ("Philips Medical Systems", _spiral("4.88"), 4880.0, False),
        ("Philips", _spiral("4880", unit="ms"), 4880.0, False),
        ("Philips", [num("113824", "11912", "s")], 11912.0, True),
        ("Philips", [num("113824", "120", "s")], 120000.0, False),  # a long 4DCT is possible
        ("SIEMENS", [num("113824", "11912", "s")], 11912000.0, False),  # not this maker's: the form objects
    ],
)
def test_philips_ms_under_s(
    maker: str, parameters: list[Dataset], milliseconds: float, applied: bool
) -> None:
    command, told = _read("philips-ms-under-s", maker=maker, parameters=parameters)
    assert command.number("ExposureTimeInms") == milliseconds
    assert told is applied


def test_philips_rotation_in_ms_under_s() -> None:
    command, told = _read("philips-ms-under-s", maker="Philips", parameters=_spiral("4880", rotation="500"))
    assert told
    assert command.number("RevolutionTime") == 0.5
    assert command.number("ExposureTimeInms") == 4880


def test_screen_read_without_tube() -> None:
    dose = [num("113830", "8", "mGy")]
    data = build.to_bytes(build.report(event(parameters=[], dose=dose), coded("113854", "113868")))
    report = decode_dose_file(data, path="r.dcm", pseudonym=str.upper)
    assert "KVP" not in report.commands[0].parameters
    assert any("screen-read-without-tube" in note for note in report.notes)
    _, told = _read("screen-read-without-tube", parameters=[])
    assert not told


@pytest.mark.parametrize(
    ("exposure", "kept", "applied"), [("100", 125.0, True), ("125", 125.0, False), ("400", 400.0, False)]
)
def test_exposure_without_pitch(exposure: str, kept: float, applied: bool) -> None:
    command, told = _read("exposure-without-pitch", num("113736", exposure, "mA.s"))  # 200 mA x 0.5 s / 0.8
    assert command.number("Exposure") == kept
    assert told is applied


@pytest.mark.parametrize(
    ("maker", "kind", "width", "kept"),
    [("GE MED", SCOUT, "300", None), ("GE MED", SCOUT, "5", 5.0), ("ACME", SCOUT, "300", 300.0)],
)
def test_ge_scout_collimation(maker: str, kind: tuple[str, str], width: str, kept: float | None) -> None:
    parameters = [num("113825", "300", "mm"), num("113827", width, "mm")]
    command, told = _read("ge-scout-collimation", maker=maker, kind=kind, parameters=parameters)
    assert command.number("TotalCollimationWidth") == kept
    assert told is (kept is None)


@pytest.mark.parametrize(
    ("maker", "width", "kept"),
    [("GE Medical Systems", "5", None), ("GE Medical Systems", "38.4", 38.4), ("ACME", "5", 5.0)],
)
def test_ge_helical_collimation(maker: str, width: str, kept: float | None) -> None:
    command, told = _read("ge-helical-collimation", maker=maker, parameters=_spiral("4.9", width=width))
    assert command.number("TotalCollimationWidth") == kept
    assert told is (kept is None)


def test_siemens_technical_comment() -> None:
    comment = text(
        "121106",
        "Internal technical scan parameters: Organ Characteristic = Abdomen, Body Size = Child, "
        "Body Region = Body, X-ray Modulation Type = XYZ_EC, Sn Filter (Tube B) = yes",
    )
    command, told = _read("siemens-technical-comment", comment)
    assert told
    assert command.parameters["ProtocolBodySize"] == "Child"
    assert command.parameters["ProtocolBodyRegion"] == "Body"
    assert command.parameters["ProtocolOrganCharacteristic"] == "Abdomen"
    assert command.parameters["ExposureModulationType"] == "XYZ_EC"
    assert command.parameters["FilterMaterial"] == "TIN"
    command, told = _read("siemens-technical-comment", comment, text("113842", "NONE"))
    assert command.parameters["ExposureModulationType"] == "NONE"  # the coded item goes before the comment
    _, told = _read("siemens-technical-comment", text("121106", "Body Size = Child"))
    assert not told


def test_several_numbers() -> None:
    tube = container("113831", num("113733", ["120", "120"], "kV"), num("113734", ["100", "300"], "mA"))
    command, told = _read("several-numbers", parameters=[tube, num("113828", ["0.8", "0.9"], "1")])
    assert told
    assert command.number("KVP") == 120
    assert command.number("XRayTubeCurrentInmA") == 200
    assert (command.number("MinimumXRayTubeCurrent"), command.number("MaximumXRayTubeCurrent")) == (100, 300)
    assert "SpiralPitchFactor" not in command.parameters


def test_dose_check_codes_shifted() -> None:
    def details(*first: Dataset) -> Dataset:
        forecast = num(build.code("113914", "DLP Notification Value"), "700", "mGy.cm")
        return container("113908", *first, forecast if first else num("113911", "700", "mGy.cm"))

    configured = build.coded("113911", "373066001", "Yes", "SCT")
    command, told = _read("dose-check-codes-shifted", dose=[num("113830", "8", "mGy"), details(configured)])
    assert told
    assert command.number("DLPNotificationValue") == 700
    assert "CTDIvolForwardEstimate" not in command.parameters
    command, told = _read("dose-check-codes-shifted", dose=[num("113830", "8", "mGy"), details()])
    assert not told
    assert command.number("DLPNotificationValue") == 700


def test_localizer_without_dose() -> None:
    zero = [num("113830", "0", "mGy"), num("113838", "0", "mGy.cm")]
    command, told = _read("localizer-without-dose", kind=SCOUT, dose=zero)
    assert told
    assert "CTDIvol" not in command.parameters
    assert "DLP" not in command.parameters
    command, told = _read("localizer-without-dose", dose=zero)
    assert not told
    assert command.number("CTDIvol") == 0  # a spiral without dose is for the layers to judge


def test_zero_collimation() -> None:
    command, told = _read(
        "zero-collimation", parameters=[num("113827", "0", "mm"), num("113826", "0.6", "mm")]
    )
    assert told
    assert "TotalCollimationWidth" not in command.parameters
    assert command.number("SingleCollimationWidth") == 0.6


def test_docs_name_every_rule(repository: Path) -> None:
    page = (repository / "docs" / "recordings-dose-reports.md").read_text("utf-8")
    assert [quirk.name for quirk in QUIRKS if f"`{quirk.name}`" not in page] == []
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS)


def test_the_fuzz_harness_compiles(repository: Path) -> None:
    path = repository / "tests" / "fuzz" / "fuzz_rdsr.py"
    compile(path.read_text("utf-8"), str(path), "exec")
