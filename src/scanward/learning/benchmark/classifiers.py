"""Off-the-shelf classifiers of several contexts at once, each with four candidates: rows in, log probabilities out.

All take standardised rows (N, D) without NaN and one column of labels for each of K questions, -1 where the answer is
not known, and answer K matrices of log probabilities, minus infinity where a class was not among the rows. All run on
one thread and are deterministic for a seed. With one question of two classes they tell clean from attacked commands.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scanward.learning.benchmark.answers import Floats, Ints

TREES = 3000  # boosted trees of one question at most: a round grows one for each class
ROUNDS_LEAST, ROUNDS_MOST = 10, 80
FOREST_TREES = 60  # what a forest of 140 classes may take of memory: about 200 MB with leaves of two rows
STEPS, BATCH = 1500, 256  # of the network
ITERATIONS = 150  # of the solvers of the linear models, which are then as good as they will be


class Classifier(Protocol):
    """What every classifier is."""

    def fit(self, rows: Floats, labels: Ints, sizes: Sequence[int]) -> Classifier:
        """Learn from rows (N, D) and labels (N, K); ``sizes`` tells the number of classes of each question."""
        ...

    def logs(self, rows: Floats) -> list[Floats]:
        """Log probabilities (N, C) for each of the K questions."""
        ...


class OneByOne(ABC):
    """Questions answered one after the other by ``_learn`` and ``_answer``."""

    def fit(self, rows: Floats, labels: Ints, sizes: Sequence[int]) -> OneByOne:
        self.sizes = tuple(sizes)
        self.present: list[Ints] = []
        self.models: list[Any] = []
        for k in range(len(self.sizes)):
            known = np.flatnonzero(labels[:, k] >= 0)
            present, y = np.unique(labels[known, k], return_inverse=True)
            self.present.append(present)
            # Of a single class nothing can be learned: it is what everything is.
            self.models.append(self._learn(rows[known], y, len(present)) if len(present) > 1 else None)
        return self

    def logs(self, rows: Floats) -> list[Floats]:
        out = []
        for size, present, model in zip(self.sizes, self.present, self.models, strict=True):
            told = np.full((len(rows), size), -np.inf)
            told[:, present] = self._answer(model, rows) if model is not None else 0.0
            out.append(told)
        return out

    @abstractmethod
    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        """A model of one question: rows (N, D), classes (N,) of 0 to ``count``, at least two."""

    @abstractmethod
    def _answer(self, model: Any, rows: Floats) -> Floats:
        """Log probabilities (N, count)."""


def log_softmax(logits: Floats) -> Floats:
    """Rows of logits (N, C) to log probabilities."""
    top = logits - logits.max(axis=1, keepdims=True)
    out: Floats = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
    return out


class Logistic(OneByOne):
    """Multinomial logistic regression; ``strength`` is the inverse of the ridge (scikit-learn's C)."""

    def __init__(self, seed: int, strength: float) -> None:
        self.strength = strength

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped at ITERATIONS on purpose
            return LogisticRegression(C=self.strength, max_iter=ITERATIONS, tol=1e-3).fit(rows, y)

    def _answer(self, model: Any, rows: Floats) -> Floats:
        logits = np.asarray(model.decision_function(rows))
        if logits.ndim == 1:  # of two classes scikit-learn tells one logit
            logits = np.column_stack([np.zeros(len(logits)), logits])
        return log_softmax(logits)


class NaiveBayes(OneByOne):
    """Naive Bayes on columns cut into ``bins`` of equal numbers of rows (Hand and Yu, Int Stat Rev 2001).

    Half a row is added to every count. Columns that are mostly 0 and 1 keep their values.
    """

    def __init__(self, seed: int, bins: int) -> None:
        self.bins = bins

    def fit(self, rows: Floats, labels: Ints, sizes: Sequence[int]) -> OneByOne:
        inner = np.linspace(0, 1, self.bins + 1)[1:-1]
        self.edges = []
        for column in rows.T:
            # What lies on an edge falls below it: an edge on the largest value would part nothing.
            edges = np.unique(np.quantile(column, inner))
            edges = edges[edges < column.max()]
            if not len(edges) and column.max() > column.min():
                edges = np.array([(column.max() + column.min()) / 2])
            self.edges.append(edges)
        self.offsets = np.cumsum([0, *(len(e) + 1 for e in self.edges)])
        return super().fit(rows, labels, sizes)

    def _codes(self, rows: Floats) -> Ints:
        codes = [np.searchsorted(e, column, "left") for e, column in zip(self.edges, rows.T, strict=True)]
        return np.asarray(np.stack(codes, axis=1) + self.offsets[:-1])

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        codes = self._codes(rows)
        table = np.full((int(self.offsets[-1]), count), 0.5)
        np.add.at(table, (codes.ravel(), np.repeat(y, codes.shape[1])), 1.0)
        for j in range(codes.shape[1]):
            at = slice(self.offsets[j], self.offsets[j + 1])
            table[at] /= table[at].sum(axis=0, keepdims=True)
        return np.log(table), np.log(np.bincount(y, minlength=count) / len(y))

    def _answer(self, model: Any, rows: Floats) -> Floats:
        table, bias = model
        codes, logits = self._codes(rows), np.tile(bias, (len(rows), 1))
        for j in range(codes.shape[1]):
            logits += table[codes[:, j]]
        return log_softmax(logits)


class NearestNeighbours:
    """Votes of the nearest ``neighbours`` rows, and one vote for what is common (k-nearest neighbours).

    The neighbours are the same for all questions; one that does not know an answer has no vote on it.
    """

    def __init__(self, seed: int, neighbours: int) -> None:
        self.neighbours = neighbours

    def fit(self, rows: Floats, labels: Ints, sizes: Sequence[int]) -> NearestNeighbours:
        from sklearn.neighbors import NearestNeighbors

        self.labels, self.sizes = labels, tuple(sizes)
        self.model = NearestNeighbors(
            n_neighbors=min(self.neighbours, len(rows)), algorithm="brute", n_jobs=1
        ).fit(rows)
        self.shares = []
        for k, size in enumerate(self.sizes):
            counts = np.bincount(labels[labels[:, k] >= 0, k], minlength=size)
            self.shares.append(counts / max(counts.sum(), 1))
        return self

    def logs(self, rows: Floats) -> list[Floats]:
        near = self.model.kneighbors(rows, return_distance=False)  # (N, neighbours)
        out = []
        for k, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            told = self.labels[near, k]
            votes = np.zeros((len(rows), size + 1))  # the last column is of those who do not know
            np.add.at(votes, (np.arange(len(rows))[:, None], told), 1.0)
            with np.errstate(divide="ignore"):
                out.append(np.log((votes[:, :-1] + share) / (votes[:, :-1].sum(axis=1, keepdims=True) + 1)))
        return out


class RandomForest(OneByOne):
    """Random forest (Breiman, Machine Learning 2001) with at least ``least`` rows in a leaf."""

    def __init__(self, seed: int, least: int) -> None:
        self.seed, self.least = seed, least

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            FOREST_TREES, min_samples_leaf=self.least, random_state=self.seed, n_jobs=1
        ).fit(rows, y)

    def _answer(self, model: Any, rows: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(model.predict_proba(rows)))


