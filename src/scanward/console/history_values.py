# ruff: noqa: S608 - statements are put together out of this module's texts; what a record tells is bound
"""What all records have in common on their way into the history: where the import is, safe values of hostile JSON."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.console.history_tail import Entry

Told = Mapping[str, Any]

OF_LOG: Final = "scanner = :scanner AND log_id = :log"
_WORDS: Final = (
    "reason",
    "what",
    "why",
    "error",
    "text",
    "note",
    "act",
    "mode",
    "differs",
    "broken",
    "version",
)


class WrongRecordError(ValueError):
    """A record that does not have what its kind has."""


@dataclass(slots=True)
class Course:
    """Where the import of one log is. ``recent`` are numbers of records of this life, newest last."""

    scanner: str
    log: str
    life: int = 0
    mode: str = "CLINICAL"
    recent: list[int] = field(default_factory=list)
    budget: float | None = None
    bundle: str = ""


class RecordBase:
    """The statements of one record; ``db`` is in a transaction."""

    def __init__(
        self, db: sqlite3.Connection, course: Course, bounds: HistoryBounds = HISTORY_BOUNDS
    ) -> None:
        self.db, self.course, self._bounds = db, course, bounds
        self._entry = Entry(0, 0, 0.0, b"")

    def _run(self, statement: str, **values: object) -> sqlite3.Cursor:
        """One statement. Everything that a record tells is a value, never a part of the text."""
        course, entry = self.course, self._entry
        return self.db.execute(
            statement,
            {
                "scanner": course.scanner,
                "log": course.log,
                "life": course.life,
                "seq": entry.seq,
                "at": entry.at,
                **values,
            },
        )

    def _each(self, ids: Sequence[int], change: str, **values: object) -> None:
        for id_ in ids:
            self._run(f"UPDATE judged SET {change} WHERE id = :id", id=id_, **values)

    def _text(self, value: object) -> str:
        """A text of bounded length that SQLite takes; "" for what is none."""
        if not isinstance(value, str):
            return ""
        return value[: self._bounds.text_chars].encode("utf-8", "replace").decode("utf-8")

    def _open(self, load: str) -> list[sqlite3.Row]:
        """Rows of the undecided load of that name; "" names none."""
        found = self._run(
            f"SELECT id, request, element FROM judged WHERE {OF_LOG} AND load = :load AND outcome = 'pending'"
            " ORDER BY element",
            load=load,
        )
        return found.fetchall()

    def _of_request(self, said: Told) -> list[int]:
        """Rows of a request; where nobody judged it, of the undecided load of that name."""
        request = whole(said.get("request"))
        found = self._run(
            f"SELECT id FROM judged WHERE request = :request AND {OF_LOG} AND life = :life", request=request
        )
        ids = [row["id"] for row in found] if request else []
        return ids or [row["id"] for row in self._open(self._text(said.get("id"))) if not row["request"]]

    def _note(self, said: Told) -> None:
        kind = self._text(said.get("kind")) or "unnamed"
        words = [self._text(said[name]) for name in _WORDS if isinstance(said.get(name), str) and said[name]]
        if kind in ("host", "gantry"):
            words = ["up" if said.get("up") is True else "gone", *words]
        if not words:  # numbers and the like, in the order in which they were told
            plain = [
                (k, v)
                for k, v in said.items()
                if k not in ("kind", "record") and isinstance(v, str | int | float)
            ]
            words = [", ".join(f"{self._text(k)} {str(v)[:64]}" for k, v in plain[:6])]
        self._write_note(kind, ": ".join(words), said)

    def _grant(self, number: int | None) -> int | None:
        """Row of a grant of this life; of the newest when ``number`` is None."""
        row = self._run(
            f"SELECT id FROM emergencies WHERE {OF_LOG} AND life = :life AND (:number IS NULL OR number = :number) "
            "ORDER BY id DESC LIMIT 1",
            number=number,
        ).fetchone()
        return row["id"] if row else None

    def _write_note(self, kind: str, text: str, said: Told) -> None:
        data = json_text({k: v for k, v in said.items() if k not in ("kind", "record")})
        if len(data) > self._bounds.note_chars:
            data = json_text({"clipped": data[: self._bounds.note_chars]})
        self._run(
            "INSERT INTO notes (scanner, log_id, seq, at, kind, text, data) "
            "VALUES (:scanner, :log, :seq, :at, :kind, :text, :data)",
            kind=self._text(kind)[:64],
            text=self._text(text),
            data=data,
        )


def said_of(name: str, parameters: Told, context: Told) -> object:
    """A parameter, or else what the best source tells in the context."""
    if name in parameters:
        return parameters[name]
    told = context.get(name)
    return told[0].get("value") if isinstance(told, list) and told and isinstance(told[0], dict) else None


def mapping(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def whole(value: object) -> int:
    """A whole number that SQLite takes, not below 0; 0 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62:
        return value
    return 0


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        told = float(value)
    except OverflowError:
        return None
    return told if math.isfinite(told) else None


def flag(value: object) -> int | None:
    """1, 0, or None for what is neither true nor false."""
    return int(value) if isinstance(value, bool) else None


def json_text(value: object) -> str:
    """As JSON that SQLite takes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")
