# ruff: noqa: S608 - statements are put together out of this module's texts; values are bound
"""Alerts on their way out: SQLite, every alert durable before its first delivery, folded and counted. Blocks.

* ``alerts``: a row per cause. The same cause again within the folding time adds to its count; so does, by kind, what
  exceeds the burst or the rows. What is listed may be a count; nothing is dropped.
* ``deliveries``: a row per alert and route. ``told`` is how many the receiver has been told of; while it is less than
  the alert's count, something waits. A delivery is written down after the receiver took it: killed in between, it is
  sent again, under the same name. At least once, never less.
* ``heard``, ``marks``, ``cursors``, ``fired``: how far guards and doses were listened to, in one transaction with the
  alerts that came of it.

The same class with ``:memory:`` takes over while the disk takes nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanward.config import ALERTING_BOUNDS, AlertingBounds
from scanward.console.alerting.alert import Alert, Severity, one_line
from scanward.console.alerting.telling import Heard, Mark
from scanward.errors import InputError

APPLICATION: Final = 0x53435741  # "SCWA": whose file it is
VERSION: Final = 1
MEMORY: Final = ":memory:"

_SCHEMA: Final = """
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    scanner TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    severity TEXT NOT NULL,
    text TEXT NOT NULL,
    facts TEXT NOT NULL,
    first REAL NOT NULL,
    last REAL NOT NULL,
    count INTEGER NOT NULL
) STRICT;
CREATE INDEX alerts_of ON alerts (scanner, kind, cause, last);
CREATE INDEX alerts_last ON alerts (last);
CREATE INDEX alerts_first ON alerts (scanner, kind, first);
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    route TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    waits INTEGER NOT NULL DEFAULT 1,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent REAL,
    problem TEXT NOT NULL DEFAULT '',
    UNIQUE (alert, route)
) STRICT;
CREATE INDEX deliveries_waiting ON deliveries (route, attempts, id) WHERE waits;
CREATE TABLE heard (scanner TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
CREATE TABLE marks (
    scanner TEXT NOT NULL,
    number INTEGER NOT NULL,
    cause TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (scanner, number)
) STRICT;
CREATE TABLE cursors (
    scanner TEXT NOT NULL,
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (scanner, log)
) STRICT;
CREATE TABLE fired (what TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send: an alert as it stands, and how many of it the receiver knows of already."""

    delivery: int
    alert: int
    uid: str
    route: str
    scanner: str
    name: str
    kind: str
    severity: Severity
    text: str
    facts: Mapping[str, Any]
    first: float
    last: float
    count: int
    told: int

    @property
    def key(self) -> str:
        """Names this message: the same when it is sent again, another when the count has grown."""
        return f"{self.uid}.{self.count}"

    @property
    def title(self) -> str:
        """One line, with the count."""
        plain = Alert(self.scanner, self.name, self.kind, "", "", self.first).title
        times = f" ({self.count} times)" if self.count > 1 else ""
        return one_line(f"{self.severity.upper()}: {plain}{times}")


@dataclass
class Progress:
    """What was listened to, to be kept with alerts. ``marks``: all of a scanner's. ``fired``: once and for all."""

    heard: dict[str, Heard]
    cursors: dict[tuple[str, str], int]
    fired: dict[str, float]

    @classmethod
    def none(cls) -> Progress:
        """Nothing."""
        return cls({}, {}, {})


Routes = Callable[[Alert], Iterable[str]]


class Spool:
    """The file at ``path`` (mode 0600), or memory. InputError when it cannot be used; sqlite3.Error when it is full."""

    def __init__(self, path: Path | str, bounds: AlertingBounds = ALERTING_BOUNDS) -> None:
        self.path, self._bounds = str(path), bounds
        self._most = bounds.memory_rows if self.path == MEMORY else bounds.rows
        self._lock = threading.RLock()
        try:
            if self.path != MEMORY:
                made = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.fchmod(made, 0o600)
                finally:
                    os.close(made)
            self._database = sqlite3.connect(
                self.path, timeout=10.0, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        try:
            self._prepare()
        except (sqlite3.Error, InputError) as error:
            self._database.close()
            if isinstance(error, InputError):
                raise
            raise _unusable(self.path, error) from error

    def _prepare(self) -> None:
        run = self._database.execute
        self._database.row_factory = sqlite3.Row
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        mark = (run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0])
        if tables and mark != (APPLICATION, VERSION):
            raise InputError("not a spool of alerts of this version", self.path, "move it away")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")  # what was taken in survives a power cut
        run("PRAGMA foreign_keys=ON")
        if not tables:
            self._database.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA}"
                f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:  # a full disk may have rolled back already
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    # --- in

    def take(self, alerts: Sequence[Alert], routes: Routes, progress: Progress, now: float) -> None:
        """Keep alerts and how far was listened, as one; each alert waits for its ``routes``.

        sqlite3.Error when the disk takes nothing: then nothing of it is kept.
        """
        with self._writing() as db:
            rows = db.execute("SELECT count(*) FROM alerts").fetchone()[0] if alerts else 0
            for alert in alerts:
                rows += self._take(db, alert, routes, now, full=rows >= self._most)
            for scanner, heard in progress.heard.items():
                db.execute("INSERT OR REPLACE INTO heard VALUES (?, ?)", (scanner, heard.last))
                db.execute("DELETE FROM marks WHERE scanner = ?", (scanner,))
                db.executemany(
                    "INSERT INTO marks VALUES (?, ?, ?, ?, ?)",
                    [(scanner, number, m.cause, m.kind, m.count) for number, m in heard.marks.items()],
                )
            for (scanner, log), seq in progress.cursors.items():
                db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (scanner, log, seq))
            db.executemany("INSERT OR IGNORE INTO fired VALUES (?, ?)", progress.fired.items())

    def _take(self, db: sqlite3.Connection, alert: Alert, routes: Routes, now: float, *, full: bool) -> int:
        """One alert: how many rows it made."""
        if alert.cause and self._fold(db, alert, alert.cause, routes, now):
            return 0
        flood = full or not alert.cause
        if not flood:
            recent = db.execute(
                "SELECT count(*) FROM alerts WHERE scanner = ? AND kind = ? AND first > ?",
                (alert.scanner, alert.kind, now - self._bounds.burst_seconds),
            ).fetchone()[0]
            flood = recent >= self._bounds.burst
        if flood and self._fold(db, alert, "", routes, now, open_ended=full):
            return 0
        made = db.execute(
            "INSERT INTO alerts (uid, scanner, name, kind, cause, severity, text, facts, first, last, count)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                secrets.token_hex(16),
                alert.scanner,
                alert.name,
                alert.kind,
                "" if flood else alert.cause,
                alert.gravity.value,
                one_line(
                    f"many different ones: {alert.text}" if flood and alert.cause else alert.text,
                    self._bounds.text_chars,
                ),
                json.dumps(dict(alert.facts)),
                alert.at,
                now,
                alert.count,
            ),
        )
        assert made.lastrowid is not None
        self._address(db, made.lastrowid, routes(alert))
        return 1

    @staticmethod
    def _address(db: sqlite3.Connection, alert: int, routes: Iterable[str]) -> None:
        db.executemany(
            "INSERT OR IGNORE INTO deliveries (alert, route) VALUES (?, ?)",
            [(alert, route) for route in routes],
        )

    def _fold(
        self,
        db: sqlite3.Connection,
        alert: Alert,
        cause: str,
        routes: Routes,
        now: float,
        *,
        open_ended: bool = False,
    ) -> bool:
        """Count an alert to the row that stands for it; False when there is none."""
        since = -1.0 if open_ended else now - self._bounds.fold_seconds
        row = db.execute(
            "SELECT id, text, severity FROM alerts WHERE scanner = ? AND kind = ? AND cause = ? AND last >= ?"
            " ORDER BY last DESC LIMIT 1",
            (alert.scanner, alert.kind, cause, since),
        ).fetchone()
        if row is None:
            return False
        text = row["text"]
        if not cause and alert.text not in text and text.count(" | ") + 1 < self._bounds.samples:
            text = one_line(f"{text} | {alert.text}", self._bounds.text_chars)
        graver = max((Severity(row["severity"]), alert.gravity), key=lambda s: s.rank)
        db.execute(
            "UPDATE alerts SET count = count + ?, last = ?, text = ?, severity = ? WHERE id = ?",
            (alert.count, now, text, graver.value, row["id"]),
        )
        db.execute("UPDATE deliveries SET waits = 1 WHERE alert = ?", (row["id"],))
        self._address(db, row["id"], routes(alert))
        return True

    # --- out

    def waiting(
        self, route: str, now: float, limit: int, skip: frozenset[int] = frozenset()
    ) -> list[Outgoing]:
        """What may be sent now, those tried least first: one that is refused for ever stands in nobody's way."""
        with self._lock:
            rows = self._database.execute(
                f"{_OUTGOING} WHERE d.route = ? AND d.waits AND d.due <= ? ORDER BY d.attempts, d.id LIMIT ?",
                (route, now, limit + len(skip)),
            ).fetchall()
        return [_outgoing(row) for row in rows if row["delivery"] not in skip][:limit]

    def sent(self, told: Mapping[int, int], now: float) -> None:
        """The receiver took these: delivery -> the count it was told. What came meanwhile waits for the fold's end."""
        with self._writing() as db:
            db.executemany(
                "UPDATE deliveries SET told = max(told, :told), sent = :now, due = :due, attempts = 0, problem = '',"
                " waits = (SELECT count FROM alerts WHERE id = alert) > :told WHERE id = :id",
                [
                    {"id": id_, "told": count, "now": now, "due": now + self._bounds.fold_seconds}
                    for id_, count in told.items()
                ],
            )

    def failed(self, deliveries: Iterable[int], problem: str) -> None:
        """They could not be sent."""
        with self._writing() as db:
            db.executemany(
                "UPDATE deliveries SET attempts = attempts + 1, problem = ? WHERE id = ?",
                [(one_line(problem, 300), id_) for id_ in deliveries],
            )

    # --- what was kept

    def progress(self) -> Progress:
        """How far guards and doses were listened to."""
        with self._lock:
            run = self._database.execute
            heard = {row["scanner"]: Heard(row["at"]) for row in run("SELECT * FROM heard")}
            for row in run("SELECT * FROM marks ORDER BY number"):
                one = heard.setdefault(row["scanner"], Heard())
                one.marks[row["number"]] = Mark(row["cause"], row["kind"], row["count"])
            cursors = {(row["scanner"], row["log"]): row["seq"] for row in run("SELECT * FROM cursors")}
        return Progress(heard, cursors, {})

    def has_fired(self, what: str) -> bool:
        """Whether a rule has said this already."""
        with self._lock:
            return bool(self._database.execute("SELECT 1 FROM fired WHERE what = ?", (what,)).fetchone())

    def standing(self) -> dict[str, dict[str, Any]]:
        """For each route: how many messages wait and since when, when the last one went, the newest problem."""
        with self._lock:
            rows = self._database.execute(
                "SELECT route, sum(waits AND told = 0) AS waiting, sum(waits AND told > 0) AS counts,"
                " min(CASE WHEN waits AND told = 0 THEN a.first END) AS oldest, max(sent) AS sent,"
                " max(CASE WHEN waits THEN problem ELSE '' END) AS problem"
                " FROM deliveries d JOIN alerts a ON a.id = d.alert GROUP BY route"
            ).fetchall()
        return {row["route"]: {name: row[name] for name in row.keys()[1:]} for row in rows}

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Alerts, newest first, each with its deliveries."""
        with self._lock:
            run = self._database.execute
            rows = [
                dict(row) for row in run("SELECT * FROM alerts ORDER BY last DESC, id DESC LIMIT ?", (limit,))
            ]
            for row in rows:
                row["deliveries"] = [
                    dict(one)
                    for one in run(
                        "SELECT route, told, waits, attempts, sent, problem FROM deliveries WHERE alert = ?"
                        " ORDER BY route",
                        (row["id"],),
                    )
                ]
        return rows

    def trim(self, now: float) -> None:
        """Forget what has been out for long. What waits stays, however old."""
        old = now - 86_400.0 * self._bounds.keep_days
        with self._writing() as db:
            db.execute(
                "DELETE FROM alerts WHERE last < ? AND NOT EXISTS"
                " (SELECT 1 FROM deliveries d WHERE d.alert = alerts.id AND d.waits)",
                (old,),
            )
            db.execute("DELETE FROM fired WHERE at < ?", (old - 366 * 86_400.0,))

    def move_to(self, other: Spool) -> None:
        """Everything here that still waits goes to another spool, as it stands; then it is gone from here."""
        with self._lock:
            columns = "uid, scanner, name, kind, cause, severity, text, facts, first, last, count"
            alerts = self._database.execute(f"SELECT id, {columns} FROM alerts").fetchall()
            with other._writing() as db:
                for row in alerts:
                    made = db.execute(
                        f"INSERT INTO alerts ({columns}) VALUES ({', '.join('?' * 11)})", tuple(row)[1:]
                    ).lastrowid
                    for one in self._database.execute(
                        "SELECT * FROM deliveries WHERE alert = ?", (row["id"],)
                    ):
                        db.execute(
                            "INSERT INTO deliveries (alert, route, told, waits, due, attempts, sent, problem)"
                            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                            (made, *tuple(one)[2:]),
                        )
            self._database.execute("DELETE FROM alerts")

    @property
    def empty(self) -> bool:
        """Whether there is no alert in it."""
        with self._lock:
            return self._database.execute("SELECT 1 FROM alerts LIMIT 1").fetchone() is None


_OUTGOING: Final = (
    "SELECT d.id AS delivery, a.id AS alert, a.uid, d.route, a.scanner, a.name, a.kind, a.severity, a.text, a.facts,"
    " a.first, a.last, a.count, d.told FROM deliveries d JOIN alerts a ON a.id = d.alert"
)


def _outgoing(row: sqlite3.Row) -> Outgoing:
    values = dict(row)
    values["severity"], values["facts"] = Severity(values["severity"]), json.loads(values["facts"])
    return Outgoing(**values)


def _unusable(path: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"the spool of alerts cannot be used: {reason}", path, "check the path and its owner")
