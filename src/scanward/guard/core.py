"""What the gate holds, and the few things that all its actions do: send, tell, record, void. No I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from scanward.commands import Mode
from scanward.commands.wire import Cancel, Load, Motion, Refused, ToGantry, Trigger
from scanward.errors import ScanwardError
from scanward.guard.arming import Armed, chain_digest, motion_digest
from scanward.guard.events import (
    Ask,
    Effect,
    Finding,
    Forecast,
    GateRules,
    Log,
    ModeRules,
    Record,
    SendGantry,
    SendHost,
    Tell,
)
from scanward.guard.ledger import Ledger, Ledgers
from scanward.guard.states import Firing, Pending, Phase


class GateError(ScanwardError):
    """The gate found itself in a state that its tables do not allow: a bug. The relay drops both links."""


@dataclass(slots=True)
class Item:
    """A load or motion on its way. ``request`` names it to judge and operator; ``token`` is its release's record."""

    message: Load | Motion
    connection: int
    digest: str
    request: int = 0
    since: float = 0.0  # when its present state began
    token: int = 0
    durable: bool = False
    reserved: bool = False
    findings: tuple[Finding, ...] = ()
    bundle: str = ""
    note: str = ""  # why it is released though something objected

    @property
    def load(self) -> Load | None:
        """The load, None for a motion."""
        return self.message if isinstance(self.message, Load) else None

    @property
    def persons(self) -> int:
        """How many operators have to release it."""
        return max((finding.persons for finding in self.findings), default=1)


@dataclass(slots=True)
class Shot:
    """A trigger on its way, or the element that it began."""

    trigger: Trigger
    armed: Armed
    forecast: Forecast
    token: int
    since: float
    begun: bool = False  # the gantry said that its beam is on


@dataclass(frozen=True, slots=True)
class GateView:
    """The gate as others may see it."""

    phase: Phase
    pending: Pending
    firing: Firing
    mode: Mode
    log: Log
    host: int
    gantry: bool
    queue: tuple[str, ...]
    hold: int  # request on hold, 0 for none
    armed: str  # id of the armed load, empty for none
    used: tuple[int, ...]
    emergency_until: float


