"""Plots of the benchmark. Few methods on each, so that it can be read: ours, the ceiling, the best of each other kind.

A kind has one colour, one marker and one kind of line on every plot. Where worlds are simulated the plot says so in its
title and below it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from scanward.learning.benchmark.answers import Kind
from scanward.learning.benchmark.report_view import (
    Interval,
    LevelView,
    View,
    interval,
    mapping,
    numbers,
    percents,
    sequence,
)
from scanward.learning.figure_style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE_ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WINE,
    drawing,
    log_percent,
    percent,
)

STYLES: dict[str, tuple[str, str, str]] = {  # kind -> colour, marker, line
    Kind.OURS.value: (BLUE, "o", "-"),
    Kind.CEILING.value: (ORANGE, "s", "--"),
    Kind.UNSUPERVISED.value: (VERMILION, "^", "-."),
    Kind.REGRESSION.value: (PURPLE, "v", ":"),
    Kind.RULES.value: (WINE, "p", ":"),
    Kind.DEEP.value: (SKY, "D", "-"),
    Kind.CLEAN_ONLY.value: (GREEN, "P", "--"),
    Kind.ATTACK_TRAINED.value: (GREY, "X", "-."),
    Kind.SERIAL.value: (BLACK, "*", ":"),
}
LOWEST, HIGHEST = 1e-4, 1e-1  # false-alert rates that a curve shows
NAME = 38  # characters of a name on a plot
PANELS = 2  # side by side


def name_of(found: str, most: int = NAME) -> str:
    """A name as one short line; matplotlib leaves labels that begin with "_" out of legends."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f" {shown}" if shown.startswith("_") else shown


def _style(view: View, method: str) -> tuple[str, str, Any]:
    return STYLES.get(view.kind(method), (GREY, "h", "-"))


def _figure(title: str, simulated: bool, note: str, size: tuple[float, float]) -> Figure:
    """With its title and the line below it; ``_head`` makes room for the title and a legend."""
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    mark = " [SIMULATED]" if simulated else ""
    figure.suptitle(
        textwrap.fill(title + mark, int(8.6 * size[0])), x=0.01, y=1 - 0.06 / size[1], ha="left", va="top",
        fontsize=12, fontweight="bold",
    )  # fmt: skip
    kind = (
        "SIMULATED DATA: no real scanner, no real patient."
        if simulated
        else "Recorded clean commands; attacks injected into them."
    )
    figure.supxlabel(
        textwrap.fill(f"{kind} {note}".replace(" %", "\N{NO-BREAK SPACE}%"), int(16.5 * size[0])),
        x=0.01,
        ha="left",
        fontsize=8,
        color="#595959",
    )
    return figure


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One for the whole figure, between its title and its panels, where it can hide nothing."""
    width, height = figure.get_size_inches()
    columns = 3 if width > 8 else 2
    title = 0.24 * (figure.get_suptitle().count("\n") + 1) + 0.06  # inches
    rows = math.ceil(len(handles) / columns)
    figure.legend(
        handles=list(handles), loc="upper left", bbox_to_anchor=(0.0, 1 - title / height), ncols=columns,
        fontsize=8.5, columnspacing=1.4, handlelength=2.8, borderaxespad=0.2,
    )  # fmt: skip
    engine: Any = figure.get_layout_engine()  # constrained: the stubs know only what every engine takes
    assert engine is not None
    engine.set(rect=(0, 0, 1, 1 - (title + 0.2 * rows + 0.12) / height))
    # Constrained layout would give the title room of its own inside the rectangle.
    figure._suptitle.set_in_layout(False)  # type: ignore[attr-defined]


def _handles(view: View, methods: Sequence[str], line: Any = None) -> list[Line2D]:
    """Entries of a legend. ``line``: instead of each kind's own, such as "none"."""
    return [
        Line2D(
            [], [], color=colour, marker=marker, linestyle=line or own, markersize=6, label=name_of(method)
        )
        for method in methods
        for colour, marker, own in [_style(view, method)]
    ]


def _panels(figure: Figure, count: int) -> list[Axes]:
    columns = min(PANELS, count)
    rows = math.ceil(count / columns)
    found = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in found[count:]:
        spare.set_axis_off()
    return found[:count]


def _size(count: int, wide: float = 9.6, one: float = 3.9) -> tuple[float, float]:
    return (wide if count > 1 else 7.6, one * math.ceil(count / min(PANELS, count)) + 1.7)


def _bars(one: Interval) -> tuple[float, float]:
    """Lengths of an error bar below and above; none where there is no interval."""
    if math.isnan(one.low) or math.isnan(one.high):
        return 0.0, 0.0
    return max(0.0, one.value - one.low), max(0.0, one.high - one.value)


# --- levels side by side


