"""Rows of a table become commands: column by column first, so that every distinct cell is parsed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from scanward.codecs.qa import looks_like_qa
from scanward.codecs.values import age_in_years
from scanward.commands import FIELDS, Command, Context, Device, Group, Kind, Mode, Origin, Source, Told, Value
from scanward.recordings.books import Entry, Rejected
from scanward.recordings.dialect import DEVICE_COLUMNS, JOIN_MARK, Combine, Dialect, FieldRule
from scanward.recordings.plan import Plan, make_plan, refuse_without_machine_field
from scanward.recordings.pseudonyms import Pseudonyms
from scanward.recordings.tables import Cell, Table
from scanward.recordings.units import (
    AGE_STRING,
    CellProblem,
    finite,
    is_comma_number,
    is_number,
    parse_date_and_time,
    parse_number,
    parse_time,
    scaled,
)

# Best source first: a measurement on the table, the order, the person at the table, the machine under attack.
TRUST = (Source.LOCALIZER, Source.WORKLIST, Source.OPERATOR, Source.HOST)

# Texts in which staff say that a phantom lies on the table.
_QA_FIELDS = ("ProtocolName", "StudyDescription", "RequestedProcedureDescription", "ProtocolElementName")

Problems = dict[int, list[str]]


def entries_of(
    table: Table, dialect: Dialect | None, pseudonyms: Pseudonyms
) -> tuple[list[Entry], list[str]]:
    """Every row as a Command or a Rejected, in order, and the notes.

    Raises
    ------
    InputError
        When no column is a machine field, or the dialect names a column that the table lacks.
    """
    plan = make_plan(list(table.columns), dialect, table.path)
    refuse_without_machine_field(plan, table.path)
    reader = _Reader(table, plan, pseudonyms)
    return reader.entries(), [*table.notes, *reader.notes]


def decimal_mark(table: Table, plan: Plan) -> str:
    """The dialect's decimal mark; else a comma when numbers of the table have one and none has a point."""
    if plan.dialect.decimal:
        return plan.dialect.decimal
    comma = False
    for rule in plan.rules:
        if rule.kind is not Kind.NUMBER:
            continue
        for column in rule.columns:
            for cell in set(table.columns.get(column, ())):
                if isinstance(cell, float) or (isinstance(cell, str) and "." in cell and is_number(cell)):
                    return "."
                comma = comma or (isinstance(cell, str) and is_comma_number(cell))
    return "," if comma else "."


