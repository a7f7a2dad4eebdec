"""What the tests of the console's history share: a real gate whose records go into a real log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _audit import KEY
from _guard import Bench
from scanward.audit import Moment, PosixFolder, Writer
from scanward.commands.wire import Done, Load, Started, Trigger
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.console.history_import import Importer
from scanward.console.history_store import HistoryStore
from scanward.guard.events import Ask, Effect, Event, GantrySaid, HostLost, Judged, Record, Said
from scanward.guard.policy import Policy
from scanward.guard.relay_records import START, payload

EPOCH = 1_790_000_000  # s since 1970: the first record of a test


class Log:
    """A log on disk and its clock, which stands still unless moved."""

    def __init__(self, folder: Path, bounds: AuditBounds = AUDIT_BOUNDS) -> None:
        self.path, self.seconds, self._bounds = folder, 0.0, bounds
        self.folder = PosixFolder(folder)
        self.writer = Writer(self.folder, KEY, self.now(), bounds=bounds)

    def now(self) -> Moment:
        ns = int(self.seconds * 1e9)
        return Moment(ns + 1, EPOCH * 10**9 + ns)

    def write(self, kind: str, data: Mapping[str, Any], record: int = 0, *, commit: bool = True) -> None:
        self.writer.append(payload(kind, record, data), self.now())
        if commit:
            self.writer.commit(self.now())

    def start(self, **facts: Any) -> None:
        """A relay begins its life."""
        self.write(START, {"version": "1", "weakenings": [], **facts})

    def checkpoint(self) -> None:
        self.writer.commit(self.now(), checkpoint=True)

    def close(self) -> None:
        self.writer.close(self.now())
        self.folder.done()


class Scanner(Bench):
    """`Bench` whose records are written to a log as the relay writes them."""

    def __init__(self, log: Log, site: Policy | None = None) -> None:
        self.audit = log
        log.start()
        super().__init__(site)

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool) -> None:
        self.audit.write(kind, data)
        super().record(kind, data, reserved=reserved)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Record):
            self.audit.write(effect.kind, effect.data, effect.token)
        super()._carry_out(effect)

    def _judged(self, ask: Ask) -> Event:
        if self.judge is None or len(self.judge) < 2:
            return super()._judged(ask)
        load = Load("", ask.examination, "", ask.chain)
        return Judged(ask.request, self.policy.decide(load, self.judge, ask.mode), "b" * 64)

    def act(self, act: str, operator: str, request: int, refused: str = "", peer: str = "socket") -> None:
        """What the control server records of every act."""
        told = {"act": act, "operator": operator, "request": request, "done": not refused, "refused": refused}
        self.audit.write("act", {"peer": peer, "user": "root", "local": True, **told})

    def shoot(self, load: str, element: int = 0, ctdivol: float = 7.0) -> None:
        """Trigger an element, and let the gantry carry it out."""
        self.handle(Said(1, Trigger(f"T-{load}-{element}", load, element)))
        self.handle(GantrySaid(Started(load, element)))
        self.handle(GantrySaid(Done(load, element, ctdivol, 30.0 * ctdivol)))

    def die(self) -> None:
        """The host goes, and the relay ends; another begins with a gate of its own."""
        self.handle(HostLost(1, "gone"))


def importer(store: HistoryStore, log: Log, scanner: str = "ct1", **changes: Any) -> Importer:
    """The importer of a log with the tests' key."""
    return Importer(store, scanner, log.path, [KEY.verify_key], clock=lambda: EPOCH + log.seconds, **changes)


def import_all(one: Importer) -> None:
    """Until there is nothing more."""
    while one.step():
        pass


def rows(store: HistoryStore, question: str, *values: object) -> list[dict[str, Any]]:
    """Of the history."""
    with store.reading() as db:
        return [dict(row) for row in db.execute(question, values)]
