"""How many alerts a day the bundle's budget explains: exact binomial quantiles. Pure, and small numbers only."""

from __future__ import annotations

import math
from typing import Final

SURE: Final = 0.99  # of days within the budget, so many lie at or below the limit


def limit(examinations: int, budget: float, sure: float = SURE) -> int:
    """The least k with P(X <= k) >= ``sure`` for X binomial (``examinations``, ``budget``).

    A day with more alerts than that is not explained by the budget; one such day in a hundred is chance.

    Parameters
    ----------
    budget : float
        Share of clean examinations that may alert, 0 to 1.
    """
    if examinations <= 0 or budget <= 0.0:
        return 0
    if budget >= 1.0:
        return examinations
    odds = math.log(budget) - math.log1p(-budget)
    log_p = examinations * math.log1p(-budget)
    total = math.exp(log_p)
    k = 0
    while total < sure and k < examinations:
        log_p += math.log(examinations - k) - math.log(k + 1) + odds
        k += 1
        total += math.exp(log_p)
    return k
