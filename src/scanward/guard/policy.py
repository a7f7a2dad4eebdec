"""The policy: turns the judge's opinions into verdicts, and gives the gate its rules. Pure, no numpy, no I/O.

Layers say what they think; what follows from it is the site's signed decision. Three things are not the site's to
decide, and cannot be expressed: form that halts is refused, what the hardware cannot do is refused, and a learned
layer never halts by itself (docs/hazards.md, A5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scanward.commands import (
    LEARNED_LAYERS,
    RULE_LAYERS,
    Command,
    Context,
    Device,
    LayerName,
    Mode,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
    Verdict,
)
from scanward.commands.wire import Axis, Element, Load, Motion
from scanward.config import POLICY_BOUNDS
from scanward.guard.events import Caps, Envelope, Finding, Forecast, GateRules, ModeRules, Objected
from scanward.guard.ledger import Ledger, repeated
from scanward.guard.objections import objected
from scanward.guard.policy_terms import (
    ADULT,
    GRAVITY,
    OLDEST,
    ElementAnswer,
    EmergencyRules,
    Interventional,
    ModePolicy,
    Operator,
    Times,
    TwoPersons,
)
from scanward.guard.profile import AxisRange, DeviceProfile


@dataclass(frozen=True)
class Policy:
    """A site's policy for one device. Made by `policy_read.load_policy`, which verifies it.

    ``weakenings`` are the names of everything ``unsafe_...`` in it, in the order of the file: listed at the start,
    on every screen and in the audit log.
    """

    name: str
    version: int
    digest: str
    device: Device
    profile: DeviceProfile
    operators: Mapping[str, Operator]
    modes: Mapping[Mode, ModePolicy]
    times: Times
    emergency: EmergencyRules
    interventional: Interventional | None = None
    runtime: Mapping[str, Envelope] = field(default_factory=dict)
    motion: Mapping[Axis, AxisRange] = field(default_factory=dict)
    two_persons: TwoPersons | None = None
    unsafe_shadow: bool = False
    unsafe_release_without_operator: bool = False
    unsafe_emergency_without_log: bool = False
    weakenings: tuple[str, ...] = ()

    # --- verdicts

    def decide(
        self, load: Load, answers: Sequence[ElementAnswer], mode: Mode, ledgers: Sequence[Ledger] = ()
    ) -> tuple[Finding, ...]:
        """One finding for each element of ``load``, which holds what every source says of the patient (`informed`).

        ``ledgers`` hold what the examination (and patient) received before; caps are compared with that plus the
        whole chain. An answer that is missing or incomplete is a HALT: no layer, no release.
        """
        findings = [
            self._finding(element, answers[i] if i < len(answers) else None, mode, len(load.chain))
            for i, element in enumerate(load.chain)
        ]
        return self._with_caps(load, findings, mode, ledgers)

    def decide_without_judge(
        self, load: Load, mode: Mode, why: str, ledgers: Sequence[Ledger] = ()
    ) -> tuple[Finding, ...]:
        """Findings when no judge answered: HALT throughout, which emergency access may pass.

        Hardware maxima, the form of numbers and absolute caps are checked all the same, and marked as what nobody
        passes; doses are the profile's own forecast with the tube at its limit.
        """
        findings = []
        for element in load.chain:
            excess = self.profile.excess(element.command) or self.profile.unbounded(element.command)
            forecast = self.profile.forecast(element.command, worst=True)
            findings.append(
                Finding(Verdict.HALT, "form", (excess.field,), f"{excess.field} {excess.reason}", form=True)
                if excess
                else Finding(Verdict.HALT, "judge", (), why, forecast=forecast)
            )
        return self._with_caps(load, findings, mode, ledgers)

    def decide_motion(self, motion: Motion) -> Finding:
        """A motion beyond the device is refused by everybody; one beyond the policy's envelope is held."""
        excess = self.profile.moves(motion)
        if excess:
            return Finding(
                Verdict.HALT, "form", (excess.field,), f"{excess.field}: {excess.reason}", form=True
            )
        usual = self.motion.get(motion.axis)
        if usual and not (usual.low <= motion.target <= usual.high and motion.speed <= usual.speed):
            reason = (
                f"{motion.axis} to {motion.target:g} at {motion.speed:g} is beyond what is usual "
                f"({usual.low:g} to {usual.high:g}, at most {usual.speed:g} per s)"
            )
            return Finding(Verdict.ALERT, LayerName.LIMITS, (motion.axis,), reason)
        return Finding(Verdict.RELEASE)

    def _finding(self, element: Element, answer: ElementAnswer | None, mode: Mode, elements: int) -> Finding:
        excess = self.profile.excess(element.command)
        if excess:
            return Finding(
                Verdict.HALT, LayerName.FORM, (excess.field,), f"{excess.field} {excess.reason}", form=True
            )
        own = self.profile.forecast(element.command)
        if answer is None:
            return Finding(Verdict.HALT, "judge", (), "the judge said nothing of it", forecast=own)
        forecast = _larger(own, answer.forecast)
        causes = tuple(_causes(answer, self.modes[mode]))
        worst = max(causes, key=lambda c: (c.form, GRAVITY[c.verdict]), default=None)
        # What a chain is held for may be another of its elements: what is said of this one is shown beside it.
        found = Finding(
            Verdict.RELEASE,
            p_value=answer.p_value,
            forecast=forecast,
            persons=2 if self.two_persons and _severe(self.two_persons, causes, answer.p_value) else 1,
            objections=objected(answer, elements),
            notification=answer.notification,
        )
        if worst is None or worst.verdict is Verdict.RELEASE:
            return found
        return replace(
            found,
            verdict=worst.verdict,
            layer=worst.layer,
            fields=_fields(worst.objections),
            reason=worst.reason or reason_of(worst.objections),
            form=worst.form,
        )

    # --- caps

    def caps(self, mode: Mode, age: float) -> tuple[Caps, Caps]:
        """Alert caps and absolute caps of a mode for a patient of ``age`` years."""
        age = min(max(age, 0.0), OLDEST - 1) if math.isfinite(age) else ADULT
        rows = [r for r in self.modes[mode].caps if r.age_low <= age < r.age_high]
        return (
            Caps({r.phantom: r.alert_ctdivol for r in rows}, {r.phantom: r.alert_dlp for r in rows}),
            Caps({r.phantom: r.absolute_ctdivol for r in rows}, {r.phantom: r.absolute_dlp for r in rows}),
        )

    def _with_caps(
        self, load: Load, findings: list[Finding], mode: Mode, ledgers: Sequence[Ledger]
    ) -> tuple[Finding, ...]:
        """The findings, the first made worse where the chain as a whole reaches a cap of this patient."""
        doses = repeated(tuple(f.forecast for f in findings), max(load.triggers, 1))
        alert, absolute = self.caps(mode, min((youngest(e.command) for e in load.chain), default=ADULT))
        session = self.interventional if load.triggers > 1 else None
        factor = self.two_persons.dose_factor if self.two_persons else math.inf
        far = _times(alert, factor) if math.isfinite(factor) else None
        worse, persons = "", 1
        for ledger in ledgers or (Ledger(),):
            if over := ledger.over(doses, absolute):
                reason = f"absolute cap: {over}"
                return _worsened(
                    findings, Finding(Verdict.HALT, LayerName.LIMITS, ("CTDIvol",), reason, form=True)
                )
            if over := ledger.over(doses, alert):
                worse = f"{mode} cap: {over}"
                persons = 2 if far is not None and ledger.over(doses, far) else persons
        # The tube at its limit throughout must still stay under what nobody may pass, each element by itself.
        for element in load.chain:
            if over := Ledger().over((self.profile.forecast(element.command, worst=True),), absolute):
                reason = f"absolute cap, with the tube current at the limit that is asked for: {over}"
                return _worsened(
                    findings, Finding(Verdict.HALT, LayerName.LIMITS, ("CTDIvol",), reason, form=True)
                )
        if session is not None:
            flat = Caps({16: session.ctdivol, 32: session.ctdivol}, {16: session.dlp, 32: session.dlp})
            if over := Ledger().over(doses, flat):
                reason = f"interventional envelope: {over}"
                findings = list(
                    _worsened(findings, Finding(Verdict.HALT, LayerName.LIMITS, ("CTDIvol",), reason))
                )
        if worse:
            findings = list(
                _worsened(findings, Finding(Verdict.ALERT, LayerName.LIMITS, ("CTDIvol",), worse))
            )
            findings[0] = replace(findings[0], persons=max(persons, findings[0].persons))
        return tuple(findings)

    # --- rules for the gate

    def gate_rules(self) -> GateRules:
        """What the gate has to know. Its caps are those of the widest age band: it checks them at every trigger."""
        t = self.times
        return GateRules(
            policy=self.digest,
            modes={mode: self._mode_rules(mode) for mode in self.modes},
            runtime=dict(self.runtime),
            judge_seconds=t.judge_seconds,
            record_seconds=t.record_seconds,
            committed_record_seconds=t.committed_record_seconds,
            confirm_seconds=t.confirm_seconds,
            hold_seconds=t.hold_seconds,
            two_hold_seconds=self.two_persons.seconds if self.two_persons else t.hold_seconds,
            arming_seconds=t.arming_seconds,
            committed_seconds=t.committed_seconds,
            beam_seconds=t.beam_seconds,
            unsafe_shadow=self.unsafe_shadow,
            unsafe_release_without_operator=self.unsafe_release_without_operator,
            unsafe_emergency_without_log=self.unsafe_emergency_without_log,
        )

    def _mode_rules(self, mode: Mode) -> ModeRules:
        rows = self.modes[mode].caps
        phantoms = sorted({r.phantom for r in rows})

        def widest(name: str) -> dict[int, float]:
            return {p: max(getattr(r, name) for r in rows if r.phantom == p) for p in phantoms}

        triggers = self.interventional.triggers if self.interventional and mode is Mode.CLINICAL else 1
        return ModeRules(
            Caps(widest("alert_ctdivol"), widest("alert_dlp")),
            Caps(widest("absolute_ctdivol"), widest("absolute_dlp")),
            triggers,
        )


