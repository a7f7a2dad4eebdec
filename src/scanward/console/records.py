"""The console's own file: under which operator's id an account acts, and which account sent which act.

The guard's audit log is the proof of an act; it knows operators, not accounts. This says who was signed in when it was
sent. Rows of acts are never changed (triggers see to it). No reasons and no commands stand here. All functions block.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanward.config import CONSOLE_BOUNDS
from scanward.errors import InputError
from scanward.web.accounts import Account

APPLICATION: Final = 0x53435743  # "SCWC": whose file it is
VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE operators (account INTEGER PRIMARY KEY, operator TEXT NOT NULL) STRICT;
CREATE TABLE acts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    account TEXT NOT NULL,
    operator TEXT NOT NULL,
    scanner TEXT NOT NULL,
    act TEXT NOT NULL,
    request INTEGER NOT NULL,
    done INTEGER,
    said TEXT NOT NULL
) STRICT;
CREATE TRIGGER acts_stay BEFORE UPDATE ON acts BEGIN SELECT RAISE(ABORT, 'acts are never changed'); END;
CREATE TRIGGER acts_remain BEFORE DELETE ON acts BEGIN SELECT RAISE(ABORT, 'acts are never removed'); END;
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """An act as it was sent. ``done`` None: the guard did not answer, so it may have taken it or not."""

    at: float
    account: str
    operator: str
    scanner: str
    act: str
    request: int
    done: bool | None
    said: str


class Records:
    """The file at ``path``, made when it is not there, mode 0600. InputError when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(made, 0o600)
            finally:
                os.close(made)
            self._database = sqlite3.connect(
                path, timeout=10.0, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise _unusable(path, error) from error
        except InputError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        run = self._database.execute
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        mark = (run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0])
        if tables and mark != (APPLICATION, VERSION):
            raise InputError("not a console's file of this version", str(self.path), "move it away")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        if not tables:
            self._database.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA}"
                f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def operator_of(self, account: Account) -> str:
        """The id in the guards' policies that acts of this account carry: its own name, unless another was set."""
        with self._lock:
            row = self._database.execute(
                "SELECT operator FROM operators WHERE account = ?", (account.identifier,)
            ).fetchone()
        return str(row[0]) if row else account.name

    def set_operator(self, account: Account, operator: str) -> None:
        """Have an account act under another id; "" goes back to its own name."""
        with self._lock:
            if operator:
                self._database.execute(
                    "INSERT OR REPLACE INTO operators VALUES (?, ?)", (account.identifier, operator)
                )
            else:
                self._database.execute("DELETE FROM operators WHERE account = ?", (account.identifier,))

    def add(self, sent: Sent) -> None:
        """Write down an act; sqlite3.Error when the disk does not take it."""
        done = None if sent.done is None else int(sent.done)
        with self._lock:
            self._database.execute(
                "INSERT INTO acts (at, account, operator, scanner, act, request, done, said)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (sent.at, sent.account, sent.operator, sent.scanner, sent.act, sent.request, done, sent.said),
            )

    def newest(self, limit: int = CONSOLE_BOUNDS.acts_shown) -> list[Sent]:
        """The newest acts, newest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT at, account, operator, scanner, act, request, done, said FROM acts ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Sent(at, account, operator, scanner, act, request, None if done is None else bool(done), said)
            for at, account, operator, scanner, act, request, done, said in rows
        ]


def _unusable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"the console's file cannot be used: {reason}", str(path), "check the path and its owner"
    )
