"""Power and sample size of a multi-reader study, readers x cases.

After Hillis, Obuchowski & Berbaum, Acad Radiol 2011;18:129-142. With r readers, t treatments, errors scaled to the
planned cases (`Components.scaled`) and h = max(Cov2 - Cov3, 0), the mean difference of two treatments has

    readers and cases random  Var = 2/r (Var(TR) + Var(error) - Cov1 + (r - 1) h)
                              df  = (r Var / 2)^2 / (MS^2 / ((t - 1)(r - 1))), MS = Var(TR) + Var(error) - Cov1 - h
    cases random              Var = 2/r (Var(error) - Cov1 + (r - 1) h), normal
    readers random            Var = 2/r MS, df = (t - 1)(r - 1)

and the mean figure of merit of one treatment (Hillis 2007, single-treatment analysis), with c = max(Cov2, 0),

    readers and cases random  Var = 1/r (Var(R) + Var(TR) + Var(error) + (r - 1) c)
                              df  = (r Var)^2 / (MS^2 / (r - 1)), MS = Var(R) + Var(TR) + Var(error) - c
    cases random              Var = 1/r (Var(error) + (r - 1) c), normal
    readers random            Var = 1/r MS, df = r - 1

The estimate D is taken as normal with that variance, its squared standard error S^2 as Var chi2(df) / df, independent
of it. Power is then

    superiority      P(F > F(1 - alpha; 1, df)), F noncentral with (effect - null)^2 / Var
    non-inferiority  P(T > t(1 - alpha; df)), T noncentral with (effect - bound) / sqrt(Var)
    equivalence      P(low + t(1 - alpha; df) S < D < high - t(1 - alpha; df) S), by integration over S

The last is exact for independent normal D and chi-square S^2 (Owen, Biometrika 1965;52:437-446; Phillips, J
Pharmacokinet Biopharm 1990;18:137-144), so it is also right where the power is far from 1.

With random readers more cases do not always mean more power: the degrees of freedom fall towards those of the readers
alone. A plan is therefore searched on a fine grid before it is said that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from scanward.config import MRMC_BOUNDS
from scanward.errors import InputError
from scanward.reading.mrmc.components import Components
from scanward.reading.mrmc.decisions import Aim, Claim
from scanward.reading.mrmc.results import Random

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)  # of the integral over S; its error is below 1e-6
_GRID = 1.1  # between two numbers tried in the search of a plan


@dataclass(frozen=True)
class Question:
    """What is planned: the claim, the true value it is planned for, and what is random.

    ``effect``: the true difference, or, where ``one``, the true figure of merit of one treatment. ``treatments``: of
    the planned study; only the degrees of freedom depend on it. ``share``: of positive cases; None as in the
    components.
    """

    claim: Claim
    effect: float
    random: Random = Random.BOTH
    one: bool = False
    treatments: int = 2
    share: float | None = None


@dataclass(frozen=True)
class Plan:
    """One planned study. ``se``: expected standard error; ``df``: of the test, infinite for a normal one."""

    readers: int
    cases: int
    se: float
    df: float
    power: float


def planned(components: Components, question: Question, readers: int, cases: int) -> Plan:
    """Power of ``readers`` reading ``cases`` cases each, under every treatment.

    Raises
    ------
    InputError
        Fewer than two readers where readers are random, fewer than two cases, components that give no variance.
    """
    variance, df = spread(components.scaled(cases, question.share), question, readers)
    claim = question.claim
    return Plan(readers, cases, math.sqrt(variance), df, power_of(claim, question.effect, variance, df))


def spread(components: Components, question: Question, readers: int) -> tuple[float, float]:
    """Variance and degrees of freedom of the planned estimate, the components being those of the planned cases.

    Raises
    ------
    InputError
        As `planned`.
    """
    least = 1 if question.random is Random.CASES else 2
    if not least <= readers <= MRMC_BOUNDS.plan_readers:
        raise InputError(
            f"{readers} readers",
            f"{question.random} random",
            f"give {least} to {MRMC_BOUNDS.plan_readers}: one reader says nothing of other readers",
        )
    reader, treatment_reader = max(components.reader, 0.0), max(components.treatment_reader, 0.0)
    if question.one:
        own, common = components.error, max(components.cov2, 0.0)
        between, per, parts = reader + treatment_reader, 1 / readers, readers - 1
    else:
        own = components.error - components.cov1
        common = max(components.cov2 - components.cov3, 0.0)
        between, per, parts = treatment_reader, 2 / readers, (question.treatments - 1) * (readers - 1)
    from_cases = own + (readers - 1) * common
    mean_square = between + own - common
    if question.random is Random.CASES:
        variance, df = per * from_cases, math.inf
    elif question.random is Random.READERS:
        variance, df = per * mean_square, float(parts)
    else:
        variance = per * (between + from_cases)
        df = parts * (between + from_cases) ** 2 / mean_square**2 if mean_square > 0 else math.inf
    if variance <= 0:
        raise InputError(
            f"a planned variance of {variance:g}",
            "variance components",
            "covariances so close to the error variance leave nothing to plan with",
        )
    return variance, df


def power_of(claim: Claim, effect: float, variance: float, df: float) -> float:
    """Probability that ``claim`` is shown of a normal estimate around ``effect``: see the module."""
    sd = math.sqrt(variance)
    if claim.aim is Aim.SUPERIORITY:
        return _two_sided(claim.alpha, abs(effect - claim.low) / sd, df)
    critical = float(stats.norm.ppf(1 - claim.alpha) if math.isinf(df) else stats.t.ppf(1 - claim.alpha, df))
    above = (effect - claim.low) / sd
    if claim.aim is Aim.NON_INFERIORITY:
        return float(stats.norm.sf(critical - above) if math.isinf(df) else stats.nct.sf(critical, df, above))
    below = (claim.high - effect) / sd
    if math.isinf(df):
        return max(0.0, float(stats.norm.cdf(below - critical) - stats.norm.cdf(critical - above)))
    return _between(above, below, critical, df)


def _two_sided(alpha: float, shift: float, df: float) -> float:
    """P(F > F(1 - alpha; 1, df)), noncentrality ``shift`` squared; of z where ``df`` is infinite."""
    if math.isinf(df):
        critical = float(stats.norm.ppf(1 - alpha / 2))
        return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))
    if shift < 1e-6:  # SciPy's noncentral F without noncentrality is below 0
        return alpha
    if shift > 30:  # it is slow and unsure far out, where the power is 1 but for few degrees of freedom
        return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, shift)) if df < 30 else 1.0
    return float(stats.ncf.sf(stats.f.ppf(1 - alpha, 1, df), 1, df, shift**2))


def _between(above: float, below: float, critical: float, df: float) -> float:
    """P(critical S - above < Z < below - critical S), Z standard normal, S^2 = chi2(df) / df."""
    width = 12 / math.sqrt(2 * df)  # S lies within 1 +- 12 of its standard deviations
    first, last = max(0.0, 1 - width), min((above + below) / (2 * critical), 1 + width)
    if last <= first:
        return 0.0
    s = first + (last - first) * (_NODES + 1) / 2
    inside = stats.norm.cdf(below - critical * s) - stats.norm.cdf(critical * s - above)
    density = 2 * df * s * stats.chi2.pdf(df * s * s, df)
    found = (last - first) / 2 * float(_WEIGHTS @ (np.maximum(inside, 0.0) * density))
    return min(max(found, 0.0), 1.0)


def cases_needed(components: Components, question: Question, readers: int, power: float = 0.8) -> Plan | None:
    """The fewest cases with which ``readers`` reach ``power``; None where no number within bounds does.

    With random readers the spread between readers stays however many cases are read: more cases cannot replace
    readers.
    """
    return _smallest(
        lambda cases: planned(components, question, readers, cases), power, MRMC_BOUNDS.plan_cases, first=2
    )


def readers_needed(components: Components, question: Question, cases: int, power: float = 0.8) -> Plan | None:
    """The fewest readers who reach ``power`` with ``cases`` cases; None where no number within bounds does."""
    first = 1 if question.random is Random.CASES else 2
    return _smallest(
        lambda readers: planned(components, question, readers, cases),
        power,
        MRMC_BOUNDS.plan_readers,
        first=first,
    )


def table(
    components: Components, question: Question, readers: Iterable[int], power: float = 0.8
) -> list[tuple[int, Plan | None]]:
    """For each number of readers the fewest cases: what a study is chosen from."""
    return [(count, cases_needed(components, question, count, power)) for count in readers]


def _smallest(plan: Callable[[int], Plan], power: float, most: int, first: int) -> Plan | None:
    """The plan with the smallest number from ``first`` to ``most`` that reaches ``power``, by grid and bisection."""
    if not 0 < power < 1:
        raise InputError(f"power {power:g}", "plan", "give a number between 0 and 1")
    low, high = first - 1, first
    best = plan(high)
    while best.power < power:
        if high >= most:
            return None
        low, high = high, min(max(high + 1, int(high * _GRID)), most)
        best = plan(high)
    while high - low > 1:
        middle = (low + high) // 2
        tried = plan(middle)
        if tried.power >= power:
            high, best = middle, tried
        else:
            low = middle
    return best
