"""Under which sign of the tables an event is looked up."""

from __future__ import annotations

from scanward.commands.wire import (
    Cancel,
    Declined,
    Done,
    Heartbeat,
    Injection,
    Load,
    Loaded,
    Motion,
    Started,
    Stop,
    Stopped,
    Trigger,
)
from scanward.guard.events import (
    Changed,
    Delivered,
    Durable,
    EmergencySet,
    Event,
    GantryLost,
    GantrySaid,
    GantryUp,
    HostLost,
    HostUp,
    Judged,
    JudgeLost,
    LogIs,
    Malformed,
    ModeSet,
    OperatorSaid,
    Said,
    Tick,
)
from scanward.guard.states import Sign

_SIGNS: dict[type, Sign] = {
    HostUp: Sign.HOST_UP,
    HostLost: Sign.HOST_LOST,
    GantryUp: Sign.GANTRY_UP,
    GantryLost: Sign.GANTRY_LOST,
    Malformed: Sign.MALFORMED,
    Judged: Sign.JUDGED,
    JudgeLost: Sign.JUDGE_LOST,
    Durable: Sign.DURABLE,
    LogIs: Sign.LOG,
    OperatorSaid: Sign.OPERATOR,
    Changed: Sign.CHANGED,
    ModeSet: Sign.MODE,
    EmergencySet: Sign.EMERGENCY,
    Delivered: Sign.DELIVERED,
    Tick: Sign.TICK,
}
_HOST_SIGNS: dict[type, Sign] = {
    Load: Sign.LOAD,
    Motion: Sign.MOTION,
    Trigger: Sign.TRIGGER,
    Stop: Sign.STOP,
    Cancel: Sign.CANCEL,
    Heartbeat: Sign.HOUSEKEEPING,
}
_GANTRY_SIGNS: dict[type, Sign] = {
    Loaded: Sign.LOADED,
    Injection: Sign.INJECTION,
    Started: Sign.STARTED,
    Done: Sign.DONE,
    Declined: Sign.DECLINED,
    Stopped: Sign.STOPPED,
}


def sign_of(event: Event) -> Sign:
    """The sign under which an event is looked up."""
    if isinstance(event, Said):
        return _HOST_SIGNS.get(type(event.message), Sign.MALFORMED)
    if isinstance(event, GantrySaid):
        return _GANTRY_SIGNS.get(type(event.message), Sign.GANTRY_NEWS)
    return _SIGNS[type(event)]