def levels(view: View, which: Sequence[LevelView], simulated: bool) -> Figure:
    """Detection at the primary budget, each shown method at every level."""
    methods = [m for m in view.shown if any(level.detection(m) for level in which)]
    title = f"Detection at a budget of {percents(which)} false alerts, level by level"
    height = 0.155 * len(which) * (len(methods) + 2) + 2.4
    with drawing():
        figure = _figure(
            title,
            simulated,
            "Mean over attacks, with 95 % intervals over examinations; what was not measured is not drawn.",
            (9.6, height),
        )
        axes = figure.subplots()
        step = 0.82 / max(1, len(methods))
        for row, level in enumerate(which):
            for i, method in enumerate(methods):
                found = level.detection(method)
                if found is None:
                    continue
                colour, marker, _ = _style(view, method)
                y = row - 0.41 + step * (i + 0.5)
                below, above = _bars(found)
                axes.errorbar(
                    found.value, y, xerr=[[below], [above]], color=colour, marker=marker, markersize=5.5,
                    linewidth=1.2, linestyle="none",
                )  # fmt: skip
        for row in range(1, len(which)):
            axes.axhline(row - 0.5, color="#c4c4c4", linewidth=0.8)
        axes.set_yticks(
            range(len(which)),
            [f"{name_of(one.name, 24)}\n{textwrap.fill(name_of(one.set, 40), 24)}" for one in which],
        )
        axes.set_ylim(len(which) - 0.5, -0.5)
        axes.set_xlim(-0.01, 1.01)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("attacked examinations with an alert (%), mean over attacks")
        axes.grid(axis="y", visible=False)
        _legend(figure, _handles(view, methods, "none"))
    return figure


# --- ROC at low false-alert rates


def roc(view: View, which: Sequence[LevelView]) -> Figure:
    """Detection against false alerts, logarithmic from 0.01 % to 10 %, a panel for each level of a set."""
    methods = [m for m in view.shown if any(_curve(level, m) for level in which)]
    with drawing():
        figure = _figure(
            f"Detection against false alerts, {name_of(which[0].set, 60)}",
            which[0].simulated,
            "Mean over attacks; shaded: 95 % intervals. The vertical line is the primary budget.",
            _size(len(which)),
        )
        for axes, level in zip(_panels(figure, len(which)), which, strict=True):
            for method in methods:
                _draw_curve(axes, level, view, method)
            axes.axvline(float(level.budget), color=BLACK, linewidth=0.9, linestyle=(0, (1, 2)))
            axes.set_xscale("log")
            log_percent(axes.xaxis, (1.0,))
            axes.set_xlim(LOWEST, HIGHEST)
            axes.set_ylim(-0.01, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set_title(name_of(level.name), loc="left", fontsize=10)
            axes.set_xlabel("clean examinations that alert (%)", fontsize=9)
            axes.set_ylabel("attacked examinations\nwith an alert (%)", fontsize=9)
        _legend(figure, _handles(view, methods))
    return figure


def _curve(level: LevelView, method: str) -> dict[str, list[float]] | None:
    """Columns of a curve, all of one length; None where there is none."""
    told = mapping(mapping(level.methods.get(method)).get("roc"), "roc")
    found = {name: numbers(told, name) for name in ("false_alerts", "detection", "low", "high")}
    points = len(found["false_alerts"])
    if points < 2 or len(found["detection"]) != points:
        return None
    return {k: v if len(v) == points else [math.nan] * points for k, v in found.items()}


def _draw_curve(axes: Axes, level: LevelView, view: View, method: str) -> None:
    found = _curve(level, method)
    if found is None:
        return
    colour, marker, line = _style(view, method)
    x, y = np.array(found["false_alerts"]), np.array(found["detection"])
    low, high = np.array(found["low"]), np.array(found["high"])
    inside = (x >= LOWEST * 0.999) & (x <= HIGHEST * 1.001)
    x, y, low, high = x[inside], y[inside], low[inside], high[inside]
    if not len(x):
        return
    # Markers at the same rates on every curve, wherever its points lie.
    at = sorted({int(np.argmin(np.abs(np.log(x / rate)))) for rate in (1e-4, 1e-3, 5e-3, 3e-2, 1e-1)})
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=5, markevery=at, linewidth=1.6)


# --- each attack


