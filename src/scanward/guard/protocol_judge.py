"""A protocol meant for a scanner, judged before it gets there: opinions of the layers, no action.

What the learned layers and the limits judge are the commands that the protocol's elements describe
(`protocol_commands`). There is no patient, so nothing is asked that needs one. The book layer asks whether the
protocol permits anything that the site's approved one of that name does not.

A Protocol Approval from the network is believed only where the site's own book says the same: PS3.3 C.34.15
secures neither the approved object nor the approver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scanward.codecs.defined_protocol import encode_defined_protocol
from scanward.codecs.defined_protocol_approval import encode_approval
from scanward.codecs.defined_protocol_fields import patient_field_of
from scanward.codecs.defined_protocol_model import (
    APPROVING,
    DISAPPROVING,
    Approval,
    Equipment,
    Protocol,
    ProtocolBook,
)
from scanward.commands import (
    FIELDS,
    LEARNED_LAYERS,
    Device,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Role,
    Severity,
    Verdict,
)
from scanward.guard.protocol_commands import Described, End, described, highest
from scanward.guard.protocol_compare import acquisitions, loosened, rules_of
from scanward.layers.limits import LimitsLayer, region_told, youngest
from scanward.layers.onion import Onion

# Modules that say who made the object and how to read it: nothing a scanner acts on (PS3.3 C.12.1, C.34.2).
_ABOUT_THE_OBJECT = frozenset(
    (
        "ContentCreatorName",
        "InstanceCoercionDateTime",
        "InstanceCreatorUID",
        "InstanceCreationDate",
        "InstanceCreationTime",
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "StationName",
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
        "DeviceSerialNumber",
        "ProtocolDesignRationale",
        "ProtocolPlanningInformation",
    )
)
_SETTING = {"CTDIvolNotificationTrigger": "ctdivol", "DLPNotificationTrigger": "dlp"}


@dataclass(frozen=True, slots=True)
class ProtocolJudge:
    """Judges protocols and approvals; pure.

    Attributes
    ----------
    book : ProtocolBook
        The site's approved protocols (out of the signed bundle, or a folder that only the site writes to).
    device : Device
        The scanner behind the link, its serial number as written in protocols.
    limits : LimitsLayer
        The bundle's, or one without device maxima.
    onion : Onion or None
        The bundle's; used where it was trained on commanded values and an element describes a whole command.
    role : Role or None
        What the bundle was trained on.
    """

    book: ProtocolBook
    device: Device
    limits: LimitsLayer
    onion: Onion | None = None
    role: Role | None = None

    def protocol(self, protocol: Protocol, unjudged: tuple[str, ...], at: str) -> tuple[Opinion, ...]:
        """Opinions on a protocol; ``unjudged`` from `unjudged_of`, ``at`` the time as DICOM DT."""
        commands = described(protocol, self.device)
        return (
            _opinion(LayerName.FORM, self._form(protocol, unjudged)),
            *self._of_commands(commands),
            _opinion(LayerName.PROTOCOL_BOOK, self._book(protocol, at)),
        )

    def approval(self, approval: Approval, unjudged: tuple[str, ...], at: str) -> tuple[Opinion, ...]:
        """Opinions on a Protocol Approval."""
        return (
            _opinion(LayerName.FORM, _unjudged(unjudged)),
            _opinion(LayerName.PROTOCOL_BOOK, self._approval(approval, at)),
        )

    # --- form

    def _form(self, protocol: Protocol, unjudged: tuple[str, ...]) -> Iterator[Objection]:
        yield from _unjudged((*unjudged, *(n for n in protocol.notes if not n.endswith("is not kept"))))
        elements = acquisitions(protocol)
        if not elements:
            yield Objection("AcquisitionProtocolElementSpecificationSequence", "no acquisition is described")
        numbers = [e.number for e in elements]
        if len(set(numbers)) < len(numbers):
            reason = "two acquisition elements with one number"
            yield Objection("ProtocolElementNumber", reason, severity=Severity.HALT)
        if protocol.models and not any(self._is_ours(m) for m in protocol.models):
            told = ", ".join(f"{m.manufacturer} {m.model or m.group}" for m in protocol.models)
            yield Objection("ManufacturerModelName", "meant for another device", told, self.device.key)
        for constraint in protocol.patient:
            if patient_field_of(constraint) is None:
                yield Objection(constraint.name, "a patient constraint that nobody here can judge")
        for place, element in enumerate(elements, 1):
            for rule in rules_of(element, place):
                if rule.problem:
                    yield Objection(rule.field, f"element {element.number} cannot be judged: {rule.problem}")
                    continue
                known = FIELDS.get(rule.field)
                for number in rule.numbers:
                    if known and known.low is not None and known.high is not None:
                        if known.low <= number <= known.high:
                            continue
                        expected = f"{known.low:g} to {known.high:g} {known.unit}".rstrip()
                        reason = f"element {element.number}: no CT scanner of any make does this"
                        yield Objection(rule.field, reason, number, expected, severity=Severity.HALT)
                for item in rule.constraint.defaults:
                    value = item[0] if len(item) == 1 else None
                    if isinstance(value, int | float) and rule.numbers and not rule.allows(float(value)):
                        reason = f"element {element.number} begins outside its own constraint"
                        yield Objection(rule.field, reason, float(value), rule.expected)

    def _is_ours(self, model: Equipment) -> bool:
        def same(told: str, own: str) -> bool:
            return not told or not own or told.strip().casefold() == own.strip().casefold()

        return (
            same(model.manufacturer, self.device.manufacturer)
            and same(model.model, self.device.model)
            and same(model.serial, self.device.serial)
        )

    # --- the commands that the elements describe

    def _of_commands(self, commands: tuple[Described, ...]) -> Iterator[Opinion]:
        yield self._limits(commands)
        if self.onion is None or self.role is not Role.COMMANDED:
            why = "there is no bundle" if self.onion is None else f"the bundle judges {self.role} values"
            for name in (LayerName.PHYSICS, *LEARNED_LAYERS):
                yield Opinion(name, Outcome.ABSTAIN, reason=why)
            return
        found: dict[LayerName, list[Objection]] = {}
        partial = []
        own = self.onion.device or replace(self.device, serial="")
        state = self.onion.start()
        for each in commands:
            if each.end is not End.DEFAULT:
                continue
            judgement, after = self.onion.judge(state, replace(each.command, device=own))
            missing = False
            for opinion in judgement.opinions:
                missing = missing or any(
                    opinion.layer is LayerName.FORM and o.found is None for o in opinion.objections
                )
                if opinion.layer in (LayerName.FORM, LayerName.PHYSICS):
                    # A protocol leaves much open: what it does not say is no objection.
                    told = [o for o in opinion.objections if o.found is not None]
                    found.setdefault(opinion.layer, []).extend(_of_element(each.number, o) for o in told)
            if missing:
                partial.append(each.number)
            elif judgement.verdict is not Verdict.RELEASE and judgement.layer in LEARNED_LAYERS:
                reason = f"element {each.number}: {judgement.reason}"
                field = judgement.fields[0] if judgement.fields else ""
                found.setdefault(judgement.layer, []).append(Objection(field, reason))
            state = after
        for name in (LayerName.FORM, LayerName.PHYSICS, *LEARNED_LAYERS):
            if name in found:
                yield _opinion(name, found[name])
        if partial:
            shown = ", ".join(map(str, partial[:8]))
            reason = f"elements {shown} leave fields open that every command carries"
            yield Opinion(LayerName.CONTEXT_FREE, Outcome.ABSTAIN, reason=reason)

    def _limits(self, commands: tuple[Described, ...]) -> Opinion:
        """Each element at its highest and lowest alone, and the whole examination with its defaults."""
        found: list[Objection] = []
        delivered = self.limits.start()
        for each in commands:
            if each.end is End.DEFAULT:
                opinion, delivered = self.limits.judge(delivered, each.command)
            else:
                opinion, _ = self.limits.judge(self.limits.start(), each.command)
            found += [_of_element(each.number, o, each.end) for o in opinion.objections]
        return _opinion(LayerName.LIMITS, dict.fromkeys(found))

    # --- the book

    def _book(self, protocol: Protocol, at: str) -> Iterator[Objection]:
        yield from self._notification(protocol)
        if not self.book.protocols:
            yield Objection(
                "ProtocolName", "there is no approved protocol book to compare with", protocol.name
            )
            return
        exact = [p for p in self.book.protocols if p.uid == protocol.uid]
        named = [p for p in self.book.protocols if _key(p.name) == _key(protocol.name)]
        candidates = [p for p in (*exact, *named) if self.book.standing(p, at).approved]
        if not candidates:
            known = exact or named
            why = self.book.standing(known[0], at).why if known else "it is not in the protocol book"
            yield Objection("ProtocolName", f"not an approved protocol: {why}", protocol.name)
            return
        yield from min(
            (loosened(protocol, one) for one in candidates),
            key=lambda o: (max((x.severity for x in o), default=Severity.INFORMATION), len(o)),
        )

    def _notification(self, protocol: Protocol) -> Iterator[Objection]:
        """A protocol brings its own notification values: above the site's, they silence it."""
        commands = {e.number: e.command for e in described(protocol, self.device) if e.end is End.DEFAULT}
        for place, element in enumerate(acquisitions(protocol), 1):
            command = commands[element.number]
            phantom = command.text("CTDIwPhantomType") or ""
            own = self.limits.notification(region_told(command), phantom, youngest(command))
            rules = rules_of(element, place)
            for field, figure in _SETTING.items():
                most, site = highest(rules, field), getattr(own, figure, None)
                if most is not None and site is not None and most > site:
                    reason = f"element {element.number} sets a notification value above the site's"
                    yield Objection(field, reason, most, f"at most {site:g}", high=site)

    def _approval(self, approval: Approval, at: str) -> Iterator[Objection]:
        own = {p.uid: p for p in self.book.protocols}
        codes = {said.code.value for said in approval.assertions if said.code.scheme == "DCM"}
        if codes & DISAPPROVING:
            yield Objection("AssertionCodeSequence", "it disapproves: the scanner may refuse the protocol")
        if not codes & (APPROVING | DISAPPROVING):
            yield Objection("AssertionCodeSequence", "it neither approves nor disapproves")
        for subject in approval.subjects:
            known = own.get(subject.uid)
            if known is None or not self.book.standing(known, at).approved:
                reason = "it speaks of a protocol that the site's own book does not approve"
                yield Objection("ReferencedSOPInstanceUID", reason, subject.uid)


