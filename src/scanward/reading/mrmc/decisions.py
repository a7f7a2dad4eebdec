"""From estimates to what a study may claim: superiority, non-inferiority, equivalence, and Holm over several.

Each claim is tested on one `Interval`: its estimate, standard error and degrees of freedom.

superiority
    H0: the estimate equals ``null``. Two-sided, level alpha; the (1 - alpha) interval lies beside ``null``.
non-inferiority
    H0: the estimate is ``null`` - ``margin`` or lower. One-sided, level alpha; the lower end of the (1 - 2 alpha)
    interval lies above ``null`` - ``margin``.
equivalence
    H0: the estimate lies at or outside ``low`` to ``high``. Two one-sided tests, each at level alpha; the (1 - 2 alpha)
    interval lies between ``low`` and ``high`` (Schuirmann, J Pharmacokinet Biopharm 1987;15:657-680; for multi-reader
    studies Chen, Petrick & Sahiner, Acad Radiol 2012;19:1158-1165). Its p is the larger of the two.

That a difference is not significant shows nothing of the kind: it may come from few readers alone.

Holm (Scand J Stat 1979;6:65-70): the p values in ascending order, the i-th of m multiplied by m - i + 1, never below
one before it and never above 1. A claim holds where its adjusted p is at most alpha; whatever the p values depend on,
the probability of any false claim is at most alpha. Adjusted p values say more than a list of yes and no.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import special

from scanward.errors import InputError
from scanward.reading.mrmc.results import Interval


class Aim(StrEnum):
    """What is to be shown of an estimate."""

    SUPERIORITY = "superiority"
    NON_INFERIORITY = "non-inferiority"
    EQUIVALENCE = "equivalence"


@dataclass(frozen=True)
class Claim:
    """What is to be shown, and within which bounds.

    ``low`` and ``high`` bound the region in which the claim is true: null to null (excluded) for superiority, null -
    margin to infinity for non-inferiority. ``primary``: whether it is one of the family that Holm corrects.
    """

    aim: Aim
    low: float
    high: float
    alpha: float = 0.05
    primary: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha {self.alpha}", "claim", "give a number above 0 and below 0.5")
        ordered = self.low == self.high if self.aim is Aim.SUPERIORITY else self.low < self.high
        if not ordered or math.isnan(self.low) or math.isnan(self.high):
            raise InputError(f"bounds {self.low} to {self.high}", str(self.aim), "give the lower bound first")

    @property
    def level(self) -> float:
        """Confidence level of the two-sided interval that decides."""
        return 1 - self.alpha if self.aim is Aim.SUPERIORITY else 1 - 2 * self.alpha


def superiority(null: float = 0.0, alpha: float = 0.05, *, primary: bool = True) -> Claim:
    """The claim that an estimate differs from ``null``, two-sided."""
    return Claim(Aim.SUPERIORITY, null, null, alpha, primary)


def non_inferiority(margin: float, null: float = 0.0, alpha: float = 0.05, *, primary: bool = True) -> Claim:
    """The claim that an estimate is above ``null - margin``. ``margin`` > 0, in units of the figure of merit."""
    if not margin > 0:
        raise InputError(f"margin {margin}", "non-inferiority", "give a margin above 0")
    return Claim(Aim.NON_INFERIORITY, null - margin, math.inf, alpha, primary)


def equivalence(low: float, high: float, alpha: float = 0.05, *, primary: bool = True) -> Claim:
    """The claim that an estimate lies between ``low`` and ``high``."""
    return Claim(Aim.EQUIVALENCE, low, high, alpha, primary)


@dataclass(frozen=True)
class Decision:
    """Whether a claim is shown.

    ``endpoint``: of which table of ratings; ``of``: of which estimate in it ("modified - genuine", "low"). ``lower``
    and ``upper``: the interval at ``level`` that decides. ``p``: of the claim's own test. ``adjusted_p``: Holm's, None
    outside the family. ``shown``: p (Holm's inside the family) at most alpha. ``by``: which analysis.
    """

    endpoint: str
    of: str
    aim: Aim
    estimate: float
    se: float
    df: float
    level: float
    lower: float
    upper: float
    low: float
    high: float
    alpha: float
    p: float
    adjusted_p: float | None
    shown: bool
    by: str
    primary: bool

    @property
    def words(self) -> str:
        """The decision in one sentence."""
        what = {
            Aim.SUPERIORITY: f"different from {self.low:g}",
            Aim.NON_INFERIORITY: f"above {self.low:g}",
            Aim.EQUIVALENCE: f"between {self.low:g} and {self.high:g}",
        }[self.aim]
        return f"{self.aim} {'shown' if self.shown else 'not shown'}: {self.of} {what}"

    def as_json(self) -> dict[str, Any]:
        """Plain types; infinities and NaN become None."""
        plain = {key: _plain(value) for key, value in asdict(self).items()}
        return plain | {"words": self.words}


def decide(interval: Interval, claim: Claim, *, endpoint: str = "", by: str = "") -> Decision:
    """Test one claim on one estimate. Without any standard error (NaN) nothing is shown, and p is NaN.

    An estimate without spread (se 0) shows what it shows: p is 0 or 1.
    """
    lower, upper = limits(interval, claim.level)
    p = _p(interval, claim)
    return Decision(
        endpoint=endpoint,
        of=interval.of,
        aim=claim.aim,
        estimate=interval.estimate,
        se=interval.se,
        df=interval.df,
        level=claim.level,
        lower=lower,
        upper=upper,
        low=claim.low,
        high=claim.high,
        alpha=claim.alpha,
        p=p,
        adjusted_p=None,
        shown=bool(p <= claim.alpha),
        by=by,
        primary=claim.primary,
    )


def limits(interval: Interval, level: float) -> tuple[float, float]:
    """The two-sided interval at another level: estimate +- t((1 + level) / 2; df) se."""
    if not 0 < level < 1:
        raise InputError(f"level {level}", "interval", "give a number between 0 and 1")
    if interval.se == 0:
        return interval.estimate, interval.estimate
    half = _quantile((1 + level) / 2, interval.df) * interval.se
    return interval.estimate - half, interval.estimate + half


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given. NaN (nothing could be tested) counts as 1."""
    given = np.where(np.isnan(np.asarray(p, dtype=float)), 1.0, np.asarray(p, dtype=float))
    if ((given < 0) | (given > 1)).any():
        raise InputError("a p value outside 0 to 1", "Holm", "give probabilities")
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1))
    found = np.empty(given.size)
    found[order] = np.minimum(stepped, 1.0)
    return [float(one) for one in found]


