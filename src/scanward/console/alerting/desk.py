"""Takes alerts in from the event loop and everywhere, keeps them on disk, and has couriers carry them out.

`Desk.take` and the listeners never block and never raise: alerts of the same cause become one with a count, and what is
more than can wait becomes one for each kind, counted. A thread writes what waits, many in one transaction. While the
disk takes nothing, a spool in memory does, alerts leave all the same, and the page and every route are told; what
still waits moves to the disk when it has room.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scanward.config import ALERTING_BOUNDS, AlertingBounds
from scanward.console.alerting.alert import Alert, one_line
from scanward.console.alerting.courier import Courier
from scanward.console.alerting.rules import AlertSettings
from scanward.console.alerting.senders import Sender
from scanward.console.alerting.spool import MEMORY, Progress, Spool
from scanward.console.alerting.telling import Ear, Heard
from scanward.console.state import Reach
from scanward.errors import InputError

_log = logging.getLogger("scanward.console.alerting")


@dataclass
class Waiting:
    """What the disk has not taken yet."""

    alerts: dict[tuple[str, str, str], Alert] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress.none)

    def add(self, alert: Alert, most: int) -> None:
        """One alert; beyond ``most`` causes it is counted to its kind."""
        key = alert.key
        if key not in self.alerts and len(self.alerts) >= most:
            key = (alert.scanner, alert.kind, "")
        known = self.alerts.get(key)
        if known is None:
            self.alerts[key] = replace(alert, cause=key[2])
        else:
            graver = max(known.gravity, alert.gravity, key=lambda s: s.rank)
            self.alerts[key] = replace(known, count=known.count + alert.count, severity=graver)


class Hearing:
    """One scanner's listener (`state.Listener`): every word goes to its ear, and what comes of it to the desk."""

    def __init__(self, desk: Desk, ear: Ear) -> None:
        self._desk, self._ear = desk, ear

    def linked(self, reach: Reach, why: str) -> None:
        """The link came up, fell silent or went."""
        self._desk.heard(self._ear, self._ear.linked(reach.value, why, self._desk.clock()))

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the guard."""
        self._desk.heard(self._ear, self._ear.event(kind, data, self._desk.clock()))

    def snapshot(self, state: Mapping[str, Any]) -> None:
        """The guard's whole state."""
        self._desk.heard(self._ear, self._ear.snapshot(state, self._desk.clock()))


