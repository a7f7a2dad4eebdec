"""Files that are signed: read once, written whole, on the disk before they are named, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from _signatures import DEFLATED, certificate, made, pem, rsa_key
from scanward.cli.main import cli
from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import DecodeError, InputError, KeyFileError
from scanward.signatures import (
    Genuineness,
    Signer,
    Trust,
    files,
    sign_file,
    sign_files,
    signing_files,
    verify_file,
)
from scanward.signatures.elements import parse

KEY = rsa_key()
OWN = certificate("CT 1", KEY)
SIGNER = Signer(KEY, OWN)
TRUST = Trust((OWN,))


@pytest.fixture(params=["at once", "overlapped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing: small files at once, long ones while they are hashed."""
    if request.param == "overlapped":
        bounds(monkeypatch, overlapped_bytes=1)
    return str(request.param)


def bounds(monkeypatch: pytest.MonkeyPatch, **more: int) -> None:
    for module in (files, signing_files):
        monkeypatch.setattr(module, "SIGNATURE_BOUNDS", replace(SIGNATURE_BOUNDS, **more))


def put(folder: Path, name: str = "a.dcm", data: bytes | None = None) -> Path:
    path = folder / name
    path.write_bytes(made() if data is None else data)
    return path


def without_signatures(data: bytes) -> bytes:
    parsed = parse(data)
    kept = [one for one in parsed.elements if one.tag not in (0x4FFE0001, 0xFFFAFFFA)]
    return data[: parsed.offset] + b"".join(bytes(parsed.data[one.start : one.end]) for one in kept)


# --- written


def test_both_ways_write_the_file_and_its_signatures(tmp_path: Path, way: str) -> None:
    path = put(tmp_path)
    before = path.read_bytes()
    for count in (1, 2, 3):
        sign_file(path, SIGNER)
        report = verify_file(path, TRUST)
        assert (report.genuineness, len(report.signatures)) == (Genuineness.GENUINE, count)
    assert without_signatures(path.read_bytes()) == before
    deflated = put(tmp_path, "d.dcm", made(DEFLATED))
    sign_file(deflated, SIGNER)
    assert verify_file(deflated, TRUST).genuineness is Genuineness.GENUINE
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.dcm", "d.dcm"]


def test_a_disk_that_takes_little_at_a_time(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(files.os, "writev", lambda number, pieces: os.write(number, pieces[0][:7]))
    sign_file(path, SIGNER)
    assert without_signatures(path.read_bytes()) == before
    assert verify_file(path, TRUST).genuineness is Genuineness.GENUINE


def test_bytes_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path)
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def synced(number: int) -> None:
        kind = "folder" if Path(f"/proc/self/fd/{number}").is_dir() else f"{os.fstat(number).st_size} bytes"
        done.append(kind)
        fsync(number)

    def renamed(self: Path, target: Any) -> Path:
        done.append("name")
        return rename(self, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.Path, "replace", renamed)
    sign_file(path, SIGNER)
    assert done == [f"{path.stat().st_size} bytes", "name", "folder"]


