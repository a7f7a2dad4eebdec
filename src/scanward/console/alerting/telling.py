"""From what a guard says to alerts: each event once, and after a gap what was missed, by the guard's own counts. Pure.

A guard counts its findings by cause (``number``, ``count`` in docs/control.md) and shows the last 128 causes in its
state. What was heard of each is remembered; whatever a later state shows beyond it becomes an alert, whether the event
that told it was lost with a connection, with this console, or with this machine's power. What no state shows (holds
that came and went, a guard that was started anew) is told as a gap, with its times: never passed over.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from scanward.config import ALERTING_BOUNDS, AlertingBounds
from scanward.console.alerting.alert import KINDS, SILENT, Alert, Severity, cause_of, one_line

GROUPED: Final = frozenset({"alert", "halted", "trigger_refused", "act_refused"})  # counted by the guard
_BY_REQUEST: Final = frozenset({"held", "one_of_two", "called"})  # each is somebody's own
_BY_GRANT: Final = frozenset({"emergency_begin", "emergency_end", "emergency_reason"})
# What leaves the room of an event: no name of an examination, of a load or of a patient.
_FACTS: Final = (
    "layer",
    "fields",
    "request",
    "number",
    "operator",
    "element",
    "grant",
    "minutes",
    "mode",
    "condition",
    "where",
    "times",
    "persons",
    "seconds",
)
_KEYWORD: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_WORDS: Final = ("reason", "note", "why", "what", "condition", "mode")


@dataclass(frozen=True, slots=True)
class Mark:
    """What was heard of one of a guard's causes: how often, and under which name the console folds it."""

    cause: str
    kind: str
    count: int


@dataclass
class Heard:
    """What was heard of one guard. ``last``: s since 1970, 0 for never."""

    last: float = 0.0
    marks: OrderedDict[int, Mark] = field(default_factory=OrderedDict)


