"""Off-the-shelf detectors of anomalies, each with one small grid: rows in, strangeness out.

scikit-learn where it has the method; ECOD and HBOS from their papers; the autoencoder a small torch network.
All take standardised rows (N, D) without NaN and give scores (N,), higher is stranger. All are deterministic
for a seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
NEIGHBOUR_ROWS = 12_000  # rows kept by methods that compare with every row
SVM_ROWS = 6_000  # rows kept by the support vector machine, whose training is cubic at worst


class Detector(Protocol):
    """What every baseline is."""

    def fit(self, rows: Rows) -> Detector:
        """Learn from clean rows (N, D); returns itself."""
        ...

    def score(self, rows: Rows) -> Rows:
        """Strangeness of each row: (N, D) -> (N,), finite, higher is stranger."""
        ...


def thinned(rows: Rows, most: int, seed: int) -> Rows:
    """At most ``most`` rows, drawn without replacement, in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


@dataclass
class Reduced:
    """Principal components of standardised rows, as coordinates of unit variance."""

    share: float = 0.9  # of the variance that is kept
    most: int = 1000
    mean: Any = None
    axes: Any = None
    deviations: Any = None

    def fit(self, rows: Rows) -> Reduced:
        """Learn the components."""
        self.mean = rows.mean(axis=0)
        _, singular, axes = np.linalg.svd(rows - self.mean, full_matrices=False)
        variance = singular**2 / max(len(rows) - 1, 1)
        real = int((variance > 1e-9 * max(variance[0], 1e-12)).sum())
        enough = int(np.searchsorted(np.cumsum(variance) / max(variance.sum(), 1e-12), self.share)) + 1
        count = max(1, min(real, enough, self.most))
        self.axes, self.deviations = axes[:count], np.sqrt(np.maximum(variance[:count], 1e-12))
        return self

    def project(self, rows: Rows) -> Rows:
        """(N, D) -> (N, count)."""
        out: Rows = (rows - self.mean) @ self.axes.T / self.deviations
        return out


class Forest:
    """Isolation forest (Liu, Ting, Zhou, ICDM 2008)."""

    def __init__(self, seed: int, max_samples: int) -> None:
        self.seed, self.samples = seed, max_samples

    def fit(self, rows: Rows) -> Forest:
        from sklearn.ensemble import IsolationForest

        most = min(self.samples, len(rows))
        self.model = IsolationForest(n_estimators=100, max_samples=most, random_state=self.seed).fit(rows)
        return self

    def score(self, rows: Rows) -> Rows:
        return np.asarray(-self.model.score_samples(rows))


class LocalOutlierFactor:
    """Local outlier factor (Breunig et al., SIGMOD 2000), on unseen rows."""

    def __init__(self, seed: int, neighbours: int) -> None:
        self.seed, self.neighbours = seed, neighbours

    def fit(self, rows: Rows) -> LocalOutlierFactor:
        from sklearn.neighbors import LocalOutlierFactor as Model

        # Recorded commands repeat themselves exactly, which leaves this method without a density to divide
        # by; a trace of noise, the method's usual remedy, keeps its scores finite.
        kept = thinned(rows, NEIGHBOUR_ROWS, self.seed)
        kept = kept + np.random.default_rng(self.seed).normal(0, 1e-3, kept.shape)
        model = Model(n_neighbors=min(self.neighbours, len(kept) - 1), novelty=True)
        self.model = model.fit(kept)
        return self

    def score(self, rows: Rows) -> Rows:
        return np.asarray(-self.model.score_samples(rows))


class Neighbours:
    """Distance to the k-th nearest clean row (Ramaswamy et al., SIGMOD 2000)."""

    def __init__(self, seed: int, neighbours: int) -> None:
        self.seed, self.neighbours = seed, neighbours

    def fit(self, rows: Rows) -> Neighbours:
        from sklearn.neighbors import NearestNeighbors

        kept = thinned(rows, NEIGHBOUR_ROWS, self.seed)
        self.model = NearestNeighbors(n_neighbors=min(self.neighbours, len(kept))).fit(kept)
        return self

    def score(self, rows: Rows) -> Rows:
        return np.asarray(self.model.kneighbors(rows)[0][:, -1])


