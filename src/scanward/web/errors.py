"""What a browser is told when something is refused: our own pages, and for ``/api/`` the house's JSON. Nothing inside.

An `InputError` (or a `RequestError`, with its own status) that an endpoint raises is shown as it is: raise it for what
the browser sent, never for a file of the server. Everything else is logged, and the browser learns that it failed.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scanward.errors import InputError, RequestError, ScanwardError
from scanward.web.frame import render

_log = logging.getLogger("scanward.web")

# What is said of a status that the framework raises; its own words are not shown.
_SAID: Final = {
    400: ("the request cannot be understood", "go back and try again"),
    401: ("you are signed out", "sign in"),
    403: ("this is not for your account", "sign in with another account, or ask who runs this site"),
    404: ("there is nothing here", "check the address"),
    405: ("this address is used differently", "go back and try again"),
    408: ("the request took too long to arrive", "check the connection and try again"),
    413: ("the request is too large", "send less"),
    422: ("what was sent cannot be used", "check it and try again"),
    429: ("too many attempts", "wait and try again"),
    500: ("this failed here, not at your end", "try again later, or ask who runs this site"),
    503: ("too much is going on", "try again in a few seconds"),
}


def said(status: int, where: str = "") -> RequestError:
    """The error of a status in our own words."""
    what, todo = _SAID.get(status, _SAID[400] if status < 500 else _SAID[500])
    return RequestError(what, where, todo, status)


def is_api(path: str) -> bool:
    """Whether an address answers programs: JSON there, pages elsewhere."""
    return "/api/" in path


def respond(
    request: Request, error: ScanwardError, status: int, headers: dict[str, str] | None = None
) -> Response:
    """The error as a page or as JSON."""
    if is_api(request.scope["path"]):
        return JSONResponse(error.as_json(), status, headers)
    title = HTTPStatus(status).phrase
    page = render(request, "error.html", status, error=error, status_code=status, title=title)
    page.headers.update(headers or {})
    return page


async def on_request_error(request: Request, error: Exception) -> Response:
    """For `RequestError` and `InputError`."""
    assert isinstance(error, InputError)
    return respond(request, error, error.status if isinstance(error, RequestError) else 422)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """For what Starlette raises: an unknown address, a wrong method."""
    assert isinstance(error, HTTPException)
    kept = {
        name: value
        for name, value in (error.headers or {}).items()
        if name.lower() in {"allow", "retry-after"}
    }
    return respond(request, said(error.status_code), error.status_code, kept)


async def on_house_error(request: Request, error: Exception) -> Response:
    """For our other errors: the log has the reason, the browser has not."""
    _log.error("%s %r: %s", request.method, request.scope["path"], error)
    return respond(request, said(500), 500)


async def on_any(request: Request, error: Exception) -> Response:
    """For whatever else; the server logs it with its trace."""
    return respond(request, said(500), 500)
