"""Who may see what of the console; its configuration, its accounts, its command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.routing import Mount, Route

from _console import Browser, Desk, console_toml, settings_in
from scanward.cli.main import cli
from scanward.console import app as console_app
from scanward.console.app import STATIC, TEMPLATES
from scanward.console.settings import load_settings, parse_settings
from scanward.console.shared import ADMINISTRATOR, OPERATOR, PHYSICIST, ROLES
from scanward.errors import SettingsError
from scanward.web.signing import ROUTES as SIGNING
from test_guard_control import Running, running

PEOPLE = {"anna": OPERATOR, "max": PHYSICIST, "eva": ADMINISTRATOR}
ENDLESS = {"/api/events"}


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "ct1.sock") as made:
        yield made


@pytest.fixture
def desk(guard: Running, tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path, {"ct1": guard.path}) as made:
        yield made


def routes(desk: Desk) -> list[tuple[str, str, frozenset[str]]]:
    """(method, address, roles) of everything that is the console's own."""
    ours = {route.path for route in SIGNING} | {"/"}
    found: list[tuple[str, str, frozenset[str]]] = []
    for route in desk.app.routes:
        if isinstance(route, Mount) or getattr(route, "path", "") in ours:
            continue
        assert isinstance(route, Route), route
        roles = route.endpoint.__dict__["scanward_roles"]
        assert roles, f"{route.path} is for everybody"
        methods = sorted((route.methods or set()) - {"HEAD"})
        found.extend((method, route.path, frozenset(roles)) for method in methods)
    return found


def filled(path: str) -> str:
    """An address with something in its places."""
    return re.sub(r"\{[a-z_]+\}", "ct1", re.sub(r"\{[a-z_]+:int\}", "1", path))


def test_every_address_names_its_roles_and_acts_are_for_operators(desk: Desk) -> None:
    found = routes(desk)
    assert {roles - set(ROLES) for _, _, roles in found} == {frozenset()}
    by_path = {path: roles for _, path, roles in found}
    for path in ("/api/scanners/{id}/tickets", "/api/scanners/{id}/acts", "/api/operator"):
        assert by_path[path] == {OPERATOR}
    for path in ("/accounts", "/accounts/add", "/accounts/change", "/configuration"):
        assert by_path[path] == {ADMINISTRATOR}


def test_nobody_gets_anything_without_signing_in(desk: Desk) -> None:
    stranger = desk.stranger()
    for method, path, _ in routes(desk):
        place = filled(path)
        answer = stranger.request(method, place, headers={"X-CSRF-Token": "x"})
        if method != "GET":
            assert answer.status_code in (401, 303), (method, path, answer.status_code)
        elif "/api/" in path:
            assert answer.status_code == 401, path
        else:
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("name", sorted(PEOPLE))
def test_each_role_gets_its_own_and_nothing_else(desk: Desk, name: str) -> None:
    role = PEOPLE[name]
    browser = desk.browser(name, role)
    seen = {True: 0, False: 0}
    for method, path, roles in routes(desk):
        if path in ENDLESS and role in roles:
            continue
        place = filled(path)
        answer = browser.client.request(method, place, headers=browser.headers, content=b"")
        if role in roles:
            assert answer.status_code not in (401, 403, 405, 500), (method, path, answer.text)
        else:
            assert answer.status_code == 403, (method, path, answer.status_code)
        seen[role in roles] += 1
    assert min(seen.values()) > 2


def test_whatever_changes_something_needs_the_token_of_the_page(desk: Desk) -> None:
    browsers = [desk.browser(name, role) for name, role in PEOPLE.items()]
    for method, path, roles in routes(desk):
        if method == "GET":
            continue
        browser = next(b for b in browsers if PEOPLE[b.name] in roles)
        for headers in ({}, {"X-CSRF-Token": "x"}, {**browser.headers, "Sec-Fetch-Site": "cross-site"}):
            answer = browser.client.request(method, filled(path), headers=headers, content=b"")
            assert answer.status_code == 403, (method, path, headers)


def test_an_account_that_loses_its_role_loses_its_pages_at_once(desk: Desk) -> None:
    anna = desk.browser("anna", OPERATOR)
    assert anna.get("/api/state").status_code == 200
    desk.accounts.set_roles("anna", [ADMINISTRATOR])
    assert anna.get("/api/state").status_code in (401, 403)


