"""Scanward in its own benchmark is what `fit` makes, and what is left out is out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from scanward.commands import LEARNED_LAYERS, RULE_LAYERS, Device, Examination, LayerName, Told, Verdict
from scanward.learning import fit as fitting
from scanward.learning import folds
from scanward.learning.benchmark import adapting, ours
from scanward.learning.benchmark.answers import Answer, Method
from scanward.learning.benchmark.ceiling import CEILING
from scanward.learning.benchmark.ours import OURS, made_of, without_layer
from scanward.learning.benchmark.worlds import Level, TestSet, World
from scanward.learning.evaluate import alerts, objects, parts
from scanward.learning.fit import fit
from scanward.learning.folds import Settings
from scanward.simulation import ATTACKS, Donors, Site

TestSet.__test__ = False  # type: ignore[attr-defined]  # a data class, no test
SEED, TRAINED, LATER = 11, 100, 40
NAMES = {m.name: m for m in (*OURS, *CEILING)}
SMALL = Settings(budget=0.05, rounds=8, steps=5, workers=1)


def quiet(_what: str, _share: float) -> None: ...


@pytest.fixture(scope="module")
def world() -> World:
    site = Site(SEED)
    divided = parts(site.examinations(TRAINED))
    later = site.examinations(LATER, TRAINED)
    test = TestSet(Level.RECURRING, tuple(later[:20]), tuple(later[20:]), site)
    return World("site 11", "a small site", divided.learn, divided.calibrate, (test,), SEED)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "SETTINGS", SMALL)
        patch.setattr(ours, "_made", {})
        patch.setattr(folds, "MANY_FOLDS", 2)  # as from 1,000 examinations on: half the time
        yield


def answers(method: str, world: World, histories: list[tuple[object, ...]]) -> list[list[Answer]]:
    found = NAMES[method].learn(world, 0, quiet)
    return found.scorer.answer(histories)  # type: ignore[arg-type]


def histories(world: World) -> list[tuple[object, ...]]:
    """Clean examinations, and each with one command attacked so that rules and layers have to say something."""
    clean = list(world.tests[0].clean)
    donors, rng = Donors(world.learn), np.random.default_rng(0)
    attacked = [
        ATTACKS[name].apply(e, i, rng, donors)
        for e, name in zip(clean, ["ma_x3_dose_kept", "dose_x8", "tilt", "dose_x3"] * 5, strict=True)
        for i in ATTACKS[name].eligible(e)[-1:]
    ]
    return [e.commands for e in (*clean, *(a for a in attacked if a is not None))]


def test_it_is_the_judge_that_fit_makes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_to_learn = []

    def once(early: Sequence[Examination], settings: Settings, tick: object) -> object:
        """Learning is deterministic and takes long: `fit` asks for just what was learned here."""
        asked_to_learn.append(([e.identifier for e in early], settings))
        return kept

    real, kept = ours.crosswise, None

    def keep(*given: object) -> object:
        nonlocal kept
        kept = real(*given)  # type: ignore[arg-type]
        return kept

    monkeypatch.setattr(ours, "crosswise", keep)
    ours._made.clear()
    made_of(world, 0, quiet)
    monkeypatch.setattr(fitting, "crosswise", once)
    judge = fit(world.recorded, SMALL).onion
    assert asked_to_learn == [([e.identifier for e in world.learn], SMALL)]
    asked = histories(world)
    found = answers("Scanward", world, asked)
    objecting = 0
    for history, told in zip(asked, found, strict=True):
        for judgement, answer in zip(judge.judge_all(history), told, strict=True):
            expected = 0.0 if judgement.score is None else judgement.score  # form stops the judging
            assert answer.score == pytest.approx(expected, abs=1e-6)
            assert answer.objects == objects(judgement)
            objecting += answer.objects
            if answer.objects:
                assert alerts(judgement)
    assert objecting > 3


def test_each_rule_is_what_it_adds(world: World) -> None:
    asked = histories(world)
    whole = [a.objects for h in answers("Scanward", world, asked) for a in h]
    none = [a.objects for h in answers("Scanward, learned layers alone", world, asked) for a in h]
    assert sum(whole) > 3
    assert not any(none)
    each = {
        layer: [a.objects for h in answers(f"Scanward without {layer}", world, asked) for a in h]
        for layer in RULE_LAYERS
        if f"Scanward without {layer}" in NAMES
    }
    assert all(sum(found) <= sum(whole) for found in each.values())
    assert sum(each[LayerName.PHYSICS]) < sum(
        whole
    )  # mA x3 with the dose kept breaks physics and little else


def test_a_learned_layer_left_out_says_nothing_any_more(world: World) -> None:
    made = made_of(world, 0, quiet)
    asked = histories(world)[:8]
    whole = [a.score for h in answers("Scanward", world, asked) for a in h]
    for layer in LEARNED_LAYERS:
        names = without_layer(made.samples, layer).names
        assert 0 < len(names) < len(made.samples.names)
        assert not any(n.startswith(ours.PREFIXES[layer]) for n in names)
        found = [a.score for h in answers(f"Scanward without {layer}", world, asked) for a in h]
        assert found != whole


def test_scoring_again_what_was_noted_is_judging_again(world: World) -> None:
    made = made_of(world, 0, quiet)
    asked = histories(world)
    combiner = ours.learn_combiner(without_layer(made.samples, LayerName.PROCEDURE), rounds=8)
    again = ours.RescoringScorer(made, combiner).answer(asked)  # type: ignore[arg-type]
    judged = ours.OnionScorer(replace(made.onion, combiner=combiner)).answer(asked)  # type: ignore[arg-type]
    assert [[a.objects for a in h] for h in again] == [[a.objects for a in h] for h in judged]
    flat = ([a.score for h in told for a in h] for told in (again, judged))
    assert next(flat) == pytest.approx(next(flat), abs=1e-5)
    # What only the host says of the patient is asked twice.
    assert {len(s.rows) for h in made.judge(asked) for s in h if s.score is not None} <= {1, 2}


def test_layers_are_learned_once_a_world(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of(world, 0, quiet)
    monkeypatch.setattr(ours, "crosswise", None)  # would fail if it were called again
    for method in OURS:
        if not method.per_test:
            method.learn(world, 0, quiet)
    asked = [e.commands for e in world.tests[0].clean]
    made = made_of(world, 0, quiet)
    assert made.judge(asked) is made.judge([list(h) for h in asked])
    assert made.judge(asked) is not made.judge(asked[:-1])


def test_sources_that_disagree_are_an_objection(world: World) -> None:
    commands = world.tests[0].clean[0].commands
    context = commands[0].context
    (age,) = context.parts["PatientAge"]
    other = Told(float(age.value) + 30, type(age.source).HOST)
    told = replace(context, parts={**context.parts, "PatientAge": (age, other)})
    disputed = [tuple(replace(c, context=told) for c in commands)]
    assert all(a.objects for a in answers("Scanward", world, disputed)[0])
    assert not any(a.objects for a in answers("Scanward, learned layers alone", world, disputed)[0])


def test_adapting_learns_from_the_first_examinations_and_keeps_the_combiner(world: World) -> None:
    found = NAMES["Scanward, adapted"].learn(world, 0, quiet)
    assert "20 examinations" in found.facts["adapted to"]
    made = made_of(world, 0, quiet)
    assert found.scorer.onion.combiner is made.onion.combiner  # type: ignore[attr-defined]
    scores = [a.score for h in found.scorer.answer([e.commands for e in world.tests[0].first]) for a in h]
    before = [
        a.score for h in answers("Scanward", world, [e.commands for e in world.tests[0].first]) for a in h
    ]
    assert scores != before


@pytest.mark.parametrize("method", [m for m in OURS if not m.per_test], ids=lambda m: m.name)
def test_nothing_comes_out_that_is_no_number(method: Method, world: World) -> None:
    told = method.learn(world, 0, quiet).scorer.answer([e.commands for e in world.tests[0].clean])
    assert all(np.isfinite(a.score) for h in told for a in h)


def test_the_oracle_is_calibrated_where_its_test_comes_from(world: World) -> None:
    (oracle,) = CEILING
    assert oracle.learn(world, 0, quiet).calibrate is None
    (test,) = world.tests
    elsewhere = replace(world, tests=(replace(test, level=Level.NEW_PROTOCOLS),))
    drawn = oracle.learn(elsewhere, 0, quiet).calibrate
    assert drawn is not None
    assert len(drawn) == len(world.calibrate)
    seen = {e.identifier for e in (*world.recorded, *test.clean, *test.first)}
    assert not seen & {e.identifier for e in drawn}


def test_the_oracle_does_not_pretend_to_know_recordings(world: World) -> None:
    from scanward.errors import LearningError

    (test,) = world.tests
    recorded = replace(world, tests=(replace(test, site=None),))
    with pytest.raises(LearningError, match="simulated sites alone"):
        CEILING[0].learn(recorded, 0, quiet)


def test_examinations_are_told_apart_by_identity_alone(world: World) -> None:
    made = made_of(world, 0, quiet)
    one = [Examination(e.identifier, tuple(replace(c) for c in e.commands)) for e in world.tests[0].clean[:2]]
    assert made.judge([e.commands for e in one]) is not made.judge(
        [e.commands for e in world.tests[0].clean[:2]]
    )


def test_a_device_that_changed_outweighs_what_it_was(world: World) -> None:
    (test,) = world.tests
    updated = tuple(
        Examination(
            e.identifier,
            tuple(replace(c, parameters={**c.parameters, "ConvolutionKernel": "NEW"}) for c in e.commands),
        )
        for e in test.first
    )
    elsewhere = replace(world, tests=(replace(test, level=Level.SOFTWARE_UPDATE, first=updated),))
    adapted = NAMES["Scanward, adapted"]
    assert adapted.learn(world, 0, quiet).facts["each counted"] == 1
    found = adapted.learn(elsewhere, 0, quiet)
    assert found.facts["each counted"] == adapting.COPIES
    # The rules alone decide as the whole judge would, which has no threshold for its score here.
    made, rules = made_of(world, 0, quiet), adapting.rules_of(world.learn)
    for e in (*test.first, *updated):
        whole = any(j.verdict is not Verdict.RELEASE for j in made.onion.judge_all(e.commands))
        assert adapting.objected(rules, e) is whole
    # A device that nobody knows has not changed.
    strange = tuple(
        replace(e, commands=tuple(replace(c, device=Device("Nobody", "None")) for c in e.commands))
        for e in updated
    )
    assert adapting.copies(world, replace(test, first=strange)) == 1
    asked = [e.commands for e in updated[:5]]
    assert all(a.objects for h in answers("Scanward", world, asked) for a in h)
    assert not any(a.objects for h in found.scorer.answer(asked) for a in h)
