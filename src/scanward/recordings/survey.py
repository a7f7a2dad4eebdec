"""What a recording holds, told to a person: columns, fields, devices, examinations, roles, the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanward.commands import FIELDS, Command, Kind, Role
from scanward.errors import InputError
from scanward.recordings.books import Recording, Rejected
from scanward.recordings.dialect import Dialect, FieldRule
from scanward.recordings.examinations import examinations
from scanward.recordings.guessing import Guess, guess, guess_unit
from scanward.recordings.plan import Plan, make_plan
from scanward.recordings.reading import find, kind_of, read
from scanward.recordings.rows import text_of
from scanward.recordings.tables import Cell, Table, load_table
from scanward.recordings.units import CellProblem, parse_number

_TOP = 5  # values shown of a category
_FEW = 40  # distinct texts up to which an unknown column may be shown: beyond, it may name people


@dataclass(frozen=True, slots=True)
class ColumnSurvey:
    """One column of a table. ``top`` is empty for what may identify somebody; a share is of all rows."""

    table: str
    column: str
    fields: tuple[str, ...]
    unit: str
    role: str
    kind: str
    missing: float
    low: float | None = None
    high: float | None = None
    top: tuple[tuple[str, int], ...] = ()
    identifying: bool = False
    guess: Guess | None = None


@dataclass(frozen=True, slots=True)
class FieldSurvey:
    """One field of the commands, after conversion."""

    field: str
    unit: str
    group: str
    roles: tuple[str, ...]
    missing: float
    low: float | None = None
    high: float | None = None
    top: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Survey:
    """Everything ``inspect`` shows. ``problem`` says why no command came of it, when none did."""

    recording: Recording
    columns: tuple[ColumnSurvey, ...]
    plans: dict[str, Plan] = field(default_factory=dict)
    problem: InputError | None = None

    def fields(self) -> tuple[FieldSurvey, ...]:
        """Every field that any command carries."""
        return _fields(self.recording.commands)

    def as_json(self) -> dict[str, Any]:
        """The document that ``inspect --json`` prints."""
        commands = self.recording.commands
        exams = examinations(commands)
        known = {c.examination for c in commands if c.examination is not None}
        devices = Counter((c.device.manufacturer, c.device.model, c.device.software) for c in commands)
        return {
            "books": self.recording.books(),
            "columns": [_column_json(column) for column in self.columns],
            "fields": [
                {
                    "field": f.field, "unit": f.unit, "group": f.group, "roles": list(f.roles),
                    "missing": f.missing, "min": f.low, "max": f.high, "top": [list(t) for t in f.top],
                }
                for f in self.fields()
            ],
            "devices": [
                {"manufacturer": maker, "model": model, "software": software, "commands": count}
                for (maker, model, software), count in devices.most_common()
            ],
            "examinations": {
                "known": len(known),
                "commands_without": sum(c.examination is None for c in commands),
                "longest": max((len(e.commands) for e in exams), default=0),
            },
            "modes": dict(Counter(str(c.mode) for c in commands)),
            "roles": dict(Counter(str(c.role) for c in commands)),
            "notes": list(self.recording.notes),
            "problem": self.problem.as_json() if self.problem else None,
        }  # fmt: skip


def survey(
    paths: Sequence[Path],
    *,
    dialect: Dialect | None = None,
    site_key: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Survey:
    """Read ``paths`` as ``read`` does, and look at the columns of their tables as well.

    Raises
    ------
    InputError
        As ``read``; but tables that need a dialect are surveyed all the same, with their rows rejected.
    """
    columns: list[ColumnSurvey] = []
    plans: dict[str, Plan] = {}
    tables: list[Table] = []
    for path in find(paths).files:
        try:
            if kind_of(path) != "table":
                continue
            table = load_table(
                path,
                delimiter=dialect.delimiter if dialect else "",
                encoding=dialect.encoding if dialect else "",
            )
            plan = make_plan(list(table.columns), dialect, table.path)
        except InputError:
            continue  # the books say why
        tables.append(table)
        if any(plan.used) or path.suffix.lower() in {".csv", ".tsv", ".parquet", ".jsonl"}:
            plans[table.path] = plan
            columns += _columns(table, plan)
    try:
        recording = read(paths, dialect=dialect, site_key=site_key, progress=progress, workers=workers)
    except InputError as error:
        if not columns or not plans or any(plan.has_machine_field for plan in plans.values()):
            raise
        return Survey(_all_rejected(tables, error), tuple(columns), plans, error)
    return Survey(recording, tuple(columns), plans)


def _all_rejected(tables: list[Table], error: InputError) -> Recording:
    from scanward.commands import Origin

    rejected = tuple(
        Rejected(Origin(table.path, row), error.what) for table in tables for row in range(table.rows)
    )
    return Recording(rejected, len(tables))


def _columns(table: Table, plan: Plan) -> list[ColumnSurvey]:
    rules: dict[str, list[FieldRule]] = {}
    for rule in plan.rules:
        for column in rule.columns:
            rules.setdefault(column, []).append(rule)
    return [
        _column(table, column, cells, rules.get(column, []), plan) for column, cells in table.columns.items()
    ]


def _column(table: Table, column: str, cells: list[Cell], rules: list[FieldRule], plan: Plan) -> ColumnSurvey:
    absent = {*plan.dialect.missing, *(m for rule in rules for m in rule.missing)}
    given = [text for cell in cells if (text := text_of(cell).strip()) not in absent]
    numbers = _numbers(given, plan.dialect.decimal)
    identifying = column in plan.identifying
    is_number = len(numbers) * 2 > len(given) if not rules else rules[0].kind is Kind.NUMBER
    used = plan.used.get(column, ())
    guessed = None
    if not identifying and not used and column not in plan.dialect.ignore:
        guessed = guess(column, numbers, len(given) - len(numbers))
    elif len(rules) == 1 and is_number and rules[0].field in FIELDS and numbers:
        fitting = guess_unit(rules[0].field, numbers)
        if fitting is not None and rules[0].unit != fitting and not _fits(rules[0], numbers):
            guessed = Guess(rules[0].field, fitting, "range")
    missing = 1 - len(given) / table.rows
    roles = {str(rule.role or plan.dialect.role) for rule in rules if not rule.is_context}
    common = (
        table.path, column, used, rules[0].unit if rules else "", "/".join(sorted(roles)),
        "number" if is_number and given else "category", missing,
    )  # fmt: skip
    if identifying:
        return ColumnSurvey(*common, identifying=True)
    if is_number and numbers:
        return ColumnSurvey(*common, low=min(numbers), high=max(numbers), guess=guessed)
    return ColumnSurvey(*common, top=_top(given, bool(rules)), guess=guessed)


def _fits(rule: FieldRule, numbers: Sequence[float]) -> bool:
    """Whether the numbers, as the rule reads them, are typical in the field's own unit."""
    return guess_unit(rule.field, [n * rule.factor for n in numbers]) == FIELDS[rule.field].unit


