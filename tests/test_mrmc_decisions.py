"""Superiority, non-inferiority, equivalence and Holm: by definition, by interval, by simulation, at the edges."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scanward.errors import InputError
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.decisions import (
    Aim,
    Claim,
    Decision,
    corrected,
    decide,
    equivalence,
    holm,
    limits,
    non_inferiority,
    superiority,
)
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.results import Covariance, Interval
from scanward.reading.mrmc.roe_metz import simulate, structure


def interval(estimate: float, se: float, df: float = 10.0, level: float = 0.95) -> Interval:
    """As an analysis gives it; decisions use estimate, se and df alone."""
    return Interval("modified - genuine", estimate, se, df, math.nan, math.nan, level, 0.0, "t", math.nan)


numbers = st.floats(-0.6, 0.6, allow_nan=False)
spreads = st.floats(1e-4, 0.3)
dfs = st.one_of(st.floats(1.0, 500.0), st.just(math.inf))
alphas = st.sampled_from([0.01, 0.025, 0.05, 0.1])


# --- p and interval say the same


@given(numbers, spreads, dfs, alphas)
def test_equivalence_is_shown_where_the_interval_lies_within(
    estimate: float, se: float, df: float, alpha: float
) -> None:
    found = decide(interval(estimate, se, df), equivalence(-0.1, 0.2, alpha))
    assert found.level == pytest.approx(1 - 2 * alpha)
    inside = min(found.lower + 0.1, 0.2 - found.upper)
    if abs(inside) > 1e-7:  # at the bound itself rounding decides
        assert found.shown == (inside > 0)


@given(numbers, spreads, dfs, alphas)
def test_non_inferiority_is_shown_where_the_lower_end_is_above(
    estimate: float, se: float, df: float, alpha: float
) -> None:
    found = decide(interval(estimate, se, df), non_inferiority(0.05, alpha=alpha))
    assert found.level == pytest.approx(1 - 2 * alpha)
    if abs(found.lower + 0.05) > 1e-7:
        assert found.shown == (found.lower > -0.05)


@given(numbers, spreads, dfs, alphas)
def test_superiority_is_shown_where_the_interval_is_beside_the_null(
    estimate: float, se: float, df: float, alpha: float
) -> None:
    found = decide(interval(estimate, se, df), superiority(0.1, alpha))
    assert found.level == pytest.approx(1 - alpha)
    beside = max(found.lower - 0.1, 0.1 - found.upper)
    if abs(beside) > 1e-7:
        assert found.shown == (beside > 0)


def test_the_published_example_of_superiority() -> None:
    """Van Dyke as printed by OR-DBM MRMC 2.51: difference -0.04380, s.e. 0.02075, df 15.26: p 0.0517."""
    found = decide(interval(-0.04380032, 0.0207486, 15.2597), superiority())
    assert round(found.p, 4) == 0.0517
    assert (round(found.lower, 5), round(found.upper, 5)) == (-0.08796, 0.00036)
    assert not found.shown


def test_equivalence_has_the_larger_of_two_p() -> None:
    found = decide(interval(0.52, 0.01, 7.0), equivalence(0.45, 0.55))
    assert found.p == pytest.approx(stats.t.sf(3.0, 7.0))
    assert decide(interval(0.48, 0.01, 7.0), equivalence(0.45, 0.55)).p == pytest.approx(stats.t.sf(3.0, 7.0))


def test_a_large_p_of_superiority_shows_no_equivalence() -> None:
    """Few readers: nothing is significant, and nothing is shown to be the same."""
    few = interval(0.5, 0.2, 2.0)
    assert decide(few, superiority(0.5)).p > 0.99
    assert not decide(few, equivalence(0.45, 0.55)).shown


# --- the error they promise, by simulation


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        (superiority(0.5), 0.5),
        (non_inferiority(0.05, 0.5), 0.45),
        (equivalence(0.45, 0.55), 0.55),
        (equivalence(0.45, 0.55), 0.45),
    ],
)
def test_type_one_error_is_alpha(claim: Claim, truth: float) -> None:
    rng = np.random.default_rng(3)
    sd, df, count = 0.01, 6.0, 4000
    shown = sum(
        decide(interval(truth + sd * z, sd * math.sqrt(chi2 / df), df), claim).shown
        for z, chi2 in zip(rng.standard_normal(count), rng.chisquare(df, count), strict=True)
    )
    assert shown / count == pytest.approx(0.05, abs=0.012)  # 3.5 standard errors


@pytest.mark.parametrize("variance", [0.0, 0.0055])
def test_an_area_at_the_bound_is_seldom_called_equivalent(variance: float) -> None:
    """The whole way, from ratings to claim: the mean area is 0.55. Alpha is 0.05; 0.11 is 3.5 s.e. more."""
    of = replace(structure("LL", 0.702), reader=variance, treatment_reader=variance)
    rng = np.random.default_rng(8)
    shown = 0
    for _ in range(300):
        ratings = simulate(of, [of.separation_for(0.55)], 6, 150, 150, rng)
        analysis = obuchowski_rockette(estimate(ratings, EmpiricalAUC(), Covariance.DELONG))
        shown += decide(analysis.treatments[0], equivalence(0.45, 0.55)).shown
    assert shown / 300 < 0.11


# --- Holm


def test_holm_s_own_arithmetic() -> None:
    """By hand: ordered 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), alphas)