def attacks(view: View, level: LevelView) -> Figure:
    """Bars: each attack, ours and the ceiling's; the best baseline as a mark."""
    best = view.best_baseline(level)
    rows = [
        (group, name)
        for group in ("null", "known", "held out")
        for name in sorted(
            level.attacks(group),
            key=lambda n: -_value(level.caught(view.ours, n)),
        )
    ]
    with drawing():
        figure = _figure(
            f"Each attack at a budget of {level.percent}: {name_of(level.name)}, {name_of(level.set, 50)}",
            level.simulated,
            "Whiskers: 95 % intervals over examinations. "
            + (
                "The null attack changes nothing: it must alert no more often than the budget."
                if rows
                else ""
            ),
            (9.6, 0.37 * len(rows) + 2.3),
        )
        axes = figure.subplots()
        at = np.arange(len(rows))
        names = [name for _, name in rows]
        if view.ceiling and any(level.caught(view.ceiling, n) for n in names):
            axes.barh(
                at + 0.2, [_value(level.caught(view.ceiling, n)) for n in names], 0.36, color=PALE_ORANGE,
                edgecolor=ORANGE, hatch="////", linewidth=0.8, label=f"{name_of(view.ceiling)} (the ceiling)",
            )  # fmt: skip
        ours = [level.caught(view.ours, n) for n in names]
        axes.barh(at - 0.2, [_value(o) for o in ours], 0.36, color=BLUE, label=name_of(view.ours))
        for y, found in zip(at, ours, strict=True):
            if found is None:
                axes.text(0.004, y - 0.2, "not measured", va="center", fontsize=7.5, color="#595959")
                continue
            below, above = _bars(found)
            axes.errorbar(found.value, y - 0.2, xerr=[[below], [above]], color=BLACK, linewidth=1)
            axes.text(
                max(found.value + above, 0) + 0.012, y - 0.2, percent(found.value), va="center", fontsize=8,
                color=BLUE, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
            )  # fmt: skip
        if best is not None:
            there = [
                (y, found.value) for y, n in zip(at, names, strict=True) if (found := level.caught(best, n))
            ]
            axes.plot(
                [v for _, v in there], [y for y, _ in there], color=VERMILION, marker="D", markersize=6,
                markeredgecolor="white", markeredgewidth=0.7, linestyle="none", zorder=5,
                label=f"best baseline: {name_of(best)}",
            )  # fmt: skip
        groups = [group for group, _ in rows]
        for place, (before, after) in enumerate(pairwise(groups)):
            if before != after:
                axes.axhline(place + 0.5, color=GREY, linewidth=0.9)
        axes.set_yticks(at, [name_of(n, 30) + (" (held out)" if g == "held out" else "") for g, n in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1.1)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("attacked examinations with an alert (%)")
        axes.grid(axis="y", visible=False)
        _legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def _value(found: Interval | None) -> float:
    return 0.0 if found is None else found.value


# --- calibration


def calibration(view: View, which: Sequence[LevelView]) -> Figure:
    """Share of clean examinations that alert, against what was asked; a panel for each level of a set."""
    wanted = _few(view, which[0])
    methods = [m for m in wanted if any(_calibrated(level, m) for level in which)]
    with drawing():
        figure = _figure(
            f"Observed false alerts against the budget, {name_of(which[0].set, 60)}",
            which[0].simulated,
            "Bars: 95 % intervals. The promise is made for examinations like those calibrated on (recurring "
            "protocols); elsewhere the observed rate is told and nothing is promised.",
            _size(len(which)),
        )
        line = Line2D([], [], color=BLACK, linewidth=1, linestyle=(0, (1, 2)), label="observed = asked")
        panels = _panels(figure, len(which))
        for axes, level in zip(panels, which, strict=True):
            _draw_calibration(axes, view, level, methods)
        limits = [axes.get_ylim() for axes in panels]  # the same everywhere: panels are compared
        for axes in panels:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        _legend(figure, [*_handles(view, methods), line])
    return figure


def _calibrated(level: LevelView, method: str) -> list[tuple[float, Interval]]:
    told = mapping(mapping(level.methods.get(method)).get("calibration"), "calibration")
    observed = [interval(one, "calibration") for one in sequence(told.get("observed"), "calibration")]
    return [(x, y) for x, y in zip(numbers(told, "asked"), observed, strict=False) if y is not None and x > 0]


def _draw_calibration(axes: Axes, view: View, level: LevelView, methods: Sequence[str]) -> None:
    asked = [x for m in methods for x, _ in _calibrated(level, m)]
    seen: list[float] = []
    examinations = mapping(level.told).get("examinations")
    count = examinations if isinstance(examinations, int) and examinations > 0 else 10_000
    floor = 0.5 / count  # nothing alerted: drawn at half an examination
    for i, method in enumerate(methods):
        found = _calibrated(level, method)
        if not found:
            continue
        colour, marker, line = _style(view, method)
        x = np.array([a for a, _ in found]) * 1.06 ** (i - (len(methods) - 1) / 2)  # bars beside one another
        y = np.maximum([o.value for _, o in found], floor)
        low = np.maximum([o.value if math.isnan(o.low) else o.low for _, o in found], floor)
        high = np.maximum([o.value if math.isnan(o.high) else o.high for _, o in found], floor)
        seen += [*low.tolist(), *high.tolist()]
        axes.errorbar(
            x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], color=colour, marker=marker,
            linestyle=line, linewidth=1.2, markersize=4.5, elinewidth=1,
        )  # fmt: skip
    ends = (min(asked, default=1e-3) * 0.7, min(1.0, max(asked, default=1e-1) * 1.5))
    axes.plot(ends, ends, color=BLACK, linewidth=1, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        log_percent(axis, (1.0,))
    axes.set_xlim(*ends)
    axes.set_ylim(min([ends[0], *seen]) * 0.7, min(1.0, max([ends[1], *seen]) * 1.4))
    axes.set_title(name_of(level.name), loc="left", fontsize=10)
    axes.set_xlabel("asked: examinations that may alert (%)", fontsize=9)
    axes.set_ylabel("observed (%)", fontsize=9)


def _few(view: View, level: LevelView) -> list[str]:
    """Ours, the ceiling, the best baseline."""
    main = view.main or level
    return [m for m in dict.fromkeys((view.ours, view.ceiling, view.best_baseline(main))) if m]


# --- smallest dose factor


def dose(
    view: View, set_name: str, simulated: bool, found: Sequence[tuple[str, str, list[tuple[float, Interval]]]]
) -> Figure:
    """Detection against dose factor. ``found``: (level, method, (factor, detection) sorted)."""
    names = list(dict.fromkeys(level for level, _, _ in found))
    methods = list(dict.fromkeys(method for _, method, _ in found))
    with drawing():
        figure = _figure(
            f"Detection against dose factor, {name_of(set_name, 50)}",
            simulated,
            "mA, CTDIvol, DLP and all that depends on them changed together. Shaded: 95 % intervals; the grey line is "
            "95 % caught.",
            _size(len(names)),
        )
        for axes, name in zip(_panels(figure, len(names)), names, strict=True):
            factors: list[float] = []
            for level, method, curve in found:
                if level != name:
                    continue
                colour, marker, line = _style(view, method)
                x = np.array([f for f, _ in curve])
                y = np.array([i.value for _, i in curve])
                low, high = (np.array([getattr(i, end) for _, i in curve]) for end in ("low", "high"))
                for side in (x < 1, x > 1):  # less and more are two curves: nothing is said of no change
                    axes.fill_between(x[side], low[side], high[side], color=colour, alpha=0.13, linewidth=0)
                    axes.plot(x[side], y[side], color=colour, marker=marker, linestyle=line, markersize=4.5)
                factors += x.tolist()
            _dose_axes(axes, factors)
            axes.set_title(name_of(name), loc="left", fontsize=10)
        _legend(figure, _handles(view, methods))
    return figure


def _dose_axes(axes: Axes, factors: Sequence[float]) -> None:
    axes.axhline(0.95, color=GREY, linewidth=1, linestyle=":")
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.set_xscale("log")
    least, most = min(factors, default=0.5), max(factors, default=2.0)
    ticks = [v for v in (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0) if least * 0.95 <= v <= most * 1.05]
    axes.set_xticks(ticks, [f"x{v:g}" for v in ticks], fontsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.01, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("dose factor", fontsize=9)
    axes.set_ylabel("attacked examinations\nwith an alert (%)", fontsize=9)


# --- latency


def latency(view: View, level: LevelView) -> Figure:
    """Time for a command against detection: every method a mark, the shown ones named."""
    found = []
    for method in sorted(level.methods):
        caught, time = level.detection(method), mapping(level.methods[method]).get("microseconds")
        usable = isinstance(time, int | float) and not isinstance(time, bool) and 0 < time < math.inf
        if caught is not None and usable:
            found.append((float(time), caught.value, method))  # type: ignore[arg-type]
    with drawing():
        figure = _figure(
            f"Time for a command against detection: {name_of(level.name)}, {name_of(level.set, 50)}",
            level.simulated,
            "Median time to judge one command on the machine named in the report; each method in its own "
            "implementation. Large marks are named above; small ones are the other methods of their kind.",
            (8.4, 5.4),
        )
        axes = figure.subplots()
        named = set(view.shown)
        for time, caught_share, method in found:
            colour, marker, _ = _style(view, method)
            big = method in named
            axes.scatter(
                time, caught_share, s=95 if big else 24, color=colour, marker=marker, alpha=1 if big else 0.55,
                edgecolor="white" if big else "none", linewidth=0.7, zorder=3 if big else 2,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _time(v)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.03, 1.04)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("median time for a command")
        axes.set_ylabel("attacked examinations with an alert (%)")
        _legend(figure, _handles(view, [n for n in view.shown if any(n == m for _, _, m in found)], "none"))
    return figure


def _time(microseconds: float) -> str:
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:g} {unit}"
    return f"{microseconds:g} µs"
