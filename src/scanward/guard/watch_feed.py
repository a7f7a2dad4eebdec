"""From the gate's records to the drift watch: one examination counts once, QA and service do not count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from scanward.commands import Command, Mode
from scanward.guard.events import Forecast
from scanward.guard.watch import Drift, Watch

_OPEN = 64  # triggers whose dose is awaited
DEFAULT_BUDGET = 0.01  # until a judge has told its own


class WatchFeed:
    """Feeds a `Watch`. ``budget`` is the bundle's; a new one starts the statistics of alerts anew."""

    def __init__(self, budget: float = DEFAULT_BUDGET) -> None:
        self.watch = Watch(budget)
        self._budget = budget
        self._examination = ""
        self._p_value: float | None = None
        self._alerted = False
        self._judged = False
        self._protocols: OrderedDict[tuple[str, int], str] = OrderedDict()

    def set_budget(self, budget: float) -> None:
        """What the judge that is ready now promises."""
        if 0.0 < budget < 1.0 and budget != self._budget:
            self._budget = budget
            self.watch = Watch(budget)

    def before_load(self, examination: str) -> Iterator[Drift]:
        """A load of ``examination`` comes: another examination than before closes that one.

        A load without an examination is one of its own.
        """
        if self._judged and (not examination or examination != self._examination):
            yield from self.watch.examination(self._p_value, self._alerted)
            self._p_value, self._alerted, self._judged = None, False, False
        self._examination = examination

    def recorded(self, kind: str, data: Mapping[str, Any], mode: Mode) -> Iterator[Drift]:
        """Every record of the gate; those of a verdict, a trigger and a dose count."""
        if mode is not Mode.CLINICAL:
            return
        if kind == "verdict":
            told = [p for p in data.get("p_values") or () if isinstance(p, float)]
            least = min(told, default=None)
            if least is not None:
                self._p_value = least if self._p_value is None else min(self._p_value, least)
            self._alerted |= data.get("verdict") != "RELEASE"
            self._judged = True
        elif kind in ("trigger", "sent") and isinstance(data.get("command"), Command):
            place = (str(data.get("load")), int(data.get("element", 0)))
            self._protocols[place] = _protocol(data["command"])
            while len(self._protocols) > _OPEN:
                self._protocols.popitem(last=False)
        elif kind == "dose" and isinstance(data.get("dose"), Forecast) and not data.get("aborted"):
            dose = data["dose"]
            place = (str(data.get("load")), int(data.get("element", 0)))
            yield from self.watch.dose(self._protocols.pop(place, ""), dose.phantom, dose.ctdivol)


def _protocol(command: Command) -> str:
    """Protocol and element as the host names them: "" where it names none."""
    names = (command.text("ProtocolName"), command.text("ProtocolElementName"))
    return " / ".join(" ".join(name.split()).casefold() for name in names if name)
