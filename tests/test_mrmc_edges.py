"""The reader study's awkward cases: an answer or a warning that says what is the matter, never a traceback."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from scanward.errors import InputError, ScanwardError, SettingsError
from scanward.reading.mrmc.binary import Sensitivity, Specificity
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.dbm import dbm
from scanward.reading.mrmc.designs import DESIGNS, design_of
from scanward.reading.mrmc.doubts import FEW_READERS
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.inference import chi2_test, f_test, interval, satterthwaite
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Covariance, Estimates, Random

METHODS = (Covariance.JACKKNIFE, Covariance.DELONG, Covariance.UNBIASED)


def ratings_of(score: object, positives: int, patient: object = None) -> Ratings:
    """Ratings whose first cases are positive."""
    scores = np.asarray(score, dtype=float)
    t, r, c = scores.shape
    owners = np.arange(c) if patient is None else np.asarray(patient, dtype=np.intp)
    return Ratings(
        score=scores,
        truth=np.arange(c) < positives,
        patient=owners,
        treatments=tuple("ABCDEFGH"[:t]),
        readers=tuple(f"R{j + 1}" for j in range(r)),
        cases=tuple(f"C{k}" for k in range(c)),
        patients=tuple(f"P{p}" for p in range(int(owners.max()) + 1)),
    )


def study(t: int = 2, r: int = 5, n1: int = 12, n0: int = 15, seed: int = 0) -> Ratings:
    rng = np.random.default_rng(seed)
    case = rng.normal(size=n1 + n0)
    reader = 0.3 * rng.normal(size=(t, r, 1)) * (np.arange(n1 + n0) < n1)
    score = case + reader + rng.normal(size=(t, r, n1 + n0)) + 1.3 * (np.arange(n1 + n0) < n1)
    return ratings_of(score, n1)


def analyse(
    ratings: Ratings, random: Random = Random.BOTH, method: Covariance = Covariance.JACKKNIFE
) -> Analysis:
    return obuchowski_rockette(estimate(ratings, EmpiricalAUC(), method), random)


def said(found: Analysis, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in found.warnings)


def test_a_sound_study_brings_no_warnings() -> None:
    for random in Random:
        for method in METHODS:
            assert analyse(study(), random, method).warnings == ()
        assert dbm(study(), EmpiricalAUC(), random).warnings == ()


# --- readers


@pytest.mark.parametrize("readers", range(2, 8))
def test_few_readers_bring_a_warning_where_readers_are_random(readers: int) -> None:
    ratings = study(r=readers)
    for random in Random:
        for found in (analyse(ratings, random), dbm(ratings, EmpiricalAUC(), random)):
            few = said(found, f"{readers} readers are few", "at least 5")
            assert few is (readers < FEW_READERS and random is not Random.CASES)
            assert found.overall is not None
            assert np.isfinite(found.overall.p)


def test_one_reader_is_no_sample_of_readers() -> None:
    ratings = study(r=1)
    for random in (Random.BOTH, Random.READERS):
        for found in (analyse(ratings, random), dbm(ratings, EmpiricalAUC(), random)):
            assert said(found, "one reader", "fixed")
            assert found.overall is not None
            assert np.isnan(found.overall.p)
            for one in (*found.differences, *found.treatments):
                assert np.isfinite(one.estimate)
                assert np.isnan([one.se, one.low, one.high, one.p]).all()
            json.dumps(found.as_json(), allow_nan=False)
    for found in (analyse(ratings, Random.CASES), dbm(ratings, EmpiricalAUC(), Random.CASES)):
        assert found.warnings == ()
        assert found.overall is not None
        assert 0 < found.overall.p < 1
        assert found.differences[0].se > 0
        assert [x.of for x in found.by_reader] == ["R1: A - B"]
    assert {"Cov2", "Cov3", "MS(TR)", "Var(TR)"}.isdisjoint(analyse(ratings, Random.CASES).components)


def test_one_reader_and_one_treatment() -> None:
    ratings = study(t=1, r=1)
    found = analyse(ratings, Random.CASES)
    assert (found.overall, found.differences) == (None, ())
    assert found.treatments[0].null == 0.5
    variance = estimate(ratings, EmpiricalAUC()).covariance[0, 0, 0, 0]
    assert found.treatments[0].se == pytest.approx(variance**0.5)
    assert [x.of for x in found.by_reader] == ["R1: A"]
    assert found.by_reader[0].se == found.treatments[0].se
    assert "error term" not in found.components


# --- cells without variance


def test_areas_of_one_in_all_cells() -> None:
    ratings = ratings_of(np.tile([5.0, 4, 5, 4, 1, 2, 1, 3], (2, 5, 1)), 4)
    for method in METHODS:
        for random in Random:
            found = analyse(ratings, random, method)
            assert [x.estimate for x in found.treatments] == [1.0, 1.0]
            assert [(x.se, x.low, x.high) for x in found.treatments] == [(0.0, 1.0, 1.0)] * 2
            one = found.differences[0]
            assert (one.estimate, one.se, one.low, one.high) == (0.0, 0.0, 0.0, 0.0)
            assert np.isnan(one.p)
            assert said(found, "error term is 0")
            assert said(found, "no variance", "R1 under A (1)", "R5 under B (1)") is (
                random is not Random.READERS
            )
            json.dumps(found.as_json(), allow_nan=False)
    for random in Random:
        assert said(dbm(ratings, EmpiricalAUC(), random), "error term is 0")


def test_one_perfect_reader_is_named_and_counted() -> None:
    ratings = study()
    score = ratings.score.copy()
    score[1, 2] = np.where(ratings.truth, 9.0, 1.0)
    for method in METHODS:
        found = analyse(replace(ratings, score=score), method=method)
        assert said(found, "no variance", "R3 under B (1)")
        assert not said(found, "R2 under B")
        assert np.isfinite(found.differences[0].p)


@pytest.mark.parametrize("method", METHODS)
def test_a_reader_with_one_rating_for_everything_guesses(method: Covariance) -> None:
    ratings = study()
    score = ratings.score.copy()
    score[0, 1] = 3.0
    changed = replace(ratings, score=score)
    found = estimate(changed, EmpiricalAUC(), method)
    assert found.value[0, 1] == 0.5
    assert found.covariance[0, 1] == pytest.approx(np.zeros((2, 5)), abs=1e-17)
    analysis = obuchowski_rockette(found)
    assert said(analysis, "one constant rating", "R2 under A (0.5)")
    assert np.isfinite(analysis.differences[0].p)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("positives", "negatives"), [(1, 9), (9, 1), (1, 1)])
def test_one_case_of_a_class_has_an_area_and_no_variance(
    positives: int, negatives: int, method: Covariance
) -> None:
    ratings = study(n1=positives, n0=negatives)
    found = estimate(ratings, EmpiricalAUC(), method)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.covariance).all()
    for random in (Random.BOTH, Random.CASES):
        analysis = obuchowski_rockette(found, random)
        assert said(analysis, "cannot be estimated", "R1 under A")
        assert np.isnan(analysis.differences[0].p)
        json.dumps(analysis.as_json(), allow_nan=False)
    fixed = obuchowski_rockette(found, Random.READERS)  # which asks nothing of the cases
    assert fixed.warnings == ()
    assert np.isfinite(fixed.differences[0].p)
    with pytest.raises(InputError, match="without some patient"):
        dbm(ratings, EmpiricalAUC())


def test_one_positive_is_no_matter_for_specificity() -> None:
    ratings = study(n1=1)
    for method in METHODS:
        found = estimate(ratings, Specificity(0.5), method)
        assert (np.einsum("ijij->ij", found.covariance) > 0).all()
        assert not said(obuchowski_rockette(found, Random.CASES), "variance")
        assert np.isnan(obuchowski_rockette(found).treatments[0].p)  # nobody says what a guess would be
    assert np.isfinite(dbm(ratings, Specificity(0.5)).differences[0].p)
    assert np.isnan(estimate(ratings, Sensitivity(0.5)).covariance).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_patient_who_has_all_positives_leaves_no_jackknife(method: Covariance) -> None:
    """Three positives, all of one patient: only between patients can be learned what patients vary."""
    score = study(r=2, n1=3, n0=9).score
    found = estimate(ratings_of(score, 3, [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), EmpiricalAUC(), method)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.covariance).all()


# --- Cov2 below Cov3


def test_cov2_below_cov3_is_told_and_counts_as_equal() -> None:
    covariance = np.full((2, 5, 2, 5), 0.004)
    for i in range(2):
        covariance[i, :, i, :] = 0.003
        for j in range(5):
            covariance[i, j, 1 - i, j] = 0.005
            covariance[i, j, i, j] = 0.01
    estimates = replace(estimate(study(), EmpiricalAUC()), covariance=covariance)
    found = obuchowski_rockette(estimates)
    assert said(found, "Cov2 (0.003) is below Cov3 (0.004)", "max(Cov2 - Cov3, 0) = 0")
    assert found.components["error term"] == found.components["MS(TR)"]
    assert found.components["df(error term)"] == pytest.approx(4)
    fixed = obuchowski_rockette(estimates, Random.CASES)
    assert said(fixed, "below Cov3")
    assert fixed.components["error term"] == pytest.approx(0.01 - 0.005)
    assert obuchowski_rockette(estimates, Random.READERS).warnings == ()
    equal = np.where(covariance == 0.003, 0.004, covariance)
    assert obuchowski_rockette(replace(estimates, covariance=equal)).warnings == ()


def test_a_negative_cov2_of_a_treatment_is_told_and_counts_as_none() -> None:
    covariance = np.full((2, 5, 2, 5), -0.001)
    for i in range(2):
        covariance[i, :, i, :] = (-0.0005, 0.002)[i]
        for j in range(5):
            covariance[i, j, i, j] = 0.01
    found = obuchowski_rockette(replace(estimate(study(), EmpiricalAUC()), covariance=covariance))
    assert said(found, "Cov2 of A is negative")
    assert not said(found, "Cov2 of B")
    one = found.treatments[0]
    assert one.se == pytest.approx((found.components["MS(R), treatment A"] / 5) ** 0.5)
    assert one.df == pytest.approx(4)


def test_the_pseudovalues_tell_it_too() -> None:
    """A study in which readers agree across treatments rather than within."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=30)
    score = np.array(
        [[shared, -shared], [-shared, shared]]
    )  # one reader sees under B what the other saw under A
    ratings = ratings_of(score + 0.3 * rng.normal(size=(2, 2, 30)) + 1.0 * (np.arange(30) < 14), 14)
    ours, other = analyse(ratings), dbm(ratings, EmpiricalAUC())
    assert ours.components["Cov2"] < ours.components["Cov3"]
    assert said(ours, "below Cov3")
    assert said(other, "below MS(TRC)")
    assert ours.overall is not None
    assert other.overall is not None
    assert other.overall.value == pytest.approx(ours.overall.value, rel=1e-9)


