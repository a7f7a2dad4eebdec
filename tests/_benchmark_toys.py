"""Small methods and a small plan for the tests of the benchmark's runner, in a module that processes can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanward.cli.main import cli
from scanward.commands import Command
from scanward.errors import LearningError
from scanward.learning.benchmark import plan as planning
from scanward.learning.benchmark import registry
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.plan import Plan
from scanward.learning.benchmark.running import run
from scanward.learning.benchmark.worlds import Level, World, commands_of

SITE = 7_001  # neither a development nor a final site
FEW = ("null", "dose_x3", "dose_x8", "ma_x3_dose_kept", "tilt", "forged_patient", "repeat")
LEARNED = "SCANWARD_TEST_LEARNED"  # file that every learning is written into, when the environment names it


def small_plan(**changes: Any) -> Plan:
    """A plan of one small world at two levels: a second of work."""
    plan = planning.smaller(
        planning.make("small"), learn=60, recurring=20, others=12, cases=5, null=6, on_curve=3, more=(1.5, 4.0),
        less=(0.5,), known=FEW,
    )  # fmt: skip
    plan = replace(plan, simulated=tuple(replace(w, seed=SITE) for w in plan.simulated))
    return planning.smaller(plan, **changes)


@dataclass(frozen=True)
class Distance:
    """How far a field lies from its mean, in standard deviations; a tilt is objected to."""

    field: str
    mean: float
    spread: float

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        return [[self._of(c) for c in h] for h in histories]

    def _of(self, command: Command) -> Answer:
        value = command.number(self.field)
        away = 0.0 if value is None else abs(np.log(max(value, 1e-3)) - self.mean) / self.spread
        return Answer(float(away), abs(command.number("GantryDetectorTilt") or 0.0) > 5)


def distance(field: str) -> Any:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        note(f"{world.name}: {field}")
        tick("means", 0.0)
        time.sleep(float(os.environ.get("SCANWARD_TEST_SLEEP", "0")))
        values = [v for c in commands_of(world.learn) if (v := c.number(field)) is not None]
        logs = np.log(np.maximum(values, 1e-3))
        return Learned(Distance(field, float(logs.mean()), float(logs.std()) + 0.1), {"seen": len(values)})

    return learn


def note(text: str) -> None:
    """Write that something was learned."""
    if os.environ.get(LEARNED):
        with Path(os.environ[LEARNED]).open("a") as file:
            file.write(f"{text}\n")


class NoNumber:
    """Answers what no threshold can be set on."""

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        return [[Answer(float("nan")) for _ in h] for h in histories]


def refusing(world: World, seed: int, tick: Tick) -> Learned:
    raise LearningError("too little to learn from", "toy", "bring more")


def breaking(world: World, seed: int, tick: Tick) -> Learned:
    return np.linalg.inv(np.zeros((2, 2)))  # type: ignore[return-value]  # LinAlgError, as libraries raise


def dying(world: World, seed: int, tick: Tick) -> Learned:
    os.abort()


def adapted(world: World, seed: int, tick: Tick) -> Learned:
    (test,) = world.tests
    note(f"{world.name}: adapted to {test.level.value}")
    learned = distance("CTDIvol")(world, seed, tick)
    return Learned(learned.scorer, {"first": len(test.first)}, world.calibrate[:7])


def shown(families: tuple[str, ...]) -> Any:
    def learn(world: World, seed: int, tick: Tick) -> Learned:
        learned = distance("CTDIvol")(world, seed, tick)
        return Learned(learned.scorer, {"shown families": list(families)})

    return learn


ALL = (
    Method("Scanward", Kind.OURS, distance("XRayTubeCurrentInmA"), about="a toy in its place", group="pair"),
    Method("oracle", Kind.CEILING, distance("CTDIvol"), per_test=True, needs_site=True),
    Method("rotation", Kind.UNSUPERVISED, distance("RevolutionTime"), group="pair"),
    Method("length", Kind.UNSUPERVISED, distance("ScanLength")),
    Method("adapted", Kind.OURS, adapted, per_test=True, needs_first=True),
    Method("was shown", Kind.ATTACK_TRAINED, shown(("dose",))),
    Method("refusing", Kind.DEEP, refusing),
    Method("breaking", Kind.DEEP, breaking),
    Method("no number", Kind.DEEP, lambda w, s, t: Learned(NoNumber())),
    Method("dying", Kind.DEEP, dying),
)
SOUND = ("Scanward", "oracle", "rotation", "length", "adapted", "was shown")
NEW = Level.NEW_PROTOCOLS.value
LATER = Level.RECURRING.value


def toys(shown: Sequence[str]) -> tuple[Method, ...]:
    """The catalogue."""
    return ALL


def measure_apart(out: Path, workers: int, sleep: float) -> None:
    """A run in a process of its own, slow enough to be met at work, leading a group of its own."""
    os.setsid()
    os.environ["SCANWARD_TEST_SLEEP"] = str(sleep)
    os.environ[LEARNED] = str(out.with_suffix(".learned"))
    run(small_plan(), out, toys, SOUND, workers=workers)


def in_place(patch: pytest.MonkeyPatch) -> None:
    """Small sizes, sites of tests and these methods in place of the real ones, as the command sees them."""
    tiny = planning.Size(
        about="a second of work", sites=1, spreads=(0.12,), beside=(), vendors=1, learn=60, recurring=20, others=12,
        levels=(Level.RECURRING, Level.NEW_PROTOCOLS), cases=4, null=5, on_curve=3, more=(3.0,), less=(0.5,),
        methods=("Scanward", "oracle", "length"),
    )  # fmt: skip
    patch.setattr(planning, "SIZES", {"small": tiny, "full": replace(tiny, methods=())})
    patch.setattr(planning, "DEVELOPMENT_SITES", (SITE, SITE + 1))
    patch.setattr(planning, "FINAL_SITES", (SITE + 2,))
    patch.setattr(registry, "SIZES", planning.SIZES)
    patch.setattr(registry, "methods", toys)


def command_apart(words: Sequence[str], said: Path) -> None:
    """The command in a process of its own, its standard error in a file."""
    os.setsid()
    os.environ["SCANWARD_TEST_SLEEP"] = "0.5"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr = said.open("w", buffering=1)
    with pytest.MonkeyPatch.context() as patch:
        in_place(patch)
        cli.main(list(words))
