"""One CANopen wire with the guard in the middle: frames in, frames and messages out. Pure, and the only place where
a frame's fate is decided.

Host to gantry everything is refused that the profile does not name. Gantry to host everything passes, but answers on
the SDO channel: that channel ends at the guard on both sides, so that a transfer is judged whole and forwarded anew.
"""

from __future__ import annotations

from scanward.codecs.canopen_chain import Hide
from scanward.codecs.canopen_profile import (
    HEARTBEAT,
    SDO_ANSWER,
    SDO_REQUEST,
    CanProfile,
    ExactRule,
    FrameClass,
)
from scanward.codecs.canopen_sdo import (
    Address,
    address_in,
)
from scanward.codecs.canopen_sdo_server import SdoServer
from scanward.commands.model import Device
from scanward.commands.wire import (
    Cancel,
    Heartbeat,
    Hello,
    Load,
    Motion,
    Refused,
    Stop,
    StopKind,
    ToGantry,
    ToHost,
    Trigger,
)
from scanward.config import CAN_BOUNDS, CanBounds
from scanward.errors import LinkError
from scanward.links.base import Side
from scanward.links.can_host import HostSide
from scanward.links.can_loads import Loads
from scanward.links.can_motions import Motions
from scanward.links.can_observe import Observer
from scanward.links.can_wire import Out, Wire
from scanward.transport.can_frames import CanFrame

_IDENTITY = 0x1018


