"""Performed Procedure Protocols: commands to a DICOM file and back."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from scanward.codecs.defined_protocol import dataset_bytes, read_dataset
from scanward.codecs.defined_protocol_fields import BEAM_TAGS, ELEMENT_TAGS, PRIVATE_TAGS, SECOND_BEAM, vr_of
from scanward.codecs.defined_protocol_performed import (
    decode_performed_protocol,
    encode_performed_protocol,
    missing_attributes,
)
from scanward.commands import (
    BODY_PHANTOM,
    FIELDS,
    HEAD_PHANTOM,
    Command,
    Context,
    Device,
    Kind,
    Mode,
    Role,
    Told,
    Value,
)
from scanward.errors import DecodeError, InputError, ScanwardError

UIDS = {"uid": "2.25.10", "study_uid": "2.25.11", "series_uid": "2.25.12"}


def hashed(identifier: str) -> str:
    return f"h:{identifier}"


def encode(*commands: Command, **more: Any) -> Dataset:
    dataset = encode_performed_protocol(commands, name="CT Head", created="20260115093000", **UIDS, **more)
    return read_dataset(dataset_bytes(dataset), "p.dcm")


HEAD = Command(
    parameters={
        "AcquisitionType": "SEQUENCED",
        "KVP": 120.0,
        "KVPSourceB": 140.0,
        "XRayTubeCurrentInmA": 250.5,
        "Exposure": 250.5,
        "ExposureTimeInms": 1000.0,
        "RevolutionTime": 1.0,
        "TotalCollimationWidth": 40.0,
        "CTDIvol": 44.25,
        "CTDIwPhantomType": HEAD_PHANTOM,
        "FocalSpots": "0.6\\1.2",
        "FilterType": "WEDGE",
        "DLP": 708.5,
        "NoiseIndex": 3.2,
        "PatientPosition": "HFS",
    },
    context=Context(
        {
            "PatientAge": (Told(61.0),),
            "PatientSex": (Told("F"),),
            "PatientWeight": (Told(70.5),),
            "ProtocolElementName": (Told("Head base"),),
        }
    ),
    device=Device("ACME", "Spin 3", "1234", "v5"),
)


def test_one_command_there_and_back() -> None:
    report = decode_performed_protocol(encode(HEAD), path="p.dcm", pseudonym=hashed)
    (read,) = report.commands
    assert read.parameters == HEAD.parameters
    assert read.context.get("PatientAge") == 61.0
    assert read.context.get("PatientWeight") == 70.5
    assert read.context.get("ProtocolName") == "CT Head"
    assert read.context.get("ProtocolElementName") == "Head base"
    assert read.device == Device("ACME", "Spin 3", "h:1234", "v5")
    assert read.examination == "h:2.25.11"
    assert read.event == "h:2.25.10#1"
    assert (read.role, read.mode, read.order) == (Role.PERFORMED, Mode.CLINICAL, 1.0)
    assert read.acquired_at is not None
    assert report.notes == ()


def test_elements_come_in_the_order_of_their_numbers() -> None:
    dataset = encode(HEAD, replace(HEAD, parameters={"KVP": 80.0}), replace(HEAD, parameters={"KVP": 100.0}))
    dataset.AcquisitionProtocolElementSequence.reverse()
    report = decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed)
    assert [c.number("KVP") for c in report.commands] == [120.0, 80.0, 100.0]
    assert [c.origin.row for c in report.commands] == [2, 1, 0]


def test_a_phantom_scan_is_labelled() -> None:
    dataset = encode(HEAD)
    dataset.ProtocolName = "Daily QA phantom"
    (read,) = decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed).commands
    assert read.mode is Mode.QA


def test_vendor_attributes_are_kept_under_their_creator() -> None:
    dataset = encode(HEAD)
    item = dataset.AcquisitionProtocolElementSequence[0]
    block = item.private_block(0x0019, "ACME CT 1.0", create=True)
    block.add_new(0x27, "FD", 7.5)
    block.add_new(0x28, "OB", b"ab")
    dataset = read_dataset(dataset_bytes(dataset), "p.dcm")
    (read,) = decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed).commands
    assert read.parameters == {**HEAD.parameters, '(0019,"ACME CT 1.0",27)': 7.5}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda item: item.__delattr__("ProtocolElementNumber"), "without number"),
        (lambda item: setattr(item, "CTDIvol", float("nan")), "CTDIvol is not a finite number"),
        (lambda item: setattr(item, "RevolutionTime", float("-inf")), "RevolutionTime is not a finite"),
    ],
)
def test_an_unusable_element_is_told_not_dropped(change: Any, why: str) -> None:
    dataset = encode(HEAD, HEAD)
    change(dataset.AcquisitionProtocolElementSequence[0])
    report = decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed)
    assert len(report.results) == 2
    assert len(report.commands) == 1
    assert why in next(r.reason for r in report.results if r.command is None)


def test_an_empty_element() -> None:
    dataset = encode(replace(HEAD, parameters={}))
    (result,) = decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed).results
    assert result.command is None
    assert "empty" in result.reason


def test_what_is_left_out_is_noted() -> None:
    dataset = encode(HEAD)
    item = dataset.AcquisitionProtocolElementSequence[0]
    item.CTXRayDetailsSequence.append(Dataset())
    item.AcquisitionStartLocationSequence = [Dataset()]
    notes = " ".join(decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed).notes)
    assert "3 beams" in notes
    assert "relative to a landmark" in notes


def test_no_identity_comes_through() -> None:
    dataset = encode(HEAD)
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-4711"
    report = decode_performed_protocol(dataset, path="p.dcm", pseudonym=lambda _: "hash")
    told = repr(report)
    for identity in ("Doe", "4711", "2.25.11", "1234"):
        assert identity not in told


def test_refusals() -> None:
    dataset = encode(HEAD)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.200.1"
    with pytest.raises(DecodeError, match="SOP class"):
        decode_performed_protocol(dataset, path="p.dcm", pseudonym=hashed)
    with pytest.raises(InputError, match="no command"):
        encode()
    for bad in ({"CTDIwPhantomType": "bucket"}, {"FocalSpots": "small"}, {"KVP": "high"}, {"Unheard": 1.0}):
        with pytest.raises(InputError):
            encode(replace(HEAD, parameters=bad))


def test_missing_attributes_are_listed() -> None:
    missing = missing_attributes(encode(HEAD))
    assert "element 1: TableSpeed" in missing
    assert "element 1: AutoKVPSelectionType" in missing
    assert "element 1: KVP" not in missing


# --- any command the vocabulary can hold ---


def values_of(field: str, tag: int | None) -> st.SearchStrategy[Value]:
    vr = vr_of(tag) if tag is not None and tag >> 16 & 1 == 0 else None
    if field == "CTDIwPhantomType":
        return st.sampled_from([HEAD_PHANTOM, BODY_PHANTOM])
    known = FIELDS.get(field)
    if field == "FocalSpots":  # a category written as a decimal
        return st.sampled_from(["0.6", "1.2", "0.6\\1.2"])
    if vr in ("CS", "SH", "LO") or (vr is None and known is not None and known.kind is Kind.CATEGORY):
        return st.text("ABCDEFGHIJ_0123456789", min_size=1, max_size=16)
    if vr == "DS":
        return st.floats(-1e6, 1e6).map(lambda x: float(format_number_as_ds(x)))
    return st.floats(allow_nan=False, allow_infinity=False)


PLACES: dict[str, int | None] = {
    **{k: v for k, v in ELEMENT_TAGS.items() if not k.startswith("ProtocolElement")},
    **BEAM_TAGS,
    **{second: BEAM_TAGS[first] for first, second in SECOND_BEAM.items()},
    **PRIVATE_TAGS,
}


@st.composite
def commands(draw: st.DrawFn) -> Command:
    names = draw(st.lists(st.sampled_from(sorted(PLACES)), min_size=1, unique=True))
    if set(names) & set(SECOND_BEAM.values()) and not set(names) & set(BEAM_TAGS):
        names.append("KVP")  # a second beam has a first one before it
    return replace(HEAD, parameters={n: draw(values_of(n, PLACES[n])) for n in names})


@settings(max_examples=150)
@given(st.lists(commands(), min_size=1, max_size=3))
def test_every_parameter_comes_back(made: list[Command]) -> None:
    report = decode_performed_protocol(encode(*made), path="p.dcm", pseudonym=hashed)
    assert [c.parameters for c in report.commands] == [c.parameters for c in made]


SEED = dataset_bytes(encode(HEAD, HEAD))


@settings(max_examples=150)
@given(st.data())
def test_flipped_bytes_end_in_a_result_or_our_error(data: st.DataObject) -> None:
    changed = bytearray(SEED)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(132, len(SEED) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ScanwardError):
        decode_performed_protocol(read_dataset(bytes(changed), "f"), path="f", pseudonym=hashed)
