"""The control channel: signed acts are believed, everything else is counted, bounded and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard import (
    ANNA,
    BERT,
    CARL,
    STRANGER,
    Bench,
    answer,
    policy,
)
from _stream import Authority
from scanward.commands import LayerName, Mode, Severity
from scanward.commands.wire import Injection, Load, Refused
from scanward.config import CONTROL_BOUNDS, ControlBounds
from scanward.errors import DecodeError, LinkError
from scanward.guard.control import ControlServer
from scanward.guard.control_client import ControlClient, shown_digest
from scanward.guard.control_groups import AlertGroups
from scanward.guard.control_lines import ActLine, act_line, decode, encode
from scanward.guard.events import GantrySaid
from scanward.guard.operators import RIGHTS, Act, ActKind, doubt, message, signed
from scanward.keys import SigningKey, write_pair
from scanward.transport.tls import client_context, server_context

TODAY = date(2027, 6, 1)
QUICK = replace(CONTROL_BOUNDS, wrong_seconds=0.01, wrong_longest=0.02, idle_seconds=20.0)
KEYS = {"anna": ANNA, "bert": BERT, "carl": CARL}
POLICY = policy()
DIGEST = POLICY.digest


# --- what is believed (pure)


def believed(act: Act, key: SigningKey, *, local: bool = True, today: date = TODAY, nonce: str = "n") -> str:
    why = doubt(act, signed(act, "n", DIGEST, key), nonce, DIGEST, POLICY.operators, today, local=local)
    return why.reason if why else ""


def test_an_act_that_is_signed_by_who_may_is_believed() -> None:
    assert believed(Act(ActKind.RELEASE, "anna", 7, "d", "seen and needed"), ANNA) == ""


@pytest.mark.parametrize("kind", list(ActKind))
@pytest.mark.parametrize("who", sorted(KEYS))
def test_rights_are_kept(kind: ActKind, who: str) -> None:
    allowed = bool(POLICY.operators[who].rights & RIGHTS[kind])
    assert (believed(Act(kind, who, 7, "d", "why"), KEYS[who]) == "") is allowed


CHANGES: list[dict[str, Any]] = [
    {"kind": ActKind.REFUSE},
    {"operator": "bert"},
    {"operator": "nobody"},
    {"request": 8},
    {"shown": "e"},
    {"reason": "another"},
    {"minutes": 60},
    {"mode": Mode.SERVICE},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_signature_holds_for_exactly_one_act(change: dict[str, Any]) -> None:
    act = Act(ActKind.RELEASE, "anna", 7, "d", "why", 15, Mode.QA)
    signature = signed(act, "n", DIGEST, ANNA)
    other = replace(act, **change)
    why = doubt(other, signature, "n", DIGEST, POLICY.operators, TODAY, local=True)
    assert why is not None
    assert why.forged
    for nonce, digest in (("m", DIGEST), ("n", "q" * 64), ("", DIGEST)):
        why = doubt(act, signature, nonce, digest, POLICY.operators, TODAY, local=True)
        assert why is not None
        assert why.forged
    assert doubt(act, signature, "n", DIGEST, POLICY.operators, TODAY, local=True) is None


def test_keys_expire_and_the_mode_is_set_locally() -> None:
    act = Act(ActKind.RELEASE, "anna", 7, "d", "why")
    assert believed(act, ANNA, today=date(2027, 12, 31)) == ""
    assert "good until" in believed(act, ANNA, today=date(2028, 1, 1))
    mode = Act(ActKind.MODE, "bert", mode=Mode.QA)
    assert believed(mode, BERT) == ""
    assert "terminal" in believed(mode, BERT, local=False)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_a_release_says_why(reason: str) -> None:
    assert "reason" in believed(Act(ActKind.RELEASE, "anna", 7, "d", reason), ANNA)


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 1 << 52), st.text(max_size=8))
def test_no_two_acts_are_spelled_alike(reason: str, shown: str, request: int, nonce: str) -> None:
    act = Act(ActKind.RELEASE, "anna", request, shown, reason)
    line = decode(act_line(1, act, "s"))
    assert isinstance(line, ActLine)
    assert line.act == act
    document = json.loads(message(act, nonce, DIGEST).split(b"\0", 1)[1])
    assert (document["reason"], document["shown"], document["nonce"]) == (reason, shown, nonce)


@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.builds(
        lambda d: json.dumps(d).encode(),
        st.dictionaries(
            st.sampled_from(
                ["type", "id", "act", "operator", "request", "minutes", "mode", "signature", "more"]
            ),
            st.sampled_from(
                ["act", "ping", "release", "QA", "", -1, 1, 1.5, True, None, [], {}, "\ud800", 1 << 60]
            ),
            max_size=6,
        ),
    )
)
def test_any_line_is_a_line_or_our_error(data: bytes) -> None:
    try:
        said = decode(data)
    except DecodeError:
        return
    assert type(said).__name__ in {"ActLine", "PingLine", "SnapshotLine"}


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ping","type":"ping"}',
        b'{"type":"act","minutes":NaN}',
        b'{"type":"act","id":1e400}',
        b"[1]",
        b"[" * 9000,
    ],
)
def test_hostile_lines_are_refused(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(line)


# --- what becomes of it (the desk, over the real gate)


def held(bench: Bench) -> dict[str, Any]:
    bench.judge = [answer(within=False)]
    bench.load()
    return bench.told("held")[-1]


def test_a_release_reaches_the_gantry_and_a_refusal_does_not() -> None:
    bench = Bench()
    hold = held(bench)
    assert not bench.to_gantry
    assert bench.desk.act(Act(ActKind.RELEASE, "anna", hold["request"], hold["digest"], "seen"), "anna") == ""
    assert [type(m) for m in bench.to_gantry] == [Load]
    assert bench.recorded("operator")[0]["operator"] == "anna"
    bench = Bench()
    hold = held(bench)
    assert (
        bench.desk.act(Act(ActKind.REFUSE, "anna", hold["request"], hold["digest"], "wrong patient"), "anna")
        == ""
    )
    assert bench.to_gantry == []
    assert "wrong patient" in next(m for m in bench.to_host if isinstance(m, Refused)).reason


def test_another_request_or_another_digest_is_not_released() -> None:
    bench = Bench()
    hold = held(bench)
    for request, shown in ((hold["request"] + 1, hold["digest"]), (hold["request"], "0" * 64)):
        assert bench.desk.act(Act(ActKind.RELEASE, "anna", request, shown, "why"), "anna")
    assert bench.to_gantry == []
    bench.pass_time(61.0)  # the hold ended: refused
    assert bench.desk.act(Act(ActKind.RELEASE, "anna", hold["request"], hold["digest"], "why"), "anna")
    assert bench.to_gantry == []
    assert bench.desk.snapshot()["held"] is None


def test_what_is_shown_is_what_is_signed() -> None:
    bench = Bench()
    hold = held(bench)
    seen = json.loads(encode(hold))
    assert shown_digest(seen) == hold["digest"]
    seen["chain"][0]["command"]["parameters"]["KVP"] = 80.0
    assert shown_digest(seen) != hold["digest"]
    with pytest.raises(DecodeError):
        shown_digest({"digest": hold["digest"]})


def test_the_mode_is_set_in_between_and_ends_by_itself() -> None:
    bench = Bench()
    assert (
        bench.desk.act(Act(ActKind.MODE, "bert", mode=Mode.SERVICE), "bert")
        == "the policy has no mode SERVICE"
    )
    assert bench.desk.act(Act(ActKind.MODE, "bert", mode=Mode.QA), "bert") == ""
    assert bench.view().mode is Mode.QA
    bench.pass_time(59 * 60.0)
    assert bench.view().mode is Mode.QA
    bench.pass_time(61.0)
    assert bench.view().mode is Mode.CLINICAL
    assert [m["mode"] for m in bench.told("mode")] == [Mode.QA, Mode.CLINICAL]


def test_the_mode_voids_what_is_armed_and_is_refused_once_contrast_is_given() -> None:
    bench = Bench()
    bench.load()
    assert bench.view().armed == "L1"
    assert bench.desk.act(Act(ActKind.MODE, "bert", mode=Mode.QA), "bert") == ""
    assert bench.view().armed == ""
    bench = Bench()
    bench.load()
    bench.handle(GantrySaid(Injection("L1")))
    assert bench.view().phase == "COMMITTED"
    assert bench.desk.act(Act(ActKind.MODE, "bert", mode=Mode.QA), "bert") == "an examination is under way"
    assert bench.view().mode is Mode.CLINICAL


def test_a_mode_that_ends_during_an_examination_waits_for_its_end() -> None:
    bench = Bench()
    bench.desk.act(Act(ActKind.MODE, "bert", mode=Mode.QA), "bert")
    bench.clock += 3599.0
    bench.load()
    bench.handle(GantrySaid(Injection("L1")))
    bench.pass_time(10.0)
    assert bench.view().mode is Mode.QA
    bench.pass_time(1800.0)  # the chain expires
    bench.pass_time(1.0)
    assert bench.view().mode is Mode.CLINICAL


def test_identical_alerts_are_one_line_with_a_count() -> None:
    bench = Bench()
    bench.judge = [answer({LayerName.PHYSICS: (Severity.HALT, "DLP")})]
    for _ in range(40):
        bench.load()
        bench.clock += 1.0
    assert len(bench.told("halted")) == 1
    assert [r["count"] for r in bench.told("repeated")] == [6, 11, 16, 21, 26, 31, 36]
    bench.pass_time(5.0)
    assert bench.told("repeated")[-1]["count"] == 40
    assert bench.desk.snapshot()["alerts"][0]["count"] == 40
    assert len(bench.recorded("verdict")) == 40  # the log has every one


def test_groups_tell_causes_apart_and_forget_the_oldest() -> None:
    groups = AlertGroups(2)
    assert not groups.count("alert", {"reason": "KVP 120 is odd"}, 0.0).repeated
    assert groups.count("alert", {"reason": "KVP 121 is odd"}, 1.0).repeated
    assert not groups.count("alert", {"reason": "DLP 3 is odd"}, 1.0).repeated
    assert not groups.count("halted", {"reason": "DLP 3 is odd"}, 1.0).repeated
    assert not groups.count("alert", {"reason": "KVP 120 is odd"}, 2.0).repeated
    assert len(groups.shown()) == 2


# --- over a real socket


class Running:
    """A control server on a loop in a thread of its own, over a bench."""

    def __init__(self, path: Path, bench: Bench, bounds: ControlBounds) -> None:
        self.path, self.bench = path, bench
        self.loop = asyncio.new_event_loop()
        self.audit: list[tuple[str, dict[str, Any]]] = []
        self.server = ControlServer(
            bench.desk, lambda k, d: self.audit.append((k, dict(d))), lambda: TODAY, bounds
        )
        bench.publish = self.server.publish
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` in the loop's thread, where the relay lives."""

        async def inside() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(20)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.audit]


