"""The file of history: SQLite, made out of the audit logs, read by the pages. It may be deleted: it is made again.

What is proof is the audit log. This file makes it searchable, and keeps what was imported when a log is changed later.
One thread writes (`HistoryStore.writing`), any number read (`HistoryStore.reading`); WAL, so nobody waits for anybody.
All functions here block: pages call them in threads.

``judged`` has one row per element of each load that the gate took in, and per motion:

==============  =====================================================================================================
column          what
==============  =====================================================================================================
``seq``, ``at``   record of the load in its log, and when (s since 1970)
``life``        record of the relay's start: requests and loads count anew after it
``load``        the host's name of it; hostile text
``kind``        ``command`` or ``motion``
``request``     the gate's number, 0 while (or because) it was never judged
``element``     0-based place in the chain of ``elements``
``verdict``     RELEASE, ALERT, HALT; "" when there was none. Of the element where the log tells, else of the load
``fields``      JSON list of the fields that were objected to
``outcome``     see `OUTCOMES`
``why``         what became of it, in words; the note of a release, the reason of a refusal
``carried``     when the element was first triggered or began by itself; NULL: not carried out. ``shots``: how often
``token``       number of the release's record in its life; NULL: not released
``emergency``   row in ``emergencies`` under which it was released; NULL: none
``context``     JSON: field -> list of {value, source}, best source first
==============  =====================================================================================================
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.errors import InputError, RequestError

APPLICATION: Final = 0x53435748  # "SCWH": whose file it is
VERSION: Final = 1
BUSY_SECONDS: Final = 10.0  # s to wait for the importer's commit
_OPCODES: Final = 20_000  # of SQLite's machine between two looks at the clock: about 1 ms

OUTCOMES: Final = {
    "pending": "not decided yet",
    "released": "passed on to the gantry",
    "refused": "not passed on",
    "halted": "not passed on, for nobody may release it",
    "shadow": "passed on in shadow mode alone: it would have been held or halted",
    "superseded": "judged again, because its context or a bundle changed",
    "unknown": "released, and the log does not say whether it was sent: it may have reached the gantry",
}

_SCHEMA: Final = """
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    segment TEXT NOT NULL,
    offset INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    head BLOB NOT NULL,
    durable INTEGER NOT NULL,
    fresh TEXT NOT NULL DEFAULT '[]',
    first_seq INTEGER NOT NULL,
    life INTEGER NOT NULL DEFAULT 0,
    mode TEXT NOT NULL DEFAULT 'CLINICAL',
    recent TEXT NOT NULL DEFAULT '[]',
    budget REAL,
    bundle TEXT NOT NULL DEFAULT '',
    read_at REAL NOT NULL,
    record_at REAL,
    checkpoint_seq INTEGER NOT NULL DEFAULT 0,
    checkpoint_at REAL,
    findings TEXT NOT NULL DEFAULT '[]',
    verified_at REAL,
    report TEXT,
    UNIQUE (scanner, log_id)
) STRICT;
CREATE TABLE judged (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    life INTEGER NOT NULL,
    load TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    examination TEXT NOT NULL,
    patient TEXT NOT NULL,
    request INTEGER NOT NULL DEFAULT 0,
    element INTEGER NOT NULL,
    elements INTEGER NOT NULL,
    mode TEXT NOT NULL,
    verdict TEXT NOT NULL DEFAULT '',
    layer TEXT NOT NULL DEFAULT '',
    fields TEXT NOT NULL DEFAULT '[]',
    reason TEXT NOT NULL DEFAULT '',
    p_value REAL,
    score REAL,
    bundle TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT 'pending',
    why TEXT NOT NULL DEFAULT '',
    token INTEGER,
    held REAL,
    operator TEXT NOT NULL DEFAULT '',
    carried REAL,
    shots INTEGER NOT NULL DEFAULT 0,
    fired TEXT NOT NULL DEFAULT '',
    emergency INTEGER,
    protocol TEXT NOT NULL,
    body_part TEXT NOT NULL,
    age REAL,
    parameters TEXT NOT NULL,
    context TEXT NOT NULL
) STRICT;
CREATE INDEX judged_at ON judged (at);
CREATE INDEX judged_of ON judged (scanner, at);
CREATE INDEX judged_days ON judged (scanner, at, kind, mode, verdict, examination, seq);
CREATE INDEX judged_verdicts ON judged (verdict, at);
CREATE INDEX judged_layers ON judged (layer, at) WHERE layer <> '';
CREATE INDEX judged_outcomes ON judged (outcome, at);
CREATE INDEX judged_operators ON judged (operator, at) WHERE operator <> '';
CREATE INDEX judged_examinations ON judged (examination, at);
CREATE INDEX judged_requests ON judged (request, scanner, log_id, life);
CREATE INDEX judged_emergencies ON judged (emergency, at) WHERE emergency IS NOT NULL;
CREATE INDEX judged_open ON judged (scanner, log_id, load) WHERE outcome = 'pending';
CREATE INDEX judged_loads ON judged (load, id);
CREATE TABLE objected (
    field TEXT NOT NULL,
    judged INTEGER NOT NULL REFERENCES judged (id) ON DELETE CASCADE,
    PRIMARY KEY (field, judged)
) STRICT, WITHOUT ROWID;
CREATE INDEX objected_of ON objected (judged);
CREATE TABLE acts (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    life INTEGER NOT NULL,
    kind TEXT NOT NULL,
    operator TEXT NOT NULL,
    request INTEGER NOT NULL,
    done INTEGER NOT NULL,
    reason TEXT NOT NULL,
    refused TEXT NOT NULL,
    digest TEXT NOT NULL,
    peer TEXT NOT NULL,
    user TEXT NOT NULL,
    local INTEGER
) STRICT;
CREATE INDEX acts_at ON acts (at);
CREATE INDEX acts_of ON acts (scanner, at);
CREATE INDEX acts_requests ON acts (request, scanner, log_id, life);
CREATE TABLE emergencies (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    life INTEGER NOT NULL,
    number INTEGER NOT NULL,
    operator TEXT NOT NULL,
    begun REAL NOT NULL,
    minutes REAL,
    request INTEGER NOT NULL,
    ended REAL,
    ended_why TEXT NOT NULL DEFAULT '',
    loads INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL,
    explained REAL,
    explained_by TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX emergencies_at ON emergencies (begun);
CREATE INDEX emergencies_of ON emergencies (scanner, begun);
CREATE INDEX emergencies_open ON emergencies (begun) WHERE explained IS NULL;
CREATE TABLE doses (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    load TEXT NOT NULL,
    element INTEGER,
    examination TEXT NOT NULL,
    patient TEXT NOT NULL,
    phantom INTEGER NOT NULL,
    ctdivol REAL,
    dlp REAL,
    acknowledged INTEGER,
    aborted INTEGER
) STRICT;
CREATE INDEX doses_of ON doses (scanner, at);
CREATE INDEX doses_examinations ON doses (examination);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    scanner TEXT NOT NULL,
    log_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX notes_at ON notes (at);
CREATE INDEX notes_of ON notes (scanner, at);
CREATE INDEX notes_kinds ON notes (kind, at);
"""


class HistoryStore:
    """The file at ``path``; made when it is not there, mode 0600.

    Raises
    ------
    InputError
        When it cannot be used, or is no history of this version.
    """

    def __init__(self, path: Path, bounds: HistoryBounds = HISTORY_BOUNDS) -> None:
        self.path, self.bounds = path, bounds
        self._writer_lock, self._idle_lock = threading.RLock(), threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            # Made here and not by SQLite, which would let everybody read it; its journal takes the same mode.
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(made, 0o600)
            finally:
                os.close(made)
            self._writer = self._connect("rw")
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._writer.close()
            raise _unusable(path, error) from error
        except InputError:
            self._writer.close()
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        run = self._writer.execute
        application, version = (
            run("PRAGMA application_id").fetchone()[0],
            run("PRAGMA user_version").fetchone()[0],
        )
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and (application, version) != (APPLICATION, VERSION):
            raise InputError(
                "not a history of this version",
                str(self.path),
                "move it away: it is made again out of the audit logs",
            )
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")  # what a power cut takes is imported again
        run("PRAGMA foreign_keys=ON")
        if not tables:
            self._writer.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA}"
                f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
            )

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Everything inside happens as one, or not at all. One thread at a time; no nesting."""
        with self._writer_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:  # a full disk may have rolled back already
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """A connection that cannot change anything, and one state of the file for as long as the block lasts.

        RequestError (503) when the block's questions take more than ``seconds`` (None: as the bounds have it).
        """
        connection = self._take()
        until = time.monotonic() + (self.bounds.query_seconds if seconds is None else seconds)
        connection.set_progress_handler(lambda: int(time.monotonic() > until), _OPCODES)
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.OperationalError as error:
            if "interrupt" not in str(error):
                raise _unusable(self.path, error) from error
            raise RequestError(
                "this search takes too long", "", "ask for fewer days, or for fewer things at once", 503
            ) from error
        finally:
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give(connection)

    def _take(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._closed:
                raise InputError("the history is closed", str(self.path), "start the console again")
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect("ro")
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if not self._closed and len(self._idle) < self.bounds.idle_connections:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all connections; readers that are at work close theirs when they are done."""
        with self._idle_lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        with self._writer_lock:
            self._writer.close()


def _unusable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"the history cannot be used: {reason}", str(path), "check the path and its owner")
