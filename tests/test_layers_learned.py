"""The learned layers: one list of checks that each must pass, then what each is there to see."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.commands import FIELDS, Command, Context, Device, Examination, Kind, Outcome, Source, Told
from scanward.layers.base import Layer, Part
from scanward.layers.context_free import ContextFreeLayer
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import MISSING, UNKNOWN, Encoder
from scanward.layers.graph import ABSENT, rounded
from scanward.layers.procedure import ProcedureLayer
from scanward.learning.folds import LearnedLayers, Settings, learn_layers
from scanward.simulation import Site

LEARNED = 800  # examinations: enough to see the point of each layer, few enough for a test


@pytest.fixture(scope="module")
def site() -> list[Examination]:
    return Site(77).examinations(LEARNED + 120)


@cache
def trained() -> LearnedLayers:
    return learn_layers(Site(77).examinations(LEARNED), Settings(steps=150), lambda _what, _share: None)


@pytest.fixture(scope="module")
def layers() -> LearnedLayers:
    return trained()


def each(layers: LearnedLayers) -> list[Layer[Any]]:
    return list(layers)


def again(layer: Layer[Any], encoder: Encoder) -> Layer[Any]:
    """The layer after a trip through what a bundle stores (settings as JSON)."""
    part = layer.part()
    stored = Part(json.loads(json.dumps(part.settings)), part.arrays, part.graphs)
    encoder = Encoder.from_settings(json.loads(json.dumps(encoder.settings())))
    made: dict[str, Any] = {
        "context_free": ContextFreeLayer,
        "context_sensitive": ContextSensitiveLayer,
        "procedure": ProcedureLayer,
    }
    found: Layer[Any] = made[layer.name.value].from_part(stored, encoder)
    return found


def features_along(layer: Layer[Any], commands: tuple[Command, ...]) -> list[dict[str, float]]:
    state, out = layer.start(), []
    for command in commands:
        opinion, state = layer.judge(state, command)
        out.append(dict(opinion.features))
    return out


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one.values(), other.values(), strict=True)
    )


# ------------------------------------------------------------------ checks that every learned layer passes
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_same_state_and_command_give_the_same_opinion_and_state(
    layers: LearnedLayers, site: list[Examination], which: int
) -> None:
    layer = each(layers)[which]
    commands = max(site[LEARNED:], key=lambda e: len(e.commands)).commands
    state = layer.start()
    for command in commands:
        first, after = layer.judge(state, command)
        # Something else in between must not matter.
        layer.judge(layer.start(), commands[0])
        second, _ = layer.judge(state, command)
        assert same(dict(first.features), dict(second.features))
        assert first.objections == second.objections
        state = after


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_layer_survives_the_bundle_exactly(
    layers: LearnedLayers, site: list[Examination], which: int
) -> None:
    layer = each(layers)[which]
    copy = again(layer, layers[0].encoder)
    for examination in site[LEARNED : LEARNED + 20]:
        ours, theirs = (
            features_along(layer, examination.commands),
            features_along(copy, examination.commands),
        )
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_features_have_the_same_names_for_every_command(
    layers: LearnedLayers, site: list[Examination], which: int
) -> None:
    names = {
        tuple(f)
        for e in site[LEARNED : LEARNED + 40]
        for f in features_along(each(layers)[which], e.commands)
    }
    assert len(names) == 1


NUMBERS = [n for n, f in FIELDS.items() if f.kind is Kind.NUMBER]
TEXTS = [n for n, f in FIELDS.items() if f.kind is Kind.CATEGORY]
odd = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-300, -1.0, 1e300])


@given(
    st.dictionaries(st.sampled_from(NUMBERS + TEXTS), odd | st.text(max_size=8), max_size=12),
    st.dictionaries(st.sampled_from(NUMBERS + TEXTS), odd | st.text(max_size=8), max_size=5),
    st.none() | st.just("e"),
    st.none() | odd,
)
@settings(max_examples=60, deadline=None)
def test_no_command_makes_a_layer_raise(
    parameters: dict[str, Any],
    parts: dict[str, Any],
    examination: str | None,
    at: float | None,
) -> None:
    command = Command(
        parameters,
        Context({n: (Told(v, Source.WORKLIST),) for n, v in parts.items()}),
        Device("x", "y"),
        examination=examination,
        acquired_at=at,
    )
    for layer in each(trained()):
        opinion, _ = layer.judge(layer.start(), command)
        assert opinion.score is None or not math.isnan(opinion.score)


# --------------------------------------------------------------------------------- what each is there to see
def spirals(site: list[Examination]) -> list[tuple[Examination, int]]:
    return [
        (e, i)
        for e in site[LEARNED:]
        for i, c in enumerate(e.commands)
        if c.text("AcquisitionType") == "SPIRAL" and c.text("ExposureModulationType") != "NONE"
    ]


def changed(command: Command, **values: float | str) -> Command:
    return replace(command, parameters={**command.parameters, **values})


def test_context_sensitive_finds_three_times_the_dose_for_this_patient(
    layers: LearnedLayers, site: list[Examination]
) -> None:
    layer = layers[1]
    found, clean = 0, 0
    cases = spirals(site)[:60]
    for examination, i in cases:
        command = examination.commands[i]
        dose = command.number("CTDIvol")
        current = command.number("XRayTubeCurrentInmA")
        assert dose is not None
        assert current is not None
        before, _ = layer.judge(layer.start(), command)
        after, _ = layer.judge(
            layer.start(), changed(command, CTDIvol=3 * dose, XRayTubeCurrentInmA=3 * current)
        )
        found += any(o.field == "CTDIvol" and "more than" in o.reason for o in after.objections)
        clean += any(o.field == "CTDIvol" and "more than" in o.reason for o in before.objections)
    assert found > 0.75 * len(cases)
    assert clean < 0.1 * len(cases)


def test_too_little_dose_is_a_finding_too(layers: LearnedLayers, site: list[Examination]) -> None:
    layer, cases = layers[1], spirals(site)[:40]
    found = 0
    for examination, i in cases:
        command = examination.commands[i]
        dose, current = command.number("CTDIvol") or 0.0, command.number("XRayTubeCurrentInmA") or 0.0
        opinion, _ = layer.judge(
            layer.start(), changed(command, CTDIvol=dose / 4, XRayTubeCurrentInmA=current / 4)
        )
        found += any(o.field == "CTDIvol" and "less than" in o.reason for o in opinion.objections)
    assert found > 0.7 * len(cases)


def test_expected_ranges_hold_what_was_recorded(layers: LearnedLayers, site: list[Examination]) -> None:
    """An objection names a range in the field's unit, and the value found lies outside it."""
    layer = layers[1]
    for examination, i in spirals(site)[:40]:
        command = examination.commands[i]
        spoilt = changed(command, CTDIvol=(command.number("CTDIvol") or 1.0) * 6)
        opinion, _ = layer.judge(layer.start(), spoilt)
        for objection in opinion.objections:
            if objection.low is not None and objection.high is not None and "expect" in objection.reason:
                assert isinstance(objection.found, float)
                assert not objection.low <= objection.found <= objection.high
                assert objection.expected


