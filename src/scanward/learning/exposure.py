"""Learning what exposure control makes of a patient and settings (the model of ``layers.exposure``).

Three things differ from the other expectations of a number. Only what exposure control sees is among the
predictors: once the localizer has measured the patient, weight and height say nothing more, and were they asked
they would only add noise. A current at its limit is a bound, not a value (a censored regression: Tobin 1958,
fitted by expectation and maximisation: Dempster, Laird, Rubin 1977). And how much a protocol borrows from its
body region is learned from how much protocols differ (empirical Bayes, by moments: Efron and Morris 1975).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from scanward.commands import SIZE_FIELDS
from scanward.layers.conditional import AGES, BLIND, SUPPORTS, Conditional
from scanward.layers.encoding import FIRST, GROUP_LEVELS, MISSING, TYPE, Encoder, Rows
from scanward.layers.exposure import AT, Exposure
from scanward.layers.usual import UsualValues
from scanward.learning.conditionals import FLOOR, LIMITS, _borrow, _by_age, _factors, _slopes

CURRENT = "XRayTubeCurrentInmA"
MODE = "ExposureModulationType"
OFF = "NONE"  # DICOM PS3.3, Exposure Modulation Type (0018,9323)
MEASURED = "WaterEquivalentDiameter"
SETTINGS = ("KVP", "RevolutionTime", "SpiralPitchFactor")
LEAST = 200  # commands under exposure control from which it is learned
ROUNDS = 5  # of expectation and maximisation
FOLDS = 3
HUBER = 2.5  # residuals beyond this many spreads pull no harder
FARTHEST = 1.5  # a current at its limit is taken to be no further than this beyond it, in log mA
SPREAD_PRIOR = 30.0  # weight, in commands, of the spread of all devices
SUPPORTED = 4  # bin of ``SUPPORTS`` from which an element counts as well known (20 commands)
F64 = NDArray[np.float64]
Tables = tuple[list[F64], list[F64]]


def learn_exposure(encoder: Encoder, rows: Rows, usual: UsualValues, *, seed: int = 0) -> Exposure | None:
    """None where too few commands were recorded under exposure control."""
    target = encoder.index.get(CURRENT)
    if target is None or encoder.fields[target].kind == "category":
        return None
    mode = encoder.index.get(MODE, -1)
    if mode >= 0 and encoder.fields[mode].kind != "category":
        mode = -1
    off = (
        (MISSING, *(FIRST + i for i, v in enumerate(encoder.fields[mode].values) if v == OFF))
        if mode >= 0
        else ()
    )
    on = ~np.isnan(rows.numbers[:, target])
    if mode >= 0:
        on &= ~np.isin(rows.codes[:, mode], off)
    use = np.flatnonzero(on)
    if len(use) < LEAST or np.ptp(rows.numbers[use, target]) < 1e-9:
        return None
    empty, settings = _empty(encoder, rows, use, target)
    if not len(empty.linear):
        return None
    fitted = _Regression(encoder, rows, empty)
    tables, _ = fitted.fit(use, ROUNDS)
    spreads, blind, support = _spreads(fitted, use, usual, seed)
    model = replace(
        empty,
        slopes=tuple(s / fitted.scale for s in tables[0]),
        intercepts=tuple(tables[1]),
        spreads=spreads,
        blind_factors=blind,
        support_factors=support,
    )
    return Exposure(model, mode, off, settings)


def _empty(
    encoder: Encoder, rows: Rows, use: NDArray[np.int64], target: int
) -> tuple[Conditional, NDArray[np.int64]]:
    """The model without its tables, and the settings among its predictors."""
    numbers = rows.numbers[use]

    def known(name: str) -> bool:
        return name in encoder.index and int(np.sum(~np.isnan(numbers[:, encoder.index[name]]))) >= 20

    measured = known(MEASURED) and np.mean(~np.isnan(numbers[:, encoder.index[MEASURED]])) >= 0.5
    sizes = [MEASURED] if measured else [n for n in SIZE_FIELDS if n != "PatientAge" and known(n)]
    settings = [n for n in SETTINGS if known(n)]
    linear = np.array([encoder.index[n] for n in (*sizes, *settings)], dtype=np.int64)
    with np.errstate(all="ignore"):
        centre = np.array([np.nanmean(numbers[:, p]) for p in linear]).reshape(len(linear))
    age = encoder.index.get("PatientAge", -1)
    size = np.arange(len(linear)) < len(sizes)
    low, high = (encoder.index.get(name, -1) for name in LIMITS)
    model = Conditional(
        target,
        linear,
        centre,
        (),
        (),
        (),
        np.zeros(0, dtype=np.int64),
        np.ones(BLIND),
        np.ones(len(SUPPORTS) + 1),
        linear[size],
        age,
        _by_age(rows.numbers, linear, size, centre, age),
        (low, high),
        np.zeros(len(AGES) + 2),
    )
    return model, linear[~size]


class _Regression:
    """Slopes and intercepts of the current, from any of the rows."""

    def __init__(self, encoder: Encoder, rows: Rows, model: Conditional) -> None:
        self.encoder, self.rows, self.model = encoder, rows, model
        x = model.designs(rows.numbers)
        scale = x.std(axis=0)
        self.scale = np.where(scale > 1e-9, scale, np.inf)
        self.x: F64 = x / self.scale
        self.fine = np.isin(np.concatenate([model.linear, model.linear]), model.sizes)
        self.y = rows.numbers[:, model.target]
        low, high = (rows.numbers[:, f] if f >= 0 else np.full(len(self.y), np.nan) for f in model.limits)
        self.low, self.high = np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf)
        self.above = self.y >= self.high - AT
        self.below = (self.y <= self.low + AT) & ~self.above
        self.free = ~self.above & ~self.below

    def fit(self, use: NDArray[np.int64], rounds: int) -> tuple[Tables, float]:
        """Tables (groups that are not at ``use`` borrow), and the spread of what they leave."""
        rows, x, y = self.rows.take(use), self.x[use], self.y[use]
        above, below, free = self.above[use], self.below[use], self.free[use]
        wanted, weight = y.copy(), np.ones(len(use))
        slopes: list[F64] = []
        intercepts: list[F64] = []
        spread = 1.0
        for _ in range(rounds):
            slopes = _slopes(self.encoder, rows, x, wanted, weight, self.fine)
            linear = np.einsum("np,np->n", x, slopes[0][rows.groups[:, 0] + 1])
            intercepts, without = _borrowing(self.encoder, rows, wanted - linear, weight)
            expected = linear + without
            left = np.abs(wanted - expected)
            told = left[free] if free.any() else left
            spread = max(1.4826 * float(np.median(told)), FLOOR)
            weight = np.minimum(1.0, HUBER * spread / np.maximum(left, 1e-12))
            # What would have been set had there been no limit: the mean of what lies beyond it.
            a = np.clip((self.high[use] - expected) / spread, -8.0, 8.0)
            b = np.clip((self.low[use] - expected) / spread, -8.0, 8.0)
            wanted = np.where(above, expected + spread * norm.pdf(a) / norm.sf(a), y)
            wanted = np.where(below, expected - spread * norm.pdf(b) / norm.cdf(b), wanted)
            wanted = np.where(above, np.clip(wanted, y, y + FARTHEST), wanted)
            wanted = np.where(below, np.clip(wanted, y - FARTHEST, y), wanted)
        _borrow(self.rows, use, slopes)
        _borrow(self.rows, use, intercepts)
        return (slopes, intercepts), spread

    def gap(self, tables: Tables, at: NDArray[np.int64]) -> F64:
        """(len(at),) current less what the tables lead one to expect."""
        group = self.rows.groups[at, 0] + 1
        out: F64 = self.y[at] - tables[1][0][group] - np.einsum("np,np->n", self.x[at], tables[0][0][group])
        return out


def _borrowing(encoder: Encoder, rows: Rows, r: F64, weight: F64) -> tuple[list[F64], F64]:
    """Means per level, each shrunk towards the coarser group; and each command's own without itself.

    The weight of the coarser group is the spread within groups over that between them, both squared: where
    protocols differ much beside what commands of one protocol do, a few commands are believed.
    """
    out: list[F64] = [np.empty(0)] * GROUP_LEVELS
    every = float(np.median(r))
    above = np.full(len(r), every)
    without = above
    for level in reversed(range(GROUP_LEVELS)):
        count = len(encoder.groups[level])
        g = rows.groups[:, level]
        number = np.bincount(g, weights=weight, minlength=count)
        total = np.bincount(g, weights=weight * (r - above), minlength=count)
        mean = total / np.maximum(number, 1e-9)
        several = number[g] > 2
        left = np.abs(r - above - mean[g])[several]
        within = max(1.4826 * float(np.median(left)) if len(left) else 0.1, FLOOR) ** 2
        known = number >= 1.5
        squares = mean[known] ** 2
        # A few groups far off must not pass for the rule.
        between = np.mean(np.minimum(squares, 9 * np.median(squares))) if known.any() else 0.0
        between -= float(np.mean(within / number[known])) if known.any() else 0.0
        prior = float(np.clip(within / max(between, 1e-5), 0.02, 50.0))
        base = np.full(count, every)
        base[g] = above
        out[level] = np.concatenate([[every], base + total / (number + prior)])
        own = total[g] - weight * (r - above)
        without = above + own / np.maximum(number[g] - weight + prior, 1e-9)
        above = above + (total / (number + prior))[g]
    return out, without


def _spreads(
    fitted: _Regression, use: NDArray[np.int64], usual: UsualValues, seed: int
) -> tuple[tuple[F64, ...], F64, F64]:
    """Spread per level and group, factors for what is not known of the size, and for how well known the element is.

    All from commands that the expectation was not fitted to.
    """
    rows, model = fitted.rows, fitted.model
    fold = np.random.default_rng(seed).integers(FOLDS, size=len(use))
    gap, support = np.empty(len(use)), np.empty(len(use), dtype=np.int64)
    for k in range(FOLDS):
        mine, rest = use[fold == k], use[fold != k]
        if not len(mine) or not len(rest):
            gap[fold == k], support[fold == k] = np.nan, 0
            continue
        tables, _ = fitted.fit(rest, ROUNDS - 1)
        gap[fold == k] = fitted.gap(tables, mine)
        seen = np.bincount(rows.groups[rest, 0], minlength=len(usual.support[0]) - 1)
        support[fold == k] = np.searchsorted(SUPPORTS, seen[rows.groups[mine, 0]], side="right")
    blind = model.blind(rows.numbers[use])
    free = fitted.free[use] & np.isfinite(gap)
    good = free & (support >= SUPPORTED) & (blind == 0)
    good = good if good.sum() >= 50 else free
    every = max(1.4826 * float(np.median(np.abs(gap[good]))), FLOOR) if good.any() else 1.0
    kind = rows.groups[:, TYPE]
    by_type = np.full(len(fitted.encoder.groups[TYPE]) + 1, every)
    for k in np.unique(kind[use][good]):
        mine = np.abs(gap[good & (kind[use] == k)])
        own = 1.4826 * float(np.median(mine))
        by_type[k + 1] = np.sqrt((len(mine) * own**2 + SPREAD_PRIOR * every**2) / (len(mine) + SPREAD_PRIOR))
    by_type = np.maximum(by_type, FLOOR)
    widths = []
    for level in range(GROUP_LEVELS):
        table = np.full(len(fitted.encoder.groups[level]) + 1, every)
        if level <= TYPE:
            table[rows.groups[:, level] + 1] = by_type[kind + 1]
        widths.append(table)
    share = np.abs(gap) / by_type[kind[use] + 1]
    well = free & (support >= SUPPORTED)
    blind_factors = np.clip(_factors(share[well], blind[well], BLIND), 0.5, 4.0)
    share = share / blind_factors[blind]
    factors = _factors(share[free], support[free], len(SUPPORTS) + 1)
    # Who knows an element less cannot know its current better.
    factors = np.clip(np.maximum.accumulate(factors[::-1])[::-1], 0.5, 6.0)
    return tuple(widths), blind_factors, factors
