"""The relay around the gate: link, judge, log and desk played by hand or real, one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from _guard import SCANNER, answer, element, load, policy
from _guard_site import GuardSite
from scanward.codecs.stream import command_to_json
from scanward.commands import Command, Mode, Verdict
from scanward.commands.wire import (
    Axis,
    Cancel,
    Channel,
    Done,
    Hello,
    Load,
    Loaded,
    Motion,
    Refused,
    Started,
    Stop,
    StopKind,
    Trigger,
)
from scanward.config import AUDIT_BOUNDS, RELAY_BOUNDS
from scanward.errors import LinkError, ScanwardError
from scanward.guard.config import load_config
from scanward.guard.events import EmergencySet, Log
from scanward.guard.gate import Gate
from scanward.guard.ipc import Answer, ElementShape, Question, Ready, layer_shape
from scanward.guard.relay import Relay
from scanward.guard.relay_audit import AuditPort
from scanward.guard.relay_records import START, payload, retell
from scanward.guard.relay_run import run as run_guard
from scanward.guard.relay_run import verified
from scanward.guard.states import Phase
from scanward.keys import SigningKey, write_pair
from scanward.links.base import Side
from scanward.links.virtual import VirtualLink

WAIT = 30.0


@dataclass
class Book:
    """A log in memory; what is written is durable when ``commit`` says so."""

    relay: Relay | None = None
    said: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def send(self, token: int, payload: bytes, *, reserved: bool) -> None:
        self.said.append({**json.loads(payload), "reserved": reserved})
        self.tokens.append(token)

    def note(self, payload: bytes, *, reserved: bool = True) -> None:
        self.said.append({**json.loads(payload), "reserved": reserved})

    def commit(self) -> None:
        assert self.relay is not None
        while self.tokens:
            tokens, self.tokens = self.tokens, []
            for token in tokens:
                self.relay.durable(token)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.said if said["kind"] == kind]


@dataclass
class Judge:
    """Remembers what it is asked; a test answers."""

    ready: Ready | None = field(default_factory=lambda: Ready("b" * 64, 1, 0.01, 0.1))
    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> None:
        self.asked.append(question)


@dataclass
class Desk:
    """Remembers what it is told."""

    said: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def before_load(self, examination: str) -> None:
        self.said.append(("before_load", {"examination": examination}))

    def recorded(self, kind: str, data: Mapping[str, Any]) -> None:
        self.said.append((f"recorded {kind}", data))

    def told(self, kind: str, data: Mapping[str, Any]) -> None:
        self.said.append((kind, data))

    def settled(self) -> None:
        pass  # after every event: of no use here

    def renew(self) -> None:
        self.said.append(("renew", {}))

    def tick(self) -> None:
        self.said.append(("tick", {}))

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for told, data in self.said if told == kind]


@dataclass
class Stage:
    """A relay with everything around it."""

    relay: Relay
    link: VirtualLink
    book: Book
    judge: Judge
    desk: Desk
    crashes: list[BaseException]
    host: int = 0

    def connect(self) -> None:
        self.link.gantry_connects(Hello(SCANNER))
        self.host = self.link.host_connects(Hello(SCANNER))

    def answers(self, **changes: Any) -> None:
        """Answer the last question: all layers pass, within the budget."""
        question = self.judge.asked[-1]
        shapes = []
        for _ in question.chain:
            said = answer(**changes)
            shapes.append(
                ElementShape(list(map(layer_shape, said.opinions)), said.p_value, said.within_budget)
            )
        self.relay.answered(Answer(question.request, shapes, "b" * 64))

    def arm(self, said: Load) -> None:
        """The whole way of a load up to its echo."""
        self.link.host_says(self.host, said)
        self.answers()
        self.book.commit()
        self.link.gantry_says(Loaded(said.id, tuple(e.command.parameters for e in said.chain)))
        self.book.commit()

    def told_host(self, kind: type) -> list[Any]:
        return [message for message in self.link.at_host[self.host] if isinstance(message, kind)]


@asynccontextmanager
async def staged(**top: str) -> AsyncIterator[Stage]:
    """``top`` are keys of the policy."""
    link, book, judge, desk = VirtualLink(), Book(), Judge(), Desk()
    crashes: list[BaseException] = []
    relay = Relay(policy(**top), link, crashes.append)
    relay.audit, relay.judge, relay.desk = book, judge, desk
    book.relay = relay
    await link.start(relay)
    yield Stage(relay, link, book, judge, desk, crashes)
    relay.end()
    await link.close()


def run(scene: Any, **top: str) -> None:
    async def whole() -> None:
        async with staged(**top) as stage:
            stage.connect()
            await scene(stage)

    asyncio.run(whole())


# --- the way of a load


def test_a_load_is_judged_recorded_sent_and_armed_in_this_order() -> None:
    async def scene(stage: Stage) -> None:
        said = load(element(), element(KVP=100.0))
        stage.link.host_says(stage.host, said)
        assert stage.link.at_gantry == []
        (question,) = stage.judge.asked
        assert question.chain == [command_to_json(e.command) for e in said.chain]
        assert (question.history, question.mode) == ([], "CLINICAL")
        stage.answers()
        assert stage.link.at_gantry == []  # its record is not durable yet
        stage.book.commit()
        assert stage.link.at_gantry == [said]
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        assert stage.told_host(Refused)[-1].again
        stage.link.gantry_says(Loaded(said.id, tuple(e.command.parameters for e in said.chain)))
        assert stage.relay.view().phase is Phase.LOADED
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        assert stage.link.at_gantry == [said]
        stage.book.commit()
        assert stage.link.at_gantry == [said, Trigger("T", said.id, 0)]
        kinds = [said["kind"] for said in stage.book.said]
        order = ["load", "verdict", "release", "sent", "armed", "trigger", "sent"]
        assert [kind for kind in kinds if kind in order] == order
        assert stage.desk.of("before_load") == [{"examination": "e" * 16}]
        assert stage.desk.of("recorded release")[0]["id"] == said.id

    run(scene)


def test_history_goes_with_the_next_question() -> None:
    async def scene(stage: Stage) -> None:
        said = load()
        stage.arm(said)
        stage.link.host_says(stage.host, Trigger("T", said.id, 0))
        stage.book.commit()
        stage.link.gantry_says(Started(said.id, 0))
        stage.link.gantry_says(Done(said.id, 0))
        stage.link.host_says(stage.host, Load("L2", said.examination, said.patient, said.chain))
        assert stage.judge.asked[-1].history == [command_to_json(said.chain[0].command)]

    run(scene)


def test_without_a_verdict_nothing_is_sent() -> None:
    async def scene(stage: Stage) -> None:
        for spoil in (
            lambda request: stage.relay.lost(request, "it died"),
            lambda request: stage.relay.answered(Answer(request, [], "b" * 64)),
            lambda request: stage.relay.answered(
                Answer(request, [ElementShape([layer_shape(o) for o in answer().opinions[1:]])], "b" * 64)
            ),
        ):
            stage.link.host_says(stage.host, load())
            spoil(stage.judge.asked[-1].request)
            stage.book.commit()
            assert stage.link.at_gantry == []
        assert [each.id for each in stage.told_host(Refused)] == ["L1"] * 3
        stage.answers()  # too late: asked no more
        stage.book.commit()
        assert stage.link.at_gantry == []

    run(scene)


def test_a_motion_needs_no_judge_and_keeps_the_device_s_bounds() -> None:
    async def scene(stage: Stage) -> None:
        stage.link.host_says(stage.host, Motion("M1", Axis.TABLE_Z, 100.0, 50.0))
        stage.book.commit()
        assert stage.link.at_gantry == [Motion("M1", Axis.TABLE_Z, 100.0, 50.0)]
        stage.link.host_says(stage.host, Motion("M2", Axis.TABLE_Z, 99_999.0, 50.0))
        stage.book.commit()
        assert len(stage.link.at_gantry) == 1
        assert stage.told_host(Refused)[-1].layer == "form"
        assert stage.judge.asked == []

    run(scene)


def test_emergency_access_passes_a_load_without_a_judge_and_never_beyond_the_hardware() -> None:
    async def scene(stage: Stage) -> None:
        stage.judge.ready = None
        stage.relay.handle(EmergencySet(stage.relay.now() + 60.0, "anna"))
        stage.link.host_says(stage.host, load())
        await asyncio.sleep(0)
        stage.book.commit()
        assert [type(m) for m in stage.link.at_gantry] == [Load]
        assert stage.judge.asked == []  # nobody waits for a judge that is not there
        stage.link.host_says(stage.host, Stop())
        stage.link.host_says(stage.host, load(element(KVP=155.0)))
        await asyncio.sleep(0)
        stage.book.commit()
        assert [type(m) for m in stage.link.at_gantry].count(Load) == 1
        assert stage.told_host(Refused)[-1].layer == "form"

    run(scene)


def test_shadow_mode_passes_what_the_judge_would_stop_and_says_so() -> None:
    async def scene(stage: Stage) -> None:
        stage.link.host_says(stage.host, load())
        stage.answers(within=False)
        stage.book.commit()
        assert [type(m) for m in stage.link.at_gantry] == [Load]
        assert stage.book.of("verdict")[0]["shadow"] is True
        assert "shadow mode" in stage.book.of("release")[0]["note"]

    run(scene, unsafe_shadow="true")


@pytest.mark.parametrize("kind", list(StopKind))
def test_a_stop_passes_first_and_is_recorded_after(kind: StopKind) -> None:
    async def scene(stage: Stage) -> None:
        stage.arm(load())
        other = stage.link.host_connects(Hello(SCANNER, Channel.STOP))
        stage.book.said.clear()
        stage.link.host_says(other, Stop(kind))
        assert stage.link.at_gantry[1] == Stop(kind)
        assert [type(m) for m in stage.link.at_gantry[2:]] == [Cancel]
        assert {said["kind"] for said in stage.book.said} == {"stop", "void"}
        assert all(said["reserved"] for said in stage.book.said)
        assert stage.relay.counters.stops == 1

    run(scene)


def test_what_could_not_be_sent_is_said() -> None:
    class Deaf(VirtualLink):
        def to_gantry(self, message: Any) -> None:
            raise LinkError("the gantry is gone", "test", "none")

    async def whole() -> None:
        link, book, crashes = Deaf(), Book(), []
        relay = Relay(policy(), link, crashes.append)
        relay.audit = book
        await link.start(relay)
        link.gantry_connects(Hello(SCANNER))
        link.host_says(link.host_connects(Hello(SCANNER)), Stop())
        assert book.of("unsent")[0]["what"] == "Stop"
        assert relay.counters.unsent == 1
        assert crashes == []
        relay.end()

    asyncio.run(whole())


# --- context, bundle


def test_context_that_the_guard_learns_later_voids_and_is_asked_with() -> None:
    async def scene(stage: Stage) -> None:
        said = load()
        stage.arm(said)
        parts = {"PatientAge": [{"value": 4.0, "source": "worklist"}]}
        stage.relay.know("another", parts)
        assert stage.relay.view().armed == said.id
        stage.relay.know(said.examination, parts)
        assert stage.relay.view().armed == ""
        stage.link.host_says(stage.host, load())
        assert stage.judge.asked[-1].parts == parts
        before = len(stage.book.said)
        stage.relay.know(said.examination, parts)  # nothing new
        assert len(stage.book.said) == before

    run(scene)


def test_another_bundle_voids_what_the_old_one_released() -> None:
    async def scene(stage: Stage) -> None:
        stage.relay.judge_ready(Ready("b" * 64, 1, 0.01, 0.1))
        stage.arm(load())
        stage.relay.judge_gone("it died")
        stage.relay.judge_ready(Ready("b" * 64, 1, 0.01, 0.1))
        assert stage.relay.view().armed == "L1"
        stage.relay.judge_ready(Ready("c" * 64, 2, 0.01, 0.1))
        assert stage.relay.view().armed == ""

    run(scene)


# --- what nobody foresaw


def test_an_exception_drops_both_links_is_recorded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        stage.arm(load())

        def broken(self: Gate, event: object, now: float) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Gate, "handle", broken)
        stage.link.host_says(stage.host, Trigger("T", "L1", 0))
        assert stage.link.dropped == "ZeroDivisionError: a bug"
        assert [type(error) for error in stage.crashes] == [ZeroDivisionError]
        assert stage.book.of("crash")[0]["error"] == "ZeroDivisionError: a bug"
        assert stage.book.of("crash")[0]["reserved"]
        sent = list(stage.link.at_gantry)
        stage.relay.host_said(stage.host, Trigger("T", "L1", 0))  # nothing more happens
        assert stage.link.at_gantry == sent
        assert len(stage.crashes) == 1

    run(scene)


def test_a_flood_of_malformed_messages_fills_no_log() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(5000):
            stage.relay.malformed(Side.HOST, "not a message", "0" * 16)
        recorded = stage.book.of("alert")
        assert len(recorded) <= RELAY_BOUNDS.malformed_burst + 2
        assert stage.relay.counters.malformed == 5000
        stage.relay.malformed(Side.GANTRY, "nonsense", "1" * 16)  # a gantry's is never left out
        assert stage.link.dropped is not None

    run(scene)


def test_events_that_follow_from_an_effect_wait_for_their_turn() -> None:
    class Echo(VirtualLink):
        """A gantry that answers before ``to_gantry`` has returned."""

        def to_gantry(self, message: Any) -> None:
            super().to_gantry(message)
            if isinstance(message, Load):
                self.gantry_says(Loaded(message.id, tuple(e.command.parameters for e in message.chain)))

    async def whole() -> None:
        link, book, judge, crashes = Echo(), Book(), Judge(), []
        relay = Relay(policy(), link, crashes.append)
        relay.audit, relay.judge, book.relay = book, judge, relay
        await link.start(relay)
        stage = Stage(relay, link, book, judge, Desk(), crashes)
        stage.connect()
        link.host_says(stage.host, load())
        stage.answers()
        book.commit()
        assert relay.view().armed == "L1"
        assert crashes == []
        kinds = [said["kind"] for said in book.said]
        assert kinds.index("sent") < kinds.index("armed")  # the effects of one event before those of the next
        relay.end()

    asyncio.run(whole())


# --- after a restart


def test_history_and_dose_are_told_by_the_log_and_what_may_have_been_sent_is_unknown() -> None:
    async def scene(stage: Stage) -> None:
        said = load(element(), element(KVP=100.0), element(KVP=80.0))
        stage.arm(said)
        for index in range(2):
            stage.link.host_says(stage.host, Trigger(f"T{index}", said.id, index))
            stage.book.commit()
            if index == 0:
                stage.link.gantry_says(Started(said.id, index))
                stage.link.gantry_says(Done(said.id, index, 9.0, 300.0))
        # the relay dies here: the second trigger was sent, and its end was never told
        lines = [json.dumps(each).encode() for each in stage.book.said]
        told = retell([payload(START, 0, {}), *lines])
        (course,) = told.courses
        assert (course.examination, course.patient) == (said.examination, said.patient)
        assert course.sent == [e.command for e in said.chain[:2]]
        beam = stage.relay.gate.beam
        assert beam is not None
        assert course.doses[1] == beam.forecast  # in whose beam it ended: counts as given
        assert len(course.doses) == 2
        assert told.unknown == []
        # and here: the trigger's record is durable, and whether it was sent is not said
        cut = [line for line in lines if not (b'"kind": "sent"' in line and b'"T1"' in line)]
        told = retell([payload(START, 0, {}), *cut])
        (unknown,) = told.unknown
        assert unknown["id"] == "T1"
        assert told.courses[0].sent == [e.command for e in said.chain[:2]]
        assert len(told.courses[0].doses) == 2  # what may have been given counts as given
        fresh = Book()
        async with staged() as after:
            after.relay.audit = fresh
            after.relay.restore(told)
            after.connect()
            assert [each["id"] for each in after.relay.unknown] == ["T1"]
            assert (fresh.of("unknown")[0]["id"], fresh.of("unknown")[0]["what"]) == ("T1", "trigger")
            assert after.link.at_gantry == []  # never sent again
            after.link.host_says(after.host, Load("L9", said.examination, said.patient, said.chain[2:]))
            assert len(after.judge.asked[-1].history) == 2

    run(scene)


def test_withdrawn_releases_are_not_unknown_and_tokens_of_another_life_do_not_meet() -> None:
    def said(kind: str, record: int, **data: object) -> bytes:
        return payload(kind, record, data)

    command = element().command
    told = retell(
        [
            said(START, 0),
            said("release", 1, id="L1"),
            said("withdrawn", 2, token=1, id="L1"),
            said("trigger", 3, id="T1", command=command, examination="e", patient="p"),
            said(START, 0),
            said("sent", 3, token=3, id="T9", by="trigger"),  # of this life, whose record 3 is another
            b"not json",
            b"[]",
            said("dose", 4, dose={"ctdivol": "x"}),
        ]
    )
    assert [each["id"] for each in told.unknown] == ["T1"]
    assert told.damaged == 3


# --- the log's port


class Heard:
    """An audit listener that remembers."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.conditions: list[Log] = []
        self.notes: list[str] = []

    def durable(self, token: int) -> None:
        self.tokens.append(token)

    def log_is(self, condition: Log, reason: str) -> None:
        self.conditions.append(condition)

    def log_note(self, kind: str, data: dict[str, object]) -> None:
        self.notes.append(kind)

    async def until(self, ready: Any) -> None:
        async with asyncio.timeout(WAIT):
            while not ready():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def ported(folder: Path, patience_s: float = 5.0) -> AsyncIterator[tuple[AuditPort, Heard]]:
    if not (folder / "log.key").exists():
        write_pair(folder / "log", SigningKey.from_seed(bytes([9]) * 32))
    (folder / "audit").mkdir(exist_ok=True)
    heard = Heard()
    port = AuditPort(folder / "audit", folder / "log.key", heard, patience_s=patience_s)
    port.start()
    try:
        yield port, heard
    finally:
        await port.close()


