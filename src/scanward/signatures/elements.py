"""Where each element of a DICOM file lies: read strictly, nothing decoded, nothing copied (PS3.5 section 7, PS3.10).

A signature is over bytes, so nobody here makes values of them. What the standard forbids is an error and no remark:
tags out of order or twice, odd lengths, bytes left over. A reader that forgives shows one file where a verifier saw
another.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn

from pydicom.datadict import dictionary_VR

from scanward.config import SIGNATURE_BOUNDS, SignatureBounds
from scanward.errors import DecodeError

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
_NATIVE: Final = {IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG}

ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010
UNDEFINED: Final = 0xFFFFFFFF
# Lengths that in the bytes signed read as the tag of an item or of a sequence's end: plain pixels of some 3.7 GB that
# begin as compressed ones are signed.
_MARK_LENGTHS: Final = frozenset({0xE000FFFE, 0xE0DDFFFE, 0xFFFEE000, 0xFFFEE0DD})
# Groups that no data set has (PS3.5 section 7.8.1).
_FORBIDDEN: Final = frozenset({0x0000, 0x0001, 0x0003, 0x0005, 0x0007, 0xFFFE, 0xFFFF})
LONG: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT: Final = frozenset(
    {
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
        b"ST", b"TM", b"UI", b"UL", b"US",
    }
)  # fmt: skip
_META_UIDS: Final = frozenset({0x00020002, 0x00020003, 0x00020010})  # class, instance, transfer syntax
_MEND: Final = "send it again from where it was made; do not use it"


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a data set is written: its transfer syntax."""

    uid: str
    explicit: bool
    little: bool
    deflated: bool
    encapsulated: bool

    @classmethod
    def of(cls, uid: str) -> Syntax:
        """What PS3.5 annex A says of it; every syntax that is not native is explicit, little endian, encapsulated."""
        native = uid in _NATIVE
        return cls(uid, uid != IMPLICIT_LITTLE, uid != EXPLICIT_BIG, uid == DEFLATED, not native)


@dataclass(frozen=True, slots=True)
class Element:
    """One element: data[start:end], its value data[value:value_end]; items of a sequence, fragments of pixels."""

    tag: int
    vr: bytes
    start: int
    value: int
    value_end: int
    end: int
    items: tuple[Item, ...] | None = None
    fragments: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a sequence: data[start:end] with its tag and length, its elements in between."""

    start: int
    value: int
    value_end: int
    end: int
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file. ``data``: the data set's bytes, inflated where the syntax is deflated; ``offset``: where they begin."""

    file: memoryview = field(repr=False)
    offset: int
    data: memoryview = field(repr=False)
    syntax: Syntax
    meta: dict[int, bytes] = field(repr=False)
    elements: tuple[Element, ...] = field(repr=False)

    def find(self, tag: int) -> Element | None:
        """The element of the main data set with this tag."""
        return find(self.elements, tag)

    def text(self, element: Element | None) -> str:
        """A value as text without its padding; "" where there is none."""
        if element is None:
            return ""
        return bytes(self.data[element.value : element.value_end]).decode("latin-1").strip("\0 ")


def find(elements: tuple[Element, ...], tag: int) -> Element | None:
    """The element with this tag among those of one level."""
    return next((one for one in elements if one.tag == tag), None)


def named(tag: int) -> str:
    """As the standard writes a tag: (gggg,eeee)."""
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"


def parse(file: bytes | memoryview, bounds: SignatureBounds = SIGNATURE_BOUNDS) -> Parsed:
    """Read a whole file of PS3.10.

    Raises
    ------
    DecodeError
        When it is no DICOM file, or breaks a rule of the standard anywhere.
    """
    whole = memoryview(file).toreadonly()
    if len(whole) > bounds.file_bytes:
        raise DecodeError(f"more than {bounds.file_bytes} bytes", "file", "this is no file for signatures")
    if len(whole) < 132 or bytes(whole[128:132]) != b"DICM":
        raise DecodeError("no DICOM file: DICM is missing", "preamble", "give a file of DICOM part 10")
    meta, offset = _meta(whole, bounds)
    uid = meta.get(0x00020010, b"").decode("latin-1").rstrip("\0 ")  # readers differ over blanks before it
    if not uid or not all(c in "0123456789." for c in uid):
        raise DecodeError("the transfer syntax is missing", "file meta information", _MEND)
    syntax = Syntax.of(uid)
    data = _inflated(whole[offset:], bounds) if syntax.deflated else whole[offset:]
    walker = _Walker(data, syntax.explicit, syntax.little, syntax.encapsulated, bounds)
    if not syntax.explicit and len(data) > 5 and all(0x40 < byte < 0x5B for byte in data[4:6]):
        # Readers that guess (pydicom, DCMTK) would take it for explicit VR, and see another data set.
        walker.wrong("implicit VR that begins as explicit VR does", 4)
    elements, end = walker.elements(0, len(data), 0)
    if end != len(data):
        walker.wrong("bytes that belong to nothing", end)
    return Parsed(whole, offset, data, syntax, meta, elements)


