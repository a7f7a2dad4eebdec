"""Are today's commands still like those the bundle learned from? Statistics alone: counts in, numbers out. Pure.

*Population stability index* of a field, ``sum (o - e) ln(o / e)`` over bins with shares ``e`` in training and ``o`` now
(the symmetrised Kullback-Leibler divergence; Siddiqi, Credit Risk Scorecards, 2006). Below 0.1 nothing moved, from 0.25
much did: conventions, not laws. Of n and m independent draws without any drift the index is some
``(1/n + 1/m) chi-square(bins - 1)`` (Yurdakul, Statistical properties of population stability index, 2018), so few
examinations make a large index by themselves: what chance explains is told beside it and never called drift. Commands
of one examination are not independent: n and m are the numbers of draws that weigh as much if all of them said the same
(`effective`), which errs towards silence.

*Conformal p-values* are uniform as long as examinations are exchangeable with those of the calibration (Vovk,
Gammerman, Shafer, Algorithmic Learning in a Random World, 2005). All share one calibration set, so they are not
independent: tested against the uniform law, a few thousand of them would reject any bundle. Asked is therefore what
they tell without loss: whether the new scores and those of the calibration are two samples of one law
(Kolmogorov-Smirnov with both sizes), and whether more lie beyond the budget than a calibration of that size lets expect
(beta-binomial, exact).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOVED: Final = 0.1  # index from which a field is said to have moved
DRIFTED: Final = 0.25  # and from which much did
SURE: Final = 0.9999  # of fields without drift; what was measured of few examinations: docs/console-device.md
_HALF: Final = 0.5  # added to the count of each bin (Jeffreys): an empty bin has a finite index
_TERMS: Final = 100  # of Kolmogorov's series; it converges after a few


class Level(StrEnum):
    """What an index says."""

    SAME = "as learned"
    FEW = "too few to tell"
    MOVED = "moved"
    DRIFTED = "drifted"


@dataclass(frozen=True, slots=True)
class Stability:
    """Index of one field; ``chance`` is what lies within chance (`SURE`) without any drift; ``bins`` counted."""

    index: float
    chance: float
    bins: int

    @property
    def level(self) -> Level:
        """In a word."""
        if self.index <= self.chance:
            return Level.SAME if self.chance <= DRIFTED else Level.FEW
        if self.index < MOVED:
            return Level.SAME
        return Level.MOVED if self.index < DRIFTED else Level.DRIFTED


def stability(expected: Sequence[float], observed: Sequence[float], n: float, m: float) -> Stability:
    """The index of one field.

    Parameters
    ----------
    expected, observed : sequence of float, length B
        How often each bin was met in training and now.
    n, m : float
        How many independent draws these rest on.
    """
    if len(expected) != len(observed) or len(expected) < 1:
        raise ValueError("two lists of the same bins are needed")
    bins = len(expected)
    if n <= 0 or m <= 0 or sum(expected) <= 0 or sum(observed) <= 0:
        return Stability(0.0, math.inf, bins)
    e_all = sum(expected) + _HALF * bins
    o_all = sum(observed) + _HALF * bins
    index = 0.0
    for e, o in zip(expected, observed, strict=True):
        before, now = (e + _HALF) / e_all, (o + _HALF) / o_all
        index += (now - before) * math.log(now / before)
    return Stability(index, (1.0 / n + 1.0 / m) * chi_square(SURE, bins - 1), bins)


def effective(sizes: Iterable[int]) -> float:
    """Independent draws that weigh as much as examinations of so many commands that all say the same.

    ``(sum k)^2 / sum k^2`` (Kish, Survey Sampling, 1965).
    """
    sizes = list(sizes)
    squares = sum(k * k for k in sizes)
    return sum(sizes) ** 2 / squares if squares else 0.0


def chi_square(share: float, degrees: int) -> float:
    """Quantile of the chi-square law; 0 for no degrees of freedom. Bisection of the exact distribution function."""
    if degrees <= 0:
        return 0.0
    low, high = 0.0, 10.0 * degrees + 100.0
    for _ in range(100):
        middle = (low + high) / 2.0
        if _gamma_share(degrees / 2.0, middle / 2.0) < share:
            low = middle
        else:
            high = middle
    return high


def _gamma_share(a: float, x: float) -> float:
    """Regularised lower incomplete gamma function P(a, x), by its series (Abramowitz and Stegun, 6.5.29)."""
    if x <= 0.0:
        return 0.0
    term = total = 1.0 / a
    n = a
    while term > total * 1e-16:
        n += 1.0
        term *= x / n
        total += term
    return min(1.0, total * math.exp(a * math.log(x) - x - math.lgamma(a)))


# --- p-values


@dataclass(frozen=True, slots=True)
class Uniformity:
    """How far examinations are from those of the calibration.

    Attributes
    ----------
    distance : float
        Largest difference between the two distribution functions.
    above : bool
        Whether there are too many small p-values where it is largest: examinations look stranger.
    p_value : float
        Chance of at least that distance without drift.
    examinations, units : int
        How many now, how many in the calibration.
    """

    distance: float
    above: bool
    p_value: float
    examinations: int
    units: int


@dataclass(frozen=True, slots=True)
class Tail:
    """Examinations beyond the budget: how many, how many are expected, and the chance of at least as many."""

    beyond: int
    expected: float
    p_value: float


def rank(p_value: float, units: int) -> int | None:
    """How many calibration units score at least as high; None for what is no p-value of ``units`` units."""
    if not 0.0 < p_value <= 1.0:
        return None
    told = p_value * (units + 1)
    nearest = round(told)
    return nearest - 1 if nearest >= 1 and abs(told - nearest) < 1e-6 * (units + 1) else None


def uniformity(ranks: Sequence[int], units: int) -> Uniformity | None:
    """Two-sample Kolmogorov-Smirnov out of `rank`s (0 to ``units``); None without examinations or units."""
    m = len(ranks)
    if m == 0 or units <= 0:
        return None
    counts = [0] * (units + 1)
    for one in ranks:
        counts[one] += 1
    distance, above, so_far = 0.0, False, 0
    for gap, count in enumerate(counts):
        # The calibration's function is gap / units between its scores; the new one's climbs there by ``count``.
        for share in (so_far / m, (so_far + count) / m):
            difference = share - gap / units
            if abs(difference) > distance:
                distance, above = abs(difference), difference > 0
        so_far += count
    return Uniformity(distance, above, kolmogorov(distance, m, units), m, units)


def kolmogorov(distance: float, m: int, n: int) -> float:
    """Chance of at least ``distance`` between samples of m and n of one law (asymptotic, as Stephens, 1970)."""
    root = math.sqrt(m * n / (m + n))
    x = (root + 0.12 + 0.11 / root) * distance
    if x < 0.2:  # the series does not converge there, and the chance is 1 to twelve digits
        return 1.0
    total = math.fsum((1.0 if k % 2 else -1.0) * math.exp(-2.0 * (k * x) ** 2) for k in range(1, _TERMS))
    return min(1.0, max(0.0, 2.0 * total))


def critical(sure: float, m: int, n: int) -> float:
    """The distance that ``sure`` of all pairs of samples of one law stay below."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if kolmogorov(middle, m, n) > 1.0 - sure:
            low = middle
        else:
            high = middle
    return high


