"""The folder of modified pictures, and ``tampered.json``: what each was, what was done to it, and by which model.

::

    OUT/images/NAME.png|tif|dcm    modified and marked; size, bit depth and orientation of the original
    OUT/differences/NAME.png       16 bit: 32768 + (modified - original) in stored grey values, before the visible mark
    OUT/tampered.json              the manifest, written when all is done
    OUT/tampered.part.jsonl        the same while a run is under way: its settings, then a line for each picture
    OUT/pseudonyms.key             names and UIDs of pictures that may identify people come from originals' by this key
    OUT/lock                       held while a process writes here

A folder holds the results of one model, one direction and one seed. A run that was killed goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from scanward import __version__
from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError, LearningError
from scanward.tampering.marking import write_whole
from scanward.tampering.originals import file_hash

FORMAT = "scanward-tampered-1"
MANIFEST, JOURNAL, KEY, LOCK = "tampered.json", "tampered.part.jsonl", "pseudonyms.key", "lock"
IMAGES, DIFFERENCES = "images", "differences"
OFFSET = 32768  # of difference maps: no change
_OURS = frozenset((MANIFEST, JOURNAL, KEY, LOCK, IMAGES, DIFFERENCES))


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """|modified - original| in stored grey values, without the visible mark."""

    inside_max: int
    inside_mean: float
    outside_max: int
    outside_mean: float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One modified picture.

    ``original_sha256`` is of the original's file, ``original_pixels_sha256`` of its stored values as int32, little
    endian, row by row; those of the output alike, after the visible mark. ``regions`` are circles (x, y, radius) in px
    of the file, ``regions_by`` who chose them: given, lesions (of the data set), seed, or none for a model that takes
    none. ``difference_clipped``: some change was larger than 16 bits with a sign can hold.
    """

    name: str
    original_sha256: str
    original_pixels_sha256: str
    output: str
    output_sha256: str
    output_pixels_sha256: str
    difference: str
    difference_sha256: str
    difference_clipped: bool
    medium: str
    rows: int
    columns: int
    regions: tuple[tuple[float, float, float], ...]
    regions_by: str
    visible_mark: bool
    change: Change
    uid: str = ""
    patient: str = ""
    label: str = ""
    phantom: bool = False
    remarks: tuple[str, ...] = ()


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """By what all pictures of a folder were made. ``fingerprint`` is the model's (SHA-256 of its weights)."""

    direction: str
    fingerprint: str
    preset: str
    step: int
    seed: int
    strength: float
    visible_mark: bool
    metadata_marks: bool = True  # there is no way to leave them out
    format: str = FORMAT


