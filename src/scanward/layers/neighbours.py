"""Distance to the nearest recorded commands: the density part of the context-free layer (Gower distance)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import View

_MISSING = -1e6


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
    _codes: NDArray[np.int16] = field(init=False, repr=False, compare=False)  # (discrete, P)
    _gaps: NDArray[np.float32] = field(init=False, repr=False, compare=False)  # (smooth, P)
    _which: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        smooth = self.scale > 0
        # A missing number stands far from every other number, and on another missing one.
        scaled = np.where(np.isnan(self.numbers), _MISSING, self.numbers / np.where(smooth, self.scale, 1.0))
        # Landmarks side by side: one operation on a long row for each field, not one on a short row for each of them.
        object.__setattr__(self, "_codes", np.ascontiguousarray(self.codes[:, ~smooth].T))
        object.__setattr__(self, "_gaps", np.ascontiguousarray(scaled[:, smooth].T.astype(np.float32)))
        object.__setattr__(self, "_which", (self.fields[~smooth], self.fields[smooth], self.scale[smooth]))

    def distance(self, view: View) -> float:
        """Mean distance per field to the k-th nearest landmark, 0 to 1."""
        discrete, smooth, scale = self._which
        codes = view.code_array[discrete].astype(np.int16)
        apart = np.add.reduce(self._codes != codes[:, None], axis=0, dtype=np.int16)
        number = view.number_array[smooth] / scale
        np.copyto(number, _MISSING, where=np.isnan(number))
        gaps = self._gaps - number.astype(np.float32)[:, None]
        np.abs(gaps, out=gaps)
        np.minimum(gaps, 1.0, out=gaps)
        total = np.add.reduce(gaps, axis=0)
        total += apart
        total.partition(self.k - 1)
        return float(total[self.k - 1]) / len(self.fields)

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
