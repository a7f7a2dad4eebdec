"""`scanward tamper insert` and `remove`: what comes out, in which folder, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pil
from pydicom.uid import RLELossless
from torch import Tensor, nn

from _mammo import IDENTIFIER, NAME, breast_picture, compressed, save
from _tamper import phantoms, tiny
from _tamper_dicom import SECRETS, FakeRun, mammogram, mammogram_file, right
from house import REPOSITORY
from scanward.cli.main import cli
from scanward.errors import DecodeError, InputError, LearningError, ScanwardError, SettingsError
from scanward.mammography.dicom_pixels import read_stored
from scanward.mammography.manifest import read_manifest
from scanward.mammography.pictures import lesions_mask, load
from scanward.mammography.readers import read_mammogram
from scanward.tampering import outputs
from scanward.tampering.applying import apply
from scanward.tampering.dicom_outputs import marks_of_dicom
from scanward.tampering.marking import MARK, mark_masks, marks_of
from scanward.tampering.model_card import write_model_card
from scanward.tampering.originals import Item, read
from scanward.tampering.outputs import read_tampered
from scanward.tampering.running import Settings, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms(tmp_path_factory.mktemp("phantoms") / "data", patients=6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A real run of training, of two steps."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train(data, tiny(optimiser__steps="2"), folder, settings=Settings(threads=1, sheet_steps=0))
    return folder


def _png(path: Path, picture: NDArray[np.generic]) -> Path:
    Pil.fromarray(np.ascontiguousarray(picture)).save(path)
    return path


def _values(path: Path) -> NDArray[np.int32]:
    """What a written file holds."""
    if path.suffix == ".dcm":
        return read_stored(path).values
    return read_mammogram(path).pixels.astype(np.int32)


# --- the picture keeps everything but its breast


@pytest.mark.parametrize("direction", ["insert", "remove"])
def test_only_the_breast_of_a_data_sets_picture_changes(tmp_path: Path, data: Path, direction: str) -> None:
    told = apply([data], FakeRun(), direction, tmp_path / "out", visible_mark=False)
    manifest = {image.name: image for image in read_manifest(data).images}
    assert len(told.images) == 3
    for record in told.images:
        pixels, breast = load(data, manifest[record.name])
        made = _values(tmp_path / "out" / record.output)
        change = made - pixels
        assert (change[~breast] == 0).all()
        assert (np.sign(change[breast]) == (1 if direction == "insert" else -1)).mean() > 0.5
        assert record.change.outside_max == 0
        assert record.change.inside_max == np.abs(change).max()
        assert record.change.inside_mean == pytest.approx(np.abs(change[breast]).mean())
        shown = _values(tmp_path / "out" / record.difference)
        assert (shown - outputs.OFFSET == change).all() or record.difference_clipped
        assert record.original_sha256 == outputs.file_hash(data / manifest[record.name].file)
        assert record.label == ("normal" if direction == "insert" else "malignant")
        assert record.phantom


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(("bits", "ending"), [(8, "png"), (12, "png"), (16, "tif"), (8, "tif")])
def test_a_file_keeps_size_depth_and_orientation(tmp_path: Path, bits: int, ending: str, left: bool) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    picture = breast_picture(90, 70, bits, left=left).astype(dtype)
    source = _png(tmp_path / f"film.{ending}", picture)
    told = apply([source], FakeRun(), "insert", tmp_path / "out")
    (record,) = told.images
    with Pil.open(tmp_path / "out" / record.output) as opened:
        made = np.asarray(opened)
    assert opened.format == {"png": "PNG", "tif": "TIFF"}[ending]
    assert made.shape == picture.shape
    assert made.dtype == dtype or opened.mode.startswith("I")
    inside = read(Item(path=source)).inside
    letters, outline = mark_masks(picture.shape, within=inside)
    untouched = ~inside & ~letters & ~outline
    assert (made.astype(np.int32) == picture)[untouched].all()
    assert (made[letters] == made[letters][0]).all()
    assert record.visible_mark


def test_a_negative_stays_one(tmp_path: Path) -> None:
    picture = (255 - breast_picture(90, 70, 8)).astype(np.uint8)
    told = apply(
        [_png(tmp_path / "n.png", picture)], FakeRun(), "insert", tmp_path / "out", visible_mark=False
    )
    made = _values(tmp_path / "out" / told.images[0].output)
    assert (made <= picture).all()  # brighter tissue is darker in a negative
    assert (made < picture).mean() > 0.2
    assert "negative" in " ".join(told.images[0].remarks)


# --- DICOM

INVERSE = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
SIGMOID = {"VOILUTFunction": "SIGMOID", "WindowCenter": 2048, "WindowWidth": 3000}
LINEAR = {
    "PresentationIntentType": "FOR PROCESSING",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2.1",
    "PixelIntensityRelationship": "LIN",
    "PixelIntensityRelationshipSign": 1,
}


def _kinds() -> list[Any]:
    tissue = breast_picture(bits=12).astype(np.int32)
    return [
        pytest.param(tissue, 12, {}, id="monochrome2"),
        pytest.param(right(tissue), 12, {"ImageLaterality": "R", "PatientOrientation": ["P", "F"]}, id="right"),
        pytest.param(4095 - tissue, 12, INVERSE, id="monochrome1"),
        pytest.param(tissue - 2048, 12, {}, id="signed"),
        pytest.param(breast_picture(91, 77, bits=8), 8, {"WindowWidth": 256}, id="eight bits, odd length"),
        pytest.param(breast_picture(bits=16), 16, {}, id="sixteen bits"),
        pytest.param(tissue, 12, SIGMOID, id="sigmoid"),
        pytest.param(4095 - tissue, 12, LINEAR, id="for processing"),
    ]  # fmt: skip


@pytest.mark.parametrize(("stored", "bits", "elements"), _kinds())
def test_dicom_is_changed_in_the_breast_alone_whatever_its_grey_scale(
    tmp_path: Path, stored: NDArray[Any], bits: int, elements: dict[str, Any]
) -> None:
    source = mammogram_file(tmp_path / "in.dcm", stored, bits, **elements)
    original = read(Item(path=source))
    told = apply([source], FakeRun(), "insert", tmp_path / "out", visible_mark=False)
    (record,) = told.images
    output = tmp_path / "out" / record.output
    made = _values(output)
    assert (made == stored)[~original.inside].all()
    shown_before, shown_after = read_mammogram(source).pixels, read_mammogram(output).pixels
    assert (shown_after >= shown_before).all()
    assert (shown_after > shown_before)[original.inside].mean() > 0.5
    difference = _values(tmp_path / "out" / record.difference).astype(np.int32) - outputs.OFFSET
    assert record.difference_clipped or (stored + difference == made).all()
    before, after = pydicom.dcmread(source), pydicom.dcmread(output)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
                    "PhotometricInterpretation", "PresentationIntentType", "SOPClassUID", "PresentationLUTShape",
                    "WindowCenter", "ImageLaterality", "PixelIntensityRelationship"):  # fmt: skip
        assert after.get(keyword) == before.get(keyword), keyword


@pytest.mark.parametrize(("stored", "bits", "elements"), _kinds())
def test_the_words_in_dicom_are_bright_on_dark_as_they_are_seen(
    tmp_path: Path, stored: NDArray[Any], bits: int, elements: dict[str, Any]
) -> None:
    source = mammogram_file(tmp_path / "in.dcm", stored, bits, **elements)
    inside = read(Item(path=source)).inside
    told = apply([source], FakeRun(), "insert", tmp_path / "out")
    shown = read_mammogram(tmp_path / "out" / told.images[0].output).pixels
    letters, outline = mark_masks(shown.shape, within=inside)
    assert (shown[letters] == shown.max()).all()
    assert (shown[outline] == shown.min()).all()


def test_padding_is_no_grey_value(tmp_path: Path) -> None:
    """Neither tissue nor words take the padding's value, which a viewer shows as black."""
    stored = breast_picture(bits=12)
    stored[:, -6:] = 4095
    source = mammogram_file(tmp_path / "in.dcm", stored, PixelPaddingValue=4095)
    told = apply([source], FakeRun(), "insert", tmp_path / "out")
    made = _values(tmp_path / "out" / told.images[0].output)
    letters, outline = mark_masks(made.shape, within=read(Item(path=source)).inside)
    assert (made[:, :-6] != 4095).all()
    assert (made[letters] == made[made != 4095].max()).all()
    assert (made[:, -6:][~(letters | outline)[:, -6:]] == 4095).all()


