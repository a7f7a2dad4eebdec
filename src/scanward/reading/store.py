"""What readers answered, in one SQLite file that only grows: answers, drafts and events. No answer is ever lost.

A row is durable before it is acknowledged (write-ahead log, synchronous FULL: SQLite, "Write-Ahead Logging", section
"Performance Considerations"), so that neither a killed server nor a power cut takes it. Nothing is ever changed or
removed; triggers refuse it. Which answer counts is decided when it arrives and kept in its row (`Standing`).

Methods block: a server calls them in a thread. One connection writes and one reads, each under its own lock; other
processes may read and write at the same time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from scanward.config import ANSWER_BOUNDS, AnswerBounds
from scanward.errors import InputError, RequestError, ScanwardError
from scanward.reading.protocol import Answer

FORMAT = "scanward-study-answers-1"

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL, token TEXT NOT NULL, session INTEGER NOT NULL,
    identifier TEXT NOT NULL, revision INTEGER NOT NULL, standing TEXT NOT NULL,
    received_at TEXT NOT NULL, seconds REAL NOT NULL, body BLOB NOT NULL,
    UNIQUE (reader, identifier)
);
CREATE INDEX answers_of_case ON answers (reader, token, standing, revision, session, received_at);
CREATE TABLE drafts (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL, token TEXT NOT NULL, sequence INTEGER NOT NULL,
    received_at TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX drafts_of_case ON drafts (reader, token, sequence);
CREATE TABLE events (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL, value TEXT NOT NULL
);
CREATE INDEX events_of_reader ON events (reader, what);
"""
_TRIGGERS = "".join(
    f"CREATE TRIGGER {table}_{act} BEFORE {act} ON {table} BEGIN SELECT RAISE(ABORT, 'append only'); END;"
    for table in ("facts", "answers", "drafts", "events")
    for act in ("update", "delete")
)


class Standing(StrEnum):
    """Whether an answer counts. All are kept and exported in the history."""

    COUNTS = "counts"  # the first of its revision; the highest revision is the reader's answer
    CONFLICT = "conflict"  # another answer of the same or a later revision came first, from another page
    LATE = "late"  # a revision that came after a later session had begun


