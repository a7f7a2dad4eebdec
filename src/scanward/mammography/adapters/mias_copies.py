"""Copies of MIAS as PNG, with tables made from ``Info.txt``: other sizes, other crops, the same women.

``labels.csv`` has a film a row, ``lesions.csv`` a lesion a row; without the latter the place in ``labels.csv``, that of
the film's first lesion, counts. Coordinates are pixels of the copy, y from the top. What `mias` says of left and right
holds here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scanward.errors import InputError
from scanward.mammography.adapters.mias import (
    CITE,
    KINDS,
    SIDES,
    TERMS,
    TISSUES,
    laterality,
    make_lesion,
    patient,
)
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    files_below,
    number,
    read_table,
    relative_path,
    worst,
)
from scanward.mammography.manifest import Label, Lesion
from scanward.mammography.sources import Found, Kind, Strange

LEAST_CORRELATION = (
    0.97  # of a registered copy with its original; below, the lesions' places are not to be trusted
)
NEEDED = ("image", "patient", "laterality", "view", "label", "abnormality", "tissue", "n_lesions")
PLACE = ("x", "y", "radius")


def read(src: Path) -> Iterator[Found | Strange]:
    """PNG copies of MIAS: ``labels.csv`` (a film a row) and ``lesions.csv`` (a lesion a row; without it the place
    in ``labels.csv``, of the film's first lesion), coordinates in pixels of the copy, y from the top.

    A copy that was registered to its original (``register_corr``) with less than 0.97 is left out.

    Raises
    ------
    InputError
        No ``labels.csv`` with these columns.
    """
    if not (src / "labels.csv").is_file():
        raise InputError(
            "not a folder of MIAS copies: labels.csv is missing",
            str(src),
            "labels.csv, lesions.csv and images/*.png are looked for",
        )
    labels = read_table(src / "labels.csv", NEEDED, optional=(*PLACE, "register_corr"))
    yield SIDES
    yield from labels.strange
    places: dict[str, list[tuple[Row, Table]]] = {}
    own = (src / "lesions.csv").is_file()
    if own:
        lesions = read_table(src / "lesions.csv", ("image", "abnormality", "severity", *PLACE))
        yield from lesions.strange
        for row in lesions.rows:
            places.setdefault(row["image"], []).append((row, lesions))
    listed: set[str] = set()
    for row in labels.rows:
        image = row["image"]
        if image in listed:
            yield Strange(what=image, where=labels.where(row), why="listed twice", fate="duplicate")
            continue
        listed.add(image)
        rows = places.get(image, []) if own else [(row, labels)]
        yield _copy(src, row, labels, [at[0] for at in rows], own)
    for image in sorted(places.keys() - listed):
        row, table = places[image][0]
        why = "a lesion of a film that labels.csv does not list"
        yield Strange(what=image, where=table.where(row), why=why, fate="remark")
    for path in files_below(src, (".png",)):
        image = path.relative_to(src).as_posix()
        if image not in listed:
            yield Strange(what=path.stem, where=image, why="labels.csv does not list it: no label")


def _copy(src: Path, row: Row, table: Table, places: list[Row], own: bool) -> Found | Strange:
    """One film of a derived copy."""
    image, where = row["image"], table.where(row)
    relative = relative_path(image)
    named = re.fullmatch(r"mdb(\d{3})\.png", relative.name, re.ASCII) if relative else None
    if relative is None or named is None:
        return Strange(what=image[:80] or "(no name)", where=where, why="not a film's path images/mdb001.png")
    if not (src / relative).is_file():
        return Strange(what=relative.stem, where=where, why=f"no such picture: {image}", fate="missing")
    correlation = number(row["register_corr"]) if "register_corr" in row.cells else 1.0
    if correlation is None or correlation < LEAST_CORRELATION:
        why = f"registered to its original with {row['register_corr'] or 'nothing'}, less than {LEAST_CORRELATION}"
        return Strange(what=relative.stem, where=where, why=why)
    film, normal = int(named[1]), row["abnormality"] == "NORM"
    label = {str(known): known for known in Label}.get(row["label"])
    count = number(row["n_lesions"])
    side, wrong = row["laterality"], ""
    if label is None or label is Label.UNKNOWN or normal != (label is Label.NORMAL):
        wrong = f"label {row['label'][:20]!r} does not fit abnormality {row['abnormality'][:20]!r}"
    elif side not in ("L", "R") or row["tissue"] not in TISSUES or not row["patient"]:
        wrong = "laterality is not L or R, tissue not F, G or D, or no patient"
    elif count is None or (count > 0) == normal or (own and count != len(places)):
        wrong = (
            f"{row['n_lesions'][:20] or 'no'} lesions are announced, {len(places) if own else label} found"
        )
    if wrong or label is None:
        return Strange(what=relative.stem, where=where, why=wrong)
    remarks: list[str] = []
    lesions: list[Lesion] = []
    for place in [] if normal else places:
        severity = place["severity"] if own else row["label"]
        if place["abnormality"] not in KINDS or severity not in ("benign", "malignant"):
            return Strange(what=relative.stem, where=where, why="a lesion is not in MIAS' words")
        lesions.append(_placed(place, Label(severity), remarks))
    if lesions and worst(lesion.label for lesion in lesions) is not label:
        return Strange(what=relative.stem, where=where, why="the label is not that of its worst lesion")
    if not own and count is not None and count > 1:
        remarks.append(f"only the first of {count:g} lesions has a place in labels.csv")
    if row["flipped_to_left"] == "1":
        remarks.append("the copy is mirrored")
    if (side, row["patient"]) != (laterality(film), patient(film)):
        remarks.append("laterality or patient are not those of the film's number")
    return Found(
        name=relative.stem,
        path=src / relative,
        patient=row["patient"],
        label=label,
        laterality=side,
        view=row["view"] or None,
        density=TISSUES[row["tissue"]],
        lesions=tuple(lesions),
        remarks=tuple(remarks),
    )


def _placed(place: Row, severity: Label, remarks: list[str]) -> Lesion:
    """A lesion of a copy; a place that is missing or no place is left out with a remark."""
    values = [number(place[name]) for name in PLACE]
    x, y, radius = values
    if x is None or y is None or radius is None or radius <= 0 or min(x, y) < -0.5:
        if any(place[name] for name in PLACE):
            remarks.append("a lesion's place is no place: left out")
        else:
            remarks.append("the list gives no place of a lesion")
        return make_lesion(place["abnormality"], severity, None)
    return make_lesion(place["abnormality"], severity, (x, y, radius))


MIAS_PNG = Kind(
    name="mias-png",
    title="derived copies of MIAS as PNG",
    read=read,
    licence=TERMS,
    cite=CITE,
    layout="labels.csv, lesions.csv (may be absent) and images/mdb001.png ...",
)
