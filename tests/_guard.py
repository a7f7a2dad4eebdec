"""What the tests of policy and control share: the example policy with keys of our own, answers, loads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scanward.commands import (
    BODY_PHANTOM,
    HEAD_PHANTOM,
    LEARNED_LAYERS,
    RULE_LAYERS,
    Command,
    Context,
    Device,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
)
from scanward.commands.wire import Channel, Element, Load, Loaded
from scanward.guard.control_desk import ControlDesk
from scanward.guard.core import GateView
from scanward.guard.events import (
    Ask,
    Durable,
    Effect,
    Event,
    GantrySaid,
    GantryUp,
    HostUp,
    Judged,
    JudgeLost,
    Log,
    LogIs,
    Record,
    Said,
    SendGantry,
    SendHost,
    Tell,
    Tick,
)
from scanward.guard.examination import Course, Names, course_of
from scanward.guard.gate import Gate
from scanward.guard.policy import Policy
from scanward.guard.policy_read import parse_policy
from scanward.guard.policy_terms import ElementAnswer
from scanward.guard.profile import DeviceProfile
from scanward.guard.profile_read import parse_profile
from scanward.keys import SigningKey

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "policy"
DEVICE_TOML = (EXAMPLES / "device.toml").read_text("utf-8")
POLICY_TOML = (EXAMPLES / "policy.toml").read_text("utf-8")
SITE_KEY = SigningKey.from_seed(bytes([1]) * 32)
ANNA = SigningKey.from_seed(bytes([2]) * 32)  # release, refuse, emergency
BERT = SigningKey.from_seed(bytes([3]) * 32)  # everything, and mode
CARL = SigningKey.from_seed(bytes([4]) * 32)  # refuse alone
STRANGER = SigningKey.from_seed(bytes([5]) * 32)
SCANNER = Device("Simulated Sigma", "S-128")

PEOPLE = f"""
[operators.bert]
key = "{BERT.verify_key.raw.hex()}"
may = ["release", "refuse", "emergency", "mode"]
[operators.carl]
key = "{CARL.verify_key.raw.hex()}"
may = ["refuse"]
"""


def policy_text(**top: str) -> str:
    """The example with anna's key replaced, bert and carl added, and ``top`` put before the first table."""
    lines = POLICY_TOML.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("key = "))
    lines[at] = f'key = "{ANNA.verify_key.raw.hex()}"'
    first = next(i for i, line in enumerate(lines) if line.startswith("["))
    lines[first:first] = [f"{key} = {value}" for key, value in top.items()]
    return "\n".join(lines) + PEOPLE


def profile() -> DeviceProfile:
    """The example's device profile."""
    return parse_profile(DEVICE_TOML.encode(), "device.toml", "d" * 64)


def policy(text: str | None = None, **top: str) -> Policy:
    """The example policy (or ``text``), parsed."""
    return parse_policy((text or policy_text(**top)).encode(), "policy.toml", profile(), "p" * 64)


BASE: dict[str, Any] = {
    "AcquisitionType": "SPIRAL",
    "KVP": 120.0,
    "XRayTubeCurrentInmA": 200.0,
    "RevolutionTime": 0.5,
    "SpiralPitchFactor": 1.0,
    "TotalCollimationWidth": 38.4,
    "CTDIwPhantomType": BODY_PHANTOM,
    "CTDIvol": 7.0,
    "DLP": 210.0,
    "ScanLength": 300.0,
    "AcquisitionStartLocation": 0.0,
    "AcquisitionEndLocation": 300.0,
}


def element(age: float | None = None, **changes: Any) -> Element:
    """An ordinary spiral; a change to None leaves the field out."""
    parameters = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
    context = Context({"PatientAge": (Told(age, Source.HOST),)} if age is not None else {})
    return Element(Command(parameters, context, SCANNER))


def load(*elements: Element, triggers: int = 1) -> Load:
    """A load of these elements, of one examination."""
    return Load("L1", "e" * 16, "p" * 16, elements or (element(),), triggers)


