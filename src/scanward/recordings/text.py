"""From the bytes of a text table to its text and its shape: encoding and separator."""

from __future__ import annotations

import codecs
import csv
import io

from scanward.commands import FIELDS
from scanward.errors import DecodeError, InputError
from scanward.recordings.dialect import ALIASES, DEVICE_COLUMNS

DELIMITERS = (",", ";", "\t", "|")

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be text: no NUL, save in UTF-16 or UTF-32."""
    return b"\0" not in head or _wide(head) != ""


def decode_text(data: bytes, where: str, encoding: str = "") -> tuple[str, str]:
    """Text of ``data`` and the encoding used: the one given, by byte order mark, UTF-8, or Windows-1252.

    Raises
    ------
    DecodeError
        When it is not text, does not fit the encoding given, or mixes UTF-8 with another encoding (the
        message names the first line that does not fit).
    """
    if encoding:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except (UnicodeError, LookupError) as error:
            raise DecodeError(f"the text is not {encoding}", where, "correct table.encoding") from error
    wide = _wide(data[:65536])
    if wide:
        try:
            text = data.decode(wide).removeprefix("\ufeff")
        except UnicodeError as error:
            raise DecodeError(f"the text is not {wide}", where, "save it as UTF-8") from error
        return _without_nul(text, where), wide
    try:
        return _without_nul(data.decode("utf-8-sig"), where), "utf-8"
    except UnicodeDecodeError as error:
        return _without_nul(_single_byte(data, where, error.start), where), "cp1252"


def _single_byte(data: bytes, where: str, start: int) -> str:
    line = data.count(b"\n", 0, start) + 1
    # A file in one single-byte encoding holds no valid multi-byte UTF-8; one with both was pasted.
    for number, part in enumerate(data.split(b"\n"), 1):
        if part.isascii():
            continue
        try:
            part.decode("utf-8")
        except UnicodeDecodeError:
            continue
        raise DecodeError(
            f"mixed encodings: line {line} is not UTF-8 and line {number} is",
            where,
            "save it as UTF-8 throughout",
        )
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        bad = data.count(b"\n", 0, error.start) + 1
        raise DecodeError(
            f"line {bad} is neither UTF-8 nor Windows-1252", where, "save it as UTF-8"
        ) from error


def _without_nul(text: str, where: str) -> str:
    if "\0" in text:
        raise DecodeError(
            "not text: it holds NUL characters", where, "give a CSV, TSV, JSON Lines or Parquet table"
        )
    return text


def _wide(head: bytes) -> str:
    """The UTF-16 or UTF-32 of ``head``, by its mark or by where its zeros are; empty for anything else."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return "" if name == "utf-8" else name
    half = min(len(head) // 2, 2048)
    if half < 2:
        return ""
    even, odd = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if odd > 0.7 * half and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd == 0 else ""


def choose_delimiter(text: str) -> str:
    """The separator that gives the first line the most known columns, then the most columns."""
    header = text.lstrip("\r\n")[:65536]

    def worth(mark: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader(io.StringIO(header, newline=""), delimiter=mark), [])
        except csv.Error:
            return (0, 0)
        return (sum(is_known_column(cell.strip()) for cell in cells), len(cells))

    return max(DELIMITERS, key=worth)  # max keeps the first of equals


def is_known_column(name: str) -> bool:
    """Whether a column of this name needs no dialect to mean something."""
    base = name.partition("@")[0]
    return base in FIELDS or base in ALIASES or base in DEVICE_COLUMNS


def input_is_empty(where: str) -> InputError:
    """The error for a table without any row."""
    return InputError("the table has no rows", where, "give a table with a header and at least one row")
