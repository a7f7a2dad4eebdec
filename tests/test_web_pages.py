"""Pages: headers of every answer, errors that tell nothing, static files, templates, hostile requests."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from _web import TestClient, accounts_in, client_of, csrf_of_page, sign_in
from scanward.config import WEB_BOUNDS
from scanward.errors import AuditError, DecodeError, RequestError, SettingsError
from scanward.web.frame import STATIC, TEMPLATES, render
from scanward.web.front import POLICY
from scanward.web.guards import public, require
from scanward.web.site import Link, Site, build

GOOD = "a long enough passphrase"
SECRET = "a secret of the server"
HOSTILE = "<script>alert('x')</script>\"' onload=x {{ 7*7 }} \u202e"


class Failure(Exception):
    """What nobody foresaw."""


@public
async def fail(request: Request) -> Response:
    match request.path_params["how"]:
        case "unforeseen":
            raise Failure(SECRET)
        case "house":
            raise AuditError(SECRET, f"/var/lib/{SECRET}", "call us")
        case "input":
            raise DecodeError("this is no answer", "marks[3]", "send numbers")
        case "request":
            raise RequestError("answered already", "case 7", "load the page again", 409)
    return PlainTextResponse("well")


@public
async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"bytes": len(body)})


@require()
async def hello(request: Request) -> Response:
    return render(request, "hello.html", said=HOSTILE, items=[HOSTILE])


@public
async def cached(request: Request) -> Response:
    return PlainTextResponse(
        "x", headers={"cache-control": "private, max-age=60", "x-frame-options": "ALLOW"}
    )


ROUTES = [
    Route("/fail/{how}", fail),
    Route("/api/fail/{how}", fail),
    Route("/echo", echo, methods=["GET"]),
    Route("/hello", hello),
    Route("/cached", cached),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    templates, static = folder / "templates", folder / "static"
    templates.mkdir()
    static.mkdir()
    (templates / "hello.html").write_text(
        '{% extends "frame.html" %}{% block title %}{{ said }}{% endblock %}{% block main %}'
        '<p id="said" title="{{ said }}">{{ said }}</p>{% for one in items %}<b>{{ one }}</b>{% endfor %}{% endblock %}'
    )
    (templates / "sign_in.html").write_text("replaced")
    (static / "page.js").write_text("export {};")
    (static / "deep").mkdir()
    (static / "deep" / "style.css").write_text("p {}")
    (static / ".hidden.js").write_text("x")
    (static / "notes.md").write_text("x")
    (static / "program.py").write_text("x")
    (static / "page.html").write_text("<script>alert(1)</script>")
    (folder / "outside.js").write_text(SECRET)
    (static / "link.js").symlink_to(folder / "outside.js")
    with accounts_in(folder) as accounts:
        accounts.add("R01", ["reader"], GOOD)
        yield Site(
            "study",
            accounts,
            templates=[templates],
            static={"/study/static": static},
            routes=ROUTES,
            title="Reader study",
            navigation=[Link("Overview", "/lead", "lead"), Link("Read", "/hello", "reader")],
        )


@pytest.fixture
def client(site: Site) -> TestClient:
    made = client_of(build(site))
    made._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    return made


# --- headers


EVERYWHERE = [
    ("GET", "/sign-in", {}),
    ("GET", "/nothing/here", {}),
    ("GET", "/api/session", {}),
    ("POST", "/sign-in", {}),
    ("DELETE", "/sign-in", {}),
    ("GET", "/hello", {}),
    ("GET", "/static/web/frame.css", {}),
    ("GET", "/study/static/none.js", {}),
    ("GET", "/fail/unforeseen", {}),
    ("GET", "/fail/house", {}),
    ("GET", "/api/fail/unforeseen", {}),
    ("GET", "/cached", {}),
    ("GET", "/sign-in", {"host": "evil.example"}),
    ("POST", "/sign-in", {"content-length": "99999999999"}),
    ("GET", "/echo", {"sec-fetch-site": "cross-site"}),
]


@pytest.mark.parametrize(("method", "path", "headers"), EVERYWHERE)
def test_no_answer_lacks_its_headers(
    client: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = client.request(method, path, headers=headers)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    expected = {"/static/web/frame.css": "no-cache", "/cached": "private, max-age=60"}.get(path, "no-store")
    assert answer.headers["cache-control"] == expected


def test_the_policy_lets_nothing_in() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert (
        rules["script-src"] == rules["style-src"] == rules["connect-src"] == rules["form-action"] == "'self'"
    )
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


@pytest.mark.parametrize(("host", "told"), [("study.example", True), ("localhost", False)])
def test_https_is_for_good_where_browsers_use_it(site: Site, host: str, told: bool) -> None:
    """Not for loopback's names, which all other servers of that machine share."""
    secure = Site("study", site.accounts, tls=True, hosts=["study.example", "localhost"])
    answer = client_of(build(secure), tls=True).get("/sign-in", headers={"host": host})
    assert ("strict-transport-security" in answer.headers) is told
    if told:
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


