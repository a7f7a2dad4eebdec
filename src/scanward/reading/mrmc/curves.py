"""ROC curves per reader and treatment, their averages over readers, and operating points.

An average can be taken along three directions: vertically (the mean TPR of all readers at each FPR), horizontally (the
mean FPR at each TPR), or diagonally (the mean of TPR - FPR at each TPR + FPR, which treats both classes alike). In all
three the area under the average is the average of the areas, as Chen and Samuelson ask of an average curve (2014,
doi:10.1259/bjr.20140016). The curve of the mean binormal parameters does not have that property and is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.binormal import Binormal, fits
from scanward.reading.mrmc.categories import cells
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Model = Literal["empirical", "binormal"]
Direction = Literal["vertical", "horizontal", "diagonal"]
MODELS: tuple[Model, ...] = ("empirical", "binormal")


@dataclass(frozen=True, eq=False)
class Curve:
    """A polygon from (0, 0) to (1, 1), neither ``fpr`` nor ``tpr`` (both (n,)) ever falling."""

    fpr: Floats
    tpr: Floats

    @property
    def area(self) -> float:
        """Area under the polygon."""
        return float(np.sum(np.diff(self.fpr) * 0.5 * (self.tpr[1:] + self.tpr[:-1])))

    def mirrored(self) -> Curve:
        """The same curve in (1 - TPR, 1 - FPR)."""
        return Curve(1.0 - self.tpr[::-1], 1.0 - self.fpr[::-1])

    def sides(self, fpr: Floats) -> tuple[Floats, Floats]:
        """Lower and upper TPR at false positive rates (n,): apart where the curve rises vertically."""
        there, first = np.unique(self.fpr, return_index=True)
        last = np.append(first[1:], len(self.fpr)) - 1
        right = np.clip(np.searchsorted(there, fpr, side="left"), 0, len(there) - 1)
        exact = there[right] == fpr
        left = np.maximum(right - 1, 0)
        width = np.where(exact | (left == right), 1.0, there[right] - there[left])
        share = (fpr - there[left]) / width
        low, high = self.tpr[first], self.tpr[last]
        between = high[left] + share * (low[right] - high[left])
        return np.where(exact, low[right], between), np.where(exact, high[right], between)


@dataclass(frozen=True)
class OperatingPoint:
    """One reader's rates when everything rated ``cut`` or higher is called positive."""

    treatment: str
    reader: str
    cut: float
    fpr: float
    tpr: float


def empirical_curve(negative: Floats, positive: Floats) -> Curve:
    """The curve through all operating points, from counts by ascending category: (categories,) twice."""
    rates = [
        np.concatenate(([0.0], np.cumsum(counts[::-1]) / counts.sum())) for counts in (negative, positive)
    ]
    for rate in rates:
        rate[-1] = 1.0
    return Curve(*rates)


def binormal_curve(curve: Binormal, points: int = 401) -> Curve:
    """A binormal curve as a polygon, its points spread evenly along FPR + TPR."""
    if np.isinf(curve.a):
        corner = 1.0 if curve.a > 0 else 0.0
        return Curve(np.array([0.0, 1.0 - corner, 1.0]), np.array([0.0, corner, 1.0]))
    if curve.b == 0.0:
        level = float(ndtr(curve.a))
        return Curve(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, level, level, 1.0]))
    if np.isinf(curve.b):
        return binormal_curve(curve.mirrored()).mirrored()
    # Fine in both deviates, then thinned: however steep or flat the curve, neighbours lie close.
    deviate = np.linspace(-8.5, 8.5, 4001)
    z = np.sort(np.concatenate((deviate, (deviate - curve.a) / curve.b)))
    fpr, tpr = ndtr(z), ndtr(curve.a + curve.b * z)
    along = fpr + tpr
    along, kept = np.unique(along, return_index=True)
    wanted = np.linspace(0.0, 2.0, points)[1:-1]
    return Curve(
        np.concatenate(([0.0], np.interp(wanted, along, fpr[kept]), [1.0])),
        np.concatenate(([0.0], np.interp(wanted, along, tpr[kept]), [1.0])),
    )


def curves(ratings: Ratings, model: Model = "empirical") -> dict[tuple[int, int], Curve]:
    """The curve of every cell (treatment, reader) that read positives and negatives.

    Raises
    ------
    SettingsError
        A model that is neither empirical nor binormal.
    """
    if model == "empirical":
        return {cell: empirical_curve(counts.negative, counts.positive) for cell, counts in cells(ratings)}
    if model == "binormal":
        return {cell: binormal_curve(curve) for cell, curve in fits(ratings).items()}
    raise SettingsError(f"no curve '{model}'", "curves", f"there are {', '.join(MODELS)}")


def operating_points(ratings: Ratings) -> tuple[OperatingPoint, ...]:
    """Every cut of every reader under every treatment, from the lowest rating but one to the highest."""
    found = []
    for (t, r), counts in cells(ratings):
        fpr = 1.0 - np.cumsum(counts.negative)[:-1] / counts.negative.sum()
        tpr = 1.0 - np.cumsum(counts.positive)[:-1] / counts.positive.sum()
        found += [
            OperatingPoint(ratings.treatments[t], ratings.readers[r], float(cut), float(f), float(p))
            for cut, f, p in zip(counts.lowest[1:], fpr, tpr, strict=True)
        ]
    return tuple(found)


def mean_curve(several: Sequence[Curve], direction: Direction = "diagonal") -> Curve:
    """The average of curves along a direction, exactly: it has a corner wherever one of them has.

    Raises
    ------
    InputError
        No curves.
    SettingsError
        A direction that is none.
    """
    if not several:
        raise InputError("no curve to average", "curves", "give ratings of positive and negative cases")
    if direction == "vertical":
        at = np.unique(np.concatenate([curve.fpr for curve in several]))
        sides = np.mean([curve.sides(at) for curve in several], axis=0)  # (2, n)
        return _rising(np.repeat(at, 2), sides.T.ravel())
    if direction == "horizontal":
        return mean_curve([curve.mirrored() for curve in several], "vertical").mirrored()
    if direction == "diagonal":
        along = [curve.fpr + curve.tpr for curve in several]
        at = np.unique(np.concatenate(along))
        above = np.mean(
            [np.interp(at, u, curve.tpr - curve.fpr) for u, curve in zip(along, several, strict=True)], axis=0
        )
        return _rising(0.5 * (at - above), 0.5 * (at + above))
    raise SettingsError(f"no direction '{direction}'", "curves", "use vertical, horizontal or diagonal")


def _rising(fpr: Floats, tpr: Floats) -> Curve:
    """A curve whose rates may fall by their rounding, and end beside 0 and 1 by it."""
    rates = [np.clip(np.maximum.accumulate(rate), 0.0, 1.0) for rate in (fpr, tpr)]
    for rate in rates:
        rate[0], rate[-1] = 0.0, 1.0
    return Curve(*rates)
