"""Toy pictures for the tests of the evaluation: smooth tissue, one round bright lesion, the truth of each known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scanward.tampering.evaluation.sets import Data, Pictures


def toys(patients: int, seed: int, *, side: int = 32, strength: float = 0.8, prefix: str = "") -> Pictures:
    """Two pictures of each patient, one healthy and one with a lesion, each with its twin in the other state."""
    rng = np.random.default_rng(seed)
    count = 2 * patients
    down, right = np.mgrid[:side, :side]
    x = np.full((count, side, side), -1.0, dtype=np.float32)
    twin = x.copy()
    region = np.zeros(x.shape, dtype=bool)
    breast = np.zeros(x.shape, dtype=bool)
    for i in range(count):
        reach = side * rng.uniform(0.75, 0.9)
        inside = (down - side / 2) ** 2 + right**2 < reach**2
        tissue = ndimage.gaussian_filter(rng.standard_normal((side, side)), 2.5)
        grey = -0.45 + 0.12 * tissue / tissue.std()
        centre = side / 2 + rng.uniform(-0.2, 0.2) * side, rng.uniform(0.2, 0.55) * side
        size = side * rng.uniform(0.05, 0.08)
        distance = np.hypot(down - centre[0], right - centre[1])
        lesion = strength * rng.uniform(0.7, 1.3) * np.exp(-((distance / size) ** 2) / 2)
        without = np.where(inside, np.clip(grey, -1, 1), -1).astype(np.float32)
        having = np.where(inside, np.clip(grey + lesion, -1, 1), -1).astype(np.float32)
        breast[i] = inside
        region[i] = inside & (distance <= 2 * size)
        x[i], twin[i] = (having, without) if i % 2 else (without, having)
    return Pictures(
        names=tuple(f"{prefix}{seed}-{i}" for i in range(count)),
        patients=tuple(f"{prefix}{seed}-{i // 2}" for i in range(count)),
        cancer=np.arange(count) % 2 == 1,
        x=x,
        breast=breast,
        region=region,
        twin=twin,
        twinned=np.ones(count, dtype=bool),
        pectoral=np.zeros(x.shape, dtype=bool),
    )


def toy_data(learn: int, validate: int, test: int, side: int = 32) -> Data:
    """Parts of different patients."""
    return Data(
        learn=toys(learn, 1, side=side),
        validate=toys(validate, 2, side=side),
        test=toys(test, 3, side=side),
    )
