"""Dose reports of real scanners, compared with an independent walk over the same files and with DCMTK's."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from scanward.codecs.rdsr import decode_dose_file
from scanward.commands import Command, Mode, Role
from scanward.commands.fields import FIELDS

# file -> events, QA: counted in dcmdump's output.
EVENTS = {
    "CT-ESR-GE_Optima.dcm": (6, False),
    "CT-RDSR-GEPixelMed.dcm": (2, True),
    "CT-RDSR-Siemens-Continued-1.dcm": (2, False),
    "CT-RDSR-Siemens-Continued-2.dcm": (2, False),
    "CT-RDSR-Siemens-Multi-1.dcm": (1, False),
    "CT-RDSR-Siemens-Multi-2.dcm": (2, False),
    "CT-RDSR-Siemens_Flash-QA-DS.dcm": (9, True),
    "CT-RDSR-SpectrumDynamics.dcm": (5, True),
    "CT-RDSR-ToshibaPixelMed.dcm": (3, True),
    "CT-RDSR-Toshiba_DoseCheck.dcm": (2, False),
    "CT-SC-Philips_Brilliance16P.dcm": (4, False),
}
REPORTS = [name for name in EVENTS if "-SC-" not in name]


def _pseudonym(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8, key=b"test").hexdigest()


@pytest.fixture(scope="session")
def folder(shared_data: Path) -> Path:
    path = shared_data / "ct" / "openrem_ct_sr" / "dicom"
    if not path.is_dir():
        pytest.skip(f"no recorded dose reports at {path}")
    return path


def _commands(folder: Path, name: str) -> tuple[Command, ...]:
    report = decode_dose_file(folder / name, path=name, pseudonym=_pseudonym)
    assert [r.row for r in report.results] == list(range(len(report.results)))
    assert not [r.reason for r in report.results if r.command is None]
    return report.commands


@pytest.mark.parametrize("name", EVENTS)
def test_events_and_modes(folder: Path, name: str) -> None:
    commands = _commands(folder, name)
    events, qa = EVENTS[name]
    assert len(commands) == events
    assert {c.mode for c in commands} == {Mode.QA if qa else Mode.CLINICAL}
    assert len({c.event for c in commands}) == events
    assert len({c.examination for c in commands}) == 1
    assert all(c.acquired_at is not None and c.role is Role.PERFORMED for c in commands)


@pytest.mark.parametrize("name", EVENTS)
def test_values_are_within_the_form(folder: Path, name: str) -> None:
    for command in _commands(folder, name):
        for field, value in command.parameters.items():
            known = FIELDS[field]
            assert isinstance(value, float if known.kind == "number" else str), field
            if isinstance(value, float):
                assert known.low is not None
                assert known.high is not None
                assert known.low <= value <= known.high, (field, value)


def _walk(ds: pydicom.Dataset) -> list[tuple[str, float]]:
    found = []
    for item in ds.get("ContentSequence", []):
        names = item.get("ConceptNameCodeSequence")
        if item.get("ValueType") == "NUM" and names and item.get("MeasuredValueSequence"):
            found.append((names[0].CodeValue, float(item.MeasuredValueSequence[0].NumericValue)))
        found += _walk(item)
    return found


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(
    ("concept", "field", "factor"),
    [
        ("113830", "CTDIvol", 1),
        ("113838", "DLP", 1),
        ("113825", "ScanLength", 1),
        ("113824", "ExposureTimeInms", 1000),
        ("113828", "SpiralPitchFactor", 1),
    ],
)
def test_numbers_as_an_independent_walk_finds_them(
    folder: Path, name: str, concept: str, field: str, factor: float
) -> None:
    there = [value * factor for code, value in _walk(pydicom.dcmread(folder / name)) if code == concept]
    here = [c.parameters[field] for c in _commands(folder, name) if field in c.parameters]
    assert here == pytest.approx(there)


@pytest.mark.parametrize("name", REPORTS)
def test_tube_currents_as_dcmtk_prints_them(folder: Path, name: str) -> None:
    dsrdump = shutil.which("dsrdump")
    if dsrdump is None:
        pytest.skip("dsrdump of DCMTK is not installed (Debian package dcmtk)")
    done = subprocess.run(
        [dsrdump, "-Ee", "-Ec", "-Er", "+Pc", str(folder / name)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    printed = done.stdout.decode("latin-1")
    if done.returncode:
        pytest.skip(f"dsrdump refuses {name}: {done.stderr.decode('latin-1')[:200]}")
    there = [float(v) for v in re.findall(r"\(113734,DCM[^)]*\)=\"?([0-9.]+)\"?", printed)]
    here: list[float] = []
    for command in _commands(folder, name):
        for field in ("XRayTubeCurrentInmA", "XRayTubeCurrentInmASourceB"):
            value = command.parameters.get(field)
            here += [value] if isinstance(value, float) else []
    assert here == there


def test_dual_source(folder: Path) -> None:
    first = _commands(folder, "CT-RDSR-Siemens_Flash-QA-DS.dcm")[0]
    assert (first.number("KVP"), first.number("KVPSourceB")) == (100, 140)
    assert (first.number("XRayTubeCurrentInmA"), first.number("XRayTubeCurrentInmASourceB")) == (399, 308)
    assert (first.number("MaximumXRayTubeCurrent"), first.number("MaximumXRayTubeCurrentSourceB")) == (
        400,
        310,
    )
    assert first.number("NumberOfXRaySources") == 2


def test_cumulative_reports_repeat_the_event_hash(folder: Path) -> None:
    first = _commands(folder, "CT-RDSR-Siemens-Multi-1.dcm")
    second = _commands(folder, "CT-RDSR-Siemens-Multi-2.dcm")
    assert {c.event for c in first} < {c.event for c in second}
    assert first[0].parameters == second[0].parameters


def test_dose_check(folder: Path) -> None:
    second = _commands(folder, "CT-RDSR-Toshiba_DoseCheck.dcm")[1]
    assert second.number("DLPAlertValue") == 100
    assert second.role_of("DLPAlertValue") is Role.COMMANDED
    assert second.number("AccumulatedCTDIvolForwardEstimate") == 10.6
    assert second.role_of("AccumulatedCTDIvolForwardEstimate") is Role.FORECAST
    assert second.role_of("CTDIvol") is Role.PERFORMED


def test_philips_secondary_capture(folder: Path) -> None:
    scout, spiral, *_ = _commands(folder, "CT-SC-Philips_Brilliance16P.dcm")
    assert spiral.number("XRayTubeCurrentInmA") == 165.044374
    assert spiral.number("DLP") == 196.01
    assert spiral.text("AcquisitionType") == "SPIRAL"
    assert spiral.text("ProtocolElementName") == "PRE KIDNEYS"
    assert "CTDIvol" not in scout.parameters
    assert scout.number("XRayTubeCurrentInmA") == 50


@pytest.mark.parametrize("name", EVENTS)
def test_no_identity_is_kept(folder: Path, name: str) -> None:
    ds = pydicom.dcmread(folder / name, stop_before_pixels=True)
    secrets = {
        str(ds.get(k, ""))
        for k in (
            "PatientID",
            "StudyInstanceUID",
            "DeviceSerialNumber",
            "PatientBirthDate",
            "AccessionNumber",
        )
    } | set(str(ds.get("PatientName", "")).split("^"))
    kept = " ".join(repr(c) for c in _commands(folder, name))
    # whoever made these files named a patient after the scanner, and another "Patient"
    model = str(ds.get("ManufacturerModelName", "")) + "Patient"
    assert not [s for s in secrets if len(s) > 3 and s in kept and s not in model]


def test_rules_that_real_reports_call_for(folder: Path) -> None:
    notes = {n: decode_dose_file(folder / n, path=n, pseudonym=_pseudonym).notes for n in EVENTS}
    for name, rule in {
        "CT-ESR-GE_Optima.dcm": "ge-scout-collimation",
        "CT-RDSR-GEPixelMed.dcm": "screen-read-without-tube",
        "CT-RDSR-ToshibaPixelMed.dcm": "screen-read-without-tube",
        "CT-RDSR-Siemens_Flash-QA-DS.dcm": "siemens-technical-comment",
        "CT-RDSR-SpectrumDynamics.dcm": "zero-collimation",
        "CT-SC-Philips_Brilliance16P.dcm": "localizer-without-dose",
    }.items():
        assert any(f"rule {rule} (" in note for note in notes[name]), name
    assert any("ge-helical-collimation (2 events)" in note for note in notes["CT-ESR-GE_Optima.dcm"])
