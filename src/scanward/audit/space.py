"""What the writer asks of its folder as a whole step: a segment file, the reserve, all of some bytes."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Final

from scanward.audit.folder import RESERVE, Folder

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that mean: no room. EFBIG comes from a limit on the size of one file."""


def write_all(folder: Folder, handle: int, data: bytes, offset: int) -> None:
    """Write all of ``data``, however short the writes; OSError when they stop."""
    view = memoryview(data)
    while view:
        written = folder.write(handle, view, offset)
        if written <= 0:
            raise OSError(errno.EIO, "nothing was written")
        view, offset = view[written:], offset + written


def make_segment(folder: Folder, source: str, header: bytes, *, reserve: bool) -> int:
    """A file that begins with ``header``, durable under the name ``source``; its descriptor."""
    handle = folder.open(source) if reserve else folder.create(source)
    try:
        write_all(folder, handle, header, 0)
        folder.sync(handle)
    except OSError:
        drop(folder, handle, source)
        raise
    return handle


def name_segment(folder: Folder, handle: int, source: str, name: str) -> None:
    """Give it its name for good. When that fails, the name may be taken or not."""
    try:
        folder.rename(source, name)
        folder.sync_names()
    except OSError:
        drop(folder, handle, source)
        raise


def drop(folder: Folder, handle: int, name: str) -> None:
    """Close a file and take its name away, as far as the disk still lets us."""
    with suppress(OSError):
        folder.close(handle)
    with suppress(OSError):
        folder.remove(name)


def reserve_ready(folder: Folder, size: int) -> bool:
    """Have the reserve: ``size`` bytes, all zeros. False when there is no room for it."""
    if RESERVE in folder.names():
        data = folder.read(RESERVE, size + 1)
        if len(data) == size and not any(data):
            return True
        folder.remove(RESERVE)
    return take_reserve(folder, size)


def take_reserve(folder: Folder, size: int) -> bool:
    """Take the space for a new reserve; False when there is no room, OSError when the disk fails."""
    fresh = f"{RESERVE}.new"
    try:
        handle = folder.create(fresh)
        try:
            folder.allocate(handle, size)
            folder.sync(handle)
        finally:
            folder.close(handle)
        folder.rename(fresh, RESERVE)
        folder.sync_names()
    except OSError as error:
        with suppress(OSError):
            folder.remove(fresh)
        if error.errno in FULL:
            return False
        raise
    return True
