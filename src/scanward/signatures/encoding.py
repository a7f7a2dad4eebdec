"""The bytes that a signature is over (PS3.3 C.12.1.1.3.1.1, and as DCMTK's dcmsign feeds them to its MAC).

Of each element signed, in the order of tags: tag, VR, reserved bytes where the VR has them, length, value. Of a
sequence tag, VR and reserved bytes without a length, of each item its tag alone and then its elements, at the end the
tag of the sequence delimiter; of encapsulated pixels the same with fragments for items. Then, of the signature's own
item, everything but certificate, signature and timestamp. So how long sequences, items and fragments are said to be is
not signed, nor is how a file wraps the data set.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from scanward.signatures.elements import LONG, SHORT, Element, Parsed, either_sign

MAC_PARAMETERS: Final = 0x4FFE0001
DIGITAL_SIGNATURES: Final = 0xFFFAFFFA
PADDING: Final = 0xFFFCFFFC
PIXEL_REPRESENTATION: Final = 0x00280103
LENGTH_TO_END: Final = 0x00080001
# Of the signature's item: certificate of signer, signature, certified timestamp type, certified timestamp.
NOT_OF_THE_ITEM: Final = frozenset({0x04000115, 0x04000120, 0x04000305, 0x04000310})
_NEVER: Final = frozenset({MAC_PARAMETERS, DIGITAL_SIGNATURES, PADDING, LENGTH_TO_END})
_LITTLE: Final = {"item": b"\xfe\xff\x00\xe0", "end": b"\xfe\xff\xdd\xe0"}
_BIG: Final = {"item": b"\xff\xfe\xe0\x00", "end": b"\xff\xfe\xe0\xdd"}
# Bytes of a unit, for those VRs that have a byte order.
_UNIT: Final = {
    b"AT": 2, b"SS": 2, b"US": 2, b"OW": 2, b"SL": 4, b"UL": 4, b"FL": 4, b"OF": 4, b"OL": 4, b"FD": 8, b"OD": 8,
    b"OV": 8, b"SV": 8, b"UV": 8,
}  # fmt: skip


def signable(element: Element) -> bool:
    """Whether an element may be signed: no group length, no signature, no VR UN (nor what is too long for its VR).

    A sequence may be when no element inside, at any depth, is of VR UN.
    """
    return may_be(element.tag) and not _unknown(element)


def may_be(tag: int) -> bool:
    """The same by the tag alone."""
    group = tag >> 16
    return tag not in _NEVER and tag & 0xFFFF != 0 and group not in (0x0000, 0x0001, 0x0002, 0xFFFA, 0xFFFE)


def _unknown(element: Element) -> bool:
    if element.items is not None and element.vr != b"UN":
        return any(_unknown(one) for item in element.items for one in item.elements)
    too_long = element.vr in SHORT and element.value_end - element.value > 0xFFFF
    return element.vr == b"UN" or too_long


def stream(
    parsed: Parsed,
    elements: Sequence[Element],
    little: bool = True,
    other_vr: Collection[int] = (),
    negative: bool | None = None,
) -> Iterator[bytes | memoryview]:
    """The bytes of these elements.

    In implicit VR ``other_vr`` are tags of pixels that are taken as OB for once, and ``negative`` says whether numbers
    that have either sign are all SS or all US; None: as Pixel Representation has it, which is what they are.
    """
    coder = _Coder(parsed, little, frozenset(other_vr), negative)
    if coder.as_it_is:
        yield from coder.slices(elements)
    else:
        signed = is_signed(parsed, elements, is_signed(parsed, parsed.elements))
        for one in elements:
            yield from coder.element(one, signed)


def is_signed(parsed: Parsed, elements: Sequence[Element], otherwise: bool = False) -> bool:
    """What Pixel Representation says at this level. Without one numbers are US, in items too, as DCMTK takes them."""
    own = next((one for one in elements if one.tag == PIXEL_REPRESENTATION), None)
    if own is None or own.value_end - own.value != 2:
        return otherwise
    return any(parsed.data[own.value : own.value_end])


class _Coder:
    def __init__(self, parsed: Parsed, little: bool, other_vr: frozenset[int], negative: bool | None) -> None:
        self._parsed, self._data, self._from_little = parsed, parsed.data, parsed.syntax.little
        self._little, self._other, self._negative = little, other_vr, negative
        self._marks = _LITTLE if little else _BIG
        self._order = "<" if little else ">"
        # Explicit little endian is what is signed as a rule: plain elements are slices of the file.
        self.as_it_is = parsed.syntax.explicit and parsed.syntax.little == little

    def slices(self, elements: Sequence[Element]) -> Iterator[bytes | memoryview]:
        """Neighbours that need no change go as one slice."""
        data, start, end = self._data, -1, -1
        for one in elements:
            if one.items is None and one.fragments is None:
                if one.start == end:
                    end = one.end
                    continue
                if end > start:
                    yield data[start:end]
                start, end = one.start, one.end
                continue
            if end > start:
                yield data[start:end]
            start = end = -1
            yield data[one.start : one.start + 8]  # tag, VR, reserved bytes
            if one.fragments is not None:
                yield from self._fragments(one)
                continue
            for item in one.items or ():
                yield self._marks["item"]
                yield from self.slices(_kept(item.elements))
            yield self._marks["end"]
        if end > start:
            yield data[start:end]

    def _fragments(self, one: Element) -> Iterator[bytes | memoryview]:
        for start, end in one.fragments or ():
            yield self._marks["item"]
            yield self._data[start:end]
        yield self._marks["end"]

    def element(self, one: Element, signed: bool) -> Iterator[bytes | memoryview]:
        """``signed``: what Pixel Representation says here."""
        vr = self._vr(one, signed)
        head = struct.pack(self._order + "HH", one.tag >> 16, one.tag & 0xFFFF) + vr
        if one.items is not None or one.fragments is not None:
            yield head + b"\0\0"
            if one.fragments is not None:
                yield from self._fragments(one)
                return
            for item in one.items or ():
                yield self._marks["item"]
                here = is_signed(self._parsed, item.elements)
                for inner in _kept(item.elements):
                    yield from self.element(inner, here)
            yield self._marks["end"]
            return
        length = one.value_end - one.value
        yield head + (
            b"\0\0" + struct.pack(self._order + "I", length)
            if vr in LONG
            else struct.pack(self._order + "H", length & 0xFFFF)
        )
        yield self._value(vr, one)

    def _vr(self, one: Element, signed: bool) -> bytes:
        if one.tag in self._other:
            return b"OB"
        if not self._parsed.syntax.explicit and either_sign(one.tag):
            return b"SS" if (signed if self._negative is None else self._negative) else b"US"
        return one.vr

    def _value(self, vr: bytes, one: Element) -> bytes | memoryview:
        raw = self._data[one.value : one.value_end]
        unit = _UNIT.get(vr, 1)
        if unit == 1 or self._little == self._from_little or len(raw) % unit:
            return raw
        swapped = bytearray(len(raw))
        for k in range(unit):
            swapped[k::unit] = raw[unit - 1 - k :: unit]
        return bytes(swapped)


def _kept(elements: Sequence[Element]) -> Sequence[Element]:
    """Elements inside items are signed with their sequence, but for what is never signed."""
    if all(may_be(one.tag) for one in elements):
        return elements
    return [one for one in elements if may_be(one.tag)]
