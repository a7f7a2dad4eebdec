"""Keys on disk: Ed25519 for signing bundles, and the site key that turns identifiers into keyed hashes.

Formats are those every other tool reads: PKCS#8 PEM (RFC 5958, RFC 8410) for the private half,
SubjectPublicKeyInfo PEM for the public half, so that ``openssl pkey`` and ``openssl pkeyutl`` can check us.
A secret is born with mode 0600, never exists with a wider one, and is not read when others could read it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from scanward.config import KEY_BOUNDS
from scanward.errors import KeyFileError

PASSPHRASE_VARIABLE: Final = "SCANWARD_KEY_PASSPHRASE"  # noqa: S105 - a name
SITE_KEY_BYTES: Final = 32
_SITE_KEY_LABEL: Final = b"scanward-site-key-1 "

Passphrase = bytes | Callable[[], bytes] | None
"""A passphrase, or who to ask for it (asked only when the key turns out to be encrypted)."""


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """The public half of an Ed25519 pair (RFC 8032), as its 32 raw bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise KeyFileError(f"an Ed25519 public key has 32 bytes, this has {len(self.raw)}")

    @property
    def fingerprint(self) -> str:
        """Key id: SHA-256 of the raw public key, 64 hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` was made over exactly ``message`` by this key's private half."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM."""
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @staticmethod
    def load(path: Path) -> VerifyKey:
        """Read a public key; KeyFileError when the file is not one."""
        data = _read(path, secret=False)
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(
                "not a public key in PEM", str(path), "give the .pub file that `scanward keys new` wrote"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(
                "a public key, but not an Ed25519 one", str(path), "make a pair with `scanward keys new`"
            )
        return VerifyKey(_raw(key))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half. Its ``repr`` shows the fingerprint alone."""

    _private: Ed25519PrivateKey = field(repr=False)
    verify_key: VerifyKey

    @staticmethod
    def generate() -> SigningKey:
        """A fresh key from the operating system's random source."""
        return SigningKey._of(Ed25519PrivateKey.generate())

    @staticmethod
    def from_seed(seed: bytes) -> SigningKey:
        """The key of a 32-byte seed (RFC 8032, 5.1.5): for reproducible demonstrations, never for a site."""
        if len(seed) != 32:
            raise KeyFileError(f"an Ed25519 seed has 32 bytes, this has {len(seed)}")
        return SigningKey._of(Ed25519PrivateKey.from_private_bytes(seed))

    @staticmethod
    def _of(private: Ed25519PrivateKey) -> SigningKey:
        return SigningKey(private, VerifyKey(_raw(private.public_key())))

    @property
    def fingerprint(self) -> str:
        """Key id of the pair."""
        return self.verify_key.fingerprint

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same key and message always give the same signature."""
        return self._private.sign(message)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS#8 in PEM, encrypted when a passphrase is given."""
        if passphrase is not None and not 0 < len(passphrase) <= KEY_BOUNDS.passphrase_bytes:
            raise KeyFileError(
                f"a passphrase has 1 to {KEY_BOUNDS.passphrase_bytes} bytes, this has {len(passphrase)}",
                todo="choose another one, or none",
            )
        how: serialization.KeySerializationEncryption = (
            serialization.NoEncryption()
            if passphrase is None
            else serialization.BestAvailableEncryption(passphrase)
        )
        return self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)

    @staticmethod
    def load(path: Path, passphrase: Passphrase = None) -> SigningKey:
        """Read a private key.

        Raises
        ------
        KeyFileError
            When others can read the file, when it is no Ed25519 key, or when its passphrase is missing or
            wrong.
        """
        data = _read(path, secret=True)
        encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data
        words = (passphrase() if callable(passphrase) else passphrase) if encrypted else None
        if encrypted and not words:
            raise KeyFileError(
                "the key is encrypted and no passphrase was given", str(path), f"set {PASSPHRASE_VARIABLE}"
            )
        try:
            key = serialization.load_pem_private_key(data, words)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            what = "wrong passphrase, or a damaged key" if encrypted else "not a private key in PEM"
            raise KeyFileError(what, str(path), "give the .key file of `scanward keys new`") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(
                "a private key, but not an Ed25519 one", str(path), "make a pair with `scanward keys new`"
            )
        return SigningKey._of(key)


