"""Patterns of process data: which bytes of a frame are fixed, and which are a value. Compiled once, matched often.

A pattern is a list of words, each standing for one byte or more, in order:

    "01"            this byte and no other
    "element:u8"    a value with a name, of a type (u8 ... u64, i8 ... i64, f32, f64)
    "@2012:01"      the value of an object dictionary entry, of the type that the data sheet gives it
    "*"             any byte (only where frames of the gantry are looked at)

So every byte of a frame that is passed towards the gantry is either fixed or known by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scanward.codecs.canopen_eds import Eds
from scanward.codecs.canopen_sdo import Address
from scanward.codecs.canopen_types import SHORT_NAMES, DataType, Raw, decode_raw, encode_raw, size_of
from scanward.errors import SettingsError
from scanward.transport.can_frames import CLASSICAL_BYTES

_ADDRESS = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slot:
    """One value in a frame: ``name`` is that of the word, or the address of the entry as text."""

    offset: int
    size: int
    kind: DataType
    name: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a frame must look like.

    Attributes
    ----------
    mask, fixed : int
        The fixed bytes as one little-endian number, and which bits of it count.
    """

    length: int
    mask: int
    fixed: int
    slots: tuple[Slot, ...]

    def matches(self, data: bytes) -> bool:
        """Length and fixed bytes agree. The values are not looked at."""
        return len(data) == self.length and int.from_bytes(data, "little") & self.mask == self.fixed

    def values(self, data: bytes) -> dict[str, Raw]:
        """The named values of a frame that matches; DecodeError when one is no value of its type."""
        return {s.name: decode_raw(s.kind, data[s.offset : s.offset + s.size]) for s in self.slots}

    def entries(self, data: bytes) -> dict[Address, bytes]:
        """The bytes of the object dictionary entries in a frame that matches."""
        return {s.address: data[s.offset : s.offset + s.size] for s in self.slots if s.address is not None}

    def fill(self, values: Mapping[str, Raw]) -> bytes:
        """A frame with these values: what a sender does; DecodeError when a type cannot hold one."""
        data = bytearray(self.fixed.to_bytes(self.length, "little"))
        for slot in self.slots:
            data[slot.offset : slot.offset + slot.size] = encode_raw(slot.kind, values[slot.name])
        return bytes(data)


def address_of(text: object, where: str) -> Address:
    """``"2012:01"`` as an address; SettingsError otherwise."""
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise SettingsError(f"{text!r} is no address", where, 'write index and sub-index: "2012:01"')
    return int(found[1], 16), int(found[2], 16)


def compile_pattern(
    words: object, eds: Eds, where: str, names: frozenset[str], loose: bool = False
) -> Pattern:
    """The pattern that ``words`` spell; SettingsError otherwise.

    Parameters
    ----------
    names : frozenset of str
        Which names a value may have here.
    loose : bool
        Whether a byte may be anything.
    """
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise SettingsError("a pattern is a list of words", where, 'such as ["01", "element:u8"]')
    offset = mask = fixed = 0
    slots: list[Slot] = []
    for word in words:
        if re.fullmatch(r"[0-9A-Fa-f]{2}", word, re.ASCII):
            mask |= 0xFF << 8 * offset
            fixed |= int(word, 16) << 8 * offset
            offset += 1
        elif word == "*" and loose:
            offset += 1
        else:
            slots.append(_slot(word, eds, where, names, offset))
            offset += slots[-1].size
    if offset > CLASSICAL_BYTES:
        raise SettingsError(f"a pattern of {offset} bytes", where, f"a frame has {CLASSICAL_BYTES}")
    if len({slot.name for slot in slots}) < len(slots):
        raise SettingsError("a value is there twice", where, "name each value once")
    return Pattern(offset, mask, fixed, tuple(slots))


def _slot(word: str, eds: Eds, where: str, names: frozenset[str], offset: int) -> Slot:
    if word.startswith("@"):
        address = address_of(word[1:], where)
        entry = eds.entries.get(address)
        size = size_of(entry.kind) if entry else None
        if entry is None or size is None:
            raise SettingsError(
                f"{word}: no entry of a fixed length", where, "name an entry of the data sheet"
            )
        return Slot(offset, size, entry.kind, word[1:].upper(), address)
    name, _, kind = word.partition(":")
    if name not in names or kind not in SHORT_NAMES:
        allowed = ", ".join(sorted(names)) or "none"
        raise SettingsError(
            f"{word!r} is no word of a pattern",
            where,
            f'write "01" or NAME:u8 ... f64 with a name of: {allowed}',
        )
    size = size_of(SHORT_NAMES[kind])
    assert size is not None
    return Slot(offset, size, SHORT_NAMES[kind], name)
