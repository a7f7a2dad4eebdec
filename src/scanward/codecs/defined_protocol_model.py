"""The words of a protocol book: Protocol, Element, Constraint, Approval, ProtocolBook. Frozen, plain data.

They say what DICOM's CT Defined Procedure Protocol (PS3.3 A.82.2, modules C.34.2, C.34.5, C.34.6, C.34.9) and
Protocol Approval (A.82.3, C.34.15) say: a constraint keeps its selector (tag, private creator, nested
sequence pointers), its VR-typed values and its significance even when nobody here understands it, so that
nothing is lost between reading and writing, and nothing is ignored silently.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from scanward.errors import SettingsError

DEFINED_PROTOCOL_UID = "1.2.840.10008.5.1.4.1.1.200.1"
PERFORMED_PROTOCOL_UID = "1.2.840.10008.5.1.4.1.1.200.2"
PROTOCOL_APPROVAL_UID = "1.2.840.10008.5.1.4.1.1.200.3"


class ConstraintType(StrEnum):
    """Constraint Type (0082,0032), the enumerated values of PS3.3 10.25.1."""

    RANGE_INCL = "RANGE_INCL"
    RANGE_EXCL = "RANGE_EXCL"
    GREATER_OR_EQUAL = "GREATER_OR_EQUAL"
    LESS_OR_EQUAL = "LESS_OR_EQUAL"
    GREATER_THAN = "GREATER_THAN"
    LESS_THAN = "LESS_THAN"
    EQUAL = "EQUAL"
    MEMBER_OF = "MEMBER_OF"
    NOT_MEMBER_OF = "NOT_MEMBER_OF"
    MEMBER_OF_CID = "MEMBER_OF_CID"
    UNCONSTRAINED = "UNCONSTRAINED"


class Significance(StrEnum):
    """Constraint Violation Significance (0082,0036), PS3.3 10.25.2, given meaning by C.34.9.3."""

    FAILURE = "FAILURE"  # a violation that needs supervisory permission and auditing
    WARNING = "WARNING"  # a violation that needs the operator's confirmation and auditing
    INFORMATIVE = "INFORMATIVE"  # a guideline; assumed when the attribute is absent


class ElementKind(StrEnum):
    """Which of the three specification sequences an element stands in (C.34.9, C.34.11, C.34.13)."""

    ACQUISITION = "ACQUISITION"
    RECONSTRUCTION = "RECONSTRUCTION"
    STORAGE = "STORAGE"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8): value, coding scheme designator, meaning, scheme version when given."""

    value: str
    scheme: str
    meaning: str
    version: str = ""


Scalar = float | int | str | bytes | Code
Values = tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One level of Selector Sequence Pointer: sequence tag, 1-based item (0: every one), private creator."""

    tag: int
    item: int = 1
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One item of a Parameters (or Patient) Specification Sequence: PS3.3 tables 10-20a, 10.25-1, 10.26-1.

    Attributes
    ----------
    type : str
        A `ConstraintType`, or whatever the file says: an unknown type is kept and never judged.
    values : tuple of tuples
        One tuple for each item of Constraint Value Sequence, holding that item's value(s) in ``vr``.
    tag : int or None
        Selector Attribute; None when the selector names a sequence item. A private tag is (gggg,00xx).
    value_number : int or None
        Which value of a multi-valued attribute: 1 is the first, 0 is every value.
    path : tuple of Step
        From the data set down to the sequence item that holds the attribute.
    modifiable : bool or None
        Modifiable Constraint Flag; None when the file has none.
    """

    type: str
    values: tuple[Values, ...] = ()
    tag: int | None = None
    vr: str = "FD"
    name: str = ""
    keyword: str = ""
    value_number: int | None = 1
    creator: str = ""
    path: tuple[Step, ...] = ()
    defaults: tuple[Values, ...] = ()
    significance: str = ""
    condition: str = ""
    guidance: str = ""
    modifiable: bool | None = None
    units: Code | None = None


@dataclass(frozen=True, slots=True)
class Element:
    """One protocol element: number and constraints. Its name is itself a constraint (table C.34.9-2)."""

    number: int
    constraints: tuple[Constraint, ...] = ()
    kind: ElementKind = ElementKind.ACQUISITION


