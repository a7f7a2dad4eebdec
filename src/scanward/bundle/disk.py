"""The few things ``write`` does to a disk, one method each, so that a test can fail or stop at every one."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """What ``write`` needs. Every method raises OSError as the system call of that name does."""

    def lock(self, path: Path) -> int:
        """Create or open ``path`` and lock it against other writers; a descriptor whose closing unlocks."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make one directory."""
        ...

    def create(self, path: Path) -> int:
        """Create a file that was not there; its descriptor."""
        ...

    def write(self, handle: int, data: memoryview) -> int:
        """Write some of ``data``; how many bytes."""
        ...

    def sync(self, handle: int) -> None:
        """Return when everything written is durable."""
        ...

    def close(self, handle: int) -> None:
        """Close a descriptor."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the names in ``path`` are durable."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Move ``old`` to ``new``, atomically."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a directory and all in it; nothing when it is not there."""
        ...


class PosixDisk:
    """The real one."""

    def lock(self, path: Path) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def mkdir(self, path: Path) -> None:
        path.mkdir()

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def write(self, handle: int, data: memoryview) -> int:
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        os.fsync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def sync_directory(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove(self, path: Path) -> None:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            path.unlink()