class Ear:
    """Listens to one scanner. ``heard`` is what an earlier console heard."""

    def __init__(
        self, scanner: str, name: str, heard: Heard | None = None, bounds: AlertingBounds = ALERTING_BOUNDS
    ) -> None:
        self.scanner, self.name, self.heard, self._bounds = scanner, name, heard or Heard(), bounds
        self._link = ""
        self._gap = self.heard.last > 0.0  # since when is ``heard.last``

    # --- what the link says

    def linked(self, link: str, why: str, now: float) -> list[Alert]:
        """The connection came up, fell silent, ended or was refused."""
        before, self._link = self._link, link
        if link == "up":
            return [self._alert("reachable", "", "", now)] if before not in ("", "up") else []
        if link in ("down", "refused"):
            self._gap = self._gap or self.heard.last > 0.0
        if before == link:
            return []
        return [self._alert("unreachable", link, f"{link}: {why}", now)]

    def event(self, kind: str, data: Mapping[str, Any], now: float) -> list[Alert]:
        """An event of the guard."""
        self.heard.last = now
        if kind == "repeated":
            number, count = _whole(data.get("of")), _whole(data.get("count"))
            mark = self.heard.marks.get(number)
            if mark is None:
                return []  # the state that is asked for now has it
            return self._upto(number, mark, count, {"reason": "the same again", "number": number}, now)
        if kind in SILENT:
            return []
        if kind in GROUPED and (number := _whole(data.get("number"))):
            return self._finding(number, kind, data, 1, now)
        return [self._told(kind, data, now)]

    def snapshot(self, state: Mapping[str, Any], now: float) -> list[Alert]:
        """The guard's whole state: what was missed."""
        found: list[Alert] = []
        groups = [one for one in _list(state.get("alerts")) if isinstance(one, Mapping)]
        numbers = {_whole(one.get("number")): one for one in groups}
        anew = self._anew(numbers)
        if anew:
            self.heard.marks.clear()
        if self._gap and (anew or now - self.heard.last > self._bounds.gap_seconds):
            again = " The guard was started anew in between." if anew else ""
            text = (
                f"nothing was heard from {_time(self.heard.last)} to {_time(now)}.{again} Holds of that time, and what"
                " became of them, are in the guard's audit log."
            )
            found.append(self._alert("gap", "", text, now, facts={"from": self.heard.last, "to": now}))
        if self._gap:
            held = state.get("held")
            if isinstance(held, Mapping):
                found.append(self._told("held", held, now))
        newest = max(self.heard.marks, default=0)
        missing = 0 if not newest else len(set(range(newest + 1, max(numbers, default=0))) - set(numbers))
        if missing > 0:
            text = f"{missing} more causes came and went than were heard: they are in the guard's audit log"
            found.append(self._alert("alert", "", text, now, count=min(missing, 1 << 31)))
        for number, one in numbers.items():
            kind, count = one.get("kind"), _whole(one.get("count"))
            if number and isinstance(kind, str) and count:
                found += self._finding(number, kind[:64], one, count, now)
        self._gap, self.heard.last = False, now
        return found

    # --- inside

    def _anew(self, numbers: Mapping[int, Mapping[str, Any]]) -> bool:
        """Whether the guard counts from the beginning: it was started since it was last heard."""
        marks = self.heard.marks
        if not marks:
            return False
        if max(numbers, default=0) < max(marks):
            return True
        return any(
            number in marks
            and (marks[number].cause != _finding_cause(one) or marks[number].count > _whole(one.get("count")))
            for number, one in numbers.items()
        )

    def _finding(
        self, number: int, kind: str, data: Mapping[str, Any], count: int, now: float
    ) -> list[Alert]:
        mark = self.heard.marks.get(number)
        if mark is not None:
            return self._upto(number, mark, count, data, now)
        mark = Mark(_finding_cause(data), kind, 0)
        return self._upto(number, mark, count, data, now)

    def _upto(self, number: int, mark: Mark, count: int, data: Mapping[str, Any], now: float) -> list[Alert]:
        """Whatever the guard has counted beyond what was heard."""
        more = count - mark.count
        if more <= 0:
            return []
        self.heard.marks[number] = Mark(mark.cause, mark.kind, count)
        self.heard.marks.move_to_end(number)
        while len(self.heard.marks) > self._bounds.marks:
            self.heard.marks.popitem(last=False)
        return [self._alert(mark.kind, mark.cause, _text(data), now, count=more, facts=_facts(data))]

    def _told(self, kind: str, data: Mapping[str, Any], now: float) -> Alert:
        severity = None
        if kind in _BY_REQUEST:
            cause = f"{_whole(data.get('request'))} {data.get('digest', '')} {data.get('times', '')}"[:100]
        elif kind in _BY_GRANT:
            cause = f"{_whole(data.get('grant'))} {_whole(data.get('request'))}"
        else:
            cause = cause_of(*(data.get(word, "") for word in (*_WORDS, "layer", "fields", "kind", "where")))
        if kind == "log" and data.get("condition") == "ok":
            severity = Severity.INFORMATION
        return self._alert(kind[:64], cause, _text(data), now, facts=_facts(data), severity=severity)

    def _alert(self, kind: str, cause: str, text: str, now: float, **more: Any) -> Alert:
        return Alert(
            self.scanner, self.name, kind, cause, one_line(text, self._bounds.text_chars), now, **more
        )


def _finding_cause(data: Mapping[str, Any]) -> str:
    return cause_of(*(data.get(word, "") for word in ("reason", "layer", "fields", "element")))


def _text(data: Mapping[str, Any]) -> str:
    said = [str(data[word]) for word in _WORDS if isinstance(data.get(word), str) and data[word]]
    if isinstance(data.get("operator"), str) and data["operator"]:
        said.append(f"operator {data['operator']}")
    layer, fields = data.get("layer"), [str(one) for one in _list(data.get("fields"))[:16]]
    if isinstance(layer, str) and layer:
        said.append(f"layer {layer}")
    if fields:
        said.append(f"fields {', '.join(fields)}")
    if number := _whole(data.get("request")):
        said.append(f"request {number}")
    return "; ".join(said)


def _facts(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_plain(data))


def _plain(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _FACTS:
        value = data.get(name)
        if isinstance(value, str):
            yield name, one_line(value, 64)
        elif isinstance(value, bool | int | float):
            yield name, value
        elif name == "fields" and isinstance(value, list):
            yield name, [one for one in value[:32] if isinstance(one, str) and _KEYWORD.fullmatch(one)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 53 else 0


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(min(max(at, 0.0), 4e9), UTC):%Y-%m-%d %H:%M:%S} UTC"


assert KINDS.keys() >= GROUPED | _BY_REQUEST | _BY_GRANT
