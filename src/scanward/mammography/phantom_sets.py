"""Whole data sets of phantoms, in memory or as a folder like any other data set, with the truth of each picture.

Beside what every data set has (`scanward.mammography.manifest`) a folder of phantoms holds

::

    OUT/healthy/NAME.png     16-bit, of a picture with a lesion: the same woman without it
    OUT/lesioned/NAME.png    16-bit, of a picture without one: the same woman with a malignant lesion
    OUT/lesioned/NAME-1.png  8-bit, 255 inside that lesion
    OUT/pectoral/NAME.png    8-bit, 255 inside the pectoral muscle; none for a craniocaudal view

Woman number i of a seed is the same however many are drawn with her.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as altered
from numpy.typing import NDArray

from scanward.config import PHANTOM_BOUNDS
from scanward.errors import DecodeError, SettingsError
from scanward.mammography.import_folder import FOLDERS, HEALTHY, LESIONED, PECTORAL, claimed
from scanward.mammography.import_one import writing
from scanward.mammography.manifest import Books, Image, Label, Manifest, pixels_hash, write_manifest
from scanward.mammography.phantom import Phantom, phantom
from scanward.mammography.phantom_lesions import draw_growth
from scanward.mammography.pictures import Mask, Pixels, lesions_mask, read_picture, write_picture

KIND = "phantom"
LICENCE = "made by Scanward, Apache-2.0"
_AGAIN = "make the phantoms again: scanward mammo phantom"
_WOMAN, _DENSITY = 4, "ABCD"  # her stream of random numbers: `scanward.mammography.phantom` uses 0 to 3

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One picture of a set: ``shown``, and ``twin``, the same breast in the other state.

    The twin of a breast with a lesion is without it; that of a healthy one has a malignant lesion. Both have the same
    tissue and the same noise, so they differ where the lesion is and nowhere else.
    """

    name: str
    patient: str
    number: int  # of the woman, from 1
    shown: Phantom
    twin: Phantom

    @property
    def truth(self) -> Truth:
        """As `read_truth` gives it."""
        return Truth(self.twin.picture, self.shown.lesion | self.twin.lesion, self.shown.muscle)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What a phantom knows of itself: ``twin`` in the other state, where its or its twin's ``lesion`` lies, and where
    the pectoral muscle does (empty in a craniocaudal view). All (rows, columns) of the picture.
    """

    twin: Pixels
    lesion: Mask
    pectoral: Mask


def draw_phantoms(
    *,
    patients: int,
    rows: int = 64,
    columns: int = 64,
    seed: int = 0,
    prevalence: float = 0.5,
    benign: float = 0.0,
    contrast: float = 1.0,
    views: Sequence[str] = ("MLO",),
    both_breasts: bool = False,
) -> Iterator[Drawn]:
    """Draw the pictures of ``patients`` women, one after the other; nothing is kept.

    Parameters
    ----------
    prevalence, benign : float
        Shares of women with a malignant and with a benign lesion, exact to within one woman of any first n.
    contrast : float
        Brightness of lesions, as a multiple of what is usual.
    views : of "MLO", "CC"
        One picture of a breast in each. They have build and lesion in common, not tissue: they are no projections of
        one volume.
    both_breasts : bool
        Both breasts of each woman, a lesion in one of them; otherwise one breast, left or right by chance.

    Raises
    ------
    SettingsError
        Sizes, counts or shares that cannot be drawn.
    """
    _check(patients, seed, prevalence, benign, contrast, views)
    labels = _labels(
        {Label.MALIGNANT: prevalence, Label.BENIGN: benign, Label.NORMAL: 1 - prevalence - benign}
    )
    for number, label in zip(range(1, patients + 1), labels, strict=False):
        random = np.random.default_rng([seed, number, _WOMAN])
        side = "LR"[int(random.integers(2))]
        growth = draw_growth(random, Label.MALIGNANT if label is Label.NORMAL else label, contrast=contrast)
        patient = f"phantom-{seed}-{number:05d}"
        for laterality in "LR" if both_breasts else side:
            here = growth if laterality == side else replace(growth, label=Label.MALIGNANT)
            for view in views:
                ill = phantom(
                    (seed, number), rows, columns, lesions=(here,), laterality=laterality, view=view
                )
                pair = (ill, without_lesions(ill))
                shown, twin = pair if label is not Label.NORMAL and laterality == side else pair[::-1]
                yield Drawn(f"{patient}-{laterality}-{view}", patient, number, shown, twin)


def without_lesions(drawn: Phantom) -> Phantom:
    """The same breast without its lesions, noise and all."""
    return replace(
        drawn,
        picture=drawn.healthy,
        lesion=np.zeros_like(drawn.lesion),
        lesions=(),
        masks=(),
        label=Label.NORMAL,
    )


def write_phantoms(
    out: Path,
    *,
    patients: int,
    rows: int = 64,
    columns: int = 64,
    seed: int = 0,
    prevalence: float = 0.5,
    benign: float = 0.0,
    contrast: float = 1.0,
    views: Sequence[str] = ("MLO",),
    both_breasts: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write a data set of phantoms to ``out``; see `draw_phantoms`. The manifest is written last.

    Raises
    ------
    SettingsError
        What `draw_phantoms` refuses; ``out`` holds a data set (unless ``force``) or something else.
    OutputError
        The disk is full or read-only. No manifest is left.
    """
    _check(patients, seed, prevalence, benign, contrast, views)
    total = patients * len(views) * (2 if both_breasts else 1)
    images: list[Image] = []
    pictures = draw_phantoms(
        patients=patients,
        rows=rows,
        columns=columns,
        seed=seed,
        prevalence=prevalence,
        benign=benign,
        contrast=contrast,
        views=views,
        both_breasts=both_breasts,
    )
    first = next(pictures)  # a size that cannot be drawn is refused before anything is touched
    with claimed(out, None, force=force, folders=(*FOLDERS, HEALTHY, LESIONED, PECTORAL)):
        for drawn in _after(first, pictures):
            with writing(out):
                images.append(_write(out, drawn, seed))
            if progress is not None:
                progress(len(images), total)
        manifest = Manifest(
            kind=KIND,
            phantom=True,
            licence=LICENCE,
            cite="",
            images=tuple(images),
            books=Books(listed=len(images), imported=len(images)),
        )
        with writing(out):
            write_manifest(out, manifest)
    return manifest


