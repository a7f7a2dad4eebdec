"""Reading a bundle: every byte is read once, bounded, and then verified and parsed from memory.

Nothing of a bundle is believed before its signature holds; the steps are numbered in ``verify`` and in
``docs/bundle.md``.
"""

from __future__ import annotations

import binascii
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from scanward.bundle import canonical, tensors
from scanward.bundle.manifest import (
    ARRAYS,
    GRAPHS,
    MANIFEST,
    SETTINGS,
    SIGNATURE,
    Manifest,
    decode,
    graph_name,
)
from scanward.commands import Device
from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError, RollbackError, SignatureError
from scanward.keys import VerifyKey
from scanward.layers import onnx_check as graphs
from scanward.layers.base import Part

_AGAIN: Final = "get the bundle again from where it was trained"
_ATTEMPTS: Final = 10  # a writer may swap the directory under a reader, hardly ten times in ten reads


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed every step of ``verify``."""

    manifest: Manifest
    part: Part


class Source(Protocol):
    """Where the files of a bundle come from."""

    def names(self, bound: int) -> set[str]:
        """Paths of all files, at most ``bound`` of them (BundleError beyond)."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """All bytes of one file, once; BundleError when it is absent, too large, or no regular file."""
        ...


def read(
    directory: Path,
    *,
    trusted: Sequence[VerifyKey] | None,
    device: Device | None = None,
    not_before: int = 0,
    unsafe_any_key: bool = False,
    bounds: BundleBounds = BUNDLE_BOUNDS,
) -> Bundle:
    """Read, verify and parse the bundle in ``directory``.

    Parameters
    ----------
    trusted : sequence of VerifyKey or None
        Keys whose signature counts. None (with ``unsafe_any_key=True`` alone) takes any key: the bundle is
        then known to be whole, not to be genuine. An empty sequence trusts nobody.
    device : Device or None
        The device to be judged; None skips that step.
    not_before : int
        Lowest version accepted.

    Raises
    ------
    SignatureError
        Unsigned, altered, truncated or signed by a key that is not trusted.
    RollbackError
        Older than ``not_before``.
    BundleError
        Anything else; nothing but BundleError and its two kinds is raised for what lies in the directory.
    """
    place = real_path(directory)
    for attempt in range(_ATTEMPTS):
        with _opened(place) as source:
            try:
                return verify(
                    source,
                    str(directory),
                    trusted=trusted,
                    device=device,
                    not_before=not_before,
                    unsafe_any_key=unsafe_any_key,
                    bounds=bounds,
                )
            except BundleError:
                if attempt + 1 == _ATTEMPTS or source.still(place):
                    raise
    raise AssertionError("unreachable")


def verify(
    source: Source,
    where: str,
    *,
    trusted: Sequence[VerifyKey] | None,
    device: Device | None = None,
    not_before: int = 0,
    unsafe_any_key: bool = False,
    bounds: BundleBounds = BUNDLE_BOUNDS,
) -> Bundle:
    """The steps, in this order. ``read`` says what the parameters mean."""
    # 1. Whom to trust is decided before anything is looked at.
    keys = _trusted(trusted, unsafe_any_key, where)
    # 2. Signature and manifest are read, each within its bound.
    seal = source.read(SIGNATURE, bounds.signature_bytes)
    raw = source.read(MANIFEST, bounds.manifest_bytes)
    # 3. The signature is by a trusted key,
    key, signature = _seal(seal, f"{where}/{SIGNATURE}", bounds)
    if keys is not None and key.raw not in {k.raw for k in keys}:
        raise SignatureError(
            f"signed by the key {key.fingerprint[:16]}..., which is not trusted",
            where,
            "give the public key of the site that trained it, or have it signed there",
        )
    # 4. and over exactly these manifest bytes.
    if not key.verifies(signature, raw):
        raise SignatureError("the signature does not belong to this manifest", where, _AGAIN)
    # 5. The manifest is strict JSON of a known kind and schema, every member typed; it lists a legal set of
    # files.
    manifest = decode(raw, key.fingerprint, f"{where}/{MANIFEST}", bounds)
    # 6. It is not older than what was accepted before,
    if manifest.version < not_before:
        raise RollbackError(
            f"version {manifest.version} is older than version {not_before}, which was accepted before",
            where,
            "give the newest bundle",
        )
    # 7. and it is for this device.
    if device is not None and not manifest.serves(device):
        meant = "; ".join(" ".join(x for x in (d.manufacturer, d.model) if x) for d in manifest.facts.devices)
        raise BundleError(
            f"this bundle is for another device ({meant or 'one that was not named'})",
            where,
            f"give one trained for {' '.join((device.manufacturer, device.model)).strip() or 'this device'}",
        )
    # 8. There is no file that is not listed, and none is missing.
    expected = {MANIFEST, SIGNATURE} | {f.path for f in manifest.files}
    found = source.names(len(expected) + 1)
    if odd := sorted(found - expected):
        raise SignatureError(f"{odd[0][:80]!r} is not listed in the manifest", where, _AGAIN)
    if lost := sorted(expected - found):
        raise SignatureError(f"{lost[0]!r} is listed in the manifest and missing", where, _AGAIN)
    # 9. Every listed file has its size (asked before it is read) and its SHA-256.
    files: dict[str, bytes] = {}
    for entry in manifest.files:
        data = source.read(entry.path, entry.size)
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise SignatureError(f"{entry.path!r} was altered or cut short", where, _AGAIN)
        files[entry.path] = data
    # 10. The contents, now known to be what was signed, are sane in themselves.
    return Bundle(manifest, _part(files, where, bounds))


def _part(files: dict[str, bytes], where: str, bounds: BundleBounds) -> Part:
    settings = canonical.loads(files[SETTINGS], f"{where}/{SETTINGS}", bounds)
    if not isinstance(settings, dict):
        raise BundleError("the settings are not an object", f"{where}/{SETTINGS}", _AGAIN)
    arrays = tensors.from_bytes(files[ARRAYS], f"{where}/{ARRAYS}", bounds)
    models: dict[str, bytes] = {}
    for path, data in files.items():
        name = graph_name(path)
        if name is not None:
            graphs.check(data, f"{where}/{path}", bounds)
            models[name] = data
    return Part(settings, arrays, models)


def _trusted(
    trusted: Sequence[VerifyKey] | None, unsafe_any_key: bool, where: str
) -> Sequence[VerifyKey] | None:
    if trusted is None and unsafe_any_key:
        return None
    if not trusted:
        raise SignatureError("no key is trusted, so no bundle can be", where, "give the site's public key")
    if unsafe_any_key:
        raise SignatureError("trusted keys were given, and any key asked for", where, "choose one of the two")
    return trusted


def _seal(data: bytes, where: str, bounds: BundleBounds) -> tuple[VerifyKey, bytes]:
    """Public key and signature out of ``signature.json``."""
    try:
        seal = canonical.loads(data, where, bounds)
        if not isinstance(seal, dict) or seal.keys() != {"algorithm", "key_id", "public_key", "signature"}:
            raise ValueError("missing or unknown members")
        if seal["algorithm"] != "Ed25519":
            raise ValueError("the algorithm is not Ed25519")
        raw, signature = (binascii.unhexlify(seal[name]) for name in ("public_key", "signature"))
        if len(raw) != 32 or len(signature) != 64:
            raise ValueError("a key or signature of the wrong length")
        key = VerifyKey(raw)
        if seal["key_id"] != key.fingerprint:
            raise ValueError("the key id is not that of the key")
        if data != seal_bytes(key, signature):
            raise ValueError("not written as Scanward writes it")  # one spelling: no byte is without meaning
    except (BundleError, ValueError, TypeError) as error:
        what = error.what if isinstance(error, BundleError) else str(error)
        raise SignatureError(f"not a signature ({what})", where, _AGAIN) from error
    return key, signature


def seal_bytes(key: VerifyKey, signature: bytes) -> bytes:
    """The exact bytes of ``signature.json``."""
    seal = {
        "algorithm": "Ed25519",
        "key_id": key.fingerprint,
        "public_key": key.raw.hex(),
        "signature": signature.hex(),
    }
    return canonical.dumps(seal, SIGNATURE, indent=1)


class MemorySource:
    """Files already in memory: what ``write`` verifies before it stores, and what tests verify."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def names(self, bound: int) -> set[str]:
        return set(self._files)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self._files:
            raise _missing(path, "memory")
        return _within(self._files[path], limit, path)


