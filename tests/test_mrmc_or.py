"""Obuchowski-Rockette and Dorfman-Berbaum-Metz against published answers, and against what must hold of both."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from _mrmc_published import (
    ABNORMAL,
    AUC,
    COV3,
    DBM_AFTER,
    DBM_PRINTED,
    MRMCAOV,
    NORMAL,
    PATIENTS,
    PRINT_OUT,
    Analyses,
    Find,
    decimals,
    from_print,
    load,
    of_components,
    rounded,
)
from scanward.errors import InputError, SettingsError
from scanward.reading.mrmc.binary import Sensitivity
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.dbm import dbm, to_dbm, to_or
from scanward.reading.mrmc.designs import design_of
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Analysis, Covariance, Random

LEVELS = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


def crossed(score: np.ndarray, positives: int, patient: np.ndarray | None = None) -> Ratings:
    """Ratings of a factorial design; the first cases are positive."""
    t, r, c = score.shape
    patient = np.arange(c) if patient is None else patient
    return Ratings(
        score=score.astype(float),
        truth=np.arange(c) < positives,
        patient=patient.astype(np.intp),
        treatments=tuple(f"T{i}" for i in range(t)),
        readers=tuple(f"R{j}" for j in range(r)),
        cases=tuple(f"C{k}" for k in range(c)),
        patients=tuple(f"P{p}" for p in range(int(patient.max()) + 1)),
    )


@st.composite
def studies(draw: st.DrawFn, treatments: int | None = None) -> Ratings:
    """Small factorial studies on a five-point scale."""
    t = treatments or draw(st.integers(2, 4))
    r, n1, n0 = draw(st.integers(2, 4)), draw(st.integers(2, 7)), draw(st.integers(2, 7))
    return crossed(draw(stn.arrays(np.int64, (t, r, n1 + n0), elements=st.integers(1, 5))), n1)


def analyses_of(ratings: Ratings) -> Analyses:
    found = estimate(ratings, EmpiricalAUC())
    return {random: obuchowski_rockette(found, random) for random in Random}


# --- the print-out of OR-DBM MRMC 2.51


def tables(text: str) -> list[str]:
    """Every number of the print-out's tables after the areas, without the labels of treatments and readers."""
    found: list[str] = []
    body = text[text.index("TREATMENT AUC MEANS") : text.index("REFERENCES")]
    for line in body.splitlines():
        said = line.strip()
        row = re.match(r"(T|R|T\*R|Treatment|Error term|Var\(.*\)|COV\d|-?\d[\d. -]*)\s+[-(\d.]", said)
        if said.startswith("Conclusion"):
            said = said.replace("X2", "")
        elif not row or "=" in said or "%" in said:
            assert set(re.findall(r"\d*\.\d+", said)) <= {".025"}, line  # words, not figures
            continue
        said = re.sub(r"^\d+(?=\s+\S)", "", said.replace("1 - 2", "", 1).strip())
        found += re.findall(r"(?<![\w.])-?(?:\d*\.)?\d+", said)
    return found


def test_every_number_of_the_print_out(shared_data: Path) -> None:
    text = (shared_data / "mrmc" / "published_VanDyke_OR-DBM-MRMC-2.51.txt").read_text(encoding="utf-8")
    ratings = load(shared_data)
    assert (ratings.truth.sum(), (~ratings.truth).sum()) == (ABNORMAL, NORMAL)
    areas = re.findall(
        r"^ +[1-5]   +(0\.\d{8})   +(0\.\d{8})\s*$", text[: text.index("AUC MEANS")], re.MULTILINE
    )
    value = EmpiricalAUC().values(ratings)
    assert areas == list(AUC)
    assert [tuple(f"{x:.8f}" for x in row) for row in value.T] == areas
    ours = analyses_of(ratings)
    both = dbm(ratings, EmpiricalAUC())
    printed = tables(text)
    expected = [(p, rounded(find(ours), p)) for p, find in PRINT_OUT]
    of_dbm = [(p, rounded(both.components[name], p)) for name, p in DBM_PRINTED.items()]
    expected[DBM_AFTER:DBM_AFTER] = of_dbm
    assert [number for number, _ in expected] == printed  # what was typed in is what is printed, in its order
    assert len(printed) == 152
    assert [number for _, number in expected] == printed


