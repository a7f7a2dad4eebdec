"""Guards: roles, CSRF, other sites, where sign-in leads."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from _web import accounts_in, client_of, csrf_of_page, sign_in
from scanward.config import WEB_BOUNDS
from scanward.errors import RequestError, SettingsError
from scanward.web.accounts import Accounts
from scanward.web.guards import account_of, form_of, public, require, safe_next, signed_in
from scanward.web.sessions import csrf_of, new_token
from scanward.web.site import Site, build

GOOD = "a long enough passphrase"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
UNSAFE = METHODS[1:]


@require("reader")
async def read(request: Request) -> Response:
    return JSONResponse({"done": True, "by": account_of(request).name})


@require("lead", "operator")
def lead(request: Request) -> Response:  # not a coroutine: runs in a thread
    return PlainTextResponse(f"hello {account_of(request).name}")


@require()
async def anybody(request: Request) -> Response:
    return PlainTextResponse("hello")


@public
async def open_to_all(request: Request) -> Response:
    account = signed_in(request)
    return PlainTextResponse(account.name if account else "nobody")


ROUTES = [
    Route("/api/read", read, methods=METHODS),
    Route("/read", read, methods=METHODS),
    Route("/lead", lead),
    Route("/api/lead", lead),
    Route("/anybody", anybody),
    Route("/open", open_to_all, methods=["GET", "POST"]),
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with accounts_in(tmp_path) as accounts:
        accounts.add("R01", ["reader"], GOOD)
        accounts.add("R02", ["reader"], GOOD)
        accounts.add("L01", ["lead"], GOOD)
        accounts.add("N01", [], GOOD)
        yield Site("study", accounts, routes=ROUTES)


def accounts_of(site: Site) -> Accounts:
    return site.accounts


# --- roles


@pytest.mark.parametrize(
    ("name", "read_status", "lead_status"), [("R01", 200, 403), ("L01", 403, 200), ("N01", 403, 403)]
)
def test_roles(site: Site, name: str, read_status: int, lead_status: int) -> None:
    client = client_of(build(site))
    sign_in(client, name, GOOD)
    for prefix in ("", "/api"):
        assert client.get(f"{prefix}/read").status_code == read_status
        assert client.get(f"{prefix}/lead").status_code == lead_status
    assert client.get("/anybody").status_code == 200
    assert client.get("/open").text == name
    refused = client.get("/api/lead" if lead_status == 403 else "/api/read")
    assert set(refused.json()) == {"error", "what", "where", "todo"}


def test_whoever_is_signed_out_is_sent_to_sign_in(site: Site) -> None:
    client = client_of(build(site))
    assert client.get("/open").text == "nobody"
    for path in ("/read", "/lead", "/anybody", "/account"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={path}")
    for method in METHODS:
        answer = client.request(method, "/api/read")
        assert answer.status_code == 401
        assert answer.json() == {
            "error": "RequestError",
            "what": "you are signed out",
            "where": "",
            "todo": "sign in",
        }
    assert client.post("/read").headers["location"] == "/sign-in?note=expired"


def test_roles_are_read_anew_for_every_request(site: Site) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    with accounts_of(site).database.transaction() as change:
        change.execute("UPDATE accounts SET roles = 'lead' WHERE name = 'R01'")
    assert client.get("/api/read").status_code == 403
    assert client.get("/api/lead").status_code == 200


async def bare(request: Request) -> Response:
    return PlainTextResponse("everything")


@pytest.mark.parametrize(
    "routes",
    [
        [Route("/bare", bare)],
        [*ROUTES, Route("/bare", bare)],
        [Mount("/under", routes=[Route("/read", read), Route("/bare", bare)])],
        [Mount("/files", StaticFiles(directory=Path(__file__).parent))],
    ],
)
def test_an_endpoint_without_a_guard_is_refused(site: Site, routes: list[Any]) -> None:
    with pytest.raises(SettingsError, match="without a guard"):
        build(Site("study", site.accounts, routes=routes))


def test_our_own_pages_that_change_anything_are_guarded(site: Site) -> None:
    client = client_of(build(site))
    for path in ("/sign-out", "/account/password", "/account/sign-out-everywhere"):
        assert client.post(path).headers["location"] == "/sign-in?note=expired"


# --- CSRF


@pytest.mark.parametrize("method", UNSAFE)
def test_without_the_right_token_nothing_is_done(site: Site, method: str) -> None:
    app = build(site)
    client, other = client_of(app), client_of(app, "192.0.2.8")
    right = sign_in(client, "R01", GOOD)
    others = sign_in(other, "R02", GOOD)
    visit = csrf_of_page(client_of(app).get("/sign-in").text)
    for path in ("/read", "/api/read"):
        for wrong in (
            {},
            *({"x-csrf-token": t} for t in ("", "x", others, visit, right[:-1], right.upper())),
        ):
            answer = client.request(method, path, headers=wrong)
            assert answer.status_code == 403, wrong
            assert "done" not in answer.text
        assert client.request(method, path, headers={"x-csrf-token": right}).json()["done"] is True


def test_a_token_of_an_earlier_session_is_worth_nothing(site: Site) -> None:
    client = client_of(build(site))
    old = sign_in(client, "R01", GOOD)
    client.post("/sign-out", data={"csrf_token": old})
    new = sign_in(client, "R01", GOOD)
    assert old != new
    assert client.post("/api/read", headers={"x-csrf-token": old}).status_code == 403


def test_forms_bring_it_in_a_field(site: Site) -> None:
    client = client_of(build(site))
    right = sign_in(client, "R01", GOOD)
    assert client.post("/read", data={"csrf_token": right}).status_code == 200
    assert client.post("/read", data={"csrf_token": "x"}).status_code == 403
    assert client.post("/read", data={"csrf_token": [right, right]}).status_code == 400
    assert client.post(f"/read?csrf_token={right}").status_code == 403  # addresses are written into logs
    # only a URL-encoded form: what another site can send without being asked has to be read as what it is
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
        answer = client.post("/read", content=f"csrf_token={right}", headers={"content-type": kind})
        assert answer.status_code == 403


def test_the_token_is_in_every_page_and_its_forms(site: Site) -> None:
    client = client_of(build(site))
    right = sign_in(client, "R01", GOOD)
    text = client.get("/account").text
    assert csrf_of_page(text) == right
    forms = re.findall(r"<form.*?</form>", text, re.DOTALL)
    assert len(forms) == 3
    assert all(f'name="csrf_token" value="{right}"' in form for form in forms)


def test_signing_in_needs_the_token_of_the_visit(site: Site) -> None:
    """Or another site could sign its victim in to the attacker's account."""
    app = build(site)
    client, attacker = client_of(app), client_of(app, "192.0.2.8")
    token = csrf_of_page(attacker.get("/sign-in").text)
    fields = {"name": "R01", "password": GOOD, "next": "/"}
    for wrong in ({}, {"csrf_token": ""}, {"csrf_token": token}, {"csrf_token": csrf_of(new_token())}):
        assert client.post("/sign-in", data={**fields, **wrong}).status_code == 403
    client.get("/sign-in")
    assert client.post("/sign-in", data={**fields, "csrf_token": token}).status_code == 403
    sign_in(client, "R01", GOOD)


