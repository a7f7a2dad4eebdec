"""The smallest dose factor that is caught with 95 % probability, upwards and downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.attacked import attacked, judged, seen_by_oracle, summed
from scanward.commands import Examination
from scanward.learning.evaluate import Judging, Threshold
from scanward.learning.resampling import Floats, crossing, interval, shares, weights
from scanward.simulation import Donors
from scanward.simulation.attacks import dose_attack
from scanward.simulation.oracle import Oracle

WANTED = 0.95
FARTHEST = {"more": 8.0, "less": 0.1}
HALVINGS = 5  # the last step is 1/32 of the whole range of the logarithm
SIDES = 3  # further factors between the last two, so that the interval has points to cross


def smallest_doses(
    judge: Judging,
    oracle: Oracle,
    ceiling: Threshold,
    test: Sequence[Examination],
    donors: Donors,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """For both directions: the curve of detection by factor, and where it rises through 95 %, with intervals.

    Bisection of the logarithm on our judge places the factors; the same attacked commands at every factor
    (save those for which the device cannot give it).
    """
    out: dict[str, Any] = {"wanted": WANTED}
    for direction, farthest in FARTHEST.items():
        curve: dict[float, dict[str, Any]] = {}

        def measure(factor: float, curve: dict[float, dict[str, Any]] = curve) -> float:
            cases = attacked(dose_attack(factor), test, donors, count, seed)
            found = judged(judge, cases)[0]["ours"]
            best = seen_by_oracle(oracle, ceiling, cases)
            curve[factor] = {
                "attacked": len(cases),
                "counts": summed(len(test), cases, [True] * len(cases)),
                "ours": summed(len(test), cases, found),
                "oracle": summed(len(test), cases, best),
            }
            return sum(found) / len(cases) if cases else 0.0

        near, far = 0.0, math.log(farthest)
        if measure(round(math.exp(far), 3)) >= WANTED:
            for _ in range(HALVINGS):
                middle = (near + far) / 2
                near, far = (near, middle) if measure(round(math.exp(middle), 3)) >= WANTED else (middle, far)
        for share in np.linspace(0.15, 0.85, SIDES):
            factor = round(math.exp(near + (far - near) * float(share) * 2), 3)
            if factor not in curve and abs(math.log(factor)) <= abs(math.log(farthest)):
                measure(factor)
        out[direction] = _told(curve, len(test), seed)
    return out


def _told(curve: dict[float, dict[str, Any]], units: int, seed: int) -> dict[str, Any]:
    factors = sorted(curve, key=lambda f: abs(math.log(f)))
    drawn = weights(units, seed=seed)
    counts = np.stack([curve[f]["counts"] for f in factors])

    def rates(who: str) -> Floats:
        return shares(drawn, np.stack([curve[f][who] for f in factors]), counts)

    both = {who: rates(who) for who in ("ours", "oracle")}
    return {
        "factors": factors,
        "attacked": [curve[f]["attacked"] for f in factors],
        **{f"{who}_detection": [float(v) for v in r[0]] for who, r in both.items()},
        # Not every draw crosses 95 %: how many do stands beside the interval, which is of those alone.
        **{who: interval(crossing(np.array(factors), r, WANTED)) for who, r in both.items()},
        "crossing_draws": float(np.isfinite(crossing(np.array(factors), both["ours"], WANTED)[1:]).mean()),
    }
