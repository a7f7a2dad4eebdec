"""Data sheets, data types and profiles: read as canopen reads them, and refused with place and cure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _can import EXAMPLES, profile, sheet
from scanward.codecs.canopen_eds import read_eds
from scanward.codecs.canopen_profile import FrameClass
from scanward.codecs.canopen_profile_toml import load_profile, read_profile
from scanward.codecs.canopen_types import SHAPES, DataType, decode_raw, encode_raw
from scanward.commands.fields import FIELDS
from scanward.commands.wire import StopKind
from scanward.errors import DecodeError, InputError, SettingsError
from scanward.transport.can_frames import CanFrame, frame_of

canopen = pytest.importorskip("canopen", reason="the extra 'can' is not installed")
TOML = (EXAMPLES / "emulated-ct.toml").read_text("utf-8")


# --- types


@pytest.mark.parametrize("kind", [kind for kind, shape in SHAPES.items() if shape.size])
@settings(max_examples=40)
@given(data=st.binary(min_size=8, max_size=8))
def test_numbers_are_read_as_canopen_reads_them(kind: DataType, data: bytes) -> None:
    own = data[: SHAPES[kind].size]
    variable = canopen.objectdictionary.ODVariable("x", 0x2000)
    variable.data_type = kind
    try:
        found = decode_raw(kind, own)
    except DecodeError:
        theirs = variable.decode_raw(own)
        assert kind is DataType.BOOLEAN or theirs != theirs or theirs in (float("inf"), -float("inf"))
        return
    assert found == variable.decode_raw(own)
    assert encode_raw(kind, found) == own == variable.encode_raw(found)


@pytest.mark.parametrize("kind", list(DataType))
@settings(max_examples=30)
@given(data=st.binary(max_size=12))
def test_any_bytes_are_a_value_or_our_error(kind: DataType, data: bytes) -> None:
    try:
        found = decode_raw(kind, data)
    except DecodeError:
        return
    assert encode_raw(kind, found).rstrip(b"\0") == data.rstrip(b"\0")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DataType.UNSIGNED8, 256),
        (DataType.UNSIGNED8, -1),
        (DataType.INTEGER16, 1.5),
        (DataType.UNSIGNED16, "1"),
        (DataType.VISIBLE_STRING, 1),
        (DataType.VISIBLE_STRING, "é"),
        (DataType.REAL32, 1e300),
        (DataType.DOMAIN, 1),
        (DataType.BOOLEAN, 2),
    ],
)
def test_what_a_type_cannot_hold_is_refused(kind: DataType, value: Any) -> None:
    with pytest.raises(DecodeError):
        encode_raw(kind, value)


# --- data sheets


def test_the_example_is_read_as_canopen_reads_it() -> None:
    od = canopen.import_od(str(EXAMPLES / "emulated-ct.eds"), 1)
    entries = read_eds(sheet(), 1).entries
    theirs = {
        (index, sub): variable
        for index, entry in od.items()
        for sub, variable in (
            {0: entry} if isinstance(entry, canopen.objectdictionary.ODVariable) else entry.subindices
        ).items()
    }
    assert entries.keys() == theirs.keys()
    for address, entry in entries.items():
        variable = theirs[address]
        assert (entry.kind, entry.name) == (variable.data_type, variable.name), address
        assert (entry.readable, entry.writable) == (variable.readable, variable.writable), address
        assert (entry.low, entry.high) == (variable.min, variable.max), address


COMPACT = """
[DeviceInfo]
VendorNumber=0x10
[2000]
ParameterName=Many
ObjectType=0x8
CompactSubObj=3
DataType=0x0003
AccessType=rw
LowLimit=0xFFFF
HighLimit=$NODEID+1
[2001]
ParameterName=Odd
DataType=0x0042
AccessType=ro
"""


def test_compact_arrays_limits_and_unknown_types() -> None:
    eds = read_eds(COMPACT, 4)
    assert eds.vendor == 0x10
    assert {a: e.kind for a, e in eds.entries.items()} == {
        (0x2000, 0): DataType.UNSIGNED8,
        **{(0x2000, n): DataType.INTEGER16 for n in (1, 2, 3)},
        (0x2001, 0): DataType.DOMAIN,
    }
    assert (eds.entries[0x2000, 2].low, eds.entries[0x2000, 2].high) == (-1, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no section",
        "[2000]\nDataType=5\n[2000]\nDataType=5",
        "[2000]\nAccessType=rw",
        "[2000]\nDataType=five\nAccessType=rw",
        "[2000]\nDataType=5\nAccessType=maybe",
        "[2000]\nObjectType=8\nCompactSubObj=255\nDataType=5\nAccessType=rw",
        "[2000]\nObjectType=8\nCompactSubObj=1\nDataType=5\nAccessType=rw\n[2000sub1]\nDataType=5\nAccessType=rw",
    ],
)
def test_a_broken_data_sheet_is_our_error(text: str) -> None:
    with pytest.raises(DecodeError) as raised:
        read_eds(text, 1)
    assert raised.value.what
    assert raised.value.todo


@given(st.text(max_size=200))
def test_any_text_is_a_data_sheet_or_our_error(text: str) -> None:
    try:
        read_eds(text, 1)
    except DecodeError:
        return
    assert "[" in text


# --- the profile


def test_the_example_says_what_everything_is() -> None:
    made = profile()
    assert made.passes_at_once(frame_of("080#")).kind is FrameClass.HOUSEKEEPING
    assert made.passes_at_once(frame_of("701#R1")).kind is FrameClass.HOUSEKEEPING
    assert made.passes_at_once(frame_of("77F#05")).kind is FrameClass.HOUSEKEEPING
    assert made.passes_at_once(frame_of("201#0200")).stop is StopKind.ALL
    assert made.pattern_of(frame_of("201#0101")).kind is FrameClass.TRIGGER
    for text in (
        "080#01",
        "201#02",
        "201#020000",
        "000#8101",
        "701#R2",
        "77F#06",
        "100#000000000000",
        "00000201#0200",
    ):
        frame = frame_of(text)
        assert made.passes_at_once(frame) is None, text
        assert made.pattern_of(frame) is None, text
    assert not any(0x1000 <= index < 0x2000 for index, _ in made.objects)
    assert len(made.chain.fields) == 8
    assert {part.name for part in made.chain.fields[0]} <= set(FIELDS)


def test_every_field_survives_the_wire() -> None:
    """What the profile can spell at all, it reads back as the same number."""
    for part in (*profile().chain.fields[7], *profile().chain.shared):
        field = FIELDS[part.name]
        told: list[Any] = list(part.names.values()) or ["Text"]
        if field.kind.value == "number":
            top = float(part.scale.value(1000))
            told = [part.scale.value(raw) for raw in (0, 1, 969, 32_000)] + [top]
        for value in told:
            assert part.value(part.data(value)) == value, part.name
        assert part.value(part.data(None)) is None, part.name


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in TOML, old
    return TOML.replace(old, new, count)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no profile"),
        ("[profile", "not TOML"),
        (changed("version = 1", "version = 0"), "version"),
        (changed("node = 1 ", "node = 128 "), "node"),
        (changed('sync = "plain"', 'sync = "often"'), "sync"),
        (changed("version = 1", 'version = 1\ncolour = "x"'), "unknown key"),
        (changed('kind = "scanward.can-profile"', ""), "no kind"),
        (changed('eds_sha256 = "', 'eds_sha256 = "0'), "is not that of the data sheet"),
        (changed("[identity]", "[more]\na = 1\n[identity]"), "unknown key"),
        (changed("vendor = 0x5CA1", ""), "no vendor and product"),
        (changed('at = "2011:01"', 'at = "2099:01"'), "no entry 2099h:01"),
        (changed('at = "2011:01"', 'at = "2011"'), "is no address"),
        (changed('at = "2011:01"', 'at = "2012:01"'), "is two things at once"),
        (changed('name = "KVP"', 'name = "KV"'), "is no known field"),
        (changed('unit = "kV"', 'unit = "V"'), "KVP in V"),
        (changed('unit = "kV"', ""), "KVP in no unit"),
        (changed('scale = "0.1"', 'scale = "0"'), "scale is 0"),
        (changed('scale = "0.1"', 'scale = "a"'), "scale"),
        (changed('name = "KVP"', 'name = "KVP"\nrole = "guessed"'), "role"),
        (changed('names = { 1 = "SPIRAL", 2 = "SEQUENCED"', 'names = { 1 = "SPIRAL", 2 = "SPIRAL"'), "names"),
        (changed('at = "2042:01"\nshared = true', 'at = "2042:01"\nshared = 1'), "shared"),
        (changed("inert = true              # nothing", "# nothing"), "no inert"),
        (changed('object = "2F00:01"', 'object = "1010:01"'), "never written"),
        (changed('object = "2F00:01"', 'object = "1400:01"'), "never written"),
        (changed('object = "2F00:02"', 'object = "1F50:01"'), "never written"),
        (changed('object = "2F00:01"', 'object = "2F00:03"'), "no writable entry"),
        (changed('object = "2F00:01"', 'object = "2010:01"'), "two things at once"),
        (changed("pdo = 0x201", "pdo = 0x000"), "pdo"),
        (changed("pdo = 0x201", "pdo = 0x601"), "pdo"),
        (changed('["01", "element:u8"]', '["01"]'), "trigger of no element"),
        (changed('["01", "element:u8"]', '["01", "element:u128"]'), "no word of a pattern"),
        (changed('["01", "element:u8"]', '["01", "*"]'), "no word of a pattern"),
        (changed('["01", "element:u8"]', '["01", "element:u8", "@2012:01"]'), "writes an entry as well"),
        (changed('["01", "element:u8"]', '["element:u64", "01"]'), "9 bytes"),
        (changed('pattern = ["01", "element:u8"]', 'pattern = ["element:u8", "element:u8"]'), "twice"),
        (changed('frame = "201#0200"', 'frame = "201#0101"'), "also fits a pattern"),
        (changed('frame = "000#0201"', 'frame = "000#8101"'), "resets"),
        (changed('frame = "000#0201"', 'frame = "00000000#0201"'), "extended"),
        (changed('frame = "000#0201"', 'frame = "000#02xx"'), "not a CAN frame"),
        (changed('frame = "000#0101"', 'frame = "000#8001"'), "of NMT only start"),
        (changed('frame = "000#0101"', 'frame = "601#4000100000000000"'), "no housekeeping"),
        (changed('frame = "000#0101"', 'frame = "7E5#0400000000000000"'), "no housekeeping"),
        (changed('frame = "601#2F022F0001000000"', 'frame = "601#21022F0004000000"'), "no whole SDO write"),
        (TOML.replace("send = true", "send = false"), "no stop that the guard can send"),
        (changed('says = "aborted"', 'says = "done"'), "nothing tells aborted"),
        (changed('speed = "2F10:04"', 'speed = "2F10:01"'), "is no inert parameter"),
        (changed('speed = "2F10:04"', ""), "no speed"),
        (changed('pattern = ["@2012:01", "@2012:02"]', 'pattern = ["@2F10:01"]'), "is no inert parameter"),
        (
            changed('pattern = ["@2012:01", "@2012:02"]', 'pattern = ["@2040:01"]'),
            "no entry of a fixed length",
        ),
        (changed('eds = "emulated-ct.eds"', ""), "no eds"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_profile(text, sheet())
    error = raised.value
    assert says in f"{error.what} {error.todo}", str(error)
    assert error.where
    assert error.todo


def test_two_patterns_that_fit_one_frame_are_refused() -> None:
    more = '\n[[motion]]\npdo = 0x201\naxis = "table_z"\npattern = ["01", "target:u8"]\nspeed = 1\n'
    with pytest.raises(SettingsError, match="two patterns"):
        read_profile(TOML + more, sheet())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")
    (tmp_path / "p.toml").write_text(TOML)
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text(TOML.replace("emulated-ct.eds", "../emulated-ct.eds"))
    with pytest.raises(SettingsError, match="no data sheet"):
        load_profile(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_profile(tmp_path / "p.toml")


def test_the_digest_follows_every_byte() -> None:
    assert read_profile(TOML, sheet()).digest == profile().digest
    assert read_profile(TOML + "#", sheet()).digest != profile().digest
    unbound = re.sub("eds_sha256 = .*", "", TOML)
    assert read_profile(unbound, sheet() + "\n").digest != read_profile(unbound, sheet()).digest
    with pytest.raises(SettingsError, match="not that of the data sheet"):
        read_profile(TOML, sheet() + "\n")


# --- frames as text


@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.booleans(), st.integers(0, 8))
def test_a_frame_is_its_text(number: int, data: bytes, remote: bool, dlc: int) -> None:
    frame = CanFrame(number, b"" if remote else data, remote, dlc=dlc if remote else 0)
    assert frame_of(str(frame)) == frame
    wide = frame._replace(id=number << 18 | 5, extended=True)
    assert frame_of(str(wide)) == wide


@pytest.mark.parametrize(
    "text", ["", "201", "20#01", "2011#01", "801#00", "201#0", "201#" + "00" * 9, "201#R9", "201##1"]
)
def test_what_is_no_frame_is_our_error(text: str) -> None:
    with pytest.raises(DecodeError):
        frame_of(text)


def test_no_stop_of_the_example_is_anything_else() -> None:
    """The closed list, read from the file as text: nothing adds to it unseen."""
    listed = re.findall(r'\[\[stop\]\]\nframe = "([^"]+)"', TOML)
    stops = {str(CanFrame(*key)) for key, rule in profile().exact.items() if rule.kind is FrameClass.STOP}
    assert stops == set(listed)
