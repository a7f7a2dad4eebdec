"""Split conformal calibration: a promise about false alerts that needs no model of the scores.

With n clean calibration units exchangeable with the next one, ``P(p_value <= a) <= a`` (Vovk, Gammerman, Shafer,
Algorithmic Learning in a Random World, 2005, proposition 2.4). The unit is the examination: its score is the
largest of its commands' scores. A budget below ``1 / (n + 1)`` cannot be expressed and is refused.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from scanward.errors import LearningError


def units_needed(budget: float) -> int:
    """Smallest number of calibration units that can express ``budget``.

    By the very comparison that the verdict makes, of rounded numbers: one unit too few, and nothing ever alerts.
    """
    near = max(1, math.ceil(min(1 / budget, 1e300)) - 2)
    return next((n for n in range(near, near + 3) if 1 / (n + 1) <= budget), near + 3)


@dataclass(frozen=True)
class Calibration:
    """Scores of clean calibration units, ascending."""

    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Sequence[float]) -> Calibration:
        """From scores in any order; a NaN or an infinity is refused."""
        if not all(math.isfinite(s) for s in scores):
            raise LearningError("a calibration score is not a number", "calibration", "report this")
        return cls(tuple(sorted(float(s) for s in scores)))

    def p_value(self, score: float) -> float:
        """Share of units, the new one included, that score at least as high. A NaN score gives the least."""
        n = len(self.scores)
        beyond = 0 if math.isnan(score) else n - bisect_left(self.scores, score)
        return (1 + beyond) / (n + 1)

    def require(self, budget: float) -> None:
        """Refuse a budget that these units cannot express.

        Raises
        ------
        LearningError
            Naming how many calibration examinations are needed.
        """
        if not 0 < budget < 1:
            raise LearningError(
                f"a budget of {budget:g} is not a share of examinations",
                "--budget",
                "give one between 0 and 1",
            )
        need = units_needed(budget)
        if len(self.scores) < need:
            raise LearningError(
                f"a budget of {budget:g} cannot be expressed with {len(self.scores)} calibration examinations",
                "--budget",
                f"record at least {need} examinations for calibration alone, or ask for a budget of at least "
                f"{1 / (len(self.scores) + 1):.2g}",
            )
