"""Scanward in its own benchmark: whole, with each layer left out, and adapted to what is new.

The layers are learned and asked once a world, exactly as ``learning.fit`` learns them, and shared by every row: a rule
that is left out no longer objects; a learned layer that is left out takes its features from the combiner, which is
learned again from the same judged commands and scores again what the layers said. Thresholds are set by the benchmark's
own rule, the same for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scanward.calibration import Calibration
from scanward.commands import (
    LEARNED_LAYERS,
    RULE_LAYERS,
    Command,
    Examination,
    Judgement,
    LayerName,
    Severity,
)
from scanward.errors import LearningError
from scanward.layers.combiner import Combiner
from scanward.layers.context_sensitive import disputes
from scanward.layers.onion import Onion, stranger
from scanward.learning.benchmark.adapting import copies, facts_of, rules_of, together
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.worlds import World
from scanward.learning.combiner import Samples, learn_combiner
from scanward.learning.folds import LearnedLayers, Settings, crosswise, learn_layers

PREFIXES = {
    LayerName.CONTEXT_FREE: "cf.",
    LayerName.CONTEXT_SENSITIVE: "cs.",
    LayerName.PROCEDURE: "proc.",
}
BUDGET = 0.005  # of the onion itself; the benchmark sets its own thresholds and never asks it
UNCALIBRATED = {"examination": Calibration((math.inf,)), "command": Calibration((math.inf,))}
GROUP = "Scanward"
SETTINGS = Settings(budget=BUDGET)


Row = NDArray[np.float32]


class Seen(NamedTuple):
    """What is kept of a judgement: a hundred thousand whole ones are gigabytes."""

    score: float | None  # None: not even well-formed, or no number
    objecting: frozenset[LayerName]  # rule layers that object to more than for information
    disputed: bool  # sources of the context disagree
    rows: tuple[Row, ...] = ()  # what the combiner was asked: as told, and without what only the host says


@dataclass(frozen=True)
class Noting(Combiner):
    """A combiner that keeps what it is asked, by the order of its names (an eighth of a kilobyte a question)."""

    asked: list[Row] = field(default_factory=list)

    def score(self, features: Mapping[str, float]) -> float:
        """As the combiner scores."""
        self.asked.append(np.array([features.get(n, math.nan) for n in self.names], np.float32))
        return super().score(features)


def noted(onion: Onion, history: Sequence[Command], combiner: Noting) -> list[Seen]:
    """As ``seen``, with the rows that ``combiner``, the onion's own, was asked."""
    out = []
    state = onion.start()
    for command in history:
        combiner.asked.clear()
        judgement, state = onion.judge(state, command)
        out.append(_seen(command, judgement)._replace(rows=tuple(combiner.asked)))
    return out


def seen(onion: Onion, history: Sequence[Command]) -> list[Seen]:
    """Every command of an examination as the onion judges it."""
    return [_seen(c, j) for c, j in zip(history, onion.judge_all(history), strict=True)]


def _seen(command: Command, judgement: Judgement) -> Seen:
    objecting = frozenset(
        o.layer for o in judgement.opinions if o.layer in RULE_LAYERS and o.severity > Severity.INFORMATION
    )
    score = judgement.score
    told = None if score is None or math.isnan(score) else score
    return Seen(told, objecting, bool(disputes(command.context)))


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
    formless: dict[tuple[int, ...], tuple[Sequence[Command], list[Seen]]] = field(default_factory=dict)

    # Each once: an onion lays its trees out anew, which takes longer than many judgements.

    @cached_property
    def without_form(self) -> Onion:
        """The onion without its form layer."""
        return formless(self.onion)

    @cached_property
    def listening(self) -> tuple[Onion, Noting]:
        """The onion with a combiner that keeps what it is asked, and that combiner."""
        combiner = self.onion.combiner
        noting = Noting(combiner.names, combiner.groves)
        return replace(self.onion, combiner=noting), noting

    def judge(self, histories: Sequence[Sequence[Command]]) -> list[list[Seen]]:
        """What the whole onion says, kept for the other rows that ask about the same commands."""
        for known, told in self.judged:
            if _same(known, histories):
                return told
        onion, noting = self.listening
        told = [noted(onion, h, noting) for h in histories]
        self.judged.append((histories, told))
        return told

    def judge_formless(self, history: Sequence[Command]) -> list[Seen]:
        """An examination judged without the form layer, which stopped the judging of some of its commands."""
        key = tuple(
            map(id, history)
        )  # the commands are kept beside it: no other can come to have their identity
        if key not in self.formless:
            self.formless[key] = (tuple(history), seen(self.without_form, history))
        return self.formless[key][1]


