"""Any picture file of a mammogram: pixels as they are stored, turned so that dense tissue is bright, never stretched.

DICOM goes to `scanward.mammography.dicom_pixels`, everything else to `scanward.mammography.picture_files`; what a
file is, its first bytes say and not its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError, InputError
from scanward.mammography.dicom_headers import Facts

Curves = Literal["curves", "all", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A picture as read.

    ``pixels`` is (rows, columns) of uint8 or uint16 in 0 .. 2**bits - 1, dense tissue bright. ``inverted`` says that
    the file has it the other way round. ``known`` is false where nothing in the file says which end is bright.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    bits: int
    inverted: bool = False
    known: bool = True
    facts: Facts = field(default_factory=Facts)
    remarks: tuple[str, ...] = ()

    def full(self) -> NDArray[np.uint16]:
        """The picture as it is kept: shifted up to fill 16 bits (``v << 16 - bits``), which loses nothing."""
        return np.left_shift(self.pixels.astype(np.uint16), np.uint16(16 - self.bits))


def read_mammogram(path: Path, *, curves: Curves = "curves") -> Reading:
    """Read one picture: DICOM, PNG, TIFF or PGM.

    Parameters
    ----------
    path : Path
        The file.
    curves : {"curves", "all", "none"}
        Which VOI transformations of a DICOM image are applied: those that bend (tables, SIGMOID), linear windows too
        (they cut off what lies outside, and cannot be undone), or none.

    Raises
    ------
    InputError
        No such file, or one that cannot be opened.
    DecodeError
        Whatever is wrong inside: damaged, truncated, in colour, too large, several frames, an unknown format.
    """
    from scanward.mammography.dicom_pixels import read_dicom_file
    from scanward.mammography.picture_files import read_picture_file

    try:
        with path.open("rb") as file:
            head = file.read(132)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise InputError(f"cannot be read: {reason}", str(path), "check path and permissions") from None
    if size > MAMMOGRAPHY_BOUNDS.file_bytes:
        raise DecodeError(
            f"larger than {MAMMOGRAPHY_BOUNDS.file_bytes} bytes", str(path), "this is no mammogram"
        )
    if head[128:] == b"DICM":
        return read_dicom_file(path, curves=curves)
    return read_picture_file(path, head)


def check_size(rows: int, columns: int, path: Path) -> None:
    """DecodeError unless a picture of this size can be a mammogram; asked before anything is allocated."""
    least, most = MAMMOGRAPHY_BOUNDS.least_side, MAMMOGRAPHY_BOUNDS.pixels
    if rows < least or columns < least:
        raise DecodeError(
            f"{rows} x {columns} pixels are fewer than {least} on a side", str(path), "this is no mammogram"
        )
    if rows * columns > most:
        raise DecodeError(
            f"{rows} x {columns} pixels are more than {most}", str(path), "this is no mammogram"
        )
