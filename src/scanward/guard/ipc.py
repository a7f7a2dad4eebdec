"""What relay and judge say to each other: JSON in frames of a 4-byte length, over a socketpair. Pure.

The judge keeps nothing that matters: every question carries the history that it needs, so that a judge that was
killed is replaced by a new one and nothing is lost.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from scanward.commands import LayerName, Objection, Opinion, Outcome, Severity, Value
from scanward.config import JUDGE_BOUNDS
from scanward.errors import DecodeError
from scanward.guard.events import Forecast, Notification
from scanward.guard.policy_terms import ElementAnswer

_HEADER: Final = struct.Struct(">I")


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class JudgeSettings(_Shape, frozen=True):
    """First frame to a judge. ``keys`` are public keys in PEM; ``serial`` of the device is a keyed hash."""

    bundle: str
    keys: list[str]
    versions: str
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    software: str = ""


class Ready(_Shape, frozen=True, tag="ready", tag_field="say"):
    """The judge has verified and loaded its bundle."""

    digest: str
    version: int
    budget: float
    seconds: float  # s from its start


class Failed(_Shape, frozen=True, tag="failed", tag_field="say"):
    """The judge cannot judge at all; it ends."""

    error: str
    what: str
    where: str = ""
    todo: str = ""


class ObjectionShape(_Shape, frozen=True):
    """One objection."""

    field: str
    reason: str
    severity: int
    found: float | str | None = None
    expected: str = ""
    weight: float = 0.0


class LayerShape(_Shape, frozen=True):
    """What one layer said. ``severity`` is that of its gravest objection."""

    layer: LayerName
    outcome: Outcome
    severity: int = 0
    objections: list[ObjectionShape] = []
    p_value: float | None = None
    reason: str = ""


class ForecastShape(_Shape, frozen=True):
    """The judge's own forecast: mGy, mGy.cm, cm, mm; z is None where it is not known.

    ``notify_CTDIvol``, ``notify_DLP``: the notification value that applies, None where there is none.
    """

    CTDIvol: float
    DLP: float
    phantom_cm: int
    z_low: float | None = None
    z_high: float | None = None
    notify_CTDIvol: float | None = None
    notify_DLP: float | None = None


class ElementShape(_Shape, frozen=True):
    """All that was said of one element."""

    layers: list[LayerShape]
    p_value: float | None = None
    within_budget: bool | None = None
    disputed: list[ObjectionShape] = []
    forecast: ForecastShape | None = None


class Answer(_Shape, frozen=True, tag="answer", tag_field="say"):
    """One answer. ``error`` is set, and ``elements`` empty, when judging raised."""

    request: int
    elements: list[ElementShape] = []
    bundle: str = ""
    error: str = ""
    seconds: float = 0.0  # s it took


FromJudge = Ready | Failed | Answer
_from_judge: msgspec.json.Decoder[FromJudge] = msgspec.json.Decoder(FromJudge)


class Question(_Shape, frozen=True):
    """One question; request 0 asks only whether the judge lives.

    ``history`` and ``chain`` are commands as `codecs.stream.command_to_json` writes them; ``parts`` is what the
    guard itself knows of this examination (worklist, localizer, operator), in the same shape as a context.
    """

    request: int
    mode: str = "CLINICAL"
    history: list[dict[str, Any]] = []
    chain: list[dict[str, Any]] = []
    parts: dict[str, list[dict[str, Any]]] = {}


def framed(said: msgspec.Struct) -> bytes:
    """A frame."""
    data = msgspec.json.encode(said)
    return _HEADER.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into the payloads of frames of at most ``most`` bytes."""

    def __init__(self, most: int = JUDGE_BOUNDS.frame_bytes) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every frame that is whole now; DecodeError for one that is too long."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            size = _HEADER.unpack_from(self._buffer)[0]
            if size > self._most:
                raise DecodeError(f"a frame of {size} bytes", "between relay and judge", "this is a bug")
            if len(self._buffer) < _HEADER.size + size:
                return
            payload = bytes(self._buffer[_HEADER.size : _HEADER.size + size])
            del self._buffer[: _HEADER.size + size]
            yield payload


def from_judge(payload: bytes) -> FromJudge:
    """What a judge said; DecodeError for anything else."""
    try:
        return _from_judge.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(
            f"not what a judge says ({error})", "between relay and judge", "this is a bug"
        ) from error


# --- between shapes and the vocabulary


def objection_shape(objection: Objection) -> ObjectionShape:
    """For the wire: a number that JSON cannot hold is told as text."""
    found: Value | None = objection.found
    if isinstance(found, float) and not math.isfinite(found):
        found = repr(found)
    weight = objection.weight if math.isfinite(objection.weight) else 1e9
    return ObjectionShape(
        objection.field, objection.reason, int(objection.severity), found, objection.expected, weight
    )


def layer_shape(opinion: Opinion) -> LayerShape:
    """For the wire."""
    gravest = sorted(opinion.objections, key=lambda o: -o.severity)  # those beyond the bound are lost
    objections = [objection_shape(o) for o in gravest[: JUDGE_BOUNDS.objections]]
    p_value = opinion.p_value if opinion.p_value is not None and math.isfinite(opinion.p_value) else None
    return LayerShape(
        opinion.layer, opinion.outcome, int(opinion.severity), objections, p_value, opinion.reason
    )


def element_answer(shape: ElementShape) -> ElementAnswer:
    """For the policy; DecodeError for a severity that there is not."""
    try:
        opinions = tuple(
            Opinion(s.layer, s.outcome, tuple(map(_objection, s.objections)), None, s.p_value, {}, s.reason)
            for s in shape.layers
        )
        disputed = tuple(map(_objection, shape.disputed))
    except ValueError as error:
        raise DecodeError(str(error), "between relay and judge", "this is a bug") from error
    told = shape.forecast
    forecast = (
        None
        if told is None
        else Forecast(
            told.CTDIvol,
            told.DLP,
            told.phantom_cm,
            math.nan if told.z_low is None else told.z_low,
            math.nan if told.z_high is None else told.z_high,
        )
    )
    known = told is not None and (told.notify_CTDIvol is not None or told.notify_DLP is not None)
    notification = Notification(told.notify_CTDIvol, told.notify_DLP) if told and known else None
    return ElementAnswer(opinions, shape.p_value, shape.within_budget, disputed, forecast, notification)


def _objection(shape: ObjectionShape) -> Objection:
    return Objection(
        shape.field,
        shape.reason,
        shape.found,
        shape.expected,
        severity=Severity(shape.severity),
        weight=shape.weight,
    )


def merged(parts: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """A context with what the guard itself knows put first: best source first, the host's word last."""
    return {name: [*parts.get(name, ()), *context.get(name, ())] for name in {**parts, **context}}
