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
_NEAR = 0.02  # of the breast's width: so near to its outermost column an edge counts as upright
_UPRIGHT = 1.5  # times as many upright rows on one side as on the other decide
_SURE = 0.02  # of the breast's width; a centre of mass nearer to the middle does not tell


@dataclass(frozen=True, slots=True)
class Side:
    """Where the chest wall is: ``left`` as far as the picture tells, and whether it tells clearly."""

    left: bool
    sure: bool


def chest_wall(breast: Mask) -> Side:
    """The side of the chest wall, from the breast's outline: straight, upright and broad there, round at the nipple.

    Two signs: on which side more rows end within a fiftieth of the breast's width from its outermost column, and on
    which side of the middle of its box the centre of mass lies. ``sure`` asks for both.
    """
    rows = np.flatnonzero(breast.any(axis=1))
    heights = breast.sum(axis=0, dtype=np.int64)
    columns = np.flatnonzero(heights)
    if columns.size < 2:
        return Side(left=True, sure=False)
    first, last = int(columns[0]), int(columns[-1])
    width = last - first + 1
    near = max(1, round(width * _NEAR))
    begins = breast[rows].argmax(axis=1)
    ends = breast.shape[1] - 1 - breast[rows][:, ::-1].argmax(axis=1)
    upright_left = int((begins < first + near).sum())
    upright_right = int((ends > last - near).sum())
    more, fewer = max(upright_left, upright_right), max(1, min(upright_left, upright_right))
    upright = 0 if more < _UPRIGHT * fewer else 1 if upright_left > upright_right else -1
    centre = float((heights * np.arange(heights.size)).sum() / heights.sum())
    off = ((first + last) / 2 - centre) / width
    massive = 0 if abs(off) < _SURE else 1 if off > 0 else -1
    lean = upright + massive
    return Side(left=lean > 0 or (lean == 0 and upright_left >= upright_right), sure=abs(lean) == 2)


def mirrored(picture: NDArray[_Kind]) -> NDArray[_Kind]:
    """The picture with left and right exchanged."""
    return np.ascontiguousarray(picture[:, ::-1])


def mirrored_lesion(lesion: Lesion, columns: int) -> Lesion:
    """The lesion in a picture of ``columns`` that was mirrored (a raster is a picture: it is mirrored as one)."""
    last = columns - 1
    outline = tuple((last - x, y) for x, y in lesion.outline)
    circle = None if lesion.circle is None else (last - lesion.circle[0], *lesion.circle[1:])
    return msgspec.structs.replace(lesion, outline=outline, circle=circle)
