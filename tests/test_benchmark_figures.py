"""Every figure of the benchmark against the plainest way of counting it, draw by draw, on small arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from scanward.calibration import Calibration
from scanward.errors import LearningError
from scanward.learning.benchmark import drawn
from scanward.learning.benchmark.answers import Attacked, Told
from scanward.learning.benchmark.curves import (
    FALSE_ALERTS,
    areas,
    perfect_aupr,
    perfect_auroc,
    ranked,
    roc,
    smallest,
)
from scanward.learning.benchmark.drawn import (
    Mean,
    Stratum,
    add_detection,
    expressible,
    mean_of,
    multinomial,
    stratum_of,
)
from scanward.learning.benchmark.figures import ASKED, AttackFacts, level_figures
from scanward.learning.benchmark.harm import HARMS, RADIUS, add_missed, harms
from scanward.learning.resampling import exact, interval

LEVEL = "recurring protocols"
GROUPS = {
    "null": AttackFacts("null", "null"),
    "a": AttackFacts("known", "a", "one"),
    "b": AttackFacts("known", "b"),
    "c": AttackFacts("held out", "c"),
    "dose factor 2": AttackFacts("curve", "dose", "", 2.0),
}


def cell(
    seed: int,
    *,
    units: int = 40,
    calibrate: int = 30,
    cases: int = 25,
    strength: float = 1.5,
    names: Sequence[str] = tuple(GROUPS),
    whole: bool = True,
) -> Told:
    """What a middling method tells: ``whole`` scores are whole numbers, so that there are ties."""
    rng = np.random.default_rng(seed)
    scale = 3.0 if whole else 1e6

    def scores(count: int, shift: float = 0.0) -> Any:
        return np.floor(rng.normal(shift, 1, count) * scale)

    of = np.repeat(np.arange(units), rng.integers(1, 4, units))
    attacks = {
        name: Attacked(
            scores(cases, 0.0 if name == "null" else strength + i / 4),
            rng.random(cases) < 0.1,
            np.sort(rng.integers(0, units, cases)),
        )
        for i, name in enumerate(names)
    }
    return Told(
        scores(calibrate, 1.0),
        scores(len(of)),
        rng.random(len(of)) < 0.02,
        of,
        attacks,
        {"microseconds": 5.0},
    )


def effects_for(told: Told, seed: int = 0) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    out = {}
    for name, cases in told.attacks.items():
        count = len(cases.units)
        out[name] = {
            "unit": cases.units,
            "dose_factor": rng.uniform(0.5, 3, count),
            "extra_dlp": rng.normal(50, 100, count),
            "tissue_mm": rng.uniform(0, 50, count) * (name == "b"),
            "motion_mm": rng.normal(0, 5, count),
            "motion_deg": rng.normal(0, 10, count),
            "image_lost": rng.random(count) < 0.5,
            "context_only": np.full(count, name == "c"),
        }
    return out


def figures(
    told: Mapping[str, Sequence[Told | None]], effects: Sequence[Any] = (), **more: Any
) -> dict[str, Any]:
    """With few calibration examinations, a larger budget."""
    out = level_figures(LEVEL, told, GROUPS, effects, **{"budgets": (0.1, 0.05), "draws": 60, **more})
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    return out


# --- drawing


def test_every_draw_has_as_many_examinations_as_the_sample() -> None:
    came = multinomial(50, 50, 300, (1, 2))
    assert (came[:, 0] == 1).all()
    assert (came.sum(axis=0) == 50).all()
    assert came[:, 1:].var() == pytest.approx(1 - 1 / 50, rel=0.05)


def test_some_examinations_are_drawn_as_when_all_are() -> None:
    came = multinomial(50, 10, 4000, (1, 2))[:, 1:]
    assert came.shape == (10, 4000)
    assert came.mean() == pytest.approx(1, abs=0.02)
    assert came.sum(axis=0).var() == pytest.approx(50 * 0.2 * 0.8, rel=0.1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.floats(0.001, 0.999),
    st.lists(st.integers(-1, 9), min_size=1, max_size=10),
)
def test_the_sample_alerts_as_the_conformal_rule_does(
    cal: list[int], budget: float, asked: list[int]
) -> None:
    rule = Calibration.of(cal)
    stratum = Stratum(5, 3, (1, 2))
    thresholds = stratum.thresholds(np.array(cal, float), (budget,))
    if not thresholds:
        assert expressible(budget, len(cal)) is None
        assert 1 / (len(cal) + 1) > budget
        return
    for score in asked:
        assert (score > thresholds[budget][0]) == (rule.p_value(score) <= budget)


@pytest.mark.parametrize("count", [12, 400])
def test_the_threshold_of_a_draw_is_that_of_the_calibration_drawn(count: int) -> None:
    rng = np.random.default_rng(count)
    cal = rng.integers(0, 30, count).astype(float)
    stratum = Stratum(5, 80, (4, 0))
    thresholds = stratum.thresholds(cal, (0.1, 0.3))
    came = multinomial(count, count, 80, (4, 0, 2, count))
    for budget, told in thresholds.items():
        for d in range(81):
            rule = Calibration.of(np.repeat(cal, came[:, d].astype(int)).tolist())
            for score in range(-1, 31):
                assert (score > told[d]) == (rule.p_value(score) <= budget)


def test_a_threshold_is_found_where_the_top_hardly_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spare ones, the top that is looked at first is too little in many draws."""
    cal = np.arange(200.0)
    expected = Stratum(5, 300, (4, 0)).thresholds(cal, (0.015,))[0.015]
    monkeypatch.setattr(drawn, "SPARE", 0)
    rank = expressible(0.015, 200)
    assert rank == 2
    came = multinomial(200, 200, 300, (4, 0, 2, 200))
    assert (came[-4:].sum(axis=0) <= rank).any()
    assert (Stratum(5, 300, (4, 0)).thresholds(cal, (0.015,))[0.015] == expected).all()


