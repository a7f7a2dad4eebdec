"""The emulated host PC: one connection for commands, one for stops, and what comes back.

A host says, waits for an answer, and copes with all of them: ``loaded`` and ``started``, ``held`` (it waits),
``refused`` with ``again`` (it sends the same once more a little later), ``declined``, silence, and the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from scanward.codecs import stream
from scanward.commands import Command, Context, Device, Examination, Source, Told, Value
from scanward.commands.wire import (
    Alerted,
    Axis,
    Cancel,
    Channel,
    Declined,
    Done,
    Element,
    FromHost,
    Heartbeat,
    Held,
    Hello,
    Load,
    Loaded,
    Motion,
    Moved,
    Refused,
    Started,
    Stop,
    StopKind,
    ToHost,
    Trigger,
)
from scanward.emulator.wires import Lines, Tls, connect, is_loopback
from scanward.errors import DecodeError, SettingsError
from scanward.simulation.elements import LOCALIZER, SPIRAL, STATIONARY
from scanward.simulation.scanner import MARK

ANSWER_S = (
    20.0  # real seconds after which no answer counts as none; a deadline against hanging, not a measure
)
AGAIN = 3  # how often a host sends the same again
AGAIN_S = 0.15


class What(StrEnum):
    """How a request ended."""

    DONE = "done"  # loaded, started, moved: it reached the gantry and was carried out
    REFUSED = "refused"  # by the guard
    DECLINED = "declined"  # by the gantry
    LOST = "lost"  # the connection ended
    SILENCE = "silence"  # nobody answered


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one load, trigger or motion.

    Attributes
    ----------
    message : ToHost or None
        The answer itself; None for ``LOST`` and ``SILENCE``.
    held : str
        Why the guard held it, empty when it did not.
    alerted : str
        What the guard remarked while letting it through.
    seconds : float
        Real seconds from sending to the answer.
    """

    what: What
    message: ToHost | None = None
    held: str = ""
    alerted: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Carried out."""
        return self.what is What.DONE

    @property
    def layer(self) -> str:
        """Layer or rule of the guard that refused, empty when none did."""
        return self.message.layer if isinstance(self.message, Refused) else ""

    @property
    def reason(self) -> str:
        """The answer's own words."""
        message = self.message
        return message.reason if isinstance(message, Refused | Declined | Alerted) else ""


