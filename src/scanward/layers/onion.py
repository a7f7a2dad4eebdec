"""All seven skins together: opinions, one calibrated number, a verdict. Pure: (state, command) -> (judgement, state).

The default policy (a site's own policy replaces it in the guard): what layers 1 to 4 object to counts with its own
severity; sources of the context that disagree give ALERT; the calibrated number of layers 5 to 7 gives ALERT unless
its p-value is beyond the budget, never HALT.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from scanward.calibration import Calibration
from scanward.commands import (
    Command,
    Device,
    Judgement,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Verdict,
)
from scanward.errors import BundleError, LearningError
from scanward.layers.base import Layer, Part
from scanward.layers.combiner import Combiner, features_of
from scanward.layers.context_free import ContextFreeLayer
from scanward.layers.context_sensitive import ContextSensitiveLayer, disputes
from scanward.layers.encoding import Encoder
from scanward.layers.form import FormLayer
from scanward.layers.graph import Stand
from scanward.layers.limits import LimitsLayer
from scanward.layers.physics import PhysicsLayer
from scanward.layers.procedure import ProcedureLayer
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.layers.soundness import sound, without_host_patient

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

    @cached_property
    def device(self) -> Device | None:
        """The device, where only one can be meant by a command that names none; else None."""
        known = {key for rule in self.rules if isinstance(rule, FormLayer) for key in rule.devices}
        maker, _, model = known.pop().partition("|") if len(known) == 1 else ("", "", "")
        return Device(maker, model) if maker or model else None

    def start(self) -> State:
        """State before the first command of an examination: of each layer, and None (see ``judge``)."""
        return (*(layer.start() for layer in self.layers), None)

    def judge(self, state: State, command: Command) -> tuple[Judgement, State]:
        """Verdict on one command, and the state once it has been sent.

        The last element of the state is that of the learned layers had the host told nothing of the patient; None
        while that makes no difference.
        """
        command = sound(command, self.device)
        after: list[Any] = list(state)
        opinions: list[Opinion] = []
        rules = len(self.rules)
        for i, layer in enumerate(self.rules):
            opinion, after[i] = layer.judge(state[i], command)
            opinions.append(opinion)
            if opinion.objections and opinion.layer is LayerName.FORM and opinion.severity is Severity.HALT:
                # What is not even well-formed is not shown to the layers that calculate.
                return self._verdict(opinions, None, None), tuple(after)
        before, apart = state[rules:-1], state[-1]
        learned, after[rules:-1] = self._learned(before, command)
        score = self.combiner.score(features_of(learned))
        blind = without_host_patient(command)
        if blind is not None or apart is not None:
            # What only the host says of the patient may raise suspicion, never lower it: neither now nor later.
            same = blind is None or blind.parameters is command.parameters
            content = learned[0] if same else None  # content alone: the patient makes no difference to it
            again, now = self._learned(apart or before, blind or command, content)
            after[-1] = tuple(now)
            score = stranger(score, self.combiner.score(features_of(again)))
        opinions += [self._told(opinion, command) for opinion in learned]
        kind = "command" if command.examination is None else "examination"
        p_value = self.calibrations[kind].p_value(score)
        return self._verdict(opinions, score, p_value, disputes(command.context)), tuple(after)

    @cached_property
    def stand(self) -> Stand:
        """The trees of layers 5 and 6, which are asked all at once."""
        sensitive = self.context_sensitive
        return Stand((self.context_free.grove, sensitive.expectations, sensitive.suspicions))

    def _learned(
        self, state: State, command: Command, content: Opinion | None = None
    ) -> tuple[list[Opinion], list[Any]]:
        """Layers 5 to 7, as their own ``judge`` has it, with one run of all trees; ``content`` is known already."""
        sensitive = self.context_sensitive
        with np.errstate(over="ignore", invalid="ignore"):  # a patient of 1e308 kg is answered, not warned of
            view = self.encoder.view(command)
            ready = sensitive.expecting.prepare(view)
            fields, corrections, suspicions = self.stand.run(ready.features)
            if content is None:
                content = self.context_free.opinion(view, fields)
            fitting, one = sensitive.opinion(state[1], command, view, ready, corrections, suspicions)
            placed, other = self.procedure.judge(state[2], command)
        return [content, fitting, placed], [None, one, other]

    def _told(self, opinion: Opinion, command: Command) -> Opinion:
        """A learned layer's opinion with its p-value, and with what was found in the command's own words."""
        return Opinion(
            opinion.layer,
            opinion.outcome,
            _telling(opinion.objections, command) if opinion.objections else (),
            opinion.score,
            self._layer_p(opinion),
            opinion.features,
            opinion.reason,
        )

    def _layer_p(self, opinion: Opinion) -> float | None:
        reference = self.references.get(opinion.layer)
        if reference is None or opinion.score is None:
            return None
        return reference.p_value(opinion.score)

    def _verdict(
        self,
        opinions: list[Opinion],
        score: float | None,
        p_value: float | None,
        disputed: list[Objection] | None = None,
    ) -> Judgement:
        rule = _NONE  # the gravest of layers 1 to 4, the outermost of several
        for opinion in opinions:
            if opinion.objections and opinion.layer in _RULES and opinion.severity > rule.severity:
                rule = opinion
        verdict = VERDICT_OF[rule.severity]
        # Asked this way round, so that whatever is not a number alerts.
        within = p_value is not None and p_value > self.budget
        if verdict is Verdict.RELEASE and (disputed or not within):
            verdict = Verdict.ALERT
        kept = tuple(opinions)
        if verdict is Verdict.RELEASE:
            return Judgement(verdict, kept, p_value, score)
        if rule.severity > Severity.INFORMATION:
            layer, objections = rule.layer, [o for o in rule.objections if o.severity is rule.severity]
        elif disputed:
            layer, objections = LayerName.CONTEXT_SENSITIVE, disputed
        else:
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
        """The inverse of :meth:`part`; BundleError when its calibration cannot express its budget."""
        s = part.settings
        try:
            calibrations = {k: Calibration.of(s["calibrations"][k]) for k in ("examination", "command")}
            references = {LayerName(k): Calibration.of(v) for k, v in s["references"].items()}
            for calibration in calibrations.values():
                calibration.require(float(s["budget"]))
        except LearningError as error:
            raise BundleError(error.what, "calibration", "train the bundle again") from error
        encoder = Encoder.from_settings(s["encoder"])
        rules: tuple[Layer[Any], ...] = (
            FormLayer.from_part(part.scoped(LayerName.FORM)),
            PhysicsLayer.from_part(part.scoped(LayerName.PHYSICS)),
            LimitsLayer.from_part(part.scoped(LayerName.LIMITS)),
            ProtocolBookLayer.from_part(part.scoped(LayerName.PROTOCOL_BOOK)),
        )
        made = cls(
            encoder,
            rules,
            ContextFreeLayer.from_part(part.scoped(LayerName.CONTEXT_FREE), encoder),
            ContextSensitiveLayer.from_part(part.scoped(LayerName.CONTEXT_SENSITIVE), encoder),
            ProcedureLayer.from_part(part.scoped(LayerName.PROCEDURE), encoder),
            Combiner.from_part(part.scoped("combiner")),
            float(s["budget"]),
            calibrations,
            references,
        )
        made.prepare()
        return made

    def prepare(self) -> None:
        """Make ready at load what the first command would wait for, or be refused for."""
        assert self.stand is not None
        assert self.combiner.stand is not None
        assert self.context_sensitive.expecting is not None


_RULES = frozenset({LayerName.FORM, LayerName.PHYSICS, LayerName.LIMITS, LayerName.PROTOCOL_BOOK})
_NONE = Opinion(LayerName.FORM, Outcome.PASS)


def stranger(one: float, other: float) -> float:
    """The higher score; NaN when either is (``max`` keeps or drops a NaN by its place)."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


