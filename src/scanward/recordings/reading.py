"""Files and folders into one Recording: every file told by its content, every loss with its reason."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from scanward.codecs.image_acquisitions import acquisitions
from scanward.codecs.image_headers import SliceHeader
from scanward.commands import Command, Origin
from scanward.errors import DecodeError, DialectError, InputError
from scanward.recordings.books import Duplicate, Entry, Recording, Rejected
from scanward.recordings.dialect import Dialect
from scanward.recordings.dicom import FileResult, read_chunk, read_dicom
from scanward.recordings.examinations import canonical, in_time
from scanward.recordings.pseudonyms import NO_SITE_KEY_NOTE, Pseudonyms
from scanward.recordings.rows import entries_of
from scanward.recordings.tables import PARQUET_MAGIC, load_table
from scanward.recordings.text import looks_like_text

_HEAD = 4096  # bytes looked at to tell what a file is
_CHUNK = 16  # files handed to a worker at once: small enough for an even load and a moving bar
_WORTH_A_POOL = 3.0  # seconds of reading left; below, starting processes (about 1 s) gains nothing
_MAX_WORKERS = 8  # reading saturates a disk long before it saturates more

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".parquet"})

Progress = Callable[[int, int], None]


@dataclass
class Found:
    """What lies under the paths given: files in reading order, and what could not be looked into."""

    files: list[Path] = field(default_factory=list)
    failures: dict[int, list[Rejected]] = field(default_factory=dict)  # before the file of that index
    hidden: int = 0
    again: int = 0


def read(
    paths: Sequence[Path],
    *,
    dialect: Dialect | None = None,
    site_key: bytes | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Recording:
    """Read dose reports, CT images, protocols and tables from files and folders.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders. Entries come in the order of ``paths``, within a folder in the order of sorted
        paths, within a file in the order of its rows or events.
    dialect : Dialect, optional
        How tables are to be read; columns named by DICOM keywords need none.
    site_key : bytes, optional
        32 bytes that key the hashes of identifiers.
    progress : function of (files done, files in all), optional
    workers : int, optional
        Processes that read DICOM; chosen by the number of files and cores when None.

    Returns
    -------
    Recording
        Every row, event and acquisition as exactly one Command, Duplicate or Rejected. A file that cannot be
        used is one Rejected; slices of CT images are counted as the acquisitions they make (``files`` counts
        files). Of entries with the same irradiation event the fullest is the command.

    Raises
    ------
    InputError
        When a path does not exist, or nothing under the paths could be read at all.
    SettingsError
        For a site key of the wrong length.
    """
    pseudonyms = Pseudonyms(site_key)
    found = find(paths)
    results = list(_results(found.files, dialect, pseudonyms, progress, workers))
    _refuse_nothing(paths, found, results)
    entries = _resolve_duplicates(_assemble(found, results), notes := _notes(found, results, pseudonyms))
    return Recording(tuple(entries), len(found.files), tuple(dict.fromkeys(notes)))


def find(paths: Sequence[Path]) -> Found:
    """Every regular file under ``paths``, once; hidden files of folders are passed over and counted.

    Raises
    ------
    InputError
        When no path is given or one does not exist.
    """
    if not paths:
        raise InputError("no path is given", "recordings", "name files or folders of recordings")
    found = Found()
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            what = "no such file or folder" if missing else "the path cannot be looked at"
            raise InputError(what, str(path), "check the path and its rights") from error
        if stat.S_ISDIR(status.st_mode):
            _walk(path, found, seen)
        else:
            _add(path, status, found, seen)
    return found


def _walk(folder: Path, found: Found, seen: set[tuple[int, int]]) -> None:
    try:
        with os.scandir(folder) as listing:
            inside = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        _fail(found, folder, f"the folder cannot be read ({error.strerror})")
        return
    for entry in inside:
        path = Path(entry.path)
        if entry.name.startswith("."):
            found.hidden += 1
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                _walk(path, found, seen)
            else:
                _add(path, path.stat(), found, seen)  # a link to a folder is no regular file, and no loop
        except OSError as error:
            _fail(found, path, f"cannot be read ({error.strerror})")


def _add(path: Path, status: os.stat_result, found: Found, seen: set[tuple[int, int]]) -> None:
    if not stat.S_ISREG(status.st_mode):
        _fail(found, path, "not a regular file")
    elif (status.st_dev, status.st_ino) in seen:
        found.again += 1
    else:
        seen.add((status.st_dev, status.st_ino))
        found.files.append(path)


def _fail(found: Found, path: Path, reason: str) -> None:
    found.failures.setdefault(len(found.files), []).append(Rejected(Origin(str(path)), reason))


# --- files


def kind_of(path: Path) -> str:
    """``dicom``, ``table``, ``empty`` or ``other``, told by the first bytes.

    Raises
    ------
    InputError
        When the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path), "check its rights") from error
    if not head:
        return "empty"
    if head[128:132] == b"DICM":
        return "dicom"
    # Data sets without the preamble exist in old archives: group 0002 or 0008, explicit VR.
    if head[:2] in {b"\x02\0", b"\x08\0"} and head[4:6].isalpha() and head[4:6].isupper():
        return "dicom"
    return "table" if head[:4] == PARQUET_MAGIC or looks_like_text(head) else "other"


