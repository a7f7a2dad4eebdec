"""The empirical (trapezoidal, Wilcoxon) area under the ROC curve, in O(n log n) a cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.structured import Structured, by_patient, read_classes

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


class EmpiricalAUC(Structured):
    """The probability that a positive is rated higher than a negative, ties counting one half.

    AUC = 1/(n1 n0) sum_i sum_j psi(x_i, y_j), where psi(x, y) is 1 for x > y, 1/2 for x = y and 0 for x < y
    (Bamber 1975, doi:10.1016/0022-2496(75)90001-2; Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """

    name = "empirical AUC"
    chance = 0.5

    def one(self, positive: Floats, negative: Floats) -> float:
        """Its value from the ratings of positives (n1,) and negatives (n0,); NaN without one of the classes."""
        if not positive.size or not negative.size:
            return float("nan")
        return float(_wins(positive, np.sort(negative)).sum()) / (positive.size * negative.size)

    def values(self, ratings: Ratings) -> Floats:
        """Its value in every cell: (treatments, readers), NaN where a cell lacks positives or negatives."""
        positives, negatives = read_classes(ratings)
        wins = np.where(positives, placements(ratings), 0.0).sum(axis=-1)
        return _ratio(wins, positives.sum(axis=-1) * negatives.sum(axis=-1))

    def components(self, ratings: Ratings) -> Floats:
        """Of a positive the share of negatives it beats, of a negative the share of positives that beat it.

        V10(x_i) = 1/n0 sum_j psi(x_i, y_j); V01(y_j) = 1/n1 sum_i psi(x_i, y_j) (DeLong, DeLong and
        Clarke-Pearson 1988, doi:10.2307/2531595). (treatments, readers, cases), NaN where there is none.
        """
        positives, negatives = read_classes(ratings)
        others = np.where(ratings.truth, negatives.sum(axis=-1)[..., None], positives.sum(axis=-1)[..., None])
        found = _ratio(placements(ratings), others)
        found[np.isnan(self.values(ratings))] = np.nan
        return found

    def leave_one_out(self, ratings: Ratings) -> Floats:
        """Its value in every cell without each patient: (treatments, readers, patients).

        (U - sum of the patient's placements + pairs within the patient) / ((n1 - m1)(n0 - m0)), where U is the
        sum of psi over all pairs and m1, m0 are the patient's positives and negatives: pairs within the patient
        were taken away twice. NaN where the patient has all positives or all negatives of the cell.
        """
        positives, negatives = read_classes(ratings)
        counts = placements(ratings)
        wins = np.where(positives, counts, 0.0).sum(axis=-1)[..., None]
        own = by_patient(np.where(positives | negatives, counts, 0.0), ratings)
        own1, own0 = by_patient(positives, ratings), by_patient(negatives, ratings)
        left1 = positives.sum(axis=-1)[..., None] - own1
        left0 = negatives.sum(axis=-1)[..., None] - own0
        return _ratio(wins - own + within_patients(ratings), left1 * left0)


def placements(ratings: Ratings) -> Floats:
    """Of each positive the number of negatives it beats, of each negative the number of positives that beat it.

    Ties count one half, so the counts are exact. (treatments, readers, cases), NaN where nothing was read.
    """
    found = np.full(ratings.score.shape, np.nan)
    positives, negatives = np.flatnonzero(ratings.truth), np.flatnonzero(~ratings.truth)
    full = ratings.fully_crossed
    for cell in np.ndindex(ratings.score.shape[:2]):
        score = ratings.score[cell]
        ones = positives if full else positives[~np.isnan(score[positives])]
        noes = negatives if full else negatives[~np.isnan(score[negatives])]
        positive, negative = score[ones], score[noes]
        found[(*cell, ones)] = _wins(positive, np.sort(negative))
        found[(*cell, noes)] = len(ones) - _wins(negative, np.sort(positive))
    return found


def within_patients(ratings: Ratings) -> Floats:
    """The sum of psi over the pairs of a positive and a negative of one patient: (treatments, readers, patients)."""
    found = np.zeros((*ratings.score.shape[:2], len(ratings.patients)))
    one, no = pairs_within(ratings)
    if one.size:
        owner = ratings.patient[one]
        for cell in np.ndindex(ratings.score.shape[:2]):
            x, y = ratings.score[cell][one], ratings.score[cell][no]  # NaN neither beats nor ties
            psi = (x > y) + 0.5 * (x == y)
            found[cell] = np.bincount(owner, weights=psi, minlength=len(ratings.patients))
    return found


def pairs_within(ratings: Ratings) -> tuple[Indices, Indices]:
    """Indices of all pairs (positive, negative) of cases of one patient."""
    positives, negatives = np.flatnonzero(ratings.truth), np.flatnonzero(~ratings.truth)
    negatives = negatives[np.argsort(ratings.patient[negatives], kind="stable")]
    owners = ratings.patient[negatives]
    first = np.searchsorted(owners, ratings.patient[positives], side="left")
    many = np.searchsorted(owners, ratings.patient[positives], side="right") - first
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return np.repeat(positives, many), negatives[np.repeat(first, many) + within]


def _wins(of: Floats, against: Floats) -> Floats:
    """How many of ``against`` (sorted) each of ``of`` beats, ties counting one half."""
    below = np.searchsorted(against, of, side="left")
    wins: Floats = (below + np.searchsorted(against, of, side="right")) / 2.0
    return wins


def _ratio(above: Floats, below: NDArray[np.generic]) -> Floats:
    divisor = below.astype(np.float64)
    found = np.full(above.shape, np.nan)
    np.divide(above, divisor, out=found, where=divisor > 0)
    return found
