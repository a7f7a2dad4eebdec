"""What does not hang on one threshold: AUROC, AUPR, the ROC curve, and the smallest dose factor that is caught.

Order of strangeness: a rule that objects stands above every score. Scores of two worlds are of two models, so curves
are made within a world and then averaged, each world counting equally, as is each attack within it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.learning.benchmark.answers import Floats, Ints, Told
from scanward.learning.benchmark.drawn import Mean, Stratum, add_detection, share, stratum_of, together
from scanward.learning.resampling import LEVEL, RESAMPLES, Interval, crossing, exact

DRAWS = 200  # of the bootstrap of whole curves: each draw goes through all commands
FALSE_ALERTS = tuple(round(10 ** (k / 10), 8) for k in range(-40, -9))  # 0.01 % to 10 %
WANTED = 0.95  # detection asked of the smallest dose factor
SPARE_UNITS = 60  # so that small tests are looked at whole


@dataclass(frozen=True)
class Ranked:
    """Clean commands and cases of one world by rank: higher is stranger, equal is equal."""

    clean: Ints
    cases: Ints
    case_units: Ints
    which: Ints  # place of a case's attack in the names given
    attacks: int


def ranked(told: Told, names: Sequence[str]) -> Ranked:
    """Ranks over both; a rule's objection above all scores (a score that is no number above the others)."""
    scores, objects, units, which = together(told.attacks, names)
    every = np.concatenate([told.clean_scores, scores])
    values, place = np.unique(every, return_inverse=True)
    rank = place.reshape(-1) + len(values) * np.concatenate([told.clean_objects, objects])
    count = len(told.clean_scores)
    return Ranked(rank[:count].astype(np.int64), rank[count:].astype(np.int64), units, which, len(names))


def areas(
    stratum: Stratum, told: Told, ranks: Ranked, prevalences: Sequence[float]
) -> tuple[list[Floats], dict[float, Floats]]:
    """AUROC of each attack and AUPR at each prevalence, of one world in every draw (1 + DRAWS,).

    AUROC = P(case above clean command) + P(tie) / 2; AUPR = sum of precision x step of recall.

    Precision in the mix where each attack makes an equal part of the prevalence ``p``: p TPR / (p TPR + (1 - p) FPR)
    (Saito and Rehmsmeier, PLoS ONE 10:e0118432, 2015), without interpolation, ties together.
    """
    weights = stratum.weights[:, : 1 + DRAWS]
    order = np.argsort(-ranks.clean, kind="stable")
    descending = -ranks.clean[order]
    by = np.argsort(-ranks.cases, kind="stable")
    cases, which = ranks.cases[by], ranks.which[by]
    drawn = weights[stratum.places(ranks.case_units[by])].astype(np.float64)
    at_least = np.searchsorted(descending, -cases, "right")
    above = np.searchsorted(descending, -cases, "left")
    # Clean commands are summed between the places where a case stands, for there alone are they asked for.
    asked, place = np.unique(np.concatenate([[0], at_least, above]), return_inverse=True)
    starts = asked[asked < len(order)]
    between = np.add.reduceat(weights[stratum.places(told.clean_units[order])], starts, axis=0)
    beyond = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(between, axis=0, dtype=np.float64)])
    clean = beyond[-1]
    beyond = share(beyond, clean)  # NaN in a draw of examinations that hold no command
    at_least_share, above_share = np.split(beyond[place.reshape(-1)[1:]], 2)
    worse = (at_least_share + above_share) / 2  # share of clean commands at or above, ties by half
    auroc = []
    for k in range(ranks.attacks):
        mine = which == k
        of = drawn[mine]
        auroc.append(share(np.einsum("md,md->d", of, 1 - worse[mine]), of.sum(axis=0)))
    recall = np.cumsum(_equal(drawn, which, ranks.attacks), axis=0)
    last = np.append(np.flatnonzero(np.diff(cases)), len(cases) - 1)  # last case of each run of ties
    found, false = recall[last], at_least_share[last]
    steps = np.diff(found, axis=0, prepend=0.0)
    aupr = {
        p: np.where(
            (found[-1] > 0) & (clean > 0),
            (steps * _or_zero(p * found, p * found + (1 - p) * false)).sum(axis=0),
            np.nan,
        )
        for p in prevalences
    }
    return auroc, aupr


def _or_zero(above: Floats, below: Floats) -> Floats:
    out: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return out


def _equal(drawn: Floats, which: Ints, attacks: int) -> Floats:
    """Weights of cases (M, draws) so that each attack that came in a draw weighs the same, and all of them 1."""
    totals = np.stack([drawn[which == k].sum(axis=0) for k in range(attacks)])
    came = (totals > 0).sum(axis=0)
    out: Floats = _or_zero(drawn, totals[which] * came)
    return out