@pytest.mark.parametrize(
    ("printed", "find"), PRINT_OUT, ids=[f"{i}:{p}" for i, (p, _) in enumerate(PRINT_OUT)]
)
def test_the_print_out_follows_from_its_areas_and_covariances(printed: str, find: Find) -> None:
    """Without the data: the printed areas and covariances, rounded as they are, give every other printed number."""
    ours = {random: obuchowski_rockette(from_print(), random) for random in Random}
    digits = decimals(printed)
    rounding = 5e-7 if digits >= 8 else 2e-5 * abs(float(printed))
    if printed.startswith(("0.4", "0.29")):
        rounding = 1e-5  # correlations: of covariances known to five digits
    assert abs(find(ours) - float(printed)) <= 0.6 * 10.0**-digits + rounding


def test_the_dbm_components_follow_from_the_printed_ones() -> None:
    found = to_dbm(obuchowski_rockette(from_print()).components, PATIENTS)
    for name, printed in DBM_PRINTED.items():
        assert found[name] == pytest.approx(float(printed), abs=PATIENTS * 2e-8), name
    back = to_or({name: float(printed) for name, printed in DBM_PRINTED.items()}, PATIENTS)
    assert back["Cov3"] == pytest.approx(float(COV3), abs=1e-8)
    assert back["Var(error)"] == pytest.approx(0.00080229, abs=1e-8)


# --- MRMCaov


@pytest.mark.parametrize("method", list(MRMCAOV))
def test_other_covariances_without_the_data(method: Covariance) -> None:
    published = MRMCAOV[method]
    given = [float(published[name]) for name in ("Var(error)", "Cov1", "Cov2", "Cov3")]
    found = obuchowski_rockette(of_components(*given, method))
    _agree(found, published, slack=2e-6)


@pytest.mark.parametrize("method", list(MRMCAOV))
def test_other_covariances_to_every_digit(shared_data: Path, method: Covariance) -> None:
    found = obuchowski_rockette(estimate(load(shared_data), EmpiricalAUC(), method))
    _agree(found, MRMCAOV[method], slack=0.0)


def _agree(found: Analysis, published: dict[str, str], slack: float) -> None:
    assert found.overall is not None
    ours = {
        **found.components,
        "value": found.overall.value,
        "df2": found.overall.df2,
        "p": found.overall.p,
        **{name: getattr(found.differences[0], name) for name in ("se", "low", "high")},
    }
    for name, printed in published.items():
        number = ours[name]
        assert number is not None
        size = slack * max(abs(float(printed)), 0.02)
        assert abs(number - float(printed)) <= 0.5000001 * 10.0 ** -decimals(printed) + size, name


