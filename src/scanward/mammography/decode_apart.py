"""JPEG pixels decoded in a process of their own: gdcm, the only decoder there is for JPEG lossless, may crash.

On damaged data it ends its process or writes to standard error. Here that costs the one picture. Run as a module with
the path of a DICOM file, it prints one line (data type, rows, columns) and the pixels, little-endian.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanward.config import MAMMOGRAPHY_BOUNDS
from scanward.errors import DecodeError

_KINDS = ("u1", "i1", "<u2", "<i2")
_TODO = "get the file again from its source"

already = False
"""Whether this process may crash anyway: true in the workers of an import."""


def decode(path: Path, rows: int, columns: int) -> NDArray[np.integer]:
    """The pixels (rows, columns) of a DICOM file of one JPEG frame, whose size was checked before.

    Raises
    ------
    DecodeError
        Damaged, or more than `MammographyBounds.decode_seconds` of work.
    """
    command = [sys.executable, "-m", "scanward.mammography.decode_apart", str(path.absolute())]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves, and a path that is one argument
            command, capture_output=True, timeout=MAMMOGRAPHY_BOUNDS.decode_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise DecodeError("pixel data that is not decoded in time", str(path), _TODO) from None
    head, _, data = done.stdout.partition(b"\n")
    words = head.decode("ascii", "replace").split()
    if done.returncode != 0 or len(words) != 3 or words[0] not in _KINDS:
        raise DecodeError("pixel data that cannot be decoded (its decoder failed)", str(path), _TODO)
    kind = np.dtype(words[0])
    if words[1:] != [str(rows), str(columns)] or len(data) != rows * columns * kind.itemsize:
        raise DecodeError("pixel data of another shape than the header says", str(path), _TODO)
    return np.frombuffer(data, kind).reshape(rows, columns)


def main(path: Path) -> int:
    """Decode and print; any failure is an exit status."""
    from scanward.mammography.dicom_headers import open_dicom, parsing

    try:
        with parsing("pixel data that cannot be decoded", path):
            pixels = np.asarray(open_dicom(path, pixels=True).pixel_array)
    except DecodeError:
        return 1
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or pixels.dtype.itemsize > 2:
        return 1
    kind = f"{'<' if pixels.dtype.itemsize > 1 else ''}{pixels.dtype.kind}{pixels.dtype.itemsize}"
    sys.stdout.buffer.write(f"{kind} {pixels.shape[0]} {pixels.shape[1]}\n".encode())
    sys.stdout.buffer.write(pixels.astype(kind).tobytes())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
