"""One world's examinations drawn anew, thousands of times, and the alert rule in every draw.

A draw is drawn twice: the test examinations (what is caught, what alerts falsely), and the calibration examinations
(where the threshold stands), so that an interval covers the luck of both. What was learned stays as it was. Weights
are kept turned, (units, 1 + draws), in 32 bits: whole numbers below 2^24 are exact in them, and a row is contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.errors import LearningError
from scanward.learning.benchmark.answers import Attacked, Bools, Floats, Ints, Told
from scanward.learning.resampling import Interval, exact, interval

Weights = NDArray[np.float32]
FEW = 5  # fewer examinations with a hit (or with a miss) than this: the bootstrap alone knows too little
SPARE = 60  # calibration examinations beyond twice the rank looked for: further ones decide nothing


def expressible(budget: float, units: int) -> int | None:
    """How many calibration examinations may score at least as high as what alerts; None: not even zero.

    The comparison of ``calibration.Calibration``, p-value <= budget, in the same rounded numbers.
    """
    beyond = int(budget * (units + 1)) + 1
    while beyond >= 0 and not (1 + beyond) / (units + 1) <= budget:
        beyond -= 1
    return beyond if 0 <= beyond < units else None


def multinomial(units: int, some: int, draws: int, seed: Sequence[int]) -> Weights:
    """How often each of the first ``some`` of ``units`` came, (some, 1 + draws); the first column is all ones.

    The others are one category: the same law as drawing all of them, for less.
    """
    rng = np.random.default_rng(tuple(seed))
    chance = np.full(some + (some < units), 1 / units)
    if some < units:
        chance[-1] = (units - some) / units
    out = np.ones((some, 1 + draws), np.float32)
    for start in range(0, draws, 500):  # whole numbers of 64 bits would take twice as much memory at once
        end = min(draws, start + 500)
        out[:, 1 + start : 1 + end] = rng.multinomial(units, chance, size=end - start).T[:some]
    return out


@dataclass
class Stratum:
    """One world in every draw; the same draws for every method, by seed.

    Attributes
    ----------
    units : clean test examinations
    draws : of the bootstrap
    seed : of this world (and batch)
    chosen : indices of the units that are needed, ascending; None for all
    """

    units: int
    draws: int
    seed: tuple[int, ...]
    chosen: Ints | None = None
    weights: Weights = field(init=False)
    _place: Ints = field(init=False)
    _calibrate: dict[int, Weights] = field(default_factory=dict)
    _counts: dict[bytes, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = np.arange(self.units) if self.chosen is None else self.chosen
        self.weights = multinomial(self.units, len(chosen), self.draws, (*self.seed, 1))
        self._place = np.full(self.units, -1, np.int64)
        self._place[chosen] = np.arange(len(chosen))

    def places(self, units: Ints) -> Ints:
        """Rows of ``weights`` of these units."""
        if len(units) and (units.min() < 0 or units.max() >= self.units):
            raise LearningError(
                "an answer about an examination that is not there", "benchmark", "report this"
            )
        return self._place[units]

    def thresholds(self, calibrate: Floats, budgets: Sequence[float]) -> dict[float, Floats]:
        """Alerted is what scores above, (1 + draws,) for each budget that the calibration can express."""
        count = len(calibrate)
        ranks = {b: expressible(b, count) for b in budgets}
        known = {b: rank for b, rank in ranks.items() if rank is not None}
        if not known:
            return {}
        if not np.isfinite(calibrate).all():
            raise LearningError("a calibration score is not a number", "benchmark", "report this")
        if count not in self._calibrate:
            self._calibrate[count] = multinomial(count, count, self.draws, (*self.seed, 2, count))
        drawn, order = self._calibrate[count], np.argsort(-calibrate, kind="stable")
        farthest = max(known.values())
        top = order[: 2 * farthest + SPARE]
        beyond = np.cumsum(drawn[top], axis=0)
        if beyond[-1].min() <= farthest:  # hardly ever: a draw in which the top ones hardly came
            top, beyond = order, np.cumsum(drawn[order], axis=0)
        ranked = calibrate[top]
        return {b: ranked[(beyond <= rank).sum(axis=0)] for b, rank in known.items()}

    def caught(
        self, scores: Floats, objects: Bools, units: Ints, threshold: Floats, amounts: Floats | None = None
    ) -> Floats:
        """Sum of what is alerted in every draw, (1 + draws,); (K, 1 + draws) for ``amounts`` (K, M) of each."""
        sure = objects | ~(scores <= threshold.max())
        perhaps = ~sure & (scores > threshold.min())
        # Whole numbers are exact in 32 bits; amounts need 64.
        kind = "float32" if amounts is None else "float64"
        of: NDArray[Any] = np.ones((1, len(scores)), kind) if amounts is None else amounts
        places = self.places(units)
        summed = np.stack([np.bincount(places[sure], a[sure], len(self.weights)) for a in of])
        used = np.flatnonzero(summed.any(axis=0))
        out: Floats = np.asarray(summed[:, used].astype(kind) @ self.weights[used], np.float64)
        if perhaps.any():
            above = scores[perhaps][:, None] > threshold[None, :]
            out = out + of[:, perhaps] @ (above * self.weights[places[perhaps]])
        first: Floats = out[0]
        return first if amounts is None else out

    def caught_each(self, asked: Sequence[tuple[Attacked, Floats]]) -> Floats:
        """The same for many (cases, threshold) at once, (len(asked), 1 + draws): one product for all that is sure."""
        sure = np.zeros((len(asked), len(self.weights)), np.float32)
        rest = []
        for row, (cases, threshold) in enumerate(asked):
            certain = cases.objects | ~(cases.scores <= threshold.max())
            perhaps = ~certain & (cases.scores > threshold.min())
            places = self.places(cases.units)
            sure[row] = np.bincount(places[certain], minlength=len(self.weights))
            rest.append((cases.scores[perhaps], places[perhaps]))
        out: Floats = (sure @ self.weights).astype(np.float64)
        for row, ((scores, places), (_, threshold)) in enumerate(zip(rest, asked, strict=True)):
            if len(scores):
                above = scores[:, None] > threshold[None, :]
                out[row] += np.einsum("md,md->d", above, self.weights[places])
        return out

    def counts(self, units: Ints) -> Floats:
        """How many of these came in every draw, (1 + draws,)."""
        key = units.tobytes()
        if key not in self._counts:
            how_many = np.bincount(self.places(units), minlength=len(self.weights))
            used = np.flatnonzero(how_many)
            self._counts[key] = (how_many[used].astype(np.float32) @ self.weights[used]).astype(np.float64)
        return self._counts[key]


def alerted(scores: Floats, objects: Bools, threshold: Floats) -> Bools:
    """Which of these alert in the sample itself (the first draw). A score that is no number alerts."""
    out: Bools = objects | ~(scores <= threshold[0])
    return out


def share(above: Floats, below: Floats) -> Floats:
    """Quotient, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = np.where(below > 0, above / below, np.nan)
    return out


