"""One number out of three layers, by a rule fixed before calibration.

Boosted trees over the features of the learned layers, trained in ``learning.combiner`` to tell recorded commands
from recorded commands that were corrupted. Their raw score is the nats by which "somebody changed this" beats
"operators do this"; it means nothing until it is calibrated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from scanward.commands import Opinion
from scanward.layers.base import Part
from scanward.layers.graph import Graph, rounded


@dataclass(frozen=True)
class Combiner:
    """``names`` fixes the order of the features given to the ``graphs``, whose scores are averaged."""

    names: tuple[str, ...]
    graphs: tuple[Graph, ...]

    def score(self, features: Mapping[str, float]) -> float:
        """Higher is stranger."""
        get = features.get
        row = rounded(np.array([get(name, np.nan) for name in self.names], dtype=np.float64))
        return sum(float(graph.run(row)[0]) for graph in self.graphs) / len(self.graphs)

    def part(self) -> Part:
        """For a bundle."""
        graphs = {f"trees{i}": graph.model for i, graph in enumerate(self.graphs)}
        return Part({"names": list(self.names), "graphs": len(self.graphs)}, {}, graphs)

    @classmethod
    def from_part(cls, part: Part) -> Combiner:
        """The inverse of :meth:`part`."""
        graphs = tuple(Graph(part.graphs[f"trees{i}"]) for i in range(int(part.settings["graphs"])))
        return cls(tuple(part.settings["names"]), graphs)


def features_of(opinions: Iterable[Opinion]) -> dict[str, float]:
    """The features of several layers as one mapping (their names differ by prefix)."""
    out: dict[str, float] = {}
    for opinion in opinions:
        out.update(opinion.features)
    return out
