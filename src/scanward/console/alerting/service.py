"""Alerts while the console is served: listens to all scanners and looks at doses. Begins before the links do."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from starlette.routing import Route

from scanward.config import ALERTING_BOUNDS
from scanward.console.alerting.alert import Alert
from scanward.console.alerting.desk import Desk
from scanward.console.alerting.doses import DoseLook
from scanward.console.alerting.rules import AlertSettings, read_settings
from scanward.console.alerting.senders import open_sender
from scanward.console.history_service import KEPT as HISTORY
from scanward.console.history_service import History
from scanward.console.shared import Console
from scanward.errors import RequestError, ScanwardError
from scanward.web.site import Link

ROUTES: Sequence[Route] = ()
LINKS: Sequence[Link] = ()
_SETTINGS: Final = f"{__name__}.settings"
_log = logging.getLogger("scanward.console.alerting")


def prepare(console: Console) -> None:
    """Read ``[[alert]]`` and ``[[dose_alert]]``, before anything is served; SettingsError for what is wrong."""
    settings = read_settings(console.settings)
    for route in settings.routes:
        open_sender(route, source_of(console))
    console.kept[_SETTINGS] = settings


def configured(console: Console) -> AlertSettings:
    """What `prepare` has read."""
    settings = console.kept[_SETTINGS]
    assert isinstance(settings, AlertSettings)
    return settings


def source_of(console: Console) -> str:
    """The name of this console in its messages."""
    hosts = console.settings.web.hosts
    return hosts[0] if hosts else "scanward-console"


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[None]:
    """Listen to all scanners, look at doses, send."""
    settings: AlertSettings = console.kept.get(_SETTINGS) or AlertSettings()
    source = source_of(console)

    def opened() -> Desk:
        senders = {route.name: open_sender(route, source) for route in settings.routes}
        return Desk(console.settings.web.spool, settings, senders, console.clock)

    desk = await asyncio.to_thread(opened)
    console.kept[__name__] = desk
    for scanner in console.scanners.values():
        scanner.listener = desk.hearing(scanner.id, scanner.name)
    desk.start()
    doses = asyncio.create_task(_doses(console, desk)) if settings.doses else None
    try:
        yield
    finally:
        if doses is not None:
            doses.cancel()
            await asyncio.gather(doses, return_exceptions=True)
        for scanner in console.scanners.values():
            scanner.listener = None
        del console.kept[__name__]
        await asyncio.to_thread(desk.close)


async def _doses(console: Console, desk: Desk) -> None:
    """Look at new doses of the history for ever."""
    names = {scanner.id: scanner.name for scanner in console.scanners.values()}
    look = DoseLook(desk.settings.doses, desk.known.cursors, names, desk.spool)
    trouble = ""
    while True:
        more = False
        history = console.kept.get(HISTORY)
        try:
            if not isinstance(history, History):  # the other parts begin later than this one, and end earlier
                await asyncio.sleep(0.1)
                continue
            alerts, progress, more = await history.ask(look.step, desk.clock())
            desk.take(*alerts, progress=progress)
            trouble = ""
        except (ScanwardError, sqlite3.Error) as error:
            if str(error) != trouble:
                trouble = str(error)
                _log.error("doses are not looked at: %s", trouble)
                text = f"doses are not compared with the rules until the history can be read: {trouble}"
                desk.take(Alert("", "", "dose_skipped", "history", text[:500], desk.clock()))
        if not more:
            await asyncio.sleep(ALERTING_BOUNDS.dose_poll)


def desk_of(console: Console) -> Desk:
    """The desk while the console is served; RequestError (503) otherwise."""
    found = console.kept.get(__name__)
    if not isinstance(found, Desk):
        raise RequestError("alerts are not carried at this moment", "", "try again in a moment", 503)
    return found
