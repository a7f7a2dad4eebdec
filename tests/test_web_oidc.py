"""Sign-in by OpenID Connect, with a provider on loopback: who is let in, and every way in which nobody is."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from _console import console_toml, settings_in
from _oidc import CLIENT, SECRET, SHARED, IdentityProvider, provider
from _web import accounts_in, client_of, sign_in
from scanward.console.oidc import single_sign_on
from scanward.errors import LinkError, SettingsError
from scanward.web.guards import account_of, require
from scanward.web.oidc import Provider, SingleSignOn, derived, state_of
from scanward.web.oidc_pages import _there
from scanward.web.sessions import new_token
from scanward.web.site import Site, build

GOOD = "a long enough passphrase"


@require("operator")
async def home(request: Request) -> Response:
    return PlainTextResponse(account_of(request).name)


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with provider() as made:
        yield made


class World:
    """A site with a provider beside it, and one browser."""

    def __init__(self, folder: Path, idp: IdentityProvider) -> None:
        self.idp, self.now, self.offset = idp, time.time, 0.0
        self.accounts = accounts_in(folder)
        self.accounts.add("anna", ["operator"], GOOD)
        self.accounts.add("gone", ["operator"], GOOD)
        self.accounts.disable("gone")
        told = Provider(idp.issuer, CLIENT, SECRET, "http://localhost")
        self.single = SingleSignOn(told, lambda: time.time() + self.offset)
        routes = [Route("/home", home), Route("/other", home)]
        self.app = build(
            Site("study", self.accounts, routes=routes, home="/home", single_sign_on=self.single)
        )
        self.browser = client_of(self.app)

    def out(self, there: str = "/home") -> dict[str, str]:
        """To the provider: what it is asked."""
        answer = self.browser.get("/sign-in/oidc", params={"next": there})
        assert answer.status_code == 303, answer.text
        parts = urlsplit(answer.headers["location"])
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.idp.issuer}/authorize"
        return {name: values[0] for name, values in parse_qs(parts.query).items()}

    def back(self, query: dict[str, str], browser: Any = None) -> Any:
        """Back from the provider, as from another site."""
        parts = urlsplit(self.idp.authorize(query))
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        return (browser or self.browser).get(f"{parts.path}?{parts.query}", headers=headers)

    def nobody(self) -> None:
        assert self.browser.get("/api/session").status_code == 401


@pytest.fixture
def world(tmp_path: Path, idp: IdentityProvider) -> Iterator[World]:
    made = World(tmp_path, idp)
    yield made
    made.accounts.close()


def test_who_has_an_account_is_let_in_with_its_own_roles(world: World) -> None:
    page = world.browser.get("/sign-in", params={"next": "/other"}).text
    assert 'href="/sign-in/oidc?next=/other"' in page
    query = world.out("/other")
    assert query["scope"].split()[0] == "openid"
    answer = world.back(query)
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/other">' in answer.text
    cookies = answer.headers.get_list("set-cookie")
    assert any("session=" in one and "SameSite=strict" in one and "HttpOnly" in one for one in cookies)
    assert world.browser.get("/other").text == "anna"
    assert world.browser.get("/api/session").json()["roles"] == ["operator"]
    kinds = [event.kind for event in world.accounts.events.read()]
    assert "signed in by OpenID Connect" in kinds


@pytest.mark.parametrize("user", ["bert", "gone", "", "anna\x00", "a" * 300])
def test_whom_the_provider_knows_and_we_do_not_gets_nothing(world: World, user: str) -> None:
    world.idp.user = user
    answer = world.back(world.out())
    assert answer.status_code == 401
    world.nobody()
    assert [account.name for account in world.accounts.all()] == ["anna", "gone"]


def late(claims: dict[str, Any]) -> None:
    claims |= {"iat": claims["iat"] - 1000, "exp": claims["exp"] - 1000}


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another issuer": lambda c: c.update(iss="https://evil.example"),
    "another client": lambda c: c.update(aud="another"),
    "two clients, given to the other": lambda c: c.update(aud=[CLIENT, "another"], azp="another"),
    "two clients, given to nobody": lambda c: c.update(aud=[CLIENT, "another"]),
    "expired": late,
    "made and over": lambda c: c.update(iat=c["iat"] - 120, exp=c["iat"] - 90),
    "of tomorrow": lambda c: c.update(iat=c["iat"] + 86_400, exp=c["exp"] + 86_400),
    "old, for ever": lambda c: c.update(iat=c["iat"] - 86_400, exp=c["exp"] + 86_400),
    "no end": lambda c: c.pop("exp"),
    "an end that is none": lambda c: c.update(exp=True),
    "another sign-in": lambda c: c.update(nonce="x" * 43),
    "no nonce": lambda c: c.pop("nonce"),
    "no name": lambda c: c.pop("preferred_username"),
    "a name that is none": lambda c: c.update(preferred_username=["anna"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_says_the_wrong_thing_lets_nobody_in(world: World, lie: str) -> None:
    world.idp.bend = LIES[lie]
    answer = world.back(world.out())
    assert answer.status_code == 401
    world.nobody()


@pytest.mark.parametrize("how", ["another key", "the client's secret", "no signature"])
def test_an_id_token_that_another_signed_lets_nobody_in(world: World, how: str) -> None:
    if how == "another key":
        world.idp.key = ECKey.generate_key("P-256", {"kid": "first"})
    elif how == "the client's secret":
        world.idp.key, world.idp.header = SHARED, {"alg": "HS256"}
    else:
        right = world.idp.token

        def unsigned(headers: Any, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
            status, answer = right(headers, form)
            payload = answer["id_token"].split(".")[1]
            return status, {"id_token": f"eyJhbGciOiJub25lIn0.{payload}."}

        world.idp.token = unsigned  # type: ignore[method-assign]
    assert world.back(world.out()).status_code == 401
    world.nobody()


def test_a_new_key_of_the_provider_is_found_but_not_asked_for_all_the_time(world: World) -> None:
    assert world.back(world.out()).status_code == 200
    world.idp.key = world.idp.published = ECKey.generate_key("P-256", {"kid": "second"})
    assert world.back(world.out()).status_code == 401, "it was asked a moment ago"
    asked = world.idp.asked.count("/keys")
    assert world.back(world.out()).status_code == 401
    assert world.idp.asked.count("/keys") == asked
    world.offset = 61.0
    world.idp.bend = lambda c: c.update(iat=c["iat"] + 61, exp=c["exp"] + 61)
    assert world.back(world.out()).status_code == 200


def test_an_answer_is_for_the_browser_that_asked_and_works_once(world: World) -> None:
    """An attacker's own answer put to somebody's browser signs nobody in as the attacker, and the other way round."""
    query = world.out()
    stranger = client_of(world.app)
    assert world.back(query, stranger).status_code == 403
    other = client_of(world.app)
    other.get("/sign-in/oidc")
    assert world.back(query, other).status_code == 403
    for state in ("", "x", state_of(new_token())):
        assert world.back({**query, "state": state}).status_code == 403
    parts = urlsplit(world.idp.authorize(query))
    address = f"{parts.path}?{parts.query}"
    kept = dict(world.browser.cookies)
    assert world.browser.get(address).status_code == 200
    again = client_of(world.app)
    for name, value in kept.items():
        again.cookies.set(name, value)
    assert again.get(address).status_code == 401, "the code was used"


def test_a_code_of_another_sign_in_fits_not(world: World) -> None:
    """PKCE: a code that was stolen on its way is of no use to another browser with a state of its own."""
    stolen = world.idp.authorize(world.out()).partition("code=")[2].partition("&")[0]
    thief = client_of(world.app)
    location = thief.get("/sign-in/oidc").headers["location"]
    state = parse_qs(urlsplit(location).query)["state"][0]
    assert thief.get("/sign-in/oidc/callback", params={"code": stolen, "state": state}).status_code == 401
    assert thief.get("/api/session").status_code == 401


def test_a_session_before_ends_and_its_token_is_not_taken_over(world: World) -> None:
    sign_in(world.browser, "anna", GOOD)
    before = world.browser.cookies.get("scanward-study-session")
    assert world.back(world.out()).status_code == 200
    assert world.browser.cookies.get("scanward-study-session") != before
    old = client_of(world.app)
    old.cookies.set("scanward-study-session", before or "")
    assert old.get("/api/session").status_code == 401


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example", "/\\evil", "javascript:1", "/api/state"]
)
def test_it_leads_to_pages_of_ours_alone(world: World, there: str) -> None:
    answer = world.back(world.out(there))
    assert re.findall(r'content="0; url=([^"]*)"', answer.text) == ["/home"]


@given(
    st.text(max_size=80)
    | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))
)
def test_whatever_a_cookie_says_the_way_leads_to_us(encoded: str) -> None:
    target = _there(encoded, SimpleNamespace(home="/home"))  # type: ignore[arg-type]
    assert target.startswith("/")
    assert not target.startswith(("//", "/\\"))


@pytest.mark.parametrize("how", ["down", "500", "another issuer", "no TLS", "no JSON"])
def test_a_provider_that_is_away_or_wrong_is_told_and_passwords_still_work(world: World, how: str) -> None:
    if how == "500":
        world.idp.status = 500
    elif how == "another issuer":
        world.idp.metadata = {"issuer": "https://evil.example"}
    elif how == "no TLS":
        world.idp.metadata = {"authorization_endpoint": "http://evil.example/"}
    elif how == "no JSON":
        world.idp.metadata = {"authorization_endpoint": 7}  # type: ignore[dict-item]
    else:
        world.single._bounds = type(world.single._bounds)(connect_seconds=0.5)
        world.idp.issuer, world.single.provider.__dict__["issuer"] = world.idp.issuer, "http://127.0.0.1:1"
    answer = world.browser.get("/sign-in/oidc")
    assert answer.status_code == 503
    assert "password" in answer.text
    sign_in(world.browser, "anna", GOOD)


def test_state_nonce_and_verifier_tell_nothing_of_each_other() -> None:
    token = new_token()
    made = {derived(token, what) for what in ("state", "nonce", "verifier")}
    assert len(made) == 3
    assert all(len(one) == 43 for one in made), "RFC 7636: 43 to 128 letters"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((f'client_id = "{CLIENT}"', ""), "client_id"),
        (("https://idp.example", "http://idp.example"), "without TLS"),
        (("https://console.example", "console"), "is no address"),
        (("secret.txt", "nothing.txt"), "cannot be read"),
        (("claim", "clam"), "did you mean"),
    ],
)
def test_a_wrong_provider_in_the_configuration_is_refused(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    text = (
        f'[oidc]\nissuer = "https://idp.example"\nclient_id = "{CLIENT}"\nclient_secret_file = "secret.txt"\n'
        'address = "https://console.example"\nclaim = "upn"\n'
    )
    right = single_sign_on(settings_in(tmp_path, console_toml({"ct1": "x"}, text)))
    assert right is not None
    assert right.provider.redirect == "https://console.example/sign-in/oidc/callback"
    assert right.provider.claim == "upn"
    with pytest.raises(SettingsError, match=told):
        single_sign_on(settings_in(tmp_path, console_toml({"ct1": "x"}, text.replace(*change))))


def test_without_a_provider_there_is_no_such_page(tmp_path: Path) -> None:
    with accounts_in(tmp_path) as accounts:
        browser = client_of(build(Site("study", accounts, routes=[], home="/")))
        assert browser.get("/sign-in/oidc").status_code == 404
        assert "oidc" not in browser.get("/sign-in").text
    assert issubclass(LinkError, Exception)
