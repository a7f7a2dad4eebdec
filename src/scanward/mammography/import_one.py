"""One picture of a source, brought into a data set: read, turned, segmented, written. Runs in a process of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError, ScanwardError
from scanward.mammography.breast import segment
from scanward.mammography.dicom_headers import Facts
from scanward.mammography.manifest import Image, Lesion, pixels_hash
from scanward.mammography.orient import Side, chest_wall, mirrored, mirrored_lesion
from scanward.mammography.pictures import Mask, lesion_mask, write_picture
from scanward.mammography.readers import Curves, Reading, read_mammogram
from scanward.mammography.sources import Found

_CHUNK = 1 << 20  # bytes hashed at a time


class OutputError(InputError):
    """The data set cannot be written: the import ends, unlike for one bad picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One picture to bring: ``found`` with the name and patient it is to have in ``out``."""

    found: Found
    out: Path
    source: str  # what the manifest calls the file; empty where its name may tell too much
    curves: Curves = "curves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What became of a job: the image, or why it was left out."""

    image: Image | None = None
    why: str = ""


def bring(job: Job) -> Brought:
    """Read, turn, segment and write one picture; what is wrong with it is told, never raised.

    Raises
    ------
    OutputError
        Nothing can be written (disk full, no permission): that is nobody's picture's fault.
    """
    found = job.found
    try:
        reading = read_mammogram(found.path, curves=job.curves)
        source_sha256 = _file_hash(found.path)
    except ScanwardError as error:
        return Brought(why=error.what)
    except MemoryError:
        return Brought(why="more memory than there is")
    facts = reading.facts
    remarks = [*found.remarks, *reading.remarks]
    if negative(reading):
        if reading.known:
            remarks.append("bright background: its photometric interpretation may be wrong")
        else:
            turned = reading.pixels.dtype.type((1 << reading.bits) - 1) - reading.pixels
            reading = replace(reading, pixels=turned, inverted=not reading.inverted)
            remarks.append("bright background: taken for a negative and turned round")
    pixels = reading.full()
    breast = segment(pixels)
    if not breast.any():
        return Brought(why="no breast found: the picture is empty, or nothing stands out from its background")
    laterality = found.laterality or facts.laterality
    if found.laterality and facts.laterality and found.laterality != facts.laterality:
        remarks.append(f"laterality {found.laterality} by the source, {facts.laterality} by the header")
    view = found.view or facts.view
    if found.view and facts.view and found.view != facts.view:
        remarks.append(f"view {found.view} by the source, {facts.view} by the header")
    left, said = on_the_left(chest_wall(breast), facts, laterality)
    remarks += said
    lesions, said = _placed(found, pixels.shape)
    remarks += said
    columns = pixels.shape[1]
    if not left:
        pixels, breast = mirrored(pixels), mirrored(breast)
        lesions = [(mirrored_lesion(one, columns), None if r is None else mirrored(r)) for one, r in lesions]
    remarks += _outside(lesions, breast)
    image = Image(
        name=found.name,
        patient=found.patient,
        label=found.label,
        file=f"images/{found.name}.png",
        breast=f"breast/{found.name}.png",
        rows=pixels.shape[0],
        columns=columns,
        sha256=pixels_hash(pixels.tobytes()),
        source=job.source,
        source_sha256=source_sha256,
        laterality=laterality,
        view=view,
        birads=found.birads,
        density=found.density,
        bits=reading.bits,
        spacing=found.spacing or facts.spacing,
        mirrored=not left,
        inverted=reading.inverted,
        partition=found.partition,
        lesions=tuple(one for one, _ in _named(lesions, found.name)),
        remarks=tuple(dict.fromkeys(remarks)),
    )
    with writing(job.out):
        write_picture(job.out / image.file, pixels)
        write_picture(job.out / image.breast, breast)
        for lesion, raster in _named(lesions, found.name):
            if raster is not None and lesion.raster is not None:
                write_picture(job.out / lesion.raster, raster)
    return Brought(image=image)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Whatever the disk refuses becomes an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the data set cannot be written: {error.strerror}",
            str(out),
            "make room, or choose another folder",
        ) from error