def unjudged_of(received: Dataset, made: Protocol | Approval) -> tuple[str, ...]:
    """What stands in ``received`` and would not be there, had we written ``made``: nobody judged it.

    Attributes that only tell who made the object are left out. Selectors as ``Sequence[1] > Keyword``.
    """
    if isinstance(made, Approval):
        return tuple(dict.fromkeys(_beyond(received, encode_approval(made), "", 0)))
    ours = encode_defined_protocol(_writable(made))
    return tuple(dict.fromkeys(_beyond(received, ours, "", 0)))


def _writable(protocol: Protocol) -> Protocol:
    """Model specifications that name no model are not written; here they are only compared."""
    return replace(
        protocol,
        models=tuple(m if m.model or m.group else replace(m, model="any") for m in protocol.models),
    )


def _beyond(theirs: Dataset, ours: Dataset, where: str, depth: int) -> Iterator[str]:
    for element in theirs:
        name = element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"
        if depth == 0 and element.keyword in _ABOUT_THE_OBJECT:
            continue
        if element.is_empty or (isinstance(element.value, Sequence) and not len(element.value)):
            continue
        if element.tag not in ours:
            yield f"{where}{name}"
            continue
        own = ours[element.tag].value
        if isinstance(element.value, Sequence):
            if not isinstance(own, Sequence) or len(own) < len(element.value):
                yield f"{where}{name}[{len(element.value)}]"
                continue
            for index, (a, b) in enumerate(zip(element.value, own, strict=False), 1):
                yield from _beyond(a, b, f"{where}{name}[{index}] > ", depth + 1)


def _unjudged(names: tuple[str, ...]) -> Iterator[Objection]:
    for name in dict.fromkeys(names):
        yield Objection(name, "stands in the object and is judged by nothing here")


def _of_element(number: int, objection: Objection, end: End | None = None) -> Objection:
    at = f"element {number}" if end in (None, End.DEFAULT) else f"element {number} at its {end}"
    return replace(objection, reason=f"{at}: {objection.reason}")


def _opinion(
    layer: LayerName, objections: Iterator[Objection] | list[Objection] | dict[Objection, None]
) -> Opinion:
    found = tuple(sorted(objections, key=lambda o: -o.severity))
    counted = any(o.severity > Severity.INFORMATION for o in found)
    return Opinion(layer, Outcome.OBJECT if counted else Outcome.PASS, found)


def _key(name: str) -> str:
    return " ".join(name.casefold().split())
