"""MIAS: 322 films of the UK National Breast Screening Programme, digitised, in 1994 (J. Suckling et al.).

The published layout: ``Info.txt`` and ``mdb001.pgm`` ... of 1024 x 1024 pixels of 200 um (mini-MIAS; the list as in
https://github.com/swapnilblues/MammographyDetection, ``Dataset/Info.txt``). Copies as PNG with tables are read by
`scanward.mammography.adapters.mias_copies`.

``Info.txt`` counts y from the bottom of the picture; a lesion here has y = 1024 - y. Circles enclose the lesion, or
the cluster of calcifications. Two films in a row are one woman.

Left and right: ``Info.txt`` says that even numbers are left breasts, and so does this adapter. The letters on the
films themselves (where the copy still shows them) and the file names of the full-resolution set (``mdb001lm``) say
the opposite: the small copies are mirrored as well, so that picture and label go together. One remark says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scanward.errors import InputError
from scanward.mammography.adapters.tables import (
    files_below,
    find_list,
    in_frame,
    number,
    read_text,
    worst,
)
from scanward.mammography.manifest import Label, Lesion, LesionKind
from scanward.mammography.sources import Found, Kind, Strange

SIDE = 1024  # px, of every picture of mini-MIAS
SPACING = 0.2  # mm per pixel of mini-MIAS
LEAST_CORRELATION = (
    0.97  # of a registered copy with its original; below, the lesions' places are not to be trusted
)
KINDS = {
    "CALC": LesionKind.CALCIFICATION,
    "CIRC": LesionKind.MASS,
    "SPIC": LesionKind.MASS,
    "MISC": LesionKind.MASS,
    "ARCH": LesionKind.DISTORTION,
    "ASYM": LesionKind.ASYMMETRY,
}
NOTES = {
    "CALC": "calcification",
    "CIRC": "well-defined or circumscribed mass",
    "SPIC": "spiculated mass",
    "MISC": "other, ill-defined mass",
    "ARCH": "architectural distortion",
    "ASYM": "asymmetry",
}
TISSUES = {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}
SEVERITIES = {"B": Label.BENIGN, "M": Label.MALIGNANT}
_FILM = re.compile(r"mdb(\d{3})(?:([lr])([smlx]))?\.pgm", re.IGNORECASE)
SIDES = Strange(
    what="left and right",
    where="Info.txt",
    why="even numbers are left breasts as Info.txt says; letters on the films say the opposite, the copies being"
    " mirrored",
    fate="remark",
)


@dataclass(slots=True)
class Film:
    """What the list says of one film."""

    tissue: str = ""
    lines: list[str] = field(default_factory=list)
    lesions: list[Lesion] = field(default_factory=list)
    normal: bool = False
    remarks: list[str] = field(default_factory=list)
    wrong: str = ""


def patient(film: int) -> str:
    """The woman of a film: 1 and 2 are P001, 3 and 4 are P002."""
    return f"P{(film + 1) // 2:03d}"


def laterality(film: int) -> str:
    """Even numbers are left breasts, odd ones right (``Info.txt``, note 1)."""
    return "R" if film % 2 else "L"


def make_lesion(abnormality: str, severity: Label, circle: tuple[float, float, float] | None) -> Lesion:
    """A lesion in MIAS' words. Only SPIC and CIRC say something about spicules."""
    spiculated = {"SPIC": True, "CIRC": False}.get(abnormality)
    return Lesion(
        kind=KINDS[abnormality],
        label=severity,
        circle=circle,
        spiculated=spiculated,
        note=NOTES[abnormality],
    )


def read_line(line: str) -> tuple[int, str, Lesion | None, str]:
    """One line of the list: film, tissue, lesion (None: normal), remark.

    Raises
    ------
    ValueError
        The line does not read ``mdb001 G CIRC B 535 425 197``; it says why.
    """
    parts = line.split()
    head = re.fullmatch(r"mdb(\d{3})", parts[0], re.ASCII) if parts else None
    if head is None:
        raise ValueError("no film number")
    film = int(head[1])
    if len(parts) < 3 or parts[1] not in TISSUES:
        raise ValueError("no character of tissue (F, G or D)")
    tissue, abnormality, rest = parts[1], parts[2], parts[3:]
    if abnormality == "NORM":
        if rest:
            raise ValueError("more after NORM")
        return film, tissue, None, ""
    if abnormality not in KINDS:
        raise ValueError(f"abnormality {abnormality[:16]!r} is none of {', '.join(KINDS)}")
    if not rest or rest[0] not in SEVERITIES:
        raise ValueError("severity is neither B nor M")
    severity, place = SEVERITIES[rest[0]], rest[1:]
    if not place or "NOTE" in line:
        return film, tissue, make_lesion(abnormality, severity, None), "the list gives no place of a lesion"
    values = [number(text) for text in place]
    if len(values) != 3 or any(value is None for value in values):
        raise ValueError("the place is not three numbers x, y, radius")
    x, y, radius = (value for value in values if value is not None)
    lesion = make_lesion(abnormality, severity, (x, SIDE - y, radius))
    if radius <= 0 or not in_frame(lesion, SIDE, SIDE):
        lost = f"a lesion's place {x:g} {y:g} {radius:g} is outside the picture: left out"
        return film, tissue, make_lesion(abnormality, severity, None), lost
    return film, tissue, lesion, ""


