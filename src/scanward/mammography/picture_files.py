"""PNG, TIFF and PGM of 8 to 16 bits, read without loss. Colour is refused, grey that is stored as RGB is not."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanward.errors import DecodeError
from scanward.mammography.readers import Reading, check_size

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

_TODO = "give 8- or 16-bit grey PNG, TIFF or PGM"
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, PhotometricInterpretation
_BITS_PER_SAMPLE = 258

Grey = NDArray[np.uint8] | NDArray[np.uint16]


def read_picture_file(path: Path, head: bytes) -> Reading:
    """Read a PNG, TIFF or PGM that begins with ``head``; DecodeError for all else. `read_mammogram` tells more."""
    if head[:2] == b"P5":
        return _read_pgm(path)
    formats = {b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
    name = formats.get(head[:4])
    if name is None:
        raise DecodeError("neither DICOM nor PNG, TIFF or PGM", str(path), _TODO)
    from PIL import Image as Pil

    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and odd tags; the size is checked here, before pixels are decoded.
            warnings.simplefilter("ignore")
            with Pil.open(path, formats=(name,)) as opened:
                check_size(opened.height, opened.width, path)
                if getattr(opened, "n_frames", 1) != 1:
                    raise DecodeError(f"{name} of several pictures", str(path), "give one picture per file")
                white_is_zero = name == "TIFF" and opened.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
                depth = opened.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0] if name == "TIFF" else 0  # type: ignore[attr-defined]
                opened.load()
                pixels = _grey(opened, path, name)
    except DecodeError:
        raise
    except Pil.DecompressionBombError:
        raise DecodeError("more pixels than any mammogram has", str(path), "this is no mammogram") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        struct.error,
        zlib.error,
    ) as error:
        raise DecodeError(
            f"a damaged {name} ({type(error).__name__})", str(path), "get the file again from its source"
        ) from None
    bits = 8 if pixels.dtype == np.uint8 else 16
    if white_is_zero and not (bits == 8 and depth <= 8):
        # Pillow turns white-is-zero of up to 8 bits itself and leaves 16 bits as they are.
        pixels = np.uint16(65535) - pixels
    return Reading(pixels=pixels, bits=bits, inverted=white_is_zero, known=False)


def _grey(opened: PilImage, path: Path, name: str) -> Grey:
    mode = opened.mode
    if mode == "L":
        return np.asarray(opened, dtype=np.uint8)
    if mode.startswith("I;16"):
        return np.asarray(opened).astype(np.uint16)
    if mode == "I":  # some 16-bit files come as 32-bit numbers
        wide = np.asarray(opened)
        if wide.min() < 0 or wide.max() > 65535:
            raise DecodeError(f"{name} of more than 16 bits", str(path), _TODO)
        return wide.astype(np.uint16)
    if mode in ("RGB", "RGBA", "LA"):
        colour = np.asarray(opened)
        alpha = mode in ("RGBA", "LA")
        if alpha and colour[..., -1].min() < 255:
            raise DecodeError(f"{name} with transparency", str(path), _TODO)
        first = colour[..., 0]
        if mode != "LA" and not (
            np.array_equal(first, colour[..., 1]) and np.array_equal(first, colour[..., 2])
        ):
            raise DecodeError(f"{name} in colour", str(path), _TODO)
        return np.ascontiguousarray(first)
    raise DecodeError(f"{name} of mode {mode}", str(path), _TODO)


def _read_pgm(path: Path) -> Reading:
    """Binary PGM (P5, netpbm): 8 bits, or 16 bits most significant byte first; ``maxval`` tells the depth."""
    data = path.read_bytes()
    fields: list[int] = []
    at = 2
    while len(fields) < 3:
        while at < len(data) and (data[at : at + 1].isspace() or data[at : at + 1] == b"#"):
            if data[at : at + 1] == b"#":
                end = data.find(b"\n", at)
                at = len(data) if end < 0 else end
            else:
                at += 1
        start = at
        while at < len(data) and data[at : at + 1].isdigit():
            at += 1
        if start == at or at - start > 9:
            raise DecodeError("a damaged PGM (its header)", str(path), "get the file again from its source")
        fields.append(int(data[start:at]))
    columns, rows, most = fields
    check_size(rows, columns, path)
    if not 0 < most < 65536:
        raise DecodeError(f"a PGM with values up to {most}", str(path), _TODO)
    kind = np.dtype(">u2" if most > 255 else "u1")
    body = data[at + 1 :]
    if len(body) < rows * columns * kind.itemsize:
        raise DecodeError("a truncated PGM", str(path), "get the file again from its source")
    pixels = np.frombuffer(body, dtype=kind, count=rows * columns).reshape(rows, columns)
    bits = most.bit_length()
    if int(pixels.max()) >> bits:
        raise DecodeError(f"a PGM with values beyond its {most}", str(path), "get the file again")
    return Reading(pixels=pixels.astype(kind.newbyteorder("=")), bits=max(bits, 8), known=False)
