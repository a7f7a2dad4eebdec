"""What one record of the audit log changes in the history. Records are outside input: wrong ones become notes.

The gate counts requests and records anew at every start of a relay, and hosts choose the names of their loads; so a
request is looked for within its life (`Course.life`), and the name of a load only among loads that are undecided. A
record may come twice when its writer died before it answered: its number tells.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.console.history_loads import LoadRecords
from scanward.console.history_people import DECIDED, PeopleRecords
from scanward.console.history_tail import Entry
from scanward.console.history_values import Course, Told, WrongRecordError, whole

_SILENT: Final = frozenset({"armed", "committed", "cancel", "trigger", "emergency"})  # told by others as well


class Records(LoadRecords, PeopleRecords):
    """Takes records in order, in one transaction of ``db``."""

    def __init__(
        self, db: sqlite3.Connection, course: Course, bounds: HistoryBounds = HISTORY_BOUNDS
    ) -> None:
        super().__init__(db, course, bounds)
        self._kinds: Mapping[str, Callable[[Told], None]] = {
            "start": self._start,
            "end": self._end,
            "crash": self._end,
            "load": self._load,
            "motion": self._motion,
            "verdict": self._verdict,
            "hold": self._hold,
            "operator": self._operator,
            "release": self._release,
            "sent": self._sent,
            "withdrawn": self._withdrawn,
            "refuse": self._refuse,
            "declined": self._declined,
            "act": self._act,
            "emergency_begin": self._emergency_begin,
            "emergency_end": self._emergency_end,
            "emergency_reason": self._emergency_reason,
            "dose": self._dose,
            "dose_report": self._dose,
            "mode": self._mode,
            "judge_ready": self._judge_ready,
            **dict.fromkeys(DECIDED, self._decided),
        }

    def take(self, entry: Entry) -> None:
        """One record."""
        self._entry = entry
        try:
            said = msgspec.json.decode(entry.payload)
            if not isinstance(said, dict):
                raise WrongRecordError("no JSON object")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, WrongRecordError) as error:
            self._write_note("unreadable", str(error), {})
            return
        kind = self._text(said.get("kind"))
        number = whole(said.get("record"))
        if number and kind != "start":
            if number in self.course.recent:
                return
            self.course.recent = [*self.course.recent, number][-self._bounds.recent :]
        if kind in _SILENT:
            return
        try:
            self._kinds.get(kind, self._note)(said)
        except WrongRecordError as error:
            self._write_note("unreadable", f"{kind}: {error}", said)