def test_a_calibration_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(LearningError, match="not a number"):
        Stratum(5, 3, (1,)).thresholds(np.array([1.0] * 30 + [math.inf]), (0.1,))


def test_an_answer_about_an_examination_that_is_not_there_is_refused() -> None:
    with pytest.raises(LearningError, match="not there"):
        Stratum(5, 3, (1,)).counts(np.array([5]))


def test_what_is_caught_in_every_draw() -> None:
    told = cell(3)
    stratum = Stratum(40, 50, (9, 0))
    at = stratum.thresholds(told.calibrate, (0.1,))[0.1]
    one = told.attacks["a"]
    amounts = np.random.default_rng(1).random((2, len(one.units)))
    caught = stratum.caught(one.scores, one.objects, one.units, at)
    weighted = stratum.caught(one.scores, one.objects, one.units, at, amounts)
    assert len(np.unique(at)) > 2  # otherwise nothing stands between the thresholds
    for d in range(51):
        alert = (one.scores > at[d]) | one.objects
        w = stratum.weights[one.units, d]
        assert caught[d] == (w * alert).sum()
        assert weighted[:, d] == pytest.approx((amounts * w * alert).sum(axis=1))


# --- whole figures, counted plainly


class Plain:
    """One method in one world, counted examination by examination in every draw."""

    def __init__(self, told: Told, world: int, budget: float, draws: int, seed: int = 0) -> None:
        self.told = told
        self.stratum = Stratum(told.units, draws, (seed, world))
        self.at = self.stratum.thresholds(told.calibrate, (budget,))[budget]
        self.weights = self.stratum.weights.astype(float)

    def detection(self, name: str) -> Any:
        one = self.told.attacks[name]
        out = []
        for d, at in enumerate(self.at):
            hits = count = 0.0
            for score, objects, unit in zip(one.scores, one.objects, one.units, strict=True):
                hits += self.weights[unit, d] * (objects or score > at)
                count += self.weights[unit, d]
            out.append(hits / count if count else math.nan)
        return np.array(out)

    def false(self) -> tuple[Any, Any, Any]:
        """Shares of examinations and of commands, and alerts for 1,000 examinations."""
        out = []
        for d, at in enumerate(self.at):
            alert = self.told.clean_objects | (self.told.clean_scores > at)
            w = self.weights[:, d]
            alerts = sum(w[u] for u, a in zip(self.told.clean_units, alert, strict=True) if a)
            units = {u for u, a in zip(self.told.clean_units, alert, strict=True) if a}
            out.append(
                (
                    sum(w[u] for u in units) / w.sum(),
                    alerts / w[self.told.clean_units].sum(),
                    1000 * alerts / w.sum(),
                )
            )
        return tuple(np.array(out).T)  # type: ignore[return-value]


