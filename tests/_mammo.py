"""Small mammograms for tests: pictures with a breast in them, and DICOM files of any sort round them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, generate_uid

PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
NAME, IDENTIFIER = "DOE^JANE", "SECRET-4711"  # must not be found in anything that is written


def breast_picture(
    rows: int = 96, columns: int = 80, bits: int = 12, *, left: bool = True, seed: int = 0
) -> NDArray[np.uint16]:
    """A bright half-ellipse at one side of a dark picture, with texture: (rows, columns) in 0 .. 2**bits - 1."""
    generator = np.random.default_rng(seed)
    down, right = np.mgrid[:rows, :columns]
    inside = (right / (0.7 * columns)) ** 2 + ((down - rows / 2) / (0.45 * rows)) ** 2 < 1
    most = (1 << bits) - 1
    tissue = most * (0.4 + 0.5 * generator.random((rows, columns)))
    picture = np.where(inside, tissue, most * 0.01).astype(np.uint16)
    return picture if left else np.ascontiguousarray(picture[:, ::-1])


def dataset(stored: NDArray[Any], bits: int = 12, **elements: Any) -> Dataset:
    """A FOR PRESENTATION mammogram of ``stored`` (8 bit where ``bits`` is 8, else 16 allocated), MONOCHROME2.

    An element given as None is left out.
    """
    allocated = 8 if bits <= 8 else 16
    signed = bool(stored.min() < 0)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = PRESENTATION
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.Modality = "MG"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, IDENTIFIER, "19500101"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality, ds.ViewPosition = "L", "CC"
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    data = stored.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd elements are what many tests are about
        for keyword, value in elements.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """Write a data set as a PS3.10 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(path, enforce_file_format=True)
    return path


def dicom_file(path: Path, stored: NDArray[Any], bits: int = 12, **elements: Any) -> Path:
    """A DICOM file of ``stored``."""
    return save(dataset(stored, bits, **elements), path)


def compressed(ds: Dataset, syntax: str | UID) -> Dataset:
    """The data set with its pixels compressed by one of pydicom's encoders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # gdcm's RLE encoder ends the process on pictures of odd sizes: pydicom's own does not.
        plugin = "pydicom" if syntax == RLELossless else ""
        ds.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    return ds
