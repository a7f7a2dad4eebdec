"""What fits a signature, and is read as something else all the same: because of what the transfer syntax makes of it.

Between transfer syntaxes the bytes signed are the same by design. Two things then depend on who reads: in implicit VR,
numbers that have either sign; in big endian, pixels longer than a word, which PS3.5 section 7.3 swaps word by word and
readers as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from scanward.signatures.elements import PIXEL_DATA, Element, Parsed, either_sign, find
from scanward.signatures.encoding import is_signed

_BITS_ALLOCATED = 0x00280100
_WORD = 16  # bits


def two_ways(parsed: Parsed) -> str:
    """Why readers of this file can see different pixels; "" when they cannot."""
    if parsed.syntax.little:
        return ""
    for level in _levels(parsed.elements):
        pixels, bits = find(level, PIXEL_DATA), find(level, _BITS_ALLOCATED)
        if pixels is None or pixels.vr != b"OW":
            continue
        if bits is None or bits.value_end - bits.value != 2:
            return "pixels in big endian without the bits of each"
        if struct.unpack_from(">H", parsed.data, bits.value)[0] > _WORD:
            return f"pixels of more than {_WORD} bits in big endian, which readers take in two ways"
    return ""


def sign_matters(parsed: Parsed, signed: Sequence[Element], negative: bool) -> bool:
    """Whether any number of either sign is another one here than as all SS (``negative``) or all US."""
    main = is_signed(parsed, parsed.elements)
    return any(
        here != negative and _high(parsed, one)
        for one, here in _numbers(parsed, signed, is_signed(parsed, signed, main))
    )


def _numbers(parsed: Parsed, elements: Sequence[Element], signed: bool) -> Iterator[tuple[Element, bool]]:
    for one in elements:
        if either_sign(one.tag):
            yield one, signed
        for item in one.items or ():
            yield from _numbers(parsed, item.elements, is_signed(parsed, item.elements))


def _high(parsed: Parsed, one: Element) -> bool:
    return any(byte & 0x80 for byte in parsed.data[one.value + 1 : one.value_end : 2])


def _levels(elements: tuple[Element, ...]) -> Iterator[tuple[Element, ...]]:
    yield elements
    for one in elements:
        for item in one.items or ():
            yield from _levels(item.elements)
