"""What becomes of the load or motion at the head of the queue: verdict, hold, record, pass on, echo."""

from __future__ import annotations

import math

from scanward.commands import Command, Verdict
from scanward.commands.wire import Alerted, Cancel, Declined, Held, Load, Loaded, Motion
from scanward.guard.arming import Armed, mismatch
from scanward.guard.core import GateCore, Item
from scanward.guard.events import (
    Bound,
    Changed,
    Decision,
    Durable,
    Event,
    Finding,
    Forecast,
    GantrySaid,
    Judged,
    JudgeLost,
    Log,
    LogIs,
    ModeSet,
    OperatorSaid,
    Said,
    SendHost,
)
from scanward.guard.ledger import repeated
from scanward.guard.states import Firing, Pending, Phase

GRAVITY = {Verdict.RELEASE: 0, Verdict.ALERT: 1, Verdict.HALT: 2}


def worst(findings: tuple[Finding, ...]) -> Finding:
    """The gravest finding, the first of equals; what nobody overrides before what somebody may."""
    return max(findings, key=lambda f: (f.form and f.verdict is Verdict.HALT, GRAVITY[f.verdict]))


def _apart(findings: tuple[Finding, ...], decided: Finding) -> dict[str, object]:
    """For the log: what objects to which element of a chain, where the verdict is of an element and not of the load."""
    if len(findings) < 2 or not any(finding is decided for finding in findings):
        return {}
    told = ("verdict", "layer", "fields", "reason")
    return {
        "elements": [
            {"element": index, **{name: getattr(finding, name) for name in told}}
            for index, finding in enumerate(findings)
            if finding.verdict is not Verdict.RELEASE
        ]
    }


def _claimed(command: Command) -> Forecast:
    """What the host itself claims for an element: all there is when nobody judges. Of no known phantom."""
    ctdivol, dlp = command.parameters.get("CTDIvol"), command.parameters.get("DLP")
    return Forecast(ctdivol if isinstance(ctdivol, float) else 0.0, dlp if isinstance(dlp, float) else 0.0)


