"""From a command to numbers: one table of learned fields, shared by the three learned layers.

A :class:`View` holds, for each learned field, a *code* (what the value is, as a small integer) and a *number*
(NaN for categories). Missing is a value of its own, code 0: what a host leaves out is information.
Groups say which recordings a command is to be compared with, from the finest to the coarsest, so that rare
protocols can borrow from common ones.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.commands import FIELDS, Command, Group
from scanward.layers.graph import rounded

MISSING = 0  # code of an absent value
UNKNOWN = 1  # code of a value never seen in training
FIRST = 2  # first code of a learned value or bin

# Protocol element for an age band, protocol element, body region for an age band, acquisition type on the device,
# acquisition type. (An all-age protocol is two protocols: devices expose children by other references.)
GROUP_LEVELS = 5
_HUGE = 1e9  # beyond this all numbers say the same, and arithmetic on them stays finite
RARE = 3  # a machine value recorded less often is one of the "never seen": so these get a rate of their own
ELEMENT, REGION, TYPE = 1, 2, 3  # levels that have a use of their own

# Consequences of the tube output, and of the range: a field is not to be explained by its own consequences.
DOSE_BLOCK = frozenset(
    {
        "XRayTubeCurrentInmA",
        "MaximumXRayTubeCurrent",
        "MinimumXRayTubeCurrent",
        "XRayTubeCurrentInmASourceB",
        "MaximumXRayTubeCurrentSourceB",
        "Exposure",
        "CTDIvol",
        "DLP",
        "EstimatedDoseSaving",
    }
)
RANGE_BLOCK = frozenset(
    {
        "ScanLength",
        "AcquisitionStartLocation",
        "AcquisitionEndLocation",
        "ExposureTimeInms",
        "DLP",
        "NumberOfRotations",
    }
)
# Age bands of the published paediatric tables (ACR 2022; European PiDRL), in years.
AGE_BANDS = (1.0, 5.0, 10.0, 15.0, 18.0)


def age_band(age: float | None) -> str:
    """Name of the age band ('' when the age is unknown): '0'..'4' for children, '5' for adults."""
    return "" if age is None else str(bisect_right(AGE_BANDS, age))


@dataclass(frozen=True, slots=True)
class Learned:
    """One learned field.

    ``values`` are the known values (categories, or the numbers of a discrete field); ``edges`` are the bin
    edges of a continuous one. ``log`` says that differences are taken in the logarithm.
    """

    name: str
    kind: str  # "category" | "discrete" | "continuous"
    group: str  # scanward.commands.Group value
    values: tuple[str | float, ...] = ()
    edges: tuple[float, ...] = ()
    log: bool = False

    @property
    def size(self) -> int:
        """Number of codes, missing and unknown included."""
        return FIRST + (len(self.edges) + 1 if self.kind == "continuous" else len(self.values))


@dataclass(frozen=True, slots=True)
class View:
    """A command as numbers.

    Attributes
    ----------
    codes : tuple of int, length F
        Code of each learned field.
    numbers : tuple of float, length F
        The value in the field's own scale (logarithm where ``log``), NaN for categories and missing.
    groups : tuple of int, length GROUP_LEVELS
        Index of the command's group on each level, -1 where the group was never seen.
    code_array : (F,) int64, number_array : (F,) float64
        The same as arrays.
    """

    codes: tuple[int, ...]
    numbers: tuple[float, ...]
    groups: tuple[int, ...]
    code_array: NDArray[np.int64]
    number_array: NDArray[np.float64]

    @classmethod
    def of(cls, codes: tuple[int, ...], numbers: tuple[float, ...], groups: tuple[int, ...]) -> View:
        """A view from its three tuples."""
        return cls(
            codes, numbers, groups, np.array(codes, dtype=np.int64), np.array(numbers, dtype=np.float64)
        )

    def row(self) -> NDArray[np.float32]:
        """(2 F,) codes, then numbers, as features for trees (``layers.graph.rounded``)."""
        return rounded(np.concatenate((self.code_array, self.number_array)))


def group_keys(command: Command) -> tuple[str, ...]:
    """The groups a command belongs to, finest first (length GROUP_LEVELS)."""
    text = command.text
    device = command.device.key
    kind = text("AcquisitionType") or ""
    element = "\x1f".join((device, text("ProtocolName") or "", text("ProtocolElementName") or "", kind))
    band = age_band(command.number("PatientAge")) or (text("AgeGroup") or "")
    region = "\x1f".join((device, text("BodyPartExamined") or "", kind, band))
    return "\x1f".join((element, band)), element, region, "\x1f".join((device, kind)), kind


class Encoder:
    """Turns commands into views with a learned schema (``part()``/``from_part`` carry it in a bundle)."""

    def __init__(self, fields: tuple[Learned, ...], groups: tuple[dict[str, int], ...]) -> None:
        self.fields = fields
        self.groups = groups
        self.index = {field.name: i for i, field in enumerate(fields)}
        self.offsets = tuple(int(x) for x in np.cumsum([0, *(field.size for field in fields)]))
        self.starts = np.array(self.offsets[:-1], dtype=np.int64)
        # What ``view`` asks of each field, laid ready: name, kind, logarithm, edges, known values.
        self._plan = tuple(
            (
                field.name,
                field.kind,
                field.log,
                field.edges,
                {value: FIRST + i for i, value in enumerate(field.values)},
            )
            for field in fields
        )
        self._last: tuple[Command, View] | None = None

    @property
    def machine(self) -> tuple[int, ...]:
        """Indices of the machine fields."""
        return tuple(i for i, f in enumerate(self.fields) if f.group == Group.MACHINE)

    @property
    def context(self) -> tuple[int, ...]:
        """Indices of the patient and objective fields."""
        return tuple(i for i, f in enumerate(self.fields) if f.group in (Group.PATIENT, Group.OBJECTIVE))

    def view(self, command: Command) -> View:
        """The command as numbers. Asked three times in a row for one command, it works once."""
        last = self._last
        if last is not None and last[0] is command:
            return last[1]
        codes: list[int] = []
        numbers: list[float] = []
        parameter, told_of = command.parameters.get, command.context.parts.get
        for name, kind, log, edges, known in self._plan:
            value = parameter(name)
            if value is None and (told := told_of(name)):
                value = told[0].value
            code, number = MISSING, math.nan
            if value is not None:
                if kind == "category":
                    code = known.get(value if isinstance(value, str) else f"{value:g}", UNKNOWN)
                elif isinstance(value, str) or not math.isfinite(value):
                    code = UNKNOWN
                else:
                    number = _scaled(value, log)
                    if kind == "continuous":
                        code = FIRST + bisect_right(edges, number)
                    else:
                        # Known values are rounded already: most are found as they stand.
                        code = known.get(value) or known.get(_round(value), UNKNOWN)
            codes.append(code)
            numbers.append(number)
        keys = group_keys(command)
        groups = tuple(known.get(key, -1) for known, key in zip(self.groups, keys, strict=True))
        view = View.of(tuple(codes), tuple(numbers), groups)
        self._last = (command, view)
        return view

    def settings(self) -> dict[str, Any]:
        """Everything needed to make this encoder again, for a bundle's settings."""
        return {
            "fields": [
                {
                    "name": f.name,
                    "kind": f.kind,
                    "group": f.group,
                    "values": list(f.values),
                    "edges": list(f.edges),
                    "log": f.log,
                }
                for f in self.fields
            ],
            "groups": [list(level) for level in self.groups],
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Encoder:
        """The inverse of :meth:`settings`."""
        fields = tuple(
            Learned(
                f["name"],
                f["kind"],
                f["group"],
                tuple(v if isinstance(v, str) else float(v) for v in f["values"]),
                tuple(float(e) for e in f["edges"]),
                bool(f["log"]),
            )
            for f in settings["fields"]
        )
        return cls(fields, tuple({key: i for i, key in enumerate(level)} for level in settings["groups"]))

    def rows(self, commands: tuple[Command, ...]) -> Rows:
        """Many views as matrices, for learning."""
        views = [self.view(c) for c in commands]
        shape = (len(views), len(self.fields))
        return Rows(
            np.array([v.code_array for v in views], dtype=np.int64).reshape(shape),
            np.array([v.number_array for v in views], dtype=np.float64).reshape(shape),
            np.array([v.groups for v in views], dtype=np.int64).reshape(len(views), GROUP_LEVELS),
        )


@dataclass(frozen=True)
class Rows:
    """Views of N commands: ``codes`` (N, F) int64, ``numbers`` (N, F) float64, ``groups`` (N, GROUP_LEVELS)."""

    codes: NDArray[np.int64]
    numbers: NDArray[np.float64]
    groups: NDArray[np.int64]

    def take(self, index: NDArray[Any]) -> Rows:
        """The rows at ``index``."""
        return Rows(self.codes[index], self.numbers[index], self.groups[index])


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _scaled(value: float, log: bool) -> float:
    if not -_HUGE <= value <= _HUGE:
        value = max(-_HUGE, min(_HUGE, value))
    if not log:
        return value
    # A logarithm down to a hundredth of a unit, then flat: a zero dose (a localizer) must stay comparable.
    return math.log(value if value > 1e-2 else 1e-2)


def learn_encoder(commands: tuple[Command, ...], *, bins: int = 24, discrete: int = 32) -> Encoder:
    """Learn the schema from recorded commands.

    Parameters
    ----------
    commands : tuple of Command, length N
    bins : int
        Quantile bins of a continuous field.
    discrete : int
        A numeric field with at most this many distinct values, each seen about four times, is discrete.
    """
    seen: dict[str, list[str | float]] = {}
    groups: dict[str, str] = {}
    for command in commands:
        for name, value in command.parameters.items():
            seen.setdefault(name, []).append(value)
            groups[name] = Group.MACHINE
        for name in command.context.parts:
            found = command.context.get(name)
            if found is not None and name not in command.parameters:
                seen.setdefault(name, []).append(found)
                known = FIELDS.get(name)
                groups[name] = known.group if known else Group.OBJECTIVE
    least = max(3, int(0.001 * len(commands)))
    fields = [
        _learn_field(name, groups[name], values, bins, discrete)
        for name, values in sorted(seen.items())
        if len(values) >= least
    ]
    levels: list[dict[str, int]] = [{} for _ in range(GROUP_LEVELS)]
    for command in commands:
        for level, key in zip(levels, group_keys(command), strict=True):
            level.setdefault(key, len(level))
    return Encoder(tuple(fields), tuple(levels))


def _learn_field(name: str, group: str, values: list[str | float], bins: int, discrete: int) -> Learned:
    if any(isinstance(v, str) for v in values):
        found = Counter(v if isinstance(v, str) else f"{v:g}" for v in values)
        least = RARE if group == Group.MACHINE else 1
        return Learned(name, "category", group, tuple(sorted(t for t, n in found.items() if n >= least)))
    numbers = np.array([v for v in values if not isinstance(v, str) and math.isfinite(v)], dtype=np.float64)
    count = Counter(_round(float(v)) for v in numbers)
    distinct = sorted(v for v, n in count.items() if n >= RARE)
    odd = len(numbers) - sum(count[v] for v in distinct)
    if (
        distinct
        and len(distinct) <= discrete
        and odd <= 0.05 * len(numbers)
        and len(numbers) >= 4 * len(distinct)
    ):
        log = min(count) > 0 and name != "PatientAge"
        return Learned(name, "discrete", group, tuple(distinct), log=log)
    # Doses and lengths are compared by ratio; places, angles and ages by difference.
    ratio = name in DOSE_BLOCK or (
        numbers.min() > 0 and numbers.max() > 3 * max(float(np.median(numbers)), 1e-9)
    )
    ratio = ratio or name in ("ScanLength", "ExposureTimeInms", "PatientWeight")
    # What comes through a body falls off exponentially with its diameter: log dose is linear in it, not in its log.
    ratio = ratio and name != "WaterEquivalentDiameter"
    ratio = ratio or name in (
        "AECMinimumTubeCurrent",
        "AECMaximumTubeCurrent",
        "QualityReferenceMAs",
        "NoiseIndex",
    )
    log = bool(ratio and numbers.min() >= 0 and name != "PatientAge")
    scaled = np.array([_scaled(float(v), log) for v in numbers])
    edges = np.unique(np.quantile(scaled, np.linspace(0, 1, bins + 1)[1:-1]))
    return Learned(name, "continuous", group, edges=tuple(float(e) for e in edges), log=log)
