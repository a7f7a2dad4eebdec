"""Tables of ratings from files: any CSV or TSV of one row a rating, and iMRMC's own format.

CSV (comma, semicolon or tab; UTF-8) with a header row. Columns are found by these names, whatever their case, or by the
names given:

=========  =====================================================================================
column     also known as
=========  =====================================================================================
reader     readerID, reader_id
treatment  modality, modalityID, modality_id, treatment_id
case       caseID, case_id
truth      (0 or 1) truth_value, status
rating     score
patient    patientID, patient_id, cluster; optional: who is resampled. Without it every case is a patient of its own
=========  =====================================================================================

MRMCaov's data frames have the names of the first column, iMRMC's those of the second, without truth: there, as in an
``.imrmc`` file (everything after the line ``BEGIN DATA:``: reader, case, modality, score), rows of the reader ``-1`` or
``truth`` give the truth of a case (https://github.com/DIDSR/iMRMC).

A row whose rating is empty, NA or NaN was not read. Other columns are kept as text.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanward.config import MRMC_BOUNDS
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.reading.mrmc.ratings import Ratings, dense

NAMES: Mapping[str, tuple[str, ...]] = {
    "reader": ("reader", "readerid", "reader_id"),
    "treatment": ("treatment", "modality", "modalityid", "modality_id", "treatment_id"),
    "case": ("case", "caseid", "case_id"),
    "truth": ("truth", "truth_value", "status"),
    "rating": ("rating", "score"),
    "patient": ("patient", "patientid", "patient_id", "cluster"),
}
NEEDED = ("reader", "treatment", "case", "truth", "rating")
_UNREAD = frozenset({"", "na", "nan"})
_TRUTHS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_OF_TRUTH = frozenset({"-1", "truth"})  # readers whose rows tell a case's truth
_BEGIN = re.compile(r"^\s*BEGIN DATA:?\s*$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it was read: text, row by row.

    Parameters
    ----------
    source : str
        The file's name; "" for none.
    sha256 : str
        Of the file's bytes, hex.
    columns : mapping of str to tuple of str
        The needed columns under the names of this module, all others under their own.
    lines : tuple of int
        Line of the file in which each row stands.
    unread : int
        Rows left out because their rating was empty.
    """

    source: str
    sha256: str
    columns: Mapping[str, tuple[str, ...]]
    lines: tuple[int, ...]
    unread: int = 0

    def __len__(self) -> int:
        return len(self.lines)

    def ratings(self, rows: Sequence[int] | None = None, **instead: Sequence[str]) -> Ratings:
        """The ratings of some rows, in this order (None: of all). ``instead``: columns that replace the table's.

        Raises
        ------
        InputError
            What `dense` refuses, with the line of the file; a truth or rating that is none; too large a table.
        """
        rows = range(len(self)) if rows is None else rows
        taken = {
            name: instead[name] if name in instead else [self.columns[name][row] for row in rows]
            for name in (*NEEDED, "patient")
            if name in self.columns or name in instead
        }
        truth = [self._truth(text, row) for text, row in zip(taken["truth"], rows, strict=True)]
        rating = [self._number(text, row) for text, row in zip(taken["rating"], rows, strict=True)]
        _check_size(taken, self.source)
        try:
            return dense(
                taken["reader"], taken["treatment"], taken["case"], truth, rating, taken.get("patient")
            )
        except InputError as error:
            found = re.fullmatch(r"row (\d+)", error.where)
            if found is None:
                raise InputError(error.what, self.source or error.where, error.todo) from error
            raise InputError(error.what, self.where(rows[int(found[1]) - 1]), error.todo) from error

    def where(self, row: int) -> str:
        """The place of a row, for errors."""
        return f"{self.source}, line {self.lines[row]}" if self.source else f"line {self.lines[row]}"

    def _truth(self, text: str, row: int) -> int:
        truth = _TRUTHS.get(text.lower())
        if truth is None:
            raise InputError(
                f"truth {text[:40]!r}", self.where(row), "give 1 for a positive case and 0 for a negative"
            )
        return truth

    def _number(self, text: str, row: int) -> float:
        try:
            number = float(text if "_" not in text else "no")  # Python would read 5_0 as 50
        except ValueError:
            todo = "use a decimal point" if re.fullmatch(r"-?\d+,\d+", text) else "give a number"
            raise InputError(f"rating {text[:40]!r}", self.where(row), todo) from None
        if not np.isfinite(number):
            raise InputError(f"rating {text[:40]!r}", self.where(row), "give a finite number")
        return number


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> Table:
    """Read a table of ratings from a file.

    Parameters
    ----------
    path : Path
        ``.imrmc``, or CSV or TSV with a header row.
    columns : mapping, optional
        Which column of the file is the reader, treatment, case, truth, rating, patient.

    Raises
    ------
    InputError
        No such file, no rows, a column that is not there, a row with too few fields, beyond `MRMC_BOUNDS`.
    DecodeError
        Not UTF-8, not CSV.
    SettingsError
        ``columns`` names a column that this analysis does not know.
    """
    try:
        if path.stat().st_size > MRMC_BOUNDS.file_bytes:
            raise InputError(
                f"larger than {MRMC_BOUNDS.file_bytes} bytes", str(path), "this is no table of ratings"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the ratings cannot be read: {error.strerror}", str(path), "check the path"
        ) from error
    return parse_table(data, source=path.name, columns=columns)


