"""Pictures to learn and to measure with: genuine ones, and the same altered in known ways, each with where.

A detector learns whatever tells two heaps of files apart. So every picture, genuine ones too, goes the same way: read
as a data set keeps it, altered or not, optionally resampled to one size, quantised to the source's own bits, stored as
PNG and read again, all in memory: nothing unmarked is written to disk.

========================  ==========================================================================================
``genuine``               nothing done
``generator:NAME``        a training run puts a lesion in (healthy) or takes it out (cancer), delivered as the house
                          delivers it: the change alone is resampled and added
``cycle:NAME``            a control: there and back again by the two generators. The network's traces without its lie
``copy-move``             tissue of the same breast, with a soft border
``inpainting-harmonic``   the region filled from its border by Laplace's equation (a soap film), with noise like the
                          picture's own
``inpainting-patch``      filled patch by patch from the most alike places of the same breast (after Criminisi, Perez
                          and Toyama, IEEE TIP 13:1200, 2004)
``splicing``              the same place of another woman's breast, brightness fitted, with a soft border
``splicing-poisson``      the same by its gradients (Perez, Gangnet and Blake, SIGGRAPH 2003)
========================  ==========================================================================================

Another architecture, resolution or training set of the generator is another run, under another NAME.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanward.errors import InputError, LeakError, SettingsError
from scanward.forensics.fillings import copied, exemplar, harmonic_noisy, spliced
from scanward.forensics.framing import Size, framed, framed_region
from scanward.mammography.manifest import Image, read_manifest
from scanward.mammography.pictures import Mask, Pixels
from scanward.tampering import originals
from scanward.tampering.applying import Circle, NoPlaceError, Settings, chosen, delivered
from scanward.tampering.checkpoints import Direction, Run, hashed, load_run, marks
from scanward.tampering.originals import Item, Original

GENUINE = "genuine"
GENERATOR, CYCLE = "generator:", "cycle:"
CLASSICAL = (
    "copy-move",
    "inpainting-harmonic",
    "inpainting-patch",
    "splicing",
    "splicing-poisson",
)
STEP = 256  # grey levels of 16 bits: one step of 8 bits, the least change that `Sample.region` calls altered
_TRIES = 8  # other women that are looked at until one has breast where it is needed

Source = Callable[["_Opened"], NDArray[np.float64] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture as a detector gets it, and what it does not get.

    ``picture`` uint16 (rows, columns), tissue bright, chest wall left; ``breast`` bool alike; ``region`` True where the
    picture was altered (by one step of 8 bits or more; by anything where nothing was altered so much), all False for
    genuine. ``patient`` is the data set's pseudonym, ``name`` the data set's name of the source, ``cancer`` what the
    source showed before.
    """

    picture: Pixels
    breast: Mask
    region: Mask
    family: str
    patient: str
    name: str
    cancer: bool = False

    @property
    def forged(self) -> bool:
        """Whether the picture lies: neither genuine nor a control that went there and back."""
        return self.family != GENUINE and not self.family.startswith(CYCLE)


def samples(
    data: Path,
    families: Sequence[str],
    seed: int = 0,
    *,
    runs: Mapping[str, Path | Run] | None = None,
    patients: Collection[str] | None = None,
    size: Size | None = None,
    seen_ok: bool = False,
    classical: int | None = None,
) -> Iterator[Sample]:
    """Pictures of a data set, each once in every family, picture by picture, in the manifest's order.

    A picture that a family cannot alter (a removal that must be told where, and is not; a change that rounding took
    away) is left out of that family.

    Parameters
    ----------
    data : Path
        A folder with a manifest (`scanward.mammography`).
    families : names
        See the module's words.
    seed : int
        Places, donors and noise depend on it, the family and the picture alone.
    runs : name -> training run
        For ``generator:NAME`` and ``cycle:NAME``.
    patients : pseudonyms
        Those alone; donors of splicing are among them, too. None: all.
    size : (rows, columns), px
        Resample every picture, genuine and altered, into this frame (aspect kept). None: its own size.
    seen_ok : bool
        Let generators alter women whom they were trained on: for a detector's training part, never for a test.
    classical : int, optional
        So many of the classical families of each picture, drawn by its name: more women in the same time. None: all.

    Raises
    ------
    SettingsError
        No such family, or no run for one.
    LeakError
        A run was trained on one of these women (or pictures), and ``seen_ok`` is not set.
    InputError, DecodeError
        A data set or run that cannot be read; nobody in it.
    """
    manifest = read_manifest(data)
    images = [i for i in manifest.images if patients is None or i.patient in patients]
    if not images:
        raise InputError("none of these women is in the data set", str(data), "check the split")
    loaded = loaded_runs(families, runs or {})
    if not seen_ok:
        check_unseen(images, loaded)
    return _drawn(data, images, _each(families, seed, classical), seed, loaded, size, manifest.phantom)


