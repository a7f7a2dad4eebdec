"""Learning what a number should be (the models of ``layers.conditional``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanward.commands import SIZE_FIELDS
from scanward.layers.conditional import AGES, BLIND, SUPPORTS, Conditional, age_groups
from scanward.layers.encoding import DOSE_BLOCK, ELEMENT, GROUP_LEVELS, REGION, TYPE, Encoder, Rows
from scanward.layers.graph import Graph, rounded
from scanward.layers.usual import UsualValues
from scanward.learning.boosting import boost, export

SLOPE_PENALTY = (30.0, 30.0, 40.0, 10.0, 2.0)  # ridge penalty of slopes per level, finest first, in commands
INTERCEPT_PRIOR = 1.5  # weight, in commands, of the coarser group's intercept
SPREAD_PRIOR = 15.0  # weight, in commands, of the coarser group's residual spread
LIMITS = ("AECMinimumTubeCurrent", "AECMaximumTubeCurrent")
HUBER = 2.0  # residuals beyond this many robust spreads pull no harder (Huber 1964)
CUT = 4.0  # residuals beyond this many robust spreads are cut for the trees
FOLDS = 3
STEADY = 10.0  # spreads, in floors, below which a group counts as always the same
FLOOR = 2e-3  # least residual spread, in the target's own scale
F64 = NDArray[np.float64]


def learn_conditional(
    encoder: Encoder,
    rows: Rows,
    usual: UsualValues,
    target: int,
    predictors: list[int],
    *,
    seed: int = 0,
    rounds: int = 120,
) -> tuple[Conditional, Graph | None] | None:
    """Fit the hierarchy, then the trees on what it leaves; None when there is too little to learn from.

    Parameters
    ----------
    target : int
        Index of a numeric field.
    predictors : list of int
        Indices of the fields it may be explained by.
    """
    have = ~np.isnan(rows.numbers[:, target])
    if have.sum() < 40 or np.ptp(rows.numbers[have, target]) < 1e-9:
        return None
    rows = rows.take(np.flatnonzero(have))
    age = encoder.index.get("PatientAge", -1)
    age = -1 if age == target else age
    curve = _curve(rows.numbers, target, age, encoder.fields[target].name in SIZE_FIELDS)
    grown = curve[age_groups(rows.numbers, age)]
    y = rows.numbers[:, target] - grown
    linear = np.array(
        [
            p
            for p in predictors
            if encoder.fields[p].kind != "category" and np.sum(~np.isnan(rows.numbers[:, p])) >= 20
        ],
        dtype=np.int64,
    )
    with np.errstate(all="ignore"):
        centre = np.array([np.nanmean(rows.numbers[:, p]) for p in linear]).reshape(len(linear))
    sizes = np.array(
        [encoder.index[n] for n in SIZE_FIELDS if encoder.index.get(n) in predictors], dtype=np.int64
    )
    by_age = _by_age(rows.numbers, linear, np.isin(linear, sizes), centre, age)
    bounds = LIMITS if encoder.fields[target].name in DOSE_BLOCK else ()
    limits = (encoder.index.get(bounds[0], -1), encoder.index.get(bounds[1], -1)) if bounds else (-1, -1)
    empty = Conditional(
        target,
        linear,
        centre,
        (),
        (),
        (),
        np.array(predictors, dtype=np.int64),
        np.ones(BLIND),
        np.ones(len(SUPPORTS) + 1),
        sizes,
        age,
        by_age,
        limits,
        curve,
    )
    x = empty.designs(rows.numbers)
    scale = x.std(axis=0)
    x = np.where(scale > 1e-9, x / np.maximum(scale, 1e-9), 0.0)
    fine = np.isin(np.concatenate([linear, linear]), sizes)
    slopes, intercepts = _linear(encoder, rows, x, y, fine)
    # Guesses for commands as if they had not been learned from: for the trees, and for the spread.
    fold = np.random.default_rng(seed).integers(FOLDS, size=len(y))
    guess = np.empty(len(y))
    inter = np.empty(len(y))
    region_guess = np.empty(len(y))
    known = np.empty(len(y))
    for k in range(FOLDS):
        mine = np.flatnonzero(fold == k)
        rest = np.flatnonzero(fold != k)
        s, c = _linear(encoder, rows.take(rest), x[rest], y[rest], fine)
        _borrow(rows, rest, s)
        _borrow(rows, rest, c)
        g = rows.groups[mine]
        known[mine] = np.bincount(rows.groups[rest, 0], minlength=len(encoder.groups[0]))[g[:, 0]]
        inter[mine] = c[0][g[:, 0] + 1]
        guess[mine] = inter[mine] + np.einsum("np,np->n", x[mine], s[0][g[:, 0] + 1])
        region_guess[mine] = c[REGION][g[:, REGION] + 1]
        region_guess[mine] += np.einsum("np,np->n", x[mine], s[REGION][g[:, REGION] + 1])
    model = Conditional(
        target,
        linear,
        centre,
        tuple(s / np.maximum(scale, 1e-9) * (scale > 1e-9) for s in slopes),
        tuple(intercepts),
        (),
        np.array(predictors, dtype=np.int64),
        np.ones(BLIND),
        np.ones(len(SUPPORTS) + 1),
        sizes,
        age,
        by_age,
        limits,
        curve,
    )
    # The trees see some protocols as if they had never been met, so that they can help when one is new.
    rng = np.random.default_rng(seed)
    stranger = rng.random(len(y)) < 0.1
    inter = grown + np.where(stranger, intercepts[REGION][rows.groups[:, REGION] + 1], inter)
    guess = grown + np.where(stranger, region_guess, guess)
    y = y + grown
    middle = np.where(
        stranger[:, None],
        usual.middle[REGION][rows.groups[:, REGION] + 1],
        usual.middle[0][rows.groups[:, 0] + 1],
    )
    p = np.array(predictors, dtype=np.int64)
    extras = np.array(
        [model.extras(float(g), float(i), n) for g, i, n in zip(guess, inter, rows.numbers, strict=True)]
    )
    features = rounded(
        np.column_stack([rows.codes[:, p], rows.numbers[:, p], rows.numbers[:, p] - middle[:, p], extras])
    )
    residual = y - guess
    bound = CUT * _by_type(rows, residual)
    clipped = np.clip(residual, -bound, bound)
    half = rng.random(len(y)) < 0.8
    booster = boost(
        features[half], clipped[half], objective="regression", rounds=rounds, rate=0.06, seed=seed
    )
    left = residual - np.asarray(booster.predict(features))
    checked = ~half & ~stranger
    graph: Graph | None = None
    if np.abs(left[checked]).mean() < 0.99 * np.abs(residual[checked]).mean():
        booster = boost(features, clipped, objective="regression", rounds=rounds, rate=0.06, seed=seed)
        graph = export(booster, features, what=f"conditional of {encoder.fields[target].name}")
        # The spread must be that of commands not learned from: taken where the trees were not fitted.
        seen = rows.take(np.flatnonzero(checked))
        share = _by_type(seen, left[checked]) / _by_type(seen, residual[checked])
        for group in np.unique(seen.groups[:, TYPE]):
            residual[rows.groups[:, TYPE] == group] *= min(1.0, share[seen.groups[:, TYPE] == group][0])
    spreads = _spreads(encoder, rows, np.where(stranger, np.nan, residual))
    # Who knows less must expect more widely: about the patient's size, or about the protocol.
    share = np.abs(residual) / spreads[0][rows.groups[:, 0] + 1]
    # Where a value is always the same a spread of nothing is exceeded by anything: such groups have no say here.
    fair = ~stranger & (spreads[0][rows.groups[:, 0] + 1] > STEADY * FLOOR)
    blind_factors = _factors(share[fair], model.blind(rows.numbers)[fair], BLIND)
    share = share / blind_factors[model.blind(rows.numbers)]
    support_factors = _factors(
        share[fair], np.searchsorted(SUPPORTS, known[fair], side="right"), len(SUPPORTS) + 1
    )
    blind_factors, support_factors = (np.clip(f, 0.5, 4.0) for f in (blind_factors, support_factors))
    learned = replace(
        model,
        spreads=tuple(spreads),
        blind_factors=blind_factors,
        support_factors=support_factors,
        trees=graph is not None,
    )
    return learned, graph


def _curve(numbers: F64, target: int, age: int, wanted: bool) -> F64:
    """(len(AGES) + 2,) median of a patient's size by age group, for an unknown age that of all; zeros if not wanted."""
    out = np.zeros(len(AGES) + 2)
    if not wanted or age < 0:
        return out
    group = age_groups(numbers, age)
    out[:] = np.median(numbers[:, target])
    known = [g for g in range(len(AGES) + 1) if np.sum(group == g) >= 3]
    for g in range(len(AGES) + 1 if known else 0):
        nearest = min(known, key=lambda k: (abs(k - g), k))
        out[g] = np.median(numbers[group == nearest, target])
    return out


