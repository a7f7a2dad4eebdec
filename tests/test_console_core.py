"""The console between browsers and guards: what is shown is the guard's, and only signed acts go through."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _console import Browser, Desk, until
from _guard import ANNA, BERT, CARL, STRANGER, Bench, answer, policy, policy_text
from _stream import Authority
from scanward.commands import Mode
from scanward.config import CONSOLE_BOUNDS
from scanward.console import acts, link, tickets
from scanward.console.link import Watcher
from scanward.console.records import Records, Sent
from scanward.console.settings import ControlAddress
from scanward.console.state import Reach, ScannerState
from scanward.console.wire import Wire, said
from scanward.errors import DecodeError, InputError, LinkError
from scanward.guard.control_lines import encode
from scanward.guard.operators import Act, ActKind
from scanward.transport.tls import server_context
from test_guard_control import Running, held, running

QUICK = replace(
    CONSOLE_BOUNDS,
    silent_seconds=0.5,
    lost_seconds=1.2,
    ping_seconds=0.1,
    snapshot_seconds=0.1,
    connect_seconds=1.0,
    reconnect_seconds=0.05,
    reconnect_most=0.1,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "ct1.sock") as made:
        yield made


@pytest.fixture
def desk(guard: Running, tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path, {"ct1": guard.path}) as made:
        yield made


@pytest.fixture
def anna(desk: Desk) -> Browser:
    return desk.browser("anna", "operator")


# --- a scanner's state (pure)


def hold() -> dict[str, Any]:
    """A hold as it comes over the wire."""
    found: dict[str, Any] = json.loads(encode(held(Bench())))
    return found


def test_what_is_shown_is_recomputed_and_not_believed() -> None:
    state = ScannerState("ct1", "CT 1")
    told = hold()
    state.event("held", told, 100.0)
    assert state.held is not None
    assert state.held["shown_ok"] is True
    forged = json.loads(json.dumps(told))
    forged["chain"][0]["command"]["parameters"]["KVP"] = 80.0
    for wrong in (
        forged,
        {**told, "digest": "0" * 64},
        {**told, "chain": []},
        {**told, "triggers": 2},
        {**told, "digest": None},
    ):
        state.event("held", wrong, 100.0)
        assert state.held["shown_ok"] is False, wrong


def test_a_later_state_gives_a_hold_no_more_time() -> None:
    state = ScannerState("ct1", "CT 1")
    told = hold()
    assert told["seconds"] == 60.0
    state.event("held", told, 100.0)
    assert state.held is not None
    assert state.held["until"] == 160.0
    state.snapshot({"held": {**told, "seconds_left": 59.0}}, 104.0)  # 3 s on its way
    assert state.held["until"] == 160.0
    state.snapshot({"held": {**told, "seconds_left": 20.0}}, 104.0)
    assert state.held["until"] == 124.0
    state.snapshot({"held": {**told, "request": told["request"] + 1, "seconds_left": 60.0}}, 104.0)
    assert state.held["until"] == 164.0
    state.event("unheld", {"request": told["request"]}, 105.0)  # of another
    assert state.held is not None
    state.event("unheld", {"request": told["request"] + 1}, 105.0)
    assert state.held is None


def test_a_guard_that_was_started_again_is_believed_about_its_own_time() -> None:
    state, told = ScannerState("ct1", "CT 1"), {"held": {**hold(), "seconds_left": 60.0}}
    state.said_hello("p", local=True, without_key=False)
    state.snapshot(told, 1000.0)
    state.said_hello("p", local=True, without_key=False)  # its requests count from 1 again
    state.snapshot(told, 1030.0)
    assert state.held is not None
    assert state.held["until"] == 1090.0
    state.snapshot(told, 1040.0)
    assert state.held["until"] == 1090.0


def test_a_hold_of_a_guard_that_is_gone_is_shown_until_its_time_is_over() -> None:
    state = ScannerState("ct1", "CT 1")
    state.reached(Reach.UP)
    state.event("held", {**hold(), "seconds": 30.0}, 1000.0)
    assert not state.forgotten(1031.0)  # while it is heard, the guard says what became of it
    state.reached(Reach.DOWN, "no guard answers")
    assert not state.forgotten(1030.0)
    assert state.held is not None
    assert state.forgotten(1030.1)
    assert state.held is None


def test_a_patients_name_is_for_operators_alone_and_in_no_list() -> None:
    state = ScannerState("ct1", "CT 1")
    state.event("examination", {"examination": "e" * 16, "label": {"PatientName": "Doe^Jane"}}, 1.0)
    assert "Doe^Jane" in json.dumps(state.as_json(labels=True))
    assert "Doe^Jane" not in json.dumps(state.as_json(labels=False))
    assert state.as_json(labels=False)["examination"] == {"examination": "e" * 16}
    assert list(state.events) == []
    state.snapshot({"examination": {"label": {"PatientName": "Doe^Jane"}}}, 2.0)
    assert "Doe^Jane" not in json.dumps(state.as_json(labels=False))


def test_events_are_few_and_short() -> None:
    state = ScannerState("ct1", "CT 1")
    for number in range(200):
        state.event("alert", {"reason": "x" * 10_000, "number": number}, 1.0)
    shown = state.as_json(labels=False)["events"]
    assert len(shown) == CONSOLE_BOUNDS.events
    assert all(len(json.dumps(event)) < CONSOLE_BOUNDS.event_bytes for event in shown)
    state.event("held", hold(), 1.0)
    assert "chain" not in state.as_json(labels=False)["events"][-1]["data"]


@given(JSON, JSON, st.text(max_size=12))
def test_any_line_of_a_guard_is_a_state_that_can_be_shown(told: Any, more: Any, kind: str) -> None:
    raw = json.dumps({"type": "event", "kind": kind, "data": {"held": told, "chain": more}}).encode()
    try:
        line = said(raw, "here")
    except DecodeError:
        return
    state = ScannerState("ct1", "CT 1")
    for data in (line["data"], {"chain": told, "seconds": more, "request": 1}, {"motion": told}):
        cleaned = said(json.dumps(data).encode(), "here")
        state.event("held", cleaned, 1.0)
        assert state.held is not None
        assert state.held["shown_ok"] is False
        state.event(kind, cleaned, 1.0)
        whole = {"held": data, "gate": told, "alerts": more, "examination": data}
        state.snapshot(said(json.dumps(whole).encode(), "here"), 1.0)
        text = json.dumps(state.as_json(labels=True), allow_nan=False)
        text.encode("utf-8")
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")  # no half characters either


@given(st.binary(max_size=80))
def test_any_bytes_are_a_line_or_our_error(raw: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert isinstance(said(raw, "here"), dict)


@pytest.mark.parametrize(
    "raw", [b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40, b"[]", b"1", b'"x"', b"\xff", b""]
)
def test_what_no_guard_says_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        said(raw, "here")


def test_numbers_and_texts_that_browsers_cannot_read_are_left_out() -> None:
    line = said(b'{"a":NaN,"b":1e999,"c":1' + b"0" * 40 + b',"d":"\\ud800x"}', "here")
    assert line == {"a": None, "b": None, "c": None, "d": "�x"}


# --- watching


def watched(path: Path, seconds: float, until_reach: tuple[Reach, ...]) -> ScannerState:
    """Watch a socket until its state was each of ``until_reach`` in turn."""
    state = ScannerState("x", "X")
    waited = list(until_reach)

    def changed() -> None:
        if waited and state.reach is waited[0]:
            waited.pop(0)

    async def run() -> None:
        task = asyncio.create_task(
            Watcher(state, ControlAddress(socket=path), changed, time.time, None, QUICK).run()
        )
        end = time.monotonic() + seconds
        while waited and not task.done():
            assert time.monotonic() < end, (waited, state.reach, state.why)
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return state


def test_a_hold_is_shown_and_so_is_its_end(desk: Desk, anna: Browser, guard: Running) -> None:
    until(lambda: anna.state("ct1")["link"] == "up")
    assert anna.state("ct1")["policy"]["name"] == "CT 1, clinical routine"
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    assert shown["shown_ok"] is True
    assert shown["chain"][0]["command"]["parameters"]["KVP"] == 120.0
    assert 0.0 < shown["until"] - desk.console.clock() <= 60.0
    assert "held" in {event["kind"] for event in anna.state("ct1")["events"]}
    until(lambda: anna.state("ct1")["gate"]["hold"] == shown["request"])  # the state follows the event
    guard.run(lambda: guard.bench.pass_time(61.0))
    until(lambda: anna.state("ct1")["held"] is None)


def test_a_guard_that_hangs_is_silent_and_comes_back(guard: Running) -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(20)

    threading.Timer(0.3, lambda: guard.loop.call_soon_threadsafe(hang)).start()
    threading.Timer(1.2, release.set).start()
    state = watched(guard.path, 20.0, (Reach.UP, Reach.SILENT, Reach.UP))
    assert state.why == ""


def test_silence_is_promised_within_five_seconds() -> None:
    bounds = CONSOLE_BOUNDS
    # the last sign of life may be a ping old, and the watcher looks each half snapshot
    assert bounds.silent_seconds + bounds.snapshot_seconds / 2 + bounds.ping_seconds < 5.0
    assert bounds.silent_seconds > 2 * bounds.ping_seconds  # one answer that is late is no silence
    per_ten = 10.0 / bounds.snapshot_seconds
    from scanward.config import CONTROL_BOUNDS

    assert per_ten < CONTROL_BOUNDS.acts  # else the guard takes the watcher for a script
    assert bounds.tickets_local + 2 <= CONTROL_BOUNDS.clients_per_user  # the watcher, and a terminal
    assert bounds.tickets_network + 2 <= CONTROL_BOUNDS.network_clients
    assert bounds.ping_seconds < CONTROL_BOUNDS.idle_seconds


def test_a_guard_that_hangs_for_long_is_down(guard: Running) -> None:
    release = threading.Event()
    threading.Timer(0.3, lambda: guard.loop.call_soon_threadsafe(lambda: release.wait(20) and None)).start()
    state = watched(guard.path, 20.0, (Reach.UP, Reach.SILENT, Reach.DOWN))
    release.set()
    assert state.why


def test_a_hold_does_not_outlive_its_time_where_nobody_answers(tmp_path: Path) -> None:
    state, told = ScannerState("ct1", "CT 1"), []
    state.event("held", {**hold(), "seconds": 0.3}, time.time())
    address = ControlAddress(socket=tmp_path / "nobody")
    watcher = Watcher(state, address, lambda: told.append(state.held), time.time, bounds=QUICK)

    async def watch() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20.0):
                task = asyncio.create_task(watcher.run())
                while state.held is not None:
                    await asyncio.sleep(0.02)
                task.cancel()

    asyncio.run(watch())
    assert state.held is None
    assert told[0] is not None
    assert told[-1] is None


def test_a_guard_is_found_again_after_its_restart(tmp_path: Path) -> None:
    path = tmp_path / "c"
    first = threading.Event()

    def life() -> None:
        with running(path):
            first.set()
            time.sleep(0.6)
        time.sleep(0.3)
        with running(path):
            time.sleep(1.5)

    thread = threading.Thread(target=life)
    thread.start()
    first.wait(20)
    watched(path, 20.0, (Reach.UP, Reach.DOWN, Reach.UP))
    thread.join(20)


@pytest.mark.parametrize(
    ("line", "reach"),
    [
        (b"SSH-2.0\r\n", Reach.REFUSED),
        (b"[]\n", Reach.REFUSED),
        (b'{"type":"hello","protocol":9}\n', Reach.REFUSED),
        (b'{"type":"hello","protocol":1,"policy":1,"nonce":2}\n', Reach.REFUSED),
        (
            b'{"type":"hello","protocol":1,"policy":"p","nonce":"n"}\n{"type":"snapshot","state":7}\n',
            Reach.DOWN,
        ),
        (b'{"type":"error","what":"too many clients","todo":"wait"}\n', Reach.DOWN),
        (b"x" * (CONSOLE_BOUNDS.line_bytes + 10), Reach.REFUSED),
        (b"", Reach.DOWN),
    ],
)
def test_who_is_no_guard_is_shown_as_that(tmp_path: Path, line: bytes, reach: Reach) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c"))
        server.listen()
        over = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not over.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                with peer:
                    try:
                        peer.sendall(line)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        state = watched_reach(tmp_path / "c", reach)
        over.set()
        thread.join(20)
    assert state.why
    assert state.held is None


def watched_reach(path: Path, reach: Reach) -> ScannerState:
    """The state of what is watched, once it was tried."""
    state = ScannerState("x", "X")

    async def run() -> None:
        watcher = Watcher(state, ControlAddress(socket=path), lambda: None, time.time, None, QUICK)
        task = asyncio.create_task(watcher.run())
        end = time.monotonic() + 20.0
        while state.why == "not reached yet" or state.reach is not reach:
            assert time.monotonic() < end, (state.reach, state.why)
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return state


def test_a_bug_in_watching_never_leaves_a_scanner_that_looks_alive(
    guard: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Watcher, line: dict[str, Any]) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Watcher, "_take", broken)
    monkeypatch.setattr(link, "CONSOLE_BOUNDS", QUICK)
    with caplog.at_level(logging.CRITICAL), Desk(tmp_path, {"ct1": guard.path}) as desk:
        browser = desk.browser("anna", "operator")
        until(lambda: browser.state("ct1")["link"] == "refused")
        assert "tries again" in browser.state("ct1")["link_reason"]
        monkeypatch.undo()
        until(lambda: browser.state("ct1")["link"] == "up")
    assert "watching ct1 ended" in caplog.text


def test_over_tls_the_guard_is_known_by_its_name(guard: Running, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ca")
    listening = guard.server.listen_tls("127.0.0.1", 0, server_context(ours.files("guard-1")))
    port = asyncio.run_coroutine_threadsafe(listening, guard.loop).result(20)
    files = ours.files("console")

    async def opened(name: str) -> dict[str, Any]:
        wire = await Wire.open(ControlAddress(address=("127.0.0.1", port), tls=files, name=name))
        wire.close()
        await asyncio.sleep(0)
        return {"local": wire.hello.local, **wire.state}

    found = asyncio.run(opened("guard-1"))
    assert found["local"] is False
    assert found["policy"]["name"] == "CT 1, clinical routine"
    with pytest.raises(LinkError, match="not one we know"):
        asyncio.run(opened("guard-2"))
    stranger = Authority(tmp_path / "other").files("console")
    files = replace(stranger, authority=ours.path)  # a certificate that the guard's authority did not sign
    with pytest.raises(LinkError):
        asyncio.run(opened("guard-1"))


# --- acts


def test_a_release_signed_in_the_browser_reaches_the_gantry(
    anna: Browser, guard: Running, desk: Desk
) -> None:
    guard.run(lambda: held(guard.bench))
    answer = anna.act("ct1", ActKind.RELEASE, ANNA)
    assert (answer.status_code, answer.json()) == (200, {"done": True, "reason": ""})
    assert guard.run(lambda: guard.bench.view().armed) == "L1"
    acted = [data for kind, data in guard.audit if kind == "act"]
    assert [(one["operator"], one["act"], one["done"]) for one in acted] == [("anna", "release", True)]
    (sent,) = acts.desk_of(desk.console).records.newest()
    assert (sent.account, sent.operator, sent.scanner, sent.act, sent.done) == (
        "anna",
        "anna",
        "ct1",
        "release",
        True,
    )


def test_a_refusal_keeps_the_command_from_the_gantry(anna: Browser, guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    assert anna.act("ct1", ActKind.REFUSE, ANNA, "wrong patient").json()["done"] is True
    assert guard.bench.to_gantry == []
    until(lambda: anna.state("ct1")["held"] is None)


def test_two_persons_release_each_in_his_own_browser(tmp_path: Path) -> None:
    site = policy(policy_text() + '\n[two_persons]\ndisputes = ["PatientAge"]\n')
    with running(tmp_path / "c", Bench(site)) as guard, Desk(tmp_path, {"ct1": guard.path}) as desk:
        anna, bert = desk.browser("anna", "operator"), desk.browser("bert", "operator")

        def load() -> None:
            guard.bench.judge = [answer(disputed=True)]
            guard.bench.load()

        guard.run(load)
        shown = bert.held("ct1")
        assert (shown["persons"], shown["released_by"]) == (2, [])
        call = Act(ActKind.CALL, "anna", shown["request"], shown["digest"])
        assert anna.send("ct1", anna.ticket("ct1"), call, ANNA).json()["done"] is True
        until(lambda: bert.held("ct1")["called"] == ["anna"])
        assert anna.act("ct1", ActKind.RELEASE, ANNA, "seen").json()["done"] is True
        until(lambda: bert.held("ct1")["released_by"] == [{"operator": "anna", "reason": "seen"}])
        assert guard.bench.to_gantry == []
        assert anna.act("ct1", ActKind.RELEASE, ANNA).json()["done"] is False  # the same person again
        assert guard.bench.to_gantry == []
        assert bert.act("ct1", ActKind.RELEASE, BERT, "I agree").json()["done"] is True
        assert guard.run(lambda: guard.bench.view().armed) == "L1"


def test_who_decided_or_called_is_shown_at_once() -> None:
    state = ScannerState("ct1", "CT 1")
    told = hold()
    state.event("held", told, 1.0)
    state.event("called", {"request": told["request"], "operator": "anna"}, 1.0)
    state.event("called", {"request": told["request"], "operator": "bert"}, 1.0)
    state.event("called", {"request": told["request"], "operator": "anna"}, 1.0)
    state.event("one_of_two", {"request": told["request"], "operator": "anna", "reason": "seen"}, 1.0)
    assert state.held is not None
    assert state.held["called"] == ["bert", "anna"]
    assert state.held["released_by"] == [{"operator": "anna", "reason": "seen"}]
    assert state.held["shown_ok"] is True
    state.event("released", {"request": told["request"]}, 1.0)
    assert state.held is None


def test_a_ticket_is_for_one_act(anna: Browser, guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    act = Act(ActKind.REFUSE, "anna", shown["request"], shown["digest"], "no")
    ticket = anna.ticket("ct1")
    assert anna.send("ct1", ticket, act, ANNA).json()["done"] is True
    again = anna.send("ct1", ticket, act, ANNA)
    assert again.status_code == 409
    assert "another ticket" in again.json()["todo"]
    assert guard.kinds().count("act") == 1


def test_a_ticket_is_for_the_session_that_took_it(anna: Browser, desk: Desk, guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
    elsewhere = desk.browser("anna", "operator")  # the same account at another computer
    ticket = anna.ticket("ct1")
    assert elsewhere.send("ct1", ticket, act, ANNA).status_code == 409
    assert guard.kinds().count("act") == 0
    assert anna.send("ct1", ticket, act, ANNA).json()["done"] is True


def test_a_new_ticket_ends_the_one_before(anna: Browser, guard: Running, desk: Desk) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    act = Act(ActKind.REFUSE, "anna", shown["request"], shown["digest"], "no")
    first = anna.ticket("ct1")
    second = anna.ticket("ct1")
    assert first["nonce"] != second["nonce"]
    assert anna.send("ct1", first, act, ANNA).status_code == 409
    assert desk.run(lambda: acts.desk_of(desk.console).tickets.open) == 1
    assert anna.send("ct1", second, act, ANNA).json()["done"] is True
    assert desk.run(lambda: acts.desk_of(desk.console).tickets.open) == 0


def test_a_ticket_grows_old(guard: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        acts, "Tickets", lambda words: tickets.Tickets(words, replace(CONSOLE_BOUNDS, ticket_seconds=0.1))
    )
    with Desk(tmp_path, {"ct1": guard.path}) as desk:
        browser = desk.browser("anna", "operator")
        guard.run(lambda: held(guard.bench))
        shown = browser.held("ct1")
        ticket = browser.ticket("ct1")
        until(lambda: desk.run(lambda: acts.desk_of(desk.console).tickets.open) == 0)
        act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
        assert browser.send("ct1", ticket, act, ANNA).status_code == 409
    assert guard.bench.to_gantry == []


def test_what_was_signed_cannot_be_changed_on_the_way(anna: Browser, guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    good = Act(ActKind.REFUSE, "anna", shown["request"], shown["digest"], "no")
    changed = {
        "act": "release",
        "operator": "anna",
        "request": shown["request"],
        "shown": shown["digest"],
        "reason": "no",
    }
    answer = anna.send("ct1", anna.ticket("ct1"), good, ANNA, act=changed).json()
    assert answer == {"done": False, "reason": "the signature does not hold"}
    answer = anna.send("ct1", anna.ticket("ct1"), good, STRANGER).json()
    assert answer["done"] is False
    assert guard.bench.to_gantry == []
    assert "control_wrong" in guard.kinds()


def test_the_guard_and_not_the_console_says_who_may(desk: Desk, guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    carl = desk.browser("carl", "operator")  # whose policy says: refuse alone
    answer = carl.act("ct1", ActKind.RELEASE, CARL).json()
    assert answer == {"done": False, "reason": "carl may not release"}
    assert carl.act("ct1", ActKind.REFUSE, CARL).json()["done"] is True


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"signature": ""}, 422),
        ({"signature": "0" * 127}, 422),
        ({"signature": None}, 422),
        ({"act": None}, 422),
        ({"act": {"act": "stop"}}, 422),
        ({"act": {"act": "release", "more": 1}}, 422),
        ({"act": {"act": "release", "request": -1}}, 422),
        ({"act": {"act": "release", "request": 1.5}}, 422),
        ({"act": {"act": "release", "minutes": True}}, 422),
        ({"act": {"act": "refuse", "operator": "bert", "request": 1}}, 403),
        ({"act": {"act": "refuse", "operator": "", "request": 1}}, 403),
        ({"act": {"act": "mode", "operator": "anna", "mode": "QA"}}, 403),
        ({"act": {"act": "emergency", "operator": ""}}, 403),
        ({"ticket": "x"}, 409),
        ({"ticket": None}, 409),
        ({"ticket": "\ud800"}, 409),
        ({"more": 1}, 422),
    ],
)
def test_what_no_page_of_ours_sends_goes_no_further(
    anna: Browser, guard: Running, change: dict[str, Any], status: int
) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    act = Act(ActKind.REFUSE, "anna", shown["request"], shown["digest"], "no")
    answer = anna.send("ct1", anna.ticket("ct1"), act, ANNA, **change)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "what", "where", "todo"}
    assert "act" not in guard.kinds()


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b"\xff", b"[" * 5000, b'{"a":1}', b'{"ticket":"x"}', b"x" * 9000),
        rb'{"operator":"\ud800"}',
    ],
)
def test_any_body_is_answered_in_the_houses_shape(anna: Browser, body: bytes) -> None:
    for path in ("/api/scanners/ct1/acts", "/api/operator"):
        answer = anna.client.post(path, content=body, headers=anna.headers)
        assert answer.status_code in (413, 422), (path, answer.text)
        assert set(answer.json()) == {"error", "what", "where", "todo"}


def test_emergency_access_without_a_key_is_for_the_guards_own_terminal(tmp_path: Path) -> None:
    text = policy_text().replace("[emergency]", "[emergency]\nunsafe_without_key = true")
    site = policy(text)
    assert site.emergency.unsafe_without_key
    with running(tmp_path / "c", Bench(site)) as guard, Desk(tmp_path, {"ct1": guard.path}) as desk:
        browser = desk.browser("anna", "operator")
        ticket = browser.ticket("ct1")
        document = {"act": "emergency", "operator": "", "reason": "trauma"}
        for signature in ("", "0" * 128):
            answer = browser.post(
                "/api/scanners/ct1/acts",
                {"ticket": ticket["ticket"], "act": document, "signature": signature},
            )
            assert answer.status_code in (403, 422)
        assert guard.bench.view().emergency_until == 0.0
        signed_one = Act(ActKind.EMERGENCY, "anna", reason="trauma")
        assert browser.send("ct1", browser.ticket("ct1"), signed_one, ANNA).json()["done"] is True
        assert guard.bench.view().emergency_until > 0.0


def test_the_mode_is_not_set_from_a_browser(desk: Desk, guard: Running) -> None:
    bert = desk.browser("bert", "operator")  # who may, at the guard
    act = Act(ActKind.MODE, "bert", mode=Mode.QA)
    answer = bert.send("ct1", bert.ticket("ct1"), act, BERT)
    assert answer.status_code == 403
    assert guard.bench.view().mode is Mode.CLINICAL


def test_a_release_of_what_is_not_shown_is_refused_here_already(
    anna: Browser, desk: Desk, guard: Running
) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")

    def forge() -> None:
        state = desk.console.scanners["ct1"]
        assert state.held is not None
        state.held["shown_ok"] = False

    desk.run(forge)
    act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
    assert anna.send("ct1", anna.ticket("ct1"), act, ANNA).status_code == 409
    desk.run(forge)
    refuse = replace(act, kind=ActKind.REFUSE)
    assert anna.send("ct1", anna.ticket("ct1"), refuse, ANNA).json()["done"] is True


def test_an_account_acts_under_its_own_operator(anna: Browser, desk: Desk, guard: Running) -> None:
    assert anna.get("/api/operator").json() == {"operator": "anna"}
    assert anna.post("/api/operator", {"operator": "bert"}).json() == {"operator": "bert"}
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    act = Act(ActKind.RELEASE, "bert", shown["request"], shown["digest"], "why")
    answer = anna.send("ct1", anna.ticket("ct1"), act, ANNA).json()  # the key decides whose act it is
    assert answer == {"done": False, "reason": "the signature does not hold"}
    assert anna.send("ct1", anna.ticket("ct1"), act, BERT).json()["done"] is True
    assert anna.post("/api/operator", {"operator": ""}).json() == {"operator": "anna"}
    assert anna.post("/api/operator", {"operator": "a\nb"}).status_code == 422
    assert anna.post("/api/operator", {"operator": 1}).status_code == 422
    kinds = [event.kind for event in desk.accounts.events.newest(5)]
    assert kinds.count("operator set") == 2


def test_many_who_decide_never_cut_the_watcher_off(desk: Desk, guard: Running) -> None:
    people = [desk.browser(f"p{number}", "operator") for number in range(3)]
    until(lambda: people[0].state("ct1")["link"] == "up")
    tickets_of = acts.desk_of(desk.console).tickets
    desk.run(lambda: setattr(tickets_of, "_bounds", replace(CONSOLE_BOUNDS, ticket_quick=0.0)))
    for _ in range(3):
        for person in people:
            person.ticket("ct1")
    assert desk.run(lambda: tickets_of.open) == CONSOLE_BOUNDS.tickets_local
    assert guard.run(lambda: guard.server.clients) == CONSOLE_BOUNDS.tickets_local + 1
    assert people[0].state("ct1")["link"] == "up"
    assert people[0].state("ct1")["events"] == []


def test_nobody_holds_all_tickets(desk: Desk, guard: Running) -> None:
    tickets_of = acts.desk_of(desk.console).tickets
    quick = replace(CONSOLE_BOUNDS, ticket_quick=60.0, ticket_wait=0.1)
    desk.run(lambda: setattr(tickets_of, "_bounds", quick))
    first, second, third = (desk.browser(name, "operator") for name in ("a", "b", "c"))
    first.ticket("ct1")
    second.ticket("ct1")
    busy = third.post("/api/scanners/ct1/tickets", {})
    assert busy.status_code == 503
    desk.run(lambda: setattr(tickets_of, "_bounds", replace(quick, ticket_quick=0.0)))
    third.ticket("ct1")  # the oldest gave way


def test_a_script_is_slowed_down(anna: Browser, desk: Desk, guard: Running) -> None:
    tickets_of = acts.desk_of(desk.console).tickets
    desk.run(lambda: setattr(tickets_of, "_bounds", replace(CONSOLE_BOUNDS, tickets_minute=3)))
    for _ in range(3):
        anna.ticket("ct1")
    assert anna.post("/api/scanners/ct1/tickets", {}).status_code == 429
    other = desk.browser("bert", "operator")
    other.ticket("ct1")


def test_a_guard_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with running(tmp_path / "c") as guard, Desk(tmp_path, {"ct1": guard.path}) as desk:
        browser = desk.browser("anna", "operator")
        guard.run(lambda: held(guard.bench))
        shown = browser.held("ct1")
        ticket = browser.ticket("ct1")
        asyncio.run_coroutine_threadsafe(guard.server.close(), guard.loop).result(20)
        until(lambda: browser.state("ct1")["link"] == "down")
        act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
        assert browser.send("ct1", ticket, act, ANNA).status_code in (409, 503)
        gone = browser.post("/api/scanners/ct1/tickets", {})
        assert gone.status_code == 503
        assert "own terminal" in gone.json()["todo"]


def test_an_act_without_an_answer_is_not_called_done_nor_undone(
    anna: Browser, desk: Desk, guard: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.run(lambda: held(guard.bench))
    shown = anna.held("ct1")
    ticket = anna.ticket("ct1")
    monkeypatch.setattr(guard.server, "_act", never)
    tickets_of = acts.desk_of(desk.console).tickets
    desk.run(lambda: setattr(tickets_of, "_bounds", replace(CONSOLE_BOUNDS, answer_seconds=0.2)))
    act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
    answer = anna.send("ct1", ticket, act, ANNA)
    assert answer.status_code == 503
    assert "not known" in answer.json()["what"]
    (sent,) = acts.desk_of(desk.console).records.newest()
    assert sent.done is None


async def never(*_: object) -> None:
    """An act that the guard took, and did not answer."""


def test_a_full_disk_here_keeps_nobody_from_refusing(
    anna: Browser, desk: Desk, guard: Running, caplog: pytest.LogCaptureFixture
) -> None:
    guard.run(lambda: held(guard.bench))
    anna.held("ct1")
    records = acts.desk_of(desk.console).records
    records._database.execute("PRAGMA query_only=ON")
    assert anna.act("ct1", ActKind.REFUSE, ANNA, "no").json()["done"] is True
    records._database.execute("PRAGMA query_only=OFF")
    assert "an act is not written down" in caplog.text
    assert "wrong patient" not in caplog.text


def test_several_scanners_each_have_their_own(tmp_path: Path) -> None:
    with (
        running(tmp_path / "a") as first,
        running(tmp_path / "b") as second,
        Desk(tmp_path, {"ct1": first.path, "ct2": second.path, "ct3": tmp_path / "nobody"}) as desk,
    ):
        anna = desk.browser("anna", "operator")
        second.run(lambda: held(second.bench))
        shown = anna.held("ct2")
        assert anna.state("ct1")["held"] is None
        until(lambda: anna.state("ct3")["link"] == "down" and "no guard" in anna.state("ct3")["link_reason"])
        act = Act(ActKind.RELEASE, "anna", shown["request"], shown["digest"], "why")
        ticket = anna.ticket("ct2")
        assert anna.send("ct1", ticket, act, ANNA).status_code == 409  # of the other scanner
        assert anna.send("ct2", ticket, act, ANNA).json()["done"] is True
        assert first.bench.to_gantry == []
        for path in ("tickets", "acts"):
            assert anna.post(f"/api/scanners/ct9/{path}", {}).status_code == 404


# --- the console's own record


def test_the_record_only_grows(tmp_path: Path) -> None:
    records = Records(tmp_path / "console.sqlite")
    try:
        records.add(Sent(1.0, "anna", "anna", "ct1", "release", 7, True, ""))
        records.add(Sent(2.0, "anna", "anna", "ct1", "refuse", 8, None, "no answer"))
        assert [one.done for one in records.newest()] == [None, True]
        for change in ("UPDATE acts SET account = 'bert'", "DELETE FROM acts"):
            with pytest.raises(Exception, match="never"):
                records._database.execute(change)
        assert (tmp_path / "console.sqlite").stat().st_mode & 0o777 == 0o600
    finally:
        records.close()
    (tmp_path / "other.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError):
        Records(tmp_path / "other.sqlite")
    with pytest.raises(InputError):
        Records(tmp_path / "nowhere" / "console.sqlite")
