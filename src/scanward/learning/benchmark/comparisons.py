"""Who is first, and whether that is more than luck: one primary comparison named beforehand, the rest corrected.

The endpoint is mean detection at the primary budget over known and held-out attacks, each attack counting equally,
over the attacks and worlds in which both methods were measured. Draws are paired. One comparison is named in the plan
before anything is measured and is tested alone at 5 %; all others (every baseline at every level) are corrected
together by Holm. To say "first" takes all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.errors import SettingsError
from scanward.learning.benchmark.abreast import each
from scanward.learning.benchmark.answers import Floats, Told
from scanward.learning.benchmark.drawn import Mean, add_detection, mean_of, share, stratum_of, widened
from scanward.learning.benchmark.figures import BUDGETS, COUNTED, AttackFacts, as_json
from scanward.learning.benchmark.worlds import Level
from scanward.learning.resampling import RESAMPLES, Interval, holm, interval, mean_known, two_sided

ALPHA = 0.05
PRECISION = 4  # times as many draws as the smallest p-value that Holm asks for needs
MOST_DRAWS = 50_000
OURS = "Scanward"
NOT_BASELINES = ("Scanward", "oracle")  # what begins like this is no competitor
METHOD = (
    "Difference of mean detection at {budget:g} of clean examinations alerting, over known and held-out attacks, each "
    "attack and each world counting equally, over what both methods were measured on. Paired bootstrap of whole test "
    "and calibration examinations within worlds, {draws} draws, two-sided p-values of at least {least:.2g}. The "
    "primary comparison was named before anything was measured and is tested alone at {alpha:g}; the {others} others "
    "are corrected together (Holm 1979). A claim is a difference that lies above 0 with its whole interval and "
    "whose (corrected) p-value is below {alpha:g}; first is claimed only where every claim holds. "
    "Recordings that are too few for this share have the smallest of 1, 2, 5 and 10 % that they can express. "
    "At levels where calibration does not hold, the threshold of each method is the one at which the same share of "
    "the clean test examinations alerts, and Scanward is taken as it adapts. What was learned is as it is: the "
    "figures say nothing about other sites, or about learning anew."
)


@dataclass(frozen=True)
class Primary:
    """The one comparison named before anything is measured; part of the plan."""

    against: str
    level: str = Level.RECURRING.value
    ours: str = OURS
    what: str = "primary comparison, named before anything was measured"


def compare(
    levels_told: Mapping[str, Mapping[str, Sequence[Told | None]]],
    groups: Mapping[str, AttackFacts],
    primary: Primary,
    *,
    baselines: Sequence[str] | None = None,
    budget: float = BUDGETS[0],
    budgets: Mapping[str, float] | None = None,
    seed: int = 0,
    draws: int | None = None,
    workers: int = 1,
    tick: Callable[[str, float], None] = lambda _what, _share: None,
) -> dict[str, Any]:
    """The primary comparison and all others, JSON values alone.

    Parameters
    ----------
    levels_told : level -> method -> what it told of each world (None: not measured)
    baselines : competitors; None: every method whose name does not begin with "Scanward" or "oracle"
    budget, budgets : share of clean examinations that may alert, and of the levels that have another one
    workers : processes, each with a level
    draws : of the bootstrap; None: as many as Holm's smallest p-value needs, 1,000 to 50,000

    Returns
    -------
    dict
        ``primary`` (with ``difference`` null and no claim where a cell is missing), ``others``, ``first`` (whether
        every claim holds, the primary one included, and there is something to claim) and ``method``.

    Raises
    ------
    SettingsError
        When the primary comparison is of a method with itself, or draws are fewer than one.
    """
    if primary.ours == primary.against:
        raise SettingsError("a method compared with itself", "primary comparison", "name another one")
    pairs = _pairs(levels_told, primary, baselines)
    if draws is None:
        wanted = math.ceil(PRECISION * max(1, len(pairs)) / ALPHA)
        draws = min(MOST_DRAWS, max(RESAMPLES, wanted))
    if draws < 1:
        raise SettingsError("a bootstrap without draws", "comparisons", "give at least one")
    of = {level: (budgets or {}).get(level, budget) for level in (*levels_told, primary.level)}
    found: dict[tuple[str, str], tuple[Interval, float] | None] = {}
    jobs = []
    for level, told in levels_told.items():
        mine = [against for at, against in (*pairs, (primary.level, primary.against)) if at == level]
        jobs.append((told, groups, primary.ours, mine, of[level], seed, draws))
    tick("comparisons", 0.0)
    made = each(_level, jobs, workers, lambda done: tick("comparisons", done / len(jobs)))
    for level, one in zip(levels_told, made, strict=True):
        found.update({(level, against): difference for against, difference in one.items()})
    others = [(pair, known) for pair in pairs if (known := found.get(pair)) is not None]
    corrected = holm([p for _, (_, p) in others])
    rows = [
        {
            **_row(level, of[level], primary.ours, against, difference, p),
            "p_holm": corrected[i],
            "claim": shown(difference, corrected[i]),
        }
        for i, ((level, against), (difference, p)) in enumerate(others)
    ]
    first = found.get((primary.level, primary.against))
    told_first = first or (Interval(math.nan, math.nan, math.nan), None)
    row = {
        "what": primary.what,
        **_row(primary.level, of[primary.level], primary.ours, primary.against, *told_first),
        "claim": first is not None and shown(*first),
    }
    complete = len(others) == len(pairs)
    return {
        "primary": row,
        "others": rows,
        "first": bool(row["claim"] and complete and all(r["claim"] for r in rows)),
        "missing": [list(pair) for pair in pairs if found.get(pair) is None],
        "method": METHOD.format(
            budget=of[primary.level], draws=draws, least=2 / (draws + 1), alpha=ALPHA, others=len(others)
        ),
    }


def shown(difference: Interval, p: float) -> bool:
    """Whether a difference may be claimed: above 0 with its whole interval, and by its (corrected) p-value.

    Where few are hit or missed the interval is the wider of the two (``_told``), and the p-value, of draws alone,
    knows too little: four misses of 60 against none have p = 0.04, and by an exact test 0.125.
    """
    return difference.low > 0 and p < ALPHA


def _row(
    level: str, budget: float, ours: str, against: str, difference: Interval, p: float | None
) -> dict[str, Any]:
    return {
        "level": level,
        "endpoint": f"mean detection at {100 * budget:g} % false alerts",
        "ours": ours,
        "against": against,
        "difference": as_json(difference),
        "p": p,
    }


def _pairs(
    levels_told: Mapping[str, Mapping[str, Sequence[Told | None]]],
    primary: Primary,
    baselines: Sequence[str] | None,
) -> list[tuple[str, str]]:
    """(level, baseline) of every comparison but the primary one."""
    return [
        (level, name)
        for level, told in levels_told.items()
        for name in told
        if (name in baselines if baselines is not None else not name.startswith(NOT_BASELINES))
        and name != primary.ours
        and (level, name) != (primary.level, primary.against)
    ]


def _level(
    told: Mapping[str, Sequence[Told | None]],
    groups: Mapping[str, AttackFacts],
    ours: str,
    against: Sequence[str],
    budget: float,
    seed: int,
    draws: int,
) -> dict[str, tuple[Interval, float] | None]:
    """Difference and p-value against each, of one level; None where nothing was measured of both.

    Draws come in batches: the weights of all of them at once would not fit.
    """
    names = [a for a, facts in groups.items() if facts.group in COUNTED]
    wanted = {m: told[m] for m in dict.fromkeys((ours, *against)) if m in told}
    if ours not in wanted:
        return dict.fromkeys(against)
    parts: dict[str, list[Floats]] = {m: [] for m in against}
    for batch, done in enumerate(range(0, draws, RESAMPLES)):
        shares = _shares(wanted, names, budget, seed, min(RESAMPLES, draws - done), batch)
        for method in against:
            drawn = _difference(shares[ours], shares.get(method, {}))
            if drawn is not None:
                parts[method].append(drawn)
    means = _detections(wanted, names, budget, seed, min(RESAMPLES, draws))
    return {m: _told(each, means[ours], means.get(m, {})) for m, each in parts.items()}


def _shares(
    told: Mapping[str, Sequence[Told | None]],
    names: Sequence[str],
    budget: float,
    seed: int,
    draws: int,
    batch: int,
) -> dict[str, dict[tuple[str, int], Floats]]:
    """Of every method: detection of each attack in each world, in the draws of one batch."""
    out: dict[str, dict[tuple[str, int], Floats]] = {m: {} for m in told}
    for world in range(max((len(w) for w in told.values()), default=0)):
        cells = {m: w[world] for m, w in told.items() if world < len(w)}
        stratum = stratum_of(cells, world, names, seed, draws, batch)
        if stratum is None:
            continue
        keys, asked = [], []
        for method, cell in cells.items():
            at = stratum.thresholds(cell.calibrate, (budget,)).get(budget) if cell is not None else None
            for name in names if cell is not None and at is not None else ():
                if (
                    cell is not None
                    and at is not None
                    and name in cell.attacks
                    and len(cell.attacks[name].units)
                ):
                    keys.append((method, name))
                    asked.append((cell.attacks[name], at))
        for (method, name), (cases, _), caught in zip(keys, asked, stratum.caught_each(asked), strict=True):
            out[method][name, world] = share(caught, stratum.counts(cases.units))
    return out


def _difference(
    ours: Mapping[tuple[str, int], Floats], theirs: Mapping[tuple[str, int], Floats]
) -> Floats | None:
    """Mean over attacks of the mean over worlds, ours less theirs, over what both were measured on."""
    by_attack: dict[str, list[int]] = {}
    for attack, world in ours:
        if (attack, world) in theirs:
            by_attack.setdefault(attack, []).append(world)
    if not by_attack:
        return None
    mine, other = (
        np.stack([mean_known(np.stack([of[a, w] for w in worlds]), 0) for a, worlds in by_attack.items()])
        for of in (ours, theirs)
    )
    out: Floats = mean_known(mine, 0) - mean_known(other, 0)
    return out


Shares = dict[tuple[str, int], Mean]  # (attack, world) -> share in every draw


def _detections(
    told: Mapping[str, Sequence[Told | None]], names: Sequence[str], budget: float, seed: int, draws: int
) -> dict[str, Shares]:
    """The same of the first batch, with how many examinations are behind: for where hardly any is missed."""
    out: dict[str, Shares] = {m: {} for m in told}
    for world in range(max((len(w) for w in told.values()), default=0)):
        cells = {m: w[world] for m, w in told.items() if world < len(w)}
        stratum = stratum_of(cells, world, names, seed, draws)
        for method, cell in cells.items() if stratum is not None else ():
            if cell is None or stratum is None:
                continue
            thresholds = stratum.thresholds(cell.calibrate, (budget,))
            for name in names if budget in thresholds else ():
                mean = Mean.empty(draws)
                add_detection(mean, world, stratum, cell, name, thresholds[budget])
                if mean.units:
                    out[method][name, world] = mean
    return out


def _mean(shares: Shares, keys: Sequence[tuple[str, int]]) -> Mean | None:
    """Of each attack over its worlds, then over the attacks."""
    by_attack: dict[str, Mean] = {}
    for attack, world in keys:
        one = shares[attack, world]
        into = by_attack.setdefault(attack, Mean.empty(len(one.total) - 1))
        into.total += one.total
        into.known += one.known
        into.units += one.units
        into.hits |= one.hits
        into.misses |= one.misses
        into.worlds.add(world)
    return mean_of(list(by_attack.values()))


def _told(batches: Sequence[Floats], ours: Shares, theirs: Shares) -> tuple[Interval, float] | None:
    """Interval and p-value of the difference, all batches together."""
    common = [key for key in ours if key in theirs]
    mine, other = _mean(ours, common), _mean(theirs, common)
    if not batches or mine is None or other is None:
        return None
    drawn: Floats = np.concatenate([batches[0][:1], *(b[1:] for b in batches)])
    told = interval(drawn)
    if mine.few or other.few:
        told = widened(told, *newcombe(mine.interval(), other.interval()))
    return told, two_sided(drawn)


def newcombe(mine: Interval, other: Interval) -> tuple[float, float]:
    """Interval of a difference from the intervals of both: square and add (Newcombe, Stat Med 17:873, 1998).

    Taken as independent, which is wider than what is paired where both tend to hit the same.
    """
    difference = mine.value - other.value
    low = difference - math.hypot(mine.value - mine.low, other.high - other.value)
    high = difference + math.hypot(mine.high - mine.value, other.value - other.low)
    return max(-1.0, low), min(1.0, high)
