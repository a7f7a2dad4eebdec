"""Verifying a log in numbered steps. Findings say which records and which segment.

1. the folder holds one log: readable segment headers of one log id, under their own names
2. each segment continues the one before it
3. each record is whole, in order, and continues the record before it
4. each checkpoint in the log says what the log says, and is signed by a trusted key
5. each witnessed checkpoint says what the log says, and the log goes at least as far

Steps 1 to 3 find carelessness and accidents, and name the very record. Whoever rewrites all later hashes too
is found by steps 4 and 5, between the last checkpoint that agrees and the first that does not; whoever has
the signing key as well, by step 5 alone: that is what the witness is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scanward.audit.checkpoints import Checkpoint
from scanward.audit.frames import (
    ABANDONING,
    NO_HASH,
    SEGMENT_BYTES,
    Damage,
    Frame,
    Kind,
    Reason,
    SegmentHeader,
    Unused,
    scan,
)
from scanward.audit.reading import KINDS, NO_LIMIT, Finding, Segment, segments_of
from scanward.audit.recovery import ending_of
from scanward.config import AUDIT_BOUNDS, AuditBounds
from scanward.errors import DecodeError, InputError
from scanward.keys import VerifyKey

STEPS: Final = (
    "the folder holds one log",
    "each segment continues the one before it",
    "each record is whole, in order, and continues the record before it",
    "each checkpoint in the log says what the log says, and is signed by a trusted key",
    "each witnessed checkpoint says what the log says, and the log goes at least as far",
)


@dataclass(slots=True)
class Report:
    """What `verify` found. ``notes`` are what is no fault: a torn end, an abandoned write, a clock jump."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    log_id: str = ""
    segments: int = 0
    records: int = 0
    first_seq: int = 0
    last_seq: int = 0
    checkpoints: int = 0
    last_checkpoint: int = 0
    witnessed: int | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        told: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        by_step = [[f for f in self.findings if f.step == n] for n in range(1, len(STEPS) + 1)]
        told["findings"] = [{name: getattr(f, name) for name in Finding.__slots__} for f in self.findings]
        told["steps"] = [
            {"step": n, "what": what, "findings": len(found)}
            for n, (what, found) in enumerate(zip(STEPS, by_step, strict=True), 1)
        ]
        return {"ok": self.ok, **told}


def verify(
    folder: Path,
    trusted: Sequence[VerifyKey],
    witness: Sequence[Checkpoint] | None = None,
    *,
    begins_at: int = 1,
    bounds: AuditBounds = AUDIT_BOUNDS,
) -> Report:
    """Verify a whole log: see the module for the steps.

    ``witness`` is what `scanward.audit.witness.witnessed` read; None leaves step 5 out (and says so in the
    notes). ``begins_at`` is the first record that must be there, when older segments were archived.

    Raises
    ------
    InputError
        When there is no log, or no key to verify it with.
    """
    if not trusted:
        raise InputError("no key to verify the log with", str(folder), "give the public key of the writer")
    segments, findings = segments_of(folder, bounds)
    wanted = frozenset(point.seq for point in witness or ())
    walk = _Walk(trusted, wanted, bounds, Report(findings=findings))
    walk.through(segments, begins_at)
    if witness is None:
        walk.report.notes.append(
            "no witness was given: whoever holds the signing key could have written all of this anew"
        )
    else:
        walk.compare(witness)
    walk.report.findings.sort(key=lambda f: (f.step, f.first_seq))
    return walk.report


