"""The file of accounts: SQLite, one connection, every change durable before it is answered.

WAL with ``synchronous=FULL``: a reader in another process (``scanward study accounts``) never waits for a writer, and
what was answered survives a power cut. The file is made readable by its owner alone. All functions here block; pages
call them in threads.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scanward.errors import InputError

APPLICATION: Final = 0x53435744  # "SCWD": whose file it is
VERSION: Final = 1
BUSY_SECONDS: Final = 10.0  # s to wait for another process that writes

_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    roles TEXT NOT NULL,
    hash TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    changed REAL NOT NULL
) STRICT;
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created REAL NOT NULL,
    seen REAL NOT NULL
) STRICT;
CREATE INDEX sessions_of ON sessions (account, created);
CREATE TABLE devices (
    hash BLOB NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    used REAL NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    last REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (hash, account)
) STRICT;
CREATE TABLE failures (
    name BLOB PRIMARY KEY,
    known INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    last REAL NOT NULL
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
"""


class Database:
    """One connection, handed out by `transaction` to one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            # Made here and not by SQLite, which would let everybody read it; its journal takes the same mode.
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(made, 0o600)
            finally:
                os.close(made)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise _unusable(path, error) from error
        except InputError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        application, version = (
            run("PRAGMA application_id").fetchone()[0],
            run("PRAGMA user_version").fetchone()[0],
        )
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and (application, version) != (APPLICATION, VERSION):
            raise InputError(
                "not a file of accounts of this version",
                str(self.path),
                "give another file, or upgrade scanward",
            )
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA foreign_keys=ON")
        run("PRAGMA secure_delete=ON")  # an old hash does not stay behind in a free page
        with self.transaction() as change:
            if change.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _statements(_SCHEMA):
                    change.execute(statement)
                change.execute("INSERT INTO facts VALUES ('secret', ?)", (secrets.token_bytes(32),))
                change.execute(f"PRAGMA application_id={APPLICATION}")
                change.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside happens as one, or not at all; nested calls join the outer one."""
        with self._lock:
            if self._open():
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:  # a full disk may have rolled back already
                if self._open():
                    self._connection.execute("ROLLBACK")
                raise

    def _open(self) -> bool:
        return self._connection.in_transaction

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For statements that change nothing."""
        with self._lock:
            yield self._connection

    def secret(self) -> bytes:
        """32 bytes made with the file: keys the hashes of names and addresses, so that they say nothing elsewhere."""
        with self.reading() as read:
            value: bytes = read.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()[0]
        return value

    def close(self) -> None:
        """Close the connection; nothing may be asked of it afterwards."""
        with self._lock:
            self._connection.close()


def _statements(schema: str) -> Iterator[str]:
    gathered = ""
    for line in schema.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""


def _unusable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"the file of accounts cannot be used: {reason}", str(path), "check the path and its owner"
    )
