"""Boosted trees (LightGBM), exported to ONNX and compared with their original before anyone may use them.

The export is our own: the format is a table of nodes, and a converter is one more thing to trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from scanward.errors import LearningError
from scanward.layers.graph import Graph, Grove, rounded

COMPARED_ROWS = 2000  # rows on which the exported graph must agree with its original
TOLERANCE = 1e-4  # float32 sums of a few hundred leaves differ by no more than this

Matrix = NDArray[np.float32]


def boost(
    features: Matrix,
    target: NDArray[Any],
    *,
    objective: str,
    rounds: int,
    leaves: int = 15,
    rate: float = 0.08,
    least: int = 20,
    seed: int = 0,
    weight: NDArray[np.float64] | None = None,
    classes: int = 0,
    monotone: list[int] | None = None,
    bagging: float = 0.8,
    columns: float = 0.8,
    lambda_l2: float = 1.0,
) -> lightgbm.Booster:
    """Train trees; deterministic for a seed. ``features`` must have passed ``layers.graph.rounded``."""
    settings: dict[str, Any] = {
        "objective": objective,
        "num_leaves": leaves,
        "learning_rate": rate,
        "min_data_in_leaf": max(1, min(least, len(target) // 8)),
        "feature_fraction": columns,
        "bagging_fraction": bagging,
        "bagging_freq": 1,
        "lambda_l2": lambda_l2,
        "max_bin": 255,
        "use_missing": False,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
    }
    if classes:
        settings["num_class"] = classes
    if monotone is not None:
        settings["monotone_constraints"] = monotone
        settings["monotone_constraints_method"] = "advanced"
    data = lightgbm.Dataset(features, target, weight=weight, free_raw_data=True)
    return lightgbm.train(settings, data, num_boost_round=rounds)


def export(booster: lightgbm.Booster, features: Matrix, *, what: str, raw: bool = True) -> Graph:
    """ONNX graph of ``booster``; refused when it disagrees with it on ``features``.

    With ``raw`` the graph gives raw scores (a regression's prediction, a binary model's log odds); without, the
    class probabilities of a multiclass model.
    """
    graph = Graph(_onnx(booster, softmax=not raw))
    sample = features[:COMPARED_ROWS]
    ours = graph.run(sample)
    theirs = np.asarray(booster.predict(sample, raw_score=raw)).reshape(len(sample), -1)
    worst = float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs)))) if len(sample) else 0.0
    if not worst <= TOLERANCE:
        raise LearningError(
            "an exported model disagrees with its original",
            f"{what}: largest relative difference {worst:.3g}, allowed {TOLERANCE:g}",
            "report this with the versions of lightgbm, onnx and onnxruntime",
        )
    return graph


def _onnx(booster: lightgbm.Booster, *, softmax: bool) -> bytes:
    """The trees as one ``ai.onnx.ml`` TreeEnsembleRegressor (operator set 3), one target a class."""
    from onnx import TensorProto, helper

    model = booster.dump_model()
    targets = int(model["num_tree_per_iteration"])
    of_node = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    of_leaf = ("treeids", "nodeids", "ids", "weights")
    nodes: dict[str, list[Any]] = {f"nodes_{key}": [] for key in of_node} | {
        f"target_{key}": [] for key in of_leaf
    }

    def walk(tree: int, node: dict[str, Any], counter: list[int]) -> int:
        at = counter[0]
        counter[0] += 1
        leaf = "leaf_value" in node
        index = len(nodes["nodes_nodeids"])
        row = (tree, at, 0, "LEAF", 0.0, 0, 0)
        if not leaf:
            row = (
                tree,
                at,
                int(node["split_feature"]),
                "BRANCH_LEQ",
                float(np.float32(node["threshold"])),
                0,
                0,
            )
        for key, value in zip(list(nodes)[:7], row, strict=True):
            nodes[key].append(value)
        if leaf:
            target = (tree, at, tree % targets, float(node["leaf_value"]))
            for key, value in zip(list(nodes)[7:], target, strict=True):
                nodes[key].append(value)
        else:
            nodes["nodes_truenodeids"][index] = walk(tree, node["left_child"], counter)
            nodes["nodes_falsenodeids"][index] = walk(tree, node["right_child"], counter)
        return at

    for info in model["tree_info"]:
        walk(int(info["tree_index"]), info["tree_structure"], [0])
    raw = "raw" if softmax else "scores"
    attributes: dict[str, Any] = dict(nodes)
    steps = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["features"],
            [raw],
            domain="ai.onnx.ml",
            n_targets=targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **attributes,
        )
    ]
    if softmax:
        steps.append(helper.make_node("Softmax", [raw], ["scores"], axis=1))
    graph = helper.make_graph(
        steps,
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, booster.num_feature()])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, targets])],
    )
    sets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=sets, ir_version=8, producer_name="scanward")
    return bytes(proto.SerializeToString())


def merge(graphs: Sequence[Graph], columns: Sequence[NDArray[np.int64]], width: int, *, what: str) -> Grove:
    """Several exported ensembles as one graph over a shared row of ``width`` features.

    ``columns[i]`` says where in the shared row the features of graph i are. The merged graph is compared with its
    parts on random rows, and refused when it differs.
    """
    from onnx import TensorProto, helper, load_from_string

    if not graphs:
        return Grove(None, ())
    steps, outputs, widths = [], [], []
    for i, (graph, where) in enumerate(zip(graphs, columns, strict=True)):
        proto = load_from_string(graph.model)
        widths.append(proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value)
        for node in proto.graph.node:
            for attribute in node.attribute:
                if attribute.name == "nodes_featureids":
                    attribute.ints[:] = [int(where[f]) for f in attribute.ints]
            node.input[:] = ["features" if name == "features" else f"{name}{i}" for name in node.input]
            node.output[:] = [f"{name}{i}" for name in node.output]
            steps.append(node)
        outputs.append(f"{proto.graph.output[0].name}{i}")
    steps.append(helper.make_node("Concat", outputs, ["answers"], axis=1))
    merged = helper.make_graph(
        steps,
        "grove",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, [None, sum(widths)])],
    )
    sets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(merged, opset_imports=sets, ir_version=8, producer_name="scanward")
    grove = Grove(bytes(model.SerializeToString()), tuple(widths))
    rng = np.random.default_rng(0)
    for row in rounded(rng.normal(0, 3, (16, width))):
        for graph, where, answer in zip(graphs, columns, grove.run(row), strict=True):
            if not np.allclose(graph.run(row[where]), answer, rtol=TOLERANCE, atol=TOLERANCE):
                raise LearningError(
                    "a merged model disagrees with its parts",
                    what,
                    "report this with the version of onnxruntime",
                )
    return grove
