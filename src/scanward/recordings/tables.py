"""Tables from files: CSV, TSV, JSON Lines, Parquet become columns of cells, bad rows noted one by one."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from scanward.errors import DecodeError, InputError
from scanward.recordings.text import choose_delimiter, decode_text, input_is_empty

Cell = str | float | None

MAX_TABLE_BYTES = 1 << 30  # 1 GiB: read whole, so bounded; 100,000 commands are about 30 MB
MAX_COLUMNS = 4096  # a JSON Lines file could otherwise invent a column per row
MAX_CELL = 131_072  # characters; csv's own default, set again because it is a global anybody may have changed
MAX_CELLS = 100_000_000  # a few bytes of a file can promise many: short rows, new keys, a Parquet header

PARQUET_MAGIC = b"PAR1"


@dataclass
class Table:
    """One table in memory.

    ``columns`` holds ``rows`` cells each, None where a row had none. ``problems`` gives for a 0-based row
    (header excluded) why it cannot be used whatever its cells say.
    """

    path: str
    columns: dict[str, list[Cell]]
    rows: int
    problems: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_table(path: Path, *, delimiter: str = "", encoding: str = "") -> Table:
    """Read a table, its format told by its content.

    Raises
    ------
    InputError
        When the file cannot be read, is empty or too large, has no rows, or has the same column twice.
    DecodeError
        When its bytes are not what a table's are.
    """
    where = str(path)
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            raise InputError("the table is larger than 1 GiB", where, "split it into several files")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where, "check the path and its rights"
        ) from error
    if not data:
        raise DecodeError("the file is empty", where, "give a table with a header and at least one row")
    if data[:4] == PARQUET_MAGIC:
        return _parquet(path)
    text, used = decode_text(data, where, encoding)
    table = _json_lines(text, where) if text.lstrip()[:1] == "{" else _csv(text, where, delimiter)
    if used == "cp1252":
        table.notes.append(f"{path.name}: read as Windows-1252, since it is not UTF-8")
    return table


def _csv(text: str, where: str, delimiter: str) -> Table:
    mark = delimiter or choose_delimiter(text)
    lines = _csv_rows(text, mark, where)
    header = [name.strip() for name in next(lines, [])]
    if not any(header):
        raise DecodeError("the table has no header", where, "name the columns in the first line")
    _refuse_duplicates(header, where)
    cells: list[list[Cell]] = [[] for _ in header]
    problems: dict[int, str] = {}
    row = 0
    for line in lines:
        if not line:
            continue  # a blank line is no row, as every reader of CSV has it
        if len(line) != len(header):
            problems[row] = f"the row has {len(line)} cells, the header {len(header)}"
            line = (line + [""] * len(header))[: len(header)]
            _refuse_too_many(row, len(header), where)
        for column, cell in zip(cells, line, strict=True):
            column.append(cell)
        row += 1
    if row == 0:
        raise input_is_empty(where)
    return Table(where, dict(zip(header, cells, strict=True)), row, problems)


def _csv_rows(text: str, mark: str, where: str) -> Iterator[list[str]]:
    before = csv.field_size_limit(MAX_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        try:
            yield from reader
        except csv.Error as error:
            # Where the rows after a broken quote begin cannot be known, so none of them can be trusted.
            raise DecodeError(
                f"line {reader.line_num} is not CSV ({error})",
                where,
                "check the quotes up to there",
            ) from error
    finally:
        csv.field_size_limit(before)


def _refuse_duplicates(header: list[str], where: str) -> None:
    seen: set[str] = set()
    for name in header:
        if name in seen:
            raise InputError(f"the column {name[:80]!r} comes twice", where, "rename or remove one of them")
        seen.add(name)
    if len(header) > MAX_COLUMNS:
        raise InputError(f"the table has more than {MAX_COLUMNS} columns", where, "keep the commands'")


def _refuse_too_many(rows: int, columns: int, where: str) -> None:
    if rows * max(1, columns) > MAX_CELLS:
        raise InputError(f"the table has more than {MAX_CELLS} cells", where, "split it into several files")


class _DuplicateKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


def _json_lines(text: str, where: str) -> Table:
    columns: dict[str, list[Cell]] = {}
    problems: dict[int, str] = {}
    row = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        found: dict[str, Any] = {}
        try:
            parsed = json.loads(line, object_pairs_hook=_object)
            if isinstance(parsed, dict):
                found = parsed
            else:
                problems[row] = "the line is not a JSON object"
        except _DuplicateKeyError:
            problems[row] = "the line has a key twice"
        except (ValueError, RecursionError):
            problems[row] = "the line is not JSON"
        if any(isinstance(value, dict | list) for value in found.values()):
            problems[row] = "the line holds a list or an object where a number or a text is needed"
            found = {}
        for name, value in found.items():
            column = columns.setdefault(name.strip(), [])
            if len(column) > row:  # " KVP" and "KVP": the same column once stripped
                problems[row] = "the line has a key twice"
                continue
            column.extend([None] * (row - len(column)))
            column.append(_cell(value))
        if len(columns) > MAX_COLUMNS:
            raise InputError(
                f"the lines have more than {MAX_COLUMNS} different keys", where, "keep the commands'"
            )
        row += 1
        _refuse_too_many(row, len(columns), where)
    if row == 0:
        raise input_is_empty(where)
    for column in columns.values():
        column.extend([None] * (row - len(column)))
    return Table(where, columns, row, problems)


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        try:
            return float(value)
        except OverflowError:
            return math.inf  # an integer beyond 1e308: as unusable as infinity, and said so
    if isinstance(value, datetime):
        return value.isoformat(sep="T")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "?"  # nested: neither number nor a category anybody knows


def _parquet(path: Path) -> Table:
    where = str(path)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            "Parquet tables need pyarrow", where, "install it with: pip install 'scanward[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            _refuse_too_many(file.metadata.num_rows, file.metadata.num_columns, where)
            names = [name.strip() for name in file.schema_arrow.names]
            _refuse_duplicates(names, where)
            data = file.read()
        rows = data.num_rows
        columns = {
            name: [_cell(value) for value in data.column(number).to_pylist()]
            for number, name in enumerate(names)
        }
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DecodeError("the Parquet file is damaged", where, "write it again") from error
    if rows == 0:
        raise input_is_empty(where)
    return Table(where, columns, rows)
