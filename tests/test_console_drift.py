"""Drift's statistics against hand calculations, SciPy, and worlds in which nothing drifts."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scanward.calibration import Calibration
from scanward.console.drift import (
    SURE,
    Level,
    Stability,
    chi_square,
    critical,
    effective,
    kolmogorov,
    rank,
    stability,
    tail,
    uniformity,
)

# --- population stability


def test_the_index_by_hand() -> None:
    # 40 : 60 before, 80 : 20 now, half a command more in each bin: 40.5/101, 60.5/101 and 80.5/101, 20.5/101.
    by_hand = (80.5 - 40.5) / 101 * math.log(80.5 / 40.5) + (20.5 - 60.5) / 101 * math.log(20.5 / 60.5)
    found = stability([40, 60], [80, 20], 100, 100)
    assert found.index == pytest.approx(by_hand)
    assert found.chance == pytest.approx(0.02 * stats.chi2.ppf(SURE, 1))
    assert found.level is Level.DRIFTED


def test_the_index_is_zero_for_the_same_and_the_same_both_ways() -> None:
    assert stability([10, 20, 30], [10, 20, 30], 60, 60).index == 0.0
    one, other = stability([90, 10, 50], [30, 70, 50], 9, 9), stability([30, 70, 50], [90, 10, 50], 9, 9)
    assert one.index == pytest.approx(other.index)
    assert one.index > 0.5


@pytest.mark.parametrize(
    ("index", "chance", "level"),
    [
        (0.05, 0.01, Level.SAME),
        (0.1, 0.01, Level.MOVED),
        (0.2499, 0.01, Level.MOVED),
        (0.25, 0.01, Level.DRIFTED),
        (0.2, 0.2, Level.SAME),  # chance explains it, and would not explain a drift
        (0.4, 0.5, Level.FEW),  # chance would explain a drift
        (0.6, 0.5, Level.DRIFTED),
    ],
)
def test_levels(index: float, chance: float, level: Level) -> None:
    assert Stability(index, chance, 5).level is level


def test_nothing_is_too_few_to_tell() -> None:
    for expected, observed, n, m in (([0, 0], [1, 2], 9, 9), ([1, 2], [0, 0], 9, 9), ([1, 2], [2, 1], 0, 9)):
        assert stability(expected, observed, n, m).level is Level.FEW
    with pytest.raises(ValueError, match="same bins"):
        stability([1], [1, 2], 1, 1)


def test_without_drift_chance_explains_the_index_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    shares = np.array([0.3, 0.25, 0.2, 0.1, 0.06, 0.04, 0.03, 0.02])
    beyond = 0
    rounds = 3000
    for _ in range(rounds):
        before, now = rng.multinomial(900, shares), rng.multinomial(300, shares)
        found = stability(before.tolist(), now.tolist(), 900, 300)
        beyond += found.index > found.chance
    # 0.01 % is promised: 0.3 expected. More than 4 would happen once in some 60,000 such tests.
    assert beyond <= 4


def test_a_shift_that_matters_is_found_in_a_week() -> None:
    rng = np.random.default_rng(8)
    before = rng.multinomial(2000, [0.1] * 10).tolist()
    now = rng.multinomial(200, [0.02, 0.02, 0.02, 0.04, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3]).tolist()
    assert stability(before, now, 2000, 200).level is Level.DRIFTED


def test_commands_of_one_examination_weigh_as_one_draw() -> None:
    assert effective([1] * 50) == 50.0
    assert effective([7] * 50) == 50.0  # of equal examinations each is one
    assert effective([1] * 90 + [90]) == pytest.approx(
        180**2 / (90 + 8100)
    )  # 91 examinations: one has half the say
    assert effective([]) == 0.0


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 12, 40, 100])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.9999])
def test_chi_square_as_scipy_has_it(degrees: int, share: float) -> None:
    assert chi_square(share, degrees) == pytest.approx(stats.chi2.ppf(share, degrees), rel=1e-9)


# --- p-values


@given(st.integers(1, 500), st.data())
def test_a_rank_is_what_the_calibration_counted(units: int, data: st.DataObject) -> None:
    scores = (
        data.draw(st.lists(st.floats(-5, 5), min_size=units, max_size=units))
        if units < 8
        else list(range(units))
    )
    score = data.draw(st.floats(-6, 600))
    p_value = Calibration.of(scores).p_value(score)
    assert rank(p_value, units) == sum(1 for one in scores if one >= score)


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.1, math.nan, math.inf, 0.123])
def test_what_is_no_p_value_has_no_rank(p_value: float) -> None:
    assert rank(p_value, 99) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("m", "n", "shift"), [(40, 100, 0.0), (500, 105, 0.5), (7, 30, -1.0), (1, 1, 0.0)])
def test_the_distance_is_that_of_the_scores(seed: int, m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    old, new = rng.normal(size=n), rng.normal(shift, size=m)
    calibration = Calibration.of(old.tolist())
    ranks = [rank(calibration.p_value(float(score)), n) for score in new]
    assert None not in ranks
    found = uniformity([r for r in ranks if r is not None], n)
    assert found is not None
    expected = stats.ks_2samp(new, old, method="exact" if m * n < 10_000 else "asymp")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.above == (expected.statistic_sign < 0)  # fewer small scores: more small p-values
    if m > 10:
        assert found.p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_by_hand() -> None:
    # Two calibration scores; all of three new examinations score above both: F jumps to 1 before the first unit.
    found = uniformity([0, 0, 0], 2)
    assert found is not None
    assert (found.distance, found.above) == (1.0, True)
    found = uniformity([2, 2], 2)  # both below both
    assert found is not None
    assert (found.distance, found.above) == (1.0, False)
    found = uniformity([1], 2)  # between the two
    assert found is not None
    assert found.distance == pytest.approx(0.5)
    assert uniformity([], 2) is None
    assert uniformity([1], 0) is None
    assert tail([], 10, 0.1) is None


@pytest.mark.parametrize(("m", "n"), [(100, 100), (400, 150), (1000, 3000)])
@pytest.mark.parametrize("x", [0.15, 0.5, 0.83, 1.36, 1.63, 2.5])
def test_kolmogorov_as_scipy_has_it(m: int, n: int, x: float) -> None:
    root = math.sqrt(m * n / (m + n))
    distance = x / (root + 0.12 + 0.11 / root)
    assert kolmogorov(distance, m, n) == pytest.approx(stats.kstwobign.sf(x), abs=1e-9)
    assert kolmogorov(critical(0.99, m, n), m, n) == pytest.approx(0.01, rel=1e-6)


def exchangeable(rng: random.Random, m: int, n: int) -> list[int]:
    """Ranks of m scores among n, all of one law."""
    calibration = Calibration.of([rng.random() for _ in range(n)])
    found = [rank(calibration.p_value(rng.random()), n) for _ in range(m)]
    assert None not in found
    return [one for one in found if one is not None]


def test_without_drift_many_examinations_on_a_small_calibration_are_no_alarm() -> None:
    """What a test against the uniform law gets wrong: the calibration is a sample itself."""
    rng = random.Random(3)
    n, m, rounds = 105, 2000, 300
    ours = naive = tails = 0
    for _ in range(rounds):
        ranks = exchangeable(rng, m, n)
        found, beyond = uniformity(ranks, n), tail(ranks, n, 0.05)
        assert found is not None
        assert beyond is not None
        ours += found.p_value < 0.01
        tails += beyond.p_value < 0.01
        naive += stats.kstwobign.sf(found.distance * math.sqrt(m)) < 0.01
    assert ours <= 11  # 3 expected; more than 11 in one of 10,000 such tests
    assert tails <= 11
    assert naive > 200  # why the calibration's size is asked for


def test_strangers_are_found_and_the_ordinary_too() -> None:
    rng = random.Random(4)
    n = 200
    calibration = Calibration.of([rng.random() for _ in range(n)])
    stranger = [rank(calibration.p_value(rng.random() ** 0.6), n) for _ in range(150)]
    found = uniformity([r for r in stranger if r is not None], n)
    assert found is not None
    assert found.p_value < 0.01
    assert found.above
    ordinary = [rank(calibration.p_value(rng.random() ** 2), n) for _ in range(150)]
    found = uniformity([r for r in ordinary if r is not None], n)
    assert found is not None
    assert found.p_value < 0.01
    assert not found.above


@pytest.mark.parametrize(
    ("m", "n", "budget"), [(300, 105, 0.01), (50, 999, 0.05), (2000, 199, 0.02), (10, 10, 0.5)]
)
def test_the_tail_as_scipy_has_it(m: int, n: int, budget: float) -> None:
    most = int(np.floor(budget * (n + 1) + 1e-9))
    for beyond in sorted({0, 1, 2, m // 20, m // 2, m}):
        found = tail([0] * beyond + [n] * (m - beyond), n, budget)
        assert found is not None
        assert found.beyond == beyond
        assert found.expected == pytest.approx(m * most / (n + 1))
        assert found.p_value == pytest.approx(stats.betabinom.sf(beyond - 1, m, most, n + 1 - most), abs=1e-9)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=200),
    st.floats(1e-6, 0.999),
)
def test_every_answer_is_a_number(ranks: list[int], budget: float) -> None:
    found, beyond = uniformity(ranks, 50), tail(ranks, 50, budget)
    assert found is not None
    assert beyond is not None
    assert 0.0 <= found.distance <= 1.0
    assert 0.0 <= found.p_value <= 1.0
    assert 0.0 <= beyond.p_value <= 1.0
    assert beyond.beyond == sum((1 + r) / 51 <= budget for r in ranks)
