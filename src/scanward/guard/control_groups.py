"""One finding per cause: identical alerts are one line with a count. Pure.

Provoked alerts are an attack on people (docs/threat-model.md, J9). What is counted is never what is recorded: the
audit log has every alert.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

QUIET_S = 5.0  # s between two updates of one count
_WHAT = ("reason", "layer", "fields", "load", "element", "examination")
_DIGITS = str.maketrans("0123456789", "##########")


@dataclass(slots=True)
class Group:
    """One cause: its line as first told, how often it came, when its count was last shown."""

    number: int
    kind: str
    data: Mapping[str, Any]
    count: int
    shown_count: int
    shown_at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What to do with an alert: ``repeated`` ones update a count, and that only when ``due``."""

    number: int
    count: int
    repeated: bool
    due: bool


class AlertGroups:
    """The last ``most`` causes. The oldest is forgotten, and shown as new when it comes again."""

    def __init__(self, most: int, quiet: float = QUIET_S) -> None:
        self._most = most
        self._quiet = quiet
        self._groups: OrderedDict[tuple[str, ...], Group] = OrderedDict()
        self._numbers = 0

    def count(self, kind: str, data: Mapping[str, Any], now: float) -> Seen:
        """Count an alert. Digits do not make a cause: a value that creeps is the same finding again."""
        said = {name: str(data.get(name, "")).translate(_DIGITS) for name in _WHAT}
        if kind == "trigger_refused":
            # what stands behind the colon, and the load, are words of the host: new ones are no new cause
            said |= {"reason": said["reason"].partition(": ")[0], "load": ""}
        key = (kind, *said.values())
        group = self._groups.get(key)
        if group is None:
            self._numbers += 1
            group = self._groups[key] = Group(self._numbers, kind, data, 1, 1, now)
            while len(self._groups) > self._most:
                self._groups.popitem(last=False)
            return Seen(group.number, 1, repeated=False, due=True)
        group.count += 1
        self._groups.move_to_end(key)
        due = now >= group.shown_at + self._quiet
        if due:
            group.shown_count, group.shown_at = group.count, now
        return Seen(group.number, group.count, repeated=True, due=due)

    def due(self, now: float) -> Iterator[tuple[int, str, int]]:
        """Counts that grew and were not shown for a while: (number, kind, count)."""
        for group in self._groups.values():
            if group.count > group.shown_count and now >= group.shown_at + self._quiet:
                group.shown_count, group.shown_at = group.count, now
                yield group.number, group.kind, group.count

    def shown(self) -> list[dict[str, Any]]:
        """All causes with their counts, newest last."""
        return [
            {**g.data, "kind": g.kind, "number": g.number, "count": g.count} for g in self._groups.values()
        ]
