"""``results.json`` as a report reads it: figures that may not be there, methods by rank, levels by unique keys.

What was not measured is None everywhere; what has another shape than it should is an error of ours, never a traceback.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from scanward.errors import DecodeError
from scanward.learning.benchmark.answers import Kind
from scanward.learning.benchmark.worlds import Level

FORMAT = "scanward-benchmark-1"
PRIMARY_BUDGET, SECOND_BUDGET = "0.005", "0.001"
OURS, NULL, CURVE = "Scanward", "null", "curve"
FAILED = "failed"  # how the reason of a cell begins that was tried in vain
KINDS = tuple(kind.value for kind in Kind)
# In the report: who is judged first, what can be reached at all, then the others.
KIND_ORDER = (Kind.OURS.value, Kind.CEILING.value, *(k for k in KINDS if k not in (Kind.OURS, Kind.CEILING)))
WHERE = "results.json"
AGAIN = "write it again with `scanward benchmark`"


class Interval(NamedTuple):
    """A figure with its 95 % interval; NaN bounds where there is none."""

    value: float
    low: float
    high: float


def interval(found: Any, where: str = WHERE) -> Interval | None:
    """A figure; None where it was not measured. DecodeError when it is no figure."""
    if found is None:
        return None
    value, low, high = (_number(mapping(found, where).get(k), where) for k in ("value", "low", "high"))
    if value is None:
        return None
    return Interval(value, math.nan if low is None else low, math.nan if high is None else high)


def _number(found: Any, where: str) -> float | None:
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise DecodeError(f"{type(found).__name__} where a number should be", where, AGAIN)
    try:
        value = float(found)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def number(found: Mapping[str, Any], key: str) -> float | None:
    """A number of a mapping, None where it is not there."""
    return _number(found.get(key), f"{WHERE}: {key}")


def numbers(found: Mapping[str, Any], key: str) -> list[float]:
    """A list of numbers; NaN for what was not measured; empty where it is not there."""
    values = [_number(v, f"{WHERE}: {key}") for v in sequence(found.get(key), key)]
    return [math.nan if v is None else v for v in values]


def mapping(found: Any, where: str = WHERE) -> Mapping[str, Any]:
    """A mapping; empty where there is none. DecodeError for anything else."""
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise DecodeError(f"{type(found).__name__} where an object should be", where, AGAIN)
    return found


def sequence(found: Any, where: str = WHERE) -> Sequence[Any]:
    """A list; empty where there is none. DecodeError for anything else."""
    if found is None:
        return ()
    if not isinstance(found, list | tuple):
        raise DecodeError(f"{type(found).__name__} where a list should be", where, AGAIN)
    return found


def mappings(found: Any, where: str = WHERE) -> list[Mapping[str, Any]]:
    """A list of mappings."""
    return [mapping(one, where) for one in sequence(found, where)]


def within(found: Any, *keys: str) -> Any:
    """What lies under these keys, one inside the other; None where any is not there."""
    for key in keys:
        found = mapping(found, key).get(key)
        if found is None:
            return None
    return found


def text(found: Any) -> str:
    """Anything as one short enough text; "" for nothing."""
    return "" if found is None else str(found)


def slug(name: str) -> str:
    """Fit for the name of a file and for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "x"


ENDS = {"value": "detection", "low": "low", "high": "high"}  # of an interval -> of a curve


class Cell(NamedTuple):
    """One that is not there, and why."""

    world: str
    level: str
    method: str
    why: str


