"""The outermost layer of a site: the host's name, the size and pace of a request, the headers of every answer."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scanward.config import WEB_BOUNDS
from scanward.errors import RequestError
from scanward.web import guards
from scanward.web.errors import is_api, respond, said

if TYPE_CHECKING:
    from scanward.web.site import Site

# Scripts and styles from this server's own files alone: none inside a page, none from elsewhere, no eval.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": (
        "accelerometer=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(), gyroscope=(),"
        " magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()"
    ),
    "x-robots-tag": "noindex, nofollow",
}
HSTS: Final = "max-age=31536000"


_log = logging.getLogger("scanward.web")

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


def host_of(request: Request) -> str:
    """The host that is asked for, without its port, in small letters; "" when it is named twice, or not at all."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1:
        return ""
    name, _, port = hosts[0].rpartition(":")
    return (name if name and port.isdecimal() else hosts[0]).lower()


class Front:
    """ASGI middleware around everything, the handler of last errors included, so that no answer lacks its headers."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        self._hosts = frozenset(name.lower() for name in site.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request = Request(scope)
        host = host_of(request)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(scope=message), host)
            await send(message)

        try:
            self._refuse_other_hosts(request)
            body = await _whole_body(request, receive)
            if body is None:  # gone before it had asked
                return
            await guards.admit(request, body)
        except RequestError as error:
            await self._refusal(request, error)(scope, receive, dressed)
            return
        except sqlite3.Error:  # the file of accounts is locked, or its disk is full
            _log.exception("sessions cannot be read")
            await self._refusal(request, said(503))(scope, receive, dressed)
            return

        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, dressed)

    def _refuse_other_hosts(self, request: Request) -> None:
        """RequestError unless the one Host header names us: a name that an attacker points here is not ours."""
        if host_of(request) not in self._hosts:
            raise RequestError("this site has another name", "", "use the address that you were given")

    def _refusal(self, request: Request, error: RequestError) -> Response:
        if error.status == 401 and not is_api(request.scope["path"]):
            return RedirectResponse(f"{guards.SIGN_IN}?note=expired", 303)
        # What is left of the request is not read: the connection ends with the answer.
        close = {"connection": "close"} if error.status in {400, 408, 413} else None
        return respond(request, error, error.status, close)

    def _dress(self, headers: MutableHeaders, host: str) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("cache-control", "no-store")
        if self._site.tls and host not in LOOPBACK:  # a browser would refuse plain HTTP on every port of it
            headers["strict-transport-security"] = HSTS


async def _whole_body(request: Request, receive: Receive) -> bytes | None:
    """The body, before anything looks at it; RequestError 413 when it is too large, 408 when it is too slow."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > 15 or int(told) > WEB_BOUNDS.body_bytes):
        raise said(413)
    body = bytearray()
    try:
        async with asyncio.timeout(WEB_BOUNDS.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > WEB_BOUNDS.body_bytes:
                    raise said(413)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise said(408) from error
