"""A heat map over its picture as PNG, with words burned in that it is a detector's output."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from scanward.errors import InputError
from scanward.forensics.dicom_outputs import MARK
from scanward.forensics.examining import Found
from scanward.mammography.orient import mirrored
from scanward.tampering.marking import stamp, write_whole
from scanward.tampering.originals import Original

_LEAST = 512  # px: smaller pictures are drawn larger, or the words would not fit
_ALPHA = 0.65  # of the colour where the heat is 1


def write_overlay(found: Found, original: Original, out: Path) -> Path:
    """Write the picture in grey, in the file's orientation, heat yellow to red over it.

    Raises
    ------
    InputError
        It cannot be written.
    """
    from PIL import Image as Pil

    picture = mirrored(original.pixels) if original.turned else original.pixels
    times = max(1, -(-_LEAST // max(picture.shape)))
    bright = max(float(np.percentile(picture[original.inside], 99.5)), 1.0)
    grey = np.clip(picture * (255.0 / bright), 0, 255)[..., None]
    weight = _ALPHA * found.heat[..., None]
    colour = np.stack([np.full_like(found.heat, 255), 255 * (1 - found.heat), np.zeros_like(found.heat)], -1)
    mixed = np.rint(grey * (1 - weight) + colour * weight).astype(np.uint8)
    mixed = stamp(mixed.repeat(times, axis=0).repeat(times, axis=1), MARK)
    buffer = io.BytesIO()
    Pil.fromarray(mixed).save(buffer, "PNG")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, buffer.getvalue())
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(out), "give another folder") from error
    return out
