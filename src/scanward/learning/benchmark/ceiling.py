"""The oracle as a method: it knows the simulator, and nobody can be expected to do better.

It reads the laws of the site that a test set comes from, new protocols, new models and software updates included, so
it is calibrated on examinations of that very site, drawn beyond those of the test.
"""

from __future__ import annotations

from collections.abc import Sequence

from scanward.commands import Command, Examination
from scanward.errors import LearningError
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.worlds import Level, World
from scanward.simulation.oracle import Oracle

BEYOND = 1_000_000  # index of the first examination of its own calibration: no test reaches it


class OracleScorer:
    """Nats by which "attacked" beats "clean", by the simulator's own laws."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """Scores alone: the oracle has no rules."""
        return [[Answer(s) for s in self.oracle.scores(Examination("", tuple(h)))] for h in histories]


def _learn(world: World, seed: int, tick: Tick) -> Learned:
    (test,) = world.tests
    if test.site is None:
        raise LearningError(
            "the oracle knows simulated sites alone", "oracle", "leave it out where recordings are tested"
        )
    tick("the simulator's laws", 0.0)
    scorer = OracleScorer(Oracle(test.site))
    if test.level is Level.RECURRING:
        return Learned(scorer)
    drawn = tuple(test.site.examinations(len(world.calibrate), BEYOND))
    return Learned(scorer, {"calibrated on": "examinations of the test's own site"}, drawn)


CEILING: tuple[Method, ...] = (
    Method(
        "oracle",
        Kind.CEILING,
        _learn,
        about="knows the simulator's constants and laws; the ceiling for every detector",
        per_test=True,
        needs_site=True,
    ),
)
