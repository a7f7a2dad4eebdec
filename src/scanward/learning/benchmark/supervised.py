"""Classifiers of the context, taught by clean commands alone: does this command look like what it is said to be for?

The machine fields predict a context; a command is as strange as its told context is unlikely, -log p(told | machine)
nats. Seven classifiers times nine contexts, and each classifier with all its contexts together (the sum). Published
systems use the same idea (five classifiers, four clinical objectives); which ones was not told.

What all classifiers share, so that none is at a disadvantage:

* A class too rare to be learned, or never seen, is told as the one rare class (``contexts.Classes``).
* Probabilities are mixed with the classes' shares, one part in the number of rows learned from: a classifier that never
  saw a class here does not thereby know that it is impossible, and two that it holds impossible are still told apart.
* They are made as sharp as they turn out to be right on clean commands held back (one temperature a context; Guo et
  al., ICML 2017). Without it the sum over contexts would follow the classifier's most boastful answer.
* A context that nobody told scores the median of held-back clean commands: an unknown patient neither raises an alert
  nor hides one, and a guard without context could only refuse every emergency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from scanward.commands import Command
from scanward.errors import LearningError
from scanward.learning.baselines import HELD_BACK, FeatureTable, low_rate_detection, validation
from scanward.learning.benchmark.answers import Answer, Floats, Ints, Kind, Learned, Method, Tick
from scanward.learning.benchmark.classifiers import CLASSIFIERS, Classifier, ClassifierKind, log_softmax
from scanward.learning.benchmark.contexts import CONTEXTS, MISSING, Classes
from scanward.learning.benchmark.sharing import Last, Remembered
from scanward.learning.benchmark.tails import Tail
from scanward.learning.benchmark.worlds import World, commands_of

T = TypeVar("T")
Histories = Sequence[Sequence[Command]]
TUNING_ROWS = 8_000  # commands from which candidates learn
ROWS = 24_000  # commands from which the chosen one learns; both bound time and memory
HELD_BACK_MOST = 6_000  # clean commands held back, with as many spoilt ones
CHUNK = 4_096  # commands answered at once
TEMPERATURES = np.geomspace(0.05, 6.0, 61)  # the margins of a support vector machine want small ones
ALL, ANY = "all contexts", "any context"
JOINED = {
    ALL: "how unlikely all told contexts are together, by the machine fields (the sum)",
    ANY: "how unlikely one told context is, whichever it is, by the machine fields (the rarest tail)",
}


@dataclass(frozen=True)
class Labelled:
    """Commands for classifiers: rows (N, D) of machine fields, codes (N, K) of the contexts (``MISSING`` -1)."""

    rows: Floats
    codes: Ints


@dataclass(frozen=True)
class Ground:
    """What all classifiers of one world learn from: made once.

    ``early`` and ``clean``, ``spoilt`` are for choosing, ``table``, ``classes`` and ``all`` for the one that is kept.
    Contexts that too few commands tell are in neither list of classes, which have the same order.
    """

    early_table: FeatureTable
    early_classes: tuple[Classes, ...]
    early: Labelled
    clean: Labelled
    spoilt: Labelled
    table: FeatureTable
    classes: tuple[Classes, ...]
    all: Labelled
    known: Mapping[str, float]  # share of the learning commands that tell each context


def drawn(commands: Sequence[T], most: int, seed: int) -> list[T]:
    """At most ``most`` of them, drawn without replacement, in their order."""
    if len(commands) <= most:
        return list(commands)
    chosen = np.sort(np.random.default_rng((seed, 61)).choice(len(commands), most, replace=False))
    return [commands[i] for i in chosen]


def _labelled(table: FeatureTable, classes: Sequence[Classes], commands: Sequence[Command]) -> Labelled:
    codes = [c.codes(commands) for c in classes]
    shape = (len(commands), len(classes))
    return Labelled(table.rows(commands), np.stack(codes, axis=1) if codes else np.zeros(shape, np.int64))


def prepare(world: World, seed: int) -> Ground:
    """Rows and classes of one world, with a later part held back.

    Raises
    ------
    LearningError
        When no context is told often enough to be learned.
    """
    cut = int(len(world.learn) * (1 - HELD_BACK))
    first, held_back = world.learn[:cut], world.learn[cut:]
    everything, early = commands_of(world.learn), commands_of(first)
    known = {c.name: float(np.mean([c.told(m) is not None for m in everything])) for c in CONTEXTS}
    pairs = [(Classes.learn(c, early), Classes.learn(c, everything)) for c in CONTEXTS]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not both:
        raise LearningError(
            f"no context is told often enough in {world.name}", "benchmark", "give recordings with contexts"
        )
    earlier, classes = tuple(a for a, _ in both), tuple(b for _, b in both)
    clean, spoilt = validation(held_back, first, seed, HELD_BACK_MOST)
    sample = drawn(early, TUNING_ROWS, seed)
    early_table = FeatureTable.learn(early, context=False)
    table = FeatureTable.learn(everything, context=False)
    return Ground(
        early_table,
        earlier,
        _labelled(early_table, earlier, sample),
        _labelled(early_table, earlier, clean),
        _labelled(early_table, earlier, spoilt),
        table,
        classes,
        _labelled(table, classes, drawn(everything, ROWS, seed)),
        known,
    )


def mixed(logs: Floats, classes: Classes, rows: int) -> Floats:
    """Log probabilities (N, C) mixed with the classes' shares, one part in ``rows`` + 1."""
    part = 1 / (rows + 1)
    out: Floats = np.logaddexp(np.log1p(-part) + logs, np.log(part) + np.log(classes.shares))
    return out