class Kept(StrEnum):
    """What became of an answer that was sent."""

    SAVED = "saved"
    DUPLICATE = "duplicate"  # the same answer was there
    CONFLICT = "conflict"  # saved, and does not count
    TAKEN = "taken"  # not saved: its identifier belongs to another answer of this reader


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a reader has clicked so far on a case. ``sequence`` grows by one with every click; the last wins."""

    ratings: dict[str, int] = {}
    confidence: int | None = None
    marks: tuple[tuple[float, float], ...] = ()
    window: tuple[float, float] | None = None
    seconds: float = 0.0
    away: float = 0.0
    sequence: int


@dataclass(frozen=True, slots=True)
class Row:
    """An answer as it is kept. ``received_at`` is the server's clock, UTC."""

    serial: int
    reader: str
    session: int
    standing: Standing
    received_at: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Given:
    """That an answer was given, without what it says."""

    reader: str
    session: int
    token: str
    revision: int
    standing: Standing
    received_at: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a reader: a session opened, a pause."""

    reader: str
    at: str
    what: str
    value: str


class Store:
    """The answers of one study. Close it, or use it as a context manager."""

    def __init__(self, path: Path, protocol_sha256: str, *, bounds: AnswerBounds = ANSWER_BOUNDS) -> None:
        """Open the file, or make it.

        Raises
        ------
        InputError
            Answers of another protocol, or no file of answers.
        ScanwardError
            The disk is full, the file is locked or cannot be written.
        """
        self.path = path
        self.bounds = bounds
        self._closed = False
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        try:  # made here and not by SQLite, which would let everybody read it; its journal takes the same mode
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise _unavailable((error.strerror or "no file").lower(), path) from error
        with self._telling():
            self._writer = self._connect()
            try:
                self._prepare(protocol_sha256)
                self._reader = self._connect()
                self._file = self._identity()
            except BaseException:
                self._writer.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the file; twice does no harm."""
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                self._reader.close()
                self._writer.close()

    # --- answers

    def put_answer(self, reader: str, session: int, answer: Answer, now: datetime) -> Kept:
        """Keep an answer; on return it is durable. ``session`` is that of its token.

        The first answer of a revision counts, the highest revision is the reader's answer. What comes from another
        page about a case that is answered is kept beside it as a conflict; what comes after a later session of this
        reader has begun is kept as late, for it may have been given in sight of the twin.

        Raises
        ------
        RequestError
            More answers to one case than anybody gives.
        """
        told = msgspec.structs.replace(answer, answered_at="")
        with self._writing() as db:
            same = db.execute(
                "SELECT body FROM answers WHERE reader = ? AND identifier = ?", (reader, answer.identifier)
            ).fetchone()
            if same is not None:
                before = msgspec.structs.replace(_answer(same[0]), answered_at="")
                return Kept.DUPLICATE if before == told else Kept.TAKEN
            (count,) = db.execute(
                "SELECT COUNT(*) FROM answers WHERE reader = ? AND token = ?", (reader, answer.token)
            ).fetchone()
            if count >= self.bounds.answers:
                raise _too_many("answers", self.bounds.answers)
            standing = self._standing(db, reader, session, answer)
            db.execute(
                "INSERT INTO answers (reader, token, session, identifier, revision, standing, received_at,"
                " seconds, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    reader,
                    answer.token,
                    session,
                    answer.identifier,
                    answer.revision,
                    standing,
                    stamp(now),
                    answer.seconds,
                    msgspec.json.encode(answer),
                ),
            )
        return Kept.SAVED if standing is Standing.COUNTS else Kept.CONFLICT

    @staticmethod
    def _standing(db: sqlite3.Connection, reader: str, session: int, answer: Answer) -> Standing:
        later = db.execute(
            "SELECT 1 FROM answers WHERE reader = ? AND standing = ? AND session > ? LIMIT 1",
            (reader, Standing.COUNTS, session),
        ).fetchone()
        if later is not None:
            return Standing.LATE
        first = db.execute(
            "SELECT 1 FROM answers WHERE reader = ? AND standing = ? AND token = ? AND revision >= ? LIMIT 1",
            (reader, Standing.COUNTS, answer.token, answer.revision),
        ).fetchone()
        return Standing.COUNTS if first is None else Standing.CONFLICT

    def answered(self, reader: str) -> dict[str, datetime]:
        """When the first answer to each case arrived that counts, by token."""
        rows = self._read(
            "SELECT token, MIN(received_at) FROM answers WHERE reader = ? AND standing = ? GROUP BY token",
            (reader, Standing.COUNTS),
        )
        return {token: moment(at) for token, at in rows}

    def current(self, reader: str, token: str) -> Row | None:
        """The answer to a case that counts: the highest revision. None where there is none."""
        rows = self._rows(
            "WHERE reader = ? AND standing = ? AND token = ? ORDER BY revision DESC LIMIT 1",
            (reader, Standing.COUNTS, token),
        )
        return next(iter(rows), None)

    def every_answer(self) -> Iterator[Row]:
        """All answers in the order they arrived, conflicts and revisions among them."""
        serial = 0
        # few at once: with its acts one may take some MB of memory
        while rows := self._rows("WHERE serial > ? ORDER BY serial LIMIT 16", (serial,)):
            yield from rows
            serial = rows[-1].serial

    def given(self) -> list[Given]:
        """All answers in the order they arrived, without what they say: for whoever must not know."""
        rows = self._read(
            "SELECT reader, session, token, revision, standing, received_at, seconds FROM answers ORDER BY serial",
            (),
        )
        return [Given(a, b, c, d, Standing(e), f, g) for a, b, c, d, e, f, g in rows]

    def _rows(self, where: str, values: tuple[object, ...]) -> list[Row]:
        found = self._read(
            f"SELECT serial, reader, session, standing, received_at, body FROM answers {where}",  # noqa: S608 - ours
            values,
        )
        return [Row(a, b, c, Standing(d), e, _answer(f)) for a, b, c, d, e, f in found]

    # --- drafts

    def put_draft(self, reader: str, token: str, draft: Draft, now: datetime) -> None:
        """Keep what was clicked so far; on return it is durable.

        Raises
        ------
        RequestError
            More drafts of one case than anybody clicks.
        """
        with self._writing() as db:
            (count,) = db.execute(
                "SELECT COUNT(*) FROM drafts WHERE reader = ? AND token = ?", (reader, token)
            ).fetchone()
            if count >= self.bounds.drafts:
                raise _too_many("drafts", self.bounds.drafts)
            db.execute(
                "INSERT INTO drafts (reader, token, sequence, received_at, body) VALUES (?, ?, ?, ?, ?)",
                (reader, token, draft.sequence, stamp(now), msgspec.json.encode(draft)),
            )

    def draft(self, reader: str, token: str) -> Draft | None:
        """The draft of a case with the highest number; of two, the later."""
        rows = self._read(
            "SELECT body FROM drafts WHERE reader = ? AND token = ? ORDER BY sequence DESC, serial DESC LIMIT 1",
            (reader, token),
        )
        return msgspec.json.decode(rows[0][0], type=Draft) if rows else None

    # --- events

    def add_event(self, reader: str, what: str, value: str, now: datetime) -> None:
        """Keep something that happened; beyond the bound nothing more is kept of this reader."""
        with self._writing() as db:
            (count,) = db.execute("SELECT COUNT(*) FROM events WHERE reader = ?", (reader,)).fetchone()
            if count < self.bounds.events_kept:
                db.execute(
                    "INSERT INTO events (reader, at, what, value) VALUES (?, ?, ?, ?)",
                    (reader, stamp(now), what, value),
                )

    def last_event(self, reader: str, what: str) -> Event | None:
        """The newest event of this kind."""
        rows = self._read(
            "SELECT reader, at, what, value FROM events WHERE reader = ? AND what = ? ORDER BY serial DESC LIMIT 1",
            (reader, what),
        )
        return Event(*rows[0]) if rows else None

    def events(self, reader: str, what: str) -> list[Event]:
        """All events of this kind, in order."""
        rows = self._read(
            "SELECT reader, at, what, value FROM events WHERE reader = ? AND what = ? ORDER BY serial",
            (reader, what),
        )
        return [Event(*row) for row in rows]

    def last_seen(self) -> dict[str, str]:
        """When each reader last answered, clicked or paused."""
        rows = self._read(
            "SELECT reader, MAX(at) FROM (SELECT reader, MAX(received_at) AS at FROM answers GROUP BY reader"
            " UNION ALL SELECT reader, MAX(received_at) FROM drafts GROUP BY reader"
            " UNION ALL SELECT reader, MAX(at) FROM events GROUP BY reader) GROUP BY reader",
            (),
        )
        return dict(rows)

    # --- the file

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, timeout=self.bounds.busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, protocol_sha256: str) -> None:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        with _transaction(db):
            (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if tables == 0:
                for statement in _statements(_TABLES + _TRIGGERS):
                    db.execute(statement)
                facts = {"format": FORMAT, "protocol_sha256": protocol_sha256}
                db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
            try:
                facts = dict(db.execute("SELECT name, value FROM facts"))
            except sqlite3.OperationalError:
                facts = {}
        if facts.get("format") != FORMAT:
            raise InputError("no file of answers", str(self.path), f"move it away; this writes {FORMAT}")
        if facts.get("protocol_sha256") != protocol_sha256:
            raise InputError(
                "answers of another protocol",
                str(self.path),
                "bring back the protocol these answers were given to; nothing was changed",
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when it is left without an error."""
        if not self._write_lock.acquire(timeout=self.bounds.busy_seconds):
            raise _unavailable("the database is busy", self.path)
        try:
            with self._telling():
                self._writer.execute("BEGIN IMMEDIATE")
                with _transaction(self._writer):
                    yield self._writer
            if self._identity() != self._file:  # SQLite goes on writing where nobody will ever look
                raise _unavailable("the file was deleted or replaced; stop the server", self.path)
        finally:
            self._write_lock.release()

    def _identity(self) -> tuple[tuple[int, int], ...]:
        """Which files lie under the names of the database and its log: device and inode, (0, 0) for none."""
        found = []
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                told = path.stat()
                found.append((told.st_dev, told.st_ino))
            except OSError:
                found.append((0, 0))
        return tuple(found)

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._read_lock, self._telling(), closing(self._reader.execute(statement, values)) as cursor:
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise _unavailable(str(error), self.path) from error


def _too_many(what: str, bound: int) -> RequestError:
    return RequestError(f"more than {bound} {what} of one case", what, "go on with another case", status=422)


def _unavailable(what: str, path: Path) -> ScanwardError:
    return ScanwardError(
        f"nothing can be saved now: {what}",
        path.name,
        "look at the disk; pages keep their answers and try again",
    )


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one, so that they share one transaction."""
    waiting = ""
    for piece in script.split(";"):
        waiting += piece + ";"
        if sqlite3.complete_statement(waiting):
            yield waiting.strip()
            waiting = ""


def _answer(body: bytes) -> Answer:
    return msgspec.json.decode(body, type=Answer)


def stamp(now: datetime) -> str:
    """UTC with milliseconds, as 2026-03-01T09:30:00.000Z: sorts as time does."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The inverse of `stamp`."""
    return datetime.fromisoformat(text)
