"""Classifiers that were shown attacks: what a site gets that trusts a catalogue of attacks to be all there is.

The same seven classifiers, here between clean commands and attacked ones, with machine and context columns; boosted
trees are as large as the combiner's, as where spoilt commands are shown. The attacks are those of the families named as
shown, made on the world's own learning examinations and never on a test; only the development families may be shown,
and the runner leaves the shown families' cases out of these methods' figures. Each command is judged by itself, as
everywhere among the baselines, save *in order*, which sees what came before it (``two_classes``).

Candidates are compared on learning examinations held back, with shown attacks made there: a family that was not shown
is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.errors import LearningError, SettingsError
from scanward.learning.baselines import HELD_BACK, FeatureTable, low_rate_detection
from scanward.learning.benchmark.answers import Floats, Kind, Learned, Method, Tick
from scanward.learning.benchmark.cases import cases_of
from scanward.learning.benchmark.classifiers import CLASSIFIERS, ClassifierKind
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.supervised import drawn
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
from scanward.simulation import ATTACKS, Donors

CLEAN_ROWS = 8_000  # clean commands learned from, with at most as many attacked ones
TUNING_ROWS = 4_000  # the same while candidates are compared
HELD_BACK_ROWS = 3_000  # clean commands held back, with at most as many attacked ones
TAUGHT = tuple(TREES if kind.name == TREES.name else kind for kind in CLASSIFIERS.values())
IN_ORDER = (TREES,)


def attacked_histories(
    shown: Sequence[str], examinations: Sequence[Examination], donors: Donors, most: int, seed: int
) -> dict[str, list[History]]:
    """Attacked ``examinations``: attack -> of each case the commands up to an attacked one, about ``most`` in all.

    Every shown attack gets the same number; one that few examinations allow gives what it can.
    """
    each = max(1, most // len(shown))
    out: dict[str, list[History]] = {}
    for name in shown:
        rng = np.random.default_rng((seed, 83, *name.encode()))
        cases = cases_of(ATTACKS[name], examinations, donors, each, seed)
        # Of an attack on a whole examination one command, or its many would stand for all attacks.
        out[name] = [c.commands[: c.indices[int(rng.integers(len(c.indices)))] + 1] for c in cases]
    return out


@dataclass(frozen=True)
class Shown:
    """Rows (N, D) and whether they were attacked (N, 1), for one comparison or for the kept classifier."""

    table: FeatureTable
    rows: Floats
    labels: Any

    @classmethod
    def of(
        cls, table: FeatureTable, clean: Sequence[History], attacked: Sequence[History], order: bool
    ) -> Shown:
        """Clean ones first."""
        labels = np.array([CLEAN] * len(clean) + [ATTACKED] * len(attacked), dtype=np.int64)[:, None]
        return cls(table, rows_of(table, [*clean, *attacked], order), labels)


@dataclass(frozen=True)
class Ground:
    """What all attack-trained classifiers of a world learn from."""

    early: Shown
    held_back: Shown
    all: Shown
    counts: Mapping[str, int]  # attacked commands of each shown attack


def prepare(world: World, shown: Sequence[str], seed: int, order: bool = False) -> Ground:
    """Attack the learning examinations of a world, earlier and held-back ones apart.

    Raises
    ------
    LearningError
        When none of the shown attacks can be made on them.
    """
    cut = int(len(world.learn) * (1 - HELD_BACK))
    first, late = world.learn[:cut], world.learn[cut:]
    early = drawn(clean_histories(first), TUNING_ROWS, seed)
    clean = drawn(clean_histories(late), HELD_BACK_ROWS, seed)
    kept = drawn(clean_histories(world.learn), CLEAN_ROWS, seed)
    donors, all_donors = Donors(first), Donors(world.learn)
    made = [
        attacked_histories(shown, _mixed_up(first, seed), donors, len(early), seed),
        # Whoever attacks later knows what is recorded now: donors are the earlier examinations here too.
        attacked_histories(shown, _mixed_up(late, seed), donors, len(clean), seed + 1),
        attacked_histories(shown, _mixed_up(world.learn, seed), all_donors, len(kept), seed + 2),
    ]
    flat = [[h for some in m.values() for h in some] for m in made]
    if not all(flat):
        raise LearningError(
            f"none of the shown attacks can be made in {world.name}",
            ", ".join(shown),
            "show attacks that its commands allow, or learn from more examinations",
        )
    early_table = FeatureTable.learn(commands_of(first), context=True)
    table = FeatureTable.learn(commands_of(world.learn), context=True)
    return Ground(
        Shown.of(early_table, early, flat[0], order),
        Shown.of(early_table, clean, flat[1], order),
        Shown.of(table, kept, flat[2], order),
        {name: len(commands) for name, commands in made[2].items()},
    )


def _mixed_up(examinations: Sequence[Examination], seed: int) -> list[Examination]:
    """In random order: attacks are made from the first on, and must not all come from the same weeks."""
    order = np.random.default_rng((seed, 89)).permutation(len(examinations))
    return [examinations[i] for i in order]


_ground: Last[Ground] = Last()


def _learn(
    kind: ClassifierKind, shown: tuple[str, ...], order: bool = False
) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        began = time.perf_counter()
        ground = _ground.of(world, (seed, shown, order), lambda: prepare(world, shown, seed, order))
        late = ground.held_back
        compared = []
        for i, candidate in enumerate(kind.grid):
            tick(f"{kind.name}: candidates", i / (len(kind.grid) + 1))
            model = kind.make(seed, **candidate).fit(ground.early.rows, ground.early.labels, (2,))
            odds = log_odds(model, late.rows)
            attacked = late.labels[:, 0] == ATTACKED
            told = low_rate_detection(odds[~attacked].tolist(), odds[attacked].tolist())
            compared.append((dict(candidate), told))
        chosen = max(compared, key=lambda pair: pair[1])[0]
        tick(f"{kind.name}: all", len(kind.grid) / (len(kind.grid) + 1))
        model = kind.make(seed, **chosen).fit(ground.all.rows, ground.all.labels, (2,))
        facts = {
            "classifier": kind.name,
            "shown": list(shown),
            "shown families": sorted({ATTACKS[name].family for name in shown}),
            "attacked commands": dict(ground.counts),
            "rows": len(ground.all.rows),
            "chosen": chosen,
            "compared": [list(pair) for pair in compared],
            "seconds": round(time.perf_counter() - began, 2),
        }
        return Learned(TwoClassScorer(ground.all.table, model, order), facts)

    return learn


def attack_trained(shown: Sequence[str]) -> tuple[Method, ...]:
    """The seven classifiers, and trees that see what came before, shown the attacks of these names.

    They are of ``simulation.ATTACKS`` without the null attack.

    Raises
    ------
    SettingsError
        No name, a name twice, or a name that is no attack of the development families.
    """
    allowed = [name for name, attack in ATTACKS.items() if attack.family != "null"]
    wrong = sorted({n for n in shown if n not in allowed or list(shown).count(n) > 1})
    if wrong or not shown:
        raise SettingsError(
            f"attacks that cannot be shown: {', '.join(wrong)}" if wrong else "no attack to be shown",
            "benchmark",
            f"name each once, of {', '.join(allowed)}",
        )
    return tuple(
        Method(
            f"{kind.name}, shown attacks{', in order' if order else ''}",
            Kind.ATTACK_TRAINED,
            _learn(kind, tuple(shown), order),
            about="tells clean commands from attacks of families that it was shown, with context columns"
            + (", and sees what came before" if order else ""),
            group="shown attacks" + (", in order" if order else ""),
        )
        for order, kinds in ((False, TAUGHT), (True, IN_ORDER))
        for kind in kinds
    )
