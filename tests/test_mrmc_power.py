"""Power and sample size: against published figures, against simulation, and where plans must fail."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanward.errors import InputError
from scanward.reading.mrmc.components import (
    PUBLISHED,
    Components,
    at_chance,
    from_analysis,
    from_dbm,
    from_single,
    part_of_positives,
)
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.decisions import Claim, decide, equivalence, non_inferiority, superiority
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.power import (
    Question,
    cases_needed,
    planned,
    power_of,
    readers_needed,
    spread,
    table,
)
from scanward.reading.mrmc.results import Covariance, Random
from scanward.reading.mrmc.roe_metz import (
    Structure,
    exact_covariance,
    exact_moments,
    simulate,
    structure,
)
from scanward.reading.mrmc.table import read_table

VAN_DYKE = PUBLISHED["van-dyke"]
OBSERVED = -0.043800322  # its difference of areas
SEARCHED = Question(superiority(), OBSERVED)


# --- published figures. RJafroc's tests of its own power routines, after Hillis 2011 and 2018, for the same data:
# https://github.com/dpc10ster/RJafroc, tests/testthat/test-SsSampleSizeRoc.R (commit 0b362c1). Results are facts.

RJAFROC = [
    (Random.BOTH, 10, 165, 0.80541995),
    (Random.CASES, 10, 131, 0.80091813),
    (Random.READERS, 10, 53, 0.80496663),
    (Random.BOTH, 6, 111, 0.5526116),
]


@pytest.mark.parametrize(("random", "readers", "cases", "power"), RJAFROC)
def test_power_is_that_of_rjafroc(
    shared_data: Path, random: Random, readers: int, cases: int, power: float
) -> None:
    found = planned(van_dyke(shared_data), replace(SEARCHED, random=random), readers, cases)
    assert found.power == pytest.approx(power, abs=5e-8)


@pytest.mark.parametrize(("random", "readers", "cases", "power"), RJAFROC)
def test_so_it_is_from_printed_components(random: Random, readers: int, cases: int, power: float) -> None:
    """OR-DBM MRMC prints eight decimals: the power is then right to four."""
    found = planned(VAN_DYKE, replace(SEARCHED, random=random), readers, cases)
    assert found.power == pytest.approx(power, abs=3e-5)


def test_cases_needed_are_those_of_rjafroc() -> None:
    found = cases_needed(VAN_DYKE, SEARCHED, 6)
    assert found is not None
    assert (found.cases, round(found.power, 3)) == (251, 0.801)
    assert planned(VAN_DYKE, SEARCHED, 6, 250).power < 0.8


def test_components_of_dbm_are_those_of_or() -> None:
    """Both are printed by OR-DBM MRMC 2.51 for the same data."""
    found = from_dbm(
        reader=0.00153500,
        case=0.02724923,
        treatment_reader=0.00020040,
        treatment_case=0.01197530,
        reader_case=0.01226473,
        rest=0.03997160,
        positives=45,
        cases=114,
    )
    for name in ("reader", "treatment_reader", "error", "cov1", "cov2", "cov3"):
        assert getattr(found, name) == pytest.approx(getattr(VAN_DYKE, name), abs=6e-9), name


# R package PowerTOST, sampleN.TOST(CV = 0.3), sampleN.noninf(CV = 0.25): two-period crossover, log scale, ratio 0.95,
# bounds 0.8 to 1.25. https://cran.r-project.org/web/packages/PowerTOST/vignettes/ (ABE.html, NI.html)
@pytest.mark.parametrize(
    ("claim", "cv", "subjects", "power"),
    [
        (equivalence(math.log(0.8), math.log(1.25)), 0.3, 40, 0.815845),
        (non_inferiority(-math.log(0.8), alpha=0.025), 0.25, 36, 0.820330),
    ],
)
def test_one_sided_tests_have_the_power_of_powertost(
    claim: Claim, cv: float, subjects: int, power: float
) -> None:
    variance = 2 / subjects * math.log(1 + cv**2)
    assert power_of(claim, math.log(0.95), variance, subjects - 2) == pytest.approx(power, abs=6e-7)


# --- one formula against another


def test_two_sided_power_is_two_one_sided_ones() -> None:
    for df in (3.0, 20.0, math.inf):
        for effect in (0.01, 0.05, 0.2):
            above = power_of(non_inferiority(1e-12, alpha=0.025), effect, 0.02**2, df)
            below = power_of(non_inferiority(1e-12, alpha=0.025), -effect, 0.02**2, df)
            both = power_of(superiority(), effect, 0.02**2, df)
            assert both == pytest.approx(above + below, abs=1e-6)


@pytest.mark.parametrize("df", [1.0, 2.0, 3.7, 12.0, 400.0])
@pytest.mark.parametrize("effect", [0.45, 0.47, 0.5, 0.56])
@pytest.mark.parametrize("sd", [0.004, 0.015, 0.05])
def test_power_of_equivalence_is_the_integral(df: float, effect: float, sd: float) -> None:
    """Against drawing estimate and standard error many times."""
    rng = np.random.default_rng(5)
    count = 200_000
    drawn = effect + sd * rng.standard_normal(count)
    se = sd * np.sqrt(rng.chisquare(df, count) / df)
    from scipy import stats

    t = stats.t.ppf(0.95, df)
    share = float(np.mean((drawn - t * se > 0.45) & (drawn + t * se < 0.55)))
    assert power_of(equivalence(0.45, 0.55), effect, sd**2, df) == pytest.approx(share, abs=0.006)


def test_power_at_the_bound_is_at_most_alpha() -> None:
    for df in (2.0, 10.0, math.inf):
        for sd in (0.001, 0.01, 0.1):
            assert power_of(equivalence(0.45, 0.55), 0.45, sd**2, df) <= 0.05 + 1e-6
            assert power_of(non_inferiority(0.05), -0.05, sd**2, df) == pytest.approx(0.05, abs=1e-6)
            assert power_of(superiority(), 0.0, sd**2, df) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("df", [1.0, 2.5, 10.0, 29.0, 31.0, 1000.0, math.inf])
def test_power_grows_with_the_effect_and_ends_at_one(df: float) -> None:
    found = [
        power_of(superiority(), effect, 1.0, df) for effect in (0, 1e-9, 0.1, 1, 3, 10, 29, 31, 100, 1e4)
    ]
    assert min(np.diff(found)) > -1e-9
    assert 0.049 < found[0] < 0.051
    assert found[-1] > 0.999
    assert found[-1] <= 1


def test_more_treatments_change_the_degrees_of_freedom_alone() -> None:
    two, three = (spread(VAN_DYKE, replace(SEARCHED, treatments=t), 5) for t in (2, 3))
    assert two[0] == three[0]
    assert three[1] == pytest.approx(2 * two[1])


def test_the_pilot_itself_has_the_standard_errors_it_printed() -> None:
    """Planning Van Dyke with its own readers and cases gives back OR-DBM MRMC's standard errors and df."""
    both = spread(VAN_DYKE, SEARCHED, 5)
    assert (round(math.sqrt(both[0]), 5), round(both[1], 2)) == (0.02075, 15.26)
    cases = spread(VAN_DYKE, replace(SEARCHED, random=Random.CASES), 5)
    assert (round(math.sqrt(cases[0]), 5), cases[1]) == (0.01872, math.inf)
    readers = spread(VAN_DYKE, replace(SEARCHED, random=Random.READERS), 5)
    assert (round(math.sqrt(readers[0]), 5), readers[1]) == (0.01485, 4)


