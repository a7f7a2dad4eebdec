"""What a hostile reviewer tried on the benchmark: leaks, claims that are none, baselines left weak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scanward.commands import Command, Examination
from scanward.learning.benchmark import assembling, classifiers, ours, spoilt_trained, two_classes
from scanward.learning.benchmark.answers import Attacked, Told
from scanward.learning.benchmark.comparisons import Primary, compare
from scanward.learning.benchmark.figures import AttackFacts
from scanward.learning.benchmark.plan import AGAINST, SMALL_METHODS, make
from scanward.learning.benchmark.recorded import by_parts
from scanward.learning.benchmark.registry import methods
from scanward.learning.benchmark.simulated import Sizes, donors_of, simulated_world
from scanward.learning.benchmark.spoilt_trained import SPOILT_TRAINED, spoilt_histories
from scanward.learning.benchmark.worlds import Level, World, commands_of
from scanward.learning.resampling import exact
from scanward.simulation import ATTACKS, Donors, Site

GROUPS = {"a": AttackFacts("known", "a family")}


def quiet(_what: str, _share: float) -> None:
    """A tick that nobody sees."""


def told(missed: int, cases: int = 60) -> Told:
    """A method that misses so many of its cases and alerts on nothing clean."""
    scores = np.full(cases, 2.0)
    scores[:missed] = -1.0
    none = np.zeros(cases, np.bool_)
    calibrate = np.random.default_rng(1).uniform(0, 1, 400)
    every = np.arange(cases)
    return Told(calibrate, np.zeros(cases), none, every, {"a": Attacked(scores, none, every)})


# --- claims


@pytest.mark.parametrize("missed", [3, 4, 5])
def test_four_misses_of_sixty_against_none_claim_nothing(missed: int) -> None:
    level = Level.RECURRING.value
    found = compare({level: {"Scanward": [told(0)], "LOF": [told(missed)]}}, GROUPS, Primary("LOF"))
    row = found["primary"]
    # McNemar's exact test: all discordant pairs on one side have a chance of 2 / 2^missed.
    assert 2 / 2**missed > 0.05
    assert row["difference"]["value"] == pytest.approx(missed / 60, abs=1e-6)
    assert row["difference"]["low"] <= 0
    assert (row["claim"], found["first"]) == (False, False)


def test_what_is_clear_is_still_claimed() -> None:
    level = Level.RECURRING.value
    found = compare({level: {"Scanward": [told(0)], "LOF": [told(20)]}}, GROUPS, Primary("LOF"))
    assert exact(40, 60)[1] < exact(60, 60)[0]
    assert (found["primary"]["claim"], found["first"]) == (True, True)


@pytest.mark.parametrize(
    ("missing", "first"),
    [
        ([], True),
        ([["site", Level.RECURRING.value, "kNN", "failed: too large"]], False),
        ([["world 2 of the plan", "", "", "not made yet"]], False),
        ([["site", Level.RECURRING.value, "Scanward without form", "failed: it"]], True),
        (
            [["tiny", Level.RECURRING.value, "kNN", "failed: too large"]],
            True,
        ),  # compares nothing there anyway
    ],
)
def test_a_baseline_without_answers_was_not_beaten(missing: list[list[str]], first: bool) -> None:
    about = {
        "Scanward": "Scanward",
        "Scanward without form": "Scanward",
        AGAINST: "deep",
        "kNN": "unsupervised",
    }
    found: Any = SimpleNamespace(
        plan={"budgets": [0.005], "against": AGAINST, "seed": 0},
        methods={name: {"kind": kind} for name, kind in about.items()},
        missing=missing,
    )
    answers = {"Scanward": [told(0)], AGAINST: [told(20)]}
    worlds = ({"name": "site", "calibrate": 400, "simulated": True},)
    small = ({"name": "tiny", "calibrate": 20, "simulated": True},)
    parts = [
        assembling.Part(Level.RECURRING, "a", worlds, answers),
        assembling.Part(Level.RECURRING, "b", small, {}),
    ]
    made = assembling._comparisons(found, parts, [GROUPS, GROUPS], 1, lambda _w, _s: None)
    assert made["primary"]["claim"] is True
    assert made["first"] is first


def test_rules_that_alert_beside_the_budget_are_compared_inside_of_it() -> None:
    """Objecting to every case, and to five of a hundred clean examinations, wins beside the budget and not inside."""
    plain, units = told(20, 400), np.arange(400)
    objecting = replace(
        plain,
        clean_objects=units < 20,
        attacks={"a": Attacked(np.where(units < 40, 2.0, -1.0), np.ones(400, np.bool_), units)},
    )
    found: Any = SimpleNamespace(
        plan={"budgets": [0.005], "against": AGAINST, "seed": 0},
        methods={
            "Scanward": {"kind": "Scanward"},
            AGAINST: {"kind": "deep"},
            "kNN": {"kind": "unsupervised"},
        },
        missing=[],
    )
    worlds = ({"name": "site", "calibrate": 400, "simulated": True},)
    answers = {"Scanward": [objecting], AGAINST: [plain], "kNN": [plain]}
    parts = [assembling.Part(Level.RECURRING, "a", worlds, answers)]
    made = assembling._comparisons(found, parts, [GROUPS], 1, lambda _w, _s: None)
    (inside,) = [row for row in made["others"] if row.get("rules_included")]
    assert (made["primary"]["claim"], inside["claim"], made["first"]) == (True, False, False)
    assert (inside["level"], inside["set"], inside["against"]) == (Level.RECURRING.value, "a", AGAINST)
    assert "rules included" in inside["endpoint"]
    assert inside["difference"]["value"] < 0 < made["primary"]["difference"]["value"]
    assert inside["p_holm"] >= inside["p"]
    assert "rules included" in made["method"]
    assert len(made["others"]) == 2  # kNN beside the budget, and this one


def test_the_baseline_of_the_primary_comparison_is_there_in_both_sizes() -> None:
    every = {m.name: m for m in methods(make("small").shown)}
    assert AGAINST in SMALL_METHODS
    assert len(SMALL_METHODS) == 8
    assert not every[AGAINST].name.startswith(("Scanward", "oracle"))
    assert every[AGAINST].context


# --- leaks


@pytest.fixture(scope="module")
def world() -> World:
    return simulated_world(11, sizes=Sizes(160, 30, 20, 12), vendors=1)


def test_nothing_tested_was_seen_before_by_anybody(world: World) -> None:
    """Learned, calibrated, adapted to, donated and tested examinations are all different ones."""
    own = [{e.identifier for e in part} for part in (world.learn, world.calibrate)]
    for test in world.tests:
        clean, first = {e.identifier for e in test.clean}, {e.identifier for e in test.first}
        donors = {e.identifier for e in donors_of(world, test, 15).examinations}
        assert not clean & (own[0] | own[1] | first | donors)
        assert not first & (own[0] | own[1] | donors)
        own.append(clean | first)
    assert sum(map(len, own)) == len(set().union(*own))


def test_no_patient_is_tested_and_learned_from(world: World) -> None:
    def patients(examinations: Sequence[Examination]) -> set[tuple[Any, ...]]:
        return {
            tuple(c.number(n) for n in ("PatientAge", "PatientWeight", "PatientSize"))
            for e in examinations
            for c in e.commands[:1]
            if c.number("PatientWeight") is not None and c.number("PatientSize") is not None
        }

    learned = patients(world.recorded)
    for test in world.tests:
        assert (
            len(learned & patients(test.clean)) <= 1
        )  # two people may be alike; the same people would be all


def test_another_world_of_the_same_name_is_learned_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity comes back once its owner is gone: what is kept must not be found by it alone."""
    learned: list[int] = []

    def crosswise(learn: Sequence[Examination], *_: object) -> tuple[str, str, tuple[()]]:
        learned.append(len(learn))
        return "layers", "samples", ()

    monkeypatch.setattr(ours, "_made", {})
    monkeypatch.setattr(ours, "crosswise", crosswise)
    monkeypatch.setattr(ours, "assembled", lambda *_: SimpleNamespace(of=len(learned)))
    monkeypatch.setattr(ours, "id", lambda _: 1, raising=False)
    one = ours.made_of(world, 0, quiet)
    assert ours.made_of(replace(world, tests=()), 0, quiet) is one
    other = ours.made_of(replace(world, learn=world.learn[:50]), 0, quiet)
    assert other is not one
    assert learned == [len(world.learn), 50]


