"""The gantry's side of a stream link: connects twice, once for commands and once for stops, again and again.

Both connections live or the gantry counts as lost. A stop is said on both: on its own it passes whatever waits
on the other, and on the other it stands *behind* what was sent before it, so that no trigger sent earlier can be
the last thing that the gantry hears.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from scanward.codecs.stream import HEARTBEAT, decode_gantry, encode
from scanward.commands.wire import Channel, Heartbeat, Hello, Stop, ToGantry
from scanward.errors import DecodeError, LinkError
from scanward.links.base import Side, Sink, digest_of
from scanward.links.identifiers import Identifiers
from scanward.links.stream_settings import StreamSettings, stranger
from scanward.transport.tcp import LineConnection, connect


@dataclass(slots=True)
class _Wire:
    """One of the two connections. ``hello`` is what the gantry answered to ours."""

    channel: Channel
    connection: LineConnection
    hello: Hello | None = None


class GantrySide:
    """Implements `transport.tcp.Listener` for the two connections to the gantry."""

    def __init__(
        self, settings: StreamSettings, context: ssl.SSLContext | None, identifiers: Identifiers, sink: Sink
    ) -> None:
        self._settings = settings
        self._context = context
        self._identifiers = identifiers
        self._sink = sink
        self._wires: dict[Channel, _Wire] = {}
        self._up = False
        self._deaf = False
        self._tasks: list[asyncio.Task[None]] = []
        self._complaint = ""  # the last refusal told: one gantry that is away is not a thousand records

    def start(self) -> None:
        """Begin to connect."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(channel)) for channel in Channel]

    async def close(self) -> None:
        """Close everything and wait for it."""
        self._deaf = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in list(self._wires.values()):
            wire.connection.abort("the guard ends")
            await wire.connection.wait_closed()

    def send(self, message: ToGantry) -> None:
        """One message; LinkError when the gantry is gone."""
        if not self._up:
            raise LinkError("the gantry is gone", self._address(), "see that it runs")
        if isinstance(message, Stop):
            self._stop(message)
            return
        try:
            line = encode(message, self._identifiers.reveal)
        except DecodeError as error:
            raise LinkError(error.what, "to the gantry", error.todo) from error
        self._wires[Channel.COMMANDS].connection.send(line)

    def drop(self, reason: str) -> None:
        """Both connections, at once: the gantry goes to its own safe state."""
        for wire in list(self._wires.values()):
            wire.connection.abort(reason)

    def beat(self) -> None:
        """A heartbeat on the commands connection."""
        wire = self._wires.get(Channel.COMMANDS)
        if wire is not None and wire.hello is not None and wire.connection.is_open:
            try:
                wire.connection.send(HEARTBEAT + b"\n")
            except LinkError:
                return  # it does not read; the connection has ended itself and says so

    # --- transport.tcp.Listener

    def opened(self, connection: LineConnection) -> None:
        """Connected: say hello."""
        for wire in self._wires.values():
            if wire.connection is connection:
                connection.send(encode(Hello(self._settings.device, wire.channel)))

    def line(self, connection: LineConnection, line: bytes) -> None:
        """One line: decoded and told, or the end of the connection."""
        wire = next((w for w in self._wires.values() if w.connection is connection), None)
        if wire is None or self._deaf:
            return
        try:
            message = decode_gantry(line, self._identifiers.hide, self._settings.lines)
        except DecodeError as error:
            self._malformed(wire, error.what, line)
            return
        if wire.hello is None:
            if isinstance(message, Hello):
                self._greet(wire, message, line)
            else:
                self._malformed(wire, "the first line must be a hello", line)
        elif isinstance(message, Hello):
            self._malformed(wire, "a second hello on one connection", line)
        elif not isinstance(message, Heartbeat):
            self._sink.gantry_said(message)

    def wrong(self, connection: LineConnection | None, reason: str, data: bytes) -> None:
        """A bound was broken, or a certificate is not who it should be."""
        self._complain(reason, digest_of(data) if data else "")

    def closed(self, connection: LineConnection, reason: str) -> None:
        """One is gone: so is the other."""
        was_up, self._up = self._up, False
        for wire in list(self._wires.values()):
            if wire.connection is connection:
                del self._wires[wire.channel]
            else:
                wire.connection.abort(reason)
        if was_up and not self._deaf:
            self._sink.gantry_lost(reason)

    # --- inside

    def _stop(self, message: Stop) -> None:
        """On both; only when neither takes it is it lost."""
        line = encode(message)
        lost: LinkError | None = None
        sent = False
        for channel in (Channel.STOP, Channel.COMMANDS):
            wire = self._wires.get(channel)
            if wire is None:
                continue
            try:
                wire.connection.send(line)
                sent = True
            except LinkError as error:
                lost = error
        if not sent:
            raise lost or LinkError("the gantry is gone", self._address(), "see that it runs")

    async def _keep(self, channel: Channel) -> None:
        """Connect, wait until that is over, connect again."""
        bounds = self._settings.bounds
        wait = bounds.reconnect_s
        while True:
            connection = LineConnection(
                self,
                self._settings.lines.line_bytes,
                pins=None if self._context is None else self._settings.gantry_pins,
                bounds=bounds,
            )
            wire = self._wires[channel] = _Wire(channel, connection)
            try:
                await connect(*self._settings.gantry, connection, self._context, bounds)
            except LinkError as error:
                self._wires.pop(channel, None)
                connection.abort(error.what)
                if "certificate" in error.what:
                    self._complain(error.what, "")
            else:
                await connection.wait_closed()
                if wire.hello is not None:
                    wait = bounds.reconnect_s
            await asyncio.sleep(wait)
            wait = min(2 * wait, bounds.reconnect_most_s)

    def _greet(self, wire: _Wire, hello: Hello, line: bytes) -> None:
        other = stranger(self._settings.device, hello.device, self._identifiers)
        if other or hello.channel is not wire.channel:
            self._malformed(wire, other or "the hello names the other channel", line)
            return
        wire.hello = hello
        wire.connection.silence_s = self._settings.silence_s if wire.channel is Channel.COMMANDS else 0.0
        both = [self._wires.get(channel) for channel in Channel]
        if all(each is not None and each.hello is not None for each in both):
            self._up = True
            self._complaint = ""
            commands = self._wires[Channel.COMMANDS].hello
            assert commands is not None
            self._sink.gantry_up(commands)

    def _malformed(self, wire: _Wire, reason: str, line: bytes) -> None:
        self._complain(reason, digest_of(line))
        wire.connection.abort(reason)

    def _complain(self, reason: str, digest: str) -> None:
        if not self._deaf and reason != self._complaint:
            self._complaint = reason
            self._sink.malformed(Side.GANTRY, reason, digest)

    def _address(self) -> str:
        return "{}:{}".format(*self._settings.gantry)
