"""Bootstrap by patient, areas under the curve by weights, DeLong's test: each against a slow or published answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from scanward.tampering.evaluation.bootstrap import Draws, auc, delong, delong_p


def _scores(seed: int, healthy: int = 60, cancer: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(0, 1, healthy), 1), np.round(rng.normal(0.8, 1, cancer), 1)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_the_area_is_that_of_sklearn_ties_and_draws_included(seed: int, healthy: int, cancer: int) -> None:
    negative, positive = _scores(seed, healthy, cancer)
    patients = [f"p{i % 7}" for i in range(healthy + cancer)]
    draws = Draws.of(patients, resamples=5, seed=seed)
    rows = np.arange(healthy + cancer)
    found = auc(draws, (rows[:healthy], negative), (rows[healthy:], positive))
    truth = np.arange(healthy + cancer) >= healthy
    together = np.concatenate([negative, positive])
    for area, weights in zip(found, draws.weights, strict=True):
        weight = weights[draws.unit]
        if weight[:healthy].sum() and weight[healthy:].sum():
            assert area == pytest.approx(roc_auc_score(truth, together, sample_weight=weight), abs=1e-9)
        else:
            assert np.isnan(area)


def test_whole_patients_are_drawn() -> None:
    """Every image of a patient comes as often as the others of that patient, in every draw."""
    patients = np.repeat([f"p{i}" for i in range(12)], 5)
    draws = Draws.of(list(patients), resamples=200, seed=3)
    weights = draws.of_images(np.arange(60)).reshape(201, 12, 5)
    assert (weights == weights[:, :, :1]).all()
    assert (weights.sum((1, 2)) == 60).all()
    assert len(np.unique(weights[1:, :, 0], axis=0)) > 100


def test_an_interval_by_patient_is_wider_than_one_by_image() -> None:
    """Ten copies of each patient's image tell nothing new: the interval must not shrink by it."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 40)
    names = [f"p{i}" for i in range(40)]
    once = Draws.of(names, seed=1).mean(np.arange(40), values)
    copied = Draws.of([n for n in names for _ in range(10)], seed=1).mean(
        np.arange(400), np.repeat(values, 10)
    )
    rows = Draws.of([str(i) for i in range(400)], seed=1).mean(np.arange(400), np.repeat(values, 10))
    width = once.high - once.low  # type: ignore[operator]
    assert copied.high - copied.low == pytest.approx(width, rel=0.02)  # type: ignore[operator]
    assert rows.high - rows.low < 0.5 * width  # type: ignore[operator]  # what drawing by row would claim


def test_the_interval_covers_as_promised() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        values = np.repeat(rng.normal(0, 1, 60), 3)
        names = [f"p{i // 3}" for i in range(180)]
        found = Draws.of(names, resamples=300, seed=trial).mean(np.arange(180), values)
        covered += found.low <= 0 <= found.high  # type: ignore[operator]
    assert 0.88 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_draws() -> None:
    names = [f"p{i}" for i in range(30)]
    first, again, other = (Draws.of(names, resamples=50, seed=s).weights for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_paired_difference_of_the_same_scores_is_zero_in_every_draw() -> None:
    negative, positive = _scores(1)
    draws = Draws.of([f"p{i}" for i in range(110)], seed=0)
    rows = np.arange(110)
    one = auc(draws, (rows[:60], negative), (rows[60:], positive))
    found = draws.estimate(one - one)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_mean_leaves_out_what_is_unknown() -> None:
    draws = Draws.of(["a", "b", "c", "d"], resamples=20)
    assert draws.mean(np.arange(4), np.array([1.0, np.nan, 3.0, np.nan])).value == 2
    assert draws.mean(np.arange(4), np.full(4, np.nan)).value is None
    assert draws.mean(np.arange(0), np.zeros(0)).value is None


def test_delong_agrees_with_its_definition() -> None:
    """Structural components by the double loop of DeLong et al. 1988."""
    rng = np.random.default_rng(2)
    healthy = np.round(rng.normal(0, 1, (2, 30)), 1)
    cancer = np.round(rng.normal(1, 1, (2, 25)), 1)
    areas, covariance = delong(healthy, cancer)
    wins = (cancer[:, :, None] > healthy[:, None]) + 0.5 * (cancer[:, :, None] == healthy[:, None])
    assert areas == pytest.approx(wins.mean((1, 2)))
    expected = np.cov(wins.mean(2)) / 25 + np.cov(wins.mean(1)) / 30
    assert covariance == pytest.approx(expected)


def test_delong_and_bootstrap_tell_the_same_spread_of_independent_images() -> None:
    rng = np.random.default_rng(9)
    healthy, cancer = rng.normal(0, 1, 300), rng.normal(1, 1, 300)
    other = cancer - rng.normal(0.5, 0.5, 300)
    draws = Draws.of([str(i) for i in range(600)], seed=1)
    rows = np.arange(600)
    difference = auc(draws, (rows[:300], healthy), (rows[300:], cancer)) - auc(
        draws, (rows[:300], healthy), (rows[300:], other)
    )
    _, covariance = delong(np.stack([healthy, healthy]), np.stack([cancer, other]))
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert difference[1:].std() == pytest.approx(spread, rel=0.1)
    assert delong_p((healthy, healthy), (cancer, other)) < 0.001
    assert delong_p((healthy, healthy), (cancer, cancer)) == 1.0
