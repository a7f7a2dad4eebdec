"""Opening DICOM images that nobody vouches for, and what their headers say of a mammogram.

Nothing here believes a length: a reader that asks for more bytes than the file has gets what there is. Names and
identifiers of patients are read (`Facts.patient`) and go no further than the importer, which hashes them.
"""

from __future__ import annotations

import logging
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError

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
    OSError,
    RuntimeError,
    struct.error,
    TypeError,
    ValueError,
    zlib.error,
)
_TODO = "get the file again from its source"

# pydicom also logs what it finds odd; a reader of a thousand files must not print it, values included.
logging.getLogger("pydicom").addHandler(logging.NullHandler())

# Views by code: CID 4014 (PS3.16) in SNOMED CT and in the retired SNOMED-RT (SRT), with the abbreviations of
# ViewPosition (PS3.3 C.8.11.7.1.1, Table C.8-72).
VIEWS = {
    "399162004": "CC",
    "R-10242": "CC",
    "399368009": "MLO",
    "R-10226": "MLO",
    "399260004": "ML",
    "R-10224": "ML",
    "399352003": "LM",
    "R-10228": "LM",
    "399099002": "LMO",
    "R-10230": "LMO",
    "399196006": "FB",
    "R-10244": "FB",
    "399188001": "SIO",
    "R-102D0": "SIO",
    "441555000": "ISO",
    "R-40AAA": "ISO",
    "399192008": "XCCL",
    "R-1024A": "XCCL",
    "399101009": "XCCM",
    "R-1024B": "XCCM",
    "399265009": "XCC",
    "Y-X1770": "XCC",
    "127457009": "SPECIMEN",
    "G-8310": "SPECIMEN",
}
_VIEW_NAMES = frozenset(VIEWS.values()) | {"RCC", "LCC", "RMLO", "LMLO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a header tells. ``spacing`` is mm per pixel (rows, columns); ``anterior`` is "left" or "right": where the
    row direction says that the nipple points (PatientOrientation, PS3.3 C.7.6.1.1.1). None: not said.

    ``patient`` identifies a person: it must be hashed before it is written or printed anywhere.
    """

    patient: str = ""
    instance: str = ""
    modality: str = ""
    laterality: str | None = None
    view: str | None = None
    spacing: tuple[float, float] | None = None
    anterior: str | None = None
    intent: str = ""
    frames: int = 1
    remarks: tuple[str, ...] = ()


class _Bounded:
    """A file that is never asked for more bytes than it has: ``read(4 GB)`` would allocate them first."""

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self._raw, self._size = raw, size
        self.name = ""  # pydicom reads it, and would put a path into its messages

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._raw.tell())
        return self._raw.read(left if count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()


@contextmanager
def parsing(what: str, path: Path) -> Iterator[None]:
    """Whatever a parser raises becomes a DecodeError that quotes nothing of the file, and its warnings are silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DecodeError:
            raise
        except PARSER_ERRORS as error:
            raise DecodeError(f"{what} ({type(error).__name__})", str(path), _TODO) from None


def open_dicom(path: Path, *, pixels: bool) -> pydicom.Dataset:
    """The data set of a DICOM file, with or without its pixel data (still encoded).

    Raises
    ------
    DecodeError
        No regular file, too large, not DICOM, deflated, or lengths that cannot be true.
    """
    with parsing("cannot be read as DICOM", path), path.open("rb") as raw:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file", str(path), "give files or folders of files")
        if status.st_size > MAMMOGRAPHY_BOUNDS.file_bytes:
            raise DecodeError(
                f"larger than {MAMMOGRAPHY_BOUNDS.file_bytes} bytes", str(path), "this is no mammogram"
            )
        stream = cast("BinaryIO", _Bounded(raw, status.st_size))
        head = stream.read(132)
        if head[128:] != b"DICM":
            raise DecodeError("not a DICOM file", str(path), "only PS3.10 files are read")
        stream.seek(0)
        ds = pydicom.dcmread(stream, stop_before_pixels=True)
        if ds.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise DecodeError("a deflated data set", str(path), "store it as Explicit VR Little Endian")
        if pixels:
            stream.seek(0)
            ds = pydicom.dcmread(stream)
        return ds


def facts_of(ds: pydicom.Dataset, path: Path) -> Facts:
    """What the header says of the image; DecodeError where it cannot be read at all."""
    with parsing("a header that cannot be read", path):
        laterality = _laterality(ds)
        view = _view(ds)
        remarks = []
        if text_of(ds, "BreastImplantPresent").upper() == "YES":
            remarks.append("implant present")
        frames = whole_of(ds, "NumberOfFrames")
        return Facts(
            patient=_patient(ds),
            instance=text_of(ds, "SOPInstanceUID"),
            modality=text_of(ds, "Modality").upper(),
            laterality=laterality,
            view=view,
            spacing=_spacing(ds),
            anterior=_anterior(ds),
            intent=text_of(ds, "PresentationIntentType").upper(),
            frames=1 if frames is None else frames,
            remarks=tuple(remarks),
        )


def text_of(ds: pydicom.Dataset, keyword: str) -> str:
    """An element as text, stripped; the first of several values; empty when absent."""
    value = ds.get(keyword)
    if isinstance(value, MultiValue | list):
        value = value[0] if value else None
    return "" if value is None else str(value).replace("\x00", "").strip()


def numbers_of(ds: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    """All values of a numeric element, none when absent; what is no number becomes NaN."""
    value = ds.get(keyword)
    parts: Any = value if isinstance(value, MultiValue | list) else [value]
    found = []
    for part in parts:
        if part is None or part == "":
            continue
        try:
            found.append(float(part))
        except (TypeError, ValueError, OverflowError):
            found.append(math.nan)
    return tuple(found)


def whole_of(ds: pydicom.Dataset, keyword: str) -> int | None:
    """The one whole number of an element; None when absent, several, or not whole."""
    found = numbers_of(ds, keyword)
    if len(found) != 1 or not math.isfinite(found[0]) or found[0] != int(found[0]):
        return None
    return int(found[0])


def items_of(ds: pydicom.Dataset, keyword: str) -> Iterator[pydicom.Dataset]:
    """The items of a sequence; nothing when it is absent or not a sequence."""
    value = ds.get(keyword)
    if isinstance(value, pydicom.Sequence):
        yield from value


def _groups(ds: pydicom.Dataset, keyword: str) -> Iterator[pydicom.Dataset]:
    """Items of a functional group of a multi-frame image: the shared one, else that of the first frame."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in list(items_of(ds, name))[:1]:
            yield from items_of(item, keyword)


def _patient(ds: pydicom.Dataset) -> str:
    """PatientID with its issuer; without one the name and the day of birth; empty when there is nothing."""
    number = text_of(ds, "PatientID")
    if number:
        return f"{text_of(ds, 'IssuerOfPatientID')}\n{number}"
    name, born = text_of(ds, "PatientName").strip("^ "), text_of(ds, "PatientBirthDate")
    return f"{name}\n{born}\n" if name and born else ""


def _laterality(ds: pydicom.Dataset) -> str | None:
    """ImageLaterality (0020,0062), Laterality (0020,0060), or FrameLaterality of the frame's anatomy."""
    said = [text_of(ds, "ImageLaterality"), text_of(ds, "Laterality")]
    said += [text_of(item, "FrameLaterality") for item in _groups(ds, "FrameAnatomySequence")]
    said += [text_of(item, "FrameLaterality") for item in items_of(ds, "FrameAnatomySequence")]
    return next((one.upper() for one in said if one.upper() in ("L", "R")), None)


def _view(ds: pydicom.Dataset) -> str | None:
    """ViewCodeSequence (CID 4014) first, ViewPosition (0018,5101) where it is silent."""
    for item in items_of(ds, "ViewCodeSequence"):
        view = VIEWS.get(text_of(item, "CodeValue")) or VIEWS.get(text_of(item, "LongCodeValue"))
        if view:
            return view
    name = text_of(ds, "ViewPosition").upper()
    if name in _VIEW_NAMES:
        return name.removeprefix("R").removeprefix("L") if name in ("RCC", "LCC", "RMLO", "LMLO") else name
    return None


def _spacing(ds: pydicom.Dataset) -> tuple[float, float] | None:
    """ImagerPixelSpacing at the detector; PixelSpacing (calibrated) where there is no other; mm (rows, columns)."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers_of(ds, keyword)
        if len(found) == 2 and all(math.isfinite(one) and 0 < one < 10 for one in found):
            return found[0], found[1]
    return None


def _anterior(ds: pydicom.Dataset) -> str | None:
    direction = text_of(ds, "PatientOrientation").upper()[:1]
    return {"A": "right", "P": "left"}.get(direction)
