"""CT images made from PS3.3 A.3 and A.38, headers only: from the module tables, not from the codec."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_builders import dose_reports
from dicom_builders.dose_reports import code

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"


def ct_slice(number: int = 1, *, series: str = "1.2.3.1", **attributes: Any) -> Dataset:
    """One axial slice, of a chest at 120 kV; ``attributes`` replace what is set, None removes it."""
    ds = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": f"{series}.{number}",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": series,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Manufacturer": "ACME",
        "ManufacturerModelName": "CT-1",
        "DeviceSerialNumber": "SN-77",
        "PatientName": "Doe^Jane",
        "PatientID": "ID-4711",
        "PatientBirthDate": "19631107",
        "PatientAge": "060Y",
        "PatientSex": "F",
        "PatientPosition": "HFS",
        "ProtocolName": "Thorax routine",
        "BodyPartExamined": "CHEST",
        "AcquisitionNumber": 2,
        "AcquisitionDate": "20240101",
        "AcquisitionTime": f"1200{number % 60:02d}",
        "KVP": 120,
        "XRayTubeCurrent": 100 + 10 * number,
        "Exposure": 50 + 5 * number,
        "ExposureTime": 500,
        "RevolutionTime": 0.5,
        "SpiralPitchFactor": 1.2,
        "TotalCollimationWidth": 38.4,
        "SingleCollimationWidth": 0.6,
        "CTDIvol": 5 + 0.5 * number,
        "CTDIPhantomTypeCodeSequence": [code("113691")],
        "SliceThickness": 5,
        "ConvolutionKernel": "B30f",
        "ImagePositionPatient": [-200, -200, -100 - 5.0 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "Rows": 512,
        "PixelSpacing": [0.8, 0.8],
    }
    values.update(attributes)
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


# What an enhanced image says in functional groups instead.
_IN_GROUPS = (
    *("KVP", "XRayTubeCurrent", "Exposure", "ExposureTime", "RevolutionTime", "SpiralPitchFactor"),
    *("TotalCollimationWidth", "SingleCollimationWidth", "CTDIvol", "CTDIPhantomTypeCodeSequence"),
    *("SliceThickness", "ConvolutionKernel", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "AcquisitionDate", "AcquisitionTime"),
)


def _group(**attributes: Any) -> list[Dataset]:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return [ds]


def enhanced_ct(frames: int = 3, **attributes: Any) -> Dataset:
    """An Enhanced CT object: technique in shared groups, tube current and position per frame."""
    base = ct_slice(1, series="1.2.4.1")
    for keyword in _IN_GROUPS:
        delattr(base, keyword)
    base.SOPClassUID, base.NumberOfFrames = ENHANCED_CT_IMAGE, frames
    shared = Dataset()
    shared.CTAcquisitionTypeSequence = _group(AcquisitionType="SPIRAL")
    shared.CTAcquisitionDetailsSequence = _group(
        RevolutionTime=0.5, SingleCollimationWidth=0.6, TotalCollimationWidth=38.4, TableHeight=150.0
    )
    shared.CTTableDynamicsSequence = _group(SpiralPitchFactor=1.2, TableSpeed=92.0)
    shared.CTXRayDetailsSequence = _group(KVP=100.0, FilterType="WEDGE")
    shared.PixelMeasuresSequence = _group(SliceThickness=2.0)
    shared.CTReconstructionSequence = _group(ConvolutionKernel="Br40")
    shared.IrradiationEventIdentificationSequence = _group(IrradiationEventUID="1.2.99")
    base.SharedFunctionalGroupsSequence = [shared]
    base.PerFrameFunctionalGroupsSequence = []
    for number in range(frames):
        frame = Dataset()
        frame.CTExposureSequence = _group(
            XRayTubeCurrentInmA=200.0 + 10 * number,
            ExposureInmAs=100.0,
            ExposureTimeInms=500.0,
            CTDIvol=6.0,
            CTDIPhantomTypeCodeSequence=[code("113690")],
        )
        frame.PlanePositionSequence = _group(ImagePositionPatient=[0, 0, 2.0 * number])
        frame.FrameContentSequence = _group(
            FrameAcquisitionDateTime=f"202401011200{number:02d}", FrameAcquisitionNumber=4
        )
        base.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword, value in attributes.items():
        setattr(base, keyword, value)
    return base


def to_bytes(ds: Dataset) -> bytes:
    """The data set as a PS3.10 file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return dose_reports.to_bytes(ds)


__all__ = ["CT_IMAGE", "ENHANCED_CT_IMAGE", "ct_slice", "enhanced_ct", "to_bytes"]
