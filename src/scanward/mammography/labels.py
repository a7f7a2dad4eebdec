"""The table of labels that comes with a plain folder of mammograms: one row per image, or per lesion of an image."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError
from scanward.mammography.manifest import Label, Lesion, LesionKind

COLUMNS = {
    "image": "path below the folder, or file name where it is the only one of that name",
    "SOPInstanceUID": "instead of image, for DICOM",
    "patient": "any identifier of the woman; may be empty for DICOM, which has its own",
    "label": "normal, benign, malignant or unknown",
    "laterality": "L or R",
    "view": "CC, MLO or another code",
    "birads": "0 to 6",
    "density": "a to d, or 1 to 4",
    "x": "centre of a lesion, pixels from the left of the picture as its file has it",
    "y": "centre of a lesion, pixels from the top",
    "radius": "of a circle round the lesion, pixels",
    "kind": "of the lesion: mass, calcification, asymmetry, architectural distortion or other",
    "lesion_label": "of the lesion; without it that of the image",
}
_KEYS = ("image", "SOPInstanceUID")


@dataclass(slots=True, kw_only=True)
class Row:
    """What the table says of one image; ``lines`` are the lines of the file that say it."""

    key: str
    lines: list[int]
    patient: str = ""
    label: Label = Label.UNKNOWN
    laterality: str | None = None
    view: str | None = None
    birads: int | None = None
    density: str | None = None
    lesions: list[Lesion] = field(default_factory=list)


def read_labels(path: Path) -> dict[str, Row]:
    """The rows of a table by ``image`` or ``SOPInstanceUID``; several rows of one image are its lesions.

    Raises
    ------
    InputError
        No such file, too large, no header that names the image, an unknown column, a value that makes no sense, or
        two rows that contradict each other. The message gives the line and never what stands in ``patient``.
    """
    try:
        if path.stat().st_size > MAMMOGRAPHY_BOUNDS.table_bytes:
            raise InputError(
                f"larger than {MAMMOGRAPHY_BOUNDS.table_bytes} bytes", str(path), "this is no table of labels"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"the labels cannot be read: {error.strerror}", str(path), "check the path"
        ) from None
    except UnicodeDecodeError:
        raise InputError("the labels are not UTF-8", str(path), "save the table as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: dict[str, Row] = {}
    try:
        key = _key_column(reader.fieldnames or (), path)
        for record in reader:
            _take(rows, record, key, reader.line_num, path)
    except csv.Error as error:
        raise InputError(
            f"not CSV: {error}", f"{path} line {reader.line_num}", "save the table as CSV"
        ) from None
    return rows


def _key_column(names: object, path: Path) -> str:
    given = [str(name) for name in names] if isinstance(names, list | tuple) else []
    unknown = [name for name in given if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"unknown column {unknown[0][:40]!r}", str(path), f"the columns are {', '.join(COLUMNS)}"
        )
    if len(set(given)) != len(given):
        raise InputError("a column is there twice", str(path), "keep one of them")
    keys = [name for name in _KEYS if name in given]
    if len(keys) != 1:
        raise InputError(
            "the labels need one column image or SOPInstanceUID", str(path), "name it in the first line"
        )
    return keys[0]


def _take(rows: dict[str, Row], record: dict[str, str], key: str, line: int, path: Path) -> None:
    where = f"{path} line {line}"
    if None in record or None in record.values():
        raise InputError(
            "a row with more or fewer values than the first line", where, "give every column a value"
        )
    said = {name: value.strip() for name, value in record.items()}
    name = said[key]
    if not name:
        raise InputError(f"no {key}", where, "name the image")
    row = Row(
        key=name,
        lines=[line],
        patient=said.get("patient", ""),
        label=_label(said.get("label", ""), where),
        laterality=_choice(said, "laterality", ("L", "R"), where),
        view=_view(said.get("view", ""), where),
        birads=_birads(said.get("birads", ""), where),
        density=said.get("density", "")[:16] or None,
    )
    lesion = _lesion(said, row.label, where)
    row.lesions = [] if lesion is None else [lesion]
    before = rows.get(name)
    if before is None:
        if len(rows) >= MAMMOGRAPHY_BOUNDS.images:
            raise InputError(f"more than {MAMMOGRAPHY_BOUNDS.images} images", where, "split the table")
        rows[name] = row
        return
    same = ("patient", "label", "laterality", "view", "birads", "density")
    for field_name in same:
        if getattr(before, field_name) != getattr(row, field_name):
            raise InputError(
                f"another {field_name} than line {before.lines[0]} has for the same image",
                where,
                "decide which is right",
            )
    if lesion is None or not before.lesions:
        raise InputError(
            f"the image is there twice (line {before.lines[0]})", where, "further rows are for lesions"
        )
    if len(before.lesions) >= MAMMOGRAPHY_BOUNDS.lesions:
        raise InputError(
            f"more than {MAMMOGRAPHY_BOUNDS.lesions} lesions of one image", where, "check the table"
        )
    before.lesions.append(lesion)
    before.lines.append(line)


def _label(text: str, where: str) -> Label:
    try:
        return Label(text.lower()) if text else Label.UNKNOWN
    except ValueError:
        raise InputError(
            f"label {text[:40]!r}", where, f"one of {', '.join(one.value for one in Label)}"
        ) from None


def _choice(said: dict[str, str], column: str, choices: tuple[str, ...], where: str) -> str | None:
    text = said.get(column, "").upper()
    if not text:
        return None
    if text not in choices:
        raise InputError(f"{column} {text[:40]!r}", where, f"one of {', '.join(choices)}")
    return text


def _view(text: str, where: str) -> str | None:
    if not text:
        return None
    if not text.isalnum() or not text.isascii() or len(text) > 16:
        raise InputError(f"view {text[:40]!r}", where, "a code like CC or MLO")
    return text.upper()


def _birads(text: str, where: str) -> int | None:
    if not text:
        return None
    if text not in ("0", "1", "2", "3", "4", "5", "6"):
        raise InputError(f"birads {text[:40]!r}", where, "0 to 6")
    return int(text)


def _lesion(said: dict[str, str], label: Label, where: str) -> Lesion | None:
    """The lesion of a row; None where its columns are empty."""
    place = [said.get(name, "") for name in ("x", "y", "radius")]
    kind, own = said.get("kind", ""), said.get("lesion_label", "")
    if not any((*place, kind, own)):
        return None
    try:
        which = LesionKind(kind.lower()) if kind else LesionKind.OTHER
    except ValueError:
        raise InputError(
            f"kind {kind[:40]!r}", where, f"one of {', '.join(one.value for one in LesionKind)}"
        ) from None
    circle = None
    if any(place):
        try:
            x, y, radius = (float(text) for text in place)
        except ValueError:
            raise InputError(
                "x, y and radius are not three numbers", where, "give all three or none"
            ) from None
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(radius)) or radius < 0:
            raise InputError(
                "x, y and radius make no circle", where, "give numbers, the radius from 0"
            ) from None
        circle = (x, y, radius)
    return Lesion(kind=which, label=_label(own, where) if own else label, circle=circle)