def test_a_negative_variance_is_told() -> None:
    """The unbiased estimator gives them where areas are near one."""
    ratings = ratings_of([[[2.0, 5, 5, 5, 1, 1, 3, 1]], [[3.0, 5, 5, 5, 1, 1, 3, 1]]], 4)
    found = estimate(ratings, EmpiricalAUC(), Covariance.UNBIASED)
    variance = np.einsum("ijij->ij", found.covariance)
    changed = replace(found, covariance=found.covariance - 2 * variance.max())
    analysis = obuchowski_rockette(changed, Random.CASES)
    assert said(analysis, "estimated negative")
    assert np.isnan(analysis.treatments[0].se)
    json.dumps(analysis.as_json(), allow_nan=False)


# --- missing cells


def test_a_reader_without_a_figure_under_some_treatment_is_left_out() -> None:
    ratings = study(r=6)
    score = ratings.score.copy()
    score[1, 4] = np.nan  # never read under B
    score[0, 5, ratings.truth] = np.nan  # read negatives only under A
    changed = replace(ratings, score=score)
    found = analyse(changed)
    assert said(found, "left out", "R5, R6")
    rest = analyse(ratings.select(readers=["R1", "R2", "R3", "R4"]))
    for what in ("estimate", "se", "df", "p"):
        assert getattr(found.differences[0], what) == pytest.approx(getattr(rest.differences[0], what))
    assert set(found.components) == set(rest.components)
    assert said(found, "4 readers are few")  # counted after
    score[:, :, ratings.truth] = np.nan
    with pytest.raises(InputError, match="no reader with a figure"):
        analyse(replace(ratings, score=score))