@contextlib.contextmanager
def running(path: Path, bench: Bench | None = None, bounds: ControlBounds = QUICK) -> Iterator[Running]:
    made = Running(path, bench or Bench(), bounds)
    try:
        asyncio.run_coroutine_threadsafe(made.server.listen_locally(path), made.loop).result(20)
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.server.close(), made.loop).result(20)
        made.loop.call_soon_threadsafe(made.loop.stop)
        made.thread.join(20)
        made.loop.close()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "control") as made:
        yield made


def test_a_terminal_sees_a_hold_and_releases_it(guard: Running) -> None:
    with ControlClient(guard.path) as anna, ControlClient(guard.path) as other:
        assert anna.state["policy"]["name"] == "CT 1, clinical routine"
        guard.run(lambda: held(guard.bench))
        (event,) = [e for e in anna.events(10.0) if e["kind"] == "held"]
        hold = event["data"]
        assert hold["chain"][0]["command"]["parameters"]["KVP"] == 120.0
        assert hold["reason"]
        act = Act(ActKind.RELEASE, "anna", hold["request"], shown_digest(hold), "seen and needed")
        assert anna.act(act, ANNA).done
        assert "released" in {e["kind"] for e in other.events(10.0)}
        assert guard.bench.view().armed == "L1"
        assert anna.refresh()["held"] is None
    acts = [d for k, d in guard.audit if k == "act"]
    assert [(a["operator"], a["act"], a["done"]) for a in acts] == [("anna", "release", True)]
    assert acts[0]["user"] == f"uid {os.getuid()}"


