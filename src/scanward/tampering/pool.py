"""A history of generated pictures that the discriminator is shown (Shrivastava et al. 2017, as CycleGAN has it)."""

from __future__ import annotations

import torch
from torch import Tensor


class Pool:
    """Keeps up to ``size`` pictures; half of the queries are answered with an old one in exchange.

    The pictures live in one tensor (size, C, rows, columns), so that a checkpoint holds them as they are.
    """

    def __init__(self, size: int, picture: tuple[int, int, int], device: torch.device) -> None:
        self.size = size
        self.kept = torch.zeros((size, *picture), device=device)
        self.filled = 0

    def exchange(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """Pictures (N, C, rows, columns) in, as many out: new ones or old ones."""
        if self.size == 0:
            return pictures
        out = []
        for picture in pictures.detach():
            if self.filled < self.size:
                self.kept[self.filled] = picture
                self.filled += 1
                out.append(picture)
                continue
            old, place = torch.rand(2, generator=random).tolist()
            if old < 0.5:
                index = min(int(place * self.size), self.size - 1)
                out.append(self.kept[index].clone())
                self.kept[index] = picture
            else:
                out.append(picture)
        return torch.stack(out)
