"""What follows the levels: calibration, smallest dose factor, comparisons, latency, tuning, failures, how to repeat."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from scanward.learning.benchmark import plots
from scanward.learning.benchmark.report_blocks import (
    NONE,
    Block,
    Code,
    Drawing,
    Heading,
    Items,
    Paragraph,
    Rows,
    Table,
    many,
    points,
    probability,
    rate,
    share,
    significant,
)
from scanward.learning.benchmark.report_first import verdict_on
from scanward.learning.benchmark.report_view import (
    FAILED,
    KIND_ORDER,
    Interval,
    LevelView,
    View,
    interval,
    mapping,
    mappings,
    number,
    numbers,
    sequence,
    text,
)

MOST_CELLS = 200  # that are not there and are named one by one
MANY_ROWS = 24  # above which a table is folded
DEEPEST = 4  # levels inside one another that are told of it
FACT_CHARS = 400  # of what learning told of one method in one world
FACTS = (
    "chosen",
    "front",
    "front chosen",
    "joined",
    "context",
    "adapted to",
    "shown families",
    "not learned",
)


def after_levels(view: View) -> Iterator[Block]:
    """Everything below the levels."""
    yield from _calibration(view)
    yield from _dose(view)
    yield from _comparisons(view)
    yield from _latency(view)
    yield from _tuning(view)
    yield from _failures(view)
    yield from _openings(view)
    yield from _reproduce(view)


# --- calibration


def _calibration(view: View) -> Iterator[Block]:
    yield Heading(2, "Calibration", "calibration")
    yield Paragraph(
        "One rule for every method: the threshold is the conformal quantile of the largest scores of calibration "
        "examinations that taught nothing. It promises that at most the budgeted share of clean examinations like "
        "those alerts. The unit is the examination."
    )
    rows = []
    for (name, _), which in view.sets.items():
        if any(mapping(m).get("calibration") for one in which for m in one.methods.values()):
            alt = "; ".join(
                f"{one.name}: {rate(one.alerted(view.ours))} alerted at a budget of {one.percent}"
                for one in which
            )
            yield Drawing(
                f"calibration-{which[0].key}",
                f"Observed false alerts against the budget: {name}. {which[0].mark}.",
                f"Observed false alerts against the budget, on two logarithmic axes. {view.ours} at {alt}",
                partial(plots.calibration, view, which),
            )
    for level in view.levels:
        for method in dict.fromkeys((view.ours, view.best_baseline(level), view.ceiling)):
            if not method or method not in level.methods:
                continue
            for budget in level.budgets:
                found = level.alerted(method, budget)
                rows.append(
                    (
                        level.title,
                        level.mark,
                        method,
                        f"{100 * float(budget):g} %",
                        rate(found),
                        rate(level.figure(method, "clean", budget, "commands")),
                        rate(level.figure(method, "clean", budget, "null")),
                        verdict_on(found, float(budget)),
                    )
                )
    yield Table.of(
        "Observed false alerts at every level" + (". SIMULATED where said" if view.simulated else ""),
        (
            "level", "origin", "method", "budget", "clean examinations alerted", "clean commands alerted",
            "null attack alerted", "verdict",
        ),
        rows,
        folded=len(rows) > MANY_ROWS,
        words=(1, 2, 7),
    )  # fmt: skip


# --- smallest dose factor


def _dose(view: View) -> Iterator[Block]:
    yield Heading(2, "Smallest dose factor caught", "dose")
    told = mappings(view.told.get("smallest"), "smallest")
    if not told:
        yield Paragraph("Not measured: no dose curves were planned or none is there yet.")
        return
    by_set: dict[tuple[str, bool], list[tuple[str, str, list[tuple[float, Interval]]]]] = {}
    rows = []
    for one in told:
        level = view.level_of(one)
        where = (
            (level.set, level.simulated) if level else (text(one.get("set")) or "all worlds", view.simulated)
        )
        name, method = level.name if level else text(one.get("level")), text(one.get("method"))
        curve = sorted(_curve(one.get("less")) + _curve(one.get("more")), key=lambda pair: pair[0])
        if curve and method in _drawn(view):
            by_set.setdefault(where, []).append((name, method, curve))
        mark = "SIMULATED" if where[1] else "recorded"
        rows.append((f"{name}, {where[0]}", mark, method, _smallest(one, "more"), _smallest(one, "less")))
    for i, ((name, simulated), found) in enumerate(by_set.items(), start=1):
        mark = "SIMULATED" if simulated else "Recorded commands, injected attacks"
        yield Drawing(
            f"dose-{i}",
            f"Detection against dose factor: {name}. {mark}.",
            "Curves of detection against dose factor. "
            + "; ".join(
                f"{r[2]}, {r[0]}: 95 % caught from {r[3]} and from {r[4]}" for r in rows if r[2] == view.ours
            ),
            partial(plots.dose, view, name, simulated, found),
        )
    yield Table.of(
        "Smallest factor caught with a probability of 95 %, interpolated"
        + (". SIMULATED where said" if view.simulated else ""),
        ("level", "origin", "method", "more dose, from", "less dose, from"),
        rows,
        folded=len(rows) > MANY_ROWS,
        words=(1, 2),
    )


def _drawn(view: View) -> list[str]:
    best = view.best_baseline(view.main) if view.main else None
    return [n for n in (view.ours, view.ceiling, best) if n]


def _curve(direction: Any) -> list[tuple[float, Interval]]:
    told = mapping(direction, "smallest")
    found = [interval(one, "smallest") for one in sequence(told.get("detection"), "smallest")]
    pairs = zip(numbers(told, "factors"), found, strict=False)
    return [(f, i) for f, i in pairs if i is not None and 0 < f < math.inf]


def _smallest(told: Mapping[str, Any], direction: str) -> str:
    side = mapping(told.get(direction), "smallest")
    if not side:
        return NONE
    tried = [f for f in numbers(side, "factors") if not math.isnan(f)]
    found = interval(side.get("at_95"), "smallest")
    if found is None:
        far = (max(tried) if direction == "more" else min(tried)) if tried else None
        return "not reached" + (f" up to x{far:g}" if far is not None else "")
    ends = [("beyond" if math.isnan(end) else f"x{end:.3g}") for end in (found.low, found.high)]
    return f"x{found.value:.3g} ({ends[0]} to {ends[1]})"


# --- comparisons


def _comparisons(view: View) -> Iterator[Block]:
    yield Heading(2, "Comparisons", "comparisons")
    told = mapping(view.told.get("comparisons"), "comparisons")
    method = text(told.get("method"))
    yield Paragraph(
        method
        or "Differences by paired bootstrap over examinations; one primary comparison, all others corrected by Holm."
    )
    if view.primary:
        yield Table.of(
            f"Primary comparison, one, fixed beforehand. {view.main.mark if view.main else ''}".strip(),
            ("what", "level", "endpoint", "ours", "against", "difference", "p", "claim"),
            [
                (
                    text(view.primary.get("what")),
                    *_compared(view.primary),
                    probability(number(view.primary, "p")),
                    _claim(view.primary),
                )
            ],
            words=(1, 2, 3, 4, 7),
        )
    rows = [
        (*_compared(one), probability(number(one, "p")), probability(number(one, "p_holm")), _claim(one))
        for one in mappings(told.get("others"), "comparisons")
    ]
    if rows:
        mark = "SIMULATED unless the level says otherwise" if view.simulated else "Recorded commands"
        yield Table.of(
            f"All other comparisons, p corrected by Holm (1979). {mark}",
            ("level", "endpoint", "ours", "against", "difference", "p", "Holm p", "claim"),
            rows,
            folded=len(rows) > MANY_ROWS,
            words=(1, 2, 3, 7),
        )


def _compared(told: Mapping[str, Any]) -> tuple[str, ...]:
    level = ", ".join(part for part in (text(told.get("level")), text(told.get("set"))) if part)
    return (
        level,
        text(told.get("endpoint")),
        text(told.get("ours")),
        text(told.get("against")),
        points(interval(told.get("difference"), "comparisons")),
    )


def _claim(told: Mapping[str, Any]) -> str:
    claim = told.get("claim")
    return NONE if not isinstance(claim, bool) else "shown" if claim else "not shown"


# --- latency


def _latency(view: View) -> Iterator[Block]:
    yield Heading(2, "Time for a command", "latency")
    level = view.main
    timed = level and [
        n for n in level.methods if number(mapping(level.methods[n]), "microseconds") is not None
    ]
    if not level or not timed:
        yield Paragraph("Not measured.")
        return
    machine = mapping(view.told.get("machine"), "machine")
    on = "; ".join(f"{k}: {_short(v)}" for k, v in machine.items())
    yield Drawing(
        "latency",
        f"Median time to judge one command, against mean detection at {level.percent}: {level.title}. {level.mark}.",
        "Marks of the median time for a command against mean detection. "
        + "; ".join(f"{n} {_time_of(level, n)}, {share(level.detection(n), bare=True)}" for n in view.shown),
        partial(plots.latency, view, level),
    )
    yield Paragraph(
        f"Each method in its own implementation, most of them not made for speed. Measured on: {on or NONE}."
    )


def _time_of(level: LevelView, name: str) -> str:
    found = number(mapping(level.methods.get(name)), "microseconds")
    return NONE if found is None else f"{significant(found)} µs"


# --- how methods were made


def _tuning(view: View) -> Iterator[Block]:
    yield Heading(2, "What was tuned on what", "tuning")
    yield Paragraph(
        "Every tuned method had four candidates, compared on commands spoilt at random in learning examinations held "
        "back for it; attack-trained methods on the attacks that they were shown. No method saw a test, and none that "
        "learns from clean commands alone saw an attack; but what Scanward is made of was decided by what it detects "
        "of the known attacks on development sites. What each chose in each world, with the score of every "
        "candidate, is in results.json; here is the first world's."
    )
    groups = []
    for kind in KIND_ORDER:
        rows = tuple(_facts(name, told) for name, told in view.about.items() if view.kind(name) == kind)
        if rows:
            groups.append(Rows(kind, rows))
    mark = ". SIMULATED worlds where their name says so" if view.simulated else ""
    yield Table(
        f"Methods: what they are and what tuning chose{mark}",
        ("method", "what it is", "world", "chosen", "seconds to learn"),
        tuple(groups),
        True,
        frozenset({1, 2, 3}),
    )


def _facts(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    worlds = mapping(told.get("facts"), "facts")
    world = next((w for w, facts in worlds.items() if mapping(facts)), "")
    facts = mapping(worlds.get(world), "facts")
    chosen = "; ".join(
        f"{key}: {_short(facts[key])}" for key in FACTS if facts.get(key) not in (None, {}, [])
    )
    seconds = facts.get("seconds")
    there = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return (
        name,
        text(told.get("about")),
        world,
        chosen or "nothing to tune",
        significant(number(facts, "seconds") if there else None),
    )


def _short(found: Any, depth: int = 0) -> str:
    if isinstance(found, str):
        told = found
    elif isinstance(found, Mapping | list | tuple) and depth > DEEPEST:
        told = "\N{HORIZONTAL ELLIPSIS}"
    elif isinstance(found, Mapping):
        told = ", ".join(f"{k} = {_short(v, depth + 1)}" for k, v in found.items())
    elif isinstance(found, list | tuple):
        told = f"[{', '.join(_short(v, depth + 1) for v in found)}]"
    else:
        told = json.dumps(found, ensure_ascii=False, default=str)
    return told if len(told) <= FACT_CHARS else f"{told[: FACT_CHARS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _failures(view: View) -> Iterator[Block]:
    yield Heading(2, "What gave no figures", "failed")
    rows = [
        (one.method, one.world, one.level, one.why.removeprefix(FAILED).lstrip(": ")) for one in view.failed
    ]
    if rows:
        yield Table.of(
            "Methods that failed, with the reason",
            ("method", "world", "level", "reason"),
            rows,
            folded=len(rows) > MANY_ROWS,
            words=(1, 2, 3),
        )
    else:
        yield Paragraph("No method failed.")
    if view.missing:
        yield Table.of(
            "Cells that are not there yet" + _some(len(view.missing)),
            ("method", "world", "level", "why"),
            [(m.method or NONE, m.world, m.level, m.why) for m in view.missing[:MOST_CELLS]],
            folded=True,
            words=(1, 2, 3),
        )


def _some(count: int) -> str:
    return f" (the first {MOST_CELLS} of {count})" if count > MOST_CELLS else ""


# --- openings, how to repeat


def _openings(view: View) -> Iterator[Block]:
    yield Heading(2, "Openings of the locked sites", "openings")
    told = mappings(view.told.get("openings"), "openings")
    yield Paragraph(
        "Final sites and held-out attacks are looked at once a release; every opening is logged, and the log stands in "
        "docs/results.md as well. "
        + (
            "This run opened them."
            if view.final
            else "This run did not open them: it is of development sites."
        )
    )
    keys = ("date", "version", "commit", "plan_sha256", "sites", "attacks", "why")
    if told:
        yield Table.of(
            "Openings so far",
            ("date (UTC)", "version", "commit", "plan", "sites", "held-out attacks", "why"),
            [tuple(_opening(one.get(k), k) for k in keys) for one in told],
            words=(1, 2, 3, 4, 6),
        )


def _opening(found: Any, key: str) -> str:
    if isinstance(found, list | tuple):
        return ", ".join(text(v) for v in found)
    return text(found)[:12] if key in ("commit", "plan_sha256") else text(found)


def _reproduce(view: View) -> Iterator[Block]:
    yield Heading(2, "How to reproduce", "reproduce")
    if command := text(view.told.get("command")):
        yield Code(command)
    plan = view.plan
    simulated = mappings(plan.get("simulated"), "plan")
    sites = sorted({text(one.get("seed")) for one in simulated})
    spreads = sorted({text(one.get("spread")) for one in simulated})
    recorded = [
        f"{text(one.get('name'))} (SHA-256 {text(one.get('sha256'))})"
        for one in mappings(plan.get("recorded"), "plan")
    ]
    facts = [
        ("SHA-256 of the plan:", text(view.told.get("plan_sha256")) or NONE),
        ("Size:", f"{text(view.told.get('size')) or NONE}; {'final' if view.final else 'development'}"),
        ("Seed of learning, cases and bootstrap:", text(plan.get("seed")) or NONE),
        ("Seeds of simulated sites:", ", ".join(sites) or NONE),
        ("Spreads of exposure control:", ", ".join(spreads) or NONE),
        ("Recordings:", "; ".join(recorded) or "none"),
        (
            "Attacks shown to attack-trained methods:",
            ", ".join(map(text, sequence(plan.get("shown"), "plan"))) or NONE,
        ),
        ("Budgets:", ", ".join(text(b) for b in sequence(plan.get("budgets"), "plan")) or NONE),
        ("Version:", text(plan.get("version")) or NONE),
    ]
    machine = mapping(view.told.get("machine"), "machine")
    facts += [(f"{key}:", _short(value)) for key, value in machine.items()]
    yield Items(tuple(facts))
    yield Paragraph(
        f"The same command in an empty folder makes the same figures; "
        f"{many(len(view.about), 'method')} and their answers are kept under cells/, from which `scanward benchmark "
        "report` writes this report again. Times are the only figures that change from run to run."
    )