@dataclass(frozen=True, eq=False)
class LevelView:
    """One level of one set of worlds. ``key`` is unique in a report."""

    told: Mapping[str, Any]
    key: str

    @property
    def name(self) -> str:
        """Of the level."""
        return text(self.told.get("level"))

    @property
    def set(self) -> str:
        """What its worlds have in common."""
        found = text(self.told.get("set"))
        return found or ("simulated sites" if self.simulated else ", ".join(self.worlds) or "recordings")

    @property
    def simulated(self) -> bool:
        """Whether its worlds are. A level that does not say is taken for simulated: nothing gains by silence."""
        return self.told.get("simulated") is not False

    @property
    def worlds(self) -> tuple[str, ...]:
        """Names."""
        return tuple(text(w) for w in sequence(self.told.get("worlds"), "worlds"))

    @property
    def mark(self) -> str:
        """What stands on everything that shows it."""
        return "SIMULATED" if self.simulated else "Recorded commands, injected attacks"

    @property
    def title(self) -> str:
        """Level and set, for headings."""
        return f"{self.name}, {self.set}"

    @cached_property
    def methods(self) -> Mapping[str, Any]:
        """Name -> figures."""
        return mapping(self.told.get("methods"), "methods")

    def attacks(self, *groups: str) -> dict[str, Mapping[str, Any]]:
        """Attacks of these groups; of none: all but null and curves."""
        if groups:
            return {n: f for n, f in self._attacks.items() if f.get("group") in groups}
        return {n: f for n, f in self._attacks.items() if f.get("group") not in (NULL, CURVE)}

    @cached_property
    def _attacks(self) -> dict[str, Mapping[str, Any]]:
        told = mapping(self.told.get("attacks"), "attacks")
        return {name: mapping(facts, name) for name, facts in told.items()}

    def figure(self, method: str, *keys: str) -> Interval | None:
        """Any figure of a method, by its keys."""
        return interval(within(self.methods.get(method), *keys), f"{WHERE}: {method}: {'/'.join(keys)}")

    def worlds_of(self, method: str) -> int:
        """Worlds in which a method was measured; all of them where the results do not say."""
        found = number(mapping(self.methods.get(method)), "worlds")
        return len(self.worlds) if found is None else int(found)

    @cached_property
    def budget(self) -> str:
        """The primary one here: recordings that are too few for 0.5 % have a larger one."""
        found = number(self.told, "budget")
        return PRIMARY_BUDGET if found is None else f"{found:g}"

    @property
    def percent(self) -> str:
        """The same in words."""
        return f"{100 * float(self.budget):g} %"

    @property
    def budgets(self) -> tuple[str, ...]:
        """All that were measured, the primary one first."""
        return (PRIMARY_BUDGET, SECOND_BUDGET) if self.budget == PRIMARY_BUDGET else (self.budget,)

    def detection(self, method: str, budget: str | None = None) -> Interval | None:
        """Mean over attacks: the primary endpoint."""
        return self.figure(method, "detection", budget or self.budget, "mean")

    def caught(self, method: str, attack: str, budget: str | None = None) -> Interval | None:
        """Of one attack; of the null attack, what alerted though nothing was changed."""
        budget = budget or self.budget
        if self._attacks.get(attack, {}).get("group") == NULL:
            return self.figure(method, "clean", budget, "null")
        return self.figure(method, "detection", budget, "attacks", attack)

    def of_ceiling(self, method: str, *keys: str) -> Interval | None:
        """Share of what the oracle detects: ``"mean"``, or ``"attacks", name``."""
        return self.figure(method, "of_ceiling", self.budget, *keys)

    def matched(self, method: str) -> Interval | None:
        """Mean detection where as many clean test examinations alert as budgeted: the nearest point of the curve."""
        rate = float(self.budget)
        told = mapping(mapping(self.methods.get(method), method).get("roc"), "roc")
        rates = numbers(told, "false_alerts")
        known = [k for k, found in enumerate(rates) if 0 < found < math.inf]
        if not known:
            return None
        at = min(known, key=lambda k: abs(math.log(rates[k] / rate)))
        ends = {name: sequence(told.get(key)) for name, key in ENDS.items()}
        return interval({name: of[at] if at < len(of) else None for name, of in ends.items()})

    def alerted(self, method: str, budget: str | None = None) -> Interval | None:
        """Clean examinations that alerted."""
        return self.figure(method, "clean", budget or self.budget, "examinations")


def percents(which: Sequence[LevelView]) -> str:
    """The primary budgets of these levels in words: one, or each once."""
    return " or ".join(dict.fromkeys(one.percent for one in which))