def test_every_number_of_the_published_results(shared_data: Path) -> None:
    """``published_results.json``, each number to as many digits as it has there."""
    published = json.loads(
        (shared_data / "mrmc" / "published_results.json").read_text(encoding="utf-8"), parse_float=str
    )["VanDyke"]
    ratings = load(shared_data)
    ours = analyses_of(ratings)
    both, cases, readers = (ours[r] for r in (Random.BOTH, Random.CASES, Random.READERS))
    parts = both.components
    pairs: list[tuple[str, float]] = []

    def take(names: str, there: dict[str, Any], values: list[float]) -> None:
        for name, value in zip(names.split(), values, strict=True):
            pairs.append((str(there.pop(name)), value))

    def take_interval(there: dict[str, Any], low: float, high: float) -> None:
        pairs.extend(zip(there.pop("ci"), (low, high), strict=True))

    areas = EmpiricalAUC().values(ratings)
    for (i, j), value in np.ndenumerate(areas):
        pairs.append((published["auc"][str(i + 1)].pop(str(j + 1)), value))
    take("1 2", published.pop("mean_auc"), list(areas.mean(axis=1)))
    take("diff_1_minus_2", published, [both.differences[0].estimate])
    take("MS_T MS_R MS_TR", published, [parts[f"MS({x})"] for x in ("T", "R", "TR")])
    jack = published["jackknife"]
    names = ("Var(error)", "Cov1", "Cov2", "Cov3")
    take("var_error cov1 cov2 cov3", jack, [parts[name] for name in names])
    take("var_R var_TR", jack, [parts["Var(R)"], parts["Var(TR)"]])
    for name, found in (("RRRC", both), ("FRRC", cases), ("RRFC", readers)):
        there = jack.pop(name)
        difference, overall = found.differences[0], found.overall
        assert overall is not None
        take_interval(there, difference.low, difference.high)
        take("p se", there, [overall.p, difference.se])
        if name == "FRRC":
            take("chi2 df", there, [overall.value, overall.df1])
        else:
            assert overall.df2 is not None
            take("F df1 df2", there, [overall.value, overall.df1, overall.df2])
        if name == "RRRC":
            take("error_term", there, [parts["error term"]])
        assert not there
    for i, one in enumerate(both.treatments):
        there = jack["single_treatment_RRRC"].pop(str(i + 1))
        take("auc se df", there, [one.estimate, one.se, one.df])
        take_interval(there, one.low, one.high)
        assert not there
    components = dbm(ratings, EmpiricalAUC()).components
    take(
        "R C TR TC RC TRC_plus_error",
        jack["DBM_components"],
        [components[name] for name in DBM_PRINTED],
    )
    for key, merit, method in (
        ("delong", EmpiricalAUC(), Covariance.DELONG),
        ("unbiased_Ustat", EmpiricalAUC(), Covariance.UNBIASED),
        ("binary_sens_rating_ge_3", Sensitivity(3), Covariance.JACKKNIFE),
    ):
        there = published.pop(key)
        found = obuchowski_rockette(estimate(ratings, merit, method))
        overall, difference = found.overall, found.differences[0]
        assert overall is not None
        assert overall.df2 is not None
        take("F df2 p se", there, [overall.value, overall.df2, overall.p, difference.se])
        take_interval(there, difference.low, difference.high)
        if key == "binary_sens_rating_ge_3":
            take("1 2", there.pop("mean"), [one.estimate for one in found.treatments])
            take("diff", there, [difference.estimate])
        else:
            take("var_error cov1 cov2 cov3", there, [found.components[name] for name in names])
        assert set(there) == {"source"}
    nested = load(shared_data, case="case2")
    found = obuchowski_rockette(estimate(nested, EmpiricalAUC()), design=design_of(nested))
    assert found.overall is not None
    assert found.overall.df2 is not None
    take(
        "F df2 p",
        published["cases_nested_in_readers"],
        [found.overall.value, found.overall.df2, found.overall.p],
    )
    assert len(pairs) == 91
    assert [(p, rounded(value, p)) for p, value in pairs] == [(p, rounded(float(p), p)) for p, _ in pairs]


@pytest.mark.parametrize("method", [Covariance.JACKKNIFE, Covariance.DELONG, Covariance.UNBIASED])
def test_sensitivity_has_the_same_covariances_by_every_method(shared_data: Path, method: Covariance) -> None:
    found = obuchowski_rockette(estimate(load(shared_data), Sensitivity(3), method))
    assert found.overall is not None
    assert found.overall.value == pytest.approx(6.689493, abs=5e-7)


def test_designs_of_the_published_sets(shared_data: Path) -> None:
    assert design_of(load(shared_data)) == "factorial"
    in_readers, in_treatments = (load(shared_data, case=name) for name in ("case2", "case3"))
    assert design_of(in_readers) == "cases nested in readers"
    assert design_of(in_treatments) == "cases nested in treatments"
    assert design_of(load(shared_data, "Kundel.csv")) == "partially paired"
    whole = obuchowski_rockette(estimate(load(shared_data), EmpiricalAUC()))
    for ratings, absent, kept in (
        (in_readers, ("Cov2", "Cov3"), ("Var(error)", "Cov1")),
        (in_treatments, ("Cov1", "Cov3"), ("Var(error)", "Cov2")),
    ):
        found = obuchowski_rockette(estimate(ratings, EmpiricalAUC()), design=design_of(ratings))
        assert [found.components[name] for name in absent] == [0.0, 0.0]
        for name in kept:  # the cells are the same, and so are the pairs of cells that share cases
            assert found.components[name] == pytest.approx(whole.components[name], rel=1e-12)
        # and saying nothing of the design gives the same: the covariances are 0 already
        again = obuchowski_rockette(estimate(ratings, EmpiricalAUC()))
        assert again.differences == found.differences
    expected = whole.components["MS(TR)"] + 5 * whole.components["Cov2"]
    found = obuchowski_rockette(estimate(in_treatments, EmpiricalAUC()), design="cases nested in treatments")
    assert found.components["error term"] == pytest.approx(expected, rel=1e-12)


