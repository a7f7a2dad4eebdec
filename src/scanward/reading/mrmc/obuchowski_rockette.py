"""The Obuchowski-Rockette analysis of variance of readers' figures of merit, whose errors are correlated.

Figure of merit of reader j under treatment i: mean + T_i + R_j + TR_ij + e_ij. R and TR are random with variances
Var(R), Var(TR). The errors come from the cases: Var(error), and Cov1 (same reader, other treatment), Cov2 (other
reader, same treatment), Cov3 (both other). Obuchowski and Rockette 1995 (doi:10.1080/03610919508813243); degrees of
freedom of Hillis 2007 (doi:10.1002/sim.2532); other designs Hillis 2014 (doi:10.1002/sim.5926).

With t treatments, r readers and h = max(Cov2 - Cov3, 0), as printed by OR-DBM MRMC 2.51:

================= ============================================ ======================================
random            error term, for F = MS(T) / error            error term of one treatment i
================= ============================================ ======================================
readers and cases MS(TR) + r h                                 MS(R)_i + r max(Cov2_i, 0)
cases             Var(error) - Cov1 + (r - 1) h, chi-squared   Var(error)_i + (r - 1) max(Cov2_i, 0)
readers           MS(TR)                                       MS(R)_i
================= ============================================ ======================================

A difference of two treatments has the variance 2/r of the first, one treatment 1/r of the second. Where cases are
nested in readers Cov2 = Cov3 = 0, nested in treatments Cov1 = Cov3 = 0. In a partially paired design the covariances
are means over all pairs of cells, 0 among them where two cells share no patient: expectations of mean squares are
linear in the covariances, so that their means are what counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.designs import FACTORIAL, allowed, check_design
from scanward.reading.mrmc.doubts import doubts_about, without_missing
from scanward.reading.mrmc.inference import NAN, check_level, chi2_test, f_test, interval, satterthwaite
from scanward.reading.mrmc.results import Analysis, Estimates, Interval, Random, Test

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Squares:
    """Mean squares of a treatments x readers table; NaN where there is one reader or one treatment only.

    MS(T) = r/(t - 1) sum_i (A_i. - A..)^2, MS(R) = t/(r - 1) sum_j (A_.j - A..)^2, MS(TR) = 1/((t - 1)(r - 1))
    sum_ij (A_ij - A_i. - A_.j + A..)^2, MS(R)_i = 1/(r - 1) sum_j (A_ij - A_i.)^2.
    """

    treatment: float
    reader: float
    both: float
    by_treatment: Floats


@dataclass(frozen=True, eq=False)
class Errors:
    """Error variance and covariances; NaN where there is no such pair of cells."""

    variance: float
    cov1: float
    cov2: float
    cov3: float
    variance_by_treatment: Floats
    cov2_by_treatment: Floats
    variance_by_reader: Floats
    cov1_by_reader: Floats


@dataclass(frozen=True, eq=False)
class _Terms:
    """Error terms and their degrees of freedom: of all treatments, and of each."""

    error: float
    df: float
    single: Floats
    single_df: Floats


def obuchowski_rockette(
    estimates: Estimates,
    random: Random = Random.BOTH,
    level: float = 0.95,
    design: str = FACTORIAL,
) -> Analysis:
    """Compare treatments, and give each one's interval, by the Obuchowski-Rockette model.

    Parameters
    ----------
    estimates : Estimates
        From `estimate`. Readers without a figure under some treatment are left out, with a warning.
    random : Random
        What the result speaks of. For readers alone the covariances are not used.
    level : float
        Of all intervals.
    design : str
        One of `designs.DESIGNS`; see `designs.design_of`.

    Returns
    -------
    Analysis
        ``components``: MS(T), MS(R), MS(TR), Var(R), Var(TR), Var(error), Cov1, Cov2, Cov3 (those that exist), error
        term, df(error term), and by level "MS(R), treatment A", "Var(error), treatment A", "Cov2, treatment A",
        "Var(error), reader B", "Cov1, reader B". With random cases alone ``by_reader`` holds each reader's
        differences, of variance 2 (Var(error)_j - Cov1_j), or figures where there is one treatment.
        Figures that cannot be had (one reader as a sample of readers) are NaN, and ``warnings`` say why.

    Raises
    ------
    SettingsError
        A level that is none, a design that is none or that the estimates contradict.
    InputError
        No reader has a figure under every treatment.
    """
    check_level(level)
    check_design(design, estimates)
    kept, warnings = without_missing(estimates)
    squares, errors = mean_squares(kept.value), error_covariances(kept, design)
    terms = _terms(random, squares, errors, *kept.value.shape)
    warnings += doubts_about(kept, random) + _doubts(random, errors, terms, kept)
    return Analysis(
        method="OR",
        covariance=str(kept.method),
        random=random,
        merit=kept.merit,
        design=design,
        overall=_overall(random, squares, terms, kept.value.shape[0]),
        differences=_differences(kept, terms, level),
        treatments=tuple(
            interval(
                name,
                float(kept.value[i].mean()),
                terms.single[i] / len(kept.readers),
                terms.single_df[i],
                level=level,
                null=kept.chance,
            )
            for i, name in enumerate(kept.treatments)
        ),
        by_reader=_by_reader(kept, errors, level) if random is Random.CASES else (),
        components=_named(kept, squares, errors, terms),
        warnings=tuple(warnings),
    )


def mean_squares(value: Floats) -> Squares:
    """The mean squares of a table of figures (treatments, readers)."""
    t, r = value.shape
    by_treatment, by_reader, mean = value.mean(axis=1), value.mean(axis=0), value.mean()
    rest = value - by_treatment[:, None] - by_reader[None, :] + mean
    return Squares(
        treatment=float(r * ((by_treatment - mean) ** 2).sum() / (t - 1)) if t > 1 else NAN,
        reader=float(t * ((by_reader - mean) ** 2).sum() / (r - 1)) if r > 1 else NAN,
        both=float((rest**2).sum() / ((t - 1) * (r - 1))) if t > 1 and r > 1 else NAN,
        by_treatment=value.var(axis=1, ddof=1) if r > 1 else np.full(t, np.nan),
    )


def error_covariances(estimates: Estimates, design: str = FACTORIAL) -> Errors:
    """Means of the cells' covariances over all pairs of one kind; 0 for the kinds that a nested design has not."""
    t, r = estimates.value.shape
    covariance = np.where(allowed(design, t, r), estimates.covariance, 0.0)
    treatment, reader = np.eye(t, dtype=bool)[:, None, :, None], np.eye(r, dtype=bool)[None, :, None, :]
    other_reader = ~np.eye(r, dtype=bool)
    other_treatment = ~np.eye(t, dtype=bool)
    variances = np.einsum("ijij->ij", covariance)
    within_treatment = np.einsum("ijil->ijl", covariance)[:, other_reader].reshape(t, -1)
    within_reader = np.einsum("ijkj->jik", covariance)[:, other_treatment].reshape(r, -1)
    return Errors(
        variance=float(variances.mean()),
        cov1=_mean(covariance[np.broadcast_to(~treatment & reader, covariance.shape)]),
        cov2=_mean(covariance[np.broadcast_to(treatment & ~reader, covariance.shape)]),
        cov3=_mean(covariance[np.broadcast_to(~treatment & ~reader, covariance.shape)]),
        variance_by_treatment=variances.mean(axis=1),
        cov2_by_treatment=within_treatment.mean(axis=1) if r > 1 else np.full(t, np.nan),
        variance_by_reader=variances.mean(axis=0),
        cov1_by_reader=within_reader.mean(axis=1) if t > 1 else np.full(r, np.nan),
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else NAN


def _terms(random: Random, squares: Squares, errors: Errors, t: int, r: int) -> _Terms:
    df, single_df = float((t - 1) * (r - 1)), float(r - 1)
    common = max(errors.cov2 - errors.cov3, 0.0) if r > 1 and t > 1 else 0.0
    if np.isnan(errors.cov2 - errors.cov3) and r > 1 and t > 1:
        common = NAN
    commons = np.maximum(errors.cov2_by_treatment, 0.0) if r > 1 else np.zeros(t)
    if random is Random.CASES:
        error = errors.variance - errors.cov1 + (r - 1) * common
        return _Terms(error, np.inf, errors.variance_by_treatment + (r - 1) * commons, np.full(t, np.inf))
    if random is Random.READERS or r == 1:
        return _Terms(
            squares.both,
            df if r > 1 else NAN,
            squares.by_treatment,
            np.full(t, single_df if r > 1 else np.nan),
        )
    error, single = squares.both + r * common, squares.by_treatment + r * commons
    singles = [satterthwaite(single[i], squares.by_treatment[i], single_df) for i in range(t)]
    return _Terms(error, satterthwaite(error, squares.both, df), single, np.array(singles))


def _overall(random: Random, squares: Squares, terms: _Terms, t: int) -> Test | None:
    if t == 1:
        return None
    if random is Random.CASES:
        return chi2_test((t - 1) * squares.treatment, terms.error, t - 1)
    return f_test(squares.treatment, terms.error, t - 1, terms.df)


def _differences(estimates: Estimates, terms: _Terms, level: float) -> tuple[Interval, ...]:
    mean, names = estimates.value.mean(axis=1), estimates.treatments
    return tuple(
        interval(
            f"{names[a]} - {names[b]}",
            float(mean[a] - mean[b]),
            2.0 * terms.error / len(estimates.readers),
            terms.df,
            level=level,
            null=0.0,
        )
        for a, b in combinations(range(len(names)), 2)
    )


def _by_reader(estimates: Estimates, errors: Errors, level: float) -> tuple[Interval, ...]:
    names = estimates.treatments
    found = []
    for j, reader in enumerate(estimates.readers):
        if len(names) == 1:
            found.append(
                interval(
                    f"{reader}: {names[0]}",
                    float(estimates.value[0, j]),
                    float(errors.variance_by_reader[j]),
                    np.inf,
                    level=level,
                    null=estimates.chance,
                )
            )
        for a, b in combinations(range(len(names)), 2):
            found.append(
                interval(
                    f"{reader}: {names[a]} - {names[b]}",
                    float(estimates.value[a, j] - estimates.value[b, j]),
                    2.0 * float(errors.variance_by_reader[j] - errors.cov1_by_reader[j]),
                    np.inf,
                    level=level,
                    null=0.0,
                )
            )
    return tuple(found)


def _named(estimates: Estimates, squares: Squares, errors: Errors, terms: _Terms) -> dict[str, float]:
    t = len(estimates.treatments)
    found = {
        "MS(T)": squares.treatment,
        "MS(R)": squares.reader,
        "MS(TR)": squares.both,
        # as printed by OR-DBM MRMC; they can be negative
        "Var(R)": (squares.reader - squares.both) / t - errors.cov1 + errors.cov3,
        "Var(TR)": squares.both - errors.variance + errors.cov1 + max(errors.cov2 - errors.cov3, 0.0),
        "Var(error)": errors.variance,
        "Cov1": errors.cov1,
        "Cov2": errors.cov2,
        "Cov3": errors.cov3,
        "error term": terms.error if t > 1 else NAN,
        "df(error term)": terms.df if t > 1 else NAN,
    }
    for i, name in enumerate(estimates.treatments):
        found[f"MS(R), treatment {name}"] = float(squares.by_treatment[i])
        found[f"Var(error), treatment {name}"] = float(errors.variance_by_treatment[i])
        found[f"Cov2, treatment {name}"] = float(errors.cov2_by_treatment[i])
    for j, name in enumerate(estimates.readers):
        found[f"Var(error), reader {name}"] = float(errors.variance_by_reader[j])
        found[f"Cov1, reader {name}"] = float(errors.cov1_by_reader[j])
    return {name: float(number) for name, number in found.items() if not np.isnan(number)}


def _doubts(random: Random, errors: Errors, terms: _Terms, estimates: Estimates) -> list[str]:
    found = []
    rounding = 1e-12 * abs(errors.variance)
    if random is not Random.READERS:
        if errors.cov2 < errors.cov3 - rounding:
            found.append(
                f"Cov2 ({errors.cov2:.4g}) is below Cov3 ({errors.cov3:.4g}), against what is expected: "
                "max(Cov2 - Cov3, 0) = 0 was used"
            )
        found += [
            f"Cov2 of {name} is negative ({errors.cov2_by_treatment[i]:.4g}): 0 was used"
            for i, name in enumerate(estimates.treatments)
            if errors.cov2_by_treatment[i] < -rounding
        ]
    if len(estimates.treatments) > 1 and terms.error <= 0:
        found.append(
            f"the error term is {terms.error:.4g}: there is nothing against which a difference could be judged"
        )
    return found
