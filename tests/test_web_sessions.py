"""Sessions: fixation, expiry by an injected clock, cookies, signing out, many at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from _web import accounts_in, client_of, csrf_of_page, sign_in
from scanward.config import WEB_BOUNDS
from scanward.web.accounts import Accounts
from scanward.web.guards import account_of, require
from scanward.web.sessions import Sessions, csrf_of, is_token, new_token, same_csrf
from scanward.web.site import Site, build

GOOD = "a long enough passphrase"


@dataclass
class Clock:
    """Tells what it is told."""

    now: float = 1_800_000_000.0
    path: Path = field(default_factory=Path)

    def __call__(self) -> float:
        return self.now


@require()
async def who(request: Request) -> Response:
    return JSONResponse({"name": account_of(request).name, "roles": sorted(account_of(request).roles)})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Iterator[Accounts]:
    with accounts_in(tmp_path) as made:
        made.add("R01", ["reader"], GOOD, now=clock())
        made.add("R02", ["reader"], GOOD, now=clock())
        yield made


def site_of(accounts: Accounts, clock: Clock, **options: Any) -> Site:
    return Site(
        "study", accounts, routes=[Route("/api/who", who, methods=["GET", "POST"])], clock=clock, **options
    )


@pytest.fixture
def site(accounts: Accounts, clock: Clock) -> Site:
    return site_of(accounts, clock, idle_seconds=600, absolute_seconds=3600)


def cookies(answer: Any) -> dict[str, Morsel[str]]:
    jar: SimpleCookie = SimpleCookie()
    for value in answer.headers.get_list("set-cookie"):
        jar.load(value)
    return dict(jar)


def signing(client: Any, name: str = "R01", password: str = GOOD) -> Any:
    """The answer to a sign-in."""
    token = csrf_of_page(client.get("/sign-in").text)
    return client.post(
        "/sign-in", data={"csrf_token": token, "name": name, "password": password, "next": "/"}
    )


def bring(client: Any, site: Site, token: str) -> None:
    """Put a session's cookie into a browser."""
    client.cookies.set(site.cookie("session"), token, domain="localhost.local", path="/")


# --- cookies


@pytest.mark.parametrize("tls", [False, True])
def test_cookies_are_out_of_reach(accounts: Accounts, clock: Clock, tls: bool) -> None:
    client = client_of(build(site_of(accounts, clock, tls=tls)), tls=tls)
    before = cookies(client.get("/sign-in"))
    after = cookies(signing(client))
    prefix = "__Host-" if tls else ""
    assert set(before) == {f"{prefix}scanward-study-visit"}
    assert {name for name in after if after[name].value} == {
        f"{prefix}scanward-study-session",
        f"{prefix}scanward-study-device",
    }
    for morsel in (*before.values(), *after.values()):
        assert morsel["httponly"] is True
        assert morsel["samesite"].lower() == "strict"
        assert bool(morsel["secure"]) is tls
        assert morsel["path"] == "/"
        assert morsel["domain"] == ""  # or __Host- would be refused
    assert after[f"{prefix}scanward-study-session"]["max-age"] == ""  # ends with the browser


def test_two_sites_on_one_host_do_not_sign_each_other_out(accounts: Accounts) -> None:
    one, other = Site("study", accounts), Site("operator's console", accounts)
    assert {one.cookie(kind) for kind in ("session", "visit", "device")}.isdisjoint(
        {other.cookie(kind) for kind in ("session", "visit", "device")}
    )
    assert other.cookie("session") == "scanward-operator-s-console-session"


# --- fixation and theft


def test_a_token_that_a_browser_brings_is_never_taken_over(site: Site) -> None:
    fixed = new_token()
    client = client_of(build(site))
    bring(client, site, fixed)
    sign_in(client, "R01", GOOD)
    attacker = client_of(build(site), "198.51.100.1")
    bring(attacker, site, fixed)
    assert attacker.get("/api/who").status_code == 401
    bring(attacker, site, client.cookies[site.cookie("session")])  # the cookie is really sent
    assert attacker.get("/api/who").status_code == 200


