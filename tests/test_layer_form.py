"""Layer 1: present, typed, finite, in range, nothing unknown; and it never raises."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outer_layers import CLEAN, clean_scanner, covid_ctset, ge_protocols, halves, hostile_commands
from scanward.commands import Command, Context, Device, Opinion, Outcome, Role, Severity, Told
from scanward.errors import BundleError, LearningError
from scanward.layers.base import Part
from scanward.layers.form import FormLayer
from scanward.learning.device_profile import learn_form

TRAINING = clean_scanner(3000, seed=11)
LAYER = learn_form(TRAINING)
SPIRAL = next(c for c in TRAINING if c.parameters["AcquisitionType"] == "SPIRAL")


def judged(command: Command, layer: FormLayer = LAYER) -> Opinion:
    return layer.judge(layer.start(), command)[0]


def changed(**values: object) -> Command:
    return replace(SPIRAL, parameters={**SPIRAL.parameters, **values})  # type: ignore[dict-item]


def severities(opinion: Opinion) -> dict[str, Severity]:
    return {o.field: o.severity for o in opinion.objections}


def test_a_recorded_command_passes() -> None:
    assert judged(SPIRAL).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("field", "value", "severity"),
    [
        ("KVP", 400.0, Severity.HALT),  # no scanner does this
        ("KVP", 110.0, Severity.ALERT),  # this device was never recorded doing it
        ("KVP", math.nan, Severity.HALT),
        ("KVP", math.inf, Severity.HALT),
        ("KVP", "120", Severity.HALT),
        ("XRayTubeCurrentInmA", -5.0, Severity.HALT),
        ("XRayTubeCurrentInmA", 1990.0, Severity.ALERT),
        ("CTDIvol", 4900.0, Severity.HALT),
        ("RevolutionTime", 5.0, Severity.HALT),
        ("ConvolutionKernel", "Zz99", Severity.ALERT),
        ("ConvolutionKernel", "  ", Severity.HALT),
        ("AcquisitionType", "SWIRL", Severity.ALERT),
        ("Unheard", 1.0, Severity.ALERT),
        ("TableHeight", 900.0, Severity.HALT),
    ],
)
def test_each_fault_is_named_with_its_severity(field: str, value: object, severity: Severity) -> None:
    opinion = judged(changed(**{field: value}))
    assert opinion.outcome is Outcome.OBJECT
    assert severities(opinion)[field] is severity


def test_spelling_of_a_category_does_not_matter() -> None:
    assert judged(changed(ConvolutionKernel=" br40 ")).outcome is Outcome.PASS
    assert judged(changed(AcquisitionType="Spiral Acquisition")).severity <= Severity.ALERT


@pytest.mark.parametrize("field", ["KVP", "XRayTubeCurrentInmA", "CTDIvol", "SpiralPitchFactor"])
def test_a_missing_machine_field_halts(field: str) -> None:
    left = {k: v for k, v in SPIRAL.parameters.items() if k != field}
    assert severities(judged(replace(SPIRAL, parameters=left)))[field] is Severity.HALT


def test_missing_patient_context_is_no_fault() -> None:
    assert judged(replace(SPIRAL, context=Context())).outcome is Outcome.PASS


def test_required_fields_are_those_of_the_type() -> None:
    monitor = next(c for c in TRAINING if c.parameters["AcquisitionType"] == "STATIONARY")
    assert "SpiralPitchFactor" not in monitor.parameters
    assert judged(monitor).outcome is Outcome.PASS


def test_a_field_missing_now_and_then_in_training_alerts_but_does_not_halt() -> None:
    training = [
        replace(c, parameters={k: v for k, v in c.parameters.items() if k != "TableHeight"}) if i < 5 else c
        for i, c in enumerate(TRAINING)
    ]
    layer = learn_form(training)
    left = {k: v for k, v in SPIRAL.parameters.items() if k != "TableHeight"}
    assert severities(judged(replace(SPIRAL, parameters=left), layer))["TableHeight"] is Severity.ALERT


def test_a_vocabulary_that_keeps_growing_is_shown_not_counted() -> None:
    """Kernels seen in one examination only promise more of the kind (Good-Turing)."""
    training = [
        replace(c, parameters={**c.parameters, "ConvolutionKernel": f"K{i % 700}"})
        for i, c in enumerate(TRAINING)
    ]
    rare = [replace(c, parameters={**c.parameters, "ConvolutionKernel": "Once"}) for c in TRAINING[:1]]
    many = [
        replace(c, parameters={**c.parameters, "ConvolutionKernel": f"Once{i}"})
        for i, c in enumerate(TRAINING[:60])
    ]
    few_new, many_new = learn_form(training + rare), learn_form(training + many)
    assert (
        severities(judged(changed(ConvolutionKernel="New"), few_new))["ConvolutionKernel"] is Severity.ALERT
    )
    opinion = judged(changed(ConvolutionKernel="New"), many_new)
    assert opinion.outcome is Outcome.PASS
    assert severities(opinion)["ConvolutionKernel"] is Severity.INFORMATION


def test_another_device_or_role_is_refused() -> None:
    assert severities(judged(replace(SPIRAL, device=Device("Other", "Two"))))["ManufacturerModelName"] is (
        Severity.HALT
    )
    assert severities(judged(replace(SPIRAL, role=Role.COMMANDED)))["role"] is Severity.HALT
    assert judged(replace(SPIRAL, device=Device())).outcome is Outcome.PASS  # only one device it can be


def test_impossible_context_alerts() -> None:
    context = Context({"PatientAge": (Told(900.0),)})
    assert severities(judged(replace(SPIRAL, context=context)))["PatientAge"] is Severity.ALERT


def test_a_part_survives_json_and_gives_the_same_layer() -> None:
    again = FormLayer.from_part(Part(json.loads(json.dumps(LAYER.part().settings))))
    for command in (*TRAINING[:50], changed(KVP=70.0), changed(CTDIvol=400.0)):
        assert judged(command, again) == judged(command)


@pytest.mark.parametrize("damage", [{}, {"devices": 3, "roles": []}, {"devices": {"a": {}}, "roles": []}])
def test_damaged_settings_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        FormLayer.from_part(Part(damage))


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(LearningError, match="no clinical command"):
        learn_form([])


@settings(max_examples=300)
@given(hostile_commands())
def test_no_command_makes_it_raise(command: Command) -> None:
    opinion, state = LAYER.judge(None, command)
    assert state is None
    bad = [v for v in command.parameters.values() if type(v) is float and not math.isfinite(v)]
    if bad:
        assert opinion.severity is Severity.HALT


@given(st.sampled_from(TRAINING))
def test_it_is_pure(command: Command) -> None:
    assert LAYER.judge(None, command) == LAYER.judge(None, command)


def test_clean_commands_of_the_same_scanner_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    fresh = clean_scanner(10000, seed=12)
    objected = sum(judged(c).outcome is Outcome.OBJECT for c in fresh)
    with capsys.disabled():
        print(f"\nform: {objected} of {len(fresh)} clean commands objected to")
    assert objected <= 0.001 * len(fresh)


@pytest.mark.parametrize(("table", "most"), [("covid", 0.01), ("ge", 0.08)])
def test_held_out_half_of_real_tables(
    shared_data: Path, table: str, most: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small tables (190 and 119 examinations): a new protocol is a new value, so the rate is printed."""
    commands = covid_ctset(shared_data) if table == "covid" else ge_protocols(shared_data)
    training, held_out = halves(commands)
    layer = learn_form(training)
    objected = sum(judged(c, layer).outcome is Outcome.OBJECT for c in held_out)
    halted = sum(judged(c, layer).severity is Severity.HALT for c in held_out)
    with capsys.disabled():
        print(f"\nform, {table}: {objected} of {len(held_out)} held-out commands, {halted} halted")
    assert objected <= most * len(held_out)
    assert halted == 0


def test_the_example_device_is_the_one_learned() -> None:
    assert list(LAYER.devices) == [CLEAN.key]
