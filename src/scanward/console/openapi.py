"""The console's addresses for programs, described by OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0).

``GET /api/openapi.json``, for everybody who is signed in. Kept by hand beside the routes; tests hold it against them
and let schemathesis send what it describes, and what it does not.

A program signs in as a browser does: the form of ``/sign-in``, the session's cookie, and for everything but GET the
token of ``GET /api/session`` in the header ``X-CSRF-Token``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanward import __version__
from scanward.commands import Mode
from scanward.config import CONSOLE_BOUNDS
from scanward.console.shared import ROLES
from scanward.guard.operators import ActKind
from scanward.web.guards import require
from scanward.web.site import Link

LINKS: Sequence[Link] = ()
Json = dict[str, Any]

TEXT: Final[Json] = {"type": "string"}
WHEN: Final[Json] = {"type": "number", "description": "seconds since 1970, by the console's clock"}
WHOLE: Final[Json] = {"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1}
NAMES: Final[Json] = {"type": "array", "items": TEXT}

_WHY: Final = {
    400: "not a request",
    401: "nobody is signed in",
    403: "not this account's, from another site, or without the CSRF token",
    404: "no such scanner",
    405: "another method",
    409: "the ticket is used, too old or somebody else's; or the guard shows what it does not hold",
    413: "too long",
    422: "not what is asked for",
    429: "too many in a minute",
    503: "the guard does not answer, or too many ask",
}


def _object(properties: Mapping[str, Json], *optional: str, more: bool = False) -> Json:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": more,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


ERROR: Final = _object({"error": TEXT, "what": TEXT, "where": TEXT, "todo": TEXT}, more=True)
ACCOUNT: Final[Json] = {"account": TEXT, "roles": NAMES}
SCANNER: Final = _object(
    {
        "id": TEXT,
        "name": TEXT,
        "link": TEXT,
        "link_reason": TEXT,
        "since": WHEN,
        "local": {"type": "boolean"},
        "policy_digest": TEXT,
        "emergency_without_key": {"type": "boolean"},
        "held": _or_null({"type": "object"}),
        "examination": _or_null({"type": "object"}),
        "events": _list({"type": "object"}),
    },
    more=True,  # and the guard's own state: docs/control.md
)
PLACE: Final = _object(
    {
        "element": {"type": "integer"},
        "field": TEXT,
        "names": _list(TEXT),
        "shares": _list({"type": "number", "minimum": 0, "maximum": 1}),
        "at": {"type": "integer"},
    }
)
ACT: Final = _object(
    {
        "act": {"type": "string", "enum": [kind.value for kind in ActKind]},
        "operator": {"type": "string", "maxLength": 64},
        "request": WHOLE,
        "shown": {"type": "string", "description": "digest of the commands that were shown"},
        "reason": TEXT,
        "minutes": WHOLE,
        "mode": {"type": "string", "enum": ["", *(mode.value for mode in Mode)]},
    },
    "operator", "request", "shown", "reason", "minutes", "mode",
)  # fmt: skip
ALERTS: Final = _object(
    {"disk": {}, "routes": _list({"type": "object"}), "alerts": _list({"type": "object"})}
)


def _answers(ok: int, schema: Json, *problems: int, kind: str = "application/json") -> Json:
    answers: Json = {str(ok): {"description": "done", "content": {kind: {"schema": schema}}}}
    for status in sorted({400, 401, 403, *problems}):
        answers[str(status)] = {
            "description": _WHY[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return answers


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_SCANNER: Final[Json] = {"name": "id", "in": "path", "required": True, "schema": TEXT}
_REQUEST: Final[Json] = {
    "name": "request",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]{1,16}$"},
    "description": "number of the hold",
}
_CSRF: Final[Json] = {"name": "X-CSRF-Token", "in": "header", "required": True, "schema": TEXT}

PATHS: Final[Json] = {
    "/api/session": {
        "get": {
            "summary": "Who is signed in, and the CSRF token that everything but GET needs.",
            "responses": _answers(
                200, _object({**ACCOUNT, "csrf_token": TEXT, "expires_in": {"type": "number"}})
            ),
        }
    },
    "/api/state": {
        "get": {
            "summary": "All scanners as they are now (operator, physicist).",
            "responses": _answers(200, _object({"now": WHEN, **ACCOUNT, "scanners": _list(SCANNER)})),
        }
    },
    "/api/events": {
        "get": {
            "summary": "The same as it changes: server-sent events scanner, clock, end (operator, physicist).",
            "responses": _answers(200, TEXT, 503, kind="text/event-stream"),
        }
    },
    "/api/operator": {
        "get": {
            "summary": "In whose name acts of this account are (operator).",
            "responses": _answers(200, _object({"operator": TEXT})),
        },
        "post": {
            "summary": 'Another one; "" for the account\'s own name (operator).',
            "parameters": [_CSRF],
            "requestBody": _body(
                _object({"operator": {"type": "string", "pattern": r"^[^\x00-\x1f\x7f]{0,64}$"}})
            ),
            "responses": _answers(200, _object({"operator": TEXT}), 413, 422),
        },
    },
    "/api/scanners/{id}/places": {
        "get": {
            "summary": "Where values objected to lie among what was learned (operator, physicist).",
            "parameters": [_SCANNER, _REQUEST],
            "responses": _answers(200, _object({"places": _list(PLACE)}), 404, 422),
        }
    },
    "/api/scanners/{id}/tickets": {
        "post": {
            "summary": f"A connection to the guard for one act, for {CONSOLE_BOUNDS.ticket_seconds:g} s (operator).",
            "parameters": [_SCANNER, _CSRF],
            "requestBody": _body({"type": "object", "maxProperties": 0}),
            "responses": _answers(
                201,
                _object(
                    {
                        "ticket": TEXT, "nonce": TEXT, "policy": TEXT, "local": {"type": "boolean"},
                        "expires": WHEN,
                    }
                ),
                404, 413, 422, 429, 503,
            ),
        }
    },
    "/api/scanners/{id}/acts": {
        "post": {
            "summary": "An act that an operator's key signed, to the guard; the guard decides (operator).",
            "parameters": [_SCANNER, _CSRF],
            "requestBody": _body(
                _object(
                    {"ticket": TEXT, "act": ACT, "signature": {"type": "string", "pattern": "^[0-9a-f]{128}$"}}
                )
            ),
            "responses": _answers(
                200, _object({"done": {"type": "boolean"}, "reason": TEXT}), 404, 409, 413, 422, 503
            ),
        }
    },
    "/api/alerts": {
        "get": {
            "summary": "The newest alerts with their deliveries, and how each route stands.",
            "responses": _answers(200, ALERTS),
        }
    },
    "/api/openapi.json": {
        "get": {"summary": "This description.", "responses": _answers(200, {"type": "object"})}
    },
}  # fmt: skip


def description(cookie: str) -> Json:
    """The whole document; ``cookie``: the name of the one that a session has."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Scanward console",
            "version": __version__,
            "description": "Research only: not a medical device. RELEASE means that you let a command pass, never "
            "that it is safe. See docs/console.md and docs/control.md.",
        },
        "paths": PATHS,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
        "security": [{"session": []}],
    }


@require(*ROLES)
async def document(request: Request) -> Response:
    """GET /api/openapi.json."""
    return JSONResponse(description(request.app.state.site.cookie("session")))


ROUTES: Sequence[Route] = (Route("/api/openapi.json", document, methods=["GET"]),)
