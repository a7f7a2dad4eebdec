"""Policy and device profile on disk: TOML, and beside it ``NAME.toml.sig``, an Ed25519 signature (RFC 8032).

The signature is over a label with the file's kind, and the file's bytes: comments are signed too, and a device
profile's signature can never pass for one over a policy. `read_signed` takes the steps in this order:

1. the file is read once, bounded; what is verified are the bytes that are parsed;
2. the signature file is strict JSON of the one known shape;
3. its key is one of those the caller trusts (none trusted: refused);
4. the signature is over exactly these bytes.

What they say (device, version against rollback) is checked by who parses them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanward.config import POLICY_BOUNDS, PolicyBounds
from scanward.errors import PolicyError
from scanward.keys import SigningKey, VerifyKey

POLICY: Final = "scanward.policy"
PROFILE: Final = "scanward.device-profile"
ENDING: Final = ".sig"
_LABEL: Final = b"scanward signed text 1\0"


@dataclass(frozen=True, slots=True)
class SignedText:
    """A verified file: its bytes, their SHA-256 (64 hexadecimal digits), the fingerprint of the key."""

    data: bytes
    digest: str
    signed_by: str
    where: str


def signature_path(path: Path) -> Path:
    """Where the signature of ``path`` lies."""
    return path.with_name(path.name + ENDING)


def message(kind: str, data: bytes) -> bytes:
    """What is signed."""
    return _LABEL + kind.encode("ascii") + b"\0" + data


def sign(path: Path, kind: str, data: bytes, key: SigningKey) -> Path:
    """Write the signature over ``data`` beside ``path``, whole or not at all; returns where."""
    document = {
        "kind": kind,
        "algorithm": "Ed25519",
        "key": key.fingerprint,
        "sha256": hashlib.sha256(data).hexdigest(),
        "signature": key.sign(message(kind, data)).hex(),
    }
    target = signature_path(path)
    write_whole(target, (json.dumps(document, indent=1) + "\n").encode(), 0o644)
    return target


def read_signed(
    path: Path, kind: str, trusted: Sequence[VerifyKey], bounds: PolicyBounds = POLICY_BOUNDS
) -> SignedText:
    """Read and verify a signed text.

    Raises
    ------
    PolicyError
        Not there, too large, unsigned, altered, or signed by a key that is not trusted.
    """
    data = read_bytes(path, bounds.file_bytes)  # 1
    beside = signature_path(path)
    if not beside.exists():
        raise PolicyError("it is not signed", str(path), f"scanward policy sign {path} --key SITE.key")
    document = _signature(read_bytes(beside, bounds.signature_bytes), str(beside))  # 2
    if document["kind"] != kind:
        raise PolicyError(
            f"signed as {document['kind']!r}, not as {kind!r}", str(beside), "give the right file"
        )
    if not trusted:
        raise PolicyError("no key is trusted", str(path), "name the site's public key in the configuration")
    key = next((k for k in trusted if k.fingerprint == document["key"]), None)  # 3
    if key is None:
        raise PolicyError(
            f"signed by the key {document['key'][:16]}..., which is not trusted",
            str(path),
            "compare its fingerprint (`scanward keys show`), then trust it or sign again",
        )
    if not key.verifies(bytes.fromhex(document["signature"]), message(kind, data)):  # 4
        raise PolicyError(
            "the signature does not fit: the file was changed after it was signed",
            str(path),
            f"look at what changed, then scanward policy sign {path} --key SITE.key",
        )
    return SignedText(data, hashlib.sha256(data).hexdigest(), key.fingerprint, str(path))


def _signature(data: bytes, where: str) -> dict[str, str]:
    refused = PolicyError("not a signature of this kind", where, "sign again with `scanward policy sign`")
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refused from error
    names = {"kind", "algorithm", "key", "sha256", "signature"}
    if not isinstance(document, dict) or set(document) != names or document["algorithm"] != "Ed25519":
        raise refused
    if not all(isinstance(value, str) for value in document.values()):
        raise refused
    digits = document["signature"]
    if len(digits) != 128 or set(digits) - set("0123456789abcdef"):
        raise refused
    return document


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file's bytes, read once; PolicyError when there is none or it is too large."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _trouble("cannot open it", path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise PolicyError("not a regular file", str(path), "check the path")
        with os.fdopen(os.dup(handle), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise _trouble("cannot read it", path, error) from error
    finally:
        os.close(handle)
    if len(data) > most:
        raise PolicyError(f"larger than {most} bytes", str(path), "shorten it")
    return data


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write ``data`` durably: the old file or the new one, never half of it."""
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            handle = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            sibling.replace(path)
        finally:
            sibling.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        raise _trouble("cannot write it", path, error) from error


def _trouble(what: str, path: Path, error: OSError | ValueError) -> PolicyError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return PolicyError(f"{what}: {reason}", str(path), "check the path, its rights and the disk")
