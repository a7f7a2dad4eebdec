"""Filters of the history: out of an address, checked one by one, and as conditions whose values are bound."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Final

from scanward.commands import LayerName, Mode, Verdict
from scanward.config import HISTORY_BOUNDS, HistoryBounds
from scanward.console.history_store import OUTCOMES
from scanward.errors import RequestError

LAYERS: Final = (*(layer.value for layer in LayerName), "gate")
VERDICTS: Final = (*(verdict.value for verdict in Verdict), "none")
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ ]{0,63}")


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show; an empty one shows everything. ``since`` and ``until`` are days of the console's clock, whole.

    ``verdict`` "none": never judged. ``field``: objected to. The value of ``parameter`` lies from ``low`` to ``high``.
    """

    scanner: str = ""
    since: str = ""
    until: str = ""
    verdict: str = ""
    outcome: str = ""
    layer: str = ""
    field: str = ""
    kind: str = ""
    mode: str = ""
    protocol: str = ""
    body_part: str = ""
    examination: str = ""
    operator: str = ""
    text: str = ""
    request: str = ""
    parameter: str = ""
    low: str = ""
    high: str = ""
    emergency: str = ""

    @property
    def asked(self) -> dict[str, str]:
        """Those that are set."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


def parse_filters(
    asked: Mapping[str, str], scanners: Sequence[str], bounds: HistoryBounds = HISTORY_BOUNDS
) -> Filters:
    """Filters out of an address. RequestError names the one that is wrong; what is no filter is left alone."""
    told = {f.name: asked[f.name].strip() for f in fields(Filters) if f.name in asked}
    for name, value in told.items():
        if len(value) > bounds.filter_chars or "\0" in value:
            raise RequestError(
                f"{name} is too long, or no text", "", f"at most {bounds.filter_chars} characters"
            )
    found = Filters(**told)
    _one_of(found.scanner, "scanner", scanners)
    _one_of(found.verdict, "verdict", VERDICTS)
    _one_of(found.outcome, "outcome", tuple(OUTCOMES))
    _one_of(found.layer, "layer", LAYERS)
    _one_of(found.kind, "kind", ("command", "motion"))
    _one_of(found.mode, "mode", tuple(mode.value for mode in Mode))
    for name in ("since", "until"):
        if getattr(found, name):
            day_of(getattr(found, name), name)
    for name in ("request", "emergency"):
        if getattr(found, name) and not re.fullmatch(r"\d{1,15}", getattr(found, name)):
            raise RequestError(f"{name} is no number", getattr(found, name)[:40], "give a whole number")
    for name in ("low", "high"):
        if getattr(found, name):
            _number(getattr(found, name), name)
    if (found.low or found.high) and not found.parameter:
        raise RequestError("a range of which parameter?", "parameter", "name one, such as CTDIvol")
    if found.parameter and not _FIELD.fullmatch(found.parameter):
        raise RequestError(
            "no name of a field", found.parameter[:40], "give a DICOM keyword, such as CTDIvol"
        )
    return found


def equal(**asked: str) -> tuple[list[str], dict[str, object]]:
    """Conditions that columns are equal to what is asked; an empty one asks nothing."""
    told = {name: value for name, value in asked.items() if value}
    return [f"{name} = :{name}" for name in told], dict(told)


def conditions(filters: Filters) -> tuple[list[str], dict[str, object]]:
    """Conditions and the values that they are bound to."""
    asked = replace(filters, verdict="") if filters.verdict == "none" else filters
    clauses, values = equal(
        scanner=asked.scanner,
        verdict=asked.verdict,
        outcome=asked.outcome,
        layer=asked.layer,
        kind=asked.kind,
        mode=asked.mode,
        operator=asked.operator,
    )
    if filters.verdict == "none":
        clauses.append("verdict = ''")
    if filters.layer:
        clauses.append("layer <> ''")  # names the index
    for name in ("request", "emergency"):
        if getattr(filters, name):
            clauses.append(f"{name} = :{name}")
            values[name] = int(getattr(filters, name))
    if filters.since:
        clauses.append("at >= :since")
        values["since"] = begin_of(day_of(filters.since, "since"))
    if filters.until:
        clauses.append("at < :until")
        values["until"] = begin_of(day_of(filters.until, "until") + timedelta(days=1))
    if filters.examination:
        # a prefix, as a range: the index knows it whatever the case of letters means to LIKE
        clauses.append("examination >= :examination AND examination < :examination_end")
        values |= {"examination": filters.examination, "examination_end": f"{filters.examination}\U0010ffff"}
    if filters.field:
        clauses.append("id IN (SELECT judged FROM objected WHERE field = :field)")
        values["field"] = filters.field
    for name, columns in (
        ("protocol", ("protocol",)),
        ("body_part", ("body_part",)),
        ("text", ("reason", "why", "protocol", "load")),
    ):
        if getattr(filters, name):
            clauses.append("(" + " OR ".join(f"{c} LIKE :{name} ESCAPE '\\'" for c in columns) + ")")
            values[name] = "%" + re.sub(r"([%_\\])", r"\\\1", getattr(filters, name)) + "%"
    if filters.parameter:
        path = f"json_extract(parameters, '$.\"{filters.parameter}\"')"  # the name was looked at: letters and digits
        clauses.append(f"{path} IS NOT NULL")
        for name, sign in (("low", ">="), ("high", "<=")):
            if getattr(filters, name):
                clauses.append(f"{path} {sign} :{name} AND typeof({path}) IN ('real', 'integer')")
                values[name] = _number(getattr(filters, name), name)
    return clauses, values


def _one_of(value: str, name: str, known: Sequence[str]) -> None:
    if value and value not in known:
        raise RequestError(f"no such {name}", value[:40], f"one of {', '.join(known)}"[:500])


def day_of(text: str, name: str) -> date:
    """A day as ISO 8601 has it; RequestError names what it is for."""
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise RequestError(f"{name} is no day", text[:40], "write it as 2026-01-31") from error
    if not 1970 < day.year < 9999:
        raise RequestError(f"{name} is no day of ours", text[:40], "write it as 2026-01-31")
    return day


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"{name} is no number", text[:40], "write it as 12.5")
    return number


def begin_of(day: date) -> float:
    """Its midnight by the console's clock, s since 1970."""
    return datetime(day.year, day.month, day.day).astimezone().timestamp()
