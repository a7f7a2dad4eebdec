"""The emulated gantry: a pure state machine. Messages and ``now`` in, messages out; no socket, no clock.

    READY --trigger--> MOVING --at the start--> BEAM --> READY (or MOVING: the next element is automatic)
    READY --motion---> MOVING --> READY
    any   --link lost--> SAFE --cleared in the room--> READY

It obeys whatever it is told within its hardware limits (``simulation.scanner``), as often as it is told: it knows
no patient, no protocol and no sense. Its interlocks are those of hardware: no beam while the table is moved, no
motion while there is beam, ends of travel, tube heat. ``now`` is in seconds on its own clock, which may be fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scanward.commands import Device, Value
from scanward.commands.wire import (
    Axis,
    Cancel,
    Declined,
    Done,
    Element,
    FromGantry,
    GantryState,
    Heartbeat,
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
    ToGantry,
    Trigger,
)
from scanward.emulator.room import Acquired, Room
from scanward.simulation.constants import Model
from scanward.simulation.elements import LOCALIZER, STATIONARY
from scanward.simulation.scanner import (
    MONITOR_INTERVAL_S,
    POSITIONING_MM_S,
    TRAVEL,
    Performed,
    capacity,
    cooled,
    forward,
    magnified,
    part_of,
    perform,
    refusal,
)

Out = tuple[FromGantry, ...]


@dataclass(frozen=True, slots=True)
class _Moving:
    """The table (or the gantry's tilt) is on its way; what begins when it is there."""

    axis: Axis
    begin: float
    end: float
    since: float
    until: float
    motion: str = ""  # id of the motion; empty on the way to a scan
    element: int = -1  # scan that begins afterwards


@dataclass(frozen=True, slots=True)
class _Beam:
    """The beam is on."""

    element: int
    scan: Performed
    since: float
    until: float
    arrived: bool = True  # False: a monitoring that saw no contrast


@dataclass
class Gantry:
    """One gantry with its room.

    Attributes
    ----------
    heat : float
        Heat units in the anode at ``heat_at`` (seconds).
    position : mapping of Axis to float
        Where table and tilt are.
    """

    model: Model
    device: Device
    room: Room = field(default_factory=Room)
    state: GantryState = GantryState.READY
    load: Load | None = None
    heat: float = 0.0
    heat_at: float = 0.0
    position: dict[Axis, float] = field(default_factory=lambda: dict.fromkeys(Axis, 0.0))
    _doing: _Moving | _Beam | None = None

    def __post_init__(self) -> None:
        self.position[Axis.TABLE_HEIGHT] = self.model.table_height

    # --- what comes in ----------------------------------------------------------------------------------
    def handle(self, message: ToGantry, now: float) -> Out:
        """One message from the host's side; what is due by ``now`` happens first."""
        before = self.tick(now)
        match message:
            case Stop():
                return before + self._stop(message.what, now)
            case Heartbeat():
                return before
            case Cancel():
                if self.load is not None and self.load.id == message.load and self._idle():
                    self.load = None
                return before
            case Load():
                return before + self._load(message)
            case Trigger():
                return before + self._trigger(message, now)
            case Motion():
                return before + self._move(message, now)

    def tick(self, now: float) -> Out:
        """Everything that is due by ``now``."""
        out: list[FromGantry] = []
        while self._doing is not None and self._doing.until <= now:
            doing, self._doing = self._doing, None
            out += self._arrived(doing) if isinstance(doing, _Moving) else self._ended(doing, doing.until)
        return tuple(out)

    @property
    def wake(self) -> float | None:
        """When something is due next; None while nothing is going on."""
        return None if self._doing is None else self._doing.until

    def lose_link(self, now: float, why: str) -> Out:
        """Nobody commands any more: beam off, motion off, nothing armed, until cleared in the room."""
        if self.state is GantryState.SAFE:
            return ()
        out = list(self.tick(now))
        out += self._halt(now, why, beam=True, motion=True)
        self.load = None
        self.state = GantryState.SAFE
        return (*out, Status(GantryState.SAFE, why))

    def clear(self, now: float) -> Out:
        """Somebody in the room cleared the safe state."""
        if self.state is not GantryState.SAFE:
            return ()
        return self._is(GantryState.READY, "cleared in the room")

    # --- messages ---------------------------------------------------------------------------------------
    def _idle(self) -> bool:
        return self._doing is None

    def _busy(self) -> str:
        """Why nothing can begin; empty when it can."""
        if self.state is GantryState.SAFE:
            return "safe state: has to be cleared in the room"
        if isinstance(self._doing, _Beam):
            return "the beam is on"
        return "moving" if self._doing is not None else ""

    def _load(self, load: Load) -> Out:
        scanning = isinstance(self._doing, _Beam) or (self._doing is not None and self._doing.element >= 0)
        if self.state is GantryState.SAFE or scanning:
            return (Declined(load.id, self._busy()),)
        for number, element in enumerate(load.chain):
            if why := refusal(self.model, element.command.parameters):
                return (Declined(load.id, f"element {number}: {why}"),)
        self.load = load
        return (Loaded(load.id, tuple(dict(e.command.parameters) for e in load.chain)),)

    def _trigger(self, trigger: Trigger, now: float) -> Out:
        why = self._busy()
        load = self.load
        if not why and (load is None or load.id != trigger.load):
            why = f"no load {trigger.load} is held"
        if not why and load is not None and not 0 <= trigger.element < len(load.chain):
            why = f"no element {trigger.element}"
        if why or load is None:
            return (Declined(trigger.id, why),)
        if trigger.runtime:
            load = self._changed(load, trigger.element, trigger.runtime)
            if why := refusal(self.model, load.chain[trigger.element].command.parameters):
                return (Declined(trigger.id, why),)
            self.load = load
        return self._begin(trigger.element, now, trigger.id)

    @staticmethod
    def _changed(load: Load, index: int, runtime: Mapping[str, Value]) -> Load:
        """The load with runtime fields of one element put in: hardware asks nobody for an envelope."""
        element = load.chain[index]
        command = replace(element.command, parameters={**element.command.parameters, **runtime})
        chain = list(load.chain)
        chain[index] = Element(command, element.auto)
        return replace(load, chain=tuple(chain))

    def _move(self, motion: Motion, now: float) -> Out:
        travel = TRAVEL[motion.axis]
        why = self._busy()
        if not why and not travel.low <= motion.target <= travel.high:
            why = f"beyond the end of travel ({travel.low:g} to {travel.high:g})"
        if not why and not 0 < motion.speed <= travel.speed:
            why = f"the drive runs at up to {travel.speed:g} per second"
        if why:
            return (Declined(motion.id, why),)
        here = self.position[motion.axis]
        until = now + abs(motion.target - here) / motion.speed
        self._doing = _Moving(motion.axis, here, motion.target, now, until, motion=motion.id)
        return self._is(GantryState.MOVING)

    def _stop(self, what: StopKind, now: float) -> Out:
        beam, motion = what is not StopKind.MOTION, what is not StopKind.BEAM
        out = self._halt(now, "stopped", beam=beam, motion=motion)
        if what is StopKind.ALL:
            self.load = None
        ready = self._is(GantryState.READY) if self._idle() and self.state is not GantryState.SAFE else ()
        return (*out, Stopped(what), *ready)

    # --- scans ------------------------------------------------------------------------------------------
    def _begin(self, index: int, now: float, who: str) -> Out:
        """To the start of a scan. ``who`` is told when the tube is too hot."""
        assert self.load is not None
        told = self.load.chain[index].command.parameters
        scan = perform(self.model, told, self.room.who, self.room.measured)
        if cooled(self.heat, now - self.heat_at) + scan.heat > capacity(self.model):
            return (Declined(who, "the tube is too hot"), *self._is(GantryState.READY))
        start = _place(told, "AcquisitionStartLocation", self.position[Axis.TABLE_Z])
        here = self.position[Axis.TABLE_Z]
        until = now + abs(start - here) / POSITIONING_MM_S
        self._doing = _Moving(Axis.TABLE_Z, here, start, now, until, element=index)
        return self._is(GantryState.MOVING)

    def _arrived(self, doing: _Moving) -> Out:
        self.position[doing.axis] = doing.end
        if doing.element < 0:
            if doing.axis is Axis.TABLE_HEIGHT:
                self.room.raised_to(doing.end, "motion")
            return (Moved(doing.motion, doing.end), *self._is(GantryState.READY))
        if self.load is None:
            return self._is(GantryState.READY)
        return self._beam_on(self.load, doing.element, doing.until)

    def _beam_on(self, load: Load, index: int, now: float) -> Out:
        told = load.chain[index].command.parameters
        height = _place(told, "TableHeight", self.position[Axis.TABLE_HEIGHT])
        self.position[Axis.TABLE_HEIGHT] = height
        self.position[Axis.GANTRY_TILT] = _place(told, "GantryDetectorTilt", 0.0)
        self.room.raised_to(height, f"element {index}")
        out: list[FromGantry] = []
        if self.room.injector_armed and told.get("ContrastBolusAgent") not in (None, "NONE"):
            self.room.inject(now)
            out.append(Injection(load.id))
        scan = perform(self.model, told, self.room.who, self.room.measured)
        lasts, arrived = scan.seconds, True
        if self._monitors(load, index):
            scan, lasts, arrived = self._monitoring(told, now)
        self._doing = _Beam(index, scan, now, now + lasts, arrived)
        out += [Started(load.id, index), *self._is(GantryState.BEAM)]
        return tuple(out)

    @staticmethod
    def _monitors(load: Load, index: int) -> bool:
        """A stationary scan whose successor starts by itself waits for contrast."""
        following = load.chain[index + 1 : index + 2]
        kind = load.chain[index].command.parameters.get("AcquisitionType")
        return bool(following) and following[0].auto and kind == STATIONARY

    def _monitoring(self, told: Mapping[str, Value], now: float) -> tuple[Performed, float, bool]:
        """One rotation a second until the contrast arrives, at most as many as told."""
        most = max(1, round(float(told["NumberOfRotations"])))
        arrival = self.room.arrival
        needed = most + 1
        if arrival is not None:
            needed = 1 + max(0, math.ceil((arrival - now) / MONITOR_INTERVAL_S - 1e-9))
        taken = min(needed, most)
        scan = perform(
            self.model, {**told, "NumberOfRotations": float(taken)}, self.room.who, self.room.measured
        )
        rotation = float(told.get("RevolutionTime", 0.5))
        return scan, (taken - 1) * MONITOR_INTERVAL_S + rotation, needed <= most

    def _ended(self, beam: _Beam, now: float) -> Out:
        load = self.load
        assert load is not None
        self._give(load, beam.element, beam.scan, beam.since, now, aborted=False)
        told = beam.scan.parameters
        if told.get("AcquisitionType") == LOCALIZER:
            height = self.position[Axis.TABLE_HEIGHT]
            self.room.measured = magnified(self.room.who.size, height, self.room.who.centre)
        else:
            self.position[Axis.TABLE_Z] = beam.scan.high if forward(told) else beam.scan.low
        done = _done(load.id, beam.element, beam.scan)
        following = beam.element + 1
        if following < len(load.chain) and load.chain[following].auto:
            if not beam.arrived:
                missed = Declined(load.id, "no contrast arrived: the automatic scan was not begun")
                return (done, missed, *self._is(GantryState.READY))
            return (done, *self._begin(following, now, load.id))
        return (done, *self._is(GantryState.READY))

    def _halt(self, now: float, why: str, *, beam: bool, motion: bool) -> list[FromGantry]:
        """Beam and motion off at once; what was given until now is counted."""
        doing = self._doing
        if isinstance(doing, _Beam):
            # a table that stops under a beam would burn one place: the interlock takes the beam away too
            beam = beam or doing.scan.parameters.get("AcquisitionType") != STATIONARY
        if isinstance(doing, _Beam) and beam and self.load is not None:
            self._doing = None
            share = (now - doing.since) / max(doing.until - doing.since, 1e-9)
            scan = part_of(doing.scan, share, forward(doing.scan.parameters))
            self._give(self.load, doing.element, scan, doing.since, now, aborted=True)
            return [replace(_done(self.load.id, doing.element, scan), aborted=True, reason=why)]
        if isinstance(doing, _Moving) and (motion or doing.element >= 0):
            self._doing = None
            share = (now - doing.since) / max(doing.until - doing.since, 1e-9)
            self.position[doing.axis] = doing.begin + min(1.0, share) * (doing.end - doing.begin)
            if doing.motion:
                return [Moved(doing.motion, self.position[doing.axis])]
            if self.load is not None:  # on the way to a scan that never began
                return [Done(self.load.id, doing.element, 0.0, 0.0, aborted=True, reason=why)]
        return []

    def _give(
        self, load: Load, index: int, scan: Performed, since: float, now: float, *, aborted: bool
    ) -> None:
        self.heat, self.heat_at = cooled(self.heat, now - self.heat_at) + scan.heat, now
        wants = load.chain[index].command.parameters.get("ContrastBolusAgent") not in (None, "NONE")
        images = scan.parameters.get("AcquisitionType") not in (STATIONARY, LOCALIZER)
        met = self.room.enhanced((since + now) / 2) if wants and images else None
        off = self.position[Axis.TABLE_HEIGHT] - self.room.who.centre
        self.room.record(
            Acquired(
                load.id, index, scan.parameters, scan.ctdivol, scan.dlp, scan.phantom_cm, scan.low, scan.high,
                scan.seconds, since, aborted, met, off,
            )
        )  # fmt: skip

    def _is(self, state: GantryState, detail: str = "") -> Out:
        if state is self.state and not detail:
            return ()
        self.state = state
        return (Status(state, detail),)


def _done(load: str, element: int, scan: Performed) -> Done:
    """Dose as the gantry tells it, rounded as the device rounds; None where its maker tells none."""
    if not scan.reported:
        return Done(load, element)
    return Done(load, element, round(scan.ctdivol, 2), round(scan.dlp, 2))


def _place(told: Mapping[str, Value], name: str, otherwise: float) -> float:
    value = told.get(name)
    return value if isinstance(value, float) else otherwise
