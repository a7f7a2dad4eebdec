"""What exposure control says of a current, and by it of the settings it was told."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from scanward.commands import Command, Context, Examination, Source, Told, Value
from scanward.layers.base import Part
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import Encoder, learn_encoder
from scanward.layers.exposure import FARTHEST, MOST, _surprise
from scanward.learning.exposure import learn_exposure
from scanward.learning.folds import Settings, learn_layers
from scanward.learning.usual_values import learn_usual
from scanward.simulation import Site

LEARNED = 800


@pytest.fixture(scope="module")
def site() -> list[Examination]:
    return Site(77).examinations(LEARNED + 300)


@pytest.fixture(scope="module")
def layer(site: list[Examination]) -> ContextSensitiveLayer:
    return learn_layers(site[:LEARNED], Settings(steps=20), lambda _what, _share: None)[1]


def features(layer: ContextSensitiveLayer, command: Command) -> dict[str, float]:
    return dict(layer.judge(layer.start(), command)[0].features)


def controlled(examinations: list[Examination]) -> list[Command]:
    """Commands under exposure control, of which the localizer measured the patient."""
    return [
        c
        for e in examinations
        for c in e.commands
        if c.text("ExposureModulationType") not in (None, "NONE") and c.number("WaterEquivalentDiameter")
    ]


def other_voltage(command: Command, kvp: float) -> Command:
    """The same command with another voltage, as somebody on the wire would change it: nothing else follows."""
    return replace(command, parameters={**command.parameters, "KVP": kvp})


def test_a_current_knows_the_voltage_it_was_set_for(
    layer: ContextSensitiveLayer, site: list[Examination]
) -> None:
    commands = controlled(site[LEARNED:])
    recorded = [f for c in commands if abs((f := features(layer, c))["cs.moved.KVP"]) > 1e-6]
    assert len(recorded) >= 4  # operators do take other voltages
    # Where an operator took it, the current goes with it ...
    assert np.median([f["cs.aec.fits.KVP"] for f in recorded]) < 0
    usual = [c for c in commands if abs(features(layer, c)["cs.moved.KVP"]) <= 1e-6][:150]
    assert all(features(layer, c)["cs.aec.fits.KVP"] == 0 for c in usual)
    changed = [features(layer, other_voltage(c, 80.0 if c.number("KVP") != 80 else 140.0)) for c in usual]
    # ... and where it was exchanged afterwards, it does not; the evidence of both witnesses is added.
    assert np.median([f["cs.aec.fits.KVP"] for f in changed]) > 2
    for f in (*recorded, *changed):
        assert f["cs.exchanged.KVP"] == pytest.approx(f["cs.choice.KVP"] + f["cs.aec.fits.KVP"])
        assert f["cs.exchanged"] == max(f["cs.exchanged.KVP"], f["cs.exchanged.RevolutionTime"])


def test_spreads_are_those_of_commands_not_learned_from(
    layer: ContextSensitiveLayer, site: list[Examination]
) -> None:
    known = [
        f["cs.aec"]
        for c in controlled(site[LEARNED:])
        if (f := features(layer, c))["cs.support"] > math.log(9)
    ]
    assert len(known) > 100
    assert 0.75 < 1.4826 * np.median(np.abs(known)) < 1.25


def test_without_exposure_control_it_has_no_say(
    layer: ContextSensitiveLayer, site: list[Examination]
) -> None:
    assert layer.exposure is not None
    for command in (c for e in site[:40] for c in e.commands):
        off = command.text("ExposureModulationType") in (None, "NONE")
        said = features(layer, command)
        assert math.isnan(said["cs.aec"]) == off
        assert math.isnan(said["cs.aec.fits.KVP"]) == off
        if off:
            assert said["cs.exchanged.KVP"] == said["cs.choice.KVP"]


def test_too_few_commands_teach_nothing(site: list[Examination]) -> None:
    commands = tuple(c for e in site[:60] for c in e.commands)
    encoder = learn_encoder(commands)
    rows = encoder.rows(commands)
    assert learn_exposure(encoder, rows, learn_usual(encoder, rows)) is None


def test_a_layer_without_it_is_read_and_says_what_it_said(
    layer: ContextSensitiveLayer, site: list[Examination]
) -> None:
    """Bundles of schema 1 know nothing of it."""
    part = replace(layer, exposure=None).part()
    stored = Part(json.loads(json.dumps(part.settings)), part.arrays, part.graphs)
    old = ContextSensitiveLayer.from_part(stored, layer.encoder)
    assert old.exposure is None
    for command in site[LEARNED].commands:
        new, before = features(layer, command), features(old, command)
        assert not any(name.startswith(("cs.aec", "cs.exchanged")) for name in before)
        assert {n: v for n, v in new.items() if n in before} == pytest.approx(before, nan_ok=True)


# --- limits
def bounded(command: Command, size: float, current: float, top: float) -> Command:
    parameters: dict[str, Value] = {**command.parameters, "XRayTubeCurrentInmA": current}
    parameters |= {"AECMaximumTubeCurrent": top, "AECMinimumTubeCurrent": 10.0}
    told = {**command.context.parts, "WaterEquivalentDiameter": (Told(size, Source.LOCALIZER),)}
    return replace(command, parameters=parameters, context=Context(told))


def test_a_current_at_its_limit_is_a_bound_and_no_value(site: list[Examination]) -> None:
    """A quarter of the patients are at the limit: the slope is still that of exposure control."""
    rng = np.random.default_rng(5)
    model, slope, top = controlled(site)[0], 0.008, 200.0
    sizes = rng.uniform(200, 400, 1500)
    wanted = np.exp(np.log(top) + slope * (sizes - 350) + rng.normal(0, 0.1, 1500))
    commands = tuple(
        bounded(model, float(s), float(min(w, top)), top) for s, w in zip(sizes, wanted, strict=True)
    )
    encoder = learn_encoder(commands)
    rows = encoder.rows(commands)
    usual = learn_usual(encoder, rows)
    found = learn_exposure(encoder, rows, usual)
    assert found is not None
    at = found.model.linear.tolist().index(encoder.index["WaterEquivalentDiameter"])
    told = np.array([c.number("XRayTubeCurrentInmA") or math.nan for c in commands])
    plain = np.polyfit(sizes, np.log(told), 1)[0]
    assert plain < 0.85 * slope  # what comes of taking limits for values
    assert found.model.slopes[0][1][at] == pytest.approx(slope, rel=0.08)
    layer = only(encoder, commands)
    # At the limit is as expected for the large, far too much for the small; below it is too little for the large.
    assert features(layer, bounded(model, 390.0, top, top))["cs.aec"] == 0
    assert features(layer, bounded(model, 210.0, top, top))["cs.aec.nats"] > 10
    assert features(layer, bounded(model, 390.0, 0.5 * top, top))["cs.aec"] < -5


def only(encoder: Encoder, commands: tuple[Command, ...]) -> ContextSensitiveLayer:
    """A layer of commands that differ in little."""
    from scanward.learning.context_sensitive import learn_context_sensitive

    return learn_context_sensitive(encoder, encoder.rows(commands))


@given(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(0.02, 2), st.floats(-3, 3), st.floats(0, 3), st.booleans()
)
def test_surprise_is_the_tail_that_a_limit_leaves(
    told: float, expected: float, width: float, low: float, span: float, at_limit: bool
) -> None:
    high = low + 0.1 + span
    told = high if at_limit else told
    z, nats = _surprise(told, expected, width, low, high)
    assert abs(z) <= FARTHEST
    assert 0 <= nats <= 0.5 * FARTHEST**2
    if told >= high - 1e-6:
        assert z >= 0
        exact = max(0.0, -norm.logsf(min((told - expected) / width, FARTHEST)) - math.log(2))
        assert nats == pytest.approx(min(exact, 0.5 * FARTHEST**2), abs=1e-6)
    elif told > low + 1e-6:
        assert nats == pytest.approx(0.5 * z * z)
    free, _ = _surprise(told, expected, width, math.nan, math.nan)
    assert abs(z) <= abs(free)  # a limit explains, it never accuses


def test_no_command_makes_it_say_more_than_it_may(
    layer: ContextSensitiveLayer, site: list[Examination]
) -> None:
    command = controlled(site)[0]
    for value in (0.0, 1e-300, 1e9, 1e308, -5.0, math.nan, math.inf):
        for name in ("XRayTubeCurrentInmA", "KVP", "AECMaximumTubeCurrent", "AECMinimumTubeCurrent"):
            said = features(layer, replace(command, parameters={**command.parameters, name: value}))
            assert not abs(said["cs.aec.fits.KVP"]) > MOST
            assert not abs(said["cs.aec"]) > FARTHEST
