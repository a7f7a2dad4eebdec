"""Bootstrap over examinations: how far a figure would move had other examinations come.

Commands of one examination resemble each other, so whole examinations are drawn, never single commands. A
draw is a row of weights (how often each examination came), and every statistic here is computed from weights.
Percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from scanward.errors import SettingsError

RESAMPLES = 1000
LEVEL = 0.95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile interval; NaN where nothing was measured."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """For a result file; what is not finite becomes null."""
        told = {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if math.isfinite(number) else None for name, number in told.items()}


def weights(
    units: int, *, resamples: int = RESAMPLES, seed: int = 0, strata: Sequence[int] | None = None
) -> Floats:
    """How often each unit came, shape (1 + resamples, units); the first row is the sample itself (all ones).

    ``strata``, length ``units``, keeps the number of units of each stratum (one simulated site each, say).
    """
    if units < 1 or resamples < 1:
        raise SettingsError(
            "a bootstrap needs units and resamples", "resampling", "give at least one of each"
        )
    rng = np.random.default_rng((seed, 515))
    out = np.ones((1 + resamples, units))
    of = np.zeros(units, dtype=np.int64) if strata is None else np.asarray(strata)
    for stratum in np.unique(of):
        members = np.flatnonzero(of == stratum)
        chance = np.full(len(members), 1 / len(members))
        out[1:, members] = rng.multinomial(len(members), chance, size=resamples)
    return out


def interval(draws: Floats, level: float = LEVEL) -> Interval:
    """Value and percentile interval of ``draws`` (1 + resamples,), whose first entry is the sample's own."""
    rest = draws[1:][np.isfinite(draws[1:])]
    if not len(rest):
        return Interval(float(draws[0]), math.nan, math.nan)
    low, high = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(draws[0]), float(low), float(high))


def exact(hits: float, units: float, level: float = LEVEL) -> tuple[float, float]:
    """Exact binomial interval of ``hits`` among ``units``; need not be whole numbers.

    Clopper and Pearson, Biometrika 26:404, 1934. A bootstrap of all hits is (1, 1) however few they are; this
    is not. (0, 1) where there are no units.
    """
    if units <= 0:
        return 0.0, 1.0
    hits = min(max(hits, 0.0), units)
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, units - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, units - hits)) if hits < units else 1.0
    return low, high


def two_sided(draws: Floats) -> float:
    """p-value of "no difference" from draws of a difference, the sample's own first: shape (1 + resamples,).

    Twice the smaller share of draws on either side of 0, zeros on both sides, the sample itself counted on both
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, equation 4.11): at least
    2 / (resamples + 1), never 0. NaN draws count on both sides; 1 when the sample's own is NaN.
    """
    if not len(draws) or not math.isfinite(draws[0]):
        return 1.0
    rest = draws[1:]
    below, above = int((~(rest > 0)).sum()), int((~(rest < 0)).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (len(rest) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given: Holm, Scand J Statist 6:65, 1979."""
    out = [1.0] * len(p)
    least = 0.0
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - place) * p[i]))
        out[i] = least
    return out


def shares(drawn: Floats, hits: Floats, counts: Floats) -> Floats:
    """Share of hits in every draw: (draws, units), (K, units), (K, units) -> (draws, K); NaN for no count."""
    above, below = drawn @ hits.T, drawn @ counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = np.where(below > 0, above / below, np.nan)
    return out


def mean_known(values: Floats, axis: int) -> Floats:
    """Mean over ``axis`` of what is not NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    out: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def per_unit(units: int, unit: Sequence[int], amount: Sequence[float]) -> Floats:
    """Amounts summed within their units, shape (units,)."""
    return np.bincount(np.asarray(unit, dtype=np.int64), np.asarray(amount, dtype=np.float64), units).astype(
        np.float64
    )


@dataclass(frozen=True)
class Scored:
    """Scores of commands (higher is stranger), and the unit (examination) of each; both of length N."""

    scores: Floats
    units: Ints

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, int]]) -> Scored:
        """From (score, unit) pairs."""
        return cls(np.array([s for s, _ in pairs], float), np.array([u for _, u in pairs], np.int64))


def auroc(drawn: Floats, clean: Scored, attacked: Scored) -> Floats:
    """Area under the ROC curve in every draw: P(attacked scores higher) + P(tie) / 2; shape (draws,).

    ``drawn`` is (draws, units). NaN in a draw that holds no clean or no attacked command.
    """
    order = np.argsort(clean.scores, kind="stable")
    ranked = clean.scores[order]
    low = np.searchsorted(ranked, attacked.scores, "left")
    high = np.searchsorted(ranked, attacked.scores, "right")
    out = np.full(len(drawn), np.nan)
    for i, draw in enumerate(drawn):
        below = np.concatenate([[0.0], np.cumsum(draw[clean.units][order])])
        mine = draw[attacked.units]
        pairs = below[-1] * mine.sum()
        if pairs > 0:
            out[i] = float(mine @ (below[low] + below[high]) / 2 / pairs)
    return out


def detection_at(drawn: Floats, clean: Scored, attacked: Scored, rate: float) -> Floats:
    """Share of attacked commands detected where at most ``rate`` of the clean ones are alerted; (draws,).

    The threshold is found anew in each draw. "Above" is strict, so ties count as missed.
    """
    order = np.argsort(-clean.scores, kind="stable")
    ranked = clean.scores[order]
    last = np.append(
        np.flatnonzero(np.diff(ranked)), len(ranked) - 1
    )  # last command of each run of equal scores
    out = np.full(len(drawn), np.nan)
    for i, draw in enumerate(drawn):
        mine = draw[attacked.units]
        beyond = np.cumsum(draw[clean.units][order])
        if not beyond[-1] or not mine.sum():
            continue
        # Alerting on the first k runs alerts on beyond[last[k - 1]] clean commands.
        runs = int(np.searchsorted(beyond[last], rate * beyond[-1] * (1 + 1e-12), "right"))
        threshold = ranked[last[runs]] if runs < len(last) else -math.inf
        out[i] = float(mine @ (attacked.scores > threshold) / mine.sum())
    return out


def crossing(factors: Floats, rates: Floats, wanted: float) -> Floats:
    """Where detection last rises through ``wanted``: (K,) factors, (draws, K) rates -> (draws,).

    ``factors`` lead away from 1. Linear in the logarithm of the factor between two points; NaN when the
    farthest point is below ``wanted``, the nearest point itself when every point is at or above it.
    """
    logs = np.log(factors)
    out = np.full(len(rates), np.nan)
    for i, row in enumerate(rates):
        known = np.flatnonzero(np.isfinite(row))
        short = [k for k in known if row[k] < wanted]
        if not len(known) or (short and short[-1] == known[-1]):
            continue
        if not short:
            out[i] = factors[known[0]]
            continue
        a, b = short[-1], known[np.searchsorted(known, short[-1]) + 1]
        share = (wanted - row[a]) / (row[b] - row[a])
        out[i] = math.exp(logs[a] + share * (logs[b] - logs[a]))
    return out
