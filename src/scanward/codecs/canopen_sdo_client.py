"""The client's end of an SDO channel, pure: the guard writes to the gantry and reads back from it.

One transfer at a time. Whatever the gantry answers gives a result or ends the transfer with an abort; an answer that
belongs to nothing is not an error of the transfer (a gantry may still answer what was given up).

Clauses: CiA 301, 7.2.4.3.3 to .17.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, auto

from scanward.codecs.canopen_sdo import (
    ABORT,
    FRAME,
    HEAD,
    SEGMENT,
    Abort,
    Address,
    Transfer,
    abort_code,
    abort_frame,
    address_in,
    crc16,
)
from scanward.config import CAN_BOUNDS, CanBounds


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transfer ended.

    Attributes
    ----------
    data : bytes or None
        What was read; None for a write.
    code : int
        0 when it went well, else the abort code; ``by_gantry`` tells whose.
    """

    address: Address
    data: bytes | None = None
    code: int = 0
    by_gantry: bool = False


@dataclass(slots=True)
class Sent:
    """Frames for the gantry, and the outcome when there is one."""

    frames: list[bytes] = field(default_factory=list)
    outcome: Outcome | None = None


class _State(Enum):
    IDLE = auto()
    EXPEDITED_OUT = auto()
    SEGMENTS_OUT_START = auto()
    SEGMENTS_OUT = auto()
    BLOCK_OUT_START = auto()
    BLOCK_OUT = auto()
    BLOCK_OUT_END = auto()
    ASKED = auto()
    SEGMENTS_IN = auto()
    BLOCK_IN = auto()
    BLOCK_IN_END = auto()


