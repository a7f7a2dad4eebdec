"""The detector's network: planes of `scanward.forensics.residuals` in, a map of evidence and one logit out.

Fully convolutional, two pixels to one: any size goes through it. The picture's logit is the strongest evidence
inside the breast (a soft maximum), and what the features' means and maxima add: traces that are all over a picture
have no one place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scanward.forensics.residuals import PLANES

STEP = 2  # px of the picture to one of the map
SHARPNESS = 1.0  # of the soft maximum
_LEAST = -30.0


class Localiser(nn.Module):
    """Some 60,000 parameters at width 32.

    Parameters
    ----------
    width : int
        Channels of the hidden layers; a multiple of 4.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(*_block(PLANES, width // 2), *_block(width // 2, width, stride=2))
        self.body = nn.ModuleList(
            [nn.Sequential(*_block(width, width, dilation=dilation)) for dilation in (1, 2, 4, 2, 1)]
        )
        self.place = nn.Conv2d(width, 1, 1)
        self.whole = nn.Linear(2 * width + 1, 1)
        with torch.no_grad():
            self.whole.weight.zero_()
            self.whole.weight[0, -1] = 1.0
            self.whole.bias.zero_()

    def forward(self, planes: Tensor, breast: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of places (N, rows / 2, columns / 2) and of pictures (N,).

        ``planes`` (N, `PLANES`, rows, columns), rows and columns even; ``breast`` (N, rows / 2, columns / 2), 1 inside.
        """
        features = self.stem(planes)
        for block in self.body:
            features = features + block(features)
        heat: Tensor = self.place(features)[:, 0]
        inside = breast[:, None]
        count = inside.sum((2, 3)).clamp_min(1.0)
        mean = (features * inside).sum((2, 3)) / count
        most = features.masked_fill(inside < 0.5, _LEAST).amax((2, 3)).clamp_min(-10.0)
        logit: Tensor = self.whole(torch.cat([mean, most, pooled(heat, breast)[:, None]], 1))[:, 0]
        return heat, logit


def pooled(heat: Tensor, breast: Tensor) -> Tensor:
    """The soft maximum of the breast's logits, (N,): log of the mean of exp, so that size alone says nothing."""
    masked = heat.masked_fill(breast < 0.5, _LEAST) * SHARPNESS
    count = breast.sum((1, 2)).clamp_min(1.0)
    return (torch.logsumexp(masked.flatten(1), 1) - torch.log(count)) / SHARPNESS


def _block(before: int, after: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride, dilation, dilation),
        nn.GroupNorm(4, after),
        nn.LeakyReLU(0.1),
    ]


def parameters(network: nn.Module) -> int:
    """How many numbers it has learned."""
    return sum(p.numel() for p in network.parameters())