class _Reader:
    def __init__(self, table: Table, plan: Plan, pseudonyms: Pseudonyms) -> None:
        self.table, self.plan, self.pseudonyms = table, plan, pseudonyms
        self.decimal = decimal_mark(table, plan)
        self.problems: Problems = {row: [reason] for row, reason in table.problems.items()}
        self.notes: list[str] = []
        self._qa: dict[tuple[str, ...], bool] = {}
        if self.decimal == "," and not plan.dialect.decimal:
            self.notes.append(f"{table.path}: numbers read with a decimal comma")

    def entries(self) -> list[Entry]:
        plan, rows = self.plan, self.table.rows
        machine = [(r, self._values(r)) for r in plan.rules if not r.is_context]
        ranked = sorted((r for r in plan.rules if r.is_context), key=lambda r: TRUST.index(r.source))
        context = [(r, self._told(r)) for r in ranked]
        static_roles = {r.field: r.role for r in plan.rules if r.role and r.role is not plan.dialect.role}
        devices, modes = self._devices(), self._modes()
        examinations = self._hashes(plan.examination, self.pseudonyms.examination)
        events = self._hashes(plan.event, self.pseudonyms.event)
        times, orders = self._times(), self._orders()
        contexts: dict[tuple[int, ...], Context] = {}
        entries: list[Entry] = []
        names = [rule.field for rule, _ in machine]
        # A constant of the dialect makes no command out of an empty row.
        constants = {rule.field for rule, _ in machine if rule.constant is not None}
        by_row = zip(*(column for _, column in machine), strict=True)
        told_by_row = zip(*(column for _, column in context), strict=True) if context else repeat((), rows)
        for row, (values, key) in enumerate(zip(by_row, told_by_row, strict=True)):
            origin = Origin(self.table.path, row)
            parameters = {n: v for n, v in zip(names, values, strict=True) if v is not None}
            if row in self.problems:
                entries.append(Rejected(origin, "; ".join(dict.fromkeys(self.problems[row]))))
                continue
            if parameters.keys() <= constants:
                entries.append(Rejected(origin, "no machine field is present"))
                continue
            # Equal cells of a column share one Told: identity tells contexts apart, faster than equality.
            same = tuple(map(id, key))
            if same not in contexts:
                contexts[same] = _context(
                    [(r.field, told) for (r, _), told in zip(context, key, strict=True)]
                )
            about = contexts[same]
            entries.append(
                Command(
                    parameters, about, devices[row], plan.dialect.role,
                    {n: r for n, r in static_roles.items() if n in parameters}, examinations[row], times[row],
                    orders[row], events[row], self._mode(modes[row], about), origin,
                )
            )  # fmt: skip
        return entries

    # --- cells

    def _cells(self, column: str, missing: Iterable[str] = ()) -> list[Cell]:
        """The column with missing cells as None and texts stripped; all None when the table lacks it."""
        cells = self.table.columns.get(column)
        if cells is None:
            return [None] * self.table.rows
        absent = {*self.plan.dialect.missing, *missing}
        memo: dict[Cell, Cell] = {None: None}
        for cell in set(cells):
            if isinstance(cell, str):
                text = cell.strip()
                memo[cell] = None if text in absent else text
            elif cell is not None:
                memo[cell] = None if f"{cell:g}" in absent else cell
        # NaN equals nothing, itself included, so it may be missing in the memo
        return [memo.get(cell, cell) for cell in cells]

    def _texts(self, column: str) -> list[str]:
        return [text_of(cell) for cell in self._cells(column)]

    def _mapped(self, cells: Sequence[Cell], parse: Callable[[Cell], Any], name: str) -> list[Any]:
        """``parse`` on every distinct cell; rows whose cell is a problem are noted and get None."""
        good: dict[Cell, Any] = {None: None}
        bad: dict[Cell, str] = {}
        for cell in set(cells) - {None}:
            try:
                good[cell] = parse(cell)
            except CellProblem as problem:
                bad[cell] = f"{name} {problem}"
        if bad:
            for row, cell in enumerate(cells):
                if cell in bad:
                    self.problems.setdefault(row, []).append(bad[cell])
        return [good.get(cell) for cell in cells]

    # --- fields

    def _values(self, rule: FieldRule) -> list[Value | None]:
        if rule.constant is not None:
            value = rule.constant
            scale = scaled(value, rule.factor) if isinstance(value, float) else value
            return [scale] * self.table.rows
        cells = [self._cells(column, rule.missing) for column in rule.columns]
        if rule.combine is Combine.JOIN:
            joined = [
                JOIN_MARK.join(text_of(part) for part in parts) if any(p is not None for p in parts) else None
                for parts in zip(*cells, strict=True)
            ]
            return self._mapped(joined, lambda cell: _category(rule, cell), rule.field)
        parse = self._number if rule.kind is Kind.NUMBER else _category
        parsed = [self._mapped(column, lambda cell: parse(rule, cell), rule.field) for column in cells]
        return parsed[0] if len(parsed) == 1 else [_combined(rule, p) for p in zip(*parsed, strict=True)]

    def _told(self, rule: FieldRule) -> list[Told | None]:
        memo: dict[Value | None, Told | None] = {None: None}
        told = []
        for value in self._values(rule):
            if value not in memo:
                memo[value] = Told(value, rule.source) if value is not None else None
            told.append(memo[value])
        return told

    def _number(self, rule: FieldRule, cell: Cell) -> float | None:
        text = text_of(cell)
        if text in rule.values:
            value = rule.values[text]
            return None if isinstance(value, str) else value  # already in the unit of the field
        known = FIELDS.get(rule.field)
        if known and known.unit == "a" and isinstance(cell, str) and rule.unit in {"a", AGE_STRING}:
            years = age_in_years(cell)
            if years is not None:
                return years
        if rule.unit == AGE_STRING:
            raise CellProblem("is not an age such as 034Y")
        if isinstance(cell, float):
            number = finite(cell)
        elif rule.signs and text[:1] in rule.signs:
            number = rule.signs[text[0]] * parse_number(text[1:], self.decimal)
        else:
            number = parse_number(text, self.decimal)
        number = scaled(number, rule.factor)
        if number == 0 and known and known.group is Group.PATIENT and known.low:
            return (
                None  # a weight or height of 0 is how consoles write "not entered", as in the DICOM readers
            )
        # The ends of a span lie where they lie; only their distance is a length.
        if rule.combine is not Combine.SPAN and known and known.low is not None and known.low >= 0 > number:
            raise CellProblem("is negative")
        return number

    # --- place

    def _devices(self) -> list[Device]:
        def column(name: str) -> list[str]:
            rule = self.plan.device.get(name)
            if rule is None:
                return [""] * self.table.rows
            return self._texts(rule.column) if rule.column else [rule.constant] * self.table.rows

        maker, model, serial, software = (column(name) for name in DEVICE_COLUMNS)
        memo: dict[tuple[str, ...], Device] = {}
        devices = []
        for key in zip(maker, model, serial, software, strict=True):
            if key not in memo:
                memo[key] = Device(key[0], key[1], self.pseudonyms.device(key[2]), key[3])
            devices.append(memo[key])
        return devices

    def _hashes(self, columns: tuple[str, ...], hashed: Callable[..., str | None]) -> list[str | None]:
        if not columns:
            return [None] * self.table.rows
        memo: dict[tuple[str, ...], str | None] = {}
        result = []
        for key in zip(*(self._texts(column) for column in columns), strict=True):
            if key not in memo:
                memo[key] = hashed(*key)
            result.append(memo[key])
        return result

    def _times(self) -> list[float | None]:
        columns, pattern = self.plan.time, self.plan.dialect.time_format
        if not columns:
            return [None] * self.table.rows
        name = "+".join(columns)
        if len(columns) == 1:
            return self._mapped(self._cells(columns[0]), lambda c: parse_time(text_of(c), pattern), name)
        pairs = zip(self._texts(columns[0]), self._texts(columns[1]), strict=True)
        joined: list[Cell] = [f"{date}\x1f{clock}" if date and clock else None for date, clock in pairs]
        return self._mapped(joined, lambda c: parse_date_and_time(*text_of(c).split("\x1f")), name)

    def _orders(self) -> list[float]:
        columns = self.plan.order
        if not columns:
            return [0.0] * self.table.rows
        numbers = [
            self._mapped(self._cells(c), lambda cell: parse_number(text_of(cell), self.decimal), c)
            for c in columns
        ]
        if len(columns) == 1:
            return [0.0 if value is None else value for value in numbers[0]]
        # Several columns: the rank of the row among all rows, which shuffling does not change.
        keys = [tuple(float("-inf") if v is None else v for v in key) for key in zip(*numbers, strict=True)]
        ranks = {key: float(rank) for rank, key in enumerate(sorted(set(keys)))}
        return [ranks[key] for key in keys]

    def _mode(self, stated: Mode | None, context: Context) -> Mode:
        default = self.plan.dialect.mode
        if stated is not None or default is not Mode.CLINICAL:
            return stated or default
        texts = tuple(str(context.get(name) or "") for name in _QA_FIELDS)
        if texts not in self._qa:
            self._qa[texts] = looks_like_qa(texts)
        return Mode.QA if self._qa[texts] else default

    def _modes(self) -> list[Mode | None]:
        modes: list[Mode | None] = [None] * self.table.rows
        for rule in self.plan.dialect.modes:
            for row, text in enumerate(self._texts(rule.column)):
                if modes[row] is None and rule.applies(text):
                    modes[row] = rule.mode
        return modes


def text_of(cell: Cell) -> str:
    """A cell as text: numbers as short as they go, so that 128.0 of Parquet and 128 of CSV are the same."""
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else f"{cell:.12g}"


def _category(rule: FieldRule, cell: Cell) -> str | None:
    value = rule.values.get(text_of(cell), text_of(cell))
    text = value if isinstance(value, str) else f"{value:g}"
    return text or None


def _combined(rule: FieldRule, parts: tuple[Any, ...]) -> Value | None:
    given = [part for part in parts if part is not None]
    if not given:
        return None
    match rule.combine:
        case Combine.MEAN:
            return scaled(sum(given) / len(given), 1.0)
        case Combine.MIN:
            return min(given)  # type: ignore[no-any-return]
        case Combine.MAX:
            return max(given)  # type: ignore[no-any-return]
        case Combine.SPAN:
            return max(given) - min(given) if len(given) == len(parts) else None
        case _:
            return given[0]  # type: ignore[no-any-return]


def _context(told: list[tuple[str, Told | None]]) -> Context:
    parts: dict[str, tuple[Told, ...]] = {}
    for name, one in told:
        if one is not None:
            parts[name] = (*parts.get(name, ()), one)
    return Context(parts)
