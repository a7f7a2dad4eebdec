"""Attacks on the guard itself that once worked: whoever owns the host chooses ids, names, order, timing and sizes."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from _guard import SCANNER, policy
from scanward.audit.client import Durable as AuditDurable
from scanward.audit.client import Recovered
from scanward.cli.operator_screen import held_lines
from scanward.codecs.stream import decode_host
from scanward.commands import Command, LayerName, Mode, Outcome, Verdict
from scanward.commands.wire import (
    Axis,
    Channel,
    Declined,
    Done,
    Element,
    Hello,
    Load,
    Loaded,
    Motion,
    Moved,
    Refused,
    Started,
    Stop,
    StopKind,
    Trigger,
)
from scanward.config import AUDIT_BOUNDS, JUDGE_BOUNDS, STREAM_BOUNDS
from scanward.errors import DecodeError, LinkError
from scanward.guard.arming import chain_digest
from scanward.guard.control_client import shown_digest
from scanward.guard.control_groups import AlertGroups
from scanward.guard.events import (
    Ask,
    Caps,
    Durable,
    Effect,
    Event,
    Finding,
    Forecast,
    GantryLost,
    GantrySaid,
    GantryUp,
    GateRules,
    HostUp,
    Judged,
    Log,
    ModeRules,
    Record,
    Said,
    SendGantry,
    SendHost,
    Tell,
    Tick,
)
from scanward.guard.gate import Gate
from scanward.guard.ipc import Answer, ElementShape, JudgeSettings, LayerShape, ObjectionShape, Question
from scanward.guard.judge_client import JudgeClient
from scanward.guard.ledger import Ledger, Ledgers, repeated
from scanward.guard.relay import Relay
from scanward.guard.relay_audit import AuditPort
from scanward.guard.relay_records import START, payload, plain, retell
from scanward.guard.states import Phase
from scanward.links.base import Side
from scanward.links.identifiers import Identifiers
from scanward.links.stream_gantry import GantrySide, _Wire
from scanward.links.stream_settings import StreamSettings
from scanward.links.virtual import VirtualLink
from scanward.transport.tcp import LineConnection

CAPS = ModeRules(
    Caps({16: 100.0, 32: 50.0}, {16: 2e3, 32: 2e3}), Caps({16: 500.0, 32: 250.0}, {16: 9e3, 32: 9e3}), 3
)
RULES = GateRules("policy-1", {Mode.CLINICAL: CAPS, Mode.QA: CAPS})


def load(name: str, *doses: float, auto: Iterable[int] = (), triggers: int = 1, exam: str = "e") -> Load:
    chain = tuple(
        Element(Command({"KVP": 120.0, "CTDIvol": dose}), index in set(auto))
        for index, dose in enumerate(doses)
    )
    return Load(name, exam, "p", chain, triggers)


class Bench:
    """A gate, a hostile host and an honest gantry."""

    def __init__(self, rules: GateRules = RULES) -> None:
        self.gate = Gate(rules)
        self.now = 0.0
        self.out: list[Effect] = []
        self.tell(HostUp(1, Channel.COMMANDS), GantryUp())

    def tell(self, *events: Event) -> list[Effect]:
        new: list[Effect] = []
        for event in events:
            self.now += 0.001
            new += self.gate.handle(event, self.now)
        self.out += new
        return new

    def say(self, *messages: Any) -> list[Effect]:
        return self.tell(*(Said(1, message) for message in messages))

    def gantry(self, *messages: Any) -> list[Effect]:
        return self.tell(*(GantrySaid(message) for message in messages))

    def durable(self) -> list[Effect]:
        return self.tell(Durable(max(e.token for e in self.out if isinstance(e, Record))))

    def judged(self, verdict: Verdict = Verdict.RELEASE) -> list[Effect]:
        ask = next(e for e in reversed(self.out) if isinstance(e, Ask))
        doses = [float(e.command.parameters["CTDIvol"]) for e in ask.chain] or [0.0]
        found = tuple(Finding(verdict, forecast=Forecast(d, d * 20, 32, 0.0, 200.0)) for d in doses)
        return self.tell(Judged(ask.request, found, "bundle-1"))

    def arm(self, message: Load) -> None:
        self.say(message)
        self.judged()
        self.durable()
        self.gantry(Loaded(message.id, tuple(e.command.parameters for e in message.chain)))

    def move(self, name: str) -> list[Effect]:
        return self.say(Motion(name, Axis.TABLE_Z, 1.0, 1.0)) + self.judged() + self.durable()

    def scan(self, name: str, element: int = 0, of: str = "L1") -> list[Effect]:
        return self.say(Trigger(name, of, element)) + self.durable()

    def delivered(self) -> float:
        return self.gate.ledgers.of("e:e").peak(32)


def sent(effects: list[Effect]) -> list[Any]:
    return [e.message for e in effects if isinstance(e, SendGantry)]


def refused(effects: list[Effect]) -> list[str]:
    return [e.message.id for e in effects if isinstance(e, SendHost) and isinstance(e.message, Refused)]


# --- order, and what is sent after it was voided


def test_a_stop_of_motion_in_a_beam_stops_the_beam_too_and_nothing_moves_or_fires_into_it() -> None:
    """IDLE with the beam still on let a motion, or another trigger, into the beam."""
    bench = Bench()
    bench.arm(load("L1", 5.0))
    bench.scan("T1")
    bench.gantry(Started("L1", 0))
    out = bench.say(Stop(StopKind.MOTION))
    assert sent(out)[:2] == [Stop(StopKind.MOTION), Stop(StopKind.BEAM)]
    assert bench.gate.phase is Phase.IDLE
    bench.gantry(Done("L1", 0, 2.0, 40.0, aborted=True))
    assert bench.delivered() == 2.0


def test_outside_a_beam_a_stop_of_motion_is_just_that() -> None:
    bench = Bench()
    assert sent(bench.say(Stop(StopKind.MOTION))) == [Stop(StopKind.MOTION)]


def test_a_trigger_whose_arming_expires_while_it_is_recorded_is_withdrawn() -> None:
    """The gantry was sent the trigger after it had been told to forget the chain."""
    for what in ("tick", "durable"):
        bench = Bench()
        bench.arm(load("L1", 5.0))
        bench.now += RULES.arming_seconds - 0.002
        bench.say(Trigger("T1", "L1", 0))
        out = bench.tell(Tick(), Tick())
        out += bench.durable() if what == "durable" else []
        assert not [m for m in sent(out) if isinstance(m, Trigger)]
        assert refused(out) == ["T1"]
        assert bench.gate.phase is Phase.IDLE


def test_a_trigger_and_a_motion_made_durable_together_keep_their_order() -> None:
    bench = Bench()
    bench.arm(load("L1", 5.0))
    bench.say(Trigger("T1", "L1", 0))
    bench.say(Motion("M1", Axis.TABLE_Z, 1.0, 1.0))
    bench.judged()
    out = bench.durable()  # one sync for both records
    assert sent(out) == [Trigger("T1", "L1", 0)]
    assert refused(out) == ["M1"]  # never into the beam


def test_a_motion_behind_a_trigger_goes_when_the_trigger_is_withdrawn() -> None:
    bench = Bench()
    bench.arm(load("L1", 5.0))
    bench.say(Trigger("T1", "L1", 0))
    token = max(e.token for e in bench.out if isinstance(e, Record))
    bench.say(Motion("M1", Axis.TABLE_Z, 1.0, 1.0))
    bench.judged()
    bench.gate.shot = replace(bench.gate.shot, token=token + 1000) if bench.gate.shot else None
    out = bench.durable()
    assert sent(out) == []
    bench.now += RULES.record_seconds
    out = bench.tell(Tick())
    assert [type(m) for m in sent(out)] == [Motion]
    assert refused(out) == ["T1"]


# --- names that the host chooses


def test_a_declined_motion_with_the_name_of_a_running_element_hides_no_dose() -> None:
    """``auto-L1-1`` is what the gate calls the element that starts by itself: the host can know that."""
    bench = Bench()
    bench.arm(load("L1", 5.0, 40.0, auto=[1]))
    bench.scan("T1")
    bench.gantry(Started("L1", 0), Done("L1", 0, 5.0, 100.0))
    bench.move("auto-L1-1")
    bench.gantry(Started("L1", 1), Declined("auto-L1-1", "the beam is on"))
    assert bench.gate.phase is Phase.BEAM
    bench.gantry(Done("L1", 1, 40.0, 800.0))
    assert bench.delivered() == 45.0


def test_a_name_that_the_gantry_has_not_answered_yet_is_in_use() -> None:
    bench = Bench()
    bench.arm(load("L1", 40.0))
    assert [type(m) for m in sent(bench.move("X"))] == [Motion]
    out = bench.say(Trigger("X", "L1", 0))
    assert refused(out) == ["X"]
    assert refused(bench.say(Motion("X", Axis.TABLE_Z, 2.0, 1.0))) == ["X"]
    bench.gantry(Moved("X", 1.0))
    assert sent(bench.scan("X")) == [Trigger("X", "L1", 0)]
    bench.gantry(Declined("X", "too hot"))  # this one is the trigger's
    assert bench.gate.beam is None


@pytest.mark.parametrize("way", ["declined", "gantry", "host"])
def test_an_answered_or_lost_motion_leaves_its_name_free(way: str) -> None:
    bench = Bench()
    bench.move("X")
    if way == "declined":
        bench.gantry(Declined("X"))
    elif way == "gantry":
        bench.tell(GantryLost(), GantryUp())
    else:
        bench.gate.host = 0
        bench.tell(HostUp(1, Channel.COMMANDS))
    assert [type(m) for m in sent(bench.move("X"))] == [Motion]


def test_a_session_is_shown_as_one_and_signed_as_one() -> None:
    """Digest and screen did not tell one trigger from three."""
    once, session = load("L1", 5.0), load("L1", 5.0, triggers=3)
    assert chain_digest(once.chain, 1) != chain_digest(once.chain, 3) != chain_digest(once.chain, 2)
    bench = Bench()
    bench.say(session)
    (held,) = [e for e in bench.judged(Verdict.ALERT) if isinstance(e, Tell) and e.kind == "held"]
    shown = plain(held.data)
    assert shown["triggers"] == 3
    assert shown_digest(shown) == shown["digest"]
    assert shown_digest({**shown, "triggers": 1}) != shown["digest"]
    assert any("3 times" in line for line in held_lines(shown))
    assert not any("times" in line for line in held_lines({**shown, "triggers": 1}))


# --- dose


def test_what_begins_by_itself_beyond_an_absolute_cap_is_stopped() -> None:
    """The verdict knew the forecast; the element before it delivered eight times as much."""
    bench = Bench()
    bench.arm(load("L1", 10.0, 20.0, auto=[1]))
    bench.scan("T1")
    bench.gantry(Started("L1", 0), Done("L1", 0, 240.0, 800.0))
    out = bench.gantry(Started("L1", 1))
    assert sent(out)[0] == Stop(StopKind.BEAM)
    assert bench.gate.phase is Phase.IDLE
    assert any(isinstance(e, Tell) and "exceeds 250" in str(e.data.get("reason")) for e in out)


def test_two_new_names_do_not_make_each_other_forgotten() -> None:
    held = Ledgers(4)
    for old in "abcd":
        held.of(old).add(Forecast(1.0, 1.0, 32))
    for ledger in held.together(("e:new", "p:new")):
        ledger.add(Forecast(9.0, 9.0, 32))
    assert [held.of(key).peak(32) for key in ("e:new", "p:new", "c", "d")] == [9.0, 9.0, 1.0, 1.0]
    assert len(held.keys()) == 4


def test_a_session_of_a_thousand_triggers_is_no_thousand_sums() -> None:
    """32 elements of 4 m with 1,000 triggers kept the relay, and with it every stop, for eight seconds."""
    doses = (Forecast(0.5, 10.0, 32, 0.0, 30.0), Forecast(2.0, 7.0, 16))
    one, many = Ledger(), Ledger()
    for dose in doses * 7:
        one.add(dose)
    for dose in repeated(doses, 7):
        many.add(dose)
    assert [one.peak(p) for p in (16, 32)] == pytest.approx([many.peak(p) for p in (16, 32)])
    assert one.dlp == pytest.approx(many.dlp)
    assert len(repeated(doses, 1000)) == len(doses)

    counted = 0

    class Counting(Ledger):
        def add(self, dose: Forecast) -> None:
            nonlocal counted
            counted += 1

    wide = replace(CAPS, triggers=1000)
    bench = Bench(replace(RULES, modes={Mode.CLINICAL: wide}))
    real = Ledger.add
    Ledger.add = Counting.add  # type: ignore[method-assign, assignment]
    try:
        bench.say(load("L1", *([0.001] * 32), triggers=1000))
        bench.judged()
    finally:
        Ledger.add = real  # type: ignore[method-assign]
    assert 0 < counted <= 4 * 32


# --- after a crash


def lines(*said: tuple[str, int, dict[str, object]]) -> list[bytes]:
    return [payload(START, 0, {}), *(payload(kind, record, data) for kind, record, data in said)]


TRIGGER = (
    "trigger",
    5,
    {
        "id": "T1",
        "load": "L1",
        "element": 0,
        "examination": "e",
        "patient": "p",
        "command": Command({"CTDIvol": 0.1}),  # what the host claims
        "forecast": Forecast(40.0, 800.0, 32, 0.0, 200.0),
    },
)
SENT = ("sent", 6, {"id": "T1", "load": "L1", "element": 0, "by": "trigger", "token": 5})


@pytest.mark.parametrize("after", [(TRIGGER, SENT), (TRIGGER,)])
def test_a_crash_in_the_beam_counts_the_guards_own_forecast(after: Any) -> None:
    """It counted nothing, and of a trigger with an unknown fate what the host had claimed."""
    for restarts in (1, 2):
        (course,) = retell(lines(*after) + lines() * restarts).courses
        assert [(d.ctdivol, d.dlp, d.phantom, d.z_high) for d in course.doses] == [(40.0, 800.0, 32, 200.0)]
        assert (course.examination, course.patient) == ("e", "p")


def test_what_ended_or_never_began_counts_once() -> None:
    dose = ("dose", 7, {"examination": "e", "patient": "p", "dose": Forecast(9.0, 90.0, 32, 0.0, 1.0)})
    (course,) = retell(lines(TRIGGER, SENT, dose)).courses
    assert [d.ctdivol for d in course.doses] == [9.0]
    (course,) = retell(lines(TRIGGER, SENT, ("declined", 7, {"id": "T1", "reason": ""}))).courses
    assert course.doses == []
    (course,) = retell(lines(TRIGGER, SENT, ("declined", 7, {"id": "L2", "reason": ""}))).courses
    assert [d.ctdivol for d in course.doses] == [40.0]
    report = ("dose_report", 8, {"examination": "e", "dose": Forecast(3.0, 30.0, 32)})
    told = retell(lines(TRIGGER, SENT, dose, report))
    assert sorted(d.ctdivol for course in told.courses for d in course.doses) == [3.0, 9.0]


# --- a relay that must not be kept


class Wire(asyncio.Transport):
    """A transport that takes everything."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def pause_reading(self) -> None:
        return

    def is_reading(self) -> bool:
        return True

    def abort(self) -> None:
        return


