"""What the gantry's process data and emergencies tell, as messages. Pure; the frames themselves are relayed anyway."""

from __future__ import annotations

from scanward.codecs.canopen_profile import CanProfile, ObserveRule, Says, Scale
from scanward.codecs.canopen_types import Raw
from scanward.commands.wire import Done, GantryState, Injection, Moved, Started, Status, Stopped
from scanward.errors import DecodeError
from scanward.links.base import Side
from scanward.links.can_loads import Loads
from scanward.links.can_motions import Motions
from scanward.links.can_wire import Wire
from scanward.transport.can_frames import CanFrame

_EMERGENCY = 0x080


class Observer:
    """Turns frames into messages, and tells the loads what ended."""

    def __init__(self, wire: Wire, loads: Loads, motions: Motions) -> None:
        self._wire = wire
        self._loads = loads
        self._motions = motions
        self._status: Status | None = None

    def reset(self) -> None:
        """The gantry is gone."""
        self._status = None

    def frame(self, frame: CanFrame) -> None:
        """One frame of the gantry that is no heartbeat and no SDO answer."""
        profile: CanProfile = self._wire.profile
        if not frame.plain:
            return
        if frame.id == _EMERGENCY + profile.node:
            self._emergency(frame.data)
            return
        for rule in profile.observed.get(frame.id, ()):
            if rule.pattern.matches(frame.data):
                try:
                    self._says(rule, rule.pattern.values(frame.data))
                except DecodeError as error:
                    self._wire.report(Side.GANTRY, f"in {frame.id:03X}h: {error.what}", frame.data)
                return

    def _emergency(self, data: bytes) -> None:
        """EMCY (CiA 301, 7.2.7): error code, error register, five bytes of the maker."""
        if len(data) != 8:
            self._wire.report(Side.GANTRY, f"an emergency of {len(data)} bytes", data)
            return
        code = int.from_bytes(data[:2], "little")
        state = self._status.state if self._status else GantryState.READY
        self._say_status(Status(state, f"emergency {code:04X}h" if code else "no emergency any more"))

    def _says(self, rule: ObserveRule, values: dict[str, Raw]) -> None:
        wire, loads = self._wire, self._loads
        element = int(values.get("element", 0)) - rule.first
        if rule.says in (Says.STARTED, Says.DONE, Says.ABORTED) and element < 0:
            raise DecodeError(f"element {element + rule.first}")
        match rule.says:
            case Says.STARTED:
                loads.started(element)
                wire.gantry_said(Started(loads.beam_load, element))
            case Says.DONE | Says.ABORTED:
                aborted = rule.says is Says.ABORTED
                dose, length = _scaled(rule, values, "CTDIvol"), _scaled(rule, values, "DLP")
                wire.gantry_said(Done(loads.beam_load, element, dose, length, aborted))
                loads.ended(element, aborted)
            case Says.INJECTION:
                loads.injected = True
                load = loads.current
                wire.gantry_said(Injection(load.name if load else loads.beam_load))
            case Says.MOVED:
                position = _scaled(rule, values, "position")
                wire.gantry_said(Moved(self._motions.sent, 0.0 if position is None else position))
            case Says.STOPPED:
                loads.safe()
                wire.gantry_said(Stopped(rule.stop))
            case Says.STATUS:
                if rule.state is GantryState.SAFE:
                    loads.safe()
                    loads.stopped()
                self._say_status(Status(rule.state))

    def _say_status(self, status: Status) -> None:
        """Said when it changes: a gantry repeats it with every SYNC."""
        if status != self._status:
            self._status = status
            self._wire.gantry_said(status)


def _scaled(rule: ObserveRule, values: dict[str, Raw], name: str) -> float | None:
    raw = values.get(name)
    if raw is None or isinstance(raw, str):
        return None
    return rule.scales.get(name, Scale()).value(raw)
