"""Ensembles of trees as tables: read from the ONNX graphs of a bundle, joined, and written as one operator.

A run of the runtime costs more than a small ensemble, and so does each of its operators. At load all ensembles
that are asked at once become *one* ``TreeEnsembleRegressor`` (ai.onnx.ml, set 3), each ensemble with targets of
its own: the same nodes, the same thresholds, leaves added in the same order, so the same sums to the last bit.
What ``learning.boosting`` writes is read, and nothing else: every other operator or attribute is refused.
Numbers of fields and types are those of onnx.proto3 (IR version 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scanward.errors import BundleError
from scanward.layers.onnx_check import fields

Ints = NDArray[np.int64]

_BRANCH, _LEAF = b"BRANCH_LEQ", b"LEAF"
_NODES = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
_LEAVES = ("target_treeids", "target_nodeids", "target_ids")
_FLOATS = ("nodes_values", "target_weights")
_FIXED = {"aggregate_function": b"SUM", "post_transform": b"NONE"}


@dataclass(frozen=True)
class Ensembles:
    """E ensembles over one row of features.

    Attributes
    ----------
    numbers : mapping of attribute to (N,) or (M,) int64
        Indices of N nodes and M leaves, by the operator's own attributes.
    values : mapping of attribute to (N,) or (M,) float32
        Thresholds, and what the leaves weigh.
    branches : (N,) bool
        Which nodes branch; the others are leaves.
    widths : tuple of int, length E
        Targets of each ensemble, which stand one after the other.
    classes : tuple of bool, length E
        Whether the targets are log odds of classes, to be turned into probabilities.
    width : int
        Features of a row; no node asks for one beyond.
    """

    numbers: dict[str, Ints]
    values: dict[str, NDArray[np.float32]]
    branches: NDArray[np.bool_]
    widths: tuple[int, ...]
    classes: tuple[bool, ...]
    width: int


def joined(several: Sequence[Ensembles]) -> Ensembles:
    """All ensembles over the widest row of them, in order, their trees and targets counted on."""
    trees = targets = 0
    numbers: dict[str, list[Ints]] = {name: [] for name in (*_NODES, *_LEAVES)}
    for each in several:
        for name, found in each.numbers.items():
            more = trees if name.endswith("treeids") else targets if name == "target_ids" else 0
            numbers[name].append(found + more)
        trees += int(each.numbers["nodes_treeids"].max(initial=-1)) + 1
        targets += sum(each.widths)
    return Ensembles(
        {name: np.concatenate(found) for name, found in numbers.items()},
        {name: np.concatenate([each.values[name] for each in several]) for name in _FLOATS},
        np.concatenate([each.branches for each in several]),
        tuple(w for each in several for w in each.widths),
        tuple(c for each in several for c in each.classes),
        max(each.width for each in several),
    )


# ------------------------------------------------------------------------------------------------ reading
def read(model: bytes, where: str = "graph") -> Ensembles:
    """The ensembles of one graph, in the order of its answers.

    Raises
    ------
    BundleError
        When the graph is anything else than ensembles over one row, softmax of some, and their concatenation.
    """
    graphs = [model[a:b] for number, _, a, b in fields(model, 0, len(model), where) if number == 7]
    if len(graphs) != 1:
        raise _refused("holds no graph of trees", where)
    made: dict[
        bytes, tuple[Ensembles, bool]
    ] = {}  # output -> the ensemble behind it, and whether its classes
    order: list[bytes] = []
    width = _width(graphs[0], where)
    for number, _, a, b in fields(graphs[0], 0, len(graphs[0]), where):
        if number != 1:
            continue
        kind, inputs, output, attributes = _node(graphs[0][a:b], where)
        if kind == b"TreeEnsembleRegressor" and inputs == [b"features"]:
            made[output] = _ensemble(attributes, width, where), False
        elif kind == b"Softmax" and len(inputs) == 1 and inputs[0] in made:
            made[output] = made[inputs[0]][0], True
        elif kind == b"Concat" and all(name in made for name in inputs):
            order = inputs
            continue
        else:
            raise _refused(f"holds the operator {kind[:40].decode('ascii', 'replace')!r}", where)
        order = [output]
    if not order:
        raise _refused("holds no trees", where)
    whole = joined([made[name][0] for name in order])
    return replace(whole, classes=tuple(made[name][1] for name in order))


def _width(graph: bytes, where: str) -> int:
    """Features of the row that goes in: the last dimension of the only input."""
    data, inputs = (
        graph,
        [graph[a:b] for number, _, a, b in fields(graph, 0, len(graph), where) if number == 11],
    )
    if len(inputs) == 1:
        data = inputs[0]
        for inside in (2, 1, 2, 1, 1):  # type, tensor, shape, dimension, its value
            found = [(a, b) for number, _, a, b in fields(data, 0, len(data), where) if number == inside]
            data = data[slice(*found[-1])] if found else b""
        if data:
            return int(_varints(data, where)[0])
    raise _refused("does not say how long its row is", where)


def _node(data: bytes, where: str) -> tuple[bytes, list[bytes], bytes, dict[str, bytes]]:
    """Operator, inputs, output and attributes (name to bytes) of a node."""
    kind, inputs, output = b"", [], b""
    attributes: dict[str, bytes] = {}
    for number, _, a, b in fields(data, 0, len(data), where):
        if number == 1:
            inputs.append(data[a:b])
        elif number == 2:
            output = data[a:b]
        elif number == 4:
            kind = data[a:b]
        elif number == 5:
            size = data[a + 1] if data[a : a + 1] == b"\n" and b > a + 1 else 0  # field 1, the name, first
            attributes[data[a + 2 : a + 2 + size].decode("ascii", "replace")] = data[a + 2 + size : b]
    return kind, inputs, output, attributes


def _ensemble(attributes: dict[str, bytes], width: int, where: str) -> Ensembles:
    known = {*_NODES, *_LEAVES, *_FLOATS, "nodes_modes", "n_targets", *_FIXED}
    if attributes.keys() != known:
        raise _refused(f"has attributes {sorted(attributes.keys() ^ known)} too many or too few", where)
    for name, value in _FIXED.items():
        if not attributes[name].startswith(b"\x22" + bytes([len(value)]) + value):  # field 4, a text
            raise _refused(f"has another {name} than {value.decode()}", where)
    numbers = {name: _ints(attributes[name], where) for name in (*_NODES, *_LEAVES)}
    values = {name: _floats(attributes[name], where) for name in _FLOATS}
    modes = list(_texts(attributes["nodes_modes"], where))
    told = _varints(attributes["n_targets"], where)
    targets = int(told[1]) if len(told) > 1 and told[0] == 0x18 else 0  # field 3, a number
    branches = np.array([mode == _BRANCH for mode in modes], dtype=np.bool_)
    nodes, leaves = len(branches), int((~branches).sum())
    if (
        any(mode not in (_BRANCH, _LEAF) for mode in modes)
        or {len(numbers[name]) for name in _NODES} | {len(values["nodes_values"])} != {nodes}
        or {len(numbers[name]) for name in _LEAVES} | {len(values["target_weights"])} != {leaves}
        or int(numbers["nodes_featureids"].max(initial=0)) >= width
        or int(numbers["target_ids"].max(initial=0)) >= targets
    ):
        raise _refused("holds tables of trees that do not fit one another", where)
    return Ensembles(numbers, values, branches, (targets,), (False,), width)


def _ints(data: bytes, where: str) -> Ints:
    """Field 8, ints, one by one or packed."""
    if data[:1] == b"\x42":  # packed: one text of numbers
        found = next(fields(data, 0, len(data), where))
        return _varints(data[found[2] : found[3]], where)
    told = _varints(data, where)
    tags, values = told[0::2], told[1::2]
    if len(tags) != len(values) or not np.isin(tags, (0x40, 0xA0)).all():  # 0xA0: field 20, the type
        raise _refused("holds a list of numbers that is none", where)
    out: Ints = values[tags == 0x40]
    return out


def _floats(data: bytes, where: str) -> NDArray[np.float32]:
    """Field 7, floats, one by one or packed."""
    if data[:1] == b"\x3a":
        found = next(fields(data, 0, len(data), where))
        return np.frombuffer(data[found[2] : found[3]], dtype="<f4").astype(np.float32)
    records = np.frombuffer(data[: len(data) // 5 * 5], dtype=[("tag", "u1"), ("value", "<f4")])
    rest = np.flatnonzero(records["tag"] != 0x3D)
    told = records["value"][: rest[0] if len(rest) else len(records)].astype(np.float32)
    if len(data) - 5 * len(told) > 3:  # the type, and nothing after it
        raise _refused("holds a list of values that is none", where)
    return told


def _texts(data: bytes, where: str) -> Iterator[bytes]:
    at = 0
    while at + 1 < len(data) and data[at] == 0x4A:  # field 9, texts
        size = data[at + 1]
        yield data[at + 2 : at + 2 + size]
        at += 2 + size
    if len(data) - at > 3:
        raise _refused("holds a list of words that is none", where)


def _varints(data: bytes, where: str) -> Ints:
    """All base-128 numbers in ``data``, one after the other."""
    told = np.frombuffer(data, dtype=np.uint8)
    last = np.flatnonzero(told < 0x80)
    if len(told) and (not len(last) or last[-1] != len(told) - 1):
        raise _refused("is cut short", where)
    first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
    size = last - first + 1
    if int(size.max(initial=0)) > 4:
        raise _refused("holds a number beyond all indices", where)
    out = np.zeros(len(last), dtype=np.int64)
    for place in range(4):
        has = size > place
        out[has] |= (told[first[has] + place].astype(np.int64) & 0x7F) << (7 * place)
    return out


def _refused(what: str, where: str) -> BundleError:
    return BundleError(f"the graph of trees {what}", where, "train the bundle again with this version")


# ------------------------------------------------------------------------------------------------ writing
def written(trees: Ensembles) -> bytes:
    """One ONNX graph: ``features`` (N, width) to ``scores`` (N, sum of widths), all raw sums of leaves."""
    targets = sum(trees.widths)
    attributes = [_attribute(name, 7, _packed_ints(found)) for name, found in trees.numbers.items()]
    attributes += [
        _attribute(name, 6, _field(7, found.astype("<f4").tobytes())) for name, found in trees.values.items()
    ]
    branch, leaf = _field(9, _BRANCH), _field(9, _LEAF)
    modes = b"".join([branch if b else leaf for b in trees.branches.tolist()])
    attributes += [_attribute("nodes_modes", 8, modes), _attribute("n_targets", 2, _number(3, targets))]
    attributes += [_attribute(name, 3, _field(4, value)) for name, value in _FIXED.items()]
    node = _field(1, b"features") + _field(2, b"scores") + _field(4, b"TreeEnsembleRegressor")
    node += b"".join(_field(5, each) for each in attributes) + _field(7, b"ai.onnx.ml")
    graph = _field(1, node) + _field(2, b"trees")
    graph += _field(11, _value("features", trees.width)) + _field(12, _value("scores", targets))
    sets = _field(8, _number(2, 15)) + _field(8, _field(1, b"ai.onnx.ml") + _number(2, 3))
    return _number(1, 8) + _field(2, b"scanward") + _field(7, graph) + sets


def _value(name: str, width: int) -> bytes:
    """A float tensor of shape (N, width)."""
    shape = _field(1, _field(2, b"N")) + _field(1, _number(1, width))
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, shape)))


def _attribute(name: str, kind: int, value: bytes) -> bytes:
    return _field(1, name.encode()) + value + _number(20, kind)


def _packed_ints(numbers: Ints) -> bytes:
    places = np.arange(0, 28, 7)
    parts = (numbers[:, None] >> places) & 0x7F  # (N, 4)
    more = (numbers[:, None] >> (places + 7)) > 0
    kept = np.concatenate([np.ones((len(numbers), 1), dtype=np.bool_), more[:, :-1]], axis=1)
    return _field(8, (parts | np.where(more, 0x80, 0)).astype(np.uint8)[kept].tobytes())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
