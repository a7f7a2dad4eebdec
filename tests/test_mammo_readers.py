"""Any picture file of a mammogram: pixels come back as stored, or one of our errors says why not."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pil
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from _mammo import IDENTIFIER, NAME, breast_picture, compressed, dataset, dicom_file, save
from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError, ScanwardError
from scanward.mammography import codestreams, decode_apart, dicom_pixels
from scanward.mammography.dicom_headers import VIEWS
from scanward.mammography.readers import read_mammogram

# --- DICOM, uncompressed


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_all_bits_are_kept_and_can_be_had_back(tmp_path: Path, bits: int) -> None:
    stored = breast_picture(bits=bits)
    reading = read_mammogram(dicom_file(tmp_path / "a.dcm", stored, bits))
    assert reading.bits == bits
    assert not reading.inverted
    assert np.array_equal(reading.pixels, stored)
    assert np.array_equal(reading.full() >> (16 - bits), stored)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_monochrome1_is_turned_round(tmp_path: Path, bits: int) -> None:
    stored = breast_picture(bits=bits)
    negative = ((1 << bits) - 1 - stored.astype(np.int32)).astype(np.uint16)
    path = dicom_file(tmp_path / "a.dcm", negative, bits, PhotometricInterpretation="MONOCHROME1")
    reading = read_mammogram(path)
    assert reading.inverted
    assert np.array_equal(reading.pixels, stored)


def test_signed_values_keep_their_order(tmp_path: Path) -> None:
    stored = breast_picture(bits=12).astype(np.int32) - 2048
    reading = read_mammogram(dicom_file(tmp_path / "a.dcm", stored, 12))
    assert np.array_equal(reading.pixels.astype(np.int32) - 2048, stored)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_becomes_black_whatever_it_was(tmp_path: Path, photometric: str) -> None:
    stored = breast_picture(bits=12)
    stored[:, 70:] = 4000
    stored[:, 75:] = 4005
    path = dicom_file(
        tmp_path / "a.dcm",
        stored,
        12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=4010,
    )
    pixels = read_mammogram(path).pixels
    assert not pixels[:, 70:].any()
    expected = 4095 - stored if photometric == "MONOCHROME1" else stored
    assert np.array_equal(pixels[:, :70], np.where(stored >= 4000, 0, expected)[:, :70])


def test_a_negative_rescale_slope_turns_the_picture_round(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    path = dicom_file(tmp_path / "a.dcm", 4095 - stored, 12, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.array_equal(read_mammogram(path).pixels, stored)


def test_values_beyond_the_bits_that_the_header_tells_are_kept_and_remarked(tmp_path: Path) -> None:
    stored = breast_picture(bits=14)
    reading = read_mammogram(dicom_file(tmp_path / "a.dcm", stored, 12))
    assert reading.bits == 16
    assert np.array_equal(reading.pixels, stored)
    assert any("12 bits" in remark for remark in reading.remarks)


def test_an_overlay_in_unused_bits_is_no_grey_value(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    drawn = stored.copy()
    drawn[10:20, 10:20] |= 1 << 13
    ds = dataset(drawn, 12)
    ds.add_new(0x60000102, "US", 13)  # OverlayBitPosition
    reading = read_mammogram(save(ds, tmp_path / "a.dcm"))
    assert np.array_equal(reading.pixels, stored)
    assert reading.bits == 12


# --- tables, windows, raw signal: pydicom's own transformations are the oracle


def _table(first: int, entries: NDArray[np.uint16], bits: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def test_a_voi_table_is_applied_as_pydicom_does(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    curve = np.rint(65535 * (np.arange(3000) / 2999) ** 2).astype(np.uint16)
    ds = dataset(stored, 12, VOILUTSequence=_table(500, curve, 16))
    path = save(ds, tmp_path / "a.dcm")
    reading = read_mammogram(path)
    assert reading.bits == 16
    assert np.array_equal(reading.pixels, apply_voi_lut(stored, dcmread(path)))
    assert np.array_equal(read_mammogram(path, curves="none").pixels, stored)


def test_a_modality_table_is_applied_as_pydicom_does(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    curve = (65535 - np.arange(4096) * 8).astype(np.uint16)
    ds = dataset(stored, 12, ModalityLUTSequence=_table(0, curve, 16))
    path = save(ds, tmp_path / "a.dcm")
    reading = read_mammogram(path)
    assert reading.bits == 16
    assert np.array_equal(reading.pixels, apply_modality_lut(stored, dcmread(path)))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("offset", [0, -1000])
def test_windows_are_those_of_pydicom(tmp_path: Path, function: str | None, offset: int) -> None:
    stored = breast_picture(bits=12)
    elements: dict[str, Any] = {"WindowCenter": 1500 + offset, "WindowWidth": 1200}
    if function:
        elements["VOILUTFunction"] = function
    if offset:
        elements |= {"RescaleSlope": 1, "RescaleIntercept": offset}
    path = dicom_file(tmp_path / "a.dcm", stored, 12, **elements)
    ds = dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(stored, ds), ds)
    low, high = offset, 4095 + offset
    reading = read_mammogram(path, curves="all")
    assert reading.bits == 16
    assert np.abs(reading.pixels - (expected - low) / (high - low) * 65535).max() <= 1.0
    plain = read_mammogram(path)
    if function == "SIGMOID":
        assert np.array_equal(plain.pixels, reading.pixels)  # it bends: part of the picture
    else:
        assert np.array_equal(plain.pixels, stored)  # it only cuts off: left out
        assert plain.bits == 12


def test_a_negative_slope_and_a_window_turn_the_picture_once(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    elements = {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048, "WindowWidth": 4096}
    path = dicom_file(tmp_path / "a.dcm", 4095 - stored, 12, **elements)
    pixels = read_mammogram(path, curves="all").pixels.astype(np.float64)
    assert np.abs(pixels / 65535 - stored / 4095).max() < 1e-3


def test_a_negative_slope_and_a_table_turn_the_picture_once(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    curve = (np.arange(4096) * 16).astype(np.uint16)
    ds = dataset(
        4095 - stored, 12, RescaleSlope=-1, RescaleIntercept=4095, VOILUTSequence=_table(0, curve, 16)
    )
    assert np.array_equal(read_mammogram(save(ds, tmp_path / "a.dcm")).pixels, stored * 16)


@pytest.mark.parametrize(("relationship", "sign"), [("LIN", 1), ("LIN", -1), ("LOG", 1), ("LOG", -1)])
def test_raw_signal_becomes_bright_where_little_comes_through(
    tmp_path: Path, relationship: str, sign: int
) -> None:
    thickness = breast_picture(bits=12).astype(np.float64) / 4095  # what attenuates
    signal = 16383 * np.exp(-3 * thickness) if relationship == "LIN" else 16383 * (1 - thickness)
    stored = np.rint(signal if sign == 1 else 16383 - signal).astype(np.uint16)
    path = dicom_file(
        tmp_path / "a.dcm",
        stored,
        14,
        PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationship=relationship,
        PixelIntensityRelationshipSign=sign,
        PhotometricInterpretation="MONOCHROME1" if sign == 1 else "MONOCHROME2",
    )
    reading = read_mammogram(path)
    assert reading.inverted == (sign == 1)
    got = reading.pixels / ((1 << reading.bits) - 1)
    expected = 3 * thickness / math.log(16383) if relationship == "LIN" else thickness
    assert np.abs(got - expected).max() < 2e-3
    assert any("FOR PROCESSING" in remark for remark in reading.remarks)


def test_raw_signal_that_does_not_say_its_sign_is_remarked(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    path = dicom_file(tmp_path / "a.dcm", stored, 12, PresentationIntentType="FOR PROCESSING")
    reading = read_mammogram(path)
    assert np.array_equal(reading.pixels, stored)
    assert any("sign" in remark for remark in reading.remarks)


# --- DICOM, compressed by others

_SYNTAXES = {"RLE": RLELossless, "JPEG 2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless}


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", _SYNTAXES)
def test_lossless_compression_gives_equal_pixels(tmp_path: Path, name: str, bits: int) -> None:
    stored = breast_picture(rows=97, columns=81, bits=bits)
    path = save(compressed(dataset(stored, bits), _SYNTAXES[name]), tmp_path / "a.dcm")
    assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == _SYNTAXES[name]
    reading = read_mammogram(path)
    assert reading.bits == bits
    assert np.array_equal(reading.pixels, stored)


def test_signed_jpeg_2000_gives_equal_pixels(tmp_path: Path) -> None:
    stored = breast_picture(bits=12).astype(np.int32) - 2048
    path = save(compressed(dataset(stored, 12), JPEG2000Lossless), tmp_path / "a.dcm")
    assert np.array_equal(read_mammogram(path).pixels.astype(np.int32) - 2048, stored)


def test_lossy_jpeg_2000_is_nearly_equal(tmp_path: Path) -> None:
    stored = (breast_picture(bits=12) // 8 * 8).astype(np.uint16)
    ds = dataset(stored, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.compress(JPEG2000, j2k_psnr=[70], generate_instance_uid=False)
    pixels = read_mammogram(save(ds, tmp_path / "a.dcm")).pixels
    assert 0 < np.abs(pixels.astype(int) - stored).mean() < 40


def _jpeg_lossless(folder: Path, stored: NDArray[np.uint16]) -> Path:
    """A file of 12 bits in JPEG lossless, selection value 1, encoded by gdcm."""
    import gdcm

    plain = dicom_file(folder / "plain.dcm", stored, 12)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(folder / "a.dcm"))
    assert writer.Write()
    assert dcmread(folder / "a.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return folder / "a.dcm"


def test_jpeg_lossless_by_gdcm_gives_equal_pixels(tmp_path: Path) -> None:
    stored = breast_picture(bits=12)
    assert np.array_equal(read_mammogram(_jpeg_lossless(tmp_path, stored)).pixels, stored)


@pytest.mark.parametrize("where", ["marker", "precision", "middle", "end"])
def test_damage_that_ends_gdcms_process_is_an_error_here(tmp_path: Path, where: str) -> None:
    """The first two make gdcm 3.2 abort and reach into memory that is not its own."""
    path = _jpeg_lossless(tmp_path, breast_picture(bits=12))
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc3\x00\x0b")
    if where == "marker":
        data[frame + 13] = 0x40
    elif where == "precision":
        data[frame + 4] = 33
    elif where == "middle":
        data[frame + 400 : frame + 900] = bytes(range(250)) * 2
    else:
        del data[-300:]
    path.write_bytes(bytes(data))
    if where == "middle":  # decodes to something or fails: either way we are still here
        with contextlib.suppress(DecodeError):
            read_mammogram(path)
        return
    with pytest.raises(DecodeError):
        read_mammogram(path)


def test_a_jpeg_that_is_not_decoded_in_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = dataclasses.replace(MAMMOGRAPHY_BOUNDS, decode_seconds=0.001)
    monkeypatch.setattr(decode_apart, "MAMMOGRAPHY_BOUNDS", bounds)
    with pytest.raises(DecodeError, match="in time"):
        read_mammogram(_jpeg_lossless(tmp_path, breast_picture(bits=12)))


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ("dcmcjpeg", ["+e1"]),  # JPEG lossless, selection value 1
        ("dcmcjpeg", ["+el"]),  # JPEG lossless, process 14
        ("dcmcjpls", ["+el"]),  # JPEG-LS lossless
        ("dcmcrle", []),
    ],
)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_what_dcmtk_compresses_gives_equal_pixels(
    tmp_path: Path, tool: str, options: list[str], bits: int
) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} (Debian package dcmtk) is not installed")
    stored = breast_picture(rows=98, columns=82, bits=bits)
    plain = dicom_file(tmp_path / "plain.dcm", stored, bits)
    subprocess.run([program, *options, str(plain), str(tmp_path / "a.dcm")], check=True, timeout=60)
    assert dcmread(tmp_path / "a.dcm", stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
    reading = read_mammogram(tmp_path / "a.dcm")
    assert reading.bits == bits
    assert np.array_equal(reading.pixels, stored)


# --- what the header says


def test_every_view_of_cid_4014_is_known_in_both_codes() -> None:
    codes = {
        code
        for keyword in cid_concepts[4014]["SCT"]
        for code in concepts["SCT"][keyword]
        for code in (code, mapping["SCT"][code])
    }
    assert codes <= set(VIEWS)


@pytest.mark.parametrize(
    ("code", "scheme", "view"),
    [("399162004", "SCT", "CC"), ("R-10226", "SRT", "MLO"), ("399260004", "SCT", "ML")],
)
def test_the_view_code_goes_before_the_view_position(
    tmp_path: Path, code: str, scheme: str, view: str
) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, "view"
    path = dicom_file(
        tmp_path / "a.dcm", breast_picture(), ViewCodeSequence=Sequence([item]), ViewPosition="FB"
    )
    assert read_mammogram(path).facts.view == view


def test_laterality_spacing_and_orientation(tmp_path: Path) -> None:
    frame = Dataset()
    frame.FrameLaterality = "R"
    group = Dataset()
    group.FrameAnatomySequence = Sequence([frame])
    path = dicom_file(
        tmp_path / "a.dcm",
        breast_picture(),
        ImageLaterality=None,
        SharedFunctionalGroupsSequence=Sequence([group]),
        PixelSpacing=[0.1, 0.2],
        ImagerPixelSpacing=[0.07, 0.08],
        PatientOrientation=["P", "L"],
        NumberOfFrames=1,
    )
    facts = read_mammogram(path).facts
    assert (facts.laterality, facts.view, facts.spacing, facts.anterior) == ("R", "CC", (0.07, 0.08), "left")
    path = dicom_file(tmp_path / "b.dcm", breast_picture(), Laterality="R", ImageLaterality="L")
    assert read_mammogram(path).facts.laterality == "L"


# --- DICOM that is refused


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not a grey picture"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not a grey picture"),
        ({"PhotometricInterpretation": None}, "not a grey picture"),
        ({"NumberOfFrames": 30}, "tomosynthesis"),
        ({"NumberOfFrames": 0}, "frames"),
        ({"Rows": 65535, "Columns": 65535}, "more than"),
        ({"Rows": 4}, "fewer than"),
        ({"Rows": 0}, "fewer than"),
        ({"Rows": None}, "missing"),
        ({"Rows": 200}, "truncated"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "bits"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "bits"),
        ({"BitsStored": 20, "HighBit": 19}, "bits"),
        ({"HighBit": 15}, "high bit"),
        ({"PixelRepresentation": None}, "bits"),
    ],
)
def test_dicom_that_is_no_single_grey_picture_is_refused(
    tmp_path: Path, elements: dict[str, Any], says: str
) -> None:
    path = dicom_file(tmp_path / "a.dcm", breast_picture(), **elements)
    with pytest.raises(DecodeError, match=says):
        read_mammogram(path)


def test_pixel_data_that_is_missing_or_floating_is_refused(tmp_path: Path) -> None:
    ds = dataset(breast_picture())
    del ds.PixelData
    with pytest.raises(DecodeError, match="no pixel data"):
        read_mammogram(save(ds, tmp_path / "a.dcm"))
    ds.FloatPixelData = np.zeros((96, 80), "<f4").tobytes()
    with pytest.raises(DecodeError, match="float"):
        read_mammogram(save(ds, tmp_path / "b.dcm"))


@pytest.mark.parametrize("name", ["JPEG 2000", "JPEG-LS"])
def test_a_compressed_picture_of_another_size_is_refused_before_it_is_decoded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = compressed(dataset(breast_picture()), _SYNTAXES[name])
    ds.Rows = 90
    path = save(ds, tmp_path / "a.dcm")
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("it was decoded")))
    with pytest.raises(DecodeError, match="96 x 80 pixels, the header says 90 x 80"):
        read_mammogram(path)


def test_a_codestream_that_claims_gigapixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = compressed(dataset(breast_picture()), JPEG2000Lossless)
    data = bytearray(ds.PixelData)
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 8] = struct.pack(">II", 60000, 60000)
    ds.PixelData = bytes(data)
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("it was decoded")))
    with pytest.raises(DecodeError, match="more than"):
        read_mammogram(save(ds, tmp_path / "a.dcm"))


def test_a_codestream_of_many_components_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = compressed(dataset(breast_picture()), JPEG2000Lossless)
    data = bytearray(ds.PixelData)
    at = data.index(b"\xff\x4f\xff\x51") + 40
    data[at : at + 2] = struct.pack(">H", 16384)
    ds.PixelData = bytes(data)
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda _: pytest.fail("it was decoded")))
    with pytest.raises(DecodeError, match="16384 components"):
        read_mammogram(save(ds, tmp_path / "a.dcm"))


def test_a_run_length_bomb_is_cut_off() -> None:
    bomb = b"\x81\x07" * 50_000  # 6.4 MB for a picture of 256 bytes
    pixels = codestreams.decode_rle(struct.pack("<16I", 1, 64, *[0] * 14) + bomb, 16, 16, 1)
    assert pixels.shape == (16, 16)
    assert (pixels == 7).all()


@given(st.binary(max_size=400), st.sampled_from([1, 2]))
def test_run_lengths_make_no_more_than_the_picture_holds(packed: bytes, size: int) -> None:
    half = len(packed) // 2
    frame = struct.pack("<16I", size, 64, 64 + half, *[0] * 13) + packed
    try:
        pixels = codestreams.decode_rle(frame, 16, 16, size)
    except (ValueError, struct.error):
        return
    assert pixels.shape == (16, 16)
    assert pixels.dtype.itemsize == size


@pytest.mark.parametrize("name", [*_SYNTAXES, "plain"])
def test_truncated_pixel_data_is_refused(tmp_path: Path, name: str) -> None:
    ds = dataset(breast_picture())
    if name != "plain":
        compressed(ds, _SYNTAXES[name])
    whole = save(ds, tmp_path / "a.dcm").read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "b.dcm").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DecodeError):
            read_mammogram(tmp_path / "b.dcm")


def test_files_that_cannot_be_opened_are_input_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.dcm", tmp_path, Path("\0")):
        with pytest.raises(InputError):
            read_mammogram(path)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"hello, this is no picture at all" * 9)
    for name in ("empty", "text"):
        with pytest.raises(DecodeError, match="neither DICOM nor PNG"):
            read_mammogram(tmp_path / name)


# --- PNG, TIFF, PGM


def _png(path: Path, picture: NDArray[Any]) -> None:
    Pil.fromarray(picture).save(path, "PNG")


def _tiff(path: Path, picture: NDArray[Any]) -> None:
    Pil.fromarray(picture).save(path, "TIFF")


def _tiff_lzw(path: Path, picture: NDArray[Any]) -> None:
    Pil.fromarray(picture).save(path, "TIFF", compression="tiff_lzw")


def _tiff_big(path: Path, picture: NDArray[Any], order: str = ">", photometric: int = 1) -> None:
    """Big-endian unless told otherwise, uncompressed, written by hand: TIFF 6.0 sections 2 and 4."""
    bits = picture.dtype.itemsize * 8
    rows, columns = picture.shape
    data = picture.astype(picture.dtype.newbyteorder(order)).tobytes()
    entries = [
        (256, 4, columns),
        (257, 4, rows),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, len(data)),
    ]
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, len(entries))
    body = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1)
        + struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *values)
        for tag, kind, value in entries
        for values in [(value, 0) if kind == 3 else (value,)]
    )
    path.write_bytes(head + body + bytes(4) + data)


def _pgm(path: Path, picture: NDArray[Any]) -> None:
    most = (1 << picture.dtype.itemsize * 8) - 1
    rows, columns = picture.shape
    data = picture.astype(picture.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(b"P5\n# a comment\n%d %d\n%d\n" % (columns, rows, most) + data)


_WRITERS: dict[str, Callable[[Path, NDArray[Any]], None]] = {
    "png": _png,
    "tiff": _tiff,
    "tiff-lzw": _tiff_lzw,
    "tiff-big-endian": _tiff_big,
    "pgm": _pgm,
}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", _WRITERS)
def test_pictures_come_back_as_they_were_written(tmp_path: Path, name: str, kind: type) -> None:
    bits = 8 * np.dtype(kind).itemsize
    picture = breast_picture(bits=bits).astype(kind)
    _WRITERS[name](tmp_path / "a", picture)
    reading = read_mammogram(tmp_path / "a")
    assert reading.bits == bits
    assert reading.pixels.dtype == kind
    assert np.array_equal(reading.pixels, picture)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_is_turned_round(tmp_path: Path, kind: type) -> None:
    bits = 8 * np.dtype(kind).itemsize
    picture = breast_picture(bits=bits).astype(kind)
    _tiff_big(tmp_path / "a", picture, order="<", photometric=0)
    reading = read_mammogram(tmp_path / "a")
    assert reading.inverted
    assert np.array_equal(reading.pixels, np.iinfo(kind).max - picture)


def test_a_pgm_of_twelve_bits_has_twelve_bits(tmp_path: Path) -> None:
    picture = breast_picture(bits=12)
    (tmp_path / "a").write_bytes(b"P5 80 96 4095\n" + picture.astype(">u2").tobytes())
    reading = read_mammogram(tmp_path / "a")
    assert reading.bits == 12
    assert np.array_equal(reading.pixels, picture)


def test_grey_stored_as_rgb_is_read_and_colour_is_refused(tmp_path: Path) -> None:
    grey = breast_picture(bits=8).astype(np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    _png(tmp_path / "grey.png", colour)
    assert np.array_equal(read_mammogram(tmp_path / "grey.png").pixels, grey)
    colour[30, 30] = (200, 10, 10)
    _png(tmp_path / "colour.png", colour)
    _tiff(tmp_path / "colour.tif", colour)
    Pil.fromarray(colour).convert("P").save(tmp_path / "palette.png")
    Pil.fromarray(grey > 99).save(tmp_path / "bilevel.png")
    Pil.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("colour.png", "colour.tif", "palette.png", "bilevel.png", "float.tif"):
        with pytest.raises(DecodeError, match=r"colour|mode"):
            read_mammogram(tmp_path / name)


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    one = Pil.fromarray(breast_picture(bits=8).astype(np.uint8))
    one.save(tmp_path / "a.tif", save_all=True, append_images=[one])
    with pytest.raises(DecodeError, match="several"):
        read_mammogram(tmp_path / "a.tif")


def test_sizes_beyond_the_bound_are_refused_before_pixels_are_read(tmp_path: Path) -> None:
    columns = MAMMOGRAPHY_BOUNDS.pixels // 1000
    (tmp_path / "a.pgm").write_bytes(b"P5 %d 1001 255\n" % columns)
    with pytest.raises(DecodeError, match="more than"):
        read_mammogram(tmp_path / "a.pgm")
    _png(tmp_path / "a.png", breast_picture(bits=8).astype(np.uint8))
    data = bytearray((tmp_path / "a.png").read_bytes())
    import zlib

    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "a.png").write_bytes(bytes(data))
    with pytest.raises(DecodeError, match="more"):
        read_mammogram(tmp_path / "a.png")


@pytest.mark.parametrize("name", _WRITERS)
def test_truncated_pictures_are_refused(tmp_path: Path, name: str) -> None:
    _WRITERS[name](tmp_path / "a", breast_picture(bits=16))
    whole = (tmp_path / "a").read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "b").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DecodeError):
            read_mammogram(tmp_path / "b")


# --- hostile files


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each sort."""
    folder = tmp_path_factory.mktemp("seeds")
    found = {}
    for name, writer in _WRITERS.items():
        writer(folder / name, breast_picture(40, 32, bits=16))
        found[name] = (folder / name).read_bytes()
    curve = (np.arange(4096) * 16).astype(np.uint16)
    for name, syntax in {"dicom": None, **_SYNTAXES}.items():
        ds = dataset(
            breast_picture(40, 32),
            12,
            VOILUTSequence=_table(0, curve[::64], 16),
            WindowCenter=[2000, 1000],
            WindowWidth=[4000, 500],
            RescaleSlope=1,
            RescaleIntercept=0,
            PixelPaddingValue=0,
        )
        if syntax is not None:
            compressed(ds, syntax)
        found[name] = save(ds, folder / "a.dcm").read_bytes()
    return found


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*_WRITERS, "dicom", *_SYNTAXES]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    data=st.data(),
)
def test_a_damaged_file_gives_a_reading_or_our_error(
    tmp_path: Path,
    seeds: dict[str, bytes],
    name: str,
    changes: list[tuple[float, bytes]],
    cut: float | None,
    data: st.DataObject,
) -> None:
    damaged = bytearray(seeds[name])
    near = data.draw(st.sampled_from([0.05, 0.3, 1.0]))  # headers lie at the beginning
    for place, new in changes:
        at = int(place * near * len(damaged))
        damaged[at : at + len(new)] = new
    if cut is not None:
        del damaged[int(cut * len(damaged)) :]
    (tmp_path / "a").write_bytes(bytes(damaged))
    try:
        reading = read_mammogram(tmp_path / "a", curves=data.draw(st.sampled_from(["curves", "all", "none"])))
    except ScanwardError as error:
        text = str(error)
        assert NAME not in text
        assert IDENTIFIER not in text
    else:
        assert reading.pixels.ndim == 2
        assert 8 <= reading.bits <= 16
        assert int(reading.pixels.max()) < 1 << reading.bits


