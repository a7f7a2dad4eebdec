"""The plain kinds: a folder of DICOM mammograms, a folder of PNG, TIFF or PGM pictures, and a table of labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.dicom_headers import facts_of, open_dicom
from scanward.mammography.labels import Row, read_labels
from scanward.mammography.manifest import Label
from scanward.mammography.sources import Found, Strange

PICTURES = frozenset({".png", ".tif", ".tiff", ".pgm"})


def files_below(folder: Path) -> list[Path]:
    """Every regular file below a folder, in order of its name; links to folders and hidden files are left out.

    Raises
    ------
    InputError
        No such folder, or more files than any data set has.
    """
    if not folder.is_dir():
        raise InputError("no such folder", str(folder), "name the folder that holds the data set")
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or not path.is_file():
                continue
            if len(found) >= MAMMOGRAPHY_BOUNDS.images:
                raise InputError(
                    f"more than {MAMMOGRAPHY_BOUNDS.images} files", str(folder), "import it in parts"
                )
            found.append(path)
    return found


def read_dicom(folder: Path, *, labels: Path | None = None) -> Iterator[Found | Strange]:
    """Every DICOM mammogram below ``folder``; labels by SOPInstanceUID or by path, unknown where the table is silent.

    Files that are no DICOM at all (DICOMDIR's companions, notes) are only remarked upon; DICOM that is no mammogram
    is rejected.
    """
    table = read_labels(labels) if labels else {}
    own = labels.resolve() if labels else None
    paths = [path for path in files_below(folder) if path.resolve() != own]
    names = _Names(table, folder, paths)
    for path in paths:
        where = _below(folder, path)
        try:
            if not _is_dicom(path):
                yield Strange(what="no DICOM file", where=where, why="left alone", fate="remark")
                continue
            ds = open_dicom(path, pixels=False)
            facts = facts_of(ds, path)
        except DecodeError as error:
            yield Strange(what="unreadable", where=where, why=error.what)
            continue
        if facts.modality == "" and "PixelData" not in ds and "Rows" not in ds:  # DICOMDIR and the like
            yield Strange(what="no image", where=where, why="left alone", fate="remark")
            continue
        if facts.modality != "MG":
            shown = facts.modality if facts.modality.isalnum() and len(facts.modality) <= 16 else "missing"
            yield Strange(what="no mammogram", where=where, why=f"its modality is {shown}, not MG")
            continue
        row = table.get(facts.instance) or names.row(path)
        if row is not None:
            names.met(row)
        patient = row.patient if row is not None and row.patient else facts.patient
        if not patient:
            yield Strange(
                what="no patient", where=where, why="splits are by patient: name her in the table of labels"
            )
            continue
        yield _found(path, where, patient, row)
    yield from names.missing()


def read_pictures(folder: Path, *, labels: Path) -> Iterator[Found | Strange]:
    """Every PNG, TIFF and PGM below ``folder`` with its row of the table ``labels``; one without a row is rejected."""
    table = read_labels(labels)
    paths = [path for path in files_below(folder) if path.suffix.lower() in PICTURES]
    names = _Names(table, folder, paths)
    for path in paths:
        where = _below(folder, path)
        row = names.row(path)
        if row is None:
            yield Strange(what="no label", where=where, why="the table of labels has no row for it")
            continue
        names.met(row)
        if not row.patient:
            yield Strange(what="no patient", where=where, why="splits are by patient: name her in the table")
            continue
        yield _found(path, where, row.patient, row)
    yield from names.missing()


def _found(path: Path, where: str, patient: str, row: Row | None) -> Found:
    if row is None:
        return Found(name=where, path=path, patient=patient, label=Label.UNKNOWN)
    return Found(
        name=where,
        path=path,
        patient=patient,
        label=row.label,
        laterality=row.laterality,
        view=row.view,
        birads=row.birads,
        density=row.density,
        lesions=tuple(row.lesions),
    )


class _Names:
    """Rows of the table by path below the folder, or by bare file name where only one file has it."""

    def __init__(self, table: dict[str, Row], folder: Path, paths: list[Path]) -> None:
        self._table, self._folder = table, folder
        self._often = Counter(path.name for path in paths)
        self._met: set[str] = set()

    def row(self, path: Path) -> Row | None:
        """The row that names this file, if any."""
        found = self._table.get(_below(self._folder, path))
        if found is None and self._often[path.name] == 1:
            found = self._table.get(path.name)
        return found

    def met(self, row: Row) -> None:
        """Remember that a row has its file."""
        self._met.add(row.key)

    def missing(self) -> Iterator[Strange]:
        """Every row without a file."""
        for key, row in self._table.items():
            if key not in self._met:
                yield Strange(
                    what="no file", where=key, why=f"line {row.lines[0]} of the labels", fate="missing"
                )


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror}", str(path), "check permissions") from None
