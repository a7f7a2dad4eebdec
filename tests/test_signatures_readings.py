"""What fits a signature and could be read otherwise, and lists and certificates that say less than they seem to."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
import zlib
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from _signatures import NOW, ExtendedKeyUsageOID, certificate, made, pem, rsa_key
from scanward.errors import DecodeError
from scanward.signatures import (
    Genuineness,
    Report,
    Signer,
    Trust,
    sign_bytes,
    sign_file,
    verify_bytes,
    verify_file,
)
from scanward.signatures.elements import parse

KEY = rsa_key()
ROOT = (certificate("Root", rsa_key(1), ca=True), rsa_key(1))
OWN = certificate("CT 1", KEY, ROOT)
SIGNER, TRUST = Signer(KEY, OWN), Trust((ROOT[0],))


def found(data: bytes, trust: Trust = TRUST) -> Report:
    return verify_bytes(data, trust)


def written(read: Dataset) -> bytes:
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    return out.getvalue()


def in_syntax(data: bytes, syntax: str, vrs: dict[int, str] | None = None) -> bytes:
    """The same elements in another native syntax; numbers of either sign as these VRs where it is explicit."""
    read = pydicom.dcmread(BytesIO(data))
    for one in read.iterall():
        one.value  # noqa: B018 - read now, in the old syntax
    for tag, vr in (vrs or {}).items():
        raw = struct.pack("<h" if read[tag].VR == "SS" else "<H", read[tag].value)
        read[tag] = pydicom.DataElement(tag, vr, struct.unpack("<h" if vr == "SS" else "<H", raw)[0])
    read.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(out, read, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    return out.getvalue()


# --- numbers of either sign


def padded(syntax: str, representation: int = 1, padding: int = -2000, nested: int | None = None) -> bytes:
    read = pydicom.dcmread(BytesIO(made(syntax, private=False)))
    read.PixelRepresentation = representation
    vr = "SS" if representation else "US"
    read.add_new(0x00280120, vr, padding if representation else padding & 0xFFFF)
    if nested is not None:
        inner = Dataset()
        if nested >= 0:
            inner.PixelRepresentation = nested
        inner.add_new(0x00283002, "SS" if nested > 0 else "US", [10, -5 if nested > 0 else 65531, 16])
        inner.add_new(0x00283006, "OW", b"\1\2")
        read.ModalityLUTSequence = [inner]
    return written(read)


def test_a_padding_of_minus_2000_is_signed_as_what_it_is() -> None:
    """Implicit VR does not say whether a number is signed: pixel representation does. 63536 is another padding."""
    data = sign_bytes(padded(ImplicitVRLittleEndian), SIGNER)
    assert found(data).genuineness is Genuineness.GENUINE
    as_it_is = in_syntax(data, ExplicitVRLittleEndian)
    assert pydicom.dcmread(BytesIO(as_it_is))[0x00280120].value == -2000
    assert found(as_it_is).genuineness is Genuineness.GENUINE
    other = in_syntax(data, ExplicitVRLittleEndian, {0x00280120: "US"})
    assert pydicom.dcmread(BytesIO(other))[0x00280120].value == 63536
    assert found(other).genuineness is Genuineness.ALTERED


@pytest.mark.parametrize(("padding", "word"), [(-2000, "malformed"), (2000, "genuine")])
def test_signed_as_another_number_than_it_is_read(padding: int, word: str) -> None:
    """Explicit VR can contradict pixel representation; in implicit VR that is another number."""
    explicit = in_syntax(
        padded(ExplicitVRLittleEndian, padding=padding), ExplicitVRLittleEndian, {0x00280120: "US"}
    )
    data = sign_bytes(explicit, SIGNER)
    assert pydicom.dcmread(BytesIO(data))[0x00280120].value == padding & 0xFFFF
    assert found(data).genuineness is Genuineness.GENUINE
    implicit = in_syntax(data, ImplicitVRLittleEndian)
    assert pydicom.dcmread(BytesIO(implicit))[0x00280120].value == padding
    report = found(implicit)
    assert report.genuineness == word
    assert ("another sign" in " ".join(report.reasons)) == (word == "malformed")


@pytest.mark.skipif(shutil.which("dcmsign") is None, reason="no dcmsign (Debian package dcmtk)")
@pytest.mark.parametrize("nested", [None, -1, 0, 1])
@pytest.mark.parametrize("representation", [0, 1])
def test_dcmsign_agrees_on_numbers_of_either_sign(
    tmp_path: Path, representation: int, nested: int | None
) -> None:
    key, cert = pem(tmp_path, "k.pem", KEY), pem(tmp_path, "c.pem", certificate("CT 2", KEY))
    trust = Trust.load(cert)
    plain, ours, theirs = (tmp_path / f"{name}.dcm" for name in ("plain", "ours", "theirs"))
    plain.write_bytes(padded(ImplicitVRLittleEndian, representation, nested=nested))
    sign_file(plain, Signer.load(key, cert), ours)
    verify = ["dcmsign", "--verify", "--require-sig", "--add-cert-file", cert, ours]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    time.sleep(0.01)
    subprocess.run(["dcmsign", "--sign", key, cert, "--mac-sha256", plain, theirs], check=True)
    assert verify_file(theirs, trust).genuineness is Genuineness.GENUINE
    back = tmp_path / "back.dcm"
    for syntax, of in (("+te", ours), ("+te", theirs), ("+tb", ours)):
        subprocess.run(["dcmconv", syntax, of, back], check=True)
        assert verify_file(back, trust).genuineness is Genuineness.GENUINE


# --- big endian, transfer syntaxes


def wide(bits: int) -> bytes:
    read = pydicom.dcmread(BytesIO(made(private=False)))
    read.Rows, read.Columns, read.BitsAllocated, read.BitsStored, read.HighBit = 1, 2, bits, bits, bits - 1
    read.PixelData = struct.pack("<II", 0x01020304, 5)[: bits // 4]
    read["PixelData"].VR = "OW"
    return written(read)


def test_long_pixels_in_big_endian_are_read_in_two_ways() -> None:
    """Swapped word by word, as OW is, they fit; pydicom swaps all four bytes, and sees other doses."""
    for bits, word in ((16, Genuineness.GENUINE), (32, Genuineness.MALFORMED)):
        data = sign_bytes(wide(bits), SIGNER)
        assert found(data).genuineness is Genuineness.GENUINE
        parsed = parse(data)
        pixels = parsed.find(0x7FE00010)
        assert pixels is not None
        raw = bytes(parsed.data[pixels.value : pixels.value_end])
        swapped = bytearray(len(raw))
        swapped[0::2], swapped[1::2] = raw[1::2], raw[0::2]
        read = pydicom.dcmread(BytesIO(data))
        for one in read.iterall():
            one.value  # noqa: B018
        read.PixelData = bytes(swapped)
        read["PixelData"].VR = "OW"
        read.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        out = BytesIO()
        pydicom.dcmwrite(out, read, enforce_file_format=True, implicit_vr=False, little_endian=False)
        seen = pydicom.dcmread(BytesIO(out.getvalue())).pixel_array.ravel()[0]
        assert (seen == pydicom.dcmread(BytesIO(data)).pixel_array.ravel()[0]) == (bits == 16)
        report = found(out.getvalue())
        assert report.genuineness is word
        if bits == 32:
            assert "in two ways" in report.reasons[0]
            assert all(one.fits.value == "yes" for one in report.signatures)
            with pytest.raises(DecodeError, match="in two ways"):
                sign_bytes(out.getvalue(), SIGNER)


# In fragments without a codec, or deflated; of one length in a file.
PLAIN, FRAMES = b"1.2.840.10008.1.2.1.98", b"1.2.840.10008.1.2.8.1\0"


def test_deflated_frames_are_not_shown_as_they_are() -> None:
    """Nothing in them says what they are, and the transfer syntax is not signed: their length has to say it."""
    engines = [zlib.compressobj(9, zlib.DEFLATED, -15) for _ in range(2)]
    packed = [one.compress(bytes(range(48))) + one.flush() for one in engines]
    plain = made(PLAIN.decode())
    deflated = made(PLAIN.decode(), PixelData=encapsulate(packed)).replace(PLAIN, FRAMES)
    for data, own, other in ((plain, PLAIN, FRAMES), (deflated, FRAMES, PLAIN)):
        signed = sign_bytes(data, SIGNER)
        assert found(signed).genuineness is Genuineness.GENUINE
        assert signed.count(own) == 2  # in the file meta information and in the MAC parameters
        report = found(signed.replace(own, other))
        assert [one.fits.value for one in report.signatures] == ["yes"]
        assert report.genuineness is Genuineness.ALTERED
    dark = made(
        PLAIN.decode(), NumberOfFrames=1, PixelData=encapsulate([b"\0\0\1" + bytes(45)])
    )  # as a film begins
    assert found(sign_bytes(dark, SIGNER)).genuineness is Genuineness.GENUINE


def meta_of(data: bytes, syntax: bytes, vr: bytes = b"UI") -> bytes:
    """The file with other bytes for its transfer syntax."""
    at = data.index(b"\x02\0\x10\0UI")
    old = int.from_bytes(data[at + 6 : at + 8], "little")
    size = struct.pack("<H", len(syntax)) if vr == b"UI" else b"\0\0" + struct.pack("<I", len(syntax))
    new = data[at : at + 4] + vr + size + syntax
    length = int.from_bytes(data[140:144], "little") + len(new) - (8 + old)
    return data[:140] + struct.pack("<I", length) + data[144:at] + new + data[at + 8 + old :]


@pytest.mark.parametrize(
    ("syntax", "vr", "good"),
    [
        (b"1.2.840.10008.1.2.1\0", b"UI", True),
        (b"1.2.840.10008.1.2.1 ", b"UI", True),
        (b" 1.2.840.10008.1.2.1", b"UI", False),
        (b"\0001.2.840.10008.1.2.1", b"UI", False),
        (b"1.2.840.10008.1.2.1\0", b"OB", False),
        (b"1.2.840.10008.1.2.1\0" * 2, b"UI", False),
    ],
)
def test_a_transfer_syntax_is_written_as_all_read_it(syntax: bytes, vr: bytes, good: bool) -> None:
    data = meta_of(sign_bytes(made(), SIGNER), syntax, vr)
    assert (found(data).genuineness is Genuineness.GENUINE) == good


@pytest.mark.parametrize("letters", [b"PN", b"ZZ", b"BB"])
def test_implicit_vr_that_begins_with_two_capitals(letters: bytes) -> None:
    """pydicom takes any two capital letters there for a VR, known or not."""
    data = sign_bytes(made(ImplicitVRLittleEndian), SIGNER)
    parsed = parse(data)
    length = int.from_bytes(letters + b"\0\0", "little")
    changed = (
        data[: parsed.offset] + struct.pack("<HHI", 8, 1, length) + bytes(length) + data[parsed.offset :]
    )
    assert "begins as explicit VR does" in found(changed).reasons[0]


# --- what is added beside what was signed


def put(data: bytes, new: bytes) -> bytes:
    parsed = parse(data)
    group, number = struct.unpack("<HH", new[:4])
    at = next(one.start for one in parsed.elements if one.tag > (group << 16 | number))
    return data[: parsed.offset + at] + new + data[parsed.offset + at :]


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr == b"SQ"
    size = b"\0\0" + struct.pack("<I", len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + size + value


@pytest.mark.parametrize(
    "new",
    [
        element(0x00409096, b"SQ", b""),  # what numbers of pixels mean
        element(0x00541001, b"CS", b"BQML"),
        element(0x00186011, b"SQ", b""),  # how large what ultrasound shows is
        element(0x00182010, b"DS", b"9\\9 "),
        element(0x00180088, b"DS", b"9 "),
        element(0x00082218, b"SQ", b""),  # which part of the body
        element(0x00880200, b"SQ", b""),  # the small picture beside it
        element(0x00480006, b"UL", b"\1\0\0\0"),
        element(0x00100021, b"LO", b"OTHER HOSPITAL"),  # whose patient of that number
        element(0x00100040, b"CS", b"M "),
    ],
)
def test_what_changes_meaning_or_person_is_not_added_unseen(new: bytes) -> None:
    report = found(put(sign_bytes(made(), SIGNER), new))
    assert report.genuineness is Genuineness.PARTIAL
    group, number = struct.unpack("<HH", new[:4])
    assert report.missing == (group << 16 | number,)


# --- lists and certificates


def listed(*extensions: tuple[x509.ExtensionType, bool]) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ROOT[0].subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=30))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(ROOT[1], hashes.SHA256())


def part(**more: Any) -> x509.IssuingDistributionPoint:
    words: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**(words | more))


HERE = x509.UniformResourceIdentifier("http://ca/1.crl")


@pytest.mark.parametrize(
    ("extension", "good"),
    [
        (x509.CRLNumber(3), True),
        (part(only_contains_user_certs=True), True),
        (x509.DeltaCRLIndicator(3), False),
        (part(only_contains_ca_certs=True), False),
        (part(only_contains_attribute_certs=True), False),
        (part(only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])), False),
        (part(indirect_crl=True), False),
        (part(full_name=[HERE]), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), False),
    ],
)
def test_a_part_of_a_revocation_list_acquits_nobody(extension: x509.ExtensionType, good: bool) -> None:
    data = sign_bytes(made(), SIGNER)
    critical = not isinstance(extension, x509.CRLNumber)
    report = found(data, Trust((ROOT[0],), (listed((extension, critical)),)))
    assert (report.genuineness is Genuineness.GENUINE) == good
    if not good:
        assert report.genuineness is Genuineness.UNTRUSTED
        assert "no current revocation list" in " ".join(report.reasons)
    whole = Trust((ROOT[0],), (listed((extension, critical)), listed()))
    assert found(data, whole).genuineness is Genuineness.GENUINE


def authority(
    *extensions: tuple[x509.ExtensionType, bool], name: str = "Between", key: Any = None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ROOT[0].subject)
        .public_key((key or rsa_key(2)).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=5))
        .not_valid_after(NOW + timedelta(days=5))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(ROOT[1], hashes.SHA256())


def test_a_list_of_the_point_that_the_certificate_names() -> None:
    points = x509.CRLDistributionPoints([x509.DistributionPoint([HERE], None, None, None)])
    own = authority((points, False), name="CT 3", key=KEY)
    data = sign_bytes(made(), Signer(KEY, own))
    there = x509.UniformResourceIdentifier("http://ca/2.crl")
    for name, word in ((HERE, Genuineness.GENUINE), (there, Genuineness.UNTRUSTED)):
        lists = (listed((part(full_name=[name]), True)),)
        assert found(data, Trust((ROOT[0],), lists)).genuineness is word


OIDS = ExtendedKeyUsageOID


@pytest.mark.parametrize(
    ("usages", "good"),
    [
        ([OIDS.SERVER_AUTH, OIDS.CLIENT_AUTH], False),
        ([OIDS.CLIENT_AUTH], False),
        ([OIDS.CODE_SIGNING], False),
        ([OIDS.EMAIL_PROTECTION], True),
        ([OIDS.CLIENT_AUTH, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")], True),  # documents, RFC 9336
        ([OIDS.ANY_EXTENDED_KEY_USAGE], True),
    ],
)
def test_who_may_only_speak_tls_signs_no_pictures(usages: list[x509.ObjectIdentifier], good: bool) -> None:
    own = certificate("CT 4", KEY, ROOT, extended=usages)
    assert (found(sign_bytes(made(), Signer(KEY, own))).genuineness is Genuineness.GENUINE) == good
    allowed = (x509.BasicConstraints(True, None), True)
    between = authority(allowed, (x509.ExtendedKeyUsage(usages), False))
    below = certificate("CT 5", KEY, (between, rsa_key(2)))
    trust = Trust((ROOT[0],), intermediates=(between,))
    assert (found(sign_bytes(made(), Signer(KEY, below)), trust).genuineness is Genuineness.GENUINE) == good


@pytest.mark.parametrize(
    "extension",
    [
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"),
        x509.NameConstraints([x509.DirectoryName(ROOT[0].subject)], None),
        x509.PolicyConstraints(0, None),
    ],
)
def test_issuers_with_limits_that_nobody_here_knows(extension: x509.ExtensionType) -> None:
    between = authority((x509.BasicConstraints(True, None), True), (extension, True))
    below = certificate("CT 6", KEY, (between, rsa_key(2)))
    trust = Trust((ROOT[0],), intermediates=(between,))
    assert found(sign_bytes(made(), Signer(KEY, below)), trust).genuineness is Genuineness.UNTRUSTED
