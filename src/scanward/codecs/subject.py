"""Who lies on the table, on which device, for what: read from the general modules of any DICOM object.

Patient name, patient ID, birth date, UIDs and serial numbers go no further than this module: what leaves it
are keyed hashes, coarse ages, and nothing else (see ``docs/recordings-dose-reports.md``, "What is kept").

Sources: PS3.3 C.7.1.1, C.7.2.1, C.7.2.2 (patient, study), C.7.5.1 (equipment), C.4.11 (request).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pydicom

from scanward.codecs.dicom_files import items_of, number_of, text_of
from scanward.codecs.values import age_between, age_in_years, seconds_of
from scanward.commands import Context, Device, Source, Told, Value

Pseudonym = Callable[[str], str]

_MAX_TEXT = 256  # characters kept of any description; LO allows 64


# Texts that people type, and into which a name may slip.
FREE_TEXTS = frozenset(
    {"ProtocolName", "ProtocolElementName", "StudyDescription", "RequestedProcedureDescription"}
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What every command of one DICOM object shares.

    ``began`` is the study's start in seconds on a naive clock; ``qa_texts`` are words to look for QA in,
    the patient's name among them, and must not be kept.
    """

    device: Device
    examination: str | None
    parts: Mapping[str, Value]
    began: float | None
    qa_texts: tuple[str, ...]
    names: tuple[str, ...]

    def context(self, extra: Mapping[str, Value], sources: Mapping[str, Source] | None = None) -> Context:
        """The shared context with what one command adds; ``HOST`` unless ``sources`` says otherwise."""
        told = {
            field: self.without_names(value) if isinstance(value, str) and field in FREE_TEXTS else value
            for field, value in {**self.parts, **extra}.items()
        }
        sources = sources or {}
        return Context({k: (Told(v, sources.get(k, Source.HOST)),) for k, v in told.items()})

    def without_names(self, text: str) -> str:
        """``text`` with the patient's name and ID taken out of it."""
        for name in self.names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "***", text, flags=re.IGNORECASE)
        return text


def subject_of(ds: pydicom.Dataset, pseudonym: Pseudonym) -> Subject:
    """Read the general modules. Whatever is absent, zero for no value, or unreadable is left out."""
    parts: dict[str, Value] = {}
    age = age_in_years(text_of(ds, "PatientAge"))
    if age is None:
        seen = text_of(ds, "StudyDate") or text_of(ds, "AcquisitionDate") or text_of(ds, "ContentDate")
        age = age_between(text_of(ds, "PatientBirthDate"), seen)
    if age is not None:
        parts["PatientAge"] = age
    for field in ("PatientSize", "PatientWeight"):
        number = number_of(ds, field)
        if number is not None and number > 0:  # 0 is how consoles write "not entered"
            parts[field] = number
    request = next(items_of(ds, "RequestAttributesSequence"), pydicom.Dataset())
    texts = {
        "PatientSex": text_of(ds, "PatientSex").upper(),
        "BodyPartExamined": text_of(ds, "BodyPartExamined").upper(),
        "ProtocolName": text_of(ds, "ProtocolName"),
        "StudyDescription": text_of(ds, "StudyDescription"),
        "RequestedProcedureDescription": text_of(ds, "RequestedProcedureDescription")
        or text_of(request, "RequestedProcedureDescription"),
    }
    parts.update({field: text[:_MAX_TEXT] for field, text in texts.items() if text})
    study, serial = text_of(ds, "StudyInstanceUID"), text_of(ds, "DeviceSerialNumber")
    patient = (text_of(ds, "PatientName"), text_of(ds, "PatientID"))
    return Subject(
        device=Device(
            text_of(ds, "Manufacturer"),
            text_of(ds, "ManufacturerModelName"),
            pseudonym(serial) if serial else "",
            text_of(ds, "SoftwareVersions").split("\\")[0][:64],
        ),
        examination=pseudonym(study) if study else None,
        parts=parts,
        began=seconds_of(text_of(ds, "StudyDate"), text_of(ds, "StudyTime"))
        if text_of(ds, "StudyDate")
        else seconds_of(text_of(ds, "ContentDate"), text_of(ds, "ContentTime")),
        qa_texts=(
            *patient,
            text_of(ds, "ProtocolName"),
            text_of(ds, "StudyDescription"),
            text_of(ds, "SeriesDescription"),
            texts["RequestedProcedureDescription"],
        ),
        names=tuple(part for name in patient for part in re.split(r"[\^=\s,]+", name) if len(part) >= 3),
    )
