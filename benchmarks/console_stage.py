"""A scanner with a past, for the console: weeks of examinations through the real gate, policy and judge, in minutes.

The clock is moved by hand; what the guard would write to its audit log is written to a log, signed with the guard's own
key. Everything is simulated: the site, its patients, and what the staff says.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scanward.audit import Moment, PosixFolder, Writer
from scanward.bundle import read
from scanward.codecs.stream import command_to_json
from scanward.commands import Examination, Mode, Verdict
from scanward.commands.wire import Channel, Done, Element, Load, Loaded, Started, Trigger
from scanward.emulator.fitting import Fitting
from scanward.emulator.host import chains_of
from scanward.guard.control_desk import ControlDesk
from scanward.guard.core import GateView
from scanward.guard.events import (
    Ask,
    Decision,
    Durable,
    Effect,
    Event,
    GantrySaid,
    GantryUp,
    HostUp,
    Judged,
    OperatorSaid,
    Record,
    Said,
    SendGantry,
    Tell,
    Tick,
)
from scanward.guard.gate import Gate
from scanward.guard.ipc import Question, element_answer
from scanward.guard.judge_room import JudgeRoom
from scanward.guard.operators import Act, ActKind
from scanward.guard.pending import worst
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.profile_read import parse_profile
from scanward.guard.relay_records import START, payload
from scanward.keys import SigningKey, VerifyKey
from scanward.layers.onion import Onion
from scanward.learning.benchmark.cases import Case

PEOPLE = ("anna", "bert")
REASONS = ("ordered like this by the radiologist", "large patient, dose agreed", "repeat after movement")


@dataclass(frozen=True)
class Happened:
    """What the past had, for whoever looks whether the console shows it."""

    examinations: int
    attacked: int
    held: int
    released: int


class Past:
    """One scanner before now.

    Parameters
    ----------
    fitting : Fitting
        The folder of a guard: its policy and audit key are used, and its audit folder is written to.
    """

    def __init__(self, fitting: Fitting, begun: float, seed: int = 5) -> None:
        self.clock = begun
        self.held_count = self.released_count = 0
        self._chance = random.Random(seed)
        bundle = read(fitting.folder / "bundle", trusted=[VerifyKey.load(fitting.folder / "bundle.pub")])
        onion = Onion.from_part(bundle.part)
        self._bundle = bundle.manifest.digest
        self._room = JudgeRoom(onion, self._bundle)
        self.policy = _policy(fitting.folder)
        self._log = PosixFolder(fitting.audit)
        self._writer = Writer(self._log, SigningKey.load(fitting.folder / "audit.key"), self._moment())
        self._gate = Gate(self.policy.gate_rules())
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._loads = 0
        self._to_gantry: list[Any] = []
        self._write(START, {"version": "simulated", "weakenings": list(self.policy.weakenings)})
        self.desk = ControlDesk(self.policy, self, lambda kind, data: None)
        told = {
            "bundle": self._bundle,
            "version": bundle.manifest.version,
            "budget": onion.budget,
            "seconds": 1.0,
        }
        self.record("judge_ready", told)
        self.desk.told("judge_ready", told)
        for event in (GantryUp(), HostUp(1, Channel.COMMANDS)):
            self.handle(event)

    # --- the relay's part, as the desk wants it

    def handle(self, event: Event) -> None:
        """Everything that follows from an event."""
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        while self._waiting:
            for effect in self._gate.handle(self._waiting.popleft(), self.clock):
                self._carry_out(effect)
        self._busy = False

    def view(self) -> GateView:
        """The gate as it is."""
        return self._gate.view()

    def now(self) -> float:
        """The clock, s since 1970 here."""
        return self.clock

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool = True) -> None:
        """To the log."""
        self._write(kind, data)

    def course(self) -> None:
        """No screen looks at the past."""

    def forget(self) -> None:
        """It knows no names."""

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, SendGantry):
            self._to_gantry.append(effect.message)
            if isinstance(effect.message, Load):
                echo = tuple(e.command.parameters for e in effect.message.chain)
                self._waiting.append(GantrySaid(Loaded(effect.message.id, echo)))
        elif isinstance(effect, Tell):
            self.desk.told(effect.kind, effect.data)
        elif isinstance(effect, Record):
            self._write(effect.kind, effect.data, effect.token)
            self.desk.recorded(effect.kind, effect.data)
            self._waiting.append(Durable(effect.token))
        elif isinstance(effect, Ask):
            self._waiting.append(self._judged(effect))

    def _judged(self, ask: Ask) -> Event:
        question = Question(
            ask.request,
            ask.mode.value,
            [command_to_json(c) for c in ask.history],
            [command_to_json(e.command) for e in ask.chain],
        )
        answers = [element_answer(shape) for shape in self._room.answer(question).elements]
        load = Load("", ask.examination, "", ask.chain)
        return Judged(ask.request, self.policy.decide(load, answers, ask.mode), self._bundle)

    def _moment(self) -> Moment:
        ns = int(self.clock * 1e9)
        return Moment(ns, ns)

    def _write(self, kind: str, data: Mapping[str, object], record: int = 0) -> None:
        self._writer.append(payload(kind, record, data), self._moment())

    # --- what happens

    def examination(self, one: Examination, number: int) -> None:
        """One patient: loads in order, what the staff says to holds, beams."""
        name = f"{number:016x}"
        for chain in chains_of(one):
            elements = tuple(replace(e, command=replace(e.command, examination=name)) for e in chain)
            self._load(elements, name)
            self.pass_time(60.0)
        self._writer.commit(self._moment())

    def _load(self, elements: tuple[Element, ...], name: str) -> None:
        self._loads += 1
        load = Load(f"L{self._loads}", name, f"p{name}", elements)
        self.desk.before_load(name)
        self._to_gantry.clear()
        self.handle(Said(1, load))
        held = self.desk.held
        if held is not None:
            self.held_count += 1
            self._staff(held)
        if not any(isinstance(message, Load) for message in self._to_gantry):
            return
        for index, element in enumerate(elements):
            self.pass_time(20.0)
            if not element.auto:
                self.handle(Said(1, Trigger(f"T{self._loads}-{index}", load.id, index)))
            ctdivol, dlp = (element.command.number(what) or 0.0 for what in ("CTDIvol", "DLP"))
            self.handle(GantrySaid(Started(load.id, index)))
            self.handle(GantrySaid(Done(load.id, index, ctdivol, dlp)))

    def _staff(self, held: Mapping[str, Any]) -> None:
        """Most holds are released with a reason, some are refused, few are answered by nobody."""
        self.clock += self._chance.uniform(4.0, 18.0)
        choice = self._chance.random()
        if choice > 0.92:
            self.pass_time(600.0)
            return
        decision = Decision.RELEASE if choice < 0.6 else Decision.REFUSE
        who = self._chance.choice(PEOPLE)
        reason = self._chance.choice(REASONS) if decision is Decision.RELEASE else "not what was ordered"
        self.released_count += decision is Decision.RELEASE
        self.handle(OperatorSaid(decision, held["request"], held["digest"], who, reason))
        told = {
            "act": decision.value,
            "operator": who,
            "request": held["request"],
            "done": True,
            "refused": "",
        }
        self.record("act", {"peer": "console", "user": "", "local": False, **told})

    def emergency(self, one: Examination, number: int, reason: str) -> None:
        """Emergency access for one patient; ``reason`` empty: nobody has said why."""
        self.desk.act(Act(ActKind.EMERGENCY, PEOPLE[0]), PEOPLE[0])
        self.examination(one, number)
        self.desk.act(Act(ActKind.EMERGENCY_END, PEOPLE[0]), PEOPLE[0])
        if reason:
            self.desk.act(
                Act(ActKind.EMERGENCY_REASON, PEOPLE[0], self.desk.emergency.granted, reason=reason),
                PEOPLE[0],
            )
        self._writer.commit(self._moment())

    def pass_time(self, seconds: float) -> None:
        """The clock goes on."""
        self.clock += seconds
        self.handle(Tick())
        self.desk.tick()

    def close(self) -> None:
        """The relay ends, and its log is closed."""
        self._write("end", {})
        self._writer.close(self._moment())
        self._log.done()


def live(
    fitting: Fitting,
    examinations: Sequence[Examination],
    attacked: Mapping[int, Examination],
    days: float,
    until: float,
) -> Happened:
    """A past of ``days`` days before ``until``: each examination once, or what an attacker made of it.

    The first and the last attacked one meet emergency access; why, is said of the first alone.
    """
    past = Past(fitting, until - 86_400.0 * days)
    step = 86_400.0 * days / max(1, len(examinations))
    urgent = {min(attacked): "polytrauma, no time for a hold", max(attacked): ""} if attacked else {}
    for number, one in enumerate(examinations):
        due = until - 86_400.0 * days + number * step
        if past.clock < due:
            past.pass_time(due - past.clock)
        one = attacked.get(number, one)
        if number in urgent:
            past.emergency(one, number, urgent[number])
        else:
            past.examination(one, number)
    past.close()
    return Happened(len(examinations), len(attacked), past.held_count, past.released_count)


def first_held(fitting: Fitting, cases: Sequence[Case]) -> Case:
    """The first attacked examination whose last load the guard will hold: neither released nor halted."""
    bundle = read(fitting.folder / "bundle", trusted=[VerifyKey.load(fitting.folder / "bundle.pub")])
    room = JudgeRoom(Onion.from_part(bundle.part), bundle.manifest.digest)
    policy = _policy(fitting.folder)
    for case in cases:
        *before, last = chains_of(Examination("", case.commands))
        history = [command_to_json(e.command) for chain in before for e in chain]
        question = Question(1, Mode.CLINICAL.value, history, [command_to_json(e.command) for e in last])
        answers = [element_answer(shape) for shape in room.answer(question).elements]
        if worst(policy.decide(Load("", "e", "p", last), answers, Mode.CLINICAL)).verdict is Verdict.ALERT:
            return case
    raise SystemExit("none of these attacks is held")


def _policy(folder: Path) -> Policy:
    profile = parse_profile((folder / "device.toml").read_bytes(), "device.toml", "0" * 64)
    return parse_policy((folder / "policy.toml").read_bytes(), "policy.toml", profile, "0" * 64)
