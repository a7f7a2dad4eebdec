"""Areas and covariances against definitions written out in loops, in every design, and against simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from scanward.errors import SettingsError
from scanward.reading.mrmc.binary import Sensitivity, Specificity
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.empirical import EmpiricalAUC, pairs_within
from scanward.reading.mrmc.merit import Merit
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Covariance
from scanward.reading.mrmc.structured import Structured

JACKKNIFE, DELONG, UNBIASED, BOOTSTRAP = (
    Covariance.JACKKNIFE,
    Covariance.DELONG,
    Covariance.UNBIASED,
    Covariance.BOOTSTRAP,
)
Cell = tuple[int, int]


def ratings_of(score: np.ndarray, truth: np.ndarray, patient: np.ndarray | None = None) -> Ratings:
    t, r, c = score.shape
    patient = np.arange(c) if patient is None else patient
    return Ratings(
        score=score.astype(float),
        truth=truth.astype(bool),
        patient=patient.astype(np.intp),
        treatments=tuple(f"T{i}" for i in range(t)),
        readers=tuple(f"R{j}" for j in range(r)),
        cases=tuple(f"C{k}" for k in range(c)),
        patients=tuple(f"P{p}" for p in range(int(patient.max(initial=-1)) + 1)),
    )


@st.composite
def studies(draw: st.DrawFn, *, clusters: bool = False, holes: bool = False, side: int = 2) -> Ratings:
    """Small studies with ties; with several cases a patient, of both truths; with ratings that are missing."""
    t, r = draw(st.integers(1, side)), draw(st.integers(1, side))
    n1, n0 = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    cases = n1 + n0
    score = draw(stn.arrays(np.float64, (t, r, cases), elements=st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0])))
    if holes:
        score[draw(stn.arrays(np.bool_, (t, r, cases)))] = np.nan
    truth = np.array(draw(st.permutations([True] * n1 + [False] * n0)))
    patient = np.arange(cases)
    if clusters:
        patient = draw(stn.arrays(np.intp, cases, elements=st.integers(0, 5)))
    return ratings_of(score, truth, patient)


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def pairs(ratings: Ratings, cell: Cell) -> dict[tuple[int, int], float]:
    """psi of every (positive, negative) that a cell read."""
    score, truth = ratings.score[cell], ratings.truth
    read = [k for k in range(len(truth)) if not np.isnan(score[k])]
    return {(i, j): psi(score[i], score[j]) for i in read if truth[i] for j in read if not truth[j]}


def area(ratings: Ratings, cell: Cell) -> float:
    found = pairs(ratings, cell)
    return sum(found.values()) / len(found) if found else float("nan")


def without(ratings: Ratings, patient: int) -> Ratings:
    kept = ratings.patient != patient
    return replace(
        ratings,
        score=ratings.score[:, :, kept],
        truth=ratings.truth[kept],
        patient=ratings.patient[kept],
        cases=tuple(name for name, there in zip(ratings.cases, kept, strict=True) if there),
    )


def patients_of(ratings: Ratings, cell: Cell, truth: bool | None = None) -> set[int]:
    read = ~np.isnan(ratings.score[cell])
    if truth is not None:
        read &= ratings.truth == truth
    return set(ratings.patient[read].tolist())


def factor(one: set[int], two: set[int]) -> float:
    """What the sum of products of deviations is divided by, where cells share some patients only."""
    a, b, s = len(one), len(two), len(one & two)
    return 1 - 1 / a - 1 / b + s / (a * b)


def brute_jackknife(ratings: Ratings, k: Cell, l: Cell) -> float:  # noqa: E741
    pseudo = []
    for cell in (k, l):
        own = patients_of(ratings, cell)
        left = {p: area(without(ratings, p), cell) for p in own}
        mean = sum(left.values()) / len(own)
        pseudo.append({p: (len(own) - 1) * (mean - left[p]) for p in own})
    shared = pseudo[0].keys() & pseudo[1].keys()
    if not shared:
        return 0.0
    total = sum(pseudo[0][p] * pseudo[1][p] for p in shared)
    below = len(pseudo[0]) * len(pseudo[1]) * factor(set(pseudo[0]), set(pseudo[1]))
    return total / below if below > 1e-9 else float("nan")


def brute_delong(ratings: Ratings, k: Cell, l: Cell) -> float:  # noqa: E741
    """Obuchowski 1997, term by term."""
    sums: list[tuple[dict[int, float], dict[int, float], int, int]] = []
    for cell in (k, l):
        all_pairs, a = pairs(ratings, cell), area(ratings, cell)
        positives, negatives = {i for i, _ in all_pairs}, {j for _, j in all_pairs}
        v10 = dict.fromkeys(patients_of(ratings, cell), 0.0)
        v01 = dict(v10)
        for i in positives:
            v10[int(ratings.patient[i])] += sum(all_pairs[i, j] for j in negatives) / len(negatives) - a
        for j in negatives:
            v01[int(ratings.patient[j])] += sum(all_pairs[i, j] for i in positives) / len(positives) - a
        sums.append((v10, v01, len(positives), len(negatives)))
    (k10, k01, k1, k0), (l10, l01, l1, l0) = sums

    def mean_product(
        one: dict[int, float], two: dict[int, float], of: tuple[int, int], who: tuple[set[int], set[int]]
    ) -> float:
        if not who[0] & who[1]:
            return 0.0
        below = of[0] * of[1] * factor(*who)
        return sum(one[p] * two[p] for p in who[0] & who[1]) / below if below > 1e-9 else float("nan")

    ones = patients_of(ratings, k, True), patients_of(ratings, l, True)
    noes = patients_of(ratings, k, False), patients_of(ratings, l, False)
    every = patients_of(ratings, k), patients_of(ratings, l)
    found = mean_product(k10, l10, (k1, l1), ones) + mean_product(k01, l01, (k0, l0), noes)
    if ratings.clustered:
        found += mean_product(k10, l01, (k1, l0), every) + mean_product(k01, l10, (k0, l1), every)
    return found


def brute_unbiased(ratings: Ratings, k: Cell, l: Cell) -> float:  # noqa: E741
    """A_k A_l minus the mean of psi psi over pairs of pairs without a common patient, kinds of pairs apart."""
    if not patients_of(ratings, k) & patients_of(ratings, l):
        return 0.0
    one, two, owner = pairs(ratings, k), pairs(ratings, l), ratings.patient
    total: dict[tuple[bool, bool], float] = {}
    ways: dict[tuple[bool, bool], int] = {}
    wanted: dict[tuple[bool, bool], int] = {}
    for (i, j), a in one.items():
        for (x, y), b in two.items():
            kind = (bool(owner[i] == owner[j]), bool(owner[x] == owner[y]))
            wanted[kind] = wanted.get(kind, 0) + 1
            if {owner[i], owner[j]} & {owner[x], owner[y]}:
                continue
            total[kind] = total.get(kind, 0.0) + a * b
            ways[kind] = ways.get(kind, 0) + 1
    if not ways:
        return float("nan")
    pooled = sum(total.values()) / sum(ways.values())
    mean = sum(n * (total[x] / ways[x] if x in ways else pooled) for x, n in wanted.items())
    return area(ratings, k) * area(ratings, l) - mean / (len(one) * len(two))


BRUTE: dict[Covariance, Callable[[Ratings, Cell, Cell], float]] = {
    JACKKNIFE: brute_jackknife,
    DELONG: brute_delong,
    UNBIASED: brute_unbiased,
}


def against_brute_force(ratings: Ratings, method: Covariance) -> None:
    found = estimate(ratings, EmpiricalAUC(), method)
    shape = ratings.score.shape[:2]
    for k in np.ndindex(shape):
        a = area(ratings, k)
        assert found.value[k] == pytest.approx(a, abs=1e-12, nan_ok=True)
        for l in np.ndindex(shape):  # noqa: E741
            expected = float("nan")
            if not np.isnan(a) and not np.isnan(area(ratings, l)):
                expected = BRUTE[method](ratings, k, l)
            assert found.covariance[(*k, *l)] == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("method", list(BRUTE))
@given(ratings=studies())
def test_factorial_designs_by_brute_force(ratings: Ratings, method: Covariance) -> None:
    against_brute_force(ratings, method)


@pytest.mark.parametrize("method", list(BRUTE))
@given(ratings=studies(holes=True))
def test_missing_ratings_by_brute_force(ratings: Ratings, method: Covariance) -> None:
    against_brute_force(ratings, method)


@pytest.mark.parametrize("method", list(BRUTE))
@settings(max_examples=60)
@given(ratings=studies(clusters=True))
def test_clusters_by_brute_force(ratings: Ratings, method: Covariance) -> None:
    against_brute_force(ratings, method)


@pytest.mark.parametrize("method", list(BRUTE))
@settings(max_examples=60)
@given(ratings=studies(clusters=True, holes=True))
def test_clusters_with_missing_ratings_by_brute_force(ratings: Ratings, method: Covariance) -> None:
    against_brute_force(ratings, method)


@given(studies(clusters=True, holes=True))
def test_the_fast_ways_are_the_general_ones(ratings: Ratings) -> None:
    """`Merit` goes from cell to cell and from patient to patient; the others do it at once."""
    for merit in (EmpiricalAUC(), Sensitivity(3.0), Specificity(3.0)):
        assert merit.values(ratings) == pytest.approx(Merit.values(merit, ratings), abs=1e-12, nan_ok=True)
        fast, slow = merit.leave_one_out(ratings), Merit.leave_one_out(merit, ratings)
        # A cell without a figure has none without a patient either, whom the general way does not try
        assert fast == pytest.approx(slow, abs=1e-12, nan_ok=True)


@given(studies(clusters=True, holes=True))
def test_components_have_the_figure_as_their_mean(ratings: Ratings) -> None:
    merits: tuple[Structured, ...] = (EmpiricalAUC(), Sensitivity(3.0), Specificity(3.0))
    for merit in merits:
        components, value = merit.components(ratings), merit.values(ratings)
        for cell in np.ndindex(value.shape):
            if np.isnan(value[cell]):
                assert np.isnan(components[cell]).all()
                continue
            for truth, used in ((True, merit.uses_positives), (False, merit.uses_negatives)):
                some = components[cell][ratings.truth == truth]
                some = some[~np.isnan(some)]
                assert some.size == (
                    used and np.sum(~np.isnan(ratings.score[cell]) & (ratings.truth == truth))
                )
                if used:
                    assert some.mean() == pytest.approx(value[cell], abs=1e-12)


@given(studies(clusters=True))
def test_pairs_within_patients_are_all_of_them(ratings: Ratings) -> None:
    expected = {
        (i, j)
        for i in range(len(ratings.cases))
        for j in range(len(ratings.cases))
        if ratings.truth[i] and not ratings.truth[j] and ratings.patient[i] == ratings.patient[j]
    }
    one, no = pairs_within(ratings)
    found = list(zip(one.tolist(), no.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == expected


@given(studies(), st.integers(2, 3), st.sampled_from([JACKKNIFE, DELONG, UNBIASED]))
def test_copies_of_a_case_are_no_more_cases(ratings: Ratings, copies: int, method: Covariance) -> None:
    """Every case several times, as one patient: nothing is known that was not known before."""
    score = np.tile(ratings.score, (1, 1, copies))
    many = ratings_of(score, np.tile(ratings.truth, copies), np.tile(ratings.patient, copies))
    one, more = (estimate(x, EmpiricalAUC(), method) for x in (ratings, many))
    assert more.value == pytest.approx(one.value, abs=1e-12)
    assert more.covariance == pytest.approx(one.covariance, rel=1e-9, abs=1e-12, nan_ok=True)
    assert (more.patients, len(many.cases)) == (one.patients, copies * one.patients)


@given(studies(holes=True), st.sampled_from([JACKKNIFE, DELONG, UNBIASED]))
def test_a_covariance_is_symmetric_and_its_cells_are_their_own(ratings: Ratings, method: Covariance) -> None:
    found = estimate(ratings, EmpiricalAUC(), method)
    assert found.covariance == pytest.approx(found.covariance.transpose(2, 3, 0, 1), abs=1e-15, nan_ok=True)
    for i, j in np.ndindex(found.value.shape):
        if not np.isnan(found.value[i, j]):
            alone = ratings.select(treatments=[ratings.treatments[i]], readers=[ratings.readers[j]])
            one = estimate(alone, EmpiricalAUC(), method)
            assert one.value[0, 0] == pytest.approx(found.value[i, j], abs=1e-12)
            assert one.covariance[0, 0, 0, 0] == pytest.approx(
                found.covariance[i, j, i, j], rel=1e-9, abs=1e-12, nan_ok=True
            )


@given(studies(), st.sampled_from([JACKKNIFE, DELONG, UNBIASED]), st.floats(0.5, 5.5))
def test_shares_have_the_covariance_of_means(ratings: Ratings, method: Covariance, cut: float) -> None:
    for merit, score in (
        (Sensitivity(cut), ratings.score[:, :, ratings.truth] >= cut),
        (Specificity(cut), ratings.score[:, :, ~ratings.truth] < cut),
    ):
        found = estimate(ratings, merit, method)
        right = score.reshape(-1, score.shape[2]).astype(float)
        assert found.value.ravel() == pytest.approx(right.mean(axis=1))
        assert found.chance is None
        if right.shape[1] > 1:
            cells = len(right)
            expected = np.cov(right).reshape(cells, cells) / right.shape[1]
            assert found.covariance.reshape(cells, cells) == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(found.covariance).all()


# --- what the estimates are worth: the truth is known from simulating many studies


def simulated(rng: np.random.Generator, *, clustered: bool, holes: bool) -> Ratings:
    """Two cells; of each patient two cases of his own level, whose truths are drawn anew in every study."""
    patients = 24
    patient = np.repeat(np.arange(patients), 2) if clustered else np.arange(2 * patients)
    truth = np.tile([True, False, True, True, False, False], 8)
    case = 0.8 * rng.normal(size=patient.max() + 1)[patient] + rng.normal(size=len(patient))
    score = case + rng.normal(size=(1, 2, len(patient))) + 1.2 * truth
    if holes:
        score[0, 0, : len(patient) // 4] = np.nan
        score[0, 1, -len(patient) // 3 :] = np.nan
    return ratings_of(score, truth, patient)


@pytest.mark.parametrize(("clustered", "holes"), [(False, False), (True, False), (False, True), (True, True)])
def test_estimates_are_right_on_average(clustered: bool, holes: bool) -> None:
    """Mean estimate over 400 studies of 48 cases beside the covariance over these studies.

    The latter is known to 1/sqrt(200) of a variance and sqrt((1 + 1/rho^2)/400) of a covariance (one standard error).
    Over 6,000 studies the unbiased estimates were within 1 % of the variances, the others 1 to 9 % above.
    """
    rng = np.random.default_rng(20)
    many = 400
    values, found = [], {method: np.zeros((2, 2)) for method in BRUTE}
    for _ in range(many):
        ratings = simulated(rng, clustered=clustered, holes=holes)
        for method, total in found.items():
            got = estimate(ratings, EmpiricalAUC(), method)
            total += got.covariance[0, :, 0, :] / many
        values.append(got.value[0])
    expected = np.cov(np.array(values).T)
    rho = np.corrcoef(np.array(values).T)[0, 1]
    for method, mean in found.items():
        bias = 0.0 if method is UNBIASED else 0.1
        assert np.diag(mean) == pytest.approx(np.diag(expected), rel=3 * (2 / many) ** 0.5 + bias), method
        error = 3 * ((1 + 1 / rho**2) / many) ** 0.5
        assert mean[0, 1] == pytest.approx(expected[0, 1], rel=error + bias), method
    if clustered:  # what is known of patients is used
        apart = ratings_of(ratings.score, ratings.truth)
        for method in BRUTE:
            one, other = (estimate(x, EmpiricalAUC(), method).covariance for x in (ratings, apart))
            assert abs(one[0, 0, 0, 0] / other[0, 0, 0, 0] - 1) > 0.05


def test_the_bootstrap_agrees_roughly_and_repeats_exactly() -> None:
    rng = np.random.default_rng(3)
    for clustered in (False, True):
        ratings = simulated(rng, clustered=clustered, holes=True)
        found = estimate(ratings, EmpiricalAUC(), BOOTSTRAP, resamples=600, seed=4)
        again = estimate(ratings, EmpiricalAUC(), BOOTSTRAP, resamples=600, seed=4)
        other = estimate(ratings, EmpiricalAUC(), BOOTSTRAP, resamples=600, seed=5)
        assert np.array_equal(found.covariance, again.covariance)
        assert not np.array_equal(found.covariance, other.covariance)
        delong = estimate(ratings, EmpiricalAUC(), DELONG)
        for j in range(2):
            assert found.covariance[0, j, 0, j] == pytest.approx(delong.covariance[0, j, 0, j], rel=0.3)
    with pytest.raises(SettingsError, match="bootstrap"):
        estimate(ratings, EmpiricalAUC(), BOOTSTRAP, resamples=1)


class _Median(Merit):
    """A figure of merit that knows nothing of components."""

    name = "difference of medians"

    def one(self, positive: np.ndarray, negative: np.ndarray) -> float:
        if not positive.size or not negative.size:
            return float("nan")
        return float(np.median(positive) - np.median(negative))


def test_any_figure_of_merit_has_jackknife_and_bootstrap_and_no_more() -> None:
    ratings = simulated(np.random.default_rng(1), clustered=False, holes=False)
    for method in (JACKKNIFE, BOOTSTRAP):
        found = estimate(ratings, _Median(), method)
        assert (found.covariance[0, 0, 0, 0] > 0, found.merit) == (True, "difference of medians")
    for method in (DELONG, UNBIASED):
        with pytest.raises(SettingsError, match="difference of medians"):
            estimate(ratings, _Median(), method)


class _Squared(Structured):
    """Components, both classes, but no U-statistic."""

    name = "mean rating"

    def one(self, positive: np.ndarray, negative: np.ndarray) -> float:
        return float(positive.mean() - negative.mean())

    def components(self, ratings: Ratings) -> np.ndarray:
        return ratings.score


def test_unbiased_covariances_are_for_what_is_a_u_statistic() -> None:
    ratings = simulated(np.random.default_rng(1), clustered=False, holes=False)
    with pytest.raises(SettingsError, match="no unbiased covariances of mean rating"):
        estimate(ratings, _Squared(), UNBIASED)


@pytest.mark.parametrize("cut", [float("nan"), float("inf")])
def test_a_cut_is_a_number(cut: float) -> None:
    with pytest.raises(SettingsError, match="cut"):
        Sensitivity(cut)
    with pytest.raises(SettingsError, match="cut"):
        Specificity(cut)


@pytest.mark.parametrize("clustered", [False, True])
def test_many_pairs_are_done_in_pieces(clustered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is held at a time, the result is the same to the last bit that matters."""
    ratings = simulated(np.random.default_rng(8), clustered=clustered, holes=True)
    whole = estimate(ratings, EmpiricalAUC(), UNBIASED).covariance
    for block in (1, 60, 500):
        monkeypatch.setattr("scanward.reading.mrmc.unbiased._BLOCK", block)
        assert estimate(ratings, EmpiricalAUC(), UNBIASED).covariance == pytest.approx(whole, rel=1e-12)
