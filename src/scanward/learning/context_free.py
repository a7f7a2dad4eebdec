"""Learning the context-free layer: field models, landmarks, the masked network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scanward.layers.context_free import ContextFreeLayer, FieldModel, unrelated
from scanward.layers.encoding import Encoder, Rows
from scanward.layers.graph import Graph, rounded
from scanward.layers.neighbours import Neighbours
from scanward.learning.boosting import boost, export, merge
from scanward.learning.deep import train_masked

LANDMARKS = 500  # recorded commands kept for the neighbour distance
NEAREST = 5
MODELS = 8  # field models at most: each costs time at every decision
# Modelled first when they are there; the rest follow in order of name.
IMPORTANT = (
    "CTDIvol",
    "XRayTubeCurrentInmA",
    "KVP",
    "RevolutionTime",
    "SpiralPitchFactor",
    "TotalCollimationWidth",
    "DataCollectionDiameter",
    "ScanLength",
    "NoiseIndex",
)


def learn_context_free(
    encoder: Encoder,
    rows: Rows,
    *,
    seed: int = 0,
    steps: int = 600,
    tick: Callable[[float], None] = lambda _: None,
) -> ContextFreeLayer:
    """Fit the three methods on N clean commands."""
    net = train_masked(encoder, rows, seed=seed, steps=steps, tick=lambda share: tick(0.6 * share))
    models: list[FieldModel] = []
    graphs: list[Graph] = []
    columns: list[NDArray[np.int64]] = []
    targets = _targets(encoder, rows)
    for i, target in enumerate(targets):
        model, graph = _field_model(encoder, rows, target, seed)
        inputs = np.array(unrelated(encoder, target), dtype=np.int64)
        models.append(model)
        graphs.append(graph)
        columns.append(np.concatenate([inputs, len(encoder.fields) + inputs]))
        tick(0.6 + 0.4 * (i + 1) / len(targets))
    grove = merge(graphs, columns, 2 * len(encoder.fields), what="field models")
    return ContextFreeLayer(encoder, net, tuple(models), grove, learn_neighbours(encoder, rows, seed))


def _targets(encoder: Encoder, rows: Rows) -> list[int]:
    varied = [i for i in encoder.machine if len(np.unique(rows.codes[:, i])) > 1]
    rank = {name: i for i, name in enumerate(IMPORTANT)}
    varied.sort(key=lambda i: (rank.get(encoder.fields[i].name, len(rank)), encoder.fields[i].name))
    return varied[:MODELS]


def _field_model(encoder: Encoder, rows: Rows, target: int, seed: int) -> tuple[FieldModel, Graph]:
    inputs = np.array(unrelated(encoder, target), dtype=np.int64)
    features = rounded(np.column_stack([rows.codes[:, inputs], rows.numbers[:, inputs]]))
    name = encoder.fields[target].name
    none: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    if encoder.fields[target].kind == "continuous":
        have = ~np.isnan(rows.numbers[:, target])
        y = rows.numbers[have, target]
        x = features[have]
        held = np.arange(len(y)) % 5 == 0
        # Absolute error: a few odd commands must not move what is expected.
        probe = boost(x[~held], y[~held], objective="regression_l1", rounds=80, seed=seed)
        left = y[held] - np.asarray(probe.predict(x[held]))
        spread = max(1.4826 * float(np.median(np.abs(left))), 0.02)
        booster = boost(x, y, objective="regression_l1", rounds=80, seed=seed)
        return FieldModel(target, spread, none), export(booster, x, what=f"field model of {name}")
    classes, y = np.unique(rows.codes[:, target], return_inverse=True)
    rounds = max(8, min(30, 160 // len(classes)))
    booster = boost(
        features, y, objective="multiclass", rounds=rounds, classes=len(classes), rate=0.15, seed=seed
    )
    graph = export(booster, features, what=f"field model of {name}", raw=False)
    return FieldModel(target, 1.0, classes.astype(np.int64)), graph


def learn_neighbours(encoder: Encoder, rows: Rows, seed: int) -> Neighbours:
    """Landmarks drawn so that every protocol element is there before any is there twice."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows.codes))
    turn = np.empty(len(order), dtype=np.int64)
    met: dict[int, int] = {}
    for at in order:
        group = int(rows.groups[at, 0])
        turn[at] = met[group] = met.get(group, -1) + 1
    picked = order[np.argsort(turn[order], kind="stable")][: min(LANDMARKS, len(order))]
    fields = np.array(encoder.machine, dtype=np.int64)
    scale = np.zeros(len(fields), dtype=np.float32)
    for i, f in enumerate(fields):
        if encoder.fields[f].kind == "continuous":
            numbers = rows.numbers[:, f]
            numbers = numbers[~np.isnan(numbers)]
            if len(numbers):
                scale[i] = max(float(np.quantile(numbers, 0.95) - np.quantile(numbers, 0.05)), 1e-6)
    return Neighbours(
        fields,
        rows.codes[np.ix_(picked, fields)].astype(np.int16),
        rows.numbers[np.ix_(picked, fields)].astype(np.float32),
        scale,
        min(NEAREST, len(picked)),
    )
