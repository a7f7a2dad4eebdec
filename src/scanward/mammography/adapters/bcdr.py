"""BCDR: the Breast Cancer Digital Repository of Porto (Moura and Lopez, Int J CARS 2013;8:561-574).

Layout as published: folders such as ``BCDR-D01_dataset`` or ``BCDR-F01_dataset`` with ``bcdr_d01_img.csv`` (an image
a row), ``bcdr_d01_outlines.csv`` (a segmented lesion a row) and TIFF pictures at
``patient_3/study_3/img_3_3_1_RCC.tif`` as the tables name them. The folder given may be one of these, or hold several.
A folder without ``_img.csv`` (BCDR-F03) is read by its outlines alone. ``bcdr_d01_features.csv`` holds measures of
what the outlines hold, and is not read. Cells have leading and trailing blanks and ``NaN``. Columns as in
https://github.com/BreastGAN/experiment1 (``bcdr`` reader).

View: ``image_type_name`` (RCC, LCC, RO, LO) of the images; ``image_view`` 1 to 4 of the outlines, and
``image_type_id`` 0 to 3 of the images, count the same four. RO and LO are MLO.

Label: by ``classification`` of the outlined lesions ("Benign", "Malign"). An image without outlines is normal, as the
study of 2019 took it, unless another view of the same breast in the same study has one: then it is unknown.
Patients' numbers are taken to be the same in all parts, so that no woman is in two parts of a split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    clean_name,
    files_below,
    number,
    read_table,
    relative_path,
    unique_names,
    whole,
    worst,
)
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Found, Kind, Strange

IMAGES = ("patient_id", "study_id", "image_filename", "image_type_name")
OUTLINES = ("patient_id", "study_id", "lesion_id", "image_view", "image_filename", "lw_x_points", "lw_y_points",
            "classification")  # fmt: skip
FLAGS = (
    ("mammography_nodule", LesionKind.MASS, "nodule"),
    ("mammography_calcification", LesionKind.CALCIFICATION, "calcification"),
    ("mammography_microcalcification", LesionKind.CALCIFICATION, "microcalcification"),
    ("mammography_architectural_distortion", LesionKind.DISTORTION, "architectural distortion"),
    ("mammography_stroma_distortion", LesionKind.DISTORTION, "stroma distortion"),
    ("mammography_axillary_adenopathy", LesionKind.OTHER, "axillary adenopathy"),
)
VIEWS = ("RCC", "LCC", "RO", "LO")  # image_view counts from 1, image_type_id from 0
LABELS = {"benign": Label.BENIGN, "malign": Label.MALIGNANT, "malignant": Label.MALIGNANT}
_TABLE = re.compile(r"(bcdr_?[a-z]{1,2}\d{2})_(img|outlines)\.csv", re.IGNORECASE | re.ASCII)


@dataclass(slots=True)
class Part:
    """One of the sets, as BCDR-D01: its name and its tables."""

    name: str
    folder: Path
    images: Path | None = None
    outlines: Path | None = None


@dataclass(slots=True)
class Picture:
    """One picture of a part, gathered out of both tables."""

    where: str
    patient: str
    study: str
    view: str
    density: str = ""
    age: str = ""
    lesions: list[Lesion] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    wrong: str = ""


def find_parts(src: Path) -> list[Part]:
    """The sets in a folder, or in the folders below it, by the names of their tables."""
    parts: dict[tuple[Path, str], Part] = {}
    for path in files_below(src, (".csv",)):
        named = _TABLE.fullmatch(path.name)
        if named is None:
            continue
        name = named[1].lower()
        part = parts.setdefault((path.parent, name), Part(name.removeprefix("bcdr").strip("_"), path.parent))
        if named[2].lower() == "img":
            part.images = path
        else:
            part.outlines = path
    return list(parts.values())


def read_points(xs: str, ys: str) -> tuple[tuple[float, float], ...]:
    """An outline out of two cells of numbers apart by blanks.

    Raises
    ------
    ValueError
        None, not as many x as y, not numbers, or too many; it says which.
    """
    across, down = xs.split(), ys.split()
    if not across or not down or across == ["NaN"] or down == ["NaN"]:
        raise ValueError("no outline")
    if len(across) != len(down):
        raise ValueError(f"an outline of {len(across)} x and {len(down)} y")
    if len(across) > MAMMOGRAPHY_BOUNDS.outline_points:
        raise ValueError(f"an outline of more than {MAMMOGRAPHY_BOUNDS.outline_points} points")
    found: list[tuple[float, float]] = []
    for x, y in zip(across, down, strict=True):
        place = number(x), number(y)
        if place[0] is None or place[1] is None:
            raise ValueError("an outline that is not numbers")
        found.append((place[0], place[1]))
    return tuple(found)


def read(src: Path) -> Iterator[Found | Strange]:
    """BCDR, one part or several.

    Raises
    ------
    InputError
        No table named as above, or one that lacks a column.
    """
    parts = find_parts(src)
    if not parts:
        raise InputError(
            "not a BCDR folder: no table like bcdr_d01_img.csv",
            str(src),
            "bcdr_d01_img.csv and bcdr_d01_outlines.csv are looked for, here and in folders below",
        )
    yield from unique_names(_read_parts(src, parts))


def _read_parts(src: Path, parts: list[Part]) -> Iterator[Found | Strange]:
    listed: set[str] = set()
    for part in parts:
        pictures: dict[str, Picture] = {}
        yield from _read_part(part, pictures)
        listed |= {(part.folder / key).as_posix().lower() for key in pictures}
    for path in files_below(src, (".tif", ".tiff")):
        if path.as_posix().lower() not in listed:
            where = path.relative_to(src).as_posix()
            yield Strange(what=path.stem, where=where, why="no table lists it: no label")


def _read_part(part: Part, pictures: dict[str, Picture]) -> Iterator[Found | Strange]:
    if part.images is not None:
        table = read_table(part.images, IMAGES, optional=("image_type_id", "density", "age"))
        yield from table.strange
        for row in table.rows:
            yield from _add_image(row, table, pictures)
    if part.outlines is not None:
        table = read_table(part.outlines, OUTLINES, optional=(*(flag for flag, _, _ in FLAGS), "density"))
        yield from table.strange
        seen: set[tuple[tuple[str, str], ...]] = set()
        for row in table.rows:
            cells = tuple(sorted(row.cells.items()))
            if cells in seen:
                what, why = _key(row) or "odd row", "the row is there twice"
                yield Strange(what=what, where=table.where(row), why=why, fate="remark")
                continue
            seen.add(cells)
            yield from _add_outline(row, table, pictures, alone=part.images is None)
    outlined = {
        (picture.patient, picture.study, picture.view[:1]) for picture in pictures.values() if picture.lesions
    }
    for key, picture in pictures.items():
        beside = (picture.patient, picture.study, picture.view[:1]) in outlined
        yield _finish(part, key, picture, beside=beside)


def _key(row: Row) -> str:
    """A picture's path as both tables name it, empty when it is no path."""
    path = relative_path(row["image_filename"])
    return path.as_posix() if path else ""


