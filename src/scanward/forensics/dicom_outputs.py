"""What a detector found, as DICOM beside the original: a heat map (Secondary Capture) and a Structured Report.

Both belong to the original's patient and study, in series of their own, and reference the original image; both say in
words, the heat map in its pixels too, that they are a detector's output and not for diagnosis. Nothing here opens a
network connection.

Sources: PS3.3 A.8.1 (Secondary Capture), A.35.2 (Enhanced SR), C.7.6.1 and C.12.4 (source images), C.17.3 (content
items), C.18 (value types).
"""

from __future__ import annotations

import datetime
import hashlib
import io
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from scanward import __version__
from scanward.config import FINDING_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.forensics.dicom_content import report_content
from scanward.forensics.dicom_words import MAKER, SCHEME, code
from scanward.mammography.dicom_headers import open_dicom, parsing, text_of
from scanward.mammography.dicom_pixels import read_stored
from scanward.tampering.marking import stamp, write_whole
from scanward.transport.dicom_part10 import is_uid

MARK: Final = "DETECTOR OUTPUT - NOT FOR DIAGNOSIS"
WARNING: Final = (
    "Output of a detector of modified images. Not for diagnosis, and no proof of tampering or of its absence."
)

SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
ENHANCED_SR: Final = "1.2.840.10008.5.1.4.1.1.88.22"

# Who was imaged, and in which study: carried over as the original has it (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2).
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_OPTIONAL = (
    "IssuerOfPatientID",
    "PatientAge",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyDescription",
    "TimezoneOffsetFromUTC",
)
_LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_LOSSY_SYNTAXES: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203))
_ALPHA: Final = 0.65  # share of the colour where the heat is 1; the picture stays visible below