def test_the_socket_is_for_its_owner_alone(guard: Running) -> None:
    assert stat.S_IMODE(guard.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o666, 0o604, 0o777])
def test_a_socket_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    bench = Bench()

    async def listen() -> None:
        await ControlServer(bench.desk, lambda k, d: None, lambda: TODAY).listen_locally(
            tmp_path / "c", mode=mode
        )

    with pytest.raises(LinkError, match="open to others"):
        asyncio.run(listen())


def test_a_second_guard_does_not_take_the_socket_and_a_dead_ones_is_replaced(guard: Running) -> None:
    bench = Bench()

    async def listen(path: Path) -> None:
        server = ControlServer(bench.desk, lambda k, d: None, lambda: TODAY)
        try:
            await server.listen_locally(path)
        finally:
            await server.close()

    with pytest.raises(LinkError, match="another guard listens"):
        asyncio.run(listen(guard.path))
    assert guard.path.exists()
    stale = guard.path.with_name("stale")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    asyncio.run(listen(stale))
    taken = guard.path.with_name("taken")
    taken.write_text("somebody's file")
    with pytest.raises(LinkError, match="something else"):
        asyncio.run(listen(taken))
    assert taken.read_text() == "somebody's file"


def test_an_act_cannot_be_sent_again(guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    with ControlClient(guard.path) as eve, ControlClient(guard.path) as anna:
        hold = anna.refresh()["held"]
        act = Act(ActKind.REFUSE, "anna", hold["request"], hold["digest"], "no")
        signature = signed(act, anna.nonce, anna.policy, ANNA)
        eve._send(act_line(1, act, signature))  # overheard, on another connection
        assert eve._await("answer")["reason"] == "the signature does not hold"
        for number, done in ((1, True), (2, False)):
            anna._send(act_line(number, act, signature))
            assert anna._await("answer")["done"] is done
    assert guard.kinds().count("control_wrong") == 2


def test_every_act_has_a_nonce_of_its_own(guard: Running) -> None:
    act = Act(ActKind.EMERGENCY_END, "anna")
    with ControlClient(guard.path) as anna, ControlClient(guard.path) as other:
        seen = [anna.nonce, other.nonce]
        for key in (ANNA, STRANGER, ANNA):
            signature = signed(act, anna.nonce, anna.policy, key)
            anna._send(act_line(1, act, signature))
            first = anna._await("answer")
            anna._send(act_line(1, act, signature))  # the same line once more
            assert anna._await("answer")["reason"] == "the signature does not hold"
            anna._send(act_line(2, act, signed(act, "", anna.policy, ANNA)))
            last = anna._await("answer")
            assert last["reason"] == "the signature does not hold"
            anna.nonce = last["nonce"]
            seen += [first["nonce"], anna.nonce]
            if key is STRANGER:
                break  # the fifth wrong one ends the connection
    assert len(set(seen)) == len(seen)
    assert all(len(nonce) == 64 for nonce in seen)


def until_cut(client: ControlClient, act: Act, key: SigningKey, times: int = 50) -> list[bool]:
    """Whether each of these acts was done, up to the one at which the guard cuts the client off."""
    done = []
    try:
        for _ in range(times):
            done.append(client.act(act, key).done)  # noqa: PERF401 - what came before the cut is kept
    except LinkError:
        return done
    raise AssertionError(f"not cut off after {times} acts")


def hostile(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock


def ended(sock: socket.socket) -> bytes:
    """Everything the guard says until it cuts us off (a hang fails by time-out)."""
    said = b""
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionError:
            return said
        if not data:
            return said
        said += data


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not one JSON object"),
        (b'{"type":"load"}\n', "unknown type"),
        (b'{"type":"act","act":"release","more":1}\n', "unknown key"),
        (b'{"type":"act","act":"open the gate"}\n', "open the gate"),
        (b"\xff\xfe\n", "not one JSON object"),
        (b"[" * 9000 + b"\n", "not one JSON object"),
        (b"x" * (QUICK.line_bytes + 10), "too long"),
    ],
)
def test_a_hostile_client_is_cut_off_and_recorded(guard: Running, sent: bytes, says: str) -> None:
    with hostile(guard.path) as sock, ControlClient(guard.path) as anna:
        sock.sendall(sent)
        ended(sock)
        assert anna.refresh()["gate"]["phase"] == "IDLE"  # nobody else noticed
    (cut,) = [d for k, d in guard.audit if k == "control_cut"]
    assert says in cut["reason"]


