"""Every figure of one level, from what each method told: ``level_figures``. Definitions: docs/benchmark-figures.md.

An examination is the unit. A draw of the bootstrap draws each world's test examinations and calibration examinations
anew, within the world (worlds are strata); the figure of a draw is the mean over worlds, each counting equally. The
draws are the same for every method, so that differences are paired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanward.learning.benchmark.answers import Floats, Told
from scanward.learning.benchmark.curves import (
    DRAWS,
    FALSE_ALERTS,
    areas,
    perfect_aupr,
    perfect_auroc,
    ranked,
    roc,
)
from scanward.learning.benchmark.drawn import (
    Mean,
    Stratum,
    add_detection,
    alerted,
    mean_of,
    share,
    strangest,
    widened,
)
from scanward.learning.benchmark.harm import HARMS, Effects, add_missed
from scanward.learning.resampling import RESAMPLES, Interval, exact, interval

BUDGETS = (0.005, 0.001)  # the first is the primary one
ALERTS_WANTED = 30  # false alerts that a budget below the primary one should meet among the clean commands
PREVALENCES = (0.5, 0.1, 0.01)
ASKED = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # budgets of the calibration figure
NULL, KNOWN, HELD_OUT, CURVE = "null", "known", "held out", "curve"
COUNTED = (KNOWN, HELD_OUT)  # groups that means are over


@dataclass(frozen=True)
class AttackFacts:
    """What is told of an attack. ``group``: null, known, held out or curve; ``factor``: of a curve's dose."""

    group: str
    family: str
    about: str = ""
    factor: float | None = None


def level_figures(
    level: str,
    told: Mapping[str, Sequence[Told | None]],
    groups: Mapping[str, AttackFacts],
    effects: Sequence[Effects],
    *,
    budgets: Sequence[float] = BUDGETS,
    ceiling: str | None = None,
    seed: int = 0,
    worlds: Sequence[str] = (),
    simulated: bool = True,
    draws: int = RESAMPLES,
) -> dict[str, Any]:
    """All figures of one level, JSON values alone.

    Parameters
    ----------
    told : method -> what it told of each world, None where it was not measured (such worlds are left out of its
        means; a method measured nowhere is left out)
    groups : of every attack
    effects : of each world: attack -> arrays of length M, "unit" and the fields of ``simulation.effects.Effect``
    budgets : shares of clean examinations that may alert, the primary one first
    ceiling : the method that others are compared with as a share; None: no such figures
    worlds : names; empty: numbered
    simulated : whether any world is, for the report
    draws : of the bootstrap

    Raises
    ------
    LearningError
        When answers and effects are of different cases, or a calibration score is no number.
    """
    count = max((len(w) for w in told.values()), default=0)
    measured = {m: _Measured(m, draws) for m, w in told.items() if any(t is not None for t in w)}
    totals: Counter[str] = Counter()
    for world in range(count):
        cells = {m: t for m, w in told.items() if world < len(w) and (t := w[world]) is not None}
        if not cells:
            continue
        units = max(t.units for t in cells.values())
        totals["examinations"] += units
        totals["commands"] += max(len(t.clean_scores) for t in cells.values())
        stratum = Stratum(units, draws, (seed, world))
        for method, cell in cells.items():
            of = effects[world] if world < len(effects) else {}
            measured[method].add(world, stratum, cell, groups, of, budgets)
    methods = {
        m: one.told(groups, budgets, measured.get(ceiling) if ceiling else None, m == ceiling)
        for m, one in measured.items()
    }
    return {
        "level": level,
        "worlds": list(worlds) or [f"world {w + 1}" for w in range(count)],
        "simulated": simulated,
        "examinations": totals["examinations"],
        "commands": totals["commands"],
        "calibration": _calibration(told, count),
        "attacks": _attacks(told, groups, effects),
        "methods": methods,
    }


def _calibration(told: Mapping[str, Sequence[Told | None]], count: int) -> list[int]:
    """Calibration examinations of each world, as most methods have them."""
    out = []
    for world in range(count):
        sizes = Counter(
            len(t.calibrate) for w in told.values() if world < len(w) and (t := w[world]) is not None
        )
        out.append(max(sizes, key=lambda n: (sizes[n], n)) if sizes else 0)
    return out