class BoostedTrees(OneByOne):
    """Gradient boosting (LightGBM: Ke et al., NeurIPS 2017) of trees with ``leaves`` leaves."""

    def __init__(self, seed: int, leaves: int) -> None:
        self.seed, self.leaves = seed, leaves

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        from scanward.layers.graph import rounded
        from scanward.learning.boosting import boost

        return boost(
            rounded(rows),
            y,
            objective="multiclass",
            classes=count,
            rounds=max(ROUNDS_LEAST, min(ROUNDS_MOST, TREES // count)),
            leaves=self.leaves,
            rate=0.15,
            least=10,
            columns=0.5,
            seed=self.seed,
        )

    def _answer(self, model: Any, rows: Floats) -> Floats:
        from scanward.layers.graph import rounded

        return log_softmax(np.asarray(model.predict(rounded(rows), raw_score=True, num_threads=1)))


class LinearMachine(OneByOne):
    """Linear support vector machine, one class against the rest, squared hinge loss (Fan et al., JMLR 2008).

    The objective of scikit-learn's ``LinearSVC`` with C = ``strength``, all classes at once by L-BFGS, since one after
    the other takes minutes where a site has a hundred protocols. Margins become probabilities by a softmax; their
    sharpness is set on commands held back, as for every classifier.
    """

    def __init__(self, seed: int, strength: float) -> None:
        self.strength = strength

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        from scipy.optimize import minimize

        x = np.column_stack([rows, np.ones(len(rows))])
        signs = np.where(y[:, None] == np.arange(count), 1.0, -1.0)
        shape = (x.shape[1], count)

        def objective(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            short = np.maximum(1.0 - signs * (x @ weights), 0.0)
            value = 0.5 * float((weights**2).sum()) + self.strength * float((short**2).sum())
            return value, (weights - 2 * self.strength * (x.T @ (signs * short))).ravel()

        start = np.zeros(shape[0] * shape[1])
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        return found.x.reshape(shape)

    def _answer(self, model: Any, rows: Floats) -> Floats:
        return log_softmax(rows @ model[:-1] + model[-1])


class Network:
    """A multilayer perceptron (D, ``width``, ``width``), one trunk with a head for each question."""

    def __init__(self, seed: int, width: int) -> None:
        self.seed, self.width = seed, width

    def fit(self, rows: Floats, labels: Ints, sizes: Sequence[int]) -> Network:
        import torch
        from torch import nn

        self.sizes = tuple(sizes)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.net = nn.Sequential(
                    nn.Linear(rows.shape[1], self.width), nn.ReLU(), nn.Dropout(0.1),
                    nn.Linear(self.width, self.width), nn.ReLU(), nn.Dropout(0.1),
                    nn.Linear(self.width, sum(self.sizes)),
                )  # fmt: skip
                x, t = torch.as_tensor(rows, dtype=torch.float32), torch.as_tensor(labels)
                optimizer = torch.optim.AdamW(self.net.parameters(), lr=2e-3, weight_decay=1e-3)
                slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
                loss_of = nn.CrossEntropyLoss(ignore_index=-1, reduction="sum")
                for _ in range(STEPS):
                    i = torch.randint(len(x), (min(BATCH, len(x)),))
                    heads = torch.split(self.net(x[i]), list(self.sizes), dim=1)
                    loss = sum(loss_of(head, t[i, k]) for k, head in enumerate(heads)) / len(i)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    slower.step()
        finally:
            torch.set_num_threads(threads)
        self.net.eval()
        return self

    def logs(self, rows: Floats) -> list[Floats]:
        import torch

        with torch.no_grad():
            out = self.net(torch.as_tensor(rows, dtype=torch.float32))
            heads = torch.split(out, list(self.sizes), dim=1)
            return [torch.log_softmax(h.double(), dim=1).numpy() for h in heads]


@dataclass(frozen=True)
class ClassifierKind:
    """A classifier and its grid: the candidates among which tuning chooses, as many for every one."""

    name: str
    make: Callable[..., Classifier]
    grid: tuple[Mapping[str, Any], ...]


CLASSIFIERS: dict[str, ClassifierKind] = {
    k.name: k
    for k in (
        ClassifierKind(
            "logistic regression", Logistic, tuple({"strength": c} for c in (1.0, 10.0, 100.0, 1000.0))
        ),
        ClassifierKind("naive Bayes", NaiveBayes, tuple({"bins": b} for b in (2, 4, 8, 16))),
        ClassifierKind("kNN", NearestNeighbours, tuple({"neighbours": n} for n in (10, 30, 100, 300))),
        ClassifierKind("random forest", RandomForest, tuple({"least": n} for n in (2, 5, 10, 20))),
        ClassifierKind("LightGBM", BoostedTrees, tuple({"leaves": n} for n in (2, 4, 8, 16))),
        ClassifierKind("linear SVM", LinearMachine, tuple({"strength": c} for c in (0.1, 1.0, 10.0, 100.0))),
        ClassifierKind("MLP", Network, tuple({"width": w} for w in (64, 128, 256, 512))),
    )
}
