"""CT image headers: slices become acquisitions, whatever order and how many reconstructions they come in."""

from __future__ import annotations

import hashlib
import random
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_builders.ct_images import ct_slice, enhanced_ct, to_bytes
from scanward.codecs.dicom_files import open_dicom
from scanward.codecs.image_acquisitions import acquisitions
from scanward.codecs.image_headers import SliceHeader, read_slices
from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Command, Mode, Origin, Role
from scanward.errors import DecodeError, ScanwardError


def pseudonym(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slices(*sets: Any) -> list[SliceHeader]:
    found: list[SliceHeader] = []
    for number, ds in enumerate(sets):
        opened = open_dicom(to_bytes(ds), name="test")
        found += read_slices(opened, pseudonym=pseudonym, origin=Origin(f"{number:03d}.dcm"))
    return found


def commands(*sets: Any) -> list[Command]:
    made = [a.command for a in acquisitions(slices(*sets))]
    assert all(command is not None for command in made)
    return [command for command in made if command is not None]


def test_a_series_becomes_one_acquisition_with_its_modulation() -> None:
    (command,) = commands(*(ct_slice(n) for n in range(1, 6)))
    p = command.parameters
    assert p["MinimumXRayTubeCurrent"] == 110.0
    assert p["XRayTubeCurrentInmA"] == 130.0
    assert p["MaximumXRayTubeCurrent"] == 150.0
    assert p["CTDIvol"] == 6.5
    assert p["CTDIwPhantomType"] == BODY_PHANTOM
    assert p["ScanLength"] == 25.0  # four gaps of 5 mm and one thickness
    assert p["ExposureTimeInms"] == 500.0
    assert p["PatientPosition"] == "HFS"
    assert command.role is Role.PERFORMED
    assert command.context.get("PatientAge") == 60.0
    assert command.context.get("ProtocolName") == "Thorax routine"
    assert command.examination == pseudonym("1.2.3")
    assert command.device.serial == pseudonym("SN-77")
    assert command.order == 2.0
    assert command.acquired_at == 1704110401.0
    assert command.mode is Mode.CLINICAL


def test_reconstructions_of_one_acquisition_are_one_command() -> None:
    soft = [ct_slice(n) for n in range(1, 6)]
    lung = [ct_slice(n, series="1.2.3.2", ConvolutionKernel="B70f", SliceThickness=1) for n in range(1, 4)]
    found = acquisitions(slices(*soft, *lung))
    assert [(a.slices, a.reconstructions) for a in found] == [(8, 2)]
    command = found[0].command
    assert command is not None
    assert command.parameters["ConvolutionKernel"] == "B30f"  # of the one with more slices
    assert command.parameters["XRayTubeCurrentInmA"] == 130.0  # the other does not weigh again


@pytest.mark.parametrize(
    "change",
    [
        {"AcquisitionNumber": 3},
        {"StudyInstanceUID": "1.2.9"},
        {"DeviceSerialNumber": "SN-78"},
        {"KVP": 100},
        {"AcquisitionTime": "130000"},  # numbered anew in every series, an hour later
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ],
)
def test_what_makes_another_acquisition(change: dict[str, Any]) -> None:
    first = [ct_slice(n) for n in (1, 2)]
    second = [ct_slice(n, series="1.2.3.2", **change) for n in (1, 2)]
    assert len(commands(*first, *second)) == 2


def test_the_irradiation_event_decides_where_it_is_given() -> None:
    a = [ct_slice(n, IrradiationEventUID="1.9") for n in (1, 2)]
    b = [ct_slice(n, series="1.2.3.2", IrradiationEventUID="1.9", AcquisitionTime="130000") for n in (1, 2)]
    c = [ct_slice(n, series="1.2.3.3", IrradiationEventUID="1.8") for n in (1, 2)]
    found = commands(*a, *b, *c)
    assert [command.event for command in found] == [pseudonym("1.9"), pseudonym("1.8")]


def test_without_acquisition_number_a_series_stands_alone() -> None:
    a = [ct_slice(n, AcquisitionNumber=None) for n in (1, 2)]
    b = [ct_slice(n, series="1.2.3.2", AcquisitionNumber=None) for n in (1, 2)]
    assert len(commands(*a, *b)) == 2


def test_derived_images_add_nothing() -> None:
    originals = [ct_slice(n) for n in (1, 2)]
    derived = [
        ct_slice(n, series="1.2.3.2", ImageType=["DERIVED", "SECONDARY", "MPR"], XRayTubeCurrent=999)
        for n in (1, 2, 3)
    ]
    (command,) = commands(*originals, *derived)
    assert command.parameters["MaximumXRayTubeCurrent"] == 120.0
    (alone,) = acquisitions(slices(*derived))
    assert alone.command is None
    assert "derived" in alone.reason


def test_a_slice_given_twice_counts_once() -> None:
    (found,) = acquisitions(slices(ct_slice(1), ct_slice(1), ct_slice(2)))
    assert found.slices == 2


def test_localizers() -> None:
    (command,) = commands(ct_slice(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SpiralPitchFactor=0))
    assert command.parameters["AcquisitionType"] == "CONSTANT_ANGLE"
    assert command.parameters["ScanLength"] == pytest.approx(512 * 0.8)
    assert "SpiralPitchFactor" not in command.parameters


def test_phantoms_are_labelled_by_any_text_of_staff() -> None:
    (command,) = commands(ct_slice(1, PatientName="QA^Phantom"))
    assert command.mode is Mode.QA


def test_enhanced_ct() -> None:
    (command,) = commands(enhanced_ct(3))
    p = command.parameters
    assert (p["KVP"], p["FilterType"], p["AcquisitionType"]) == (100.0, "WEDGE", "SPIRAL")
    assert (p["MinimumXRayTubeCurrent"], p["XRayTubeCurrentInmA"], p["MaximumXRayTubeCurrent"]) == (
        200,
        210,
        220,
    )
    assert p["Exposure"] == 100.0
    assert p["ScanLength"] == 6.0
    assert p["CTDIwPhantomType"] == HEAD_PHANTOM
    assert p["TableHeight"] == 150.0
    assert command.event == pseudonym("1.2.99")
    assert command.order == 4.0
    assert command.acquired_at == 1704110400.0


def test_the_second_tube_of_enhanced_ct() -> None:
    ds = enhanced_ct(1)
    second = type(ds)()
    second.KVP = 150.0
    ds.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence.append(second)
    (command,) = commands(ds)
    assert (command.parameters["KVP"], command.parameters["KVPSourceB"]) == (100.0, 150.0)


def test_enhanced_ct_without_frames() -> None:
    with pytest.raises(DecodeError, match="no frames"):
        slices(enhanced_ct(0))


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("KVP", "-120", "KVP is negative"),
        ("XRayTubeCurrent", "-5", "XRayTubeCurrentInmA is negative"),
        ("RevolutionTime", float("nan"), "RevolutionTime is not a finite number"),
        ("CTDIvol", float("inf"), "CTDIvol is not a finite number"),
    ],
)
def test_numbers_that_cannot_be(keyword: str, value: Any, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = ct_slice(1, **{keyword: value})
    with pytest.raises(DecodeError, match=reason):
        slices(ds)


def test_other_objects_and_images_without_series() -> None:
    with pytest.raises(DecodeError, match="not a CT image"):
        slices(ct_slice(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    with pytest.raises(DecodeError, match="names no series"):
        slices(ct_slice(1, SeriesInstanceUID=None))


def test_no_identity_is_kept() -> None:
    ds = ct_slice(1, AccessionNumber="ACC-9", ConvolutionKernel="B30f Doe")
    said = repr(slices(ds)) + repr(acquisitions(slices(ds)))
    for secret in ("Doe", "Jane", "4711", "19631107", "SN-77", "1.2.3.1", "ACC-9"):
        assert secret not in said


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_the_order_of_slices_changes_nothing(chance: random.Random) -> None:
    chance.shuffle(mixed := list(_MIXED))
    assert acquisitions(mixed) == acquisitions(_MIXED)


_MIXED = slices(
    *(ct_slice(n) for n in range(1, 5)),
    *(ct_slice(n, series="1.2.3.2", ConvolutionKernel="B70f") for n in range(1, 5)),
    *(ct_slice(n, series="1.2.3.3", AcquisitionTime=None) for n in range(1, 3)),
    *(ct_slice(n, series="1.2.3.4", AcquisitionTime="150000") for n in range(1, 4)),
    enhanced_ct(3),
)


_WHOLE = [to_bytes(ct_slice(1)), to_bytes(enhanced_ct(2))]


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # pydicom's remark on what we altered
@given(
    st.sampled_from(_WHOLE),
    st.lists(st.tuples(st.integers(132, 4000), st.integers(0, 255)), max_size=12),
    st.integers(0, 4000),
)
def test_altered_files_give_slices_or_one_of_our_errors(
    whole: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(whole)
    for place, value in edits:
        data[place % len(data)] = value
    if cut % 3 == 0:
        del data[cut:]
    try:
        ds = open_dicom(bytes(data), name="altered")
        found = read_slices(ds, pseudonym=pseudonym, origin=Origin("altered"))
    except ScanwardError:
        return
    assert sum(a.slices for a in acquisitions(found)) == len(found)
