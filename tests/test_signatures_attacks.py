"""Attacks on signed files: whatever changes something signed, or can be read in two ways, is not genuine."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import sys
import time
import warnings
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from _signatures import BEGINS, DEFLATED, certificate, ec_key, made, rsa_key
from house import REPOSITORY
from scanward.config import SIGNATURE_BOUNDS
from scanward.errors import InputError, ScanwardError
from scanward.signatures import Coverage, Genuineness, Signer, Trust, sign_bytes, verify_bytes, verify_file
from scanward.signatures.elements import implied, parse
from scanward.signatures.signing import pieces

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks.signatures_mutations import CHANGES, Subject, Tally

KEY = rsa_key()
OWN = certificate("CT 1", KEY)
SIGNER = Signer(KEY, OWN)
TRUST = Trust((OWN,))
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DEFLATED,
    "RLE": RLELossless,
    "JPEG": JPEGBaseline8Bit,
    "JPEG 2000": JPEG2000Lossless,
}
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def word(data: bytes, trust: Trust = TRUST) -> Genuineness:
    return verify_bytes(data, trust).genuineness


def signed(syntax: str = ExplicitVRLittleEndian, signer: Signer = SIGNER, **more: Any) -> bytes:
    data = sign_bytes(made(syntax, **more), signer)
    assert word(data, Trust((signer.certificate,))) is Genuineness.GENUINE
    return data


def edited(data: bytes, **more: Any) -> bytes:
    """Written again by pydicom, with another value here and there."""
    read = pydicom.dcmread(BytesIO(data))
    for name, value in more.items():
        setattr(read, name, value)
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    return out.getvalue()


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (b"\0\0" + struct.pack("<I", len(value)) if long else struct.pack("<H", len(value))) + value


def even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def put(data: bytes, new: bytes) -> bytes:
    """An element into the main data set, at its place."""
    parsed = parse(data)
    tag = struct.unpack("<HH", new[:4])
    at = next((one.start for one in parsed.elements if (one.tag >> 16, one.tag & 0xFFFF) > tag), None)
    place = len(data) if at is None else parsed.offset + at
    return data[:place] + new + data[place:]


# --- random changes


@pytest.mark.parametrize("name", list(SYNTAXES))
def test_no_random_change_of_anything_signed_is_genuine(name: str) -> None:
    data = signed(SYNTAXES[name])
    subject = Subject.of(name, data)
    assert subject.whole(subject.data)[-200:] == data[-200:] or subject.deflated
    covered = verify_bytes(data, TRUST).signatures[0].covered
    chance, tally = random.Random(name), Tally()
    kinds = list(CHANGES)
    for number in range(240):
        tally.change(subject, kinds[number % len(kinds)], chance, lambda x: verify_bytes(x, TRUST), covered)
    assert tally.wrong == []
    words = {w for counts in tally.verdicts.values() for w in counts}
    assert {"altered", "malformed"} <= words
    assert sum(sum(counts.values()) for counts in tally.verdicts.values()) > 200


def test_a_changed_byte_in_each_signed_element_is_found() -> None:
    data = signed()
    parsed = parse(data)
    (one,) = verify_bytes(data, TRUST).signatures
    seen = 0
    for part in parsed.elements:
        if part.tag not in one.covered or part.value == part.value_end:
            continue
        raw = bytearray(data)
        raw[parsed.offset + part.value_end - 1] ^= 1
        assert word(bytes(raw)) in (Genuineness.ALTERED, Genuineness.MALFORMED), hex(part.tag)
        seen += 1
    assert seen > 15


# --- elements moved, added, written otherwise


def test_elements_moved_between_levels() -> None:
    data = signed()
    read = pydicom.dcmread(BytesIO(data))
    inner = read.ReferencedImageSequence[0]
    read.ReferencedSOPInstanceUID = inner.ReferencedSOPInstanceUID
    del inner.ReferencedSOPInstanceUID
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    assert word(out.getvalue()) is Genuineness.ALTERED
    read = pydicom.dcmread(BytesIO(data))
    read.ReferencedImageSequence[1].PatientName = read.PatientName
    del read.PatientName
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    assert word(out.getvalue()) is Genuineness.ALTERED


@pytest.mark.parametrize(
    "new",
    [
        element(0x20500020, b"CS", b"INVERSE "),  # shows the greys the other way round
        element(0x00281221, b"OW", b"\0\0"),  # a palette in segments
        element(0x00281050, b"DS", b"40"),
        element(0x00280030, b"DS", b"9\\9 "),  # how large things are
        element(0x00280030, b"UN", b"9\\9 "),  # and of a VR that nobody can sign
        element(0x00200062, b"CS", b"L "),
        element(0x00200020, b"CS", b"A\\L "),
        element(0x60000010, b"US", b"\4\0"),
        element(0x60FE3000, b"OW", b"\0\0"),
        element(0x00700001, b"SQ", b""),
        element(0x00287FE0, b"UT", b"http://x/"[:8]),
        element(0x0040A730, b"SQ", b""),
        element(0x52009229, b"SQ", b""),
        element(0x7FE00008, b"OB", b"\0\0"),
    ],
)
def test_what_changes_the_picture_is_not_added_unseen(new: bytes) -> None:
    report = verify_bytes(put(signed(), new), TRUST)
    assert report.genuineness is Genuineness.PARTIAL
    tag = struct.unpack("<HH", new[:4])
    assert report.missing == (tag[0] << 16 | tag[1],)


@pytest.mark.parametrize("group", [0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF, 0x0002, 0xFFFE])
def test_groups_that_no_data_set_has(group: int) -> None:
    assert word(put(signed(), element(group << 16 | 0x0100, b"LO", b"ab"))) is Genuineness.MALFORMED


def test_additions_are_at_least_told() -> None:
    data = put(put(signed(), element(0x00180010, b"LO", b"none")), element(0xFFFCFFFC, b"OB", bytes(4)))
    report = verify_bytes(data, TRUST)
    assert report.genuineness is Genuineness.GENUINE
    assert {0x00180010, 0xFFFCFFFC} < set(report.unsigned)
    assert word(data, replace(TRUST, required=Coverage.of(["everything"]))) is Genuineness.PARTIAL
    for tail in (b"\0", bytes(8), bytes(132), data):
        assert word(data + tail) is Genuineness.MALFORMED


def test_a_character_set_cannot_be_changed_nor_given() -> None:
    assert word(edited(signed(), SpecificCharacterSet="ISO_IR 13")) is Genuineness.ALTERED
    plain = made(SpecificCharacterSet=None)
    read = pydicom.dcmread(BytesIO(plain))
    del read.SpecificCharacterSet
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    data = sign_bytes(out.getvalue(), SIGNER)
    assert word(data) is Genuineness.GENUINE
    assert word(put(data, element(0x00080005, b"CS", b"ISO_IR 13 "))) is Genuineness.PARTIAL


def test_private_elements_are_covered_with_their_creator_alone() -> None:
    data = signed()
    place = data.index(b"SCANWARD TEST")
    other = data[:place] + b"SOMEBODY ELSE" + data[place + 13 :]
    assert word(other) is Genuineness.ALTERED
    wanted = replace(TRUST, required=Coverage.of(["0009,1002"]))
    assert word(data, wanted) is Genuineness.GENUINE
    # Signed without the creator, as any signer may have it.
    from scanward.signatures import signing

    every = signing.chosen
    try:
        signing.chosen = lambda *x: tuple(one for one in every(*x) if one.tag != 0x00090010)  # type: ignore[assignment]
        bare = sign_bytes(made(), SIGNER)
    finally:
        signing.chosen = every
    assert word(bare) is Genuineness.GENUINE
    assert word(bare, wanted) is Genuineness.PARTIAL


def test_a_file_that_readers_guess_to_be_explicit() -> None:
    """pydicom takes implicit VR for explicit when the first length reads as a VR: it would see another data set."""
    data = signed(ImplicitVRLittleEndian)
    parsed = parse(data)
    inside = element(0x00100010, b"PN", b"Somebody^Else ")
    length = int.from_bytes(b"PN\1\0", "little")
    trap = struct.pack("<HHI", 0x0008, 0x0001, length) + inside.ljust(length, b"\0")
    changed = data[: parsed.offset] + trap + data[parsed.offset :]
    report = verify_bytes(changed, TRUST)
    assert report.genuineness is Genuineness.MALFORMED
    assert "begins as explicit VR does" in report.reasons[0]


# --- what no signature covers: file meta information, transfer syntax, fragments


def test_file_meta_information_agrees_with_the_data_set() -> None:
    data = signed()
    for name, value in (
        ("MediaStorageSOPInstanceUID", "1.2.3"),
        ("MediaStorageSOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
    ):
        read = pydicom.dcmread(BytesIO(data))
        setattr(read.file_meta, name, value)
        out = BytesIO()
        read.save_as(out, enforce_file_format=False)
        assert word(out.getvalue()) is Genuineness.ALTERED


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        (JPEG2000Lossless, RLELossless),
        (RLELossless, JPEG2000Lossless),
        (JPEGBaseline8Bit, "1.2.840.10008.1.2.1.98"),
        (JPEGBaseline8Bit, "1.2.840.10008.1.2.4.102"),
        (JPEG2000Lossless, "1.2.840.10008.1.2.4.94"),
        (JPEG2000Lossless, "1.2.3.4"),
    ],
)
def test_pixels_called_by_another_codec(syntax: str, named: str) -> None:
    """In the file meta information and in the MAC parameters: the signature itself fits."""
    read = pydicom.dcmread(BytesIO(signed(syntax)))
    read.file_meta.TransferSyntaxUID = named
    read[0x4FFE0001].value[0].MACCalculationTransferSyntaxUID = named
    out = BytesIO()
    pydicom.dcmwrite(out, read, implicit_vr=False, little_endian=True, enforce_file_format=False)
    report = verify_bytes(out.getvalue(), TRUST)
    assert all(one.fits.value != "no" for one in report.signatures)
    assert report.genuineness in (Genuineness.ALTERED, Genuineness.MALFORMED)
    with pytest.raises(ScanwardError):
        sign_bytes(out.getvalue(), SIGNER)


def fragments(data: bytes, parts: list[bytes]) -> bytes:
    """The same file with other fragments."""
    parsed = parse(data)
    pixels = parsed.find(0x7FE00010)
    assert pixels is not None
    new = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts)
    return data[: parsed.offset + pixels.value] + new + data[parsed.offset + pixels.value_end :]


def parts_of(data: bytes) -> list[bytes]:
    parsed = parse(data)
    pixels = parsed.find(0x7FE00010)
    assert pixels is not None
    return [bytes(parsed.data[a:b]) for a, b in pixels.fragments or ()]


ITEM = b"\xfe\xff\x00\xe0"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless])
def test_fragments_written_as_one(syntax: str) -> None:
    """The bytes signed are the same: a tag between two fragments, and the same four bytes inside of one."""
    data = signed(syntax)
    table, first, second = parts_of(data)
    for other in (
        [table, first + ITEM + second],
        [table + ITEM + first, second],
        [table + ITEM + first + ITEM + second],
    ):
        changed = fragments(data, other)
        assert word(changed) is Genuineness.MALFORMED
        assert "where fragments end" in " ".join(verify_bytes(changed, TRUST).reasons)


def test_a_fragment_cut_where_it_reads_as_an_items_tag() -> None:
    begins = BEGINS[JPEGBaseline8Bit]
    frame = begins + bytes(8) + ITEM + begins + b"\1\2"
    data = signed(JPEGBaseline8Bit, pixels=True, NumberOfFrames=1, PixelData=encapsulate([frame]))
    assert b"SCANWARD SIGNATURE" in data  # the lengths are signed too: they tell nothing by themselves
    table, whole = parts_of(data)
    at = whole.index(ITEM)
    changed = fragments(data, [table, whole[:at], whole[at + 4 :]])
    assert word(changed) is Genuineness.ALTERED
    # Without them, as from another signer, neither form is believed.
    from scanward.signatures import pixels

    kept = pixels.ambiguous
    try:
        pixels.ambiguous = lambda *_: False
        bare = sign_bytes(made(JPEGBaseline8Bit, NumberOfFrames=1, PixelData=encapsulate([frame])), SIGNER)
    finally:
        pixels.ambiguous = kept
    assert b"SCANWARD SIGNATURE" not in bare
    assert word(bare) is Genuineness.MALFORMED
    table, whole = parts_of(bare)
    assert word(fragments(bare, [table, whole[:at], whole[at + 4 :]])) is Genuineness.MALFORMED


def test_frames_in_several_fragments_are_signed_with_their_lengths() -> None:
    begins = BEGINS[JPEGBaseline8Bit]
    more = {"NumberOfFrames": 1, "PixelData": encapsulate([begins + bytes(96)], fragments_per_frame=3)}
    data = signed(JPEGBaseline8Bit, **more)
    parts = parts_of(data)
    assert len(parts) == 4
    assert b"SCANWARD SIGNATURE" in data
    joined = fragments(data, [parts[0], parts[1] + ITEM + parts[2], parts[3]])
    assert word(joined) is Genuineness.ALTERED
    # Nor can the lengths be taken out of the signature: they are signed.
    read = pydicom.dcmread(BytesIO(data))
    item = read[0xFFFAFFFA].value[0]
    del item[0x04010010], item[0x04011001]
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    assert word(out.getvalue()) is Genuineness.ALTERED


def test_lengths_that_read_as_an_item_in_what_is_signed() -> None:
    head = struct.pack("<HH2s2sI", 0x7FE0, 0x0010, b"OB", b"\0\0", 0xE000FFFE)
    data = signed(pixels=False)
    assert "reads as an item" in " ".join(verify_bytes(put(data, head), TRUST).reasons)


def test_the_preamble_and_the_lengths_of_sequences_are_nobodys() -> None:
    data = signed()
    assert word(b"II*\0" + bytes(124) + data[128:]) is Genuineness.GENUINE
    read = pydicom.dcmread(BytesIO(data))
    read["ReferencedImageSequence"].is_undefined_length = True
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    assert out.getvalue() != data
    assert word(out.getvalue()) is Genuineness.GENUINE


# --- signatures themselves


def changed_signature(data: bytes, change: Any) -> bytes:
    read = pydicom.dcmread(BytesIO(data))
    change(read[0x4FFE0001].value, read[0xFFFAFFFA].value)
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    return out.getvalue()


def _signed_tags(change: Any) -> Any:
    def apply(parameters: Any, _: Any) -> None:
        parameters[0].DataElementsSigned = change(list(parameters[0].DataElementsSigned))

    return apply


def _set(where: int, name: str, value: Any) -> Any:
    def apply(*sequences: Any) -> None:
        setattr(sequences[where][0], name, value)

    return apply


def _add(where: int, tag: int, vr: str, value: Any) -> Any:
    def apply(*sequences: Any) -> None:
        sequences[where][0].add_new(tag, vr, value)

    return apply


@pytest.mark.parametrize(
    "change",
    [
        _signed_tags(lambda tags: tags[::-1]),
        _signed_tags(lambda tags: tags + tags[-1:]),
        _signed_tags(lambda tags: tags[:1] + tags),
        _signed_tags(lambda tags: []),
        _signed_tags(lambda tags: tags[1:]),
        _signed_tags(lambda tags: tags[:-1]),
        _signed_tags(lambda tags: [*tags, 0xFFFAFFFA]),
        _signed_tags(lambda tags: [*tags[:-1], 0x4FFE0001, tags[-1]]),
        _signed_tags(lambda tags: [0x00020010, *tags]),
        _signed_tags(lambda tags: [0x00091001, *tags]),
        _set(0, "MACAlgorithm", "SHA512"),
        _set(0, "MACAlgorithm", "NONE"),
        _set(0, "MACIDNumber", 7),
        _set(0, "MACCalculationTransferSyntaxUID", ImplicitVRLittleEndian),
        _set(0, "MACCalculationTransferSyntaxUID", ExplicitVRBigEndian),
        _set(0, "MACCalculationTransferSyntaxUID", JPEG2000Lossless),
        _set(1, "MACIDNumber", 7),
        _set(1, "DigitalSignatureUID", "1.2.3"),
        _set(1, "DigitalSignatureDateTime", "20200101000000"),
        _set(1, "CertificateType", "X509_NONE"),
        _set(1, "Signature", b""),
        _set(1, "Signature", bytes(256)),
        _set(1, "CertificateOfSigner", b""),
        _add(1, 0x00100010, "PN", "Somebody"),
        _add(1, 0x04000403, "LO", "x"),
        _add(1, 0x04010010, "LO", "SCANWARD SIGNATURE"),
        _add(1, 0x04011001, "LO", "00"),
        lambda parameters, _: parameters.append(parameters[0]),
        lambda parameters, _: parameters.clear(),
    ],
)
def test_no_edit_of_a_signature_is_genuine(change: Any) -> None:
    assert word(changed_signature(signed(), change)) is not Genuineness.GENUINE


def test_elements_moved_into_the_signatures_own_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its elements are signed after those of the data set: the last of those can go over with the bytes unchanged."""
    from scanward.signatures import signing

    every = signing.chosen
    monkeypatch.setattr(
        signing, "chosen", lambda *x: tuple(one for one in every(*x) if one.tag <= 0x00100020)
    )
    data = sign_bytes(made(), SIGNER)
    lax = replace(TRUST, required=Coverage.of(["0008,0018"]))
    assert word(data, lax) is Genuineness.GENUINE
    read = pydicom.dcmread(BytesIO(data))
    read[0xFFFAFFFA].value[0].add(read["PatientID"])
    del read.PatientID
    tags = list(read[0x4FFE0001].value[0].DataElementsSigned)
    assert tags[-1] == 0x00100020
    read[0x4FFE0001].value[0].DataElementsSigned = tags[:-1]
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    report = verify_bytes(out.getvalue(), lax)
    assert report.genuineness is Genuineness.MALFORMED
    assert "none of its own" in report.reasons[0]


