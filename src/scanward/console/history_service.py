"""The history while the console is served: an importer for each scanner with an audit log, in threads of its own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.console.history_import import Importer, Standing
from scanward.console.history_store import HistoryStore
from scanward.console.shared import Console
from scanward.errors import InputError, ScanwardError
from scanward.keys import VerifyKey

KEPT: Final = "scanward.console.history"
_THREADS: Final = 3  # two scanners may be imported or verified while a page is asked for
_LOG: Final = logging.getLogger(__name__)
_Found = TypeVar("_Found")


class History:
    """The file of history and what fills it. Lives in the event loop; all that blocks is done in its threads."""

    def __init__(
        self, store: HistoryStore, importers: dict[str, Importer], bounds: HistoryBounds = HISTORY_BOUNDS
    ) -> None:
        self.store, self.importers, self._bounds = store, importers, bounds
        self.verifying: set[str] = set()
        self._threads = ThreadPoolExecutor(_THREADS, "history")

    async def ask(self, question: Callable[..., _Found], *values: Any, **named: Any) -> _Found:
        """Ask the store, in a thread: ``question(store, *values)``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(self.store, *values, **named))

    async def follow(self, importer: Importer) -> None:
        """Import one log for ever. What cannot be read is tried again; ``importer.standing`` says why."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                while await loop.run_in_executor(self._threads, importer.step):
                    pass
                if await loop.run_in_executor(self._threads, importer.due):
                    await self.verify(importer)
            except (
                ScanwardError,
                sqlite3.Error,
            ) as error:  # the history's own disk: the console goes on without it
                _LOG.error("history of %s: %s", importer.scanner, error)
                importer.standing = Standing(
                    f"the history cannot be written: {error}", importer.standing.looked
                )
            except Exception as error:  # noqa: BLE001 - a bug: said on the pages, and tried again
                _LOG.exception("history of %s", importer.scanner)
                importer.standing = Standing(f"unexpected {type(error).__name__}", importer.standing.looked)
            await asyncio.sleep(self._bounds.poll_seconds)

    async def verify(self, importer: Importer) -> bool:
        """Verify a whole log now; False when that is under way already."""
        if importer.scanner in self.verifying:
            return False
        self.verifying.add(importer.scanner)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, importer.verify)
        finally:
            self.verifying.discard(importer.scanner)
        return True

    def close(self) -> None:
        """Let the threads finish what they do, and close the file."""
        self._threads.shutdown(wait=True)
        self.store.close()


def open_history(console: Console) -> History:
    """The history of a console's scanners.

    Raises
    ------
    InputError, KeyFileError
        The file of history, or a key in ``audit_keys``, cannot be used.
    """
    settings = console.settings
    store = HistoryStore(settings.web.history)
    try:
        importers = {
            one.id: Importer(
                store,
                one.id,
                one.audit,
                [VerifyKey.load(path) for path in one.audit_keys],
                one.audit_witness,
                console.clock,
            )
            for one in settings.scanners
            if one.audit is not None
        }
    except ScanwardError:
        store.close()
        raise
    return History(store, importers)


def history_of(console: Console) -> History:
    """What `running` opened; InputError before and after."""
    found = console.kept.get(KEPT)
    if not isinstance(found, History):
        raise InputError("the history is not open", "", "try again in a moment")
    return found


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[None]:
    """Import for as long as the console is served."""
    history = await asyncio.to_thread(open_history, console)
    console.kept[KEPT] = history
    tasks = [asyncio.create_task(history.follow(one)) for one in history.importers.values()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del console.kept[KEPT]
        await asyncio.to_thread(history.close)
