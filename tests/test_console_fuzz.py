"""Anything at all at every address of the console: an answer in the house's shape, never a failure of the server."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from _console import Browser, Desk
from scanward.console.shared import ROLES
from scanward.web.signing import ROUTES as SIGNING
from test_guard_control import running

ENDLESS = {"/api/events"}
WORDS = st.sampled_from(
    [
        "ct1", "anna", "release", "act", "operator", "ticket", "signature", "0" * 128, "../../etc/passwd",
        "<script>alert(1)</script>", "' OR 1=1 --", "\x00", "\ud800", "１２３", "9" * 400, "-1", "1e999", "2026-13-45",
    ]
)  # fmt: skip
TEXT = WORDS | st.text(max_size=30)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "ticket",
        "act",
        "signature",
        "operator",
        "request",
        "shown",
        "reason",
        "minutes",
        "mode",
        "name",
        "action",
        "role-operator",
        "scanner",
        "field",
        "verdict",
        "layer",
        "from",
        "to",
        "after",
        "before",
        "text",
        "days",
        "kind",
        "key",
        "examination",
        "outcome",
        "protocol",
        "at",
        "number",
    ]
)
BODY = (
    st.binary(max_size=60)
    | st.dictionaries(KEYS | TEXT, VALUE, max_size=6).map(lambda d: json.dumps(d).encode())
    | st.dictionaries(KEYS, TEXT, max_size=6).map(
        lambda d: "&".join(f"{k}={quote(v, errors='replace')}" for k, v in d.items()).encode()
    )
)
TYPES = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
QUERY = st.dictionaries(KEYS, TEXT, max_size=5).map(
    lambda d: "&".join(f"{k}={quote(v, errors='replace')}" for k, v in d.items())
)


@pytest.fixture(scope="module")
def everything() -> Iterator[tuple[Desk, Browser]]:
    """A console over a guard, and somebody with all roles."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "c") as guard, Desk(folder, {"ct1": guard.path}) as desk:
            yield desk, desk.browser("anna", *ROLES)


def places(desk: Desk) -> list[tuple[str, str]]:
    """(method, address) of the console's own."""
    ours = {route.path for route in SIGNING}
    return [
        (method, route.path)
        for route in desk.app.routes
        if isinstance(route, Route) and route.path not in ours | ENDLESS
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


@given(st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_anything_at_any_address_is_answered(everything: tuple[Desk, Browser], data: st.DataObject) -> None:
    desk, anna = everything
    method, path = data.draw(st.sampled_from(places(desk)))
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        whole = name.endswith(":int")
        filled = (
            str(data.draw(st.integers(0, 10**30))) if whole else quote(data.draw(TEXT), "", errors="replace")
        )
        path = before + (filled or "x") + after
    query = data.draw(QUERY)
    headers = dict(anna.headers)
    if kind := data.draw(TYPES):
        headers["content-type"] = kind
    body: Any = data.draw(BODY) if method != "GET" else b""
    answer = anna.client.request(
        method, f"{path}?{query}", content=body, headers=headers
    )  # a bug of ours raises
    assert answer.status_code < 500 or answer.status_code == 503, (method, path, query, body)
    text = answer.text
    assert "Traceback" not in text
    assert "<script>alert(1)" not in text
    if answer.status_code >= 400 and "/api/" in path:
        assert set(answer.json()) == {"error", "what", "where", "todo"}