def test_a_signature_in_another_file_or_another_item() -> None:
    data = signed()
    read = pydicom.dcmread(BytesIO(data))
    other = edited(made(PatientName="Somebody^Else"))
    theirs = pydicom.dcmread(BytesIO(other))
    theirs[0x4FFE0001], theirs[0xFFFAFFFA] = read[0x4FFE0001], read[0xFFFAFFFA]
    out = BytesIO()
    pydicom.dcmwrite(out, theirs, enforce_file_format=True)
    assert word(out.getvalue()) is Genuineness.ALTERED
    # In an item of the file it is over something else, and the file itself has none.
    read.ReferencedImageSequence[0].add(read[0x4FFE0001])
    read.ReferencedImageSequence[0].add(read[0xFFFAFFFA])
    del read[0x4FFE0001], read[0xFFFAFFFA]
    out = BytesIO()
    pydicom.dcmwrite(out, read, enforce_file_format=True)
    assert word(out.getvalue()) is Genuineness.ALTERED
    # The whole signed data set as an item of another: of the outer one nothing is said.
    outer = pydicom.dcmread(BytesIO(made(PatientName="Somebody^Else")))
    inner = pydicom.dcmread(BytesIO(data))
    inner.remove_private_tags()
    outer.SourceImageSequence = [pydicom.dcmread(BytesIO(data))]
    out = BytesIO()
    pydicom.dcmwrite(out, outer, enforce_file_format=True)
    report = verify_bytes(out.getvalue(), TRUST)
    assert report.genuineness is Genuineness.UNSIGNED
    assert [one.fits.value for one in report.signatures] == ["yes"]


