"""A modified picture as DICOM that says so, and that can be filed with no patient.

Marks (PS3.3): Synthetic Data (0008,001C) YES (C.12.1), ImageType DERIVED\\SECONDARY (C.7.6.1.1.2), Derivation
Description and Code, Source Image Sequence (General Reference, C.12.4), Contributing Equipment Sequence (C.12.1),
Content Qualification RESEARCH (C.8.13.2.1.1), Image Comments, Burned In Annotation. None of them is optional.

The output is a study of its own, of a patient that does not exist: no archive can file it with the woman's genuine
images. Attributes are carried over by a list of those that describe the picture and how it was made
(`scanward.tampering.dicom_kept`); every other one, private ones included, stays behind, and with it whatever names
people, places or dates. That is stricter than the Basic Application Level Confidentiality Profile (PS3.15 E.1), with
one exception: the original's SOP Instance UID stands in the Source Image Sequence (Retain UIDs Option).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import io
import re
import uuid
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from scanward import __version__
from scanward.errors import DecodeError
from scanward.mammography.dicom_headers import parsing, text_of
from scanward.tampering.dicom_kept import CODE, KEPT, KEPT_SEQUENCES
from scanward.tampering.marking import MARK, WARNING, stamp, write_whole

Mask = NDArray[np.bool_]
SCHEME = "99SCANWARD"
MAKER = "Scanward"

# What this is written for (PS3.4 B.5): single pictures of a breast.
CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2": "Digital Mammography X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "Digital Mammography X-Ray, for processing",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray, for processing",
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
}
# Transfer syntaxes that lose information: what went through one has LossyImageCompression 01 for ever (C.7.6.1.1.5).
_LOSSY = frozenset(
    {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.203",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to a picture, as its DICOM form tells it. ``now`` is in UTC."""

    direction: str
    text: str  # for the Derivation Description: model, preset, seed, hash of the original
    visible: bool
    now: datetime.datetime


@dataclass(frozen=True, slots=True)
class Names:
    """Pseudonyms and UIDs out of originals', under a key that stays with whoever made the outputs."""

    key: bytes

    def token(self, letter: str, text: str) -> str:
        """``letter`` and 16 hexadecimal digits."""
        return letter + self._digest(letter, text).hex()[:16]

    def uid(self, what: str, text: str) -> UID:
        """A UID as PS3.5 B.2 makes them of UUIDs (version 8: of a hash)."""
        digest = bytearray(self._digest(what, text)[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return UID(f"2.25.{uuid.UUID(bytes=bytes(digest)).int}")

    def _digest(self, what: str, text: str) -> bytes:
        return hmac.new(
            self.key, f"{what}\0{text}".encode("utf-8", "surrogateescape"), hashlib.sha256
        ).digest()


def refuse_unsuitable(ds: Dataset, path: Path) -> None:
    """Refuse, before work is done, an image that cannot be written again truthfully.

    Raises
    ------
    DecodeError
        Another kind of object, without identifiers of its own, or with words of somebody else burned in: they may
        name the patient, and the output would claim that nothing does.
    """
    with parsing("a header that cannot be read", path):
        kind, instance = text_of(ds, "SOPClassUID"), text_of(ds, "SOPInstanceUID")
        burned = text_of(ds, "BurnedInAnnotation").upper() == "YES" and not is_ours(ds)
    if kind not in CLASSES:
        shown = kind if _is_uid(kind) else "none"
        raise DecodeError(
            f"SOP class {shown} is not one of a single mammogram",
            str(path),
            f"give {', '.join(CLASSES.values())}",
        )
    if not _is_uid(instance):
        raise DecodeError("no valid SOP Instance UID", str(path), "get the file again from its source")
    if burned:
        raise DecodeError(
            "words are burned into the picture (BurnedInAnnotation YES), and they may name the patient",
            str(path),
            "clean the pixels first and set BurnedInAnnotation NO",
        )


def _is_uid(text: str) -> bool:
    """Whether it has the form of PS3.5 9.1."""
    return len(text) <= 64 and re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*))+", text) is not None


