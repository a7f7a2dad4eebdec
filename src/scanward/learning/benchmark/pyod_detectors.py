"""Detectors of PyOD (Zhao, Nasrullah, Li, JMLR 2019) that judge a row by what was learned alone, and COPOD.

PyOD is the extra ``benchmark``, imported when a detector learns. Taken are methods whose score of an unseen row does
not depend on the other rows asked about, which repeat themselves for a seed, and which hold a far outlier strange;
``docs/benchmark-methods.md`` names every one that is left out, and why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scanward.errors import LearningError
from scanward.learning.baseline_detectors import Baseline, Detector, Hbos, Reduced, Rows, thinned

CLUSTER_ROWS = 12_000  # rows kept by clusterings, mixtures and other methods that are linear in them
PAIR_ROWS = 4_000  # rows kept by methods that compare every row with every one while they learn
KERNEL_ROWS = 2_000  # rows kept by the kernel's principal components, whose learning is cubic
TRACE = 1e-3  # standard deviations of noise added where exact repeats would leave nothing to divide by
CUTS = 100  # projections of LODA
COMPONENTS = 200  # principal components of the kernel, at most


@contextmanager
def _quiet() -> Iterator[None]:
    """PyOD and what it calls warn of what is known here: repeated rows, clusters that stay empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def of_pyod() -> Iterator[None]:
    """Around an import of PyOD.

    Raises
    ------
    LearningError
        PyOD is not installed.
    """
    try:
        with _quiet():
            yield
    except ModuleNotFoundError as exc:
        raise LearningError(
            f"'{exc.name}' is not installed, which this method needs",
            "benchmark",
            "install scanward[benchmark], or leave this method out",
        ) from exc


class Pyod:
    """One PyOD detector on at most ``most`` rows, or on their principal ``components``.

    ``make`` is told how many rows there are. ``fit`` raises LearningError where PyOD cannot do with them.
    """

    def __init__(
        self, seed: int, make: Callable[[int], Any], most: int, components: int = 0, trace: float = 0.0
    ) -> None:
        self.seed, self.make, self.most, self.trace = seed, make, most, trace
        self.reduced = Reduced(1.0, components) if components else None

    def fit(self, rows: Rows) -> Pyod:
        if self.reduced is not None:
            rows = self.reduced.fit(rows).project(rows)
        kept = thinned(rows, self.most, self.seed)
        if self.trace:
            kept = kept + np.random.default_rng(self.seed).normal(0, self.trace, kept.shape)
        with _quiet():
            try:
                self.model = self.make(len(kept)).fit(kept)
            except (ValueError, ArithmeticError) as exc:
                raise LearningError(
                    f"nothing could be learned from {len(kept)} rows: {exc}",
                    "benchmark",
                    "give more examinations, or leave this method out",
                ) from exc
        return self

    def score(self, rows: Rows) -> Rows:
        if self.reduced is not None:
            rows = self.reduced.project(rows)
        with _quiet():
            return np.asarray(self.model.decision_function(rows), dtype=np.float64)


