"""An attacker who knows the detector: the generators are trained on against a differentiable stand-in of it.

The attacker has pictures of women of their own and may ask the detector for scores, as often as they like. They fit a
network to those scores (a stand-in, through which gradients run), then train the generators' copies for some steps
to be scored as genuine by it, and not to give up what they do: the change must stay close to the first one. Stand-in
and generators take turns, for a generator leaves the pictures on which the stand-in is right (Carlini and Farid, CVPR
Workshops 2020, show for stills of faces how far this goes).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from scanward.forensics.baselines import Scorer
from scanward.mammography.pictures import Mask, Pixels
from scanward.tampering.checkpoints import Direction, Run
from scanward.tampering.networks import Generator
from scanward.tampering.scaling import Placement, difference_to_picture, to_model

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A genuine picture of the attacker's own, and where they want to alter it (model's size, bool)."""

    picture: Pixels
    breast: Mask
    region: Mask
    direction: Direction


@dataclass(frozen=True, slots=True)
class Attacked:
    """What came of it: the run with the new generators, and shares of the first change that are kept (1: all)."""

    run: Run
    kept: float
    steps: int
    queries: int
    fit: float  # correlation of the stand-in's with the detector's scores at the end


class StandIn(nn.Module):
    """High-pass and grey levels (N, 1, rows, columns) to a score (N,)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1),
            nn.LeakyReLU(0.1),
        )
        self.last = nn.Linear(4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        fine = x - F.avg_pool2d(x, 3, 1, 1)
        finest = x - 0.5 * (torch.roll(x, 1, 2) + torch.roll(x, -1, 2))
        z = self.layers(torch.cat([x, 8 * fine, 8 * finest], 1))
        out: Tensor = self.last(torch.cat([z.mean((2, 3)), z.amax((2, 3))], 1))[:, 0]
        return out


def attack(
    run: Run,
    detector: Scorer,
    ground: Sequence[Ground],
    *,
    rounds: int = 3,
    fit_steps: int = 80,
    steps: int = 80,
    keep: float = 20.0,
    batch: int = 16,
    width: int = 24,
    seed: int = 0,
    tick: Callable[[str], None] | None = None,
) -> Attacked:
    """Train ``run``'s generators against ``detector``; nothing is written.

    Parameters
    ----------
    ground : pictures
        Of women who are in no test; both directions.
    rounds, fit_steps, steps : int
        Turns, and steps of stand-in and generators in each.
    width : int
        Of the stand-in's first layer.
    keep : float
        Weight of the squared difference from the first change, relative to that change's mean square.
    """
    preset = run.preset
    shown = [to_model(g.picture, g.breast, preset.rows, preset.columns, preset.framing) for g in ground]
    x = torch.from_numpy(np.stack([grey for grey, _, _ in shown]))[:, None]
    inside = torch.from_numpy(np.stack([b for _, b, _ in shown]))[:, None]
    where = torch.from_numpy(np.stack([g.region for g in ground]).astype(np.float32) * 2 - 1)[:, None]
    told = torch.cat([x, where], 1) if preset.generator.mask_channel else x
    directions = np.array([g.direction for g in ground])
    generators: dict[Direction, Generator] = {
        "insert": copy.deepcopy(run.generator("insert")).requires_grad_(True),
        "remove": copy.deepcopy(run.generator("remove")).requires_grad_(True),
    }

    def made(rows: NDArray[np.int64]) -> Tensor:
        out = x[rows].clone()
        for direction, generator in generators.items():
            mine = np.flatnonzero(directions[rows] == direction)
            if len(mine):
                out[mine] = generator(told[rows[mine]])
        return torch.where(inside[rows], out.clamp(-1, 1), x[rows])

    everybody = np.arange(len(ground))
    with torch.no_grad():
        first = torch.cat([made(part) for part in np.array_split(everybody, -(-len(ground) // batch))])
    size = float(((first - x) ** 2).mean()) + 1e-12
    rng = np.random.default_rng(seed)
    genuine = _asked(detector, ground, shown, x)
    queries = len(ground)
    pictures, scores = [x], [genuine]
    spread = max(float(genuine.std()), 1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stand_in = StandIn(width)
        fitting = torch.optim.Adam(stand_in.parameters(), lr=1e-3)
        fooling = torch.optim.Adam([p for g in generators.values() for p in g.parameters()], lr=2e-4)
        correlation = 0.0
        for turn in range(rounds):
            with torch.no_grad():
                now = torch.cat([made(p) for p in np.array_split(everybody, -(-len(ground) // batch))])
            pictures.append(now)
            scores.append(_asked(detector, ground, shown, now))
            queries += len(ground)
            every, wanted = torch.cat(pictures), torch.from_numpy(np.concatenate(scores)).float()
            wanted = (wanted - float(genuine.mean())) / spread
            for _ in range(fit_steps):
                rows = rng.integers(len(every), size=batch)
                loss = F.smooth_l1_loss(stand_in(every[rows]), wanted[rows])
                fitting.zero_grad()
                torch.autograd.backward(loss)
                fitting.step()
            with torch.no_grad():
                told_scores = torch.cat([stand_in(part) for part in torch.split(every, 64)]).numpy()
            correlation = float(np.corrcoef(told_scores, wanted.numpy())[0, 1])
            stand_in.requires_grad_(False)
            for _ in range(steps):
                rows = rng.integers(len(ground), size=batch)
                forged = made(rows)
                close = ((forged - first[rows]) ** 2).mean() / size
                loss = F.softplus(stand_in(forged)).mean() + keep * close / 10
                fooling.zero_grad()
                torch.autograd.backward(loss)
                fooling.step()
            stand_in.requires_grad_(True)
            if tick is not None:
                tick(f"attack, turn {turn + 1} of {rounds}: stand-in's correlation {correlation:.2f}")
    with torch.no_grad():
        last = torch.cat([made(part) for part in np.array_split(everybody, -(-len(ground) // batch))])
    before, after = (first - x).flatten(1), (last - x).flatten(1)
    kept = (before * after).sum(1) / (before**2).sum(1).clamp_min(1e-9)
    done: dict[str, Generator] = {d: g.eval().requires_grad_(False) for d, g in generators.items()}
    return Attacked(replace(run, _generators=done), float(kept.mean()), rounds * steps, queries, correlation)


def _asked(
    detector: Scorer, ground: Sequence[Ground], shown: Sequence[tuple[Grey, Mask, Placement]], made: Tensor
) -> NDArray[np.float64]:
    """The detector's scores of pictures as they would be delivered."""
    out = np.empty(len(ground))
    for i, (one, (grey, _, placement)) in enumerate(zip(ground, shown, strict=True)):
        picture, _ = difference_to_picture(one.picture, one.breast, placement, grey, made[i, 0].numpy())
        out[i] = detector.score(picture, one.breast)
    return out
