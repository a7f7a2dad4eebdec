"""The gate's three state machines as tables: what is done on each sign in each state, and where it may lead.

*Phase* is what the gantry may be doing, *pending* what becomes of the load or motion at the head of the queue,
*trigger* whether a trigger waits for its audit record. A sign goes through all three, in this order. Every
(state, sign) has a row; ``NOTHING`` is written out. ``tests/test_guard_states.py`` walks every pair against a
reference table written separately, and ``tests/models/gate.pml`` checks the same with spin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Time in an examination."""

    IDLE = "IDLE"  # nothing that may be triggered
    LOADED = "LOADED"  # a chain is armed
    COMMITTED = "COMMITTED"  # injection or first exposure begun
    BEAM = "BEAM"  # a trigger was passed on, or the gantry says that the beam is on


class Pending(StrEnum):
    """The head of the queue."""

    NONE = "NONE"
    JUDGING = "JUDGING"  # the judge was asked
    HELD = "HELD"  # an operator was asked
    RECORDING = "RECORDING"  # released, once its record is durable
    CONFIRMING = "CONFIRMING"  # passed on; the gantry's echo is awaited


class Firing(StrEnum):
    """The trigger."""

    NONE = "NONE"
    RECORDING = "RECORDING"  # allowed, once its record is durable


class Sign(StrEnum):
    """What the gate tells apart."""

    HOST_UP = "HOST_UP"
    HOST_LOST = "HOST_LOST"
    GANTRY_UP = "GANTRY_UP"
    GANTRY_LOST = "GANTRY_LOST"
    MALFORMED = "MALFORMED"
    # the host
    LOAD = "LOAD"
    MOTION = "MOTION"
    TRIGGER = "TRIGGER"
    STOP = "STOP"
    CANCEL = "CANCEL"
    HOUSEKEEPING = "HOUSEKEEPING"
    # the gantry
    LOADED = "LOADED"
    INJECTION = "INJECTION"
    STARTED = "STARTED"
    DONE = "DONE"
    DECLINED = "DECLINED"
    STOPPED = "STOPPED"
    GANTRY_NEWS = "GANTRY_NEWS"  # moved, status, heartbeat, hello
    # judge, log, people, time
    JUDGED = "JUDGED"
    JUDGE_LOST = "JUDGE_LOST"
    DURABLE = "DURABLE"
    LOG = "LOG"
    OPERATOR = "OPERATOR"
    CHANGED = "CHANGED"
    MODE = "MODE"
    EMERGENCY = "EMERGENCY"
    DELIVERED = "DELIVERED"
    TICK = "TICK"


class Do(StrEnum):
    """What is done. Each is a method of the gate."""

    NOTHING = "nothing"
    # phase
    ADMIT = "admit"  # queue a load or motion
    SUPERSEDE = "supersede"  # void what is armed, then queue the load
    BUSY = "busy"  # refuse; the same may be sent again
    HOUSEKEEP = "housekeep"  # pass a heartbeat on
    GREET = "greet"
    GANTRY_READY = "gantry_ready"
    OFFENCE = "offence"  # bytes that are no message
    NOTE_LOG = "note_log"
    SET_EMERGENCY = "set_emergency"
    RAISE_DOSE = "raise_dose"  # a dose report
    STOP = "stop"  # pass on at once, void, record afterwards
    CANCEL = "cancel"  # the host gives a load up
    COMMIT = "commit"  # injection has begun
    NEWS = "news"  # relay to the host
    STRAY_BEAM = "stray_beam"  # a beam that nobody released: stop it
    STARTED = "started"  # the beam of a chain's element is on
    DONE = "done"  # an element ended
    UNDONE = "undone"  # the gantry declined the trigger
    LOSE_HOST = "lose_host"
    LOSE_GANTRY = "lose_gantry"
    VOID_CHANGED = "void_changed"  # what the arming is bound to changed
    NOTE_CHANGED = "note_changed"  # too late to hold: alert
    SET_MODE = "set_mode"
    KEEP_MODE = "keep_mode"  # refuse to change it now
    EXPIRE = "expire"  # an arming that was not used
    END_BEAM = "end_beam"  # a beam that does not end
    # pending
    RULE = "rule"  # a verdict
    UNJUDGED = "unjudged"  # no verdict will come
    JUDGE_LATE = "judge_late"
    HOLD_LATE = "hold_late"
    RECORD_LATE = "record_late"
    CONFIRM_LATE = "confirm_late"
    ANSWER = "answer"  # an operator decides
    PASS_ON = "pass_on"  # noqa: S105 - the record is durable
    COMPARE = "compare"  # the gantry's echo with what was judged
    REJECTED = "rejected"  # the gantry declines
    DISCARD = "discard"  # stop or loss: nothing that waits is released
    GIVE_UP = "give_up"  # the host cancelled what waits
    REPLACED = "replaced"  # a newer load
    REJUDGE = "rejudge"  # the context changed
    UNLOGGED = "unlogged"  # no record will become durable
    URGENT = "urgent"  # emergency access
    REMODE = "remode"
    # trigger
    CHECK = "check"
    FIRE = "fire"
    WITHDRAW = "withdraw"
    WITHDRAW_IF_VOID = "withdraw_if_void"
    FIRE_LATE = "fire_late"


