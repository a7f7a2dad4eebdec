"""Dialects from TOML, with exact messages: every complaint names the file and the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from scanward.commands import FIELDS, Group, Kind, Mode, Role, Source, Value
from scanward.errors import DialectError
from scanward.recordings.dialect import (
    DEFAULT_MISSING,
    DEVICE_COLUMNS,
    FORMAT,
    Combine,
    DeviceRule,
    Dialect,
    FieldRule,
    ModeRule,
    split_source,
)
from scanward.recordings.units import AGE_STRING, canonical_unit, factor, units_for

_MAX_BYTES = 1 << 20  # a dialect is a page, not a book
_HELP = "see docs/recordings-tables.md, or make one with: scanward inspect TABLE --write-dialect OUT.toml"
_E = TypeVar("_E", bound=StrEnum)


def load_dialect(path: Path) -> Dialect:
    """Read a dialect file.

    Raises
    ------
    DialectError
        When it cannot be read, is not TOML, or says something that cannot be meant; the key is named.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DialectError(f"the dialect cannot be read ({error.strerror})", str(path), _HELP) from error
    if len(raw) > _MAX_BYTES:
        raise DialectError("the dialect is larger than 1 MiB", str(path), _HELP)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DialectError("the dialect is not UTF-8 text", str(path), "save it as UTF-8") from error
    return parse_dialect(text, str(path))


