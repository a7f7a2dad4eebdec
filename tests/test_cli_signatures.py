"""``scanward sign`` and ``scanward verify``: files, folders, JSON, exit statuses, passwords."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from _signatures import certificate, made, pem, rsa_key
from scanward.cli.main import cli
from scanward.signatures.elements import parse


class Desk:
    """A signer, a stranger and a place for files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own, other = certificate("CT 1", rsa_key()), certificate("Stranger", rsa_key(1))
        self.key, self.cert = pem(folder, "ct.key", rsa_key()), pem(folder, "ct.pem", own)
        self.other = (pem(folder, "o.key", rsa_key(1)), pem(folder, "o.pem", other))
        self.study = folder / "study"
        self.study.mkdir()

    def file(self, name: str, data: bytes | None = None) -> Path:
        path = self.study / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made() if data is None else data)
        return path

    def sign(self, *words: object, keys: tuple[Path, Path] | None = None, **env: str) -> Result:
        key, cert = keys or (self.key, self.cert)
        return run("sign", *words, "--key", key, "--cert", cert, **env)

    def verify(self, *words: object) -> Result:
        return run("verify", *words, "--trust", self.cert)


def run(*words: object, **env: str) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], env=env)


def told(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_in_place_and_whole(desk: Desk) -> None:
    path = desk.file("a.dcm")
    path.chmod(0o640)
    before, number = path.read_bytes(), path.stat().st_ino
    assert desk.sign(path).exit_code == 0
    after = path.read_bytes()
    assert path.stat().st_ino != number  # another file took its name: nobody ever saw a half
    assert path.stat().st_mode & 0o777 == 0o640
    parsed = parse(after)
    kept = [one for one in parsed.elements if one.tag not in (0x4FFE0001, 0xFFFAFFFA)]
    assert (
        after[: parsed.offset] + b"".join(bytes(parsed.data[one.start : one.end]) for one in kept) == before
    )
    assert desk.verify(path).exit_code == 0
    assert [one.name for one in desk.study.iterdir()] == ["a.dcm"]


def test_a_failure_leaves_the_file_as_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.file("a.dcm")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scanward.signatures.files.os.fsync", full)
    result = desk.sign(path)
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert path.read_bytes() == before
    assert [one.name for one in desk.study.iterdir()] == ["a.dcm"]


def test_out_is_a_file_or_a_folder(desk: Desk) -> None:
    path = desk.file("a.dcm")
    before = path.read_bytes()
    out = desk.folder / "signed.dcm"
    assert desk.sign(path, "--out", out).exit_code == 0
    assert path.read_bytes() == before
    assert desk.verify(out).exit_code == 0
    desk.file("deep/er/b.dcm")
    notes = desk.file("notes.txt", b"no picture")
    result = desk.sign(desk.study, "--out", desk.folder / "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert told(result)["left"] == 1
    assert {
        Path(one["signed"]).relative_to(desk.folder / "out").as_posix() for one in told(result)["signed"]
    } == {
        "a.dcm",
        "deep/er/b.dcm",
    }
    assert notes.read_bytes() == b"no picture"
    assert desk.verify(desk.folder / "out").exit_code == 0
    assert desk.verify(desk.study).exit_code == 5
    assert desk.sign(path, desk.study / "deep/er/b.dcm", "--out", out).exit_code == 2
    twin = desk.folder / "twin"
    twin.mkdir()
    (twin / "a.dcm").write_bytes(made())
    result = desk.sign(path, twin / "a.dcm", "--out", desk.folder / "both")
    assert result.exit_code == 2
    assert "two files of one name" in result.stderr


def test_exit_statuses_and_json(desk: Desk) -> None:
    paths = {
        name: desk.file(f"{name}.dcm")
        for name in ("genuine", "altered", "stranger", "partial", "unsigned", "broken")
    }
    for name in ("genuine", "altered"):
        assert desk.sign(paths[name]).exit_code == 0
    assert desk.sign(paths["stranger"], keys=desk.other).exit_code == 0
    assert desk.sign(paths["partial"], "--profile", "creator").exit_code == 0
    raw = paths["altered"].read_bytes()
    paths["altered"].write_bytes(raw.replace(b"Phantom^Ann", b"Phantom^Bob"))
    paths["broken"].write_bytes(made()[:-3])
    said = {
        "genuine": (0, "genuine"),
        "altered": (3, "altered"),
        "broken": (3, "malformed"),
        "stranger": (4, "untrusted"),
        "partial": (4, "partial"),
        "unsigned": (5, "unsigned"),
    }
    for name, (status, word) in said.items():
        result = desk.verify(paths[name], "--json")
        assert (result.exit_code, told(result)["files"][0]["genuineness"]) == (status, word), name
        plain = desk.verify(paths[name])
        assert plain.exit_code == status
        assert word in plain.stdout
    everything = desk.verify(desk.study, "--json")
    assert everything.exit_code == 3
    assert told(everything)["counts"] == {word: 1 for _, word in said.values()}
    assert desk.verify(paths["genuine"], paths["partial"], paths["unsigned"]).exit_code == 4
    assert desk.verify(paths["partial"], "--require", "uids", "--require", "pixels").exit_code == 0
    assert desk.verify(paths["genuine"], "--require", "everything").exit_code == 4  # an element of VR UN
    assert desk.verify(paths["genuine"], "--require", "nonsense").exit_code == 2
    assert desk.verify(desk.folder / "none").exit_code == 2
    assert run("verify", paths["genuine"], "--trust", desk.folder / "none").exit_code == 2
    assert run("verify", paths["genuine"], "--trust", desk.key).exit_code == 2


def test_a_folder_without_pictures_is_not_genuine(desk: Desk) -> None:
    desk.file("notes.txt", b"no picture")
    result = desk.verify(desk.study)
    assert result.exit_code == 5
    assert "no DICOM file was found" in result.stderr


@pytest.mark.parametrize("cut", [132, 128, 144])
def test_a_data_set_without_its_head_is_not_passed_over(desk: Desk, cut: int) -> None:
    """Viewers show it all the same: among genuine files it must not go unseen."""
    assert desk.sign(desk.file("a.dcm")).exit_code == 0
    desk.file("bare", made()[cut:])
    result = desk.verify(desk.study, "--json")
    if cut == 128:  # DICM at its very beginning: no reader takes that, but the name would
        assert result.exit_code == 0
        desk.file("bare.DCM", made()[cut:])
        result = desk.verify(desk.study, "--json")
    assert result.exit_code == 3
    assert told(result)["counts"] == {"genuine": 1, "malformed": 1}


def test_one_that_fails_does_not_stop_the_others(desk: Desk) -> None:
    desk.file("a.dcm", made()[:-3])
    desk.file("b.dcm")
    result = desk.sign(desk.study)
    assert result.exit_code == 2
    assert "1 of 2 were not signed" in result.stderr
    assert desk.verify(desk.study / "b.dcm").exit_code == 0


def test_keys_with_a_password(desk: Desk) -> None:
    path = desk.file("a.dcm")
    locked = pem(desk.folder, "locked.key", rsa_key(), b"secret")
    keys = (locked, desk.cert)
    assert desk.sign(path, keys=keys).exit_code == 2
    assert desk.sign(path, keys=keys, SCANWARD_KEY_PASSPHRASE="wrong").exit_code == 2
    assert desk.verify(path).exit_code == 5
    result = desk.sign(path, keys=keys, SCANWARD_KEY_PASSPHRASE="secret")
    assert result.exit_code == 0, result.stderr
    assert "secret" not in result.output
    assert desk.verify(path).exit_code == 0


def test_what_a_file_says_does_not_steer_the_terminal(desk: Desk) -> None:
    path = desk.file("a.dcm")
    desk.sign(path)
    path.write_bytes(path.read_bytes().replace(b"SHA256", b"\x1b[2J\x07\x9b"))
    result = desk.verify(path)
    assert result.exit_code == 3
    assert "\x1b" not in result.output
    assert "\x9b" not in result.output
