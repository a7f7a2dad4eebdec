"""A full or failing disk, a crash, a kill: the old bundle stays whole, or the new one is in place whole."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from _bundle import FACTS, KEY, part, same_part, version
from scanward import bundle
from scanward.bundle.disk import PosixDisk
from scanward.bundle.writing import write
from scanward.errors import BundleError
from scanward.layers.base import Part

OLD = part()
NEW = replace(part(), settings={"new": True}, arrays={"big": np.arange(20_000.0)})
ONE_BYTE = 1


class Stopped(BaseException):
    """The power went away: nothing more happens on this disk."""


class FaultyDisk(PosixDisk):
    """Counts every operation and lets the ``at``-th one fail, or stops the world there.

    ``fault`` may be an OSError (that operation fails) or Stopped; with ``every_later`` all later operations
    raise it too. Writes are short, so that a file can be torn in its middle. ``lose_unsynced`` does what a
    power cut does to files that were not synced.
    """

    def __init__(self, at: int = -1, fault: BaseException | None = None, every_later: bool = False) -> None:
        self.at = at
        self.fault = fault
        self.every_later = every_later
        self.count = 0
        self.log: list[tuple[str, str]] = []
        self.paths: dict[int, Path] = {}
        self.unsynced: set[Path] = set()

    def _step(self, name: str, what: object) -> None:
        self.log.append((name, str(what)))
        self.count += 1
        dead = self.every_later and self.count - 1 > self.at
        if self.fault is not None and (self.count - 1 == self.at or dead):
            raise self.fault

    def lock(self, path: Path) -> int:
        self._step("lock", path.name)
        return super().lock(path)

    def mkdir(self, path: Path) -> None:
        self._step("mkdir", path.name)
        super().mkdir(path)

    def create(self, path: Path) -> int:
        self._step("create", path.name)
        handle = super().create(path)
        self.paths[handle] = path
        self.unsynced.add(path)
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        self._step("write", self.paths[handle].name)
        return super().write(handle, data[: max(ONE_BYTE, len(data) // 2)])

    def sync(self, handle: int) -> None:
        self._step("sync", self.paths[handle].name)
        super().sync(handle)
        self.unsynced.discard(self.paths[handle])

    def close(self, handle: int) -> None:
        super().close(handle)  # the descriptor is gone even when close fails
        self._step("close", self.paths[handle].name)

    def sync_directory(self, path: Path) -> None:
        self._step("sync_directory", path.name)
        super().sync_directory(path)

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename", f"{old.name} -> {new.name}")
        super().rename(old, new)
        self.unsynced = {new / p.relative_to(old) if p.is_relative_to(old) else p for p in self.unsynced}

    def remove(self, path: Path) -> None:
        if path.exists():
            self._step("remove", path.name)
        super().remove(path)

    def lose_unsynced(self) -> None:
        for path in self.unsynced:
            if path.exists():
                path.write_bytes(b"")


def steps() -> int:
    """How many operations a replacing write takes (counted, not known)."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "m"
        write(place, OLD, FACTS, KEY)
        disk = FaultyDisk()
        write(place, NEW, version(8), KEY, disk=disk)
    return disk.count


STEPS = range(steps())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    bundle.write(tmp_path / "model", OLD, FACTS, KEY)
    return tmp_path / "model"


def found(place: Path) -> int:
    """Version of the whole bundle found at ``place``; its part must be the one of that version."""
    got = bundle.read(place, trusted=[KEY.verify_key])
    assert same_part(got.part, {7: OLD, 8: NEW}[got.manifest.version])
    return got.manifest.version


def test_there_are_many_operations_and_each_kind_is_among_them(place: Path) -> None:
    disk = FaultyDisk()
    write(place, NEW, version(8), KEY, disk=disk)
    kinds = {name for name, _ in disk.log}
    assert kinds == {
        "lock",
        "mkdir",
        "create",
        "write",
        "sync",
        "close",
        "sync_directory",
        "rename",
        "remove",
    }
    assert len(STEPS) > 60


def test_every_file_is_durable_before_the_old_one_moves_and_the_old_one_goes_last(place: Path) -> None:
    disk = FaultyDisk()
    write(place, NEW, version(8), KEY, disk=disk)
    renames = [i for i, (name, _) in enumerate(disk.log) if name == "rename"]
    assert [disk.log[i][1] for i in renames] == ["model -> .model.outgoing", ".model.incoming -> model"]
    before = disk.log[: renames[0]]
    assert {p for n, p in before if n == "create"} == {p for n, p in before if n == "sync"}
    assert not disk.unsynced
    assert ("sync_directory", ".model.incoming") in before
    assert ("sync_directory", "graphs") in before
    assert disk.log[renames[1] + 1] == ("sync_directory", place.parent.name)
    assert disk.log[-1] == ("remove", ".model.outgoing")


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_once_anywhere_leaves_the_old_bundle_in_place(
    place: Path, at: int, code: int
) -> None:
    disk = FaultyDisk(at, OSError(code, os.strerror(code)))
    try:
        write(place, NEW, version(8), KEY, disk=disk)
    except BundleError as error:
        assert os.strerror(code) in str(error)  # noqa: PT017 - not every fault is an error
        assert found(place) == 7
        assert sorted(p.name for p in place.parent.iterdir()) == [".model.lock", "model"]
    else:
        assert disk.log[at][0] == "remove"  # only tidying up may fail unheard
        assert found(place) == 8
    bundle.write(place, NEW, version(9), KEY)
    assert sorted(p.name for p in place.parent.iterdir()) == [".model.lock", "model"]


