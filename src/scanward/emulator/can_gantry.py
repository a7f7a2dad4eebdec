"""The emulated gantry on a CANopen wire: canopen's ``LocalNode`` around `emulator.gantry.Gantry`.

    node = CanGantry(profile, sheet, gantry, send)           # no thread, no bus: node.frame(...), node.tick(...)
    with BusGantry(profile, sheet, gantry, bus) as running:   # with both: running.node is the CanGantry

It obeys like the machine that it wraps: it takes every write that the data sheet allows, at any time, and does what it
finds in its memory when it is triggered. That is what a guard is for. SDO answers come from the canopen library's own
server, or with ``blocks`` from Scanward's, which also takes block transfers.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from scanward.codecs.canopen_chain import assemble, elements_in
from scanward.codecs.canopen_profile import (
    HEARTBEAT,
    NMT,
    SDO_ANSWER,
    SDO_REQUEST,
    CanProfile,
    FrameClass,
    FrameRule,
    ObjectRule,
    ObserveRule,
    Says,
)
from scanward.codecs.canopen_sdo import Abort, Address, Download
from scanward.codecs.canopen_sdo_server import SdoServer
from scanward.codecs.canopen_types import DataType, Raw, decode_raw
from scanward.commands.wire import (
    Declined,
    Done,
    FromGantry,
    GantryState,
    Injection,
    Load,
    Loaded,
    Motion,
    Moved,
    Started,
    Status,
    Stop,
    StopKind,
    Stopped,
    Trigger,
)
from scanward.emulator.gantry import Gantry
from scanward.errors import DecodeError, LinkError
from scanward.transport.can import CanBus
from scanward.transport.can_frames import CanFrame

HEARTBEAT_S = 0.1  # 1017h of the example
LINK_LOST_S = 2.0  # without a heartbeat of the host: safe state
_OPERATIONAL, _STOPPED, _PREOPERATIONAL = 0x05, 0x04, 0x7F
_STOP_OBJECT = 0x2F02  # writing it stops: 1 everything, 2 beam, 3 motion
_STOPS = {1: StopKind.ALL, 2: StopKind.BEAM, 3: StopKind.MOTION}


class CanGantry:
    """One node.

    Parameters
    ----------
    profile : CanProfile
        The same that the guard has: it says where everything lies.
    sheet : str
        Text of the electronic data sheet.
    gantry : Gantry
        What moves and radiates.
    send : callable
        Called with every frame that goes out.
    clock : callable
        From the seconds of the wire to those of the gantry: its clock may be fast.
    blocks : bool
        Answer SDO requests by Scanward's server, which knows block transfers.

    Attributes
    ----------
    writes : list of (Address, bytes)
        Everything that was written, in order: what reached the gantry.
    """

    def __init__(
        self,
        profile: CanProfile,
        sheet: str,
        gantry: Gantry,
        send: Callable[[CanFrame], None],
        blocks: bool = False,
        clock: Callable[[float], float] = float,
    ) -> None:
        canopen = canopen_package()
        self.profile = profile
        self.gantry = gantry
        self.writes: list[tuple[Address, bytes]] = []
        self.state = _OPERATIONAL
        self._send = send
        self._clock = clock
        self._now = 0.0
        self._errors = canopen.sdo.SdoAbortedError
        self._node = canopen.LocalNode(profile.node, dictionary(sheet, profile.node))
        self._network = canopen.Network()
        self._network.send_message = lambda number, data, remote=False: send(CanFrame(number, bytes(data)))
        self._network.subscribe(SDO_REQUEST + profile.node, self._node.sdo.on_request)
        self._node.network = self._node.sdo.network = self._network
        self._node.add_write_callback(self._written)
        self._own = SdoServer(lambda address, write, size: 0) if blocks else None
        self._heard: float | None = None
        self._beaten = float("-inf")
        self._load: Load | None = None
        self._number = 0
        self._dirty = True
        self._forget()

    def boot(self, now: float) -> None:
        """Power on: the boot-up message (CiA 301, 7.2.8.3.3), and everything forgotten."""
        self._now = now
        self._forget()
        self._load, self._dirty, self.state = None, True, _OPERATIONAL
        self._send(CanFrame(HEARTBEAT + self.profile.node, b"\x00"))

    def _forget(self) -> None:
        """Numbers take their defaults from the data sheet; texts are there, and empty."""
        store = self._node.data_store
        store.clear()
        for (index, sub), entry in self.profile.entries.items():
            if entry.writable and entry.kind is DataType.VISIBLE_STRING:
                store.setdefault(index, {})[sub] = b""

    def frame(self, frame: CanFrame, now: float) -> None:
        """One frame from the bus."""
        self._now = now
        node = self.profile.node
        if frame.remote and frame.id == HEARTBEAT + node:
            self._send(CanFrame(HEARTBEAT + node, bytes((self.state,))))
        elif not frame.plain:
            return
        elif frame.id == NMT:
            self._nmt(frame.data, now)
        elif self.profile.host is not None and frame.id == HEARTBEAT + self.profile.host:
            self._heard = now
        elif self.state != _STOPPED and frame.id == SDO_REQUEST + node:
            self._sdo(frame, now)
        elif self.state == _OPERATIONAL:
            self._process_data(frame)

    def tick(self, now: float) -> None:
        """Time passes: what is due happens; a host that fell silent ends everything."""
        self._now = now
        self._tell(self.gantry.tick(self._clock(now)))
        if now - self._beaten >= HEARTBEAT_S:
            self._beaten = now
            self._send(CanFrame(HEARTBEAT + self.profile.node, bytes((self.state,))))
        if self._heard is not None and now - self._heard > LINK_LOST_S:
            self._heard = None
            self._tell(self.gantry.lose_link(self._at(), "no heartbeat of the host"))

    def holds(self, address: Address) -> bytes:
        """What an entry holds; empty when nothing."""
        try:
            return bytes(self._node.get_data(*address))
        except self._errors:
            return b""

    def _at(self) -> float:
        return self._clock(self._now)

    # --- what comes in

    def _nmt(self, data: bytes, now: float) -> None:
        if len(data) != 2 or data[1] not in (0, self.profile.node):
            return
        match data[0]:
            case 0x01:
                self.state = _OPERATIONAL
            case 0x02:
                self.state = _STOPPED
                self._tell(self.gantry.handle(Stop(), self._at()))
            case 0x80:
                self.state = _PREOPERATIONAL
            case 0x81 | 0x82:
                self._tell(self.gantry.handle(Stop(), self._at()))
                self.boot(now)

    def _sdo(self, frame: CanFrame, now: float) -> None:
        if self._own is None:
            self._network.notify(frame.id, bytearray(frame.data), now)
            return
        server = self._own
        step = server.frame(frame.data, now)
        replies = list(step.replies)
        if step.request is not None:
            try:
                if isinstance(step.request, Download):
                    address = step.request.address
                    self._node.set_data(*address, step.request.data, check_writable=True)
                    replies += server.complete_download()
                else:
                    replies += server.complete_upload(
                        bytes(self._node.get_data(*step.request.address, check_readable=True))
                    )
            except self._errors as error:
                replies += server.fail(error.code)
            except KeyError:
                replies += server.fail(Abort.NO_OBJECT)
        for reply in replies:
            self._send(CanFrame(SDO_ANSWER + self.profile.node, reply))

    def _process_data(self, frame: CanFrame) -> None:
        stop = self.profile.passes_at_once(frame)
        if stop is not None and stop.stop is not None:
            self._tell(self.gantry.handle(Stop(stop.stop), self._at()))
            return
        rule = self.profile.pattern_of(frame)
        if rule is None:
            return
        if rule.kind is FrameClass.PARAMETER:
            for address, data in rule.pattern.entries(frame.data).items():
                self._node.set_data(*address, data)
            return
        try:
            values = rule.pattern.values(frame.data)
        except DecodeError:
            return
        if rule.kind is FrameClass.TRIGGER:
            self._trigger(int(values["element"]) - rule.first)
        else:
            raw = values.get("speed")
            speed = rule.speed if rule.speed is not None else rule.speed_scale.value(_number(raw))
            self._move(rule, _number(values["target"]), speed)

    def _written(self, index: int, subindex: int, od: Any, data: bytes, **_: Any) -> None:
        """Called by the node for every write, before it is stored."""
        address, data = (index, subindex), bytes(data)
        self.writes.append((address, data))
        if index == _STOP_OBJECT:
            self._tell(self.gantry.handle(Stop(_STOPS.get(data[0], StopKind.ALL)), self._at()))
            return
        rule = self.profile.objects.get(address)
        if rule is None:
            return
        problem = ""
        if rule.kind is FrameClass.TRIGGER:
            problem = self._trigger(int.from_bytes(data, "little") - rule.first)
        elif rule.kind is FrameClass.MOTION:
            speed = rule.speed
            if not isinstance(speed, float):
                assert speed is not None
                held = self.holds(speed)
                speed = rule.speed_scale.value(int.from_bytes(held, "little")) if held else 0.0
            raw = decode_raw(rule.entry.kind, data)
            problem = self._move(rule, _number(raw), speed)
        else:
            self._dirty = True
        if problem:
            raise self._errors(Abort.DEVICE_STATE)

    def _trigger(self, element: int) -> str:
        """Begin an element of the chain that memory holds; why not, when it cannot."""
        try:
            values = self._chain()
            if self._load is None or self._dirty or self.gantry.load is None:
                self._number += 1
                self._load = assemble(self.profile, values, f"g{self._number}", self.profile.device, str)
                self._dirty = False
                if problem := self._heard_no(self.gantry.handle(self._load, self._at())):
                    self._dirty = True
                    return problem
        except DecodeError as error:
            return str(error)
        return self._heard_no(self.gantry.handle(Trigger("t", self._load.id, element), self._at()))

    def _chain(self) -> dict[Address, bytes]:
        chain = self.profile.chain
        found: dict[Address, bytes] = {}
        if chain.count is not None:
            found[chain.count] = self.holds(chain.count)
        for address in chain.addresses(elements_in(self.profile, found)):
            found[address] = self.holds(address)
        return found

    def _move(self, rule: ObjectRule | FrameRule, raw: int | float, speed: float) -> str:
        motion = Motion("m", rule.axis, rule.scale.value(raw), speed)
        return self._heard_no(self.gantry.handle(motion, self._at()))

    def _heard_no(self, said: tuple[FromGantry, ...]) -> str:
        self._tell(said)
        return next((m.reason for m in said if isinstance(m, Declined)), "")

    # --- what goes out

    def _tell(self, said: tuple[FromGantry, ...]) -> None:
        """Messages as process data; what the profile has no frame for is not told."""
        for message in said:
            found = _telling(message)
            if found is None:
                continue
            says, values, stop, state = found
            for number, rules in self.profile.observed.items():
                rule = next((r for r in rules if _fits(r, says, stop, state)), None)
                if rule is not None:
                    self._send(CanFrame(number, _filled(rule, values)))
                    break


def _telling(
    message: FromGantry,
) -> tuple[Says, dict[str, float], StopKind | None, GantryState | None] | None:
    match message:
        case Started():
            return Says.STARTED, {"element": message.element}, None, None
        case Done():
            dose = {"element": message.element, "CTDIvol": message.ctdivol or 0.0, "DLP": message.dlp or 0.0}
            return (Says.ABORTED if message.aborted else Says.DONE), dose, None, None
        case Injection():
            return Says.INJECTION, {}, None, None
        case Moved():
            return Says.MOVED, {"position": message.position}, None, None
        case Stopped():
            return Says.STOPPED, {}, message.what, None
        case Status():
            return Says.STATUS, {}, None, message.state
        case _:
            assert not isinstance(message, Loaded) or message.load
            return None


def _fits(rule: ObserveRule, says: Says, stop: StopKind | None, state: GantryState | None) -> bool:
    return rule.says is says and stop in (None, rule.stop) and state in (None, rule.state)


def _filled(rule: ObserveRule, values: dict[str, float]) -> bytes:
    raw: dict[str, Raw] = {}
    for name, value in values.items():
        scale = rule.scales.get(name)
        raw[name] = int(value) + rule.first if scale is None else scale.raw(value, True)
    return rule.pattern.fill(raw)


def _number(raw: Raw | None) -> int | float:
    assert isinstance(raw, int | float)
    return raw


class BusGantry:
    """A `CanGantry` on a bus, with a thread; ``speed`` runs its clock faster than the wall's."""

    def __init__(
        self,
        profile: CanProfile,
        sheet: str,
        gantry: Gantry,
        bus: CanBus,
        speed: float = 1.0,
        blocks: bool = False,
    ) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        began = time.monotonic()
        self.node = CanGantry(profile, sheet, gantry, self._sent, blocks, lambda now: (now - began) * speed)

    def __enter__(self) -> BusGantry:
        with self._lock:
            self.node.boot(time.monotonic())
        self._bus.start(self._frame, self._wake, lambda reason: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._bus.close()

    def _sent(self, frame: CanFrame) -> None:
        try:
            self._bus.send(frame)
        except LinkError:
            return  # nobody listens: the gantry says it again, or the other end asks again

    def _frame(self, frame: CanFrame, now: float) -> None:
        with self._lock:
            self.node.frame(frame, now)

    def _wake(self, now: float) -> None:
        with self._lock:
            self.node.tick(now)


@lru_cache(maxsize=4)
def dictionary(sheet: str, node: int) -> Any:
    """The canopen package's own reading of a data sheet; nodes only look into it."""
    source = io.StringIO(sheet)
    source.name = "sheet.eds"  # the package chooses its reader by the name
    return canopen_package().import_od(source, node)


def canopen_package() -> Any:
    """The canopen package; LinkError when it is not installed."""
    try:
        import canopen
    except ImportError as error:
        raise LinkError(
            "the canopen package is not installed", "emulator", "pip install 'scanward[can]'"
        ) from error
    return canopen
