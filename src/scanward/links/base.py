"""What a link is: messages between the guard and the two ends of its wire, whatever the wire.

A link runs on one asyncio loop. It never blocks: everything it says to the guard is a synchronous call of the
`Sink` on that loop, everything it is told to send is queued in bounded buffers. It knows nothing of verdicts.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Protocol

from scanward.commands.wire import FromGantry, FromHost, Hello, ToGantry, ToHost


class Side(StrEnum):
    """Which end of the wire."""

    HOST = "host"
    GANTRY = "gantry"


class Sink(Protocol):
    """Who listens to a link: the relay. Every call is synchronous, on the loop, and must not block.

    ``connection`` is a number that no other connection of this link's life had or will have.
    """

    def host_up(self, connection: int, hello: Hello) -> None:
        """A host connected and said who it is. ``hello.channel`` tells commands from stops."""

    def host_lost(self, connection: int, reason: str) -> None:
        """That connection is gone, for whatever reason; nothing more comes from it."""

    def host_said(self, connection: int, message: FromHost) -> None:
        """One decoded message (never a Hello)."""

    def gantry_up(self, hello: Hello) -> None:
        """The gantry is there and said who it is."""

    def gantry_lost(self, reason: str) -> None:
        """The gantry is gone; the link tries again by itself where its wire allows that."""

    def gantry_said(self, message: FromGantry) -> None:
        """One decoded message (never a Hello)."""

    def malformed(self, side: Side, reason: str, digest: str) -> None:
        """Something came that is no message, or from nobody known.

        ``reason`` is for people; ``digest`` is what `digest_of` makes of the bytes, "" when there are none (a
        certificate that was refused, a silence).
        """


class Link(ABC):
    """A wire between a host and a gantry, with the guard in the middle."""

    @abstractmethod
    async def start(self, sink: Sink) -> None:
        """Open both sides and begin to call ``sink``; LinkError when this cannot be done at all.

        A gantry that is not there yet is no error: ``gantry_up`` comes when it is.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close both sides and wait until nothing of the link runs. Calls nothing of the sink any more."""

    @abstractmethod
    def to_gantry(self, message: ToGantry) -> None:
        """Send. Never blocks; a Stop overtakes whatever is queued. LinkError when the gantry is gone."""

    @abstractmethod
    def to_host(self, connection: int, message: ToHost) -> None:
        """Send. Never blocks; LinkError when that connection is gone."""

    def hang_up(self, connection: int, reason: str) -> None:  # noqa: B027 - a wire without connections has none
        """Close one connection of a host, after what was sent to it; a wire without connections does nothing."""

    @abstractmethod
    def drop(self, reason: str) -> None:
        """Drop both sides at once: the gantry goes to its own safe state. Nothing is sent any more."""


def digest_of(data: bytes) -> str:
    """Names bytes without keeping them (they may name a patient): BLAKE2b, 16 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()
