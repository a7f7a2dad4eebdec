"""What exposure control makes of this patient and these settings, and whether it ever knew of the settings.

Automatic exposure control (AEC) sees how much comes through the patient, and the voltage, rotation and pitch that
it has to work with; within the limits it was told it sets the tube current by them. So the current of a command
is evidence about its *other* settings: where an operator takes another voltage the current follows, and where a
voltage is exchanged after the current was set it still is the current of the old one. No other field gives that
away, and neither of the two needs to be unusual by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.conditional import Conditional
from scanward.layers.encoding import View

FARTHEST = 20.0  # no number of spreads beyond this says more
MOST = 25.0  # nats: no comparison of two settings says more
AT = 1e-6  # nearer than this to a limit is at the limit


@dataclass(frozen=True)
class Exposed:
    """What exposure control has to say of one command.

    Attributes
    ----------
    spreads : float
        Current told over current expected, in expected spreads of the logarithm; 0 where a limit explains it.
    nats : float
        Surprise at the current.
    fits : dict of field index to float
        By how many nats the current fits the usual value of a setting better than the value told; 0 where the
        value told is the usual one.
    """

    spreads: float
    nats: float
    fits: dict[int, float]


@dataclass(frozen=True)
class Exposure:
    """Expectation of the tube current under exposure control.

    Attributes
    ----------
    model : Conditional
        Of log mA, without trees: size as the localizer measured it (or what else is told of it), and settings.
    mode : int
        The field that says whether exposure control is on, -1 where it is not learned.
    off : tuple of int
        Codes of that field at which it is off: then it has no say.
    settings : (S,) int64
        Fields that AEC works with, and that may have been exchanged.
    """

    model: Conditional
    mode: int
    off: tuple[int, ...]
    settings: NDArray[np.int64]

    @cached_property
    def _columns(self) -> list[tuple[int, int]]:
        """(field, its column among the predictors) of each setting."""
        linear = self.model.linear.tolist()
        return [(f, linear.index(f)) for f in self.settings.tolist()]

    def opinion(
        self, view: View, level: int, row: int, moved: list[float], expected: float, width: float
    ) -> Exposed | None:
        """None where exposure control is off, or there is no current.

        ``moved`` are distances from the usual values, ``expected`` and ``width`` what ``layers.expecting`` makes
        of ``model``.
        """
        told = view.numbers[self.model.target]
        if told != told or (self.mode >= 0 and view.codes[self.mode] in self.off):
            return None
        low, high = (view.numbers[f] if f >= 0 else math.nan for f in self.model.limits)
        spreads, nats = _surprise(told, expected, width, low, high)
        slopes = self.model.slopes[level][row]
        fits: dict[int, float] = {}
        for field, column in self._columns:
            by = moved[field]
            if by != by or abs(by) <= AT:
                fits[field] = 0.0
                continue
            _, other = _surprise(told, expected - float(slopes[column]) * by, width, low, high)
            fits[field] = max(-MOST, min(MOST, nats - other))
        return Exposed(spreads, nats, fits)

    def part(self) -> Part:
        """For a bundle."""
        inner = self.model.part()
        arrays: dict[str, NDArray[Any]] = {**inner.arrays, "settings": self.settings}
        return Part({**inner.settings, "mode": self.mode, "off": list(self.off)}, arrays)

    @classmethod
    def from_part(cls, part: Part) -> Exposure:
        """The inverse of :meth:`part`."""
        return cls(
            Conditional.from_part(part),
            int(part.settings["mode"]),
            tuple(int(c) for c in part.settings["off"]),
            part.arrays["settings"],
        )


def _surprise(told: float, expected: float, width: float, low: float, high: float) -> tuple[float, float]:
    """Spreads and nats; at a limit only the side that the limit does not explain counts."""
    z = max(-FARTHEST, min(FARTHEST, (told - expected) / width))
    above, below = told >= high - AT, told <= low + AT  # neither, where there is no limit
    if above and below:
        return 0.0, 0.0
    if above or below:
        side = max(z, 0.0) if above else min(z, 0.0)
        # The chance that the limit was reached at all, over a half: none to speak of where it was expected.
        tail = math.erfc(abs(side) / math.sqrt(2.0))
        return side, min(-math.log(tail), 0.5 * FARTHEST**2)
    return z, 0.5 * z * z
