"""A device profile, compiled: what every frame and every object of one gantry *is*. Pure data and look-ups.

Everything is decided before the first frame comes: an exact frame, a pattern or an object that is not in these tables
is refused. ``canopen_profile_toml`` reads a profile from its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from scanward.codecs.canopen_eds import EdsEntry
from scanward.codecs.canopen_patterns import Pattern
from scanward.codecs.canopen_sdo import Address
from scanward.codecs.canopen_types import Raw, decode_raw, encode_raw
from scanward.commands.model import Device, Role, Value
from scanward.commands.wire import Axis, GantryState, StopKind
from scanward.errors import DecodeError
from scanward.transport.can_frames import CanFrame

# Broadcast and reserved identifiers (CiA 301, 7.3.5; CiA 305).
NMT = 0x000
SYNC = 0x080
TIME = 0x100
SDO_ANSWER = 0x580
SDO_REQUEST = 0x600
HEARTBEAT = 0x700
LSS = (0x7E4, 0x7E5)
NMT_RESETS = (0x81, 0x82)  # reset node, reset communication

COMMUNICATION = range(0x1000, 0x2000)  # objects that say how a device speaks, not what it does
"""Never writable through the guard, whatever a profile says: PDO mapping (1400h to 1BFFh), store and restore (1010h,
1011h), SDO channels (1200h to 12FFh), program download (1F50h on), heartbeat times and the rest of 1000h to 1FFFh."""


class FrameClass(StrEnum):
    """What a frame from the host is. What is none of these is refused."""

    PARAMETER = "parameter"  # inert until a trigger
    TRIGGER = "trigger"
    MOTION = "motion"
    STOP = "stop"
    HOUSEKEEPING = "housekeeping"
    PREPARE = "prepare"  # asks for a chain to be judged before its first trigger


@dataclass(frozen=True, slots=True)
class Scale:
    """Raw number <-> number in the field's unit: ``raw * times + plus``, rounded once."""

    times: Fraction = Fraction(1)
    plus: Fraction = Fraction(0)
    _whole: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # raw * a + b over c, in whole numbers: their division is rounded once, and fast
        a, b = self.times, self.plus
        whole = (a.numerator * b.denominator, b.numerator * a.denominator, a.denominator * b.denominator)
        object.__setattr__(self, "_whole", whole)

    def value(self, raw: int | float) -> float:
        """In the field's unit."""
        if isinstance(raw, float):
            return raw * float(self.times) + float(self.plus)
        factor, shift, divisor = self._whole
        return (raw * factor + shift) / divisor

    def raw(self, value: float, whole: bool) -> int | float:
        """Raw, to the nearest step."""
        exact = (Fraction(value) - self.plus) / self.times
        return round(exact) if whole else float(exact)


@dataclass(frozen=True, slots=True)
class FieldMap:
    """One field of one element of the chain, or of the context of all.

    Attributes
    ----------
    element : int or None
        Which element; None for a part that all share.
    names : mapping of raw number to text
        Of a category; empty for a number or a text.
    absent : int, float, str or None
        The raw value that says "not given"; an empty text always does.
    """

    name: str
    entry: EdsEntry
    element: int | None = None
    context: bool = False
    scale: Scale = Scale()
    names: Mapping[int, str] = field(default_factory=dict)
    absent: Raw | None = None
    role: Role = Role.COMMANDED

    def value(self, data: bytes) -> Value | None:
        """The field's value, None for "not given"; DecodeError for bytes that are no value of it."""
        raw = decode_raw(self.entry.kind, data)
        if raw == self.absent or raw == "":
            return None
        if isinstance(raw, str):
            return raw
        if not self.names:
            return self.scale.value(raw)
        name = self.names.get(int(raw))
        if name is None:
            raise DecodeError(f"{raw} is no {self.name}", "an object dictionary entry", "use a listed value")
        return name

    def data(self, value: Value | None) -> bytes:
        """The bytes of ``value``: what a host writes; DecodeError when the entry cannot hold it."""
        kind = self.entry.kind
        if value is None:
            if self.absent is None and kind.name != "VISIBLE_STRING":
                raise DecodeError(f"{self.name} cannot be left out", "the profile", "give it")
            return b"\0" if self.absent is None or self.absent == "" else encode_raw(kind, self.absent)
        if self.names:
            numbers = [number for number, name in self.names.items() if name == value]
            if not numbers:
                raise DecodeError(
                    f"{value!r} is no {self.name}", "the profile", f"one of {list(self.names.values())}"
                )
            return encode_raw(kind, numbers[0])
        if isinstance(value, str):
            return encode_raw(kind, value)
        return encode_raw(kind, self.scale.raw(value, not kind.name.startswith("REAL")))


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """What writing one entry is.

    Attributes
    ----------
    inert : bool
        For a parameter: nothing happens before a trigger.
    first : int
        For a trigger: the number of the chain's first element in this entry.
    value : int or None
        For prepare: the only value that may be written.
    speed : Address, float or None
        For a motion: the entry that holds the speed, or a fixed one.
    """

    kind: FrameClass
    entry: EdsEntry
    inert: bool = True
    first: int = 0
    value: int | None = None
    axis: Axis = Axis.TABLE_Z
    scale: Scale = Scale()
    speed: Address | float | None = None
    speed_scale: Scale = Scale()


