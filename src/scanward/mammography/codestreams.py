"""The size that a compressed picture says it has, read from its own header before any decoder may allocate it."""

from __future__ import annotations

import struct
from pathlib import Path

from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from scanward.errors import DecodeError
from scanward.mammography.readers import check_size

_SOC = b"\xff\x4f\xff\x51"  # JPEG 2000 (ISO 15444-1 A.4): start of codestream, then SIZ
_BOX = b"\x00\x00\x00\x0cjP  "  # a JP2 file where a codestream should be: some makers do that
_SOI = b"\xff\xd8"
# Start of frame: JPEG's (ISO 10918-1 table B.1, without DHT, JPG, DAC) and JPEG-LS' own (ISO 14495-1 C.1.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # markers without a length


def check_codestream(data: bytes, syntax: UID, rows: int, columns: int, path: Path) -> None:
    """DecodeError unless the one frame in ``data`` (PixelData, encapsulated) is of ``rows`` x ``columns``."""
    frames = list(generate_frames(data, number_of_frames=1))
    if len(frames) != 1:
        raise DecodeError("compressed pixel data without a picture", str(path), "get the file again")
    if syntax == RLELossless:
        return  # its length is that of the decoded rows: nothing in it could ask for more
    size = size_of(frames[0])
    if size is None:
        raise DecodeError("compressed pixel data that is damaged", str(path), "get the file again")
    check_size(*size, path)
    if size != (rows, columns):
        raise DecodeError(
            f"the compressed picture has {size[0]} x {size[1]} pixels, the header says {rows} x {columns}",
            str(path),
            "get the file again from its source",
        )


def size_of(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream says it has; None when it does not say."""
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


def _siz(stream: bytes) -> tuple[int, int]:
    right, down, left, up = struct.unpack_from(">IIII", stream, 8)
    return down - up, right - left


def _sof(stream: bytes) -> tuple[int, int] | None:
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
            rows, columns = struct.unpack_from(">HH", stream, at + 5)
            return int(rows), int(columns)
        if marker in (0xD9, 0xDA) or length < 2:  # end of image, or a scan before any frame
            return None
        at += 2 + length
