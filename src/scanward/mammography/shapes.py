"""Polygons as pixels, so that a mirrored polygon gives exactly the mirrored pixels.

Drawing libraries round to one side at ties, and a lesion would change by a pixel when its picture is turned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TIE = 1e-6  # px; nearer to a tie than this both pixels are taken, whichever way rounding errors fall


def filled(outline: Sequence[tuple[float, float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The closed polygon as a mask of ``shape`` (rows, columns): its inside (even-odd rule) and its border.

    ``outline`` holds corners (x, y) in px, (0, 0) the centre of the first pixel. A pixel belongs to the inside when
    its centre does, and to the border when the border passes within half a pixel along a row or a column. What lies
    beyond the picture is cut off.
    """
    mask = np.zeros(shape, dtype=np.bool_)
    if outline:
        corners = np.clip(np.asarray(outline, dtype=np.float64), -1e6, 1e6)
        # Only the box round it is worked on: lesions are small and pictures are not.
        low = np.clip(np.floor(corners.min(axis=0)).astype(np.int64) - 1, 0, (shape[1], shape[0]))
        high = np.clip(np.ceil(corners.max(axis=0)).astype(np.int64) + 2, 0, (shape[1], shape[0]))
        _fill(mask[low[1] : high[1], low[0] : high[0]], corners - low)
    return mask


def _fill(mask: NDArray[np.bool_], corners: NDArray[np.float64]) -> None:
    """Mark the polygon in ``mask``."""
    rows, columns = mask.shape
    ends = np.roll(corners, -1, axis=0)
    _border(mask, corners, ends)
    row, x = _crossings(corners, ends, rows)
    if row.size:
        order = np.lexsort((x, row))
        row, x = row[order], x[order]
        # In each row crossings come in pairs: from the first of a pair to the second is inside.
        first = np.ceil(np.clip(x[::2], -1, columns) - _TIE).astype(np.int64)
        last = np.floor(np.clip(x[1::2], -1, columns) + _TIE).astype(np.int64)
        steps = np.zeros((rows, columns + 2), dtype=np.int32)
        some = last >= first
        np.add.at(steps, (row[::2][some], np.maximum(first[some], 0)), 1)
        np.add.at(steps, (row[::2][some], np.minimum(last[some], columns - 1) + 1), -1)
        mask |= np.cumsum(steps, axis=1)[:, :columns] > 0


def _crossings(
    corners: NDArray[np.float64], ends: NDArray[np.float64], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the border crosses the middle of each row: (row, x). A corner there counts for one of its edges."""
    upper = np.minimum(corners[:, 1], ends[:, 1])
    lower = np.maximum(corners[:, 1], ends[:, 1])
    return _along(corners, ends, np.ceil(upper), np.ceil(lower), rows)  # upper <= row < lower


def _along(
    corners: NDArray[np.float64],
    ends: NDArray[np.float64],
    first: NDArray[np.float64],
    beyond: NDArray[np.float64],
    rows: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(row, x) of each edge in its rows ``first`` to ``beyond`` (exclusive), as far as the picture has them."""
    begin = np.maximum(first, 0).astype(np.int64)
    count = np.maximum(np.minimum(beyond, rows).astype(np.int64) - begin, 0)
    edge = np.repeat(np.arange(len(corners)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + begin[edge]
    rise = ends[edge, 1] - corners[edge, 1]
    share = (row - corners[edge, 1]) / np.where(rise == 0, 1.0, rise)
    return row, corners[edge, 0] + share * (ends[edge, 0] - corners[edge, 0])


def _border(mask: NDArray[np.bool_], corners: NDArray[np.float64], ends: NDArray[np.float64]) -> None:
    """Mark the pixels that the border passes: one in each row of a steep edge and in each column of a flat one."""
    steps = np.abs(ends - corners)
    for turned in (False, True):
        view = mask.T if turned else mask
        chosen = steps[:, 0] >= steps[:, 1] if turned else steps[:, 1] >= steps[:, 0]
        one = corners[chosen][:, ::-1] if turned else corners[chosen]
        two = ends[chosen][:, ::-1] if turned else ends[chosen]
        upper, lower = np.minimum(one[:, 1], two[:, 1]), np.maximum(one[:, 1], two[:, 1])
        row, x = _along(one, two, np.ceil(upper - _TIE), np.floor(lower + _TIE) + 1, view.shape[0])
        _mark(view, row, x)
    x, y = corners[:, 0], corners[:, 1]
    for row in (np.floor(y + 0.5 + _TIE), np.ceil(y - 0.5 - _TIE)):
        inside = (row >= 0) & (row < mask.shape[0])
        _mark(mask, row[inside].astype(np.int64), x[inside])


def _mark(mask: NDArray[np.bool_], row: NDArray[np.int64], x: NDArray[np.float64]) -> None:
    """Mark the pixel nearest to each ``x``; of two that are equally near, both."""
    for column in (np.floor(x + 0.5 + _TIE), np.ceil(x - 0.5 - _TIE)):
        inside = (column >= 0) & (column < mask.shape[1])
        mask[row[inside], column[inside].astype(np.int64)] = True
