"""The desk: what an authenticated act becomes at the gate, and what every screen is shown. No I/O of its own.

The relay gives it a way to the gate and a clock; the control server gives it acts whose signature held. What the gate
does with them is the gate's: a release of something that is no longer held is refused there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from scanward.commands import Mode
from scanward.config import CONTROL_BOUNDS, ControlBounds
from scanward.guard.control_groups import AlertGroups
from scanward.guard.core import GateView
from scanward.guard.emergency import EmergencyAccess, Grant
from scanward.guard.events import Decision, EmergencySet, Event, ModeSet, OperatorSaid
from scanward.guard.examination import Course, shown
from scanward.guard.operators import Act, ActKind
from scanward.guard.policy import Policy
from scanward.guard.states import Phase
from scanward.guard.watch import Drift
from scanward.guard.watch_feed import WatchFeed

_UNDER = "emergency access"  # how the gate's note on such a release begins
_COURSE = frozenset(  # records after which the examination may look otherwise
    {
        "load",
        "verdict",
        "sent",
        "dose",
        "dose_report",
        "void",
        "refuse",
        "declined",
        "withdrawn",
        "host",
        "mode",
    }
)
_GROUPED = frozenset({"alert", "halted", "trigger_refused", "act_refused"})


class Relay(Protocol):
    """What the desk needs of the relay. None of it may block."""

    def handle(self, event: Event) -> None:
        """Give the gate an event: now, or right after the effects that are being carried out."""

    def view(self) -> GateView:
        """The gate as it is."""

    def now(self) -> float:
        """The gate's clock, s."""

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool) -> None:
        """To the audit log."""

    def course(self) -> Course | None:
        """The examination that was loaded last; None when there is none."""

    def forget(self) -> None:
        """Know no names any more, and no last load."""


