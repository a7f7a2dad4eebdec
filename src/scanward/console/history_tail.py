"""Following an audit log that is being written: what is new since a place, checked against the chain as it goes.

`scanward.audit.read` begins at the front of a segment each time; a console that looks every second cannot. `Tail`
remembers a place (segment, byte, chain head) and goes on from there. It writes nothing and takes no lock, so a copy of
the folder does as well. Steps 2 to 4 of `scanward.audit.verify` are made on the way, for what is new; whatever was read
before is not read again, so that `verify` is still to be run, and it says more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from scanward.audit.checkpoints import Checkpoint
from scanward.audit.frames import (
    HASH_BYTES,
    SEGMENT_BYTES,
    Frame,
    Kind,
    Reason,
    SegmentHeader,
    Unused,
    scan,
)
from scanward.audit.reading import Finding, Segment, segments_of
from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.errors import DecodeError, InputError
from scanward.keys import VerifyKey

_FRESH: Final = 4096  # records remembered that are not known to be durable; one group of the writer has fewer


@dataclass(frozen=True, slots=True)
class Place:
    """After record ``seq`` (hash ``head``), at byte ``offset`` of ``segment``.

    ``durable`` is known to be on disk. ``fresh`` are the records after it that were read, (seq, what tells it from all
    others): when a write fails, the writer says them again in a new segment, maybe under other numbers.
    """

    log_id: str
    segment: str
    offset: int
    seq: int
    head: bytes
    durable: int = 0
    fresh: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: ``at`` is s since 1970 by the guard's clock."""

    seq: int
    kind: int
    at: float
    payload: bytes


@dataclass(slots=True)
class Batch:
    """What is new.

    Attributes
    ----------
    place : Place
        Where to go on.
    entries : list of Entry
        In order. Checkpoints are not among them.
    findings : list of Finding
        What is wrong, as `scanward.audit.verify` words it.
    checkpoint : (seq, at) or None
        The last record that a checkpoint among these covers, signed by a trusted key.
    more : bool
        Whether there is more at once.
    note : str
        Why nothing is read on, where that is no finding: a copy that is older than what was read before.
    """

    place: Place
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    checkpoint: tuple[int, float] | None = None
    more: bool = False
    note: str = ""