def test_lines_that_cost_much_do_not_keep_others_for_eight_of_them() -> None:
    """Eight pipelined loads behind a long examination kept a stop on another connection for 0.3 s."""
    order: list[str] = []

    class Costly:
        def opened(self, connection: LineConnection) -> None:
            return

        def line(self, connection: LineConnection, line: bytes) -> None:
            if not order:
                asyncio.get_running_loop().call_soon(order.append, "another's stop")
            order.append(line.decode())
            time.sleep(0.002)

        def wrong(self, connection: LineConnection | None, reason: str, data: bytes) -> None:
            raise AssertionError(reason)

        def closed(self, connection: LineConnection, reason: str) -> None:
            return

    async def scene() -> None:
        connection = LineConnection(Costly(), 64)
        connection.connection_made(Wire())
        connection.data_received(b"".join(b"%d\n" % n for n in range(8)))
        async with asyncio.timeout(20):
            while len(order) < 9:
                await asyncio.sleep(0)
        connection.connection_lost(None)

    asyncio.run(scene())
    assert order == ["0", "another's stop", *(str(n) for n in range(1, 8))]


def test_questions_fill_neither_the_memory_nor_a_frame() -> None:
    """64 replaced loads with a long history were 64 questions of 34 MB, each of which killed a judge."""
    lost: list[int] = []

    class Listener:
        def lost(self, request: int, reason: str) -> None:
            lost.append(request)

    bounds = replace(JUDGE_BOUNDS, frame_bytes=3000)

    async def scene() -> None:
        client = JudgeClient(JudgeSettings("b", [], "v"), Listener(), 60.0, bounds)  # type: ignore[arg-type]
        client.ask(Question(1, parts={"x": [{"value": "y" * 4000}]}))  # larger than what a judge takes
        for request in range(2, 8):
            client.ask(Question(request, parts={"x": [{"value": "y" * 1500}]}))
        await asyncio.sleep(0)
        assert lost == [1, 5, 6, 7]
        await client.close()
        assert sorted(lost) == [1, 2, 3, 4, 5, 6, 7]  # each is answered exactly once

    asyncio.run(scene())


