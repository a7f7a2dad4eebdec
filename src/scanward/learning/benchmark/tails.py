"""Scores of different scales made comparable: how rare so strange a command is among clean ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanward.errors import LearningError
from scanward.learning.benchmark.answers import Floats

TAIL = 0.05  # share of the clean commands from which what lies beyond them is drawn out
FEWEST = 20  # clean commands beyond the threshold from which the shape of the tail is estimated
HEAVIEST = 5.0  # shape beyond which a tail has no width that could be told
LEAST_EXCESS = 1e-9  # of a tail that has no width


@dataclass(frozen=True)
class Tail:
    """How rare a score is among clean commands, in nats: -log of the share that is as strange or stranger.

    Up to the strangest twentieth it is counted; beyond, a generalised Pareto law goes on, which is what excesses over a
    high threshold follow (Pickands, Ann Stat 1975). The shape is estimated, since a ratio of densities has a far
    heavier tail than a logarithm of a probability, and whatever is drawn out too far would have the other's budget. It
    is never taken as bounded: something stranger than everything seen must not be infinitely rare. Strictly monotone
    beyond the threshold, so that no two scores tie there that were told apart.
    """

    ordered: Floats  # clean scores, ascending
    threshold: float
    width: float
    shape: float

    @classmethod
    def of(cls, scores: Floats) -> Tail:
        """From scores of clean commands that the detector did not learn from.

        Raises
        ------
        LearningError
            When there is none.
        """
        if not len(scores):
            raise LearningError("no clean command is held back", "benchmark", "give more examinations")
        ordered = np.sort(scores)
        threshold = float(np.quantile(ordered, 1 - TAIL, method="higher"))
        width, shape = pareto(ordered[ordered > threshold] - threshold)
        return cls(ordered, threshold, width, shape)

    def nats(self, scores: Floats) -> Floats:
        """Tail of each score: (N,) -> (N,), 0 for the commonest."""
        inside = np.minimum(scores, self.threshold)
        at_least = len(self.ordered) - np.searchsorted(self.ordered, inside, "left")
        counted = -np.log((at_least + 1) / (len(self.ordered) + 1))
        beyond = np.maximum(scores - self.threshold, 0.0) / self.width
        drawn_out = np.log1p(self.shape * beyond) / self.shape if self.shape > 0 else beyond
        out: Floats = counted + drawn_out
        return out


def pareto(excesses: Floats) -> tuple[float, float]:
    """Width and shape (at least 0) of a generalised Pareto law: (N,) ascending, positive -> two numbers.

    Zhang and Stephens, Technometrics 51(3), 2009, with the weak prior of Vehtari et al. (Pareto smoothed importance
    sampling, 2015: ten observations of shape 1/2). Too few for a shape are taken as exponential.
    """
    number = len(excesses)
    if number < FEWEST or excesses[-1] <= LEAST_EXCESS:
        return max(float(excesses.mean()) if number else 0.0, LEAST_EXCESS), 0.0
    points = 30 + int(np.sqrt(number))
    theta = 1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))
    theta /= 3 * max(excesses[int(number / 4 + 0.5) - 1], LEAST_EXCESS)
    theta += 1 / excesses[-1]
    theta = theta[
        np.abs(theta) * excesses[-1] > 1e-9
    ]  # at nought the law is exponential, and the formulae divide by it
    shapes = np.log1p(-theta[:, None] * excesses).mean(axis=1)
    likelihood = number * (np.log(-theta / shapes) - shapes - 1)
    weight = np.exp(likelihood - likelihood.max())
    best = float(theta @ weight / weight.sum())
    if abs(best) * excesses[-1] <= 1e-9:
        return float(excesses.mean()), 0.0
    shape = float(np.log1p(-best * excesses).mean())
    width = -shape / best
    shape = (number * shape + 10 * 0.5) / (number + 10)
    return max(width, LEAST_EXCESS), min(max(shape, 0.0), HEAVIEST)
