"""The drift watch: how often it cries without drift, and how soon it finds one."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _guard import Bench, answer, element
from scanward.commands import Context, Mode, Source, Told
from scanward.commands.wire import Done, Element, Trigger
from scanward.config import WATCH_BOUNDS
from scanward.guard.events import GantrySaid, Said
from scanward.guard.watch import DriftKind, Watch
from scanward.guard.watch_feed import WatchFeed

BUDGET = 0.01
RUN = 10_000  # examinations of one run
RUNS = 6
PROTOCOLS = [(f"protocol {i}", 16 if i % 4 == 0 else 32, 2.0 + i, 0.12 + 0.02 * (i % 8)) for i in range(12)]


def first(
    watch: Watch, seed: int, power: float, rate: float, most: int = 4000, until: DriftKind | None = None
) -> dict[DriftKind, int]:
    """After how many examinations each kind of alarm first came; p-values are U ** power, alerts of rate ``rate``.

    Stops with the first alarm of the kind ``until``.
    """
    rng = random.Random(seed)
    found: dict[DriftKind, int] = {}
    for n in range(1, most + 1):
        for drift in watch.examination(rng.random() ** power, rng.random() < rate):
            found.setdefault(drift.kind, n)
        if until in found:
            break
    return found


def doses(watch: Watch, seed: int, factor: float, learned: int, most: int) -> dict[DriftKind, int]:
    """The same for doses: log-normal, ``factor`` times the usual after ``learned`` doses."""
    rng = random.Random(seed)
    found: dict[DriftKind, int] = {}
    for n in range(learned + most):
        name, phantom, mean, spread = rng.choice(PROTOCOLS)
        dose = mean * math.exp(rng.gauss(0.0, spread)) * (factor if n >= learned else 1.0)
        for drift in watch.dose(name, phantom, dose):
            found.setdefault(drift.kind, n - learned + 1)
    return found


# --- without drift


def test_without_drift_alarms_are_as_rare_as_promised() -> None:
    # Each statistic: at most RUN / run = 0.1 alarms expected in a run.
    found = [first(Watch(BUDGET), seed, 1.0, BUDGET, RUN) for seed in range(RUNS)]
    assert sum(map(len, found)) <= 2


def test_the_tolerated_is_no_drift_either() -> None:
    for seed in range(RUNS):
        rng, watch, alarms = random.Random(seed), Watch(BUDGET), 0
        for _ in range(RUN // 2):
            p_value = rng.random() / (
                1 + WATCH_BOUNDS.tolerance
            )  # all p-values a third smaller than promised
            alarms += len(watch.examination(p_value, rng.random() < BUDGET * WATCH_BOUNDS.rate_tolerance))
        assert alarms <= 1


def test_without_drift_doses_alarm_rarely_though_their_usual_is_learned_from_few() -> None:
    # 10,000 doses of 12 protocols, their usual values learned from the first 100 of each
    found = [doses(Watch(BUDGET), seed, 1.0, 0, RUN) for seed in range(RUNS)]
    assert sum(map(len, found)) <= 2


# --- with drift: a delay that a site can live with


@pytest.mark.parametrize(("times", "delay"), [(5.0, 500), (10.0, 150), (30.0, 40)])
def test_a_higher_alert_rate_is_found(times: float, delay: int) -> None:
    waits = [
        first(Watch(BUDGET), seed, 1.0, BUDGET * times, until=DriftKind.ALERTS)[DriftKind.ALERTS]
        for seed in range(20)
    ]
    assert sorted(waits)[10] <= delay


@pytest.mark.parametrize(("power", "delay"), [(2.0, 200), (3.0, 60)])
def test_p_values_that_shrink_are_found_before_anything_alerts(power: float, delay: int) -> None:
    waits = [
        first(Watch(BUDGET), seed, power, 0.0, until=DriftKind.P_VALUES)[DriftKind.P_VALUES]
        for seed in range(20)
    ]
    assert sorted(waits)[10] <= delay


@pytest.mark.parametrize(("factor", "delay"), [(1.1, 800), (1.2, 150), (1.5, 60), (0.8, 150)])
def test_salami_is_found_over_many_patients(factor: float, delay: int) -> None:
    waits = [
        doses(Watch(BUDGET), seed, factor, 2000, 3000).get(DriftKind.SITE_DOSE, 9999) for seed in range(10)
    ]
    assert sorted(waits)[5] <= delay


def test_one_protocols_drift_is_found_and_named_and_measured() -> None:
    rng, watch, n = random.Random(1), Watch(BUDGET), 0
    for _ in range(120):
        watch.dose("head", 16, 50 * math.exp(rng.gauss(0, 0.1)))
    while not (found := watch.dose("head", 16, 65 * math.exp(rng.gauss(0, 0.1)))):
        n += 1
        assert n < 50
    (drift,) = (d for d in found if d.kind is DriftKind.DOSE)
    assert drift.where == "head"
    assert 1.15 < drift.size < 1.45
    assert "1." in drift.reason
    assert "head" in drift.reason


def test_a_drift_below_the_allowance_is_not_found_and_the_threat_model_says_so() -> None:
    waits = [doses(Watch(BUDGET), seed, 1.02, 2000, 3000) for seed in range(5)]
    assert sum(map(len, waits)) <= 1


def test_the_two_phantoms_of_one_protocol_are_two_things() -> None:
    watch = Watch(BUDGET)
    for _ in range(WATCH_BOUNDS.learn * 3):
        assert watch.dose("head", 16, 60.0) == ()
        assert watch.dose("head", 32, 6.0) == ()


def test_a_usual_dose_that_is_given_is_not_learned_anew() -> None:
    watch = Watch(BUDGET, {("head", 16): (math.log(50.0), 0.1)})
    assert any(watch.dose("head", 16, 100.0) for _ in range(6))


@given(
    st.lists(
        st.tuples(st.floats() | st.none(), st.booleans(), st.floats(), st.sampled_from("abc")), max_size=60
    )
)
def test_any_numbers_are_survived(told: list[tuple[float | None, bool, float, str]]) -> None:
    watch = Watch(BUDGET, bounds=replace(WATCH_BOUNDS, learn=2, protocols=2))
    for p_value, alerted, ctdivol, protocol in told:
        for drift in (*watch.examination(p_value, alerted), *watch.dose(protocol, 32, ctdivol)):
            assert math.isfinite(drift.statistic)
            assert drift.reason


# --- fed by the gate's records


def named(dose: float) -> Element:
    made = element(
        CTDIvol=dose, DLP=dose, ScanLength=10.0, AcquisitionEndLocation=10.0, XRayTubeCurrentInmA=1.0
    )
    context = Context({"ProtocolName": (Told("Chest  Routine", Source.HOST),)})
    return replace(made, command=replace(made.command, context=context))


def test_a_creeping_dose_is_told_to_every_screen_and_recorded() -> None:
    bench = Bench()
    for n in range(150):
        load = bench.load(named(10.0 if n < 110 else 13.0), examination=f"e{n}")
        bench.handle(Said(1, Trigger(f"T{n}", load.id, 0)))
        bench.handle(GantrySaid(Done(load.id, 0, 10.0 if n < 110 else 13.0, 10.0)))
        bench.clock += 60.0
    told = bench.told("drift")
    assert {t["kind"] for t in told} >= {DriftKind.DOSE}
    assert told[0]["where"] == "chest routine"
    assert bench.recorded("drift")[0]["reason"] == told[0]["reason"]


def test_provoked_alerts_are_told_as_a_rate() -> None:
    bench = Bench()
    bench.judge = [answer(within=False)]
    for n in range(30):
        bench.load(examination=f"e{n}")
    assert [t["kind"] for t in bench.told("drift")][:1] == [DriftKind.ALERTS]


def test_an_examination_counts_once_however_often_it_is_loaded() -> None:
    feed = WatchFeed(BUDGET)
    for n in range(50):
        assert list(feed.before_load(f"e{n // 10}")) == []
        verdict = {"verdict": "ALERT" if n % 2 else "RELEASE", "p_values": [0.5, None, 0.004]}
        assert list(feed.recorded("verdict", verdict, Mode.CLINICAL)) == []
    list(feed.before_load("last"))
    assert (feed.watch.examinations, feed.watch.alerted) == (5, 5)


def test_qa_and_service_do_not_count() -> None:
    feed = WatchFeed(BUDGET)
    for n in range(50):
        assert list(feed.before_load(f"e{n}")) == []
        assert list(feed.recorded("verdict", {"verdict": "HALT", "p_values": [0.0]}, Mode.QA)) == []
    assert feed.watch.examinations == 0


def test_a_new_budget_starts_anew_and_nonsense_does_not() -> None:
    feed = WatchFeed(BUDGET)
    feed.watch.examination(0.5, alerted=False)
    for budget in (BUDGET, 0.0, -1.0, 1.0, math.nan):
        feed.set_budget(budget)
        assert feed.watch.examinations == 1
    feed.set_budget(0.05)
    assert feed.watch.examinations == 0
