"""Running ONNX graphs of boosted trees on one row, and the rounding that makes it exact.

ONNX compares in float32, LightGBM learned in float64. A feature rounded to twelve bits of mantissa leaves room
for every split threshold between two neighbours in float32, so both engines take the same branch, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.errors import BundleError
from scanward.layers.base import Part
from scanward.layers.bitvectors import Bitvectors, fits
from scanward.layers.ensembles import Ensembles, joined, read, written
from scanward.layers.onnx_session import session

Answers = list[list[float]]  # of each ensemble: a number, or the probability of each class

ABSENT = -999.0  # stands for a missing number; no learned feature comes near it
_KEPT_BITS = 12
_HALF = 1 << (22 - _KEPT_BITS)
_MASK = ~((1 << (23 - _KEPT_BITS)) - 1)
_BOUND = np.float32(1e6)  # features beyond this are cut: they say the same


def rounded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Features as float32 with twelve bits of mantissa; NaN becomes ``ABSENT`` (same shape)."""
    out = np.array(values, dtype=np.float32)
    np.copyto(out, ABSENT, where=np.isnan(out))
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
    """Several ensembles of trees over one shared row of features, in one ONNX graph; an empty grove has none.

    ``widths`` says how many numbers each ensemble answers with, in order. BundleError when the graph is none
    of trees, or answers with others.
    """

    def __init__(self, model: bytes | None, widths: tuple[int, ...]) -> None:
        self.model = model
        self.widths = widths
        self.trees = None if model is None else read(model)
        if (self.trees.widths if self.trees else ()) != widths:
            raise BundleError(
                "a graph of trees does not answer as it should", "graph", "train the bundle again"
            )

    def run(self, features: NDArray[np.float32]) -> Answers:
        """Answers of each ensemble for one row (D,)."""
        return self._alone.run(features)[0]

    @cached_property
    def _alone(self) -> Stand:
        return Stand([self])

    def part(self) -> Part:
        """For a bundle."""
        return Part({"widths": list(self.widths)}, {}, {} if self.model is None else {"trees": self.model})

    @classmethod
    def from_part(cls, part: Part) -> Grove:
        """The inverse of :meth:`part`."""
        return cls(part.graphs.get("trees"), tuple(int(w) for w in part.settings["widths"]))


class Stand:
    """Several groves over one row, asked all at once: a run costs more than a small ensemble does.

    The row is that of the widest grove; the others read its beginning.
    """

    def __init__(self, groves: Sequence[Grove]) -> None:
        found = [grove.trees for grove in groves if grove.trees is not None]
        trees = joined(found) if found else None
        # Small trees are asked without walking them; large ones are the runtime's.
        self._trees: Bitvectors | Graph | None = None
        if trees is not None:
            self._trees = Bitvectors(trees) if fits(trees) else Graph(written(trees))
        self._width = 0 if trees is None else trees.width
        ends = np.cumsum([0, *(w for grove in groves for w in grove.widths)]).tolist()
        places = iter([slice(a, b) for a, b in pairwise(ends)])
        self._places = [[next(places) for _ in grove.widths] for grove in groves]
        self._classes = _Classes(trees) if trees is not None and any(trees.classes) else None

    def run(self, features: NDArray[np.float32]) -> list[Answers]:
        """Answers of each grove for one row (D,)."""
        if self._trees is None:
            return [[] for _ in self._places]
        out = self._trees.run(features[: self._width])
        if self._classes is not None:
            self._classes.settle(out)
        numbers: list[float] = out.tolist()
        return [[numbers[place] for place in places] for places in self._places]


class _Classes:
    """Softmax of several stretches of one array."""

    def __init__(self, trees: Ensembles) -> None:
        starts = np.cumsum([0, *trees.widths])
        which = [i for i, classes in enumerate(trees.classes) if classes]
        widths = [trees.widths[i] for i in which]
        self._at = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in which])
        self._starts = np.cumsum([0, *widths[:-1]])
        self._of = np.repeat(np.arange(len(which)), widths)

    def settle(self, out: NDArray[np.float32]) -> None:
        """Turn the log odds in ``out`` into probabilities, in place."""
        odds = out[self._at]
        odds -= np.maximum.reduceat(odds, self._starts)[self._of]
        np.exp(odds, out=odds)
        odds /= np.add.reduceat(odds, self._starts)[self._of]
        out[self._at] = odds
