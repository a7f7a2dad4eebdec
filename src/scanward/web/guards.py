"""Who is asking, whether a page of ours made him ask, and whether he may.

Every request is admitted (`admit`) before any endpoint sees it:

1. the browser's own words (Fetch Metadata, Origin) must not say that another site made it ask;
2. a session is found by its cookie;
3. whatever is not GET, HEAD or OPTIONS needs the CSRF token of that session, in the header ``X-CSRF-Token`` or in the
   field ``csrf_token`` of a form. Signing in, which has no session yet, needs that of the visit. No endpoint can
   forget it.

`require` says which roles an endpoint is for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from scanward.config import WEB_BOUNDS
from scanward.errors import RequestError
from scanward.web.accounts import Account
from scanward.web.sessions import Session, csrf_of, is_token, same_csrf

if TYPE_CHECKING:
    from scanward.web.site import Site

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN: Final = "/sign-in"
HEADER: Final = "x-csrf-token"
_GUARDED: Final = "scanward_roles"
FIELD: Final = "csrf_token"
FORM: Final = "application/x-www-form-urlencoded"

Endpoint = Callable[[Request], Awaitable[Response] | Response]


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of who asks. ``token``: of his session, or of his visit before sign-in, or "" ."""

    session: Session | None = None
    token: str = ""
    device: str | None = None

    @property
    def csrf_token(self) -> str:
        """What his forms must bring back."""
        return csrf_of(self.token) if self.token else ""


def visit_of(request: Request) -> Visit:
    """What `admit` found; an empty visit where a request was refused before."""
    visit = request.scope.get("scanward.visit")
    return visit if isinstance(visit, Visit) else Visit()


def signed_in(request: Request) -> Account | None:
    """Whose session this is, if any."""
    session = visit_of(request).session
    return session.account if session else None


def account_of(request: Request) -> Account:
    """Whose session this is. RequestError (401) when nobody is signed in."""
    account = signed_in(request)
    if account is None:
        raise RequestError("you are signed out", "", "sign in", 401)
    return account


