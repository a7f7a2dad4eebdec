"""CT image headers: many slices become few acquisitions. Headers only, no pixel is read.

Classic CT Image Storage (PS3.3 A.3, C.8.2.1) and Enhanced CT Image Storage (A.38, C.8.15.3), whose functional
groups are laid flat frame by frame and then read in the same way.

Two steps, because the slices of one acquisition lie in many files: ``read_slices`` turns one file into slice
headers without identity; ``image_acquisitions.acquisitions`` groups them, whatever order they come in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pydicom

from scanward.codecs.dicom_files import items_of, number_of, numbers_of, text_of
from scanward.codecs.qa import looks_like_qa
from scanward.codecs.subject import Subject, subject_of
from scanward.codecs.values import parse_moment, seconds_of
from scanward.commands import (
    BODY_PHANTOM,
    FIELDS,
    HEAD_PHANTOM,
    Device,
    Mode,
    Origin,
    Value,
)
from scanward.errors import DecodeError

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"

# Field of a command: keywords that carry it, best first (classic and enhanced), all in the field's unit.
NUMBERS: dict[str, tuple[str, ...]] = {
    "KVP": ("KVP",),
    "XRayTubeCurrentInmA": ("XRayTubeCurrentInmA", "XRayTubeCurrent"),
    "Exposure": ("ExposureInmAs", "Exposure"),
    "ExposureTimeInms": ("ExposureTimeInms", "ExposureTime"),
    "CTDIvol": ("CTDIvol",),
    "RevolutionTime": ("RevolutionTime",),
    "SpiralPitchFactor": ("SpiralPitchFactor",),
    "SingleCollimationWidth": ("SingleCollimationWidth",),
    "TotalCollimationWidth": ("TotalCollimationWidth",),
    "TableFeedPerRotation": ("TableFeedPerRotation",),
    "TableSpeed": ("TableSpeed",),
    "TableHeight": ("TableHeight",),
    "GantryDetectorTilt": ("GantryDetectorTilt",),
    "DataCollectionDiameter": ("DataCollectionDiameter",),
    "ReconstructionDiameter": ("ReconstructionDiameter",),
    "SliceThickness": ("SliceThickness",),
    "EstimatedDoseSaving": ("EstimatedDoseSaving",),
}
_TEXTS = (
    "ExposureModulationType",
    "FilterType",
    "FocalSpots",
    "ConvolutionKernel",
    "RotationDirection",
    "PatientPosition",
    "ContrastBolusAgent",
    "AcquisitionType",
)
# Zero is how headers say "unknown" for these.
_NEVER_ZERO = (
    "KVP",
    "RevolutionTime",
    "SpiralPitchFactor",
    "SingleCollimationWidth",
    "TotalCollimationWidth",
)
_PHANTOMS = {"113690": HEAD_PHANTOM, "113691": BODY_PHANTOM}  # PS3.16 CID 4052


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What one slice (or frame) says, identities already hashed.

    ``z`` is the position along the table in mm, ``length`` the extent of a localizer in mm.
    """

    instance: str
    series: str
    study: str
    event: str | None
    acquisition: float | None
    derived: bool
    localizer: bool
    device: Device
    examination: str | None
    context: Mapping[str, Value]
    mode: Mode
    acquired_at: float | None
    z: float | None
    length: float | None
    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    origin: Origin = field(default_factory=Origin)


def read_slices(
    ds: pydicom.Dataset, *, pseudonym: Callable[[str], str], origin: Origin
) -> tuple[SliceHeader, ...]:
    """The slices of one CT image object: one of a classic image, one per frame of an enhanced one.

    Raises
    ------
    DecodeError
        When it is no CT image, names no series, or holds a number that cannot be (NaN, infinite, negative
        where the field forbids). The message names the field, never its value.
    """
    kind = text_of(ds, "SOPClassUID")
    if kind not in {CT_IMAGE, ENHANCED_CT_IMAGE}:
        raise DecodeError("not a CT image", origin.path, "give CT images or dose reports")
    if not text_of(ds, "SeriesInstanceUID"):
        raise DecodeError("the CT image names no series", origin.path, "export it again, with its UIDs")
    subject = subject_of(ds, pseudonym)
    frames = _flattened(ds) if kind == ENHANCED_CT_IMAGE else iter([ds])
    found = tuple(_slice(ds, flat, subject, pseudonym, origin, n) for n, flat in enumerate(frames))
    if not found:
        raise DecodeError("the CT image has no frames", origin.path, "export it again")
    return found


