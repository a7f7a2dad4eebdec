"""Codes and content items of Structured Reports (PS3.3 C.17.3, C.18; codes of PS3.16 where there are some)."""

from __future__ import annotations

import math
from typing import Any, Final

from pydicom import Dataset
from pydicom.sequence import Sequence

SCHEME: Final = "99SCANWARD"
MAKER: Final = "Scanward"

# CID 42: why a numeric value is missing.
_NOT_A_NUMBER: Final = ("114000", "Not a number")
_NEGATIVE: Final = ("114001", "Negative Infinity")
_POSITIVE: Final = ("114002", "Positive Infinity")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item: Any = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item  # type: ignore[no-any-return]


def item(relationship: str, kind: str, name: Dataset, *children: Dataset) -> Any:
    """A content item; its value is set by the caller."""
    made: Any = Dataset()
    if relationship:
        made.RelationshipType = relationship
    made.ValueType = kind
    made.ConceptNameCodeSequence = Sequence([name])
    if children:
        made.ContentSequence = Sequence(list(children))
    return made


def text(relationship: str, name: Dataset, value: str) -> Dataset:
    """A TEXT item; the standard wants at least one character."""
    made = item(relationship, "TEXT", name)
    made.TextValue = "".join(c if c.isprintable() else " " for c in value).strip() or "none"
    return made  # type: ignore[no-any-return]


def coded(relationship: str, name: Dataset, value: Dataset) -> Dataset:
    """A CODE item."""
    made = item(relationship, "CODE", name)
    made.ConceptCodeSequence = Sequence([value])
    return made  # type: ignore[no-any-return]


def number(relationship: str, name: Dataset, value: float, *children: Dataset) -> Dataset:
    """A NUM item without a unit; what is no finite number has no value but a qualifier."""
    made = item(relationship, "NUM", name, *children)
    if math.isfinite(value):
        measured: Any = Dataset()
        measured.MeasurementUnitsCodeSequence = Sequence([code("1", "UCUM", "no units")])
        measured.NumericValue = decimal(value)
        made.MeasuredValueSequence = Sequence([measured])
    else:
        why = _NOT_A_NUMBER if math.isnan(value) else _POSITIVE if value > 0 else _NEGATIVE
        made.MeasuredValueSequence = Sequence([])
        made.NumericValueQualifierCodeSequence = Sequence([code(why[0], "DCM", why[1])])
    return made  # type: ignore[no-any-return]


def decimal(value: float) -> str:
    """A finite number as DS (PS3.5 6.2: 16 characters at most), as exact as they allow."""
    for digits in range(17, 0, -1):
        shown = f"{value:.{digits}g}"
        if len(shown) <= 16 and math.isfinite(
            float(shown)
        ):  # rounding up the largest numbers leaves them infinite
            return shown
    raise AssertionError("one digit fits always")


def image(relationship: str, name: Dataset | None, reference: Dataset) -> Dataset:
    """An IMAGE item."""
    made: Any = Dataset()
    made.RelationshipType, made.ValueType = relationship, "IMAGE"
    if name is not None:
        made.ConceptNameCodeSequence = Sequence([name])
    made.ReferencedSOPSequence = Sequence([reference])
    return made  # type: ignore[no-any-return]


def rectangle(
    relationship: str, name: Dataset, box: tuple[float, float, float, float], reference: Dataset
) -> Dataset:
    """A SCOORD item: a closed line around (left, top, right, bottom), px from the image's upper left corner."""
    left, top, right, bottom = box
    made = item(relationship, "SCOORD", name, image("SELECTED FROM", None, reference))
    made.GraphicType = "POLYLINE"
    made.GraphicData = [left, top, right, top, right, bottom, left, bottom, left, top]
    return made  # type: ignore[no-any-return]