def same(told: dict[str, float], draws: Any) -> None:
    expected = interval(draws)
    assert told["value"] == pytest.approx(expected.value, abs=1e-6)
    assert told["low"] <= expected.low + 1e-6
    assert told["high"] >= expected.high - 1e-6


def exactly(told: dict[str, float], draws: Any) -> None:
    expected = interval(draws)
    assert list(told.values()) == pytest.approx([expected.value, expected.low, expected.high], abs=1e-6)


def test_figures_over_two_worlds_are_those_counted_plainly() -> None:
    cells = [cell(1, units=60, cases=50, strength=0.8), cell(2, units=40, cases=50, strength=0.8)]
    out = figures({"m": cells})["methods"]["m"]
    plain = [Plain(c, w, 0.1, 60) for w, c in enumerate(cells)]
    by_attack = {a: (plain[0].detection(a) + plain[1].detection(a)) / 2 for a in GROUPS}
    detection = out["detection"]["0.1"]
    for a in "abc":
        exactly(detection["attacks"][a], by_attack[a])
    assert set(detection["attacks"]) == set("abc")
    exactly(detection["mean"], (by_attack["a"] + by_attack["b"] + by_attack["c"]) / 3)
    exactly(detection["known"], (by_attack["a"] + by_attack["b"]) / 2)
    exactly(detection["held out"], by_attack["c"])
    exactly(out["clean"]["0.1"]["null"], by_attack["null"])
    false = [np.mean(two, axis=0) for two in zip(*(p.false() for p in plain), strict=True)]
    exactly(out["clean"]["0.1"]["examinations"], false[0])
    exactly(out["clean"]["0.1"]["commands"], false[1])
    exactly(out["clean"]["0.1"]["holds_per_1000"], false[2])
    place = out["calibration"]["asked"].index(0.1)
    exactly(out["calibration"]["observed"][place], false[0])
    mean = (by_attack["a"] + by_attack["b"] + by_attack["c"]) / 3
    for p in (0.5, 0.1, 0.01):
        precision = p * mean / (p * mean + (1 - p) * false[1])
        exactly(out["f1"][f"{p:g}"], 2 * precision * mean / (precision + mean))
    assert out["microseconds"] == 5.0


def test_a_share_of_the_ceiling_is_paired() -> None:
    ours, best = cell(1, units=60, cases=50, strength=0.8), cell(2, units=60, cases=50, strength=1.2)
    out = figures({"m": [ours], "best": [best]}, ceiling="best")["methods"]
    mine, its = Plain(ours, 0, 0.1, 60), Plain(best, 0, 0.1, 60)
    above = sum(mine.detection(a) for a in "abc")
    below = sum(its.detection(a) for a in "abc")
    exactly(out["m"]["of_ceiling"]["0.1"]["mean"], above / below)
    exactly(out["m"]["of_ceiling"]["0.1"]["attacks"]["b"], mine.detection("b") / its.detection("b"))
    assert out["best"]["of_ceiling"] is None


def test_harm_let_through_is_weighted_and_each_attack_counts_equally() -> None:
    told = cell(5, cases=50, units=60, strength=0.6)
    # An attack with a tenth of the cases counts as much as the others.
    few = told.attacks["b"]
    told.attacks["b"] = Attacked(few.scores[:5], few.objects[:5], few.units[:5])  # type: ignore[index]
    effects = effects_for(told)
    out = figures({"m": [told]}, [effects])["methods"]["m"]["missed_harm"]
    plain = Plain(told, 0, 0.1, 60)
    for k, kind in enumerate(HARMS):
        expected = []
        for d, at in enumerate(plain.at):
            missed = total = 0.0
            for name in "abc":
                one, of = told.attacks[name], effects[name]
                for m, unit in enumerate(one.units):
                    degrees = abs(of["motion_deg"][m]) * math.pi / 180 * RADIUS
                    amount = (
                        max(of["extra_dlp"][m], 0),
                        of["tissue_mm"][m],
                        abs(of["motion_mm"][m]) + degrees,
                        float(of["image_lost"][m]),
                    )[k]
                    amount *= plain.weights[unit, d] / len(one.units) * (not of["context_only"][m])
                    total += amount
                    missed += amount * (not (one.objects[m] or one.scores[m] > at))
            expected.append(missed / total if total else math.nan)
        (exactly if kind != "tissue" else same)(out[kind], np.array(expected))


