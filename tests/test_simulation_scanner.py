"""Physics of the emulated scanner: AEC, heat, dose where it goes. Numbers here were worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Value
from scanward.simulation import MODELS, Site
from scanward.simulation.dose import Ledger
from scanward.simulation.scanner import (
    OnTable,
    aec_reference,
    capacity,
    cooled,
    current,
    forward,
    magnified,
    model_named,
    on_table,
    part_of,
    perform,
    refusal,
)

SIGMA, GAMMA, TAU = MODELS
SPIRAL: dict[str, Value] = {
    "AcquisitionType": "SPIRAL",
    "KVP": 120.0,
    "XRayTubeCurrentInmA": 200.0,
    "RevolutionTime": 0.5,
    "SpiralPitchFactor": 1.0,
    "TotalCollimationWidth": 38.4,
    "ScanLength": 300.0,
    "AcquisitionStartLocation": 0.0,
    "AcquisitionEndLocation": -300.0,
    "FilterType": "WEDGE_3",
    "CTDIwPhantomType": BODY_PHANTOM,
    "ExposureModulationType": "NONE",
}


def told(**more: Value) -> dict[str, Value]:
    return {**SPIRAL, **more}


def test_dose_follows_from_what_is_done_not_from_what_is_claimed() -> None:
    honest = perform(SIGMA, told(), OnTable())
    # 6.71 mGy per 100 effective mAs, 200 mA x 0.5 s / 1.0
    assert honest.ctdivol == pytest.approx(6.71)
    forged = perform(SIGMA, told(CTDIvol=0.5, DLP=1.0), OnTable())
    assert (forged.ctdivol, forged.dlp) == (honest.ctdivol, honest.dlp)
    assert forged.parameters["CTDIvol"] == honest.ctdivol


def test_dose_in_the_head_phantom_is_told_on_it() -> None:
    head = perform(SIGMA, told(CTDIwPhantomType=HEAD_PHANTOM), OnTable())
    assert head.phantom_cm == 16
    assert head.ctdivol == pytest.approx(1.85 * 6.71, abs=0.006)


def test_a_noise_index_halved_is_four_times_the_current() -> None:
    aec = {"ExposureModulationType": "ANGULAR_Z", "FilterType": "BODY", "TotalCollimationWidth": 40.0}
    usual = aec_reference(GAMMA, told(NoiseIndex=10.0, **aec))
    wrong = aec_reference(GAMMA, told(NoiseIndex=5.0, **aec))
    assert usual is not None
    assert wrong == pytest.approx(4 * usual)
    # 7.5 mGy at noise 10: 7.5 / 8.58 x 100 effective mAs, over 0.5 s
    assert usual == pytest.approx(7.5 / 8.58 * 100 / 0.5)


def test_the_current_told_does_not_steer_an_aec_and_its_limits_do() -> None:
    aec = told(ExposureModulationType="XYZ_EC", QualityReferenceMAs=100.0)
    assert current(SIGMA, aec, OnTable()) == 200.0
    assert current(SIGMA, {**aec, "XRayTubeCurrentInmA": 700.0}, OnTable()) == 200.0
    assert current(SIGMA, {**aec, "AECMaximumTubeCurrent": 150.0}, OnTable()) == 150.0
    assert current(SIGMA, {**aec, "AECMinimumTubeCurrent": 300.0}, OnTable()) == 300.0


@pytest.mark.parametrize("wrong", [0.0, -3.0, math.nan, "ten"])
def test_an_aec_without_a_reference_gives_what_is_told(wrong: Value) -> None:
    assert (
        current(SIGMA, told(ExposureModulationType="XYZ_EC", QualityReferenceMAs=wrong), OnTable()) == 200.0
    )


def test_a_localizer_off_the_centre_raises_the_dose() -> None:
    """40 mm too high: measured as 7 % larger."""
    who = OnTable(size=280.0, centre=150.0)
    measured = magnified(280.0, 190.0, who.centre)
    assert measured == pytest.approx(280.0 * 600 / 560)
    aec = told(ExposureModulationType="XYZ_EC", QualityReferenceMAs=100.0)
    more = current(SIGMA, aec, who, measured) / current(SIGMA, aec, who, 280.0)
    assert more == pytest.approx(math.exp(0.0105 * 20.0), rel=0.01)
    assert magnified(280.0, 110.0, who.centre) < 280.0


def test_the_console_s_forecast_is_what_the_gantry_does_when_nobody_interferes() -> None:
    """Over a site's examinations the performed dose is the forecast one, give or take what AEC leaves."""
    ratios = []
    for examination in Site(5).examinations(150):
        device = examination.commands[0].device
        model = model_named(device.manufacturer, device.model)
        assert model is not None
        who = on_table(examination, model)
        for command in examination.commands:
            assert refusal(model, command.parameters) == ""
            foretold = command.number("CTDIvol")
            done = perform(model, command.parameters, who)
            assert done.reported == (foretold is not None)
            if foretold:
                ratios.append(done.ctdivol / foretold)
    ratios.sort()
    assert 0.99 < ratios[len(ratios) // 2] < 1.01
    assert ratios[len(ratios) // 10] > 0.85
    assert ratios[-len(ratios) // 10] < 1.15


# --- what hardware refuses


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"KVP": 150.0}, "KVP"),
        ({"XRayTubeCurrentInmA": 801.0}, "XRayTubeCurrentInmA"),
        ({"KVP": 140.0, "XRayTubeCurrentInmA": 760.0}, "XRayTubeCurrentInmA"),  # 100 kW / 140 kV = 714 mA
        ({"RevolutionTime": 0.1}, "RevolutionTime"),
        ({"SpiralPitchFactor": 4.0}, "SpiralPitchFactor"),
        ({"TotalCollimationWidth": 80.0}, "TotalCollimationWidth"),
        ({"ScanLength": 2100.0}, "ScanLength"),
        ({"AcquisitionStartLocation": -2000.0, "AcquisitionEndLocation": -2300.0}, "AcquisitionEndLocation"),
        ({"GantryDetectorTilt": 31.0}, "GantryDetectorTilt"),
        ({"TableHeight": 500.0}, "TableHeight"),
        ({"AcquisitionType": "PARTY"}, "AcquisitionType"),
        ({"RevolutionTime": math.nan}, "RevolutionTime"),
        ({"KVP": "120"}, "KVP"),
    ],
)
def test_what_the_hardware_cannot_do_is_refused_by_name(change: dict[str, Value], names: str) -> None:
    assert refusal(SIGMA, told()) == ""
    assert names in refusal(SIGMA, told(**change))


