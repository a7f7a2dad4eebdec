"""The gate: holds each command until it is judged. Events and ``now`` in, effects out.

It does no I/O and reads no clock. Three tables (``states``) say what is done; the methods below, and those of
``pending`` and ``firing``, do it. An effect is an order to the relay, to be carried out in the order given.
What must hold is in docs/threat-model.md and proved in ``tests/test_guard_invariants.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from scanward.commands import Command, Mode
from scanward.commands.wire import (
    Cancel,
    Channel,
    Declined,
    Done,
    Heartbeat,
    Load,
    Motion,
    Moved,
    Started,
    Stop,
    StopKind,
    Trigger,
)
from scanward.guard.arming import Armed
from scanward.guard.core import GateCore, GateError, GateView, Item, Shot
from scanward.guard.events import (
    Bound,
    Changed,
    Close,
    Delivered,
    Drop,
    Effect,
    EmergencySet,
    Event,
    Forecast,
    GantryLost,
    GantrySaid,
    GateRules,
    HostLost,
    HostUp,
    LogIs,
    Malformed,
    ModeSet,
    Said,
    SendGantry,
    SendHost,
)
from scanward.guard.firing import FiringActions
from scanward.guard.pending import PendingActions
from scanward.guard.signs import sign_of
from scanward.guard.states import (
    FIRING_TABLE,
    PENDING_TABLE,
    PHASE_TABLE,
    Do,
    Pending,
    Phase,
)


class Gate(PendingActions, FiringActions, GateCore):
    """One gate between one host and one gantry.

    Parameters
    ----------
    rules : GateRules
        From the signed policy and device profile.
    mode : Mode
        The mode to begin in; set locally, never by the host.
    """

    def __init__(self, rules: GateRules, mode: Mode = Mode.CLINICAL) -> None:
        super().__init__(rules, mode)
        self._acts: dict[Do, Callable[[Event], None]] = {
            do: getattr(self, f"_{do.value}") for do in Do if do is not Do.NOTHING
        }

    def handle(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Everything that follows from one event at ``now`` (s, monotonic; a step back counts as none).

        Raises
        ------
        GateError
            When a state follows that the tables do not allow. Nothing is to be carried out then.
        """
        self.now = max(self.now, now)
        self._out = []
        sign = sign_of(event)
        for table, name in ((PHASE_TABLE, "phase"), (PENDING_TABLE, "pending"), (FIRING_TABLE, "firing")):
            row = table[getattr(self, name), sign]
            if row.do is not Do.NOTHING:
                self._acts[row.do](event)
            if getattr(self, name) not in row.to:
                raise GateError(f"{name} {getattr(self, name)} does not follow {sign} by {row.do}")
        self._pump()
        return tuple(self._out)

    def due(self) -> float:
        """When the next Tick can matter, on the gate's clock; infinity when nothing waits."""
        return min(self._phase_due(), self._pending_due(), self._firing_due())

    def view(self) -> GateView:
        """A snapshot."""
        return GateView(
            self.phase,
            self.pending,
            self.firing,
            self.mode,
            self.log,
            self.host,
            self.gantry,
            tuple(item.message.id for item in self.queue),
            self.head.request if self.pending is Pending.HELD else 0,
            self.armed.load.id if self.armed else "",
            tuple(self.armed.used) if self.armed else (),
            self.emergency_until,
        )

    def restore(
        self, examination: str, patient: str, sent: tuple[Command, ...], doses: tuple[Forecast, ...]
    ) -> None:
        """What the audit log tells of an examination, after a restart. Nothing is armed by it."""
        keys = [key for key in (f"e:{examination}", f"p:{patient}") if len(key) > 2] or ["unnamed"]
        for key in keys:
            ledger = self.ledgers.of(key)
            if key.startswith("e:"):
                ledger.sent.extend(sent)
            for dose in doses:
                ledger.add(dose)

    def _phase_due(self) -> float:
        if self.phase is Phase.BEAM and self.beam is not None:
            return self.beam.since + self.rules.beam_seconds
        if self.armed is not None and self.phase in (Phase.LOADED, Phase.COMMITTED):
            return self.armed.since + self._patience()
        return math.inf

    def _patience(self) -> float:
        return self.rules.arming_seconds if self.phase is Phase.LOADED else self.rules.committed_seconds

    # --- connections ---------------------------------------------------------------------------------------

    def _greet(self, event: Event) -> None:
        assert isinstance(event, HostUp)
        if event.channel is not Channel.COMMANDS:
            return
        if self.host:
            self._out.append(Close(event.connection, "another host is connected"))
            self.alert("a second host tried to connect", connection=event.connection)
            return
        self.host = event.connection
        self.moving.clear()
        self.record("host", {"connection": event.connection, "up": True})

    def _gantry_ready(self, _: Event) -> None:
        self.gantry = True
        self.record("gantry", {"up": True})

    def _lose_host(self, event: Event) -> None:
        assert isinstance(event, HostLost)
        if event.connection != self.host:
            return
        self.host, self.latest = 0, None
        self.record(
            "host", {"connection": event.connection, "up": False, "reason": event.reason}, reserved=True
        )
        began = self.phase in (Phase.COMMITTED, Phase.BEAM)
        # An idle gantry only has to forget the chain. One at work must know that its host is gone: it does
        # what it would do without a guard.
        self.void("the host is gone", at_gantry=not began)
        self.phase = Phase.IDLE
        if began:
            self.settle()
            self._out.append(Drop("the host is gone"))

    def _lose_gantry(self, event: Event) -> None:
        assert isinstance(event, GantryLost)
        self.gantry = False
        self.moving.clear()
        self.void("the gantry is gone", at_gantry=False)
        self.settle()
        self.record("gantry", {"up": False, "reason": event.reason}, reserved=True)
        self.tell("gantry_lost", {"reason": event.reason})
        self.phase = Phase.IDLE

    def _offence(self, event: Event) -> None:
        if isinstance(event, Said):  # a message that a host has no business to send here
            event = Malformed("host", f"unexpected {type(event.message).__name__}", "", event.connection)
        assert isinstance(event, Malformed)
        self.alert(
            f"malformed from the {event.side}: {event.reason}",
            digest=event.digest,
            connection=event.connection,
        )
        if event.side == "gantry":
            self._out.append(Drop(f"the gantry sends what is no message: {event.reason}"))
        elif event.connection:
            self._out.append(Close(event.connection, event.reason))

    # --- the host's messages -------------------------------------------------------------------------------

    def _admit(self, event: Event) -> None:
        assert isinstance(event, Said)
        message = event.message
        assert isinstance(message, Load | Motion)
        why = self._why_not_admit(message, event.connection)
        if why:
            self.refuse(message.id, why, again=True, connection=event.connection)
            return
        if isinstance(message, Load):
            waiting = [item for item in list(self.queue)[1:] if item.load is not None]
            for item in waiting:
                self.queue.remove(item)
                self.refuse(item.message.id, "replaced by a newer load", connection=item.connection)
        item = self.item(message, event.connection)
        self.queue.append(item)
        self.latest = item.load or self.latest
        self.record("load" if item.load else "motion", self._told(item))

    @staticmethod
    def _told(item: Item) -> dict[str, object]:
        load = item.load
        if load is None:
            return {"id": item.message.id, "digest": item.digest, "motion": item.message}
        return {
            "id": load.id,
            "digest": item.digest,
            "examination": load.examination,
            "patient": load.patient,
            "triggers": load.triggers,
            "chain": load.chain,
        }

    def _why_not_admit(self, message: Load | Motion, connection: int) -> str:
        if connection != self.host:
            return "only the host's command connection may send this"
        if not self.gantry:
            return "the gantry is not connected"
        if message.id in self.moving:
            return f"the id {message.id} is in use"
        if isinstance(message, Load):
            if not 0 < len(message.chain) <= self.rules.chain:
                return f"a chain has 1 to {self.rules.chain} elements, this has {len(message.chain)}"
            if any(item.message.id == message.id for item in self.queue):
                return f"the id {message.id} is in use"
            if self.armed is not None and self.armed.load.id == message.id:
                return f"the id {message.id} is in use"
        elif len(self.queue) >= self.rules.queue:
            return f"{len(self.queue)} commands wait already"
        return ""

    def _supersede(self, event: Event) -> None:
        assert isinstance(event, Said)
        if event.connection == self.host:
            self.void("a new load", at_gantry=True)
            self.phase = Phase.IDLE
        else:  # who may not load may not void either
            self.phase = Phase.LOADED
        self._admit(event)

    def _busy(self, event: Event) -> None:
        assert isinstance(event, Said)
        message = event.message
        if self.shadow and isinstance(message, Load | Motion):
            self._admit(event)
            return
        assert isinstance(message, Load | Motion | Trigger)
        self.refuse(message.id, "the gantry is at work", again=True, connection=event.connection)

    def _stop(self, event: Event) -> None:
        assert isinstance(event, Said)
        assert isinstance(event.message, Stop)
        self._out.append(SendGantry(event.message))  # first of all, connected or not: the link knows
        if self.phase is Phase.BEAM and event.message.what is StopKind.MOTION and not self.shadow:
            # A beam whose table stands gives all its dose to one place; and IDLE must mean that no beam is on.
            self.send_gantry(Stop(StopKind.BEAM))
        self.void("a stop", at_gantry=True)
        self.phase = Phase.IDLE
        self.record("stop", {"what": event.message.what, "connection": event.connection}, reserved=True)
        self.tell("stop", {"what": event.message.what})

    def _cancel(self, event: Event) -> None:
        assert isinstance(event, Said)
        message = event.message
        assert isinstance(message, Cancel)
        if event.connection != self.host:
            return
        known = self.armed is not None and self.armed.load.id == message.load
        if known or self.shadow:
            self.send_gantry(message)
        if known:
            self.void("the host gave it up", at_gantry=False)
            if self.phase is not Phase.BEAM:
                self.phase = Phase.IDLE
        self.record("cancel", {"load": message.load})

    def _housekeep(self, event: Event) -> None:
        assert isinstance(event, Said)
        assert isinstance(event.message, Heartbeat)
        if event.connection == self.host:
            self.send_gantry(event.message)

    # --- the gantry's messages -----------------------------------------------------------------------------

    def _news(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        self._out.append(SendHost(event.message))
        if isinstance(event.message, Moved | Declined) and event.message.id in self.moving:
            self.moving.remove(event.message.id)

    def _commit(self, event: Event) -> None:
        self._news(event)
        self.phase = Phase.COMMITTED
        assert self.armed is not None
        self.armed.since = self.now
        self.record("committed", {"load": self.armed.load.id, "by": "injection"})

    def _started(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        message = event.message
        assert isinstance(message, Started)
        if self.phase is Phase.BEAM:
            current = self.beam
            if current and (current.armed.load.id, current.trigger.element) == (
                message.load,
                message.element,
            ):
                current.begun = True
                self._news(event)
            else:
                self._stray_beam(event)
            return
        armed = self.armed
        if (
            armed is None
            or armed.load.id != message.load
            or armed.next != message.element
            or not armed.load.chain[message.element].auto
        ):
            self._stray_beam(event)
            return
        forecast = (armed.findings[message.element].forecast,)
        absolute = self.mode_rules.absolute
        over = next((o for x in self.ledgers_of(armed.load) if (o := x.over(forecast, absolute))), "")
        if over and not self.shadow:  # what was acknowledged since the verdict: absolute caps hold always
            self._stray_beam(event, over)
            return
        # An element that starts by itself was judged, and armed, with its chain.
        armed.used[message.element] += 1
        trigger = Trigger(f"auto-{message.load}-{message.element}", message.load, message.element)
        self.beam = Shot(trigger, armed, armed.findings[message.element].forecast, 0, self.now, begun=True)
        self.phase = Phase.BEAM
        self._news(event)
        self.note_sent(armed, trigger, "auto")

    def _stray_beam(self, event: Event, why: str = "") -> None:
        assert isinstance(event, GantrySaid)
        assert isinstance(event.message, Started)
        message = event.message
        self._news(event)
        if not self.shadow:
            self.send_gantry(Stop(StopKind.BEAM))
            self.void(why or "a beam that was not released", at_gantry=True)
            self.settle()
            self.phase = Phase.IDLE
        why = f"stopped what began by itself: {why}" if why else "the beam is on and was not released"
        self.alert(why, load=message.load, element=message.element)

    def _done(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        message = event.message
        assert isinstance(message, Done)
        self._news(event)
        current = self.beam
        if current is None or (current.armed.load.id, current.trigger.element) != (
            message.load,
            message.element,
        ):
            self.alert(
                "the gantry ends an element that was not begun", load=message.load, element=message.element
            )
            return
        self.settle(ctdivol=message.ctdivol, dlp=message.dlp, aborted=message.aborted)
        if self.phase is Phase.BEAM:
            self.phase = self.end_of_element()

    def _undone(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        message = event.message
        assert isinstance(message, Declined)
        self._news(event)
        current = self.beam
        if current is None or current.begun or current.trigger.id != message.id:
            return  # a beam that was on is not undone by a name that the host chose
        self.beam = None  # nothing was delivered; the arming of this element is spent all the same
        self.record("declined", {"id": message.id, "reason": message.reason})
        self.phase = self.end_of_element()

    # --- what changes around an examination ----------------------------------------------------------------

    def _void_changed(self, event: Event) -> None:
        assert isinstance(event, Changed)
        armed = self.armed
        if armed and _concerns(event, armed):
            self.void(f"the {event.what} changed", at_gantry=True)
            self.phase = Phase.IDLE

    def _note_changed(self, event: Event) -> None:
        assert isinstance(event, Changed)
        armed = self.armed or (self.beam.armed if self.beam else None)
        if armed and _concerns(event, armed):
            self.alert(f"the {event.what} changed after the chain was begun", load=armed.load.id)

    def _set_mode(self, event: Event) -> None:
        assert isinstance(event, ModeSet)
        if event.mode not in self.rules.modes:
            self.tell("mode_refused", {"mode": event.mode, "reason": "the policy has no rules for it"})
            return
        self.void("the mode changed", at_gantry=True)
        self.phase = Phase.IDLE
        self.mode = event.mode
        self.record("mode", {"mode": event.mode, "operator": event.operator}, reserved=True)
        self.tell("mode", {"mode": event.mode})

    def _keep_mode(self, event: Event) -> None:
        assert isinstance(event, ModeSet)
        self.tell("mode_refused", {"mode": event.mode, "reason": "an examination is under way"})

    def _set_emergency(self, event: Event) -> None:
        assert isinstance(event, EmergencySet)
        self.emergency_until = event.until
        data = {"until": event.until, "on": self.emergency, "operator": event.operator}
        self.record("emergency", data, reserved=True)
        self.tell("emergency", data)

    def _note_log(self, event: Event) -> None:
        assert isinstance(event, LogIs)
        if event.condition is not self.log:
            self.log = event.condition
            self.tell("log", {"condition": event.condition})

    def _raise_dose(self, event: Event) -> None:
        assert isinstance(event, Delivered)
        ledger = self.ledgers.of(f"e:{event.examination}")
        told, known = event.forecast, event.forecast.phantom
        more = replace(
            told,
            ctdivol=max(0.0, told.ctdivol - ledger.peak(known)),
            dlp=max(0.0, told.dlp - ledger.dlp.get(known, 0.0)),
        )
        if more.ctdivol > 0 or more.dlp > 0:
            ledger.add(more)
            self.record("dose_report", {"examination": event.examination, "dose": more})

    # --- time ----------------------------------------------------------------------------------------------

    def _expire(self, _: Event) -> None:
        if self.armed is not None and self.now >= self.armed.since + self._patience():
            self.void("the arming expired", at_gantry=True)
            self.phase = Phase.IDLE

    def _end_beam(self, _: Event) -> None:
        if self.beam is not None and self.now >= self.beam.since + self.rules.beam_seconds:
            if not self.shadow:
                self.send_gantry(Stop(StopKind.BEAM))
            self.alert("the beam did not end in time", load=self.beam.trigger.load)
            self.settle()
            self.void("the beam did not end in time", at_gantry=True)
            self.phase = Phase.IDLE

    # --- between the tables --------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin with the next in the queue, and pass on what waited only for the beam to end."""
        if self.pending is Pending.RECORDING and self.head.durable:
            self.pass_on_head()
        if self.pending is Pending.NONE and self.queue:
            self.ask(self.head)
        nothing_left = self.armed is None and not any(item.load for item in self.queue)
        if self.phase is Phase.COMMITTED and nothing_left:
            self.phase = Phase.IDLE  # what was to replace the rest of the chain came to nothing


def _concerns(changed: Changed, armed: Armed) -> bool:
    """Whether what changed is what ``armed`` is bound to."""
    if changed.what is Bound.POLICY:
        return changed.digest != armed.policy
    if changed.what is Bound.BUNDLE:
        return changed.digest != armed.bundle
    return changed.examination in ("", armed.load.examination)