def parse_dialect(text: str, where: str = "dialect") -> Dialect:
    """The dialect written in ``text``; see ``load_dialect``."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DialectError(f"the dialect is not TOML: {error}", where, _HELP) from error
    return _dialect(_Section(data, where, ""))


class _Section:
    """One TOML table; what is taken is crossed off, and ``done`` complains of the rest."""

    def __init__(self, data: Mapping[str, Any], where: str, path: str) -> None:
        self._left = dict(data)
        self._known: list[str] = []
        self.where, self.path = where, path

    def fail(self, what: str, key: str = "") -> DialectError:
        place = ".".join(part for part in (self.path, key) if part)
        return DialectError(what, f"{self.where}: {place}" if place else self.where, _HELP)

    def take(self, key: str) -> Any:
        self._known.append(key)
        return self._left.pop(key, None)

    def text(self, key: str, default: str = "") -> str:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fail("a text is needed here", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail("true or false is needed here", key)
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail("a list of texts is needed here", key)
        if len(set(value)) != len(value):
            raise self.fail("the list names something twice", key)
        return tuple(value)

    def choice(self, key: str, kind: type[_E], default: _E | None) -> _E | None:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in set(kind):
            raise self.fail(f"must be one of {', '.join(kind)}", key)
        return kind(value)

    def section(self, key: str) -> _Section:
        value = self.take(key)
        if not isinstance(value, dict | None):
            raise self.fail("a table is needed here", key)
        return _Section(value or {}, self.where, f"{self.path}.{key}" if self.path else key)

    def items(self) -> list[tuple[str, Any]]:
        left, self._left = list(self._left.items()), {}
        return left

    def done(self) -> None:
        if self._left:
            unknown = next(iter(self._left))
            raise self.fail(f"unknown key (known here: {', '.join(self._known)})", unknown)


def _dialect(top: _Section) -> Dialect:
    stated = top.take("format")
    if stated != FORMAT or isinstance(stated, bool):
        raise top.fail(f"the first key must be format = {FORMAT}", "format")
    name, description = top.text("name"), top.text("description")
    role = top.choice("role", Role, Role.PERFORMED)
    mode = top.choice("mode", Mode, Mode.CLINICAL)
    source = top.choice("source", Source, Source.HOST)
    keywords, ignore = top.flag("keywords", True), top.texts("ignore")
    missing = tuple(dict.fromkeys(("", *(top.texts("missing", DEFAULT_MISSING)))))
    assert role is not None
    assert mode is not None
    assert source is not None
    table = top.section("table")
    delimiter, encoding, decimal = table.text("delimiter"), table.text("encoding"), table.text("decimal")
    if delimiter and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise table.fail("must be a single character", "delimiter")
    if decimal not in {"", ".", ","}:
        raise table.fail('must be "." or ","', "decimal")
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise table.fail("no such encoding", "encoding") from None
    table.done()
    fields_section = top.section("fields")
    fields = tuple(
        _field(key, _Section(value, top.where, f"fields.{key}"), source)
        if isinstance(value, dict)
        else _not_a_table(fields_section, key)
        for key, value in fields_section.items()
    )
    for number, rule in enumerate(fields):
        if any((rule.field, rule.source) == (other.field, other.source) for other in fields[:number]):
            raise fields_section.fail(f"{rule.field} is told twice by {rule.source}", rule.field)
    device = _device(top.section("device"))
    examination, event, order = (_columns(top.section(key)) for key in ("examination", "event", "order"))
    time_section = top.section("time")
    time, time_format = time_section.texts("columns"), time_section.text("format")
    if len(time) > 2 or (len(time) == 2 and time_format):
        raise time_section.fail("give one column, or a date and a time column without a format", "columns")
    time_section.done()
    modes = _modes(top)
    top.done()
    return Dialect(
        name, description, role, mode, source, keywords, ignore, missing, delimiter, encoding, decimal,
        fields, device, examination, event, order, time, time_format, modes, top.where,
    )  # fmt: skip


def _not_a_table(section: _Section, key: str) -> FieldRule:
    raise section.fail('a table is needed here, such as { column = "kV" }', key)


def _columns(section: _Section) -> tuple[str, ...]:
    columns = section.texts("columns")
    section.done()
    return columns


def _device(section: _Section) -> dict[str, DeviceRule]:
    device: dict[str, DeviceRule] = {}
    for key, value in section.items():
        if key not in DEVICE_COLUMNS:
            raise section.fail(f"must be one of {', '.join(DEVICE_COLUMNS)}", key)
        if isinstance(value, str):
            device[key] = DeviceRule(constant=value)
        elif isinstance(value, dict) and set(value) == {"column"} and isinstance(value["column"], str):
            device[key] = DeviceRule(column=value["column"])
        else:
            raise section.fail('a text or { column = "..." } is needed here', key)
    return device


def _modes(top: _Section) -> tuple[ModeRule, ...]:
    entries = top.take("modes")
    if entries is None:
        return ()
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise top.fail("write each rule as [[modes]]", "modes")
    rules = []
    for number, entry in enumerate(entries):
        section = _Section(entry, top.where, f"modes[{number}]")
        mode, column = section.choice("mode", Mode, None), section.text("column")
        equals, contains = section.texts("equals"), section.texts("contains")
        section.done()
        if mode is None or not column or not (equals or contains):
            raise section.fail("needs mode, column, and equals or contains")
        if "" in contains:
            raise section.fail("the empty text is contained in everything", "contains")
        rules.append(ModeRule(mode, column, equals, contains))
    return tuple(rules)


def _field(key: str, section: _Section, default_source: Source) -> FieldRule:
    name, told = split_source(key)
    if not name or not name.isidentifier():
        raise section.fail("a field name is a word such as KVP, or KVP@worklist with its source")
    known = FIELDS.get(name)
    columns = section.texts("columns")
    column = section.text("column")
    constant = section.take("value")
    if sum((bool(columns), bool(column), constant is not None)) != 1:
        raise section.fail("needs exactly one of column, columns, value")
    kind = section.choice("kind", Kind, known.kind if known else None)
    if kind is None:
        raise section.fail("is not a known field, so say kind = number or category", "kind")
    if known and kind is not known.kind:
        raise section.fail(f"{name} is a {known.kind}", "kind")
    group = section.choice("group", Group, known.group if known else Group.MACHINE)
    assert group is not None
    if group is Group.PLACE or (known and group is not known.group):
        allowed = known.group if known else "machine, patient or objective"
        raise section.fail(f"must be {allowed}", "group")
    source = section.choice("source", Source, told or default_source)
    assert source is not None
    if told and source is not told:
        raise section.fail(f"the name says @{told}", "source")
    if told and group is Group.MACHINE:
        raise section.fail("only patient and objective fields have a source")
    unit, target, by = _unit(section, name, kind)
    combine = section.choice("combine", Combine, None)
    if combine is None:
        if len(columns) > 1:
            raise section.fail(f"several columns need one of {', '.join(Combine)}", "combine")
        combine = Combine.FIRST
    if (combine is Combine.JOIN and kind is Kind.NUMBER) or (
        combine in {Combine.MEAN, Combine.MIN, Combine.MAX, Combine.SPAN} and kind is Kind.CATEGORY
    ):
        raise section.fail(f"a {kind} cannot be made by {combine}", "combine")
    rule = FieldRule(
        name, columns or ((column,) if column else ()), kind, group, unit, target, by,
        section.choice("role", Role, None), source, combine,
        _values(section, kind), _signs(section, kind), section.texts("missing"),
        _constant(section, constant, kind), section.flag("optional", False),
    )  # fmt: skip
    section.done()
    return rule


def _unit(section: _Section, name: str, kind: Kind) -> tuple[str, str, float]:
    stated = section.take("unit")
    known = FIELDS.get(name)
    target = known.unit if known else ""
    if stated is not None and not isinstance(stated, str):
        raise section.fail("a text is needed here", "unit")
    if kind is Kind.CATEGORY:
        if stated:
            raise section.fail("a category has no unit", "unit")
        return "", "", 1.0
    if known is None:  # a site parameter: its unit is a label, nothing is converted
        return stated or "", stated or "", 1.0
    if not stated:
        return target, target, 1.0
    unit = canonical_unit(stated, target)
    by = 1.0 if unit == AGE_STRING else factor(unit, target) if unit else None
    if unit is None or by is None:
        raise section.fail(f"{name} is in {target}; use one of {', '.join(units_for(target))}", "unit")
    return unit, target, by


def _values(section: _Section, kind: Kind) -> dict[str, Value]:
    mapped: dict[str, Value] = {}
    inner = section.section("values")
    for key, value in inner.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise inner.fail("a text or a number is needed here", key)
        if kind is Kind.NUMBER and isinstance(value, str) and value:
            raise inner.fail('a number is needed here, or "" for missing', key)
        if isinstance(value, str):
            mapped[key] = value
        else:
            mapped[key] = _finite(inner, key, value) if kind is Kind.NUMBER else f"{value:g}"
    return mapped


def _signs(section: _Section, kind: Kind) -> dict[str, float]:
    inner = section.section("signs")
    signs: dict[str, float] = {}
    for key, value in inner.items():
        if len(key) != 1 or not key.isalpha() or isinstance(value, bool) or value not in (1, -1):
            raise inner.fail("a single letter = 1 or -1 is needed here", key)
        signs[key] = float(value)
    if signs and kind is not Kind.NUMBER:
        raise inner.fail("only numbers have signs")
    return signs


def _constant(section: _Section, value: Any, kind: Kind) -> Value | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise section.fail("a text or a number is needed here", "value")
    if kind is Kind.NUMBER:
        if isinstance(value, str):
            raise section.fail("a number is needed here", "value")
        return _finite(section, "value", value)
    return value if isinstance(value, str) else f"{value:g}"


def _finite(section: _Section, key: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:
        raise section.fail("a finite number is needed here", key)
    return number