class GateCore:
    """State and common acts. ``Gate`` adds what is done on each sign."""

    def __init__(self, rules: GateRules, mode: Mode = Mode.CLINICAL) -> None:
        if mode not in rules.modes:
            raise GateError(f"the policy has no rules for mode {mode}", "modes", "add them to the policy")
        self.rules = rules
        self.phase, self.pending, self.firing = Phase.IDLE, Pending.NONE, Firing.NONE
        self.mode = mode
        self.log = Log.OK
        self.host, self.gantry = 0, False
        self.queue: deque[Item] = deque()
        self.moving: deque[str] = deque(maxlen=rules.queue)  # motions passed on, not yet answered
        self.armed: Armed | None = None
        self.shot: Shot | None = None  # waiting for its record
        self.beam: Shot | None = None  # passed on, dose not yet settled
        self.latest: Load | None = None  # the load that came last, whatever became of it: for screens alone
        self.emergency_until = 0.0
        self.ledgers = Ledgers(rules.examinations)
        self.now = -math.inf
        self._out: list[Effect] = []
        self._request = 0
        self._token = 0

    # --- what everybody does -------------------------------------------------------------------------------

    def send_gantry(self, message: ToGantry) -> None:
        """To the gantry, when there is one."""
        if self.gantry:
            self._out.append(SendGantry(message))

    def refuse(
        self,
        id_: str,
        reason: str,
        *,
        finding: Finding | None = None,
        again: bool = False,
        connection: int = 0,
    ) -> None:
        """Tell host and log that something was not passed on."""
        layer, fields = (finding.layer, finding.fields) if finding else ("gate", ())
        self._out.append(SendHost(Refused(id_, reason, layer, fields, again), connection))
        self.record("refuse", {"id": id_, "reason": reason, "layer": layer, "fields": fields})

    def tell(self, kind: str, data: Mapping[str, object]) -> None:
        """To operator and console."""
        self._out.append(Tell(kind, data))

    def alert(self, reason: str, **data: object) -> None:
        """A finding that holds nothing: told and recorded."""
        self.tell("alert", {"reason": reason, **data})
        self.record("alert", {"reason": reason, **data}, reserved=True)

    def record(self, kind: str, data: Mapping[str, object], *, reserved: bool = False) -> int:
        """To the audit log; the token under which its durability is reported."""
        self._token += 1
        self._out.append(Record(self._token, kind, data, reserved))
        return self._token

    # --- shortcuts -----------------------------------------------------------------------------------------

    @property
    def mode_rules(self) -> ModeRules:
        """What holds in the present mode."""
        return self.rules.modes[self.mode]

    @property
    def emergency(self) -> bool:
        """Whether emergency access is on."""
        return self.now < self.emergency_until

    @property
    def shadow(self) -> bool:
        """Whether everything is released whatever the verdict."""
        return self.rules.unsafe_shadow

    @property
    def head(self) -> Item:
        """The load or motion that is being dealt with."""
        return self.queue[0]

    def ledgers_of(self, load: Load) -> list[Ledger]:
        """Where the dose of a load counts: its examination and its patient, or whoever lies there unnamed."""
        keys = [f"e:{load.examination}"] if load.examination else []
        keys += [f"p:{load.patient}"] if load.patient else []
        return self.ledgers.together(keys or ["unnamed"])

    def item(self, message: Load | Motion, connection: int) -> Item:
        """A new item, with the digest of what is to be judged."""
        if isinstance(message, Load):
            return Item(message, connection, chain_digest(message.chain, message.triggers))
        return Item(message, connection, motion_digest(message))

    def ask(self, item: Item) -> None:
        """Have the head judged, from the start."""
        self._request += 1
        item.request, item.since, item.findings, item.durable = self._request, self.now, (), False
        load = item.load
        history = self.ledgers.of(f"e:{load.examination}").sent if load and load.examination else []
        self._out.append(
            Ask(
                item.request,
                self.mode,
                load.examination if load else "",
                tuple(history[-self.rules.history :]),
                load.chain if load else (),
                None if load else item.message,  # type: ignore[arg-type]
            )
        )
        self.pending = Pending.JUDGING

    # --- voiding -------------------------------------------------------------------------------------------

    def void(self, reason: str, *, at_gantry: bool) -> None:
        """Nothing is armed any more; the gantry is told to forget the chain when ``at_gantry``."""
        if self.armed is None:
            return
        armed, self.armed = self.armed, None
        self.record("void", {"load": armed.load.id, "reason": reason}, reserved=True)
        self.tell("void", {"load": armed.load.id, "reason": reason})
        if at_gantry:
            self.forget(armed.load.id)

    def forget(self, load: str) -> None:
        """Have the gantry forget a chain; shadow mode leaves the gantry to its host."""
        if not self.shadow:
            self.send_gantry(Cancel(f"guard-{self._token}", load))

    def withdraw_shot(self, reason: str) -> None:
        """A trigger that waits is not passed on."""
        if self.shot is None:
            return
        shot, self.shot = self.shot, None
        self.firing = Firing.NONE
        self.record(
            "withdrawn", {"token": shot.token, "id": shot.trigger.id, "reason": reason}, reserved=True
        )
        self.refuse(shot.trigger.id, reason, again=True)

    def drop_head(self, reason: str, *, again: bool = False, finding: Finding | None = None) -> None:
        """The head is refused and leaves the queue; a release that was recorded is recorded as withdrawn."""
        item = self.queue.popleft()
        if self.pending is Pending.RECORDING:
            self.record(
                "withdrawn", {"token": item.token, "id": item.message.id, "reason": reason}, reserved=True
            )
        if self.pending is Pending.CONFIRMING:
            self.forget(item.message.id)
        if self.pending is Pending.HELD:
            self.tell("unheld", {"request": item.request, "id": item.message.id, "reason": reason})
        self.pending = Pending.NONE
        self.refuse(item.message.id, reason, again=again, finding=finding, connection=item.connection)

    def settle(
        self, *, ctdivol: float | None = None, dlp: float | None = None, aborted: bool = False
    ) -> None:
        """Count the dose of the element that was begun: forecast or acknowledged, the larger.

        Of an aborted element what the gantry acknowledges counts, where it tells.
        """
        if self.beam is None:
            return
        shot, self.beam = self.beam, None
        expected = shot.forecast

        def larger(told: float | None, forecast: float) -> float:
            if told is None or not math.isfinite(told):
                return forecast
            return told if aborted else max(told, forecast)

        dose = Forecast(
            larger(ctdivol, expected.ctdivol),
            larger(dlp, expected.dlp),
            expected.phantom,
            expected.z_low,
            expected.z_high,
        )
        load = shot.armed.load
        for ledger in self.ledgers_of(load):
            ledger.add(dose)
        self.record(
            "dose",
            {
                "load": load.id,
                "element": shot.trigger.element,
                "examination": load.examination,
                "patient": load.patient,
                "dose": dose,
                "acknowledged": ctdivol is not None,
                "aborted": aborted,
            },
            reserved=True,
        )

    def end_of_element(self) -> Phase:
        """The phase once an element has ended: committed while something is left of the chain."""
        if self.armed is None:
            return Phase.IDLE
        self.armed.since = self.now
        if self.armed.next is None:
            self.armed = None
            return Phase.IDLE
        return Phase.COMMITTED
