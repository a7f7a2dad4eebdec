"""What a training has learned so far, kept after each pass: one that was cut off goes on from there.

::

    RUN/training-0123456789ab.safetensors    named by what is learned from, and how

One safetensors file, whole or not there: weights, Adam's moments, the state of chance, and in its header the rate and
the schedule; a hash of all of it. Of another training, or damaged, it is as good as none. No pickles.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from scanward.config import TAMPERING_BOUNDS
from scanward.errors import LearningError
from scanward.forensics.detector_files import fingerprint
from scanward.tampering.marking import write_whole

_CHANCE = "chance"
_NAMED = 12  # digits of the training's name that are in the file's


class Passes:
    """Where passes are kept.

    Parameters
    ----------
    folder : Path
        Several trainings may keep theirs in it.
    what : str
        Names the training: a hash of its pictures, settings and software.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.path, self.what = folder / f"training-{what[:_NAMED]}.safetensors", what

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
        told = json.dumps(
            {
                "what": self.what,
                "done": done,
                "groups": state["param_groups"],
                "schedule": schedule.state_dict(),
            }
        )
        flat = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, save_tensors(flat, {"training": told, "sha256": _hash(told, flat)}))
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
        """Put all into the state that was kept; how many passes are done, 0 where nothing fits.

        Raises
        ------
        LearningError
            A file that is whole and no state of this training: somebody made it.
        """
        found = self._read()
        if found is None:
            return 0
        told, tensors = found
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            for name, value in _under("moments.", tensors).items():
                number, _, key = name.partition(".")
                moments.setdefault(int(number), {})[key] = value
            network.load_state_dict(_under("network.", tensors))
            optimiser.load_state_dict({"state": moments, "param_groups": told["groups"]})
            schedule.load_state_dict(told["schedule"])
            torch.set_rng_state(tensors[_CHANCE])
            return int(told["done"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LearningError(
                "what was kept does not fit this training", str(self.path), "delete it, and begin again"
            ) from error

    def forget(self) -> None:
        """Delete what was kept, also what a kill left half written."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.part")):
            path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        try:
            if not self.path.is_file() or self.path.stat().st_size > TAMPERING_BOUNDS.checkpoint_bytes:
                return None
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                told = json.loads(about["training"])
                if told["what"] != self.what:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                return (told, tensors) if about["sha256"] == _hash(about["training"], tensors) else None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _hash(told: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{told}\0{fingerprint(tensors)}".encode()).hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
