"""What happens to pictures on their way: blur, JPEG, noise. Done to genuine and modified pictures alike.

A CycleGAN can hide a code in what it makes (Chu, Zhmoginov and Sandler, CycleGAN, a Master of Steganography,
arXiv 1712.02950). A code that fools one classifier does not live through these; a lesion that is gone stays gone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scanward.errors import SettingsError

Images = NDArray[np.float32]
Process = Callable[[Images], Images]

PLAIN = "none"
DEFAULT = (PLAIN, "blur-0.5", "blur-1", "jpeg-90", "jpeg-75", "noise-0.02")


def blur(x: Images, sigma: float) -> Images:
    """Gaussian blur of (N, rows, columns) by ``sigma`` px."""
    out: Images = ndimage.gaussian_filter(x, (0.0, sigma, sigma), mode="nearest").astype(np.float32)
    return out


def jpeg(x: Images, quality: int) -> Images:
    """Through 8-bit grey and baseline JPEG of ``quality`` (1-95) and back, picture by picture."""
    from PIL import Image as Pil

    out = np.empty_like(x)
    for i, picture in enumerate(x):
        eight = np.clip(np.rint((picture + 1) * 127.5), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Pil.fromarray(eight).save(buffer, "JPEG", quality=quality)
        with Pil.open(buffer, formats=("JPEG",)) as opened:
            out[i] = np.asarray(opened, dtype=np.float32) / 127.5 - 1
    return out


def noise(x: Images, sigma: float, seed: int = 0) -> Images:
    """White noise of ``sigma`` grey units (the range is 2), the same for every set of pictures of one shape."""
    rng = np.random.default_rng((seed, 2718))
    out: Images = (x + sigma * rng.standard_normal(x.shape, dtype=np.float32)).astype(np.float32)
    return np.clip(out, -1, 1)


def named(name: str) -> Process:
    """The processing of a name: ``none``, ``blur-SIGMA``, ``jpeg-QUALITY`` or ``noise-SIGMA``.

    Raises
    ------
    SettingsError
        No such processing, or a number that makes no sense for it.
    """
    if name == PLAIN:
        return lambda x: x
    found = re.fullmatch(r"(blur|jpeg|noise)-(\d{1,4}(?:\.\d{1,4})?)", name)
    if found:
        kind, amount = found.group(1), float(found.group(2))
        if kind == "blur" and 0 < amount <= 10:
            return lambda x: blur(x, amount)
        if kind == "noise" and 0 < amount <= 1:
            return lambda x: noise(x, amount)
        if kind == "jpeg" and amount == int(amount) and 1 <= amount <= 95:
            return lambda x: jpeg(x, int(amount))
    raise SettingsError(
        f"no such processing {name!r}", "processings", "use none, blur-0.5, jpeg-75 (1 to 95) or noise-0.02"
    )
