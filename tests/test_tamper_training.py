"""One step of training, recomputed by hand; and the parts that are easily mixed up, told apart."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _tamper import domains, tiny
from scanward.errors import LearningError
from scanward.tampering.batches import Batches
from scanward.tampering.pool import Pool
from scanward.tampering.presets import Preset
from scanward.tampering.state import EMA_WARMUP, State
from scanward.tampering.training import _squared, rate_factor, steps

CPU = torch.device("cpu")
PLAIN = {"augmentation__share": "0", "optimiser__batch": "2"}


class Plus(nn.Module):
    """A generator of known effect: adds a constant, and has one weight."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] + self.by


class Level(nn.Module):
    """A discriminator of known effect: the mean grey of patches of 4 x 4 px, scaled."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.avg_pool2d(x[:, :1], 4)


def stand_ins(preset: Preset) -> tuple[State, Batches]:
    state = State(preset, 10, 0, CPU)
    state.insert, state.remove = Plus(0.2), Plus(-0.5)
    state.judge_cancer, state.judge_healthy = Level(2.0), Level(3.0)
    state.averaged = {}
    state.generator_adam = torch.optim.Adam([*state.insert.parameters(), *state.remove.parameters()], 0.01)
    state.discriminator_adam = torch.optim.Adam(
        [*state.judge_cancer.parameters(), *state.judge_healthy.parameters()], 0.01
    )
    return state, Batches(domains(4, 4), preset, 0, CPU)


def test_each_loss_is_what_its_name_says() -> None:
    preset = tiny(
        name="reference",
        losses__cycle_healthy="7",
        losses__cycle_cancer="3",
        losses__identity_mapping="5",
        losses__change="11",
        **PLAIN,
    )
    state, batches = stand_ins(preset)
    batch = batches(0)
    x, y = batch.healthy.double(), batch.cancer.double()

    def patches(pictures: Tensor) -> Tensor:
        return F.avg_pool2d(pictures, 4)

    first = next(iter(steps(state, batches, preset)))
    after = state.insert.by.item(), state.remove.by.item()
    assert after != (pytest.approx(0.2), pytest.approx(-0.5))  # something was learned
    wanted = {
        "insert": ((2 * patches(x + 0.2) - 1) ** 2).mean(),
        "remove": ((3 * patches(y - 0.5) - 1) ** 2).mean(),
        "cycle healthy": 7 * 0.3,  # |x + 0.2 - 0.5 - x|
        "cycle cancer": 3 * 0.3,
        "identity mapping": 5 * (0.2 + 0.5),  # |insert(y) - y| + |remove(x) - x|
        "change": 11 * (0.2 + 0.5),  # |insert(x) - x| + |remove(y) - y|
        # halved; against what the generators made before they learned
        "judge cancer": 0.5 * (((2 * patches(y) - 1) ** 2).mean() + ((2 * patches(x + 0.2)) ** 2).mean()),
        "judge healthy": 0.5 * (((3 * patches(x) - 1) ** 2).mean() + ((3 * patches(y - 0.5)) ** 2).mean()),
    }
    assert set(first) == set(wanted)
    for name, value in wanted.items():
        assert first[name] == pytest.approx(float(value), rel=1e-5), name


class Keeps(nn.Module):
    """Leaves bright pictures (cancers here) as they are, and darkens the others by 0.25."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        grey = x[:, :1]
        bright = (grey.mean((1, 2, 3), keepdim=True) > 0.5).to(grey.dtype)
        return grey - self.by * (1 - bright)


def test_identity_mapping_and_change_penalty_are_two_things() -> None:
    """An `insert` that keeps cancers and changes healthy pictures: no identity mapping loss, but a change penalty."""
    preset = tiny(name="reference", losses__identity_mapping="1", losses__change="1", **PLAIN)
    state, _ = stand_ins(preset)
    prepared = domains(4, 4)
    prepared.cancer.grey[:] = 30_000
    prepared.healthy.grey[:] = -20_000
    state.insert, state.remove = Keeps(), Plus(0.0)
    state.generator_adam = torch.optim.Adam([*state.insert.parameters(), *state.remove.parameters()], 0.01)
    first = next(iter(steps(state, Batches(prepared, preset, 0, CPU), preset)))
    assert first["identity mapping"] == pytest.approx(0, abs=1e-6)
    assert first["change"] == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("weight", ["identity_mapping", "change"])
