"""A received data set as a file: the transport hands over what the sender sent, readers want PS3.10."""

from __future__ import annotations

import re
import struct

from scanward.errors import DecodeError
from scanward.transport.dicom import Incoming

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_IMPLEMENTATION = "2.25.191717023310917871131146437208401811551"  # Implementation Class UID of our files


def check_uid(uid: str) -> None:
    """DecodeError when ``uid`` is none (PS3.5 9.1: digits and dots, at most 64 characters)."""
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise DecodeError("not a UID", repr(uid[:64]), "send a genuine object")


def as_file(incoming: Incoming) -> bytes:
    """Preamble, file meta information (PS3.10 7.1) and the data set as it came."""
    for uid in (incoming.sop_class, incoming.sop_instance, incoming.syntax):
        check_uid(uid)
    meta = b"".join(
        (
            struct.pack("<HH2sHLH", 2, 1, b"OB", 0, 2, 0x0100),
            _element(2, incoming.sop_class),
            _element(3, incoming.sop_instance),
            _element(0x10, incoming.syntax),
            _element(0x12, _IMPLEMENTATION),
        )
    )
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return b"".join((bytes(128), b"DICM", length, meta, incoming.data))


def _element(number: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