def _by_age(numbers: F64, linear: NDArray[np.int64], size: NDArray[np.bool_], centre: F64, age: int) -> F64:
    """(len(AGES) + 2, L) what a missing predictor is replaced by: for sizes the median of the age group."""
    table = np.tile(centre, (len(AGES) + 2, 1))
    if age < 0:
        return table
    group = np.searchsorted(AGES, numbers[:, age], side="right")
    for column, field in enumerate(linear):
        if not size[column] or field == age:
            continue
        for g in range(len(AGES) + 1):
            mine = numbers[(group == g) & ~np.isnan(numbers[:, age]), field]
            mine = mine[~np.isnan(mine)]
            if len(mine) >= 3:
                table[g, column] = float(np.median(mine))
            elif g:
                table[g, column] = table[g - 1, column]
    return table


def _borrow(rows: Rows, rest: NDArray[np.int64], tables: list[F64]) -> None:
    """A group that is not among the rows at ``rest`` takes the row of the coarser group it lies in (in place)."""
    for level in reversed(range(GROUP_LEVELS - 1)):
        there = np.zeros(len(tables[level]), dtype=bool)
        there[rows.groups[rest, level] + 1] = True
        group, above = rows.groups[:, level] + 1, rows.groups[:, level + 1] + 1
        missing = ~there[group]
        tables[level][group[missing]] = tables[level + 1][above[missing]]