def is_ours(ds: Dataset) -> bool:
    """Whether Scanward wrote this data set."""
    items = ds.get("ContributingEquipmentSequence") or []
    return text_of(ds, "SyntheticData") == "YES" and any(
        text_of(item, "Manufacturer") == MAKER for item in items
    )


def write_dicom(
    path: Path,
    original: Dataset,
    stored: NDArray[np.int32],
    change: Change,
    names: Names,
    *,
    patient: str,
    low: int,
    rising: bool,
    within: Mask | None = None,
    fixed: Mask | None = None,
) -> bytes:
    """Write a modified picture as Explicit VR Little Endian DICOM, whole or not at all, marked.

    Parameters
    ----------
    path : Path
        Where to.
    original : Dataset
        The original's data set; left as it is.
    stored : int32 array (r, c)
        New stored values, without a visible mark.
    change : Change
        What was done; ``change.visible`` burns the words in, the metadata are written whatever it is.
    names : Names
        The key of new identifiers.
    patient : str
        The original's patient, to be replaced by a pseudonym.
    low, rising : int, bool
        Least stored value of the original's grey scale, and whether higher values are brighter.
    within, fixed : bool arrays (r, c), optional
        The breast, and padding (of no grey value).

    Returns
    -------
    bytes
        What was written.

    Raises
    ------
    DecodeError
        The original's header cannot be carried over.
    """
    if change.visible:
        stored = _stamped(stored, low, rising, within, fixed)
    with parsing("a header that cannot be carried over", path):
        ds = _kept(original, KEPT)
        _identify(ds, original, names, patient, change)
        _mark(ds, original, change)
        allocated = int(original.BitsAllocated)
        signed = int(original.PixelRepresentation)
        data = stored.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
        ds.add_new(0x7FE00010, "OB" if allocated == 8 else "OW", data + b"\0" * (len(data) % 2))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = ds.SOPClassUID
        meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta = meta
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
    written = buffer.getvalue()
    write_whole(path, written)
    return written


def _stamped(
    stored: NDArray[np.int32], low: int, rising: bool, within: Mask | None, fixed: Mask | None
) -> NDArray[np.int32]:
    """Bright words with a dark outline as it is seen, whichever way the grey scale runs; in greys that are there."""
    seen = stored if fixed is None or fixed.all() else stored[~fixed]
    ends = int(seen.min()) - low, int(seen.max()) - low
    dark, bright = ends if rising else ends[::-1]
    marked = stamp(
        (stored - low).astype(np.uint16), within=within, greys=None if dark == bright else (dark, bright)
    )
    return marked.astype(np.int32) + low


def _kept(original: Dataset, keywords: Iterable[str]) -> Dataset:
    """A data set of only these attributes; of sequences only what `KEPT_SEQUENCES` allows in their items."""
    kept = Dataset()
    for keyword in keywords:
        if keyword not in original:
            continue
        element = original[keyword]
        if element.VR not in dictionary_VR(element.tag).split(" or "):
            continue  # what is not written as it should be may be anything
        if element.VR == "SQ":
            inner = KEPT_SEQUENCES.get(keyword, CODE)
            items = [_kept(item, inner) for item in element.value]
            kept[keyword] = type(element)(element.tag, "SQ", Sequence(items))
        else:
            kept[keyword] = element
    return kept


def _identify(ds: Dataset, original: Dataset, names: Names, patient: str, change: Change) -> None:
    """New identifiers and an invented patient; what the standard wants there is there, and empty."""
    instance = text_of(original, "SOPInstanceUID")
    study = text_of(original, "StudyInstanceUID") or instance
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPInstanceUID = names.uid("instance", f"{instance}\n{change.text}\n{change.visible}")
    ds.SeriesInstanceUID = names.uid("series", f"{study}\n{change.direction}")
    ds.StudyInstanceUID = names.uid("study", f"{study}\n{change.direction}")
    if "FrameOfReferenceUID" in original:
        ds.FrameOfReferenceUID = names.uid("frame", f"{text_of(original, 'FrameOfReferenceUID')}\n{study}")
        ds.PositionReferenceIndicator = ""
    ds.PatientID = names.token("SCANWARD-", patient or study)
    ds.PatientName = f"MODIFIED^{ds.PatientID}"
    for keyword in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"):
        setattr(ds, keyword, "")
    ds.StudyID = "SCANWARD"
    if "AcquisitionContextSequence" in original:
        ds.AcquisitionContextSequence = Sequence([])
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = ["Only attributes of the picture kept", f"Scanward {__version__}"]
    ds.DeidentificationMethodCodeSequence = Sequence(
        [
            _code("113100", "DCM", "Basic Application Confidentiality Profile"),
            _code("113110", "DCM", "Retain UIDs Option"),
        ]
    )
    ds.LongitudinalTemporalInformationModified = "REMOVED"


