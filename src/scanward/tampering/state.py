"""Everything that training changes: four networks, averaged generators, two Adams, two pools, the step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from scanward.errors import DecodeError, LearningError
from scanward.tampering.checkpoints import load_into
from scanward.tampering.networks import Discriminator, Generator
from scanward.tampering.pool import Pool
from scanward.tampering.presets import Preset
from scanward.tampering.processes import gathered

DIVERGED = (
    "earlier checkpoints are whole; lower the learning rates (--set optimiser.generator_rate=0.0001), "
    "or use float32 (--set execution.precision=float32)"
)
EMA_WARMUP = 10  # steps over which the averaged weights catch up at first

Call = Callable[[Tensor], Tensor]


class State:
    """A run's state in memory; `tensors` and `load` carry it to and from a checkpoint."""

    def __init__(self, preset: Preset, total: int, seed: int, device: torch.device, world: int = 1) -> None:
        torch.manual_seed(seed)
        masked = preset.generator.mask_channel
        form = torch.channels_last if preset.execution.channels_last else torch.contiguous_format

        def put(network: nn.Module) -> nn.Module:
            return network.to(device=device, memory_format=form)  # type: ignore[call-overload, no-any-return]

        self.step = 0
        self.total = total
        self.world = world
        self.insert = put(Generator(preset.generator))
        self.remove = put(Generator(preset.generator))
        self.judge_cancer = put(Discriminator(preset.discriminator, mask_channel=masked))
        self.judge_healthy = put(Discriminator(preset.discriminator, mask_channel=masked))
        self.averaged: dict[str, nn.Module] = {}
        if preset.optimiser.ema:
            self.averaged = {
                "insert": copy.deepcopy(self.insert).requires_grad_(False),
                "remove": copy.deepcopy(self.remove).requires_grad_(False),
            }
        betas = (preset.optimiser.beta1, 0.999)
        self.generator_adam = torch.optim.Adam(
            [*self.insert.parameters(), *self.remove.parameters()], preset.optimiser.generator_rate, betas
        )
        self.discriminator_adam = torch.optim.Adam(
            [*self.judge_cancer.parameters(), *self.judge_healthy.parameters()],
            preset.optimiser.discriminator_rate,
            betas,
        )
        picture = (2 if masked else 1, preset.rows, preset.columns)
        self.cancer_pool = Pool(preset.optimiser.pool, picture, device)
        self.healthy_pool = Pool(preset.optimiser.pool, picture, device)

    def callables(self, *, compiled: bool) -> tuple[Call, Call, Call, Call]:
        """insert, remove, judge_cancer, judge_healthy, compiled when asked for."""
        networks = (self.insert, self.remove, self.judge_cancer, self.judge_healthy)
        if not compiled:
            return networks
        a, b, c, d = (torch.compile(network) for network in networks)
        return a, b, c, d

    def average(self, decay: float) -> None:
        """Move the averaged generators a little towards the present ones."""
        if not self.averaged:
            return
        decay = min(decay, (1 + self.step) / (EMA_WARMUP + self.step))
        with torch.no_grad():
            for name, averaged in self.averaged.items():
                present: nn.Module = getattr(self, name)
                torch._foreach_lerp_(list(averaged.parameters()), list(present.parameters()), 1 - decay)
                for kept, new in zip(averaged.buffers(), present.buffers(), strict=True):
                    kept.copy_(new)

    def best(self, name: str) -> nn.Module:
        """The generator that would be used if training ended now: `insert` or `remove`."""
        found: nn.Module = self.averaged[name] if name in self.averaged else getattr(self, name)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name. With several processes a collective call: every rank's pool is in it."""
        found: dict[str, Tensor] = {}
        for name in _NETWORKS:
            network: nn.Module = getattr(self, name)
            found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        for name, network in self.averaged.items():
            found |= {f"averaged.{name}.{key}": value for key, value in network.state_dict().items()}
        for name in _ADAMS:
            for index, moments in getattr(self, name).state_dict()["state"].items():
                found |= {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        for name in _POOLS:
            pool: Pool = getattr(self, name)
            counts = gathered(torch.tensor(pool.filled, device=pool.kept.device), self.world)
            for rank, (kept, filled) in enumerate(zip(gathered(pool.kept, self.world), counts, strict=True)):
                found[f"{name}.{rank}.kept"] = kept
                found[f"{name}.{rank}.filled"] = filled
        return found

    def refuse_spoilt(self) -> None:
        """Refuse weights that are not finite: losses are those before the step, and not looked at in every step.

        Raises
        ------
        LearningError
            Training has diverged. All processes have the same weights, so all of them raise it.
        """
        for name in _NETWORKS:
            network: nn.Module = getattr(self, name)
            if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
                raise LearningError(
                    f"weights of {_SAID[name]} are no numbers after step {self.step}: training has diverged",
                    "",
                    DIVERGED,
                )

    def load(self, tensors: Mapping[str, Tensor], step: int, path: Path, rank: int = 0) -> None:
        """Take over what a checkpoint holds.

        Raises
        ------
        DecodeError
            It does not fit.
        """
        for name in _NETWORKS:
            load_into(getattr(self, name), tensors, f"{name}.", path)
        for name, network in self.averaged.items():
            load_into(network, tensors, f"averaged.{name}.", path)
        try:
            for name in _ADAMS:
                adam: torch.optim.Adam = getattr(self, name)
                state = adam.state_dict()
                state["state"] = _moments(tensors, f"{name}.", adam)
                adam.load_state_dict(state)
            for name in _POOLS:
                pool: Pool = getattr(self, name)
                pool.kept.copy_(tensors[f"{name}.{rank}.kept"])
                pool.filled = int(tensors[f"{name}.{rank}.filled"])
                if not 0 <= pool.filled <= pool.size:
                    raise ValueError("pool")
        except (KeyError, ValueError, RuntimeError) as error:
            raise DecodeError("the checkpoint does not fit its preset", str(path), "train again") from error
        self.step = step


def _moments(
    tensors: Mapping[str, Tensor], prefix: str, adam: torch.optim.Adam
) -> dict[int, dict[str, Tensor]]:
    """Adam's moments; torch takes them over without a look at their shapes."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            index, _, key = name.removeprefix(prefix).partition(".")
            found.setdefault(int(index), {})[key] = tensor.clone()
    parameters = [parameter for group in adam.param_groups for parameter in group["params"]]
    if sorted(found) != list(range(len(parameters))):
        raise ValueError("moments")
    for place, parameter in enumerate(parameters):
        shapes = {key: tuple(value.shape) for key, value in found[place].items()}
        if shapes != {"step": (), "exp_avg": tuple(parameter.shape), "exp_avg_sq": tuple(parameter.shape)}:
            raise ValueError("moments")
    return found


_SAID = {
    "insert": "the inserting generator",
    "remove": "the removing generator",
    "judge_cancer": "the discriminator of cancers",
    "judge_healthy": "the discriminator of healthy pictures",
}
_NETWORKS = ("insert", "remove", "judge_cancer", "judge_healthy")
_ADAMS = ("generator_adam", "discriminator_adam")
_POOLS = ("cancer_pool", "healthy_pool")
