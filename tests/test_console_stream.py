"""The event stream: first everything, then what changes; nobody makes another wait; who may not look is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from _console import Browser, Desk, console_toml, events_of, served_console, settings_in, until
from _guard import ANNA
from _web import CHEAP, sign_in
from scanward.config import CONSOLE_BOUNDS
from scanward.console import stream
from scanward.console.hub import Hub
from scanward.console.state import ScannerState
from scanward.guard.operators import Act, ActKind, signed
from scanward.web.accounts import Accounts
from test_guard_control import Running, held, running

QUICK = replace(
    CONSOLE_BOUNDS,
    stream_clock=0.1,
    stream_check=0.1,
    stream_send=0.3,
    stream_gap=0.02,
    streams_each=2,
    streams_account=3,
)


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "ct1.sock") as made:
        yield made


@pytest.fixture
def desk(guard: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(stream, "CONSOLE_BOUNDS", QUICK)
    with Desk(tmp_path, {"ct1": guard.path}) as made:
        yield made


class Stream:
    """A stream opened without a server: what it says comes as it is sent; ``take`` False does not take it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.ended = asyncio.Event()
        self.leave = asyncio.Event()
        self.stuck = False
        self._text = ""

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    _asked = False

    async def send(self, message: Any) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
            return
        self._text += message.get("body", b"").decode()
        *whole, self._text = self._text.split("\n\n")
        self.said += events_of(line for block in whole for line in block.split("\n"))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.said if name == kind]

    async def until(self, found: Callable[[], Any]) -> Any:
        end = asyncio.get_running_loop().time() + 20.0
        while not (value := found()):
            assert asyncio.get_running_loop().time() < end, self.said[-3:]
            await asyncio.sleep(0.01)
        return value