def _meta(whole: memoryview, bounds: SignatureBounds) -> tuple[dict[int, bytes], int]:
    """File Meta Information: always explicit little endian, of group 2 alone, as long as its group length says."""
    walker = _Walker(whole, True, True, False, bounds)
    first = walker.element(132, len(whole), 0)
    if first.tag != 0x00020000 or first.vr != b"UL" or first.value_end - first.value != 4:
        walker.wrong("no group length", 132)
    end = first.end + int(struct.unpack_from("<I", whole, first.value)[0])
    if end > len(whole):
        walker.wrong("a group that is longer than the file", 132)
    found: dict[int, bytes] = {}
    before, at = first.tag, first.end
    while at < end:
        one = walker.element(at, end, 0)
        if one.tag >> 16 != 2 or one.tag <= before or one.items is not None:
            walker.wrong(f"{named(one.tag)} in the file meta information", at)
        if one.tag in _META_UIDS and one.vr != b"UI":
            walker.wrong(f"{named(one.tag)} of another VR than UI", at)
        found[one.tag] = bytes(whole[one.value : one.value_end])
        before, at = one.tag, one.end
    return found, at


def _inflated(data: memoryview, bounds: SignatureBounds) -> memoryview:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = engine.decompress(data, bounds.inflated_bytes)
    except zlib.error as error:
        raise DecodeError("a deflated data set that cannot be inflated", "data set", _MEND) from error
    if engine.unconsumed_tail:
        raise DecodeError(f"it inflates to more than {bounds.inflated_bytes} bytes", "data set", _MEND)
    if not engine.eof or engine.unused_data.strip(b"\0") or len(engine.unused_data) > 1:
        raise DecodeError("bytes after the deflated data set, or too few", "data set", _MEND)
    return memoryview(out)


@lru_cache(maxsize=1 << 16)  # tags come from outside: not all of them may stay
def implied(tag: int) -> bytes:
    """The VR that an element has in implicit VR; UN where nobody can know. Ambiguous ones as DCMTK takes them."""
    group, number = tag >> 16, tag & 0xFFFF
    if number == 0:
        return b"UL"
    if group % 2:
        return b"LO" if 0x10 <= number <= 0xFF else b"UN"
    try:
        known = dictionary_VR(tag)
    except KeyError:
        return b"UN"
    if " or " in known:  # "US or SS", "OB or OW", "US or OW", "US or SS or OW"
        return b"OW" if "OW" in known else b"US"
    return known.encode()


@lru_cache(maxsize=1 << 12)
def either_sign(tag: int) -> bool:
    """Whether Pixel Representation says if its numbers are US or SS (PS3.6); in implicit VR nothing else does."""
    try:
        return dictionary_VR(tag) == "US or SS"
    except KeyError:
        return False