class Tail:
    """Reads one folder on and on.

    Parameters
    ----------
    keys : sequence of VerifyKey
        Who signs checkpoints; none: their signatures are not looked at, and no checkpoint counts.
    """

    def __init__(
        self, folder: Path, keys: Sequence[VerifyKey] = (), bounds: HistoryBounds = HISTORY_BOUNDS
    ) -> None:
        self.folder, self._keys, self._bounds = folder, keys, bounds
        self._names: list[str] | None = None
        self._segments: list[Segment] = []

    def log_id(self) -> str:
        """Of the log that is there now, 32 hexadecimal digits. InputError when there is none."""
        return self._first().header.log_id.hex()

    def begin(self) -> Place:
        """Before the first record that is there. InputError when there is no log."""
        return _front(self._first())

    def read(self, place: Place, most: int | None = None) -> Batch:
        """At most ``most`` records (None: as the bounds have it) after ``place``.

        Raises
        ------
        InputError
            When there is no log, or it cannot be read.
        """
        self._look()
        later = [s for s in self._segments if s.name > place.segment]
        data, here = self._rest(place)
        batch = Batch(place)
        if not here:
            return self._lost(batch, data, later)
        limit = later[0].header.previous_seq if later else None
        self._walk(batch, data, limit, self._bounds.records if most is None else most)
        if not batch.more and later:
            self._onward(batch, later[0])
        return batch

    # --- the folder

    def _look(self) -> None:
        try:
            names = sorted(name for name in os.listdir(self.folder) if name.endswith(".audit"))  # noqa: PTH208
        except OSError as error:
            raise InputError(
                f"the log cannot be opened: {error.strerror}", str(self.folder), "check who may read it"
            ) from error
        if names != self._names or not self._segments:
            self._segments = segments_of(self.folder)[0]  # what it finds is for `verify`: a copy under way
            self._names = names

    def _first(self) -> Segment:
        self._look()
        if not self._segments:
            raise InputError(
                "no segment of the log can be read", str(self.folder), "run `scanward audit verify`"
            )
        return self._segments[0]

    def _rest(self, place: Place) -> tuple[bytes, bool]:
        """What stands from the place on; and whether what stands before it is what was read."""
        path = self.folder / place.segment
        before = place.offset - HASH_BYTES
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b"", False
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            data = os.pread(handle, self._bounds.read_bytes, before)
            front = os.pread(handle, SEGMENT_BYTES, 0)
        except OSError as error:
            raise _unreadable(path, error) from error
        finally:
            os.close(handle)
        try:
            same_log = SegmentHeader.decode(front, place.segment).log_id.hex() == place.log_id
        except DecodeError:
            same_log = False
        return data[HASH_BYTES:], same_log and data[:HASH_BYTES] == place.head

    # --- records

    def _walk(self, batch: Batch, data: bytes, limit: int | None, most: int) -> None:
        """Frame by frame, until the data or ``most`` or the record ``limit`` of the segment ends."""
        start = batch.place
        seq, head, end, durable = start.seq, start.head, start.offset, start.durable
        damaged: int | None = None
        known = {name for _, name in start.fresh}
        read: list[Frame] = []
        for item in scan(data, 0, start.head):
            if limit is not None and seq >= limit:
                break
            if not isinstance(item, Frame):
                damaged = None if isinstance(item, Unused) else start.offset + item.offset
                continue
            if len(read) >= most:
                batch.more = True
                break
            read.append(item)
            if damaged is not None:
                self._find(
                    batch, 3, "no record can be read here", damaged, seq + 1, max(seq + 1, item.seq - 1)
                )
                damaged = None
            self._checked(batch, item, start.offset, seq, head)
            seq, head, end = max(seq, item.seq), item.hash, start.offset + item.end
            durable = max(durable, min(item.durable, seq))
            if item.kind != Kind.CHECKPOINT and not (known and _identity(item) in known):
                batch.entries.append(Entry(item.seq, item.kind, item.moment.wall_ns / 1e9, item.payload))
        if limit is not None and not batch.more and seq < limit:
            self._find(batch, 3, "records are missing at the end of the segment", end, seq + 1, limit)
            seq = limit
        fresh = [(number, name) for number, name in start.fresh if number > durable]
        fresh += [(frame.seq, _identity(frame)) for frame in read if frame.seq > durable]
        batch.place = replace(
            start, offset=end, seq=seq, head=head, durable=durable, fresh=tuple(fresh[-_FRESH:])
        )

    def _checked(self, batch: Batch, frame: Frame, base: int, seq: int, head: bytes) -> None:
        where = base + frame.offset
        if frame.seq != seq + 1:
            what = f"record {frame.seq} {'follows' if frame.seq > seq else 'stands after'} record {seq}"
            self._find(batch, 3, what, where, min(seq + 1, frame.seq), max(seq + 1, frame.seq))
        elif not frame.linked:
            what = f"record {frame.seq} does not continue the record before it"
            self._find(batch, 3, what, where, frame.seq, frame.seq)
        if frame.kind != Kind.CHECKPOINT or not self._keys:
            return
        try:
            told = Checkpoint.parse(frame.payload.decode("ascii", errors="replace"))
        except DecodeError as error:
            self._find(batch, 4, error.what, where, frame.seq, frame.seq)
            return
        if told.log_id.hex() != batch.place.log_id or (told.seq, told.head) != (seq, head):
            what = f"the log up to record {seq} is not the one that was signed"
            self._find(batch, 4, what, where, max(told.seq, 1), frame.seq)
        elif not told.signed_by(self._keys):
            what = f"the checkpoint of record {told.seq} is not signed by a trusted key (key {told.key[:16]})"
            self._find(batch, 4, what, where, frame.seq, frame.seq)
        else:
            batch.checkpoint = (told.seq, told.wall_ns / 1e9)

    # --- from segment to segment

    def _onward(self, batch: Batch, later: Segment) -> None:
        """To the front of the next segment; what it continues must be what was read."""
        place, header = batch.place, later.header
        front = _front(later)
        if header.previous_seq > place.seq:
            what = f"records {place.seq + 1} to {header.previous_seq} are not here"
            self._find(batch, 2, what, 0, place.seq + 1, header.previous_seq, later.name)
        elif header.previous_seq == place.seq and header.previous_hash != place.head:
            what = f"it continues another record {place.seq} than the one before it"
            self._find(batch, 2, what, 0, place.seq, place.seq, later.name)
        elif header.previous_seq < place.durable:
            what = (
                f"it continues record {header.previous_seq}; record {place.durable} was durable before: "
                "the log was changed after it was read here"
            )
            self._find(batch, 2, what, 0, header.previous_seq + 1, place.durable, later.name)
        if header.reason is Reason.BROKEN:
            what = f"the writer found the log damaged after record {header.previous_seq}"
            self._find(batch, 3, what, 0, header.previous_seq + 1, header.first_seq - 1, later.name)
        batch.place = replace(front, durable=min(place.durable, front.seq), fresh=place.fresh)
        batch.more = True

    def _lost(self, batch: Batch, data: bytes, later: list[Segment]) -> Batch:
        """The place is not there any more: archived, cut by a power cut, an older copy, or changed."""
        place = batch.place
        if later:
            self._onward(batch, later[0])
            return batch
        newest = self._segments[-1].name if self._segments else ""
        if newest < place.segment or (newest == place.segment and not data and self._shorter(place)):
            batch.note = f"what is there ends before record {place.seq}, which was read before"
            return batch
        what = f"the log up to record {place.seq} is not the one that was read before"
        self._find(batch, 5, what, place.offset, 1, place.seq)
        return batch

    def _shorter(self, place: Place) -> bool:
        try:
            return (self.folder / place.segment).stat().st_size < place.offset
        except OSError:
            return True

    def _find(
        self, batch: Batch, step: int, what: str, offset: int, first: int, last: int, segment: str = ""
    ) -> None:
        found = Finding(step, what, segment or batch.place.segment, offset, first, max(first, last))
        batch.findings.append(found)


def _identity(frame: Frame) -> str:
    """What a record keeps when it is written again: both its times, its kind, what it says."""
    told = f"{frame.moment.monotonic_ns} {frame.moment.wall_ns} {frame.kind} ".encode() + frame.payload
    return hashlib.sha256(told).hexdigest()[:24]


def _front(segment: Segment) -> Place:
    header = segment.header
    seq = header.first_seq - 1
    return Place(header.log_id.hex(), segment.name, SEGMENT_BYTES, seq, header.hash, seq)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"a segment cannot be read: {error.strerror}", str(path), "check who may read it")