def _add_image(row: Row, table: Table, pictures: dict[str, Picture]) -> Iterator[Strange]:
    key, where = _key(row), table.where(row)
    if not key:
        why = f"image_filename {row['image_filename'][:60]!r} is no path"
        yield Strange(what="odd row", where=where, why=why)
        return
    if key in pictures:
        yield Strange(what=key, where=where, why="listed twice: the first row counts", fate="remark")
        return
    view = row["image_type_name"].upper()
    code = whole(row["image_type_id"])
    picture = Picture(where, row["patient_id"], row["study_id"], view, density=row["density"], age=row["age"])
    if view not in VIEWS:
        picture.wrong = f"image_type_name {view[:20]!r} is none of {', '.join(VIEWS)}"
    elif code is not None and (code > 3 or code < 0 or VIEWS[code] != view):
        picture.remarks.append(f"image_type_id {code} does not say {view}: the name counts")
    if whole(picture.patient) is None:
        picture.wrong = f"patient_id {picture.patient[:20]!r} is no number"
    pictures[key] = picture


def _add_outline(row: Row, table: Table, pictures: dict[str, Picture], *, alone: bool) -> Iterator[Strange]:
    key, where = _key(row), table.where(row)
    code = whole(row["image_view"])
    view = VIEWS[code - 1] if code is not None and 1 <= code <= 4 else ""
    picture = pictures.get(key)
    if picture is None:
        if not alone or not key:
            why = "an outline of an image that the list of images lacks"
            yield Strange(what=key or "odd row", where=where, why=why, fate="remark")
            return
        picture = pictures[key] = Picture(
            where, row["patient_id"], row["study_id"], view, density=row["density"]
        )
        if not view:
            picture.wrong = f"image_view {row['image_view'][:20]!r} is none of 1 to 4"
        if whole(picture.patient) is None:
            picture.wrong = f"patient_id {picture.patient[:20]!r} is no number"
    if row["patient_id"] != picture.patient:
        picture.wrong = "the tables give it two patients"
    if view != picture.view:
        picture.remarks.append(
            f"image_view {row['image_view'][:20]!r} of an outline does not say {picture.view}"
        )
    label = LABELS.get(row["classification"].lower(), Label.UNKNOWN)
    if label is Label.UNKNOWN:
        picture.remarks.append(f"classification {row['classification'][:20]!r} is neither Benign nor Malign")
    kinds = [(kind, name) for flag, kind, name in FLAGS if whole(row[flag]) == 1]
    outline: tuple[tuple[float, float], ...] = ()
    try:
        outline = read_points(row["lw_x_points"], row["lw_y_points"])
    except ValueError as error:
        picture.remarks.append(f"lesion {row['lesion_id'][:20]}: {error}, its place is unknown")
    if len(picture.lesions) >= MAMMOGRAPHY_BOUNDS.lesions:
        picture.wrong = f"more than {MAMMOGRAPHY_BOUNDS.lesions} lesions"
        return
    picture.labels.append(label)
    picture.lesions.append(
        Lesion(
            kind=kinds[0][0] if kinds else LesionKind.OTHER,
            label=label,
            outline=outline,
            note=f"lesion {row['lesion_id'][:20]}: {', '.join(name for _, name in kinds) or 'not described'}",
        )
    )