@pytest.mark.parametrize(("treatment", "se", "df"), [("1", 0.03317360, 12.74), ("2", 0.02156637, 12.71)])
def test_so_has_one_treatment(shared_data: Path, treatment: str, se: float, df: float) -> None:
    ratings = read_table(shared_data / "mrmc" / "VanDyke.csv").ratings()
    analysis = obuchowski_rockette(estimate(ratings, EmpiricalAUC()))
    components = from_single(analysis, treatment, positives=45, cases=114)
    found = spread(components, Question(equivalence(0.8, 1.0), 0.9, one=True), 5)
    assert math.sqrt(found[0]) == pytest.approx(se, abs=6e-9)
    assert round(found[1], 2) == df
    with pytest.raises(InputError, match="treatment 3"):
        from_single(analysis, "3", positives=45, cases=114)


# --- against simulation


def exact(of: Structure, separations: list[float], negatives: int, positives: int) -> Components:
    """The Obuchowski-Rockette components of the Roe-Metz model, from its exact moments."""
    moments = exact_moments(of, separations)
    readers = moments[..., 3] - moments[..., 7]  # one reader, no case shared
    one = exact_covariance(of, separations, 1, negatives, positives)
    two = exact_covariance(of, separations, 2, negatives, positives)
    last = len(separations) - 1
    reader = float(readers[0, last]) if last else 0.0
    return Components(
        reader=reader,
        treatment_reader=float(np.diag(readers).mean()) - reader,
        error=float((np.diag(one) - np.diag(readers)).mean()),
        cov1=float(one[0, last]) - reader if last else 0.0,
        cov2=float((2 * np.diag(two) - np.diag(one)).mean()),
        cov3=float(2 * two[0, last] - one[0, last]) if last else 0.0,
        positives=positives,
        cases=positives + negatives,
    )


