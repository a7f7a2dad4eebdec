"""The two networks: sizes, counts, what each option does, and that a confined generator leaves the rest alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from scanward.tampering.networks import Discriminator, Generator, soften
from scanward.tampering.presets import PRESETS, DiscriminatorSettings, GeneratorSettings


def small(**options: object) -> GeneratorSettings:
    return replace(GeneratorSettings(filters=4, blocks=1), **options)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pictures(number: int = 2, rows: int = 16, columns: int = 16, seed: int = 0) -> Tensor:
    return torch.rand((number, 1, rows, columns), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def with_region(grey: Tensor, top: int = 4, left: int = 4, side: int = 7) -> Tensor:
    region = -torch.ones_like(grey)
    region[..., top : top + side, left : left + side] = 1
    return torch.cat([grey, region], 1)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_every_option_gives_a_picture_of_the_same_size(
    padding: str, activation: str, upsampling: str
) -> None:
    for output, mask, norm in itertools.product(("tanh", "tanh-of-sum", "residual"), (0, 1), (False, True)):
        settings = small(
            padding=padding,
            activation=activation,
            upsampling=upsampling,
            output=output,
            mask_channel=bool(mask),
            spectral_norm=norm,
            icnr=norm,
        )
        x = pictures(3, 16, 20)  # an odd batch, no square
        made = Generator(settings)(with_region(x) if mask else x)
        assert made.shape == (3, 1, 16, 20)
        assert made.dtype == torch.float32
        assert float(made.detach().abs().max()) <= 1


def test_the_reference_has_as_many_weights_as_the_published_networks() -> None:
    # Counted by hand from Zhu et al., appendix 7.2: c7s1-64, d128, d256, R256 x 9, u128, u64, c7s1-1; with biases.
    generator = 49 * 64 + 64
    generator += 9 * 64 * 128 + 128 + 9 * 128 * 256 + 256
    generator += 9 * 2 * (9 * 256 * 256 + 256)
    generator += 9 * 256 * 128 + 128 + 9 * 128 * 64 + 64
    generator += 49 * 64 * 1 + 1
    # The reference code prints 11.378 M and 2.765 M for pictures of three colours.
    in_colour = generator + 2 * 49 * 64 + (2 * 49 * 64 + 2)
    assert round(in_colour / 1e6, 3) == 11.378
    assert count(Generator(PRESETS["reference"].generator)) == generator
    discriminator = 16 * 64 + 64 + 16 * 64 * 128 + 128 + 16 * 128 * 256 + 256
    discriminator += 16 * 256 * 512 + 512 + 16 * 512 + 1
    assert round((discriminator + 2 * 16 * 64) / 1e6, 3) == 2.765
    assert count(Discriminator(PRESETS["reference"].discriminator)) == discriminator


@pytest.mark.parametrize(("layers", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_of_the_discriminator_sees_as_much_as_published(layers: int, seen: int) -> None:
    network = Discriminator(DiscriminatorSettings(filters=4, layers=layers))
    alone = nn.Sequential(
        *(m for m in network.body if not isinstance(m, nn.InstanceNorm2d))
    )  # it sees everything
    x = pictures(1, 128, 128).requires_grad_()
    judged = alone(x)
    judged[0, 0, judged.shape[2] // 2, judged.shape[3] // 2].backward()
    assert x.grad is not None
    touched = x.grad[0, 0] != 0
    assert (int(touched.any(1).sum()), int(touched.any(0).sum())) == (seen, seen)


def test_what_the_discriminator_is_shown_first_is_not_normalised() -> None:
    kinds = [type(module) for module in Discriminator(DiscriminatorSettings()).body]
    assert kinds.index(nn.InstanceNorm2d) > kinds.index(nn.LeakyReLU)
    widths = [m.out_channels for m in Discriminator(DiscriminatorSettings()).body if isinstance(m, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]


def test_padding_is_what_the_settings_say() -> None:
    for padding in ("reflect", "zeros"):
        network = Generator(small(padding=padding))
        modes = {m.padding_mode for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (1, 1)}
        strided = {
            m.padding_mode for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)
        }
        assert modes == {padding}
        assert strided == {"zeros"}
    torch.manual_seed(0)
    reflect, zeros = Generator(small()), Generator(small(padding="zeros"))
    zeros.load_state_dict(reflect.state_dict())
    x = pictures(1, 32, 32)
    assert not torch.equal(reflect(x), zeros(x))


def checkerboard(network: Generator) -> float:
    """How much the four places of 2 x 2 pixels differ after the first upsampling of an even field, relative to it."""
    up = next(m for m in network.body if isinstance(m, nn.ConvTranspose2d | nn.Upsample))
    index = list(network.body).index(up)
    field = torch.ones((1, 16, 8, 8))
    with torch.no_grad():
        made = up(field)
        if isinstance(up, nn.Upsample):
            made = network.body[index + 1](made)
    inner = made[..., 4:-4, 4:-4]
    phases = torch.stack([inner[..., i::2, j::2].mean((-1, -2)) for i in (0, 1) for j in (0, 1)])
    return float(phases.std(0).mean() / phases.abs().mean())


def test_icnr_and_nearest_upsampling_start_without_checkerboard() -> None:
    torch.manual_seed(1)
    usual = checkerboard(Generator(small()))
    assert usual > 0.3
    for spectral in (False, True):
        assert checkerboard(Generator(small(icnr=True, spectral_norm=spectral))) < 1e-4
    assert checkerboard(Generator(small(upsampling="nearest"))) < 1e-4


def test_spectral_norm_bounds_what_a_layer_can_amplify() -> None:
    torch.manual_seed(2)
    for network, x in (
        (Discriminator(DiscriminatorSettings(filters=8, layers=2, spectral_norm=True)), pictures(2, 32, 32)),
        (Generator(small(spectral_norm=True)), pictures(2)),
    ):
        for _ in range(40):  # one power iteration each
            network(x)
        found = 0
        for module in network.eval().modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                weight = module.weight.detach()
                if isinstance(module, nn.ConvTranspose2d):
                    weight = weight.transpose(0, 1)
                assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) < 1.05
                found += 1
        assert found > 3
    plain = Discriminator(DiscriminatorSettings(filters=64, layers=2))
    largest = max(
        float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2))
        for m in plain.modules()
        if isinstance(m, nn.Conv2d)
    )
    assert largest > 1.05


def test_a_confined_generator_changes_nothing_outside_its_region() -> None:
    torch.manual_seed(3)
    network = Generator(small(output="residual", mask_channel=True, confine=True))
    for parameter in network.parameters():
        parameter.data += 0.3  # as if long trained
    x = with_region(pictures(3, 24, 24))
    made = network(x).detach()
    outside = x[:, 1:] < 0
    assert torch.equal(made[outside], x[:, :1][outside])  # bit for bit
    changed = (made != x[:, :1])[~outside].float().mean()
    assert changed > 0.9
    free = Generator(small(output="residual", mask_channel=True))
    free.load_state_dict(network.state_dict())
    assert not torch.equal(free(x)[outside], x[:, :1][outside])


def test_a_region_is_softened_within_itself() -> None:
    x = with_region(pictures(1, 24, 24), side=9)[:, 1:]
    weights = soften(x)
    assert float(weights[x < 0].abs().max()) == 0
    assert float(weights.max()) == 1
    assert float(weights[x > 0].min()) > 0
    row = weights[0, 0, 8, 4:13]
    assert bool((row[:5].diff() >= 0).all())
    assert bool((row[4:].diff() <= 0).all())
    smallest = -torch.ones(1, 1, 9, 9)
    smallest[..., 3:6, 3:6] = 1  # a lesion of one pixel with the margin that training gives it
    assert float(soften(smallest).sum()) > 0


def test_outputs_are_what_their_names_say() -> None:
    torch.manual_seed(4)
    x = pictures()
    state = Generator(small()).state_dict()
    made = {}
    for output in ("tanh", "tanh-of-sum", "residual"):
        network = Generator(small(output=output))
        network.load_state_dict(state)
        made[output] = network(x).detach()
    change = torch.atanh(made["tanh"].double())
    assert torch.allclose(made["tanh-of-sum"].double(), torch.tanh(x.double() + change), atol=1e-6)
    assert torch.allclose(
        made["residual"].double(), (x.double() + torch.tanh(change)).clamp(-1, 1), atol=1e-6
    )


def test_an_untrained_residual_generator_changes_little() -> None:
    torch.manual_seed(5)
    x = pictures()
    with torch.no_grad():
        assert float((Generator(small(output="residual"))(x) - x).abs().mean()) < 0.2
        assert float((Generator(small(output="tanh"))(x) - x).abs().mean()) > 0.3


def test_the_region_is_the_second_channel() -> None:
    torch.manual_seed(6)
    network = Generator(small(output="tanh", mask_channel=True))
    x = pictures()
    here, there = network(with_region(x, 2, 2)), network(with_region(x, 8, 8))
    assert not torch.allclose(here, there)
    with pytest.raises(RuntimeError):
        network(x)


def test_new_weights_are_small_and_biases_zero() -> None:
    torch.manual_seed(7)
    network = Generator(GeneratorSettings(filters=16, blocks=2))
    weights = np.concatenate([p.detach().numpy().ravel() for p in network.parameters() if p.dim() > 1])
    assert abs(weights.std() - 0.02) < 0.0005
    assert abs(weights.mean()) < 0.001
    assert all(float(p.detach().abs().max()) == 0 for p in network.parameters() if p.dim() == 1)
