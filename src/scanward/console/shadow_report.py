"""What was, or in shadow mode would have been, held or halted in some days. Blocks: for threads.

The verdict counts and not what became of it: so the report of a guard in shadow mode is what it will do when it is not
any more. CLINICAL commands, each load as it was judged last.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from scanward.config import DRIFT_BOUNDS, DriftBounds
from scanward.console.drift_reference import Reference
from scanward.console.history_query import SHORT
from scanward.console.history_store import HistoryStore

FACTORS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the budget, that the table of other budgets has
_COUNTED: Final = (
    "scanner = :scanner AND at >= :since AND at < :until AND kind = 'command' AND mode = 'CLINICAL' "
    "AND outcome <> 'superseded' AND verdict <> ''"
)
_WHOSE: Final = "CASE examination WHEN '' THEN '#' || seq ELSE examination END"


@dataclass(frozen=True, slots=True)
class Cause:
    """A layer and how often it decided: ``alerted`` and ``halted`` commands, and in how many examinations."""

    name: str
    alerted: int
    halted: int
    examinations: int


@dataclass(frozen=True, slots=True)
class OtherBudget:
    """How many examinations the learned layers alone alert on with that budget; None: the bundle cannot express it."""

    budget: float
    examinations: int | None


@dataclass(frozen=True)
class ShadowReport:
    """See the module.

    Attributes
    ----------
    examinations, commands : int
        That were judged.
    held, halted : int
        Commands with the verdict ALERT, HALT. ``stopped``: examinations in which there was any.
    in_shadow : int
        Of these commands, those that were passed on because of shadow mode alone.
    layers, protocols, fields
        Of ALERT and HALT: by layer that decided, by protocol, by field (ten at most).
    rows : list of rows of the history
        The newest of them; ``more`` says how many there are besides.
    """

    since: float
    until: float
    examinations: int
    commands: int
    held: int
    halted: int
    stopped: int
    in_shadow: int
    layers: tuple[Cause, ...]
    protocols: tuple[Cause, ...]
    fields: tuple[tuple[str, int], ...]
    budgets: tuple[OtherBudget, ...]
    rows: list[dict[str, Any]]
    more: int


def shadow_report(
    store: HistoryStore,
    scanner: str,
    since: float,
    until: float,
    reference: Reference | None = None,
    bounds: DriftBounds = DRIFT_BOUNDS,
) -> ShadowReport:
    """The report; RequestError (503) when the history takes too long.

    ``reference`` is the bundle; without it no other budgets are tried.
    """
    asked: dict[str, Any] = {"scanner": scanner, "since": since, "until": until, "most": bounds.listed}
    asked["bundle"] = reference.digest if reference is not None else ""
    stopped = f"{_COUNTED} AND verdict <> 'RELEASE'"
    # S608: statements are put together out of this module's texts; what somebody asks for is bound
    with store.reading(bounds.seconds) as db:
        whole = db.execute(
            f"SELECT count(*) AS commands, count(DISTINCT {_WHOSE}) AS examinations, "  # noqa: S608
            "coalesce(sum(verdict = 'ALERT'), 0) AS held, coalesce(sum(verdict = 'HALT'), 0) AS halted, "
            f"count(DISTINCT CASE WHEN verdict <> 'RELEASE' THEN {_WHOSE} END) AS stopped, "
            "coalesce(sum(outcome = 'shadow' AND verdict <> 'RELEASE'), 0) AS in_shadow "
            f"FROM judged WHERE {_COUNTED}",
            asked,
        ).fetchone()
        causes = {
            column: db.execute(
                f"SELECT {column} AS name, sum(verdict = 'ALERT') AS alerted, sum(verdict = 'HALT') AS halted, "  # noqa: S608
                f"count(DISTINCT {_WHOSE}) AS examinations FROM judged WHERE {stopped} GROUP BY {column} "
                "ORDER BY halted DESC, alerted DESC, name LIMIT 10",
                asked,
            ).fetchall()
            for column in ("layer", "protocol")
        }
        fields: Counter[str] = Counter()
        for row in db.execute(f"SELECT fields FROM judged WHERE {stopped}", asked):  # noqa: S608
            fields.update(_texts(row["fields"]))
        least = [
            float(row["p_value"])
            for row in db.execute(
                f"SELECT min(p_value) AS p_value FROM judged WHERE {_COUNTED} AND p_value IS NOT NULL "  # noqa: S608
                "AND examination <> '' GROUP BY examination HAVING min(bundle) = :bundle AND max(bundle) = :bundle",
                asked,
            )
        ]
        rows = db.execute(
            f"SELECT {SHORT} FROM judged WHERE {stopped} ORDER BY at DESC, id DESC LIMIT :most",  # noqa: S608
            asked,
        ).fetchall()
    return ShadowReport(
        since,
        until,
        whole["examinations"],
        whole["commands"],
        whole["held"],
        whole["halted"],
        whole["stopped"],
        whole["in_shadow"],
        _causes(causes["layer"]),
        _causes(causes["protocol"]),
        tuple(sorted(fields.items(), key=lambda one: (-one[1], one[0]))[:10]),
        _budgets(least, reference),
        [dict(row) for row in rows],
        max(0, whole["held"] + whole["halted"] - len(rows)),
    )


def _causes(rows: list[sqlite3.Row]) -> tuple[Cause, ...]:
    return tuple(Cause(row["name"], row["alerted"], row["halted"], row["examinations"]) for row in rows)


def _budgets(least: list[float], reference: Reference | None) -> tuple[OtherBudget, ...]:
    if reference is None or not reference.units:
        return ()
    found = []
    for factor in FACTORS:
        other = factor * reference.budget
        few = not 1.0 / (reference.units + 1) <= other < 1.0
        found.append(OtherBudget(other, None if few else sum(1 for p in least if p <= other)))
    return tuple(found)


def _texts(told: str) -> set[str]:
    try:
        found = json.loads(told)
    except ValueError:
        return set()
    return {one for one in found if isinstance(one, str) and one} if isinstance(found, list) else set()
