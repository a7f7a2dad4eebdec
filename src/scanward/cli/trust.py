"""Whom this user trusts: the keys that they sign with, those they name, and the versions they accepted.

    $XDG_DATA_HOME/scanward/keys/default.key, default.pub    made by the first `train` without --key
    $XDG_DATA_HOME/scanward/keys/FINGERPRINT.pub             of every key that this user trained with
    $XDG_STATE_HOME/scanward/accepted/DIGEST.json            versions accepted in one bundle's folder

A bundle that this very user signed needs no further word; everybody else's key must be named with --trust.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from scanward import keys
from scanward.bundle import Bundle, VersionFloor, read
from scanward.bundle.reading import real_path
from scanward.cli.keys import ask_passphrase
from scanward.cli.output import note
from scanward.errors import KeyFileError, SettingsError, SignatureError

_DEFAULT = "default"


def key_folder() -> Path:
    """``$XDG_DATA_HOME/scanward/keys``, or under ``~/.local/share`` (XDG Base Directory)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
    return home / "scanward" / "keys"


def signing_key(path: Path | None) -> tuple[keys.SigningKey, str]:
    """The key to sign with, and the file it came from; without ``path``, this user's own, made when new.

    Its public half is remembered, so that `judge` and `explain` know this user's bundles again.
    """
    folder = _own_folder(create=True)
    if path is not None:
        key = keys.SigningKey.load(path, ask_passphrase)
        _remember(folder, key.verify_key)
        return key, str(path)
    stem = folder / _DEFAULT
    private = Path(f"{stem}.key")
    if not private.exists():
        try:
            keys.write_pair(stem, keys.SigningKey.generate(), keys.passphrase_from_environment())
            note(f"no --key was given: made a key of your own, {private}, used from now on (keep it secret)")
        except KeyFileError:
            if not private.exists():  # otherwise another process has made it meanwhile
                raise
    return keys.SigningKey.load(private, ask_passphrase), str(private)


def trusted_keys(named: Sequence[Path]) -> list[keys.VerifyKey]:
    """The keys named with --trust, and this user's own."""
    found = [keys.VerifyKey.load(path) for path in named]
    found += [keys.VerifyKey.load(path) for path in sorted(_own_folder(create=False).glob("*.pub"))]
    return list(dict.fromkeys(found))


def open_bundle(
    model: Path, trust: Sequence[Path], *, any_key: bool, versions: Path | None, any_version: bool
) -> Bundle:
    """Read and verify the bundle in ``model``, and remember its version as accepted.

    Raises
    ------
    BundleError
        When it is refused: unsigned, altered, of a key that is not trusted, older than what was accepted in
        this folder before.
    SettingsError
        For options that contradict each other.
    """
    if any_key and trust:
        raise SettingsError(
            "--trust and --unsafe-any-key contradict each other", "--trust", "give one of them"
        )
    if any_key:
        note("warning: --unsafe-any-key: the bundle is whole, but anybody may have made it")
        bundle = read(model, trusted=None, unsafe_any_key=True)
    else:
        trusted = trusted_keys(trust)
        try:
            bundle = read(model, trusted=trusted or [_nobody()])
        except SignatureError as error:
            if "not trusted" not in error.what:
                raise
            raise SignatureError(
                error.what,
                error.where,
                "give --trust SITE.pub, the public key of whoever trained it (compare its fingerprint first)",
            ) from error
    if not any_version:
        floor_of(model, versions).accept(bundle.manifest)
    return bundle


def floor_of(model: Path, versions: Path | None) -> VersionFloor:
    """The versions accepted so far: in ``versions``, or of this one folder.

    One memory for each folder, because this command line serves experiments too: two bundles of one scanner
    in two folders do not push each other out. A guard has one memory for its device, `--versions` likewise.
    """
    if versions is not None:
        return VersionFloor(versions)
    digest = hashlib.sha256(os.fsencode(real_path(model))).hexdigest()
    return VersionFloor(VersionFloor.default_path().parent / "accepted" / f"{digest[:32]}.json")


def _nobody() -> keys.VerifyKey:
    """A key nobody holds: with no key trusted at all, the reader still says what is wrong with a folder.

    Fresh, and not 32 zeros: those are a point of small order, for which anybody can forge signatures.
    """
    return keys.SigningKey.generate().verify_key


def _remember(folder: Path, key: keys.VerifyKey) -> None:
    file = folder / f"{key.fingerprint}.pub"
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(key.pem())


def _own_folder(*, create: bool) -> Path:
    """The folder of keys; KeyFileError when others can write to it, for they could then be trusted."""
    folder = key_folder()
    if create:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyFileError(
                f"cannot make the folder of your keys: {error.strerror}",
                str(folder),
                "set XDG_DATA_HOME to a folder you can write to",
            ) from error
    try:
        facts = folder.stat()
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise KeyFileError(
            f"cannot look at the folder of your keys: {error.strerror}", str(folder), "check its rights"
        ) from error
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or facts.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            "others can write to the folder of your keys", str(folder), f"run `chmod 700 {folder}`"
        )
    return folder
