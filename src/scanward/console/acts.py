"""Acts: a ticket, then the act that was signed in the browser, over the ticket's own connection to the guard.

==========================================  ==========================================================================
address                                     what
==========================================  ==========================================================================
POST ``/api/scanners/{id}/tickets``         {} -> ticket, nonce, policy, local, expires (console's clock, s since 1970)
POST ``/api/scanners/{id}/acts``            {ticket, act, signature} -> done, reason: the guard's own words
GET ``/api/operator``                       {operator}: the id that acts of this account carry
POST ``/api/operator``                      {operator}: another id; "" for the account's own name
==========================================  ==========================================================================

The guard decides what is believed. Refused here is only what no page of ours sends: an act without a signature, the
mode, an act in another's name than the account's operator, a release of what is not what the guard says it holds.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanward.config import CONSOLE_BOUNDS
from scanward.console.records import Records, Sent
from scanward.console.shared import OPERATOR, Console, console_of
from scanward.console.state import ScannerState
from scanward.console.tickets import Answered, Tickets
from scanward.errors import DecodeError, RequestError
from scanward.guard.control_lines import ActLine, decode
from scanward.guard.operators import LOCAL_ONLY, Act, ActKind
from scanward.keys import passphrase_from_environment
from scanward.web.accounts import Account
from scanward.web.guards import account_of, require, visit_of
from scanward.web.site import Link

LINKS: Sequence[Link] = ()
OPERATOR_ID: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,64}")  # no half characters: files have none
_KEYS: Final = frozenset({"act", "operator", "request", "shown", "reason", "minutes", "mode"})
_TERMINAL: Final = "use the guard's own terminal: scanward operator"
_log = logging.getLogger("scanward.console")


@dataclass(frozen=True, slots=True)
class ActDesk:
    """What acts need for as long as the console is served."""

    tickets: Tickets
    records: Records


@asynccontextmanager
async def running(console: Console) -> AsyncIterator[None]:
    """Opens the console's own record, and gives up all tickets at the end."""
    records = await run_in_threadpool(Records, console.settings.web.records)
    tickets = Tickets(passphrase_from_environment())
    console.kept[__name__] = ActDesk(tickets, records)
    try:
        yield
    finally:
        await tickets.close()
        records.close()


def desk_of(console: Console) -> ActDesk:
    """Tickets and record of a console that is being served."""
    desk = console.kept[__name__]
    assert isinstance(desk, ActDesk)
    return desk


@require(OPERATOR)
async def take_ticket(request: Request) -> Response:
    """POST /api/scanners/{id}/tickets."""
    console, account = console_of(request), account_of(request)
    scanner = console.settings_of(request.path_params["id"])
    session = visit_of(request).session
    assert session is not None
    await _document(request, frozenset())
    ticket = await desk_of(console).tickets.take(scanner, session.token, account.name)
    hello = ticket.wire.hello
    return JSONResponse(
        {
            "ticket": ticket.token,
            "nonce": hello.nonce,
            "policy": hello.policy,
            "local": hello.local,
            "expires": console.clock() + CONSOLE_BOUNDS.ticket_seconds,
        },
        201,
    )


@require(OPERATOR)
async def act(request: Request) -> Response:
    """POST /api/scanners/{id}/acts."""
    console, account = console_of(request), account_of(request)
    scanner = console.scanner(request.path_params["id"])
    session = visit_of(request).session
    assert session is not None
    document = await _document(request, frozenset({"ticket", "act", "signature"}))
    line = _line(document.get("act"), document.get("signature"))
    desk = desk_of(console)
    operator = await run_in_threadpool(desk.records.operator_of, account)
    _may(line.act, operator, scanner)
    token = document.get("ticket")
    ticket = desk.tickets.find(scanner.id, token if isinstance(token, str) else "", session.token)
    try:
        answered = await desk.tickets.send(ticket, line)
    except RequestError:
        await _record(console, desk.records, account, scanner, line.act, None)
        raise
    await _record(console, desk.records, account, scanner, line.act, answered)
    return JSONResponse({"done": answered.done, "reason": answered.reason})


