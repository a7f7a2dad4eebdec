"""What the relay writes to the audit log, as JSON, and how it reads it again after a restart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec

from scanward.codecs.stream import command_from_json, command_to_json
from scanward.commands import Command
from scanward.errors import DecodeError
from scanward.guard.events import Forecast

START = "start"
"""Kind of the record that begins every life of a relay: tokens count from 1 after it."""


def payload(kind: str, record: int, data: Mapping[str, object]) -> bytes:
    """A record's bytes: ``{"kind": ..., "record": ..., **data}``. Not-a-number becomes null.

    Nothing in ``data`` can pass for another kind of record: such a name gets an underscore.
    """
    own = {"kind": kind, "record": record}
    return msgspec.json.encode({**own, **{f"{n}_" if n in own else n: v for n, v in plain(data).items()}})


def plain(value: Any) -> Any:
    """``value`` with dataclasses as objects; a command in the shape of `codecs.stream.command_to_json`."""
    if isinstance(value, Command):
        return command_to_json(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return value


@dataclass(slots=True)
class Course:
    """What the log tells of one examination (and patient): commands sent, doses delivered, oldest first."""

    examination: str
    patient: str
    sent: list[Command] = field(default_factory=list)
    doses: list[Forecast] = field(default_factory=list)


@dataclass(slots=True)
class Told:
    """What the log tells after a restart.

    Attributes
    ----------
    courses : list of Course
    unknown : list of dict
        Releases and triggers of which the log does not say that they were sent, withdrawn or declined: they may
        have reached the gantry. Shown, never sent again.
    damaged : int
        Records that could not be understood.
    """

    courses: list[Course] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0


def retell(payloads: Iterable[bytes]) -> Told:
    """Go through the relay's records, oldest first."""
    told = Told()
    courses: dict[tuple[str, str], Course] = {}
    waiting: dict[int, dict[str, Any]] = {}  # release or trigger by its record number, in one life of a relay
    begun: list[dict[str, Any]] = []  # the element that was passed on last and whose dose is not on record
    seen: set[int] = (
        set()
    )  # numbers in this life: a record comes twice when its writer died before it answered
    for data in payloads:
        try:
            said = msgspec.json.decode(data)
            if not isinstance(said, dict):
                raise DecodeError("not a record", "audit log", "run `scanward audit verify`")
            if said.get("kind") == START:
                seen.clear()
            number = int(said.get("record") or 0)
            if number not in seen:
                _record(said, told, courses, waiting, begun)
            seen |= {number} - {0}
        except (msgspec.MsgspecError, DecodeError, KeyError, TypeError, ValueError):
            told.damaged += 1
    _unknown(told, courses, waiting, begun)
    told.courses = [course for course in courses.values() if course.sent or course.doses]
    return told


def _record(
    said: dict[str, Any],
    told: Told,
    courses: dict[tuple[str, str], Course],
    waiting: dict[int, dict[str, Any]],
    begun: list[dict[str, Any]],
) -> None:
    kind = said.get("kind")
    if kind == START:
        _unknown(told, courses, waiting, begun)
    elif kind in ("release", "trigger"):
        waiting[int(said["record"])] = said
    elif kind == "withdrawn":
        waiting.pop(int(said["token"]), None)
    elif kind == "sent":
        released = waiting.pop(int(said.get("token", 0)), None)
        whose = said if said.get("command") else released or {}
        if whose.get("command"):
            _course(courses, whose).sent.append(command_from_json(whose["command"]))
            begun.clear()  # the gate settles one element before it begins the next
            begun.append(whose)
    elif kind == "declined":
        begun[:] = [each for each in begun if each.get("id") != said.get("id")]
    elif kind in ("dose", "dose_report"):
        if kind == "dose":
            begun.clear()
        _course(courses, said).doses.append(_forecast(said["dose"]))


def _unknown(
    told: Told,
    courses: dict[tuple[str, str], Course],
    waiting: dict[int, dict[str, Any]],
    begun: list[dict[str, Any]],
) -> None:
    """What waits at the end of a life may have been sent: a dose that may have been given counts as given.

    So does that of an element in whose beam the relay ended.
    """
    for said in begun:
        _course(courses, said).doses.append(_expected(said))
    for said in waiting.values():
        told.unknown.append(said)
        if said.get("command"):
            course = _course(courses, said)
            course.sent.append(command_from_json(said["command"]))
            course.doses.append(_expected(said))
    waiting.clear()
    begun.clear()


def _expected(said: Mapping[str, Any]) -> Forecast:
    """The guard's own forecast on a trigger's record; of an older record what the host claimed."""
    if said.get("forecast"):
        return _forecast(said["forecast"])
    command = command_from_json(said["command"])
    return Forecast(command.number("CTDIvol") or 0.0, command.number("DLP") or 0.0)


def _forecast(dose: Mapping[str, Any]) -> Forecast:
    return Forecast(
        float(dose["ctdivol"]),
        float(dose["dlp"]),
        int(dose["phantom"]),
        _or_nan(dose["z_low"]),
        _or_nan(dose["z_high"]),
    )


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _course(courses: dict[tuple[str, str], Course], said: Mapping[str, Any]) -> Course:
    key = (str(said.get("examination", "")), str(said.get("patient", "")))
    return courses.setdefault(key, Course(*key))
