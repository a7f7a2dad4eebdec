"""The writer in fair weather: rotation, checkpoints, times; and the witnesses."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from _audit import KEY, OTHER_KEY, SMALL, Clock, FaultyFolder, records, verified, write_log
from scanward.audit import (
    Checkpoint,
    Courier,
    FileWitness,
    FolderWitness,
    Kind,
    Moment,
    PosixFolder,
    Writer,
    read,
    verify,
    witness_at,
    witnessed,
)
from scanward.audit.frames import SEGMENT_BYTES, Reason, SegmentHeader
from scanward.config import AUDIT_BOUNDS
from scanward.errors import AuditError, InputError

DAY = 24 * 3600 * 10**9


def reasons(disk: FaultyFolder) -> list[Reason]:
    names = [name for name in disk.names() if name.endswith(".audit")]
    return [SegmentHeader.decode(bytes(disk.files[n].seen[:SEGMENT_BYTES]), n).reason for n in names]


def test_segments_change_by_size_and_each_ends_signed(tmp_path: Path) -> None:
    disk = FaultyFolder()
    write_log(disk, [[b"x" * 200] * 3] * 20)
    assert set(reasons(disk)) == {Reason.FIRST, Reason.SIZE}
    assert len(reasons(disk)) > 3
    folder = disk.dump(tmp_path / "log")
    last = {r.segment: r.kind for r in records(folder)}
    assert set(last.values()) == {Kind.CHECKPOINT}
    assert verified(folder).ok


def test_segments_change_by_age(tmp_path: Path) -> None:
    disk, clock = FaultyFolder(), Clock()
    bounds = replace(SMALL, segment_ns=DAY, segment_bytes=1 << 20)
    writer = Writer(disk, KEY, clock(), bounds=bounds)
    writer.append(b"monday", clock())
    writer.commit(clock())
    writer.tick(clock(DAY))
    writer.append(b"tuesday", clock())
    writer.commit(clock())
    writer.tick(clock(DAY))
    writer.tick(clock(3 * DAY))  # an empty segment is not replaced by an empty one
    assert reasons(disk) == [Reason.FIRST, Reason.AGE, Reason.AGE]
    writer.close(clock())
    assert b"tuesday" in disk.files["00000002.audit"].kept
    assert verified(disk.dump(tmp_path / "log")).ok


def test_checkpoints_come_by_number_and_by_time() -> None:
    disk, clock, seen = FaultyFolder(), Clock(), list[Checkpoint]()
    bounds = replace(SMALL, checkpoint_records=10, checkpoint_ns=1000, segment_bytes=1 << 20)
    writer = Writer(disk, KEY, clock(), witness=seen.append, bounds=bounds)
    for _ in range(30):
        writer.append(b"x", clock(0))
        writer.commit(clock(0))
    by_number = len(seen)
    assert by_number == 3
    assert seen[-1].seq <= writer.durable
    writer.tick(clock(10))
    assert len(seen) == by_number
    writer.append(b"last", clock(0))
    writer.commit(clock(0))
    writer.tick(clock(1001))
    assert len(seen) == by_number + 1
    assert seen[-1].seq == writer.durable - 1
    writer.tick(clock(5000))  # nothing new: nothing to sign
    assert len(seen) == by_number + 1
    writer.close(clock())


def test_records_keep_the_times_and_marks_they_were_given(tmp_path: Path) -> None:
    disk = FaultyFolder()
    writer = Writer(disk, KEY, Moment(5, -7), bounds=SMALL)
    writer.append(b"negative", Moment(-1, -(2**62)))
    writer.append(b"reserved", Moment(2**62, 2**62), reserved=True)
    writer.commit(Moment(6, 6))
    writer.close(Moment(7, 7))
    found = {r.payload: r for r in records(disk.dump(tmp_path / "log"))}
    assert found[b"negative"].moment == Moment(-1, -(2**62))
    assert found[b"reserved"].moment == Moment(2**62, 2**62)
    assert (found[b"negative"].reserved, found[b"reserved"].reserved) == (False, True)


def test_the_largest_record_fits_and_one_byte_more_does_not() -> None:
    clock = Clock()
    writer = Writer(FaultyFolder(), KEY, clock(), bounds=SMALL)
    writer.append(bytes(SMALL.record_bytes), clock())
    with pytest.raises(AuditError, match="bytes"):
        writer.append(bytes(SMALL.record_bytes + 1), clock())
    writer.close(clock())


def test_nothing_to_commit_writes_nothing() -> None:
    disk, clock = FaultyFolder(), Clock()
    writer = Writer(disk, KEY, clock(), bounds=SMALL)
    before = len(disk.operations)
    assert writer.commit(clock()) == writer.durable
    assert len(disk.operations) == before
    writer.append(b"x", clock())
    writer.commit(clock())
    assert disk.operations[before:] == ["write", "sync"]  # one group, one sync
    writer.close(clock())


def test_a_real_folder_is_locked_and_read_back(tmp_path: Path) -> None:
    clock = Clock()
    folder = PosixFolder(tmp_path / "deep" / "log")
    writer = Writer(folder, KEY, clock())
    assert (tmp_path / "deep" / "log" / "reserve").stat().st_size == AUDIT_BOUNDS.reserve_bytes
    with pytest.raises(BlockingIOError):
        PosixFolder(tmp_path / "deep" / "log")
    writer.append(b"x", clock())
    writer.close(clock())
    folder.done()
    again = PosixFolder(tmp_path / "deep" / "log")
    again.done()
    assert [r.payload for r in read(tmp_path / "deep" / "log") if r.kind is Kind.RECORD] == [b"x"]
    assert verify(tmp_path / "deep" / "log", [OTHER_KEY.verify_key, KEY.verify_key]).ok


# --- witnesses


def points(count: int) -> list[Checkpoint]:
    return [Checkpoint.sign(KEY, b"L" * 16, n, bytes([n]) * 32, n) for n in range(1, count + 1)]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_witness_keeps_is_read_back(tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind == "folder":
        place.mkdir()
    witness = witness_at(place)
    assert isinstance(witness, FolderWitness if kind == "folder" else FileWitness)
    for point in points(12):
        witness.keep(point)
    assert witnessed(place) == points(12)


def test_a_folder_never_writes_over_a_checkpoint(tmp_path: Path) -> None:
    witness = FolderWitness(tmp_path)
    point = points(1)[0]
    witness.keep(point)
    witness.keep(point)  # the same once more is no news
    with pytest.raises(AuditError, match="another checkpoint of record 1"):
        witness.keep(Checkpoint.sign(KEY, b"L" * 16, 1, b"!" * 32, 0))
    assert witnessed(tmp_path) == [point]


def test_a_torn_or_scribbled_line_costs_only_itself(tmp_path: Path) -> None:
    place = tmp_path / "witness.txt"
    first, second = points(2)
    FileWitness(place).keep(first)
    with place.open("ab") as file:
        file.write(b"\xff\xfe garbage\nscanward-checkpoint-1 log=" + second.line.encode()[30:90])
    FileWitness(place).keep(second)
    assert witnessed(place) == [first, second]


def test_witnesses_that_cannot_keep_or_be_read_say_so(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="keeps nothing"):
        FileWitness(tmp_path / "no" / "file").keep(points(1)[0])
    with pytest.raises(AuditError, match="keeps nothing"):
        FolderWitness(tmp_path / "no").keep(points(1)[0])
    with pytest.raises(InputError, match="cannot be read"):
        witnessed(tmp_path / "no")
    (tmp_path / "big").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="more than 50 bytes"):
        witnessed(tmp_path / "big", replace(SMALL, witness_bytes=50))


class Slow:
    """A witness that waits, fails a few times, and then keeps."""

    def __init__(self, failures: int = 0) -> None:
        self.go = threading.Event()
        self.failures, self.kept = failures, list[Checkpoint]()

    def keep(self, checkpoint: Checkpoint) -> None:
        self.go.wait(60)
        if self.failures:
            self.failures -= 1
            raise AuditError("no", "there", "wait")
        self.kept.append(checkpoint)


def handed(courier: Courier, some: Iterable[Checkpoint]) -> None:
    for point in some:
        courier(point)


def test_a_slow_witness_holds_nobody_up_and_gets_the_newest() -> None:
    slow = Slow()
    courier = Courier(slow, bounds=replace(SMALL, witness_queue=4))
    handed(courier, points(100))  # returns although nothing is kept
    assert slow.kept == []
    slow.go.set()
    assert courier.close(60)
    assert slow.kept[-4:] == points(100)[-4:]
    assert len(slow.kept) <= 5
    assert courier.kept == 100


def test_a_failing_witness_is_told_once_and_asked_again() -> None:
    slow, told = Slow(failures=2), list[str]()
    slow.go.set()
    kept = threading.Event()
    courier = Courier(slow, lambda text: (told.append(text), kept.set() if not text else None)[0])
    courier(points(1)[0])
    assert kept.wait(60)
    assert courier.close(60)
    assert told == ["no, there, wait", ""]
    assert slow.kept == points(1)
