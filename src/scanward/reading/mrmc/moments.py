"""Moments of the empirical AUC over readers and cases, and the unbiased covariances that they give in any design.

Gallas, One-shot estimate of MRMC variance: AUC, Acad Radiol 2006;13:353-362; Gallas, Bandos, Samuelson & Wagner, A
framework for random-effects ROC analysis, Commun Stat Theory Methods 2009;38:2586-2603.

The readers' AUC of treatment t pools the pairs of a positive and a negative that each reader read:
A_t = sum_r w_tr sum_pq K_tr(p, q) / sum_r w_tr sum_pq D_tr(p, q), with K, D of `kernels`. Two pairs of two readers
that share no patient are independent given the population, so the mean of their products

    M8_tu = sum K_tr(p, q) K_us(p', q') / sum D_tr(p, q) D_us(p', q')   over r != s, {p, q} and {p', q'} disjoint

estimates E(A_t) E(A_u) without bias, and Cov(A_t, A_u) = A_t A_u - M8_tu. That equals sum_k c_k M_k - M8 over the
eight moments of Barrett, Clarkson & Kupinski: the mean products of two pairs of one reader with both cases the same
(M1), the positive (M2), the negative (M3), neither (M4); M5 to M8 likewise of two readers.

**Clusters.** A patient with several cases is the unit p that is drawn. A pair inside one patient (p = q) has another
mean than one of two patients, since a patient's cases are alike. With b_t the share of pairs of two patients and
w_t = 1 - b_t

    Cov = A_t A_u - (b_t b_u M_bb + b_t w_u M_bw + w_t b_u M_wb + w_t w_u M_ww)

where M_bw is the mean product of a pair of two patients and a pair inside a third one, and so on, always of disjoint
patients and two readers; where but one patient has pairs inside, M_ww is M_bw M_wb / M_bb. Unbiased where how many
cases a patient has tells nothing of how they are rated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.config import MRMC_BOUNDS
from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.kernels import Sums, sweep
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
READERS, POSITIVES, NEGATIVES, ALL = 3, 5, 6, 7  # of the eight: those that share one factor alone, or nothing
# Rows: M1..M8, their classes apart; columns: sums over all that share reader, positive, negative and maybe more.
_APART = np.array(
    [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [-1, 1, 0, 0, 0, 0, 0, 0],
        [-1, 0, 1, 0, 0, 0, 0, 0],
        [1, -1, -1, 1, 0, 0, 0, 0],
        [-1, 0, 0, 0, 1, 0, 0, 0],
        [1, -1, 0, 0, -1, 1, 0, 0],
        [1, 0, -1, 0, -1, 0, 1, 0],
        [-1, 1, 1, -1, 1, -1, -1, 1],
    ]
)


@dataclass(frozen=True, eq=False)
class Moments:
    """What the analysis rests on; the first two axes are treatments t and u unless said otherwise.

    ``auc`` (treatments,), ``covariance`` of these, NaN where it cannot be estimated. ``moments`` and ``coefficients``
    (.., 8): M1..M8, and each class's share of all pairs of pairs; NaN with patients that have cases of both kinds, for
    whom eight classes do not suffice. ``overlapping``, ``shares`` (.., 8): the same before the classes are taken apart
    (iMRMC's biased moments, "MLE"), from which the mean squares come. ``influence`` (treatments, patients): by how much
    a patient moves the AUC. ``reader_auc`` (treatments, readers), ``reader_covariance`` (readers, t, u): of
    each reader alone, only cases being random.
    """

    auc: Floats
    covariance: Floats
    moments: Floats
    coefficients: Floats
    overlapping: Floats
    shares: Floats
    influence: Floats
    reader_auc: Floats
    reader_covariance: Floats
    mixed: bool


def moments(ratings: Ratings, weights: str = "pairs") -> Moments:
    """Estimates of the readers' AUC and of their covariances.

    Parameters
    ----------
    weights : "pairs" or "readers"
        "pairs": every pair counts the same, as in iMRMC, so a reader counts by the pairs read; "readers": every reader
        counts the same. No difference in a fully crossed study.

    Raises
    ------
    InputError
        No positives or no negatives; more pairs of cases than `config.MrmcBounds` allows.
    SettingsError
        Other weights.
    """
    if not ratings.truth.any() or ratings.truth.all():
        raise InputError("cases of one kind only", "truth", "give positive and negative cases")
    positives = int(ratings.truth.sum())
    pairs_to_see = ratings.score[..., 0].size * positives * (len(ratings.truth) - positives)
    if pairs_to_see > MRMC_BOUNDS.pairs:
        raise InputError(
            f"{pairs_to_see:,} pairs of a positive and a negative in all cells, more than {MRMC_BOUNDS.pairs:,}",
            "U-statistic",
            "use Obuchowski-Rockette with DeLong's covariances, which take no pairs",
        )
    if weights not in ("pairs", "readers"):
        raise SettingsError(f"weights '{weights}'", "weights", "use pairs or readers")
    read = ~np.isnan(ratings.score)
    count = (read & ratings.truth).sum(axis=2) * (read & ~ratings.truth).sum(axis=2)
    swept = sweep(ratings, None if weights == "pairs" else 1.0 / np.maximum(count, 1))
    wins, pairs = swept.wins, swept.pairs
    auc = _ratio(wins.total, pairs.total)
    reader_auc = _ratio(swept.wins_by_reader.total, swept.pairs_by_reader.total)
    of_wins = _overlapping(swept.weights, swept.wins_by_reader, wins)
    of_pairs = _overlapping(swept.weights, swept.pairs_by_reader, pairs)
    shares = _ratio(of_pairs, np.multiply.outer(pairs.total, pairs.total)[..., None])
    blank = np.nan if swept.mixed else 1.0
    return Moments(
        auc=auc,
        covariance=_covariance(
            auc,
            _two_readers(swept.weights, swept.wins_by_reader, wins),
            _two_readers(swept.weights, swept.pairs_by_reader, pairs),
            pairs,
        ),
        moments=_ratio(of_wins @ _APART.T, of_pairs @ _APART.T) * blank,
        coefficients=shares @ _APART.T * blank,
        overlapping=_ratio(of_wins, of_pairs),
        shares=shares,
        influence=_ratio(wins.row + wins.col - auc[:, None] * (pairs.row + pairs.col), pairs.total[:, None]),
        reader_auc=reader_auc.T,
        reader_covariance=_covariance(
            reader_auc,
            _disjoint(swept.wins_by_reader),
            _disjoint(swept.pairs_by_reader),
            swept.pairs_by_reader,
        ),
        mixed=swept.mixed,
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    above, below = np.broadcast_arrays(above, below)
    found = np.full(above.shape, np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _dot(left: Floats, right: Floats) -> Floats:
    """Sums over patients: (..., t, patients) and (..., u, patients) to (..., t, u)."""
    found: Floats = left @ right.swapaxes(-1, -2)
    return found


def _outer(left: Floats, right: Floats) -> Floats:
    return left[..., :, None] * right[..., None, :]


def _overlapping(weights: Floats, by_reader: Sums, together: Sums) -> Floats:
    """Sums of products of two pairs that share at least what the class shares: (t, u, 8)."""
    w = weights.T
    classes = []
    for each, factor in ((by_reader, _outer(w, w)), (together, np.ones(1))):
        for form in (
            each.square,
            _dot(each.col, each.col),
            _dot(each.row, each.row),
            _outer(each.total, each.total),
        ):
            product = factor * form
            classes.append(product.sum(axis=0) if product.ndim == 3 else product)
    return np.stack(classes, axis=-1)


def _disjoint(sums: Sums) -> Floats:
    """Sums of products of two pairs without a patient in common: (2, 2, ..., t, u).

    The first two axes: whether the first, the second pair lies within one patient. With p != q and p' != q' a patient
    is shared where p = p', q = q', p = q' or q = p'; only the first two, and the last two, can hold together.
    """
    own = sums.own
    row, col = sums.row - own, sums.col - own  # of pairs of two patients
    between, within = row.sum(axis=-1), own.sum(axis=-1)
    crosswise = _dot(row, col)
    inside = _dot(own, own)
    apart = (
        _outer(between, between)
        - (_dot(row, row) + _dot(col, col) + crosswise + crosswise.swapaxes(-1, -2))
        + (sums.square - inside)
        + (sums.turned - inside)
    )
    one = _outer(between, within) - _dot(row + col, own)
    return np.stack(
        [np.stack([apart, one]), np.stack([one.swapaxes(-1, -2), _outer(within, within) - inside])]
    )


def _two_readers(weights: Floats, by_reader: Sums, together: Sums) -> Floats:
    """The same of two different readers: all pairs of readers less those of a reader with himself."""
    w = weights.T
    found: Floats = _disjoint(together) - (_outer(w, w) * _disjoint(by_reader)).sum(axis=2)
    return found


def _covariance(auc: Floats, wins: Floats, pairs: Floats, of_pairs: Sums) -> Floats:
    """A_t A_u less the estimate of E(A_t) E(A_u): (..., t, u)."""
    within = _ratio(of_pairs.own.sum(axis=-1), of_pairs.total)
    share = (1.0 - within, within)
    means = _ratio(wins, pairs)
    # Of one patient with cases of both kinds: the mean inside patients enters squared, from its other products.
    alone = np.isnan(means[1, 1])
    means[1, 1][alone] = _ratio(means[0, 1] * means[1, 0], means[0, 0])[alone]
    expected = np.zeros(wins.shape[2:])
    for first, second in itertools.product(range(2), repeat=2):
        part = _outer(share[first], share[second])
        expected += np.where(part == 0, 0.0, part * means[first, second])
    return _outer(auc, auc) - expected
