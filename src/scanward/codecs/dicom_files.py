"""Opening DICOM files that nobody vouches for: bounded, silent, and either a data set or a DecodeError.

The file is first walked without believing any length (``dicom_scan``), then read by pydicom, then decoded
whole, so that no later access can fail or warn. An element whose value cannot be decoded is taken out and
listed (``unreadable_elements``): one bad date must not cost a report.
"""

from __future__ import annotations

import io
import logging
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

from scanward.codecs.dicom_scan import DEFLATED, check_skeleton, read_meta
from scanward.errors import DecodeError

MAX_INFLATED = 256 * 1024 * 1024  # bytes; a deflated data set larger than this is a bomb, not a report
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_NUMERIC = frozenset(("DS", "IS", "FD", "FL", "SL", "SS", "UL", "US"))

# What a parser of hostile bytes raises. Not Exception: a MemoryError or an interrupt is not the file's fault.
PARSER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    TypeError,
    ValueError,
    zlib.error,
)

# pydicom also logs what it finds odd; a reader of a thousand files must not print it.
logging.getLogger("pydicom").addHandler(logging.NullHandler())


class _Bounded:
    """A file that is never asked for more bytes than it has: ``read(4 GB)`` would allocate them first."""

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self._raw, self._size = raw, size

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._raw.tell())
        return self._raw.read(left if count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()


def open_dicom(data: bytes | Path, *, name: str) -> pydicom.Dataset:
    """The data set of a DICOM file, without pixel data, decoded.

    Parameters
    ----------
    data : bytes or Path
        A whole PS3.10 file, or where it lies. Only regular files are opened.
    name : str
        What to call it in errors.

    Raises
    ------
    DecodeError
        Empty, not DICOM, truncated, lengths or nesting that cannot be true, unreadable.
    """
    if isinstance(data, bytes):
        return _open(io.BytesIO(data), len(data), name)
    try:
        status = data.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file", name, "give files or folders of files")
        with data.open("rb") as raw:
            return _open(raw, status.st_size, name)
    except (OSError, ValueError) as error:
        raise DecodeError(f"cannot be read ({error})", name, "check path and permissions") from error


def unreadable_elements(ds: pydicom.Dataset) -> tuple[str, ...]:
    """Keywords (or tags) that ``open_dicom`` took out because their values could not be decoded."""
    return cast("tuple[str, ...]", getattr(ds, "_scanward_unreadable", ()))


def _open(raw: BinaryIO, size: int, name: str) -> pydicom.Dataset:
    stream = cast("BinaryIO", _Bounded(raw, size))
    syntax, start = read_meta(stream, size, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if syntax == DEFLATED:
                ds = _read_deflated(stream, start, name)
            else:
                check_skeleton(stream, start, size, syntax, name)
                stream.seek(0)
                ds = pydicom.dcmread(stream, stop_before_pixels=True)
            unreadable: list[str] = []
            _decode(ds, unreadable)
        except PARSER_ERRORS as error:
            what = f"cannot be read as DICOM ({type(error).__name__})"
            raise DecodeError(what, name, "get the file again from its source") from error
    object.__setattr__(ds, "_scanward_unreadable", tuple(dict.fromkeys(unreadable)))
    return ds


def _read_deflated(stream: BinaryIO, start: int, name: str) -> pydicom.Dataset:
    """PS3.5 A.5, with a bound on what comes out."""
    stream.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(stream.read(), MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise DecodeError(f"inflates to more than {MAX_INFLATED} bytes", name, "this is no genuine file")
    if not inflater.eof:
        raise DecodeError("truncated within the deflated data set", name, "get the file again")
    inner = io.BytesIO(plain)
    check_skeleton(inner, 0, len(plain), UID("1.2.840.10008.1.2.1"), name)
    inner.seek(0)
    return read_dataset(
        inner,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, vr, length: tag in _PIXELS,
    )


def _decode(ds: pydicom.Dataset, unreadable: list[str]) -> None:
    """Turn every raw value into its type now, under the caller's care: nothing is left to fail later."""
    for tag in list(ds.keys()):
        try:
            raw = ds.get_item(tag)
            element = ds[tag]
            if raw.VR in _NUMERIC and not _is_numeric(element):
                raise ValueError(f"{raw.VR} that is no number")
            if element.VR == "SQ":
                for item in element.value:
                    _decode(item, unreadable)
            elif element.VR == "PN":
                str(element.value)  # decodes the character set, which pydicom puts off
        except PARSER_ERRORS:
            del ds[tag]
            unreadable.append(pydicom.datadict.keyword_for_tag(tag) or str(BaseTag(tag)))


def _is_numeric(element: pydicom.DataElement) -> bool:
    """A number that is none pydicom hands out as text, at times under another VR, and says nothing."""
    value = element.value
    parts = value if isinstance(value, MultiValue | list) else [value]
    return element.VR in _NUMERIC and not any(isinstance(part, str) and part for part in parts)


def text_of(ds: pydicom.Dataset, keyword: str) -> str:
    """An element as text, stripped; several values joined by a backslash; empty when absent."""
    value = ds.get(keyword)
    if value is None:
        return ""
    parts = value if isinstance(value, MultiValue | list) else [value]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a person name in a broken character set warns as late as here
        return "\\".join(str(part) for part in parts).strip().strip("\x00").strip()


def numbers_of(ds: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    """All values of a numeric element (may be NaN or infinite: the caller says what that means)."""
    value = ds.get(keyword)
    parts: Any = value if isinstance(value, MultiValue | list) else [value]
    found = []
    for part in parts:
        if isinstance(part, str) or part is None:
            continue
        try:
            found.append(float(part))
        except (TypeError, ValueError, OverflowError):
            found.append(math.nan)
    return tuple(found)


def number_of(ds: pydicom.Dataset, keyword: str) -> float | None:
    """The one finite value of a numeric element, None when absent, several, or not finite."""
    found = numbers_of(ds, keyword)
    return found[0] if len(found) == 1 and math.isfinite(found[0]) else None


def items_of(ds: pydicom.Dataset, keyword: str) -> Iterator[pydicom.Dataset]:
    """The items of a sequence; nothing when it is absent or not a sequence."""
    value = ds.get(keyword)
    if isinstance(value, pydicom.Sequence):
        yield from value
