"""What is read from files and must stay true for months: read again when a file changes.

A node runs on while authorities publish new revocation lists. Whoever replaces a list replaces the file; no restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from scanward.errors import InputError

T = TypeVar("T")
_Look = tuple[tuple[int, int, int], ...]


class Fresh(Generic[T]):
    """Calling it gives what ``load`` made of ``paths`` as they are now.

    While a changed file cannot be used, every call raises the loader's error: what it said before is not trusted on.

    Parameters
    ----------
    paths : sequence of Path
        Files whose change (of inode, time or size) makes it load again.
    load : callable
        Reads them; its errors are ours.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        self._paths, self._load = tuple(paths), load
        self._lock = threading.Lock()
        self._seen = self._look()
        self._value: T | None = load()

    def __call__(self) -> T:
        """The present value; InputError when a file is gone."""
        with self._lock:
            now = self._look()
            if now != self._seen or self._value is None:
                self._value = None
                self._value = self._load()
                self._seen = now
            return self._value

    def _look(self) -> _Look:
        found = []
        for path in self._paths:
            try:
                facts = path.stat()
            except OSError as error:
                raise InputError(
                    f"cannot be read ({error.strerror})", str(path), "put the file back"
                ) from error
            found.append((facts.st_ino, facts.st_mtime_ns, facts.st_size))
        return tuple(found)
