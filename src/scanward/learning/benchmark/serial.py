"""Two layers in series, as published: a context-free one on the command's content, a context-sensitive one behind it.

The published arrangement (Mahler et al., Artif Intell Med 123:102229, 2022) puts the best of several unsupervised
methods in front and a classifier of the clinical context behind. Here the front is the unsupervised method, without
context columns, that tuning finds best; behind stands each of the classifiers, with all its contexts together.

Scores of the two layers have no common scale. Each becomes a tail: how rare so strange a command is among clean ones
held back, in nats. The two are then one number, so that the benchmark's one conformal rule sets its threshold:

* *either objects* (as published: what the front passes, the layer behind may still object to). Each layer has a share
  of the budget: the larger of the two tails, each with the logarithm of its share added.
* *both object* (the thrifty reading: the layer behind is asked about what the front holds strange in least degree, and
  decides). Commands below the front's loose threshold come after all others, in the front's order.

The share and the loose threshold are chosen among four candidates each, like everything else, on spoilt commands held
back. The runner's rule recalibrates the whole, so neither can break the budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scanward.commands import Command
from scanward.errors import SettingsError
from scanward.learning.baseline_detectors import BASELINES
from scanward.learning.baselines import HELD_BACK, Tuned, low_rate_detection, tune
from scanward.learning.benchmark.answers import Answer, Floats, Kind, Learned, Method, Tick
from scanward.learning.benchmark.classifiers import CLASSIFIERS, ClassifierKind
from scanward.learning.benchmark.sharing import Last, Remembered
from scanward.learning.benchmark.supervised import Taught, ground_of, group_of, summed, taught_of
from scanward.learning.benchmark.tails import Tail
from scanward.learning.benchmark.worlds import World, commands_of

SHARES = (0.2, 0.4, 0.6, 0.8)  # of the budget that the front has
OPENED = (0.02, 0.05, 0.15, 0.4)  # share of clean commands that the front passes on to be judged


def either(front: Floats, behind: Floats, share: float) -> Floats:
    """One number for two tails, of which either may object; the front has ``share`` of the budget."""
    out: Floats = np.maximum(front + np.log(share), behind + np.log1p(-share))
    return out


def both(front: Floats, behind: Floats, opened: float) -> Floats:
    """One number for two tails: the one behind where the front reaches ``opened``, all others below zero."""
    short = front + np.log(opened)
    out: Floats = np.where(short >= 0, behind, short)
    return out


Joining = Callable[[Floats, Floats, float], Floats]
JOININGS: dict[str, tuple[Joining, tuple[float, ...], str]] = {
    "either objects": (either, SHARES, "the front's share of the budget"),
    "both object": (both, OPENED, "the front's loose threshold"),
}


@dataclass(frozen=True)
class Front:
    """The context-free layer: the best unsupervised method, and the tails of commands held back."""

    best: Tuned
    tail: Tail
    clean: Floats  # tails of the held-back clean commands, (N,)
    spoilt: Floats  # and of the spoilt ones, (M,)
    facts: dict[str, Any]
    kept: Remembered = field(default_factory=Remembered)

    def of(self, histories: Sequence[Sequence[Command]]) -> Floats:
        """The tail of every command of ``histories``, kept for the other rows that ask about the same commands."""
        return self.kept.of(
            histories, lambda some: self.tail.nats(np.array(self.best.score(some), dtype=np.float64))
        )


def learn_front(world: World, names: Sequence[str], seed: int, tick: Tick) -> Front:
    """Tune the named unsupervised methods without context, keep the best by its figure on spoilt commands."""
    began = time.perf_counter()
    tuned = tune(world.learn, names=names, contexts=(False,), seed=seed, tick=tick)
    figures = {t.name: max(told for _, told in t.compared) for t in tuned}
    best = max(tuned, key=lambda t: figures[t.name])
    ground = ground_of(world, seed)
    # The kept one has learned from the commands held back, and would find them common: another, which has not, tells
    # the tails.
    cut = int(len(world.learn) * (1 - HELD_BACK))
    early = ground.early_table.rows(commands_of(world.learn[:cut]))
    twin = BASELINES[best.name].make(seed, **best.chosen).fit(early)
    clean = np.asarray(twin.score(ground.clean.rows), dtype=np.float64)
    tail = Tail.of(clean)
    spoilt = tail.nats(np.asarray(twin.score(ground.spoilt.rows), dtype=np.float64))
    facts = {
        "front": best.name,
        "front chosen": dict(best.chosen),
        "fronts compared": figures,
        "seconds of the front": round(time.perf_counter() - began, 2),
    }
    return Front(best, tail, tail.nats(clean), spoilt, facts)


_front: Last[Front] = Last()


@dataclass(frozen=True)
class SerialScorer:
    """Two layers and how they are joined."""

    front: Front
    taught: Taught
    behind: Tail
    join: Callable[[Floats, Floats], Floats]

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """Scores alone: neither layer has rules."""
        content = self.front.of(histories)
        context = self.behind.nats(summed(self.taught.of(histories)))
        scores = iter(self.join(content, context).tolist())
        return [[Answer(next(scores)) for _ in h] for h in histories]


def _learn(
    kind: ClassifierKind, names: tuple[str, ...], joining: str
) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        front = _front.of(world, (seed, names), lambda: learn_front(world, names, seed, tick))
        taught = taught_of(world, kind, seed, tick)
        held_back = [summed(nats) for nats in taught.held_back]
        behind = Tail.of(held_back[0])
        clean, spoilt = (behind.nats(s) for s in held_back)
        join, candidates, what = JOININGS[joining]
        compared = []
        for candidate in candidates:
            told = low_rate_detection(
                join(front.clean, clean, candidate).tolist(), join(front.spoilt, spoilt, candidate).tolist()
            )
            compared.append((candidate, told))
        chosen = max(compared, key=lambda pair: pair[1])[0]
        facts = {
            **front.facts,
            "behind": taught.facts,
            "joined": joining,
            what: chosen,
            "compared": [list(pair) for pair in compared],
        }
        return Learned(SerialScorer(front, taught, behind, lambda a, b: join(a, b, chosen)), facts)

    return learn


def serial(names: Sequence[str] = tuple(BASELINES)) -> tuple[Method, ...]:
    """Two layers for each classifier and each way of joining; ``names`` are the methods that may stand in front.

    Raises
    ------
    SettingsError
        No name, or one that is not in ``baseline_detectors.BASELINES``.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown or not names:
        raise SettingsError(
            f"no such unsupervised method: {', '.join(unknown)}" if unknown else "nothing to stand in front",
            "benchmark",
            f"name some of {', '.join(BASELINES)}",
        )
    return tuple(
        Method(
            f"context-free, then {kind.name} ({joining})",
            Kind.SERIAL,
            _learn(kind, tuple(names), joining),
            about="the best unsupervised method in front, all contexts by the classifier behind",
            group=group_of(kind),
        )
        for kind in CLASSIFIERS.values()
        for joining in JOININGS
    )


SERIAL: tuple[Method, ...] = serial()
