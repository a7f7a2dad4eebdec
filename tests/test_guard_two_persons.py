"""What one operator alone does not release: asked for by the policy, kept by the desk, and by the gate once more."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard import ANNA, BERT, Bench, answer, element, load, policy, policy_text, profile
from scanward.commands import LEARNED_LAYERS, LayerName, Mode, Objection, Outcome, Severity, Verdict
from scanward.commands.wire import Held, Load, Refused
from scanward.errors import PolicyError
from scanward.guard.control_lines import encode
from scanward.guard.events import Decision, OperatorSaid
from scanward.guard.ledger import Ledger
from scanward.guard.operators import Act, ActKind
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.policy_terms import ElementAnswer, TwoPersons
from scanward.guard.profile_make import template, with_operators

RULES = """
[two_persons]
layers = ["physics"]
disputes = ["PatientID", "PatientAge"]
p_value_below = 0.001
dose_factor = 1.5
"""
SITE = policy(policy_text() + RULES)
ODD = answer({LayerName.PHYSICS: (Severity.ALERT, "DLP")})  # held, and needs two
STRANGE = answer(within=False)  # held, and needs one


def held(bench: Bench, said: ElementAnswer = ODD, **changes: Any) -> dict[str, Any]:
    bench.judge = [said]
    bench.load(element(**changes))
    return bench.told("held")[-1]


def release(bench: Bench, hold: dict[str, Any], who: str, reason: str = "seen") -> str:
    return bench.desk.act(Act(ActKind.RELEASE, who, hold["request"], hold["digest"], reason), who)


# --- what needs two


def persons(said: ElementAnswer, site: Policy = SITE, **changes: Any) -> int:
    (finding,) = site.decide(load(element(**changes)), [said], Mode.CLINICAL)
    return finding.persons


def test_an_old_policy_asks_for_one() -> None:
    assert policy().two_persons is None
    for said in (ODD, STRANGE, replace(STRANGE, p_value=0.0), answer(disputed=True)):
        assert persons(said, policy()) == 1


def test_what_asks_for_two() -> None:
    assert persons(ODD) == 2
    assert persons(answer({LayerName.PROTOCOL_BOOK: (Severity.ALERT, "KVP")})) == 1
    assert persons(STRANGE) == 1
    assert persons(replace(STRANGE, p_value=0.0009)) == 2
    assert persons(replace(STRANGE, p_value=0.001)) == 1
    assert persons(replace(STRANGE, p_value=None)) == 1  # no number is no small one
    assert persons(answer(disputed=True)) == 2
    weight = Objection("PatientWeight", "sources disagree", 3.0)
    assert persons(replace(answer(), disputed=(weight,))) == 1
    assert persons(answer()) == 1


def test_a_learned_layer_asks_for_two_where_it_is_the_one_to_blame() -> None:
    site = replace(SITE, two_persons=TwoPersons(frozenset({LayerName.PROCEDURE})))
    for layer in LEARNED_LAYERS:
        opinions = tuple(
            replace(o, outcome=Outcome.OBJECT, objections=(Objection("KVP", "is odd", weight=3.0),))
            if o.layer is layer
            else o
            for o in STRANGE.opinions
        )
        assert persons(replace(STRANGE, opinions=opinions), site) == (
            2 if layer is LayerName.PROCEDURE else 1
        )


@pytest.mark.parametrize(("delivered", "asked"), [(0.0, 1), (190.0, 1), (295.0, 2)])
def test_far_beyond_an_alert_cap_asks_for_two(delivered: float, asked: int) -> None:
    """The alert cap of a body is 200 mGy, the command gives 7: 1.5 times the cap lies at 300."""
    ledger = Ledger(everywhere={32: delivered})
    (finding,) = SITE.decide(load(), [answer()], Mode.CLINICAL, [ledger])
    assert (finding.verdict is Verdict.ALERT) is (delivered > 193.0)
    assert finding.persons == asked


def test_one_element_that_needs_two_makes_the_whole_chain_need_two() -> None:
    bench = Bench(SITE)
    bench.judge = [answer()]
    original = bench.policy.decide

    def decide(whole: Load, answers: Any, mode: Mode, ledgers: Any = ()) -> Any:
        return original(whole, [answer(), ODD], mode, ledgers)

    object.__setattr__(bench.policy, "decide", decide)
    try:
        bench.load(element(), element(KVP=100.0))
    finally:
        object.__delattr__(bench.policy, "decide")
    assert bench.told("held")[-1]["persons"] == 2


# --- in the policy


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[two_persons]", "nothing needs two persons"),
        ('[two_persons]\nlayers = ["fysics"]', "is no layer"),
        ('[two_persons]\ndisputes = ["KVP"]', "nobody tells 'KVP'"),
        ("[two_persons]\np_value_below = 2", "out of range"),
        ("[two_persons]\ndose_factor = 0.5", "out of range"),
        ("[two_persons]\ndose_factor = 1.5\nmore = 1", "more"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(table: str, says: str) -> None:
    text = policy_text() + table + "\n"
    with pytest.raises(PolicyError, match=re.escape(says)) as caught:
        policy(text)
    assert "line" in caught.value.where


def test_a_policy_with_one_who_may_release_cannot_ask_for_two() -> None:
    text = policy_text().replace(
        'may = ["release", "refuse", "emergency", "mode"]', 'may = ["refuse", "mode"]'
    )
    with pytest.raises(PolicyError, match="always be refused"):
        policy(text + RULES)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_new_policy_has_it_on_from_two_operators_on(count: int) -> None:
    keys = {f"o{n}": (ANNA, BERT)[n % 2].verify_key.raw.hex() for n in range(min(count, 2))}
    if count == 3:
        keys["o2"] = "ab" * 32
    text = with_operators(template("policy.toml"), keys)
    found = parse_policy(text.encode(), "policy.toml", profile()).two_persons
    assert (found is not None) is (count >= 2)
    if found is not None:
        assert LayerName.PHYSICS in found.layers
        assert "PatientID" in found.disputes
        assert (found.p_value_below, found.dose_factor) == (0.001, 1.5)


# --- at the desk and at the gate


def test_two_operators_release_and_both_are_on_record() -> None:
    bench = Bench(SITE)
    hold = held(bench)
    assert hold["persons"] == 2
    assert release(bench, hold, "anna", "large patient") == ""
    assert bench.to_gantry == []
    assert bench.view().hold == hold["request"]
    (first,) = bench.recorded("one_of_two")
    assert (first["operator"], first["reason"], first["digest"]) == ("anna", "large patient", hold["digest"])
    (told,) = bench.told("one_of_two")
    assert told["request"] == hold["request"]
    shown = bench.desk.snapshot()["held"]
    assert shown["released_by"] == [{"operator": "anna", "reason": "large patient"}]
    assert release(bench, hold, "bert", "agreed") == ""
    assert [type(m) for m in bench.to_gantry] == [Load]
    (operator,) = bench.recorded("operator")
    assert (operator["before"], operator["operator"]) == ("anna", "bert")
    assert "anna and bert" in bench.told("released")[0]["note"]


def test_one_operator_releases_what_needs_one() -> None:
    bench = Bench(SITE)
    hold = held(bench, STRANGE)
    assert hold["persons"] == 1
    assert release(bench, hold, "anna") == ""
    assert [type(m) for m in bench.to_gantry] == [Load]
    assert bench.recorded("one_of_two") == []
    assert bench.recorded("operator")[0]["before"] == ""


def test_the_same_operator_twice_is_one() -> None:
    bench = Bench(SITE)
    hold = held(bench)
    assert release(bench, hold, "anna") == ""
    for _ in range(3):
        assert "another operator" in release(bench, hold, "anna", "really")
    assert bench.to_gantry == []
    assert bench.recorded("operator") == []
    assert len(bench.recorded("one_of_two")) == 1


@pytest.mark.parametrize("who", ["anna", "bert", "carl"])
def test_anybody_refuses_what_one_released(who: str) -> None:
    bench = Bench(SITE)
    hold = held(bench)
    release(bench, hold, "anna")
    act = Act(ActKind.REFUSE, who, hold["request"], hold["digest"], "no")
    assert bench.desk.act(act, who) == ""
    assert bench.to_gantry == []
    assert "no" in next(m for m in bench.to_host if isinstance(m, Refused)).reason
    assert release(bench, hold, "bert")  # too late


def test_half_a_release_is_worth_nothing_for_the_next_hold() -> None:
    bench = Bench(SITE)
    first = held(bench)
    release(bench, first, "anna")
    again = held(bench)  # the same command, loaded anew
    assert again["digest"] == first["digest"]
    assert again["request"] != first["request"]
    assert bench.desk.snapshot()["held"]["released_by"] == []
    assert release(bench, again, "bert") == ""
    assert bench.to_gantry == []
    assert release(bench, again, "anna") == ""
    assert len(bench.to_gantry) == 1


def test_the_time_of_a_hold_does_not_begin_anew() -> None:
    bench = Bench(SITE)
    hold = held(bench)
    bench.pass_time(50.0)
    release(bench, hold, "anna")
    bench.pass_time(11.0)
    assert bench.view().hold == 0
    assert release(bench, hold, "bert")
    assert bench.to_gantry == []


def test_the_policy_may_give_two_more_time_than_one() -> None:
    site = policy(policy_text() + RULES + "hold_seconds = 120\n")
    for said, seconds in ((STRANGE, 60.0), (ODD, 120.0)):
        bench = Bench(site)
        assert held(bench, said)["seconds"] == seconds
        assert bench.desk.snapshot()["held"]["seconds_left"] == seconds
        assert next(m for m in bench.to_host if isinstance(m, Held)).deadline == seconds
        bench.pass_time(seconds - 1.0)
        assert bench.view().hold
        bench.pass_time(2.0)
        assert not bench.view().hold
    with pytest.raises(PolicyError, match="out of range"):
        policy(policy_text() + RULES + "hold_seconds = 30\n")


def test_nobody_releases_it_where_time_releases_other_holds() -> None:
    text = policy_text(unsafe_release_without_operator="true") + RULES
    for said, sent in ((STRANGE, 1), (ODD, 0)):
        bench = Bench(policy(text))
        held(bench, said)
        bench.pass_time(61.0)
        assert len(bench.to_gantry) == sent


def test_one_lone_operator_has_emergency_access() -> None:
    bench = Bench(SITE)
    hold = held(bench)
    release(bench, hold, "anna")
    assert bench.desk.act(Act(ActKind.EMERGENCY, "anna", minutes=5), "anna") == ""
    assert [type(m) for m in bench.to_gantry] == [Load]
    bench.load()
    assert sum(isinstance(m, Load) for m in bench.to_gantry) == 2


@pytest.mark.parametrize("before", ["", "anna"])
def test_the_gate_itself_refuses_a_release_by_one(before: str) -> None:
    bench = Bench(SITE)
    hold = held(bench)
    bench.handle(OperatorSaid(Decision.RELEASE, hold["request"], hold["digest"], "anna", "why", before))
    assert bench.to_gantry == []
    assert bench.view().hold == hold["request"]
    assert "two operators" in bench.told("act_refused")[0]["reason"]
    bench.handle(OperatorSaid(Decision.RELEASE, hold["request"], hold["digest"], "bert", "why", "anna"))
    assert [type(m) for m in bench.to_gantry] == [Load]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["release", "release", "refuse", "call", "load", "wait", "snapshot"]),
        st.sampled_from(["anna", "bert", "carl"]),
        st.integers(0, 2),  # holds ago
    ),
    max_size=14,
)


@given(ACTS)
def test_nothing_that_needs_two_passes_without_two(acts: list[tuple[str, str, int]]) -> None:
    """Whatever people do in whatever order: each load that reached the gantry has two different names on record."""
    bench = Bench(SITE)
    holds = [held(bench)]
    for what, who, ago in acts:
        hold = holds[max(0, len(holds) - 1 - ago)]
        if what in ("release", "refuse", "call"):
            bench.desk.act(Act(ActKind(what), who, hold["request"], hold["digest"], "why"), who)
        elif what == "load":
            holds.append(held(bench, KVP=100.0 + 20.0 * ago))
        elif what == "wait":
            bench.pass_time(25.0)
        else:
            encode({"state": bench.desk.snapshot()})
    sent = [m for m in bench.to_gantry if isinstance(m, Load)]
    said = [o for o in bench.recorded("operator") if o["decision"] is Decision.RELEASE]
    assert len(sent) == len(said)
    firsts = {(f["request"], f["operator"]) for f in bench.recorded("one_of_two")}
    for one in said:
        assert one["before"] != one["operator"]
        assert (one["request"], one["before"]) in firsts


# --- calling


def test_a_call_is_told_and_recorded_and_decides_nothing() -> None:
    bench = Bench(SITE)
    hold = held(bench)
    for who, times in (("carl", 1), ("carl", 2), ("anna", 1)):
        assert bench.desk.act(Act(ActKind.CALL, who, hold["request"]), who) == ""
        assert bench.told("called")[-1] == {"request": hold["request"], "operator": who, "times": times}
    assert len(bench.recorded("called")) == 3
    assert bench.desk.snapshot()["held"]["called"] == ["anna", "carl"]
    assert bench.view().hold == hold["request"]
    assert bench.to_gantry == []
    bench.pass_time(61.0)
    assert "not on hold" in bench.desk.act(Act(ActKind.CALL, "anna", hold["request"]), "anna")
    again = held(bench)
    assert bench.desk.snapshot()["held"]["called"] == []
    assert json.loads(encode(again))["persons"] == 2