class ControlDesk:
    """Operators' acts in, gate events out; news in, lines for screens out.

    Parameters
    ----------
    publish : callable
        Shows (kind, data) on every screen; never blocks.
    """

    def __init__(
        self,
        policy: Policy,
        relay: Relay,
        publish: Callable[[str, Mapping[str, Any]], None],
        bounds: ControlBounds = CONTROL_BOUNDS,
    ) -> None:
        self.policy = policy
        self.emergency = EmergencyAccess(policy.emergency)
        self._relay = relay
        self._publish = publish
        self._held: Mapping[str, Any] | None = None
        self._held_at = 0.0
        self._mode_until = math.inf
        self._groups = AlertGroups(bounds.groups)
        self._bounds = bounds
        self._first: tuple[Act, str] | None = None  # the first release of a hold that needs two, and whose
        self._called: dict[str, int] = {}  # of the present hold: who called for a second person, how often
        self._stale = False  # whether the examination may look otherwise than it was shown
        self._examination: dict[str, Any] | None = None
        self._examined = 0.0  # when it last looked otherwise
        self.feed = WatchFeed()

    # --- acts

    def act(self, act: Act, operator: str) -> str:
        """Carry out an act that is believed; why not, where it is not carried out. Empty when it is."""
        kind = act.kind
        if kind in (ActKind.RELEASE, ActKind.REFUSE):
            return self._decide(act, operator)
        if kind is ActKind.CALL:
            return self._call(act, operator)
        if kind is ActKind.EMERGENCY:
            return self._begin(act, operator)
        if kind is ActKind.EMERGENCY_END:
            return "" if self._ended(self.emergency.end(f"{operator} ended it")) else "it is not on"
        if kind is ActKind.EMERGENCY_REASON:
            why = self.emergency.explain(act.request, act.reason)
            if not why:
                self._note(
                    "emergency_reason", {"grant": act.request, "reason": act.reason, "operator": operator}
                )
            return why
        return self._mode(act.mode, operator)

    def _decide(self, act: Act, operator: str) -> str:
        held = self.held
        if held is None or held.get("request") != act.request:
            return f"request {act.request} is not on hold (any more)"
        if held.get("digest") != act.shown:
            return "something else is on hold than what was shown"
        decision = Decision.RELEASE if act.kind is ActKind.RELEASE else Decision.REFUSE
        before = ""
        if decision is Decision.RELEASE and held.get("persons", 1) > 1:
            first = self._released_first(act)
            if first is None:
                self._first = (act, operator)
                said = {"request": act.request, "operator": operator, "reason": act.reason.strip()}
                self._note("one_of_two", {**said, "digest": act.shown})
                return ""
            if first == operator:
                return "you released it already: another operator has to"
            before = first
        self._first = None
        self._relay.handle(
            OperatorSaid(decision, act.request, act.shown, operator, act.reason.strip(), before)
        )
        return ""

    def _released_first(self, act: Act) -> str | None:
        """Who released the very hold that ``act`` releases, before; None for nobody."""
        if self._first is None or (self._first[0].request, self._first[0].shown) != (act.request, act.shown):
            return None
        return self._first[1]

    def _call(self, act: Act, operator: str) -> str:
        held = self.held
        if held is None or held.get("request") != act.request:
            return f"request {act.request} is not on hold (any more)"
        self._called[operator] = self._called.get(operator, 0) + 1
        self._note("called", {"request": act.request, "operator": operator, "times": self._called[operator]})
        return ""

    def _begin(self, act: Act, operator: str) -> str:
        now = self._relay.now()
        why = self.emergency.begin(now, operator, float(act.minutes), act.reason)
        if why:
            return why
        grant = self.emergency.grant
        assert grant is not None
        self._note(
            "emergency_begin",
            {
                "grant": grant.number,
                "operator": operator,
                "minutes": (grant.until - now) / 60.0,
                "reason": grant.reason,
                "held": self.held["request"] if self.held else 0,
            },
        )
        self._relay.handle(EmergencySet(grant.until, operator))
        return ""

    def _ended(self, grant: Grant | None) -> bool:
        if grant is None:
            return False
        self._relay.handle(EmergencySet(0.0, grant.operator))
        self._note(
            "emergency_end",
            {
                "grant": grant.number,
                "why": grant.ended,
                "loads": grant.loads,
                "explained": bool(grant.reason),
            },
        )
        return True

    def _mode(self, mode: Mode, operator: str) -> str:
        if mode not in self.policy.modes:
            return f"the policy has no mode {mode}"
        if self._relay.view().phase not in (Phase.IDLE, Phase.LOADED):
            return "an examination is under way"
        self._relay.handle(ModeSet(mode, operator))
        self._mode_until = self._relay.now() + 60.0 * self.policy.modes[mode].minutes
        return ""

    # --- what the relay tells

    def before_load(self, examination: str) -> None:
        """A host's load is about to be given to the gate."""
        self._ended(self.emergency.before_load(examination, self._relay.now()))
        for drift in self.feed.before_load(examination):
            self._drifts(drift)

    def recorded(self, kind: str, data: Mapping[str, Any]) -> None:
        """The gate had something recorded (every Record effect, before or after it is durable)."""
        note = data.get("note")
        if kind == "release" and isinstance(note, str) and note.startswith(_UNDER):
            examination = data.get("examination")
            last = self.emergency.released(
                examination if isinstance(examination, str) else "", self._relay.now()
            )
            self._ended(last)
        for drift in self.feed.recorded(kind, data, self._relay.view().mode):
            self._drifts(drift)
        self._stale = self._stale or kind in _COURSE

    def settled(self) -> None:
        """The gate has dealt with an event and its effects are out: what it changed may be shown."""
        if self._stale:
            self.renew()

    def renew(self) -> None:
        """Show the examination, if it looks otherwise than before. It is never recorded: it names a patient."""
        self._stale = False
        course = self._relay.course()
        looks = None if course is None else shown(course, self.policy, self._bounds)
        if looks != self._examination:
            self._examination, self._examined = looks, self._relay.now()
            self._publish("examination", looks or {})

    def told(self, kind: str, data: Mapping[str, Any]) -> None:
        """The gate has news for operators (every Tell effect): remembered, grouped, shown."""
        if kind == "held":
            self._held, self._held_at = data, self._relay.now()
            self._first, self._called = None, {}
        elif kind == "judge_ready" and isinstance(data.get("budget"), float):
            self.feed.set_budget(data["budget"])
        if kind in _GROUPED:
            seen = self._groups.count(kind, data, self._relay.now())
            if seen.repeated:
                if seen.due:
                    self._publish("repeated", {"of": seen.number, "kind": kind, "count": seen.count})
                return
            data = {**data, "number": seen.number}
        self._publish(kind, data)

    def tick(self) -> None:
        """Once a second: what has to end ends."""
        now = self._relay.now()
        self._ended(self.emergency.tick(now))
        idle = self._relay.view().phase is Phase.IDLE and self.held is None
        if (
            self._examination is not None
            and idle
            and now >= self._examined + self._bounds.examination_seconds
        ):
            self._relay.forget()
            self.renew()
        if now >= self._mode_until:
            view = self._relay.view()
            if view.mode is Mode.CLINICAL:
                self._mode_until = math.inf
            elif view.phase in (Phase.IDLE, Phase.LOADED):
                self._relay.handle(ModeSet(Mode.CLINICAL, "time"))
                self._mode_until = math.inf
        for number, kind, count in self._groups.due(now):
            self._publish("repeated", {"of": number, "kind": kind, "count": count})

    # --- screens

    @property
    def held(self) -> Mapping[str, Any] | None:
        """What is on hold now, as the gate told it; None when nothing is."""
        if self._held is not None and self._relay.view().hold != self._held.get("request"):
            self._held, self._first, self._called = None, None, {}
        return self._held

    def snapshot(self) -> dict[str, Any]:
        """Everything that a screen shows first."""
        now, view = self._relay.now(), self._relay.view()
        held = self.held
        seconds = float(held["seconds"]) if held else 0.0
        return {
            "policy": {
                "name": self.policy.name,
                "version": self.policy.version,
                "digest": self.policy.digest,
                "weakenings": self.policy.weakenings,
            },
            "gate": view,
            "mode_seconds_left": max(0.0, round(self._mode_until - now, 1)),
            "held": {
                **held,
                "seconds_left": max(0.0, round(self._held_at + seconds - now, 1)),
                "released_by": [
                    {"operator": who, "reason": act.reason.strip()}
                    for act, who in ([self._first] if self._first else [])
                ],
                "called": sorted(self._called),
            }
            if held
            else None,
            "examination": self._examination,
            "emergency": self.emergency.view(now),
            "alerts": self._groups.shown(),
            "watch": {"examinations": self.feed.watch.examinations, "alerted": self.feed.watch.alerted},
        }

    def _drifts(self, drift: Drift) -> None:
        self._note(
            "drift",
            {
                "kind": drift.kind,
                "where": drift.where,
                "reason": drift.reason,
                "count": drift.count,
                "size": drift.size,
                "statistic": drift.statistic,
            },
        )

    def _note(self, kind: str, data: Mapping[str, object]) -> None:
        self._relay.record(kind, data, reserved=True)
        self._publish(kind, data)