# --- the host's name


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]", "[::1]:8443"]
)
def test_our_names(client: TestClient, host: str) -> None:
    assert client.get("/sign-in", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "",
        ":80",
        "localhost.evil.example",
        "localhost:80:80",
        "localhost@evil.example",
        "evil.example/localhost",
        "localhost/x",
        "[::1",
        "::1",
        "localhost:x",
        "localhost ",
        "127.0.0.2",
        "loc\xe4lhost",
    ],
)
def test_other_names(client: TestClient, host: str) -> None:
    answer = client.get("/sign-in", headers={"host": host.encode("latin-1")})  # type: ignore[dict-item]
    assert answer.status_code == 400
    assert "evil" not in answer.text


def test_two_names_are_none(client: TestClient) -> None:
    assert client.get("/sign-in", headers=[("host", "localhost"), ("host", "localhost")]).status_code == 400  # type: ignore[arg-type]


# --- size


def test_large_bodies_are_refused_before_anybody_looks_at_them(client: TestClient) -> None:
    csrf = sign_in(client, "R01", GOOD)
    least = {"x-csrf-token": csrf}
    assert client.post("/nothing", content=b"x" * WEB_BOUNDS.body_bytes, headers=least).status_code == 404
    for headers in (least, {}):  # even before it is asked who sends it
        answer = client.post("/api/nothing", content=b"x" * (WEB_BOUNDS.body_bytes + 1), headers=headers)
        assert answer.status_code == 413
        assert answer.json()["what"] == "the request is too large"
        assert answer.headers["connection"] == "close"


