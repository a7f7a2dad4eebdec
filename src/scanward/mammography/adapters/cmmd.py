"""CMMD: the Chinese Mammography Database (Cui et al. 2021; The Cancer Imaging Archive, 10.7937/tcia.eqde-4b16).

Layout as published: ``CMMD_clinicaldata_revision.xlsx`` (a breast a row: ID1 "D1-0001", LeftRight, Age, number,
abnormality, classification, subtype), to be saved as CSV, and the DICOM folders of the NBIA downloader,
``CMMD/D1-0001/<study>/<series>/1-1.dcm``. https://www.cancerimagingarchive.net/collection/cmmd/

Side and view stand in the DICOM headers (ImageLaterality, ViewCodeSequence), which are read up to the pixels. Label:
by biopsy ("Benign", "Malignant"), for the whole breast; lesions are not located. A breast that the list does not
name, the other side of a listed patient, has no label and is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scanward.errors import DecodeError, InputError
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    clean_name,
    files_below,
    find_list,
    read_table,
    unique_names,
)
from scanward.mammography.dicom_headers import Facts, facts_of, open_dicom, text_of
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Found, Kind, Strange

LISTS = ("CMMD_clinicaldata_revision.csv", "CMMD_clinicaldata_revision_CSV.csv")
WORKBOOKS = ("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.xls")
NEEDED = ("id1", "leftright", "abnormality", "classification")
LABELS = {"benign": Label.BENIGN, "malignant": Label.MALIGNANT}
ABNORMALITIES = {
    "mass": (LesionKind.MASS,),
    "calcification": (LesionKind.CALCIFICATION,),
    "both": (LesionKind.MASS, LesionKind.CALCIFICATION),
}
_PATIENT = re.compile(r"D[12]-\d{4}", re.ASCII)
Breast = tuple[str, str]  # patient, L or R


def read_breast(row: Row) -> tuple[Breast, Label, tuple[Lesion, ...]]:
    """One row of the list.

    Raises
    ------
    ValueError
        The row is not a breast of this set; it says why.
    """
    patient, side = row["id1"].upper(), row["leftright"].upper()
    if not _PATIENT.fullmatch(patient) or side not in ("L", "R"):
        raise ValueError(f"ID1 {patient[:20]!r} is not like D1-0001, or LeftRight {side[:10]!r} not L or R")
    label = LABELS.get(row["classification"].lower())
    kinds = ABNORMALITIES.get(row["abnormality"].lower())
    if label is None:
        raise ValueError(f"classification {row['classification'][:20]!r} is neither Benign nor Malignant")
    if kinds is None:
        raise ValueError(f"abnormality {row['abnormality'][:20]!r} is none of {', '.join(ABNORMALITIES)}")
    note = f"subtype {row['subtype'][:32]}" if row["subtype"] else ""
    return (
        (patient, side),
        label,
        tuple(Lesion(kind=kind, label=label, biopsied=True, note=note) for kind in kinds),
    )


def read_list(table: Table) -> tuple[dict[Breast, tuple[Label, tuple[Lesion, ...], str]], list[Strange]]:
    """The list by breast (label, lesions, where it stands), and its odd rows. A breast listed with two labels has
    neither."""
    breasts: dict[Breast, tuple[Label, tuple[Lesion, ...], str]] = {}
    odd: list[Strange] = []
    for row in table.rows:
        where = table.where(row)
        try:
            breast, label, lesions = read_breast(row)
        except ValueError as error:
            odd.append(Strange(what="odd row", where=where, why=str(error), fate="remark"))
            continue
        before = breasts.get(breast)
        if before is None:
            breasts[breast] = label, lesions, where
        elif before[0] is label:
            odd.append(Strange(what=" ".join(breast), where=where, why="listed twice", fate="remark"))
            if lesions != before[1]:
                breasts[breast] = label, tuple(dict.fromkeys((*before[1], *lesions))), before[2]
        else:
            why = "listed twice, with two labels: neither counts"
            odd.append(Strange(what=" ".join(breast), where=where, why=why, fate="remark"))
            breasts[breast] = Label.UNKNOWN, before[1], before[2]
    return breasts, odd


def read(src: Path) -> Iterator[Found | Strange]:
    """CMMD as published, its list saved as CSV (commas or semicolons).

    Raises
    ------
    InputError
        No ``CMMD_clinicaldata_revision.csv``, a column missing, or no DICOM file below a folder D1-0001.
    """
    path = find_list(src, LISTS) if src.is_dir() else None
    if path is None:
        workbook = find_list(src, WORKBOOKS) if src.is_dir() else None
        if workbook is not None:
            raise InputError(
                "a workbook, which is not read", str(workbook), f"save it as {LISTS[0]} in the same folder"
            )
        raise InputError(
            f"not a CMMD folder: {LISTS[0]} is missing",
            str(src),
            f"{LISTS[0]} and CMMD/D1-0001/*/*/1-1.dcm are looked for",
        )
    table = read_table(path, NEEDED, optional=("age", "number", "subtype"))
    pictures = files_below(src, (".dcm",))
    if not any(_folder(picture, src) for picture in pictures):
        raise InputError(
            "not a CMMD folder: no *.dcm below D1-0001 ...", str(src), "unpack the pictures into it"
        )
    breasts, odd = read_list(table)
    yield from (*table.strange, *odd)
    yield from unique_names(_pictures(src, pictures, breasts))


def _pictures(
    src: Path, pictures: list[Path], breasts: dict[Breast, tuple[Label, tuple[Lesion, ...], str]]
) -> Iterator[Found | Strange]:
    seen: set[Breast] = set()
    patients = {patient for patient, _ in breasts}
    for path in pictures:
        record = _picture(path, src, breasts, patients)
        if isinstance(record, Found) and record.laterality is not None:
            seen.add((record.patient, record.laterality))
        yield record
    for breast in sorted(breasts.keys() - seen):
        why = "listed, but no picture of this breast"
        yield Strange(what=" ".join(breast), where=breasts[breast][2], why=why, fate="missing")


def _folder(path: Path, src: Path) -> str:
    """The patient whose folder a picture lies in, empty when there is none."""
    return next((part for part in path.relative_to(src).parts[:-1] if _PATIENT.fullmatch(part)), "")


def _picture(
    path: Path,
    src: Path,
    breasts: dict[Breast, tuple[Label, tuple[Lesion, ...], str]],
    patients: set[str],
) -> Found | Strange:
    """One DICOM file."""
    where = path.relative_to(src).as_posix()
    folder = _folder(path, src)
    try:
        header = open_dicom(path, pixels=False)
        facts: Facts = facts_of(header, path)
        number = text_of(header, "PatientID").upper()
    except DecodeError as error:
        return Strange(what=path.stem, where=where, why=error.what)
    patient = folder or number
    if not _PATIENT.fullmatch(patient):
        return Strange(
            what=path.stem, where=where, why="neither folder nor header name a patient like D1-0001"
        )
    if number and number != patient:
        return Strange(what=path.stem, where=where, why="folder and header name two patients")
    if facts.laterality is None:
        return Strange(what=path.stem, where=where, why="the header does not say left or right: no label")
    if patient not in patients:
        return Strange(what=path.stem, where=where, why="the list does not name this patient: no label")
    label, lesions, _ = breasts.get((patient, facts.laterality), (Label.UNKNOWN, (), ""))
    remarks = list(facts.remarks)
    if (patient, facts.laterality) not in breasts:
        remarks.append("the list names only the other breast")
    elif label is Label.UNKNOWN:
        remarks.append("the list gives this breast two labels")
    return Found(
        name=clean_name(f"{patient}-{facts.laterality}-{facts.view or 'view'}-{path.stem}"),
        path=path,
        patient=patient,
        label=label,
        laterality=facts.laterality,
        view=facts.view,
        spacing=facts.spacing,
        lesions=lesions,
        remarks=tuple(remarks),
    )


CMMD = Kind(
    name="cmmd",
    title="CMMD, 5,202 digital mammograms of 1,775 women",
    read=read,
    licence="CC BY 4.0",
    cite="C. Cui et al. (2021), The Chinese Mammography Database; 10.7937/tcia.eqde-4b16",
    layout="CMMD_clinicaldata_revision.csv (the .xlsx saved as CSV) and CMMD/D1-0001/*/*/*.dcm ...",
)
