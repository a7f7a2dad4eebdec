"""A data set made ready for a model: every picture once at the model's size, in files that memory is mapped to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scanward.errors import InputError, LearningError, SettingsError
from scanward.mammography.manifest import Image, Label, Manifest, read_manifest
from scanward.mammography.pictures import lesions_mask, load
from scanward.mammography.splits import Split, check_split
from scanward.tampering.checkpoints import marks
from scanward.tampering.presets import Preset
from scanward.tampering.scaling import BRIGHT, MARGIN, QUARTILE, WHITE, mask_to_model, to_model

Progress = Callable[[int, int], None]
_TYPES: dict[str, type[np.generic]] = {"grey": np.int16, "breast": np.uint8, "region": np.uint8}
REGION_MARGIN = 1  # px at the model's size that a region reaches beyond the lesion's outline


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images of a data set a run learns from, and which labels make the two domains."""

    healthy: tuple[Label, ...] = (Label.NORMAL,)
    cancer: tuple[Label, ...] = (Label.MALIGNANT,)
    part: str | None = None  # part of the split
    birads_not: tuple[int, ...] = ()  # BI-RADS categories left out (experiment2 of the study drops 3)

    def domain(self, image: Image) -> str | None:
        """``healthy``, ``cancer``, or None for an image that is in neither."""
        if image.birads is not None and image.birads in self.birads_not:
            return None
        if image.label in self.healthy:
            return "healthy"
        return "cancer" if image.label in self.cancer else None


@dataclass(frozen=True, slots=True)
class Domain:
    """One side of the CycleGAN: pictures (N, rows, columns) int16, -32767..32767 for -1..1, and masks (uint8)."""

    names: tuple[str, ...]
    patients: tuple[str, ...]
    grey: NDArray[np.int16]
    breast: NDArray[np.uint8]
    region: NDArray[np.uint8]  # lesions where they are known, else empty

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both domains and what they were made of."""

    healthy: Domain
    cancer: Domain
    fingerprint: str  # of pictures, labels, preset's size and selection
    kind: str
    phantom: bool
    pictures: frozenset[str] = frozenset()  # `scanward.tampering.checkpoints.marks` of all of them

    def patients(self) -> set[str]:
        """Pseudonyms of everybody that the run learns from."""
        return {*self.healthy.patients, *self.cancer.patients}


def choose(
    manifest: Manifest, selection: Selection, views: Sequence[str] = (), split: Split | None = None
) -> dict[str, list[Image]]:
    """Images of both domains.

    Raises
    ------
    SettingsError
        A label in both domains, or a part that the split does not have.
    LeakError
        The split has a patient, or a picture, in two parts.
    InputError
        A domain without images: what labels and views there are is said.
    """
    if set(selection.healthy) & set(selection.cancer):
        raise SettingsError("a label is in both domains", "--healthy, --cancer", "give each label once")
    wanted: set[str] | None = None
    if split is not None:
        check_split(manifest, split)
        if selection.part is None or selection.part not in split.parts:
            raise SettingsError(
                f"the split has no part {selection.part!r}", "--part", f"use one of: {', '.join(split.parts)}"
            )
        wanted = set(split.parts[selection.part])
    chosen: dict[str, list[Image]] = {"healthy": [], "cancer": []}
    for image in manifest.images:
        domain = selection.domain(image)
        if domain is None or (wanted is not None and image.patient not in wanted):
            continue
        if views and image.view not in views:
            continue
        chosen[domain].append(image)
    _refuse_empty(chosen, manifest, selection, views)
    return chosen


def _refuse_empty(
    chosen: dict[str, list[Image]], manifest: Manifest, selection: Selection, views: Sequence[str]
) -> None:
    empty = [name for name, images in chosen.items() if not images]
    if not empty:
        return
    counts: dict[str, int] = {}
    for image in manifest.images:
        counts[image.label.value] = counts.get(image.label.value, 0) + 1
    there = ", ".join(f"{number} {label}" for label, number in sorted(counts.items())) or "none"
    wanted = {"healthy": selection.healthy, "cancer": selection.cancer}
    asked = "; ".join(f"{name} needs {' or '.join(wanted[name])}" for name in empty)
    raise InputError(
        f"the domain {' and the domain '.join(empty)} has no image: {asked}"
        + (f" in view {' or '.join(views)}" if views else ""),
        f"data set {manifest.kind}: {there}",
        "a CycleGAN learns from two domains: bring labelled images of both, or choose labels with --healthy, --cancer",
    )


def prepare(
    data: Path,
    preset: Preset,
    selection: Selection,
    folder: Path,
    *,
    split: Split | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make (or find) the pictures of a data set at a preset's size, below ``folder``.

    Raises
    ------
    InputError, DecodeError
        See `choose`; a picture that cannot be read, or that is not the one that was imported.
    LearningError
        The folder cannot be written to, or has no room.
    """
    manifest = read_manifest(data)
    chosen = choose(manifest, selection, preset.views, split)
    if preset.generator.mask_channel:
        # A cancer whose place is unknown cannot be shown to a model that is told the place.
        chosen["cancer"] = [i for i in chosen["cancer"] if any(lesion.located for lesion in i.lesions)]
        if not chosen["cancer"]:
            raise InputError(
                "no image of the domain cancer says where its lesion lies, and this preset needs that",
                f"data set {manifest.kind}",
                "use a preset without generator.mask_channel",
            )
    mark = _fingerprint(manifest, chosen, preset)
    total = sum(len(images) for images in chosen.values())
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        domains = {
            name: _domain(data, images, preset, folder / f"{name}-{mark[:16]}", tick)
            for name, images in chosen.items()
        }
    except OSError as error:
        raise LearningError(
            f"the prepared pictures cannot be written: {error.strerror}",
            str(folder),
            "make room, run it again",
        ) from error
    return Prepared(
        healthy=domains["healthy"],
        cancer=domains["cancer"],
        fingerprint=mark,
        kind=manifest.kind,
        phantom=manifest.phantom,
        pictures=marks(image for images in chosen.values() for image in images),
    )


