"""Methods at equal false alerts, where no threshold set beforehand holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.calibration import Calibration
from scanward.learning.benchmark import worlds
from scanward.learning.benchmark.adapting import COPIES
from scanward.learning.benchmark.answers import Attacked, Kind, Learned, Method, Tick, Told
from scanward.learning.benchmark.matching import adapted, exchangeable, matched, ranked
from scanward.learning.benchmark.registry import ADAPTING, methods
from scanward.learning.benchmark.worlds import Level, World
from scanward.simulation import Site

UNITS = 400


def told(seed: int = 0, *, shift: float = 0.0, objecting: float = 0.0) -> Told:
    """A method whose clean scores moved by ``shift`` since it was calibrated, whose rules object to a share of them."""
    rng = np.random.default_rng(seed)
    per = rng.integers(1, 4, UNITS)
    units = np.repeat(np.arange(UNITS), per)
    return Told(
        rng.normal(size=1000),
        rng.normal(size=len(units)) + shift,
        rng.random(len(units)) < objecting,
        units,
        {"one": Attacked(rng.normal(size=90) + 3 + shift, np.zeros(90, bool), rng.integers(0, UNITS, 90))},
    )


def alerted(one: Told, budget: float) -> tuple[float, float]:
    """Share of clean examinations alerted, and of attacks detected, by the one rule of the benchmark."""
    calibration = Calibration.of(one.calibrate.tolist())

    def rule(scores: list[float], objects: list[bool]) -> list[bool]:
        return [calibration.p_value(s) <= budget or o for s, o in zip(scores, objects, strict=True)]

    clean = rule(one.clean_scores.tolist(), one.clean_objects.tolist())
    hit = {int(u) for u, a in zip(one.clean_units, clean, strict=True) if a}
    attack = one.attacks["one"]
    return len(hit) / UNITS, float(np.mean(rule(attack.scores.tolist(), attack.objects.tolist())))


@pytest.mark.parametrize("budget", [0.005, 0.05])
def test_whoever_alerts_on_everything_gains_nothing(budget: float) -> None:
    everything = told(shift=50.0)
    assert alerted(everything, budget) == (1.0, 1.0)
    before = alerted(told(), budget)
    clean, found = alerted(matched(everything), budget)
    assert clean <= budget
    assert found == alerted(matched(told()), budget)[1]  # the order is the same, so is the detection
    assert abs(found - before[1]) < 0.25


def test_what_rules_object_to_stands_on_top_and_costs_its_share() -> None:
    one = told(objecting=0.05)
    clean, found = alerted(matched(one), 0.05)
    assert clean <= 0.05
    assert found < alerted(matched(told()), 0.05)[1]
    silent = matched(one)
    assert not silent.clean_objects.any()
    lifted = silent.clean_scores[one.clean_objects]
    assert lifted.min() > silent.clean_scores[~one.clean_objects].max()


@given(st.lists(st.tuples(st.sampled_from([-1e308, -1.0, 0.0, 2.5, 1e308]), st.booleans()), max_size=30))
def test_ranks_keep_order_and_ties(pairs: list[tuple[float, bool]]) -> None:
    scores, objects = np.array([s for s, _ in pairs]), np.array([o for _, o in pairs], bool)
    found = ranked(scores, objects).tolist()
    for (s, o), mine in zip(pairs, found, strict=True):
        for (t, p), other in zip(pairs, found, strict=True):
            assert ((o, s) < (p, t)) == (mine < other)
            assert ((o, s) == (p, t)) == (mine == other)


def test_only_more_of_the_same_is_exchangeable() -> None:
    assert [level for level in Level if exchangeable(level)] == [Level.RECURRING]


def test_a_baseline_adapts_on_the_first_examinations() -> None:
    seen: list[int] = []

    def learn(world: World, seed: int, tick: Tick) -> Learned:
        seen.append(len(world.learn))
        return Learned(None)  # type: ignore[arg-type]

    site = Site(5)
    found = tuple(site.examinations(12))
    test = worlds.TestSet(Level.NEW_MODEL, found[8:10], found[10:12], site)
    world = World("w", "", found[:6], found[6:8], (test,), 5)
    method = adapted(Method("plain", Kind.UNSUPERVISED, learn, group="shared"))
    assert (method.name, method.per_test, method.needs_first, method.group) == (
        "plain, adapted",
        True,
        True,
        "",
    )
    assert method.learn(world, 0, lambda _w, _s: None).facts["each counted"] == 1
    # A known device that rules object to has changed: its examinations count as often as they do for Scanward.
    updated = tuple(
        replace(
            e,
            commands=tuple(replace(c, parameters={**c.parameters, "FilterType": "NEW"}) for c in e.commands),
        )
        for e in found[:2]
    )
    changed = replace(world, tests=(replace(test, first=updated),))
    assert method.learn(changed, 0, lambda _w, _s: None).facts["each counted"] == COPIES
    assert seen == [8, 6 + 2 * COPIES]


def test_the_strongest_baselines_adapt_too() -> None:
    names = {m.name for m in methods(("dose_x3",))}
    assert {f"{n}, adapted" for n in ADAPTING} <= names
    assert set(ADAPTING) <= names
