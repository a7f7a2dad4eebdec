"""What a constraint means for a value: satisfied, violated, or not to be judged (PS3.3 10.25.1).

A constraint is compiled once (`compile_rule`) into plain numbers or texts and then asked many times. What
cannot be judged, for whatever reason, is a `Rule` with a ``problem``: it is told, never passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scanward.codecs.defined_protocol_model import Code, Constraint, ConstraintType, Scalar
from scanward.codecs.values import age_in_years
from scanward.commands import Value, unit_of

# DS holds 16 characters and FL 24 bits: a bound rounded on its way must not turn a permitted value away.
TOLERANCE: Final = 1e-6

_NUMBER_VRS: Final = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_TEXT_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT", "SQ"})
_KNOWN: Final = frozenset(kind.value for kind in ConstraintType)
# UCUM codes that differ from the spelling of scanward.commands.
_UCUM: Final = {"mA.s": "mAs", "{ratio}": "1", "{rotations}": "1", "[HU]": "HU", "[hnsf'U]": "HU"}
_RANGES: Final = frozenset({ConstraintType.RANGE_INCL, ConstraintType.RANGE_EXCL})
_SINGLE: Final = frozenset(
    {
        ConstraintType.GREATER_OR_EQUAL,
        ConstraintType.LESS_OR_EQUAL,
        ConstraintType.GREATER_THAN,
        ConstraintType.LESS_THAN,
        ConstraintType.EQUAL,
    }
)
_ORDERED: Final = _RANGES | (_SINGLE - {ConstraintType.EQUAL})


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled constraint on one field.

    ``low``/``high``/``values`` and ``expected`` are ready for an `Objection`; ``problem`` says why the
    constraint cannot be judged, empty when it can.
    """

    field: str
    constraint: Constraint
    type: ConstraintType | None = None
    numbers: tuple[float, ...] = ()
    texts: frozenset[str] = frozenset()
    low: float | None = None
    high: float | None = None
    values: tuple[Value, ...] = ()
    expected: str = ""
    problem: str = ""

    def allows(self, value: Value) -> bool:
        """Whether ``value`` satisfies the constraint; only to be asked of a rule without problem."""
        if self.type is ConstraintType.UNCONSTRAINED:
            return True
        if self.numbers:
            return isinstance(value, int | float) and math.isfinite(value) and self._allows_number(value)
        said = _text_key(self.field, value if isinstance(value, str) else f"{value:g}")
        return (said in self.texts) is not (self.type is ConstraintType.NOT_MEMBER_OF)

    def _allows_number(self, value: float) -> bool:
        first, last = self.numbers[0], self.numbers[-1]
        match self.type:
            case ConstraintType.RANGE_INCL:
                return first - _slack(first) <= value <= last + _slack(last)
            case ConstraintType.RANGE_EXCL:  # "outside, i.e. not between": the bounds themselves are allowed
                return value <= first + _slack(first) or value >= last - _slack(last)
            case ConstraintType.GREATER_OR_EQUAL:
                return value >= first - _slack(first)
            case ConstraintType.LESS_OR_EQUAL:
                return value <= first + _slack(first)
            case ConstraintType.GREATER_THAN:
                return value > first + _slack(first)
            case ConstraintType.LESS_THAN:
                return value < first - _slack(first)
            case _:
                equal = any(abs(value - x) <= _slack(x) for x in self.numbers)
                return equal is not (self.type is ConstraintType.NOT_MEMBER_OF)


def compile_rule(field: str, constraint: Constraint) -> Rule:
    """``constraint`` as a rule on ``field``; what is wrong with it is in ``problem``."""
    problem = _problem(constraint) or _unit_problem(field, constraint)
    if problem:
        return Rule(field, constraint, problem=problem)
    kind = ConstraintType(constraint.type)
    if kind is ConstraintType.UNCONSTRAINED:
        return Rule(field, constraint, kind, expected="anything")
    flat = [item[0] for item in constraint.values]
    if constraint.vr == "AS":
        ages = [age_in_years(str(x)) for x in flat]
        if None in ages:
            return Rule(field, constraint, problem="its values are no Age Strings")
        return _of_numbers(field, constraint, kind, tuple(a for a in ages if a is not None))
    if constraint.vr in _NUMBER_VRS:
        return _of_numbers(
            field, constraint, kind, tuple(float(x) for x in flat if isinstance(x, int | float))
        )
    words = tuple(_words(x) for x in flat)
    keys = frozenset(_text_key(field, word) for x in flat for word in _spellings(x))
    several = _listed(words)
    return Rule(
        field,
        constraint,
        kind,
        texts=keys,
        values=() if kind is ConstraintType.NOT_MEMBER_OF else words,
        expected=f"anything but {several}" if kind is ConstraintType.NOT_MEMBER_OF else several,
    )