def _mark(ds: Dataset, original: Dataset, change: Change) -> None:
    """Everything that says what this is."""
    date, time = change.now.strftime("%Y%m%d"), change.now.strftime("%H%M%S")
    ds.add_new(0x0008001C, "CS", "YES")  # Synthetic Data
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.InstanceCreationDate = ds.ContentDate = ds.StudyDate = date
    ds.InstanceCreationTime = ds.ContentTime = ds.StudyTime = time
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.StudyDescription = "MODIFIED - SCANWARD RESEARCH"
    ds.SeriesDescription = f"MODIFIED ({change.direction}) - NOT FOR DIAGNOSIS"
    ds.ImageComments = f"{MARK}. {WARNING}"
    ds.ContentQualification = "RESEARCH"
    ds.BurnedInAnnotation = "YES" if change.visible or is_ours_burned(original) else "NO"
    said = "words burned in" if change.visible else "no visible mark (left out by --no-visible-mark)"
    ds.DerivationDescription = f"{MARK}; {said}. {change.text}"[:1024]
    meaning = {"insert": "Lesion inserted by trained network", "remove": "Lesion removed by trained network"}
    ds.DerivationCodeSequence = Sequence(
        [
            _code("113042", "DCM", "Pixel by pixel addition"),
            _code(change.direction, SCHEME, meaning.get(change.direction, "Modified by trained network")),
        ]
    )
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Codes of the Scanward project for modified images"
    scheme.CodingSchemeResponsibleOrganization = MAKER
    ds.CodingSchemeIdentificationSequence = Sequence([scheme])
    source = Dataset()
    source.ReferencedSOPClassUID = text_of(original, "SOPClassUID")
    source.ReferencedSOPInstanceUID = text_of(original, "SOPInstanceUID")
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = Sequence(
        [_code("121322", "DCM", "Source image for image processing operation")]
    )
    ds.SourceImageSequence = Sequence([source])
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = Sequence([_code("109103", "DCM", "Modifying Equipment")])
    ours.Manufacturer = MAKER
    ours.ManufacturerModelName = "scanward tamper"
    ours.SoftwareVersions = __version__
    ours.ContributionDateTime = f"{date}{time}+0000"
    ours.ContributionDescription = WARNING
    ds.ContributingEquipmentSequence = Sequence([ours])
    _history(ds, original)


def is_ours_burned(original: Dataset) -> bool:
    """Whether the original carries a visible mark of ours already."""
    return is_ours(original) and text_of(original, "BurnedInAnnotation") == "YES"


def _history(ds: Dataset, original: Dataset) -> None:
    """What was lost stays lost: the history of compression as it was, or as the file's own encoding tells it."""
    encoding = str(original.file_meta.get("TransferSyntaxUID", "")) if hasattr(original, "file_meta") else ""
    if encoding in _LOSSY:
        ds.LossyImageCompression = "01"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item: Any = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item  # type: ignore[no-any-return]


def marks_of_dicom(ds: Dataset) -> bool:
    """Whether a data set carries every mark that `write_dicom` sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            is_ours(ds)
            and [str(value) for value in ds.get("ImageType", [])][:2] == ["DERIVED", "SECONDARY"]
            and text_of(ds, "DerivationDescription").startswith(MARK)
            and text_of(ds, "PatientIdentityRemoved") == "YES"
            and bool(ds.get("SourceImageSequence"))
        )