def test_another_certificate_of_the_same_key_needs_trust_itself() -> None:
    data = signed()
    other = certificate("Somebody else", KEY)
    swapped = changed_signature(data, _set(1, "CertificateOfSigner", even(other.public_bytes(Encoding.DER))))
    assert word(swapped) is Genuineness.UNTRUSTED
    # A certificate is outside of what is signed: whoever certifies one key twice is believed twice.
    assert word(swapped, Trust((other,))) is Genuineness.GENUINE


def test_values_of_signatures_in_other_encodings() -> None:
    """ECDSA allows two values for one signature (s, n - s): neither is over anything else."""
    own = certificate("CT 1", ec_key())
    trust, data = Trust((own,)), signed(signer=Signer(ec_key(), own))
    raw = bytes(pydicom.dcmread(BytesIO(data))[0xFFFAFFFA].value[0].Signature)
    der = raw[: 2 + raw[1]]
    r, s = decode_dss_signature(der)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = encode_dss_signature(r, order - s)
    assert word(changed_signature(data, _set(1, "Signature", twin + b"\0" * (len(twin) % 2))), trust) is (
        Genuineness.GENUINE
    )
    for bad in (
        der + b"\0\0\0",
        der + b"\1" * (2 - len(der) % 2),
        b"\x30\x81" + der[1:],
        der[:-2],
        b"\x30\x00",
    ):
        value = bad + b"\0" * (len(bad) % 2)
        if value.rstrip(b"\0") != der.rstrip(b"\0"):
            assert word(changed_signature(data, _set(1, "Signature", value)), trust) is Genuineness.ALTERED
    data = signed()
    raw = bytes(pydicom.dcmread(BytesIO(data))[0xFFFAFFFA].value[0].Signature)
    for bad in (raw + bytes(2), raw[:-2], bytes(2) + raw, raw + b"\1\0"):
        assert word(changed_signature(data, _set(1, "Signature", bad))) is Genuineness.ALTERED


