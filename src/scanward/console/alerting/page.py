"""The list of alerts on the screen, how each route stands, and a test of all of them.

==========================  ==========================================================================================
address                     what
==========================  ==========================================================================================
GET ``/alerts``             the newest alerts with their counts and deliveries, and how each route stands
POST ``/alerts/test``       an alert to every route, to see that it arrives (administrator)
GET ``/api/alerts``         the same as the page, as JSON
==========================  ==========================================================================================
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from scanward.config import ALERTING_BOUNDS
from scanward.console.alerting.alert import KINDS, OTHER, Alert
from scanward.console.alerting.service import desk_of
from scanward.console.shared import ADMINISTRATOR, ROLES, Console, console_of
from scanward.errors import InputError
from scanward.web.frame import render
from scanward.web.guards import account_of, require
from scanward.web.site import Link

LINKS: Sequence[Link] = (Link("Alerts", "/alerts", " ".join(ROLES)),)


async def _told(console: Console) -> dict[str, Any]:
    desk = desk_of(console)

    def asked() -> dict[str, Any]:
        rows = [*desk.memory.newest(ALERTING_BOUNDS.listed), *desk.spool.newest(ALERTING_BOUNDS.listed)]
        rows.sort(key=lambda row: -row["last"])
        for row in rows:
            kind = KINDS.get(row["kind"], OTHER)
            row["title"], row["audience"] = kind.title, sorted(kind.audience)
        return {"disk": desk.disk, "routes": desk.standing(), "alerts": rows[: ALERTING_BOUNDS.listed]}

    return await _asked(asked)


async def _asked(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return await run_in_threadpool(question)
    except sqlite3.Error as error:
        raise InputError(
            f"the spool of alerts cannot be read: {error}", "", "see the console's log"
        ) from error


@require(*ROLES)
async def alerts_page(request: Request) -> Response:
    """GET /alerts."""
    told = await _told(console_of(request))
    return render(
        request,
        "alerts.html",
        **told,
        when=_when,
        sent=request.query_params.get("sent") == "1",
        may_test=ADMINISTRATOR in account_of(request).roles,
    )


@require(*ROLES)
async def alerts_json(request: Request) -> Response:
    """GET /api/alerts."""
    return JSONResponse(await _told(console_of(request)))


@require(ADMINISTRATOR)
async def test(request: Request) -> Response:
    """POST /alerts/test: an alert of kind ``test``, which goes wherever its routes let it."""
    console = console_of(request)
    by, now = account_of(request).name, console.clock()
    # Each is its own: a test that is folded into the last one would say nothing.
    desk_of(console).take(
        Alert("", "", "test", f"{by} {now:.3f}", f"asked for by {by}: nothing is wrong", now)
    )
    return RedirectResponse("/alerts?sent=1", 303)


def _when(at: float | None) -> str:
    if not at:
        return "never"
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


ROUTES: Sequence[Route] = (
    Route("/alerts", alerts_page, methods=["GET"]),
    Route("/alerts/test", test, methods=["POST"]),
    Route("/api/alerts", alerts_json, methods=["GET"]),
)
