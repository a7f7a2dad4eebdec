"""A phantom: procedural mammograms with known lesions, for tests and demonstrations that need no data set.

No image of a human being went into it. One picture is, in this order:

1. **outline**: a half ellipse, chest wall on the left, a nipple; in an oblique view (MLO) the pectoral muscle;
2. **thickness**: full inside, rolling off towards the skin, and the skin as a thin bright line;
3. **tissue**: random fields with a power spectrum 1/f^beta, beta near 3, as measured in mammograms (Burgess,
   Proc SPIE 3661:642, 1999; Burgess, Jacobson, Judy, Med Phys 28:419, 2001; Heine, Deans, Velthuizen, Clarke,
   Med Phys 26:2254, 1999); glandular tissue is where such a field is high, mostly behind the nipple, and how much
   there is varies between women; ducts and ligaments run towards the nipple; dense islands lie among them;
4. **lesions**, which only add light (`scanward.mammography.phantom_lesions`);
5. **noise** of film or photons, drawn before and independently of the lesions.

So the same seed without lesions gives exactly the same woman, and picture - healthy is the lesion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from scanward.config import PHANTOM_BOUNDS
from scanward.errors import SettingsError
from scanward.mammography.manifest import Label, Lesion
from scanward.mammography.phantom_lesions import EDGE_OF_MASK, Field, Growth, light
from scanward.mammography.pictures import Mask, Pixels

HEIGHT_MM = 160.0  # what a picture shows from top to bottom
FULL_SCALE = 65535
FOG = 0.012  # share of full scale outside the breast
_BUILD, _TISSUE, _NOISE, _LESIONS = range(4)  # streams of random numbers, none of which moves another
_SEVERITY = (Label.NORMAL, Label.UNKNOWN, Label.BENIGN, Label.MALIGNANT)


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One phantom mammogram, chest wall left; all arrays (rows, columns).

    ``healthy`` is the same picture without the lesions, noise included; ``lesion`` is the mask of all lesions
    (where they add more than a fifth of their brightest point), ``muscle`` that of the pectoral muscle, empty in a
    craniocaudal view; ``spacing`` is mm per pixel, of rows and columns.
    """

    picture: Pixels
    healthy: Pixels
    breast: Mask
    muscle: Mask
    lesion: Mask
    lesions: tuple[Lesion, ...]
    masks: tuple[Mask, ...]  # one per lesion
    label: Label
    laterality: str
    view: str
    spacing: float
    density: float


@dataclass(frozen=True, slots=True)
class _Woman:
    """What both breasts of a phantom woman have in common. Lengths in mm."""

    depth: float  # chest wall to nipple
    half: float  # half of the height along the chest wall
    droop: float  # how far the nipple lies below the middle
    density: float  # share of glandular tissue behind the nipple
    beta: float  # exponent of the power spectrum
    muscle: tuple[float, float]  # of the pectoral muscle: along the upper edge, along the chest wall
    grain: float  # noise, share of full scale


