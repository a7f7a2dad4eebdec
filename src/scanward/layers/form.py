"""Layer 1, form: is this a command at all, and one that this device could have been given?

Everything is a lookup: required fields, kinds, finite numbers, the form range of the dictionary of fields,
the device's learned range, categories seen. What was learned (`learning/device_profile.py`) are extremes and
counts; the margins around them are `ranges.bounds`. Severities are in `docs/layers-rules.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanward.commands import FIELDS, Command, Kind, LayerName, Objection, Opinion, Outcome, Severity
from scanward.errors import BundleError
from scanward.layers.base import Part
from scanward.layers.ranges import Bounds, acquisition_type, bounds, folded, number_of, shown

# Below this many commands of one acquisition type, the device's ranges over all types are used instead.
FEW = 30
# Examinations from which a value outside the learned range alerts; from fewer it is information.
SETTLED = 500
# With automatic exposure control off, what steers it is not given: that is no omission.
AEC_PARAMETERS = frozenset(
    {"NoiseIndex", "QualityReferenceMAs", "AECMinimumTubeCurrent", "AECMaximumTubeCurrent"}
)
# A category seen in only one of n examinations makes 1/n the estimated chance (Good-Turing) that the next
# one brings a new one. Above this, a new value is clinical life and only shown; below, it alerts.
NEW_VALUE_CHANCE = 0.001
# Known numbers that have a form range: low, high, unit.
_BOUNDED = {
    name: (known.low, known.high, known.unit)
    for name, known in FIELDS.items()
    if known.kind is Kind.NUMBER and known.low is not None and known.high is not None
}
_KVP_TOLERANCE = 0.5  # kV: tube voltages are settings of a list, not a range


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """What recordings show of one field: extremes of its numbers, or its categories.

    ``count``: examinations (commands, where examinations are unknown) that gave the field; ``values``:
    category to the number of them that had it.
    """

    kind: Kind
    count: int
    low: float = 0.0
    high: float = 0.0
    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def chance_of_new(self) -> float:
        """Good-Turing: values seen in only one examination, per examination."""
        return sum(n for n in self.values.values() if n == 1) / self.count if self.count else 1.0


@dataclass(frozen=True, slots=True)
class TypeProfile:
    """Commands of one acquisition type on one device; ``missing`` counts absences of each required field."""

    count: int
    fields: Mapping[str, FieldProfile]
    missing: Mapping[str, int]
    voltages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device model: its acquisition types, and all of them together under ``pooled``."""

    types: Mapping[str, TypeProfile]
    pooled: TypeProfile
    software: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Check:
    """A field made ready for one comparison; ``low > high`` sends every number to the slow path."""

    number: bool
    low: float
    high: float
    learned: Bounds | None
    values: frozenset[str]
    unseen: Severity


@dataclass(frozen=True, slots=True)
class _Table:
    checks: Mapping[str, _Check]
    required: Mapping[str, Severity]
    voltages: tuple[float, ...]


