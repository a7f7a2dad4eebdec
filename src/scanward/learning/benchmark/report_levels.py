"""The figures of a level: methods by kind, attacks one by one, ranking, prevalences, harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from matplotlib.figure import Figure

from scanward.learning.benchmark import plots
from scanward.learning.benchmark.report_blocks import (
    NONE,
    Block,
    Drawing,
    Heading,
    Paragraph,
    Rows,
    Table,
    many,
    plain,
    rate,
    share,
    significant,
)
from scanward.learning.benchmark.report_view import (
    KIND_ORDER,
    NULL,
    SECOND_BUDGET,
    LevelView,
    View,
    mapping,
    number,
    percents,
    sequence,
    text,
)
from scanward.learning.benchmark.worlds import Level

PREVALENCES = ("0.5", "0.1", "0.01")
FEWER = "*"  # beside a method that was measured on a part only
FEWER_SAID = (
    f"{FEWER} measured on a part only: on the attacks that it was not shown while it learned, or in fewer worlds. Its "
    "mean is of something else than the others' and is no like-for-like comparison."
)
PUBLISHED = (
    "The published system reports F1 71.6 % for its context-free layer and 82.3-98.8 % with its context-sensitive "
    "layer (Mahler et al., 2022). These figures are NOT comparable with any here: neither the recordings nor the code "
    "were released, the mix of clean and anomalous commands, the anomalies themselves and the threshold's rule are "
    "others, and F1 changes with each of them. They stand here once, for orientation."
)


def sections(view: View) -> Iterator[Block]:
    """Every level: the primary one first and open, the others after it, their long tables folded."""
    yield Heading(2, "Levels side by side", "levels")
    yield from _side_by_side(view)
    yield Heading(2, "Detection against false alerts", "roc")
    yield Paragraph(
        "The threshold of each point is found on the test itself, so these curves say how well methods order commands; "
        "the figures of the tables use the threshold that calibration set beforehand. The axis is logarithmic, from "
        "0.01 % to 10 %, for beyond that nobody would keep an alert switched on."
    )
    for which in view.sets.values():
        if any(mapping(m).get("roc") for one in which for m in one.methods.values()):
            yield _panel("roc", view, which, partial(plots.roc, view, which), _roc_alt(view, which))
    for level in sorted(view.levels, key=lambda one: one is not view.main):
        yield Heading(2, f"{level.title[:1].upper()}{level.title[1:]}", f"level-{level.key}")
        yield from _level(view, level, open_=level is view.main)


def _side_by_side(view: View) -> Iterator[Block]:
    for simulated in (True, False):
        which = [one for one in view.levels if one.simulated is simulated]
        if not which or not view.shown:
            continue
        rows = [
            (level.title, level.mark, *(share(level.detection(m)) for m in view.shown)) for level in which
        ]
        yield Drawing(
            f"levels-{'simulated' if simulated else 'recorded'}",
            f"Mean detection at a budget of {percents(which)} at each level. {which[0].mark}. The methods: ours, the "
            "ceiling, and of each other kind the one that is best at the level of the primary comparison.",
            "Mean detection with intervals, level by level. "
            + "; ".join(f"{one.name}, {one.set}: {_told(view, one)}" for one in which),
            partial(plots.levels, view, which, simulated),
        )
        yield Table.of(
            f"Mean detection at a budget of {percents(which)}. {which[0].mark}",
            ("level", "origin", *(_starred(view, which[0], m) for m in view.shown)),
            rows,
            words=(1,),
        )


def _told(view: View, level: LevelView) -> str:
    """Ours, ceiling and best baseline in words, for who cannot see a plot."""
    names = [n for n in (view.ours, view.best_baseline(level), view.ceiling) if n]
    return ", ".join(f"{n} {share(level.detection(n), bare=True)}" for n in names if n in level.methods)


def _panel(
    kind: str, view: View, which: Sequence[LevelView], draw: Callable[[], Figure], alt: str
) -> Drawing:
    first = which[0]
    what = {
        "roc": "Detection against false alerts",
        "calibration": "Observed false alerts against the budget",
    }
    return Drawing(
        f"{kind}-{first.key}",
        f"{what[kind]}: {first.set}, {', '.join(one.name for one in which)}. {first.mark}.",
        alt,
        draw,
    )


def _roc_alt(view: View, which: Sequence[LevelView]) -> str:
    said = "; ".join(f"at {one.name} {_told(view, one)}" for one in which)
    what = "Curves of mean detection against false alerts from 0.01 % to 10 %"
    return f"{what}. With the calibrated threshold at {percents(which)}: {said}"


# --- one level


def _level(view: View, level: LevelView, *, open_: bool) -> Iterator[Block]:
    found = [level.told.get("examinations"), level.told.get("commands")]
    units = [text(u) for u in sequence(level.told.get("calibration"), "calibration")]
    yield Paragraph(
        f"{level.mark}. {text(found[0]) or NONE} clean test examinations with "
        f"{text(found[1]) or NONE} commands in {many(len(level.worlds), 'world')} ({'; '.join(level.worlds)}); "
        f"calibrated on {', '.join(units) or NONE} examinations; {many(len(level.attacks()), 'attack')}."
    )
    yield _methods(view, level, folded=not open_)
    if any(view.partial(level, m) for m in level.methods):
        yield Paragraph(FEWER_SAID)
    if level.attacks() or level.attacks(NULL):
        yield Drawing(
            f"attacks-{level.key}",
            f"Each attack at a budget of {level.percent}: {level.title}. {level.mark}.",
            _attacks_alt(view, level),
            partial(plots.attacks, view, level),
        )
        yield _attacks(view, level)
        yield _effects(level)
    yield _mixes(view, level, folded=not open_)
    if open_:
        yield Paragraph(PUBLISHED)
    yield _harm(view, level, folded=not open_)


def _grouped(view: View, level: LevelView, row: Callable[[str], tuple[str, ...]]) -> tuple[Rows, ...]:
    """Rows by kind, in each by the primary endpoint."""
    ranked = view.ranked(level)
    kinds = [*KIND_ORDER, *sorted({view.kind(n) for n in ranked} - set(KIND_ORDER))]
    groups = [(kind, [n for n in ranked if view.kind(n) == kind]) for kind in kinds]
    return tuple(
        Rows(kind or "of a kind not told", tuple(map(row, names))) for kind, names in groups if names
    )


def _starred(view: View, level: LevelView, method: str) -> str:
    return method + (FEWER if view.partial(level, method) else "")


def _exchangeable(level: LevelView) -> bool:
    """Whether shares of the oracle can be told: elsewhere it alone is calibrated on the test's own site."""
    return level.name == Level.RECURRING.value