def test_holm_is_the_closed_test_of_bonferroni(p: list[float], alpha: float) -> None:
    """A claim holds where every set of claims it is in has a p of at most alpha / size: the definition, walked."""
    found = holm(p)
    for index in range(len(p)):
        closed = all(
            min(p[i] for i in chosen) * len(chosen) <= alpha
            for size in range(1, len(p) + 1)
            for chosen in itertools.combinations(range(len(p)), size)
            if index in chosen
        )
        if abs(found[index] - alpha) > 1e-12:
            assert (found[index] <= alpha) == closed


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_lies_between_p_and_bonferroni(p: list[float]) -> None:
    for raw, adjusted in zip(p, holm(p), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(p)) + 1e-12


def test_what_could_not_be_tested_counts_as_one() -> None:
    assert holm([math.nan, 0.02]) == [1.0, 0.04]


def test_p_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="p value"):
        holm([0.5, 1.2])


def decided(p_like: float, *, primary: bool = True, alpha: float = 0.05) -> Decision:
    """A decision of superiority whose p is ``p_like``."""
    z = float(stats.norm.isf(p_like / 2))
    return decide(interval(z * 0.01, 0.01, math.inf), superiority(0.0, alpha, primary=primary))


def test_two_primary_endpoints_are_corrected_and_others_are_not() -> None:
    found = corrected([decided(0.03), decided(0.04), decided(0.03, primary=False)])
    assert [one.shown for one in found] == [False, False, True]
    assert [one.adjusted_p for one in found[:2]] == pytest.approx([0.06, 0.06])
    assert found[2].adjusted_p is None
    assert [one.shown for one in corrected([decided(0.02), decided(0.04)])] == [True, True]
    assert corrected([decided(0.04)])[0].adjusted_p == pytest.approx(0.04)


def test_an_untested_primary_endpoint_stays_in_the_family() -> None:
    assert corrected([decided(0.03)])[0].shown
    assert not corrected([decided(0.03)], untested=1)[0].shown


def test_a_family_has_one_alpha() -> None:
    with pytest.raises(InputError, match="alpha"):
        corrected([decided(0.03), decided(0.03, alpha=0.025)])


# --- edges


def test_an_estimate_without_spread_shows_what_it_shows() -> None:
    assert decide(interval(0.5, 0.0), equivalence(0.45, 0.55)).shown
    assert not decide(interval(0.56, 0.0), equivalence(0.45, 0.55)).shown
    assert not decide(interval(0.55, 0.0), equivalence(0.45, 0.55)).shown  # on the bound is not inside
    assert decide(interval(0.1, 0.0), superiority()).p == 0.0
    assert decide(interval(0.0, 0.0), superiority()).p == 1.0
    assert limits(interval(0.3, 0.0, math.nan), 0.9) == (0.3, 0.3)


@pytest.mark.parametrize("claim", [superiority(), non_inferiority(0.05), equivalence(-0.05, 0.05)])
@pytest.mark.parametrize(("se", "df"), [(math.nan, 10.0), (0.01, math.nan)])
def test_without_a_standard_error_nothing_is_shown(claim: Claim, se: float, df: float) -> None:
    found = decide(interval(0.0, se, df), claim)
    assert math.isnan(found.p)
    assert not found.shown
    assert not corrected([found])[0].shown
    assert found.as_json()["p"] is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: equivalence(0.55, 0.45),
        lambda: equivalence(0.5, 0.5),
        lambda: equivalence(math.nan, 0.5),
        lambda: non_inferiority(0.0),
        lambda: non_inferiority(-0.05),
        lambda: non_inferiority(math.nan),
        lambda: superiority(0.0, 0.0),
        lambda: superiority(0.0, 0.5),
        lambda: Claim(Aim.SUPERIORITY, 0.0, 0.1),
        lambda: limits(interval(0, 1), 1.0),
    ],
)
def test_claims_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


def test_words_say_what_is_shown() -> None:
    found = decide(interval(0.5, 0.01), equivalence(0.45, 0.55), endpoint="manipulation", by="OR")
    assert found.words == "equivalence shown: modified - genuine between 0.45 and 0.55"
    assert replace(found, shown=False).words.startswith("equivalence not shown")
    plain = decide(interval(0.0, 0.01), non_inferiority(0.05)).as_json()
    assert plain["high"] is None  # infinity
    assert plain["words"] == "non-inferiority shown: modified - genuine above -0.05"