def cblof(seed: int, clusters: int) -> Detector:
    """Cluster-based local outlier factor (He, Xu, Deng, Pattern Recognition Letters 2003), distances unweighted."""
    with of_pyod():
        from pyod.models.cblof import CBLOF as new
    return Pyod(
        seed, lambda n: new(n_clusters=min(clusters, n // 4), random_state=seed), CLUSTER_ROWS, trace=TRACE
    )


def inne(seed: int, samples: int) -> Detector:
    """Isolation by nearest-neighbour ensembles (Bandaragoda et al., Computational Intelligence 2018).

    100 sets of ``samples`` spheres around clean rows, each as wide as the way to its nearest neighbour.
    """
    with of_pyod():
        from pyod.models.inne import INNE as new
    return Pyod(
        seed, lambda n: new(n_estimators=100, max_samples=min(samples, n), random_state=seed), PAIR_ROWS
    )


def kde(seed: int, components: int, bandwidth: float) -> Detector:
    """Kernel density (Parzen, Ann Math Stat 1962; Latecki et al., MLDM 2007), on principal components."""
    with of_pyod():
        from pyod.models.kde import KDE as new
    return Pyod(seed, lambda _n: new(bandwidth=bandwidth), PAIR_ROWS, components)


def gmm(seed: int, components: int, mixtures: int) -> Detector:
    """Mixture of Gaussians (Dempster, Laird, Rubin 1977; Reynolds 2009), on principal components."""
    with of_pyod():
        from pyod.models.gmm import GMM as new

    def make(n: int) -> Any:
        return new(n_components=min(mixtures, max(1, n // 20)), reg_covar=1e-3, random_state=seed)

    return Pyod(seed, make, CLUSTER_ROWS, components)


def abod(seed: int, neighbours: int) -> Detector:
    """Angle-based outlier detection, the fast kind (Kriegel, Schubert, Zimek, KDD 2008)."""
    with of_pyod():
        from pyod.models.abod import ABOD as new
    return Pyod(seed, lambda n: new(n_neighbors=min(neighbours, n - 1)), PAIR_ROWS, trace=TRACE)


def sampling(seed: int, subset: int) -> Detector:
    """Distance to the nearest of a few clean rows (Sugiyama, Borgwardt, NeurIPS 2013)."""
    with of_pyod():
        from pyod.models.sampling import Sampling as new
    return Pyod(seed, lambda n: new(subset_size=min(subset, n), random_state=seed), CLUSTER_ROWS)


def kpca(seed: int, width: float) -> Detector:
    """What the principal components of a Gaussian kernel cannot explain (Hoffmann, Pattern Recognition 2007)."""
    with of_pyod():
        from pyod.models.kpca import KPCA as new

    class Scaled(Pyod):
        def fit(self, rows: Rows) -> Pyod:
            kept = thinned(rows, KERNEL_ROWS, seed)
            gamma = width / max(kept.shape[1] * float(kept.var()), 1e-9)
            few = max(1, min(COMPONENTS, len(kept) // 2))
            self.make = lambda _n: new(
                n_components=few, kernel="rbf", gamma=gamma, eigen_solver="arpack", random_state=seed
            )
            return super().fit(kept)

    return Scaled(seed, lambda _n: None, KERNEL_ROWS, trace=TRACE)


class Loda:
    """Lightweight on-line detector of anomalies (Pevný, Machine Learning 2016): histograms of sparse projections.

    Each of ``CUTS`` projections has normally distributed weights for the square root of the number of columns, drawn
    anew; the score is the sum of the negative log heights where a row falls. (PyOD's puts whatever lies beyond a
    histogram into its last bin, which is never empty: nothing is strange for being far out.)
    """

    def __init__(self, seed: int, bins: int) -> None:
        self.seed, self.heights = seed, Hbos(seed, bins)

    def fit(self, rows: Rows) -> Loda:
        rng = np.random.default_rng(self.seed)
        width = rows.shape[1]
        self.weights = np.zeros((width, CUTS))
        for j in range(CUTS):
            chosen = rng.choice(width, max(1, round(width**0.5)), replace=False)
            self.weights[chosen, j] = rng.normal(size=len(chosen))
        self.heights.fit(rows @ self.weights)
        return self

    def score(self, rows: Rows) -> Rows:
        return self.heights.score(rows @ self.weights)


class Copod:
    """Empirical copula (Li et al., ICDM 2020, arXiv 2009.09463) on unseen rows.

    Tail probabilities of each dimension among the clean rows, their negative logarithms summed over dimensions; of
    each the mean of both tails or the tail to which it is skewed, whichever is stranger (PyOD's form of the last step;
    but PyOD counts the rows asked about among the clean ones). ``share`` below 1 works on principal components instead
    of the columns.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.reduced = Reduced(share) if share < 1 else None

    def fit(self, rows: Rows) -> Copod:
        if self.reduced is not None:
            rows = self.reduced.fit(rows).project(rows)
        self.sorted = np.sort(rows, axis=0)
        centred = rows - rows.mean(axis=0)
        spread = np.maximum((centred**2).mean(axis=0), 1e-12)
        skew = (centred**3).mean(axis=0) / spread**1.5
        # Left tail where skewed to the left, right tail where to the right, both where neither.
        self.left, self.right = (skew <= 0).astype(np.float64), (skew >= 0).astype(np.float64)
        return self

    def score(self, rows: Rows) -> Rows:
        if self.reduced is not None:
            rows = self.reduced.project(rows)
        n = len(self.sorted)
        low, high = np.empty_like(rows), np.empty_like(rows)
        for j in range(rows.shape[1]):
            low[:, j] = np.searchsorted(self.sorted[:, j], rows[:, j], "right")
            high[:, j] = n - np.searchsorted(self.sorted[:, j], rows[:, j], "left")
        low, high = (
            -np.log((tail + 1) / (n + 1)) for tail in (low, high)
        )  # with the row itself, as among them
        skewed = low * self.left + high * self.right
        return np.asarray(np.maximum(skewed, (low + high) / 2).sum(axis=1))


WIDE, NARROW = 40, 10  # principal components of densities
PYOD: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("COPOD", Copod, tuple({"share": s} for s in (1.0, 0.9, 0.99, 0.999))),
        Baseline("CBLOF", cblof, tuple({"clusters": k} for k in (8, 30, 100, 300))),
        Baseline("INNE", inne, tuple({"samples": n} for n in (8, 32, 128, 256))),
        Baseline("LODA", Loda, tuple({"bins": n} for n in (10, 30, 100, 300))),
        Baseline(
            "KDE", kde, tuple({"components": c, "bandwidth": h} for c in (NARROW, WIDE) for h in (0.1, 0.5))
        ),
        Baseline(
            "GMM", gmm, tuple({"components": c, "mixtures": k} for c in (NARROW, WIDE) for k in (10, 40))
        ),
        Baseline("ABOD", abod, tuple({"neighbours": k} for k in (5, 10, 15, 20))),
        Baseline("sampling", sampling, tuple({"subset": n} for n in (20, 100, 300, 1000))),
        Baseline("kernel PCA", kpca, tuple({"width": w} for w in (0.1, 0.3, 1.0, 3.0))),
    )
}
