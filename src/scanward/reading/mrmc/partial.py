"""Partial areas under the ROC curve, empirical and binormal.

Over false positive rates f1 to f2 the area *under* the curve between them; over true positive rates t1 to t2 the area
to the *right* of the curve, int (1 - FPR) dTPR (Jiang, Metz and Nishikawa 1996, doi:10.1148/radiology.201.3.8939225).
Both over 0 to 1 are the whole area. The second is the first with the classes changing places, over 1 - t2 to 1 - t1.

With A the area and w = f2 - f1 (or t2 - t1), as ``scale``:

``raw``      A, from 0 to w; chance gives (f2^2 - f1^2)/2, over true positive rates ((1 - t1)^2 - (1 - t2)^2)/2
``mean``     A / w: the mean true positive rate over the range (or the mean of 1 - FPR)
``McClish``  (1 + (A - chance)/(w - chance))/2: 1/2 by chance, 1 at best, comparable with whole areas
             (McClish 1989, doi:10.1177/0272989X8900900307)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.binormal import MOST, Binormal, BinormalAUC
from scanward.reading.mrmc.categories import Counts, cells, count
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Over = Literal["FPR", "TPR"]
Scale = Literal["raw", "mean", "McClish"]
_AT_ONCE = 4_000_000  # counts held at once


class Range:
    """A range of false or true positive rates, and on which scale its area is given.

    Raises
    ------
    SettingsError
        A range that is none: not 0 <= low < high <= 1.
    """

    def __init__(self, low: float, high: float, over: Over = "FPR", scale: Scale = "raw") -> None:
        if not 0.0 <= low < high <= 1.0:
            raise SettingsError(f"{over} {low:g} to {high:g}", "partial area", "give 0 <= low < high <= 1")
        if over not in ("FPR", "TPR") or scale not in ("raw", "mean", "McClish"):
            raise SettingsError(
                f"partial area over '{over}' on the scale '{scale}'",
                "partial area",
                "use FPR or TPR, and raw, mean or McClish",
            )
        self.low, self.high, self.over, self.scale = low, high, over, scale

    @property
    def along(self) -> tuple[float, float]:
        """The range along the horizontal axis, after the classes have changed places for TPR."""
        return (self.low, self.high) if self.over == "FPR" else (1.0 - self.high, 1.0 - self.low)

    @property
    def chance(self) -> float:
        """What guessing gives, on the scale."""
        return float(self.scaled(np.array(self._chance)))

    @property
    def _chance(self) -> float:
        low, high = self.along
        return (high * high - low * low) / 2.0

    def scaled(self, area: Floats) -> Floats:
        """Raw areas on the scale."""
        width = self.high - self.low
        if self.scale == "raw":
            return area
        if self.scale == "mean":
            return np.asarray(area / width, dtype=np.float64)
        return np.asarray(0.5 * (1.0 + (area - self._chance) / (width - self._chance)), dtype=np.float64)

    @property
    def words(self) -> str:
        """The range and the scale, for names of figures of merit."""
        scale = {"raw": "", "mean": ", mean", "McClish": ", McClish"}[self.scale]
        return f"{self.over} {self.low:g}-{self.high:g}{scale}"


class PartialAUC(Merit):
    """Partial area under the empirical curve, whose corners are joined by straight lines (ties count one half)."""

    def __init__(self, low: float, high: float, over: Over = "FPR", scale: Scale = "raw") -> None:
        self.range = Range(low, high, over, scale)
        self.name = f"empirical partial AUC ({self.range.words})"
        self.chance = self.range.chance

    def one(self, positive: Floats, negative: Floats) -> float:
        """Its value from the ratings of positives (n1,) and negatives (n0,); NaN without one of the classes."""
        if not len(positive) or not len(negative):
            return float("nan")
        score = np.concatenate((positive, negative)).astype(np.float64)
        truth = np.arange(len(score)) < len(positive)
        return self._whole(count(score, truth, np.arange(len(score))))

    def values(self, ratings: Ratings) -> Floats:
        """Its value in every cell: (treatments, readers), NaN where a cell lacks positives or negatives."""
        found = np.full(ratings.score.shape[:2], np.nan)
        for cell, counts in cells(ratings):
            found[cell] = self._whole(counts)
        return found

    def leave_one_out(self, ratings: Ratings) -> Floats:
        """Its value in every cell without each patient: (treatments, readers, patients).

        A patient whom a cell does not have leaves that cell's value as it is; NaN where he has all its positives or
        all its negatives.
        """
        found = np.repeat(self.values(ratings)[:, :, None], len(ratings.patients), axis=2)
        for cell, counts in cells(ratings):
            which, patterns = counts.without_patients()
            size = max(1, _AT_ONCE // len(counts.negative))
            parts = [
                self._areas(*counts.less(patterns[first : first + size]))
                for first in range(0, len(patterns), size)
            ]
            found[(*cell, np.unique(counts.patient))] = np.concatenate(parts)[which]
        return found

    def _whole(self, counts: Counts) -> float:
        return float(self._areas(counts.negative[None], counts.positive[None])[0])

    def _areas(self, negative: Floats, positive: Floats) -> Floats:
        """Of many tables of counts, categories ascending, (n, categories) twice to (n,)."""
        if self.range.over == "TPR":  # a high rating of a positive becomes a low one of a "negative"
            negative, positive = positive[:, ::-1], negative[:, ::-1]
        return self.range.scaled(_polygon(negative, positive, *self.range.along))


def _polygon(negative: Floats, positive: Floats, low: float, high: float) -> Floats:
    """Area under the polygon through the corners between two false positive rates; NaN without one of the classes."""
    sums = negative.sum(axis=1, keepdims=True), positive.sum(axis=1, keepdims=True)
    zero = np.zeros((len(negative), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        false = np.hstack((zero, np.cumsum(negative[:, ::-1], axis=1) / sums[0]))
        true = np.hstack((zero, np.cumsum(positive[:, ::-1], axis=1) / sums[1]))
        width = np.diff(false, axis=1)
        slope = np.where(width > 0, np.diff(true, axis=1) / width, 0.0)
    left, right = np.clip(false[:, :-1], low, high), np.clip(false[:, 1:], low, high)
    middle = true[:, :-1] + slope * (0.5 * (left + right) - false[:, :-1])
    found: Floats = (middle * (right - left)).sum(axis=1)
    return np.where((sums[0][:, 0] > 0) & (sums[1][:, 0] > 0), found, np.nan)


class BinormalPartialAUC(BinormalAUC):
    """Partial area under the binormal curve by maximum likelihood: see `binormal` for the fit."""

    def __init__(
        self, low: float, high: float, over: Over = "FPR", scale: Scale = "raw", most: int = MOST
    ) -> None:
        super().__init__(most)
        self.range = Range(low, high, over, scale)
        self.name = f"binormal partial AUC ({self.range.words})"
        self.chance = self.range.chance

    def of(self, curve: Binormal) -> float:
        """The figure of merit of one curve."""
        seen = curve if self.range.over == "FPR" else curve.mirrored()
        return float(self.range.scaled(np.array(seen.partial(*self.range.along))))
