"""The link in memory: a host and a gantry that a test or a demonstration plays by hand.

link = VirtualLink()
await link.start(relay)
link.gantry_connects(Hello(device))
connection = link.host_connects(Hello(device))
link.host_says(connection, load)      # the relay hears it before this returns
link.at_gantry                        # what reached the gantry, oldest first
link.at_host[connection]              # what reached that host
"""

from __future__ import annotations

from collections import defaultdict

from scanward.commands.wire import FromGantry, FromHost, Hello, ToGantry, ToHost
from scanward.errors import LinkError
from scanward.links.base import Link, Side, Sink, digest_of


class VirtualLink(Link):
    """Everything said is kept in lists; nothing is lost, late or out of order.

    Attributes
    ----------
    at_gantry : list
        What was sent to the gantry.
    at_host : mapping of connection to list
        What was sent to each host, also after it went away.
    dropped : str or None
        The reason once both sides were dropped.
    """

    def __init__(self) -> None:
        self.at_gantry: list[ToGantry] = []
        self.at_host: defaultdict[int, list[ToHost]] = defaultdict(list)
        self.dropped: str | None = None
        self._sink: Sink | None = None
        self._hosts: set[int] = set()
        self._gantry = False
        self._last = 0

    async def start(self, sink: Sink) -> None:
        """Begin to call ``sink``."""
        self._sink = sink

    async def close(self) -> None:
        """Forget the sink; both sides are gone."""
        self._sink = None
        self._hosts.clear()
        self._gantry = False

    def to_gantry(self, message: ToGantry) -> None:
        """Keep in ``at_gantry``; LinkError when no gantry is connected."""
        if not self._gantry:
            raise LinkError("the gantry is not connected", "virtual link", "connect it first")
        self.at_gantry.append(message)

    def to_host(self, connection: int, message: ToHost) -> None:
        """Keep in ``at_host``; LinkError when that host is gone."""
        if connection not in self._hosts:
            raise LinkError("the host is gone", f"connection {connection}", "let it connect again")
        self.at_host[connection].append(message)

    def hang_up(self, connection: int, reason: str) -> None:
        """As if the host had left."""
        self.host_leaves(connection, reason)

    def drop(self, reason: str) -> None:
        """Both sides away."""
        self.dropped = reason
        for connection in sorted(self._hosts):
            self.host_leaves(connection, reason)
        self.gantry_leaves(reason)

    # --- the two ends, played by hand

    def host_connects(self, hello: Hello) -> int:
        """A new connection of a host; its number."""
        self._last += 1
        self._hosts.add(self._last)
        self._heard().host_up(self._last, hello)
        return self._last

    def host_says(self, connection: int, message: FromHost) -> None:
        """One message of a host."""
        if connection not in self._hosts:
            raise LinkError("the host is gone", f"connection {connection}", "connect it first")
        self._heard().host_said(connection, message)

    def host_leaves(self, connection: int, reason: str = "closed") -> None:
        """The host goes away."""
        if connection in self._hosts:
            self._hosts.discard(connection)
            self._heard().host_lost(connection, reason)

    def gantry_connects(self, hello: Hello) -> None:
        """The gantry is there."""
        self._gantry = True
        self._heard().gantry_up(hello)

    def gantry_says(self, message: FromGantry) -> None:
        """One message of the gantry."""
        if not self._gantry:
            raise LinkError("the gantry is not connected", "virtual link", "connect it first")
        self._heard().gantry_said(message)

    def gantry_leaves(self, reason: str = "closed") -> None:
        """The gantry goes away."""
        if self._gantry:
            self._gantry = False
            self._heard().gantry_lost(reason)

    def garbage(self, side: Side, data: bytes) -> None:
        """Bytes that are no message."""
        self._heard().malformed(side, "not a message", digest_of(data))

    def _heard(self) -> Sink:
        if self._sink is None:
            raise LinkError("the link is not started", "virtual link", "await start(sink) first")
        return self._sink
