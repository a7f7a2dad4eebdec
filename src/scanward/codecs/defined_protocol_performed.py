"""CT Performed Procedure Protocol Storage, ...200.2 (PS3.3 A.82.1): commands from and to it.

Each item of Acquisition Protocol Element Sequence (C.34.10) becomes one command, in order of Protocol Element
Number. The object tells "what was set on the machine", so the role is PERFORMED; it has no acquisition times,
so ``acquired_at`` is the moment the instance was created and ``order`` is the element number. Start and end
locations are relative to a landmark (table 10.27-1) and are not the table positions of
``AcquisitionStartLocation``: they are left out and noted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from scanward.codecs.defined_protocol_build import PHANTOM_CODES, age_string
from scanward.codecs.defined_protocol_dataset import (
    created,
    integer,
    items,
    plain_of,
    plain_values,
    put,
    put_element,
    put_equipment,
    put_items,
    reading,
    refuse_unreadable,
    sop_common,
    text,
)
from scanward.codecs.defined_protocol_fields import (
    BEAM_TAGS,
    ELEMENT_TAGS,
    PRIVATE_TAGS,
    SCANWARD_CREATOR,
    SCANWARD_GROUP,
    SECOND_BEAM,
    private_field,
    vr_of,
)
from scanward.codecs.defined_protocol_model import (
    DEFINED_PROTOCOL_UID,
    PERFORMED_PROTOCOL_UID,
    Code,
    Equipment,
    Scalar,
)
from scanward.codecs.qa import looks_like_qa
from scanward.codecs.rdsr_draft import Decoded, DoseReport
from scanward.codecs.subject import subject_of
from scanward.codecs.values import seconds_of
from scanward.commands import FIELDS, Command, Group, Kind, Mode, Origin, Role, Value
from scanward.errors import DecodeError, InputError

_CONTEXT_OF_ELEMENT: Final = frozenset({"ProtocolElementName"})
_NOT_PARAMETERS: Final = _CONTEXT_OF_ELEMENT | {"ProtocolElementNumber"}
_PHANTOM_OF_CODE: Final = {code.value: name for name, code in PHANTOM_CODES.items()}


def decode_performed_protocol(dataset: Dataset, *, path: str, pseudonym: Callable[[str], str]) -> DoseReport:
    """Every acquisition element as a command or the reason why not, in element order.

    ``pseudonym`` turns UIDs and serial numbers into keyed hashes. Names of fields are those of the commands;
    private attributes are named by creator and element (`private_field`), Scanward's own by their field.

    Raises
    ------
    DecodeError
        Another SOP class, or a malformed object.
    """
    with reading(path):
        found = text(dataset, "SOPClassUID")
        if found != PERFORMED_PROTOCOL_UID:
            what = f"not a CT Performed Procedure Protocol but SOP class {found or 'missing'}"
            raise DecodeError(what, path, "check the file")
        refuse_unreadable(dataset, path)
        subject = subject_of(dataset, pseudonym)
        when = created(dataset)
        moment = seconds_of(when[:8], when[8:])
        uid = text(dataset, "SOPInstanceUID")
        mode = Mode.QA if looks_like_qa(subject.qa_texts) else Mode.CLINICAL
        notes: list[str] = []
        numbered = [
            (integer(item, "ProtocolElementNumber"), row, item)
            for row, item in enumerate(items(dataset, "AcquisitionProtocolElementSequence"))
        ]
        results = []
        for number, row, item in sorted(numbered, key=lambda x: (x[0] is None, x[0] or 0, x[1])):
            parameters = _element_parameters(item, notes)
            why = "a protocol element without number" if number is None else _unusable(parameters)
            if number is None or why:
                results.append(Decoded(row, None, why))
                continue
            extra: dict[str, Value] = {k: v for k in _CONTEXT_OF_ELEMENT if (v := text(item, k))}
            command = Command(
                parameters=parameters,
                context=subject.context(extra),
                device=subject.device,
                role=Role.PERFORMED,
                examination=subject.examination,
                acquired_at=moment,
                order=float(number),
                event=pseudonym(f"{uid}#{number}") if uid else None,
                mode=mode,
                origin=Origin(path, row),
            )
            results += [Decoded(row, command)]
        return DoseReport(tuple(results), tuple(dict.fromkeys(notes)))


def _element_parameters(item: Dataset, notes: list[str]) -> dict[str, Value]:
    parameters: dict[str, Value] = {}
    for field, tag in ELEMENT_TAGS.items():
        if field not in _NOT_PARAMETERS:
            _take(parameters, field, plain_values(item, _keyword(tag)))
    relative = ("AcquisitionStartLocationSequence", "AcquisitionEndLocationSequence")
    notes += [
        f"{keyword} is relative to a landmark and is not kept" for keyword in relative if keyword in item
    ]
    beams = items(item, "CTXRayDetailsSequence")
    if beams:
        for field, tag in BEAM_TAGS.items():
            _take(parameters, field, plain_values(beams[0], _keyword(tag)))
        _take_private(parameters, beams[0])
    if len(beams) > 1:
        for first, second in SECOND_BEAM.items():
            _take(parameters, second, plain_values(beams[1], _keyword(BEAM_TAGS[first])))
    if len(beams) > 2:
        notes.append(f"{len(beams)} beams in one element, two are kept")
    _take_private(parameters, item)
    return parameters


def _unusable(parameters: dict[str, Value]) -> str:
    """Why these parameters make no command, empty when they do."""
    wild = [k for k, v in parameters.items() if isinstance(v, float) and not math.isfinite(v)]
    if wild:
        return f"{wild[0]} is not a finite number"
    return "" if parameters else "a protocol element is empty"


def _keyword(tag: int) -> str:
    return keyword_for_tag(tag)


def _take(parameters: dict[str, Value], field: str, values: tuple[Scalar, ...]) -> None:
    """One value by the field's kind; several are one text, as they stand in the file."""
    if not values:
        return
    first = values[0]
    if isinstance(first, Code):
        parameters[field] = _PHANTOM_OF_CODE.get(first.value, first.meaning or first.value)
        return
    if isinstance(first, bytes):
        return
    known = FIELDS.get(field)
    if len(values) == 1 and isinstance(first, int | float) and (known is None or known.kind is Kind.NUMBER):
        parameters[field] = float(first)
    else:
        parameters[field] = "\\".join(f"{x:g}" if isinstance(x, int | float) else str(x) for x in values)


