"""Data sets as pictures of an evaluation, each patient in one part, and nobody whom the generator was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from scanward.errors import InputError
from scanward.mammography.manifest import Image, Manifest, read_manifest
from scanward.mammography.phantom_sets import read_truth
from scanward.mammography.pictures import Mask, lesions_mask, load
from scanward.mammography.splits import check_disjoint, split_by_patient
from scanward.tampering.batches import put_inside
from scanward.tampering.checkpoints import Run, hashed, marks
from scanward.tampering.evaluation.sets import Data, Pictures
from scanward.tampering.evaluation.tampers import Tamper, of_generators
from scanward.tampering.prepared import Selection
from scanward.tampering.presets import Preset
from scanward.tampering.scaling import mask_to_model, to_model

Progress = Callable[[int, int], None]
# Shares of the patients that the generator did not see: two classifiers need many, figures need as many again.
SHARES = {"learn": 0.45, "validate": 0.1, "test": 0.45}


def load_pictures(
    folder: Path,
    images: Sequence[Image],
    preset: Preset,
    selection: Selection,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pictures:
    """Images of a data set at the size and in the frame of ``preset``; those of neither domain are left out.

    The truth of phantoms (`scanward.mammography.phantom_sets.read_truth`) is read along, where their folder has it.
    Healthy pictures get a region in which a lesion is to be put: that of their twin, else the shape of some cancer's
    lesion at a random place inside the breast (by ``seed`` and the picture's name).

    Raises
    ------
    InputError, DecodeError
        No image of a domain, or one that cannot be read.
    """
    wanted = [image for image in images if selection.domain(image) is not None]
    if not wanted:
        raise InputError(
            "no image of either domain",
            str(folder),
            "bring labelled images, or choose labels with --healthy, --cancer",
        )
    count, shape = len(wanted), (len(wanted), preset.rows, preset.columns)
    x, twin = np.empty(shape, np.float32), np.zeros(shape, np.float32)
    breast, region, pectoral = (np.zeros(shape, np.bool_) for _ in range(3))
    twinned = np.zeros(count, np.bool_)
    cancer = np.array([selection.domain(image) == "cancer" for image in wanted])
    for i, image in enumerate(wanted):
        pixels, inside = load(folder, image)
        x[i], breast[i], placement = to_model(pixels, inside, preset.rows, preset.columns, preset.framing)
        lesion = lesions_mask(image, folder)
        truth = read_truth(folder, image)
        if truth is not None:
            twin[i] = to_model(truth.twin, inside, preset.rows, preset.columns, placement=placement)[0]
            twinned[i] = True
            lesion = lesion | truth.lesion
            pectoral[i] = mask_to_model(truth.pectoral, placement, preset.rows, preset.columns)
        if lesion.any():
            region[i] = mask_to_model(lesion, placement, preset.rows, preset.columns)
        if progress is not None:
            progress(i + 1, count)
    _places(region, breast, cancer, tuple(image.name for image in wanted), seed)
    return Pictures(
        names=tuple(image.name for image in wanted),
        patients=tuple(image.patient for image in wanted),
        cancer=cancer,
        x=x,
        breast=breast,
        region=region,
        twin=twin,
        twinned=twinned,
        pectoral=pectoral,
    )


def _places(region: Mask, breast: Mask, cancer: Mask, names: tuple[str, ...], seed: int) -> None:
    """Give every healthy picture without a region one, in place."""
    shapes = [r for r, c in zip(region, cancer, strict=True) if c and r.any()]
    if not shapes:
        return
    for i in np.flatnonzero(~cancer & ~region.any((1, 2))):
        name = int.from_bytes(hashlib.sha256(names[i].encode()).digest()[:4], "big")
        random = np.random.default_rng([seed, name])
        region[i] = put_inside(shapes[int(random.integers(len(shapes)))], breast[i], random)


def load_data(
    folder: Path,
    run: Run,
    selection: Selection | None = None,
    *,
    others: Sequence[Run] = (),
    learn_from: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Data:
    """The parts of an evaluation of ``run`` (and ``others``), without the patients that these were trained on.

    What is left of ``folder`` is split by patient into the classifiers' part and the test; with ``learn_from`` the
    classifiers learn from that data set, and all that is left of ``folder`` is the test.

    Raises
    ------
    InputError, DecodeError, SettingsError, LeakError
        See `load_pictures` and `Data`; nobody is left to test on; two data sets that share a patient.
    """
    selection = selection or Selection()
    trained_on = frozenset(patient for each in (run, *others) for patient in each.facts.patients)
    views = run.preset.views
    pictures = frozenset(mark for each in (run, *others) for mark in each.facts.pictures)
    manifest = _unseen(read_manifest(folder), trained_on, pictures, views, folder)
    chosen: dict[str, tuple[Path, tuple[Image, ...]]]
    if learn_from is None:
        chosen = {
            name: (folder, images) for name, images in _parts(manifest, SHARES, seed, selection).items()
        }
    else:
        other = _unseen(read_manifest(learn_from), trained_on, pictures, views, learn_from)
        check_disjoint(manifest, other)
        shares = {"learn": 0.8, "validate": 0.2}
        chosen = {
            name: (learn_from, images) for name, images in _parts(other, shares, seed, selection).items()
        }
        chosen["test"] = (folder, manifest.images)
    total = sum(len(images) for _, images in chosen.values())
    done = 0

    def tick(_done: int, _total: int) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    loaded = {
        name: load_pictures(at, images, run.preset, selection, seed=seed, progress=tick)
        for name, (at, images) in chosen.items()
    }
    return Data(generator_patients=trained_on, **loaded)


def _unseen(
    manifest: Manifest,
    trained_on: frozenset[str],
    pictures: frozenset[str],
    views: tuple[str, ...],
    folder: Path,
) -> Manifest:
    """The data set in these views (all when empty), without whom a generator was trained on.

    A woman is known by her pseudonym, or by any of her pictures: imported again without a site key, the same films
    have other pseudonyms.
    """
    strangers = {
        patient
        for patient, images in manifest.patients().items()
        if hashed({patient})[0] not in trained_on and pictures.isdisjoint(marks(images))
    }
    left = tuple(
        image
        for image in manifest.images
        if image.patient in strangers and (not views or image.view in views)
    )
    if not left:
        raise InputError(
            f"no image in view {' or '.join(views)}"
            if strangers
            else "the generator was trained on every patient",
            str(folder),
            "give a data set that it has not seen, or train it on one part of a split (scanward mammo split)",
        )
    return msgspec.structs.replace(manifest, images=left)


def _parts(
    manifest: Manifest, shares: dict[str, float], seed: int, selection: Selection
) -> dict[str, tuple[Image, ...]]:
    """Images by part, whole patients in each."""
    usable = tuple(image for image in manifest.images if selection.domain(image) is not None)
    manifest = msgspec.structs.replace(manifest, images=usable)
    split = split_by_patient(manifest, shares, seed)
    part_of = split.part_of()
    return {
        name: tuple(image for image in manifest.images if part_of[image.patient] == name) for name in shares
    }


def tamper_of(run: Run, name: str = "") -> Tamper:
    """The generators of a run, to be evaluated."""
    return of_generators(
        name or run.preset.name,
        run.generator("insert"),
        run.generator("remove"),
        mask_channel=run.preset.generator.mask_channel,
    )