@dataclass(frozen=True, slots=True)
class Row:
    """What to do, and every state that may follow."""

    do: Do
    to: frozenset[str]


def _row(do: Do, *to: str) -> Row:
    return Row(do, frozenset(to))


_P, _Q, _F = Phase, Pending, Firing


def _phase() -> dict[tuple[Phase, Sign], Row]:
    table = {(p, s): _row(Do.NOTHING, p) for p in Phase for s in Sign}

    def put(sign: Sign, **rows: Row) -> None:
        for name, row in rows.items():
            table[Phase(name), sign] = row

    def same(sign: Sign, do: Do, to: Phase | None = None) -> None:
        for p in Phase:
            table[p, sign] = _row(do, to or p)

    put(
        Sign.LOAD,
        IDLE=_row(Do.ADMIT, _P.IDLE),
        LOADED=_row(Do.SUPERSEDE, _P.IDLE, _P.LOADED),
        COMMITTED=_row(Do.ADMIT, _P.COMMITTED),
        BEAM=_row(Do.BUSY, _P.BEAM),
    )
    same(Sign.MOTION, Do.ADMIT)
    table[_P.BEAM, Sign.MOTION] = _row(Do.BUSY, _P.BEAM)
    same(Sign.STOP, Do.STOP, _P.IDLE)
    put(
        Sign.CANCEL,
        IDLE=_row(Do.CANCEL, _P.IDLE),
        LOADED=_row(Do.CANCEL, _P.LOADED, _P.IDLE),
        COMMITTED=_row(Do.CANCEL, _P.COMMITTED, _P.IDLE),
        BEAM=_row(Do.CANCEL, _P.BEAM),
    )
    same(Sign.HOUSEKEEPING, Do.HOUSEKEEP)
    same(Sign.HOST_UP, Do.GREET)
    same(Sign.GANTRY_UP, Do.GANTRY_READY)
    same(Sign.MALFORMED, Do.OFFENCE)
    same(Sign.LOG, Do.NOTE_LOG)
    same(Sign.EMERGENCY, Do.SET_EMERGENCY)
    same(Sign.DELIVERED, Do.RAISE_DOSE)
    same(Sign.GANTRY_NEWS, Do.NEWS)
    same(Sign.LOADED, Do.NEWS)
    same(Sign.DECLINED, Do.NEWS)
    table[_P.BEAM, Sign.DECLINED] = _row(Do.UNDONE, _P.BEAM, _P.COMMITTED, _P.IDLE)
    same(Sign.STOPPED, Do.NEWS)
    same(Sign.INJECTION, Do.NEWS)
    table[_P.LOADED, Sign.INJECTION] = _row(Do.COMMIT, _P.COMMITTED)
    put(
        Sign.STARTED,
        IDLE=_row(Do.STRAY_BEAM, _P.IDLE),
        LOADED=_row(Do.STRAY_BEAM, _P.IDLE, _P.LOADED),  # LOADED in shadow mode alone
        COMMITTED=_row(Do.STARTED, _P.BEAM, _P.IDLE, _P.COMMITTED),
        BEAM=_row(Do.STARTED, _P.BEAM, _P.IDLE),
    )
    put(
        Sign.DONE,
        IDLE=_row(Do.DONE, _P.IDLE),
        LOADED=_row(Do.DONE, _P.LOADED),
        COMMITTED=_row(Do.DONE, _P.COMMITTED),
        BEAM=_row(Do.DONE, _P.BEAM, _P.COMMITTED, _P.IDLE),
    )
    same(Sign.HOST_LOST, Do.LOSE_HOST)
    for p in (_P.LOADED, _P.COMMITTED, _P.BEAM):  # a stop connection may go without harm
        table[p, Sign.HOST_LOST] = _row(Do.LOSE_HOST, _P.IDLE, p)
    same(Sign.GANTRY_LOST, Do.LOSE_GANTRY, _P.IDLE)
    table[_P.LOADED, Sign.CHANGED] = _row(Do.VOID_CHANGED, _P.IDLE, _P.LOADED)
    table[_P.COMMITTED, Sign.CHANGED] = _row(Do.NOTE_CHANGED, _P.COMMITTED)
    table[_P.BEAM, Sign.CHANGED] = _row(Do.NOTE_CHANGED, _P.BEAM)
    put(
        Sign.MODE,
        IDLE=_row(Do.SET_MODE, _P.IDLE),
        LOADED=_row(Do.SET_MODE, _P.IDLE, _P.LOADED),
        COMMITTED=_row(Do.KEEP_MODE, _P.COMMITTED),
        BEAM=_row(Do.KEEP_MODE, _P.BEAM),
    )
    table[_P.LOADED, Sign.TICK] = _row(Do.EXPIRE, _P.LOADED, _P.IDLE)
    table[_P.COMMITTED, Sign.TICK] = _row(Do.EXPIRE, _P.COMMITTED, _P.IDLE)
    table[_P.BEAM, Sign.TICK] = _row(Do.END_BEAM, _P.BEAM, _P.IDLE)
    return table


