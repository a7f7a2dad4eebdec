"""Distance to the nearest recorded commands: the density part of the context-free layer (Gower distance)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import View


@dataclass(frozen=True)
class Neighbours:
    """P recorded commands as landmarks.

    Attributes
    ----------
    fields : (F,) int64
        Fields compared: a different code counts 1 for a discrete field; a continuous one counts its distance
        over ``scale``, at most 1.
    codes : (P, F) int16, numbers : (P, F) float32, scale : (F,) float32 (0 for discrete fields)
    k : int
        The distance is that of the k-th nearest.
    """

    fields: NDArray[np.int64]
    codes: NDArray[np.int16]
    numbers: NDArray[np.float32]
    scale: NDArray[np.float32]
    k: int

    def distance(self, view: View) -> float:
        """Mean distance per field to the k-th nearest landmark, 0 to 1."""
        code = view.code_array[self.fields]
        number = view.number_array[self.fields]
        apart = (self.codes != code).astype(np.float32)
        smooth = (self.scale > 0) & ~np.isnan(number)
        if smooth.any():
            gap = np.abs(self.numbers[:, smooth] - number[smooth].astype(np.float32)) / self.scale[smooth]
            apart[:, smooth] = np.where(np.isnan(gap), 1.0, np.minimum(gap, 1.0))
        total = apart.mean(axis=1)
        return float(np.partition(total, self.k - 1)[self.k - 1])

    def part(self) -> Part:
        """For a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "fields": self.fields,
            "codes": self.codes,
            "numbers": self.numbers,
            "scale": self.scale,
        }
        return Part({"k": self.k}, arrays)

    @classmethod
    def from_part(cls, part: Part) -> Neighbours:
        """The inverse of :meth:`part`."""
        a = part.arrays
        return cls(a["fields"], a["codes"], a["numbers"], a["scale"], int(part.settings["k"]))