def formless(onion: Onion) -> Onion:
    """An onion without its form layer."""
    return replace(onion, rules=tuple(r for r in onion.rules if r.name is not LayerName.FORM))


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

    ``onion`` judges, or ``made`` where rows share its judging; a command whose judging the form layer stopped is judged
    again where that is left out.
    """

    onion: Onion
    made: Made | None = None
    left_out: frozenset[LayerName] = frozenset()
    disputes_count: bool = True

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """One answer a command."""
        whole = [seen(self.onion, h) for h in histories] if self.made is None else self.made.judge(histories)
        told = [self._told(history, one) for history, one in zip(histories, whole, strict=True)]
        return [[self._answer(one) for one in history] for history in told]

    def _told(self, history: Sequence[Command], whole: list[Seen]) -> list[Seen]:
        if LayerName.FORM not in self.left_out or all(s.score is not None for s in whole):
            return whole
        return seen(formless(self.onion), history) if self.made is None else self.made.judge_formless(history)

    def _answer(self, one: Seen) -> Answer:
        if one.score is None:
            return Answer(0.0, True)  # not fit to be scored: the whole judge never releases it
        objects = bool(one.objecting - self.left_out) or (self.disputes_count and one.disputed)
        return Answer(one.score, objects)


def _whole(world: World, seed: int, tick: Tick) -> Learned:
    made = made_of(world, seed, tick)
    return Learned(OnionScorer(made.onion, made), {"spoilt kinds": sorted(set(made.samples.kinds))})


def _without_rules(*layers: LayerName, disputes_count: bool = True) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        made = made_of(world, seed, tick)
        return Learned(OnionScorer(made.onion, made, frozenset(layers), disputes_count))

    return learn


@dataclass(frozen=True)
class RescoringScorer:
    """What the layers of ``made`` said, scored by another combiner that was learned without some of it."""

    made: Made
    combiner: Combiner

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """One answer a command; rules object as ever."""
        return [[self._answer(one) for one in told] for told in self.made.judge(histories)]

    def _answer(self, one: Seen) -> Answer:
        if one.score is None:
            return Answer(0.0, True)
        names = self.made.onion.combiner.names
        scores = [self.combiner.score(dict(zip(names, row.tolist(), strict=True))) for row in one.rows]
        return Answer(reduce(stranger, scores), bool(one.objecting) or one.disputed)


def _without_learned(layer: LayerName) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        made = made_of(world, seed, tick)
        tick("combiner", 0.0)
        found = without_layer(made.samples, layer)
        combiner = learn_combiner(found, rounds=made.settings.rounds, seed=made.settings.seed)
        return Learned(RescoringScorer(made, combiner))

    return learn


def _adapted(world: World, seed: int, tick: Tick) -> Learned:
    """Layers and rules learned again with the first examinations of what is new; the combiner stays."""
    made = made_of(world, seed, tick)
    (test,) = world.tests
    times = copies(world, test)
    learn = together(world, test, times)
    layers = learn_layers(learn, made.settings, tick, made.methods)
    onion = Onion(
        layers[0].encoder,
        rules_of(learn),
        *layers,
        made.onion.combiner,
        made.settings.budget,
        UNCALIBRATED,
        {},
    )
    return Learned(OnionScorer(onion), facts_of(test, times))


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
