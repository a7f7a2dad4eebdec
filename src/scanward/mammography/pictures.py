"""Stored pictures: 16-bit and 8-bit grey PNG, written and read without loss, and lesions drawn as masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.manifest import Image, Lesion, pixels_hash
from scanward.mammography.shapes import filled

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Pixels = NDArray[np.uint16]
Mask = NDArray[np.bool_]


def write_picture(path: Path, picture: NDArray[np.generic]) -> None:
    """Write a (rows, columns) picture as grey PNG: uint16 as 16 bit, uint8 and bool (0 and 255) as 8 bit.

    The file appears whole or not at all.
    """
    from PIL import Image as Pil

    if picture.dtype == np.bool_:
        picture = np.where(picture, np.uint8(255), np.uint8(0))
    if picture.ndim != 2 or picture.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(
            f"a picture is (rows, columns) of uint8 or uint16, not {picture.shape} {picture.dtype}"
        )
    buffer = io.BytesIO()
    Pil.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=4)
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(buffer.getbuffer())
    draft.replace(path)


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a grey PNG of 8 or 16 bit as (rows, columns) of uint8 or uint16.

    Raises
    ------
    DecodeError
        Not a PNG, damaged, in colour, or of more pixels than any mammogram has.
    InputError
        No such file.
    """
    from PIL import Image as Pil

    try:
        with Pil.open(path, formats=("PNG",)) as opened:
            _check_size(opened, path)
            opened.load()
            if opened.mode in ("I;16", "I;16B", "I"):
                return np.asarray(opened).astype(np.uint16)
            if opened.mode in ("L", "1"):
                return np.asarray(opened.convert("L"))
            mode = opened.mode
    except FileNotFoundError as error:
        raise InputError("no such picture", str(path), "import the data set again") from error
    except (OSError, SyntaxError, ValueError, EOFError, Pil.DecompressionBombError) as error:
        raise DecodeError(f"not a readable PNG: {error}", str(path), "import the data set again") from error
    raise DecodeError(f"not a grey PNG but {mode}", str(path), "import the data set again")


def _check_size(opened: PilImage, path: Path) -> None:
    if opened.width * opened.height > MAMMOGRAPHY_BOUNDS.pixels:
        raise DecodeError(
            f"{opened.width} x {opened.height} pixels are more than {MAMMOGRAPHY_BOUNDS.pixels}",
            str(path),
            "this is no mammogram",
        )


def load(folder: Path, image: Image, *, verify: bool = False) -> tuple[Pixels, Mask]:
    """Pixels and breast mask of one image of a data set, both (rows, columns).

    ``verify`` compares the pixels with the manifest's hash.
    """
    pixels = read_picture(folder / image.file)
    breast = read_picture(folder / image.breast) > 0
    shape = (image.rows, image.columns)
    if pixels.dtype != np.uint16 or pixels.shape != shape or breast.shape != shape:
        raise DecodeError(
            f"the picture is not 16 bit of {shape} as the manifest says",
            str(folder / image.file),
            "import the data set again",
        )
    if verify and pixels_hash(pixels.tobytes()) != image.sha256:
        raise DecodeError(
            "the pixels are not those that were imported",
            str(folder / image.file),
            "import the data set again",
        )
    return pixels.astype(np.uint16, copy=False), breast


def lesion_mask(lesion: Lesion, shape: tuple[int, int], folder: Path | None = None) -> Mask:
    """One lesion as a mask of ``shape`` (rows, columns); empty when its place is unknown."""
    rows, columns = shape
    if lesion.raster is not None:
        if folder is None:
            raise ValueError("a lesion given as a raster needs the data set's folder")
        raster = read_picture(folder / lesion.raster) > 0
        if raster.shape != shape:
            raise DecodeError(
                f"the raster is not {shape}", str(folder / lesion.raster), "import the data set again"
            )
        return raster
    if lesion.circle is not None:
        x, y, radius = lesion.circle
        down, right = np.ogrid[:rows, :columns]
        # the little more keeps a mirrored circle the same, whichever way rounding errors fall
        circle: Mask = (right - x) ** 2 + (down - y) ** 2 <= max(radius, 0.5) ** 2 + 1e-6
        return circle
    if lesion.outline:
        return filled(lesion.outline, shape)
    return np.zeros(shape, dtype=np.bool_)


def lesions_mask(image: Image, folder: Path | None = None) -> Mask:
    """All located lesions of an image in one mask (rows, columns)."""
    shape = (image.rows, image.columns)
    mask = np.zeros(shape, dtype=np.bool_)
    for lesion in image.lesions:
        mask |= lesion_mask(lesion, shape, folder)
    return mask