@dataclass(frozen=True, slots=True)
class Equipment:
    """A device: as author of an object, as a model a protocol is meant for, or as asserter of an approval."""

    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    software: tuple[str, ...] = ()
    group: str = ""  # Manufacturer's Related Model Group, in a model specification only


@dataclass(frozen=True, slots=True)
class Reference:
    """SOP class and instance of another object; ``digest`` is what an approval saw (`Protocol.digest`)."""

    sop_class: str
    uid: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A CT Defined Procedure Protocol.

    ``created`` is InstanceCreationDate and -Time, ``YYYYMMDDHHMMSS``. ``notes`` tell what the decoder met and
    did not keep; they are no part of equality. The content creator's name is never kept.
    """

    uid: str
    name: str
    elements: tuple[Element, ...] = ()
    patient: tuple[Constraint, ...] = ()
    models: tuple[Equipment, ...] = ()
    created: str = "20000101000000"
    author: Equipment = Equipment("Scanward", "scanward", "0", ("0",))
    group: Code | None = None
    procedures: tuple[Code, ...] = ()
    protocols: tuple[Code, ...] = ()
    reasons: tuple[str, ...] = ()
    predecessors: tuple[Reference, ...] = ()
    planning: str = ""
    rationale: str = ""
    custodian: str = ""
    instructions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def digest(self) -> str:
        """SHA-256 (hex) of the content, whatever the transfer syntax. An approval can be tied to it."""
        plain = {k: v for k, v in to_json(self).items() if k != "notes"}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Assertion:
    """One item of Approval Sequence: who said what, when, and until when (PS3.3 10.30, CID 800).

    ``asserter`` is a person (a keyed hash, once decoded with a pseudonym), ``device`` a device.
    """

    code: Code
    uid: str
    when: str
    asserter: str = ""
    device: Equipment | None = None
    expires: str = ""
    comments: str = ""
    institution: Code | None = None
    trial: str = ""
    related: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """A Protocol Approval: every assertion applies to every subject."""

    uid: str
    subjects: tuple[Reference, ...]
    assertions: tuple[Assertion, ...]
    created: str = "20000101000000"
    author: Equipment = Equipment("Scanward", "scanward", "0", ("0",))
    notes: tuple[str, ...] = field(default=(), compare=False)


APPROVING = frozenset({"128603"})  # approved for use at the institution
DISAPPROVING = frozenset({"128609", "128610", "128623"})  # for any use; deprecated; at the institution


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a protocol is approved, by its latest word; ``why`` is for people."""

    approved: bool
    disapproved: bool
    why: str


@dataclass(frozen=True, slots=True)
class ProtocolBook:
    """The site's protocols with the approvals known of them."""

    protocols: tuple[Protocol, ...] = ()
    approvals: tuple[Approval, ...] = ()

    def standing(self, protocol: Protocol, at: str = "") -> Standing:
        """What the approvals say of ``protocol`` at the DICOM date-time ``at`` (empty: time is unknown).

        The latest approving or disapproving assertion decides, a disapproval winning a tie. An approval that
        expires counts only when ``at`` is given and earlier. An approval made over another content (its
        digest differs) does not count; one without a digest does, because the standard's has none (C.34.15).
        """
        words: list[tuple[str, bool, str]] = []
        ignored = "nobody approved it"
        for approval in self.approvals:
            for subject in approval.subjects:
                if subject.uid != protocol.uid:
                    continue
                for said in approval.assertions:
                    if said.code.scheme != "DCM":
                        continue
                    if said.code.value in DISAPPROVING:
                        words.append((_sortable(said.when), True, said.code.meaning))
                    elif said.code.value in APPROVING:
                        if subject.digest and subject.digest != protocol.digest():
                            ignored = "it was changed since it was approved"
                        elif said.expires and not at:
                            ignored = "its approval expires and the date is unknown"
                        elif said.expires and _sortable(at) >= _sortable(said.expires):
                            ignored = f"its approval expired on {said.expires[:8]}"
                        else:
                            words.append((_sortable(said.when), False, said.code.meaning))
        if not words:
            return Standing(False, False, ignored)
        _, no, meaning = max(words)
        return Standing(not no, no, meaning)


def _sortable(when: str) -> str:
    """A DICOM DT without its zone, padded with zeros: enough for order within one site's clock."""
    digits = when.split("+")[0].split("-")[0].split(".")[0]
    return digits.ljust(14, "0")