def _problem(constraint: Constraint) -> str:
    """Why this constraint cannot be judged, empty when it can."""
    if constraint.type not in _KNOWN:
        return f"constraint type {constraint.type[:32]!r} is not known"
    kind, count = ConstraintType(constraint.type), len(constraint.values)
    if kind is ConstraintType.UNCONSTRAINED:
        return ""
    if kind is ConstraintType.MEMBER_OF_CID:
        return "it names a context group, whose members are not in the file"
    if constraint.value_number not in (0, 1, None):
        return f"it speaks of value {constraint.value_number} of a multi-valued attribute"
    numeric = constraint.vr in _NUMBER_VRS or constraint.vr == "AS"
    if not numeric and constraint.vr not in _TEXT_VRS:
        return f"values of VR {constraint.vr[:8]!r} are not compared"
    if kind in _ORDERED and not numeric:
        return f"{kind.value} makes no sense for VR {constraint.vr}"
    wanted = 2 if kind in _RANGES else 1
    if count < wanted or (kind in _RANGES | _SINGLE and count != wanted):
        return f"{kind.value} with {count} values"
    if any(len(item) != 1 for item in constraint.values):
        return "an item of its values has none or several"
    flat = [item[0] for item in constraint.values]
    if constraint.vr in _NUMBER_VRS:
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in flat):
            return "its values are no finite numbers"
        if kind in _RANGES and float(str(flat[0])) > float(str(flat[1])):
            return "its range is upside down"
    return ""


def _unit_problem(field: str, constraint: Constraint) -> str:
    """A constraint may name its unit (for private attributes); another one is not converted."""
    own, said = unit_of(field), constraint.units
    if not own or said is None or said.scheme != "UCUM" or _UCUM.get(said.value, said.value) == own:
        return ""
    return f"its unit is {said.value[:16]} and that of the field {own}"


def _of_numbers(field: str, constraint: Constraint, kind: ConstraintType, numbers: tuple[float, ...]) -> Rule:
    if kind in _RANGES and numbers[0] > numbers[-1]:
        return Rule(field, constraint, problem="its range is upside down")
    low = high = None
    values: tuple[Value, ...] = ()
    unit = unit_of(field)
    tail = f" {unit}" if unit not in ("", "1") else ""
    shown = [f"{x:.6g}" for x in numbers]
    match kind:
        case ConstraintType.RANGE_INCL:
            low, high = numbers
            expected = f"{shown[0]} to {shown[1]}"
        case ConstraintType.RANGE_EXCL:
            expected = f"at most {shown[0]} or at least {shown[1]}"
        case ConstraintType.GREATER_OR_EQUAL:
            low, expected = numbers[0], f"at least {shown[0]}"
        case ConstraintType.LESS_OR_EQUAL:
            high, expected = numbers[0], f"at most {shown[0]}"
        case ConstraintType.GREATER_THAN:
            low, expected = numbers[0], f"more than {shown[0]}"
        case ConstraintType.LESS_THAN:
            high, expected = numbers[0], f"less than {shown[0]}"
        case ConstraintType.NOT_MEMBER_OF:
            expected = f"anything but {_listed(shown)}"
        case _:
            values, expected = numbers, _listed(shown)
    return Rule(field, constraint, kind, numbers, low=low, high=high, values=values, expected=expected + tail)


def _slack(bound: float) -> float:
    return TOLERANCE * max(1.0, abs(bound))


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _words(value: Scalar) -> str:
    return (value.meaning or value.value) if isinstance(value, Code) else str(value)


def _spellings(value: Scalar) -> tuple[str, ...]:
    return (value.value, value.meaning) if isinstance(value, Code) else (str(value),)


def _acquisition_type(words: str) -> str:
    """``Spiral Acquisition`` (a meaning of CID 10013) is the defined term ``SPIRAL`` (PS3.3 C.8.15.3.2.1)."""
    return words.removesuffix(" acquisition").replace(" ", "_")


_SPELLING_OF: Final[dict[str, Callable[[str], str]]] = {"AcquisitionType": _acquisition_type}


def _text_key(field: str, words: str) -> str:
    """Texts are compared without regard to case and blanks: consoles differ in both."""
    plain = " ".join(words.casefold().split())
    spelled = _SPELLING_OF.get(field)
    return spelled(plain) if spelled else plain
