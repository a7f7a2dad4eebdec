"""Learning what is usual, and how people deviate from it (the tables of ``layers.usual``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scanward.layers.encoding import (
    AGE_BANDS,
    ELEMENT,
    GROUP_LEVELS,
    REGION,
    TYPE,
    UNKNOWN,
    Encoder,
    Rows,
)
from scanward.layers.usual import UsualValues

SETTLED = 4  # commands from which a group's own usual value is believed
PRIOR = 2.0  # weight, in commands, of the coarser group
AGE_PRIOR = 2.0  # the same for age bands: who is scanned by a protocol does not wander as settings do
RATE_PRIOR = 60.0  # weight, in commands, of the pooled deviation rate
KERNEL_PRIOR = 1.0  # weight of the marginal in "from this usual value to that one"
SPREAD_PRIOR = 8.0  # weight, in commands, of the coarser group's spread
FLOOR = 1e-4  # least spread, in the field's own scale

F32 = NDArray[np.float32]


def learn_usual(encoder: Encoder, rows: Rows) -> UsualValues:
    """Count, pool and shrink.

    For a discrete field the probability of value x in group g is
    ``(1 - e) * p(x | g, shrunk towards the coarser group) + e * K(usual value of g -> x)``, where the deviation
    rate ``e`` (by body region, shrunk towards all) and the kernel ``K`` are pooled over all groups.
    """
    size = encoder.offsets[-1]
    flat = np.asarray(encoder.offsets[:-1])[None, :] + rows.codes
    counts = [
        _counts(rows.groups[:, level], flat, len(encoder.groups[level]), size)
        for level in range(GROUP_LEVELS)
    ]
    everything = counts[-1].sum(axis=0, keepdims=True)
    rates, kernels = _deviations(encoder, rows, counts[0])
    surprise = []
    parents = _parents(encoder, rows)
    # From the coarsest to the finest, each shrunk towards its parent.
    shrunk: list[NDArray[np.float64]] = [np.empty(0)] * GROUP_LEVELS
    base = np.concatenate([_normal(encoder, everything + 0.5), np.zeros((0, size))])[0]
    for level in reversed(range(GROUP_LEVELS)):
        own = counts[level]
        above = (
            np.broadcast_to(base, own.shape)
            if level == GROUP_LEVELS - 1
            else shrunk[level + 1][parents[level] + 1]
        )
        total = _totals(encoder, own)
        probability = (own + PRIOR * above) / (total + PRIOR)
        shrunk[level] = np.concatenate([base[None, :], probability])
    region_of = _region_of(encoder, rows)
    for level in range(GROUP_LEVELS):
        table = shrunk[level].copy()
        for f in range(len(encoder.fields)):
            part = slice(encoder.offsets[f], encoder.offsets[f + 1])
            mode = np.argmax(table[:, part], axis=1)
            rate = rates[f][region_of[level] + 1][:, None]
            table[:, part] = (1 - rate) * table[:, part] + rate * kernels[f][mode]
        surprise.append((-np.log(np.maximum(table, 1e-9))).astype(np.float32))
    middle, spread, support = _middles(encoder, rows, parents)
    return UsualValues(tuple(surprise), tuple(middle), tuple(spread), tuple(support))


def learn_ages(encoder: Encoder, rows: Rows) -> F32:
    """(G + 1, bands) nats of surprise at each age band in each protocol element; row 0: an element never seen."""
    age = encoder.index.get("PatientAge")
    known = np.zeros(0, dtype=np.int64) if age is None else np.flatnonzero(~np.isnan(rows.numbers[:, age]))
    if age is None or not len(known):
        return np.zeros((0, 0), dtype=np.float32)
    rows = rows.take(known)
    band = np.searchsorted(AGE_BANDS, rows.numbers[:, age], side="right")
    every = np.bincount(band, minlength=len(AGE_BANDS) + 1) + 0.5
    parents = _split(np.tile(every / every.sum(), (len(encoder.groups[TYPE]), 1)), rows.groups[:, TYPE], band)
    above = np.tile(every / every.sum(), (len(encoder.groups[ELEMENT]), 1))
    above[rows.groups[:, ELEMENT]] = parents[rows.groups[:, TYPE]]
    shares = _split(above, rows.groups[:, ELEMENT], band)
    out: F32 = -np.log(np.concatenate([(every / every.sum())[None, :], shares])).astype(np.float32)
    return out


def _split(
    above: NDArray[np.float64], group: NDArray[np.int64], band: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(G, bands) shares of ages: first of adults among all, then of each older band among the younger ones.

    A protocol that was used for children of other ages is more likely to be used for a child of this one than a
    protocol that never was: so each split borrows from ``above`` by itself.
    """
    counts = np.zeros_like(above)
    np.add.at(counts, (group, band), 1.0)
    out = np.zeros_like(above)
    left = np.ones(len(above))
    for b in reversed(range(1, above.shape[1])):
        mine, below = counts[:, b], counts[:, :b].sum(axis=1)
        prior = above[:, b] / above[:, : b + 1].sum(axis=1)
        share = (mine + AGE_PRIOR * prior) / (mine + below + AGE_PRIOR)
        out[:, b] = left * share
        left = left * (1 - share)
    out[:, 0] = left
    return out