def test_wrong_signatures_are_counted_slowed_down_and_ended(guard: Running) -> None:
    guard.run(lambda: held(guard.bench))
    with ControlClient(guard.path) as eve, ControlClient(guard.path) as anna:
        hold = eve.refresh()["held"]
        act = Act(ActKind.RELEASE, "anna", hold["request"], hold["digest"], "let me in")
        assert not any(until_cut(eve, act, STRANGER))
        assert guard.kinds().count("control_wrong") == QUICK.wrong
        assert guard.bench.to_gantry == []
        assert [e["kind"] for e in anna.events(5.0)].count("control_wrong") == QUICK.wrong
        assert anna.act(act, ANNA).done  # the one whose name was abused is not locked out


def test_a_flood_of_wrong_signatures_fills_no_log(guard: Running) -> None:
    act = Act(ActKind.RELEASE, "anna", 1, "d", "let me in")
    for _ in range(6):
        with ControlClient(guard.path) as eve:
            assert not any(until_cut(eve, act, STRANGER))
    assert guard.kinds().count("control_wrong") == QUICK.wrong_records < 6 * QUICK.wrong


def test_too_many_acts_end_the_connection(guard: Running) -> None:
    with ControlClient(guard.path) as anna:
        until_cut(anna, Act(ActKind.EMERGENCY_REASON, "anna", 99, "", "x"), ANNA)
    assert "too many acts" in [d["reason"] for k, d in guard.audit if k == "control_cut"]


