"""What is said on the wire between host, guard and gantry: decoded messages, pure data, the same for every link.

A link turns its own bytes or frames into these and back; the gate knows nothing else. Identifiers that name a
patient or a study are keyed hashes by the time they are here (``Command.examination`` likewise).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from scanward.commands.model import Command, Device, Value


class Channel(StrEnum):
    """Which of the host's connections a message came by. A stop may come by either."""

    COMMANDS = "commands"
    STOP = "stop"


class StopKind(StrEnum):
    """The closed list of stops: each can only remove energy or motion."""

    ALL = "all"
    BEAM = "beam"
    MOTION = "motion"


class Axis(StrEnum):
    """What can be moved without a scan."""

    TABLE_Z = "table_z"  # mm along the patient
    TABLE_HEIGHT = "table_height"  # mm, DICOM TableHeight
    GANTRY_TILT = "gantry_tilt"  # degrees, DICOM GantryDetectorTilt


class GantryState(StrEnum):
    """What the gantry says it is doing."""

    READY = "ready"
    BEAM = "beam"
    MOVING = "moving"
    SAFE = "safe"  # beam off, motion off, until somebody at the gantry clears it


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of either end on a connection."""

    device: Device
    channel: Channel = Channel.COMMANDS
    protocol: int = 1


@dataclass(frozen=True, slots=True)
class Element:
    """One acquisition of a chain.

    Attributes
    ----------
    command : Command
        All parameters and the context, as the layers judge them.
    auto : bool
        Starts by itself when the one before is done (bolus tracking): no trigger of its own.
    """

    command: Command
    auto: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """The ordered chain of an examination's remaining commands: the unit of judging and of arming.

    Attributes
    ----------
    id : str
        Chosen by the host, never used twice on one connection.
    examination, patient : str
        Keyed hashes; empty when the host told none.
    triggers : int
        How often each element may be triggered: 1, or more for an interventional session, which is judged
        once as an envelope.
    """

    id: str
    examination: str
    patient: str
    chain: tuple[Element, ...]
    triggers: int = 1


@dataclass(frozen=True, slots=True)
class Trigger:
    """Begin one element of an armed chain, with the runtime fields that may still change (inside envelopes)."""

    id: str
    load: str
    element: int
    runtime: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Motion:
    """Move without scanning. ``target`` in the axis' unit, ``speed`` in that unit per second."""

    id: str
    axis: Axis
    target: float
    speed: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Remove energy or motion, at once."""

    what: StopKind = StopKind.ALL


@dataclass(frozen=True, slots=True)
class Cancel:
    """The host gives a load up, released or not. Removes, never adds."""

    id: str
    load: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Fixed-pattern housekeeping, either way."""


# --- from the gantry ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """The gantry's echo of what it holds after a load (or what a link read back): compared before arming.

    ``chain`` is the parameters of every element, in order.
    """

    load: str
    chain: tuple[Mapping[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Injection:
    """The injector has begun: from here on the chain is committed."""

    load: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The beam of one element is on."""

    load: str
    element: int


@dataclass(frozen=True, slots=True)
class Done:
    """One element ended: whole or ``aborted``. Dose as the gantry measured it, None when it does not tell.

    Attributes
    ----------
    ctdivol : float or None
        mGy, on the phantom of the element's command.
    dlp : float or None
        mGy.cm, on the same phantom.
    """

    load: str
    element: int
    ctdivol: float | None = None
    dlp: float | None = None
    aborted: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """A motion ended at ``position``."""

    id: str
    position: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The gantry has carried out a stop."""

    what: StopKind = StopKind.ALL


@dataclass(frozen=True, slots=True)
class Status:
    """What the gantry says it is doing."""

    state: GantryState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """The gantry refuses what was forwarded (``id`` of the load, trigger or motion)."""

    id: str
    reason: str = ""


# --- from the guard to the host ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A load (or motion) waits for the operator, at most ``deadline`` seconds from now."""

    id: str
    reason: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Not passed on, and will not be. ``again`` tells the host that the same may be sent again later."""

    id: str
    reason: str
    layer: str = ""
    fields: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Alerted:
    """Passed on, with a finding that the operator has been told."""

    id: str
    reason: str


FromHost = Hello | Load | Trigger | Motion | Stop | Cancel | Heartbeat
FromGantry = Hello | Loaded | Injection | Started | Done | Moved | Stopped | Status | Declined | Heartbeat
ToGantry = Load | Trigger | Motion | Stop | Cancel | Heartbeat
ToHost = FromGantry | Held | Refused | Alerted
