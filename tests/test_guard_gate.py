"""The gate's ways, one by one: what is passed on, what is held, what voids. Schedules are in test_guard_invariants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from scanward.commands import Command, Mode, Verdict
from scanward.commands.wire import (
    Axis,
    Cancel,
    Channel,
    Declined,
    Done,
    Element,
    Heartbeat,
    Held,
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
from scanward.guard.core import GateError
from scanward.guard.events import (
    Ask,
    Bound,
    Caps,
    Changed,
    Decision,
    Drop,
    Durable,
    Effect,
    EmergencySet,
    Envelope,
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
    JudgeLost,
    Log,
    LogIs,
    ModeRules,
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
from scanward.guard.states import Pending, Phase

CAPS = ModeRules(
    alert=Caps({16: 100.0, 32: 50.0}, {16: 2000.0, 32: 2000.0}),
    absolute=Caps({16: 500.0, 32: 250.0}, {16: 9000.0, 32: 9000.0}),
)
RULES = GateRules(
    policy="policy-1",
    modes={
        Mode.CLINICAL: replace(CAPS, triggers=3),
        Mode.QA: CAPS,
    },
    runtime={"TableHeight": Envelope(-20.0, 20.0)},
)


def chain(*ctdivol: float, auto: Iterable[int] = ()) -> tuple[Element, ...]:
    return tuple(
        Element(Command({"KVP": 120.0, "CTDIvol": dose, "TableHeight": 150.0}), i in set(auto))
        for i, dose in enumerate(ctdivol)
    )


def load(
    id_: str = "L1", *ctdivol: float, auto: Iterable[int] = (), triggers: int = 1, exam: str = "e"
) -> Load:
    return Load(id_, exam, "p", chain(*(ctdivol or (5.0,)), auto=auto), triggers)


class Bench:
    """A gate with a host and a gantry; keeps everything that comes out."""

    def __init__(self, rules: GateRules = RULES) -> None:
        self.gate = Gate(rules)
        self.now = 0.0
        self.out: list[Effect] = []
        self.tell(HostUp(1, Channel.COMMANDS), GantryUp())

    def tell(self, *events: Event, after: float = 0.001) -> list[Effect]:
        new: list[Effect] = []
        for event in events:
            self.now += after
            new += self.gate.handle(event, self.now)
        self.out += new
        return new

    def say(self, *messages: object) -> list[Effect]:
        return self.tell(*(Said(1, m) for m in messages))  # type: ignore[arg-type]

    def gantry(self, *messages: object) -> list[Effect]:
        return self.tell(*(GantrySaid(m) for m in messages))  # type: ignore[arg-type]

    def last_token(self) -> int:
        return max(e.token for e in self.out if isinstance(e, Record))

    def durable(self) -> list[Effect]:
        return self.tell(Durable(self.last_token()))

    def judged(
        self, *verdicts: Verdict, form: bool = False, layer: str = "limits", phantom: int = 32
    ) -> list[Effect]:
        ask = next(e for e in reversed(self.out) if isinstance(e, Ask))
        chain_ = ask.chain or (Element(Command({})),)
        verdicts = verdicts or (Verdict.RELEASE,) * len(chain_)
        doses = [float(e.command.parameters.get("CTDIvol", 0.0)) for e in chain_]
        found = tuple(
            Finding(
                v, layer, ("KVP",), "because", form=form, forecast=Forecast(d, d * 20, phantom, 0.0, 200.0)
            )
            for v, d in zip(verdicts, doses, strict=True)
        )
        return self.tell(Judged(ask.request, found, "bundle-1"))

    def arm(self, message: Load | None = None) -> Load:
        message = message or load()
        self.say(message)
        self.judged()
        self.durable()
        self.gantry(Loaded(message.id, tuple(e.command.parameters for e in message.chain)))
        return message

    def scan(self, element: int = 0, id_: str = "T", load_id: str = "L1") -> list[Effect]:
        self.say(Trigger(id_, load_id, element))
        return self.durable()

    @property
    def to_gantry(self) -> list[object]:
        return sent(self.out)


def sent(effects: Iterable[Effect]) -> list[object]:
    return [e.message for e in effects if isinstance(e, SendGantry)]


def refused(effects: Iterable[Effect]) -> list[Refused]:
    return [e.message for e in effects if isinstance(e, SendHost) and isinstance(e.message, Refused)]


def test_a_clean_load_is_judged_recorded_passed_on_confirmed_and_triggered_once() -> None:
    bench = Bench()
    message = load()
    assert sent(bench.say(message)) == []
    assert sent(bench.judged()) == []  # released, but its record is not durable yet
    assert sent(bench.durable()) == [message]
    assert bench.gate.view().phase is Phase.IDLE  # passed on, not armed
    assert refused(bench.say(Trigger("T0", "L1", 0)))[0].again
    bench.gantry(Loaded("L1", (message.chain[0].command.parameters,)))
    assert bench.gate.view().phase is Phase.LOADED
    assert sent(bench.say(Trigger("T1", "L1", 0))) == []  # its record first
    assert sent(bench.durable()) == [Trigger("T1", "L1", 0)]
    assert bench.gate.view().phase is Phase.BEAM
    assert refused(bench.say(Trigger("T2", "L1", 0)))
    bench.gantry(Started("L1", 0), Done("L1", 0, 5.0, 100.0))
    assert bench.gate.view().phase is Phase.IDLE
    assert refused(bench.say(Trigger("T3", "L1", 0)))
    assert bench.to_gantry == [message, Trigger("T1", "L1", 0)]


def test_an_alert_waits_for_an_operator_who_saw_it() -> None:
    bench = Bench()
    bench.say(load())
    effects = bench.judged(Verdict.ALERT)
    assert any(isinstance(e, SendHost) and isinstance(e.message, Held) for e in effects)
    shown = next(e.data for e in effects if isinstance(e, Tell) and e.kind == "held")
    request = shown["request"]
    bench.tell(OperatorSaid(Decision.RELEASE, request, "something else", "op", "fine"))  # type: ignore[arg-type]
    bench.durable()
    assert bench.to_gantry == []
    bench.tell(OperatorSaid(Decision.RELEASE, request, str(shown["digest"]), "op", "fine"))  # type: ignore[arg-type]
    assert bench.to_gantry == []
    bench.durable()
    assert bench.to_gantry == [load()]


def test_without_an_operator_a_hold_ends_in_refusal() -> None:
    bench = Bench()
    bench.say(load())
    bench.judged(Verdict.ALERT)
    assert bench.gate.due() == pytest.approx(bench.now + RULES.hold_seconds)
    out = bench.tell(Tick(), after=RULES.hold_seconds)
    assert refused(out)
    assert bench.to_gantry == []
    loose = Bench(replace(RULES, unsafe_release_without_operator=True))
    loose.say(load())
    loose.judged(Verdict.ALERT)
    loose.tell(Tick(), after=RULES.hold_seconds)
    loose.durable()
    assert loose.to_gantry == [load()]


def test_halt_no_verdict_and_a_late_verdict_release_nothing() -> None:
    bench = Bench()
    bench.say(load("A"))
    assert refused(bench.judged(Verdict.HALT))[0].layer == "limits"
    bench.say(load("B"))
    request = next(e.request for e in reversed(bench.out) if isinstance(e, Ask))
    assert refused(bench.tell(JudgeLost(request, "killed")))
    bench.say(load("C"))
    request = next(e.request for e in reversed(bench.out) if isinstance(e, Ask))
    assert refused(bench.tell(Tick(), after=RULES.judge_seconds))
    bench.tell(Judged(request, (Finding(Verdict.RELEASE),), "b"))
    bench.durable()
    bench.say(load("D", 1.0, 2.0))
    assert refused(
        bench.tell(Judged(bench.gate.head.request, (Finding(Verdict.RELEASE),), "b"))
    )  # one of two
    assert bench.to_gantry == []


def test_a_stop_passes_at_once_from_anybody_and_voids() -> None:
    for channel in (1, 7):
        bench = Bench()
        bench.arm()
        out = bench.tell(Said(channel, Stop(StopKind.BEAM)))
        assert out[0] == SendGantry(Stop(StopKind.BEAM))
        assert refused(bench.say(Trigger("T", "L1", 0)))
    bench = Bench()
    bench.say(load())
    bench.judged()
    bench.say(Stop())
    bench.durable()  # the release's record becomes durable after the stop: too late
    assert load() not in bench.to_gantry


def test_what_voids_an_arming() -> None:
    for event in (
        HostLost(1),
        GantryLost(),
        Changed(Bound.CONTEXT, "x", "e"),
        Changed(Bound.BUNDLE, "x"),
        Changed(Bound.POLICY, "x"),
        ModeSet(Mode.QA, "op"),
        Said(1, load("L2")),
        Said(1, Cancel("C", "L1")),
    ):
        bench = Bench()
        bench.arm()
        bench.tell(event)
        assert bench.gate.view().armed == "", event
        bench.tell(HostUp(1, Channel.COMMANDS), GantryUp())
        bench.say(Trigger("T", "L1", 0))
        bench.durable()
        assert not any(isinstance(m, Trigger) for m in bench.to_gantry), event
    bench = Bench()
    bench.arm()
    bench.tell(Changed(Bound.CONTEXT, "x", "another"), Changed(Bound.BUNDLE, "bundle-1"), HostLost(9))
    assert bench.gate.view().armed == "L1"
    bench.tell(Tick(), after=RULES.arming_seconds)
    assert bench.gate.view().armed == ""


def test_a_trigger_waiting_for_its_record_is_withdrawn_when_its_arming_goes() -> None:
    for event in (
        Said(1, Stop()),
        HostLost(1),
        GantryLost(),
        Changed(Bound.CONTEXT, "x"),
        Said(1, load("L2")),
    ):
        bench = Bench()
        bench.arm()
        bench.say(Trigger("T", "L1", 0))
        token = bench.last_token()
        bench.tell(event)
        bench.tell(Durable(token))
        assert not any(isinstance(m, Trigger) for m in bench.to_gantry), event


def test_the_echo_must_be_what_was_judged() -> None:
    for echo in ({"KVP": 140.0, "CTDIvol": 5.0, "TableHeight": 150.0}, {"KVP": 120.0}, {}):
        bench = Bench()
        bench.say(load())
        bench.judged()
        bench.durable()
        out = bench.gantry(Loaded("L1", (echo,)))
        assert any(isinstance(m, Cancel) for m in sent(out))
        assert refused(out)
        assert bench.gate.view().armed == ""


def test_runtime_fields_stay_in_their_envelope_and_others_are_frozen() -> None:
    bench = Bench()
    bench.arm()
    assert refused(bench.say(Trigger("T", "L1", 0, {"TableHeight": 175.0})))
    assert refused(bench.say(Trigger("T", "L1", 0, {"KVP": 120.0})))
    assert refused(bench.say(Trigger("T", "L1", 0, {"TableHeight": float("nan")})))
    assert refused(bench.say(Trigger("T", "L1", 0, {"TableHeight": "150"})))
    bench.say(Trigger("T", "L1", 0, {"TableHeight": 165.0}))
    bench.durable()
    assert bench.to_gantry[-1] == Trigger("T", "L1", 0, {"TableHeight": 165.0})


def test_elements_go_in_order_and_an_auto_element_goes_by_itself() -> None:
    bench = Bench()
    bench.arm(load("L1", 1.0, 2.0, 3.0, auto=[2]))
    assert refused(bench.say(Trigger("T", "L1", 1)))
    bench.scan(0)
    bench.gantry(Started("L1", 0), Done("L1", 0, 1.0, 20.0))
    assert bench.gate.view().phase is Phase.COMMITTED
    bench.scan(1)
    bench.gantry(Started("L1", 1), Done("L1", 1, 2.0, 40.0))
    out = bench.gantry(Started("L1", 2))
    assert bench.gate.view().phase is Phase.BEAM
    assert not sent(out)
    bench.gantry(Done("L1", 2, 3.0, 60.0))
    assert bench.gate.view().phase is Phase.IDLE


def test_a_beam_that_nobody_released_is_stopped() -> None:
    bench = Bench()
    assert Stop(StopKind.BEAM) in sent(bench.gantry(Started("L9", 0)))
    bench = Bench()
    bench.arm(load("L1", 1.0, 2.0))
    bench.scan(0)
    bench.gantry(Done("L1", 0))
    assert Stop(StopKind.BEAM) in sent(bench.gantry(Started("L1", 1)))  # not auto
    assert bench.gate.view().armed == ""


def test_from_injection_on_a_finding_holds_nothing_and_a_new_load_waits_beside() -> None:
    bench = Bench()
    bench.arm(load("L1", 1.0, 2.0))
    bench.gantry(Injection("L1"))
    out = bench.tell(Changed(Bound.CONTEXT, "x", "e"))
    assert any(isinstance(e, Tell) and e.kind == "alert" for e in out)
    assert bench.gate.view().armed == "L1"
    bench.say(load("L2", 3.0))
    bench.judged(Verdict.ALERT)
    assert bench.gate.view().pending is Pending.HELD
    assert bench.gate.view().armed == "L1"
    bench.scan(0)
    assert bench.gate.view().phase is Phase.BEAM
    assert refused(bench.say(load("L3")))[0].again
    bench.tell(ModeSet(Mode.QA, "op"))
    assert bench.gate.view().mode is Mode.CLINICAL


def test_accumulated_dose_is_looked_at_again_at_the_trigger() -> None:
    bench = Bench()
    bench.arm(load("L1", 30.0))
    bench.scan(0)
    bench.gantry(Done("L1", 0, 45.0, 600.0))  # more than foretold
    bench.say(load("L2", 10.0))
    out = bench.judged()  # 55 mGy together, over 50
    assert any(isinstance(e, SendHost) and isinstance(e.message, Held) for e in out)
    bench = Bench()
    bench.say(load("L3", 300.0))
    assert refused(bench.judged())  # over the absolute cap
    bench = Bench(replace(RULES, modes={Mode.CLINICAL: replace(CAPS, triggers=1)}))
    bench.arm(load("L4", 10.0))
    from scanward.guard.events import Delivered

    bench.tell(Delivered("e", Forecast(45.0, 900.0, 32)))
    assert refused(bench.say(Trigger("T", "L4", 0)))
    bench.tell(Delivered("e", Forecast(1.0, 2.0, 32)))  # a report may only raise
    assert refused(bench.say(Trigger("T", "L4", 0)))


def test_phantoms_are_never_summed() -> None:
    bench = Bench()
    bench.arm(load("L1", 40.0))
    bench.scan(0)
    bench.gantry(Done("L1", 0, 40.0, 800.0))
    bench.say(load("L2", 40.0))
    out = bench.judged(phantom=16)
    assert not any(isinstance(e, SendHost) and isinstance(e.message, Held) for e in out)


def test_a_session_is_judged_once_and_has_so_many_triggers() -> None:
    bench = Bench()
    assert bench.arm(load("L1", 1.0, triggers=3))
    for n in range(3):
        bench.scan(0, f"T{n}")
        bench.gantry(Started("L1", 0), Done("L1", 0, 1.0, 20.0))
    assert refused(bench.say(Trigger("T9", "L1", 0)))
    bench = Bench()
    bench.say(load("L1", 1.0, triggers=4))
    assert refused(bench.judged())


def test_a_full_log_admits_no_load_and_lets_stops_and_emergency_pass() -> None:
    bench = Bench()
    bench.tell(LogIs(Log.FULL))
    bench.say(load())
    assert refused(bench.judged())
    assert sent(bench.say(Stop())) == [Stop()]
    bench.tell(EmergencySet(bench.now + 100, "op"))
    bench.say(load("L2"))
    out = bench.judged(Verdict.HALT)
    assert next(e for e in out if isinstance(e, Record) and e.kind == "release").reserved
    bench.durable()
    assert load("L2") in bench.to_gantry
    bench.tell(LogIs(Log.FAILED))
    bench.say(load("L3"))
    bench.judged()
    bench.durable()
    assert load("L3") not in bench.to_gantry


def test_emergency_keeps_form_and_absolute_caps_and_does_without_a_judge() -> None:
    bench = Bench()
    bench.tell(EmergencySet(1000.0, "op"))
    bench.say(load("A"))
    assert refused(bench.judged(Verdict.HALT, form=True, layer="form"))
    bench.say(load("B", 400.0))
    assert refused(bench.judged(Verdict.ALERT))
    bench.say(load("C"))
    bench.tell(Tick(), after=RULES.judge_seconds)
    bench.durable()
    assert [m.id for m in bench.to_gantry if isinstance(m, Load)] == ["C"]
    held = Bench()
    held.say(load("H"))
    held.judged(Verdict.ALERT)
    held.tell(EmergencySet(1000.0, "op"))
    held.durable()
    assert load("H") in held.to_gantry


def test_shadow_mode_releases_all_but_form_and_says_so() -> None:
    bench = Bench(replace(RULES, unsafe_shadow=True))
    bench.say(load("A"))
    bench.judged(Verdict.HALT)
    bench.durable()
    bench.say(load("B"))
    assert refused(bench.judged(Verdict.HALT, form=True, layer="form"))
    bench.say(Trigger("T", "nothing", 0))
    assert [getattr(m, "id", "") for m in bench.to_gantry] == ["A", "T"]
    assert any(isinstance(e, Record) and e.kind == "alert" for e in bench.out)


def test_a_motion_is_judged_kept_in_order_and_never_passes_into_a_beam() -> None:
    bench = Bench()
    motion = Motion("M", Axis.TABLE_Z, 100.0, 50.0)
    bench.arm()
    bench.say(motion)
    assert refused(bench.say(Trigger("T", "L1", 0)))[0].again
    bench.judged()
    bench.durable()
    assert bench.to_gantry[-1] == motion
    bench.scan()
    assert refused(bench.say(replace(motion, id="M2")))


def test_only_the_hosts_own_connection_commands() -> None:
    bench = Bench()
    out = bench.tell(Said(2, load()), Said(2, Trigger("T", "L1", 0)), Said(2, Heartbeat()))
    assert len(refused(out)) == 2
    assert sent(out) == []
    bench.arm()
    bench.tell(Said(2, load("L9")))
    assert bench.gate.view().armed == "L1"  # who may not load may not void


def test_a_lost_host_in_the_middle_drops_the_gantry_too() -> None:
    bench = Bench()
    bench.arm()
    bench.scan()
    assert any(isinstance(e, Drop) for e in bench.tell(HostLost(1)))


def test_a_begun_chain_does_not_wait_for_a_disk() -> None:
    bench = Bench()
    bench.arm(load("L1", 1.0, 2.0))
    bench.gantry(Injection("L1"))
    bench.say(Trigger("T", "L1", 0))
    assert not any(isinstance(m, Trigger) for m in bench.to_gantry)
    out = bench.tell(Tick(), after=RULES.committed_record_seconds)
    assert any(isinstance(m, Trigger) for m in sent(out))
    assert any(isinstance(e, Tell) and e.kind == "alert" for e in out)
    fresh = Bench()
    fresh.arm()
    fresh.say(Trigger("T", "L1", 0))
    assert refused(fresh.tell(Tick(), after=RULES.record_seconds))


def test_a_declined_trigger_has_spent_its_arming() -> None:
    bench = Bench()
    bench.arm(load("L1", 1.0, 2.0))
    bench.scan(0, "T")
    bench.gantry(Declined("T", "interlock"))
    assert bench.gate.view().phase is Phase.COMMITTED
    assert refused(bench.say(Trigger("T2", "L1", 0)))


def test_a_state_that_the_tables_do_not_allow_is_an_error() -> None:
    bench = Bench()
    bench.gate._acts[next(iter(bench.gate._acts))] = lambda _: None
    from scanward.guard.states import Do

    def wrong(_: Event) -> None:
        bench.gate.phase = Phase.BEAM

    bench.gate._acts[Do.HOUSEKEEP] = wrong
    with pytest.raises(GateError):
        bench.say(Heartbeat())


def test_the_durability_of_an_earlier_record_releases_nothing() -> None:
    bench = Bench()
    bench.say(load())
    bench.judged()
    release = next(e.token for e in bench.out if isinstance(e, Record) and e.kind == "release")
    bench.tell(Durable(release - 1))
    assert bench.to_gantry == []
    bench.tell(Durable(release))
    assert bench.to_gantry == [load()]
    bench.gantry(Loaded("L1", (load().chain[0].command.parameters,)))
    bench.say(Trigger("T", "L1", 0))
    token = next(e.token for e in bench.out if isinstance(e, Record) and e.kind == "trigger")
    bench.tell(Durable(token - 1))
    assert bench.to_gantry == [load()]
    bench.tell(Durable(token))
    assert bench.to_gantry == [load(), Trigger("T", "L1", 0)]


def test_a_verdict_on_something_else_counts_for_nothing() -> None:
    bench = Bench()
    bench.say(load("A"))
    first = next(e.request for e in bench.out if isinstance(e, Ask))
    bench.say(load("B"))  # replaces A
    bench.tell(Judged(first, (Finding(Verdict.RELEASE),), "b"))
    bench.durable()
    assert bench.to_gantry == []
    assert [r.id for r in refused(bench.out)] == ["A"]


def test_the_host_gives_up_what_waits() -> None:
    bench = Bench()
    bench.say(load("A"))
    bench.judged()
    bench.say(Cancel("C", "A"))
    bench.durable()
    assert bench.to_gantry == []


def test_only_the_same_examination_goes_on_as_begun() -> None:
    for exam, phase in (("e", Phase.COMMITTED), ("f", Phase.LOADED), ("", Phase.LOADED)):
        bench = Bench()
        bench.arm(load("L1", 1.0, 2.0))
        bench.gantry(Injection("L1"))
        bench.arm(load("L2", 3.0, exam=exam))
        assert bench.gate.view().armed == "L2"
        assert bench.gate.view().phase is phase