@pytest.mark.parametrize("name", sorted(PEOPLE))
def test_home_is_the_first_page_of_ones_own(desk: Desk, name: str) -> None:
    browser = desk.browser(name, PEOPLE[name])
    answer = browser.get("/home")
    pages = [link for part in console_app.PARTS for link in part.LINKS]
    mine = [link.address for link in pages if PEOPLE[name] in link.role.split()]
    if mine:
        assert (answer.status_code, answer.headers["location"]) == (303, mine[0])
    else:
        assert answer.status_code == 403
    addresses = [page.address for page in pages]
    assert len(addresses) == len(set(addresses))


# --- what browsers load


def test_no_page_builds_markup_out_of_text() -> None:
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
        r"|\beval\(|new Function|setTimeout\(\s*[\"']|javascript:|srcdoc|\.setHTML"
    )
    scripts = sorted(STATIC.rglob("*.js"))
    assert [(path.name, re.findall(ways, path.read_text("utf-8"))) for path in scripts] == [
        (path.name, []) for path in scripts
    ]
    markup = r"\|\s*safe|autoescape|<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://"
    templates = sorted(TEMPLATES.rglob("*.html"))
    assert templates
    for path in templates:
        assert re.findall(markup, path.read_text("utf-8")) == [], path.name
    for path in sorted(STATIC.rglob("*")):
        if path.suffix in (".js", ".css"):
            assert re.findall(r"https?://(?!www\.w3\.org/)", path.read_text("utf-8")) == [], path.name


# --- accounts


@pytest.fixture
def eva(desk: Desk) -> Browser:
    return desk.browser("eva", ADMINISTRATOR)


def test_an_administrator_makes_an_account_that_can_sign_in(desk: Desk, eva: Browser) -> None:
    page = eva.form("/accounts/add", name="carl", **{"role-operator": "yes", "role-physicist": "yes"})
    assert page.status_code == 200
    shown = re.search(r'<strong id="passphrase">([a-z-]+)</strong>', page.text)
    assert shown
    assert shown[1] not in eva.get("/accounts").text  # shown once
    account = desk.accounts.get("carl")
    assert account is not None
    assert account.roles == {OPERATOR, PHYSICIST}
    carl = Browser(desk.stranger(), "carl", shown[1])
    assert carl.get("/api/state").status_code == 200
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("reset", {}),
        ("roles", {"role-administrator": "yes"}),
        ("operator", {"operator": "anna.k"}),
        ("sign-out", {}),
        ("unlock", {}),
        ("disable", {}),
        ("enable", {}),
        ("remove", {}),
    ],
)
def test_each_button_does_what_it_says(desk: Desk, eva: Browser, action: str, fields: dict[str, str]) -> None:
    anna = desk.browser("anna", OPERATOR)
    answer = eva.form("/accounts/change", name="anna", action=action, **fields)
    assert answer.status_code == 200, answer.text
    account = desk.accounts.get("anna")
    if action == "remove":
        assert account is None
        return
    assert account is not None
    assert account.disabled == (action == "disable")
    assert account.roles == ({ADMINISTRATOR} if action == "roles" else {OPERATOR})
    assert ("passphrase" in answer.text and 'id="passphrase"' in answer.text) == (action == "reset")
    signed_out = anna.get("/api/operator").status_code == 401
    assert signed_out == (action in ("reset", "sign-out", "disable", "enable", "roles"))
    if action == "operator":
        assert anna.get("/api/operator").json() == {"operator": "anna.k"}
    assert desk.accounts.events.newest(1)[0].kind


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "eva", "action": "remove"},
        {"name": "EVA", "action": "disable"},
        {"name": "eva", "action": "roles", "role-operator": "yes"},
        {"name": "nobody", "action": "reset"},
        {"name": "anna", "action": "roles"},
        {"name": "anna", "action": "format"},
        {"name": "anna", "action": "operator", "operator": "a\nb"},
        {"name": "nobody", "action": "operator", "operator": "x"},
    ],
)
def test_what_makes_no_sense_is_said_and_not_done(desk: Desk, eva: Browser, fields: dict[str, str]) -> None:
    desk.browser("anna", OPERATOR)
    before = [(a.name, a.roles, a.disabled, a.changed) for a in desk.accounts.all()]
    answer = eva.form("/accounts/change", **fields)
    assert answer.status_code == 422, answer.text
    assert [(a.name, a.roles, a.disabled, a.changed) for a in desk.accounts.all()] == before
    assert eva.get("/accounts").status_code == 200


