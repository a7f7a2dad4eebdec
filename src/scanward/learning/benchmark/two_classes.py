"""What classifiers between clean commands and others share: their trees, their columns, their score.

The others are commands spoilt at random (``spoilt_trained``) or attacked ones (``attack_trained``). Methods *in order*
also see what came before in the examination: the row of the command before this one, how many commands there were, and
how many of them were just like it or of the same protocol element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.commands import Command, Examination
from scanward.learning.baselines import FeatureTable
from scanward.learning.benchmark.answers import Answer, Floats, Ints
from scanward.learning.benchmark.classifiers import BoostedTrees, Classifier, ClassifierKind
from scanward.learning.benchmark.supervised import CHUNK
from scanward.learning.folds import Settings

History = Sequence[Command]
CLEAN, ATTACKED = 0, 1
FAINTEST = 1e-9  # a probability below this says no more
ROUNDS = Settings().rounds  # the combiner's
ORDER = 3  # columns that count: commands before, just like this one, of the same element


class CombinerTrees(BoostedTrees):
    """Boosted trees grown over as many rounds, as slow and as large as the combiner's own (``learning.combiner``).

    A round grows one tree for each class, which steps as far as the one tree of a binary model and varies less: 400
    trees here. The combiner averages three models of 200 trees each.
    """

    def _learn(self, rows: Floats, y: Ints, count: int) -> Any:
        from scanward.layers.graph import rounded
        from scanward.learning.boosting import boost

        return boost(
            rounded(rows),
            y,
            objective="multiclass",
            classes=count,
            rounds=ROUNDS,
            leaves=self.leaves,
            rate=0.06,
            least=3,
            columns=0.5,
            lambda_l2=0.0,
            seed=self.seed,
        )


TREES = ClassifierKind("LightGBM", CombinerTrees, tuple({"leaves": n} for n in (15, 31, 63, 127)))


def clean_histories(examinations: Sequence[Examination]) -> list[History]:
    """Every command with what came before it."""
    return [e.commands[: i + 1] for e in examinations for i in range(len(e.commands))]


def rows_of(table: FeatureTable, histories: Sequence[History], order: bool) -> Floats:
    """The last command of each history, (N, width); with ``order`` what came before it as well."""
    last = table.rows([h[-1] for h in histories])
    if not order:
        return last
    before = np.zeros_like(last)
    known = [i for i, h in enumerate(histories) if len(h) > 1]
    if known:
        before[known] = table.rows([histories[i][-2] for i in known])
    counts = np.array([_counts(h) for h in histories], np.float64).reshape(-1, ORDER)
    return np.concatenate([last, before, counts], axis=1)


def _counts(history: History) -> tuple[int, int, int]:
    this, earlier = history[-1], history[:-1]
    element = this.text("ProtocolElementName")
    alike = sum(c.parameters == this.parameters for c in earlier)
    same = sum(element is not None and c.text("ProtocolElementName") == element for c in earlier)
    return len(earlier), alike, same


def log_odds(model: Classifier, rows: Floats) -> Floats:
    """Log odds of not being clean, shape (N,)."""
    logs = np.maximum(model.logs(rows)[0], np.log(FAINTEST))
    out: Floats = logs[:, ATTACKED] - logs[:, CLEAN]
    return out


@dataclass(frozen=True)
class TwoClassScorer:
    """Log odds of not being clean."""

    table: FeatureTable
    model: Classifier
    order: bool

    def answer(self, histories: Sequence[History]) -> list[list[Answer]]:
        """Scores alone: a classifier has no rules."""
        asked = [h[: i + 1] for h in histories for i in range(len(h))]
        parts = [asked[at : at + CHUNK] for at in range(0, len(asked), CHUNK)]
        scores = iter(
            s for part in parts for s in log_odds(self.model, rows_of(self.table, part, self.order)).tolist()
        )
        return [[Answer(next(scores)) for _ in h] for h in histories]