def _take_private(parameters: dict[str, Value], item: Dataset) -> None:
    """Private attributes with their creators; text or numbers alone."""
    own = {tag: field for field, tag in PRIVATE_TAGS.items()}
    for tag in item:
        key = tag.tag
        if not key.is_private or key.is_private_creator:
            continue
        reserved = Tag(key.group, key.element >> 8)
        name = str(item[reserved].value) if reserved in item else ""
        bare = (key.group << 16) | (key.element & 0xFF)
        if name and tag.VR not in ("SQ", "UN"):
            field = own.get(bare) if name == SCANWARD_CREATOR else None
            named = field or private_field(bare, name)
            _take(parameters, named, plain_of(tag.value, named))


def encode_performed_protocol(
    commands: Iterable[Command],
    *,
    uid: str,
    study_uid: str,
    series_uid: str,
    name: str,
    created: str = "20000101000000",
    defined_uid: str = "",
    author: Equipment | None = None,
) -> Dataset:
    """Commands of one examination as a CT Performed Procedure Protocol: for emulators, tests and exchange.

    The patient is anonymous (empty name and ID, age and sex from the first command's context). Parameters
    without an attribute in table C.34.10-1 go to Scanward's private block. What a command does not hold is
    not invented: `missing_attributes` lists the type 1 attributes that a conforming object still needs.

    Raises
    ------
    InputError
        No command, or a value that does not fit its VR.
    """
    elements = list(commands)
    if not elements:
        raise InputError("no command to write", name, "give the commands of one examination")
    first = elements[0]
    dataset = sop_common(PERFORMED_PROTOCOL_UID, uid, created)
    device = first.device
    made_by = author or Equipment(
        device.manufacturer or "unknown",
        device.model or "unknown",
        device.serial[:64] or "unknown",
        (device.software or "unknown",),
    )
    put_equipment(dataset, made_by)
    for keyword, value in (
        ("PatientName", None),
        ("PatientID", None),
        ("PatientBirthDate", None),
        ("PatientSex", first.context.get("PatientSex")),
        ("StudyInstanceUID", study_uid),
        ("StudyDate", created[:8]),
        ("StudyTime", created[8:]),
        ("ReferringPhysicianName", None),
        ("StudyID", None),
        ("AccessionNumber", None),
        ("SeriesInstanceUID", series_uid),
        ("SeriesNumber", 1),
        ("Modality", "CTPROTOCOL"),
        ("FrameOfReferenceUID", f"{series_uid}.1"),
        ("PositionReferenceIndicator", None),
        ("ProtocolName", name),
        ("ContentCreatorName", "Scanward^"),
        ("ResponsibleGroupCodeSequence", None),
    ):
        put(dataset, keyword, value)
    age = first.context.get("PatientAge")
    if isinstance(age, float):
        put(dataset, "PatientAge", age_string(age))
    for keyword in ("PatientSize", "PatientWeight"):
        size = first.context.get(keyword)
        if isinstance(size, float):
            put(dataset, keyword, size)
    if defined_uid:
        reference = Dataset()
        put(reference, "ReferencedSOPClassUID", DEFINED_PROTOCOL_UID)
        put(reference, "ReferencedSOPInstanceUID", defined_uid)
        put_items(dataset, "ReferencedDefinedProtocolSequence", [reference])
    put_items(
        dataset,
        "AcquisitionProtocolElementSequence",
        [_encode_element(i, command) for i, command in enumerate(elements, 1)],
    )
    return dataset