def test_harm_of_what_deceives_alone_or_is_not_known_is_none() -> None:
    of = {
        "unit": np.arange(3),
        "extra_dlp": np.array([5.0, math.nan, -4.0]),
        "motion_deg": np.array([-90.0, 0.0, math.nan]),
        "context_only": np.array([False, True, False]),
    }
    assert harms(of).tolist() == [
        [5, 0, 0],
        [0, 0, 0],
        [pytest.approx(math.pi / 2 * RADIUS), 0, 0],
        [0, 0, 0],
    ]


def test_effects_of_other_cases_are_refused() -> None:
    told = cell(5)
    effects = effects_for(told)
    effects["a"]["unit"] = effects["a"]["unit"][::-1]
    with pytest.raises(LearningError, match="different cases"):
        figures({"m": [told]}, [effects])


def test_no_harm_let_through_has_no_empty_interval() -> None:
    told = cell(5, strength=50)
    stratum = Stratum(told.units, 50, (0, 0))
    means = {kind: Mean.empty(50) for kind in HARMS}
    effects = {"a": {"unit": told.attacks["a"].units, "image_lost": np.ones(25)}}
    add_missed(means, 0, stratum, told, "a", effects, np.full(51, 20.0))
    got = means["image"].interval()
    units = len(np.unique(told.attacks["a"].units))
    assert got.value == got.low == 0
    assert exact(0, units)[1] <= got.high < exact(0, units / 3)[1]
    assert not means["dose"].units


# --- curves


def repeated(told: Told, weights: Any, names: Sequence[str]) -> tuple[Any, Any, Any]:
    """Scores (objections on top), truth and weights of a draw, attacks weighing equally and 1 together."""
    lifted = told.clean_scores + 1e9 * told.clean_objects
    scores, truth = [lifted], [np.zeros(len(lifted))]
    w = [weights[told.clean_units] / weights[told.clean_units].sum()]
    came = [n for n in names if weights[told.attacks[n].units].sum()]
    for name in came:
        one = told.attacks[name]
        mine = weights[one.units]
        scores.append(one.scores + 1e9 * one.objects)
        truth.append(np.ones(len(mine)))
        w.append(mine / mine.sum() / len(came))
    return np.concatenate(scores), np.concatenate(truth), np.concatenate(w)


@pytest.mark.parametrize("whole", [True, False])
def test_areas_are_those_of_another_library_in_every_draw(whole: bool) -> None:
    told = cell(7, whole=whole, strength=1.0)
    stratum = Stratum(told.units, 20, (3, 0))
    names = ["a", "b", "c"]
    auroc, aupr = areas(stratum, told, ranked(told, names), (0.5, 0.01))
    for d in range(21):
        w = stratum.weights[:, d].astype(float)
        for k, name in enumerate(names):
            scores, truth, weights = repeated(told, w, [name])
            assert auroc[k][d] == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights))
        scores, truth, weights = repeated(told, w, names)
        for p in (0.5, 0.01):
            mixed = np.where(truth > 0, p, 1 - p) * weights
            expected = average_precision_score(truth, scores, sample_weight=mixed)
            assert aupr[p][d] == pytest.approx(expected)


@pytest.mark.parametrize("whole", [True, False])
def test_the_roc_curve_holds_the_rate_of_examinations_in_every_draw(whole: bool) -> None:
    told = cell(8, units=300, cases=60, strength=0.5, whole=whole)
    stratum = Stratum(300, 20, (3, 0))
    names = ["a", "b"]
    got = roc(stratum, told, ranked(told, names))
    commands = told.clean_scores + 1e9 * told.clean_objects
    lifted = np.array([commands[told.clean_units == u].max() for u in range(300)])
    for d in range(21):
        w = stratum.weights[:, d].astype(float)
        for k, rate in enumerate(FALSE_ALERTS):
            # The smallest threshold at which no more alert than that.
            fits = [
                t
                for t in (*np.unique(lifted), -np.inf)
                if (w * (lifted > t)).sum() <= rate * w.sum() * (1 + 1e-12)
            ]
            at = min(fits)
            found = []
            for name in names:
                one = told.attacks[name]
                mine = w[one.units]
                found.append((mine * (one.scores + 1e9 * one.objects > at)).sum() / mine.sum())
            assert got[k, d] == pytest.approx(np.mean(found))


