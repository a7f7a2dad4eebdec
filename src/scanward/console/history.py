"""History: every command with filters, alerts per day against the budget, what the guards noted, CSV.

Everything works without a script. What is shown comes from hosts: it is text, escaped, with nothing hidden in it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from scanward.commands import FIELDS, Mode
from scanward.console import history_csv, history_query, history_shown
from scanward.console.history_chart import chart
from scanward.console.history_filters import LAYERS, VERDICTS, Filters, parse_filters
from scanward.console.history_service import History, history_of, running
from scanward.console.history_store import OUTCOMES
from scanward.console.shared import PHYSICIST, Console, console_of
from scanward.errors import RequestError
from scanward.web.frame import render
from scanward.web.guards import require
from scanward.web.site import Link

__all__ = ["LINKS", "ROUTES", "running"]

SPANS: Final = (7, 28, 91, 365)  # days of the chart
LINKS: Sequence[Link] = (Link("History", "/history", PHYSICIST),)


@require(PHYSICIST)
async def commands(request: Request) -> Response:
    """GET /history: filters, chart, one page of commands."""
    console = console_of(request)
    history, names = history_of(console), names_of(console)
    filters = parse_filters(request.query_params, list(names))
    place, newer = place_of(request)
    span = _span(request)
    page, found = await asyncio.gather(
        history.ask(history_query.commands, filters, place, newer=newer),
        history.ask(history_query.count, filters),
    )
    charts = await _charts(history, [filters.scanner] if filters.scanner else list(history.importers), span)
    asked = filters.asked
    return render(
        request,
        "history.html",
        rows=[history_shown.row_view(row, names) for row in page.rows],
        zone=history_shown.zone(),
        found="more than 10,000" if found > 10_000 else f"{found:,}",
        older=link("/history", {**asked, "days": span, "before": page.older}) if page.older else "",
        newer=link("/history", {**asked, "days": span, "after": page.newer}) if page.newer else "",
        csv=link("/history/commands.csv", asked),
        asked=asdict(filters),
        names=names,
        verdicts=VERDICTS,
        outcomes=OUTCOMES,
        layers=LAYERS,
        modes=[mode.value for mode in Mode],
        fields=sorted(FIELDS),
        charts=[(names.get(scanner, scanner), made) for scanner, made in charts],
        spans=[(days, link("/history", {**asked, "days": days})) for days in SPANS],
        span=span,
        troubles=_troubles(history, names),
    )


@require(PHYSICIST)
async def one_command(request: Request) -> Response:
    """GET /history/commands/{number}: everything that is known of one command."""
    console = console_of(request)
    number = request.path_params[
        "number"
    ]  # a text: Python reads no number of thousands of digits, and says so loudly
    known = re.fullmatch("[0-9]{1,18}", number)
    found = await history_of(console).ask(history_query.command, int(number)) if known else None
    if found is None:
        raise RequestError("no such command", number[:40], "take one of the list", 404)
    names = names_of(console)
    return render(
        request,
        "history_command.html",
        row=history_shown.row_view(found, names),
        whole={k: history_shown.visible(v) if isinstance(v, str) else v for k, v in found.items()},
        held=history_shown.moment(found["held"]),
        zone=history_shown.zone(),
        outcomes=OUTCOMES,
        parameters=history_shown.parameters_view(found),
        context=history_shown.context_view(found),
        chain=[history_shown.row_view(row, names) for row in found["chain"]],
        acts=[_act_view(act, names) for act in found["acts"]],
        doses=[shown(dose) | {"time": history_shown.moment(dose["at"])} for dose in found["doses"]],
        same=link("/history", {"examination": found["examination"], "scanner": found["scanner"]})
        if found["examination"]
        else "",
    )


@require(PHYSICIST)
async def notes(request: Request) -> Response:
    """GET /history/notes: what the guards noted of themselves: alerts, starts, stops, connections."""
    console = console_of(request)
    history, names = history_of(console), names_of(console)
    asked = {name: request.query_params.get(name, "").strip()[:64] for name in ("kind", "scanner")}
    if asked["scanner"] and asked["scanner"] not in names:
        raise RequestError("no such scanner", asked["scanner"], "take one of the list")
    place, newer = place_of(request)
    page = await history.ask(history_query.notes, asked["kind"], asked["scanner"], place, newer=newer)
    kinds = await history.ask(history_query.kinds)
    set_ones = {name: value for name, value in asked.items() if value}
    return render(
        request,
        "history_notes.html",
        rows=[
            shown(row) | {"time": history_shown.moment(row["at"]), "scanner": names.get(row["scanner"], "")}
            for row in page.rows
        ],
        zone=history_shown.zone(),
        kinds=[(kind, history_shown.visible(kind)) for kind in kinds],
        names=names,
        asked=asked,
        older=link("/history/notes", {**set_ones, "before": page.older}) if page.older else "",
        newer=link("/history/notes", {**set_ones, "after": page.newer}) if page.newer else "",
    )


@require(PHYSICIST)
async def csv(request: Request) -> Response:
    """GET /history/commands.csv: everything that the filters find, newest first."""
    console = console_of(request)
    history, names = history_of(console), names_of(console)
    filters = parse_filters(request.query_params, list(names))
    most = history.store.bounds.csv_rows
    if await history.ask(history_query.count, filters, most) > most:
        raise RequestError(f"more than {most:,} rows", "", "ask for fewer days, and join the files")
    return StreamingResponse(
        _csv(history, filters, names),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"content-disposition": 'attachment; filename="scanward-commands.csv"'},
    )


ROUTES: Sequence[BaseRoute] = (
    Route("/history", commands, methods=["GET"]),
    Route("/history/commands.csv", csv, methods=["GET"]),
    Route("/history/commands/{number}", one_command, methods=["GET"]),
    Route("/history/notes", notes, methods=["GET"]),
)


async def _csv(history: History, filters: Filters, names: dict[str, str]) -> AsyncIterator[bytes]:
    """The file in pieces; each piece is a question of its own in a thread of the history's."""
    pieces = history_csv.pieces(history.store, filters, names)
    while piece := await history.ask(lambda _: next(pieces, b"")):
        yield piece


