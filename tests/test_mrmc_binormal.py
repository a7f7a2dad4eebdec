"""The binormal fit: against published figures, a general optimiser, closed forms, and data that have no maximum."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from scanward.reading.mrmc import binormal_fit
from scanward.reading.mrmc.binormal import Binormal, BinormalAUC, Kind, fit, fits
from scanward.reading.mrmc.categories import corners, count
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings, dense
from scanward.reading.mrmc.results import Random

Floats = NDArray[np.float64]


def of_counts(negative: list[int], positive: list[int]) -> Binormal:
    """The curve of ratings 1, 2, ... with these counts."""
    rating = np.arange(1.0, len(negative) + 1)
    return fit(np.repeat(rating, positive), np.repeat(rating, negative))


def study(score: Floats, truth: NDArray[np.bool_], patient: NDArray[np.intp] | None = None) -> Ratings:
    treatments, readers, cases = score.shape
    owner = np.arange(cases) if patient is None else patient
    return Ratings(
        score=score,
        truth=truth,
        patient=owner.astype(np.intp),
        treatments=tuple(f"T{i}" for i in range(treatments)),
        readers=tuple(f"R{i}" for i in range(readers)),
        cases=tuple(f"C{i}" for i in range(cases)),
        patients=tuple(f"P{i}" for i in range(int(owner.max()) + 1)),
    )


@pytest.fixture(scope="module")
def van_dyke(shared_data: Path) -> Ratings:
    with (shared_data / "mrmc" / "VanDyke.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [[row[name] for row in rows] for name in ("reader", "treatment", "case")]
    return dense(*names, [int(row["truth"]) for row in rows], [float(row["rating"]) for row in rows])


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, Any]:
    text = (shared_data / "mrmc" / "published_results.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["VanDyke"]["jackknife_binormal_auc"]
    return found


# --- published figures


def test_van_dyke_areas_to_every_published_digit(van_dyke: Ratings, published: dict[str, Any]) -> None:
    mean = BinormalAUC().values(van_dyke).mean(axis=1)
    assert [round(float(one), 7) for one in mean] == [published["mean"]["1"], published["mean"]["2"]]
    assert round(float(mean[0] - mean[1]), 8) == published["diff"]


def test_van_dyke_parameters_as_published(van_dyke: Ratings) -> None:
    """The manual of MRMCaov prints a and b of every curve to three digits; one is perfect."""
    printed = {
        (0, 0): (1.70, 0.537), (0, 1): (1.40, 0.561), (0, 2): (1.74, 0.635), (0, 3): (1.93, 0.202),
        (0, 4): (1.06, 0.464), (1, 0): (1.85, 0.503), (1, 1): (1.66, 0.447), (1, 2): (1.62, 0.488),
        (1, 4): (1.73, 0.422),
    }  # fmt: skip
    found = fits(van_dyke)
    for cell, (a, b) in printed.items():
        assert (round(found[cell].a, 2), round(found[cell].b, 3)) == (a, b), cell
    assert found[1, 3].kind is Kind.PERFECT
    assert found[1, 3].auc == 1.0


class AsInIowa(BinormalAUC):
    """Ours, save that of flat curves the area is had by the library's own normal deviate and b.

    The published analysis was run by the Fortran library of Chicago and Iowa. It takes the deviate of a flat curve's
    level from the rational approximation 26.2.23 of Abramowitz and Stegun, which is off by up to 0.00045, and b =
    0.0001. One leave-one-out fit of Van Dyke's (reader 4, treatment 1, without the positive rated 2) is flat.
    """

    def of(self, curve: Binormal) -> float:
        if curve.kind is not Kind.FLAT:
            return curve.auc
        t = math.sqrt(-2.0 * math.log(norm.sf(curve.a)))
        above = 2.515517 + 0.802853 * t + 0.010328 * t**2
        deviate = t - above / (1 + 1.432788 * t + 0.189269 * t**2 + 0.001308 * t**3)
        return float(norm.cdf(deviate / math.sqrt(1.0 + 1e-8)))


def test_van_dyke_analysis_to_every_published_digit_with_the_librarys_deviate(
    van_dyke: Ratings, published: dict[str, Any]
) -> None:
    found = obuchowski_rockette(estimate(van_dyke, AsInIowa()), Random.BOTH)
    assert found.overall is not None
    assert found.overall.df2 is not None
    assert round(found.overall.value, 5) == published["F"]
    assert round(found.overall.df2, 5) == published["df2"]
    assert round(found.overall.p, 7) == published["p"]
    assert round(found.differences[0].se, 8) == published["se"]


def test_van_dyke_analysis_with_the_exact_limit_differs_by_that_one_fit(
    van_dyke: Ratings, published: dict[str, Any]
) -> None:
    """Three to four digits are those published; the exact level 42/44 of that fit explains the rest."""
    merit = BinormalAUC()
    found = obuchowski_rockette(estimate(van_dyke, merit), Random.BOTH)
    assert found.overall is not None
    assert found.overall.value == pytest.approx(published["F"], rel=3e-4)
    assert found.overall.df2 == pytest.approx(published["df2"], rel=5e-4)
    assert found.overall.p == pytest.approx(published["p"], rel=3e-4)
    assert found.differences[0].se == pytest.approx(published["se"], rel=2e-4)
    apart = merit.leave_one_out(van_dyke) - AsInIowa().leave_one_out(van_dyke)
    assert np.argwhere(apart).shape == (1, 3)
    cell = tuple(np.argwhere(apart)[0])
    assert merit.leave_one_out(van_dyke)[cell] == pytest.approx(42 / 44, abs=1e-12)


# --- the maximum


def test_two_inner_corners_are_met_exactly() -> None:
    """With three categories the curve goes through both operating points: a and b in closed form."""
    found = of_counts([30, 15, 5], [6, 14, 30])
    false, true = norm.ppf([0.4, 0.1]), norm.ppf([0.88, 0.6])
    b = (true[0] - true[1]) / (false[0] - false[1])
    assert found.b == pytest.approx(b, abs=1e-9)
    assert found.a == pytest.approx(true[0] - b * false[0], abs=1e-9)
    assert found.auc == pytest.approx(norm.cdf(found.a / math.hypot(1, b)), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_general_optimiser_finds_nothing_higher(seed: int) -> None:
    generator = np.random.default_rng(seed)
    negative = generator.multinomial(60, generator.dirichlet(np.ones(5) * 3))
    positive = generator.multinomial(40, generator.dirichlet(np.arange(1.0, 6.0)))
    found = of_counts(list(negative), list(positive))
    assert found.kind is Kind.REGULAR

    def loss(x: Floats) -> float:
        cuts = np.concatenate(([-np.inf], np.cumsum(np.concatenate((x[2:3], np.exp(x[3:])))), [np.inf]))
        p, q = np.diff(norm.cdf(cuts)), np.diff(norm.cdf(np.exp(x[1]) * cuts - x[0]))
        return -float(np.sum(negative * np.log(p + 1e-300) + positive * np.log(q + 1e-300)))

    best = min(
        (
            minimize(loss, [a, b, -1, -0.7, -0.7, -0.7], method="BFGS", options={"gtol": 1e-8})
            for a in (0, 1)
            for b in (-0.5, 0.3)
        ),
        key=lambda one: float(one.fun),
    )
    assert -found.loglik <= best.fun + 1e-7
    if -found.loglik > best.fun - 1e-6:  # it got there too
        assert found.a == pytest.approx(best.x[0], abs=1e-3)
        assert found.b == pytest.approx(math.exp(best.x[1]), abs=1e-3)


def test_it_finds_the_curve_that_ratings_came_from() -> None:
    generator = np.random.default_rng(4)
    a, b = 1.5, 0.7
    found = fit(generator.normal(a / b, 1 / b, 20_000), generator.normal(0, 1, 20_000))
    assert found.a == pytest.approx(a, abs=0.04)
    assert found.b == pytest.approx(b, abs=0.02)


def test_fewer_categories_of_continuous_ratings_change_little() -> None:
    generator = np.random.default_rng(5)
    positive, negative = generator.normal(1, 1.3, 600), generator.normal(0, 1, 900)
    score, truth = np.concatenate((positive, negative)), np.arange(1500) < 600
    assert len(count(score, truth, np.arange(1500), 50).negative) <= 50
    whole = fit(positive, negative, most=10_000).auc
    assert fit(positive, negative).auc == pytest.approx(whole, abs=1e-4)
    assert fit(positive, negative, most=50).auc == pytest.approx(whole, abs=3e-3)


def test_a_search_that_gets_nowhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binormal_fit, "STEPS", 1)
    found = of_counts([30, 15, 5, 3], [6, 14, 30, 31])
    assert found.kind is Kind.FAILED
    score = np.repeat(np.arange(4.0), 4)[None, None] + np.tile([0.0, 1.0], 8)
    assert "failed" in BinormalAUC().doubts(study(score, np.tile([False, True], 8)))[0]


# --- data that have no maximum


@pytest.mark.parametrize(
    ("negative", "positive", "kind", "auc"),
    [
        ([20, 5, 0, 0], [0, 0, 8, 12], Kind.PERFECT, 1.0),
        ([20, 5, 0], [0, 3, 12], Kind.PERFECT, 1.0),  # tied, yet no corner inside
        ([0, 20], [5, 20], Kind.PERVERSE, 0.0),
        ([10, 0], [3, 7], Kind.PERFECT, 1.0),
        ([0, 3, 12], [20, 5, 0], Kind.PERVERSE, 0.0),
        ([10], [7], Kind.CHANCE, 0.5),
        ([0, 10, 0], [0, 7, 0], Kind.CHANCE, 0.5),
        ([30, 10, 0], [10, 20, 20], Kind.FLAT, 0.8),
        ([20, 20, 0], [10, 20, 20], Kind.FLAT, 0.8),
        ([0, 30, 10], [5, 5, 40], Kind.FLAT, 0.8),
        ([5, 5, 40], [0, 30, 10], Kind.STEEP, 0.2),
        ([10, 20, 20], [30, 10, 0], Kind.STEEP, 0.2),
        ([0, 40, 0], [10, 20, 20], Kind.FLAT, 0.6),  # corners (0, 0.4) and (1, 0.8): their mean
        ([10, 20, 20], [0, 40, 0], Kind.STEEP, 0.4),
        ([30, 10], [10, 30], Kind.ONE_POINT, float(norm.cdf(2 * norm.ppf(0.75) / math.sqrt(2)))),
    ],
)
def test_limiting_curves(negative: list[int], positive: list[int], kind: Kind, auc: float) -> None:
    found = of_counts(negative, positive)
    assert found.kind is kind
    assert found.auc == pytest.approx(auc, abs=1e-12)


def test_flat_is_the_limit_of_regular_fits() -> None:
    """Two corners inside, ever closer to one TPR: the areas go to that of the flat curve."""
    flat = of_counts([60_000, 30_000, 9_000, 1_000], [20_000, 0, 30_000, 50_000])
    near = of_counts([60_000, 30_000, 9_000, 1_000], [20_000, 2, 30_000, 50_000])
    assert flat.kind is near.kind is Kind.REGULAR
    assert near.auc == pytest.approx(flat.auc, abs=1e-3)
    exact = of_counts([60_000, 40_000, 0], [20_000, 30_000, 50_000])
    almost = of_counts([60_000, 39_999, 1], [20_000, 30_000, 50_000])
    assert exact.kind is Kind.FLAT
    assert almost.kind is Kind.REGULAR
    assert almost.auc == pytest.approx(exact.auc, abs=0.02)


def test_doubts_name_the_cell() -> None:
    truth = np.arange(20) < 10
    good = np.array([1, 2, 3, 4, 5, 5, 5, 4, 3, 2, 1, 1, 1, 2, 2, 3, 3, 4, 5, 1], dtype=float)
    score = np.stack([good, np.where(truth, 5.0, 1.0)])[None]
    doubts = BinormalAUC().doubts(study(score, truth))
    assert len(doubts) == 1
    assert "R1 under T0" in doubts[0]
    assert "perfect" in doubts[0]


def test_without_one_class_there_is_no_value() -> None:
    score = np.array([[[1.0, 2.0, np.nan, np.nan], [1.0, 2.0, 3.0, 1.0]]])
    ratings = study(score, np.array([False, False, True, True]))
    assert np.isnan(BinormalAUC().values(ratings)[0, 0])
    assert not np.isnan(BinormalAUC().values(ratings)[0, 1])
    assert math.isnan(BinormalAUC().one(np.array([]), np.array([1.0])))


# --- properties

TABLES = st.integers(1, 7).flatmap(
    lambda size: st.tuples(
        *[st.lists(st.integers(0, 30), min_size=size, max_size=size).filter(any) for _ in range(2)]
    )
)


@given(TABLES)
@settings(max_examples=80)
def test_any_counts_give_an_area_between_0_and_1(table: tuple[list[int], list[int]]) -> None:
    found = of_counts(*table)
    assert 0.0 <= found.auc <= 1.0
    assert found.kind is not Kind.FAILED
    if found.kind is Kind.REGULAR:
        assert 0.0 < found.auc < 1.0
        assert found.b > 0.0


@given(TABLES, st.lists(st.floats(0.01, 100.0), min_size=7, max_size=7))
@settings(max_examples=40)
def test_whatever_keeps_the_order_keeps_the_curve(
    table: tuple[list[int], list[int]], gaps: list[float]
) -> None:
    rating = np.cumsum(gaps)[: len(table[0])]
    mapped = fit(np.repeat(rating, table[1]), np.repeat(rating, table[0]))
    assert (mapped.a, mapped.b) == (of_counts(*table).a, of_counts(*table).b)


@given(TABLES)
@settings(max_examples=40)
def test_exchanging_the_classes_and_the_scale_keeps_the_area(table: tuple[list[int], list[int]]) -> None:
    negative, positive = table
    found, other = of_counts(negative, positive), of_counts(positive[::-1], negative[::-1])
    assert other.auc == pytest.approx(found.auc, abs=1e-7)
    assert found.mirrored().auc == pytest.approx(found.auc, abs=1e-9)


@given(TABLES)
@settings(max_examples=100)
def test_corners_are_those_of_the_empirical_curve(table: tuple[list[int], list[int]]) -> None:
    """A category begins at a corner unless the curve goes on in the same direction, horizontal or vertical."""
    negative, positive = (np.array(part, dtype=float) for part in table)
    points = [(negative[k:].sum(), positive[k:].sum()) for k in range(len(negative) + 1)]
    expected = []
    for k in range(1, len(negative)):
        before = next((p for p in reversed(points[:k]) if p != points[k]), None)
        after = next((p for p in points[k + 1 :] if p != points[k]), None)
        if before is None or after is None or points[k] in points[:k]:
            continue  # an end, or an empty category: the same point again
        straight = any(before[axis] == points[k][axis] == after[axis] for axis in (0, 1))
        expected += [] if straight else [points[k]]
    assert [points[k] for k in corners(negative, positive)] == expected


# --- leaving out


@pytest.mark.parametrize("kind", ["ordinal", "continuous", "clustered", "missing", "coarse"])
def test_leaving_out_by_patterns_is_leaving_out(kind: str) -> None:
    generator = np.random.default_rng(11)
    truth = np.arange(36) % 3 == 0
    score = generator.normal(size=(2, 2, 36)) + 1.1 * truth
    patient = np.arange(36) // 2 if kind == "clustered" else None
    if kind in ("ordinal", "clustered"):
        score = np.digitize(score, [-0.5, 0.5, 1.2, 2.0]).astype(float)
    if kind == "missing":
        score[0, 1, ::4] = np.nan
    merit = BinormalAUC()
    ratings = study(score, truth, patient)
    if (
        kind == "coarse"
    ):  # a case is removed from the categories of the whole, so the definition merges likewise
        merit = BinormalAUC(most=6)
        whole = [[count(cell, truth, np.arange(36), 6) for cell in row] for row in score]
        score = np.array([[one.key % len(one.negative) for one in row] for row in whole], dtype=float)
        found = merit.leave_one_out(ratings)
        assert np.abs(found - Merit.leave_one_out(merit, study(score, truth))).max() < 1e-9
        return
    found, expected = merit.leave_one_out(ratings), Merit.leave_one_out(merit, ratings)
    assert np.abs(found - expected).max() < 1e-9
    assert len(np.unique(np.round(found[0, 0], 9))) > 2


def test_leaving_out_the_only_positive_leaves_nothing() -> None:
    score = np.array([[[5.0, 2.0, 3.0, 1.0, 4.0]]])
    found = BinormalAUC().leave_one_out(study(score, np.array([True, False, False, False, False])))
    assert np.isnan(found[0, 0, 0])
    assert not np.isnan(found[0, 0, 1:]).any()
