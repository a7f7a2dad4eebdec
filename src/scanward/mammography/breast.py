"""Where the breast is: a threshold on a small, smooth picture, the largest piece, its holes filled.

Labels, markers and film edges are smaller pieces, or hang on by a thread that an opening cuts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.mammography.pictures import Mask, Pixels

_SIDE = 384  # pixels of the longer side of the picture that is thresholded
_LEAST = 0.02  # share of the picture; a smaller piece is no breast
_BAND = (
    16  # the band under the skin that Otsu's threshold misses is at most a 16th of the picture's longer side
)
_SKIN = 0.3  # of the way from background to Otsu's edge: where the skin line is drawn
_NOISE = 4.0  # standard deviations of the background that the skin must stand out
_CONTRAST = 0.02  # of full scale between background and brightest tissue; less is an empty picture


def segment(pixels: Pixels) -> Mask:
    """The breast in a picture whose tissue is bright: True inside, one piece without holes; empty when none is found.

    ``pixels`` is (rows, columns) of uint16. The skin line is where the smooth picture leaves the background (Otsu
    1979 on its square root, for tissue near the skin is nearly as dark as the background).
    """
    from scipy import ndimage

    step = max(1, -(-max(pixels.shape) // _SIDE))
    small = _reduced(pixels, step)
    smooth = ndimage.gaussian_filter(small, 1.5)
    low, high = np.percentile(smooth, (1.0, 99.0))
    if high - low < _CONTRAST * 65535:
        return np.zeros(pixels.shape, dtype=np.bool_)
    root = np.sqrt(np.clip((smooth - low) / (high - low), 0.0, 1.0))
    found = root > otsu(root)
    found = ndimage.binary_opening(found, _disc(max(2, min(small.shape) // 60)))
    pieces, count = ndimage.label(found)
    if count == 0:
        return np.zeros(pixels.shape, dtype=np.bool_)
    sizes = np.bincount(pieces.ravel())[1:]
    breast = pieces == 1 + int(sizes.argmax())
    breast = ndimage.binary_fill_holes(_grown(breast, smooth))
    if breast.mean() < _LEAST:
        return np.zeros(pixels.shape, dtype=np.bool_)
    return _enlarged(breast, step, pixels.shape)


def _grown(core: Mask, smooth: NDArray[np.float64]) -> Mask:
    """The core with the dim band under the skin: what is clearly brighter than the background around, and near."""
    from scipy import ndimage

    reach = max(2, max(core.shape) // _BAND)
    near = ndimage.binary_dilation(core, _disc(reach))
    around = smooth[~near]
    if around.size < 50:
        return core
    background = float(np.median(around))
    noise = 1.4826 * float(np.median(np.abs(around - background)))
    rim = core & ~ndimage.binary_erosion(core, _disc(1))
    skin = float(np.median(smooth[rim]))
    low = background + max(_NOISE * noise, _SKIN * (skin - background))
    if low >= skin:
        return core
    grown = ndimage.binary_propagation(core, mask=core | (near & (smooth > low)))
    closed: Mask = ndimage.binary_opening(grown, _disc(2)) | core
    return closed


def otsu(values: NDArray[np.floating], bins: int = 256) -> float:
    """Otsu's threshold: the one that makes the variance between the two sides largest (IEEE SMC 9:62-66, 1979)."""
    counts, edges = np.histogram(values, bins=bins)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between[~np.isfinite(between)] = -1.0
    return float(edges[1 + int(between.argmax())])


def _reduced(pixels: Pixels, step: int) -> NDArray[np.float64]:
    """Means of step x step blocks; what is over at the far edges makes smaller blocks of its own."""
    rows, columns = (-(-side // step) * step for side in pixels.shape)
    padded = np.pad(pixels, ((0, rows - pixels.shape[0]), (0, columns - pixels.shape[1])), mode="edge")
    blocks = padded.reshape(rows // step, step, columns // step, step)
    reduced: NDArray[np.float64] = blocks.mean(axis=(1, 3), dtype=np.float64)
    return reduced


def _enlarged(mask: Mask, step: int, shape: tuple[int, ...]) -> Mask:
    """The mask at full size, its edge smooth rather than in blocks."""
    if step == 1:
        return mask
    from PIL import Image as Pil

    rows, columns = mask.shape
    picture = Pil.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    wide = picture.resize((columns * step, rows * step), Pil.Resampling.BILINEAR)
    enlarged: Mask = np.asarray(wide)[: shape[0], : shape[1]] > 127
    return enlarged


def _disc(radius: int) -> Mask:
    down, right = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc: Mask = down**2 + right**2 <= radius**2
    return disc
