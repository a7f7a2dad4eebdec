"""The control channel's lines: one JSON object each, both ways. Pure; documented in docs/control.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from scanward.codecs.stream import command_to_json
from scanward.commands import Command, Mode
from scanward.commands.wire import Element
from scanward.errors import DecodeError
from scanward.guard.operators import Act, ActKind

PROTOCOL = 1
_KEYS = frozenset(
    {"type", "id", "act", "operator", "request", "shown", "reason", "minutes", "mode", "signature"}
)


@dataclass(frozen=True, slots=True)
class ActLine:
    """An act as a client sent it. ``id`` is the client's own number for the answer."""

    id: int
    act: Act
    signature: str


@dataclass(frozen=True, slots=True)
class PingLine:
    """Says that the client lives."""


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """Asks for the present state once more."""


ClientLine = ActLine | PingLine | SnapshotLine


def encode(document: Mapping[str, Any]) -> bytes:
    """One line. Whatever is not JSON is written plainly; a number JSON has no word for becomes null."""
    text = json.dumps(plain(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def plain(value: Any) -> Any:
    """``value`` in plain JSON: enums by value, commands as `codecs.stream` has them, dataclasses as objects."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Element):
        return {"command": plain(command_to_json(value.command)), "auto": value.auto}
    if isinstance(value, Command):
        return plain(command_to_json(value))
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return str(value)


def decode(line: bytes) -> ClientLine:
    """A client's line; DecodeError for anything else (duplicate keys, NaN, unknown keys and types included)."""
    try:
        document = json.loads(line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _bad(f"not one JSON object ({str(error)[:100]})") from error
    if not isinstance(document, dict):
        raise _bad("not one JSON object")
    kind = document.get("type")
    if kind in ("ping", "snapshot") and len(document) == 1:
        return PingLine() if kind == "ping" else SnapshotLine()
    if kind != "act":
        raise _bad("an unknown type")
    if set(document) - _KEYS:
        raise _bad(f"an unknown key {sorted(set(document) - _KEYS)[0][:40]!r}")
    try:
        act = Act(
            ActKind(_text(document, "act")),
            _text(document, "operator"),
            _whole(document, "request"),
            _text(document, "shown"),
            _text(document, "reason"),
            _whole(document, "minutes"),
            Mode(_text(document, "mode") or Mode.CLINICAL),
        )
    except ValueError as error:
        raise _bad(str(error)[:100]) from error
    return ActLine(_whole(document, "id"), act, _text(document, "signature"))


def act_line(number: int, act: Act, signature: str) -> bytes:
    """What a client sends."""
    return encode(
        {
            "type": "act",
            "id": number,
            "act": act.kind,
            "operator": act.operator,
            "request": act.request,
            "shown": act.shown,
            "reason": act.reason,
            "minutes": act.minutes,
            "mode": act.mode,
            "signature": signature,
        }
    )


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key} needs text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{key} holds half a character") from None
    return value


def _whole(document: dict[str, Any], key: str) -> int:
    value = document.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError(f"{key} needs a whole number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _bad(what: str) -> DecodeError:
    return DecodeError(what, "control channel", "see docs/control.md")