def test_what_fails_leaves_nothing(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def no_key(*_: object) -> bytes:
        raise KeyFileError("gone", "token", "put it back")

    for where, fails, error in (
        ("scanward.signatures.files.os.writev", full, InputError),
        ("scanward.signatures.files.os.fsync", full, InputError),
        ("scanward.signatures.signing.macs.sign", no_key, KeyFileError),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(where, fails)
            with pytest.raises(error):
                sign_file(path, SIGNER)
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == ["a.dcm"]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from scanward.config import SIGNATURE_BOUNDS
from scanward.signatures import Genuineness, Signer, Trust, sign_file, verify_file
folder = Path(sys.argv[1])
signer, trust = Signer.load(folder / "k.pem", folder / "c.pem"), Trust.load(folder / "c.pem")
path, chance = folder / "study" / "a.dcm", random.Random(7)
original = path.read_bytes()
assert len(original) > SIGNATURE_BOUNDS.overlapped_bytes
found = {"old": 0, "new": 0, "drafts": 0}
for number in range(40):
    path.write_bytes(original)
    child = os.fork()
    if not child:
        try:
            sign_file(path, signer)
        finally:
            os._exit(0)
    time.sleep(chance.random() * float(sys.argv[2]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if path.read_bytes() == original:
        found["old"] += 1
    else:
        assert verify_file(path, trust).genuineness is Genuineness.GENUINE, "a half"
        found["new"] += 1
    for draft in (one for one in path.parent.iterdir() if one != path):
        assert draft.name.startswith(".signing-")
        found["drafts"] += 1
        draft.unlink()
print(found["old"], found["new"], found["drafts"])
"""


def test_killed_at_any_moment_it_is_the_old_file_or_the_new(tmp_path: Path) -> None:
    pem(tmp_path, "k.pem", KEY)
    pem(tmp_path, "c.pem", OWN)
    (tmp_path / "study").mkdir()
    path = put(tmp_path / "study", data=made(Rows=1600, Columns=1600, PixelData=bytes(2 * 1600 * 1600)))
    start = time.perf_counter()
    sign_file(path, SIGNER, tmp_path / "timed.dcm")
    took = time.perf_counter() - start
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(2 * took)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    old, new, drafts = map(int, ended.stdout.split())
    assert old + new == 40
    assert old
    assert old >= drafts


# --- read


def test_memory_is_used_again_and_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = put(tmp_path, "1", b"a" * 999), put(tmp_path, "2", b"b" * 500)
    empty = put(tmp_path, "3", b"")
    with files.content(one) as first:
        with files.content(two) as second:
            assert (bytes(first), bytes(second)) == (b"a" * 999, b"b" * 500)
        with pytest.raises(TypeError):
            first[0] = 0
        kept = first.obj
    with files.content(two) as again, files.content(empty) as nothing:
        assert again.obj is kept
        assert bytes(again) == b"b" * 500
        assert bytes(nothing) == b""
    bounds(monkeypatch, kept_bytes=100)
    with files.content(put(tmp_path, "4", b"c" * 5000)) as long:
        last = long.obj
    with files.content(one) as other:
        assert other.obj is not last


@pytest.mark.parametrize("change", [1, -1])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    path = put(tmp_path)
    fstat = os.fstat

    def looked(number: int) -> os.stat_result:
        facts = fstat(number)
        return os.stat_result((*facts[:6], facts.st_size - change, *facts[7:]))

    monkeypatch.setattr(files.os, "fstat", looked)
    with pytest.raises(InputError, match="changed while it was read"):
        sign_file(path, SIGNER)


# --- folders


def test_many_files_in_order_each_with_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    work = [(put(tmp_path, f"{n}.dcm"), out / f"{n % 2}" / f"{n}.dcm") for n in range(23)]
    work[5][0].write_bytes(b"no picture")
    work[7] = (work[7][0], put(tmp_path, "file") / "x.dcm")
    work[9] = (tmp_path / "none.dcm", work[9][1])
    settled: list[Path] = []
    settle = files.settle

    def told(folders: Any) -> None:
        settled.extend(sorted(folders))
        settle(settled)

    monkeypatch.setattr(files, "settle", told)
    found = list(sign_files(work, SIGNER))
    assert [(path, target) for path, target, _ in found] == work
    wrong = {n: error for n, (_, _, error) in enumerate(found) if error is not None}
    assert {n: type(error) for n, error in wrong.items()} == {5: DecodeError, 7: InputError, 9: InputError}
    assert "5.dcm" in wrong[5].where
    assert settled == [out / "0", out / "1"]
    for n, (_, target) in enumerate(work):
        if n not in wrong:
            assert verify_file(target, TRUST).genuineness is Genuineness.GENUINE


def test_long_files_are_not_all_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(made())
    bounds(monkeypatch, signing_bytes=2 * size + 1)
    lock, inside, most = threading.Lock(), [0], [0]
    into = signing_files._signed_into

    def counted(*words: Any) -> Path:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        folder = into(*words)
        with lock:
            inside[0] -= 1
        return folder

    monkeypatch.setattr(signing_files, "_signed_into", counted)
    work = [(path, path) for path in (put(tmp_path, f"{n}.dcm") for n in range(12))]
    assert all(error is None for _, _, error in sign_files(work, SIGNER))
    assert most == [2]
    bounds(monkeypatch, signing_bytes=size - 1)  # each is longer than all may be: one after the other
    most[0] = 0
    assert all(error is None for _, _, error in sign_files(work, SIGNER))
    assert most == [1]


def test_one_file_by_two_names_is_signed_once_and_drafts_are_left_alone(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    path, draft = put(study), put(study, ".signing-x")
    (study / "b.dcm").symlink_to(path)
    words = ["sign", study, path, "--key", pem(tmp_path, "k.pem", KEY), "--cert", pem(tmp_path, "c.pem", OWN)]
    ended = CliRunner().invoke(cli, [str(word) for word in words])
    assert ended.exit_code == 0, ended.output
    assert len(verify_file(path, TRUST).signatures) == 1
    assert draft.read_bytes() == made()
    ended = CliRunner().invoke(cli, ["verify", str(study), "--trust", str(tmp_path / "c.pem")])
    assert ended.exit_code == 5  # and verifying passes over nothing
