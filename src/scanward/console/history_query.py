# ruff: noqa: S608 - statements are put together out of this module's texts; what somebody asks for is bound
"""What pages ask of the history: commands by filter, page after page; notes; days against the budget.

Pages are turned by the place of the last row (time and number), never by an offset: the thousandth page costs what the
first one does, and no row is shown twice because newer ones came in.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from scanward.console.history_filters import Filters, begin_of, conditions, equal
from scanward.console.history_store import HistoryStore
from scanward.errors import RequestError

_GRANT: Final = "*, (SELECT count(*) FROM judged WHERE emergency = emergencies.id) AS released"
_CURSOR: Final = re.compile(r"(-?\d{1,12}(?:\.\d{1,17})?)-(\d{1,18})")
_NOWHERE: Final = (1e15, 1 << 62)  # after every row
# The columns that `history_shown.row_view` takes.
SHORT: Final = (
    "id, scanner, log_id, seq, at, kind, examination, request, element, elements, mode, verdict, layer, fields, "
    "reason, p_value, outcome, why, operator, held, carried, emergency, protocol, body_part, age"
)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first; ``older`` and ``newer`` are places to go on from, "" where there is nothing more."""

    rows: list[dict[str, Any]]
    older: str = ""
    newer: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one scanner, CLINICAL mode: examinations that were judged, and those that alerted or halted."""

    day: date
    examinations: int
    alerted: int
    commands: int


def commands(
    store: HistoryStore, filters: Filters, place: str = "", *, newer: bool = False, most: int = 0
) -> Page:
    """A page of ``judged``, before (or, ``newer``, after) a place."""
    clauses, values = conditions(filters)
    return _page(store, "judged", SHORT, "at", clauses, values, place, newer, most)


def notes(
    store: HistoryStore, kind: str = "", scanner: str = "", place: str = "", *, newer: bool = False
) -> Page:
    """A page of what the guards noted."""
    clauses, values = equal(kind=kind, scanner=scanner)
    return _page(store, "notes", "*", "at", clauses, values, place, newer, 0)


def acts(store: HistoryStore, scanner: str = "", place: str = "", *, newer: bool = False) -> Page:
    """A page of operators' acts."""
    clauses, values = equal(scanner=scanner)
    return _page(store, "acts", "*", "at", clauses, values, place, newer, 0)


def grants(store: HistoryStore, scanner: str = "", place: str = "", *, newer: bool = False) -> Page:
    """A page of emergency access, each with what was released under it."""
    clauses, values = equal(scanner=scanner)
    return _page(store, "emergencies", _GRANT, "begun", clauses, values, place, newer, 0)


def unexplained(store: HistoryStore) -> tuple[int, list[dict[str, Any]]]:
    """How many grants of emergency access have no reason, and a page of them, newest first."""
    with store.reading() as db:
        count = int(db.execute("SELECT count(*) FROM emergencies WHERE explained IS NULL").fetchone()[0])
        rows = db.execute(
            f"SELECT {_GRANT} FROM emergencies WHERE explained IS NULL ORDER BY begun DESC, id DESC LIMIT ?",
            (store.bounds.page_rows,),
        )
        return count, [dict(row) for row in rows]


def command(store: HistoryStore, number: int) -> dict[str, Any] | None:
    """One row of ``judged`` with everything, its acts, its chain, its examination's doses; None: no such row."""
    with store.reading() as db:
        row = db.execute("SELECT * FROM judged WHERE id = ?", (number,)).fetchone()
        if row is None:
            return None
        life = (row["request"], row["scanner"], row["log_id"], row["life"])
        same = "request = ? AND scanner = ? AND log_id = ? AND life = ?"
        done = db.execute(
            f"SELECT * FROM acts WHERE {same} AND kind IN ('release', 'refuse', 'call') ORDER BY id", life
        )
        chain = db.execute(
            f"SELECT {SHORT} FROM judged WHERE scanner = ? AND log_id = ? AND seq = ? AND load = ? ORDER BY element",
            (row["scanner"], row["log_id"], row["seq"], row["load"]),
        ).fetchall()
        doses = db.execute(
            "SELECT * FROM doses WHERE scanner = ? AND examination = ? AND examination <> '' ORDER BY id LIMIT 200",
            (row["scanner"], row["examination"]),
        )
        return {
            **dict(row),
            "acts": [dict(one) for one in done] if row["request"] else [],
            "chain": [dict(one) for one in chain],
            "doses": [dict(one) for one in doses],
        }


