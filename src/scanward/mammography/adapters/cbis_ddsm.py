"""CBIS-DDSM: 3,103 digitised films of 1,566 women (Lee et al., Scientific Data 2017;4:170177; The Cancer Imaging
Archive, 10.7937/K9/TCIA.2016.7O02S9CY).

Layout as published: four lists, ``mass_case_description_train_set.csv``, ``..._test_set.csv`` and the same for
``calc``, an abnormality a row; and DICOM files in folders that are named for the film and for each abnormality:
``Mass-Training_P_00001_LEFT_CC`` and ``Mass-Training_P_00001_LEFT_CC_1``, with UIDs below (the lists' paths) or as
the NBIA downloader names them (``07-20-2016-DDSM-NA-30678/1.000000-full mammogram images-24515/1-1.dcm``). Where
folders are named by UIDs alone, the downloader's ``metadata.csv`` tells whose they are.

The lists' paths are not followed: they hold UIDs that the downloader does not use, line feeds, and in many rows
mask and cropped picture exchanged. Of the files in an abnormality's folder the one of the film's size is the mask.

Label: by biopsy or follow-up (``pathology``), the film's by its worst abnormality. A film that is in both the
mass and the calcification lists is one image. ``partition`` is that of the lists; a woman in both is reported.
Columns as in https://github.com/lishen/end2end-all-conv and at the archive's page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    files_below,
    find_list,
    read_table,
    relative_path,
    unique_names,
    whole,
    worst,
)
from scanward.mammography.dicom_headers import open_dicom, whole_of
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Fate, Found, Kind, Strange

LISTS = (
    ("mass_case_description_train_set.csv", "train"),
    ("mass_case_description_test_set.csv", "test"),
    ("calc_case_description_train_set.csv", "train"),
    ("calc_case_description_test_set.csv", "test"),
)
NEEDED = ("patient_id", "left_or_right_breast", "image_view", "abnormality_id", "abnormality_type", "assessment",
          "pathology", "image_file_path")  # fmt: skip
OPTIONAL = ("breast_density", "mass_shape", "mass_margins", "calc_type", "calc_distribution", "subtlety",
            "roi_mask_file_path", "cropped_image_file_path")  # fmt: skip
LABELS = {
    "MALIGNANT": Label.MALIGNANT,
    "BENIGN": Label.BENIGN,
    "BENIGN_WITHOUT_CALLBACK": Label.BENIGN,
}
SIDES = {"LEFT": "L", "RIGHT": "R"}
ASYMMETRIES = ("ASYMMETRIC_BREAST_TISSUE", "FOCAL_ASYMMETRIC_DENSITY")
ALIKE = 0.01  # by which a mask's proportions may differ from its film's
_FOLDER = re.compile(
    r"(Mass|Calc)-(Training|Test)_(P_\d{5})_(LEFT|RIGHT)_(CC|MLO)(?:_(\d{1,3}))?", re.IGNORECASE | re.ASCII
)

Series = dict[str, list[Path]]  # DICOM files by the name of their film or abnormality
Size = tuple[int, int]  # rows, columns


@dataclass(slots=True)
class Abnormality:
    """One row: its lesion, the folder of its mask, and where it is listed."""

    lesion: Lesion
    folder: str
    number: int


@dataclass(slots=True)
class Film:
    """One film, gathered out of all its rows."""

    patient: str
    side: str
    view: str
    where: str
    folders: list[str] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    abnormalities: list[Abnormality] = field(default_factory=list)
    birads: int | None = None
    density: str = ""
    remarks: list[str] = field(default_factory=list)


def read_row(row: Row, partition: str) -> tuple[Film, Abnormality]:
    """One row of a list.

    Raises
    ------
    ValueError
        The row is not an abnormality of this set; it says why.
    """
    patient, side, view = row["patient_id"], row["left_or_right_breast"], row["image_view"]
    if not re.fullmatch(r"P_\d{5}", patient, re.ASCII) or side not in SIDES or view not in ("CC", "MLO"):
        raise ValueError(
            "patient_id is not like P_00001, the breast not LEFT or RIGHT, or the view not CC or MLO"
        )
    number, kind, label = whole(row["abnormality_id"]), row["abnormality_type"], LABELS.get(row["pathology"])
    if number is None or not 0 < number < 1000 or kind not in ("mass", "calcification"):
        raise ValueError("abnormality id is no number, or its type neither mass nor calcification")
    if label is None:
        raise ValueError(f"pathology {row['pathology'][:30]!r} is none of {', '.join(LABELS)}")
    prefix = f"{'Mass' if kind == 'mass' else 'Calc'}-{'Training' if partition == 'train' else 'Test'}"
    folder = f"{prefix}_{patient}_{side}_{view}"
    assessment = whole(row["assessment"])
    film = Film(patient, SIDES[side], view, "", [folder], [partition], density=row["breast_density"])
    film.birads = assessment if assessment is not None and 0 <= assessment <= 6 else None
    if film.birads is None:
        film.remarks.append(f"assessment {row['assessment'][:10]!r} is none of 0 to 6")
    return film, Abnormality(_lesion(row, kind, label), f"{folder}_{number}", number)


def _lesion(row: Row, kind: str, label: Label) -> Lesion:
    shape, margins = row["mass_shape"].upper(), row["mass_margins"].upper()
    words = [
        row[name] for name in ("mass_shape", "mass_margins", "calc_type", "calc_distribution") if row[name]
    ]
    what = LesionKind.MASS if kind == "mass" else LesionKind.CALCIFICATION
    if what is LesionKind.MASS and shape == "ARCHITECTURAL_DISTORTION":
        what = LesionKind.DISTORTION
    elif what is LesionKind.MASS and shape in ASYMMETRIES:
        what = LesionKind.ASYMMETRY
    said = what is LesionKind.MASS and margins not in ("", "N/A")
    return Lesion(
        kind=what,
        label=label,
        spiculated="SPICULATED" in margins if said else None,
        note=", ".join(words)[:128],
    )


def index(src: Path) -> tuple[Series, list[Strange]]:
    """All DICOM files by film or abnormality: by a folder's name, else by ``metadata.csv``."""
    subjects: dict[str, str] = {}
    strange: list[Strange] = []
    listing = find_list(src, ("metadata.csv",))
    if listing is not None:
        try:
            table = read_table(listing, ("subject_id", "file_location"))
        except InputError as error:
            strange.append(Strange(what="metadata.csv", where=listing.name, why=error.what, fate="remark"))
        else:
            strange += table.strange
            for row in table.rows:
                place = relative_path(row["file_location"])
                if place is not None and _FOLDER.fullmatch(row["subject_id"]):
                    subjects[(listing.parent / place).as_posix()] = row["subject_id"]
    series: Series = {}
    for path in files_below(src, (".dcm",)):
        parts = path.relative_to(src).parts[:-1]
        name = next((part for part in parts if _FOLDER.fullmatch(part)), None)
        name = name or subjects.get(path.parent.as_posix())
        if name is not None:
            series.setdefault(name.lower(), []).append(path)
        else:
            why = "neither its folders' names nor metadata.csv tell which film it belongs to"
            strange.append(Strange(what=path.stem, where=path.relative_to(src).as_posix(), why=why))
    return series, strange


