"""A whole examination over CAN buses: emulated host, link, gate, emulated gantry, each with its own threads.

The virtual bus and the multicast bus have no arbitration (``transport.can``): these tests show that the parts work
together, not what happens when a bus is full.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from _can import PATIENT, STUDY, hide, load_of, profile, scan, sheet
from scanward.commands import BODY_PHANTOM, Command, Mode, Verdict
from scanward.commands.wire import Axis, Declined, Done, Hello, Load, Loaded, Started, StopKind
from scanward.config import CAN_BOUNDS
from scanward.emulator.can_gantry import BusGantry
from scanward.emulator.can_host import BusHost
from scanward.emulator.gantry import Gantry
from scanward.errors import LinkError
from scanward.guard.core import GateView
from scanward.guard.events import (
    Ask,
    Caps,
    Durable,
    Effect,
    Event,
    Finding,
    Forecast,
    GantryLost,
    GantrySaid,
    GantryUp,
    GateRules,
    HostLost,
    HostUp,
    Judged,
    ModeRules,
    Record,
    Said,
    SendGantry,
    SendHost,
)
from scanward.guard.gate import Gate
from scanward.links.base import Side
from scanward.links.can import CanLink
from scanward.simulation.constants import MODELS
from scanward.transport.can import CanBus
from scanward.transport.can_frames import CanFrame, frame_of

pytest.importorskip("can", reason="the extra 'can' is not installed")
pytest.importorskip("canopen", reason="the extra 'can' is not installed")

PATIENCE = 20.0  # s; against hanging only
NUMBERS = itertools.count()


class Guard:
    """The gate with a judge that knows one cap, and a log that is durable at once. A `links.base.Sink`."""

    def __init__(self, cap: float = 50.0) -> None:
        limits = Caps({16: 1e6, 32: 1e6}, {16: 1e6, 32: 1e6})
        self.gate = Gate(GateRules("policy", {Mode.CLINICAL: ModeRules(limits, limits)}))
        self.cap = cap
        self.link: CanLink | None = None
        self.effects: list[Effect] = []
        self.malformed_: list[str] = []
        self.heard: list[Any] = []
        self.loop = asyncio.get_running_loop()

    def handle(self, event: Event) -> None:
        for effect in self.gate.handle(event, self.loop.time()):
            self.effects.append(effect)
            match effect:
                case SendGantry(message):
                    self.send(lambda m=message: self.link.to_gantry(m))  # type: ignore[union-attr, misc]
                case SendHost(message, connection):
                    self.send(lambda m=message, c=connection: self.link.to_host(c or 1, m))  # type: ignore[union-attr, misc]
                case Ask():
                    self.loop.call_soon(self.judge, effect)
                case Record(token=token):
                    self.loop.call_soon(self.handle, Durable(token))

    @staticmethod
    def send(act: Callable[[], None]) -> None:
        try:
            act()
        except LinkError:
            return  # the gate hears of it by the link's own call

    def judge(self, ask: Ask) -> None:
        findings = []
        for element in ask.chain or (None,):
            dose = element.command.number("CTDIvol") if element else 0.0
            bad = (dose or 0.0) > self.cap
            verdict = Verdict.HALT if bad else Verdict.RELEASE
            findings.append(
                Finding(
                    verdict,
                    "limits" if bad else "",
                    reason="too much" if bad else "",
                    forecast=Forecast(1, 1, 32),
                )
            )
        self.handle(Judged(ask.request, tuple(findings), "bundle"))

    # --- Sink

    def host_up(self, connection: int, hello: Hello) -> None:
        self.handle(HostUp(connection, hello.channel))

    def host_lost(self, connection: int, reason: str) -> None:
        self.handle(HostLost(connection, reason))

    def host_said(self, connection: int, message: Any) -> None:
        self.heard.append(message)
        self.handle(Said(connection, message))

    def gantry_up(self, hello: Hello) -> None:
        self.heard.append(hello)
        self.handle(GantryUp())

    def gantry_lost(self, reason: str) -> None:
        self.handle(GantryLost(reason))

    def gantry_said(self, message: Any) -> None:
        self.heard.append(message)
        self.handle(GantrySaid(message))

    def malformed(self, side: Side, reason: str, digest: str) -> None:
        self.malformed_.append(reason)

    def view(self) -> GateView:
        return self.gate.view()


def virtual() -> tuple[Callable[[], CanBus], Callable[[], CanBus]]:
    name = f"test-{os.getpid()}-{next(NUMBERS)}"
    return (lambda: CanBus("virtual", f"{name}-host")), (lambda: CanBus("virtual", f"{name}-gantry"))


def multicast() -> tuple[Callable[[], CanBus], Callable[[], CanBus]]:
    """Two groups on two ports that are free now."""
    ports = []
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            ports.append(probe.getsockname()[1])

    def bus(group: str, port: int) -> CanBus:
        return CanBus("udp_multicast", group, port=port, hop_limit=0)

    return (lambda: bus("239.74.163.41", ports[0])), (lambda: bus("239.74.163.42", ports[1]))


@contextmanager
def multicast_works() -> Iterator[None]:
    """Skips where the machine has no multicast route."""
    host, _ = multicast()
    try:
        one, other = host(), host()
    except LinkError as error:
        pytest.skip(f"no UDP multicast here: {error}")
    heard = threading.Event()
    other.start(lambda frame, now: heard.set(), lambda now: None, lambda reason: None)
    try:
        for _ in range(20):
            try:
                one.send(frame_of("080#"))
            except LinkError as error:
                pytest.skip(f"no UDP multicast here: {error}")
            if heard.wait(0.1):
                break
        else:
            pytest.skip("no UDP multicast here: a frame did not come back")
    finally:
        one.close()
        other.close()
    yield


class Site:
    """Everything of one test."""

    def __init__(
        self, guard: Guard, host: BusHost, gantry: BusGantry, link: CanLink, frames: list[Any]
    ) -> None:
        self.guard, self.host, self.gantry, self.link, self.frames = guard, host.host, gantry, link, frames

    async def do(self, act: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """A blocking call of the host, in a thread of its own."""
        return await asyncio.wait_for(asyncio.to_thread(act, *arguments, **more), PATIENCE)

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def site(
    buses: tuple[Callable[[], CanBus], Callable[[], CanBus]], speed: float = 40.0, cap: float = 50.0
) -> AsyncIterator[Site]:
    guard = Guard(cap)
    on_host, on_gantry = buses
    frames: list[Any] = []
    link = CanLink(profile(), on_host(), on_gantry(), hide, tap=lambda *told: frames.append(told))
    guard.link = link
    machine = Gantry(MODELS[1], profile().device)
    await link.start(guard)
    try:
        with (
            BusGantry(profile(), sheet(), machine, on_gantry(), speed) as gantry,
            BusHost(profile(), sheet(), on_host(), sync_s=0.02) as host,
        ):
            made = Site(guard, host, gantry, link, frames)
            await made.until(lambda: guard.view().gantry and guard.view().host)
            yield made
    finally:
        await link.close()


def commands() -> tuple[Command, ...]:
    return scan(), scan(KVP=100.0, AcquisitionStartLocation=-50.0, CTDIvol=8.0)


async def examination(buses: tuple[Callable[[], CanBus], Callable[[], CanBus]]) -> None:
    async with site(buses) as here:
        assert (await here.do(here.host.write, load_of(*commands()), (STUDY, PATIENT), patience=PATIENCE)).ok
        for element in range(2):
            after = len(here.host.told)
            answer = await here.do(here.host.trigger, element, patience=PATIENCE)
            assert answer.ok, answer
            assert await here.do(here.host.wait, "done", after=after, timeout=PATIENCE)
        await here.until(lambda: sum(isinstance(m, Done) for m in here.guard.heard) == 2)
        assert [a.element for a in here.gantry.node.gantry.room.acquired] == [0, 1]
        assert [a.parameters["KVP"] for a in here.gantry.node.gantry.room.acquired] == [120.0, 100.0]
        heard = here.guard.heard
        assert [type(m) for m in heard if isinstance(m, Load | Loaded | Started | Done)] == [
            Load,
            Loaded,
            Started,
            Done,
            Started,
            Done,
        ]
        assert not any(isinstance(m, Declined) for m in heard)
        assert here.guard.malformed_ == []
        # both sides were seen, and SYNC went through untouched
        sides = {side for side, *_ in here.frames}
        assert sides == {Side.HOST, Side.GANTRY}
        assert (Side.HOST, CanFrame(0x080)) in [(s, f) for s, f, *_ in here.frames]
        assert here.link.unsent == 0


def test_an_examination_on_virtual_buses() -> None:
    asyncio.run(examination(virtual()))


def test_an_examination_on_multicast_buses() -> None:
    with multicast_works():
        asyncio.run(examination(multicast()))


def test_a_dose_beyond_the_cap_never_reaches_the_beam() -> None:
    async def run() -> None:
        async with site(virtual()) as here:
            bad = scan(CTDIvol=78.0, XRayTubeCurrentInmA=600.0)
            assert (await here.do(here.host.write, load_of(bad), patience=PATIENCE)).ok
            answer = await here.do(here.host.trigger, 0, patience=2.0)
            assert answer.code == 0x08000021  # refused for good, not only "not now"
            await here.do(here.host.trigger_by_data, 0)
            await asyncio.sleep(0.3)
            assert here.gantry.node.gantry.room.acquired == []
            assert here.gantry.node.gantry.state == "ready"
            # the host sees sense
            assert (await here.do(here.host.write, load_of(scan()), patience=PATIENCE)).ok
            assert (await here.do(here.host.trigger, 0, patience=PATIENCE)).ok

    asyncio.run(run())


def test_without_the_guard_the_same_frames_give_the_dose() -> None:
    """The attack is one: the gantry alone obeys it."""

    async def run() -> None:
        bus, _ = virtual()
        machine = Gantry(MODELS[1], profile().device)
        with (
            BusGantry(profile(), sheet(), machine, bus(), 40.0),
            BusHost(profile(), sheet(), bus()) as host,
        ):
            bad = scan(CTDIvol=78.0, XRayTubeCurrentInmA=600.0)
            assert (await asyncio.to_thread(host.host.write, load_of(bad))).ok
            assert (await asyncio.to_thread(host.host.trigger, 0, PATIENCE)).ok
            assert await asyncio.to_thread(host.host.wait, "done", timeout=PATIENCE)
        assert machine.room.acquired[0].ctdivol > 25
        assert machine.room.acquired[0].parameters["CTDIwPhantomType"] == BODY_PHANTOM

    asyncio.run(run())


def test_a_stop_ends_the_beam() -> None:
    async def run() -> None:
        async with site(virtual(), speed=0.2) as here:
            slow = scan(AcquisitionStartLocation=0.0)
            assert (await here.do(here.host.write, load_of(slow), patience=PATIENCE)).ok
            assert (await here.do(here.host.trigger, 0, patience=PATIENCE)).ok
            await here.until(lambda: here.gantry.node.gantry.state == "beam")
            here.host.stop(StopKind.ALL)
            await here.until(lambda: here.gantry.node.gantry.room.acquired)
            assert here.gantry.node.gantry.room.acquired[0].aborted
            await here.until(lambda: any(isinstance(m, Done) and m.aborted for m in here.guard.heard))

    asyncio.run(run())


def test_a_motion_goes_through_judge_and_gate() -> None:
    async def run() -> None:
        async with site(virtual()) as here:
            assert (await here.do(here.host.motion, Axis.TABLE_Z, -100.0, 50.0, patience=PATIENCE)).ok
            await here.until(lambda: here.gantry.node.gantry.position[Axis.TABLE_Z] == -100.0)

    asyncio.run(run())


def test_dropping_silences_both_sides_and_the_gantry_goes_safe() -> None:
    async def run() -> None:
        async with site(virtual()) as here:
            here.link.drop("test")
            await here.until(lambda: here.gantry.node.gantry.state == "safe")
            before = len(here.host.told)
            await asyncio.sleep(0.3)
            assert len(here.host.told) == before

    asyncio.run(run())


def test_a_bus_that_dies_drops_the_link() -> None:
    async def run() -> None:
        async with site(virtual()) as here:
            here.link._gantry._bus.shutdown()
            await here.until(lambda: here.guard.malformed_)
            assert "a bus was lost" in here.guard.malformed_[0]
            assert not here.guard.view().gantry

    asyncio.run(run())


def test_timed_frames_and_stops_do_not_wait_for_the_loop() -> None:
    """The loop stands still until the frames have come out at the other end."""

    async def run() -> None:
        on_host, on_gantry = virtual()
        link = CanLink(profile(), on_host(), on_gantry(), hide)
        await link.start(Guard())
        sender, receiver = on_host(), on_gantry()
        wanted = [frame_of(t) for t in ("080#", "77F#05", "701#R", "080#", "201#0200", "080#")]
        came: list[CanFrame] = []
        whole = threading.Event()

        def take(frame: CanFrame, now: float) -> None:
            came.append(frame)
            if len(came) == len(wanted):
                whole.set()

        receiver.start(take, lambda now: None, lambda reason: None)
        try:
            for frame in wanted:
                sender.send(frame)
            assert whole.wait(PATIENCE)  # blocks the loop
            assert came == wanted
        finally:
            sender.close()
            receiver.close()
            await link.close()

    asyncio.run(run())


def test_a_loop_that_does_not_keep_up_drops_both_sides_and_stops_still_pass() -> None:
    async def run() -> None:
        on_host, on_gantry = virtual()
        bounds = replace(CAN_BOUNDS, events=8, report_s=0.0)
        link = CanLink(profile(), on_host(), on_gantry(), hide, bounds=bounds)
        guard = Guard()
        await link.start(guard)
        sender, receiver = on_host(), on_gantry()
        came: list[CanFrame] = []
        stopped = threading.Event()
        last = frame_of("201#0203")

        def take(frame: CanFrame, now: float) -> None:
            came.append(frame)
            if frame == last:
                stopped.set()

        receiver.start(take, lambda now: None, lambda reason: None)
        try:
            sender.send(frame_of("77F#05"))
            for _ in range(20):  # two that take turns, so that they cannot wait as one
                sender.send(frame_of("201#0200"))
                sender.send(frame_of("000#0201"))
                sender.send(frame_of("201#0202"))
            sender.send(frame_of("080#"))
            sender.send(last)
            assert stopped.wait(PATIENCE)  # the loop stands still all the while
            assert came.count(frame_of("201#0202")) == 20
            assert frame_of("080#") not in came[came.index(frame_of("201#0202")) :]
            await asyncio.sleep(0)
        finally:
            sender.close()
            receiver.close()
            await link.close()

    asyncio.run(run())


def test_buses_that_cannot_be_opened() -> None:
    with pytest.raises(LinkError, match="no CAN interface"):
        CanBus("pcan", "x")
    with pytest.raises(LinkError, match="cannot be opened"):
        CanBus("socketcan", "no-such-interface0")
    with pytest.raises(LinkError, match="cannot be opened"):
        CanBus("udp_multicast", "127.0.0.1")