def test_the_port_tells_durability_and_outlives_its_writer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with ported(tmp_path) as (port, heard):
            assert port.condition is Log.FAILED  # nothing is durable before the log is open
            await heard.until(lambda: port.condition is Log.OK)
            for token in range(1, 20):
                port.send(token, b'{"kind":"x"}', reserved=False)
            await heard.until(lambda: heard.tokens[-1:] == [19])
            assert heard.tokens == sorted(set(heard.tokens))  # each stands for all before it
            first = port.pid
            os.kill(first, signal.SIGKILL)
            await heard.until(lambda: port.condition is Log.FAILED)
            await heard.until(lambda: port.condition is Log.OK)
            assert port.pid not in (0, first)
            port.send(20, b'{"kind":"x"}', reserved=False)
            await heard.until(lambda: heard.tokens[-1:] == [20])
            assert "writer_gone" in heard.notes

    asyncio.run(scene())


def test_a_writer_that_hangs_is_said_and_a_record_not_taken_is_told_before_a_later_one(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with ported(tmp_path, patience_s=0.3) as (port, heard):
            await heard.until(lambda: port.condition is Log.OK)
            os.kill(port.pid, signal.SIGSTOP)
            try:
                port.send(1, b'{"kind":"x"}', reserved=False)
                await heard.until(lambda: port.condition is Log.FAILED)
                big = b"x" * (AUDIT_BOUNDS.record_bytes - 1)
                for token in range(2, 40):
                    port.send(token, big, reserved=False)
            finally:
                os.kill(port.pid, signal.SIGCONT)
            await heard.until(lambda: port.condition is Log.OK)
            assert heard.tokens[-1] < 39  # some were refused, and the gate heard of it before any later one
            assert heard.conditions[:3] == [Log.FAILED, Log.OK, Log.FAILED]
            assert heard.conditions[-1] is Log.OK
            port.send(99, b'{"kind":"x"}', reserved=True)
            await heard.until(lambda: heard.tokens[-1:] == [99])

    asyncio.run(scene())


# --- the whole of it, with a link in memory


@pytest.mark.parametrize("how", ["gate", "callback", "signal"])
def test_a_guard_that_meets_the_unforeseen_drops_both_links_and_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    site = GuardSite.make(tmp_path, 4712, None, unsafe_shadow="true")
    link = VirtualLink()
    monkeypatch.setattr("gc.freeze", lambda: None)  # this process lives on

    async def scene() -> None:
        told: list[dict[str, Any]] = []
        running = asyncio.create_task(
            run_guard(verified(load_config(site.config)), told.append, tmp_path / "r", link)
        )
        async with asyncio.timeout(WAIT):
            while not told:
                await asyncio.sleep(0.01)
        link.gantry_connects(Hello(SCANNER))
        host = link.host_connects(Hello(SCANNER))

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        if how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            assert await running == 0
            assert told[-1]["ended"] is True
            return
        if how == "gate":
            monkeypatch.setattr(Gate, "handle", broken)
            link.host_says(host, Stop())
        else:
            asyncio.get_running_loop().call_soon(broken)
        with pytest.raises(ScanwardError, match="ZeroDivisionError: a bug"):
            await running
        assert link.dropped == "ZeroDivisionError: a bug"

    asyncio.run(scene())
    kinds = [said["kind"] for said in site.records()]
    assert kinds[0] == "start"
    assert ("crash" in kinds, "end" in kinds) == (how != "signal", how == "signal")
    assert not (tmp_path / "c.sock").exists()


def test_verdict_words_are_those_of_the_vocabulary() -> None:
    plain = json.loads(payload("verdict", 3, {"verdict": Verdict.HALT, "mode": Mode.QA, "x": float("nan")}))
    assert plain == {"kind": "verdict", "record": 3, "verdict": "HALT", "mode": "QA", "x": None}
    assert json.loads(payload("alert", 1, {"kind": "sent", "record": 2})) == {
        "kind": "alert",
        "record": 1,
        "kind_": "sent",
        "record_": 2,
    }
    told = json.loads(payload("load", 1, {"chain": load().chain}))
    assert told["chain"][0]["command"] == command_to_json(load().chain[0].command)
    assert isinstance(load().chain[0].command, Command)
