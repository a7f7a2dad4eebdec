"""What a log was left like: where to go on, and whether its end is a crash's doing or somebody's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from scanward.audit.folder import SEGMENT_NAME, Folder
from scanward.audit.frames import (
    FRAME_BYTES,
    NO_HASH,
    SEGMENT_BYTES,
    Damage,
    Frame,
    Reason,
    SegmentHeader,
    Unused,
    scan,
)
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, DecodeError


@dataclass(frozen=True, slots=True)
class Ending:
    """How the readable part of one segment ends.

    ``seq`` and ``head`` are of its last good record (of what it continues when it has none), which ends at
    ``end``. ``cut`` is the bytes after it that a crash left, ``broken`` says what no crash leaves.
    ``highest`` is the highest sequence number that stands anywhere in the segment, ``free`` the zeros at its
    end.
    """

    seq: int
    head: bytes
    end: int
    highest: int
    free: int = 0
    cut: bytes = b""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Tail:
    """The whole log's end. ``index`` is of its last segment file, whether or not that can be read."""

    log_id: bytes
    index: int
    name: str
    ending: Ending

    @property
    def reason(self) -> Reason:
        """Why the next segment begins."""
        if self.ending.broken:
            return Reason.BROKEN
        return Reason.CUT if self.ending.cut else Reason.STARTED


def ending_of(data: bytes, header: SegmentHeader, bounds: AuditBounds = AUDIT_BOUNDS) -> Ending:
    """Read one segment to its end.

    What follows the last good record is a crash's doing only if nothing after it was written by somebody who
    knew the missing record to be durable, and if it does not begin with a whole record that merely does not
    belong here.
    """
    seq, head, end = header.first_seq - 1, header.hash, SEGMENT_BYTES
    items = list(scan(data, SEGMENT_BYTES, header.hash, bounds))
    rest: list[Frame | Damage | Unused] = []
    for number, item in enumerate(items):
        if not isinstance(item, Frame) or not item.linked or item.seq != seq + 1:
            rest = items[number:]
            break
        seq, head, end = item.seq, item.hash, item.end
    free = sum(item.end - item.offset for item in rest if isinstance(item, Unused))
    stop = len(data) - free
    later = [item for item in rest if isinstance(item, Frame)]
    # A forged number can be no higher than the bytes after the break could hold records.
    limit = seq + (len(data) - end) // FRAME_BYTES + 1
    highest = max([seq, *(frame.seq for frame in later if frame.seq <= limit)])
    if not rest or stop <= end:
        return Ending(seq, head, end, highest, free)
    broken = _not_a_crash(seq + 1, rest[0], later)
    return Ending(seq, head, end, highest, free, b"" if broken else data[end:stop], broken)


def _not_a_crash(missing: int, first: Frame | Damage | Unused, later: Iterable[Frame]) -> str:
    if isinstance(first, Frame):
        if first.seq != missing:
            return f"record {missing} is missing: record {first.seq} stands in its place"
        return f"record {missing} does not continue the record before it"
    if any(frame.durable >= missing for frame in later):
        return f"record {missing} is damaged, and was durable before"
    return ""


def tail_of(folder: Folder, bounds: AuditBounds = AUDIT_BOUNDS) -> Tail | None:
    """The end of the log in ``folder``; None when there is no log yet.

    Only the last segment is read (those before it too, where its header is damaged); `verify` reads them all.

    Raises
    ------
    AuditError
        When no segment has a readable header.
    OSError
        When the disk fails.
    """
    names = [name for name in folder.names() if SEGMENT_NAME.fullmatch(name)]
    if not names:
        return None
    index = int(names[-1][:8])
    unreadable = 0
    for name in reversed(names):
        data = folder.read(name, bounds.file_bytes + 1)
        try:
            header = SegmentHeader.decode(data[:SEGMENT_BYTES], name)
        except DecodeError:
            unreadable += len(data) // FRAME_BYTES
            continue
        ending = ending_of(data, header, bounds)
        if name != names[-1]:
            ending = Ending(
                ending.seq,
                ending.head,
                ending.end,
                ending.highest + unreadable,
                broken=f"the segments after {name} have damaged headers",
            )
        return Tail(header.log_id, index, name, ending)
    raise AuditError(
        "no segment of this log can be read", names[-1], "move the folder away as evidence and start another"
    )


def opened_note(ending: Ending | None, reason: Reason) -> dict[str, object]:
    """What is recorded when a log is opened."""
    note: dict[str, object] = {"kind": "audit.opened", "reason": reason.name.lower()}
    if ending is not None:
        note |= {"last_seq": ending.seq, "head": ending.head.hex()}
        if ending.cut:
            note |= {"cut_bytes": len(ending.cut), "cut_sha256": hashlib.sha256(ending.cut).hexdigest()}
        if ending.broken:
            note |= {"broken": ending.broken, "highest_seq": ending.highest}
    return note


NOWHERE = Ending(0, NO_HASH, 0, 0)
"""The ending of a log that does not exist yet."""