def test_signatures_of_no_sequence_are_not_added_to() -> None:
    for tag in (0x4FFE0001, 0xFFFAFFFA):
        for vr in (b"UN", b"OB"):
            data = put(made(), element(tag, vr, bytes(4)))
            assert word(data) is not Genuineness.GENUINE
            with pytest.raises(ScanwardError):
                sign_bytes(data, SIGNER)
        head = struct.pack("<HH2s2sI", tag >> 16, tag & 0xFFFF, b"UN", b"\0\0", 0xFFFFFFFF)
        with pytest.raises(ScanwardError):
            sign_bytes(put(made(), head + END), SIGNER)


# --- bombs


def test_deflate_bombs_depth_and_counts() -> None:
    data = made(DEFLATED)
    head = data[: parse(data).offset]
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = head + engine.compress(bytes(64 << 20)) + engine.flush()
    small = replace(SIGNATURE_BOUNDS, inflated_bytes=1 << 20, elements=1000)
    with pytest.raises(ScanwardError, match="inflates to more"):
        parse(bomb, small)
    nested = b""
    for _ in range(SIGNATURE_BOUNDS.depth + 2):
        nested = element(0x00081140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested)
    assert word(put(made(private=False), nested.replace(b"\x40\x11", b"\x41\x11"))) is Genuineness.MALFORMED
    open_ended = struct.pack("<HH2s2sI", 8, 0x1141, b"UN", b"\0\0", 0xFFFFFFFF)
    deep = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0xFFFFFFFF, 8, 0x1141, 0xFFFFFFFF)
    assert word(put(made(), open_ended + deep * 5000)) is Genuineness.MALFORMED
    many = element(0x00081141, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2000)
    with pytest.raises(ScanwardError, match="more than 1000 elements"):
        parse(put(made(), many), small)


