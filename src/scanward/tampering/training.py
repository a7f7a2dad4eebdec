"""Training a CycleGAN, top to bottom on one page; what surrounds it is in `scanward.tampering.running`.

Zhu et al., arXiv 1703.10593. `insert` maps healthy to cancer, `remove` cancer to healthy; each domain has a
discriminator. A step is a function of the state before it and of (seed, step, rank): a run that was killed and goes
on from its last checkpoint ends with the same weights as one that was not (on one CPU, bit for bit).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from scanward.errors import LearningError
from scanward.tampering.batches import Batch, Batches
from scanward.tampering.presets import Preset
from scanward.tampering.processes import mean_gradients
from scanward.tampering.state import DIVERGED, State

Losses = dict[str, float]
CHECK_EVERY = 25  # steps between looks at the losses on an accelerator: each look waits for it


def steps(
    state: State, batches: Batches, preset: Preset, *, rank: int = 0, world: int = 1
) -> Iterator[Losses]:
    """Train from ``state.step`` to the end of the preset; yields the losses of each step (empty when not looked at).

    Raises
    ------
    LearningError
        A loss is not a finite number. The state is spoilt then and must not be saved.
    """
    weights, optimiser = preset.losses, preset.optimiser
    precision = torch.bfloat16 if preset.execution.precision == "bfloat16" else torch.float32
    generators = [*state.insert.parameters(), *state.remove.parameters()]
    discriminators = [*state.judge_cancer.parameters(), *state.judge_healthy.parameters()]
    insert, remove, judge_cancer, judge_healthy = state.callables(compiled=preset.execution.compile)
    join = _join if preset.generator.mask_channel else _grey_alone

    while state.step < state.total:
        factor = rate_factor(state.step, state.total, optimiser.decay)
        _set_rate(state.generator_adam, optimiser.generator_rate * factor)
        _set_rate(state.discriminator_adam, optimiser.discriminator_rate * factor)
        batch: Batch = batches(state.step, rank, world)
        healthy, cancer = batch.healthy, batch.cancer
        here, there = batch.healthy_region, batch.cancer_region

        # --- generators: fool the discriminators, find the way back
        _learn(discriminators, False)
        with torch.autocast(healthy.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            inserted = insert(join(healthy, here))  # (N, 1, rows, columns)
            removed = remove(join(cancer, there))
            healthy_again = remove(join(inserted, here))
            cancer_again = insert(join(removed, there))
            looks_cancer = judge_cancer(join(inserted, here))  # (N, 1, r, c)
            looks_healthy = judge_healthy(join(removed, there))
            parts = {
                "insert": _squared(looks_cancer, 1, here, weights.focus),
                "remove": _squared(looks_healthy, 1, there, weights.focus),
                "cycle healthy": weights.cycle_healthy * F.l1_loss(healthy_again.float(), healthy),
                "cycle cancer": weights.cycle_cancer * F.l1_loss(cancer_again.float(), cancer),
            }
            if weights.identity_mapping:
                kept = F.l1_loss(insert(join(cancer, there)).float(), cancer)
                kept = kept + F.l1_loss(remove(join(healthy, here)).float(), healthy)
                parts["identity mapping"] = weights.identity_mapping * kept
            if weights.change:
                changed = F.l1_loss(inserted.float(), healthy) + F.l1_loss(removed.float(), cancer)
                parts["change"] = weights.change * changed
        state.generator_adam.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        mean_gradients(generators, world)
        state.generator_adam.step()

        # --- discriminators: tell genuine pictures from what the pools give
        _learn(discriminators, True)
        random = torch.Generator().manual_seed(batches.stream(state.step, rank))
        old_cancer = state.cancer_pool.exchange(join(inserted.detach().float(), here), random)
        old_healthy = state.healthy_pool.exchange(join(removed.detach().float(), there), random)
        with torch.autocast(healthy.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            # halved as in the reference, so that the discriminators do not outrun the generators
            parts["judge cancer"] = 0.5 * (
                _squared(judge_cancer(join(cancer, there)), 1, there, weights.focus)
                + _squared(judge_cancer(old_cancer), 0, old_cancer[:, 1:], weights.focus)
            )
            parts["judge healthy"] = 0.5 * (
                _squared(judge_healthy(join(healthy, here)), 1, here, weights.focus)
                + _squared(judge_healthy(old_healthy), 0, old_healthy[:, 1:], weights.focus)
            )
        state.discriminator_adam.zero_grad(set_to_none=True)
        (parts["judge cancer"] + parts["judge healthy"]).backward()  # type: ignore[no-untyped-call]
        mean_gradients(discriminators, world)
        state.discriminator_adam.step()

        state.step += 1
        state.average(optimiser.ema)
        look = healthy.device.type == "cpu" or state.step % CHECK_EVERY == 0 or state.step == state.total
        yield (
            _finite({name: float(part.detach()) for name, part in parts.items()}, state.step) if look else {}
        )


def rate_factor(step: int, total: int, decay: float) -> float:
    """Learning rate of a step as a share of the first one: 1, then linear to 0 over the last ``decay`` of the run."""
    begin = total * (1 - decay)
    return 1.0 if step <= begin else max(0.0, (total - step) / max(total - begin, 1))


def _squared(judged: Tensor, wanted: float, region: Tensor, focus: float) -> Tensor:
    """Least squares against "genuine" (1) or "made" (0), Mao et al. 2017; judged: (N, 1, r, c).

    ``focus`` is the share that goes by the patches over the region alone: a lesion is in few of them, and the mean over
    all says little of it.
    """
    errors = (judged.float() - wanted) ** 2
    if focus == 0:
        return errors.mean()
    over = F.adaptive_max_pool2d((region.float() + 1) / 2, judged.shape[-2:])
    return (1 - focus) * errors.mean() + focus * (errors * over).sum() / over.sum().clamp(min=1)


def _join(grey: Tensor, region: Tensor) -> Tensor:
    return torch.cat([grey, region.to(grey.dtype)], 1)


def _grey_alone(grey: Tensor, _region: Tensor) -> Tensor:
    return grey


def _learn(parameters: list[torch.nn.Parameter], on: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(on)


def _set_rate(adam: torch.optim.Optimizer, rate: float) -> None:
    for group in adam.param_groups:
        group["lr"] = rate


def _finite(losses: Losses, step: int) -> Losses:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise LearningError(
                f"the loss '{name}' is {value} in step {step}: training has diverged",
                "",
                DIVERGED,
            )
    return losses