class _Walker:
    """Reads elements out of bytes, and counts what it reads."""

    def __init__(
        self, data: memoryview, explicit: bool, little: bool, encapsulated: bool, bounds: SignatureBounds
    ) -> None:
        self._data, self._explicit, self._encapsulated, self._bounds = data, explicit, encapsulated, bounds
        order = "<" if little else ">"
        self._tag, self._two, self._four = (struct.Struct(order + code) for code in ("HH", "H", "I"))
        self._left = bounds.elements

    def wrong(self, what: str, at: int) -> NoReturn:
        raise DecodeError(what, f"byte {at} of the data set", _MEND)

    def _count(self, at: int) -> None:
        self._left -= 1
        if self._left < 0:
            self.wrong(f"more than {self._bounds.elements} elements", at)

    def elements(
        self, at: int, end: int, depth: int, *, until: int | None = None
    ) -> tuple[tuple[Element, ...], int]:
        """Elements up to ``end``, or to the delimiter ``until``; tags rise strictly. The place after the last."""
        found: list[Element] = []
        before = -1
        while at < end:
            if until is not None and self._peek(at, end) == until:
                return tuple(found), at
            one = self.element(at, end, depth)
            if one.tag <= before or one.tag >> 16 == 2:
                self.wrong(f"{named(one.tag)} after {named(max(before, 0))}", at)
            if self._encapsulated and one.tag == PIXEL_DATA and depth == 0 and one.fragments is None:
                self.wrong("pixel data without fragments in an encapsulated transfer syntax", at)
            found.append(one)
            before, at = one.tag, one.end
        if until is not None:
            self.wrong("an item without an end", at)
        return tuple(found), at

    def _peek(self, at: int, end: int) -> int:
        if end - at < 8:
            self.wrong("an element that is cut off", at)
        group, number = self._tag.unpack_from(self._data, at)
        return int(group << 16 | number)

    def element(self, at: int, end: int, depth: int) -> Element:
        """The element that begins here."""
        self._count(at)
        tag = self._peek(at, end)
        if tag >> 16 in _FORBIDDEN:
            self.wrong(f"{named(tag)} where an element should begin", at)
        if self._explicit:
            vr = bytes(self._data[at + 4 : at + 6])
            if vr in SHORT:
                length, value = int(self._two.unpack_from(self._data, at + 6)[0]), at + 8
            elif vr in LONG:
                if end - at < 12:
                    self.wrong("an element that is cut off", at)
                if bytes(self._data[at + 6 : at + 8]) != b"\0\0":
                    self.wrong("reserved bytes that are not zero", at + 6)
                length, value = int(self._four.unpack_from(self._data, at + 8)[0]), at + 12
            else:
                self.wrong(f"{named(tag)} of no known VR", at + 4)
        else:
            vr, length, value = implied(tag), int(self._four.unpack_from(self._data, at + 4)[0]), at + 8
        if length == UNDEFINED:
            return self._undefined(tag, vr, at, value, end, depth)
        if length in _MARK_LENGTHS:
            self.wrong(f"{named(tag)} of a length that reads as an item", at)
        if length % 2 or length > end - value:
            self.wrong(
                f"{named(tag)} of an odd length" if length % 2 else f"{named(tag)} that is cut off", at
            )
        stop = value + length
        if vr == b"SQ":
            items, after = self._items(value, stop, depth, closed=False)
            if after != stop:
                self.wrong(f"{named(tag)} that ends elsewhere", after)
            return Element(tag, vr, at, value, stop, stop, items)
        return Element(tag, vr, at, value, stop, stop)

    def _undefined(self, tag: int, vr: bytes, at: int, value: int, end: int, depth: int) -> Element:
        if self._encapsulated and tag == PIXEL_DATA and vr in (b"OB", b"OW"):
            fragments, stop = self._fragments(value, end)
            return Element(tag, vr, at, value, stop - 8, stop, None, fragments)
        if vr == b"SQ":
            items, stop = self._items(value, end, depth, closed=True)
            return Element(tag, vr, at, value, stop - 8, stop, items)
        if vr != b"UN":
            self.wrong(f"{named(tag)} of undefined length", at)
        # PS3.5 section 6.2.2 note 4: then it is a sequence in implicit VR little endian
        inner = self
        if self._explicit:
            inner = _Walker(self._data, False, True, False, self._bounds)
            inner._left = self._left
        items, stop = inner._items(value, end, depth, closed=True)
        self._left = inner._left
        return Element(tag, vr, at, value, stop - 8, stop, items)

    def _items(self, at: int, end: int, depth: int, *, closed: bool) -> tuple[tuple[Item, ...], int]:
        if depth >= self._bounds.depth:
            self.wrong(f"sequences deeper than {self._bounds.depth}", at)
        found: list[Item] = []
        while at < end:
            self._count(at)
            tag, start = self._peek(at, end), at
            length, value = int(self._four.unpack_from(self._data, at + 4)[0]), at + 8
            if tag == SEQUENCE_END and closed:
                if length:
                    self.wrong("a delimiter with a length", at)
                return tuple(found), value
            if tag != ITEM:
                self.wrong(f"{named(tag)} where an item should begin", at)
            if length == UNDEFINED:
                elements, stop = self.elements(value, end, depth + 1, until=ITEM_END)
                if int(self._four.unpack_from(self._data, stop + 4)[0]):
                    self.wrong("a delimiter with a length", stop)
                at = stop + 8
            else:
                if length > end - value:
                    self.wrong("an item that is cut off", start)
                elements, stop = self.elements(value, value + length, depth + 1)
                at = stop
            found.append(Item(start, value, stop, at, elements))
        if closed:
            self.wrong("a sequence without an end", at)
        return tuple(found), at

    def _fragments(self, at: int, end: int) -> tuple[tuple[tuple[int, int], ...], int]:
        found: list[tuple[int, int]] = []
        while True:
            self._count(at)
            tag = self._peek(at, end)
            length, value = int(self._four.unpack_from(self._data, at + 4)[0]), at + 8
            if tag == SEQUENCE_END:
                if length or not found:
                    self.wrong("pixel data that end wrongly", at)
                return tuple(found), value
            if tag != ITEM or length == UNDEFINED or length % 2 or length > end - value:
                self.wrong("a fragment of pixel data that is none", at)
            found.append((value, value + length))
            at = value + length