def test_parts_of_a_protocol_table_test_everything_once() -> None:
    found = Site(12).examinations(60)
    divided = by_parts(found, 5, (3,))
    tested = [e.identifier for _, test in divided for e in test]
    assert sorted(tested) == sorted(e.identifier for e in found)
    for train, test in divided:
        names = [{e.commands[0].text("ProtocolName") for e in part} for part in (train, test)]
        assert not names[0] & names[1]
        assert len(train) + len(test) == len(found)


# --- a baseline that is taught what the combiner is taught


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "STEPS", 40)
        patch.setattr(classifiers, "FOREST_TREES", 8)
        patch.setattr(classifiers, "ITERATIONS", 25)
        patch.setattr(spoilt_trained, "ROWS", 1_200)
        patch.setattr(spoilt_trained, "TUNING_ROWS", 600)
        patch.setattr(spoilt_trained, "HELD_BACK_ROWS", 300)
        patch.setattr(two_classes, "ROUNDS", 15)
        yield


def flat(scorer: Any, histories: Sequence[Sequence[Command]]) -> list[float]:
    return [a.score for one in scorer.answer(histories) for a in one]


@pytest.mark.parametrize("method", [pytest.param(m, id=m.name) for m in SPOILT_TRAINED])
def test_taught_by_spoilt_commands(method: Any, world: World) -> None:
    made = method.learn(world, 0, quiet)
    again = replace(method).learn(world, 0, quiet)
    clean = [e.commands for e in world.tests[0].clean]
    scores = flat(made.scorer, clean)
    assert np.isfinite(scores).all()
    assert len(scores) == len(commands_of(world.tests[0].clean))
    assert flat(again.scorer, clean) == scores
    # What comes later changes nothing: a guard is asked before it.
    assert flat(made.scorer, [clean[0][:1]])[0] == pytest.approx(scores[0])
    assert "shown families" not in made.facts  # of attacks it was shown none, so all of them are its test


