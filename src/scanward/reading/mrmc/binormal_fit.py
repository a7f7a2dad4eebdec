"""Maximum likelihood of the conventional binormal model, many fits at once.

Model (Dorfman and Alf 1969, doi:10.1016/0022-2496(69)90019-4): a decision variable is N(0, 1) for negatives and, in the
same units, N(a/b, 1/b) for positives; cutoffs c_1 < ... < c_K part it into K + 1 categories. With n_k negatives and
m_k positives in category k (c_0 = -inf, c_K+1 = inf)

    P_k = Phi(c_k+1) - Phi(c_k),  Q_k = Phi(b c_k+1 - a) - Phi(b c_k - a),  log L = sum_k n_k log P_k + m_k log Q_k.

The Hessian is tridiagonal in the cutoffs, bordered by a and b: one Newton step costs O(K). Given a and b, log L is
concave in the cutoffs; where it is not so in (a, b) the two eigenvalues of their Schur complement are taken by their
size, which keeps every step uphill. Steps are halved until log L rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STEPS = 200  # Newton steps of one fit; some 6 are usual
_HALVINGS = 60
_QUADRATIC = (
    1e-9  # log-likelihood still to be won below which one more full step gives all of double precision
)
_TINY = 1e-300
_RARE = (
    1e-140  # probability below which derivatives are those of this one: its square can still be divided by
)


@dataclass(frozen=True, eq=False)
class Fits:
    """B fits of K cutoffs: ``a``, ``b`` (B,), ``cutoffs`` (B, K), ``loglik`` (B,), ``converged`` (B,)."""

    a: Floats
    b: Floats
    cutoffs: Floats
    loglik: Floats
    converged: Bools


def start(negative: Floats, positive: Floats) -> tuple[Floats, Floats, Floats]:
    """A start: a and b (B,) by regression of the corners' normal deviates, cutoffs (B, K) between both scales."""
    deviates = []
    for counts in (negative, positive):
        above = np.cumsum(counts[:, :0:-1], axis=1)[:, ::-1]
        deviates.append(ndtri((above + 0.5) / (counts.sum(axis=1, keepdims=True) + 1.0)))
    z_false, z_true = deviates
    centred = z_false - z_false.mean(axis=1, keepdims=True)
    spread = (centred * centred).sum(axis=1)
    slope = (centred * z_true).sum(axis=1) / np.where(spread > 0, spread, 1.0)
    b = np.clip(np.where(spread > 0, slope, 1.0), 0.05, 20.0)
    a = z_true.mean(axis=1) - b * z_false.mean(axis=1)
    cutoffs = 0.5 * (-z_false + (a[:, None] - z_true) / b[:, None])
    return a, b, cutoffs


def maximise(negative: Floats, positive: Floats, a: Floats, b: Floats, cutoffs: Floats) -> Fits:
    """Climb from a start with increasing cutoffs to the maximum of the likelihood.

    Parameters
    ----------
    negative, positive : float64 (B, K + 1)
        Counts without two neighbouring categories of positives alone or of negatives alone (`categories.corners`), and
        with corners that determine a and b; else there is no maximum, and ``converged`` is False.
    a, b : float64 (B,)
    cutoffs : float64 (B, K)
    """
    a, b, cutoffs = a.copy(), b.copy(), cutoffs.copy()
    loglik = _likelihood(negative, positive, a, b, cutoffs)[0]
    converged = np.zeros(len(a), dtype=np.bool_)
    active = np.arange(len(a))
    for _ in range(STEPS):
        n, m = negative[active], positive[active]
        da, db, dc, gain = _newton(n, m, a[active], b[active], cutoffs[active])
        last = gain < _QUADRATIC
        scale = _room(b[active], cutoffs[active], db, dc)
        waiting = np.ones(len(active), dtype=np.bool_)
        for _ in range(_HALVINGS):
            rows = np.flatnonzero(waiting)
            if not rows.size:
                break
            at, by = active[rows], scale[rows]
            tried = a[at] + by * da[rows], b[at] + by * db[rows], cutoffs[at] + by[:, None] * dc[rows]
            value = _likelihood(n[rows], m[rows], *tried)[0]
            # Close to the top the gain drowns in the rounding of the sum: the last step is taken unseen.
            good = np.isfinite(value) & ((value >= loglik[at] + 1e-4 * by * gain[rows]) | last[rows])
            done = at[good]
            a[done], b[done], cutoffs[done] = (part[good] for part in tried)
            loglik[done] = value[good]
            waiting[rows[good]] = False
            scale[rows[~good]] *= 0.5
        converged[active[last & ~waiting]] = True
        active = active[~last & ~waiting]
        if not active.size:
            break
    return Fits(a, b, cutoffs, loglik, converged)


