"""Attacked commands inside otherwise clean, later, whole examinations: made once, shown to every detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scanward.commands import Examination, Judgement
from scanward.learning.baselines import Tuned
from scanward.learning.benchmark.cases import Case, cases_of
from scanward.learning.evaluate import Judging, Threshold, alerts, learned, objects
from scanward.learning.resampling import Floats, per_unit
from scanward.simulation.oracle import Oracle

Attacked, attacked = (
    Case,
    cases_of,
)  # one making of attacked commands for the product's benchmark and for these


Found = dict[str, list[bool]]


def judged(judge: Judging, cases: Sequence[Attacked]) -> tuple[Found, list[list[Judgement]]]:
    """Whether the attacked command is caught: by the whole judge, the calibrated number, the rules."""
    found: Found = {"ours": [], "learned": [], "rules": []}
    kept: list[list[Judgement]] = []
    for case in cases:
        all_of = judge.judge_all(case.commands)
        mine = [all_of[i] for i in case.indices]
        kept.append(mine)
        found["ours"].append(any(alerts(j) for j in mine))
        found["learned"].append(any(learned(j, judge.budget) for j in mine))
        found["rules"].append(any(objects(j) for j in mine))
    return found, kept


def seen_by_oracle(oracle: Oracle, threshold: Threshold, cases: Sequence[Attacked]) -> list[bool]:
    """The same of the oracle."""
    out = []
    for case in cases:
        scores = oracle.scores(Examination("", case.commands))
        out.append(any(threshold.alerts(scores[i]) for i in case.indices))
    return out


def seen_by_baseline(baseline: Tuned, threshold: Threshold, cases: Sequence[Attacked]) -> list[bool]:
    """The same of a baseline, which judges every command by itself."""
    scores = baseline.score([case.commands[i] for case in cases for i in case.indices])
    out, at = [], 0
    for case in cases:
        out.append(any(threshold.alerts(s) for s in scores[at : at + len(case.indices)]))
        at += len(case.indices)
    return out


def baseline_threshold(baseline: Tuned, calibrate: Sequence[Examination], budget: float) -> Threshold:
    """The conformal threshold of a baseline on the calibration examinations that everybody uses."""
    scores = baseline.score([c for e in calibrate for c in e.commands])
    grouped, at = [], 0
    for examination in calibrate:
        grouped.append(scores[at : at + len(examination.commands)])
        at += len(examination.commands)
    return Threshold.of(grouped, budget)


def summed(units: int, cases: Sequence[Attacked], hits: Sequence[bool]) -> Floats:
    """Hits of each test examination, shape (units,)."""
    return per_unit(units, [c.unit for c in cases], [float(h) for h in hits])


def clean_alerts(judge: Judging, test: Sequence[Examination]) -> dict[str, list[bool]]:
    """Of each clean examination: whether anything in it alerts, by any layer, by the rules, by the number."""
    out: dict[str, list[bool]] = {"any": [], "rules": [], "learned": []}
    for examination in test:
        all_of = judge.judge_all(examination.commands)
        out["any"].append(any(alerts(j) for j in all_of))
        out["rules"].append(any(objects(j) for j in all_of))
        out["learned"].append(any(learned(j, judge.budget) for j in all_of))
    return out


Progress = Callable[[str], None]
