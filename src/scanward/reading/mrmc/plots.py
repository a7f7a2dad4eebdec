"""Plots of a multi-reader analysis, drawn by matplotlib on no screen: curves with bands, forests, readers.

Colours are Okabe and Ito's (2008), told apart by every kind of colour vision; line style or marker says the same a
second time. Every plot of simulated readers carries a watermark and a line that says so.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scanward.errors import InputError
from scanward.reading.mrmc.bands import Band
from scanward.reading.mrmc.curves import Curve, curves, operating_points
from scanward.reading.mrmc.ratings import Ratings

Floats = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
GREY = "#666666"
_NAMED = 8  # readers up to whom a panel has a legend
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.hashsalt": "scanward",  # the same figure gives the same bytes
    "svg.fonttype": "path",
    "lines.solid_capstyle": "butt",  # an interval ends where it ends
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a "$" in a reader's name is a dollar
}


@dataclass(frozen=True)
class Row:
    """One line of a forest: an estimate with its interval (NaN where there is none). ``strong``: over all readers."""

    label: str
    estimate: float
    low: float
    high: float
    strong: bool = True


def draw_curves(ratings: Ratings, bands: Sequence[Band], title: str, notice: str = "") -> Figure:
    """The mean curves of all treatments with their bands, then for each treatment the curves of its readers.

    Parameters
    ----------
    ratings : Ratings
    bands : of one model, one a treatment
    title : str
    notice : str
        What must stand on the plot, such as that readers are simulated; "" for nothing.

    Raises
    ------
    InputError
        No bands.
    """
    if not bands:
        raise InputError("no curve to draw", "plots", "give ratings of positive and negative cases")
    columns = min(3, len(bands) + 1)
    rows = math.ceil((len(bands) + 1) / columns)
    with mpl.rc_context(STYLE):
        figure = _figure(4.0 * columns, 3.95 * rows + 0.55, title, notice)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(bands) + 1 :]:
            axes.set_axis_off()
        _unit_square(panels[0], "mean over readers, with band", notice)
        for i, one in enumerate(bands):
            _draw_band(panels[0], one, i)
        panels[0].legend(loc="lower right", fontsize=8)
        for i, one in enumerate(bands):
            _draw_readers(panels[i + 1], ratings, one, i, notice)
        figure.supxlabel(
            _wrapped("; ".join((f"Bands: {bands[0].how}", notice)).rstrip("; "), figure, 7.5),
            x=0.01, ha="left", fontsize=7.5, color=GREY,
        )  # fmt: skip
    return figure


def draw_forest(
    rows: Sequence[Row],
    title: str,
    axis: str,
    null: float | None = None,
    margins: tuple[float, float] | None = None,
    notice: str = "",
) -> Figure:
    """Estimates with their intervals, one below the other.

    ``null``: a line where there is no effect. ``margins``: the region in which a claim is true, shaded; either end may
    be infinite.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(7.5, 1.5 + 0.32 * max(len(rows), 1), title, notice)
        axes = figure.add_subplot()
        _watermark(axes, notice)
        if margins is not None:
            _shade(axes, rows, margins)
        if null is not None:
            axes.axvline(null, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        for place, row in enumerate(rows):
            colour = COLOURS[0] if row.strong else GREY
            if not math.isnan(row.low):
                axes.plot(
                    [row.low, row.high], [place, place], color=colour, linewidth=2.2 if row.strong else 1.2
                )
            marker = "D" if row.strong else "o"
            axes.plot([row.estimate], [place], marker, color=colour, markersize=7 if row.strong else 5)
            values = f"{row.estimate:.3f}"
            if not math.isnan(row.low):
                values += f"  [{row.low:.3f}, {row.high:.3f}]"
            axes.annotate(
                values, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                fontweight="bold" if row.strong else "normal", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [textwrap.fill(plain(row.label, 160), 44) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(axis)
        if margins is not None:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, borderaxespad=0.2)
        _note(figure, notice)
    return figure


def draw_readers(
    values: Floats,
    errors: Floats,
    treatments: Sequence[str],
    readers: Sequence[str],
    title: str,
    axis: str,
    notice: str = "",
) -> Figure:
    """Each reader's figure under each treatment, joined by a line, and the mean.

    ``values``, ``errors``: (treatments, readers); the bars are one standard error, from cases alone.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(max(4.5, 1.6 * len(treatments) + 2.8), 4.2, title, notice)
        axes = figure.add_subplot()
        _watermark(axes, notice)
        places = np.arange(len(treatments))
        for r, name in enumerate(readers):
            shift = 0.0 if len(readers) == 1 else 0.24 * (r / (len(readers) - 1) - 0.5)
            axes.errorbar(
                places + shift, values[:, r], yerr=np.where(errors[:, r] >= 0, errors[:, r], np.nan),
                color=COLOURS[r % len(COLOURS)], linestyle=LINES[r % len(LINES)], marker=MARKERS[r % len(MARKERS)],
                linewidth=0.9, elinewidth=0.7, markersize=5, label=plain(name, 24),
            )  # fmt: skip
        for place, row in zip(places, values, strict=True):
            if not np.isnan(row).all():
                mean = float(np.nanmean(row))
                axes.plot([place - 0.28, place + 0.28], [mean, mean], color="black", linewidth=2.4, zorder=4)
        axes.plot([], [], color="black", linewidth=2.4, label="mean")
        axes.set_xticks(places, [textwrap.fill(plain(name), 16) for name in treatments])
        axes.set_xlim(-0.5, len(treatments) - 0.5)
        axes.grid(axis="y")
        axes.set_ylabel(axis)
        columns = math.ceil((len(readers) + 1) / 14)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, title="reader", ncols=columns)
        _note(figure, notice, "bars: one standard error, from cases alone")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, PDF or PNG, by the path's suffix. The same figure gives the same SVG."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("svg", "pdf", "png"):
        raise InputError(f"a plot as '{path.suffix}'", str(path), "use .svg, .pdf or .png")
    path.write_bytes(encoded(figure, kind))


def encoded(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of an svg, pdf or png file, without a date."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": "Scanward"},
        "pdf": {"CreationDate": None, "Creator": "Scanward"},
    }.get(kind, {})
    with mpl.rc_context(STYLE), quiet():
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    figure.set_layout_engine("none")  # found once, the layout holds for the other forms
    return buffer.getvalue()


@contextmanager
def quiet() -> Iterator[None]:
    """Characters that the font does not have are drawn as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def plain(text: str, most: int = 60) -> str:
    """A name from outside as one short line; matplotlib leaves labels that begin with "_" out of legends."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f" {shown}" if shown.startswith("_") else shown


# --- parts


def _figure(width: float, height: float, title: str, notice: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    heading = _wrapped(plain(title, 160) + (" - SIMULATED" if notice else ""), figure, 12)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _wrapped(text: str, figure: Figure, points: float) -> str:
    return textwrap.fill(text, int(figure.get_figwidth() * 72 / (0.56 * points)))


def _note(figure: Figure, notice: str, text: str = "") -> None:
    both = "; ".join(part for part in (text, notice) if part)
    if both:
        figure.supxlabel(_wrapped(both, figure, 7.5), x=0.01, ha="left", fontsize=7.5, color=GREY)


def _watermark(axes: Axes, notice: str) -> None:
    if notice:
        size = min(26.0, 8.0 * axes.figure.bbox.height / 100.0)
        axes.text(
            0.5, 0.5, "SIMULATED", transform=axes.transAxes, ha="center", va="center", rotation=30,
            fontsize=size, color="#bbbbbb", alpha=0.45, fontweight="bold", zorder=0,
        )  # fmt: skip


def _unit_square(axes: Axes, title: str, notice: str) -> None:
    _watermark(axes, notice)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, zorder=1)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    axes.set_title(plain(title, 44), fontsize=9.5, loc="left")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(visible=True)


def _draw_band(axes: Axes, one: Band, i: int, label: str | None = None) -> None:
    colour = COLOURS[i % len(COLOURS)]
    axes.fill_between(one.fpr, one.low, one.high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    named = label or f"{plain(one.treatment, 24)} ({one.mean.area:.3f})"
    axes.plot(
        one.mean.fpr,
        one.mean.tpr,
        color=colour,
        linestyle=LINES[i % len(LINES)],
        linewidth=2,
        label=named,
        zorder=5,
    )


def _draw_readers(axes: Axes, ratings: Ratings, one: Band, i: int, notice: str) -> None:
    _unit_square(axes, f"{one.treatment}: readers", notice)
    t = ratings.treatments.index(one.treatment)
    drawn = {r: curve for (of, r), curve in curves(ratings, one.model).items() if of == t}
    points = operating_points(ratings.select(treatments=[one.treatment]))
    for place, (r, curve) in enumerate(sorted(drawn.items())):
        own = [(p.fpr, p.tpr) for p in points if p.reader == ratings.readers[r]]
        _draw_reader(axes, curve, own, place, f"{plain(ratings.readers[r], 18)} ({curve.area:.3f})")
    axes.plot(
        one.mean.fpr, one.mean.tpr, color=COLOURS[i % len(COLOURS)], linewidth=2.4,
        linestyle=LINES[i % len(LINES)], label=f"mean ({one.mean.area:.3f})", zorder=5,
    )  # fmt: skip
    if len(drawn) <= _NAMED:
        axes.legend(loc="lower right", fontsize=7.5)


def _draw_reader(
    axes: Axes, curve: Curve, points: Sequence[tuple[float, float]], place: int, label: str
) -> None:
    marker = MARKERS[place % len(MARKERS)]
    shade = str(0.25 + 0.4 * ((place * 0.381966) % 1.0))
    few = len(points) <= 12  # of continuous ratings, the points are the line
    axes.plot(curve.fpr, curve.tpr, color=shade, linewidth=0.9, zorder=3)
    if few and points:
        axes.plot(*np.array(points).T, marker, color=shade, markersize=4.5, markerfacecolor="white", zorder=4)
    axes.plot([], [], color=shade, linewidth=0.9, marker=marker if few else "", markersize=4.5,
              markerfacecolor="white", label=label)  # fmt: skip


def _shade(axes: Axes, rows: Sequence[Row], margins: tuple[float, float]) -> None:
    known = [value for row in rows for value in (row.estimate, row.low, row.high) if math.isfinite(value)]
    known += [value for value in margins if math.isfinite(value)]
    spread = max(known) - min(known) if known else 1.0
    left = margins[0] if math.isfinite(margins[0]) else min(known) - 0.1 * spread
    right = margins[1] if math.isfinite(margins[1]) else max(known) + 0.1 * spread
    label = "region of the claim: " + (
        f"{margins[0]:g} to {margins[1]:g}" if math.isfinite(margins[1]) else f"above {margins[0]:g}"
    )
    axes.axvspan(left, right, color=COLOURS[2], alpha=0.12, linewidth=0, zorder=0, label=label)
    for edge in margins:
        if math.isfinite(edge):
            axes.axvline(edge, color=COLOURS[2], linewidth=1.0, linestyle="--", zorder=1)
