"""One path for every picture of a study, genuine or modified: to an arm's size and depth, and to raw grey values.

::

    file -> 16 bit, tissue bright -> common depth of the twins -> size of the arm -> bits of the arm -> raw

Nothing but the modification itself may tell what a picture is. So

- the window is computed from the picture's own grey values alone, by one rule: it holds nothing that the values do
  not; padding is 0;
- twins are brought to a common depth first. A picture of 12 bits in a 16-bit file has four bits that are always
  nought; a twin that was written with all 16 would be known by them, at full size with the naked eye of a script;
- resizing averages areas (no overshoot at edges, no aliasing), and is the same arithmetic for all;
- raw files have no header, no compression (sizes would tell), and one time stamp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.reading.protocol import Arm

Grey = NDArray[np.uint16]

LOW, HIGH = 1.0, 99.8  # percentiles of the grey values above black that the first window shows
FULL = 16  # bits that every picture has before


def depth(picture: Grey) -> int:
    """Bits that a 16-bit picture uses, counted from the top: 12 when the lowest four are nought everywhere.

    1 for a picture without any grey value but nought.
    """
    used = int(np.bitwise_or.reduce(picture, axis=None))
    return max(1, FULL - ((used & -used).bit_length() - 1)) if used else 1


def shallowed(picture: Grey, bits: int) -> Grey:
    """The picture with its lowest ``16 - bits`` bits nought: rounded to the nearest value that has them so."""
    step = 1 << (FULL - bits)
    if step == 1:
        return picture
    rounded = (picture.astype(np.uint32) + step // 2) // step * step
    return np.minimum(rounded, (1 << FULL) - step).astype(np.uint16)


def rendered(picture: Grey, arm: Arm) -> Grey:
    """A 16-bit picture as an arm shows it: uint16 (rows, columns) of 0 to ``2**bits - 1``.

    With ``rows`` 0 every pixel keeps its place, and a picture of at most ``bits`` bits its exact grey values. Else it
    is scaled to fit, proportions kept, and what is left at the right or the lower edge is 0: a black of its own could
    be made darker by the modification, and tell.
    """
    values = picture.astype(np.float32) / np.float32(1 << (FULL - arm.bits))
    if arm.rows:
        values = _fitted(values, arm.rows, arm.columns)
    whole: Grey = np.clip(np.floor(values + np.float32(0.5)), 0, (1 << arm.bits) - 1).astype(np.uint16)
    return whole


def _fitted(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    from PIL import Image as Pil

    scale = min(rows / values.shape[0], columns / values.shape[1])
    height = min(rows, max(1, round(values.shape[0] * scale)))
    width = min(columns, max(1, round(values.shape[1] * scale)))
    # Pillow's bilinear filter is stretched to the size of the area that becomes one pixel: a triangle, no overshoot.
    scaled = np.asarray(
        Pil.fromarray(np.ascontiguousarray(values)).resize((width, height), Pil.Resampling.BILINEAR)
    )
    framed = np.zeros((rows, columns), dtype=np.float32)
    framed[:height, :width] = scaled
    return framed


def window(shown: Grey) -> tuple[float, float]:
    """Centre and width (DICOM PS3.3 C.11.2.1.2.1) of the first window, in whole grey values.

    From the 1st to the 99.8th percentile of the grey values above the picture's own darkest; all of them when there
    is but one.
    """
    above = shown[shown > shown.min()]
    values = above if above.size else shown
    low, high = (round(float(value)) for value in np.percentile(values, (LOW, HIGH)))
    width = max(high - low + 1, 2)
    return low + width / 2, float(width)  # shows low as black and high as white


def raw(shown: Grey) -> bytes:
    """The grey values row by row, unsigned 16 bit, least significant byte first."""
    return shown.astype("<u2").tobytes()