class SdoClient:
    """One channel."""

    def __init__(self, bounds: CanBounds = CAN_BOUNDS) -> None:
        self._bounds = bounds
        self._state = _State.IDLE
        self._address: Address = (0, 0)
        self._data = bytearray()
        self._size: int | None = None
        self._toggle = 0
        self._sent = 0
        self._in_flight = 0
        self._sequence = 0
        self._crc = False
        self._since = 0.0

    @property
    def busy(self) -> bool:
        """A transfer is going on."""
        return self._state is not _State.IDLE

    def reset(self) -> None:
        """Forget the transfer without a word to the gantry."""
        self._state = _State.IDLE
        self._data.clear()

    def download(self, address: Address, data: bytes, transfer: Transfer, now: float) -> list[bytes]:
        """Begin to write; a value of more than 4 bytes cannot travel expedited and goes in segments."""
        assert not self.busy
        self._begin(address, now)
        self._data[:] = data
        size = struct.pack("<L", len(data))
        if transfer is Transfer.BLOCK:
            self._state = _State.BLOCK_OUT_START
            return [HEAD.pack(0xC6, *address) + size]
        if 1 <= len(data) <= 4 and transfer is Transfer.EXPEDITED:
            self._state = _State.EXPEDITED_OUT
            return [HEAD.pack(0x23 | (4 - len(data)) << 2, *address) + data.ljust(4, b"\0")]
        self._state = _State.SEGMENTS_OUT_START
        return [HEAD.pack(0x21, *address) + size]

    def upload(self, address: Address, transfer: Transfer, now: float) -> list[bytes]:
        """Begin to read."""
        assert not self.busy
        self._begin(address, now)
        self._state = _State.ASKED
        if transfer is Transfer.BLOCK:
            return [HEAD.pack(0xA4, *address) + bytes((self._bounds.sdo_block, 0, 0, 0))]
        return [HEAD.pack(0x40, *address) + bytes(4)]

    def frame(self, data: bytes, now: float) -> Sent:
        """One frame from the gantry; never raises."""
        sent = Sent()
        if self._state is _State.IDLE or len(data) != FRAME:
            return sent
        if self._state is _State.BLOCK_IN and data[0] != ABORT:
            self._since = now
            self._block_segment(sent, data)
        elif data[0] == ABORT:
            if address_in(data) == self._address:
                self._end(sent, code=abort_code(data) or Abort.GENERAL, by_gantry=True)
        else:
            self._since = now
            self._by_state(sent, data)
        return sent

    def tick(self, now: float) -> Sent:
        """End a transfer whose server has fallen silent."""
        sent = Sent()
        if self.busy and now - self._since > self._bounds.sdo_answer_s:
            self._broken(sent, Abort.TIMED_OUT)
        return sent

    # --- by state

    def _begin(self, address: Address, now: float) -> None:
        self._address, self._since = address, now
        self._data.clear()
        self._size, self._toggle, self._sent, self._sequence, self._crc = None, 0, 0, 0, False

    def _by_state(self, sent: Sent, data: bytes) -> None:
        specifier = data[0] >> 5
        match self._state:
            case _State.EXPEDITED_OUT if specifier == 3 and self._mine(data):
                self._end(sent)
            case _State.SEGMENTS_OUT_START if specifier == 3 and self._mine(data):
                self._state = _State.SEGMENTS_OUT
                self._segment_out(sent)
            case _State.SEGMENTS_OUT if specifier == 1:
                if data[0] & 0x10 != self._toggle:
                    self._broken(sent, Abort.TOGGLE)
                    return
                self._sent += self._in_flight
                self._toggle ^= 0x10
                if self._sent >= len(self._data):
                    self._end(sent)
                else:
                    self._segment_out(sent)
            case _State.BLOCK_OUT_START if specifier == 5 and data[0] & 3 == 0 and self._mine(data):
                self._crc = bool(data[0] & 0x04)
                self._state = _State.BLOCK_OUT
                self._block_out(sent, data[4])
            case _State.BLOCK_OUT if specifier == 5 and data[0] & 3 == 2:
                self._block_answer(sent, data)
            case _State.BLOCK_OUT_END if specifier == 5 and data[0] & 3 == 1:
                self._end(sent)
            case _State.ASKED if specifier == 2 and self._mine(data):
                self._answer(sent, data)
            case _State.ASKED if specifier == 6 and data[0] & 1 == 0 and self._mine(data):
                self._crc = bool(data[0] & 0x04)
                self._size = int.from_bytes(data[4:8], "little") if data[0] & 0x02 else None
                if self._fits(sent):
                    self._state = _State.BLOCK_IN
                    sent.frames.append(b"\xa3" + bytes(7))
            case _State.SEGMENTS_IN if specifier == 0:
                self._segment_in(sent, data)
            case _State.BLOCK_IN_END if specifier == 6 and data[0] & 3 == 1:
                self._block_end(sent, data)
            case _:
                self._broken(sent, Abort.COMMAND)

    def _mine(self, data: bytes) -> bool:
        return address_in(data) == self._address

    def _segment_out(self, sent: Sent) -> None:
        part = bytes(self._data[self._sent : self._sent + SEGMENT])
        self._in_flight = len(part)
        last = self._sent + len(part) >= len(self._data)
        head = self._toggle | (SEGMENT - len(part)) << 1 | last
        sent.frames.append(bytes((head,)) + part.ljust(SEGMENT, b"\0"))

    def _block_out(self, sent: Sent, block: int) -> None:
        if not 1 <= block <= 127:
            self._broken(sent, Abort.BLOCK_SIZE)
            return
        left = bytes(self._data[self._sent :])
        parts = [left[i : i + SEGMENT] for i in range(0, len(left), SEGMENT)] or [b""]
        for number, part in enumerate(parts[:block], 1):
            end = 0x80 if number == len(parts) else 0
            sent.frames.append(bytes((number | end,)) + part.ljust(SEGMENT, b"\0"))
        self._in_flight = min(len(parts), block)

    def _block_answer(self, sent: Sent, data: bytes) -> None:
        if data[1] > self._in_flight:
            self._broken(sent, Abort.SEQUENCE)
            return
        self._sent += data[1] * SEGMENT
        if self._sent < len(self._data) or data[1] == 0:
            self._sequence += (
                1  # here: blocks sent, so that a server that takes nothing is not served for ever
            )
            if self._sequence > self._bounds.sdo_blocks:
                self._broken(sent, Abort.SEQUENCE)
            else:
                self._block_out(sent, data[2])
            return
        self._state = _State.BLOCK_OUT_END
        unused = SEGMENT if not self._data else -len(self._data) % SEGMENT
        crc = crc16(bytes(self._data)) if self._crc else 0
        sent.frames.append(struct.pack("<BH", 0xC1 | unused << 2, crc) + bytes(5))

    def _answer(self, sent: Sent, data: bytes) -> None:
        command = data[0]
        if command & 0x02:
            size = 4 - (command >> 2 & 3) if command & 0x01 else 4
            self._data[:] = data[4 : 4 + size]
            self._end(sent, read=True)
            return
        self._size = int.from_bytes(data[4:8], "little") if command & 0x01 else None
        if self._fits(sent):
            self._state = _State.SEGMENTS_IN
            sent.frames.append(b"\x60" + bytes(7))

    def _segment_in(self, sent: Sent, data: bytes) -> None:
        if data[0] & 0x10 != self._toggle:
            self._broken(sent, Abort.TOGGLE)
            return
        self._data += data[1 : 8 - (data[0] >> 1 & 7)]
        if not self._fits(sent):
            return
        if data[0] & 0x01:
            self._whole(sent)
        else:
            self._toggle ^= 0x10
            sent.frames.append(bytes((0x60 | self._toggle,)) + bytes(7))

    def _block_segment(self, sent: Sent, data: bytes) -> None:
        number, last = data[0] & 0x7F, bool(data[0] & 0x80)
        good = number == self._sequence + 1
        if good:
            self._sequence = number
            self._data += data[1:]
            if not self._fits(sent, SEGMENT):
                return
        if last or number >= self._bounds.sdo_block:
            sent.frames.append(bytes((0xA2, self._sequence, self._bounds.sdo_block)) + bytes(5))
            self._sequence = 0
            if last and good:
                self._state = _State.BLOCK_IN_END

    def _block_end(self, sent: Sent, data: bytes) -> None:
        unused = data[0] >> 2 & 7
        if unused:
            del self._data[-unused:]
        if self._crc and int.from_bytes(data[1:3], "little") != crc16(bytes(self._data)):
            self._broken(sent, Abort.CRC)
            return
        self._whole(sent)
        if sent.outcome and not sent.outcome.code:
            sent.frames.append(b"\xa1" + bytes(7))

    def _fits(self, sent: Sent, slack: int = 0) -> bool:
        most = self._bounds.sdo_bytes
        if max(len(self._data) - slack, self._size or 0) > most:
            self._broken(sent, Abort.TOO_LONG)
            return False
        return True

    def _whole(self, sent: Sent) -> None:
        if self._size is not None and len(self._data) != self._size:
            self._broken(sent, Abort.LENGTH)
        else:
            self._end(sent, read=True)

    def _end(self, sent: Sent, read: bool = False, code: int = 0, by_gantry: bool = False) -> None:
        sent.outcome = Outcome(self._address, bytes(self._data) if read else None, code, by_gantry)
        self.reset()

    def _broken(self, sent: Sent, code: int) -> None:
        sent.frames.append(abort_frame(self._address, code))
        self._end(sent, code=code)
