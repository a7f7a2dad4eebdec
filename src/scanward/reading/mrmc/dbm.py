"""The Dorfman-Berbaum-Metz analysis: an ordinary analysis of variance of jackknife pseudovalues.

Pseudovalue of patient k: Y_ijk = n A_ij - (n - 1) A_ij(-k), here normalised, so that their mean is A_ij itself; it is
already for empirical areas. Y = mean + T_i + R_j + C_k + TR + TC + RC + TRC. Dorfman, Berbaum and Metz 1992
(doi:10.1097/00004424-199209000-00015); with the error terms and degrees of freedom of Hillis, Berbaum and Metz 2008
(doi:10.1016/j.acra.2007.12.015) it gives for random readers and cases what Obuchowski-Rockette gives with jackknife
covariances (Hillis, Obuchowski, Schartz and Berbaum 2005, doi:10.1002/sim.2024).

With t treatments, r readers and n patients:

================= ================================== ======================================
random            error term, for F = MS(T) / error   error term of one treatment i
================= ================================== ======================================
readers and cases MS(TR) + max(MS(TC) - MS(TRC), 0)   MS(R)_i + max(MS(C)_i - MS(RC)_i, 0)
cases             MS(TC)                             MS(C)_i
readers           MS(TR)                             MS(R)_i
================= ================================== ======================================

A difference of two treatments has the variance 2/(r n) of the first, one treatment 1/(r n) of the second. With cases
alone random, DBM differs from Obuchowski-Rockette: t with (t - 1)(n - 1) degrees of freedom instead of z, and no
max(..., 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scanward.errors import InputError
from scanward.reading.mrmc.covariances import jackknife_covariance, pseudovalues
from scanward.reading.mrmc.designs import FACTORIAL
from scanward.reading.mrmc.doubts import doubts_about
from scanward.reading.mrmc.inference import NAN, check_level, f_test, interval, satterthwaite
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Covariance, Estimates, Interval, Random

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Squares:
    """Mean squares of a treatments x readers x patients table, of each treatment's part, and of each reader's.

    ``treatments``: of treatment i its readers x patients table; ``readers``: of reader j its MS(TC). NaN where a
    factor has one level.
    """

    t: float
    r: float
    c: float
    tr: float
    tc: float
    rc: float
    trc: float
    r_by_treatment: Floats
    c_by_treatment: Floats
    rc_by_treatment: Floats
    tc_by_reader: Floats


def dbm(ratings: Ratings, merit: Merit, random: Random = Random.BOTH, level: float = 0.95) -> Analysis:
    """Compare treatments, and give each one's interval, by analysis of variance of pseudovalues.

    Parameters
    ----------
    ratings : Ratings
        Every reader read every case under every treatment. Of clustered cases the patient is left out as a whole.
    merit : Merit
    random : Random
        What the result speaks of.
    level : float
        Of all intervals.

    Returns
    -------
    Analysis
        ``components``: the mean squares MS(T) ... MS(TRC), the variance components Var(R), Var(C), Var(TR), Var(TC),
        Var(RC), Var(TRC) + Var(error) (which can be negative), error term, df(error term).

    Raises
    ------
    InputError
        Missing ratings: only Obuchowski-Rockette can do with them. No figure without some patient.
    SettingsError
        A level that is none.
    """
    check_level(level)
    if not ratings.fully_crossed:
        raise InputError(
            "pseudovalues of a design that is not fully crossed",
            f"{int(np.isnan(ratings.score).sum())} missing ratings",
            "use obuchowski_rockette, or leave out the cases that not everybody read",
        )
    value = merit.values(ratings)
    deviations, there = pseudovalues(ratings, merit)
    used = there.all(axis=(0, 1))
    table = deviations[:, :, used] + value[:, :, None]
    if np.isnan(table).any() or table.shape[2] < 2:
        raise InputError(
            f"no {merit.name} without some patient",
            "pseudovalues",
            "give at least two patients of each class",
        )
    squares = mean_squares(table)
    t, r, n = table.shape
    terms = _terms(random, squares, t, r, n)
    estimates = Estimates(
        merit=merit.name,
        method=Covariance.JACKKNIFE,
        treatments=ratings.treatments,
        readers=ratings.readers,
        value=value,
        covariance=jackknife_covariance(deviations, there),
        patients=n,
        chance=merit.chance,
    )
    return Analysis(
        method="DBM",
        covariance=str(Covariance.JACKKNIFE),
        random=random,
        merit=merit.name,
        design=FACTORIAL,
        overall=f_test(squares.t, terms.error, t - 1, terms.df) if t > 1 else None,
        differences=_differences(
            ratings.treatments, value.mean(axis=1), 2 * terms.error / (r * n), terms.df, level
        ),
        treatments=tuple(
            interval(
                name,
                float(value[i].mean()),
                terms.single[i] / (r * n),
                terms.single_df[i],
                level=level,
                null=merit.chance,
            )
            for i, name in enumerate(ratings.treatments)
        ),
        by_reader=tuple(
            found
            for j, reader in enumerate(ratings.readers)
            for found in _differences(
                ratings.treatments,
                value[:, j],
                2 * squares.tc_by_reader[j] / n,
                (t - 1) * (n - 1),
                level,
                prefix=f"{reader}: ",
            )
        )
        if random is Random.CASES
        else (),
        components=_named(squares, terms, t, r, n),
        warnings=tuple(doubts_about(estimates, random) + _doubts(random, squares, terms)),
    )


@dataclass(frozen=True, eq=False)
class _Terms:
    error: float
    df: float
    single: Floats
    single_df: Floats


def _terms(random: Random, squares: Squares, t: int, r: int, n: int) -> _Terms:
    if random is Random.CASES:
        return _Terms(squares.tc, float((t - 1) * (n - 1)), squares.c_by_treatment, np.full(t, float(n - 1)))
    df, single_df = float((t - 1) * (r - 1)), float(r - 1)
    if r == 1:
        return _Terms(NAN, NAN, np.full(t, np.nan), np.full(t, np.nan))
    if random is Random.READERS:
        return _Terms(squares.tr, df, squares.r_by_treatment, np.full(t, single_df))
    error = squares.tr + max(squares.tc - squares.trc, 0.0) if t > 1 else NAN
    single = squares.r_by_treatment + np.maximum(squares.c_by_treatment - squares.rc_by_treatment, 0.0)
    singles = [satterthwaite(single[i], squares.r_by_treatment[i], single_df) for i in range(t)]
    return _Terms(error, satterthwaite(error, squares.tr, df), single, np.array(singles))


def mean_squares(table: Floats) -> Squares:
    """The mean squares of a treatments x readers x patients table (Winer 1971, three factors without replication)."""
    t, r, n = table.shape
    centred = table - table.mean()  # mean squares are of deviations: nothing is lost by cancellation
    i, j, k = (centred.mean(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    ij = centred.mean(axis=2) - i[:, None] - j[None, :]
    ik = centred.mean(axis=1) - i[:, None] - k[None, :]
    jk = centred.mean(axis=0) - j[:, None] - k[None, :]
    rest = (
        centred
        - i[:, None, None]
        - j[None, :, None]
        - k[None, None, :]
        - ij[:, :, None]
        - ik[:, None, :]
        - jk[None, :, :]
    )
    own_r, own_c = centred.mean(axis=2), centred.mean(axis=1)  # (t, r), (t, n)
    own_rest = centred - own_r[:, :, None] - own_c[:, None, :] + i[:, None, None]
    by_case = centred.mean(axis=0)  # (r, n)
    of_reader = centred - own_r[:, :, None] - by_case[None] + j[None, :, None]
    return Squares(
        t=_square(i, t - 1, r * n),
        r=_square(j, r - 1, t * n),
        c=_square(k, n - 1, t * r),
        tr=_square(ij, (t - 1) * (r - 1), n),
        tc=_square(ik, (t - 1) * (n - 1), r),
        rc=_square(jk, (r - 1) * (n - 1), t),
        trc=_square(rest, (t - 1) * (r - 1) * (n - 1), 1),
        r_by_treatment=np.array([_square(own_r[a] - i[a], r - 1, n) for a in range(t)]),
        c_by_treatment=np.array([_square(own_c[a] - i[a], n - 1, r) for a in range(t)]),
        rc_by_treatment=np.array([_square(own_rest[a], (r - 1) * (n - 1), 1) for a in range(t)]),
        tc_by_reader=np.array([_square(of_reader[:, b], (t - 1) * (n - 1), 1) for b in range(r)]),
    )


def _square(deviations: Floats, df: int, times: int) -> float:
    return float(times * (deviations**2).sum() / df) if df > 0 else NAN


def _differences(
    names: tuple[str, ...], mean: Floats, variance: float, df: float, level: float, prefix: str = ""
) -> tuple[Interval, ...]:
    return tuple(
        interval(
            f"{prefix}{names[a]} - {names[b]}",
            float(mean[a] - mean[b]),
            variance,
            df,
            level=level,
            null=0.0,
        )
        for a, b in combinations(range(len(names)), 2)
    )


def _named(squares: Squares, terms: _Terms, t: int, r: int, n: int) -> dict[str, float]:
    found = {
        "MS(T)": squares.t,
        "MS(R)": squares.r,
        "MS(C)": squares.c,
        "MS(TR)": squares.tr,
        "MS(TC)": squares.tc,
        "MS(RC)": squares.rc,
        "MS(TRC)": squares.trc,
        "Var(R)": (squares.r - squares.tr - squares.rc + squares.trc) / (t * n),
        "Var(C)": (squares.c - squares.tc - squares.rc + squares.trc) / (t * r),
        "Var(TR)": (squares.tr - squares.trc) / n,
        "Var(TC)": (squares.tc - squares.trc) / r,
        "Var(RC)": (squares.rc - squares.trc) / t,
        "Var(TRC) + Var(error)": squares.trc,
        "error term": terms.error if t > 1 else NAN,
        "df(error term)": terms.df if t > 1 else NAN,
    }
    return {name: float(number) for name, number in found.items() if not np.isnan(number)}


def _doubts(random: Random, squares: Squares, terms: _Terms) -> list[str]:
    found = []
    if random is Random.BOTH and squares.tc < squares.trc * (1 - 1e-12):
        found.append(
            f"MS(TC) ({squares.tc:.4g}) is below MS(TRC) ({squares.trc:.4g}), against what is expected (Cov2 below "
            "Cov3): max(MS(TC) - MS(TRC), 0) = 0 was used"
        )
    if terms.error <= 0:
        found.append(
            f"the error term is {terms.error:.4g}: there is nothing against which a difference could be judged"
        )
    return found


def to_dbm(components: Mapping[str, float], patients: int) -> dict[str, float]:
    """DBM variance components out of those of an Obuchowski-Rockette analysis with jackknife covariances.

    Var(C) = n Cov3, Var(TC) = n (Cov2 - Cov3), Var(RC) = n (Cov1 - Cov3), Var(TRC) + Var(error) =
    n (Var(error) - Cov1 - Cov2 + Cov3), n patients; Var(R) and Var(TR) are the same (Hillis, Obuchowski, Schartz and
    Berbaum 2005, doi:10.1002/sim.2024).

    Raises
    ------
    InputError
        A component is missing: an analysis of one reader or one treatment has none.
    """
    r, tr, error, cov1, cov2, cov3 = _those(
        components, ("Var(R)", "Var(TR)", "Var(error)", "Cov1", "Cov2", "Cov3")
    )
    return {
        "Var(R)": r,
        "Var(C)": patients * cov3,
        "Var(TR)": tr,
        "Var(TC)": patients * (cov2 - cov3),
        "Var(RC)": patients * (cov1 - cov3),
        "Var(TRC) + Var(error)": patients * (error - cov1 - cov2 + cov3),
    }


def to_or(components: Mapping[str, float], patients: int) -> dict[str, float]:
    """Obuchowski-Rockette variance components out of those of a DBM analysis: the inverse of `to_dbm`.

    Raises
    ------
    InputError
        A component is missing, or there are no patients.
    """
    if patients < 1:
        raise InputError(f"{patients} patients", "variance components", "give at least one")
    r, c, tr, tc, rc, trc = _those(
        components, ("Var(R)", "Var(C)", "Var(TR)", "Var(TC)", "Var(RC)", "Var(TRC) + Var(error)")
    )
    return {
        "Var(R)": r,
        "Var(TR)": tr,
        "Var(error)": (c + tc + rc + trc) / patients,
        "Cov1": (c + rc) / patients,
        "Cov2": (c + tc) / patients,
        "Cov3": c / patients,
    }


def _those(components: Mapping[str, float], names: tuple[str, ...]) -> list[float]:
    missing = [name for name in names if name not in components]
    if missing:
        raise InputError(
            f"no {', '.join(missing)}",
            "variance components",
            "give an analysis of at least two readers and two treatments",
        )
    return [components[name] for name in names]
