"""Data set in, plain values out, and back: the only place where pydicom's own exceptions are met.

pydicom converts values lazily, so any access to a hostile data set may raise. Here each access is bounded and
turned into DecodeError; every value to be written is checked against its VR and refused with InputError.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final, TypeVar

from pydicom import config, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DS

from scanward.codecs.defined_protocol_model import Code, Equipment, Scalar, Values
from scanward.codecs.dicom_files import PARSER_ERRORS, open_dicom, unreadable_elements
from scanward.errors import DecodeError, InputError, ScanwardError

MAX_BYTES: Final = 64 * 1024 * 1024  # a protocol is some kilobytes; this bounds memory
MAX_ITEMS: Final = 10_000  # items in one sequence; real protocols have tens
MAX_VALUES: Final = 4_096  # values in one attribute
MAX_TEXT: Final = 65_536  # characters in one value

# OSError: pydicom's word for an end of data within a sequence that is read late.
_PYDICOM: Final[tuple[type[Exception], ...]] = (*PARSER_ERRORS, OSError)
# VRs in which a backslash is text and not a separator (PS3.5 6.2).
_ONE_TEXT: Final = frozenset({"LT", "ST", "UT", "UR"})
_TEXT_VRS: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UC", "UI"}) | _ONE_TEXT

T = TypeVar("T")


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what pydicom raises inside the block into DecodeError, and keeps its warnings off the screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ScanwardError:
            raise
        except _PYDICOM as error:
            detail = str(error).splitlines()[0][:200] if str(error) else ""
            raise DecodeError(
                f"a malformed DICOM object ({type(error).__name__}: {detail})",
                where,
                "export it again from the device or workstation that wrote it",
            ) from error


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Turns what pydicom refuses to write into InputError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ScanwardError:
            raise
        except _PYDICOM as error:
            raise InputError(
                f"a value that DICOM cannot hold ({error})", where, "change the value"
            ) from error


def read_dataset(data: bytes, where: str = "") -> Dataset:
    """A DICOM file's bytes as a data set.

    Raises
    ------
    DecodeError
        Not DICOM, truncated, larger than `MAX_BYTES`, or malformed.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(f"larger than any protocol ({len(data)} bytes)", where, "check the path")
    return open_dicom(data, name=where)


def refuse_unreadable(dataset: Dataset, where: str) -> None:
    """DecodeError when ``open_dicom`` had to take something out: a protocol with a hole is no protocol."""
    lost = unreadable_elements(dataset)
    if lost:
        what = f"values that cannot be decoded: {', '.join(lost[:5])}"
        raise DecodeError(what, where, "export the object again")


def dataset_bytes(dataset: Dataset) -> bytes:
    """The data set as a DICOM file (PS3.10), Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    out = BytesIO()
    with writing("writing the object"):
        dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


# --- reading ---


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, empty when absent; DecodeError when it is no sequence or has too many."""
    value = _value(dataset, keyword)
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise DecodeError(f"{keyword} is not a sequence", todo="export the object again")
    if len(value) > MAX_ITEMS:
        raise DecodeError(f"{keyword} has {len(value)} items", todo=f"split it, {MAX_ITEMS} are read")
    return list(value)


def plain_values(dataset: Dataset, keyword: str) -> Values:
    """All values of an attribute as plain float, int, str, bytes or Code; empty when absent or empty."""
    return plain_of(_value(dataset, keyword), keyword)


def plain_of(value: Any, keyword: str) -> Values:
    """What pydicom holds as an element's value, as plain values; ``keyword`` is for messages."""
    if value is None or value == "" or value == b"":
        return ()
    if isinstance(value, Sequence):
        if len(value) > MAX_ITEMS:
            raise DecodeError(f"{keyword} has {len(value)} items", todo=f"split it, {MAX_ITEMS} are read")
        return tuple(decode_code(item) for item in value)
    several = list(value) if isinstance(value, MultiValue | list) else [value]
    if len(several) > MAX_VALUES:
        raise DecodeError(f"{keyword} has {len(several)} values", todo=f"shorten it, {MAX_VALUES} are read")
    return tuple(_plain(x, keyword) for x in several)


