"""Signing files, one or a folder of them: read, signed, on the disk, named."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import DecodeError, InputError, ScanwardError, SettingsError
from scanward.signatures import files
from scanward.signatures.signing import Signer, begun


def sign_file(path: Path, signer: Signer, out: Path | None = None, *, at: datetime | None = None) -> Path:
    """Sign a file; without ``out`` in place. The new file is whole and on the disk before it takes its name.

    InputError when a file cannot be read or written; else as `sign_bytes`, with the file's name.
    """
    target = out or path
    folder = _signed_into(path, target, signer, at)
    _settled([folder])
    return target


def sign_files(
    work: Iterable[tuple[Path, Path]], signer: Signer, *, at: datetime | None = None
) -> Iterator[tuple[Path, Path, ScanwardError | None]]:
    """Sign each first file into each second (which may be the same), and say of each what went wrong, in order.

    Some at once, so that they wait for the disk together; all names are on the disk when the last was given. A second
    file may not come twice. InputError when a folder's names cannot be put on the disk.
    """
    room = _Room(SIGNATURE_BOUNDS.signing_bytes)
    folders: set[Path] = set()

    def one(path: Path, target: Path) -> tuple[Path, Path, ScanwardError | None]:
        try:
            with room.of(path):
                folders.add(_signed_into(path, target, signer, at))
        except ScanwardError as error:
            return path, target, error
        return path, target, None

    running: deque[Future[tuple[Path, Path, ScanwardError | None]]] = deque()
    with ThreadPoolExecutor(SIGNATURE_BOUNDS.signing_at_once) as pool:
        try:
            for path, target in work:
                running.append(pool.submit(one, path, target))
                if len(running) > 2 * SIGNATURE_BOUNDS.signing_at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
    _settled(folders)


class _Room:
    """So many bytes of files are in work at once; a longer file goes alone."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._freed = most, 0, threading.Condition()

    @contextmanager
    def of(self, path: Path) -> Iterator[None]:
        """Waits until there is room for a file."""
        try:
            size = min(path.stat().st_size, self._most)
        except OSError:
            size = 0  # who reads it says why it cannot be read
        with self._freed:
            self._freed.wait_for(lambda: self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


def _signed_into(path: Path, target: Path, signer: Signer, at: datetime | None) -> Path:
    """The folder whose names are to be settled."""
    with files.content(path) as data:
        try:
            first, rest = begun(data, signer, at)
            target.parent.mkdir(parents=True, exist_ok=True)
            return files.replace(target, first, rest, like=path)
        except (DecodeError, SettingsError) as error:
            raise type(error)(error.what, f"{path}: {error.where}", error.todo) from error
        except OSError as error:
            raise _unwritten(error, target) from error


def _settled(folders: Iterable[Path]) -> None:
    try:
        files.settle(folders)
    except OSError as error:
        raise _unwritten(error, Path(error.filename or "its folder")) from error


def _unwritten(error: OSError, place: Path) -> InputError:
    return InputError(f"cannot be written ({error.strerror})", str(place), "check the folder")
