"""A structured report as a plain tree of items: what a template is read from, without pydicom in the way.

Source: PS3.3 C.17.3 (SR document content), C.18.1 (numeric measurement), C.18.10 (table).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pydicom

from scanward.codecs.dicom_files import items_of, numbers_of, text_of
from scanward.errors import DecodeError

MAX_DEPTH = 32  # levels of content items; TID 10011 reaches 6, TID 10040 reaches 5
MAX_ITEMS = 200_000  # content items of one report; a report of 100 events has about 4,000


# Person names are not read at all: nobody needs them.
_TEXT_OF_KIND = {"TEXT": "TextValue", "DATETIME": "DateTime", "UIDREF": "UID"}


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept. ``key`` is the value alone for DICOM's own codes, else ``SCHEME:value``."""

    value: str = ""
    scheme: str = ""
    meaning: str = ""

    @property
    def key(self) -> str:
        """What templates are looked up by."""
        return self.value if self.scheme == "DCM" else f"{self.scheme}:{self.value}"


NO_CODE = Code()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a TABLE item (TID 10045, 10048): concept, unit, values in row order."""

    name: Code
    unit: str
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One content item.

    ``numbers`` holds what a NUM item measured (usually one), ``empty`` that it says it has no value;
    ``text`` what TEXT, DATETIME, UIDREF items say; ``code`` the value of a CODE item.
    """

    name: Code
    kind: str
    text: str = ""
    code: Code = NO_CODE
    numbers: tuple[float, ...] = ()
    unit: str = ""
    empty: bool = False
    columns: tuple[Column, ...] = ()
    children: tuple[Item, ...] = ()

    def walk(self, *, skip: frozenset[str] = frozenset()) -> Iterator[Item]:
        """All items below this one, in document order, without entering containers named in ``skip``."""
        stack = list(reversed(self.children))
        while stack:
            item = stack.pop()
            yield item
            if item.name.key not in skip:
                stack.extend(reversed(item.children))

    def find(self, key: str) -> Item | None:
        """The first direct child of that concept."""
        return next((child for child in self.children if child.name.key == key), None)


def read_tree(ds: pydicom.Dataset, *, name: str) -> Item:
    """The content tree of a structured report. DecodeError when it is deeper or larger than any report is."""
    budget = [MAX_ITEMS]
    return _item(ds, name, 0, budget)


def _item(ds: pydicom.Dataset, name: str, depth: int, budget: list[int]) -> Item:
    if depth > MAX_DEPTH:
        raise DecodeError(f"content nested deeper than {MAX_DEPTH}", name, "this is no genuine report")
    budget[0] -= 1
    if budget[0] < 0:
        raise DecodeError(f"more than {MAX_ITEMS} content items", name, "this is no genuine report")
    kind = text_of(ds, "ValueType").upper()
    text, code, unit, empty = "", NO_CODE, "", False
    numbers: tuple[float, ...] = ()
    columns: tuple[Column, ...] = ()
    if kind == "NUM":
        measured = next(items_of(ds, "MeasuredValueSequence"), None)
        empty = measured is None
        if measured is not None:
            numbers = numbers_of(measured, "NumericValue") or numbers_of(measured, "FloatingPointValue")
            unit = _code(measured, "MeasurementUnitsCodeSequence").value
    elif kind == "CODE":
        code = _code(ds, "ConceptCodeSequence")
    elif kind == "TABLE":
        columns = _columns(ds)
    else:
        keyword = _TEXT_OF_KIND.get(kind)
        text = text_of(ds, keyword) if keyword else ""
    children = tuple(_item(child, name, depth + 1, budget) for child in items_of(ds, "ContentSequence"))
    return Item(
        _code(ds, "ConceptNameCodeSequence"), kind, text, code, numbers, unit, empty, columns, children
    )


def _code(ds: pydicom.Dataset, keyword: str) -> Code:
    coded = next(items_of(ds, keyword), None)
    if coded is None:
        return NO_CODE
    value = text_of(coded, "CodeValue") or text_of(coded, "LongCodeValue") or text_of(coded, "URNCodeValue")
    return Code(value, text_of(coded, "CodingSchemeDesignator"), text_of(coded, "CodeMeaning"))


def _columns(ds: pydicom.Dataset) -> tuple[Column, ...]:
    """The numeric columns of a table; date columns and the like are left out (only the spread is of use)."""
    table = next(items_of(ds, "TabulatedValuesSequence"), None)
    if table is None:
        return ()
    cells: dict[int, list[float]] = {}
    for cell in items_of(table, "CellValuesSequence"):
        column = numbers_of(cell, "TableColumnNumber")
        if len(column) != 1 or not column[0].is_integer():
            continue
        for keyword in ("SelectorFLValue", "SelectorFDValue", "SelectorDSValue", "NumericValue"):
            cells.setdefault(int(column[0]), []).extend(numbers_of(cell, keyword))
    found = []
    for heading in items_of(table, "TableColumnDefinitionSequence"):
        column = numbers_of(heading, "TableColumnNumber")
        if len(column) == 1 and column[0].is_integer() and cells.get(int(column[0])):
            unit = _code(heading, "MeasurementUnitsCodeSequence").value
            name = _code(heading, "ConceptNameCodeSequence")
            found.append(Column(name, unit, tuple(cells[int(column[0])])))
    return tuple(found)