def _fingerprint(manifest: Manifest, chosen: dict[str, list[Image]], preset: Preset) -> str:
    facts = [
        (name, image.name, image.patient, image.sha256, msgspec.to_builtins(image.lesions))
        for name, images in sorted(chosen.items())
        for image in images
    ]
    shape = (preset.rows, preset.columns, preset.framing, preset.generator.mask_channel)
    scale = (WHITE, QUARTILE, BRIGHT, MARGIN)  # pictures prepared with another grey scale are other pictures
    return hashlib.sha256(msgspec.json.encode([manifest.kind, shape, scale, facts])).hexdigest()


def _domain(data: Path, images: list[Image], preset: Preset, stem: Path, tick: Callable[[], None]) -> Domain:
    shape = (len(images), preset.rows, preset.columns)
    paths = {key: stem.with_name(f"{stem.name}-{key}.raw") for key in _TYPES}
    if not all(path.exists() for path in paths.values()):
        drafts = {key: path.with_suffix(".part") for key, path in paths.items()}
        arrays = {key: _reserved(drafts[key], _TYPES[key], shape) for key in paths}
        for index, image in enumerate(images):
            pixels, breast = load(data, image, verify=True)
            grey, shown, placement = to_model(pixels, breast, preset.rows, preset.columns, preset.framing)
            region = mask_to_model(lesions_mask(image, data), placement, preset.rows, preset.columns)
            arrays["grey"][index] = np.rint(grey * 32767)
            arrays["breast"][index] = shown
            arrays["region"][index] = region
            tick()
        for key, array in arrays.items():
            array.flush()
            drafts[key].replace(paths[key])
    return Domain(
        names=tuple(image.name for image in images),
        patients=tuple(image.patient for image in images),
        grey=_mapped(paths["grey"], _TYPES["grey"], shape),
        breast=_mapped(paths["breast"], _TYPES["breast"], shape),
        region=_mapped(paths["region"], _TYPES["region"], shape),
    )


def _reserved(path: Path, kind: type[np.generic], shape: tuple[int, int, int]) -> np.memmap[Any, Any]:
    """A file with its room taken beforehand: on a full disk, writing to mapped memory would kill the process."""
    size = max(int(np.prod(shape)) * np.dtype(kind).itemsize, 1)
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise LearningError(
            f"no room for the prepared pictures: {error.strerror}",
            str(path.parent),
            "make room, run it again",
        ) from error
    return np.memmap(path, kind, "r+", shape=shape)


def _mapped(path: Path, kind: type[np.generic], shape: tuple[int, int, int]) -> NDArray[Any]:
    wanted = int(np.prod(shape)) * np.dtype(kind).itemsize
    if path.stat().st_size < wanted:
        raise InputError(
            "the prepared pictures are cut off", str(path), "remove this folder and run it again"
        )
    return np.memmap(path, kind, "r", shape=shape)