class FormLayer:
    """Decodes, present, typed, finite, in range, nothing unknown. State is always None.

    Parameters
    ----------
    devices : mapping of ``Device.key`` to DeviceProfile
    roles : names of the roles trained on; others are refused (DESIGN.md: one bundle, one role).
    """

    name = LayerName.FORM

    def __init__(self, devices: Mapping[str, DeviceProfile], roles: tuple[str, ...]) -> None:
        self.devices = dict(devices)
        self.roles = tuple(roles)
        self._tables = {
            key: {kind: _table(profile, kind) for kind in profile.types} for key, profile in devices.items()
        }
        self._pooled = {key: _table(profile, None) for key, profile in devices.items()}
        self._only = next(iter(devices)) if len(devices) == 1 else None

    def start(self) -> None:
        """Form remembers nothing."""
        return

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        """Object to everything that is malformed, missing, unknown, or outside what the device does."""
        objections: list[Objection] = []
        key = command.device.key
        if key == "|" and self._only is not None:
            key = self._only  # a device that does not name itself, and only one it can be
        tables = self._tables.get(key)
        kind = acquisition_type(command)
        if tables is None:
            objections.append(_device_objection(command, tuple(self.devices)))
            table = None
        else:
            table = tables.get(kind)
            if table is None:
                table = self._pooled[key]
                objections.append(_type_objection(command, tuple(tables)))
        if command.role.value not in self.roles:
            objections.append(_role_objection(command.role.value, self.roles))
        self._judge_parameters(command, table, objections)
        if command.context.parts:
            _judge_context(command, objections)
        if not objections:
            return _PASS, None
        counted = any(o.severity > Severity.INFORMATION for o in objections)
        outcome = Outcome.OBJECT if counted else Outcome.PASS
        return Opinion(self.name, outcome, tuple(objections)), None

    def _judge_parameters(self, command: Command, table: _Table | None, objections: list[Objection]) -> None:
        parameters = command.parameters
        checks: Mapping[str, _Check] = table.checks if table else {}
        for name, value in parameters.items():
            check = checks.get(name)
            if check is None:
                objections.extend(_unlearned(name, value, known_device=table is not None))
            elif check.number:
                # NaN fails this comparison too, text never reaches it
                if not (type(value) is float and check.low <= value <= check.high):
                    objections.extend(_number_objections(name, value, check))
            elif not (isinstance(value, str) and folded(value) in check.values):
                objections.extend(_category_objections(name, value, check))
        if table is None:
            return
        for name, severity in table.required.items():
            if name not in parameters:
                if (
                    name in AEC_PARAMETERS
                    and folded(str(parameters.get("ExposureModulationType", ""))) == "none"
                ):
                    continue
                reason = "a field that commands of this type always carry is missing"
                objections.append(Objection(name, reason, expected="present", severity=severity))
        voltage = parameters.get("KVP")
        known = not table.voltages or type(voltage) is not float or _near(voltage, table.voltages)
        if not known and not any(o.field == "KVP" for o in objections):
            reason = "a tube voltage never recorded on this device"
            expected = ", ".join(f"{v:g}" for v in table.voltages) + " kV"
            objections.append(Objection("KVP", reason, voltage, expected, values=table.voltages))

    def part(self) -> Part:
        """Extremes and counts, as plain JSON."""
        return Part({"roles": list(self.roles), "devices": {k: _as_json(v) for k, v in self.devices.items()}})

    @classmethod
    def from_part(cls, part: Part) -> FormLayer:
        """The layer that ``part`` describes; BundleError when it describes none."""
        try:
            devices = {str(k): _from_json(v) for k, v in part.settings["devices"].items()}
            return cls(devices, tuple(str(r) for r in part.settings["roles"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                "the form layer's settings are damaged", "layer form", "train the bundle again"
            ) from error


_PASS = Opinion(LayerName.FORM, Outcome.PASS)


def _near(voltage: float, voltages: tuple[float, ...]) -> bool:
    return any(abs(voltage - v) <= _KVP_TOLERANCE for v in voltages)


def _table(profile: DeviceProfile, kind: str | None) -> _Table:
    pooled = profile.pooled
    own = profile.types[kind] if kind is not None else pooled
    source = own if own.count >= FEW else pooled
    checks: dict[str, _Check] = {}
    for name, everywhere in pooled.fields.items():
        of_type = source.fields.get(name)
        # a field rare within the type is judged by the device's range, which is wider; a tube voltage is a
        # setting of the device, judged against its list below
        own_range = of_type is not None and of_type.count >= FEW and name != "KVP"
        checks[name] = _check(name, of_type if of_type and own_range else everywhere, everywhere)
    required: dict[str, Severity] = {}
    for name, missing in own.missing.items():
        # of a type seen a handful of times, only what the whole device always carries is required
        if own.count >= FEW or (missing == 0 and (own.count >= 5 or name in pooled.missing)):
            required[name] = Severity.HALT if missing == 0 else Severity.ALERT
    return _Table(checks, required, pooled.voltages)


def _check(name: str, seen: FieldProfile, everywhere: FieldProfile) -> _Check:
    if seen.kind is Kind.CATEGORY:
        # categories are the device's: a kernel seen with another type is not new
        rare = everywhere.chance_of_new <= NEW_VALUE_CHANCE or name == "AcquisitionType"
        unseen = Severity.ALERT if rare else Severity.INFORMATION
        return _Check(False, 1.0, 0.0, None, frozenset(everywhere.values), unseen)
    learned = bounds(name, seen.low, seen.high, seen.count)
    known = FIELDS.get(name)
    low = max(learned.low, known.low) if known and known.low is not None else learned.low
    high = min(learned.high, known.high) if known and known.high is not None else learned.high
    # An extreme of few examinations is soon exceeded (the chance is about 2 in n): then it is only shown, and the
    # learned layers weigh it. Novelty alone is not guilt.
    beyond = Severity.ALERT if seen.count >= SETTLED else Severity.INFORMATION
    return _Check(True, low, high, learned, frozenset(), beyond)


def _number_objections(name: str, value: object, check: _Check) -> list[Objection]:
    number = number_of(value)
    if number is None:
        return [_malformed(name, value)]
    found = _outside_form(name, number)
    if found is not None:
        return [found]
    learned = check.learned
    if learned is None or learned.low <= number <= learned.high:
        return []
    hard = not learned.hard_low <= number <= learned.hard_high
    return [
        Objection(
            name,
            "far outside what this device does" if hard else "outside what this device was recorded doing",
            number,
            f"{shown(learned.low)} to {shown(learned.high)}",
            learned.low,
            learned.high,
            severity=Severity.HALT if hard else check.unseen,
        )
    ]


def _category_objections(name: str, value: object, check: _Check) -> list[Objection]:
    if not isinstance(value, str):
        number = number_of(value)
        if number is None:
            return [_malformed(name, value)]
        value = f"{number:g}"  # a filter called 1 reads as a number in some tables
        if folded(value) in check.values:
            return []
    if not value.strip():
        return [Objection(name, "empty", value, "a value", severity=Severity.HALT)]
    values = tuple(sorted(check.values))[:20]
    reason = "a value never recorded on this device"
    return [Objection(name, reason, value, ", ".join(values[:8]), values=values, severity=check.unseen)]


def _unlearned(name: str, value: object, known_device: bool) -> list[Objection]:
    known = FIELDS.get(name)
    if known is None or known.kind is Kind.NUMBER:
        if known is not None or not isinstance(value, str):
            number = number_of(value)
            if number is None:
                return [_malformed(name, value)]
            found = _outside_form(name, number)
            if found is not None:
                return [found]
    elif not isinstance(value, str) and number_of(value) is None:
        return [_malformed(name, value)]
    if not known_device:
        return []
    shown_value = value if isinstance(value, str | float) else None
    return [Objection(name, "a parameter never recorded on this device", shown_value, "absent")]


def _outside_form(name: str, number: float) -> Objection | None:
    known = FIELDS.get(name)
    if known is None or known.low is None or known.high is None or known.low <= number <= known.high:
        return None
    reason = "no CT scanner of any make does this"
    expected = f"{known.low:g} to {known.high:g} {known.unit}".rstrip()
    return Objection(name, reason, number, expected, known.low, known.high, severity=Severity.HALT)


def _malformed(name: str, value: object) -> Objection:
    if isinstance(value, float):
        return Objection(name, "not a finite number", repr(value), "a number", severity=Severity.HALT)
    return Objection(name, "not a number", str(value)[:80], "a number", severity=Severity.HALT)


def _judge_context(command: Command, objections: list[Objection]) -> None:
    """Patient context may be missing; what is there must be possible."""
    for name, told in command.context.parts.items():
        known = _BOUNDED.get(name)
        if known is None:
            continue
        low, high, unit = known
        for each in told:
            value = each.value
            if type(value) is float and low <= value <= high:
                continue
            number = number_of(value)
            if number is not None and low <= number <= high:
                continue
            found = value if number is not None or isinstance(value, str) else repr(value)
            expected = f"{low:g} to {high:g} {unit}"
            objections.append(Objection(name, "no patient is like this", found, expected))


def _device_objection(command: Command, known: tuple[str, ...]) -> Objection:
    device = command.device
    found = f"{device.manufacturer} {device.model}".strip()
    values = tuple(key.replace("|", " ").strip() for key in known)
    reason = "not a device model that was trained on" if found else "the device is not stated"
    return Objection(
        "ManufacturerModelName", reason, found, ", ".join(values), values=values, severity=Severity.HALT
    )


def _type_objection(command: Command, known: tuple[str, ...]) -> Objection:
    value = command.parameters.get("AcquisitionType")
    found = value if isinstance(value, str) else ""
    values = tuple(k for k in known if k)
    reason = "an acquisition type never recorded on this device" if found else "no acquisition type"
    return Objection("AcquisitionType", reason, found, ", ".join(values) or "absent", values=values)


def _role_objection(role: str, roles: tuple[str, ...]) -> Objection:
    reason = "values of another role than trained on cannot be compared"
    return Objection("role", reason, role, " or ".join(roles), values=roles, severity=Severity.HALT)


def _as_json(profile: DeviceProfile) -> dict[str, Any]:
    return {
        "software": list(profile.software),
        "pooled": _type_as_json(profile.pooled),
        "types": {kind: _type_as_json(t) for kind, t in profile.types.items()},
    }


def _type_as_json(profile: TypeProfile) -> dict[str, Any]:
    numbers = {n: [p.count, p.low, p.high] for n, p in profile.fields.items() if p.kind is Kind.NUMBER}
    categories = {n: [p.count, dict(p.values)] for n, p in profile.fields.items() if p.kind is Kind.CATEGORY}
    return {
        "count": profile.count,
        "numbers": numbers,
        "categories": categories,
        "missing": dict(profile.missing),
        "voltages": list(profile.voltages),
    }


def _from_json(settings: dict[str, Any]) -> DeviceProfile:
    types = {str(k): _type_from_json(v) for k, v in settings["types"].items()}
    return DeviceProfile(types, _type_from_json(settings["pooled"]), tuple(settings["software"]))


def _type_from_json(settings: dict[str, Any]) -> TypeProfile:
    fields: dict[str, FieldProfile] = {}
    for name, (count, low, high) in settings["numbers"].items():
        fields[name] = FieldProfile(Kind.NUMBER, int(count), float(low), float(high))
    for name, (count, values) in settings["categories"].items():
        counted = {str(v): int(n) for v, n in values.items()}
        fields[name] = FieldProfile(Kind.CATEGORY, int(count), values=counted)
    missing = {str(n): int(c) for n, c in settings["missing"].items()}
    return TypeProfile(int(settings["count"]), fields, missing, tuple(map(float, settings["voltages"])))
