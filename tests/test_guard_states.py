"""The gate's tables against a reference written separately, from docs/adr/0007 and DESIGN's invariants.

The reference is text: for each machine and state, the signs on which something is done, what, and where it may lead
("=" stays). Every pair that is not named must do nothing and stay.
"""

from __future__ import annotations

from enum import StrEnum

import pytest

from scanward.guard.events import GateRules
from scanward.guard.gate import Gate
from scanward.guard.states import (
    FIRING_TABLE,
    PENDING_TABLE,
    PHASE_TABLE,
    Do,
    Firing,
    Pending,
    Phase,
    Row,
    Sign,
)

PHASES = """
IDLE       LOAD admit =            | MOTION admit =   | STOP stop =     | CANCEL cancel =
LOADED     LOAD supersede IDLE =   | MOTION admit =   | STOP stop IDLE  | CANCEL cancel = IDLE
COMMITTED  LOAD admit =            | MOTION admit =   | STOP stop IDLE  | CANCEL cancel = IDLE
BEAM       LOAD busy =             | MOTION busy =    | STOP stop IDLE  | CANCEL cancel =

IDLE       INJECTION news =           | STARTED stray_beam =         | DONE done =
LOADED     INJECTION commit COMMITTED | STARTED stray_beam IDLE =    | DONE done =
COMMITTED  INJECTION news =           | STARTED started BEAM IDLE =  | DONE done =
BEAM       INJECTION news =           | STARTED started = IDLE       | DONE done = COMMITTED IDLE

IDLE       DECLINED news =   | LOADED news = | STOPPED news = | GANTRY_NEWS news = | HOUSEKEEPING housekeep =
LOADED     DECLINED news =   | LOADED news = | STOPPED news = | GANTRY_NEWS news = | HOUSEKEEPING housekeep =
COMMITTED  DECLINED news =   | LOADED news = | STOPPED news = | GANTRY_NEWS news = | HOUSEKEEPING housekeep =
BEAM       DECLINED undone = COMMITTED IDLE | LOADED news = | STOPPED news = | GANTRY_NEWS news = \
           | HOUSEKEEPING housekeep =

IDLE       HOST_LOST lose_host =      | GANTRY_LOST lose_gantry =    |                              | MODE set_mode =
LOADED     HOST_LOST lose_host IDLE =| GANTRY_LOST lose_gantry IDLE | CHANGED void_changed IDLE = | MODE set_mode IDLE =
COMMITTED  HOST_LOST lose_host IDLE = | GANTRY_LOST lose_gantry IDLE | CHANGED note_changed =       | MODE keep_mode =
BEAM       HOST_LOST lose_host IDLE = | GANTRY_LOST lose_gantry IDLE | CHANGED note_changed =       | MODE keep_mode =

LOADED     TICK expire = IDLE
COMMITTED  TICK expire = IDLE
BEAM       TICK end_beam = IDLE

*          HOST_UP greet = | GANTRY_UP gantry_ready = | MALFORMED offence = | LOG note_log =
*          EMERGENCY set_emergency = | DELIVERED raise_dose =
"""

WAITS = """
JUDGING    JUDGED rule HELD RECORDING NONE = | JUDGE_LOST unjudged RECORDING NONE = | TICK judge_late = RECORDING NONE
JUDGING    LOG unlogged = NONE
HELD       OPERATOR answer RECORDING NONE = | EMERGENCY urgent RECORDING NONE = | TICK hold_late = NONE RECORDING
HELD       LOG unlogged = NONE
RECORDING  DURABLE pass_on CONFIRMING NONE = | TICK record_late = NONE | LOG unlogged = NONE
CONFIRMING LOADED compare NONE = | DECLINED rejected NONE = | TICK confirm_late = NONE

JUDGING    STOP discard NONE | GANTRY_LOST discard NONE | HOST_LOST discard NONE = | CANCEL give_up NONE =
HELD       STOP discard NONE | GANTRY_LOST discard NONE | HOST_LOST discard NONE = | CANCEL give_up NONE =
RECORDING  STOP discard NONE | GANTRY_LOST discard NONE | HOST_LOST discard NONE = | CANCEL give_up NONE =
CONFIRMING STOP discard NONE | GANTRY_LOST discard NONE | HOST_LOST discard NONE = | CANCEL give_up NONE =

JUDGING    LOAD replaced NONE = | CHANGED rejudge =              | MODE remode NONE =
HELD       LOAD replaced NONE = | CHANGED rejudge JUDGING =      | MODE remode NONE =
RECORDING  LOAD replaced NONE = | CHANGED rejudge JUDGING =      | MODE remode NONE =
CONFIRMING LOAD replaced NONE = | CHANGED rejudge NONE =         | MODE remode NONE =
"""

