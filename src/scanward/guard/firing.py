"""Triggers: one arming permits one, after its record is durable."""

from __future__ import annotations

import math

from scanward.commands.wire import Motion, Trigger
from scanward.guard.arming import Armed, runtime_command, why_not
from scanward.guard.core import GateCore, Shot
from scanward.guard.events import Durable, Event, Log, Said
from scanward.guard.states import Firing, Pending, Phase


class FiringActions(GateCore):
    """The acts of the trigger machine."""

    def _firing_due(self) -> float:
        return self.shot.since + self._record_wait() if self.shot else math.inf

    def _record_wait(self) -> float:
        committed = self.phase is Phase.COMMITTED
        return self.rules.committed_record_seconds if committed else self.rules.record_seconds

    def _check(self, event: Event) -> None:
        assert isinstance(event, Said)
        trigger = event.message
        assert isinstance(trigger, Trigger)
        why, again = self._why_not(trigger, event.connection)
        armed = self.armed
        if why:
            if self.shadow and event.connection == self.host:
                self.alert(f"shadow mode: would refuse a trigger: {why}", id=trigger.id)
                self.record("sent", {"id": trigger.id, "shadow": True})
                self.send_gantry(trigger)
            else:
                self.refuse(trigger.id, why, again=again, connection=event.connection)
                self.tell("trigger_refused", {"id": trigger.id, "load": trigger.load, "reason": why})
            return
        assert armed is not None
        forecast = armed.findings[trigger.element].forecast
        token = self.record(
            "trigger",
            {
                "id": trigger.id,
                "load": trigger.load,
                "element": trigger.element,
                "examination": armed.load.examination,
                "patient": armed.load.patient,
                "command": runtime_command(armed.load.chain[trigger.element].command, trigger),
                "forecast": forecast,
            },
            reserved=True,  # what was released and armed may still run when the disk is full
        )
        self.shot = Shot(trigger, armed, forecast, token, self.now)
        self.firing = Firing.RECORDING
        if self.log is Log.FAILED and self.phase is Phase.COMMITTED:
            self._unrecorded()

    def _why_not(self, trigger: Trigger, connection: int) -> tuple[str, bool]:
        """Why a trigger is refused, and whether sending it again later can help."""
        if self.phase is Phase.BEAM:
            return "the beam is on", True
        if self.pending is Pending.CONFIRMING:
            return "the chain is not armed yet", True
        if trigger.id in self.moving:  # the gantry's refusal of the one would be taken for that of the other
            return f"the id {trigger.id} is in use", True
        armed = self.armed
        if armed is None and self.pending is not Pending.NONE:
            return "the load is not released yet", True
        why = why_not(armed, trigger, connection, self.rules.runtime)
        if why:
            return why, False
        assert armed is not None
        if any(isinstance(item.message, Motion) for item in self.queue):
            return "a motion comes first", True  # order is kept among commands
        if self.log is Log.FAILED and self.phase is not Phase.COMMITTED:
            return "the audit log has failed", True
        return self._dose(armed, trigger), False

    def _dose(self, armed: Armed, trigger: Trigger) -> str:
        """Delivered plus forecast, once more: an examination goes on while dose reports come in."""
        forecast = (armed.findings[trigger.element].forecast,)
        rules = self.mode_rules
        for ledger in self.ledgers_of(armed.load):
            over = ledger.over(forecast, rules.absolute)
            if over:
                return over
            over = ledger.over(forecast, rules.alert)
            if over and self.phase is Phase.COMMITTED:
                self.alert(over, load=armed.load.id, element=trigger.element)
            elif over and not (armed.accepted or self.emergency):
                return over
        return ""

    def _fire(self, event: Event) -> None:
        assert isinstance(event, Durable)
        assert self.shot is not None
        if event.token >= self.shot.token and not self._withdrawn():
            self._pass_trigger()

    def _pass_trigger(self) -> None:
        shot = self.shot
        assert shot is not None
        self.settle()  # an element whose end was never told has delivered its forecast
        shot.armed.used[shot.trigger.element] += 1
        self.send_gantry(shot.trigger)
        self.shot, self.firing = None, Firing.NONE
        shot.since = self.now
        self.beam, self.phase = shot, Phase.BEAM
        self.note_sent(shot.armed, shot.trigger, "trigger", shot.token)

    def note_sent(self, armed: Armed, trigger: Trigger, by: str, token: int = 0) -> None:
        """Remember a command that was carried out: it is the history of what comes next."""
        command = runtime_command(armed.load.chain[trigger.element].command, trigger)
        data: dict[str, object] = {
            "id": trigger.id,
            "load": trigger.load,
            "element": trigger.element,
            "by": by,
        }
        if by == "auto":
            data |= {"command": command, "examination": armed.load.examination, "patient": armed.load.patient}
            data["forecast"] = armed.findings[trigger.element].forecast
        self.record("sent", {**data, "token": token}, reserved=True)
        if armed.load.examination:
            sent = self.ledgers.of(f"e:{armed.load.examination}").sent
            sent.append(command)
            del sent[: -self.rules.history]

    def _withdrawn(self) -> bool:
        """Withdraw a trigger whose arming is void by now (expired, for one), or that would go into a beam."""
        if self.shot is None or (self.armed is self.shot.armed and self.phase is not Phase.BEAM):
            return False
        self.withdraw_shot("the arming is void, or the beam is on")
        return True

    def _fire_late(self, _: Event) -> None:
        if self._withdrawn() or self.now < self._firing_due():
            return
        if self.phase is Phase.COMMITTED:
            self._unrecorded()
        else:
            self.withdraw_shot("its audit record did not become durable")

    def _unrecorded(self) -> None:
        """A patient with contrast on board does not wait for a disk (docs/hazards.md, B1)."""
        assert self.shot is not None
        self.alert("a trigger was passed on before its record was durable", id=self.shot.trigger.id)
        self._pass_trigger()

    def _withdraw(self, _: Event) -> None:
        self.withdraw_shot("a stop, or a connection is gone")

    def _withdraw_if_void(self, _: Event) -> None:
        if self._withdrawn():
            return
        if self.log is Log.FAILED:
            if self.phase is Phase.COMMITTED:
                self._unrecorded()
            else:
                self.withdraw_shot("the audit log has failed")
