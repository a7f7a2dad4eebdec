"""The unbiased (U-statistic) covariances of empirical areas, in any design."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from scanward.reading.mrmc.empirical import EmpiricalAUC, placements, within_patients
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.structured import by_patient, read_classes

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
_BLOCK = 4 << 20  # values of psi held at a time: 16 MiB, and few enough that sums in float32 are exact


def unbiased_covariance(ratings: Ratings) -> Floats:
    """Covariances of the empirical AUCs of all cells: (treatments, readers, treatments, readers).

    cov(A_k, A_l) = A_k A_l - M, where M is the mean of psi_k(i, j) psi_l(i', j') over all pairs of pairs that
    have no patient in common: unbiased, because the two factors of M are independent and the expectation of
    A_k A_l is the covariance plus the product of the expectations (Gallas 2006, doi:10.1016/j.acra.2005.11.030;
    the moments in Gallas, Bandos, Samuelson and Wagner 2009, doi:10.1080/03610920802610084). For two cells that
    read all cases, without clusters, with row sums R, column sums C of psi, U their total and Q the sum of
    psi_k psi_l over pairs,

        M = (U_k U_l - sum_i R_ki R_li - sum_j C_kj C_lj + Q_kl) / (n1 (n1 - 1) n0 (n0 - 1)).

    Sums over pairs of pairs that share a patient come by inclusion and exclusion; pairs that a cell did not read
    count nowhere, so partially paired and nested data need no formula of their own. With clusters a positive and a
    negative of one patient have another expectation of psi than those of two: M is taken apart for pairs between and
    within patients, and put together in the proportions that A_k and A_l have of them. NaN where there are no
    two pairs without a common patient (one positive, or one negative); 0 for cells that share no patient. A variance
    can be estimated 0 or negative.
    """
    shape = ratings.score.shape[:2]
    cells = shape[0] * shape[1]
    positives, negatives = read_classes(ratings)
    counts = placements(ratings)
    m = by_patient(positives, ratings).reshape(cells, -1)
    n = by_patient(negatives, ratings).reshape(cells, -1)
    x = by_patient(np.where(positives, counts, 0.0), ratings).reshape(cells, -1)
    y = by_patient(np.where(negatives, counts, 0.0), ratings).reshape(cells, -1)
    own = within_patients(ratings).reshape(cells, -1)
    both, crossed = _products_of_pairs(ratings)
    apart = _disjoint(x, y, own, both, crossed)
    pairs = m.sum(axis=1), n.sum(axis=1)
    every = _disjoint(
        m * pairs[1][:, None], n * pairs[0][:, None], m * n, (m @ m.T) * (n @ n.T), (m @ n.T) * (n @ m.T)
    )
    within = (m * n).sum(axis=1)
    between = pairs[0] * pairs[1] - within
    product = np.zeros((cells, cells))
    pooled = _mean(np.add.reduce(apart), np.add.reduce(every))
    for left, right, total, ways in zip(
        (between, between, within, within), (between, within, between, within), apart, every, strict=True
    ):
        mean = _mean(total, ways)
        product += np.outer(left, right) * np.where(np.isnan(mean), pooled, mean)
    value = EmpiricalAUC().values(ratings).ravel()
    size = pairs[0] * pairs[1]
    found: Floats = np.outer(value, value) - _mean(product, np.outer(size, size))
    there = ((m + n) > 0).astype(np.float64)
    found[there @ there.T == 0] = 0.0
    return found.reshape(*shape, *shape)


def _mean(total: Floats, ways: Floats) -> Floats:
    found = np.full(ways.shape, np.nan)
    np.divide(total, ways, out=found, where=ways > 0.5)
    return found


def _disjoint(x: Floats, y: Floats, own: Floats, both: Floats, crossed: Floats) -> tuple[Floats, ...]:
    """The sums of u_k(p, q) u_l(p', q') over patients with {p, q} and {p', q'} disjoint, in four parts.

    p != q and p' != q'; p != q and p' = q'; p = q and p' != q'; p = q and p' = q'. ``x``, ``y`` (cells, patients):
    sums of u over q, over p. ``own``: u(p, p). ``both``: sum u_k(p, q) u_l(p, q). ``crossed``: sum u_k(p, q) u_l(q, p).
    All four together by inclusion and exclusion over p = p', q = q', p = q', q = p'; any three of them make all four
    patients one, hence the 4 - 1.
    """
    total, inner = x.sum(axis=1), own.sum(axis=1)
    one = x @ x.T + y @ y.T + x @ y.T + y @ x.T
    half = x @ own.T + own @ x.T + own @ y.T + y @ own.T
    same = own @ own.T
    every = np.outer(total, total) - one + (both + crossed + half) - 3.0 * same
    within = np.outer(inner, inner) - same
    mixed = np.outer(total - inner, inner) - (x + y - 2.0 * own) @ own.T
    turned = mixed.T
    return every - mixed - turned - within, mixed, turned, within


def _products_of_pairs(ratings: Ratings) -> tuple[Floats, Floats]:
    """Sums over pairs of patients of u_k(p, q) u_l(p, q), and of u_k(p, q) u_l(q, p): twice (cells, cells)."""
    cells = ratings.score.shape[0] * ratings.score.shape[1]
    score = ratings.score.reshape(cells, -1)
    both = np.zeros((cells, cells))
    crossed = np.zeros((cells, cells))
    positives, negatives = np.flatnonzero(ratings.truth), np.flatnonzero(~ratings.truth)
    if not ratings.clustered:
        for chunk in _chunks(positives, cells * max(len(negatives), 1)):
            flat = _psi(score[:, chunk], score[:, negatives]).reshape(cells, -1)
            both += flat @ flat.T
        return both / 4.0, crossed
    positives = positives[np.argsort(ratings.patient[positives], kind="stable")]
    negatives = negatives[np.argsort(ratings.patient[negatives], kind="stable")]
    with_positives, with_negatives = (
        np.unique(ratings.patient[positives]),
        np.unique(ratings.patient[negatives]),
    )
    mixed = np.intersect1d(with_positives, with_negatives)
    for patients in _chunks(with_positives, cells * max(len(negatives), 1)):
        u = _between(ratings, score, _of(positives, patients, ratings), negatives).reshape(cells, -1)
        both += u @ u.T
    ones, noes = _of(positives, mixed, ratings), _of(negatives, mixed, ratings)
    for patients in _chunks(mixed, cells * max(len(ones) + len(noes), 1)):
        forth = _between(ratings, score, _of(ones, patients, ratings), noes)
        back = _between(ratings, score, ones, _of(noes, patients, ratings)).transpose(0, 2, 1)
        crossed += forth.reshape(cells, -1) @ back.reshape(cells, -1).T
    return both / 4.0, crossed / 4.0


def _between(ratings: Ratings, score: Floats, positives: Indices, negatives: Indices) -> Floats:
    """Twice u: psi summed over the cases of each pair of patients, (cells, patients, patients)."""
    starts = [np.unique(ratings.patient[cases], return_index=True)[1] for cases in (positives, negatives)]
    psi = _psi(score[:, positives], score[:, negatives]).astype(np.float64)
    found: Floats = np.add.reduceat(np.add.reduceat(psi, starts[0], axis=1), starts[1], axis=2)
    return found


def _psi(positive: Floats, negative: Floats) -> NDArray[np.float32]:
    """Twice psi of all pairs, exact in float32: (cells, positives, negatives); 0 where one was not read."""
    found = (positive[:, :, None] > negative[:, None, :]).astype(np.float32)
    found += positive[:, :, None] >= negative[:, None, :]
    return found


def _of(cases: Indices, patients: Indices, ratings: Ratings) -> Indices:
    return cases[np.isin(ratings.patient[cases], patients)]


def _chunks(items: Indices, each: int) -> Iterator[Indices]:
    step = max(_BLOCK // each, 1)
    for start in range(0, len(items), step):
        yield items[start : start + step]
