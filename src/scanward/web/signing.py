"""The pages of sign-in, sign-out and one's own account."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from scanward.config import WEB_BOUNDS
from scanward.errors import InputError, RequestError
from scanward.web.frame import render
from scanward.web.guards import Visit, account_of, form_of, require, safe_next, visit_of
from scanward.web.sessions import new_token

if TYPE_CHECKING:
    from scanward.web.accounts import Accounts, Checked
    from scanward.web.sessions import Sessions
    from scanward.web.site import Site

_Result = TypeVar("_Result")

_NOTES: Final = {
    "signed-out": "You are signed out.",
    "changed": "Your password is changed, and you are signed out everywhere. Sign in with the new one.",
    "everywhere": "You are signed out everywhere.",
    "expired": "You were signed out. Sign in to go on.",
}
_WRONG: Final = "Name or password is wrong."
_DEVICE_SECONDS: Final = 400 * 86_400  # s that a browser is known: the longest that browsers keep a cookie


async def sign_in_page(request: Request) -> Response:
    """GET /sign-in: the form, with a visit's token in a cookie and in the form."""
    site: Site = request.app.state.site
    there = safe_next(request.query_params.get("next", ""), site.home)
    visit = visit_of(request)
    if visit.session is not None:
        return RedirectResponse(there, 303)
    fresh = ""
    if not visit.token:
        fresh = new_token()
        request.scope["scanward.visit"] = Visit(None, fresh, visit.device)
    note = _NOTES.get(request.query_params.get("note", ""), "")
    response = render(request, "sign_in.html", there=there, note=note, problem="", name="")
    if fresh:
        site.set_cookie(response, "visit", fresh)
    return response


async def sign_in(request: Request) -> Response:
    """POST /sign-in: a new session, a new token; or the form again, with the same words whatever was wrong."""
    site: Site = request.app.state.site
    sessions: Sessions = request.app.state.sessions
    fields = form_of(await request.body())
    name, password = fields.get("name", ""), fields.get("password", "")
    there = safe_next(fields.get("next", ""), site.home)
    visit = visit_of(request)
    checked = await _check(request, name, password)
    token = None
    device = visit.device or new_token()
    if checked.account is not None:
        account = checked.account
        replaced = visit.session.token if visit.session else None

        def begin() -> str | None:
            with site.accounts.database.transaction():
                begun = sessions.begin(account, site.clock(), replaced)
                if begun is not None:
                    site.accounts.remember_device(account, device, site.clock())
            return begun

        token = await run_in_threadpool(begin)
    if token is None:
        status, problem = (429, _too_early(checked.wait)) if checked.wait > 0 else (401, _WRONG)
        page = render(request, "sign_in.html", status, there=there, note="", problem=problem, name=name[:64])
        if checked.wait > 0:
            page.headers["retry-after"] = str(math.ceil(checked.wait))
        return page
    response = RedirectResponse(there, 303)
    site.set_cookie(response, "session", token)
    site.set_cookie(response, "device", device, _DEVICE_SECONDS)
    site.clear_cookie(response, "visit")
    return response


async def _check(request: Request, name: str, password: str) -> Checked:
    site: Site = request.app.state.site
    address = request.client.host if request.client else ""
    device = visit_of(request).device
    return await _hashing(
        request, lambda: site.accounts.verify(name, password, address, site.clock(), device)
    )


async def _hashing(request: Request, work: Callable[[], _Result]) -> _Result:
    """In one of the few threads for hashes: a flood of sign-ins takes neither all memory nor all other threads."""
    return await asyncio.get_running_loop().run_in_executor(request.app.state.hashing, work)


def _too_early(wait: float) -> str:
    seconds = math.ceil(wait)
    told = f"{seconds} seconds" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
    return f"Too many attempts. Try again in {told}."


@require()
async def sign_out(request: Request) -> Response:
    """POST /sign-out: the session ends. What a page keeps in the browser (unsent answers) is not touched."""
    site: Site = request.app.state.site
    session = visit_of(request).session
    assert session is not None
    await run_in_threadpool(request.app.state.sessions.end, session, site.clock())
    return _signed_out(site, "signed-out")


def _signed_out(site: Site, note: str) -> Response:
    response = RedirectResponse(f"/sign-in?note={note}", 303)
    site.clear_cookie(response, "session")
    return response


@require()
async def account_page(request: Request) -> Response:
    """GET /account: one's own sessions, a new password."""
    return await _account_page(request)


async def _account_page(request: Request, problem: str = "", status: int = 200) -> Response:
    site: Site = request.app.state.site
    begun = await run_in_threadpool(request.app.state.sessions.of, account_of(request))
    now = site.clock()
    ages = [
        (max(0, round((now - created) / 60)), max(0, round((now - seen) / 60))) for created, seen in begun
    ]
    return render(
        request, "account.html", status, problem=problem, sessions=ages, least=WEB_BOUNDS.password_chars
    )


@require()
async def change_password(request: Request) -> Response:
    """POST /account/password: needs the old one; ends every session of the account."""
    site: Site = request.app.state.site
    accounts: Accounts = site.accounts
    account = account_of(request)
    fields = form_of(await request.body())
    new = fields.get("new", "")
    if new != fields.get("again", ""):
        return await _account_page(request, "The two new passwords differ.", 422)
    checked = await _check(request, account.name, fields.get("current", ""))
    if checked.wait > 0:
        return await _account_page(request, _too_early(checked.wait), 429)
    if checked.account is None:
        return await _account_page(request, "The current password is wrong.", 403)
    try:
        await _hashing(request, lambda: accounts.set_password(account.name, new, account.name, site.clock()))
    except InputError as error:
        return await _account_page(request, f"The new password is {error.what}: {error.todo}.", 422)
    return _signed_out(site, "changed")


@require()
async def sign_out_everywhere(request: Request) -> Response:
    """POST /account/sign-out-everywhere."""
    site: Site = request.app.state.site
    account = account_of(request)
    await run_in_threadpool(site.accounts.sign_out_everywhere, account.name, account.name, site.clock())
    return _signed_out(site, "everywhere")


async def session_state(request: Request) -> Response:
    """GET /api/session: who is signed in, and the CSRF token that pages opened before signing in again now need."""
    session = visit_of(request).session
    if session is None:
        raise RequestError("you are signed out", "", "sign in", 401)
    site: Site = request.app.state.site
    return JSONResponse(
        {
            "account": session.account.name,
            "roles": sorted(session.account.roles),
            "csrf_token": visit_of(request).csrf_token,
            "expires_in": round(session.expires - site.clock(), 1),
        }
    )


ROUTES: Final = (
    Route("/sign-in", sign_in_page, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/account", account_page, methods=["GET"]),
    Route("/account/password", change_password, methods=["POST"]),
    Route("/account/sign-out-everywhere", sign_out_everywhere, methods=["POST"]),
    Route("/api/session", session_state, methods=["GET"]),
)
