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
    for data in payloads:
        try:
            said = msgspec.json.decode(data)
            if not isinstance(said, dict):
                raise DecodeError("not a record", "audit log", "run `scanward audit verify`")
            _record(said, told, courses, waiting)
        except (msgspec.MsgspecError, DecodeError, KeyError, TypeError, ValueError):
            told.damaged += 1
    _unknown(told, courses, waiting)
    told.courses = [course for course in courses.values() if course.sent or course.doses]
    return told


def _record(
    said: dict[str, Any],
    told: Told,
    courses: dict[tuple[str, str], Course],
    waiting: dict[int, dict[str, Any]],
) -> None:
    kind = said.get("kind")
    if kind == START:
        _unknown(told, courses, waiting)
    elif kind in ("release", "trigger"):
        waiting[int(said["record"])] = said
    elif kind == "withdrawn":
        waiting.pop(int(said["token"]), None)
    elif kind == "sent":
        released = waiting.pop(int(said.get("token", 0)), None)
        command = said.get("command") or (released or {}).get("command")
        if command:
            whose = said if said.get("command") else released or {}
            _course(courses, whose).sent.append(command_from_json(command))
    elif kind == "dose":
        dose = said["dose"]
        delivered = Forecast(
            float(dose["ctdivol"]),
            float(dose["dlp"]),
            int(dose["phantom"]),
            _or_nan(dose["z_low"]),
            _or_nan(dose["z_high"]),
        )
        _course(courses, said).doses.append(delivered)


def _unknown(told: Told, courses: dict[tuple[str, str], Course], waiting: dict[int, dict[str, Any]]) -> None:
    """What waits at the end of a life may have been sent: a dose that may have been given counts as given."""
    for said in waiting.values():
        told.unknown.append(said)
        if said.get("command"):
            command = command_from_json(said["command"])
            course = _course(courses, said)
            course.sent.append(command)
            ctdivol, dlp = command.number("CTDIvol"), command.number("DLP")
            course.doses.append(Forecast(ctdivol or 0.0, dlp or 0.0))
    waiting.clear()


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _course(courses: dict[tuple[str, str], Course], said: Mapping[str, Any]) -> Course:
    key = (str(said.get("examination", "")), str(said.get("patient", "")))
    return courses.setdefault(key, Course(*key))
