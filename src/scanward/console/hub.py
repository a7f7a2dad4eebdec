"""News of all scanners for all browsers: each is woken, takes what changed, and never makes another wait.

A browser has no queue of messages but a mark per scanner: what it has not taken yet is replaced by what is newer, so a
burst costs it one message, and who does not read costs the others nothing. Lives in the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from scanward.console.state import ScannerState

_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class Reader:
    """One browser's stream: the scanners that changed since it last took them."""

    def __init__(self, scanners: Mapping[str, ScannerState], labels: bool) -> None:
        self.labels = labels
        self.ended = ""  # why, where the hub wants it to end
        self._scanners = scanners
        self._taken: dict[str, int] = {}
        self._news = asyncio.Event()
        self._news.set()

    def wake(self) -> None:
        """Something changed."""
        self._news.set()

    def end(self, why: str) -> None:
        """Have the stream end itself."""
        self.ended = why
        self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Until there is news, or ``seconds`` are over; whether there is."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def take(self) -> list[ScannerState]:
        """What changed since the last time; at first everything."""
        self._news.clear()
        fresh = [s for s in self._scanners.values() if self._taken.get(s.id) != s.version]
        for scanner in fresh:
            self._taken[scanner.id] = scanner.version
        return fresh


class Hub:
    """All scanners of the console and the streams that show them."""

    def __init__(self, scanners: Mapping[str, ScannerState]) -> None:
        self.scanners = scanners
        self._readers: set[Reader] = set()
        self._encoded: dict[tuple[str, bool], tuple[int, str]] = {}

    @property
    def readers(self) -> int:
        """Streams that are open."""
        return len(self._readers)

    def changed(self) -> None:
        """Some scanner's state is new: whoever watches is told."""
        for reader in self._readers:
            reader.wake()

    def close(self, why: str) -> None:
        """End all streams: the console stops."""
        for reader in self._readers:
            reader.end(why)

    @contextmanager
    def reading(self, *, labels: bool) -> Iterator[Reader]:
        """A browser's stream, for as long as the block lasts."""
        reader = Reader(self.scanners, labels)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def encoded(self, scanner: ScannerState, *, labels: bool) -> str:
        """The scanner's state in JSON; made once for all browsers that may see the same."""
        key = (scanner.id, labels)
        version, text = self._encoded.get(key, (-1, ""))
        if version != scanner.version:
            text = _ENCODER.encode(scanner.as_json(labels=labels))
            self._encoded[key] = (scanner.version, text)
        return text