def _each(families: Sequence[str], seed: int, classical: int | None) -> Callable[[str], tuple[str, ...]]:
    """Which families are made of the picture of a name."""
    few = [family for family in families if family in CLASSICAL]
    if classical is None or classical >= len(few):
        return lambda name: tuple(families)

    def chosen_of(name: str) -> tuple[str, ...]:
        key = hashlib.sha256(f"{seed}\0families\0{name}".encode()).digest()[:8]
        taken = np.random.default_rng(int.from_bytes(key, "big")).permutation(len(few))[:classical]
        return tuple(f for f in families if f not in few or few.index(f) in taken)

    return chosen_of


def loaded_runs(families: Iterable[str], runs: Mapping[str, Path | Run]) -> dict[str, Run]:
    """The runs that these families need, loaded.

    Raises
    ------
    SettingsError
        No such family, or no run for one.
    """
    loaded: dict[str, Run] = {}
    for family in families:
        if family == GENUINE or family in CLASSICAL:
            continue
        kind, _, name = family.partition(":")
        if f"{kind}:" not in (GENERATOR, CYCLE):
            raise SettingsError(
                f"no family '{family}'",
                "families",
                f"use {GENUINE}, {', '.join(CLASSICAL)}, {GENERATOR}NAME or {CYCLE}NAME",
            )
        if name not in runs:
            raise SettingsError(f"no run is named '{name}'", family, "name a training run for it")
        run = runs[name]
        if name not in loaded:
            loaded[name] = load_run(run) if isinstance(run, Path) else run
    return loaded


