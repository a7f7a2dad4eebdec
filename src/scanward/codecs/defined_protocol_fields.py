"""Which attribute of a protocol element is which field of a command, both ways.

PS3.3 C.34.9 allows constraints only on the attributes of table C.34.10-1 (in Acquisition Protocol Element
Sequence, some of them one level deeper in CT X-Ray Details Sequence, one item for each beam) and on private
attributes. What Scanward knows and that table lacks (noise index, DLP, scan length ...) therefore goes to a
private block of its own, with the field's name as Selector Attribute Keyword.
"""

from __future__ import annotations

from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from scanward.codecs.defined_protocol_model import Constraint, Step

ACQUISITION_SEQUENCE: Final = 0x00189920
BEAM_SEQUENCE: Final = 0x00189325

SCANWARD_CREATOR: Final = "SCANWARD 1.0"
SCANWARD_GROUP: Final = 0x0099

# Field -> attribute keyword, where the two differ.
_SPELLED: Final = {"Exposure": "ExposureInmAs", "CTDIwPhantomType": "CTDIPhantomTypeCodeSequence"}

# Directly in an item of Acquisition Protocol Element Sequence.
_OF_ELEMENT: Final = (
    "ProtocolElementNumber",
    "ProtocolElementName",
    "AcquisitionType",
    "TubeAngle",
    "ConstantVolumeFlag",
    "FluoroscopyFlag",
    "RevolutionTime",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
    "TableHeight",
    "GantryDetectorTilt",
    "AcquisitionMotion",
    "TableSpeed",
    "TableFeedPerRotation",
    "SpiralPitchFactor",
    "CTDIvol",
    "CTDIwPhantomType",
    "CTDIvolNotificationTrigger",
    "DLPNotificationTrigger",
    "ContentQualification",
)
# In an item of CT X-Ray Details Sequence.
_OF_BEAM: Final = (
    "KVP",
    "XRayTubeCurrentInmA",
    "ExposureTimeInms",
    "Exposure",
    "DataCollectionDiameter",
    "FocalSpots",
    "FilterType",
    "ExposureModulationType",
    "AutoKVPSelectionType",
    "AutoKVPUpperBound",
    "AutoKVPLowerBound",
    "CardiacSynchronizationTechnique",
    "RespiratoryMotionCompensationTechnique",
)
# The second beam's fields that a command can hold.
_SECOND_BEAM: Final = {"KVP": "KVPSourceB", "XRayTubeCurrentInmA": "XRayTubeCurrentInmASourceB"}

# Element numbers of the private block; append only, the place is the number.
_PRIVATE: Final = (
    "NoiseIndex",
    "QualityReferenceMAs",
    "MaximumXRayTubeCurrent",
    "MinimumXRayTubeCurrent",
    "AECMinimumTubeCurrent",
    "AECMaximumTubeCurrent",
    "DLP",
    "ScanLength",
    "NumberOfRotations",
    "EstimatedDoseSaving",
    "NumberOfXRaySources",
    "ReconstructionDiameter",
    "SliceThickness",
    "ConvolutionKernel",
    "RotationDirection",
    "PatientPosition",
    "ContrastBolusAgent",
    "AcquisitionStartLocation",
    "AcquisitionEndLocation",
    "MaximumXRayTubeCurrentSourceB",
)

PATIENT_ATTRIBUTES: Final = (
    "PatientAge",
    "PatientSex",
    "PatientSize",
    "PatientWeight",
    "WaterEquivalentDiameter",
)


def _tag(field: str) -> int:
    tag = tag_for_keyword(_SPELLED.get(field, field))
    if tag is None:  # a spelling mistake above: found at import, not at a site
        raise LookupError(field)
    return tag


ELEMENT_TAGS: Final = {name: _tag(name) for name in _OF_ELEMENT}
BEAM_TAGS: Final = {name: _tag(name) for name in _OF_BEAM}
PATIENT_TAGS: Final = {name: _tag(name) for name in PATIENT_ATTRIBUTES}
PRIVATE_TAGS: Final = {name: (SCANWARD_GROUP << 16) + 1 + i for i, name in enumerate(_PRIVATE)}
SECOND_BEAM: Final = dict(_SECOND_BEAM)

