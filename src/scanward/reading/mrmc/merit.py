"""Figures of merit: one number for how well one reader, under one treatment, tells positives from negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]


class Merit(ABC):
    """A figure of merit. Subclasses give `one`; those that know a faster way also give `leave_one_out`."""

    name: str
    chance: float | None = None  # its value for a reader who guesses: what one treatment is tested against

    @abstractmethod
    def one(self, positive: Floats, negative: Floats) -> float:
        """Its value from the ratings of positives (n1,) and negatives (n0,); NaN where it has none."""

    def values(self, ratings: Ratings) -> Floats:
        """Its value in every cell: (treatments, readers), NaN where a cell lacks positives or negatives."""
        found = np.full(ratings.score.shape[:2], np.nan)
        for cell in np.ndindex(found.shape):
            found[cell] = self.one(*_parted(ratings.score[cell], ratings.truth))
        return found

    def leave_one_out(self, ratings: Ratings) -> Floats:
        """Its value in every cell without each patient: (treatments, readers, patients).

        A patient whom a cell does not have leaves that cell's value as it is.
        """
        whole = self.values(ratings)
        found = np.repeat(whole[:, :, None], len(ratings.patients), axis=2)
        for cell in np.ndindex(whole.shape):
            score = ratings.score[cell]
            for patient in np.unique(ratings.patient[~np.isnan(score)]):
                kept = ratings.patient != patient
                found[(*cell, patient)] = self.one(*_parted(score[kept], ratings.truth[kept]))
        return found


def _parted(score: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    read = ~np.isnan(score)
    return score[read & truth], score[read & ~truth]
