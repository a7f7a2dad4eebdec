"""The console's description of its addresses, held against the routes, and against the real console by schemathesis.

What schemathesis makes of the description, right and wrong, goes over a socket to ``scanward console`` in a process of
its own with a real guard behind it: no failure of the server, no answer that is not described.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from starlette.routing import Route

from _console import Desk, console_toml, served_console, settings_in
from _web import CHEAP, csrf_of_page
from scanward.console.openapi import description
from scanward.web.accounts import Accounts
from test_guard_control import Running, running

ENDLESS = "/api/events"
PEOPLE = {"anna": "operator", "max": "physicist", "eva": "administrator"}
LEFT_OUT = ("ignored_auth",)  # strangers are asked for themselves


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("guard") / "ct1.sock") as made:
        yield made


@pytest.fixture(scope="module")
def desk(guard: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with Desk(tmp_path_factory.mktemp("desk"), {"ct1": guard.path}) as made:
        yield made


@dataclass(frozen=True)
class Served:
    """The real console, and somebody's session with it."""

    address: str
    passwords: dict[str, str]

    def session(self, name: str) -> tuple[requests.Session, dict[str, str]]:
        session = requests.Session()
        token = csrf_of_page(session.get(f"{self.address}/sign-in").text)
        given = {"csrf_token": token, "name": name, "password": self.passwords[name], "next": "/"}
        answer = session.post(f"{self.address}/sign-in", data=given, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        csrf = session.get(f"{self.address}/api/session").json()["csrf_token"]
        return session, {"X-CSRF-Token": csrf}


@pytest.fixture(scope="module")
def served(guard: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    found = settings_in(folder, console_toml({"ct1": guard.path}))
    with Accounts(found.web.accounts, CHEAP) as accounts:
        passwords = {name: accounts.add(name, [role]) or "" for name, role in PEOPLE.items()}
    with served_console(folder / "console.toml") as (address, _):
        yield Served(address, passwords)


def test_every_address_for_programs_is_described_and_no_other(desk: Desk) -> None:
    routes = {
        (route.path, method.lower())
        for route in desk.app.routes
        if isinstance(route, Route) and route.path.startswith("/api/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = desk.browser("eva", "administrator").get("/api/openapi.json").json()
    assert {(path, method) for path, item in told["paths"].items() for method in item} == routes
    assert told == json.loads(json.dumps(description("scanward-console-session")))


def without_keys() -> dict[str, Any]:
    """The description without session and CSRF token: whoever asks has both, right ones; that is tested elsewhere."""
    told: dict[str, Any] = json.loads(json.dumps(description("")))
    del told["security"], told["components"]["securitySchemes"]
    for item in told["paths"].values():
        for operation in item.values():
            kept = [p for p in operation.get("parameters", ()) if p["in"] != "header"]
            operation["parameters"] = kept
    return told


def whole(body: Any) -> Any:
    """760.0 is an integer to JSON Schema, and none to a guard, which reads what was signed letter by letter."""
    if isinstance(body, dict):
        return {key: whole(value) for key, value in body.items()}
    return int(body) if isinstance(body, float) and body.is_integer() else body


@dataclass
class Asking:
    """Somebody who asks, and what was answered."""

    address: str
    session: requests.Session
    headers: dict[str, str]
    answers: list[tuple[str, int]] = field(default_factory=list)

    def all_of(self, operation: Any, mode: GenerationMode) -> None:
        """Ten requests; each answer is held against the description."""

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            if "id" in (case.path_parameters or {}) and len(self.answers) % 3:
                case.path_parameters["id"] = "ct1"  # a scanner that is there, most of the time
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                case.body = whole(case.body)
            answer = case.call(base_url=self.address, session=self.session, headers=self.headers)
            self.answers.append((case.path, answer.status_code))
            case.validate_response(answer)

        ask()


@pytest.mark.parametrize("name", [*PEOPLE, "nobody"])
def test_what_is_described_is_what_is_answered(served: Served, name: str) -> None:
    session, headers = (requests.Session(), {}) if name == "nobody" else served.session(name)
    config = schemathesis.Config.from_dict({"checks": {check: {"enabled": False} for check in LEFT_OUT}})
    schema = schemathesis.openapi.from_dict(without_keys(), config=config)
    asking = Asking(served.address, session, headers)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue
        asking.all_of(operation, GenerationMode.POSITIVE)
        raw = operation.definition.raw
        if raw.get("parameters") or raw.get("requestBody"):  # nothing to get wrong otherwise
            asking.all_of(operation, GenerationMode.NEGATIVE)
    asked = asking.answers
    statuses = {status for _, status in asked}
    assert len({path for path, _ in asked}) == len(description("")["paths"]) - 1
    expected = {"anna": {200, 201, 403, 422}, "max": {200, 403}, "eva": {200, 403}, "nobody": {401}}[name]
    assert expected <= statuses, statuses
    assert max(statuses) < 500 or name == "anna"  # 503: all tickets to a guard are taken
    assert session.get(f"{served.address}/api/session").status_code == (401 if name == "nobody" else 200)


def test_an_answer_that_is_not_described_is_found(served: Served) -> None:
    """The test above bites: with a description that lies, it fails."""
    told = description("scanward-console-session")
    told = json.loads(json.dumps(told))
    told["paths"] = {"/api/operator": {"get": told["paths"]["/api/operator"]["get"]}}
    content = told["paths"]["/api/operator"]["get"]["responses"]["200"]["content"]["application/json"]
    content["schema"]["properties"]["operator"] = {"type": "integer"}
    session, headers = served.session("anna")
    (result,) = schemathesis.openapi.from_dict(told).get_all_operations()
    case = result.ok().Case()
    answer = case.call(base_url=served.address, session=session, headers=headers)
    with pytest.raises(BaseException, match="is not of type"):
        case.validate_response(answer)