# --- how opinions become a verdict


@dataclass(frozen=True, slots=True)
class _Cause:
    verdict: Verdict
    layer: str
    objections: tuple[Objection, ...] = ()
    reason: str = ""
    form: bool = False
    dispute: bool = False


def _severe(rules: TwoPersons, causes: Sequence[_Cause], p_value: float | None) -> bool:
    """Whether two have to release what ``causes`` hold. No number is no small one: it holds for one operator."""
    if p_value is not None and p_value < rules.p_value_below:
        return True
    alerts = (cause for cause in causes if cause.verdict is Verdict.ALERT)
    return any(
        any(one.field in rules.disputes for one in cause.objections)
        if cause.dispute
        else cause.layer in rules.layers
        for cause in alerts
    )


def _times(caps: Caps, factor: float) -> Caps:
    return Caps(
        {p: factor * cap for p, cap in caps.ctdivol.items()}, {p: factor * cap for p, cap in caps.dlp.items()}
    )


def _causes(answer: ElementAnswer, mode: ModePolicy) -> Iterator[_Cause]:
    """Everything that speaks against an element, outermost layer first: of equals the first decides."""
    said = {o.layer: o for o in answer.opinions}
    for layer in RULE_LAYERS:
        opinion = said.get(layer)
        if opinion is None:
            yield _Cause(Verdict.HALT, layer, reason=f"the judge gave no opinion of layer {layer}")
            continue
        severity = opinion.severity
        if opinion.outcome is Outcome.OBJECT and severity is Severity.INFORMATION:
            severity = Severity.ALERT  # it objects and does not say how gravely
        if severity is Severity.INFORMATION:
            continue
        halts = layer is LayerName.FORM and severity is Severity.HALT
        verdict = Verdict.HALT if halts else mode.verdicts[layer, severity]
        grave = tuple(o for o in opinion.objections if o.severity is severity)
        yield _Cause(verdict, layer, grave, "" if grave else opinion.reason, halts)
        if halts:
            return  # what is not even well-formed was not shown to the other layers
    if answer.disputed:
        yield _Cause(mode.dispute, LayerName.CONTEXT_SENSITIVE, answer.disputed, dispute=True)
    for layer in LEARNED_LAYERS:
        if layer not in said:
            yield _Cause(Verdict.HALT, layer, reason=f"the judge gave no opinion of layer {layer}")
    learned = [said[layer] for layer in LEARNED_LAYERS if layer in said]
    if answer.within_budget is not True:  # asked this way round: whatever is not a number alerts
        blamed, objections = _blamed(learned)
        reason = "" if objections else "the values together are unusual, none of them alone"
        yield _Cause(mode.beyond_budget, blamed, objections, reason)
    for opinion in learned:
        if opinion.objections and mode.alone[opinion.layer] is not Verdict.RELEASE:
            yield _Cause(mode.alone[opinion.layer], opinion.layer, opinion.objections)


