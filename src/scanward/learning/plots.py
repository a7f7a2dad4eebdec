"""Plots of the demonstration, as SVG and PNG, each labelled simulated."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from scanward.learning.demo import CAUGHT, Shown
from scanward.learning.figure_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE_ORANGE,
    VERMILION,
    drawing,
    encoded,
    legend_above,
    log_percent,
    percent,
)


def draw(shown: Shown, folder: Path, step: Callable[[], None] = lambda: None) -> list[Path]:
    """Every plot into ``folder``; the files written, in order."""
    written: list[Path] = []
    for name, make in PLOTS.items():
        with drawing():
            figure = make(shown)
        for ending in ("svg", "png"):
            path = folder / f"{name}.{ending}"
            path.write_bytes(encoded(figure, ending, name, "Simulated data"))
            written.append(path)
        step()
    return written


def _figure(shown: Shown, title: str, height: float, width: float = 9.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    wide = int(9 * width)  # characters of bold 12 pt that fit
    figure.suptitle(textwrap.fill(title, wide), x=0.01, ha="left", fontsize=12, fontweight="bold")
    plan = shown.plan
    figure.supxlabel(
        f"SIMULATED DATA: no real scanner, no real patient. Learned from {plan.examinations} clean "
        f"examinations, judged {plan.later} later ones; seed {plan.seed}.",
        x=0.01,
        ha="left",
        fontsize=8,
        color=GREY,
    )
    return figure, axes


def detection(shown: Shown) -> Figure:
    """Bars: detected share of each attack, ours and the oracle's."""
    ours, oracle = shown.means
    title = (
        f"{percent(ours)} of attacks are caught on average; an oracle that knows the simulator catches "
        f"{percent(oracle)}"
    )
    figure, axes = _figure(shown, title, 8.0)
    order = sorted(
        (t for t in shown.attacks if t.tried), key=lambda t: (t.family != "null", t.share, t.oracle)
    )
    at = np.arange(len(order))
    axes.barh(at + 0.2, [t.share for t in order], 0.38, color=BLUE, label="Scanward")
    axes.barh(
        at - 0.2, [t.oracle for t in order], 0.38, color=PALE_ORANGE, edgecolor=ORANGE, hatch="////",
        linewidth=0.8, label="oracle (the ceiling)",
    )  # fmt: skip
    for y, tried in zip(at, order, strict=True):
        axes.text(tried.share + 0.008, y + 0.2, percent(tried.share), va="center", fontsize=8, color=BLUE)
    axes.set_yticks(at, [f"{t.about}\n({t.attack})" for t in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(0, 1.06)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(f"attacked examinations with an alert (%), at a budget of {100 * shown.plan.budget:g} %")
    axes.grid(axis="y", visible=False)
    legend_above(axes, 2)
    return figure


def scores(shown: Shown) -> Figure:
    """Strips: the combined score of clean examinations, and of the attacked commands of each attack."""
    limit = shown.threshold
    clean = np.array(shown.clean_scores)  # NaN (no score) is not drawn, and not under the threshold
    below = float(np.mean(clean <= limit)) if len(clean) else math.nan
    real = [t for t in shown.attacks if t.family != "null" and t.tried]
    above = float(np.mean([np.mean(np.array(t.scores) > limit) for t in real]))
    title = (
        f"{percent(below)} of clean examinations stay under the threshold; on average {percent(above)} of "
        "the attacked lie above it, and the rule layers catch some of the rest"
    )
    figure, axes = _figure(shown, title, 8.0)
    rng = np.random.default_rng(0)
    rows = sorted(
        (t for t in shown.attacks if t.tried), key=lambda t: (t.family != "null", t.share, t.oracle)
    )
    marks = (
        ("learned", BLUE, "o", "alert: learned layers"),
        ("rule", GREEN, "^", "alert: a rule layer"),
        ("", VERMILION, "x", "missed"),
    )
    axes.scatter(
        clean, -1 + rng.uniform(-0.3, 0.3, len(clean)), s=7, color=GREY, alpha=0.5, linewidth=0, label="clean"
    )
    for y, tried in enumerate(rows):
        jitter = y + rng.uniform(-0.26, 0.26, tried.tried)
        by, values = np.array(tried.by), np.array(tried.scores)
        for kind, colour, marker, label in marks:
            chosen = by == kind
            if tried.family == "null" and not kind:  # nothing was there to be missed
                axes.scatter(values[chosen], jitter[chosen], s=7, color=GREY, alpha=0.5, linewidth=0)
                continue
            axes.scatter(
                values[chosen], jitter[chosen], s=13, color=colour, marker=marker, alpha=0.7,
                linewidth=0.8 if marker == "x" else 0, label=label if y == len(rows) - 1 else None,
            )  # fmt: skip
    axes.axvline(limit, color="black", linewidth=1.2, linestyle="--")
    axes.annotate(
        f"threshold at a budget of {100 * shown.plan.budget:g} %", (limit, len(rows) - 0.35), xytext=(4, 0),
        textcoords="offset points", fontsize=8, va="bottom",
    )  # fmt: skip
    axes.set_yticks(range(-1, len(rows)), ["clean, as they are", *[t.attack for t in rows]])
    axes.set_ylim(-1.6, len(rows) + 0.3)
    axes.set_xlabel("combined score of the strangest command concerned (nats; higher is stranger)")
    axes.grid(axis="y", visible=False)
    legend_above(axes, 5)
    return figure


def calibration(shown: Shown) -> Figure:
    """Observed share of clean examinations that alert, against the budget asked for."""
    facts, curve = shown.false_alerts, shown.calibration_curve
    verdict = "as promised, within chance" if facts["within_chance"] else "MORE than chance explains"
    title = (
        f"At a budget of {100 * facts['budget']:g} % the calibrated number alerted in "
        f"{facts['by_the_calibrated_number']} of {facts['examinations']} later clean examinations: {verdict}"
    )
    figure, axes = _figure(shown, title, 6.0, 8.0)
    x = np.array([c["budget"] for c in curve])
    floor = 0.5 / facts["examinations"]
    low, high, seen = (np.maximum([c[n] for c in curve], floor) for n in ("low", "high", "observed"))
    axes.fill_between(
        x, low, high, color=BLUE, alpha=0.14, linewidth=0, label="95 % of repetitions, were the promise exact"
    )
    axes.plot(x, x, color="black", linewidth=1, linestyle="--", label="budget = observed")
    axes.plot(
        x,
        seen,
        color=BLUE,
        linewidth=1.6,
        marker="o",
        markersize=3.5,
        label="observed, calibrated number alone",
    )
    axes.plot(
        [facts["budget"]], [max(facts["share"], floor)], color=VERMILION, marker="D", markersize=8,
        linestyle="none", label="observed at the chosen budget, rule layers included",
    )  # fmt: skip
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        log_percent(axis)
    axes.set_ylim(floor * 0.8, 1)
    axes.set_xlabel("budget: share of clean examinations that may alert (%)")
    axes.set_ylabel("observed share of clean examinations that alert (%)")
    axes.legend(loc="upper left", fontsize=9)
    return figure


def dose(shown: Shown) -> Figure:
    """Detected share against the factor by which the dose was changed, all figures made to agree."""
    low, high = shown.dose_caught()
    parts = [f"x{low:g} and less" if low else "", f"x{high:g} and more" if high else ""]
    caught = " and ".join(p for p in parts if p)
    title = (
        f"Doses of {caught} are caught in at least {100 * CAUGHT:.0f} % of cases"
        if caught
        else f"No dose factor tried is caught in {100 * CAUGHT:.0f} % of cases"
    )
    figure, axes = _figure(shown, title, 5.4)
    x = np.array([factor for factor, _ in shown.dose])
    ours = np.array([t.share for _, t in shown.dose])
    bounds = np.array([[t.as_json()["low"], t.as_json()["high"]] for _, t in shown.dose]).reshape(-1, 2)
    axes.plot(
        x,
        [t.oracle for _, t in shown.dose],
        color=ORANGE,
        marker="s",
        linestyle="--",
        label="oracle (the ceiling)",
    )
    axes.fill_between(
        x, bounds[:, 0], bounds[:, 1], color=BLUE, alpha=0.14, linewidth=0, label="95 % interval"
    )
    axes.plot(x, ours, color=BLUE, marker="o", label="Scanward")
    axes.axhline(CAUGHT, color=GREY, linewidth=1, linestyle=":")
    axes.text(1.0, CAUGHT + 0.01, f"{100 * CAUGHT:.0f} %", color=GREY, fontsize=8, ha="center")
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.text(1.02, 0.01, "unchanged", color=GREY, fontsize=8, rotation=90, va="bottom")
    axes.set_xscale("log")
    ticks = [v for v in (0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0) if x.min() <= v <= x.max()]
    axes.set_xticks(ticks, [f"x{v:g}" for v in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("dose factor (mA, CTDIvol, DLP and all that depends on them changed together)")
    axes.set_ylabel("attacked examinations with an alert (%)")
    axes.legend(loc="lower right", fontsize=9)
    return figure


PLOTS: dict[str, Callable[[Shown], Figure]] = {
    "detection": detection,
    "scores": scores,
    "calibration": calibration,
    "dose": dose,
}
