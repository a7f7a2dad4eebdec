"""The second opinion, which never saw a forgery: how strange a block of the picture is among genuine blocks.

A Gaussian of what blocks of genuine pictures look like (strength, spread and tails of each plane of
`scanward.forensics.residuals`); a picture is as strange as its strangest blocks are on the mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scanward.errors import LearningError
from scanward.forensics.families import GENUINE, Sample
from scanward.forensics.residuals import PLANES, inner, planes
from scanward.mammography.pictures import Mask, Pixels

BLOCK, STRIDE = 8, 4  # px
NUMBERS = 3 * PLANES  # of one block
_FULL = 0.75  # of a block that must be breast
_STRANGEST = 3  # blocks whose mean is the picture's
_SHRINKAGE = 0.05  # towards the diagonal: features are many and blocks of one picture alike
_FEATURES = 3  # of each plane

Floats = NDArray[np.float64]


class OneClass:
    """Mahalanobis' distance of block statistics; has the shape of `scanward.forensics.baselines.Scorer`."""

    name = "one-class"

    def __init__(self) -> None:
        self.mean: Floats = np.zeros(0)
        self.precision: Floats = np.zeros((0, 0))

    def fit(self, samples: Iterable[Sample]) -> Self:
        """Learn from the genuine pictures among ``samples``; all others are left out.

        Raises
        ------
        LearningError
            Too few blocks for a covariance.
        """
        rows = [blocks(planes(s.picture, s.breast), s.breast)[0] for s in samples if s.family == GENUINE]
        found = np.concatenate(rows) if rows else np.zeros((0, 0))
        if len(found) < 4 * max(found.shape[1], 1) or found.shape[1] == 0:
            raise LearningError(
                f"{len(found)} blocks of genuine pictures are too few",
                "training",
                "give more, or larger pictures",
            )
        self.mean = np.asarray(found.mean(0), dtype=np.float64)
        covariance = np.cov(found, rowvar=False)
        diagonal = np.diag(np.diag(covariance) + 1e-9)
        shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * diagonal
        self.precision = np.asarray(np.linalg.inv(shrunk), dtype=np.float64)
        return self

    def score(self, picture: Pixels, breast: Mask) -> float:
        """Mean distance of the strangest blocks, logarithmic; 0 for a breast without a block."""
        return self.examined(picture, breast)[0]

    def examined(self, picture: Pixels, breast: Mask) -> tuple[float, tuple[int, int] | None]:
        """Score, and where the strangest block's middle is (row, column)."""
        found, places = blocks(planes(picture, breast), breast)
        if not len(found):
            return 0.0, None
        centred = found - self.mean
        square = np.einsum("ij,jk,ik->i", centred, self.precision, centred) / len(self.mean)
        order = np.argsort(-square, kind="stable")
        row, column = places[order[0]]
        return float(np.log(np.sort(square)[-_STRANGEST:].mean() + 1e-9)), (
            int(row) + BLOCK // 2,
            int(column) + BLOCK // 2,
        )


def has_block(breast: Mask) -> bool:
    """Whether a breast (rows, columns) has a block at all."""
    return bool(len(_corners(breast)))


def _corners(breast: Mask) -> NDArray[np.int_]:
    """Of the blocks that are breast, in strides."""
    if min(breast.shape) < BLOCK:
        return np.zeros((0, 2), dtype=np.int_)
    full = np.lib.stride_tricks.sliding_window_view(inner(breast), (BLOCK, BLOCK))[::STRIDE, ::STRIDE]
    return np.argwhere(full.mean((2, 3)) >= _FULL)


def blocks(made: NDArray[np.float32], breast: Mask) -> tuple[Floats, NDArray[np.int_]]:
    """Statistics (blocks, `_FEATURES` x planes) of the blocks that are breast, and their upper left corners."""
    at = _corners(breast)
    if not len(at):
        return np.zeros((0, _FEATURES * len(made))), at
    windows = np.lib.stride_tricks.sliding_window_view(made, (BLOCK, BLOCK), axis=(1, 2))[
        :, ::STRIDE, ::STRIDE
    ]
    taken = windows[:, at[:, 0], at[:, 1]].reshape(len(made), len(at), -1).astype(np.float64)
    spread = np.log(taken.std(2) + 0.05)
    out = np.concatenate([taken.mean(2), spread, np.log(np.abs(taken).max(2) + 0.05)])
    return out.T, at * STRIDE