def parse_table(data: bytes, *, source: str = "", columns: Mapping[str, str] | None = None) -> Table:
    """A table out of a file's bytes; see `read_table` for its errors."""
    columns = dict(columns or {})
    for name in columns:
        if name not in NAMES:
            raise SettingsError(f"no column '{name}' is known", "columns", f"there are {', '.join(NAMES)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodeError(f"not UTF-8 at byte {error.start}", source, "save the table as UTF-8") from error
    if "\0" in text:
        raise DecodeError("a zero byte", source, "this is no table of text")
    digest = hashlib.sha256(data).hexdigest()
    text = unicodedata.normalize("NFC", text)  # one name typed on two computers is one reader
    begin = next((i for i, line in enumerate(text.splitlines()) if _BEGIN.match(line)), None)
    if begin is not None:
        header, lines, rows = _imrmc(text, begin, source)
    else:
        header, lines, rows = _csv(text, source)
    if not rows:
        raise InputError("no ratings", source, "give at least one row below the header")
    found = _named(header, columns, source)
    by_column = {name: tuple(row[index].strip() for row in rows) for name, index in found.items()}
    if "truth" not in by_column:
        by_column, lines = _with_truth(by_column, lines, source)
    _check_names(by_column, lines, source)
    kept = [i for i, text in enumerate(by_column["rating"]) if text.lower() not in _UNREAD]
    if not kept:
        raise InputError("no row has a rating", source, "give ratings")
    return Table(
        source=source,
        sha256=digest,
        columns={name: tuple(column[i] for i in kept) for name, column in by_column.items()},
        lines=tuple(lines[i] for i in kept),
        unread=len(lines) - len(kept),
    )


Read = tuple[list[str], list[int], list[list[str]]]


def _csv(text: str, source: str) -> Read:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if not header:
                header = [name.strip() for name in row]
                _check_header(header, source)
                continue
            where = f"{source}, line {reader.line_num}"
            if len(row) != len(header):
                raise InputError(
                    f"{len(row)} fields where the header has {len(header)}", where, "give one for each column"
                )
            if len(rows) >= MRMC_BOUNDS.rows:
                raise InputError(f"more than {MRMC_BOUNDS.rows} rows", source, "this is no table of ratings")
            if max(map(len, row)) > MRMC_BOUNDS.field_chars:
                raise InputError(
                    f"a field of more than {MRMC_BOUNDS.field_chars} characters", where, "shorten it"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DecodeError(
            f"not CSV: {error}", f"{source}, line {reader.line_num}", "check its quotes"
        ) from error
    return header, lines, rows


def _imrmc(text: str, begin: int, source: str) -> Read:
    lines: list[int] = []
    rows: list[list[str]] = []
    for number, line in enumerate(text.splitlines()[begin + 1 :], begin + 2):
        if not line.strip():
            continue
        row = [field.strip() for field in line.split(",")]
        if len(row) != 4:
            raise InputError(
                f"{len(row)} fields", f"{source}, line {number}", "give reader, case, modality, score"
            )
        if len(rows) >= MRMC_BOUNDS.rows:
            raise InputError(f"more than {MRMC_BOUNDS.rows} rows", source, "this is no table of ratings")
        rows.append(row)
        lines.append(number)
    return ["reader", "case", "treatment", "rating"], lines, rows


def _check_header(header: list[str], source: str) -> None:
    if len(header) > MRMC_BOUNDS.columns:
        raise InputError(
            f"more than {MRMC_BOUNDS.columns} columns", source, "give a table of one row a rating"
        )
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        raise InputError(
            f"column '{min(twice)[:80]}' is there twice", f"{source}, header", "give every one its own name"
        )


def _named(header: Sequence[str], chosen: Mapping[str, str], source: str) -> dict[str, int]:
    """Which column of the file is which, by name."""
    found: dict[str, int] = {}
    lowered = [name.lower() for name in header]
    for name, known in NAMES.items():
        if name in chosen:
            if chosen[name] not in header:
                raise InputError(
                    f"no column '{chosen[name]}' for the {name}",
                    f"{source}, header",
                    f"there are {', '.join(header)[:300]}",
                )
            found[name] = header.index(chosen[name])
        else:
            index = next((lowered.index(one) for one in known if one in lowered), None)
            if index is not None:
                found[name] = index
    missing = [name for name in NEEDED if name not in found and name != "truth"]
    if missing:
        raise InputError(
            f"no column for the {', the '.join(missing)}",
            f"{source}, header",
            f"there are {', '.join(header)[:300]}; name yours as reader=COLUMN",
        )
    taken = set(found.values())
    for index, name in enumerate(header):
        if index not in taken and name and name not in found:
            found[name] = index
    return found


def _with_truth(
    columns: Mapping[str, tuple[str, ...]], lines: list[int], source: str
) -> tuple[dict[str, tuple[str, ...]], list[int]]:
    """The table without the rows that tell a case's truth, and with a column of it."""
    truth: dict[str, str] = {}
    kept = []
    for row, (reader, case, score) in enumerate(
        zip(columns["reader"], columns["case"], columns["rating"], strict=True)
    ):
        if reader.lower() not in _OF_TRUTH:
            kept.append(row)
        elif case in truth:
            raise InputError(
                f"case '{case[:80]}' with a second truth", f"{source}, line {lines[row]}", "give one"
            )
        else:
            number = score.partition(".")
            truth[case] = number[0] if not number[2].strip("0") else score
    if not truth:
        raise InputError(
            "no column for the truth, and no rows of the reader '-1' or 'truth'",
            source,
            "add a column truth: 1 for a positive case, 0 for a negative",
        )
    for row in kept:
        if columns["case"][row] not in truth:
            raise InputError(
                f"no truth of case '{columns['case'][row][:80]}'",
                f"{source}, line {lines[row]}",
                "give a row of the reader '-1' for every case",
            )
    found = {name: tuple(column[row] for row in kept) for name, column in columns.items()}
    found["truth"] = tuple(truth[case] for case in found["case"])
    return found, [lines[row] for row in kept]


def _check_names(columns: Mapping[str, tuple[str, ...]], lines: Sequence[int], source: str) -> None:
    for name in ("reader", "treatment", "case", "patient"):
        for text, line in zip(columns.get(name, ()), lines, strict=False):
            if not text or len(text) > MRMC_BOUNDS.name_chars:
                raise InputError(
                    f"{name} {text[:40]!r}",
                    f"{source}, line {line}",
                    f"give a name of 1 to {MRMC_BOUNDS.name_chars} characters",
                )


def _check_size(columns: Mapping[str, Sequence[str]], source: str) -> None:
    counts = {name: len(set(columns[name])) for name in ("treatment", "reader", "case")}
    for name, most in (("treatment", MRMC_BOUNDS.treatments), ("reader", MRMC_BOUNDS.readers)):
        if counts[name] > most:
            raise InputError(
                f"{counts[name]} {name}s", source, f"at most {most}: is this the column of the {name}s?"
            )
    if counts["treatment"] * counts["reader"] > MRMC_BOUNDS.figures:
        raise InputError(
            f"{counts['treatment']} treatments x {counts['reader']} readers",
            source,
            f"at most {MRMC_BOUNDS.figures} figures, whose covariances are all kept: analyse parts of it",
        )
    if counts["treatment"] * counts["reader"] * counts["case"] > MRMC_BOUNDS.cells:
        raise InputError(
            f"{counts['treatment']} treatments x {counts['reader']} readers x {counts['case']} cases",
            source,
            f"at most {MRMC_BOUNDS.cells} cells: analyse parts of it",
        )
