"""The baselines that the judge is compared with: the same fields, the same examinations, the same tuning.

Each method sees commands as standardised numbers (doses and other figures compared by ratio, in their
logarithm), one-hot categories with rare ones merged, and a column that says what is missing; with the context
columns (patient, objective) or without. Of four candidates for each method, the one that best tells clean
commands from spoilt ones (``learning.corruptions``, never an attack) on held-back training examinations is
kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scanward.commands import Command, Examination, Group
from scanward.errors import LearningError
from scanward.layers.encoding import learn_encoder
from scanward.learning.baseline_detectors import BASELINES, Baseline, Detector, Rows
from scanward.learning.corruptions import SPOILERS, Workshop, spoil

HELD_BACK = 0.25  # share of the learning examinations on which candidates are compared
RARE_SHARE, RARE_COUNT = 0.002, 5  # a category seen in less than both is merged with the other rare ones
FARTHEST = 30.0  # standard deviations beyond which a value is cut: it is as strange as can be
CHUNK = 4_096  # commands scored at once: rows are wide
TUNED_TO = 0.05  # candidates are compared by their mean detection up to this false-alert rate


@dataclass(frozen=True)
class _Column:
    """One field: a number (``mean``, ``spread``, ``log``) or a category (``values``)."""

    name: str
    values: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0
    log: bool = False
    numeric: bool = True


class Place(NamedTuple):
    """Columns of one field in a row: ``at`` to ``at + width``, the last of which says that it is missing."""

    name: str
    numeric: (
        bool  # a number and whether it is missing; otherwise a column a category, the last but one for rare
    )
    at: int
    width: int


class FeatureTable:
    """Commands as rows of numbers; what ``learn`` saw decides the columns."""

    def __init__(self, columns: Sequence[_Column]) -> None:
        self.columns = tuple(columns)
        # A number has two columns (value, missing); a category one for each value, one for rare ones and one
        # for missing.
        self.width = sum(2 if c.numeric else len(c.values) + 2 for c in self.columns)

    @classmethod
    def learn(cls, commands: Sequence[Command], *, context: bool) -> FeatureTable:
        """Columns from clean commands: every field that the learned layers see.

        ``context`` False leaves the patient's and the objective's fields out.
        """
        columns = []
        for field in learn_encoder(tuple(commands)).fields:
            if not context and field.group != Group.MACHINE:
                continue
            if field.kind == "category":
                counts = Counter(t for c in commands if (t := c.text(field.name)) is not None)
                least = min(RARE_COUNT, max(2.0, RARE_SHARE * len(commands)))
                kept = tuple(sorted(value for value, n in counts.items() if n >= least))
                columns.append(_Column(field.name, kept, numeric=False))
                continue
            numbers = np.array([n for c in commands if (n := c.number(field.name)) is not None])
            numbers = numbers[np.isfinite(numbers)]
            log = field.log and bool((numbers > 0).all())
            scaled = np.log(numbers) if log else numbers
            spread = float(scaled.std()) if len(scaled) else 0.0
            # A field that never moved still speaks when it does: a hundredth of its size is one deviation.
            floor = 0.01 if log else max(0.01 * abs(float(scaled.mean())) if len(scaled) else 0.0, 1e-3)
            mean = float(scaled.mean()) if len(scaled) else 0.0
            columns.append(_Column(field.name, mean=mean, spread=max(spread, floor), log=log))
        if not columns:
            raise LearningError(
                "no field can be compared", "baselines", "give recordings with machine fields"
            )
        return cls(columns)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where each field stands in a row, in order."""
        out = []
        at = 0
        for column in self.columns:
            width = 2 if column.numeric else len(column.values) + 2
            out.append(Place(column.name, column.numeric, at, width))
            at += width
        return tuple(out)

    def values(self, commands: Sequence[Command]) -> Rows:
        """(N, number of fields): standardised numbers and the places of categories, NaN where a field is missing."""
        out = np.full((len(commands), len(self.columns)), np.nan)
        for j, column in enumerate(self.columns):
            if column.numeric:
                for i, command in enumerate(commands):
                    value = command.number(column.name)
                    if value is None or not math.isfinite(value):
                        continue
                    if column.log:
                        value = math.log(max(value, 1e-9))
                    out[i, j] = (value - column.mean) / column.spread
                out[:, j] = np.clip(out[:, j], -FARTHEST, FARTHEST)
                continue
            place = {value: k for k, value in enumerate(column.values)}
            rare = len(column.values)
            for i, command in enumerate(commands):
                text = command.text(column.name)
                if text is not None:
                    out[i, j] = place.get(text, rare)
        return out

    def spread_out(self, values: Rows) -> Rows:
        """``values`` as rows: (N, number of fields) -> (N, width), finite."""
        out = np.zeros((len(values), self.width))
        every = np.arange(len(values))
        for j, place in enumerate(self.places):
            missing = np.isnan(values[:, j])
            if place.numeric:
                out[:, place.at] = np.where(missing, 0.0, values[:, j])
                out[:, place.at + 1] = missing
            else:
                code = np.where(missing, place.width - 1, values[:, j]).astype(np.int64)
                out[every, place.at + code] = 1.0
        return out

    def rows(self, commands: Sequence[Command]) -> Rows:
        """(N, width), finite. A missing number stands at the mean with its missing column set."""
        return self.spread_out(self.values(commands))