def read_truth(folder: Path, image: Image) -> Truth | None:
    """The truth of one phantom of a data set; None where its folder has none, as with pictures of human beings.

    Raises
    ------
    DecodeError
        A file of the truth is damaged, or of another size than the picture.
    InputError
        A part of the truth is missing.
    """
    name, shape = f"{image.name}.png", (image.rows, image.columns)
    path = folder / (HEALTHY if image.lesions else LESIONED) / name
    if not path.exists():
        return None
    twin = _read(path, shape)
    if twin.dtype != np.uint16:
        raise DecodeError("the truth is not 16 bit as the picture", str(path), _AGAIN)
    place = path.with_name(f"{image.name}-1.png")
    lesion = lesions_mask(image, folder) if image.lesions else _read(place, shape) > 0
    muscle = np.zeros(shape, np.bool_) if image.view == "CC" else _read(folder / PECTORAL / name, shape) > 0
    return Truth(twin.astype(np.uint16, copy=False), lesion, muscle)


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    picture = read_picture(path)
    if picture.shape != shape:
        raise DecodeError(f"the truth is not of {shape} as the picture", str(path), _AGAIN)
    return picture


def _write(out: Path, drawn: Drawn, seed: int) -> Image:
    """Write one picture, its breast, its lesions and its twin."""
    shown, twin, name = drawn.shown, drawn.twin, drawn.name
    image = Image(
        name=name,
        patient=drawn.patient,
        label=shown.label,
        file=f"images/{name}.png",
        breast=f"breast/{name}.png",
        rows=shown.picture.shape[0],
        columns=shown.picture.shape[1],
        sha256=pixels_hash(shown.picture.tobytes()),
        source=f"phantom: seed {seed}, woman {drawn.number}",
        laterality=shown.laterality,
        view=shown.view,
        density=_DENSITY[min(int(4 * shown.density), 3)],
        spacing=(shown.spacing, shown.spacing),
        mirrored=shown.laterality == "R",  # as a right breast is imaged, its chest wall would be on the right
        lesions=tuple(
            altered(one, raster=f"lesions/{name}-{i}.png") for i, one in enumerate(shown.lesions, start=1)
        ),
    )
    write_picture(out / image.file, shown.picture)
    write_picture(out / image.breast, shown.breast)
    for one, mask in zip(image.lesions, shown.masks, strict=True):
        assert one.raster is not None
        write_picture(out / one.raster, mask)
    write_picture(out / (HEALTHY if shown.lesions else LESIONED) / f"{name}.png", twin.picture)
    if twin.lesions:
        write_picture(out / LESIONED / f"{name}-1.png", twin.lesion)
    if shown.view != "CC":
        write_picture(out / PECTORAL / f"{name}.png", shown.muscle)
    return image


def _after(first: Drawn, others: Iterator[Drawn]) -> Iterator[Drawn]:
    yield first
    yield from others


def _labels(shares: Mapping[Label, float]) -> Iterator[Label]:
    """Labels without end, each time the one that lacks most of its share."""
    given = dict.fromkeys(shares, 0)
    total = 0
    while True:
        total += 1
        chosen = max(shares, key=lambda label: round(shares[label] * total - given[label], 9))
        given[chosen] += 1
        yield chosen


def _check(
    patients: int, seed: int, prevalence: float, benign: float, contrast: float, views: Sequence[str]
) -> None:
    if not 1 <= patients <= PHANTOM_BOUNDS.patients:
        raise SettingsError(f"{patients} women", "--patients", f"give 1 to {PHANTOM_BOUNDS.patients}")
    if not 0 <= seed < 1 << 32:  # one word of a SeedSequence, so that no two sets share a woman
        raise SettingsError(f"seed {seed}", "--seed", f"give 0 to {(1 << 32) - 1}")
    if not (prevalence >= 0 and benign >= 0 and prevalence + benign <= 1 + 1e-9):
        raise SettingsError(
            f"shares of {prevalence} malignant and {benign} benign",
            "--prevalence, --benign",
            "give shares of 0 to 1 that together are not above 1",
        )
    low, high = PHANTOM_BOUNDS.contrast_least, PHANTOM_BOUNDS.contrast
    if not (math.isfinite(contrast) and low <= contrast <= high):
        raise SettingsError(f"a contrast of {contrast}", "--contrast", f"give {low} to {high}")
    if not views or len(set(views)) != len(views):
        raise SettingsError(f"the views {', '.join(views) or 'none'}", "--view", "give MLO, CC, or both once")
