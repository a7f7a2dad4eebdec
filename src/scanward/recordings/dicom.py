"""One DICOM file: recognised by its SOP class, handed to its codec, never an exception for what is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from scanward.codecs.dicom_files import open_dicom, text_of
from scanward.codecs.image_headers import CT_IMAGE, ENHANCED_CT_IMAGE, SliceHeader, read_slices
from scanward.codecs.rdsr_draft import DoseReport
from scanward.commands import Origin
from scanward.errors import DecodeError, InputError
from scanward.recordings.books import Entry, Rejected
from scanward.recordings.pseudonyms import Pseudonyms

DEFINED_PROTOCOL = "1.2.840.10008.5.1.4.1.1.200.1"
PERFORMED_PROTOCOL = "1.2.840.10008.5.1.4.1.1.200.2"
PROTOCOL_APPROVAL = "1.2.840.10008.5.1.4.1.1.200.3"
DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR: an index of files, not a recording

# Written for people: what a class that holds no commands is.
_NOT_COMMANDS = {
    DEFINED_PROTOCOL: "a CT Defined Procedure Protocol belongs in the protocol book, not among recordings",
    PROTOCOL_APPROVAL: "a Protocol Approval belongs in the protocol book, not among recordings",
}


@dataclass
class FileResult:
    """What one file gave: entries in order, or CT slices still to be grouped, or why nothing."""

    path: str
    entries: list[Entry] = field(default_factory=list)
    slices: tuple[SliceHeader, ...] = ()
    notes: list[str] = field(default_factory=list)
    failure: InputError | None = None
    skipped: bool = False


def read_dicom(path: Path, pseudonyms: Pseudonyms) -> FileResult:
    """Decode one DICOM file; a file that cannot be used has a ``failure``."""
    result = FileResult(str(path))
    try:
        _read(path, pseudonyms.of, result)
    except InputError as error:
        result.failure = error
    return result


def read_chunk(paths: list[Path], pseudonyms: Pseudonyms) -> list[FileResult]:
    """Several files, for a worker process."""
    return [read_dicom(path, pseudonyms) for path in paths]


def _read(path: Path, pseudonym: Callable[[str], str], result: FileResult) -> None:
    # A folder of images opens none of the codecs for reports, and the other way round.
    from scanward.codecs.exposure_dose import decode_exposure_dose, is_exposure_dose
    from scanward.codecs.rdsr import decode_dose_report, is_dose_report

    ds = open_dicom(path, name=result.path)
    sop_class = text_of(ds, "SOPClassUID")
    if sop_class in {CT_IMAGE, ENHANCED_CT_IMAGE}:
        result.slices = read_slices(ds, pseudonym=pseudonym, origin=Origin(result.path))
    elif is_dose_report(ds):
        _take_report(decode_dose_report(ds, path=result.path, pseudonym=pseudonym), result)
    elif is_exposure_dose(ds):
        _take_report(decode_exposure_dose(ds, path=result.path, pseudonym=pseudonym), result)
    elif sop_class == PERFORMED_PROTOCOL:
        from scanward.codecs.defined_protocol_performed import decode_performed_protocol

        _take_report(decode_performed_protocol(ds, path=result.path, pseudonym=pseudonym), result)
    elif _is_directory(ds):
        result.skipped = True
    else:
        what = _NOT_COMMANDS.get(sop_class, "a DICOM object that holds no CT commands")
        raise DecodeError(what, result.path, "give dose reports, CT images or CT Performed Protocols")


def _is_directory(ds: pydicom.Dataset) -> bool:
    meta = getattr(ds, "file_meta", None)
    return meta is not None and text_of(meta, "MediaStorageSOPClassUID") == DIRECTORY


def _take_report(report: DoseReport, result: FileResult) -> None:
    for one in report.results:
        rejected = Rejected(Origin(result.path, one.row), one.reason or "the event cannot be used")
        result.entries.append(one.command if one.command is not None else rejected)
    result.notes.extend(report.notes)
