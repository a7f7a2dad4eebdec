"""One CAN frame as plain data, and its text form (that of ``candump``). No bus library is needed here.

Classical CAN (ISO 11898-1) carries at most 8 bytes under an identifier of 11 bits (29 when extended). FD frames
and error frames are kept apart, so that whoever classifies frames can refuse them by name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from scanward.errors import DecodeError

STANDARD_IDS = 0x7FF
EXTENDED_IDS = 0x1FFFFFFF
CLASSICAL_BYTES = 8
FD_LENGTHS = frozenset((*range(9), 12, 16, 20, 24, 32, 48, 64))

_TEXT = re.compile(r"([0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})#(?:([0-9A-Fa-f]*)|R([0-8]?))", re.ASCII)


class CanFrame(NamedTuple):
    """One frame.

    Attributes
    ----------
    id : int
        Identifier: 11 bits, or 29 when ``extended``.
    data : bytes
        0 to 8 bytes (64 with ``fd``); empty for a remote frame.
    remote : bool
        Asks for data instead of carrying it.
    dlc : int
        Length that a remote frame asks for; 0 for every other frame.
    """

    id: int
    data: bytes = b""
    remote: bool = False
    extended: bool = False
    dlc: int = 0
    fd: bool = False
    error: bool = False

    @property
    def plain(self) -> bool:
        """A classical data frame with an 11-bit identifier: the only kind that CANopen's objects travel in."""
        return not (self.remote or self.extended or self.fd or self.error)

    def __str__(self) -> str:
        name = f"{self.id:08X}" if self.extended else f"{self.id:03X}"
        if self.remote:
            return f"{name}#R{self.dlc or ''}"
        return f"{name}#{'#0' if self.fd else ''}{self.data.hex().upper()}"


def frame_of(text: str) -> CanFrame:
    """A classical frame out of its text: ``201#0102``, ``701#R``, ``18DA00F1#``; DecodeError otherwise."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise DecodeError(f"not a CAN frame: {text[:40]!r}", "", "write ID#DATA, such as 201#0102 or 701#R")
    name, data, dlc = found.groups()
    extended = len(name) == 8
    number = int(name, 16)
    if number > (EXTENDED_IDS if extended else STANDARD_IDS):
        raise DecodeError(f"no CAN identifier: {name}", "", "11 bits in three digits, 29 bits in eight")
    if data is None:
        return CanFrame(number, b"", True, extended, int(dlc or 0))
    if len(data) % 2 or len(data) > 2 * CLASSICAL_BYTES:
        raise DecodeError(
            f"{len(data)} digits of data in {text[:40]!r}", "", "two digits a byte, 8 bytes at most"
        )
    return CanFrame(number, bytes.fromhex(data), extended=extended)
