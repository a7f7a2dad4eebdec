"""What is usual here, and how people deviate from it.

For each group of recordings (protocol element, then body region, then acquisition type) the table holds how
surprising each value of each discrete field is, and the middle and spread of each continuous one. A value that
was never seen in *this* protocol is not simply new: the table knows how often, and from which usual value to
which other one, operators deviate *across all protocols*, and charges only that. So a rare protocol costs no
more than a common one, and a deviation nobody ever makes costs much everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import GROUP_LEVELS, Encoder, View


@dataclass(frozen=True)
class UsualValues:
    """Tables per level; row 0 of each is for a group never seen, group g is row g + 1.

    Attributes
    ----------
    surprise : tuple of (G + 1, C) float32, C = total codes
        Nats of surprise of each code of each discrete field.
    middle, spread : tuple of (G + 1, F) float32
        Usual value and spread of each numeric field, in the field's own scale (NaN where unknown).
    support : tuple of (G + 1,) float32
        How many commands the row rests on.
    """

    surprise: tuple[NDArray[np.float32], ...]
    middle: tuple[NDArray[np.float32], ...]
    spread: tuple[NDArray[np.float32], ...]
    support: tuple[NDArray[np.float32], ...]

    def row(self, view: View) -> tuple[int, int]:
        """Level and row of the finest group that was seen."""
        for level, group in enumerate(view.groups):
            if group >= 0:
                return level, group + 1
        return GROUP_LEVELS - 1, 0

    def surprises(self, encoder: Encoder, view: View, level: int, row: int) -> NDArray[np.float32]:
        """(F,) nats of surprise of each field's code in a group (meaningless for continuous fields)."""
        found: NDArray[np.float32] = self.surprise[level][row].take(encoder.starts + view.code_array)
        return found

    def part(self) -> Part:
        """For a bundle."""
        arrays = {}
        for level in range(GROUP_LEVELS):
            arrays[f"surprise{level}"] = self.surprise[level]
            arrays[f"middle{level}"] = self.middle[level]
            arrays[f"spread{level}"] = self.spread[level]
            arrays[f"support{level}"] = self.support[level]
        return Part({}, arrays)

    @classmethod
    def from_part(cls, part: Part) -> UsualValues:
        """The inverse of :meth:`part`."""

        def tables(name: str) -> tuple[NDArray[np.float32], ...]:
            return tuple(part.arrays[f"{name}{level}"] for level in range(GROUP_LEVELS))

        return cls(tables("surprise"), tables("middle"), tables("spread"), tables("support"))
