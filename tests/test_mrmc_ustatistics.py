"""The one-shot U-statistic analysis: against iMRMC's print-out, brute force, the other methods, and simulated truth."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scanward.config import MrmcBounds
from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc import kernels
from scanward.reading.mrmc import moments as moments_module
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.inference import interval
from scanward.reading.mrmc.moments import moments
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings, dense
from scanward.reading.mrmc.results import Analysis, Covariance, Interval, Random
from scanward.reading.mrmc.ustatistics import one_shot

Floats = NDArray[np.float64]


def study(score: Floats, truth: object, patient: object = None) -> Ratings:
    """Ratings with names made up."""
    given_truth = np.asarray(truth, dtype=bool)
    owner = np.arange(len(given_truth)) if patient is None else np.asarray(patient)
    treatments, readers, cases = score.shape
    return Ratings(
        score=score.astype(np.float64),
        truth=given_truth,
        patient=owner.astype(np.intp),
        treatments=tuple(f"T{t}" for t in range(treatments)),
        readers=tuple(f"R{r}" for r in range(readers)),
        cases=tuple(f"C{c}" for c in range(cases)),
        patients=tuple(f"P{p}" for p in range(int(owner.max()) + 1)),
    )


def scattered(
    rng: np.random.Generator, treatments: int, readers: int, patient: NDArray[np.intp], missing: float
) -> Ratings:
    """Few levels, so that there are ties; some ratings missing; at least two cases of each kind."""
    truth = rng.random(len(patient)) < 0.5
    truth[:4] = [True, True, False, False]
    score = rng.integers(0, 4, (treatments, readers, len(patient))) + 1.0 * truth
    score[rng.random(score.shape) < missing] = np.nan
    return study(score, truth, np.unique(patient, return_inverse=True)[1])


def published(folder: Path) -> tuple[Ratings, dict[str, list[str]]]:
    with (folder / "mrmc" / "iMRMC_input.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "mrmc" / "iMRMC_input_published_Ustat.csv").open(encoding="utf-8") as file:
        printed = {row[0]: row[1:] for row in csv.reader(file)}
    ratings = dense(
        [r["reader"] for r in rows],
        [r["treatment"] for r in rows],
        [r["case"] for r in rows],
        [int(r["truth"]) for r in rows],
        [float(r["rating"]) for r in rows],
    )
    return ratings, printed


def same_digits(found: float, printed: str) -> bool:
    """iMRMC prints nine significant digits."""
    return float(f"{found:.9g}") == float(printed)


@pytest.mark.parametrize("column", range(3))
def test_every_printed_digit_of_imrmc(shared_data: Path, column: int) -> None:
    ratings, printed = published(shared_data)
    name = ["testA", "testB", "testA - testB"][column]

    def row(what: str) -> str:
        return printed[what][column]

    def shown(analysis: Analysis) -> Interval:
        found = (*analysis.treatments, *analysis.differences)[column]
        assert found.of == name
        return found

    exact = one_shot(ratings)
    difference = column == 2
    assert same_digits(shown(exact).estimate, row("AUCAminusAUCB" if difference else "AUCA"))
    if difference:
        assert same_digits(exact.treatments[0].estimate, row("AUCA"))
        assert same_digits(exact.treatments[1].estimate, row("AUCB"))
        assert same_digits(exact.components["Var[testA - testB]"], row("varAUCAminusAUCB"))
        assert same_digits(exact.components["Var[testB]"], row("varAUCB"))
        assert same_digits(exact.components["Var[testA]"], row("varAUCA"))
    else:
        assert same_digits(exact.components[f"Var[{name}]"], row("varAUCA"))
    for df, suffix in (("BDG", "BDG"), ("hillis", "Hillis"), ("normal", "normal")):
        found = shown(one_shot(ratings, df=df, whole_df=True))
        if df != "normal":
            assert same_digits(exact.components[f"df{suffix}[{name}]"], row(f"df{suffix}"))
        assert same_digits(found.p, row("pValueNormal" if df == "normal" else f"pValue{suffix}"))
        assert same_digits(found.low, row(f"botCI{suffix}"))
        assert same_digits(found.high, row(f"topCI{suffix}"))
        assert (found.p < 0.05) == bool(
            float(row(f"reject{suffix.capitalize() if df == 'normal' else suffix}"))
        )


def test_published_summary(shared_data: Path) -> None:
    ratings, _ = published(shared_data)
    told = json.loads((shared_data / "mrmc" / "published_results.json").read_text("utf-8"))
    told = told["iMRMC_input"]["U_statistic_one_shot_BDG"]
    normal, bdg = (one_shot(ratings, df=df, whole_df=True) for df in ("normal", "BDG"))
    for treatment in bdg.treatments:
        assert round(treatment.estimate, 6) == told["auc"][treatment.of]
        assert round(treatment.se**2, 6) == told["var"][treatment.of]
    assert round(bdg.differences[0].estimate, 6) == told["diff_A_minus_B"]
    assert round(bdg.differences[0].se ** 2, 5) == told["var_diff"]
    assert round(normal.differences[0].p, 6) == told["p_normal"]
    assert round(bdg.differences[0].p, 6) == told["p_BDG"]
    ends = [round(e, 6) for e in (bdg.differences[0].low, bdg.differences[0].high)]
    assert ends == told["ci_BDG"]
    assert round(bdg.components["dfBDG[testA - testB]"], 5) == told["df_BDG"]
    assert round(bdg.components["dfHillis[testA - testB]"], 6) == told["df_Hillis"]


@pytest.mark.parametrize(
    ("estimate", "variance", "null", "df", "p", "low", "high"),
    [  # iMRMC's print-out of its example: testA, testB, their difference; degrees of freedom cut, or normal
        (0.704375, 0.00631393024, 0.5, 6, 0.0422189226, 0.509942789, 0.898807211),
        (0.7585, 0.00237205276, 0.5, 27, 1.33400151e-05, 0.658568212, 0.858431788),
        (0.7585, 0.00237205276, 0.5, 35, 6.32063244e-06, 0.659626183, 0.857373817),
        (-0.054125, 0.00498950905, 0.0, 7, 0.468575984, -0.221153679, 0.112903679),
        (-0.054125, 0.00498950905, 0.0, math.inf, 0.443529122, -0.192569912, 0.0843199116),
    ],
)
def test_intervals_from_imrmcs_printed_variances(
    estimate: float, variance: float, null: float, df: float, p: float, low: float, high: float
) -> None:
    found = interval("printed", estimate, variance, df, level=0.95, null=null)
    assert (found.p, found.low, found.high) == pytest.approx(
        (p, low, high), rel=2e-8
    )  # of nine printed digits


def test_van_dyke_has_the_variance_printed_for_unbiased_covariances(shared_data: Path) -> None:
    # printed by MRMCaov (R), which has the unbiased covariances but no one-shot analysis
    with (shared_data / "mrmc" / "VanDyke.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ratings = dense(
        [r["reader"] for r in rows],
        [r["treatment"] for r in rows],
        [r["case"] for r in rows],
        [int(r["truth"]) for r in rows],
        [float(r["rating"]) for r in rows],
    )
    told = json.loads((shared_data / "mrmc" / "published_results.json").read_text("utf-8"))["VanDyke"]
    found = one_shot(ratings, df="hillis").differences[0]
    assert round(found.se, 8) == told["unbiased_Ustat"]["se"]
    assert round(found.df, 5) == told["unbiased_Ustat"]["df2"]
    assert [round(e, 10) for e in (found.low, found.high)] == told["unbiased_Ustat"]["ci"]


def test_kundel_where_treatments_have_other_patients(shared_data: Path) -> None:
    with (shared_data / "mrmc" / "Kundel.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ratings = dense(
        [r["reader"] for r in rows],
        [r["treatment"] for r in rows],
        [r["case"] for r in rows],
        [int(r["truth"]) for r in rows],
        [float(r["rating"]) for r in rows],
    )
    assert not ratings.fully_crossed
    found = one_shot(ratings)
    assert len(found.differences) == 3
    for one in (*found.treatments, *found.differences):
        assert one.se > 0
        assert one.low < one.estimate < one.high
        assert 0 <= one.p <= 1
    # screen-film patients are others than the CR patients, who are the same twice: that difference is far more exact
    assert found.differences[2].se < 0.5 * min(found.differences[0].se, found.differences[1].se)
    with pytest.raises(SettingsError, match="fully crossed"):
        one_shot(ratings, df="hillis")


# --- against the definitions, pair of pairs by pair of pairs


def pairs_of(x: Ratings, t: int) -> list[tuple[int, int, int, float]]:
    """(reader, patient of the negative, patient of the positive, psi) of all pairs read under a treatment."""
    found = []
    for r, j, i in itertools.product(
        range(len(x.readers)), np.flatnonzero(x.truth), np.flatnonzero(~x.truth)
    ):
        gap = x.score[t, r, j] - x.score[t, r, i]
        if not math.isnan(gap):
            psi = 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0
            found.append((r, int(x.patient[i]), int(x.patient[j]), psi))
    return found


def by_definition(x: Ratings) -> tuple[Floats, Floats]:
    """AUC and covariances as the module's docstring defines them."""
    pairs = [pairs_of(x, t) for t in range(len(x.treatments))]
    auc = np.array([np.mean([p[3] for p in each]) for each in pairs])
    within = [np.mean([p[1] == p[2] for p in each]) for each in pairs]
    covariance = np.zeros((len(pairs), len(pairs)))
    for t, u in np.ndindex(covariance.shape):
        products: dict[tuple[bool, bool], list[float]] = {}
        for a, b in itertools.product(pairs[t], pairs[u]):
            if a[0] != b[0] and not {a[1], a[2]} & {b[1], b[2]}:
                products.setdefault((a[1] == a[2], b[1] == b[2]), []).append(a[3] * b[3])
        expected = 0.0
        for inside in itertools.product((False, True), repeat=2):
            share = math.prod(
                float(w if i else 1 - w) for w, i in zip((within[t], within[u]), inside, strict=True)
            )
            if share and inside in products:
                expected += share * float(np.mean(products[inside]))
            elif share:  # one patient alone has pairs inside
                mean = {i: float(np.mean(p)) for i, p in products.items()}
                expected += share * mean[False, True] * mean[True, False] / mean[False, False]
        covariance[t, u] = auc[t] * auc[u] - expected
    return auc, covariance


