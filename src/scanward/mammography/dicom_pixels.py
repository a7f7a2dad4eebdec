"""Pixels of a DICOM mammogram, from stored values to values that grow with dense tissue.

The way of PS3.3 C.11 and PS3.14: stored values, padding set aside, modality transformation, VOI transformation,
photometric interpretation. What is linear is left out, for it changes no order and can be carried back exactly; what
bends (tables, SIGMOID) is part of the picture and is applied. FOR PROCESSING images hold detector signal
(C.8.11.7.1.2): linear signal ``I`` becomes ``1 - ln(I) / ln(max)``, logarithmic signal is turned round where it grows
with exposure (PixelIntensityRelationship and its Sign, C.8.11.3.1.2), and no VOI transformation applies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from scanward.errors import DecodeError
from scanward.mammography import decode_apart
from scanward.mammography.codestreams import check_codestream, decode_rle, only_frame
from scanward.mammography.dicom_headers import (
    Facts,
    facts_of,
    items_of,
    numbers_of,
    open_dicom,
    parsing,
    text_of,
    whole_of,
)
from scanward.mammography.readers import Curves, Reading, check_size

Wide = NDArray[np.int32]
_TODO = "get the file again from its source"
# One decoder for each: on damaged data pydicom would go on to the next, and gdcm's are known to end the process.
# The other JPEG syntaxes have only gdcm's, and are decoded apart.
_DECODERS = {
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def read_dicom_file(path: Path, *, curves: Curves = "curves") -> Reading:
    """Read one DICOM mammogram; `scanward.mammography.readers.read_mammogram` tells what comes back and what fails."""
    return read_stored(path, curves=curves).reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A DICOM mammogram with what its file holds, for whoever carries a change back into it.

    ``values`` (rows, columns) are the stored values, ``low`` the least that the header allows, ``shown[v - low]`` what
    `Reading.pixels` has where the stored value is ``v``; ``padding`` is where there is no picture (shown as 0).
    """

    dataset: pydicom.Dataset
    values: Wide
    low: int
    shown: Wide
    padding: NDArray[np.bool_]
    reading: Reading


def read_stored(path: Path, *, curves: Curves = "curves") -> Stored:
    """As `read_dicom_file`, with stored values and what each of them is shown as."""
    with parsing(
        "cannot be read as DICOM", path
    ):  # whatever is asked of the data set may fail as late as here
        ds = open_dicom(path, pixels=True)
        facts = facts_of(ds, path)
        stored, depth, signed, lie = _stored(ds, facts, path)
        padding = _padding(ds, stored)
        low = -(1 << depth - 1) if signed else 0
        ramp = np.arange(low, low + (1 << depth), dtype=np.int32)[None]
        with parsing("grey values that cannot be worked out", path):
            shown, bits, inverted, said = _presented(ds, facts, ramp, depth, signed=signed, curves=curves)
    shown = shown[0].astype(np.int32)
    pixels = shown[stored - low]
    if padding is not None and padding.any():
        pixels = np.where(padding, 0, pixels)
    reading = Reading(
        pixels=pixels.astype(np.uint8) if bits == 8 else pixels.astype(np.uint16),
        bits=bits,
        inverted=inverted,
        facts=replace(facts, remarks=()),
        remarks=(*facts.remarks, *lie, *said),
    )
    if padding is None:
        padding = np.zeros(stored.shape, dtype=np.bool_)
    return Stored(dataset=ds, values=stored, low=low, shown=shown, padding=padding, reading=reading)


