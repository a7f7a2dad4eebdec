"""Command, context, examination: frozen, typed, no behaviour beyond looking things up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = float | str


class Role(StrEnum):
    """What kind of truth a value is. One bundle trains and judges within one role."""

    COMMANDED = "commanded"  # what the host asks: noise index, reference mAs, mA limits
    FORECAST = "forecast"  # the console's CTDIvol before the scan
    PERFORMED = "performed"  # what dose reports and headers tell after AEC


class Source(StrEnum):
    """Who told us a part of the context. What came only from the host never lowers suspicion."""

    HOST = "host"
    WORKLIST = "worklist"
    LOCALIZER = "localizer"
    OPERATOR = "operator"


class Mode(StrEnum):
    """Set locally, never by the host; QA and SERVICE stay out of clinical fitting."""

    CLINICAL = "CLINICAL"
    QA = "QA"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class Told:
    """One part of the context: what was said, and by whom."""

    value: Value
    source: Source = Source.HOST


@dataclass(frozen=True, slots=True)
class Context:
    """What a command is for, and who lies on the table.

    ``parts`` maps a field to everything said of it, best source first; more than one entry for a field means
    that several sources spoke, and they may disagree.
    """

    parts: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)

    def get(self, name: str) -> Value | None:
        """The value from the most trusted source that spoke, or None when nobody did."""
        told = self.parts.get(name)
        return told[0].value if told else None

    def disagreements(self) -> dict[str, tuple[Told, ...]]:
        """Fields of which two sources say different things (numbers of the patient within ``TOLERANCE``)."""
        return {n: t for n, t in self.parts.items() if len(t) > 1 and not _agree(n, [x.value for x in t])}


# Ages are told in whole years or with the birthday forgotten; sizes are measured, estimated or asked for.
TOLERANCE_YEARS = 1.0
TOLERANCE = 1.10  # between the largest and the least told of a size or weight
_MEASURED = ("PatientSize", "PatientWeight", "WaterEquivalentDiameter")


def _agree(name: str, told: list[Value]) -> bool:
    numbers = [v for v in told if isinstance(v, float)]
    if len(numbers) < len(told) or not all(map(math.isfinite, numbers)):
        return len({_comparable(v) for v in told}) == 1
    low, high = min(numbers), max(numbers)
    if name == "PatientAge":
        return high - low <= TOLERANCE_YEARS
    if name in _MEASURED and low > 0:
        return high <= low * TOLERANCE
    return len({_comparable(v) for v in told}) == 1


def _comparable(value: Value) -> Value:
    return round(value, 6) if isinstance(value, float) else " ".join(value.split()).casefold()


@dataclass(frozen=True, slots=True)
class Device:
    """The scanner. ``serial`` is a keyed hash, never the serial number itself."""

    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    software: str = ""

    @property
    def key(self) -> str:
        """Groups commands of devices that share physics: maker and model."""
        return f"{self.manufacturer.strip().casefold()}|{self.model.strip().casefold()}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a command was read: file and 0-based row (or event) in it."""

    path: str = ""
    row: int = 0

    def __str__(self) -> str:
        return f"{self.path}#{self.row}" if self.path else f"row {self.row}"


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction to the gantry: the full set of parameters of one acquisition.

    Attributes
    ----------
    parameters : mapping of field name to float or str
        Machine fields by DICOM keyword, in DICOM units. A field that was not given is absent.
    roles : mapping of field name to Role
        Role of each parameter that differs from ``role``.
    role : Role
        Role of every parameter not in ``roles``.
    examination : str or None
        Keyed hash of StudyInstanceUID; None when unknown.
    acquired_at : float or None
        AcquisitionDateTime as seconds on the recording's own clock (only order and differences are used).
    order : float
        Breaks ties of ``acquired_at`` (instance or event number).
    event : str or None
        Keyed hash of the irradiation event (or acquisition) UID; duplicates share it.
    """

    parameters: Mapping[str, Value]
    context: Context = field(default_factory=Context)
    device: Device = field(default_factory=Device)
    role: Role = Role.PERFORMED
    roles: Mapping[str, Role] = field(default_factory=dict)
    examination: str | None = None
    acquired_at: float | None = None
    order: float = 0.0
    event: str | None = None
    mode: Mode = Mode.CLINICAL
    origin: Origin = field(default_factory=Origin)

    def number(self, name: str) -> float | None:
        """A numeric parameter (or context part), None when absent or not a number."""
        value = self.value(name)
        return value if isinstance(value, float) else None

    def text(self, name: str) -> str | None:
        """A categorical parameter (or context part) as text, None when absent."""
        value = self.value(name)
        if value is None:
            return None
        return value if isinstance(value, str) else f"{value:g}"

    def value(self, name: str) -> Value | None:
        """A parameter, or else the context part of that name, or None."""
        value = self.parameters.get(name)
        return self.context.get(name) if value is None else value

    def role_of(self, name: str) -> Role:
        """Role of one parameter."""
        return self.roles.get(name, self.role)


@dataclass(frozen=True, slots=True)
class Examination:
    """The commands for one patient, in order of time: the unit of splitting, calibration and bootstrap."""

    identifier: str
    commands: tuple[Command, ...]
