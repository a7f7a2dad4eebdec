"""The relay: the gate with its link, its judge, its log and its console around it, on one asyncio loop.

Events come in by the calls of the parts, one at a time, in the order in which they happened; the gate's effects go
out in the order given. Nothing here waits. Whatever happens that nobody foresaw drops both links, is recorded as
far as that is possible, and ends the process (docs/guard.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from scanward.codecs.stream import command_to_json
from scanward.commands import Mode
from scanward.commands.wire import FromGantry, FromHost, Hello, Load, Motion, Stop
from scanward.config import RELAY_BOUNDS, RelayBounds
from scanward.errors import DecodeError, LinkError
from scanward.guard import events
from scanward.guard.core import GateView
from scanward.guard.events import Ask, Close, Drop, Effect, Event, Log, Record, SendGantry, SendHost, Tell
from scanward.guard.examination import Course, Names, course_of
from scanward.guard.gate import Gate
from scanward.guard.ipc import Answer, Failed, Question, Ready, element_answer
from scanward.guard.policy import Policy, informed
from scanward.guard.relay_records import Told, payload, plain
from scanward.links.base import Link, Side


class Asked(Protocol):
    """What the relay needs of `judge_client.JudgeClient`."""

    @property
    def ready(self) -> Ready | None:
        """The judge that is ready, None while there is none."""

    def ask(self, question: Question) -> None:
        """Ask; the relay's ``answered`` or ``lost`` follows."""


class Lookup(Protocol):
    """What the relay needs of `context_client.ContextClient`."""

    def ask(self, examination: str, patient: str) -> None:
        """Ask; the relay's ``context_told`` follows."""

    def awaits(self, examination: str) -> bool:
        """Whether an answer is on its way."""


class Doses(Protocol):
    """What the relay needs of `dose_port.DosePort`."""

    def loaded(self, load: Load) -> None:
        """A load is about to be given to the gate; the relay's ``delivered`` may follow."""


class Book(Protocol):
    """What the relay needs of `relay_audit.AuditPort`."""

    def send(self, token: int, payload: bytes, *, reserved: bool) -> None:
        """A record that the gate may wait for."""

    def note(self, payload: bytes, *, reserved: bool = True) -> None:
        """A record that nobody waits for."""


class Desk(Protocol):
    """What the relay needs of `control_desk.ControlDesk`: operators and their screens."""

    def before_load(self, examination: str) -> None:
        """A host's load is about to be given to the gate."""

    def recorded(self, kind: str, data: Mapping[str, Any]) -> None:
        """The gate had something recorded."""

    def told(self, kind: str, data: Mapping[str, Any]) -> None:
        """News for operators; never blocks."""

    def settled(self) -> None:
        """What the gate made of an event is out."""

    def renew(self) -> None:
        """Something of the examination is known better; never blocks."""

    def tick(self) -> None:
        """Once a second."""


@dataclass(slots=True)
class _Flood:
    """How many malformed messages of one side may still be recorded one by one."""

    left: float
    since: float
    more: int = 0


@dataclass(slots=True)
class Counters:
    """What the relay has done: for the console and for tests."""

    handled: int = 0
    stops: int = 0
    asked: int = 0
    malformed: int = 0
    unsent: int = field(default=0)


