"""``truth.csv``: what the pictures of a plain folder are, one row a picture."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scanward.config import STUDY_BOUNDS
from scanward.errors import InputError
from scanward.reading.protocol import Modification, Pathology

TABLE = "truth.csv"
COLUMNS = {
    "file": "path of the picture below the folder: PNG, TIFF, PGM or DICOM",
    "patient": "any identifier of the woman; genuine pictures need it",
    "pathology": "cancer or no cancer, of the original (malignant, benign and normal are understood); genuine "
    "pictures need it",
    "case": "a name that a genuine picture and its modified twin have in common; without it the file's path",
    "modification": "of modified pictures: insert or remove; without it what the original's pathology says",
}
_PATHOLOGY = {
    "cancer": Pathology.CANCER,
    "malignant": Pathology.CANCER,
    "no cancer": Pathology.NO_CANCER,
    "normal": Pathology.NO_CANCER,
    "benign": Pathology.NO_CANCER,
    "": None,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a plain folder. ``where`` is the table's line."""

    file: str
    case: str
    patient: str
    pathology: Pathology | None
    modification: Modification | None
    where: str


def read_table(folder: Path, *, genuine: bool) -> list[Row]:
    """The rows of a folder's table.

    Raises
    ------
    InputError
        None there, too large, not CSV, unknown columns, a value that makes no sense, a file or case twice, a path that
        leads out of the folder. The message gives the line and never what stands in ``patient``.
    """
    path = folder / TABLE
    try:
        if path.stat().st_size > STUDY_BOUNDS.table_bytes:
            raise InputError(
                f"larger than {STUDY_BOUNDS.table_bytes} bytes", str(path), "this is no table of a study"
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            "neither a data set nor a folder with truth.csv",
            str(folder),
            "give a data set (manifest.json), an output of scanward tamper (tampered.json), or pictures with a "
            f"{TABLE} of the columns file, patient, pathology",
        ) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8", str(path), "save the table as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    files: set[str] = set()
    cases: set[str] = set()
    try:
        _check_columns(
            list(reader.fieldnames or ()), path, ("file", "patient", "pathology")[: 3 if genuine else 1]
        )
        for record in reader:
            row = _row(record, f"{path}, line {reader.line_num}", genuine=genuine)
            if row.file in files or row.case in cases:
                raise InputError("the same file or case twice", row.where, "give every picture one row")
            files.add(row.file)
            cases.add(row.case)
            rows.append(row)
    except csv.Error as error:
        raise InputError(
            f"not CSV: {error}", f"{path}, line {reader.line_num}", "save the table as CSV"
        ) from error
    if not rows:
        raise InputError("no picture in the table", str(path), "give one row a picture")
    return rows


def _check_columns(given: list[str], path: Path, needed: tuple[str, ...]) -> None:
    for name in given:
        if name not in COLUMNS:
            raise InputError(
                f"unknown column {name[:40]!r}", f"{path}, line 1", f"the columns are {', '.join(COLUMNS)}"
            )
    if len(set(given)) != len(given):
        raise InputError("a column is there twice", f"{path}, line 1", "keep one of them")
    missing = [name for name in needed if name not in given]
    if missing:
        raise InputError(f"no column {missing[0]}", f"{path}, line 1", f"give {', '.join(needed)}")


def _row(record: dict[str, str], where: str, *, genuine: bool) -> Row:
    if None in record or None in record.values():
        raise InputError(
            "a row with more or fewer values than the first line", where, "give every column a value"
        )
    said = {name: value.strip() for name, value in record.items()}
    file = said["file"]
    pure = PurePosixPath(file)
    if not file or pure.is_absolute() or ".." in pure.parts or "\\" in file or "\0" in file:
        raise InputError(f"{file[:60]!r} is no path below the folder", where, "name a file of this folder")
    pathology = said.get("pathology", "").lower()
    if pathology not in _PATHOLOGY or (genuine and not pathology):
        raise InputError(f"pathology {pathology[:40]!r}", where, "give cancer or no cancer")
    modification = said.get("modification", "").lower()
    if modification not in ("", "insert", "remove") or (genuine and modification):
        raise InputError(
            f"modification {modification[:40]!r}",
            where,
            "leave it empty: these are genuine" if genuine else "give insert or remove",
        )
    if genuine and not said["patient"]:
        raise InputError("no patient", where, "studies are balanced by patient: name her")
    return Row(
        file=file,
        case=said.get("case", "") or file,
        patient=said.get("patient", ""),
        pathology=_PATHOLOGY[pathology],
        modification=Modification(modification) if modification else None,
        where=where,
    )
