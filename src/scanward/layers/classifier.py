"""Who or what is this command for? Classifiers of the context from the machine fields alone.

Disagreement between what is claimed and what the command looks like is the published context-sensitive idea
(Mahler et al. 2020). Two forms carry all the methods that learning compares: a table of weights per code
(naive Bayes, multinomial regression), or boosted trees (in a grove with those of the other classifiers).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.layers.base import Part
from scanward.layers.encoding import FIRST, MISSING, Encoder, View

NEVER = -16.0  # log probability of a class that was never learned
LEAST = 1e-7  # a probability below this is a rounding


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
        Log-linear form; empty when ``trees`` answer.
    classes : (K,) int64
        The code of each class; of a number, FIRST + its place between the ``edges``.
    edges : tuple of float
        Edges of the classes of a number (age bands, sizes), in the field's own scale; empty for a category.
    """

    target: int
    method: str
    fields: NDArray[np.int64]
    at: NDArray[np.int64]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: NDArray[np.int64]
    trees: bool = False
    edges: tuple[float, ...] = ()
    _place: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", {int(c): i for i, c in enumerate(self.classes)})

    def claimed(self, view: View) -> int:
        """Class that the context claims, MISSING when it says nothing."""
        if not len(self.edges):
            return view.codes[self.target]
        number = view.numbers[self.target]
        return MISSING if math.isnan(number) else FIRST + bisect_right(self.edges, number)

    def against(self, view: View, answer: list[float] | None) -> tuple[float, int] | None:
        """Nats by which the best class beats the claimed one, and the best class's code; None to abstain.

        ``answer`` is that of the trees, where they are used: the probability of each class.
        """
        claimed = self.claimed(view)
        if claimed == MISSING:
            return None
        at = self._place.get(claimed)
        if answer is not None:
            most = max(answer)
            best, peak = answer.index(most), math.log(max(most, LEAST))
            own = NEVER if at is None else math.log(max(answer[at], LEAST))
        else:
            logits = np.add.reduce(self.weights.take(self.at + view.code_array[self.fields], axis=0), axis=0)
            logits += self.bias
            best = int(logits.argmax())
            peak = float(logits[best])
            if at is not None:
                own = float(logits[at])
            else:
                own = NEVER + peak + math.log(float(np.exp((logits - peak).astype(np.float64)).sum()))
        return max(0.0, peak - own), int(self.classes[best])

    def part(self) -> Part:
        """For a bundle."""
        arrays: dict[str, NDArray[Any]] = {
            "fields": self.fields,
            "weights": self.weights,
            "bias": self.bias,
            "classes": self.classes,
        }
        settings = {
            "target": self.target,
            "method": self.method,
            "trees": self.trees,
            "edges": list(self.edges),
        }
        return Part(settings, arrays)

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> Classifier:
        """The inverse of :meth:`part`."""
        a = part.arrays
        at = np.asarray(encoder.offsets)[a["fields"]].astype(np.int64)
        s = part.settings
        return cls(
            int(s["target"]),
            s["method"],
            a["fields"],
            at,
            a["weights"],
            a["bias"],
            a["classes"],
            bool(s["trees"]),
            tuple(float(e) for e in s["edges"]),
        )