def test_hardware_allows_what_no_clinic_would() -> None:
    """The reason for a guard: every figure of this is within the hardware's limits."""
    wild = told(KVP=140.0, XRayTubeCurrentInmA=700.0, RevolutionTime=1.0, SpiralPitchFactor=0.2)
    assert refusal(SIGMA, wild) == ""
    assert perform(SIGMA, wild, OnTable()).ctdivol > 300


_values = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=3))


@given(st.dictionaries(st.sampled_from(sorted(SPIRAL)), _values, max_size=6))
def test_whatever_is_told_is_refused_or_done_with_finite_figures(change: dict[str, Value]) -> None:
    wanted = {**SPIRAL, **change}
    if refusal(SIGMA, wanted) == "":
        done = perform(SIGMA, wanted, OnTable())
        assert all(map(math.isfinite, (done.ctdivol, done.dlp, done.seconds, done.low, done.high)))
        assert done.ctdivol >= 0
        assert done.low <= done.high


# --- tube


def test_the_tube_holds_so_much_and_cools() -> None:
    assert capacity(SIGMA) == pytest.approx(7e6)
    done = perform(SIGMA, told(), OnTable())
    assert done.heat == pytest.approx(1.35 * 120 * 200 * done.seconds)
    assert cooled(1000.0, 0.0) == 1000.0
    assert cooled(1000.0, 420.0) == pytest.approx(1000 / math.e)


# --- where the dose goes


def test_the_ledger_s_length_product_is_that_of_the_scans() -> None:
    ledger = Ledger()
    done = perform(SIGMA, told(), OnTable())
    ledger.add(32, done.low, done.high, done.ctdivol)
    assert ledger.dlp(32) == pytest.approx(done.dlp, rel=1e-3)
    assert ledger.peak(32) == pytest.approx(done.ctdivol)


def test_scans_of_one_place_add_up_and_phantoms_never_do() -> None:
    ledger = Ledger()
    ledger.add(32, 0, 100, 10)
    ledger.add(32, 50, 150, 10)
    ledger.add(16, 50, 150, 40)
    assert ledger.peak(32) == pytest.approx(20)
    assert ledger.peak(16) == pytest.approx(40)
    assert ledger.dlp(32) == pytest.approx(200)
    assert ledger.phantoms() == (16, 32)


@given(
    st.lists(st.tuples(st.floats(-2000, 2000), st.floats(0, 900), st.floats(0, 200)), min_size=1, max_size=8)
)
def test_the_ledger_loses_nothing(scans: list[tuple[float, float, float]]) -> None:
    ledger = Ledger()
    for low, length, dose in scans:
        ledger.add(32, low, low + length, dose)
    expected = sum(length / 10 * dose for _, length, dose in scans)
    assert ledger.dlp(32) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert ledger.peak(32) <= sum(dose for *_, dose in scans) + 1e-6


@pytest.mark.parametrize("scan", [(0, 10, math.nan), (10, 0, 1), (0, 10, -1), (-math.inf, 0, 1), (0, 1e9, 1)])
def test_the_ledger_takes_no_nonsense(scan: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"no scan|longer"):
        Ledger().add(32, *scan)


def test_a_beam_cut_short_gives_its_part_from_where_it_began() -> None:
    whole = perform(SIGMA, told(), OnTable())
    half = part_of(whole, 0.5, forward=forward(whole.parameters))
    assert half.dlp == pytest.approx(whole.dlp / 2)
    assert half.high == whole.high  # it ran from 0 towards -300: the far half was spared
    assert half.low == pytest.approx((whole.low + whole.high) / 2)
    assert half.ctdivol == whole.ctdivol
    still = replace(whole, parameters={**whole.parameters, "AcquisitionType": "STATIONARY"})
    assert part_of(still, 0.5, forward=True).ctdivol == pytest.approx(whole.ctdivol / 2)
