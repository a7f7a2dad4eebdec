"""What a method answers, and the arrays in which answers are kept: every figure is made of these alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, Examination
from scanward.learning.benchmark.worlds import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Tick = Callable[[str, float], None]


class Kind(StrEnum):
    """Where a method stands in the report."""

    UNSUPERVISED = "unsupervised"  # learns from clean commands without labels
    REGRESSION = "regression"  # expects one field from others
    RULES = "list of rules"  # notification values, as dose-check software has them
    DEEP = "deep"  # neural networks without labels
    CLEAN_ONLY = (
        "supervised on clean commands"  # predicts a context from the command: clean commands alone teach it
    )
    ATTACK_TRAINED = (
        "supervised on attacks"  # shown attacks of the development families, never of the final ones
    )
    SERIAL = "two layers in series"  # as published: context-free first, context-sensitive after it
    OURS = "Scanward"
    CEILING = "ceiling"  # the oracle, which knows the simulator


class Answer(NamedTuple):
    """One command judged: how strange (higher is stranger), and whether a rule objects whatever the score."""

    score: float
    objects: bool = False


class Scorer(Protocol):
    """A method after learning."""

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """One answer for every command; each history is an examination's commands in order, from the first."""
        ...


@dataclass(frozen=True)
class Learned:
    """What ``Method.learn`` returns.

    Attributes
    ----------
    scorer : what answers
    facts : what is to be told of how it was made, JSON values
    calibrate : clean examinations that set the threshold in place of ``world.calibrate``; None for those
    """

    scorer: Scorer
    facts: Mapping[str, Any] = field(default_factory=dict)
    calibrate: tuple[Examination, ...] | None = None


@dataclass(frozen=True)
class Method:
    """One row of the table: a name and how it learns.

    ``learn(world, seed, tick)`` sees ``world.learn`` alone, unless ``calibrates`` says that it calibrates by
    itself on ``world.calibrate`` as well (its thresholds, never its scores). ``per_test`` methods are learned
    anew for each test set (adaptation) and are given the test set's ``first`` examinations through a world
    whose ``tests`` hold that test set alone.
    """

    name: str
    kind: Kind
    learn: Callable[[World, int, Tick], Learned]
    context: bool = True  # whether it sees patient and objective columns
    about: str = ""  # one line for the report: what it is, after whom
    per_test: bool = False
    needs_site: bool = False  # only where the test set is simulated (the oracle)
    needs_first: bool = False  # only where the test set has ``first`` examinations (adaptation)
    group: str = ""  # methods of one group share work: learned one after the other in one process


@dataclass(frozen=True)
class Attacked:
    """Answers to the cases of one attack: the strangest of a case's attacked commands; arrays of length M."""

    scores: Floats
    objects: Bools
    units: Ints  # index of the examination among the test set's clean ones


@dataclass(frozen=True)
class Told:
    """Everything that one method told of one test set.

    Attributes
    ----------
    calibrate : largest score of each calibration examination, shape (C,)
    clean_scores, clean_objects, clean_units : of every clean test command, shape (N,)
    attacks : attack -> its cases
    facts : of the learning (what tuning chose, seconds, microseconds a command), JSON values
    """

    calibrate: Floats
    clean_scores: Floats
    clean_objects: Bools
    clean_units: Ints
    attacks: Mapping[str, Attacked]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """Number of clean test examinations."""
        return int(self.clean_units.max()) + 1 if len(self.clean_units) else 0
