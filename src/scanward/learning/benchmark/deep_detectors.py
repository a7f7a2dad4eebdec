"""Neural networks that learn from clean rows without labels: autoencoder, deep one-class, masked fields, LUNAR.

Small torch networks on one thread, repeatable for a seed, the caller's random numbers left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from scanward.learning.baseline_detectors import BASELINES, Baseline, Detector, Rows
from scanward.learning.baselines import Place
from scanward.learning.benchmark.answers import Kind, Method
from scanward.learning.benchmark.pyod_detectors import PAIR_ROWS, Pyod, of_pyod
from scanward.learning.benchmark.unsupervised import row_methods

STEPS, BATCH = 1_000, 256  # of gradient, rows a step
HIDDEN = 128  # width of hidden layers of the masked network
NARROWEST = 1e-2  # spread below which the masked network cannot claim to know a number, standard deviations
AWAY = 0.1  # least distance of the one-class centre from zero, where a network without biases would collapse
LUNAR_EPOCHS = 50


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """One thread, and torch's random numbers from ``seed``, both as they were afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _descend(parameters: Any, steps: int, rows: Any, loss: Callable[[Any], Any], decay: float) -> None:
    """``steps`` of Adam, the last tenth of them slower, on batches drawn with replacement."""
    import torch

    adam = torch.optim.Adam(list(parameters), lr=2e-3, weight_decay=decay)
    slower = torch.optim.lr_scheduler.MultiStepLR(adam, [steps - steps // 10], gamma=0.1)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (min(BATCH, len(rows)),))]
        adam.zero_grad()
        loss(batch).backward()
        adam.step()
        slower.step()


class DeepOneClass:
    """Deep SVDD (Ruff et al., ICML 2018), one-class: distance to a fixed centre after a network without biases.

    The encoder (D, 64, ``width``) begins as that of an autoencoder, as in the paper; the centre is the mean of what it
    then says of clean rows. (PyOD's does not repeat itself for a seed.)
    """

    def __init__(self, seed: int, width: int) -> None:
        self.seed, self.width, self.steps = seed, width, STEPS

    def fit(self, rows: Rows) -> DeepOneClass:
        import torch
        from torch import nn

        with _alone(self.seed):
            data = torch.as_tensor(rows, dtype=torch.float32)
            self.net = nn.Sequential(
                nn.Linear(rows.shape[1], 64, bias=False), nn.LeakyReLU(0.1), nn.Linear(64, self.width, bias=False)
            )  # fmt: skip
            back = nn.Sequential(
                nn.LeakyReLU(0.1), nn.Linear(self.width, 64), nn.LeakyReLU(0.1), nn.Linear(64, rows.shape[1])
            )
            both = [*self.net.parameters(), *back.parameters()]
            _descend(both, self.steps // 2, data, lambda b: ((back(self.net(b)) - b) ** 2).mean(), 1e-6)
            with torch.no_grad():
                centre = self.net(data).mean(dim=0)
                small = centre.abs() < AWAY
                self.centre = torch.where(small, torch.where(centre < 0, -AWAY, AWAY), centre)
            _descend(self.net.parameters(), self.steps, data, lambda b: self._distance(b).mean(), 1e-6)
        return self

    def _distance(self, data: Any) -> Any:
        return ((self.net(data) - self.centre) ** 2).sum(dim=1)

    def score(self, rows: Rows) -> Rows:
        import torch

        with torch.no_grad():
            found = self._distance(torch.as_tensor(rows, dtype=torch.float32))
        return np.asarray(found.numpy(), dtype=np.float64)


class Masked:
    """A network that predicts hidden fields from the others; strange is what it would not have expected.

    After masked language models (Devlin et al., NAACL 2019) and masked cells of tables (Yin et al., ICLR 2024). In
    learning each field is hidden with probability ``hidden``; in judging each field alone, one after the other. A
    category's cost is -log p, a number's that of a Laplace distribution, both with the cost of its being there or
    missing. ``worst`` takes the dearest field, otherwise the costs are summed.
    """

    def __init__(self, seed: int, places: Sequence[Place], hidden: float, worst: bool) -> None:
        self.seed, self.places, self.hidden, self.worst = seed, tuple(places), hidden, worst
        self.steps = STEPS

    def fit(self, rows: Rows) -> Masked:
        import torch
        from torch import nn

        width, fields = rows.shape[1], len(self.places)
        belongs = np.zeros((fields, width), dtype=np.float32)
        for k, place in enumerate(self.places):
            belongs[k, place.at : place.at + place.width] = 1.0
        self.belongs = torch.as_tensor(belongs)
        self.numbers = torch.tensor([p.at for p in self.places if p.numeric], dtype=torch.long)
        self.which = torch.tensor([k for k, p in enumerate(self.places) if p.numeric], dtype=torch.long)
        with _alone(self.seed):
            data = torch.as_tensor(rows, dtype=torch.float32)
            # Out: a column each for what the rows have, and the log spread of each number.
            self.net = nn.Sequential(
                nn.Linear(width + fields, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, width + len(self.numbers)),
            )  # fmt: skip

            def loss(batch: Any) -> Any:
                hide = (torch.rand(len(batch), fields) < self.hidden).float()
                return (self._costs(batch, hide) * hide).sum() / hide.sum().clamp(min=1.0)

            _descend(self.net.parameters(), self.steps, data, loss, 1e-6)
        return self

    def _costs(self, batch: Any, hide: Any) -> Any:
        """Cost of every field in nats, (N, fields), when the fields of ``hide`` (N, fields) are not seen."""
        import torch
        from torch.nn import functional

        width = batch.shape[1]
        out = self.net(torch.cat([batch * (1 - hide @ self.belongs), hide], dim=1))
        costs = torch.zeros_like(hide)
        for k, place in enumerate(self.places):
            if not place.numeric:
                logits = out[:, place.at : place.at + place.width]
                told = batch[:, place.at : place.at + place.width]
                costs[:, k] = -(functional.log_softmax(logits, dim=1) * told).sum(dim=1)
        if len(self.numbers):
            value, missing = batch[:, self.numbers], batch[:, self.numbers + 1]
            spread = functional.softplus(out[:, width:]) + NARROWEST
            laplace = (value - out[:, self.numbers]).abs() / spread + torch.log(2 * spread)
            presence = functional.binary_cross_entropy_with_logits(
                out[:, self.numbers + 1], missing, reduction="none"
            )
            costs[:, self.which] = laplace * (1 - missing) + presence
        return costs

    def score(self, rows: Rows) -> Rows:
        import torch

        with torch.no_grad():
            data = torch.as_tensor(rows, dtype=torch.float32)
            costs = np.empty((len(rows), len(self.places)))
            for k in range(len(self.places)):
                hide = torch.zeros(len(data), len(self.places))
                hide[:, k] = 1.0
                costs[:, k] = self._costs(data, hide)[:, k].numpy()
        return np.asarray(costs.max(axis=1) if self.worst else costs.sum(axis=1))


class _Lunar(Pyod):
    def fit(self, rows: Rows) -> Pyod:
        with _alone(self.seed):
            return super().fit(rows)


def lunar(seed: int, neighbours: int) -> Detector:
    """Graph network on the distances to the neighbours, taught with made-up outliers (Goodge et al., AAAI 2022)."""
    with of_pyod():
        from pyod.models.lunar import LUNAR as new

    def make(n: int) -> Any:
        return new(n_neighbours=min(neighbours, n // 4), n_epochs=LUNAR_EPOCHS, random_state=seed)

    return _Lunar(seed, make, PAIR_ROWS)


NETWORKS: dict[str, Baseline] = {
    b.name: b
    for b in (
        BASELINES["autoencoder"],
        Baseline("DeepSVDD", DeepOneClass, tuple({"width": w} for w in (4, 8, 16, 32))),
        Baseline(
            "masked network",
            Masked,
            tuple({"hidden": h, "worst": w} for h in (0.15, 0.5) for w in (True, False)),
            sees_places=True,
        ),
        Baseline("LUNAR", lunar, tuple({"neighbours": k} for k in (5, 10, 30, 100))),
    )
}
ABOUTS = {
    "autoencoder": "what a bottleneck cannot rebuild (after Hawkins et al., DaWaK 2002)",
    "DeepSVDD": "distance to the centre of a one-class network (Ruff et al., ICML 2018)",
    "masked network": "surprise at each field, predicted from the others (after Yin et al., ICLR 2024)",
    "LUNAR": "graph network on distances to the neighbours (Goodge et al., AAAI 2022)",
}
DEEP: tuple[Method, ...] = row_methods(NETWORKS.values(), Kind.DEEP, ABOUTS, "deep rows")