def _attacks(
    told: Mapping[str, Sequence[Told | None]], groups: Mapping[str, AttackFacts], effects: Sequence[Effects]
) -> dict[str, Any]:
    """Of each attack: how many cases, in how many examinations, and what they do (medians over all cases)."""
    out: dict[str, Any] = {}
    for name, facts in groups.items():
        cases = examinations = 0
        for world in range(max((len(w) for w in told.values()), default=0)):
            units = [
                t.attacks[name].units
                for w in told.values()
                if world < len(w) and (t := w[world]) is not None and name in t.attacks
            ]
            longest = max(units, key=len, default=np.zeros(0, np.int64))
            cases, examinations = cases + len(longest), examinations + len(np.unique(longest))
        if not cases:
            continue
        of = [world[name] for world in effects if name in world]
        out[name] = {
            "group": facts.group,
            "family": facts.family,
            "about": facts.about,
            "cases": cases,
            "examinations": examinations,
            **{
                f: _median(of, f)
                for f in ("dose_factor", "extra_dlp", "tissue_mm", "motion_mm", "motion_deg")
            },
            "image_lost": _mean(of, "image_lost"),
            **({"factor": facts.factor} if facts.factor is not None else {}),
        }
    return out


def _known(of: Sequence[Mapping[str, Floats]], name: str) -> Floats:
    values = [np.asarray(o[name], np.float64) for o in of if name in o]
    joined = np.concatenate(values) if values else np.zeros(0)
    out: Floats = joined[np.isfinite(joined)]
    return out


def _median(of: Sequence[Mapping[str, Floats]], name: str) -> float | None:
    values = _known(of, name)
    return round(float(np.median(values)), 6) if len(values) else None


def _mean(of: Sequence[Mapping[str, Floats]], name: str) -> float | None:
    values = _known(of, name)
    return round(float(values.mean()), 6) if len(values) else None


Shown = dict[str, float | None]


def as_json(told: Interval | None) -> Shown | None:
    """Six decimals; null where nothing was measured."""
    if told is None or not np.isfinite(told.value):
        return None
    return {k: None if v is None else round(v, 6) for k, v in told.as_json().items()}


def of_mean(mean: Mean | None) -> Shown | None:
    """A share with its interval; null where nothing was measured."""
    return as_json(mean.interval()) if mean is not None and mean.units else None


