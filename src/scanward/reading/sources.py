"""Where a study's pictures come from: data sets, outputs of ``scanward tamper``, and plain folders with a table.

Every original is found its modified twin: by the hash of the original's file that `tampered.json` holds, by that of
its pixels where the file was written anew, or by the case that a table names. Only originals with a twin can be
chosen: then what decided who has a twin (a place for a lesion, a model's liking) cannot tell genuine from modified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.manifest import MANIFEST as DATA_SET
from scanward.mammography.manifest import Image, Label, read_manifest
from scanward.mammography.pictures import load
from scanward.mammography.readers import read_mammogram
from scanward.reading.planning import Case
from scanward.reading.protocol import Modification, Pathology
from scanward.reading.truth_tables import read_table
from scanward.tampering.dicom_outputs import is_ours_burned, marks_of_dicom
from scanward.tampering.marking import marks_of
from scanward.tampering.originals import file_hash
from scanward.tampering.outputs import MANIFEST as TAMPERED
from scanward.tampering.outputs import read_tampered

Grey = NDArray[np.uint16]
Read = tuple[Grey, int]
"""A picture shifted up to fill 16 bits, tissue bright, and the bits of its file."""

_MARKED = (
    "the visible mark is burned into it, which gives the truth away",
    "make it again with `scanward tamper insert --no-visible-mark` (or remove): its metadata still say what it is",
)
_PATHOLOGY = {
    Label.MALIGNANT: Pathology.CANCER,
    Label.BENIGN: Pathology.NO_CANCER,
    Label.NORMAL: Pathology.NO_CANCER,
}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A picture to be read. ``where`` names it for errors and the key, ``sha256`` is its file's."""

    where: str
    sha256: str
    read: Callable[[], Read]


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A modified picture and what was done to it."""

    source: Source
    modification: Modification


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """A genuine picture with its twins by arm; the twin of "" serves every arm that has none of its own."""

    case: Case
    source: Source
    twins: Mapping[str, Twin]

    def twin(self, arm: str) -> Twin:
        """The modified picture that an arm shows."""
        return self.twins[arm] if arm in self.twins else self.twins[""]


@dataclass(frozen=True, slots=True)
class Found:
    """Originals with a twin for every arm; ``phantom`` when none is of a human being; ``remarks`` on what is not."""

    originals: tuple[Original, ...]
    phantom: bool
    remarks: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Genuine:
    case: Case
    source: Source
    stored: Callable[[], NDArray[np.int32]]  # what `original_pixels_sha256` of a record is the hash of
    twins: dict[str, Twin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Modified:
    """A modified picture, and how to know its original: by file hash and pixel hash, or by name."""

    source: Source
    modification: Modification | None
    file_sha256: str = ""
    pixels_sha256: str = ""
    name: str = ""
    patient: str = ""
    pathology: Pathology | None = None


def find(genuine: Path, modified: Sequence[tuple[str, Path]], arms: Sequence[str]) -> Found:
    """Originals and their modified twins.

    Parameters
    ----------
    genuine : Path
        A data set, or a folder with ``truth.csv``.
    modified : sequence of (arm, Path)
        Outputs of ``scanward tamper``, or folders with ``truth.csv``; "" for all arms.
    arms : sequence of str
        Names of the design's arms.

    Raises
    ------
    InputError, DecodeError
        A folder that is none of these, a picture twice, a visible mark, two twins of one original for one arm,
        a twin that says other things of its original, or not one original with twins.
    """
    there, phantom, remarks = _genuine(genuine)
    by_name = {one.case.name: one for one in there}
    by_file = _by_hash(there, lambda one: one.source.sha256)
    by_pixels: dict[str, _Genuine] | None = None
    strange = contrary = 0
    for arm, folder in modified:
        for twin in _modified(folder):
            original = by_name.get(twin.name) if twin.name else by_file.get(twin.file_sha256)
            if original is None and twin.pixels_sha256:
                by_pixels = by_pixels or _by_hash(there, lambda one: _pixels_hash(one.stored()))
                original = by_pixels.get(twin.pixels_sha256)
            if original is None:
                strange += 1
                continue
            contrary += not _taken(original, twin, arm)
    complete = [one for one in there if one.twins and ("" in one.twins or set(one.twins) >= set(arms))]
    remarks += [
        text
        for count, text in (
            (len(there) - len(complete), "genuine pictures without a modified twin for every arm"),
            (strange, "modified pictures whose original is not among the genuine"),
            (contrary, "insertions into pictures with cancer, or removals from pictures without"),
        )
        for text in (f"left out: {count} {text}",)
        if count
    ]
    if not complete:
        raise InputError(
            "no genuine picture has a modified twin" + "".join(f"; {remark}" for remark in remarks),
            str(genuine),
            "give the pictures that the modified ones were made from",
        )
    originals = tuple(Original(case=one.case, source=one.source, twins=one.twins) for one in complete)
    return Found(originals, phantom, tuple(remarks))


def _taken(original: _Genuine, twin: _Modified, arm: str) -> bool:
    """Give an original its twin; false for one that no endpoint asks about."""
    ill = original.case.pathology is Pathology.CANCER
    usual = Modification.REMOVE if ill else Modification.INSERT
    for what, said, known in (
        ("patient", twin.patient, original.case.patient),
        ("pathology", twin.pathology, original.case.pathology),
    ):
        if said and said != known:
            raise InputError(
                f"another {what} than its original has",
                twin.source.where,
                "correct the table: both are those of the original",
            )
    if twin.modification not in (None, usual):
        return False
    if arm in original.twins:
        raise InputError(
            f"two modified pictures of one original, the other is {original.twins[arm].source.where}",
            twin.source.where,
            "give one of each original, or ARM=FOLDER for arms with models of their own",
        )
    original.twins[arm] = Twin(twin.source, usual)
    return True


def _by_hash(there: Sequence[_Genuine], hashed: Callable[[_Genuine], str]) -> dict[str, _Genuine]:
    found: dict[str, _Genuine] = {}
    for one in there:
        other = found.setdefault(hashed(one), one)
        if other is not one:
            raise InputError(
                f"the same picture twice, the other is {other.source.where}",
                one.source.where,
                "leave one of them out",
            )
    return found


def _pixels_hash(values: NDArray[np.int32]) -> str:
    return hashlib.sha256(values.astype("<i4").tobytes()).hexdigest()


# --- folders


def _genuine(folder: Path) -> tuple[list[_Genuine], bool, list[str]]:
    if (folder / TAMPERED).exists():
        raise InputError("modified pictures, not genuine ones", str(folder), "give this folder as --modified")
    if not (folder / DATA_SET).exists():
        return list(_plain_genuine(folder)), False, []
    manifest = read_manifest(folder)
    known = [image for image in manifest.images if image.label in _PATHOLOGY]
    left = len(manifest.images) - len(known)
    remarks = [f"left out: {left} genuine pictures whose label is unknown"] if left else []
    return [_of_data_set(folder, image) for image in known], manifest.phantom, remarks


def _of_data_set(folder: Path, image: Image) -> _Genuine:
    path = folder / image.file

    def read() -> Read:
        return load(folder, image, verify=True)[0], 16

    return _Genuine(
        case=Case(image.name, image.patient, _PATHOLOGY[image.label]),
        source=Source(where=str(path), sha256=file_hash(path), read=read),
        stored=lambda: read()[0].astype(np.int32),
    )


def _plain_genuine(folder: Path) -> Iterator[_Genuine]:
    for row in read_table(folder, genuine=True):
        path = folder / row.file
        assert row.pathology is not None  # the table of genuine pictures has it
        yield _Genuine(
            case=Case(row.case, row.patient, row.pathology),
            source=_file(path, file_hash(path), genuine=True),
            stored=lambda path=path: _stored(path),  # type: ignore[misc]
        )


def _modified(folder: Path) -> Iterator[_Modified]:
    if not (folder / TAMPERED).exists():
        for row in read_table(folder, genuine=False):
            path = folder / row.file
            yield _Modified(
                source=_file(path, file_hash(path), genuine=False),
                modification=row.modification,
                name=row.case,
                patient=row.patient,
                pathology=row.pathology,
            )
        return
    told = read_tampered(folder)
    if len(told.images) > MAMMOGRAPHY_BOUNDS.images:
        raise InputError(f"more than {MAMMOGRAPHY_BOUNDS.images} images", str(folder), "give fewer")
    for record in told.images:
        path = folder / record.output
        if record.visible_mark:
            raise InputError(_MARKED[0], str(path), _MARKED[1])
        yield _Modified(
            source=_file(path, record.output_sha256, genuine=False),
            modification=_direction(told.made.direction, folder),
            file_sha256=record.original_sha256,
            pixels_sha256=record.original_pixels_sha256,
        )


def _direction(direction: str, folder: Path) -> Modification:
    if direction not in ("insert", "remove"):
        raise InputError(f"direction {direction[:40]!r}", str(folder / TAMPERED), "make it again")
    return Modification(direction)


# --- files


def _file(path: Path, sha256: str, *, genuine: bool) -> Source:
    def read() -> Read:
        if file_hash(path) != sha256:
            raise DecodeError("not the file that was written", str(path), "make it again")
        with path.open("rb") as file:
            dicom = file.read(132)[128:] == b"DICM"
        return _from_dicom(path, genuine=genuine) if dicom else _from_picture(path, genuine=genuine)

    return Source(where=str(path), sha256=sha256, read=read)


def _from_dicom(path: Path, *, genuine: bool) -> Read:
    from scanward.mammography.dicom_pixels import read_stored

    read = read_stored(path)
    _check_marks(
        path, marked=marks_of_dicom(read.dataset), seen=is_ours_burned(read.dataset), genuine=genuine
    )
    return read.reading.full(), read.reading.bits


def _from_picture(path: Path, *, genuine: bool) -> Read:
    reading = read_mammogram(path)
    with path.open("rb") as file:
        marks = {} if file.read(2) == b"P5" else marks_of(path)
    _check_marks(path, marked=bool(marks), seen=marks.get("Visible-Mark") == "YES", genuine=genuine)
    return reading.full(), reading.bits


def _check_marks(path: Path, *, marked: bool, seen: bool, genuine: bool) -> None:
    if genuine and marked:
        raise InputError(
            "its metadata say that it was modified", str(path), "take it out of the genuine pictures"
        )
    if seen:
        raise InputError(_MARKED[0], str(path), _MARKED[1])


def _stored(path: Path) -> NDArray[np.int32]:
    from scanward.mammography.dicom_pixels import read_stored

    with path.open("rb") as file:
        dicom = file.read(132)[128:] == b"DICM"
    return read_stored(path).values if dicom else read_mammogram(path).pixels.astype(np.int32)
