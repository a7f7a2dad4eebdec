"""Secondary captures with an Exposure Dose Sequence (0040,030E): what Philips wrote before dose reports.

One item is one acquisition. DLP stands in a private element of ELSCINT1. The attributes around the sequence
(table height, tilt, mAs, ...) are those of the picture, not of any one acquisition, and are not taken.

Source: PS3.3 C.4.16 (radiation dose module: Exposure Dose Sequence, units of its attributes).
"""

from __future__ import annotations

import math

import pydicom

from scanward.codecs.dicom_files import items_of, numbers_of, text_of, unreadable_elements
from scanward.codecs.qa import looks_like_qa
from scanward.codecs.rdsr_concepts import PHANTOMS
from scanward.codecs.rdsr_draft import Decoded, DoseReport, Draft, EventRejected
from scanward.codecs.rdsr_quirks import apply_quirks, quirk_notes
from scanward.codecs.subject import Pseudonym, subject_of
from scanward.codecs.values import parse_moment, tidy
from scanward.commands import Command, Mode, Origin, Role
from scanward.errors import DecodeError

# attribute -> (field, factor to the field's unit), in order of preference
_NUMBERS = (
    ("KVP", "KVP", 1.0),
    ("XRayTubeCurrentInuA", "XRayTubeCurrentInmA", 1e-3),
    ("XRayTubeCurrentInmA", "XRayTubeCurrentInmA", 1.0),
    ("XRayTubeCurrent", "XRayTubeCurrentInmA", 1.0),
    ("ExposureTimeInms", "ExposureTimeInms", 1.0),
    ("ExposureTime", "ExposureTimeInms", 1.0),
    ("ScanLength", "ScanLength", 1.0),
    ("SingleCollimationWidth", "SingleCollimationWidth", 1.0),
    ("TotalCollimationWidth", "TotalCollimationWidth", 1.0),
    ("SpiralPitchFactor", "SpiralPitchFactor", 1.0),
    ("RevolutionTime", "RevolutionTime", 1.0),
    ("CTDIvol", "CTDIvol", 1.0),
    ("Exposure", "Exposure", 1.0),
    ("EstimatedDoseSaving", "EstimatedDoseSaving", 1.0),
)
_TEXTS = ("AcquisitionType", "FilterType", "ExposureModulationType")
_PRIVATE_GROUP, _PRIVATE_CREATOR, _PRIVATE_DLP = 0x00E1, "ELSCINT1", 0x21


def is_exposure_dose(ds: pydicom.Dataset) -> bool:
    """Whether ``ds`` carries an Exposure Dose Sequence with items."""
    return next(items_of(ds, "ExposureDoseSequence"), None) is not None


def decode_exposure_dose(ds: pydicom.Dataset, *, path: str, pseudonym: Pseudonym) -> DoseReport:
    """All acquisitions of the sequence, in its order; signature and errors as ``decode_dose_report``."""
    subject = subject_of(ds, pseudonym)
    items = list(items_of(ds, "ExposureDoseSequence"))
    if not items:
        raise DecodeError("no Exposure Dose Sequence with items", path, "leave it out of the recordings")
    texts = [*subject.qa_texts, *(text_of(item, "SeriesDescription") for item in items)]
    mode = Mode.QA if looks_like_qa(texts) else Mode.CLINICAL
    instance = text_of(ds, "SOPInstanceUID")
    results, rules = [], dict[str, int]()
    for row, item in enumerate(items):
        draft = Draft(row, manufacturer=subject.device.manufacturer)
        try:
            _read(item, draft)
            for name in apply_quirks(draft):
                rules[name] = rules.get(name, 0) + 1
            if not draft.parameters:
                raise EventRejected("the event holds no parameters")
        except EventRejected as error:
            results.append(Decoded(row, None, str(error)))
            continue
        uid = text_of(item, "IrradiationEventUID") or (f"{instance}#{row}" if instance else "")
        command = Command(
            parameters=draft.parameters,
            context=subject.context(draft.context),
            device=subject.device,
            role=Role.PERFORMED,
            examination=subject.examination,
            acquired_at=subject.began if draft.started is None else draft.started,
            order=float(row),
            event=pseudonym(uid) if uid else None,
            mode=mode,
            origin=Origin(path, row),
        )
        results.append(Decoded(row, command))
    notes = list(quirk_notes(rules))
    if unreadable_elements(ds):
        notes.append(f"elements that cannot be decoded were left out: {', '.join(unreadable_elements(ds))}")
    return DoseReport(tuple(results), tuple(notes))


def _read(item: pydicom.Dataset, draft: Draft) -> None:
    for keyword, field, factor in _NUMBERS:
        _take(numbers_of(item, keyword), field, factor, draft)
    _take(_private_dlp(item), "DLP", 1.0, draft)
    for keyword in _TEXTS:
        text = text_of(item, keyword).upper()
        if text:
            draft.parameters[keyword] = text
    materials = text_of(item, "FilterMaterial").upper()
    if materials:
        draft.parameters["FilterMaterial"] = materials.replace("\\", "+")
    phantom = next(items_of(item, "CTDIPhantomTypeCodeSequence"), None)
    if phantom is not None:
        code = text_of(phantom, "CodeValue")
        draft.parameters["CTDIwPhantomType"] = PHANTOMS.get(code) or text_of(phantom, "CodeMeaning") or code
    description = text_of(item, "SeriesDescription")
    if description:
        draft.context["ProtocolElementName"] = description
    region = text_of(item, "BodyPartExamined").upper()
    if region:
        draft.context["BodyPartExamined"] = region
    draft.started = parse_moment(text_of(item, "AcquisitionDateTime"))


def _take(numbers: tuple[float, ...], field: str, factor: float, draft: Draft) -> None:
    if not numbers or field in draft.parameters:
        return
    scaled = tuple(n if factor == 1.0 else tidy(n * factor) for n in numbers)
    if len(scaled) == 1:
        draft.set_number(field, scaled[0])
        return
    if not all(math.isfinite(n) and n >= 0 for n in scaled):
        raise EventRejected(f"{field} is not a finite number of the right sign")
    draft.several.setdefault(field, scaled)


def _private_dlp(item: pydicom.Dataset) -> tuple[float, ...]:
    """(00E1,xx21) of ELSCINT1, whatever type pydicom gave it."""
    try:
        value = item.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR)[_PRIVATE_DLP].value
    except KeyError:
        return ()
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip(" \x00")
    if value is None or value == "":
        return ()
    try:
        return (float(value),)
    except (TypeError, ValueError):
        raise EventRejected("DLP cannot be read as a number") from None