@dataclass(eq=False)
class Host:
    """One host PC on one wire. Open it with ``Host.open``."""

    lines: Lines
    device: Device
    stops: Lines | None = None
    said: list[ToHost] = field(default_factory=list)
    lost: bool = False
    peer: Device = field(default_factory=Device)
    _number: int = 0
    _waiting: list[tuple[Callable[[ToHost], bool], asyncio.Future[ToHost | None]]] = field(
        default_factory=list
    )
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        device: Device,
        tls: Tls | None = None,
        *,
        stops: bool = True,
        beat_s: float = 1.0,
    ) -> Host:
        """Connect, say hello, and wait for the other end's.

        Raises
        ------
        SettingsError
            When nobody answers, when the address is not this machine's and there is no TLS, or when the other
            end does not say that it is a simulated device: an emulated host talks to nothing else.
        """
        if not is_loopback(host) and tls is None:
            raise SettingsError("an emulated host without TLS", host, "connect to 127.0.0.1, or give TLS")
        made = cls(await connect(host, port, tls), device)
        try:
            await made._greet()
            if stops:
                made.stops = await connect(host, port, tls)
                made.stops.send(stream.encode(Hello(device, Channel.STOP)))
        except BaseException:
            await made.close()
            raise
        made._tasks = [asyncio.ensure_future(made._read()), asyncio.ensure_future(made._beat(beat_s))]
        if made.stops is not None:
            made._tasks.append(asyncio.ensure_future(made._ignore(made.stops)))
        return made

    async def _greet(self) -> None:
        self.lines.send(stream.encode(Hello(self.device)))
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    line = await self.lines.next()
                    if line is None:
                        raise SettingsError("the other end closed without a hello", self.lines.peer, _WRONG)
                    message = stream.decode_guard(line)
                    if isinstance(message, Hello):
                        break
                    self.said.append(message)
        except TimeoutError as error:
            raise SettingsError("the other end says no hello", self.lines.peer, _WRONG) from error
        self.peer = message.device
        if not self.peer.manufacturer.startswith(MARK):
            raise SettingsError(
                f"the device at the other end is {self.peer.manufacturer or 'unnamed'}, not a simulated one",
                self.lines.peer,
                "an emulated host talks to emulated gantries alone",
            )

    async def close(self) -> None:
        """Leave, as a host that is shut down."""
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.lines.close()
        if self.stops is not None:
            await self.stops.close()

    # --- the reading side -------------------------------------------------------------------------------
    async def _read(self) -> None:
        try:
            while (line := await self.lines.next()) is not None:
                try:
                    message = stream.decode_guard(line)
                except DecodeError:
                    break
                if not isinstance(message, Heartbeat):
                    self._hear(message)
        finally:
            self.lost = True
            for _, future in self._waiting:
                if not future.done():
                    future.set_result(None)

    def _hear(self, message: ToHost) -> None:
        self.said.append(message)
        for matches, future in self._waiting:
            if not future.done() and matches(message):
                future.set_result(message)

    async def _beat(self, beat_s: float) -> None:
        while True:
            await asyncio.sleep(beat_s)
            self.say(Heartbeat())

    async def _ignore(self, lines: Lines) -> None:
        while await lines.next() is not None:
            pass

    async def wait(self, matches: Callable[[ToHost], bool], timeout: float = ANSWER_S) -> ToHost | None:
        """The next message that matches; None when the connection ends or the time is over."""
        if self.lost:
            return None
        future: asyncio.Future[ToHost | None] = asyncio.get_running_loop().create_future()
        entry = (matches, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.remove(entry)

    # --- the speaking side ------------------------------------------------------------------------------
    def say(self, message: FromHost) -> None:
        """Send one message and wait for nothing; into a connection that is gone, nothing is sent."""
        if self.lost:
            return
        self.lines.send(stream.encode(message))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are: no host of good will does."""
        if not self.lost:
            self.lines.send(data)

    def stop(self, what: StopKind = StopKind.ALL) -> None:
        """Stop, by the connection that is for stops alone where there is one."""
        lines = self.stops or self.lines
        if lines is self.stops or not self.lost:
            lines.send(stream.encode(Stop(what)))

    def name(self, letter: str) -> str:
        """An identifier that this connection has not used."""
        self._number += 1
        return f"{letter}{self._number}"

    async def _ask(
        self, message: Load | Trigger | Motion, yes: Callable[[ToHost], bool], timeout: float
    ) -> Answer:
        heard = len(self.said)
        self.say(message)
        return await self._outcome(message.id, yes, timeout, heard)

    async def answered(
        self, name: str, timeout: float = ANSWER_S, *, begun: tuple[str, int] | None = None
    ) -> Answer:
        """What becomes of a load (or of a trigger of element ``begun``) that was sent as raw bytes."""
        yes = _loaded(name) if begun is None else _begun(*begun)
        return await self._outcome(name, yes, timeout, 0)

    async def _outcome(self, name: str, yes: Callable[[ToHost], bool], timeout: float, heard: int) -> Answer:
        """Wait for the answer to ``name`` among what was said from number ``heard`` on."""
        held, alerted = "", ""
        loop = asyncio.get_running_loop()
        begun, until = loop.time(), loop.time() + timeout

        def matches(said: ToHost) -> bool:
            return yes(said) or (
                isinstance(said, Refused | Declined | Held | Alerted) and said.id in (name, "")
            )

        while True:
            # what was said in the meantime is heard, not missed
            new = next((m for m in self.said[heard:] if matches(m)), None)
            if new is None:
                new = await self.wait(matches, max(0.0, until - loop.time()))
            seconds = loop.time() - begun
            if new is None:
                return Answer(What.LOST if self.lost else What.SILENCE, None, held, alerted, seconds)
            heard = self.said.index(new, heard) + 1
            match new:
                case Held():
                    held, until = new.reason, max(until, loop.time() + new.deadline + ANSWER_S)
                case Alerted():
                    alerted = new.reason
                case Refused():
                    return Answer(What.REFUSED, new, held, alerted, seconds)
                case Declined():
                    return Answer(What.DECLINED, new, held, alerted, seconds)
                case _:
                    return Answer(What.DONE, new, held, alerted, seconds)

    def hush(self) -> None:
        """Say nothing any more, not even heartbeats, and leave the connections open."""
        for task in self._tasks[1:2]:
            task.cancel()

    async def load(
        self,
        chain: Sequence[Element],
        study: str,
        patient: str = "",
        *,
        triggers: int = 1,
        name: str = "",
        timeout: float = ANSWER_S,
    ) -> tuple[str, Answer]:
        """Load a chain; its id, and what became of it."""
        load = Load(name or self.name("L"), study, patient, tuple(chain), triggers)
        answer = await self._ask(load, _loaded(load.id), timeout)
        for _ in range(AGAIN):
            if not (isinstance(answer.message, Refused) and answer.message.again):
                break
            await asyncio.sleep(AGAIN_S)
            load = replace(load, id=self.name("L"))
            answer = await self._ask(load, _loaded(load.id), timeout)
        return load.id, answer

    async def trigger(
        self,
        load: str,
        element: int,
        runtime: Mapping[str, Value] | None = None,
        *,
        timeout: float = ANSWER_S,
    ) -> Answer:
        """Begin an element; answered when the beam is on."""
        begun = _begun(load, element)
        answer = await self._ask(Trigger(self.name("T"), load, element, runtime or {}), begun, timeout)
        for _ in range(AGAIN):
            if not (isinstance(answer.message, Refused) and answer.message.again):
                break
            await asyncio.sleep(AGAIN_S)
            answer = await self._ask(Trigger(self.name("T"), load, element, runtime or {}), begun, timeout)
        return answer

    async def done(self, load: str, element: int, timeout: float = ANSWER_S) -> Done | None:
        """Wait until an element has ended; it may have already."""

        def ended(message: ToHost) -> bool:
            return isinstance(message, Done) and (message.load, message.element) == (load, element)

        found = next((m for m in self.said if ended(m)), None) or await self.wait(ended, timeout)
        return found if isinstance(found, Done) else None

    async def motion(self, axis: Axis, target: float, speed: float, *, timeout: float = ANSWER_S) -> Answer:
        """Move without scanning; answered when it is there."""
        motion = Motion(self.name("M"), axis, target, speed)
        return await self._ask(motion, lambda m: isinstance(m, Moved) and m.id == motion.id, timeout)

    def cancel(self, load: str) -> None:
        """Give a load up."""
        self.say(Cancel(self.name("C"), load))


def _loaded(load: str) -> Callable[[ToHost], bool]:
    return lambda message: isinstance(message, Loaded) and message.load == load


def _begun(load: str, element: int) -> Callable[[ToHost], bool]:
    return lambda m: isinstance(m, Started) and (m.load, m.element) == (load, element)


_WRONG = "start `scanward emulate gantry` (or a guard in front of it) there first"


# --- examinations as chains -------------------------------------------------------------------------------
def element_of(command: Command, *, auto: bool = False) -> Element:
    """A command of the simulated site as its host sends it: whoever told the console, the console tells it now."""
    told = {
        name: (Told(words[0].value, Source.HOST),) for name, words in command.context.parts.items() if words
    }
    return Element(replace(command, context=Context(told)), auto)


def chains_of(examination: Examination) -> list[tuple[Element, ...]]:
    """The loads of an examination, in order.

    Localizers come first and alone: what follows is planned on them. A scan that is taken again was not foreseen
    and begins a load of its own. A helical scan after bolus monitoring begins by itself.
    """
    chains: list[list[Element]] = []
    before: Command | None = None
    for command in examination.commands:
        kind, name = command.text("AcquisitionType"), command.text("ProtocolElementName")
        fresh = before is None or (before.text("AcquisitionType") == LOCALIZER) != (kind == LOCALIZER)
        again = before is not None and before.text("ProtocolElementName") == name
        follows = (
            before is not None
            and before.text("ProtocolElementName") == "Monitoring"
            and before.text("AcquisitionType") == STATIONARY
            and kind == SPIRAL
        )
        if fresh or again:
            chains.append([])
        chains[-1].append(element_of(command, auto=follows and not fresh and not again))
        before = command
    return [tuple(chain) for chain in chains]
