"""Arrays to and from safetensors bytes, the header checked by our own reader before the library's.

Format (huggingface/safetensors README, "Format"): 8 bytes little-endian header length N, N bytes of JSON
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, then the data without holes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from scanward.bundle import canonical
from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}


def to_bytes(arrays: Mapping[str, NDArray[Any]], where: str, bounds: BundleBounds = BUNDLE_BOUNDS) -> bytes:
    """Safetensors bytes; the same arrays give the same bytes whatever the order of the mapping.

    Any shape (0-d and empty too), any memory layout or byte order. BundleError for a type that is not a plain
    number or flag (objects, text, dates, complex), or beyond the bounds.
    """
    flat: dict[str, NDArray[Any]] = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")  # ascontiguousarray would make 0-d arrays 1-d
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype not in _CODES:
            raise BundleError(
                f"the array {name!r} has type {array.dtype}",
                where,
                f"use one of {', '.join(map(str, _CODES))}",
            )
        if name == "__metadata__":
            raise BundleError("an array may not be named '__metadata__'", where, "rename it")
        flat[name] = array
    try:
        data = save(flat)
    except UnicodeEncodeError as error:
        raise BundleError("an array's name is not Unicode (a lone surrogate)", where, "rename it") from error
    _check(data, where, bounds)  # what could not be read must not be written
    return data


def from_bytes(data: bytes, where: str, bounds: BundleBounds = BUNDLE_BOUNDS) -> dict[str, NDArray[Any]]:
    """The arrays, read-only; BundleError when anything at all is amiss with the header or the data."""
    expected = _check(data, where, bounds)
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise _refused(str(error), where) from error
    if {name: (a.dtype, a.shape) for name, a in arrays.items()} != expected:
        raise _refused("the safetensors library reads another header than Scanward does", where)
    for name, array in arrays.items():
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise _refused(f"the flags of {name[:80]!r} are neither 0 nor 1", where)
        array.flags.writeable = False  # a layer is pure: it changes nothing it was made from
    return arrays


def _check(data: bytes, where: str, bounds: BundleBounds) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Read the header alone, bounded; name -> (dtype, shape)."""
    if len(data) < 8:
        raise _refused("shorter than a safetensors header", where)
    length = int.from_bytes(data[:8], "little")
    if length > bounds.header_bytes:
        raise _refused(f"claims a header of {length} bytes (bound {bounds.header_bytes})", where)
    body = len(data) - 8 - length
    if body < 0:
        raise _refused(f"claims a header of {length} bytes and has {len(data) - 8}", where)
    header = canonical.loads(data[8 : 8 + length].rstrip(b" "), where, bounds)
    if not isinstance(header, dict):
        raise _refused("the header is not an object", where)
    if len(header) > bounds.arrays:
        raise _refused(f"{len(header)} arrays (bound {bounds.arrays})", where)
    found: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        if len(name) > bounds.name_chars:
            raise _refused(f"an array's name of {len(name)} characters (bound {bounds.name_chars})", where)
        dtype, shape, begin, end = _entry(name, entry, where, bounds)
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise _refused(f"the span of {name!r} is not its shape times its type", where)
        found[name] = (dtype, shape)
        spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise _refused("the arrays overlap or leave holes", where)
        at = end
    if at != body:
        raise _refused(f"the arrays take {at} bytes and {body} are there", where)
    return found


def _entry(
    name: str, entry: object, where: str, bounds: BundleBounds
) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refused(f"the header entry of {name!r} is malformed", where)
    code, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise _refused(f"{name!r} has the type {code!r}", where)
    if not _sizes(shape) or len(shape) > bounds.dimensions:
        raise _refused(f"{name!r} has an impossible shape", where)
    if not _sizes(span) or len(span) != 2 or span[0] > span[1]:
        raise _refused(f"{name!r} has an impossible span", where)
    return _DTYPES[code], tuple(shape), span[0], span[1]


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 48 for n in value
    )


def _refused(what: str, where: str) -> BundleError:
    return BundleError(
        f"not sane safetensors: {what}", where, "get the bundle again from where it was trained"
    )
