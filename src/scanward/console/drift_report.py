"""Drift of one scanner over some weeks: the history's commands against what a bundle learned from. Blocks: for threads.

CLINICAL commands count, each load once (as it was judged last). An examination's p-value is the least of its commands',
as the guard's own watch takes it; one that may still go on does not count yet, and one judged by another bundle is not
compared with this one's calibration.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scanward.config import DRIFT_BOUNDS, DriftBounds
from scanward.console.drift import (
    Level,
    Stability,
    Tail,
    Uniformity,
    effective,
    rank,
    stability,
    tail,
    uniformity,
)
from scanward.console.drift_reference import FieldReference, Reference, command_of
from scanward.console.history_store import HistoryStore

WEEK: Final = 7 * 86_400.0
_CHUNK: Final = 500  # commands at once: what they look like in Python is some 10 kB each
GRAVITY: Final = (Level.SAME, Level.FEW, Level.MOVED, Level.DRIFTED)
_COUNTED: Final = (
    "scanner = :scanner AND at >= :since AND at < :until AND kind = 'command' AND mode = 'CLINICAL' "
    "AND outcome <> 'superseded'"
)


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a field: shares of the training and of now."""

    name: str
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One field. ``unseen``: share of commands whose value training never met."""

    name: str
    unit: str
    stability: Stability
    bins: tuple[Bin, ...]
    unseen: float


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days; ``since`` in s since 1970. ``worst`` is the field of the gravest level, then largest index."""

    since: float
    examinations: int
    commands: int
    uniformity: Uniformity | None
    tail: Tail | None
    worst: FieldDrift | None


@dataclass(frozen=True)
class DriftReport:
    """See the module.

    Attributes
    ----------
    made, since, until : float
        s since 1970.
    commands, examinations : int
        In that time; ``every`` > 1 says that only each such command was sorted into bins.
    fields : tuple of FieldDrift
        Gravest first; empty where the bundle does not say what it learned from.
    ranks : tuple of int
        Of the examinations judged by this bundle: how many of its ``units`` calibration units score as high.
    foreign : int
        Examinations judged by another bundle; ``odd`` ones have a p-value that this bundle cannot give.
    weeks : tuple of Week
        Oldest first.
    """

    made: float
    since: float
    until: float
    reference: Reference
    commands: int
    every: int
    examinations: int
    fields: tuple[FieldDrift, ...]
    ranks: tuple[int, ...]
    uniformity: Uniformity | None
    tail: Tail | None
    foreign: int
    odd: int
    weeks: tuple[Week, ...]

    @property
    def level(self) -> Level:
        """The gravest of all fields."""
        return max((f.stability.level for f in self.fields), key=GRAVITY.index, default=Level.FEW)


