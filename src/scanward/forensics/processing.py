"""What happens to pictures on their way: JPEG, resizing, noise, windowing, other files. To genuine and forged alike.

Pictures are uint16 (rows, columns) and keep their size. All is a function of picture, seed and key alone: a second run
makes the same bits. Files are written in memory, never to disk.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scanward.errors import SettingsError
from scanward.forensics.families import Sample
from scanward.mammography.pictures import Mask, Pixels

PLAIN = "none"
NOISE = 0.01  # of the breast's upper quartile: some of a detector's own noise
Process = Callable[[Pixels, Mask, np.random.Generator], Pixels]


def jpeg(quality: int) -> Process:
    """8 bits and baseline JPEG of ``quality``."""

    def process(picture: Pixels, _: Mask, __: np.random.Generator) -> Pixels:
        from PIL import Image as Pil

        white = max(int(picture.max()), 1)  # the 8 bits are used as an export would
        eight = np.rint(picture * (255.0 / white)).astype(np.uint8)
        buffer = io.BytesIO()
        Pil.fromarray(eight).save(buffer, "JPEG", quality=quality)
        with Pil.open(buffer, formats=("JPEG",)) as opened:
            return _whole(np.asarray(opened, dtype=np.float64) * (white / 255.0))

    return process


def resize(factor: float) -> Process:
    """To ``factor`` of the size and back, bilinear over areas."""

    def process(picture: Pixels, _: Mask, __: np.random.Generator) -> Pixels:
        from PIL import Image as Pil

        rows, columns = picture.shape
        there = (max(1, round(columns * factor)), max(1, round(rows * factor)))
        image = Pil.fromarray(picture.astype(np.float32))
        back = image.resize(there, Pil.Resampling.BILINEAR).resize((columns, rows), Pil.Resampling.BILINEAR)
        return _whole(np.asarray(back, dtype=np.float64))

    return process


def noise(share: float = NOISE) -> Process:
    """White noise of ``share`` of the upper quartile inside the breast."""

    def process(picture: Pixels, breast: Mask, random: np.random.Generator) -> Pixels:
        level = float(np.percentile(picture[breast] if breast.any() else picture, 75))
        return _whole(picture + share * level * random.standard_normal(picture.shape))

    return process


def window() -> Process:
    """A reader's window burned in: 2nd to 99.5th percentile of the breast to 8 bits; what is beyond is lost."""

    def process(picture: Pixels, breast: Mask, _: np.random.Generator) -> Pixels:
        inside = picture[breast] if breast.any() else picture
        low, high = np.percentile(inside, (2.0, 99.5))
        eight = np.rint(np.clip((picture - low) / max(float(high - low), 1.0), 0, 1) * 255)
        return _whole(eight * 257.0)

    return process


def png(bits: int) -> Process:
    """Stored as grey PNG of 8 or 16 bit and read again."""

    def process(picture: Pixels, _: Mask, __: np.random.Generator) -> Pixels:
        from PIL import Image as Pil

        stored = picture if bits == 16 else (picture >> 8).astype(np.uint8)
        buffer = io.BytesIO()
        Pil.fromarray(stored).save(buffer, "PNG")
        with Pil.open(buffer, formats=("PNG",)) as opened:
            read = np.asarray(opened).astype(np.uint16)
        return read if bits == 16 else np.left_shift(read, np.uint16(8))

    return process


def tiff() -> Process:
    """Stored as 16-bit grey TIFF and read again."""

    def process(picture: Pixels, _: Mask, __: np.random.Generator) -> Pixels:
        from PIL import Image as Pil

        buffer = io.BytesIO()
        Pil.fromarray(picture).save(buffer, "TIFF")
        with Pil.open(buffer, formats=("TIFF",)) as opened:
            return np.asarray(opened).astype(np.uint16)

    return process


def dicom(bits: int = 12) -> Process:
    """Stored as DICOM of ``bits`` (MONOCHROME2, explicit little endian), as mammography units do, and read again."""

    def process(picture: Pixels, _: Mask, __: np.random.Generator) -> Pixels:
        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

        stored = (picture >> np.uint16(16 - bits)).astype(np.uint16)
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
        ds.Rows, ds.Columns = picture.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
        ds.PixelData = stored.astype("<u2").tobytes()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
        buffer.seek(0)
        read = pydicom.dcmread(buffer)
        pixels = np.frombuffer(read.PixelData, "<u2")[: picture.size].reshape(picture.shape)
        return np.left_shift(pixels.astype(np.uint16), np.uint16(16 - bits))

    return process


def chained(*processes: Process) -> Process:
    """One after the other."""

    def process(picture: Pixels, breast: Mask, random: np.random.Generator) -> Pixels:
        for one in processes:
            picture = one(picture, breast, random)
        return picture

    return process


CHAINS: dict[str, Process] = {
    PLAIN: lambda picture, _, __: picture,
    "jpeg-90": jpeg(90),
    "jpeg-75": jpeg(75),
    "resize-0.5": resize(0.5),
    "resize-1.5": resize(1.5),
    "noise": noise(),
    "window": window(),
    "formats": chained(dicom(12), tiff(), png(16)),
    "png-8": png(8),
}


def processed(sample: Sample, name: str, seed: int = 0) -> Sample:
    """The sample after the chain ``name``; breast and region stay, for nothing moves.

    Raises
    ------
    SettingsError
        No such chain.
    """
    if name not in CHAINS:
        raise SettingsError(f"no processing '{name}'", "processings", f"use one of: {', '.join(CHAINS)}")
    key = hashlib.sha256(f"{name}\0{sample.family}\0{sample.name}".encode()).digest()[:8]
    random = np.random.default_rng([seed, int.from_bytes(key, "big")])
    return replace(sample, picture=CHAINS[name](sample.picture, sample.breast, random))


def _whole(values: NDArray[np.floating]) -> Pixels:
    whole: Pixels = np.clip(np.rint(values), 0, 65535).astype(np.uint16)
    return whole