@dataclass(frozen=True)
class Tuned:
    """A baseline ready to score: its columns, the chosen candidate and how the candidates compared."""

    name: str
    context: bool
    table: FeatureTable
    detector: Detector
    chosen: Mapping[str, Any]
    compared: tuple[tuple[Mapping[str, Any], float], ...]

    def score(self, commands: Sequence[Command]) -> list[float]:
        """Strangeness of each command by itself, higher is stranger."""
        return [float(s) for s in self.scores_of(commands)]

    def scores_of(self, commands: Sequence[Command]) -> Rows:
        """The same as an array, some commands at a time, so that long lists stay small: (N,)."""
        parts = [np.zeros(0)]
        for at in range(0, len(commands), CHUNK):
            found = self.detector.score(self.table.rows(commands[at : at + CHUNK]))
            parts.append(np.asarray(found, dtype=np.float64))
        return np.concatenate(parts)


@dataclass(frozen=True)
class HeldBack:
    """Commands for choosing: ``early`` ones to learn from, later ``clean`` ones and the same ones ``spoilt``."""

    early: list[Command]
    clean: list[Command]
    spoilt: list[Command]


@dataclass(frozen=True)
class Ground:
    """Rows that all baselines with (or without) the context columns share."""

    context: bool
    early: FeatureTable
    early_rows: Rows
    clean_rows: Rows
    spoilt_rows: Rows
    table: FeatureTable
    rows: Rows


def low_rate_detection(clean: Sequence[float], spoilt: Sequence[float], most: float = TUNED_TO) -> float:
    """Mean share of spoilt commands detected over false-alert rates 0 to ``most`` (ties count as missed)."""
    if not len(clean) or not len(spoilt):
        raise LearningError("nothing to compare candidates on", "baselines", "give more examinations")
    ordered = np.sort(np.asarray(clean))[::-1]
    allowed = np.arange(int(most * len(ordered)) + 1)  # false alerts spent
    thresholds = ordered[np.minimum(allowed, len(ordered) - 1)]
    ranked = np.sort(np.asarray(spoilt))
    above = len(ranked) - np.searchsorted(ranked, thresholds, "right")
    return float(above.mean() / len(ranked))