class Relay:
    """Implements `links.base.Sink`, `judge_client.JudgeListener` and `relay_audit.AuditListener`.

    Parameters
    ----------
    policy : Policy
    crashed : callable of exception
        Called once when something happened that nobody foresaw; both links are dropped by then.
    """

    def __init__(
        self,
        policy: Policy,
        link: Link,
        crashed: Callable[[BaseException], None],
        *,
        mode: Mode = Mode.CLINICAL,
        bounds: RelayBounds = RELAY_BOUNDS,
    ) -> None:
        self.gate = Gate(policy.gate_rules(), mode)
        self.policy = policy
        self.counters = Counters()
        self.unknown: list[dict[str, Any]] = []
        self.judge: Asked | None = None
        self.audit: Book | None = None
        self.desk: Desk | None = None
        self.lookup: Lookup | None = None
        self.doses: Doses | None = None
        self.observe: Callable[[Effect], None] | None = None
        self.names = Names()
        self._link = link
        self._crashed = crashed
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._busy = False
        self._dead = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._parts: dict[str, dict[str, list[dict[str, Any]]]] = {}  # by examination
        self._unasked: dict[str, Ask] = {}  # by examination: waiting for the worklist
        self._whose: dict[str, str] = {}  # by examination: the patient for whom it was loaded last
        self._bundle = ""
        self._judge_trouble = ""  # what was said last of a judge that is not there
        self._floods = {side: _Flood(bounds.malformed_burst, -math.inf) for side in Side}

    # --- events in

    def handle(self, event: Event) -> None:
        """Everything that follows from an event. An event that follows from an effect waits for its turn."""
        self._events.append(event)
        if self._busy or self._dead:
            return
        self._busy = True
        try:
            while self._events and not self._dead:
                self.counters.handled += 1
                for effect in self.gate.handle(self._events.popleft(), self._loop.time()):
                    self._do(effect)
            self._schedule()
            if self.desk is not None and not self._dead:
                self.desk.settled()
        except Exception as error:  # noqa: BLE001 - whatever it is: both links fall, and the process ends
            self.crash(error)
        finally:
            self._busy = False

    def crash(self, error: BaseException) -> None:
        """Drop both links, record what can be recorded, end."""
        if self._dead:
            return
        self._dead = True
        self._events.clear()
        reason = f"{type(error).__name__}: {error}"[:500]
        try:
            self._link.drop(reason)
        finally:
            if self.audit is not None:
                self.audit.note(payload("crash", 0, {"error": reason}), reserved=True)
            self._crashed(error)

    def end(self) -> None:
        """Nothing more is handled."""
        self._dead = True
        if self._timer is not None:
            self._timer.cancel()

    # --- links.base.Sink

    def host_up(self, connection: int, hello: Hello) -> None:
        """A host is there."""
        self.handle(events.HostUp(connection, hello.channel))

    def host_lost(self, connection: int, reason: str) -> None:
        """A host is gone."""
        self.handle(events.HostLost(connection, reason))

    def host_said(self, connection: int, message: FromHost) -> None:
        """One message of a host."""
        if isinstance(message, Stop):
            self.counters.stops += 1
        elif isinstance(message, Load):
            if self.desk is not None:
                self.desk.before_load(message.examination)
            if self.doses is not None:
                self.doses.loaded(message)
            if self.lookup is not None and connection == self.gate.host:
                self._look_up(self.lookup, message)
        self.handle(events.Said(connection, message))

    def gantry_up(self, hello: Hello) -> None:
        """The gantry is there."""
        self.handle(events.GantryUp())

    def gantry_lost(self, reason: str) -> None:
        """The gantry is gone."""
        self.handle(events.GantryLost(reason))

    def gantry_said(self, message: FromGantry) -> None:
        """One message of the gantry."""
        self.handle(events.GantrySaid(message))

    def malformed(self, side: Side, reason: str, digest: str) -> None:
        """What is no message: recorded one by one, and in a flood by their number."""
        self.counters.malformed += 1
        flood, now = self._floods[side], self._loop.time()
        most = self._bounds.malformed_burst
        flood.left = min(most, flood.left + (now - flood.since) * self._bounds.malformed_rate)
        flood.since = now
        if flood.left < 1 and side is Side.HOST:
            flood.more += 1
            return
        flood.left -= 1
        more, flood.more = flood.more, 0
        note = f" (and {more} more since the last that was recorded)" if more else ""
        self.handle(events.Malformed(side.value, reason + note, digest))

    # --- judge_client.JudgeListener

    def judge_ready(self, ready: Ready) -> None:
        """A judge: what was armed by another bundle is void."""
        self._judge_trouble = ""
        facts = {"bundle": ready.digest, "version": ready.version, "budget": ready.budget}
        self._note("judge_ready", {**facts, "seconds": ready.seconds})
        if self._bundle not in ("", ready.digest):
            self.handle(events.Changed(events.Bound.BUNDLE, ready.digest))
        self._bundle = ready.digest

    def judge_gone(self, reason: str) -> None:
        """No judge for now. Said once: one that cannot be had is tried for again and again."""
        if reason != self._judge_trouble:
            self._judge_trouble = reason
            self._note("judge_gone", {"reason": reason})

    def judge_refused(self, failed: Failed) -> None:
        """The bundle is refused: nothing is released until it is put right."""
        if failed.what != self._judge_trouble:
            self._judge_trouble = failed.what  # which is also the reason why it ends
            self._note("judge_refused", {"what": failed.what, "where": failed.where, "todo": failed.todo})

    def answered(self, answer: Answer) -> None:
        """Opinions: the policy makes findings of them, and the gate hears those."""
        load = self._load_of(answer.request)
        if load is None:
            return  # asked no more
        try:
            answers = [element_answer(shape) for shape in answer.elements]
        except DecodeError as error:
            self.lost(answer.request, error.what)
            return
        findings = self.policy.decide(load, answers, self.gate.mode, self.gate.ledgers_of(load))
        self.handle(events.Judged(answer.request, findings, answer.bundle))

    def lost(self, request: int, reason: str) -> None:
        """No opinions. Emergency access and shadow mode still get what needs no judge."""
        load = self._load_of(request)
        if load is not None and (self.gate.emergency or self.gate.shadow):
            ledgers = self.gate.ledgers_of(load)
            findings = self.policy.decide_without_judge(load, self.gate.mode, reason, ledgers)
            self.handle(events.Judged(request, findings, ""))
        else:
            self.handle(events.JudgeLost(request, reason))

    # --- relay_audit.AuditListener

    def durable(self, token: int) -> None:
        """A record is on disk."""
        self.handle(events.Durable(token))

    def log_is(self, condition: Log, reason: str) -> None:
        """The log's condition changed."""
        self._tell("log", {"condition": condition.value, "reason": reason})
        self.handle(events.LogIs(condition))

    def log_note(self, kind: str, data: dict[str, object]) -> None:
        """Something of the log to be shown."""
        self._tell(kind, data)

    # --- control_desk.Relay

    def view(self) -> GateView:
        """The gate as it is."""
        return self.gate.view()

    def now(self) -> float:
        """The gate's clock, s."""
        return self._loop.time()

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool = True) -> None:
        """To the audit log; nobody waits for it."""
        if self.audit is not None:
            self.audit.note(payload(kind, 0, data), reserved=reserved)

    def course(self) -> Course | None:
        """The examination that was loaded last, with the names that worklist or host told; None for none."""
        return course_of(self.gate, self._parts, self.names)

    def forget(self) -> None:
        """Know no names any more, and no last load: nobody has worked here for a while."""
        self.names.forget()
        self.gate.latest = None

    # --- what the guard knows by itself

    def delivered(self, event: events.Delivered, *, loading: bool = False) -> None:
        """What dose reports tell may raise an account, and begins one only for what the host is loading."""
        known = self.gate.ledgers.keys()
        if loading or f"e:{event.examination}" in known:
            self.handle(event)

    def noted(self, kind: str, data: Mapping[str, object]) -> None:
        """News of a source: recorded and shown."""
        self._note(kind, data)

    def labelled(self, examination: str, label: Mapping[str, str]) -> None:
        """How the worklist names an examination and its patient: for screens, in memory alone."""
        self.names.told(examination, label)
        if self.desk is not None:
            self.desk.renew()

    def know(self, examination: str, parts: Mapping[str, list[dict[str, Any]]]) -> None:
        """Context from the guard's own sources (worklist, localizer, operator): judged with, and binding."""
        if self._parts.get(examination) == dict(parts):
            return
        self._parts[examination] = dict(parts)
        while len(self._parts) > self._bounds.contexts:
            del self._parts[next(iter(self._parts))]
        if self.desk is not None:
            self.desk.renew()
        if self.gate.emergency:
            return  # judged with from now on; what emergency access released is not taken back for it
        digest = hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()
        self.handle(events.Changed(events.Bound.CONTEXT, digest, examination))

    def _look_up(self, lookup: Lookup, load: Load) -> None:
        """Ask who that is, unless it is known; the same examination for another patient is asked for again."""
        name = load.examination
        known = name in self._parts and self._whose.get(name) == load.patient
        if known or (lookup.awaits(name) and self._whose.get(name) == load.patient):
            return
        self._whose[name] = load.patient
        while len(self._whose) > self._bounds.contexts:
            del self._whose[next(iter(self._whose))]
        lookup.ask(name, load.patient)

    def context_told(self, examination: str, parts: dict[str, list[dict[str, Any]]], reason: str) -> None:
        """The worklist's answer, or none: what waited for it is asked now, by the gate anew or as it was."""
        ask = self._unasked.pop(examination, None)
        if reason:
            self._note("context", {"examination": examination, "reason": reason})
        if parts:
            self.know(examination, parts)
        if ask is not None and self._load_of(ask.request) is not None:
            self._question(ask)

    def restore(self, told: Told) -> None:
        """What the log tells after a restart; what may have been sent is shown, never sent again."""
        for course in told.courses:
            self.gate.restore(course.examination, course.patient, tuple(course.sent), tuple(course.doses))
        self.unknown = [
            {"what": said["kind"]} | {k: said.get(k) for k in ("id", "load", "element", "examination")}
            for said in told.unknown
        ]
        for said in self.unknown:
            self._note("unknown", said)

    # --- effects out

    def _do(self, effect: Effect) -> None:
        if self.observe is not None:
            self.observe(effect)
        match effect:
            case SendGantry(message):
                self._to_gantry(message)
            case SendHost(message, connection):
                to = connection or self.gate.host
                if to:
                    try:
                        self._link.to_host(to, message)
                    except LinkError:
                        return  # it is gone, and the link says so by itself
            case Record(token, kind, data, reserved):
                assert self.audit is not None
                self.audit.send(token, payload(kind, token, data), reserved=reserved)
                if self.desk is not None:
                    self.desk.recorded(kind, data)
            case Tell(kind, data):
                self._tell(kind, data)
            case Ask():
                self._ask(effect)
            case Close(connection, reason):
                self._link.hang_up(connection, reason)
            case Drop(reason):
                self._link.drop(reason)

    def _to_gantry(self, message: Any) -> None:
        try:
            self._link.to_gantry(message)
        except LinkError as error:
            self.counters.unsent += 1
            self._note("unsent", {"what": type(message).__name__, "reason": error.what})

    def _ask(self, ask: Ask) -> None:
        self.counters.asked += 1
        if ask.motion is not None:
            finding = self.policy.decide_motion(ask.motion)
            self.handle(events.Judged(ask.request, (finding,), self._bundle))
            return
        urgent = self.gate.emergency and (self.judge is None or self.judge.ready is None)
        if self.judge is None or urgent:
            self._loop.call_soon(self.lost, ask.request, "there is no judge")
            return
        if self.lookup is not None and self.lookup.awaits(ask.examination) and not self.gate.emergency:
            self._unasked[ask.examination] = ask
            return
        self._question(ask)

    def _question(self, ask: Ask) -> None:
        assert self.judge is not None
        self.judge.ask(
            Question(
                ask.request,
                ask.mode.value,
                [command_to_json(command) for command in ask.history],
                [command_to_json(element.command) for element in ask.chain],
                self._parts.get(ask.examination, {}),
            )
        )

    def _load_of(self, request: int) -> Load | None:
        for item in self.gate.queue:
            if item.request == request and not isinstance(item.message, Motion):
                return informed(item.message, self._parts.get(item.message.examination, {}))
        return None

    def _tell(self, kind: str, data: Mapping[str, object]) -> None:
        if self.desk is not None:
            self.desk.told(kind, data)

    def _note(self, kind: str, data: Mapping[str, object]) -> None:
        """Recorded and shown, and nobody waits for it."""
        self.record(kind, data)
        self._tell(kind, data)

    # --- time

    def _schedule(self) -> None:
        due = self.gate.due()
        if due == self._timer_due and self._timer is not None and not self._timer.cancelled():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        # never at once: a gate that is due and stays so must not keep the loop from its sockets
        soonest = self._loop.time() + 0.001
        self._timer = None if math.isinf(due) else self._loop.call_at(max(due, soonest), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.handle(events.Tick())
