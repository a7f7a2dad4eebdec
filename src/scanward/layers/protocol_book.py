"""Layer 4: the site's approved protocols, with the ranges they allow (DESIGN: the onion; PS3.3 C.34.9.3).

The command's protocol is looked up by name, device model and patient, its element by number, name and
acquisition type; every violated constraint is an objection with what the book expects. Several protocols or
elements may fit (the patient is unknown, two elements share a name): the command passes when one of them has
no objection, and is otherwise told what the nearest one wants.

Three rules keep the host from talking its way out: every source's word on the patient must fit a protocol,
not only the best one's; protocol and element are chosen before their limits are looked at; what cannot be
judged is named in the opinion's reason, and when nothing could be judged the layer abstains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scanward.codecs.defined_protocol_check import Rule, compile_rule
from scanward.codecs.defined_protocol_fields import field_of, patient_field_of, selector_text
from scanward.codecs.defined_protocol_model import (
    Element,
    ElementKind,
    Equipment,
    Protocol,
    ProtocolBook,
    Significance,
    Standing,
    book_from_json,
    to_json,
)
from scanward.commands import Command, Device, LayerName, Objection, Opinion, Outcome, Severity, Value
from scanward.errors import SettingsError
from scanward.layers.base import Part

_SEVERITY = {
    Significance.FAILURE.value: Severity.HALT,
    Significance.WARNING.value: Severity.ALERT,
    Significance.INFORMATIVE.value: Severity.INFORMATION,
    "": Severity.INFORMATION,  # "if the attribute is absent, a value of INFORMATIVE may be assumed", C.34.9.3
}
# These say which element it is, or set a notification value for the limits layer: nothing to be violated.
_IDENTIFYING = frozenset({"ProtocolElementName", "ProtocolElementNumber", "AcquisitionType"})
_SETTINGS = frozenset({"CTDIvolNotificationTrigger", "DLPNotificationTrigger"})


@dataclass(frozen=True, slots=True)
class _Element:
    number: int
    name: Rule | None
    acquisition_type: Rule | None
    rules: tuple[Rule, ...]
    unjudged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Protocol:
    protocol: Protocol
    standing: Standing
    patient: tuple[Rule, ...]
    elements: tuple[_Element, ...]
    unjudged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one element (or protocol) has to say: the grave first, the fewest decide between several."""

    objections: tuple[Objection, ...]
    unjudged: tuple[str, ...]
    judged: int
    suits: bool = True  # the protocol is meant for this patient, as far as known

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller is nearer to the command."""
        grave = [o for o in self.objections if o.severity > Severity.INFORMATION]
        worst = max((o.severity for o in grave), default=Severity.INFORMATION)
        return int(worst), len(grave), -self.judged


class ProtocolBookLayer:
    """The protocol book as a layer. Stateless: the state is None.

    Parameters
    ----------
    book : ProtocolBook
        An empty one makes the layer abstain always.
    closed : bool
        The book is all there is: an unknown protocol or element is an objection, not a reason to abstain.
    require_approval : bool
        A protocol that is not approved (`ProtocolBook.standing`) is an objection; one whose latest word is a
        disapproval is one in any case.
    require_present : bool
        A constrained field that the command does not hold is an objection of the constraint's significance.
    approval_at : str
        DICOM date-time at which approvals must not have expired; empty: unknown. The layer reads no clock.
    """

    name = LayerName.PROTOCOL_BOOK

    def __init__(
        self,
        book: ProtocolBook,
        *,
        closed: bool = False,
        require_approval: bool = False,
        require_present: bool = False,
        approval_at: str = "",
    ) -> None:
        self.book = book
        self.closed = closed
        self.require_approval = require_approval
        self.require_present = require_present
        self.approval_at = approval_at
        standings = {p.uid: book.standing(p, approval_at) for p in book.protocols}
        replaced = {  # a draft does not push out the approved protocol that it is to replace
            old.uid
            for new in book.protocols
            for old in new.predecessors
            if old.uid != new.uid and (standings[new.uid].approved or not require_approval)
        }
        self._by_name: dict[str, list[_Protocol]] = {}
        for protocol in book.protocols:
            if protocol.uid not in replaced:
                compiled = _compile(protocol, standings[protocol.uid])
                self._by_name.setdefault(_key(protocol.name), []).append(compiled)

    def start(self) -> None:
        """There is no state."""
        return

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        """Opinion on ``command``; objections are ordered by severity, then as the book has them."""
        return self._opinion(command), None

    def part(self) -> Part:
        """Book and settings as plain JSON."""
        return Part(
            {
                "book": to_json(self.book),
                "closed": self.closed,
                "require_approval": self.require_approval,
                "require_present": self.require_present,
                "approval_at": self.approval_at,
            }
        )

    @staticmethod
    def from_part(part: Part) -> ProtocolBookLayer:
        """The layer that ``part`` came from; SettingsError when it is not one."""
        kept = part.settings
        flags = {k: kept.get(k) for k in ("closed", "require_approval", "require_present")}
        at, book = kept.get("approval_at"), kept.get("book")
        if not all(isinstance(v, bool) for v in flags.values()) or not isinstance(at, str):
            raise SettingsError("not a protocol book layer", "bundle", "make the bundle again")
        if not isinstance(book, dict):
            raise SettingsError("a protocol book layer without book", "bundle", "make the bundle again")
        return ProtocolBookLayer(
            book_from_json(book),
            closed=bool(flags["closed"]),
            require_approval=bool(flags["require_approval"]),
            require_present=bool(flags["require_present"]),
            approval_at=at,
        )

    # --- judging ---

    def _opinion(self, command: Command) -> Opinion:
        if not self.book.protocols:
            return _abstain("there is no protocol book")
        name = command.text("ProtocolName")
        if name is None:
            if not self.closed:
                return _abstain("the command names no protocol")
            return _object(
                [Objection("ProtocolName", "the command names no protocol", expected="one of the book")]
            )
        candidates = self._by_name.get(_key(name), [])
        if not candidates:
            return self._unknown("ProtocolName", name, "is not in the protocol book", self._names())
        fitting = [
            p for p in candidates if any(_is_for(m, command.device) for m in p.protocol.models or _ANY)
        ]
        if not fitting:
            models = {f"{m.manufacturer} {m.model or m.group}" for p in candidates for m in p.protocol.models}
            return self._unknown(
                "ProtocolName", name, "is in the protocol book, but for another device", tuple(sorted(models))
            )
        findings = [self._of_protocol(p, command) for p in fitting]
        # The one for another patient must not win with its fewer or milder objections.
        suiting = [f for f in findings if f.suits] or findings
        return _to_opinion(min(suiting, key=lambda f: f.rank))

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(found[0].protocol.name for found in self._by_name.values()))

    def _unknown(self, field: str, found: Value, what: str, values: tuple[str, ...]) -> Opinion:
        reason = f"{found!r} {what}"
        if not self.closed:
            return _abstain(reason)
        shown = ", ".join(values[:5]) + (" ..." if len(values) > 5 else "")
        return _object([Objection(field, reason, found, shown, values=values)])

    def _of_protocol(self, candidate: _Protocol, command: Command) -> _Finding:
        objections, unjudged, judged = _patient(candidate, command)
        if candidate.elements:  # a patient who fits says nothing of the acquisition
            judged = 0
        suits = not objections
        standing, name = candidate.standing, candidate.protocol.name
        if standing.disapproved or (self.require_approval and not standing.approved):
            reason = f"protocol {name!r} is not approved: {standing.why}"
            objections.append(Objection("ProtocolName", reason, name, "an approved protocol"))
        elements = _elements(candidate.elements, command)
        if elements:
            nearest = min((self._of_element(e, command) for e in elements), key=lambda f: f.rank)
            objections += nearest.objections
            unjudged += nearest.unjudged
            judged += nearest.judged
        elif candidate.elements:
            said = command.value("ProtocolElementNumber")
            field = "ProtocolElementName" if said is None else "ProtocolElementNumber"
            found = command.value(field)
            names = tuple(w for e in candidate.elements if e.name for w in e.name.values)
            numbers = tuple(float(e.number) for e in candidate.elements)
            values: tuple[Value, ...] = names if said is None else numbers
            reason = f"protocol {name!r} has no element {found!r}"
            if self.closed:
                expected = ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values[:5])
                objections.append(Objection(field, reason, found, expected, values=values))
            else:
                unjudged.append(reason)
        return _Finding(tuple(objections), (*candidate.unjudged, *unjudged), judged, suits)

    def _of_element(self, element: _Element, command: Command) -> _Finding:
        objections: list[Objection] = []
        unjudged = list(element.unjudged)
        judged = 0
        own = [r for r in (element.name, element.acquisition_type) if r is not None]
        for rule in (*own, *element.rules):
            value = command.value(rule.field)
            if value is None:
                if rule in own:
                    continue
                if self.require_present:
                    objections.append(_objection(rule, None, f"{rule.field} is missing"))
                else:
                    unjudged.append(f"{rule.field} is not told")
                continue
            judged += rule not in own or not element.rules
            if not rule.allows(value):
                objections.append(_objection(rule, value, f"{rule.field} is outside the protocol book"))
        return _Finding(tuple(objections), tuple(unjudged), judged)


_ANY = (Equipment(),)  # a protocol without model specification is for every device


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


def _compile(protocol: Protocol, standing: Standing) -> _Protocol:
    unjudged: list[str] = []
    patient = []
    for constraint in protocol.patient:
        field = patient_field_of(constraint)
        rule = compile_rule(field, constraint) if field else None
        if rule is None or rule.problem:
            why = rule.problem if rule else "it is no patient field that a context holds"
            unjudged.append(f"{selector_text(constraint)}: {why}")
        else:
            patient.append(rule)
    acquisitions = [e for e in protocol.elements if e.kind is ElementKind.ACQUISITION]
    elements = tuple(_compile_element(e, place) for place, e in enumerate(acquisitions, 1))
    return _Protocol(protocol, standing, tuple(patient), elements, tuple(unjudged))


def _compile_element(element: Element, place: int) -> _Element:
    places = frozenset({element.number, place})
    found: dict[str, Rule] = {}
    rules, unjudged = [], []
    for constraint in element.constraints:
        field = field_of(constraint, places)
        rule = compile_rule(field, constraint) if field else None
        if rule is None or rule.problem:
            why = rule.problem if rule else "a command has no such field"
            unjudged.append(f"{selector_text(constraint)}: {why}")
        elif rule.field in _IDENTIFYING and rule.field not in found:
            found[rule.field] = rule
        elif rule.field not in _SETTINGS:
            rules.append(rule)
    if "ProtocolElementNumber" in found:  # the item's own number says it
        rules.append(found["ProtocolElementNumber"])
    return _Element(
        element.number,
        found.get("ProtocolElementName"),
        found.get("AcquisitionType"),
        tuple(rules),
        tuple(unjudged),
    )


def _elements(elements: Iterable[_Element], command: Command) -> list[_Element]:
    """The elements that the command can be: by number, else by name, then by acquisition type.

    The type only narrows: when no element admits it, all stay, and each objects to it.
    """
    number, name = command.number("ProtocolElementNumber"), command.text("ProtocolElementName")
    left = list(elements)
    if number is not None:
        left = [e for e in left if e.number == number]
    elif name is not None and any(e.name for e in left):
        left = [e for e in left if e.name and e.name.allows(name)] or [e for e in left if not e.name]
    kind = command.value("AcquisitionType")
    if kind is None:
        return left
    exact = [e for e in left if e.acquisition_type and e.acquisition_type.allows(kind)]
    return exact or [e for e in left if not e.acquisition_type] or left


def _is_for(model: Equipment, device: Device) -> bool:
    """Whether a model specification admits the device; what either side does not say fits."""
    return all(
        not wanted or not there or _key(wanted) == _key(there)
        for wanted, there in (
            (model.manufacturer, device.manufacturer),
            (model.model, device.model),
            (model.serial, device.serial),
        )
    )


def _patient(candidate: _Protocol, command: Command) -> tuple[list[Objection], list[str], int]:
    """A patient the protocol is not meant for is never information only: so adult doses reach children."""
    objections: list[Objection] = []
    unjudged: list[str] = []
    judged = 0
    for rule in candidate.patient:
        told = command.context.parts.get(rule.field, ())
        values = [t.value for t in told] or [
            v for v in (command.parameters.get(rule.field),) if v is not None
        ]
        if not values:
            unjudged.append(f"{rule.field} is not known")
            continue
        judged += 1
        wrong = [v for v in values if not rule.allows(v)]
        if wrong:
            reason = f"protocol {candidate.protocol.name!r} is not meant for this patient"
            objections.append(_objection(rule, wrong[0], reason, at_least=Severity.ALERT))
    return objections, unjudged, judged


def _objection(
    rule: Rule, found: Value | None, why: str, *, at_least: Severity = Severity.INFORMATION
) -> Objection:
    constraint = rule.constraint
    # A significance nobody knows is taken for a warning: neither ignored nor a reason to halt.
    severity = max(_SEVERITY.get(constraint.significance, Severity.ALERT), at_least)
    reason = why
    if constraint.condition:
        # Nobody here can tell whether the condition holds, and without it the violation "has no significance"
        # (10.25.2): the operator reads it and decides.
        severity = min(severity, Severity.ALERT)
        reason += f"; it matters only if: {constraint.condition}"
    return Objection(
        rule.field, reason, found, rule.expected, rule.low, rule.high, rule.values, severity=severity
    )


def _abstain(reason: str) -> Opinion:
    return Opinion(LayerName.PROTOCOL_BOOK, Outcome.ABSTAIN, reason=reason)


def _object(objections: list[Objection]) -> Opinion:
    reason = "; ".join(o.reason for o in objections[:3])
    return Opinion(LayerName.PROTOCOL_BOOK, Outcome.OBJECT, tuple(objections), reason=reason)


def _to_opinion(finding: _Finding) -> Opinion:
    ordered = sorted(finding.objections, key=lambda o: -o.severity)
    grave = [o for o in ordered if o.severity > Severity.INFORMATION]
    unjudged = tuple(dict.fromkeys(finding.unjudged))
    note = f"not judged: {'; '.join(unjudged[:5])}" if unjudged else ""
    if len(unjudged) > 5:
        note += f"; and {len(unjudged) - 5} more"
    if grave:
        reason = "; ".join([*(o.reason for o in grave[:3]), *([note] if note else [])])
        return Opinion(LayerName.PROTOCOL_BOOK, Outcome.OBJECT, tuple(ordered), reason=reason)
    outcome = Outcome.PASS if finding.judged else Outcome.ABSTAIN
    return Opinion(LayerName.PROTOCOL_BOOK, outcome, tuple(ordered), reason=note)