def test_a_rule_that_objects_stands_above_every_score() -> None:
    told = Told(
        np.zeros(30), np.arange(10.0), np.zeros(10, bool), np.arange(10),
        {"a": Attacked(np.full(5, -100.0), np.ones(5, bool), np.arange(5))},
    )  # fmt: skip
    one = figures({"m": [told]})["methods"]["m"]
    assert one["auroc"]["mean"]["value"] == 1
    assert one["aupr"]["0.01"]["value"] == 1
    assert one["roc"]["detection"] == [1] * len(FALSE_ALERTS)
    assert one["detection"]["0.1"]["mean"]["value"] == 1


def test_a_perfect_order_does_not_claim_to_be_certain() -> None:
    assert perfect_auroc(20, 300) == pytest.approx(0.025 ** (1 / 20))
    for p in (0.5, 0.01):
        c = (1 - p) * exact(0, 300)[1] / p
        t = (np.arange(200_000) + 0.5) / 200_000
        assert perfect_aupr(p, 300) == pytest.approx(float((t / (t + c)).mean()), abs=1e-5)
    told = cell(9, strength=50)
    told.clean_objects[:] = False
    one = figures({"m": [told]}, draws=20)["methods"]["m"]
    fewest = min(len(np.unique(told.attacks[a].units)) for a in "abc")
    assert one["auroc"]["mean"] == {
        "value": 1,
        "low": pytest.approx(0.025 ** (1 / fewest), abs=1e-6),
        "high": 1,
    }
    assert one["aupr"]["0.01"]["low"] == pytest.approx(perfect_aupr(0.01, 40), abs=1e-6)


def test_the_smallest_factor_is_where_detection_last_rises_through_95_percent() -> None:
    rates = {1.5: 0.5, 2.0: 0.9, 4.0: 1.0, 0.5: 0.2, 0.1: 0.6}
    units = np.arange(100)
    attacks = {
        f"x{f}": Attacked((units < 100 * r).astype(float), np.zeros(100, bool), units)
        for f, r in rates.items()
    }
    told = Told(np.linspace(0, 0.5, 300), np.zeros(100), np.zeros(100, bool), units, attacks)
    (one,) = smallest(LEVEL, {"m": [told], "empty": [None]}, {f"x{f}": f for f in rates}, draws=200)
    assert one["method"] == "m"
    assert one["level"] == LEVEL
    assert one["more"]["factors"] == [1.5, 2.0, 4.0]
    assert one["less"]["factors"] == [0.5, 0.1]
    assert [d["value"] for d in one["more"]["detection"]] == pytest.approx([0.5, 0.9, 1.0])
    at = one["more"]["at_95"]
    assert at["value"] == pytest.approx(2 * 2**0.5)  # half of the way from 0.9 to 1, in the logarithm
    assert 2.0 <= at["low"] < at["value"] < at["high"] <= 4.0
    assert one["more"]["reached"] == 1
    assert one["less"]["at_95"] == {"value": None, "low": None, "high": None}
    assert one["less"]["reached"] == 0
    assert one["more"]["detection"][2]["low"] < 0.97  # a hundred of a hundred is no certainty


def sure(catches: bool, alerts: bool = False, units: int = 60) -> Told:
    """All cases caught or none, and no clean examination alerted, or the first one by two of its three commands."""
    of = np.repeat(np.arange(units), 3)
    objects = alerts & (np.arange(3 * units) < 2)
    attacks = {
        "a": Attacked(np.full(units, 9.0 if catches else -9.0), np.zeros(units, bool), np.arange(units))
    }
    return Told(np.zeros(50), np.full(3 * units, -1.0), objects, of, attacks)


def test_holds_where_hardly_any_alert_are_bounded_by_examinations() -> None:
    none = figures({"m": [sure(True)]})["methods"]["m"]["clean"]["0.1"]
    assert none["holds_per_1000"]["high"] == pytest.approx(1000 * exact(0, 60)[1], abs=1e-3)
    once = figures({"m": [sure(True, alerts=True)]})["methods"]["m"]["clean"]["0.1"]
    assert once["holds_per_1000"]["value"] == pytest.approx(2000 / 60, abs=1e-6)
    assert once["holds_per_1000"]["high"] == pytest.approx(2 * 1000 * exact(1, 60)[1], abs=1e-3)


