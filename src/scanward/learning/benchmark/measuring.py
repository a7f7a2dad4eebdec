"""One world built with its attacked cases, and one method measured on it: the only place where methods run."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scanward.commands import Command, Examination
from scanward.errors import LearningError, SettingsError
from scanward.learning.benchmark.answers import Answer, Attacked, Floats, Learned, Method, Scorer, Tick, Told
from scanward.learning.benchmark.cases import Case, cases_of
from scanward.learning.benchmark.matching import exchangeable
from scanward.learning.benchmark.plan import NULL, Plan, Recorded, Simulated, digest_of
from scanward.learning.benchmark.recorded import INJECTED, idc_worlds, worlds_of
from scanward.learning.benchmark.simulated import Sizes, donors_of, simulated_world
from scanward.learning.benchmark.worlds import Level, TestSet, World, commands_of
from scanward.recordings import load_dialect, read
from scanward.simulation import ATTACKS, Attack
from scanward.simulation.attacks import dose_attack
from scanward.simulation.effects import Effect, effect_of

LARGEST = float(np.finfo(np.float64).max)  # what an infinite score is kept as
TIMED_EXAMINATIONS = 40  # answered one by one, as a guard would ask
TIMED_SECONDS = 3.0  # after which no further one is timed
SHOWN_FAMILIES = "shown families"  # fact of a method that learned from attacks: their cases are left out


@dataclass(frozen=True)
class Source:
    """Where recordings of a plan lie on this machine."""

    name: str
    paths: tuple[Path, ...]
    dialect: Path | None = None
    folder: Path | None = None  # where its images are fetched to
    collection: str = ""


@dataclass(frozen=True)
class Attacks:
    """The attacks of a test, each with the group that it is reported in."""

    group: str
    attack: Attack
    factor: float | None = None  # of a curve


@dataclass
class Prepared:
    """A world and the cases of each of its tests, made when first asked for."""

    world: World
    plan: Plan
    _cases: dict[Level, dict[str, list[Case]]] = field(default_factory=dict)

    def cases(self, test: TestSet, tick: Tick = lambda _w, _s: None) -> dict[str, list[Case]]:
        """Attack -> its cases in this test, the same for every method."""
        if test.level not in self._cases:
            donors = donors_of(self.world, test)
            made = {}
            wanted = attacks_of(self.plan, self.world, test)
            seed = case_seed(self.plan, self.world, test)
            for i, (name, one) in enumerate(wanted.items()):
                tick(f"attacks: {name}", i / len(wanted))
                found = cases_of(one.attack, test.clean, donors, self._count(one), seed)
                if found:
                    made[name] = found
            self._cases[test.level] = made
        return self._cases[test.level]

    def _count(self, one: Attacks) -> int:
        return {"null": self.plan.null, "curve": self.plan.on_curve}.get(one.group, self.plan.cases)


def case_seed(plan: Plan, world: World, test: TestSet) -> int:
    """Of the cases of a test: other draws at every level, whatever the order of work."""
    text = f"{plan.seed}/{world.seed}/{test.level.value}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def attacks_of(plan: Plan, world: World, test: TestSet) -> dict[str, Attacks]:
    """Name -> attack and group.

    Doses injected outright only where commands are recorded; dose factors of the curves not at the harder levels of
    simulated sites, where no threshold holds and a smallest factor caught would mean nothing.
    """
    out = {
        name: Attacks("null" if ATTACKS[name].family == NULL else "known", ATTACKS[name])
        for name in plan.known
    }
    if not world.simulated:
        out.update({name: Attacks("known", attack) for name, attack in INJECTED.items()})
    if plan.held_out:
        from scanward.simulation.held_out import HELD_OUT

        out.update({name: Attacks("held out", HELD_OUT[name]) for name in plan.held_out})
    curves = not world.simulated or exchangeable(test.level)
    for factor in (*plan.more, *plan.less) if curves else ():
        out[f"dose factor {factor:g}"] = Attacks("curve", dose_attack(factor), factor)
    return out


# --- worlds


def build(planned: Simulated | Recorded, plan: Plan, sources: Sequence[Source]) -> list[World]:
    """The worlds of one entry of a plan.

    Raises
    ------
    SettingsError
        When recordings of the plan are not among ``sources``, or hold something else than when it was made.
    """
    if isinstance(planned, Simulated):
        sizes = Sizes(planned.learn, planned.recurring, planned.others, planned.first)
        levels = [Level(name) for name in planned.levels]
        return [simulated_world(planned.seed, planned.spread, sizes, levels, planned.vendors)]
    source = next((s for s in sources if s.name == planned.name), None)
    if source is None:
        raise SettingsError(
            f"the recordings '{planned.name}' of this plan are not given", "--recordings", "give them again"
        )
    if planned.kind == "idc":
        return _from_commons(planned, plan, source)
    if digest_of(source.paths) != planned.sha256:
        raise SettingsError(
            f"the recordings '{planned.name}' have changed", "--recordings", "give --fresh to begin anew"
        )
    dialect = load_dialect(source.dialect) if source.dialect else None
    recording = read(list(source.paths), dialect=dialect, workers=1)
    return worlds_of(recording, planned.name, seed=plan.seed)


def _from_commons(planned: Recorded, plan: Plan, source: Source) -> list[World]:
    assert source.folder is not None
    return idc_worlds(
        source.collection,
        source.folder,
        count=planned.series,
        megabytes=planned.megabytes,
        seed=plan.seed,
        workers=1,
    )


def world_facts(
    world: World, planned: Simulated | Recorded, place: int, number: int, of: int
) -> dict[str, Any]:
    """What the report says of a world, the ``number``-th of ``of`` that the plan's entry ``place`` makes.

    ``set`` names what is summarised together.
    """
    return {
        "place": place,
        "number": number,
        "of": of,
        "name": world.name,
        "about": world.about,
        "simulated": world.simulated,
        "set": _set_of(world, planned),
        "learn": len(world.learn),
        "calibrate": len(world.calibrate),
        "tests": [
            {
                "level": t.level.value,
                "examinations": len(t.clean),
                "commands": len(commands_of(t.clean)),
                "site": t.site is not None,
                "first": len(t.first),
            }
            for t in world.tests
        ],
    }


def _set_of(world: World, planned: Simulated | Recorded) -> str:
    return f"AEC spread {planned.spread:g}" if isinstance(planned, Simulated) else planned.name


# --- cases for the report


def case_facts(
    prepared: Prepared, test: TestSet, tick: Tick
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Facts of each attack's cases (group, family, how many), and their effects as arrays."""
    wanted = attacks_of(prepared.plan, prepared.world, test)
    facts, effects = {}, {}
    for name, cases in prepared.cases(test, tick).items():
        one = wanted[name]
        facts[name] = {
            "group": one.group,
            "family": one.attack.family,
            "about": one.attack.about,
            "factor": one.factor,
            "cases": len(cases),
            "examinations": len({c.unit for c in cases}),
        }
        told = [effect_of(c.before, c.commands, c.indices) for c in cases]
        effects[name] = {
            "unit": np.array([c.unit for c in cases], np.int64),
            **{f.name: _column([getattr(e, f.name) for e in told]) for f in fields(Effect)},
        }
    return facts, effects