def answer(
    said: Mapping[LayerName, tuple[Severity, str]] | None = None,
    *,
    within: bool | None = True,
    disputed: bool = False,
    without: tuple[LayerName, ...] = (),
) -> ElementAnswer:
    """All layers pass, except those in ``said``, which object so gravely to such a field."""
    opinions = []
    for layer in (*RULE_LAYERS, *LEARNED_LAYERS):
        if layer in without:
            continue
        if said and layer in said:
            severity, name = said[layer]
            objection = Objection(name, "is odd", 1.0, "2", severity=severity)
            opinions.append(Opinion(layer, Outcome.OBJECT, (objection,)))
        else:
            opinions.append(Opinion(layer, Outcome.PASS, p_value=0.5 if layer in LEARNED_LAYERS else None))
    told = (Objection("PatientAge", "sources disagree", 3.0),) if disputed else ()
    return ElementAnswer(tuple(opinions), 0.5, within, told)


HEAD: dict[str, Any] = {"CTDIwPhantomType": HEAD_PHANTOM}


# --- a gate with a desk, and nothing else of the relay


class Bench:
    """The real gate, policy and desk with a clock turned by hand; judge, log and links are lists.

    ``judge``: answers of the judge for each element, or None for a judge that is dead. ``log``: whether records become
    durable.
    """

    def __init__(self, site: Policy | None = None) -> None:
        self.policy = site or policy()
        self.gate = Gate(self.policy.gate_rules())
        self.clock = 1000.0
        self.judge: list[ElementAnswer] | None = [answer()]
        self.log = Log.OK
        self.to_gantry: list[Any] = []
        self.to_host: list[Any] = []
        self.records: list[tuple[str, dict[str, Any], bool]] = []
        self.shown: list[tuple[str, dict[str, Any]]] = []
        self.names = Names()
        self.parts: dict[str, dict[str, list[dict[str, Any]]]] = {}  # by examination
        self.publish: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None
        self.desk = ControlDesk(self.policy, self, self._publish)
        self._waiting: deque[Event] = deque()
        self._busy = False
        for event in (GantryUp(), HostUp(1, Channel.COMMANDS)):
            self.handle(event)

    def _publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self.shown.append((kind, dict(data)))
        self.publish(kind, data)

    # what the desk needs
    def handle(self, event: Event) -> None:
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        while self._waiting:
            for effect in self.gate.handle(self._waiting.popleft(), self.clock):
                self._carry_out(effect)
        self._busy = False
        self.desk.settled()

    def course(self) -> Course | None:
        return course_of(self.gate, self.parts, self.names)

    def forget(self) -> None:
        self.names.forget()
        self.gate.latest = None

    def view(self) -> GateView:
        return self.gate.view()

    def now(self) -> float:
        return self.clock

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool) -> None:
        self.records.append((kind, dict(data), reserved))

    # what the relay would do
    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, SendGantry):
            self.to_gantry.append(effect.message)
            if isinstance(effect.message, Load):
                echo = tuple(e.command.parameters for e in effect.message.chain)
                self._waiting.append(GantrySaid(Loaded(effect.message.id, echo)))
        elif isinstance(effect, SendHost):
            self.to_host.append(effect.message)
        elif isinstance(effect, Tell):
            self.desk.told(effect.kind, effect.data)
        elif isinstance(effect, Record):
            self.records.append((effect.kind, dict(effect.data), effect.reserved))
            self.desk.recorded(effect.kind, effect.data)
            if self.log is Log.OK or (self.log is Log.FULL and effect.reserved):
                self._waiting.append(Durable(effect.token))
        elif isinstance(effect, Ask):
            self._waiting.append(self._judged(effect))

    def _judged(self, ask: Ask) -> Event:
        whole = Load("", ask.examination, "", ask.chain)
        if self.judge is not None:
            findings = self.policy.decide(whole, self.judge * len(ask.chain), ask.mode)
        elif self.gate.emergency:
            findings = self.policy.decide_without_judge(whole, ask.mode, "the judge is gone")
        else:
            return JudgeLost(ask.request, "the judge is gone")
        return Judged(ask.request, findings, "b" * 64)

    def load(self, *elements: Element, examination: str = "e" * 16) -> Load:
        """The host loads; what came of it is in ``to_gantry`` and ``to_host``."""
        self._loads = getattr(self, "_loads", 0) + 1
        made = Load(f"L{self._loads}", examination, f"p{examination}", elements or (element(),))
        self.desk.before_load(examination)
        self.handle(Said(1, made))
        return made

    def set_log(self, condition: Log) -> None:
        self.log = condition
        self.handle(LogIs(condition))

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds
        self.handle(Tick())
        self.desk.tick()

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        return [data for k, data, _ in self.records if k == kind]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for k, data in self.shown if k == kind]
