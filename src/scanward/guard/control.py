"""The control channel: consoles and terminals at the guard. Newline JSON over a local socket, or mutual TLS.

It runs in the relay's loop and never makes it wait: lines, clients, waiting bytes and acts per second are bounded, and
whoever exceeds a bound is cut off, not waited for. Acts are believed by signature alone (`operators`); the channel that
carries them is trusted for nothing. docs/control.md says how to write a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from scanward.config import CONTROL_BOUNDS, TCP_BOUNDS, ControlBounds
from scanward.errors import DecodeError, LinkError
from scanward.guard.control_desk import ControlDesk
from scanward.guard.control_lines import PROTOCOL, ActLine, PingLine, decode, encode
from scanward.guard.local_socket import unix_socket
from scanward.guard.operators import ActKind, Doubt, doubt
from scanward.transport.tcp import LineServer
from scanward.transport.tls import Pins

_PEER = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED
Recorder = Callable[[str, Mapping[str, object]], None]


@dataclass(eq=False)
class _Client:
    """One connection. ``user`` is the system's user at the other end, "" over the network."""

    number: int
    writer: asyncio.StreamWriter
    local: bool
    user: str
    peer: str
    nonce: str = ""
    since: float = 0.0  # when its nonce was given, on the loop's clock
    wrong: int = 0
    acts: deque[float] = field(default_factory=deque)

    def fresh(self, now: float) -> str:
        self.nonce, self.since = secrets.token_hex(32), now
        return self.nonce


