"""Figures of merit of a yes-or-no reading: sensitivity and specificity at a cut of the rating."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.structured import Structured, by_patient, read_classes

Floats = NDArray[np.float64]


class _Share(Structured):
    """The share of one class that is called right."""

    def __init__(self, cut: float, *, word: str, sign: str, of_positives: bool) -> None:
        if not math.isfinite(cut):
            raise SettingsError(f"a cut of {cut}", word, "give a finite rating")
        self.cut = float(cut)
        self.name = f"{word} at rating {sign} {self.cut:g}"
        self.uses_positives, self.uses_negatives = of_positives, not of_positives

    def one(self, positive: Floats, negative: Floats) -> float:
        """Its value from the ratings of positives (n1,) and negatives (n0,); NaN without cases of its class."""
        score = positive if self.uses_positives else negative
        return float(self._right(score).mean()) if score.size else float("nan")

    def values(self, ratings: Ratings) -> Floats:
        """Its value in every cell: (treatments, readers), NaN where a cell lacks cases of its class."""
        counted = self._counted(ratings)
        right = (self._right(ratings.score) & counted).sum(axis=-1)
        return _share(right, counted.sum(axis=-1))

    def components(self, ratings: Ratings) -> Floats:
        """1 for a case of its class called right, 0 for one called wrong, NaN for the rest."""
        return np.where(self._counted(ratings), self._right(ratings.score), np.nan)

    def leave_one_out(self, ratings: Ratings) -> Floats:
        """Its value in every cell without each patient: (treatments, readers, patients)."""
        counted = self._counted(ratings)
        right = self._right(ratings.score) & counted
        left = right.sum(axis=-1)[..., None] - by_patient(right, ratings)
        return _share(left, counted.sum(axis=-1)[..., None] - by_patient(counted, ratings))

    def _right(self, score: Floats) -> NDArray[np.bool_]:
        return score >= self.cut if self.uses_positives else score < self.cut

    def _counted(self, ratings: Ratings) -> NDArray[np.bool_]:
        positives, negatives = read_classes(ratings)
        return positives if self.uses_positives else negatives


class Sensitivity(_Share):
    """The share of positives rated at the cut or above: 1/n1 sum_i [x_i >= cut].

    A mean of independent indicators: its DeLong and its unbiased covariances are those of sample means
    (Pepe 2003, The Statistical Evaluation of Medical Tests, Oxford University Press, chapter 2).

    Raises
    ------
    SettingsError
        A cut that is not finite.
    """

    def __init__(self, cut: float) -> None:
        super().__init__(cut, word="sensitivity", sign=">=", of_positives=True)


class Specificity(_Share):
    """The share of negatives rated below the cut: 1/n0 sum_j [y_j < cut]; see `Sensitivity`.

    Raises
    ------
    SettingsError
        A cut that is not finite.
    """

    def __init__(self, cut: float) -> None:
        super().__init__(cut, word="specificity", sign="<", of_positives=False)


def _share(right: NDArray[np.generic], of: NDArray[np.generic]) -> Floats:
    divisor = of.astype(np.float64)
    found = np.full(divisor.shape, np.nan)
    np.divide(right.astype(np.float64), divisor, out=found, where=divisor > 0)
    return found