@pytest.mark.parametrize("random", [Random.BOTH, Random.CASES])
def test_planned_power_of_a_difference_is_the_simulated_one(random: Random) -> None:
    """Readers fixed: the same readers would have to be drawn again, so there it is about readers who do not vary."""
    of = structure("LL", 0.855)
    if random is Random.CASES:
        of = replace(of, reader=0.0, treatment_reader=0.0)
    separations = [of.separation_for(0.80), of.separation_for(0.87)]
    question = Question(superiority(), -0.07, random)
    plan = planned(exact(of, separations, 50, 50), question, 5, 100)
    assert 0.3 < plan.power < 0.95  # where a wrong formula shows
    rng = np.random.default_rng(11)
    shown = 0
    for _ in range(500):
        ratings = simulate(of, separations, 5, 50, 50, rng)
        found = estimate(ratings, EmpiricalAUC(), Covariance.DELONG)
        shown += obuchowski_rockette(found, random).differences[0].p <= 0.05
    assert shown / 500 == pytest.approx(plan.power, abs=0.065)  # 3 standard errors of the simulation


def test_planned_power_of_one_area_within_bounds_is_the_simulated_one() -> None:
    of = replace(structure("LL", 0.702), reader=0.0, treatment_reader=0.002)
    plan = planned(exact(of, [0.0], 150, 150), Question(equivalence(0.45, 0.55), 0.5, one=True), 6, 300)
    assert 0.3 < plan.power < 0.95
    rng = np.random.default_rng(12)
    shown = 0
    for _ in range(400):
        found = estimate(simulate(of, [0.0], 6, 150, 150, rng), EmpiricalAUC(), Covariance.DELONG)
        shown += decide(obuchowski_rockette(found).treatments[0], equivalence(0.45, 0.55)).shown
    assert shown / 400 == pytest.approx(plan.power, abs=0.075)


# --- cases and prevalence


def test_errors_shrink_with_cases_and_readers_stay() -> None:
    twice = VAN_DYKE.scaled(228)
    assert twice.error == pytest.approx(VAN_DYKE.error / 2)
    assert twice.cov3 == pytest.approx(VAN_DYKE.cov3 / 2)
    assert (twice.reader, twice.treatment_reader) == (VAN_DYKE.reader, VAN_DYKE.treatment_reader)
    assert twice.positives == pytest.approx(90)


def test_guessing_scales_exactly_between_prevalences() -> None:
    """At 0.5 the Mann-Whitney variance is known for every prevalence."""
    half = at_chance(reader_sd=0, correlation=0.2, positives=500, negatives=500)
    fifth = at_chance(reader_sd=0, correlation=0.2, positives=200, negatives=800)
    assert half.scaled(1000, 0.2).error == pytest.approx(fifth.error, rel=2e-3)
    assert half.scaled(1000, 0.2).cov2 == pytest.approx(fifth.cov2, rel=2e-3)


def test_above_chance_positives_weigh_more() -> None:
    """The variance function of Obuchowski & McClish: 5 A^2 + 8 for positives, A^2 + 8 for negatives."""
    high = replace(VAN_DYKE, auc=0.95, positives=57, of_positives=math.nan)
    chance = replace(high, auc=0.5)
    assert high.scaled(114, 0.2).error > chance.scaled(114, 0.2).error > high.error
    assert high.scaled(114, 0.8).error < chance.scaled(114, 0.8).error


def test_there_and_back_is_where_one_was() -> None:
    back = VAN_DYKE.scaled(300, 0.1).scaled(VAN_DYKE.cases, VAN_DYKE.share)
    assert back.error == pytest.approx(VAN_DYKE.error)
    assert back.of_positives == pytest.approx(VAN_DYKE.of_positives)


def test_a_pilot_tells_another_prevalence() -> None:
    """From half positives to a quarter, against the exact variances of the Roe-Metz model."""
    of = structure("LL", 0.855)
    separations = [of.separation_for(0.85)] * 2
    part = part_of_positives(simulate(of, separations, 5, 200, 200, np.random.default_rng(4)))
    half = replace(exact(of, separations, 200, 200), of_positives=part)
    quarter = exact(of, separations, 300, 100)
    for name in ("error", "cov1", "cov2", "cov3"):
        assert getattr(half.scaled(400, 0.25), name) == pytest.approx(getattr(quarter, name), rel=0.07), name