def test_a_loss_without_weight_is_not_there(weight: str) -> None:
    preset = tiny(name="reference", losses__identity_mapping="0", losses__change="0", **PLAIN)
    state, batches = stand_ins(preset)
    found = next(iter(steps(state, batches, preset)))
    assert weight.replace("_", " ") not in found


def test_focus_weighs_the_patches_over_the_region() -> None:
    judged = torch.arange(8.0).reshape(1, 1, 2, 4) / 10
    region = -torch.ones(1, 1, 8, 16)
    region[..., 1:2, 5:6] = 1  # over the patch (0, 1) alone
    over, all_of_it = (0.1 - 1) ** 2, float(((judged - 1) ** 2).mean())
    assert float(_squared(judged, 1, region, 0.0)) == pytest.approx(all_of_it)
    assert float(_squared(judged, 1, region, 1.0)) == pytest.approx(over)
    assert float(_squared(judged, 1, region, 0.8)) == pytest.approx(0.2 * all_of_it + 0.8 * over)
    nowhere = -torch.ones_like(region)
    assert float(_squared(judged, 1, nowhere, 0.8)) == pytest.approx(0.2 * all_of_it)


def test_generators_learn_from_fooling_and_discriminators_do_not_learn_then() -> None:
    preset = tiny(name="reference", losses__cycle_healthy="0", losses__cycle_cancer="0",
                  losses__identity_mapping="0", **PLAIN)  # fmt: skip
    state, batches = stand_ins(preset)
    before = state.judge_cancer.scale.item()
    running = steps(state, batches, preset)
    next(running)
    # the judge of cancers finds genuine and inserted too dark for 1: grey levels are near 0, inserted ones lie at 0.2
    assert state.insert.by.item() > 0.2
    genuine = batches(0).cancer
    made = batches(0).healthy + 0.2
    gradient = (2 * F.avg_pool2d(genuine, 4) - 1).mul(F.avg_pool2d(genuine, 4)).mean()
    gradient = gradient + (2 * F.avg_pool2d(made, 4)).mul(F.avg_pool2d(made, 4)).mean()
    assert math.copysign(1, before - state.judge_cancer.scale.item()) == math.copysign(1, float(gradient))


def test_the_rate_is_constant_and_then_falls_to_zero() -> None:
    factors = [rate_factor(step, 100, 0.5) for step in range(100)]
    assert factors[:51] == [1.0] * 51
    falling = [(100 - step) / 50 for step in range(51, 100)]
    assert factors[51:] == pytest.approx(falling)
    assert factors[-1] > 0
    assert [rate_factor(step, 100, 0.0) for step in (0, 99)] == [1.0, 1.0]
    assert rate_factor(75, 100, 1.0) == 0.25
    assert all(0 < rate_factor(step, 1, 0.5) <= 1 for step in range(1))


def test_each_optimiser_follows_the_schedule_from_its_own_rate() -> None:
    preset = tiny(
        name="reference", optimiser__generator_rate="0.004", optimiser__discriminator_rate="0.002", **PLAIN
    )
    state, batches = State(preset, 8, 0, CPU), Batches(domains(4, 4), preset, 0, CPU)
    found = [
        (state.generator_adam.param_groups[0]["lr"], state.discriminator_adam.param_groups[0]["lr"])
        for _ in steps(state, batches, preset)
    ]
    shares = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert found == [(pytest.approx(0.004 * s), pytest.approx(0.002 * s)) for s in shares]
    assert state.generator_adam.param_groups[0]["betas"] == (0.5, 0.999)
    assert state.step == 8


