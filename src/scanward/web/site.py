"""A site: its accounts, templates, files and routes, put together behind one front.

::

    site = Site("study", accounts, templates=[folder], static={"/study/static": folder}, routes=[...], home="/study/")
    serve(build(site), "127.0.0.1", 8000)
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from scanward.config import OIDC_BOUNDS, WEB_BOUNDS
from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.web import errors, frame, signing
from scanward.web.accounts import Accounts
from scanward.web.front import LOOPBACK, Front
from scanward.web.guards import safe_next, unguarded
from scanward.web.sessions import Sessions

if TYPE_CHECKING:
    from scanward.web.oidc import SingleSignOn

# What is served of a static folder, and as what: nothing else, and never as a browser guesses.
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class Link:
    """A link in the head of every page, for accounts with ``role``: "" for all, several with spaces for any of them."""

    label: str
    address: str
    role: str = ""


@dataclass(frozen=True)
class Site:
    """Everything that makes a site.

    Attributes
    ----------
    name : str
        Names the site's cookies, so that two sites on one host do not sign each other out.
    accounts : Accounts
    templates : sequence of Path
        Folders of templates; those of ``web`` come first.
    static : mapping of str to Path
        Folders of files by the address they are served at. **Public**: nobody is asked to sign in for them.
    routes : sequence of routes
        Endpoints, each under a `guards.require`.
    title, notice : str
        Shown on every page; ``title`` is ``name`` where it is empty.
    home : str
        Where sign-in leads.
    navigation : sequence of Link
    hosts : sequence of str
        Names this site is called by, without port, IPv6 in brackets. A request for any other is refused, so that no
        name of an attacker's leads here (DNS rebinding).
    idle_seconds, absolute_seconds : float
        s after which a session ends: without a request, and at the latest.
    tls : bool
        Whether *browsers* reach it by https, here or at a proxy: Secure cookies named ``__Host-``, HSTS.
    clock : callable
        s since 1970.
    lifespan : callable, optional
        Starlette's: an asynchronous context around the time of serving.
    single_sign_on : SingleSignOn, optional
        A provider of OpenID Connect whose users may sign in beside those with a password.
    """

    name: str
    accounts: Accounts
    templates: Sequence[Path] = ()
    static: Mapping[str, Path] = field(default_factory=dict)
    routes: Sequence[BaseRoute] = ()
    title: str = ""
    notice: str = "For research only. Not a medical device."
    home: str = "/"
    navigation: Sequence[Link] = ()
    hosts: Sequence[str] = LOOPBACK
    idle_seconds: float = WEB_BOUNDS.idle_seconds
    absolute_seconds: float = WEB_BOUNDS.absolute_seconds
    tls: bool = False
    clock: Callable[[], float] = time.time
    lifespan: Callable[[Any], Any] | None = None
    single_sign_on: SingleSignOn | None = None

    def __post_init__(self) -> None:
        if not re.search("[a-z0-9]", self.name.lower()):
            raise SettingsError("a site without a name", repr(self.name), "give it letters or digits")
        if safe_next(self.home, "") != self.home:
            raise SettingsError("no address of a page", self.home[:80], "begin with one slash")
        if not self.idle_seconds > 0 or not self.absolute_seconds > 0:
            raise SettingsError("a session without any time", self.name, "give positive seconds")

    def cookie(self, kind: str) -> str:
        """The name of a cookie: session, visit or device. ``__Host-``: set by this host alone, over TLS."""
        slug = re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{'__Host-' if self.tls else ''}scanward-{slug}-{kind}"

    def set_cookie(self, response: Response, kind: str, value: str, seconds: int | None = None) -> None:
        """Out of reach of scripts, never sent along from other sites; until the browser closes, or for ``seconds``."""
        response.set_cookie(
            self.cookie(kind),
            value,
            max_age=seconds,
            path="/",
            secure=self.tls,
            httponly=True,
            samesite="strict",
        )

    def clear_cookie(self, response: Response, kind: str) -> None:
        """Have the browser forget a cookie."""
        response.delete_cookie(self.cookie(kind), path="/", secure=self.tls, httponly=True, samesite="strict")


class Files(StaticFiles):
    """A folder of files: no links out of it, no hidden ones, no type that is not in `TYPES`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, to be asked for again each time (its ETag spares sending it), or 404."""
        kind = TYPES.get(Path(path).suffix)
        if kind is None or any(part.startswith(".") for part in Path(path).parts if part != "."):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        if "content-type" in response.headers:
            response.headers["content-type"] = kind
        response.headers["cache-control"] = "no-cache"
        return response


class _Pages(Starlette):
    """Starlette puts its handler of last errors around all middleware; the front has to be around that too."""

    def build_middleware_stack(self) -> ASGIApp:
        return Front(super().build_middleware_stack(), self.state.site)


def build(site: Site) -> Starlette:
    """The application of a site, for `serving.serve` or Starlette's TestClient.

    SettingsError when a folder is not there, or an endpoint has no guard. The accounts stay the caller's to close.
    """
    if open_to_all := unguarded(site.routes):
        raise SettingsError(
            "an endpoint without a guard",
            ", ".join(open_to_all),
            "decorate it with require(...), or with public",
        )
    folders = {**site.static, "/static/web": frame.STATIC}
    for folder in (*site.templates, *folders.values()):
        if not folder.is_dir():
            raise SettingsError("no such folder", str(folder), "check the path")
    mounts = [Mount(address, Files(directory=folder)) for address, folder in folders.items()]
    routes: list[BaseRoute] = [*signing.ROUTES, *mounts, *site.routes]
    if site.single_sign_on is not None:
        from scanward.web import oidc_pages  # loads its library where it is asked for alone

        routes += oidc_pages.ROUTES
    if site.home != "/":
        routes.append(Route("/", _to_home, methods=["GET"]))
    app = _Pages(
        routes=routes,
        exception_handlers={
            InputError: errors.on_request_error,
            ScanwardError: errors.on_house_error,
            HTTPException: errors.on_http_exception,
            Exception: errors.on_any,
        },
        lifespan=site.lifespan,
    )
    app.router.redirect_slashes = False  # its redirects carry a host
    app.state.site = site
    app.state.sessions = Sessions(site.accounts, site.idle_seconds, site.absolute_seconds)
    app.state.templates = frame.environment(site.templates)
    app.state.asking = asyncio.Semaphore(OIDC_BOUNDS.asking)
    app.state.hashing = ThreadPoolExecutor(WEB_BOUNDS.hashes_at_once, "hashing")
    return app


async def _to_home(request: Request) -> Response:
    site: Site = request.app.state.site
    return RedirectResponse(site.home, 303)
