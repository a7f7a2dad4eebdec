"""What a protocol lets a scanner do, as commands: what it begins with, the most, and the least it permits.

A protocol names ranges; the layers judge commands. Each acquisition element gives up to three: its *default*
(defaults, and fields with one permitted value), its *highest* and *lowest* (every numeric field at an end of its
range). There is no patient: the context says what the protocol is for, and the youngest patient where its Patient
Specification is for children alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite

from scanward.codecs.defined_protocol_check import Rule, compile_rule
from scanward.codecs.defined_protocol_model import ConstraintType, Protocol
from scanward.commands import (
    CONTEXT_FIELDS,
    FIELDS,
    Command,
    Context,
    Device,
    Role,
    Source,
    Told,
    Value,
)
from scanward.guard.protocol_compare import acquisitions, intervals, patient_rules, rules_of

ADULT_AGE = 18.0  # years; below, the youngest that the protocol is for sets the limits
_FORECAST = frozenset({"CTDIvol", "DLP"})


class End(StrEnum):
    """Which of the permitted values a command takes."""

    DEFAULT = "default"
    HIGHEST = "highest"
    LOWEST = "lowest"


@dataclass(frozen=True, slots=True)
class Described:
    """A command that an element describes. ``open_fields`` have no value at this end: nothing bounds them."""

    number: int
    end: End
    command: Command
    open_fields: tuple[str, ...]


def described(protocol: Protocol, device: Device, examination: str | None = None) -> tuple[Described, ...]:
    """The commands of every acquisition element, element by element, default first."""
    shared = _context(protocol)
    found = []
    for place, element in enumerate(acquisitions(protocol), 1):
        rules = [r for r in rules_of(element, place) if not r.problem]
        for end in End:
            values, open_fields = _values(rules, end)
            parts = {k: (Told(v, Source.HOST),) for k, v in values.items() if k in CONTEXT_FIELDS}
            parameters = {k: v for k, v in values.items() if k not in CONTEXT_FIELDS and k in FIELDS}
            command = Command(
                parameters,
                Context({**shared, **parts}),
                device,
                Role.COMMANDED,
                dict.fromkeys(_FORECAST & set(parameters), Role.FORECAST),
                examination,
                order=float(place),
            )
            found.append(Described(element.number, end, command, open_fields))
    return tuple(found)


def highest(rules: tuple[Rule, ...], field: str) -> float | None:
    """The largest number that all rules on ``field`` permit; None when none of them bounds it."""
    ends = [intervals(r)[-1][1] for r in rules if r.field == field and not r.problem and r.numbers]
    return min((end for end in ends if isfinite(end)), default=None)


def _values(rules: list[Rule], end: End) -> tuple[dict[str, Value], tuple[str, ...]]:
    by_field: dict[str, list[Rule]] = {}
    for rule in rules:
        by_field.setdefault(rule.field, []).append(rule)
    found: dict[str, Value] = {}
    for field, several in by_field.items():
        value = _default(several) if end is End.DEFAULT else _end(several, end)
        if value is None and end is not End.DEFAULT:
            value = _default(several)
        if value is not None:
            found[field] = value
    return found, tuple(field for field in by_field if field not in found)


def _default(rules: list[Rule]) -> Value | None:
    for rule in rules:
        if rule.constraint.defaults:
            only = rule.constraint.defaults[:1]
            as_equal = compile_rule(rule.field, replace(rule.constraint, type="EQUAL", values=only))
            if as_equal.values:
                return as_equal.values[0]
    for rule in rules:
        if rule.type in (ConstraintType.EQUAL, ConstraintType.MEMBER_OF) and len(rule.values) == 1:
            return rule.values[0]
    return None


def _end(rules: list[Rule], end: End) -> float | None:
    numeric = [intervals(r) for r in rules if r.numbers]
    if end is End.HIGHEST:
        return min((i[-1][1] for i in numeric if isfinite(i[-1][1])), default=None)
    return max((i[0][0] for i in numeric if isfinite(i[0][0])), default=None)


def _context(protocol: Protocol) -> Mapping[str, tuple[Told, ...]]:
    parts: dict[str, tuple[Told, ...]] = {"ProtocolName": (Told(protocol.name, Source.HOST),)}
    meanings = [code.meaning for code in protocol.procedures if code.meaning]
    if meanings:
        parts["RequestedProcedureDescription"] = (Told(meanings[0], Source.HOST),)
    ages = [intervals(r) for r in patient_rules(protocol) if r.field == "PatientAge" and r.numbers]
    oldest = min((i[-1][1] for i in ages), default=float("inf"))
    if oldest < ADULT_AGE:
        youngest = max((i[0][0] for i in ages), default=0.0)
        parts["PatientAge"] = (Told(max(youngest, 0.0), Source.HOST),)
    return parts
