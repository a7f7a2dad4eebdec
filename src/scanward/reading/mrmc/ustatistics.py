"""The one-shot U-statistic analysis of the empirical AUC: unbiased variances in any design, without a model.

Gallas, One-shot estimate of MRMC variance: AUC, Acad Radiol 2006;13:353-362; Gallas, Bandos, Samuelson & Wagner, A
framework for random-effects ROC analysis, Commun Stat Theory Methods 2009;38:2586-2603; as in iMRMC of the FDA
(https://github.com/DIDSR/iMRMC, CC0).

How the variances come about stands in `moments`.

**Degrees of freedom.** BDG: Satterthwaite's over the mean squares of readers, negatives and positives (iMRMC's dfBDG),
at least 2. Hillis: (R - 1) (V R / MS)^2 (fully crossed only; Hillis, Stat Med 2014;33:330-360). iMRMC cuts them
to whole numbers and takes the normal distribution from 50 on; ``whole_df`` does the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.doubts import few_readers
from scanward.reading.mrmc.inference import check_level, chi2_test, f_test, interval
from scanward.reading.mrmc.moments import ALL, NEGATIVES, POSITIVES, READERS, Moments, moments
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Random, Test

Floats = NDArray[np.float64]
_CHANCE = 0.5
_NORMAL_FROM = 50  # degrees of freedom from which iMRMC takes the normal distribution


def one_shot(
    ratings: Ratings,
    level: float = 0.95,
    df: str = "BDG",
    *,
    weights: str = "pairs",
    whole_df: bool = False,
) -> Analysis:
    """The U-statistic analysis of the empirical AUC: method "U".

    Parameters
    ----------
    ratings : Ratings
        Any design; patients with several cases are clusters.
    level : float
        Of the two-sided intervals.
    df : "BDG", "hillis" or "normal"
        Degrees of freedom. Both of the former stand in ``components``.
    weights : "pairs" or "readers"
        As in `moments`.
    whole_df : bool
        Cut degrees of freedom to whole numbers, normal from 50 on, as iMRMC does. `Interval.df` is what was used.

    Returns
    -------
    Analysis
        Readers and cases random. With one reader: cases only, normal intervals. ``by_reader``: cases random, normal.
        ``components``: M1..M8 (of a treatment, "M1[A]", and of two, "M1[A, B]"), variances and degrees of freedom. The
        overall test of T treatments is Hotelling's, F(T - 1, df - T + 2), with the fewest df of all differences;
        for two treatments it is the test of their difference.

    Raises
    ------
    InputError
        Cases of one kind only.
    SettingsError
        A level outside 0 to 1; unknown df or weights; Hillis' df of a study that is not fully crossed.
    """
    check_level(level)
    if df not in ("BDG", "hillis", "normal"):
        raise SettingsError(f"degrees of freedom '{df}'", "df", "use BDG, hillis or normal")
    if df == "hillis" and not ratings.fully_crossed:
        raise SettingsError(
            "Hillis' degrees of freedom of a study that is not fully crossed", "df", "use BDG"
        )
    found = moments(ratings, weights)
    alone = len(ratings.readers) == 1
    covariance = found.reader_covariance[0] if alone else found.covariance
    pairs = list(itertools.combinations(range(len(ratings.treatments)), 2))
    names: dict[tuple[int, ...], str] = {(t,): name for t, name in enumerate(ratings.treatments)}
    names.update({(t, u): f"{ratings.treatments[t]} - {ratings.treatments[u]}" for t, u in pairs})
    variance = {of: _variance(covariance, of) for of in names}
    warnings = _warnings(ratings, names, variance, found)
    degrees = {of: _degrees(found, of, variance[of], ratings.fully_crossed) for of in names}
    used: dict[tuple[int, ...], float] = {}
    for of in names:
        used[of] = math.inf if alone or df == "normal" else degrees[of]["df" + df.replace("h", "H")]
        if whole_df and math.isfinite(used[of]):
            used[of] = math.inf if used[of] >= _NORMAL_FROM else float(math.floor(used[of]))
    estimate = {of: float(found.auc[of[0]] - (found.auc[of[1]] if of[1:] else 0.0)) for of in names}
    intervals = {
        of: interval(name, estimate[of], variance[of], used[of], level=level, null=0.0 if of[1:] else _CHANCE)
        for of, name in names.items()
    }
    by_reader = [
        interval(
            f"{reader}: {names[of]}",
            float(found.reader_auc[of[0], r] - found.reader_auc[of[1], r]),
            _variance(found.reader_covariance[r], of),
            math.inf,
            level=level,
            null=0.0,
        )
        for r, reader in enumerate(ratings.readers)
        for of in pairs
        if np.isfinite(found.reader_auc[list(of), r]).all()
    ]
    return Analysis(
        method="U",
        covariance="one-shot unbiased",
        random=Random.CASES if alone else Random.BOTH,
        merit="empirical AUC",
        design="fully crossed" if ratings.fully_crossed else "arbitrary",
        overall=_overall(found.auc, covariance, [used[of] for of in pairs]) if pairs else None,
        differences=tuple(intervals[of] for of in pairs),
        treatments=tuple(intervals[(t,)] for t in range(len(ratings.treatments))),
        by_reader=tuple(by_reader),
        components=_components(ratings.treatments, found, names, variance, degrees),
        warnings=tuple(warnings),
    )


def _variance(covariance: Floats, of: tuple[int, ...]) -> float:
    if len(of) == 1:
        return float(covariance[of[0], of[0]])
    t, u = of
    return float(covariance[t, t] + covariance[u, u] - 2 * covariance[t, u])


def _degrees(found: Moments, of: tuple[int, ...], variance: float, crossed: bool) -> dict[str, float]:
    degrees = {"dfBDG": _bdg(found, of, variance)}
    if crossed and found.reader_auc.shape[1] > 1:
        values = found.reader_auc[of[0]] - (found.reader_auc[of[1]] if of[1:] else 0.0)
        count = len(values)
        square, whole = float(values.var(ddof=1)), count * variance
        degrees["dfHillis"] = (count - 1) * (max(whole, square) / square) ** 2 if square > 0 else math.inf
    return degrees


def _bdg(found: Moments, of: tuple[int, ...], variance: float) -> float:
    """Satterthwaite's V^2 / sum (MS/n)^2 / (n - 1) over readers, negatives, positives, as iMRMC forms it.

    Of two treatments that share a factor's levels the mean square is that of the difference. Effective numbers of
    levels are rounded; the result is at least the fewest of any factor, and 2. Where patients have cases of both kinds
    they are one factor, with the mean square of their influence on the AUC.
    """
    terms: list[tuple[float, float]] = []  # variance that a factor contributes, its degrees of freedom
    for factor in (READERS,) if found.mixed else (READERS, NEGATIVES, POSITIVES):
        square = found.overlapping[..., factor] - found.overlapping[..., ALL]
        free = [float(np.floor(1.0 / found.shares[t, t, factor] - 0.5)) for t in of]
        if of[1:] and found.shares[of[0], of[1], factor] > 0:
            terms.append((_variance(square, of), min(free)))
        else:
            terms += [(float(square[t, t]), n) for t, n in zip(of, free, strict=True)]
    terms = [(_ratio_of(square, n), n) for square, n in terms]
    if found.mixed:
        moved = found.influence[of[0]] - (found.influence[of[1]] if of[1:] else 0.0)
        count = int((found.influence[list(of)] != 0).any(axis=0).sum())
        terms.append((_ratio_of(count * float((moved**2).sum()), count - 1), count - 1))
    below = sum(square**2 / n for square, n in terms if n > 0)
    degrees = _ratio_of(variance**2, below)
    return max(degrees, min(n for _, n in terms), 2.0)


def _ratio_of(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _overall(auc: Floats, covariance: Floats, degrees: Sequence[float]) -> Test | None:
    """Hotelling's test that all AUC are equal; None where the covariances allow none."""
    contrast = np.eye(len(auc))[1:] - np.eye(len(auc))[0]
    differences, between = contrast @ auc, contrast @ covariance @ contrast.T
    count = len(differences)
    df = min(degrees)
    free = df - count + 1
    if not np.isfinite(between).all() or np.linalg.eigvalsh(between).min() <= 0 or not free > 0:
        return None
    squared = float(differences @ np.linalg.solve(between, differences))
    if math.isinf(df):
        return chi2_test(squared, 1.0, count)
    return f_test(squared * free / (df * count), 1.0, count, free)


