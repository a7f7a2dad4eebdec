"""What might an unknown column be? By its name first, then by whether its numbers fit; a person decides.

A guess is never acted on: it is shown, and written into a dialect for somebody to correct.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from scanward.commands import FIELDS, Kind
from scanward.recordings.units import canonical_unit, factor, units_for

# What nine of ten clinical values lie between, in the unit of the field: narrower than the form range, so
# that a wrong unit shows. Orientation for guessing only; nothing is judged by it.
_TYPICAL: dict[str, tuple[float, float]] = {
    "KVP": (60, 160),
    "XRayTubeCurrentInmA": (5, 1500),
    "Exposure": (0.5, 3000),
    "ExposureTimeInms": (100, 60_000),
    "RevolutionTime": (0.2, 4),
    "SpiralPitchFactor": (0.03, 3.5),
    "SingleCollimationWidth": (0.2, 5),
    "TotalCollimationWidth": (1, 180),
    "TableFeedPerRotation": (0.5, 300),
    "ScanLength": (10, 2000),
    "SliceThickness": (0.3, 12),
    "CTDIvol": (0.02, 300),
    "DLP": (0.5, 8000),
    "PatientAge": (0, 110),
    "PatientSize": (0.3, 2.2),
    "PatientWeight": (0.5, 250),
    "WaterEquivalentDiameter": (60, 550),
    "DataCollectionDiameter": (80, 900),
    "ReconstructionDiameter": (40, 900),
}

# Words of column names, as one word without case, that mean a field.
_WORDS: dict[str, str] = {
    "kv": "KVP", "kvp": "KVP", "tubevoltage": "KVP", "voltage": "KVP", "peakkilovoltage": "KVP",
    "ma": "XRayTubeCurrentInmA", "tubecurrent": "XRayTubeCurrentInmA", "meanma": "XRayTubeCurrentInmA",
    "current": "XRayTubeCurrentInmA", "mamean": "XRayTubeCurrentInmA",
    "mamin": "MinimumXRayTubeCurrent", "minma": "MinimumXRayTubeCurrent",
    "mamax": "MaximumXRayTubeCurrent", "maxma": "MaximumXRayTubeCurrent",
    "mas": "Exposure", "effectivemas": "Exposure", "effmas": "Exposure", "refmas": "QualityReferenceMAs",
    "qualityrefmas": "QualityReferenceMAs", "referencemas": "QualityReferenceMAs",
    "exptime": "ExposureTimeInms", "exposuretime": "ExposureTimeInms", "scantime": "ExposureTimeInms",
    "rotationtime": "RevolutionTime", "rotation": "RevolutionTime", "rotationspeed": "RevolutionTime",
    "rottime": "RevolutionTime", "revolution": "RevolutionTime", "gantryrotation": "RevolutionTime",
    "pitch": "SpiralPitchFactor", "pitchfactor": "SpiralPitchFactor", "helicalpitch": "SpiralPitchFactor",
    "collimation": "TotalCollimationWidth", "totalcollimation": "TotalCollimationWidth",
    "beamcollimation": "TotalCollimationWidth", "beamwidth": "TotalCollimationWidth",
    "detectorcollimation": "TotalCollimationWidth", "singlecollimation": "SingleCollimationWidth",
    "feed": "TableFeedPerRotation", "tablefeed": "TableFeedPerRotation", "scanlength": "ScanLength",
    "rangelength": "ScanLength", "length": "ScanLength", "range": "ScanLength", "tilt": "GantryDetectorTilt",
    "gantrytilt": "GantryDetectorTilt", "sfov": "DataCollectionDiameter", "scanfov": "DataCollectionDiameter",
    "dfov": "ReconstructionDiameter", "fov": "ReconstructionDiameter",
    "recondiameter": "ReconstructionDiameter",
    "recondiametermax": "ReconstructionDiameter", "thickness": "SliceThickness", "slice": "SliceThickness",
    "slicethicknesses": "SliceThickness", "ctdi": "CTDIvol", "ctdivol": "CTDIvol", "dlp": "DLP",
    "doselengthproduct": "DLP", "phantom": "CTDIwPhantomType", "ni": "NoiseIndex", "noise": "NoiseIndex",
    "kernel": "ConvolutionKernel", "kernels": "ConvolutionKernel", "scantype": "AcquisitionType",
    "scanmode": "AcquisitionType", "modulation": "ExposureModulationType", "aec": "ExposureModulationType",
    "filter": "FilterType", "focus": "FocalSpots", "position": "PatientPosition",
    "contrast": "ContrastBolusAgent",
    "tableheight": "TableHeight", "age": "PatientAge", "patientage": "PatientAge", "sex": "PatientSex",
    "gender": "PatientSex", "height": "PatientSize", "patientheight": "PatientSize",
    "weight": "PatientWeight",
    "wed": "WaterEquivalentDiameter", "dw": "WaterEquivalentDiameter", "body": "BodyPartExamined",
    "bodypart": "BodyPartExamined", "bodyparts": "BodyPartExamined", "anatomy": "BodyPartExamined",
    "region": "BodyPartExamined", "protocol": "ProtocolName", "protocolname": "ProtocolName",
    "study": "StudyDescription", "procedure": "RequestedProcedureDescription",
}  # fmt: skip

_ENOUGH = 0.9  # share of numbers that must fit a typical range
_SIMILAR = 0.84  # difflib ratio: one or two letters in a keyword


@dataclass(frozen=True, slots=True)
class Guess:
    """A field a column may stand for, the unit of its cells, and why."""

    field: str
    unit: str
    why: str


def guess(column: str, numbers: Sequence[float], texts: int) -> Guess | None:
    """A guess for an unknown column with these ``numbers`` and so many ``texts``; None when nothing fits."""
    base, unit = _split_unit(column)
    name, why = _by_name(base)
    if name is None:
        return None
    field = FIELDS[name]
    if field.kind is Kind.CATEGORY:
        return Guess(name, "", why)
    if texts > len(numbers) and name != "PatientAge":
        return None  # a number's name over a column of words
    stated = canonical_unit(unit, field.unit) if unit else None
    if stated is not None and (factor(stated, field.unit) is not None):
        return Guess(name, stated, f"{why}, unit by name")
    if name == "PatientAge" and texts:
        return Guess(name, "a", why)
    fitting = guess_unit(name, numbers)
    if fitting is None:
        return None
    return Guess(name, fitting, why if fitting == field.unit else f"{why}, unit by range")


def guess_unit(name: str, numbers: Sequence[float]) -> str | None:
    """The unit in which nine of ten numbers are typical: the field's own if it can be, None when none is."""
    field = FIELDS[name]
    low, high = _TYPICAL.get(name, (field.low, field.high))
    given = [number for number in numbers if number]  # zero is zero in every unit
    if low is None or high is None or not given:
        return field.unit
    for unit in units_for(field.unit):
        by = factor(unit, field.unit)
        if by is not None and sum(low <= n * by <= high for n in given) >= _ENOUGH * len(given):
            return unit
    return None