async def _charts(history: History, scanners: Sequence[str], span: int) -> list[tuple[str, Any]]:
    today = datetime.now().astimezone().date()
    since = today - timedelta(days=span - 1)
    budgets = {log["scanner"]: log["budget"] for log in reversed(await history.ask(history_query.logs))}
    found = []
    for scanner in scanners:
        days = await history.ask(history_query.days, scanner, since, today)
        found.append((scanner, chart(days, budgets.get(scanner))))
    return found


def names_of(console: Console) -> dict[str, str]:
    """Names of scanners by id, as console.toml has them."""
    return {one.id: one.name for one in console.settings.scanners}


def _troubles(history: History, names: dict[str, str]) -> list[tuple[str, str]]:
    """Scanners whose log is not read now, and why; those that are still being read."""
    found = []
    for scanner, one in history.importers.items():
        if one.standing.trouble:
            found.append((names[scanner], one.standing.trouble))
        elif one.standing.behind or not one.standing.looked:
            found.append((names[scanner], "the log is still being read: the newest rows are not here yet"))
    return found


def place_of(request: Request) -> tuple[str, bool]:
    """Where a page goes on from, and whether towards newer rows."""
    after = request.query_params.get("after", "")
    return (after, True) if after else (request.query_params.get("before", ""), False)


def _span(request: Request) -> int:
    told = request.query_params.get("days", "28")
    if told not in {str(days) for days in SPANS}:
        raise RequestError("no such span of days", told[:40], f"one of {', '.join(map(str, SPANS))}")
    return int(told)


def link(path: str, asked: dict[str, Any]) -> str:
    """An address with what is asked of it."""
    return f"{path}?{urlencode(asked)}" if asked else path


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts hide nothing."""
    return {
        name: history_shown.visible(value) if isinstance(value, str) else value for name, value in row.items()
    }


def _act_view(act: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return shown(act) | {"time": history_shown.moment(act["at"]), "scanner": names.get(act["scanner"], "")}
