"""Training the detector's network on genuine and forged pictures, genuine ones through the same processings.

Every picture is seen as it is and through one chain of `scanward.forensics.processing`, drawn by its source alone: a
genuine picture and all forgeries of it go the same ways, and the chain cannot tell them apart. Controls that went
there and back again by a generator are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scanward import __version__
from scanward.forensics.baselines import usable
from scanward.forensics.families import GENERATOR, Sample
from scanward.forensics.networks import LEAST, STEP, Localiser
from scanward.forensics.passes import Passes
from scanward.forensics.processing import CHAINS, PLAIN, processed
from scanward.forensics.residuals import PLANES, inner, planes
from scanward.mammography.pictures import Mask, Pixels

SHOWN = 100_000  # pictures that a training shows where nothing else is asked for
EPOCHS = (8, 60)  # passes, at the least and the most, for it
_ALTERED = 8  # times as much as others an altered place weighs: they are few
BOTH_WAYS = 10_000  # pictures: of so many each is kept as it is and processed, 0.1 MB each way at 64 px
SEEN_THROUGH = tuple(chain for chain in CHAINS if chain != PLAIN)
Progress = Callable[[int, int, float], None]
"""Told after each pass: how many are done, of how many, and the loss."""


class Network:
    """A `Localiser` with its training; has the shape of `scanward.forensics.baselines.Scorer`, and ``heat``.

    Parameters
    ----------
    epochs : int
        Passes over all sources, each shown genuine and forged in one way; 0: as many as show some `SHOWN` pictures,
        `EPOCHS` at the least and the most.
    width, batch, seed, rate
        Of the training: channels, pictures a step, of all random numbers, of Adam.
    chains : names
        Processings that pictures are also seen through.
    keep : Path, optional
        A folder: what was learned is kept there after each pass, and the same training begun again goes on from it.
        ``passes.forget()`` deletes it, when what was learned is safe elsewhere.
    """

    name = "network"

    def __init__(
        self,
        *,
        epochs: int = 0,
        width: int = 32,
        batch: int = 32,
        seed: int = 0,
        rate: float = 2e-3,
        chains: Sequence[str] = SEEN_THROUGH,
        progress: Progress = lambda done, total, loss: None,
        keep: Path | None = None,
    ) -> None:
        self.epochs, self.width, self.batch, self.seed, self.rate = epochs, width, batch, seed, rate
        self.chains, self._progress = tuple(chains), progress
        self.keep = keep
        self.passes: Passes | None = None
        self.network: Localiser | None = None

    def fit(self, samples: Iterable[Sample]) -> Self:
        """Adam with a rate that rises and falls.

        In every pass each source is shown twice, one after the other: as it is, and altered. What they share says
        nothing, so what is learned is the difference. Half of the alterations are by generators, where there are both
        kinds. One thread's seed decides all: the same samples make the same network on one machine.

        Raises
        ------
        LearningError
            No genuine, or no forged picture; what was learned so far cannot be kept.
        """
        taken = usable(samples)
        sources = _Sources(taken)
        shown = self._versions(taken)
        forged = torch.tensor([float(s.forged) for s in taken])
        epochs = self.epochs or min(max(round(SHOWN / sources.shown), EPOCHS[0]), EPOCHS[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Localiser(self.width).train()
            optimiser = torch.optim.AdamW(network.parameters(), lr=self.rate, weight_decay=1e-2)
            steps = epochs * -(-sources.shown // self.batch)
            falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=steps + 1)
            passes = Passes(self.keep, self._called(taken, shown, network, epochs)) if self.keep else None
            for epoch in range(passes.resume(network, optimiser, falling) if passes else 0, epochs):
                total = 0.0
                for rows in torch.split(sources.drawn(), self.batch):
                    version = shown[0] if len(shown) == 1 or torch.rand(()) < 0.5 else shown[1]
                    x, breast, where = version.of(rows)
                    heat, logit = network(x, breast)
                    loss = losses(heat, logit, breast, where, forged[rows], sources.weight)
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                    optimiser.step()
                    falling.step()
                    total += float(loss.detach()) * len(rows)
                if passes:
                    passes.keep(epoch + 1, network, optimiser, falling)
                self._progress(epoch + 1, epochs, total / sources.shown)
        self.epochs, self.passes = epochs, passes
        self.network = network.eval()
        return self

    def score(self, picture: Pixels, breast: Mask) -> float:
        """The picture's logit; higher: the likelier altered."""
        return self.examined(picture, breast)[0]

    def heat(self, sample: Sample) -> NDArray[np.float32]:
        """Where, (rows, columns) in [0, 1], 0 outside the breast."""
        return self.examined(sample.picture, sample.breast)[1]

    def examined(self, picture: Pixels, breast: Mask) -> tuple[float, NDArray[np.float32]]:
        """Logit of the picture, and its heat."""
        assert self.network is not None, "fit first"
        x, inside = evened(planes(picture, breast)[None]), halved(inner(breast)[None])
        views: tuple[list[int], ...] = ([], [2], [3], [2, 3])  # the picture, and mirrored as in the training
        with torch.inference_mode():
            heat, logit = self.network(
                torch.cat([x.flip(dims) for dims in views]),
                torch.cat([inside.flip([axis - 1 for axis in dims]) for dims in views]),
            )
            back = [
                one.sigmoid().flip([axis - 2 for axis in dims]) for one, dims in zip(heat, views, strict=True)
            ]
            hot = torch.stack(back).mean(0)
            large = F.interpolate(hot[None, None], x.shape[2:], mode="bilinear", align_corners=False)[
                0, 0, : picture.shape[0], : picture.shape[1]
            ].numpy()
        made: NDArray[np.float32] = np.where(breast, large, 0).astype(np.float32)
        return float(logit.mean()), made

    def _called(
        self, taken: Sequence[Sample], shown: Sequence[_Shown], network: Localiser, epochs: int
    ) -> str:
        """A name of the training: what is shown to what network, how, by what software on how many threads."""
        how = (epochs, self.width, self.batch, self.seed, self.rate, __version__, torch.__version__)
        digest = hashlib.sha256(repr((*how, torch.get_num_threads(), _ALTERED, str(network))).encode())
        for s in taken:
            digest.update(f"{s.family}\0{s.patient}\0{s.name}\0".encode())
        for version in shown:
            for tensor in (version.x, version.breast, version.where):
                digest.update(f"{tuple(tensor.shape)}".encode())
                digest.update(tensor.numpy().data)
        return digest.hexdigest()

    def _versions(self, taken: Sequence[Sample]) -> list[_Shown]:
        """As it is, and through a chain; of many pictures, each in one of the two ways, to save memory."""
        if not self.chains:
            return [_Shown(taken)]
        if len(taken) <= BOTH_WAYS:
            return [_Shown(taken), _Shown([self._other(s) for s in taken])]
        return [_Shown([self._other(s) if self._key(s)[4] % 2 else s for s in taken])]

    def _other(self, sample: Sample) -> Sample:
        number = int.from_bytes(self._key(sample)[:4], "big")
        return processed(sample, self.chains[number % len(self.chains)], self.seed)

    def _key(self, sample: Sample) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{sample.name}".encode()).digest()


