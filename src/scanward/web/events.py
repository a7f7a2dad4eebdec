"""What was done to accounts, and who signed in: rows that are added and never changed (triggers see to it).

No passwords, no tokens, no addresses: of an address that guesses stands a short keyed hash, which tells whether two
rows are of one address and nothing more. A name that is no account's is not written down either: it may be a password.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from scanward.config import WEB_BOUNDS
from scanward.web.database import Database

_log = logging.getLogger("scanward.web")


@dataclass(frozen=True, slots=True)
class Event:
    """One row: number, when (s since 1970), what, whose account ("" for none), details."""

    number: int
    at: float
    kind: str
    account: str
    detail: str


class Events:
    """The record of one file of accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._minute = 0
        self._written = 0
        self._silent = 0

    def add(self, kind: str, account: str, detail: str = "", now: float | None = None) -> None:
        """Write one row; within a transaction, as part of it."""
        with self._database.transaction() as change:
            change.execute(
                "INSERT INTO events (at, kind, account, detail) VALUES (?, ?, ?, ?)",
                (time.time() if now is None else now, kind, account, detail),
            )

    def refusal(self, account: str, detail: str, now: float) -> None:
        """Write down a sign-in that was refused; a flood of them as a count."""
        minute = int(now // 60)
        if minute != self._minute:
            if self._silent:
                self.add("sign-in refused", "", f"{self._silent} more, not written one by one", now)
            self._minute, self._written, self._silent = minute, 0, 0
        if self._written >= WEB_BOUNDS.failures_minute:
            self._silent += 1
            return
        self._written += 1
        self.add("sign-in refused", account, detail, now)

    def alert(self, account: str, detail: str, now: float) -> None:
        """Write down that somebody is guessing, and tell whoever watches the server's log."""
        self.add("alert", account, detail, now)
        _log.warning("sign-in: %s%s", detail, f", account {account}" if account else "")

    def read(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """At most ``limit`` rows after number ``after``, in order."""
        with self._database.reading() as read:
            rows = read.execute(
                "SELECT id, at, kind, account, detail FROM events WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            )
            return [Event(*row) for row in rows]

    def newest(self, limit: int = 100) -> list[Event]:
        """At most ``limit`` rows, the newest first."""
        with self._database.reading() as read:
            rows = read.execute(
                "SELECT id, at, kind, account, detail FROM events ORDER BY id DESC LIMIT ?", (limit,)
            )
            return [Event(*row) for row in rows]