def _blamed(learned: Sequence[Opinion]) -> tuple[str, tuple[Objection, ...]]:
    """The learned layer to name: weightiest objection, else least p-value."""
    objecting = [o for o in learned if o.objections]
    if objecting:
        loudest = max(objecting, key=lambda o: max(x.weight for x in o.objections))
        return loudest.layer, tuple(sorted(loudest.objections, key=lambda x: -x.weight)[:3])
    least = min(learned, key=lambda o: 1.0 if o.p_value is None else o.p_value, default=None)
    return (least.layer if least else LayerName.CONTEXT_FREE), ()


def _worsened(findings: Sequence[Finding], other: Finding) -> tuple[Finding, ...]:
    """``findings`` with the first at least as grave as ``other``; its forecast is kept."""
    if not findings:
        return (other,)
    first = findings[0]
    if GRAVITY[first.verdict] >= GRAVITY[other.verdict] and (first.form or not other.form):
        return tuple(findings)
    said = Objected(
        ", ".join(other.fields), None, "", other.reason, LayerName.LIMITS, other.verdict.value, 0.0
    )
    worse = replace(
        first,
        verdict=other.verdict,
        layer=other.layer,
        fields=other.fields,
        reason=other.reason,
        form=other.form,
        objections=(said, *first.objections),
    )
    return (worse, *findings[1:])


