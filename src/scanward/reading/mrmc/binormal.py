"""The binormal ROC curve: TPR = Phi(a + b Phi^-1(FPR)), its area Phi(a / sqrt(1 + b^2)), by maximum likelihood.

Ordinal ratings are categories as they are (Dorfman and Alf 1969, doi:10.1016/0022-2496(69)90019-4). Continuous ratings
become their truth-state runs, which leaves the likelihood of the ranks as it is (LABROC4: Metz, Herman and Shen 1998,
Stat Med 17:1033-1053), and at most `MOST` categories. Whatever keeps the order of the ratings keeps the curve.

Some data have no maximum: their corners (the points of the empirical curve without (0, 0) and (1, 1)) lie on a limiting
binormal curve, or do not determine one. What is then taken:

================================================================ ====================== ==========================
corners                                                          curve                  area
================================================================ ====================== ==========================
all with FPR 0 or TPR 1                                          perfect                1
all with TPR 0 or FPR 1                                          perverse               0
none: one rating for all                                         chance                 1/2
FPR 0, FPR 1 or one TPR t inside                                 b -> 0, flat at t      t
TPR 0, TPR 1 or one FPR f inside                                 b -> inf, steep at f   1 - f
one alone, inside                                                b taken as 1           Phi(a / sqrt 2)
================================================================ ====================== ==========================

Flat and steep without a corner inside take the mean of the two there are. Rows one to three are those of the R package
MRMCaov 0.3.0 (area 1 "due to lack of interior points"); flat and steep follow from the limit of the likelihood (the
Fortran library of the Universities of Chicago and Iowa takes the same limits, with b = 0.0001 and 10,000). For one
corner alone there is no agreed answer: the library refuses, MRMCaov keeps the slope its search began with. The variance
of such a cell is no measure of doubt; `BinormalAUC.doubts` names it.

Agreement with the published analysis of Van Dyke's data (manual of MRMCaov, run with that library): every a and b, both
mean areas and their difference to each printed digit; F 2.67726 for 2.67666, df2 10.5132 for 10.5179, p 0.131343 for
0.131368. The rest is one leave-one-out fit, which is flat: its area is 42/44 = 0.954545, for which the library has
0.954581 by an approximate normal deviate. With that deviate all printed digits are the same (tests/test_mrmc_binormal).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from scanward.reading.mrmc.binormal_fit import maximise, start
from scanward.reading.mrmc.categories import Counts, cells, corners, count
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MOST = 400  # categories of one cell; as in the library of Chicago and Iowa
_AT_ONCE = 2_000_000  # cutoffs fitted together; some 500 MB while it lasts


class Kind(StrEnum):
    """How a curve was had."""

    REGULAR = "maximum likelihood"
    PERFECT = "perfect: no case of one class is rated between those of the other"
    PERVERSE = "perverse: perfect with the classes exchanged"
    CHANCE = "one rating for all cases"
    FLAT = "degenerate: flat, b -> 0"
    STEEP = "degenerate: steep, b -> infinity"
    ONE_POINT = "one operating point inside: the slope is taken as 1"
    FAILED = "the search for the maximum failed"


@dataclass(frozen=True)
class Binormal:
    """One curve. ``a`` and ``b`` may be infinite or 0; where b is infinite ``a`` stands for a/b = -Phi^-1(FPR)."""

    a: float
    b: float
    kind: Kind = Kind.REGULAR
    loglik: float = float("nan")

    @property
    def auc(self) -> float:
        """Area under the whole curve."""
        return self.partial(0.0, 1.0)

    def tpr(self, fpr: Floats) -> Floats:
        """True positive rates at false positive rates, any shape; from 0 at 0 to 1 at 1.

        The limiting curves have vertical parts: at 0 and at 1, as everywhere, the lower end is given at 0 and the upper
        end at the FPR of a steep curve.
        """
        z = ndtri(np.clip(np.asarray(fpr, dtype=np.float64), 0.0, 1.0))
        if np.isinf(self.b):
            found = np.where(z >= -self.a, 1.0, 0.0)
        else:
            with np.errstate(invalid="ignore"):
                found = ndtr(self.a + self.b * z)
        found = np.where(z == np.inf, 1.0, np.where(z == -np.inf, 0.0, found))
        return np.asarray(found, dtype=np.float64)

    def fpr(self, tpr: Floats) -> Floats:
        """False positive rates at true positive rates: the same curve seen from the other class."""
        return 1.0 - self.mirrored().tpr(1.0 - np.asarray(tpr, dtype=np.float64))

    def mirrored(self) -> Binormal:
        """The curve in (1 - TPR, 1 - FPR), the classes having changed places: binormal with a/b and 1/b."""
        if np.isinf(self.a):
            return self
        if np.isinf(self.b):
            return Binormal(self.a, 0.0, self.kind, self.loglik)
        if self.b == 0.0:
            return Binormal(self.a, np.inf, self.kind, self.loglik)
        return Binormal(self.a / self.b, 1.0 / self.b, self.kind, self.loglik)

    def partial(self, low: float, high: float) -> float:
        """Area under the curve between two false positive rates.

        int Phi(a + b z) phi(z) dz over z = Phi^-1(FPR), a difference of two bivariate normal probabilities with
        correlation -b / sqrt(1 + b^2) (McClish 1989, doi:10.1177/0272989X8900900307; Pan and Metz 1997).
        """
        if np.isinf(self.a):
            return float(high - low) if self.a > 0 else 0.0
        if np.isinf(self.b):
            edge = float(ndtr(-self.a))
            return max(0.0, high - max(edge, low))
        a, b = np.array([self.a]), np.array([self.b])
        return float(areas(a, b, low, high)[0])


def areas(a: Floats, b: Floats, low: float, high: float) -> Floats:
    """`Binormal.partial` of many curves with finite a and b: (n,), (n,) to (n,)."""
    h, rho = a / np.sqrt(1.0 + b * b), -b / np.sqrt(1.0 + b * b)
    upper = ndtr(h) if high >= 1.0 else _bivariate(h, float(ndtri(high)), rho)
    lower = np.zeros_like(h) if low <= 0.0 else _bivariate(h, float(ndtri(low)), rho)
    found: Floats = np.maximum(upper - lower, 0.0)
    return found


def _bivariate(h: Floats, k: float, rho: Floats) -> Floats:
    """P(X <= h, Y <= k) of standard normals with correlation rho, by Owen's T (Owen 1956, doi:10.1214/aoms/1177728074).

    k is a number, h and rho are (n,); |rho| < 1.
    """
    from scipy.special import owens_t

    root = np.sqrt((1.0 - rho) * (1.0 + rho))
    with np.errstate(divide="ignore", invalid="ignore"):
        by_h = np.where(h == 0, np.copysign(np.inf, k), (k - rho * h) / (h * root))
        by_k = (h - rho * k) / (k * root) if k != 0 else np.where(h == 0, np.inf, np.copysign(np.inf, h))
    opposite = (h * k < 0) | ((h * k == 0) & (h + k < 0))
    both = (h == 0) & (k == 0)
    found = 0.5 * (ndtr(h) + ndtr(k)) - owens_t(h, by_h) - owens_t(k, by_k) - 0.5 * opposite
    return np.asarray(np.where(both, 0.25 + np.arcsin(rho) / (2.0 * np.pi), found), dtype=np.float64)


def fit(positive: Floats, negative: Floats, most: int = MOST) -> Binormal:
    """The curve of one reader from the ratings of positives (n1,) and negatives (n0,), at least one of each."""
    score = np.concatenate((positive, negative)).astype(np.float64)
    truth = np.arange(len(score)) < len(positive)
    counts = count(score, truth, np.arange(len(score)), most)
    return _fitted([(counts.negative, counts.positive)])[0]


def fits(ratings: Ratings, most: int = MOST) -> dict[tuple[int, int], Binormal]:
    """The curve of every cell (treatment, reader) that read positives and negatives."""
    there = list(cells(ratings, most))
    found = _fitted([(counts.negative, counts.positive) for _, counts in there])
    return {cell: curve for (cell, _), curve in zip(there, found, strict=True)}


def fits_without(counts: Counts) -> Iterator[tuple[Indices, Binormal]]:
    """The curve without each pattern of cases that go with a patient, and the patients it is of (`Counts.patient`).

    Patterns that leave no positive or no negative are not among them.
    """
    patients = np.unique(counts.patient)
    which, patterns = counts.without_patients()
    curves: dict[int, Binormal] = {}
    size = max(1, _AT_ONCE // len(counts.negative))
    whole = _whole(counts)
    for first in range(0, len(patterns), size):
        negative, positive = counts.less(patterns[first : first + size])
        there = np.flatnonzero(negative.any(axis=1) & positive.any(axis=1))
        found = _fitted([(negative[i], positive[i]) for i in there], whole)
        curves |= {first + int(i): curve for i, curve in zip(there, found, strict=True)}
    for pattern, curve in curves.items():
        yield patients[which == pattern], curve


class BinormalAUC(Merit):
    """Area under the binormal ROC curve by maximum likelihood; see this module for data that have none.

    ``most``: categories that continuous ratings are reduced to.
    """

    name = "binormal AUC"
    chance = 0.5

    def __init__(self, most: int = MOST) -> None:
        self.most = most

    def of(self, curve: Binormal) -> float:
        """The figure of merit of one curve."""
        return curve.auc

    def one(self, positive: Floats, negative: Floats) -> float:
        """Its value from the ratings of positives (n1,) and negatives (n0,); NaN without one of the classes."""
        if not len(positive) or not len(negative):
            return float("nan")
        return self.of(fit(positive, negative, self.most))

    def values(self, ratings: Ratings) -> Floats:
        """Its value in every cell: (treatments, readers), NaN where a cell lacks positives or negatives."""
        found = np.full(ratings.score.shape[:2], np.nan)
        for cell, curve in fits(ratings, self.most).items():
            found[cell] = self.of(curve)
        return found

    def leave_one_out(self, ratings: Ratings) -> Floats:
        """Its value in every cell without each patient: (treatments, readers, patients).

        A patient whom a cell does not have leaves that cell's value as it is; NaN where he has all its positives or
        all its negatives.
        """
        whole = self.values(ratings)
        found = np.repeat(whole[:, :, None], len(ratings.patients), axis=2)
        for (t, r), counts in cells(ratings, self.most):
            found[t, r, np.unique(counts.patient)] = np.nan
            for patients, curve in fits_without(counts):
                found[t, r, patients] = self.of(curve)
        return found

    def doubts(self, ratings: Ratings) -> list[str]:
        """Warnings about cells whose data have no maximum of the likelihood, and what was taken there."""
        kinds: dict[Kind, list[str]] = {}
        for (t, r), curve in fits(ratings, self.most).items():
            if curve.kind is not Kind.REGULAR:
                name = f"{ratings.readers[r]} under {ratings.treatments[t]}"
                kinds.setdefault(curve.kind, []).append(f"{name} ({self.name} {self.of(curve):.4g})")
        return [
            f"no binormal curve of its own ({kind}), its variance says nothing: {', '.join(names)}"
            for kind, names in kinds.items()
        ]


# --- many fits


@dataclass(frozen=True, eq=False)
class _Whole:
    """The fit of the whole cell, from which those without a patient start."""

    a: float
    b: float
    boundaries: Indices  # categories at whose lower end the cutoffs lie
    cutoffs: Floats


def _whole(counts: Counts) -> _Whole | None:
    at = corners(counts.negative, counts.positive)
    if _limiting(counts.negative, counts.positive, at) is not None:
        return None
    n, m = (_collapsed(part, at)[None] for part in (counts.negative, counts.positive))
    found = maximise(n, m, *start(n, m))
    return _Whole(float(found.a[0]), float(found.b[0]), at, found.cutoffs[0]) if found.converged[0] else None


def _fitted(tables: list[tuple[Floats, Floats]], whole: _Whole | None = None) -> list[Binormal]:
    """The curve of each pair of counts by category (negative, positive); those with equally many corners together."""
    curves: list[Binormal | None] = [None] * len(tables)
    regular: dict[int, list[tuple[int, Indices]]] = {}
    for i, (negative, positive) in enumerate(tables):
        at = corners(negative, positive)
        curves[i] = _limiting(negative, positive, at)
        if curves[i] is None:
            regular.setdefault(len(at), []).append((i, at))
    for group in regular.values():
        n = np.stack([_collapsed(tables[i][0], at) for i, at in group])
        m = np.stack([_collapsed(tables[i][1], at) for i, at in group])
        begin = start(n, m)
        if whole is not None:
            kept = np.stack([_nearby(whole, at) for _, at in group])
            begin = np.full(len(group), whole.a), np.full(len(group), whole.b), whole.cutoffs[kept]
        found = maximise(n, m, *begin)
        for row, (i, _) in enumerate(group):
            kind = Kind.REGULAR if found.converged[row] else Kind.FAILED
            curves[i] = Binormal(float(found.a[row]), float(found.b[row]), kind, float(found.loglik[row]))
    return [curve for curve in curves if curve is not None]


def _collapsed(counts: Floats, at: Indices) -> Floats:
    return np.asarray(np.add.reduceat(counts, np.concatenate(([0], at))), dtype=np.float64)


def _nearby(whole: _Whole, at: Indices) -> Indices:
    """For each corner left, the last cutoff of the whole fit at or below it: one each, as corners only go or slide."""
    return np.searchsorted(whole.boundaries, at, side="right") - 1


def _limiting(negative: Floats, positive: Floats, at: Indices) -> Binormal | None:
    """The limiting curve on which all corners lie, or what is taken for one corner alone; None for regular data."""
    below0, below1 = np.cumsum(negative)[at - 1], np.cumsum(positive)[at - 1]  # counts: equality is exact
    all0, all1 = negative.sum(), positive.sum()
    f0, f1, t0, t1 = below0 == all0, below0 == 0, below1 == all1, below1 == 0
    inside = ~(f0 | f1 | t0 | t1)
    if not at.size:
        return Binormal(0.0, 1.0, Kind.CHANCE)
    if (f0 | t1).all():
        return Binormal(np.inf, 1.0, Kind.PERFECT)
    if (t0 | f1).all():
        return Binormal(-np.inf, 1.0, Kind.PERVERSE)
    if at.size == 1:  # inside, or it would have been one of those
        false, true = ndtri(1.0 - below0[0] / all0), ndtri(1.0 - below1[0] / all1)
        return Binormal(float(true - false), 1.0, Kind.ONE_POINT)
    if (f0 | f1 | inside).all() and len(set(below1[inside])) <= 1:
        level = below1[inside][0] if inside.any() else below1.mean()
        return Binormal(float(ndtri(1.0 - level / all1)), 0.0, Kind.FLAT)
    if (t0 | t1 | inside).all() and len(set(below0[inside])) <= 1:
        level = below0[inside][0] if inside.any() else below0.mean()
        return Binormal(float(-ndtri(1.0 - level / all0)), np.inf, Kind.STEEP)
    return None
