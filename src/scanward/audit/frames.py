"""The bytes of the log: segment headers and record frames, how each is made and found again. Pure.

A segment is one file: a header, then frames. All numbers are big-endian.

    header  magic "SWAUDIT1" | log id 16 | index u32 | reason u8, 3 zero | first seq u64 | previous seq u64
            | previous hash 32 | monotonic s64 | wall s64 | hash 32
    frame   magic A5 57 | kind u8 | flags u8 | length u32 | seq u64 | durable u64 | monotonic s64 | wall s64
            | CRC-32 u32 | payload | hash 32

Each hash is SHA-256 over a label, the hash before it and everything of its own that precedes it, so that
one changed byte changes every later hash (Haber and Stornetta, 1991; Schneier and Kelsey, 1999). The CRC is
no protection; it tells a frame that was written whole from one that was not, without the frames before it.
``durable`` is the last record that the writer knew to be on disk when it made the frame: damage at or before
a number that a later frame carries cannot be a write that a crash interrupted.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import DecodeError

MAGIC: Final = b"\xa5\x57"
SEGMENT_MAGIC: Final = b"SWAUDIT1"
NO_HASH: Final = bytes(32)
_FRAME: Final = struct.Struct(">2sBBIQQqqI")
_SEGMENT: Final = struct.Struct(">8s16sIB3xQQ32sqq")
HASH_BYTES: Final = 32
FRAME_BYTES: Final = _FRAME.size + HASH_BYTES  # of an empty record
SEGMENT_BYTES: Final = _SEGMENT.size + HASH_BYTES
_FRAME_LABEL: Final = b"scanward audit record 1\0"
_SEGMENT_LABEL: Final = b"scanward audit segment 1\0"
_RESERVED: Final = 1


class Kind(IntEnum):
    """Who wrote a record."""

    RECORD = 0
    """Handed in by the caller; opaque."""
    CHECKPOINT = 1
    """A signed line of `scanward.audit.checkpoints`."""
    NOTE = 2
    """A JSON object of the log itself: opened, closed, disk full, a failed sync."""


class Reason(IntEnum):
    """Why a segment was begun."""

    FIRST = 0
    SIZE = 1
    AGE = 2
    STARTED = 3
    CUT = 4
    """After a crash: what follows the previous record in the segment before was never durable."""
    BROKEN = 5
    """What follows the previous record was damaged when the writer started; it never wrote over it."""
    SYNC_FAILED = 6
    """A write or sync failed; what follows the previous record was written again here."""
    FULL = 7
    """The disk is full; this segment lies in the space that was kept free."""
    ROOM = 8
    """The disk has room again."""


ABANDONING: Final = frozenset({Reason.CUT, Reason.BROKEN, Reason.SYNC_FAILED, Reason.FULL})
"""Reasons for which bytes may stand in the segment before, after the record that the new one continues."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks, in nanoseconds: monotonic, and wall since 1970 UTC."""

    monotonic_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself. ``previous_*`` is the record (and chain head) that it continues."""

    log_id: bytes
    index: int
    reason: Reason
    first_seq: int
    previous_seq: int
    previous_hash: bytes
    moment: Moment
    hash: bytes = NO_HASH

    def encode(self) -> tuple[bytes, bytes]:
        """Its bytes, and its hash, which is the chain head for the first frame."""
        told = _SEGMENT.pack(
            SEGMENT_MAGIC,
            self.log_id,
            self.index,
            self.reason,
            self.first_seq,
            self.previous_seq,
            self.previous_hash,
            self.moment.monotonic_ns,
            self.moment.wall_ns,
        )
        digest = hashlib.sha256(_SEGMENT_LABEL + told).digest()
        return told + digest, digest

    @staticmethod
    def decode(data: bytes, where: str) -> SegmentHeader:
        """Read one; DecodeError when it is none, or its hash is not its own."""
        told = data[: _SEGMENT.size]
        if len(data) < SEGMENT_BYTES or told[:8] != SEGMENT_MAGIC:
            raise DecodeError("not a segment of an audit log", where, "give the folder of a log")
        digest = hashlib.sha256(_SEGMENT_LABEL + told).digest()
        try:
            _, log_id, index, reason, first, seq, previous, monotonic, wall = _SEGMENT.unpack(told)
            header = SegmentHeader(
                log_id, index, Reason(reason), first, seq, previous, Moment(monotonic, wall), digest
            )
        except ValueError as error:
            raise DecodeError(
                "a segment header that no writer makes", where, "keep it as evidence"
            ) from error
        if header.encode()[0] != data[:SEGMENT_BYTES]:
            raise DecodeError("a damaged segment header", where, "keep it as evidence")
        return header


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame as it lies in a segment. ``linked``: its hash continues the hash before it."""

    kind: int
    reserved: bool
    seq: int
    durable: int
    moment: Moment
    payload: bytes
    hash: bytes
    offset: int
    end: int
    linked: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from ``offset`` up to ``end`` that hold no whole frame."""

    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Unused:
    """Zeros up to the end of the file: space taken beforehand and not written yet."""

    offset: int
    end: int


def encode_frame(
    previous: bytes, kind: Kind, seq: int, durable: int, moment: Moment, payload: bytes, *, reserved: bool
) -> tuple[bytes, bytes]:
    """A frame's bytes, and its hash: the new chain head."""
    fields = (MAGIC, kind, _RESERVED if reserved else 0, len(payload), seq, durable)
    times = (moment.monotonic_ns, moment.wall_ns)
    bare = _FRAME.pack(*fields, *times, 0)
    header = _FRAME.pack(*fields, *times, _crc(bare, payload))
    digest = _link(previous, header, payload)
    return header + payload + digest, digest


