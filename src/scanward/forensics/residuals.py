"""What a detector looks at: a picture's fine structure in planes, grey levels hidden, everything outside the breast 0.

=========  =================================================================================================
plane      what it is
=========  =================================================================================================
grey       level over the breast's median, logarithmic: how much noise belongs here depends on it
line       second differences across and down, and of both (SRM; Fridrich and Kodovsky, IEEE TIFS 7:868, 2012)
square     the 5 x 5 filter of the same family
bands      differences of Gaussians, 0 - 1, 1 - 2, 2 - 4, 4 - 8 px, on a scale that is the same for every picture: what
           upsampling leaves, how much fine structure there is at all, and the shapes of lesions and of the places
           they were taken from
coarse     level around (Gaussian of 2 px) over the breast's median
noise      logarithm of the residual's strength around, over its median in the breast
copies     logarithm of the distance to the most alike patch elsewhere in the breast, over its median: copied tissue
           has a twin
=========  =================================================================================================
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import ThreadpoolController

from scanward.mammography.pictures import Mask, Pixels

Planes = NDArray[np.float32]
PLANES = 12  # grey, four fine ones, four bands, coarse, noise, copies
NOISE, COPIES = 10, 11  # planes that evidence is told from
_BANDS = (1.0, 2.0, 4.0, 8.0)  # px
_BAND = 0.1  # of the breast's median: where bands begin to be compressed
RIM = 2  # px inside the breast's border that are hidden, too: film and skin edges say nothing
PATCH = 5  # px: side of the patches whose twins are looked for
APART = 4  # px: nearer patches overlap, and are alike for that
_PIECE = 128  # patches that are compared with all others at once
MATCHED = 8_000  # patches that are compared each with each; of larger breasts, alike ones by a tree

_LINES = np.array(
    [
        [[0, 0, 0], [1, -2, 1], [0, 0, 0]],
        [[0, 1, 0], [0, -2, 0], [0, 1, 0]],
        [[-1, 2, -1], [2, -4, 2], [-1, 2, -1]],
    ],
    dtype=np.float64,
)
_SQUARE = np.array(
    [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]],
    dtype=np.float64,
)


def inner(breast: Mask) -> Mask:
    """The breast without its rim; all of a breast that is no more than rim."""
    shrunk: Mask = ndimage.binary_erosion(breast, iterations=RIM)
    return shrunk if shrunk.any() else breast


def planes(picture: Pixels, breast: Mask) -> Planes:
    """(`PLANES`, rows, columns) of ``picture`` uint16 (rows, columns); 0 outside the `inner` breast.

    A function of the pixels of the breast, its rim and two pixels around alone: labels and film edges change nothing.
    """
    inside = inner(breast)
    if not inside.any():
        inside = np.ones_like(breast)
    level = max(float(np.median(picture[inside])), 1.0)
    near = ndimage.binary_dilation(inside, iterations=RIM)
    grey = np.where(near, picture.astype(np.float64) / level, 1.0)
    fine = [ndimage.correlate(grey, kernel) for kernel in (*_LINES, _SQUARE)]
    smooth = [grey, *(_blurred(grey, near, sigma) for sigma in _BANDS)]
    bands = [np.arcsinh((finer - coarser) / _BAND) for finer, coarser in pairwise(smooth)]
    strength = _blurred(np.abs(fine[2]), inside, 1.5)
    noise = np.log((strength + 1e-6) / (float(np.median(strength[inside])) + 1e-6))
    out = [
        np.log(np.clip(grey, 0.05, 20.0)),
        *(_even(one, inside) for one in fine),
        *bands,
        np.clip(smooth[2] - 1.0, -1.0, 20.0),
        np.clip(noise, -4, 4),
        copies(grey, inside),
    ]
    made: Planes = np.where(inside, np.stack(out), 0.0).astype(np.float32)
    return made


def copies(grey: NDArray[np.float64], inside: Mask) -> NDArray[np.float64]:
    """Logarithm of each patch's distance to the most alike one at least `APART` px away, over its median; 0 outside.

    Patches are compared without their mean, so that tissue fitted in brightness is known again.
    """
    out = np.zeros(grey.shape)
    places = np.argwhere(inside)
    if len(places) < 4 * PATCH**2:
        return out
    half = PATCH // 2
    padded = np.pad(grey, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH))
    patches = windows[places[:, 0], places[:, 1]].reshape(len(places), -1)
    patches = (patches - patches.mean(1, keepdims=True)).astype(np.float32)
    patches /= max(float(patches.std()), 1e-9)
    nearest = _each(patches, places) if len(places) <= MATCHED else _by_tree(patches, places)
    distance = np.sqrt(nearest / np.float32(PATCH**2)) + 1e-3
    own = np.sqrt((patches**2).mean(1)) + 0.05  # flat patches are alike without being copies
    told = np.log(distance / own)
    out[places[:, 0], places[:, 1]] = np.clip(told - float(np.median(told)), -4, 4)
    return out


def _each(patches: NDArray[np.float32], places: NDArray[np.int_]) -> NDArray[np.float32]:
    norms = (patches**2).sum(1, keepdims=True)
    ones = np.ones_like(norms)
    # |p|^2 + |q|^2 - 2 p q as one product, in pieces that stay in a core's cache
    left, right = np.hstack([-2 * patches, ones, norms]), np.hstack([patches, norms, ones]).T.copy()
    number = np.full(places.max(0) + 2 * APART, -1)  # of the patch at each place
    number[places[:, 0], places[:, 1]] = np.arange(len(places))
    near = np.array([(r, c) for r in range(1 - APART, APART) for c in range(1 - APART, APART)])
    out = np.empty(len(patches), dtype=np.float32)
    with _products().limit(limits=1, user_api="blas"):  # threads cost more than products so small
        for at in range(0, len(patches), _PIECE):
            square = left[at : at + _PIECE] @ right
            # a negative place is one from the other end, where nothing is
            there = number[tuple((places[at : at + _PIECE, None] + near).transpose(2, 0, 1))]
            rows, which = np.nonzero(there >= 0)
            square[rows, there[rows, which]] = np.inf
            out[at : at + _PIECE] = np.maximum(square.min(1), 0)
    return out


@cache
def _products() -> ThreadpoolController:
    """The libraries that multiply matrices here."""
    return ThreadpoolController()


def _by_tree(patches: NDArray[np.float32], places: NDArray[np.int_]) -> NDArray[np.float32]:
    """The same by a tree over the eight strongest directions, among the dozen nearest there; at most what it is."""
    from scipy.spatial import cKDTree

    few = patches[:: max(1, len(patches) // 4096)]
    directions = np.linalg.svd(few, full_matrices=False)[2][:8]
    small = patches @ directions.T
    found = cKDTree(small).query(small, k=12)[1]
    square = ((patches[found] - patches[:, None]) ** 2).sum(2)
    apart = np.abs(places[found] - places[:, None]).max(2)
    far = np.where(apart < APART, np.inf, square).min(1)
    worst = float(np.max(far[np.isfinite(far)], initial=1.0))
    out: NDArray[np.float32] = np.where(np.isfinite(far), far, worst).astype(np.float32)
    return out


def _blurred(values: NDArray[np.float64], where: Mask, sigma: float) -> NDArray[np.float64]:
    """Gaussian mean of the values inside ``where`` alone."""
    weight = ndimage.gaussian_filter(where.astype(np.float64), sigma)
    total = ndimage.gaussian_filter(np.where(where, values, 0.0), sigma)
    out: NDArray[np.float64] = total / np.maximum(weight, 1e-6)
    return out


def _even(values: NDArray[np.float64], inside: Mask) -> NDArray[np.float64]:
    """Over its median strength in the breast, large values compressed: a lesion's edge must not drown the noise."""
    scale = max(float(np.median(np.abs(values[inside]))), 1e-6)
    out: NDArray[np.float64] = np.arcsinh(values / scale)
    return out