def test_a_client_that_does_not_read_is_cut_and_nobody_waits_for_it(tmp_path: Path) -> None:
    bounds = replace(QUICK, queue_bytes=64 << 10)
    with running(tmp_path / "control", bounds=bounds) as guard, hostile(guard.path) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with ControlClient(guard.path) as anna:
            for n in range(2000):
                guard.run(lambda n=n: guard.server.publish("news", {"text": "x" * 1000, "n": n}))  # type: ignore[misc]
                if n % 10 == 0:
                    anna.events()
                if "control_cut" in guard.kinds():
                    break
            assert guard.run(lambda: guard.server.clients) == 1
            assert anna.refresh()["gate"]["phase"] == "IDLE"
    assert [d["reason"] for k, d in guard.audit if k == "control_cut"] == ["it does not read"]


def test_half_open_connections_do_not_keep_a_user_out(guard: Running) -> None:
    idle = [hostile(guard.path) for _ in range(3 * QUICK.clients_per_user)]
    with ControlClient(guard.path) as anna:
        assert anna.refresh()["gate"]["phase"] == "IDLE"
        assert guard.run(lambda: guard.server.clients) <= QUICK.clients_per_user
    for sock in idle:
        sock.close()


def test_an_idle_client_is_cut(tmp_path: Path) -> None:
    with (
        running(tmp_path / "control", bounds=replace(QUICK, idle_seconds=0.05)) as guard,
        hostile(guard.path) as sock,
    ):
        assert b'"hello"' in ended(sock)
        assert guard.run(lambda: guard.server.clients) == 0


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_get_past_the_reader(data: list[bytes]) -> None:
    bench = Bench()
    hold = held(bench)

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            server = ControlServer(
                bench.desk, bench_record(bench), lambda: TODAY, replace(QUICK, idle_seconds=0.02)
            )
            await server.listen_locally(Path(folder) / "c")
            reader, writer = await asyncio.open_unix_connection(str(Path(folder) / "c"))
            writer.writelines([*data, b"\n"])
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await server.close()

    asyncio.run(run())
    assert bench.to_gantry == []
    assert bench.view().hold == hold["request"]


