"""What the gate hears (events), what it wants done (effects), and the rules it was given: pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from scanward.commands import Command, LayerName, Mode, Value, Verdict
from scanward.commands.wire import (
    Channel,
    Element,
    FromGantry,
    FromHost,
    Motion,
    ToGantry,
    ToHost,
)

# --- rules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Caps:
    """Dose that one examination may reach. Phantoms are never summed: each has caps of its own.

    Attributes
    ----------
    ctdivol : mapping of phantom diameter (cm) to mGy, at any one z
    dlp : mapping of phantom diameter (cm) to mGy.cm, per examination
    """

    ctdivol: Mapping[int, float] = field(default_factory=dict)
    dlp: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Envelope:
    """How far a runtime field may lie from what was judged, in the field's own unit (``low`` <= 0 <= ``high``)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ModeRules:
    """What holds in one mode.

    Attributes
    ----------
    alert : Caps
        Beyond them a trigger is refused before the chain is committed, and an alert afterwards.
    absolute : Caps
        Beyond them nothing passes, in any phase, by anybody.
    triggers : int
        Most triggers that one arming may permit to each element (interventional session); 1 elsewhere.
    """

    alert: Caps
    absolute: Caps
    triggers: int = 1


@dataclass(frozen=True, slots=True)
class GateRules:
    """Everything that the gate takes from policy and device profile. Times in seconds.

    ``policy`` is the digest of the policy; what is armed is bound to it.
    """

    policy: str
    modes: Mapping[Mode, ModeRules]
    runtime: Mapping[str, Envelope] = field(default_factory=dict)
    judge_seconds: float = 2.0  # after which a load without a verdict is refused
    record_seconds: float = 5.0  # after which a release whose record is not durable is withdrawn
    committed_record_seconds: float = (
        0.2  # likewise for a trigger of a begun chain: then it passes with an alert
    )
    confirm_seconds: float = 5.0  # after which a load that the gantry did not echo is void
    hold_seconds: float = 60.0  # how long an operator may take
    two_hold_seconds: float = 60.0  # how long two may, where it needs two
    arming_seconds: float = 900.0  # how long an armed chain waits for its first trigger
    committed_seconds: float = 1800.0  # how long a begun chain may pause between two triggers
    beam_seconds: float = 180.0  # longest beam of one element
    queue: int = 16  # motions that may wait
    chain: int = 32  # elements of one chain
    history: int = 512  # commands remembered of one examination
    examinations: int = 64  # examinations whose dose is remembered
    unsafe_shadow: bool = False
    unsafe_release_without_operator: bool = False
    unsafe_emergency_without_log: bool = False


# --- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the guard itself expects one element to deliver.

    Attributes
    ----------
    ctdivol, dlp : float
        mGy and mGy.cm on the phantom of ``phantom`` cm (16 or 32; 0 for none known).
    z_low, z_high : float
        Range in mm; both NaN when unknown (then it counts at every z).
    """

    ctdivol: float = 0.0
    dlp: float = 0.0
    phantom: int = 0
    z_low: float = float("nan")
    z_high: float = float("nan")


@dataclass(frozen=True, slots=True)
class Objected:
    """One objection as an operator is shown it; texts are bounded. ``severity`` is a word: INFORMATION, ALERT, HALT.

    ``p_value`` is the layer's own, None where it has none.
    """

    field: str
    found: Value | None
    expected: str
    reason: str
    layer: LayerName
    severity: str
    weight: float
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """The notification value of one element (NEMA XR-25): mGy and mGy.cm, None where there is none."""

    ctdivol: float | None = None
    dlp: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The policy's verdict on one element (or motion), with what decided it.

    Attributes
    ----------
    form : bool
        A verdict of the form layer or of a hardware maximum: nothing and nobody overrides it.
    persons : int
        How many operators have to release it when it is held: 1 or 2.
    objections : tuple of Objected
        Everything that any layer said, the gravest first: for people, and bounded.
    """

    verdict: Verdict
    layer: str = ""
    fields: tuple[str, ...] = ()
    reason: str = ""
    p_value: float | None = None
    form: bool = False
    forecast: Forecast = Forecast()
    persons: int = 1
    objections: tuple[Objected, ...] = ()
    notification: Notification | None = None


