"""The facts that ``train`` ends with: books, layers, quality on the held-back part, expected alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from scanward.commands import Command, Examination, Opinion, Severity, Source
from scanward.layers.base import Layer
from scanward.layers.limits import LimitsLayer
from scanward.layers.onion import Onion
from scanward.layers.physics import PhysicsLayer
from scanward.learning.combiner import Samples
from scanward.learning.context_sensitive import Compared
from scanward.learning.corruptions import SPOILERS, Workshop, spoil


def facts_of(
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
        # What learning changed by itself, and what it could not hold: for a person to read before signing.
        "raised_limits": [n for rule in onion.rules if isinstance(rule, LimitsLayer) for n in rule.notes],
        "dropped_identities": [
            d for rule in onion.rules if isinstance(rule, PhysicsLayer) for d in rule.dropped
        ],
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
