"""What all adapters share: bounded reading of lists, tables and folders, and the little parsers of their cells.

Published lists come with byte-order marks, in Latin-1, with line ends of three systems, with semicolons, with
trailing blanks and with line feeds inside quoted cells. All of that is read; what cannot be read is handed back as
`Strange`, line by line, and never lost silently.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import InputError
from scanward.mammography.manifest import Label, Lesion
from scanward.mammography.sources import Found, Strange

_WORST = (Label.NORMAL, Label.BENIGN, Label.UNKNOWN, Label.MALIGNANT)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: cells by column (`column` makes the names), blanks stripped, and the line it ends on."""

    cells: Mapping[str, str]
    line: int

    def __getitem__(self, name: str) -> str:
        return self.cells.get(name, "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table read whole: its file, its columns, the rows that fit and what did not."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    strange: tuple[Strange, ...]

    def where(self, row: Row) -> str:
        """File and line of a row, for reports."""
        return f"{self.path.name} line {row.line}"


def column(text: str) -> str:
    """A column's name in the form used here: ``Left or Right breast`` and ``left_or_right_breast`` are one."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def read_text(path: Path) -> tuple[str, tuple[Strange, ...]]:
    """A list as text: UTF-8 with or without byte-order mark, UTF-16 with one, otherwise Latin-1 (and said so).

    Raises
    ------
    InputError
        Missing, unreadable, or larger than ``MAMMOGRAPHY_BOUNDS.table_bytes``.
    """
    raw = read_bytes(path, MAMMOGRAPHY_BOUNDS.table_bytes)
    strange: tuple[Strange, ...] = ()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        why = "neither UTF-8 nor UTF-16: read as Latin-1"
        strange = (Strange(what="encoding", where=path.name, why=why, fate="remark"),)
    if "\0" in text:
        text = text.replace("\0", "")
        why = "holds NUL characters: they were left out"
        strange += (Strange(what="NUL characters", where=path.name, why=why, fate="remark"),)
    return text, strange


def read_bytes(path: Path, bound: int) -> bytes:
    """A whole file of at most ``bound`` bytes; InputError says why not."""
    try:
        with path.open("rb") as file:
            raw = file.read(bound + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path), "check the path") from error
    if len(raw) > bound:
        raise InputError(f"larger than {bound} bytes", str(path), "this is no list of a data set")
    return raw


def read_table(path: Path, needed: Iterable[str], *, optional: Iterable[str] = ()) -> Table:
    """Read a table whose delimiter is a comma, a semicolon or a tab.

    ``needed`` and ``optional`` are names as `column` makes them. Rows of another length, unclosed quotes and the
    like come back as `Strange` remarks: whether an image is lost with them, only the adapter can tell.

    Raises
    ------
    InputError
        The file cannot be read, has no header, lacks a needed column, or names one twice.
    """
    text, strange = read_text(path)
    lines = io.StringIO(text, newline="")
    head = text.lstrip("\r\n").split("\n", 1)[0].split("\r", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    odd = list(strange)
    rows: list[Row] = []
    columns: tuple[str, ...] | None = None
    for cells, line, why in _rows(reader):
        if why:
            odd.append(
                Strange(what="unreadable row", where=f"{path.name} line {line}", why=why, fate="remark")
            )
        elif not any(cell.strip() for cell in cells):
            continue
        elif columns is None:
            columns = tuple(column(cell) for cell in cells)
            _check_columns(columns, needed, optional, path)
        elif len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
            why = f"{len(cells)} cells where the header has {len(columns)}"
            odd.append(Strange(what="odd row", where=f"{path.name} line {line}", why=why, fate="remark"))
        else:
            stripped = (cell.strip() for cell in cells)
            rows.append(Row(dict(zip(columns, stripped, strict=False)), line))
    if columns is None:
        raise InputError("an empty table", str(path), "download it again")
    return Table(path, columns, tuple(rows), tuple(odd))


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[list[str], int, str]]:
    """Cells, line and complaint of every row; after a complaint reading goes on with the next line."""
    line = 0
    while True:
        first = line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = getattr(reader, "line_num", first)
            lines = f" (lines {first} to {line})" if line > first else ""
            yield [], line, f"{error}{lines}"
        else:
            line = getattr(reader, "line_num", first)
            yield cells, line, ""


def _check_columns(
    columns: tuple[str, ...], needed: Iterable[str], optional: Iterable[str], path: Path
) -> None:
    used = [*needed, *optional]
    missing = [name for name in needed if name not in columns]
    twice = [name for name in used if columns.count(name) > 1]
    if missing:
        raise InputError(
            f"the table lacks {', '.join(missing)}; it has {', '.join(columns)[:300]}",
            str(path),
            "is this the list of this data set?",
        )
    if twice:
        raise InputError(f"the table has {', '.join(twice)} twice", str(path), "download it again")


def files_below(src: Path, endings: tuple[str, ...]) -> list[Path]:
    """Every file below ``src`` whose name ends so (lower case), sorted; links to folders are not followed.

    Names that begin with ``._`` are what macOS leaves beside the files it packs, and passed over.

    Raises
    ------
    InputError
        ``src`` is no folder, or holds more than ``MAMMOGRAPHY_BOUNDS.images`` such files.
    """
    if not src.is_dir():
        raise InputError("no such folder", str(src), "give the folder that the data set was unpacked to")
    found: list[Path] = []
    for folder, _, names in os.walk(src):
        found += (
            Path(folder, name)
            for name in names
            if name.lower().endswith(endings) and not name.startswith("._")
        )
        if len(found) > MAMMOGRAPHY_BOUNDS.images:
            raise InputError(
                f"more than {MAMMOGRAPHY_BOUNDS.images} pictures", str(src), "import a part of the folder"
            )
    return sorted(found)


def find_list(src: Path, names: Iterable[str], depth: int = 2) -> Path | None:
    """The first file of one of these names (any case) in ``src`` or at most ``depth`` folders below."""
    wanted = [name.lower() for name in names]
    level = [src]
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            lists = {entry.name.lower(): entry for entry in reversed(entries)}
            for name in wanted:
                if name in lists and lists[name].is_file():
                    return lists[name]
            below += [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
        level = below
    return None


def relative_path(text: str) -> PurePosixPath | None:
    """A path out of a table as a clean relative one; None when it is empty or leads out of the folder."""
    cleaned = "".join(text.replace("\\", "/").split("\n")).replace("\r", "").strip().strip('"')
    pure = PurePosixPath(cleaned)
    if not cleaned or pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", cleaned):
        return None
    # 1,024 characters: longer than any path of these sets; 255 bytes: what file systems take as one name.
    if "\0" in cleaned or len(cleaned) > 1024 or any(len(os.fsencode(part)) > 255 for part in pure.parts):
        return None
    return pure if pure.parts else None


def unique_names(records: Iterable[Found | Strange]) -> Iterator[Found | Strange]:
    """The same records; a name that came before gets a number, as `Found.name` is to be unique."""
    taken: set[str] = set()
    for record in records:
        if isinstance(record, Found):
            name, count = record.name, 1
            while name in taken:
                count += 1
                name = f"{record.name}-{count}"
            taken.add(name)
            if count > 1:
                remarks = (*record.remarks, f"another image is called {record.name}")
                record = replace(record, name=name, remarks=remarks)
        yield record


def clean_name(text: str) -> str:
    """A name of letters, digits, ``-`` and ``_``, as `Found.name` wants it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:128]