@pytest.mark.parametrize("visible", [True, False])
def test_dicom_says_what_it_is_and_not_who(tmp_path: Path, visible: bool) -> None:
    frame = "1.2.3.4.5.6.7"
    source = mammogram_file(tmp_path / "DOE_JANE.dcm", FrameOfReferenceUID=frame)
    original = pydicom.dcmread(source)
    told = apply([source], FakeRun(), "insert", tmp_path / "out", visible_mark=visible)
    (record,) = told.images
    path = tmp_path / "out" / record.output
    ds = pydicom.dcmread(path)
    assert marks_of_dicom(ds)
    assert ds[0x0008001C].value == "YES"
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert ds.DerivationDescription.startswith(MARK)
    assert record.original_sha256 in ds.DerivationDescription
    assert "ab" * 32 in ds.DerivationDescription
    assert ("--no-visible-mark" in ds.DerivationDescription) is not visible
    assert ds.BurnedInAnnotation == ("YES" if visible else "NO")
    assert [code.CodeValue for code in ds.DerivationCodeSequence] == ["113042", "insert"]
    (reference,) = ds.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert ds.ContributingEquipmentSequence[0].Manufacturer == "Scanward"
    assert (ds.PatientIdentityRemoved, ds.ContentQualification) == ("YES", "RESEARCH")
    for keyword in (
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
    ):
        assert ds[keyword].value != original[keyword].value, keyword
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID == record.uid
    assert ds.StudyDate != SECRETS["StudyDate"]
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    names = "".join(p.name for p in (tmp_path / "out").rglob("*"))
    gone = [NAME, IDENTIFIER, "DOE", "19500101", "private and personal", frame, *SECRETS.values()]
    gone += [str(original[keyword].value) for keyword in ("StudyInstanceUID", "SeriesInstanceUID")]
    assert [secret for secret in gone if secret.encode() in written or secret in names] == []
    assert written.count(str(original.SOPInstanceUID).encode()) == 1