def _likelihood(
    negative: Floats, positive: Floats, a: Floats, b: Floats, cutoffs: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """log L (B,), P and Q (B, K + 1), and b c - a (B, K)."""
    on_positive = b[:, None] * cutoffs - a[:, None]
    p, q = _between(cutoffs), _between(on_positive)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(negative > 0, negative * np.log(p), 0.0)
        terms += np.where(positive > 0, positive * np.log(q), 0.0)
    return terms.sum(axis=1), p, q, on_positive


def _between(cutoffs: Floats) -> Floats:
    """Normal probabilities between neighbouring cutoffs, (B, K) to (B, K + 1), from the tail where digits last."""
    edge = np.zeros((len(cutoffs), 1))
    below = np.hstack((edge, ndtr(cutoffs), edge + 1.0))
    above = np.hstack((edge + 1.0, ndtr(-cutoffs), edge))
    found: Floats = np.where(above[:, :-1] < 0.5, above[:, :-1] - above[:, 1:], below[:, 1:] - below[:, :-1])
    return np.maximum(found, 0.0)


def _side(counts: Floats, probability: Floats, at: Floats) -> tuple[Floats, Floats, Floats]:
    """Of sum_k counts log probability in the cutoffs ``at``: gradient, minus diagonal, off-diagonal of the Hessian."""
    density = np.exp(-0.5 * at * at) / np.sqrt(2.0 * np.pi)
    held = np.maximum(probability, _RARE)
    hazard = counts / held
    square = hazard / held
    gradient = density * (hazard[:, :-1] - hazard[:, 1:])
    diagonal = at * gradient + density * density * (square[:, :-1] + square[:, 1:])
    beside = density[:, :-1] * density[:, 1:] * square[:, 1:-1]
    return gradient, diagonal, beside


def _times(diagonal: Floats, beside: Floats, vector: Floats) -> Floats:
    """(minus the Hessian) x vector, row by row: its off-diagonal is -``beside``."""
    found: Floats = diagonal * vector
    found[:, :-1] -= beside * vector[:, 1:]
    found[:, 1:] -= beside * vector[:, :-1]
    return found


def _newton(
    negative: Floats, positive: Floats, a: Floats, b: Floats, cutoffs: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The step in a, b (B,) and the cutoffs (B, K), and twice the log-likelihood it should win (B,)."""
    _, p, q, on_positive = _likelihood(negative, positive, a, b, cutoffs)
    g0, d0, o0 = _side(negative, p, cutoffs)
    g1, d1, o1 = _side(positive, q, on_positive)
    slope = b[:, None]
    ones = np.ones_like(cutoffs)
    by_a, by_b = -_times(d1, o1, ones), _times(d1, o1, cutoffs)  # minus the second derivatives in b c - a
    with_a, with_b = slope * by_a, slope * by_b - g1  # minus d2 log L / dc da, dc db
    right = np.stack((g0 + slope * g1, with_a, with_b), axis=-1)
    solved = _tridiagonal(d0 + slope * slope * d1, -(o0 + slope * slope * o1), right)
    free, to_a, to_b = solved[..., 0], solved[..., 1], solved[..., 2]
    grad_a = -g1.sum(axis=1) - (with_a * free).sum(axis=1)
    grad_b = (cutoffs * g1).sum(axis=1) - (with_b * free).sum(axis=1)
    aa = -by_a.sum(axis=1) - (with_a * to_a).sum(axis=1)
    ab = -by_b.sum(axis=1) - (with_a * to_b).sum(axis=1)
    bb = (cutoffs * by_b).sum(axis=1) - (with_b * to_b).sum(axis=1)
    da, db = _uphill(aa, ab, bb, grad_a, grad_b)
    dc = free - to_a * da[:, None] - to_b * db[:, None]
    gain = (right[..., 0] * free).sum(axis=1) + grad_a * da + grad_b * db
    return da, db, dc, gain


def _uphill(aa: Floats, ab: Floats, bb: Floats, grad_a: Floats, grad_b: Floats) -> tuple[Floats, Floats]:
    """Solve the 2 x 2 systems with the eigenvalues by their size."""
    half, mean = 0.5 * (aa - bb), 0.5 * (aa + bb)
    radius = np.hypot(half, ab)
    angle = 0.5 * np.arctan2(ab, half)
    cos, sin = np.cos(angle), np.sin(angle)
    floor = 1e-12 * (np.abs(mean) + radius) + _TINY
    along = (cos * grad_a + sin * grad_b) / np.maximum(np.abs(mean + radius), floor)
    across = (cos * grad_b - sin * grad_a) / np.maximum(np.abs(mean - radius), floor)
    return cos * along - sin * across, sin * along + cos * across


def _tridiagonal(diagonal: Floats, beside: Floats, right: Floats) -> Floats:
    """Solve B symmetric tridiagonal systems, (B, K) by (B, K, 3), laid end to end as one."""
    rows, size = diagonal.shape
    link = np.zeros((rows, size))
    link[:, :-1] = beside
    flat = link.ravel()
    banded = np.zeros((3, rows * size))
    banded[0, 1:] = flat[:-1]
    banded[1] = diagonal.ravel() + _TINY
    banded[2, :-1] = flat[:-1]
    found: Floats = solve_banded((1, 1), banded, right.reshape(rows * size, 3), check_finite=False)
    return found.reshape(right.shape)


def _room(b: Floats, cutoffs: Floats, db: Floats, dc: Floats) -> Floats:
    """The largest share of a step, at most 1, that keeps b positive and the cutoffs in order, with some room."""
    gap, change = np.diff(cutoffs, axis=1), np.diff(dc, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        closing = np.where(change < 0, -gap / change, np.inf).min(axis=1, initial=np.inf)
        limit = np.minimum(closing, np.where(db < 0, -b / db, np.inf))
    return np.asarray(np.minimum(1.0, 0.9 * limit), dtype=np.float64)