def read_table_file(path: Path, dialect: Dialect | None, pseudonyms: Pseudonyms) -> FileResult:
    """The rows of one table; a table that cannot be used has a ``failure``."""
    result = FileResult(str(path))
    try:
        table = load_table(
            path,
            delimiter=dialect.delimiter if dialect else "",
            encoding=dialect.encoding if dialect else "",
        )
        result.entries, result.notes = entries_of(table, dialect, pseudonyms)
    except InputError as error:
        result.failure = error
        if path.suffix.lower() not in TABLE_SUFFIXES and not isinstance(error, DialectError):
            what = "not a recording: neither DICOM nor a table of commands"
            result.failure = DecodeError(what, str(path), error.todo)
    return result


def _results(
    files: list[Path],
    dialect: Dialect | None,
    pseudonyms: Pseudonyms,
    progress: Progress | None,
    workers: int | None,
) -> Iterator[FileResult]:
    """One result per file, in order."""
    kinds: list[str | InputError] = []
    for path in files:
        try:
            kinds.append(kind_of(path))
        except InputError as error:
            kinds.append(error)
    dicom = [path for path, kind in zip(files, kinds, strict=True) if kind == "dicom"]
    decoded = _decode_all(dicom, pseudonyms, workers)
    for number, (path, kind) in enumerate(zip(files, kinds, strict=True), 1):
        where = str(path)
        if kind == "dicom":
            yield next(decoded)
        elif kind == "table":
            yield read_table_file(path, dialect, pseudonyms)
        elif kind == "empty":
            yield FileResult(where, failure=DecodeError("the file is empty", where, "give a recording"))
        elif isinstance(kind, InputError):
            yield FileResult(where, failure=kind)
        else:
            what = "not a recording: neither DICOM nor a table"
            yield FileResult(where, failure=DecodeError(what, where, "leave it out of the recordings"))
        if progress is not None:
            progress(number, len(files))


def _decode_all(files: list[Path], pseudonyms: Pseudonyms, workers: int | None) -> Iterator[FileResult]:
    if workers is None:
        # A slice takes a millisecond, a report fifty: the first chunk tells how long the rest will take.
        began = time.perf_counter()
        yield from read_chunk(files[:_CHUNK], pseudonyms)
        each = (time.perf_counter() - began) / _CHUNK
        files = files[_CHUNK:]
        cores = min(os.cpu_count() or 1, _MAX_WORKERS)
        workers = cores if each * len(files) > _WORTH_A_POOL else 1
    workers = min(workers, len(files))
    if workers <= 1:
        for path in files:
            yield read_dicom(path, pseudonyms)
        return
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    done = 0
    try:
        with _pool(workers) as pool:
            for results in pool.map(read_chunk, chunks, [pseudonyms] * len(chunks)):
                yield from results
                done += 1
    except BrokenProcessPool:
        # A file took its reader down (out of memory, most likely). Alone, each shows whether it was the one.
        for path in (path for chunk in chunks[done:] for path in chunk):
            yield _read_apart(path, pseudonyms)