def eight_moments(x: Ratings, t: int, u: int) -> tuple[Floats, Floats]:
    """M1..M8 and the shares of their classes, of unclustered cases."""
    products: list[list[float]] = [[] for _ in range(8)]
    for a, b in itertools.product(pairs_of(x, t), pairs_of(x, u)):
        same_positive, same_negative = a[2] == b[2], a[1] == b[1]
        kind = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        products[kind[same_positive, same_negative] + (0 if a[0] == b[0] else 4)].append(a[3] * b[3])
    total = sum(len(p) for p in products)
    return np.array([np.mean(p) for p in products]), np.array([len(p) / total for p in products])


CLUSTERS = {
    "none": lambda n, rng: np.arange(n),
    "two each": lambda n, rng: np.arange(n) // 2,
    "at random": lambda n, rng: rng.integers(0, n // 2, n),
}


@pytest.mark.parametrize("clusters", CLUSTERS)
@pytest.mark.parametrize("missing", [0.0, 0.25])
@pytest.mark.parametrize("block", [1, 1 << 18])
def test_as_defined(clusters: str, missing: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_BLOCK", block)  # one patient at a time, and all at once
    rng = np.random.default_rng([len(clusters), round(100 * missing)])
    x = scattered(rng, 2, 3, CLUSTERS[clusters](14, rng), missing)
    found = moments(x)
    auc, covariance = by_definition(x)
    assert found.auc == pytest.approx(auc, abs=1e-14)
    assert found.covariance == pytest.approx(covariance, abs=1e-14)
    assert found.mixed == (clusters != "none")


@pytest.mark.parametrize("missing", [0.0, 0.25])
def test_eight_moments_as_defined(missing: float) -> None:
    x = scattered(np.random.default_rng(8), 2, 3, np.arange(12), missing)
    found = moments(x)
    for t, u in np.ndindex(2, 2):
        expected, shares = eight_moments(x, t, u)
        assert found.moments[t, u] == pytest.approx(expected, abs=1e-14)
        assert found.coefficients[t, u] == pytest.approx(shares, abs=1e-14)
        covariance = shares @ expected - expected[7]
        assert found.covariance[t, u] == pytest.approx(covariance, abs=1e-14)


def test_patients_of_one_kind_keep_their_eight_moments() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([True, False], 8)
    x = study(rng.normal(size=(2, 3, 16)) + truth, truth, np.arange(16) // 2)
    found = moments(x)
    assert not found.mixed
    assert found.covariance[0, 1] == pytest.approx(
        found.coefficients[0, 1] @ found.moments[0, 1] - found.moments[0, 1, 7], abs=1e-14
    )
    assert found.covariance == pytest.approx(by_definition(x)[1], abs=1e-14)


def test_weights_of_readers() -> None:
    x = scattered(np.random.default_rng(5), 2, 3, np.arange(16), 0.3)
    areas = EmpiricalAUC().values(x)
    assert moments(x, "readers").auc == pytest.approx(areas.mean(axis=1), abs=1e-14)
    assert moments(x).auc != pytest.approx(areas.mean(axis=1), abs=1e-4)
    full = scattered(np.random.default_rng(5), 2, 3, np.arange(16), 0.0)
    assert moments(full, "readers").covariance == pytest.approx(moments(full).covariance, abs=1e-14)


# --- against the other analysis, written by another hand


@pytest.mark.parametrize("seed", range(4))
def test_obuchowski_rockette_with_unbiased_covariances_has_the_same_variances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.repeat([True, False], 20)
    shared = rng.normal(size=(1, 1, 40)) + rng.normal(size=(2, 1, 40)) + rng.normal(size=(2, 4, 1))
    x = study(shared + rng.normal(size=(2, 4, 40)) + 1.5 * truth, truth)
    model = obuchowski_rockette(estimate(x, EmpiricalAUC(), Covariance.UNBIASED))
    assert not any("Cov2" in warning for warning in model.warnings)  # where 0 is taken they differ
    found = one_shot(x, df="hillis")
    for ours, theirs in zip(
        (*found.treatments, *found.differences), (*model.treatments, *model.differences), strict=True
    ):
        assert ours.of == theirs.of
        for field in ("estimate", "se", "df", "low", "high", "statistic", "p"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-9)
    fixed = obuchowski_rockette(estimate(x, EmpiricalAUC(), Covariance.UNBIASED), Random.CASES)
    assert [i.of for i in found.by_reader] == [i.of for i in fixed.by_reader]
    assert found.by_reader[0].se == pytest.approx(fixed.by_reader[0].se, rel=1e-9)


@pytest.mark.parametrize("clusters", ["none", "at random"])
def test_each_reader_has_the_covariances_of_the_other_implementation(clusters: str) -> None:
    rng = np.random.default_rng(12)
    x = scattered(rng, 3, 4, CLUSTERS[clusters](24, rng), 0.2)
    other = estimate(x, EmpiricalAUC(), Covariance.UNBIASED).covariance
    for r, found in enumerate(moments(x).reader_covariance):
        assert found == pytest.approx(other[:, r, :, r], abs=1e-14)


# --- invariances that hold whatever the data


@given(
    seed=st.integers(0, 2**32 - 1),
    treatments=st.integers(1, 3),
    readers=st.integers(1, 4),
    cases=st.integers(4, 12),
    patients=st.integers(1, 12),
    missing=st.sampled_from([0.0, 0.2, 0.6]),
)
def test_any_table_yields_a_result_or_our_error(
    seed: int, treatments: int, readers: int, cases: int, patients: int, missing: float
) -> None:
    rng = np.random.default_rng(seed)
    x = scattered(rng, treatments, readers, rng.integers(0, patients, cases), missing)
    try:
        found = one_shot(x)
    except InputError:
        event("refused")
        return
    assert len(found.differences) == treatments * (treatments - 1) // 2
    json.dumps(found.as_json(), allow_nan=False)
    for one in (*found.treatments, *found.differences):
        if not math.isnan(one.low):
            assert one.low <= one.estimate <= one.high
        if math.isnan(one.se) or one.se == 0:
            assert found.warnings  # silence would be a lie
    # what is only ranks must not see the scale; turned round, positives are negatives
    again = one_shot(study(np.exp(x.score), x.truth, x.patient))
    turned = one_shot(study(-x.score, ~x.truth, x.patient))
    for a, b, c in zip(found.treatments, again.treatments, turned.treatments, strict=True):
        assert (a.estimate, a.se) == pytest.approx((b.estimate, b.se), abs=1e-9, nan_ok=True)
        assert a.estimate == pytest.approx(c.estimate, abs=1e-12, nan_ok=True)
        if not math.isnan(a.se) and a.se > 1e-6 and not math.isnan(c.se):
            assert a.se == pytest.approx(c.se, rel=1e-6)


def test_order_of_readers_and_cases_is_nothing() -> None:
    rng = np.random.default_rng(2)
    x = scattered(rng, 2, 4, np.arange(20) // 2, 0.2)
    readers, cases = rng.permutation(4), rng.permutation(20)
    mixed = study(x.score[:, readers][:, :, cases], x.truth[cases], x.patient[cases])
    assert moments(mixed).covariance == pytest.approx(moments(x).covariance, abs=1e-13)


def test_nothing_shared_is_no_covariance() -> None:
    rng = np.random.default_rng(4)
    truth = np.tile([True, False], 12)
    score = rng.normal(size=(2, 6, 24)) + truth
    score[0, 3:], score[1, :3] = np.nan, np.nan  # other readers
    score[0, :, 12:], score[1, :, :12] = np.nan, np.nan  # and other cases
    found = moments(study(score, truth))
    assert found.covariance[0, 1] == pytest.approx(0.0, abs=1e-15)
    score = rng.normal(size=(2, 6, 24)) + truth
    score[0, 3:], score[1, :3] = np.nan, np.nan  # other readers, the same cases
    shared = one_shot(study(score, truth))
    assert shared.differences[0].se > 0
    assert shared.by_reader == ()


# --- unbiased, by simulation: the mean of the estimates against the spread of the AUC


def clustered_studies(
    rng: np.random.Generator, count: int
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.intp]]:
    """Patients with two or three cases of both kinds whose ratings are much alike: (count, 2, 3, cases)."""
    truth = np.array([1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1], dtype=bool)
    patient = np.array([0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5])
    patients = rng.normal(size=(count, 1, 1, 6))[..., patient]
    readers = rng.normal(size=(count, 1, 3, 2))[..., truth.astype(int)]
    noise = rng.normal(size=(count, 2, 3, 14))
    return 1.2 * patients + 0.4 * readers + 0.7 * noise + 0.9 * truth, truth, patient


def test_unbiased_with_clusters_and_not_without() -> None:
    score, truth, patient = clustered_studies(np.random.default_rng(6), 700)
    found = [moments(study(s, truth, patient)) for s in score]
    blind = np.mean([moments(study(s, truth)).covariance[0, 0] for s in score[:50]])
    auc = np.array([m.auc for m in found])
    mean = np.mean([m.covariance for m in found], axis=0)
    spread = np.cov(auc.T)
    error = np.std([m.covariance[0, 0] for m in found]) / math.sqrt(len(found)) + spread[0, 0] * math.sqrt(
        2 / len(found)
    )
    assert abs(mean[0, 0] - spread[0, 0]) < 3 * error
    assert abs(mean[0, 1] - spread[0, 1]) < 3 * error
    gap = (mean[0, 0] + mean[1, 1] - 2 * mean[0, 1]) / np.var(auc[:, 0] - auc[:, 1], ddof=1)
    assert 0.85 < gap < 1.15
    # taken for patients of their own, the cases look far more independent than they are, or less so
    assert abs(blind - spread[0, 0]) > 3 * error


# --- what has no answer says so


def test_perfect_readers_have_no_variance() -> None:
    truth = np.repeat([True, False], 6)
    found = one_shot(study(np.tile(1.0 * truth, (2, 3, 1)), truth))
    assert [t.estimate for t in found.treatments] == [1.0, 1.0]
    assert found.differences[0].estimate == 0
    assert math.isnan(found.differences[0].p)
    assert found.overall is None
    assert any("not positive" in warning for warning in found.warnings)


def test_one_reader_speaks_of_himself() -> None:
    x = scattered(np.random.default_rng(7), 2, 1, np.arange(30), 0.0)
    found = one_shot(x)
    assert found.random is Random.CASES
    assert found.differences[0].df == math.inf
    assert any("one reader" in warning for warning in found.warnings)
    reader = estimate(x, EmpiricalAUC(), Covariance.UNBIASED).covariance[:, 0, :, 0]
    variance = reader[0, 0] + reader[1, 1] - 2 * reader[0, 1]
    assert found.differences[0].se ** 2 == pytest.approx(variance, rel=1e-9)


def test_few_readers_and_few_cases_are_told() -> None:
    found = one_shot(scattered(np.random.default_rng(7), 2, 3, np.arange(30), 0.0))
    assert any("readers" in warning for warning in found.warnings)
    truth = np.array([True, False, False, False])
    alone = one_shot(study(np.random.default_rng(1).normal(size=(2, 3, 4)), truth))
    assert math.isnan(alone.differences[0].se)
    assert any("too few" in warning for warning in alone.warnings)


def test_degrees_of_freedom_are_at_least_two() -> None:
    rng = np.random.default_rng(9)
    truth = np.repeat([True, False], 60)
    x = study(rng.normal(size=(1, 2, 120)) + truth + truth * np.array([[[0.0], [1.5]]]), truth)
    found = one_shot(x)
    assert found.components["dfBDG[T0]"] == 2.0
    assert found.components["dfHillis[T0]"] == pytest.approx(1.0, abs=0.2)


def test_three_treatments_at_once() -> None:
    x = scattered(np.random.default_rng(11), 3, 6, np.arange(60), 0.0)
    found = one_shot(x)
    assert found.overall is not None
    fewest = min(i.df for i in found.differences)
    assert (found.overall.df1, found.overall.df2) == (2, pytest.approx(fewest - 1))
    m = moments(x)
    contrast = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])  # any contrasts give the same
    gaps = contrast @ m.auc
    squared = gaps @ np.linalg.inv(contrast @ m.covariance @ contrast.T) @ gaps
    assert found.overall.value == pytest.approx(squared * (fewest - 1) / (2 * fewest), rel=1e-9)
    whole = one_shot(x, whole_df=True)
    for cut, exact in zip(whole.differences, found.differences, strict=True):
        assert cut.df == (math.floor(exact.df) if exact.df < 50 else math.inf)
    two = one_shot(x.select(treatments=x.treatments[:2]))
    assert two.overall is not None
    assert two.overall.p == pytest.approx(two.differences[0].p, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [({"level": 1.0}, "level"), ({"df": "exact"}, "degrees"), ({"weights": "cases"}, "weights")],
)
def test_settings_that_make_no_sense(change: dict[str, float | str], match: str) -> None:
    x = scattered(np.random.default_rng(1), 2, 3, np.arange(10), 0.0)
    with pytest.raises(SettingsError, match=match):
        one_shot(x, **change)  # type: ignore[arg-type]


def test_cases_of_one_kind() -> None:
    with pytest.raises(InputError, match="one kind"):
        one_shot(study(np.zeros((1, 2, 3)), [True, True, True]))


def test_more_pairs_than_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scattered(np.random.default_rng(1), 2, 3, np.arange(10), 0.0)
    pairs = 6 * int(x.truth.sum()) * int((~x.truth).sum())
    bounds = dataclasses.replace(MrmcBounds(), pairs=pairs)
    monkeypatch.setattr(moments_module, "MRMC_BOUNDS", bounds)
    one_shot(x)
    monkeypatch.setattr(moments_module, "MRMC_BOUNDS", dataclasses.replace(bounds, pairs=pairs - 1))
    with pytest.raises(InputError, match="pairs"):
        one_shot(x)