def book(protocols: Iterable[Protocol], approvals: Iterable[Approval] = ()) -> ProtocolBook:
    """A book of ``protocols``, each SOP Instance UID once.

    Raises
    ------
    SettingsError
        When two different protocols claim one SOP Instance UID.
    """
    kept: dict[str, Protocol] = {}
    for protocol in protocols:
        if kept.setdefault(protocol.uid, protocol) != protocol:
            raise SettingsError(
                "two different protocols with one SOP Instance UID", protocol.uid, "remove one of them"
            )
    said = {approval.uid: approval for approval in approvals}
    return ProtocolBook(tuple(kept.values()), tuple(said.values()))


# --- plain JSON and back, for bundles ---


def to_json(thing: Any) -> Any:
    """Any of these classes as plain JSON: objects without empty members, bytes and codes marked."""
    if isinstance(thing, bytes):
        return {"bytes": base64.b64encode(thing).decode("ascii")}
    if isinstance(thing, Code):
        return {"code": [thing.value, thing.scheme, thing.meaning, thing.version]}
    if isinstance(thing, float) and not math.isfinite(thing):
        return {"float": repr(thing)}  # JSON has no word for it
    if isinstance(thing, tuple):
        return [to_json(x) for x in thing]
    if hasattr(thing, "__dataclass_fields__"):
        return {k: to_json(getattr(thing, k)) for k in thing.__dataclass_fields__}
    return thing


def _scalar(plain: Any) -> Scalar:
    if isinstance(plain, Mapping):
        if "bytes" in plain:
            return base64.b64decode(plain["bytes"])
        return float(plain["float"]) if "float" in plain else Code(*plain["code"])
    return plain  # type: ignore[no-any-return]


def _code(plain: Any) -> Code | None:
    return None if plain is None else Code(*plain["code"])


def _equipment(plain: Mapping[str, Any]) -> Equipment:
    return Equipment(**{**plain, "software": tuple(plain["software"])})


def _constraint(plain: Mapping[str, Any]) -> Constraint:
    return Constraint(
        **{
            **plain,
            "values": tuple(tuple(_scalar(x) for x in item) for item in plain["values"]),
            "defaults": tuple(tuple(_scalar(x) for x in item) for item in plain["defaults"]),
            "path": tuple(Step(**step) for step in plain["path"]),
            "units": _code(plain["units"]),
        }
    )


def _protocol(plain: Mapping[str, Any]) -> Protocol:
    elements = tuple(
        Element(e["number"], tuple(_constraint(c) for c in e["constraints"]), ElementKind(e["kind"]))
        for e in plain["elements"]
    )
    made: dict[str, Any] = {
        **plain,
        "elements": elements,
        "patient": tuple(_constraint(c) for c in plain["patient"]),
        "models": tuple(_equipment(m) for m in plain["models"]),
        "author": _equipment(plain["author"]),
        "group": _code(plain["group"]),
        "procedures": tuple(Code(*c["code"]) for c in plain["procedures"]),
        "protocols": tuple(Code(*c["code"]) for c in plain["protocols"]),
        "predecessors": tuple(Reference(**r) for r in plain["predecessors"]),
    }
    for name in ("reasons", "instructions", "notes"):
        made[name] = tuple(plain[name])
    return Protocol(**made)


def _assertion(plain: Mapping[str, Any]) -> Assertion:
    made: dict[str, Any] = {
        **plain,
        "code": Code(*plain["code"]["code"]),
        "device": None if plain["device"] is None else _equipment(plain["device"]),
        "institution": _code(plain["institution"]),
        "related": tuple(plain["related"]),
    }
    return Assertion(**made)


def _approval(plain: Mapping[str, Any]) -> Approval:
    return Approval(
        plain["uid"],
        tuple(Reference(**r) for r in plain["subjects"]),
        tuple(_assertion(a) for a in plain["assertions"]),
        plain["created"],
        _equipment(plain["author"]),
        tuple(plain["notes"]),
    )


def book_from_json(plain: Mapping[str, Any]) -> ProtocolBook:
    """The inverse of ``to_json`` for a whole book; SettingsError when it is not one."""
    try:
        return ProtocolBook(
            tuple(_protocol(p) for p in plain["protocols"]), tuple(_approval(a) for a in plain["approvals"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"not a protocol book: {type(error).__name__} at {error}", todo="make the bundle again"
        ) from error