def tail(ranks: Sequence[int], units: int, budget: float) -> Tail | None:
    """Examinations whose p-value is within ``budget``: they alerted. None without examinations or units.

    Of ``units`` scores the k highest are within the budget; the share of a law beyond the k-th of n scores follows
    Beta(k, n + 1 - k), so the count follows a beta-binomial law.
    """
    m = len(ranks)
    if m == 0 or units <= 0:
        return None
    most = sum(1 for one in range(units + 1) if (1 + one) / (units + 1) <= budget)  # as the verdict compares
    beyond = sum(1 for one in ranks if one < most)
    if most == 0 or most > units:
        return Tail(beyond, float(beyond), 1.0)
    return Tail(beyond, m * most / (units + 1), _at_least(beyond, m, most, units + 1 - most))


def _at_least(count: int, m: int, a: int, b: int) -> float:
    """P(X >= count) for X beta-binomial(m, a, b): the smaller sum of the two is added up."""
    if count <= 0:
        return 1.0

    def term(k: int) -> float:
        choose = math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1)
        return math.exp(choose + _log_beta(k + a, m - k + b) - _log_beta(a, b))

    if count > m // 2:
        return min(1.0, math.fsum(term(k) for k in range(count, m + 1)))
    return max(0.0, 1.0 - math.fsum(term(k) for k in range(count)))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