def test_kundel_is_analysed_as_it_is(shared_data: Path) -> None:
    """Partially paired, three treatments: no published answer, so against the cells taken one by one."""
    ratings = load(shared_data, "Kundel.csv")
    found = estimate(ratings, EmpiricalAUC())
    for i, j in np.ndindex(found.value.shape):
        score, truth = ratings.score[i, j], ratings.truth
        read = ~np.isnan(score)
        assert found.value[i, j] == EmpiricalAUC().one(score[read & truth], score[read & ~truth])
        one = estimate(
            ratings.select(treatments=[ratings.treatments[i]], readers=[ratings.readers[j]]), EmpiricalAUC()
        )
        assert found.covariance[i, j, i, j] == pytest.approx(one.covariance[0, 0, 0, 0], rel=1e-12)
    share = ((~np.isnan(ratings.score)).astype(float).reshape(12, -1),)[0]
    apart = (share @ share.T == 0).reshape(3, 4, 3, 4)
    assert apart.any()
    assert (found.covariance[apart] == 0).all()
    analysis = obuchowski_rockette(found, design="partially paired")
    assert len(analysis.differences) == 3
    assert analysis.overall is not None
    assert (analysis.overall.df1, analysis.differences[0].df) == (2.0, analysis.overall.df2)


# --- the formulas again, by loops


@given(studies())
def test_mean_squares_and_components_by_loops(ratings: Ratings) -> None:
    found = estimate(ratings, EmpiricalAUC(), Covariance.DELONG)
    a, s = found.value, found.covariance
    t, r = a.shape
    mean = sum(a[i, j] for i in range(t) for j in range(r)) / (t * r)
    rows = [sum(a[i, j] for j in range(r)) / r for i in range(t)]
    columns = [sum(a[i, j] for i in range(t)) / t for j in range(r)]
    mst = r * sum((x - mean) ** 2 for x in rows) / (t - 1)
    msr = t * sum((x - mean) ** 2 for x in columns) / (r - 1)
    mstr = (
        sum((a[i, j] - rows[i] - columns[j] + mean) ** 2 for i in range(t) for j in range(r))
        / (t - 1)
        / (r - 1)
    )
    kinds: dict[tuple[bool, bool], list[float]] = {}
    for i, j, k, l in np.ndindex(s.shape):  # noqa: E741 - the letters of the papers
        kinds.setdefault((i == k, j == l), []).append(s[i, j, k, l])
    error, cov1, cov2, cov3 = (
        float(np.mean(kinds[key])) for key in ((True, True), (False, True), (True, False), (False, False))
    )
    h = max(cov2 - cov3, 0.0)
    got = obuchowski_rockette(found)
    expected = {
        "MS(T)": mst,
        "MS(R)": msr,
        "MS(TR)": mstr,
        "Var(R)": (msr - mstr) / t - cov1 + cov3,
        "Var(TR)": mstr - error + cov1 + h,
        "Var(error)": error,
        "Cov1": cov1,
        "Cov2": cov2,
        "Cov3": cov3,
        "error term": mstr + r * h,
    }
    for name, number in expected.items():
        assert got.components[name] == pytest.approx(number, rel=1e-9, abs=1e-15), name
    fixed = obuchowski_rockette(found, Random.CASES)
    assert fixed.components["error term"] == pytest.approx(error - cov1 + (r - 1) * h, rel=1e-9, abs=1e-15)
    assert len(got.differences) == t * (t - 1) // 2


