"""What is altered and what is left alone: padding, folders of folders, lesions without a place, odd orders."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image as Pil
from pydicom import dcmread
from pydicom.dataelem import DataElement
from torch import nn

from _mammo import breast_picture, dataset, save
from scanward.errors import InputError, SettingsError
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering import outputs
from scanward.tampering.applying import NoPlaceError, apply
from scanward.tampering.checkpoints import Direction
from scanward.tampering.marking import marks_of
from scanward.tampering.presets import Preset, change, find


class Brighter(nn.Module):
    """Adds the same to every pixel, so that every pixel of the breast is changed."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :1] + self.by).clamp(-1, 1)


class Model:
    """A model without training; ``told`` makes it one that must be told where."""

    step = 2

    def __init__(
        self, by: float = 0.3, *, told: bool = False, name: str = "", fingerprint: str = "ab"
    ) -> None:
        preset = change(find("scanward-64" if told else "reference-64"), {"rows": "32", "columns": "32"})
        self.preset: Preset = msgspec.structs.replace(preset, name=name or preset.name)
        self.fingerprint = fingerprint * 32
        self._by = by

    def generator(self, direction: Direction) -> nn.Module:
        return Brighter(self._by if direction == "insert" else -self._by)


def films(folder: Path, number: int = 2) -> Path:
    folder.mkdir()
    for seed in range(number):
        Pil.fromarray(breast_picture(64, 48, bits=16, seed=seed)).save(folder / f"film-{seed}.png")
    return folder


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_change_never_makes_padding_of_tissue(tmp_path: Path, photometric: str) -> None:
    stored = np.minimum(breast_picture(), 3600)
    end = 4095 if photometric == "MONOCHROME2" else 0
    if photometric == "MONOCHROME1":
        stored = (4095 - stored.astype(np.int32)).astype(np.uint16)
    stored[:8, 60:] = end
    limit = 4090 if end else 5
    ds = dataset(
        stored,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=end,
        PixelPaddingRangeLimit=limit,
    )
    path = save(ds, tmp_path / "a.dcm")
    told = apply([path], Model(1.9), "insert", tmp_path / "out", visible_mark=False)
    made = dcmread(tmp_path / "out" / told.images[0].output).pixel_array
    low, high = sorted((end, limit))
    padding = (stored >= low) & (stored <= high)
    assert np.array_equal((made >= low) & (made <= high), padding)
    assert np.array_equal(made[padding], stored[padding])
    assert told.images[0].change.inside_max > 0
    brightest = made[~padding].max() if end else made[~padding].min()
    assert brightest == (4089 if end else 6), "the change saturates at the last value that is a grey value"


def test_outputs_are_not_taken_for_originals(tmp_path: Path) -> None:
    src = films(tmp_path / "films")
    out = src / "out"
    first = apply([src], Model(), "insert", out)
    again = apply([src], Model(), "insert", out)
    assert [r.name for r in again.images] == [r.name for r in first.images]
    assert len(first.images) == 2
    # another model may be applied to what came out, but maps of differences are no mammograms
    chained = apply([out], Model(fingerprint="cd"), "remove", tmp_path / "chained")
    assert {r.original_sha256 for r in chained.images} == {r.output_sha256 for r in first.images}


def test_a_data_set_goes_on_where_one_lesion_has_no_place(tmp_path: Path) -> None:
    folder = tmp_path / "phantoms"
    write_phantoms(folder, patients=4, rows=32, columns=32, seed=1)
    told = json.loads((folder / "manifest.json").read_text())
    cancers = [image for image in told["images"] if image["label"] == "malignant"]
    cancers[0]["lesions"] = [{"kind": "mass", "label": "malignant"}]
    (folder / "manifest.json").write_text(json.dumps(told))
    done = apply([folder], Model(told=True), "remove", tmp_path / "out")
    assert [record.name for record in done.images] == [image["name"] for image in cancers[1:]]
    assert len(done.left_out) == 1
    assert done.left_out[0].startswith(f"{cancers[0]['name']}: ")
    assert outputs.read_tampered(tmp_path / "out") == done
    for image in cancers[1:]:
        image["lesions"] = []
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(NoPlaceError, match="nothing says where"):
        apply([folder], Model(told=True), "remove", tmp_path / "none")


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_run_killed_before_or_after_its_journal_goes_on(tmp_path: Path, at: int) -> None:
    src, out = films(tmp_path / "films", 1), tmp_path / "out"
    pid = os.fork()
    if pid == 0:  # what is synced first: the key, the journal, the picture, its map of differences
        calls = iter(range(1, 100))
        os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == at else None
        try:
            apply([src], Model(), "insert", out)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(apply([src], Model(), "insert", out).images) == 1