def test_signing_in_again_ends_the_session_before(site: Site, clock: Clock) -> None:
    app = build(site)
    client = client_of(app)
    sign_in(client, "R01", GOOD)
    first = client.cookies[site.cookie("session")]
    csrf = csrf_of(first)
    answer = client.post("/sign-in", data={"csrf_token": csrf, "name": "R02", "password": GOOD, "next": "/"})
    assert answer.status_code == 303
    second = client.cookies[site.cookie("session")]
    assert second != first
    assert client.get("/api/who").json()["name"] == "R02"
    assert app.state.sessions.find(first, clock()) is None


def test_tokens_are_hashed_at_rest(site: Site) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    raw = b"".join(path.read_bytes() for path in site.accounts.database.path.parent.iterdir())
    for kind in ("session", "device"):
        token = client.cookies[site.cookie(kind)]
        assert is_token(token)
        assert token.encode() not in raw
        assert csrf_of(token).encode() not in raw


@given(st.text(max_size=60))
def test_no_other_text_is_a_csrf_token(text: str) -> None:
    token = "A" * 43
    assert same_csrf(csrf_of(token), token)
    assert same_csrf(text, token) == (text == csrf_of(token))


def test_a_cookie_there_twice_counts_for_nothing(site: Site) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    name, token = site.cookie("session"), client.cookies[site.cookie("session")]
    client.cookies.clear()
    assert client.get("/api/who", headers={"cookie": f"{name}={token}"}).status_code == 200
    for twice in (f"{name}={new_token()}; {name}={token}", f"{name}={token}; {name}={new_token()}"):
        assert client.get("/api/who", headers={"cookie": twice}).status_code == 401


# --- expiry


def test_a_session_ends_without_requests(site: Site, clock: Clock) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    for _ in range(4):
        clock.now += 599
        assert client.get("/api/who").status_code == 200
    clock.now += 600
    assert client.get("/api/who").status_code == 401
    clock.now -= 600  # and stays ended
    assert client.get("/api/who").status_code == 401


def test_a_session_ends_at_last_whatever_happens(site: Site, clock: Clock) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    for _ in range(11):
        clock.now += 300
        assert client.get("/api/who").status_code == 200
    assert client.get("/api/session").json()["expires_in"] == 300
    clock.now += 300
    assert client.get("/api/who").status_code == 401
    with sqlite3.connect(site.accounts.database.path) as read:
        assert read.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0
    read.close()


def test_requests_within_half_a_minute_write_nothing(site: Site, clock: Clock) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)

    def changes() -> int:
        with site.accounts.database.reading() as read:
            return read.total_changes

    before = changes()
    for _ in range(20):
        client.get("/api/who")
    assert changes() == before
    clock.now += WEB_BOUNDS.seen_seconds
    client.get("/api/who")
    assert changes() == before + 1


def test_a_clock_set_back_ends_sessions_of_the_future(site: Site, clock: Clock) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    clock.now -= 30
    assert client.get("/api/who").status_code == 200
    clock.now -= 3600
    assert client.get("/api/who").status_code == 401


# --- signing out


def test_signing_out_ends_this_session_alone(site: Site) -> None:
    app = build(site)
    here, there = client_of(app), client_of(app, "192.0.2.8")
    csrf = sign_in(here, "R01", GOOD)
    sign_in(there, "R01", GOOD)
    token = here.cookies[site.cookie("session")]
    answer = here.post("/sign-out", data={"csrf_token": csrf})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?note=signed-out")
    assert cookies(answer)[site.cookie("session")]["max-age"] == "0"
    assert "clear-site-data" not in answer.headers  # answers not yet sent live in the browser
    bring(here, site, token)
    assert here.get("/api/who").status_code == 401
    assert there.get("/api/who").status_code == 200


