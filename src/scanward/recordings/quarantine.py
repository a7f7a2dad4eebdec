"""Recordings from outside, kept apart until a person has looked at them.

    FOLDER/quarantine/    as received; a marker file says so, and training refuses everything in or under it
    FOLDER/reviewed/      what a person accepted, by an act of their own (`scanward dicom review`)
    FOLDER/rejected/      what a person did not
    FOLDER/reviews.jsonl  who moved what, when, and why

File names are keyed hashes of SOP Instance UIDs. What is *in* the files is as it was received, names included: the
folders are readable by their owner alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import InputError, ScanwardError

MARKER = "UNREVIEWED.txt"
_WORDS = """Received over the network and looked at by nobody.
Training refuses this folder. Look through it, then: scanward dicom review
"""
_NAME = re.compile(r"[0-9a-f]{16}\.dcm")


@dataclass(frozen=True)
class Quarantine:
    """The folders of one receiver. Made by `open_quarantine`."""

    folder: Path
    bounds: DicomBounds = DICOM_BOUNDS

    @property
    def unreviewed(self) -> Path:
        """Where received objects lie."""
        return self.folder / "quarantine"

    @property
    def reviewed(self) -> Path:
        """Where accepted ones lie."""
        return self.folder / "reviewed"

    def names(self) -> tuple[str, ...]:
        """Files that wait for review, sorted."""
        return tuple(sorted(p.name for p in self.unreviewed.iterdir() if _NAME.fullmatch(p.name)))

    def keep(self, name: str, data: bytes) -> bool:
        """Store one object durably; False when the very same is there (or was reviewed) already.

        Raises
        ------
        InputError
            Another content under that name, or no room within the bounds.
        ScanwardError
            The disk refuses.
        """
        if not _NAME.fullmatch(name):
            raise InputError("no name of a received object", name, "use sixteen hexadecimal digits")
        for place in (self.unreviewed, self.reviewed, self.folder / "rejected"):
            known = place / name
            if known.exists():
                if known.read_bytes() == data:
                    return False
                raise InputError("another content under a UID received before", name, "look at both senders")
        used = sum(entry.stat().st_size for entry in os.scandir(self.unreviewed) if entry.is_file())
        if used + len(data) > self.bounds.quarantine_bytes:
            what = f"more than {self.bounds.quarantine_bytes} bytes wait for review"
            raise InputError(what, str(self.unreviewed), "review them: scanward dicom review")
        temporary = self.unreviewed / f".{name}.part"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            temporary.rename(self.unreviewed / name)
            _sync(self.unreviewed)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            reason = error.strerror or "the disk refuses"
            raise ScanwardError(
                f"cannot store it: {reason}", str(self.unreviewed), "check the disk"
            ) from error
        return True

    def move(self, names: Iterable[str], *, accept: bool, who: str, why: str, when: str) -> int:
        """A person's act: files go to ``reviewed`` (or ``rejected``), and the act is written down first.

        Raises
        ------
        InputError
            No name, nobody's act, or a file that does not wait for review.
        """
        chosen = tuple(dict.fromkeys(names))
        if not who.strip():
            raise InputError("nobody reviews", "--by", "say who looked at them")
        waiting = set(self.names())
        for name in chosen:
            if name not in waiting:
                raise InputError("does not wait for review", name, "list them: scanward dicom review FOLDER")
        if not chosen:
            raise InputError("nothing is chosen", str(self.unreviewed), "name files, or all of them")
        place = self.reviewed if accept else self.folder / "rejected"
        act = {"when": when, "who": who, "why": why, "accepted": accept, "files": list(chosen)}
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            with (self.folder / "reviews.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(act, ensure_ascii=True) + "\n")
                log.flush()
                os.fsync(log.fileno())
            for name in chosen:
                (self.unreviewed / name).rename(place / name)
            _sync(place)
        except OSError as error:
            reason = error.strerror or "the disk refuses"
            raise ScanwardError(f"cannot move them: {reason}", str(place), "check the disk") from error
        return len(chosen)


def open_quarantine(folder: Path, bounds: DicomBounds = DICOM_BOUNDS) -> Quarantine:
    """The quarantine in ``folder``, made when it is new; ScanwardError when it cannot be."""
    found = Quarantine(folder, bounds)
    try:
        found.unreviewed.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker = found.unreviewed / MARKER
        if not marker.exists():
            marker.write_text(_WORDS, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or "the disk refuses"
        raise ScanwardError(f"cannot make the quarantine: {reason}", str(folder), "choose another") from error
    return found


def refuse_unreviewed(paths: Sequence[Path]) -> None:
    """InputError when anything under ``paths`` lies in a quarantine, links into one included."""
    for path in paths:
        _refuse_inside(path)
        if not path.is_dir():
            continue
        for place, folders, files in os.walk(path):
            if MARKER in files:
                raise _unreviewed(Path(place))
            for name in (*folders, *files):
                entry = Path(place) / name
                if entry.is_symlink():
                    _refuse_inside(entry)


def _refuse_inside(path: Path) -> None:
    real = path.resolve()
    for place in (real, *real.parents):
        if (place / MARKER).exists():
            raise _unreviewed(place)


def _unreviewed(place: Path) -> InputError:
    what = "received over the network and reviewed by nobody"
    return InputError(what, str(place), "look through it, then: scanward dicom review FOLDER --accept ...")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
