"""The stream link: lines of JSON over TCP and TLS 1.3 (docs/protocol.md), the guard in the middle.

The host connects to the guard and the guard to the gantry; both sides speak the same protocol, so that neither
end knows whether a guard stands between.
"""

from __future__ import annotations

import asyncio

from scanward.commands.wire import ToGantry, ToHost
from scanward.errors import LinkError
from scanward.links.base import Link, Sink
from scanward.links.identifiers import Identifiers
from scanward.links.stream_gantry import GantrySide
from scanward.links.stream_host import HostSide
from scanward.links.stream_settings import StreamSettings
from scanward.transport.tls import client_context, server_context


class StreamLink(Link):
    """Both sides of one stream link.

    Parameters
    ----------
    settings : StreamSettings
    """

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._identifiers = Identifiers(settings.site_key, settings.bounds.identifiers)
        self._host: HostSide | None = None
        self._gantry: GantrySide | None = None
        self._beat: asyncio.TimerHandle | None = None

    async def start(self, sink: Sink) -> None:
        """Listen for the host and begin to connect to the gantry.

        Raises
        ------
        LinkError
            When the port cannot be listened on, or a certificate cannot be used.
        """
        s = self._settings
        # Late binding of files to sides: both contexts are made before anything is opened.
        server = server_context(s.tls, s.passphrase) if s.tls else None
        client = client_context(s.tls, s.passphrase) if s.tls else None
        host = HostSide(s, server, self._identifiers, sink)
        await host.start()
        self._host = host
        self._gantry = GantrySide(s, client, self._identifiers, sink)
        self._gantry.start()
        self._beating()

    @property
    def port(self) -> int:
        """The port that hosts connect to."""
        if self._host is None:
            raise LinkError("the link is not started", "stream link", "await start(sink) first")
        return self._host.port

    def reveal(self, hidden: str) -> str:
        """The original of an identifier said lately, for the worklist's question alone; LinkError if forgotten."""
        return self._identifiers.reveal(hidden)

    async def close(self) -> None:
        """Close both sides and wait until nothing runs any more."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        host, gantry, self._host, self._gantry = self._host, self._gantry, None, None
        if gantry is not None:
            await gantry.close()
        if host is not None:
            await host.close()

    def to_gantry(self, message: ToGantry) -> None:
        """Send; LinkError when the gantry is gone. A stop goes by both connections."""
        if self._gantry is None:
            raise LinkError("the gantry is gone", "stream link", "start the guard")
        self._gantry.send(message)

    def to_host(self, connection: int, message: ToHost) -> None:
        """Send; LinkError when that connection is gone."""
        if self._host is None:
            raise LinkError("the host is gone", "stream link", "start the guard")
        self._host.send(connection, message)

    def hang_up(self, connection: int, reason: str) -> None:
        """Close one connection of a host, after what was sent to it."""
        if self._host is not None:
            self._host.hang_up(connection, reason)

    def drop(self, reason: str) -> None:
        """Both sides, at once; the gantry first."""
        if self._gantry is not None:
            self._gantry.drop(reason)
        if self._host is not None:
            self._host.drop(reason)

    def _beating(self) -> None:
        if self._host is None or self._gantry is None:
            return
        self._gantry.beat()
        self._host.beat()
        self._beat = asyncio.get_running_loop().call_later(self._settings.heartbeat_s, self._beating)
