"""The processes and the device of a run: one, or several under torchrun (torch.distributed)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from scanward.errors import LearningError, SettingsError


@contextmanager
def joined(device: str, threads: int | None) -> Iterator[tuple[int, int, torch.device]]:
    """Rank, number of processes and device; under torchrun joins the group it describes.

    Raises
    ------
    SettingsError
        No such device, or variables of torchrun that are no numbers.
    LearningError
        The other processes cannot be reached.
    """
    world, rank, local = (_number(name, least) for name, least in _VARIABLES)
    chosen = _device(device, local)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // world))
    try:
        if world > 1:
            with together():
                dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        yield rank, world, chosen
    finally:
        torch.set_num_threads(before)
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Round every collective call: a process that is gone is an error of ours in all others.

    Raises
    ------
    LearningError
        Another process of the run ended.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:  # what gloo, NCCL and the store raise has no class of its own
        raise LearningError(
            "another process of this run ended or cannot be reached",
            str(error).splitlines()[0][:200] if str(error) else "torch.distributed",
            "its own message says why; the same command goes on from the last checkpoint",
        ) from error


def mean_gradients(parameters: list[torch.nn.Parameter], world: int) -> None:
    """Mean of the gradients over all processes: what torch's DistributedDataParallel does, without its wrappers."""
    if world == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with together():
        dist.all_reduce(flat)
    flat /= world
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def gathered(tensor: Tensor, world: int) -> list[Tensor]:
    """The tensor of every process, by rank."""
    if world == 1:
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(world)]
    with together():
        dist.all_gather(found, tensor)
    return found


def decided(word: bool, world: int, device: torch.device) -> bool:
    """What rank 0 says: one clock decides for all."""
    if world == 1:
        return word
    said = torch.tensor(float(word), device=device)
    with together():
        dist.broadcast(said, 0)
    return bool(said)


def wait(world: int) -> None:
    """Wait until all processes are here."""
    if world > 1:
        with together():
            dist.barrier()


_VARIABLES = (
    ("WORLD_SIZE", 1),
    ("RANK", 0),
    ("LOCAL_RANK", 0),
)  # torchrun's, with the least that each can be


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, str(least))
    if not text.isdecimal() or int(text) < least:
        raise SettingsError(f"{name} is '{text}'", "environment", "leave it to torchrun, or unset it")
    return int(text)


def _device(name: str, local: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError("there is no CUDA device", "--device", "use --device cpu")
    if name == "cuda":
        name = f"cuda:{local}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"no such device '{name}'", "--device", "use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"no training on '{name}'", "--device", "use auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"no such device '{name}'", "--device", f"there are {torch.cuda.device_count()}, from cuda:0"
        )
    return device
