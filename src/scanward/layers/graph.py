"""Running an ONNX graph of boosted trees on one row, and the rounding that makes it exact.

ONNX compares in float32, LightGBM learned in float64. A feature rounded to twelve bits of mantissa leaves room
for every split threshold between two neighbours in float32, so both engines take the same branch, always.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.onnx_session import session

ABSENT = -999.0  # stands for a missing number; no learned feature comes near it
_KEPT_BITS = 12
_HALF = 1 << (22 - _KEPT_BITS)
_MASK = ~((1 << (23 - _KEPT_BITS)) - 1)
_BOUND = np.float32(1e6)  # features beyond this are cut: they say the same


def rounded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Features as float32 with twelve bits of mantissa; NaN becomes ``ABSENT`` (same shape)."""
    out = np.array(values, dtype=np.float32)
    out[np.isnan(out)] = ABSENT
    np.minimum(out, _BOUND, out=out)
    np.maximum(out, -_BOUND, out=out)
    bits = out.view(np.int32)
    bits += _HALF
    bits &= _MASK
    return out


class Graph:
    """One ONNX graph with one float32 input (1, D); ``run`` gives its last output as a flat array."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._session = session(model)
        self._input = self._session.get_inputs()[0].name
        self._output = [self._session.get_outputs()[-1].name]

    def run(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Last output for one row (D,) or many (N, D), flattened to (K,) or kept (N, K)."""
        many = features.ndim == 2
        out = self._session.run(self._output, {self._input: features if many else features[None, :]})[0]
        array = np.asarray(out, dtype=np.float32)
        return array.reshape(len(features), -1) if many else array.reshape(-1)


class Grove:
    """Several ensembles of trees in one graph over one shared row of features: one call answers all.

    ``widths`` says how many numbers each ensemble answers with, in order. An empty grove has no graph.
    """

    def __init__(self, graph: Graph | None, widths: tuple[int, ...]) -> None:
        self.graph = graph
        self.widths = widths
        ends = np.cumsum([0, *widths])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def run(self, features: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Answers of each ensemble for one row (D,)."""
        if self.graph is None:
            return []
        out = self.graph.run(features)
        return [out[s] for s in self._slices]

    def part(self) -> Part:
        """For a bundle."""
        return Part(
            {"widths": list(self.widths)}, {}, {} if self.graph is None else {"trees": self.graph.model}
        )

    @classmethod
    def from_part(cls, part: Part) -> Grove:
        """The inverse of :meth:`part`."""
        graph = Graph(part.graphs["trees"]) if "trees" in part.graphs else None
        return cls(graph, tuple(int(w) for w in part.settings["widths"]))
