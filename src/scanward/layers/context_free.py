"""Layer 5, context-free: is the command possible in itself? Learned, unsupervised, on content alone.

Three methods look at the machine fields only: a masked network (deep), boosted conditionals of each important
field given the others, and the distance to the nearest recorded commands. Their numbers go to the combiner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, LayerName, Objection, Opinion, Outcome
from scanward.layers.base import Part
from scanward.layers.encoding import DOSE_BLOCK, RANGE_BLOCK, Encoder, View
from scanward.layers.graph import Grove
from scanward.layers.masked import MaskedNet
from scanward.layers.neighbours import Neighbours
from scanward.layers.phrases import code_objection, range_objection

STRANGE = 4.0  # nats from which a field is named in an objection


@dataclass(frozen=True)
class FieldModel:
    """Boosted conditional of one field given the machine fields that are not its consequences or causes.

    A continuous field is predicted (``spread`` is its residual spread), a discrete one gets probabilities
    (``classes`` are its codes).
    """

    target: int
    spread: float
    classes: NDArray[np.int64]

    def judge(self, view: View, out: NDArray[np.float32]) -> tuple[float, float | int]:
        """Nats of surprise (or half the squared residual) of what the trees answered; the expected value or code."""
        if len(self.classes) == 0:
            number = view.numbers[self.target]
            expected = float(out[0])
            if math.isnan(number):
                return 0.0, expected
            return 0.5 * min(abs(number - expected) / self.spread, 12.0) ** 2, expected
        at = np.flatnonzero(self.classes == view.codes[self.target])
        own = float(out[at[0]]) if len(at) else 0.0
        return -math.log(max(own, 1e-5)), int(self.classes[int(np.argmax(out))])


def unrelated(encoder: Encoder, target: int) -> list[int]:
    """Machine fields that may explain ``target``: not itself, nor members of its own block."""
    name = encoder.fields[target].name
    block = frozenset({name})
    if name in DOSE_BLOCK:
        block = block | DOSE_BLOCK
    if name in RANGE_BLOCK:
        block = block | RANGE_BLOCK
    return [i for i in encoder.machine if encoder.fields[i].name not in block]


@dataclass(frozen=True)
class ContextFreeLayer:
    """See the module."""

    encoder: Encoder
    net: MaskedNet
    models: tuple[FieldModel, ...]
    grove: Grove  # the trees of the models, over codes and numbers of all fields
    neighbours: Neighbours
    name: LayerName = LayerName.CONTEXT_FREE

    def start(self) -> None:
        """This layer remembers nothing."""

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        """Opinion on content alone."""
        view = self.encoder.view(command)
        deep = self.net.surprises(view)
        features: dict[str, float] = {}
        order = np.sort(deep)
        features["cf.deep.sum"] = float(deep.sum())
        features["cf.deep.max"] = float(order[-1])
        features["cf.deep.second"] = float(order[-2]) if len(order) > 1 else 0.0
        for field, value in zip(self.net.fields, deep, strict=True):
            features[f"cf.deep.{self.encoder.fields[field].name}"] = float(value)
        objections: list[Objection] = []
        answers = self.grove.run(view.row())
        for model, answer in zip(self.models, answers, strict=True):
            nats, expected = model.judge(view, answer)
            learned = self.encoder.fields[model.target]
            features[f"cf.trees.{learned.name}"] = nats
            if nats > STRANGE:
                reason = "does not go with the other parameters"
                objections.append(
                    range_objection(
                        self.encoder, model.target, view, float(expected), model.spread, reason, nats
                    )
                    if len(model.classes) == 0
                    else code_objection(self.encoder, model.target, view, [int(expected)], reason, nats)
                )
        features["cf.distance"] = self.neighbours.distance(view)
        named = {o.field for o in objections}
        for at in np.argsort(-deep)[:3]:
            field = int(self.net.fields[at])
            if deep[at] > STRANGE and self.encoder.fields[field].name not in named:
                likely = self.net.likely(view, int(at))
                objections.append(
                    code_objection(
                        self.encoder,
                        field,
                        view,
                        [likely],
                        "is unusual beside the other parameters",
                        float(deep[at]),
                    )
                )
        score = float(deep.sum())
        outcome = Outcome.OBJECT if objections else Outcome.PASS
        found = tuple(sorted(objections, key=lambda o: -o.weight))
        return Opinion(self.name, outcome, found, score, features=features), None

    def part(self) -> Part:
        """For a bundle (the shared encoder travels apart)."""
        parts = {"net": self.net.part(), "neighbours": self.neighbours.part(), "grove": self.grove.part()}
        settings: dict[str, Any] = {}
        for i, model in enumerate(self.models):
            parts[f"model{i}"] = Part(
                {"target": model.target, "spread": model.spread}, {"classes": model.classes}
            )
        joined = Part.joined(parts)
        settings = {**joined.settings, "models": len(self.models)}
        return Part(settings, joined.arrays, joined.graphs)

    @classmethod
    def from_part(cls, part: Part, encoder: Encoder) -> ContextFreeLayer:
        """The inverse of :meth:`part`."""
        models = []
        for i in range(int(part.settings["models"])):
            p = part.scoped(f"model{i}")
            models.append(
                FieldModel(int(p.settings["target"]), float(p.settings["spread"]), p.arrays["classes"])
            )
        net = MaskedNet.from_part(part.scoped("net"), encoder)
        grove = Grove.from_part(part.scoped("grove"))
        return cls(encoder, net, tuple(models), grove, Neighbours.from_part(part.scoped("neighbours")))