class Finding(Protocol):
    """What is written: `scanward.forensics.examining.Found` has it."""

    @property
    def p_value(self) -> float:
        """Share of genuine images that look at least as strange."""
        ...

    @property
    def likelihood_ratio(self) -> float:
        """How much commoner such a score is among modified images."""
        ...

    @property
    def alarm(self) -> bool:
        """The verdict at the false-alarm rate that was asked for."""
        ...

    @property
    def heat(self) -> NDArray[np.float32]:
        """(rows, columns) in [0, 1], over the picture as it is stored."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """The evidence, in sentences."""
        ...


def write_heat_map(
    found: Finding, source: Path, out: Path, model: str = "", *, now: datetime.datetime | None = None
) -> Path:
    """Write the heat map over the picture as a Secondary Capture: RGB, 8 bits, explicit VR little endian.

    Parameters
    ----------
    found : Finding
        ``heat`` of another size than the picture is stretched to it.
    source : Path
        The original DICOM image.
    out : Path
        The file to write, whole or not at all.
    model : str
        Fingerprint of the detector.
    now : datetime, optional
        Aware; the time of writing when None.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    DecodeError
        The source is no DICOM image that can be shown and referenced.
    InputError
        ``out`` cannot be written.
    """
    now = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    stored = read_stored(source)
    original = stored.dataset
    shown = (stored.reading.full() >> 8).astype(np.uint8)
    step = max(1, -(-max(shown.shape) // FINDING_BOUNDS.heat_side))
    times = max(1, -(-FINDING_BOUNDS.heat_side_least // max(shown.shape)))
    shown = shown[::step, ::step].repeat(times, axis=0).repeat(times, axis=1)
    heat = _stretched(found.heat, shown.shape)
    with parsing("a header that cannot be carried over", source):
        ds = _carried(original, source)
        digest = hashlib.sha256(heat.tobytes() + repr(found.p_value).encode()).hexdigest()
        _identify(ds, original, SECONDARY_CAPTURE, "heat map", model, digest, now)
        ds.Modality = "OT"
        ds.SeriesDescription = "DETECTOR HEAT MAP - NOT FOR DIAGNOSIS"
        ds.ConversionType = "WSD"
        ds.ImageType = ["DERIVED", "SECONDARY"]
        ds.ContentDate, ds.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        ds.ImageComments = f"{MARK}. {WARNING}"
        size = f" Every {step}. pixel of the original." if step > 1 else ""
        size = f" Every pixel of the original {times} times each way." if times > 1 else size
        ds.DerivationDescription = (
            f"Heat map of a detector of modified images (yellow to red: the stranger, the redder) over the "
            f"picture.{size} Model {model or 'not named'}. Scanward {__version__}."
        )[:1024]
        ds.DerivationCodeSequence = Sequence(
            [code("heat-map", SCHEME, "Heat map of a detector over the image")]
        )
        ds.SourceImageSequence = Sequence([_source(original, preserved=step == times == 1)])
        ds.BurnedInAnnotation = "YES" if text_of(original, "BurnedInAnnotation").upper() == "YES" else "NO"
        if side := text_of(original, "ImageLaterality") or text_of(original, "Laterality"):
            ds.Laterality = side
        ds.PatientOrientation = [str(one) for one in original.get("PatientOrientation") or []]
        if "BodyPartExamined" in original:
            ds.BodyPartExamined = text_of(original, "BodyPartExamined")
        _history(ds, original)
        picture = stamp(_coloured(shown, heat), MARK, greys=(0, 255))
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.Rows, ds.Columns = picture.shape[:2]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        data = np.ascontiguousarray(picture).tobytes()
        ds.add_new(0x7FE00010, "OB", data + b"\0" * (len(data) % 2))
        written = _encoded(ds)
    return _written(out, written)


def write_report(
    found: Finding, source: Path, out: Path, model: str, *, now: datetime.datetime | None = None
) -> Path:
    """Write p-value, likelihood ratio, verdict, model, evidence and regions as an Enhanced SR.

    Parameters and errors as for `write_heat_map`. A likelihood ratio that is no finite number is said by a qualifier
    (CID 42). Regions are where the heat is at least half its maximum, when there is an alarm: rectangles as SCOORD.
    """
    now = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    original = open_dicom(source, pixels=False)
    with parsing("a header that cannot be carried over", source):
        ds = _carried(original, source)
        heat = np.nan_to_num(np.asarray(found.heat, dtype=np.float32))
        told = repr((found.p_value, found.likelihood_ratio, found.alarm, found.words)).encode()
        digest = hashlib.sha256(heat.tobytes() + told).hexdigest()
        _identify(ds, original, ENHANCED_SR, "report", model, digest, now)
        ds.Modality = "SR"
        ds.SeriesDescription = "DETECTOR REPORT - NOT FOR DIAGNOSIS"
        ds.ReferencedPerformedProcedureStepSequence = Sequence([])
        ds.PerformedProcedureCodeSequence = Sequence([])
        ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
        ds.ContentDate, ds.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        ds.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(ds, original)])
        size = int(original.get("Rows") or 0), int(original.get("Columns") or 0)
        content = report_content(found, _reference(original), model, WARNING, size)
        ds.update(content)
        written = _encoded(ds)
    return _written(out, written)


# --- parts of both


def _carried(original: Dataset, source: Path) -> Dataset:
    """Patient and study of the original, in UTF-8; DecodeError when it cannot be referenced."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not is_uid(text_of(original, keyword)):
            raise DecodeError(f"no valid {keyword}", str(source), "get the file again from its source")
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _REQUIRED:
        setattr(ds, keyword, _plain(original, keyword))
    for keyword in _OPTIONAL:
        if keyword in original:
            setattr(ds, keyword, _plain(original, keyword))
    if "DeidentificationMethodCodeSequence" in original:
        ds.DeidentificationMethodCodeSequence = original.DeidentificationMethodCodeSequence
    if text_of(original, "SyntheticData"):
        ds.add_new(0x0008001C, "CS", text_of(original, "SyntheticData"))
    ds.StudyInstanceUID = text_of(original, "StudyInstanceUID")
    return ds


def _plain(original: Dataset, keyword: str) -> str | list[str]:
    """A value as text: written again in the character set of the new object."""
    value = original.get(keyword)
    if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue":
        return [str(one) for one in value or []]
    return "" if value is None else str(value)


