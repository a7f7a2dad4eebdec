"""Partial areas: by hand, by numerical integration, and as parts of whole areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from scanward.errors import SettingsError
from scanward.reading.mrmc.binormal import Binormal, BinormalAUC, fit
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.partial import BinormalPartialAUC, Over, PartialAUC, Range, Scale
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]
RATINGS = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25).map(np.array)
RANGES = st.tuples(st.integers(0, 19), st.integers(1, 20)).filter(lambda r: r[0] < r[1])


def study(seed: int = 3, *, continuous: bool = False, clustered: bool = False) -> Ratings:
    generator = np.random.default_rng(seed)
    truth = np.arange(40) % 5 < 2
    score = generator.normal(size=(2, 3, 40)) + truth
    if not continuous:
        score = np.digitize(score, [-0.5, 0.5, 1.2, 2.0]).astype(float)
    patient = (np.arange(40) // (2 if clustered else 1)).astype(np.intp)
    names = [tuple(f"{letter}{i}" for i in range(n)) for letter, n in (("T", 2), ("R", 3), ("C", 40))]
    return Ratings(score, truth, patient, *names, tuple(f"P{i}" for i in range(int(patient.max()) + 1)))


# --- empirical


def test_by_hand() -> None:
    """Operating points (0, 1/2) and (1/2, 1): up to FPR 1/4 a trapezoid of heights 1/2 and 3/4."""
    positive, negative = np.array([2.0, 3.0]), np.array([1.0, 2.0])
    assert PartialAUC(0, 0.25).one(positive, negative) == pytest.approx(0.25 * (0.5 + 0.75) / 2, abs=1e-15)
    assert PartialAUC(0.5, 1).one(positive, negative) == pytest.approx(0.5, abs=1e-15)
    # To the right of the curve, TPR 1/2 to 1: 1 - FPR falls from 1 to 1/2.
    assert PartialAUC(0.5, 1, "TPR").one(positive, negative) == pytest.approx(0.5 * 0.75, abs=1e-15)
    assert PartialAUC(0, 0.5, "TPR").one(positive, negative) == pytest.approx(0.5, abs=1e-15)


@given(RATINGS, RATINGS)
def test_over_everything_it_is_the_whole_area(positive: Floats, negative: Floats) -> None:
    whole = EmpiricalAUC().one(positive, negative)
    for over in ("FPR", "TPR"):
        assert PartialAUC(0, 1, over).one(positive, negative) == pytest.approx(whole, abs=1e-12)


@given(RATINGS, RATINGS, RANGES, st.sampled_from(["FPR", "TPR"]))
def test_parts_add_up_and_are_bounded(
    positive: Floats, negative: Floats, part: tuple[int, int], over: Over
) -> None:
    low, high = part[0] / 20, part[1] / 20
    pieces = [
        PartialAUC(a, b, over).one(positive, negative) for a, b in ((0, low), (low, high), (high, 1)) if a < b
    ]
    assert sum(pieces) == pytest.approx(EmpiricalAUC().one(positive, negative), abs=1e-12)
    assert -1e-12 <= PartialAUC(low, high, over).one(positive, negative) <= high - low + 1e-12


def test_the_same_as_integrating_the_polygon() -> None:
    generator = np.random.default_rng(0)
    positive, negative = (
        generator.integers(1, 6, 31).astype(float) + 1,
        generator.integers(1, 6, 47).astype(float),
    )
    cuts = np.arange(8.0, -1.0, -1.0)
    false = np.array([(negative >= cut).mean() for cut in cuts])
    true = np.array([(positive >= cut).mean() for cut in cuts])
    grid = np.linspace(0.1, 0.45, 200_001)
    heights = np.interp(grid, false, true)
    expected = np.sum(0.5 * (heights[1:] + heights[:-1]) * np.diff(grid))
    assert PartialAUC(0.1, 0.45).one(positive, negative) == pytest.approx(expected, abs=1e-8)


# --- binormal


@pytest.mark.parametrize("curve", [(1.7, 0.5), (0.0, 1.0), (-1.0, 2.0), (0.4, 0.02), (2.0, 30.0), (0.0, 0.3)])
@pytest.mark.parametrize("part", [(0.0, 1.0), (0.0, 0.2), (0.1, 0.5), (0.5, 1.0), (0.3, 0.9)])
def test_binormal_by_numerical_integration(curve: tuple[float, float], part: tuple[float, float]) -> None:
    a, b = curve
    low, high = (float(np.clip(norm.ppf(x), -12, 12)) for x in part)
    steep = float(np.clip(-a / b, low, high))
    expected = sum(
        quad(lambda z: norm.cdf(a + b * z) * norm.pdf(z), *ends, epsabs=1e-12, limit=200)[0]
        for ends in ((low, steep), (steep, high))
        if ends[0] < ends[1]
    )
    found = Binormal(a, b)
    assert found.partial(*part) == pytest.approx(expected, abs=1e-9)
    if part == (0.0, 1.0):
        assert found.auc == pytest.approx(norm.cdf(a / math.hypot(1, b)), abs=1e-12)


@pytest.mark.parametrize("curve", [(1.7, 0.5), (0.3, 2.0)])
def test_binormal_over_true_positive_rates_is_the_area_to_the_right(curve: tuple[float, float]) -> None:
    found = Binormal(*curve)
    expected = quad(lambda t: 1 - float(found.fpr(np.array(t))), 0.7, 0.95, epsabs=1e-12)[0]
    assert found.mirrored().partial(0.05, 0.3) == pytest.approx(expected, abs=1e-9)
    assert found.fpr(found.tpr(np.array([0.1, 0.4]))) == pytest.approx([0.1, 0.4], abs=1e-9)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (Binormal(np.inf, 1.0), (0.3, 0.3)),
        (Binormal(-np.inf, 1.0), (0.0, 0.0)),
        (Binormal(float(norm.ppf(0.8)), 0.0), (0.24, 0.1)),  # flat at 0.8: 1 - FPR is 1 up to there, then 0
        (Binormal(-float(norm.ppf(0.4)), np.inf), (0.1, 0.18)),  # steep at 0.4
    ],
)
def test_limiting_curves(curve: Binormal, expected: tuple[float, float]) -> None:
    """Over FPR 0.2 to 0.5, and over TPR 0.7 to 1."""
    assert curve.partial(0.2, 0.5) == pytest.approx(expected[0], abs=1e-12)
    assert curve.mirrored().partial(0.0, 0.3) == pytest.approx(expected[1], abs=1e-12)


@given(RATINGS, RATINGS)
@settings(max_examples=40)
def test_binormal_over_everything_is_the_whole_area(positive: Floats, negative: Floats) -> None:
    whole = fit(positive, negative).auc
    for over in ("FPR", "TPR"):
        assert BinormalPartialAUC(0, 1, over).one(positive, negative) == pytest.approx(whole, abs=1e-7)


# --- scales


@pytest.mark.parametrize("over", ["FPR", "TPR"])
def test_scales(over: Over) -> None:
    """A guesser has the chance value on every scale, a perfect reader the best one."""
    guess, best = np.array([1.0, 2.0, 3.0]), np.array([4.0])
    for scale, top in (("raw", 0.3), ("mean", 1.0), ("McClish", 1.0)):
        merit = PartialAUC(0.2, 0.5, over, scale)
        assert merit.chance == pytest.approx(merit.one(guess, guess), abs=1e-12)
        assert merit.one(best, guess) == pytest.approx(top, abs=1e-12)
    assert PartialAUC(0.2, 0.5, over, "McClish").chance == 0.5
    assert PartialAUC(0.2, 0.5, "FPR").chance == pytest.approx(0.5 * (0.25 - 0.04))
    assert PartialAUC(0.2, 0.5, "TPR").chance == pytest.approx(0.5 * (0.64 - 0.25))


def test_names_tell_range_and_scale() -> None:
    names = {
        merit(0.0, 0.2, over, scale).name
        for merit in (PartialAUC, BinormalPartialAUC)
        for over in ("FPR", "TPR")
        for scale in ("raw", "mean", "McClish")
    }
    assert len(names) == 12
    assert "empirical partial AUC (FPR 0-0.2)" in names


@pytest.mark.parametrize("bounds", [(0.2, 0.2), (0.5, 0.1), (-0.1, 0.2), (0.5, 1.1), (math.nan, 0.5)])
def test_ranges_that_are_none_are_refused(bounds: tuple[float, float]) -> None:
    for make in (PartialAUC, BinormalPartialAUC, Range):
        with pytest.raises(SettingsError, match="low < high"):
            make(*bounds)


def test_scales_that_are_none_are_refused() -> None:
    scale: Scale = "half"  # type: ignore[assignment]
    with pytest.raises(SettingsError, match="mean or McClish"):
        PartialAUC(0, 0.5, "FPR", scale)


# --- leaving out, and the analysis


@pytest.mark.parametrize(
    "merit", [PartialAUC(0.1, 0.6), PartialAUC(0.6, 1, "TPR", "McClish"), BinormalPartialAUC(0, 0.3)]
)
@pytest.mark.parametrize("clustered", [False, True])
def test_leaving_out_by_patterns_is_leaving_out(merit: Merit, *, clustered: bool) -> None:
    ratings = study(clustered=clustered, continuous=isinstance(merit, PartialAUC))
    apart = merit.leave_one_out(ratings) - Merit.leave_one_out(merit, ratings)
    assert np.abs(apart).max() < 1e-9


def test_leaving_out_the_only_negative_leaves_nothing() -> None:
    ratings = study().select(treatments=["T0"], readers=["R0"])
    kept = ratings.truth | (np.arange(40) == 2)
    score = np.where(kept, ratings.score, np.nan)
    alone = Ratings(score, ratings.truth, ratings.patient, ("T0",), ("R0",), ratings.cases, ratings.patients)
    found = PartialAUC(0, 0.5).leave_one_out(alone)
    assert np.flatnonzero(np.isnan(found[0, 0])).tolist() == [2]


def test_a_whole_partial_area_is_analysed_as_the_whole_area() -> None:
    ratings = study(continuous=True)
    for part, whole in ((PartialAUC(0, 1), EmpiricalAUC()), (BinormalPartialAUC(0, 1), BinormalAUC())):
        found, expected = (
            obuchowski_rockette(estimate(ratings, merit)).differences[0] for merit in (part, whole)
        )
        assert found.p == pytest.approx(expected.p, rel=1e-6)
        assert found.se == pytest.approx(expected.se, rel=1e-6)