def test_three_treatments_overall_and_pairwise() -> None:
    """Numbers worked out by hand: areas of two readers under three treatments, and covariances of round numbers."""
    base = of_components(0.01, 0.004, 0.003, 0.002, Covariance.DELONG)
    value = np.array([[0.7, 0.8], [0.8, 0.8], [0.9, 0.8]])
    covariance = np.full((3, 2, 3, 2), 0.002)
    for i in range(3):
        covariance[i, :, i, :] = 0.003
        covariance[:, 0, i, 0] = covariance[:, 1, i, 1] = 0.004
        for j in range(2):
            covariance[i, j, i, j] = 0.01
    for i, k in permutations(range(3), 2):
        assert covariance[i, 0, k, 0] == covariance[i, 1, k, 1] == 0.004
    for i in range(3):
        assert covariance[i, 0, i, 1] == 0.003
    found = replace(base, treatments=("A", "B", "C"), readers=("1", "2"), value=value, covariance=covariance)
    got = obuchowski_rockette(found)
    # treatment means .75 .80 .85: MS(T) = 2 (.0025 + .0025)/2; residuals +-.05 of A and C: MS(TR) = 4 (.0025)/2
    assert got.components["MS(T)"] == pytest.approx(0.005)
    assert got.components["MS(TR)"] == pytest.approx(0.005)
    assert got.components["error term"] == pytest.approx(0.005 + 2 * 0.001)
    assert got.overall is not None
    assert got.overall.value == pytest.approx(0.005 / 0.007)
    assert got.overall.df1 == 2
    assert got.overall.df2 == pytest.approx(0.007**2 / (0.005**2 / 2))
    assert [d.of for d in got.differences] == ["A - B", "A - C", "B - C"]
    assert [d.estimate for d in got.differences] == pytest.approx([-0.05, -0.1, -0.05])
    assert [d.se for d in got.differences] == pytest.approx([0.007**0.5] * 3)
    fixed = obuchowski_rockette(found, Random.CASES)
    assert fixed.overall is not None
    assert fixed.overall.value == pytest.approx(2 * 0.005 / (0.01 - 0.004 + 0.001))
    assert fixed.overall.df1 == 2
    assert [x.of for x in fixed.by_reader[:3]] == ["1: A - B", "1: A - C", "1: B - C"]
    assert [x.se for x in fixed.by_reader] == pytest.approx([0.012**0.5] * 6)


@given(studies(), LEVELS)
def test_an_interval_excludes_null_exactly_when_p_is_small(ratings: Ratings, level: float) -> None:
    found = estimate(ratings, EmpiricalAUC(), Covariance.DELONG)
    for random in Random:
        got = obuchowski_rockette(found, random, level)
        for one in (*got.differences, *got.treatments, *got.by_reader):
            if np.isnan(one.p) or abs(one.p - (1 - level)) < 1e-9:
                continue
            assert (one.low <= one.null <= one.high) is (one.p > 1 - level)


@given(studies(treatments=2))
def test_two_treatments_f_is_t_squared(ratings: Ratings) -> None:
    for random in Random:
        got = obuchowski_rockette(estimate(ratings, EmpiricalAUC()), random)
        assert got.overall is not None
        value, p = got.differences[0].statistic ** 2, got.differences[0].p
        if np.isfinite(value) and _clear(got):
            assert got.overall.value == pytest.approx(value, rel=1e-9, abs=1e-12)
            assert got.overall.p == pytest.approx(p, rel=1e-6, abs=1e-12)


# --- DBM is Obuchowski-Rockette with jackknife covariances (Hillis et al. 2005)


def _clear(found: Analysis) -> bool:
    """Whether the error term is more than rounding, so that ratios to it mean something."""
    return found.components["error term"] > 1e-9


