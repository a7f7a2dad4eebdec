"""One route's messenger: a thread that sends what waits, again and again until it is taken.

It never gives up. After a failure it waits, twice as long each time, and goes on with the message tried least: one that
a receiver refuses for ever costs the others nothing. What was taken and could not be written down (a full disk) is
remembered here, so that it is not sent again as long as this process lives.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scanward.config import ALERTING_BOUNDS, AlertingBounds
from scanward.console.alerting.rules import Route
from scanward.console.alerting.senders import Sender
from scanward.console.alerting.spool import Outgoing, Spool
from scanward.errors import ShippingError

_log = logging.getLogger("scanward.console.alerting")


@dataclass(frozen=True, slots=True)
class Going:
    """How a route is doing. Times in s since 1970, 0 for never. ``trouble``: the newest problem, "" for none."""

    failing_since: float = 0.0
    trouble: str = ""
    remark: str = ""
    failed: bool = False  # by a bug of ours: nothing more is sent until the console is started again


class Courier:
    """Sends what waits in ``spools`` for ``route``, as long as `run` runs.

    Parameters
    ----------
    spools : sequence of Spool
        Of disk and memory.
    clock : callable
        s since 1970.
    """

    def __init__(
        self,
        route: Route,
        sender: Sender,
        spools: Sequence[Spool],
        clock: Callable[[], float],
        bounds: AlertingBounds = ALERTING_BOUNDS,
    ) -> None:
        self.route, self.going = route, Going()
        self._sender, self._spools, self._clock, self._bounds = sender, spools, clock, bounds
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._taken: list[dict[int, int]] = [
            {} for _ in spools
        ]  # taken by the receiver, not written down yet
        self._wait = 0.0
        self._lock = threading.Lock()  # for whoever moves what waits from spool to spool
        self.thread = threading.Thread(target=self._run, name=f"alerts to {route.name}", daemon=True)

    def wake(self) -> None:
        """Something new may wait."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end after what it is sending."""
        self._stopped.set()
        self._wake.set()

    @property
    def lock(self) -> threading.Lock:
        """Held while messages are under way: whoever holds it finds the spools at rest, as far as this route goes."""
        return self._lock

    @property
    def unwritten(self) -> bool:
        """Whether something was taken that is not written down yet."""
        return any(self._taken)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                self._pause(self.step())
        except BaseException as error:
            self.going = replace(self.going, failed=True, trouble="this console failed: start it again")
            _log.critical("alerts to %s ended", self.route.name, exc_info=error)
            raise
        finally:
            self._sender.close()

    def _pause(self, seconds: float) -> None:
        """Wait; after a failure, news shorten it to ``fresh_wait`` but never to nothing."""
        if seconds <= 0.0 or self._stopped.is_set():
            return
        least = min(seconds, self._bounds.fresh_wait) if self._wait else 0.0
        began = time.monotonic()
        while not self._stopped.is_set() and (passed := time.monotonic() - began) < seconds:
            if passed < least:  # what came too early is not forgotten
                time.sleep(min(0.05, seconds))
            elif self._wake.wait(min(seconds - passed, 1.0)):
                return

    def step(self) -> float:
        """Send what may be sent: seconds until the next try, 0 for at once."""
        with self._lock:
            self._write_down()
            for spool, taken in zip(self._spools, self._taken, strict=True):
                batch = self._waiting(spool, taken)
                if batch:
                    return self._send(spool, taken, batch)
        if not self._wait:
            self._sender.close()
        return 1.0

    def _waiting(self, spool: Spool, taken: dict[int, int]) -> list[Outgoing]:
        try:
            # After a failure one by one: what cannot be sent at all must not keep its neighbours back.
            most = 1 if self._wait else self._sender.batch
            return spool.waiting(self.route.name, self._clock(), most, frozenset(taken))
        except sqlite3.Error as error:
            self._problem(f"the spool cannot be read: {error}")
            return []

    def _send(self, spool: Spool, taken: dict[int, int], batch: list[Outgoing]) -> float:
        ids = [one.delivery for one in batch]
        try:
            remark = self._sender.send(batch)
        except ShippingError as error:
            self._problem(str(error))
            self._wait = min(max(2 * self._wait, self._bounds.first_wait), self._bounds.longest_wait)
            try:
                spool.failed(ids, error.what)
            except sqlite3.Error:
                _log.warning("a failed delivery to %s could not be written down", self.route.name)
            return self._wait
        self.going, self._wait = Going(remark=remark or self.going.remark), 0.0
        if remark:
            _log.warning("alerts to %s: %s", self.route.name, remark)
        taken |= {one.delivery: one.count for one in batch}
        self._write_down()
        return 0.0

    def _write_down(self) -> None:
        for spool, taken in zip(self._spools, self._taken, strict=True):
            if taken:
                try:
                    spool.sent(taken, self._clock())
                except sqlite3.Error as error:
                    _log.warning("deliveries to %s cannot be written down yet: %s", self.route.name, error)
                else:
                    taken.clear()

    def _problem(self, problem: str) -> None:
        if problem != self.going.trouble:
            _log.warning("alerts to %s: %s", self.route.name, problem)
        self.going = replace(
            self.going, failing_since=self.going.failing_since or self._clock(), trouble=problem
        )