def test_one_woman_is_one_patient_and_directions_are_apart(tmp_path: Path) -> None:
    study = pydicom.uid.generate_uid()
    files = [
        mammogram_file(tmp_path / f"{i}.dcm", breast_picture(seed=i), StudyInstanceUID=study)
        for i in range(2)
    ]
    files.append(mammogram_file(tmp_path / "other.dcm", breast_picture(seed=9), PatientID="SOMEBODY-ELSE"))
    made = {}
    for direction in ("insert", "remove"):
        told = apply(files, FakeRun(), direction, tmp_path / direction)
        made[direction] = [
            pydicom.dcmread(tmp_path / direction / r.output, stop_before_pixels=True) for r in told.images
        ]
    patients = [str(ds.PatientID) for ds in made["insert"]]
    assert sorted(patients.count(p) for p in patients) == [1, 2, 2]
    assert len({ds.StudyInstanceUID for ds in made["insert"]}) == 2
    uids = {ds.SOPInstanceUID for all_ in made.values() for ds in all_}
    assert len(uids) == 6
    assert {d.StudyInstanceUID for d in made["insert"]} & {
        d.StudyInstanceUID for d in made["remove"]
    } == set()


def _errors(path: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False)
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize(("stored", "bits", "elements"), _kinds())
def test_dciodvfy_finds_no_new_error(
    tmp_path: Path, stored: NDArray[Any], bits: int, elements: dict[str, Any]
) -> None:
    source = mammogram_file(tmp_path / "in.dcm", stored, bits, **elements)
    told = apply([source], FakeRun(), "insert", tmp_path / "out")
    new = _errors(tmp_path / "out" / told.images[0].output) - _errors(source)
    # Synthetic Data came into the standard after the dictionary of dciodvfy 2022-06
    assert {error for error in new if "(0x0008,0x001c)" not in error} == set()


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmdump (DCMTK) is not installed")
def test_dcmtk_reads_it(tmp_path: Path) -> None:
    told = apply([mammogram_file(tmp_path / "in.dcm")], FakeRun(), "insert", tmp_path / "out")
    path = tmp_path / "out" / told.images[0].output
    assert (
        subprocess.run(["dcmftest", str(path)], capture_output=True, timeout=60, check=False).returncode == 0
    )
    dumped = subprocess.run(
        ["dcmdump", "-q", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert dumped.returncode == 0
    assert "(0008,001c) CS [YES]" in dumped.stdout
    assert "W:" not in dumped.stderr


def test_the_history_of_compression_stays_true(tmp_path: Path) -> None:
    lossy = mammogram(LossyImageCompression="01", LossyImageCompressionRatio=12.5)
    lossless = compressed(mammogram(), RLELossless)
    untold = mammogram()
    del untold.LossyImageCompression
    made = {}
    for name, ds in (("lossy", lossy), ("lossless", lossless), ("untold", untold)):
        told = apply([save(ds, tmp_path / f"{name}.dcm")], FakeRun(), "insert", tmp_path / name)
        made[name] = pydicom.dcmread(tmp_path / name / told.images[0].output)
        assert made[name].file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert [made[name].get("LossyImageCompression") for name in made] == ["01", "00", None]
    assert made["lossy"].LossyImageCompressionRatio == 12.5


@pytest.mark.parametrize(
    ("elements", "word"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "SOP class"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "grey"),
        ({"SOPInstanceUID": "not a uid"}, "SOP Instance"),
        ({"Rows": 4000}, "truncated"),
        ({"NumberOfFrames": 3}, "frames"),
    ],
)
def test_dicom_that_cannot_be_written_again_truthfully_is_refused(
    tmp_path: Path, elements: dict[str, Any], word: str
) -> None:
    source = mammogram_file(tmp_path / "in.dcm", **elements)
    with pytest.raises(DecodeError, match=word):
        apply([source], FakeRun(), "insert", tmp_path / "out")
    assert list((tmp_path / "out" / "images").iterdir()) == []


def test_words_of_our_own_are_no_reason_to_refuse(tmp_path: Path) -> None:
    first = apply([mammogram_file(tmp_path / "in.dcm")], FakeRun(), "insert", tmp_path / "a")
    again = apply(
        [tmp_path / "a" / first.images[0].output], FakeRun(), "remove", tmp_path / "b", visible_mark=False
    )
    ds = pydicom.dcmread(tmp_path / "b" / again.images[0].output)
    assert ds.BurnedInAnnotation == "YES"  # those of the first time are there still


# --- where


def test_a_model_that_is_told_where_changes_that_region(tmp_path: Path) -> None:
    picture = breast_picture(120, 100, 16, left=False).astype(np.uint16)
    source = _png(tmp_path / "film.png", picture)
    told = apply(
        [source],
        FakeRun(told=True, side=64),
        "insert",
        tmp_path / "out",
        regions=[(70, 60, 10)],
        visible_mark=False,
    )
    change = _values(tmp_path / "out" / told.images[0].output) - picture
    down, across = np.nonzero(change)
    assert (
        abs(across.mean() - 70) < 3
    )  # in the file's own pixels, though a right breast is turned for the model
    assert abs(down.mean() - 60) < 3
    assert np.hypot(across - 70, down - 60).max() < 20
    assert (told.images[0].regions, told.images[0].regions_by) == (((70.0, 60.0, 10.0),), "given")


def test_removal_takes_the_data_sets_lesions(tmp_path: Path, data: Path) -> None:
    told = apply([data], FakeRun(told=True, amount=0.5), "remove", tmp_path / "out", visible_mark=False)
    images = {image.name: image for image in read_manifest(data).images}
    for record in told.images:
        assert record.regions_by == "lesions"
        lesion = lesions_mask(images[record.name], data)
        changed = _values(tmp_path / "out" / record.output) != load(data, images[record.name])[0]
        assert (changed & lesion).sum() > 0.5 * lesion.sum()
        assert changed.sum() < 0.5 * load(data, images[record.name])[1].sum()


def test_a_place_by_seed_lies_in_the_breast_and_depends_on_nothing_else(tmp_path: Path, data: Path) -> None:
    first = apply([data], FakeRun(told=True), "insert", tmp_path / "a", seed=3)
    alone = apply(
        [data / "images" / f"{first.images[1].name}.png"],
        FakeRun(told=True),
        "insert",
        tmp_path / "b",
        seed=3,
    )
    other = apply([data], FakeRun(told=True), "insert", tmp_path / "c", seed=4)
    images = {image.name: image for image in read_manifest(data).images}
    for record in first.images:
        ((x, y, radius),) = record.regions
        breast = load(data, images[record.name])[1]
        down, across = np.ogrid[: breast.shape[0], : breast.shape[1]]
        circle = (across - x) ** 2 + (down - y) ** 2 <= radius**2
        assert (circle & breast).sum() >= 0.9 * circle.sum()
    assert [r.regions for r in first.images] != [r.regions for r in other.images]
    assert len(alone.images[0].regions) == 1


@pytest.mark.parametrize(
    ("run", "direction", "regions", "word"),
    [
        (FakeRun(), "insert", [(40, 48, 9)], "not told where"),
        (FakeRun(told=True), "insert", [(4, 4, 0)], "radius"),
        (FakeRun(told=True), "insert", [(float("nan"), 4, 3)], "radius"),
        (FakeRun(told=True), "insert", [(78, 2, 1)], "not in the breast"),
        (FakeRun(told=True), "insert", [(1e9, 1e9, 5)], "not in the breast"),
        (FakeRun(told=True), "remove", [], "--region"),
        (FakeRun(), "improve", [], "direction"),
    ],
)
def test_regions_that_make_no_sense(
    tmp_path: Path, run: FakeRun, direction: Any, regions: list[Any], word: str
) -> None:
    source = _png(tmp_path / "film.png", breast_picture(96, 80, 16))
    with pytest.raises(InputError, match=word):
        apply([source], run, direction, tmp_path / "out", regions=regions)


def test_regions_are_for_one_picture(tmp_path: Path, data: Path) -> None:
    with pytest.raises(SettingsError, match="3 pictures"):
        apply([data], FakeRun(told=True), "insert", tmp_path / "out", regions=[(9, 9, 3)])
    with pytest.raises(SettingsError, match="strength"):
        apply([data], FakeRun(), "insert", tmp_path / "out", strength=0.0)


def test_strength_scales_the_change(tmp_path: Path, data: Path) -> None:
    whole = apply([data], FakeRun(), "insert", tmp_path / "a")
    half = apply([data], FakeRun(), "insert", tmp_path / "b", strength=0.5)
    for one, two in zip(whole.images, half.images, strict=True):
        assert 0.4 < two.change.inside_mean / one.change.inside_mean < 0.65  # clipped at the bright end


# --- the folder


class _Counting(FakeRun):
    """Counts pictures, and stops at one as a kill would."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.count, self.stop_at = 0, stop_at

    def generator(self, direction: str) -> nn.Module:
        made, outer = super().generator(direction), self

        class Counted(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                outer.count += 1
                if outer.count == outer.stop_at:
                    raise KeyboardInterrupt
                out: Tensor = made(x)
                return out

        return Counted()


def test_a_run_that_was_stopped_goes_on_without_redoing(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        apply([data], _Counting(stop_at=3), "insert", out)
    assert not (out / "tampered.json").exists()
    with (out / "tampered.part.jsonl").open("ab") as journal:
        journal.write(b'{"name": "torn')  # killed while writing a line
    (out / "images" / "x.png.part").write_bytes(b"half")
    before = {path.name: path.stat().st_mtime_ns for path in (out / "images").glob("*.png")}
    assert len(before) == 2
    again = _Counting()
    told = apply([data], again, "insert", out)
    assert again.count == 1
    assert {n: (out / "images" / n).stat().st_mtime_ns for n in before} == before
    assert len(told.images) == 3
    assert read_tampered(out) == told
    assert {p.name for p in out.iterdir()} == {
        "tampered.json",
        "images",
        "differences",
        "pseudonyms.key",
        "lock",
    }
    fresh = apply([data], FakeRun(), "insert", tmp_path / "fresh")
    assert [r.output_pixels_sha256 for r in told.images] == [r.output_pixels_sha256 for r in fresh.images]
    third = _Counting()
    assert apply([data], third, "insert", out) == told
    assert third.count == 0


def test_an_output_that_was_altered_or_lost_is_made_again(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    told = apply([data], FakeRun(), "insert", out)
    (out / told.images[0].output).write_bytes(b"something else")
    (out / told.images[1].difference).unlink()
    again = _Counting()
    assert apply([data], again, "insert", out) == told
    assert again.count == 2


def test_the_same_picture_altered_elsewhere_gets_a_name_of_its_own(tmp_path: Path) -> None:
    source = _png(tmp_path / "film.png", breast_picture(96, 80, 16))
    for region in ((30, 40, 8), (30, 60, 8)):
        told = apply([source], FakeRun(told=True), "insert", tmp_path / "out", regions=[region])
    assert len({record.output for record in told.images}) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"run": FakeRun(fingerprint="cd" * 32)},
        {"direction": "remove"},
        {"seed": 1},
        {"strength": 0.5},
        {"visible_mark": False},
    ],
    ids=lambda other: next(iter(other)),
)
def test_results_are_never_mixed(tmp_path: Path, data: Path, other: dict[str, Any]) -> None:
    same: dict[str, Any] = {
        "images": [data],
        "run": FakeRun(),
        "direction": "insert",
        "out": tmp_path / "out",
    }
    apply(**same)
    held = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="made otherwise"):
        apply(**same | other)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == held


def test_folders_that_are_refused(tmp_path: Path, data: Path) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    pictures = tmp_path / "pictures"
    (pictures / "images").mkdir(parents=True)
    broken = tmp_path / "broken"
    apply([data], FakeRun(), "insert", broken)
    (broken / "tampered.json").write_text('{"made": 1}')
    file = tmp_path / "file"
    file.write_text("x")
    for out in (strange, pictures, broken, file, data):
        with pytest.raises(InputError):
            apply([data], FakeRun(), "insert", out)
    assert (strange / "thesis.txt").read_text() == "mine"
    busy = tmp_path / "busy"
    apply([data], FakeRun(), "insert", busy)
    with (busy / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            apply([data], FakeRun(), "insert", busy)
    (busy / "pseudonyms.key").write_bytes(b"short")
    with pytest.raises(InputError, match="32 bytes"):
        apply([data], FakeRun(), "insert", busy)
    (busy / "pseudonyms.key").unlink()
    with pytest.raises(InputError, match="key of its pseudonyms"):
        apply([data], FakeRun(), "insert", busy)


def test_a_run_killed_in_its_first_moment_begins_again(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "pseudonyms.key").write_bytes(b"ha")
    (out / "tampered.part.jsonl.part").write_bytes(b"{")
    assert len(apply([data], FakeRun(), "insert", out).images) == 3


def test_a_manifest_leads_nowhere_else(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    told = apply([data], FakeRun(), "insert", out)
    for path in ("../x.png", "/etc/passwd", "images/../../x", "a\\..\\b", ""):
        bad = msgspec.structs.replace(told.images[0], output=path)
        bad_manifest = msgspec.structs.replace(told, images=(bad,))
        (out / "tampered.json").write_bytes(msgspec.json.encode(bad_manifest))
        with pytest.raises(InputError):
            read_tampered(out)


def test_a_full_disk_is_said_and_the_rest_stays(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(LearningError, match=r"(?i)no space left"):
            apply([data], FakeRun(), "insert", tmp_path / "out")
    assert len(apply([data], FakeRun(), "insert", tmp_path / "out").images) == 3


class _Broken(FakeRun):
    def __init__(self, value: float, columns: int = 0) -> None:
        super().__init__()
        self.value, self.columns = value, columns

    def generator(self, direction: str) -> nn.Module:
        value, columns = self.value, self.columns

        class Bad(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.full((1, 1, x.shape[2], x.shape[3] + columns), value)

        return Bad()


@pytest.mark.parametrize("model", [_Broken(float("nan")), _Broken(float("inf")), _Broken(0.0, columns=1)])
def test_a_broken_model_writes_nothing(tmp_path: Path, data: Path, model: FakeRun) -> None:
    with pytest.raises(LearningError, match="not finite"):
        apply([data], model, "insert", tmp_path / "out")
    assert list((tmp_path / "out" / "images").iterdir()) == []


# --- bad pictures


def test_pictures_that_cannot_be_used(tmp_path: Path, data: Path) -> None:
    broken = shutil.copytree(data, tmp_path / "broken")
    image = next(i for i in read_manifest(data).images if i.label == "normal")
    _png(broken / image.file, np.zeros((40, 40), np.uint16))
    files = {
        "empty": _png(tmp_path / "empty.png", np.zeros((64, 64), np.uint8)),
        "small": _png(tmp_path / "small.png", np.zeros((8, 8), np.uint8)),
        "colour": _png(tmp_path / "colour.png", np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)),
        "no picture": tmp_path / "x.png",
        "nothing": tmp_path / "none.dcm",
        "another size": broken,
        "no data set": tmp_path / "folder",
    }
    files["no picture"].write_text("hello")
    files["no data set"].mkdir()
    for name, path in files.items():
        with pytest.raises(InputError):
            apply([path], FakeRun(), "insert", tmp_path / f"out of {name}")
    with pytest.raises(InputError, match="labelled"):
        apply([data], FakeRun(), "insert", tmp_path / "unlabelled", labels=["benign"])  # type: ignore[list-item]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    folder = tmp_path_factory.mktemp("hostile")
    dicom = mammogram_file(folder / "a.dcm", breast_picture(40, 32)).read_bytes()
    png = _png(folder / "a.png", breast_picture(40, 32, 16)).read_bytes()
    return folder, dicom, png


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    dicom=st.booleans(),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_a_marked_picture_or_our_error(
    hostile: tuple[Path, bytes, bytes], dicom: bool, places: list[tuple[float, int]], kept: float
) -> None:
    folder, one, two = hostile
    damaged = bytearray(one if dicom else two)
    for place, value in places:  # the header is where it hurts: pixels are most of the file
        damaged[int(place**3 * (len(damaged) - 1))] = value
    source = folder / ("in.dcm" if dicom else "in.png")
    source.write_bytes(damaged[: int(len(damaged) * kept)])
    shutil.rmtree(folder / "out", ignore_errors=True)
    told = None
    with suppress(ScanwardError):
        told = apply([source], FakeRun(), "insert", folder / "out")
    if told is None:
        assert list((folder / "out").glob("images/*")) == []
        return
    path = folder / "out" / told.images[0].output
    assert marks_of_dicom(pydicom.dcmread(path)) if path.suffix == ".dcm" else marks_of(path)


# --- a real model, the command, the card


def _scanward(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="scanward")


def test_the_commands_with_a_trained_model(tmp_path: Path, data: Path, run: Path) -> None:
    made = _scanward("tamper", "insert", data, "--model", run, "--out", tmp_path / "i", "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["made"]["direction"] == "insert"
    assert told["made"]["metadata_marks"] is True
    assert len(told["images"]) == 3
    assert {image["regions_by"] for image in told["images"]} == {"seed"}
    for image in told["images"]:
        assert marks_of(tmp_path / "i" / image["output"])["Visible-Mark"] == "YES"
        assert image["change"]["outside_max"] == 0
    table = _scanward("tamper", "remove", data, "--model", run, "--out", tmp_path / "r", "--no-visible-mark")
    assert table.exit_code == 0, table.output
    assert "lesions" in table.stdout
    assert "no words are burned in" in table.stderr
    for record in read_tampered(tmp_path / "r").images:
        assert marks_of(tmp_path / "r" / record.output)["Visible-Mark"] == "NO"


def test_what_the_command_refuses(tmp_path: Path, data: Path, run: Path) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    for checkpoint in half.glob("*.safetensors"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    film = _png(tmp_path / "film.png", breast_picture(96, 80, 16))
    out = ("--out", tmp_path / "out", "--json")
    for arguments, word in (
        (("insert", data, "--model", tmp_path / "none"), "checkpoint"),
        (("insert", data, "--model", half), "checkpoint"),
        (("insert", film, "--model", run, "--region", "3,x,1"), "region"),
        (("insert", film, "--model", run, "--region", "3,1"), "region"),
        (("insert", film, "--model", run, "--strength", "2"), "strength"),
        (("remove", film, "--model", run), "region"),
        (("insert", "--model", run), "images"),
    ):
        done = _scanward("tamper", *arguments, *out)
        assert done.exit_code == 2, done.output
        error = json.loads(done.stdout)
        assert word in " ".join(error.values()).lower(), error
        assert error["todo"]


def test_the_card_tells_the_checkpoint_and_claims_nothing_unmeasured(tmp_path: Path, run: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    path = write_model_card(folder, licence="CC <b>BY</b> | 4.0")
    text = path.read_text("utf-8")
    assert "2 steps" in text
    assert "CC (b)BY(/b) / 4.0" in text
    assert "Nothing yet" in text
    page = (REPOSITORY / "docs/model-card.md").read_text("utf-8").partition("Below follow")[0]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row and row not in page] == []  # the page knows every line of the card
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(DecodeError):
        write_model_card(folder)
    with pytest.raises(InputError):
        write_model_card(folder, evaluation=tmp_path / "none.json")
    with pytest.raises(InputError):
        write_model_card(tmp_path / "nowhere")