TRIGGERS = """
NONE       TRIGGER check = RECORDING
RECORDING  TRIGGER busy = | DURABLE fire NONE = | TICK fire_late NONE = | STOP withdraw NONE | GANTRY_LOST withdraw NONE
RECORDING  HOST_LOST withdraw_if_void NONE = | LOAD withdraw_if_void NONE =    | CANCEL withdraw_if_void NONE =
RECORDING  CHANGED withdraw_if_void NONE =   | MODE withdraw_if_void NONE =    | LOG withdraw_if_void NONE =
RECORDING  STARTED withdraw_if_void NONE =   | LOADED withdraw_if_void NONE =  | DECLINED withdraw_if_void NONE =
"""


def parse(text: str, states: type[StrEnum]) -> dict[tuple[str, Sign], Row]:
    """The reference as a total table."""
    table = {(s.value, sign): Row(Do.NOTHING, frozenset({s.value})) for s in states for sign in Sign}
    for line in text.splitlines():
        if not line.strip():
            continue
        state, rest = line.split(None, 1)
        for cell in filter(str.strip, rest.split("|")):
            sign, do, *to = cell.split()
            for each in [s.value for s in states] if state == "*" else [state]:
                key = (each, Sign(sign))
                assert table[key].do is Do.NOTHING, f"{key} is written twice"
                table[key] = Row(Do(do), frozenset(each if t == "=" else t for t in to))
    return table


MACHINES = [
    ("phase", PHASE_TABLE, PHASES, Phase),
    ("pending", PENDING_TABLE, WAITS, Pending),
    ("firing", FIRING_TABLE, TRIGGERS, Firing),
]


@pytest.mark.parametrize(("name", "table", "text", "states"), MACHINES, ids=[m[0] for m in MACHINES])
def test_every_pair_is_as_the_reference_has_it(
    name: str, table: dict[tuple[StrEnum, Sign], Row], text: str, states: type[StrEnum]
) -> None:
    reference = parse(text, states)
    assert {(s.value, sign) for s, sign in table} == set(reference)  # total: every state, every sign
    differences = {
        f"{name} {state} {sign}: {row.do} -> {sorted(row.to)}, reference {reference[state.value, sign].do} "
        f"-> {sorted(reference[state.value, sign].to)}"
        for (state, sign), row in table.items()
        if (row.do, {str(t) for t in row.to})
        != (reference[state.value, sign].do, set(reference[state.value, sign].to))
    }
    assert differences == set()


def test_everything_that_is_done_is_a_method_and_is_used() -> None:
    used = {row.do for _, table, _, _ in MACHINES for row in table.values()}
    assert used == set(Do)
    for do in set(Do) - {Do.NOTHING}:
        assert callable(getattr(Gate, f"_{do.value}")), do


def test_a_stop_is_done_in_every_phase_and_leaves_nothing_waiting() -> None:
    assert all(PHASE_TABLE[p, Sign.STOP] == Row(Do.STOP, frozenset({Phase.IDLE})) for p in Phase)
    assert all(PENDING_TABLE[q, Sign.STOP].to == {Pending.NONE} for q in Pending)
    assert all(FIRING_TABLE[f, Sign.STOP].to == {Firing.NONE} for f in Firing)


def test_no_sign_of_the_host_leads_straight_to_beam_or_past_a_record() -> None:
    host = (Sign.LOAD, Sign.MOTION, Sign.CANCEL, Sign.HOUSEKEEPING, Sign.MALFORMED, Sign.STOP)
    for (state, sign), row in PHASE_TABLE.items():
        if sign in (*host, Sign.TRIGGER):
            assert Phase.BEAM not in row.to or state is Phase.BEAM
    for (pending, sign), row in PENDING_TABLE.items():
        if Pending.CONFIRMING in row.to and pending is not Pending.CONFIRMING:
            assert (pending, sign) == (Pending.RECORDING, Sign.DURABLE)


def test_bounds_have_defaults_that_make_sense() -> None:
    rules = GateRules("p", {})
    assert rules.committed_record_seconds < rules.record_seconds < rules.hold_seconds < rules.arming_seconds
    weak = {name for name in GateRules.__slots__ if name.startswith("unsafe_") and getattr(rules, name)}
    assert weak == set()