def phantom(
    seed: Sequence[int],
    rows: int = 64,
    columns: int = 64,
    *,
    lesions: Sequence[Growth] = (),
    laterality: str = "L",
    view: str = "MLO",
) -> Phantom:
    """Draw the breast of one phantom woman. ``seed``: non-negative numbers that say which woman, as (set, patient).

    Both breasts of a woman (``laterality`` L and R) have the same build and density and different tissue. A picture
    shows 160 mm from top to bottom whatever its number of rows; another size is another woman.

    Raises
    ------
    SettingsError
        A size or view that cannot be drawn.
    """
    _check(rows, columns, laterality, view)
    stream = _streams(seed, laterality, view)
    spacing = HEIGHT_MM / rows
    woman = _draw_woman(np.random.default_rng([*seed, _BUILD]), columns * spacing)
    x: Field = (np.arange(columns, dtype=np.float64)[None, :] + 0.5) * spacing  # mm from the chest wall
    y: Field = (
        (np.arange(rows, dtype=np.float64)[:, None] + 0.5) * spacing - HEIGHT_MM / 2 - woman.droop
    )  # mm below the nipple
    depth = _below_skin(woman, x, y)
    breast = depth > 0
    muscle = (
        _muscle(woman, x, y + HEIGHT_MM / 2 + woman.droop, spacing) if view == "MLO" else np.zeros_like(depth)
    )
    tissue, gland = _tissue(stream(_TISSUE), woman, x, y, depth, muscle, spacing)
    grain = stream(_NOISE).standard_normal((rows, columns)) * woman.grain
    shown = np.where(breast, tissue + grain, FOG + 0.2 * grain)

    rng = stream(_LESIONS)
    added = np.zeros_like(shown)
    masks: list[Mask] = []
    found: list[Lesion] = []
    for growth in lesions:
        row, column = _place(rng, growth, gland, depth, muscle)
        one = light(rng, growth, x - x[0, column], y - y[row, 0], spacing) * breast
        mask = one > EDGE_OF_MASK * one.max()
        reach = float(np.sqrt(((np.argwhere(mask) - (row, column)) ** 2).sum(axis=1).max()))
        added, masks = added + one, [*masks, mask]
        circle = (float(column), float(row), max(reach, 1.0))
        found.append(
            Lesion(kind=growth.kind, label=growth.label, circle=circle, spiculated=growth.spiculated)
        )
    return Phantom(
        picture=_store(shown + added),
        healthy=_store(shown),
        breast=breast,
        muscle=(muscle > 0.5) & breast,
        lesion=np.logical_or.reduce(masks) if masks else np.zeros_like(breast),
        lesions=tuple(found),
        masks=tuple(masks),
        label=max((growth.label for growth in lesions), key=_SEVERITY.index, default=Label.NORMAL),
        laterality=laterality,
        view=view,
        spacing=spacing,
        density=woman.density,
    )


def power_law(rng: np.random.Generator, shape: tuple[int, int], beta: float, spacing: float) -> Field:
    """A random field of ``shape`` with power spectrum 1/f^beta, flat above 60 mm; mean 0, standard deviation 1."""
    down = scipy.fft.fftfreq(shape[0], spacing)[:, None]
    right = scipy.fft.rfftfreq(shape[1], spacing)[None, :]
    frequency = np.maximum(np.hypot(down, right), 1 / 60)  # cycles per mm
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape)) * frequency ** (-beta / 2)
    field = scipy.fft.irfft2(spectrum, s=shape)
    return np.asarray((field - field.mean()) / field.std())


def _check(rows: int, columns: int, laterality: str, view: str) -> None:
    low, high = PHANTOM_BOUNDS.least_side, PHANTOM_BOUNDS.side
    if not (low <= rows <= high and low <= columns <= high):
        raise SettingsError(
            f"a phantom of {rows} x {columns} pixels cannot be drawn", "", f"give {low} to {high} each way"
        )
    if columns < rows / 2:
        raise SettingsError(
            f"{columns} columns are too narrow for {rows} rows", "", "give at least half as many columns"
        )
    if laterality not in ("L", "R") or view not in ("CC", "MLO"):
        raise SettingsError(f"no phantom of {laterality} {view}", "", "L or R, CC or MLO")


def _streams(seed: Sequence[int], laterality: str, view: str) -> Callable[[int], np.random.Generator]:
    place = (int(laterality == "R"), int(view == "MLO"))
    return lambda stream: np.random.default_rng([*seed, stream, *place])


def _draw_woman(rng: np.random.Generator, width: float) -> _Woman:
    depth = min(float(rng.uniform(75, 125)), 0.9 * width)
    return _Woman(
        depth=depth,
        half=float(np.clip(depth * rng.uniform(0.65, 0.85), 52, 74)),
        droop=float(rng.uniform(-3, 4)),
        density=float(rng.beta(2, 2)),
        beta=float(rng.uniform(2.7, 3.3)),
        muscle=(float(rng.uniform(25, 45)), float(rng.uniform(60, 95))),
        grain=float(rng.uniform(0.008, 0.016)),
    )


def _below_skin(woman: _Woman, x: Field, y: Field) -> Field:
    """mm below the skin, negative outside: to first order, value over slope of the ellipse's equation."""
    r = np.hypot(x / woman.depth, y / woman.half)
    slope = np.hypot(x / woman.depth**2, y / woman.half**2) / np.maximum(r, 1e-6)
    nipple = 3.5 - np.hypot(0.7 * (x - woman.depth), y)
    return np.maximum((1 - r) / np.maximum(slope, 1e-6), nipple)


