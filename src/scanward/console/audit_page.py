"""Audit: whether the logs are what was written, every emergency access with its reason or without, every act.

What the import found on its way (chain and checkpoints of what is new) and what the last full verification found stand
beside each other: the first is seconds old, the second looks at everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from scanward.audit.verifying import STEPS
from scanward.console import history_query
from scanward.console.history import link, names_of, place_of, shown
from scanward.console.history_import import Importer
from scanward.console.history_service import History, history_of
from scanward.console.history_shown import many, mapping, moment, visible, zone
from scanward.console.shared import PHYSICIST, console_of
from scanward.errors import RequestError
from scanward.web.frame import render
from scanward.web.guards import account_of, require
from scanward.web.site import Link

LINKS: Sequence[Link] = (Link("Audit", "/audit", PHYSICIST),)
_OLD: Final = 2.0  # verifications that may be missed before the page says that the last one is old


@require(PHYSICIST)
async def audit(request: Request) -> Response:
    """GET /audit: each log's state, emergency access, acts."""
    console = console_of(request)
    history, names = history_of(console), names_of(console)
    logs = await history.ask(history_query.logs)
    place, newer = place_of(request)
    part = request.query_params.get("of", "grants")
    if part not in ("grants", "acts"):
        raise RequestError("no such list", part[:40], "take a link of the page")
    grants = await history.ask(
        history_query.grants, "", *((place,) if part == "grants" else ()), newer=newer and part == "grants"
    )
    acts = await history.ask(
        history_query.acts, "", *((place,) if part == "acts" else ()), newer=newer and part == "acts"
    )
    count, open_grants = await history.ask(history_query.unexplained)
    now = console.clock()
    return render(
        request,
        "audit.html",
        logs=[
            _log_view(
                one, next((log for log in logs if log["scanner"] == scanner), None), history, names, now
            )
            for scanner, one in history.importers.items()
        ],
        without=[one.name for one in console.settings.scanners if one.id not in history.importers],
        steps=STEPS,
        zone=zone(),
        unexplained=count,
        open_grants=[_grant_view(row, names, now) for row in open_grants],
        many=many,
        grants=[_grant_view(row, names, now) for row in grants.rows],
        acts=[
            shown(row) | {"time": moment(row["at"]), "scanner": names.get(row["scanner"], row["scanner"])}
            for row in acts.rows
        ],
        pages={
            "grants": _turns("grants", grants),
            "acts": _turns("acts", acts),
        },
    )


@require(PHYSICIST)
async def verify(request: Request) -> Response:
    """POST /audit/verify/{scanner}: verify that log now; the page says what came of it."""
    history = history_of(console_of(request))
    scanner = request.path_params["scanner"]
    importer = history.importers.get(scanner)
    if importer is None:
        raise RequestError("no audit log of that scanner", scanner[:40], "give `audit` in console.toml", 404)
    account_of(request)
    await history.verify(importer)
    return RedirectResponse(f"/audit#log-{scanner}", 303)


ROUTES: Sequence[BaseRoute] = (
    Route("/audit", audit, methods=["GET"]),
    Route("/audit/verify/{scanner}", verify, methods=["POST"]),
)


def _turns(part: str, page: history_query.Page) -> dict[str, str]:
    return {
        "older": link("/audit", {"of": part, "before": page.older}) + f"#{part}" if page.older else "",
        "newer": link("/audit", {"of": part, "after": page.newer}) + f"#{part}" if page.newer else "",
    }


def _log_view(
    one: Importer, log: Mapping[str, Any] | None, history: History, names: Mapping[str, str], now: float
) -> dict[str, Any]:
    """What is known of one log, in one word and in full."""
    standing = one.standing
    view: dict[str, Any] = {
        "scanner": one.scanner,
        "name": names[one.scanner],
        "folder": str(one.folder),
        "trouble": standing.trouble,
        "behind": standing.behind,
        "looked": moment(standing.looked) if standing.looked else "not yet",
        "keys": len(one.keys),
        "witness": str(one.witness) if one.witness else "",
        "verifying": one.scanner in history.verifying,
        "read": None,
        "findings": [],
        "report": None,
    }
    if log is not None:
        report = mapping(log["report"]) if log["report"] else None
        view |= {
            "read": log["seq"],
            "first": log["first_seq"],
            "log_id": log["log_id"],
            "record_at": moment(log["record_at"]),
            "checkpoint": log["checkpoint_seq"],
            "checkpoint_at": moment(log["checkpoint_at"]),
            "findings": [shown(f) | {"at": moment(f.get("at"))} for f in _list(log["findings"])],
            "report": report,
            "verified_at": moment(log["verified_at"]),
            "report_findings": [shown(f) for f in (report or {}).get("findings", [])],
            "report_notes": [visible(n) for n in (report or {}).get("notes", [])],
            "old": log["verified_at"] is not None
            and now - log["verified_at"] > _OLD * history.store.bounds.verify_seconds,
        }
    view["state"] = _state(view)
    return view


def _state(view: Mapping[str, Any]) -> str:
    """broken, unread, unsigned, unverified, old or whole: the worst that holds."""
    report = view["report"]
    if view["findings"] or (report is not None and report.get("findings")):
        return "broken"
    if view["trouble"] or view["read"] is None:
        return "unread"
    if not view["keys"]:
        return "unsigned"
    if report is None or "error" in report:
        return "unverified"
    return "old" if view["old"] else "whole"


def _grant_view(row: dict[str, Any], names: Mapping[str, str], now: float) -> dict[str, Any]:
    return shown(row) | {
        "name": names.get(row["scanner"], row["scanner"]),
        "begun": moment(row["begun"]),
        "ended": moment(row["ended"]),
        "explained": moment(row["explained"]),
        "over": row["minutes"] is not None and now > row["begun"] + 60.0 * row["minutes"],
        "minutes": "" if row["minutes"] is None else f"{row['minutes']:.3g}",
        "commands": link("/history", {"emergency": row["id"]}),
    }


def _list(told: str) -> list[dict[str, Any]]:
    found = mapping('{"list":' + told + "}").get("list")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
