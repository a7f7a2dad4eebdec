"""What a training has learned so far, kept after each pass: one that was cut off goes on from there.

One safetensors file, whole or not there: weights, Adam's moments, the state of chance, and in its header the rate and
the schedule, beside a hash of what was learned from and how. Of another training, or damaged, it is as good as none.
No pickles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from scanward.errors import LearningError
from scanward.forensics.detector_files import fingerprint
from scanward.tampering.marking import write_whole

FILE = "training.safetensors"
_CHANCE = "chance"


class Passes:
    """Where passes are kept.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Names the training: its pictures and settings.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what

    def keep(
        self,
        done: int,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        """Write what there is after ``done`` passes; LearningError when it cannot be written."""
        tensors: dict[str, Tensor] = {_CHANCE: torch.get_rng_state()}
        tensors |= {f"network.{name}": value for name, value in network.state_dict().items()}
        state = optimiser.state_dict()
        for number, moments in state["state"].items():
            tensors |= {f"moments.{number}.{name}": value for name, value in moments.items()}
        told = {
            "what": self.what,
            "done": done,
            "groups": state["param_groups"],
            "schedule": schedule.state_dict(),
        }
        flat = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        told["sha256"] = fingerprint(flat)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, save_tensors(flat, {"training": json.dumps(told)}))
        except OSError as error:
            raise LearningError(
                f"what was learned so far cannot be kept: {error.strerror}",
                str(self.path),
                "make room, or give another folder",
            ) from error

    def resume(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> int:
        """Put all into the state that was kept; how many passes are done, 0 where nothing fits."""
        found = self._read()
        if found is None:
            return 0
        told, tensors = found
        network.load_state_dict(_under("network.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("moments.", tensors).items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = value
        optimiser.load_state_dict({"state": moments, "param_groups": told["groups"]})
        schedule.load_state_dict(told["schedule"])
        torch.set_rng_state(tensors[_CHANCE])
        return int(told["done"])

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        try:
            with safe_open(self.path, "pt") as file:
                told = json.loads((file.metadata() or {})["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                whole = told["what"] == self.what and told["sha256"] == fingerprint(tensors)
                return (told, tensors) if whole else None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