class _Measured:
    """What one method told, world after world, as means in every draw."""

    def __init__(self, name: str, draws: int) -> None:
        self.name = name
        self.draws = draws
        self.shares: dict[tuple[Any, ...], Mean] = {}
        self.cells = self.commands = 0
        self.expressed: Counter[float] = Counter()
        self.microseconds: list[float] = []
        self.clean_units: list[int] = []

    def mean(self, *key: Any, draws: int | None = None) -> Mean:
        """The mean of that name, made on first use."""
        if key not in self.shares:
            self.shares[key] = Mean.empty(self.draws if draws is None else draws)
        return self.shares[key]

    def add(
        self,
        world: int,
        stratum: Stratum,
        told: Told,
        groups: Mapping[str, AttackFacts],
        effects: Effects,
        budgets: Sequence[float],
    ) -> None:
        """One world's cell."""
        self.cells += 1
        self.commands += len(told.clean_scores)
        if (spent := told.facts.get("microseconds")) is not None:
            self.microseconds.append(float(spent))
        if not len(told.clean_scores):
            return
        thresholds = stratum.thresholds(told.calibrate, tuple(dict.fromkeys((*budgets, *ASKED))))
        self.expressed.update(b for b in budgets if b in thresholds)
        top, ruled = strangest(told, stratum.units)
        present = np.unique(told.clean_units)
        top, ruled = top[present], ruled[present]
        self.clean_units.append(len(present))
        for asked in ASKED:
            if asked in thresholds:
                self._false("calibration", asked, world, stratum, (top, ruled, present), thresholds[asked])
        mine = [a for a in told.attacks if a in groups and len(told.attacks[a].units)]
        for budget in budgets:
            if budget not in thresholds:
                continue
            at = thresholds[budget]
            self._false("examinations", budget, world, stratum, (top, ruled, present), at)
            self._commands(budget, world, stratum, told, at)
            for attack in mine:
                if groups[attack].group != CURVE:
                    add_detection(self.mean("detection", budget, attack), world, stratum, told, attack, at)
        counted = [a for a in mine if groups[a].group in COUNTED]
        if budgets and budgets[0] in thresholds:
            harms = {kind: self.mean("harm", kind) for kind in HARMS}
            add_missed(harms, world, stratum, told, counted, effects, thresholds[budgets[0]])
        if counted:
            self._curves(world, stratum, told, counted)

    def _false(
        self, what: str, budget: float, world: int, stratum: Stratum, of: tuple[Any, Any, Any], at: Floats
    ) -> None:
        scores, objects, units = of
        caught = stratum.caught(scores, objects, units, at)
        hit = alerted(scores, objects, at)
        self.mean(what, budget).add(world, share(caught, stratum.counts(units)), units, hit)

    def _commands(self, budget: float, world: int, stratum: Stratum, told: Told, at: Floats) -> None:
        """False alerts by command, and how many for 1,000 examinations."""
        caught = stratum.caught(told.clean_scores, told.clean_objects, told.clean_units, at)
        hit = alerted(told.clean_scores, told.clean_objects, at)
        # An examination in which any command alerts is a hit: commands of one hang together.
        units = np.unique(told.clean_units)
        any_hit = np.isin(units, told.clean_units[hit])
        self.mean("commands", budget).add(
            world, share(caught, stratum.counts(told.clean_units)), units, any_hit
        )
        self.mean("holds", budget).add(world, 1000 * share(caught, stratum.counts(units)), units, any_hit)

    def _curves(self, world: int, stratum: Stratum, told: Told, names: Sequence[str]) -> None:
        ranks = ranked(told, names)
        auroc, aupr = areas(stratum, told, ranks, PREVALENCES)
        draws = min(DRAWS, stratum.draws)
        units = np.concatenate([told.attacks[n].units for n in names])
        for name, drawn in zip(names, auroc, strict=True):
            mine = told.attacks[name].units
            self.mean("auroc", name, draws=draws).add(world, drawn, mine, np.ones(len(mine), np.bool_))
        for prevalence, drawn in aupr.items():
            self.mean("aupr", prevalence, draws=draws).add(world, drawn, units, np.ones(len(units), np.bool_))
        for k, drawn in enumerate(roc(stratum, told, ranks)):
            self.mean("roc", k, draws=draws).add(world, drawn, units, np.ones(len(units), np.bool_))

    # --- after the last world

    def usable(self, budget: float, primary: float) -> bool:
        """Whether a budget is measured: every world can express it, and clean commands enough show it."""
        enough = budget == primary or self.commands * budget >= ALERTS_WANTED * (1 - 1e-9)
        return enough and self.cells > 0 and self.expressed[budget] == self.cells

    def attacks(
        self, what: tuple[Any, ...], groups: Mapping[str, AttackFacts], wanted: Sequence[str]
    ) -> dict[str, Mean]:
        """Means of the attacks of these groups that were measured, in the order of ``groups``."""
        found = {a: self.shares.get((*what, a)) for a, facts in groups.items() if facts.group in wanted}
        return {a: m for a, m in found.items() if m is not None and m.units}

    def told(
        self,
        groups: Mapping[str, AttackFacts],
        budgets: Sequence[float],
        ceiling: _Measured | None,
        is_it: bool,
    ) -> dict[str, Any]:
        """The method's part of the results, as the report reads it."""
        primary = budgets[0]
        usable = [b for b in budgets if self.usable(b, primary)]
        auroc = self.attacks(("auroc",), groups, COUNTED)
        return {
            "worlds": self.cells,
            "clean": {f"{b:g}": self._clean(b, groups) if b in usable else None for b in budgets},
            "detection": {f"{b:g}": self._detection(b, groups) if b in usable else None for b in budgets},
            "of_ceiling": None
            if ceiling is None or is_it
            else {
                f"{b:g}": self._of_ceiling(b, groups, ceiling)
                if b in usable and ceiling.usable(b, primary)
                else None
                for b in budgets
            },
            "auroc": {
                "mean": as_json(self._area(mean_of(list(auroc.values())))),
                "attacks": {a: as_json(self._area(m)) for a, m in auroc.items()},
            },
            "aupr": {f"{p:g}": as_json(self._aupr(p)) for p in PREVALENCES},
            "f1": {f"{p:g}": as_json(self._f1(p, primary, groups)) if usable else None for p in PREVALENCES},
            "missed_harm": {kind: of_mean(self.shares.get(("harm", kind))) for kind in HARMS},
            "roc": self._roc(),
            "calibration": self._asked(),
            "microseconds": round(float(np.median(self.microseconds)), 3) if self.microseconds else None,
        }

    def _clean(self, budget: float, groups: Mapping[str, AttackFacts]) -> dict[str, Any]:
        null = list(self.attacks(("detection", budget), groups, (NULL,)).values())
        return {
            "examinations": of_mean(self.shares.get(("examinations", budget))),
            "commands": of_mean(self.shares.get(("commands", budget))),
            "null": of_mean(mean_of(null)),
            "holds_per_1000": as_json(self._holds(budget)),
        }

    def _holds(self, budget: float) -> Interval:
        """Where hardly any alert: as many examinations as the exact interval allows, each as often as those seen."""
        holds, share_of = self.shares[("holds", budget)], self.shares[("examinations", budget)]
        told = interval(holds.draws)
        if not holds.few:
            return told
        low, high = exact(share_of.draws[0] * share_of.effective, share_of.effective)
        each = max(1.0, told.value / (1000 * share_of.draws[0])) if share_of.draws[0] > 0 else 1.0
        return widened(told, 1000 * low * each, 1000 * high * each)

    def group(self, budget: float, groups: Mapping[str, AttackFacts], wanted: Sequence[str]) -> Mean | None:
        """Mean detection over the attacks of these groups."""
        return mean_of(list(self.attacks(("detection", budget), groups, wanted).values()))

    def _detection(self, budget: float, groups: Mapping[str, AttackFacts]) -> dict[str, Any]:
        return {
            "mean": of_mean(self.group(budget, groups, COUNTED)),
            KNOWN: of_mean(self.group(budget, groups, (KNOWN,))),
            HELD_OUT: of_mean(self.group(budget, groups, (HELD_OUT,))),
            "attacks": {
                a: of_mean(m) for a, m in self.attacks(("detection", budget), groups, COUNTED).items()
            },
        }

    def _of_ceiling(
        self, budget: float, groups: Mapping[str, AttackFacts], ceiling: _Measured
    ) -> dict[str, Any]:
        """Detection as a share of the ceiling's, over attacks that both met in the same worlds."""
        mine = self.attacks(("detection", budget), groups, COUNTED)
        best = ceiling.attacks(("detection", budget), groups, COUNTED)
        both = [a for a in mine if a in best and mine[a].worlds == best[a].worlds]

        def of(wanted: Sequence[str]) -> Shown | None:
            names = [a for a in both if groups[a].group in wanted]
            return as_json(_quotient(mean_of([mine[a] for a in names]), mean_of([best[a] for a in names])))

        return {
            "mean": of(COUNTED),
            KNOWN: of((KNOWN,)),
            HELD_OUT: of((HELD_OUT,)),
            "attacks": {a: as_json(_quotient(mine[a], best[a])) for a in both},
        }

    def _area(self, mean: Mean | None) -> Interval | None:
        if mean is None:
            return None
        told = interval(mean.draws)
        whole = min(self.clean_units, default=0) * len(self.clean_units)
        bound = perfect_auroc(int(mean.effective), whole)
        return widened(told, bound) if told.value == 1 else told

    def _aupr(self, prevalence: float) -> Interval | None:
        mean = self.shares.get(("aupr", prevalence))
        if mean is None or not mean.units:
            return None
        told = interval(mean.draws)
        clean = min(self.clean_units) * len(self.clean_units)
        return widened(told, perfect_aupr(prevalence, clean)) if told.value >= 1 - 1e-12 else told

    def _f1(self, prevalence: float, primary: float, groups: Mapping[str, AttackFacts]) -> Interval | None:
        """F1 of the alert rule in the mix; monotone in both rates, so their own intervals bound it where few alert."""
        found, false = self.group(primary, groups, COUNTED), self.shares.get(("commands", primary))
        if found is None or false is None or not false.units:
            return None
        told = interval(f1(found.draws, false.draws, prevalence))
        if not (found.few or false.few):
            return told
        a, b = found.interval(), false.interval()
        ends = f1(np.array([a.low, a.high]), np.array([b.high, b.low]), prevalence)
        return widened(told, *ends.tolist())

    def _roc(self) -> dict[str, Any]:
        means = [self.shares.get(("roc", k)) for k in range(len(FALSE_ALERTS))]
        told = [_end(m) if m is not None and m.units else None for m in means]
        return {
            "false_alerts": list(FALSE_ALERTS),
            "detection": [None if t is None else round(t.value, 6) for t in told],
            "low": [None if t is None else round(t.low, 6) for t in told],
            "high": [None if t is None else round(t.high, 6) for t in told],
        }

    def _asked(self) -> dict[str, Any]:
        known = [
            a for a in ASKED if (m := self.shares.get(("calibration", a))) and len(m.units) == self.cells
        ]
        return {"asked": known, "observed": [of_mean(self.shares[("calibration", a)]) for a in known]}


def f1(found: Floats, false: Floats, prevalence: float) -> Floats:
    """2 TP / (2 TP + FP + FN) with TP = p TPR, FN = p (1 - TPR), FP = (1 - p) FPR."""
    return share(2 * prevalence * found, prevalence * found + (1 - prevalence) * false + prevalence)


def _end(mean: Mean) -> Interval:
    """At 0 and at 1 the exact interval: there the bootstrap has none."""
    told = interval(mean.draws)
    ended = told.value <= 1e-12 or told.value >= 1 - 1e-12
    return widened(told, *exact(round(told.value) * mean.effective, mean.effective)) if ended else told


def _quotient(mine: Mean | None, best: Mean | None) -> Interval | None:
    """Share of the ceiling in every draw; where few are missed, no narrower than their own intervals allow."""
    if mine is None or best is None or not best.draws[0] > 0:
        return None
    told = interval(share(mine.draws, best.draws))
    if not (mine.few or best.few):
        return told
    a, b = mine.interval(), best.interval()
    return widened(told, a.low / b.high, a.high / b.low if b.low > 0 else told.high)
