"""Alerts per day against the budget, as numbers of an SVG that a template draws, so that it follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scanward.console.history_budget import limit
from scanward.console.history_query import Day

WIDTH: Final = 960.0
HEIGHT: Final = 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 8.0, 24.0, 34.0
_TICKS: Final = 5  # lines across at most
_LABELS: Final = 10  # days named below at most


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: what is drawn, and what is said of it. ``limit_y`` is where the most lies that the budget explains."""

    x: float
    y: float
    width: float
    height: float
    limit_y: float
    day: str
    alerted: int
    examinations: int
    commands: int
    expected: float
    limit: int
    above: bool
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that a template draws; ``ticks`` are (y, what is written)."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    width: float
    height: float
    left: float
    right: float
    base: float
    budget: float | None

    @property
    def above(self) -> list[Bar]:
        """Days with more than the budget explains."""
        return [bar for bar in self.bars if bar.above]

    @property
    def alerted(self) -> int:
        """Examinations that alerted, of all days."""
        return sum(bar.alerted for bar in self.bars)

    @property
    def examinations(self) -> int:
        """Examinations of all days."""
        return sum(bar.examinations for bar in self.bars)


def chart(days: Sequence[Day], budget: float | None) -> Chart:
    """The chart of some days. ``budget``: share of clean examinations that may alert; None: not known."""
    limits = [limit(day.examinations, budget) if budget is not None else 0 for day in days]
    top = _top(max([1, *(day.alerted for day in days), *limits]))
    base = HEIGHT - _BOTTOM
    scale = (base - _TOP) / top
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(days))
    every = -(-len(days) // _LABELS)
    bars = []
    for index, (day, most) in enumerate(zip(days, limits, strict=True)):
        bars.append(
            Bar(
                round(_LEFT + index * step + 0.15 * step, 2),
                round(base - day.alerted * scale, 2),
                round(0.7 * step, 2),
                round(day.alerted * scale, 2),
                round(base - most * scale, 2),
                day.day.isoformat(),
                day.alerted,
                day.examinations,
                day.commands,
                day.examinations * (budget or 0.0),
                most,
                budget is not None and day.alerted > most,
                f"{day.day:%d %b}" if index % every == 0 else "",
            )
        )
    ticks = [
        (round(base - value * scale, 2), str(value)) for value in range(0, top + 1, max(1, top // _TICKS))
    ]
    return Chart(bars, ticks, WIDTH, HEIGHT, _LEFT, WIDTH - _RIGHT, base, budget)


def _top(most: int) -> int:
    """A round number not below ``most``, that its ticks divide."""
    step = 1
    while step * _TICKS < most:
        step = step * 2 if str(step)[0] in "15" else step // 2 * 5
    return step * _TICKS if most > _TICKS else most
