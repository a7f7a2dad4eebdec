"""Electronic data sheets (CiA 306-1): the entries of a device's object dictionary, read once, before anything runs.

An EDS is an INI file: a section for each object (``[2010]``), one for each sub-index (``[2010sub1]``), or one for an
array whose sub-indices are alike (``CompactSubObj``, with names in ``[2010Name]``). Only what the guard needs is kept:
type, access and limits. Texts are read with the standard library, so a relay needs no CANopen package.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scanward.codecs.canopen_sdo import Address
from scanward.codecs.canopen_types import SHAPES, DataType
from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import DecodeError

_VARIABLES = (0x02, 0x07)  # DOMAIN and VAR; 8 and 9 are ARRAY and RECORD
_SECTION = re.compile(r"([0-9A-Fa-f]{4})(?:sub([0-9A-Fa-f]{1,2}))?", re.ASCII | re.IGNORECASE)
_ACCESS = {"ro": "r", "const": "r", "wo": "w", "rw": "rw", "rwr": "rw", "rww": "rw"}


@dataclass(frozen=True, slots=True)
class EdsEntry:
    """One entry.

    Attributes
    ----------
    kind : DataType
        Its data type; DOMAIN for types that this reader does not know.
    readable, writable : bool
        By SDO.
    low, high : int or None
        Limits of a whole number, where the sheet has them.
    """

    address: Address
    name: str
    kind: DataType
    readable: bool
    writable: bool
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Eds:
    """What an electronic data sheet says."""

    entries: Mapping[Address, EdsEntry]
    vendor: int | None = None
    product: int | None = None


def read_eds(text: str, node: int, bounds: CanBounds = CAN_BOUNDS) -> Eds:
    """The entries of ``text``, for a device that is node ``node`` (limits may hold ``$NODEID``).

    Raises
    ------
    DecodeError
        When the text is too long, no INI file, or a section lacks what CiA 306 asks for.
    """
    if len(text) > bounds.eds_bytes:
        raise _error(f"more than {bounds.eds_bytes} characters", "", "give the sheet of one device")
    parser = configparser.RawConfigParser(comment_prefixes=(";",), inline_comment_prefixes=(";",))
    try:
        parser.read_string(text)
    except (configparser.Error, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"line {line}" if line else ""
        raise _error(
            str(error).splitlines()[0][:200], where, "check it with the maker's EDS checker"
        ) from error
    found: dict[Address, EdsEntry] = {}
    for section in parser.sections():
        match = _SECTION.fullmatch(section)
        if match is None:
            continue
        index, sub = int(match[1], 16), match[2]
        if sub is not None:
            _add(found, _entry(parser[section], (index, int(sub, 16)), node), bounds)
            continue
        kind = _number(parser[section], "ObjectType", node) or 0x07
        compact = _number(parser[section], "CompactSubObj", node) or 0
        if compact:
            if compact > 254:
                raise _error(f"{compact} sub-indices", f"[{section}]", "an object has 254 at most")
            _add(found, EdsEntry((index, 0), "Number of entries", DataType.UNSIGNED8, True, False), bounds)
            for number in range(1, compact + 1):
                _add(found, _entry(parser[section], (index, number), node), bounds)
        elif kind in _VARIABLES:
            _add(found, _entry(parser[section], (index, 0), node), bounds)
    if not found:
        raise _error("no object in it", "", "give an electronic data sheet (CiA 306)")
    info = parser["DeviceInfo"] if parser.has_section("DeviceInfo") else None
    vendor = _number(info, "VendorNumber", node) if info is not None else None
    product = _number(info, "ProductNumber", node) if info is not None else None
    return Eds(found, vendor, product)


def _add(found: dict[Address, EdsEntry], entry: EdsEntry, bounds: CanBounds) -> None:
    if entry.address in found:
        raise _error(
            "the entry is there twice", f"{entry.address[0]:04X}sub{entry.address[1]:X}", "leave one out"
        )
    if len(found) >= bounds.entries:
        raise _error(f"more than {bounds.entries} entries", "", "give the sheet of one device")
    found[entry.address] = entry


def _entry(section: configparser.SectionProxy, address: Address, node: int) -> EdsEntry:
    number = _number(section, "DataType", node)
    if number is None:
        raise _error("no DataType", f"[{section.name}]", "an entry has a data type")
    kind = DataType(number) if number in DataType._value2member_map_ else DataType.DOMAIN
    told = (section.get("AccessType") or "").strip().lower()
    if told not in _ACCESS:
        raise _error(f"AccessType {told!r}", f"[{section.name}]", f"one of {', '.join(_ACCESS)}")
    shape = SHAPES.get(kind)
    whole = shape is not None and not shape.real and not shape.text
    low = _limit(section, "LowLimit", node, kind) if whole else None
    high = _limit(section, "HighLimit", node, kind) if whole else None
    name = (section.get("ParameterName") or "").strip()
    return EdsEntry(address, name, kind, "r" in _ACCESS[told], "w" in _ACCESS[told], low, high)


def _limit(section: configparser.SectionProxy, key: str, node: int, kind: DataType) -> int | None:
    """Limits of signed types may be written as the bit pattern (FFFFh for -1)."""
    number = _number(section, key, node)
    shape = SHAPES[kind]
    if number is not None and shape.signed and shape.size and number >= 1 << (8 * shape.size - 1):
        number -= 1 << 8 * shape.size
    return number


def _number(section: configparser.SectionProxy, key: str, node: int) -> int | None:
    """Decimal, 0x hexadecimal, or 0 octal; ``$NODEID+0x180`` adds the node."""
    text = (section.get(key) or "").replace(" ", "").upper()
    if not text:
        return None
    plain = re.sub(r"\+?\$NODEID\+?", "", text)
    try:
        number = int(plain or "0", 8) if re.fullmatch(r"0[0-7]+", plain) else int(plain or "0", 0)
    except ValueError:
        raise _error(f"{key}={text[:40]}", f"[{section.name}]", "write a number") from None
    return number + (node if "$NODEID" in text else 0)


def _error(what: str, where: str, todo: str) -> DecodeError:
    return DecodeError(f"an electronic data sheet that cannot be used: {what}", where, todo)
