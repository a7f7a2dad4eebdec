"""CT Defined Procedure Protocol Storage, 1.2.840.10008.5.1.4.1.1.200.1 (PS3.3 A.82.2): read and write.

    protocol = decode_defined_protocol(read_dataset(path.read_bytes(), str(path)))
    path.write_bytes(dataset_bytes(encode_defined_protocol(protocol)))

What is written and read back is equal (tests prove it for generated protocols, private creators and nested
pointers included). What the decoder meets and has no place for it tells in ``Protocol.notes``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydicom.dataset import Dataset

from scanward.codecs.defined_protocol_dataset import (
    created,
    dataset_bytes,
    decode_code,
    decode_equipment,
    integer,
    items,
    put,
    put_equipment,
    put_items,
    read_dataset,
    reading,
    refuse_unreadable,
    sop_common,
    text,
)
from scanward.codecs.defined_protocol_macro import decode_constraint, encode_constraint
from scanward.codecs.defined_protocol_model import (
    DEFINED_PROTOCOL_UID,
    Code,
    Constraint,
    Element,
    ElementKind,
    Equipment,
    Protocol,
    Reference,
)
from scanward.errors import DecodeError, InputError

__all__ = ["dataset_bytes", "decode_defined_protocol", "encode_defined_protocol", "read_dataset"]

_SEQUENCE_OF: Final = {
    ElementKind.ACQUISITION: "AcquisitionProtocolElementSpecificationSequence",
    ElementKind.RECONSTRUCTION: "ReconstructionProtocolElementSpecificationSequence",
    ElementKind.STORAGE: "StorageProtocolElementSpecificationSequence",
}
# Modules that may be present, say nothing about parameters, and are not kept: told in the notes.
_NOT_KEPT: Final = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "AnatomicRegionSequence",
    "PatientPositioningInstructionSequence",
    "ContraindicationsCodeSequence",
    "PotentialReasonsForProcedureCodeSequence",
    "PotentialDiagnosticTasks",
)
MAX_CONSTRAINTS: Final = 50_000  # in one protocol: bounds the time a hostile file can take


def decode_defined_protocol(
    dataset: Dataset, *, path: str = "", pseudonym: Callable[[str], str] | None = None
) -> Protocol:
    """A CT Defined Procedure Protocol as `Protocol`.

    Parameters
    ----------
    dataset : Dataset
        From `read_dataset`, or received over the network.
    path : str
        Where it came from, for error messages.
    pseudonym : callable, optional
        Turns device serial numbers into keyed hashes. Use the one the recordings were read with, so that a
        model specification that names one device is recognised.

    Raises
    ------
    DecodeError
        Another SOP class, no protocol name, or malformed content.
    """
    with reading(path):
        found = text(dataset, "SOPClassUID")
        if found != DEFINED_PROTOCOL_UID:
            raise DecodeError(
                f"not a CT Defined Procedure Protocol but SOP class {found or 'missing'}",
                path,
                "check the file",
            )
        refuse_unreadable(dataset, path)
        uid, name = text(dataset, "SOPInstanceUID"), text(dataset, "ProtocolName")
        if not uid or not name:
            raise DecodeError(
                f"a protocol without {'ProtocolName' if uid else 'SOPInstanceUID'}", path, "export it again"
            )
        modality = text(dataset, "EquipmentModality")
        if modality not in ("CT", ""):
            raise DecodeError(
                f"a protocol for modality {modality[:16]!r}", path, "only CT protocols are read"
            )
        notes = [f"{keyword} is not kept" for keyword in _NOT_KEPT if keyword in dataset]
        if not modality:
            notes.append("EquipmentModality is missing, CT assumed")
        groups = items(dataset, "ResponsibleGroupCodeSequence")
        custodians = items(dataset, "CustodialOrganizationSequence")
        budget = [MAX_CONSTRAINTS]
        return Protocol(
            uid=uid,
            name=name,
            elements=tuple(
                element
                for kind in ElementKind
                for element in _decode_elements(dataset, kind, notes, budget, path)
            ),
            patient=tuple(_decode_constraints(dataset, "PatientSpecificationSequence", notes, budget, path)),
            models=tuple(
                decode_equipment(m, pseudonym) for m in items(dataset, "ModelSpecificationSequence")
            ),
            created=created(dataset),
            author=decode_equipment(dataset, pseudonym),
            group=decode_code(groups[0]) if groups else None,
            procedures=_codes(dataset, "PotentialRequestedProcedureCodeSequence"),
            protocols=_codes(dataset, "PotentialScheduledProtocolCodeSequence"),
            reasons=_texts(dataset, "PotentialReasonsForProcedure"),
            predecessors=tuple(
                Reference(text(r, "ReferencedSOPClassUID"), text(r, "ReferencedSOPInstanceUID"))
                for r in items(dataset, "PredecessorProtocolSequence")
            ),
            planning=text(dataset, "ProtocolPlanningInformation"),
            rationale=text(dataset, "ProtocolDesignRationale"),
            custodian=text(custodians[0], "InstitutionName") if custodians else "",
            instructions=tuple(text(i, "InstructionText") for i in items(dataset, "InstructionSequence")),
            notes=tuple(dict.fromkeys(notes)),
        )


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    words = text(dataset, keyword)
    return tuple(words.split("\\")) if words else ()


def _codes(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    return tuple(decode_code(item) for item in items(dataset, keyword))


def _decode_elements(
    dataset: Dataset, kind: ElementKind, notes: list[str], budget: list[int], path: str
) -> list[Element]:
    elements = []
    for item in items(dataset, _SEQUENCE_OF[kind]):
        number = integer(item, "ProtocolElementNumber")
        if number is None:
            raise DecodeError("a protocol element without number", path, "export the protocol again")
        constraints = _decode_constraints(item, "ParametersSpecificationSequence", notes, budget, path)
        elements.append(Element(number, tuple(constraints), kind))
    return elements


def _decode_constraints(
    dataset: Dataset, keyword: str, notes: list[str], budget: list[int], path: str
) -> list[Constraint]:
    found = items(dataset, keyword)
    budget[0] -= len(found)
    if budget[0] < 0:
        raise DecodeError("more constraints than any protocol has", path, f"{MAX_CONSTRAINTS} are read")
    return [decode_constraint(item, notes) for item in found]


def encode_defined_protocol(protocol: Protocol) -> Dataset:
    """The protocol as a data set with every type 1 and 2 attribute of its mandatory modules.

    Content Creator's Name is written as ``Scanward``: the vocabulary keeps no person.

    Raises
    ------
    InputError
        When something DICOM requires is missing or does not fit its VR.
    """
    dataset = sop_common(DEFINED_PROTOCOL_UID, protocol.uid, protocol.created)
    put_equipment(dataset, protocol.author)
    # Protocol Context, C.34.2
    if not protocol.name:
        raise InputError("the protocol has no name", protocol.uid, "give ProtocolName")
    put(dataset, "ProtocolName", protocol.name)
    put(dataset, "ContentCreatorName", "Scanward^")
    put(dataset, "ResponsibleGroupCodeSequence", () if protocol.group is None else (protocol.group,))
    for keyword, codes in (
        ("PotentialScheduledProtocolCodeSequence", protocol.protocols),
        ("PotentialRequestedProcedureCodeSequence", protocol.procedures),
    ):
        if codes:
            put(dataset, keyword, codes)
    if protocol.reasons:
        put(dataset, "PotentialReasonsForProcedure", protocol.reasons)
    for keyword, value in (
        ("ProtocolPlanningInformation", protocol.planning),
        ("ProtocolDesignRationale", protocol.rationale),
    ):
        if value:
            put(dataset, keyword, value)
    if protocol.predecessors:
        put_items(
            dataset, "PredecessorProtocolSequence", [encode_reference(r) for r in protocol.predecessors]
        )
    if protocol.custodian:
        custodian = Dataset()
        put(custodian, "InstitutionName", protocol.custodian)
        put(custodian, "InstitutionCodeSequence", ())
        put_items(dataset, "CustodialOrganizationSequence", [custodian])
    # Patient and Equipment Specification, C.34.5 and C.34.6
    if protocol.patient:
        put_items(
            dataset,
            "PatientSpecificationSequence",
            [encode_constraint(c, modifiable=False) for c in protocol.patient],
        )
    put(dataset, "EquipmentModality", "CT")
    if protocol.models:
        put_items(dataset, "ModelSpecificationSequence", [_encode_model(m) for m in protocol.models])
    if protocol.instructions:
        put_items(
            dataset,
            "InstructionSequence",
            [_encode_instruction(i, words) for i, words in enumerate(protocol.instructions, 1)],
        )
    # Defined Acquisition, Reconstruction, Storage, C.34.9, C.34.11, C.34.13
    for kind, keyword in _SEQUENCE_OF.items():
        elements = [_encode_element(e) for e in protocol.elements if e.kind is kind]
        if elements:
            put_items(dataset, keyword, elements)
    return dataset


def encode_reference(reference: Reference) -> Dataset:
    """SOP Instance Reference Macro (PS3.3 10.8)."""
    item = Dataset()
    put(item, "ReferencedSOPClassUID", reference.sop_class)
    put(item, "ReferencedSOPInstanceUID", reference.uid)
    return item


def _encode_element(element: Element) -> Dataset:
    item = Dataset()
    put(item, "ProtocolElementNumber", element.number)
    if element.constraints:
        put_items(
            item, "ParametersSpecificationSequence", [encode_constraint(c) for c in element.constraints]
        )
    return item


def _encode_model(model: Equipment) -> Dataset:
    item = Dataset()
    if not model.manufacturer or not (model.model or model.group):
        raise InputError(
            "a model specification without manufacturer, or without model and model group",
            "models",
            "name the device the protocol is for",
        )
    for keyword, value in (
        ("Manufacturer", model.manufacturer),
        ("ManufacturerRelatedModelGroup", model.group),
        ("ManufacturerModelName", model.model),
        ("DeviceSerialNumber", model.serial),
    ):
        if value:
            put(item, keyword, value)
    if model.software:
        put(item, "SoftwareVersions", model.software)
    return item


def _encode_instruction(index: int, words: str) -> Dataset:
    item = Dataset()
    put(item, "InstructionIndex", index)
    put(item, "InstructionText", words)
    return item
