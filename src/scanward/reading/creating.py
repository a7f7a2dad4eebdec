"""A study out of pictures and a design: sampled, planned, rendered, frozen. The folder appears whole or not at all."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from scanward import __version__
from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.reading import chance, pictures, planning
from scanward.reading.chance import Chance
from scanward.reading.design import check_design
from scanward.reading.opened import KEY, PICTURES, PROTOCOL, PROTOCOL_HASH
from scanward.reading.planning import Case, Chosen, View
from scanward.reading.protocol import Arm, Design, Key, Modification, Picture, Protocol, Truth, digest
from scanward.reading.sample_size import Planned, as_mapping, sample_size
from scanward.reading.sources import Original, find

NOTICE = "NOTICE"
_STAMP = 946_684_800  # 2000-01-01, of every picture's file: when one was written tells nothing

NOTICE_TEXT = """\
RESEARCH ONLY - NOT FOR DIAGNOSIS

These are pictures of a reader study made with Scanward. About half of them have been MODIFIED by software: lesions
were inserted or removed. Which ones, only the study's key says; that is what the study is about. The files hold bare
grey values (unsigned 16 bit, least significant byte first, row by row, no header), genuine and modified alike, so that
nothing but what is seen can tell them apart. They are no mammograms of anybody any more: never give them to an archive,
to a viewer in clinical use, or to anyone who has not read this notice.
"""

Progress = Callable[[int, int], None]
"""Called with pictures written and pictures in all."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was written. ``remarks`` are for the lead."""

    protocol: Protocol
    key: Key
    patients: int
    cancers: int
    plans: tuple[Planned, ...] = ()
    remarks: tuple[str, ...] = ()


def build(
    originals: Sequence[Original],
    design: Design,
    out: Path,
    *,
    phantom: bool = False,
    secret: bytes | None = None,
    created: str = "",
    progress: Progress | None = None,
) -> Made:
    """Write a study of originals and their twins to ``out``, which must not exist (or be an empty folder).

    Parameters
    ----------
    originals : sequence of Original
        Each with a modified twin for every arm; the design's sampling chooses among them.
    secret : 32 bytes, optional
        What all chance comes from; new where there is none. The same secret, design and pictures give the same study.
    created : str
        ISO 8601 in UTC; now where there is none.

    Raises
    ------
    SettingsError
        A design that makes no sense; ``out`` is there.
    InputError, DecodeError
        Too few women; a picture that cannot be read, twins of different sizes, or a twin that equals its original.
    """
    check_design(design)
    # as it will be read back: a whole number where a fraction may stand becomes one
    design = msgspec.convert(msgspec.to_builtins(design), Design)
    _refuse_there(out)
    if len({original.case.name for original in originals}) != len(originals):
        raise InputError(
            "a case's name occurs twice", "genuine pictures", "give every picture a name of its own"
        )
    secret = secret or chance.new_secret()
    # the seed of the design draws another study out of the same secret
    root = hmac.digest(secret, b"scanward study %d" % design.seed, hashlib.sha256)
    chosen = planning.choose(design, [original.case for original in originals], root)
    views = (*chosen.study, *chosen.practice)
    if len(views) > STUDY_BOUNDS.pictures:
        raise InputError(
            f"{len(views)} pictures are more than {STUDY_BOUNDS.pictures}", "design", "lower patients"
        )
    identifiers = _identifiers(views, root)
    readers = planning.plan(design, chosen, identifiers, root)
    plans = sample_size(design, chosen.study)
    created = created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    of = {original.case.name: original for original in originals}
    with _appearing(out) as draft:
        folder = draft / PICTURES
        folder.mkdir()
        (folder / NOTICE).write_text(NOTICE_TEXT, encoding="utf-8")
        shown, remarks = _write_pictures(folder, views, of, design, identifiers, root, progress)
        key = Key(
            created=created,
            phantom=phantom,
            truths=_truths(chosen, of, identifiers, root),
            secret=secret.hex(),
        )
        key_text = encoded(key)
        _write(draft / KEY, key_text, mode=0o600)
        protocol = Protocol(
            version=__version__,
            created=created,
            design=design,
            pictures=tuple(shown),
            readers=readers,
            key_sha256=digest(key_text),
            sample_size=as_mapping(plans),
        )
        text = encoded(protocol)
        _write(draft / PROTOCOL, text, mode=0o600)  # with the pictures it tells more than it should
        _write(draft / PROTOCOL_HASH, f"{digest(text)}  {PROTOCOL}\n".encode())
    ill = {view.case.patient for view in chosen.study if view.case.pathology == "cancer"}
    return Made(protocol, key, chosen.patients, len(ill), tuple(plans), tuple(remarks))