@pytest.mark.parametrize("at", STEPS)
def test_a_disk_that_is_full_from_some_point_on_leaves_a_whole_bundle_to_be_found(
    place: Path, at: int
) -> None:
    fault = OSError(errno.EIO, "Input/output error")
    disk = FaultyDisk(at, fault, every_later=True)  # not even undoing works any more
    try:
        write(place, NEW, version(8), KEY, disk=disk)
    except BundleError:
        assert found(place) in (7, 8)
    else:
        assert found(place) == 8
    bundle.write(place, NEW, replace(FACTS, version=None), KEY)
    assert bundle.read(place, trusted=[KEY.verify_key]).manifest.version in (8, 9)
    assert sorted(p.name for p in place.parent.iterdir()) == [".model.lock", "model"]


@pytest.mark.parametrize("at", STEPS)
def test_a_power_cut_anywhere_leaves_the_old_or_the_new_bundle_to_be_found(place: Path, at: int) -> None:
    disk = FaultyDisk(at, Stopped(), every_later=True)
    with pytest.raises(Stopped):
        write(place, NEW, version(8), KEY, disk=disk)
    disk.lose_unsynced()
    swapped = ("sync_directory", place.parent.name) in disk.log[:-1]
    assert found(place) == 8 if swapped else found(place) in (7, 8)
    # The next write cleans up, whatever was left, and knows the version that was found.
    then = bundle.write(place, NEW, replace(FACTS, version=None), KEY)
    assert then.version in (8, 9)
    assert sorted(p.name for p in place.parent.iterdir()) == [".model.lock", "model"]


@pytest.mark.parametrize("at", STEPS[:-3])
def test_a_first_bundle_that_fails_leaves_nothing(tmp_path: Path, at: int) -> None:
    disk = FaultyDisk(at, OSError(errno.ENOSPC, "No space left on device"))
    try:
        write(tmp_path / "model", NEW, version(8), KEY, disk=disk)
    except BundleError:
        assert {p.name for p in tmp_path.iterdir()} <= {".model.lock"}
    else:
        assert disk.count <= at  # the fault lay beyond its end
        assert found(tmp_path / "model") == 8


def test_a_crash_while_a_crash_is_being_undone(place: Path) -> None:
    place.rename(place.with_name(".model.outgoing"))  # as a writer that died between its renames leaves it
    assert found(place) == 7
    for at in range(4):
        with pytest.raises(Stopped):
            write(place, NEW, version(8), KEY, disk=FaultyDisk(at, Stopped(), every_later=True))
        assert found(place) == 7
    with pytest.raises(BundleError, match="not larger than version 7"):
        bundle.write(place, NEW, version(7), KEY)
    bundle.write(place, NEW, version(8), KEY)
    assert found(place) == 8


def test_two_writers_do_not_meet(place: Path) -> None:
    with (place.parent / ".model.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="another process is writing"):
            bundle.write(place, NEW, version(8), KEY)
    bundle.write(place, NEW, version(8), KEY)


def test_a_reader_sees_one_bundle_or_the_other_while_they_are_swapped(place: Path) -> None:
    stop = threading.Event()
    seen: list[int] = []
    errors: list[BundleError] = []

    def watch() -> None:
        while not stop.is_set():
            try:
                seen.append(bundle.read(place, trusted=[KEY.verify_key]).manifest.version)
            except BundleError as error:
                errors.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(8, 40):
        bundle.write(place, NEW, version(number), KEY)
    stop.set()
    watcher.join()
    assert not errors, errors[0]
    assert len(seen) > 10
    assert seen == sorted(seen)  # never back to an older one


# --- real disks -----------------------------------------------------------------------------------
@contextmanager
def _tiny_disk(folder: Path, kib: int) -> Iterator[None]:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or not mount or not umount:
        pytest.skip("mounting a small file system needs the superuser")
    command = [mount, "-t", "tmpfs", "-o", f"size={kib}k", "scanward-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run([umount, str(folder)], check=True)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    with _tiny_disk(tmp_path, 64):
        place = tmp_path / "model"
        bundle.write(place, OLD, FACTS, KEY)
        before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
        with pytest.raises(BundleError, match="No space left on device") as caught:
            bundle.write(place, NEW, version(8), KEY)
        assert "make room" in caught.value.todo
        assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
        assert found(place) == 7
        assert bundle.write(place, OLD, version(8), KEY).version == 8  # and what was half-written is gone


def test_a_limit_on_file_size_is_like_a_full_disk(place: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # Python ignores SIGXFSZ, so write says EFBIG
    try:
        with pytest.raises(BundleError, match="File too large"):
            bundle.write(place, NEW, version(8), KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found(place) == 7


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        bundle.write(tmp_path / "file" / "model", OLD, FACTS, KEY)


WRITER = """
import sys; sys.path.insert(0, sys.argv[1])
import _bundle as b, numpy as np
from dataclasses import replace
from pathlib import Path
from scanward import bundle
from scanward.layers.base import Part
print("ready", flush=True)
part, facts = Part(arrays={"x": np.arange(50_000.0)}), replace(b.FACTS, version=None)
while True:
    bundle.write(Path(sys.argv[2]), part, facts, b.KEY)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    place = tmp_path / "model"
    bundle.write(place, Part(), version(1), KEY)
    last = 1
    for wait in (0.0, 0.011, 0.037, 0.071, 0.113, 0.2):
        command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(place)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
        now = bundle.read(place, trusted=[KEY.verify_key]).manifest.version
        assert now >= last
        last = now
    assert last > 1