class View:
    """The whole of a results mapping.

    Raises
    ------
    DecodeError
        When it is no results mapping of this version.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.told = mapping(results)
        if self.told.get("format") != FORMAT:
            raise DecodeError(f"no results of the format {FORMAT}", WHERE, AGAIN)
        self.about = {text(m.get("name")): m for m in mappings(self.told.get("methods"), "methods")}
        self.levels = list(self._levels())
        self._best: dict[str, str | None] = {}
        self._partial: dict[tuple[str, str], bool] = {}

    def _levels(self) -> Iterator[LevelView]:
        used: set[str] = set()
        for told in mappings(self.told.get("levels"), "levels"):
            one = LevelView(told, "")
            base = slug(one.title)
            key, i = base, 2
            while key in used:
                key, i = f"{base}-{i}", i + 1
            used.add(key)
            yield LevelView(told, key)

    @property
    def final(self) -> bool:
        """Whether locked sites were opened."""
        return self.told.get("final") is True

    @cached_property
    def _not_there(self) -> list[Cell]:
        found = []
        for one in sequence(self.told.get("missing"), "missing"):
            parts = [text(part) for part in (one if isinstance(one, list | tuple) else [one])]
            found.append(Cell(*(parts + [""] * 4)[:4]))
        return found

    @property
    def failed(self) -> list[Cell]:
        """Cells that a method gave no figures for."""
        return [one for one in self._not_there if one.why.startswith(FAILED)]

    @property
    def missing(self) -> list[Cell]:
        """Cells that are not there yet."""
        return [one for one in self._not_there if not one.why.startswith(FAILED)]

    @property
    def finished(self) -> bool:
        """Whether every cell of the plan was tried."""
        return not self.missing and (self.told.get("finished") is True or bool(self.failed))

    @property
    def simulated(self) -> bool:
        """Whether any of it is."""
        return any(one.simulated for one in self.levels) or not self.levels

    @property
    def plan(self) -> Mapping[str, Any]:
        """What was planned."""
        return mapping(self.told.get("plan"), "plan")

    # --- methods

    def kind(self, method: str) -> str:
        """Of a method; "" when the results do not say."""
        return text(self.about.get(method, {}).get("kind"))

    def is_baseline(self, method: str) -> bool:
        """Neither ours nor the ceiling."""
        return self.kind(method) not in (Kind.OURS.value, Kind.CEILING.value)

    def ranked(self, level: LevelView, among: Sequence[str] | None = None) -> list[str]:
        """Methods by the primary endpoint, best first; ties and what was not measured by name, the latter last."""
        names = list(level.methods) if among is None else list(among)
        found = {name: level.detection(name) for name in names}

        def key(name: str) -> tuple[float, str]:
            one = found[name]
            return (math.inf if one is None else -one.value, name)

        return sorted(names, key=key)

    def best_baseline(self, level: LevelView) -> str | None:
        """The highest by the endpoint among those that met every attack in every world, where there are any."""
        if level.key not in self._best:
            there = [n for n in level.methods if self.is_baseline(n) and level.detection(n) is not None]
            ranked = self.ranked(level, there)
            whole = [n for n in ranked if not self.partial(level, n)]
            self._best[level.key] = next(iter(whole or ranked), None)
        return self._best[level.key]

    def partial(self, level: LevelView, method: str) -> bool:
        """Whether a method was measured on a part of the level only: of its attacks, or of its worlds."""
        at = (level.key, method)
        if at not in self._partial:
            fewer = level.worlds_of(method) < len(level.worlds)
            self._partial[at] = fewer or self.fewer_attacks(level, method)
        return self._partial[at]

    def fewer_attacks(self, level: LevelView, method: str) -> bool:
        """Whether a method was measured on some of the level's attacks only (those that it was not shown)."""
        there = mapping(within(level.methods.get(method), "detection", level.budget, "attacks"))
        return bool(there) and any(there.get(name) is None for name in level.attacks())

    @cached_property
    def ceiling(self) -> str | None:
        """The oracle's name."""
        return next((n for n in self.about if self.kind(n) == Kind.CEILING.value), None)

    @cached_property
    def ours(self) -> str:
        """The method that the primary comparison is about."""
        return text(self.primary.get("ours")) or OURS

    @cached_property
    def primary(self) -> Mapping[str, Any]:
        """The primary comparison; empty when there is none yet."""
        return mapping(within(self.told, "comparisons", "primary"), "primary")

    @cached_property
    def main(self) -> LevelView | None:
        """The level of the primary comparison; without one recurring protocols, simulated before recorded."""
        return self.level_of(self.primary) or self.level_of({"level": Level.RECURRING.value})

    def level_of(self, told: Mapping[str, Any]) -> LevelView | None:
        """The level that ``level`` (and ``set``, or both in one text) name; simulated before recorded."""
        name = text(told.get("level"))
        fitting = [one for one in self.levels if one.name == name]
        fitting = fitting or [one for one in self.levels if name and one.name in name and one.set in name]
        exact = [one for one in fitting if told.get("set") and one.set == text(told.get("set"))]
        return next(iter(sorted(exact or fitting, key=lambda one: not one.simulated)), None)

    @cached_property
    def shown(self) -> list[str]:
        """Methods that plots show, at most nine: ours, the ceiling, the best of each other kind at ``main``."""
        if self.main is None:
            return []
        ranked = [n for n in self.ranked(self.main) if self.main.detection(n) is not None]
        found = [n for n in (self.ours, self.ceiling) if n in ranked]
        for kind in KINDS:
            if kind not in (Kind.OURS.value, Kind.CEILING.value):
                found += [n for n in ranked if self.kind(n) == kind][:1]
        return [n for n in found if n]

    @property
    def sets(self) -> dict[tuple[str, bool], list[LevelView]]:
        """Levels by what their worlds have in common."""
        found: dict[tuple[str, bool], list[LevelView]] = {}
        for one in self.levels:
            found.setdefault((one.set, one.simulated), []).append(one)
        return found