def _by_type(rows: Rows, residual: F64) -> F64:
    """(N,) robust spread of the residuals of a row's device and acquisition type.

    A localizer is always the same: were it pooled with scans, every scan would look like an outlier.
    """
    group = rows.groups[:, TYPE]
    out = np.empty(len(residual))
    for g in np.unique(group):
        mine = group == g
        out[mine] = max(1.4826 * float(np.median(np.abs(residual[mine]))), FLOOR)
    return out


def _linear(
    encoder: Encoder, rows: Rows, x: F64, y: F64, fine: NDArray[np.bool_]
) -> tuple[list[F64], list[F64]]:
    """Slopes and intercepts per level, robustly: three rounds of Huber weights."""
    weight = np.ones(len(y))
    slopes: list[F64] = []
    intercepts: list[F64] = []
    for _ in range(3):
        slopes = _slopes(encoder, rows, x, y, weight, fine)
        fitted = np.einsum("np,np->n", x, slopes[0][rows.groups[:, 0] + 1])
        intercepts, loo = _intercepts(encoder, rows, y - fitted, weight)
        residual = np.abs(y - fitted - loo)
        weight = np.minimum(1.0, HUBER * _by_type(rows, residual) / np.maximum(residual, 1e-12))
    return slopes, intercepts


def _slopes(encoder: Encoder, rows: Rows, x: F64, y: F64, weight: F64, fine: NDArray[np.bool_]) -> list[F64]:
    """Slopes per level from within-group differences, each level adding to the coarser one.

    A protocol element has slopes of its own only for the patient's size (``fine`` marks the columns); for the
    rest it has too few deviations of its own to learn from.
    """
    width = x.shape[1]
    finest = rows.groups[:, 0]
    number = np.maximum(np.bincount(finest, weights=weight, minlength=len(encoder.groups[0])), 1e-9)
    both = np.column_stack([x, y])
    mean = np.zeros((len(encoder.groups[0]), width + 1))
    np.add.at(mean, finest, both * weight[:, None])
    mean /= number[:, None]
    centred = (both - mean[finest]) * np.sqrt(weight)[:, None]
    xd, rest = centred[:, :width], centred[:, width].copy()
    out: list[F64] = [np.empty(0)] * GROUP_LEVELS
    above = np.zeros((len(rows.groups), width))
    for level in reversed(range(GROUP_LEVELS)):
        count = len(encoder.groups[level])
        table = np.zeros((count + 1, width))
        order = np.argsort(rows.groups[:, level], kind="stable")
        starts = np.searchsorted(rows.groups[order, level], np.arange(count + 1))
        for g in range(count):
            mine = order[starts[g] : starts[g + 1]]
            if len(mine) < 2:
                table[g + 1] = above[mine[0]] if len(mine) else 0.0
                continue
            columns = np.flatnonzero(fine) if level <= ELEMENT else np.arange(width)
            a = xd[np.ix_(mine, columns)]
            gram = a.T @ a + SLOPE_PENALTY[level] * np.eye(len(columns))
            table[g + 1] = above[mine[0]]
            table[g + 1, columns] += np.linalg.solve(gram, a.T @ rest[mine])
        mine_now = table[rows.groups[:, level] + 1]
        rest -= np.einsum("np,np->n", xd, mine_now - above)
        above = mine_now
        coarsest = out[GROUP_LEVELS - 1]
        table[0] = coarsest[0] if len(coarsest) else table[1:].mean(axis=0)
        out[level] = table
    return out