def test_a_link_from_elsewhere_leads_to_sign_in_that_works(site: Site) -> None:
    """The browser keeps the session's cookie (SameSite) while it follows the link, and sends it with the form."""
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    session = client.cookies[site.cookie("session")]
    page = client.get(
        "/sign-in", headers={"cookie": "", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    )
    token = csrf_of_page(page.text)
    assert page.status_code == 200
    fields = {"csrf_token": token, "name": "R01", "password": GOOD, "next": "/anybody"}
    assert client.post("/sign-in", data=fields).headers["location"] == "/anybody"
    assert client.cookies[site.cookie("session")] != session
    # and for nothing else is the visit's token worth anything
    sign_in_again = client.get("/sign-in", headers={"cookie": ""})
    assert client.post("/read", headers={"x-csrf-token": csrf_of_page(sign_in_again.text)}).status_code == 403


def test_every_method_that_is_not_known_to_be_safe_needs_it(site: Site) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    for method in ("PROPFIND", "TRACE", "CONNECT", "BREW", "GETT"):
        assert client.request(method, "/api/read").status_code in {403, 405}
        assert "done" not in client.request(method, "/api/read").text


# --- other sites


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 200),  # forms, under no-referrer
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "rubbish"}, 403),
        ({"sec-fetch-site": ""}, 403),
        ({"origin": "http://localhost"}, 200),
        ({"origin": "https://localhost"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({}, 200),
    ],
)
def test_what_another_site_makes_a_browser_send(site: Site, headers: dict[str, str], status: int) -> None:
    """Even with the right token: two locks."""
    client = client_of(build(site))
    token = sign_in(client, "R01", GOOD)
    answer = client.post("/api/read", headers={**headers, "x-csrf-token": token})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    ],
)
def test_what_another_site_may_make_a_browser_load(site: Site, headers: dict[str, str], status: int) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    assert client.get("/api/read", headers=headers).status_code == status


