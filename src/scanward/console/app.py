"""The console put together: its parts' routes, links and what they do while it is served.

A part is a module of this room with

* ``ROUTES``: routes, each endpoint under `web.guards.require` with roles of `shared`;
* ``LINKS``: entries of the navigation, ``Link(label, address, "operator physicist")``;
* optionally ``running``: an asynchronous context manager that takes the `Console` and lasts as long as it is served.
  What it must keep stands in ``console.kept[__name__]``.

Its templates lie in ``templates/`` and extend ``console.html``, its files in ``static/`` (public, at
``/console/static``). An endpoint finds the console by `shared.console_of`. To add a part, add it to `PARTS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from scanward.console import acts, audit_page, device, history, link, now, openapi, people, stream
from scanward.console.alerting import page as alerts
from scanward.console.alerting import service as alerting
from scanward.console.hub import Hub
from scanward.console.settings import ConsoleSettings
from scanward.console.shared import ROLES, Console
from scanward.console.state import ScannerState
from scanward.errors import RequestError
from scanward.web.accounts import Accounts
from scanward.web.front import LOOPBACK
from scanward.web.guards import account_of, require
from scanward.web.site import Link, Site, build

HERE: Final = Path(__file__).parent
TEMPLATES: Final = HERE / "templates"
STATIC: Final = HERE / "static"
HOME: Final = "/home"
SINGLE_SIGN_ON: Final = "single sign-on"
NOTICE: Final = (
    "Research only: not a medical device. RELEASE means that you let a command pass, never that it is safe."
)

# In the order of the navigation. What each does while the console is served begins in this order and ends in the other.
PARTS: Final[tuple[ModuleType, ...]] = (
    alerting,
    link,
    stream,
    acts,
    now,
    history,
    device,
    audit_page,
    people,
    alerts,
    openapi,
)


def open_console(
    settings: ConsoleSettings, accounts: Accounts, clock: Callable[[], float] | None = None
) -> Console:
    """The console's shared state; the caller closes ``accounts``. Nothing is connected before it is served.

    SettingsError for a wrong ``[[alert]]``, ``[[dose_alert]]`` or ``[oidc]``.
    """
    scanners = {one.id: ScannerState(one.id, one.name) for one in settings.scanners}
    hub = Hub(scanners)
    console = (
        Console(settings, accounts, scanners, hub, clock)
        if clock
        else Console(settings, accounts, scanners, hub)
    )
    alerting.prepare(console)
    if settings.oidc is not None:
        from scanward.console.oidc import single_sign_on  # loads its library where it is asked for alone

        console.kept[SINGLE_SIGN_ON] = single_sign_on(settings)
    return console


def build_console(console: Console, *, hosts: Sequence[str] = LOOPBACK, tls: bool = False) -> Starlette:
    """The application, for `web.serving.serve`. ``tls``: browsers reach it by https, here or at a proxy."""
    routes: list[BaseRoute] = [Route(HOME, _home, methods=["GET"])]
    links: list[Link] = []
    for part in PARTS:
        routes += part.ROUTES
        links += part.LINKS

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in PARTS:
                running: Callable[[Console], AbstractAsyncContextManager[None]] | None
                running = getattr(part, "running", None)
                if running is not None:
                    await stack.enter_async_context(running(console))
            yield

    app = build(
        Site(
            "console",
            console.accounts,
            templates=[TEMPLATES],
            static={"/console/static": STATIC},
            routes=routes,
            title="Scanward console",
            notice=NOTICE,
            home=HOME,
            navigation=links,
            hosts=hosts,
            idle_seconds=console.settings.web.idle_seconds,
            tls=tls,
            clock=console.clock,
            lifespan=lifespan,
            single_sign_on=console.kept.get(SINGLE_SIGN_ON),
        )
    )
    app.state.console = console
    return app


@require(*ROLES)
async def _home(request: Request) -> Response:
    """GET /home: to the first page that an account may see."""
    site: Site = request.app.state.site
    roles = account_of(request).roles
    for entry in site.navigation:
        if not entry.role or roles.intersection(entry.role.split()):
            return RedirectResponse(entry.address, 303)
    raise RequestError("there is no page for your account", "", "ask an administrator for a role", 403)