def _read_apart(path: Path, pseudonyms: Pseudonyms) -> FileResult:
    try:
        with _pool(1) as pool:
            return pool.submit(read_dicom, path, pseudonyms).result()
    except BrokenProcessPool:
        error = DecodeError("the process that read it died", str(path), "leave the file out")
        return FileResult(str(path), failure=error)


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: a fork of a process with threads (a progress bar is one) may hang
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


# --- from files to entries


def _assemble(found: Found, results: list[FileResult]) -> list[Entry]:
    slices: list[SliceHeader] = [one for result in results for one in result.slices]
    made: dict[str, list[Entry]] = {}
    for acquisition in acquisitions(slices):
        rejected = Rejected(acquisition.origin, acquisition.reason)
        made.setdefault(acquisition.origin.path, []).append(acquisition.command or rejected)
    entries: list[Entry] = []
    for index, result in enumerate(results):
        entries += found.failures.get(index, ())
        entries += result.entries
        entries += made.get(result.path, ())
        if result.failure is not None:
            entries.append(Rejected(Origin(result.path), result.failure.what))
    return entries + found.failures.get(len(results), [])


def _refuse_nothing(paths: Sequence[Path], found: Found, results: list[FileResult]) -> None:
    """InputError when not a single file could be read."""
    failures = [result.failure for result in results if result.failure is not None]
    if any(result.entries or result.slices for result in results):
        return
    if len(failures) == 1 and not found.failures:
        raise failures[0]
    apart = [rejected for group in found.failures.values() for rejected in group]
    where = ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    if not failures and not apart:
        raise InputError("no files to read", where, "give dose reports, CT images or tables")
    first = (failures[0].what, failures[0].where) if failures else (apart[0].reason, apart[0].origin.path)
    raise InputError(
        f"none of {len(failures) + len(apart)} files could be read (the first, {first[1]}: {first[0]})",
        where,
        failures[0].todo if failures else "check the paths and their rights",
    )


def _notes(found: Found, results: list[FileResult], pseudonyms: Pseudonyms) -> list[str]:
    notes = [note for result in results for note in result.notes]
    if found.hidden:
        notes.append(f"{found.hidden} hidden files or folders were passed over")
    if found.again:
        notes.append(f"{found.again} files were given twice and read once")
    skipped = sum(result.skipped for result in results)
    if skipped:
        notes.append(f"{skipped} DICOMDIR indexes were passed over")
    if pseudonyms.is_default:
        notes.append(NO_SITE_KEY_NOTE)
    return notes


def _resolve_duplicates(entries: list[Entry], notes: list[str]) -> list[Entry]:
    """Of the commands of one irradiation event the fullest stays (then the earliest, then by content).

    Not simply the first: shuffling the rows of a table must change nothing. Equal ones leave the first.
    """
    events: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if isinstance(entry, Command) and entry.event is not None:
            events.setdefault(entry.event, []).append(index)
    differing = 0
    for indexes in events.values():
        if len(indexes) < 2:
            continue
        commands = {index: entry for index in indexes if isinstance(entry := entries[index], Command)}
        keys = {i: (-len(c.parameters), in_time(c), canonical(c)) for i, c in commands.items()}
        kept = min(indexes, key=lambda i: (keys[i], i))
        for index in indexes:
            if index != kept:
                entries[index] = Duplicate(commands[index].origin, commands[index])
                differing += keys[index] != keys[kept]
    if differing:
        notes.append(f"{differing} duplicates say something else than the command they repeat")
    return entries
