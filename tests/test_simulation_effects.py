"""What an attack did, told from what was planned and what was sent: against hand-made and catalogued attacks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.commands import BODY_PHANTOM, Command, Context, Device, Examination, Origin, Told, Value
from scanward.simulation import ATTACKS, HELD_OUT, Donors, Effect, Site, effect_of
from scanward.simulation.donors import kind_of
from scanward.simulation.elements import LOCALIZER

SITE = Site(5)
DONORS = Donors(SITE.examinations(600))
LATER = SITE.examinations(80, start=2000)
CATALOGUE = {**ATTACKS, **HELD_OUT}

PLAN: dict[str, Value] = {
    "AcquisitionType": "SPIRAL", "KVP": 120.0, "XRayTubeCurrentInmA": 200.0, "RevolutionTime": 0.5,
    "SpiralPitchFactor": 1.0, "ScanLength": 300.0, "AcquisitionStartLocation": 0.0,
    "AcquisitionEndLocation": -300.0, "TableHeight": 150.0, "GantryDetectorTilt": 0.0,
    "SliceThickness": 2.0, "DataCollectionDiameter": 500.0, "ReconstructionDiameter": 400.0,
    "ContrastBolusAgent": "NONE", "CTDIvol": 8.0, "DLP": 250.0, "CTDIwPhantomType": BODY_PHANTOM,
}  # fmt: skip


def _real(order: float = 0.0, **told: Value) -> Command:
    """A command of a real device, which has no table of the simulator's."""
    context = Context({"PatientAge": (Told(50.0),)})
    return Command({**PLAN, **told}, context, Device("Maker", "X"), order=order, event=f"e{order:g}")


def _effect(**told: Value) -> Effect:
    return effect_of(_real(), [_real(0.0, **told)], [0])


def _cases(name: str) -> list[tuple[Examination, Examination, int, tuple[int, ...]]]:
    attack, rng, out = CATALOGUE[name], np.random.default_rng(7), []
    for examination in LATER:
        for index in attack.eligible(examination):
            changed = attack.apply(examination, index, rng, DONORS)
            if changed is not None:
                indices = attack.attacked_indices(examination, changed, index)
                if indices:
                    out.append((examination, changed, index, indices))
    return out


