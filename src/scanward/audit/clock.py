"""Watches the wall clock against the monotonic one, and words what it saw as a record."""

from __future__ import annotations

import json

from scanward.audit.frames import Moment
from scanward.config import AUDIT_BOUNDS


class ClockWatch:
    """Tells when the wall clock moved by itself. One for each process: monotonic clocks begin at a boot."""

    def __init__(self, tolerance_ns: int = AUDIT_BOUNDS.clock_jump_ns) -> None:
        self._tolerance = tolerance_ns
        self._last: Moment | None = None

    def seen(self, now: Moment) -> bytes | None:
        """A ``clock_jump`` record when, since the last call, both clocks went on unequally; else None.

        Slow adjustment (NTP slews by at most 0.5 ms a second) stays below the tolerance between two calls
        of a living process; a step, or a suspended machine, does not.
        """
        last, self._last = self._last, now
        if last is None:
            return None
        monotonic = now.monotonic_ns - last.monotonic_ns
        wall = now.wall_ns - last.wall_ns
        if abs(wall - monotonic) <= self._tolerance:
            return None
        return json.dumps(
            {
                "kind": "audit.clock_jump",
                "jump_ns": wall - monotonic,
                "monotonic_progress_ns": monotonic,
                "wall_before_ns": last.wall_ns,
                "wall_after_ns": now.wall_ns,
            }
        ).encode("ascii")
