"""The simulated site: the same by its seed, true to its own physics, as free as its constants say."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from scanward.commands import FIELDS, Command, Examination, Kind, Mode, Role, Source
from scanward.errors import SettingsError
from scanward.simulation import MODELS, PROTOCOLS, Model, Site
from scanward.simulation import constants as k
from scanward.simulation.choices import is_sorted
from scanward.simulation.physics import max_ma

SITE = Site(3)


@pytest.fixture(scope="module")
def examinations() -> list[Examination]:
    return SITE.examinations(2000)


@pytest.fixture(scope="module")
def commands(examinations: list[Examination]) -> list[Command]:
    return [c for e in examinations for c in e.commands]


def _model(command: Command) -> Model:
    return next(m for m in MODELS if m.name == command.device.model)


def _told(command: Command, name: str) -> float:
    value = command.parameters[name]
    assert isinstance(value, float), name
    return value


def test_the_seed_determines_everything(examinations: list[Examination]) -> None:
    assert Site(3).examinations(20) == examinations[:20]
    assert SITE.examinations(15, start=40) == examinations[40:55]
    assert Site(4).examinations(20) != examinations[:20]


def test_six_thousand_examinations_in_seconds() -> None:
    begun = time.perf_counter()
    made = Site(9).examinations(6000)
    assert time.perf_counter() - begun < 15
    assert sum(len(e.commands) for e in made) > 12000


def test_everything_is_labelled_simulated_typed_and_in_range(commands: list[Command]) -> None:
    for command in commands:
        assert command.device.manufacturer.startswith("Simulated")
        assert command.role is Role.COMMANDED
        assert command.mode is Mode.CLINICAL
        assert command.role_of("XRayTubeCurrentInmA") is Role.FORECAST
        for name, value in command.parameters.items():
            known = FIELDS[name]
            if known.kind is Kind.CATEGORY:
                assert isinstance(value, str)
                continue
            assert isinstance(value, float), name
            assert known.low is not None
            assert known.high is not None
            assert known.low <= value <= known.high, (name, value)


def test_examinations_come_in_order_of_time_with_unique_events(examinations: list[Examination]) -> None:
    starts = [e.commands[0].acquired_at for e in examinations]
    assert starts == sorted(starts, key=lambda t: t or 0.0)
    for examination in examinations:
        times = [c.acquired_at or 0.0 for c in examination.commands]
        assert times == sorted(times)
        assert [c.order for c in examination.commands] == list(range(len(times)))
        assert {c.examination for c in examination.commands} == {examination.identifier}
    events = [c.event for e in examinations for c in e.commands]
    assert len(events) == len(set(events))


def test_dose_follows_from_current_within_rounding(commands: list[Command]) -> None:
    """CTDIvol per effective mAs is one constant of model, voltage, filter, collimation and phantom."""
    ratios: dict[tuple[object, ...], list[float]] = {}
    for c in commands:
        if c.text("AcquisitionType") != "SPIRAL" or _told(c, "CTDIvol") < 3:
            continue
        mas = _told(c, "XRayTubeCurrentInmA") * _told(c, "RevolutionTime") / _told(c, "SpiralPitchFactor")
        key = (
            c.device.model,
            *(c.text(n) for n in ("KVP", "FilterType", "TotalCollimationWidth", "CTDIwPhantomType")),
        )
        ratios.setdefault(key, []).append(_told(c, "CTDIvol") / mas)
    assert len(ratios) > 15
    for values in ratios.values():
        assert max(values) / min(values) < 1.005


def test_recorded_dose_per_mas_of_the_makers_is_met(commands: list[Command]) -> None:
    """The figures measured on recorded dose reports, at 120 kV in the body phantom, wide collimation."""
    bounds = {"S-128": (6.65, 6.77), "G-64": (8.5, 8.7), "T-80": (5.5, 5.75)}
    seen = set()
    for c in commands:
        wide = (
            _told(c, "TotalCollimationWidth") > 30
            and c.number("KVP") == 120
            and _told(c, "XRayTubeCurrentInmA") > 150
        )
        if (
            c.text("AcquisitionType") == "SPIRAL"
            and wide
            and c.text("CTDIwPhantomType") == "IEC Body Dosimetry Phantom"
        ):
            if c.text("FilterType") not in ("WEDGE_3", "BODY", "LARGE"):
                continue
            mas = _told(c, "XRayTubeCurrentInmA") * _told(c, "RevolutionTime") / _told(c, "SpiralPitchFactor")
            low, high = bounds[c.device.model]
            assert low - 0.03 <= 100 * _told(c, "CTDIvol") / mas <= high + 0.03
            seen.add(c.device.model)
    assert seen == set(bounds)


def test_identities_hold_to_rounding(commands: list[Command]) -> None:
    for c in commands:
        model, kind = _model(c), c.text("AcquisitionType")
        span = abs(_told(c, "AcquisitionStartLocation") - _told(c, "AcquisitionEndLocation"))
        assert span == pytest.approx(_told(c, "ScanLength"), abs=0.51)
        assert _told(c, "XRayTubeCurrentInmA") <= max_ma(model, _told(c, "KVP"))
        if kind == "CONSTANT_ANGLE":
            continue
        ma, seconds = _told(c, "XRayTubeCurrentInmA"), _told(c, "RevolutionTime")
        pitch = c.number("SpiralPitchFactor") or 1.0
        divisor = pitch if model.exposure_is_effective else 1.0
        assert _told(c, "Exposure") == pytest.approx(ma * seconds / divisor, abs=0.51)
        length = _told(c, "ScanLength")
        if kind == "SPIRAL":
            feed = pitch * _told(c, "TotalCollimationWidth")
            assert _told(c, "TableFeedPerRotation") == pytest.approx(feed, abs=0.006)
            assert _told(c, "TableSpeed") == pytest.approx(feed / seconds, abs=0.07)
            length += model.overrange[0] * feed + model.overrange[1] * _told(c, "TotalCollimationWidth")
        assert _told(c, "DLP") == pytest.approx(
            _told(c, "CTDIvol") * length / 10, abs=0.06 + 0.006 * length / 10
        )
        limits = c.number("AECMinimumTubeCurrent"), c.number("AECMaximumTubeCurrent")
        if limits[0] is not None and limits[1] is not None:
            assert limits[0] <= ma <= limits[1]
        assert _told(c, "ReconstructionDiameter") <= _told(c, "DataCollectionDiameter")


def test_sources_of_the_context(examinations: list[Examination]) -> None:
    weights = heights = unknown = 0
    for examination in examinations:
        first, last = examination.commands[0].context, examination.commands[-1].context
        assert first.parts["ProtocolName"][0].source is Source.HOST
        assert first.parts["RequestedProcedureDescription"][0].source is Source.WORKLIST
        weights += first.get("PatientWeight") is None
        heights += first.get("PatientSize") is None
        unknown += first.get("PatientAge") is None
        if first.get("PatientAge") is None:
            assert not any(
                name in last.parts for name in ("PatientSex", "PatientWeight", "WaterEquivalentDiameter")
            )
        if "WaterEquivalentDiameter" in last.parts:
            assert last.parts["WaterEquivalentDiameter"][0].source is Source.LOCALIZER
    assert 0.28 < weights / len(examinations) < 0.45
    assert 0.33 < heights / len(examinations) < 0.50
    assert 0 < unknown / len(examinations) < 0.06


def test_operators_deviate_at_about_the_declared_rates(examinations: list[Examination]) -> None:
    scans = [
        c for e in examinations for c in e.commands if c.text("AcquisitionType") in ("SPIRAL", "SEQUENCED")
    ]
    usual = {}
    for (d, _), elements in SITE.elements.items():
        for e in elements:
            usual[SITE.devices[d].key, e.protocol_name, e.spec.name] = e
    kvp = manual = 0
    for c in scans:
        element = usual[c.device.key, str(c.text("ProtocolName")), str(c.text("ProtocolElementName"))]
        kvp += c.number("KVP") != element.kvp
        manual += c.text("ExposureModulationType") == "NONE"
    assert 0.004 < kvp / len(scans) < 0.03
    assert 0.004 < manual / len(scans) < 0.02
    repeats = sum(
        a.context.get("ProtocolElementName") == b.context.get("ProtocolElementName")
        for e in examinations
        for a, b in zip(e.commands, e.commands[1:], strict=False)
    )
    assert 0.005 < repeats / sum(len(e.commands) for e in examinations) < 0.03
    tilted = [c for c in scans if c.number("GantryDetectorTilt")]
    assert tilted
    assert all(c.text("AcquisitionType") == "SEQUENCED" for c in tilted)


def test_the_tail_of_protocols_is_long() -> None:
    made = Site(2).examinations(6000)
    counts = Counter(e.commands[0].context.get("ProtocolName") for e in made)
    assert sum(n < 10 for n in counts.values()) >= 10
    assert counts.most_common(1)[0][1] > 200


def test_children_get_less_dose_than_adults_from_the_same_protocol(commands: list[Command]) -> None:
    doses: dict[bool, list[float]] = {True: [], False: []}
    for c in commands:
        age = c.number("PatientAge")
        if "Abdomen All Ages" in str(c.text("ProtocolName")) and age is not None:
            if c.text("AcquisitionType") != "SPIRAL":
                continue
            doses[age < 12].append(_told(c, "CTDIvol"))
    assert doses[True]
    assert sorted(doses[True])[len(doses[True]) // 2] < 0.5 * sorted(doses[False])[len(doses[False]) // 2]


def test_phantom_mornings_are_kept_apart() -> None:
    made = Site(1, include_qa=True).examinations(2 * k.EXAMINATIONS_PER_DAY)
    phantom = [e for e in made if e.commands[0].mode is Mode.QA]
    assert len(phantom) == 2 * len(MODELS)
    assert all("PatientAge" not in e.commands[0].context.parts for e in phantom)
    starts = [e.commands[0].acquired_at or 0.0 for e in made]
    assert starts == sorted(starts)


def test_options_are_sorted_and_protocols_unique() -> None:
    for model in MODELS:
        for options in (model.kvps, model.rotations, model.pitches, model.fields_of_view):
            assert is_sorted(options)
    names = [p.name for p in PROTOCOLS]
    assert len(names) == len(set(names))
    for protocol in PROTOCOLS:
        elements = [e.name for e in protocol.elements]
        assert len(elements) == len(set(elements)), protocol.name


@pytest.mark.parametrize("spread", [0.0, -1.0, 1.5, float("nan")])
def test_senseless_settings_are_refused(spread: float) -> None:
    with pytest.raises(SettingsError):
        Site(0, aec_spread=spread)
    with pytest.raises(SettingsError):
        SITE.examinations(-1)
    with pytest.raises(SettingsError):
        Site(0, models=())