def test_the_longest_load_that_a_line_holds_has_room_in_the_log() -> None:
    """A record that is too large was dropped: the log said that it is full, and emergency access went unrecorded."""
    hello: dict[str, Any] = {
        "type": "hello",
        "protocol": 1,
        "channel": "commands",
        "device": dict.fromkeys(
            ("Manufacturer", "ManufacturerModelName", "SoftwareVersions"), "\U0001f600" * 128
        ),
    }
    said = decode_host(json.dumps(hello).encode())
    assert isinstance(said, Hello)
    hello["device"] = {"SoftwareVersions": "x" * 129}
    with pytest.raises(DecodeError):
        decode_host(json.dumps(hello).encode())
    for fields in (128, 64, 16, 1):  # many short words of the host grow most
        element = {"parameters": {"K": 1}, "context": {f"a{n:x}": 1 for n in range(fields)}}
        line = json.dumps(
            {"type": "load", "id": "L1", "chain": [element] * STREAM_BOUNDS.elements}, separators=(",", ":")
        ).encode()
        assert len(line) < STREAM_BOUNDS.line_bytes
        decoded = decode_host(line, device=said.device)
        assert isinstance(decoded, Load)
        bench = Bench()
        (record,) = [e for e in bench.say(decoded) if isinstance(e, Record) and e.kind == "load"]
        assert len(payload("load", 1, record.data)) < AUDIT_BOUNDS.record_bytes