class Ecod:
    """Empirical cumulative distributions (Li et al., TKDE 2022, arXiv 2201.00382), algorithm 1.

    For each dimension the left and right tail probability of a value among the clean rows; their negative
    logarithms summed over dimensions, once for all left tails, once for all right tails, once for the tail to
    which the dimension is skewed; the largest of the three sums is the score. ``share`` below 1 works on
    principal components instead of the columns.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.reduced = Reduced(share) if share < 1 else None

    def fit(self, rows: Rows) -> Ecod:
        if self.reduced is not None:
            rows = self.reduced.fit(rows).project(rows)
        self.sorted = np.sort(rows, axis=0)
        centred = rows - rows.mean(axis=0)
        spread = np.maximum((centred**2).mean(axis=0), 1e-12)
        self.skewed_left = (centred**3).mean(axis=0) / spread**1.5 < 0
        return self

    def score(self, rows: Rows) -> Rows:
        if self.reduced is not None:
            rows = self.reduced.project(rows)
        n = len(self.sorted)
        left, right = np.empty_like(rows), np.empty_like(rows)
        for j in range(rows.shape[1]):
            # Counted with the row itself, as in the paper, where it is one of the sample: never zero.
            left[:, j] = (np.searchsorted(self.sorted[:, j], rows[:, j], "right") + 1) / (n + 1)
            right[:, j] = (n - np.searchsorted(self.sorted[:, j], rows[:, j], "left") + 1) / (n + 1)
        low, high = -np.log(left), -np.log(right)
        skewed = np.where(self.skewed_left, low, high)
        return np.asarray(np.maximum.reduce([low.sum(1), high.sum(1), skewed.sum(1)]))


class Hbos:
    """Histogram-based outlier score (Goldstein and Dengel, KI 2012), static bins of equal width.

    Each dimension's histogram is scaled to a largest bin of 1; the score is the sum of log(1 / height). An
    empty bin, and anything beyond the outermost bins, counts as a tenth of one row.
    """

    def __init__(self, seed: int, bins: int) -> None:
        self.bins = bins

    def fit(self, rows: Rows) -> Hbos:
        low, high = rows.min(axis=0), rows.max(axis=0)
        self.low, self.width = low, np.maximum((high - low) / self.bins, 1e-9)
        at = self._bin(rows)
        counts = np.stack([np.bincount(at[:, j], minlength=self.bins) for j in range(rows.shape[1])])
        self.costs = -np.log(np.maximum(counts, 0.1) / counts.max(axis=1, keepdims=True))
        self.beyond = -np.log(0.1 / counts.max(axis=1))
        return self

    def _bin(self, rows: Rows) -> NDArray[np.int64]:
        at = np.floor(np.clip((rows - self.low) / self.width, 0, self.bins - 1))
        return np.asarray(at, dtype=np.int64)

    def score(self, rows: Rows) -> Rows:
        at = self._bin(rows)
        place = (rows - self.low) / self.width
        outside = (place < -1e-6) | (place > self.bins + 1e-6)
        inside = np.take_along_axis(self.costs.T, at, axis=0)
        return np.asarray(np.where(outside, self.beyond, inside).sum(axis=1))


class SupportVectors:
    """One-class support vector machine (Schölkopf et al., Neural Computation 2001), Gaussian kernel.

    ``width`` multiplies the usual kernel coefficient 1 / (D x variance).
    """

    def __init__(self, seed: int, width: float) -> None:
        self.seed, self.width = seed, width

    def fit(self, rows: Rows) -> SupportVectors:
        from sklearn.svm import OneClassSVM

        kept = thinned(rows, SVM_ROWS, self.seed)
        gamma = self.width / max(kept.shape[1] * float(kept.var()), 1e-9)
        self.model = OneClassSVM(nu=0.05, gamma=gamma).fit(kept)
        return self

    def score(self, rows: Rows) -> Rows:
        return np.asarray(-self.model.score_samples(rows))


class PrincipalComponents:
    """What the major components cannot explain, in units of its usual size (after Shyu et al., ICDM 2003).

    Squared residual outside the components that hold ``share`` of the variance, plus the squared standardised
    coordinates inside.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.reduced = Reduced(share)

    def fit(self, rows: Rows) -> PrincipalComponents:
        self.reduced.fit(rows)
        self.usual = max(float(self._residual(rows).mean()), 1e-9)
        return self

    def _residual(self, rows: Rows) -> Rows:
        r = self.reduced
        centred = rows - r.mean
        return np.asarray(((centred - centred @ r.axes.T @ r.axes) ** 2).sum(axis=1))

    def score(self, rows: Rows) -> Rows:
        inside = (self.reduced.project(rows) ** 2).mean(axis=1)
        return np.asarray(self._residual(rows) / self.usual + inside)