def _muscle(woman: _Woman, x: Field, down: Field, spacing: float) -> Field:
    """How much of a pixel is pectoral muscle, 0 to 1: a triangle in the upper corner of the chest wall."""
    along, high = woman.muscle
    inside = (1 - x / along - np.maximum(down, 0) / high) * min(along, high)  # mm, roughly
    return 1 / (1 + np.exp(np.clip(-inside / max(spacing / 2, 1.0), -50, 50)))


def _tissue(
    rng: np.random.Generator, woman: _Woman, x: Field, y: Field, depth: Field, muscle: Field, spacing: float
) -> tuple[Field, Field]:
    """Brightness of healthy tissue in shares of full scale, and how glandular each pixel is (0 to 1)."""
    shape = (y.shape[0], x.shape[1])
    coarse, fine, warp = (power_law(rng, shape, beta, spacing) for beta in (woman.beta, woman.beta, 4.0))
    # glandular tissue: where a power-law field is high, mostly in a cone behind the nipple
    from_nipple = np.hypot((woman.depth - x) / woman.depth, y / (0.75 * woman.half))
    likely = 3.0 * (woman.density - 0.35) + 1.2 - 2.2 * np.abs(from_nipple - 0.45)
    gland = 1 / (1 + np.exp(-2.2 * (coarse + likely)))
    gland *= np.clip((depth - 3) / 8, 0, 1) * (1 - muscle)
    # ducts and ligaments: ridges of one random function of the (warped) direction seen from the nipple
    direction = np.arctan2(y, np.maximum(woman.depth - x, 1e-3) + 2) + 0.12 * warp
    knots = np.linspace(-2.2, 2.2, 90)
    ridges = np.interp(direction, knots, np.clip(rng.normal(0, 1, knots.size) - 0.6, 0, None))
    ducts = ridges * (0.25 + 0.75 * gland) * np.exp(-np.clip(from_nipple, 0, None))
    ligaments = np.exp(-((fine / 0.12) ** 2)) * np.clip(depth / 10, 0, 1)
    islands = _islands(rng, woman, x, y, gland)
    inside = (
        0.25 + 0.05 * fine + 0.27 * gland + 0.05 * gland * fine + 0.05 * ducts + 0.025 * ligaments + islands
    )
    inside = np.maximum(inside, 0.08) * (1 - muscle) + (0.58 + 0.03 * fine) * muscle
    rolled = np.sqrt(np.clip(1 - (1 - np.clip(depth / 18, 0, 1)) ** 2, 0, 1))
    skin = 0.12 * np.exp(-0.5 * ((depth - 1.0) / max(0.8, 0.5 * spacing)) ** 2)
    return inside * (0.25 + 0.75 * rolled) + skin, gland


def _islands(rng: np.random.Generator, woman: _Woman, x: Field, y: Field, gland: Field) -> Field:
    """Dense islands and crossings of ducts: bright spots of healthy tissue that are no lesions."""
    drawn = np.zeros_like(gland)
    for _ in range(int(rng.integers(3, 8))):
        at_x, at_y = woman.depth * rng.uniform(0.1, 0.85), woman.half * rng.uniform(-0.65, 0.65)
        turn, long, wide = rng.uniform(0, np.pi), rng.uniform(4, 11), rng.uniform(2.5, 5)
        u = (x - at_x) * np.cos(turn) + (y - at_y) * np.sin(turn)
        v = -(x - at_x) * np.sin(turn) + (y - at_y) * np.cos(turn)
        drawn += rng.uniform(0.06, 0.24) * np.exp(-0.5 * ((u / long) ** 2 + (v / wide) ** 2))
    return drawn * (0.4 + 0.6 * gland)


def _place(
    rng: np.random.Generator, growth: Growth, gland: Field, depth: Field, muscle: Field
) -> tuple[int, int]:
    """Row and column of a lesion's centre: rather in glandular tissue, in neither the skin nor the muscle."""
    likely = (0.15 + gland) * (depth > growth.diameter / 2 + 3) * (muscle < 0.05)
    if not likely.any():  # a small breast and a large lesion: as deep as it goes
        likely = (depth == depth.max()).astype(np.float64)
    sums = np.cumsum(likely)
    index = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
    row, column = np.unravel_index(min(index, likely.size - 1), likely.shape)
    return int(row), int(column)


def _store(shares: Field) -> Pixels:
    return np.rint(np.clip(shares, 0, 1) * FULL_SCALE).astype(np.uint16)
