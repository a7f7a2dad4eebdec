"""Boosted trees say in ONNX exactly what they say in LightGBM, alone and merged; a disagreement is refused."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from scanward.errors import LearningError
from scanward.layers.graph import Graph, Grove, rounded
from scanward.learning import boosting
from scanward.learning.boosting import boost, export, merge

ROWS = 4000


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Nasty on purpose: close values, counts, missing, large and tiny."""
    rng = np.random.default_rng(0)
    columns = [
        rng.normal(size=ROWS),
        rng.normal(size=ROWS) * 1e-4 + 100,
        rng.integers(0, 5, ROWS).astype(float),
        np.exp(rng.normal(size=ROWS) * 6),
        np.where(rng.random(ROWS) < 0.3, np.nan, rng.normal(size=ROWS)),
    ]
    return rounded(np.column_stack(columns))


def target(features: NDArray[np.float32]) -> NDArray[np.float64]:
    x = features.astype(np.float64)
    out: NDArray[np.float64] = np.sin(3 * x[:, 0]) + (x[:, 2] > 2) * x[:, 0] + (x[:, 1] > 100)
    return out


def leaves(booster: lightgbm.Booster, rows: NDArray[np.float32]) -> NDArray[Any]:
    return np.asarray(booster.predict(rows, raw_score=True)).reshape(len(rows), -1)


def test_no_row_takes_another_branch(features: NDArray[np.float32]) -> None:
    booster = boost(features, target(features), objective="regression", rounds=80, leaves=63, seed=1)
    graph = export(booster, features, what="test")
    ours = graph.run(features)
    assert np.abs(ours - leaves(booster, features)).max() < 1e-4


def test_a_binary_model_gives_its_log_odds(features: NDArray[np.float32]) -> None:
    label = (target(features) > 0.5).astype(int)
    booster = boost(features, label, objective="binary", rounds=40, seed=1)
    graph = export(booster, features, what="test")
    np.testing.assert_allclose(graph.run(features), leaves(booster, features), atol=1e-4)


def test_a_multiclass_model_gives_probabilities(features: NDArray[np.float32]) -> None:
    label = np.digitize(target(features), [-0.5, 0.5, 1.5])
    booster = boost(features, label, objective="multiclass", classes=4, rounds=10, seed=1)
    found = export(booster, features, what="test", raw=False).run(features)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, np.asarray(booster.predict(features)), atol=1e-4)


def test_training_is_deterministic(features: NDArray[np.float32]) -> None:
    models = [
        boost(features, target(features), objective="regression", rounds=20, seed=4).model_to_string()
        for _ in range(2)
    ]
    assert models[0] == models[1]


def test_a_disagreement_is_refused(features: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    booster = boost(features, target(features), objective="regression", rounds=5, seed=1)
    other = boost(features, target(features) + 1, objective="regression", rounds=5, seed=1)
    real = boosting._onnx
    monkeypatch.setattr(boosting, "_onnx", lambda _, softmax: real(other, softmax=softmax))
    with pytest.raises(LearningError, match="disagrees with its original"):
        export(booster, features, what="test")


def test_a_grove_answers_as_its_trees_do(features: NDArray[np.float32]) -> None:
    graphs, columns = [], []
    for i, where in enumerate(([0, 1, 2], [4, 3, 2, 0], [2])):
        at = np.array(where, dtype=np.int64)
        booster = boost(features[:, at], target(features), objective="regression", rounds=10, seed=i)
        graphs.append(export(booster, features[:, at], what="test"))
        columns.append(at)
    grove = merge(graphs, columns, features.shape[1], what="test")
    copy = Grove.from_part(grove.part())
    for row in features[:50]:
        answers = copy.run(row)
        assert len(answers) == 3
        for graph, where, answer in zip(graphs, columns, answers, strict=True):
            np.testing.assert_allclose(graph.run(row[where]), answer, atol=1e-5)


def test_a_merge_that_goes_wrong_is_refused(
    features: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    booster = boost(features, target(features), objective="regression", rounds=10, seed=0)
    graph = export(booster, features, what="test")
    real = Graph.run
    monkeypatch.setattr(Graph, "run", lambda self, x: real(self, x) + (self is graph))
    with pytest.raises(LearningError, match="disagrees with its parts"):
        merge([graph], [np.arange(features.shape[1])], features.shape[1], what="test")


def test_an_empty_grove_answers_nothing() -> None:
    grove = merge([], [], 3, what="test")
    assert grove.run(np.zeros(3, dtype=np.float32)) == []
    assert Grove.from_part(grove.part()).widths == ()
