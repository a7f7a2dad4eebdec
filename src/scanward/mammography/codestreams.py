"""Compressed pixels, bounded before they are decoded: the size that a stream says it has, and RLE."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames

from scanward.errors import DecodeError
from scanward.mammography.readers import check_size

_SOC = b"\xff\x4f\xff\x51"  # JPEG 2000 (ISO 15444-1 A.4): start of codestream, then SIZ
_BOX = b"\x00\x00\x00\x0cjP  "  # a JP2 file where a codestream should be: some makers do that
_SOI = b"\xff\xd8"
# Start of frame: JPEG's (ISO 10918-1 table B.1, without DHT, JPG, DAC) and JPEG-LS' own (ISO 14495-1 C.1.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length


def only_frame(data: bytes, path: Path) -> bytes:
    """The one frame in encapsulated ``data`` (PixelData, PS3.5 A.4), its fragments joined."""
    frames = list(generate_frames(data, number_of_frames=1))
    if len(frames) != 1:
        raise DecodeError("compressed pixel data without a picture", str(path), "get the file again")
    return frames[0]


def check_codestream(frame: bytes, rows: int, columns: int, path: Path) -> None:
    """DecodeError unless a JPEG, JPEG-LS or JPEG 2000 frame is one component of ``rows`` x ``columns``."""
    size = size_of(frame)
    if size is None:
        raise DecodeError("compressed pixel data that is damaged", str(path), "get the file again")
    check_size(size[0], size[1], path)
    if size[:2] != (rows, columns):
        raise DecodeError(
            f"the compressed picture has {size[0]} x {size[1]} pixels, the header says {rows} x {columns}",
            str(path),
            "get the file again from its source",
        )
    if size[2] != 1:
        raise DecodeError(
            f"the compressed picture has {size[2]} components", str(path), "give MONOCHROME1 or 2"
        )


def size_of(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) that a JPEG, JPEG-LS or JPEG 2000 stream says it has; None when it does not say."""
    try:
        if stream.startswith(_BOX):
            at = stream.find(_SOC)
            return _siz(stream[at:]) if at >= 0 else None
        if stream.startswith(_SOC):
            return _siz(stream)
        if stream.startswith(_SOI):
            return _sof(stream)
    except struct.error:
        pass
    return None


def _siz(stream: bytes) -> tuple[int, int, int]:
    right, down, left, up = struct.unpack_from(">IIII", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    return down - up, right - left, components


def _sof(stream: bytes) -> tuple[int, int, int] | None:
    at = 2
    while True:
        lead, marker = struct.unpack_from(">BB", stream, at)
        if lead != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        if marker in _FRAMES:
            rows, columns, components = struct.unpack_from(">HHB", stream, at + 5)
            return rows, columns, components
        if marker in (0xD9, 0xDA) or length < 2:  # end of image, or a scan before any frame
            return None
        at += 2 + length


def decode_rle(frame: bytes, rows: int, columns: int, size: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """RLE (PS3.5 annex G) of ``size`` bytes a pixel, 1 or 2, as (rows, columns).

    A run of two bytes makes 128: what comes out is bounded here by what the picture can hold, which a general
    decoder asks only afterwards.

    Raises
    ------
    ValueError, struct.error
        Damaged.
    """
    count, *offsets = struct.unpack_from("<16I", frame, 0)
    if count != size:
        raise ValueError("segments")
    pixels = rows * columns
    planes = []
    for number in range(size):  # the most significant byte first
        end = offsets[number + 1] if number + 1 < size else len(frame)
        planes.append(np.frombuffer(_unpacked(frame[offsets[number] : end], pixels), np.uint8))
    if size == 1:
        return planes[0].reshape(rows, columns)
    wide: NDArray[np.uint16] = planes[0].astype(np.uint16) << np.uint16(8) | planes[1]
    return wide.reshape(rows, columns)


def _unpacked(segment: bytes, wanted: int) -> bytearray:
    """PackBits (PS3.5 G.3.2): exactly ``wanted`` bytes."""
    found = bytearray()
    at = 0
    while len(found) < wanted and at < len(segment):
        head = segment[at]
        if head < 128:
            found += segment[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            found += segment[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    if len(found) < wanted:
        raise ValueError("segment")
    return found[:wanted]