class DirectorySource:
    """An open directory. Paths are taken relative to its descriptor, links are never followed."""

    def __init__(self, place: Path, handle: int) -> None:
        self._place = place
        self._handle = handle

    def names(self, bound: int) -> set[str]:
        found: set[str] = set()
        self._scan(self._handle, "", found, bound)
        return found

    def _scan(self, handle: int, prefix: str, found: set[str], bound: int) -> None:
        try:
            with os.scandir(handle) as entries:
                for entry in entries:
                    if len(found) > bound:
                        break  # enough to know that there is one too many
                    name = f"{prefix}{entry.name}"
                    if not prefix and entry.name == GRAPHS and entry.is_dir(follow_symlinks=False):
                        before = len(found)
                        with _descriptor(GRAPHS, os.O_DIRECTORY, handle) as inner:
                            self._scan(inner, f"{GRAPHS}/", found, bound)
                        if len(found) == before:
                            found.add(f"{GRAPHS}/")  # an empty folder is not listed either
                    else:
                        found.add(name)
        except OSError as error:
            raise self._unreadable(prefix or ".", error) from error

    def read(self, path: str, limit: int) -> bytes:
        folder, _, name = path.rpartition("/")
        try:
            if folder:
                with _descriptor(folder, os.O_DIRECTORY, self._handle) as inner:
                    return self._content(inner, name, limit, path)
            return self._content(self._handle, name, limit, path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise BundleError(f"{path!r} is a link", str(self._place), _AGAIN) from error
            raise self._unreadable(path, error) from error

    def _content(self, folder: int, name: str, limit: int, path: str) -> bytes:
        with _descriptor(name, os.O_NONBLOCK, folder) as handle:  # NONBLOCK: a FIFO must not make us wait
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise BundleError(f"{path!r} is not a regular file", str(self._place), _AGAIN)
            if facts.st_size > limit:
                raise _too_large(path, facts.st_size, limit)
            with os.fdopen(os.dup(handle), "rb") as file:
                return _within(file.read(limit + 1), limit, path)  # it may have grown since fstat

    def still(self, place: Path) -> bool:
        """Whether a reader who opened ``place`` now would come to this very directory."""
        then = os.fstat(self._handle)
        for path in (place, outgoing(place)):
            try:
                now = path.stat()
            except OSError:
                continue
            return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)
        return False

    def _unreadable(self, path: str, error: OSError) -> BundleError:
        if error.errno == errno.ENOENT:
            return _missing(path, str(self._place))
        return BundleError(f"cannot read {path!r}: {error.strerror}", str(self._place), "check the path")


