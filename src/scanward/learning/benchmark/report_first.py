"""The first page: who is first, by how much, at what false alerts, what was not reached, what is simulated."""

from __future__ import annotations

from collections.abc import Iterator

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
    PRIMARY_BUDGET,
    SECOND_BUDGET,
    Interval,
    LevelView,
    View,
    interval,
    mapping,
    number,
    text,
)
from scanward.learning.benchmark.worlds import Level

MEAN_AIM, EACH_AIM = 0.95, 0.90  # of the oracle, at recurring protocols: set before anything was measured
BUDGET = float(PRIMARY_BUDGET)


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
    rivals = [n for n in main.methods if view.is_baseline(n)]
    ranked = view.ranked(main, [n for n in [view.ours, *rivals] if main.detection(n) is not None])
    where = f"at {main.name} ({main.set}, {main.mark}), at a budget of {100 * BUDGET:g} % false alerts"
    if not ranked:
        yield "Who is first:", f"not told: no method has the primary endpoint {where}."
    else:
        yield "Who is first:", _place(view, main, ranked, len(rivals), where)
    yield "Primary comparison:", _primary(view)
    first = mapping(view.told.get("comparisons"), "comparisons").get("first")
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
            f"an oracle that knows the simulator detects {share(ceiling)}; Scanward detects "
            f"{share(main.of_ceiling(view.ours, 'mean'))} of what the oracle does."
            if ceiling
            else "not measured here."
        ),
    )
    for level in view.levels:
        if level is not main:
            yield f"Elsewhere, {level.title}:", _elsewhere(view, level)


def _place(view: View, main: LevelView, ranked: list[str], rivals: int, where: str) -> str:
    ours, best = main.detection(view.ours), next((n for n in ranked if n != view.ours), None)
    if ours is None:
        top = share(main.detection(ranked[0]))
        return f"{ranked[0]} of those measured, with {top} detected {where}; {view.ours} was not measured."
    place = 1 + sum(
        found.value > ours.value for n in ranked if n != view.ours and (found := main.detection(n))
    )
    told = f"{share(ours)} of attacked examinations {where}, mean over {many(len(main.attacks()), 'attack')}"
    if best is None:
        return f"{view.ours} detects {told}; no other method was measured."
    second = f"{best} ({view.kind(best) or 'of a kind not told'}) detects {share(main.detection(best))}"
    fewer = " on those attacks or worlds that it was measured on" if view.partial(main, best) else ""
    if place == 1:
        of = many(rivals + 1, "method")
        return f"{view.ours}, of {of}: it detects {told}. The highest of the others, {second}{fewer}."
    return f"not {view.ours}, which is number {place} of {rivals + 1} and detects {told}. {second}{fewer}."


def _primary(view: View) -> str:
    told = view.primary
    if not told:
        return "none was made."
    difference = interval(told.get("difference"), "primary comparison")
    if difference is None:
        return f"{_named(view)}: not measured."
    p = number(told, "p")
    if told.get("claim") is True:
        verdict = "the claim, written down before, is shown"
    else:
        verdict = "the claim, written down before, is NOT shown"
    return f"{_named(view)}: difference {points(difference)}, p {_equals(p)}; {verdict}."


def _named(view: View) -> str:
    told = view.primary
    return (
        f"{text(told.get('ours')) or view.ours} against {text(told.get('against')) or NONE}, "
        f"{text(told.get('what')) or text(told.get('endpoint'))}"
    )


def _equals(p: float | None) -> str:
    found = probability(p)
    return found if found.startswith("<") else f"= {found}"


def _elsewhere(view: View, level: LevelView) -> str:
    ranked = [n for n in view.ranked(level) if level.detection(n) is not None]
    rivals = [n for n in ranked if view.is_baseline(n)]
    ours = level.detection(view.ours)
    if ours is None or not ranked:
        return f"{view.ours} was not measured ({level.mark})."
    parts = [f"{view.ours} {share(ours)}"]
    if rivals:
        best = level.detection(rivals[0])
        assert best is not None
        parts.append(f"best baseline {rivals[0]} {share(best)}")
        parts.append(
            "Scanward is first among them" if ours.value >= best.value else "Scanward is NOT first among them"
        )
    of_ceiling = level.of_ceiling(view.ours, "mean")
    if of_ceiling:
        parts.append(f"{share(of_ceiling)} of the oracle")
    parts.append(
        f"clean examinations alerted {rate(level.alerted(view.ours))}, {verdict_on(level.alerted(view.ours), BUDGET)}"
    )
    return "; ".join(parts) + f" ({level.mark})."


# --- at what false alerts


def verdict_on(found: Interval | None, budget: float) -> str:
    """An observed rate beside its budget."""
    if found is None:
        return "not measured"
    if found.value <= budget:
        return "within the budget"
    if found.low <= budget:
        return "above the budget, by no more than chance explains"
    return "ABOVE the budget, by more than chance explains"


def _false_alerts(view: View, main: LevelView) -> Iterator[Block]:
    rows = []
    for method in dict.fromkeys((view.ours, view.best_baseline(main), view.ceiling)):
        if not method or method not in main.methods:
            continue
        for budget in (PRIMARY_BUDGET, SECOND_BUDGET):
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
        "Set before anything was measured: at recurring protocols and 0.5 % false alerts, at least 95 % of what the "
        "oracle detects on average, at least 90 % of it on every attack, and observed false alerts within the budget."
    )
    recurring = [one for one in view.levels if one.name == Level.RECURRING.value]
    rows = [row for one in recurring for row in _aims_at(view, one)]
    if rows:
        mark = "SIMULATED where the row does not say otherwise" if view.simulated else "recorded commands"
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
    alerted = level.alerted(view.ours)
    yield (
        name,
        "observed false alerts within 0.5 %",
        rate(alerted),
        "not measured"
        if alerted is None
        else "reached"
        if alerted.value <= BUDGET
        else f"NOT reached: {verdict_on(alerted, BUDGET)}",
    )


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
    for world in view.told.get("worlds") or ():
        told = mapping(world, "worlds")
        tests = [mapping(t, "tests") for t in told.get("tests") or ()]
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