class Tampered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest. ``left_out`` are images of data sets that the last run could not alter, and why."""

    made: Made
    images: tuple[Record, ...]
    left_out: tuple[str, ...] = ()
    scanward: str = __version__


@dataclass(slots=True)
class Folder:
    """An open folder of outputs: enter records, then `finish`. Made by `opened`."""

    path: Path
    made: Made
    key: bytes
    records: dict[str, Record] = field(default_factory=dict)  # by name
    _of: dict[str, list[Record]] = field(default_factory=dict)  # by the original's hash
    _journal: BinaryIO | None = None

    def known(
        self, original_sha256: str, regions: tuple[tuple[float, float, float], ...] | None
    ) -> Record | None:
        """The record of an original that was done already, if its files are whole; None regions fit any."""
        for record in self._of.get(original_sha256, []):
            if regions is not None and record.regions != regions:
                continue
            if self._whole(record.output, record.output_sha256) and self._whole(
                record.difference, record.difference_sha256
            ):
                return record
        return None

    def name_for(
        self, wanted: str, original_sha256: str, regions: tuple[tuple[float, float, float], ...]
    ) -> str:
        """A name that nothing else has: no other original, and not the same one altered elsewhere."""
        there = self.records.get(wanted)
        if there is None or (there.original_sha256, there.regions) == (original_sha256, regions):
            return wanted
        return f"{wanted}-{sha256(f'{original_sha256} {regions}'.encode())[:8]}"

    def remember(self, record: Record) -> None:
        """A record that is written down already."""
        self.records[record.name] = record
        self._of.setdefault(record.original_sha256, []).append(record)

    def enter(self, record: Record) -> None:
        """Remember that a picture is done; it is, once this returns."""
        assert self._journal is not None
        self.remember(record)
        self._journal.write(msgspec.json.encode(record) + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def finish(self, left_out: Sequence[str] = ()) -> Tampered:
        """Write the manifest, whole; the journal is not needed any more."""
        told = Tampered(
            made=self.made,
            images=tuple(self.records[name] for name in sorted(self.records)),
            left_out=tuple(left_out),
        )
        text = msgspec.json.format(msgspec.json.encode(told, order="deterministic"), indent=1)
        write_whole(self.path / MANIFEST, text + b"\n")
        (self.path / JOURNAL).unlink(missing_ok=True)
        return told

    def _whole(self, file: str, sha256: str) -> bool:
        with suppress(InputError):
            return file_hash(self.path / file) == sha256
        return False


@contextmanager
def opened(out: Path, made: Made) -> Iterator[Folder]:
    """Open a folder of outputs for one process; begin it, or go on with what was begun.

    Raises
    ------
    InputError
        It holds something else, or pictures made otherwise, or another process writes there.
    LearningError
        The disk does not take it.
    """
    with ExitStack() as stack, disk(out):
        _refuse_strange(out)
        out.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((out / LOCK).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another process writes here", str(out), "wait for it, or give another --out"
            ) from error
        folder = Folder(out, made, b"")
        done, whole = _journal(out / JOURNAL)
        manifest = read_tampered(out) if (out / MANIFEST).exists() else None
        for told in (manifest, done):
            if told is not None:
                _refuse_other(told.made, made, out)
                for record in told.images:
                    folder.remember(record)
        folder.key = _key(out / KEY, begun=bool(folder.records))
        if done is None:
            write_whole(out / JOURNAL, msgspec.json.encode(made) + b"\n")
        elif not whole:  # the last line was torn: it goes, and its picture is made again
            lines = [msgspec.json.encode(r) for r in done.images]
            write_whole(out / JOURNAL, b"\n".join([msgspec.json.encode(made), *lines]) + b"\n")
        for name in (IMAGES, DIFFERENCES):  # after the journal: without one they would be somebody else's
            (out / name).mkdir(exist_ok=True)
            for draft in (out / name).glob("*.part"):
                draft.unlink(missing_ok=True)
        folder._journal = stack.enter_context((out / JOURNAL).open("ab"))
        yield folder


def read_tampered(out: Path) -> Tampered:
    """Read a folder's manifest.

    Raises
    ------
    InputError
        None there, too large, not ours, or a path that leads out of the folder.
    """
    path = out / MANIFEST
    todo = "give another --out"
    try:
        if path.stat().st_size > MAMMOGRAPHY_BOUNDS.manifest_bytes:
            raise InputError(f"larger than {MAMMOGRAPHY_BOUNDS.manifest_bytes} bytes", str(path), todo)
        told = msgspec.json.decode(path.read_bytes(), type=Tampered)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a manifest of modified pictures: {error}", str(path), todo) from error
    _check(told, path)
    return told


def _check(told: Tampered, path: Path) -> None:
    if told.made.format != FORMAT:
        raise InputError(f"format {told.made.format!r} is not {FORMAT!r}", str(path), "give another --out")
    for record in told.images:
        for file in (record.output, record.difference):
            pure = PurePosixPath(file)
            if (
                len(pure.parts) != 2
                or ".." in pure.parts
                or "\\" in file
                or "\0" in file
                or pure.is_absolute()
            ):
                raise InputError(f"{file!r} leads out of the folder", str(path), "give another --out")


def _journal(path: Path) -> tuple[Tampered | None, bool]:
    """What a run that was stopped had done, and whether its last line is whole. No header: nothing was done."""
    if not path.exists():
        return None, True
    if path.stat().st_size > MAMMOGRAPHY_BOUNDS.manifest_bytes:
        raise InputError(
            f"larger than {MAMMOGRAPHY_BOUNDS.manifest_bytes} bytes", str(path), "give another --out"
        )
    lines = path.read_bytes().split(b"\n")
    torn = bool(lines[-1])
    try:
        made = msgspec.json.decode(lines[0], type=Made)
        records = tuple(msgspec.json.decode(line, type=Record) for line in lines[1:-1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a journal of ours: {error}", str(path), "give another --out") from error
    told = Tampered(made=made, images=records)
    _check(told, path)
    return told, not torn


def _refuse_strange(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError("not a folder", str(out), "give another --out")
    if not out.is_dir():
        return
    there = {path.name for path in out.iterdir()}
    strange = sorted(name for name in there if name.removesuffix(".part") not in _OURS)
    strange += sorted(f"the link {name}" for name in there if (out / name).is_symlink())
    if strange or (there & {IMAGES, DIFFERENCES} and not there & {MANIFEST, JOURNAL}):
        raise InputError(
            f"the folder holds something else ({', '.join(strange[:3]) or 'pictures without a manifest'})",
            str(out),
            "give an empty or a new folder: modified pictures are never mixed with others",
        )


def _refuse_other(found: Made, wanted: Made, out: Path) -> None:
    differences = [
        f"{name.replace('_', ' ')} {getattr(found, name)!s:.16} (asked for: {getattr(wanted, name)!s:.16})"
        for name in Made.__struct_fields__
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differences:
        raise InputError(
            f"the folder holds pictures made otherwise: {', '.join(differences)}",
            str(out),
            "give another --out, or the same options to go on",
        )


def _key(path: Path, *, begun: bool) -> bytes:
    if path.exists():
        key = path.read_bytes()
        if len(key) == 32:
            return key
        if begun:
            raise InputError("not a key of 32 bytes", str(path), "give another --out")
        path.unlink()  # killed while it was written: nothing rests on it yet
    elif begun:
        raise InputError(
            "the key of its pseudonyms is gone, so that no picture can be added",
            str(path),
            "give another --out",
        )
    key = secrets.token_bytes(32)
    draft = path.with_name(f"{path.name}.part")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return key


@contextmanager
def disk(where: Path) -> Iterator[None]:
    """Whatever the disk refuses becomes one of our errors."""
    try:
        yield
    except OSError as error:
        raise LearningError(
            f"cannot be written: {error.strerror or type(error).__name__}",
            str(error.filename or where),
            "make room, or give another --out; the same command goes on where it was",
        ) from error


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
