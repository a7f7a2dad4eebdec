"""The dictionary of fields: DICOM keywords (or concept meanings), units, kinds and plausible ranges.

A field that is not listed is still welcome: a dialect may declare any typed column (a *site parameter*,
such as a noise index). What is listed here needs no declaration.

Ranges are *form* ranges: what no CT scanner of any make exceeds, wide on purpose. The device's own range is
learned and stored with the device profile. Sources: DICOM PS3.3 C.8.2.1 and C.8.15.3, PS3.16 TID 10011-10015,
PS3.6 for units; extremes seen in recorded dose reports (pitch 0.042 in radiotherapy 4DCT, 3.4 in dual-source).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a value is to be understood."""

    NUMBER = "number"
    CATEGORY = "category"


class Group(StrEnum):
    """Who a field speaks of."""

    MACHINE = "machine"  # what the device is to do
    PATIENT = "patient"  # who lies on the table
    OBJECTIVE = "objective"  # what the command is for
    PLACE = "place"  # device, examination, order in time


@dataclass(frozen=True, slots=True)
class Field:
    """One known field.

    ``code`` is the coded concept (PS3.16) where DICOM has no keyword; ``low``/``high`` bound the form.
    """

    name: str
    kind: Kind
    group: Group
    unit: str = ""
    low: float | None = None
    high: float | None = None
    code: str = ""


def _number(name: str, group: Group, unit: str, low: float, high: float, code: str = "") -> Field:
    return Field(name, Kind.NUMBER, group, unit, low, high, code)


def _category(name: str, group: Group, code: str = "") -> Field:
    return Field(name, Kind.CATEGORY, group, code=code)


