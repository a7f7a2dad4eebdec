"""Keys: born closed, read only when closed, and never replaced by accident."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward import keys
from scanward.cli.keys import keys_group
from scanward.cli.main import cli
from scanward.errors import KeyFileError
from scanward.keys import SigningKey, VerifyKey

# RFC 8032, 7.1, TEST 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(*arguments: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["keys", *map(str, arguments)], input=typed)


# --- signing --------------------------------------------------------------------------------------
def test_the_standards_own_example() -> None:
    key = SigningKey.from_seed(SEED)
    assert key.verify_key.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.verify_key.verifies(SIGNATURE, b"\x72")


@given(message=st.binary(max_size=50), at=st.integers(0, 63), flip=st.integers(1, 255))
def test_a_signature_is_over_its_message_and_by_its_key(message: bytes, at: int, flip: int) -> None:
    key, other = SigningKey.from_seed(SEED), SigningKey.from_seed(bytes(32))
    signature = key.sign(message)
    altered = bytearray(signature)
    altered[at] ^= flip
    assert key.verify_key.verifies(signature, message)
    assert not key.verify_key.verifies(bytes(altered), message)
    assert not key.verify_key.verifies(signature, message + b"\0")
    assert not other.verify_key.verifies(signature, message)
    assert not key.verify_key.verifies(signature[:-1], message)
    assert not key.verify_key.verifies(b"", message)


def test_a_secret_does_not_show_in_a_repr() -> None:
    key = SigningKey.from_seed(SEED)
    assert SEED.hex() not in repr(key)
    assert "private" not in repr(key).lower()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_of_a_wrong_length_are_refused(size: int) -> None:
    with pytest.raises(KeyFileError, match="32 bytes"):
        VerifyKey(bytes(size))
    with pytest.raises(KeyFileError, match="32 bytes"):
        SigningKey.from_seed(bytes(size))


# --- files ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_pair_comes_back_and_is_closed_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        private, public = keys.write_pair(tmp_path / "site", key := SigningKey.generate())
    finally:
        os.umask(before)
    assert (mode(private), mode(public)) == (0o600, 0o644)
    assert SigningKey.load(private).fingerprint == key.fingerprint
    assert VerifyKey.load(public) == key.verify_key
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site.key", "site.pub"]


def test_openssl_reads_our_keys(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    private, public = keys.write_pair(tmp_path / "site", SigningKey.generate(), b"secret words")
    command = [openssl, "pkey", "-in", str(private), "-passin", "pass:secret words", "-pubout"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == public.read_bytes()


@pytest.mark.parametrize("wider", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_a_private_key_that_others_can_touch_is_not_read(tmp_path: Path, wider: int) -> None:
    private, _ = keys.write_pair(tmp_path / "site", SigningKey.generate())
    secret = keys.write_site_key(tmp_path / "site.sitekey", keys.new_site_key())
    for path in (private, secret):
        path.chmod(wider)
    with pytest.raises(KeyFileError, match=f"mode 0{wider:o}.*chmod 600"):
        SigningKey.load(private)
    with pytest.raises(KeyFileError, match="others can read or change"):
        keys.load_site_key(secret)


def test_a_key_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    private, public = keys.write_pair(tmp_path / "site", SigningKey.generate())
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(KeyFileError, match="already there"):
        keys.write_pair(tmp_path / "site", SigningKey.generate())
    private.unlink()
    with pytest.raises(KeyFileError, match="already there"):  # half a pair is a pair
        keys.write_pair(tmp_path / "site", SigningKey.generate())
    assert not private.exists()
    assert public.read_bytes() == before[1]
    fresh = SigningKey.generate()
    keys.write_pair(tmp_path / "site", fresh, force=True)
    assert VerifyKey.load(public) == fresh.verify_key == SigningKey.load(private).verify_key
    assert mode(private) == 0o600
    (tmp_path / "link.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="already there"):
        keys.write_pair(tmp_path / "link", fresh)
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fail_at in range(4):
        calls = iter(range(100))

        def fsync(_: int, calls: object = calls, fail_at: int = fail_at) -> None:
            if next(calls) == fail_at:  # type: ignore[call-overload]
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(KeyFileError, match="No space left"):
            keys.write_pair(tmp_path / f"k{fail_at}", SigningKey.generate())
        monkeypatch.undo()
        assert not list(tmp_path.iterdir())


def test_passphrases(tmp_path: Path) -> None:
    private, _ = keys.write_pair(tmp_path / "site", key := SigningKey.generate(), b"secret words")
    assert b"ENCRYPTED" in private.read_bytes()
    assert SigningKey.load(private, b"secret words").fingerprint == key.fingerprint
    assert SigningKey.load(private, lambda: b"secret words").fingerprint == key.fingerprint
    with pytest.raises(KeyFileError, match="no passphrase was given"):
        SigningKey.load(private)
    for wrong in (b"other words", b"x" * 5000):
        with pytest.raises(KeyFileError, match="wrong passphrase"):
            SigningKey.load(private, wrong)
    plain, _ = keys.write_pair(tmp_path / "plain", key)
    assert (
        SigningKey.load(plain, lambda: pytest.fail("nobody should be asked")).fingerprint == key.fingerprint
    )
    for bad in (b"", b"x" * 5000):
        with pytest.raises(KeyFileError, match="a passphrase has"):
            key.pem(bad)


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for other in (ed448.Ed448PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
        (tmp_path / "o.key").write_bytes(other.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        (tmp_path / "o.key").chmod(0o600)
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        (tmp_path / "o.pub").write_bytes(other.public_key().public_bytes(pem, info))
        with pytest.raises(KeyFileError, match="not an Ed25519 one"):
            SigningKey.load(tmp_path / "o.key")
        with pytest.raises(KeyFileError, match="not an Ed25519 one"):
            VerifyKey.load(tmp_path / "o.pub")


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    private, public = keys.write_pair(tmp_path / "site", SigningKey.generate())
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "big").write_bytes(private.read_bytes() + b"\n" * 20_000)
    (tmp_path / "big").chmod(0o600)
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    for path in ("empty", "big", "fifo", "folder", "no", "a\0b", "site.pub/x"):
        for load in (SigningKey.load, VerifyKey.load, keys.load_site_key):
            with pytest.raises(KeyFileError) as caught:
                load(tmp_path / path)
            assert caught.value.what
            assert caught.value.todo
    public.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a private key"):
        SigningKey.load(public)
    with pytest.raises(KeyFileError, match="not a public key"):
        VerifyKey.load(private)
    with pytest.raises(KeyFileError, match="not a site key"):
        keys.load_site_key(private)


@settings(max_examples=200)
@given(
    at=st.integers(0, 250), new=st.binary(max_size=8), encrypted=st.booleans(), noise=st.binary(max_size=80)
)
def test_damaged_keys_are_our_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes, encrypted: bool, noise: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    key = SigningKey.from_seed(SEED)
    label = b"ENCRYPTED PRIVATE KEY" if encrypted else b"PRIVATE KEY"
    pem = key.pem()
    for data in (
        pem[:at] + new + pem[at + len(new) :],
        key.verify_key.pem()[:at] + new,
        b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, noise, label),
        b"scanward-site-key-1 " + noise,
        noise,
    ):
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(data)
        for load in (lambda p: SigningKey.load(p, b"words"), VerifyKey.load, keys.load_site_key):
            try:
                load(path)
            except KeyFileError as error:
                assert str(path) in str(error)  # noqa: PT017 - most damage is an error, some is none


def test_site_keys(tmp_path: Path) -> None:
    one, two = keys.new_site_key(), keys.new_site_key()
    assert len(one) == 32
    assert one != two
    path = keys.write_site_key(tmp_path / "site.sitekey", one)
    assert mode(path) == 0o600
    assert keys.load_site_key(path) == one
    with pytest.raises(KeyFileError, match="already there"):
        keys.write_site_key(path, two)
    keys.write_site_key(path, two, force=True)
    assert keys.load_site_key(path) == two
    assert keys.site_key_fingerprint(one) != keys.site_key_fingerprint(two)
    with pytest.raises(KeyFileError, match="32 bytes"):
        keys.write_site_key(tmp_path / "x", b"short")


# --- the commands a user types --------------------------------------------------------------------
def test_new_and_show_agree(tmp_path: Path) -> None:
    made = run("new", tmp_path / "keys", "--name", "ct1", "--json")
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert facts["public_key"] == str(tmp_path / "keys" / "ct1.pub")
    assert facts["encrypted"] is False
    assert mode(tmp_path / "keys") == 0o700
    for path, kind in ((facts["public_key"], "public"), (facts["private_key"], "private")):
        shown = json.loads(run("show", path, "--json").stdout)
        assert shown == {"kind": kind, "path": path, "fingerprint": facts["fingerprint"]}
        assert run("show", path).stdout == f"{facts['fingerprint']}  {kind}  {path}\n"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["new", "."], {"site.key", "site.pub"}),
        (["new", "sub/"], {"sub/site.key", "sub/site.pub"}),
        (["new", "ct1"], {"ct1.key", "ct1.pub"}),
        (["new", "ct1.key"], {"ct1.key", "ct1.pub"}),
        (["new", "sub/ct1.pub"], {"sub/ct1.key", "sub/ct1.pub"}),
        (["new", "v1.2"], {"v1.2.key", "v1.2.pub"}),
        (["new", "sub", "--name", "b"], {"sub/b.key", "sub/b.pub"}),
        (["new", "--site-key", "."], {"site.sitekey"}),
        (["new", "--site-key", "h.sitekey"], {"h.sitekey"}),
    ],
)
def test_where_keys_are_put(
    arguments: list[str], names: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == names
    for name in names:
        assert Path(name).name in answer.stdout


def test_the_secret_is_never_printed(tmp_path: Path) -> None:
    made = run("new", "--site-key", tmp_path / "a", "--json")
    secret = keys.load_site_key(tmp_path / "a.sitekey")
    assert secret.hex() not in made.output
    shown = run("show", tmp_path / "a.sitekey", "--json")
    assert secret.hex() not in shown.output
    assert json.loads(shown.stdout)["fingerprint"] == json.loads(made.stdout)["fingerprint"]


def test_an_existing_key_is_kept_by_the_command_too(tmp_path: Path) -> None:
    assert run("new", tmp_path / "site").exit_code == 0
    before = (tmp_path / "site.key").read_bytes()
    refused = run("new", tmp_path / "site")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: a key is already there, ")
    assert (tmp_path / "site.key").read_bytes() == before
    assert run("new", tmp_path / "site", "--force").exit_code == 0
    assert (tmp_path / "site.key").read_bytes() != before


def test_a_passphrase_is_taken_from_the_environment_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run("new", tmp_path / "a", "--passphrase", "--json", typed="words\nwords\n")
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["encrypted"] is True
    assert "words" not in asked.output
    shown = run("show", tmp_path / "a.key", typed="words\n")
    assert shown.stdout.startswith(json.loads(asked.stdout)["fingerprint"])
    assert run("show", tmp_path / "a.key", typed="other\n").exit_code == 2
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "words")
    assert run("show", tmp_path / "a.key").stdout == f"{shown.stdout}"
    assert json.loads(run("new", tmp_path / "b", "--json").stdout)["encrypted"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "no.pub"],
        ["show", "no.key", "--json"],
        ["new", "x", "--name", "../y"],
        ["new", "x", "--name", ""],
        ["new", "file/x"],
        ["new", "--site-key", "--passphrase", "x"],
        ["show"],
    ],
)
def test_bad_input_is_status_2_and_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    answer = run(*arguments)
    assert answer.exit_code == 2, answer.output
    if "--json" in arguments:
        assert json.loads(answer.stdout)["error"] == "KeyFileError"
    else:
        assert answer.stderr.startswith("error: ")
        assert answer.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_help_teaches_with_an_example() -> None:
    for arguments in ([], ["new"], ["show"]):
        text = CliRunner().invoke(keys_group, [*arguments, "--help"]).output
        assert "Example:\n  scanward keys" in text.replace("\n    scanward", "\n  scanward").replace(
            "  Example:\n", "Example:\n"
        )
