"""A walk over the skeleton of a DICOM file: is every length inside its parent, and nothing nested too deep?

pydicom reads a value that is cut short without saying so, and follows nested sequences by recursion. So the
skeleton is walked first, iteratively and without keeping any value: no length is believed before it is
compared with what is left of the file.

Sources: PS3.5 7.1 (element layout), 7.5 (nesting), A.4 (encapsulated pixel data); PS3.10 7.1 (file meta).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.datadict import dictionary_VR

from scanward.errors import DecodeError

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 64  # nested sequences; real reports stay below 10
MAX_ELEMENTS = 1_000_000  # of one file, pixel data aside; a long dose report has about 10,000

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)

# One open container: where it ends (None: at its delimiter), whether it holds items, whether those items are
# opaque fragments, and whether elements in it are implicit.
_Frame = tuple[int | None, bool, bool, bool]


def _fail(what: str, name: str) -> DecodeError:
    return DecodeError(what, name, "get the file again from its source")


def read_meta(stream: BinaryIO, size: int, name: str) -> tuple[str, int]:
    """Transfer Syntax UID and offset of the data set of a PS3.10 file; DecodeError when it is not one."""
    if size == 0:
        raise DecodeError("the file is empty", name, "get the file again from its source")
    stream.seek(0)
    if stream.read(132)[128:] != b"DICM":
        raise DecodeError("not a DICOM file (no DICM after the preamble)", name, "give DICOM PS3.10 files")
    syntax = ""
    position = 132
    while True:
        head = stream.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            break
        vr, length = head[4:6], struct.unpack("<H", head[6:8])[0]
        position += 8
        if vr in _LONG:
            length = struct.unpack("<I", stream.read(4).ljust(4, b"\xff"))[0]
            position += 4
        if length > size - position:
            raise _fail("truncated within the file meta information", name)
        value = stream.read(length)
        position += length
        if head[2:4] == b"\x10\x00":
            syntax = value.rstrip(b"\x00 ").decode("ascii", "replace")
    if not syntax:
        raise DecodeError("the file names no transfer syntax", name, "give DICOM PS3.10 files")
    return syntax, position


def check_skeleton(stream: BinaryIO, start: int, size: int, syntax: str, name: str) -> None:
    """Walk the data set from ``start`` to ``size``; DecodeError when a length or the nesting cannot be true.

    Stops before pixel data, whose claimed length must fit as well.
    """
    endian = ">" if syntax == EXPLICIT_BIG else "<"
    unpack_tag = struct.Struct(f"{endian}HH").unpack
    unpack_16 = struct.Struct(f"{endian}H").unpack
    unpack_32 = struct.Struct(f"{endian}I").unpack
    frames: list[_Frame] = [(size, False, False, syntax == IMPLICIT_LITTLE)]
    position, count = start, 0
    stream.seek(start)

    def open_frame(frame: _Frame) -> None:
        if len(frames) > 2 * MAX_DEPTH:
            raise DecodeError(f"sequences nested deeper than {MAX_DEPTH}", name, "this is no genuine report")
        frames.append(frame)

    while frames:
        end, holds_items, opaque, implicit = frames[-1]
        if end is not None and position == end:
            frames.pop()
            continue
        limit = min((f[0] for f in frames if f[0] is not None), default=size)
        if limit - position < 8:
            raise _fail("truncated: an element header is cut off", name)
        count += 1
        if count > MAX_ELEMENTS:
            raise DecodeError(f"more than {MAX_ELEMENTS} elements", name, "this is no genuine report")
        head = stream.read(8)
        position += 8
        group, element = unpack_tag(head[:4])
        tag = group << 16 | element
        if holds_items or group == 0xFFFE:
            length = unpack_32(head[4:])[0]
            if end is None and tag == (_SEQUENCE_END if holds_items else _ITEM_END):
                frames.pop()
            elif tag == _ITEM and holds_items:
                if length == UNDEFINED and not opaque:
                    open_frame((None, False, False, implicit))
                elif length > limit - position:
                    raise _fail("truncated: an item claims more bytes than there are", name)
                elif opaque:
                    position += length
                    stream.seek(position)
                else:
                    open_frame((position + length, False, False, implicit))
            else:
                raise _fail(f"not well formed: ({group:04X},{element:04X}) where no such tag may stand", name)
            continue
        vr = head[4:6]
        if implicit or not (b"AA" <= vr <= b"ZZ" and vr.isalpha() and vr.isupper()):
            length, vr = unpack_32(head[4:])[0], _implicit_vr(tag)
        elif vr in _LONG:
            if limit - position < 4:
                raise _fail("truncated: an element header is cut off", name)
            length = unpack_32(stream.read(4))[0]
            position += 4
        else:
            length = unpack_16(head[6:])[0]
        if length == UNDEFINED:
            if len(frames) == 1 and tag in _PIXELS:
                return
            # UN of undefined length is a sequence in implicit encoding (PS3.5 6.2.2 note)
            open_frame((None, True, vr in (b"OB", b"OW"), implicit or vr == b"UN"))
            continue
        if length > limit - position:
            raise _fail(
                f"truncated: ({group:04X},{element:04X}) claims {length} bytes of {limit - position} left",
                name,
            )
        if len(frames) == 1 and tag in _PIXELS:
            return
        if vr == b"SQ":
            open_frame((position + length, True, False, implicit))
            continue
        position += length
        stream.seek(position)


def _implicit_vr(tag: int) -> bytes:
    try:
        return b"SQ" if dictionary_VR(tag) == "SQ" else b"--"
    except KeyError:  # private: opaque, unless of undefined length, which the caller sees
        return b"--"