class ControlServer:
    """Accepts clients, believes or doubts their acts, and shows everybody the news.

    Parameters
    ----------
    desk : ControlDesk
        Carries out what is believed.
    record : callable
        (kind, data) to the audit log, reserved space allowed; must not block.
    today : callable
        The day (UTC) by which operators' keys expire.
    now : callable
        The clock (s) by which nonces grow old.
    """

    def __init__(
        self,
        desk: ControlDesk,
        record: Recorder,
        today: Callable[[], date],
        bounds: ControlBounds = CONTROL_BOUNDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.desk = desk
        self._now = now
        self._record = record
        self._today = today
        self._bounds = bounds
        self._clients: dict[int, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._doors: list[LineServer] = []
        self._turned_away: deque[float] = deque()
        self._unnamed = 0  # strangers turned away that were not recorded one by one
        self._socket: Path | None = None
        self._numbers = 0
        self._events = 0
        self._wrong: deque[float] = deque()
        self._unrecorded = 0

    # --- opening and closing

    async def listen_locally(self, path: Path, *, mode: int = 0o600, group: int = -1) -> None:
        """Listen on a unix-domain socket that only this user (0600), or a group (0660), can open.

        Raises
        ------
        LinkError
            When the path is taken by something else, or by a guard that lives.
        """
        sock = unix_socket(path, mode=mode, group=group)
        self._socket = path
        self._servers.append(
            await asyncio.start_unix_server(self._local, sock=sock, limit=self._bounds.line_bytes)
        )

    async def listen_tls(
        self, host: str, port: int, context: ssl.SSLContext, pins: Pins | None = None
    ) -> int:
        """Listen with TLS, client certificates required; returns the port.

        ``pins`` say whose certificates count; None: any that the authority signed. Handshakes are paced, so that
        strangers at this door do not keep the relay from its link.

        Raises
        ------
        LinkError
            When it cannot.
        """
        if context.verify_mode is not ssl.CERT_REQUIRED:
            raise LinkError("without client certificates", f"{host}:{port}", "require them")
        loop, bounds = asyncio.get_running_loop(), self._bounds

        async def entered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._network(reader, writer, pins)

        def made() -> asyncio.Protocol:
            reader = asyncio.StreamReader(limit=bounds.line_bytes, loop=loop)
            return asyncio.StreamReaderProtocol(reader, entered, loop=loop)

        paced = replace(TCP_BOUNDS, handshake_s=bounds.handshake_seconds, handshakes_s=bounds.handshakes)
        server = LineServer(made, self, context, paced)
        await server.start(host, port)
        self._doors.append(server)
        return server.port

    async def close(self) -> None:
        """Cut everybody off and take the socket away."""
        for server in self._servers:
            server.close()
        for door in self._doors:
            await door.close()
        for client in list(self._clients.values()):
            self._cut(client)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted closes its socket in the loop's next turn
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.unlink()

    # --- news

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Show news to everybody. Never waits: who does not read is cut off."""
        self._events += 1
        line = encode({"type": "event", "n": self._events, "kind": kind, "data": data})
        for client in list(self._clients.values()):
            self._send(client, line)

    def _send(self, client: _Client, line: bytes) -> None:
        transport = client.writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() + len(line) > self._bounds.queue_bytes:
            self._note("control_cut", client, reason="it does not read")
            self._cut(client)
            return
        client.writer.write(line)

    def _cut(self, client: _Client) -> None:
        self._clients.pop(client.number, None)
        client.writer.transport.abort()

    # --- one client

    async def _local(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        client = self._new(writer, local=True, user=f"uid {uid}", peer=f"pid {pid}")
        same = [c for c in self._clients.values() if c.user == client.user]
        if len(same) >= self._bounds.clients_per_user:
            self._cut(same[0])  # a terminal that hangs must not keep its owner out
        await self._admitted(client, reader)

    def wrong(self, connection: object, reason: str, data: bytes) -> None:
        """`transport.tcp.Doorkeeper`: somebody has no certificate of ours."""
        self._turn_away(reason)

    def _turn_away(self, reason: str) -> None:
        """Recorded one by one, and in a flood by their number."""
        now = self._now()
        self._turned_away.append(now)
        while self._turned_away[0] < now - 60.0:
            self._turned_away.popleft()
        if len(self._turned_away) > self._bounds.wrong_records:
            self._turned_away.pop()
            self._unnamed += 1
            return
        more, self._unnamed = self._unnamed, 0
        facts = {"reason": reason[:300], "more": more}
        self._record("control_stranger", facts)
        self.publish("control_stranger", facts)

    async def _network(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pins: Pins | None
    ) -> None:
        peer = writer.get_extra_info("peername")
        client = self._new(writer, local=False, user="", peer=f"{peer[0]}:{peer[1]}" if peer else "")
        seen = writer.get_extra_info("ssl_object")
        refusal = "" if pins is None else pins.refusal(seen) if seen else "the peer does not speak TLS"
        if refusal:
            self._turn_away(f"{client.peer}: {refusal}")
            self._cut(client)
            return
        if sum(not c.local for c in self._clients.values()) >= self._bounds.network_clients:
            self._note("control_cut", client, reason="too many network clients")
            self._cut(client)
            return
        await self._admitted(client, reader)

    def _new(self, writer: asyncio.StreamWriter, *, local: bool, user: str, peer: str) -> _Client:
        self._numbers += 1
        return _Client(self._numbers, writer, local, user, peer)

    async def _admitted(self, client: _Client, reader: asyncio.StreamReader) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._clients) >= self._bounds.clients:
                self._note("control_cut", client, reason="too many clients")
                return
            self._clients[client.number] = client
            self._send(client, self._hello(client))
            self._send(client, self._snapshot())
            await self._serve(client, reader)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass  # idle, or gone: nothing was lost, for nothing was promised
        except asyncio.LimitOverrunError:
            self._note("control_cut", client, reason="a line is too long")
        except DecodeError as error:
            self._note("control_cut", client, reason=error.what)
            self._send(client, encode({"type": "error", "what": error.what, "todo": error.todo}))
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(client.writer.drain(), self._bounds.wrong_seconds)
                client.writer.close()
                await asyncio.wait_for(client.writer.wait_closed(), self._bounds.wrong_seconds)
        finally:
            self._cut(client)
            self._tasks.discard(task)

    async def _serve(self, client: _Client, reader: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while client.number in self._clients:
            line = await asyncio.wait_for(reader.readuntil(b"\n"), self._bounds.idle_seconds)
            said = decode(line)
            if isinstance(said, PingLine):
                self._send(client, encode({"type": "pong"}))
                continue
            client.acts.append(loop.time())
            while client.acts[0] < loop.time() - self._bounds.acts_seconds:
                client.acts.popleft()
            if len(client.acts) > self._bounds.acts:
                self._note("control_cut", client, reason="too many acts")
                return
            if isinstance(said, ActLine):
                await self._act(client, said)
            else:
                self._send(client, self._snapshot())

    async def _act(self, client: _Client, said: ActLine) -> None:
        nonce, client.nonce = client.nonce, ""  # used once, whatever comes of it
        operator, why = self._believed(client, said, nonce)
        if why is not None and why.forged:
            await self._forged(client, said)
        reason = why.reason if why else self.desk.act(said.act, operator)
        self._note(
            "act",
            client,
            act=said.act.kind.value,
            operator=operator or said.act.operator[:64],
            request=said.act.request,
            done=not reason,
            refused=reason,
        )
        self._send(
            client,
            encode(
                {
                    "type": "answer",
                    "id": said.id,
                    "done": not reason,
                    "reason": reason,
                    "nonce": client.fresh(self._now()),
                    "stale": why is not None and why.stale,
                }
            ),
        )
        if client.wrong >= self._bounds.wrong:
            raise DecodeError("too many wrong signatures", "control channel", "check the key, connect again")

    def _believed(self, client: _Client, said: ActLine, nonce: str) -> tuple[str, Doubt | None]:
        policy = self.desk.policy
        keyless = said.act.kind is ActKind.EMERGENCY and not said.act.operator and not said.signature
        if keyless and client.local and policy.emergency.unsafe_without_key:
            return client.user, None
        why = doubt(
            said.act,
            said.signature,
            nonce,
            policy.digest,
            policy.operators,
            self._today(),
            local=client.local,
            age=self._now() - client.since,
            bounds=self._bounds,
        )
        return said.act.operator, why

    async def _forged(self, client: _Client, said: ActLine) -> None:
        """Count and record a wrong signature; its sender (and nobody else) waits longer each time."""
        loop, bounds = asyncio.get_running_loop(), self._bounds
        client.wrong += 1
        self._wrong.append(loop.time())
        while self._wrong and self._wrong[0] < loop.time() - 60.0:
            self._wrong.popleft()
        if len(self._wrong) <= bounds.wrong_records:
            more, self._unrecorded = self._unrecorded, 0
            self._note(
                "control_wrong", client, act=said.act.kind.value, operator=said.act.operator[:64], more=more
            )
            self.publish("control_wrong", {"peer": client.peer, "user": client.user, "wrong": client.wrong})
        else:
            self._unrecorded += 1
        await asyncio.sleep(min(bounds.wrong_seconds * 2.0 ** (client.wrong - 1), bounds.wrong_longest))

    # --- lines

    def _hello(self, client: _Client) -> bytes:
        policy = self.desk.policy
        return encode(
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "policy": policy.digest,
                "local": client.local,
                "nonce": client.fresh(self._now()),
                "emergency_without_key": client.local and policy.emergency.unsafe_without_key,
            }
        )

    def _snapshot(self) -> bytes:
        return encode({"type": "snapshot", "n": self._events, "state": self.desk.snapshot()})

    def _note(self, kind: str, client: _Client, **data: object) -> None:
        self._record(kind, {"peer": client.peer, "user": client.user, "local": client.local, **data})
