"""Classifiers that were shown attacks: what a site gets that trusts a catalogue of attacks to be all there is.

The same seven classifiers, here between clean commands and attacked ones, with machine and context columns. The attacks
are those of the families named as shown, made on the world's own learning examinations and never on a test; only the
development families may be shown, and the runner leaves the shown families' cases out of these methods' figures. Each
command is judged by itself, as everywhere among the baselines.

Candidates are compared on learning examinations held back, with shown attacks made there: a family that was not shown
is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.commands import Command, Examination
from scanward.errors import LearningError, SettingsError
from scanward.learning.baselines import HELD_BACK, FeatureTable, low_rate_detection
from scanward.learning.benchmark.answers import Answer, Floats, Kind, Learned, Method, Tick
from scanward.learning.benchmark.cases import cases_of
from scanward.learning.benchmark.classifiers import CLASSIFIERS, Classifier, ClassifierKind
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.supervised import CHUNK, drawn
from scanward.learning.benchmark.worlds import World, commands_of
from scanward.simulation import ATTACKS, Donors

CLEAN, ATTACKED = 0, 1
CLEAN_ROWS = 8_000  # clean commands learned from, with at most as many attacked ones
TUNING_ROWS = 4_000  # the same while candidates are compared
HELD_BACK_ROWS = 3_000  # clean commands held back, with at most as many attacked ones
FAINTEST = 1e-9  # a probability below this says no more


def attacked_commands(
    shown: Sequence[str], examinations: Sequence[Examination], donors: Donors, most: int, seed: int
) -> dict[str, list[Command]]:
    """Attacked commands of ``examinations``: attack -> one command of each case, about ``most`` in all.

    Every shown attack gets the same number; one that few examinations allow gives what it can.
    """
    each = max(1, most // len(shown))
    out = {}
    for name in shown:
        rng = np.random.default_rng((seed, 83, *name.encode()))
        cases = cases_of(ATTACKS[name], examinations, donors, each, seed)
        # Of an attack on a whole examination one command, or its many would stand for all attacks.
        out[name] = [c.commands[c.indices[int(rng.integers(len(c.indices)))]] for c in cases]
    return out


@dataclass(frozen=True)
class Shown:
    """Rows (N, D) and whether they were attacked (N, 1), for one comparison or for the kept classifier."""

    table: FeatureTable
    rows: Floats
    labels: Any

    @classmethod
    def of(cls, table: FeatureTable, clean: Sequence[Command], attacked: Sequence[Command]) -> Shown:
        """Clean ones first."""
        labels = np.array([CLEAN] * len(clean) + [ATTACKED] * len(attacked), dtype=np.int64)[:, None]
        return cls(table, table.rows([*clean, *attacked]), labels)


@dataclass(frozen=True)
class Ground:
    """What all attack-trained classifiers of a world learn from."""

    early: Shown
    held_back: Shown
    all: Shown
    counts: Mapping[str, int]  # attacked commands of each shown attack


def prepare(world: World, shown: Sequence[str], seed: int) -> Ground:
    """Attack the learning examinations of a world, earlier and held-back ones apart.

    Raises
    ------
    LearningError
        When none of the shown attacks can be made on them.
    """
    cut = int(len(world.learn) * (1 - HELD_BACK))
    first, late = world.learn[:cut], world.learn[cut:]
    early_commands, late_commands, everything = (commands_of(e) for e in (first, late, world.learn))
    early = drawn(early_commands, TUNING_ROWS, seed)
    clean = drawn(late_commands, HELD_BACK_ROWS, seed)
    kept = drawn(everything, CLEAN_ROWS, seed)
    donors, all_donors = Donors(first), Donors(world.learn)
    made = [
        attacked_commands(shown, _mixed_up(first, seed), donors, len(early), seed),
        # Whoever attacks later knows what is recorded now: donors are the earlier examinations here too.
        attacked_commands(shown, _mixed_up(late, seed), donors, len(clean), seed + 1),
        attacked_commands(shown, _mixed_up(world.learn, seed), all_donors, len(kept), seed + 2),
    ]
    flat = [[c for some in m.values() for c in some] for m in made]
    if not all(flat):
        raise LearningError(
            f"none of the shown attacks can be made in {world.name}",
            ", ".join(shown),
            "show attacks that its commands allow, or learn from more examinations",
        )
    early_table = FeatureTable.learn(early_commands, context=True)
    table = FeatureTable.learn(everything, context=True)
    return Ground(
        Shown.of(early_table, early, flat[0]),
        Shown.of(early_table, clean, flat[1]),
        Shown.of(table, kept, flat[2]),
        {name: len(commands) for name, commands in made[2].items()},
    )


def _mixed_up(examinations: Sequence[Examination], seed: int) -> list[Examination]:
    """In random order: attacks are made from the first on, and must not all come from the same weeks."""
    order = np.random.default_rng((seed, 89)).permutation(len(examinations))
    return [examinations[i] for i in order]


def log_odds(model: Classifier, rows: Floats) -> Floats:
    """Log odds of being attacked, shape (N,)."""
    logs = np.maximum(model.logs(rows)[0], np.log(FAINTEST))
    out: Floats = logs[:, ATTACKED] - logs[:, CLEAN]
    return out


@dataclass(frozen=True)
class AttackScorer:
    """Log odds of the classifier."""

    table: FeatureTable
    model: Classifier

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """Scores alone: a classifier has no rules."""
        commands = [c for h in histories for c in h]
        parts = [commands[at : at + CHUNK] for at in range(0, len(commands), CHUNK)]
        scores = iter(s for part in parts for s in log_odds(self.model, self.table.rows(part)).tolist())
        return [[Answer(next(scores)) for _ in h] for h in histories]


_ground: Last[Ground] = Last()


def _learn(kind: ClassifierKind, shown: tuple[str, ...]) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        began = time.perf_counter()
        ground = _ground.of(world, (seed, shown), lambda: prepare(world, shown, seed))
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
        return Learned(AttackScorer(ground.all.table, model), facts)

    return learn


def attack_trained(shown: Sequence[str]) -> tuple[Method, ...]:
    """The seven classifiers, shown the attacks of these names (``simulation.ATTACKS`` without the null attack).

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
            f"{kind.name}, shown attacks",
            Kind.ATTACK_TRAINED,
            _learn(kind, tuple(shown)),
            about="tells clean commands from attacks of families that it was shown, with context columns",
            group="shown attacks",
        )
        for kind in CLASSIFIERS.values()
    )
