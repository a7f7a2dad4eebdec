"""The few things the writer does to a disk, one method each, so that a test can fail or stop at every one."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Final, Protocol

SEGMENT_NAME: Final = re.compile(r"[0-9]{8}\.audit")
RESERVE: Final = "reserve"
LOCK: Final = "lock"


def segment_name(index: int) -> str:
    """``00000001.audit``: names sort as the log runs."""
    return f"{index:08d}.audit"


class Folder(Protocol):
    """What the writer needs of its folder. Every method raises OSError as the system call of that name."""

    def names(self) -> list[str]:
        """Names in the folder, sorted."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """The first ``limit`` bytes of a file."""
        ...

    def create(self, name: str) -> int:
        """Make a file that was not there; its descriptor."""
        ...

    def open(self, name: str) -> int:
        """Open a file that is there for writing; its descriptor."""
        ...

    def write(self, handle: int, data: memoryview, offset: int) -> int:
        """Write some of ``data`` at ``offset``; how many bytes."""
        ...

    def allocate(self, handle: int, size: int) -> None:
        """Take ``size`` bytes of disk for the file, zeros until written."""
        ...

    def sync(self, handle: int) -> None:
        """Return when everything written to the file is durable."""
        ...

    def close(self, handle: int) -> None:
        """Close a descriptor."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, atomically."""
        ...

    def remove(self, name: str) -> None:
        """Take a name away."""
        ...

    def sync_names(self) -> None:
        """Return when the names in the folder are durable."""
        ...


class PosixFolder:
    """The real one; locked against a second writer for as long as it is open."""

    def __init__(self, path: Path) -> None:
        """Open (and make) the folder; BlockingIOError when another writer has it."""
        self.path = path
        if not path.is_dir():
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(above)  # or a power cut takes the whole folder
            finally:
                os.close(above)
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock = os.open(
                LOCK,
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o640,
                dir_fd=self._directory,
            )
        except OSError:
            os.close(self._directory)
            raise
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.done()
            raise

    def done(self) -> None:
        """Let go of the lock and the folder."""
        os.close(self._lock)
        os.close(self._directory)

    def names(self) -> list[str]:
        return sorted(os.listdir(self._directory))  # noqa: PTH208 - by descriptor, not by path

    def read(self, name: str, limit: int) -> bytes:
        handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory)
        with os.fdopen(handle, "rb") as file:
            return file.read(limit)

    def create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, 0o640, dir_fd=self._directory)

    def open(self, name: str) -> int:
        return os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory)

    def write(self, handle: int, data: memoryview, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def allocate(self, handle: int, size: int) -> None:
        os.posix_fallocate(handle, 0, size)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._directory)

    def sync_names(self) -> None:
        os.fsync(self._directory)
