"""How every plot of learning looks and is kept: one style, colours for every eye, the same bytes for the same figure.

Colours are Okabe and Ito's (2008), told apart by every kind of colour vision; shape or position says the same
a second time. Figures are drawn by matplotlib on no screen.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#000000"
WINE = "#882255"  # Tol's (2021), darker than all but black: a ninth where the eight are taken
PALE_ORANGE = "#f3d9a4"  # filled under an orange hatch: the ceiling
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "svg.hashsalt": "scanward",  # the same figure gives the same bytes
    "svg.fonttype": "path",
    "text.parse_math": False,  # a "$" in a name is a dollar
}


@contextmanager
def drawing() -> Iterator[None]:
    """Our style, and no word about a letter of somebody's name that the font lacks: a box stands for it."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
        warnings.filterwarnings(
            "ignore", message="Matplotlib currently does not support", category=UserWarning
        )
        yield


def settled(figure: Figure) -> Figure:
    """Laid out once and for all: otherwise every file that it is saved to lays it out again."""
    with drawing():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def encoded(figure: Figure, ending: str, title: str, about: str) -> bytes:
    """The figure as a file: ``ending`` is svg or png, ``about`` stands in its metadata."""
    metadata: dict[str, Any] = {"Title": title, "Description": about}
    if ending == "svg":
        metadata["Date"] = None
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format=ending, dpi=150, metadata=metadata)
    return buffer.getvalue()


def legend_above(axes: Axes, columns: int) -> None:
    """Where it can hide nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=9, borderaxespad=0.3,
        columnspacing=1.2, handletextpad=0.4,
    )  # fmt: skip


def log_percent(axis: Axis, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Labels of a logarithmic axis of shares, in percent."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    axis.set_minor_formatter(NullFormatter())


def percent(share: float) -> str:
    """One decimal only where it tells something."""
    if math.isnan(share):
        return "?"
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.02 <= share < 0.995 else f"{100 * share:.1f} %"
