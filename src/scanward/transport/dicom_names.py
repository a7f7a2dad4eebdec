"""The names that a data set gives itself, found in its first bytes: what is said of it elsewhere must be the same.

DIMSE carries SOP class and instance beside the data set (PS3.7 9.1.1.1): a genuine object could be filed under another
one's name, for no signature covers what stands beside it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from typing import Final

from scanward.errors import DecodeError

IMPLICIT: Final = "1.2.840.10008.1.2"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))

SOP_CLASS, SOP_INSTANCE, STUDY = 0x00080016, 0x00080018, 0x0020000D
_WORDS = {SOP_CLASS: "SOP class", SOP_INSTANCE: "SOP instance", STUDY: "study"}
# What pydicom raises on bytes that nobody vouches for.
_PARSER: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    struct.error,
    TypeError,
    ValueError,
)


def names_of(
    syntax: str, data: bytes | memoryview, most: int, tags: tuple[int, ...] = (SOP_CLASS, SOP_INSTANCE)
) -> Mapping[int, str]:
    """These UIDs as the data set in ``syntax`` gives them. Reads the first ``most`` bytes, inflated where deflated.

    Raises
    ------
    DecodeError
        One is not there, or the beginning cannot be read, or its elements are not in ascending order (PS3.5 7.1).
    """
    from pydicom.filereader import data_element_generator

    head = bytes(data[:most])
    last = max(tags)
    names: dict[int, str] = {}
    before = -1
    try:
        if syntax in DEFLATED:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, most)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for element in data_element_generator(
                io.BytesIO(head),
                syntax == IMPLICIT,
                syntax != BIG_ENDIAN,
                stop_when=lambda tag, kind, length: tag > last,
            ):
                tag = int(element.tag)
                if tag <= before:  # readers differ on which of two they believe
                    raise DecodeError("elements twice or out of order", "data set", "look at the sender")
                before = tag
                if tag in tags:
                    value = element.value
                    text = value.decode("ascii") if isinstance(value, bytes) else str(value or "")
                    names[tag] = text.rstrip("\0 ")
    except DecodeError:
        raise
    except (*_PARSER, zlib.error) as error:
        what = f"the beginning of the data set cannot be read ({type(error).__name__})"
        raise DecodeError(what, f"transfer syntax {syntax}", "look at the sender") from None
    for tag in tags:
        if not names.get(tag):
            raise DecodeError(f"the data set has no {_WORDS[tag]} UID", "data set", "look at the sender")
    return names
