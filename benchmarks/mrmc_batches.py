"""The MRMC analyses of thousands of simulated studies at once, fully crossed, without clusters, two treatments.

The same formulae as `scanward.reading.mrmc`, written over a leading axis of studies; `differ` measures how far they
are from the product on single studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.dbm import dbm
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Covariance
from scanward.reading.mrmc.ustatistics import one_shot

Floats = NDArray[np.float64]
JACKKNIFE, DELONG, UNBIASED, ORIGINAL, U = (
    "OR jackknife = DBM",
    "OR DeLong",
    "OR unbiased",
    "OR original df",
    "U BDG",
)
METHODS = (JACKKNIFE, DELONG, UNBIASED, U, ORIGINAL)
_AT_ONCE = 1 << 20  # kernel values held at once


@dataclass(frozen=True, eq=False)
class Found:
    """One method on many studies: of the difference (studies,) and of each treatment (studies, 2)."""

    difference: Floats
    variance: Floats
    df: Floats
    single: Floats
    single_variance: Floats
    single_df: Floats

    def p(self) -> Floats:
        """Two-sided, of the test that the treatments are equal; 1 where there is no test."""
        with np.errstate(all="ignore"):
            t = np.abs(self.difference) / np.sqrt(self.variance)
            found = 2 * np.where(np.isinf(self.df), special.ndtr(-t), special.stdtr(self.df, -t))
        return np.where(np.isnan(found), 1.0, found)

    def covers(self, truth: float) -> NDArray[np.bool_]:
        """Whether the 95 % interval of the difference holds ``truth``; not where there is no interval."""
        return _covers(self.difference, self.variance, self.df, np.asarray(truth))

    def single_covers(self, truth: float) -> NDArray[np.bool_]:
        """The same of each treatment: (studies, 2)."""
        return _covers(self.single, self.single_variance, self.single_df, np.asarray(truth))

    def single_within(self, low: float, high: float, level: float) -> NDArray[np.bool_]:
        """Whether a treatment's interval lies between: (studies, 2). With level 0.9 the two one-sided tests at 5 %."""
        with np.errstate(all="ignore"):
            reach = _quantile(self.single_df, 0.5 + level / 2) * np.sqrt(self.single_variance)
            return np.asarray((self.single - reach > low) & (self.single + reach < high))


def _quantile(df: Floats, probability: float) -> Floats:
    found: Floats = np.where(np.isinf(df), special.ndtri(probability), special.stdtrit(df, probability))
    return found


def _covers(estimate: Floats, variance: Floats, df: Floats, truth: Floats) -> NDArray[np.bool_]:
    with np.errstate(all="ignore"):
        reach = _quantile(df, 0.975) * np.sqrt(variance)
        return np.asarray(np.abs(estimate - truth) <= reach * (1 + 1e-12))