# --- the log


def test_a_reserved_record_that_was_not_taken_is_a_log_that_failed(tmp_path: Path) -> None:
    """It was called full. A full log still takes triggers: the next record made this one pass for durable."""
    ours, theirs = socket.socketpair()

    class Client:
        wants_write = False

        def __init__(self) -> None:
            self.answers: list[Any] = []
            self.takes = True

        def fileno(self) -> int:
            return ours.fileno()

        def send(self, token: int, data: bytes, reserved: bool = False) -> bool:
            return self.takes

        def received(self) -> list[Any]:
            ours.recv(16)
            said, self.answers = self.answers, []
            return said

        def close(self, timeout_s: float = 10.0) -> list[Any]:
            return []

    class Heard:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def durable(self, token: int) -> None:
            self.said.append(token)

        def log_is(self, condition: Log, reason: str) -> None:
            self.said.append(condition)

        def log_note(self, kind: str, data: dict[str, object]) -> None:
            return

    client, heard = Client(), Heard()

    async def answer(*answers: Any) -> None:
        client.answers = list(answers)
        theirs.send(b"x")
        async with asyncio.timeout(20):
            while client.answers:
                await asyncio.sleep(0.001)

    async def scene() -> None:
        port = AuditPort(tmp_path, tmp_path, heard, client=lambda *_, **__: client)  # type: ignore[arg-type]
        port.start()
        await answer(Recovered("log", 0, "", 0, ""))
        port.send(1, b"{}", reserved=True)
        client.takes = False
        port.send(2, b"{}", reserved=False)
        port.send(3, b"{}", reserved=True)  # a trigger's
        client.takes = True
        port.send(4, b"{}", reserved=True)
        await answer(AuditDurable(1, 1))
        await answer(AuditDurable(4, 2))
        await port.close()

    asyncio.run(scene())
    ours.close()
    theirs.close()
    assert heard.said == [Log.FAILED, Log.OK, Log.FULL, Log.FAILED, 1, Log.OK, 4]