_M, _P, _O = Group.MACHINE, Group.PATIENT, Group.OBJECTIVE

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        # --- what the device is to do
        _category("AcquisitionType", _M),
        _number("KVP", _M, "kV", 40, 160),
        _number("XRayTubeCurrentInmA", _M, "mA", 0, 2000),
        _number("MaximumXRayTubeCurrent", _M, "mA", 0, 2000, code="113833"),
        _number("MinimumXRayTubeCurrent", _M, "mA", 0, 2000),
        _number("AECMinimumTubeCurrent", _M, "mA", 0, 2000),
        _number("AECMaximumTubeCurrent", _M, "mA", 0, 2000),
        _number("NoiseIndex", _M, "HU", 0, 200),
        _number("QualityReferenceMAs", _M, "mAs", 0, 3000),
        _number("Exposure", _M, "mAs", 0, 20000),
        _number("ExposureTimeInms", _M, "ms", 0, 600000),
        _number("RevolutionTime", _M, "s", 0.1, 10),
        _number("SpiralPitchFactor", _M, "1", 0.01, 4),
        _number("SingleCollimationWidth", _M, "mm", 0.1, 100),
        _number("TotalCollimationWidth", _M, "mm", 0.1, 700),
        _number("TableFeedPerRotation", _M, "mm", 0, 800),
        _number("TableSpeed", _M, "mm/s", 0, 1500),
        _number("TableHeight", _M, "mm", -1000, 2000),
        _number("ScanLength", _M, "mm", 0, 2600),
        _number("AcquisitionStartLocation", _M, "mm", -3000, 3000),
        _number("AcquisitionEndLocation", _M, "mm", -3000, 3000),
        _number("GantryDetectorTilt", _M, "deg", -45, 45),
        _number("TubeAngle", _M, "deg", -360, 360),
        _number("DataCollectionDiameter", _M, "mm", 20, 1000),
        _number("ReconstructionDiameter", _M, "mm", 10, 1000),
        _number("SliceThickness", _M, "mm", 0.1, 100),
        _number("NumberOfRotations", _M, "1", 0, 1000),
        _number("NumberOfXRaySources", _M, "1", 1, 4, code="113823"),
        _number("CTDIvol", _M, "mGy", 0, 5000),
        _number("DLP", _M, "mGy.cm", 0, 100000, code="113838"),
        _category("CTDIwPhantomType", _M, code="113835"),
        _category("ExposureModulationType", _M),
        _number("EstimatedDoseSaving", _M, "%", -200, 100),
        _category("FilterType", _M),
        _category("FocalSpots", _M),
        _category("ConvolutionKernel", _M),
        _category("RotationDirection", _M),
        _category("PatientPosition", _M),
        _category("ContrastBolusAgent", _M),
        # the second tube of a dual-source device, in the same report
        _number("KVPSourceB", _M, "kV", 40, 160),
        _number("XRayTubeCurrentInmASourceB", _M, "mA", 0, 2000),
        _number("MaximumXRayTubeCurrentSourceB", _M, "mA", 0, 2000),
        _number("RevolutionTimeSourceB", _M, "s", 0.1, 10),
        # what else a dose report says of an acquisition (TID 10013, 10014)
        _number("LengthOfReconstructableVolume", _M, "mm", 0, 2600, code="113893"),
        _number("ExposedRange", _M, "mm", 0, 2800, code="113899"),
        _number("TopZLocationOfReconstructableVolume", _M, "mm", -3000, 3000, code="113895"),
        _number("BottomZLocationOfReconstructableVolume", _M, "mm", -3000, 3000, code="113896"),
        _number("TopZLocationOfScanningLength", _M, "mm", -3000, 3000, code="113897"),
        _number("BottomZLocationOfScanningLength", _M, "mm", -3000, 3000, code="113898"),
        _number("SizeSpecificDoseEstimate", _M, "mGy", 0, 5000, code="113930"),
        _number("XRayFilterAluminumEquivalent", _M, "mm", 0, 100, code="113821"),
        _category("FilterMaterial", _M),
        # the size and region that the console's protocol was made for (Siemens, in a comment)
        _category("ProtocolBodySize", _M),
        _category("ProtocolBodyRegion", _M),
        _category("ProtocolOrganCharacteristic", _M),
        # Dose Check (TID 10015): what was configured, and what the console foretold
        _number("DLPAlertValue", _M, "mGy.cm", 0, 100000, code="113903"),
        _number("CTDIvolAlertValue", _M, "mGy", 0, 5000, code="113904"),
        _number("DLPNotificationValue", _M, "mGy.cm", 0, 100000, code="113911"),
        _number("CTDIvolNotificationValue", _M, "mGy", 0, 5000, code="113912"),
        _number("AccumulatedDLPForwardEstimate", _M, "mGy.cm", 0, 100000, code="113905"),
        _number("AccumulatedCTDIvolForwardEstimate", _M, "mGy", 0, 5000, code="113906"),
        _number("DLPForwardEstimate", _M, "mGy.cm", 0, 100000, code="113913"),
        _number("CTDIvolForwardEstimate", _M, "mGy", 0, 5000, code="113914"),
        _category("DoseCheckAlertReasonForProceeding", _M, code="113907"),
        _category("DoseCheckNotificationReasonForProceeding", _M, code="113907"),
        # --- who lies on the table
        _number("PatientAge", _P, "a", 0, 130),
        _category("PatientSex", _P),
        _number("PatientSize", _P, "m", 0.2, 2.6),
        _number("PatientWeight", _P, "kg", 0.3, 400),
        _number("WaterEquivalentDiameter", _P, "mm", 40, 700),
        # --- what the command is for
        _category("BodyPartExamined", _O),
        _category("ProtocolName", _O),
        _category("ProtocolElementName", _O),
        _category("RequestedProcedureDescription", _O),
        _category("StudyDescription", _O),
    )
}

# An AEC works on size; whoever has a better measure should be heard first.
SIZE_FIELDS = ("WaterEquivalentDiameter", "PatientWeight", "PatientSize", "PatientAge")

PATIENT_FIELDS = tuple(name for name, field in FIELDS.items() if field.group is Group.PATIENT)
OBJECTIVE_FIELDS = tuple(name for name, field in FIELDS.items() if field.group is Group.OBJECTIVE)
CONTEXT_FIELDS = PATIENT_FIELDS + OBJECTIVE_FIELDS

HEAD_PHANTOM = "IEC Head Dosimetry Phantom"  # 16 cm, code 113690
BODY_PHANTOM = "IEC Body Dosimetry Phantom"  # 32 cm, code 113691
PHANTOM_DIAMETER_CM = {HEAD_PHANTOM: 16, BODY_PHANTOM: 32}


def unit_of(name: str) -> str:
    """Unit of a known field, empty for categories and unknown ones."""
    field = FIELDS.get(name)
    return field.unit if field else ""