def _stored(ds: pydicom.Dataset, facts: Facts, path: Path) -> tuple[Wide, int, bool, tuple[str, ...]]:
    """Stored values as signed 32 bit, their bits, whether they are signed, and what was odd about them."""
    rows, columns, allocated, depth, signed = _layout(ds, facts, path)
    if "PixelData" not in ds:
        what = (
            "float pixel data" if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds else "no pixel data"
        )
        raise DecodeError(what, str(path), "give images of 8 or 16 bits")
    with parsing("pixel data that cannot be read", path):
        syntax = ds.file_meta.TransferSyntaxUID
        data = bytes(ds.PixelData)
        if not syntax.is_transfer_syntax:
            raise DecodeError("an unknown transfer syntax", str(path), _TODO)
        frame = only_frame(data, path) if syntax.is_encapsulated else b""
        if syntax.is_encapsulated and syntax != RLELossless:
            check_codestream(frame, rows, columns, path)
        if not syntax.is_encapsulated and len(data) < rows * columns * allocated // 8:
            raise DecodeError(
                f"truncated: {len(data)} bytes of pixel data, {rows} x {columns} pixels need "
                f"{rows * columns * allocated // 8}",
                str(path),
                _TODO,
            )
    if syntax == JPEGExtended12Bit and depth > 8:
        raise DecodeError(
            f"lossy JPEG of {depth} bits, for which there is no decoder here",
            str(path),
            "decompress it first, with dcmdjpeg of DCMTK for instance",
        )
    with parsing("pixel data that cannot be decoded", path):
        kind = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
        if syntax == RLELossless:
            pixels = decode_rle(frame, rows, columns, allocated // 8).view(kind)
        elif syntax.is_encapsulated or not syntax.is_little_endian:
            if syntax in _DECODERS:
                ds.pixel_array_options(decoding_plugin=_DECODERS[syntax])
            if syntax.is_encapsulated and syntax not in _DECODERS and not decode_apart.already:
                pixels = decode_apart.decode(path, rows, columns)
            else:
                pixels = np.asarray(ds.pixel_array)
        else:  # pydicom would clear the bits that BitsStored denies, and a lie would go unseen
            kind = kind.newbyteorder("<")
            pixels = np.frombuffer(data, kind, count=rows * columns).reshape(rows, columns)
    if pixels.shape != (rows, columns) or pixels.dtype.kind not in "iu" or pixels.dtype.itemsize > 4:
        raise DecodeError("pixel data of another shape than the header says", str(path), _TODO)
    wide = pixels.astype(np.int32)
    lie: tuple[str, ...] = ()
    low, high = (-(1 << depth - 1), (1 << depth - 1) - 1) if signed else (0, (1 << depth) - 1)
    if wide.min() < low or wide.max() > high:
        if any(0x6000 <= tag.group < 0x6020 for tag in list(ds.keys())):
            # Overlays once lived in the unused high bits (retired, PS3.5 8.1.2): they are no grey values.
            wide &= (1 << depth) - 1
            if signed:
                wide = np.where(wide > high, wide - (1 << depth), wide)
            lie = ("overlay in the unused bits taken away",)
        else:
            lie = (f"header says {depth} bits, values need more: taken as {allocated}",)
            depth = allocated
    return wide, depth, signed, lie


def _layout(ds: pydicom.Dataset, facts: Facts, path: Path) -> tuple[int, int, int, int, bool]:
    """Rows, columns, bits allocated, bits stored, signed; refuses what is no single grey picture."""
    with parsing("a header that cannot be read", path):
        samples, photometric = (
            whole_of(ds, "SamplesPerPixel"),
            text_of(ds, "PhotometricInterpretation").upper(),
        )
        rows, columns = whole_of(ds, "Rows"), whole_of(ds, "Columns")
        allocated, depth = whole_of(ds, "BitsAllocated"), whole_of(ds, "BitsStored")
        high, sign = whole_of(ds, "HighBit"), whole_of(ds, "PixelRepresentation")
    if samples not in (None, 1) or photometric not in _MONOCHROME:
        shown = photometric if photometric.replace("_", "").isalnum() and len(photometric) <= 16 else "none"
        raise DecodeError(
            f"not a grey picture (photometric interpretation {shown})", str(path), "give MONOCHROME1 or 2"
        )
    if facts.frames != 1:
        raise DecodeError(
            f"{facts.frames} frames: tomosynthesis is not read",
            str(path),
            "give the conventional or the synthesized 2D picture",
        )
    if rows is None or columns is None:
        raise DecodeError("rows or columns are missing", str(path), _TODO)
    check_size(rows, columns, path)
    if allocated not in (8, 16) or depth is None or not 1 < depth <= allocated or sign not in (0, 1):
        raise DecodeError("bits that make no sense", str(path), "give images of 8 or 16 bits")
    if high is not None and high != depth - 1:
        raise DecodeError(
            "a high bit that is not the last stored bit", str(path), "store it as the standard asks"
        )
    return rows, columns, allocated, depth, sign == 1


def _padding(ds: pydicom.Dataset, stored: Wide) -> NDArray[np.bool_] | None:
    """Pixels that are no picture (PixelPaddingValue and its range limit, PS3.3 C.7.5.1.1.2)."""
    value, limit = whole_of(ds, "PixelPaddingValue"), whole_of(ds, "PixelPaddingRangeLimit")
    if value is None:
        return None
    if limit is None:
        limit = value
    low, high = min(value, limit), max(value, limit)
    found: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return found


def _presented(
    ds: pydicom.Dataset, facts: Facts, stored: Wide, bits: int, *, signed: bool, curves: Curves
) -> tuple[NDArray[np.integer], int, bool, list[str]]:
    """Values in 0 .. 2**bits - 1 that grow with dense tissue; bits; whether turned round; remarks."""
    most = (1 << bits) - 1
    base = stored + (1 << bits - 1) if signed else stored  # offset binary: order kept, nothing lost
    if facts.intent == "FOR PROCESSING":
        return _processed(ds, base, bits)
    inverted = text_of(ds, "PhotometricInterpretation").upper() == "MONOCHROME1"
    remarks: list[str] = []
    values: NDArray[np.floating] | None = None  # modality values, where they are wanted
    table = next(items_of(ds, "ModalityLUTSequence"), None)
    slope, offset = _rescale(ds)
    if table is not None:
        looked, bits = _look_up(table, stored)
        base, most = looked, (1 << bits) - 1
        values = looked.astype(np.float64)
        remarks.append("modality table applied")
    elif slope < 0:
        inverted = not inverted
        remarks.append("negative rescale slope")
    if curves != "none":
        if values is None:
            values = stored * slope + offset
        curve = next(items_of(ds, "VOILUTSequence"), None)
        function = text_of(ds, "VOILUTFunction").upper() or "LINEAR"
        if curve is not None:
            base, bits = _look_up(curve, np.rint(values).astype(np.int32))
            most = (1 << bits) - 1
            inverted = _undo_slope(inverted, slope, table is None)
            remarks.append("VOI table applied")
        elif function == "SIGMOID" or curves == "all":
            window = window_of(ds)
            if window is not None:
                base = np.rint(windowed(values, *window, function) * 65535.0).astype(np.int32)
                bits, most = 16, 65535
                inverted = _undo_slope(inverted, slope, table is None)
                remarks.append(f"VOI {'sigmoid' if function == 'SIGMOID' else 'window'} applied")
    if inverted:
        base = most - base
    if bits < 8:
        base, bits = np.left_shift(base, 8 - bits), 8
    return base, bits, inverted, remarks


def _undo_slope(inverted: bool, slope: float, linear: bool) -> bool:
    """A VOI transformation has taken the slope's sign into account: turning again would be once too often."""
    return inverted != (slope < 0) if linear else inverted


def _processed(
    ds: pydicom.Dataset, base: Wide, bits: int
) -> tuple[NDArray[np.integer], int, bool, list[str]]:
    """FOR PROCESSING: detector signal to something like optical density turned round (dense tissue bright)."""
    most = (1 << bits) - 1
    relationship = text_of(ds, "PixelIntensityRelationship").upper()
    sign = whole_of(ds, "PixelIntensityRelationshipSign")
    remarks: list[str] = []
    if sign not in (1, -1):
        # Not said: shown as MONOCHROME1 the low values are bright, so low values are tissue.
        sign = 1 if text_of(ds, "PhotometricInterpretation").upper() == "MONOCHROME1" else -1
        remarks.append(
            "FOR PROCESSING without a sign of intensity: taken from the photometric interpretation"
        )
    if relationship == "LIN":
        signal = base if sign == 1 else most - base
        density = 1.0 - np.log(np.maximum(signal, 1)) / math.log(most)
        remarks.append("FOR PROCESSING, linear signal: logarithm taken")
        return np.rint(density * 65535.0).astype(np.int32), 16, sign == 1, remarks
    if relationship not in ("LOG", "DISP"):
        remarks.append("FOR PROCESSING without a relationship to intensity: taken as logarithmic")
    else:
        remarks.append("FOR PROCESSING, logarithmic signal")
    turned = most - base if sign == 1 else base
    if bits < 8:
        turned, bits = np.left_shift(turned, 8 - bits), 8
    return turned, bits, sign == 1, remarks


def _rescale(ds: pydicom.Dataset) -> tuple[float, float]:
    slope, offset = numbers_of(ds, "RescaleSlope"), numbers_of(ds, "RescaleIntercept")
    if len(slope) != 1 or not math.isfinite(slope[0]) or slope[0] == 0:
        return 1.0, 0.0
    return slope[0], offset[0] if len(offset) == 1 and math.isfinite(offset[0]) else 0.0


def window_of(ds: pydicom.Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window, None when there is none that makes sense."""
    centre, width = numbers_of(ds, "WindowCenter"), numbers_of(ds, "WindowWidth")
    if (
        not centre
        or not width
        or not math.isfinite(centre[0])
        or not math.isfinite(width[0])
        or width[0] <= 0
    ):
        return None
    return centre[0], width[0]


def windowed(
    values: NDArray[np.floating], centre: float, width: float, function: str
) -> NDArray[np.floating]:
    """``values`` through a window, in 0 .. 1: LINEAR (PS3.3 C.11.2.1.2.1), LINEAR_EXACT or SIGMOID (C.11.2.1.3)."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            curve: NDArray[np.floating] = 1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width))
        return curve
    if function != "LINEAR_EXACT":
        if width <= 1:
            step: NDArray[np.floating] = (values > centre - 0.5).astype(np.float64)
            return step
        centre, width = centre - 0.5, width - 1.0
    line: NDArray[np.floating] = np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    return line


def _look_up(item: pydicom.Dataset, values: Wide) -> tuple[Wide, int]:
    """``values`` through a table (PS3.3 C.11.1.1, C.11.2.1.1): number of entries, first value, bits of an entry."""
    descriptor = numbers_of(item, "LUTDescriptor")
    if len(descriptor) != 3 or not all(math.isfinite(one) for one in descriptor):
        raise ValueError("LUTDescriptor")
    count, first, bits = (int(one) for one in descriptor)
    count = count or 65536
    if first > 32767 and values.min() < 0:
        first -= 65536  # written as unsigned, meant as signed
    if not 8 <= bits <= 16 or not 1 < count <= 65536:
        raise ValueError("LUTDescriptor")
    data = item.LUTData
    if isinstance(data, bytes):
        entries = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1").astype(np.int32)
    else:
        entries = np.asarray(data, dtype=np.int64).astype(np.int32) & 0xFFFF
    if len(entries) < count:
        raise ValueError("LUTData")
    table = np.minimum(entries[:count], (1 << bits) - 1)
    return table[np.clip(values - first, 0, count - 1)], bits