def _numbers(texts: Sequence[str], decimal: str) -> list[float]:
    """The numbers among ``texts``; with a decimal comma when that makes more of them numbers."""
    if not decimal:
        return max((_numbers(texts, mark) for mark in ".,"), key=len)
    numbers = []
    for text in texts:
        try:
            numbers.append(parse_number(text, decimal))
        except CellProblem:
            continue
    return numbers


def _top(texts: Sequence[str], known: bool) -> tuple[tuple[str, int], ...]:
    """The commonest values; of unknown columns only repeated ones of a few: others may name people."""
    counts = Counter(texts)
    if not known and len(counts) > _FEW:
        return ()
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((value, count) for value, count in shown if known or count > 1)[:_TOP]


def _fields(commands: Sequence[Command]) -> tuple[FieldSurvey, ...]:
    values: dict[str, list[float | str]] = {}
    roles: dict[str, set[Role]] = {}
    context: set[str] = set()
    for command in commands:
        for name, value in command.parameters.items():
            values.setdefault(name, []).append(value)
            roles.setdefault(name, set()).add(command.role_of(name))
        for name, told in command.context.parts.items():
            values.setdefault(name, []).append(told[0].value)
            context.add(name)
    found = []
    for name, column in values.items():
        known = FIELDS.get(name)
        numbers = [value for value in column if isinstance(value, float)]
        found.append(
            FieldSurvey(
                name, known.unit if known else "",
                str(known.group) if known else "context" if name in context else "machine",
                tuple(sorted(str(role) for role in roles.get(name, ()))),
                1 - len(column) / len(commands), min(numbers, default=None), max(numbers, default=None),
                () if numbers else _top([str(value) for value in column], known=True),
            )
        )  # fmt: skip
    return tuple(found)


def _column_json(column: ColumnSurvey) -> dict[str, Any]:
    return {
        "table": column.table, "column": column.column, "fields": list(column.fields), "unit": column.unit,
        "role": column.role, "kind": column.kind, "missing": column.missing, "min": column.low,
        "max": column.high, "top": [list(t) for t in column.top], "identifying": column.identifying,
        "guess": None if column.guess is None else
        {"field": column.guess.field, "unit": column.guess.unit, "why": column.guess.why},
    }  # fmt: skip
