"""Builders of small data sets in the real layouts of published ones, for the tests of the adapters.

Every picture is drawn: a dark ground, a breast as half an ellipse on the chest wall's side, lesions as bright discs.
Names of files and columns are those of the published sets; the sources are named in the adapters' docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

Disc = tuple[float, float, float]  # x, y, radius in px

GROUND, TISSUE, BRIGHT = 2, 90, 230


def drawn(rows: int, columns: int, wall: str, discs: Iterable[Disc] = ()) -> NDArray[np.uint8]:
    """A film (rows, columns) with the chest wall on the ``left`` or ``right``."""
    down, right = np.ogrid[:rows, :columns]
    across = right if wall == "left" else columns - 1 - right
    inside = (across / (0.8 * columns)) ** 2 + ((down - rows / 2) / (0.46 * rows)) ** 2 <= 1
    noise = np.random.default_rng(rows * columns).integers(0, 12, (rows, columns))
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
        write_pgm(folder / f"{name}.pgm", drawn(1024, 1024, wall, place), "# made by a test\n")
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
        Pil.fromarray(drawn(96, 80, wall, discs)).save(folder / "images" / f"{name}.png")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    if lesions:
        (folder / "lesions.csv").write_text("\n".join(places) + "\n", encoding="utf-8")
    return folder