def _pending() -> dict[tuple[Pending, Sign], Row]:
    table = {(q, s): _row(Do.NOTHING, q) for q in Pending for s in Sign}
    waiting = (_Q.JUDGING, _Q.HELD, _Q.RECORDING, _Q.CONFIRMING)
    for q in waiting:
        table[q, Sign.STOP] = _row(Do.DISCARD, _Q.NONE)
        table[q, Sign.GANTRY_LOST] = _row(Do.DISCARD, _Q.NONE)
        table[q, Sign.HOST_LOST] = _row(Do.DISCARD, _Q.NONE, q)
        table[q, Sign.CANCEL] = _row(Do.GIVE_UP, _Q.NONE, q)
        table[q, Sign.LOAD] = _row(Do.REPLACED, _Q.NONE, q)
        table[q, Sign.CHANGED] = _row(Do.REJUDGE, _Q.JUDGING, q)
        table[q, Sign.MODE] = _row(Do.REMODE, _Q.NONE, q)
    table[_Q.CONFIRMING, Sign.CHANGED] = _row(Do.REJUDGE, _Q.NONE, _Q.CONFIRMING)
    table[_Q.JUDGING, Sign.JUDGED] = _row(Do.RULE, _Q.HELD, _Q.RECORDING, _Q.NONE, _Q.JUDGING)
    table[_Q.JUDGING, Sign.JUDGE_LOST] = _row(Do.UNJUDGED, _Q.RECORDING, _Q.NONE, _Q.JUDGING)
    table[_Q.JUDGING, Sign.TICK] = _row(Do.JUDGE_LATE, _Q.JUDGING, _Q.RECORDING, _Q.NONE)
    table[_Q.JUDGING, Sign.LOG] = _row(Do.UNLOGGED, _Q.JUDGING, _Q.NONE)
    table[_Q.HELD, Sign.OPERATOR] = _row(Do.ANSWER, _Q.RECORDING, _Q.NONE, _Q.HELD)
    table[_Q.HELD, Sign.EMERGENCY] = _row(Do.URGENT, _Q.RECORDING, _Q.HELD, _Q.NONE)
    table[_Q.HELD, Sign.TICK] = _row(Do.HOLD_LATE, _Q.HELD, _Q.NONE, _Q.RECORDING)
    table[_Q.HELD, Sign.LOG] = _row(Do.UNLOGGED, _Q.HELD, _Q.NONE)
    table[_Q.RECORDING, Sign.DURABLE] = _row(Do.PASS_ON, _Q.CONFIRMING, _Q.NONE, _Q.RECORDING)
    table[_Q.RECORDING, Sign.TICK] = _row(Do.RECORD_LATE, _Q.RECORDING, _Q.NONE)
    table[_Q.RECORDING, Sign.LOG] = _row(Do.UNLOGGED, _Q.RECORDING, _Q.NONE)
    table[_Q.CONFIRMING, Sign.LOADED] = _row(Do.COMPARE, _Q.NONE, _Q.CONFIRMING)
    table[_Q.CONFIRMING, Sign.DECLINED] = _row(Do.REJECTED, _Q.NONE, _Q.CONFIRMING)
    table[_Q.CONFIRMING, Sign.TICK] = _row(Do.CONFIRM_LATE, _Q.CONFIRMING, _Q.NONE)
    return table


def _firing() -> dict[tuple[Firing, Sign], Row]:
    table = {(f, s): _row(Do.NOTHING, f) for f in Firing for s in Sign}
    table[_F.NONE, Sign.TRIGGER] = _row(Do.CHECK, _F.NONE, _F.RECORDING)
    waits = _F.RECORDING
    table[waits, Sign.TRIGGER] = _row(Do.BUSY, waits)
    table[waits, Sign.DURABLE] = _row(Do.FIRE, _F.NONE, waits)
    table[waits, Sign.TICK] = _row(Do.FIRE_LATE, _F.NONE, waits)
    table[waits, Sign.STOP] = _row(Do.WITHDRAW, _F.NONE)
    table[waits, Sign.GANTRY_LOST] = _row(Do.WITHDRAW, _F.NONE)
    for sign in (
        Sign.HOST_LOST,
        Sign.LOAD,
        Sign.CANCEL,
        Sign.CHANGED,
        Sign.MODE,
        Sign.LOG,
        Sign.STARTED,
        Sign.LOADED,
        Sign.DECLINED,
    ):
        table[waits, sign] = _row(Do.WITHDRAW_IF_VOID, _F.NONE, waits)
    return table


PHASE_TABLE = _phase()
PENDING_TABLE = _pending()
FIRING_TABLE = _firing()