def test_a_name_that_is_taken_or_no_name_is_said(desk: Desk, eva: Browser) -> None:
    for name in ("eva", "", "../x", "<b>", "a" * 65):
        answer = eva.form("/accounts/add", name=name, **{"role-operator": "yes"})
        assert answer.status_code == 422
        assert 'id="problem"' in answer.text
        assert "<b>" not in answer.text
    assert eva.form("/accounts/add", name="dora").status_code == 422  # without a role
    assert len(desk.accounts.all()) == 1


def test_text_of_others_is_text_on_the_pages(desk: Desk, eva: Browser) -> None:
    anna = desk.browser("anna", OPERATOR)
    hostile = '"><img src=x onerror=alert(1)>{{7*7}}'
    assert anna.post("/api/operator", {"operator": hostile}).status_code == 200
    page = eva.get("/accounts").text
    assert "<img" not in page
    assert "&lt;img" in page
    assert "49" not in re.findall(r'name="operator" value="[^"]*"', page)[0]


def test_the_configuration_shows_where_but_no_secret(desk: Desk, eva: Browser) -> None:
    page = eva.get("/configuration").text
    assert "Scanner ct1" in page
    assert str(desk.settings.path) in page


# --- console.toml

WHOLE = """
[web]
listen = "0.0.0.0:8443"
hosts = ["console.example"]
certificate = "console.pem"
key = "console.key"
idle = 30
[[scanner]]
id = "ct1"
name = "CT 1"
control = "run/control.sock"
audit = "audit/"
audit_keys = ["log.pub"]
bundle = "scanner-1"
bundle_keys = ["site.pub"]
[[scanner]]
id = "ct2"
name = "CT 2"
control = "[2001:db8::9]:4712"
[scanner.tls]
certificate = "console-guard.pem"
key = "console-guard.key"
authority = "authority.pem"
name = "guard-2.example"
"""