@dataclass(frozen=True, slots=True)
class HostUp:
    """A host's connection is authenticated and has said hello."""

    connection: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class HostLost:
    """A host's connection is gone."""

    connection: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GantryUp:
    """The gantry's connection is authenticated and has said hello."""


@dataclass(frozen=True, slots=True)
class GantryLost:
    """The gantry's connection is gone."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A decoded message of the host."""

    connection: int
    message: FromHost


@dataclass(frozen=True, slots=True)
class GantrySaid:
    """A decoded message of the gantry."""

    message: FromGantry


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that is no message; ``digest`` names the bytes in the log."""

    side: str  # "host" or "gantry"
    reason: str
    digest: str = ""
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """The policy's findings on what was asked, one per element; ``bundle`` is the digest of who judged."""

    request: int
    findings: tuple[Finding, ...]
    bundle: str


@dataclass(frozen=True, slots=True)
class JudgeLost:
    """The judge died, hung or raised; it will not answer ``request``."""

    request: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Durable:
    """Every record up to and with ``token`` is on disk."""

    token: int


class Log(StrEnum):
    """How the audit log is."""

    OK = "ok"
    FULL = "full"  # no new loads; reserved records still become durable
    FAILED = "failed"  # nothing becomes durable


@dataclass(frozen=True, slots=True)
class LogIs:
    """The audit log's condition changed."""

    condition: Log


class Decision(StrEnum):
    """What an operator may say of a hold."""

    RELEASE = "release"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class OperatorSaid:
    """An authenticated act on a hold. ``shown`` is the digest of what the operator was shown.

    ``before`` is who released it first, where it needs two.
    """

    decision: Decision
    request: int
    shown: str
    operator: str
    reason: str
    before: str = ""


class Bound(StrEnum):
    """What an arming is bound to besides connection, examination and patient."""

    CONTEXT = "context"
    POLICY = "policy"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Changed:
    """Something that an arming is bound to changed. ``examination`` empty: concerns all."""

    what: Bound
    digest: str
    examination: str = ""


@dataclass(frozen=True, slots=True)
class ModeSet:
    """An authenticated operator sets the mode, locally."""

    mode: Mode
    operator: str


@dataclass(frozen=True, slots=True)
class EmergencySet:
    """Emergency access begins (``until`` on the gate's clock) or ends (``until`` 0)."""

    until: float
    operator: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A dose report, arriving later: may only raise what is held delivered.

    ``forecast`` is what the report tells of the examination so far on one phantom: largest CTDIvol, sum of DLP.
    """

    examination: str
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = (
    HostUp
    | HostLost
    | GantryUp
    | GantryLost
    | Said
    | GantrySaid
    | Malformed
    | Judged
    | JudgeLost
    | Durable
    | LogIs
    | OperatorSaid
    | Changed
    | ModeSet
    | EmergencySet
    | Delivered
    | Tick
)

# --- effects -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendGantry:
    """Pass this on to the gantry, now."""

    message: ToGantry


@dataclass(frozen=True, slots=True)
class SendHost:
    """Tell the host; ``connection`` 0: whoever is the host now."""

    message: ToHost
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """Have this judged. ``history`` is what was sent of this examination, oldest first."""

    request: int
    mode: Mode
    examination: str
    history: tuple[Command, ...]
    chain: tuple[Element, ...] = ()
    motion: Motion | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Write to the audit log. The gate waits for ``token`` where it must; ``reserved`` may use the reserve."""

    token: int
    kind: str
    data: Mapping[str, object]
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Show to the operator and the console."""

    kind: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Close:
    """Close one connection of the host."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop both links: the gantry goes to its own safe state."""

    reason: str


Effect = SendGantry | SendHost | Ask | Record | Tell | Close | Drop
Runtime = Mapping[str, Value]
