"""``GET /api/events``: all scanners as server-sent events, a stream for each page. ``GET /api/state``: the same, once.

=========  ========================================================================================================
event      data
=========  ========================================================================================================
scanner    a scanner's whole state (`state.ScannerState.as_json`): at first of each, then of those that changed
clock      ``{"now": s since 1970}`` every two seconds; a page that hears none for five says so
end        ``{"why": text}``: the console ends the stream; "signed out" asks for signing in, not for another try
=========  ========================================================================================================

Watching does not keep a sign-in alive: a page asks ``GET /api/session`` when somebody does something.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scanward.config import CONSOLE_BOUNDS
from scanward.console.hub import Reader
from scanward.console.shared import OPERATOR, PHYSICIST, Console, console_of
from scanward.errors import RequestError
from scanward.web.accounts import Account
from scanward.web.guards import account_of, require, visit_of
from scanward.web.sessions import Session, Sessions
from scanward.web.site import Link

LINKS: Sequence[Link] = ()


@require(OPERATOR, PHYSICIST)
async def state(request: Request) -> Response:
    """GET /api/state: who is signed in, the console's clock and all scanners."""
    console, account = console_of(request), account_of(request)
    labels = sees_names(account)
    return JSONResponse(
        {
            "now": console.clock(),
            "account": account.name,
            "roles": sorted(account.roles),
            "scanners": [scanner.as_json(labels=labels) for scanner in console.scanners.values()],
        }
    )


@require(OPERATOR, PHYSICIST)
async def events(request: Request) -> Response:
    """GET /api/events: the stream."""
    console = console_of(request)
    session = visit_of(request).session
    assert session is not None
    if request.method == "HEAD":  # what has no end would never answer it
        return Response(media_type=_Stream.media_type)
    open_now = _open(console)
    if len(open_now) >= CONSOLE_BOUNDS.streams:
        raise RequestError("too many pages are watching", "", "close some", 503)
    of_session = sum(one.token == session.token for one in open_now)
    of_account = sum(one.account.identifier == session.account.identifier for one in open_now)
    if of_session >= CONSOLE_BOUNDS.streams_each or of_account >= CONSOLE_BOUNDS.streams_account:
        raise RequestError("too many pages of yours are watching", "", "close some", 503)
    return _Stream(console, session, request.app.state.sessions)


def _open(console: Console) -> list[Session]:
    """The session of each stream that is open."""
    found: list[Session] = console.kept.setdefault(__name__, [])
    return found


def sees_names(account: Account) -> bool:
    """Whether somebody is shown whose examination it is: who has to match the person on the table."""
    return OPERATOR in account.roles


class _Stream(Response):
    """An answer without an end. Who does not take a message in time is cut off."""

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(self, console: Console, session: Session, sessions: Sessions) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._console, self._session, self._sessions = console, session, sessions
        self._labels = sees_names(session.account)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        open_now = _open(self._console)
        open_now.append(self._session)
        try:
            with self._console.hub.reading(labels=self._labels) as reader:
                gone = asyncio.create_task(_gone(receive, reader))
                try:
                    await self._run(reader, send)
                finally:
                    gone.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await gone
        finally:
            open_now.remove(self._session)

    async def _run(self, reader: Reader, send: Send) -> None:
        loop, hub = asyncio.get_running_loop(), self._console.hub

        async def say(text: str, *, more: bool = True) -> None:
            async with asyncio.timeout(CONSOLE_BOUNDS.stream_send):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await say(f"retry: {round(1000 * CONSOLE_BOUNDS.stream_clock)}\n\n")
            told = checked = loop.time()
            while not reader.ended:
                if await reader.wait(CONSOLE_BOUNDS.stream_clock / 2):
                    await asyncio.sleep(0)  # what else happens in this turn of the loop comes along
                    for scanner in reader.take():
                        await say(_event("scanner", hub.encoded(scanner, labels=reader.labels)))
                    await asyncio.sleep(CONSOLE_BOUNDS.stream_gap)
                now = loop.time()
                if now - told >= CONSOLE_BOUNDS.stream_clock:
                    told = now
                    await say(_event("clock", json.dumps({"now": self._console.clock()})))
                if now - checked >= CONSOLE_BOUNDS.stream_check:
                    checked = now
                    if not await run_in_threadpool(self._lives):
                        reader.end("signed out")
            if reader.ended != _LEFT:
                await say(_event("end", json.dumps({"why": reader.ended})), more=False)
        except TimeoutError:
            return  # it does not read: the server drops the connection

    def _lives(self) -> bool:
        """Whether the session is still there: it ends with other roles, a new password, signing out."""
        return self._sessions.find(self._session.token, self._console.clock(), keep=False) is not None


_LEFT: Final = "left"


async def _gone(receive: Receive, reader: Reader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.end(_LEFT)


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {data}\n\n"


ROUTES: Sequence[Route] = (
    Route("/api/state", state, methods=["GET"]),
    Route("/api/events", events, methods=["GET"]),
)