def read(src: Path) -> Iterator[Found | Strange]:
    """CBIS-DDSM as published, all four lists or some.

    Raises
    ------
    InputError
        None of the four lists, a column missing, or no folder named as above.
    """
    lists = [(find_list(src, (name,)), partition) for name, partition in LISTS] if src.is_dir() else []
    tables = [(read_table(path, NEEDED, optional=OPTIONAL), partition) for path, partition in lists if path]
    if not tables:
        raise InputError(
            "not a CBIS-DDSM folder: none of its four lists is there",
            str(src),
            f"{', '.join(name for name, _ in LISTS)} are looked for",
        )
    series, odd = index(src)
    if not series:
        raise InputError(
            "not a CBIS-DDSM folder: no *.dcm below Mass-Training_P_00001_LEFT_CC ...",
            str(src),
            "put the pictures below the folder, with metadata.csv if their folders have only UIDs",
        )
    yield from odd
    films: dict[tuple[str, str, str], Film] = {}
    for table, partition in tables:
        yield from table.strange
        for row in table.rows:
            yield from _gather(row, table, partition, films)
    yield from _partitions(films)
    yield from unique_names(_films(src, films, series))


def _gather(
    row: Row, table: Table, partition: str, films: dict[tuple[str, str, str], Film]
) -> Iterator[Strange]:
    """Add a row to its film."""
    where = table.where(row)
    try:
        film, abnormality = read_row(row, partition)
    except ValueError as error:
        yield Strange(what=row["patient_id"][:40] or "odd row", where=where, why=str(error), fate="remark")
        return
    film.where = where
    known = films.setdefault((film.patient, film.side, film.view), film)
    if any(one.folder == abnormality.folder for one in known.abnormalities):
        why = "this abnormality is listed twice: the first row counts"
        yield Strange(what=abnormality.folder, where=where, why=why, fate="remark")
        return
    known.abnormalities.append(abnormality)
    if known is film:
        return
    known.folders += [name for name in film.folders if name not in known.folders]
    known.partitions += [name for name in film.partitions if name not in known.partitions]
    known.remarks += film.remarks
    known.birads = max((one for one in (known.birads, film.birads) if one is not None), default=None)
    if film.density != known.density:
        known.remarks.append(f"density is both {known.density[:10]!r} and {film.density[:10]!r}")


def _partitions(films: dict[tuple[str, str, str], Film]) -> Iterator[Strange]:
    """Report every woman who is in both of the source's partitions."""
    found: dict[str, set[str]] = {}
    for film in films.values():
        found.setdefault(film.patient, set()).update(film.partitions)
    for patient in sorted(patient for patient, partitions in found.items() if len(partitions) > 1):
        why = "this woman is in the source's training set and in its test set"
        yield Strange(what=patient, where="partition", why=why, fate="remark")


