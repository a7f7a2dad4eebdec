"""Builders of small data sets in the real layouts of published ones, for the tests of the adapters.

Every picture is drawn: a dark ground, a breast as half an ellipse on the chest wall's side, lesions as bright discs.
Names of files and columns are those of the published sets; the sources are named in the adapters' docstrings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from scanward.mammography.sources import Adapter, Found, Strange

Disc = tuple[float, float, float]  # x, y, radius in px

GROUND, TISSUE, BRIGHT = 2, 90, 230


def sorted_out(read: Adapter, src: Path) -> tuple[dict[str, Found], list[Strange]]:
    """What an adapter found, by name, and what it found strange."""
    records = list(read(src))
    found = {record.name: record for record in records if isinstance(record, Found)}
    assert len(found) == sum(isinstance(record, Found) for record in records), "a name twice"
    for name, one in found.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name), f"{name!r} is no name"
        assert one.patient
        assert one.path.is_relative_to(src)
    return found, [record for record in records if isinstance(record, Strange)]


def fates(strange: Iterable[Strange]) -> Counter[str]:
    """How many records went which way."""
    return Counter(record.fate for record in strange)


def whys(strange: Iterable[Strange], fate: str) -> dict[str, str]:
    """Why records went one way, by what they are."""
    return {record.what: record.why for record in strange if record.fate == fate}


def drawn(rows: int, columns: int, wall: str, discs: Iterable[Disc] = (), seed: int = 0) -> NDArray[np.uint8]:
    """A film (rows, columns) with the chest wall on the ``left`` or ``right``; another ``seed``, another tissue."""
    down, right = np.ogrid[:rows, :columns]
    across = right if wall == "left" else columns - 1 - right
    inside = (across / (0.8 * columns)) ** 2 + ((down - rows / 2) / (0.46 * rows)) ** 2 <= 1
    noise = np.random.default_rng(seed).integers(0, 12, (rows, columns))
    film = np.where(inside, TISSUE, GROUND) + np.where(inside, noise, 0)
    for x, y, radius in discs:
        film[(right - x) ** 2 + (down - y) ** 2 <= radius**2] = BRIGHT
    return film.astype(np.uint8)


def write_pgm(path: Path, picture: NDArray[np.uint8], comment: str = "") -> None:
    """A PGM as mini-MIAS has it (P5), with a comment as GIMP leaves one."""
    head = f"P5\n{comment}{picture.shape[1]} {picture.shape[0]}\n255\n"
    path.write_bytes(head.encode() + picture.tobytes())


INFO_HEAD = """              MAMMOGRAPHIC IMAGE ANALYSIS SOCIETY
                  MiniMammographic Database

1st column: MIAS database reference number.

NOTES
=====
1) The list is arranged in pairs of films, where each pair
   represents the left (even filename numbers) and right mammograms
   (odd filename numbers) of a single patient.

=================================================================

