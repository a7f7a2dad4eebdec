"""What an ONNX graph may hold, read from its protobuf bytes without the ``onnx`` package.

ONNX Runtime opens files that a graph names as *external data* when it was given a path, and runs operators of
any domain it knows. A bundle's graph may do neither, whoever loads it and how. The messages that can hold
graphs, nodes or tensors are walked by field number (onnx.proto3, IR version 13); a field number unknown there
is refused, since a newer runtime could find a graph in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scanward.config import BUNDLE_BOUNDS, BundleBounds
from scanward.errors import BundleError

DOMAINS: Final = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# message -> field number -> the message inside it. Numbers in _PLAIN hold nothing of interest.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 8: "Opset", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 9: "Opset", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
    "Tensor": {},
    "Opset": {},
}
_PLAIN: Final[dict[str, frozenset[int]]] = {
    "Model": frozenset({1, 2, 3, 4, 5, 6, 14}),
    "Graph": frozenset({2, 10, 11, 12, 13, 14, 16}),
    "Node": frozenset({1, 2, 3, 4, 6, 8, 9}),
    "Attribute": frozenset({1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21}),
    "SparseTensor": frozenset({3}),
    "Function": frozenset({1, 4, 5, 6, 8, 12, 13, 14}),
    "Training": frozenset({3, 4}),
    "Tensor": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16}),
    "Opset": frozenset({2}),
}
# Fields that hold an operator domain, and the two by which a tensor leaves the file.
_DOMAIN: Final = {("Node", 7), ("Function", 10), ("Opset", 1)}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check(data: bytes, where: str, bounds: BundleBounds = BUNDLE_BOUNDS) -> None:
    """BundleError unless ``data`` is a self-contained ONNX model of the standard's own operators."""
    if not data:
        raise _refused("is empty", where)
    if len(data) > bounds.graph_bytes:
        raise _refused(f"has {len(data)} bytes (bound {bounds.graph_bytes})", where)
    pending = [("Model", 0, len(data), 0)]  # message, begin, end, depth; a list, so that depth costs no stack
    graphs = 0
    while pending:
        message, begin, end, depth = pending.pop()
        if depth > bounds.graph_depth:
            raise _refused(f"is nested deeper than {bounds.graph_depth}", where)
        inside, plain = _INSIDE[message], _PLAIN[message]
        for number, wire, start, stop in fields(data, begin, end, where):
            if number in plain:
                continue
            if number in inside and wire == _BYTES:
                graphs += message == "Model" and number == 7
                pending.append((inside[number], start, stop, depth + 1))
            elif (message, number) in _DOMAIN and wire == _BYTES:
                if data[start:stop] not in DOMAINS:
                    name = data[start:stop][:80].decode("utf-8", "replace")
                    raise _refused(f"uses operators of the domain {name!r}", where)
            elif message == "Tensor" and number == _EXTERNAL_DATA:
                raise _refused("refers to data outside its file", where)
            elif message == "Tensor" and number == _DATA_LOCATION:
                if wire != _VARINT or any(data[start:stop]):
                    raise _refused("refers to data outside its file", where)
            else:
                raise _refused(f"holds the unknown field {number} of {message}", where)
    if graphs != 1:
        raise _refused(f"holds {graphs} graphs where one is expected", where)


def fields(data: bytes, at: int, end: int, where: str) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, begin, end) of each field in ``data[at:end]``; protobuf encoding, proto3 guide."""
    while at < end:
        tag, at = _varint(data, at, end, where)
        number, wire = tag >> 3, tag & 7
        begin = at
        if wire == _BYTES:
            size, begin = _varint(data, at, end, where)
            at = begin + size
        elif wire == _VARINT:
            _, at = _varint(data, at, end, where)
        elif wire == _FIXED32:
            at += 4
        elif wire == _FIXED64:
            at += 8
        else:
            raise _refused(f"has the wire type {wire}", where)
        if at > end or not 0 < number < 1 << 29:
            raise _refused("is cut short or garbled", where)
        yield number, wire, begin, at


def _varint(data: bytes, at: int, end: int, where: str) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _refused("is cut short", where)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _refused("has an endless number", where)


def _refused(what: str, where: str) -> BundleError:
    return BundleError(
        f"the ONNX graph {what}",
        where,
        "export it self-contained, with ai.onnx and ai.onnx.ml operators only",
    )
