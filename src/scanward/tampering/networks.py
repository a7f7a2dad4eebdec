"""The two networks of a CycleGAN: a ResNet generator and a PatchGAN discriminator.

Zhu et al., arXiv 1703.10593, appendix 7.2; options as `scanward.tampering.presets` names them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from scanward.tampering.presets import DiscriminatorSettings, GeneratorSettings

INIT_SPREAD = 0.02  # standard deviation of new weights (Zhu et al., code)
LEAK = 0.2  # slope of leaky ReLU below zero (Isola et al. 2017)


class Generator(nn.Module):
    """(N, 1 or 2, rows, columns) -> (N, 1, rows, columns), grey levels in [-1, 1].

    Channel 1, where the settings have it, is the region to alter: 1 inside, -1 outside.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.filters
        layers: list[nn.Module] = [
            *self._convolution(2 if settings.mask_channel else 1, width, 7),
            nn.InstanceNorm2d(width),
            self._activation(),
        ]
        for _ in range(2):
            layers += [*self._convolution(width, 2 * width, 3, stride=2), nn.InstanceNorm2d(2 * width)]
            layers.append(self._activation())
            width *= 2
        layers += [_Block(self, width) for _ in range(settings.blocks)]
        for _ in range(2):
            layers += [
                *self._upsampling(width, width // 2),
                nn.InstanceNorm2d(width // 2),
                self._activation(),
            ]
            width //= 2
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(*self._convolution(width, 1, 7))
        _initialise(self)
        if settings.icnr:
            _icnr(self)

    def forward(self, x: Tensor) -> Tensor:
        """Alter pictures. x: (N, C, rows, columns) -> (N, 1, rows, columns)."""
        change = self.head(self.body(x)).float()
        grey = x[:, :1].float()
        if self.settings.output == "tanh":
            return torch.tanh(change)
        if self.settings.output == "tanh-of-sum":
            return torch.tanh(grey + change)
        change = torch.tanh(change)
        if self.settings.confine:
            change = change * soften(x[:, 1:].float())
        return torch.clamp(grey + change, -1.0, 1.0)

    def _convolution(self, inside: int, outside: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        made = nn.Conv2d(
            inside,
            outside,
            kernel,
            stride,
            padding=kernel // 2,
            # a strided convolution is padded with zeros in the reference too
            padding_mode=self.settings.padding if stride == 1 else "zeros",
        )
        return [spectral_norm(made) if self.settings.spectral_norm else made]

    def _upsampling(self, inside: int, outside: int) -> list[nn.Module]:
        if self.settings.upsampling == "nearest":
            return [nn.Upsample(scale_factor=2, mode="nearest"), *self._convolution(inside, outside, 3)]
        made = nn.ConvTranspose2d(inside, outside, 3, 2, padding=1, output_padding=1)
        return [spectral_norm(made) if self.settings.spectral_norm else made]

    def _activation(self) -> nn.Module:
        return nn.LeakyReLU(LEAK) if self.settings.activation == "leaky-relu" else nn.ReLU()


class _Block(nn.Module):
    """Two 3x3 convolutions and a way past them."""

    def __init__(self, of: Generator, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *of._convolution(width, width, 3),
            nn.InstanceNorm2d(width),
            of._activation(),
            *of._convolution(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Discriminator(nn.Module):
    """(N, 1 or 2, rows, columns) -> (N, 1, rows / 2^layers - 2, ...): one judgement per patch, no sigmoid."""

    def __init__(self, settings: DiscriminatorSettings, *, mask_channel: bool = False) -> None:
        super().__init__()

        def convolution(inside: int, outside: int, stride: int) -> nn.Module:
            made = nn.Conv2d(inside, outside, 4, stride, padding=1)
            return spectral_norm(made) if settings.spectral_norm else made

        width = settings.filters
        layers: list[nn.Module] = [convolution(2 if mask_channel else 1, width, 2), nn.LeakyReLU(LEAK)]
        for index in range(1, settings.layers + 1):
            wider = min(2 * width, 8 * settings.filters)
            stride = 2 if index < settings.layers else 1
            layers += [convolution(width, wider, stride), nn.InstanceNorm2d(wider), nn.LeakyReLU(LEAK)]
            width = wider
        layers.append(convolution(width, 1, 1))
        self.body = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Judge patches. x: (N, C, rows, columns) -> (N, 1, r, c)."""
        out: Tensor = self.body(x)
        return out


def soften(region: Tensor) -> Tensor:
    """A region of 1 inside and -1 outside -> weights in [0, 1] that fall off towards its edge, and are 0 beyond it.

    The fall-off is wider in larger pictures, where a sharp one showed as a ring around the lesion.
    """
    inside = (region + 1) / 2
    width = region.shape[-2] // 64
    if width > 1:
        return F.avg_pool2d(inside, 2 * width + 1, 1, width) ** 2 * inside
    near = -F.max_pool2d(-inside, 3, 1, 1)  # one pixel smaller, so that the fall-off ends inside the region
    return F.avg_pool2d(near, 3, 1, 1, count_include_pad=False) * inside


def _initialise(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, INIT_SPREAD)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def _icnr(generator: Generator) -> None:
    """Start transposed upsampling with sub-kernels of equal sums (after Aitken et al. 2017): no checkerboard at first.

    A 3x3 kernel of stride 2 has sub-kernels of 1, 2, 2 and 4 taps, one for each position in 2x2 output pixels; a tent
    over its centre makes it linear interpolation, so that each gets the same sum. After nearest-neighbour upsampling
    there are no sub-kernels, and the option changes nothing.
    """
    tent = torch.tensor([0.5, 1.0, 0.5])
    for module in generator.modules():
        if isinstance(module, nn.ConvTranspose2d):
            normed = getattr(module, "parametrizations", None)  # with spectral norm the weight is computed
            weight = module.weight if normed is None else normed.weight.original
            with torch.no_grad():
                weight.copy_(weight[:, :, 1:2, 1:2] * tent[:, None] * tent)