def count(store: HistoryStore, filters: Filters, most: int = 10_000) -> int:
    """How many commands a filter finds; ``most + 1`` when there are more than ``most``."""
    clauses, values = conditions(filters)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    with store.reading() as db:
        found = db.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM judged {where} LIMIT :most)", {**values, "most": most + 1}
        )
        return int(found.fetchone()[0])


def all_rows(store: HistoryStore, filters: Filters) -> Iterator[list[sqlite3.Row]]:
    """Everything a filter finds, newest first, a thousand rows at a time; RequestError beyond ``csv_rows``.

    Each thousand is a question of its own: nobody waits for somebody's download.
    """
    clauses, values = conditions(filters)
    place = _NOWHERE
    left = store.bounds.csv_rows
    while left > 0:
        more = [*clauses, "(at, id) < (:place_at, :place_id)"]
        with store.reading(store.bounds.csv_seconds) as db:
            found = db.execute(
                f"SELECT * FROM judged WHERE {' AND '.join(more)} ORDER BY at DESC, id DESC LIMIT :most",
                {**values, "place_at": place[0], "place_id": place[1], "most": min(1000, left)},
            ).fetchall()
        if not found:
            return
        yield found
        left -= len(found)
        place = (found[-1]["at"], found[-1]["id"])


def days(store: HistoryStore, scanner: str, since: date, until: date) -> list[Day]:
    """Each day from ``since`` to ``until``, both with them; days without commands too.

    An examination counts once a day; a load without an examination is one of its own. Whatever became of it, an
    examination of which anything was not RELEASE alerted, as the guard's own watch counts.
    """
    whose = "CASE examination WHEN '' THEN '#' || seq ELSE examination END"
    with store.reading() as db:
        found = db.execute(
            f"SELECT date(at, 'unixepoch', 'localtime') AS day, count(DISTINCT {whose}) AS examinations, "
            f"count(DISTINCT CASE WHEN verdict <> 'RELEASE' THEN {whose} END) AS alerted, count(*) AS commands "
            "FROM judged INDEXED BY judged_days WHERE scanner = ? AND at >= ? AND at < ? AND kind = 'command' "
            "AND mode = 'CLINICAL' AND verdict <> '' GROUP BY day",
            (scanner, begin_of(since), begin_of(until + timedelta(days=1))),
        ).fetchall()
    told = {row["day"]: row for row in found}
    every = [since + timedelta(days=n) for n in range((until - since).days + 1)]
    return [
        Day(day, row["examinations"], row["alerted"], row["commands"])
        if (row := told.get(day.isoformat())) is not None
        else Day(day, 0, 0, 0)
        for day in every
    ]


def logs(store: HistoryStore) -> list[dict[str, Any]]:
    """The logs that were imported, those of the same scanner newest first."""
    with store.reading() as db:
        return [dict(row) for row in db.execute("SELECT * FROM logs ORDER BY scanner, read_at DESC, id DESC")]


def kinds(store: HistoryStore) -> list[str]:
    """Kinds of notes that there are."""
    with store.reading() as db:
        return sorted(row["kind"] for row in db.execute("SELECT DISTINCT kind FROM notes"))


# --- inside


def _page(
    store: HistoryStore,
    table: str,
    columns: str,
    time: str,
    clauses: Sequence[str],
    values: Mapping[str, object],
    place: str,
    newer: bool,
    most: int,
) -> Page:
    most = min(most or store.bounds.page_rows, store.bounds.page_rows)
    clauses, bound = list(clauses), dict(values)
    if place:
        found = _CURSOR.fullmatch(place)
        if not found:
            raise RequestError("no place to go on from", place[:40], "take a link of the page")
        clauses.append(f"({time}, id) {'>' if newer else '<'} (:place_at, :place_id)")
        bound |= {"place_at": float(found[1]), "place_id": int(found[2])}
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    order = "ASC" if newer else "DESC"
    with store.reading() as db:
        rows = db.execute(
            f"SELECT {columns} FROM {table} {where} ORDER BY {time} {order}, id {order} LIMIT :most",
            {**bound, "most": most + 1},
        ).fetchall()
    more, rows = len(rows) > most, rows[:most]
    if newer:
        rows.reverse()
    if not rows:
        return Page([])
    older = _place(rows[-1], time) if more or newer else ""
    back = _place(rows[0], time) if (more if newer else place) else ""
    return Page([dict(row) for row in rows], older, back)


def _place(row: sqlite3.Row, time: str) -> str:
    """Where a row stands; the time to its last bit, or pages would overlap."""
    return f"{float(row[time])!r}-{row['id']}"