@given(st.binary(max_size=200))
def test_any_bytes_have_a_size_or_none(stream: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51"):
        size = codestreams.size_of(start + stream)
        assert size is None or len(size) == 3


def test_windows_of_no_width_are_left_out(tmp_path: Path) -> None:
    stored = breast_picture()
    path = dicom_file(tmp_path / "a.dcm", stored, WindowCenter=100, WindowWidth=0, VOILUTFunction="SIGMOID")
    assert np.array_equal(read_mammogram(path, curves="all").pixels, stored)
    assert dicom_pixels.window_of(dcmread(path)) is None


@pytest.mark.parametrize(("option", "bits"), [("+eb", 8), ("+ee", 12)])
def test_lossy_jpeg_by_dcmtk_is_nearly_equal_or_told(tmp_path: Path, option: str, bits: int) -> None:
    program = shutil.which("dcmcjpeg")
    if program is None:
        pytest.skip("dcmcjpeg (Debian package dcmtk) is not installed")
    down, right = np.mgrid[:96, :80]
    stored = ((down + right) * ((1 << bits) - 1) // 176).astype(np.uint16)
    plain = dicom_file(tmp_path / "plain.dcm", stored, bits)
    subprocess.run([program, option, "+q", "95", str(plain), str(tmp_path / "a.dcm")], check=True, timeout=60)
    if bits == 12:  # as pydicom has it, no decoder can be trusted with these
        with pytest.raises(DecodeError, match="dcmdjpeg"):
            read_mammogram(tmp_path / "a.dcm")
        return
    reading = read_mammogram(tmp_path / "a.dcm")
    assert reading.bits == bits
    assert np.abs(reading.pixels.astype(int) - stored).mean() < 0.01 * (1 << bits)
