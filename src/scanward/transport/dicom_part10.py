"""A data set as a file and back, without looking at the data set (PS3.10 clause 7.1).

What came over an association becomes a file by writing group 2 before it, and leaves by taking it off again: the
bytes of the data set itself are neither decoded nor encoded.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from scanward.errors import DecodeError

# PS3.8 annex F: digits and points, no component with a leading zero, 64 characters at most.
_UID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
IMPLEMENTATION: Final = (
    "2.25.288344848985391318112368774793309156167"  # of this implementation, made once (PS3.5 B.2)
)
VERSION: Final = "SCANWARD"
_LONG: Final = frozenset((b"OB", b"OW", b"UN", b"SQ", b"UT", b"OD", b"OF", b"OL", b"UC", b"UR"))


def is_uid(text: str) -> bool:
    """Whether it has the form of PS3.5 9.1: what is not one must become no file's name."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def framed(
    sop_class: str, sop_instance: str, syntax: str, data: bytes | memoryview, source: str = ""
) -> bytes:
    """``data`` as a whole file: preamble, prefix, file meta information, data set.

    Parameters
    ----------
    sop_class, sop_instance, syntax : str
        UIDs of the SOP class, the instance and the transfer syntax ``data`` is in.
    source : str
        AE title of the sender, for (0002,0016).

    Raises
    ------
    DecodeError
        One of the UIDs is none.
    """
    for what, uid in (("SOP class", sop_class), ("SOP instance", sop_instance), ("transfer syntax", syntax)):
        if not is_uid(uid):
            raise DecodeError(f"the {what} UID is none", "C-STORE request", "look at the sender")
    meta = _long(1, b"OB", b"\x00\x01")
    for element, uid in ((2, sop_class), (3, sop_instance), (0x10, syntax), (0x12, IMPLEMENTATION)):
        meta += _short(element, b"UI", uid.encode(), b"\0")
    meta += _short(0x13, b"SH", VERSION.encode(), b" ")
    if source:
        meta += _short(0x16, b"AE", source.encode("ascii", "replace")[:16], b" ")
    return b"".join((bytes(128), b"DICM", _short(0, b"UL", struct.pack("<L", len(meta)), b""), meta, data))


def unframed(file: bytes | memoryview) -> tuple[str, memoryview]:
    """Transfer syntax and data set of a file; the data set is a view into it.

    Raises
    ------
    DecodeError
        No file of this form: no prefix, no group length, no transfer syntax.
    """
    view = memoryview(file)
    todo = "give a PS3.10 file"
    if len(view) < 144 or bytes(view[128:138]) != b"DICM\x02\0\0\0UL":
        raise DecodeError("no file meta information", "header", todo)
    at = 144
    end = at + struct.unpack_from("<L", view, 140)[0]
    if end > len(view):
        raise DecodeError("file meta information that is longer than the file", "header", todo)
    syntax = ""
    while end - at >= 8:
        group, element, kind = *struct.unpack_from("<HH", view, at), bytes(view[at + 4 : at + 6])
        if kind in _LONG:
            head, length = 12, struct.unpack_from("<L", view, at + 8)[0] if end - at >= 12 else end
        else:
            head, length = 8, struct.unpack_from("<H", view, at + 6)[0]
        if group != 2 or length > end - at - head:
            break
        if element == 0x10:
            syntax = bytes(view[at + head : at + head + length]).decode("ascii", "replace").rstrip("\0 ")
        at += head + length
    if at != end or not is_uid(syntax):
        raise DecodeError("file meta information that cannot be read", "header", todo)
    return syntax, view[end:]


def _short(element: int, kind: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH", 2, element) + kind + struct.pack("<H", len(value)) + value


def _long(element: int, kind: bytes, value: bytes) -> bytes:
    return struct.pack("<HH", 2, element) + kind + b"\0\0" + struct.pack("<L", len(value)) + value
