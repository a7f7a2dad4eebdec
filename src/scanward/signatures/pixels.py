"""Whether compressed pixels that fit a signature can have been signed as something else.

Two things about them are not signed (PS3.3 C.12.1.1.3.1.1): where fragments end, and the transfer syntax that names
their codec. Who has the file can write two fragments as one with an item's tag between them, or cut one where those
four bytes stand in it, or name another codec, and the signature still fits. So a file is doubted unless its pixels
begin as their codec does, and unless there is one fragment to a frame without an item's tag in it, or the signer has
signed the lengths of fragments too. Our signers do that where it is needed, in two private elements of the signature's
item.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from scanward.signatures.elements import PIXEL_DATA, Element, Parsed, find

CREATOR: Final = 0x04010010
LENGTHS: Final = 0x04011001
CREATOR_NAME: Final = b"SCANWARD SIGNATURE"
FRAMES: Final = 0x00280008
_MARKS: Final = (b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0")
_NO_MAGIC: Final = ""
_VIDEO: Final = "video"
_STANDARD: Final = "1.2.840.10008.1.2."
_PLAIN: Final = f"{_STANDARD}1.98"
_SIZES: Final = (0x00280002, 0x00280010, 0x00280011, 0x00280100)  # samples, rows, columns, bits of each


def _codecs() -> dict[str, str]:
    """PS3.5 annex A: what the pixels of a transfer syntax are. JPIP is not among them: its pixels are elsewhere."""
    known = {f"{_STANDARD}4.{number}": "JPEG" for number in (*range(50, 67), 70, 80, 81)}
    known |= {f"{_STANDARD}4.{number}": "JPEG 2000" for number in (90, 91, 92, 93, 201, 202, 203)}
    known |= {f"{_STANDARD}4.{number}": _VIDEO for number in range(100, 109)}
    known |= {f"{_STANDARD}4.{number}": "JPEG XL" for number in (110, 111, 112)}
    return known | {f"{_STANDARD}5": "RLE", _PLAIN: _NO_MAGIC, f"{_STANDARD}8.1": _NO_MAGIC}


CODECS: Final = _codecs()


def codec_of(head: bytes) -> str:
    """What bytes begin as; "" for nothing known."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        return "JPEG 2000"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    if len(head) >= 8 and 1 <= int.from_bytes(head[:4], "little") <= 15 and head[4:8] == b"\x40\0\0\0":
        return "RLE"
    if head.startswith((b"\0\0\x01", b"\0\0\0\x01", b"\x47")) or head[4:8] == b"ftyp":
        return _VIDEO
    return _NO_MAGIC


def mislabelled(parsed: Parsed) -> str:
    """Why the transfer syntax cannot be what the pixels are in; "" when it can."""
    if not parsed.syntax.encapsulated:
        return ""
    uid = parsed.syntax.uid
    codec = CODECS.get(uid)
    if codec is None:
        return f"nobody here knows the transfer syntax {uid[:64]}"
    for one, level in _compressed(parsed.elements):
        pieces = (one.fragments or ())[1:]  # the first is the basic offset table
        if codec == _NO_MAGIC:
            if not all(_is_a_frame(parsed, uid, level, piece) for piece in pieces):
                return "its pixels are not as long as plain ones"
            continue
        # Pixels of RLE have one fragment to a frame (PS3.5 A.4.2); others may go on in the next.
        for start, end in pieces if codec == "RLE" else pieces[:1]:
            begins = codec_of(bytes(parsed.data[start : min(end, start + 16)]))
            if begins != codec:
                return f"its pixels do not begin as {codec or 'plain ones'} do: {begins or 'nothing known'}"
    return ""


def _is_a_frame(parsed: Parsed, uid: str, level: Sequence[Element], piece: tuple[int, int]) -> bool:
    """Whether a fragment is one frame without a codec, or one deflated (PS3.5 A.4.11, A.4.13): nothing else tells."""
    size = 1
    for tag in _SIZES:
        one = find(tuple(level), tag)
        if one is None or one.value_end - one.value != 2:
            return False
        size *= int(struct.unpack_from("<H", parsed.data, one.value)[0])
    size = -(-size // 8)
    raw = parsed.data[piece[0] : piece[1]]
    if uid == _PLAIN:
        return len(raw) == size + size % 2
    try:
        return len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, size + 2)) in (size, size + size % 2)
    except zlib.error:
        return False


def _compressed(elements: Sequence[Element]) -> Iterator[tuple[Element, Sequence[Element]]]:
    """Pixel data in fragments, at any depth, each with the elements beside it."""
    for one in elements:
        if one.fragments is not None and one.tag == PIXEL_DATA:
            yield one, elements
        for item in one.items or ():
            yield from _compressed(item.elements)


def _frames(parsed: Parsed, level: Sequence[Element]) -> int:
    told = parsed.text(find(tuple(level), FRAMES)).strip()
    return int(told) if told.isdecimal() and len(told) < 10 else 1


def ambiguous(parsed: Parsed, signed: Sequence[Element]) -> bool:
    """Whether other fragments than these would have given the bytes that are signed."""
    if not parsed.syntax.encapsulated:
        return False
    film = CODECS.get(parsed.syntax.uid) == _VIDEO
    for one, level in _compressed(signed):
        fragments = one.fragments or ()
        if len(fragments) - 1 != (1 if film else _frames(parsed, level)):
            return True
        if any(_marked(bytes(parsed.data[start:end])) for start, end in fragments):
            return True
    return False


def _marked(raw: bytes) -> bool:
    """Whether an item's tag, or that of the end, stands where a fragment could end: at an even place."""
    for mark in _MARKS:
        at = raw.find(mark)
        while at >= 0:
            if at % 2 == 0:
                return True
            at = raw.find(mark, at + 1)
    return False


def lengths(parsed: Parsed, signed: Sequence[Element]) -> bytes:
    """A digest of how long all fragments are, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for one, _ in _compressed(signed):
        fragments = one.fragments or ()
        digest.update(struct.pack("<I", len(fragments)))
        digest.update(struct.pack(f"<{len(fragments)}I", *(end - start for start, end in fragments)))
    return digest.hexdigest().encode()
