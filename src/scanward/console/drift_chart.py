"""Charts of drift as numbers of an SVG that a template draws, so that they follow light and dark. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scanward.console.drift import DRIFTED, MOVED, Level, critical
from scanward.console.drift_report import DriftReport, FieldDrift, ecdf

BAND: Final = 0.99  # of pairs of samples of one law, so many stay within the band that is drawn
SHOWN: Final = 16  # fields of the bar chart
_SIDE, _LEFT, _TOP, _BOTTOM = 320.0, 44.0, 10.0, 34.0
_ROW, _NAMES, _BAR, _MOST = 24.0, 230.0, 420.0, 0.5  # px of a row, of names, of the longest bar; its index


@dataclass(frozen=True, slots=True)
class Curve:
    """p-values against their calibration: ``points`` of a stair, ``band`` two lines, all in the SVG's units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    base: float
    points: str
    band: tuple[str, ...]
    ticks: tuple[tuple[float, float, str], ...]  # x, y, label


@dataclass(frozen=True, slots=True)
class IndexBar:
    """One field: y of its row, lengths of the bar and of what chance explains."""

    y: float
    length: float
    chance: float
    drift: FieldDrift
    label: str
    over: bool  # the bar is longer than the chart
    loud: bool  # moved or drifted


@dataclass(frozen=True, slots=True)
class IndexChart:
    """The fields that moved most; ``lines`` are (x, label) of the two conventions."""

    width: float
    height: float
    names: float
    row: float
    bars: tuple[IndexBar, ...]
    lines: tuple[tuple[float, str], ...]


def curve(report: DriftReport) -> Curve | None:
    """The distribution of the p-values; None without any."""
    if not report.ranks:
        return None
    units = report.reference.units
    base, right = _TOP + _SIDE, _LEFT + _SIDE

    def point(p: float, share: float) -> str:
        return f"{_LEFT + p * _SIDE:.1f},{base - share * _SIDE:.1f}"

    points, before = [point(0.0, 0.0)], 0.0
    for p, share in ecdf(report.ranks, units):
        points += [point(p, before), point(p, share)]
        before = share
    points.append(point(1.0, before))
    off = critical(BAND, len(report.ranks), units)
    band = (
        " ".join((point(0.0, off), point(max(0.0, 1.0 - off), min(1.0, 1.0)), point(1.0, 1.0)))
        if off < 1.0
        else "",
        " ".join((point(0.0, 0.0), point(min(off, 1.0), 0.0), point(1.0, 1.0 - off))) if off < 1.0 else "",
    )
    ticks = tuple(
        (round(_LEFT + at * _SIDE, 1), round(base - at * _SIDE, 1), f"{at:g}")
        for at in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return Curve(
        right + 12.0,
        base + _BOTTOM,
        _LEFT,
        right,
        _TOP,
        base,
        " ".join(points),
        tuple(one for one in band if one),
        ticks,
    )


def index_chart(fields: Sequence[FieldDrift]) -> IndexChart | None:
    """The ``SHOWN`` first of ``fields``; None without any."""
    if not fields:
        return None
    bars = []
    for row, one in enumerate(fields[:SHOWN]):
        index, chance = one.stability.index, one.stability.chance
        bars.append(
            IndexBar(
                row * _ROW,
                round(_length(index), 1),
                round(_length(chance), 1),
                one,
                f"{index:.2f}",
                index > _MOST,
                one.stability.level in (Level.MOVED, Level.DRIFTED),
            )
        )
    lines = tuple((round(_NAMES + _length(at), 1), f"{at:g}") for at in (MOVED, DRIFTED))
    return IndexChart(_NAMES + _BAR + 110.0, len(bars) * _ROW + 22.0, _NAMES, _ROW, tuple(bars), lines)


def _length(index: float) -> float:
    return _BAR * min(index, _MOST) / _MOST
