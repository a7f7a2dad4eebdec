"""Now: what each scanner's guard holds, and the operator's choices. The page's scripts do the rest (``static/now``).

======================================  ==============================================================================
address                                 what
======================================  ==============================================================================
GET ``/now``                            the page; for an operator with acts, for a physicist without
GET ``/api/scanners/{id}/places``       ``?request=N``: where each value objected to lies among what the bundle learned
======================================  ==============================================================================
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanward.codecs.stream import command_from_json
from scanward.commands import FIELDS, Command
from scanward.config import CONSOLE_BOUNDS, POLICY_BOUNDS
from scanward.console.device import device_of
from scanward.console.drift_reference import Reference
from scanward.console.shared import OPERATOR, PHYSICIST, console_of
from scanward.errors import DecodeError, RequestError
from scanward.web.frame import render
from scanward.web.guards import account_of, require
from scanward.web.site import Link

LINKS: Sequence[Link] = (Link("Now", "/now", f"{OPERATOR} {PHYSICIST}"),)
_UNITS: Final = json.dumps({name: field.unit for name, field in FIELDS.items() if field.unit})


@require(OPERATOR, PHYSICIST)
async def now(request: Request) -> Response:
    """GET /now."""
    return render(
        request,
        "now.html",
        units=_UNITS,
        acts=OPERATOR in account_of(request).roles,
        reason_chars=POLICY_BOUNDS.reason_chars,
    )


@require(OPERATOR, PHYSICIST)
async def places(request: Request) -> Response:
    """GET /api/scanners/{id}/places: of the hold with this request; of none when it is over, or nothing is known."""
    console = console_of(request)
    scanner = console.scanner(request.path_params["id"])
    held, asked = scanner.held, request.query_params.get("request")
    if asked is not None and not re.fullmatch("[0-9]{1,16}", asked):
        raise RequestError("not a request's number", "", "give that of the hold", 422)
    if held is None or str(held.get("request")) != asked:
        return JSONResponse({"places": []})
    copy = await device_of(console).look(scanner.id)
    if copy is None or copy.reference is None:
        return JSONResponse({"places": []})
    return JSONResponse({"places": await asyncio.to_thread(places_of, held, copy.reference)})


def places_of(held: Mapping[str, Any], reference: Reference) -> list[dict[str, Any]]:
    """For each value that is objected to: the bins of what was learned, their shares, and the bin it lies in.

    ``element`` is the place of the command in the chain. What the bundle says nothing of is left out.
    """
    out: list[dict[str, Any]] = []
    fields = {one.name: (at, one) for at, one in enumerate(reference.fields)}
    findings, chain = held.get("findings"), held.get("chain")
    if not isinstance(findings, list) or not isinstance(chain, list):
        return out
    for element, (finding, link) in enumerate(zip(findings, chain, strict=False)):
        objections = finding.get("objections") if isinstance(finding, Mapping) else None
        named = _names(objections) if isinstance(objections, list) else ()
        wanted = [name for name in dict.fromkeys(named) if name in fields]
        command = _command(link) if wanted else None
        if command is None:
            continue
        codes = reference.codes([command])[0]
        for name in wanted:
            at, field = fields[name]
            whole = sum(field.counts) or 1.0
            out.append(
                {
                    "element": element,
                    "field": name,
                    "names": list(field.names),
                    "shares": [count / whole for count in field.counts],
                    "at": int(field.bin_of[codes[at]]),
                }
            )
            if len(out) >= CONSOLE_BOUNDS.places:
                return out
    return out


def _names(objections: list[object]) -> list[str]:
    named = [one.get("field") for one in objections if isinstance(one, Mapping)]
    return [name for name in named if isinstance(name, str)]


def _command(link: object) -> Command | None:
    try:
        return command_from_json(link["command"]) if isinstance(link, Mapping) else None
    except (DecodeError, KeyError, TypeError):
        return None


ROUTES: Sequence[Route] = (
    Route("/now", now, methods=["GET"]),
    Route("/api/scanners/{id}/places", places, methods=["GET"]),
)
