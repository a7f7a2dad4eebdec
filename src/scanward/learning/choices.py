"""Learning which setting is chosen for whom (the models of ``layers.choices``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Group
from scanward.layers.choices import LEVELS, STEPS, Choice, steps_away
from scanward.layers.encoding import DOSE_BLOCK, ELEMENT, FIRST, REGION, TYPE, Encoder, Rows
from scanward.layers.graph import Graph, rounded
from scanward.layers.usual import UsualValues
from scanward.learning.boosting import boost, export

# Settings that are chosen by patient and habit, and that reach the patient.
CHOSEN = ("KVP", "DataCollectionDiameter", "RevolutionTime", "PatientPosition")
STEPWISE = ("KVP", "RevolutionTime")
# What is set along with them, and would give them away: limits follow the voltage, the diameter shown the field.
ALONG = frozenset(
    {
        "AECMinimumTubeCurrent",
        "AECMaximumTubeCurrent",
        "ReconstructionDiameter",
        "ExposureTimeInms",
        "TableSpeed",
        "EstimatedDoseSaving",
    }
)
PRIOR = 3.0  # weight, in commands, of the coarser group
MOST = 12  # codes told apart where steps are not
LEAST = 200  # commands from which it is learned
ON_LADDER = 3  # times a value must be recorded to be one that the device takes
STRANGERS = 0.1  # share of commands shown as if their protocol had never been met

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def choosable(encoder: Encoder, rows: Rows) -> list[int]:
    """Indices of the settings that a choice can be learned for."""
    out = []
    for name in CHOSEN:
        target = encoder.index.get(name)
        if target is None or encoder.fields[target].kind == "continuous" or len(rows.codes) < LEAST:
            continue
        if 2 <= len(np.unique(rows.codes[:, target])) <= (MOST if name not in STEPWISE else 100):
            out.append(target)
    return out


def learn_choice(
    encoder: Encoder, rows: Rows, usual: UsualValues, target: int, *, seed: int = 0, rounds: int = 40
) -> tuple[Choice, Graph]:
    """Fit the priors, then trees that start from them.

    A command is shown what its group used without itself: or the trees would learn that whatever was chosen
    once is usual.
    """
    number, code = len(rows.codes), rows.codes[:, target]
    name = encoder.fields[target].name
    blocked = {name} | DOSE_BLOCK | ALONG
    inputs = np.array(
        [i for i, f in enumerate(encoder.fields) if f.name not in blocked and f.group != Group.PLACE],
        dtype=np.int64,
    )
    run = (encoder.index.get("AcquisitionStartLocation", -1), encoder.index.get("AcquisitionEndLocation", -1))
    stranger = np.random.default_rng(seed).random(number) < STRANGERS
    commonest, without = _usual(encoder, rows, code, encoder.fields[target].size)
    rungs = _rungs(encoder, rows, code, encoder.fields[target].size)
    if name in STEPWISE:
        classes, width = np.zeros(0, dtype=np.int64), STEPS
        base = np.where(stranger, commonest[1][rows.groups[:, REGION] + 1], without)
        ladders = rungs.tolist()
        y = np.array(
            [
                steps_away(ladders[t], b, c)
                for t, b, c in zip(
                    (rows.groups[:, TYPE] + 1).tolist(), base.tolist(), code.tolist(), strict=True
                )
            ]
        )
    else:
        classes, y = np.unique(code, return_inverse=True)
        classes, width = classes.astype(np.int64), len(classes)
    priors, own = _priors(encoder, rows, y, width)
    model = Choice(target, classes, inputs, run, tuple(priors), tuple(commonest), rungs, 0.5 / (number + 1))
    shown = np.where(stranger[:, None], priors[1][rows.groups[:, REGION] + 1], own)
    middle = np.where(
        stranger[:, None],
        usual.middle[REGION][rows.groups[:, REGION] + 1],
        usual.middle[0][rows.groups[:, 0] + 1],
    )
    way = rows.numbers[:, run[1]] - rows.numbers[:, run[0]] if min(run) >= 0 else np.full(number, np.nan)
    moved = (rows.numbers - middle)[:, inputs]
    told = [rows.codes[:, inputs], rows.numbers[:, inputs], moved, shown, rows.groups[:, TYPE], way]
    features = rounded(np.column_stack(told))
    booster = boost(
        features, y, objective="multiclass", classes=width, rounds=rounds, rate=0.15, leaves=8, seed=seed
    )
    return model, export(booster, features, what=f"choice of {name}", raw=False)


def _rungs(encoder: Encoder, rows: Rows, code: I64, size: int) -> I64:
    """(T + 1, C) place of each code among the values that a device and type of acquisition takes, -1 for none."""
    types = len(encoder.groups[TYPE])
    counts = np.zeros((types + 1, size), dtype=np.int64)
    np.add.at(counts, (rows.groups[:, TYPE] + 1, code), 1)
    counts[0] = counts.sum(axis=0)
    on = counts >= ON_LADDER
    on[:, :FIRST] = False
    out: I64 = np.where(on, np.cumsum(on, axis=1) - 1, -1)
    return out


def _usual(encoder: Encoder, rows: Rows, code: I64, size: int) -> tuple[list[I64], I64]:
    """Commonest code per level (row 0: of all), and for each command that of its element without itself."""
    every = np.bincount(code, minlength=size)
    tables: list[I64] = []
    without = np.full(len(code), int(every.argmax()))
    for level in LEVELS:
        counts = np.zeros((len(encoder.groups[level]) + 1, size))
        np.add.at(counts, (rows.groups[:, level] + 1, code), 1.0)
        counts[0] = every
        tables.append(counts.argmax(axis=1))
        if level == ELEMENT:
            mine = counts[rows.groups[:, level] + 1]
            mine[np.arange(len(code)), code] -= 1.0
            alone = mine.sum(axis=1) < 1
            without = mine.argmax(axis=1)
    without[alone] = tables[1][rows.groups[alone, REGION] + 1]
    return tables, without


def _priors(encoder: Encoder, rows: Rows, y: I64, number: int) -> tuple[list[NDArray[np.float32]], F64]:
    """Log probabilities per level, and each command's own from the finest level without itself (N, K)."""
    every = (np.bincount(y, minlength=number) + 0.5) / (len(y) + 0.5 * number)
    tables: list[NDArray[np.float32]] = []
    above: F64 = np.tile(every, (len(y), 1))
    own = above
    for level in reversed(LEVELS):
        group = rows.groups[:, level]
        counts = np.zeros((len(encoder.groups[level]), number))
        np.add.at(counts, (group, y), 1.0)
        parent = np.tile(every, (len(counts), 1))
        parent[group] = above
        total = counts.sum(axis=1, keepdims=True)
        shares = (counts + PRIOR * parent) / (total + PRIOR)
        if level == ELEMENT:
            without = counts[group]
            without[np.arange(len(y)), y] -= 1.0
            own = np.log((without + PRIOR * above) / (total[group] - 1.0 + PRIOR))
        above = shares[group]
        tables.insert(0, np.log(np.concatenate([every[None, :], shares])).astype(np.float32))
    return tables, own
