"""Regression and process control on dose figures, which did better than detectors on PET-CT dose records.

Hotelling's T2 (there with recall and AUC of 1.0, ahead of one-class SVM, isolation forest and LOF; PMC12378863) and
Huber's robust regression of each dose figure on patient, protocol and technique.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanward.layers.encoding import DOSE_BLOCK
from scanward.learning.baseline_detectors import Baseline, Rows, thinned
from scanward.learning.baselines import Place
from scanward.learning.benchmark.answers import Kind, Method
from scanward.learning.benchmark.unsupervised import row_methods

GROUPED_BY = ("ProtocolElementName", "AcquisitionType")  # the first that the table has
BORROWED = 5.0  # commands' worth of the overall mean that the mean of a group takes in
HUBER_ROWS = 6_000  # rows kept by the robust regression
TARGETS = ("CTDIvol", "DLP", "XRayTubeCurrentInmA", "Exposure")
ROBUST = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
LEAST_SPREAD = 1e-3  # of a residual, in standard deviations of its field: figures that follow exactly


class Hotelling:
    """T2 = r' S^-1 r (Hotelling, Ann Math Stat 1931), S shrunk after Ledoit and Wolf (J Multivar Anal 2004).

    ``numbers`` alone, or all columns; ``centred`` on the overall mean, or on that of the command's protocol element
    (of its acquisition type, where the context is not seen).
    """

    def __init__(self, seed: int, places: Sequence[Place], numbers: bool, centred: bool) -> None:
        kept = [p for p in places if p.numeric] if numbers else places
        self.columns = np.concatenate([np.arange(p.at, p.at + p.width) for p in kept])
        grouped = [p for name in GROUPED_BY for p in places if p.name == name and not p.numeric]
        self.group = grouped[0] if grouped and centred else None

    def _centred(self, rows: Rows) -> Rows:
        some = rows[:, self.columns] - self.mean
        if self.group is not None:
            some = some - rows[:, self.group.at : self.group.at + self.group.width] @ self.shifts
        return np.asarray(some)

    def fit(self, rows: Rows) -> Hotelling:
        from sklearn.covariance import LedoitWolf

        some = rows[:, self.columns]
        self.mean = some.mean(axis=0)
        if self.group is not None:
            belongs = rows[:, self.group.at : self.group.at + self.group.width]
            sums = belongs.T @ (some - self.mean)
            self.shifts = sums / (belongs.sum(axis=0)[:, None] + BORROWED)
        found = LedoitWolf(assume_centered=True).fit(self._centred(rows)).covariance_
        # A column that never moved has no variance: a thousandth of a standard deviation is its least.
        self.root = np.linalg.cholesky(found + np.eye(len(found)) * LEAST_SPREAD**2)
        return self

    def score(self, rows: Rows) -> Rows:
        whitened = np.linalg.solve(self.root, self._centred(rows).T)
        return np.asarray((whitened**2).sum(axis=0))


@dataclass(frozen=True)
class _Line:
    """One figure's regression: columns of the predictors, slopes, and the robust spread of what remains."""

    target: Place
    columns: np.ndarray[tuple[int], np.dtype[np.int64]]
    slopes: Rows
    intercept: float
    spread: float

    def residual(self, rows: Rows) -> Rows:
        """In robust standard deviations, 0 where the figure is missing: (N,)."""
        expected = rows[:, self.columns] @ self.slopes + self.intercept
        known = rows[:, self.target.at + self.target.width - 1] == 0
        return np.where(known, (rows[:, self.target.at] - expected) / self.spread, 0.0)


class HuberDose:
    """Huber's regression (Ann Math Stat 1964) of log dose figures and log mA on everything that is no dose figure.

    Strange is what lies far from the expected figure, in robust standard deviations of the residual. ``chained`` lets
    a figure be explained by the other dose figures as well (a forged one breaks that, a consistent higher dose does
    not); ``worst`` takes the strangest figure, otherwise the squares are summed.
    """

    def __init__(self, seed: int, places: Sequence[Place], chained: bool, worst: bool) -> None:
        self.seed, self.places, self.chained, self.worst = seed, places, chained, worst

    def fit(self, rows: Rows) -> HuberDose:
        kept = thinned(rows, HUBER_ROWS, self.seed)
        targets = [p for p in self.places if p.name in TARGETS and p.numeric]
        lines = [self._line(p, kept) for p in targets]
        self.lines = [line for line in lines if line is not None]
        return self

    def _line(self, target: Place, rows: Rows) -> _Line | None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import HuberRegressor

        known = rows[rows[:, target.at + target.width - 1] == 0]
        others = [
            p for p in self.places if p.name != target.name and (self.chained or p.name not in DOSE_BLOCK)
        ]
        if len(known) < 2 or not others:
            return None
        columns = np.concatenate([np.arange(p.at, p.at + p.width) for p in others])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps short of its tolerance will do
            found = HuberRegressor(alpha=0.1, max_iter=60, tol=1e-3).fit(
                known[:, columns], known[:, target.at]
            )
        rest = known[:, target.at] - known[:, columns] @ found.coef_ - found.intercept_
        spread = max(ROBUST * float(np.median(np.abs(rest - np.median(rest)))), LEAST_SPREAD)
        return _Line(target, columns, np.asarray(found.coef_), float(found.intercept_), spread)

    def score(self, rows: Rows) -> Rows:
        if not self.lines:
            return np.zeros(len(rows))  # no dose figure was ever told: nothing to say
        squares = np.stack([line.residual(rows) ** 2 for line in self.lines])
        return np.asarray(squares.max(axis=0) if self.worst else squares.sum(axis=0))


REGRESSIONS: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline(
            "Hotelling T2",
            Hotelling,
            tuple({"numbers": n, "centred": c} for n in (True, False) for c in (True, False)),
            sees_places=True,
        ),
        Baseline(
            "robust dose regression",
            HuberDose,
            tuple({"chained": c, "worst": w} for c in (True, False) for w in (True, False)),
            sees_places=True,
        ),
    )
}
ABOUTS = {
    "Hotelling T2": "distance in a shrunk covariance (Hotelling 1931), as on PET-CT dose records (PMC12378863)",
    "robust dose regression": "dose figures and mA against Huber's regression on patient, protocol, technique",
}
REGRESSION: tuple[Method, ...] = row_methods(
    REGRESSIONS.values(), Kind.REGRESSION, ABOUTS, "unsupervised rows"
)
