"""SDO transfers: the words that both ends share (CiA 301, 7.2.4.3): command specifiers, abort codes, CRC.

An SDO frame has 8 bytes always. ``canopen_sdo_server`` is the end that a host speaks to, ``canopen_sdo_client``
the end that speaks to a gantry; the guard is both, so that no half of a transfer and no reading of its own ever
crosses: what is forwarded is a whole value, framed anew.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

Address = tuple[int, int]
"""Index and sub-index of an object dictionary entry."""

FRAME: Final = 8
SEGMENT: Final = 7  # bytes of data in a segment
MOST_SEGMENTS: Final = 127  # of one block
HEAD: Final = struct.Struct("<BHB")
ABORT_FRAME: Final = struct.Struct("<BHBL")
ABORT: Final = 0x80


class Abort(IntEnum):
    """Abort codes (CiA 301, table 22) that Scanward uses or looks at."""

    TOGGLE = 0x05030000
    TIMED_OUT = 0x05040000
    COMMAND = 0x05040001
    BLOCK_SIZE = 0x05040002
    SEQUENCE = 0x05040003
    CRC = 0x05040004
    MEMORY = 0x05040005
    ACCESS = 0x06010000  # unsupported access: what the profile refuses
    WRITE_ONLY = 0x06010001
    READ_ONLY = 0x06010002
    NO_OBJECT = 0x06020000
    LENGTH = 0x06070010
    TOO_LONG = 0x06070012
    TOO_SHORT = 0x06070013
    NO_SUBINDEX = 0x06090011
    VALUE = 0x06090030
    GENERAL = 0x08000000
    LOCAL_CONTROL = 0x08000021  # refused for good, until something is changed
    DEVICE_STATE = 0x08000022  # withheld: the same may be sent again
    NO_DATA = 0x08000024


class Transfer(StrEnum):
    """How a value travels."""

    EXPEDITED = "expedited"
    SEGMENTED = "segmented"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Download:
    """A whole value that a client wrote; ``data`` is not looked at yet.

    ``told`` is False for an expedited transfer that leaves its size to the type of the entry.
    """

    address: Address
    data: bytes
    transfer: Transfer
    told: bool = True


@dataclass(frozen=True, slots=True)
class Upload:
    """A client asks for the value of an entry."""

    address: Address
    transfer: Transfer


def abort_frame(address: Address, code: int) -> bytes:
    """The 8 bytes that end a transfer, either way."""
    return ABORT_FRAME.pack(ABORT, *address, code)


def abort_code(data: bytes) -> int:
    """The code in an abort frame."""
    return int.from_bytes(data[4:8], "little")


def address_in(data: bytes) -> Address:
    """Index and sub-index of an initiate or abort frame."""
    _, index, sub = HEAD.unpack_from(data)
    return index, sub


def crc16(data: bytes) -> int:
    """CRC-16-CCITT as CiA 301, 7.2.4.3.16 has it: polynomial 1021h, start 0, not reflected."""
    return binascii.crc_hqx(data, 0)


def address_text(address: Address) -> str:
    """``2010h:01`` of an address."""
    return f"{address[0]:04X}h:{address[1]:02X}"