def _methods(view: View, level: LevelView, *, folded: bool) -> Table:
    # The ceiling competes with nobody, and what was measured on a part only is no like for like.
    competing = [n for n in view.ranked(level) if n != view.ceiling and not view.partial(level, n)]
    of_oracle = _exchangeable(level)
    rank = {n: str(i) for i, n in enumerate(competing, start=1) if level.detection(n) is not None}

    def row(name: str) -> tuple[str, ...]:
        context = view.about.get(name, {}).get("context")
        return (
            _starred(view, level, name),
            rank.get(name, NONE),
            {True: "yes", False: "no"}.get(context, NONE) if isinstance(context, bool) else NONE,
            share(level.detection(name)),
            share(level.figure(name, "detection", level.budget, "known")),
            share(level.figure(name, "detection", level.budget, "held out")),
            *((share(level.of_ceiling(name, "mean")),) if of_oracle else ()),
            share(level.detection(name, SECOND_BUDGET)),
            rate(level.alerted(name)),
            rate(level.alerted(name, SECOND_BUDGET)),
            plain(level.figure(name, "clean", level.budget, "holds_per_1000"), 2),
            rate(level.figure(name, "clean", level.budget, "null")),
            plain(level.figure(name, "auroc", "mean")),
            significant(number(mapping(level.methods.get(name)), "microseconds")),
        )

    return Table(
        f"Methods by kind, in each by mean detection at {level.percent} (the primary endpoint): {level.title}. "
        f"{level.mark}",
        (
            "method", "rank", "sees context", "detected, mean", "known families", "held-out families",
            *(("of the oracle",) if of_oracle else ()), "detected at 0.1 %",
            f"clean alerted at {level.percent}", "clean alerted at 0.1 %",
            "false holds per 1,000", "null attack alerted", "AUROC, mean", "µs a command",
        ),
        _grouped(view, level, row),
        folded,
    )  # fmt: skip


def _order(level: LevelView) -> list[tuple[str, str]]:
    """(group, attack): null, known, held out."""
    return [(group, name) for group in (NULL, "known", "held out") for name in level.attacks(group)]