# --- where sign-in leads

EVIL = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "http:evil.example",
    "evil.example",
    "@evil.example",
    "/\u2028/evil.example",
    "/x\r\nSet-Cookie: a=b",
    "",
    "/sign-in",
    "/sign-in?next=/",
    "/sign-out",
    "/study/api/state",
    "/" + "a" * 600,
]


@pytest.mark.parametrize("target", EVIL)
def test_sign_in_leads_nowhere_else(site: Site, target: str) -> None:
    client = client_of(build(site))
    page = client.get("/sign-in", params={"next": target})
    assert 'name="next" value="/"' in page.text
    token = csrf_of_page(page.text)
    answer = client.post(
        "/sign-in", data={"csrf_token": token, "name": "R01", "password": GOOD, "next": target}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    again = client.get("/sign-in", params={"next": target})  # signed in already
    assert (again.status_code, again.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "target", ["/", "/study/", "/study/read?case=3&x=%2F%2Fy", "/a//b", "/..//x", "/%2f%2fx"]
)
def test_sign_in_leads_back(site: Site, target: str) -> None:
    client = client_of(build(site))
    token = csrf_of_page(client.get("/sign-in", params={"next": target}).text)
    answer = client.post(
        "/sign-in", data={"csrf_token": token, "name": "R01", "password": GOOD, "next": target}
    )
    assert answer.headers["location"] == target


# What the WHATWG URL standard removes or reads as a slash before it looks at anything.
TRICKS = st.text(st.sampled_from("/\\.:@?#%\t\n\r evilhtps[]0"), max_size=12)


@given(st.one_of(st.text(max_size=30), TRICKS, TRICKS.map(lambda tail: "/" + tail)))
def test_no_text_leads_out(text: str) -> None:
    there = safe_next(text)
    if there != "/":
        assert there == text
        # as a browser reads it: tabs and line ends dropped, a backslash is a slash, spaces around cut
        seen = re.sub(r"[\t\r\n]", "", there).strip().replace("\\", "/")
        assert urlsplit(urljoin("https://ours.example/sign-in", seen)).netloc == "ours.example"
        assert re.match(r"/(?!/)", seen)


def test_the_page_asked_for_comes_back_after_sign_in(site: Site) -> None:
    client = client_of(build(site))
    answer = client.get("/read?case=3")
    assert answer.headers["location"] == "/sign-in?next=/read%3Fcase%3D3"
    page = client.get(answer.headers["location"])
    assert 'name="next" value="/read?case=3"' in page.text


@pytest.mark.parametrize(
    "path", ["//evil.example/read", "/\\evil.example", "/%0d%0aSet-Cookie:%20a=b", "/%2f/evil"]
)
def test_an_address_that_looks_like_another_host_redirects_nowhere_else(site: Site, path: str) -> None:
    client = client_of(build(site))
    for method in ("GET", "POST"):
        answer = client.request(method, f"http://localhost{path}")
        assert answer.status_code in {303, 404}
        there = answer.headers.get("location", "/")
        assert there.startswith("/")
        assert "evil" not in there
        assert "set-cookie" not in answer.headers


# --- forms


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    with contextlib.suppress(RequestError):  # and nothing else
        assert all(isinstance(key, str) for key in form_of(body))


def test_forms_are_bounded() -> None:
    with pytest.raises(RequestError, match="too many"):
        form_of(b"&".join(b"f%d=" % number for number in range(WEB_BOUNDS.form_fields + 1)))
    with pytest.raises(RequestError, match="twice"):
        form_of(b"a=1&a=2")