def _intercepts(encoder: Encoder, rows: Rows, r: F64, weight: F64) -> tuple[list[F64], F64]:
    """Shrunk means per level, and each command's finest intercept without itself."""
    out: list[F64] = [np.empty(0)] * GROUP_LEVELS
    every = float(np.median(r))
    above_row = np.full(len(r), every)
    loo = above_row.copy()
    for level in reversed(range(GROUP_LEVELS)):
        count = len(encoder.groups[level])
        g = rows.groups[:, level]
        number = np.bincount(g, weights=weight, minlength=count)
        total = np.bincount(g, weights=weight * (r - above_row), minlength=count)
        step = total / (number + INTERCEPT_PRIOR)
        above_of = np.full(count, every)
        above_of[g] = above_row
        out[level] = np.concatenate([[every], above_of + step])
        without = (total[g] - weight * (r - above_row)) / (number[g] - weight + INTERCEPT_PRIOR)
        loo = above_row + without
        above_row = above_row + step[g]
    return out, loo


def _factors(share: F64, kind: NDArray[np.int64], count: int) -> F64:
    """(count,) by how much residuals of each kind exceed their spread (95th percentile over that of a normal)."""
    out = np.ones(count)
    for k in range(count):
        mine = share[kind == k]
        own = float(np.quantile(mine, 0.95)) / 1.96 if len(mine) else 1.0
        out[k] = (len(mine) * own + 20.0) / (len(mine) + 20.0)
    return out


def _spreads(encoder: Encoder, rows: Rows, residual: F64) -> list[F64]:
    known = ~np.isnan(residual)
    every = max(1.4826 * float(np.median(np.abs(residual[known]))), FLOOR)
    out: list[F64] = [np.empty(0)] * GROUP_LEVELS
    above_row = np.full(len(residual), every**2)
    for level in reversed(range(GROUP_LEVELS)):
        count = len(encoder.groups[level])
        g = rows.groups[:, level]
        table = np.full(count, every**2)
        table[g] = above_row
        order = np.argsort(g, kind="stable")
        starts = np.searchsorted(g[order], np.arange(count + 1))
        for i in range(count):
            mine = order[starts[i] : starts[i + 1]]
            mine = mine[known[mine]]
            if len(mine) >= 3:
                own = (1.4826 * float(np.median(np.abs(residual[mine])))) ** 2
                table[i] = (len(mine) * own + SPREAD_PRIOR * table[i]) / (len(mine) + SPREAD_PRIOR)
        out[level] = np.maximum(np.sqrt(np.concatenate([[every**2], table])), FLOOR)
        above_row = table[g]
    return out