def test_averaged_weights_are_the_running_mean_of_the_generators() -> None:
    preset = tiny(optimiser__ema="0.9")
    state, batches = State(preset, 30, 0, CPU), Batches(domains(4, 4), preset, 0, CPU)
    kept = {name: p.detach().clone() for name, p in state.insert.named_parameters()}
    for _ in steps(state, batches, preset):
        decay = min(0.9, (1 + state.step) / (EMA_WARMUP + state.step))
        for name, p in state.insert.named_parameters():
            kept[name] = decay * kept[name] + (1 - decay) * p.detach()
    averaged = dict(state.averaged["insert"].named_parameters())
    assert kept.keys() == averaged.keys()
    for name, value in kept.items():
        assert torch.allclose(value, averaged[name], atol=1e-6), name
    assert not torch.equal(averaged["head.0.weight"], state.insert.head[0].weight)
    assert state.best("insert") is state.averaged["insert"]
    without = State(tiny(optimiser__ema="0"), 3, 0, CPU)
    assert without.best("remove") is without.remove


def test_half_of_a_full_pools_answers_are_old_ones() -> None:
    pool = Pool(20, (1, 1, 1), CPU)
    random = torch.Generator().manual_seed(0)
    fill = torch.arange(20.0).reshape(20, 1, 1, 1)
    assert torch.equal(pool.exchange(fill, random), fill)
    assert pool.filled == 20
    answers: Counter[str] = Counter()
    inside = set(range(20))
    for number in range(20, 4020):
        given = int(pool.exchange(torch.full((1, 1, 1, 1), float(number)), random))
        if given == number:
            answers["new"] += 1
        else:
            answers["old"] += 1
            assert given in inside  # and was not given before: it left the pool
            inside.remove(given)
            inside.add(number)
        assert set(pool.kept.flatten().int().tolist()) == inside
    assert 1850 < answers["old"] < 2150


def test_a_pool_gives_and_keeps_copies() -> None:
    pool = Pool(1, (1, 2, 2), CPU)
    random = torch.Generator().manual_seed(1)
    picture = torch.ones(1, 1, 2, 2, requires_grad=True)
    pool.exchange(picture * 1, random)
    with torch.no_grad():
        picture.zero_()
    assert bool((pool.kept == 1).all())  # not the caller's memory
    for _ in range(20):
        given = pool.exchange(torch.full((1, 1, 2, 2), 7.0), random)
        assert not given.requires_grad
        before = pool.kept.clone()
        given += 100
        assert torch.equal(pool.kept, before)
    none = Pool(0, (1, 2, 2), CPU)
    fresh = torch.rand(3, 1, 2, 2)
    assert none.exchange(fresh, random) is fresh


def test_one_seed_one_training_bit_for_bit() -> None:
    def weights(seed: int) -> Tensor:
        preset = tiny(optimiser__ema="0.9")
        state, batches = State(preset, 6, seed, CPU), Batches(domains(5, 3), preset, seed, CPU)
        torch.rand(seed + 3)  # whatever else draws from torch's own generator
        for _ in islice(steps(state, batches, preset), 6):
            torch.rand(7)
        return torch.cat([value.flatten().double() for value in state.tensors().values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    preset = tiny(name="reference", **PLAIN)
    state, batches = stand_ins(preset)
    running = steps(state, batches, preset)
    next(running)
    state.refuse_spoilt()
    with torch.no_grad():
        state.insert.by.fill_(float("nan"))
    with pytest.raises(LearningError, match=r"insert.*nan.*step 2.*diverged"):
        next(running)
    with pytest.raises(LearningError, match=r"inserting generator.*diverged"):
        state.refuse_spoilt()


def test_bf16_and_channels_last_learn_the_same_beyond_rounding() -> None:
    found = []
    for options in ({}, {"execution__precision": '"bfloat16"', "execution__channels_last": "true"}):
        preset = tiny(generator__filters="8", **options)
        state, batches = State(preset, 5, 0, CPU), Batches(domains(4, 4), preset, 0, CPU)
        found.append([losses["judge cancer"] for losses in steps(state, batches, preset)])
        assert all(p.dtype == torch.float32 for p in state.insert.parameters())
    assert found[0] == pytest.approx(found[1], rel=0.1)
    assert found[0] != found[1]