def _counts(group: NDArray[np.int64], flat: NDArray[np.int64], groups: int, size: int) -> NDArray[np.float64]:
    at = (group[:, None] * size + flat).ravel()
    return np.bincount(at, minlength=groups * size).reshape(groups, size).astype(np.float64)


def _totals(encoder: Encoder, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Total of each field, repeated over its codes (same shape as ``counts``)."""
    totals = np.add.reduceat(counts, encoder.offsets[:-1], axis=1)
    widths = [f.size for f in encoder.fields]
    out: NDArray[np.float64] = np.repeat(totals, widths, axis=1)
    return out


def _normal(encoder: Encoder, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts / _totals(encoder, counts)


def _parents(encoder: Encoder, rows: Rows) -> list[NDArray[np.int64]]:
    """For each level, the commonest coarser group of each group (-1 for the coarsest level)."""
    out = []
    for level in range(GROUP_LEVELS):
        count = len(encoder.groups[level])
        parent = np.full(count, -1, dtype=np.int64)
        if level + 1 < GROUP_LEVELS and len(rows.groups):
            above = len(encoder.groups[level + 1])
            pair = np.bincount(
                rows.groups[:, level] * above + rows.groups[:, level + 1], minlength=count * above
            )
            pair = pair.reshape(count, above)
            parent = np.where(pair.sum(axis=1) > 0, np.argmax(pair, axis=1), -1)
        out.append(parent)
    return out


def _region_of(encoder: Encoder, rows: Rows) -> list[NDArray[np.int64]]:
    """For each level, the body-region group that lends each row its deviation rate, -1 for none."""
    out = []
    for level in range(GROUP_LEVELS):
        count = len(encoder.groups[level])
        regions = len(encoder.groups[REGION])
        if level <= REGION:
            pair = np.bincount(
                rows.groups[:, level] * regions + rows.groups[:, REGION], minlength=count * regions
            )
            best = np.argmax(pair.reshape(count, regions), axis=1)
        else:
            best = np.full(count, -1, dtype=np.int64)
        out.append(np.concatenate([[-1], best]))
    return out


def _deviations(
    encoder: Encoder, rows: Rows, finest: NDArray[np.float64]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Deviation rate per field and region (row 0: all), and kernel (mode code, value code) per field."""
    settled = np.bincount(rows.groups[:, 0], minlength=len(encoder.groups[0])) >= SETTLED
    use = settled[rows.groups[:, 0]]
    region = rows.groups[:, REGION]
    regions = len(encoder.groups[REGION])
    rates, kernels = [], []
    for f, field in enumerate(encoder.fields):
        part = slice(encoder.offsets[f], encoder.offsets[f + 1])
        mode_of = np.argmax(finest[:, part], axis=1)
        mode = mode_of[rows.groups[:, 0]]
        code = rows.codes[:, f]
        away = (code != mode) & use
        overall = (away.sum() + 0.5) / (use.sum() + 20.0)
        number = np.bincount(region[use], minlength=regions)
        strange = np.bincount(region[away], minlength=regions)
        by_region = (strange + RATE_PRIOR * overall) / (number + RATE_PRIOR)
        rates.append(np.clip(np.concatenate([[overall], by_region]), 1e-5, 0.5))
        pair = np.bincount(mode[away] * field.size + code[away], minlength=field.size**2)
        pair = pair.reshape(field.size, field.size).astype(np.float64)
        # A value never used as a deviation keeps a little: as much as half a command spread over all of them.
        marginal = pair.sum(axis=0) + 0.5 / field.size
        marginal[UNKNOWN] += 0.25  # "never seen before" stays possible
        marginal /= marginal.sum()
        kernel = (pair + KERNEL_PRIOR * marginal) / (pair.sum(axis=1, keepdims=True) + KERNEL_PRIOR)
        kernels.append(kernel)
    return rates, kernels


def _middles(
    encoder: Encoder, rows: Rows, parents: list[NDArray[np.int64]]
) -> tuple[list[F32], list[F32], list[F32]]:
    numeric = [f for f, field in enumerate(encoder.fields) if field.kind != "category"]
    width = len(encoder.fields)
    middle: list[F32] = [np.empty(0, np.float32)] * GROUP_LEVELS
    spread: list[F32] = [np.empty(0, np.float32)] * GROUP_LEVELS
    support: list[F32] = [np.empty(0, np.float32)] * GROUP_LEVELS
    for level in reversed(range(GROUP_LEVELS)):
        count = len(encoder.groups[level])
        m = np.full((count + 1, width), np.nan)
        s = np.full((count + 1, width), np.nan)
        if level == GROUP_LEVELS - 1:
            m[0, numeric], s[0, numeric] = _robust(rows.numbers[:, numeric])
        else:
            m[0], s[0] = middle[-1][0], spread[-1][0]
        order = np.argsort(rows.groups[:, level], kind="stable")
        starts = np.searchsorted(rows.groups[order, level], np.arange(count + 1))
        for g in range(count):
            mine = order[starts[g] : starts[g + 1]]
            above_m, above_s = (
                (m[0], s[0])
                if level == GROUP_LEVELS - 1
                else (middle[level + 1][parents[level][g] + 1], spread[level + 1][parents[level][g] + 1])
            )
            if len(mine) == 0:
                m[g + 1], s[g + 1] = above_m, above_s
                continue
            own_m, own_s = _robust(rows.numbers[np.ix_(mine, np.arange(width))])
            n = np.sum(~np.isnan(rows.numbers[mine]), axis=0)
            m[g + 1] = np.where(n >= 1, own_m, above_m)
            known = np.where(np.isnan(own_s), 0.0, own_s)
            prior = np.where(np.isnan(above_s), 1.0, above_s)
            # A group of one knows nothing of its own spread.
            free = np.maximum(n - 1, 0)
            s[g + 1] = np.sqrt((free * known**2 + SPREAD_PRIOR * prior**2) / (free + SPREAD_PRIOR))
            s[g + 1] = np.where(n >= 30, np.sqrt((free * known**2 + 0.5 * prior**2) / (free + 0.5)), s[g + 1])
        middle[level] = m.astype(np.float32)
        spread[level] = np.maximum(s, FLOOR).astype(np.float32)
        support[level] = np.concatenate([[0.0], np.bincount(rows.groups[:, level], minlength=count)]).astype(
            np.float32
        )
    return middle, spread, support


def _robust(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and scaled median absolute deviation of each column, NaN where there is nothing."""
    middle = np.full(values.shape[1], np.nan)
    spread = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        v = values[:, column]
        v = v[~np.isnan(v)]
        if len(v):
            # The lower median is a value that occurs: a usual setting, not a point between two.
            middle[column] = np.sort(v)[(len(v) - 1) // 2]
            spread[column] = 1.4826 * float(np.median(np.abs(v - middle[column])))
    return middle, spread
