"""How likely a setting is for this patient: what operators choose, and how they depart from it.

Some settings are chosen by the patient's size: the field of view by what fits, a higher voltage and a slower
rotation for the large. The tables of ``layers.usual`` know protocols, not patients; a choice starts from what the
protocol element uses and lets boosted trees say what this patient makes of it.

A setting of which people take the next higher or lower (``stepwise``: voltage, rotation) is told by how many steps
it is away from the usual one, so that all protocols and devices teach how that is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import ELEMENT, REGION, TYPE, View

LEVELS = (ELEMENT, REGION, TYPE)  # groups that priors are kept for, finest first
REACH = 2  # steps up or down told apart; farther is as far
OFF = 2 * REACH + 1  # class of a value that the device was never seen to take
STEPS = OFF + 1  # classes of a stepwise choice
MARK = 2.5  # nats from which a choice counts as a departure


@dataclass(frozen=True)
class Choice:
    """Probability of each class of one setting.

    Attributes
    ----------
    target : int
        Index of the setting.
    classes : (K,) int64
        The code of each class; empty for a stepwise choice.
    inputs : (D,) int64
        Fields given to the trees.
    run : (int, int)
        Fields where the range begins and ends, -1 for none: their difference says which way the table moves.
    priors : tuple of (G + 1, K) float32, one for each of ``LEVELS``
        Log probability of each class in the group (row 0: group never seen).
    usual : tuple of (G + 1,) int64, one for each of ``LEVELS``
        Commonest code of the group.
    rungs : (T + 1, C) int64
        Place of each code among those a device and acquisition type takes, in order; -1 for none.
    least : float
        Least probability of a class: half a command among all that were recorded.
    """

    target: int
    classes: NDArray[np.int64]
    inputs: NDArray[np.int64]
    run: tuple[int, int]
    priors: tuple[NDArray[np.float32], ...]
    usual: tuple[NDArray[np.int64], ...]
    rungs: NDArray[np.int64]
    least: float

    @property
    def width(self) -> int:
        """Numbers that ``extras`` adds to what the trees look at."""
        return int(self.priors[0].shape[1]) + 2

    @cached_property
    def _tables(self) -> tuple[list[list[list[float]]], list[list[int]], list[list[int]], list[int]]:
        """Priors, usual codes, rungs and classes as lists: one decision asks for a few numbers of them."""
        priors = [[[float(p) for p in row] for row in table] for table in self.priors]
        return priors, [t.tolist() for t in self.usual], self.rungs.tolist(), self.classes.tolist()

    def place(self, groups: tuple[int, ...]) -> tuple[int, int]:
        """Which of ``LEVELS``, and row, of the finest group that was seen."""
        for at, level in enumerate(LEVELS):
            if groups[level] >= 0:
                return at, groups[level] + 1
        return len(LEVELS) - 1, 0

    def extras(self, view: View) -> list[float]:
        """(width,) what the group uses, the device and type of acquisition, which way the table moves."""
        at, row = self.place(view.groups)
        begin, end = self.run
        way = view.numbers[end] - view.numbers[begin] if begin >= 0 and end >= 0 else math.nan
        return [*self._tables[0][at][row], float(view.groups[TYPE]), way]

    def nats(self, view: View, answer: list[float]) -> float:
        """Surprise at the value, given the probability of each class."""
        code = view.codes[self.target]
        _, usual, rungs, classes = self._tables
        if classes:
            own = answer[classes.index(code)] if code in classes else 0.0
        else:
            at, row = self.place(view.groups)
            own = answer[steps_away(rungs[view.groups[TYPE] + 1], usual[at][row], code)]
        return -math.log(max(own, self.least))

    def expected(self, view: View, answer: list[float]) -> int:
        """The code expected in its place."""
        best = answer.index(max(answer))
        _, commonest, ladders, classes = self._tables
        if classes:
            return classes[best]
        at, row = self.place(view.groups)
        usual, rungs = commonest[at][row], ladders[view.groups[TYPE] + 1]
        wanted = rungs[usual] + best - REACH
        return rungs.index(wanted) if wanted >= 0 and best != OFF and wanted in rungs else usual

    def part(self) -> Part:
        """For a bundle (the trees travel in a grove)."""
        arrays: dict[str, NDArray[Any]] = {
            "classes": self.classes,
            "inputs": self.inputs,
            "rungs": self.rungs,
        }
        arrays |= {f"priors{i}": table for i, table in enumerate(self.priors)}
        arrays |= {f"usual{i}": table for i, table in enumerate(self.usual)}
        return Part({"target": self.target, "run": list(self.run), "least": self.least}, arrays)

    @classmethod
    def from_part(cls, part: Part) -> Choice:
        """The inverse of :meth:`part`."""
        a, s = part.arrays, part.settings
        return cls(
            int(s["target"]),
            a["classes"],
            a["inputs"],
            (int(s["run"][0]), int(s["run"][1])),
            tuple(a[f"priors{i}"] for i in range(len(LEVELS))),
            tuple(a[f"usual{i}"] for i in range(len(LEVELS))),
            a["rungs"],
            float(s["least"]),
        )


def steps_away(rungs: Sequence[int], usual: int, code: int) -> int:
    """Class of a stepwise choice: REACH is the usual value, one more is a step up."""
    if code == usual:
        return REACH
    if rungs[code] < 0 or rungs[usual] < 0:
        return OFF
    return REACH + max(-REACH, min(REACH, rungs[code] - rungs[usual]))


def fresh(nats: float, before: float) -> float:
    """Surprise at a choice that stays through an examination: how a patient lies is chosen once.

    ``before`` is the surprise at the command before (NaN for none): a departure that was there already is no
    news, one that ends is.
    """
    if before != before or before < MARK:
        return nats
    return 0.0 if nats >= MARK else before
