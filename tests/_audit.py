"""A disk in memory that fails on command, and small helpers, for the tests of the audit log."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanward.audit import Checkpoint, Moment, Record, Report, Writer, read, verify
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.keys import SigningKey

KEY = SigningKey.from_seed(b"audit log, tests".ljust(32))
OTHER_KEY = SigningKey.from_seed(b"another key".ljust(32))
SECTOR = 512

# Small, so that every corner is reached within some fifty records.
SMALL: AuditBounds = replace(
    AUDIT_BOUNDS,
    segment_bytes=4000,
    reserve_bytes=6000,
    checkpoint_records=7,
    checkpoint_ns=10**15,
    segment_ns=10**15,
    reserve_retry_ns=10,
)


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.ns = 1_000

    def __call__(self, step: int = 1) -> Moment:
        self.ns += step
        return Moment(self.ns, 1_800_000_000_000_000_000 + self.ns)


class PowerLossError(BaseException):
    """The machine is gone: nothing of the program runs on."""


@dataclass
class File:
    """What a program sees, what the platters hold, and the writes in between."""

    seen: bytearray = field(default_factory=bytearray)
    kept: bytearray = field(default_factory=bytearray)
    dirty: list[tuple[int, bytes]] = field(default_factory=list)
    allocated: int = 0


class FaultyFolder:
    """A `Folder` in memory.

    ``fault`` is (number of the operation, what): "power", "eio", "enospc" or "short". ``capacity`` bounds the
    bytes of all files; going beyond is ENOSPC, after as much as fits was written.
    """

    def __init__(self, fault: tuple[int, str] | None = None, capacity: int = 1 << 40) -> None:
        self.files: dict[str, File] = {}
        self.kept_names: dict[str, File] = {}
        self.name_log: list[dict[str, File]] = []  # states of the names since they were last synced
        self.handles: dict[int, File] = {}
        self.fault, self.capacity = fault, capacity
        self.operations: list[str] = []
        self._next = 3

    def _step(self, what: str) -> str:
        number = len(self.operations)
        self.operations.append(what)
        if self.fault and self.fault[0] == number:
            kind = self.fault[1]
            if kind == "power":
                raise PowerLossError
            if kind == "eio" or (kind == "short" and what != "write"):
                raise OSError(errno.EIO, "Input/output error")
            if kind == "enospc":
                raise OSError(errno.ENOSPC, "No space left on device")
            return kind
        return ""

    def _room(self) -> int:
        used = sum(max(len(f.seen), f.allocated) for f in {id(f): f for f in self.files.values()}.values())
        return self.capacity - used

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str, limit: int) -> bytes:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return bytes(self.files[name].seen[:limit])

    def _handle(self, file: File) -> int:
        self._next += 1
        self.handles[self._next] = file
        return self._next

    def create(self, name: str) -> int:
        self._step("create")
        if name in self.files:
            raise FileExistsError(errno.EEXIST, "File exists")
        if self._room() <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.files[name] = File()
        self.name_log.append(dict(self.files))
        return self._handle(self.files[name])

    def open(self, name: str) -> int:
        self._step("open")
        return self._handle(self.files[name])

    def write(self, handle: int, data: memoryview, offset: int) -> int:
        kind = self._step("write")
        file = self.handles[handle]
        piece = bytes(data)
        if kind == "short":
            piece = piece[: max(1, len(piece) // 2)]
        growth = offset + len(piece) - max(len(file.seen), file.allocated)
        if growth > self._room():
            piece = piece[: len(piece) - (growth - max(0, self._room()))]
            if not piece:
                raise OSError(errno.ENOSPC, "No space left on device")
        _put(file.seen, offset, piece)
        file.dirty.append((offset, piece))
        return len(piece)

    def allocate(self, handle: int, size: int) -> None:
        self._step("allocate")
        file = self.handles[handle]
        if size - max(len(file.seen), file.allocated) > self._room():
            raise OSError(errno.ENOSPC, "No space left on device")
        file.allocated = size
        _put(file.seen, size - 1, b"\0")
        file.dirty.append((0, bytes(size)))

    def sync(self, handle: int) -> None:
        file = self.handles[handle]
        try:
            self._step("sync")
        except OSError:
            # As Linux does it: the pages are marked clean, so the next sync has nothing to write and succeeds.
            file.dirty.clear()
            raise
        for offset, piece in file.dirty:
            _put(file.kept, offset, piece)
        file.dirty.clear()

    def close(self, handle: int) -> None:
        del self.handles[handle]

    def rename(self, old: str, new: str) -> None:
        self._step("rename")
        self.files[new] = self.files.pop(old)
        self.name_log.append(dict(self.files))

    def remove(self, name: str) -> None:
        self._step("remove")
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        del self.files[name]
        self.name_log.append(dict(self.files))

    def sync_names(self) -> None:
        self._step("sync_names")
        self.kept_names = dict(self.files)
        self.name_log.clear()

    def after_power_loss(self, keep: str, chance: random.Random) -> FaultyFolder:
        """The disk as the next boot finds it: of what was not synced ``keep`` nothing, all, or some sectors."""
        states = [self.kept_names, *self.name_log]
        names = {"nothing": states[0], "all": states[-1], "some": chance.choice(states)}[keep]
        later = FaultyFolder(capacity=self.capacity)
        for name, file in names.items():
            data = bytearray(file.kept)
            for offset, piece in file.dirty:
                for at in range(0, len(piece), SECTOR):
                    if keep == "all" or (keep == "some" and chance.random() < 0.5):
                        _put(data, offset + at, piece[at : at + SECTOR])
            later.files[name] = File(data, bytearray(data), [], file.allocated)
        later.kept_names = dict(later.files)
        return later

    def dump(self, folder: Path) -> Path:
        """Write the files to a real folder, as a reader would find them."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, file in self.files.items():
            (folder / name).write_bytes(file.seen)
        return folder


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset + len(piece):
        data.extend(bytes(offset + len(piece) - len(data)))
    data[offset : offset + len(piece)] = piece


def verified(folder: Path, witness: Iterable[Checkpoint] | None = None) -> Report:
    """`verify` with the tests' key."""
    return verify(folder, [KEY.verify_key], None if witness is None else list(witness), bounds=SMALL)


def payloads(folder: Path) -> dict[int, bytes]:
    """Records of callers by number."""
    return {record.seq: record.payload for record in records(folder) if record.kind == 0}


def records(folder: Path) -> list[Record]:
    """All records."""
    return list(read(folder, bounds=SMALL))


def write_log(
    disk: FaultyFolder,
    groups: Iterable[Iterable[bytes]],
    *,
    witness: Callable[[Checkpoint], None] | None = None,
    clock: Clock | None = None,
    close: bool = True,
    key: SigningKey = KEY,
    bounds: AuditBounds = SMALL,
    log_id: bytes = b"L" * 16,
) -> Writer:
    """A log of some groups, committed one by one."""
    clock = clock or Clock()
    writer = Writer(disk, key, clock(), witness=witness, bounds=bounds, new_id=lambda _: log_id)
    for group in groups:
        for payload in group:
            writer.append(payload, clock())
        writer.commit(clock())
    if close:
        writer.close(clock())
    return writer
