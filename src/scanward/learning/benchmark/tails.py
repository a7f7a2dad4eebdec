"""Scores of different scales made comparable: how rare so strange a command is among clean ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanward.errors import LearningError
from scanward.learning.benchmark.answers import Floats

TAIL = 0.05  # share of the held-back clean commands from which what lies beyond them is drawn out
LEAST_EXCESS = 1e-9  # of a tail that has no width


@dataclass(frozen=True)
class Tail:
    """How rare a score is among clean commands, in nats: -log of the share that is as strange or stranger.

    Up to the strangest twentieth it is counted; beyond, an exponential of the same mean excess goes on (what a peak
    over a threshold follows where tails are not heavy: Pickands, Ann Stat 1975), so that no two scores tie that were
    told apart. Monotone, so it changes nothing within a layer.
    """

    ordered: Floats  # held-back clean scores, ascending
    threshold: float
    excess: float

    @classmethod
    def of(cls, scores: Floats) -> Tail:
        """From scores of clean commands that the layer did not learn from."""
        if not len(scores):
            raise LearningError("no clean command is held back", "benchmark", "give more examinations")
        ordered = np.sort(scores)
        threshold = float(np.quantile(ordered, 1 - TAIL, method="higher"))
        beyond = ordered[ordered > threshold] - threshold
        return cls(ordered, threshold, max(float(beyond.mean()) if len(beyond) else 0.0, LEAST_EXCESS))

    def nats(self, scores: Floats) -> Floats:
        """Tail of each score: (N,) -> (N,), 0 for the commonest."""
        inside = np.minimum(scores, self.threshold)
        at_least = len(self.ordered) - np.searchsorted(self.ordered, inside, "left")
        counted = -np.log((at_least + 1) / (len(self.ordered) + 1))
        out: Floats = counted + np.maximum(scores - self.threshold, 0.0) / self.excess
        return out