def test_f1_and_the_share_of_the_ceiling_are_no_points_where_hardly_any_is_missed() -> None:
    out = figures({"m": [sure(True)], "best": [sure(True)]}, ceiling="best")["methods"]["m"]
    low, high = exact(60, 60)[0], exact(0, 60)[1]
    assert out["f1"]["0.1"]["value"] == out["f1"]["0.1"]["high"] == 1
    assert out["f1"]["0.1"]["low"] == pytest.approx(0.2 * low / (0.1 * low + 0.9 * high + 0.1), abs=1e-6)
    ratio = out["of_ceiling"]["0.1"]["mean"]
    assert list(ratio.values()) == pytest.approx([1, low, 1 / low], abs=1e-6)


def test_a_ceiling_met_in_other_worlds_is_no_ceiling() -> None:
    one, two = cell(1), cell(2)
    out = figures({"m": [one, two], "best": [one, None]}, ceiling="best")["methods"]["m"]["of_ceiling"]["0.1"]
    assert out == {"mean": None, "known": None, "held out": None, "attacks": {}}
    without = figures({"m": [one], "best": [sure(False, units=40)]}, ceiling="best")["methods"]["m"]
    assert without["of_ceiling"]["0.1"]["attacks"] == {"a": None}


# --- what is measured at all


def test_worlds_count_equally_whatever_their_size() -> None:
    sure, none = cell(1, strength=90, cases=200), cell(2, strength=-90, cases=10)
    for told in (sure, none):
        for one in told.attacks.values():
            one.objects[:] = False
    out = figures({"m": [sure, none]})["methods"]["m"]["detection"]["0.1"]
    assert out["mean"]["value"] == 0.5


def test_a_missing_cell_leaves_its_world_out_and_a_method_without_cells_is_left_out() -> None:
    one, two = cell(1), cell(2)
    out = figures({"m": [one, None], "n": [one, two], "o": [None, None]})
    alone = figures({"m": [one]})
    assert out["methods"]["m"] == alone["methods"]["m"]
    assert set(out["methods"]) == {"m", "n"}
    assert out["examinations"] == 80
    assert out["methods"]["m"]["worlds"] == 1


def test_attacks_that_a_method_was_shown_are_in_none_of_its_means() -> None:
    one = cell(1)
    shown = Told(one.calibrate, one.clean_scores, one.clean_objects, one.clean_units, {"c": one.attacks["c"]})
    out = figures({"m": [one], "n": [shown]})["methods"]["n"]["detection"]["0.1"]
    assert out["mean"] == out["held out"] == out["attacks"]["c"]
    assert out["known"] is None


