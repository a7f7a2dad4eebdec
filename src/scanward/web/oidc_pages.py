"""The two pages of sign-in by OpenID Connect: out to the provider, and back."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scanward.config import OIDC_BOUNDS
from scanward.errors import LinkError, RequestError
from scanward.web.frame import render
from scanward.web.guards import cookies_of, safe_next, visit_of
from scanward.web.oidc import CALLBACK, START, SingleSignOn, state_of
from scanward.web.sessions import is_token, new_token

if TYPE_CHECKING:
    from scanward.web.site import Site

_log = logging.getLogger("scanward.web")
_COOKIE: Final = "oidc"
_BEGIN_AGAIN: Final = "go to the page of sign-in and begin again"


async def start(request: Request) -> Response:
    """GET /sign-in/oidc: to the provider, with a token in a cookie."""
    site, single = _site(request)
    token, there = new_token(), safe_next(request.query_params.get("next", ""), site.home)
    address = await _asked(request, single.begin, token)
    response = RedirectResponse(address, 303)
    response.set_cookie(
        site.cookie(_COOKIE),
        f"{token}.{base64.urlsafe_b64encode(there.encode('ascii')).decode().rstrip('=')}",
        max_age=round(OIDC_BOUNDS.away_seconds),
        path="/",
        secure=site.tls,
        httponly=True,
        samesite="lax",  # the provider leads back here
    )
    return response


async def callback(request: Request) -> Response:
    """GET /sign-in/oidc/callback: who the provider says it is, if there is such an account."""
    site, single = _site(request)
    held = cookies_of(request, site.cookie(_COOKIE)) or ""
    token, _, there = held.partition(".")
    state = request.query_params.get("state", "")
    if not is_token(token) or not hmac.compare_digest(
        state.encode("utf-8", "replace"), state_of(token).encode()
    ):
        raise RequestError("this answer belongs to no sign-in of this browser", "", _BEGIN_AGAIN, 403)
    issuer = request.query_params.get("iss", single.provider.issuer)  # RFC 9207
    code = request.query_params.get("code", "")
    if (
        issuer != single.provider.issuer
        or not code
        or len(code) > OIDC_BOUNDS.code_chars
        or not code.isascii()
    ):
        return _again(request, site, "The provider did not sign you in.")
    try:
        name = await _asked(request, single.finish, token, code)
    except RequestError as error:
        if error.status != 401:
            raise
        _log.warning("sign-in by OpenID Connect refused: %s", error.what)
        return _again(request, site, "The provider's answer does not hold. Begin again.")
    sessions, accounts = request.app.state.sessions, site.accounts
    visit = visit_of(request)

    def begin() -> str | None:
        account = accounts.get(name)
        if account is None or account.disabled:
            accounts.events.refusal(account.name if account else "", "OpenID Connect", site.clock())
            return None
        with accounts.database.transaction():
            replaced = visit.session.token if visit.session else None
            begun: str | None = sessions.begin(account, site.clock(), replaced)
            if begun is not None:
                accounts.events.add("signed in by OpenID Connect", account.name, "", site.clock())
        return begun

    begun = await run_in_threadpool(begin)
    if begun is None:
        return _again(request, site, "You are known to the provider, but have no account here.")
    # Not a redirect: cookies that are only for our own site do not follow one that another site began.
    response = render(request, "oidc_done.html", there=_there(there, site))
    site.set_cookie(response, "session", begun)
    site.clear_cookie(response, "visit")
    site.clear_cookie(response, _COOKIE)
    return response


def _site(request: Request) -> tuple[Site, SingleSignOn]:
    site: Site = request.app.state.site
    assert site.single_sign_on is not None
    return site, site.single_sign_on


async def _asked(request: Request, ask: object, *values: str) -> str:
    """Ask the provider in a thread; few at once, so that one that is slow takes not all threads."""
    asking: asyncio.Semaphore = request.app.state.asking
    if asking.locked():
        raise RequestError("too many are signing in", "", "try again in a few seconds", 503)
    async with asking:
        try:
            assert callable(ask)
            return str(await run_in_threadpool(ask, *values))
        except LinkError as error:
            _log.error("%s", error)
            raise RequestError("the provider of sign-in cannot be reached", "", error.todo, 503) from error


def _again(request: Request, site: Site, problem: str) -> Response:
    # The form's token is made by GET /sign-in: here stands only the way there.
    response = render(request, "oidc_done.html", 401, there="", problem=problem)
    site.clear_cookie(response, _COOKIE)
    return response


def _there(encoded: str, site: Site) -> str:
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
    except ValueError:
        return site.home
    return safe_next(text, site.home)


ROUTES: Final = (Route(START, start, methods=["GET"]), Route(CALLBACK, callback, methods=["GET"]))
