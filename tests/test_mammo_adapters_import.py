"""Every published kind from its folder to a data set: books, labels, sides, and masks that lie on the drawn lesions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import _mammo_layouts as layouts
from scanward.mammography import Manifest, read_manifest
from scanward.mammography.importing import import_dataset
from scanward.mammography.kinds import KINDS
from scanward.mammography.pictures import lesions_mask, load

BRIGHT = layouts.BRIGHT << 8  # of a drawn lesion, in 16 bits, whatever the depth of the file


def imported(name: str, src: Path, out: Path) -> Manifest:
    import_dataset(KINDS[name], src, out)
    return read_manifest(out)


def check_places(manifest: Manifest, out: Path) -> int:
    """Every image with located lesions: its drawn lesions lie in the mask, and fill most of it. How many there were."""
    count = 0
    for image in manifest.images:
        pixels, breast = load(out, image, verify=True)
        mask = lesions_mask(image, out)
        bright = pixels == BRIGHT
        if not mask.any():
            continue
        count += 1
        assert bright.any()
        assert (bright & mask).sum() >= 0.9 * bright.sum(), f"{image.name}: the mask is beside the lesion"
        assert (bright & mask).sum() >= 0.4 * mask.sum(), (
            f"{image.name}: the mask is much larger than the lesion"
        )
        assert breast[bright].all()
        assert breast[:, :4].sum() > breast[:, -4:].sum(), f"{image.name}: the chest wall is not on the left"
    return count


# kind, builder; then of the data set: labels, sides, images with located lesions, books (listed, rejected, missing,
# duplicate), patients.
CASES: tuple[tuple[str, Callable[[Path], Path], dict[str, int], str, int, tuple[int, ...], int], ...] = (
    ("mias", layouts.mias, {"normal": 3, "benign": 3, "malignant": 2}, "RLRLRLRL", 3, (8, 0, 0, 0), 5),
    ("mias-png", layouts.mias_png, {"normal": 1, "benign": 1, "malignant": 2}, "RLRL", 2, (4, 0, 0, 0), 2),
    ("inbreast", layouts.inbreast, {"normal": 1, "benign": 2, "malignant": 2}, "RLRLR", 4, (5, 0, 0, 0), 2),
    (
        "bcdr",
        layouts.bcdr,
        {"normal": 2, "unknown": 2, "benign": 1, "malignant": 1},
        "LLRRLL",
        2,
        (6, 0, 0, 0),
        2,
    ),
    ("cbis-ddsm", layouts.cbis_ddsm, {"benign": 2, "malignant": 2}, "LLRR", 4, (5, 0, 0, 1), 3),
    ("vindr", layouts.vindr, {"normal": 2, "benign": 2, "malignant": 2}, "LLRRLR", 3, (6, 0, 0, 0), 2),
    ("cmmd", layouts.cmmd, {"benign": 3, "malignant": 2, "unknown": 1}, "RRLRLR", 0, (6, 0, 0, 0), 3),
)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_from_folder_to_data_set(tmp_path: Path, case: tuple[object, ...]) -> None:
    name, build, labels, sides, located, books, patients = case
    assert isinstance(name, str)
    assert callable(build)
    manifest = imported(name, build(tmp_path / "src"), tmp_path / "out")
    kept = manifest.books
    assert kept.balance()
    assert (kept.listed, kept.rejected, kept.missing, kept.duplicate) == books, manifest.odd
    assert Counter(str(image.label) for image in manifest.images) == labels
    assert Counter(image.laterality for image in manifest.images) == Counter(str(sides))
    assert len(manifest.patients()) == patients
    assert check_places(manifest, tmp_path / "out") == located
    for image in manifest.images:
        assert image.mirrored == (image.laterality == "R"), image.name


def test_every_published_kind_has_a_case() -> None:
    published = {name for name, kind in KINDS.items() if kind.labels == "none" and not kind.phantom}
    assert published == {case[0] for case in CASES}
    for name in published:
        assert KINDS[name].cite
        assert KINDS[name].layout
        assert not KINDS[name].identifying


def test_missing_pictures_are_in_the_books(tmp_path: Path) -> None:
    src = layouts.vindr(tmp_path / "src")
    next((src / "images").rglob("*.dicom")).unlink()
    kept = imported("vindr", src, tmp_path / "out").books
    assert (kept.listed, kept.imported, kept.missing) == (6, 5, 1)


def test_a_mask_of_cbis_goes_with_its_film(tmp_path: Path) -> None:
    manifest = imported("cbis-ddsm", layouts.cbis_ddsm(tmp_path / "src"), tmp_path / "out")
    film = next(image for image in manifest.images if image.name == "P_00016_R_CC")
    assert film.mirrored
    assert film.lesions[0].raster is not None
    mask = lesions_mask(film, tmp_path / "out")
    down, right = (float(np.mean(axis)) for axis in np.nonzero(mask))
    assert (round(right), round(down)) == (96 - 1 - 60, 50)


def test_some_real_films(tmp_path: Path, shared_data: Path) -> None:
    """Twelve films of the real copies: the side by the picture is that of the list, and lesions lie in the breast."""
    real = shared_data / "mammography" / "mias"
    if not real.is_dir():
        pytest.skip(f"no MIAS copies at {real}")
    src = tmp_path / "src"
    (src / "images").mkdir(parents=True)
    wanted = [f"images/mdb{film:03d}.png" for film in (1, 2, 3, 5, 10, 28, 59, 132, 184, 202, 216, 226)]
    for table in ("labels.csv", "lesions.csv"):
        with (real / table).open(newline="") as file:
            rows = [row for row in csv.reader(file) if row[0] in ("image", *wanted)]
        with (src / table).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    for film in wanted:
        (src / film).symlink_to(real / film)
    manifest = imported("mias-png", src, tmp_path / "out")
    assert manifest.books.imported == len(wanted)
    assert all(image.mirrored == (image.laterality == "R") for image in manifest.images)
    for image in manifest.images:
        _, breast = load(tmp_path / "out", image)
        mask = lesions_mask(image, tmp_path / "out")
        if mask.any():
            assert (mask & breast).sum() >= 0.8 * mask.sum(), image.name
