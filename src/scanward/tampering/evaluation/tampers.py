"""What is evaluated: a pair of functions that insert and remove, be it a generator or a control.

A function takes pictures (N, 1, rows, columns) in [-1, 1] and regions alike, 1 inside and -1 outside, and gives
pictures back. Controls are told where the lesion is; a generator without a mask channel is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scanward.errors import LearningError
from scanward.tampering.evaluation.blobs import grown
from scanward.tampering.evaluation.sets import Images, Masks

Alter = Callable[[Tensor, Tensor], Tensor]
Kind = Literal["generator", "control", "truth"]
REGION_MARGIN = 1  # px that a region reaches beyond the lesion, as the generators are trained with


@dataclass(frozen=True)
class Tamper:
    """Something that inserts lesions into healthy pictures and removes them from cancers.

    ``told`` says that it is told where: its insertions are then expected in the region given. ``truth`` is what only
    the maker of phantoms can do.
    """

    name: str
    insert: Alter
    remove: Alter
    kind: Kind = "generator"
    told: bool = False


def apply(alter: Alter, x: Images, region: Masks, breast: Masks | None, *, batch: int = 32) -> Images:
    """Alter (N, rows, columns) in batches; with ``breast`` as it is delivered: outside it nothing is changed.

    Raises
    ------
    LearningError
        What comes back is of another shape, or holds numbers that are not finite.
    """
    out = np.empty_like(x)
    for at in range(0, len(x), batch):
        part = torch.from_numpy(np.ascontiguousarray(x[at : at + batch]))[:, None]
        near = np.stack([grown(mask, REGION_MARGIN) for mask in region[at : at + batch]])
        where = torch.from_numpy(near.astype(np.float32))[:, None] * 2 - 1
        with torch.no_grad():
            made = alter(part.clone(), where)
        if made.shape != part.shape or not bool(torch.isfinite(made).all()):
            raise LearningError(
                f"the pictures that came back are {tuple(made.shape)} or not finite, of {tuple(part.shape)} given",
                "evaluation",
                "this model is broken: train it again",
            )
        out[at : at + batch] = made[:, 0].float().numpy()
    out = np.clip(out, -1, 1)
    if breast is not None:
        out = np.where(breast, out, x).astype(np.float32)
    return out


class Trained(Protocol):
    """What of a training run is needed here (`scanward.tampering.checkpoints.Run`)."""

    def generator(self, direction: Literal["insert", "remove"]) -> nn.Module:
        """A generator in evaluation mode."""
        ...


def of_generators(name: str, insert: nn.Module, remove: nn.Module, *, mask_channel: bool) -> Tamper:
    """The two generators of a CycleGAN; with ``mask_channel`` the region is their second channel."""

    def alter(generator: nn.Module) -> Alter:
        def altered(x: Tensor, region: Tensor) -> Tensor:
            shown = torch.cat([x, region], dim=1) if mask_channel else x
            out: Tensor = generator(shown)
            return out

        return altered

    return Tamper(name, alter(insert.eval()), alter(remove.eval()), "generator", told=mask_channel)
