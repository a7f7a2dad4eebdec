"""Files read whole and written whole.

Read into memory, never mapped: what is hashed and what is written are then the same bytes, whatever becomes of the file
meanwhile. A new file has its bytes on the disk before it takes a name, so a crash at any moment leaves the old file or
the new one. What is left of a crash begins with `DRAFT`.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import InputError

Piece = bytes | memoryview
DRAFT: Final = ".signing-"
_MOST_PIECES: Final = 1024  # Linux' IOV_MAX: slices of one call
_kept = threading.local()


@contextmanager
def content(path: Path) -> Iterator[memoryview]:
    """All of a file, good until the block ends: each thread has one buffer that it uses again.

    Fresh memory for 33 MB costs about as much as hashing them.

    Raises
    ------
    InputError
        When it cannot be read, is too long, or no plain file: a pipe might never end.
    """
    buffer: bytearray | None = getattr(_kept, "buffer", None)
    _kept.buffer = None  # ours alone until the block ends
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise InputError("no plain file", str(path), "give a file")
            size = facts.st_size
            if size > SIGNATURE_BOUNDS.file_bytes:
                raise InputError(
                    f"more than {SIGNATURE_BOUNDS.file_bytes} bytes", str(path), "give smaller files"
                )
            if buffer is None or len(buffer) <= size:
                buffer = bytearray(size + 1)  # a byte more shows a file that grows
            view, found = memoryview(buffer), 0
            while found <= size and (count := stream.readinto(view[found : size + 1])):
                found += count
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check the path") from error
    if found != size:
        raise InputError("it changed while it was read", str(path), "try again when it is whole")
    try:
        yield view[:size].toreadonly()
    finally:
        if len(buffer) <= SIGNATURE_BOUNDS.kept_bytes:
            _kept.buffer = buffer


def replace(target: Path, first: Sequence[Piece], rest: Callable[[], Sequence[Piece]], like: Path) -> Path:
    """A file of ``first`` and what ``rest`` gives, under the name ``target``, with the rights of it or of ``like``.

    A long ``first`` goes to the disk while ``rest`` is still working. The folder that has to be settled for the name
    to last. OSError as the disk has it; then nothing is left.
    """
    if target.is_symlink():
        target = target.resolve()
    mode = (target if target.exists() else like).stat().st_mode & 0o7777
    number, draft = tempfile.mkstemp(prefix=DRAFT, dir=target.parent)
    try:
        try:
            os.fchmod(number, mode)
            if sum(map(len, first)) >= SIGNATURE_BOUNDS.overlapped_bytes:
                with ThreadPoolExecutor(1) as beside:
                    flushed = beside.submit(_flushed, number, first)
                    last = rest()
                    flushed.result()
                _written(number, last)
            else:
                _written(number, [*first, *rest()])
            os.fsync(number)
        finally:
            os.close(number)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return target.parent


def settle(folders: Iterable[Path]) -> None:
    """Wait until the names in these folders are on the disk. OSError as the disk has it."""
    for folder in sorted(set(folders)):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _flushed(number: int, pieces: Sequence[Piece]) -> None:
    _written(number, pieces)
    os.fdatasync(number)


def _written(number: int, pieces: Sequence[Piece]) -> None:
    left = [memoryview(piece) for piece in pieces if len(piece)]
    while left:
        count = os.writev(number, left[:_MOST_PIECES])
        done = 0
        while done < len(left) and count >= len(left[done]):
            count -= len(left[done])
            done += 1
        del left[:done]
        if count:
            left[0] = left[0][count:]
