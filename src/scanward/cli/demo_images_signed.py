"""Signatures in the demonstration of the images wing: a phantom signed where it was made, and what becomes of it.

All of it in memory: a modified picture without its marks is never written.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scanward.signatures import Signer, Trust

DIGITAL_MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
_SIGNATURES = (0x4FFE0001, 0xFFFAFFFA)  # MAC Parameters Sequence, Digital Signatures Sequence


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is done to signed pictures: what `scanward verify` has to say, and of how many it said so."""

    name: str
    expected: str
    said: dict[str, int]

    @property
    def as_expected(self) -> bool:
        return set(self.said) == {self.expected}


def signed_cases(pairs: Sequence[tuple[NDArray[np.uint16], NDArray[np.uint16]]]) -> tuple[Case, ...]:
    """Verify (genuine, modified) pictures, uint16 (rows, columns) alike, as they are and after what a forger can do.

    The modality signs with a key whose authority the archive trusts; the forger has a key and an authority of their
    own. Keys and certificates are made here and thrown away.
    """
    from scanward.signatures import Trust, sign_bytes, verify_bytes

    with TemporaryDirectory() as folder:
        modality, authority = _signer(Path(folder), "modality")
        forger, _ = _signer(Path(folder), "forger")
        trust: Trust = Trust.load(authority)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for number, (genuine, modified) in enumerate(pairs):
        plain = as_dicom(genuine, number)
        signed = sign_bytes(plain, modality)
        swapped = signed.replace(_pixels(genuine), _pixels(modified), 1)
        other_woman = signed.replace(b"PHANTOM^WOMAN", b"ANOTHER^WOMAN", 1)
        shown = {
            ("as it was signed", "genuine"): signed,
            ("picture modified, signature kept", "altered"): swapped,
            ("another name, signature kept", "altered"): other_woman,
            ("picture modified, signature taken out", "unsigned"): _without_signature(swapped),
            ("picture modified, signed by the forger", "untrusted"): sign_bytes(
                _without_signature(swapped), forger
            ),
            ("never signed", "unsigned"): plain,
        }
        for case, data in shown.items():
            said = str(verify_bytes(data, trust).genuineness)
            counts = found.setdefault(case, {})
            counts[said] = counts.get(said, 0) + 1
    return tuple(Case(name, expected, said) for (name, expected), said in found.items())


def as_dicom(picture: NDArray[np.uint16], number: int) -> bytes:
    """A phantom as a digital mammogram FOR PRESENTATION (PS3.3 A.26), as a modality would make it: a Part 10 file."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = DIGITAL_MAMMOGRAPHY, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PresentationIntentType = "MG", "FOR PRESENTATION"
    ds.PatientName, ds.PatientID = "PHANTOM^WOMAN", f"PHANTOM-{number:04d}"
    ds.StudyDate, ds.ImageLaterality, ds.ViewPosition = "20000101", "L", "CC"
    ds.ImageComments = "A phantom, drawn by Scanward: no patient"
    ds.Rows, ds.Columns = picture.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = _pixels(picture)
    ds["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _pixels(picture: NDArray[np.uint16]) -> bytes:
    return picture.astype("<u2").tobytes()


def _without_signature(data: bytes) -> bytes:
    """What a forger does who hopes that nobody asks for one."""
    import pydicom

    ds = pydicom.dcmread(io.BytesIO(data))
    for tag in _SIGNATURES:
        if tag in ds:
            del ds[tag]
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _signer(folder: Path, name: str) -> tuple[Signer, Path]:
    """A signer, and the file of the authority that certified them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    from scanward.signatures import Signer

    now = datetime.now(UTC)
    keys = {
        who: rsa.generate_private_key(public_exponent=65537, key_size=2048) for who in ("authority", "own")
    }
    names = {
        who: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Demonstration: {name}, {who}")])
        for who in keys
    }
    files = {}
    for who, key in keys.items():
        built = (
            x509.CertificateBuilder()
            .subject_name(names[who])
            .issuer_name(names["authority"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=who == "authority", path_length=None), critical=True)
            .add_extension(_usage(authority=who == "authority"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["authority"].public_key()),
                critical=False,
            )
            .sign(keys["authority"], hashes.SHA256())
        )
        files[who] = folder / f"{name}-{who}.pem"
        files[who].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file = folder / f"{name}.key"
    key_file.write_bytes(
        keys["own"].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_file.chmod(0o600)
    return Signer.load(key_file, files["own"]), files["authority"]


def _usage(*, authority: bool):  # type: ignore[no-untyped-def]
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