def analyse(negative: Floats, positive: Floats) -> dict[str, Found]:
    """All methods, from ratings (studies, 2, readers, cases)."""
    studies, treatments, readers, n0 = negative.shape
    n1 = positive.shape[-1]
    cells = treatments * readers
    y, x = negative.reshape(studies, cells, n0), positive.reshape(studies, cells, n1)
    row, col = np.empty((studies, cells, n0)), np.empty((studies, cells, n1))
    square = np.empty((studies, cells, cells))
    step = max(1, _AT_ONCE // (cells * n0 * n1))
    for start in range(0, studies, step):
        part = slice(start, start + step)
        high, low = x[part, :, None, :], y[part, :, :, None]
        twice = (high > low).view(np.int8)
        twice += high >= low
        kernel = twice.astype(np.float32)  # whole numbers: sums are exact
        row[part] = kernel.sum(axis=3).astype(np.float64) / (2 * n1)
        col[part] = kernel.sum(axis=2).astype(np.float64) / (2 * n0)
        flat = kernel.reshape(len(kernel), cells, -1)
        square[part] = (flat @ flat.swapaxes(1, 2)).astype(np.float64) / (4 * n0 * n1)
    auc = row.mean(axis=2)
    products = auc[:, :, None] * auc[:, None, :]
    of_row = row @ row.swapaxes(1, 2) / n0
    of_col = col @ col.swapaxes(1, 2) / n1
    apart = (n0 * n1 * products - n1 * of_row - n0 * of_col + square) / ((n0 - 1) * (n1 - 1))
    by_row, by_col = of_row - products, of_col - products
    n = n0 + n1
    value = auc.reshape(studies, treatments, readers)
    covariances = {
        JACKKNIFE: (n - 1) / n * (by_row * n0 / (n0 - 1) ** 2 + by_col * n1 / (n1 - 1) ** 2),
        DELONG: by_row / (n0 - 1) + by_col / (n1 - 1),
        UNBIASED: products - apart,
    }
    found = {name: _or(value, covariance) for name, covariance in covariances.items()}
    jackknife = found[JACKKNIFE]
    found[ORIGINAL] = Found(
        jackknife.difference,
        jackknife.variance,
        np.full(studies, float((treatments - 1) * (readers - 1))),
        jackknife.single,
        jackknife.single_variance,
        np.full((studies, treatments), readers - 1.0),
    )
    found[U] = _one_shot(
        value,
        apart,
        row.reshape(studies, treatments, readers, n0),
        col.reshape(studies, treatments, readers, n1),
    )
    return found


def _or(value: Floats, covariance: Floats) -> Found:
    studies, treatments, readers = value.shape
    shaped = covariance.reshape(studies, treatments, readers, treatments, readers)
    between = np.stack(
        [
            [
                (shaped[:, t, :, u].sum(axis=(1, 2)) - np.trace(shaped[:, t, :, u], axis1=1, axis2=2))
                / (readers * (readers - 1))
                for u in range(treatments)
            ]
            for t in range(treatments)
        ]
    )  # (2, 2, studies): mean covariance of two readers
    own = np.stack([between[t, t] for t in range(treatments)], axis=1)
    common = np.maximum(own.mean(axis=1) - between[0, 1], 0.0)
    gap = value[:, 0] - value[:, 1]
    both = gap.var(axis=1, ddof=1) / 2
    by_treatment = value.var(axis=2, ddof=1)
    error, single = both + readers * common, by_treatment + readers * np.maximum(own, 0.0)
    with np.errstate(all="ignore"):
        df, single_df = (readers - 1) * (error / both) ** 2, (readers - 1) * (single / by_treatment) ** 2
    return Found(
        gap.mean(axis=1),
        2 * error / readers,
        df,
        value.mean(axis=2),
        single / readers,
        single_df,
    )


def _one_shot(value: Floats, apart: Floats, row: Floats, col: Floats) -> Found:
    studies, treatments, readers = value.shape
    shaped = apart.reshape(studies, treatments, readers, treatments, readers)
    mean = value.mean(axis=2)
    covariance = np.empty((studies, treatments, treatments))
    for t in range(treatments):
        for u in range(treatments):
            block = shaped[:, t, :, u]
            expected = (block.sum(axis=(1, 2)) - np.trace(block, axis1=1, axis2=2)) / (
                readers * (readers - 1)
            )
            covariance[:, t, u] = mean[:, t] * mean[:, u] - expected
    single_variance = np.stack([covariance[:, t, t] for t in range(treatments)], axis=1)
    variance = single_variance.sum(axis=1) - 2 * covariance[:, 0, 1]
    rows, cols = row.mean(axis=2), col.mean(axis=2)
    gaps = [each[:, :1] - each[:, 1:2] for each in (value, rows, cols)]
    return Found(
        mean[:, 0] - mean[:, 1],
        variance,
        _bdg(variance[:, None], gaps)[:, 0],
        mean,
        single_variance,
        _bdg(single_variance, [value, rows, cols]),
    )


def _bdg(variance: Floats, factors: list[Floats]) -> Floats:
    counts = [each.shape[-1] for each in factors]
    with np.errstate(all="ignore"):
        below = sum(
            (each.var(axis=-1) / (count - 1)) ** 2 / (count - 1)
            for each, count in zip(factors, counts, strict=True)
        )
        found: Floats = np.maximum(variance**2 / below, max(min(counts) - 1, 2))
    return found


def differ(negative: Floats, positive: Floats, found: dict[str, Found], study: int) -> float:
    """The largest difference, over all methods, between these figures and the product's on one of the studies."""
    count = negative.shape[-1] + positive.shape[-1]
    cases = tuple(str(i) for i in range(count))
    ratings = Ratings(
        score=np.concatenate([negative[study], positive[study]], axis=-1),
        truth=np.arange(count) >= negative.shape[-1],
        patient=np.arange(count, dtype=np.intp),
        treatments=("A", "B"),
        readers=tuple(str(i) for i in range(negative.shape[2])),
        cases=cases,
        patients=cases,
    )
    auc = EmpiricalAUC()
    ours: list[tuple[str, Analysis]] = [(JACKKNIFE, dbm(ratings, auc)), (U, one_shot(ratings))]
    for name, method in (
        (JACKKNIFE, Covariance.JACKKNIFE),
        (DELONG, Covariance.DELONG),
        (UNBIASED, Covariance.UNBIASED),
    ):
        ours.append((name, obuchowski_rockette(estimate(ratings, auc, method))))
    worst = 0.0
    for name, analysis in ours:
        batch = found[name]
        p = analysis.differences[0].p
        pairs = [(analysis.differences[0].se, np.sqrt(max(batch.variance[study], 0.0)))]
        if np.isfinite(p):
            pairs.append((p, batch.p()[study]))
        for t, each in enumerate(analysis.treatments):
            pairs.append((each.estimate, batch.single[study, t]))
            pairs.append((each.se, np.sqrt(max(batch.single_variance[study, t], 0.0))))
            pairs.append((1 / each.df, 1 / batch.single_df[study, t]))
        worst = max(worst, max(abs(a - b) for a, b in pairs if np.isfinite(a)))
    return float(worst)