def read_info(path: Path) -> tuple[dict[int, Film], list[Strange]]:
    """The list ``Info.txt``: what it says of each film, and its odd lines."""
    text, strange = read_text(path)
    films: dict[int, Film] = {}
    odd = list(strange)
    for count, line in enumerate(text.splitlines(), start=1):
        line = " ".join(line.split())
        started = re.match(r"mdb(\d{3})\b", line, re.ASCII)
        if started is None:
            continue
        film = films.setdefault(int(started[1]), Film())
        try:
            _, tissue, lesion, remark = read_line(line)
        except ValueError as error:
            film.wrong = film.wrong or f"line {count}: {error}"
            continue
        if line in film.lines:
            odd.append(
                Strange(
                    what=line[:80],
                    where=f"{path.name} line {count}",
                    why="the line is there twice",
                    fate="remark",
                )
            )
            continue
        film.lines.append(line)
        if film.tissue and film.tissue != tissue:
            film.remarks.append(f"tissue is both {film.tissue} and {tissue}")
        film.tissue = film.tissue or tissue
        film.normal = film.normal or lesion is None
        if lesion is not None:
            film.lesions.append(lesion)
        if remark:
            film.remarks.append(remark)
    return films, odd


def read(src: Path) -> Iterator[Found | Strange]:
    """Mini-MIAS as published: ``Info.txt`` and ``mdb???.pgm``, side by side or a folder apart.

    Raises
    ------
    InputError
        No ``Info.txt`` with lines of films, or no picture at all.
    """
    info = find_list(src, ("info.txt",)) if src.is_dir() else None
    if info is None:
        raise InputError(
            "not a MIAS folder: Info.txt is missing", str(src), "Info.txt and mdb001.pgm ... are looked for"
        )
    films, odd = read_info(info)
    pictures = [
        (path, named) for path in files_below(src, (".pgm",)) if (named := _FILM.fullmatch(path.name))
    ]
    if not films or not pictures:
        missing = "lines of films in Info.txt" if not films else "pictures mdb001.pgm ..."
        raise InputError(f"not a MIAS folder: no {missing}", str(src), "unpack all-mias.tar.gz again")
    yield SIDES
    yield from odd
    taken: dict[int, Path] = {}
    for path, named in sorted(pictures, key=lambda pair: (pair[1][2] is not None, pair[0])):
        film = int(named[1])
        where = path.relative_to(src).as_posix()
        if film in taken:
            yield Strange(
                what=f"mdb{film:03d}",
                where=where,
                why=f"a second picture of this film: {taken[film].name} is taken",
                fate="duplicate",
            )
            continue
        taken[film] = path
        if film not in films:
            yield Strange(what=f"mdb{film:03d}", where=where, why="Info.txt does not list it: no label")
        else:
            yield _film(film, films[film], path, named[2], where)
    for film in sorted(films.keys() - taken.keys()):
        yield Strange(
            what=f"mdb{film:03d}",
            where=f"mdb{film:03d}.pgm",
            why="listed in Info.txt, but no such picture",
            fate="missing",
        )


def _film(film: int, said: Film, path: Path, letter: str | None, where: str) -> Found | Strange:
    """One film that is listed and there."""
    name = f"mdb{film:03d}"
    if said.wrong:
        return Strange(what=name, where=where, why=f"the list cannot be understood: {said.wrong}")
    if said.normal and said.lesions:
        return Strange(what=name, where=where, why="the list calls it normal and with a lesion")
    size = _size(path)
    if isinstance(size, str):
        return Strange(what=name, where=where, why=size)
    lesions, remarks = tuple(said.lesions), list(said.remarks)
    if size != (SIDE, SIDE) and any(lesion.located for lesion in lesions):
        lesions = tuple(_unlocated(lesion) for lesion in lesions)
        remarks.append(
            f"{size[0]} x {size[1]} pixels and not {SIDE} x {SIDE}: the list's places do not apply, left out"
        )
    if letter and letter.upper() != laterality(film):
        remarks.append(
            "the file's name, which is followed, and the list's note 1 disagree about left and right"
        )
    return Found(
        name=name,
        path=path,
        patient=patient(film),
        label=worst(lesion.label for lesion in lesions) if lesions else Label.NORMAL,
        laterality=letter.upper() if letter else laterality(film),
        view="MLO",
        density=TISSUES[said.tissue],
        spacing=(SPACING, SPACING) if size == (SIDE, SIDE) else None,
        lesions=lesions,
        remarks=tuple(remarks),
    )


def _unlocated(lesion: Lesion) -> Lesion:
    return Lesion(kind=lesion.kind, label=lesion.label, spiculated=lesion.spiculated, note=lesion.note)


def _size(path: Path) -> tuple[int, int] | str:
    """Columns and rows out of the header of a PGM, or why they cannot be read. Comments are allowed."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)  # bytes; a PGM's header has some 20, with GIMP's comment 60
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    found = re.match(rb"P5(?:\s|#[^\n]*\n)+(\d{1,6})(?:\s|#[^\n]*\n)+(\d{1,6})\s", head)
    return (int(found[1]), int(found[2])) if found else "not a PGM picture (P5)"


CITE = "J. Suckling et al. (1994), The Mammographic Image Analysis Society Digital Mammogram Database, ICS 1069, 375"
TERMS = "research only, by the set's Licence.txt (the full-resolution deposit 10.17863/CAM.105113: CC BY)"
MIAS = Kind(
    name="mias",
    title="mini-MIAS, 322 films of 161 women",
    read=read,
    licence=TERMS,
    cite=CITE,
    layout="Info.txt and mdb001.pgm ... mdb322.pgm",
)