def _identify(
    ds: Dataset,
    original: Dataset,
    sop_class: str,
    kind: str,
    model: str,
    digest: str,
    now: datetime.datetime,
) -> None:
    """New instance; one series for all of a kind, a model and a study. Equipment, coding scheme, who made it."""
    study, instance = text_of(original, "StudyInstanceUID"), text_of(original, "SOPInstanceUID")
    ds.SOPClassUID = UID(sop_class)
    ds.SOPInstanceUID = _uid("instance", kind, instance, model, digest, now.isoformat())
    ds.SeriesInstanceUID = _uid("series", kind, study, model)
    number = text_of(original, "SeriesNumber")
    ds.SeriesNumber = (int(number) if number.isdigit() and len(number) < 6 else 0) + (
        9000 if kind == "report" else 9500
    )
    within = text_of(original, "InstanceNumber")
    ds.InstanceNumber = int(within) if within.isdigit() and len(within) < 9 else 1
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.InstanceCreationDate, ds.InstanceCreationTime = date, time
    ds.Manufacturer, ds.ManufacturerModelName = MAKER, "scanward detect"
    ds.DeviceSerialNumber, ds.SoftwareVersions = (model or "none")[:64], __version__
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Codes of the Scanward project"
    scheme.CodingSchemeResponsibleOrganization = MAKER
    ds.CodingSchemeIdentificationSequence = Sequence([scheme])
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = Sequence([code("109102", "DCM", "Processing Equipment")])
    ours.Manufacturer, ours.ManufacturerModelName, ours.SoftwareVersions = (
        MAKER,
        "scanward detect",
        __version__,
    )
    ours.ContributionDateTime = f"{date}{time}+0000"
    ours.ContributionDescription = WARNING
    ds.ContributingEquipmentSequence = Sequence([ours])


def _uid(*parts: str) -> UID:
    """A UID as PS3.5 B.2 makes them of UUIDs (version 8: of a hash)."""
    digest = bytearray(hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UID(f"2.25.{uuid.UUID(bytes=bytes(digest)).int}")


def _reference(original: Dataset) -> Dataset:
    item: Any = Dataset()
    item.ReferencedSOPClassUID = text_of(original, "SOPClassUID")
    item.ReferencedSOPInstanceUID = text_of(original, "SOPInstanceUID")
    return item  # type: ignore[no-any-return]


def _source(original: Dataset, *, preserved: bool) -> Dataset:
    item = _reference(original)
    if preserved:
        item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = Sequence(
        [code("121322", "DCM", "Source image for image processing operation")]
    )
    return item


def _evidence(ds: Dataset, original: Dataset) -> Dataset:
    """The original in the form of PS3.3 table 10-4: study, series, instance."""
    series = Dataset()
    series.SeriesInstanceUID = text_of(original, "SeriesInstanceUID")
    series.ReferencedSOPSequence = Sequence([_reference(original)])
    study = Dataset()
    study.StudyInstanceUID = ds.StudyInstanceUID
    study.ReferencedSeriesSequence = Sequence([series])
    return study


def _history(ds: Dataset, original: Dataset) -> None:
    """What was lost stays lost (C.7.6.1.1.5)."""
    syntax = str(getattr(original, "file_meta", Dataset()).get("TransferSyntaxUID", ""))
    for keyword in _LOSSY:
        if keyword in original:
            setattr(ds, keyword, _plain(original, keyword))
    if syntax in _LOSSY_SYNTAXES:
        ds.LossyImageCompression = "01"


# --- the picture


def _stretched(heat: NDArray[np.float32], shape: Iterable[int]) -> NDArray[np.float32]:
    """The heat at each pixel of a picture of another size (nearest), finite and in [0, 1]."""
    found = np.asarray(heat, dtype=np.float32)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"heat is (rows, columns), not {found.shape}")
    rows, columns = (
        (np.arange(target) * have // target) for target, have in zip(shape, found.shape, strict=True)
    )
    return np.clip(np.nan_to_num(found[np.ix_(rows, columns)]), 0.0, 1.0)


def _coloured(shown: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(r, c, 3): grey where the heat is 0, over yellow to red where it is 1."""
    weight = (_ALPHA * heat)[..., None]
    colour = np.stack([np.full_like(heat, 255.0), 255.0 * (1.0 - heat), np.zeros_like(heat)], axis=-1)
    mixed = shown[..., None].astype(np.float32) * (1.0 - weight) + colour * weight
    coloured: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return coloured


def _encoded(ds: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _written(out: Path, content: bytes) -> Path:
    try:
        write_whole(out, content)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(out), "give another path") from error
    return out
