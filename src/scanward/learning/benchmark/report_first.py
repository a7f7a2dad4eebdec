"""The first page: who is first, by how much, at what false alerts, what was not reached, what is simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from scanward.learning.benchmark.report_blocks import (
    NONE,
    Block,
    Heading,
    Items,
    Paragraph,
    Table,
    many,
    points,
    probability,
    rate,
    share,
)
from scanward.learning.benchmark.report_view import (
    Interval,
    LevelView,
    View,
    interval,
    mapping,
    mappings,
    number,
    percents,
    text,
)
from scanward.learning.benchmark.worlds import Level

MEAN_AIM, EACH_AIM = 0.95, 0.90  # of the oracle, at recurring protocols


def first_page(view: View) -> Iterator[Block]:
    """Title, standing, answers, aims, what is simulated."""
    mark = " - SIMULATED" if view.simulated else ""
    yield Heading(1, f"Scanward benchmark: anomalous scanner commands{mark}", "top")
    yield from _standing(view)
    yield Heading(2, "In short", "in-short")
    if view.main is None:
        yield Paragraph("Nothing was measured yet: there is no level with figures.", "warning")
        return
    yield Items(tuple(_answers(view, view.main)))
    yield from _false_alerts(view, view.main)
    yield from _elsewhere(view)
    yield from _aims(view)
    yield Heading(2, "What is simulated and what is not", "simulated")
    yield from _what_is_simulated(view)


def _standing(view: View) -> Iterator[Block]:
    if view.simulated:
        yield Paragraph(
            "SIMULATED: sites, patients, scanners and attacks come out of a simulator, unless a table says that its "
            "commands were recorded. What holds here need not hold at a real scanner.",
            "notice",
        )
    if not view.finished:
        yield Paragraph(
            f"Unfinished: {many(len(view.missing), 'cell')} of the plan (a method in a test of a world) not there yet. "
            "Every figure below is of what is there, and will change.",
            "warning",
        )
    if view.failed:
        names = list(dict.fromkeys(one.method for one in view.failed))
        yield Paragraph(
            f"{many(len(names), 'method')} gave no figures somewhere ({', '.join(names[:8])}"
            f"{' and others' if len(names) > 8 else ''}): the reasons stand under 'What gave no figures'.",
            "warning",
        )
    if not view.final:
        yield Paragraph(
            "Development run: these are the sites and attacks that Scanward is developed on. Nothing here is a "
            "result; the locked sites are opened with --final alone.",
            "warning",
        )
    yield Paragraph(
        "Scanward is not a medical device. A detected share is of attacks as they were made here; attackers may make "
        "others."
    )


# --- who is first


def _answers(view: View, main: LevelView) -> Iterator[tuple[str, str]]:
    where = f"at {main.name} ({main.set}, {main.mark}), at a budget of {main.percent} false alerts"
    yield "Who is first:", _place(view, main, where)
    yield "Primary comparison:", _primary(view)
    found = mapping(view.told.get("comparisons"), "comparisons")
    for row in mappings(found.get("others"), "comparisons"):
        if row.get("rules_included") is True:
            yield "The same, rules inside the budget:", _inside(row)
    first = found.get("first")
    if isinstance(first, bool):
        claimed = "is claimed: all of them hold" if first else "is NOT claimed: not all of them hold"
        yield (
            "First everywhere:",
            f"claimed only where every comparison at every level holds, corrected by Holm. It {claimed}.",
        )
    ceiling = main.detection(view.ceiling) if view.ceiling else None
    yield (
        "The ceiling:",
        (
            f"an oracle that knows the simulator detects {share(ceiling)}; {view.ours} detects "
            f"{share(main.of_ceiling(view.ours, 'mean'))} of what the oracle does."
            if ceiling
            else "not measured here."
        ),
    )


def _place(view: View, main: LevelView, where: str) -> str:
    """Who is first among those that met every attack in every world; others are told apart."""
    rivals = [n for n in view.ranked(main) if view.is_baseline(n) and main.detection(n) is not None]
    whole = [n for n in rivals if not view.partial(main, n)]
    ours = main.detection(view.ours)
    if ours is None:
        if not whole:
            return f"not told: no method was measured {where}."
        top = share(main.detection(whole[0]))
        return f"{whole[0]} of those measured, with {top} detected {where}; {view.ours} was not measured."
    told = f"{share(ours)} of attacked examinations {where}, mean over {many(len(main.attacks()), 'attack')}"
    parts = []
    if not whole:
        parts.append(f"{view.ours} detects {told}; no other method was measured whole.")
    else:
        place = 1 + sum(f.value > ours.value for n in whole if (f := main.detection(n)) is not None)
        best = f"{whole[0]} ({view.kind(whole[0]) or 'of a kind not told'})"
        found = f"{best} detects {share(main.detection(whole[0]))}"
        if place == 1:
            of = many(len(whole) + 1, "method")
            parts.append(
                f"{view.ours}, of {of}, by the mean alone: it detects {told}. The best baseline, {found}."
            )
        else:
            parts.append(
                f"NOT {view.ours}, which is number {place} of {len(whole) + 1} and detects {told}. {found}."
            )
    if rivals and rivals[0] not in whole:
        parts.append(
            f"Not ranked, since measured on a part of the attacks or worlds only: {rivals[0]}, with "
            f"{share(main.detection(rivals[0]))} there."
        )
    return " ".join(parts)


def _primary(view: View) -> str:
    told = view.primary
    if not told:
        return "none was made."
    named = (
        f"{text(told.get('what')) or 'named beforehand'} ({text(told.get('ours')) or view.ours} against "
        f"{text(told.get('against')) or NONE}; {text(told.get('endpoint'))}, {text(told.get('level'))})"
    )
    difference = interval(told.get("difference"), "primary comparison")
    if difference is None:
        return f"{named}: not measured."
    p = probability(number(told, "p"))
    shown = "shown" if told.get("claim") is True else "NOT shown"
    equals = p if p.startswith("<") else f"= {p}"
    return f"{named}: difference {points(difference)}, p {equals}; what was claimed beforehand is {shown}."


def _inside(told: Mapping[str, Any]) -> str:
    """The primary comparison at equal observed false alerts, objections of rules among them."""
    named = f"{text(told.get('ours'))} against {text(told.get('against'))}; {text(told.get('endpoint'))}"
    difference = interval(told.get("difference"), "comparisons")
    if difference is None:
        return f"{named}: not measured."
    p = probability(number(told, "p_holm"))
    equals = p if p.startswith("<") else f"= {p}"
    shown = "a lead is shown" if told.get("claim") is True else "a lead is NOT shown"
    return f"{named}: difference {points(difference)}, p {equals} (Holm); {shown}."


def _elsewhere(view: View) -> Iterator[Block]:
    """Levels other than the main one; where no threshold holds, methods at equal false alerts."""
    rows = []
    for level in view.levels:
        if level is view.main:
            continue
        ours = adapted if (adapted := f"{view.ours}, adapted") in level.methods else view.ours
        rivals = [n for n in level.methods if view.is_baseline(n) and not view.partial(level, n)]
        reached = {n: f for n in (ours, *rivals) if (f := level.matched(n)) is not None}
        best = max((n for n in rivals if n in reached), key=lambda n: reached[n].value, default=None)
        mine, rival = reached.get(ours), reached.get(best) if best else None
        if mine is None or rival is None:
            highest = NONE
        elif mine.value == rival.value:
            highest = "tied"
        else:
            highest = ours if mine.value > rival.value else f"NOT {view.ours}"
        alerted = level.alerted(ours)
        rows.append(
            (
                level.title,
                level.mark,
                f"{ours}: {share(mine)}",
                f"{best}: {share(rival)}" if best else NONE,
                highest,
                share(level.matched(view.ceiling)) if view.ceiling else NONE,
                rate(level.alerted(view.ours)),
                rate(alerted) if ours != view.ours else NONE,
                verdict_on(alerted, float(level.budget)),
            )
        )
    if rows:
        others = [one for one in view.levels if one is not view.main]
        mark = "SIMULATED where said" if any(one.simulated for one in view.levels) else "Recorded commands"
        yield Paragraph(
            "Elsewhere a threshold set beforehand promises nothing, and whoever alerts on everything detects all. "
            f"So methods are compared where {percents(others)} of the clean test examinations alert, by a threshold "
            "found on the test itself; beside it stands how many alert at the threshold that was set beforehand."
        )
        yield Table.of(
            f"Elsewhere, where {percents(others)} of clean examinations alert. {mark}",
            (
                "level", "origin", "ours, detected", "best baseline", "higher of the two", "ceiling",
                f"{view.ours}: clean alerted at the threshold set beforehand", "adapted: the same", "verdict",
            ),
            rows,
            words=(1, 2, 3, 4, 8),
        )  # fmt: skip


# --- at what false alerts


def verdict_on(found: Interval | None, budget: float) -> str:
    """An observed rate beside its budget."""
    if found is None:
        return "not measured"
    if found.value <= budget:
        return "within the budget"
    if math.isnan(found.low):
        return "ABOVE the budget"
    if found.low <= budget:
        return "above the budget, by no more than chance explains"
    return "ABOVE the budget, by more than chance explains"


def _false_alerts(view: View, main: LevelView) -> Iterator[Block]:
    rows = []
    for method in dict.fromkeys((view.ours, view.best_baseline(main), view.ceiling)):
        if not method or method not in main.methods:
            continue
        for budget in main.budgets:
            found = main.alerted(method, budget)
            rows.append(
                (
                    method,
                    f"{100 * float(budget):g} %",
                    rate(found),
                    verdict_on(found, float(budget)),
                    share(main.detection(method, budget)),
                )
            )
    yield Table.of(
        f"Observed false alerts: {main.title}. {main.mark}",
        ("method", "budget", "clean examinations that alerted", "verdict", "attacks detected, mean"),
        rows,
        words=(3,),
    )


# --- aims


def _aims(view: View) -> Iterator[Block]:
    yield Heading(2, "Aims, and what was not reached", "aims")
    yield Paragraph(
        "Set before this benchmark was run: at recurring protocols and 0.5 % false alerts, at least 95 % of what the "
        "oracle detects on average, at least 90 % of it on every attack, and observed false alerts within the budget."
    )
    recurring = [one for one in view.levels if one.name == Level.RECURRING.value]
    rows = [row for one in recurring for row in _aims_at(view, one)]
    if rows:
        mark = "SIMULATED where the row does not say otherwise" if view.simulated else "Recorded commands"
        yield Table.of(
            f"Aims of Scanward. {mark}",
            ("set", "aim", "found", "reached"),
            rows,
            words=(1, 2, 3),
        )
    else:
        yield Paragraph("No aim can be told: recurring protocols were not measured.", "warning")
    hard = [one for one in view.levels if one.name != Level.RECURRING.value]
    if hard:
        yield Paragraph(
            "At new protocols, new scanner models and after software updates no promise of a false-alert rate is made: "
            "examinations there are not like those calibrated on. Their observed rates stand above and below."
        )


def _aims_at(view: View, level: LevelView) -> Iterator[tuple[str, str, str, str]]:
    name = f"{level.set} ({level.mark})"
    alerted = level.alerted(view.ours)
    over = "not measured" if alerted is None else f"NOT reached: {verdict_on(alerted, float(level.budget))}"
    within = alerted is not None and alerted.value <= float(level.budget)
    yield name, f"observed false alerts within {level.percent}", rate(alerted), "reached" if within else over
    if not level.simulated:
        return  # nobody knows the laws of a real scanner: there is no oracle
    mean = level.of_ceiling(view.ours, "mean")
    yield name, "95 % of the oracle on average", share(mean), reached(mean, MEAN_AIM)
    found = {n: level.of_ceiling(view.ours, "attacks", n) for n in level.attacks()}
    told = {n: f for n, f in found.items() if f is not None}
    below = sorted((n for n, f in told.items() if f.value < EACH_AIM), key=lambda n: (told[n].value, n))
    aim = "90 % of the oracle on every attack"
    if not told:
        yield name, aim, NONE, "not measured"
    else:
        lowest = min(told, key=lambda n: (told[n].value, n))
        missing = f"; {len(found) - len(told)} not measured" if len(told) < len(found) else ""
        what = (
            f"below it: {', '.join(f'{n} {share(told[n], bare=True)}' for n in below)}"
            if below
            else f"lowest: {lowest} {share(told[lowest])}"
        )
        verdict = (
            f"NOT reached on {len(below)} of {len(told)}" if below else "not told" if missing else "reached"
        )
        yield name, aim, what + missing, verdict


def reached(found: Interval | None, aim: float) -> str:
    """Whether an aim was reached, and whether its interval is clear of it."""
    if found is None:
        return "not measured"
    if found.value < aim:
        return "NOT reached" if found.high < aim else "NOT reached, though within the interval"
    return "reached" if found.low >= aim else "reached; the interval holds less as well"


# --- what is simulated


def _what_is_simulated(view: View) -> Iterator[Block]:
    rows = []
    for told in mappings(view.told.get("worlds"), "worlds"):
        tests = mappings(told.get("tests"), "tests")
        rows.append(
            (
                text(told.get("name")),
                "SIMULATED" if told.get("simulated") is not False else "recorded",
                text(told.get("learn")),
                text(told.get("calibrate")),
                "; ".join(
                    f"{text(t.get('level'))}: {text(t.get('examinations'))} ({text(t.get('commands'))} commands)"
                    for t in tests
                ),
                text(told.get("about")),
            )
        )
    some = any(row[1] == "SIMULATED" for row in rows) or not rows
    yield Paragraph(
        "Simulated are, where a world says so: the sites with their protocols, patients, operators and scanners (their "
        "physics and automatic exposure control), and every attack. At recorded worlds the clean commands are real "
        "and the attacks are injected into them; no attack on a real patient was ever recorded. The methods, their "
        "learning and all arithmetic of the figures are the same for both."
    )
    yield Table.of(
        "Worlds; numbers are of examinations" + (". SIMULATED where said" if some else ""),
        ("world", "origin", "learned from", "calibrated on", "tests", "what it is"),
        rows,
        words=(1, 4, 5),
    )
