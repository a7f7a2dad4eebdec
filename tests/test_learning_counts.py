"""What is counted: steps of an examination, ages of a protocol; and settings chosen for a patient."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.commands import Command, Context, Examination, Source, Told
from scanward.layers.base import Part
from scanward.layers.choices import MARK, OFF, REACH, Choice, fresh, steps_away
from scanward.layers.combiner import BEYOND, COUNTED, Combiner
from scanward.layers.encoding import ELEMENT, Encoder, learn_encoder
from scanward.layers.graph import Grove, rounded
from scanward.layers.steps import Steps
from scanward.layers.usual import UsualValues
from scanward.learning.boosting import boost, export, merge
from scanward.learning.choices import choosable, learn_choice
from scanward.learning.conditionals import _borrow, learn_conditional
from scanward.learning.steps import learn_steps
from scanward.learning.usual_values import learn_ages, learn_usual
from scanward.simulation import Site


@pytest.fixture(scope="module")
def site() -> list[Examination]:
    return Site(5).examinations(500)


@pytest.fixture(scope="module")
def commands(site: list[Examination]) -> tuple[Command, ...]:
    return tuple(c for e in site for c in e.commands)


@pytest.fixture(scope="module")
def encoder(commands: tuple[Command, ...]) -> Encoder:
    return learn_encoder(commands)


@pytest.fixture(scope="module")
def usual(encoder: Encoder, commands: tuple[Command, ...]) -> UsualValues:
    return learn_usual(encoder, encoder.rows(commands))


@pytest.fixture(scope="module")
def steps(encoder: Encoder, site: list[Examination]) -> Steps:
    return learn_steps(encoder, site)


def aged(command: Command, age: float) -> Command:
    parts = {**command.context.parts, "PatientAge": (Told(age, Source.WORKLIST),)}
    return replace(command, context=Context(parts))


# --- steps
def walk(encoder: Encoder, steps: Steps, examination: Examination) -> list[float]:
    """Nats of each command, computed here from the commands alone."""
    out: list[float] = []
    sent: list[int] = []
    run = 0
    for command in examination.commands:
        element = encoder.view(command).groups[ELEMENT]
        run = run if sent and sent[-1] == element else 0
        last = sent[-1] if sent else steps.beginning(element)
        out.append(steps.nats(last, element, sent.count(element), run))
        sent.append(element)
        run += 1
    return out


def test_ordinary_steps_cost_little_and_a_command_after_the_end_much(
    encoder: Encoder, steps: Steps, site: list[Examination]
) -> None:
    clean = [n for e in site for n in walk(encoder, steps, e)]
    _, often, after = max((int(n), int(a), int(b)) for a, b, n in steps.pairs if min(a, b) >= 0)
    assert steps.nats(often, after, 0, 0) < 1.0
    whole = next(
        e for e in site if len(e.commands) == 4 and len({str(c.parameters) for c in e.commands}) == 4
    )
    back = replace(whole, commands=(*whole.commands, whole.commands[1]))
    assert walk(encoder, steps, back)[-1] > max(clean)


def test_a_second_repeat_is_counted_over_all_protocols(
    encoder: Encoder, steps: Steps, site: list[Examination]
) -> None:
    whole = next(e for e in site if len(e.commands) == 2)
    last = whole.commands[-1]
    once, twice = walk(encoder, steps, replace(whole, commands=(*whole.commands, last, last)))[-2:]
    assert once > 2.0
    assert twice == pytest.approx(-math.log(steps.rates["third"]))  # no protocol shows enough of its own
    assert once + twice > max(n for e in site for n in walk(encoder, steps, e))  # which is what is judged


def test_what_was_never_met_weighs_no_more_than_the_recordings_allow(
    encoder: Encoder, steps: Steps, site: list[Examination]
) -> None:
    number = sum(len(e.commands) for e in site)
    assert all(-math.log(rate) <= math.log(2 * (number + 2)) for rate in steps.rates.values())
    few = learn_steps(encoder, site[:20])
    assert -math.log(few.rates["back"]) < -math.log(steps.rates["back"])


def test_going_back_is_counted(encoder: Encoder, steps: Steps, site: list[Examination]) -> None:
    """At a site where people do go back, going back is no surprise."""
    there = [replace(e, commands=(*e.commands, e.commands[0])) for e in site if len(e.commands) > 1]
    often = learn_steps(encoder, there)
    assert often.rates["back"] > 0.2 > steps.rates["back"]


def test_an_element_never_recorded_costs_a_skip_at_most(steps: Steps) -> None:
    assert steps.nats(steps.beginning(-1), -1, 0, 0) == pytest.approx(-math.log(steps.rates["skip"]))
    assert steps.nats(0, -1, 0, 0) <= -math.log(steps.rates["skip"]) + math.log(1e4)


def test_steps_survive_a_bundle(encoder: Encoder, steps: Steps, site: list[Examination]) -> None:
    again = Steps.from_part(steps.part())
    for examination in site[:40]:
        assert walk(encoder, again, examination) == walk(encoder, steps, examination)


# --- ages
def test_a_child_in_a_protocol_of_adults_is_a_surprise_that_grows_with_recordings(
    encoder: Encoder, commands: tuple[Command, ...]
) -> None:
    table = learn_ages(encoder, encoder.rows(commands))
    counts: dict[int, int] = {}
    for command in commands:
        age = command.number("PatientAge")
        if age is not None:
            at = encoder.view(command).groups[ELEMENT]
            counts[at] = counts.get(at, 0) + 1 if age >= 18 else -10_000
    adults = sorted((n, at) for at, n in counts.items() if n > 0)
    rare, common = adults[0][1], adults[-1][1]
    assert table[common + 1, 5] < 0.1  # adults are no surprise
    assert (table[common + 1, :5] > 4.0).all()
    assert table[common + 1, 2] > table[rare + 1, 2] + 1.0


def test_ages_are_probabilities(encoder: Encoder, commands: tuple[Command, ...]) -> None:
    table = learn_ages(encoder, encoder.rows(commands))
    assert np.exp(-table.astype(float)).sum(axis=1) == pytest.approx(np.ones(len(table)), abs=1e-5)


def test_no_ages_no_table(commands: tuple[Command, ...]) -> None:
    bare = tuple(
        replace(c, context=Context({n: t for n, t in c.context.parts.items() if n != "PatientAge"}))
        for c in commands[:200]
    )
    encoder = learn_encoder(bare)
    assert learn_ages(encoder, encoder.rows(bare)).shape == (0, 0)


# --- choices
@given(st.lists(st.integers(-1, 6), min_size=4, max_size=4), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_steps_away_are_counted_on_the_ladder(rungs: list[int], usual: int, code: int) -> None:
    found = steps_away(rungs, usual, code)
    if code == usual:
        assert found == REACH
    elif min(rungs[usual], rungs[code]) < 0:
        assert found == OFF
    else:
        assert found - REACH == max(-REACH, min(REACH, rungs[code] - rungs[usual]))


@pytest.fixture(scope="module")
def voltage(encoder: Encoder, usual: UsualValues, commands: tuple[Command, ...]) -> tuple[Choice, Grove]:
    rows = encoder.rows(commands)
    target = encoder.index["KVP"]
    assert target in choosable(encoder, rows)
    choice, graph = learn_choice(encoder, rows, usual, target, rounds=15)
    size = len(encoder.fields)
    shared = np.concatenate([choice.inputs, size + choice.inputs, 2 * size + choice.inputs])
    columns = np.concatenate([shared, 3 * size + np.arange(choice.width)])
    return choice, merge([graph], [columns], 3 * size + choice.width, what="test")


def nats_of(
    encoder: Encoder, usual: UsualValues, voltage: tuple[Choice, Grove], command: Command
) -> tuple[float, int]:
    choice, grove = voltage
    view = encoder.view(command)
    level, row = usual.row(view)
    moved = view.number_array - usual.middle[level][row]
    told = rounded(np.concatenate([view.code_array, view.number_array, moved, choice.extras(view)]))
    answer = grove.run(told)[0]
    return choice.nats(view, answer), choice.expected(view, answer)


def test_the_usual_voltage_is_expected_and_a_far_one_is_not(
    encoder: Encoder, usual: UsualValues, commands: tuple[Command, ...], voltage: tuple[Choice, Grove]
) -> None:
    command = next(c for c in commands if c.text("AcquisitionType") == "SPIRAL" and c.number("KVP") == 120)
    nats, expected = nats_of(encoder, usual, voltage, command)
    assert nats < 0.5
    field = encoder.fields[encoder.index["KVP"]]
    assert field.values[expected - 2] == 120
    # No device of this site was seen to take 90 kV: it can cost no more than half a command among all recorded.
    odd, instead = nats_of(
        encoder, usual, voltage, replace(command, parameters={**command.parameters, "KVP": 90.0})
    )
    assert odd > 4.0
    assert odd <= -math.log(voltage[0].least) + 1e-9
    assert field.values[instead - 2] == 120


def test_choices_survive_a_bundle(
    encoder: Encoder, usual: UsualValues, commands: tuple[Command, ...], voltage: tuple[Choice, Grove]
) -> None:
    again = Choice.from_part(voltage[0].part())
    for command in commands[::200]:
        view = encoder.view(command)
        assert again.extras(view)[:-1] == voltage[0].extras(view)[:-1]
        assert nats_of(encoder, usual, (again, voltage[1]), command) == nats_of(
            encoder, usual, voltage, command
        )


def test_how_a_patient_lies_is_news_once() -> None:
    assert fresh(6.0, math.nan) == 6.0  # the first command
    assert fresh(6.0, 0.1) == 6.0  # turned
    assert fresh(6.0, 5.0) == 0.0  # still as before
    assert fresh(0.1, 5.0) == 5.0  # turned back
    assert fresh(0.1, 0.1) == 0.1
    assert fresh(MARK, MARK) == 0.0


# --- the combiner
def test_counted_evidence_is_added_as_it_is() -> None:
    features = np.zeros((60, 1), dtype=np.float32)
    features[30:] = 1
    booster = boost(features, np.arange(60) // 30, objective="binary", rounds=3, least=3)
    combiner = Combiner(("x",), (Grove(export(booster, features, what="test").model, (1,)),))
    plain = combiner.score({"x": 1.0})
    for name in COUNTED:
        assert combiner.score({"x": 1.0, name: BEYOND - 0.1}) == plain
        assert combiner.score({"x": 1.0, name: BEYOND + 2.5}) == pytest.approx(plain + 2.5)
        assert combiner.score({"x": 1.0, name: math.nan}) == plain


# --- expectations of groups that a fold does not hold
def test_a_rare_group_of_a_constant_is_expected_like_its_like(
    encoder: Encoder, commands: tuple[Command, ...]
) -> None:
    """A group with one command borrows from its element when that command is held out: factors stay modest."""
    rows = encoder.rows(commands)
    target = encoder.index["XRayTubeCurrentInmA"]
    predictors = [encoder.index[n] for n in ("WaterEquivalentDiameter", "KVP", "PatientAge", "PatientWeight")]
    found = learn_conditional(encoder, rows, learn_usual(encoder, rows), target, predictors, rounds=10)
    assert found is not None
    model = found[0]
    assert model.support_factors.min() >= 0.5 and model.support_factors.max() <= 4.0  # noqa: PT018
    assert model.blind_factors.min() >= 0.5 and model.blind_factors.max() <= 4.0  # noqa: PT018
    assert isinstance(model.part(), Part)


def test_a_group_missing_in_a_fold_takes_the_row_of_its_parent(
    encoder: Encoder, commands: tuple[Command, ...]
) -> None:
    rows = encoder.rows(commands)
    gone = rows.groups[0, 0]
    rest = np.flatnonzero(rows.groups[:, 0] != gone)
    tables = [np.full(len(groups) + 1, float(level)) for level, groups in enumerate(encoder.groups)]
    _borrow(rows, rest, tables)
    there = np.unique(rows.groups[rest, 0]) + 1
    assert (tables[0][there] == 0.0).all()
    met = [level for level in range(1, 5) if rows.groups[0, level] in rows.groups[rest, level]]
    assert tables[0][gone + 1] == float(met[0])


def test_expected_weight_grows_with_age(encoder: Encoder, commands: tuple[Command, ...]) -> None:
    rows = encoder.rows(commands)
    target = encoder.index["PatientWeight"]
    found = learn_conditional(
        encoder, rows, learn_usual(encoder, rows), target, [encoder.index["PatientAge"]], rounds=10
    )
    assert found is not None
    curve = found[0].curve
    assert curve[0] < curve[5] < curve[11]  # infants, seven to nine years, adults