def drift_report(
    store: HistoryStore,
    scanner: str,
    reference: Reference,
    weeks: int,
    now: float,
    bounds: DriftBounds = DRIFT_BOUNDS,
) -> DriftReport:
    """The report of the last ``weeks``; RequestError (503) when the history takes too long."""
    weeks = max(1, min(weeks, bounds.weeks))
    since = now - weeks * WEEK
    asked: dict[str, Any] = {
        "scanner": scanner,
        "since": since,
        "until": now,
        "settled": now - bounds.settle_seconds,
        "bundle": reference.digest,
    }
    with store.reading(bounds.seconds) as db:
        total = int(db.execute(f"SELECT count(*) FROM judged WHERE {_COUNTED}", asked).fetchone()[0])  # noqa: S608 - ours
        every = max(1, -(-total // bounds.commands))
        rows = _commands(db, {**asked, "every": every, "chars": bounds.command_chars})
        judged = _examinations(db, asked)
    codes, at, whose = _sorted(rows, reference)  # when nobody waits for the file any more
    own = [one for one in judged if one["bundles"] == 1 and one["bundle"] == reference.digest]
    ranked = [(one["at"], rank(one["p_value"], reference.units)) for one in own]
    known = [(when, found) for when, found in ranked if found is not None]
    ranks = [found for _, found in known]
    found = []
    for week in range(weeks):
        low, high = since + week * WEEK, since + (week + 1) * WEEK
        inside = (at >= low) & (at < high)
        drifts = _fields(reference, codes[inside], whose[inside])
        mine = [r for when, r in known if low <= when < high]
        found.append(
            Week(
                low,
                sum(1 for one in judged if low <= one["at"] < high),
                int(inside.sum()) * every,
                uniformity(mine, reference.units),
                tail(mine, reference.units, reference.budget),
                drifts[0] if drifts else None,
            )
        )
    return DriftReport(
        now,
        since,
        now,
        reference,
        total,
        every,
        len(judged),
        _fields(reference, codes, whose),
        tuple(ranks),
        uniformity(ranks, reference.units),
        tail(ranks, reference.units, reference.budget),
        len(judged) - len(own),
        len(own) - len(ranks),
        tuple(found),
    )


# --- inside


def _commands(db: sqlite3.Connection, asked: dict[str, Any]) -> list[sqlite3.Row]:
    """The commands that are sorted in. A load without an examination is one of its own."""
    return db.execute(
        "SELECT at, CASE examination WHEN '' THEN '#' || seq ELSE examination END AS whose, "  # noqa: S608 - ours
        "CASE WHEN length(parameters) <= :chars THEN parameters ELSE '{}' END AS parameters, "
        "CASE WHEN length(context) <= :chars THEN context ELSE '{}' END AS context "
        f"FROM judged WHERE {_COUNTED} AND id % :every = 0",
        asked,
    ).fetchall()


def _sorted(
    rows: Sequence[sqlite3.Row], reference: Reference
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """(N, F) codes, (N,) times, (N,) examinations."""
    codes = [np.zeros((0, len(reference.encoder.fields)), dtype=np.int64)]
    for begin in range(0, len(rows), _CHUNK):
        part = rows[begin : begin + _CHUNK]
        codes.append(reference.codes([command_of(row["parameters"], row["context"]) for row in part]))
    at, whose = [row["at"] for row in rows], [row["whose"] for row in rows]
    return np.concatenate(codes), np.array(at, dtype=np.float64), np.array(whose, dtype=np.str_)


def _examinations(db: sqlite3.Connection, asked: dict[str, Any]) -> list[sqlite3.Row]:
    """Examinations that are over: when they ended, their least p-value, and the bundles that judged them."""
    return db.execute(
        "SELECT max(at) AS at, min(p_value) AS p_value, min(bundle) AS bundle, count(DISTINCT bundle) AS bundles "  # noqa: S608 - ours
        f"FROM judged WHERE {_COUNTED} AND examination <> '' AND p_value IS NOT NULL "
        "GROUP BY examination HAVING max(at) < :settled ORDER BY 1",
        asked,
    ).fetchall()


def _fields(
    reference: Reference, codes: NDArray[np.int64], whose: NDArray[np.str_]
) -> tuple[FieldDrift, ...]:
    """Every field of these commands, gravest first."""
    if not len(codes):
        return ()
    draws = effective(Counter(whose.tolist()).values())
    found = [_field(one, codes[:, at], reference.effective, draws) for at, one in enumerate(reference.fields)]
    return tuple(sorted(found, key=lambda f: (-GRAVITY.index(f.stability.level), -f.stability.index, f.name)))


def _field(field: FieldReference, codes: NDArray[np.int64], before: float, now: float) -> FieldDrift:
    counts = np.bincount(field.bin_of[codes], minlength=len(field.names)).astype(np.float64)
    # A bin that neither training nor these commands have met is no bin.
    kept = [at for at, count in enumerate(field.counts) if count or counts[at]]
    index = stability([field.counts[at] for at in kept], [float(counts[at]) for at in kept], before, now)
    return FieldDrift(
        field.name,
        field.unit,
        index,
        tuple(Bin(field.names[at], *_shares(field, counts, at)) for at in kept),
        float(counts[field.unseen]) / len(codes),
    )


def _shares(field: FieldReference, counts: NDArray[np.float64], at: int) -> tuple[float, float]:
    return field.counts[at] / max(sum(field.counts), 1.0), float(counts[at] / max(counts.sum(), 1.0))


def ecdf(ranks: Sequence[int], units: int) -> list[tuple[float, float]]:
    """(p, share of examinations with a p-value up to p), ascending in p; what is drawn against the diagonal."""
    counts = np.bincount(np.array(ranks, dtype=np.int64), minlength=units + 1)
    shares = np.cumsum(counts) / max(len(ranks), 1)
    return [((1 + at) / (units + 1), float(share)) for at, share in enumerate(shares) if counts[at]]