def corrected(decisions: Sequence[Decision], untested: int = 0) -> tuple[Decision, ...]:
    """The same decisions, the primary ones judged by Holm's adjusted p. One primary endpoint keeps its p.

    ``untested``: primary claims that were fixed before and could not be tested. They stay members of the family, with
    p = 1: what failed to be measured must not make the rest easier to show.

    Raises
    ------
    InputError
        Primary claims at different alphas: a family has one.
    """
    family = [d for d in decisions if d.primary]
    if len({d.alpha for d in family}) > 1:
        raise InputError("primary endpoints at different alphas", "Holm", "give the whole family one alpha")
    adjusted = iter(holm([*(d.p for d in family), *[math.nan] * untested]))
    found = []
    for decision in decisions:
        if decision.primary:
            p = next(adjusted)
            decision = replace(decision, adjusted_p=p, shown=bool(p <= decision.alpha))
        found.append(decision)
    return tuple(found)


def _p(interval: Interval, claim: Claim) -> float:
    if claim.aim is Aim.SUPERIORITY:
        return (
            2 * _above(abs(interval.estimate - claim.low), interval)
            if interval.se
            else _beside(claim, interval)
        )
    above_low = _above(interval.estimate - claim.low, interval)
    if claim.aim is Aim.NON_INFERIORITY:
        return above_low
    return max(above_low, _above(claim.high - interval.estimate, interval), key=_nan_first)


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _above(distance: float, interval: Interval) -> float:
    """P(T >= distance / se): one-sided p against an estimate ``distance`` on the claim's side of a bound."""
    if interval.se == 0:
        return 0.0 if distance > 0 else 1.0
    t = distance / interval.se
    return float(special.ndtr(-t) if math.isinf(interval.df) else special.stdtr(interval.df, -t))


def _beside(claim: Claim, interval: Interval) -> float:
    """Two-sided p of an estimate without spread."""
    return 1.0 if interval.estimate == claim.low else 0.0


def _quantile(probability: float, df: float) -> float:
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