def _telling(objections: tuple[Objection, ...], command: Command) -> tuple[Objection, ...]:
    """Objections in the command's own words: learned layers know only what they learned."""
    return tuple(
        o if (value := command.value(o.field)) is None or value == o.found else replace(o, found=value)
        for o in objections
    )


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
    odd = {name: _strangeness(name, value) for name, value in least.features.items()}
    strangest = max(odd, key=lambda name: odd[name], default="")
    # A layer whose features speak of no single field names none.
    name = strangest.split(".", 2)[2] if odd.get(strangest, -1.0) >= 0 else ""
    return least.layer, [Objection(name, "the values together are unusual, none of them alone")]


def _strangeness(name: str, value: float) -> float:
    if value != value or not name.startswith(("cs.usual.", "cs.expect.", "cf.deep.", "cf.trees.")):
        return -1.0
    return -1.0 if name.split(".", 2)[2] in ("sum", "max", "second", "third", "away") else abs(value)


def _names(objections: list[Objection]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(o.field for o in objections if o.field))


def _reason(objections: list[Objection]) -> str:
    return "; ".join(describe(o) for o in objections)


def describe(objection: Objection) -> str:
    """One objection as a sentence: field, what was found, why it is objected to, what was expected."""
    found = objection.found
    shown = "" if found is None else f" {found:.4g}" if isinstance(found, float) else f" {found}"
    expected = f" (expected {objection.expected})" if objection.expected else ""
    return f"{objection.field}{shown} {objection.reason}{expected}".lstrip()