_FIELD_OF_ELEMENT_TAG: Final = {tag: name for name, tag in ELEMENT_TAGS.items()}
_FIELD_OF_BEAM_TAG: Final = {tag: name for name, tag in BEAM_TAGS.items()}
_FIELD_OF_PRIVATE_TAG: Final = {tag: name for name, tag in PRIVATE_TAGS.items()}
_FIELD_OF_PATIENT_TAG: Final = {tag: name for name, tag in PATIENT_TAGS.items()}


def vr_of(tag: int) -> str:
    """The standard's VR of a known public tag."""
    return dictionary_VR(tag)


def is_private(tag: int) -> bool:
    """Odd group number (PS3.5 7.8)."""
    return bool(tag >> 16 & 1)


def private_field(tag: int, creator: str) -> str:
    """The name under which a private attribute without keyword is a field: ``(0019,"ACME CT",27)``."""
    return f'({tag >> 16:04X},"{creator}",{tag & 0xFF:02X})'


def selector_text(constraint: Constraint) -> str:
    """The selector for people: where the attribute is, level by level."""
    steps = [f"{_named(step.tag, step.creator)}[{step.item or 'all'}]" for step in constraint.path]
    if constraint.tag is not None:
        steps.append(_named(constraint.tag, constraint.creator))
    return " > ".join(steps) or constraint.name or "nothing"


def _named(tag: int, creator: str) -> str:
    if is_private(tag):
        return private_field(tag, creator)
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def patient_field_of(constraint: Constraint) -> str | None:
    """The patient field that an item of Patient Specification Sequence speaks of, None when unknown."""
    if constraint.tag is None or constraint.path:
        return None
    return _FIELD_OF_PATIENT_TAG.get(constraint.tag)


def field_of(constraint: Constraint, places: frozenset[int]) -> str | None:
    """The command field that an acquisition constraint speaks of, or None when a command cannot hold it.

    ``places`` are the item numbers under which the constraint's own element may be pointed at: its number and
    its position. The pointer may also be missing or say "every item".
    """
    path = constraint.path
    if path and path[0].tag == ACQUISITION_SEQUENCE:
        if path[0].item not in places and path[0].item != 0:
            return None
        path = path[1:]
    if constraint.tag is None:
        return None
    if not path:
        return _of_element(constraint, constraint.tag)
    if len(path) == 1 and path[0].tag == BEAM_SEQUENCE:
        return _of_beam(constraint, constraint.tag, path[0].item)
    return None


def _of_element(constraint: Constraint, tag: int) -> str | None:
    if not is_private(tag):
        # A writer that skips the beam level still means the beam's attribute.
        return _FIELD_OF_ELEMENT_TAG.get(tag) or _FIELD_OF_BEAM_TAG.get(tag)
    if constraint.creator == SCANWARD_CREATOR and tag in _FIELD_OF_PRIVATE_TAG:
        return _FIELD_OF_PRIVATE_TAG[tag]
    return constraint.keyword or private_field(tag, constraint.creator)


def _of_beam(constraint: Constraint, tag: int, item: int) -> str | None:
    if is_private(tag):
        return _of_element(constraint, tag) if item <= 1 else None
    name = _FIELD_OF_BEAM_TAG.get(tag)
    if name is None or item <= 1:
        return name
    return _SECOND_BEAM.get(name) if item == 2 else None


def selector_of(field: str) -> tuple[int, str, str, tuple[Step, ...]] | None:
    """Tag, VR, private creator and path for a field, None when it has no place in a protocol.

    The path points at acquisition element 1; `protocol_element` puts the right number in.
    """
    top = Step(ACQUISITION_SEQUENCE, 1)
    if field in ELEMENT_TAGS:
        tag = ELEMENT_TAGS[field]
        return tag, vr_of(tag), "", (top,)
    for name, second in _SECOND_BEAM.items():
        if field == second:
            return BEAM_TAGS[name], vr_of(BEAM_TAGS[name]), "", (top, Step(BEAM_SEQUENCE, 2))
    if field in BEAM_TAGS:
        tag = BEAM_TAGS[field]
        return tag, vr_of(tag), "", (top, Step(BEAM_SEQUENCE, 1))
    if field in PATIENT_TAGS:
        return PATIENT_TAGS[field], vr_of(PATIENT_TAGS[field]), "", ()
    if field in PRIVATE_TAGS:
        return PRIVATE_TAGS[field], "", SCANWARD_CREATOR, (top,)
    return None
