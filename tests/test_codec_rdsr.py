"""The dose-report codec on reports made for the purpose: templates, roles, units, bad input, privacy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_builders import dose_reports as build
from dicom_builders.dose_reports import code, coded, container, event, moment, num, source, table, text, uid
from scanward.codecs.rdsr import decode_dose_file, decode_dose_report, is_dose_report
from scanward.codecs.rdsr_draft import DoseReport
from scanward.codecs.rdsr_units import UnitError, convert
from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Command, Mode, Role, Source
from scanward.errors import DecodeError


def _pseudonym(value: str) -> str:
    return f"<{value[::-1]}>"


def _decode(ds: Dataset) -> DoseReport:
    return decode_dose_file(build.to_bytes(ds), path="r.dcm", pseudonym=_pseudonym)


def _one(*more: Dataset, **how: Any) -> Command:
    (result,) = _decode(build.report(event(*more, **how))).results
    assert result.command is not None, result.reason
    return result.command


def _reason(*more: Dataset, **how: Any) -> str:
    good, bad = _decode(build.report(event(), event(*more, uid_value="1.2.3.9", **how))).results
    assert good.command is not None  # one bad event costs no other
    assert bad.command is None
    return bad.reason


@pytest.mark.parametrize("sop_class", [build.DOSE_SR, build.ENHANCED_SR, build.COMPREHENSIVE_SR])
def test_every_class_that_carries_the_template(sop_class: str) -> None:
    ds = build.report(event(), sop_class=sop_class)
    assert is_dose_report(ds)
    command = _decode(ds).commands[0]
    assert dict(command.parameters) == {
        "AcquisitionType": "SPIRAL",
        "ExposureTimeInms": 5000.0,
        "ScanLength": 300.0,
        "SingleCollimationWidth": 0.6,
        "TotalCollimationWidth": 38.4,
        "SpiralPitchFactor": 0.8,
        "NumberOfXRaySources": 1.0,
        "CTDIvol": 8.0,
        "CTDIwPhantomType": BODY_PHANTOM,
        "DLP": 240.0,
        "KVP": 120.0,
        "MaximumXRayTubeCurrent": 300.0,
        "XRayTubeCurrentInmA": 200.0,
        "RevolutionTime": 0.5,
    }
    assert all(type(v) in (float, str) for v in command.parameters.values())
    assert command.role is Role.PERFORMED
    assert str(command.origin) == "r.dcm#0"
    assert command.event == "<1.3.2.1>"
    assert command.examination == "<3.2.1>"
    assert command.text("BodyPartExamined") == "CHEST"
    assert command.text("ProtocolElementName") == "Thorax routine"


def test_other_structured_reports_are_not_dose_reports() -> None:
    ds = build.report(event(), sop_class=build.ENHANCED_SR, title="126000")
    assert not is_dose_report(ds)
    with pytest.raises(DecodeError, match="not a dose report"):
        _decode(ds)


@pytest.mark.parametrize("content", [[], [container("113811", num("113812", "0", "{events}"))]])
def test_no_events(content: list[Dataset]) -> None:
    with pytest.raises(DecodeError, match="no CT irradiation events"):
        _decode(build.report(*content))


def test_projection_report() -> None:
    with pytest.raises(DecodeError, match="projection X-ray"):
        _decode(build.report(container("113706", num("113733", "70", "kV"))))


@pytest.mark.parametrize(
    ("kind", "term"),
    [
        (("DCM", "113804"), "SEQUENCED"),
        (("DCM", "113805"), "CONSTANT_ANGLE"),
        (("DCM", "113806"), "STATIONARY"),
        (("DCM", "113807"), "FREE"),
        (("SRT", "P5-08001"), "SPIRAL"),
        (("SCT", "116152004"), "SPIRAL"),
    ],
)
def test_acquisition_types(kind: tuple[str, str], term: str) -> None:
    assert _one(kind=kind).parameters["AcquisitionType"] == term


def test_unknown_acquisition_type_is_told() -> None:
    report = _decode(build.report(event(kind=("99X", "42"))))
    assert "AcquisitionType" not in report.commands[0].parameters
    assert any("99X:42" in note for note in report.notes)


@pytest.mark.parametrize(
    ("phantom", "name"),
    [
        (coded("113835", "113690"), HEAD_PHANTOM),
        (coded("113835", "113691"), BODY_PHANTOM),
        (coded("113835", "X", "IEC Head Dosimetry Phantom", "99"), HEAD_PHANTOM),
        (coded("113835", "Y", "Body 32 cm", "99"), BODY_PHANTOM),
    ],
)
def test_phantoms(phantom: Dataset, name: str) -> None:
    assert _one(dose=[num("113830", "8", "mGy"), phantom]).parameters["CTDIwPhantomType"] == name


def test_both_tubes_whatever_their_order() -> None:
    parameters = [
        num("113824", "2", "s"),
        source("B", "140", "308", "310", "0.151"),
        source("A", "100", "399", "400", "0.238"),
    ]
    command = _one(parameters=parameters)
    got = {
        k: v
        for k, v in command.parameters.items()
        if "Current" in k or "KVP" in k or "Rev" in k or "Num" in k
    }
    assert got == {
        "KVP": 100.0,
        "XRayTubeCurrentInmA": 399.0,
        "MaximumXRayTubeCurrent": 400.0,
        "RevolutionTime": 0.238,
        "KVPSourceB": 140.0,
        "XRayTubeCurrentInmASourceB": 308.0,
        "MaximumXRayTubeCurrentSourceB": 310.0,
        "RevolutionTimeSourceB": 0.151,
        "NumberOfXRaySources": 2.0,
    }


def test_dose_check_roles_and_reasons() -> None:
    alert = container(
        "113900",
        coded("113901", "373066001", "Yes", "SCT"),
        num("113903", "1000", "mGy.cm"),
        num("113904", "1000", "mGy"),
        num("113905", "1200", "mGy.cm"),
        num("113906", "12", "mGy"),
        text("113907", "agreed for Jane DOE, P-0815"),
    )
    notification = container(
        "113908",
        num("113911", "800", "mGy.cm"),
        num("113912", "50", "mGy"),
        num("113913", "0.9", "Gy.cm"),
        num("113914", "60", "mGy"),
        text("113907", "large patient"),
    )
    command = _one(dose=[num("113830", "8", "mGy"), num("113838", "240", "mGy.cm"), alert, notification])
    said = {n: (command.parameters[n], command.role_of(n)) for n in command.roles}
    assert said == {
        "DLPAlertValue": (1000.0, Role.COMMANDED),
        "CTDIvolAlertValue": (1000.0, Role.COMMANDED),
        "AccumulatedDLPForwardEstimate": (1200.0, Role.FORECAST),
        "AccumulatedCTDIvolForwardEstimate": (12.0, Role.FORECAST),
        "DLPNotificationValue": (800.0, Role.COMMANDED),
        "CTDIvolNotificationValue": (50.0, Role.COMMANDED),
        "DLPForwardEstimate": (900.0, Role.FORECAST),
        "CTDIvolForwardEstimate": (60.0, Role.FORECAST),
    }
    assert command.parameters["DoseCheckAlertReasonForProceeding"] == "agreed for *** ***, ***"
    assert command.parameters["DoseCheckNotificationReasonForProceeding"] == "large patient"
    assert command.role_of("CTDIvol") is Role.PERFORMED


def test_scanning_length_and_filters_and_size() -> None:
    size = num("113980", "28", "cm")
    size.ContentSequence = [coded("113987", "113984")]
    command = _one(
        num("113895", "-12.5", "mm"),
        num("113896", "-312.5", "mm"),
        num("113897", "10", "mm"),
        num("113898", "-330", "mm"),
        num("113899", "34", "cm"),
        container("113771", coded("113772", "F", "Wedge filter"), coded("113757", "12597001", "Tin", "SCT")),
        text("113842", "XYZ_EC"),
        size,
    )
    assert command.number("TopZLocationOfReconstructableVolume") == -12.5
    assert command.number("BottomZLocationOfScanningLength") == -330
    assert command.number("ExposedRange") == 340
    assert command.parameters["FilterType"] == "WEDGE FILTER"
    assert command.parameters["FilterMaterial"] == "TIN"
    assert command.parameters["ExposureModulationType"] == "XYZ_EC"
    told = command.context.parts["WaterEquivalentDiameter"]
    assert (told[0].value, told[0].source) == (280.0, Source.LOCALIZER)


# --- units and numbers that cannot be believed


@pytest.mark.parametrize(
    ("current", "unit"), [("200", "mA"), ("200000", "uA"), ("200000", "µA"), ("0.2", "A"), ("200.0", "mA")]
)
def test_units_are_honoured(current: str, unit: str) -> None:
    parameters = [container("113831", num("113734", current, unit))]
    assert _one(parameters=parameters).number("XRayTubeCurrentInmA") == 200


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (num("113830", "8", "furlong"), "CTDIvol: unit 'furlong' is not known"),
        (num("113830", "8", "mm"), "CTDIvol: unit 'mm' is a length, 'mGy' was expected"),
        (num("113830", "8", "MGY"), "not known"),
        (num("113838", "8", "mGy"), "DLP: unit 'mGy' is a dose"),
        (num("113830", "8", ""), "CTDIvol: unit 'none' is a ratio"),
        (num("113830", "nan", "mGy"), "CTDIvol is not a finite number"),
        (num("113830", "-8", "mGy"), "CTDIvol is negative"),
        (num("113830", "1e999", "mGy"), "CTDIvol is not a finite number"),
        (num("113899", "9", "mGy"), "ExposedRange: unit"),
        (num("113830", "9", "mGy"), ""),
    ],
)
def test_numbers_that_cannot_be_believed(item: Dataset, reason: str) -> None:
    if reason:
        assert reason in _reason(dose=[item])
    else:
        assert _one(dose=[item]).number("CTDIvol") == 9


def test_text_where_a_number_should_be() -> None:
    data = build.to_bytes(build.report(event()))
    broken = data.replace(b"0\xa3DS\x02\x008 ", b"0\xa3DS\x02\x00x ").replace(
        b"\x40\x00\x0a\xa3DS\x02\x008 ", b"\x40\x00\x0a\xa3DS\x02\x00x "
    )
    assert broken != data
    (result,) = decode_dose_file(broken, path="r.dcm", pseudonym=_pseudonym).results
    assert result.reason == "CTDIvol cannot be read as a number"


def test_two_different_values_for_one_field() -> None:
    assert "given twice" in _reason(dose=[num("113830", "8", "mGy"), num("113830", "80", "mGy")])
    assert _one(dose=[num("113830", "8", "mGy"), num("113830", "0.8", "cGy")]).number("CTDIvol") == 8
    assert "given twice" in _reason(dose=[coded("113835", "113690"), coded("113835", "113691")])


def test_an_empty_measurement_is_missing_not_wrong() -> None:
    assert "CTDIvol" not in _one(dose=[num("113830", None, "mGy")]).parameters


def test_an_event_of_nothing() -> None:
    empty = container("113819", uid("113769", "1.2"))
    (result,) = _decode(build.report(empty)).results
    assert result.reason == "the event holds no parameters"


@given(st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=6))
def test_convert_never_guesses(value: float, unit: str) -> None:
    try:
        result = convert(value, unit, "mGy.cm")
    except UnitError:
        return
    assert unit.strip() in {
        "uGy.cm", "mGy.cm", "mGy.m", "mGy.mm", "Gy.cm", "mGycm", "mGy*cm", "Gycm",
    }  # fmt: skip
    assert isinstance(result, float)


# --- who, what, when


def test_patient_context() -> None:
    header = {"PatientAge": "006M", "PatientSize": "0.66", "PatientWeight": "0", "PatientSex": "M"}
    command = _decode(build.report(event(), **header)).commands[0]
    assert command.number("PatientAge") == 0.5
    assert command.number("PatientSize") == 0.66
    assert command.value("PatientWeight") is None
    assert command.text("PatientSex") == "M"


def test_age_from_the_birth_date() -> None:
    assert _decode(build.report(event(), PatientAge=None)).commands[0].number("PatientAge") == 39
    nothing = _decode(build.report(event(), PatientAge="", PatientBirthDate="")).commands[0]
    assert nothing.value("PatientAge") is None


def test_nothing_that_identifies_is_kept() -> None:
    asked = []

    def pseudonym(value: str) -> str:
        asked.append(value)
        return f"hash{len(asked)}"

    ds = build.report(event(container("113870", text("113870", "Jane Doe"))), AccessionNumber="ACC1")
    report = decode_dose_report(ds, path="r.dcm", pseudonym=pseudonym)
    kept = repr(report)
    for secret in ("Jane", "Doe", "P-0815", "19800203", "S-4711", "ACC1", "1.2.3", "20200102"):
        assert secret not in kept
    assert set(asked) == {"1.2.3", "1.2.3.1", "S-4711"}


def test_times_and_order() -> None:
    late, early = event(started="20200102030500"), event(started="20200102030400", uid_value="1.2.3.2")
    late_command, early_command = _decode(build.report(late, early)).commands
    assert late_command.acquired_at is not None
    assert early_command.acquired_at is not None
    assert late_command.acquired_at - early_command.acquired_at == 60
    assert (late_command.order, early_command.order) == (0, 1)


def test_time_of_the_report_when_the_event_has_none() -> None:
    ds = build.report(moment("113809", "20200102031000"), event(started=""))
    command = _decode(ds).commands[0]
    start = build.report(event(started="20200102031000"))
    assert command.acquired_at == _decode(start).commands[0].acquired_at


def test_the_irradiating_device_comes_before_the_recording_one() -> None:
    role = coded("113876", "113859")
    role.ContentSequence = [text("113878", "SIEMENS"), text("113879", "Force"), text("113880", "77")]
    device = _one(role).device
    assert (device.manufacturer, device.model, device.serial) == ("SIEMENS", "Force", "<77>")
    assert _one().device.model == "Ring 1"


@pytest.mark.parametrize(
    "header",
    [{"StudyDescription": "Physics QA"}, {"PatientName": "QA^Phantom"}, {"ProtocolName": "DailyCheck"}],
)
def test_qa_is_labelled(header: dict[str, str]) -> None:
    assert _decode(build.report(event(), **header)).commands[0].mode is Mode.QA
    assert _decode(build.report(event(), PatientAge="100Y")).commands[0].mode is Mode.CLINICAL


def test_one_qa_event_marks_its_report() -> None:
    report = _decode(build.report(event(), event(uid_value="1.2.3.2", protocol="QA water")))
    assert {c.mode for c in report.commands} == {Mode.QA}


def test_announced_number_of_events() -> None:
    report = _decode(build.report(container("113811", num("113812", "3", "{events}")), event()))
    assert "the report announces 3 irradiation events and holds 1" in report.notes


# --- Enhanced X-Ray Radiation Dose SR


def _summary(name: str, begin: str, end: str, *more: Dataset, source_id: str = "1") -> Dataset:
    return container(
        "130501",
        uid("113769", name),
        moment("111526", begin),
        moment("111527", end),
        text("113832", source_id),
        coded("113721", "116152004", "Spiral", "SCT"),
        *more,
    )


def _technique(begin: str, end: str, *more: Dataset, source_id: str = "1") -> Dataset:
    return container(
        "130511", moment("111526", begin), moment("111527", end), text("113832", source_id), *more
    )


def _enhanced(*content: Dataset) -> Dataset:
    procedure = coded("121058", "77477000", "Computed tomography", "SCT")
    return build.report(procedure, *content, sop_class=build.ENHANCED_DOSE_SR)


def test_enhanced_report_joins_techniques_by_time() -> None:
    ds = _enhanced(
        _summary("1.5.1", "20200102030000", "20200102030010", num("113830", "5", "mGy")),
        _summary("1.5.2", "20200102030010", "20200102030020", num("113830", "9", "mGy")),
        container(
            "130505",
            moment("111526", "20200102030000"),
            moment("111527", "20200102030020"),
            _technique(
                "20200102030000", "20200102030010", num("113733", "100", "kV"), num("113734", "50", "mA")
            ),
            _technique(
                "20200102030010",
                "20200102030020",
                num("113733", "140000", "V"),
                table("113734", [("113734", "mA", [100.0, 200.0, 300.0])]),
            ),
            container("130512", text("113832", "1"), coded("113757", "12597001", "Tin", "SCT")),
        ),
    )
    first, second = _decode(ds).commands
    assert (first.number("KVP"), first.number("XRayTubeCurrentInmA"), first.number("CTDIvol")) == (100, 50, 5)
    assert (second.number("KVP"), second.number("CTDIvol")) == (140, 9)
    current = [second.number(f"{n}XRayTubeCurrent") for n in ("Minimum", "Maximum")]
    assert [current[0], second.number("XRayTubeCurrentInmA"), current[1]] == [100, 200, 300]
    assert first.parameters["AcquisitionType"] == "SPIRAL"
    assert first.parameters["FilterMaterial"] == "TIN"
    assert first.event == "<1.5.1>"
    assert first.acquired_at is not None
    assert first.acquired_at < (second.acquired_at or 0)


def test_enhanced_report_with_two_sources() -> None:
    begin, end = "20200102030000", "20200102030010"
    ds = _enhanced(
        _summary("1.5.1", begin, end, num("113830", "5", "mGy"), source_id="1 and 2"),
        container(
            "130505",
            _technique(begin, end, num("113733", "80", "kV"), source_id="1"),
            _technique(begin, end, num("113733", "150", "kV"), source_id="2"),
            _technique(begin, end, num("113733", "70", "kV"), source_id="3"),
        ),
    )
    (command,) = _decode(ds).commands
    assert (command.number("KVP"), command.number("KVPSourceB")) == (80, 150)
    assert command.number("NumberOfXRaySources") == 2


def test_one_event_told_by_two_containers_is_one_command() -> None:
    begin, end = "20200102030000", "20200102030010"
    ds = _enhanced(
        _summary("1.5.1", begin, end, num("113830", "5", "mGy"), source_id="1"),
        _summary("1.5.1", begin, end, num("113838", "70", "mGy.cm"), source_id="2"),
    )
    (command,) = _decode(ds).commands
    assert (command.number("CTDIvol"), command.number("DLP")) == (5, 70)


def test_enhanced_report_of_something_else() -> None:
    angio = container("130501", uid("113769", "1.6"), num("113738", "0.1", "Gy"), coded("113721", "44491008"))
    ds = build.report(angio, sop_class=build.ENHANCED_DOSE_SR)
    (result,) = _decode(ds).results
    assert result.reason == "not an event of computed tomography"


def test_enhanced_report_rejects_wrong_units_in_techniques() -> None:
    begin, end = "20200102030000", "20200102030010"
    for wrong in (num("113734", "5", "kV"), table("113734", [("113734", "kV", [1.0])])):
        ds = _enhanced(_summary("1.5.1", begin, end), container("130505", _technique(begin, end, wrong)))
        (result,) = _decode(ds).results
        assert "XRayTubeCurrentInmA: unit 'kV'" in result.reason


# --- Exposure Dose Sequence


def _capture(**attributes: Any) -> Dataset:
    ds = build.report(sop_class=build.SECONDARY_CAPTURE, Manufacturer="Philips")
    item = Dataset()
    item.KVP, item.XRayTubeCurrentInuA, item.AcquisitionType = "120", "165044.374", "SPIRAL"
    item.FilterMaterial = ["TEFLON", "TITANIUM"]
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    item.private_block(0x00E1, "ELSCINT1", create=True).add_new(0x21, "DS", "196.01")
    ds.ExposureDoseSequence = [item]
    return ds


def test_exposure_dose_sequence() -> None:
    (command,) = _decode(_capture(ExposureTime=7000, CTDIvol=7.2, EstimatedDoseSaving=-3.5)).commands
    assert dict(command.parameters) == {
        "KVP": 120.0,
        "XRayTubeCurrentInmA": 165.044374,
        "ExposureTimeInms": 7000.0,
        "CTDIvol": 7.2,
        "EstimatedDoseSaving": -3.5,
        "DLP": 196.01,
        "AcquisitionType": "SPIRAL",
        "FilterMaterial": "TEFLON+TITANIUM",
    }
    assert command.event is not None


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [({"CTDIvol": math.nan}, "CTDIvol is not a finite number"), ({"CTDIvol": -1.0}, "CTDIvol is negative"),
     ({"CTDIvol": math.inf}, "CTDIvol is not a finite number")],
)  # fmt: skip
def test_exposure_dose_sequence_with_bad_numbers(attributes: dict[str, float], reason: str) -> None:
    (result,) = _decode(_capture(**attributes)).results
    assert result.reason == reason


def test_codes_of_other_schemes_are_not_confused() -> None:
    foreign = num(code("113830", "not CTDIvol", "99ACME"), "77", "mGy")
    assert _one(foreign).number("CTDIvol") == 8
