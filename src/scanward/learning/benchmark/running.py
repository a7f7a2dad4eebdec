"""A run: what is missing of a plan is measured, cell after cell, by one process or several.

Worlds one after the other; in each the methods, those that share work together. A method is learned once in a world
and answers all its tests, so that whatever stops a run costs at most one method of one world for each process. A
method that fails is told with its reason and stops no other; so is one that takes its process with it (memory, a
library that aborts), where several processes are at work.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from scanward import __version__
from scanward.errors import DecodeError, ScanwardError
from scanward.learning.benchmark.answers import Method
from scanward.learning.benchmark.measuring import (
    Measuring,
    Prepared,
    Source,
    applies,
    build,
    case_facts,
    world_facts,
)
from scanward.learning.benchmark.openings import commit
from scanward.learning.benchmark.plan import Plan
from scanward.learning.benchmark.store import Cell, Failed, Store
from scanward.learning.benchmark.worlds import TestSet

Catalogue = Callable[[Sequence[str]], tuple[Method, ...]]  # attacks shown -> every method there is


class News(StrEnum):
    """What a run tells while it works."""

    STAGE = "stage"  # what is being done
    ADVANCE = "advance"  # work done, in methods of a world
    MEASURING = "measuring"  # which method of which world (``text`` and ``world``)
    REMARK = "remark"  # something people should know
    FAILED = "failed"  # a method failed


@dataclass(frozen=True)
class Event:
    """One piece of news."""

    kind: News
    text: str = ""
    amount: float = 0.0
    world: str = ""


Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Job:
    """All that a process needs to work on a plan; a process of its own is given it."""

    out: Path
    plan: Plan
    sources: tuple[Source, ...]
    catalogue: Catalogue
    names: tuple[str, ...]  # of the methods wanted
    commit: str = ""

    def methods(self) -> dict[str, Method]:
        """The methods wanted, in the order of the catalogue."""
        return {m.name: m for m in self.catalogue(self.plan.shown) if m.name in self.names}


@dataclass(frozen=True)
class Unit:
    """Methods that share work, in the worlds of one entry of the plan."""

    place: int
    methods: tuple[str, ...]


@dataclass
class Bench:
    """A process at work: it holds the worlds of one entry of the plan."""

    job: Job
    tell: Tell
    place: int = -1
    prepared: list[Prepared] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.job.out, self.job.plan.sha256)
        self.methods = self.job.methods()

    def work(self, unit: Unit) -> None:
        """Measure what is missing of a unit."""
        self._take(unit.place)
        share = 1 / len(self.prepared)
        for prepared in self.prepared:
            for name in unit.methods:
                self._measure(self.methods[name], prepared)
                self.tell(Event(News.ADVANCE, amount=share))

    def _take(self, place: int) -> None:
        """Build the worlds of an entry, unless they are the ones at hand."""
        if place == self.place:
            return
        self.place, self.prepared = -1, []
        gc.collect()  # a world is large, and its successor is about to come
        planned = self.job.plan.worlds[place]
        self.tell(Event(News.STAGE, "making the world's examinations"))
        worlds = build(planned, self.job.plan, self.job.sources)
        self.prepared = [Prepared(world, self.job.plan) for world in worlds]
        for number, one in enumerate(self.prepared):
            self._keep_facts(one)
            told = world_facts(one.world, planned, place, number, len(worlds))
            self.store.keep_world(one.world.name, told)
        self.place = place

    def _keep_facts(self, one: Prepared) -> None:
        for test in one.world.tests:
            name = one.world.name
            try:
                there = self.store.cases(name, test.level.value) is not None
            except DecodeError as error:
                self._damaged(error)
                there = False
            if not there:
                # Looked at before any method is: what cannot be attacked is found out at once.
                facts, effects = case_facts(one, test, self._ticker(name, "attacks"))
                self.store.keep_cases(name, test.level.value, facts, effects)

    def _measure(self, method: Method, prepared: Prepared) -> None:
        world = prepared.world
        wanted = [
            t for t in world.tests if applies(method, t) and not self._there(world.name, t, method.name)
        ]
        if not wanted:
            return
        self.tell(Event(News.MEASURING, method.name, world=world.name))
        measuring = Measuring(method, prepared, self._ticker(world.name, method.name))
        for test in wanted:
            cell = self._attempt(measuring, test)
            self.store.keep(world.name, test.level.value, method.name, cell)

    def _attempt(self, measuring: Measuring, test: TestSet) -> Cell:
        made_by = {"version": __version__, "commit": self.job.commit}
        try:
            told = measuring.told(test)
        except Exception as error:  # noqa: BLE001 - libraries raise what they like: logged, told, and the exit status says it
            place = f"{measuring.method.name}, {measuring.prepared.world.name}, {test.level}"
            self.store.log(f"FAILED {place}\n{traceback.format_exc()}")
            what = str(error) if isinstance(error, ScanwardError) else f"{type(error).__name__}: {error}"
            self.tell(Event(News.FAILED, f"{place}: {what}"))
            return Cell(made_by, None, Failed(what[:500], type(error).__name__))
        return Cell({**told.facts, **made_by}, told)

    def _there(self, world: str, test: TestSet, method: str) -> bool:
        try:
            return self.store.cell(world, test.level.value, method) is not None
        except DecodeError as error:
            self._damaged(error)
            return False

    def _damaged(self, error: DecodeError) -> None:
        self.store.log(f"DAMAGED {error}")
        self.tell(Event(News.REMARK, str(error)))

    def _ticker(self, world: str, method: str) -> Callable[[str, float], None]:
        said = ""

        def tick(what: str, _share: float) -> None:
            nonlocal said
            if what != said:
                said = what
                self.tell(Event(News.STAGE, f"{world}: {method}: {what}"))

        return tick


# --- what is to be done


def units_of(job: Job, store: Store, tell: Tell) -> list[Unit]:
    """What is missing, worlds first, methods that share work together."""
    groups: dict[str, list[str]] = {}
    for name, method in job.methods().items():
        groups.setdefault(method.group or f"alone: {name}", []).append(name)
    known = _known_worlds(store, tell)
    units = []
    for place in range(len(job.plan.worlds)):
        worlds = [w for w in known if w["place"] == place]
        whole = bool(worlds) and len(worlds) == worlds[0]["of"] and _has_cases(store, worlds)
        for names in groups.values():
            wanted = [n for n in names if not whole or missing_of(store, worlds, {n: job.methods()[n]})]
            if wanted:
                units.append(Unit(place, tuple(wanted)))
    return units


def _known_worlds(store: Store, tell: Tell) -> list[dict[str, Any]]:
    try:
        return store.worlds()
    except DecodeError as error:
        store.log(f"DAMAGED {error}")
        tell(Event(News.REMARK, str(error)))
        return []


def _has_cases(store: Store, worlds: Sequence[dict[str, Any]]) -> bool:
    try:
        return all(store.cases(w["name"], t["level"]) is not None for w in worlds for t in w["tests"])
    except DecodeError:
        return False  # told when they are made again


def missing_of(
    store: Store, worlds: Iterable[dict[str, Any]], methods: dict[str, Method]
) -> list[tuple[str, str, str]]:
    """Cells (world, level, method) that are not there, or are damaged."""
    out = []
    for world in worlds:
        for test in world["tests"]:
            for name, method in methods.items():
                if (method.needs_site and not test["site"]) or (method.needs_first and not test["first"]):
                    continue
                try:
                    there = store.cell(world["name"], test["level"], name) is not None
                except DecodeError:
                    there = False
                if not there:
                    out.append((world["name"], test["level"], name))
    return out


def told_of_method(method: Method) -> dict[str, Any]:
    """What the report says of a method, and what its cells depend on."""
    return {
        "kind": method.kind.value,
        "context": method.context,
        "about": method.about,
        "needs_site": method.needs_site,
        "needs_first": method.needs_first,
    }


@dataclass(frozen=True)
class Outcome:
    """How a run ended: methods measured anew, and failures in words."""

    measured: int
    failed: tuple[str, ...]


def run(
    plan: Plan,
    out: Path,
    catalogue: Catalogue,
    names: Sequence[str],
    *,
    sources: Sequence[Source] = (),
    workers: int = 1,
    fresh: bool = False,
    tell: Tell = lambda _e: None,
    started: Callable[[float], None] = lambda _t: None,
) -> Outcome:
    """Measure what is missing of a plan; every cell is kept the moment it is made.

    Parameters
    ----------
    catalogue : gives every method; a function that a process of its own can import
    names : methods wanted; with others later, what is there stays
    workers : processes; 1 works in this one
    fresh : take away what an earlier run kept
    started : told how much there is to do, in methods of a world

    Raises
    ------
    SettingsError
        When the folder was begun with another plan, or recordings have changed.
    KeyboardInterrupt
        Interrupted: what was kept stays, and the same call goes on.
    """
    store = Store.open(out, plan, fresh=fresh)
    with store.locked():
        job = Job(out, plan, tuple(sources), catalogue, tuple(names), commit())
        methods = job.methods()
        store.add_methods({n: told_of_method(m) for n, m in methods.items()})
        store.forget_failed()
        failed: list[str] = []
        measured = 0

        def hear(event: Event) -> None:
            nonlocal measured
            measured += event.kind is News.MEASURING
            if event.kind is News.FAILED:
                failed.append(event.text)
            tell(event)

        units = units_of(job, store, hear)
        started(float(sum(len(u.methods) for u in units)))
        store.log(
            f"run of plan {plan.sha256[:12]}: {len(units)} units, {workers} processes, process {os.getpid()}"
        )
        if workers == 1 or len(units) < 2:
            bench = Bench(job, hear)
            for unit in units:
                bench.work(unit)
        else:
            from scanward.learning.benchmark.workers import work_in_processes

            work_in_processes(job, units, workers, hear)
        store.log(f"done: {measured} measured, {len(failed)} failed")
        return Outcome(measured, tuple(failed))
