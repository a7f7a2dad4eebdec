"""The floor of versions: it only rises, survives what disks do, and refuses when it cannot be sure."""

from __future__ import annotations

import multiprocessing
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _bundle import DEVICE, FACTS, check, files_of, part, version
from scanward.bundle import Manifest, VersionFloor
from scanward.commands import Device, Role
from scanward.errors import BundleError, RollbackError


def manifest(number: int, **change: object) -> Manifest:
    return check(files_of(facts=replace(version(number), **change))).manifest  # type: ignore[arg-type]


@pytest.fixture
def floor(tmp_path: Path) -> VersionFloor:
    return VersionFloor(tmp_path / "state" / "versions.json")


def test_it_rises_and_never_falls(floor: VersionFloor) -> None:
    assert floor.lowest(DEVICE, Role.PERFORMED) == 0
    floor.accept(manifest(3))
    floor.accept(manifest(5))
    floor.accept(manifest(5))  # the same bundle again: a restart
    assert floor.lowest(DEVICE, Role.PERFORMED) == 5
    for older in (1, 3, 4):
        with pytest.raises(RollbackError, match="older than version 5"):
            floor.accept(manifest(older))
    assert VersionFloor(floor.path).lowest(DEVICE, Role.PERFORMED) == 5  # as another process sees it
    with pytest.raises(RollbackError):
        check(files_of(facts=version(4)), not_before=floor.lowest(DEVICE, Role.PERFORMED))


def test_a_rival_of_the_same_version_is_refused(floor: VersionFloor) -> None:
    floor.accept(manifest(5))
    with pytest.raises(RollbackError, match="same version 5"):
        floor.accept(manifest(5, metrics={"auroc": 0.5}))


def test_devices_and_roles_have_lines_of_their_own(floor: VersionFloor) -> None:
    other = Device("Acme", "CT 64", "beef")
    floor.accept(manifest(9))
    floor.accept(manifest(2, devices=(other,)))
    floor.accept(manifest(1, role=Role.COMMANDED))
    assert floor.lowest(DEVICE, Role.PERFORMED) == 9
    assert floor.lowest(other, Role.PERFORMED) == 2
    assert floor.lowest(DEVICE, Role.COMMANDED) == 1
    both = manifest(5, devices=(DEVICE, other))
    with pytest.raises(RollbackError):
        floor.accept(both)
    assert floor.lowest(other, Role.PERFORMED) == 2  # one refused device, and nothing is remembered
    floor.accept(both, other)  # for this device alone it is news
    assert floor.lowest(other, Role.PERFORMED) == 5


def test_asking_changes_nothing(floor: VersionFloor) -> None:
    floor.check(manifest(5))
    assert not floor.path.exists()
    assert not floor.path.parent.exists()
    floor.accept(manifest(5))
    before = floor.path.stat()
    floor.accept(manifest(5))
    assert floor.path.stat().st_ino == before.st_ino  # not even written again


def test_it_belongs_to_its_user(floor: VersionFloor) -> None:
    floor.accept(manifest(5))
    assert stat.S_IMODE(floor.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(floor.path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in floor.path.parent.iterdir()) == [".versions.json.lock", "versions.json"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"kind": "scanward.versions"}',
        b'{"kind": "scanward.versions", "accepted": []}',
        b'{"kind": "scanward.versions", "accepted": {"a": 3}}',
        b'{"kind": "scanward.versions", "accepted": {"a": [true, ""]}}',
        b'{"kind": "scanward.versions", "accepted": {"a": [1.5, ""]}}',
        b'{"kind": "scanward.versions", "accepted": {"a": [1, "", 2]}}',
        b'{"kind": "other", "accepted": {}}',
        b"[" * 100_000,
        b" " * (2 << 20),
    ],
)
def test_a_damaged_file_is_never_taken_for_an_empty_one(floor: VersionFloor, damage: bytes) -> None:
    floor.accept(manifest(5))
    floor.path.write_bytes(damage)
    for act in (lambda: floor.accept(manifest(6)), lambda: floor.lowest(DEVICE, Role.PERFORMED)):
        with pytest.raises(BundleError) as caught:
            act()
        assert caught.value.todo
    assert floor.path.read_bytes() == damage


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_noise_is_our_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.json"
    path.write_bytes(noise)
    with pytest.raises(BundleError):
        VersionFloor(path).lowest(DEVICE, Role.PERFORMED)


def test_places_where_nothing_can_be_kept_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "file" / "v.json", tmp_path / "folder", Path("a\0b"), tmp_path / "fifo"):
        with pytest.raises(BundleError):
            VersionFloor(path).accept(manifest(1))


def test_a_disk_that_fails_keeps_the_old_floor(floor: VersionFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.accept(manifest(5))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left"):
        floor.accept(manifest(6))
    monkeypatch.undo()
    assert floor.lowest(DEVICE, Role.PERFORMED) == 5
    assert sorted(p.name for p in floor.path.parent.iterdir()) == [".versions.json.lock", "versions.json"]


def _accept(path: Path, files: dict[str, bytes]) -> None:
    VersionFloor(path).accept(check(files).manifest)


def test_several_processes_lose_nothing(floor: VersionFloor) -> None:
    devices = [Device("Acme", "CT 64", f"{n}") for n in range(6)]
    everything = [
        files_of(part(), replace(FACTS, devices=(d,), version=n + 1)) for n, d in enumerate(devices)
    ]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_accept, [(floor.path, files) for files in everything])
    assert [floor.lowest(d, Role.PERFORMED) for d in devices] == [1, 2, 3, 4, 5, 6]


def test_the_default_place_follows_the_desktop_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert VersionFloor.default_path() == tmp_path / ".local/state/scanward/versions.json"
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/state")
    assert VersionFloor.default_path() == Path("/var/lib/state/scanward/versions.json")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # to be ignored, says the specification
    assert VersionFloor.default_path() == tmp_path / ".local/state/scanward/versions.json"
