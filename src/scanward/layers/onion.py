"""All seven skins together: opinions, one calibrated number, a verdict. Pure: (state, command) -> (judgement, state).

The default policy (a site's own policy replaces it in the guard): what layers 1 to 4 object to counts with its own
severity; the calibrated number of layers 5 to 7 gives ALERT when its p-value is within the budget, never HALT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scanward.calibration import Calibration
from scanward.commands import (
    PATIENT_FIELDS,
    Command,
    Context,
    Judgement,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Verdict,
)
from scanward.layers.base import Layer, Part
from scanward.layers.combiner import Combiner, features_of
from scanward.layers.context_free import ContextFreeLayer
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import Encoder
from scanward.layers.form import FormLayer
from scanward.layers.limits import LimitsLayer
from scanward.layers.physics import PhysicsLayer
from scanward.layers.procedure import ProcedureLayer
from scanward.layers.protocol_book import ProtocolBookLayer

VERDICT_OF = {
    Severity.INFORMATION: Verdict.RELEASE,
    Severity.ALERT: Verdict.ALERT,
    Severity.HALT: Verdict.HALT,
}
State = tuple[Any, ...]


@dataclass(frozen=True)
class Onion:
    """The judge.

    Attributes
    ----------
    rules : layers 1 to 4, outermost first
    budget : float
        Share of clean examinations that may alert.
    calibrations : mapping
        ``"examination"``: largest score of each clean calibration examination. ``"command"``: score of each
        clean command judged without its examination (the procedure layer abstains).
    references : mapping of layer name to Calibration
        Scores of single clean commands, for the per-layer p-values that explain.
    """

    encoder: Encoder
    rules: tuple[Layer[Any], ...]
    context_free: ContextFreeLayer
    context_sensitive: ContextSensitiveLayer
    procedure: ProcedureLayer
    combiner: Combiner
    budget: float
    calibrations: Mapping[str, Calibration]
    references: Mapping[LayerName, Calibration]

    @property
    def layers(self) -> tuple[Layer[Any], ...]:
        """All layers, outermost first."""
        return (*self.rules, self.context_free, self.context_sensitive, self.procedure)

    def start(self) -> State:
        """State before the first command of an examination."""
        return tuple(layer.start() for layer in self.layers)

    def judge(self, state: State, command: Command) -> tuple[Judgement, State]:
        """Verdict on one command, and the state once it has been sent."""
        after: list[Any] = list(state)
        opinions: list[Opinion] = []
        rules = len(self.rules)
        for i, layer in enumerate(self.rules):
            opinion, after[i] = layer.judge(state[i], command)
            opinions.append(opinion)
            if opinion.layer is LayerName.FORM and opinion.severity is Severity.HALT:
                # What is not even well-formed is not shown to the layers that calculate.
                return self._verdict(opinions, None, None), tuple(after)
        learned, after[rules:] = self._learned(state[rules:], command)
        score = self.combiner.score(features_of(learned))
        blind = without_host_patient(command)
        if blind is not None:
            # What only the host says of the patient may raise suspicion, never lower it.
            again, _ = self._learned(state[rules:], blind)
            score = max(score, self.combiner.score(features_of(again)))
        opinions += [replace(o, p_value=self._layer_p(o)) for o in learned]
        kind = "command" if command.examination is None else "examination"
        return self._verdict(opinions, score, self.calibrations[kind].p_value(score)), tuple(after)

    def _learned(self, state: State, command: Command) -> tuple[list[Opinion], list[Any]]:
        opinions, after = [], []
        layers: tuple[Layer[Any], ...] = (self.context_free, self.context_sensitive, self.procedure)
        for layer, before in zip(layers, state, strict=True):
            opinion, new = layer.judge(before, command)
            opinions.append(opinion)
            after.append(new)
        return opinions, after

    def _layer_p(self, opinion: Opinion) -> float | None:
        reference = self.references.get(opinion.layer)
        if reference is None or opinion.score is None:
            return None
        return reference.p_value(opinion.score)

    def _verdict(self, opinions: list[Opinion], score: float | None, p_value: float | None) -> Judgement:
        rule = max(
            (o for o in opinions if o.layer in _RULES),
            key=lambda o: o.severity,
            default=Opinion(LayerName.FORM, Outcome.PASS),
        )
        verdict = VERDICT_OF[rule.severity]
        beyond = p_value is not None and p_value <= self.budget
        if beyond and verdict is Verdict.RELEASE:
            verdict = Verdict.ALERT
        kept = tuple(opinions)
        if verdict is Verdict.RELEASE:
            return Judgement(verdict, kept, p_value, score)
        if rule.severity > Severity.INFORMATION:
            grave = [o for o in rule.objections if o.severity is rule.severity]
            return Judgement(verdict, kept, p_value, score, rule.layer, _names(grave), _reason(grave))
        layer, objections = blame(opinions)
        return Judgement(verdict, kept, p_value, score, layer, _names(objections), _reason(objections))

    def judge_all(self, commands: Iterable[Command]) -> list[Judgement]:
        """The commands of one examination in order, each sent whatever the verdict."""
        state = self.start()
        out = []
        for command in commands:
            judgement, state = self.judge(state, command)
            out.append(judgement)
        return out

    def part(self) -> Part:
        """For a bundle."""
        parts = {layer.name.value: layer.part() for layer in self.layers}
        parts["combiner"] = self.combiner.part()
        joined = Part.joined(parts)
        settings = {
            **joined.settings,
            "encoder": self.encoder.settings(),
            "budget": self.budget,
            "calibrations": {k: list(v.scores) for k, v in self.calibrations.items()},
            "references": {k.value: list(v.scores) for k, v in self.references.items()},
        }
        return Part(settings, joined.arrays, joined.graphs)

    @classmethod
    def from_part(cls, part: Part) -> Onion:
        """The inverse of :meth:`part`."""
        s = part.settings
        encoder = Encoder.from_settings(s["encoder"])
        rules: tuple[Layer[Any], ...] = (
            FormLayer.from_part(part.scoped(LayerName.FORM)),
            PhysicsLayer.from_part(part.scoped(LayerName.PHYSICS)),
            LimitsLayer.from_part(part.scoped(LayerName.LIMITS)),
            ProtocolBookLayer.from_part(part.scoped(LayerName.PROTOCOL_BOOK)),
        )
        return cls(
            encoder,
            rules,
            ContextFreeLayer.from_part(part.scoped(LayerName.CONTEXT_FREE), encoder),
            ContextSensitiveLayer.from_part(part.scoped(LayerName.CONTEXT_SENSITIVE), encoder),
            ProcedureLayer.from_part(part.scoped(LayerName.PROCEDURE), encoder),
            Combiner.from_part(part.scoped("combiner")),
            float(s["budget"]),
            {k: Calibration(tuple(v)) for k, v in s["calibrations"].items()},
            {LayerName(k): Calibration(tuple(v)) for k, v in s["references"].items()},
        )


_RULES = frozenset({LayerName.FORM, LayerName.PHYSICS, LayerName.LIMITS, LayerName.PROTOCOL_BOOK})


def without_host_patient(command: Command) -> Command | None:
    """The command without what only the host says of the patient; None when there is nothing of the kind."""
    parts = command.context.parts
    only = [n for n in PATIENT_FIELDS if n in parts and all(t.source is Source.HOST for t in parts[n])]
    if not only:
        return None
    kept = {n: t for n, t in parts.items() if n not in only}
    return replace(command, context=Context(kept))


def blame(opinions: list[Opinion]) -> tuple[LayerName, list[Objection]]:
    """The learned layer to name for an alert, and what it objects to (gravest first, three at most).

    The layer with the weightiest objection speaks; when none objects to a single field, the least p-value does.
    """
    learned = [o for o in opinions if o.layer not in _RULES]
    objecting = [o for o in learned if o.objections]
    if objecting:
        loudest = max(objecting, key=lambda o: max(x.weight for x in o.objections))
        return loudest.layer, sorted(loudest.objections, key=lambda x: -x.weight)[:3]
    least = min(learned, key=lambda o: 1.0 if o.p_value is None else o.p_value)
    strangest = max(least.features, key=lambda name: _strangeness(name, least.features[name]), default="")
    name = strangest.rsplit(".", 1)[-1]
    return least.layer, [Objection(name, "the values together are unusual, none of them alone")]


def _strangeness(name: str, value: float) -> float:
    if value != value or not name.startswith(("cs.usual.", "cs.expect.", "cf.deep.", "cf.trees.")):
        return -1.0
    return -1.0 if name.rsplit(".", 1)[-1] in ("sum", "max", "second", "third", "away") else abs(value)


def _names(objections: list[Objection]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(o.field for o in objections))


def _reason(objections: list[Objection]) -> str:
    return "; ".join(describe(o) for o in objections)


def describe(objection: Objection) -> str:
    """One objection as a sentence: field, what was found, why it is objected to, what was expected."""
    found = objection.found
    shown = "" if found is None else f" {found:.4g}" if isinstance(found, float) else f" {found}"
    expected = f" (expected {objection.expected})" if objection.expected else ""
    return f"{objection.field}{shown} {objection.reason}{expected}"