def bench_record(bench: Bench) -> Callable[[str, Any], None]:
    return lambda kind, data: bench.record(kind, data, reserved=True)


def test_over_tls_a_console_decides_and_a_stranger_gets_nothing(guard: Running, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    listening = guard.server.listen_tls("127.0.0.1", 0, server_context(ours.files("guard")))
    port = asyncio.run_coroutine_threadsafe(listening, guard.loop).result(20)
    guard.run(lambda: held(guard.bench))

    def connected(files: Any) -> ssl.SSLSocket:
        context = client_context(files)
        context.check_hostname = False
        sock = socket.create_connection(("127.0.0.1", port), 20)
        return context.wrap_socket(sock)

    def told(lines: Any, kind: str) -> dict[str, Any]:
        return next(said for said in map(json.loads, lines) if said["type"] == kind)

    with connected(ours.files("console")) as console, console.makefile("rb") as lines:
        assert console.version() == "TLSv1.3"
        hello, state = told(lines, "hello"), told(lines, "snapshot")["state"]
        assert hello["local"] is False
        nonce = hello["nonce"]
        mode = Act(ActKind.MODE, "bert", mode=Mode.QA)
        refuse = Act(ActKind.REFUSE, "bert", state["held"]["request"], state["held"]["digest"], "no")
        for act, reason in ((mode, "mode is set at the guard's own terminal only"), (refuse, "")):
            console.sendall(act_line(1, act, signed(act, nonce, hello["policy"], BERT)))
            answered = told(lines, "answer")
            assert answered["reason"] == reason
            nonce = answered["nonce"]
    assert guard.bench.view().hold == 0
    trusting = replace(theirs.files("stranger"), authority=ours.files("guard").authority)
    got = b""
    with contextlib.suppress(OSError), connected(trusting) as stranger:  # TLS 1.3 refuses when one reads
        got = stranger.recv(1)
    assert got == b""


def test_tls_without_client_certificates_is_refused() -> None:
    server = ControlServer(Bench().desk, lambda k, d: None, lambda: TODAY)
    with pytest.raises(LinkError, match="client certificates"):
        asyncio.run(server.listen_tls("127.0.0.1", 0, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)))


def test_the_client_says_who_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no guard answers"):
        ControlClient(tmp_path / "nothing")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c"))
        server.listen()
        with pytest.raises(LinkError, match="does not answer"):
            ControlClient(tmp_path / "c", seconds=0.05)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0\r\n", b"[]\n", b'{"type":"hello","protocol":9}\n', b'{"type":"error"}\n', b""]
)
def test_the_client_survives_what_is_no_guard(tmp_path: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c"))
        server.listen()

        def serve() -> None:
            peer, _ = server.accept()
            peer.sendall(said)
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises((LinkError, DecodeError)):
            ControlClient(tmp_path / "c", seconds=10)
        thread.join(10)


def test_the_client_in_the_documentation_works(guard: Running, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "control.md").read_text("utf-8")
    (tmp_path / "client.py").write_text(page.partition("```python\n")[2].partition("```")[0], "utf-8")
    private, _ = write_pair(tmp_path / "carl", CARL)
    guard.run(lambda: held(guard.bench))
    done = subprocess.run(
        [sys.executable, tmp_path / "client.py", guard.path, private, "carl"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "'done': True" in done.stdout, done.stderr
    assert guard.bench.view().hold == 0
    assert guard.bench.to_gantry == []