def number(text: str) -> float | None:
    """A finite decimal number, else None (``NaN``, empty, words)."""
    if not re.fullmatch(
        r"[+-]?(\d{1,12}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", text.strip(), re.ASCII
    ):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def whole(text: str) -> int | None:
    """A whole number, also written ``4.0`` or ``BI-RADS 4`` without its words, else None."""
    value = number(text)
    return int(value) if value is not None and value == int(value) else None


def worst(labels: Iterable[Label]) -> Label:
    """The worst of several labels: malignant, unknown (it could be that), benign, normal; unknown without any."""
    return max(labels, key=_WORST.index, default=Label.UNKNOWN)


def in_frame(lesion: Lesion, rows: int, columns: int, slack: float = 0.0) -> bool:
    """Whether a lesion's centre (circle) or its whole outline (give or take ``slack`` px) lies in the picture."""
    points = lesion.outline
    if lesion.circle is not None:
        points = (lesion.circle[:2],)
    low, right, down = -0.5 - slack, columns - 0.5 + slack, rows - 0.5 + slack
    return all(low <= x <= right and low <= y <= down for x, y in points)


def birads_label(category: int) -> Label:
    """A label out of a BI-RADS category, where there is no pathology: 1 normal, 2 and 3 benign, 4 to 6 malignant,
    0 (incomplete) unknown. 3 is benign here; who wants it dropped finds the category in `Found.birads`."""
    if category == 1:
        return Label.NORMAL
    if category in (2, 3):
        return Label.BENIGN
    return Label.MALIGNANT if category in (4, 5, 6) else Label.UNKNOWN