@dataclass
class Mean:
    """A figure as the mean over worlds, every world counting equally, in every draw.

    ``units``: examinations behind it in each world; ``hits``, ``misses``: up to ``FEW`` of those with and without.
    """

    total: Floats
    known: Floats
    units: list[float] = field(default_factory=list)
    hits: set[tuple[int, int]] = field(default_factory=set)
    misses: set[tuple[int, int]] = field(default_factory=set)
    worlds: set[int] = field(default_factory=set)

    @classmethod
    def empty(cls, draws: int) -> Mean:
        """Nothing known yet; ``draws`` without the sample's own."""
        return cls(np.zeros(1 + draws), np.zeros(1 + draws))

    def add(self, world: int, draws: Floats, units: Ints, hit: Bools, effective: float | None = None) -> None:
        """One world's figure; ``hit`` tells of each of ``units`` (repeats allowed) whether it counts as one."""
        if not math.isfinite(draws[0]):
            return
        known = np.isfinite(draws)
        self.total += np.where(known, draws, 0.0)
        self.known += known
        self.worlds.add(world)
        self.units.append(float(len(np.unique(units))) if effective is None else effective)
        for kept, which in ((self.hits, hit), (self.misses, ~hit)):
            if len(kept) < FEW:
                kept.update((world, int(u)) for u in np.unique(units[which])[:FEW])

    @property
    def draws(self) -> Floats:
        """Mean over worlds in every draw; NaN where nothing is known."""
        return share(self.total, self.known)

    @property
    def effective(self) -> float:
        """Examinations that an exact interval may count on.

        Were all worlds' shares different, the mean of W shares with n_w each is bounded as one share with
        W x min n_w would be (the mean of logarithms is below the logarithm of the mean).
        """
        return len(self.units) * min(self.units, default=0.0)

    @property
    def few(self) -> bool:
        """Whether the percentiles alone know too little."""
        return min(len(self.hits), len(self.misses)) < FEW

    def interval(self) -> Interval:
        """Percentile interval; with fewer than ``FEW`` hits or misses no narrower than the exact one."""
        told = interval(self.draws)
        return widened(told, *exact(told.value * self.effective, self.effective)) if self.few else told


