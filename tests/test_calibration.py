"""The promise: of clean units like those calibrated on, at most the budgeted share has a p-value within it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.calibration import Calibration, units_needed
from scanward.errors import LearningError

scores = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


@given(scores, st.floats(-60, 60))
def test_p_value_counts_units_at_least_as_strange(told: list[float], score: float) -> None:
    p = Calibration.of(told).p_value(score)
    assert p == (1 + sum(s >= score for s in told)) / (len(told) + 1)


@given(scores, st.floats(-60, 60), st.floats(-60, 60))
def test_a_stranger_score_never_has_a_larger_p_value(told: list[float], one: float, other: float) -> None:
    calibration = Calibration.of(told)
    low, high = sorted((one, other))
    assert calibration.p_value(high) <= calibration.p_value(low)


@given(scores)
def test_a_score_that_is_not_a_number_is_the_strangest(told: list[float]) -> None:
    assert Calibration.of(told).p_value(math.nan) == 1 / (len(told) + 1)


@given(st.floats(1e-4, 0.5))
def test_units_needed_is_the_smallest_number_that_can_express_the_budget(budget: float) -> None:
    n = units_needed(budget)
    Calibration(tuple([0.0] * n)).require(budget)
    assert 1 / (n + 1) <= budget * (1 + 1e-6)
    assert n <= 1 or 1 / n > budget * (1 - 1e-6)
    if n > 1:
        with pytest.raises(LearningError, match="cannot be expressed"):
            Calibration(tuple([0.0] * (n - 1))).require(budget * (1 - 1e-6))


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, math.nan])
def test_a_budget_that_is_no_share_is_refused(budget: float) -> None:
    with pytest.raises(LearningError):
        Calibration((0.0,) * 1000).require(budget)


def test_a_calibration_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(LearningError, match="not a number"):
        Calibration.of([0.0, math.nan])


def test_the_promise_holds_over_exchangeable_draws() -> None:
    """Heavy-tailed scores, 19 units, budget 5 %: 20,000 new units, each against a calibration of its own."""
    rng = random.Random(7)
    budget, n, trials = 0.05, 19, 20_000
    alerts = 0
    for _ in range(trials):
        told = [rng.paretovariate(1.1) for _ in range(n)]
        alerts += Calibration.of(told).p_value(rng.paretovariate(1.1)) <= budget
    # Exactly the budget is expected here; five standard errors are allowed either way.
    assert abs(alerts / trials - budget) < 5 * math.sqrt(budget * (1 - budget) / trials)
