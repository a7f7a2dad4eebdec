"""The learned layers, trained crosswise in several processes.

Each task trains the three layers on one set of examinations; the tasks of the folds then judge the examinations
they did not see, clean and spoilt. Seeds are fixed per task, so the number of processes changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from queue import Empty
from typing import Any

import numpy as np

from scanward.commands import Examination
from scanward.layers.base import Part
from scanward.layers.context_free import ContextFreeLayer
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import Encoder, learn_encoder
from scanward.layers.graph import ABSENT
from scanward.layers.procedure import ProcedureLayer
from scanward.learning.combiner import Samples, samples
from scanward.learning.context_free import learn_context_free
from scanward.learning.context_sensitive import Compared, compare_classifiers, learn_context_sensitive
from scanward.learning.corruptions import Workshop
from scanward.learning.deep import train_procedure

ENOUGH = 1000  # examinations from which few folds do
FEW_FOLDS, MANY_FOLDS = 2, 4
SHARE_OF_ONE = 0.0015  # a protocol with no more than this share of the examinations stays in one fold
COMPARED = 6000  # commands on which the classifiers are compared

Tick = Callable[[str, float], None]
LearnedLayers = tuple[ContextFreeLayer, ContextSensitiveLayer, ProcedureLayer]


@dataclass(frozen=True)
class Settings:
    """How to learn.

    Attributes
    ----------
    budget : share of clean examinations that may alert
    spoilt : spoilt commands per clean one for the combiner (twice as many where recordings are few)
    rounds : trees of the combiner
    steps : training steps of the masked network
    leave_out : a kind of spoiling not used (ablation)
    workers : processes; 0 for one a core
    """

    budget: float = 0.005
    seed: int = 0
    spoilt: float = 3.0
    rounds: int = 200
    steps: int = 600
    leave_out: str = ""
    workers: int = 0


@dataclass(frozen=True)
class _Task:
    """Train on ``learn``; then judge ``use``, when there is any."""

    name: str
    learn: tuple[Examination, ...]
    use: tuple[Examination, ...]
    settings: Settings
    seed: int
    methods: dict[str, str]


@dataclass(frozen=True)
class _Done:
    encoder: dict[str, Any]
    parts: tuple[Part, Part, Part]
    samples: Samples | None


def crosswise(
    early: Sequence[Examination], settings: Settings, tick: Tick
) -> tuple[LearnedLayers, Samples, list[Compared]]:
    """Layers trained on everything, and judgements by layers trained on the rest."""
    count = FEW_FOLDS if len(early) >= ENOUGH else MANY_FOLDS
    few = len(early) < ENOUGH
    fold = _folds(early, count, np.random.default_rng(settings.seed))
    inner = replace(settings, spoilt=2 * settings.spoilt) if few else settings
    commands = tuple(c for e in early for c in e.commands)[:COMPARED]
    encoder = learn_encoder(commands)
    compared = compare_classifiers(encoder, encoder.rows(commands), seed=settings.seed)
    tick("classifiers compared", 1.0)
    methods = {c.field: c.kept for c in compared}
    tasks = []
    for k in range(count):
        rest = tuple(e for e, f in zip(early, fold, strict=True) if f != k)
        mine = tuple(e for e, f in zip(early, fold, strict=True) if f == k)
        if mine and rest:
            tasks.append(_Task(f"fold {k + 1} of {count}", rest, mine, inner, settings.seed + k, methods))
    # The task that only trains goes last: it is the shortest, and fills the gap at the end.
    tasks.append(_Task("all folds", tuple(early), (), inner, settings.seed, methods))
    done = _run(tasks, settings.workers or os.cpu_count() or 1, tick)
    last = done[-1]
    encoder = Encoder.from_settings(last.encoder)
    layers = (
        ContextFreeLayer.from_part(last.parts[0], encoder),
        ContextSensitiveLayer.from_part(last.parts[1], encoder),
        ProcedureLayer.from_part(last.parts[2], encoder),
    )
    return layers, _joined([d.samples for d in done if d.samples is not None]), compared


def _run(tasks: Sequence[_Task], workers: int, tick: Tick) -> list[_Done]:
    if workers == 1 or len(tasks) == 1:
        return [_work(task, tick) for task in tasks]
    # Spawned, not forked: neither torch nor ONNX Runtime survives a fork of its threads.
    context = multiprocessing.get_context("spawn")
    news = context.Queue()
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _hear, (news,)) as pool:
        futures: list[Future[_Done]] = [pool.submit(_work_apart, task) for task in tasks]
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while True:
                try:
                    tick(*news.get_nowait())
                except Empty:
                    break
        return [future.result() for future in futures]


_news: Any = None


def _hear(news: Any) -> None:
    global _news
    _news = news


def _work_apart(task: _Task) -> _Done:
    return _work(task, lambda what, share: _news.put((what, share)))


def _work(task: _Task, tick: Tick) -> _Done:
    stage = {"share": -1.0}

    def told(what: str, share: float) -> None:
        # A hundred steps a stage are enough for a progress bar.
        if share >= 1 or abs(share - stage["share"]) >= 0.01:
            stage["share"] = share
            tick(f"{task.name}: {what}", share)

    layers = learn_layers(task.learn, task.settings, told, task.methods)
    found = None
    if task.use:
        found = samples(
            layers,
            task.use,
            Workshop(task.learn),
            spoilt_per_clean=task.settings.spoilt,
            leave_out=task.settings.leave_out,
            seed=task.seed,
            tick=lambda share: told("spoilt commands", share),
        )
    return _Done(layers[0].encoder.settings(), (layers[0].part(), layers[1].part(), layers[2].part()), found)


def learn_layers(
    examinations: Sequence[Examination], settings: Settings, tick: Tick, methods: dict[str, str] | None = None
) -> LearnedLayers:
    """The three learned layers from clean examinations (``methods``: the classifier of each context field)."""
    commands = tuple(c for e in examinations for c in e.commands)
    encoder = learn_encoder(commands)
    rows = encoder.rows(commands)
    seed = settings.seed
    sensitive = learn_context_sensitive(
        encoder, rows, seed=seed, methods=methods, tick=lambda s: tick("context-sensitive layer", s)
    )
    free = learn_context_free(
        encoder, rows, seed=seed, steps=settings.steps, tick=lambda s: tick("context-free layer", s)
    )
    known = [e for e in examinations if e.commands[0].examination is not None]
    procedure = train_procedure(
        encoder, known or list(examinations), seed=seed, tick=lambda s: tick("procedure layer", s)
    )
    return free, sensitive, procedure


def _folds(early: Sequence[Examination], count: int, rng: np.random.Generator) -> list[int]:
    """Whole rare protocols go into one fold, so that the combiner meets new protocols as well as known ones."""
    names = [e.commands[0].text("ProtocolName") or "" for e in early]
    number = Counter(names)
    chosen: dict[str, int] = {}
    out = []
    for name in names:
        # A common protocol is spread over all folds: it will be known when it is judged.
        if number[name] > max(2.0, SHARE_OF_ONE * len(early)):
            out.append(int(rng.integers(count)))
        else:
            out.append(chosen.setdefault(name, int(rng.integers(count))))
    return out


def _joined(parts: Sequence[Samples]) -> Samples:
    names = tuple(sorted({n for p in parts for n in p.names}))
    rows = []
    for p in parts:
        wide = np.full((len(p.rows), len(names)), ABSENT, dtype=np.float32)
        wide[:, [names.index(n) for n in p.names]] = p.rows
        rows.append(wide)
    labels = np.concatenate([p.labels for p in parts])
    return Samples(names, np.concatenate(rows), labels, tuple(k for p in parts for k in p.kinds))
