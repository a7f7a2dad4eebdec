"""Writing a bundle: made in memory, verified, written beside the old one, swapped by two renames.

On the disk, with NAME the bundle's directory:

    .NAME.incoming   the new bundle while it is written        never read
    .NAME.outgoing   the old bundle during the swap            read when NAME is not there
    .NAME.lock       empty; keeps two writers apart            left in place

The order makes it safe: everything in ``incoming`` is durable before the first rename, and ``outgoing`` is
removed only after the second one is durable. Wherever a crash falls, NAME or ``outgoing`` is a whole bundle.
When ``write`` raises, the old bundle is still found (in place, unless undoing failed too); when it returns,
the new one is in place, durably.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from scanward.bundle import canonical, tensors
from scanward.bundle.disk import Disk, PosixDisk
from scanward.bundle.manifest import (
    ARRAYS,
    GRAPHS,
    MANIFEST,
    SETTINGS,
    SIGNATURE,
    BundleFacts,
    Manifest,
    graph_path,
)
from scanward.bundle.manifest import decode as decode_manifest
from scanward.bundle.manifest import encode as encode_manifest
from scanward.bundle.reading import DirectorySource, MemorySource, outgoing, real_path, seal_bytes, verify
from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError
from scanward.keys import SigningKey
from scanward.layers.base import Part

_DISK: Final = PosixDisk()


def write(
    directory: Path,
    part: Part,
    facts: BundleFacts,
    key: SigningKey,
    *,
    disk: Disk = _DISK,
    bounds: BundleBounds = BUNDLE_BOUNDS,
) -> Manifest:
    """Sign ``part`` and ``facts`` and put them in ``directory``, whole or not at all.

    The same part, facts and key give the same bytes in every file. ``directory`` is created, or holds a
    bundle (which is replaced by a larger version), or is empty; anything else is left alone.

    Raises
    ------
    BundleError
        When part or facts cannot be carried, the version is not larger than the one in place, something else
        lies in ``directory``, another writer is at work, or the disk fails (full, read-only). The old bundle
        is then still in place.
    """
    place = real_path(directory)
    with _system_errors(place), _locked(place, disk):
        _recover(place, disk)
        facts = replace(facts, version=_next_version(facts.version, place, bounds))
        files = sealed(contents(part, bounds), facts, key)
        # What could not be read again must not be written: the reader itself is the judge.
        manifest = verify(MemorySource(files), str(place), trusted=[key.verify_key], bounds=bounds).manifest
        _store(files, place, disk)
    return manifest


def contents(part: Part, bounds: BundleBounds = BUNDLE_BOUNDS) -> dict[str, bytes]:
    """The listed files of a bundle, path -> bytes."""
    files = {
        SETTINGS: canonical.dumps(part.settings, SETTINGS, bounds),
        ARRAYS: tensors.to_bytes(part.arrays, ARRAYS, bounds),
    }
    files.update({graph_path(name): bytes(graph) for name, graph in part.graphs.items()})
    return files


def sealed(files: Mapping[str, bytes], facts: BundleFacts, key: SigningKey) -> dict[str, bytes]:
    """``files`` with their manifest and signature, unverified: ``facts.version`` must be given."""
    return signed(files, encode_manifest(facts, files), key)


def signed(files: Mapping[str, bytes], manifest: bytes, key: SigningKey) -> dict[str, bytes]:
    """``files`` with ``manifest`` and the signature over exactly its bytes."""
    return {**files, MANIFEST: manifest, SIGNATURE: seal_bytes(key.verify_key, key.sign(manifest))}


def _incoming(place: Path) -> Path:
    return place.with_name(f".{place.name}.incoming")


def _next_version(asked: int | None, place: Path, bounds: BundleBounds) -> int:
    present = _version_in_place(place, bounds)
    if asked is None:
        return present + 1
    if asked <= present:
        raise BundleError(
            f"version {asked} is not larger than version {present}, which is in place",
            str(place),
            f"take version {present + 1}, or leave it to the next one",
        )
    return asked


def _version_in_place(place: Path, bounds: BundleBounds) -> int:
    """Version of the bundle that would be replaced, 0 when there is none.

    Its signature is not asked for (a site may have lost the key). Its list of files is: a folder that holds
    anything else is somebody's work, and is not removed.
    """
    try:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    except NotADirectoryError as error:
        raise BundleError("there is a file of that name", str(place), "choose another directory") from error
    try:
        source = DirectorySource(place, handle)
        names = source.names(bounds.graphs + 8)
        if not names:
            return 0
        if MANIFEST not in names:
            raise BundleError("there is something else than a bundle", str(place), "choose another directory")
        manifest = decode_manifest(
            source.read(MANIFEST, bounds.manifest_bytes), "", f"{place}/{MANIFEST}", bounds
        )
    finally:
        os.close(handle)
    if odd := sorted(names - {MANIFEST, SIGNATURE} - {f.path for f in manifest.files}):
        raise BundleError(
            f"{odd[0][:80]!r} lies in the bundle in place and would be lost", str(place), "move it away first"
        )
    return manifest.version


def _recover(place: Path, disk: Disk) -> None:
    """Undo what a writer that died has left: the old bundle goes back, half-written files go."""
    old = outgoing(place)
    if os.path.lexists(old):
        if os.path.lexists(place):
            disk.remove(old)
        else:
            disk.rename(old, place)
            disk.sync_directory(place.parent)
    disk.remove(_incoming(place))


def _store(files: Mapping[str, bytes], place: Path, disk: Disk) -> None:
    new, old = _incoming(place), outgoing(place)
    try:
        disk.mkdir(new)
        if any(path.startswith(f"{GRAPHS}/") for path in files):
            disk.mkdir(new / GRAPHS)
        for path, data in files.items():
            _save(new / path, data, disk)
        if any(path.startswith(f"{GRAPHS}/") for path in files):
            disk.sync_directory(new / GRAPHS)
        disk.sync_directory(new)
        _swap(new, place, old, disk)
    except BaseException:
        with suppress(OSError):
            disk.remove(new)
        raise
    with suppress(OSError):  # the new bundle is in place and durable; the next write tries again
        disk.remove(old)


def _swap(new: Path, place: Path, old: Path, disk: Disk) -> None:
    """``new`` in the place of ``place``, which waits as ``old``; on failure everything as it was."""
    replaces = os.path.lexists(place)
    if replaces:
        disk.rename(place, old)
    try:
        disk.rename(new, place)
        disk.sync_directory(place.parent)
    except BaseException:
        with suppress(OSError):
            if os.path.lexists(place):
                disk.rename(place, new)
        with suppress(OSError):
            if replaces:
                disk.rename(old, place)
        raise


def _save(path: Path, data: bytes, disk: Disk) -> None:
    handle = disk.create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[disk.write(handle, rest) :]
        disk.sync(handle)
    except BaseException:
        with suppress(OSError):
            disk.close(handle)
        raise
    disk.close(handle)


@contextmanager
def _locked(place: Path, disk: Disk) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = disk.lock(place.with_name(f".{place.name}.lock"))
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _system_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise BundleError(
            "another process is writing this bundle", str(place), "wait until it has ended"
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise BundleError(
            f"cannot write the bundle: {error.strerror}; what was in place is still there",
            str(place),
            "make room on the disk" if full else "choose a directory that you can write to",
        ) from error