class TestByHand:
    def test_nothing(self) -> None:
        assert _effect() == Effect()

    def test_current_pitch_and_rotation_are_dose(self) -> None:
        assert _effect(XRayTubeCurrentInmA=300.0).dose_factor == pytest.approx(1.5)
        assert _effect(SpiralPitchFactor=0.5).dose_factor == pytest.approx(2.0)
        assert _effect(RevolutionTime=0.25).dose_factor == pytest.approx(0.5)
        assert _effect(KVP=80.0).dose_factor == pytest.approx(0.285, rel=0.01)

    def test_a_forged_figure_is_no_dose_and_a_kept_one_no_comfort(self) -> None:
        assert _effect(CTDIvol=80.0, DLP=2500.0) == Effect()
        kept = _effect(XRayTubeCurrentInmA=600.0)
        assert kept.dose_factor == pytest.approx(3.0)
        assert kept.extra_dlp == pytest.approx(500.0)

    def test_dlp_is_told_on_the_planned_phantom(self) -> None:
        head = "Head Phantom"
        assert _effect(CTDIwPhantomType=head, CTDIvol=14.8, DLP=462.5).extra_dlp == pytest.approx(
            0.0, abs=1e-6
        )

    def test_a_longer_range_reaches_further(self) -> None:
        effect = _effect(ScanLength=900.0, AcquisitionEndLocation=-900.0, DLP=730.0)
        assert (effect.tissue_mm, effect.motion_mm, effect.image_lost) == (600.0, 600.0, False)
        assert effect.extra_dlp == pytest.approx(480.0)
        assert effect.dose_factor == 1.0

    def test_a_moved_range_loses_the_organ(self) -> None:
        half = _effect(AcquisitionStartLocation=150.0, AcquisitionEndLocation=-150.0)
        assert (half.tissue_mm, half.motion_mm, half.image_lost) == (150.0, 150.0, True)
        little = _effect(AcquisitionStartLocation=20.0, AcquisitionEndLocation=-280.0)
        assert (little.tissue_mm, little.motion_mm, little.image_lost) == (20.0, 20.0, False)

    def test_motion_of_table_and_gantry(self) -> None:
        assert _effect(TableHeight=95.0).motion_mm == 55.0
        assert _effect(GantryDetectorTilt=-20.0).motion_deg == 20.0

    @pytest.mark.parametrize(
        ("told", "lost"),
        [
            ({"XRayTubeCurrentInmA": 95.0}, True),
            ({"XRayTubeCurrentInmA": 120.0}, False),
            ({"SliceThickness": 1.0}, True),
            ({"SliceThickness": 1.0, "XRayTubeCurrentInmA": 300.0}, False),
            ({"SliceThickness": 4.0}, True),
            ({"SliceThickness": 3.0}, False),
            ({"ReconstructionDiameter": 300.0}, True),
            ({"ReconstructionDiameter": 350.0}, False),
            ({"ContrastBolusAgent": "IODINE"}, True),
            ({"ConvolutionKernel": "Br64"}, False),
            ({"ScanLength": 100.0, "AcquisitionEndLocation": -100.0}, True),
        ],
    )
    def test_when_an_image_is_lost(self, told: dict[str, Value], lost: bool) -> None:
        assert _effect(**told).image_lost is lost

    def test_context_alone(self) -> None:
        old = _real()
        new = replace(old, context=Context({"PatientAge": (Told(5.0),)}))
        assert effect_of(old, [new], [0]) == Effect(context_only=True)
        both = replace(new, parameters={**PLAN, "XRayTubeCurrentInmA": 400.0})
        assert not effect_of(old, [both], [0]).context_only

    def test_a_command_put_in_is_all_extra(self) -> None:
        plan = _real()
        extra = _real(1.0, AcquisitionStartLocation=-200.0, AcquisitionEndLocation=-500.0, DLP=120.0)
        for before in (plan, Examination("x", (plan,))):
            effect = effect_of(before, [plan, extra], [1])
            assert effect == Effect(dose_factor=1.0, extra_dlp=120.0, tissue_mm=200.0, motion_mm=200.0)

    def test_of_several_changed_the_examination_tells_the_sum(self) -> None:
        plan = Examination("x", (_real(0.0), _real(1.0, XRayTubeCurrentInmA=100.0, DLP=100.0)))
        told = (
            _real(0.0, XRayTubeCurrentInmA=250.0, CTDIvol=10.0, DLP=312.5),
            _real(1.0, XRayTubeCurrentInmA=125.0, CTDIvol=10.0, DLP=125.0),
        )
        exact = effect_of(plan, told, [0, 1])
        assert exact.extra_dlp == pytest.approx(62.5 + 25.0)
        assert exact.dose_factor == pytest.approx(1.25)
        alone = effect_of(plan.commands[0], told, [0, 1])
        assert alone.extra_dlp == pytest.approx(exact.extra_dlp)

    def test_sent_before_its_place_is_lost(self) -> None:
        plan = (_real(0.0, AcquisitionType=LOCALIZER), _real(1.0))
        told = (replace(plan[1], order=0.0), replace(plan[0], order=1.0))
        assert effect_of(plan[1], told, [0, 1]).image_lost
        assert not effect_of(plan[0], plan, [0, 1]).image_lost

    def test_nothing_tells_the_dose(self) -> None:
        bare = replace(_real(), parameters={"PatientPosition": "HFS"})
        turned = replace(bare, parameters={"PatientPosition": "FFS"})
        assert effect_of(bare, [turned], [0]) == Effect(dose_factor=None)
        figures = replace(bare, parameters={"CTDIvol": 8.0, "DLP": 200.0})
        raised = replace(bare, parameters={"CTDIvol": 24.0, "DLP": 600.0})
        assert effect_of(figures, [raised], [0]) == Effect(dose_factor=3.0, extra_dlp=400.0)

    def test_an_index_beyond_what_was_sent_is_an_error(self) -> None:
        with pytest.raises(IndexError):
            effect_of(_real(), [_real()], [1])

    def test_same_event_in_two_rows_are_two_commands(self) -> None:
        """A recording may give one irradiation event to two rows; where they were read tells them apart."""
        one = replace(_real(), event="same", origin=Origin("a.csv", 1))
        two = replace(_real(1.0, XRayTubeCurrentInmA=50.0), event="same", origin=Origin("a.csv", 2))
        tripled = replace(one, parameters={**one.parameters, "XRayTubeCurrentInmA": 600.0})
        effect = effect_of(Examination("x", (one, two)), [tripled, two], [0])
        assert effect.dose_factor == pytest.approx(3.0)


