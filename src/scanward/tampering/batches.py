"""The pictures of one training step. A function of (seed, step, rank) alone, so that a resumed run sees the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scanward.tampering.prepared import REGION_MARGIN, Domain, Prepared
from scanward.tampering.presets import Augmentation, Preset

_ORDER, _CHANGE, _OTHER = 1, 2, 3  # streams of random numbers that must not meet


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures of both domains, (N, 1, rows, columns) in [-1, 1], and the regions to alter, 1 inside and -1 outside."""

    healthy: Tensor
    cancer: Tensor
    healthy_region: Tensor
    cancer_region: Tensor


class Batches:
    """Draws the batch of any step. Each domain is shuffled by itself, so that no surplus image is left unused."""

    def __init__(self, prepared: Prepared, preset: Preset, seed: int, device: torch.device) -> None:
        self._prepared, self._preset, self._seed, self._device = prepared, preset, seed, device

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The batch of one step (from 0) on one of ``world`` processes."""
        size = self._preset.optimiser.batch
        first = (step * world + rank) * size
        random = np.random.default_rng([self._seed, _CHANGE, first])
        healthy = self._take(self._prepared.healthy, first, size, random)
        cancer = self._take(self._prepared.cancer, first, size, random)
        return Batch(healthy[0], cancer[0], healthy[1], cancer[1])

    def stream(self, step: int, rank: int) -> int:
        """Seed for whatever else is random in a step."""
        return int(np.random.default_rng([self._seed, _OTHER, step, rank]).integers(2**62))

    def _take(
        self, domain: Domain, first: int, size: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        which = 0 if domain is self._prepared.healthy else 1
        indices = [
            _shuffled(len(domain), self._seed, which, position) for position in range(first, first + size)
        ]
        grey = torch.from_numpy(domain.grey[indices].astype(np.float32) / 32767)[:, None]
        inside = domain.region[indices] > 0
        if which == 0 and self._preset.generator.mask_channel:
            inside = np.stack([self._blob(domain.breast[i] > 0, random) for i in indices])
        region = torch.from_numpy(inside.astype(np.float32))[:, None]
        grey, region = augment(grey, region, self._preset.augmentation, random)
        region = F.max_pool2d((region > 0.5).float(), 2 * REGION_MARGIN + 1, 1, REGION_MARGIN) * 2 - 1
        channels = torch.channels_last if self._preset.execution.channels_last else torch.contiguous_format
        return (
            grey.to(self._device, memory_format=channels, non_blocking=True),
            region.to(self._device, memory_format=channels, non_blocking=True),
        )

    def _blob(self, breast: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.bool_]:
        """A place to insert into: the shape of some cancer's lesion, somewhere inside the breast."""
        cancer = self._prepared.cancer
        for _ in range(20):
            shape = cancer.region[int(random.integers(len(cancer)))] > 0
            if shape.any():
                break
        return put_inside(shape, breast, random)


def put_inside(
    shape: NDArray[np.bool_], breast: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.bool_]:
    """Move a region to a random place where it lies inside the breast, or as much of it as twenty tries give."""
    down, right = np.nonzero(shape)
    places = np.flatnonzero(breast)
    best = np.zeros_like(breast)
    if len(down) == 0 or len(places) == 0:
        return best
    centre = (int(down.mean()), int(right.mean()))
    most = -1.0
    for place in random.choice(places, 20):
        rows = down - centre[0] + place // breast.shape[1]
        columns = right - centre[1] + place % breast.shape[1]
        kept = (rows >= 0) & (rows < breast.shape[0]) & (columns >= 0) & (columns < breast.shape[1])
        share = float(breast[rows[kept], columns[kept]].sum()) / len(rows)
        if share > most:
            most = share
            best = np.zeros_like(breast)
            best[rows[kept], columns[kept]] = True
        if share == 1.0:
            break
    return best


def _shuffled(length: int, seed: int, stream: int, position: int) -> int:
    """Entry ``position`` of an endless sequence of shuffled passes through ``range(length)``."""
    epoch, index = divmod(position, length)
    return int(_pass(length, seed, stream, epoch)[index])


@lru_cache(maxsize=8)
def _pass(length: int, seed: int, stream: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, stream, epoch]).permutation(length)


def augment(
    grey: Tensor, region: Tensor, settings: Augmentation, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Turn, scale, shift, mirror and re-contrast pictures (N, 1, rows, columns) and their regions (0 and 1) alike."""
    number = grey.shape[0]
    draws = random.random((number, 7))
    if settings.share == 0:
        return grey, region
    changed = draws[:, 0] < settings.share
    angle = np.deg2rad(np.where(changed, (2 * draws[:, 1] - 1) * settings.rotate, 0))
    low, high = settings.scale
    scale = np.where(changed, low + draws[:, 2] * (high - low), 1)
    shift = np.where(changed[:, None], (2 * draws[:, 3:5] - 1) * 2 * settings.shift, 0)
    low, high = settings.contrast
    contrast = torch.from_numpy(np.where(changed, low + draws[:, 5] * (high - low), 1).astype(np.float32))
    flip = np.where(changed & (draws[:, 6] < 0.5) & settings.flip_rows, -1.0, 1.0)
    aspect = grey.shape[-1] / grey.shape[-2]
    # sampled point = matrix @ (x, y, 1) in coordinates of -1..1; the rows' unit is longer by the aspect
    matrix = np.zeros((number, 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = np.cos(angle) / scale
    matrix[:, 0, 1] = -np.sin(angle) / scale / aspect * flip
    matrix[:, 1, 0] = np.sin(angle) / scale * aspect
    matrix[:, 1, 1] = np.cos(angle) / scale * flip
    matrix[:, 1, 2] = shift[:, 1]
    # the chest wall stays at the left edge: scaled about it, shifted only beyond it
    matrix[:, 0, 2] = np.abs(shift[:, 0]) + matrix[:, 0, 0] - 1
    grid = F.affine_grid(torch.from_numpy(matrix), list(grey.shape), align_corners=False)
    brighter = (grey + 1) * contrast[:, None, None, None]
    turned = F.grid_sample(brighter, grid, padding_mode="border", align_corners=False) - 1
    return turned.clamp(-1, 1), F.grid_sample(
        region, grid, mode="nearest", padding_mode="border", align_corners=False
    )