def _components(
    treatments: Sequence[str],
    found: Moments,
    names: dict[tuple[int, ...], str],
    variance: dict[tuple[int, ...], float],
    degrees: dict[tuple[int, ...], dict[str, float]],
) -> dict[str, float]:
    told: dict[str, float] = {}
    for of, name in names.items():
        told[f"Var[{name}]"] = variance[of]
        told |= {f"{key}[{name}]": value for key, value in degrees[of].items()}
        if not found.mixed:
            t, u = of[0], of[-1]
            label = ", ".join(treatments[each] for each in of)
            for k in range(8):
                told[f"M{k + 1}[{label}]"] = float(found.moments[t, u, k])
                told[f"c{k + 1}[{label}]"] = float(found.coefficients[t, u, k])
    return told


def _warnings(
    ratings: Ratings,
    names: dict[tuple[int, ...], str],
    variance: dict[tuple[int, ...], float],
    found: Moments,
) -> list[str]:
    told = []
    readers = len(ratings.readers)
    if readers == 1:
        told.append(
            "one reader: the result speaks of this reader alone, not of readers; intervals are normal"
        )
    else:
        told += few_readers(readers)
    for of, name in names.items():
        if np.isnan(found.auc[list(of)]).any():
            told.append(f"{name}: no AUC, nobody read both positives and negatives")
        elif math.isnan(variance[of]):
            told.append(f"{name}: no variance, too few readers or cases")
        elif variance[of] <= 0:
            told.append(f"{name}: the unbiased estimate of the variance is not positive, so there is no test")
    return told
