"""Who or what is this command for? Classifiers of the context from the machine fields alone.

Disagreement between what is claimed and what the command looks like is the published context-sensitive idea
(Mahler et al. 2020). Two forms carry all the methods that learning compares: a table of weights per code
(naive Bayes, multinomial regression), or an ONNX graph (boosted trees).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import MISSING, Encoder, View
from scanward.layers.graph import Graph


@dataclass(frozen=True)
class Classifier:
    """Probability of each code of one context field.

    Attributes
    ----------
    target : int
        Index of the context field.
    method : str
        Which of the compared methods won, for the report.
    fields : (F,) int64
        Machine fields looked at.
    at : (F,) int64
        First row of each field in ``weights``.
    weights : (C, K) float32, bias : (K,) float32
        Log-linear form; empty when ``graph`` is used.
    classes : (K,) int64
        The code of each class.
    """

    target: int
    method: str
    fields: NDArray[np.int64]
    at: NDArray[np.int64]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: NDArray[np.int64]
    graph: Graph | None = None

    def log_probabilities(self, view: View) -> NDArray[np.float64]:
        """(K,) natural log of the probability of each class."""
        codes = view.code_array[self.fields]
        if self.graph is None:
            logits = (self.weights[self.at + codes].sum(axis=0) + self.bias).astype(np.float64)
            logits -= logits.max()
            out: NDArray[np.float64] = logits - np.log(np.exp(logits).sum())
            return out
        features = np.concatenate([view.rounded_codes[self.fields], view.rounded_numbers[self.fields]])
        return np.log(np.maximum(self.graph.run(features).astype(np.float64), 1e-7))

    def against(self, view: View) -> tuple[float, int] | None:
        """Nats by which the best class beats the claimed one, and the best class's code; None to abstain."""
        claimed = view.codes[self.target]
        if claimed == MISSING:
            return None
        logs = self.log_probabilities(view)
        at = np.flatnonzero(self.classes == claimed)
        own = float(logs[at[0]]) if len(at) else -16.0
        best = int(np.argmax(logs))
        return max(0.0, float(logs[best]) - own), int(self.classes[best])

    def part(self) -> Part:
        """For a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "fields": self.fields,
            "weights": self.weights,
            "bias": self.bias,
            "classes": self.classes,
        }
        graphs = {} if self.graph is None else {"trees": self.graph.model}
        return Part({"target": self.target, "method": self.method}, arrays, graphs)

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> Classifier:
        """The inverse of :meth:`part`."""
        a = part.arrays
        at = np.asarray(encoder.offsets)[a["fields"]].astype(np.int64)
        graph = Graph(part.graphs["trees"]) if "trees" in part.graphs else None
        s = part.settings
        return cls(
            int(s["target"]), s["method"], a["fields"], at, a["weights"], a["bias"], a["classes"], graph
        )