def test_lists_of_tags_cost_no_more_than_they_are_long() -> None:
    """A list of 16,000 tags over a file of 60,000 elements is no 10^9 comparisons."""
    base = signed(pixels=False)
    extra = b"".join(
        element(group << 16 | number, b"LO", b"")
        for group in (0x0019, 0x001B)
        for number in range(0x1000, 0x5000)
    )
    parsed = parse(base)
    place = parsed.offset + next(one.start for one in parsed.elements if one.tag > 0x0019FFFF)
    data = base[:place] + extra + base[place:]
    wanted = [group << 16 | n for group in (0x001B,) for n in range(0x1000, 0x5000 - 2)]
    data = changed_signature(data, _signed_tags(lambda _: wanted[-16000:]))
    start = time.monotonic()
    assert word(data) is Genuineness.ALTERED
    assert time.monotonic() - start < 30  # against hanging: it takes well under one second


def test_nothing_from_outside_is_remembered_without_bound() -> None:
    assert implied.cache_info().maxsize


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            verify_file(path, TRUST)


# --- fuzz


def survives(data: bytes) -> None:
    assert verify_bytes(data, TRUST).genuineness is not Genuineness.GENUINE
    with contextlib.suppress(ScanwardError):
        pieces(data, SIGNER)


QUIET = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], database=None)
HEAD = made()[: parse(made()).offset]