def test_a_whole_configuration(tmp_path: Path) -> None:
    found = settings_in(tmp_path, WHOLE)
    assert found.web.listen == ("0.0.0.0", 8443)
    assert found.web.certificate == tmp_path / "console.pem"
    assert found.web.idle_seconds == 1800.0
    assert found.web.state == tmp_path / "state"
    first, second = found.scanners
    assert first.control.local
    assert first.control.socket == tmp_path / "run/control.sock"
    assert first.bundle == tmp_path / "scanner-1"
    assert not second.control.local
    assert second.control.address == ("2001:db8::9", 4712)
    assert second.control.tls is not None
    assert second.control.tls.authority == tmp_path / "authority.pem"
    assert load_settings(tmp_path / "console.toml") == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('listen = "0.0.0.0:8443"', "", "'listen' is missing"),
        ('listen = "0.0.0.0:8443"', 'listen = "8443"', "line 3"),
        ('listen = "0.0.0.0:8443"', 'listn = "0.0.0.0:8443"', "did you mean"),
        ('key = "console.key"\nidle', "idle", "give both"),
        ("idle = 30", "idle = 0", "out of range"),
        ("idle = 30", 'certificat = "x"', "unknown key"),
        ('hosts = ["console.example"]', 'hosts = ["https://x/"]', "no name of a host"),
        ('id = "ct2"', 'id = "ct1"', "stands twice"),
        ('id = "ct2"', 'id = "../x"', "another form"),
        ('name = "CT 2"', 'name = " "', "another form"),
        ('bundle_keys = ["site.pub"]', "", "whose bundles count"),
        ("[scanner.tls]", "[scanner.tsl]", "without TLS"),
        ('name = "guard-2.example"', "", "'name' is missing"),
        ('name = "guard-2.example"', 'name = "a b"', "is none"),
        ('control = "[2001:db8::9]:4712"', 'control = "nowhere"', "no address"),
        ("[[scanner]]", "[[scaner]]", "needs tables"),
        ("[web]", "[wbe]", "'web' is missing"),
    ],
)
def test_every_mistake_is_named_with_its_cure(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(SettingsError) as refused:
        parse_settings(WHOLE.replace(old, new).encode(), tmp_path / "console.toml")
    assert said in str(refused.value)
    assert refused.value.todo
    assert str(tmp_path / "console.toml") in refused.value.where


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")


# --- the command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def done(*arguments: object) -> Any:
    """What a command prints with --json."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_accounts_at_the_command_line(tmp_path: Path) -> None:
    config = settings_in(tmp_path, console_toml({"ct1": tmp_path / "c"})).path
    base = ("console", "accounts")
    made = done(*base, "add", "anna", "--role", "operator", "--operator", "anna.k", "--config", config)
    assert re.fullmatch(r"([a-z]{5}-){4}[a-z]{5}", made["passphrase"])
    (row,) = done(*base, "list", "--config", config)["accounts"]
    assert (row["name"], row["roles"], row["operator"]) == ("anna", ["operator"], "anna.k")
    again = done(*base, "reset", "anna", "--config", config)
    assert again["passphrase"] != made["passphrase"]
    done(*base, "roles", "anna", "--role", "physicist", "--role", "administrator", "--config", config)
    done(*base, "unlock", "anna", "--config", config)
    (row,) = done(*base, "list", "--config", config)["accounts"]
    assert row["roles"] == ["administrator", "physicist"]
    done(*base, "remove", "anna", "--config", config)
    assert done(*base, "list", "--config", config)["accounts"] == []
    assert (tmp_path / "state" / "accounts.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "anna"],
        ["add"],
        ["add", "anna"],
        ["reset", "anna", "--role", "operator"],
        ["reset", "anna", "--operator", "x"],
        ["add", "anna", "--role", "king"],
        ["reset", "nobody"],
        ["add", "a b", "--role", "operator"],
    ],
)
def test_what_makes_no_sense_at_the_command_line_is_one_error(tmp_path: Path, arguments: list[str]) -> None:
    config = settings_in(tmp_path, console_toml({"ct1": tmp_path / "c"})).path
    with pytest.raises(SystemExit) as ended:
        cli.main(["console", "accounts", *arguments, "--config", str(config)])
    assert ended.value.code == 2


def test_check_says_what_cannot_be_used(guard: Running, tmp_path: Path) -> None:
    config = settings_in(tmp_path, console_toml({"ct1": guard.path})).path
    found = done("console", "--config", config, "--check")
    assert found["ok"] is True
    assert [look["name"] for look in found["looks"]] == ["accounts", "scanner ct1"]
    assert "CT 1, clinical routine" in found["looks"][1]["found"]
    broken = console_toml({"ct1": guard.path, "ct2": tmp_path / "nobody"}, each='audit = "nothing"')
    config.write_text(broken, "utf-8")
    result = run("console", "--config", config, "--check", "--json")
    assert result.exit_code == 2
    looks = {look["name"]: look["error"] for look in json.loads(result.stdout)["looks"]}
    assert looks["scanner ct1"] == ""
    assert "no guard answers" in looks["scanner ct2"]
    assert "no such folder" in looks["audit ct1"]
    hook = '[[alert]]\nname = "pager"\nto = "webhook"\nurl = "https://pager.example/alerts"\n'
    config.write_text(console_toml({"ct1": guard.path}, hook), "utf-8")
    found = {look["name"]: look["found"] for look in done("console", "--config", config, "--check")["looks"]}
    assert "pager.example" in found["alerts pager"]
    assert "not tried" in found["alerts pager"]  # nobody is paged by a look
    config.write_text(console_toml({"ct1": guard.path}, '[[alert]]\nkind = "pigeon"\n'), "utf-8")
    with pytest.raises(SystemExit) as ended:
        cli.main(["console", "--config", str(config), "--check"])
    assert ended.value.code == 2


def test_a_group_without_a_configuration_says_what_it_needs() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["console"])
    assert ended.value.code == 2


def test_numbers_of_thousands_of_digits_are_no_command(desk: Desk) -> None:
    for number in ("9" * 5000, "9" * 18, "0x1", "１", "-1"):
        assert desk.browser("max", PHYSICIST).get(f"/history/commands/{number}").status_code == 404
        assert (
            desk.stranger().get(f"/history/commands/{number}").status_code == 303
        )  # to sign in, whatever it is


@pytest.mark.parametrize("typed", ["eva", "EVA", " eva", "eva  ", "\teva"])
@pytest.mark.parametrize("action", ["remove", "disable", "roles"])
def test_nobody_locks_himself_out_however_he_types_his_name(desk: Desk, typed: str, action: str) -> None:
    eva = desk.browser("eva", ADMINISTRATOR)
    more = {"role-operator": "on"} if action == "roles" else {}
    assert eva.form("/accounts/change", name=typed, action=action, **more).status_code == 422
    kept = desk.accounts.get("eva")
    assert kept is not None
    assert ADMINISTRATOR in kept.roles