def test_the_published_pilot_s_positives_weigh_five_negatives(shared_data: Path) -> None:
    ratings = read_table(shared_data / "mrmc" / "VanDyke.csv").ratings()
    assert part_of_positives(ratings) == pytest.approx(VAN_DYKE.of_positives, abs=5e-5)


# --- searching


def test_readers_needed_and_cases_needed_agree() -> None:
    by_cases = cases_needed(VAN_DYKE, SEARCHED, 8)
    assert by_cases is not None
    by_readers = readers_needed(VAN_DYKE, SEARCHED, by_cases.cases)
    assert by_readers is not None
    assert by_readers.readers == 8
    assert planned(VAN_DYKE, SEARCHED, 7, by_cases.cases).power < 0.8


def test_more_cases_do_not_replace_readers() -> None:
    """Three readers whose areas spread by 0.02 can never show that an area lies within 0.45 to 0.55."""
    guessing = at_chance(reader_sd=0.02, correlation=0.1, positives=100, negatives=100)
    question = Question(equivalence(0.45, 0.55), 0.5, one=True)
    rows = dict(table(guessing, question, range(3, 7)))
    assert rows[3] is None
    found = [plan.cases for plan in rows.values() if plan is not None]
    assert len(found) == 3
    assert found == sorted(found, reverse=True)
    assert all(plan is None or plan.power >= 0.8 for plan in rows.values())


def test_readers_who_do_not_vary_need_no_others() -> None:
    same = replace(VAN_DYKE, treatment_reader=-0.001)  # a negative estimate counts as 0
    assert planned(same, SEARCHED, 5, 200) == planned(replace(same, treatment_reader=0.0), SEARCHED, 5, 200)


# --- refusals


@pytest.mark.parametrize(
    "change",
    [
        {"error": 0.0},
        {"error": -1.0},
        {"cov1": 0.9},
        {"cov3": math.nan},
        {"positives": 0.0},
        {"positives": 114.0},
        {"auc": 1.0},
        {"of_positives": 1.2},
        {"reader": math.inf},
    ],
)
def test_components_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError):
        replace(VAN_DYKE, **change)


@pytest.mark.parametrize("random", [Random.BOTH, Random.READERS])
def test_one_reader_is_no_sample_of_readers(random: Random) -> None:
    with pytest.raises(InputError, match="1 readers"):
        planned(VAN_DYKE, replace(SEARCHED, random=random), 1, 100)
    assert planned(VAN_DYKE, replace(SEARCHED, random=Random.CASES), 1, 100).df == math.inf


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(InputError, match="power"):
        cases_needed(VAN_DYKE, SEARCHED, 6, 1.0)
    with pytest.raises(InputError, match="cases"):
        planned(VAN_DYKE, replace(SEARCHED, share=1.0), 6, 100)
    with pytest.raises(InputError, match="cases"):
        planned(VAN_DYKE, SEARCHED, 6, 0)
    everything = replace(VAN_DYKE, treatment_reader=0, cov1=VAN_DYKE.error, cov2=0.0, cov3=0.0)
    with pytest.raises(InputError, match="variance"):
        spread(everything, SEARCHED, 5)
    with pytest.raises(InputError, match="guess"):
        at_chance(reader_sd=0.02, correlation=2, positives=10, negatives=10)
    with pytest.raises(InputError):
        from_dbm(
            reader=0,
            case=1,
            treatment_reader=0,
            treatment_case=1,
            reader_case=1,
            rest=1,
            positives=1,
            cases=0,
        )


def test_a_pilot_of_one_treatment_plans_no_difference() -> None:
    of = structure("LL", 0.855)
    ratings = simulate(of, [1.5], 4, 20, 20, np.random.default_rng(1))
    analysis = obuchowski_rockette(estimate(ratings, EmpiricalAUC()))
    with pytest.raises(InputError, match="two treatments"):
        from_analysis(analysis, positives=20, cases=40)


def van_dyke(shared_data: Path) -> Components:
    ratings = read_table(shared_data / "mrmc" / "VanDyke.csv").ratings()
    return from_analysis(obuchowski_rockette(estimate(ratings, EmpiricalAUC())), positives=45, cases=114)