def encoded(what: Protocol | Key) -> bytes:
    """The one way in which a protocol or a key is written: keys in order, one space of indent, a line feed."""
    return msgspec.json.format(msgspec.json.encode(what, order="deterministic"), indent=1) + b"\n"


def create(
    genuine: Path,
    modified: Sequence[Path | tuple[str, Path]],
    design: Design,
    out: Path,
    *,
    secret: bytes | None = None,
    progress: Progress | None = None,
) -> Made:
    """A study out of folders, see `scanward.reading.sources.find`; a modified folder may be (arm, folder).

    Raises
    ------
    SettingsError, InputError, DecodeError
        As `build` and `scanward.reading.sources.find`.
    """
    check_design(design)
    _refuse_there(out)
    folders = [given if isinstance(given, tuple) else ("", given) for given in modified]
    for arm, folder in folders:
        if arm and arm not in [one.name for one in design.arms]:
            raise SettingsError(
                f"no arm '{arm}' in the design", str(folder), f"use {', '.join(a.name for a in design.arms)}"
            )
    found = find(genuine, folders, [arm.name for arm in design.arms])
    made = build(found.originals, design, out, phantom=found.phantom, secret=secret, progress=progress)
    return replace(made, remarks=(*found.remarks, *made.remarks))


# --- pictures


def _identifiers(views: Sequence[View], root: bytes) -> dict[View, str]:
    stream = Chance(root, "identifiers")
    return {view: stream.token() for view in sorted(views)}


def _write_pictures(
    folder: Path,
    views: Sequence[View],
    of: Mapping[str, Original],
    design: Design,
    identifiers: Mapping[View, str],
    root: bytes,
    progress: Progress | None,
) -> tuple[list[Picture], list[str]]:
    arms = {arm.name: arm for arm in design.arms}
    wanted: dict[Case, list[View]] = {}
    for view in views:
        wanted.setdefault(view.case, []).append(view)
    found: list[Picture] = []
    of_picture: dict[tuple[str, str], View] = {}  # by arm and hash
    bright: set[str] = set()
    stream = Chance(root, "writing")
    for case in stream.shuffled(sorted(wanted)):
        original = of[case.name]
        read: dict[int, Twins] = {}  # of this case alone: pictures are large
        for view in stream.shuffled(wanted[case]):
            twin = original.twin(view.arm)
            if id(twin) not in read:
                read[id(twin)] = _twins(original, view.arm)
                if _background_differs(*read[id(twin)]):
                    bright.add(twin.source.where)
            grey = read[id(twin)][view.modified]
            found.append(_write_picture(folder, identifiers[view], grey, arms[view.arm]))
            _refuse_same(of_picture, view, found[-1].sha256, original)
            if progress is not None:
                progress(len(found), len(views))
    remarks = [
        f"modified pictures that differ from their originals where these are black: {count}, {example} for one; "
        "background, depth or grey scale may give them away"
        for count, example in [(len(bright), min(bright, default=""))]
        if count
    ]
    return sorted(found, key=lambda picture: picture.identifier), remarks


Twins = tuple[pictures.Grey, pictures.Grey]


def _background_differs(genuine: pictures.Grey, modified: pictures.Grey) -> bool:
    """Whether most of the original's black is something else in the twin: no lesion lies there.

    Black that takes less than a hundredth of the picture is no background.
    """
    black = genuine == genuine.min()
    return bool(black.mean() > 0.01 and (genuine[black] != modified[black]).mean() > 0.5)


