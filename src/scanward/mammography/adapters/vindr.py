"""VinDr-Mammo: 5,000 four-view examinations of Hanoi (Nguyen et al., Scientific Data 2023;10:277; PhysioNet).

Layout as published: ``breast-level_annotations.csv`` (an image a row: study_id, series_id, image_id, laterality,
view_position, height, width, breast_birads "BI-RADS 4", breast_density "DENSITY C", split),
``finding_annotations.csv`` (a finding a row: the same and finding_categories "['Mass']", finding_birads, xmin, ymin,
xmax, ymax in px) and ``images/<study_id>/<image_id>.dicom``. https://physionet.org/content/vindr-mammo/1.0.0/

Label: by BI-RADS of the breast, as radiologists read it; there is **no pathology**. 1 is normal, 2 and 3 benign, 4
and 5 malignant: "suspicious" would be the better word. `Found.birads` keeps the category. A finding's label is made
of its own category in the same way, and unknown where it has none. No patient is given: a study counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    birads_label,
    files_below,
    find_list,
    number,
    read_table,
    whole,
)
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Found, Kind, Strange

BREASTS, FINDINGS = "breast-level_annotations.csv", "finding_annotations.csv"
NEEDED = ("study_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
          "breast_density", "split")  # fmt: skip
FINDING = ("image_id", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
CATEGORIES = {
    "Mass": LesionKind.MASS,
    "Suspicious Calcification": LesionKind.CALCIFICATION,
    "Architectural Distortion": LesionKind.DISTORTION,
    "Asymmetry": LesionKind.ASYMMETRY,
    "Focal Asymmetry": LesionKind.ASYMMETRY,
    "Global Asymmetry": LesionKind.ASYMMETRY,
    "Skin Thickening": LesionKind.OTHER,
    "Skin Retraction": LesionKind.OTHER,
    "Nipple Retraction": LesionKind.OTHER,
    "Suspicious Lymph Node": LesionKind.OTHER,
}
NOTHING = "No Finding"
SLACK = 1.0  # px that a box may reach beyond the picture without a remark: boxes end on its edge
_ID = re.compile(r"[0-9A-Za-z]{8,64}", re.ASCII)
_PARTITIONS = {"training": "train", "test": "test"}


def read_birads(text: str) -> int | None:
    """``BI-RADS 4`` as 4; None when it is something else."""
    found = re.fullmatch(r"BI-RADS ([0-6])", text, re.ASCII)
    return int(found[1]) if found else None


def read_categories(text: str) -> tuple[str, ...]:
    """The list of words in ``finding_categories``; empty for "No Finding".

    Raises
    ------
    ValueError
        Not a list of categories of this set; it says what.
    """
    if len(text) > 1024:  # characters; all ten categories together have some 200
        raise ValueError("finding_categories is too long")
    if not re.fullmatch(r"\[\s*(?:'[^'\"]*'|\"[^'\"]*\")(?:\s*,\s*(?:'[^'\"]*'|\"[^'\"]*\"))*\s*\]", text):
        raise ValueError(f"finding_categories {text[:40]!r} is no list of words")
    words = [single or double for single, double in re.findall(r"'([^']*)'|\"([^\"]*)\"", text)]
    unknown = [word for word in words if word not in CATEGORIES and word != NOTHING]
    if unknown or (NOTHING in words and len(words) > 1):
        raise ValueError(f"finding_categories {text[:60]!r} are not those of this set")
    return () if words == [NOTHING] else tuple(words)


def read_finding(row: Row, rows: int, columns: int) -> tuple[Lesion | None, str]:
    """One row of findings as a lesion (None: no finding) and a remark; a box is cut off at the picture's edge.

    Raises
    ------
    ValueError
        The row is not a finding; it says why.
    """
    words = read_categories(row["finding_categories"])
    corners = [number(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
    if not words:
        if any(corner is not None for corner in corners):
            raise ValueError("no finding, but a box")
        return None, ""
    category = read_birads(row["finding_birads"])
    lesion = Lesion(
        kind=CATEGORIES[words[0]],
        label=Label.UNKNOWN if category is None else birads_label(category),
        note=", ".join(words),
    )
    left, top, right, bottom = corners
    if left is None or top is None or right is None or bottom is None:
        return lesion, "a finding without a box: its place is unknown"
    if left >= right or top >= bottom or right <= 0 or bottom <= 0 or left >= columns or top >= rows:
        return lesion, "a finding's box is empty or outside the picture: left out"
    remark = ""
    if left < -SLACK or top < -SLACK or right > columns + SLACK or bottom > rows + SLACK:
        remark = "a finding's box reaches beyond the picture: cut off there"
    left, top, right, bottom = (
        max(left, 0.0),
        max(top, 0.0),
        min(right, columns - 1.0),
        min(bottom, rows - 1.0),
    )
    outline = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Lesion(kind=lesion.kind, label=lesion.label, note=lesion.note, outline=outline), remark


def read(src: Path) -> Iterator[Found | Strange]:
    """VinDr-Mammo as published.

    Raises
    ------
    InputError
        One of the two tables is missing or lacks a column.
    """
    breasts = find_list(src, (BREASTS,)) if src.is_dir() else None
    if breasts is None:
        raise InputError(
            f"not a VinDr-Mammo folder: {BREASTS} is missing",
            str(src),
            f"{BREASTS}, {FINDINGS} and images/*/*.dicom are looked for",
        )
    table = read_table(breasts, NEEDED)
    findings = read_table(breasts.parent / FINDINGS, FINDING)
    yield from (*table.strange, *findings.strange)
    of: dict[str, list[Row]] = {}
    for row in findings.rows:
        of.setdefault(row["image_id"], []).append(row)
    listed: set[str] = set()
    for row in table.rows:
        image = row["image_id"]
        if image in listed:
            yield Strange(
                what=image[:64],
                where=table.where(row),
                why="listed twice: the first row counts",
                fate="remark",
            )
            continue
        listed.add(image)
        yield _image(row, table, of.get(image, []), findings)
    for image in sorted(of.keys() - listed):
        why = f"findings of an image that {BREASTS} does not list"
        yield Strange(what=image[:64], where=findings.where(of[image][0]), why=why, fate="remark")
    for path in files_below(breasts.parent, (".dicom", ".dcm")):
        if path.stem not in listed:
            where = path.relative_to(breasts.parent).as_posix()
            yield Strange(what=path.stem, where=where, why=f"{BREASTS} does not list it: no label")


def _image(row: Row, table: Table, findings: list[Row], source: Table) -> Found | Strange:
    """One image that is listed."""
    image, study, where = row["image_id"], row["study_id"], table.where(row)
    if not _ID.fullmatch(image) or not _ID.fullmatch(study):
        return Strange(
            what=image[:64] or "(no image_id)", where=where, why="image_id or study_id is no identifier"
        )
    path = table.path.parent / "images" / study / f"{image}.dicom"
    if not path.is_file():
        why = f"no such picture: images/{study}/{image}.dicom"
        return Strange(what=image, where=where, why=why, fate="missing")
    category = read_birads(row["breast_birads"])
    rows, columns = whole(row["height"]), whole(row["width"])
    if category is None:
        why = f"breast_birads {row['breast_birads'][:20]!r} does not read BI-RADS 1"
        return Strange(what=image, where=where, why=why)
    if rows is None or columns is None or row["laterality"] not in ("L", "R"):
        why = "height and width are not whole numbers, or laterality is not L or R"
        return Strange(what=image, where=where, why=why)
    if len(findings) > MAMMOGRAPHY_BOUNDS.lesions:
        return Strange(what=image, where=where, why=f"more than {MAMMOGRAPHY_BOUNDS.lesions} findings")
    lesions: list[Lesion] = []
    remarks: list[str] = []
    for finding in findings:
        try:
            lesion, remark = read_finding(finding, rows, columns)
        except ValueError as error:
            return Strange(what=image, where=source.where(finding), why=str(error))
        if remark:
            remarks.append(remark)
        if lesion in lesions:
            remarks.append("the same finding is there twice: taken once")
        elif lesion is not None:
            lesions.append(lesion)
    if not findings:
        remarks.append(f"{FINDINGS} does not list it")
    if category == 1 and lesions:
        remarks.append(f"BI-RADS 1 with {len(lesions)} findings")
    partition = _PARTITIONS.get(row["split"])
    if partition is None:
        remarks.append(f"split {row['split'][:20]!r} is neither training nor test")
    density = row["breast_density"].removeprefix("DENSITY ")
    return Found(
        name=image,
        path=path,
        patient=study,
        label=birads_label(category),
        laterality=row["laterality"],
        view=row["view_position"] if row["view_position"] in ("CC", "MLO") else None,
        birads=category,
        density=density if density in ("A", "B", "C", "D") else None,
        partition=partition,
        lesions=tuple(lesions),
        remarks=tuple(dict.fromkeys(remarks)),
    )


VINDR = Kind(
    name="vindr",
    title="VinDr-Mammo, 20,000 digital mammograms of 5,000 examinations",
    read=read,
    licence="restricted: PhysioNet's data use agreement",
    cite="H. T. Nguyen et al. (2023), VinDr-Mammo, Sci Data 10:277; 10.13026/br2v-7517",
    layout="breast-level_annotations.csv, finding_annotations.csv, images/<study_id>/<image_id>.dicom",
)