@pytest.mark.parametrize(
    ("calibrate", "commands", "measured"),
    [((999, 999), 15_000, True), ((999, 998), 15_000, False), ((999, 999), 14_999, False)],
)
def test_a_budget_of_one_in_a_thousand_needs_999_examinations_and_30000_commands(
    calibrate: tuple[int, int], commands: int, measured: bool
) -> None:
    rng = np.random.default_rng(0)

    def one(count: int) -> Told:
        units = np.minimum(np.arange(commands) // 30, 499)
        scores = rng.normal(size=commands)
        attacks = {"a": Attacked(rng.normal(5, 1, 20), np.zeros(20, bool), np.arange(20))}
        return Told(rng.normal(size=count), scores, np.zeros(commands, bool), units, attacks)

    out = level_figures(LEVEL, {"m": [one(c) for c in calibrate]}, GROUPS, [], draws=3)
    told = out["methods"]["m"]
    assert (told["detection"]["0.001"] is not None) == (told["clean"]["0.001"] is not None) == measured
    assert told["detection"]["0.005"]["mean"]["value"] is not None
    assert out["calibration"] == list(calibrate)


def test_a_budget_that_cannot_be_expressed_is_not_measured() -> None:
    told = level_figures(LEVEL, {"m": [cell(1, calibrate=198)]}, GROUPS, [], draws=3)["methods"]["m"]
    assert told["detection"]["0.005"] is None
    assert told["f1"] == dict.fromkeys(("0.5", "0.1", "0.01"))
    assert told["calibration"]["asked"] == [a for a in ASKED if a >= 0.01]
    assert told["missed_harm"] == dict.fromkeys(HARMS)
    enough = level_figures(LEVEL, {"m": [cell(1, calibrate=199)]}, GROUPS, [], draws=3)["methods"]["m"]
    assert enough["detection"]["0.005"] is not None


def test_draws_are_the_same_for_every_method_and_every_run() -> None:
    one, two = cell(1), cell(2)
    alone = figures({"m": [one]})["methods"]["m"]
    assert figures({"n": [two], "m": [one], "x": [cell(3)]})["methods"]["m"] == alone
    assert figures({"m": [one]}, seed=1)["methods"]["m"] != alone


def test_attacks_are_told_with_their_effects() -> None:
    told = cell(1)
    effects = effects_for(told)
    out = figures({"m": [told, told]}, [effects, effects])
    attack = out["attacks"]["a"]
    assert attack["group"] == "known"
    assert attack["about"] == "one"
    assert attack["cases"] == 50
    assert attack["examinations"] == 2 * len(np.unique(told.attacks["a"].units))
    assert attack["dose_factor"] == pytest.approx(np.median(effects["a"]["dose_factor"]), abs=1e-6)
    assert attack["image_lost"] == pytest.approx(effects["a"]["image_lost"].mean(), abs=1e-6)
    assert out["attacks"]["dose factor 2"]["factor"] == 2.0


# --- intervals


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.floats(0, 1))
def test_the_exact_interval_is_that_of_another_library(units: int, share: float) -> None:
    hits = round(units * share)
    expected = binomtest(hits, units).proportion_ci(method="exact")
    assert exact(hits, units) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_all_hit_is_no_certainty_and_a_mean_over_attacks_counts_on_no_more_examinations() -> None:
    told = cell(1, units=200, cases=50, strength=90)
    out = figures({"m": [told, told]})["methods"]["m"]["detection"]["0.1"]
    units = [len(np.unique(told.attacks[a].units)) for a in "abc"]
    for a, count in zip("abc", units, strict=True):
        got = out["attacks"][a]
        assert (got["value"], got["high"]) == (1, 1)
        assert got["low"] == pytest.approx(exact(2 * count, 2 * count)[0], abs=1e-6)
    assert out["mean"]["low"] == pytest.approx(exact(2 * min(units), 2 * min(units))[0], abs=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.3])
def test_the_interval_of_mean_detection_covers_the_truth(shift: float) -> None:
    """Sites drawn 200 times: test and calibration examinations anew, cases of an examination hanging together."""
    rng = np.random.default_rng(17)
    units, count, budget, spread = 120, 400, 0.05, math.hypot(0.7, 0.7)
    rank = expressible(budget, count)
    assert rank is not None
    # The truth of the procedure: over calibrations of this size, detection of a case of either attack. A case
    # scores shift + 0.7 x (its examination) + 0.7 x (its own).
    thresholds = np.sort(rng.normal(size=(2000, count)), axis=1)[:, count - 1 - rank]
    truth = float(np.mean([0.5 * math.erfc((t - shift) / spread / 2**0.5) for t in thresholds]))
    covered = 0
    for k in range(200):
        own, of = 0.7 * rng.normal(size=units), np.arange(units)
        attacks = {
            a: Attacked(shift + own + 0.7 * rng.normal(size=units), np.zeros(units, bool), of) for a in "ab"
        }
        told = Told(rng.normal(size=count), np.zeros(units), np.zeros(units, bool), of, attacks)
        stratum = stratum_of({"m": told}, 0, "ab", k, 200)
        assert stratum is not None
        means = [Mean.empty(200) for _ in attacks]
        for mean, a in zip(means, "ab", strict=True):
            add_detection(mean, 0, stratum, told, a, stratum.thresholds(told.calibrate, (budget,))[budget])
        both = mean_of(means)
        assert both is not None
        covered += both.interval().low <= truth <= both.interval().high
    assert 0.90 <= covered / 200 <= 0.995


def test_intervals_of_test_examinations_alone_would_not_cover_it() -> None:
    """That the threshold is drawn anew as well is what widens them."""
    told = cell(3, units=200, cases=200, calibrate=60, whole=False)
    stratum = Stratum(told.units, 400, (0, 0))
    at = stratum.thresholds(told.calibrate, (0.05,))[0.05]
    anew, fixed = Mean.empty(400), Mean.empty(400)
    add_detection(anew, 0, stratum, told, "a", at)
    add_detection(fixed, 0, stratum, told, "a", np.full_like(at, at[0]))
    wide, narrow = anew.interval(), fixed.interval()
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
