"""A dialect fitted to the columns of one table: what every column is for, and which are left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scanward.commands import FIELDS, Group
from scanward.errors import DialectError, InputError
from scanward.recordings.dialect import (
    ALIASES,
    DEVICE_COLUMNS,
    EVENT_COLUMN,
    EXAMINATION_COLUMN,
    ORDER_COLUMNS,
    TIME_COLUMNS,
    DeviceRule,
    Dialect,
    FieldRule,
    is_identifying,
    known_rule,
    split_source,
)


@dataclass(frozen=True)
class Plan:
    """What is read from where in one table.

    ``used`` maps a column to what it serves as (field names, ``examination``, ``time``...); columns
    in neither ``used`` nor ``identifying`` are unknown and ignored.
    """

    dialect: Dialect
    rules: tuple[FieldRule, ...]
    device: dict[str, DeviceRule]
    examination: tuple[str, ...]
    event: tuple[str, ...]
    order: tuple[str, ...]
    time: tuple[str, ...]
    used: dict[str, tuple[str, ...]] = field(default_factory=dict)
    identifying: tuple[str, ...] = ()

    @property
    def has_machine_field(self) -> bool:
        """Whether a row of the table can be a command at all."""
        return any(rule.columns and not rule.is_context for rule in self.rules)


def make_plan(columns: Sequence[str], dialect: Dialect | None, where: str) -> Plan:
    """Fit ``dialect`` (or the one of DICOM keywords) to a table's columns.

    Raises
    ------
    DialectError
        When the dialect names a column that the table lacks.
    """
    chosen = dialect or Dialect()
    present = set(columns)
    for column in chosen.columns():
        if column not in present:
            raise DialectError(
                f"the dialect names the column {column!r}, which the table lacks",
                f"{chosen.where or 'dialect'}, {where}",
                "correct the dialect, or mark the field optional = true",
            )
    rules = [
        rule for rule in chosen.fields if rule.constant is not None or any(c in present for c in rule.columns)
    ]
    taken = {*chosen.columns(), *chosen.ignore, *(c for rule in chosen.fields for c in rule.columns)}
    told = {(rule.field, rule.source) for rule in chosen.fields}
    if chosen.keywords:
        free = [column for column in columns if column not in taken]
        # The field's own name goes before another keyword for it, whatever the order of the columns.
        for column in sorted(free, key=lambda c: c.partition("@")[0] in ALIASES):
            rule = _keyword_rule(column, chosen)
            if rule and (rule.field, rule.source) not in told:
                rules.append(rule)
                told.add((rule.field, rule.source))
    device = dict(chosen.device)
    may_use = present - set(chosen.ignore) if chosen.keywords else set()
    for column in DEVICE_COLUMNS:
        if column not in device and column in may_use:
            device[column] = DeviceRule(column=column)
    examination = chosen.examination or _those(may_use, EXAMINATION_COLUMN)
    event = chosen.event or _those(may_use, EVENT_COLUMN)
    time = chosen.time or _time_columns(may_use)
    order = chosen.order or next((_those(may_use, c) for c in ORDER_COLUMNS if c in may_use), ())
    used: dict[str, list[str]] = {}
    for rule in rules:
        for column in rule.columns:
            used.setdefault(column, []).append(rule.field)
    for name, rule_ in device.items():
        if rule_.column:
            used.setdefault(rule_.column, []).append(name)
    for what, names in (("examination", examination), ("event", event), ("order", order), ("time", time)):
        for column in names:
            used.setdefault(column, []).append(what)
    for mode in chosen.modes:
        used.setdefault(mode.column, []).append("mode")
    # What tells examinations and events apart is an identifier, whatever it is called.
    identifying = tuple(c for c in columns if is_identifying(c) or c in {*examination, *event})
    return Plan(
        chosen, tuple(rules), device, examination, event, order, time,
        {column: tuple(what) for column, what in used.items()}, identifying,
    )  # fmt: skip


def refuse_without_machine_field(plan: Plan, where: str) -> None:
    """InputError when no column of the table is a machine field: then no row can be a command."""
    if not plan.has_machine_field:
        raise InputError(
            "no column is a known machine field",
            where,
            "name columns by DICOM keywords, or: scanward inspect TABLE --write-dialect OUT.toml",
        )


def _those(present: set[str], *columns: str) -> tuple[str, ...]:
    return tuple(c for c in columns if c in present)


def _time_columns(present: set[str]) -> tuple[str, ...]:
    moment, date, clock = TIME_COLUMNS
    if moment in present:
        return (moment,)
    return (date, clock) if {date, clock} <= present else ()


def _keyword_rule(column: str, dialect: Dialect) -> FieldRule | None:
    base, source = split_source(column)
    name, unit = ALIASES.get(base, (base, ""))
    known = FIELDS.get(name)
    if known is None or (source and known.group is Group.MACHINE):
        return None
    rule = known_rule(name, column, unit=unit, source=source or dialect.source)
    if unit and unit != known.unit:
        from scanward.recordings.units import factor

        by = factor(unit, known.unit)
        assert by is not None  # the aliases are ours
        return FieldRule(name, (column,), known.kind, known.group, unit, known.unit, by, source=rule.source)
    return rule
