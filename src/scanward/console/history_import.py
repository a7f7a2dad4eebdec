"""From the audit log of one scanner into the history: incrementally, in a thread, without writing to the log.

The importer remembers in the history itself how far it came (table ``logs``), so that what happened while the console
was down is imported when it is up again, and nothing twice: a place and what was read up to it are kept in one
transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanward.audit import verify, witnessed
from scanward.audit.reading import Finding
from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.console.history_records import Records
from scanward.console.history_store import HistoryStore
from scanward.console.history_tail import Batch, Place, Tail
from scanward.console.history_values import Course
from scanward.errors import ScanwardError
from scanward.keys import VerifyKey

_FIND: Final = "SELECT * FROM logs WHERE scanner = ? AND log_id = ?"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the import stands, for pages. ``trouble``: why nothing is read now; ``looked``: s since 1970."""

    trouble: str = ""
    looked: float = 0.0
    behind: bool = False


class Importer:
    """Imports one scanner's log. `step` and `verify` block; one thread at a time may call each.

    Parameters
    ----------
    store : HistoryStore
    scanner : str
        Its id in ``console.toml``.
    folder : Path
        Of the log, or a copy of it.
    keys : sequence of VerifyKey
        Who signs its checkpoints.
    witness : Path or None
        Where its checkpoints are witnessed.
    clock : callable
        s since 1970.
    """

    def __init__(
        self,
        store: HistoryStore,
        scanner: str,
        folder: Path,
        keys: Sequence[VerifyKey] = (),
        witness: Path | None = None,
        clock: Callable[[], float] = time.time,
        bounds: HistoryBounds = HISTORY_BOUNDS,
    ) -> None:
        self.scanner, self.folder, self.keys, self.witness = scanner, folder, tuple(keys), witness
        self.standing = Standing()
        self._store, self._clock, self._bounds = store, clock, bounds
        self._tail = Tail(folder, self.keys, bounds)

    def step(self) -> bool:
        """Import what is new, at most ``records`` of it; whether there is more at once.

        What cannot be read is told by ``standing``; it is tried again with the next step.
        """
        now = self._clock()
        try:
            log_id = self._tail.log_id()
            row = self._row(log_id)
            place = _place(row) if row is not None else self._tail.begin()
            batch = self._tail.read(place)
        except ScanwardError as error:
            self.standing = Standing(str(error), self.standing.looked)
            return False
        if row is None or batch.place != place or batch.findings or batch.entries:
            self._keep(log_id, place, batch, now)
        self.standing = Standing(batch.note, now, batch.more)
        return batch.more

    def verify(self) -> dict[str, Any]:
        """Verify the whole log, as ``scanward audit verify`` does; the report, which is kept with the log.

        A log that cannot be verified gives ``{"error": why}``.
        """
        now = self._clock()
        try:
            log_id = self._tail.log_id()
            points = None if self.witness is None else witnessed(self.witness)
            # Segments may have been archived before this console first saw the log, and the page says where it
            # begins; what was read here and is gone now is a finding.
            row = self._row(log_id)
            begins_at = max(1, row["first_seq"] if row is not None else self._tail.begin().seq + 1)
            report = verify(self.folder, self.keys, points, begins_at=begins_at).as_json()
            report["findings"] = report["findings"][: self._bounds.findings]  # type: ignore[index]
        except ScanwardError as error:
            report, log_id = {"error": str(error)}, self._newest()
        with self._store.writing() as db:
            db.execute(
                "UPDATE logs SET verified_at = ?, report = ? WHERE scanner = ? AND log_id = ?",
                (now, json.dumps(report), self.scanner, log_id),
            )
        return report

    def due(self) -> bool:
        """Whether a full verification is due."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT max(verified_at) AS last FROM logs WHERE scanner = ?", (self.scanner,)
            ).fetchone()
        return row["last"] is None or self._clock() - row["last"] >= self._bounds.verify_seconds

    # --- inside

    def _row(self, log_id: str) -> sqlite3.Row | None:
        with self._store.reading() as db:
            found: sqlite3.Row | None = db.execute(_FIND, (self.scanner, log_id)).fetchone()
        return found

    def _newest(self) -> str:
        with self._store.reading() as db:
            row = db.execute(
                "SELECT log_id FROM logs WHERE scanner = ? ORDER BY read_at DESC LIMIT 1", (self.scanner,)
            ).fetchone()
        return row["log_id"] if row else ""

    def _keep(self, log_id: str, before: Place, batch: Batch, now: float) -> None:
        """Records and how far they were read, as one."""
        with self._store.writing() as db:
            row = db.execute(_FIND, (self.scanner, log_id)).fetchone()
            if row is None:
                db.execute(
                    "INSERT INTO logs (scanner, log_id, segment, offset, seq, head, durable, read_at, first_seq) "
                    "VALUES (?, ?, '', 0, 0, x'', 0, ?, ?)",
                    (self.scanner, log_id, now, before.seq + 1),
                )
                row = db.execute(_FIND, (self.scanner, log_id)).fetchone()
            recent = json.loads(row["recent"])
            course = Course(
                self.scanner, log_id, row["life"], row["mode"], recent, row["budget"], row["bundle"]
            )
            records = Records(db, course, self._bounds)
            for entry in batch.entries:
                records.take(entry)
            findings = _merged(json.loads(row["findings"]), batch.findings, now)
            checkpoint = batch.checkpoint or (row["checkpoint_seq"], row["checkpoint_at"])
            changed = {
                name: getattr(batch.place, name) for name in ("segment", "offset", "seq", "head", "durable")
            }
            changed |= {name: getattr(course, name) for name in ("life", "mode", "budget", "bundle")}
            changed |= {
                "fresh": json.dumps(batch.place.fresh),
                "recent": json.dumps(course.recent),
                "findings": json.dumps(findings[: self._bounds.findings]),
                "read_at": now,
                "record_at": batch.entries[-1].at if batch.entries else row["record_at"],
                "checkpoint_seq": checkpoint[0],
                "checkpoint_at": checkpoint[1],
            }
            names = ", ".join(f"{name} = :{name}" for name in changed)
            db.execute(f"UPDATE logs SET {names} WHERE id = :id", {**changed, "id": row["id"]})  # noqa: S608 - ours


def _place(row: sqlite3.Row) -> Place:
    fresh = tuple((seq, name) for seq, name in json.loads(row["fresh"]))
    return Place(row["log_id"], row["segment"], row["offset"], row["seq"], row["head"], row["durable"], fresh)


def _merged(known: list[dict[str, Any]], new: Sequence[Finding], now: float) -> list[dict[str, Any]]:
    """Findings with when they were made; each once."""
    seen = {(f["step"], f["segment"], f["what"]) for f in known}
    for finding in new:
        key = (finding.step, finding.segment, finding.what)
        if key not in seen:
            seen.add(key)
            known.append({name: getattr(finding, name) for name in Finding.__slots__} | {"at": now})
    return known
