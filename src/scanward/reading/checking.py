"""Whether a study is as it was made: hashes of protocol, key and pictures, and the rules of its plan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError
from scanward.reading.chance import SECRET_BYTES
from scanward.reading.opened import KEY, PICTURES, Study, open_study, read_picture
from scanward.reading.protocol import KEY_FORMAT, Key, Reader, digest

_SHOWN = 3  # findings written out in an error; the rest is counted


@dataclass(frozen=True, slots=True)
class Checked:
    """A study that is whole. ``key`` says whether its key was there to be checked."""

    sha256: str
    title: str
    created: str
    pictures: int
    readers: int
    sessions: int
    key: bool
    phantom: bool | None


def check(folder: Path, key: Path | None = None) -> Checked:
    """Check a study.

    Parameters
    ----------
    folder : Path
        The study.
    key : Path, optional
        Its key, where that is kept elsewhere. Without a key its hash and the rules that need truth are left out.

    Raises
    ------
    InputError
        What is not as it was made: the first findings, and how many there are.
    """
    study = open_study(folder)
    findings = list(_pictures(study))
    findings += [text for reader in study.protocol.readers for text in _reads_all_once(study, reader)]
    path = key or folder / KEY
    held: Key | None = None
    if key is not None or path.exists():
        held = load_key(path, study.protocol.key_sha256)
        findings += _truths(study, held, path)
    if findings:
        more = f" and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        raise InputError(
            "; ".join(findings[:_SHOWN]) + more, str(folder), "bring the study back as it was made"
        )
    return Checked(
        sha256=study.sha256,
        title=study.protocol.design.title,
        created=study.protocol.created,
        pictures=len(study.protocol.pictures),
        readers=len(study.protocol.readers),
        sessions=max((s.number for r in study.protocol.readers for s in r.sessions), default=0),
        key=held is not None,
        phantom=None if held is None else held.phantom,
    )


def load_key(path: Path, sha256: str | None = None) -> Key:
    """Read a key; ``sha256`` is the hash that it must have.

    Raises
    ------
    InputError
        It cannot be read, is another one, or no key.
    """
    try:
        if path.stat().st_size > STUDY_BOUNDS.protocol_bytes:
            raise InputError(f"larger than {STUDY_BOUNDS.protocol_bytes} bytes", str(path), "this is no key")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the key cannot be read: {error.strerror}", str(path), "check path and permissions"
        ) from error
    if sha256 is not None and digest(data) != sha256:
        raise InputError("not the key of this study", str(path), "bring the key that was made with it")
    try:
        key = msgspec.json.decode(data, type=Key)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a key: {error}", str(path), "bring the key that was made with it") from error
    if key.format != KEY_FORMAT:
        raise InputError(f"a key of the format {key.format[:40]!r}", str(path), f"this reads {KEY_FORMAT}")
    return key


def secret_of(path: Path) -> bytes:
    """The secret of a study's chance, out of its key. Raises `InputError` for a key without one."""
    secret = load_key(path).secret
    if not re.fullmatch(f"[0-9a-f]{{{2 * SECRET_BYTES}}}", secret):
        raise InputError("the key holds no secret", str(path), "bring the key of a study that `create` made")
    return bytes.fromhex(secret)


def _pictures(study: Study) -> Iterator[str]:
    there = {path.name for path in (study.folder / PICTURES).iterdir()}
    wanted = {f"{picture.identifier}.raw" for picture in study.protocol.pictures}
    for name in sorted(there - wanted - {"NOTICE"}):
        yield f"{PICTURES}/{name} is none of the study's"
    for picture in study.protocol.pictures:
        try:
            read_picture(study, picture)
        except InputError as error:
            yield f"{PICTURES}/{picture.identifier}.raw: {error.what}"


def _reads_all_once(study: Study, reader: Reader) -> Iterator[str]:
    read = [shown.picture for session in reader.sessions for shown in session.cases]
    if sorted(read) != sorted(picture.identifier for picture in study.protocol.pictures):
        yield f"{reader.name} does not read every picture exactly once"


def _truths(study: Study, key: Key, path: Path) -> Iterator[str]:
    if path.stat().st_mode & 0o077:
        yield f"{path.name} may be read by others (chmod 600)"
    truths = {truth.picture: truth for truth in key.truths}
    if len(truths) != len(key.truths) or set(truths) != {p.identifier for p in study.protocol.pictures}:
        yield f"{path.name} does not hold one truth of every picture"
        return
    practised = {truth.patient for truth in key.truths if truth.practice}
    if practised & {truth.patient for truth in key.truths if not truth.practice}:
        yield "a woman is in practice and in the study"
    for reader in study.protocol.readers:
        for session in reader.sessions:
            shown = [truths[one.picture] for one in session.cases]
            if any(truth.practice is not (session.number == 0) for truth in shown):
                yield f"{reader.name} session {session.number} mixes practice and study"
            if len({truth.case for truth in shown}) < len(shown):
                yield f"{reader.name} session {session.number} shows a case twice"
