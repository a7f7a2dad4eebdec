"""JSON with one spelling: sorted keys, no spaces, UTF-8, floats that round-trip, nothing that is not JSON.

Reading is the strict half: no duplicate keys, no NaN or infinity (``1e999`` included), no lone surrogates,
bounded depth and bounded integers, so that what was read can always be written again and printed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError


def dumps(value: Any, where: str, bounds: BundleBounds = BUNDLE_BOUNDS, indent: int | None = None) -> bytes:
    """The one spelling of ``value``; BundleError naming the member that is not JSON.

    Floats are written by ``repr`` (shortest form that reads back to the same bits). Tuples become lists and
    NumPy scalars the numbers they stand for.
    """
    text = json.dumps(
        _plain(value, where, "", 0, bounds),
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        indent=indent,
        separators=(",", ":") if indent is None else (",", ": "),
    )
    return (text + "\n").encode("utf-8")


def loads(data: bytes, where: str, bounds: BundleBounds = BUNDLE_BOUNDS) -> Any:
    """Parse strictly; BundleError on anything else than plain, finite JSON."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise _refused(f"nested deeper than {bounds.json_depth}", where) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise _refused(f"not strict JSON ({error})", where) from error
    return _plain(value, where, "", 0, bounds)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} stands twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _plain(value: Any, where: str, path: str, depth: int, bounds: BundleBounds) -> Any:
    """``value`` in plain dict, list, str, int, float, bool and None, every leaf checked."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where, path)
    if isinstance(value, int):
        if value.bit_length() > bounds.integer_bits:
            raise _refused(f"an integer of more than {bounds.integer_bits} bits", where, path)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(f"{value} is not a number of JSON", where, path)
        return float(value)
    if depth >= bounds.json_depth:
        raise _refused(f"nested deeper than {bounds.json_depth}", where)
    if isinstance(value, Mapping):
        plain = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is not text", where, path)
            plain[_text(key, where, path)] = _plain(member, where, f"{path}.{key}", depth + 1, bounds)
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, f"{path}[{i}]", depth + 1, bounds) for i, item in enumerate(value)]
    raise _refused(f"a {type(value).__name__} is not JSON", where, path)


def _text(value: str, where: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _refused("text that is not Unicode (a lone surrogate)", where, path) from error
    return str.__str__(value)  # the text itself, also of an Enum


def _refused(what: str, where: str, path: str = "") -> BundleError:
    return BundleError(
        what,
        f"{where} at {path.lstrip('.')[:200]!r}" if path else where,
        "keep plain finite values in settings and facts (arrays go to arrays)",
    )
