"""Keys, certificates and small DICOM files of many kinds, made for the tests of signatures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = b"\xff\xd8\xff\xe0"
# Frames that begin as their codec does.
BEGINS = {
    "1.2.840.10008.1.2.5": b"\1\0\0\0\x40\0\0\0" + bytes(56),
    JPEG2000Lossless: b"\xff\x4f\xff\x51",
    **{f"1.2.840.10008.1.2.4.{number}": JPEG for number in (50, 51, 57, 70, 80, 81)},
}


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key; the same for the same number."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(curve: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    curves = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}
    return ec.generate_private_key(curves[curve])


def certificate(
    name: str,
    key: Any,
    issuer: tuple[x509.Certificate, Any] | None = None,
    *,
    ca: bool = False,
    days: tuple[float, float] = (-10, 300),
    usage: str = "sign",
    extended: Sequence[x509.ObjectIdentifier] = (),
    path_length: int | None = None,
    digest: Any = None,
) -> x509.Certificate:
    """A certificate; self-signed without an issuer. ``days``: validity from now. ``usage``: sign, encrypt or none."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )
    if usage != "none":
        signs = usage == "sign"
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=signs, content_commitment=False, key_encipherment=not signs,
                data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=True)
    return builder.sign(issuer[1] if issuer else key, digest or hashes.SHA256())


def revocations(
    issuer: tuple[x509.Certificate, Any],
    revoked: Sequence[x509.Certificate],
    days: tuple[float, float] = (-1, 30),
) -> x509.CertificateRevocationList:
    """A list of an authority."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer[0].subject)
        .last_update(NOW + timedelta(days=days[0]))
        .next_update(NOW + timedelta(days=days[1]))
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - timedelta(days=2)).build())
    return builder.sign(issuer[1], hashes.SHA256())


def pem(folder: Path, name: str, thing: Any, password: bytes | None = None) -> Path:
    """A key, a certificate or a list in a PEM file."""
    path = folder / name
    if hasattr(thing, "private_bytes"):
        how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        raw = thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    else:
        raw = thing.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(raw)
    return path


def made(
    syntax: str = ExplicitVRLittleEndian, *, private: bool = True, pixels: bool = True, **more: Any
) -> bytes:
    """A small file: nested sequences, private attributes, one of them of VR UN, pixels as the syntax has them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.7"
    meta.TransferSyntaxUID = syntax
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyDate, data.Modality, data.Manufacturer = "20260101", "OT", "Nobody"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Phantom^Ann", "P-1", ""
    data.StudyInstanceUID, data.SeriesInstanceUID = (
        "1.2.826.0.1.3680043.8.498.8",
        "1.2.826.0.1.3680043.8.498.9",
    )
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "of an odd kind"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = data.SOPClassUID, "1.2.3"
    reference.PurposeOfReferenceCodeSequence = [code]
    data.ReferencedImageSequence, data.SourceImageSequence = [reference, Dataset()], []
    if private:
        data.add_new(0x00090010, "LO", "SCANWARD TEST")
        data.add_new(0x00091001, "UN", b"abcd")
        data.add_new(0x00091002, "LO", "hello")
    if pixels:
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = 4, 6
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        raw = bytes(range(48))
        encapsulated = syntax not in (
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DEFLATED,
        )
        begins = BEGINS.get(syntax, b"")
        if encapsulated:
            data.NumberOfFrames = 2
        data.PixelData = encapsulate([begins + raw, begins + raw[::-1]]) if encapsulated else raw
        data["PixelData"].VR = "OB" if encapsulated else "OW"
        data["PixelData"].is_undefined_length = encapsulated
    for name, value in more.items():
        setattr(data, name, value)
    out = BytesIO()
    data.file_meta, data.preamble = meta, b"\0" * 128
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


__all__ = [
    "DEFLATED", "NOW", "ExtendedKeyUsageOID", "JPEG2000Lossless", "certificate", "ec_key", "made", "pem", "revocations",
    "rsa_key",
]  # fmt: skip