def test_a_new_password_signs_out_everywhere(site: Site) -> None:
    app = build(site)
    here, there, other = (client_of(app, f"192.0.2.{n}") for n in (1, 2, 3))
    csrf = sign_in(here, "R01", GOOD)
    sign_in(there, "R01", GOOD)
    sign_in(other, "R02", GOOD)
    new = "another long passphrase"
    fields = {"csrf_token": csrf, "current": GOOD, "new": new, "again": new}
    assert here.post("/account/password", data={**fields, "again": "typo"}).status_code == 422
    assert here.post("/account/password", data={**fields, "current": "wrong"}).status_code == 403
    assert (
        here.post("/account/password", data={**fields, "new": "short", "again": "short"}).status_code == 422
    )
    assert there.get("/api/who").status_code == 200
    answer = here.post("/account/password", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?note=changed")
    assert here.get("/api/who").status_code == there.get("/api/who").status_code == 401
    assert other.get("/api/who").status_code == 200
    sign_in(here, "R01", GOOD, status=401)
    sign_in(here, "R01", new)


def test_the_current_password_cannot_be_guessed_from_within(site: Site) -> None:
    """A stolen session (or an unlocked screen) is no way around the delays."""
    client = client_of(build(site))
    csrf = sign_in(client, "R01", GOOD)
    fields = {"csrf_token": csrf, "current": "wrong", "new": GOOD + "2", "again": GOOD + "2"}
    statuses = [client.post("/account/password", data=fields).status_code for _ in range(8)]
    assert statuses == [403] * WEB_BOUNDS.account_free + [429] * 3


def test_signing_out_everywhere(site: Site) -> None:
    app = build(site)
    here, there = client_of(app), client_of(app, "192.0.2.8")
    csrf = sign_in(here, "R01", GOOD)
    sign_in(there, "R01", GOOD)
    assert here.post("/account/sign-out-everywhere", data={"csrf_token": csrf}).status_code == 303
    assert here.get("/api/who").status_code == there.get("/api/who").status_code == 401


@pytest.mark.parametrize("act", ["set_password", "disable", "remove", "set_roles", "sign_out_everywhere"])
def test_what_is_done_to_an_account_ends_its_sessions(site: Site, act: str) -> None:
    client = client_of(build(site))
    sign_in(client, "R01", GOOD)
    if act == "set_roles":
        site.accounts.set_roles("R01", ["lead"])
    else:
        getattr(site.accounts, act)("R01")
    assert client.get("/api/who").status_code == 401


@pytest.mark.parametrize("act", ["set_password", "disable", "remove"])
def test_a_sign_in_that_a_change_overtakes_begins_nothing(accounts: Accounts, clock: Clock, act: str) -> None:
    """Verified, then changed, then begun: as two processes may do it."""
    sessions = Sessions(accounts)
    verified = accounts.verify("R01", GOOD, "192.0.2.1", clock()).account
    assert verified is not None
    getattr(accounts, act)("R01")
    assert sessions.begin(verified, clock()) is None


# --- many


def test_sessions_of_an_account_are_bounded(accounts: Accounts, clock: Clock) -> None:
    sessions = Sessions(accounts)
    account = accounts.get("R01")
    assert account is not None
    begun = []
    for _ in range(WEB_BOUNDS.sessions_each + 5):
        clock.now += 1
        begun.append(sessions.begin(account, clock()))
    alive = [sessions.find(str(token), clock()) is not None for token in begun]
    assert alive == [False] * 5 + [True] * WEB_BOUNDS.sessions_each


def test_signing_in_at_once_gives_each_his_own(accounts: Accounts, clock: Clock) -> None:
    app = build(site_of(accounts, clock))

    def come(number: int) -> tuple[str, str, str]:
        name = f"R0{number % 2 + 1}"
        with client_of(app, f"192.0.2.{number}") as client:
            sign_in(client, name, GOOD)
            return name, client.cookies["scanward-study-session"], client.get("/api/who").json()["name"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(come, range(8)))
    assert len({token for _, token, _ in found}) == 8
    assert all(name == seen for name, _, seen in found)


def test_who_signed_in_and_out_is_recorded(site: Site) -> None:
    client = client_of(build(site))
    csrf = sign_in(client, "R01", GOOD)
    client.post("/sign-out", data={"csrf_token": csrf})
    kinds = [(event.kind, event.account) for event in site.accounts.events.read() if "signed" in event.kind]
    assert kinds == [("signed in", "R01"), ("signed out", "R01")]