@given(studies())
def test_dbm_is_or_with_the_jackknife(ratings: Ratings) -> None:
    found = estimate(ratings, EmpiricalAUC())
    n = found.patients
    for random in (Random.BOTH, Random.READERS):
        ours, other = obuchowski_rockette(found, random), dbm(ratings, EmpiricalAUC(), random)
        assume(_clear(ours) and ours.components["MS(TR)"] > 1e-9)
        assert ours.overall is not None
        assert other.overall is not None
        for name in ("value", "df1", "df2", "p"):
            assert getattr(other.overall, name) == pytest.approx(
                getattr(ours.overall, name), rel=1e-6, abs=1e-9
            )
        for one, same in zip(
            other.differences + other.treatments, ours.differences + ours.treatments, strict=True
        ):
            for name in ("estimate", "se", "low", "high"):
                if np.isfinite(getattr(same, name)):
                    assert getattr(one, name) == pytest.approx(getattr(same, name), rel=1e-6, abs=1e-7)
        assert other.components["error term"] == pytest.approx(n * ours.components["error term"], rel=1e-9)
    for name, number in to_dbm(ours.components, n).items():
        if name != "Var(TR)":  # there Obuchowski-Rockette has max(Cov2 - Cov3, 0)
            assert other.components[name] == pytest.approx(number, rel=1e-9, abs=1e-9), name
    back = to_or(other.components, n)
    for name in ("Var(error)", "Cov1", "Cov2", "Cov3", "Var(R)"):
        assert back[name] == pytest.approx(ours.components[name], rel=1e-9, abs=1e-9), name


@given(studies())
def test_dbm_with_fixed_readers_has_the_same_error_and_t(ratings: Ratings) -> None:
    ours = obuchowski_rockette(estimate(ratings, EmpiricalAUC()), Random.CASES)
    other = dbm(ratings, EmpiricalAUC(), Random.CASES)
    n, t = len(ratings.patients), len(ratings.treatments)
    if ours.components["Cov2"] >= ours.components["Cov3"]:
        assert other.components["error term"] / n == pytest.approx(ours.components["error term"], abs=1e-12)
    assert {d.df for d in other.differences} == {float((t - 1) * (n - 1))}
    if t == 2:
        for one, same in zip(other.by_reader, ours.by_reader, strict=True):
            assert (one.of, one.estimate) == (same.of, same.estimate)
            assert one.se == pytest.approx(same.se, abs=1e-8)


def test_dbm_of_sensitivity_is_or_too(shared_data: Path) -> None:
    ratings = load(shared_data)
    found = dbm(ratings, Sensitivity(3)).overall
    assert found is not None
    assert found.value == pytest.approx(6.689493, abs=5e-7)
    assert found.df2 == pytest.approx(15.71732, abs=5e-6)


