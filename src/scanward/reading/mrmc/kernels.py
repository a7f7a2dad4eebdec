"""Sums over pairs of a positive and a negative case, patient by patient, in one sweep of bounded memory.

The Wilcoxon kernel s(x, y) is 1 where a positive is rated x above a negative rated y, 1/2 where equal, 0 where below.
Of a treatment t and a reader r,

    K_tr(p, q) = sum of s over the negatives of patient p and the positives of patient q that r read under t
    D_tr(p, q) = the number of those pairs = n0_tr(p) n1_tr(q)

Without clusters p is a negative case, q a positive one. Of N0 x N1 numbers for every cell only sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Counts = NDArray[np.integer]
_BLOCK = (
    1 << 18
)  # kernel values of one reader held at once, all treatments: 1 MiB of float32, as caches like it


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of a kernel over patients p (of negatives) and q (of positives).

    ``square[t, u]`` = sum K_t(p, q) K_u(p, q); ``turned[t, u]`` = sum K_t(p, q) K_u(q, p), which patients with cases of
    both kinds cause. Leading axes: readers, or none where readers are summed first.
    """

    row: Floats  # (..., treatments, patients): sum over q of K(p, q)
    col: Floats  # (..., treatments, patients): sum over p of K(p, q)
    own: Floats  # (..., treatments, patients): K(p, p)
    square: Floats  # (..., treatments, treatments)
    turned: Floats  # (..., treatments, treatments)

    @property
    def total(self) -> Floats:
        """Over all pairs: (..., treatments)."""
        found: Floats = self.row.sum(axis=-1)
        return found


@dataclass(frozen=True, eq=False)
class Swept:
    """Kernel sums ``wins`` and counts of pairs ``pairs``, of every reader and of all readers by their weights.

    ``weights`` (treatments, readers): those weights. ``mixed``: whether some patient has both positives and negatives.
    """

    weights: Floats

    wins_by_reader: Sums
    pairs_by_reader: Sums
    wins: Sums
    pairs: Sums
    mixed: bool


def sweep(ratings: Ratings, weights: Floats | None = None) -> Swept:
    """All sums of a table. ``weights`` (treatments, readers): of a reader's pairs in the sum over readers, else 1.

    Takes time in proportion to treatments x readers x positives x negatives.
    """
    cells = _Cells(ratings, np.arange(len(ratings.cases)))
    given = np.ones(ratings.score.shape[:2]) if weights is None else weights
    by_reader, wins = _wins(cells, given)
    if cells.both.size:
        # Only patients with cases of both kinds stand both as p and as q.
        inner = _Cells(ratings, np.flatnonzero(np.isin(ratings.patient, cells.both)))
        turned, across = _turned(inner, given)
        by_reader, wins = replace(by_reader, turned=turned), replace(wins, turned=across)
    return Swept(given, by_reader, _pairs_by_reader(cells), wins, _pairs(cells, given), bool(cells.both.size))


