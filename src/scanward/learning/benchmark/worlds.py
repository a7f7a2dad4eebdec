"""What every method is given: clean examinations to learn from and to calibrate on, and the tests after them.

A world is one site, simulated or recorded. Its earliest clean examinations teach, later ones calibrate
(``learn`` and ``calibrate`` together are exactly what ``learning.fit.fit`` would divide in the same way), and its
tests come after both, or from somewhere that the world has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from scanward.commands import Command, Examination
from scanward.simulation import Site


class Level(StrEnum):
    """How far a test lies from what was learned from."""

    RECURRING = "recurring protocols"  # later examinations of the same site
    NEW_PROTOCOLS = "new protocols"  # protocols that no examination learned from had
    NEW_MODEL = "new scanner model"  # a device of a model not learned from
    SOFTWARE_UPDATE = "software update"  # the same devices after their software changed
    OTHER_SITE = "another site"  # the same models at another site, with its own habits and doses


@dataclass(frozen=True)
class TestSet:
    """Clean examinations of one level, whole and in order; some of them are attacked by ``cases``.

    Attributes
    ----------
    level : what lies between them and what was learned
    clean : examinations that no method learns from; the unit of the bootstrap is one of them
    first : clean examinations of the same kind that came before ``clean`` (for adapting methods alone)
    site : the simulated site they come from, whose laws the oracle reads; None for recordings
    """

    level: Level
    clean: tuple[Examination, ...]
    first: tuple[Examination, ...] = ()
    site: Site | None = None


@dataclass(frozen=True)
class World:
    """One site.

    Attributes
    ----------
    name : unique within a benchmark, fit for a file name after ``plan.slug``
    about : one line for the report
    learn, calibrate : clean examinations in order of time; ``calibrate`` sets thresholds and teaches nothing
    tests : at least one
    seed : of everything drawn in this world (attacks, tuning, learning)
    simulated : told on every table and plot
    """

    name: str
    about: str
    learn: tuple[Examination, ...]
    calibrate: tuple[Examination, ...]
    tests: tuple[TestSet, ...]
    seed: int
    simulated: bool = True

    @property
    def recorded(self) -> tuple[Examination, ...]:
        """Everything clean that was there before the tests, as ``fit`` takes it."""
        return self.learn + self.calibrate


def commands_of(examinations: Sequence[Examination]) -> list[Command]:
    """All commands, examination after examination."""
    return list(chain.from_iterable(e.commands for e in examinations))
