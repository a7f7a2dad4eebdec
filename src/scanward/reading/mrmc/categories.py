"""Ratings of one cell as counts by category, with and without each patient: what fits and areas are computed from.

A leave-one-out value depends only on how many cases of which truth leave which category: with five ratings there are
ten such patterns however many patients there are. Everything here works on those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Counts:
    """How many negatives and positives of one cell fall into each category, categories ascending.

    Parameters
    ----------
    negative, positive : float64 (categories,)
        Counts, whole numbers.
    lowest : float64 (categories,)
        The lowest rating of each category.
    key : intp (cases read,)
        Category of each case read, plus the number of categories for a positive.
    patient : intp (cases read,)
        Index of its patient.
    """

    negative: Floats
    positive: Floats
    lowest: Floats
    key: Indices
    patient: Indices

    def without_patients(self) -> tuple[Indices, list[Indices]]:
        """The patients read (ascending, each once) as patterns: index of each patient's, and the keys that go."""
        if len(np.unique(self.patient)) == len(self.patient):
            order = np.argsort(self.patient)
            keys, which = np.unique(self.key[order], return_inverse=True)
            return which.astype(np.intp), [keys[i : i + 1] for i in range(len(keys))]
        order = np.lexsort((self.key, self.patient))
        parts = np.split(self.key[order], np.flatnonzero(np.diff(self.patient[order])) + 1)
        known: dict[bytes, int] = {}
        which = np.array([known.setdefault(part.tobytes(), len(known)) for part in parts], dtype=np.intp)
        return which, [np.frombuffer(part, dtype=np.intp) for part in known]

    def less(self, patterns: list[Indices]) -> tuple[Floats, Floats]:
        """Counts of negatives and positives (patterns, categories) without the keys of each pattern."""
        width = len(self.negative)
        left = np.tile(np.concatenate((self.negative, self.positive)), (len(patterns), 1))
        rows = np.repeat(np.arange(len(patterns)), [len(keys) for keys in patterns])
        np.subtract.at(left, (rows, np.concatenate(patterns)), 1.0)
        return left[:, :width], left[:, width:]


def count(score: Floats, truth: Bools, patient: Indices, most: int | None = None) -> Counts:
    """Counts of one cell: every rating that occurs is a category.

    ``most``: at most so many categories. Neighbours are then merged so that the corners of the empirical ROC curve
    that remain lie as evenly as can be along FPR + TPR, in the manner of LABROC5 (Metz, Herman and Shen 1998,
    Stat Med 17:1033-1053).
    """
    read = ~np.isnan(score)
    rating, index = np.unique(score[read], return_inverse=True)
    positive = np.bincount(index[truth[read]], minlength=len(rating)).astype(np.float64)
    negative = np.bincount(index[~truth[read]], minlength=len(rating)).astype(np.float64)
    starts = np.arange(len(rating))
    if most is not None and len(rating) > most:
        starts = _merged(negative, positive, most)
        index = (np.searchsorted(starts, np.arange(len(rating)), side="right") - 1)[index]
        negative, positive = np.add.reduceat(negative, starts), np.add.reduceat(positive, starts)
    return Counts(
        negative=negative,
        positive=positive,
        lowest=rating[starts],
        key=(index + len(starts) * truth[read]).astype(np.intp),
        patient=patient[read],
    )


def _merged(negative: Floats, positive: Floats, most: int) -> Indices:
    """First rating of each merged category: truth-state runs, and of these at most ``most``."""
    starts = np.concatenate(([0], corners(negative, positive)))
    if len(starts) <= most:
        return starts.astype(np.intp)
    share = negative / max(negative.sum(), 1.0) + positive / max(positive.sum(), 1.0)
    along = np.concatenate(([0.0], np.cumsum(share)))[starts]
    wanted = np.linspace(0.0, 2.0, most + 1)[1:-1]
    nearest = np.clip(np.searchsorted(along, wanted), 1, len(starts) - 1)
    nearest -= (along[nearest] - wanted > wanted - along[nearest - 1]) & (nearest > 1)
    return np.unique(np.concatenate(([0], starts[nearest]))).astype(np.intp)


def corners(negative: Floats, positive: Floats) -> Indices:
    """Categories at whose lower end the empirical ROC curve has a corner: where a truth-state run begins.

    Neighbours that both hold positives alone, or negatives alone, are one run: no likelihood tells them apart
    (LABROC4; Metz, Herman and Shen 1998). The first category, which begins at (1, 1), is not among them.
    """
    held = np.flatnonzero(negative + positive)
    kind = (negative[held] > 0) + 2 * (positive[held] > 0)
    keep = (kind[1:] != kind[:-1]) | (kind[1:] == 3)
    return np.asarray(held[1:][keep], dtype=np.intp)


def cells(ratings: Ratings, most: int | None = None) -> Iterator[tuple[tuple[int, int], Counts]]:
    """Treatment, reader and counts of every cell that read positives and negatives."""
    for t, r in np.ndindex(ratings.score.shape[:2]):
        counts = count(ratings.score[t, r], ratings.truth, ratings.patient, most)
        if counts.negative.any() and counts.positive.any():
            yield (t, r), counts
