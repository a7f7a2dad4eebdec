"""What was changed in a picture, measured as one would a lesion: one blob, its area, contrast, shape and place.

The yardstick is what genuine lesions add to their pictures, measured by the very same function, so that "a plausible
lesion" means: within the range of the genuine ones. Of phantoms the light of each lesion is known exactly (picture -
twin); elsewhere it is taken as what the lesion's region has above its surroundings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanward.errors import InputError
from scanward.tampering.evaluation.sets import Pictures

Image = NDArray[np.floating]
Mask = NDArray[np.bool_]

RING = (2, 6)  # px at 64 rows: the surroundings of a region begin and end this far from it
SMOOTH = 0.7  # px at 64 rows: calcifications of one cluster are one blob
WEAKEST = 0.25  # of the median peak of genuine lesions: what is below is no part of a blob
_EIGHT = ndimage.generate_binary_structure(2, 2)


class Blob(NamedTuple):
    """The main blob of a change. Lengths in px of the model; grey in model units (the range is 2)."""

    area: float  # px
    contrast: float  # mean change inside, minus that of its surroundings
    share: float  # of all change above the threshold that lies in this blob
    compactness: float  # 1 for a disc, less for lines and crumbs
    depth: float  # px of its centre below the skin
    mask: Mask


TRAITS = ("area", "contrast", "share", "compactness", "depth")
# Of these only too little is implausible: a blob cannot be too much of one piece or too deep in the breast.
# The first two never ask more than this, however tidy the genuine ones are.
FLOORS = {"share": 0.75, "compactness": 0.5, "depth": math.inf}


def scaled(pixels: float, rows: int) -> int:
    """A length given for 64 rows, in px of pictures of ``rows``; at least one."""
    return max(1, round(pixels * rows / 64))


def grown(mask: Mask, pixels: int) -> Mask:
    """``mask`` reaching ``pixels`` further each way."""
    if pixels < 1:
        return mask
    out: Mask = ndimage.binary_dilation(mask, _EIGHT, iterations=pixels)
    return out


def ring(region: Mask, breast: Mask) -> Mask:
    """The surroundings of a region inside the breast; all of the breast outside it where there are none."""
    rows = region.shape[0]
    near = grown(region, scaled(RING[0], rows))
    around = grown(region, scaled(RING[1], rows)) & ~near & breast
    return around if around.any() else breast & ~region


def level(image: Image, around: Mask) -> float:
    """Median of ``image`` in the surroundings, 0 where there are none."""
    return float(np.median(image[around])) if around.any() else 0.0


def signal(pictures: Pictures, row: int) -> Image:
    """What the lesion of a cancer adds to its picture: exactly where its twin is known, else above its surroundings."""
    x, region = pictures.x[row].astype(np.float64), pictures.region[row]
    if pictures.twinned[row]:
        return np.asarray(x - pictures.twin[row])
    around = ring(region, pictures.breast[row])
    out: Image = np.where(region, x - level(x, around), 0.0)
    return out


def depths(breast: Mask) -> Image:
    """px below the skin, 0 outside the breast. The chest wall and the other edges of the picture are no skin."""
    out: Image = ndimage.distance_transform_edt(np.pad(breast, max(breast.shape), mode="edge"))
    edge = max(breast.shape)
    return out[edge:-edge, edge:-edge]


def find_blob(change: Image, breast: Mask, threshold: float) -> Blob | None:
    """The main blob of a change (rows, columns); None where nothing reaches ``threshold``."""
    smoothed = ndimage.gaussian_filter(change.astype(np.float64), SMOOTH * change.shape[0] / 64)
    strong = np.abs(smoothed)
    labels, count = ndimage.label(strong >= threshold, _EIGHT)
    if not count:
        return None
    sums = ndimage.sum_labels(strong, labels, np.arange(1, count + 1))
    best = int(np.argmax(sums))
    mask: Mask = labels == best + 1
    down, right = np.nonzero(mask)
    spread = down.var() + right.var() + 1 / 6  # a pixel itself has a variance of 1/12 each way
    weight = strong[mask]
    centre = (
        min(int(np.average(down, weights=weight)), change.shape[0] - 1),
        min(int(np.average(right, weights=weight)), change.shape[1] - 1),
    )
    return Blob(
        area=float(mask.sum()),
        contrast=float(change[mask].mean()) - level(change, ring(mask, breast)),
        share=float(sums[best] / sums.sum()),
        compactness=float(mask.sum() / (2 * math.pi * spread)),
        depth=float(depths(breast)[centre]),
        mask=mask,
    )


@dataclass(frozen=True)
class Yardstick:
    """What genuine lesions look like: threshold of a blob, and the range (1-99 %) of every trait."""

    threshold: float
    low: dict[str, float]
    high: dict[str, float]
    lesions: int
    exact: bool  # measured on known light, not on regions alone

    @classmethod
    def of(cls, pictures: Pictures) -> Yardstick:
        """Measure the cancers of ``pictures`` (the classifiers' own, never those of the test).

        Raises
        ------
        InputError
            No cancer says where its lesion lies.
        """
        rows = [i for i in pictures.cancer_rows if pictures.region[i].any()]
        signals = [signal(pictures, i) for i in rows]
        peaks = [float(np.abs(s).max()) for s in signals]
        if not peaks or max(peaks) <= 0:
            raise InputError(
                "no cancer says where its lesion lies", "evaluation", "give a data set with outlined lesions"
            )
        threshold = WEAKEST * float(np.median(peaks))
        blobs = [
            b
            for i, s in zip(rows, signals, strict=True)
            if (b := find_blob(s, pictures.breast[i], threshold))
        ]
        low, high = {}, {}
        for trait in TRAITS:
            values = [getattr(blob, trait) for blob in blobs]
            low[trait], high[trait] = (float(v) for v in np.quantile(values, [0.01, 0.99]))
            if trait in FLOORS:
                low[trait], high[trait] = min(low[trait], FLOORS[trait]), math.inf
        return cls(threshold, low, high, len(blobs), bool(pictures.twinned[rows].all()))

    def objection(self, blob: Blob | None, breast: Mask, pectoral: Mask) -> str:
        """Why a change is no plausible lesion, in one word; empty when it is one."""
        if blob is None:
            return "nothing"
        for trait in TRAITS:
            if not self.low[trait] - 1e-9 <= getattr(blob, trait) <= self.high[trait] + 1e-9:
                return trait
        if (blob.mask & ~breast).sum() > 0.05 * blob.area:
            return "skin"
        if (blob.mask & pectoral).sum() > 0.5 * blob.area:
            return "pectoral"
        return ""