def test_a_body_that_lies_about_its_size(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    assert client.post("/api/nothing", content=pieces()).status_code == 413
    for told in ("-1", "1e9", "9" * 400, "\xb2"):
        answer = client.post("/sign-in", headers={"content-length": told.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code in {403, 413}


# --- errors


@pytest.mark.parametrize("how", ["unforeseen", "house"])
def test_what_goes_wrong_here_is_not_told(client: TestClient, how: str) -> None:
    page = client.get(f"/fail/{how}")
    assert page.status_code == 500
    assert "<h1>Internal Server Error</h1>" in page.text
    assert "This failed here, not at your end." in page.text
    program = client.get(f"/api/fail/{how}")
    assert program.status_code == 500
    assert program.json()["error"] == "RequestError"
    for answer in (page, program):
        for telling in (SECRET, "Traceback", "Failure", "AuditError", ".py", "/var"):
            assert telling not in answer.text


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/fail/input", 422, {"error": "DecodeError", "what": "this is no answer", "where": "marks[3]"}),
        ("/api/fail/request", 409, {"error": "RequestError", "what": "answered already", "where": "case 7"}),
        ("/api/nothing", 404, {"error": "RequestError", "what": "there is nothing here"}),
        ("/api/session", 401, {"error": "RequestError", "what": "you are signed out"}),
    ],
)
def test_what_was_wrong_with_a_request_is_told_in_the_houses_shape(
    client: TestClient, path: str, status: int, error: dict[str, str]
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    found = answer.json()
    assert set(found) == {"error", "what", "where", "todo"}
    assert error.items() <= found.items()


@pytest.mark.parametrize(
    ("path", "status"), [("/fail/input", 422), ("/fail/request", 409), ("/nothing", 404)]
)
def test_errors_have_pages_of_our_own(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.text.startswith("<!doctype html>")
    assert "What to do:" in answer.text


def test_a_wrong_method_says_which_are_right(client: TestClient) -> None:
    sign = sign_in(client, "R01", GOOD)
    answer = client.put("/api/session", headers={"x-csrf-token": sign})
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_too_many_attempts_have_a_page(site: Site) -> None:
    now = time.time()  # stands still: on a busy machine the attempts themselves would take their seconds
    client = client_of(build(replace(site, clock=lambda: now)), "198.51.100.77")
    statuses = [sign_in(client, "nobody-at-all", "wrong", status=401) for _ in range(WEB_BOUNDS.account_free)]
    assert len(statuses) == WEB_BOUNDS.account_free
    token = csrf_of_page(client.get("/sign-in").text)
    answer = client.post(
        "/sign-in", data={"csrf_token": token, "name": "nobody-at-all", "password": "wrong", "next": "/"}
    )
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "2"
    assert "Too many attempts. Try again in 2 seconds." in answer.text


def test_unknown_and_wrong_look_the_same(site: Site) -> None:
    def page(name: str, address: str) -> tuple[int, str, list[str]]:
        client = client_of(build(site), address)
        token = csrf_of_page(client.get("/sign-in").text)
        answer = client.post(
            "/sign-in", data={"csrf_token": token, "name": name, "password": "wrong", "next": "/"}
        )
        text = answer.text.replace(name, "NAME").replace(token, "TOKEN")
        return answer.status_code, text, sorted(answer.headers)

    assert page("R01", "203.0.113.1") == page("R99", "203.0.113.2")


def test_a_broken_file_of_accounts_is_no_open_door(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with accounts_in(tmp_path) as accounts:
        accounts.add("R01", ["reader"], GOOD)
        broken = Site("study", accounts, routes=[Route("/echo", echo)])
        client = client_of(build(broken))
        sign_in(client, "R01", GOOD)
        with accounts.database.transaction() as change:
            change.execute("ALTER TABLE sessions RENAME TO gone")
        answer = client.get("/echo")
    assert answer.status_code == 503
    assert answer.headers["content-security-policy"] == POLICY
    assert "no such table" not in answer.text
    assert "no such table" in caplog.text


# --- static files


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/study/static/page.js", "text/javascript; charset=utf-8"),
        ("/study/static/deep/style.css", "text/css; charset=utf-8"),
        ("/static/web/frame.css", "text/css; charset=utf-8"),
        ("/static/web/icon.svg", "image/svg+xml"),
    ],
)
def test_files_are_what_they_are(client: TestClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "../outside.js",
        "..%2foutside.js",
        "%2e%2e/outside.js",
        "%2e%2e%2foutside.js",
        "deep/../../outside.js",
        "deep/%2e%2e/%2e%2e/outside.js",
        "..\\outside.js",
        "..%5coutside.js",
        "....//outside.js",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "%00.js",
        "page.js%00.css",
        "link.js",
        ".hidden.js",
        "deep/../.hidden.js",
        "notes.md",
        "program.py",
        "page.html",
        "page.JS",
        "deep",
        "deep/",
        "",
        "a" * 5000 + ".js",
        "a/" * 2000 + "x.js",
    ],
)
def test_nothing_else_is_a_file(client: TestClient, path: str) -> None:
    answer = client.get(f"http://localhost/study/static/{path}")
    assert answer.status_code == 404
    assert SECRET not in answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.sampled_from(["..", "%2e%2e", "%2f", "/", "\\", "deep", "outside.js", "%00", ".", "~", "page.js"])
    )
)
def test_no_path_leads_out_of_the_folder(client: TestClient, parts: list[str]) -> None:
    answer = client.get("http://localhost/study/static/" + "".join(parts))
    assert SECRET not in answer.text
    assert answer.status_code in {200, 304, 404}


