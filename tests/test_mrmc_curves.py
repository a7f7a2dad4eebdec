"""Curves, their averages, operating points, bands and plots."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm

from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc import plots
from scanward.reading.mrmc.bands import GRID, band
from scanward.reading.mrmc.binormal import Binormal, BinormalAUC, fit
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.curves import (
    MODELS,
    Curve,
    Direction,
    Model,
    binormal_curve,
    curves,
    empirical_curve,
    mean_curve,
    operating_points,
)
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Random

Floats = NDArray[np.float64]
COUNTS = st.integers(1, 6).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 9), min_size=size, max_size=size).filter(any)] * 2)
)
SPECIAL = [
    Binormal(np.inf, 1.0),
    Binormal(-np.inf, 1.0),
    Binormal(0.8, 0.0),
    Binormal(0.8, np.inf),
    Binormal(0.5, 1e-3),
    Binormal(0.5, 300.0),
    Binormal(0.0, 1.0),
]
DIRECTIONS: tuple[Direction, ...] = ("vertical", "horizontal", "diagonal")


def study(readers: int = 4, cases: int = 60, treatments: int = 2, seed: int = 1) -> Ratings:
    generator = np.random.default_rng(seed)
    truth = np.arange(cases) % 3 == 0
    ease = generator.normal(1.2, 0.3, (treatments, readers, 1))
    score = np.digitize(
        generator.normal(size=(treatments, readers, cases)) + ease * truth, [-0.5, 0.4, 1.1, 1.9]
    )
    return Ratings(
        score.astype(float),
        truth,
        np.arange(cases),
        tuple(f"T{i}" for i in range(treatments)),
        tuple(f"R{i}" for i in range(readers)),
        tuple(f"C{i}" for i in range(cases)),
        tuple(f"P{i}" for i in range(cases)),
    )


def of_counts(table: tuple[list[int], list[int]]) -> Curve:
    return empirical_curve(*(np.array(part, dtype=float) for part in table))


def rises(curve: Curve) -> bool:
    ends = [(curve.fpr[i], curve.tpr[i]) for i in (0, -1)] == [(0.0, 0.0), (1.0, 1.0)]
    return ends and bool((np.diff(curve.fpr) >= 0).all() and (np.diff(curve.tpr) >= 0).all())


# --- curves


@given(COUNTS)
def test_empirical_curves_rise_and_have_the_empirical_area(table: tuple[list[int], list[int]]) -> None:
    rating = np.arange(float(len(table[0])))
    curve = of_counts(table)
    assert rises(curve)
    assert curve.area == pytest.approx(
        EmpiricalAUC().one(np.repeat(rating, table[1]), np.repeat(rating, table[0])), abs=1e-12
    )


@pytest.mark.parametrize("fitted", SPECIAL)
def test_binormal_curves_rise_and_have_their_area(fitted: Binormal) -> None:
    curve = binormal_curve(fitted)
    assert rises(curve)
    assert curve.area == pytest.approx(fitted.auc, abs=1e-4)


@given(st.floats(-3, 3), st.floats(0.02, 50))
@settings(max_examples=40)
def test_any_binormal_curve_rises(a: float, b: float) -> None:
    curve = binormal_curve(Binormal(a, b))
    assert rises(curve)
    assert curve.area == pytest.approx(norm.cdf(a / math.hypot(1, b)), abs=1e-4)
    at = np.array([0.1, 0.37, 0.8])
    assert np.interp(at, curve.fpr, curve.tpr) == pytest.approx(norm.cdf(a + b * norm.ppf(at)), abs=0.02)


def test_a_model_that_is_none_is_refused() -> None:
    model: Model = "smooth"  # type: ignore[assignment]
    with pytest.raises(SettingsError, match="empirical, binormal"):
        curves(study(), model)


def test_operating_points_are_shares_at_or_above_the_cut() -> None:
    ratings = study()
    found = operating_points(ratings)
    assert {(one.treatment, one.reader) for one in found} == {
        (t, r) for t in ratings.treatments for r in ratings.readers
    }
    for one in found:
        score = ratings.score[ratings.treatments.index(one.treatment), ratings.readers.index(one.reader)]
        assert one.tpr == pytest.approx((score[ratings.truth] >= one.cut).mean(), abs=1e-12)
        assert one.fpr == pytest.approx((score[~ratings.truth] >= one.cut).mean(), abs=1e-12)


# --- averages


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_the_area_of_the_average_is_the_average_of_the_areas(
    tables: list[tuple[list[int], list[int]]],
) -> None:
    several = [of_counts(table) for table in tables]
    for direction in DIRECTIONS:
        mean = mean_curve(several, direction)
        assert rises(mean), direction
        assert mean.area == pytest.approx(np.mean([one.area for one in several]), abs=1e-12)


def test_the_vertical_average_at_one_rate() -> None:
    several = [
        Curve(np.array([0, 0.5, 1.0]), np.array([0, 0.9, 1.0])),
        Curve(np.array([0, 1.0]), np.array([0, 1.0])),
    ]
    lower, upper = mean_curve(several, "vertical").sides(np.array([0.25, 0.5]))
    assert lower == pytest.approx([(0.45 + 0.25) / 2, (0.9 + 0.5) / 2])
    assert upper == pytest.approx(lower)
    perfect = Curve(np.array([0, 0, 1.0]), np.array([0, 1.0, 1.0]))
    lower, upper = mean_curve([perfect, several[1]], "vertical").sides(np.array([0.0]))
    assert (lower[0], upper[0]) == (0.0, 0.5)


def test_the_horizontal_average_at_one_rate() -> None:
    """At TPR 0.45 the first has FPR 0.25, the second 0.45."""
    one, chance = (
        Curve(np.array([0, 0.5, 1.0]), np.array([0, 0.9, 1.0])),
        Curve(np.array([0, 1.0]), np.array([0, 1.0])),
    )
    mean = mean_curve([one, chance], "horizontal")
    assert np.interp(0.45, mean.tpr, mean.fpr) == pytest.approx((0.25 + 0.45) / 2)


def test_the_diagonal_average_is_the_same_from_either_class() -> None:
    several = [of_counts(([5, 3, 2, 0], [1, 2, 3, 9])), of_counts(([9, 1, 4, 1], [0, 2, 2, 9]))]
    there = mean_curve(several, "diagonal").mirrored()
    back = mean_curve([one.mirrored() for one in several], "diagonal")
    assert there.fpr == pytest.approx(back.fpr)
    assert there.tpr == pytest.approx(back.tpr)


def test_averages_of_nothing_or_in_no_direction_are_refused() -> None:
    with pytest.raises(InputError, match="no curve"):
        mean_curve([])
    sideways: Direction = "sideways"  # type: ignore[assignment]
    with pytest.raises(SettingsError, match="vertical, horizontal or diagonal"):
        mean_curve([of_counts(([1], [1]))], sideways)


# --- bands


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("random", list(Random))
def test_bands_surround_the_mean_within_the_square(model: Model, random: Random) -> None:
    one = band(study(), "T1", model, random, replicates=300)
    assert (one.low >= 0).all()
    assert (one.high <= 1).all()
    inside = (one.fpr > 0.05) & (one.fpr < 0.95)
    at = one.mean.sides(one.fpr)[1]
    assert (one.low <= at + 1e-9)[inside].all()
    assert (one.high >= at - 1e-9)[inside].all()
    assert (one.high - one.low)[inside].max() > 0.05
    assert (one.low[-1], one.high[-1]) == (1.0, 1.0)
    drawn = curves(study().select(treatments=["T1"]), model)
    assert one.mean.area == pytest.approx(np.mean([curve.area for curve in drawn.values()]), abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_a_higher_level_is_a_wider_band(model: Model) -> None:
    narrow, wide = (band(study(), "T0", model, level=level, replicates=300) for level in (0.8, 0.99))
    assert (wide.low <= narrow.low + 1e-12).all()
    assert (wide.high >= narrow.high - 1e-12).all()
    assert wide.high.sum() - wide.low.sum() > 1.2 * (narrow.high.sum() - narrow.low.sum())


class TprAt(Merit):
    """The fitted TPR at one FPR, by definition."""

    name = "TPR"

    def __init__(self, fpr: float) -> None:
        self.fpr = fpr

    def one(self, positive: Floats, negative: Floats) -> float:
        return float(fit(positive, negative).tpr(np.array([self.fpr]))[0])


def test_binormal_bands_are_the_analysis_of_the_rate_as_a_figure_of_merit() -> None:
    ratings = study(readers=3, cases=45).select(treatments=["T0"])
    place = int(np.searchsorted(GRID, 0.2))
    one = band(ratings, "T0", "binormal", Random.BOTH, 0.9)
    expected = obuchowski_rockette(estimate(ratings, TprAt(float(GRID[place]))), Random.BOTH, 0.9).treatments[
        0
    ]
    assert one.low[place] == pytest.approx(max(expected.low, 0.0), abs=1e-8)
    assert one.high[place] == pytest.approx(min(expected.high, 1.0), abs=1e-8)


def test_two_random_readers_with_fixed_cases_span_the_band() -> None:
    """Drawn from two readers, one quarter of the samples has either alone: the percentiles are the two curves."""
    ratings = study(readers=2)
    one = band(ratings, "T0", "empirical", Random.READERS, replicates=200)
    both = [curve.sides(GRID)[1] for curve in curves(ratings.select(treatments=["T0"])).values()]
    assert one.low == pytest.approx(np.minimum(*both), abs=1e-12)
    assert one.high == pytest.approx(np.maximum(*both), abs=1e-12)


def test_the_bootstrap_of_cases_has_the_binomial_spread() -> None:
    """One reader, two ratings, one corner: its rates are binomial, and the polygon goes through it."""
    truth = np.arange(300) < 100
    score = np.where(truth, np.arange(300) % 10 < 6, np.arange(300) % 2 == 0).astype(float)
    ratings = Ratings(
        score[None, None], truth, np.arange(300), ("T",), ("R",),
        tuple(map(str, range(300))), tuple(map(str, range(300))),
    )  # fmt: skip
    one = band(ratings, "T", "empirical", Random.CASES, replicates=2000)
    place = int(np.searchsorted(GRID, 0.5))
    generator = np.random.default_rng(0)
    t, f = generator.binomial(100, 0.6, 200_000) / 100, generator.binomial(200, 0.5, 200_000) / 200
    rate = np.where(f < 0.5, 1 - 0.5 * (1 - t) / (1 - f), 0.5 * t / f)  # on either side of the corner (f, t)
    expected = np.percentile(rate, [2.5, 97.5])
    assert one.low[place] == pytest.approx(expected[0], abs=0.012)
    assert one.high[place] == pytest.approx(expected[1], abs=0.012)


def test_positives_and_negatives_are_drawn_apart() -> None:
    """Of two positives, one above all negatives, the samples hold two: TPR 0, 1/2, 1 in 1, 2, 1 of 4, nothing between.

    Drawn together, thirds and others would come up, and 40 % of the samples would lie below 1/2.
    """
    truth = np.arange(22) < 2
    score = np.where(truth, np.where(np.arange(22) == 0, 9.0, 0.0), 1.0 + np.arange(22) % 3)
    names = tuple(map(str, range(22)))
    ratings = Ratings(score[None, None], truth, np.arange(22), ("T",), ("R",), names, names)
    one = band(ratings, "T", "empirical", Random.CASES, 0.4, replicates=2000)
    assert (one.low[0], one.high[0]) == (0.5, 0.5)


def test_bands_are_the_same_again_and_say_how() -> None:
    one, again, other = (band(study(), "T0", replicates=50, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.low, again.low)
    assert not np.array_equal(one.low, other.low)
    assert "50 bootstrap samples" in one.how
    assert "pointwise 95 %" in one.how
    assert any("readers are few" in text for text in one.warnings)
    assert not band(study(), "T0", random=Random.CASES, replicates=5).warnings


def test_readers_without_both_classes_are_left_out_of_curves() -> None:
    ratings = study(readers=3)
    score = ratings.score.copy()
    score[0, 1, ratings.truth] = np.nan
    holed = Ratings(
        score,
        ratings.truth,
        ratings.patient,
        ratings.treatments,
        ratings.readers,
        ratings.cases,
        ratings.patients,
    )
    for model in MODELS:
        one = band(holed, "T0", model, replicates=20)
        assert one.mean.area == pytest.approx(
            band(holed.select(readers=["R0", "R2"]), "T0", model, replicates=1).mean.area
        )
    plots.draw_curves(holed, [band(holed, name, replicates=5) for name in holed.treatments], "holed")


def test_bands_that_cannot_be_are_refused() -> None:
    ratings = study()
    with pytest.raises(SettingsError, match="0 < level < 1"):
        band(ratings, "T0", level=1.0)
    with pytest.raises(InputError, match="no treatment 'T9'"):
        band(ratings, "T9")
    healthy = Ratings(
        ratings.score, np.zeros(60, dtype=bool), ratings.patient, ratings.treatments, ratings.readers,
        ratings.cases, ratings.patients,
    )  # fmt: skip
    with pytest.raises(InputError, match="positive and negative"):
        band(healthy, "T0")


def test_one_reader_has_a_binormal_band_of_anything_where_readers_are_random() -> None:
    """One reader is no sample of readers: nothing is known, and the band says so instead of a narrow lie."""
    one = band(study(readers=1), "T0", "binormal", Random.READERS)
    inside = (GRID > 0) & (GRID < 1)
    assert (one.low[inside] == 0).all()
    assert (one.high[inside] == 1).all()
    assert one.warnings


# --- plots

NOTICE = "SIMULATED: these ratings come from model observers, not from people"
ODD = ("_hidden", "$x^{$", "<script>&amp;", "\u5317\u4eac\n\t", "a" * 300, "%s {0}")


def drawn(notice: str = "", names: tuple[str, ...] = ()) -> list[Figure]:
    ratings = study(readers=len(names) or 3, cases=36)
    if names:
        ratings = Ratings(
            ratings.score, ratings.truth, ratings.patient, names[:2], names, ratings.cases, ratings.patients
        )
    bands = [band(ratings, name, replicates=20) for name in ratings.treatments]
    value = EmpiricalAUC().values(ratings)
    rows = [
        plots.Row(f"{ratings.treatments[0]}: one", 0.1, -0.2, 0.4),
        plots.Row("none", 0.2, math.nan, math.nan, strong=False),
    ]
    return [
        plots.draw_curves(ratings, bands, ratings.treatments[0], notice),
        plots.draw_forest(rows, ratings.treatments[0], "AUC", 0.0, (-0.05, 0.05), notice),
        plots.draw_forest(rows, "above", "AUC", None, (-0.05, math.inf), notice),
        plots.draw_forest([], "nothing", "AUC", notice=notice),
        plots.draw_readers(
            value, np.full(value.shape, np.nan), ratings.treatments, ratings.readers, "r", "AUC", notice
        ),
    ]


def test_every_panel_of_simulated_readers_says_so_and_no_other() -> None:
    for figure in drawn(NOTICE):
        panels = [axes for axes in figure.axes if axes.axison]
        assert panels
        assert all("SIMULATED" in [text.get_text() for text in axes.texts] for axes in panels)
        assert "SIMULATED" in figure.get_suptitle()
        assert "model observers" in figure.get_supxlabel().replace("\n", " ")
    for figure in drawn():
        words = [
            figure.get_suptitle(),
            figure.get_supxlabel(),
            *(t.get_text() for a in figure.axes for t in a.texts),
        ]
        assert not any("SIMULATED" in text for text in words)


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_plots_of_odd_names_are_written(tmp_path: Path, kind: str) -> None:
    for i, figure in enumerate(drawn(names=ODD)):
        path = tmp_path / f"{i}.{kind}"
        plots.save(figure, path)
        assert path.stat().st_size > 2000
    labels = (
        plots.draw_readers(np.ones((1, 6)), np.ones((1, 6)), ("t",), ODD, "r", "AUC").axes[0].get_legend()
    )
    assert labels is not None
    assert len(labels.get_texts()) == len(ODD) + 1  # none is left out for its underscore


def test_svg_fetches_and_runs_nothing_and_is_the_same_again() -> None:
    first, again = (plots.encoded(drawn(NOTICE)[0], "svg") for _ in range(2))
    assert first == again
    text = first.decode()
    assert not re.search(r"<script|<foreignObject|javascript:|\son\w+=", text)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', text))
    assert "url(http" not in text


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.svg, \.pdf or \.png"):
        plots.save(Figure(), tmp_path / "plot.bmp")
    with pytest.raises(InputError, match="no curve"):
        plots.draw_curves(study(), [], "nothing")


def test_forest_shades_the_region_of_the_claim() -> None:
    figure = plots.draw_forest([plots.Row("a", 0.01, -0.02, 0.04)], "t", "x", None, (-0.05, 0.05))
    assert {line.get_solid_capstyle() for line in figure.axes[0].lines} == {
        "butt"
    }  # none looks longer than it is
    spans = [patch.get_extents() for patch in figure.axes[0].patches]
    edges = [figure.axes[0].transData.inverted().transform(box)[:, 0] for box in spans]
    assert any(edge == pytest.approx([-0.05, 0.05]) for edge in edges)


def test_binormal_areas_of_curves_are_those_of_the_figure_of_merit() -> None:
    ratings = study()
    values = BinormalAUC().values(ratings)
    for cell, curve in curves(ratings, "binormal").items():
        assert curve.area == pytest.approx(values[cell], abs=1e-4)