@given(st.binary(max_size=400))
@QUIET
def test_any_bytes(data: bytes) -> None:
    survives(data)
    survives(bytes(128) + b"DICM" + data)
    survives(HEAD + data)


TOKENS = st.sampled_from(
    [
        b"\x08\0\x18\0UI\4\x001.2\0", b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\xff\xff\xff\xff",
        b"\xfe\xff\x0d\xe0\0\0\0\0", END, b"\x10\0\x10\0UN\0\0\xff\xff\xff\xff", b"\xfe\x4f\1\0SQ\0\0\xff\xff\xff\xff",
        b"\xfa\xff\xfa\xffSQ\0\0\xff\xff\xff\xff", b"\0\4\5\0US\2\0\1\0", b"\0\4\x10\0UI\x06\x001.2.3\0",
        b"\0\4\x15\0CS\6\0SHA256", b"\0\4\x20\0AT\4\0\x08\0\x18\0", b"\0\4\x20\1OB\0\0\2\0\0\0ab",
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\2\0\0\0ab", b"\xfc\xff\xfc\xffOB\0\0\0\0\0\0",
    ]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=25), st.sampled_from(["explicit", "JPEG", "implicit"]))
@QUIET
def test_any_order_of_what_files_are_made_of(tokens: list[bytes], syntax: str) -> None:
    whole = made(SYNTAXES[syntax])
    survives(whole[: parse(whole).offset] + b"".join(tokens))


def test_a_certificate_with_a_serial_number_that_is_none() -> None:
    whole, der = signed(), OWN.public_bytes(Encoding.DER)
    number = OWN.serial_number.to_bytes((OWN.serial_number.bit_length() + 8) // 8, "big")
    at = whole.index(der) + der.index(b"\x02" + bytes([len(number)]) + number) + 2
    raw = whole[:at] + bytes([whole[at] | 0x80]) + whole[at + 1 :]
    assert "a certificate that is none" in verify_bytes(raw, TRUST).reasons[0]


@given(st.data())
@QUIET
def test_any_change_of_a_certificate(data: st.DataObject) -> None:
    """cryptography reads a certificate late: whatever it finds then is a doubt, and no traceback."""
    whole = signed()
    der = OWN.public_bytes(Encoding.DER)
    place = whole.index(der)
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[place + data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = verify_bytes(bytes(raw), TRUST).genuineness
        verify_bytes(bytes(raw), Trust((certificate("Root", rsa_key(1), ca=True),)))
    if bytes(raw) != whole:
        assert found is not Genuineness.GENUINE