def passphrase_from_environment() -> bytes | None:
    """What ``SCANWARD_KEY_PASSPHRASE`` holds, None when unset or empty."""
    words = os.environ.get(PASSPHRASE_VARIABLE, "")
    return os.fsencode(words) if words else None


def write_pair(
    stem: Path, key: SigningKey, passphrase: bytes | None = None, *, force: bool = False
) -> tuple[Path, Path]:
    """Write ``STEM.key`` (0600) and ``STEM.pub``; an existing one is kept unless ``force``.

    Returns the two paths. A failure leaves either both new files or what was there before the one that
    failed.
    """
    private, public = Path(f"{stem}.key"), Path(f"{stem}.pub")
    if not force:
        for path in (private, public):
            if path.exists() or path.is_symlink():
                raise _occupied(path)
    secret = key.pem(passphrase)
    _place(private, secret, 0o600, force=force)
    try:
        _place(public, key.verify_key.pem(), 0o644, force=force)
    except KeyFileError:
        if not force:
            private.unlink(missing_ok=True)
        raise
    return private, public


def new_site_key() -> bytes:
    """32 random bytes: the key under which identifiers are hashed."""
    return secrets.token_bytes(SITE_KEY_BYTES)


def write_site_key(path: Path, key: bytes, *, force: bool = False) -> Path:
    """Write a site key (0600); an existing one is kept unless ``force``."""
    if len(key) != SITE_KEY_BYTES:
        raise KeyFileError(f"a site key has {SITE_KEY_BYTES} bytes, this has {len(key)}", str(path))
    _place(path, _SITE_KEY_LABEL + key.hex().encode() + b"\n", 0o600, force=force)
    return path


def load_site_key(path: Path) -> bytes:
    """The 32 bytes of a site key; KeyFileError when others can read the file or it is none."""
    data = _read(path, secret=True)
    digits = data.removeprefix(_SITE_KEY_LABEL).removesuffix(b"\n")
    if not data.startswith(_SITE_KEY_LABEL) or len(digits) != 2 * SITE_KEY_BYTES:
        raise KeyFileError("not a site key", str(path), "make one with `scanward keys new --site-key`")
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise KeyFileError("a damaged site key", str(path), "restore it from its backup") from error


def site_key_fingerprint(key: bytes) -> str:
    """Names a site key without telling it: SHA-256 under a label of its own, 64 hexadecimal digits."""
    return hashlib.sha256(b"scanward site key fingerprint\0" + key).hexdigest()


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _occupied(path: Path) -> KeyFileError:
    return KeyFileError("a key is already there", str(path), "choose another name, or --force to replace it")


def _read(path: Path, *, secret: bool) -> bytes:
    """The file's bytes; mode, kind and size are checked on the open file, so nobody can swap it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(f"cannot open the key: {reason}", str(path), "check the path") from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise KeyFileError("a key must be a regular file", str(path), "check the path")
        if secret and facts.st_mode & 0o077:
            raise KeyFileError(
                f"others can read or change this private key (mode {stat.S_IMODE(facts.st_mode):04o})",
                str(path),
                f"run `chmod 600 {path}`, and make a new key if somebody may have copied this one",
            )
        with os.fdopen(os.dup(handle), "rb") as file:
            data = file.read(KEY_BOUNDS.file_bytes + 1)
    except OSError as error:
        raise KeyFileError(f"cannot read the key: {error.strerror}", str(path), "check the disk") from error
    finally:
        os.close(handle)
    if len(data) > KEY_BOUNDS.file_bytes:
        raise KeyFileError(
            f"larger than any key ({KEY_BOUNDS.file_bytes} bytes)", str(path), "check the path"
        )
    return data


def _place(path: Path, data: bytes, mode: int, *, force: bool) -> None:
    """Whole or not at all: a sibling is written and synced, then linked (never over another) or renamed."""
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)  # whatever the umask says
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if force:
                sibling.replace(path)
            else:
                os.link(sibling, path, follow_symlinks=False)
        finally:
            sibling.unlink(missing_ok=True)
        try:
            _sync_folder(path.parent)
        except OSError:
            if not force:
                path.unlink(missing_ok=True)  # ours, made a moment ago
            raise
    except FileExistsError as error:
        raise _occupied(path) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(
            f"cannot write the key: {reason}", str(path), "choose a folder you can write to"
        ) from error


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