# --- people


def test_new_names_in_refused_triggers_are_no_new_cause() -> None:
    """Each invented load or field was a line of its own on every screen, and pushed real alerts out."""
    bench = Bench()
    bench.arm(load("L1", 5.0))
    groups = AlertGroups(128)
    words = ["alpha", "beta", "gamma", "delta"]
    seen = []
    for word in words:
        for trigger in (Trigger("T", word, 0), Trigger("T", "L1", 0, {word: 1.0}), Trigger("T", word, 1)):
            (told,) = [e for e in bench.say(trigger) if isinstance(e, Tell) and e.kind == "trigger_refused"]
            seen.append(groups.count(told.kind, told.data, bench.now))
    assert sum(not one.repeated for one in seen) == 2
    other = groups.count("alert", {"reason": "the beam is on: x", "load": "a"}, 0.0)
    assert not groups.count("alert", {"reason": "the beam is on: y", "load": "a"}, 0.0).repeated
    assert not other.repeated


def test_a_beam_that_is_on_is_not_undone_by_a_refusal_of_its_trigger() -> None:
    bench = Bench()
    bench.arm(load("L1", 5.0, 5.0))
    bench.scan("T1")
    bench.gantry(Started("L1", 0), Declined("T1", "too late"))
    assert bench.gate.phase is Phase.BEAM
    bench.gantry(Done("L1", 0, 5.0, 100.0))
    assert bench.delivered() == 5.0


