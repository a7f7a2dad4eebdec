"""What a detector is measured by: one conformal rule for all, one order of strangeness for the whole judge.

Every detector compared (ours, the oracle, the baselines) learns from the same examinations, is calibrated on
the same later ones by their largest score, and alerts when the conformal p-value is within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scanward.calibration import Calibration
from scanward.commands import (
    RULE_LAYERS,
    Command,
    Examination,
    Judgement,
    LayerName,
    Severity,
    Verdict,
)
from scanward.learning.fit import CALIBRATE, clinical

RULE_STEP = 1e6  # what lifts a rule's objection above every learned score


class Judging(Protocol):
    """Whatever judges the commands of one examination in order (``Onion`` does)."""

    budget: float

    def judge_all(self, commands: Iterable[Command]) -> list[Judgement]:
        """One judgement for each command."""
        ...


@dataclass(frozen=True)
class Parts:
    """Clean examinations as ``fit`` divides them: what it learns from, and what it calibrates on."""

    learn: tuple[Examination, ...]
    calibrate: tuple[Examination, ...]


def parts(examinations: Sequence[Examination]) -> Parts:
    """The same division as ``fit`` makes, so that everybody has the same data."""
    clean = clinical(examinations)
    last = math.ceil(len(clean) * CALIBRATE)
    return Parts(tuple(clean[: len(clean) - last]), tuple(clean[len(clean) - last :]))


def objects(judgement: Judgement, without: Iterable[LayerName] = ()) -> bool:
    """Whether a rule layer, other than those left out, objects more than for information."""
    left_out = set(without)
    return any(
        o.severity > Severity.INFORMATION
        for o in judgement.opinions
        if o.layer in RULE_LAYERS and o.layer not in left_out
    )


def learned(judgement: Judgement, budget: float) -> bool:
    """Whether the calibrated number alone would alert."""
    return judgement.p_value is not None and judgement.p_value <= budget


def alerts(judgement: Judgement) -> bool:
    """Whether the whole judge does not simply release."""
    return judgement.verdict is not Verdict.RELEASE


def strangeness(judgement: Judgement) -> float:
    """One number that orders judgements of the whole judge, higher is stranger.

    A rule layer's objection stands above every learned score (a HALT above an ALERT); among equals the
    learned score decides. A command that was too malformed to be scored stands at the top of its kind.
    """
    rule = max(
        (o.severity for o in judgement.opinions if o.layer in RULE_LAYERS), default=Severity.INFORMATION
    )
    score = RULE_STEP / 2 if judgement.score is None else judgement.score
    return max(min(score, RULE_STEP / 2), -RULE_STEP / 2) + RULE_STEP * int(rule)


@dataclass(frozen=True)
class Threshold:
    """The conformal rule on scores of whole examinations; the same for every detector."""

    calibration: Calibration
    budget: float

    @classmethod
    def of(cls, examination_scores: Iterable[Sequence[float]], budget: float) -> Threshold:
        """From the command scores of each clean calibration examination (empty ones are left out).

        LearningError when that many examinations cannot express the budget.
        """
        calibration = Calibration.of([max(scores) for scores in examination_scores if len(scores)])
        calibration.require(budget)
        return cls(calibration, budget)

    def alerts(self, score: float) -> bool:
        """Whether a command of this score is alerted."""
        return self.calibration.p_value(score) <= self.budget