class _Cells:
    """Some cases' ratings as ranks within their cell, cases of one kind sorted by patient."""

    def __init__(self, ratings: Ratings, cases: Indices) -> None:
        negative, positive = cases[~ratings.truth[cases]], cases[ratings.truth[cases]]
        negative = negative[np.argsort(ratings.patient[negative], kind="stable")]
        positive = positive[np.argsort(ratings.patient[positive], kind="stable")]
        self.treatments, self.readers = ratings.score.shape[:2]
        self.patients = len(ratings.patients)
        self.rows, self.row_starts = np.unique(ratings.patient[negative], return_index=True)
        self.cols, self.col_starts = np.unique(ratings.patient[positive], return_index=True)
        self.row_ends = np.append(self.row_starts, len(negative))[1:]
        self.col_ends = np.append(self.col_starts, len(positive))[1:]
        self.single = len(self.rows) == len(negative) and len(self.cols) == len(positive)
        self.both, self.both_rows, self.both_cols = np.intersect1d(self.rows, self.cols, return_indices=True)
        self.n0, self.n1 = self._counts(ratings, negative), self._counts(ratings, positive)
        # Ranks compare as ratings do, in a quarter of the memory; a missing rating neither beats nor ties.
        small = np.int16 if len(ratings.cases) < np.iinfo(np.int16).max else np.int32
        top = np.iinfo(small).max
        self.negative = np.full((*ratings.score.shape[:2], len(negative)), top, dtype=small)
        self.positive = np.full((*ratings.score.shape[:2], len(positive)), -1, dtype=small)
        for cell in np.ndindex(ratings.score.shape[:2]):
            score = ratings.score[cell]
            read = ~np.isnan(score)
            rank = np.zeros(len(score), dtype=small)
            rank[read] = np.unique(score[read], return_inverse=True)[1]
            self.negative[cell] = np.where(read[negative], rank[negative], top)
            self.positive[cell] = np.where(read[positive], rank[positive], -1)

    def _counts(self, ratings: Ratings, cases: Indices) -> Floats:
        read = ~np.isnan(ratings.score[:, :, cases])
        found = np.zeros((*read.shape[:2], self.patients))
        for cell in np.ndindex(read.shape[:2]):
            found[cell] = np.bincount(
                ratings.patient[cases], weights=read[cell].astype(float), minlength=self.patients
            )
        return found

    def twice(self, reader: int, rows: slice, cols: slice) -> NDArray[np.floating]:
        """2 K of a reader: (treatments, rows, cols) of patients. Whole numbers, so float32 adds them exactly."""
        of = slice(self.row_starts[rows.start], self.row_ends[rows.stop - 1])
        to = slice(self.col_starts[cols.start], self.col_ends[cols.stop - 1])
        y = self.negative[:, reader, of, None]
        x = self.positive[:, reader, None, to]
        found = (x > y).view(np.int8)
        found += (x >= y).view(np.int8)
        scored = found.astype(np.float32)
        if self.single:
            return scored
        height, width = rows.stop - rows.start, cols.stop - cols.start
        by_row = _summing(self.row_starts[rows] - of.start, scored.shape[1], np.float32)
        by_col = _summing(self.col_starts[cols] - to.start, scored.shape[2], np.float64)
        summed = np.stack([by_row @ of_treatment for of_treatment in scored])
        folded: NDArray[np.floating] = by_col @ summed.reshape(-1, scored.shape[2]).T
        return folded.T.reshape(self.treatments, height, width)

    def blocks(self) -> Iterator[slice]:
        """Slices of the patients of negatives that with all positives make some _BLOCK pairs of cases."""
        count = len(self.rows)
        a_patient = self.treatments * self.positive.shape[-1] * self.negative.shape[-1] / max(1, count)
        step = max(1, int(_BLOCK // max(1.0, a_patient)))
        for start in range(0, count if len(self.cols) else 0, step):
            yield slice(start, min(start + step, count))


def _summing(starts: Indices, count: int, kind: type[np.floating]) -> sparse.csr_array:
    """The matrix that adds up runs of ``count`` rows which begin at ``starts``; ten times as fast as reduceat."""
    ends = np.append(starts, count)
    return sparse.csr_array((np.ones(count, dtype=kind), np.arange(count), ends), shape=(len(starts), count))


def _wins(cells: _Cells, weights: Floats) -> tuple[Sums, Sums]:
    shape = (cells.readers, cells.treatments, cells.patients)
    row, col, own = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    square = np.zeros((cells.readers, cells.treatments, cells.treatments))
    across = np.zeros(square.shape[1:])
    whole = slice(0, len(cells.cols))
    for rows in cells.blocks():
        together = np.zeros((cells.treatments, rows.stop - rows.start, len(cells.cols)))
        among = (cells.both_rows >= rows.start) & (cells.both_rows < rows.stop)
        for reader in range(cells.readers):
            twice = cells.twice(reader, rows, whole)
            flat = twice.reshape(cells.treatments, -1)
            square[reader] += flat @ flat.T
            row[reader][:, cells.rows[rows]] = twice.sum(axis=2)
            col[reader][:, cells.cols] += twice.sum(axis=1)
            own[reader][:, cells.both[among]] = twice[
                :, cells.both_rows[among] - rows.start, cells.both_cols[among]
            ]
            together += weights[:, reader, None, None] * twice
        flat_together = together.reshape(cells.treatments, -1)
        across += flat_together @ flat_together.T
    by_reader = Sums(row / 2, col / 2, own / 2, square / 4, np.zeros_like(square))
    of = weights.T[:, :, None] / 2
    row, col, own = ((of * each).sum(axis=0) for each in (row, col, own))
    return by_reader, Sums(row, col, own, across / 4, np.zeros_like(across))


def _turned(cells: _Cells, weights: Floats) -> tuple[Floats, Floats]:
    """sum K_t(p, q) K_u(q, p), of every reader and of their weighted sum, over patients that all have both kinds."""
    turned = np.zeros((cells.readers, cells.treatments, cells.treatments))
    across = np.zeros(turned.shape[1:])
    for part in cells.blocks():
        # Patients from this block on: what lies before it was met as the other half of an earlier block.
        rest = slice(part.start, len(cells.both))
        height = part.stop - part.start
        ahead, back = np.zeros((2, cells.treatments, height, rest.stop - rest.start))
        for reader in range(cells.readers):
            here = cells.twice(reader, part, rest) / 2
            there = cells.twice(reader, rest, part).swapaxes(1, 2) / 2
            turned[reader] += _both_halves(here, there, height)
            ahead += weights[:, reader, None, None] * here
            back += weights[:, reader, None, None] * there
        across += _both_halves(ahead, back, height)
    return turned, across


def _both_halves(here: NDArray[np.floating], there: NDArray[np.floating], square: int) -> Floats:
    """sum here_t there_u over the block's own ``square`` of patients, and that of the rest together with its mirror."""
    inner = np.tensordot(here[..., :square], there[..., :square], axes=((1, 2), (1, 2)))
    outer = np.tensordot(here[..., square:], there[..., square:], axes=((1, 2), (1, 2)))
    found: Floats = inner + outer + outer.T
    return found


def _pairs_by_reader(cells: _Cells) -> Sums:
    n0, n1 = cells.n0.swapaxes(0, 1), cells.n1.swapaxes(0, 1)  # (readers, treatments, patients)
    return Sums(
        row=n0 * n1.sum(axis=-1, keepdims=True),
        col=n1 * n0.sum(axis=-1, keepdims=True),
        own=n0 * n1,
        square=(n0 @ n0.swapaxes(1, 2)) * (n1 @ n1.swapaxes(1, 2)),
        turned=(n0 @ n1.swapaxes(1, 2)) * (n1 @ n0.swapaxes(1, 2)),
    )


def _pairs(cells: _Cells, weights: Floats) -> Sums:
    of = weights[:, :, None]
    square, turned = np.zeros((2, cells.treatments, cells.treatments))
    for t in range(cells.treatments):
        for u in range(cells.treatments):  # readers x readers at once, no more
            n0, n1, other0, other1 = cells.n0[t], cells.n1[t], cells.n0[u], cells.n1[u]
            square[t, u] = weights[t] @ ((n0 @ other0.T) * (n1 @ other1.T)) @ weights[u]
            turned[t, u] = weights[t] @ ((n0 @ other1.T) * (n1 @ other0.T)) @ weights[u]
    return Sums(
        row=(of * cells.n0 * cells.n1.sum(axis=-1, keepdims=True)).sum(axis=1),
        col=(of * cells.n1 * cells.n0.sum(axis=-1, keepdims=True)).sum(axis=1),
        own=(of * cells.n0 * cells.n1).sum(axis=1),
        square=square,
        turned=turned,
    )
