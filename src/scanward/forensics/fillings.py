"""Classical forgeries of one region: copied, inpainted, spliced. Grey levels float64 (rows, columns), masks alike.

What is laid over has a border softened by one pixel or two, as an image editor's would be; nothing here is learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanward.mammography.pictures import Mask
from scanward.tampering.evaluation.controls import harmonic

Grey = NDArray[np.float64]
_WHITE = 65536.0
_CANDIDATES = 256  # places of the breast that a patch is compared with
_SHIFTS = 200  # places that are tried for tissue to be copied


def _soft(region: Mask) -> Grey:
    """1 well inside, falling to 0 over a pixel or two beyond: wider on larger pictures."""
    sigma = max(0.6, max(region.shape) / 256)
    soft: Grey = ndimage.gaussian_filter(region.astype(np.float64), sigma)
    return soft


def _laid(picture: Grey, over: Grey, region: Mask) -> Grey:
    soft = _soft(ndimage.binary_dilation(region))
    return picture + soft * (over - picture)


def copied(picture: Grey, breast: Mask, region: Mask, random: np.random.Generator) -> Grey:
    """Tissue of the same breast moved onto ``region``; from where it overlaps least and is breast all over."""
    down, right = np.nonzero(region)
    places = np.argwhere(breast)
    middle = np.array([down.mean(), right.mean()])
    best, least = np.zeros(2, dtype=int), np.inf
    for at in random.integers(len(places), size=_SHIFTS):
        shift = np.rint(places[at] - middle).astype(int)
        rows, columns = down + shift[0], right + shift[1]
        inside = (rows >= 0) & (rows < breast.shape[0]) & (columns >= 0) & (columns < breast.shape[1])
        outside = len(down) - int(breast[rows[inside], columns[inside]].sum())
        overlap = int(region[rows[inside], columns[inside]].sum())
        if (cost := 2 * outside + overlap) < least:
            best, least = shift, cost
        if cost == 0:
            break
    moved = ndimage.shift(picture, -best, order=0, mode="nearest")
    return _laid(picture, moved, region)


def harmonic_noisy(picture: Grey, breast: Mask, region: Mask, random: np.random.Generator) -> Grey:
    """Laplace's equation from the region's border, with white noise as strong as the picture's finest."""
    filled = harmonic(picture / _WHITE, region) * _WHITE
    fine = picture - ndimage.median_filter(picture, 3)
    around = breast & ~region
    sigma = 1.4826 * float(np.median(np.abs(fine[around]))) if around.any() else 0.0
    return np.where(region, filled + sigma * random.standard_normal(picture.shape), picture)


def exemplar(picture: Grey, breast: Mask, region: Mask, random: np.random.Generator) -> Grey:
    """Fill ``region`` from its border inwards, each time the unknown part of the patch that is known best.

    The patch is taken from where the breast is most like its known part (least squares over random places). Where
    too little breast is left to take patches from, the region is filled harmonically.
    """
    half = max(2, round(max(picture.shape) / 128))
    whole = np.ones((2 * half + 1,) * 2, np.bool_)
    sources = np.argwhere(ndimage.binary_erosion(breast & ~region, whole))
    if len(sources) < 8:
        return np.asarray(harmonic(picture / _WHITE, region) * _WHITE)
    pad = [(half, half)] * 2
    values = np.pad(picture, pad, mode="edge")
    unknown = np.pad(region, pad)
    original = values.copy()
    span = np.arange(-half, half + 1)
    window = (span[:, None], span[None, :])
    while unknown.any():
        border = np.argwhere(unknown & ~ndimage.binary_erosion(unknown))
        known = ndimage.uniform_filter((~unknown).astype(np.float64), 2 * half + 1)
        row, column = border[int(np.argmax(known[border[:, 0], border[:, 1]]))]
        here = (row + window[0], column + window[1])
        rows = np.clip(here[0], 0, values.shape[0] - 1)
        columns = np.clip(here[1], 0, values.shape[1] - 1)
        patch, missing = values[rows, columns], unknown[rows, columns]
        taken = sources[random.integers(len(sources), size=_CANDIDATES)] + half
        candidates = original[taken[:, 0, None, None] + window[0], taken[:, 1, None, None] + window[1]]
        error = np.where(missing, 0.0, (candidates - patch) ** 2).sum(axis=(1, 2))
        best = candidates[int(np.argmin(error))]
        rows, columns = np.broadcast_to(rows, patch.shape), np.broadcast_to(columns, patch.shape)
        values[rows[missing], columns[missing]] = best[missing]
        unknown[rows[missing], columns[missing]] = False
    return values[half:-half, half:-half]


def spliced(picture: Grey, donor: Grey, region: Mask, *, poisson: bool) -> Grey:
    """``donor``'s tissue in ``region``: by gradients (the border's difference spread harmonically), or laid over with
    its brightness fitted to the rim's.
    """
    if poisson:
        return np.where(region, donor + harmonic((picture - donor) / _WHITE, region) * _WHITE, picture)
    rim = ndimage.binary_dilation(region, iterations=2) & ~region
    offset = float(np.median((picture - donor)[rim])) if rim.any() else 0.0
    return _laid(picture, donor + offset, region)
