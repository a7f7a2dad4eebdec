"""The detector's network: planes of `scanward.forensics.residuals` in, a map of evidence and one logit out.

Fully convolutional, two pixels to one: any size goes through it. A U-Net (Ronneberger, Fischer and Brox, MICCAI 2015)
of three levels, residual within each: a lesion that is not quite one, or a place from which one was taken, is known by
its shape as a whole and by its fine structure together. The picture's logit is made of the strongest evidence inside
the breast (a soft maximum), and of means and maxima of the features: traces that are all over a picture have no one
place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scanward.forensics.residuals import PLANES

STEP = 2  # px of the picture to one of the map
LEAST = 8  # px: a side is filled up to a multiple of it
_NOTHING = -30.0  # logit outside the breast
_FLOOR = -10.0


class Localiser(nn.Module):
    """Some 290,000 parameters at width 32.

    Parameters
    ----------
    width : int
        Channels of the first level; twice as many of the coarser ones. A multiple of 8.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(*_block(PLANES, width // 2), *_block(width // 2, width, stride=2))
        self.fine = _level(width, 2)
        self.down = nn.Sequential(*_block(width, 2 * width, stride=2))
        self.middle = _level(2 * width, 3)
        self.further = nn.Sequential(*_block(2 * width, 2 * width, stride=2))
        self.coarse = _level(2 * width, 2)
        self.up = nn.Conv2d(4 * width, width, 1)
        self.join = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.SiLU())
        self.place = nn.Conv2d(width, 1, 1)
        self.whole = nn.Sequential(
            nn.Linear(6 * width + 1, 2 * width), nn.SiLU(), nn.Linear(2 * width, 1)
        )  # means and maxima of coarse and joined features, and the map's soft maximum

    def forward(self, planes: Tensor, breast: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of places (N, rows / 2, columns / 2) and of pictures (N,).

        ``planes`` (N, `PLANES`, rows, columns), rows and columns multiples of `LEAST`; ``breast`` (N, rows / 2,
        columns / 2), 1 inside.
        """
        fine = _through(self.fine, self.stem(planes))
        middle = _through(self.middle, self.down(fine))
        coarse = _through(self.coarse, self.further(middle))
        joined = self.up(torch.cat([middle, F.interpolate(coarse, size=middle.shape[2:])], 1))
        joined = self.join(torch.cat([fine, F.interpolate(joined, size=fine.shape[2:])], 1))
        heat: Tensor = self.place(joined)[:, 0]
        inside = breast[:, None]
        told = [
            *_summed(coarse, F.max_pool2d(inside, LEAST // STEP)),
            *_summed(joined, inside),
            pooled(heat, breast)[:, None],
        ]
        logit: Tensor = self.whole(torch.cat(told, 1))[:, 0]
        return heat, logit


def pooled(heat: Tensor, breast: Tensor) -> Tensor:
    """The soft maximum of the breast's logits, (N,): log of the mean of exp, so that size alone says nothing."""
    masked = heat.masked_fill(breast < 0.5, _NOTHING)
    count = breast.sum((1, 2)).clamp_min(1.0)
    return torch.logsumexp(masked.flatten(1), 1) - torch.log(count)


def _summed(features: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Means and maxima inside, (N, channels) each."""
    mean = (features * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1.0)
    return mean, features.masked_fill(inside < 0.5, _NOTHING).amax((2, 3)).clamp_min(_FLOOR)


def _level(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList([nn.Sequential(*_block(width, width)) for _ in range(count)])


def _through(level: nn.ModuleList, features: Tensor) -> Tensor:
    for block in level:
        features = features + block(features)
    return features


def _block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.SiLU()]


def parameters(network: nn.Module) -> int:
    """How many numbers it has learned."""
    return sum(p.numel() for p in network.parameters())
