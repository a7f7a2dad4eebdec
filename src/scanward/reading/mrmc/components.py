"""Variance components of the Obuchowski-Rockette model, for planning: from a pilot, from print, or conjectured.

The model: a reader's figure of merit under a treatment is mean + treatment + R + TR + error; R and TR are random with
variances Var(R) and Var(TR); errors come from the cases, with variance Var(error) and covariances Cov1 (one reader,
two treatments), Cov2 (two readers, one treatment), Cov3 (two readers, two treatments). Obuchowski & Rockette, Commun
Stat Simul Comput 1995;24:285-308; Hillis, Stat Med 2007;26:596-619.

Error (co)variances shrink with the cases, Var(R) and Var(TR) do not. Between two numbers of cases of one prevalence
the factor is old / new (Hillis, Obuchowski & Berbaum, Acad Radiol 2011;18:129-142). Between two prevalences each
(co)variance is taken as one part that shrinks with the positives and one that shrinks with the negatives. A pilot
tells how large the two are (`part_of_positives`; Van Dyke et al.: a positive weighs as much as five negatives). Without
one they have the proportion of the binormal variance function at the AUC (Obuchowski & McClish, Stat Med
1997;16:1529-1542),

    Var(AUC) = 0.0099 exp(-A^2 / 2) ((5 A^2 + 8) / n1 + (A^2 + 8) / n0),  A = sqrt(2) probit(AUC)

which is a guess: where positives and negatives vary alike, both weigh the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import stats

from scanward.errors import InputError
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis
from scanward.reading.mrmc.structured import read_classes


@dataclass(frozen=True)
class Components:
    """What a study is planned from. All in squared units of the figure of merit.

    Parameters
    ----------
    reader, treatment_reader : float
        Var(R) and Var(TR). Negative estimates count as 0.
    error, cov1, cov2, cov3 : float
        Error variance and covariances of a study with ``cases`` cases.
    cases : float
        In total, of which ``positives`` are positive.
    auc : float
        About which AUC: only for going from one prevalence to another, and only without ``of_positives``.
    of_positives : float
        Share of the error variance that comes from the positives, 0 to 1; NaN: by ``auc``.
    source : str
        Where they come from.

    Raises
    ------
    InputError
        An error variance that is not positive, a covariance larger than it, counts below one, an AUC outside 0 to 1.
    """

    reader: float
    treatment_reader: float
    error: float
    cov1: float
    cov2: float
    cov3: float
    positives: float
    cases: float
    auc: float = 0.5
    of_positives: float = math.nan
    source: str = ""

    def __post_init__(self) -> None:
        numbers = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("source", "of_positives")
        }
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise InputError(f"{name} {value}", "variance components", "give finite numbers")
        if self.error <= 0:
            raise InputError(f"error variance {self.error}", "variance components", "give a number above 0")
        for name in ("cov1", "cov2", "cov3"):
            if abs(numbers[name]) > self.error * (1 + 1e-9):
                raise InputError(
                    f"{name} {numbers[name]:g} beyond the error variance {self.error:g}",
                    "variance components",
                    "give covariances, not correlations; none can be larger than the variance",
                )
        if not 0 < self.positives < self.cases:
            raise InputError(
                f"{self.positives:g} positives of {self.cases:g} cases",
                "variance components",
                "give both positive and negative cases",
            )
        if not 0 < self.auc < 1:
            raise InputError(f"AUC {self.auc:g}", "variance components", "give a number between 0 and 1")
        if not (math.isnan(self.of_positives) or 0 <= self.of_positives <= 1):
            raise InputError(
                f"a share of {self.of_positives:g} of the variance", "variance components", "give 0 to 1"
            )

    @property
    def share(self) -> float:
        """Share of positive cases."""
        return self.positives / self.cases

    def scaled(self, cases: float, share: float | None = None) -> Components:
        """The components of a study with other cases. ``share``: of positives; None keeps it."""
        share = self.share if share is None else share
        if cases <= 0 or not 0 < share < 1:
            raise InputError(
                f"{cases:g} cases, {share:g} of them positive", "cases", "give cases of both kinds"
            )
        of_positives = self.of_positives
        if math.isnan(of_positives):
            a2 = 2 * float(stats.norm.ppf(self.auc)) ** 2
            positive, negative = (5 * a2 + 8) / self.share, (a2 + 8) / (1 - self.share)
            of_positives = positive / (positive + negative)
        factor = (self.cases / cases) * (
            of_positives * self.share / share + (1 - of_positives) * (1 - self.share) / (1 - share)
        )
        return replace(
            self,
            error=self.error * factor,
            cov1=self.cov1 * factor,
            cov2=self.cov2 * factor,
            cov3=self.cov3 * factor,
            positives=cases * share,
            cases=cases,
            of_positives=of_positives * self.share / share * (self.cases / cases) / factor,
        )


def from_dbm(
    *,
    reader: float,
    case: float,
    treatment_reader: float,
    treatment_case: float,
    reader_case: float,
    rest: float,
    positives: float,
    cases: float,
    auc: float = 0.5,
    source: str = "",
) -> Components:
    """From the variance components of Dorfman, Berbaum & Metz (of pseudovalues; ``rest``: Var(TRC) + Var(error)).

    Hillis, Obuchowski, Schartz & Berbaum, Stat Med 2005;24:1579-1607: Var(error) = (C + TC + RC + rest) / cases,
    Cov1 = (C + RC) / cases, Cov2 = (C + TC) / cases, Cov3 = C / cases; Var(R) and Var(TR) are the same.
    """
    if cases <= 0:
        raise InputError(f"{cases:g} cases", "variance components", "give the number of cases of the pilot")
    return Components(
        reader=reader,
        treatment_reader=treatment_reader,
        error=(case + treatment_case + reader_case + rest) / cases,
        cov1=(case + reader_case) / cases,
        cov2=(case + treatment_case) / cases,
        cov3=case / cases,
        positives=positives,
        cases=cases,
        auc=auc,
        source=source,
    )


def at_chance(
    *,
    reader_sd: float,
    correlation: float,
    positives: int,
    negatives: int,
    treatment_correlation: float = 0.0,
) -> Components:
    """Readers who guess: what one has when nothing is known and "cannot tell" is to be shown.

    Var(error) = (n1 + n0 + 1) / (12 n1 n0), the variance of the Mann-Whitney statistic under its null hypothesis
    without ties (ties only make it smaller). ``reader_sd``: spread of the readers' true AUC; ``correlation``: of the
    errors of two readers on the same cases; ``treatment_correlation``: of one reader under two treatments.
    """
    if positives < 1 or negatives < 1 or reader_sd < 0 or not 0 <= correlation <= 1:
        raise InputError(
            f"{positives} positives, {negatives} negatives, spread {reader_sd:g}, correlation {correlation:g}",
            "readers who guess",
            "give cases of both kinds, a spread of at least 0 and a correlation from 0 to 1",
        )
    error = (positives + negatives + 1) / (12 * positives * negatives)
    return Components(
        reader=reader_sd**2,
        treatment_reader=0.0,
        error=error,
        cov1=treatment_correlation * error,
        cov2=correlation * error,
        cov3=min(treatment_correlation, correlation) * error,
        positives=positives,
        cases=positives + negatives,
        auc=0.5,
        source=f"readers who guess, spread {reader_sd:g}, correlation {correlation:g}",
    )


def part_of_positives(ratings: Ratings) -> float:
    """Share of the error variance of the empirical AUC that comes from the positives, over all readers and treatments.

    Var(AUC) = S10 / n1 + S01 / n0 (DeLong et al. 1988). NaN where nobody's area varies.
    """
    components = EmpiricalAUC().components(ratings)
    positives, negatives = read_classes(ratings)
    parts = []
    for read in (positives, negatives):
        count = read.sum(axis=-1)
        kept = np.where(read, components, 0.0)
        mean = kept.sum(axis=-1) / np.maximum(count, 1)
        squares = np.where(read, (components - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        usable = (count > 1) & ~np.isnan(squares)
        parts.append(float((squares[usable] / (count[usable] * (count[usable] - 1.0))).sum()))
    return parts[0] / sum(parts) if sum(parts) > 0 else math.nan


def from_analysis(
    analysis: Analysis, *, positives: int, cases: int, auc: float = 0.5, of_positives: float = math.nan
) -> Components:
    """From an Obuchowski-Rockette analysis of a pilot (`Analysis.components`).

    Raises
    ------
    InputError
        An analysis of one treatment, one reader, or of another method: it has no such components.
    """
    names = {
        "reader": "Var(R)",
        "treatment_reader": "Var(TR)",
        "error": "Var(error)",
        "cov1": "Cov1",
        "cov2": "Cov2",
        "cov3": "Cov3",
    }
    missing = [name for name in names.values() if name not in analysis.components]
    if missing:
        raise InputError(
            f"no {', '.join(missing)} in an analysis by {analysis.method}",
            "pilot",
            "give a pilot of at least two readers and two treatments",
        )
    found = {key: float(analysis.components[name]) for key, name in names.items()}
    return Components(
        **found,
        positives=positives,
        cases=cases,
        auc=auc,
        of_positives=of_positives,
        source=f"pilot: {analysis.merit}, {analysis.covariance}",
    )


def from_single(
    analysis: Analysis,
    treatment: str,
    *,
    positives: int,
    cases: int,
    auc: float = 0.5,
    of_positives: float = math.nan,
) -> Components:
    """Of one treatment of a pilot, for planning one figure of merit (not a difference: Cov1 and Cov3 are taken as 0).

    MS(R)_i = Var(R) + Var(TR) + Var(error)_i - Cov2_i of the single-treatment analysis (Hillis 2007).

    Raises
    ------
    InputError
        An analysis of one reader, or without this treatment.
    """
    names = [f"{name}, treatment {treatment}" for name in ("MS(R)", "Var(error)", "Cov2")]
    missing = [name for name in names if not math.isfinite(analysis.components.get(name, math.nan))]
    if missing:
        raise InputError(
            f"no {'; '.join(missing)}",
            "pilot",
            "give a pilot of at least two readers who read this treatment",
        )
    mean_square, error, cov2 = (float(analysis.components[name]) for name in names)
    return Components(
        reader=mean_square - error + max(cov2, 0.0),
        treatment_reader=0.0,
        error=error,
        cov1=0.0,
        cov2=cov2,
        cov3=0.0,
        positives=positives,
        cases=cases,
        auc=auc,
        of_positives=of_positives,
        source=f"pilot: {analysis.merit} of {treatment}, {analysis.covariance}",
    )


# As printed by OR-DBM MRMC 2.51 for Van Dyke et al. (RSNA 1993): 5 readers, 69 normal and 45 abnormal cases,
# trapezoidal AUC, jackknife. https://github.com/dpc10ster/RJafroc, inst/Iowa/VanDyke.txt. ``of_positives`` is ours,
# from the ratings themselves.
PUBLISHED = {
    "van-dyke": Components(
        reader=0.00153500,
        treatment_reader=0.00020040,
        error=0.00080229,
        cov1=0.00034661,
        cov2=0.00034407,
        cov3=0.00023903,
        positives=45,
        cases=114,
        auc=0.9189,
        of_positives=0.8824,
        source="Van Dyke et al. 1993, as printed by OR-DBM MRMC 2.51",
    )
}