@asynccontextmanager
async def opened(browser: Browser, path: str = "/api/events") -> AsyncIterator[Stream]:
    """A stream with the cookies of ``browser``."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.client.cookies.items())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"cookie", cookies.encode())],
        "client": ("192.0.2.7", 50_000),
        "server": ("localhost", 80),
    }
    made = Stream()

    async def run() -> None:
        try:
            await browser.client.app(scope, made.receive, made.send)
        finally:
            made.ended.set()

    task = asyncio.create_task(run())
    try:
        yield made
    finally:
        made.leave.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)


def test_everything_first_then_what_changes_and_the_clock(desk: Desk, guard: Running) -> None:
    anna = desk.browser("anna", "operator")
    until(lambda: anna.state("ct1")["link"] == "up")

    async def watch() -> None:
        async with opened(anna) as found:
            first = await found.until(lambda: found.of("scanner"))
            assert (first[0]["id"], first[0]["link"], first[0]["held"]) == ("ct1", "up", None)
            assert found.headers[b"content-type"].startswith(b"text/event-stream")
            assert found.headers[b"cache-control"] == b"no-store"
            assert b"content-length" not in found.headers
            assert b"content-security-policy" in found.headers
            await asyncio.to_thread(guard.run, lambda: held(guard.bench))
            shown = await found.until(lambda: [s for s in found.of("scanner") if s["held"]])
            assert shown[0]["held"]["shown_ok"] is True
            await found.until(lambda: len(found.of("clock")) > 2)
            assert abs(found.of("clock")[0]["now"] - desk.console.clock()) < 60.0
            assert desk.console.hub.readers == 1
        assert desk.console.hub.readers == 0
        assert desk.console.kept[stream.__name__] == []

    desk.run(watch)


def test_who_does_not_read_is_cut_off_and_costs_the_others_nothing(desk: Desk, guard: Running) -> None:
    anna = desk.browser("anna", "operator")
    until(lambda: anna.state("ct1")["link"] == "up")

    async def watch() -> None:
        async with opened(anna) as slow, opened(anna) as quick:
            await slow.until(lambda: slow.of("scanner"))
            slow.stuck = True
            await asyncio.to_thread(guard.run, lambda: held(guard.bench))
            await quick.until(lambda: [s for s in quick.of("scanner") if s["held"]])
            await asyncio.wait_for(slow.ended.wait(), 20)
            assert desk.console.hub.readers == 1
            assert not quick.ended.is_set()

    desk.run(watch)


def test_a_burst_is_few_messages_and_the_last_state_is_among_them(desk: Desk) -> None:
    anna = desk.browser("anna", "operator")
    until(lambda: anna.state("ct1")["link"] == "up")

    async def watch() -> None:
        async with opened(anna) as found:
            await found.until(lambda: found.of("scanner"))
            state = desk.console.scanners["ct1"]
            before = len(found.of("scanner"))
            for number in range(200):
                state.event("alert", {"number": number}, 1.0)
                desk.console.hub.changed()
                await asyncio.sleep(0)  # the stream has its turn
            await found.until(lambda: found.of("scanner")[-1]["events"][-1:] == [_alert(199)])
            assert len(found.of("scanner")) - before <= 10

    desk.run(watch)


def _alert(number: int) -> dict[str, Any]:
    return {"kind": "alert", "data": {"number": number}, "at": 1.0}


@pytest.mark.parametrize("how", ["sign-out", "disable", "roles", "password"])
def test_a_stream_ends_with_what_allowed_it(desk: Desk, how: str) -> None:
    anna = desk.browser("anna", "operator")

    def end() -> None:
        if how == "sign-out":
            anna.form("/sign-out")
        elif how == "disable":
            desk.accounts.disable("anna")
        elif how == "roles":
            desk.accounts.set_roles("anna", ["administrator"])
        else:
            desk.accounts.set_password("anna")

    async def watch() -> None:
        async with opened(anna) as found:
            await found.until(lambda: found.of("scanner"))
            worker = threading.Thread(target=end)  # a client of the same loop, which this thread runs
            worker.start()
            (said,) = await found.until(lambda: found.of("end"))
            assert said == {"why": "signed out"}
            await asyncio.wait_for(found.ended.wait(), 20)
            await asyncio.to_thread(worker.join, 20)

    desk.run(watch)


def test_watching_keeps_no_sign_in_alive(desk: Desk) -> None:
    anna = desk.browser("anna", "operator")
    sessions = anna.client.app.state.sessions
    sessions.idle_seconds = 0.6

    async def watch() -> None:
        async with opened(anna) as found:
            (said,) = await found.until(lambda: found.of("end"))
            assert said == {"why": "signed out"}

    desk.run(watch)
    assert anna.get("/api/session").status_code == 401


def test_nobody_takes_all_streams(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, bert = desk.browser("anna", "operator"), desk.browser("bert", "physicist")

    async def watch() -> None:
        async with opened(anna) as one, opened(anna) as two:
            for found in (one, two):  # whoever asks at the same time is not first for being named first
                await found.until(partial(found.of, "scanner"))
            async with opened(anna) as three, opened(bert) as other:
                await three.until(lambda: three.status)
                await other.until(partial(other.of, "scanner"))
                assert three.status == 503
                monkeypatch.setattr(stream, "CONSOLE_BOUNDS", replace(QUICK, streams=3))
                async with opened(bert) as fourth:
                    await fourth.until(lambda: fourth.status)
                    assert fourth.status == 503

    desk.run(watch)


def test_signing_in_again_and_again_takes_no_more_streams(desk: Desk) -> None:
    browsers = [desk.browser("anna", "operator") for _ in range(2)]
    bert = desk.browser("bert", "operator")

    async def watch() -> None:
        async with opened(browsers[0]) as one, opened(browsers[0]) as two, opened(browsers[1]) as three:
            for found in (one, two, three):
                await found.until(partial(found.of, "scanner"))
            async with opened(browsers[1]) as fourth, opened(bert) as other:
                await fourth.until(lambda: fourth.status)
                await other.until(partial(other.of, "scanner"))
                assert (fourth.status, other.status) == (503, 200)
        async with opened(browsers[1]) as fifth:  # what was closed is free again
            await fifth.until(partial(fifth.of, "scanner"))

    desk.run(watch)


def test_the_bounds_leave_streams_for_others_and_connections_for_acts() -> None:
    connections_of_a_browser = 6  # HTTP/1.1, for one address, whatever it has open
    assert CONSOLE_BOUNDS.streams_each < connections_of_a_browser
    assert CONSOLE_BOUNDS.streams_account * 4 <= CONSOLE_BOUNDS.streams


def test_asking_for_the_head_of_a_stream_opens_none(desk: Desk) -> None:
    answer = desk.browser("anna", "operator").client.head("/api/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert desk.console.hub.readers == 0


def test_names_of_patients_are_for_operators(desk: Desk) -> None:
    anna, max_ = desk.browser("anna", "operator"), desk.browser("max", "physicist")
    told = {"examination": "e" * 16, "label": {"PatientName": "Doe^Jane"}}

    async def watch() -> None:
        async with opened(anna) as hers, opened(max_) as his:
            await hers.until(lambda: hers.of("scanner"))
            await his.until(lambda: his.of("scanner"))
            desk.console.scanners["ct1"].event("examination", told, 1.0)
            desk.console.hub.changed()
            await hers.until(lambda: (hers.of("scanner")[-1]["examination"] or {}).get("label"))
            await his.until(lambda: his.of("scanner")[-1]["examination"])
            assert "Doe" not in json.dumps(his.said)

    desk.run(watch)


def test_a_reader_takes_only_what_is_new() -> None:
    async def run() -> None:
        scanners = {name: ScannerState(name, name) for name in ("a", "b")}
        hub = Hub(scanners)
        with hub.reading(labels=True) as reader:
            assert await reader.wait(1.0)
            assert [s.id for s in reader.take()] == ["a", "b"]
            assert not await reader.wait(0.01)
            scanners["b"].event("alert", {}, 1.0)
            hub.changed()
            assert await reader.wait(1.0)
            assert [s.id for s in reader.take()] == ["b"]
            first = hub.encoded(scanners["b"], labels=True)
            assert hub.encoded(scanners["b"], labels=True) is first  # made once for all
            scanners["b"].event("alert", {}, 2.0)
            assert hub.encoded(scanners["b"], labels=True) != first

    asyncio.run(run())


# --- the real process


def test_the_real_process_shows_a_hold_carries_an_act_and_stops_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "ct1.sock") as guard:
        settings = settings_in(tmp_path, console_toml({"ct1": guard.path}))
        with Accounts(settings.web.accounts, CHEAP) as accounts:
            password = accounts.add("anna", ["operator"])
            assert password is not None
            with (
                served_console(settings.path) as (address, process),
                httpx.Client(base_url=address, timeout=20.0) as client,
            ):
                token = sign_in(client, "anna", password)  # type: ignore[arg-type]
                with client.stream("GET", "/api/events") as answer:
                    said = events_of(answer.iter_lines())
                    guard.run(lambda: held(guard.bench))
                    shown = next(d for k, d in said if k == "scanner" and d["held"])["held"]
                    headers = {"X-CSRF-Token": token}
                    ticket = client.post("/api/scanners/ct1/tickets", json={}, headers=headers).json()
                    act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
                    document = {
                        "ticket": ticket["ticket"],
                        "act": {
                            "act": "release",
                            "operator": "anna",
                            "request": act.request,
                            "shown": act.shown,
                            "reason": "why",
                        },
                        "signature": signed(act, ticket["nonce"], ticket["policy"], ANNA),
                    }
                    answered = client.post("/api/scanners/ct1/acts", json=document, headers=headers)
                    assert answered.json() == {"done": True, "reason": ""}
                    next(d for k, d in said if k == "scanner" and d["gate"]["armed"] == "L1")
                    process.send_signal(signal.SIGTERM)
                    ends = [d for k, d in said if k == "end"]
                    assert ends == [{"why": "the console stops"}]
                assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "console.err").read_text()


def test_a_console_that_dies_in_the_midst_of_a_hold_changes_nothing_at_the_guard(tmp_path: Path) -> None:
    with running(tmp_path / "ct1.sock") as guard:
        settings = settings_in(tmp_path, console_toml({"ct1": guard.path}))
        with Accounts(settings.web.accounts, CHEAP) as accounts:
            password = accounts.add("anna", ["operator"])
            assert password is not None
            for life in range(2):
                with (
                    served_console(settings.path) as (address, process),
                    httpx.Client(base_url=address, timeout=20.0) as client,
                ):
                    sign_in(client, "anna", password)  # type: ignore[arg-type]
                    if life == 0:
                        guard.run(lambda: held(guard.bench))

                    def on_hold(client: httpx.Client = client) -> Any:
                        return client.get("/api/state").json()["scanners"][0]["held"]

                    shown = until(on_hold)
                    assert shown["request"] == guard.bench.view().hold
                    process.kill()
                    process.wait(20)
                assert guard.run(lambda: guard.bench.view().hold) == shown["request"]
                assert guard.bench.to_gantry == []
            guard.run(lambda: guard.bench.pass_time(61.0))  # nobody answered: refused
            assert guard.bench.view().hold == 0
            assert guard.bench.to_gantry == []
