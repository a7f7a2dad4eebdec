"""Which side the chest wall is on, and turning a picture so that it is on the left, with all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from scanward.mammography.manifest import Lesion
from scanward.mammography.pictures import Mask

_Kind = TypeVar("_Kind", bound=np.generic)
_SURE = 0.02  # of the breast's width; below, the picture does not tell


@dataclass(frozen=True, slots=True)
class Side:
    """Where the chest wall is: ``left`` as far as the picture tells, and whether it tells (``sure``)."""

    left: bool
    sure: bool


def chest_wall(breast: Mask) -> Side:
    """The side of the chest wall, from the breast's outline: it tapers towards the nipple.

    The centre of mass lies nearer to the chest wall than the middle of the bounding box does.
    """
    heights = breast.sum(axis=0, dtype=np.int64)
    columns = np.flatnonzero(heights)
    if columns.size < 2:
        return Side(left=True, sure=False)
    first, last = int(columns[0]), int(columns[-1])
    centre = float((heights * np.arange(heights.size)).sum() / heights.sum())
    off = ((first + last) / 2 - centre) / (last - first + 1)
    return Side(left=off >= 0, sure=abs(off) >= _SURE)


def mirrored(picture: NDArray[_Kind]) -> NDArray[_Kind]:
    """The picture with left and right exchanged."""
    return np.ascontiguousarray(picture[:, ::-1])


def mirrored_lesion(lesion: Lesion, columns: int) -> Lesion:
    """The lesion in a picture of ``columns`` that was mirrored (a raster is a picture: it is mirrored as one)."""
    last = columns - 1
    outline = tuple((last - x, y) for x, y in lesion.outline)
    circle = None if lesion.circle is None else (last - lesion.circle[0], *lesion.circle[1:])
    return msgspec.structs.replace(lesion, outline=outline, circle=circle)
