"""Ensembles of small trees on one row without walking a tree.

QuickScorer (Lucchese et al., SIGIR 2015): every leaf of a tree is a bit. A node whose test fails crosses out all
leaves on its other side; of the leaves that are left when all nodes have been asked, the first is the tree's
answer. All nodes of all trees are asked in a few operations on arrays that lie in memory as they are read, where
walking waits for memory at every step. Tests, leaves and the order of every sum are those of the ONNX graph, so
the answer is the runtime's to the last bit (``tests/test_judge_fast.py``).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scanward.errors import BundleError
from scanward.layers.ensembles import Ensembles

LEAVES = 16  # bits of a tree
_NODES = LEAVES - 1
_FIRST_LEFT = np.array([(~v & (v + 1)).bit_length() - 1 for v in range(1 << LEAVES)], dtype=np.int64)


class Bitvectors:
    """T trees of at most ``LEAVES`` leaves; features must have passed ``layers.graph.rounded`` (no NaN).

    Raises
    ------
    BundleError
        When the tables are no trees.
    """

    def __init__(self, trees: Ensembles) -> None:
        starts, targets = _checked(trees)
        number = len(targets)
        features = np.zeros((_NODES, number), dtype=np.int64)
        thresholds = np.full((_NODES, number), np.inf, dtype=np.float32)
        crossed = np.zeros((_NODES, number), dtype=np.uint16)
        leaves = np.zeros((number, LEAVES), dtype=np.float32)
        feature = trees.numbers["nodes_featureids"].tolist()
        left, right = (trees.numbers[name].tolist() for name in ("nodes_truenodeids", "nodes_falsenodeids"))
        value, branch = trees.values["nodes_values"].tolist(), trees.branches.tolist()
        weights = iter(trees.values["target_weights"].tolist())
        for tree, (start, end) in enumerate(pairwise(starts)):
            found, rows = _walked(left[start:end], right[start:end], branch[start:end])
            for slot, (node, low, high) in enumerate(rows):
                features[slot, tree] = feature[start + node]
                thresholds[slot, tree] = value[start + node]
                crossed[slot, tree] = (1 << high) - (1 << low)
            # Leaves are told in the order of their nodes, and numbered in the order of the walk.
            told = {node: next(weights) for node in range(end - start) if not branch[start + node]}
            leaves[tree, : len(found)] = [told[node] for node in found]
        self._features = features.ravel()
        self._thresholds = thresholds.ravel()
        # Eight leaves at a time: (2, nodes, T) bytes.
        self._crossed = np.stack([crossed & 0xFF, crossed >> 8]).astype(np.uint8)
        # One place more, of nothing: what shorter ensembles are filled up with.
        self._leaves = np.append(leaves.ravel(), np.float32(0))
        self._first = np.arange(number) * LEAVES
        self._sums = _sums(targets, sum(trees.widths))
        self._shape = (_NODES, number)

    def run(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw sums of leaves, (sum of widths,)."""
        # Indices are within bounds by construction; "wrap" is the mode that does not look.
        asked = row.take(self._features, mode="wrap")
        fails = np.greater(asked, self._thresholds).reshape(self._shape)
        low, high = np.bitwise_or.reduce(self._crossed * fails.view(np.uint8), axis=1)  # (T,) each
        left = high.astype(np.int64)
        left <<= 8
        left += low
        leaf = _FIRST_LEFT.take(left, mode="wrap")
        leaf += self._first
        found = np.append(self._leaves.take(leaf, mode="wrap"), np.float32(0))
        # Tree after tree, as the runtime adds them: (rounds, targets) summed over rounds.
        out: NDArray[np.float32] = np.add.reduce(found.take(self._sums, mode="wrap"), axis=0)
        return out


def fits(trees: Ensembles) -> bool:
    """Whether no tree has more leaves than there are bits."""
    counts = np.bincount(trees.numbers["nodes_treeids"][~trees.branches])
    return int(counts.max(initial=0)) <= LEAVES


def _checked(trees: Ensembles) -> tuple[list[int], NDArray[np.int64]]:
    """First node of each tree (and the end of the last), and the target that each adds to."""
    tree, node = trees.numbers["nodes_treeids"], trees.numbers["nodes_nodeids"]
    leaf = ~trees.branches
    number = int(tree.max(initial=-1)) + 1
    starts = np.searchsorted(tree, np.arange(number + 1))
    target = trees.numbers["target_ids"]
    firsts = np.searchsorted(tree[leaf], np.arange(number))
    whole = (
        bool((np.diff(tree) >= 0).all())
        and bool((np.diff(starts) > 0).all())
        and np.array_equal(node, np.arange(len(tree)) - starts[tree])
        and np.array_equal(trees.numbers["target_treeids"], tree[leaf])
        and np.array_equal(trees.numbers["target_nodeids"], node[leaf])
        and bool((firsts < len(target)).all())
        and np.array_equal(target, target[firsts][tree[leaf]])
    )
    if not whole:
        raise _refused()
    return starts.tolist(), target[firsts]


def _walked(
    left: list[int], right: list[int], branch: list[bool]
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Leaves of one tree from left to right; each inner node, and from where to where the leaves on its left are."""
    leaves: list[int] = []
    rows: list[tuple[int, int, int]] = []
    # (node, None) is to be entered; (node, n) has had its left side walked, which began with leaf n.
    pending: list[tuple[int, int | None]] = [(0, None)]
    steps = 0
    while pending:
        node, began = pending.pop()
        steps += 1
        if not 0 <= node < len(branch) or steps > 2 * len(branch):
            raise _refused()
        if not branch[node]:
            leaves.append(node)
        elif began is None:
            pending += [(node, len(leaves)), (left[node], None)]
        else:
            rows.append((node, began, len(leaves)))
            pending.append((right[node], None))
    if len(set(leaves)) != len(leaves) or len(leaves) + len(rows) != len(branch):
        raise _refused()
    return leaves, rows


def _sums(targets: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """(rounds, width): for each target its trees in order, then the place of nothing."""
    counts = np.bincount(targets, minlength=width)
    out = np.full((int(counts.max(initial=1)), width), len(targets), dtype=np.int64)
    for target in range(width):
        trees = np.flatnonzero(targets == target)
        out[: len(trees), target] = trees
    return out


def _refused() -> BundleError:
    return BundleError("a graph of trees holds tables that are no trees", "graph", "train the bundle again")
