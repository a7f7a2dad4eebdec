"""The stream link's codec: round trip of every message, and any bytes are a message or our own error."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.codecs.stream import (
    HEARTBEAT,
    STOPS,
    Message,
    command_from_json,
    command_to_json,
    decode_gantry,
    decode_guard,
    decode_host,
    encode,
)
from scanward.commands import FIELDS, Command, Context, Device, Mode, Role, Source, Told
from scanward.commands.wire import (
    Alerted,
    Axis,
    Cancel,
    Channel,
    Declined,
    Done,
    Element,
    GantryState,
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
    Trigger,
)
from scanward.config import STREAM_BOUNDS, StreamBounds
from scanward.errors import DecodeError

DEVICE = Device("Acme", "CT 64", "SN-1", "v1")
DECODERS: tuple[Callable[[bytes], object], ...] = (decode_host, decode_gantry, decode_guard)

# --- every message there and back

_printable = string.digits + string.ascii_letters + string.punctuation + " "
ids = st.text(_printable, min_size=1, max_size=64)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
doses = st.floats(0, 1e6)
names = st.one_of(
    st.sampled_from(sorted(FIELDS)), st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True)
)
values = st.dictionaries(names, st.one_of(numbers, texts), max_size=8)
devices = st.builds(Device, texts, texts, texts.map(str.strip), texts)


@st.composite
def elements(draw: st.DrawFn) -> Element:
    parameters = draw(values)
    roles = {n: draw(st.sampled_from((Role.FORECAST, Role.PERFORMED))) for n in list(parameters)[:3]}
    context = {n: (Told(v, Source.HOST),) for n, v in draw(values).items()}
    command = Command(parameters, Context(context), DEVICE, Role.COMMANDED, roles)
    return Element(command, draw(st.booleans()))


@st.composite
def loads(draw: st.DrawFn) -> Load:
    study = draw(st.text(_printable, max_size=64).map(str.strip))
    chain = draw(st.lists(elements(), min_size=1, max_size=4))
    placed = tuple(
        Element(
            Command(
                e.command.parameters,
                e.command.context,
                DEVICE,
                Role.COMMANDED,
                e.command.roles,
                study or None,
                order=float(number),
            ),
            e.auto,
        )
        for number, e in enumerate(chain)
    )
    return Load(draw(ids), study, draw(texts).strip(), placed, draw(st.integers(1, 1000)))


whole = st.integers(0, 31)
host_messages = st.one_of(
    st.builds(Hello, devices, st.sampled_from(Channel)),
    loads(),
    st.builds(Trigger, ids, ids, whole, values),
    st.builds(Motion, ids, st.sampled_from(Axis), numbers, doses),
    st.builds(Cancel, ids, ids),
    st.builds(Stop, st.sampled_from(StopKind)),
    st.just(Heartbeat()),
)
gantry_messages = st.one_of(
    st.builds(Hello, devices, st.sampled_from(Channel)),
    st.builds(Loaded, ids, st.lists(values, max_size=4).map(tuple)),
    st.builds(Injection, st.one_of(st.just(""), ids)),
    st.builds(Started, ids, whole),
    st.builds(Done, ids, whole, st.none() | doses, st.none() | doses, st.booleans(), texts),
    st.builds(Moved, ids, numbers),
    st.builds(Stopped, st.sampled_from(StopKind)),
    st.builds(Status, st.sampled_from(GantryState), texts),
    st.builds(Declined, ids, texts),
    st.just(Heartbeat()),
)
shown = st.text(st.characters(categories=("L", "N", "P"), exclude_characters="\x85"), max_size=40)
guard_messages = st.one_of(
    gantry_messages,
    st.builds(Held, ids, shown, doses),
    st.builds(
        Refused,
        ids,
        shown,
        st.text(_printable, max_size=20),
        st.lists(shown, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Alerted, ids, shown),
)


@given(host_messages)
def test_what_a_host_says_comes_back(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_host(line, device=DEVICE) == message
    assert encode(decode_host(line[:-1], device=DEVICE)) == line  # canonical, with or without the line feed


@given(gantry_messages)
def test_what_a_gantry_says_comes_back(message: Message) -> None:
    assert decode_gantry(encode(message)) == message


@given(guard_messages)
def test_what_a_guard_says_comes_back(message: Message) -> None:
    assert decode_guard(encode(message)) == message


@given(elements(), st.sampled_from(Mode), st.none() | ids, st.none() | numbers)
def test_a_command_comes_back_from_json(
    element: Element, mode: Mode, examination: str | None, at: float | None
) -> None:
    parts = {
        "PatientAge": (Told(40.0, Source.WORKLIST), Told(41.0, Source.HOST)),
        **element.command.context.parts,
    }
    command = Command(
        element.command.parameters,
        Context(parts),
        DEVICE,
        Role.PERFORMED,
        element.command.roles,
        examination,
        at,
        3.0,
        "event",
        mode,
    )
    plain = json.loads(json.dumps(command_to_json(command), allow_nan=False))
    assert command_from_json(plain) == command


# --- what is hidden and revealed


def test_identifiers_are_hidden_on_the_way_in_and_revealed_on_the_way_out() -> None:
    said = {"1.2.3": "h1", "P9": "h2", "SN-1": "h3"}
    line = encode(Load("L", "1.2.3", "P9", (Element(Command({"KVP": 120.0})),)))
    load = decode_host(line, said.__getitem__)
    assert isinstance(load, Load)
    assert (load.examination, load.patient) == ("h1", "h2")
    assert load.chain[0].command.examination == "h1"
    assert encode(load, {v: k for k, v in said.items()}.__getitem__) == line
    hello = decode_host(encode(Hello(DEVICE)), said.__getitem__)
    assert isinstance(hello, Hello)
    assert hello.device.serial == "h3"


def test_what_other_sources_say_is_not_told_in_the_name_of_the_host() -> None:
    told = {
        "PatientAge": (Told(4.0, Source.WORKLIST), Told(40.0)),
        "PatientSex": (Told("F", Source.WORKLIST),),
    }
    line = encode(Load("L", "", "", (Element(Command({"KVP": 120.0}, Context(told))),)))
    assert json.loads(line)["chain"][0]["context"] == {"PatientAge": 40.0}


# --- what is refused

LOAD: dict[str, Any] = {"type": "load", "id": "L", "chain": [{"parameters": {"KVP": 120}}]}


def _load(**changes: Any) -> bytes:
    return json.dumps({**LOAD, **changes}).encode()


def _element(**changes: Any) -> bytes:
    return _load(chain=[{"parameters": {"KVP": 120}, **changes}])


BAD = {
    "nothing": b"",
    "blank": b" ",
    "not UTF-8": b'{"type":"cancel","id":"\xff","load":"b"}',
    "overlong UTF-8": b'{"type":"cancel","id":"\xc0\xaf","load":"b"}',
    "a lone surrogate": rb'{"type":"cancel","id":"a","load":"\ud800"}',
    "a byte order mark": b'\xef\xbb\xbf{"type":"cancel","id":"a","load":"b"}',
    "UTF-16": '{"type":"cancel","id":"a","load":"b"}'.encode("utf-16"),
    "two objects": b'{"type":"cancel","id":"a","load":"b"}{"type":"cancel","id":"a","load":"b"}',
    "half an object": b'{"type":"cancel","id":"a"',
    "a list": b"[]",
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"type":"load","chain":' + b'[{"parameters":' * 3000,
    "a number": b"12",
    "no type": b'{"id":"a"}',
    "an unknown type": b'{"type":"fire"}',
    "a type of another case": b'{"type":"Cancel","id":"a","load":"b"}',
    "the type twice": b'{"type":"cancel","id":"a","load":"b","type":"cancel"}',
    "a key twice": b'{"type":"cancel","id":"a","id":"a","load":"b"}',
    "a key twice, once escaped": rb'{"type":"cancel","id":"a","\u0069d":"b","load":"b"}',
    "a parameter twice": b'{"type":"load","id":"L","chain":[{"parameters":{"KVP":80,"KVP":140}}]}',
    "an unknown key": b'{"type":"cancel","id":"a","load":"b","force":true}',
    "an unknown key inside": _element(force=True),
    "NaN": b'{"type":"motion","id":"a","axis":"table_z","target":NaN,"speed":1}',
    "Infinity": b'{"type":"motion","id":"a","axis":"table_z","target":-Infinity,"speed":1}',
    "a number beyond all": b'{"type":"motion","id":"a","axis":"table_z","target":1e999,"speed":1}',
    "an integer beyond all": b'{"type":"motion","id":"a","axis":"table_z","target":'
    + b"9" * 5000
    + b',"speed":1}',
    "a negative speed": b'{"type":"motion","id":"a","axis":"table_z","target":1,"speed":-1}',
    "an unknown axis": b'{"type":"motion","id":"a","axis":"sideways","target":1,"speed":1}',
    "a text for a number": b'{"type":"trigger","id":"a","load":"b","element":"0"}',
    "true for a number": b'{"type":"trigger","id":"a","load":"b","element":true}',
    "a fraction for a count": b'{"type":"trigger","id":"a","load":"b","element":0.5}',
    "a negative element": b'{"type":"trigger","id":"a","load":"b","element":-1}',
    "an element beyond the chain": b'{"type":"trigger","id":"a","load":"b","element":32}',
    "null for a parameter": _element(parameters={"KVP": None}),
    "true for a parameter": _element(parameters={"KVP": True}),
    "a list for a parameter": _element(parameters={"KVP": [120]}),
    "a strange name": _element(parameters={"KVP ": 120}),
    "an endless name": _element(parameters={"K" * 65: 120}),
    "an endless text": _element(parameters={"FilterType": "x" * 1025}),
    "a control character": _element(parameters={"FilterType": "a\u001bb"}),
    "a line separator": _element(parameters={"FilterType": "a\u2028b"}),
    "a role of nothing": _element(roles={"DLP": "forecast"}),
    "an unknown role": _element(roles={"KVP": "wished"}),
    "no element": _load(chain=[]),
    "too many elements": _load(chain=LOAD["chain"] * 33),
    "too many fields": _element(parameters={f"F{n}": 1.0 for n in range(129)}),
    "no id": _load(id=""),
    "an endless id": _load(id="x" * 65),
    "an id beyond ASCII": _load(id="ä"),
    "no triggers": _load(triggers=0),
    "too many triggers": _load(triggers=1001),
    "auto as a number": _element(auto=1),
    "another protocol": b'{"type":"hello","protocol":2,"channel":"stop","device":{}}',
    "protocol true": b'{"type":"hello","protocol":true,"channel":"stop","device":{}}',
    "another channel": b'{"type":"hello","protocol":1,"channel":"all","device":{}}',
    "no device": b'{"type":"hello","protocol":1,"channel":"stop"}',
    "a stop with a space": b'{"type":"stop" }',
    "a stop spelled out": b'{"type":"stop","what":"all"}',
    "a stop with more": b'{"type":"stop","what":"beam","after":5}',
    "a stop of nothing": b'{"type":"stop","what":"alarm"}',
    "a heartbeat with more": b'{"type":"heartbeat","n":1}',
    "a carriage return after a stop": b'{"type":"stop"}\r\n',
    "what a gantry says": b'{"type":"started","load":"a","element":0}',
    "what a guard says": b'{"type":"alerted","id":"a","reason":"b"}',
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_host_may_not_say(line: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_host(line)
    assert caught.value.what
    assert caught.value.todo


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"load","id":"L","chain":[{"parameters":{"KVP":120}}]}',
        b'{"type":"stop"}',
        b'{"type":"stopped","what":"alarm"}',
        b'{"type":"status","state":"asleep"}',
        b'{"type":"done","load":"a","element":0,"CTDIvol":-1}',
        b'{"type":"done","load":"a","element":0,"CTDIvol":1,"CTDIvol":2}',
        b'{"type":"loaded","load":"a","chain":[{"KVP":[]}]}',
        b'{"type":"refused","id":"a","reason":"b"}',
    ],
)
def test_a_gantry_may_not_say(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_gantry(line)


def test_the_longest_line_passes_and_one_byte_more_does_not() -> None:
    bounds = StreamBounds(line_bytes=200)
    line = encode(Cancel("a" * 64, "b" * 64))
    padded = line[:-2] + b" " * (200 - len(line)) + b"}\n"
    assert len(padded) == 200
    assert decode_host(padded, bounds=bounds) == Cancel("a" * 64, "b" * 64)
    with pytest.raises(DecodeError, match="more than 200 bytes"):
        decode_host(b" " + padded, bounds=bounds)


def test_the_closed_list_of_stops_is_exact_lines() -> None:
    assert {decode_host(line) for line in STOPS} == {Stop(kind) for kind in StopKind}
    for line, stop in STOPS.items():
        assert encode(stop) == line + b"\n"
    assert decode_gantry(HEARTBEAT) == decode_host(HEARTBEAT + b"\n") == Heartbeat()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_no_line_can_hold_is_not_written(value: float) -> None:
    with pytest.raises(DecodeError):
        encode(Motion("a", Axis.TABLE_Z, value, 1.0))
    with pytest.raises(DecodeError):
        encode(Load("a", "", "", (Element(Command({"KVP": value})),)))
    with pytest.raises(DecodeError):
        command_from_json({"parameters": {"KVP": value}, "role": "commanded"})


def test_a_chain_too_long_for_a_line_is_not_written() -> None:
    command = Command({f"Field{n}": "x" * 1000 for n in range(100)})
    with pytest.raises(DecodeError, match="bytes"):
        encode(Load("a", "", "", (Element(command),)))


def test_a_long_reason_is_cut_and_cleaned_not_lost() -> None:
    said = decode_guard(encode(Refused("a", "x\x1b[31m" + "y" * 5000)))
    assert isinstance(said, Refused)
    assert len(said.reason) == STREAM_BOUNDS.text_chars
    assert "\x1b" not in said.reason
    assert said.reason.endswith("...")


# --- anything at all


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_our_error(data: bytes) -> None:
    for decoder in DECODERS:
        _survives(decoder, data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(host_messages | guard_messages, st.data())
def test_a_message_with_one_thing_changed_is_a_message_or_our_error(
    message: Message, data: st.DataObject
) -> None:
    line = encode(message)
    said = json.loads(line)
    key = data.draw(st.sampled_from(sorted(said)) | st.text(max_size=8))
    changed = json.dumps({**said, key: data.draw(_json)}).encode()
    at = data.draw(st.integers(0, len(line) - 1))
    flipped = line[:at] + bytes([line[at] ^ data.draw(st.integers(1, 255))]) + line[at + 1 :]
    for decoder in DECODERS:
        _survives(decoder, changed)
        _survives(decoder, flipped)
        _survives(decoder, line[:at])


def _survives(decoder: Callable[[bytes], object], data: bytes) -> None:
    """A message that can be written again and then reads the same, or DecodeError; never anything else."""
    try:
        message = decoder(data)
    except DecodeError:
        return
    again = encode(message)  # type: ignore[arg-type]
    assert decoder(again) == message


@given(st.dictionaries(st.text(max_size=12), _json, max_size=6))
def test_any_json_is_a_command_or_our_error(data: dict[str, Any]) -> None:
    try:
        command = command_from_json(data)
    except DecodeError:
        return
    assert command_from_json(command_to_json(command)) == command
