"""SDO transfers seen from the side: what a client wrote and read, once the server has agreed. Pure.

For listening only, and for logs: nothing is answered, so nothing can be refused. A transfer of which a part was not
seen, or whose two ends disagree (toggle, CRC, size, sequence), gives no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from scanward.codecs.canopen_sdo import ABORT, FRAME, SEGMENT, Address, address_in, crc16
from scanward.config import CAN_BOUNDS, CanBounds


@dataclass(frozen=True, slots=True)
class Seen:
    """One whole transfer: ``wrote`` True for a write that was acknowledged, False for a read that was answered."""

    address: Address
    data: bytes
    wrote: bool


class _State(Enum):
    IDLE = auto()
    WRITE_ASKED = auto()  # expedited: the value is known, the answer is not
    SEGMENTS_ASKED = auto()
    SEGMENT_DUE = auto()
    SEGMENT_SENT = auto()
    BLOCK_ASKED = auto()
    BLOCK = auto()
    BLOCK_END = auto()
    READ_ASKED = auto()
    READ_SEGMENTS = auto()
    READ_BLOCK_START = auto()
    READ_BLOCK = auto()


class SdoWatch:
    """One channel, both directions. ``request`` takes the client's frames, ``answer`` the server's."""

    def __init__(self, bounds: CanBounds = CAN_BOUNDS) -> None:
        self._bounds = bounds
        self._reset()

    def _reset(self) -> None:
        self._state = _State.IDLE
        self._address: Address = (0, 0)
        self._data = bytearray()
        self._size: int | None = None
        self._toggle = 0
        self._last = False
        self._block: list[bytes] = []
        self._ended = False
        self._crc: int | None = None
        self._with_crc = False

    def request(self, data: bytes) -> Seen | None:
        """A frame of the client; a value when it completes one (a block read)."""
        if len(data) != FRAME or data[0] == ABORT:
            self._reset()
            return None
        if self._state is _State.BLOCK:
            self._block_segment(data)
            return None
        command, specifier = data[0], data[0] >> 5
        if (
            specifier in (1, 2)
            or (specifier == 5 and command & 3 == 0)
            or (specifier == 6 and not command & 1)
        ):
            self._begin(data)
        elif specifier == 0 and self._state is _State.SEGMENT_DUE and command & 0x10 == self._toggle:
            self._data += data[1 : 8 - (command >> 1 & 7)]
            self._last = bool(command & 1)
            self._state = _State.SEGMENT_SENT
        elif specifier == 3 and self._state is _State.READ_SEGMENTS and command & 0x10 == self._toggle:
            pass
        elif specifier == 6 and self._state is _State.BLOCK_END:
            self._end(data)
        elif command == 0xA3 and self._state is _State.READ_BLOCK_START:
            self._state = _State.READ_BLOCK
        elif command == 0xA2 and self._state is _State.READ_BLOCK:
            self._acknowledged(data[1])
        elif command == 0xA1 and self._state is _State.READ_BLOCK and self._crc is not None:
            return self._whole(False)
        else:
            self._reset()
        return None

    def answer(self, data: bytes) -> Seen | None:
        """A frame of the server; a value when it completes one."""
        if len(data) != FRAME or data[0] == ABORT:
            self._reset()
            return None
        command, specifier = data[0], data[0] >> 5
        match self._state:
            case _State.WRITE_ASKED if specifier == 3 and address_in(data) == self._address:
                return self._whole(True)
            case _State.SEGMENTS_ASKED if specifier == 3 and address_in(data) == self._address:
                self._state = _State.SEGMENT_DUE
            case _State.SEGMENT_SENT if specifier == 1 and command & 0x10 == self._toggle:
                if self._last:
                    return self._whole(True)
                self._toggle ^= 0x10
                self._state = _State.SEGMENT_DUE
            case _State.BLOCK_ASKED if specifier == 5 and address_in(data) == self._address:
                self._with_crc = self._with_crc and bool(command & 0x04)
                self._state = _State.BLOCK
            case _State.BLOCK if command == 0xA2:
                self._acknowledged(data[1])
                if self._ended:
                    self._state = _State.BLOCK_END
            case _State.BLOCK_END if command == 0xA1 and self._crc is not None:
                return self._whole(True)
            case _State.READ_ASKED if specifier == 2 and address_in(data) == self._address:
                return self._read(data)
            case _State.READ_ASKED if specifier == 6 and address_in(data) == self._address:
                self._size = int.from_bytes(data[4:8], "little") if command & 0x02 else None
                self._with_crc = self._with_crc and bool(command & 0x04)
                self._state = _State.READ_BLOCK_START
            case _State.READ_SEGMENTS if specifier == 0 and command & 0x10 == self._toggle:
                self._data += data[1 : 8 - (command >> 1 & 7)]
                self._toggle ^= 0x10
                if command & 1:
                    return self._whole(False)
                self._bound()
            case _State.READ_BLOCK if self._ended and not self._block and specifier == 6:
                self._end(data)
            case _State.READ_BLOCK:
                self._block_segment(data)
            case _:
                self._reset()
        return None

    # --- inside

    def _begin(self, data: bytes) -> None:
        self._reset()
        self._address = address_in(data)
        command, specifier = data[0], data[0] >> 5
        length = int.from_bytes(data[4:8], "little")
        if specifier == 1 and command & 0x02:
            size = 4 - (command >> 2 & 3) if command & 1 else 4
            self._data += data[4 : 4 + size]
            self._state = _State.WRITE_ASKED
        elif specifier == 1:
            self._size = length if command & 1 else None
            self._state = _State.SEGMENTS_ASKED
        elif specifier == 6:
            self._size = length if command & 2 else None
            self._with_crc = bool(command & 4)
            self._state = _State.BLOCK_ASKED
        else:
            self._with_crc = specifier == 5 and bool(command & 4)
            self._state = _State.READ_ASKED

    def _read(self, data: bytes) -> Seen | None:
        command = data[0]
        if command & 0x02:
            size = 4 - (command >> 2 & 3) if command & 1 else 4
            self._data += data[4 : 4 + size]
            return self._whole(False)
        self._size = int.from_bytes(data[4:8], "little") if command & 1 else None
        self._state = _State.READ_SEGMENTS
        return None

    def _block_segment(self, data: bytes) -> None:
        """Only the next one in order counts; the receiver's answer says how many it took."""
        if data[0] & 0x7F == len(self._block) + 1:
            self._block.append(data[1:])
            self._ended = bool(data[0] & 0x80)
        self._bound()

    def _acknowledged(self, count: int) -> None:
        if count > len(self._block):
            self._reset()
            return
        self._ended = self._ended and count == len(self._block)
        self._data += b"".join(self._block[:count])
        self._block.clear()
        self._bound()

    def _end(self, data: bytes) -> None:
        unused = data[0] >> 2 & 7
        if unused:
            del self._data[-unused:]
        self._crc = int.from_bytes(data[1:3], "little")
        if self._with_crc and self._crc != crc16(bytes(self._data)):
            self._reset()

    def _bound(self) -> None:
        if len(self._data) + SEGMENT * len(self._block) > self._bounds.sdo_bytes + SEGMENT:
            self._reset()

    def _whole(self, wrote: bool) -> Seen | None:
        told, data, address = self._size, bytes(self._data), self._address
        self._reset()
        return (
            Seen(address, data, wrote)
            if told in (None, len(data)) and len(data) <= self._bounds.sdo_bytes
            else None
        )