_TYPE_1_OF_ELEMENT: Final = (
    *("AcquisitionType", "ConstantVolumeFlag", "FluoroscopyFlag", "SingleCollimationWidth"),
    *("TotalCollimationWidth", "TableHeight", "GantryDetectorTilt", "AcquisitionMotion", "TableSpeed"),
    *("TableFeedPerRotation", "SpiralPitchFactor", "CTXRayDetailsSequence"),
)
_TYPE_1_OF_BEAM: Final = (
    *("BeamNumber", "KVP", "XRayTubeCurrentInmA", "ExposureTimeInms", "ExposureInmAs", "FilterType"),
    *("DataCollectionDiameter", "FocalSpots", "ExposureModulationType", "AutoKVPSelectionType"),
    *("CardiacSynchronizationTechnique", "RespiratoryMotionCompensationTechnique"),
)


def missing_attributes(dataset: Dataset) -> tuple[str, ...]:
    """``element N: Keyword`` for every type 1 attribute of table C.34.10-1 that is absent."""
    missing = []
    for item in items(dataset, "AcquisitionProtocolElementSequence"):
        number = integer(item, "ProtocolElementNumber")
        missing += [f"element {number}: {k}" for k in _TYPE_1_OF_ELEMENT if k not in item]
        for beam in items(item, "CTXRayDetailsSequence"):
            missing += [f"element {number}: {k}" for k in _TYPE_1_OF_BEAM if k not in beam]
    return tuple(missing)


def _encode_element(number: int, command: Command) -> Dataset:
    item, beam, second = Dataset(), Dataset(), Dataset()
    put(item, "ProtocolElementNumber", number)
    put(item, "ProtocolElementName", command.text("ProtocolElementName"))
    twin = {b: a for a, b in SECOND_BEAM.items()}
    for field, value in command.parameters.items():
        if field in _NOT_PARAMETERS:
            continue
        if field in ELEMENT_TAGS:
            _put_field(item, ELEMENT_TAGS[field], field, value)
        elif field in twin:
            _put_field(second, BEAM_TAGS[twin[field]], field, value)
        elif field in BEAM_TAGS:
            _put_field(beam, BEAM_TAGS[field], field, value)
        elif field in PRIVATE_TAGS:
            block = item.private_block(SCANWARD_GROUP, SCANWARD_CREATOR, create=True)
            vr = "LO" if isinstance(value, str) else "FD"
            put_element(item, block.get_tag(PRIVATE_TAGS[field] & 0xFF), vr, value, field)
        elif (known := FIELDS.get(field)) is None or known.group is Group.MACHINE:
            raise InputError(f"no attribute for {field}", f"element {number}", "leave it out")
    beams = [b for b in (beam, second) if len(b)]
    for i, part in enumerate(beams, 1):
        put(part, "BeamNumber", i)
    if beams:
        put_items(item, "CTXRayDetailsSequence", beams)
    return item


def _put_field(item: Dataset, tag: int, field: str, value: Value) -> None:
    if field == "CTDIwPhantomType":
        code = PHANTOM_CODES.get(str(value))
        if code is None:
            raise InputError(f"{value!r} is no dosimetry phantom", field, f"one of {list(PHANTOM_CODES)}")
        put(item, _keyword(tag), code)
        return
    vr = vr_of(tag)
    if vr == "DS" and isinstance(value, str):
        try:
            put(item, _keyword(tag), [float(x) for x in value.split("\\")])
        except ValueError as error:
            raise InputError(f"{value!r} is not a number", field, "give numbers") from error
        return
    put(item, _keyword(tag), value)