def mean_of(parts: Sequence[Mean]) -> Mean | None:
    """Mean over attacks, each counting equally; None of none. Attacks of one examination hang together, so it
    counts on no more examinations than the attack with the fewest."""
    parts = [p for p in parts if p.units]
    if not parts:
        return None
    out = Mean.empty(len(parts[0].total) - 1)
    for part in parts:
        known = np.isfinite(part.draws)
        out.total += np.where(known, part.draws, 0.0)
        out.known += known
        out.hits |= part.hits
        out.misses |= part.misses
        out.worlds |= part.worlds
    out.units = [min(p.effective for p in parts)]
    return out


def widened(told: Interval, *others: float) -> Interval:
    """No narrower than ``others`` say; as it is where nothing was measured."""
    if not math.isfinite(told.value):
        return told
    known = [x for x in (told.low, told.high, told.value, *others) if math.isfinite(x)]
    return Interval(told.value, min(known), max(known))


def strangest(told: Told, units: int) -> tuple[Floats, Bools]:
    """Of each clean examination: its largest score, and whether a rule objects to any command; shape (units,)."""
    scores = np.full(units, -np.inf)
    np.maximum.at(scores, told.clean_units, told.clean_scores)
    objects = np.zeros(units, np.bool_)
    objects[told.clean_units[told.clean_objects]] = True
    return scores, objects


def together(attacks: Mapping[str, Attacked], names: Sequence[str]) -> tuple[Floats, Bools, Ints, Ints]:
    """All cases of the attacks named: scores, objects, units, and the place of their attack in ``names``."""
    chosen = [attacks[n] for n in names]
    which = np.repeat(np.arange(len(chosen)), [len(a.scores) for a in chosen]).astype(np.int64)
    if not chosen:
        return np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.int64), which
    return (
        np.concatenate([a.scores for a in chosen]),
        np.concatenate([a.objects for a in chosen]),
        np.concatenate([a.units for a in chosen]),
        which,
    )


def stratum_of(
    cells: Mapping[str, Told | None], world: int, names: Sequence[str], seed: int, draws: int, batch: int = 0
) -> Stratum | None:
    """A world's draws of the examinations alone in which these attacks have cases; None without any."""
    present = [c for c in cells.values() if c is not None]
    units = [c.attacks[n].units for c in present for n in names if n in c.attacks]
    chosen = np.unique(np.concatenate(units)) if units else np.zeros(0, np.int64)
    if not len(chosen):
        return None
    return Stratum(max(c.units for c in present), draws, (seed, world, batch), chosen.astype(np.int64))


def add_detection(
    mean: Mean, world: int, stratum: Stratum, told: Told, attack: str, threshold: Floats
) -> None:
    """Add one world's share of an attack's cases that alert, at the conformal threshold of a budget."""
    cases = told.attacks.get(attack)
    if cases is None or not len(cases.units):
        return
    caught = stratum.caught(cases.scores, cases.objects, cases.units, threshold)
    hit = alerted(cases.scores, cases.objects, threshold)
    mean.add(world, share(caught, stratum.counts(cases.units)), cases.units, hit)