def _films(src: Path, films: dict[tuple[str, str, str], Film], series: Series) -> Iterator[Found | Strange]:
    used: set[str] = set()
    for film in films.values():
        used |= {name.lower() for name in film.folders}
        used |= {one.folder.lower() for one in film.abnormalities}
        yield from _film(src, film, series)
    for name in sorted(series.keys() - used):
        where = series[name][0].relative_to(src).as_posix()
        named = _FOLDER.fullmatch(name)
        fate: Fate = "remark" if named is not None and named[6] else "rejected"
        yield Strange(what=name, where=where, why="no list names it: no label", fate=fate)


def _film(src: Path, film: Film, series: Series) -> Iterator[Found | Strange]:
    """One film: its picture, a mask for each abnormality, and what is odd about them."""
    name = f"{film.patient}_{film.side}_{film.view}"
    pictures = [path for folder in film.folders for path in series.get(folder.lower(), [])]
    if not pictures:
        why = f"no picture below {' or '.join(film.folders)}"
        yield Strange(what=name, where=film.where, why=why, fate="missing")
        return
    sizes = {path: size for path in pictures if isinstance(size := picture_size(path), tuple)}
    if not sizes:
        where = pictures[0].relative_to(src).as_posix()
        yield Strange(what=name, where=where, why=f"not a readable DICOM image: {picture_size(pictures[0])}")
        return
    path = max(sizes, key=lambda one: sizes[one][0] * sizes[one][1])
    for other in pictures:
        if other != path:
            where = other.relative_to(src).as_posix()
            why = f"a second picture of this film: {path.relative_to(src).as_posix()} is taken"
            yield Strange(what=name, where=where, why=why, fate="duplicate")
    remarks = list(film.remarks)
    lesions: list[Lesion] = []
    rasters: list[tuple[Path, Lesion]] = []
    for one in film.abnormalities[: MAMMOGRAPHY_BOUNDS.lesions]:
        mask, remark = find_mask(series.get(one.folder.lower(), []), sizes[path])
        if mask is None:
            lesions.append(one.lesion)
        else:
            rasters.append((mask, one.lesion))
        if remark:
            remarks.append(f"abnormality {one.number}: {remark}")
    if len(film.partitions) > 1:
        remarks.append("this film is in the source's training set and in its test set")
    yield Found(
        name=name,
        path=path,
        patient=film.patient,
        label=worst(one.lesion.label for one in film.abnormalities),
        laterality=film.side,
        view=film.view,
        birads=film.birads,
        density=f"ACR {film.density}" if film.density in ("1", "2", "3", "4") else None,
        partition=film.partitions[0] if len(film.partitions) == 1 else None,
        lesions=tuple(lesions),
        rasters=tuple(rasters),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def picture_size(path: Path) -> Size | str:
    """Rows and columns out of a DICOM header, or why there are none."""
    try:
        header = open_dicom(path, pixels=False)
        rows, columns = whole_of(header, "Rows"), whole_of(header, "Columns")
    except DecodeError as error:
        return error.what
    if rows is None or columns is None or rows < 1 or columns < 1:
        return "the header gives no size"
    return rows, columns


def find_mask(candidates: list[Path], film: Size) -> tuple[Path | None, str]:
    """The mask among an abnormality's files, which may be in any order, and a remark.

    It is the one of the film's size. A larger or smaller one of the same proportions is taken where none has the
    size, provided it is the larger of the files: the other is the cropped picture.
    """
    sizes = {path: size for path in candidates if isinstance(size := picture_size(path), tuple)}
    if not sizes:
        return None, "no mask: its place is unknown"
    exact = [path for path, size in sizes.items() if size == film]
    if exact:
        best = min(exact, key=lambda path: ("mask" not in path.parent.name.lower(), path))
        return best, "" if len(exact) == 1 else "several files have the film's size: one is taken as mask"
    largest = max(sizes, key=lambda path: sizes[path][0] * sizes[path][1])
    rows, columns = sizes[largest]
    if len(sizes) > 1 and abs((rows / film[0]) / (columns / film[1]) - 1) <= ALIKE:
        return largest, f"the mask is {rows} x {columns} and the film {film[0]} x {film[1]}: scaled"
    return None, "no file has the film's size: its place is unknown"


CBIS_DDSM = Kind(
    name="cbis-ddsm",
    title="CBIS-DDSM, 3,103 films of 1,566 women",
    read=read,
    licence="CC BY 3.0",
    cite="R. S. Lee et al. (2017), A curated mammography data set, Sci Data 4:170177; 10.7937/K9/TCIA.2016.7O02S9CY",
    layout="mass_ and calc_case_description_train_ and test_set.csv; Mass-Training_P_00001_LEFT_CC/**/*.dcm ...",
)