def _column(values: Sequence[Any]) -> Any:
    if all(isinstance(v, bool | np.bool_) for v in values):
        return np.array(values, np.bool_)
    return np.array([math.nan if v is None else float(v) for v in values], np.float64)


# --- one method


def applies(method: Method, test: TestSet) -> bool:
    """Whether a method can be measured on a test at all."""
    return not (method.needs_site and test.site is None) and not (method.needs_first and not test.first)


@dataclass
class Measuring:
    """One method in one world, learned no oftener than needed."""

    method: Method
    prepared: Prepared
    tick: Tick
    _kept: tuple[Learned, float, Floats] | Exception | None = None
    _timed: tuple[float | None, ...] = ()

    def told(self, test: TestSet) -> Told:
        """Everything that the method tells of a test.

        Raises
        ------
        Exception
            Whatever learning or answering raises; learning that failed once is not tried again for the next test.
        """
        learned, seconds, calibrate = self._learned(test)
        return self._answer(test, learned, seconds, calibrate)

    def _learned(self, test: TestSet) -> tuple[Learned, float, Floats]:
        world = self.prepared.world
        if self.method.per_test:
            return self._learn(replace(world, tests=(test,)))
        if isinstance(self._kept, Exception):
            raise self._kept
        if self._kept is None:
            try:
                self._kept = self._learn(world)
            except Exception as error:
                self._kept = error
                raise
        return self._kept

    def _learn(self, world: World) -> tuple[Learned, float, Floats]:
        began = time.perf_counter()
        learned = self.method.learn(world, self.prepared.plan.seed, self.tick)
        seconds = time.perf_counter() - began
        return learned, seconds, self._calibrate(learned)

    def _microseconds(self, learned: Learned, test: TestSet) -> float | None:
        """Timed on the first test alone where the same scorer answers all: a few seconds each add up to hours."""
        if self.method.per_test or not self._timed:
            self._timed = (microseconds(learned.scorer, test.clean),)
        return self._timed[0]

    def _calibrate(self, learned: Learned) -> Floats:
        self.tick("calibrating", 0.0)
        examinations = self.prepared.world.calibrate if learned.calibrate is None else learned.calibrate
        told = answers(learned.scorer, [e.commands for e in examinations])
        return np.array([max(a.score for a in one) for one in told], np.float64)

    def _answer(self, test: TestSet, learned: Learned, seconds: float, calibrate: Floats) -> Told:
        cases = self.prepared.cases(test, self.tick)
        families = set(learned.facts.get(SHOWN_FAMILIES, ()))
        wanted = attacks_of(self.prepared.plan, self.prepared.world, test)
        cases = {name: made for name, made in cases.items() if wanted[name].attack.family not in families}
        self.tick(f"{test.level}: clean", 0.0)
        began = time.perf_counter()
        clean = answers(learned.scorer, [e.commands for e in test.clean])
        attacks = {}
        for i, (name, made) in enumerate(cases.items()):
            self.tick(f"{test.level}: {name}", (i + 1) / (len(cases) + 1))
            attacks[name] = attacked(made, answers(learned.scorer, [c.commands for c in made]))
        answering = time.perf_counter() - began
        flat = [a for one in clean for a in one]
        return Told(
            calibrate,
            np.array([a.score for a in flat], np.float64),
            np.array([a.objects for a in flat], np.bool_),
            np.repeat(np.arange(len(clean)), [len(one) for one in clean]).astype(np.int64),
            attacks,
            {
                **learned.facts,
                "seconds to learn": round(seconds, 2),
                "seconds to answer": round(answering, 2),
                "microseconds": self._microseconds(learned, test),
            },
        )