@pytest.mark.parametrize("name", ["images", "differences", "tampered.json"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    src, out = films(tmp_path / "films", 1), tmp_path / "out"
    apply([src], Model(), "insert", out)
    elsewhere = tmp_path / "elsewhere"
    (out / name).rename(elsewhere)
    (out / name).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*")), elsewhere.stat().st_mtime_ns
    with pytest.raises(InputError, match="link"):
        apply([films(tmp_path / "more", 2)], Model(), "insert", out)
    assert (sorted(elsewhere.rglob("*")), elsewhere.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    "region",
    [(1e300, 5.0, 1.0), (5.0, 5.0, 1e300), (5.0, float("nan"), 1.0), (5.0, 5.0, float("inf")), (5, 5, 0)],
)
def test_regions_that_no_picture_has_are_refused(tmp_path: Path, region: tuple[float, float, float]) -> None:
    path = films(tmp_path / "films", 1) / "film-0.png"
    with pytest.raises(SettingsError, match="region"):
        apply([path], Model(told=True), "insert", tmp_path / "out", regions=[region])
    assert not (tmp_path / "out").exists()


def test_numbers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = films(tmp_path / "films", 1) / "film-0.png"
    with pytest.raises(SettingsError, match="seed"):
        apply([path], Model(told=True), "insert", tmp_path / "out", seed=-1)
    with pytest.raises(SettingsError, match="regions"):
        apply([path], Model(told=True), "insert", tmp_path / "out", regions=[(5.0, 5.0, 1.0)] * 1001)


@pytest.mark.parametrize("name", ["a; Synthetic: NO; Visible-Mark: NO", "n" * 5000, "back\\slash\nline\0"])
def test_no_name_of_a_preset_talks_the_marks_away(tmp_path: Path, name: str) -> None:
    picture = breast_picture(64, 48, bits=16)
    Pil.fromarray(picture).save(tmp_path / "a.png")
    Pil.fromarray(picture).save(tmp_path / "a.tif", compression="tiff_deflate")
    save(dataset(breast_picture(64, 48)), tmp_path / "a.dcm")
    for number, file in enumerate(("a.png", "a.tif", "a.dcm")):
        out = tmp_path / str(number)
        record = apply([tmp_path / file], Model(name=name), "insert", out).images[0]
        if file.endswith("dcm"):
            assert "words burned in" in dcmread(out / record.output).DerivationDescription
        else:
            assert marks_of(out / record.output)["Visible-Mark"] == "YES"


def test_an_attribute_of_the_wrong_kind_stays_behind(tmp_path: Path) -> None:
    ds = dataset(breast_picture(64, 48))
    ds[0x00082218] = DataElement(0x00082218, "OB", b"SECRET^NAME!")  # AnatomicRegionSequence
    ds[0x00180060] = DataElement(0x00180060, "LO", "SECRET^NAME!")  # KVP
    path = save(ds, tmp_path / "a.dcm")
    record = apply([path], Model(), "insert", tmp_path / "out").images[0]
    assert b"SECRET" not in (tmp_path / "out" / record.output).read_bytes()
    assert b"SECRET" in path.read_bytes()


def test_which_original_became_which_output_is_told_and_not_written(tmp_path: Path) -> None:
    src, out = films(tmp_path / "films"), tmp_path / "out"
    told: dict[Path, str] = {}
    for _ in range(2):  # of what is done already, too
        told.clear()
        apply([src], Model(), "insert", out, tell=lambda path, record: told.update({path: record.name}))
        assert sorted(told) == sorted(src.iterdir())
    assert len(set(told.values())) == 2
    assert "film" not in (out / "tampered.json").read_text()
    shutil.rmtree(out)
