"""Heat map and report of a detector as DICOM, read by dciodvfy, DCMTK and highdicom."""

from __future__ import annotations

import datetime
import math
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from _mammo import compressed, save
from _tamper_dicom import mammogram
from scanward.errors import DecodeError, InputError
from scanward.forensics import dicom_outputs
from scanward.forensics.dicom_content import regions
from scanward.forensics.dicom_outputs import MARK, write_heat_map, write_report
from scanward.forensics.dicom_words import decimal
from scanward.mammography.readers import read_mammogram
from scanward.tampering.marking import mark_masks

MODEL = "ab" * 32
NOW = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
FLAT = np.zeros((96, 80), np.float32)


@dataclass(frozen=True)
class Found:
    """What `Detector.examine` gives, as far as it is written."""

    p_value: float = 0.0123
    likelihood_ratio: float = 37.5
    alarm: bool = True
    heat: NDArray[np.float32] = field(default_factory=FLAT.copy)
    words: tuple[str, ...] = ("The noise is smoother than elsewhere.", "Übersteuert")


def hot() -> NDArray[np.float32]:
    """Two regions, the larger one at columns 30 to 50 and rows 40 to 60."""
    heat = FLAT.copy()
    heat[40:60, 30:50] = 1.0
    heat[70:74, 60:64] = 0.75
    return heat


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A mammogram of somebody."""
    return save(
        mammogram(PatientName="MÜLLER^ÄNNE", SpecificCharacterSet="ISO_IR 100"), tmp_path / "source.dcm"
    )


def _errors(path: Path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False)
    said = done.stderr + done.stdout
    assert ("SCImage" in said) or ("EnhancedSR" in said)
    return [line for line in said.splitlines() if line.startswith("Error")]


def _dcmtk(name: str, *arguments: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian package dcmtk)")
    done = subprocess.run([name, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- both


@pytest.mark.parametrize("what", ["heat", "report"])
def test_patient_and_study_are_the_original_s_and_the_series_is_new(
    source: Path, tmp_path: Path, what: str
) -> None:
    original = dcmread(source)
    write = write_heat_map if what == "heat" else write_report
    path = write(Found(heat=hot()), source, tmp_path / "out.dcm", MODEL, now=NOW)
    assert path == tmp_path / "out.dcm"
    ds = dcmread(path)
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        assert ds[keyword].value == original[keyword].value, keyword
    assert str(ds.PatientName) == "MÜLLER^ÄNNE"
    assert ds.SeriesInstanceUID not in (original.SeriesInstanceUID, original.StudyInstanceUID)
    assert ds.SOPInstanceUID != original.SOPInstanceUID
    assert "NOT FOR DIAGNOSIS" in ds.SeriesDescription
    assert "OperatorsName" not in ds  # nothing else of the original comes along
    assert (0x0009, 0x1001) not in ds
    again = dcmread(write(Found(heat=hot()), source, tmp_path / "again.dcm", MODEL, now=NOW))
    assert again == ds  # the same finding at the same time is the same object
    later = NOW + datetime.timedelta(seconds=1)
    other = dcmread(write(Found(heat=hot()), source, tmp_path / "other.dcm", MODEL, now=later))
    assert other.SeriesInstanceUID == ds.SeriesInstanceUID
    assert other.SOPInstanceUID != ds.SOPInstanceUID
    assert (
        dcmread(write(Found(), source, tmp_path / "m.dcm", "cd", now=NOW)).SeriesInstanceUID
        != ds.SeriesInstanceUID
    )


def test_heat_map_and_report_are_of_different_series(source: Path, tmp_path: Path) -> None:
    heat = dcmread(write_heat_map(Found(heat=hot()), source, tmp_path / "h.dcm", MODEL))
    report = dcmread(write_report(Found(heat=hot()), source, tmp_path / "r.dcm", MODEL))
    assert heat.SeriesInstanceUID != report.SeriesInstanceUID
    assert heat.StudyInstanceUID == report.StudyInstanceUID


@pytest.mark.parametrize("write", [write_heat_map, write_report])
def test_what_is_no_image_that_can_be_referenced_is_our_error(write: Any, tmp_path: Path) -> None:
    text = tmp_path / "x.png"
    text.write_bytes(b"\x89PNG\r\n\x1a\n")
    nameless = mammogram()
    del nameless.StudyInstanceUID
    for path in (text, tmp_path / "absent.dcm", save(nameless, tmp_path / "nameless.dcm")):
        with pytest.raises(DecodeError):
            write(Found(), path, tmp_path / "out.dcm", MODEL)
    assert not (tmp_path / "out.dcm").exists()
    source = save(mammogram(), tmp_path / "source.dcm")
    with pytest.raises(InputError, match="cannot be written"):
        write(Found(), source, tmp_path / "no" / "folder.dcm", MODEL)


def test_a_minimal_patient_still_has_what_the_standard_wants(tmp_path: Path) -> None:
    bare = mammogram()
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyTime",
    ):
        if keyword in bare:
            del bare[keyword]
    source = save(bare, tmp_path / "bare.dcm")
    for path in (
        write_heat_map(Found(heat=hot()), source, tmp_path / "h.dcm"),
        write_report(Found(heat=hot()), source, tmp_path / "r.dcm", ""),
    ):
        assert _errors(path) == []


# --- the heat map


def test_the_heat_map_is_a_valid_secondary_capture_that_names_its_source(
    source: Path, tmp_path: Path
) -> None:
    path = write_heat_map(Found(heat=hot()), source, tmp_path / "heat.dcm", MODEL, now=NOW)
    assert _errors(path) == []
    ds, original = dcmread(path), dcmread(source)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    (reference,) = ds.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == original.SOPClassUID
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert MODEL in ds.DerivationDescription
    assert MARK in ds.ImageComments
    assert ds.Laterality == original.ImageLaterality
    assert (ds.ContentDate, ds.ContentTime) == ("20260304", "050607")
    _dcmtk("dcmj2pnm", "+on", str(path), str(tmp_path / "heat.png"))
    assert (tmp_path / "heat.png").stat().st_size > 100


def test_the_pixels_are_the_picture_the_colours_the_heat_and_the_words_are_burned_in(
    source: Path, tmp_path: Path
) -> None:
    cold = dcmread(write_heat_map(Found(heat=FLAT), source, tmp_path / "cold.dcm")).pixel_array
    warm = dcmread(write_heat_map(Found(heat=hot()), source, tmp_path / "warm.dcm")).pixel_array
    shape = (96 * 6, 80 * 6)
    assert warm.shape == (*shape, 3)  # larger than the picture, so that all words fit
    heat = np.kron(hot(), np.ones((6, 6), np.float32))
    letters, outline = mark_masks(shape, MARK)
    marked = letters | outline
    assert letters.sum() > 4000
    assert (warm[letters] == 255).all()
    assert (warm[outline] == 0).all()
    shown = (read_mammogram(source).full() >> 8).repeat(6, axis=0).repeat(6, axis=1)
    assert (cold[~marked] == shown[~marked][:, None]).all()  # no heat: the picture itself
    changed = (warm != cold).any(axis=2) & ~marked
    assert changed.any()
    assert not (changed & (heat == 0)).any()
    red, green, blue = (warm[~marked & (heat == 1)][:, c].astype(int) for c in range(3))
    assert (red >= 165).all()
    assert (green == blue).all()  # full heat is red; less is towards yellow
    mild = warm[~marked & (heat == 0.75)].astype(int)
    assert (mild[:, 1] > mild[:, 2]).all()


def test_heat_of_another_size_is_stretched_and_what_is_no_number_is_cold(
    source: Path, tmp_path: Path
) -> None:
    small = np.zeros((12, 10), np.float32)
    small[5, 4] = 7.0
    small[0, 0] = math.nan
    small[11, 9] = -3.0
    shown = dcmread(write_heat_map(Found(heat=small), source, tmp_path / "s.dcm")).pixel_array.astype(int)
    coloured = shown[..., 0] != shown[..., 2]
    letters, outline = mark_masks(shown.shape[:2], MARK)
    wanted = np.kron(small > 0, np.ones((48, 48), bool)) & ~(letters | outline)
    assert wanted.any()
    assert (coloured == wanted).all()
    with pytest.raises(ValueError, match="heat is"):
        write_heat_map(Found(heat=np.zeros(5, np.float32)), source, tmp_path / "no.dcm")


@pytest.mark.parametrize(
    ("most", "least", "size", "said"),
    [
        (40, 16, (32, 27), "Every 3. pixel"),
        (96, 16, (96, 80), ""),
        (200, 100, (192, 160), "2 times each way"),
    ],
)
def test_a_picture_shown_larger_or_smaller_says_so(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    least: int,
    size: tuple[int, int],
    said: str,
) -> None:
    bounds = replace(dicom_outputs.FINDING_BOUNDS, heat_side=most, heat_side_least=least)
    monkeypatch.setattr(dicom_outputs, "FINDING_BOUNDS", bounds)
    path = write_heat_map(Found(heat=hot()), source, tmp_path / "heat.dcm")
    ds = dcmread(path)
    assert (ds.Rows, ds.Columns) == size
    assert said in ds.DerivationDescription
    assert ("SpatialLocationsPreserved" in ds.SourceImageSequence[0]) is (said == "")
    assert _errors(path) == []


def test_lossy_history_and_synthetic_data_stay_said(tmp_path: Path) -> None:
    ds = mammogram(
        LossyImageCompression="01", LossyImageCompressionRatio=10, LossyImageCompressionMethod="ISO_10918_1"
    )
    ds.add_new(0x0008001C, "CS", "YES")
    source = save(ds, tmp_path / "lossy.dcm")
    path = write_heat_map(Found(heat=hot()), source, tmp_path / "h.dcm")
    heat = dcmread(path)
    assert heat.LossyImageCompression == "01"
    assert heat.LossyImageCompressionMethod == "ISO_10918_1"
    assert heat[0x0008001C].value == "YES"
    packed = save(compressed(mammogram(), "1.2.840.10008.1.2.4.90"), tmp_path / "packed.dcm")
    assert "LossyImageCompression" not in dcmread(write_heat_map(Found(), packed, tmp_path / "p.dcm")) or (
        dcmread(tmp_path / "p.dcm").LossyImageCompression == "00"
    )


# --- the report


def _items(ds: Dataset, kind: str) -> dict[str, Dataset]:
    return {
        item.ConceptNameCodeSequence[0].CodeValue: item
        for item in ds.ContentSequence
        if item.ValueType == kind
    }


def test_the_report_is_valid_and_says_everything(source: Path, tmp_path: Path) -> None:
    path = write_report(Found(heat=hot()), source, tmp_path / "sr.dcm", MODEL, now=NOW)
    assert _errors(path) == []
    ds, original = dcmread(path), dcmread(source)
    numbers = _items(ds, "NUM")
    assert numbers["p-value"].MeasuredValueSequence[0].NumericValue == 0.0123
    ratio = numbers["likelihood-ratio"]
    assert ratio.MeasuredValueSequence[0].NumericValue == 37.5
    assert _items(ds, "CODE")["verdict"].ConceptCodeSequence[0].CodeValue == "alarm"
    assert _items(ds, "TEXT")["model"].TextValue == MODEL
    findings = [i.TextValue for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121071"]
    assert findings == ["The noise is smoother than elsewhere.", "Übersteuert"]
    image = _items(ds, "IMAGE")["121112"].ReferencedSOPSequence[0]
    assert image.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert [item.GraphicType for item in ratio.ContentSequence] == ["POLYLINE", "POLYLINE"]
    assert list(ratio.ContentSequence[0].GraphicData) == [30, 40, 50, 40, 50, 60, 30, 60, 30, 40]
    assert list(ratio.ContentSequence[1].GraphicData)[:2] == [60, 70]
    for region in ratio.ContentSequence:
        (selected,) = region.ContentSequence
        assert selected.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == original.StudyInstanceUID
    (series,) = evidence.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == original.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert ds.VerificationFlag == "UNVERIFIED"


def test_dcmtk_and_highdicom_read_the_report(source: Path, tmp_path: Path) -> None:
    path = write_report(Found(heat=hot()), source, tmp_path / "sr.dcm", MODEL)
    shown = _dcmtk("dsrdump", "+Pl", str(path))
    for wanted in (
        "Enhanced SR Document",
        '"0.0123"',
        '"37.5"',
        MODEL,
        "Alarm: looks modified",
        "Not for diagnosis",
    ):
        assert wanted in shown
    assert "inferred from SCOORD" in shown
    assert "selected from IMAGE" in shown
    hd = pytest.importorskip("highdicom")
    read = hd.sr.srread(path)
    assert type(read).__name__ == "EnhancedSR"
    (root,) = read.content
    names = [item.name.meaning for item in root.ContentSequence]
    assert "p-value among genuine images" in names
    (ratio,) = [item for item in root.ContentSequence if item.name.value == "likelihood-ratio"]
    assert ratio.value == 37.5
    region = ratio.ContentSequence[0]
    assert type(region).__name__ == "ScoordContentItem"
    assert region.value.tolist()[:2] == [[30.0, 40.0], [50.0, 40.0]]


def test_without_an_alarm_there_is_no_region(source: Path, tmp_path: Path) -> None:
    path = write_report(Found(heat=hot(), alarm=False), source, tmp_path / "sr.dcm", MODEL)
    ds = dcmread(path)
    assert _items(ds, "CODE")["verdict"].ConceptCodeSequence[0].CodeValue == "no-alarm"
    assert "ContentSequence" not in _items(ds, "NUM")["likelihood-ratio"]
    assert _errors(path) == []


@pytest.mark.parametrize(
    ("value", "word"), [(math.inf, "114002"), (-math.inf, "114001"), (math.nan, "114000")]
)
def test_a_ratio_that_is_no_number_has_a_qualifier(
    source: Path, tmp_path: Path, value: float, word: str
) -> None:
    found = Found(heat=hot(), likelihood_ratio=value, words=("\x1b[31m", ""))
    path = write_report(found, source, tmp_path / "sr.dcm", "")
    assert _errors(path) == []
    ratio = _items(dcmread(path), "NUM")["likelihood-ratio"]
    assert list(ratio.MeasuredValueSequence) == []
    assert ratio.NumericValueQualifierCodeSequence[0].CodeValue == word
    assert "\x1b" not in _dcmtk("dsrdump", str(path))


def test_codes_of_the_standard_mean_what_the_standard_says(source: Path, tmp_path: Path) -> None:
    from pydicom.sr.codedict import codes

    known = {
        str(concept.value): concept.meaning
        for concept in (getattr(codes.DCM, name) for name in codes.DCM.dir())
    }
    used = {}
    for path in (
        write_report(Found(heat=hot(), likelihood_ratio=math.inf), source, tmp_path / "r.dcm", MODEL),
        write_heat_map(Found(), source, tmp_path / "h.dcm", MODEL),
    ):
        for element in dcmread(path).iterall():
            if isinstance(element.value, Sequence):
                for item in element.value:
                    if item.get("CodingSchemeDesignator") == "DCM" and "CodeMeaning" in item:
                        used[item.CodeValue] = item.CodeMeaning
    assert len(used) >= 8
    assert {value: known[value].casefold() for value in used} == {v: m.casefold() for v, m in used.items()}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_fits_a_decimal_string_and_is_nearly_itself(value: float) -> None:
    shown = decimal(value)
    assert 1 <= len(shown) <= 16
    assert float(shown) == pytest.approx(value, rel=1e-8)


def test_regions_are_the_hottest_first_and_bounded() -> None:
    heat = np.zeros((50, 50), np.float32)
    heat[::10, ::10] = 1.0
    heat[20:25, 20:25] = 0.6
    found = regions(heat, (100, 50))
    assert len(found) == 8
    assert found[0] == (20.0, 40.0, 25.0, 50.0)
    assert regions(np.full((5, 5), 0.9, np.float32), (5, 5)) == ()
    assert regions(np.zeros((5, 5), np.float32), (5, 5)) == ()
    assert regions(np.full((5, 5), np.nan, np.float32), (5, 5)) == ()