class RobustCovariance:
    """Mahalanobis distance by the minimum covariance determinant (Rousseeuw, Van Driessen, 1999).

    On ``components`` principal components: one-hot columns have no covariance that could be inverted.
    """

    def __init__(self, seed: int, components: int) -> None:
        self.seed, self.reduced = seed, Reduced(1.0, components)

    def fit(self, rows: Rows) -> RobustCovariance:
        from sklearn.covariance import MinCovDet

        few = self.reduced.fit(rows).project(rows)
        # Repeated commands make tight subsets singular: a trace of noise keeps the determinant above zero.
        few = few + np.random.default_rng(self.seed).normal(0, 1e-3, few.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a determinant that grew by rounding
            warnings.simplefilter("ignore", UserWarning)  # a subset of less than full rank, seen below
            self.model = MinCovDet(support_fraction=0.9, random_state=self.seed).fit(few)
        return self

    def score(self, rows: Rows) -> Rows:
        found = np.asarray(self.model.mahalanobis(self.reduced.project(rows)))
        out: Rows = np.nan_to_num(found, nan=0.0, posinf=1e12, neginf=0.0)
        return out


class Autoencoder:
    """Reconstruction error of a small network with a bottleneck (D, 64, ``narrow``, 64, D)."""

    def __init__(self, seed: int, narrow: int) -> None:
        self.seed, self.narrow = seed, narrow
        self.steps, self.batch = 1000, 256

    def fit(self, rows: Rows) -> Autoencoder:
        import torch
        from torch import nn

        width = rows.shape[1]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.net = nn.Sequential(
                    nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, self.narrow),
                    nn.ReLU(), nn.Linear(self.narrow, 64), nn.ReLU(), nn.Linear(64, width),
                )  # fmt: skip
                data = torch.as_tensor(rows, dtype=torch.float32)
                optimizer = torch.optim.Adam(self.net.parameters(), lr=2e-3, weight_decay=1e-5)
                for _ in range(self.steps):
                    batch = data[torch.randint(len(data), (min(self.batch, len(data)),))]
                    optimizer.zero_grad()
                    loss = ((self.net(batch) - batch) ** 2).mean()
                    loss.backward()
                    optimizer.step()
        finally:
            torch.set_num_threads(threads)
        return self

    def score(self, rows: Rows) -> Rows:
        import torch

        with torch.no_grad():
            data = torch.as_tensor(rows, dtype=torch.float32)
            error = ((self.net(data) - data) ** 2).mean(dim=1)
        return np.asarray(error.numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Baseline:
    """A method and its grid: the candidates among which tuning chooses, as many for every method.

    ``make(seed, **candidate)`` makes a detector, ``make(seed, places, **candidate)`` where it ``sees_places``: which
    columns of a row belong to which field (``baselines.Place``).
    """

    name: str
    make: Callable[..., Detector]
    grid: tuple[Mapping[str, Any], ...]
    sees_places: bool = False


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("IsolationForest", Forest, tuple({"max_samples": n} for n in (256, 1024, 4096, 16384))),
        Baseline("LOF", LocalOutlierFactor, tuple({"neighbours": k} for k in (3, 10, 30, 100))),
        Baseline("kNN", Neighbours, tuple({"neighbours": k} for k in (1, 3, 10, 30))),
        Baseline("ECOD", Ecod, tuple({"share": s} for s in (1.0, 0.9, 0.99, 0.999))),
        Baseline("HBOS", Hbos, tuple({"bins": n} for n in (5, 10, 30, 100))),
        Baseline("one-class SVM", SupportVectors, tuple({"width": w} for w in (0.1, 1.0, 3.0, 10.0))),
        Baseline("PCA", PrincipalComponents, tuple({"share": s} for s in (0.8, 0.95, 0.99, 0.999))),
        Baseline("robust covariance", RobustCovariance, tuple({"components": n} for n in (5, 10, 20, 40))),
        Baseline("autoencoder", Autoencoder, tuple({"narrow": n} for n in (4, 8, 16, 32))),
    )
}
