"""One number out of three layers, by a rule fixed before calibration.

Boosted trees over the features of the learned layers, trained in ``learning.combiner`` to tell recorded commands
from recorded commands that were corrupted. Their raw score is the nats by which "somebody changed this" beats
"operators do this"; it means nothing until it is calibrated.

What a layer has *counted* to be rarer than ``BEYOND`` is added as it is. Trees learn an event that no clean command
shows from the few spoilt ones that do, and give it no more weight than those few can carry; a count of all
recordings knows better how rare it is, and can say no more than the recordings allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np

from scanward.commands import Opinion
from scanward.layers.base import Part
from scanward.layers.graph import Grove, Stand, rounded

COUNTED = ("proc.step", "proc.doubt", "cs.usual.PatientAge")  # nats that are counts, not models
BEYOND = 6.0  # nats from which they are added: about 1 in 400


@dataclass(frozen=True)
class Combiner:
    """``names`` fixes the order of the features given to the ``groves``, whose scores are averaged."""

    names: tuple[str, ...]
    groves: tuple[Grove, ...]

    @cached_property
    def stand(self) -> Stand:
        """All groves, to be asked at once."""
        return Stand(self.groves)

    @cached_property
    def _pick(self) -> Callable[[Mapping[str, float]], tuple[float, ...]]:
        if len(self.names) > 1:
            return itemgetter(*self.names)
        return lambda features: tuple(features[name] for name in self.names)

    def score(self, features: Mapping[str, float]) -> float:
        """Higher is stranger."""
        try:
            values = self._pick(features)
        except KeyError:  # a layer abstained
            values = tuple([features.get(name, math.nan) for name in self.names])
        row = rounded(np.array(values, dtype=np.float64))
        score = sum([answers[0][0] for answers in self.stand.run(row)]) / len(self.groves)
        # NaN, where a layer abstained, adds nothing: max gives the first of two that do not compare.
        return score + sum([max(0.0, features.get(name, math.nan) - BEYOND) for name in COUNTED])

    def part(self) -> Part:
        """For a bundle."""
        graphs = {f"trees{i}": grove.model for i, grove in enumerate(self.groves) if grove.model}
        return Part({"names": list(self.names), "graphs": len(self.groves)}, {}, graphs)

    @classmethod
    def from_part(cls, part: Part) -> Combiner:
        """The inverse of :meth:`part`."""
        groves = tuple(Grove(part.graphs[f"trees{i}"], (1,)) for i in range(int(part.settings["graphs"])))
        return cls(tuple(part.settings["names"]), groves)


def features_of(opinions: Iterable[Opinion]) -> dict[str, float]:
    """The features of several layers as one mapping (their names differ by prefix)."""
    out: dict[str, float] = {}
    for opinion in opinions:
        out.update(opinion.features)
    return out