def _split_unit(column: str) -> tuple[str, str]:
    """``RotationSpeed_s`` and ``Length (mm)`` are a name and a unit."""
    match = re.fullmatch(r"(.+?)\s*[\(\[]\s*([^()\[\]]+?)\s*[\)\]]", column.strip())
    if match is None:
        match = re.fullmatch(r"(.+)_([A-Za-zµμ%.*/]+)", column.strip())
    if match is None:
        return column, ""
    if match[2].casefold() == "min":  # mA_min is the least current, not one in minutes
        return column, ""
    known = any(canonical_unit(match[2], field.unit) for field in FIELDS.values() if field.unit)
    return (match[1], match[2]) if known else (column, "")


def _by_name(base: str) -> tuple[str | None, str]:
    squeezed = "".join(c for c in base.casefold() if c.isalnum())
    for prefix in ("", "patient", "ct", "acq", "scan"):
        short = squeezed.removeprefix(prefix)
        if short in _WORDS and (short != squeezed or not prefix):
            return _WORDS[short], "name"
    keywords = {name.casefold(): name for name in FIELDS}
    if squeezed in keywords:
        return keywords[squeezed], "name"
    if len(squeezed) < 5:
        return None, ""
    close = difflib.get_close_matches(squeezed, [*keywords, *_WORDS], n=1, cutoff=_SIMILAR)
    if not close:
        return None, ""
    return keywords.get(close[0]) or _WORDS[close[0]], "similar name"
