"""How hard phantoms are, and how like mammograms: what brightness alone tells, and the exponent of the power spectrum.

A classifier that does no better than brightness has learned brightness, and then a generator that makes a spot darker
deceives it without removing anything. Measured of whole pictures: the brightest point after Gaussian blurs, and the
highest difference of two blurs, which answers to round spots of their size.

  python -m benchmarks.phantoms
  python -m benchmarks.phantoms --sizes 64 --women 2000 --contrast 0.5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from benchmarks.common import figure, parser, quickly, save, sayer, table
from scanward.mammography.phantom import FULL_SCALE, Phantom, phantom
from scanward.mammography.phantom_sets import draw_phantoms

Floats = NDArray[np.float64]

BLURS = (2.0, 4.0, 8.0)  # mm, standard deviations
BAND = (1 / 30, 0.4)  # cycles per mm between which the exponent is fitted
BOX = 60.0  # mm, side of the square of tissue that it is fitted in


def exponent(field: Floats, spacing: float, low: float, high: float) -> float:
    """beta of a power spectrum 1/f^beta between two frequencies (cycles per mm).

    A straight line through the logarithms of the Hann-windowed periodogram, averaged over eight rings (in the manner of
    Heine et al., Med Phys 26:2254, 1999, and Burgess, Proc SPIE 3661:642, 1999).
    """
    window = np.hanning(field.shape[0])[:, None] * np.hanning(field.shape[1])[None, :]
    power = np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2
    frequency = np.hypot(
        np.fft.fftfreq(field.shape[0], spacing)[:, None], np.fft.fftfreq(field.shape[1], spacing)[None, :]
    )
    x, y = [], []
    for inner, outer in pairwise(np.geomspace(low, high, 9)):
        ring = (frequency >= inner) & (frequency < outer)
        if ring.any():
            x.append(np.log(frequency[ring]).mean())
            y.append(np.log(power[ring].mean()))
    return -float(np.polyfit(x, y, 1)[0])


def tissue_exponent(one: Phantom) -> float | None:
    """The exponent of a phantom's healthy tissue, in a square about its deepest point; None where none fits."""
    distance = np.asarray(ndimage.distance_transform_edt(one.breast))
    row, column = map(int, np.unravel_index(int(distance.argmax()), distance.shape))
    side = int(BOX / one.spacing)
    box = (
        slice(row - side // 2, row - side // 2 + side),
        slice(column := max(column - side // 2, 0), column + side),
    )
    if one.breast[box].shape != (side, side) or not one.breast[box].all():
        return None
    return exponent(one.healthy[box] / FULL_SCALE, one.spacing, *BAND)


def scores(one: Phantom) -> dict[str, float]:
    """What may be told of a picture without learning anything."""
    picture = one.picture / FULL_SCALE
    inside = ndimage.binary_erosion(one.breast, iterations=2)
    told = {"brightest pixel": float(picture.max()), "mean of the breast": float(picture[one.breast].mean())}
    for width in BLURS:
        blurred = ndimage.gaussian_filter(picture, width / one.spacing)
        wider = ndimage.gaussian_filter(picture, 2 * width / one.spacing)
        told[f"brightest after a blur of {width:g} mm"] = float(blurred.max())
        told[f"difference of blurs of {width:g} and {2 * width:g} mm"] = float(
            (blurred - wider)[inside].max()
        )
    return told


def auc(values: Floats, ill: NDArray[np.bool_], rng: np.random.Generator, draws: int) -> dict[str, float]:
    """Area under the curve with its 95 % interval by bootstrap; each woman has one picture."""
    drawn: list[float] = []
    while len(drawn) < draws:
        rows = rng.integers(0, len(ill), len(ill))
        if ill[rows].any() and not ill[rows].all():
            drawn.append(float(roc_auc_score(ill[rows], values[rows])))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"value": float(roc_auc_score(ill, values)), "low": float(low), "high": float(high)}


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("phantoms", __doc__)
    made.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels each way")
    made.add_argument("--women", type=int, default=1000, help="women of each size, half of them ill")
    made.add_argument("--contrast", type=float, default=1.0, help="of the lesions")
    made.add_argument("--seed", type=int, default=33, help="which women")
    made.add_argument("--draws", type=int, default=200, help="of the bootstrap")
    made.add_argument("--tissues", type=int, default=60, help="healthy women of 256 x 256 for the exponent")
    arguments = made.parse_args(argv)
    quickly(arguments, sizes=[32], women=40, draws=20, tissues=8)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tell."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = options(argv)
    say, rng = sayer(), np.random.default_rng(arguments.seed)
    told: dict[str, Any] = {"brightness": {}, "seconds": {}}
    for size in arguments.sizes:
        say(f"{arguments.women} women of {size} x {size}")
        ill, rows, spent = [], [], 0.0
        drawn = draw_phantoms(
            patients=arguments.women,
            rows=size,
            columns=size,
            seed=arguments.seed,
            contrast=arguments.contrast,
        )
        for _ in range(arguments.women):
            begin = time.perf_counter()
            one = next(drawn).shown
            spent += time.perf_counter() - begin
            ill.append(bool(one.lesions))
            rows.append(scores(one))
        told["brightness"][size] = {
            name: auc(np.array([row[name] for row in rows]), np.array(ill), rng, arguments.draws)
            for name in rows[0]
        }
        told["seconds"][size] = spent / arguments.women
    say(f"exponents of {arguments.tissues} women")
    found = [tissue_exponent(phantom((arguments.seed, i), 256, 256)) for i in range(arguments.tissues)]
    kept = np.array([beta for beta in found if beta is not None])
    told["exponent"] = {"women": len(kept), "mean": kept.mean(), "deviation": kept.std()}
    save(arguments, "phantoms", argv, told)
    if not arguments.json:
        sizes = arguments.sizes
        lines = [
            (name, *(figure(told["brightness"][size][name]) for size in sizes))
            for name in told["brightness"][sizes[0]]
        ]
        print(table(("AUC of", *(f"{size} x {size}" for size in sizes)), lines))
        print(f"\nexponent {kept.mean():.2f}, standard deviation {kept.std():.2f}, {len(kept)} women")
        print("ms a woman: " + ", ".join(f"{1000 * told['seconds'][size]:.1f} at {size}" for size in sizes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
