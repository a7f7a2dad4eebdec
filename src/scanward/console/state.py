"""What is known of one scanner, as browsers are shown it: the guard's last state with the events after it. Pure.

Everything in it comes from a guard and is text of anybody: protocol names are the attacker's. It is shown as text.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

from scanward.config import CONSOLE_BOUNDS, ConsoleBounds
from scanward.errors import DecodeError
from scanward.guard.control_client import shown_digest

# What the guard's state has and a browser gets; anything else it may say one day stays here.
_SHOWN: Final = ("policy", "gate", "mode_seconds_left", "emergency", "alerts", "watch")
_SILENT_KINDS: Final = frozenset(
    {"examination"}
)  # names patients: shown in its place, not in the list of events
_LONG: Final = frozenset({"chain", "motion"})  # of a hold: it stands in ``held``


class Reach(StrEnum):
    """How the console stands with a guard."""

    UP = "up"
    SILENT = "silent"  # connected, and nothing heard for a while
    DOWN = "down"  # nobody there
    REFUSED = "refused"  # somebody who is no guard, or does not let us in


class Listener(Protocol):
    """Is told everything that is heard of one scanner, as it comes. It must not block, and not raise."""

    def linked(self, reach: Reach, why: str) -> None:
        """The link came up, fell silent or went."""
        ...

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the guard."""
        ...

    def snapshot(self, state: Mapping[str, Any]) -> None:
        """The guard's whole state."""
        ...


class ScannerState:
    """One scanner. Times are the console's clock, s since 1970. Not thread-safe: it lives in the event loop.

    Every change makes a new ``version``.
    """

    def __init__(self, scanner: str, name: str, bounds: ConsoleBounds = CONSOLE_BOUNDS) -> None:
        self.id, self.name = scanner, name
        self.version = 0
        self.listener: Listener | None = None
        self.reach, self.why = Reach.DOWN, "not reached yet"
        self.since = 0.0
        self.local = False
        self.policy = ""  # digest
        self.without_key = False
        self.examination: dict[str, Any] | None = None
        self.held: dict[str, Any] | None = None
        self.events: deque[dict[str, Any]] = deque(maxlen=bounds.events)
        self._bounds = bounds
        self._state: dict[str, Any] = {}
        self._anew = False  # a guard said hello, and no state yet

    # --- what the link tells

    def said_hello(self, policy: str, *, local: bool, without_key: bool) -> None:
        """A guard answered."""
        self.policy, self.local, self.without_key = policy, local, without_key
        self._anew = True
        self._changed()

    def reached(self, reach: Reach, why: str = "") -> bool:
        """The link came up, fell silent or went; whether that is news."""
        news = (reach, why) != (self.reach, self.why)
        self.reach, self.why = reach, why
        if news:
            self._changed()
            if self.listener is not None:
                self.listener.linked(reach, why)
        return news

    def heard(self, now: float) -> None:
        """A line came; no change that is worth showing."""
        self.since = now

    def forgotten(self, now: float) -> bool:
        """A hold whose time is over, of a guard that nobody hears, is shown no longer; whether there was one."""
        if self.held is None or self.reach is Reach.UP or now <= self.held["until"]:
            return False
        self.held = None
        self._changed()
        return True

    def snapshot(self, state: Mapping[str, Any], now: float) -> None:
        """The guard's whole state."""
        self._state = {key: state[key] for key in _SHOWN if key in state}
        examination = state.get("examination")
        self.examination = dict(examination) if isinstance(examination, Mapping) else None
        held = state.get("held")
        self._hold(held if isinstance(held, Mapping) else None, "seconds_left", now)
        self._anew = False
        if self.listener is not None:
            self.listener.snapshot(state)
        self._changed()

    def event(self, kind: str, data: Mapping[str, Any], now: float) -> None:
        """News. What it changes in the state is asked of the guard; a hold is shown at once."""
        if kind == "held":
            self._hold(data, "seconds", now)
        elif self.held is not None and data.get("request") == self.held.get("request"):
            self._of_the_hold(kind, data)
        elif kind == "examination":
            self.examination = dict(data) if data else None
        if kind not in _SILENT_KINDS:
            self.events.append({"kind": kind, "data": self._short(data), "at": now})
        if self.listener is not None:
            self.listener.event(kind, data)
        self._changed()

    # --- what browsers are shown

    def as_json(self, *, labels: bool) -> dict[str, Any]:
        """The scanner as a browser gets it. ``labels``: with the patient's name and accession number."""
        examination = self.examination
        if examination is not None and not labels:
            examination = {key: value for key, value in examination.items() if key != "label"}
        return {
            "id": self.id,
            "name": self.name,
            "link": self.reach.value,
            "link_reason": self.why,
            "since": self.since,
            "local": self.local,
            "policy_digest": self.policy,
            "emergency_without_key": self.without_key,
            **{key: self._state.get(key) for key in _SHOWN},
            "held": self.held,
            "examination": examination,
            "events": list(self.events),
        }

    # --- inside

    def _hold(self, held: Mapping[str, Any] | None, left: str, now: float) -> None:
        if held is None:
            self.held = None
            return
        seconds = held.get(left)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            seconds = 0.0
        seconds = min(max(float(seconds), 0.0), 86_400.0)
        until = now + seconds
        before = self.held
        if not self._anew and before is not None and before.get("request") == held.get("request"):
            # A state that took its time on the way gives no time. On a new connection there may be a guard that was
            # started again and counts its requests from 1: its word counts.
            until = min(until, before["until"])
        self.held = {
            "released_by": [],
            "called": [],
            **held,
            "seconds_left": round(max(0.0, until - now), 1),
            "until": until,
            "shown_ok": _is_shown(held),
        }

    def _of_the_hold(self, kind: str, data: Mapping[str, Any]) -> None:
        """Somebody decided, or called: shown at once; the guard's state, asked for meanwhile, says it again."""
        assert self.held is not None
        if kind in ("unheld", "released"):
            self.held = None
        elif kind == "one_of_two":
            first = {"operator": data.get("operator"), "reason": data.get("reason")}
            self.held = {**self.held, "released_by": [first]}
        elif kind == "called":
            called = self.held.get("called")
            others = (
                [who for who in called if who != data.get("operator")] if isinstance(called, list) else []
            )
            self.held = {**self.held, "called": [*others, data.get("operator")]}

    def _short(self, data: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in data.items() if key not in _LONG}
        if len(json.dumps(kept)) > self._bounds.event_bytes:
            return {"reason": str(kept.get("reason", ""))[:500], "cut": True}
        return kept

    def _changed(self) -> None:
        self.version += 1


def _is_shown(held: Mapping[str, Any]) -> bool:
    """Whether the commands that are shown are the ones that are held: their digest, computed here."""
    try:
        return shown_digest(dict(held)) == held.get("digest")
    except DecodeError:
        return False
