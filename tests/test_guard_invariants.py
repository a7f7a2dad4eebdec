"""Invariants 1 to 5 of the gate over random schedules of hosts, gantries, judges, operators, logs and time.

The machine below keeps books of its own, made only of what went in and what came out: it knows none of the gate's
tables. Whatever comes out of the gate is held against them at once.
"""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scanward.commands import Mode, Verdict
from scanward.commands.wire import (
    Axis,
    Cancel,
    Channel,
    Declined,
    Done,
    Heartbeat,
    Injection,
    Load,
    Loaded,
    Motion,
    Refused,
    Started,
    Stop,
    StopKind,
    Trigger,
)
from scanward.guard.arming import chain_digest
from scanward.guard.events import (
    Ask,
    Bound,
    Changed,
    Decision,
    Durable,
    Effect,
    EmergencySet,
    Event,
    Finding,
    Forecast,
    GantryLost,
    GantrySaid,
    GantryUp,
    HostLost,
    HostUp,
    Judged,
    JudgeLost,
    Log,
    LogIs,
    Malformed,
    ModeSet,
    OperatorSaid,
    Record,
    Said,
    SendGantry,
    SendHost,
    Tell,
    Tick,
)
from scanward.guard.gate import Gate
from scanward.guard.states import Firing, Pending, Phase
from test_guard_gate import RULES, chain

SHORT = replace(
    RULES,
    judge_seconds=2.0,
    hold_seconds=6.0,
    arming_seconds=30.0,
    committed_seconds=60.0,
    beam_seconds=20.0,
    queue=3,
)
IDS = st.sampled_from([f"L{n}" for n in range(4)])
CONNECTIONS = st.sampled_from([1, 1, 1, 2])