class CanSession:
    """The state of one wire.

    Parameters
    ----------
    profile : CanProfile
        What every frame and object is.
    hide : callable
        Turns StudyInstanceUID, PatientID and the serial number into keyed hashes.

    Every method takes ``now`` (monotonic seconds) and returns what is to be done, in order; none raises for what
    came over a wire.
    """

    def __init__(self, profile: CanProfile, hide: Hide, bounds: CanBounds = CAN_BOUNDS) -> None:
        self.profile = profile
        self._hide = hide
        self._bounds = bounds
        self._wire = Wire(profile, bounds, SdoServer(lambda *asked: self._host.may(*asked), bounds))
        self._loads = Loads(self._wire, lambda: self.device, hide)
        self._motions = Motions(self._wire)
        self._observer = Observer(self._wire, self._loads, self._motions)
        self._host = HostSide(self._wire, self._loads, self._motions)
        self.device = profile.device
        self.dropped = False
        self._host_up = False
        self._host_heard = 0.0
        self._gantry_heard = 0.0
        self._asked_who = float("-inf")
        self._identifying = False
        self._stop_answer: Address | None = None

    # --- the two buses

    def host_frame(self, frame: CanFrame, now: float, passed: bool = False) -> Out:
        """A frame of the host's bus; ``passed`` when the link sent it on already (`CanProfile.passes_at_once`)."""
        wire = self._begin(now)
        rule = self.profile.passes_at_once(frame)
        if rule is not None:
            if not passed and (not self.dropped or rule.kind is FrameClass.STOP):
                wire.out.gantry.append(frame)
            if not self.dropped:
                self._passed(frame, rule)
        elif self.dropped:
            pass
        elif not frame.plain:
            wire.report(Side.HOST, f"no classical data frame, in {frame.id:03X}h", str(frame).encode())
        elif frame.id == SDO_REQUEST + self.profile.node:
            self._alive()
            self._host.served(wire.server.frame(frame.data, now), frame.data)
        elif (known := self.profile.pattern_of(frame)) is not None:
            self._alive()
            self._host.process_data(frame, known)
        else:
            wire.report(Side.HOST, f"refused: {_name_of(frame, self.profile.node)}", str(frame).encode())
        return wire.take()

    def gantry_frame(self, frame: CanFrame, now: float, passed: bool = False) -> Out:
        """A frame of the gantry's bus; ``passed`` when the link sent it on already."""
        wire = self._begin(now)
        if self.dropped:
            return wire.take()
        if frame.error:
            wire.report(Side.GANTRY, "an error frame: the bus has trouble")
            return wire.take()
        if is_answer(self.profile, frame):
            self._gantry_heard = now
            self._answered(frame)
            return wire.take()
        if not passed:
            wire.out.host.append(frame)
        if frame.id == HEARTBEAT + self.profile.node and frame.plain and len(frame.data) == 1:
            self._gantry_heard = now
            self._heartbeat(frame.data[0])
        elif self._wire.gantry_up:
            self._observer.frame(frame)
        return wire.take()

    def tick(self, now: float) -> Out:
        """Time passes: transfers, answers and peers that fell silent."""
        wire = self._begin(now)
        if self.dropped:
            return wire.take()
        wire.channel.tick()
        self._host.served(wire.server.tick(now), b"")
        self._loads.tick()
        self._motions.tick()
        wire.reports.tick(wire.out, now)
        if self._wire.gantry_up and now - self._gantry_heard > self._bounds.silent_s:
            self._gantry_gone("silent")
        if self._host_up and self.profile.host is not None and now - self._host_heard > self._bounds.silent_s:
            self._host_gone("silent")
        return wire.take()

    # --- the gate

    def to_gantry(self, message: ToGantry, now: float, passed: bool = False) -> Out:
        """What the gate forwards; LinkError when the gantry is gone (a stop is sent all the same).

        ``passed``: the link sent the frames of a stop already.
        """
        wire = self._begin(now)
        if isinstance(message, Stop):
            if not passed:
                wire.out.gantry += self.stop_frames(message.what)
            self._loads.stopped()
            self._motions.reset()
            return wire.take()
        if not self._wire.gantry_up:
            raise LinkError("the gantry is gone", self.profile.name, "it is spoken to again when it is heard")
        match message:
            case Load():
                self._loads.forward_load(message)
            case Trigger():
                self._loads.forward_trigger(message)
            case Motion():
                self._motions.forward(message)
            case Cancel():
                self._loads.cancelled(message.load)
                self._motions.cancelled(message.load)
            case Heartbeat():
                pass  # heartbeats pass by themselves, frame by frame
        return wire.take()

    def to_host(self, connection: int, message: ToHost, now: float) -> Out:
        """What the gate tells the host: of all of it, CANopen can say only "no" and "not now"."""
        wire = self._begin(now)
        if connection != wire.connection or not self._host_up:
            raise LinkError(
                "the host is gone", f"connection {connection}", "it is heard when it speaks again"
            )
        if isinstance(message, Refused):
            self._loads.refused(message)
            self._motions.refused(message)
        return wire.take()

    def drop(self, now: float) -> Out:
        """Off with beam and motion, then silence: without heartbeats the gantry goes to its own safe state."""
        wire = self._begin(now)
        wire.out.gantry += self.stop_frames(StopKind.ALL)
        if self._wire.gantry_up:
            self._gantry_gone("both sides were dropped")
        if self._host_up:
            self._host_gone("both sides were dropped")
        self.dropped = True
        return wire.take()

    def wire_lost(self, reason: str) -> None:
        """A bus can no longer be read."""
        self._wire.report(Side.GANTRY, f"a bus was lost: {reason[:200]}")

    def unsent(self) -> None:
        """A bus did not take a frame."""
        self._wire.report(Side.GANTRY, "a frame that was not sent: the bus did not take it")

    # --- inside: peers

    def _begin(self, now: float) -> Wire:
        self._wire.now = now
        return self._wire

    def _alive(self) -> None:
        """Whatever the profile knows, from the host's bus, is a sign of the host."""
        self._host_heard = self._wire.now
        if not self._host_up:
            self._host_up = True
            self._wire.connection += 1
            self._wire.out.said.append(("host_up", (self._wire.connection, Hello(self.device))))

    def _host_gone(self, reason: str) -> None:
        self._host_up = False
        self._loads.stopped()
        self._motions.reset()
        self._wire.server.reset()
        self._wire.ticket += 1
        self._wire.out.said.append(("host_lost", (self._wire.connection, reason)))

    def _gantry_gone(self, reason: str) -> None:
        up, self._wire.gantry_up = self._wire.gantry_up, False
        self._identifying = False
        self._wire.channel.reset()
        self._loads.reset()
        self._motions.reset()
        self._wire.mirror.clear()
        self._observer.reset()
        if up:
            self._wire.out.said.append(("gantry_lost", (reason,)))

    def _heartbeat(self, state: int) -> None:
        """A boot-up message (00h) means that the gantry's memory is not what it was."""
        if state == 0x00:
            self._gantry_gone("it started anew")
            return
        wire = self._wire
        if self._wire.gantry_up or self._identifying or wire.now - self._asked_who < self._bounds.report_s:
            return
        self._identifying = True
        self._asked_who = wire.now
        wanted = [(_IDENTITY, sub) for sub in sorted(self.profile.identity)]
        serial = (_IDENTITY, 4)
        if serial in self.profile.entries and serial not in wanted:
            wanted.append(serial)
        wire.read_all(wanted, "identity", self._identified)

    def _identified(self, found: dict[Address, bytes] | None, problem: str) -> None:
        if not self._identifying:
            return
        self._identifying = False
        wire = self._wire
        if found is None:
            wire.report(Side.GANTRY, f"a gantry that does not say who it is: {problem[:100]}")
            return
        told = {address[1]: int.from_bytes(data, "little") for address, data in found.items()}
        if any(told.get(sub) != value for sub, value in self.profile.identity.items()):
            wire.report(
                Side.GANTRY, "not the device of the profile (1018h)", repr(sorted(told.items())).encode()
            )
            return
        own, serial = self.profile.device, told.get(4)
        hidden = self._hide(str(serial)) if serial else ""
        self.device = Device(own.manufacturer, own.model, hidden, own.software)
        self._wire.gantry_up = True
        wire.out.said.append(("gantry_up", (Hello(self.device),)))

    def stop_frames(self, what: StopKind) -> tuple[CanFrame, ...]:
        """What the guard itself sends for a stop."""
        return self.profile.stops.get(what) or self.profile.stops[StopKind.ALL]

    # --- inside: what the host sends

    def _passed(self, frame: CanFrame, rule: ExactRule) -> None:
        self._alive()
        if rule.stop is None:
            return
        wire = self._wire
        if frame.id == SDO_REQUEST + self.profile.node:  # a stop on the channel ends what was going on there
            self._host.gave_up()
            wire.server.reset()
            wire.channel.interrupted()
            self._stop_answer = address_in(frame.data)
        self._loads.stopped()
        self._motions.void("a stop went by")
        wire.host_said(Stop(rule.stop))

    # --- inside: what the gantry answers

    def _answered(self, frame: CanFrame) -> None:
        """An answer on the channel: to a stop of the host, which it is told, or to the guard."""
        data = frame.data
        ends = len(data) == 8 and data[0] in (0x60, 0x80)
        if ends and self._stop_answer is not None and address_in(data) == self._stop_answer:
            self._stop_answer = None
            self._wire.out.host.append(frame)
        else:
            self._wire.channel.frame(data)


def is_answer(profile: CanProfile, frame: CanFrame) -> bool:
    """Whether a frame of the gantry is part of the channel that ends at the guard."""
    return frame.id == SDO_ANSWER + profile.node and frame.plain


def is_relayed(profile: CanProfile, frame: CanFrame) -> bool:
    """Whether a frame of the gantry goes on to the host; an error frame is the controller's report, not a frame."""
    return not frame.error and not is_answer(profile, frame)


def _name_of(frame: CanFrame, node: int) -> str:
    """What a refused frame is, for people."""
    if frame.id == 0x000:
        command = frame.data[0] if frame.data else 0
        return f"NMT command {command:02X}h"
    if frame.id in (0x7E4, 0x7E5):
        return "layer setting services (LSS)"
    if 0x600 < frame.id < 0x680 and frame.id != 0x600 + node:
        return "an SDO request to another node"
    return f"a frame {frame.id:03X}h"