def test_holes_make_a_partially_paired_design() -> None:
    ratings = study()
    score = ratings.score.copy()
    score[0, :, :3] = np.nan
    score[1, :2, -4:] = np.nan
    changed = replace(ratings, score=score)
    assert design_of(changed) == "partially paired"
    for method in METHODS:
        found = estimate(changed, EmpiricalAUC(), method)
        assert np.isfinite(found.covariance).all()
        analysis = obuchowski_rockette(found, design="partially paired")
        assert np.isfinite(analysis.differences[0].p)
        assert analysis.design == "partially paired"


def test_designs_by_who_read_what() -> None:
    whole = study(r=2, n1=6, n0=6)
    assert design_of(whole) == "factorial"
    own = whole.score.copy()
    own[:, 0, ::2] = np.nan
    own[:, 1, 1::2] = np.nan
    assert design_of(replace(whole, score=own)) == "cases nested in readers"
    by_treatment = whole.score.copy()
    by_treatment[0, :, ::2] = np.nan
    by_treatment[1, :, 1::2] = np.nan
    assert design_of(replace(whole, score=by_treatment)) == "cases nested in treatments"
    # the same cases, but two of each patient, one for either reader: the readers share patients
    twins = replace(whole, score=own, patient=np.arange(12) // 2, patients=tuple("abcdef"))
    assert design_of(twins) == "partially paired"
    assert set(DESIGNS) == {
        "factorial",
        "cases nested in readers",
        "cases nested in treatments",
        "partially paired",
    }
    nested = estimate(replace(whole, score=own), EmpiricalAUC())
    assert obuchowski_rockette(nested, design="cases nested in readers").components["Cov2"] == 0
    with pytest.raises(SettingsError, match="names of their own"):
        obuchowski_rockette(nested, design="cases nested in treatments")


def test_nested_cases_cost_what_they_should() -> None:
    """Cases nested in readers: nothing is shared, the errors are those of the table alone."""
    whole = study(r=5, n1=20, n0=20)
    score = np.full((2, 5, 200), np.nan)
    for j in range(5):
        score[:, j, 40 * j : 40 * (j + 1)] = whole.score[:, j]
    truth = np.tile(whole.truth, 5)
    nested = replace(ratings_of(score, 100), truth=truth)
    one, other = analyse(whole), analyse(nested)
    assert other.components["MS(TR)"] == pytest.approx(one.components["MS(TR)"])
    assert other.components["Var(error)"] == pytest.approx(one.components["Var(error)"])
    assert other.components["Cov1"] == pytest.approx(one.components["Cov1"])
    assert other.components["error term"] == other.components["MS(TR)"] < one.components["error term"]
    assert one.warnings == other.warnings == ()


# --- whatever comes


@given(
    stn.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 8)),
        elements=st.sampled_from([1.0, 2.0, 3.0, float("nan")]),
    ),
    st.integers(0, 8),
    st.data(),
)
def test_any_ratings_give_an_answer_or_one_of_our_errors(
    score: np.ndarray, positives: int, data: st.DataObject
) -> None:
    cases = score.shape[2]
    patient = data.draw(stn.arrays(np.intp, cases, elements=st.integers(0, cases - 1)))
    ratings = ratings_of(score, min(positives, cases), patient)
    merit = data.draw(st.sampled_from([EmpiricalAUC(), Sensitivity(2.0), Specificity(2.0)]))
    random = data.draw(st.sampled_from(list(Random)))
    method = data.draw(st.sampled_from(list(Covariance)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for analysis in (
            lambda: obuchowski_rockette(
                estimate(ratings, merit, method, resamples=5), random, design=design_of(ratings)
            ),
            lambda: dbm(ratings, merit, random),
        ):
            try:
                found = analysis()
            except ScanwardError as error:
                assert error.what  # noqa: PT017
                assert error.todo  # noqa: PT017
                continue
            json.dumps(found.as_json(), allow_nan=False)
            for one in (*found.differences, *found.treatments, *found.by_reader):
                assert np.isnan(one.se) or one.low <= one.estimate <= one.high
                assert np.isnan(one.p) or 0 <= one.p <= 1
                if np.isnan(one.p) and not np.isnan(one.null):
                    assert found.warnings


def test_large_studies_take_seconds() -> None:
    """20 readers, 5 treatments, 5,000 cases. A minute is for the busiest machine; it takes less than one second."""
    rng = np.random.default_rng(0)
    truth = np.arange(5000) < 2500
    score = rng.normal(size=(5, 20, 5000)) + rng.normal(size=5000) + truth
    ratings = ratings_of(score, 2500)
    start = time.monotonic()
    for method in (
        Covariance.JACKKNIFE,
        Covariance.DELONG,
    ):  # the unbiased ones take some 3 s: see the benchmark
        found = analyse(ratings, method=method)
        assert found.overall is not None
        assert found.overall.df1 == 4
    assert time.monotonic() - start < 60


# --- tests and intervals by themselves


def test_tests_and_intervals_against_tables() -> None:
    """Quantiles out of printed tables: t(0.975; 4) = 2.776, chi2(0.95; 3) = 7.815, F(0.95; 2, 10) = 4.103."""
    one = interval("x", 1.0, 4.0, 4.0, level=0.95, null=0.0)
    assert (one.low, one.high) == pytest.approx((1 - 2 * 2.7764451, 1 + 2 * 2.7764451))
    assert one.statistic == 0.5
    normal = interval("x", 1.0, 1.0, float("inf"), level=0.95, null=1.0 - 1.959963985)
    assert normal.p == pytest.approx(0.05)
    assert normal.high - normal.low == pytest.approx(2 * 1.959963985)
    assert f_test(4.102821, 1.0, 2, 10).p == pytest.approx(0.05)
    assert chi2_test(7.814728, 1.0, 3).p == pytest.approx(0.05)
    assert f_test(7.814728 / 3, 1.0, 3, float("inf")).p == pytest.approx(0.05)
    assert satterthwaite(3.0, 2.0, 4.0) == pytest.approx(9.0)
    assert satterthwaite(2.0, 2.0, 4.0) == 4.0


def test_tests_without_an_error() -> None:
    assert (f_test(1.0, 0.0, 1, 4).value, f_test(1.0, 0.0, 1, 4).p) == (float("inf"), 0.0)
    assert np.isnan(f_test(0.0, 0.0, 1, 4).p)
    assert np.isnan(f_test(1.0, -1.0, 1, 4).p)
    assert np.isnan(f_test(1.0, 1.0, 1, float("nan")).p)
    sure = interval("x", 1.0, 0.0, 4.0, level=0.9, null=0.5)
    assert (sure.statistic, sure.p, sure.low, sure.high) == (float("inf"), 0.0, 1.0, 1.0)
    assert np.isnan(interval("x", 1.0, -1.0, 4.0, level=0.9, null=0.5).low)
    assert np.isnan(interval("x", 1.0, 1.0, 4.0, level=0.9, null=None).p)
    assert satterthwaite(1.0, 0.0, 4.0) == float("inf")
    assert np.isnan(satterthwaite(1.0, 1.0, 0.0))


def test_estimates_are_made_by_hand_too() -> None:
    """Somebody else's areas and covariances, as in print: no ratings are needed."""
    made = Estimates(
        merit="area",
        method=Covariance.DELONG,
        treatments=("A", "B"),
        readers=("1", "2", "3"),
        value=np.array([[0.8, 0.85, 0.9], [0.7, 0.8, 0.75]]),
        covariance=np.full((2, 3, 2, 3), 1e-3) + 1e-3 * np.eye(6).reshape(2, 3, 2, 3),
        patients=100,
    )
    found = obuchowski_rockette(made)
    assert found.differences[0].estimate == pytest.approx(0.1)
    assert np.isnan(found.treatments[0].null)  # nothing was said of chance
    assert said(found, "3 readers are few")
