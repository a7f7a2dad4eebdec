"""Metrics, bootstrap and the common rule of comparison, on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scanward.commands import (
    Command,
    Judgement,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
    Verdict,
)
from scanward.errors import LearningError, SettingsError
from scanward.learning.evaluate import Threshold, alerts, learned, objects, parts, strangeness
from scanward.learning.fit import CALIBRATE
from scanward.learning.resampling import (
    Scored,
    auroc,
    crossing,
    detection_at,
    interval,
    mean_known,
    per_unit,
    shares,
    weights,
)
from scanward.simulation import Site

ONCE = np.ones((1, 4))


def scored(*values: float) -> Scored:
    return Scored.of([(v, i) for i, v in enumerate(values)])


# --- AUROC and detection


def test_auroc_counts_pairs_and_half_of_ties() -> None:
    # 3 beats 1 and 2 and ties twice: 3 of 4; 4 beats all; 0 none; 2.5 beats two: 9 of 16 in all.
    assert auroc(ONCE, scored(1, 2, 3, 3), scored(3, 4, 0, 2.5))[0] == 9 / 16


@pytest.mark.parametrize(("attacked", "expected"), [((5, 6, 7, 8), 1.0), ((0, 0, 0, 0), 0.0)])
def test_auroc_at_its_ends(attacked: tuple[float, ...], expected: float) -> None:
    assert auroc(ONCE, scored(1, 2, 3, 4), scored(*attacked))[0] == expected


def test_auroc_of_a_draw_is_that_of_the_drawn_commands() -> None:
    rng = np.random.default_rng(3)
    clean = Scored(rng.integers(0, 6, 30).astype(float), rng.integers(0, 8, 30))
    attacked = Scored(rng.integers(2, 8, 20).astype(float), rng.integers(0, 8, 20))
    drawn = weights(8, resamples=20, seed=1)
    for draw, told in zip(drawn, auroc(drawn, clean, attacked), strict=True):
        c = np.repeat(clean.scores, draw[clean.units].astype(int))
        a = np.repeat(attacked.scores, draw[attacked.units].astype(int))
        pairs = np.sign(a[:, None] - c[None, :])
        assert told == pytest.approx(float((pairs + 1).mean() / 2))


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.0, 0.25),  # nothing clean may alert: above 3 there is only the 4
        (0.25, 0.25),  # one of four may, but the two threes come together
        (0.5, 0.75),  # both threes alert: 3, 4 and 2.5 lie above 2
        (1.0, 1.0),
    ],
)
def test_detection_at_a_rate_of_false_alerts(rate: float, expected: float) -> None:
    assert detection_at(ONCE, scored(1, 2, 3, 3), scored(3, 4, 0, 2.5), rate)[0] == expected


def test_detection_never_spends_more_false_alerts_than_allowed() -> None:
    rng = np.random.default_rng(0)
    clean = Scored(rng.integers(0, 9, 60).astype(float), rng.integers(0, 12, 60))
    drawn = weights(12, resamples=30)
    # The clean commands themselves, taken as attacked: what is detected of them is the false-alert rate.
    for rate in (0.0, 0.05, 0.3):
        assert (detection_at(drawn, clean, clean, rate) <= rate + 1e-9).all()


def test_no_commands_is_not_a_figure() -> None:
    nothing = Scored.of([])
    assert math.isnan(auroc(ONCE, nothing, scored(1, 2, 3, 4))[0])
    assert math.isnan(detection_at(ONCE, scored(1, 2, 3, 4), nothing, 0.05)[0])


# --- bootstrap


def test_weights_draw_whole_units_within_their_strata() -> None:
    drawn = weights(10, resamples=50, seed=2, strata=[0] * 4 + [1] * 6)
    assert (drawn[0] == 1).all()
    assert (drawn[:, :4].sum(axis=1) == 4).all()
    assert (drawn[:, 4:].sum(axis=1) == 6).all()
    assert len({tuple(d) for d in drawn}) > 30
    assert (weights(10, resamples=50, seed=2) == weights(10, resamples=50, seed=2)).all()
    with pytest.raises(SettingsError):
        weights(0)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """A hundred samples of 150 units, true rate 0.3: 95 % intervals should hold it about 95 times."""
    rng = np.random.default_rng(7)
    held = 0
    for k in range(100):
        hits = (rng.random(150) < 0.3).astype(float)[None, :]
        told = interval(shares(weights(150, resamples=300, seed=k), hits, np.ones((1, 150)))[:, 0])
        assert told.low <= told.value <= told.high
        held += told.low <= 0.3 <= told.high
    assert 88 <= held <= 99


def test_commands_of_one_examination_do_not_make_it_look_surer() -> None:
    """Ten equal commands an examination carry the news of one: the interval must not shrink."""
    rng = np.random.default_rng(1)
    hits = (rng.random(60) < 0.5).astype(float)
    drawn = weights(60)
    once = interval(shares(drawn, hits[None, :], np.ones((1, 60)))[:, 0])
    units = np.repeat(np.arange(60), 10)
    many = interval(
        shares(
            drawn,
            per_unit(60, units, np.repeat(hits, 10))[None, :],
            per_unit(60, units, [1.0] * 600)[None, :],
        )[:, 0]
    )
    assert many == once


def test_what_was_not_measured_is_null_in_json() -> None:
    told = interval(np.array([math.nan, math.nan])).as_json()
    assert told == {"value": None, "low": None, "high": None}


def test_the_mean_is_of_what_is_known() -> None:
    told = mean_known(np.array([[1.0, math.nan, 3.0], [math.nan] * 3]), axis=1)
    assert told[0] == 2.0
    assert math.isnan(told[1])


def test_crossing_is_found_between_two_factors() -> None:
    factors = np.array([1.2, 1.5, 2.0, 3.0])
    rates = np.array([[0.1, 0.5, 0.97, 1.0], [0.99, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], [0.9, 1.0, 0.9, 1.0]])
    found = crossing(factors, rates, 0.95)
    share = 0.45 / 0.47
    assert found[0] == pytest.approx(1.5 ** (1 - share) * 2.0**share)
    assert found[1] == 1.2
    assert math.isnan(found[2])
    assert found[3] == pytest.approx(math.sqrt(6))  # the last time it rises, not the first
    less = crossing(np.array([0.9, 0.5, 0.25]), np.array([[0.0, 0.9, 1.0]]), 0.95)
    assert less[0] == pytest.approx(0.25**0.5 * 0.5**0.5)


# --- the rule that is common to all


def judgement(
    severity: Severity = Severity.INFORMATION,
    score: float | None = 0.0,
    p: float | None = 0.5,
    verdict: Verdict = Verdict.RELEASE,
    layer: LayerName = LayerName.PHYSICS,
) -> Judgement:
    objection = Objection("KVP", "is strange", severity=severity)
    return Judgement(verdict, (Opinion(layer, Outcome.OBJECT, (objection,)),), p, score)


def test_a_rule_stands_above_every_learned_score() -> None:
    ordered = [
        judgement(score=-3.0),
        judgement(score=9.0),
        judgement(score=1e300),
        judgement(Severity.ALERT, score=-50.0),
        judgement(Severity.ALERT, score=2.0),
        judgement(Severity.HALT, score=-50.0),
        judgement(Severity.HALT, score=None),
    ]
    told = [strangeness(j) for j in ordered]
    assert told == sorted(told)
    assert len(set(told)) == len(told)


def test_who_alerts() -> None:
    assert alerts(judgement(verdict=Verdict.ALERT))
    assert not alerts(judgement())
    assert learned(judgement(p=0.005), 0.005)
    assert not learned(judgement(p=0.0051), 0.005)
    assert not learned(judgement(p=None), 0.005)
    assert objects(judgement(Severity.ALERT))
    assert not objects(judgement(Severity.INFORMATION))
    assert not objects(judgement(Severity.ALERT), {LayerName.PHYSICS})
    assert not objects(judgement(Severity.ALERT, layer=LayerName.CONTEXT_FREE))


def test_the_threshold_is_conformal_and_of_examinations() -> None:
    examinations = [[float(k), -1.0] for k in range(1, 100)]  # 99 units, largest scores 1 to 99
    threshold = Threshold.of([*examinations, []], 0.05)
    # (1 + units at least as high) / 100 <= 0.05 from a score above 95 on: four of 99 are as high.
    assert not threshold.alerts(95.0)
    assert threshold.alerts(95.5)
    with pytest.raises(LearningError):
        Threshold.of(examinations[:10], 0.05)


def test_parts_are_those_of_fit() -> None:
    examinations = Site(11).examinations(41)
    divided = parts(list(reversed(examinations)))
    assert len(divided.calibrate) == math.ceil(41 * CALIBRATE)
    assert [*divided.learn, *divided.calibrate] == examinations
    times = [c.acquired_at for e in divided.learn for c in e.commands[:1]]
    assert max(t for t in times if t is not None) <= (divided.calibrate[0].commands[0].acquired_at or 0)


def test_a_command_without_time_is_still_divided() -> None:
    assert parts([]).learn == ()
    assert Command({}).acquired_at is None
