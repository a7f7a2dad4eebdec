"""The writer: records in, durable records out. All disk access goes through a `Folder`; it reads no clock.

Records gather until `Writer.commit` writes and syncs them as one group. A segment whose write or sync failed
is never trusted again (after a failed fsync the kernel may have dropped what it could not write, and say
nothing the next time: Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020):
the group is written again, whole, into a new segment that names the last record known to be durable. When
the disk is full the new segment lies in space that was taken beforehand, and only reserved records are
accepted until there is room again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from scanward.audit.checkpoints import Checkpoint
from scanward.audit.folder import RESERVE, Folder, segment_name
from scanward.audit.frames import (
    ABANDONING,
    FRAME_BYTES,
    SEGMENT_BYTES,
    Kind,
    Moment,
    Reason,
    SegmentHeader,
    encode_frame,
)
from scanward.audit.recovery import NOWHERE, Tail, opened_note, tail_of
from scanward.audit.space import FULL, make_segment, name_segment, reserve_ready, take_reserve, write_all
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, AuditFullError
from scanward.keys import SigningKey

_SEGMENTS_A_COMMIT: Final = 3  # segments tried for one group before the disk counts as failed
Witness = Callable[[Checkpoint], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """What the writer found: the log ended with record ``last_seq`` and chain head ``head``.

    ``cut_bytes`` of a torn end were set aside; ``broken`` says what no crash does, and is empty otherwise.
    """

    log_id: bytes
    last_seq: int
    head: bytes
    cut_bytes: int
    broken: str


@dataclass(frozen=True, slots=True)
class _Pending:
    seq: int
    kind: Kind
    moment: Moment
    payload: bytes
    reserved: bool


class Writer:
    """One log. Not for more than one thread."""

    def __init__(
        self,
        folder: Folder,
        key: SigningKey,
        now: Moment,
        *,
        witness: Witness | None = None,
        bounds: AuditBounds = AUDIT_BOUNDS,
        new_id: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open the log in ``folder``, or begin one.

        ``witness`` gets every checkpoint once it is durable; it must not block.

        Raises
        ------
        AuditError
            When the log cannot be read or not be written.
        """
        self._folder, self._key, self._bounds, self._witness = folder, key, bounds, witness
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._handle: int | None = None
        self._limit: int | None = None  # bytes, of a segment that lies in the reserve
        self._reserve = False
        self._full = False
        self._failure = ""
        self._room_tried = now.monotonic_ns
        self._offset = 0  # where the next frame goes
        self._begun_at = now.monotonic_ns
        self._since_checkpoint = 0
        self._checkpoint_at = now.monotonic_ns
        try:
            tail = self._look()
        except OSError as error:
            raise AuditError(
                f"the log cannot be read, or its last segment not synced: {error.strerror}",
                "",
                "check the disk",
            ) from error
        ending = tail.ending if tail else NOWHERE
        self._log_id = tail.log_id if tail else new_id(16)
        self._index = tail.index if tail else 0
        self._durable, self._head = ending.seq, ending.head
        # What a crash cut off was acknowledged to nobody. What was damaged may have been: no number twice.
        self._next_seq = (ending.highest if ending.broken else ending.seq) + 1
        reason = tail.reason if tail else Reason.FIRST
        self.opened = Opened(self._log_id, ending.seq, ending.head, len(ending.cut), ending.broken)
        try:
            self._reserve = reserve_ready(self._folder, bounds.reserve_bytes)
            if not self._reserve:
                self._enter_full(now)
            self._start(tail, reason, now)
        except OSError as error:
            self._give_up(error)
            raise AuditError(
                f"no segment can be begun: {error.strerror}", "", "free some space, or check the disk"
            ) from error
        self._note(opened_note(tail.ending if tail else None, reason), now)
        self.commit(now)

    # --- what a caller sees

    @property
    def durable(self) -> int:
        """Sequence number of the last durable record."""
        return self._durable

    @property
    def head(self) -> bytes:
        """Hash of the last durable record (of the segment's header when it was begun after it)."""
        return self._head

    @property
    def full(self) -> bool:
        """Whether only reserved records are accepted."""
        return self._full

    @property
    def failure(self) -> str:
        """Why nothing is accepted any more; empty while all is well."""
        return self._failure

    @property
    def reserve_left(self) -> int:
        """Bytes that are kept free for reserved records."""
        if self._limit is not None:
            return max(0, self._limit - self._offset)
        return self._bounds.reserve_bytes if self._reserve else 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for `commit`."""
        return self._pending_bytes

    def append(self, payload: bytes, now: Moment, *, reserved: bool = False) -> int:
        """Take one record; its sequence number. It is durable only after `commit`.

        Raises
        ------
        AuditFullError
            When the disk is full and the record is not ``reserved``.
        AuditError
            When the record is too large, or the disk failed.
        """
        if self._failure:
            raise AuditError(self._failure, "", "check the disk, then start the writer again")
        if len(payload) > self._bounds.record_bytes:
            raise AuditError(
                f"a record of {len(payload)} bytes; {self._bounds.record_bytes} are allowed", "", "split it"
            )
        if self._full and not reserved:
            raise AuditFullError(
                "the disk of the log is full: stops and emergency access only", "", "free some space"
            )
        return self._take(Kind.RECORD, payload, now, reserved=reserved)

    def commit(self, now: Moment, *, checkpoint: bool = False) -> int:
        """Make everything appended durable; the last durable sequence number.

        Raises
        ------
        AuditError
            When the disk failed; what was appended since the last commit is then not known to be durable.
        """
        if self._failure:
            raise AuditError(self._failure, "", "check the disk, then start the writer again")
        if not self._pending and not (checkpoint and self._since_checkpoint):
            return self._durable
        self._write_group(now, checkpoint=checkpoint)
        self._rotate_when_due(now)
        return self._durable

    def tick(self, now: Moment) -> None:
        """Call every second or so: checkpoints and rotation by age, and a way out of a full disk."""
        if self._failure:
            return
        if self._full and now.monotonic_ns - self._room_tried >= self._bounds.reserve_retry_ns:
            self._try_for_room(now)
        if self._since_checkpoint and self._checkpoint_due(now):
            self.commit(now, checkpoint=True)
        elif self._pending:
            self.commit(now)
        else:
            self._rotate_when_due(now)

    def close(self, now: Moment) -> None:
        """Commit, say that the log was closed, and sign it."""
        try:
            if not self._failure:
                self.commit(now)  # by itself: the records of the next group then say that this one is durable
                self._note({"kind": "audit.closed", "last_seq": self._durable}, now)
                self._write_group(now, checkpoint=True)
        finally:
            self._close_handle()

    # --- groups

    def _take(self, kind: Kind, payload: bytes, now: Moment, *, reserved: bool) -> int:
        seq = self._next_seq
        self._next_seq += 1
        self._pending.append(_Pending(seq, kind, now, payload, reserved))
        self._pending_bytes += len(payload) + FRAME_BYTES
        return seq

    def _note(self, told: Mapping[str, object], now: Moment) -> None:
        self._take(Kind.NOTE, json.dumps(told).encode("ascii"), now, reserved=True)

    def _checkpoint_due(self, now: Moment) -> bool:
        return (
            self._since_checkpoint + len(self._pending) >= self._bounds.checkpoint_records
            or now.monotonic_ns - self._checkpoint_at >= self._bounds.checkpoint_ns
        )

    def _write_group(self, now: Moment, *, checkpoint: bool) -> None:
        checkpoint = checkpoint or self._checkpoint_due(now)
        if not self._pending and (self._handle is None or self._offset == SEGMENT_BYTES):
            self._note({"kind": "audit.segment"}, now)  # a checkpoint signs a record of its own segment
        reason = Reason.SYNC_FAILED
        for _ in range(_SEGMENTS_A_COMMIT):
            try:
                if self._handle is None:
                    self._begin(reason, now)
                data, head, signed = self._framed(now, checkpoint=checkpoint)
                self._write(data, self._offset)
                self._sync()
            except OSError as error:
                reason = self._trouble(error, now)
                continue
            self._offset += len(data)
            self._head = head
            self._durable = signed.seq + 1 if signed else self._pending[-1].seq
            self._next_seq = self._durable + 1
            self._since_checkpoint = 0 if signed else self._since_checkpoint + len(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            if signed:
                self._checkpoint_at = now.monotonic_ns
                if self._witness:
                    self._witness(signed)  # only now: a witness must never know what the log may lose
            return
        self._give_up(OSError(errno.EIO, f"{_SEGMENTS_A_COMMIT} segments failed one after the other"))
        raise AuditError(self._failure, "", "check the disk, then start the writer again")

    def _framed(self, now: Moment, *, checkpoint: bool) -> tuple[bytes, bytes, Checkpoint | None]:
        parts, head = [], self._head
        for item in self._pending:
            data, head = encode_frame(
                head, item.kind, item.seq, self._durable, item.moment, item.payload, reserved=item.reserved
            )
            parts.append(data)
        if not checkpoint:
            return b"".join(parts), head, None
        seq = self._pending[-1].seq if self._pending else self._durable
        signed = Checkpoint.sign(self._key, self._log_id, seq, head, now.wall_ns)
        line = signed.line.encode("ascii")
        data, head = encode_frame(
            head, Kind.CHECKPOINT, seq + 1, self._durable, now, line, reserved=self._full
        )
        parts.append(data)
        return b"".join(parts), head, signed

    def _write(self, data: bytes, offset: int) -> None:
        if self._handle is None:
            raise OSError(errno.EBADF, "no segment is open")
        if self._limit is not None and offset + len(data) > self._limit:
            raise OSError(errno.ENOSPC, "the reserved space is used up")
        write_all(self._folder, self._handle, data, offset)

    def _sync(self) -> None:
        if self._handle is not None:
            self._folder.sync(self._handle)

    def _trouble(self, error: OSError, now: Moment) -> Reason:
        """A write, sync or new segment failed: why the next segment begins; AuditError when there is none."""
        self._close_handle()
        full = error.errno in FULL
        if full and not self._reserve:
            self._give_up(error)
            raise AuditError(
                f"the disk is full and the reserved space is used up: {error.strerror}", "", "free some space"
            ) from error
        kind = "audit.disk_full" if full else "audit.write_failed"
        # Once for each: a second failure of the same group must not make the group grow.
        if not any(item.kind is Kind.NOTE and kind in item.payload.decode() for item in self._pending):
            self._note({"kind": kind, "error": errno.errorcode.get(error.errno or 0, "?")}, now)
        if full:
            self._enter_full(now)
        return Reason.FULL if full else Reason.SYNC_FAILED

    def _enter_full(self, now: Moment) -> None:
        self._full = True
        self._room_tried = now.monotonic_ns

    def _give_up(self, error: OSError) -> None:
        self._close_handle()
        self._failure = f"the disk of the log failed: {error.strerror}"

    def _close_handle(self) -> None:
        if self._handle is not None:
            with suppress(OSError):  # nothing of it is trusted that was not synced
                self._folder.close(self._handle)
            self._handle = None

    # --- segments

    def _look(self) -> Tail | None:
        """Read the tail, and make durable what of it was not: a process that was killed leaves such."""
        for name in self._folder.names():
            if name.endswith(".new"):
                self._folder.remove(name)
        tail = tail_of(self._folder, self._bounds)
        if tail:
            handle = self._folder.open(tail.name)
            try:
                self._folder.sync(handle)
            finally:
                self._folder.close(handle)
        return tail

    def _start(self, tail: Tail | None, reason: Reason, now: Moment) -> None:
        try:
            self._begin(reason, now)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._enter_full(now)
            if self._reserve:
                self._begin(reason if reason in ABANDONING else Reason.FULL, now)
            elif tail and tail.ending.free and not tail.ending.broken:
                self._continue_reserve(tail, now)
            else:
                raise

    def _continue_reserve(self, tail: Tail, now: Moment) -> None:
        """Go on in the reserve that an earlier writer began: the disk is full and there is no other."""
        ending = tail.ending
        self._handle = self._folder.open(tail.name)
        self._offset, self._limit = ending.end, ending.end + len(ending.cut) + ending.free
        self._begun_at = now.monotonic_ns
        self._write(bytes(len(ending.cut)), ending.end)
        self._sync()

    def _begin(self, reason: Reason, now: Moment) -> None:
        """Begin the next segment, in the reserve for `Reason.FULL` or when the disk is full."""
        if reason is Reason.FULL or (self._full and self._reserve and reason is not Reason.ROOM):
            self._begin_in(RESERVE, reason, now)
        else:
            self._begin_in("", reason, now)

    def _begin_in(self, reserve: str, reason: Reason, now: Moment) -> None:
        index = self._index + 1
        first = self._pending[0].seq if self._pending else self._next_seq
        header = SegmentHeader(self._log_id, index, reason, first, self._durable, self._head, now)
        data, head = header.encode()
        name = segment_name(index)
        source = reserve or f"{name}.new"
        if reserve:
            self._reserve = False  # whatever happens to it now, it is not to be had a second time
        handle = make_segment(self._folder, source, data, reserve=bool(reserve))
        self._index = index  # from here on the name may be taken
        name_segment(self._folder, handle, source, name)
        self._close_handle()
        self._handle, self._head = handle, head
        self._offset, self._begun_at = SEGMENT_BYTES, now.monotonic_ns
        self._limit = self._bounds.reserve_bytes if reserve else None

    def _rotate_when_due(self, now: Moment) -> None:
        if self._handle is None or self._full:
            return
        size = self._offset >= self._bounds.segment_bytes
        if not size and now.monotonic_ns - self._begun_at < self._bounds.segment_ns:
            return
        if self._offset == SEGMENT_BYTES:  # nothing in it yet
            self._begun_at = now.monotonic_ns
            return
        if self._since_checkpoint:
            self._write_group(now, checkpoint=True)
        self._replace(Reason.SIZE if size else Reason.AGE, now)

    def _replace(self, reason: Reason, now: Moment) -> bool:
        """Begin a new segment while the present one is whole; whether that was possible."""
        before = self._index
        try:
            self._begin(reason, now)
        except OSError as error:
            if self._index != before:  # a file with that name may be there: this one must not go on
                self._close_handle()
            self._begun_at = now.monotonic_ns
            if error.errno in FULL:
                self._enter_full(now)
            return False
        return True

    def _try_for_room(self, now: Moment) -> None:
        self._room_tried = now.monotonic_ns
        try:
            if not self._reserve:
                self._reserve = take_reserve(self._folder, self._bounds.reserve_bytes)
        except OSError:
            return  # still not well; the next attempt is due in `reserve_retry_ns`
        if not self._reserve:
            return
        if (self._limit is not None or self._handle is None) and not self._replace(Reason.ROOM, now):
            return
        self._full = False
        self._note({"kind": "audit.room_again"}, now)