def check_unseen(images: Iterable[Image], runs: Mapping[str, Run]) -> None:
    """Refuse women, or pictures, that a generator was trained on.

    Raises
    ------
    LeakError
        There are some: which run, and how many.
    """
    there = list(images)
    women = {hashed({image.patient})[0] for image in there}
    pictures = marks(there)
    for name, run in runs.items():
        known = women & set(run.facts.patients)
        same = pictures & set(run.facts.pictures)
        if known or same:
            raise LeakError(
                f"{len(known)} women and {len(same)} pictures of the test are in the generator's training",
                f"run {name}",
                "test on women whom no generator and no detector was trained on",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """One picture of the data set, and what altering it needs."""

    data: Path
    images: list[Image]
    index: int
    original: Original
    runs: Mapping[str, Run]
    seed: int
    random: np.random.Generator
    phantom: bool

    @property
    def cancer(self) -> bool:
        return self.original.lesions is not None

    def place(self) -> Mask:
        """Where classical methods alter: the lesion with its rim, else a blob in the breast."""
        if self.original.lesions is not None:
            grow = max(1, round(max(self.original.pixels.shape) / 64))
            rim: Mask = ndimage.binary_dilation(self.original.lesions, iterations=grow)
            return rim & self.original.breast
        x, y, radius = chosen(self.original, self.seed)
        down, right = np.indices(self.original.pixels.shape)
        angle = np.arctan2(down - y, right - x)
        waves = sum(
            self.random.uniform(-0.15, 0.15) * np.cos(k * angle + self.random.uniform(0, 2 * np.pi))
            for k in (2, 3, 5)
        )
        blob: Mask = np.hypot(down - y, right - x) <= max(radius, 2.0) * (1 + waves)
        return blob & self.original.breast

    def donor(self, place: Mask) -> Pixels | None:
        """Another woman's picture of this size with breast all over ``place``."""
        others = [i for i in self.images if i.patient != self.images[self.index].patient]
        for at in self.random.permutation(len(others))[:_TRIES]:
            read = _read(self.data, others[int(at)], self.phantom)
            fits = _fitted(read.pixels, place.shape)
            if _fitted(read.breast.astype(np.uint16), place.shape)[place].all():
                return fits
        return None


def _drawn(
    data: Path,
    images: list[Image],
    families: Callable[[str], tuple[str, ...]],
    seed: int,
    runs: Mapping[str, Run],
    size: Size | None,
    phantom: bool,
) -> Iterator[Sample]:
    for index, image in enumerate(images):
        original = _read(data, image, phantom)
        reference = _saved(original.stored, original.unit)
        for family in families(image.name):
            key = hashlib.sha256(f"{family}\0{image.name}".encode()).digest()[:8]
            random = np.random.default_rng([seed, int.from_bytes(key, "big")])
            opened = _Opened(data, images, index, original, runs, seed, random, phantom)
            made = reference if family == GENUINE else _altered(opened, family)
            if made is None:
                continue
            region = _region(reference, made)
            if family != GENUINE and not region.any():
                continue
            yield _sized(
                Sample(
                    picture=made,
                    breast=original.breast,
                    region=region,
                    family=family,
                    patient=image.patient,
                    name=image.name,
                    cancer=opened.cancer,
                ),
                size,
                original.unit,
            )


def _read(data: Path, image: Image, phantom: bool) -> Original:
    return originals.read(Item(path=data / image.file, folder=data, image=image, phantom=phantom))


def _altered(opened: _Opened, family: str) -> Pixels | None:
    original = opened.original
    kind, _, name = family.partition(":")
    if f"{kind}:" in (GENERATOR, CYCLE):
        return _by_generator(opened, name, back=f"{kind}:" == CYCLE)
    place = opened.place()
    if not place.any():
        return None
    grey = original.pixels.astype(np.float64)
    if family == "copy-move":
        made = copied(grey, original.breast, place, opened.random)
    elif family == "inpainting-harmonic":
        made = harmonic_noisy(grey, original.breast, place, opened.random)
    elif family == "inpainting-patch":
        made = exemplar(grey, original.breast, place, opened.random)
    else:
        donor = opened.donor(place)
        if donor is None:
            return None
        made = spliced(grey, donor.astype(np.float64), place, poisson=family == "splicing-poisson")
    made = np.where(original.breast, np.clip(np.rint(made), 0, 65535), grey)
    return _saved(original.carried(made.astype(np.uint16)), original.unit)


def _by_generator(opened: _Opened, name: str, *, back: bool) -> Pixels | None:
    original, run = opened.original, opened.runs[name]
    settings = Settings(visible_mark=False, seed=opened.seed)
    there: Direction = "remove" if opened.cancer else "insert"
    again: Direction = "insert" if opened.cancer else "remove"
    try:
        made = delivered(original, run.preset, run.generator(there), there, settings)
        if back:
            altered = replace(original, stored=made.stored, pixels=made.stored.astype(np.uint16))
            if run.preset.generator.mask_channel:  # back at the same place
                settings = replace(settings, regions=made.circles or (_circle(original.lesions),))
            made = delivered(altered, run.preset, run.generator(again), again, settings)
    except NoPlaceError:
        return None
    return _saved(made.stored, original.unit)


def _circle(lesions: Mask | None) -> Circle:
    """A circle of the lesions' area around their middle, x, y, radius in px."""
    assert lesions is not None  # a model that must be told where was told by these
    down, right = np.nonzero(lesions)
    return float(right.mean()), float(down.mean()), max(float(np.sqrt(len(down) / np.pi)), 1.0)


def _saved(stored: NDArray[np.generic], unit: int) -> Pixels:
    """Quantised to multiples of ``unit``, stored as 16-bit PNG and read again: the way of every picture."""
    from PIL import Image as Pil

    steps = np.clip(np.rint(stored.astype(np.float64) / unit), 0, 65535 // unit)
    buffer = io.BytesIO()
    Pil.fromarray((steps * unit).astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    with Pil.open(buffer, formats=("PNG",)) as opened:
        return np.asarray(opened).astype(np.uint16)


def _region(reference: Pixels, made: Pixels) -> Mask:
    change = np.abs(made.astype(np.int32) - reference.astype(np.int32))
    strong: Mask = change >= STEP
    return strong if strong.any() else change > 0


def _sized(sample: Sample, size: Size | None, unit: int) -> Sample:
    """The sample in a frame of ``size``, scaled alike whatever was done to it."""
    if size is None:
        return sample
    picture, breast = framed(sample.picture, sample.breast, size, unit)
    return replace(
        sample, picture=_saved(picture, unit), breast=breast, region=framed_region(sample.region, size)
    )


def _fitted(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    """A picture cut or padded (with 0) at the right and the bottom: chest walls stay on each other."""
    out = np.zeros(shape, dtype=pixels.dtype)
    rows, columns = min(shape[0], pixels.shape[0]), min(shape[1], pixels.shape[1])
    out[:rows, :columns] = pixels[:rows, :columns]
    return out
