"""From clean examinations to a judge: split by time, fit, combine, calibrate, report.

    |---- fit and combine, crosswise ------------|-- calibrate --|   examinations, in order of time

The layers of each fold judge the fold they never saw, clean and spoilt; from these judgements the combiner
learns. The layers that are kept learn from all folds. The calibration part is used for nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scanward.calibration import Calibration, units_needed
from scanward.codecs.defined_protocol_model import ProtocolBook
from scanward.commands import Examination, LayerName, Mode
from scanward.errors import LearningError
from scanward.layers.base import Layer
from scanward.layers.combiner import Combiner
from scanward.layers.onion import Onion
from scanward.layers.protocol_book import ProtocolBookLayer
from scanward.learning.combiner import learn_combiner
from scanward.learning.device_profile import learn_form, learn_limits
from scanward.learning.folds import LearnedLayers, Settings, Tick, crosswise
from scanward.learning.physics_constants import learn_physics
from scanward.learning.report import facts_of

CALIBRATE = 0.25  # share of the examinations kept for calibration alone
LEAST = 40  # examinations below which nothing is learned


DEFAULTS = Settings()


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
    settings: Settings = DEFAULTS,
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
    layers, found, compared = crosswise(early, settings, tick)
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
    return Fitted(onion, facts_of(onion, early, calibrate, found, compared))


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
            f"record at least {LEAST} (for a budget of {budget:g}: {total_needed(budget)})",
        )
    try:
        Calibration(tuple([0.0] * last)).require(budget)
    except LearningError as error:
        raise LearningError(
            error.what,
            error.where,
            f"record at least {total_needed(budget)} examinations in all ({number} are there, {last} of them for "
            f"calibration alone), or ask for a budget of at least {math.ceil(1e5 / (last + 1)) / 1e5:g}",
        ) from None


def total_needed(budget: float) -> int:
    """Recorded examinations that a budget takes in all."""
    # Smallest n with ceil(n * CALIBRATE) >= the units needed.
    return max(LEAST, math.floor((units_needed(budget) - 1) / CALIBRATE) + 1)


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


__all__ = ["Fitted", "Settings", "clinical", "fit"]
