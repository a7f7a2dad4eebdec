"""What the study's lead sees while it runs: progress, pace, last seen, conflicts, sessions. Never truth, no ratings.

An interim look at ratings by truth would unblind whoever looks, and whoever talks to readers.
"""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from scanward.reading.opened import Study
from scanward.reading.progress import position
from scanward.reading.protocol import Reader
from scanward.reading.store import Given, Standing, Store, moment, stamp

PAUSE = "paused"  # the event of a pause; its value is yes or no
OPENED = "session opened"  # its value is the session's number


def overview(study: Study, store: Store, now: datetime, *, washout: timedelta) -> dict[str, Any]:
    """Everything of the lead's page, as plain JSON data.

    Returns
    -------
    dict
        ``study`` (title, sha256, simulated, pictures), ``readers`` (one object each) and ``conflicts``: which reader,
        session, position and when, without the answers themselves.
    """
    rows = store.given()
    seen = store.last_seen()
    design = study.protocol.design
    return {
        "study": {
            "title": design.title,
            "sha256": study.sha256,
            "simulated": design.simulated,
            "pictures": len(study.protocol.pictures),
        },
        "generated_at": stamp(now),
        "readers": [
            _reader(
                study, store, reader, [row for row in rows if row.reader == reader.name], seen, now, washout
            )
            for reader in study.protocol.readers
        ],
        "conflicts": [
            {
                "reader": row.reader,
                "session": row.session,
                "position": study.places[row.token].position,
                "standing": row.standing.value,
                "received_at": row.received_at,
            }
            for row in rows
            if row.standing is not Standing.COUNTS
        ],
    }


def _reader(
    study: Study,
    store: Store,
    reader: Reader,
    rows: list[Given],
    seen: dict[str, str],
    now: datetime,
    washout: timedelta,
) -> dict[str, Any]:
    answered = store.answered(reader.name)
    here = position(reader, answered, now, washout=washout)
    counted = [row for row in rows if row.standing is Standing.COUNTS]
    first = [row for row in counted if row.revision == 0 and row.session > 0]
    pause = store.last_event(reader.name, PAUSE)
    opened = {event.value: event.at for event in reversed(store.events(reader.name, OPENED))}
    return {
        "reader": reader.name,
        "answered": here.answered,
        "cases": here.cases,
        "session": here.session.number if here.session else None,
        "of": max((session.number for session in reader.sessions), default=0),
        "waiting_until": stamp(here.until) if here.until else None,
        "finished": here.finished,
        "paused": pause is not None and pause.value == "yes",
        "last_seen": seen.get(reader.name),
        "median_seconds": round(statistics.median(row.seconds for row in first), 1) if first else None,
        "cases_per_hour": _pace(first),
        "revisions": sum(row.revision > 0 for row in counted),
        "conflicts": len(rows) - len(counted),
        "sessions": [
            {
                "number": session.number,
                "practice": session.number == 0,
                "cases": len(session.cases),
                "answered": sum(shown.token in answered for shown in session.cases),
                "opened_at": opened.get(str(session.number)),
                "finished_at": stamp(max(answered[shown.token] for shown in session.cases))
                if session.cases and all(shown.token in answered for shown in session.cases)
                else None,
            }
            for session in reader.sessions
        ],
    }


def _pace(first: list[Given], last: int = 50, break_seconds: float = 600.0) -> float | None:
    """Cases an hour over the ``last`` answers, breaks left out; None before there are two."""
    times = [moment(row.received_at) for row in first[-last:]]
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    worked = [gap for gap in gaps if gap <= break_seconds]
    return round(3600.0 * len(worked) / sum(worked), 1) if sum(worked) > 0 else None
