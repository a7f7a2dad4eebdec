"""Reading a log: its segments in order, its records one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scanward.audit.folder import SEGMENT_NAME
from scanward.audit.frames import (
    SEGMENT_BYTES,
    Frame,
    Kind,
    Moment,
    SegmentHeader,
    scan,
)
from scanward.audit.recovery import ending_of
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import AuditError, DecodeError, InputError

NO_LIMIT: Final = 1 << 64  # above every sequence number
KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log. ``hash`` is the chain head after it; ``offset`` its place in the segment's file."""

    seq: int
    kind: Kind
    reserved: bool
    moment: Moment
    payload: bytes
    hash: bytes
    segment: str
    offset: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, found by step ``step`` (1 to 5), in records ``first_seq`` to ``last_seq``."""

    step: int
    what: str
    segment: str
    offset: int
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file; ``data`` is read when asked for."""

    path: Path
    header: SegmentHeader

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    def data(self, bounds: AuditBounds = AUDIT_BOUNDS) -> bytes:
        """The whole file."""
        return _read(self.path, bounds.file_bytes)


def segments_of(folder: Path, bounds: AuditBounds = AUDIT_BOUNDS) -> tuple[list[Segment], list[Finding]]:
    """The segments of a log in order, without those that its writer abandoned whole; and what step 1 finds.

    Raises
    ------
    InputError
        When the folder holds no log, or more than a reader takes.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if SEGMENT_NAME.fullmatch(p.name))
    except OSError as error:
        raise InputError(
            f"the log cannot be opened: {error.strerror}", str(folder), "give the folder that holds it"
        ) from error
    if not paths:
        raise InputError("no audit log", str(folder), "give the folder that holds files like 00000001.audit")
    if len(paths) > bounds.segments:
        raise InputError(f"more than {bounds.segments} segments", str(folder), "archive the older ones")
    found: list[Segment] = []
    findings = []
    for path in paths:
        try:
            header = SegmentHeader.decode(_read(path, SEGMENT_BYTES, whole=False), path.name)
        except DecodeError as error:
            findings.append(Finding(1, error.what, path.name, 0, 0, 0))
            continue
        if header.index != int(path.name[:8]):
            what = f"this is segment {header.index:08d} under another name"
            findings.append(Finding(1, what, path.name, 0, header.first_seq, header.first_seq))
        elif found and header.log_id != found[0].header.log_id:
            what = f"a segment of another log ({header.log_id.hex()})"
            findings.append(Finding(1, what, path.name, 0, header.first_seq, header.first_seq))
        else:
            found.append(Segment(path, header))
    return _kept(found), findings


def log_id_of(folder: Path) -> str:
    """Identity of a log, 32 hexadecimal digits; errors as `segments_of`, AuditError when no header is readable."""
    segments, findings = segments_of(folder)
    if not segments:
        raise AuditError(findings[0].what, findings[0].segment, "run `scanward audit verify`")
    return segments[0].header.log_id.hex()


def _kept(found: Sequence[Segment]) -> list[Segment]:
    """Without segments whose successor continues what they themselves continued: begun, and never used."""
    kept: list[Segment] = []
    for segment in reversed(found):
        later = kept[-1].header if kept else None
        here = segment.header
        unused = later is not None and (later.previous_seq, later.previous_hash) == (
            here.previous_seq,
            here.previous_hash,
        )
        if not unused:
            kept.append(segment)
    return kept[::-1]


def read(
    folder: Path, *, after: int = 0, past_damage: bool = False, bounds: AuditBounds = AUDIT_BOUNDS
) -> Iterator[Record]:
    """The records of a log with numbers above ``after``, in order. It checks the chain as it goes.

    ``past_damage`` leaves out what is damaged and goes on: to look at what is left of a broken log.

    Raises
    ------
    InputError
        When there is no log.
    AuditError
        At the first record that does not continue the one before it; `verify` says more. A torn end is no
        error: the records before it are all there is.
    """
    segments, findings = segments_of(folder, bounds)
    if findings and not past_damage:
        raise AuditError(findings[0].what, findings[0].segment, "run `scanward audit verify`")
    seq = 0
    for segment, later in zip(segments, [*segments[1:], None], strict=True):
        limit = later.header.previous_seq if later else NO_LIMIT
        if limit <= after:
            continue
        if seq and segment.header.first_seq != seq + 1 and not past_damage:
            raise _break(seq + 1, segment.name, 0)
        for record in _records(segment, limit, past_damage, bounds):
            seq = record.seq
            if seq > after:
                yield record


def _records(segment: Segment, limit: int, past_damage: bool, bounds: AuditBounds) -> Iterator[Record]:
    data = segment.data(bounds)
    seq = segment.header.first_seq - 1
    for item in scan(data, SEGMENT_BYTES, segment.header.hash, bounds):
        if seq >= limit:
            return
        if (
            isinstance(item, Frame)
            and item.linked
            and (item.seq == seq + 1 or (past_damage and item.seq > seq))
        ):
            seq = item.seq
            yield _record(item, segment.name)
        elif not past_damage:
            if limit == NO_LIMIT and not ending_of(data, segment.header, bounds).broken:
                return
            raise _break(seq + 1, segment.name, item.offset)
    if seq < limit < NO_LIMIT and not past_damage:
        raise _break(seq + 1, segment.name, len(data))


def _break(seq: int, name: str, offset: int) -> AuditError:
    where = f"{name}, byte {offset}"
    return AuditError(f"record {seq} is damaged or missing", where, "run `scanward audit verify`")


def _record(frame: Frame, name: str) -> Record:
    kind = Kind(frame.kind) if frame.kind in KINDS else Kind.RECORD
    return Record(
        frame.seq, kind, frame.reserved, frame.moment, frame.payload, frame.hash, name, frame.offset
    )


def _read(path: Path, limit: int, *, whole: bool = True) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            data = file.read(limit + 1 if whole else limit)
    except OSError as error:
        raise InputError(
            f"a segment cannot be read: {error.strerror}", str(path), "check who may read it"
        ) from error
    if whole and len(data) > limit:
        raise InputError(f"a segment of more than {limit} bytes", str(path), "no writer makes such")
    return data
