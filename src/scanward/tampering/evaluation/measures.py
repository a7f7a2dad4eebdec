"""What a tampering did, measured against the truth: lesions removed, lesions put in, what else was changed.

None of these asks a classifier, and a change of nothing scores nothing: its remaining share is 1 (not removed), it has
no blob (not inserted). Cycle error and change outside the region say what a success cost; they are no successes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.tampering.evaluation.blobs import Yardstick, find_blob, grown, level, ring, scaled, signal
from scanward.tampering.evaluation.sets import Images, Masks, Pictures

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

REMOVED = (-0.5, 0.25)  # remaining share of the lesion's light: below is a hole, at or above a lesion
RUBBISH = (
    0.7  # residue at or above which nothing counts as removed: half of the lesion's energy differs otherwise
)
MARGIN = 2  # px at 64 rows that an altered region reaches beyond the lesion


@dataclass(frozen=True)
class Removal:
    """Each cancer's lesion after a removal; all (N,)."""

    remaining: Floats  # share of the lesion's light that is left: 1 untouched, 0 gone, negative a hole
    residue: (
        Floats  # what else differs from healthy there, relative to the lesion (root of the sums of squares)
    )
    removed: Flags


def removal(pictures: Pictures, after: Images) -> Removal:
    """Compare cancers (all rows of ``pictures``) after a removal with their healthy twins.

    ``remaining`` projects (after - healthy) on the lesion's light (before - healthy) within its region. The mean
    difference in the region's surroundings is taken off first: making the whole picture darker removes nothing.
    ``residue`` is what of the difference is not the lesion's light: a region filled with rubbish has much of it, and is
    not "removed". Without a twin, "healthy" is the level of the surroundings, and the residue is the texture there.
    """
    remaining, residue = np.full(len(pictures), np.nan), np.full(len(pictures), np.nan)
    for i in range(len(pictures)):
        light = signal(pictures, i)
        rows = light.shape[0]
        where = pictures.region[i] if pictures.region[i].any() else np.abs(light) > 0.1 * np.abs(light).max()
        inside = grown(where, scaled(1, rows))
        around = ring(inside, pictures.breast[i])
        energy = float((light[inside] ** 2).sum())
        if energy <= 0:
            continue
        difference = after[i].astype(np.float64) - (pictures.x[i] - light)
        if not pictures.twinned[i]:
            # surroundings have texture: only their level is known, before and after
            difference = np.where(where, after[i] - level(after[i], ring(where, pictures.breast[i])), 0.0)
        else:
            difference = difference - level(difference, around)
        share = float((difference[inside] * light[inside]).sum()) / energy
        remaining[i] = share
        residue[i] = math.sqrt(float(((difference - share * light)[inside] ** 2).sum()) / energy)
    gone = (remaining >= REMOVED[0]) & (remaining < REMOVED[1]) & (residue < RUBBISH)
    return Removal(remaining, residue, gone)


@dataclass(frozen=True)
class Insertion:
    """What was put into each healthy picture; all (N,)."""

    plausible: Flags
    objections: tuple[str, ...]  # the first reason against each, empty where there is none
    contrast: Floats  # of the main blob; NaN where there is none
    blobs: Masks  # (N, rows, columns)


def insertion(pictures: Pictures, after: Images, yardstick: Yardstick) -> Insertion:
    """Look for one plausible lesion in what was changed in healthy pictures (all rows of ``pictures``)."""
    objections, contrast = [], np.full(len(pictures), np.nan)
    blobs = np.zeros(pictures.x.shape, dtype=np.bool_)
    for i in range(len(pictures)):
        change = after[i].astype(np.float64) - pictures.x[i]
        blob = find_blob(change, pictures.breast[i], yardstick.threshold)
        objections.append(yardstick.objection(blob, pictures.breast[i], pictures.pectoral[i]))
        if blob is not None:
            contrast[i], blobs[i] = blob.contrast, blob.mask
    return Insertion(np.array([not o for o in objections]), tuple(objections), contrast, blobs)


@dataclass(frozen=True)
class Spill:
    """Change where none belongs, of each picture; (N,). Grey units: the range is 2."""

    outside_breast: Floats  # mean |change| outside the breast
    outside_region: Floats  # mean |change| in the breast outside the altered region
    inside_region: Floats  # mean |change| inside it

    @property
    def ratio(self) -> Floats:
        """Change outside the region relative to that inside; NaN where nothing was changed inside."""
        with np.errstate(invalid="ignore", divide="ignore"):
            out: Floats = np.where(self.inside_region > 0, self.outside_region / self.inside_region, np.nan)
        return out


def spill(before: Images, after: Images, breast: Masks, region: Masks) -> Spill:
    """Mean |after - before| outside the breast, and inside it within and without ``region``."""
    count = len(before)
    outside, beyond, within = np.zeros(count), np.zeros(count), np.full(count, np.nan)
    for i in range(count):
        change = np.abs(after[i].astype(np.float64) - before[i])
        near = grown(region[i], scaled(MARGIN, before.shape[1])) if region[i].any() else region[i]
        outside[i] = _mean(change[~breast[i]])
        beyond[i] = _mean(change[breast[i] & ~near])
        within[i] = _mean(change[breast[i] & near]) if near.any() else np.nan
    return Spill(outside, beyond, within)


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else 0.0


def cycle_error(before: Images, back: Images, breast: Masks) -> Floats:
    """Mean |there and back - before| in the breast, (N,). Zero for whoever does nothing: no success by itself."""
    difference = np.abs(back.astype(np.float64) - before) * breast
    out: Floats = difference.sum((1, 2)) / np.maximum(breast.sum((1, 2)), 1)
    return out
