"""Comparisons: p-values, Holm, the primary one, and what may be claimed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.errors import SettingsError
from scanward.learning.benchmark.answers import Attacked, Told
from scanward.learning.benchmark.comparisons import Primary, compare, newcombe
from scanward.learning.benchmark.drawn import stratum_of
from scanward.learning.benchmark.figures import AttackFacts, level_figures
from scanward.learning.resampling import Interval, holm, interval, two_sided

ONE, TWO = "recurring protocols", "new protocols"
GROUPS = {
    "null": AttackFacts("null", "null"),
    "a": AttackFacts("known", "a"),
    "b": AttackFacts("held out", "b"),
    "x2": AttackFacts("curve", "dose", "", 2.0),
}
PRIMARY = Primary("serial")


def cell(
    seed: int, strength: float, *, own: int = 0, units: int = 80, names: Sequence[str] = tuple(GROUPS)
) -> Told:
    """One method's answers; ``seed`` makes the cases (the same for all methods), ``own`` the method's scores."""
    rng, mine = np.random.default_rng(seed), np.random.default_rng((seed, own))
    attacks = {
        name: Attacked(mine.normal(strength, 1, 50), np.zeros(50, bool), np.sort(rng.integers(0, units, 50)))
        for name in names
    }
    of = np.arange(units)
    return Told(mine.normal(size=100), mine.normal(size=units), np.zeros(units, bool), of, attacks)


def compared(levels: Mapping[str, Mapping[str, Sequence[Told | None]]], **more: Any) -> dict[str, Any]:
    out = compare(levels, GROUPS, **{"primary": PRIMARY, "budget": 0.05, "draws": 300, **more})
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    return out


def site(**strengths: float) -> dict[str, list[Told | None]]:
    return {
        name.replace("_", " "): [cell(1, s, own=k), cell(2, s, own=k)]
        for k, (name, s) in enumerate(strengths.items())
    }


# --- p-values


def test_a_p_value_is_counted_on_both_sides_and_is_never_0() -> None:
    assert two_sided(np.array([1.0, *[1.0] * 99])) == 2 / 100
    assert two_sided(np.array([-1.0, *[-1.0] * 99])) == 2 / 100
    assert two_sided(np.array([0.3, 1, 1, 1, -1])) == 2 * 2 / 5
    assert two_sided(np.zeros(50)) == 1
    # A draw in which nothing was measured speaks for neither.
    assert two_sided(np.array([0.3, 1, 1, 1, math.nan])) == 2 * 2 / 5
    assert two_sided(np.array([math.nan, 1.0])) == 1


@settings(deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40))
def test_a_p_value_does_not_know_left_from_right(draws: list[int]) -> None:
    told = np.array(draws, float)
    p = two_sided(told)
    assert p == two_sided(-told)
    assert 1 / len(draws) <= p <= 1


def test_holm_as_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_as_stepping_down_does(p: list[float], alpha: float) -> None:
    corrected = holm(p)
    rejected = set()
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - place) >= alpha:
            break
        rejected.add(i)
    assert {i for i, q in enumerate(corrected) if q < alpha} == rejected


@pytest.mark.parametrize("strength", [1.0, 2.5])
def test_equal_methods_are_seldom_found_different(strength: float) -> None:
    """No more than the 5 % asked for, save for chance."""
    found = 0
    for k in range(150):
        # The examinations of each repetition, and what the two methods make of them, anew.
        told = {"Scanward": [cell(k, strength, own=1)], "serial": [cell(k, strength, own=2)]}
        found += compared({ONE: told}, seed=k, draws=150)["primary"]["p"] < 0.05
    assert found <= 15


# --- differences


def test_a_difference_is_that_of_the_figures_and_its_draws_are_paired() -> None:
    told = site(Scanward=1.4, serial=1.0)
    out = compared({ONE: told}, draws=200)["primary"]
    figures = level_figures(ONE, told, GROUPS, [], budgets=(0.05,), draws=5)["methods"]
    mine, other = (figures[m]["detection"]["0.05"]["mean"]["value"] for m in ("Scanward", "serial"))
    assert out["difference"]["value"] == pytest.approx(mine - other, abs=2e-6)
    drawn = np.zeros(201)
    for world in (0, 1):
        cells = {m: w[world] for m, w in told.items()}
        stratum = stratum_of(cells, world, ("a", "b"), 0, 200)
        assert stratum is not None
        for sign, method in ((1, "Scanward"), (-1, "serial")):
            one = told[method][world]
            assert one is not None
            at = stratum.thresholds(one.calibrate, (0.05,))[0.05]
            for a in "ab":
                cases = one.attacks[a]
                w = stratum.weights[stratum.places(cases.units)].astype(float)
                drawn += sign * (w * (cases.scores[:, None] > at)).sum(axis=0) / w.sum(axis=0) / 4
    expected = interval(drawn)
    assert list(out["difference"].values()) == pytest.approx(
        [expected.value, expected.low, expected.high], abs=1e-6
    )
    assert out["p"] == two_sided(drawn)


def test_a_method_against_its_own_double_does_not_differ() -> None:
    """Paired: were the draws of the two apart, there would be an interval around 0."""
    one = [cell(1, 1.2)]
    out = compared({ONE: {"Scanward": one, "serial": one}})["primary"]
    assert out["difference"] == {"value": 0, "low": 0, "high": 0}
    assert out["p"] == 1
    assert out["claim"] is False


def test_only_what_both_were_measured_on_is_compared() -> None:
    """The other was shown attack a, and was not measured in the second world."""
    ours = [cell(1, 1.4, own=1), cell(2, 1.4, own=1)]
    other = cell(1, 1.0, own=2)
    shown = Told(
        other.calibrate, other.clean_scores, other.clean_objects, other.clean_units, {"b": other.attacks["b"]}
    )
    out = compared({ONE: {"Scanward": ours, "serial": [shown, None]}})["primary"]
    figures = level_figures(
        ONE, {"Scanward": [ours[0]], "serial": [shown]}, GROUPS, [], budgets=(0.05,), draws=5
    )["methods"]
    mine, its = (figures[m]["detection"]["0.05"]["attacks"]["b"]["value"] for m in ("Scanward", "serial"))
    assert out["difference"]["value"] == pytest.approx(mine - its, abs=2e-6)


def test_batches_of_draws_are_all_different() -> None:
    told = {ONE: site(Scanward=1.1, serial=1.0)}
    two, one = compared(told, draws=2000)["primary"], compared(told, draws=1000)["primary"]
    less = [round(told["p"] * (draws + 1) / 2) - 1 for told, draws in ((one, 1000), (two, 2000))]
    assert less[0] > 20
    assert less[1] != 2 * less[0]  # the same thousand twice
    assert two["difference"]["value"] == one["difference"]["value"]
    # As many draws as asked for: the smallest p-value there is.
    assert compared({ONE: site(Scanward=9, serial=-9)}, draws=1500)["primary"]["p"] == 2 / 1501


def test_where_hardly_any_is_missed_the_interval_is_no_point() -> None:
    out = compared({ONE: site(Scanward=90, serial=-90)})["primary"]
    assert (out["difference"]["value"], out["difference"]["high"]) == (1, 1)
    assert 0.9 < out["difference"]["low"] < 0.99
    low, high = newcombe(Interval(0.9, 0.8, 0.95), Interval(0.5, 0.4, 0.6))
    assert (low, high) == pytest.approx((0.4 - math.hypot(0.1, 0.1), 0.4 + math.hypot(0.05, 0.1)))


# --- claims


def test_the_primary_comparison_is_tested_alone_and_the_rest_together() -> None:
    told = {
        ONE: site(Scanward=3, serial=1, kNN=1, LOF=2.9, oracle=9, Scanward__without_form=3),
        TWO: site(Scanward=2, serial=1, kNN=1),
    }
    out = compared(told)
    assert (out["primary"]["level"], out["primary"]["against"], out["primary"]["claim"]) == (
        ONE,
        "serial",
        True,
    )
    assert out["primary"]["p"] == 2 / 301
    others = out["others"]
    assert [(o["level"], o["against"]) for o in others] == [
        (ONE, "kNN"), (ONE, "LOF"), (TWO, "serial"), (TWO, "kNN")
    ]  # fmt: skip
    assert [o["p_holm"] for o in others] == pytest.approx(holm([o["p"] for o in others]))
    assert [o["claim"] for o in others] == [True, False, True, True]
    assert out["first"] is False  # LOF is as good
    assert "300 draws" in out["method"]
    assert "3 others" not in out["method"]


def test_first_takes_every_claim() -> None:
    sure = site(Scanward=5, serial=1, kNN=1)
    assert compared({ONE: sure, TWO: sure})["first"] is True
    assert compared({ONE: site(Scanward=5, serial=1, kNN=5), TWO: sure})["first"] is False
    assert compared({ONE: site(Scanward=5, serial=5, kNN=1), TWO: sure})["first"] is False
    worse = compared({ONE: site(Scanward=1, serial=5)})
    assert worse["primary"]["p"] == 2 / 301
    assert (worse["primary"]["claim"], worse["first"]) == (False, False)


def test_a_claim_is_of_the_corrected_p_value_and_of_what_is_better() -> None:
    alone = compared({ONE: site(Scanward=1.5, serial=1, kNN=0)})["others"][0]
    assert alone["p"] < 0.05
    assert alone["claim"] is True
    crowd = site(Scanward=1.5, serial=1, kNN=0, **{f"m{k}": 1.5 for k in range(30)})
    (among,) = (o for o in compared({ONE: crowd})["others"] if o["against"] == "kNN")
    assert among["p"] == alone["p"]
    assert among["p_holm"] > 0.05
    assert among["claim"] is False
    better = compared({ONE: site(Scanward=1, serial=0, kNN=5)})
    assert better["others"][0]["p_holm"] < 0.05
    assert better["others"][0]["claim"] is False


def test_a_rule_that_objects_catches_in_comparisons_too() -> None:
    ours, other = cell(1, -90, own=1), cell(1, -90, own=2)
    for a in "ab":
        ours.attacks[a].objects[:] = True
    assert compared({ONE: {"Scanward": [ours], "serial": [other]}})["primary"]["difference"]["value"] == 1


def test_nothing_is_claimed_of_what_was_not_measured() -> None:
    told = site(Scanward=5, serial=1, kNN=1)
    missing = compared({ONE: {**told, "kNN": [None, None]}})
    assert missing["first"] is False
    assert missing["missing"] == [[ONE, "kNN"]]
    nothing = compared({TWO: told})
    assert nothing["primary"]["difference"] is nothing["primary"]["p"] is None
    assert (nothing["primary"]["claim"], nothing["first"]) == (False, False)
    without_ours = compared({ONE: {"serial": told["serial"], "kNN": told["kNN"]}})
    assert (without_ours["primary"]["claim"], without_ours["others"]) == (False, [])


def test_a_budget_that_a_method_cannot_express_is_no_comparison() -> None:
    told = site(Scanward=5, serial=1)
    assert compared({ONE: told}, budget=0.005)["primary"]["difference"] is None


def test_baselines_may_be_named() -> None:
    told = site(Scanward=5, serial=1, kNN=1, LOF=1)
    out = compared({ONE: told}, baselines=["LOF"])
    assert [o["against"] for o in out["others"]] == ["LOF"]


def test_draws_are_enough_for_holm_when_none_are_asked_for() -> None:
    """Eight baselines at four levels: without more draws no corrected p-value could be small enough."""
    names = {f"m{k}": 0.0 for k in range(20)}
    told = {ONE: {m: w[:1] for m, w in site(Scanward=9, serial=0, **names).items()}}
    out = compared(told, draws=None)
    assert all(o["p_holm"] < 0.05 for o in out["others"])
    assert "1600 draws" in out["method"]


@pytest.mark.parametrize("more", [{"primary": Primary("Scanward")}, {"draws": 0}])
def test_what_makes_no_sense_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        compared({ONE: site(Scanward=1, serial=1)}, **more)
