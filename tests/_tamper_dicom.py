"""A complete Digital Mammography X-Ray image for tests of modified outputs, and a model that needs no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence
from torch import Tensor, nn

from _mammo import breast_picture, dataset, save
from scanward.tampering.presets import GeneratorSettings, Preset

SECRETS = {
    "ReferringPhysicianName": "HOUSE^GREGORY",
    "InstitutionName": "Princeton Plainsboro",
    "AccessionNumber": "ACC-20471",
    "StudyID": "STUDY-889",
    "StudyDescription": "Screening of Jane",
    "SeriesDescription": "jane left",
    "OperatorsName": "CAMERON^ALLISON",
    "StationName": "MAMMO-ROOM-3",
    "DeviceSerialNumber": "SN-551177",
    "PatientComments": "daughter of the mayor",
    "StudyDate": "20190314",
    "AcquisitionDate": "20190315",
    "PatientAddress": "12 Elm Street",
    "ImageComments": "called twice",
    "ProtocolName": "Janes protocol",
}


def _code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def mammogram(stored: NDArray[Any] | None = None, bits: int = 12, **elements: Any) -> Dataset:
    """A FOR PRESENTATION mammogram that has what PS3.3 A.26 asks for, full of what identifies somebody."""
    view = _code("399368009", "medio-lateral oblique")
    view.ViewModifierCodeSequence = Sequence([])
    whole: dict[str, Any] = {
        **SECRETS,
        "ImageType": ["ORIGINAL", "PRIMARY", ""],
        "Manufacturer": "Maker",
        "StudyTime": "101112",
        "ContentDate": "20190314",
        "ContentTime": "101112",
        "PatientSex": "F",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "ImageLaterality": "L",
        "PatientOrientation": ["A", "F"],
        "BodyPartExamined": "BREAST",
        "AnatomicRegionSequence": Sequence([_code("76752008", "Breast")]),
        "ViewCodeSequence": Sequence([view]),
        "AcquisitionContextSequence": Sequence([]),
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "WindowCenter": 2048,
        "WindowWidth": 4096,
        "ImagerPixelSpacing": [0.1, 0.1],
        "PositionerType": "MAMMOGRAPHIC",
        "PositionerPrimaryAngle": 45,
        "DetectorType": "DIRECT",
        "OrganExposed": "BREAST",
        "FieldOfViewHorizontalFlip": "NO",
        "FieldOfViewOrigin": [0, 0],
        "FieldOfViewRotation": "0",
        "BreastImplantPresent": "NO",
        "PartialView": "NO",
    }
    made = breast_picture(bits=bits) if stored is None else stored
    ds = dataset(made, bits, **{**whole, **elements})
    ds.add_new(0x00091001, "LO", "private and personal")
    ds.add_new(0x00090010, "LO", "MAKER PRIVATE")
    return ds


def mammogram_file(path: Path, stored: NDArray[Any] | None = None, bits: int = 12, **elements: Any) -> Path:
    """The same as a file."""
    return save(mammogram(stored, bits, **elements), path)


class Spot(nn.Module):
    """A stand-in for a generator: adds ``amount`` everywhere, or in the region where it is told one."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(amount), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, rows, columns) -> (N, 1, rows, columns)."""
        grey = x[:, :1]
        region = (x[:, 1:2] + 1) / 2 if x.shape[1] > 1 else torch.ones_like(grey)
        return (grey + self.amount * region).clamp(-1, 1)


class FakeRun:
    """What `scanward.tampering.applying.Model` asks for, without a checkpoint."""

    def __init__(
        self, *, told: bool = False, amount: float = 0.25, fingerprint: str = "ab" * 32, side: int = 32
    ) -> None:
        self.preset = Preset(
            name="spot",
            about="a test",
            rows=side,
            columns=side,
            generator=GeneratorSettings(mask_channel=told),
        )
        self.step, self.fingerprint, self._amount = 7, fingerprint, amount

    def generator(self, direction: str) -> nn.Module:
        """Brighter for insert, darker for remove."""
        return Spot(self._amount if direction == "insert" else -self._amount).eval()


def right(picture: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same of a right breast."""
    return np.ascontiguousarray(picture[:, ::-1])
