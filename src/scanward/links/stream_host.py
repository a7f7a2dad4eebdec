"""The host's side of a stream link: listens, and takes what hosts say apart. One bad line ends its connection."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from scanward.codecs.stream import HEARTBEAT, decode_host, encode
from scanward.commands.wire import Channel, Heartbeat, Hello, Refused, Stop, ToHost
from scanward.config import TcpBounds
from scanward.errors import DecodeError, LinkError
from scanward.links.base import Side, Sink, digest_of
from scanward.links.identifiers import Identifiers
from scanward.links.stream_settings import StreamSettings, stranger
from scanward.transport.tcp import LineConnection, LineServer


@dataclass(slots=True)
class _Host:
    """One connection. ``hello`` is None until it said who it is; ``left`` messages may come at ``since``."""

    number: int
    connection: LineConnection
    left: float
    since: float
    hello: Hello | None = None

    def many(self, bounds: TcpBounds, now: float) -> bool:
        """Whether one more message is too many. Stops are not asked."""
        self.left = min(bounds.messages_burst, self.left + (now - self.since) * bounds.messages_s) - 1.0
        self.since = now
        return self.left < 0.0


class HostSide:
    """Implements `transport.tcp.Listener` for connections from hosts."""

    def __init__(
        self, settings: StreamSettings, context: ssl.SSLContext | None, identifiers: Identifiers, sink: Sink
    ) -> None:
        self._settings = settings
        self._identifiers = identifiers
        self._sink = sink
        self._pins = None if context is None else settings.host_pins
        self._server = LineServer(self._connection, self, context, settings.bounds)
        self._hosts: dict[LineConnection, _Host] = {}
        self._numbers: dict[int, _Host] = {}
        self._last = 0
        self._deaf = False  # closing: nothing is told any more
        self._clock = asyncio.get_running_loop().time

    async def start(self) -> None:
        """Listen; LinkError when that is not possible."""
        await self._server.start(*self._settings.listen)

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port

    async def close(self) -> None:
        """Close everything and wait for it."""
        self._deaf = True
        open_ones = list(self._hosts)
        await self._server.close()
        for connection in open_ones:
            connection.abort("the guard ends")
        for connection in open_ones:
            await connection.wait_closed()

    def send(self, number: int, message: ToHost) -> None:
        """One line to one host; LinkError when it is gone."""
        host = self._numbers.get(number)
        if host is None:
            raise LinkError("the host is gone", f"connection {number}", "let it connect again")
        try:
            line = encode(message, self._identifiers.reveal)
        except DecodeError as error:
            raise LinkError(error.what, f"to the host, connection {number}", error.todo) from error
        host.connection.send(line)

    def hang_up(self, number: int, reason: str) -> None:
        """Close one connection after what was sent to it."""
        host = self._numbers.get(number)
        if host is not None:
            host.connection.close(reason)
            self._lost(host, reason)

    def drop(self, reason: str) -> None:
        """Every connection, at once."""
        for connection in list(self._hosts):
            connection.abort(reason)

    def beat(self) -> None:
        """A heartbeat to every host on its commands connection."""
        for host in list(self._hosts.values()):
            if host.hello is not None and host.hello.channel is Channel.COMMANDS and host.connection.is_open:
                try:
                    host.connection.send(HEARTBEAT + b"\n")
                except LinkError:
                    continue  # it does not read; the connection has ended itself and says so

    # --- transport.tcp.Listener

    def opened(self, connection: LineConnection) -> None:
        """A peer that may talk; it has ``handshake_s`` to say hello."""
        if len(self._hosts) >= self._settings.bounds.connections:
            self._make_room()
        self._last += 1
        bounds = self._settings.bounds
        host = _Host(self._last, connection, bounds.messages_burst, self._clock())
        self._hosts[connection] = host
        self._numbers[host.number] = host

    def line(self, connection: LineConnection, line: bytes) -> None:
        """One line: decoded and told, or the end of its connection."""
        host = self._hosts[connection]
        if self._deaf:
            return
        device = host.hello.device if host.hello else None
        try:
            message = decode_host(line, self._identifiers.hide, device, self._settings.lines)
        except DecodeError as error:
            self._refuse(connection, error.what, line)
            return
        if not isinstance(message, Stop) and host.many(self._settings.bounds, self._clock()):
            self._refuse(connection, "too many messages a second", line)
        elif host.hello is None:
            if isinstance(message, Hello):
                self._greet(host, message, line)
            else:
                self._refuse(connection, "the first line must be a hello", line)
        elif isinstance(message, Hello):
            self._refuse(connection, "a second hello on one connection", line)
        elif not isinstance(message, Heartbeat):
            self._sink.host_said(host.number, message)

    def wrong(self, connection: LineConnection | None, reason: str, data: bytes) -> None:
        """A bound was broken, or a certificate is not who it should be."""
        if self._deaf:
            return
        self._sink.malformed(Side.HOST, reason, digest_of(data) if data else "")
        if connection is not None and connection.is_open and connection in self._hosts:
            self._say_refused(connection, reason)

    def closed(self, connection: LineConnection, reason: str) -> None:
        """Gone."""
        host = self._hosts.pop(connection, None)
        if host is None:
            return
        self._lost(host, reason)

    # --- inside

    def _connection(self) -> LineConnection:
        s = self._settings
        return LineConnection(self, s.lines.line_bytes, pins=self._pins, bounds=s.bounds)

    def _greet(self, host: _Host, hello: Hello, line: bytes) -> None:
        other = stranger(self._settings.device, hello.device, self._identifiers)
        if other:
            self._refuse(host.connection, other, line)
            return
        host.hello = hello
        # A stop may be the only thing ever said on its connection: the network's keep-alive watches that one.
        host.connection.silence_s = self._settings.silence_s if hello.channel is Channel.COMMANDS else 0.0
        self.send(host.number, Hello(hello.device, hello.channel))
        self._sink.host_up(host.number, hello)

    def _lost(self, host: _Host, reason: str) -> None:
        """Told once, and at the first sign: a connection that only waits for its peer's farewell is no host."""
        if self._numbers.pop(host.number, None) and host.hello is not None and not self._deaf:
            self._sink.host_lost(host.number, reason)

    def _refuse(self, connection: LineConnection, reason: str, line: bytes) -> None:
        self._sink.malformed(Side.HOST, reason, digest_of(line))
        if connection.is_open:
            self._say_refused(connection, reason)
            connection.close(reason)
        self._lost(self._hosts[connection], reason)

    def _say_refused(self, connection: LineConnection, reason: str) -> None:
        try:
            connection.send(encode(Refused("", reason)))
        except LinkError:
            return  # it does not read: it will see the connection end

    def _make_room(self) -> None:
        """Too many connections: whoever has not said who it is gives way, else the oldest for commands."""
        nameless = (h for h in self._hosts.values() if h.hello is None)
        commands = (h for h in self._hosts.values() if h.hello and h.hello.channel is Channel.COMMANDS)
        oldest = next(nameless, None) or next(commands, None) or next(iter(self._hosts.values()))
        self._sink.malformed(Side.HOST, "too many connections at once", "")
        oldest.connection.abort("too many connections at once")