class PendingActions(GateCore):
    """The acts of the pending machine."""

    def _pending_due(self) -> float:
        if self.pending is Pending.NONE or (self.pending is Pending.RECORDING and self.head.durable):
            return math.inf
        return self.head.since + self._wait()

    def _wait(self) -> float:
        rules = self.rules
        return {
            Pending.JUDGING: rules.judge_seconds,
            Pending.HELD: self.hold_seconds,
            Pending.RECORDING: rules.record_seconds,
            Pending.CONFIRMING: rules.confirm_seconds,
        }[self.pending]

    @property
    def hold_seconds(self) -> float:
        """How long operators may take to decide the head: longer, where the policy says so, when it needs two."""
        return self.rules.two_hold_seconds if self.head.persons > 1 else self.rules.hold_seconds

    def _late(self) -> bool:
        return self.now >= self._pending_due()

    # --- verdict -------------------------------------------------------------------------------------------

    def _rule(self, event: Event) -> None:
        assert isinstance(event, Judged)
        item = self.head
        if event.request != item.request:
            return  # an answer to what is asked no more
        expected = len(item.load.chain) if item.load else 1
        if len(event.findings) != expected:
            self._without_verdict(f"the judge answered {len(event.findings)} of {expected}")
            return
        item.findings, item.bundle = event.findings, event.bundle
        finding = self._with_caps(item, worst(event.findings))
        self.record(
            "verdict",
            {
                "id": item.message.id,
                "request": item.request,
                "verdict": finding.verdict,
                "layer": finding.layer,
                "fields": finding.fields,
                "reason": finding.reason,
                "p_values": [f.p_value for f in event.findings],
                **_apart(event.findings, finding),
                "digest": item.digest,
                "bundle": event.bundle,
                "shadow": self.shadow,
            },
        )
        if finding.verdict is Verdict.RELEASE:
            # nothing objects; a disk that is full must not stop emergency access all the same
            unlogged = self.emergency and self.log is not Log.OK
            self._release(
                f"emergency access: the audit log is {self.log}" if unlogged else "", reserved=unlogged
            )
        elif (
            finding.form and finding.verdict is Verdict.HALT and not (self.shadow and finding.layer != "form")
        ):
            self.drop_head(finding.reason, finding=finding)  # nothing and nobody overrides it
        elif self.shadow:
            self._release(f"shadow mode: {finding.reason}")
        elif self.emergency:
            self._release(f"emergency access: {finding.reason}", reserved=True)
        elif finding.verdict is Verdict.HALT:
            self.drop_head(finding.reason, finding=finding)
            self.tell("halted", {"id": item.message.id, "layer": finding.layer, "reason": finding.reason})
        else:
            self._hold(item, finding)

    def _with_caps(self, item: Item, finding: Finding) -> Finding:
        """The finding, or what the gate itself knows to be worse: sessions and accumulated dose."""
        load = item.load
        if load is None:
            return finding
        rules = self.mode_rules
        if not 1 <= load.triggers <= rules.triggers:
            return Finding(
                Verdict.HALT,
                "gate",
                (),
                f"{load.triggers} triggers asked for, {rules.triggers} allowed",
                form=True,
            )
        doses = repeated(tuple(f.forecast for f in item.findings), load.triggers)
        for caps, verdict, form in (
            (rules.absolute, Verdict.HALT, True),
            (rules.alert, Verdict.ALERT, False),
        ):
            if GRAVITY[finding.verdict] >= GRAVITY[verdict] and not form:
                continue
            for ledger in self.ledgers_of(load):
                over = ledger.over(doses, caps)
                if over:
                    return Finding(verdict, "limits", ("CTDIvol",), over, form=form)
        return finding

    def _unjudged(self, event: Event) -> None:
        assert isinstance(event, JudgeLost)
        if event.request == self.head.request:
            self._without_verdict(f"no verdict: {event.reason or 'the judge is gone'}")

    def _judge_late(self, _: Event) -> None:
        if self._late():
            self._without_verdict(f"no verdict within {self.rules.judge_seconds:g} s")

    def _without_verdict(self, why: str) -> None:
        """Not released. Shadow mode and emergency access are the two that say otherwise, and say so."""
        item = self.head
        load = item.load
        if self.shadow or (self.emergency and load is not None and self._bare_caps(load)):
            claims = [_claimed(e.command) for e in load.chain] if load else [Forecast()]
            item.findings = tuple(Finding(Verdict.ALERT, "gate", (), why, forecast=c) for c in claims)
            mode = "shadow mode" if self.shadow else "emergency access"
            self._release(f"{mode}: {why}", reserved=not self.shadow)
            return
        self.drop_head(why, again=True)

    def _bare_caps(self, load: Load) -> bool:
        doses = repeated(tuple(_claimed(e.command) for e in load.chain), max(1, load.triggers))
        within = 1 <= load.triggers <= self.mode_rules.triggers
        return within and not any(x.over(doses, self.mode_rules.absolute) for x in self.ledgers_of(load))

    # --- hold ----------------------------------------------------------------------------------------------

    def _hold(self, item: Item, finding: Finding) -> None:
        self.pending, item.since = Pending.HELD, self.now
        self._out.append(SendHost(Held(item.message.id, finding.reason, self.hold_seconds), item.connection))
        load = item.load
        self.tell(
            "held",
            {
                "request": item.request,
                "id": item.message.id,
                "digest": item.digest,
                "examination": load.examination if load else "",
                "layer": finding.layer,
                "fields": finding.fields,
                "reason": finding.reason,
                "seconds": self.hold_seconds,
                "chain": load.chain if load else (),
                "triggers": load.triggers if load else 1,
                "motion": None if load else item.message,
                "findings": item.findings,
                "persons": item.persons,
            },
        )
        hold = {"id": item.message.id, "request": item.request, "reason": finding.reason}
        self.record("hold", {**hold, "persons": item.persons})

    def _answer(self, event: Event) -> None:
        assert isinstance(event, OperatorSaid)
        item = self.head
        if event.request != item.request or event.shown != item.digest:
            self.tell("act_refused", {"request": event.request, "reason": "not what is on hold now"})
            return
        release = event.decision is Decision.RELEASE
        if release and item.persons > 1 and event.before in ("", event.operator):
            self.tell("act_refused", {"request": event.request, "reason": "two operators have to release it"})
            return
        self.record(
            "operator",
            {
                "decision": event.decision,
                "request": event.request,
                "id": item.message.id,
                "operator": event.operator,
                "reason": event.reason,
                "digest": item.digest,
                "before": event.before,
            },
        )
        if release:
            both = f"{event.before} and {event.operator}" if event.before else event.operator
            self._release(f"released by {both}: {event.reason}")
        else:
            self.drop_head(f"refused by the operator: {event.reason}")

    def _hold_late(self, _: Event) -> None:
        if not self._late():
            return
        if self.rules.unsafe_release_without_operator and self.head.persons == 1:
            self._release("no operator answered (unsafe_release_without_operator)")
        else:
            self.drop_head(f"no operator answered within {self.hold_seconds:g} s", again=True)

    def _urgent(self, _: Event) -> None:
        if self.emergency:
            self._release("emergency access", reserved=True)

    # --- record and pass on --------------------------------------------------------------------------------

    def _release(self, note: str, *, reserved: bool = False) -> None:
        item = self.head
        if self.log is not Log.OK and not self._may_go_without_log(reserved):
            self.drop_head(f"the audit log is {self.log}: no new loads", again=True)
            return
        if note:
            self.tell("released", {"id": item.message.id, "request": item.request, "note": note})
        item.note, item.reserved, item.since = note, reserved, self.now
        item.token = self.record("release", self._release_data(item), reserved=reserved)
        self.pending = Pending.RECORDING
        item.durable = self._goes_unrecorded(reserved)

    def _release_data(self, item: Item) -> dict[str, object]:
        load = item.load
        return {
            "id": item.message.id,
            "request": item.request,
            "digest": item.digest,
            "note": item.note,
            "mode": self.mode,
            "policy": self.rules.policy,
            "bundle": item.bundle,
            "examination": load.examination if load else "",
            "patient": load.patient if load else "",
            "motion": None if load else item.message,
            "elements": len(load.chain) if load else 0,
        }

    def _goes_unrecorded(self, reserved: bool) -> bool:
        """Whether a release does not wait for its record: only by the two rules that say so by name."""
        if self.log is Log.OK:
            return False
        if self.shadow:
            return True
        return reserved and self.log is Log.FAILED and self.rules.unsafe_emergency_without_log

    def _may_go_without_log(self, reserved: bool) -> bool:
        return self._goes_unrecorded(reserved) or (reserved and self.log is Log.FULL)

    def _pass_on(self, event: Event) -> None:
        assert isinstance(event, Durable)
        if event.token >= self.head.token:
            self.head.durable = True
            self.pass_on_head()

    def pass_on_head(self) -> None:
        """Forward the head once its release is on record; never into a beam."""
        item = self.head
        if isinstance(item.message, Motion) and self.firing is Firing.RECORDING:
            return  # the trigger came first; `_pump` comes back when it has gone
        if self.phase is Phase.BEAM and not self.shadow:
            if isinstance(item.message, Motion):
                self.drop_head("the beam is on", again=True)
            return
        if isinstance(item.message, Load) and self.armed is not None:
            begun = self.armed.load.examination
            self.void("replaced by a newer load", at_gantry=True)
            self.withdraw_shot("replaced by a newer load")
            if self.phase is Phase.COMMITTED and begun != (item.message.examination or None):
                self.phase = Phase.IDLE  # another patient's chain has not begun: it is bound in full
        self.send_gantry(item.message)
        self.record("sent", {"token": item.token, "id": item.message.id})
        if item.note:
            self._out.append(SendHost(Alerted(item.message.id, item.note), item.connection))
        if isinstance(item.message, Load):
            self.pending, item.since = Pending.CONFIRMING, self.now
        else:
            self.queue.popleft()
            self.pending = Pending.NONE
            self.moving.append(item.message.id)

    def _record_late(self, _: Event) -> None:
        if self._late():
            self.drop_head("its audit record did not become durable", again=True)

    def _unlogged(self, event: Event) -> None:
        assert isinstance(event, LogIs)
        if event.condition is Log.OK:
            return
        item = self.head
        if self.pending is Pending.RECORDING:
            if self._goes_unrecorded(item.reserved):
                item.durable = True  # passed on when the tables have been gone through
            elif not self._may_go_without_log(item.reserved):
                self.drop_head(f"the audit log is {event.condition}: no new loads", again=True)
        elif not (self.emergency or self.shadow):
            self.drop_head(f"the audit log is {event.condition}: no new loads", again=True)

    # --- echo ----------------------------------------------------------------------------------------------

    def _compare(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        echo = event.message
        assert isinstance(echo, Loaded)
        item = self.head
        load = item.load
        if load is None or echo.load != load.id:
            return
        differs = mismatch(load, echo)
        if differs and not self.shadow:
            self.alert("what is armed is not what was judged", load=load.id, differs=differs)
            self.drop_head(f"what is armed is not what was judged: {differs}")
            return
        self.queue.popleft()
        self.pending = Pending.NONE
        self.armed = Armed(
            load,
            item.connection,
            item.findings,
            self.mode,
            self.rules.policy,
            item.bundle,
            self.now,
            bool(item.note),
        )
        if self.phase is Phase.IDLE:
            self.phase = Phase.LOADED
        self.record("armed", {"load": load.id, "digest": item.digest, "examination": load.examination})
        self.tell("armed", {"load": load.id})
        if differs:
            self.alert("shadow mode: what is armed is not what was judged", load=load.id, differs=differs)

    def _rejected(self, event: Event) -> None:
        assert isinstance(event, GantrySaid)
        assert isinstance(event.message, Declined)
        if event.message.id == self.head.message.id:
            self.queue.popleft()
            self.pending = Pending.NONE
            self.record("declined", {"id": event.message.id, "reason": event.message.reason})

    def _confirm_late(self, _: Event) -> None:
        if self._late():
            self.drop_head("the gantry did not say what it holds", again=True)

    # --- what ends a wait ----------------------------------------------------------------------------------

    def _discard(self, event: Event) -> None:
        """Stop, or an end of the wire: nothing that waits is ever released."""
        if isinstance(event, Said) or not self.gantry or not self.host:
            reason = "a stop" if isinstance(event, Said) else "a connection is gone"
            while self.queue:
                self.drop_head(reason, again=True)

    def _give_up(self, event: Event) -> None:
        assert isinstance(event, Said)
        message = event.message
        assert isinstance(message, Cancel)
        if event.connection != self.host:
            return
        if self.head.message.id == message.load:
            self.drop_head("the host gave it up")
            return
        for item in list(self.queue)[1:]:
            if item.message.id == message.load:
                self.queue.remove(item)
                self.refuse(item.message.id, "the host gave it up", connection=item.connection)

    def _replaced(self, event: Event) -> None:
        assert isinstance(event, Said)
        newest = self.queue[-1]
        if self.head.load is not None and newest is not self.head and newest.message is event.message:
            self.drop_head("replaced by a newer load")

    def _rejudge(self, event: Event) -> None:
        assert isinstance(event, Changed)
        item, load = self.head, self.head.load
        if event.what is Bound.CONTEXT and (load is None or event.examination not in ("", load.examination)):
            return
        if self.pending is Pending.CONFIRMING:
            self.drop_head(f"the {event.what} changed", again=True)
            return
        if self.pending is Pending.RECORDING:
            self.record(
                "withdrawn", {"token": item.token, "id": item.message.id, "reason": f"{event.what} changed"}
            )
        self.ask(item)

    def _remode(self, event: Event) -> None:
        assert isinstance(event, ModeSet)
        if self.mode is event.mode and self.phase is Phase.IDLE:
            while self.queue:
                self.drop_head("the mode changed", again=True)
