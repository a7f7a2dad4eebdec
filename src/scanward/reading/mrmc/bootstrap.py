"""Covariances by drawing patients anew: for any figure of merit, at the price of time and of a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.structured import by_patient, used_cases

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def bootstrap_covariance(ratings: Ratings, merit: Merit, resamples: int, seed: int) -> Floats:
    """Covariances of all cells over samples of patients: (treatments, readers, treatments, readers).

    1/(B - 1) sum_b (A_k(b) - A_k(.))(A_l(b) - A_l(.)) over B samples drawn with replacement, among the patients with
    positives only, with negatives only, and with both, apart: as many of each as there are (Efron and Tibshirani 1993,
    An Introduction to the Bootstrap, Chapman & Hall, chapters 6 and 8). Samples in which a cell has no figure are left
    out. 0 for cells that share no patient; NaN where fewer than two samples remain.

    Raises
    ------
    SettingsError
        Fewer than two samples.
    """
    if resamples < 2:
        raise SettingsError(f"{resamples} bootstrap samples", "resamples", "give some hundreds")
    shape = ratings.score.shape[:2]
    rng = np.random.default_rng(seed)
    order = np.argsort(ratings.patient, kind="stable")
    patients, first, many = np.unique(ratings.patient[order], return_index=True, return_counts=True)
    kind = np.zeros(len(patients), dtype=np.intp)
    for weight, truth in ((1, True), (2, False)):
        kind += weight * np.isin(patients, ratings.patient[ratings.truth == truth])
    strata = [np.flatnonzero(kind == k) for k in np.unique(kind)]
    defined = ~np.isnan(merit.values(ratings))
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(stratum, len(stratum)) for stratum in strata])
        value = merit.values(_drawn(ratings, order, first[drawn], many[drawn]))
        if not np.isnan(value[defined]).any():
            found.append(value.ravel())
    cells = int(np.prod(shape))
    if len(found) < 2:
        covariance = np.full((cells, cells), np.nan)
    else:
        samples = np.array(found)
        deviations = samples - samples.mean(axis=0)
        covariance = deviations.T @ deviations / (len(found) - 1)
    there = (by_patient(used_cases(ratings, merit), ratings) > 0).reshape(cells, -1).astype(np.float64)
    covariance[there @ there.T == 0] = 0.0
    return covariance.reshape(*shape, *shape)


def _drawn(ratings: Ratings, order: Indices, first: Indices, many: Indices) -> Ratings:
    """The ratings of some patients, each of whom is somebody else every time he is drawn."""
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    cases = order[np.repeat(first, many) + within]
    return Ratings(
        score=ratings.score[:, :, cases],
        truth=ratings.truth[cases],
        patient=np.repeat(np.arange(len(many)), many),
        treatments=ratings.treatments,
        readers=ratings.readers,
        cases=tuple(map(str, range(len(cases)))),
        patients=tuple(map(str, range(len(many)))),
    )
