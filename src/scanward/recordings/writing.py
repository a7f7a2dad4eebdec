"""Commands out to a CSV table and the dialect that reads it back: for simulated sites, tests and exchange.

Columns are DICOM keywords; a part of the context is ``FIELD@source`` unless the host told it. What a column's
name cannot say (the role of a field, the kind of a site parameter, the mode) is said by the dialect.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scanward.commands import FIELDS, Command, Group, Kind, Mode, Role, Source, Value
from scanward.errors import InputError
from scanward.recordings.dialect import (
    ALIASES,
    DEVICE_COLUMNS,
    EVENT_COLUMN,
    EXAMINATION_COLUMN,
    ORDER_COLUMNS,
    TIME_COLUMNS,
    Dialect,
    FieldRule,
    ModeRule,
)
from scanward.recordings.dialect_dump import dump_dialect

MODE_COLUMN = "Mode"
_PLACE = (*DEVICE_COLUMNS, EXAMINATION_COLUMN, EVENT_COLUMN, TIME_COLUMNS[0], ORDER_COLUMNS[0], MODE_COLUMN)
_RESERVED = frozenset({*_PLACE, *TIME_COLUMNS, *ORDER_COLUMNS, *ALIASES})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPLIT = "split them into several tables"


def write_table(commands: Iterable[Command], path: Path, dialect_path: Path | None = None) -> Dialect:
    """Write ``commands``, one row each in their order, to a CSV table.

    ``dialect_path`` gets the dialect that ``read`` needs for them. Reading back gives the same commands, save
    that identifiers (examination, event, serial number) are hashed once more and that times lie on whole
    microseconds.

    Raises
    ------
    InputError
        When the commands have different roles, or say what no table can hold: a value that is not finite or
        has space around it, a field of two roles, two words of one source on one part of the context.
    """
    rows = list(commands)
    where = str(path)
    dialect = _dialect(rows, where)
    cells = [_cells(command, where) for command in rows]
    present = {name for row in cells for name in row}
    columns = [c for c in _PLACE if c in present] + sorted(present - set(_PLACE))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)
    if dialect_path is not None:
        dialect_path.write_text(dump_dialect(dialect), encoding="utf-8")
    return dialect


def _dialect(rows: Sequence[Command], where: str) -> Dialect:
    if not rows:
        raise InputError("there are no commands to write", where, "give at least one")
    roles = {command.role for command in rows}
    if len(roles) > 1:
        raise InputError(f"the commands have different roles ({', '.join(sorted(roles))})", where, _SPLIT)
    role = rows[0].role
    of_field: dict[str, set[Role]] = {}
    kinds: dict[tuple[str, Group, Source], set[Kind]] = {}
    for command in rows:
        for name, value in command.parameters.items():
            of_field.setdefault(name, set()).add(command.role_of(name))
            kinds.setdefault((name, Group.MACHINE, Source.HOST), set()).add(_kind(value))
        for name, told in command.context.parts.items():
            for one in told:
                kinds.setdefault((name, Group.PATIENT, one.source), set()).add(_kind(one.value))
    rules = []
    for (name, group, source), found in kinds.items():
        known = FIELDS.get(name)
        mine = of_field.get(name, {role}) if group is Group.MACHINE else {role}
        if name in _RESERVED or (known and (known.group is Group.MACHINE) != (group is Group.MACHINE)):
            raise InputError(f"{name} cannot name such a column", where, "give the field another name")
        if len(mine) > 1:
            raise InputError(f"{name} has more than one role ({', '.join(sorted(mine))})", where, _SPLIT)
        own = next(iter(mine))
        if known and own is role:
            continue  # the column's name says it all
        kind = known.kind if known else (Kind.NUMBER if found == {Kind.NUMBER} else Kind.CATEGORY)
        unit = known.unit if known else ""
        rules.append(
            FieldRule(
                name,
                (_column(name, source),),
                kind,
                known.group if known else group,
                unit,
                unit,
                role=None if own is role else own,
                source=source,
                optional=True,
            )
        )
    modes = tuple(ModeRule(mode, MODE_COLUMN, (mode.value,)) for mode in Mode)
    return Dialect(
        name="written by Scanward",
        role=role,
        missing=("",),
        delimiter=",",
        encoding="utf-8",
        decimal=".",
        fields=tuple(sorted(rules, key=lambda rule: (rule.field, rule.source))),
        modes=modes if any(command.mode is not Mode.CLINICAL for command in rows) else (),
    )


def _kind(value: Value) -> Kind:
    return Kind.CATEGORY if isinstance(value, str) else Kind.NUMBER


def _column(name: str, source: Source) -> str:
    return name if source is Source.HOST else f"{name}@{source}"


def _cells(command: Command, where: str) -> dict[str, str]:
    device = command.device
    cells = dict(
        zip(DEVICE_COLUMNS, (device.manufacturer, device.model, device.serial, device.software), strict=True),
    )
    cells[EXAMINATION_COLUMN] = command.examination or ""
    cells[EVENT_COLUMN] = command.event or ""
    cells[ORDER_COLUMNS[0]] = _text(command.order, ORDER_COLUMNS[0], where)
    cells[MODE_COLUMN] = command.mode.value
    if command.acquired_at is not None:
        cells[TIME_COLUMNS[0]] = _moment(command.acquired_at, where)
    for name, value in command.parameters.items():
        cells[name] = _text(value, name, where)
    for name, told in command.context.parts.items():
        for one in told:
            column = _column(name, one.source)
            if column in cells:
                raise InputError(f"{one.source} said two things of {name}", where, "keep one of them")
            cells[column] = _text(one.value, name, where)
    return cells


def _text(value: Value, name: str, where: str) -> str:
    if isinstance(value, str):
        if not value or value != value.strip() or "\0" in value:
            raise InputError(f"{name} is {value!r}, which no cell can hold", where, "strip the text")
        return value
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}, which no table can hold", where, "leave it out")
    return repr(float(value)).removesuffix(".0")


def _moment(seconds: float, where: str) -> str:
    """DICOM DT, wall clock (PS3.5 6.2)."""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        raise InputError(f"{seconds!r} s is no time of a calendar", where, "leave it out") from error
    return f"{moment.year:04d}{moment:%m%d%H%M%S}.{moment.microsecond:06d}"
