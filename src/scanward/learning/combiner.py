"""Learning the combiner: recorded commands against recorded commands that were spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, Examination
from scanward.layers.base import Layer
from scanward.layers.combiner import Combiner, features_of
from scanward.layers.graph import rounded
from scanward.learning.boosting import boost, export
from scanward.learning.corruptions import SPOILERS, Workshop, spoil

ALONE = 0.15  # share of the rows shown without their examination, so that the combiner can do without
GRAPHS = 2  # combiners averaged, each on its own draw of spoilt commands

Learned = Sequence[Layer[Any]]


@dataclass(frozen=True)
class Samples:
    """Features of clean (label 0) and spoilt (label 1) commands: ``rows`` (N, D), ``labels`` (N,), ``kinds`` (N,)."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    kinds: tuple[str, ...]


def features_along(layers: Learned, commands: Iterable[Command]) -> list[dict[str, float]]:
    """Features of each command of one examination, in order."""
    state = [layer.start() for layer in layers]
    out = []
    for command in commands:
        opinions = []
        for i, layer in enumerate(layers):
            opinion, state[i] = layer.judge(state[i], command)
            opinions.append(opinion)
        out.append(features_of(opinions))
    return out


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
    found: list[tuple[dict[str, float], int, str]] = []
    for done, examination in enumerate(examinations):
        found += [(f, 0, "clean") for f in features_along(layers, examination.commands)]
        wanted = rng.poisson(spoilt_per_clean * len(examination.commands))
        for _ in range(wanted):
            kind = kinds[int(rng.integers(len(kinds)))]
            index = int(rng.integers(len(examination.commands)))
            spoilt = spoil(workshop, examination, index, kind, rng)
            if spoilt is not None:
                along = features_along(layers, spoilt.examination.commands[: spoilt.index + 1])
                found.append((along[-1], 1, kind))
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


def learn_combiner(found: Samples, *, rounds: int = 300, seed: int = 0) -> Combiner:
    """Fit the averaged trees. Deterministic for a seed."""
    graphs = []
    for i in range(GRAPHS):
        booster = boost(
            found.rows,
            found.labels,
            objective="binary",
            rounds=rounds,
            leaves=31,
            rate=0.06,
            least=10,
            seed=seed + i,
            columns=0.5,
            lambda_l2=2.0,
        )
        graphs.append(export(booster, found.rows, what="combiner"))
    return Combiner(found.names, tuple(graphs))
