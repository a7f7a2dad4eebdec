"""Scanward in its own benchmark: whole, with each layer left out, and adapted to what is new.

The layers are learned once a world, exactly as ``learning.fit`` learns them, and shared by every row: a rule that
is left out no longer objects; a learned layer that is left out takes its features from the combiner, which is learned
again from the same judged commands. Thresholds are set by the benchmark's own rule, the same for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from scanward.calibration import Calibration
from scanward.codecs.defined_protocol_model import ProtocolBook
from scanward.commands import (
    LEARNED_LAYERS,
    RULE_LAYERS,
    Command,
    Examination,
    LayerName,
    Severity,
    Verdict,
)
from scanward.errors import LearningError
from scanward.layers.base import Layer
from scanward.layers.context_sensitive import disputes
from scanward.layers.onion import Onion
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.worlds import World, commands_of
from scanward.learning.combiner import Samples, learn_combiner
from scanward.learning.device_profile import learn_form, learn_limits
from scanward.learning.folds import LearnedLayers, Settings, crosswise, learn_layers
from scanward.learning.physics_constants import learn_physics

PREFIXES = {
    LayerName.CONTEXT_FREE: "cf.",
    LayerName.CONTEXT_SENSITIVE: "cs.",
    LayerName.PROCEDURE: "proc.",
}
BUDGET = 0.005  # of the onion itself; the benchmark sets its own thresholds and never asks it
UNCALIBRATED = {"examination": Calibration((math.inf,)), "command": Calibration((math.inf,))}
GROUP = "Scanward"
COPIES = 20  # tried on site 11: 23 % of clean examinations alerted with 1, 27 % with 5, 5 % with 20
SETTINGS = Settings(budget=BUDGET)


class Seen(NamedTuple):
    """What is kept of a judgement: a hundred thousand whole ones are gigabytes."""

    score: float | None  # None: not even well-formed, or no number
    objecting: frozenset[LayerName]  # rule layers that object to more than for information
    disputed: bool  # sources of the context disagree


def seen(onion: Onion, history: Sequence[Command]) -> list[Seen]:
    """Every command of an examination as the onion judges it."""
    out = []
    for command, judgement in zip(history, onion.judge_all(history), strict=True):
        objecting = frozenset(
            o.layer
            for o in judgement.opinions
            if o.layer in RULE_LAYERS and o.severity > Severity.INFORMATION
        )
        score = judgement.score
        told = None if score is None or math.isnan(score) else score
        out.append(Seen(told, objecting, bool(disputes(command.context))))
    return out


@dataclass
class Made:
    """What the rows of one world share."""

    onion: Onion
    samples: Samples
    settings: Settings
    methods: dict[str, str]  # the classifier kept for each context field
    learn: tuple[
        Examination, ...
    ]  # what it learned from: kept, so that no other can come to have its identity
    judged: list[tuple[Sequence[Sequence[Command]], list[list[Seen]]]] = field(default_factory=list)

    def judge(self, histories: Sequence[Sequence[Command]]) -> list[list[Seen]]:
        """What the whole onion says, kept for the other rows that ask about the same commands."""
        for known, told in self.judged:
            if _same(known, histories):
                return told
        told = [seen(self.onion, h) for h in histories]
        self.judged.append((histories, told))
        return told


def _same(one: Sequence[Sequence[Command]], other: Sequence[Sequence[Command]]) -> bool:
    """Whether they are the very same command objects (the kept ones cannot have been freed meanwhile)."""
    return len(one) == len(other) and all(
        len(a) == len(b) and all(c is d for c, d in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


_made: dict[tuple[str, int], Made] = {}  # of the last world alone


def made_of(world: World, seed: int, tick: Tick) -> Made:
    """Learn the layers of this world, or take them if it was the last one."""
    key = (world.name, seed)
    if key not in _made or _made[key].learn is not world.learn:
        _made.clear()
        settings = replace(SETTINGS, seed=seed)
        layers, found, compared = crosswise(world.learn, settings, tick)
        onion = assembled(layers, found, world.learn, settings)
        _made[key] = Made(onion, found, settings, {c.field: c.kept for c in compared}, world.learn)
    return _made[key]


def assembled(
    layers: LearnedLayers, found: Samples, learn: Sequence[Examination], settings: Settings
) -> Onion:
    """An onion without thresholds: it objects by rules and scores by its layers."""
    combiner = learn_combiner(found, rounds=settings.rounds, seed=settings.seed)
    return Onion(layers[0].encoder, rules_of(learn), *layers, combiner, settings.budget, UNCALIBRATED, {})


def rules_of(learn: Sequence[Examination]) -> tuple[Layer[Any], ...]:
    """Layers 1 to 4, without a protocol book: the simulated sites have none."""
    commands = commands_of(learn)
    return (
        learn_form(commands),
        learn_physics(commands),
        learn_limits(commands),
        ProtocolBookLayer(ProtocolBook()),
    )


def without_layer(found: Samples, layer: LayerName) -> Samples:
    """The samples without the features of one learned layer."""
    keep = [i for i, n in enumerate(found.names) if not n.startswith(PREFIXES[layer])]
    if len(keep) in (0, len(found.names)):
        raise LearningError(
            f"no feature, or every feature, begins with '{PREFIXES[layer]}'", "benchmark", "report this"
        )
    return replace(found, names=tuple(found.names[i] for i in keep), rows=found.rows[:, keep])


@dataclass(frozen=True)
class OnionScorer:
    """An onion's score and its rules' objections, those of ``left_out`` not counted.

    ``onion`` judges, or ``judge`` where rows share its judging; it is asked again without its form layer where
    that is left out and stopped the judging of a command.
    """

    onion: Onion
    judge: Callable[[Sequence[Sequence[Command]]], list[list[Seen]]] | None = None
    left_out: frozenset[LayerName] = frozenset()
    disputes_count: bool = True

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """One answer a command."""
        judged = [seen(self.onion, h) for h in histories] if self.judge is None else self.judge(histories)
        out = []
        for history, whole in zip(histories, judged, strict=True):
            told = whole
            if LayerName.FORM in self.left_out and any(s.score is None for s in whole):
                rules = tuple(r for r in self.onion.rules if r.name is not LayerName.FORM)
                told = seen(replace(self.onion, rules=rules), history)
            out.append([self._answer(s) for s in told])
        return out

    def _answer(self, one: Seen) -> Answer:
        if one.score is None:
            return Answer(0.0, True)  # not fit to be scored: the whole judge never releases it
        objects = bool(one.objecting - self.left_out) or (self.disputes_count and one.disputed)
        return Answer(one.score, objects)


def _whole(world: World, seed: int, tick: Tick) -> Learned:
    made = made_of(world, seed, tick)
    return Learned(OnionScorer(made.onion, made.judge), {"spoilt kinds": sorted(set(made.samples.kinds))})


def _without_rules(*layers: LayerName, disputes_count: bool = True) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        made = made_of(world, seed, tick)
        return Learned(OnionScorer(made.onion, made.judge, frozenset(layers), disputes_count))

    return learn


def _without_learned(layer: LayerName) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        made = made_of(world, seed, tick)
        tick("combiner", 0.0)
        found = without_layer(made.samples, layer)
        combiner = learn_combiner(found, rounds=made.settings.rounds, seed=made.settings.seed)
        onion = replace(made.onion, combiner=combiner)
        return Learned(OnionScorer(onion))

    return learn


def _adapted(world: World, seed: int, tick: Tick) -> Learned:
    """Layers and rules learned again with the first examinations of what is new; the combiner stays.

    Where rules object to most of them though the device is known, the device itself has changed (new software), and
    what it was told before outweighs them: then each counts ``COPIES`` times. On a new device that made it worse.
    """
    made = made_of(world, seed, tick)
    (test,) = world.tests
    known = {c.device.key for c in commands_of(world.learn)}
    judged = [(e, made.onion.judge_all(e.commands)) for e in test.first]
    changed = [
        any(j.verdict is not Verdict.RELEASE for j in told)
        for e, told in judged
        if e.commands[0].device.key in known
    ]
    copies = COPIES if changed and sum(changed) > len(changed) / 2 else 1
    together = (*world.learn, *_repeated(test.first, copies))
    layers = learn_layers(together, made.settings, tick, made.methods)
    onion = Onion(
        layers[0].encoder,
        rules_of(together),
        *layers,
        made.onion.combiner,
        made.settings.budget,
        UNCALIBRATED,
        {},
    )
    facts = {
        "adapted to": f"{len(commands_of(test.first))} commands of {len(test.first)} examinations",
        "each counted": copies,
    }
    return Learned(OnionScorer(onion), facts)


def _repeated(examinations: Sequence[Examination], times: int) -> list[Examination]:
    """Each examination so many times, every copy under a name of its own."""
    out = list(examinations)
    for i in range(1, times):
        for e in examinations:
            name = f"{e.identifier}/copy-{i}"
            out.append(Examination(name, tuple(replace(c, examination=name) for c in e.commands)))
    return out


OURS: tuple[Method, ...] = (
    Method("Scanward", Kind.OURS, _whole, about="the whole onion, as it judges in the guard", group=GROUP),
    Method(
        "Scanward, learned layers alone",
        Kind.OURS,
        _without_rules(*RULE_LAYERS, disputes_count=False),
        about="the calibrated number alone",
        group=GROUP,
    ),
    *(
        Method(
            f"Scanward without {layer}",
            Kind.OURS,
            _without_rules(layer),
            about=f"what the {layer} layer is worth",
            group=GROUP,
        )
        for layer in RULE_LAYERS
        if layer is not LayerName.PROTOCOL_BOOK  # the simulated sites have no book: nothing to leave out
    ),
    *(
        Method(
            f"Scanward without {layer}",
            Kind.OURS,
            _without_learned(layer),
            about=f"what the {layer} layer is worth; the combiner is learned again",
            group=GROUP,
        )
        for layer in LEARNED_LAYERS
    ),
    Method(
        "Scanward, adapted",
        Kind.OURS,
        _adapted,
        about="layers learned again with the first examinations of what is new",
        per_test=True,
        needs_first=True,
        group=GROUP,
    ),
)