def test_missing_patient_context_abstains_rather_than_objects(
    layers: LearnedLayers, site: list[Examination]
) -> None:
    layer = layers[1]
    more = 0
    cases = spirals(site)[:40]
    for examination, i in cases:
        command = examination.commands[i]
        parts = {n: t for n, t in command.context.parts.items() if not n.startswith(("Patient", "Water"))}
        unknown = replace(command, context=Context(parts))
        opinion, _ = layer.judge(layer.start(), unknown)
        named = {o.field for o in opinion.objections}
        assert not named & {
            "PatientAge",
            "PatientSex",
            "PatientWeight",
            "PatientSize",
            "WaterEquivalentDiameter",
        }
        before, _ = layer.judge(layer.start(), command)
        more += len(opinion.objections) > len(before.objections) + 1
    assert more < 0.2 * len(cases)


def test_a_missing_machine_field_counts(layers: LearnedLayers, site: list[Examination]) -> None:
    layer = layers[1]
    for examination, i in spirals(site)[:20]:
        command = examination.commands[i]
        without = replace(command, parameters={k: v for k, v in command.parameters.items() if k != "KVP"})
        before, _ = layer.judge(layer.start(), command)
        after, _ = layer.judge(layer.start(), without)
        assert after.features["cs.usual.KVP"] > before.features["cs.usual.KVP"] + 2


