"""How often one protocol element follows another: counts, beside the network of ``layers.procedure``.

A network that has never seen a step says that it is improbable, not how improbable. Here each step is of a kind (on
to another element, the same once more, the same a third time, back to one sent before the last), how often people
take each kind is counted over all protocols, and what a protocol itself has shown is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part

PRIOR = 30.0  # weight, in steps, of the pooled rates
BEGIN = -2  # stands for the last element before the first command


@dataclass(frozen=True)
class Steps:
    """Counts of steps.

    Attributes
    ----------
    pairs : (M, 3) int64
        Last element (or BEGIN - 1 - protocol before the first), next element, times recorded.
    lasts : (L, 2) int64
        Last element, how often it was recorded (the end of the examination included).
    protocols : (T,) int64
        Protocol of each element.
    rates : mapping
        Pooled share of steps: ``skip`` (to an element that does not usually follow), ``again`` (the same a second
        time), ``third`` (once more after a second time), ``back`` (to one sent before the last).
    """

    pairs: NDArray[np.int64]
    lasts: NDArray[np.int64]
    protocols: NDArray[np.int64]
    rates: Mapping[str, float]
    _count: dict[tuple[int, int], int] = field(init=False, repr=False, compare=False)
    _total: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_count", {(int(a), int(b)): int(n) for a, b, n in self.pairs})
        object.__setattr__(self, "_total", {int(a): int(n) for a, n in self.lasts})

    def beginning(self, element: int) -> int:
        """What stands for the last element before ``element`` begins an examination."""
        return BEGIN - 1 - int(self.protocols[element]) if element >= 0 else BEGIN

    def nats(self, last: int, element: int, sent: int, run: int) -> float:
        """Surprise at ``element`` after ``last``.

        ``sent`` says how often it was sent before, ``run`` how often in an unbroken row up to now.
        """
        if run >= 2:
            return -math.log(self.rates["third"])
        if run == 0 and sent:
            return -math.log(self.rates["back"])
        pooled = self.rates["again" if run else "skip"]
        count = self._count.get((last, element), 0) if element >= 0 else 0
        total = self._total.get(last, 0)
        return -math.log((count + PRIOR * pooled) / (total + PRIOR))

    def part(self) -> Part:
        """For a bundle."""
        arrays = {"pairs": self.pairs, "lasts": self.lasts, "protocols": self.protocols}
        return Part({"rates": dict(self.rates)}, dict(arrays))

    @classmethod
    def blank(cls, protocols: NDArray[np.int64]) -> Steps:
        """Nothing counted yet."""
        none = np.zeros((0, 3), dtype=np.int64)
        return cls(none, none[:, :2], protocols, dict.fromkeys(("skip", "again", "third", "back"), 0.5))

    @classmethod
    def from_part(cls, part: Part) -> Steps:
        """The inverse of :meth:`part`."""
        rates = {str(k): float(v) for k, v in part.settings["rates"].items()}
        return cls(part.arrays["pairs"], part.arrays["lasts"], part.arrays["protocols"], rates)
