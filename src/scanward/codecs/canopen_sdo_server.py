"""The server's end of an SDO channel, pure: what a host writes and asks for becomes whole requests.

A request is answered later, by ``complete_download``, ``complete_upload`` or ``fail``: until then the host waits, as
it would for a slow device. Nothing of a transfer is known outside before it is whole, so a transfer that breaks,
is interrupted by another, or lies about its size leaves no trace.

Clauses: CiA 301, 7.2.4.3.3 to .17.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from scanward.codecs.canopen_sdo import (
    ABORT,
    FRAME,
    HEAD,
    MOST_SEGMENTS,
    SEGMENT,
    Abort,
    Address,
    Download,
    Transfer,
    Upload,
    abort_frame,
    address_in,
    crc16,
)
from scanward.config import CAN_BOUNDS, CanBounds

May = Callable[[Address, bool, int | None], int]
"""Asked before a transfer begins: (address, is it a write, size if told) -> 0, or the abort code to answer."""


@dataclass(slots=True)
class Step:
    """What one frame led to.

    Attributes
    ----------
    replies : list of bytes
        Frames to the client, in order.
    request : Download, Upload or None
        A whole request that must be answered.
    fault : str
        What was wrong with the frame or the transfer; empty when nothing was.
    gave_up : bool
        The client no longer waits for the request handed out before.
    """

    replies: list[bytes] = field(default_factory=list)
    request: Download | Upload | None = None
    fault: str = ""
    gave_up: bool = False


class _State(Enum):
    IDLE = auto()
    PENDING = auto()  # a request was handed out
    SEGMENTS_IN = auto()
    BLOCK_IN = auto()
    BLOCK_IN_END = auto()
    SEGMENTS_OUT = auto()
    BLOCK_OUT_START = auto()
    BLOCK_OUT = auto()
    BLOCK_OUT_END = auto()


class SdoServer:
    """One channel.

    Parameters
    ----------
    may : callable
        Whether a transfer may begin at all; see `May`.
    """

    def __init__(self, may: May, bounds: CanBounds = CAN_BOUNDS) -> None:
        self._may = may
        self._bounds = bounds
        self._state = _State.IDLE
        self._address: Address = (0, 0)
        self._transfer = Transfer.EXPEDITED
        self._data = bytearray()
        self._size: int | None = None
        self._toggle = 0
        self._block = self._bounds.sdo_block  # segments of a block
        self._sequence = 0  # of the last good segment
        self._crc = False
        self._sent = 0  # bytes acknowledged by the client
        self._heard = 0.0

    @property
    def waiting(self) -> bool:
        """A request was handed out and not answered yet."""
        return self._state is _State.PENDING

    def reset(self) -> None:
        """Forget whatever was going on, without a word to the client."""
        self._state = _State.IDLE
        self._data.clear()

    def frame(self, data: bytes, now: float) -> Step:
        """One frame from the client; never raises."""
        step = Step()
        self._heard = now
        if len(data) != FRAME:
            self._broken(step, Abort.COMMAND, f"an SDO frame of {len(data)} bytes")
        elif data[0] == ABORT:
            step.gave_up = self._state is _State.PENDING
            self.reset()
        elif self._state is _State.BLOCK_IN:
            self._block_segment(step, data)
        else:
            self._by_command(step, data)
        return step

    def tick(self, now: float) -> Step:
        """End a transfer whose client has fallen silent. A request handed out is not timed here."""
        step = Step()
        if self._state not in (_State.IDLE, _State.PENDING) and now - self._heard > self._bounds.sdo_idle_s:
            self._broken(step, Abort.TIMED_OUT, "an SDO transfer fell silent")
        return step

    # --- answers to a request

    def complete_download(self) -> list[bytes]:
        """The value was taken. Nothing is sent when nobody waits."""
        if self._state is not _State.PENDING:
            return []
        self._state = _State.IDLE
        match self._transfer:
            case Transfer.EXPEDITED:
                return [HEAD.pack(0x60, *self._address) + bytes(4)]
            case Transfer.SEGMENTED:
                return [bytes((0x20 | self._toggle,)) + bytes(7)]
            case Transfer.BLOCK:
                return [b"\xa1" + bytes(7)]

    def complete_upload(self, data: bytes) -> list[bytes]:
        """The value that was asked for; an empty one is "no data available"."""
        if self._state is not _State.PENDING:
            return []
        if not data:
            return self.fail(Abort.NO_DATA)
        self._data[:] = data
        self._sent = 0
        if self._transfer is Transfer.BLOCK:
            self._state = _State.BLOCK_OUT_START
            head = HEAD.pack(0xC2 | self._crc << 2, *self._address)
            return [head + struct.pack("<L", len(data))]
        if len(data) <= 4:
            self._state = _State.IDLE
            head = HEAD.pack(0x43 | (4 - len(data)) << 2, *self._address)
            return [head + data.ljust(4, b"\0")]
        self._state = _State.SEGMENTS_OUT
        self._toggle = 0
        return [HEAD.pack(0x41, *self._address) + struct.pack("<L", len(data))]

    def fail(self, code: int) -> list[bytes]:
        """The request is not done; the client is told ``code``."""
        if self._state is not _State.PENDING:
            return []
        self.reset()
        return [abort_frame(self._address, code)]

    # --- by state

    def _by_command(self, step: Step, data: bytes) -> None:
        specifier = data[0] >> 5
        if specifier in (1, 2) or (specifier, data[0] & (3 if specifier == 5 else 1)) in ((5, 0), (6, 0)):
            self._initiate(step, data)
        elif specifier == 0 and self._state is _State.SEGMENTS_IN:
            self._segment_in(step, data)
        elif specifier == 3 and self._state is _State.SEGMENTS_OUT:
            self._segment_out(step, data)
        elif specifier == 6 and data[0] & 0x03 == 1 and self._state is _State.BLOCK_IN_END:
            self._block_end(step, data)
        elif data[0] == 0xA3 and self._state is _State.BLOCK_OUT_START:
            self._block_out(step)
        elif data[0] == 0xA2 and self._state is _State.BLOCK_OUT:
            self._block_answer(step, data)
        elif data[0] == 0xA1 and self._state is _State.BLOCK_OUT_END:
            self.reset()
        else:
            self._broken(step, Abort.COMMAND, f"SDO command {data[0]:02X}h where none such belongs")

    def _initiate(self, step: Step, data: bytes) -> None:
        """A new transfer; one that was going on is gone, as with any server."""
        if self._state is _State.PENDING:
            step.gave_up = True
        elif self._state is not _State.IDLE:
            step.fault = "an SDO transfer began in the middle of another"
        self.reset()
        self._address = address_in(data)
        specifier, command = data[0] >> 5, data[0]
        length = int.from_bytes(data[4:8], "little")
        self._size = None
        match specifier:
            case 1 if command & 0x02:
                self._transfer = Transfer.EXPEDITED
                self._size = 4 - (command >> 2 & 3) if command & 0x01 else None
            case 1:
                self._transfer = Transfer.SEGMENTED
                self._size = length if command & 0x01 else None
            case 6:
                self._transfer = Transfer.BLOCK
                self._size = length if command & 0x02 else None
                self._crc = bool(command & 0x04)
            case 5:
                self._transfer = Transfer.BLOCK
                self._crc = bool(command & 0x04)
                self._block = data[4]
            case _:
                self._transfer = Transfer.SEGMENTED
        write = specifier in (1, 6)
        code = self._may(self._address, write, self._size)
        if not code and write and (self._size or 0) > self._bounds.sdo_bytes:
            code = Abort.TOO_LONG
        if not code and specifier == 5 and not 1 <= self._block <= MOST_SEGMENTS:
            code = Abort.BLOCK_SIZE
        if code:
            step.replies.append(abort_frame(self._address, code))
        elif not write:
            self._hand_out(step, Upload(self._address, self._transfer))
        elif self._transfer is Transfer.EXPEDITED:
            told = self._size is not None
            value = data[4 : 4 + (self._size or 4)]
            self._hand_out(step, Download(self._address, value, self._transfer, told))
        elif self._transfer is Transfer.SEGMENTED:
            self._state, self._toggle = _State.SEGMENTS_IN, 0
            step.replies.append(HEAD.pack(0x60, *self._address) + bytes(4))
        else:
            self._state, self._sequence, self._block = _State.BLOCK_IN, 0, self._bounds.sdo_block
            head = HEAD.pack(0xA0 | self._crc << 2, *self._address)
            step.replies.append(head + bytes((self._block, 0, 0, 0)))

    def _segment_in(self, step: Step, data: bytes) -> None:
        if data[0] & 0x10 != self._toggle:
            self._broken(step, Abort.TOGGLE, "an SDO segment with the wrong toggle bit")
            return
        self._data += data[1 : 8 - (data[0] >> 1 & 7)]
        if not self._fits(step):
            return
        if data[0] & 0x01:
            self._whole(step)
        else:
            step.replies.append(bytes((0x20 | self._toggle,)) + bytes(7))
            self._toggle ^= 0x10

    def _block_segment(self, step: Step, data: bytes) -> None:
        """A segment that is not the next one is left out; the answer to the block says where to go on."""
        number, last = data[0] & 0x7F, bool(data[0] & 0x80)
        good = number == self._sequence + 1
        if good:
            self._sequence = number
            self._data += data[1:]
            if not self._fits(step, SEGMENT):
                return
        if last or number >= self._block:
            step.replies.append(bytes((0xA2, self._sequence, self._block)) + bytes(5))
            self._sequence = 0
            if last and good:
                self._state = _State.BLOCK_IN_END

    def _block_end(self, step: Step, data: bytes) -> None:
        unused = data[0] >> 2 & 7
        if unused:
            del self._data[-unused:]
        if self._crc and int.from_bytes(data[1:3], "little") != crc16(bytes(self._data)):
            self._broken(step, Abort.CRC, "an SDO block transfer with the wrong CRC")
            return
        self._whole(step)

    def _fits(self, step: Step, slack: int = 0) -> bool:
        """Whether what came stays within what was told and what is bounded."""
        most = self._bounds.sdo_bytes if self._size is None else self._size
        if len(self._data) > most + slack:
            self._broken(step, Abort.TOO_LONG, f"an SDO transfer of more than {most} bytes")
            return False
        return True

    def _whole(self, step: Step) -> None:
        if self._size is not None and len(self._data) != self._size:
            self._broken(
                step, Abort.LENGTH, f"an SDO transfer of {len(self._data)} bytes that told {self._size}"
            )
        elif len(self._data) > self._bounds.sdo_bytes:
            self._broken(step, Abort.TOO_LONG, "an SDO transfer beyond its bound")
        else:
            self._hand_out(step, Download(self._address, bytes(self._data), self._transfer))

    def _segment_out(self, step: Step, data: bytes) -> None:
        if data[0] & 0x10 != self._toggle:
            self._broken(step, Abort.TOGGLE, "an SDO segment asked for with the wrong toggle bit")
            return
        part = bytes(self._data[self._sent : self._sent + SEGMENT])
        self._sent += len(part)
        last = self._sent >= len(self._data)
        head = self._toggle | (SEGMENT - len(part)) << 1 | last
        step.replies.append(bytes((head,)) + part.ljust(SEGMENT, b"\0"))
        self._toggle ^= 0x10
        if last:
            self.reset()

    def _block_out(self, step: Step) -> None:
        self._state = _State.BLOCK_OUT
        left = bytes(self._data[self._sent :])
        parts = [left[i : i + SEGMENT] for i in range(0, len(left), SEGMENT)]
        for number, part in enumerate(parts[: self._block], 1):
            end = 0x80 if number == len(parts) else 0
            step.replies.append(bytes((number | end,)) + part.ljust(SEGMENT, b"\0"))
        self._sequence = min(len(parts), self._block)

    def _block_answer(self, step: Step, data: bytes) -> None:
        acknowledged, block = data[1], data[2]
        if acknowledged > self._sequence or not 1 <= block <= MOST_SEGMENTS:
            self._broken(step, Abort.SEQUENCE, "an SDO block acknowledged beyond what was sent")
            return
        self._block = block
        self._sent += acknowledged * SEGMENT
        if self._sent < len(self._data):
            self._block_out(step)
            return
        self._state = _State.BLOCK_OUT_END
        unused = -len(self._data) % SEGMENT
        crc = crc16(bytes(self._data)) if self._crc else 0
        step.replies.append(struct.pack("<BH", 0xC1 | unused << 2, crc) + bytes(5))

    def _hand_out(self, step: Step, request: Download | Upload) -> None:
        self._state = _State.PENDING
        step.request = request

    def _broken(self, step: Step, code: int, fault: str) -> None:
        step.fault = fault
        step.gave_up = self._state is _State.PENDING
        self.reset()
        step.replies.append(abort_frame(self._address, code))
