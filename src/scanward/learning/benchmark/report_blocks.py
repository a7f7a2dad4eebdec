"""A report as blocks that Markdown and HTML render alike, and the words in which figures are told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from matplotlib.figure import Figure

from scanward.learning.benchmark.report_view import Interval

Tone = Literal["plain", "notice", "warning"]
NONE = "–"  # was not measured


@dataclass(frozen=True)
class Heading:
    """``level`` 1 is the title; ``anchor`` is unique and of letters, digits and hyphens."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Paragraph:
    """Text; a notice and a warning stand out."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Items:
    """A list; each item a lead (in bold, may be empty) and what follows it."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """A command to type."""

    text: str


@dataclass(frozen=True)
class Rows:
    """Rows of a table that belong together, under a name of their own where there is one."""

    name: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """Text by row and column; the first column names the row. ``folded``: shown on demand, where that can be.

    ``words``: columns that hold words and not figures (by index; the first always does).
    """

    caption: str
    columns: tuple[str, ...]
    groups: tuple[Rows, ...]
    folded: bool = False
    words: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls,
        caption: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        folded: bool = False,
        words: Sequence[int] = (),
    ) -> Table:
        """Without groups."""
        whole = Rows("", tuple(tuple(row) for row in rows))
        return cls(caption, tuple(columns), (whole,), folded, frozenset(words))


@dataclass(frozen=True, eq=False)
class Drawing:
    """A plot: ``name`` for its file, ``caption`` below it, ``alt`` for who cannot see it."""

    name: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


Block = Heading | Paragraph | Items | Code | Table | Drawing


# --- figures in words


def share(found: Interval | None, digits: int = 1, *, bare: bool = False) -> str:
    """A share in percent with its interval."""
    return _with_interval(found, lambda v: f"{100 * v:.{digits}f}", " %", bare)


def rate(found: Interval | None, *, bare: bool = False) -> str:
    """A small share, such as of false alerts: two decimals."""
    return share(found, 2, bare=bare)


def points(found: Interval | None) -> str:
    """A difference of shares, in percentage points."""
    return _with_interval(found, lambda v: f"{100 * v:+.1f}", " points", bare=False)


def plain(found: Interval | None, digits: int = 3, *, bare: bool = False) -> str:
    """A figure that is no share, such as an area under a curve."""
    return _with_interval(found, lambda v: f"{v:.{digits}f}", "", bare)


def _with_interval(found: Interval | None, told: Callable[[float], str], unit: str, bare: bool) -> str:
    if found is None:
        return NONE
    head = f"{told(found.value)}{unit}"
    if bare or math.isnan(found.low) or math.isnan(found.high):
        return head
    return f"{head} ({told(found.low)} to {told(found.high)})"


def probability(p: float | None) -> str:
    """A p value as journals print it."""
    if p is None:
        return NONE
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number of which the first digits matter."""
    if value is None:
        return NONE
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def many(count: int, one: str, several: str = "") -> str:
    """``3 levels``, ``1 level``."""
    return f"{count:,} {one if count == 1 else several or one + 's'}".replace(
        ",", "\N{NARROW NO-BREAK SPACE}"
    )
