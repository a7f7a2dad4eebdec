"""Commands as CSV (RFC 4180, UTF-8 with its mark, which spreadsheets need). No cell can begin a formula.

Protocol names come from a host, which may be an attacker's; a spreadsheet would carry out a cell that begins with ``=``
(CWE-1236). Such texts get an apostrophe in front; numbers are numbers.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

from scanward.console.history_filters import Filters
from scanward.console.history_query import all_rows
from scanward.console.history_shown import mapping, moment, texts, visible
from scanward.console.history_store import HistoryStore

# One column each; everything else of a command stands in ``parameters``.
PARAMETERS: Final = (
    "AcquisitionType",
    "KVP",
    "XRayTubeCurrentInmA",
    "RevolutionTime",
    "SpiralPitchFactor",
    "TotalCollimationWidth",
    "ScanLength",
    "CTDIvol",
    "CTDIwPhantomType",
    "DLP",
)
COLUMNS: Final = (
    "number",
    "scanner",
    "time",
    "seconds_since_1970",
    "log",
    "record",
    "kind",
    "mode",
    "examination",
    "request",
    "element",
    "elements",
    "ProtocolName",
    "BodyPartExamined",
    "PatientAge",
    "verdict",
    "layer",
    "fields",
    "reason",
    "p_value",
    "outcome",
    "what_became_of_it",
    "operator",
    "held",
    "carried_out",
    "bundle",
    *PARAMETERS,
    "parameters",
    "context",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def pieces(store: HistoryStore, filters: Filters, names: Mapping[str, str]) -> Iterator[bytes]:
    """The file: its head, then a thousand rows at a time. ``names``: of scanners by id."""
    yield b"\xef\xbb\xbf" + _lines([list(COLUMNS)])
    for rows in all_rows(store, filters):
        yield _lines([_cells(row, names) for row in rows])


def _cells(row: sqlite3.Row, names: Mapping[str, str]) -> list[object]:
    parameters = mapping(row["parameters"])
    return [
        row["id"],
        names.get(row["scanner"], row["scanner"]),
        moment(row["at"]),
        row["at"],
        row["log_id"],
        row["seq"],
        row["kind"],
        row["mode"],
        row["examination"],
        row["request"],
        row["element"] + 1,
        row["elements"],
        row["protocol"],
        row["body_part"],
        row["age"],
        row["verdict"],
        row["layer"],
        " ".join(texts(row["fields"])),
        row["reason"],
        row["p_value"],
        row["outcome"],
        row["why"],
        row["operator"],
        moment(row["held"]),
        moment(row["carried"]),
        row["bundle"],
        *(parameters.get(name) for name in PARAMETERS),
        row["parameters"],
        row["context"],
    ]


def _lines(rows: list[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_safe(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _safe(cell: object) -> object:
    if cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)):
        return cell
    text = visible(cell)
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) else text
