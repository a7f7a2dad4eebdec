"""Two small classifiers of different build, healthy against cancer, that learn from genuine pictures alone.

They stand where the study had radiologists. ``plain`` is a VGG (Simonyan and Zisserman, arXiv 1409.1556): 3x3
convolutions, batch normalisation, max-pooling, and a log-mean-exp over local evidence. ``smooth`` is a residual network
(He et al., arXiv 1512.03385) with SiLU and blurred down-sampling (Zhang, arXiv 1904.11486), and
averages and maxima of its features. What fools one by a code made for it need not fool the other.

Each picture is first scaled by the median grey inside its breast. A scale that a lesion could move (the brightest
grey, say) would tell healthy from cancer by itself, and a lesion that is gone would still be reported.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn
from torch.nn import functional as F

from scanward.errors import LearningError, SettingsError
from scanward.tampering.evaluation.sets import Images, Masks, Pictures

Scores = NDArray[np.float64]
Tick = Callable[[str, float], None]
BRIGHTEST = 2.0  # grey that a classifier is shown at most: three times the median of the breast
VERSION = 2  # of architectures and training: a kept classifier of another one is not used


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a classifier learns. ``epochs`` at most; the weights of the best epoch on the validation part are kept."""

    epochs: int = 16
    patience: int = 8  # epochs without a better validation loss before it stops
    batch: int = 32
    rate: float = 3e-3  # highest, of one cycle (Smith and Topin, arXiv 1708.07120)
    decay: float = 1e-2
    shift: float = 0.06  # of the picture's sides
    grey: float = 0.06  # relative change of the grey scale
    places: float = 3.0  # weight of learning where the lesion lies, where all cancers are outlined
    seed: int = 0


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class Plain(nn.Module):
    """(N, 1, rows, columns) -> (N,) log odds of cancer. Some 209,000 parameters."""

    def __init__(self, fine: bool) -> None:
        super().__init__()
        widths = [16, 32, 64, 96]
        layers: list[nn.Module] = [
            nn.Conv2d(1, widths[0], 5, padding=2, stride=1 if fine else 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        for inputs, outputs in pairwise(widths):
            layers += [*_block(inputs, outputs), *_block(outputs, outputs)]
            if outputs != widths[-1]:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.evidence = nn.Conv2d(widths[-1], 1, 1)
        self.sharpness = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds (a soft maximum over the places of the picture), and those of each place (N, 1, r, c)."""
        local = self.evidence(self.features(x))
        sharp = F.softplus(self.sharpness) + 0.1
        places = local.flatten(1)
        return (torch.logsumexp(sharp * places, dim=1) - math.log(places.shape[1])) / sharp, local


class _BlurPool(nn.Module):
    """Halves the sides after a binomial blur, so that a shift of one pixel changes little."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer(
            "kernel", (row[:, None] * row / 16).expand(channels, 1, 3, 3).clone(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=x.shape[1])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


class Smooth(nn.Module):
    """(N, 1, rows, columns) -> (N,) log odds of cancer. Some 227,000 parameters."""

    def __init__(self, fine: bool) -> None:
        super().__init__()
        widths = [16, 32, 64, 64]
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 3, padding=1, stride=1 if fine else 2)]
        layers.append(_BlurPool(widths[0]))
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), _Residual(outputs)]
            if len(layers) < 8:
                layers.append(_BlurPool(outputs))
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(widths[-1]), nn.SiLU())
        self.places = nn.Conv2d(widths[-1], 1, 1)
        self.head = nn.Linear(2 * widths[-1] + 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds, from means and maxima of features, and the log odds of each place (N, 1, r, c)."""
        found = self.features(x)
        local = self.places(found)
        told = torch.cat([found.mean((2, 3)), found.amax((2, 3)), local.amax((2, 3))], dim=1)
        return self.head(told)[:, 0], local


ARCHITECTURES: dict[str, Callable[[bool], nn.Module]] = {"plain": Plain, "smooth": Smooth}


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and how it came about. Higher scores mean cancer."""

    name: str
    network: nn.Module
    parameters: int
    epochs: int
    seconds: float
    validation_auc: float
    threshold: float  # log odds: Youden's index on the validation part
    fingerprint: str

    def scores(self, x: Images, breast: Masks) -> Scores:
        """Log odds of cancer of (N, rows, columns) in [-1, 1] with their breast masks, shape (N,)."""
        return _scores(self.network, scaled(x, breast))


def scaled(x: Images, breast: Masks) -> Images:
    """Pictures with black at -1 and the median inside the breast at 0; nothing above 2."""
    out = np.empty_like(x)
    for i, (picture, inside) in enumerate(zip(x, breast, strict=True)):
        level = float(np.median(picture[inside])) + 1 if inside.any() else 1.0
        out[i] = np.minimum((picture + 1) / max(level, 0.05) - 1, BRIGHTEST)
    return out


def fine_grained(rows: int, columns: int) -> bool:
    """Whether the first layer keeps every pixel: small pictures have none to spare, large ones cost four times."""
    return max(rows, columns) <= 64


def train(
    name: str,
    learn: Pictures,
    validate: Pictures,
    settings: TrainSettings,
    *,
    cache: Path | None = None,
    tick: Tick | None = None,
) -> Classifier:
    """Train one of `ARCHITECTURES`, or take it from ``cache`` where the same was trained before.

    Deterministic: the same pictures and settings give the same weights (one thread, own random streams).

    Raises
    ------
    SettingsError
        No such architecture.
    LearningError
        The loss is no number any more.
    """
    if name not in ARCHITECTURES:
        raise SettingsError(
            f"no classifier '{name}'", "classifiers", f"use one of: {', '.join(ARCHITECTURES)}"
        )
    mark = _mark(name, learn, validate, settings)
    network = _new(name, learn.size, settings.seed)
    if cache is not None and (kept := _kept(cache, name, mark, network)) is not None:
        return _finished(name, network, validate, *kept, mark)
    start = time.perf_counter()
    with one_thread():
        epochs = _fit(network, learn, validate, settings, tick, name)
    made = _finished(name, network, validate, epochs, time.perf_counter() - start, mark)
    if cache is not None:
        _keep(cache, made)
    return made


def _new(name: str, size: tuple[int, int], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            int(np.random.SeedSequence([seed, list(ARCHITECTURES).index(name)]).generate_state(1)[0])
        )
        return ARCHITECTURES[name](fine_grained(*size)).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _fit(
    network: nn.Module,
    learn: Pictures,
    validate: Pictures,
    settings: TrainSettings,
    tick: Tick | None,
    name: str,
) -> int:
    random = np.random.default_rng([settings.seed, 31])
    genuine, held_out = scaled(learn.x, learn.breast), scaled(validate.x, validate.breast)
    batches = max(len(learn) // settings.batch, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=settings.epochs * batches, pct_start=0.2
    )
    cancer = learn.cancer.astype(np.float32)
    # as many healthy as cancers are seen, whatever the data set holds
    weight = torch.tensor([0.5 / max((cancer == 0).mean(), 1e-9), 0.5 / max(cancer.mean(), 1e-9)])
    outlined = bool(learn.region[learn.cancer].any((1, 2)).all())
    best, kept, since = math.inf, copy.deepcopy(network.state_dict()), 0
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        network.train()
        order = random.permutation(len(learn))
        for rows in np.array_split(order, batches):
            x, where = _augmented(
                genuine[rows], learn.region[rows] & learn.cancer[rows, None, None], settings, random
            )
            y = torch.from_numpy(cancer[rows])
            scores, local = network(x)
            loss = F.binary_cross_entropy_with_logits(scores, y, weight=weight[y.long()])
            if outlined and settings.places > 0:
                loss = loss + settings.places * _places_loss(local, where, y)
            if not torch.isfinite(loss):
                raise _no_number(name, epoch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        now = _validation_loss(network, held_out, validate.cancer)
        if not math.isfinite(now):
            raise _no_number(name, epoch)
        if tick is not None:
            tick(f"classifier {name}", epoch / settings.epochs)
        if now < best - 1e-4:
            best, kept, since = now, copy.deepcopy(network.state_dict()), 0
        else:
            since += 1
            if since >= settings.patience:
                break
    network.load_state_dict(kept)
    return epoch


def _no_number(name: str, epoch: int) -> LearningError:
    return LearningError(
        f"the loss of the classifier '{name}' is no number after {epoch} epochs",
        "evaluation",
        "use a lower rate, or look at the pictures",
    )


def _validation_loss(network: nn.Module, x: Images, cancer: Masks) -> float:
    """Cross entropy on the validation part, both labels weighing the same; not finite when a score is not."""
    scores = _scores(network, x)
    if not np.isfinite(scores).all():
        return math.nan
    losses = np.logaddexp(0, np.where(cancer, -scores, scores))
    return float((losses[cancer].mean() + losses[~cancer].mean()) / 2)


def _places_loss(local: Tensor, where: Tensor, cancer: Tensor) -> Tensor:
    """Cross entropy of every place's log odds with the lesion's mask; lesions and background weigh the same."""
    mask = F.adaptive_max_pool2d(where, local.shape[-2:])
    each = F.binary_cross_entropy_with_logits(local, mask, reduction="none")
    inside = (each * mask).sum() / mask.sum().clamp_min(1)
    outside = (each * (1 - mask)).sum() / (1 - mask).sum().clamp_min(1)
    return (inside * cancer.mean() + outside) / 2


def _augmented(
    x: Images, region: Masks, settings: TrainSettings, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mirrored up and down, shifted, and re-scaled in grey; the chest wall stays left. (N, 1, rows, columns) each."""
    rows, columns = x.shape[1:]
    reach = (round(settings.shift * rows), round(settings.shift * columns))
    out = np.full((len(x), 1, rows, columns), -1.0, dtype=np.float32)
    where = np.zeros_like(out)
    for i in range(len(x)):
        step = -1 if random.random() < 0.5 else 1
        down = int(random.integers(-reach[0], reach[0] + 1))
        left = int(random.integers(0, reach[1] + 1))  # towards the wall: nothing has to be made up there
        low, high = max(down, 0), rows + min(down, 0)
        for made, source in ((out, x), (where, region)):
            made[i, 0, low:high, : columns - left] = source[i, ::step][low - down : high - down, left:]
        factor = 1 + settings.grey * (2 * random.random() - 1)
        out[i] = np.minimum((out[i] + 1) * factor - 1, BRIGHTEST)
    form = torch.channels_last
    return torch.from_numpy(out).contiguous(memory_format=form), torch.from_numpy(where)


def _scores(network: nn.Module, x: Images) -> Scores:
    network.eval()
    out = np.empty(len(x), dtype=np.float64)
    with torch.inference_mode(), one_thread():
        for at in range(0, len(x), 64):
            part = torch.from_numpy(np.ascontiguousarray(x[at : at + 64]))[:, None]
            out[at : at + 64] = (
                network(part.contiguous(memory_format=torch.channels_last))[0].double().numpy()
            )
    return out


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread: sums come in one order, and the other cores belong to others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def youden(cancer: NDArray[np.bool_], scores: Scores) -> float:
    """Threshold (a score at or above it means cancer) of the greatest sensitivity + specificity."""
    false, true, thresholds = roc_curve(cancer, scores, drop_intermediate=False)
    best = int(np.argmax(true[1:] - false[1:])) + 1  # the first one is infinite
    lower = thresholds[best + 1] if best + 1 < len(thresholds) else thresholds[best]
    return float((thresholds[best] + lower) / 2)


def _finished(
    name: str, network: nn.Module, validate: Pictures, epochs: int, seconds: float, mark: str
) -> Classifier:
    network.eval()
    scores = _scores(network, scaled(validate.x, validate.breast))
    return Classifier(
        name=name,
        network=network,
        parameters=sum(p.numel() for p in network.parameters()),
        epochs=epochs,
        seconds=seconds,
        validation_auc=float(roc_auc_score(validate.cancer, scores)),
        threshold=youden(validate.cancer, scores),
        fingerprint=mark,
    )


def _mark(name: str, learn: Pictures, validate: Pictures, settings: TrainSettings) -> str:
    facts = [VERSION, name, learn.fingerprint(), validate.fingerprint(), msgspec.to_builtins(settings)]
    return hashlib.sha256(msgspec.json.encode([*facts, str(torch.__version__)])).hexdigest()


def _file(cache: Path, name: str, mark: str) -> Path:
    return cache / f"classifier-{name}-{mark[:24]}.safetensors"


def _keep(cache: Path, made: Classifier) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in made.network.state_dict().items()}
    told = {"mark": made.fingerprint, "epochs": str(made.epochs), "seconds": f"{made.seconds:.1f}"}
    path = _file(cache, made.name, made.fingerprint)
    draft = path.with_suffix(".part")
    draft.write_bytes(save_tensors(tensors, metadata=told))
    draft.replace(path)


def _kept(cache: Path, name: str, mark: str, network: nn.Module) -> tuple[int, float] | None:
    """Weights of the same training into ``network``; its epochs and seconds. None: train, be it for a damaged file."""
    path = _file(cache, name, mark)
    largest = 8 * sum(p.numel() for p in network.parameters()) + (1 << 20)
    try:
        if path.stat().st_size > largest:
            return None
        with safe_open(path, framework="pt") as opened:
            told = opened.metadata() or {}
            if told.get("mark") != mark:
                return None
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
        network.load_state_dict(tensors)
        return int(told["epochs"]), float(told["seconds"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError):
        return None