def _refuse_same(there: dict[tuple[str, str], View], view: View, sha256: str, original: Original) -> None:
    other = there.setdefault((view.arm, sha256), view)
    if other.case.name == view.case.name and other is not view:
        raise InputError(
            f"nothing of the modification is left in arm '{view.arm}'",
            original.twin(view.arm).source.where,
            "leave it out, or show more rows, columns or bits",
        )
    if other is not view:
        raise InputError(
            f"the same picture as that of case '{other.case.name}'", original.source.where, "leave one out"
        )


def _twins(original: Original, arm: str) -> Twins:
    """Genuine and modified at their common depth."""
    source = original.twin(arm).source
    (genuine, known), (modified, said) = original.source.read(), source.read()
    if known != said:
        raise InputError(
            f"{said} bits, its original {known}",
            source.where,
            "brightness would tell it from a genuine picture: give pictures of their originals' depth",
        )
    if genuine.shape != modified.shape:
        raise InputError(
            f"{modified.shape[0]} x {modified.shape[1]} px, its original {genuine.shape[0]} x {genuine.shape[1]}",
            source.where,
            "size would tell it from a genuine picture: give pictures of their originals' size",
        )
    bits = min(pictures.depth(genuine), pictures.depth(modified))
    genuine, modified = pictures.shallowed(genuine, bits), pictures.shallowed(modified, bits)
    if (genuine == modified).all():
        raise InputError(
            "nothing was modified: it equals its original",
            source.where,
            "leave it out, or modify it",
        )
    return genuine, modified


def _write_picture(folder: Path, identifier: str, grey: pictures.Grey, arm: Arm) -> Picture:
    shown = pictures.rendered(grey, arm)
    data = pictures.raw(shown)
    path = folder / f"{identifier}.raw"
    _write(path, data)
    os.utime(path, (_STAMP, _STAMP))
    return Picture(
        identifier=identifier,
        arm=arm.name,
        rows=shown.shape[0],
        columns=shown.shape[1],
        bits=arm.bits,
        window=pictures.window(shown),
        sha256=digest(data),
    )


def _truths(
    chosen: Chosen, of: Mapping[str, Original], identifiers: Mapping[View, str], root: bytes
) -> tuple[Truth, ...]:
    views = (*chosen.study, *chosen.practice)
    practice = set(chosen.practice)
    cases = _pseudonyms("C", {view.case.name for view in views}, Chance(root, "cases"))
    women = _pseudonyms("P", {view.case.patient for view in views}, Chance(root, "patients"))
    found = []
    for view in views:
        original = of[view.case.name]
        twin = original.twin(view.arm)
        source = twin.source if view.modified else original.source
        found.append(
            Truth(
                picture=identifiers[view],
                case=cases[view.case.name],
                patient=women[view.case.patient],
                modification=twin.modification if view.modified else Modification.NONE,
                pathology=view.case.pathology,
                practice=view in practice,
                source=source.where,
                source_sha256=source.sha256,
            )
        )
    return tuple(sorted(found, key=lambda truth: truth.picture))


def _pseudonyms(letter: str, names: set[str], stream: Chance) -> dict[str, str]:
    digits = max(4, len(str(len(names))))
    return {name: f"{letter}{n:0{digits}d}" for n, name in enumerate(stream.shuffled(sorted(names)), 1)}


# --- the folder


def _refuse_there(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise SettingsError("not a folder", str(out), "give another --out")
    if out.is_dir() and any(out.iterdir()):
        raise SettingsError(
            "the folder is not empty", str(out), "give another --out: a study is never changed"
        )


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when all went well, and goes when not."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            yield draft
            _sync(draft / PICTURES)
            _sync(draft)
            draft.rename(out)
            _sync(out.parent)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise ScanwardError(
            f"the study cannot be written: {error.strerror or type(error).__name__}",
            str(error.filename or out),
            "make room, or give another --out",
        ) from error


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