def _larger(own: Forecast, told: Forecast | None) -> Forecast:
    """The larger of two forecasts, figure by figure; the judge's place and phantom where ours has none."""
    if told is None:
        return own
    if told.phantom != own.phantom and own.phantom and told.phantom:
        return own if own.ctdivol >= told.ctdivol else told
    known = math.isfinite(own.z_low) and math.isfinite(own.z_high)
    return Forecast(
        _greater(own.ctdivol, told.ctdivol),
        _greater(own.dlp, told.dlp),
        own.phantom or told.phantom,
        own.z_low if known else told.z_low,
        own.z_high if known else told.z_high,
    )


def _greater(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


def informed(load: Load, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Load:
    """``load`` with what the guard's own sources say put before the host's word, as the judge is asked."""
    if not parts:
        return load
    own = {n: tuple(Told(t["value"], Source(t["source"])) for t in told) for n, told in parts.items()}

    def element(one: Element) -> Element:
        said = one.command.context.parts
        merged = {n: (*own.get(n, ()), *said.get(n, ())) for n in {**own, **said}}
        return replace(one, command=replace(one.command, context=Context(merged)))

    return replace(load, chain=tuple(map(element, load.chain)))


def youngest(command: Command) -> float:
    """The youngest age told by any source, an adult's where nobody told one (as the limits layer has it)."""
    told = command.context.parts.get("PatientAge", ())
    ages = [t.value for t in told if isinstance(t.value, float) and math.isfinite(t.value) and t.value >= 0]
    return min(ages, default=ADULT)


def _fields(objections: Sequence[Objection]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(o.field for o in objections if o.field))


def reason_of(objections: Sequence[Objection]) -> str:
    """Objections as one sentence each: field, what was found, why, what was expected; the first few of many."""
    most = POLICY_BOUNDS.found
    said = [describe(o) for o in objections[:most]]
    if len(objections) > most:
        said.append(f"and {len(objections) - most} more")
    return "; ".join(said)


def describe(objection: Objection) -> str:
    """One objection as a sentence."""
    found = objection.found
    shown = "" if found is None else f" {found:.4g}" if isinstance(found, float) else f" {found}"
    expected = f" (expected {objection.expected})" if objection.expected else ""
    return f"{objection.field}{shown} {objection.reason}{expected}".lstrip()