@pytest.mark.parametrize(
    "method", [pytest.param(m, id=m.name) for m in SPOILT_TRAINED if "LightGBM" in m.name]
)
def test_a_large_dose_looks_spoilt(method: Any, world: World) -> None:
    made = method.learn(world, 0, quiet)
    donors, rng = Donors(world.learn), np.random.default_rng(0)
    attack, gains = ATTACKS["dose_x8"], []
    for e in world.tests[0].clean:
        for i in attack.eligible(e)[:1]:
            after = attack.apply(e, i, rng, donors)
            if after is not None:
                before, now = (flat(made.scorer, [x.commands[: i + 1]])[i] for x in (e, after))
                gains.append(now - before)
    assert len(gains) > 10
    assert np.mean(gains) > 0


def test_only_the_rows_in_order_see_what_came_before(world: World) -> None:
    by_name = {m.name: m.learn(world, 0, quiet).scorer for m in SPOILT_TRAINED if "LightGBM" in m.name}
    history = next(e.commands for e in world.tests[0].clean if len(e.commands) > 1)
    alone = [[history[-1]]]
    assert len(by_name) == 2
    for name, scorer in by_name.items():
        whole = flat(scorer, [history])[-1]
        assert (whole != flat(scorer, alone)[0]) is name.endswith(", in order")


def test_they_are_never_shown_an_attack_and_nothing_of_the_calibration(world: World) -> None:
    for module in (spoilt_trained, two_classes):
        text = Path(module.__file__).read_text("utf-8")
        assert "scanward.simulation" not in text
        assert "attack_trained import" not in text
    sealed = replace(world, calibrate=(), tests=())
    method = SPOILT_TRAINED[0]
    commands = [e.commands for e in world.calibrate[:10]]
    assert flat(method.learn(sealed, 0, quiet).scorer, commands) == flat(
        method.learn(world, 0, quiet).scorer, commands
    )


def test_a_spoilt_history_ends_with_what_was_spoilt(world: World) -> None:
    clean = {id(c) for c in commands_of(world.learn)}
    made = spoilt_histories(world.learn[:40], world.learn, 2.0, (1,))
    assert len(made) > 40
    assert all(id(h[-1]) not in clean for h in made)
