"""Durability: at every operation on the disk something goes wrong, and no durable record is ever lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _audit import KEY, SMALL, Clock, FaultyFolder, PowerLossError, payloads, verified, write_log
from scanward.audit import Checkpoint, Writer
from scanward.errors import AuditError, AuditFullError

GROUPS = [[b"g%d-%d " % (g, i) + b"x" * (37 * g % 300) for i in range(1 + g % 4)] for g in range(14)]


class Run:
    """One life of a writer on a faulty disk: what it acknowledged, and what a witness saw."""

    def __init__(self, disk: FaultyFolder) -> None:
        self.disk = disk
        self.acknowledged: dict[int, bytes] = {}
        self.witnessed: list[Checkpoint] = []
        self.ended = ""
        self.full = False
        self.clock = Clock()

    def go(self, groups: list[list[bytes]] = GROUPS, *, reserved: bool = False) -> Run:
        try:
            writer = Writer(
                self.disk,
                KEY,
                self.clock(),
                witness=self.witnessed.append,
                bounds=SMALL,
                new_id=lambda _: b"L" * 16,
            )
            for group in groups:
                told = {writer.append(p, self.clock(), reserved=reserved): p for p in group}
                durable = writer.commit(self.clock())
                assert durable >= max(told)
                self.acknowledged |= told
                self.full |= writer.full
                writer.tick(self.clock(100))
            writer.close(self.clock())
        except PowerLossError:
            self.ended = "power"
        except AuditFullError:
            self.ended = "full"
        except AuditError:
            self.ended = "failed"
        return self

    def check(self, disk: FaultyFolder, folder: Path) -> None:
        """Nothing acknowledged is missing, and nobody is accused."""
        disk.dump(folder)
        if not self.acknowledged:
            return
        report = verified(folder, self.witnessed or None)
        assert report.ok, report.findings
        found = payloads(folder)
        assert {seq: found.get(seq) for seq in self.acknowledged} == self.acknowledged


def operations(reserved: bool = False) -> list[str]:
    return Run(FaultyFolder()).go(reserved=reserved).disk.operations


COUNT = len(operations())


def test_the_scenario_reaches_every_kind_of_operation() -> None:
    kinds = {"create", "open", "write", "allocate", "sync", "rename", "sync_names"}
    assert set(operations()) | {"open"} == kinds
    assert operations().count("rename") > 3  # rotations and the reserve
    assert COUNT < 150


@pytest.mark.parametrize("keep", ["nothing", "all", "some"])
def test_power_loss_at_every_operation_loses_no_durable_record(keep: str, tmp_path: Path) -> None:
    ended = set()
    for at in range(COUNT):
        run = Run(FaultyFolder((at, "power"))).go()
        ended.add(run.ended)
        disk = run.disk.after_power_loss(keep, random.Random(at))
        run.check(disk, tmp_path / "before")
        # The next writer goes on where this one was torn away, and both lives verify as one log.
        again = Run(disk)
        again.clock, again.witnessed = run.clock, run.witnessed
        again.go(GROUPS[:3])
        assert again.ended == ""
        again.acknowledged |= run.acknowledged
        again.check(disk, tmp_path / "after")
    assert ended == {"power"}


def test_a_kill_at_every_operation_and_a_later_power_loss_lose_no_durable_record(tmp_path: Path) -> None:
    """What a killed writer left in the page cache is what the next one builds on: it must be synced first."""
    for at in range(COUNT):
        disk = FaultyFolder((at, "power"))
        run = Run(disk).go()
        disk.handles.clear()  # the process is gone, the machine is not
        again = Run(disk)
        again.clock, again.witnessed, again.acknowledged = run.clock, run.witnessed, run.acknowledged
        again.go(GROUPS[:3])
        assert again.ended == ""
        again.check(disk.after_power_loss("nothing", random.Random(at)), tmp_path / "log")


@pytest.mark.parametrize("kind", ["eio", "enospc", "short"])
@pytest.mark.parametrize("keep", ["nothing", "some"])
def test_one_failure_at_every_operation_loses_no_durable_record(kind: str, keep: str, tmp_path: Path) -> None:
    survived = 0
    for at in range(COUNT):
        run = Run(FaultyFolder((at, kind))).go(reserved=True)
        survived += run.ended == ""
        run.disk.fault = None
        run.check(run.disk, tmp_path / "at once")
        disk = run.disk.after_power_loss(keep, random.Random(at))
        run.check(disk, tmp_path / "after power loss")
        again = Run(disk)
        again.clock, again.witnessed = run.clock, run.witnessed
        assert again.go(GROUPS[:2]).ended == ""
        again.acknowledged |= run.acknowledged
        again.check(disk, tmp_path / "next life")
    assert survived > 0.8 * COUNT  # a single failure is survived, save where a log is being opened


@given(data=st.data())
def test_power_loss_after_a_failure_loses_no_durable_record(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    disk = FaultyFolder(
        (data.draw(st.integers(0, COUNT)), data.draw(st.sampled_from(["eio", "enospc", "short"])))
    )
    run = Run(disk).go(reserved=True)
    disk.fault = (len(disk.operations) + data.draw(st.integers(0, 40)), "power")
    second = Run(disk)
    second.clock, second.witnessed, second.acknowledged = run.clock, run.witnessed, run.acknowledged
    second.go(GROUPS[:6], reserved=True)
    keep = data.draw(st.sampled_from(["nothing", "all", "some"]))
    left = disk.after_power_loss(keep, data.draw(st.randoms(use_true_random=False)))
    second.check(left, folder)


def test_after_a_failed_sync_the_segment_is_never_written_again() -> None:
    disk = FaultyFolder()
    clock = Clock()
    writer = Writer(disk, KEY, clock(), bounds=SMALL)
    writer.append(b"first", clock())
    writer.commit(clock())
    disk.fault = (len(disk.operations) + 1, "eio")  # the write succeeds, the sync does not
    writer.append(b"second", clock())
    seq = writer.commit(clock())
    old = bytes(disk.files["00000001.audit"].seen)
    writer.append(b"third", clock())
    assert writer.commit(clock()) > seq
    assert bytes(disk.files["00000001.audit"].seen) == old
    assert b"second" in disk.files["00000002.audit"].kept
    assert b"audit.write_failed" in disk.files["00000002.audit"].kept


def test_a_disk_that_keeps_failing_is_declared_failed() -> None:
    disk = FaultyFolder()
    clock = Clock()
    writer = Writer(disk, KEY, clock(), bounds=SMALL)
    writer.append(b"lost", clock())
    disk.sync = lambda handle: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # type: ignore[method-assign]
    with pytest.raises(AuditError):
        writer.commit(clock())
    assert writer.failure
    with pytest.raises(AuditError, match="failed"):
        writer.append(b"more", clock(), reserved=True)
    with pytest.raises(AuditError, match="failed"):
        writer.commit(clock())
    writer.close(clock())


# --- the disk is full


def full_disk(extra: int = 2500) -> tuple[FaultyFolder, Clock, Writer]:
    """A disk with room for the reserve and ``extra`` bytes, filled until the writer says so."""
    disk = FaultyFolder(capacity=SMALL.reserve_bytes + extra)
    clock = Clock()
    writer = Writer(disk, KEY, clock(), bounds=SMALL)
    for number in range(1000):
        try:
            writer.append(b"load %d " % number + b"x" * 200, clock())
        except AuditFullError:
            break
        writer.commit(clock())
    return disk, clock, writer


def test_on_a_full_disk_only_reserved_records_are_taken_and_they_are_durable(tmp_path: Path) -> None:
    disk, clock, writer = full_disk()
    assert writer.full
    before = writer.reserve_left
    told = {}
    for number in range(12):
        with pytest.raises(AuditFullError, match="stops and emergency access only"):
            writer.append(b"load", clock())
        told[writer.append(b"stop %d" % number, clock(), reserved=True)] = b"stop %d" % number
        assert writer.commit(clock()) >= max(told)
    assert 0 < writer.reserve_left < before
    left = disk.after_power_loss("nothing", random.Random(0))
    folder = left.dump(tmp_path / "log")
    assert verified(folder).ok
    assert {seq: payloads(folder)[seq] for seq in told} == told
    assert any(b"audit.disk_full" in (folder / name).read_bytes() for name in left.names())


def test_room_again_is_noticed_and_the_reserve_restored(tmp_path: Path) -> None:
    disk, clock, writer = full_disk()
    writer.append(b"stop", clock(), reserved=True)
    writer.commit(clock())
    writer.tick(clock(100))
    assert writer.full
    disk.capacity *= 4
    writer.tick(clock(100))
    assert not writer.full
    assert writer.reserve_left == SMALL.reserve_bytes
    writer.append(b"load", clock())
    writer.close(clock())
    assert verified(disk.dump(tmp_path / "log")).ok


def test_a_writer_that_starts_on_a_full_disk_goes_on_in_the_reserve(tmp_path: Path) -> None:
    disk, clock, writer = full_disk()
    acknowledged = {writer.append(b"stop 1", clock(), reserved=True): b"stop 1"}
    writer.commit(clock())
    disk.capacity = 0  # and nothing can be freed
    for life in range(3):  # killed, each time
        disk = disk.after_power_loss("all", random.Random(life))
        writer = Writer(disk, KEY, clock(), bounds=SMALL)
        assert writer.full
        with pytest.raises(AuditFullError):
            writer.append(b"load", clock())
        acknowledged[writer.append(b"stop %d" % life, clock(), reserved=True)] = b"stop %d" % life
        writer.commit(clock())
    folder = disk.dump(tmp_path / "log")
    assert verified(folder).ok
    assert {seq: payloads(folder)[seq] for seq in acknowledged} == acknowledged


def test_when_the_reserve_is_used_up_it_says_so_and_nothing_is_acknowledged() -> None:
    _, clock, writer = full_disk()

    def stops() -> None:
        for _ in range(1000):
            writer.append(b"stop" * 20, clock(), reserved=True)
            writer.commit(clock())

    with pytest.raises(AuditError, match="reserved space is used up"):
        stops()
    assert writer.failure


def test_a_disk_without_room_for_a_reserve_is_full_from_the_start() -> None:
    clock = Clock()
    writer = Writer(FaultyFolder(capacity=3000), KEY, clock(), bounds=SMALL)
    assert writer.full
    assert writer.reserve_left == 0


def test_a_reserve_that_somebody_wrote_into_is_replaced(tmp_path: Path) -> None:
    disk = FaultyFolder()
    write_log(disk, [[b"a"]])
    disk.files["reserve"].seen[100:104] = b"JUNK"
    clock = Clock()
    clock.ns += 10**6
    writer = write_log(disk, [[b"b"]], clock=clock)
    assert not writer.failure
    assert not any(disk.files["reserve"].seen)
    assert verified(disk.dump(tmp_path / "log")).ok
