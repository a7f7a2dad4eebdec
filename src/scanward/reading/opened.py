"""A frozen study, opened for serving or export: its protocol checked against its hash, its pictures by token.

The key is read by `read_key` alone, which only the export calls: nothing of the server opens it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError
from scanward.reading.protocol import FORMAT, KEY_FORMAT, Key, Picture, Protocol, Reader, Session, digest

PROTOCOL = "protocol.json"
PROTOCOL_HASH = "protocol.sha256"
KEY = "key.json"
PICTURES = "pictures"
ANSWERS = "answers.sqlite"
ACCOUNTS = "accounts.sqlite"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a token belongs: whose it is, in which session, at which position (from 1), which picture."""

    reader: str
    session: int
    position: int
    picture: Picture


@dataclass(frozen=True)
class Study:
    """A study whose protocol is what its hash says.

    Parameters
    ----------
    folder : Path
    protocol : Protocol
    sha256 : str
        Of protocol.json, hex.
    readers : dict
        By name.
    places : dict
        By token.
    """

    folder: Path
    protocol: Protocol
    sha256: str
    readers: dict[str, Reader]
    places: dict[str, Place]

    @property
    def answers(self) -> Path:
        """The file of answers."""
        return self.folder / ANSWERS

    @property
    def accounts(self) -> Path:
        """The file of accounts."""
        return self.folder / ACCOUNTS

    def picture_path(self, picture: Picture) -> Path:
        """The raw file of a picture."""
        return self.folder / PICTURES / f"{picture.identifier}.raw"

    def session(self, reader: str, number: int) -> Session:
        """One session of one reader."""
        return next(session for session in self.readers[reader].sessions if session.number == number)


def open_study(folder: Path, *, pictures: bool = True) -> Study:
    """Open the study in ``folder``.

    Parameters
    ----------
    pictures : bool
        Whether to look that every picture is there and has its size; contents are checked when one is shown.

    Raises
    ------
    InputError
        No study, a protocol that is not the frozen one, or a picture that is missing or has another size.
    """
    path = folder / PROTOCOL
    data = _read(path, STUDY_BOUNDS.protocol_bytes)
    frozen = _read(folder / PROTOCOL_HASH, 4096).decode("ascii", "replace").split()
    sha256 = digest(data)
    if not frozen or frozen[0] != sha256:
        raise InputError(
            "the protocol is not the one that was frozen",
            str(path),
            "bring back the file whose hash protocol.sha256 tells; a changed study is a new study",
        )
    try:
        protocol = msgspec.json.decode(data, type=Protocol)
    except msgspec.DecodeError as error:
        raise InputError(f"not a protocol: {error}", str(path), "make the study again") from error
    if protocol.format != FORMAT:
        raise InputError(f"a protocol of the format '{protocol.format}'", str(path), f"this reads {FORMAT}")
    study = Study(folder, protocol, sha256, {r.name: r for r in protocol.readers}, _places(protocol, path))
    if pictures:
        _look_at_pictures(study)
    return study


def _places(protocol: Protocol, path: Path) -> dict[str, Place]:
    pictures = {picture.identifier: picture for picture in protocol.pictures}
    places: dict[str, Place] = {}
    for reader in protocol.readers:
        for session in reader.sessions:
            for position, shown in enumerate(session.cases, 1):
                if shown.picture not in pictures or shown.token in places:
                    raise InputError(
                        f"token {shown.token} of {reader.name} occurs twice or names no picture",
                        str(path),
                        "make the study again",
                    )
                places[shown.token] = Place(reader.name, session.number, position, pictures[shown.picture])
    return places


def _look_at_pictures(study: Study) -> None:
    for picture in study.protocol.pictures:
        path = study.picture_path(picture)
        size = path.stat().st_size if path.is_file() else -1
        if size != picture.rows * picture.columns * 2:
            raise InputError(
                "a picture is missing or has another size", str(path), "bring the study's folder back whole"
            )


def read_picture(study: Study, picture: Picture) -> bytes:
    """The grey values of a picture: rows * columns uint16, little endian.

    Raises
    ------
    InputError
        The file is not what the protocol froze.
    """
    path = study.picture_path(picture)
    data = _read(path, picture.rows * picture.columns * 2)
    if digest(data) != picture.sha256:
        raise InputError(
            "a picture is not the one that was frozen", path.name, "bring back the study's folder"
        )
    return data


def read_key(study: Study, path: Path | None = None) -> Key:
    """The truth of every picture: for the export alone. ``path``: where the key is kept, if not in the study's folder.

    Raises
    ------
    InputError
        No key, not the key of this protocol, or a picture without a truth.
    """
    path = path or study.folder / KEY
    data = _read(path, STUDY_BOUNDS.protocol_bytes)
    if digest(data) != study.protocol.key_sha256:
        raise InputError("not the key of this study", str(path), "bring the key that was made with it")
    try:
        key = msgspec.json.decode(data, type=Key)
    except msgspec.DecodeError as error:
        raise InputError(f"not a key: {error}", str(path), "bring the key that was made with it") from error
    if key.format != KEY_FORMAT:
        raise InputError(f"a key of the format '{key.format}'", str(path), f"this reads {KEY_FORMAT}")
    without = {p.identifier for p in study.protocol.pictures} - {truth.picture for truth in key.truths}
    if without:
        raise InputError(f"{len(without)} pictures have no truth", str(path), "bring the study's own key")
    return key


def _read(path: Path, limit: int) -> bytes:
    """A whole file of at most ``limit`` bytes."""
    try:
        with path.open("rb") as file:
            # no more than is there: `read` first asks for memory for all that it may read
            data = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
    except OSError as error:
        what = (error.strerror or "cannot be read").lower()
        raise InputError(
            what, str(path), "check that this is a study's folder, and who may read it"
        ) from error
    if len(data) > limit:
        raise InputError(f"more than {limit} bytes", str(path), "bring the study's folder back whole")
    return data
