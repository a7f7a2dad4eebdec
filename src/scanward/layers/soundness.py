"""What is put right before any layer looks: values of the types that layers expect, and whom to believe.

Layers compare ``type(value) is float`` and take whatever else for absent; a number of another type would be
judged by no rule. So numbers become floats here, and what is neither number nor text is left to layer form.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from numbers import Real
from typing import Any

from scanward.commands import PATIENT_FIELDS, Command, Context, Device, Source, Told, Value

_PLAIN = frozenset({float, str})
_PATIENT = frozenset(PATIENT_FIELDS)
_LATEST = 1e12  # s: no recording's clock tells more; differences of such times are finite


def sound(command: Command, only: Device | None = None) -> Command:
    """The command as layers expect it; the same object when there is nothing to put right.

    ``only`` is the device of a command that names none. A time that is no time is unknown. Of what several
    sources say, the host's word goes last.
    """
    changes: dict[str, Any] = {}
    if not _PLAIN.issuperset(map(type, command.parameters.values())):
        changes["parameters"] = {n: _number(v) for n, v in command.parameters.items()}
    if not all(map(_told_plainly, command.context.parts.values())):
        changes["context"] = Context({n: _ordered(told) for n, told in command.context.parts.items()})
    at = command.acquired_at
    if at is not None and not abs(at) <= _LATEST:
        changes["acquired_at"] = None
    if only is not None and command.device.key == "|":
        changes["device"] = replace(command.device, manufacturer=only.manufacturer, model=only.model)
    return replace(command, **changes) if changes else command


def without_host_patient(command: Command) -> Command | None:
    """The command without what only the host says of the patient; None when there is nothing of the kind.

    Parameters are the host's own words, whatever the field.
    """
    parts, parameters = command.context.parts, command.parameters
    host = Source.HOST
    only = {n for n in _PATIENT.intersection(parts) if all(t.source is host for t in parts[n])}
    said = _PATIENT.intersection(parameters)
    if not only and not said:
        return None
    context = Context({n: t for n, t in parts.items() if n not in only})
    return replace(command, context=context, parameters=_without(parameters, said) if said else parameters)


def _without(values: Mapping[str, Value], names: Set[str]) -> dict[str, Value]:
    return {n: v for n, v in values.items() if n not in names}


def _plain(value: object) -> bool:
    return type(value) in _PLAIN


def _number(value: Any) -> Any:
    if type(value) is not bool and isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    return str(value) if isinstance(value, str) else value


def _told_plainly(told: tuple[Told, ...]) -> bool:
    if len(told) == 1:
        return _plain(told[0].value)
    return all(_plain(t.value) for t in told) and _last_of_host(told) == told


def _last_of_host(told: tuple[Told, ...]) -> tuple[Told, ...]:
    return tuple(sorted(told, key=lambda t: t.source is Source.HOST))


def _ordered(told: tuple[Told, ...]) -> tuple[Told, ...]:
    return _last_of_host(tuple(replace(t, value=_shown(_number(t.value))) for t in told))


def _shown(value: Any) -> Value:
    """What is neither number nor text as text, which no field of the patient accepts."""
    return value if _plain(value) else repr(value)[:80]