def negative(reading: Reading) -> bool:
    """Whether the frame of the picture is bright and its middle darker: a mammogram's frame is mostly background."""
    pixels = reading.pixels
    rim = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    rows, columns = pixels.shape
    middle = pixels[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    most = (1 << reading.bits) - 1
    return bool(np.median(rim) >= 0.7 * most and np.median(rim) > np.median(middle))


def on_the_left(side: Side, facts: Facts, laterality: str | None) -> tuple[bool, list[str]]:
    """Whether the chest wall is on the left: by the picture where it tells clearly; and what contradicts.

    By convention (PS3.3 C.8.11.7.1.3 leaves it to PatientOrientation) a right breast is stored with the chest wall
    on the right, a left one with it on the left.
    """
    by_header = {"right": True, "left": False}.get(facts.anterior or "")
    by_side = {"L": True, "R": False}.get(laterality or "")
    told = by_header if by_header is not None else by_side
    where = "left" if side.left else "right"
    if told is None:
        return side.left, [] if side.sure else [
            f"chest wall taken to be on the {where}: hardly anything tells"
        ]
    if told == side.left:
        return told, []
    by = "PatientOrientation" if by_header is not None else "laterality"
    if side.sure:
        return side.left, [f"chest wall on the {where}, against its {by}"]
    return told, [f"chest wall perhaps on the {where}, but turned by its {by}"]


def _placed(found: Found, shape: tuple[int, ...]) -> tuple[list[tuple[Lesion, Mask | None]], list[str]]:
    """The lesions of a source, each with its raster where it has one, in pixels of the file; and remarks.

    A raster that cannot be used leaves its lesion without a place: the picture is none the worse.
    """
    placed: list[tuple[Lesion, Mask | None]] = [(lesion, None) for lesion in found.lesions]
    remarks = []
    for path, lesion in found.rasters:
        try:
            placed.append((lesion, read_raster(path, (shape[0], shape[1]))))
        except InputError as error:
            placed.append((lesion, None))
            remarks.append(f"the place of a lesion is not known, its raster: {error.what}")
    if len(placed) > MAMMOGRAPHY_BOUNDS.lesions:
        remarks.append(f"{len(placed)} lesions: only {MAMMOGRAPHY_BOUNDS.lesions} are kept")
    return placed[: MAMMOGRAPHY_BOUNDS.lesions], remarks


def read_raster(path: Path, shape: tuple[int, int]) -> Mask:
    """A lesion picture as a mask of ``shape``, scaled to it (nearest pixel) where it has another size.

    Raises
    ------
    DecodeError
        Unreadable, empty, or of other proportions than the picture (by more than a hundredth).
    """
    raster = read_mammogram(path, curves="none").pixels > 0
    if not raster.any():
        raise DecodeError("it is empty", str(path), "check the source")
    if raster.shape == shape:
        return raster
    down, right = raster.shape[0] / shape[0], raster.shape[1] / shape[1]
    if abs(down / right - 1) > 0.01:
        raise DecodeError("its proportions are not those of the picture", str(path), "check the source")
    rows = np.minimum((np.arange(shape[0]) + 0.5) * down, raster.shape[0] - 1).astype(np.int64)
    columns = np.minimum((np.arange(shape[1]) + 0.5) * right, raster.shape[1] - 1).astype(np.int64)
    return raster[np.ix_(rows, columns)]


def _named(lesions: list[tuple[Lesion, Mask | None]], name: str) -> Iterator[tuple[Lesion, Mask | None]]:
    """Lesions that say where their raster lies."""
    for number, (lesion, raster) in enumerate(lesions, start=1):
        if raster is None:
            yield lesion, None
        else:
            yield msgspec.structs.replace(lesion, raster=f"lesions/{name}-{number}.png"), raster


def _outside(lesions: list[tuple[Lesion, Mask | None]], breast: Mask) -> list[str]:
    """A remark where a lesion's place and the breast have no pixel in common."""
    for lesion, raster in lesions:
        drawn = lesion_mask(lesion, (breast.shape[0], breast.shape[1])) if raster is None else raster
        if lesion.circle or lesion.outline or raster is not None:
            if not drawn.any():
                return ["a lesion lies outside the picture"]
            if not (drawn & breast).any():
                return ["a lesion lies outside the breast"]
    return []


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the disk") from None
    return digest.hexdigest()
