"""Confidence bands of the mean ROC curve of several readers that respect both readers and cases.

Pointwise: at each false positive rate the mean TPR over readers lies in the band with the given confidence; the whole
curve leaves it somewhere more often than that.

binormal
    At each FPR the fitted TPR is a figure of merit like any other: jackknife covariances over patients, then the
    single-treatment interval of Obuchowski and Rockette with Hillis' degrees of freedom.
empirical
    The bootstrap: readers and patients are drawn with replacement, patients apart by whether they have positive cases,
    negative ones or both; percentiles of the mean TPR. (The jackknife does not serve: a polygon's TPR at a fixed FPR
    hangs on a quantile; Efron and Tibshirani 1993, section 11.6.) Few readers make it too narrow: drawn from r
    readers, the variance between them comes out (r - 1)/r of what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.binormal import MOST, Binormal, fits, fits_without
from scanward.reading.mrmc.categories import cells
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.curves import Curve, Model, curves, mean_curve
from scanward.reading.mrmc.designs import design_of
from scanward.reading.mrmc.doubts import few_readers
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Random

Floats = NDArray[np.float64]

_ENDS = np.array([0.001, 0.002, 0.005, 0.01, 0.015])
GRID = np.unique(
    np.concatenate((_ENDS, np.linspace(0.0, 1.0, 51), 1.0 - _ENDS))
)  # closer where curves are steep
REPLICATES = 1000


@dataclass(frozen=True, eq=False)
class Band:
    """The mean curve of one treatment with its band.

    ``fpr``, ``low``, ``high``: (points,); ``mean``: the vertical average, in full. ``how``: the method in words.
    """

    treatment: str
    model: Model
    random: Random
    level: float
    mean: Curve
    fpr: Floats
    low: Floats
    high: Floats
    how: str
    warnings: tuple[str, ...]


def band(
    ratings: Ratings,
    treatment: str,
    model: Model = "empirical",
    random: Random = Random.BOTH,
    level: float = 0.95,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Band:
    """The mean curve of one treatment over its readers, with its pointwise band.

    Parameters
    ----------
    ratings : Ratings
    treatment : str
    model : "empirical" or "binormal"
    random : Random
        What is a sample: readers and cases, or one of them.
    level : float
    replicates, seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        No such treatment, nobody who read positive and negative cases under it.
    SettingsError
        A level or a model that is none.
    """
    if not 0.0 < level < 1.0 or replicates < 1:
        raise SettingsError(
            f"level {level}, {replicates} replicates", "band", "give 0 < level < 1, 1 replicate or more"
        )
    chosen = ratings.select(treatments=[treatment])
    drawn = curves(chosen, model)
    if not drawn:
        raise InputError(
            "no reader with positive and negative cases", treatment, "give ratings of both classes"
        )
    chosen = chosen.select(readers=[chosen.readers[r] for _, r in drawn])
    if model == "binormal":
        low, high = _jackknife(chosen, random, level)
        how = "binormal curves; jackknife over patients, Obuchowski-Rockette at each FPR"
    else:
        low, high = _bootstrap(chosen, random, level, replicates, seed)
        how = f"empirical curves; percentiles of {replicates} bootstrap samples"
    return Band(
        treatment=treatment,
        model=model,
        random=random,
        level=level,
        mean=mean_curve(list(drawn.values()), "vertical"),
        fpr=GRID,
        low=low,
        high=high,
        how=f"{how}; {random} random; pointwise {100 * level:g} %",
        warnings=tuple(few_readers(len(drawn)) if random is not Random.CASES else ()),
    )


# --- binormal


class _Tabled(Merit):
    """A figure of merit whose values are known already."""

    def __init__(self, value: Floats, without: Floats) -> None:
        self.name, self._value, self._without = "TPR", value, without

    def one(self, positive: Floats, negative: Floats) -> float:
        """NaN: its values are those of whole tables."""
        return float("nan")

    def values(self, ratings: Ratings) -> Floats:
        return self._value

    def leave_one_out(self, ratings: Ratings) -> Floats:
        return self._without


def _jackknife(ratings: Ratings, random: Random, level: float) -> tuple[Floats, Floats]:
    design = design_of(ratings)
    value = np.empty((len(ratings.readers), len(GRID)))
    without = np.empty((len(ratings.readers), len(ratings.patients), len(GRID)))
    for (_, r), curve in fits(ratings).items():
        value[r] = without[r] = _upper(curve)
    for (_, r), counts in cells(ratings, MOST):
        for patients, curve in fits_without(counts):
            without[r, patients] = _upper(curve)
    found = np.empty((2, len(GRID)))
    for i in range(len(GRID)):
        at = value[None, :, i], without[None, :, :, i]
        if GRID[i] in (0.0, 1.0) and np.ptp(at[1]) == 0.0:  # every curve begins and ends there
            found[:, i] = value[0, i]
            continue
        estimates = estimate(ratings, _Tabled(*at))
        one = obuchowski_rockette(estimates, random, level, design).treatments[0]
        found[:, i] = one.low, one.high
    found = np.where(np.isnan(found), np.array([[0.0], [1.0]]), found)  # nothing known: anywhere
    low, high = np.clip(found, 0.0, 1.0)
    return low, high


def _upper(curve: Binormal) -> Floats:
    """TPR on the grid, with the upper end of vertical parts."""
    found = curve.tpr(GRID)
    if curve.b == 0.0 or curve.a == np.inf:
        found[0] = 1.0 if curve.a == np.inf else curve.tpr(np.array([0.5]))[0]
    return found


# --- empirical


def _bootstrap(
    ratings: Ratings, random: Random, level: float, replicates: int, seed: int
) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    groups = _groups(ratings)
    polygons = [_Polygon(ratings.score[0, r], ratings) for r in range(len(ratings.readers))]
    readers = np.arange(len(polygons))
    found = np.empty((replicates, len(GRID)))
    for replicate in range(replicates):
        weight = np.ones(len(ratings.patients))
        if random is not Random.READERS:
            weight = np.zeros(len(ratings.patients))
            for group in groups:
                np.add.at(weight, generator.choice(group, len(group)), 1.0)
        drawn = readers if random is Random.CASES else generator.choice(readers, len(readers))
        each, times = np.unique(drawn, return_counts=True)
        rates = np.array([polygons[r].tpr(weight) for r in each])
        # A reader none of whose positives (or negatives) was drawn has no curve in this sample.
        there = ~np.isnan(rates[:, 0])
        found[replicate] = np.average(rates[there], axis=0, weights=times[there]) if there.any() else np.nan
    tail = 50.0 * (1.0 - level)
    low, high = np.nanpercentile(found, [tail, 100.0 - tail], axis=0)
    return low, high


def _groups(ratings: Ratings) -> list[NDArray[np.intp]]:
    """Patients by whether they have positive cases, negative ones, or both."""
    kind = np.zeros(len(ratings.patients), dtype=np.intp)
    np.bitwise_or.at(kind, ratings.patient, np.where(ratings.truth, 2, 1))
    return [np.flatnonzero(kind == one) for one in (1, 2, 3) if (kind == one).any()]


class _Polygon:
    """The empirical curve of one reader, whose cases may be weighted."""

    def __init__(self, score: Floats, ratings: Ratings) -> None:
        read = np.flatnonzero(~np.isnan(score))
        order = read[np.argsort(-score[read], kind="stable")]
        self._patient, self._truth = ratings.patient[order], ratings.truth[order]
        falls = np.flatnonzero(np.diff(score[order]))
        self._ends = np.append(falls, len(order) - 1)

    def tpr(self, weight: Floats) -> Floats:
        """TPR on the grid (upper end of vertical parts) with patients of this weight; NaN without one class."""
        each = weight[self._patient]
        true = np.cumsum(np.where(self._truth, each, 0.0))[self._ends]
        false = np.cumsum(np.where(self._truth, 0.0, each))[self._ends]
        if true[-1] == 0.0 or false[-1] == 0.0:
            return np.full(len(GRID), np.nan)
        curve = Curve(np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1]))
        return curve.sides(GRID)[1]
