"""What a detector has to be compared with: a plain network on grey levels, frequency spectra, noise residuals.

All have one shape: ``fit(samples)`` learns from genuine and forged pictures (controls are left out), ``score(picture,
breast)`` is higher the likelier a picture was altered. None says where.

* `GreyLevels`: convolutions on the grey levels themselves, no residual, no localisation: what is built first.
* `Spectrum`: the logarithm of the radial power spectrum (Durall, Keuper and Keuper, CVPR 2020) and a logistic
  regression.
* `Residuals`: SRM-like residuals (Fridrich and Kodovsky, IEEE TIFS 7:868, 2012): three high-pass filters, truncated
  to -2..2, co-occurrences of four neighbours merged by symmetry, with moments; linear discriminant analysis with
  shrinkage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from scanward.errors import LearningError
from scanward.forensics.families import CYCLE, Sample
from scanward.mammography.pictures import Mask, Pixels
from scanward.tampering.scaling import to_model

Grey = NDArray[np.float64]
_RINGS = 24  # of the radial spectrum
_TRUNCATION = 2  # residuals beyond it count as it
_SIDE = 128  # px: larger pictures are shown to the plain network in this frame


class Scorer(Protocol):
    """Whatever tells forged from genuine."""

    name: str

    def fit(self, samples: Iterable[Sample]) -> Self:
        """Learn from genuine and forged pictures."""
        ...

    def score(self, picture: Pixels, breast: Mask) -> float:
        """Higher: the likelier altered."""
        ...


def usable(samples: Iterable[Sample]) -> list[Sample]:
    """Genuine and forged pictures.

    Raises
    ------
    LearningError
        One of them is missing.
    """
    taken = [s for s in samples if not s.family.startswith(CYCLE)]
    if len({s.forged for s in taken}) != 2:
        raise LearningError(
            f"{len(taken)} pictures, all {'forged' if taken and taken[0].forged else 'genuine'}",
            "training",
            "give genuine and forged pictures",
        )
    return taken


def flattened(picture: Pixels, breast: Mask) -> Grey:
    """Grey levels over the breast's upper quartile; outside, and at the breast's rim, the breast's median: edges of
    film and breast say nothing.
    """
    grey = picture.astype(np.float64)
    inner: Mask = ndimage.binary_erosion(breast, iterations=2)
    inside = inner if inner.any() else np.ones_like(breast)
    level = max(float(np.percentile(grey[inside], 75)), 1.0)
    return np.where(inside, grey / level, float(np.median(grey[inside])) / level)


class _Linear(ABC):
    """Features and a linear classifier."""

    name = ""

    def __init__(self) -> None:
        self._model: Any = None

    @abstractmethod
    def features(self, picture: Pixels, breast: Mask) -> Grey:
        """Numbers of a picture, (features,)."""

    @abstractmethod
    def _classifier(self) -> Any:
        """Untrained, as scikit-learn has them."""

    def fit(self, samples: Iterable[Sample]) -> Self:
        taken = usable(samples)
        rows = np.stack([self.features(s.picture, s.breast) for s in taken])
        self._model = self._classifier().fit(rows, np.array([s.forged for s in taken], dtype=int))
        return self

    def score(self, picture: Pixels, breast: Mask) -> float:
        return float(self._model.decision_function(self.features(picture, breast)[None])[0])


class Spectrum(_Linear):
    """Radial power spectrum, logistic regression."""

    name = "spectrum"

    def features(self, picture: Pixels, breast: Mask) -> Grey:
        """(`_RINGS`,) logarithms of mean power by frequency, zero to Nyquist."""
        grey = flattened(picture, breast)
        grey = grey - grey.mean()
        taper = np.outer(np.hanning(grey.shape[0] + 2)[1:-1], np.hanning(grey.shape[1] + 2)[1:-1])
        power = np.abs(np.fft.fft2(grey * taper)) ** 2
        down, right = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None, :]
        ring = np.minimum((np.hypot(down, right) * 2 * _RINGS).astype(int), _RINGS - 1)
        sums = np.bincount(ring.ravel(), power.ravel(), _RINGS)
        counts = np.bincount(ring.ravel(), minlength=_RINGS)
        return np.log(sums / np.maximum(counts, 1) + 1e-12)

    def _classifier(self) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))


class Residuals(_Linear):
    """Co-occurrences and moments of noise residuals, shrunken linear discriminant analysis."""

    name = "residuals"

    def features(self, picture: Pixels, breast: Mask) -> Grey:
        """Co-occurrences of three residuals and twelve moments, all inside the breast."""
        grey = picture.astype(np.float64)
        inner = ndimage.binary_erosion(breast, iterations=3)
        inside = inner if inner.sum() > 32 else np.ones_like(breast)
        square = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], dtype=np.float64)
        found: list[Grey] = []
        residuals = [ndimage.correlate1d(grey, [1.0, -2.0, 1.0], axis) for axis in (0, 1)]
        for residual in (*residuals, ndimage.correlate(grey, square)):
            values = residual[inside]
            step = max(float(np.median(np.abs(values))), 1e-9)
            levels = np.clip(np.rint(residual / step), -_TRUNCATION, _TRUNCATION).astype(int)
            found += [_cooccurrence(levels, inside), _moments(values / step)]
        return np.concatenate(found)

    def _classifier(self) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(
            StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        )


def _cooccurrence(levels: NDArray[np.int_], inside: Mask) -> Grey:
    """Shares of runs of four levels, down and across; a run, its mirror and its negative are one."""
    base = 2 * _TRUNCATION + 1
    counts = np.zeros(base**4)
    for axis in (0, 1):
        parts = [np.take(levels + _TRUNCATION, range(k, levels.shape[axis] - 3 + k), axis) for k in range(4)]
        whole = np.all(
            [np.take(inside, range(k, levels.shape[axis] - 3 + k), axis) for k in range(4)], axis=0
        )
        codes = sum(part * base**k for k, part in enumerate(parts))
        counts += np.bincount(np.asarray(codes)[whole], minlength=base**4)
    grid = counts.reshape((base,) * 4)
    grid = grid + grid.transpose(3, 2, 1, 0)
    grid = grid + grid[::-1, ::-1, ::-1, ::-1]
    flat = grid.ravel() / max(float(grid.sum()), 1.0)
    digits = np.indices((base,) * 4).reshape(4, -1)
    mirrored = np.ravel_multi_index(tuple(digits[::-1]), (base,) * 4)
    negative = base**4 - 1 - np.arange(base**4)
    kept = np.arange(base**4) <= np.minimum(np.minimum(mirrored, negative), negative[mirrored])
    out: Grey = np.sqrt(flat[kept])  # Hellinger: rare runs count, too
    return out


def _moments(values: Grey) -> Grey:
    spread = max(float(values.std()), 1e-9)
    centred = (values - values.mean()) / spread
    tail = float(np.percentile(np.abs(centred), 99.0))
    return np.array([np.log(spread), (centred**3).mean(), np.log((centred**4).mean() + 1e-9), tail])


class GreyLevels:
    """A plain network on grey levels (four convolutions, batch normalisation, mean over places)."""

    name = "plain CNN"

    def __init__(self, *, epochs: int = 6, seed: int = 0, width: int = 16) -> None:
        self.epochs, self.seed, self.width = epochs, seed, width
        self._network: nn.Module | None = None
        self._shape: tuple[int, int] = (_SIDE, _SIDE)

    def fit(self, samples: Iterable[Sample]) -> Self:
        """Learn with Adam, mirrored top to bottom at random; classes weighted alike."""
        taken = usable(samples)
        rows = max(s.picture.shape[0] for s in taken)
        columns = max(s.picture.shape[1] for s in taken)
        self._shape = (min(rows, _SIDE), min(columns, _SIDE))
        x = torch.stack([self._shown(s.picture, s.breast) for s in taken])
        y = torch.tensor([float(s.forged) for s in taken])
        weight = (len(y) - y.sum()) / y.sum()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._made()
            optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
            network.train()
            for _ in range(self.epochs):
                order = torch.randperm(len(x))
                for at in range(0, len(x) - 1, 32):
                    rows_ = order[at : at + 32]
                    if len(rows_) < 2:
                        continue  # one picture has no batch statistics
                    part = x[rows_]
                    if torch.rand(()) < 0.5:
                        part = part.flip(2)
                    loss = F.binary_cross_entropy_with_logits(
                        network(part)[:, 0], y[rows_], pos_weight=weight
                    )
                    optimiser.zero_grad()
                    torch.autograd.backward(loss)
                    optimiser.step()
        self._network = network.eval()
        return self

    def score(self, picture: Pixels, breast: Mask) -> float:
        """The network's logit."""
        assert self._network is not None, "fit first"
        with torch.inference_mode():
            return float(self._network(self._shown(picture, breast)[None])[0, 0])

    def _shown(self, picture: Pixels, breast: Mask) -> Tensor:
        grey, _, _ = to_model(picture, breast, *self._shape)
        return torch.from_numpy(grey)[None]

    def _made(self) -> nn.Module:
        layers: list[nn.Module] = []
        before = 1
        for width, stride in (
            (self.width, 1),
            (2 * self.width, 2),
            (2 * self.width, 2),
            (4 * self.width, 2),
        ):
            layers += [
                nn.Conv2d(before, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1))


def baselines(*, epochs: int = 6, seed: int = 0) -> Sequence[Scorer]:
    """All of them, not fitted."""
    return (GreyLevels(epochs=epochs, seed=seed), Spectrum(), Residuals())
