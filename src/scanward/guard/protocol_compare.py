"""Does a protocol permit anything that the approved one does not? (PS3.3 C.34.9.3, 10.25.1)

A constraint is a set of permitted values. A protocol is no looser than the approved one when, for every constraint
of the approved, one of its own on the same field permits a subset, with no milder significance. What cannot be
compared counts as loosened: it is for a person to say that it is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from scanward.codecs.defined_protocol_check import Rule, compile_rule
from scanward.codecs.defined_protocol_fields import field_of, patient_field_of, selector_text
from scanward.codecs.defined_protocol_model import (
    Constraint,
    ConstraintType,
    Element,
    ElementKind,
    Protocol,
    Significance,
)
from scanward.commands import Objection, Severity

SEVERITY = {
    Significance.FAILURE.value: Severity.HALT,
    Significance.WARNING.value: Severity.ALERT,
    Significance.INFORMATIVE.value: Severity.INFORMATION,
    "": Severity.INFORMATION,
}
_FINITE_TEXTS = frozenset({ConstraintType.EQUAL, ConstraintType.MEMBER_OF})
_TOLERANCE = 1e-6  # DS holds 16 characters

Interval = tuple[float, float]


def acquisitions(protocol: Protocol) -> tuple[Element, ...]:
    """The elements that give dose, in the order of the file."""
    return tuple(e for e in protocol.elements if e.kind is ElementKind.ACQUISITION)


def rules_of(element: Element, place: int) -> tuple[Rule, ...]:
    """Every constraint of an element as a rule; one that is on no command field is named by its selector."""
    places = frozenset({element.number, place})
    return tuple(
        compile_rule(field, c) if (field := field_of(c, places)) else _unknown(c) for c in element.constraints
    )


def patient_rules(protocol: Protocol) -> tuple[Rule, ...]:
    """Patient Specification as rules."""
    return tuple(
        compile_rule(field, c) if (field := patient_field_of(c)) else _unknown(c) for c in protocol.patient
    )


def _unknown(constraint: Constraint) -> Rule:
    return Rule(selector_text(constraint), constraint, problem="a command has no such field")


def intervals(rule: Rule) -> list[Interval]:
    """The numbers that a rule on numbers permits, as closed intervals in ascending order."""
    numbers = rule.numbers
    if rule.type is ConstraintType.UNCONSTRAINED:
        return [(-math.inf, math.inf)]
    first, last = numbers[0], numbers[-1]
    match rule.type:
        case ConstraintType.RANGE_INCL:
            return [(first, last)]
        case ConstraintType.RANGE_EXCL:
            return [(-math.inf, first), (last, math.inf)]
        case ConstraintType.GREATER_OR_EQUAL:
            return [(first, math.inf)]
        case ConstraintType.GREATER_THAN:
            return [(_above(first), math.inf)]
        case ConstraintType.LESS_OR_EQUAL:
            return [(-math.inf, first)]
        case ConstraintType.LESS_THAN:
            return [(-math.inf, _below(first))]
        case ConstraintType.NOT_MEMBER_OF:
            edges = [-math.inf, *sorted(set(numbers)), math.inf]
            pairs = itertools.pairwise(edges)
            return [(_above(a), _below(b)) for a, b in pairs]
        case _:
            return [(x, x) for x in sorted(set(numbers))]


def _above(x: float) -> float:
    return x + 2 * _TOLERANCE * max(1.0, abs(x)) if math.isfinite(x) else x


def _below(x: float) -> float:
    return x - 2 * _TOLERANCE * max(1.0, abs(x)) if math.isfinite(x) else x


def permits_no_more(new: Rule, old: Rule) -> bool:
    """Whether every value that ``new`` permits is permitted by ``old``; False when that cannot be told."""
    if old.problem or new.problem:
        return bool(old.constraint == new.constraint)
    if old.type is ConstraintType.UNCONSTRAINED:
        return True
    if old.numbers:
        if not new.numbers and new.type is not ConstraintType.UNCONSTRAINED:
            return False
        wide = intervals(old)
        return all(any(_inside(a, b) for b in wide) for a in intervals(new))
    if new.type in _FINITE_TEXTS and not new.numbers:
        return all(old.allows(value) for value in new.values)
    same = new.type is old.type is ConstraintType.NOT_MEMBER_OF
    return same and old.texts <= new.texts


def _inside(inner: Interval, outer: Interval) -> bool:
    return _below_or_at(outer[0], inner[0]) and _below_or_at(inner[1], outer[1])


def _below_or_at(a: float, b: float) -> bool:
    return a <= b or (math.isfinite(a) and math.isfinite(b) and a - b <= _TOLERANCE * max(1.0, abs(a)))


def loosened(new: Protocol, approved: Protocol) -> tuple[Objection, ...]:
    """What ``new`` permits beyond ``approved``, and what else differs; empty when the contents are the same."""
    if new.digest() == approved.digest():
        return ()
    found = [*_elements(new, approved), *_rules(patient_rules(new), patient_rules(approved), "patient")]
    if approved.models and not set(new.models) <= set(approved.models):
        found.append(_changed("ManufacturerModelName", "it is meant for devices that were not approved"))
    found += [
        _changed(name, f"{what} differ from the approved protocol's")
        for name, what in _REST
        if getattr(new, name) != getattr(approved, name)
    ]
    if not any(o.severity > Severity.INFORMATION for o in found):
        found.append(_changed("SOPInstanceUID", "its content is not the one that was approved"))
    return tuple(found)


_REST = (("instructions", "instructions"), ("procedures", "requested procedures"), ("name", "the names"))


def _changed(field: str, reason: str) -> Objection:
    return Objection(field, reason, severity=Severity.ALERT)


def _elements(new: Protocol, approved: Protocol) -> Iterator[Objection]:
    old = {e.number: (place, e) for place, e in enumerate(acquisitions(approved), 1)}
    seen = set()
    for place, element in enumerate(acquisitions(new), 1):
        seen.add(element.number)
        if element.number not in old:
            reason = f"acquisition element {element.number} is not in the approved protocol"
            number = float(element.number)
            yield Objection("ProtocolElementNumber", reason, number, severity=Severity.HALT)
            continue
        was_at, was = old[element.number]
        yield from _rules(rules_of(element, place), rules_of(was, was_at), f"element {element.number}")
    for number in sorted(set(old) - seen):
        yield _changed(
            "ProtocolElementNumber", f"acquisition element {number} of the approved one is missing"
        )


def _rules(new: tuple[Rule, ...], old: tuple[Rule, ...], where: str) -> Iterator[Objection]:
    for rule in old:
        grave = SEVERITY.get(rule.constraint.significance, Severity.ALERT)
        own = [r for r in new if r.field == rule.field]
        good = [r for r in own if permits_no_more(r, rule)]
        if not good:
            told = ", ".join(r.expected or r.problem for r in own) or "anything"
            reason = f"{where} permits more than was approved"
            yield Objection(rule.field, reason, told, rule.expected or rule.problem, severity=grave)
            continue
        if max(SEVERITY.get(r.constraint.significance, Severity.ALERT) for r in good) < grave:
            reason = f"{where}: leaving the permitted values has become less grave"
            yield Objection(rule.field, reason, good[0].constraint.significance or "none", severity=grave)
        if rule.constraint.modifiable is False and any(r.constraint.modifiable is not False for r in good):
            yield _changed(rule.field, f"{where}: the constraint may now be modified")
        if _defaults(good) != _defaults([rule]):
            yield _changed(rule.field, f"{where} begins with another default than was approved")
    yield from _new_defaults(new, {r.field for r in old}, where)


def _defaults(rules: Iterable[Rule]) -> set[object]:
    return {r.constraint.defaults for r in rules if r.constraint.defaults}


def _new_defaults(new: tuple[Rule, ...], known: set[str], where: str) -> Iterator[Objection]:
    for rule in new:
        if rule.field not in known:
            yield _changed(rule.field, f"{where} has a constraint that the approved protocol has not")