def test_context_free_sees_a_value_that_does_not_go_with_the_others(
    layers: LearnedLayers, site: list[Examination]
) -> None:
    layer = layers[0]
    ours = [layer.judge(None, e.commands[i])[0].score or 0.0 for e, i in spirals(site)[:40]]
    theirs = [
        layer.judge(None, changed(e.commands[i], RevolutionTime=9.5, SliceThickness=77.0))[0].score or 0.0
        for e, i in spirals(site)[:40]
    ]
    assert np.median(theirs) > np.median(ours) + 5


def test_context_free_looks_at_content_alone(layers: LearnedLayers, site: list[Examination]) -> None:
    layer = layers[0]
    for examination, i in spirals(site)[:20]:
        command = examination.commands[i]
        bare = replace(command, context=Context())
        assert same(dict(layer.judge(None, command)[0].features), dict(layer.judge(None, bare)[0].features))


def test_procedure_is_surprised_by_a_repeat_after_the_end(
    layers: LearnedLayers, site: list[Examination]
) -> None:
    layer = layers[2]
    whole = [e for e in site[LEARNED:] if len(e.commands) >= 3]
    first = [features_along(layer, e.commands)[0]["proc.next"] for e in whole]
    repeat = [features_along(layer, (*e.commands, e.commands[0]))[-1]["proc.next"] for e in whole]
    assert np.median(repeat) > np.median(first) + 2


def test_procedure_abstains_without_an_examination(layers: LearnedLayers, site: list[Examination]) -> None:
    layer = layers[2]
    state = layer.start()
    opinion, after = layer.judge(state, replace(site[0].commands[0], examination=None))
    assert opinion.outcome is Outcome.ABSTAIN
    assert opinion.reason
    assert after == state


def test_the_encoder_tells_missing_unknown_and_known_apart(
    layers: LearnedLayers, site: list[Examination]
) -> None:
    encoder = layers[0].encoder
    command = spirals(site)[0][0].commands[spirals(site)[0][1]]
    at = encoder.index["FilterType"]
    known = encoder.view(command).codes[at]
    unknown = encoder.view(changed(command, FilterType="never seen")).codes[at]
    without = replace(command, parameters={k: v for k, v in command.parameters.items() if k != "FilterType"})
    assert encoder.view(without).codes[at] == MISSING
    assert unknown == UNKNOWN
    assert known not in (MISSING, UNKNOWN)


@given(st.lists(st.floats(width=32, allow_infinity=False) | st.just(math.nan), min_size=2, max_size=50))
def test_rounded_features_leave_room_for_every_threshold(values: list[float]) -> None:
    """Between two different rounded features lies a float32: so a split means the same in both engines."""
    out = rounded(np.array(values, dtype=np.float64))
    assert not np.isnan(out).any()
    assert np.array_equal(rounded(out), out)  # rounding is done once
    distinct = np.unique(out)
    for low, high in itertools.pairwise(distinct):
        middle = np.float32((float(low) + float(high)) / 2)
        assert low <= middle < high
    assert all(o == ABSENT for o, v in zip(out, values, strict=True) if math.isnan(v))
