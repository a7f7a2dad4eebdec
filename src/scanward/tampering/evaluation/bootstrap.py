"""How far a figure would move had other patients come: bootstrap by patient, and DeLong's test as a check.

Images of one patient resemble each other, so whole patients are drawn, never single images. A draw is a row of
weights (how often each patient came), and every statistic is computed from weights: the area under the ROC curve of
2,000 draws is one cumulative sum. Percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13. DeLong, DeLong and Clarke-Pearson, Biometrics 44:837, 1988, in the fast form of Sun and Xu, IEEE Signal
Processing Letters 21:1389, 2014; it takes images as independent and so is only a check beside the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST_PATIENTS = 4  # fewer have no interval: all draws of one patient are that patient

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its interval; None where nothing was measured."""

    value: float | None
    low: float | None = None
    high: float | None = None


UNKNOWN = Estimate(value=None)


@dataclass(frozen=True)
class Draws:
    """Weights (1 + resamples, patients), the first row the sample itself, and each image's patient (images,).

    Several sets of images may share one `Draws`, so that figures are paired over the same drawn patients.
    """

    weights: Floats
    unit: Ints
    level: float = 0.95

    @classmethod
    def of(
        cls, patients: Sequence[str], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
    ) -> Draws:
        """Draw whole patients, as many as there are. ``patients`` names the patient of each image."""
        _, unit = np.unique(np.asarray(patients), return_inverse=True)
        count = int(unit.max()) + 1
        rng = np.random.default_rng((seed, 4711))
        weights = np.ones((1 + resamples, count))
        weights[1:] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        return cls(weights, unit.astype(np.int64), level)

    def of_images(self, rows: Ints) -> Floats:
        """Weight of each of these images in each draw, (1 + resamples, len(rows))."""
        taken: Floats = self.weights[:, self.unit[rows]]
        return taken

    def estimate(self, draws: Floats) -> Estimate:
        """Value (the first entry) and percentile interval of a statistic's draws (1 + resamples,).

        No interval is given of fewer than `LEAST_PATIENTS`, nor where more draws have no value (no cancer came, say)
        than lie beyond an end of the interval: that end is not known then.
        """
        if not len(draws) or not math.isfinite(draws[0]):
            return UNKNOWN
        rest = draws[1:][np.isfinite(draws[1:])]
        lost = 1 - len(rest) / max(len(draws) - 1, 1)
        if not len(rest) or self.weights.shape[1] < LEAST_PATIENTS or lost > (1 - self.level) / 2:
            return Estimate(value=float(draws[0]))
        low, high = np.quantile(rest, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Estimate(value=float(draws[0]), low=float(low), high=float(high))

    def share(self, rows: Ints, flags: NDArray[np.generic]) -> Estimate:
        """Share of ``flags`` (0 and 1) over the images ``rows``, those that are not finite left out.

        None of n patients, or all of them, says little when n is small, and every draw says the same: the interval
        is then that of Clopper and Pearson (Biometrika 26:404, 1934) with patients as trials.
        """
        made = self.mean(rows, flags)
        if made.value not in (0.0, 1.0) or made.low is None:
            return made
        patients = len(np.unique(self.unit[np.asarray(rows)[np.isfinite(np.asarray(flags, np.float64))]]))
        reach = ((1 - self.level) / 2) ** (1 / patients)
        low, high = (reach, 1.0) if made.value else (0.0, 1 - reach)
        return Estimate(value=made.value, low=low, high=high)

    def mean(self, rows: Ints, values: NDArray[np.generic]) -> Estimate:
        """Mean of ``values`` over the images ``rows``, those that are not finite left out."""
        numbers = np.asarray(values, dtype=np.float64)
        known = np.isfinite(numbers)
        if not known.any():
            return UNKNOWN
        weight = self.of_images(np.asarray(rows)[known])
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.estimate((weight @ numbers[known]) / weight.sum(axis=1))


def auc(draws: Draws, healthy: tuple[Ints, Floats], cancer: tuple[Ints, Floats]) -> Floats:
    """P(cancer scores higher) + P(tie) / 2 in every draw, (1 + resamples,).

    Each side is (rows of the images, their scores); NaN in a draw that holds no healthy or no cancer image.
    """
    rows, scores = healthy
    order = np.argsort(scores, kind="stable")
    ranked = np.asarray(scores, dtype=np.float64)[order]
    below = np.zeros((len(draws.weights), len(ranked) + 1))
    np.cumsum(draws.of_images(np.asarray(rows)[order]), axis=1, out=below[:, 1:])
    low = np.searchsorted(ranked, cancer[1], "left")
    high = np.searchsorted(ranked, cancer[1], "right")
    mine = draws.of_images(np.asarray(cancer[0]))
    won = np.einsum("ij,ij->i", mine, below[:, low] + below[:, high]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = won / (below[:, -1] * mine.sum(axis=1))
    return out


def midranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean."""
    return np.asarray(stats.rankdata(values), dtype=np.float64)


def delong(healthy: Floats, cancer: Floats) -> tuple[Floats, Floats]:
    """Areas (K,) and their covariance (K, K) of K paired scores (K, N) of the same images, healthy and cancer."""
    positives, negatives = cancer.shape[1], healthy.shape[1]
    both = np.concatenate([cancer, healthy], axis=1)
    ranks = np.stack([midranks(row) for row in both])
    inner = np.stack([midranks(row) for row in cancer])
    outer = np.stack([midranks(row) for row in healthy])
    over_healthy = (ranks[:, :positives] - inner) / negatives
    under_cancer = 1 - (ranks[:, positives:] - outer) / positives
    areas = over_healthy.mean(axis=1)
    covariance = (
        np.atleast_2d(np.cov(over_healthy)) / positives + np.atleast_2d(np.cov(under_cancer)) / negatives
    )
    return areas, covariance


def delong_p(healthy: tuple[Floats, Floats], cancer: tuple[Floats, Floats]) -> float:
    """Two-sided p of equal areas of two paired scorings; 1 when they are the same scores, or one side has one image."""
    if min(len(healthy[0]), len(cancer[0])) < 2:
        return 1.0  # a variance of one is not known
    areas, covariance = delong(np.stack(healthy), np.stack(cancer))
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = float(areas[0] - areas[1])
    if variance <= 1e-15:
        return 1.0 if abs(difference) < 1e-12 else 0.0
    return float(2 * stats.norm.sf(abs(difference) / math.sqrt(variance)))


Statistic = Callable[[Draws], Floats]
