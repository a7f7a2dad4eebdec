"""Layer 3: doses of one command and of the examination, each phantom apart; children; maxima."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outer_layers import CLEAN, clean_scanner, hostile_commands
from scanward.commands import (
    BODY_PHANTOM,
    HEAD_PHANTOM,
    Command,
    Context,
    Opinion,
    Outcome,
    Severity,
    Source,
    Told,
)
from scanward.errors import BundleError
from scanward.layers.base import Part
from scanward.layers.delivered import DoseState, PhantomDose
from scanward.layers.limits import AlertValues, LimitsLayer
from scanward.layers.reference import notification_values, reference_levels, region_of, statutory_values
from scanward.learning.device_profile import learn_limits

TRAINING = clean_scanner(3000, seed=31)
LAYER = learn_limits(TRAINING)
DEFAULTS = LimitsLayer({})


def scan(
    ctdivol: float,
    region: str = "CHEST",
    phantom: str = BODY_PHANTOM,
    age: float | None = 40.0,
    where: tuple[float, float] | None = (0.0, -300.0),
    dlp: float = 10.0,
    **more: float | str,
) -> Command:
    parameters: dict[str, float | str] = {"CTDIvol": ctdivol, "CTDIwPhantomType": phantom, "DLP": dlp, **more}
    if where is not None:
        parameters |= {"AcquisitionStartLocation": where[0], "AcquisitionEndLocation": where[1]}
    parts = {"BodyPartExamined": (Told(region),)}
    if age is not None:
        parts["PatientAge"] = (Told(age),)
    return Command(parameters, Context(parts), CLEAN)


def counted(opinion: Opinion) -> list[str]:
    return [o.reason for o in opinion.objections if o.severity > Severity.INFORMATION]


def judged(command: Command, layer: LimitsLayer = DEFAULTS) -> Opinion:
    return layer.judge(layer.start(), command)[0]


@pytest.mark.parametrize(
    ("region", "phantom", "age", "passes", "objects"),
    [
        ("HEAD", HEAD_PHANTOM, 40.0, 79.0, 81.0),
        ("HEAD", HEAD_PHANTOM, 10.0, 79.0, 81.0),
        ("HEAD", HEAD_PHANTOM, 3.0, 59.0, 61.0),
        ("HEAD", HEAD_PHANTOM, 0.5, 49.0, 51.0),
        ("ABDOMEN", BODY_PHANTOM, 40.0, 49.0, 51.0),
        ("ABDOMEN", BODY_PHANTOM, 4.0, 9.0, 11.0),
        ("CHEST", HEAD_PHANTOM, 4.0, 24.0, 26.0),
        ("BRAIN PERFUSION", HEAD_PHANTOM, 60.0, 599.0, 601.0),
        ("CARDIAC", BODY_PHANTOM, 60.0, 149.0, 151.0),
        ("CARDIAC", BODY_PHANTOM, 4.0, 9.0, 11.0),  # the name of a protocol does not raise a child's value
        ("BRAIN PERFUSION", HEAD_PHANTOM, 4.0, 59.0, 61.0),
    ],
)
def test_notification_by_region_phantom_and_age(
    region: str, phantom: str, age: float, passes: float, objects: float
) -> None:
    assert not counted(judged(scan(passes, region, phantom, age)))
    assert any("notification" in r for r in counted(judged(scan(objects, region, phantom, age))))


def test_the_youngest_age_told_decides_and_no_age_is_an_adult() -> None:
    told = (Told(45.0, Source.WORKLIST), Told(4.0, Source.HOST))
    command = scan(20.0, age=None)
    both = replace(command, context=Context({**command.context.parts, "PatientAge": told}))
    assert counted(judged(both))
    assert not counted(judged(command))


def test_delivered_dose_adds_up_where_it_meets() -> None:
    layer, state = DEFAULTS, DEFAULTS.start()
    for _ in range(19):  # bolus monitoring: 50 mGy again and again at one place
        opinion, state = layer.judge(state, scan(50.0, where=(100.0, 100.0)))
        assert not counted(opinion)
    elsewhere, _ = layer.judge(state, scan(50.0, where=(200.0, 300.0)))
    assert not counted(elsewhere)
    here, _ = layer.judge(state, scan(50.0, where=(90.0, 110.0)))
    assert [o.severity for o in here.objections if "alert value" in o.reason] == [Severity.HALT]
    unknown, _ = layer.judge(state, scan(50.0, where=None))  # might be the same place
    assert any("alert value" in r for r in counted(unknown))


def test_phantoms_are_never_added() -> None:
    layer, state = DEFAULTS, DEFAULTS.start()
    for _ in range(10):
        _, state = layer.judge(state, scan(79.0, "HEAD", HEAD_PHANTOM, where=(0.0, 100.0), dlp=100.0))
        _, state = layer.judge(state, scan(49.0, "CHEST", BODY_PHANTOM, where=(0.0, 100.0), dlp=100.0))
    assert state.phantoms[HEAD_PHANTOM].peak == pytest.approx(790.0)
    assert state.phantoms[BODY_PHANTOM].peak == pytest.approx(490.0)
    assert state.phantoms[HEAD_PHANTOM].dlp == pytest.approx(1000.0)
    opinion, _ = layer.judge(state, scan(49.0, "CHEST", BODY_PHANTOM, where=(0.0, 100.0)))
    assert not counted(opinion)


def test_children_can_have_alert_values_of_their_own() -> None:
    layer = LimitsLayer({}, alerts=(AlertValues(0, 18, 30.0, 200.0), AlertValues(18, 131)))
    child = scan(31.0, "HEAD", HEAD_PHANTOM, age=8.0)
    assert any("alert value" in r for r in counted(judged(child, layer)))
    long = scan(5.0, "HEAD", HEAD_PHANTOM, age=8.0, dlp=250.0)
    assert any("DLP of the examination" in r for r in counted(judged(long, layer)))
    assert not counted(judged(scan(31.0, "HEAD", HEAD_PHANTOM, age=30.0, dlp=250.0), layer))


def test_a_dose_without_its_phantom_is_compared_with_nothing() -> None:
    command = scan(5000.0)
    bare = replace(
        command, parameters={k: v for k, v in command.parameters.items() if k != "CTDIwPhantomType"}
    )
    opinion, state = DEFAULTS.judge(DEFAULTS.start(), bare)
    assert opinion.outcome is Outcome.ABSTAIN
    assert "phantom" in opinion.reason
    assert state == DEFAULTS.start()


def test_reference_levels_inform_and_never_count() -> None:
    opinion = judged(scan(30.0, "CHEST"))
    assert opinion.outcome is Outcome.PASS
    assert opinion.objections
    assert {o.severity for o in opinion.objections} == {Severity.INFORMATION}
    assert all("no limit for one patient" in o.reason for o in opinion.objections)


@pytest.mark.parametrize(
    ("field", "value"), [("KVP", 140.0), ("XRayTubeCurrentInmA", 900.0), ("RevolutionTime", 2.0)]
)
def test_more_than_the_device_ever_did_halts(field: str, value: float) -> None:
    opinion = judged(scan(5.0, **{field: value}), LAYER)
    assert [(o.field, o.severity) for o in opinion.objections] == [(field, Severity.HALT)]


def test_a_maximum_learned_from_few_examinations_alerts_only() -> None:
    opinion = judged(scan(5.0, KVP=140.0), learn_limits(TRAINING[:300]))
    assert [(o.field, o.severity) for o in opinion.objections] == [("KVP", Severity.ALERT)]


def test_one_tube_has_one_largest_current() -> None:
    with_maximum = [
        replace(c, parameters={**c.parameters, "MaximumXRayTubeCurrent": 1300.0}) for c in TRAINING[:500]
    ]
    assert not counted(judged(scan(5.0, XRayTubeCurrentInmA=1200.0), learn_limits(with_maximum)))


def test_next_to_no_dose_is_a_finding() -> None:
    assert any("far less" in r for r in counted(judged(scan(0.001, AcquisitionType="SPIRAL"), LAYER)))


def test_notification_values_follow_the_site_within_bounds() -> None:
    hot = [replace(c, parameters={**c.parameters, "CTDIvol": 62.0}) for c in TRAINING]
    layer = learn_limits(hot)
    assert any("raised from 50" in note for note in layer.notes)
    assert not counted(judged(scan(62.0), layer))
    absurd = learn_limits([replace(c, parameters={**c.parameters, "CTDIvol": 900.0}) for c in TRAINING])
    assert counted(judged(scan(160.0), absurd))  # three times the published value and no more


_SCANS = st.lists(
    st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9), st.booleans()), max_size=30
)


@given(_SCANS)
def test_the_profile_is_what_adding_up_every_millimetre_gives(
    scans: list[tuple[int, int, int, bool]],
) -> None:
    dose = PhantomDose()
    millimetres = dict.fromkeys(range(-60, 60), 0.0)
    anywhere = 0.0
    for start, end, ctdivol, located in scans:
        if located:
            dose = dose.plus(float(start), float(end), float(ctdivol), 1.0)
            low, high = min(start, end), max(start, end)
            for z in range(low, max(high, low + 1)):
                millimetres[z] += ctdivol
        else:
            dose = dose.plus(None, None, float(ctdivol), 1.0)
            anywhere += ctdivol
    assert dose.peak == pytest.approx(anywhere + max(millimetres.values()))
    assert dose.dlp == len(scans)
    assert all(a[1] <= b[0] for a, b in zip(dose.segments, dose.segments[1:], strict=False))


def test_the_profile_stays_small_and_forgets_no_dose() -> None:
    dose = PhantomDose()
    for step in range(3000):
        dose = dose.plus(step * 10.0, step * 10.0 + 5.0, 1.0 + step % 7, 0.0)
    assert len(dose.segments) <= 512
    assert dose.peak >= 7.0


def test_the_old_state_is_kept_when_a_command_is_not_sent() -> None:
    state = DEFAULTS.start()
    _, new = DEFAULTS.judge(state, scan(10.0))
    assert state == DoseState()
    assert new != state


@settings(max_examples=300)
@given(st.lists(hostile_commands(), max_size=4))
def test_no_command_makes_it_raise(commands: list[Command]) -> None:
    state = LAYER.start()
    for command in commands:
        _, state = LAYER.judge(state, command)


def test_a_part_survives_json_and_gives_the_same_layer() -> None:
    again = LimitsLayer.from_part(Part(json.loads(json.dumps(LAYER.part().settings))))
    for command in (*TRAINING[:50], scan(90.0), scan(5.0, KVP=150.0)):
        assert judged(command, again) == judged(command, LAYER)


@pytest.mark.parametrize("damage", [{}, {"devices": {}, "notifications": [[1]], "alerts": [], "notes": []}])
def test_damaged_settings_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        LimitsLayer.from_part(Part(damage))


def test_clean_commands_of_the_same_scanner_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    fresh = clean_scanner(10000, seed=32)
    states: dict[str | None, DoseState] = {}
    objected = 0
    for command in fresh:
        opinion, states[command.examination] = LAYER.judge(
            states.get(command.examination, LAYER.start()), command
        )
        objected += opinion.outcome is Outcome.OBJECT
    with capsys.disabled():
        print(f"\nlimits: {objected} of {len(fresh)} clean commands objected to")
    assert objected <= 0.001 * len(fresh)


def test_reference_tables_are_facts_with_sources() -> None:
    for figure in (*reference_levels(), *notification_values(), *statutory_values()):
        assert figure.source
        assert figure.age_low < figure.age_high
        assert figure.ctdivol is not None or figure.dlp is not None
    assert {f.jurisdiction for f in reference_levels()} == {"US", "UK"}
    assert all("memory" in f.source for f in notification_values())


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("head routine", "head"),
        ("brain perfusion", "brain perfusion"),
        ("coronary cta", "cardiac"),
        ("tap", "trunk"),
        ("capsule", ""),
        ("cspine", "neck"),
        ("thorax", "chest"),
        ("", ""),
    ],
)
def test_regions_are_read_from_words(text: str, region: str) -> None:
    assert region_of(text) == region


def test_doses_cannot_be_spread_over_spellings_of_one_phantom() -> None:
    """The account of a phantom is one account, however its name is written."""
    layer = LAYER
    spellings = [BODY_PHANTOM, BODY_PHANTOM.upper(), f"  {BODY_PHANTOM}", BODY_PHANTOM.replace(" ", "  ")]
    state = layer.start()
    worst = Severity.INFORMATION
    for i in range(40):
        command = Command({"CTDIvol": 45.0, "DLP": 100.0, "CTDIwPhantomType": spellings[i % len(spellings)]})
        opinion, state = layer.judge(state, command)
        worst = max(worst, opinion.severity)
    assert worst is Severity.HALT  # 40 x 45 mGy at one place is beyond 1000 mGy


def test_an_age_beyond_all_bands_does_not_fall_out_of_them() -> None:
    layer = LAYER
    state = layer.start()
    context = Context({"PatientAge": (Told(150.0, Source.HOST),)})
    for _ in range(40):
        parameters = {"CTDIvol": 45.0, "DLP": 100.0, "CTDIwPhantomType": BODY_PHANTOM}
        opinion, state = layer.judge(state, Command(parameters, context))
    assert opinion.severity is Severity.HALT
