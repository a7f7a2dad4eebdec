"""Witnesses: places elsewhere that keep checkpoints, so that whoever owns the log cannot rewrite it unseen.

A witness is anything that takes a line and keeps it. Here are two on a file system (another disk, a mount of
another machine); `scanward.shipping` adds syslog. A witness may be slow or gone: `Courier` hands checkpoints
over in a thread of its own, and never makes the writer wait.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from scanward.audit.checkpoints import Checkpoint
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, DecodeError, InputError

_NAME: Final = re.compile(r"[0-9a-f]{32}-[0-9]{20}\.checkpoint")


class Keeper(Protocol):
    """A witness. ``keep`` returns when the checkpoint is kept for good, and raises AuditError otherwise."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep one checkpoint."""
        ...


class FolderWitness:
    """One file for each checkpoint in a folder, ``LOGID-SEQ.checkpoint``; none is ever written over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, checkpoint: Checkpoint) -> None:
        """As `Keeper`; AuditError also when another checkpoint of that log and record is there already."""
        path = self.folder / f"{checkpoint.log_id.hex()}-{checkpoint.seq:020d}.checkpoint"
        text = f"{checkpoint.line}\n".encode("ascii")
        try:
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o440)
            except FileExistsError as error:
                if path.read_bytes() == text:
                    return
                raise AuditError(
                    f"another checkpoint of record {checkpoint.seq} is there",
                    str(path),
                    "keep both: evidence",
                ) from error
            _fill(handle, text)
            _sync_names(self.folder)
        except OSError as error:
            raise _not_kept(path, error) from error


class FileWitness:
    """Lines appended to one file. Give the file ``chattr +a`` where the file system has it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, checkpoint: Checkpoint) -> None:
        """As `Keeper`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            # A line end in front: a line that a crash cut short must not swallow the next one.
            _fill(os.open(self.path, flags, 0o640), f"\n{checkpoint.line}\n".encode("ascii"))
        except OSError as error:
            raise _not_kept(self.path, error) from error


def witness_at(path: Path) -> Keeper:
    """The witness at ``path``: a folder where it is one, else a file."""
    return FolderWitness(path) if path.is_dir() else FileWitness(path)


def witnessed(path: Path, bounds: AuditBounds = AUDIT_BOUNDS) -> list[Checkpoint]:
    """All checkpoints kept in a folder or a file, in the order they stand there. Signatures are not checked.

    A file may hold anything else besides: what a syslog server wrote will do.

    Raises
    ------
    InputError
        When it cannot be read, or is larger than a reader takes.
    """
    found = []
    total = 0
    try:
        names = path.iterdir() if path.is_dir() else [path]
        for name in sorted(names):
            if path.is_dir() and not _NAME.fullmatch(name.name):
                continue
            with name.open("rb") as file:
                for raw in file:
                    total += len(raw)
                    if total > bounds.witness_bytes:
                        raise InputError(
                            f"a witness of more than {bounds.witness_bytes} bytes",
                            str(path),
                            "give a part of it",
                        )
                    if b"scanward-checkpoint-1 " not in raw:
                        continue
                    try:
                        found.append(Checkpoint.parse(raw.decode("utf-8", errors="replace")))
                    except DecodeError:
                        continue  # cut short or scribbled on: says nothing
    except OSError as error:
        raise InputError(
            f"the witness cannot be read: {error.strerror}", str(path), "check the path and who may read it"
        ) from error
    return found


class Courier:
    """Carries checkpoints to a witness in a thread: at most ``bounds.witness_queue`` wait, the newest win.

    A checkpoint covers all records before it, so nothing but a finer grain is lost with an older one.
    """

    def __init__(
        self,
        keeper: Keeper,
        told: Callable[[str], None] = lambda _: None,
        bounds: AuditBounds = AUDIT_BOUNDS,
    ) -> None:
        """``told`` hears (in the thread) what went wrong each time the witness stops or starts to work."""
        self._keeper, self._told = keeper, told
        self._waiting: deque[Checkpoint] = deque(maxlen=bounds.witness_queue)
        self._wake = threading.Condition()
        self._ending = False
        self.kept = 0  # highest record that the witness covers
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Take one; returns at once."""
        with self._wake:
            self._waiting.append(checkpoint)
            self._wake.notify()

    def close(self, timeout_s: float) -> bool:
        """Carry what waits, for at most ``timeout_s`` seconds; whether all was kept."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._waiting

    def _run(self) -> None:
        well = True
        while True:
            with self._wake:
                # A witness that failed is asked again with the next checkpoint, or after a second.
                self._wake.wait_for(
                    lambda: self._ending or bool(self._waiting), timeout=None if well else 1.0
                )
                if not self._waiting:
                    if self._ending:
                        return
                    continue
                checkpoint = self._waiting.popleft()
            try:
                self._keeper.keep(checkpoint)
            except AuditError as error:
                if well:
                    self._told(str(error))
                well = False
                with self._wake:
                    if self._ending:
                        return
                    if len(self._waiting) < (self._waiting.maxlen or 0):
                        self._waiting.appendleft(checkpoint)
                    self._wake.wait(1.0)
                continue
            if not well:
                self._told("")
            well = True
            self.kept = max(self.kept, checkpoint.seq)


def _fill(handle: int, text: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_names(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_kept(path: Path, error: OSError) -> AuditError:
    return AuditError(f"the witness keeps nothing: {error.strerror}", str(path), "check the disk it is on")
