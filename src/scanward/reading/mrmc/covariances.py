"""Covariances of the readers' figures of merit that come from reading the same cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.bootstrap import bootstrap_covariance
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Covariance, Estimates
from scanward.reading.mrmc.structured import Structured, by_patient, read_classes, used_cases
from scanward.reading.mrmc.unbiased import unbiased_covariance

Floats = NDArray[np.float64]


def estimate(
    ratings: Ratings,
    merit: Merit,
    method: Covariance = Covariance.JACKKNIFE,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimates:
    """The figure of merit in every cell, and the covariances of its errors between all cells.

    Parameters
    ----------
    ratings : Ratings
        In any design: the covariance of two cells comes from the patients they share.
    merit : Merit
        Any with the jackknife or the bootstrap; a `Structured` one with DeLong's method; the empirical AUC,
        sensitivity or specificity with the unbiased one.
    method : Covariance
    resamples, seed : int
        Of the bootstrap alone.

    Returns
    -------
    Estimates
        Covariances of a cell without a figure are NaN, and those of a cell whose figure has no estimable variance
        (one case of a class); between cells that share no patient they are 0.

    Raises
    ------
    SettingsError
        A method that has no formula for this figure of merit; fewer than two bootstrap samples.
    """
    if method is Covariance.JACKKNIFE:
        covariance = jackknife_covariance(*pseudovalues(ratings, merit))
    elif method is Covariance.BOOTSTRAP:
        covariance = bootstrap_covariance(ratings, merit, resamples, seed)
    elif not isinstance(merit, Structured):
        raise SettingsError(
            f"no {method} covariances of {merit.name}", "covariance", f"use {Covariance.JACKKNIFE}"
        )
    elif method is Covariance.UNBIASED and isinstance(merit, EmpiricalAUC):
        covariance = unbiased_covariance(ratings)
    elif method is Covariance.DELONG or not (merit.uses_positives and merit.uses_negatives):
        covariance = _delong(ratings, merit)  # of a plain mean this is the unbiased one
    else:
        raise SettingsError(
            f"no {method} covariances of {merit.name}", "covariance", "use delong or jackknife"
        )
    value = merit.values(ratings)
    missing = np.isnan(value)
    covariance[missing] = np.nan
    covariance[:, :, missing] = np.nan
    return Estimates(
        merit=merit.name,
        method=method,
        treatments=ratings.treatments,
        readers=ratings.readers,
        value=value,
        covariance=covariance,
        patients=len(np.unique(ratings.patient)),
        chance=merit.chance,
    )


def pseudovalues(ratings: Ratings, merit: Merit) -> tuple[Floats, NDArray[np.bool_]]:
    """Jackknife pseudovalues about their mean, and which patients have one: twice (treatments, readers, patients).

    Y_kp - Y_k. = (n_k - 1)(mean of the A_k(-p) - A_k(-p)), n_k the patients whom cell k uses: those of the class that
    the figure uses (Dorfman, Berbaum and Metz 1992, doi:10.1097/00004424-199209000-00015). 0 where there is none.
    """
    there = by_patient(used_cases(ratings, merit), ratings) > 0
    count = there.sum(axis=-1)
    without = np.where(there, merit.leave_one_out(ratings), 0.0)
    mean = without.sum(axis=-1) / np.maximum(count, 1)
    return np.where(there, (count[..., None] - 1) * (mean[..., None] - without), 0.0), there


def jackknife_covariance(pseudo: Floats, there: NDArray[np.bool_]) -> Floats:
    """sum_p (Y_kp - Y_k.)(Y_lp - Y_l.) / (n (n - 1)) where both cells use the same n patients; of `pseudovalues`.

    The same as (n - 1)/n sum_p (A_k(-p) - A_k(.))(A_l(-p) - A_l(.)) (Efron and Tibshirani 1993, chapter 11).
    """
    count = there.sum(axis=-1)
    return _mean_covariance(pseudo, pseudo, there, count, count)


def _delong(ratings: Ratings, merit: Structured) -> Floats:
    """S10/M + S01/N + (S11 + S11')/(M N) with sums over each patient's cases.

    S10 = I10/((I10 - 1) M) sum_p (V10_kp. - m_p A_k)(V10_lp. - m_p A_l), S01 likewise, S11 = I/(I - 1) sum_p
    (V10_kp. - m_p A_k)(V01_lp. - n_p A_l); M positives of I10 patients, N negatives of I01, I patients in all, of
    whom patient p has m_p and n_p (Obuchowski 1997, doi:10.2307/2533958). Without clusters S11 vanishes and this is
    S10/M + S01/N of DeLong, DeLong and Clarke-Pearson 1988 (doi:10.2307/2531595).
    """
    components = merit.components(ratings)
    value = merit.values(ratings)
    total = np.zeros((*value.shape, *value.shape))
    sums, sizes = [], []
    for read, used in zip(read_classes(ratings), (merit.uses_positives, merit.uses_negatives), strict=True):
        if not used:
            continue
        deviation = by_patient(np.where(read, components - value[..., None], 0.0), ratings)
        size = read.sum(axis=-1)
        total += _mean_covariance(deviation, deviation, by_patient(read, ratings) > 0, size, size)
        sums.append(deviation)
        sizes.append(size)
    if len(sums) == 2 and ratings.clustered:
        there = by_patient(~np.isnan(ratings.score), ratings) > 0
        cross = _mean_covariance(sums[0], sums[1], there, sizes[0], sizes[1])
        total += cross + cross.transpose(2, 3, 0, 1)
    return total


def _mean_covariance(
    left: Floats,
    right: Floats,
    there: NDArray[np.bool_],
    of_left: NDArray[np.intp],
    of_right: NDArray[np.intp],
) -> Floats:
    """Covariances of means over patients, of whom two cells may share only some.

    With D the deviations from the cell's own mean (0 where absent), N_k and N_l the divisors of the two means, I_k and
    I_l patients, s of them shared: sum_p D_kp D_lp / (N_k N_l f), f = 1 - 1/I_k - 1/I_l + s/(I_k I_l). The
    expectation of the sum is s f times the covariance within a patient, so this is unbiased; where all patients are
    shared 1/f is I/(I - 1), the ordinary formula.
    """
    shape = there.shape[:2]
    cells = there.reshape(-1, there.shape[-1]).astype(np.float64)
    shared = cells @ cells.T
    patients = np.maximum(cells.sum(axis=1), 1.0)
    share = 1.0 / patients
    factor = 1.0 - share[:, None] - share[None, :] + shared * np.outer(share, share)
    products = left.reshape(cells.shape) @ right.reshape(cells.shape).T
    divisor = np.outer(of_left.ravel(), of_right.ravel()) * factor
    found = np.full(products.shape, np.nan)
    np.divide(products, divisor, out=found, where=divisor > 0.5 / patients.max() ** 2)
    found[shared == 0] = 0.0
    return found.reshape(*shape, *shape)