# --- templates


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_whatever_a_page_shows_is_text(client: TestClient) -> None:
    sign_in(client, "R01", GOOD)
    text = client.get("/hello").text
    tags = Tags(text).tags
    assert [tag for tag, _ in tags if tag == "script"] == []
    assert next(a["title"] for tag, a in tags if a.get("id") == "said") == HOSTILE
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert "{{ 7*7 }}" in text
    assert "49" not in text.partition("<main")[2]


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_templates_hold_no_script_and_no_style(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|\|\s*safe|autoescape false", text)
    for script in re.findall(r"<script[^>]*>", text):
        assert "src=" in script
    assert not re.search(r"(src|href)=\"(https?:)?//", text)  # nothing from outside
    for form in re.findall(r"<form.*?</form>", text, re.DOTALL):
        assert 'name="csrf_token"' in form


def test_nothing_is_loaded_from_outside() -> None:
    for path in STATIC.rglob("*"):
        text = path.read_text("utf-8")
        assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text), path


def test_a_template_of_a_site_does_not_replace_ours(client: TestClient) -> None:
    assert "replaced" not in client.get("/sign-in").text


def test_a_page_says_where_one_is(client: TestClient) -> None:
    sign_in(client, "R01", GOOD)
    text = client.get("/hello").text
    assert '<html lang="en-GB">' in text
    assert 'href="/hello" aria-current="page"' in text
    assert "Overview" not in text  # a lead's
    assert "For research only. Not a medical device." in text


# --- whatever a browser may send


HEADER_NAMES = st.sampled_from(
    (
        *(
            "host",
            "cookie",
            "origin",
            "sec-fetch-site",
            "sec-fetch-mode",
            "x-csrf-token",
            "content-type",
            "accept",
        ),
        *(
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "transfer-encoding",
            "range",
            "if-none-match",
            "expect",
        ),
    )
)
HEADER_VALUES = st.binary(max_size=60).map(lambda raw: bytes(b for b in raw if b not in b"\r\n\x00").strip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "QQ"]),
    st.sampled_from(["/sign-in", "/api/session", "/hello", "/study/static/page.js", "/echo", "/sign-out"]),
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=5),
    st.binary(max_size=200),
    st.text(max_size=20),
)
def test_hostile_requests_get_an_answer_of_ours(
    client: TestClient, method: str, path: str, headers: list[tuple[str, bytes]], body: bytes, query: str
) -> None:
    answer: Any = client.request(
        method,
        path,
        params={"next": query, "note": query},
        headers=[(n.encode(), v) for n, v in headers],
        content=body,
    )
    assert answer.status_code < 500
    assert answer.headers["content-security-policy"] == POLICY
    assert "session" not in answer.headers.get("set-cookie", "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.text(max_size=60))
def test_hostile_names_are_shown_as_text(client: TestClient, name: str) -> None:
    token = csrf_of_page(client.get("/sign-in").text)
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    answer = client.post("/sign-in", data={"csrf_token": token, "name": name, "password": "x", "next": name})
    assert answer.status_code in {401, 429}
    shown = [a.get("value") for tag, a in Tags(answer.text).tags if a.get("id") == "name"]
    assert len(shown) == 1


@pytest.mark.parametrize("name", [HOSTILE, "{{ site }}", '"><img src=x onerror=alert(1)>'])
def test_a_hostile_name_stays_in_its_field(client: TestClient, name: str) -> None:
    token = csrf_of_page(client.get("/sign-in").text)
    answer = client.post("/sign-in", data={"csrf_token": token, "name": name, "password": "x", "next": "/"})
    tags = Tags(answer.text).tags
    assert next(a["value"] for tag, a in tags if a.get("id") == "name") == name[:64]
    assert not {tag for tag, _ in tags} & {"script", "img"}


# --- a site that makes no sense


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "--"},
        {"home": "https://evil.example"},
        {"home": "//x"},
        {"idle_seconds": 0.0},
        {"absolute_seconds": float("nan")},
        {"templates": [Path("/nowhere/at/all")]},
        {"static": {"/x": Path("/nowhere/at/all")}},
    ],
)
def test_sites_that_make_no_sense(site: Site, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        build(Site(**{"name": "study", "accounts": site.accounts, **options}))


def test_the_first_page_leads_home(site: Site) -> None:
    home = Site("study", site.accounts, home="/study/")
    assert client_of(build(home)).get("/").headers["location"] == "/study/"
