"""The addresses of a study under /study: thin. What is done is `answering`, who may is `scanward.web`.

Every answer about a case has the same headers whatever the picture is: no entity tag, no time of a file, no compression
(a compressed size would tell how smooth a picture is).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from scanward.errors import InputError, RequestError, ScanwardError
from scanward.reading.answering import Desk
from scanward.reading.overview import overview
from scanward.web.accounts import Account
from scanward.web.frame import render
from scanward.web.guards import account_of, require

READER = "reader"
LEAD = "lead"
UNSTORED = {"cache-control": "private, no-store"}

_log = logging.getLogger("scanward.reading")
_Result = TypeVar("_Result")


async def _done(function: Callable[..., _Result], *values: Any) -> _Result:
    """Run in a thread. What the disk refuses is 503: the page keeps its answer and tries again."""
    try:
        return await run_in_threadpool(function, *values)
    except InputError:
        raise
    except ScanwardError as error:
        _log.error("%s", error)
        raise RequestError(
            "the server cannot do this now", "", "keep the page open: it tries again by itself", status=503
        ) from error


def _reader(account: Account, desk: Desk) -> str:
    """The reader of this study that an account is."""
    if READER not in account.roles or account.name not in desk.study.readers:
        raise RequestError(
            "you are no reader of this study", account.name, "ask the study's lead", status=403
        )
    return account.name


def routes(desk: Desk) -> list[Route]:
    """Every address of the study."""

    def asking(function: Callable[..., dict[str, Any]], *names: str) -> Callable[[Request], Any]:
        """GET of something of one's own."""

        @require(READER)
        async def endpoint(request: Request) -> Response:
            values = [request.path_params[name] for name in names]
            told = await _done(function, _reader(account_of(request), desk), *values)
            return JSONResponse(told, headers=UNSTORED)

        return endpoint

    def sending(function: Callable[..., dict[str, Any]], *names: str) -> Callable[[Request], Any]:
        """PUT or POST of something of one's own."""

        @require(READER)
        async def endpoint(request: Request) -> Response:
            reader = _reader(account_of(request), desk)
            values = [request.path_params[name] for name in names]
            told = await _done(function, reader, *values, await request.body())
            return JSONResponse(told, headers=UNSTORED)

        return endpoint

    @require(READER)
    async def picture(request: Request) -> Response:
        reader = _reader(account_of(request), desk)
        data = await _done(desk.picture, reader, request.path_params["token"])
        return Response(data, media_type="application/octet-stream", headers=UNSTORED)

    @require(READER)
    async def read_page(request: Request) -> Response:
        state = await _done(desk.state, _reader(account_of(request), desk))
        return render(request, "read.html", state=state)

    @require(READER, LEAD)
    async def to_home(_: Request) -> Response:
        return RedirectResponse("/study/", 303)

    @require(READER, LEAD)
    async def home_page(request: Request) -> Response:
        account = account_of(request)
        design = desk.study.protocol.design
        study = {"title": design.title, "sha256": desk.study.sha256, "simulated": design.simulated}
        state, sessions = None, []
        if READER in account.roles:
            reader = _reader(account, desk)
            state = await _done(desk.state, reader)
            sessions = await _done(desk.sessions, reader)
        return render(
            request, "home.html", study=study, state=state, sessions=sessions, lead=LEAD in account.roles
        )

    def look() -> dict[str, Any]:
        return overview(desk.study, desk.store, desk.clock(), washout=desk.washout)

    @require(LEAD)
    async def lead_page(request: Request) -> Response:
        return render(request, "lead.html", overview=await _done(look))

    @require(LEAD)
    async def lead_overview(request: Request) -> Response:
        return JSONResponse(await _done(look), headers=UNSTORED)

    return [
        Route("/study", to_home, methods=["GET"]),
        Route("/study/", home_page, methods=["GET"]),
        Route("/study/read", read_page, methods=["GET"]),
        Route("/study/api/state", asking(desk.state), methods=["GET"]),
        Route("/study/api/pictures/{token}", picture, methods=["GET"]),
        Route("/study/api/cases/{token}", asking(desk.case, "token"), methods=["GET"]),
        Route("/study/api/drafts/{token}", sending(desk.put_draft, "token"), methods=["PUT"]),
        Route("/study/api/answers/{identifier}", sending(desk.put_answer, "identifier"), methods=["PUT"]),
        Route("/study/api/pause", sending(desk.pause), methods=["POST"]),
        Route("/study/lead", lead_page, methods=["GET"]),
        Route("/study/lead/api/overview", lead_overview, methods=["GET"]),
    ]
