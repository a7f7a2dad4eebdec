"""From the cells of a folder to results.json: every figure is made of kept answers, so it can be made again."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scanward.errors import DecodeError, InputError
from scanward.learning.benchmark.abreast import each
from scanward.learning.benchmark.answers import Kind, Told
from scanward.learning.benchmark.comparisons import OURS, Primary, compare
from scanward.learning.benchmark.curves import smallest
from scanward.learning.benchmark.drawn import expressible
from scanward.learning.benchmark.figures import AttackFacts, level_figures
from scanward.learning.benchmark.matching import ENDPOINT, INSIDE, exchangeable, matched
from scanward.learning.benchmark.plan import RECORDED_BUDGETS
from scanward.learning.benchmark.store import PLAN, Store, plain, read_json
from scanward.learning.benchmark.worlds import Level
from scanward.simulation.constants import AEC_SPREAD

FORMAT = "scanward-benchmark-1"
PACKAGES = ("numpy", "scipy", "scikit-learn", "lightgbm", "torch", "pyod", "onnxruntime")
FAILED = "failed"
ADAPTED = f"{OURS}, adapted"
INSIDE_SAID = (
    " Objections of rules alert whatever the budget; so the two methods of the primary comparison are compared once "
    "more where the same share of the clean test examinations alerts, rules included."
)
USUAL = f"AEC spread {AEC_SPREAD:g}"
Tick = Callable[[str, float], None]


@dataclass(frozen=True)
class Kept:
    """Everything that a folder holds.

    Attributes
    ----------
    cells : (world, level, method) -> answers
    facts : (world, method) -> facts of the learning, one test's
    missing : [world, level, method, why] of every cell that is not there
    """

    plan: Mapping[str, Any]
    worlds: Sequence[Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    cells: Mapping[tuple[str, str, str], Told]
    facts: Mapping[tuple[str, str], Mapping[str, Any]]
    missing: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Part:
    """One level of worlds of one set: what figures are made over."""

    level: Level
    set: str
    worlds: tuple[Mapping[str, Any], ...]
    told: Mapping[str, Sequence[Told | None]]  # method -> of each world

    @property
    def simulated(self) -> bool:
        """Whether its worlds are."""
        return any(w["simulated"] for w in self.worlds)

    def budgets(self, planned: Sequence[float]) -> tuple[float, ...]:
        """Those of the plan; where recordings are too few for its primary one, the smallest that they can express."""
        if self.simulated:
            return tuple(planned)
        chosen = next(
            (b for b in RECORDED_BUDGETS if all(_can(w["calibrate"], b) for w in self.worlds)),
            RECORDED_BUDGETS[-1],
        )
        return tuple(planned) if chosen == planned[0] else (chosen,)


def _can(units: int, budget: float) -> bool:
    return expressible(budget, units) is not None


def kept(store: Store) -> Kept:
    """Read a folder.

    Raises
    ------
    InputError
        When nothing has been measured yet.
    DecodeError
        When what describes plan, worlds or methods is damaged (a damaged cell is just missing).
    """
    plan, worlds, methods = read_json(store.out / PLAN), store.worlds(), store.methods()
    cells: dict[tuple[str, str, str], Told] = {}
    facts: dict[tuple[str, str], Mapping[str, Any]] = {}
    places = {w["place"] for w in worlds}
    missing = [
        [f"world {place + 1} of the plan", "", "", "not made yet"]
        for place in range(len(plan["simulated"]) + len(plan["recorded"]))
        if place not in places
    ]
    for world, test, name in _expected(worlds, methods):
        try:
            cell = store.cell(world["name"], test["level"], name)
        except DecodeError as error:
            missing.append([world["name"], test["level"], name, error.what])
            continue
        if cell is None:
            missing.append([world["name"], test["level"], name, "not measured yet"])
        elif cell.failed is not None:
            missing.append([world["name"], test["level"], name, f"{FAILED}: {cell.failed.what}"])
        else:
            assert cell.told is not None
            cells[world["name"], test["level"], name] = cell.told
            facts.setdefault((world["name"], name), cell.facts)
    if not cells:
        raise InputError(
            "nothing has been measured yet", str(store.out), "run scanward benchmark with this --out"
        )
    return Kept(plan, worlds, methods, cells, facts, missing)


def _expected(
    worlds: Iterable[Mapping[str, Any]], methods: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    """Every (world, test, method) that can be measured."""
    for world in worlds:
        for test in world["tests"]:
            for name, method in methods.items():
                if (test["site"] or not method["needs_site"]) and (
                    test["first"] or not method["needs_first"]
                ):
                    yield world, test, name


def parts_of(found: Kept) -> list[Part]:
    """Levels, each with the worlds of one set: spreads and data sets are not mixed."""
    sets: dict[tuple[Level, str], list[Mapping[str, Any]]] = {}
    for world in found.worlds:
        for test in world["tests"]:
            sets.setdefault((Level(test["level"]), world["set"]), []).append(world)
    order = list(Level)
    out = []
    for (level, of), worlds in sorted(sets.items(), key=lambda item: order.index(item[0][0])):
        told = {n: [found.cells.get((w["name"], level.value, n)) for w in worlds] for n in found.methods}
        present = {n: answers for n, answers in told.items() if any(t is not None for t in answers)}
        if present:
            out.append(Part(level, of, tuple(worlds), present))
    return out


def assemble(
    store: Store, command: str = "", tick: Tick = lambda _w, _s: None, workers: int = 1
) -> dict[str, Any]:
    """Everything that a report shows, as JSON values, worked out in so many processes; errors as ``kept``."""
    found = kept(store)
    parts = parts_of(found)
    groups = [_attacks(store, part) for part in parts]
    budgets = tuple(float(b) for b in found.plan["budgets"])
    seed = int(found.plan["seed"])
    ceiling = next((n for n, m in found.methods.items() if m["kind"] == Kind.CEILING.value), None)
    jobs = []
    for part, attacks in zip(parts, groups, strict=True):
        effects = [_effects(store, world["name"], part.level.value) for world in part.worlds]
        jobs.append((part, attacks, effects, part.budgets(budgets), ceiling, seed))
    tick("figures", 0.0)
    levels = each(_level, jobs, workers, lambda done: tick("figures", 0.5 * done / len(parts)))
    results = {
        "format": FORMAT,
        "size": found.plan["size"],
        "final": found.plan["final"],
        "plan": found.plan,
        "plan_sha256": store.plan_sha256,
        "command": command,
        "finished": not found.missing,
        "missing": found.missing,
        "machine": machine(),
        "made_by": made_by(found),
        "worlds": found.worlds,
        "methods": [_method(found, name) for name in found.methods if any(n == name for _, n in found.facts)],
        "levels": levels,
        "comparisons": _comparisons(found, parts, groups, workers, lambda w, s: tick(w, 0.5 + 0.5 * s)),
        "smallest": _smallest(found, parts, groups),
    }
    told_results: dict[str, Any] = plain(results)
    return told_results


def _level(
    part: Part,
    attacks: Mapping[str, AttackFacts],
    effects: Sequence[Mapping[str, Any]],
    budgets: tuple[float, ...],
    ceiling: str | None,
    seed: int,
) -> dict[str, Any]:
    told = level_figures(
        part.level.value,
        part.told,
        attacks,
        effects,
        budgets=budgets,
        ceiling=ceiling,
        seed=seed,
        worlds=[w["name"] for w in part.worlds],
        simulated=part.simulated,
    )
    return {**told, "set": part.set, "budget": budgets[0]}


def _comparisons(
    found: Kept,
    parts: Sequence[Part],
    groups: Sequence[Mapping[str, AttackFacts]],
    workers: int,
    tick: Tick,
) -> dict[str, Any]:
    """Ours against every baseline, in the parts whose worlds can all express a budget."""
    planned = [float(b) for b in found.plan["budgets"]]
    budget_of = {(p.level, p.set): p.budgets(planned)[0] for p in parts}
    able = [p for p in parts if all(_can(w["calibrate"], budget_of[p.level, p.set]) for w in p.worlds)]
    labels = {f"{p.level.value}, {p.set}": p for p in able}
    # The primary one is at recurring protocols of the sites of the usual spread, or the nearest that was planned.
    main = [p for p in able if p.level is Level.RECURRING]
    main.sort(key=lambda p: (not p.simulated, p.set != USUAL, p.set))
    level = f"{main[0].level.value}, {main[0].set}" if main else Level.RECURRING.value
    answers = {label: _comparable(p) for label, p in labels.items()}
    inside, against = f"{level}, rules included", str(found.plan["against"])
    if main and _can(_units(main[0], (OURS, against)), budget_of[main[0].level, main[0].set]):
        labels[inside] = main[0]
        answers[inside] = _matched(main[0], (OURS, against))
    baselines = [n for n, m in found.methods.items() if m["kind"] not in (Kind.OURS, Kind.CEILING)]
    told = compare(
        answers,
        {name: facts for one in groups for name, facts in one.items()},
        Primary(against, level),
        baselines=baselines,
        budget=planned[0],
        budgets={label: budget_of[p.level, p.set] for label, p in labels.items()},
        seed=int(found.plan["seed"]),
        workers=workers,
        tick=tick,
    )
    # A baseline that gave no answers somewhere was not beaten there.
    there = {(w["name"], p.level.value) for p in able for w in p.worlds}
    lacking = [m for m in found.missing if not m[2] or (m[2] in baselines and (m[0], m[1]) in there)]
    told["first"] = told["first"] and not lacking
    for row in (told["primary"], *told["others"]):
        label, part = row["level"], labels.get(row["level"])
        if part is not None:
            row |= {"level": part.level.value, "set": part.set}
            percent = 100 * budget_of[part.level, part.set]
            if label == inside:
                row |= {"endpoint": INSIDE.format(budget=percent), "rules_included": True}
                told["method"] += INSIDE_SAID
            elif not exchangeable(part.level):
                row |= {"endpoint": ENDPOINT.format(budget=percent)}
                row |= {"ours": ADAPTED} if ADAPTED in part.told else {}
    return told


def _comparable(part: Part) -> Mapping[str, Sequence[Told | None]]:
    """What is compared: answers as they are where calibration holds, elsewhere at equal false alerts.

    There Scanward is taken as it adapts, where that was measured.
    """
    if exchangeable(part.level):
        return part.told
    told = _matched(part, tuple(part.told))
    return {**told, OURS: told[ADAPTED]} if ADAPTED in told else told


def _units(part: Part, names: Sequence[str]) -> int:
    """Clean test examinations of the world with fewest, where all of ``names`` were measured somewhere; else none."""
    told = [[t.units for t in part.told.get(n, ()) if t is not None] for n in names]
    return min(map(min, told)) if all(told) else 0


def _matched(part: Part, names: Sequence[str]) -> dict[str, Sequence[Told | None]]:
    return {n: [None if t is None else matched(t) for t in part.told[n]] for n in names}


def _smallest(
    found: Kept, parts: Sequence[Part], groups: Sequence[Mapping[str, AttackFacts]]
) -> list[dict[str, Any]]:
    out = []
    for part, attacks in zip(parts, groups, strict=True):
        factors = {name: facts.factor for name, facts in attacks.items() if facts.factor is not None}
        if factors:
            budget, seed = part.budgets([float(b) for b in found.plan["budgets"]])[0], int(found.plan["seed"])
            told = smallest(part.level.value, part.told, factors, budget=budget, seed=seed)
            out += [{**one, "set": part.set} for one in told]
    return out


def _attacks(store: Store, part: Part) -> dict[str, AttackFacts]:
    """Facts of every attack of a part; the worlds of a set have the same catalogue."""
    out: dict[str, AttackFacts] = {}
    for world in part.worlds:
        for name, told in _cases(store, world["name"], part.level.value)[0].items():
            factor = told["factor"]
            out.setdefault(name, AttackFacts(told["group"], told["family"], told["about"], factor))
    return out


def _effects(store: Store, world: str, level: str) -> dict[str, dict[str, Any]]:
    from scanward.learning.benchmark.measuring import effects_of

    return effects_of(_cases(store, world, level)[1])


def _cases(store: Store, world: str, level: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = store.cases(world, level)
    if found is None:
        raise DecodeError(
            "the effects of a test are missing", f"{world}, {level}", "give the same options again"
        )
    return found[0], dict(found[1])


def _method(found: Kept, name: str) -> dict[str, Any]:
    about = found.methods[name]
    facts = {world: told for (world, n), told in found.facts.items() if n == name}
    return {
        "name": name,
        "kind": about["kind"],
        "context": about["context"],
        "about": about["about"],
        "facts": facts,
    }


def made_by(found: Kept) -> list[str]:
    """Versions and commits that cells were made by: one, unless a run went on after a change."""
    told = {f"{f.get('version', '')} {f.get('commit', '')}".strip() for f in found.facts.values()}
    return sorted(told)


def machine() -> dict[str, Any]:
    """Where it was measured: enough to compare, nothing that names a host."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": packages,
    }
