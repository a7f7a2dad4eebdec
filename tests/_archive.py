"""An archive on loopback (Orthanc with DICOMweb), pictures in several transfer syntaxes, a sender of raw data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from _dicom import LOCAL, Orthanc, free_port, program, running, wait_for
from scanward.transport.dicom import Peer, Sent
from scanward.transport.dicom_part10 import unframed
from scanward.transport.dicom_raw import RawAssociation

SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE, JPEG2000 = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
STUDY = "2.25.77001"
NAME = "ROSSI^ANNA"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def picture(syntax: str = EXPLICIT, number: int = 1, study: str = STUDY, side: int = 32) -> bytes:
    """A small Secondary Capture as a PS3.10 file in ``syntax``, with a patient's name and a private element."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UID(SECONDARY), UID(f"{study}.{number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(study), UID(f"{study}.0")
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = NAME, "R-1", "19600101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260102", "101112", "A-1", "1"
    ds.ReferringPhysicianName, ds.Modality, ds.ConversionType = "", "OT", "SYN"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.Rows = ds.Columns = side
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ramp = (np.add.outer(np.arange(side), np.arange(side)) * number % 4096).astype("<u2")
    ds.add_new(0x00090010, "LO", "MAKER PRIVATE")
    ds.add_new(0x00091001, "LO", "odd" * (number % 20))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    ds.add_new(0x7FE00010, "OW", ramp.tobytes())
    if syntax in (RLE, JPEG2000):
        ds.compress(UID(syntax), generate_instance_uid=False)
    elif syntax == BIG:
        ds.add_new(0x7FE00010, "OW", ramp.astype(">u2").tobytes())
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    return out.getvalue()


def sent(peer: Peer, file: bytes, title: str = "SENDER", instance: str = "") -> Sent:
    """The file's data set to ``peer``, byte for byte; under another instance's name where one is given."""
    syntax, data = unframed(file)
    meta = dcmread(io.BytesIO(file), stop_before_pixels=True).file_meta
    sop_class = str(meta.MediaStorageSOPClassUID)
    association = RawAssociation(title, peer, ((sop_class, syntax),))
    try:
        return association.store(sop_class, instance or str(meta.MediaStorageSOPInstanceUID), syntax, data)
    finally:
        association.close()


@contextmanager
def storescp(folder: Path, *options: str, title: str = "PACS") -> Iterator[Peer]:
    """DCMTK's storage SCP, which writes the bytes that it receives."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [program("storescp"), "+xa", "+B", "-aet", title, "-od", str(folder), *options, str(port)]
    with running(command, port):
        yield Peer(LOCAL, port, title)


@contextmanager
def archive(folder: Path, web: bool = False, **modalities: int) -> Iterator[Orthanc]:
    """An Orthanc; ``modalities`` are the AE titles, in capitals, and ports of those it may send to."""
    if web and not PLUGIN.exists():
        pytest.skip(f"no {PLUGIN} (Debian package orthanc-dicomweb)")
    http, dicom = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {name.lower(): [name, LOCAL, port] for name, port in modalities.items()},
        "Plugins": [str(PLUGIN)] if web else [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with running([program("Orthanc"), str(path)], http) as process:
        wait_for(dicom, process)
        yield Orthanc(http, dicom)