def text(dataset: Dataset, keyword: str) -> str:
    """The attribute as one text, several values joined by a backslash as in the file; empty when absent."""
    return "\\".join(str(x) for x in plain_values(dataset, keyword))


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Every value as text."""
    return tuple(str(x) for x in plain_values(dataset, keyword))


def integer(dataset: Dataset, keyword: str) -> int | None:
    """The first value as a whole number, None when absent or none."""
    first = next(iter(plain_values(dataset, keyword)), None)
    if isinstance(first, int):
        return first
    return int(first) if isinstance(first, float) and first.is_integer() else None


def decode_code(item: Dataset) -> Code:
    """A code sequence item (PS3.3 8.8); a long code or a URN stands in for the short value."""
    value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
    return Code(
        value,
        text(item, "CodingSchemeDesignator"),
        text(item, "CodeMeaning"),
        text(item, "CodingSchemeVersion"),
    )


def decode_equipment(item: Dataset, pseudonym: Callable[[str], str] | None) -> Equipment:
    """General Equipment attributes; the serial number goes through ``pseudonym`` when one is given."""
    serial = text(item, "DeviceSerialNumber")
    return Equipment(
        text(item, "Manufacturer"),
        text(item, "ManufacturerModelName"),
        pseudonym(serial) if serial and pseudonym else serial,
        texts(item, "SoftwareVersions"),
        text(item, "ManufacturerRelatedModelGroup"),
    )


def created(dataset: Dataset) -> str:
    """InstanceCreationDate and -Time as ``YYYYMMDDHHMMSS``, zeros where unknown."""
    date = text(dataset, "InstanceCreationDate")
    time = text(dataset, "InstanceCreationTime").split(".")[0]
    return (date or "0" * 8) + time.ljust(6, "0")


def _value(dataset: Dataset, keyword: str) -> Any:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    return dataset[tag].value if tag in dataset else None


def _plain(value: Any, keyword: str) -> Scalar:
    if isinstance(value, BaseTag):
        return int(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    words = "" if value is None else str(value)
    if len(words) > MAX_TEXT:
        raise DecodeError(f"{keyword} has {len(words)} characters", todo=f"shorten it, {MAX_TEXT} are read")
    return words


# --- writing ---


def put(dataset: Dataset, keyword: str, value: Scalar | Iterable[Scalar] | None) -> None:
    """Write one attribute, checked against its VR; None and an empty tuple write an empty attribute."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise LookupError(keyword)
    put_element(dataset, tag, dictionary_VR(tag), value, keyword)


def put_element(
    dataset: Dataset, tag: int, vr: str, value: Scalar | Iterable[Scalar] | None, where: str
) -> None:
    """`put` with tag and VR given: what a private attribute needs."""
    alone = value is None or isinstance(value, str | bytes | float | int | Code)
    several: list[Any] = [] if value is None else [value] if alone else list(value)  # type: ignore[arg-type]
    with writing(where):
        if vr == "SQ":
            dataset.add(DataElement(tag, vr, Sequence([encode_code(code) for code in several])))
            return
        checked = [_checked(x, vr, where) for x in several]
        whole: Any = checked[0] if len(checked) == 1 else checked or None
        dataset.add(DataElement(tag, vr, whole, validation_mode=config.RAISE))


def put_items(dataset: Dataset, keyword: str, parts: Iterable[Dataset]) -> None:
    """Write a sequence."""
    with writing(keyword):
        setattr(dataset, keyword, Sequence(list(parts)))


def encode_code(code: Code) -> Dataset:
    """One item by the Code Sequence Macro: short, long or URN code value as its length asks (PS3.3 8.8)."""
    item = Dataset()
    if not code.scheme and code.value.startswith(("urn:", "http:", "https:")):
        put(item, "URNCodeValue", code.value)
    else:
        put(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
        put(item, "CodingSchemeDesignator", code.scheme)
    if code.version:
        put(item, "CodingSchemeVersion", code.version)
    put(item, "CodeMeaning", code.meaning)
    return item


def put_equipment(dataset: Dataset, equipment: Equipment) -> None:
    """Enhanced General Equipment (C.7.5.2), every attribute of type 1."""
    for keyword, value in (
        ("Manufacturer", equipment.manufacturer),
        ("ManufacturerModelName", equipment.model),
        ("DeviceSerialNumber", equipment.serial),
    ):
        if not value:
            raise InputError(f"{keyword} is missing", "author", "say which device or software writes it")
        put(dataset, keyword, value)
    if not equipment.software:
        raise InputError("SoftwareVersions is missing", "author", "say which version writes it")
    put(dataset, "SoftwareVersions", equipment.software)


def sop_common(sop_class: str, uid: str, when: str) -> Dataset:
    """A data set with character set (UTF-8), SOP class and instance, creation date and time."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    put(dataset, "SOPClassUID", sop_class)
    if not uid:
        raise InputError("the SOP Instance UID is missing", todo="give the object a uid")
    put(dataset, "SOPInstanceUID", uid)
    put(dataset, "InstanceCreationDate", when[:8])
    put(dataset, "InstanceCreationTime", when[8:])
    return dataset


def _checked(value: Any, vr: str, where: str) -> Any:
    if vr in _TEXT_VRS:
        if not isinstance(value, str):
            raise InputError(f"{value!r} is not text, which VR {vr} asks for", where, "change the value")
        if "\\" in value and vr not in _ONE_TEXT:
            raise InputError("a backslash separates values in DICOM", where, "take it out of the text")
        if value != value.rstrip(" \0") or (vr not in _ONE_TEXT and value != value.strip(" ")):
            raise InputError("DICOM drops the blanks around a text", where, "take them off")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError("text that is not Unicode", where, "take out the broken characters") from error
        return value
    if isinstance(value, bytes):
        if vr not in ("OB", "OD", "OF", "OL", "OV", "OW", "UN"):
            raise InputError(f"bytes where VR {vr} asks for values", where, "change the value")
        if len(value) % 2:
            raise InputError("an odd number of bytes, which DICOM pads", where, "give an even number")
        return value
    if isinstance(value, str | Code):
        raise InputError(f"{value!r} is not a number, which VR {vr} asks for", where, "change the value")
    return DS(float(value), auto_format=True) if vr == "DS" else value