class World(RuleBasedStateMachine):
    """Everybody around the gate, honest or not."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(SHORT)
        self.now = 0.0
        self.serial = 0
        # books
        self.asked: dict[int, Load | Motion] = {}  # request -> what it is about
        self.passed: set[int] = set()  # requests with a clean verdict
        self.two: set[int] = set()  # requests that one operator alone does not release
        self.approved: set[int] = set()  # requests that an operator, or emergency access, released
        self.release_tokens: dict[str, int] = {}  # id -> token of its release record, since it was last said
        self.trigger_tokens: dict[str, int] = {}
        self.request_of_release: dict[str, int] = {}
        self.durable = 0
        self.host = 0
        self.gantry = False
        self.at_gantry: dict[str, Load] = {}  # what was forwarded since the last void, by id
        self.echoed: set[str] = set()
        self.shots: dict[tuple[str, int], int] = {}  # (load, element) -> triggers and starts since its arming
        self.open: dict[str, Load | Motion] = {}  # admitted, not answered yet
        self.order: list[str] = []  # admitted loads and motions, oldest first
        self.gone: set[str] = set()  # given up or refused: must not be forwarded any more
        self.committed = False
        self.held: tuple[int, str] | None = None

    # --- driving -------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> tuple[Effect, ...]:
        self.now += 0.01
        effects = self.gate.handle(event, self.now)
        self.check(event, effects)
        return effects

    def fresh(self, prefix: str) -> str:
        self.serial += 1
        return f"{prefix}{self.serial}"

    @initialize()
    def connect(self) -> None:
        self.host_up(1)
        self.gantry_up()

    @rule(connection=CONNECTIONS)
    def host_up(self, connection: int) -> None:
        if self.host == 0:
            self.host = connection
        self.tell(HostUp(connection, Channel.COMMANDS))

    @rule(connection=CONNECTIONS)
    def host_lost(self, connection: int) -> None:
        gone = connection == self.host
        if gone:
            self.host = 0
        self.tell(HostLost(connection))
        if gone:
            self.nothing_armed()

    @rule()
    def gantry_up(self) -> None:
        self.gantry = True
        self.tell(GantryUp())

    @rule()
    def gantry_lost(self) -> None:
        self.gantry = False
        self.tell(GantryLost())
        self.nothing_armed()

    @rule(
        connection=CONNECTIONS,
        doses=st.lists(st.sampled_from([0.0, 1.0, 5.0, 60.0, 300.0]), min_size=1, max_size=3),
        auto=st.booleans(),
        triggers=st.sampled_from([1, 1, 1, 2, 9]),
        exam=st.sampled_from(["e", "f", ""]),
    )
    def load(self, connection: int, doses: list[float], auto: bool, triggers: int, exam: str) -> None:
        elements = chain(*doses, auto=[len(doses) - 1] if auto and len(doses) > 1 else [])
        message = Load(self.fresh("L"), exam, "", elements, triggers)
        if connection == self.host and self.gate.view().phase in (Phase.IDLE, Phase.LOADED):
            self.nothing_armed(forwarded=False)
        self.say_command(connection, message)

    @rule(connection=CONNECTIONS)
    def motion(self, connection: int) -> None:
        self.say_command(connection, Motion(self.fresh("M"), Axis.TABLE_Z, 10.0, 10.0))

    def say_command(self, connection: int, message: Load | Motion) -> None:
        self.open[message.id] = message
        self.order.append(message.id)
        self.tell(Said(connection, message))

    @rule(
        connection=CONNECTIONS,
        element=st.integers(0, 2),
        runtime=st.sampled_from([{}, {}, {"TableHeight": 160.0}, {"TableHeight": 999.0}, {"KVP": 140.0}]),
        known=st.booleans(),
    )
    def trigger(self, connection: int, element: int, runtime: dict[str, float], known: bool) -> None:
        armed = self.gate.view().armed
        name = armed if known and armed else "L1"
        self.tell(Said(connection, Trigger(self.fresh("T"), name, element, dict(runtime))))

    @rule(connection=CONNECTIONS, what=st.sampled_from(StopKind))
    def stop(self, connection: int, what: StopKind) -> None:
        effects = self.tell(Said(connection, Stop(what)))
        # 2: at once, whatever the judge, the disk or the console do; and before anything else
        assert effects[0] == SendGantry(Stop(what))
        self.nothing_armed()

    @rule(connection=CONNECTIONS)
    def cancel(self, connection: int) -> None:
        view = self.gate.view()
        known = [i for i in (*view.queue, view.armed) if i]
        if not known:
            return
        target = known[self.serial % len(known)]
        self.tell(Said(connection, Cancel(self.fresh("C"), target)))
        if connection == self.host:
            self.gone.add(target)
            self.at_gantry.pop(target, None)

    @rule(connection=CONNECTIONS)
    def heartbeat(self, connection: int) -> None:
        self.tell(Said(connection, Heartbeat()))

    @rule(side=st.sampled_from(["host", "gantry"]))
    def garbage(self, side: str) -> None:
        effects = self.tell(Malformed(side, "not JSON", "ab", 1))
        assert not any(isinstance(e, SendGantry) for e in effects)

    # --- the gantry ----------------------------------------------------------------------------------------

    @rule(lie=st.booleans())
    def echo(self, lie: bool) -> None:
        waiting = [i for i in self.at_gantry if i not in self.echoed]
        if not waiting or not self.gantry:
            return
        message = self.at_gantry[waiting[-1]]
        held = [dict(e.command.parameters) for e in message.chain]
        if lie:
            held[-1]["KVP"] = 140.0
        else:
            self.echoed.add(message.id)
        self.tell(GantrySaid(Loaded(message.id, tuple(held))))
        if lie:
            assert self.gate.view().armed != message.id

    @rule(stray=st.booleans(), element=st.integers(0, 2))
    def started(self, stray: bool, element: int) -> None:
        beam = self.gate.beam
        name = beam.armed.load.id if beam and not stray else (self.gate.view().armed or "L1")
        element = beam.trigger.element if beam and not stray else element
        message = self.at_gantry.get(name)
        before = self.gate.view()
        effects = self.tell(GantrySaid(Started(name, element)))
        went = any(e == SendGantry(Stop(StopKind.BEAM)) for e in effects)
        by_itself = (
            message is not None
            and before.phase is Phase.COMMITTED
            and element < len(message.chain)
            and message.chain[element].auto
        )
        if by_itself and not went:
            self.shots[name, element] = self.shots.get((name, element), 0) + 1
        if not (beam and not stray) and not by_itself and self.gantry:
            assert went or (before.phase is Phase.BEAM and beam and beam.trigger.element == element)
        if went:
            self.nothing_armed()

    @rule(dose=st.sampled_from([None, 1.0, 500.0]), aborted=st.booleans())
    def done(self, dose: float | None, aborted: bool) -> None:
        beam = self.gate.beam
        name, element = (beam.armed.load.id, beam.trigger.element) if beam else ("L1", 0)
        self.tell(GantrySaid(Done(name, element, dose, dose, aborted)))

    @rule()
    def injection(self) -> None:
        self.tell(GantrySaid(Injection()))

    @rule()
    def declined(self) -> None:
        beam = self.gate.beam
        name = beam.trigger.id if beam else (self.gate.view().queue or ("x",))[0]
        self.tell(GantrySaid(Declined(name)))
        self.at_gantry.pop(name, None)

    # --- an honest course of things, without which random rules hardly ever get as far as a beam ------------

    @rule(steps=st.integers(1, 9), operators=st.sampled_from([0, 0, 1, 2]))
    def onward(self, steps: int, operators: int) -> None:
        for _ in range(steps):
            self.one_step(operators)
            self.nothing_is_lost()

    def one_step(self, operators: int) -> None:
        """``operators``: how many a hold needs; 0 for a verdict that holds nothing."""
        view = self.gate.view()
        if not (self.host and self.gantry):
            if not self.gantry:
                self.gantry_up()
            else:
                self.host_up(1)
        elif view.log is not Log.OK:
            self.log(Log.OK)
        elif view.firing is Firing.RECORDING or view.pending is Pending.RECORDING:
            self.on_disk(1)  # the record before it: not enough
            self.on_disk(0)
        elif view.pending is Pending.JUDGING:
            self.judged(Verdict.RELEASE, True, False)  # an answer to another question
            self.judged(Verdict.ALERT if operators else Verdict.RELEASE, False, False, max(1, operators))
        elif view.pending is Pending.HELD:
            self.operator(Decision.RELEASE, "", "op")  # alone: enough where one is
            self.operator(Decision.RELEASE, "", "another")
        elif view.pending is Pending.CONFIRMING:
            self.echo(False)
        elif view.phase is Phase.BEAM:
            self.done(1.0, False)
        elif view.armed:
            element = self.gate.armed.next if self.gate.armed else None
            self.tell(Said(self.host, Trigger(self.fresh("T"), view.armed, element or 0)))
        else:
            self.load(self.host, [1.0, 1.0], False, 1, "e")

    # --- judge, log, people, time --------------------------------------------------------------------------

    @rule(
        verdict=st.sampled_from(
            [Verdict.RELEASE, Verdict.RELEASE, Verdict.RELEASE, Verdict.ALERT, Verdict.HALT]
        ),
        stale=st.sampled_from([False, False, False, True]),
        short=st.sampled_from([False, False, False, True]),
        persons=st.sampled_from([1, 1, 2]),
    )
    def judged(self, verdict: Verdict, stale: bool, short: bool, persons: int = 1) -> None:
        if not self.asked:
            return
        request = max(self.asked)
        subject = self.asked[request]
        elements = subject.chain if isinstance(subject, Load) else (None,)
        findings = tuple(
            Finding(
                verdict,
                "limits",
                reason="r",
                forecast=Forecast(float(e.command.parameters["CTDIvol"]), 10.0, 32, 0.0, 100.0)  # type: ignore[arg-type]
                if e
                else Forecast(),
                persons=persons if number == len(elements) - 1 else 1,
            )
            for number, e in enumerate(elements)
        )
        if short:
            findings = findings[:-1]
        asked = request - 1 if stale else request
        if verdict is Verdict.RELEASE and not stale and not short:
            self.passed.add(request)
        if not stale and not short and self.gate.view().pending is Pending.JUDGING:
            (self.two.add if persons > 1 else self.two.discard)(request)
        self.tell(Judged(asked, findings, "bundle"))

    @rule()
    def judge_lost(self) -> None:
        self.tell(JudgeLost(max(self.asked, default=0)))

    @rule(back=st.integers(0, 9))
    def on_disk(self, back: int) -> None:
        upto = max(self.durable, self.gate._token - back)
        self.durable = upto
        self.tell(Durable(upto))

    @rule(condition=st.sampled_from([Log.OK, Log.OK, Log.FULL, Log.FAILED]))
    def log(self, condition: Log) -> None:
        self.tell(LogIs(condition))

    @rule(
        decision=st.sampled_from(Decision),
        wrong=st.sampled_from(["", "", "request", "digest"]),
        before=st.sampled_from(["", "op", "another"]),
    )
    def operator(self, decision: Decision, wrong: str, before: str = "another") -> None:
        if self.held is None:
            return
        request, digest = self.held
        if decision is Decision.RELEASE and not wrong and (request not in self.two or before == "another"):
            self.approved.add(request)
        self.tell(
            OperatorSaid(
                decision,
                request + (wrong == "request"),
                digest + ("x" if wrong == "digest" else ""),
                "op",
                "reason",
                before,
            )
        )

    @rule(
        what=st.sampled_from(Bound),
        digest=st.sampled_from(["bundle", "policy-1", "new"]),
        exam=st.sampled_from("ef"),
    )
    def changed(self, what: Bound, digest: str, exam: str) -> None:
        self.tell(Changed(what, digest, exam if what is Bound.CONTEXT else ""))

    @rule(mode=st.sampled_from(Mode))
    def mode(self, mode: Mode) -> None:
        self.tell(ModeSet(mode, "op"))

    @rule(seconds=st.sampled_from([0.0, 5.0]))
    def emergency(self, seconds: float) -> None:
        self.tell(EmergencySet(self.now + seconds if seconds else 0.0, "op"))

    @rule(seconds=st.sampled_from([0.1, 0.3, 2.0, 7.0, 31.0, 61.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick())

    # --- the books -----------------------------------------------------------------------------------------

    def nothing_armed(self, *, forwarded: bool = True) -> None:
        """From here on no trigger may pass before a new echo."""
        if forwarded:
            self.at_gantry.clear()
        self.echoed.clear()

    def check(self, event: Event, effects: tuple[Effect, ...]) -> None:
        if isinstance(event, Said | Malformed) and not isinstance(
            getattr(event, "message", None), Stop | Cancel
        ):
            # nothing that a host says passes in the same moment, but housekeeping
            passed = [e.message for e in effects if isinstance(e, SendGantry)]
            assert all(isinstance(m, Heartbeat | Cancel) for m in passed), passed
        for effect in effects:
            if isinstance(effect, Ask):
                subject = self.open.get(self.gate.queue[0].message.id)
                assert subject is not None
                self.asked[effect.request] = subject
                assert effect.chain == (subject.chain if isinstance(subject, Load) else ())
            elif isinstance(effect, Record):
                self.recorded(effect)
            elif isinstance(effect, Tell) and effect.kind == "held":
                self.held = (int(str(effect.data["request"])), str(effect.data["digest"]))
            elif isinstance(effect, SendHost) and isinstance(effect.message, Refused):
                self.gone.add(effect.message.id)
                self.open.pop(effect.message.id, None)
            elif isinstance(effect, SendGantry):
                self.sent(effect.message)

    def recorded(self, record: Record) -> None:
        if record.kind == "release":
            id_ = str(record.data["id"])
            self.release_tokens[id_] = record.token
            self.request_of_release[id_] = int(str(record.data["request"]))
            if "emergency access" in str(record.data["note"]):
                assert self.now < self.gate.emergency_until
                self.approved.add(self.request_of_release[id_])
            assert self.request_of_release[id_] in self.passed | self.approved, (
                "released by fewer than it needs"
            )
        elif record.kind == "trigger":
            self.trigger_tokens[str(record.data["id"])] = record.token
        elif record.kind == "void":
            name = str(record.data["load"])
            self.at_gantry.pop(name, None)
            self.echoed.discard(name)

    def sent(self, message: object) -> None:
        # 4: default-deny: only these, and only to a gantry
        assert isinstance(message, Load | Motion | Trigger | Stop | Cancel | Heartbeat)
        if isinstance(message, Load | Motion):
            self.released(message)
        elif isinstance(message, Trigger):
            self.fired(message)
        elif isinstance(message, Cancel):
            self.at_gantry.pop(message.load, None)

    def released(self, message: Load | Motion) -> None:
        assert self.gantry
        assert self.host, "released to a host that is gone"
        # 4: not twice, not after it was refused or given up, not out of order
        assert message.id in self.open, f"{message.id} released twice, or after it was refused"
        assert message.id not in self.gone
        earlier = [i for i in self.order[: self.order.index(message.id)] if i in self.open]
        assert earlier == [], f"{message.id} overtook {earlier}"
        del self.open[message.id]
        # 1: a verdict on exactly this, or a person's (or emergency access's) act
        request = self.request_of_release[message.id]
        assert request in self.passed | self.approved, f"{message.id} was released without a verdict"
        assert self.asked[request] == message
        # 5: its record first
        assert self.release_tokens[message.id] <= self.durable, f"{message.id} passed before its record"
        if isinstance(message, Load):
            self.at_gantry[message.id] = message
            for key in [k for k in self.shots if k[0] == message.id]:
                del self.shots[key]

    def fired(self, trigger: Trigger) -> None:
        # 3: one arming, one trigger; armed is what was judged
        assert self.gantry
        assert self.host
        load = self.at_gantry.get(trigger.load)
        assert load is not None, f"{trigger.load} is void or was never released"
        assert load.id in self.echoed, "triggered before the gantry said what it holds"
        key = (load.id, trigger.element)
        self.shots[key] = self.shots.get(key, 0) + 1
        assert self.shots[key] <= load.triggers, f"element {trigger.element} of {load.id} triggered again"
        if load.triggers == 1:
            assert all(self.shots.get((load.id, i), 0) == 1 for i in range(trigger.element)), "out of order"
        assert set(trigger.runtime) <= {"TableHeight"}
        assert abs(float(trigger.runtime.get("TableHeight", 150.0)) - 150.0) <= 20.0
        # 5: save from commitment on, when the log does not answer
        if self.trigger_tokens[trigger.id] > self.durable:
            committed = any(k[0] == load.id for k in self.shots if k != key) or self.committed
            assert committed, "a trigger passed before its record, and the chain had not begun"

    @invariant()
    def nothing_is_lost(self) -> None:
        """Whoever is still to be answered is in the queue; the gate's own books agree with ours."""
        view = self.gate.view()
        self.committed = view.phase in (Phase.COMMITTED, Phase.BEAM)
        waiting = set(view.queue)
        if view.pending is Pending.CONFIRMING:
            waiting.discard(view.queue[0])
        assert waiting == set(self.open), "a command was lost without an answer"
        assert (view.phase is Phase.LOADED) <= bool(view.armed)
        if view.armed:
            assert view.armed in self.at_gantry
            assert view.armed in self.echoed
            assert self.gate.armed is not None
            assert chain_digest(self.gate.armed.load.chain) == chain_digest(self.at_gantry[view.armed].chain)


THOROUGH = os.environ.get("SCANWARD_THOROUGH") == "1"
TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=3000 if THOROUGH else 200,
    stateful_step_count=120 if THOROUGH else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
