"""Learning the combiner: recorded commands against recorded commands that were spoilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, Examination
from scanward.layers.base import Layer
from scanward.layers.combiner import Combiner, features_of
from scanward.layers.graph import Grove, rounded
from scanward.learning.boosting import boost, export
from scanward.learning.corruptions import SPOILERS, WEIGHTS, Spoilt, Workshop, spoil

ALONE = 0.15  # share of the rows shown without their examination, so that the combiner can do without
GRAPHS = 3  # combiners averaged, each with its own draw of rows and columns; a fourth is not worth its time

Learned = Sequence[Layer[Any]]


@dataclass(frozen=True)
class Samples:
    """Features of clean (label 0) and spoilt (label 1) commands: ``rows`` (N, D), ``labels`` (N,), ``kinds`` (N,)."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    kinds: tuple[str, ...]


State = tuple[Any, ...]


def start(layers: Learned) -> State:
    """State of several layers before the first command."""
    return tuple(layer.start() for layer in layers)


def step(layers: Learned, state: State, command: Command) -> tuple[dict[str, float], State]:
    """Features of one command, and the state after it."""
    opinions, after = [], []
    for layer, before in zip(layers, state, strict=True):
        opinion, new = layer.judge(before, command)
        opinions.append(opinion)
        after.append(new)
    return features_of(opinions), tuple(after)


def samples(
    layers: Learned,
    examinations: Sequence[Examination],
    workshop: Workshop,
    *,
    spoilt_per_clean: float = 2.0,
    leave_out: str = "",
    seed: int = 0,
    tick: Callable[[float], None] = lambda _: None,
) -> Samples:
    """Judge every examination clean, and spoilt in ways drawn at random (``leave_out`` names one not used)."""
    rng = np.random.default_rng(seed)
    kinds = [k for k in SPOILERS if k != leave_out]
    weights = np.array([WEIGHTS[k] for k in kinds])
    weights /= weights.sum()
    found: list[tuple[dict[str, float], int, str]] = []
    for done, examination in enumerate(examinations):
        states = [start(layers)]
        for command in examination.commands:
            features, state = step(layers, states[-1], command)
            found.append((features, 0, "clean"))
            states.append(state)
        wanted = rng.poisson(spoilt_per_clean * len(examination.commands))
        for _ in range(wanted):
            kind = kinds[int(rng.choice(len(kinds), p=weights))]
            index = int(rng.integers(len(examination.commands)))
            spoilt = spoil(workshop, examination, index, kind, rng)
            if spoilt is not None:
                found.append((_last(layers, states, examination, spoilt), 1, kind))
        tick((done + 1) / len(examinations))
    names = tuple(sorted({name for features, _, _ in found for name in features}))
    rows = np.array([[features.get(n, np.nan) for n in names] for features, _, _ in found], dtype=np.float64)
    alone = rng.random(len(rows)) < ALONE
    local = np.array([n.startswith("proc.") or n in ("cs.earlier", "cs.beyond_earlier") for n in names])
    rows[np.ix_(alone, local)] = np.nan
    return Samples(
        names,
        rounded(rows),
        np.array([label for _, label, _ in found], dtype=np.int64),
        tuple(kind for _, _, kind in found),
    )


def _last(layers: Learned, states: Sequence[State], clean: Examination, spoilt: Spoilt) -> dict[str, float]:
    """Features of the spoilt command; what comes before the first difference has been judged already."""
    commands = spoilt.examination.commands
    same = 0
    while same < min(spoilt.index, len(clean.commands)) and commands[same] is clean.commands[same]:
        same += 1
    state = states[same]
    features: dict[str, float] = {}
    for command in commands[same : spoilt.index + 1]:
        features, state = step(layers, state, command)
    return features


def learn_combiner(found: Samples, *, rounds: int = 200, seed: int = 0) -> Combiner:
    """Fit the averaged trees. Deterministic for a seed."""
    groves = []
    for i in range(GRAPHS):
        booster = boost(
            found.rows,
            found.labels,
            objective="binary",
            rounds=rounds,
            leaves=127,
            rate=0.06,
            least=3,
            seed=seed + i,
            columns=0.5,
            lambda_l2=0.0,
        )
        groves.append(Grove(export(booster, found.rows, what="combiner").model, (1,)))
    return Combiner(found.names, tuple(groves))
