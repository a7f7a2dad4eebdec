"""Emergency access: bounded in minutes, loads and examinations; reasons asked until given. Pure, no clock.

It lets loads pass without a verdict, or with a bad one. It never lets form, hardware maxima or absolute caps pass:
those are the gate's and the policy's, and no state of this module reaches them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scanward.guard.policy_terms import EmergencyRules

UNEXPLAINED = 32  # grants without a reason that are remembered; more would say that nobody reads them


@dataclass(slots=True)
class Grant:
    """One grant. Times on the gate's clock (s); ``reason`` empty until somebody says why."""

    number: int
    operator: str
    since: float
    until: float
    reason: str = ""
    examination: str = ""
    loads: int = 0
    ended: str = ""


class EmergencyAccess:
    """At most one grant at a time."""

    def __init__(self, rules: EmergencyRules) -> None:
        self.rules = rules
        self.grant: Grant | None = None
        self.unexplained: list[Grant] = []
        self.granted = 0

    def begin(self, now: float, operator: str, minutes: float, reason: str = "") -> str:
        """Begin; why not, where it does not begin. ``minutes`` 0: the policy's usual ones."""
        if self.on(now):
            assert self.grant is not None
            left = math.ceil((self.grant.until - now) / 60.0)
            return f"it is on already, for {left} more minutes"
        minutes = minutes or self.rules.minutes
        if not 0 < minutes <= self.rules.most_minutes:
            return f"{minutes:g} minutes asked for, at most {self.rules.most_minutes:g} allowed"
        self.granted += 1
        self.grant = Grant(self.granted, operator, now, now + 60.0 * minutes, reason.strip())
        if not self.grant.reason:
            self.unexplained = [*self.unexplained, self.grant][-UNEXPLAINED:]
        return ""

    def on(self, now: float) -> bool:
        """Whether a grant holds."""
        return self.grant is not None and not self.grant.ended and now < self.grant.until

    def until(self, now: float) -> float:
        """When the grant ends, on the gate's clock; 0 when there is none."""
        return self.grant.until if self.grant is not None and self.on(now) else 0.0

    def end(self, why: str) -> Grant | None:
        """End it; the grant that ended, None when there was none."""
        if self.grant is None or self.grant.ended:
            return None
        self.grant.ended = why
        return self.grant

    def before_load(self, examination: str, now: float) -> Grant | None:
        """A load is about to be queued: a grant for one examination ends before one of another."""
        grant = self.grant
        if grant is None or not self.on(now) or not self.rules.one_examination or not grant.loads:
            return None
        return self.end("another examination began") if examination != grant.examination else None

    def released(self, examination: str, now: float) -> Grant | None:
        """A load was released under the grant; the grant when that was its last."""
        grant = self.grant
        if grant is None or grant.ended:
            return None
        grant.loads += 1
        grant.examination = grant.examination or examination
        return self.end(f"{grant.loads} loads were released") if grant.loads >= self.rules.loads else None

    def tick(self, now: float) -> Grant | None:
        """Time went by; the grant when its time is over."""
        grant = self.grant
        if grant is not None and not grant.ended and now >= grant.until:
            return self.end("its time is over")
        return None

    def explain(self, number: int, reason: str) -> str:
        """Say why a grant was needed; why not, where that grant waits for no reason."""
        for grant in self.unexplained:
            if grant.number == number:
                grant.reason = reason.strip()
                self.unexplained.remove(grant)
                return ""
        return f"grant {number} waits for no reason"

    def view(self, now: float) -> dict[str, object]:
        """For screens: seconds left, whose it is, what is still to be explained."""
        grant = self.grant if self.on(now) else None
        return {
            "on": grant is not None,
            "number": grant.number if grant else 0,
            "operator": grant.operator if grant else "",
            "seconds_left": round(grant.until - now, 1) if grant else 0.0,
            "loads": grant.loads if grant else 0,
            "granted": self.granted,
            "unexplained": [{"number": g.number, "operator": g.operator} for g in self.unexplained],
        }