def _finish(part: Part, key: str, picture: Picture, *, beside: bool) -> Found | Strange:
    """A picture of both tables as found, missing or left out."""
    name = clean_name(f"{part.name}-{key.rsplit('.', 1)[0].rsplit('/', 1)[-1]}")
    if picture.wrong:
        return Strange(what=name, where=picture.where, why=picture.wrong)
    path = part.folder / key
    if not path.is_file():
        return Strange(what=name, where=picture.where, why=f"no such picture: {key}", fate="missing")
    label, remarks = worst(picture.labels), list(dict.fromkeys(picture.remarks))
    if not picture.lesions:
        label = Label.UNKNOWN if beside else Label.NORMAL
        if beside:
            remarks.append("no outline here, but one in another view of this breast")
    return Found(
        name=name,
        path=path,
        patient=f"bcdr-{picture.patient}",
        label=label,
        laterality=picture.view[:1],
        view="CC" if picture.view.endswith("CC") else "MLO",
        density=f"ACR {picture.density}" if picture.density in ("1", "2", "3", "4") else None,
        lesions=tuple(picture.lesions),
        remarks=tuple(remarks),
    )


BCDR = Kind(
    name="bcdr",
    title="BCDR, films (F01 to F03) and digital mammograms (D01, D02, DN01)",
    read=read,
    licence="research only, for registered users of the repository",
    cite="D. C. Moura, M. A. Guevara Lopez (2013), An evaluation of image descriptors combined with clinical data, "
    "Int J CARS 8:561",
    layout="bcdr_d01_img.csv, bcdr_d01_outlines.csv and patient_*/study_*/*.tif, here or in folders below",
)