@dataclass(frozen=True, slots=True)
class FrameRule:
    """What process data from the host is, by pattern; fields as in `ObjectRule`."""

    kind: FrameClass
    pattern: Pattern
    first: int = 0
    axis: Axis = Axis.TABLE_Z
    scale: Scale = Scale()
    speed: float | None = None
    speed_scale: Scale = Scale()


@dataclass(frozen=True, slots=True)
class ExactRule:
    """What an exact frame from the host is: a stop, or housekeeping that keeps its timing."""

    kind: FrameClass
    stop: StopKind | None = None


class Says(StrEnum):
    """What process data from the gantry tells."""

    STARTED = "started"
    DONE = "done"
    ABORTED = "aborted"
    INJECTION = "injection"
    MOVED = "moved"
    STOPPED = "stopped"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class ObserveRule:
    """What to make of process data from the gantry."""

    says: Says
    pattern: Pattern
    first: int = 0
    scales: Mapping[str, Scale] = field(default_factory=dict)
    stop: StopKind = StopKind.ALL
    state: GantryState = GantryState.READY


@dataclass(frozen=True, slots=True)
class ChainMap:
    """Where the chain lies in the object dictionary.

    Attributes
    ----------
    fields : tuple of tuple of FieldMap
        Those of every element, by element.
    shared : tuple of FieldMap
        Parts of the context that all elements share.
    auto : tuple of Address
        The flag "starts by itself" of every element; empty when there is none.
    """

    elements: int
    count: Address | None
    fields: tuple[tuple[FieldMap, ...], ...]
    shared: tuple[FieldMap, ...] = ()
    auto: tuple[Address, ...] = ()
    triggers: Address | None = None
    study: Address | None = None
    patient: Address | None = None

    def addresses(self, elements: int) -> tuple[Address, ...]:
        """Every entry that a chain of so many elements is made of, without its count."""
        found = [one for one in (self.triggers, self.study, self.patient) if one is not None]
        found += [part.entry.address for part in self.shared]
        for number in range(elements):
            found += [part.entry.address for part in self.fields[number]]
            found += self.auto[number : number + 1]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class CanProfile:
    """One gantry, as one node of a CANopen network.

    Attributes
    ----------
    node : int
        Of the gantry, 1 to 127.
    host : int or None
        Node of the host's heartbeat; None when it has none, and then a silent host cannot be told from a dead one.
    exact, remote : mapping of (identifier, data) or (identifier, length) to ExactRule
        Frames that pass at once.
    patterns : mapping of identifier to rules
        Process data that are looked into.
    objects : mapping of address to ObjectRule
        What may be written.
    entries : mapping of address to EdsEntry
        The data sheet; what it calls readable may be read.
    stops : mapping of StopKind to frames
        What the guard itself sends for a stop.
    digest : str
        Of profile and data sheet together, for the log.
    """

    name: str
    version: int
    node: int
    host: int | None
    device: Device
    identity: Mapping[int, int]  # sub-index of 1018h -> value
    chain: ChainMap
    exact: Mapping[tuple[int, bytes], ExactRule]
    remote: Mapping[tuple[int, int], ExactRule]
    patterns: Mapping[int, tuple[FrameRule, ...]]
    objects: Mapping[Address, ObjectRule]
    observed: Mapping[int, tuple[ObserveRule, ...]]
    entries: Mapping[Address, EdsEntry]
    stops: Mapping[StopKind, tuple[CanFrame, ...]]
    digest: str = ""

    def passes_at_once(self, frame: CanFrame) -> ExactRule | None:
        """The rule of a stop or of housekeeping; None for everything else. Two look-ups: the fast path."""
        if frame.plain:
            return self.exact.get((frame.id, frame.data))
        if frame.remote and not (frame.extended or frame.fd or frame.error):
            return self.remote.get((frame.id, frame.dlc))
        return None

    def pattern_of(self, frame: CanFrame) -> FrameRule | None:
        """The rule of process data from the host, None when there is none: refused."""
        if not frame.plain:
            return None
        rules = self.patterns.get(frame.id, ())
        return next((rule for rule in rules if rule.pattern.matches(frame.data)), None)
