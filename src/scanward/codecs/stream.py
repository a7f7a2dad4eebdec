"""The stream link's lines: one JSON object each, UTF-8, ended by a line feed (docs/protocol.md). Pure.

``decode_host``, ``decode_gantry`` and ``decode_guard`` read a line, ``encode`` writes one. What is read is
checked by type and bound while it is decoded, and again for the two things that msgspec lets pass: duplicate
keys (two readers of one line must not see two commands) and surrogates that are no text. Stops and heartbeats
are exact lines out of a closed list, compared as bytes.

``command_to_json`` and ``command_from_json`` are the form of a command in the judge's questions and the log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from scanward.codecs import stream_shapes as shapes
from scanward.commands.model import Command, Context, Device, Role, Source, Told, Value
from scanward.commands.wire import (
    Alerted,
    Cancel,
    Channel,
    Declined,
    Done,
    Element,
    FromGantry,
    FromHost,
    Heartbeat,
    Held,
    Hello,
    Injection,
    Load,
    Loaded,
    Motion,
    Moved,
    Refused,
    Started,
    Status,
    Stop,
    StopKind,
    Stopped,
    ToHost,
    Trigger,
)
from scanward.config import STREAM_BOUNDS, StreamBounds
from scanward.errors import DecodeError

Hide = Callable[[str], str]
"""Turns an identifier into its keyed hash (decoding), or back (encoding). Never called with an empty text."""

# The closed list of stops, and the one heartbeat: exact lines, without the line feed.
STOPS: Final[Mapping[bytes, Stop]] = {
    b'{"type":"stop"}': Stop(StopKind.ALL),
    b'{"type":"stop","what":"beam"}': Stop(StopKind.BEAM),
    b'{"type":"stop","what":"motion"}': Stop(StopKind.MOTION),
}
HEARTBEAT: Final = b'{"type":"heartbeat"}'

_STOP_LINES: Final = {stop.what: line + b"\n" for line, stop in STOPS.items()}
_WHERE: Final = "a line of the stream link"
_TODO: Final = "send what docs/protocol.md describes"

_host: msgspec.json.Decoder[shapes.HostLine] = msgspec.json.Decoder(shapes.HostLine)
_gantry: msgspec.json.Decoder[shapes.GantryLine] = msgspec.json.Decoder(shapes.GantryLine)
_guard: msgspec.json.Decoder[shapes.GuardLine] = msgspec.json.Decoder(shapes.GuardLine)
_encoder = msgspec.json.Encoder()

Message = FromHost | FromGantry | Held | Refused | Alerted
_Line = TypeVar("_Line")


def same(text: str) -> str:
    """Identifiers left as they are: for the ends of the wire, which are no guard."""
    return text


def decode_host(
    line: bytes, hide: Hide = same, device: Device | None = None, bounds: StreamBounds = STREAM_BOUNDS
) -> FromHost:
    """What a host said, ``line`` with or without its line feed.

    Parameters
    ----------
    hide : callable
        Applied to StudyInstanceUID, PatientID and DeviceSerialNumber before they go into the message.
    device : Device or None
        The device that the connection's hello named: every command of a load gets it.

    Raises
    ------
    DecodeError
        For anything that is not exactly one message of a host.
    """
    line = _bounded(line, bounds)
    stop = STOPS.get(line)
    if stop is not None:
        return stop
    if line == HEARTBEAT:
        return Heartbeat()
    match _decoded(_host, line):
        case shapes.HelloLine() as said:
            return _hello(said, hide)
        case shapes.LoadLine() as said:
            return _load(said, hide, device or Device())
        case shapes.TriggerLine() as said:
            return Trigger(said.id, said.load, said.element, said.runtime)
        case shapes.MotionLine() as said:
            return Motion(said.id, said.axis, said.target, said.speed)
        case shapes.CancelLine() as said:
            return Cancel(said.id, said.load)


def decode_gantry(line: bytes, hide: Hide = same, bounds: StreamBounds = STREAM_BOUNDS) -> FromGantry:
    """What a gantry said; DecodeError for anything else."""
    line = _bounded(line, bounds)
    return Heartbeat() if line == HEARTBEAT else _from_gantry(_decoded(_gantry, line), hide)


def decode_guard(line: bytes, hide: Hide = same, bounds: StreamBounds = STREAM_BOUNDS) -> ToHost:
    """What a guard said to its host: a gantry's messages and the guard's own; DecodeError for anything else."""
    line = _bounded(line, bounds)
    if line == HEARTBEAT:
        return Heartbeat()
    match _decoded(_guard, line):
        case shapes.HeldLine() as said:
            return Held(said.id, said.reason, said.deadline)
        case shapes.RefusedLine() as said:
            return Refused(said.id, said.reason, said.layer, tuple(said.fields), said.again)
        case shapes.AlertedLine() as said:
            return Alerted(said.id, said.reason)
        case said:
            return _from_gantry(said, hide)


def encode(message: Message, reveal: Hide = same) -> bytes:
    """The one canonical line of a message, with its line feed; ``reveal`` is the inverse of ``hide``.

    Raises
    ------
    DecodeError
        When the message holds what the wire cannot: a number that is not finite, a text beyond its bound.
    """
    match message:
        case Stop(what):
            return _STOP_LINES[what]
        case Heartbeat():
            return HEARTBEAT + b"\n"
        case _:
            shape = _shape(message, reveal)
    try:
        _check_finite(shape)
        line = _encoder.encode(shape)
    except (msgspec.MsgspecError, UnicodeError, ValueError, TypeError) as error:
        raise DecodeError(f"a message that no line can hold ({error})", _WHERE, _TODO) from error
    if len(line) >= STREAM_BOUNDS.line_bytes:
        raise DecodeError(f"a message of {len(line)} bytes", _WHERE, "split the chain")
    return line + b"\n"


def command_to_json(command: Command) -> dict[str, Any]:
    """A command as plain JSON values. Origin is left out: nothing judges by it."""
    told = {
        n: [{"value": t.value, "source": t.source.value} for t in w] for n, w in command.context.parts.items()
    }
    device = command.device
    found: dict[str, Any] = {
        "parameters": dict(command.parameters),
        "role": command.role.value,
        "roles": {name: role.value for name, role in command.roles.items()},
        "context": told,
        "device": {
            "manufacturer": device.manufacturer,
            "model": device.model,
            "serial": device.serial,
            "software": device.software,
        },
        "mode": command.mode.value,
        "order": command.order,
    }
    for name in ("examination", "acquired_at", "event"):
        value = getattr(command, name)
        if value is not None:
            found[name] = value
    return found


def command_from_json(found: Mapping[str, Any]) -> Command:
    """The inverse of ``command_to_json``; DecodeError for anything else."""
    try:
        shape = msgspec.convert(found, shapes.CommandShape)
        _check_finite(shape)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DecodeError(f"not a command ({error})", "a command as JSON", "give what was written") from error
    parts = {name: tuple(Told(t.value, t.source) for t in told) for name, told in shape.context.items()}
    device = Device(shape.device.manufacturer, shape.device.model, shape.device.serial, shape.device.software)
    return Command(
        shape.parameters,
        Context(parts),
        device,
        shape.role,
        shape.roles,
        shape.examination,
        shape.acquired_at,
        shape.order,
        shape.event,
        shape.mode,
    )


def _bounded(line: bytes, bounds: StreamBounds) -> bytes:
    if len(line) > bounds.line_bytes:
        raise DecodeError(f"a line of more than {bounds.line_bytes} bytes", _WHERE, _TODO)
    return line.removesuffix(b"\n")


def _decoded(decoder: msgspec.json.Decoder[_Line], line: bytes) -> _Line:
    try:
        found = decoder.decode(line)
        json.loads(line, object_pairs_hook=_no_duplicates)
        return found
    except DecodeError:
        raise
    # UnicodeDecodeError is a ValueError; msgspec and json both say RecursionError of what is nested too deep.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(f"not a message ({str(error)[:200]})", _WHERE, _TODO) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DecodeError(f"the key {twice[:64]!r} is there twice", _WHERE, _TODO)


def _hidden(text: str, hide: Hide) -> str:
    return hide(text) if text.strip() else ""


def _hello(said: shapes.HelloLine, hide: Hide) -> Hello:
    d = said.device
    serial = _hidden(d.DeviceSerialNumber, hide)
    return Hello(
        Device(d.Manufacturer, d.ManufacturerModelName, serial, d.SoftwareVersions), Channel(said.channel)
    )


def _load(said: shapes.LoadLine, hide: Hide, device: Device) -> Load:
    examination = _hidden(said.StudyInstanceUID, hide)
    chain = []
    for number, element in enumerate(said.chain):
        if strange := element.roles.keys() - element.parameters.keys():
            raise DecodeError(f"a role for {min(strange)}, which is no parameter", _WHERE, _TODO)
        context = {name: (Told(value, Source.HOST),) for name, value in element.context.items()}
        command = Command(
            element.parameters,
            Context(context),
            device,
            Role.COMMANDED,
            element.roles,
            examination or None,
            order=float(number),
        )
        chain.append(Element(command, element.auto))
    return Load(said.id, examination, _hidden(said.PatientID, hide), tuple(chain), said.triggers)


def _from_gantry(line: shapes.GantryLine, hide: Hide) -> FromGantry:
    match line:
        case shapes.HelloLine():
            return _hello(line, hide)
        case shapes.LoadedLine():
            return Loaded(line.load, tuple(line.chain))
        case shapes.InjectionLine():
            return Injection(line.load)
        case shapes.StartedLine():
            return Started(line.load, line.element)
        case shapes.DoneLine():
            return Done(line.load, line.element, line.CTDIvol, line.DLP, line.aborted, line.reason)
        case shapes.MovedLine():
            return Moved(line.id, line.position)
        case shapes.StoppedLine():
            return Stopped(line.what)
        case shapes.StatusLine():
            return Status(line.state, line.detail)
        case shapes.DeclinedLine():
            return Declined(line.id, line.reason)


def _shape(message: Message, reveal: Hide) -> shapes.Line:
    match message:
        case Hello(d, channel, _):
            serial = _hidden(d.serial, reveal)
            return shapes.HelloLine(
                1, channel, shapes.DeviceShape(d.manufacturer, d.model, serial, d.software)
            )
        case Load():
            return shapes.LoadLine(
                message.id,
                [_element(e) for e in message.chain],
                _hidden(message.examination, reveal),
                _hidden(message.patient, reveal),
                message.triggers,
            )
        case Trigger(name, load, element, runtime):
            return shapes.TriggerLine(name, load, element, dict(runtime))
        case Motion(name, axis, target, speed):
            return shapes.MotionLine(name, axis, target, speed)
        case Cancel(name, load):
            return shapes.CancelLine(name, load)
        case Loaded(load, chain):
            return shapes.LoadedLine(load, [dict(parameters) for parameters in chain])
        case Injection(load):
            return shapes.InjectionLine(load)
        case Started(load, element):
            return shapes.StartedLine(load, element)
        case Done(load, element, ctdivol, dlp, aborted, reason):
            return shapes.DoneLine(load, element, ctdivol, dlp, aborted, reason)
        case Moved(name, position):
            return shapes.MovedLine(name, position)
        case Stopped(what):
            return shapes.StoppedLine(what)
        case Status(state, detail):
            return shapes.StatusLine(state, detail)
        case Declined(name, reason):
            return shapes.DeclinedLine(name, reason)
        case Held(name, reason, deadline):
            return shapes.HeldLine(name, _said(reason), deadline)
        case Refused(name, reason, layer, fields, again):
            named = [_said(field) for field in fields[: STREAM_BOUNDS.fields]]
            return shapes.RefusedLine(name, _said(reason), layer, named, again)
        case Alerted(name, reason):
            return shapes.AlertedLine(name, _said(reason))
        case _:
            raise TypeError(f"no line for {type(message).__name__}")


def _said(reason: str) -> str:
    """The guard's own words within the bounds of a text: a long explanation is no reason to say nothing."""
    shown = "".join(c if c.isprintable() else " " for c in reason)
    return shown if len(shown) <= STREAM_BOUNDS.text_chars else shown[: STREAM_BOUNDS.text_chars - 3] + "..."


def _element(element: Element) -> shapes.ElementShape:
    """Parameters, roles and what the *host* said of the context: other sources' words are not the host's."""
    command = element.command
    roles = {name: command.role_of(name) for name in command.parameters}
    context: dict[str, Value] = {
        name: own for name, told in command.context.parts.items() if (own := _of_host(told)) is not None
    }
    return shapes.ElementShape(
        dict(command.parameters),
        {name: role for name, role in roles.items() if role is not Role.COMMANDED},
        context,
        element.auto,
    )


def _of_host(told: tuple[Told, ...]) -> Value | None:
    return next((each.value for each in told if each.source is Source.HOST), None)


def _check_finite(value: object) -> None:
    """msgspec writes NaN and the infinities as null: refuse them instead."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
    elif isinstance(value, dict):
        for each in value.values():
            _check_finite(each)
    elif isinstance(value, list):
        for each in value:
            _check_finite(each)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _check_finite(getattr(value, name))
