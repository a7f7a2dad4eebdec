"""Layer 5, context-free: is the command possible in itself? Learned, unsupervised, on content alone.

Three methods look at the machine fields only: a masked network (deep), boosted conditionals of each important
field given the others, and the distance to the nearest recorded commands. Their numbers go to the combiner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, LayerName, Objection, Opinion, Outcome
from scanward.layers.base import Part
from scanward.layers.encoding import DOSE_BLOCK, RANGE_BLOCK, Encoder, View
from scanward.layers.graph import Answers, Grove
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

    @cached_property
    def _place(self) -> dict[int, int]:
        return {int(code): i for i, code in enumerate(self.classes)}

    def judge(self, view: View, out: list[float]) -> tuple[float, float | int]:
        """Nats of surprise (or half the squared residual) of what the trees answered; the expected value or code."""
        place = self._place
        if not place:
            number = view.numbers[self.target]
            expected = out[0]
            if math.isnan(number):
                return 0.0, expected
            return 0.5 * min(abs(number - expected) / self.spread, 12.0) ** 2, expected
        at = place.get(view.codes[self.target])
        own = 0.0 if at is None else out[at]
        return -math.log(max(own, 1e-5)), int(self.classes[out.index(max(out))])


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

    @cached_property
    def _names(self) -> tuple[list[str], list[str]]:
        """Names of the features of the net's fields and of the models."""
        fields = self.encoder.fields
        return (
            [f"cf.deep.{fields[f].name}" for f in self.net.fields],
            [f"cf.trees.{fields[model.target].name}" for model in self.models],
        )

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        """Opinion on content alone."""
        view = self.encoder.view(command)
        return self.opinion(view, self.grove.run(view.row())), None

    def opinion(self, view: View, answers: Answers) -> Opinion:
        """The same, with what the grove answers to ``view.row()``."""
        nats_of, logits = self.net.surprises(view)
        deep: list[float] = nats_of.tolist()
        order = sorted(deep)
        total = float(nats_of.sum())
        deep_names, trees_names = self._names
        features: dict[str, float] = {
            "cf.deep.sum": total,
            "cf.deep.max": order[-1],
            "cf.deep.second": order[-2] if len(order) > 1 else 0.0,
        }
        features.update(zip(deep_names, deep, strict=True))
        objections: list[Objection] = []
        for model, answer, name in zip(self.models, answers, trees_names, strict=True):
            nats, expected = model.judge(view, answer)
            features[name] = nats
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
        if order[-1] > STRANGE:
            named = {o.field for o in objections}
            for at in np.argsort(-nats_of)[:3]:
                field = int(self.net.fields[at])
                if deep[at] > STRANGE and self.encoder.fields[field].name not in named:
                    likely = int(np.argmax(logits[at]))
                    reason = "is unusual beside the other parameters"
                    objections.append(code_objection(self.encoder, field, view, [likely], reason, deep[at]))
        outcome = Outcome.OBJECT if objections else Outcome.PASS
        found = tuple(sorted(objections, key=lambda o: -o.weight))
        return Opinion(self.name, outcome, found, total, features=features)

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