def scan(
    data: bytes, start: int, previous: bytes, bounds: AuditBounds = AUDIT_BOUNDS
) -> Iterator[Frame | Damage | Unused]:
    """Everything in ``data`` from ``start`` on, in order and without gaps.

    ``previous`` is the chain head before the first frame. After damage the next whole frame is looked for,
    and its link is checked against the hash that stands in front of it, where one can stand.
    """
    position = start
    budget = 8 * len(data) + (1 << 20)  # bytes that looking for frames in damage may cost: never quadratic
    while position < len(data):
        frame = _frame_at(data, position, previous, bounds)
        if frame is not None:
            yield frame
            position, previous = frame.end, frame.hash
            continue
        begin, found = position, None
        while found is None and budget > 0:
            position = data.find(MAGIC, position + 1)
            if position < 0:
                break
            length = int.from_bytes(data[position + 4 : position + 8], "big")
            budget -= FRAME_BYTES + (length if length <= bounds.record_bytes else 0)
            found = _frame_at(data, position, data[position - HASH_BYTES : position], bounds)
        position = len(data) if found is None else found.offset
        end = position
        if found is None:
            end = begin + len(data[begin:].rstrip(b"\0"))
        if end > begin:
            yield Damage(begin, end)
        if end < position:
            yield Unused(end, position)
        if found is not None:
            previous = data[found.offset - HASH_BYTES : found.offset]


def _frame_at(data: bytes, offset: int, previous: bytes, bounds: AuditBounds) -> Frame | None:
    if len(data) - offset < FRAME_BYTES or data[offset : offset + 2] != MAGIC:
        return None
    header = data[offset : offset + _FRAME.size]
    _, kind, flags, length, seq, durable, monotonic, wall, crc = _FRAME.unpack(header)
    body = offset + _FRAME.size
    end = body + length + HASH_BYTES
    if length > bounds.record_bytes or end > len(data):
        return None
    payload = data[body : body + length]
    if _crc(header[:-4] + bytes(4), payload) != crc:
        return None
    digest = data[end - HASH_BYTES : end]
    return Frame(
        kind,
        bool(flags & _RESERVED),
        seq,
        durable,
        Moment(monotonic, wall),
        payload,
        digest,
        offset,
        end,
        linked=_link(previous, header, payload) == digest,
    )


def _crc(bare: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(bare))


def _link(previous: bytes, header: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(_FRAME_LABEL + previous)
    digest.update(header)
    digest.update(payload)
    return digest.digest()
