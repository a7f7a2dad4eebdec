"""Lines over TCP, with or without TLS: bounded, never blocking, and nobody waits for anybody else.

Every bound of `config.TcpBounds` ends the connection that goes beyond it, and that one alone: a line too long
or too slow, a peer that is silent, a peer that does not read. After a few lines of one connection the others
have their turn, so that a flood on one does not delay a stop on another.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from scanward.config import TCP_BOUNDS, TcpBounds
from scanward.errors import LinkError
from scanward.transport.tls import Pins

_TURN_S: Final = 0.001  # s that one connection may take before the others have their turn


class Doorkeeper(Protocol):
    """Who hears of strangers that do not get in."""

    def wrong(self, connection: LineConnection | None, reason: str, data: bytes) -> None:
        """There is no TLS with a peer."""


class Listener(Protocol):
    """Who owns a connection. All calls are on the loop; ``closed`` comes once, and last."""

    def opened(self, connection: LineConnection) -> None:
        """The peer is known (where there is TLS), lines may be sent."""

    def line(self, connection: LineConnection, line: bytes) -> None:
        """One whole line, without its line feed."""

    def wrong(self, connection: LineConnection | None, reason: str, data: bytes) -> None:
        """The peer broke a bound or is not who it should be; the connection is about to be closed."""

    def closed(self, connection: LineConnection, reason: str) -> None:
        """The connection is gone."""


class LineConnection(asyncio.Protocol):
    """One connection.

    Attributes
    ----------
    peer : str
        Address and port, for people.
    silence_s : float
        Seconds without a line after which the peer counts as lost; 0 for never. Set at any time.
    """

    def __init__(
        self,
        listener: Listener,
        line_bytes: int,
        *,
        pins: Pins | None = None,
        bounds: TcpBounds = TCP_BOUNDS,
    ) -> None:
        self.peer = ""
        self.silence_s = bounds.handshake_s  # until a hello says more
        self._listener = listener
        self._line_bytes = line_bytes
        self._pins = pins
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer known to hold no line feed
        self._reason = ""
        self._open = False
        self._over = False  # closing or aborted: whatever still comes is thrown away
        self._told = False
        self._working = False
        self._heard = self._loop.time()
        self._begun: float | None = None  # when the line that is not whole yet began
        self._stuck: float | None = None  # since when the peer has not read
        self._watch: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there, and TLS where it is asked for."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = _names(transport)[1]
        transport.set_write_buffer_limits(high=self._bounds.write_bytes // 8)
        _tuned(transport.get_extra_info("socket"), self._bounds)
        if self._over:  # given up while it was being made
            transport.abort()
            return
        if self._pins is not None:
            peer = transport.get_extra_info("ssl_object")
            refusal = self._pins.refusal(peer) if peer else "the peer does not speak TLS"
            if refusal:
                self._listener.wrong(self, refusal, b"")
                self.abort(refusal)
                return
        if self._lost.is_set():  # it went between the handshake and now
            return
        self._open = True
        self._heard = self._loop.time()
        self._listener.opened(self)
        self._look()
        if self._buffer:
            self._work()

    def data_received(self, data: bytes) -> None:
        """Bytes: split into lines, some at once and the rest when the others had their turn."""
        if self._over:
            return
        self._buffer += data
        if not self._open:
            # between handshake and ``connection_made``: kept, but not without bound
            if len(self._buffer) > self._line_bytes + self._bounds.write_bytes:
                self.abort("too many bytes before the connection was ready")
            return
        if not self._working:
            self._work()

    def eof_received(self) -> None:
        """The peer has said all: half-open connections are not kept."""
        self._reason = self._reason or "closed by the peer"

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._open = False
        self._over = True
        self._buffer.clear()
        for timer in (self._watch, self._end):
            if timer is not None:
                timer.cancel()
        self._lost.set()
        if not self._told:
            self._told = True
            reason = self._reason or (f"lost: {_words(exc)}" if exc else "closed by the peer")
            self._listener.closed(self, reason)

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._stuck = self._loop.time()

    def resume_writing(self) -> None:
        """It reads again."""
        self._stuck = None

    # --- for the owner

    @property
    def is_open(self) -> bool:
        """Whether a line can be sent."""
        return self._open

    def send(self, line: bytes) -> None:
        """Send a line (with its line feed) without waiting; LinkError when the connection is gone.

        A peer that lets more than ``write_bytes`` wait is disconnected: nothing is dropped from the middle.
        """
        if not self._open or self._transport is None:
            raise LinkError("the connection is gone", self.peer, "connect again")
        if self._transport.get_write_buffer_size() + len(line) > self._bounds.write_bytes:
            self._too_slow()
            raise LinkError("the peer does not read", self.peer, "connect again")
        self._transport.write(line)

    def close(self, reason: str) -> None:
        """Send what waits, then close. Nothing more is read."""
        if self._transport is None or not self._open:
            return
        self._open = False
        self._over = True
        self._reason = self._reason or reason
        self._buffer.clear()
        if self._transport.can_write_eof():
            # Closed with bytes unread, a socket sends a reset, and the peer would lose our last line.
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        # a peer that does not answer must not keep the connection
        self._end = self._loop.call_later(self._bounds.shutdown_s, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Close now; what waits is lost."""
        self._open = False
        self._over = True
        self._reason = self._reason or reason
        self._buffer.clear()
        if self._transport is None:
            self._lost.set()
        else:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Until the connection is gone."""
        await self._lost.wait()

    # --- lines and clocks

    def _work(self) -> None:
        self._working = False
        until = self._loop.time() + _TURN_S
        for _ in range(self._bounds.lines_at_once):
            if not self._open:
                return
            line = self._next()
            if line is None:
                self._resume()
                return
            self._heard = self._loop.time()
            self._listener.line(self, line)
            if self._loop.time() > until:
                break  # some lines cost a thousand others: a stop elsewhere waits for one of them, not for eight
        if self._open:
            if self._transport is not None:
                self._transport.pause_reading()
            self._working = True
            self._loop.call_soon(self._work)

    def _next(self) -> bytes | None:
        at = self._buffer.find(b"\n", self._searched)
        if at < 0:
            self._searched = len(self._buffer)
            if self._searched >= self._line_bytes:
                self._break(f"a line of more than {self._line_bytes} bytes")
            elif not self._buffer:
                self._begun = None
            elif self._begun is None:
                self._begun = self._loop.time()
            return None
        if at >= self._line_bytes:
            self._break(f"a line of more than {self._line_bytes} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        self._searched = 0
        self._begun = None
        return line

    def _resume(self) -> None:
        if self._transport is not None and self._open and not self._transport.is_reading():
            self._transport.resume_reading()

    def _look(self) -> None:
        """Four times a second: has anything taken too long?"""
        if not self._open:
            return
        now = self._loop.time()
        if self._begun is not None and now - self._begun > self._bounds.line_s:
            self._break(f"a line that was not whole after {self._bounds.line_s:g} s")
        elif self._stuck is not None and now - self._stuck > self._bounds.slow_reader_s:
            self._too_slow()
        elif self.silence_s > 0 and now - self._heard > self.silence_s:
            self.abort(f"silent for {self.silence_s:g} s")
        else:
            self._watch = self._loop.call_later(0.25, self._look)

    def _break(self, reason: str) -> None:
        self._listener.wrong(self, reason, bytes(self._buffer))
        self.close(reason)

    def _too_slow(self) -> None:
        reason = "the peer does not read what it is sent"
        self._listener.wrong(self, reason, b"")
        self.abort(reason)


class LineServer:
    """Listens; strangers have their handshake apart, and the oldest gives way when there are too many.

    ``factory`` makes a protocol for each who gets in: `LineConnection`, or another whose ``connection_made`` is called
    when TLS is there.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        listener: Doorkeeper,
        context: ssl.SSLContext | None,
        bounds: TcpBounds = TCP_BOUNDS,
    ) -> None:
        self._factory = factory
        self._listener = listener
        self._context = context
        self._bounds = bounds
        self._server: asyncio.Server | None = None
        self._strangers: dict[asyncio.Task[None], _Stranger] = {}
        self._next = 0.0  # when the next handshake may begin

    async def start(self, host: str, port: int) -> None:
        """Listen on ``host``:``port``; LinkError when that is not possible."""
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.Protocol] = self._factory if self._context is None else self._door
        try:
            self._server = await loop.create_server(make, host, port, backlog=self._bounds.strangers)
        except (OSError, OverflowError) as error:
            raise LinkError(
                f"cannot listen: {_words(error)}", f"{host}:{port}", "choose another port, or free this one"
            ) from error

    @property
    def port(self) -> int:
        """The port listened on (of use when 0 was asked for)."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Listen no more, and end every handshake. Established connections are their owner's."""
        if self._server is not None:
            self._server.close()
        strangers = list(self._strangers)
        for task in strangers:
            self._give_way(task)
        await asyncio.gather(*strangers, return_exceptions=True)

    def _door(self) -> asyncio.Protocol:
        return _Door(self._entered)

    def _entered(self, transport: asyncio.Transport) -> None:
        address, peer = _names(transport)
        task = asyncio.get_running_loop().create_task(self._handshake(transport, peer))
        self._strangers[task] = _Stranger(transport, address)
        task.add_done_callback(lambda done: self._strangers.pop(done, None))
        same = [task for task, stranger in self._strangers.items() if stranger.address == address]
        if len(same) > self._bounds.strangers_each:
            self._give_way(same[0])
        elif len(self._strangers) > self._bounds.strangers:
            self._give_way(next(iter(self._strangers)))

    def _give_way(self, task: asyncio.Task[None]) -> None:
        self._strangers[task].transport.abort()
        task.cancel()

    async def _turn(self) -> None:
        """Handshakes are paced: whoever floods them slows strangers down, and nobody who is known already."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + 1.0 / self._bounds.handshakes_s
        await asyncio.sleep(self._next - now - 1.0 / self._bounds.handshakes_s)

    async def _handshake(self, transport: asyncio.Transport, peer: str) -> None:
        assert self._context is not None
        await self._turn()
        if transport.is_closing():
            return
        connection = self._factory()
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._bounds.handshake_s,
                ssl_shutdown_timeout=self._bounds.shutdown_s,
            )
        # ssl.SSLError, ConnectionError and TimeoutError are OSErrors; RuntimeError: it went while we began
        except (OSError, RuntimeError) as error:
            transport.abort()
            self._listener.wrong(None, f"no TLS with {peer}: {_words(error)}", b"")
            return
        if secured is not None:
            connection.connection_made(secured)


@dataclass(frozen=True, slots=True)
class _Stranger:
    transport: asyncio.Transport
    address: str


def _names(transport: asyncio.BaseTransport) -> tuple[str, str]:
    """Address, and address with port, of a peer."""
    name = transport.get_extra_info("peername")
    return (str(name[0]), f"{name[0]}:{name[1]}") if name else ("", "?")


class _Door(asyncio.Protocol):
    """What a stranger meets first: nothing is read until TLS reads it."""

    def __init__(self, entered: Callable[[asyncio.Transport], None]) -> None:
        self._entered = entered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        _tuned(transport.get_extra_info("socket"), TCP_BOUNDS)
        self._entered(transport)


async def connect(
    host: str,
    port: int,
    connection: LineConnection,
    context: ssl.SSLContext | None,
    bounds: TcpBounds = TCP_BOUNDS,
) -> None:
    """Connect to a peer; LinkError when it is not there or not who it should be.

    ``connection.is_open`` tells afterwards whether its pins let the peer pass.
    """
    try:
        async with asyncio.timeout(2 * bounds.handshake_s):
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                host,
                port,
                ssl=context,
                server_hostname="" if context else None,
                ssl_handshake_timeout=bounds.handshake_s if context else None,
                ssl_shutdown_timeout=bounds.shutdown_s if context else None,
            )
    except (OSError, TimeoutError) as error:
        raise LinkError(
            f"cannot connect: {_words(error)}", f"{host}:{port}", "see that the peer runs"
        ) from error


def _tuned(sock: socket.socket | None, bounds: TcpBounds) -> None:
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a command is one small packet, now
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A peer that is switched off is noticed on a connection that says nothing, too (Linux).
    for name, value in (
        ("TCP_USER_TIMEOUT", int(bounds.slow_reader_s * 1000)),
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", max(1, int(bounds.slow_reader_s))),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "took too long"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