class TestCatalogue:
    @pytest.mark.parametrize("name", CATALOGUE)
    def test_every_attack_has_a_finite_effect(self, name: str) -> None:
        cases = _cases(name)
        assert cases
        for before, after, index, indices in cases:
            for clean in (before.commands[index], before):
                effect = effect_of(clean, after.commands[: max(indices) + 1], indices)
                assert effect.dose_factor is not None
                assert effect.dose_factor > 0
                assert all(map(math.isfinite, (effect.dose_factor, effect.extra_dlp, effect.tissue_mm)))
                assert min(effect.tissue_mm, effect.motion_mm, effect.motion_deg) >= 0

    def test_null_has_none(self) -> None:
        for before, after, index, indices in _cases("null"):
            assert effect_of(before.commands[index], after, indices) == Effect()
            assert effect_of(before, after, indices) == Effect()

    @pytest.mark.parametrize(
        "name", ["forged_patient", "renamed_protocol", "renamed_body_part", "forged_weight", "forged_age"]
    )
    def test_context_attacks_are_told_apart(self, name: str) -> None:
        for before, after, index, indices in _cases(name):
            assert effect_of(before.commands[index], after, indices) == Effect(context_only=True)

    def test_machine_attacks_are_not(self) -> None:
        for name in CATALOGUE.keys() - {
            "forged_patient",
            "renamed_protocol",
            "renamed_body_part",
            "forged_weight",
            "forged_age",
        }:
            assert not any(
                effect_of(b.commands[i], a, told).context_only for b, a, i, told in _cases(name)[:20]
            )

    def test_kept_dose_figures_do_not_deceive(self) -> None:
        for before, after, index, indices in _cases("ma_x3_dose_kept"):
            effect = effect_of(before.commands[index], after, indices)
            assert effect.dose_factor is not None
            assert 1.9 < effect.dose_factor < 3.1
            assert effect.extra_dlp > 0

    def test_a_swapped_phantom_is_no_dose(self) -> None:
        for before, after, index, indices in _cases("phantom_or_fov"):
            effect = effect_of(before.commands[index], after, indices)
            assert effect.dose_factor == pytest.approx(1.0, rel=0.01)
            assert effect.extra_dlp == pytest.approx(0.0, abs=0.3)

    def test_range_times_three(self) -> None:
        for before, after, index, indices in _cases("range_x3"):
            old = before.commands[index]
            length = old.number("ScanLength") or 0.0
            effect = effect_of(old, after, indices)
            assert 0.75 * length <= effect.tissue_mm <= 2.01 * length

    def test_command_and_examination_agree_where_one_command_was_attacked(self) -> None:
        for name in ("dose_x3", "tube_voltage", "repeat", "other_organ", "off_centre", "contrast"):
            for before, after, index, indices in _cases(name)[:40]:
                alone = effect_of(before.commands[index], after, indices)
                whole = effect_of(before, after, indices)
                assert alone.extra_dlp == pytest.approx(whole.extra_dlp)
                assert (alone.dose_factor, alone.image_lost) == (whole.dose_factor, whole.image_lost)

    def test_creep_told_from_one_command_is_near_the_sum(self) -> None:
        for before, after, index, indices in _cases("dose_creep"):
            alone, whole = (
                effect_of(before.commands[index], after, indices),
                effect_of(before, after, indices),
            )
            assert alone.extra_dlp == pytest.approx(whole.extra_dlp, rel=0.35)

    def test_a_localizer_without_reported_dose_has_one(self) -> None:
        seen = 0
        for before, after, index, indices in _cases("localizer_current"):
            old = before.commands[index]
            if old.number("CTDIvol") is None:
                assert kind_of(old) == LOCALIZER
                assert effect_of(old, after, indices).extra_dlp > 0
                seen += 1
        assert seen > 10


@settings(max_examples=60, deadline=None)
@given(
    ma=st.floats(1, 1000), kvp=st.sampled_from([80.0, 100.0, 120.0, 140.0]), pitch=st.floats(0.1, 3),
    start=st.floats(-2000, 2000), length=st.floats(1, 2000), height=st.floats(-500, 500),
)  # fmt: skip
def test_any_change_has_an_effect_in_bounds(
    ma: float, kvp: float, pitch: float, start: float, length: float, height: float
) -> None:
    effect = _effect(
        XRayTubeCurrentInmA=ma, KVP=kvp, SpiralPitchFactor=pitch, AcquisitionStartLocation=start,
        AcquisitionEndLocation=start - length, ScanLength=length, TableHeight=height,
    )  # fmt: skip
    assert effect.dose_factor is not None
    assert effect.dose_factor > 0
    assert 0 <= effect.tissue_mm <= length + 1e-9
    assert effect.motion_mm >= abs(height - 150) - 1e-9
    # brute force over whole millimetres agrees with the interval arithmetic
    mid = np.arange(math.floor(start - length), math.ceil(start)) + 0.5
    inside = ((mid > start - length) & (mid < start) & ((mid < -300) | (mid > 0))).sum()
    assert effect.tissue_mm == pytest.approx(float(inside), abs=3.0)
