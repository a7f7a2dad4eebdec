"""Writing a protocol book in the words of commands: fields and units instead of tags, VRs and pointers.

book([protocol(
    "CT Head Routine",
    element(1, constrain("KVP", one_of=(100, 120)), constrain("CTDIvol", between=(20, 60)),
            name="Head", acquisition_type="SEQUENCED"),
    patient=(constrain("PatientAge", at_least=18),),
)])
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from pydicom.datadict import dictionary_description

from scanward.codecs.defined_protocol_fields import (
    ACQUISITION_SEQUENCE,
    is_private,
    selector_of,
)
from scanward.codecs.defined_protocol_model import (
    DEFINED_PROTOCOL_UID,
    Approval,
    Assertion,
    Code,
    Constraint,
    ConstraintType,
    Element,
    Equipment,
    Protocol,
    Reference,
    Scalar,
    Significance,
    Step,
    to_json,
)
from scanward.codecs.values import DAYS_PER_YEAR
from scanward.commands import BODY_PHANTOM, FIELDS, HEAD_PHANTOM, Kind, Value
from scanward.errors import SettingsError

PHANTOM_CODES: Final = {
    HEAD_PHANTOM: Code("113690", "DCM", HEAD_PHANTOM),
    BODY_PHANTOM: Code("113691", "DCM", BODY_PHANTOM),
}
APPROVED: Final = Code("128603", "DCM", "Approved for use at the institution")
DISAPPROVED: Final = Code("128623", "DCM", "Disapproved for use at the institution")

Pair = tuple[Value, Value]


def constrain(
    field: str,
    *,
    equal: Value | None = None,
    one_of: Iterable[Value] | None = None,
    none_of: Iterable[Value] | None = None,
    between: Pair | None = None,
    outside: Pair | None = None,
    at_least: Value | None = None,
    at_most: Value | None = None,
    more_than: Value | None = None,
    less_than: Value | None = None,
    significance: Significance | str = Significance.FAILURE,
    condition: str = "",
    guidance: str = "",
    default: Value | None = None,
    modifiable: bool | None = None,
    private: tuple[str, int] | None = None,
) -> Constraint:
    """A constraint on one command field, in the field's unit (`scanward.commands.FIELDS`).

    Exactly one of ``equal`` to ``less_than`` is given. A site parameter that DICOM and Scanward have no place
    for needs ``private``: the private creator and the tag (gggg,00xx).

    Raises
    ------
    SettingsError
        No rule or more than one, a range upside down, a field without a place in a protocol.
    """
    rules: list[tuple[ConstraintType, tuple[Value, ...]]] = []
    for kind, several in (
        (ConstraintType.MEMBER_OF, one_of),
        (ConstraintType.NOT_MEMBER_OF, none_of),
        (ConstraintType.RANGE_INCL, between),
        (ConstraintType.RANGE_EXCL, outside),
    ):
        if several is not None:
            rules.append((kind, tuple(several)))
    for kind, single in (
        (ConstraintType.EQUAL, equal),
        (ConstraintType.GREATER_OR_EQUAL, at_least),
        (ConstraintType.LESS_OR_EQUAL, at_most),
        (ConstraintType.GREATER_THAN, more_than),
        (ConstraintType.LESS_THAN, less_than),
    ):
        if single is not None:
            rules.append((kind, (single,)))
    if len(rules) != 1 or not rules[0][1]:
        raise SettingsError(f"{len(rules)} rules for {field}", "constrain", "give exactly one, with values")
    rule, values = rules[0]
    if rule in (ConstraintType.RANGE_INCL, ConstraintType.RANGE_EXCL) and (
        len(values) != 2 or _order(values[0]) > _order(values[1])
    ):
        raise SettingsError(f"the range of {field} is upside down", "constrain", "give (low, high)")
    if significance not in set(Significance):
        raise SettingsError(f"no significance {significance!r}", field, f"one of {[*map(str, Significance)]}")
    tag, vr, creator, path = _selector(field, private)
    return Constraint(
        type=rule.value,
        values=tuple((_as_vr(field, value, vr),) for value in values),
        tag=tag,
        vr=vr,
        name=field if is_private(tag) else dictionary_description(tag),
        keyword=field if is_private(tag) else "",
        creator=creator,
        path=path,
        defaults=() if default is None else ((_as_vr(field, default, vr),),),
        significance=str(significance),
        condition=condition,
        guidance=guidance,
        modifiable=modifiable,
    )


def element(number: int, *constraints: Constraint, name: str = "", acquisition_type: str = "") -> Element:
    """Acquisition protocol element ``number``; every constraint is pointed at that element.

    ``name`` and ``acquisition_type`` become constraints of their own, as table C.34.9-2 shows, and are what a
    command's element is found by.
    """
    own = [
        constrain(field, equal=value)
        for field, value in (("ProtocolElementName", name), ("AcquisitionType", acquisition_type))
        if value
    ]
    return Element(number, tuple(_pointed(c, number) for c in (*own, *constraints)))


def protocol(
    name: str,
    *elements: Element,
    patient: Iterable[Constraint] = (),
    models: Iterable[Equipment] = (),
    uid: str = "",
    created: str = "20000101000000",
    replaces: Iterable[Protocol] = (),
) -> Protocol:
    """A protocol; without ``uid`` its SOP Instance UID is made of its content (2.25., PS3.5 B.2).

    ``patient`` constraints lose their Modifiable Constraint Flag, which that sequence does not know.
    """
    made = Protocol(
        uid=uid,
        name=name,
        elements=tuple(elements),
        patient=tuple(replace(c, modifiable=None) for c in patient),
        models=tuple(models),
        created=created,
        predecessors=tuple(Reference(DEFINED_PROTOCOL_UID, old.uid) for old in replaces),
    )
    return made if uid else replace(made, uid=_content_uid(made))


def approval(
    protocols: Iterable[Protocol],
    asserter: str,
    when: str,
    *,
    code: Code = APPROVED,
    institution: Code | None = None,
    expires: str = "",
    comments: str = "",
) -> Approval:
    """An approval of the protocols as they are now: their digests go into it (a private attribute).

    ``when`` and ``expires`` are DICOM DT (``YYYYMMDDHHMMSS``). The standard wants an institution; without
    one, code 99SCANWARD "site" is written.
    """
    subjects = tuple(Reference(DEFINED_PROTOCOL_UID, p.uid, p.digest()) for p in protocols)
    said = Assertion(
        code=code,
        uid="",
        when=when,
        asserter=asserter,
        expires=expires,
        comments=comments,
        institution=institution or Code("site", "99SCANWARD", "This site"),
    )
    said = replace(said, uid=_content_uid([subjects, said]))
    made = Approval("", subjects, (said,), created=when[:14].ljust(14, "0"))
    return replace(made, uid=_content_uid(made))


def age_string(years: float) -> str:
    """Years as an Age String (PS3.5 6.2): whole years, else months, else days, whichever is exact first."""
    months, days = years * 12, years * DAYS_PER_YEAR
    if float(years).is_integer() and 0 <= years <= 999:
        return f"{int(years):03d}Y"
    if abs(months - round(months)) < 1e-6 and 0 < months <= 999:
        return f"{round(months):03d}M"
    if 0 < days <= 999:
        return f"{round(days):03d}D"
    raise SettingsError(f"no Age String for {years} years", "PatientAge", "give whole years or months")


def _selector(field: str, private: tuple[str, int] | None) -> tuple[int, str, str, tuple[Step, ...]]:
    known = FIELDS.get(field)
    of_kind = "LO" if known is not None and known.kind is Kind.CATEGORY else "FD"
    if private is not None:
        creator, tag = private
        if not creator or not is_private(tag):
            raise SettingsError(f"{tag:08X} is no private tag with a creator", field, "use an odd group")
        return tag, of_kind, creator, (Step(ACQUISITION_SEQUENCE, 1),)
    found = selector_of(field)
    if found is None:
        raise SettingsError(
            f"no attribute for {field}", "constrain", "give private=(creator, tag) for a site parameter"
        )
    tag, vr, creator, path = found
    return tag, vr or of_kind, creator, path


def _pointed(constraint: Constraint, number: int) -> Constraint:
    if not constraint.path or constraint.path[0].tag != ACQUISITION_SEQUENCE:
        return constraint
    return replace(constraint, path=(replace(constraint.path[0], item=number), *constraint.path[1:]))


def _as_vr(field: str, value: Value, vr: str) -> Scalar:
    if vr == "SQ":
        if value not in PHANTOM_CODES:
            raise SettingsError(f"{value!r} is no dosimetry phantom", field, f"one of {list(PHANTOM_CODES)}")
        return PHANTOM_CODES[str(value)]
    if vr == "AS":
        return value if isinstance(value, str) else age_string(value)
    if vr in ("US", "IS"):
        return int(value)
    if vr in ("FD", "DS"):
        if isinstance(value, str):
            raise SettingsError(f"{value!r} is not a number", field, "give a number in the field's unit")
        return float(value)
    return str(value)


def _order(value: Value) -> float:
    return float(value) if not isinstance(value, str) else 0.0


def _content_uid(thing: object) -> str:
    plain = [to_json(x) for x in thing] if isinstance(thing, list) else to_json(thing)
    content = json.dumps(plain, sort_keys=True).encode()
    return f"2.25.{int.from_bytes(hashlib.sha256(content).digest()[:16], 'big')}"