def validation(
    held_back: Sequence[Examination], donors: Sequence[Examination], seed: int, most: int = 3000
) -> tuple[list[Command], list[Command]]:
    """Clean commands, and as many spoilt ones, of examinations that no candidate learned from."""
    rng = np.random.default_rng((seed, 77))
    workshop, kinds = Workshop(donors), list(SPOILERS)
    clean: list[Command] = []
    spoilt: list[Command] = []
    for examination in held_back:
        for index, command in enumerate(examination.commands):
            if len(clean) >= most:
                return clean, spoilt
            clean.append(command)
            made = spoil(workshop, examination, index, kinds[int(rng.integers(len(kinds)))], rng)
            if made is not None:
                spoilt.append(made.examination.commands[made.index])
    return clean, spoilt


def held_back_commands(learn: Sequence[Examination], seed: int) -> HeldBack:
    """The last quarter of the learning examinations as clean and spoilt commands, and those before it."""
    cut = int(len(learn) * (1 - HELD_BACK))
    first, later = learn[:cut], learn[cut:]
    clean, spoilt = validation(later, first, seed)
    return HeldBack([c for e in first for c in e.commands], clean, spoilt)


def lay_out(learn: Sequence[Examination], held_back: HeldBack, *, context: bool) -> Ground:
    """Rows for choosing (columns from the earlier commands alone) and for the one that is kept."""
    early = FeatureTable.learn(held_back.early, context=context)
    everything = [c for e in learn for c in e.commands]
    final = FeatureTable.learn(everything, context=context)
    return Ground(
        context,
        early,
        early.rows(held_back.early),
        early.rows(held_back.clean),
        early.rows(held_back.spoilt),
        final,
        final.rows(everything),
    )


def made(baseline: Baseline, table: FeatureTable, seed: int, candidate: Mapping[str, Any]) -> Detector:
    """A detector, still to be learned; told the places of fields where it asks for them."""
    if baseline.sees_places:
        return baseline.make(seed, table.places, **candidate)
    return baseline.make(seed, **candidate)


def choose(
    baseline: Baseline, ground: Ground, seed: int, tick: Callable[[int], None] = lambda _n: None
) -> Tuned:
    """The best of the baseline's candidates, learned again from everything; ``tick`` counts what was learned."""
    compared = []
    for n, candidate in enumerate(baseline.grid):
        tick(n)
        detector = made(baseline, ground.early, seed, candidate)
        try:
            detector.fit(ground.early_rows)
        except LearningError:
            compared.append((candidate, 0.0))  # these rows do not allow it: another is kept, if any can be
            continue
        told = low_rate_detection(
            detector.score(ground.clean_rows).tolist(), detector.score(ground.spoilt_rows).tolist()
        )
        compared.append((candidate, told))
    tick(len(baseline.grid))
    chosen = max(compared, key=lambda pair: pair[1])[0]
    detector = made(baseline, ground.table, seed, chosen).fit(ground.rows)
    return Tuned(baseline.name, ground.context, ground.table, detector, chosen, tuple(compared))


def tune(
    learn: Sequence[Examination],
    *,
    names: Iterable[str] = tuple(BASELINES),
    contexts: Iterable[bool] = (False, True),
    seed: int = 0,
    tick: Callable[[str, float], None] = lambda _w, _s: None,
) -> list[Tuned]:
    """Every named baseline with and without context, tuned and then learned from all of ``learn``.

    ``learn`` are the clean examinations that are not for calibration, in order of time.

    Raises
    ------
    LearningError
        When there is too little to hold back a part for the comparison.
    """
    held_back = held_back_commands(learn, seed)
    wanted = [(BASELINES[n], c) for c in contexts for n in names]
    out: list[Tuned] = []
    for context in sorted({c for _, c in wanted}):
        ground = lay_out(learn, held_back, context=context)
        for baseline in (b for b, c in wanted if c == context):
            tick(_label(baseline, context), len(out) / len(wanted))
            out.append(choose(baseline, ground, seed))
    return out


def _label(baseline: Baseline, context: bool) -> str:
    return f"{baseline.name} {'with' if context else 'without'} context"
