"""What relay and writer process say to each other over their socket pair: length, kind, token, body. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from scanward.errors import DecodeError

_HEAD: Final = struct.Struct(">IBQ")
NUMBER: Final = struct.Struct(">Q")


class Say(IntEnum):
    """Kinds of messages. The first six go to the writer process, the others come from it."""

    SETTINGS = 0
    APPEND = 1
    APPEND_RESERVED = 2
    CHECKPOINT = 3
    RECOVERED = 16
    DURABLE = 17
    FULL = 18
    FAILED = 19
    STATE = 20
    CHECKPOINTED = 21
    WITNESS = 22


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``token`` is the relay's name for a record, 0 where there is none."""

    kind: Say
    token: int
    body: bytes


def encode(kind: Say, token: int = 0, body: bytes = b"") -> bytes:
    """A message's bytes."""
    return _HEAD.pack(len(body), kind, token) + body


class Parser:
    """Cuts a stream of bytes into messages."""

    def __init__(self, limit: int) -> None:
        """``limit`` is the largest body, in bytes, that is taken."""
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that ``data`` completes; DecodeError when the other side speaks something else."""
        self._data += data
        while len(self._data) >= _HEAD.size:
            length, kind, token = _HEAD.unpack_from(self._data)
            if length > self._limit:
                raise DecodeError(f"a message of {length} bytes", "audit socket", "restart the guard")
            end = _HEAD.size + length
            if len(self._data) < end:
                return
            body = bytes(self._data[_HEAD.size : end])
            del self._data[:end]
            try:
                yield Message(Say(kind), token, body)
            except ValueError as error:
                raise DecodeError(f"a message of kind {kind}", "audit socket", "restart the guard") from error