def roc(stratum: Stratum, told: Told, ranks: Ranked) -> Floats:
    """Mean detection where at most so many clean test examinations alert, (len(FALSE_ALERTS), 1 + DRAWS).

    The threshold is found on the test itself in each draw, as curves are; the conformal one is another figure.
    """
    top = np.full(stratum.units, -1, np.int64)
    np.maximum.at(top, told.clean_units, ranks.clean)
    present = np.unique(told.clean_units)
    order = present[np.argsort(-top[present], kind="stable")]
    weights = stratum.weights[:, : 1 + DRAWS]
    total = weights[stratum.places(present)].sum(axis=0, dtype=np.float64)
    # In no draw do more than a tenth alert: the strangest quarter of the examinations decides.
    order = order[: len(order) // 4 + SPARE_UNITS]
    strange = top[order]
    last = np.append(np.flatnonzero(np.diff(strange)), len(strange) - 1)
    beyond = np.cumsum(weights[stratum.places(order)], axis=0, dtype=np.float64)[last]
    limits = np.append(strange[last], -1)  # alerted on r runs: what ranks above the next run
    by = np.argsort(-ranks.cases, kind="stable")
    drawn = weights[stratum.places(ranks.case_units[by])].astype(np.float64)
    found = np.concatenate(
        [np.zeros((1, weights.shape[1])), np.cumsum(_equal(drawn, ranks.which[by], ranks.attacks), axis=0)]
    )
    descending = -ranks.cases[by]
    columns = np.arange(weights.shape[1])
    out = []
    for rate in FALSE_ALERTS:
        runs = (beyond <= rate * total * (1 + 1e-12)).sum(axis=0)
        out.append(found[np.searchsorted(descending, -limits[runs], "left"), columns])
    return np.where(found[-1] > 0, np.stack(out), np.nan)


def perfect_auroc(cases: int, clean: int) -> float:
    """Lower bound where every case beats every clean command: so many pairs can be made that share nothing."""
    return exact(min(cases, clean), min(cases, clean))[0]


def perfect_aupr(prevalence: float, clean: int) -> float:
    """Lower bound where no clean command ranks among the cases: of ``clean`` examinations none was that strange.

    With the upper bound u of that share at every recall, the integral of p t / (p t + (1 - p) u) over t in (0, 1) is
    1 - c log((1 + c) / c) with c = (1 - p) u / p.
    """
    c = (1 - prevalence) * exact(0, clean)[1] / prevalence
    return 1 - c * math.log((1 + c) / c)


# --- the smallest dose factor


def _direction(factors: Sequence[float], points: Sequence[Mean]) -> dict[str, Any]:
    """Factors leading away from 1, detection at each, and where it rises through ``WANTED``."""
    rates = np.stack([p.draws for p in points], axis=1)
    found = crossing(np.array(factors), rates, WANTED)
    return {
        "factors": list(factors),
        "detection": [p.interval().as_json() for p in points],
        "at_95": crossed(found, factors[0] < 1).as_json(),
        "reached": round(float(np.isfinite(found[1:]).mean()), 6) if len(found) > 1 else None,
    }


def crossed(found: Floats, downwards: bool) -> Interval:
    """Interval of factors; a draw that never rises through it lies beyond every factor, and is told as not known."""
    beyond = -math.inf if downwards else math.inf
    draws = np.sort(np.where(np.isfinite(found[1:]), found[1:], beyond))
    if not len(draws):
        return Interval(float(found[0]), math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    low = draws[math.floor(tail * (len(draws) - 1))]
    high = draws[math.ceil((1 - tail) * (len(draws) - 1))]
    return Interval(float(found[0]), float(low), float(high))


def directions(points: Mapping[float, Mean]) -> dict[str, Any]:
    """``{"more": ..., "less": ...}`` of what was measured; None for a direction without a point."""
    out: dict[str, Any] = {}
    for name, chosen in (("more", [f for f in points if f > 1]), ("less", [f for f in points if 0 < f < 1])):
        factors = sorted(chosen, key=lambda f: abs(math.log(f)))
        kept = [f for f in factors if points[f].units]
        out[name] = _direction(kept, [points[f] for f in kept]) if kept else None
    return out


def smallest(
    level: str,
    told: Mapping[str, Sequence[Told | None]],
    factors: Mapping[str, float],
    *,
    budget: float = 0.005,
    seed: int = 0,
    draws: int = RESAMPLES,
) -> list[dict[str, Any]]:
    """For every method measured on curves: detection by dose factor, and the smallest that is caught in 95 %.

    Parameters
    ----------
    told : method -> what it told of each world (None: not measured)
    factors : attack -> dose factor, of the attacks of the group "curve"
    budget : share of clean examinations that may alert

    Returns
    -------
    list of ``{"level", "method", "more": {"factors", "detection", "at_95", "reached"} or None, "less": ...}``;
    ``reached`` is the share of draws that rise through 95 % at all, ``at_95`` is null where they do not.
    """
    points: dict[str, dict[float, Mean]] = {m: {} for m in told}
    for world in range(max((len(w) for w in told.values()), default=0)):
        cells = {m: w[world] for m, w in told.items() if world < len(w)}
        stratum = stratum_of(cells, world, tuple(factors), seed, draws)
        if stratum is None:
            continue
        for method, cell in cells.items():
            thresholds = stratum.thresholds(cell.calibrate, (budget,)) if cell is not None else {}
            if cell is None or budget not in thresholds:
                continue
            for name, factor in factors.items():
                point = points[method].setdefault(factor, Mean.empty(draws))
                add_detection(point, world, stratum, cell, name, thresholds[budget])
    told_points = {m: directions(p) for m, p in points.items()}
    return [{"level": level, "method": m, **both} for m, both in told_points.items() if any(both.values())]
