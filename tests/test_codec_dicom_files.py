"""Opening files that nobody vouches for."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_builders import dose_reports as build
from scanward.codecs import dicom_files
from scanward.codecs.dicom_files import number_of, open_dicom, text_of, unreadable_elements
from scanward.codecs.rdsr import decode_dose_file
from scanward.errors import DecodeError

GOOD = build.to_bytes(build.report(build.event(), build.event(uid_value="1.2.3.2")))


def _pseudonym(text: str) -> str:
    return f"<{len(text)}>"


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    for data in (b"", tmp_path / "x"):
        with pytest.raises(DecodeError, match="empty"):
            open_dicom(data, name="x")


@pytest.mark.parametrize("data", [b"hello", b"\0" * 1000, b"PK\x03\x04" + b"\1" * 500, b"\0" * 128 + b"DICM"])
def test_not_dicom(data: bytes) -> None:
    with pytest.raises(DecodeError):
        open_dicom(data, name="x")


def test_missing_and_irregular_files(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="cannot be read"):
        open_dicom(tmp_path / "nothing", name="x")
    with pytest.raises(DecodeError, match="regular"):
        open_dicom(tmp_path, name="x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DecodeError, match="regular"):  # would wait for ever
        open_dicom(tmp_path / "pipe", name="x")


def test_every_cut_is_found() -> None:
    """A cut inside anything is an error; only between two top-level elements it cannot be seen."""
    whole = len(decode_dose_file(GOOD, path="x", pseudonym=_pseudonym).results)
    assert whole == 2
    unseen = 0
    for end in range(0, len(GOOD), 5):
        try:
            open_dicom(GOOD[:end], name="x")
        except DecodeError:
            continue
        unseen += 1
        with pytest.raises(DecodeError):  # and then the content is missing
            decode_dose_file(GOOD[:end], path="x", pseudonym=_pseudonym)
    assert unseen < 20


def test_four_gigabytes_are_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    genuine = dicom_files._Bounded.read

    def read(self: dicom_files._Bounded, count: int = -1) -> bytes:
        data = genuine(self, count)
        asked.append(len(data))
        return data

    monkeypatch.setattr(dicom_files._Bounded, "read", read)
    for vr in (b"OB", b"UN", b"UT", b"SQ"):
        claim = GOOD + struct.pack("<HH2sHI", 0x7001, 0x0010, vr, 0, 0xFFFFFFF0)
        path = tmp_path / "claim.dcm"
        path.write_bytes(claim)
        for data in (claim, path):
            with pytest.raises(DecodeError, match=r"truncated.*4294967280"):
                open_dicom(data, name="x")
    pixels = GOOD + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0)
    with pytest.raises(DecodeError, match="truncated"):
        open_dicom(pixels, name="x")
    assert max(asked) <= len(GOOD)


@pytest.mark.parametrize("undefined", [True, False])
def test_deep_nesting(undefined: bool) -> None:
    inner = b""
    for _ in range(2000):
        if undefined:
            inner = (
                struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
                + inner
                + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            )
        else:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
            inner = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item)) + item
    head = build.to_bytes(build.report())
    with pytest.raises(DecodeError, match="nested deeper"):
        open_dicom(head + inner, name="x")


def test_content_nested_deeper_than_any_report() -> None:
    item = build.text("121106", "deep")
    for _ in range(40):
        item = build.container("113822", item)
    data = build.to_bytes(build.report(build.event(item)))
    with pytest.raises(DecodeError, match="nested deeper than 32"):
        decode_dose_file(data, path="x", pseudonym=_pseudonym)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_transfer_syntaxes(syntax: str) -> None:
    ds = build.report(build.event())
    ds.file_meta.TransferSyntaxUID = syntax
    command = decode_dose_file(build.to_bytes(ds), path="x", pseudonym=_pseudonym).commands[0]
    assert command.number("KVP") == 120


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "MAX_INFLATED", 100_000)
    ds = build.report(build.event())
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta = build.to_bytes(ds)
    _, start = dicom_files.read_meta(io.BytesIO(meta), len(meta), "x")
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = meta[:start] + squeezed.compress(b"\0" * 10_000_000) + squeezed.flush()
    with pytest.raises(DecodeError, match="inflates"):
        open_dicom(bomb, name="x")
    with pytest.raises(DecodeError, match="truncated"):
        open_dicom(meta[:-20], name="x")


def test_an_unreadable_element_is_left_out_and_told() -> None:
    data = build.to_bytes(build.report(build.event(), PatientWeight="70"))
    broken = data.replace(b"\x10\x00\x30\x10DS\x02\x0070", b"\x10\x00\x30\x10DS\x02\x00a\xff")
    assert broken != data
    ds = open_dicom(broken, name="x")
    assert "PatientWeight" in unreadable_elements(ds)
    assert number_of(ds, "PatientWeight") is None
    notes = decode_dose_file(broken, path="x", pseudonym=_pseudonym).notes
    assert any("PatientWeight" in note for note in notes)


@pytest.mark.parametrize(
    ("charset", "protocol"),
    [
        (None, "Thorax"),
        ("ISO_IR 100", "Schädel"),
        ("ISO_IR 192", "Грудь 胸部"),
        (["", "ISO 2022 IR 87"], "胸部ルーチン"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Gehörgang"),
    ],
)
def test_character_sets(charset: str | list[str] | None, protocol: str) -> None:
    header = {"SpecificCharacterSet": charset} if charset else {}
    data = build.to_bytes(build.report(build.event(protocol=protocol), StudyDescription=protocol, **header))
    command = decode_dose_file(data, path="x", pseudonym=_pseudonym).commands[0]
    assert command.text("ProtocolElementName") == protocol
    assert command.text("StudyDescription") == protocol


def test_a_number_of_the_wrong_length_is_left_out() -> None:
    """pydicom has an exception of its own for this, outside the tree of ValueError (found by mutation)."""
    data = build.to_bytes(build.report(build.event()))
    wrong = data.replace(b"\x10\x00\x10\x10AS\x04\x00039Y", b"\x10\x00\x10\x10FD\x04\x00039Y")
    assert wrong != data
    assert "PatientAge" in unreadable_elements(open_dicom(wrong, name="x"))


def test_an_unknown_character_set_costs_no_report() -> None:
    data = build.to_bytes(build.report(build.event(), SpecificCharacterSet="ISO_IR 100", PatientName="D\xf6"))
    data = data.replace(b"ISO_IR 100", b"KLINGON 10")
    assert text_of(open_dicom(data, name="x"), "PatientName")
    assert decode_dose_file(data, path="x", pseudonym=_pseudonym).commands


_MUTATION = st.tuples(st.integers(132, len(GOOD) - 1), st.integers(0, 255))


@settings(max_examples=300)
@given(st.lists(_MUTATION, min_size=1, max_size=12), st.integers(0, len(GOOD)), st.booleans())
def test_mutated_reports_raise_nothing_else(mutations: list[tuple[int, int]], end: int, cut: bool) -> None:
    data = bytearray(GOOD)
    for place, value in mutations:
        data[place] = value
    try:
        report = decode_dose_file(bytes(data[:end] if cut else data), path="x", pseudonym=_pseudonym)
    except DecodeError:
        return
    assert all((r.command is None) == bool(r.reason) for r in report.results)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_noise_after_the_preamble(noise: bytes) -> None:
    head = GOOD[: GOOD.index(b"\x08\x00\x16\x00")]
    with pytest.raises(DecodeError):
        decode_dose_file(head + noise, path="x", pseudonym=_pseudonym)
