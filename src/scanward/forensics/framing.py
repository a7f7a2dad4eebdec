"""Pictures of any size in a frame of one size: aspect kept, background at the right and the bottom.

What a detector learns from and what it examines go through the same functions: otherwise the way is what is learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.mammography.pictures import Mask, Pixels

Floats = NDArray[np.float32]
Size = tuple[int, int]


def framed(picture: Pixels, breast: Mask, frame: Size, unit: int = 1) -> tuple[Pixels, Mask]:
    """A picture uint16 and its breast, bool (rows, columns), in ``frame``; grey levels are multiples of ``unit``."""
    if picture.shape == frame:
        return picture, breast
    rows, columns = inside(picture.shape, frame)
    shown, mask = np.zeros(frame, dtype=np.uint16), np.zeros(frame, dtype=np.bool_)
    steps = np.clip(np.rint(scaled(picture, rows, columns).astype(np.float64) / unit), 0, 65535 // unit)
    shown[:rows, :columns] = (steps * unit).astype(np.uint16)
    mask[:rows, :columns] = scaled(breast, rows, columns) >= 0.5
    return shown, mask


def framed_region(region: Mask, frame: Size) -> Mask:
    """What was altered, in ``frame``: at least half of a pixel, or, of less, where most was."""
    if region.shape == frame:
        return region
    out = np.zeros(frame, dtype=np.bool_)
    if region.any():
        rows, columns = inside(region.shape, frame)
        part = scaled(region, rows, columns)
        out[:rows, :columns] = part >= min(0.5, float(part.max()) * 0.999)
    return out


def unframed(heat: Floats, shape: tuple[int, ...], frame: Size) -> Floats:
    """A map of the frame over the picture of ``shape``."""
    if tuple(shape) == frame:
        return heat
    rows, columns = inside(shape, frame)
    return scaled(heat[:rows, :columns], shape[0], shape[1])


def inside(shape: tuple[int, ...], frame: Size) -> Size:
    """Rows and columns that a picture of ``shape`` has in ``frame``."""
    scale = min(frame[0] / shape[0], frame[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def scaled(array: NDArray[np.generic], rows: int, columns: int) -> Floats:
    """Area averaging when it shrinks, linear when it grows (Pillow's box-supported triangle)."""
    from PIL import Image as Pil

    picture = Pil.fromarray(array.astype(np.float32))
    return np.asarray(picture.resize((columns, rows), Pil.Resampling.BILINEAR), dtype=np.float32)
