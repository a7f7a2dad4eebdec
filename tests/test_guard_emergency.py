"""Emergency access: at once, with judge, console, network and disk gone; bounded; form and caps hold throughout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard import ANNA, Bench, answer, element, policy, policy_text
from scanward.commands import LayerName, Severity
from scanward.commands.wire import Load, Loaded, Refused, Trigger
from scanward.guard.control_client import ControlClient
from scanward.guard.emergency import EmergencyAccess
from scanward.guard.events import GantrySaid, Log, Said, Tick
from scanward.guard.operators import Act, ActKind
from scanward.guard.policy_terms import EmergencyRules
from test_guard_control import running

BEGIN = Act(ActKind.EMERGENCY, "anna")
RULES = EmergencyRules(15.0, 30.0, one_examination=True, loads=3)
BAD = answer({LayerName.LIMITS: (Severity.HALT, "CTDIvol")}, within=False)


def begun(bench: Bench, **more: Any) -> Bench:
    assert bench.desk.act(replace(BEGIN, **more), "anna") == ""
    return bench


def loads(bench: Bench) -> list[str]:
    return [m.id for m in bench.to_gantry if isinstance(m, Load)]


# --- it works when nothing else does


def test_a_load_passes_with_the_judge_gone_and_only_under_emergency_access() -> None:
    bench = Bench()
    bench.judge = None
    bench.load()
    assert loads(bench) == []
    begun(bench)
    bench.load()
    assert loads(bench) == ["L2"]
    release = bench.recorded("release")[-1]
    assert "emergency access" in release["note"]
    bench.handle(Said(1, Trigger("T1", "L2", 0)))
    assert isinstance(bench.to_gantry[-1], Trigger)


def test_a_load_passes_with_the_disk_full_and_is_recorded_in_reserved_space() -> None:
    bench = Bench()
    bench.set_log(Log.FULL)
    bench.load()
    assert loads(bench) == []
    begun(bench)
    bench.load()
    assert loads(bench) == ["L2"]
    reserved = {kind for kind, _, reserved in bench.records if reserved}
    assert {"emergency_begin", "emergency", "release"} <= reserved


def test_with_nothing_to_write_on_it_needs_a_policy_that_says_so() -> None:
    for site, passes in ((policy(), False), (policy(unsafe_emergency_without_log="true"), True)):
        bench = Bench(site)
        bench.set_log(Log.FAILED)
        begun(bench)
        bench.load()
        assert (loads(bench) != []) is passes


def test_what_is_already_on_hold_passes_at_once() -> None:
    bench = Bench()
    bench.judge = [answer(within=False)]
    bench.load()
    assert loads(bench) == []
    begun(bench)
    assert loads(bench) == ["L1"]


def test_what_the_judge_would_halt_passes_and_the_finding_is_on_record() -> None:
    bench = begun(Bench())
    bench.judge = [BAD]
    bench.load()
    assert loads(bench) == ["L1"]
    assert bench.recorded("verdict")[0]["verdict"] == "HALT"


# --- and what it never does


@pytest.mark.parametrize("judge", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"KVP": 150.0},
        {"XRayTubeCurrentInmA": 900.0},
        {"KVP": math.nan},
        {"KVP": None},
        {"CTDIvol": 1200.0},
        {"DLP": 16000.0},
        {"XRayTubeCurrentInmA": 800.0, "RevolutionTime": 1.0, "SpiralPitchFactor": 0.1, "KVP": 140.0},
    ],
)
def test_form_hardware_and_absolute_caps_hold(judge: bool, changes: dict[str, Any]) -> None:
    bench = begun(Bench())
    bench.judge = [answer()] if judge else None
    bench.load(element(**changes))
    assert loads(bench) == []
    assert any(isinstance(m, Refused) and not m.again for m in bench.to_host)


def test_what_form_halts_stays_halted() -> None:
    bench = begun(Bench())
    bench.judge = [answer({LayerName.FORM: (Severity.HALT, "KVP")})]
    bench.load()
    assert loads(bench) == []


@pytest.mark.parametrize("judge", [True, False])
def test_absolute_caps_count_what_was_delivered_under_it(judge: bool) -> None:
    bench = begun(Bench())
    bench.judge = [BAD] if judge else None
    passed = 0
    for _ in range(4):
        load = bench.load(element(CTDIvol=400.0, DLP=100.0, ScanLength=10.0, AcquisitionEndLocation=10.0))
        if load.id in loads(bench):
            passed += 1
            bench.handle(Said(1, Trigger(f"T{passed}", load.id, 0)))
            bench.clock += 200.0
            bench.handle(Tick())  # the beam ends by time: its forecast counts as delivered
    assert passed == 2  # 1000 mGy are allowed in all


# --- bounded


def test_it_ends_by_itself() -> None:
    bench = begun(Bench(), minutes=10)
    bench.judge = None
    bench.pass_time(599.0)
    assert bench.desk.snapshot()["emergency"]["seconds_left"] == 1.0
    bench.pass_time(2.0)
    assert not bench.gate.emergency
    bench.load()
    assert loads(bench) == []
    (end,) = bench.recorded("emergency_end")
    assert (end["why"], end["explained"]) == ("its time is over", False)


def test_the_gates_own_clock_ends_it_even_if_nobody_ticks_the_desk() -> None:
    bench = begun(Bench())
    bench.judge = None
    bench.clock += 15 * 60.0 + 1.0
    bench.load()
    assert loads(bench) == []


def test_it_ends_with_the_examination_that_it_was_used_for() -> None:
    bench = begun(Bench())
    bench.judge = None
    bench.load(examination="one")
    bench.load(examination="one")
    bench.load(examination="two")
    assert loads(bench) == ["L1", "L2"]
    assert bench.recorded("emergency_end")[0]["why"] == "another examination began"


def test_it_ends_with_its_last_load() -> None:
    bench = begun(Bench(policy(policy_text().replace("loads = 10", "loads = 2"))))
    bench.judge = None
    for _ in range(3):
        bench.load()
    assert loads(bench) == ["L1", "L2"]


def test_minutes_are_bounded_and_there_is_one_grant_at_a_time() -> None:
    bench = Bench()
    assert "at most 30" in bench.desk.act(replace(BEGIN, minutes=31), "anna")
    assert not bench.gate.emergency
    begun(bench, minutes=30)
    assert "on already" in bench.desk.act(replace(BEGIN, minutes=30), "bert")
    assert bench.gate.emergency_until == bench.clock + 1800.0


def test_an_operator_ends_it() -> None:
    bench = begun(Bench())
    assert bench.desk.act(Act(ActKind.EMERGENCY_END, "anna"), "anna") == ""
    assert not bench.gate.emergency
    assert bench.desk.act(Act(ActKind.EMERGENCY_END, "anna"), "anna") == "it is not on"


# --- the reason is asked until it is given


def test_the_reason_may_come_afterwards_and_is_recorded() -> None:
    bench = begun(Bench())
    view = bench.desk.snapshot()["emergency"]
    assert (view["on"], view["operator"], view["seconds_left"]) == (True, "anna", 900.0)
    assert view["unexplained"] == [{"number": 1, "operator": "anna"}]
    bench.pass_time(901.0)
    assert bench.desk.snapshot()["emergency"]["unexplained"] == [{"number": 1, "operator": "anna"}]
    assert "waits for no reason" in bench.desk.act(
        Act(ActKind.EMERGENCY_REASON, "anna", 2, reason="x"), "anna"
    )
    assert bench.desk.act(Act(ActKind.EMERGENCY_REASON, "anna", 1, reason="ruptured aneurysm"), "anna") == ""
    assert bench.desk.snapshot()["emergency"]["unexplained"] == []
    assert bench.recorded("emergency_reason")[0]["reason"] == "ruptured aneurysm"


def test_a_reason_given_at_once_is_not_asked_for() -> None:
    bench = begun(Bench(), reason="polytrauma")
    assert bench.desk.snapshot()["emergency"]["unexplained"] == []
    assert bench.recorded("emergency_begin")[0]["reason"] == "polytrauma"


def test_every_screen_is_told_of_begin_and_end() -> None:
    bench = begun(Bench())
    bench.pass_time(901.0)
    kinds = [kind for kind, _ in bench.shown]
    assert kinds.index("emergency_begin") < kinds.index("emergency_end")
    assert [d["on"] for d in bench.told("emergency")] == [True, False]


# --- over the local socket


def test_one_signed_line_over_the_local_socket_is_enough(tmp_path: Path) -> None:
    bench = Bench()
    bench.judge = None
    bench.set_log(Log.FULL)
    with running(tmp_path / "c", bench) as guard, ControlClient(guard.path) as anna:
        assert anna.act(BEGIN, ANNA).done
        guard.run(bench.load)
        assert loads(bench) == ["L1"]


def test_without_a_key_only_where_the_policy_says_so_and_only_locally(tmp_path: Path) -> None:
    act = Act(ActKind.EMERGENCY)
    with running(tmp_path / "a") as guard, ControlClient(guard.path) as anybody:
        assert not anybody.act(act, None).done
        assert not guard.bench.gate.emergency
    weak = policy(policy_text().replace("# unsafe_without_key", "unsafe_without_key"))
    with running(tmp_path / "b", Bench(weak)) as guard, ControlClient(guard.path) as anybody:
        assert anybody.without_key
        assert anybody.act(act, None).done
        assert guard.bench.recorded("emergency_begin")[0]["operator"].startswith("uid ")
        client = next(iter(guard.server._clients.values()))
        client.local = False
        guard.run(lambda: guard.bench.desk.act(Act(ActKind.EMERGENCY_END), "x"))
        assert not anybody.act(act, None).done
        for other in (Act(ActKind.EMERGENCY, "anna"), Act(ActKind.RELEASE, reason="x")):
            client.local = True
            assert not anybody.act(other, None).done


# --- whatever is asked of it, in whatever order

STEPS = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, 60)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("load"), st.integers(0, 2)),
    st.tuples(st.just("released"), st.integers(0, 2)),
    st.tuples(st.just("pass"), st.integers(0, 2000)),
    st.tuples(st.just("sleep"), st.integers(0, 2000)),  # time that nobody told it of
    st.tuples(st.just("explain"), st.integers(0, 5)),
)


@given(st.lists(STEPS, max_size=40))
def test_no_grant_lasts_longer_or_lets_more_pass_than_its_rules(steps: list[tuple[str, int]]) -> None:
    access, now = EmergencyAccess(RULES), 0.0
    seen: dict[int, set[int]] = {}
    for what, value in steps:
        if what == "begin":
            access.begin(now, "anna", float(value))
        elif what == "end":
            access.end("enough")
        elif what == "load":
            access.before_load(str(value), now)
        elif what == "released" and access.on(now):
            access.before_load(str(value), now)
            if access.on(now) and access.grant is not None:
                seen.setdefault(access.grant.number, set()).add(value)
                access.released(str(value), now)
        elif what == "explain":
            access.explain(value, "because")
        else:
            now += value
            if what == "pass":
                access.tick(now)
        if access.on(now):
            grant = access.grant
            assert grant is not None
            assert grant.since <= now < grant.until <= grant.since + 60.0 * RULES.most_minutes
            assert grant.loads < RULES.loads
        else:
            assert access.until(now) == 0.0
    assert all(len(examinations) == 1 for examinations in seen.values())


def test_a_load_that_the_gantry_holds_otherwise_is_not_armed_even_now() -> None:
    bench = begun(Bench())
    bench.judge = None
    bench.load()
    other = Loaded("L2", ({**element().command.parameters, "KVP": 100.0},))
    bench.handle(GantrySaid(other))
    assert bench.view().armed == "L1"