def real_path(directory: Path) -> Path:
    """``directory`` with links followed once and for all; BundleError for what can be no path."""
    try:
        return Path(os.path.realpath(directory))
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise BundleError(
            f"no path of a directory: {error}", repr(str(directory)), "check the path"
        ) from error


def outgoing(place: Path) -> Path:
    """Where ``write`` keeps the old bundle while the new one moves in."""
    return place.with_name(f".{place.name}.outgoing")


@contextmanager
def _opened(place: Path) -> Iterator[DirectorySource]:
    """The bundle's directory, or, when a writer died between its two renames, the old one beside it."""
    trouble: OSError | None = None
    for path in (place, outgoing(place), place):  # the last: it moved in while we looked beside it
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            trouble = trouble or error
            if error.errno != errno.ENOENT:
                break
            continue
        try:
            yield DirectorySource(path, handle)
            return
        finally:
            os.close(handle)
    reason = trouble.strerror if trouble else "not found"
    raise BundleError(
        f"no bundle here: {reason}", str(place), "give the directory that `train --model` wrote"
    )


@contextmanager
def _descriptor(name: str, flags: int, folder: int) -> Iterator[int]:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _missing(path: str, where: str) -> BundleError:
    unsigned = ": this bundle is unsigned, or is none" if path in (SIGNATURE, MANIFEST) else ""
    return SignatureError(f"{path!r} is missing{unsigned}", where, _AGAIN)


def _within(data: bytes, limit: int, path: str) -> bytes:
    if len(data) > limit:
        raise _too_large(path, len(data), limit)
    return data


def _too_large(path: str, size: int, limit: int) -> BundleError:
    return SignatureError(f"{path!r} has {size} bytes where {limit} are allowed", path, _AGAIN)