def test_whatever_voided_the_arming_its_trigger_does_not_go() -> None:
    """Defence in depth: no sign is known that gets this far."""
    bench = Bench()
    bench.arm(load("L1", 5.0))
    bench.say(Trigger("T1", "L1", 0))
    bench.gate.armed = None
    out = bench.durable()
    assert sent(out) == []
    assert refused(out) == ["T1"]


def test_every_piece_of_nonsense_from_the_gantry_drops_the_links() -> None:
    """Records of a flood are counted together; what is done about it is not left out."""

    class Book:
        def send(self, token: int, data: bytes, *, reserved: bool) -> None:
            return

        def note(self, data: bytes, *, reserved: bool = True) -> None:
            return

    async def scene() -> None:
        link, crashes = VirtualLink(), list[BaseException]()
        relay = Relay(policy(), link, crashes.append)
        relay.audit = Book()
        await link.start(relay)
        for number in range(50):
            link.gantry_connects(Hello(SCANNER))
            link.dropped = ""
            relay.malformed(Side.GANTRY, "nonsense", "")
            assert link.dropped, number
        assert relay.counters.malformed == 50
        assert crashes == []
        relay.end()
        await link.close()

    asyncio.run(scene())


def test_an_answer_of_the_judge_that_cannot_be_understood_is_no_verdict_and_said_at_once() -> None:
    class Book:
        def send(self, token: int, data: bytes, *, reserved: bool) -> None:
            return

        def note(self, data: bytes, *, reserved: bool = True) -> None:
            return

    async def scene() -> None:
        link, crashes = VirtualLink(), list[BaseException]()
        relay = Relay(policy(), link, crashes.append)
        relay.audit = Book()
        relay.judge = JudgeClient(JudgeSettings("b", [], "v"), relay, 60.0)
        await link.start(relay)
        link.gantry_connects(Hello(SCANNER))
        host = link.host_connects(Hello(SCANNER))
        link.host_says(host, load("L1", 5.0))
        (request,) = [item.request for item in relay.gate.queue]
        strange = LayerShape(LayerName.FORM, Outcome.OBJECT, 99, [ObjectionShape("KVP", "is odd", 99)])
        relay.answered(Answer(request, [ElementShape([strange])], "b"))
        assert not relay.gate.queue  # refused, and not only after the gate's own deadline
        assert (link.at_gantry, crashes) == ([], [])
        relay.end()
        await relay.judge.close()
        await link.close()

    asyncio.run(scene())


def test_a_later_line_does_not_change_what_an_earlier_identifier_reveals() -> None:
    """A load that was judged went to the gantry with the spaces of a later one."""
    known = Identifiers()
    hidden = known.hide("4711")
    assert known.hide(" 4711 ") == hidden
    assert known.reveal(hidden) == "4711"


@pytest.mark.parametrize("broken", list(Channel))
def test_a_stop_goes_by_the_connection_that_takes_it(broken: Channel) -> None:
    """A gantry that reads one of its two connections no more still hears the stop on the other."""
    heard: list[bytes] = []

    class Line:
        def __init__(self, channel: Channel) -> None:
            self.channel = channel

        def send(self, line: bytes) -> None:
            if self.channel is broken:
                raise LinkError("the peer does not read", "here", "connect again")
            heard.append(line)

    settings = StreamSettings(SCANNER, ("127.0.0.1", 0), ("127.0.0.1", 9))
    side = GantrySide(settings, None, Identifiers(), None)  # type: ignore[arg-type]
    side._wires = {channel: _Wire(channel, Line(channel)) for channel in Channel}  # type: ignore[arg-type]
    side._up = True
    side.send(Stop())
    assert heard == [b'{"type":"stop"}\n']
    heard.clear()
    side._wires = {broken: side._wires[broken]}
    with pytest.raises(LinkError):  # by neither: said, and not swallowed
        side.send(Stop())
    assert heard == []