def test_dbm_refuses_missing_ratings_and_single_cases() -> None:
    score = np.arange(2.0 * 2 * 6).reshape(2, 2, 6)
    with pytest.raises(InputError, match="without some patient"):
        dbm(crossed(score, 1), EmpiricalAUC())
    score[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not fully crossed"):
        dbm(crossed(score, 3), EmpiricalAUC())
    with pytest.raises(InputError, match="Cov1"):
        to_dbm({"Var(R)": 1.0}, 3)
    with pytest.raises(InputError, match="0 patients"):
        to_or({}, 0)


# --- what must not matter, and what must


def _numbers(found: Analysis) -> list[float]:
    intervals = (*found.differences, *found.treatments)
    values = [getattr(x, name) for x in intervals for name in ("estimate", "se", "df", "low", "high", "p")]
    assert found.overall is not None
    return [*values, found.overall.value, found.overall.p]


@given(studies(), st.sampled_from([Covariance.JACKKNIFE, Covariance.DELONG, Covariance.UNBIASED]))
def test_a_monotone_change_of_ratings_changes_nothing(ratings: Ratings, method: Covariance) -> None:
    changed = replace(ratings, score=np.exp(ratings.score) - 7.0)
    one, other = (estimate(x, EmpiricalAUC(), method) for x in (ratings, changed))
    assert np.array_equal(one.value, other.value)
    assert np.array_equal(one.covariance, other.covariance, equal_nan=True)


@given(studies(treatments=2), st.sampled_from(list(Random)))
def test_swapping_treatments_turns_the_sign(ratings: Ratings, random: Random) -> None:
    swapped = ratings.select(treatments=ratings.treatments[::-1])
    one, other = (obuchowski_rockette(estimate(x, EmpiricalAUC()), random) for x in (ratings, swapped))
    a, b = one.differences[0], other.differences[0]
    assert a.of == "T0 - T1"
    assert b.of == "T1 - T0"
    assert [b.estimate, b.low, b.high] == pytest.approx(
        [-a.estimate, -a.high, -a.low], abs=1e-12, nan_ok=True
    )
    if one.components["error term"] > 1e-9:
        assert [b.statistic, b.p] == pytest.approx([-a.statistic, a.p], abs=1e-9, nan_ok=True)


@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_readers_and_cases_does_not_matter(ratings: Ratings, order: Any) -> None:
    readers = list(ratings.readers)
    order.shuffle(readers)
    cases = list(range(len(ratings.cases)))
    order.shuffle(cases)
    other = ratings.select(readers=readers)
    other = replace(
        other,
        score=other.score[:, :, cases],
        truth=other.truth[cases],
        cases=tuple(other.cases[k] for k in cases),
        patient=other.patient[cases],
    )
    for method in (Covariance.JACKKNIFE, Covariance.UNBIASED):
        one, two = (estimate(x, EmpiricalAUC(), method) for x in (ratings, other))
        a, b = obuchowski_rockette(one), obuchowski_rockette(two)
        assume(_clear(a) and a.components["MS(TR)"] > 1e-9)
        assume(all(x > 1e-9 or x == 0 for x in np.abs(np.einsum("ijij->ij", one.covariance)).ravel()))
        if min(np.var(one.value, axis=1)) > 1e-9:
            assert _numbers(b) == pytest.approx(_numbers(a), rel=1e-6, abs=1e-9, nan_ok=True)


@given(studies())
def test_one_treatment_alone_has_the_interval_it_has_among_others(ratings: Ratings) -> None:
    for random in Random:
        whole = obuchowski_rockette(estimate(ratings, EmpiricalAUC()), random)
        for name, among in zip(ratings.treatments, whole.treatments, strict=True):
            found = obuchowski_rockette(estimate(ratings.select(treatments=[name]), EmpiricalAUC()), random)
            assert (found.overall, found.differences) == (None, ())
            for what in ("estimate", "se", "df", "low", "high"):
                assert getattr(found.treatments[0], what) == pytest.approx(
                    getattr(among, what), rel=1e-9, abs=1e-9, nan_ok=True
                )


@given(studies(), st.integers(0, 1))
def test_one_reader_alone_is_his_line_among_fixed_readers(ratings: Ratings, which: int) -> None:
    two = ratings.select(treatments=ratings.treatments[:2])
    whole = obuchowski_rockette(estimate(two, EmpiricalAUC()), Random.CASES)
    alone = obuchowski_rockette(
        estimate(two.select(readers=[two.readers[which]]), EmpiricalAUC()), Random.CASES
    )
    for one in (alone.differences[0], alone.by_reader[0]):
        for what in ("estimate", "se", "low", "high"):
            assert getattr(one, what) == pytest.approx(
                getattr(whole.by_reader[which], what), abs=1e-9, nan_ok=True
            )


def test_names_and_places() -> None:
    found = obuchowski_rockette(from_print(), Random.CASES, 0.9)
    assert (found.method, found.covariance, found.merit) == ("OR", "jackknife", "empirical AUC")
    assert found.design == "factorial"
    assert {x.level for x in (*found.differences, *found.treatments, *found.by_reader)} == {0.9}
    assert [x.of for x in found.treatments] == ["1", "2"]
    assert [x.null for x in found.treatments] == [0.5, 0.5]
    json.dumps(found.as_json(), allow_nan=False)
    assert len(list(combinations(found.treatments, 2))) == len(found.differences)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(SettingsError, match="level"):
        obuchowski_rockette(from_print(), level=level)


@pytest.mark.parametrize("design", ["cases nested in readers", "cases nested in treatments", "crossed"])
def test_a_design_that_the_estimates_contradict_is_refused(design: str) -> None:
    with pytest.raises(SettingsError, match="design"):
        obuchowski_rockette(from_print(), design=design)
