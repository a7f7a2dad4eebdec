"""What a host writes and asks for over CANopen, routed by the profile: its end of the channel, and process data.

Pure. Whole values only: whatever is wrong with a transfer has ended it before anything here hears of it.
"""

from __future__ import annotations

from scanward.codecs.canopen_profile import CanProfile, FieldMap, FrameClass, FrameRule, ObjectRule
from scanward.codecs.canopen_sdo import Abort, Address, Download, Transfer, Upload, address_text
from scanward.codecs.canopen_sdo_client import Outcome
from scanward.codecs.canopen_sdo_server import Step
from scanward.codecs.canopen_types import SHAPES, decode_raw, size_of
from scanward.errors import DecodeError
from scanward.links.base import Side
from scanward.links.can_loads import Loads
from scanward.links.can_motions import Motions
from scanward.links.can_wire import Operation, Wire
from scanward.transport.can_frames import CanFrame


class HostSide:
    """Requests of the host."""

    def __init__(self, wire: Wire, loads: Loads, motions: Motions) -> None:
        self.profile = wire.profile
        self._wire = wire
        self._loads = loads
        self._motions = motions
        self._fields = _fields(wire.profile)

    def process_data(self, frame: CanFrame, rule: FrameRule) -> None:
        """Process data that the profile knows."""
        wire = self._wire
        if not wire.gantry_up:
            wire.report(Side.HOST, f"refused in {frame.id:03X}h: the gantry is not there", frame.data)
        elif rule.kind is FrameClass.PARAMETER:
            self._process_parameters(frame, rule)
        else:
            try:
                self._acts(frame, rule)
            except DecodeError as error:
                wire.report(Side.HOST, f"refused in {frame.id:03X}h: {error.what}", frame.data)

    def _acts(self, frame: CanFrame, rule: FrameRule) -> None:
        """A trigger or a motion."""
        values = rule.pattern.values(frame.data)
        if rule.kind is FrameClass.TRIGGER:
            self._loads.triggered(int(values["element"]) - rule.first, frame=frame)
            return
        speed = rule.speed if rule.speed is not None else rule.speed_scale.value(_number(values["speed"]))
        target = rule.scale.value(_number(values["target"]))
        self._motions.asked((rule.axis, target, speed), frame=frame)

    def _process_parameters(self, frame: CanFrame, rule: FrameRule) -> None:
        """Process data come again and again: what says nothing new changes nothing, and was looked at before."""
        wire = self._wire
        entries = rule.pattern.entries(frame.data)
        if any(wire.mirror.known(address) != data for address, data in entries.items()):
            try:
                for address, data in entries.items():
                    self._decode(self.profile.objects[address], data)
            except DecodeError as error:
                wire.report(Side.HOST, f"refused in {frame.id:03X}h: {error.what}", frame.data)
                return
            if self._loads.locked:
                wire.report(Side.HOST, f"a parameter in {frame.id:03X}h was withheld", frame.data)
                return
            self._loads.changed()
            self._motions.void("a parameter was written")
            for address in entries:
                wire.mirror.forget(address)
        wire.out.gantry.append(frame)

    def may(self, address: Address, write: bool, size: int | None) -> int:
        """Whether a transfer may begin."""
        if not write:
            entry = self.profile.entries.get(address)
            if entry is None:
                return Abort.NO_OBJECT
            return 0 if entry.readable and entry.kind in SHAPES else Abort.WRITE_ONLY
        rule = self.profile.objects.get(address)
        if rule is None:
            self._wire.report(Side.HOST, f"refused: a write to {address_text(address)}")
            return Abort.ACCESS
        own = size_of(rule.entry.kind)
        if own is not None and size is not None and size != own:
            return Abort.LENGTH
        return 0

    def served(self, step: Step, data: bytes) -> None:
        """What the host's end of the channel made of a frame."""
        wire = self._wire
        if step.gave_up:
            self.gave_up()
        wire.send_host(step.replies)
        if step.fault:
            wire.report(Side.HOST, step.fault, data)
        if step.request is None:
            return
        wire.ticket += 1
        if not self._wire.gantry_up:
            wire.deny(wire.ticket, Abort.DEVICE_STATE)
        elif isinstance(step.request, Upload):
            self._read(step.request, wire.ticket)
        else:
            self._wrote(step.request, wire.ticket)

    def gave_up(self) -> None:
        """The host waits for nothing any more."""
        self._wire.ticket += 1
        self._loads.gave_up()
        self._motions.gave_up()

    def _read(self, request: Upload, ticket: int) -> None:
        wire = self._wire

        def done(outcome: Outcome) -> None:
            if outcome.code:
                wire.deny(ticket, outcome.code)
            else:
                wire.give(ticket, outcome.data or b"")

        if not wire.channel.submit(Operation(request.address, None, request.transfer, done, "host")):
            wire.deny(ticket, Abort.MEMORY)

    def _wrote(self, request: Download, ticket: int) -> None:
        wire = self._wire
        address, rule = request.address, self.profile.objects[request.address]
        data = request.data
        if not request.told:
            data = data[: size_of(rule.entry.kind) or len(data)]
        try:
            raw = self._decode(rule, data)
        except DecodeError as error:
            wire.report(Side.HOST, f"refused for {address_text(address)}: {error.what}", data)
            wire.deny(ticket, Abort.VALUE)
            return
        match rule.kind:
            case FrameClass.TRIGGER:
                self._loads.triggered(int(raw) - rule.first, ticket, address, data)
            case FrameClass.MOTION:
                self._motion(rule, _number(raw), ticket, data)
            case _ if self._loads.locked:
                wire.deny(ticket, Abort.DEVICE_STATE)
            case FrameClass.PREPARE:
                self._loads.prepare()
                self._forward(request.transfer, address, data, ticket)
            case _ if not rule.inert:
                self._loads.held_write(ticket, address, data)
            case _:
                self._loads.changed()
                self._motions.void("a parameter was written")
                wire.mirror.forget(address)
                self._forward(request.transfer, address, data, ticket)

    def _forward(self, transfer: Transfer, address: Address, data: bytes, ticket: int) -> None:
        """An inert entry: passed on whole, and in the mirror once the gantry has taken it."""
        wire = self._wire

        def done(outcome: Outcome) -> None:
            if outcome.code:
                wire.mirror.forget(address)
                wire.deny(ticket, outcome.code)
            else:
                wire.mirror.confirm(address, data)
                wire.accept(ticket)

        if not wire.channel.submit(Operation(address, data, transfer, done, "host")):
            wire.deny(ticket, Abort.MEMORY)

    def _motion(self, rule: ObjectRule, raw: int | float, ticket: int, data: bytes) -> None:
        """The speed lies in an entry of its own: read first when it is not confirmed."""
        wire, address = self._wire, rule.entry.address

        def ask(speed: float) -> None:
            key = (rule.axis, rule.scale.value(raw), speed)
            self._motions.asked(key, ticket, address, data)

        if isinstance(rule.speed, float):
            ask(rule.speed)
            return
        assert rule.speed is not None
        place = rule.speed
        kind = self.profile.entries[place].kind
        known = wire.mirror.known(place)
        if known is not None:
            ask(rule.speed_scale.value(_number(decode_raw(kind, known))))
            return

        def done(found: dict[Address, bytes] | None, problem: str) -> None:
            try:
                if found is None:
                    raise DecodeError(problem)
                speed = rule.speed_scale.value(_number(decode_raw(kind, found[place])))
            except DecodeError as error:
                wire.report(Side.GANTRY, f"the speed of a motion: {error.what}")
                wire.deny(ticket, Abort.DEVICE_STATE)
                return
            wire.mirror.confirm(place, found[place])
            if ticket == wire.ticket:
                ask(speed)

        wire.read_all([place], "read", done)

    def _decode(self, rule: ObjectRule, data: bytes) -> int | float | str:
        """The raw value, when it is one of the entry, within the data sheet's limits, and of the field."""
        entry = rule.entry
        raw = decode_raw(entry.kind, data)
        if isinstance(raw, int) and not (entry.low is None or raw >= entry.low):
            raise DecodeError(f"{raw} is below {entry.low}")
        if isinstance(raw, int) and not (entry.high is None or raw <= entry.high):
            raise DecodeError(f"{raw} is above {entry.high}")
        if rule.value is not None and raw != rule.value:
            raise DecodeError(f"{raw} is not {rule.value}")
        if (part := self._fields.get(entry.address)) is not None:
            part.value(data)
        return raw


def _fields(profile: CanProfile) -> dict[Address, FieldMap]:
    parts = (*profile.chain.shared, *(part for element in profile.chain.fields for part in element))
    return {part.entry.address: part for part in parts}


def _number(raw: int | float | str) -> int | float:
    if isinstance(raw, str):
        raise DecodeError("a text for a number")
    return raw