"""
INFO_LINES = (
    "mdb001 G CIRC B 535 425 97",
    "mdb002 G CIRC B 522 280 69",
    "mdb003 D NORM ",
    "mdb004 D NORM ",
    "mdb005 F CIRC B 477 333 60",
    "mdb005 F SPIC M 500 668 56",
    "mdb006 F NORM ",
    "mdb059 F CIRC B",
    "mdb216 D CALC M *NOTE 3* ",
)


def mias(
    folder: Path, lines: Iterable[str] = INFO_LINES, *, encoding: str = "ascii", eol: str = "\n"
) -> Path:
    """Mini-MIAS: ``Info.txt`` and a film for each number in it; right breasts (odd) have the wall on the right."""
    folder.mkdir(parents=True, exist_ok=True)
    text = INFO_HEAD + "\n".join(lines) + "\n\n" + "=" * 65 + "\n"
    (folder / "Info.txt").write_bytes(text.replace("\n", eol).encode(encoding))
    discs: dict[str, list[Disc]] = {}
    for line in lines:
        parts = line.split()
        place = discs.setdefault(parts[0], [])
        if len(parts) == 7:
            x, y, radius = (float(part) for part in parts[4:])
            place.append((x, 1024 - y, radius))
    for name, place in discs.items():
        wall = "right" if int(name[3:]) % 2 else "left"
        write_pgm(folder / f"{name}.pgm", drawn(1024, 1024, wall, place, int(name[3:])), "# made by a test\n")
    return folder


MIAS_LABELS = "image,patient,laterality,view,label,abnormality,tissue,n_lesions,x,y,radius"
MIAS_LESIONS = "image,patient,abnormality,severity,x,y,radius"


def mias_png(folder: Path, *, lesions: bool = True, correlation: tuple[str, ...] = ()) -> Path:
    """Derived copies: ``labels.csv``, ``lesions.csv`` (or not), ``images/*.png`` of 96 x 80 pixels."""
    (folder / "images").mkdir(parents=True)
    films = (
        ("mdb001", "P001", "R", "benign", "CIRC", "G", [(50.0, 40.0, 8.0, "benign")]),
        ("mdb002", "P001", "L", "normal", "NORM", "G", []),
        (
            "mdb003",
            "P002",
            "R",
            "malignant",
            "SPIC",
            "D",
            [(40.0, 30.0, 6.0, "benign"), (52, 60, 7, "malignant")],
        ),
        ("mdb004", "P002", "L", "malignant", "CALC", "D", [("", "", "", "malignant")]),
    )
    labels, places = [MIAS_LABELS + (",register_corr" if correlation else "")], [MIAS_LESIONS]
    for index, (name, patient, side, label, kind, tissue, found) in enumerate(films):
        first = found[0] if found else ("", "", "", "")
        cells = [f"images/{name}.png", patient, side, "MLO", label, kind, tissue, len(found), *first[:3]]
        labels.append(",".join(map(str, cells)) + (f",{correlation[index]}" if correlation else ""))
        places += [f"images/{name}.png,{patient},{kind},{x[3]},{x[0]},{x[1]},{x[2]}" for x in found]
        discs = [(float(x), float(y), float(r)) for x, y, r, _ in found if x != ""]
        wall = "right" if side == "R" else "left"
        Pil.fromarray(drawn(96, 80, wall, discs, index)).save(folder / "images" / f"{name}.png")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    if lesions:
        (folder / "lesions.csv").write_text("\n".join(places) + "\n", encoding="utf-8")
    return folder


def write_dicom(
    path: Path,
    picture: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    bits: int = 8,
    patient: str = "",
    side: str = "",
    view: str = "",
    spacing: float = 0.07,
) -> None:
    """A DICOM mammogram, as small as it can be: MONOCHROME2, Explicit VR Little Endian."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"  # Digital Mammography, for presentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PatientID, ds.PatientName = "MG", patient, ""
    if side:
        ds.ImageLaterality = side
    codes = {"CC": "399162004", "MLO": "399368009"}  # CID 4014
    if view:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = codes[view], "SCT", view
        ds.ViewCodeSequence = [code]
    ds.ImagerPixelSpacing = [spacing, spacing]
    ds.Rows, ds.Columns = picture.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = 8 * picture.dtype.itemsize
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelData = picture.tobytes() + b"\0" * (picture.nbytes % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def twelve_bits(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The same picture in 12 bits."""
    return picture.astype(np.uint16) << np.uint16(4)


def ring(disc: Disc, corners: int = 24) -> list[tuple[float, float]]:
    """The outline of a disc."""
    x, y, radius = disc
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return [(float(x + radius * np.cos(at)), float(y + radius * np.sin(at))) for at in angles]


# INbreast -----------------------------------------------------------------------------------------------------

INBREAST_HEAD = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
INBREAST = (
    ("20586908", "6c613a14b80a8591", "R", "CC", "3", "4a",
     [("Mass", (60.0, 60.0, 10.0)), ("Espiculated Region", (60.0, 60.0, 13.0))]),
    ("20586934", "6c613a14b80a8591", "L", "CC", "3", "1", []),
    ("20586960", "6c613a14b80a8591", "R", "MLO", "3", "5",
     [("Mass", (50.0, 70.0, 9.0)), ("Calcification", (40.0, 90.0, 0.0))]),
    ("20587054", "b6a4f750c6df4f90", "L", "MLO", "1", "3", [("Cluster", (40.0, 60.0, 8.0))]),
    ("20587080", "b6a4f750c6df4f90", "R", "MLO", " ", "2", [("Assymetry", (60.0, 50.0, 8.0))]),
)  # fmt: skip


def plist(rois: Iterable[tuple[str, list[tuple[float, float]]]]) -> bytes:
    """OsiriX' property list of regions of interest, as AllXML has it."""
    listed = list(rois)
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" '
        '"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0"><dict><key>Images</key><array>'
        f"<dict><key>ImageIndex</key><integer>0</integer><key>NumberOfROIs</key><integer>{len(listed)}</integer>"
        "<key>ROIs</key><array>"
    ]
    for index, (name, points) in enumerate(listed):
        texts = "".join(f"<string>({x:f}, {y:f})</string>" for x, y in points)
        parts.append(
            f"<dict><key>Area</key><real>1.5</real><key>IndexInImage</key><integer>{index}</integer>"
            f"<key>Name</key><string>{name}</string><key>NumberOfPoints</key><integer>{len(points)}</integer>"
            f"<key>Point_px</key><array>{texts}</array><key>Type</key><integer>15</integer></dict>"
        )
    return "".join((*parts, "</array></dict></array></dict></plist>\n")).encode()


def inbreast(folder: Path, *, encoding: str = "utf-8", eol: str = "\n") -> Path:
    """INbreast: ``INbreast.csv``, ``AllDICOMs``, ``AllXML`` (none where there is no region), 128 x 100 pixels."""
    (folder / "AllXML").mkdir(parents=True)
    (folder / "PectoralMuscle").mkdir()
    rows = [INBREAST_HEAD]
    for image, woman, side, view, acr, birads, rois in INBREAST:
        rows.append(f"removed;removed;{side};{view};201001;{image};{acr};{birads}")
        discs = [disc for name, disc in rois if name != "Espiculated Region"]
        picture = twelve_bits(drawn(128, 100, "right" if side == "R" else "left", discs, int(image)))
        code = "ML" if view == "MLO" else view
        write_dicom(
            folder / "AllDICOMs" / f"{image}_{woman}_MG_{side}_{code}_ANON.dcm", picture, bits=12, side=side
        )
        if rois:
            regions = [(name, ring(disc) if disc[2] else [disc[:2]]) for name, disc in rois]
            (folder / "AllXML" / f"{image}.xml").write_bytes(plist(regions))
    (folder / "PectoralMuscle" / "20586934.xml").write_bytes(plist([("Pectoral Muscle", ring((5, 5, 5)))]))
    rows.append(";;;;;;;")
    (folder / "INbreast.csv").write_bytes((eol.join(rows) + eol).encode(encoding))
    return folder


# BCDR ---------------------------------------------------------------------------------------------------------

BCDR_IMAGES = "patient_id,study_id,series,image_filename,image_type_name,image_type_id,age,density"
BCDR_OUTLINES = (
    "patient_id,study_id,series,lesion_id,segmentation_id,image_view,image_filename,lw_x_points,lw_y_points,"
    "mammography_type,mammography_nodule,mammography_calcification,mammography_microcalcification,"
    "mammography_axillary_adenopathy,mammography_architectural_distortion,mammography_stroma_distortion,"
    "age,density,classification"
)


def bcdr(folder: Path, part: str = "d01", *, images: bool = True, patient: int = 3) -> Path:
    """One part of BCDR: both tables (or the outlines alone), TIFF pictures of 120 x 90 pixels."""
    base = folder / f"BCDR-{part.upper()}_dataset"
    outlined: dict[str, list[tuple[Disc, str, str]]] = {
        "RCC": [((50.0, 50.0, 9.0), " Malign ", "1, 0, 0, 0, 0, 0")],
        "RO": [],
        "LCC": [((30.0, 60.0, 7.0), " Benign ", "0, 0, 1, 0, 0, 0"),
                ((40.0, 40.0, 0.0), " Benign ", "1, 0, 0, 0, 0, 0")],
    }  # fmt: skip
    if images:
        outlined["LO"] = []
    rows, lines = [BCDR_IMAGES], [BCDR_OUTLINES]
    views = ("RCC", "LCC", "RO", "LO")
    others = [(patient + 1, "LO", []), (patient + 1, "LCC", [])] if images else []
    listed = [(patient, view, lesions) for view, lesions in outlined.items()] + others
    for woman, view, lesions in listed:
        if not images and not lesions:
            continue
        code = views.index(view)
        path = f"patient_{woman}/study_{woman}/img_{woman}_{woman}_1_{view}.tif"
        rows.append(f"{woman}, {woman}, 1, {path} , {view}, {code}, 50, {'NaN' if view == 'LO' else 2}")
        for number, (disc, label, flags) in enumerate(lesions, start=1):
            points = ring(disc) if disc[2] else []
            xs, ys = (" " + " ".join(str(round(point[axis])) for point in points) for axis in (0, 1))
            if not points:
                xs, ys = " NaN", " NaN"
            lines.append(
                f"{woman}, {woman}, 1, {number}, 1, {code + 1}, {path}, {xs}, {ys}, 1, {flags}, 50, 2,{label}"
            )
        wall = "right" if view.startswith("R") else "left"
        discs = [disc for disc, _, _ in lesions if disc[2]]
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(drawn(120, 90, wall, discs, 10 * woman + code)).save(file)
    if images:
        (base / f"bcdr_{part}_img.csv").write_text("\r\n".join(rows) + "\r\n", encoding="ascii")
    if len(lines) > 1:
        (base / f"bcdr_{part}_outlines.csv").write_text("\r\n".join(lines) + "\r\n", encoding="ascii")
    return folder


# CBIS-DDSM ----------------------------------------------------------------------------------------------------

CBIS_MASS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,"
    "mass margins,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
CBIS_CALC = (
    "patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,calc type,"
    "calc distribution,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
CBIS: tuple[tuple[str, str, str, str, str, int, str, str, int, str, Disc], ...] = (
    # list, partition, patient, breast, view, abnormality, two words, assessment, pathology, place
    ("mass", "train", "P_00001", "LEFT", "CC", 1, "IRREGULAR", "SPICULATED", 4, "MALIGNANT", (30, 40, 8)),
    ("mass", "train", "P_00001", "LEFT", "CC", 2, "OVAL", "CIRCUMSCRIBED", 3, "BENIGN", (45, 80, 7)),
    ("mass", "train", "P_00001", "LEFT", "MLO", 1, "ARCHITECTURAL_DISTORTION", "N/A", 4, "MALIGNANT", (30, 60, 9)),
    ("mass", "test", "P_00016", "RIGHT", "CC", 1, "ROUND", "OBSCURED", 4, "BENIGN", (60, 50, 8)),
    ("calc", "train", "P_00005", "RIGHT", "CC", 1, "PLEOMORPHIC", "CLUSTERED", 3,
     "BENIGN_WITHOUT_CALLBACK", (60, 70, 6)),
    ("calc", "test", "P_00001", "LEFT", "CC", 1, "PUNCTATE", "CLUSTERED", 2, "BENIGN", (60, 60, 5)),
)  # fmt: skip
UID = "1.3.6.1.4.1.9590.100.1.2"


def cbis_ddsm(folder: Path, layout: str = "nbia") -> Path:
    """CBIS-DDSM: ``uid`` (folders named for subjects, UIDs below), ``nbia`` (the downloader's names) or ``bare``
    (UIDs alone, and metadata.csv). Mask and cropped picture change places from one abnormality to the next."""
    lists: dict[tuple[str, str], list[str]] = {}
    films: dict[str, list[Disc]] = {}
    metadata = [
        "Series UID,Collection,Subject ID,Study UID,Series Description,Number of Images,File Location"
    ]
    folder.mkdir(parents=True, exist_ok=True)

    def put(subject: str, series: str, file: int, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        number = f"{sum(map(ord, subject + series)):05d}{len(subject)}"
        below = {
            "uid": f"{subject}/{UID}.{number}/{UID}.9{number}",
            "nbia": f"CBIS-DDSM/{subject}/07-20-2016-DDSM-NA-{number}/1.000000-{series}-{number}",
            "bare": f"CBIS-DDSM/{UID}.{number}.{sum(map(ord, subject)) * 7 + len(series)}/{UID}.9{number}",
        }[layout]
        name = f"{file:06d}.dcm" if layout == "uid" else f"1-{file + 1}.dcm"
        write_dicom(folder / below / name, picture, bits=8 * picture.dtype.itemsize)
        windows = "./" + below
        metadata.append(
            f"{UID}.9{number},CBIS-DDSM,{subject},{UID}.{number},{series},1,{windows}".replace("/", "\\")
        )

    for kind, partition, patient, breast, view, number, first, second, birads, label, disc in CBIS:
        prefix = f"{kind.capitalize()}-{'Training' if partition == 'train' else 'Test'}"
        film = f"{prefix}_{patient}_{breast}_{view}"
        films.setdefault(film, []).append(disc)
        wall, height = "left" if breast == "LEFT" else "right", 128 + int(patient[2:]) % 16
        mask = np.where(drawn(height, 96, wall, [disc]) == BRIGHT, np.uint8(255), np.uint8(0))
        x, y, _ = (int(value) for value in disc)
        crop = twelve_bits(drawn(height, 96, wall, [disc])[y - 12 : y + 20, x - 12 : x + 20])
        order = (mask, crop) if number % 2 else (crop, mask)
        for at, picture in enumerate(order):
            put(f"{film}_{number}", "cropped images" if layout == "nbia" else "ROI", at, picture)
        path = f"{film}_{number}/{UID}.1/{UID}.2/00000{{}}.dcm"
        lists.setdefault((kind, partition), []).append(
            f"{patient},3,{breast},{view},{number},{'mass' if kind == 'mass' else 'calcification'},{first},{second},"
            f'{birads},{label},4,{film}/{UID}.1/{UID}.2/000000.dcm,"{path.format(0)}\n","{path.format(1)}\n"'
        )
    for film, discs in films.items():
        height = 128 + int(film.split("_")[2]) % 16
        picture = drawn(height, 96, "left" if "LEFT" in film else "right", discs, sum(map(ord, film)))
        put(film, "full mammogram images", 0, picture.astype(np.uint16) << np.uint16(8))
    for (kind, partition), rows in lists.items():
        head = CBIS_MASS if kind == "mass" else CBIS_CALC
        name = f"{kind}_case_description_{partition}_set.csv"
        (folder / name).write_text("\n".join((head, *rows)) + "\n", encoding="utf-8", newline="")
    if layout != "uid":
        (folder / "metadata.csv").write_text("\n".join(metadata) + "\n", encoding="utf-8")
    return folder


# VinDr-Mammo --------------------------------------------------------------------------------------------------

VINDR_BREASTS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"
)
VINDR_FINDINGS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,"
    "finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
)
VINDR: tuple[tuple[int, str, str, int, str, list[tuple[str, str, Disc | None]]], ...] = (
    (1, "L", "CC", 4, "C", [("['Mass']", "BI-RADS 4", (30.0, 40.0, 8.0))]),
    (1, "L", "MLO", 4, "C", [("['Suspicious Calcification', 'Mass']", "BI-RADS 4", (35.0, 60.0, 7.0)),
                             ("['Skin Thickening']", "", (60.0, 60.0, 5.0))]),
    (1, "R", "CC", 1, "C", [("['No Finding']", "", None)]),
    (1, "R", "MLO", 1, "C", [("['No Finding']", "", None)]),
    (2, "L", "CC", 2, "B", [("['No Finding']", "", None)]),
    (2, "R", "CC", 3, "B", [("['Focal Asymmetry']", "BI-RADS 3", (50.0, 50.0, 9.0))]),
)  # fmt: skip


def vindr_ids(study: int, side: str, view: str) -> tuple[str, str]:
    """Study and image identifiers, 32 hexadecimal digits each."""
    return f"{study:032x}", f"{study:028x}{ord(side):02x}{len(view):02x}"


def vindr(folder: Path) -> Path:
    """VinDr-Mammo: both tables and ``images/<study_id>/<image_id>.dicom`` of 110 x 90 pixels, 14 bits."""
    breasts, findings = [VINDR_BREASTS], [VINDR_FINDINGS]
    for study, side, view, birads, density, found in VINDR:
        study_id, image_id = vindr_ids(study, side, view)
        height = 110 + study
        split = "training" if study == 1 else "test"
        head = (
            f"{study_id},{'a' * 32},{image_id},{side},{view},{height},90,BI-RADS {birads},DENSITY {density}"
        )
        breasts.append(f"{head},{split}")
        for words, category, disc in found:
            box = ",,,"
            if disc is not None:
                x, y, radius = disc
                box = f"{x - radius},{y - radius},{x + radius},{y + radius}"
            quoted = f'"{words}"' if "," in words else words
            findings.append(f"{head},{quoted},{category},{box},{split}")
        discs = [disc for _, _, disc in found if disc is not None]
        picture = drawn(
            height, 90, "left" if side == "L" else "right", discs, int(image_id, 16) % 10**9
        ).astype(np.uint16) << np.uint16(6)
        write_dicom(
            folder / "images" / study_id / f"{image_id}.dicom", picture, bits=14, side=side, view=view
        )
    (folder / "breast-level_annotations.csv").write_text("\n".join(breasts) + "\n", encoding="utf-8")
    (folder / "finding_annotations.csv").write_text("\n".join(findings) + "\n", encoding="utf-8")
    return folder


# CMMD ---------------------------------------------------------------------------------------------------------

CMMD_HEAD = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
CMMD_ROWS = (
    ("D1-0001", "R", "44", "2", "calcification", "Benign", ""),
    ("D1-0002", "L", "40", "2", "both", "Malignant", ""),
    ("D2-0003", "L", "51", "2", "mass", "Malignant", "Luminal A"),
    ("D2-0003", "R", "51", "2", "mass", "Benign", ""),
)
CMMD_FILES = (
    ("D1-0001", "R", "CC"),
    ("D1-0001", "R", "MLO"),
    ("D1-0002", "L", "CC"),
    ("D1-0002", "R", "CC"),
    ("D2-0003", "L", "MLO"),
    ("D2-0003", "R", "MLO"),
)


def cmmd(folder: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """CMMD: the list saved as CSV, and ``CMMD/D1-0001/<study>/<series>/1-1.dcm`` of 110 x 90 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [delimiter.join(row) for row in (CMMD_HEAD, *CMMD_ROWS)]
    (folder / "CMMD_clinicaldata_revision.csv").write_bytes(("\r\n".join(rows) + "\r\n").encode(encoding))
    counts: dict[str, int] = {}
    for patient, side, view in CMMD_FILES:
        counts[patient] = counts.get(patient, 0) + 1
        seed = 10 * int(patient[-1]) + counts[patient]
        picture = drawn(110, 90, "left" if side == "L" else "right", seed=seed)
        path = (
            folder
            / "CMMD"
            / patient
            / "07-18-2010-NA-NA-79377"
            / "1.000000-NA-70244"
            / f"1-{counts[patient]}.dcm"
        )
        write_dicom(path, picture, patient=patient, side=side, view=view)
    return folder
