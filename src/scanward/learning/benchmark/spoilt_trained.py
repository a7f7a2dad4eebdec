"""Classifiers taught what Scanward's combiner is taught: clean commands against the same commands spoilt at random.

The combiner learns from ``learning.corruptions``; methods that learn from clean commands alone do not. How much of
Scanward's figures comes from that lesson, and not from its layers, these rows tell: off-the-shelf classifiers on the
columns of every other baseline, shown spoilt commands of the learning examinations and never an attack. Spoilers, how
often each is drawn and how many spoilt commands come on a clean one are the combiner's.

*... in order* also see what came before in the examination (``two_classes``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.errors import LearningError
from scanward.learning.baselines import HELD_BACK, FeatureTable, low_rate_detection
from scanward.learning.benchmark.answers import Floats, Ints, Kind, Learned, Method, Tick
from scanward.learning.benchmark.classifiers import CLASSIFIERS, ClassifierKind
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.two_classes import (
    ATTACKED,
    CLEAN,
    TREES,
    History,
    TwoClassScorer,
    clean_histories,
    log_odds,
    rows_of,
)
from scanward.learning.benchmark.worlds import World, commands_of
from scanward.learning.corruptions import SPOILERS, WEIGHTS, Workshop, spoil
from scanward.learning.folds import Settings

SPOILT_PER_CLEAN = Settings().spoilt  # the combiner's
ROWS = 48_000  # rows that the kept classifier learns from, clean and spoilt; bounds time and memory
TUNING_ROWS = 16_000  # the same while candidates are compared
HELD_BACK_ROWS = 12_000  # on which they are compared


TAUGHT = (CLASSIFIERS["logistic regression"], CLASSIFIERS["random forest"], TREES, CLASSIFIERS["MLP"])
IN_ORDER = (TREES, CLASSIFIERS["random forest"], CLASSIFIERS["MLP"])


def spoilt_histories(
    examinations: Sequence[Examination],
    donors: Sequence[Examination],
    per_clean: float,
    seed: tuple[int, ...],
) -> list[History]:
    """Examinations up to a spoilt command, which is the last: some ``per_clean`` for each clean command."""
    rng = np.random.default_rng(seed)
    workshop, kinds = Workshop(donors), list(SPOILERS)
    weights = np.array([WEIGHTS[k] for k in kinds])
    weights /= weights.sum()
    out: list[History] = []
    for examination in examinations:
        for _ in range(int(rng.poisson(per_clean * len(examination.commands)))):
            kind = kinds[int(rng.choice(len(kinds), p=weights))]
            made = spoil(workshop, examination, int(rng.integers(len(examination.commands))), kind, rng)
            if made is not None:
                out.append(made.examination.commands[: made.index + 1])
    return out


@dataclass(frozen=True)
class Ground:
    """Rows (N, D) and labels (N, 1) for choosing, for comparing and for the one that is kept."""

    early: tuple[Floats, Ints]
    held_back: tuple[Floats, Ints]
    all: tuple[Floats, Ints]
    table: FeatureTable


def prepare(world: World, seed: int, order: bool) -> Ground:
    """Spoil the learning examinations, earlier and held-back ones apart.

    Raises
    ------
    LearningError
        When nothing can be spoilt.
    """
    cut = int(len(world.learn) * (1 - HELD_BACK))
    first, late = world.learn[:cut], world.learn[cut:]

    def laid_out(
        table: FeatureTable, some: Sequence[Examination], donors: Sequence[Examination], most: int, part: int
    ) -> tuple[Floats, Ints]:
        rng = np.random.default_rng((seed, 97, part))
        share = min(1.0, most / max((1 + SPOILT_PER_CLEAN) * len(commands_of(some)), 1))
        kept = [some[i] for i in np.sort(rng.permutation(len(some))[: max(1, int(share * len(some)))])]
        clean = clean_histories(kept)
        spoilt = spoilt_histories(kept, donors, SPOILT_PER_CLEAN, (seed, 101, part))
        if not clean or not spoilt:
            raise LearningError("nothing can be spoilt", world.name, "learn from more examinations")
        labels = np.array([CLEAN] * len(clean) + [ATTACKED] * len(spoilt), np.int64)[:, None]
        return rows_of(table, [*clean, *spoilt], order), labels

    early_table = FeatureTable.learn(commands_of(first), context=True)
    table = FeatureTable.learn(commands_of(world.learn), context=True)
    return Ground(
        laid_out(early_table, first, first, TUNING_ROWS, 1),
        laid_out(early_table, late, first, HELD_BACK_ROWS, 2),
        laid_out(table, world.learn, world.learn, ROWS, 3),
        table,
    )


_ground: Last[Ground] = Last()


def _learn(kind: ClassifierKind, order: bool) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        began = time.perf_counter()
        ground = _ground.of(world, (seed, order), lambda: prepare(world, seed, order))
        rows, labels = ground.held_back
        spoilt = labels[:, 0] == ATTACKED
        compared: list[tuple[dict[str, Any], float]] = []
        for i, candidate in enumerate(kind.grid):
            tick(f"{kind.name}: candidates", i / (len(kind.grid) + 1))
            odds = log_odds(kind.make(seed, **candidate).fit(*ground.early, (2,)), rows)
            compared.append(
                (dict(candidate), low_rate_detection(odds[~spoilt].tolist(), odds[spoilt].tolist()))
            )
        chosen = max(compared, key=lambda pair: pair[1])[0]
        tick(f"{kind.name}: all", len(kind.grid) / (len(kind.grid) + 1))
        model = kind.make(seed, **chosen).fit(*ground.all, (2,))
        facts = {
            "classifier": kind.name,
            "spoilt kinds": sorted(SPOILERS),
            "rows": len(ground.all[0]),
            "chosen": chosen,
            "compared": [list(pair) for pair in compared],
            "seconds": round(time.perf_counter() - began, 2),
        }
        return Learned(TwoClassScorer(ground.table, model, order), facts)

    return learn


SPOILT_TRAINED: tuple[Method, ...] = tuple(
    Method(
        f"{kind.name}, shown spoilt commands{', in order' if order else ''}",
        Kind.CLEAN_ONLY,
        _learn(kind, order),
        about="tells clean commands from the same spoilt at random, as Scanward's combiner learns to"
        + (", and sees what came before" if order else ""),
        group="shown spoilt commands" + (", in order" if order else ""),
    )
    for order, kinds in ((False, TAUGHT), (True, IN_ORDER))
    for kind in kinds
)