class _Walk:
    """One pass over a log, for `verify`."""

    def __init__(
        self, trusted: Sequence[VerifyKey], wanted: frozenset[int], bounds: AuditBounds, report: Report
    ) -> None:
        self.trusted, self.bounds, self.report = trusted, bounds, report
        self.wanted = wanted  # records whose hashes the witness knows: only these are kept
        self.found: dict[int, tuple[bytes, str]] = {}  # their hashes and segments here
        self.before: tuple[int, bytes] = (0, b"")  # the last record and its hash
        self.agreed = 0  # the last record that a signed checkpoint covers
        self.last: Segment | None = None
        self.torn_from: int | None = None

    def _find(self, step: int, what: str, segment: str, offset: int, first: int, last: int) -> None:
        self.report.findings.append(Finding(step, what, segment, offset, first, max(first, last)))

    def through(self, segments: Sequence[Segment], begins_at: int) -> None:
        """Steps 2 to 4."""
        if not segments:
            return
        report = self.report
        report.log_id = segments[0].header.log_id.hex()
        report.segments = len(segments)
        first = segments[0].header
        report.first_seq = first.first_seq
        if first.first_seq > begins_at:
            what = f"records {begins_at} to {first.first_seq - 1} are not here"
            self._find(2, what, segments[0].name, 0, begins_at, first.first_seq - 1)
        elif first.reason is Reason.FIRST and first.previous_hash != NO_HASH:
            self._find(2, "a first segment that continues something", segments[0].name, 0, 1, 1)
        seq, head = first.previous_seq, first.previous_hash
        for segment, later in zip(segments, [*segments[1:], None], strict=True):
            self._joins(segment, seq, head)
            seq, head = self._segment(segment, later.header if later else None)
        self.last = segments[-1]
        report.last_seq = self.before[0] if report.records else seq

    def _joins(self, segment: Segment, seq: int, head: bytes) -> None:
        header = segment.header
        if header.previous_seq != seq:
            what = (
                f"it continues record {header.previous_seq}, and the segment before it ends with record {seq}"
            )
            low, high = sorted((header.previous_seq, seq))
            self._find(2, what, segment.name, 0, low + 1, high)
        elif header.previous_hash != head:
            what = f"it continues another record {seq} than the one before it"
            self._find(2, what, segment.name, 0, max(1, seq), max(1, seq))
        if header.reason is Reason.BROKEN:
            what = (
                f"the writer found the log damaged after record {header.previous_seq} and began a new segment"
            )
            self._find(3, what, segment.name, 0, header.previous_seq + 1, header.first_seq - 1)
        elif header.first_seq != header.previous_seq + 1 and self.report.records and seq == self.before[0]:
            what = f"it begins with record {header.first_seq} after record {header.previous_seq}"
            self._find(2, what, segment.name, 0, header.previous_seq + 1, header.first_seq - 1)

    def _segment(self, segment: Segment, later: SegmentHeader | None) -> tuple[int, bytes]:
        """Steps 3 and 4 for one segment; its last record that counts, and the chain head there."""
        data = segment.data(self.bounds)
        limit = later.previous_seq if later else NO_LIMIT
        seq, head = segment.header.first_seq - 1, segment.header.hash
        if later and limit <= seq:
            seq = min(seq, limit)
        ending = None if later else ending_of(data, segment.header, self.bounds)
        for item in scan(data, SEGMENT_BYTES, segment.header.hash, self.bounds):
            if later and seq >= limit:
                self._after_the_end(item, segment, later)
                break
            if isinstance(item, Unused):
                if not later or later.reason in ABANDONING or later.reason in (Reason.ROOM, Reason.STARTED):
                    continue
                self._find(3, "zeros where records stood", segment.name, item.offset, seq + 1, limit)
                continue
            if ending and not ending.broken and item.offset >= ending.end:
                self.torn_from = ending.seq + 1
                self.report.notes.append(
                    f"{segment.name}: {len(ending.cut)} bytes after record {ending.seq} were never finished: "
                    "a crash, or a log that is being written"
                )
                break
            if isinstance(item, Damage):
                self._find(3, "no record can be read here", segment.name, item.offset, seq + 1, seq + 1)
                continue
            self._frame(item, segment, seq)
            seq, head = max(seq, item.seq), item.hash
        return seq, head

    def _after_the_end(self, item: Frame | Damage | Unused, segment: Segment, later: SegmentHeader) -> None:
        if isinstance(item, Unused):
            return
        if later.reason in ABANDONING:
            self.report.notes.append(
                f"{segment.name}: what follows record {later.previous_seq} was abandoned by the writer "
                f"({later.reason.name.lower()})"
            )
        else:
            what = f"bytes after record {later.previous_seq}, with which the segment ended"
            self._find(3, what, segment.name, item.offset, later.previous_seq + 1, later.previous_seq + 1)

    def _frame(self, frame: Frame, segment: Segment, seq: int) -> None:
        if frame.seq != seq + 1:
            if frame.seq <= seq:
                what = f"record {frame.seq} stands after record {seq}"
                self._find(3, what, segment.name, frame.offset, frame.seq, seq + 1)
                return
            what = f"record {frame.seq} follows record {seq}"
            self._find(3, what, segment.name, frame.offset, seq + 1, frame.seq)
        elif not frame.linked:
            what = f"record {frame.seq} does not continue the record before it"
            self._find(3, what, segment.name, frame.offset, frame.seq, frame.seq)
        if frame.kind == Kind.CHECKPOINT:
            self._checkpoint(frame, segment)
        elif frame.kind not in KINDS:
            self._find(3, f"a record of kind {frame.kind}", segment.name, frame.offset, frame.seq, frame.seq)
        if frame.seq in self.wanted:
            self.found[frame.seq] = (frame.hash, segment.name)
        self.before = (frame.seq, frame.hash)
        self.report.records += 1

    def _checkpoint(self, frame: Frame, segment: Segment) -> None:
        report = self.report
        where = (segment.name, frame.offset)
        try:
            told = Checkpoint.parse(frame.payload.decode("ascii", errors="replace"))
        except DecodeError as error:
            self._find(4, error.what, *where, frame.seq, frame.seq)
            return
        if told.line.encode("ascii") != frame.payload:
            self._find(4, "a checkpoint with something added", *where, frame.seq, frame.seq)
        elif told.log_id != segment.header.log_id or told.seq != frame.seq - 1:
            what = f"a checkpoint of record {told.seq} of log {told.log_id.hex()} stands here"
            self._find(4, what, *where, frame.seq, frame.seq)
        elif not told.signed_by(self.trusted):
            what = f"the checkpoint of record {told.seq} is not signed by a trusted key (key {told.key[:16]})"
            self._find(4, what, *where, frame.seq, frame.seq)
        elif self.before != (told.seq, told.head):
            what = f"the log up to record {told.seq} is not the one that was signed"
            self._find(4, what, *where, self.agreed + 1, told.seq)
            self.agreed = told.seq
        else:
            self.agreed = report.last_checkpoint = told.seq
            report.checkpoints += 1

    def compare(self, witness: Iterable[Checkpoint]) -> None:
        """Step 5."""
        report = self.report
        good, strangers, unsigned = [], 0, 0
        for point in witness:
            if point.log_id.hex() != report.log_id:
                strangers += 1
            elif not point.signed_by(self.trusted):
                unsigned += 1
            else:
                good.append(point)
        for count, what in ((strangers, "of other logs"), (unsigned, "not signed by a trusted key")):
            if count:
                report.notes.append(f"{count} checkpoints of the witness are {what}")
        name = self.last.name if self.last else ""
        if not good:
            self._find(5, "the witness knows nothing of this log", name, 0, 1, report.last_seq)
            return
        good.sort(key=lambda point: point.seq)
        report.witnessed = good[-1].seq
        agreed = 0
        for point in good:
            if point.seq > report.last_seq:
                what = f"the log ends with record {report.last_seq}; the witness saw record {point.seq}"
                self._find(5, what, name, 0, report.last_seq + 1, good[-1].seq)
                break
            if point.seq < report.first_seq:
                continue
            head, where = self.found.get(point.seq, (b"", name))
            if head != point.head:
                what = f"the log up to record {point.seq} is not the one that the witness saw"
                self._find(5, what, where, 0, agreed + 1, point.seq)
            agreed = point.seq
