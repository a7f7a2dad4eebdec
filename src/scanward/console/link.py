"""Watching the guards: one connection to each for all browsers, made anew whenever it ends.

A guard is asked each second whether it lives. One that says nothing for three is shown as silent, within the five that
docs/console.md promises; after ten the connection is made anew. Watching sends pings and questions, never an act.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.routing import Route

from scanward.config import CONSOLE_BOUNDS, ConsoleBounds
from scanward.console.settings import ControlAddress
from scanward.console.shared import Console
from scanward.console.state import Reach, ScannerState
from scanward.console.wire import Wire
from scanward.errors import DecodeError, LinkError
from scanward.keys import passphrase_from_environment
from scanward.web.site import Link

_log = logging.getLogger("scanward.console")

ROUTES: Sequence[Route] = ()
LINKS: Sequence[Link] = ()

_PING: Final = b'{"type":"ping"}\n'
_ASK: Final = b'{"type":"snapshot"}\n'


class Watcher:
    """Keeps one scanner's state, as long as `run` runs.

    Parameters
    ----------
    changed : callable
        Called whenever the state is new.
    clock : callable
        s since 1970.
    """

    def __init__(
        self,
        state: ScannerState,
        address: ControlAddress,
        changed: Callable[[], None],
        clock: Callable[[], float],
        passphrase: bytes | None = None,
        bounds: ConsoleBounds = CONSOLE_BOUNDS,
    ) -> None:
        self._state, self._address = state, address
        self._changed, self._clock = changed, clock
        self._passphrase, self._bounds = passphrase, bounds

    async def run(self) -> None:
        """Watch until cancelled."""
        bounds, wait = self._bounds, self._bounds.reconnect_seconds
        while True:
            try:
                wire = await Wire.open(self._address, self._passphrase, bounds)
                wait = bounds.reconnect_seconds
                try:
                    await self._follow(wire)
                finally:
                    wire.close()
            except LinkError as error:
                self._lost(Reach.DOWN, error)
            except DecodeError as error:
                self._lost(Reach.REFUSED, error)
            await asyncio.sleep(wait)
            wait = min(2.0 * wait, bounds.reconnect_most)

    def _lost(self, reach: Reach, error: LinkError | DecodeError) -> None:
        news = self._state.reached(reach, error.what)
        if self._state.forgotten(self._clock()) or news:
            self._changed()

    async def _follow(self, wire: Wire) -> None:
        """Until the connection ends: LinkError or DecodeError, always."""
        loop, bounds, state = asyncio.get_running_loop(), self._bounds, self._state
        hello = wire.hello
        state.said_hello(hello.policy, local=hello.local, without_key=hello.without_key)
        state.heard(self._clock())
        state.snapshot(wire.state, self._clock())
        state.reached(Reach.UP)
        self._changed()
        heard = pinged = asked = loop.time()
        stale = False  # something happened that the state does not show yet
        while True:
            now = loop.time()
            if now - asked >= (bounds.snapshot_seconds if stale else bounds.refresh_seconds):
                wire.send(_ASK)
                asked, stale = now, False
            if now - pinged >= bounds.ping_seconds:
                wire.send(_PING)
                pinged = now
            if now - heard >= bounds.lost_seconds:
                raise LinkError("the guard says nothing", str(self._address), "")
            if now - heard >= bounds.silent_seconds and state.reached(
                Reach.SILENT, f"nothing heard for {bounds.silent_seconds:g} s"
            ):
                self._changed()
            try:
                async with asyncio.timeout(bounds.snapshot_seconds / 2):
                    line = await wire.line()
            except TimeoutError:
                continue
            heard = loop.time()
            state.heard(self._clock())
            news = self._take(line)
            stale = stale or news
            if state.reached(Reach.UP) or news or line.get("type") == "snapshot":
                self._changed()

    def _take(self, line: dict[str, Any]) -> bool:
        """Fold a line into the state; whether the whole state should be asked for."""
        kind, data = line.get("kind"), line.get("data")
        if line.get("type") == "snapshot" and isinstance(line.get("state"), dict):
            self._state.snapshot(line["state"], self._clock())
        elif line.get("type") == "event" and isinstance(kind, str) and isinstance(data, dict):
            self._state.event(kind[:64], data, self._clock())
            return True
        return False


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[None]:
    """Watch all scanners."""
    passphrase = passphrase_from_environment()
    tasks = []
    for one in console.settings.scanners:
        state = console.scanners[one.id]
        watcher = Watcher(state, one.control, console.hub.changed, console.clock, passphrase)
        tasks.append(asyncio.create_task(_kept_running(watcher, state, console.hub.changed)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kept_running(watcher: Watcher, state: ScannerState, changed: Callable[[], None]) -> None:
    """A bug of ours must not leave a scanner that looks alive, nor one that nobody watches any more."""
    while True:
        task = asyncio.create_task(watcher.run())
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        _log.critical("watching %s ended", state.id, exc_info=task.exception())
        state.reached(Reach.REFUSED, "this console failed to read what the guard says, and tries again")
        changed()
        await asyncio.sleep(CONSOLE_BOUNDS.reconnect_most)
