"""The emulated gantry as a process: the state machine of ``gantry`` behind sockets, on a clock that may be fast.

Two doors. The *link* speaks the stream protocol (docs/protocol.md): what host and guard know. The *room* is the
test bench: one JSON object a line, on loopback alone, to lay a patient down, arm the injector, clear a safe state
and read the true dose (docs/emulator.md).

Heartbeats are in real seconds whatever the clock: a link is lost when it closes, or after ``lost_s`` of silence.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from scanward.codecs import stream
from scanward.commands.wire import Channel, FromGantry, Heartbeat, Hello, Stop, ToGantry
from scanward.config import STREAM_BOUNDS
from scanward.emulator.gantry import Gantry
from scanward.emulator.wires import Lines, Tls, is_loopback
from scanward.errors import DecodeError, SettingsError
from scanward.simulation.scanner import OnTable

HELLO_S = 5.0  # a connection that says nothing for so long is closed


def _last_wins(line: bytes) -> bytes:
    """The line as a careless reader takes it: of a key that is there twice, the last one counts.

    Many readers of JSON are so (RFC 8259, 4, calls it unpredictable). A guard that read the first would judge one
    command and let the gantry carry out another: the emulated gantry is careless, so that this can be shown.
    """
    try:
        return json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    except (ValueError, RecursionError):
        return line


@dataclass(frozen=True, slots=True)
class Loss:
    """One lost link and what the gantry made of it. Real seconds."""

    why: str
    silence_s: float  # from the last word of the host's side until the loss was noticed
    reaction_s: float  # from then until beam and motion were off
    beam: bool  # whether there was beam


@dataclass
class GantryServer:
    """Serves one gantry.

    Attributes
    ----------
    factor : float
        Gantry seconds per real second.
    lost_s, beat_s : float
        Real seconds of silence after which the link is lost; between two heartbeats.
    """

    gantry: Gantry
    host: str = "127.0.0.1"
    port: int = 0
    room_port: int | None = 0
    tls: Tls | None = None
    factor: float = 1.0
    lost_s: float = 3.0
    beat_s: float = 1.0
    losses: list[Loss] = field(default_factory=list)
    malformed: int = 0
    _servers: list[asyncio.Server] = field(default_factory=list)
    _open: set[Lines] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _commands: Lines | None = None
    _timer: asyncio.TimerHandle | None = None
    _heard: float = 0.0
    _began: float = 0.0
    _jumped: float = 0.0

    # --- life -------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Listen; ``port`` and ``room_port`` are the real ones afterwards. SettingsError when it cannot be."""
        if not is_loopback(self.host) and self.tls is None:
            raise SettingsError(
                "an emulated gantry without TLS", self.host, "listen on 127.0.0.1, or give TLS"
            )
        self._began = asyncio.get_running_loop().time()
        context = self.tls.server() if self.tls else None
        self.port = await self._listen(self._serve, self.host, self.port, context)
        if self.room_port is not None:
            self.room_port = await self._listen(self._serve_room, "127.0.0.1", self.room_port, None)
        self._task(self._watch())

    async def _listen(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        host: str,
        port: int,
        context: Any,
    ) -> int:
        try:
            server = await asyncio.start_server(
                serve, host, port, ssl=context, limit=STREAM_BOUNDS.line_bytes
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen ({error.strerror or error})", f"{host}:{port}", "take another port"
            ) from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close every door and wait."""
        for server in self._servers:
            server.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        for lines in list(self._open):
            await lines.close()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    @property
    def now(self) -> float:
        """Seconds on the gantry's clock."""
        return self._jumped + (asyncio.get_running_loop().time() - self._began) * self.factor

    # --- the link ---------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = Lines(reader, writer)
        self._open.add(lines)
        try:
            await self._converse(lines)
        finally:
            self._open.discard(lines)
            lost = lines is self._commands
            if lost:
                self._commands = None
                self._lost("the connection closed")
            await lines.close()

    async def _converse(self, lines: Lines) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await lines.next()
            hello = stream.decode_host(first) if first is not None else None
        except (TimeoutError, DecodeError):
            self.malformed += 1
            return
        if not isinstance(hello, Hello):
            return
        if hello.channel is Channel.COMMANDS:
            if self._commands is not None:
                return  # one host at a time
            self._commands = lines
            self._heard = asyncio.get_running_loop().time()
        lines.send(stream.encode(Hello(self.gantry.device, hello.channel)))
        while (line := await lines.next()) is not None:
            try:
                message = stream.decode_host(_last_wins(line), device=self.gantry.device)
            except DecodeError:
                self.malformed += 1
                return  # what is no message ends the connection, and with it the beam
            if isinstance(message, Hello) or (
                hello.channel is Channel.STOP and not isinstance(message, Stop)
            ):
                self.malformed += 1
                return
            if hello.channel is Channel.COMMANDS:
                self._heard = asyncio.get_running_loop().time()
            self.hear(message)

    def hear(self, message: ToGantry) -> None:
        """One message, from whichever connection."""
        self._say(self.gantry.handle(message, self.now))

    def _say(self, messages: tuple[FromGantry, ...]) -> None:
        if self._commands is not None:
            for message in messages:
                self._commands.send(stream.encode(message))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self.gantry.wake
        if wake is not None:
            delay = max(0.0, (wake - self.now) / self.factor)
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._say(self.gantry.tick(self.now))

    async def _watch(self) -> None:
        """Send heartbeats, and notice when none come."""
        loop = asyncio.get_running_loop()
        beat = loop.time()
        while True:
            await asyncio.sleep(min(self.beat_s, self.lost_s) / 10)
            lines = self._commands
            if lines is None:
                continue
            if loop.time() - beat >= self.beat_s:
                beat = loop.time()
                lines.send(stream.encode(Heartbeat()))
            if loop.time() - self._heard > self.lost_s:
                self._commands = None
                self._lost(f"silence of {loop.time() - self._heard:.1f} s", lines)
                lines.abort()

    def _lost(self, why: str, tell: Lines | None = None) -> None:
        loop = asyncio.get_running_loop()
        noticed = loop.time()
        beam = self.gantry.state.value == "beam"
        out = self.gantry.lose_link(self.now, f"link lost: {why}")
        self.losses.append(Loss(why, noticed - self._heard, loop.time() - noticed, beam))
        if tell is not None:
            for message in out:
                tell.send(stream.encode(message))
        self._schedule()

    # --- the room ---------------------------------------------------------------------------------------
    async def _serve_room(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = Lines(reader, writer)
        self._open.add(lines)
        try:
            while (line := await lines.next()) is not None:
                try:
                    answer = self.room(json.loads(line))
                except (DecodeError, ValueError, TypeError, RecursionError) as error:
                    answer = {"error": str(error)}
                lines.send(json.dumps(answer).encode() + b"\n")
        finally:
            self._open.discard(lines)
            await lines.close()

    def room(self, asked: Any) -> dict[str, Any]:
        """One request of the test bench; DecodeError, ValueError or TypeError for what is none."""
        if not isinstance(asked, dict):
            raise DecodeError("a request of the room is an object", "the room", "see docs/emulator.md")
        gantry, room = self.gantry, self.gantry.room
        match asked.get("do"):
            case "enter":
                who = dict(asked.get("who") or {})
                who["attenuation"] = {int(cm): float(v) for cm, v in (who.get("attenuation") or {}).items()}
                self._jumped += float(asked.get("pause", 0.0))  # the room is made ready for the next patient
                room.enter(OnTable(**who))
            case "arm":
                room.injector_armed = True
            case "inject":
                room.inject(self.now)
            case "pass":
                self._jumped += max(0.0, float(asked.get("seconds", 0.0)))
                self._say(gantry.tick(self.now))
            case "clear":
                self._say(gantry.clear(self.now))
            case "report":
                self._say(gantry.tick(self.now))
            case other:
                raise DecodeError(f"the room does not know {other!r}", "the room", "see docs/emulator.md")
        return {
            **room.report(),
            "device": f"{gantry.device.manufacturer} {gantry.device.model}",
            "state": gantry.state.value,
            "now": self.now,
            "heat": gantry.heat,
            "losses": [asdict(loss) for loss in self.losses],
            "malformed": self.malformed,
        }
