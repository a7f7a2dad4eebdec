"""From clean examinations to a judge: split by time, fit, combine, calibrate, report.

    |---- fit and combine, crosswise ------------|-- calibrate --|   examinations, in order of time

The layers of each fold judge the fold they never saw, clean and spoilt; from these judgements the combiner
learns. The layers that are kept learn from all folds. The calibration part is used for nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scanward.calibration import Calibration, units_needed
from scanward.codecs.defined_protocol_model import ProtocolBook
from scanward.commands import (
    Command,
    Examination,
    LayerName,
    Mode,
    Opinion,
    Severity,
    Source,
)
from scanward.errors import LearningError
from scanward.layers.base import Layer
from scanward.layers.combiner import Combiner
from scanward.layers.context_free import ContextFreeLayer
from scanward.layers.context_sensitive import ContextSensitiveLayer
from scanward.layers.encoding import learn_encoder
from scanward.layers.onion import Onion
from scanward.layers.procedure import ProcedureLayer
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.learning.combiner import Samples, learn_combiner, samples
from scanward.learning.context_free import learn_context_free
from scanward.learning.context_sensitive import Compared, learn_context_sensitive
from scanward.learning.corruptions import Workshop
from scanward.learning.deep import train_procedure
from scanward.learning.device_profile import learn_form, learn_limits
from scanward.learning.physics_constants import learn_physics

CALIBRATE = 0.25  # share of the examinations kept for calibration alone
ENOUGH = 1000  # examinations from which few folds do
FEW_FOLDS, MANY_FOLDS = 2, 4
SHARE_OF_ONE = 0.0015  # a protocol with no more than this share of the examinations stays in one fold
LEAST = 40  # examinations below which nothing is learned

Tick = Callable[[str, float], None]


@dataclass(frozen=True)
class Settings:
    """How to learn. ``spoilt`` is the number of spoilt commands per clean one, ``leave_out`` a kind not used."""

    budget: float = 0.005
    seed: int = 0
    spoilt: float = 2.0
    rounds: int = 300
    steps: int = 600
    leave_out: str = ""


@dataclass(frozen=True)
class Fitted:
    """A judge, and what is to be reported of how it was made."""

    onion: Onion
    report: dict[str, Any] = field(default_factory=dict)


def clinical(examinations: Sequence[Examination]) -> list[Examination]:
    """Without QA and service commands, in order of time (of identifier, where no time is known)."""
    kept = []
    for examination in examinations:
        commands = tuple(c for c in examination.commands if c.mode is Mode.CLINICAL)
        if commands:
            kept.append(Examination(examination.identifier, commands))
    return sorted(kept, key=_when)


def _when(examination: Examination) -> tuple[float, float, str]:
    first = examination.commands[0]
    time = first.acquired_at if first.acquired_at is not None else math.inf
    return time, first.order, examination.identifier


def fit(
    examinations: Sequence[Examination],
    settings: Settings = Settings(),
    tick: Tick = lambda _w, _s: None,
    *,
    book: ProtocolBook | None = None,
) -> Fitted:
    """Learn a judge; ``book`` is the site's protocol book, where it has one.

    Raises
    ------
    LearningError
        Too few examinations, more than one role, or a budget that the calibration part cannot express; says
        how many examinations are needed.
    """
    clean = clinical(examinations)
    _refuse_mixed_roles(clean)
    number = len(clean)
    last = math.ceil(number * CALIBRATE)
    _refuse_too_few(number, last, settings.budget)
    early, calibrate = clean[: number - last], clean[number - last :]
    layers, found, compared = _layers_and_samples(early, settings, tick)
    tick("combiner", 0.0)
    combiner = learn_combiner(found, rounds=settings.rounds, seed=settings.seed)
    tick("combiner", 1.0)
    commands = [c for e in early for c in e.commands]
    rules: tuple[Layer[Any], ...] = (
        learn_form(commands),
        learn_physics(commands),
        learn_limits(commands),
        ProtocolBookLayer(book or ProtocolBook()),
    )
    onion = _calibrated(layers, rules, combiner, calibrate, settings.budget, tick)
    return Fitted(onion, _report(onion, early, calibrate, found, compared))


def _refuse_mixed_roles(clean: Sequence[Examination]) -> None:
    roles = Counter(c.role.value for e in clean for c in e.commands)
    if len(roles) > 1:
        told = ", ".join(f"{n} {role}" for role, n in roles.most_common())
        raise LearningError(
            f"the recordings mix roles ({told})",
            "RECORDINGS",
            "train one bundle for commanded and another for performed values",
        )


def _refuse_too_few(number: int, last: int, budget: float) -> None:
    if number < LEAST:
        raise LearningError(
            f"{number} clinical examinations are too few to learn from",
            "RECORDINGS",
            f"record at least {LEAST} (for a budget of {budget:g}: {_total_needed(budget)})",
        )
    try:
        Calibration(tuple([0.0] * last)).require(budget)
    except LearningError as error:
        raise LearningError(
            error.what,
            error.where,
            f"record at least {_total_needed(budget)} examinations in all ({number} are there, {last} of them for "
            f"calibration alone), or ask for a budget of at least {math.ceil(1e5 / (last + 1)) / 1e5:g}",
        ) from None


def _total_needed(budget: float) -> int:
    return max(LEAST, math.ceil(units_needed(budget) / CALIBRATE))


LearnedLayers = tuple[ContextFreeLayer, ContextSensitiveLayer, ProcedureLayer]


def learn_layers(
    examinations: Sequence[Examination], settings: Settings, tick: Tick, methods: dict[str, str] | None = None
) -> tuple[LearnedLayers, list[Compared]]:
    """The three learned layers from clean examinations (``methods``: classifiers chosen before)."""
    commands = tuple(c for e in examinations for c in e.commands)
    encoder = learn_encoder(commands)
    rows = encoder.rows(commands)
    sensitive, compared = learn_context_sensitive(
        encoder, rows, seed=settings.seed, methods=methods, tick=lambda s: tick("context-sensitive layer", s)
    )
    free = learn_context_free(
        encoder, rows, seed=settings.seed, steps=settings.steps, tick=lambda s: tick("context-free layer", s)
    )
    known = [e for e in examinations if e.commands[0].examination is not None]
    procedure = train_procedure(
        encoder, known or list(examinations), seed=settings.seed, tick=lambda s: tick("procedure layer", s)
    )
    return (free, sensitive, procedure), compared


def _layers_and_samples(
    early: Sequence[Examination], settings: Settings, tick: Tick
) -> tuple[LearnedLayers, Samples, list[Compared]]:
    count = FEW_FOLDS if len(early) >= ENOUGH else MANY_FOLDS
    fold = _folds(early, count, np.random.default_rng(settings.seed))
    spoilt = settings.spoilt if len(early) >= ENOUGH else max(settings.spoilt, 6.0)
    parts = []
    methods: dict[str, str] | None = None
    compared: list[Compared] = []
    for k in range(count):
        rest = [e for e, f in zip(early, fold, strict=True) if f != k]
        mine = [e for e, f in zip(early, fold, strict=True) if f == k]
        if mine and rest:
            layers, tried = learn_layers(rest, settings, tick, methods)
            compared = compared or tried
            methods = methods or {c.field: c.kept for c in compared}
            more = replace(settings, spoilt=spoilt)
            parts.append(_samples(layers, mine, rest, more, settings.seed + k, tick))
    layers, _ = learn_layers(early, settings, tick, methods)
    return layers, _joined(parts), compared


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


def _samples(
    layers: LearnedLayers,
    use: Sequence[Examination],
    donors: Sequence[Examination],
    settings: Settings,
    seed: int,
    tick: Tick,
) -> Samples:
    return samples(
        layers,
        use,
        Workshop(donors),
        spoilt_per_clean=settings.spoilt,
        leave_out=settings.leave_out,
        seed=seed,
        tick=lambda s: tick("spoilt commands", s),
    )


def _joined(parts: Sequence[Samples]) -> Samples:
    names = tuple(sorted({n for p in parts for n in p.names}))
    rows = []
    for p in parts:
        wide = np.full((len(p.rows), len(names)), -999.0, dtype=np.float32)
        wide[:, [names.index(n) for n in p.names]] = p.rows
        rows.append(wide)
    labels = np.concatenate([p.labels for p in parts])
    return Samples(names, np.concatenate(rows), labels, tuple(k for p in parts for k in p.kinds))


def _calibrated(
    layers: LearnedLayers,
    rules: tuple[Layer[Any], ...],
    combiner: Combiner,
    calibrate: Sequence[Examination],
    budget: float,
    tick: Tick,
) -> Onion:
    none = Calibration((math.inf,))
    onion = Onion(
        layers[1].encoder,
        rules,
        layers[0],
        layers[1],
        layers[2],
        combiner,
        budget,
        {"examination": none, "command": none},
        {},
    )
    together: list[float] = []
    alone: list[float] = []
    by_layer: dict[LayerName, list[float]] = {}
    for done, examination in enumerate(calibrate):
        judged = onion.judge_all(examination.commands)
        scores = [j.score for j in judged if j.score is not None]
        if scores and examination.commands[0].examination is not None:
            together.append(max(scores))
        # One command of each examination stands for commands that come without one: units stay independent.
        single = replace(examination.commands[done % len(examination.commands)], examination=None)
        score = onion.judge_all([single])[0].score
        if score is not None:
            alone.append(score)
        for judgement in judged:
            for opinion in judgement.opinions:
                if opinion.score is not None:
                    by_layer.setdefault(opinion.layer, []).append(opinion.score)
        tick("calibration", (done + 1) / len(calibrate))
    calibrations = {"examination": Calibration.of(together or alone), "command": Calibration.of(alone)}
    for calibration in calibrations.values():
        calibration.require(budget)
    references = {name: Calibration.of(_thinned(scores)) for name, scores in by_layer.items()}
    return replace(onion, calibrations=calibrations, references=references)


def _thinned(scores: list[float], most: int = 2000) -> list[float]:
    """At most ``most`` of the scores, evenly by rank: explanations need no more."""
    ordered = sorted(scores)
    return ordered if len(ordered) <= most else [ordered[int(i * len(ordered) / most)] for i in range(most)]


def _report(
    onion: Onion,
    early: Sequence[Examination],
    calibrate: Sequence[Examination],
    found: Samples,
    compared: Sequence[Compared],
) -> dict[str, Any]:
    """Facts for the table that ``train`` ends with; quality is measured on the calibration part."""
    everything = [*early, *calibrate]
    commands = [c for e in everything for c in e.commands]
    objections: Counter[str] = Counter()
    alerts = 0
    held = 0
    for examination in calibrate:
        for judgement in onion.judge_all(examination.commands):
            held += 1
            alerts += judgement.verdict.value != "RELEASE"
            for opinion in judgement.opinions:
                objections[opinion.layer.value] += _objects(opinion)
    times = [c.acquired_at for c in commands if c.acquired_at is not None]
    days = (max(times) - min(times)) / 86400 if len(times) > 1 else 0.0
    workshop = Workshop(early)
    quality = _quality(onion, calibrate, workshop)
    return {
        "examinations": len(everything),
        "calibration_examinations": len(calibrate),
        "commands": len(commands),
        "devices": sorted({c.device.key for c in commands}),
        "role": commands[0].role.value,
        "fields": [f.name for f in onion.encoder.fields],
        "budget": onion.budget,
        "clean_objections_per_1000_commands": {k: 1000 * v / held for k, v in sorted(objections.items())},
        "observed_alerts_per_1000_commands": 1000 * alerts / held,
        "expected_alerts_per_1000_commands": 1000 * onion.budget * len(calibrate) / held,
        "commands_per_day": len(commands) / days if days > 0 else None,
        "expected_alerts_per_day": onion.budget * len(everything) / days if days > 0 else None,
        "quality": quality,
        "classifiers": [
            {"field": c.field, "kept": c.kept, "log_loss": c.log_loss, "accuracy": c.accuracy}
            for c in compared
        ],
        "combiner": {"clean": int((found.labels == 0).sum()), "spoilt": dict(Counter(found.kinds))},
        "context_sources": sorted(
            {t.source.value for c in commands for told in c.context.parts.values() for t in told}
        ),
        "unused_sources": sorted(
            {s.value for s in Source}
            - {t.source.value for c in commands for told in c.context.parts.values() for t in told}
        ),
    }


def _objects(opinion: Opinion) -> bool:
    return opinion.severity > Severity.INFORMATION


def _quality(onion: Onion, calibrate: Sequence[Examination], workshop: Workshop) -> dict[str, float]:
    """AUROC of each learned layer and of the combination: clean commands against spoilt ones, held-back part."""
    from sklearn.metrics import roc_auc_score

    from scanward.learning.corruptions import SPOILERS, spoil

    rng = np.random.default_rng(1)
    layers: tuple[Layer[Any], ...] = (onion.context_free, onion.context_sensitive, onion.procedure)
    scores: dict[str, list[float]] = {layer.name.value: [] for layer in layers}
    scores["combined"] = []
    labels: list[int] = []
    kinds = list(SPOILERS)

    def take(commands: Sequence[Command], label: int) -> None:
        last = onion.judge_all(commands)[-1]
        if last.score is None:
            return
        by_layer = {o.layer.value: o.score for o in last.opinions}
        for layer in layers:
            value = by_layer.get(layer.name.value)
            scores[layer.name.value].append(0.0 if value is None else value)
        scores["combined"].append(last.score)
        labels.append(label)

    for examination in calibrate[:: max(1, len(calibrate) // 300)]:
        index = int(rng.integers(len(examination.commands)))
        take(examination.commands[: index + 1], 0)
        spoilt = spoil(workshop, examination, index, kinds[int(rng.integers(len(kinds)))], rng)
        if spoilt is not None:
            take(spoilt.examination.commands[: spoilt.index + 1], 1)
    if len(set(labels)) < 2:
        return {}
    return {name: float(roc_auc_score(labels, values)) for name, values in scores.items()}


__all__ = ["Fitted", "Settings", "clinical", "fit", "learn_layers"]
