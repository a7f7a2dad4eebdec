"""For administrators: accounts and their roles, what was done to them, which acts were sent; the configuration.

An account lets somebody look, and send what he signed. Whether an act counts is decided by the guard: whoever takes
over an administrator's account here can let people in and keep them out, and releases nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scanward.config import CONSOLE_BOUNDS
from scanward.console.acts import OPERATOR_ID, desk_of
from scanward.console.shared import ADMINISTRATOR, ROLES, Console, console_of
from scanward.errors import InputError, LinkError, RequestError
from scanward.transport.tls import certificate_facts
from scanward.web.accounts import Account
from scanward.web.frame import render
from scanward.web.guards import account_of, form_of, require
from scanward.web.site import Link

LINKS: Sequence[Link] = (
    Link("Accounts", "/accounts", ADMINISTRATOR),
    Link("Configuration", "/configuration", ADMINISTRATOR),
)
ACTIONS: Final = ("roles", "operator", "reset", "sign-out", "unlock", "disable", "enable", "remove")
_NOT_ONESELF: Final = frozenset({"roles", "disable", "remove"})


@require(ADMINISTRATOR)
async def accounts_page(request: Request) -> Response:
    """GET /accounts."""
    return await _page(request)


@require(ADMINISTRATOR)
async def add(request: Request) -> Response:
    """POST /accounts/add: a new account; its passphrase is shown once."""
    fields = form_of(await request.body())
    name, roles = fields.get("name", ""), _roles(fields)
    if not roles:
        return await _page(request, problem="An account needs a role.", status=422)
    accounts, by = console_of(request).accounts, account_of(request).name
    return await _done(request, name, lambda: accounts.add(name, roles, by=by))


@require(ADMINISTRATOR)
async def change(request: Request) -> Response:
    """POST /accounts/change: one of `ACTIONS` for one account."""
    fields = form_of(await request.body())
    name, action = fields.get("name", ""), fields.get("action", "")
    if action not in ACTIONS:
        raise RequestError("no such action", action[:32], "use the page's buttons", 422)
    meant = await run_in_threadpool(
        console_of(request).accounts.get, name
    )  # as it is looked up, not as it is typed
    if action in _NOT_ONESELF and meant is not None and meant.identifier == account_of(request).identifier:
        return await _page(
            request, problem="Another administrator does that: nobody locks himself out.", status=422
        )
    if action == "roles" and not _roles(fields):
        return await _page(request, problem="An account needs a role.", status=422)
    work = _work(console_of(request), action, name, fields, account_of(request).name)
    return await _done(request, name, work)


def _work(
    console: Console, action: str, name: str, fields: dict[str, str], by: str
) -> Callable[[], str | None]:
    accounts = console.accounts

    def work() -> str | None:
        if action == "reset":
            return accounts.set_password(name, by=by)
        if action == "roles":
            accounts.set_roles(name, _roles(fields), by=by)
        elif action == "operator":
            _set_operator(console, accounts.get(name), fields.get("operator", "").strip(), by)
        elif action == "sign-out":
            accounts.sign_out_everywhere(name, by=by)
        elif action == "unlock":
            accounts.unlock(name, by=by)
        elif action == "remove":
            accounts.remove(name, by=by)
        else:
            accounts.disable(name, action == "disable", by=by)
        return None

    return work


def _set_operator(console: Console, account: Account | None, operator: str, by: str) -> None:
    if account is None:
        raise InputError("no such account", "", "load the page again")
    if not OPERATOR_ID.fullmatch(operator):
        raise InputError("not an operator's id", "", "give the id in the guards' policies")
    desk_of(console).records.set_operator(account, operator)
    console.accounts.events.add("operator set", account.name, f"{operator}, by {by}", console.clock())


def _roles(fields: dict[str, str]) -> list[str]:
    """Forms have each field once: a box for each role."""
    return [role for role in ROLES if fields.get(f"role-{role}") == "yes"]


async def _done(request: Request, name: str, work: Callable[[], str | None]) -> Response:
    """Do it in a thread for hashes, and show the page with what came of it."""
    loop = asyncio.get_running_loop()
    try:
        passphrase = await loop.run_in_executor(request.app.state.hashing, work)
    except InputError as error:
        told = ": ".join(part for part in (error.what, error.todo) if part)
        return await _page(request, problem=f"Not done: {told}.", status=422)
    return await _page(request, made=name, passphrase=passphrase or "")


async def _page(
    request: Request, *, problem: str = "", made: str = "", passphrase: str = "", status: int = 200
) -> Response:
    console = console_of(request)
    desk = desk_of(console)

    def gather() -> dict[str, Any]:
        return {
            "people": [(one, desk.records.operator_of(one)) for one in console.accounts.all()],
            "done": console.accounts.events.newest(CONSOLE_BOUNDS.acts_shown),
            "sent": desk.records.newest(),
        }

    found = await run_in_threadpool(gather)
    return render(
        request,
        "people.html",
        status,
        roles=ROLES,
        problem=problem,
        made=made,
        passphrase=passphrase,
        when=_when,
        **found,
    )


def _when(at: float) -> str:
    """UTC to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


@require(ADMINISTRATOR)
def configuration(request: Request) -> Response:
    """GET /configuration: what console.toml says, without secrets."""
    console = console_of(request)
    web = console.settings.web
    certificate = ""
    if web.certificate is not None:
        try:
            facts = certificate_facts(web.certificate)
            certificate = f"{', '.join(facts.names)}; valid until {facts.not_after:%Y-%m-%d}"
        except LinkError as error:
            certificate = f"cannot be read: {error.what}"
    return render(
        request,
        "configuration.html",
        settings=console.settings,
        certificate=certificate,
        states=console.scanners,
    )


ROUTES: Sequence[Route] = (
    Route("/accounts", accounts_page, methods=["GET"]),
    Route("/accounts/add", add, methods=["POST"]),
    Route("/accounts/change", change, methods=["POST"]),
    Route("/configuration", configuration, methods=["GET"]),
)
