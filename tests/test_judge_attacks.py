"""Attacks on the judging path: whatever the host sends is answered, and nothing it says about itself helps it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from _trained import Trained
from scanward import bundle
from scanward.bundle.judging import Docket, contradicts, judge_groups, load
from scanward.calibration import Calibration, units_needed
from scanward.commands import (
    FIELDS,
    LEARNED_LAYERS,
    PATIENT_FIELDS,
    Command,
    Context,
    Device,
    Judgement,
    LayerName,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
    Verdict,
)
from scanward.errors import BundleError, LearningError
from scanward.keys import VerifyKey
from scanward.layers.base import Part
from scanward.layers.onion import Onion, blame, stranger
from scanward.layers.soundness import sound
from scanward.recordings import Duplicate, Recording

Context_ = dict[str, tuple[Told, ...]]


@lru_cache(maxsize=1)
def part_of(trained: Trained) -> Part:
    return bundle.read(trained.model, trusted=[VerifyKey.load(trained.trust)]).part


@lru_cache(maxsize=1)
def onion_of(trained: Trained) -> Onion:
    return load(part_of(trained))


@lru_cache(maxsize=1)
def commands_of(trained: Trained) -> tuple[Command, ...]:
    return tuple(c for e in trained.examinations() for c in e.commands)


def released(trained: Trained) -> Command:
    """A spiral of which nothing is unusual, with a patient whom others than the host told of."""
    onion = onion_of(trained)
    return next(
        c
        for c in commands_of(trained)
        if {"PatientAge", "PatientWeight", "PatientSize"} <= c.context.parts.keys()
        and (c.number("CTDIvol") or 0.0) > 4
        and first(onion, c).verdict is Verdict.RELEASE
    )


def first(onion: Onion, command: Command) -> Judgement:
    return onion.judge(onion.start(), command)[0]


def told(command: Command, **parts: tuple[Told, ...]) -> Command:
    return replace(command, context=Context({**command.context.parts, **parts}))


def with_score(onion: Onion, score: float) -> Onion:
    class Says:
        names = onion.combiner.names

        def score(self, features: object) -> float:
            return score

    return replace(onion, combiner=Says())  # type: ignore[arg-type]


numbers = st.one_of(
    st.floats(), st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 120.0]), st.integers(-(10**400), 10**400)
)
values: st.SearchStrategy[Any] = st.one_of(
    numbers, st.text(max_size=20), st.sampled_from(["", "NaN", "\ud800", "120"]), st.none(), st.booleans()
)
names = st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=8))
parts = st.lists(st.builds(Told, values, st.sampled_from(Source)), max_size=3).map(tuple)


# --- whatever is sent is answered


@given(st.data())
@hypothesis_settings(max_examples=250)
def test_any_command_is_answered_and_the_state_goes_on(small_bundle: Trained, data: st.DataObject) -> None:
    onion = onion_of(small_bundle)
    clean = data.draw(st.sampled_from(commands_of(small_bundle)))
    base = data.draw(st.sampled_from([clean, replace(clean, parameters={}, context=Context())]))
    odd = replace(
        base,
        parameters={**base.parameters, **data.draw(st.dictionaries(names, values, max_size=4))},
        context=Context({**base.context.parts, **data.draw(st.dictionaries(names, parts, max_size=4))}),
        acquired_at=data.draw(st.one_of(st.none(), st.floats())),
        device=data.draw(st.sampled_from([base.device, Device(), Device("|", "x"), Device("No", "Such")])),
    )
    judgement, state = onion.judge(onion.start(), odd)
    assert judgement.verdict in Verdict
    assert judgement.score is None or math.isfinite(judgement.score)
    assert (judgement.p_value is None) == (judgement.layer is LayerName.FORM and judgement.score is None)
    after = onion.judge(state, replace(clean, examination=odd.examination))[0]
    assert after.score is not None
    assert math.isfinite(after.score)
    assert all(math.isfinite(o.features["proc.next"]) for o in after.opinions if "proc.next" in o.features)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, 1e308])
def test_a_time_that_is_none_does_not_blind_the_procedure_layer(small_bundle: Trained, at: float) -> None:
    onion, commands = onion_of(small_bundle), commands_of(small_bundle)[:3]
    shifted = [replace(c, examination="a", acquired_at=at if i else -1e308) for i, c in enumerate(commands)]
    for judgement in onion.judge_all(shifted):
        opinion = judgement.opinions[-1]
        assert opinion.score is not None
        assert math.isfinite(opinion.score)
        assert math.isfinite(opinion.features["proc.next"])
        assert not math.isinf(opinion.features["proc.gap"])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9, -1.0, "many", None, True, [1.0], 10**400])
def test_what_is_no_number_halts(small_bundle: Trained, value: Any) -> None:
    command = released(small_bundle)
    judgement = first(
        onion_of(small_bundle), replace(command, parameters={**command.parameters, "CTDIvol": value})
    )
    assert (judgement.verdict, judgement.layer) == (Verdict.HALT, LayerName.FORM)
    assert "CTDIvol" in judgement.fields


def test_a_whole_number_is_judged_by_every_rule(small_bundle: Trained) -> None:
    onion, command = onion_of(small_bundle), released(small_bundle)
    whole = {n: int(v) if isinstance(v, float) and v == int(v) else v for n, v in command.parameters.items()}
    assert sum(type(v) is int for v in whole.values()) > 5
    same = replace(command, parameters={n: float(v) if type(v) is int else v for n, v in whole.items()})
    assert repr(first(onion, replace(command, parameters=whole))) == repr(first(onion, same))
    high = {**command.parameters, "CTDIvol": math.ceil(1.3 * float(command.parameters["CTDIvol"]))}
    judgement = first(onion, replace(command, parameters=high))
    assert judgement.opinions[1].outcome is Outcome.OBJECT  # physics does not take it for absent


def test_text_and_numbers_of_other_types_become_plain(small_bundle: Trained) -> None:
    np = pytest.importorskip("numpy")
    command = released(small_bundle)
    assert sound(command) is command
    odd = replace(
        command, parameters={**command.parameters, "KVP": np.float32(120), "FilterType": Verdict.ALERT}
    )
    plain = sound(odd).parameters
    assert type(plain["KVP"]) is float
    assert type(plain["FilterType"]) is str


# --- no number releases by not being one


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_alerts(small_bundle: Trained, score: float) -> None:
    onion, command = with_score(onion_of(small_bundle), score), released(small_bundle)
    for one in (command, replace(command, examination=None)):
        judgement = first(onion, one)
        assert judgement.verdict is Verdict.ALERT
        assert judgement.layer is not None


def test_neither_the_p_value_nor_the_score_loses_a_nan(small_bundle: Trained) -> None:
    assert math.isnan(stranger(math.nan, 1.0))
    assert math.isnan(stranger(1.0, math.nan))
    assert stranger(1.0, 2.0) == stranger(2.0, 1.0) == 2.0
    passed = [Opinion(LayerName.FORM, Outcome.PASS), Opinion(LayerName.CONTEXT_FREE, Outcome.PASS)]
    for p_value in (None, math.nan):
        assert onion_of(small_bundle)._verdict(passed, 0.0, p_value).verdict is Verdict.ALERT
    assert onion_of(small_bundle)._verdict(passed, 0.0, 0.9).verdict is Verdict.RELEASE


@given(st.integers(1, 100_000), st.sampled_from([0.0, -1e-16, -1e-12, 1e-12, -1e-6]))
def test_an_accepted_budget_can_alert(n: int, off: float) -> None:
    budget = min(1 / (n + 1) * (1 + off), 0.9)
    calibration = Calibration((0.0,) * units_needed(budget))
    calibration.require(budget)
    assert calibration.p_value(1.0) <= budget
    with pytest.raises(LearningError):
        Calibration((0.0,) * (len(calibration.scores) - 1)).require(budget)


@pytest.mark.parametrize("budget", [5e-324, 1e-300, 1e-17])
def test_a_budget_beyond_all_examinations_is_refused(budget: float) -> None:
    with pytest.raises(LearningError, match="cannot be expressed"):
        Calibration((0.0,) * 1000).require(budget)


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 1e-6},
        {"budget": math.nan},
        {"calibrations": {"examination": [0.0] * 200, "command": [0.0] * 5}},
        {"calibrations": {"examination": [math.inf] * 200, "command": [0.0] * 200}},
        {"calibrations": {"examination": [0.0] * 200}},
    ],
)
def test_a_bundle_that_could_never_alert_is_refused(small_bundle: Trained, change: dict[str, Any]) -> None:
    part = part_of(small_bundle)
    with pytest.raises(BundleError):
        load(Part({**part.settings, **change}, part.arrays, part.graphs))


def test_calibration_scores_of_a_bundle_need_no_order(small_bundle: Trained) -> None:
    part = part_of(small_bundle)
    turned = {k: v[::-1] for k, v in part.settings["calibrations"].items()}
    again = load(Part({**part.settings, "calibrations": turned}, part.arrays, part.graphs))
    assert again.calibrations == onion_of(small_bundle).calibrations


# --- what the host says of the patient


def patients(source: Source = Source.HOST) -> st.SearchStrategy[Context_]:
    ages, sexes = st.floats(0, 100), st.sampled_from(["M", "F", "O"])
    of = {
        "PatientAge": ages,
        "PatientSex": sexes,
        "PatientSize": st.floats(0.5, 2.1),
        "PatientWeight": st.floats(3, 250),
        "WaterEquivalentDiameter": st.floats(90, 500),
    }
    return st.fixed_dictionaries({}, optional={n: s.map(lambda v: (Told(v, source),)) for n, s in of.items()})


def unknown(command: Command) -> Command:
    kept = {n: t for n, t in command.context.parts.items() if n not in PATIENT_FIELDS}
    return replace(command, context=Context(kept))


@given(st.data())
@hypothesis_settings(max_examples=60)
def test_the_hosts_word_of_the_patient_never_lowers_a_score(
    small_bundle: Trained, data: st.DataObject
) -> None:
    """Through a whole examination: what the host said earlier does not help a later command either."""
    onion, commands = onion_of(small_bundle), commands_of(small_bundle)
    at = data.draw(st.integers(0, len(commands) - 4))
    factor = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    bare = [unknown(replace(c, examination="a")) for c in commands[at : at + 4]]
    bare = [scaled(c, factor) for c in bare]
    said = [told(c, **data.draw(patients())) for c in bare]
    for one, other in zip(onion.judge_all(said), onion.judge_all(bare), strict=True):
        assert (one.score is None) == (other.score is None)
        if one.score is not None and other.score is not None:
            assert one.score >= other.score
        if other.verdict is not Verdict.RELEASE:
            assert one.verdict is not Verdict.RELEASE


def scaled(command: Command, factor: float) -> Command:
    names = ("XRayTubeCurrentInmA", "Exposure", "CTDIvol", "DLP")
    doses = {n: float(command.parameters[n]) * factor for n in names if n in command.parameters}
    return replace(command, parameters={**command.parameters, **doses})


def test_the_host_is_not_believed_by_speaking_first(small_bundle: Trained) -> None:
    onion, command = onion_of(small_bundle), released(small_bundle)
    own = command.context.parts["PatientWeight"][0]
    host = Told(float(own.value) * 1.05, Source.HOST)
    straight = told(command, PatientWeight=(own, host))
    turned = told(command, PatientWeight=(host, own))
    assert repr(first(onion, turned)) == repr(first(onion, straight))
    assert first(onion, straight).score == first(onion, command).score


def test_the_patient_among_the_parameters_replaces_no_other_source(small_bundle: Trained) -> None:
    """A parameter goes before the context of that name: so one that is context must not pass."""
    command = released(small_bundle)
    for name in ("PatientAge", "PatientWeight", "RequestedProcedureDescription"):
        value = command.context.get(name)
        assert value is not None
        judgement = first(
            onion_of(small_bundle), replace(command, parameters={**command.parameters, name: value})
        )
        assert judgement.verdict is not Verdict.RELEASE
        assert name in judgement.fields


# --- sources that disagree


@pytest.mark.parametrize(
    ("name", "values", "agree"),
    [
        ("PatientAge", (40.0, 41.0), True),
        ("PatientAge", (40.0, 41.5), False),
        ("PatientAge", (40.0, 40.9, 41.8), False),
        ("PatientWeight", (80.0, 87.9), True),
        ("PatientWeight", (80.0, 88.5), False),
        ("PatientSize", (1.80, 1.60), False),
        ("WaterEquivalentDiameter", (250.0, 270.0), True),
        ("PatientWeight", (80.0, math.nan), False),
        ("PatientWeight", (80.0, "80"), False),
        ("PatientSex", ("M", " m "), True),
        ("PatientSex", ("M", "F"), False),
        ("BodyPartExamined", ("CHEST", "HEAD"), False),
        ("NoiseIndex", (10.0, 10.5), False),
    ],
)
def test_sources_agree_within_what_people_round(name: str, values: tuple[Any, ...], agree: bool) -> None:
    sources = (Source.WORKLIST, Source.OPERATOR, Source.HOST)
    said = tuple(Told(v, s) for v, s in zip(values, sources, strict=False))
    assert (name not in Context({name: said}).disagreements()) is agree
    assert (name not in Context({name: said[::-1]}).disagreements()) is agree


def test_sources_that_disagree_alert_whatever_the_score(small_bundle: Trained) -> None:
    command = released(small_bundle)
    onion = with_score(onion_of(small_bundle), -1e9)
    assert first(onion, command).verdict is Verdict.RELEASE
    for name, value in (("PatientAge", 3.0), ("PatientSex", "X"), ("RequestedProcedureDescription", "OTHER")):
        own = command.context.parts[name]
        judgement = first(onion, told(command, **{name: (*own, Told(value, Source.HOST))}))
        assert (judgement.verdict, judgement.layer) == (Verdict.ALERT, LayerName.CONTEXT_SENSITIVE)
        assert judgement.fields == (name,)
        assert "host" in judgement.reason
        assert judgement.p_value == 1.0


# --- purity, abstaining, and who wins


def test_judging_changes_neither_state_nor_command(small_bundle: Trained) -> None:
    onion, commands = (
        onion_of(small_bundle),
        [replace(c, examination="a") for c in commands_of(small_bundle)[:6]],
    )
    commands[2] = told(unknown(commands[2]), PatientWeight=(Told(140.0, Source.HOST),))
    state = onion.start()
    for command in commands:
        kept, same = copy.deepcopy(state), copy.deepcopy(command)
        one, after = onion.judge(state, command)
        onion.judge(after, commands[0])  # another command in between: the encoder remembers the last one
        other, again = onion.judge(state, command)
        anew = load_again(small_bundle)
        anew.encoder._last = None
        fresh, _ = anew.judge(kept, copy.deepcopy(command))
        assert repr(one) == repr(other) == repr(fresh)  # NaN equals nothing
        assert repr(after) == repr(again)
        assert repr(state) == repr(kept)
        assert command == same
        state = after


@lru_cache(maxsize=1)
def load_again(trained: Trained) -> Onion:
    return load(part_of(trained))


def test_without_examination_procedure_abstains_and_the_other_calibration_answers(
    small_bundle: Trained,
) -> None:
    onion, command = onion_of(small_bundle), released(small_bundle)
    state = onion.start()
    for one in (replace(command, examination=None), command):
        judgement, state = onion.judge(state, one)
        procedure = judgement.opinions[-1]
        alone = one.examination is None
        assert procedure.layer is LayerName.PROCEDURE
        assert (procedure.outcome is Outcome.ABSTAIN) == alone == (not procedure.features)
        assert judgement.score is not None
        kind = "command" if alone else "examination"
        assert judgement.p_value == onion.calibrations[kind].p_value(judgement.score)
    # a command without examination leaves no trace in the examination
    assert judgement.opinions[-1] == first(onion, command).opinions[-1]


def test_learned_layers_alone_never_halt(small_bundle: Trained) -> None:
    onion = with_score(onion_of(small_bundle), 1e9)
    command = released(small_bundle)
    judged = onion.judge_all([replace(command, examination="a")] * 12)
    halting = {o.layer for j in judged for o in j.opinions if o.severity is Severity.HALT}
    assert LayerName.PROCEDURE not in halting
    assert judged[0].verdict is Verdict.ALERT
    for judgement in judged:
        learned = [o for o in judgement.opinions if o.layer in (LayerName.CONTEXT_FREE, LayerName.PROCEDURE)]
        assert max(o.severity for o in learned) <= Severity.ALERT
        if judgement.verdict is Verdict.HALT:
            assert judgement.layer in (LayerName.FORM, LayerName.PHYSICS, LayerName.LIMITS)


def test_no_learned_score_talks_a_rule_out_of_halting(small_bundle: Trained) -> None:
    onion, command = with_score(onion_of(small_bundle), -1e9), released(small_bundle)
    dose = float(command.parameters["CTDIvol"])
    judgement = first(onion, replace(command, parameters={**command.parameters, "CTDIvol": dose * 2}))
    assert judgement.p_value == 1.0
    assert judgement.verdict is Verdict.HALT
    assert judgement.layer is LayerName.PHYSICS
    # nor does a milder objection, and form answers alone what it cannot read
    bad = told(command, PatientAge=(Told(5.0, Source.HOST), Told(50.0, Source.WORKLIST)))
    bad = replace(bad, parameters={**command.parameters, "KVP": "high"})
    assert first(onion, bad).verdict is Verdict.HALT


def test_a_device_that_names_itself_nowhere_is_judged_as_the_only_one(small_bundle: Trained) -> None:
    onion, command = onion_of(small_bundle), released(small_bundle)
    assert onion.device is None  # of several, none can be meant
    assert first(onion, replace(command, device=Device())).verdict is Verdict.HALT
    only = sound(replace(command, device=Device(serial="f")), command.device)
    assert only.device.key == command.device.key
    assert only.device.serial == "f"


# --- explanations


def test_what_an_explanation_found_is_what_the_command_says(small_bundle: Trained) -> None:
    onion = onion_of(small_bundle)
    shown = 0
    for command in commands_of(small_bundle)[:40]:
        strange = scaled(command, 1.7)
        strange = replace(strange, parameters={**strange.parameters, "ConvolutionKernel": "XX"})
        for opinion in first(onion, strange).opinions:
            for objection in opinion.objections:
                said = strange.value(objection.field)
                if said is not None and opinion.layer in LEARNED_LAYERS:
                    assert objection.found == said
                    shown += 1
    assert shown > 80


def test_an_alert_names_fields_that_there_are(small_bundle: Trained) -> None:
    quiet = [
        Opinion(LayerName.CONTEXT_FREE, Outcome.PASS, p_value=0.5, features={"cf.deep.sum": 9.0}),
        Opinion(LayerName.CONTEXT_SENSITIVE, Outcome.PASS, p_value=0.1, features={"cs.usual.a.b": 1.0}),
        Opinion(LayerName.PROCEDURE, Outcome.PASS, p_value=0.3, features={"proc.next": 9.0}),
    ]
    assert blame(quiet)[1][0].field == "a.b"
    onion = with_score(onion_of(small_bundle), 1e9)
    known = {f.name for f in onion.encoder.fields} | {"ProtocolElementName"}
    for opinions in (quiet[:1], quiet[2:]):
        judgement = onion._verdict(opinions, 1e9, 0.001)
        assert judgement.fields == ()
        assert judgement.reason.startswith("the values together")
    for command in commands_of(small_bundle)[:40]:
        judgement = first(onion, command)
        assert judgement.reason
        assert set(judgement.fields) <= known


# --- duplicates


def test_a_duplicate_of_another_examination_or_device_is_judged_itself(small_bundle: Trained) -> None:
    manifest = bundle.read(small_bundle.model, trusted=[VerifyKey.load(small_bundle.trust)]).manifest
    command = replace(released(small_bundle), event="e")
    assert contradicts(replace(command, examination="another"), command)
    assert not contradicts(replace(command, examination=None), command)
    stolen = replace(command, device=replace(command.device, serial="f" * 16))
    docket = Docket(manifest, Recording((command, Duplicate(command.origin, stolen))))
    found = judge_groups(part_of(small_bundle), docket.groups)
    assert [row.answer.verdict for row in docket.rows(found)] == [Verdict.RELEASE, Verdict.HALT]
