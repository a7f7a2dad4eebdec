"""The simulation model of Roe and Metz, its exact moments, and the analyses on studies simulated by it."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from house import REPOSITORY
from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.moments import moments
from scanward.reading.mrmc.roe_metz import (
    STRUCTURES,
    exact_covariance,
    exact_moments,
    in_categories,
    scores,
    simulate,
    structure,
)

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks import mrmc_monte_carlo, mrmc_speed, pages, run_all
from benchmarks.mrmc_batches import DELONG, JACKKNIFE, METHODS, ORIGINAL, UNBIASED, U, analyse, differ

STUDIES = 1000  # simulated studies of a cell; the benchmark has 2,000 in each of 108 cells


def test_the_twelve_structures() -> None:
    assert len(STRUCTURES) == 12
    for (name, auc), of in STRUCTURES.items():
        assert of.name == name
        assert of.case + of.treatment_case + of.reader_case + of.rest == pytest.approx(1.0)
        assert of.median_auc == pytest.approx(auc, abs=0.001)  # printed with three digits, cut
        assert of.auc(of.separation) < of.median_auc  # readers who differ are worse on average
        assert of.separation_for(of.auc(1.7)) == pytest.approx(1.7)
    # as in iMRMC's files of configurations, AUC 0.702, 0.855, 0.961 in turn: R and TR, C and TC, RC, rest
    for name, readers, case, rest in (
        ("HL", (0.0055, 0.0055, 0.0055), 0.3, 0.2),
        ("LL", (0.0055, 0.0055, 0.0055), 0.1, 0.6),
        ("HH", (0.011, 0.03, 0.056), 0.3, 0.2),
        ("LH", (0.011, 0.03, 0.056), 0.1, 0.6),
    ):
        for auc, separation, reader in zip((0.702, 0.855, 0.961), (0.75, 1.5, 2.5), readers, strict=True):
            of = structure(name, auc)
            assert (of.separation, of.reader, of.treatment_reader) == (separation, reader, reader)
            assert (of.case, of.treatment_case, of.reader_case, of.rest) == (case, case, 0.2, rest)


def test_terms_have_their_variances() -> None:
    of = structure("HH", 0.961)
    negative, positive = scores(of, (2.5, 2.5), 3, 4, 5, np.random.default_rng(1), 20000)
    assert negative.shape == (20000, 2, 3, 4)
    assert positive.shape == (20000, 2, 3, 5)
    assert positive.mean() - negative.mean() == pytest.approx(2.5, abs=0.02)

    def covariance(*other: int) -> float:
        """Of one rating with another of the same truth: (treatment, reader, case)."""
        one, two = negative[:, 0, 0, 0], negative[(slice(None), *other)]
        return float(np.mean((one - one.mean()) * (two - two.mean())))

    case = of.case + of.reader_case + of.reader
    whole = case + of.treatment_case + of.rest + of.treatment_reader
    for other, expected in {
        (0, 0, 0): whole,
        (1, 0, 0): case,
        (0, 1, 0): of.case + of.treatment_case,
        (1, 1, 0): of.case,
        (0, 0, 1): of.reader + of.treatment_reader,
        (1, 0, 1): of.reader,
        (0, 1, 1): 0.0,
    }.items():
        assert covariance(*other) == pytest.approx(expected, abs=0.035), other
    across = np.cov(negative[:, 0, 0, 0], positive[:, 0, 0, 0])[0, 1]
    assert across == pytest.approx(0.0, abs=0.035)


def test_exact_moments_by_another_way() -> None:
    of, separations = structure("LH", 0.855), (1.5, 1.9)
    found = exact_moments(of, separations)
    assert found[0, 1, 7] == pytest.approx(of.auc(1.5) * of.auc(1.9), abs=1e-6)  # nothing shared
    assert found[0, 0, 0] == pytest.approx(of.auc(1.5), abs=1e-6)  # psi is its own square without ties
    assert found[1, 0] == pytest.approx(found[0, 1], abs=1e-5)
    # the same pair of cases, two readers: integrate over what they share
    shared = 2 * (of.case + of.treatment_case)
    apart = math.sqrt(of.spread - shared)
    product = stats.norm(scale=math.sqrt(shared)).expect(
        lambda z: stats.norm.cdf((1.5 + z) / apart) ** 2, lb=-8, ub=8
    )
    assert found[0, 0, 4] == pytest.approx(product, abs=1e-5)


def test_the_one_shot_variances_are_unbiased() -> None:
    of, separations = structure("HH", 0.855), (1.5, 1.9)
    rng = np.random.default_rng(20)
    found = [moments(simulate(of, separations, 3, 6, 7, rng)) for _ in range(900)]
    for estimates, exact in (
        ([m.auc for m in found], np.array([of.auc(s) for s in separations])),
        ([m.moments for m in found], exact_moments(of, separations)),
        ([m.covariance for m in found], exact_covariance(of, separations, 3, 6, 7)),
    ):
        error = np.std(estimates, axis=0) / math.sqrt(len(found))
        assert (np.abs(np.mean(estimates, axis=0) - exact) < 3.5 * error).all()
    # and the truth they are compared with is that of the simulation
    spread = np.cov(np.array([m.auc for m in found]).T)
    assert spread == pytest.approx(exact_covariance(of, separations, 3, 6, 7), rel=0.2)


def test_simulated_study() -> None:
    of = structure("HL", 0.855)
    ratings = simulate(of, (1.5, 1.5), 4, 200, 300, np.random.default_rng(3), categories=5)
    assert ratings.fully_crossed
    assert not ratings.clustered
    assert ratings.truth.sum() == 300
    assert set(np.unique(ratings.score)) == {1.0, 2.0, 3.0, 4.0, 5.0}
    # a fifth of an even mixture in each category
    shares = [
        np.mean([(ratings.score[..., ratings.truth == k] == c).mean() for k in (0, 1)]) for c in range(1, 6)
    ]
    assert shares == pytest.approx([0.2] * 5, abs=0.06)
    continuous = simulate(of, (1.5, 1.5), 4, 200, 300, np.random.default_rng(3))
    assert (in_categories(continuous.score, of) == ratings.score).all()
    assert EmpiricalAUC().values(continuous).mean() == pytest.approx(of.auc(1.5), abs=0.03)


def test_what_cannot_be_simulated() -> None:
    with pytest.raises(SettingsError, match="structure"):
        structure("HX", 0.855)
    with pytest.raises(SettingsError, match="AUC"):
        structure("HH", 0.855).separation_for(1.0)
    with pytest.raises(SettingsError, match="categories"):
        in_categories(np.zeros(3), structure("HH", 0.855), 1)
    with pytest.raises(InputError, match="readers"):
        simulate(structure("HH", 0.855), (1.5,), 0, 5, 5, np.random.default_rng(1))


# --- the Monte Carlo study, small


@pytest.fixture(scope="module")
def cells() -> list[dict[str, dict[str, float]]]:
    return [
        mrmc_monte_carlo.cell(name, auc, readers, 25, STUDIES, seed=7)
        for name, auc, readers in (("HL", 0.702, 5), ("LH", 0.855, 3))
    ]


def test_batches_are_the_product() -> None:
    of = structure("LL", 0.855)
    for categories in (None, 5):
        negative, positive = scores(of, (1.5, 1.8), 4, 12, 9, np.random.default_rng(5), 6)
        if categories:
            negative, positive = (in_categories(s, of, categories) for s in (negative, positive))
        found = analyse(negative, positive)
        assert max(differ(negative, positive, found, i) for i in range(6)) < 1e-10
        # the comparison bites: another study's figures are far off
        assert differ(negative[::-1], positive[::-1], found, 0) > 1e-3


def test_type_one_error(cells: list[dict[str, dict[str, float]]]) -> None:
    # within 3 to 7 %, give or take what so many studies allow (99.9 %)
    low, high = (stats.binom(STUDIES, p).ppf(q) / STUDIES for p, q in ((0.03, 0.0005), (0.07, 0.9995)))
    for cell in cells:
        for kind in mrmc_monte_carlo.KINDS:
            for method in (JACKKNIFE, DELONG, UNBIASED, U):
                assert low <= cell[f"type_one_{kind}"][method] <= high, (method, kind)
            # the original degrees of freedom, known to be far too few, would not pass for 5 %
            assert cell[f"type_one_{kind}"][ORIGINAL] < 0.025


def test_what_the_degrees_of_freedom_cost_with_few_readers() -> None:
    rng = np.random.default_rng(3)
    square, draws = rng.chisquare(2, 200000) / 2, rng.standard_normal(200000)
    error = square + 0.1
    statistic = draws * math.sqrt(1.1) / np.sqrt(error)
    rate = np.mean(2 * stats.t(2 * (error / square) ** 2).sf(np.abs(statistic)) < 0.05)
    assert 0.07 < rate <= mrmc_monte_carlo.ideal(3) + 0.002
    assert mrmc_monte_carlo.ideal(3) < 0.09
    assert 0.05 <= mrmc_monte_carlo.ideal(10) < mrmc_monte_carlo.ideal(5) < 0.065


def test_coverage(cells: list[dict[str, dict[str, float]]]) -> None:
    for cell in cells:
        for method in (JACKKNIFE, DELONG, UNBIASED, U):
            assert cell["coverage_difference"][method] > stats.binom(STUDIES, 0.93).ppf(0.0005) / STUDIES
            assert cell["coverage_single"][method] > 0.85
            assert cells[0]["coverage_chance"][method] > stats.binom(STUDIES, 0.93).ppf(0.0005) / STUDIES
            assert cells[0]["equivalence"][method] <= 0.07


@pytest.mark.parametrize("module", [mrmc_monte_carlo, mrmc_speed])
def test_the_page_is_written_from_a_quick_run(module: ModuleType) -> None:
    asked = module.options(["--quick"])
    told = {"options": vars(asked), **module.run(asked)}
    page = pages.SECTIONS[module.NAME](told)
    assert "nan" not in page
    assert module.NAME in run_all.RUNS
    if module is mrmc_speed:
        assert told["peers_differ"] < 1e-12
        assert set(told["seconds"]["small"]) == set(told["seconds"]["large"])
    else:
        assert all(f" {method} |" in page for method in METHODS)