@require(OPERATOR)
async def operator_of(request: Request) -> Response:
    """GET /api/operator."""
    records = desk_of(console_of(request)).records
    return JSONResponse({"operator": await run_in_threadpool(records.operator_of, account_of(request))})


@require(OPERATOR)
async def set_operator(request: Request) -> Response:
    """POST /api/operator. Harmless: whose act it is, the key decides."""
    console, account = console_of(request), account_of(request)
    document = await _document(request, frozenset({"operator"}))
    operator = document.get("operator")
    if not isinstance(operator, str) or not OPERATOR_ID.fullmatch(operator):
        raise RequestError("not an operator's id", "", "give the id in the guard's policy", 422)
    records = desk_of(console).records

    def change() -> str:
        records.set_operator(account, operator)
        console.accounts.events.add("operator set", account.name, operator, console.clock())
        return records.operator_of(account)

    return JSONResponse({"operator": await run_in_threadpool(change)})


async def _document(request: Request, keys: frozenset[str]) -> dict[str, Any]:
    body = await request.body()
    if len(body) > CONSOLE_BOUNDS.act_bytes:
        raise RequestError("too long", "", "shorten the reason", 413)
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError("not JSON", "", "send one JSON object", 422) from error
    if not isinstance(document, dict) or set(document) - keys:
        known = ", ".join(sorted(keys)) or "nothing in it"
        raise RequestError("not what is asked for", "", f"send one JSON object with {known}", 422)
    return document


def _line(said: object, signature: object) -> ActLine:
    """The act as the guard will read it, read here by the guard's own rules; RequestError (422) for anything else."""
    if not isinstance(said, dict) or set(said) - _KEYS:
        raise RequestError("not an act", "", f"send {', '.join(sorted(_KEYS))}", 422)
    if not isinstance(signature, str) or not re.fullmatch("[0-9a-f]{128}", signature):
        raise RequestError("an act without a signature", "", f"sign it with your key, or {_TERMINAL}", 422)
    try:
        raw = json.dumps({"type": "act", "id": 1, **said, "signature": signature}).encode()
        line = decode(raw)
    except (DecodeError, ValueError, RecursionError) as error:
        what = error.what if isinstance(error, DecodeError) else str(error)[:100]
        raise RequestError(f"not an act: {what}", "", "see docs/control.md", 422) from error
    assert isinstance(line, ActLine)
    return line


def _may(act: Act, operator: str, scanner: ScannerState) -> None:
    if act.kind in LOCAL_ONLY:
        raise RequestError(f"the {act.kind.value} is set at the guard alone", "", _TERMINAL, 403)
    if act.operator != operator:
        raise RequestError(
            "an act in another's name than that of your account",
            "",
            f"sign in with your own account; this one acts as {operator!r}",
            403,
        )
    held = scanner.held
    about = held is not None and held.get("request") == act.request
    if act.kind is ActKind.RELEASE and held is not None and about and not held["shown_ok"]:
        raise RequestError(
            "what the guard shows is not what it says it holds",
            "",
            "refuse it; call whoever runs the guard",
            409,
        )


async def _record(
    console: Console,
    records: Records,
    account: Account,
    scanner: ScannerState,
    act: Act,
    said: Answered | None,
) -> None:
    sent = Sent(
        console.clock(),
        account.name,
        act.operator[:64],
        scanner.id,
        act.kind.value,
        act.request,
        None if said is None else said.done,
        "no answer" if said is None else said.reason[:200],
    )
    try:
        await run_in_threadpool(records.add, sent)
    except sqlite3.Error:  # the guard has its own record; a full disk here must keep nobody from refusing
        _log.exception("an act is not written down: %s", sent)


ROUTES: Sequence[Route] = (
    Route("/api/scanners/{id}/tickets", take_ticket, methods=["POST"]),
    Route("/api/scanners/{id}/acts", act, methods=["POST"]),
    Route("/api/operator", operator_of, methods=["GET"]),
    Route("/api/operator", set_operator, methods=["POST"]),
)