class Desk:
    """Alerts of one console. `start` it, `close` it.

    Parameters
    ----------
    folder : Path
        Of the spool; made when it is not there.
    senders : mapping of str to Sender
        One for each route of ``settings``.
    clock : callable
        s since 1970.

    Raises
    ------
    InputError
        When the spool cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        settings: AlertSettings,
        senders: Mapping[str, Sender],
        clock: Callable[[], float] = time.time,
        bounds: AlertingBounds = ALERTING_BOUNDS,
    ) -> None:
        self.settings, self.clock, self._bounds = settings, clock, bounds
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder of alerts cannot be made: {error.strerror}", str(folder), "check the path"
            ) from error
        self.spool = Spool(folder / "alerts.sqlite", bounds)
        self.memory = Spool(MEMORY, bounds)
        self.known = self.spool.progress()
        self.couriers = [
            Courier(route, senders[route.name], (self.spool, self.memory), clock, bounds)
            for route in settings.routes
        ]
        self.disk = ""  # why it takes nothing; "" when it does
        self._waiting, self._lock = Waiting(), threading.Lock()
        self._news, self._stopped = threading.Event(), False
        self._told: dict[str, float] = {}  # routes of which somebody was told that they fail, and when
        self._noted: dict[str, float] = {}
        self._trimmed = self._looked = 0.0
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin to write and to send. What waits from last time goes out first."""
        for name, standing in self.spool.standing().items():
            if name not in {route.name for route in self.settings.routes} and standing["waiting"]:
                text = (
                    f"{standing['waiting']} alerts wait for {name!r}, which is not in console.toml any more"
                )
                self.take(self._own("undelivered", name, text))
        self._thread.start()
        for courier in self.couriers:
            courier.thread.start()

    def close(self) -> None:
        """Write what waits, let what is under way arrive, stop."""
        self._stopped = True
        self._news.set()
        for courier in self.couriers:
            courier.stop()
        until = time.monotonic() + self._bounds.stop_seconds
        for thread in (self._thread, *(courier.thread for courier in self.couriers)):
            if thread.ident is not None:
                thread.join(max(0.1, until - time.monotonic()))
        alive = [t.name for t in (self._thread, *(c.thread for c in self.couriers)) if t.is_alive()]
        if alive:
            _log.warning("still under way when the console stopped, to be sent again: %s", ", ".join(alive))
            return  # the file stays open for them; the process ends soon, and everything in it is durable
        lost = not self.memory.empty
        if lost:
            _log.critical("alerts that the disk did not take end with this process: %s", self.disk)
        self.spool.close()
        self.memory.close()

    # --- in: neither blocks nor raises

    def hearing(self, scanner: str, name: str) -> Hearing:
        """A listener for one scanner, which knows what was heard before."""
        return Hearing(self, Ear(scanner, name, self.known.heard.get(scanner), self._bounds))

    def heard(self, ear: Ear, alerts: list[Alert]) -> None:
        """What a guard said came to this; where the ear stands is kept with it."""
        now, scanner = self.clock(), ear.scanner
        if not alerts and now - self._noted.get(scanner, 0.0) < self._bounds.heard_seconds:
            return
        self._noted[scanner] = now
        with self._lock:
            for alert in alerts:
                self._waiting.add(alert, self._bounds.causes)
            self._waiting.progress.heard[scanner] = Heard(ear.heard.last, ear.heard.marks.copy())
        self._news.set()

    def take(self, *alerts: Alert, progress: Progress | None = None) -> None:
        """Alerts of the console itself, or of doses, with how far these were looked at."""
        with self._lock:
            for alert in alerts:
                self._waiting.add(alert, self._bounds.causes)
            if progress is not None:
                self._waiting.progress.cursors |= progress.cursors
                self._waiting.progress.fired |= progress.fired
        self._news.set()

    # --- the thread that writes

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._news.wait(self._bounds.retry_write)
                time.sleep(self._bounds.write_seconds)
                self._news.clear()
                self.write()
                self._look()
            self.write()
        except BaseException as error:
            self.disk = "this console failed: start it again"
            _log.critical("the writer of alerts ended", exc_info=error)
            raise

    def write(self) -> None:
        """Everything that waits, to the disk; to memory when it takes nothing."""
        now = self.clock()
        with self._lock:
            waiting, self._waiting = self._waiting, Waiting()
        alerts = list(waiting.alerts.values())
        progress = waiting.progress
        try:
            if alerts or progress != Progress.none():
                self.spool.take(alerts, self.settings.routes_of, progress, now)
            self._back()
        except sqlite3.Error as error:
            first = not self.disk
            self.disk = str(error)
            self.memory.take(alerts, self.settings.routes_of, progress, now)
            if first:
                _log.critical("the disk takes no alerts: %s", error)
                text = f"the disk takes nothing ({error}); alerts leave this room, but are lost if this console stops"
                self.memory.take(
                    [self._own("spool", "disk", text)], self.settings.routes_of, Progress.none(), now
                )
        if alerts:
            for courier in self.couriers:
                courier.wake()

    def _back(self) -> None:
        """The disk takes something: what waits in memory goes there. sqlite3.Error when it does not after all."""
        if self.memory.empty:
            self.disk = ""
            return
        locks = [courier.lock for courier in self.couriers]
        if any(courier.unwritten for courier in self.couriers):
            return  # first what is out is written down as such
        held = [lock for lock in locks if lock.acquire(timeout=0.0)]
        try:
            if len(held) == len(locks) and not any(courier.unwritten for courier in self.couriers):
                self.memory.move_to(self.spool)
                self.disk = ""
                _log.warning("the disk takes alerts again")
        finally:
            for lock in held:
                lock.release()

    def _look(self) -> None:
        """Receivers that fail for long are an alert for the others; old rows go."""
        now = self.clock()
        if now - self._looked >= self._bounds.undelivered_seconds / 6.0 or now < self._looked:
            self._looked = now
            for one in self.standing():
                self._undelivered(one, now)
        if now - self._trimmed >= 3600.0 and not self.disk:
            self._trimmed = now
            try:
                self.spool.trim(now)
            except sqlite3.Error as error:
                _log.warning("old alerts cannot be removed: %s", error)

    def _undelivered(self, standing: dict[str, Any], now: float) -> None:
        """Something waits for long although it was tried: whether the receiver fails, or refuses only that."""
        name, oldest = standing["route"], standing["oldest"]
        if oldest is None or not standing["problem"] or now - oldest < self._bounds.undelivered_seconds:
            if oldest is None:
                self._told.pop(name, None)
            return
        if now - self._told.get(name, 0.0) >= self._bounds.undelivered_again:
            self._told[name] = now
            where = f"{name!r} ({standing['where']})"
            text = (
                f"{standing['waiting']} alerts wait for {where}, and are tried again: {standing['problem']}"
            )
            self.take(self._own("undelivered", name, text))

    def _own(self, kind: str, cause: str, text: str) -> Alert:
        return Alert("", "", kind, cause, one_line(text, self._bounds.text_chars), self.clock())

    # --- for the page

    def standing(self) -> list[dict[str, Any]]:
        """How each route stands."""
        kept, volatile = self.spool.standing(), self.memory.standing()
        found = []
        for courier in self.couriers:
            name, route = courier.route.name, courier.route
            rows = [one[name] for one in (kept, volatile) if name in one]
            oldest = [row["oldest"] for row in rows if row["oldest"] is not None]
            sent = [row["sent"] for row in rows if row["sent"] is not None]
            found.append(
                {
                    "route": name,
                    "to": route.to.value,
                    "where": route.where,
                    "waiting": sum(row["waiting"] or 0 for row in rows),
                    "counts": sum(row["counts"] or 0 for row in rows),
                    "oldest": min(oldest, default=None),
                    "sent": max(sent, default=None),
                    "failing_since": courier.going.failing_since or None,
                    "trouble": courier.going.trouble,
                    "problem": next((row["problem"] for row in rows if row["problem"]), ""),
                    "remark": courier.going.remark,
                }
            )
        return found
