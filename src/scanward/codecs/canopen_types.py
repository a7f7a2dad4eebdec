"""The data types of CANopen that a field can have: little-endian bytes <-> numbers and text (CiA 301, 7.1 and 7.4.7).

Structured and opaque types (OCTET_STRING, DOMAIN, times) have no meaning as a field and are not read here.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum

from scanward.errors import DecodeError

Raw = int | float | str


class DataType(IntEnum):
    """Indices of the data types in every object dictionary."""

    BOOLEAN = 0x01
    INTEGER8 = 0x02
    INTEGER16 = 0x03
    INTEGER32 = 0x04
    UNSIGNED8 = 0x05
    UNSIGNED16 = 0x06
    UNSIGNED32 = 0x07
    REAL32 = 0x08
    VISIBLE_STRING = 0x09
    OCTET_STRING = 0x0A
    UNICODE_STRING = 0x0B
    TIME_OF_DAY = 0x0C
    TIME_DIFFERENCE = 0x0D
    DOMAIN = 0x0F
    INTEGER24 = 0x10
    REAL64 = 0x11
    INTEGER40 = 0x12
    INTEGER48 = 0x13
    INTEGER56 = 0x14
    INTEGER64 = 0x15
    UNSIGNED24 = 0x16
    UNSIGNED40 = 0x18
    UNSIGNED48 = 0x19
    UNSIGNED56 = 0x1A
    UNSIGNED64 = 0x1B


@dataclass(frozen=True, slots=True)
class Shape:
    """How many bytes a type has (None: as many as come) and what they are."""

    size: int | None
    signed: bool = False
    real: str = ""  # struct code
    text: bool = False


_T = DataType
SHAPES: dict[DataType, Shape] = {
    _T.BOOLEAN: Shape(1),
    _T.REAL32: Shape(4, real="<f"),
    _T.REAL64: Shape(8, real="<d"),
    _T.VISIBLE_STRING: Shape(None, text=True),
    **{DataType[f"UNSIGNED{8 * n}"]: Shape(n) for n in range(1, 9)},
    **{DataType[f"INTEGER{8 * n}"]: Shape(n, signed=True) for n in range(1, 9)},
}
# What a profile's patterns call them.
SHORT_NAMES: dict[str, DataType] = {
    **{f"u{8 * n}": DataType[f"UNSIGNED{8 * n}"] for n in range(1, 9)},
    **{f"i{8 * n}": DataType[f"INTEGER{8 * n}"] for n in range(1, 9)},
    "f32": _T.REAL32,
    "f64": _T.REAL64,
}


def size_of(kind: DataType) -> int | None:
    """Bytes of a type; None for text and for what is no field."""
    shape = SHAPES.get(kind)
    return shape.size if shape else None


def decode_raw(kind: DataType, data: bytes) -> Raw:
    """The value of ``data``.

    Raises
    ------
    DecodeError
        When the length is not the type's, a BOOLEAN is neither 0 nor 1, a REAL is not finite, or a text holds
        anything but VISIBLE_CHAR (0x20 to 0x7E; zeros at the end fill up a fixed length).
    """
    shape = SHAPES.get(kind)
    if shape is None:
        raise DecodeError(
            f"{kind.name} is no type of a field", "an object dictionary entry", "map another entry"
        )
    if shape.text:
        text = data.rstrip(b"\0")
        if any(not 0x20 <= byte <= 0x7E for byte in text):
            raise DecodeError(
                "a VISIBLE_STRING with other characters", "an object dictionary entry", "send 20h to 7Eh"
            )
        return text.decode("ascii")
    if len(data) != shape.size:
        raise DecodeError(
            f"{len(data)} bytes for a {kind.name}", "an object dictionary entry", f"send {shape.size}"
        )
    if shape.real:
        number: float = struct.unpack(shape.real, data)[0]
        if not math.isfinite(number):
            raise DecodeError(
                f"{number} is not a finite number", "an object dictionary entry", "send a number"
            )
        return number
    found = int.from_bytes(data, "little", signed=shape.signed)
    if kind is DataType.BOOLEAN and found > 1:
        raise DecodeError(f"{found} for a BOOLEAN", "an object dictionary entry", "send 0 or 1")
    return found


def encode_raw(kind: DataType, value: Raw) -> bytes:
    """The inverse of `decode_raw`; DecodeError when the type cannot hold ``value``."""
    shape = SHAPES.get(kind)
    try:
        if shape is None:
            raise TypeError(f"{kind.name} is no type of a field")
        if shape.text:
            if not isinstance(value, str):
                raise TypeError("not a text")
            data = value.encode("ascii")
        elif isinstance(value, str):
            raise TypeError("a text")
        elif shape.real:
            data = struct.pack(shape.real, value)
        elif not float(value).is_integer():
            raise TypeError("not a whole number")
        else:
            assert shape.size is not None
            data = int(value).to_bytes(shape.size, "little", signed=shape.signed)
        decode_raw(kind, data)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise DecodeError(
            f"{value!r} for a {kind.name}: {error}", "an object dictionary entry", ""
        ) from error
    return data