class _Sources:
    """Which pictures are the same breast: genuine, and forged in several ways."""

    def __init__(self, taken: Sequence[Sample]) -> None:
        names = {(s.patient, s.name): number for number, s in enumerate(taken)}
        self._genuine: dict[tuple[str, str], int] = {}
        self._forged: dict[tuple[str, str], tuple[list[int], Tensor]] = {}
        by_name: dict[tuple[str, str], list[int]] = {}
        for index, sample in enumerate(taken):
            key = (sample.patient, sample.name)
            if sample.forged:
                by_name.setdefault(key, []).append(index)
            else:
                self._genuine[key] = index
        for key, rows in by_name.items():
            generated = torch.tensor([taken[row].family.startswith(GENERATOR) for row in rows])
            share = float(generated.float().mean())
            each = torch.where(generated, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9))
            self._forged[key] = rows, each
        self._names = list(names)
        self.shown = len(self._genuine) + len(self._forged)
        self.weight = len(self._forged) / len(self._genuine)

    def drawn(self) -> Tensor:
        """Rows of one pass, in a new order; what is of one source stands side by side."""
        out: list[int] = []
        for at in torch.randperm(len(self._names)).tolist():
            name = self._names[at]
            if name in self._genuine:
                out.append(self._genuine[name])
            if name in self._forged:
                rows, weights = self._forged[name]
                out.append(rows[int(torch.multinomial(weights, 1))])
        return torch.tensor(out)


class _Shown:
    """Samples as tensors, half precision to save memory; mirrored by chance, up and down and across, when taken."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        rows, columns = (-(-max(s.picture.shape[axis] for s in samples) // LEAST) * LEAST for axis in (0, 1))
        self.x = torch.zeros((len(samples), PLANES, rows, columns), dtype=torch.float16)
        self.breast = torch.zeros((len(samples), rows // STEP, columns // STEP))
        self.where = torch.zeros_like(self.breast)
        for i, s in enumerate(samples):
            r, c = s.picture.shape
            self.x[i, :, :r, :c] = torch.from_numpy(planes(s.picture, s.breast))
            breast, where = halved(inner(s.breast)[None]), halved(s.region[None])
            self.breast[i, : breast.shape[1], : breast.shape[2]] = breast[0]
            self.where[i, : where.shape[1], : where.shape[2]] = where[0]

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Planes, breast, region of these samples."""
        x, breast, where = self.x[rows].float(), self.breast[rows], self.where[rows]
        for axis in (1, 2):
            if torch.rand(()) < 0.5:
                x, breast, where = x.flip(axis + 1), breast.flip(axis), where.flip(axis)
        return x.contiguous(memory_format=torch.channels_last), breast, where


def losses(
    heat: Tensor, logit: Tensor, breast: Tensor, where: Tensor, forged: Tensor, weight: float
) -> Tensor:
    """Cross-entropy of pictures (genuine weigh ``weight``), and of places in the breast (altered ones `_ALTERED`)."""
    each = 1 + (weight - 1) * (1 - forged)
    pixel = F.binary_cross_entropy_with_logits(heat, where, reduction="none")
    pixel = pixel * breast * (1 + (_ALTERED - 1) * where)
    whole = F.binary_cross_entropy_with_logits(logit, forged, weight=each)
    return whole + pixel.sum() / breast.sum().clamp_min(1)


def evened(made: NDArray[np.float32]) -> Tensor:
    """Planes (N, `PLANES`, r, c) with rows and columns filled up to multiples of `LEAST`."""
    rows, columns = made.shape[2:]
    return F.pad(torch.from_numpy(made), (0, -columns % LEAST, 0, -rows % LEAST))


def halved(mask: NDArray[np.bool_]) -> Tensor:
    """Masks (N, r, c), filled up alike, at the map's size: 1 where at least half of a block is in it."""
    rows, columns = mask.shape[1:]
    filled = F.pad(torch.from_numpy(mask.astype(np.float32)), (0, -columns % LEAST, 0, -rows % LEAST))
    return (F.avg_pool2d(filled[:, None], STEP)[:, 0] >= 0.5).float()