def temperature(logs: Floats, codes: Ints) -> float:
    """The one of ``TEMPERATURES`` under which the told classes are likeliest: (N, C), (N,) with missing ones."""
    known = np.flatnonzero(codes != MISSING)
    if not len(known):
        return 1.0
    told = logs[known]
    losses = [-log_softmax(told / t)[np.arange(len(known)), codes[known]].mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


@dataclass
class Taught:
    """One classifier after learning, for all contexts of a world.

    ``held_back`` are the clean and the spoilt commands held back as the chosen candidate saw them, which had not
    learned from them: (N, K) and (M, K) nats.
    """

    table: FeatureTable
    classes: tuple[Classes, ...]
    model: Classifier
    rows: int
    temperatures: tuple[float, ...]
    medians: Floats  # (K,) nats
    facts: dict[str, Any]
    held_back: tuple[Floats, Floats]
    kept: Remembered = field(default_factory=Remembered)

    def column(self, context: str) -> int | None:
        """The column of a context; None where this world's commands do not tell it."""
        return next((k for k, c in enumerate(self.classes) if c.context.name == context), None)

    def nats(self, commands: Sequence[Command]) -> Floats:
        """-log p of each told context, the median where none is told: (N, K)."""
        out = np.empty((len(commands), len(self.classes)))
        for at in range(0, len(commands), CHUNK):
            some = _labelled(self.table, self.classes, commands[at : at + CHUNK])
            found = surprise(self.model, some, self.classes, self.rows, self.temperatures)
            out[at : at + CHUNK] = np.where(np.isnan(found), self.medians, found)
        return out

    def joined(self, how: str) -> Callable[[Floats], Floats]:
        """All contexts as one number, (N, K) nats -> (N,): ``ALL`` or ``ANY``."""
        return summed if how == ALL else strangest([Tail.of(column) for column in self.held_back[0].T])

    def of(self, histories: Histories) -> Floats:
        """``nats`` of every command of ``histories``, kept for the other rows that ask about the same commands."""
        return self.kept.of(histories, self.nats)


def summed(nats: Floats) -> Floats:
    """All contexts together: (N, K) -> (N,)."""
    return np.asarray(nats.sum(axis=1))


def strangest(tails: Sequence[Tail]) -> Callable[[Floats], Floats]:
    """The context that is told most rarely so unlikely a class: (N, K) -> (N,)."""
    return lambda nats: np.max([t.nats(c) for t, c in zip(tails, nats.T, strict=True)], axis=0)


def surprise(
    model: Classifier, some: Labelled, classes: Sequence[Classes], rows: int, temperatures: Sequence[float]
) -> Floats:
    """-log p of each told context, NaN where none is told: (N, K)."""
    out = np.full(some.codes.shape, np.nan)
    for k, logs in enumerate(model.logs(some.rows)):
        known = np.flatnonzero(some.codes[:, k] != MISSING)
        if len(known):
            sharp = log_softmax(mixed(logs[known], classes[k], rows) / temperatures[k])
            out[known, k] = -sharp[np.arange(len(known)), some.codes[known, k]]
    return out


@dataclass(frozen=True)
class _Chosen:
    """The best candidate so far."""

    told: float
    candidate: Mapping[str, Any]
    temperatures: tuple[float, ...]
    medians: Floats
    held_back: tuple[Floats, Floats]


def teach(ground: Ground, kind: ClassifierKind, seed: int, tick: Tick) -> Taught:
    """Choose among the candidates on commands held back, then learn from all."""
    began = time.perf_counter()
    classes, early = ground.early_classes, ground.early
    sizes, rows = [len(c.names) for c in classes], len(early.rows)
    best: _Chosen | None = None
    compared = []
    for i, candidate in enumerate(kind.grid):
        tick(f"{kind.name}: candidates", i / (len(kind.grid) + 1))
        model = kind.make(seed, **candidate).fit(early.rows, early.codes, sizes)
        logs = [mixed(a, c, rows) for a, c in zip(model.logs(ground.clean.rows), classes, strict=True)]
        sharpness = tuple(temperature(a, ground.clean.codes[:, k]) for k, a in enumerate(logs))
        clean = surprise(model, ground.clean, classes, rows, sharpness)
        spoilt = surprise(model, ground.spoilt, classes, rows, sharpness)
        medians = np.array([np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in clean.T])
        late = (np.where(np.isnan(clean), medians, clean), np.where(np.isnan(spoilt), medians, spoilt))
        told = low_rate_detection(summed(late[0]).tolist(), summed(late[1]).tolist())
        compared.append([dict(candidate), told])
        if best is None or told > best.told:
            best = _Chosen(told, candidate, sharpness, medians, late)
    if best is None:
        raise LearningError(f"'{kind.name}' has no candidates", "benchmark", "give its grid at least one")
    chosen, sharpness = best.candidate, best.temperatures
    tick(f"{kind.name}: all", len(kind.grid) / (len(kind.grid) + 1))
    everything = ground.all
    model = kind.make(seed, **chosen).fit(
        everything.rows, everything.codes, [len(c.names) for c in ground.classes]
    )
    facts = {
        "classifier": kind.name,
        "chosen": dict(chosen),
        "compared": compared,
        "rows": len(everything.rows),
        "contexts": {c.context.name: len(c.names) for c in ground.classes},
        "temperatures": {c.context.name: t for c, t in zip(classes, sharpness, strict=True)},
        "seconds shared by the rows of this classifier": round(time.perf_counter() - began, 2),
    }
    return Taught(
        ground.table,
        ground.classes,
        model,
        len(everything.rows),
        sharpness,
        best.medians,
        facts,
        best.held_back,
    )


_ground: Last[Ground] = Last()
_taught: Last[Taught] = Last()


def ground_of(world: World, seed: int) -> Ground:
    """What classifiers learn from, made anew unless this was the last world asked for."""
    return _ground.of(world, seed, lambda: prepare(world, seed))


def taught_of(world: World, kind: ClassifierKind, seed: int, tick: Tick) -> Taught:
    """The classifier of this world, learned anew unless it was the last one asked for."""
    return _taught.of(world, (seed, kind.name), lambda: teach(ground_of(world, seed), kind, seed, tick))


@dataclass(frozen=True)
class ContextScorer:
    """Strange where the told context is unlikely: one context, or all in one number."""

    taught: Taught
    number: Callable[[Floats], Floats]  # (N, K) nats -> (N,)

    def answer(self, histories: Histories) -> list[list[Answer]]:
        """Scores alone: a classifier has no rules."""
        scores = iter(self.number(self.taught.of(histories)).tolist())
        return [[Answer(next(scores)) for _ in h] for h in histories]


class Abstaining:
    """What is left of a classifier whose context this world's commands do not tell: it says nothing of any command."""

    def answer(self, histories: Histories) -> list[list[Answer]]:
        """The same score for every command."""
        return [[Answer(0.0) for _ in h] for h in histories]


def _single(kind: ClassifierKind, context: str) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        taught = taught_of(world, kind, seed, tick)
        known = ground_of(world, seed).known[context]
        column = taught.column(context)
        if column is None:
            why = f"told by {known:.0%} of the commands, in too few classes or too few commands: abstains"
            return Learned(Abstaining(), {**taught.facts, "context": context, "not learned": why})
        facts = {**taught.facts, "context": context, "told": known}
        return Learned(ContextScorer(taught, lambda nats: np.asarray(nats[:, column])), facts)

    return learn


def _joined(kind: ClassifierKind, how: str) -> Callable[[World, int, Tick], Learned]:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        taught = taught_of(world, kind, seed, tick)
        return Learned(ContextScorer(taught, taught.joined(how)), {**taught.facts, "context": how})

    return learn


def group_of(kind: ClassifierKind) -> str:
    """Rows of one classifier share its learning."""
    return f"contexts by {kind.name}"


CLEAN_ONLY: tuple[Method, ...] = tuple(
    method
    for kind in CLASSIFIERS.values()
    for method in (
        *(
            Method(
                f"{kind.name}: {context.name}",
                Kind.CLEAN_ONLY,
                _single(kind, context.name),
                about=f"how unlikely the told {context.name} is, by the machine fields",
                group=group_of(kind),
            )
            for context in CONTEXTS
        ),
        *(
            Method(
                f"{kind.name}: {how}", Kind.CLEAN_ONLY, _joined(kind, how), about=about, group=group_of(kind)
            )
            for how, about in JOINED.items()
        ),
    )
)