def _flattened(ds: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """One flat data set per frame: general attributes, shared, then per-frame groups (PS3.3 C.7.6.16)."""
    shared = next(items_of(ds, "SharedFunctionalGroupsSequence"), pydicom.Dataset())
    base = pydicom.Dataset()
    for keyword in ("AcquisitionDateTime", "AcquisitionNumber", "ContrastBolusAgent", "PatientPosition"):
        if keyword in ds:
            base[keyword] = ds[keyword]
    base.ImageType = ds.get("ImageType")
    for frame in items_of(ds, "PerFrameFunctionalGroupsSequence"):
        flat = pydicom.Dataset()
        flat.update(base)
        for groups in (shared, frame):
            for element in groups:
                if element.VR != "SQ" or not element.value:
                    continue
                flat.update(element.value[0])
                if len(element.value) > 1:  # the second tube of a dual-source device
                    _second_source(element.keyword, element.value[1], flat)
        if "FrameAcquisitionDateTime" in flat:
            flat.AcquisitionDateTime = flat.FrameAcquisitionDateTime
        if "FrameAcquisitionNumber" in flat:
            flat.AcquisitionNumber = flat.FrameAcquisitionNumber
        if "FrameType" in flat:
            flat.ImageType = flat.FrameType
        yield flat


def _second_source(group: str, item: pydicom.Dataset, flat: pydicom.Dataset) -> None:
    pairs = {
        "CTXRayDetailsSequence": ("KVP", "KVPSourceB"),
        "CTExposureSequence": ("XRayTubeCurrentInmA", "XRayTubeCurrentInmASourceB"),
    }
    if group in pairs:
        keyword, name = pairs[group]
        number = number_of(item, keyword)
        if number is not None:
            object.__setattr__(flat, f"_scanward_{name}", number)


def _slice(
    ds: pydicom.Dataset,
    flat: pydicom.Dataset,
    subject: Subject,
    pseudonym: Callable[[str], str],
    origin: Origin,
    frame: int,
) -> SliceHeader:
    numbers: dict[str, float] = {}
    for name, keywords in NUMBERS.items():
        number = _number(flat, name, keywords, origin)
        if number is not None and not (number == 0 and name in _NEVER_ZERO):
            numbers[name] = number
    for name in ("KVPSourceB", "XRayTubeCurrentInmASourceB"):
        second = getattr(flat, f"_scanward_{name}", None)
        if second is not None and second >= 0:
            numbers[name] = second
    image_type = [part.strip().upper() for part in text_of(flat, "ImageType").split("\\")]
    localizer = "LOCALIZER" in image_type[2:3]
    texts = {name: text for name in _TEXTS if (text := subject.without_names(text_of(flat, name))[:256])}
    if localizer:
        texts.setdefault("AcquisitionType", "CONSTANT_ANGLE")
    phantom = next(items_of(flat, "CTDIPhantomTypeCodeSequence"), pydicom.Dataset())
    if text_of(phantom, "CodeValue") in _PHANTOMS:
        texts["CTDIwPhantomType"] = _PHANTOMS[text_of(phantom, "CodeValue")]
    context = dict(subject.parts)
    diameter = number_of(flat, "WaterEquivalentDiameter") or number_of(ds, "WaterEquivalentDiameter")
    if diameter is not None and diameter > 0:
        context["WaterEquivalentDiameter"] = diameter
    events = sorted(text_of(flat, "IrradiationEventUID").split("\\")) or [""]
    study, series = text_of(ds, "StudyInstanceUID"), text_of(ds, "SeriesInstanceUID")
    return SliceHeader(
        instance=f"{pseudonym(text_of(ds, 'SOPInstanceUID') or origin.path)}/{frame}",
        series=pseudonym(series),
        study=subject.examination or "",
        # one UID as a dose report would hash it, so that report and images meet
        event=pseudonym("\\".join(events)) if events[0] else None,
        acquisition=number_of(flat, "AcquisitionNumber"),
        derived=image_type[0] == "DERIVED",
        localizer=localizer,
        device=subject.device,
        examination=pseudonym(study) if study else None,
        context=context,
        mode=Mode.QA if looks_like_qa(subject.qa_texts) else Mode.CLINICAL,
        acquired_at=_moment(flat),
        z=_z(flat),
        length=_extent(flat, ds) if localizer else None,
        numbers=numbers,
        texts=texts,
        origin=origin,
    )


def _number(flat: pydicom.Dataset, name: str, keywords: Sequence[str], origin: Origin) -> float | None:
    for keyword in keywords:
        values = numbers_of(flat, keyword)
        if len(values) != 1:
            continue
        value = values[0]
        known = FIELDS[name]
        problem = ""
        if not math.isfinite(value):
            problem = "is not a finite number"
        elif known.low is not None and known.low >= 0 > value:
            problem = "is negative"
        if problem:
            raise DecodeError(f"{name} {problem}", origin.path, "export the image again")
        return value
    return None


def _moment(flat: pydicom.Dataset) -> float | None:
    moment = parse_moment(text_of(flat, "AcquisitionDateTime"))
    if moment is None:
        moment = seconds_of(text_of(flat, "AcquisitionDate"), text_of(flat, "AcquisitionTime"))
    return moment


def _z(flat: pydicom.Dataset) -> float | None:
    """Along the table: the third component of Image Position (Patient), else Slice Location, in mm."""
    position = numbers_of(flat, "ImagePositionPatient")
    z = position[2] if len(position) == 3 else number_of(flat, "SliceLocation")
    return z if z is not None and math.isfinite(z) else None


def _extent(flat: pydicom.Dataset, ds: pydicom.Dataset) -> float | None:
    spacing, rows = numbers_of(flat, "PixelSpacing"), number_of(ds, "Rows")
    if len(spacing) == 2 and rows and math.isfinite(spacing[0]) and spacing[0] > 0:
        return spacing[0] * rows
    return None