def answers(scorer: Scorer, histories: Sequence[tuple[Command, ...]]) -> list[list[Answer]]:
    """A scorer's answers, one a command, each a number.

    Infinite scores are kept as the largest finite number: nothing is stranger.

    Raises
    ------
    LearningError
        When an answer is missing, or a score is no number.
    """
    told = scorer.answer(histories)
    if [len(one) for one in told] != [len(h) for h in histories]:
        raise LearningError("a method did not answer every command", type(scorer).__name__, "report this")
    out = [
        [Answer(min(max(float(a.score), -LARGEST), LARGEST), bool(a.objects)) for a in one] for one in told
    ]
    if any(math.isnan(a.score) for one in told for a in one):
        raise LearningError(
            "a score is not a number", type(scorer).__name__, "its library cannot judge these commands"
        )
    return out


def attacked(cases: Sequence[Case], told: Sequence[Sequence[Answer]]) -> Attacked:
    """The strangest of each case's attacked commands, and whether a rule objects to any."""
    return Attacked(
        np.array(
            [max(one[i].score for i in c.indices) for c, one in zip(cases, told, strict=True)], np.float64
        ),
        np.array(
            [any(one[i].objects for i in c.indices) for c, one in zip(cases, told, strict=True)], np.bool_
        ),
        np.array([c.unit for c in cases], np.int64),
    )


def microseconds(scorer: Scorer, clean: Sequence[Examination]) -> float | None:
    """Median time a command, one examination at a time as a guard would ask: µs of one process on this machine."""
    told: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    for examination in islice(clean, TIMED_EXAMINATIONS):
        # New objects: methods may keep what they answered before.
        fresh = tuple(replace(c) for c in examination.commands)
        began = time.perf_counter()
        scorer.answer([fresh])
        now = time.perf_counter()
        told.append((now - began) / len(fresh) * 1e6)
        if now > end:
            break
    return float(np.median(told)) if told else None


def effects_of(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Floats]]:
    """Effects as plain floats, as the figures take them."""
    return {a: {k: np.asarray(v, np.float64) for k, v in told.items()} for a, told in arrays.items()}
