"""INbreast: 410 full-field digital mammograms of 115 women (Moreira et al., Acad Radiol 2012;19:236-248).

Layout as published: ``AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm`` (image, woman, modality, side, view),
``AllXML/20586908.xml`` (OsiriX' regions of interest as an Apple property list), and the list ``INbreast.csv`` with
semicolons (columns Laterality, View, File Name, ACR, Bi-Rads; the published ``INbreast.xls`` saved as CSV). Columns
and names of files as in https://github.com/BreastGAN/experiment1 (``inbreast`` reader) and other public readers.

Label: by BI-RADS of the breast, for there is no pathology in the list. 1 is normal, 2 and 3 benign, 4 (a, b, c) to 6
malignant, 0 unknown. The study of 2019 took "> 3" for cancer and dropped 3: `Found.birads` keeps the category, so
that a caller can do the same. The label of a single lesion is unknown.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers.expat import ExpatError

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.adapters.tables import (
    Row,
    Table,
    birads_label,
    files_below,
    find_list,
    number,
    read_bytes,
    read_table,
)
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Found, Kind, Strange

LISTS = ("INbreast.csv", "INbreast_2.csv")
NEEDED = ("laterality", "view", "file_name", "bi_rads")
_FILE = re.compile(r"(\d{1,12})_([0-9a-f]{8,32})_MG_([LR])_([A-Z]{2,4})_ANON\.dcm", re.IGNORECASE | re.ASCII)
_VIEWS = {"CC": "CC", "ML": "MLO", "MLO": "MLO", "FB": "FB"}
_PLIST_ERRORS = (
    ExpatError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
)

# Names of regions as the files have them, misspellings included, in lower case: kind, whether it has spicules.
ROIS: dict[str, tuple[LesionKind, bool | None]] = {
    "mass": (LesionKind.MASS, None),
    "spiculated region": (LesionKind.MASS, True),
    "espiculated region": (LesionKind.MASS, True),
    "calcification": (LesionKind.CALCIFICATION, None),
    "calcifications": (LesionKind.CALCIFICATION, None),
    "cluster": (LesionKind.CALCIFICATION, None),
    "asymmetry": (LesionKind.ASYMMETRY, None),
    "assymetry": (LesionKind.ASYMMETRY, None),
    "distortion": (LesionKind.DISTORTION, None),
}


def read_rois(path: Path) -> tuple[tuple[Lesion, ...], tuple[str, ...]]:
    """The regions of one image's property list, outlines in px, and remarks on what was odd.

    Entities are refused by `plistlib`, nothing outside the file is read.

    Raises
    ------
    DecodeError
        Not such a property list, or more regions or corners than any mammogram has.
    """
    raw = read_bytes(path, MAMMOGRAPHY_BOUNDS.annotation_bytes)
    try:
        found = plistlib.loads(raw, fmt=plistlib.FMT_XML)
        images = found["Images"]
        rois = [roi for image in images for roi in image["ROIs"]]
    except _PLIST_ERRORS as error:
        what = f"no property list of regions ({type(error).__name__})"
        raise DecodeError(what, str(path), "unpack AllXML again") from None
    if len(rois) > MAMMOGRAPHY_BOUNDS.lesions:
        raise DecodeError(f"more than {MAMMOGRAPHY_BOUNDS.lesions} regions", str(path), "unpack AllXML again")
    lesions: list[Lesion] = []
    remarks: list[str] = []
    if len(images) > 1:
        remarks.append(f"annotations of {len(images)} images in one file")
    for count, roi in enumerate(rois, start=1):
        name = roi.get("Name") if isinstance(roi, dict) else None
        name = " ".join(name.split()) if isinstance(name, str) else ""
        kind, spiculated = ROIS.get(name.lower(), (LesionKind.OTHER, None))
        if name.lower() not in ROIS:
            remarks.append(f"region {count} is called {name[:32]!r}: kept as {LesionKind.OTHER}")
        outline = _outline(roi.get("Point_px") if isinstance(roi, dict) else None)
        if outline is None:
            remarks.append(f"region {count} has no points that can be read: its place is unknown")
        lesions.append(Lesion(kind=kind, outline=outline or (), spiculated=spiculated, note=name[:32]))
    return tuple(lesions), tuple(remarks)


def _outline(points: object) -> tuple[tuple[float, float], ...] | None:
    """Points ``(1134.5, 1212.9)`` as a polygon; None when there is none, or one cannot be read."""
    if not isinstance(points, list) or not 0 < len(points) <= MAMMOGRAPHY_BOUNDS.outline_points:
        return None
    found: list[tuple[float, float]] = []
    for point in points:
        parts = point.strip().strip("()").split(",") if isinstance(point, str) else []
        values = [number(part) for part in parts]
        if len(values) != 2 or values[0] is None or values[1] is None:
            return None
        found.append((values[0], values[1]))
    return tuple(found)


def read(src: Path) -> Iterator[Found | Strange]:
    """INbreast as published.

    Raises
    ------
    InputError
        No ``INbreast.csv`` (an ``.xls`` has to be saved as CSV first), or no picture named as above.
    """
    path = find_list(src, LISTS) if src.is_dir() else None
    if path is None:
        workbook = find_list(src, ("INbreast.xls", "INbreast.xlsx")) if src.is_dir() else None
        if workbook is not None:
            raise InputError(
                "a workbook, which is not read", str(workbook), "save it as INbreast.csv with semicolons"
            )
        raise InputError(
            "not an INbreast folder: INbreast.csv is missing",
            str(src),
            "INbreast.csv, AllDICOMs/*_ANON.dcm and AllXML/*.xml are looked for",
        )
    table = read_table(path, NEEDED, optional=("acr",))
    pictures = [
        (file, named) for file in files_below(src, (".dcm",)) if (named := _FILE.fullmatch(file.name))
    ]
    if not pictures:
        raise InputError("not an INbreast folder: no *_ANON.dcm", str(src), "unpack AllDICOMs into it")
    yield from table.strange
    annotations: dict[str, Path] = {}
    for file in files_below(src, (".xml",)):
        if file.parent.name.lower() == "allxml":
            annotations.setdefault(file.stem, file)
    taken: dict[str, tuple[Path, re.Match[str]]] = {}
    for file, named in pictures:
        if named[1] in taken:
            why = f"a second picture of this image: {taken[named[1]][0].name} is taken"
            yield Strange(what=named[1], where=file.relative_to(src).as_posix(), why=why, fate="duplicate")
        else:
            taken[named[1]] = (file, named)
    listed: set[str] = set()
    for row in table.rows:
        image = row["file_name"].removesuffix(".0")
        if not re.fullmatch(r"\d{1,12}", image, re.ASCII):
            why = f"File Name {row['file_name'][:40]!r} is no number of an image"
            yield Strange(what="odd row", where=table.where(row), why=why, fate="remark")
        elif image in listed:
            yield Strange(
                what=image, where=table.where(row), why="listed twice: the first row counts", fate="remark"
            )
        elif image not in taken:
            listed.add(image)
            yield Strange(
                what=image, where=table.where(row), why="listed, but no such picture", fate="missing"
            )
        else:
            listed.add(image)
            yield _image(image, row, table, *taken[image], annotations.get(image))
    for image in sorted(taken.keys() - listed):
        where = taken[image][0].relative_to(src).as_posix()
        yield Strange(what=image, where=where, why=f"{path.name} does not list it: no label")
    for image in sorted(annotations.keys() - listed - taken.keys()):
        where = annotations[image].relative_to(src).as_posix()
        yield Strange(what=image, where=where, why="annotations of an image that is not there", fate="remark")


def _image(
    image: str, row: Row, table: Table, path: Path, named: re.Match[str], xml: Path | None
) -> Found | Strange:
    """One image that is listed and there."""
    where = table.where(row)
    said = re.fullmatch(r"([0-6])[abc]?", row["bi_rads"].lower(), re.ASCII)
    if said is None:
        return Strange(what=image, where=where, why=f"Bi-Rads {row['bi_rads'][:20]!r} is none of 0 to 6")
    side = named[3].upper()
    if row["laterality"].upper() != side:
        why = f"the list says side {row['laterality'][:10]!r}, the file's name {side}"
        return Strange(what=image, where=where, why=why)
    remarks: list[str] = []
    view = _VIEWS.get(named[4].upper())
    if view is None or _VIEWS.get(row["view"].upper()) != view:
        remarks.append(f"the list says view {row['view'][:10]!r}, the file's name {named[4]}")
    lesions: tuple[Lesion, ...] = ()
    if xml is not None:
        try:
            lesions, odd = read_rois(xml)
        except InputError as error:
            return Strange(what=image, where=f"{xml.parent.name}/{xml.name}", why=error.what)
        remarks += odd
    category = int(said[1])
    label = birads_label(category)
    if label is Label.NORMAL and lesions:
        remarks.append(f"BI-RADS 1 with {len(lesions)} annotated regions")
    if label is Label.MALIGNANT and not lesions:
        remarks.append("no annotations: its lesions are not located")
    return Found(
        name=image,
        path=path,
        patient=named[2].lower(),
        label=label,
        laterality=side,
        view=view,
        birads=category,
        density=f"ACR {row['acr']}" if row["acr"] in ("1", "2", "3", "4") else None,
        lesions=lesions,
        remarks=tuple(remarks),
    )


INBREAST = Kind(
    name="inbreast",
    title="INbreast, 410 digital mammograms of 115 women",
    read=read,
    licence="research only, by agreement with its owners (INESC Porto)",
    cite="I. C. Moreira et al. (2012), INbreast: toward a full-field digital mammographic database, Acad Radiol 19:236",
    layout="INbreast.csv (the .xls saved with semicolons), AllDICOMs/*_ANON.dcm, AllXML/*.xml",
)