def _attacks(view: View, level: LevelView) -> Table:
    best, baselines = view.best_baseline(level), [n for n in level.methods if view.is_baseline(n)]
    of_oracle = _exchangeable(level)
    groups = []
    for group in (NULL, "known", "held out"):
        rows = []
        for name in level.attacks(group):
            each = {n: f for n in baselines if (f := level.caught(n, name)) is not None}
            top = min(each, key=lambda n: (-each[n].value, n)) if each else None
            rows.append(
                (
                    name,
                    share(level.caught(view.ours, name)),
                    share(level.caught(best, name)) if best else NONE,
                    share(level.caught(view.ceiling, name)) if view.ceiling else NONE,
                    *((_of_oracle(view, level, group, name),) if of_oracle else ()),
                    share(level.caught(view.ours, name, SECOND_BUDGET)),
                    plain(level.figure(view.ours, "auroc", "attacks", name)),
                    f"{top}: {share(each[top], bare=True)}" if top and group != NULL else NONE,
                )
            )
        if rows:
            title = (
                "null (nothing changed: a check of the construction)"
                if group == NULL
                else f"{group} families"
            )
            groups.append(Rows(title, tuple(rows)))
    return Table(
        f"Each attack, detected at a budget of {level.percent}: {level.title}. {level.mark}",
        (
            "attack", view.ours, f"best baseline ({best or NONE})", "oracle, the ceiling",
            *((f"{view.ours} / oracle",) if of_oracle else ()),
            f"{view.ours} at 0.1 %", f"{view.ours}, AUROC", "highest baseline on this attack",
        ),
        tuple(groups),
        words=frozenset({7 if of_oracle else 6}),
    )  # fmt: skip


def _of_oracle(view: View, level: LevelView, group: str, name: str) -> str:
    return NONE if group == NULL else share(level.of_ceiling(view.ours, "attacks", name))


def _attacks_alt(view: View, level: LevelView) -> str:
    parts = [
        f"{name} {share(level.caught(view.ours, name), bare=True)}"
        + (f" (oracle {share(level.caught(view.ceiling, name), bare=True)})" if view.ceiling else "")
        for _, name in _order(level)
    ]
    return f"Bars of the share of each attack that {view.ours} detects: {'; '.join(parts)}"


def _effects(level: LevelView) -> Table:
    """What each attack does to the patient: told by the commands alone."""
    rows = []
    for group, name in _order(level):
        facts = level.attacks(group)[name]
        rows.append(
            (
                name,
                group,
                text(facts.get("family")),
                text(facts.get("about")),
                text(facts.get("cases")) or NONE,
                text(facts.get("examinations")) or NONE,
                *(
                    significant(number(facts, k))
                    for k in ("dose_factor", "tissue_mm", "motion_mm", "motion_deg")
                ),
                NONE if (lost := number(facts, "image_lost")) is None else f"{100 * lost:.0f} %",
            )
        )
    return Table.of(
        f"What the attacks do: medians of their cases. {level.title}. {level.mark}",
        (
            "attack", "group", "family", "what it does", "cases", "in examinations", "dose factor",
            "tissue outside the plan, mm", "motion, mm", "motion, degrees", "image lost",
        ),
        rows,
        folded=True,
        words=(1, 2, 3),
    )  # fmt: skip


def _mixes(view: View, level: LevelView, *, folded: bool) -> Table:
    def row(name: str) -> tuple[str, ...]:
        return (
            _starred(view, level, name),
            *(plain(level.figure(name, "aupr", p)) for p in PREVALENCES),
            *(plain(level.figure(name, "f1", p)) for p in PREVALENCES),
        )

    return Table(
        f"AUPR, and F1 at a budget of {level.percent}, where 50, 10 and 1 % of commands are attacked (each attack "
        f"an equal part): {level.title}. {level.mark}",
        ("method", *(f"{what}, {100 * float(p):g} %" for what in ("AUPR", "F1") for p in PREVALENCES)),
        _grouped(view, level, row),
        folded,
    )


def _harm(view: View, level: LevelView, *, folded: bool) -> Table:
    def row(name: str) -> tuple[str, ...]:
        kinds = ("dose", "tissue", "motion", "image")
        return (_starred(view, level, name), *(share(level.figure(name, "missed_harm", k)) for k in kinds))

    return Table(
        f"Share of each kind of harm that was let through at a budget of {level.percent} (lower is better): "
        f"{level.title}. {level.mark}",
        ("method", "dose (extra DLP)", "tissue outside the plan", "motion", "images lost"),
        _grouped(view, level, row),
        folded,
    )
