"""The relay's end of the dose feed: a unix socket on which a dose-report receiver tells what was delivered.

Only this user's processes may connect: the socket has mode 0600, and the kernel says whose process is at the other
end. Whatever comes may raise the account of an examination and nothing else. An examination that the gate does not
know yet gets no account by it (accounts are few, and a flood of names must not make one forgotten): its doses are
kept here, and counted when the host loads it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from scanward.commands.wire import Load
from scanward.config import CONTEXT_BOUNDS, ContextBounds
from scanward.errors import DecodeError
from scanward.guard.dose_lines import read_dose_line
from scanward.guard.events import Delivered, Forecast
from scanward.guard.local_socket import unix_socket

_PEER: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class DoseListener(Protocol):
    """Who keeps the accounts: the relay. All calls are on the loop."""

    def delivered(self, event: Delivered, *, loading: bool = False) -> None:
        """Raise an account; where there is none of this examination, only if it is ``loading``."""

    def noted(self, kind: str, data: Mapping[str, object]) -> None:
        """To be recorded and shown."""


class DosePort:
    """Listens for one receiver of dose reports."""

    def __init__(self, listener: DoseListener, bounds: ContextBounds = CONTEXT_BOUNDS) -> None:
        self._listener, self._bounds = listener, bounds
        self._told: OrderedDict[str, dict[int, Forecast]] = OrderedDict()  # by examination, by phantom
        self._clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._left = bounds.feed_burst
        self._since = 0.0

    async def listen(self, path: Path) -> None:
        """Open the socket; LinkError when it cannot be, or another guard listens there."""
        sock = unix_socket(path)
        self._path = path
        self._since = asyncio.get_running_loop().time()
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Client(self), sock=sock)

    async def close(self) -> None:
        """Cut everybody off and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.cut()
        await asyncio.sleep(0)  # their ends are told on the loop
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def loaded(self, load: Load) -> None:
        """A load is about to be given to the gate: what is known of its examination counts first."""
        for dose in self._told.get(load.examination, {}).values():
            self._listener.delivered(Delivered(load.examination, dose), loading=True)

    # --- what clients say

    def admitted(self, client: _Client, uid: int) -> bool:
        """Whether a connection may talk."""
        if uid != os.geteuid():
            self.refused(f"a process of user {uid} connected")
            return False
        if len(self._clients) >= self._bounds.feed_clients:
            self.refused("too many connections at once")
            return False
        self._clients.add(client)
        return True

    def gone(self, client: _Client) -> None:
        """A connection is over."""
        self._clients.discard(client)

    def refused(self, reason: str) -> None:
        """Something on the socket that does not belong there. Each costs a connection's share of the trickle."""
        if self.wait() == 0.0:
            self._listener.noted("dose_feed_refused", {"reason": reason})

    def wait(self) -> float:
        """Seconds until the next line may be taken, 0 (and it is counted) when that is now."""
        now = asyncio.get_running_loop().time()
        rate = self._bounds.feed_lines_s
        self._left = min(self._bounds.feed_burst, self._left + rate * (now - self._since))
        self._since = now
        if self._left < 1.0:
            return (1.0 - self._left) / rate
        self._left -= 1.0
        return 0.0

    def line(self, line: bytes) -> None:
        """One line; DecodeError when it is none."""
        event = read_dose_line(line)
        examination, told = event.examination, event.forecast
        kept = self._told.setdefault(examination, {})
        self._told.move_to_end(examination)
        if len(self._told) > self._bounds.feed_examinations:
            self._told.popitem(last=False)
        before = kept.get(told.phantom, Forecast())
        larger = Forecast(max(before.ctdivol, told.ctdivol), max(before.dlp, told.dlp), told.phantom)
        kept[told.phantom] = larger
        self._listener.delivered(Delivered(examination, larger))


class _Client(asyncio.Protocol):
    """One connection. Reads no faster than lines may be taken; says nothing."""

    def __init__(self, port: DosePort) -> None:
        self._port = port
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Who is it?"""
        assert isinstance(transport, asyncio.Transport)
        sock = transport.get_extra_info("socket")
        _, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        self._transport = transport
        if not self._port.admitted(self, uid):
            self.cut()

    def data_received(self, data: bytes) -> None:
        """Lines, or pieces of them."""
        self._buffer += data
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """Over; half a line is nothing."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._port.gone(self)

    def cut(self) -> None:
        """End it now."""
        transport, self._transport = self._transport, None
        self._buffer.clear()
        if transport is not None:
            transport.abort()

    def _take(self) -> None:
        self._timer = None
        while self._transport is not None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) >= CONTEXT_BOUNDS.feed_line_bytes:
                    self._wrong("a line without end")
                    return
                self._transport.resume_reading()
                return
            wait = self._port.wait()
            if wait:
                self._transport.pause_reading()
                self._timer = asyncio.get_running_loop().call_later(wait, self._take)
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            try:
                self._port.line(line)
            except DecodeError as error:
                self._wrong(error.what)

    def _wrong(self, reason: str) -> None:
        self.cut()
        self._port.refused(reason)