def require(*roles: str) -> Callable[[Endpoint], Callable[[Request], Awaitable[Response]]]:
    """For accounts with one of these roles; without any, for everybody who is signed in.

    Others are sent to sign in (pages) or told 401 (``/api/``); 403 when the role is not theirs. Endpoints that are not
    coroutines run in a thread.
    """

    def decorate(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            account = signed_in(request)
            if account is None:
                return to_sign_in(request)
            if roles and not account.roles.intersection(roles):
                raise RequestError(
                    "this is not for your account", request.scope["path"], "sign in with another account", 403
                )
            if inspect.iscoroutinefunction(endpoint):
                return await endpoint(request)  # type: ignore[no-any-return]
            return await run_in_threadpool(endpoint, request)  # type: ignore[arg-type]

        guarded.__dict__[_GUARDED] = roles
        return guarded

    return decorate


def public(endpoint: Endpoint) -> Endpoint:
    """For everybody, signed in or not: said, so that a missing `require` cannot be taken for it."""
    endpoint.__dict__[_GUARDED] = None
    return endpoint


def unguarded(routes: Sequence[BaseRoute]) -> list[str]:
    """Addresses whose endpoint has neither `require` nor `public`."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += [route.path + path for path in (unguarded(route.routes) if route.routes else [""])]
        elif not isinstance(route, Route) or _GUARDED not in getattr(route.endpoint, "__dict__", {}):
            found.append(getattr(route, "path", str(route)))
    return found


def to_sign_in(request: Request) -> Response:
    """To the page of sign-in and back; for programs, 401."""
    path = request.scope["path"]
    if "/api/" in path:
        raise RequestError("you are signed out", "", "sign in", 401)
    if request.method not in SAFE:
        return RedirectResponse(f"{SIGN_IN}?note=expired", 303)
    query = request.scope["query_string"].decode("latin-1")
    target = quote(path, safe="/") + (f"?{query}" if query else "")
    there = f"?next={quote(target, safe='/')}" if safe_next(target) == target and target != "/" else ""
    return RedirectResponse(SIGN_IN + there, 303)


def safe_next(text: str, otherwise: str = "/") -> str:
    """Where to go after sign-in: a page of ours, or ``otherwise``.

    A path that begins with one slash, of printable ASCII without backslashes: no scheme, no host, no user, no line end,
    nothing that a browser would take for any of them. Not the sign-in itself, no address for programs.
    """
    if not 0 < len(text) <= WEB_BOUNDS.next_chars or not text.startswith("/") or text.startswith("//"):
        return otherwise
    if any(not "!" <= letter <= "~" or letter in '\\"<>' for letter in text):
        return otherwise
    path = text.partition("?")[0].partition("#")[0]
    if path in {SIGN_IN, "/sign-out"} or "/api/" in path:
        return otherwise
    return text


def cookies_of(request: Request, name: str) -> str | None:
    """The value of a cookie; None when it is absent, or there twice, which only somebody else's would be."""
    found = []
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            key, _, value = part.partition("=")
            if key.strip() == name:
                found.append(value.strip())
    return found[0] if len(found) == 1 else None


def refuse_other_sites(request: Request) -> None:
    """RequestError (403) when the browser says that another site made it ask.

    Sec-Fetch-Site (W3C Fetch Metadata) decides where it is sent, which is wherever the connection is TLS or loopback.
    Otherwise Origin; "null", which browsers send for forms under ``no-referrer``, proves nothing and is refused there.
    A program that sends neither is left to the CSRF token.
    """
    site = request.headers.get("sec-fetch-site")
    safe = request.method in SAFE
    if site is not None:
        ours = site == "same-origin" or (site == "none" and safe)
        followed = safe and request.headers.get("sec-fetch-mode") == "navigate"  # somebody's link to us
        refused = not ours and not followed
    else:
        origin = request.headers.get("origin")
        refused = not safe and origin is not None and origin != _origin(request)
    if refused:
        raise RequestError("another site made your browser ask for this", "", "open this site by itself", 403)


def _origin(request: Request) -> str:
    site: Site = request.app.state.site
    return f"{'https' if site.tls else 'http'}://{request.headers.get('host', '')}"


def form_of(body: bytes) -> dict[str, str]:
    """Fields of a URL-encoded form; RequestError when it has too many, or one twice."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8", errors="replace"),
            keep_blank_values=True,
            max_num_fields=WEB_BOUNDS.form_fields,
            errors="replace",
        )
    except ValueError as error:
        raise RequestError("a form with too many fields", "", "send the form of the page") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise RequestError("a form with a field twice", "", "send the form of the page")
    return fields


async def admit(request: Request, body: bytes) -> Visit:
    """Find who asks, and refuse what no page of ours sent: RequestError 403, or 401 when nobody is signed in."""
    site: Site = request.app.state.site
    refuse_other_sites(request)
    device = cookies_of(request, site.cookie("device"))
    if device is not None and not is_token(device):
        device = None
    token = cookies_of(request, site.cookie("session"))
    session = None
    if token is not None and is_token(token):
        session = await run_in_threadpool(request.app.state.sessions.find, token, site.clock())
    before = cookies_of(request, site.cookie("visit"))
    if before is None or not is_token(before):
        before = ""
    visit = Visit(session, session.token if session else before, device)
    request.scope["scanward.visit"] = visit
    if request.method not in SAFE:
        _refuse_forged(request, body, visit, before)
    return visit


def _refuse_forged(request: Request, body: bytes, visit: Visit, before: str) -> None:
    tokens = {visit.token}
    if request.scope["path"] == SIGN_IN:
        # Who follows a link from elsewhere comes without his session's cookie (SameSite) and gets the form with a
        # visit's token; what he then sends has both cookies.
        tokens.add(before)
    elif visit.session is None:
        raise RequestError("you are signed out", "", "sign in", 401)
    given = request.headers.get(HEADER, "")
    if not given and request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        given = form_of(body).get(FIELD, "")
    if not given or not any(same_csrf(given, token) for token in tokens if token):
        raise RequestError(
            "this page is out of date, or not ours", "", "load the page again, then repeat what you did", 403
        )
