"""Layer 2, physics: does the command agree with itself?

Two shapes of identity, each a statistic that a device holds constant:

* *ratio*: a product of fields, e.g. CTDIvol x pitch / (mA x rotation time) - mGy per effective mAs;
* *offset*: a difference, e.g. DLP / CTDIvol - length / 10 - the over-range in cm.

Which identities hold, on which fields the constant depends and how far it strays is learned per device model
and acquisition type (`learning/physics_constants.py`); an identity that does not hold there is not used. A
recorded figure is rounded: a CTDIvol of 0.14 mGy stands for anything in 0.135..0.145. Every measured value is
therefore an interval, the statistic of intervals is an interval (exact, no linearisation), and an identity
fails only when that interval misses the learned one.

Sources: IEC 60601-2-44 for CTDIvol over pitch and over increment; PS3.3 C.8.15.3 for table feed and speed;
PS3.16 TID 10013 for the figures a dose report carries. Constants: the site's own recordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scanward.commands import FIELDS, Command, LayerName, Objection, Opinion, Outcome, Severity, Value
from scanward.errors import BundleError
from scanward.layers.base import Part
from scanward.layers.identities import BY_NAME, RANGE, Identity, Learned, as_json, from_json
from scanward.layers.ranges import acquisition_type, shown, token

_BIG = 1e300
# Every level of key given up widens the interval by this (in log): the constant moved with that field, or
# it would not be part of the key.
_WIDER_PER_LEVEL = 0.05
# A tube voltage never seen: constants are interpolated along a power of kV, widened by this, and more beyond
# the ends (reported exponents lie between 2.2 and 3.2).
_LARGEST_POWER = 700.0  # e^709.8 is the largest double
_WIDER_BETWEEN_KV = 0.10
_EXPONENT_SPREAD = 0.6
_GROSS = 1.10  # more than 10 % beyond the interval is a contradiction, not a deviation


class _Check:
    """A learned identity made ready for judging."""

    __slots__ = (
        "base",
        "cells",
        "curve",
        "identity",
        "is_offset",
        "key_fields",
        "minus_half",
        "skip_zero",
        "terms",
    )

    def __init__(self, learned: Learned) -> None:
        self.identity = BY_NAME[learned.identity]
        self.is_offset = self.identity.is_offset
        self.terms = tuple((n, e > 0, learned.halves.get(n, 0.0)) for n, e in self.identity.terms)
        self.minus_half = learned.halves.get(self.identity.minus, 0.0)
        self.key_fields = learned.levels
        self.base = learned.base
        self.cells = learned.cells
        self.skip_zero = learned.skip_zero
        self.curve = _curve(learned)

    def statistic(self, parameters: Mapping[str, Value]) -> tuple[float, float] | None:
        """Interval of the statistic; None when a field is missing or not a number."""
        low = high = 1.0
        for name, above, half in self.terms:
            value = parameters.get(name)
            if type(value) is not float or not 0.0 <= value <= _BIG:
                return None
            if value == 0.0 and self.skip_zero:
                return None
            least, most = value - half, value + half
            if above:
                low *= least if least > 0.0 else 0.0
                high *= most
            else:
                if most <= 0.0:
                    return None
                low /= most
                high = high / least if least > 0.0 else math.inf
        if self.is_offset:
            scale = self.identity.scale
            return self._offset(low * scale, high * scale, parameters)
        return (low, high) if low == low and high == high else None

    def _offset(self, low: float, high: float, parameters: Mapping[str, Value]) -> tuple[float, float] | None:
        if self.identity.minus == RANGE:
            length = _distance(parameters)
        else:
            value = parameters.get(self.identity.minus)
            length = value if type(value) is float and 0.0 <= value <= _BIG else None
        if length is None or low != low or high != high:
            return None
        per = self.identity.per
        return low - (length + self.minus_half) / per, high - (length - self.minus_half) / per

    def expected(
        self, parameters: Mapping[str, Value], tokens: dict[str, Value | None]
    ) -> tuple[float, float] | None:
        """The learned interval for this command's key, widened when only part of the key is known.

        ``tokens`` remembers the tokens of this command's parameters from one identity to the next.
        """
        for name in self.key_fields:
            if name not in tokens:
                tokens[name] = token(parameters.get(name))
        key = tuple([tokens[name] for name in self.key_fields])
        whole = self.cells.get(key)
        if whole is not None:
            return whole
        length = len(key)
        for used in range(length, self.base - 1, -1):
            prefix = key[:used]
            if prefix in self.cells:
                cell = self.cells[prefix]
                missing = length - used
                return cell if cell is None or missing == 0 else self._widened(cell, missing)
        return self._between(key) if self.curve else None

    def _widened(self, cell: tuple[float, float], levels: int) -> tuple[float, float]:
        low, high = cell
        if self.identity.is_offset:
            spread = 0.5 * levels * (high - low)
            return low - spread, high + spread
        factor = math.exp(_WIDER_PER_LEVEL * levels)
        return low / factor, high * factor

    def _between(self, key: tuple[Value | None, ...]) -> tuple[float, float] | None:
        """A tube voltage never seen: along the power law between (or beyond) those that were."""
        voltage = key[0]
        points = self.curve.get(key[1:])
        if not points or type(voltage) is not float or voltage <= 0.0:
            return None
        x = math.log(voltage)
        nearest = min(points, key=lambda p: abs(p[0] - x))
        others = [p for p in points if p is not nearest]
        second = min(others, key=lambda p: abs(p[0] - x)) if others else None
        exponent = (second[1] - nearest[1]) / (second[0] - nearest[0]) if second else 2.7
        inside = second is not None and (nearest[0] - x) * (second[0] - x) <= 0.0
        away = abs(x - nearest[0])
        centre = nearest[1] + exponent * (x - nearest[0])
        spread = nearest[2] + _WIDER_BETWEEN_KV + (0.0 if inside else _EXPONENT_SPREAD * away)
        return _power_of_e(centre - spread), _power_of_e(centre + spread)


def _power_of_e(value: float) -> float:
    """e to this power, within what a double can hold: a voltage of 1e95 kV must not be stumbled over."""
    return math.exp(min(max(value, -_LARGEST_POWER), _LARGEST_POWER))


def _curve(learned: Learned) -> dict[tuple[Value | None, ...], list[tuple[float, float, float]]]:
    """The key without its voltage -> (log kV, log constant, half width), from the cells of whole keys.

    Coarser cells are left out: what is common at one voltage may be rare at another.
    """
    curve: dict[tuple[Value | None, ...], list[tuple[float, float, float]]] = {}
    if not BY_NAME[learned.identity].dose:
        return curve
    for key, cell in learned.cells.items():
        if (
            len(key) == len(learned.levels)
            and cell is not None
            and type(key[0]) is float
            and key[0] > 0
            and cell[0] > 0
        ):
            low, high = math.log(cell[0]), math.log(cell[1])
            curve.setdefault(key[1:], []).append((math.log(key[0]), (low + high) / 2, (high - low) / 2))
    return curve


def _distance(parameters: Mapping[str, Value]) -> float | None:
    start, end = parameters.get("AcquisitionStartLocation"), parameters.get("AcquisitionEndLocation")
    if type(start) is not float or type(end) is not float:
        return None
    distance = abs(end - start)
    return distance if distance <= _BIG else None


class PhysicsLayer:
    """The command against itself, with the constants of its device. State is always None.

    Parameters
    ----------
    learned : mapping of ``Device.key`` to mapping of acquisition type to the identities that hold there
    dropped : what was tried and does not hold, in words, for the report of training
    """

    name = LayerName.PHYSICS

    def __init__(
        self,
        learned: Mapping[str, Mapping[str, tuple[Learned, ...]]],
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.learned = {device: dict(types) for device, types in learned.items()}
        self.dropped = tuple(dropped)
        self._checks = {
            device: {kind: tuple(_Check(each) for each in rows) for kind, rows in types.items()}
            for device, types in learned.items()
        }
        self._only = next(iter(learned)) if len(learned) == 1 else None

    def start(self) -> None:
        """Physics remembers nothing."""
        return

    def judge(self, state: None, command: Command) -> tuple[Opinion, None]:
        """Test every identity whose fields are there; ABSTAIN when there is none."""
        key = command.device.key
        if key == "|" and self._only is not None:
            key = self._only
        checks = self._checks.get(key, _NO_TYPES).get(acquisition_type(command), ())
        parameters = command.parameters
        held: list[Identity] = []
        failed: list[_Failure] = []
        tokens: dict[str, Value | None] = {}
        for check in checks:
            found = check.statistic(parameters)
            if found is None:
                continue
            expected = check.expected(parameters, tokens)
            if expected is None:
                continue
            if found[0] > expected[1] or found[1] < expected[0]:
                failed.append((check, found, expected))
            else:
                held.append(check.identity)
        if failed:
            return Opinion(self.name, Outcome.OBJECT, _objections(failed, held, parameters)), None
        return (_HELD if held else _NOTHING), None

    def implied(self, command: Command, name: str) -> tuple[float, float] | None:
        """Least and most that the device's constants make of ``name`` out of the command's other fields.

        The value that the command itself states is not looked at. None when no identity tells.
        """
        key = command.device.key
        if key == "|" and self._only is not None:
            key = self._only
        for check in self._checks.get(key, _NO_TYPES).get(acquisition_type(command), ()):
            if (name, 1) in check.identity.terms and not check.identity.upper_only:
                found = _implied(check, name, command.parameters)
                if found is not None:
                    return found
        return None

    def part(self) -> Part:
        """Constants as plain JSON (`identities.as_json`), and what was dropped."""
        devices = {
            device: {kind: [as_json(each) for each in rows] for kind, rows in types.items()}
            for device, types in self.learned.items()
        }
        return Part({"devices": devices, "dropped": list(self.dropped)})

    @classmethod
    def from_part(cls, part: Part) -> PhysicsLayer:
        """The layer that ``part`` describes; BundleError when it describes none."""
        try:
            learned = {
                str(device): {str(kind): tuple(map(from_json, rows)) for kind, rows in types.items()}
                for device, types in part.settings["devices"].items()
            }
            return cls(learned, tuple(str(d) for d in part.settings.get("dropped", ())))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BundleError(
                "the physics layer's settings are damaged", "layer physics", "train the bundle again"
            ) from error


_Failure = tuple[_Check, tuple[float, float], tuple[float, float]]
_NO_TYPES: dict[str, tuple[_Check, ...]] = {}
_HELD = Opinion(LayerName.PHYSICS, Outcome.PASS)
_NOTHING = Opinion(
    LayerName.PHYSICS,
    Outcome.ABSTAIN,
    reason="no identity could be tested: fields or learned constants missing",
)


def _implied(check: _Check, name: str, parameters: Mapping[str, Value]) -> tuple[float, float] | None:
    """``name`` solved from one identity in which it stands above the line; None when a field is missing."""
    identity = check.identity
    expected = check.expected(parameters, {})
    if expected is None:
        return None
    factor = identity.scale
    for term, exponent in identity.terms:
        value = 1.0 if term == name else parameters.get(term)
        if type(value) is not float or not 0.0 < value <= _BIG:
            return None
        factor *= value**exponent
    shift = 0.0
    if identity.minus:
        length = _distance(parameters) if identity.minus == RANGE else parameters.get(identity.minus)
        if type(length) is not float or not 0.0 <= length <= _BIG:
            return None
        shift = length / identity.per
    low, high = ((end + shift) / factor for end in expected)
    return (max(low, 0.0), max(high, 0.0)) if math.isfinite(low) and math.isfinite(high) else None


def _objections(
    failed: list[_Failure], held: list[Identity], parameters: Mapping[str, Value]
) -> tuple[Objection, ...]:
    """One objection for each failed identity, on the field that most failures and fewest successes share."""
    blame: dict[str, int] = {}
    for check, _, _ in failed:
        for name in check.identity.fields:
            blame[name] = blame.get(name, 0) + 2
    for identity in held:
        if not identity.upper_only:
            for name in identity.fields:
                if name in blame:
                    blame[name] -= 1
    return tuple(_objection(check, found, expected, blame, parameters) for check, found, expected in failed)


def _objection(
    check: _Check,
    found: tuple[float, float],
    expected: tuple[float, float],
    blame: Mapping[str, int],
    parameters: Mapping[str, Value],
) -> Objection:
    identity = check.identity
    names = identity.fields
    culprit = max(names, key=lambda n: (blame[n], -names.index(n)))
    rivals = [n for n in names if n != culprit and blame[n] == blame[culprit]]
    low, high = _solved(check, culprit, found, expected, parameters)
    unit = FIELDS[culprit].unit if culprit in FIELDS else ""
    text = f"{shown(low)} to {shown(high)} {unit}".rstrip() if low is not None and high is not None else ""
    sides = f"; {culprit} probably, or {', '.join(rivals)}" if rivals else f"; probably {culprit} is wrong"
    return Objection(
        culprit,
        f"does not hold: {identity.says} ({', '.join(names)}){sides if len(names) > 1 else ''}",
        parameters.get(culprit),
        text,
        low,
        high,
        severity=Severity.HALT if _is_gross(identity, found, expected, parameters) else Severity.ALERT,
        weight=_distance_beyond(identity, found, expected, parameters),
    )


def _distance_beyond(
    identity: Identity,
    found: tuple[float, float],
    expected: tuple[float, float],
    parameters: Mapping[str, Value],
) -> float:
    """How far beyond the interval, as a log factor (ratio) or a share of the length (offset)."""
    if identity.is_offset:
        beyond = max(found[0] - expected[1], expected[0] - found[1])
        length = parameters.get(identity.minus)
        size = (length if type(length) is float else _distance(parameters) or 0.0) / identity.per
        return min(beyond / max(size, 20.0 / identity.per), 50.0)
    if found[0] > expected[1]:
        return min(math.log(found[0] / expected[1]), 50.0) if expected[1] > 0 else 50.0
    return min(math.log(expected[0] / found[1]), 50.0) if found[1] > 0 else 50.0


def _is_gross(
    identity: Identity,
    found: tuple[float, float],
    expected: tuple[float, float],
    parameters: Mapping[str, Value],
) -> bool:
    return _distance_beyond(identity, found, expected, parameters) > math.log(_GROSS)


def _solved(
    check: _Check,
    culprit: str,
    found: tuple[float, float],
    expected: tuple[float, float],
    parameters: Mapping[str, Value],
) -> tuple[float | None, float | None]:
    """What the culprit would have to be, the others being right; (None, None) where that is no number."""
    identity = check.identity
    value = parameters.get(culprit)
    if type(value) is not float or check.identity.upper_only or identity.minus == RANGE:
        return None, None
    shift = 0.0
    ends = expected
    if identity.is_offset:
        length = parameters.get(identity.minus)
        if type(length) is not float:
            return None, None
        middle = (found[0] + found[1]) / 2
        if culprit == identity.minus:
            return tuple(sorted(max(value + identity.per * (middle - e), 0.0) for e in ends))  # type: ignore[return-value]
        shift = length / identity.per
    now = (found[0] + found[1]) / 2 + shift
    if not 0.0 < now < math.inf:
        return None, None
    power = next(e for n, e in identity.terms if n == culprit)
    shares = [min(max(max(e + shift, 1e-12) / now, 1 / _BIG), _BIG) for e in ends]
    solved = [max(value * share**power, 0.0) for share in shares]
    return min(solved), max(solved)
