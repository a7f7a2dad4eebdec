"""Attribute Value Constraint Macro (PS3.3 10.25), with its selector (10.17) and values (10.26), both ways."""

from __future__ import annotations

from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from scanward.codecs.defined_protocol_dataset import (
    MAX_VALUES,
    decode_code,
    integer,
    items,
    plain_values,
    put,
    put_items,
    text,
    texts,
)
from scanward.codecs.defined_protocol_fields import selector_text
from scanward.codecs.defined_protocol_model import Constraint, ConstraintType, Step, Values
from scanward.errors import DecodeError, InputError

# VR -> keyword of the attribute that carries values of it (PS3.3 table 10.26-1). SQ means coded concepts.
VALUE_KEYWORDS: Final = {
    **{
        vr: f"Selector{vr}Value"
        for vr in (
            *("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),
            *("AT", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"),
            *("OB", "OD", "OF", "OL", "OV", "OW", "UN"),
        )
    },
    "SQ": "SelectorCodeSequenceValue",
}
MAX_DEPTH: Final = 16  # levels of nested sequences; DICOM's own objects have at most six


def decode_constraint(item: Dataset, notes: list[str]) -> Constraint:
    """One item of a specification sequence.

    Whatever the macro allows is kept, unknown words too; what is dropped is told in ``notes``.

    Raises
    ------
    DecodeError
        When there is no Constraint Type, or the selector's lists do not fit each other.
    """
    kind = text(item, "ConstraintType")
    if not kind:
        raise DecodeError(
            "a constraint without Constraint Type (0082,0032)", todo="export the protocol again"
        )
    vr = text(item, "SelectorAttributeVR")
    flag = text(item, "ModifiableConstraintFlag")
    units = items(item, "MeasurementUnitsCodeSequence")
    constraint = Constraint(
        type=kind,
        tag=integer(item, "SelectorAttribute"),
        vr=vr,
        name=text(item, "SelectorAttributeName"),
        keyword=text(item, "SelectorAttributeKeyword"),
        value_number=integer(item, "SelectorValueNumber"),
        creator=text(item, "SelectorAttributePrivateCreator"),
        path=_decode_path(item),
        values=_decode_values(item, "ConstraintValueSequence", vr, notes),
        defaults=_decode_values(item, "RecommendedDefaultValueSequence", vr, notes),
        significance=text(item, "ConstraintViolationSignificance"),
        condition=text(item, "ConstraintViolationCondition"),
        guidance=text(item, "SpecificationSelectionGuidance"),
        modifiable={"YES": True, "NO": False}.get(flag),
        units=decode_code(units[0]) if units else None,
    )
    if flag not in ("YES", "NO", ""):
        notes.append(f"{selector_text(constraint)}: Modifiable Constraint Flag {flag[:16]!r} is not known")
    return constraint


def _decode_path(item: Dataset) -> tuple[Step, ...]:
    tags = plain_values(item, "SelectorSequencePointer")
    places = plain_values(item, "SelectorSequencePointerItems")
    creators = list(texts(item, "SelectorSequencePointerPrivateCreator"))
    if len(tags) > MAX_DEPTH:
        raise DecodeError(f"a selector {len(tags)} sequences deep", todo=f"at most {MAX_DEPTH} are read")
    if not places:
        places = (0,) * len(tags)  # Hanging Protocols say nothing of items and mean all of them (C.23.4.1.1)
    if len(places) != len(tags) or len(creators) not in (0, len(tags)):
        what = f"a selector of {len(tags)} sequences, {len(places)} items, {len(creators)} private creators"
        raise DecodeError(what, todo="every level needs one of each (PS3.3 10.17)")
    steps = []
    for tag, place, creator in zip(tags, places, creators or [""] * len(tags), strict=True):
        if not isinstance(tag, int) or not isinstance(place, int):
            raise DecodeError("a selector pointer that is no tag or item number", todo="export it again")
        steps.append(Step(tag, place, creator))
    return tuple(steps)


def _decode_values(item: Dataset, keyword: str, vr: str, notes: list[str]) -> tuple[Values, ...]:
    wanted = VALUE_KEYWORDS.get(vr)
    if wanted is None:
        if items(item, keyword):
            notes.append(f"values of VR {vr[:8]!r} are not read")
        return ()
    found = []
    for part in items(item, keyword):
        values = plain_values(part, wanted)
        if not values and len(part):
            notes.append(f"an item of {keyword} without {wanted}")
        found.append(values)
    return tuple(found)


def encode_constraint(constraint: Constraint, *, modifiable: bool = True) -> Dataset:
    """One item of a specification sequence, ready to be written.

    ``modifiable`` says whether the sequence knows the Modifiable Constraint Flag.

    Raises
    ------
    InputError
        When a value does not fit its VR, or the constraint breaks the macro's rules.
    """
    where = f"constraint on {selector_text(constraint)}"
    item = Dataset()
    if constraint.tag is not None:
        put(item, "SelectorAttribute", constraint.tag)
    if constraint.value_number is not None:
        put(item, "SelectorValueNumber", constraint.value_number)
    if constraint.vr not in VALUE_KEYWORDS:
        raise InputError(
            f"no VR that a constraint can have: {constraint.vr!r}", where, "see PS3.5 table 6.2-1"
        )
    put(item, "SelectorAttributeVR", constraint.vr)
    _encode_path(item, constraint, where)
    if constraint.creator:
        put(item, "SelectorAttributePrivateCreator", constraint.creator)
    if not constraint.name:
        raise InputError("Selector Attribute Name is missing", where, "name the attribute")
    put(item, "SelectorAttributeName", constraint.name)
    if constraint.keyword:
        put(item, "SelectorAttributeKeyword", constraint.keyword)
    put(item, "ConstraintType", constraint.type)
    if not constraint.values and constraint.type != ConstraintType.UNCONSTRAINED:
        raise InputError(f"{constraint.type} without values", where, "give the values")
    _encode_values(item, "ConstraintValueSequence", constraint.vr, constraint.values, where)
    _encode_values(item, "RecommendedDefaultValueSequence", constraint.vr, constraint.defaults, where)
    for keyword, value in (
        ("ConstraintViolationSignificance", constraint.significance),
        ("ConstraintViolationCondition", constraint.condition),
        ("SpecificationSelectionGuidance", constraint.guidance),
    ):
        if value:
            put(item, keyword, value)
    if constraint.modifiable is not None:
        if not modifiable:
            raise InputError(
                "a patient specification has no Modifiable Constraint Flag", where, "leave it None"
            )
        put(item, "ModifiableConstraintFlag", "YES" if constraint.modifiable else "NO")
    if constraint.units is not None:
        put(item, "MeasurementUnitsCodeSequence", constraint.units)
    return item


def _encode_path(item: Dataset, constraint: Constraint, where: str) -> None:
    if not constraint.path:
        return
    if len(constraint.path) > MAX_DEPTH:
        raise InputError(f"{len(constraint.path)} nested sequences", where, f"at most {MAX_DEPTH}")
    put(item, "SelectorSequencePointer", [step.tag for step in constraint.path])
    put(item, "SelectorSequencePointerItems", [step.item for step in constraint.path])
    if any(step.creator for step in constraint.path):
        put(item, "SelectorSequencePointerPrivateCreator", [step.creator for step in constraint.path])


def _encode_values(item: Dataset, keyword: str, vr: str, several: tuple[Values, ...], where: str) -> None:
    if not several:
        return
    parts = []
    for values in several:
        if not values or len(values) > MAX_VALUES:
            raise InputError(f"an item with {len(values)} values", where, f"give 1 to {MAX_VALUES}")
        part = Dataset()
        put(part, VALUE_KEYWORDS[vr], values)
        parts.append(part)
    put_items(item, keyword, parts)


for _keyword in VALUE_KEYWORDS.values():  # a spelling mistake above is found at import, not at a site
    if tag_for_keyword(_keyword) is None:
        raise LookupError(_keyword)
