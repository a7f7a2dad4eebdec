"""Pictures of any size and grey range to what a model is shown, and the model's change back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from scanward.mammography.pictures import Mask, Pixels

WHITE = 0.8  # grey level that the bright end of the breast's tissue gets: room above it for a brighter lesion
# The bright end is so many times the upper quartile inside the breast. A high percentile would be set by the lesion
# itself: on phantoms the 99.5th alone tells cancer from healthy with an AUC of 0.89, and all else gets darker with it.
QUARTILE, BRIGHT = 75, 1.8
MARGIN = 0.02  # of the picture's sides, left around the breast with framing "breast"

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's picture came from: a frame of the picture, scaled and put at the model's top left corner."""

    top: int
    left: int
    height: int  # px of the frame in the picture
    width: int
    rows: int  # px that the frame takes in the model's picture
    columns: int
    white: float  # grey level of the picture that became `WHITE`


def place(
    breast: Mask, pixels: Pixels, rows: int, columns: int, framing: Literal["whole", "breast"] = "whole"
) -> Placement:
    """Choose frame and grey scale. The aspect is kept; what is left at the right and the bottom is background."""
    top, left, bottom, right = 0, 0, pixels.shape[0], pixels.shape[1]
    if framing == "breast" and breast.any():
        down, across = np.flatnonzero(breast.any(1)), np.flatnonzero(breast.any(0))
        margin = round(MARGIN * max(pixels.shape))
        top, bottom = max(int(down[0]) - margin, 0), min(int(down[-1]) + 1 + margin, bottom)
        left, right = max(int(across[0]) - margin, 0), min(int(across[-1]) + 1 + margin, right)
    height, width = bottom - top, right - left
    scale = min(rows / height, columns / width)
    inside = pixels[breast] if breast.any() else pixels
    return Placement(
        top=top,
        left=left,
        height=height,
        width=width,
        rows=min(rows, max(1, round(height * scale))),
        columns=min(columns, max(1, round(width * scale))),
        white=max(BRIGHT * float(np.percentile(inside, QUARTILE)), 1.0),
    )


def to_model(
    pixels: Pixels,
    breast: Mask,
    rows: int,
    columns: int,
    framing: Literal["whole", "breast"] = "whole",
    placement: Placement | None = None,
) -> tuple[Grey, Mask, Placement]:
    """A picture as the model is shown it: grey (rows, columns) in [-1, 1], breast mask alike, and the placement.

    With ``placement`` it is shown as that one was: a phantom without its lesion as the phantom with it.
    """
    placement = placement or place(breast, pixels, rows, columns, framing)
    grey = np.full((rows, columns), -1.0, dtype=np.float32)
    scaled = _resize(_frame(pixels, placement).astype(np.float32), placement.rows, placement.columns)
    grey[: placement.rows, : placement.columns] = np.clip(scaled * ((1 + WHITE) / placement.white) - 1, -1, 1)
    return grey, mask_to_model(breast, placement, rows, columns), placement


def mask_to_model(mask: Mask, placement: Placement, rows: int, columns: int) -> Mask:
    """A mask of the picture's size as the model is shown it; each lesion in the frame keeps at least one pixel."""
    shown = np.zeros((rows, columns), dtype=np.bool_)
    scaled = _resize(_frame(mask, placement).astype(np.float32), placement.rows, placement.columns)
    least = 0.5 if scaled.max(initial=0) >= 0.5 else max(scaled.max(initial=0) * 0.999, 1e-9)
    shown[: placement.rows, : placement.columns] = scaled >= least
    _keep_small(_frame(mask, placement), scaled, shown)
    return shown


def _keep_small(mask: NDArray[np.generic], scaled: Grey, shown: Mask) -> None:
    """Give each connected part of a mask that vanished beside a larger one its strongest pixel."""
    parts, number = ndimage.label(mask, np.ones((3, 3), np.bool_))
    if number < 2:
        return
    down, across = np.nonzero(parts)
    part = parts[down, across] - 1
    at = (down * scaled.shape[0] // mask.shape[0], across * scaled.shape[1] // mask.shape[1])
    kept = np.zeros(number, np.bool_)
    kept[part[shown[at]]] = True
    order = np.lexsort((scaled[at], part))
    last = np.flatnonzero(np.append(np.diff(part[order]) != 0, True))  # the strongest pixel of each part
    lost = order[last][~kept]
    shown[at[0][lost], at[1][lost]] = True


def difference_to_picture(
    pixels: Pixels, breast: Mask, placement: Placement, before: Grey, after: Grey
) -> tuple[Pixels, NDArray[np.int32]]:
    """Add the model's change to the picture itself, at its own size and depth. Outside the breast nothing changes.

    Parameters
    ----------
    pixels, breast : arrays (r, c)
        The picture and its breast.
    placement : Placement
        As `to_model` gave it.
    before, after : arrays (rows, columns) in [-1, 1]
        What the model was shown and what it made of it.

    Returns
    -------
    picture : uint16 (r, c)
    change : int32 (r, c)
        ``picture - pixels``: what was really changed, after rounding and clipping.
    """
    change = (after - before)[: placement.rows, : placement.columns] * (placement.white / (1 + WHITE))
    whole = np.zeros(pixels.shape, dtype=np.float32)
    window = (
        slice(placement.top, placement.top + placement.height),
        slice(placement.left, placement.left + placement.width),
    )
    whole[window] = _resize(change.astype(np.float32), placement.height, placement.width)
    whole[~breast] = 0
    made = np.clip(np.rint(pixels.astype(np.float32) + whole), 0, 65535).astype(np.uint16)
    made[~breast] = pixels[~breast]
    return made, made.astype(np.int32) - pixels.astype(np.int32)


def _frame(array: NDArray[np.generic], placement: Placement) -> NDArray[np.generic]:
    return array[
        placement.top : placement.top + placement.height, placement.left : placement.left + placement.width
    ]


def _resize(array: Grey, rows: int, columns: int) -> Grey:
    """Scale with area averaging when it shrinks (no aliasing), linearly when it grows."""
    if array.shape == (rows, columns):
        return array
    tensor = torch.from_numpy(np.ascontiguousarray(array))[None, None]
    resized = F.interpolate(tensor, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
    out: Grey = resized[0, 0].numpy()
    return out
