"""What one examination has received so far: the state of the limits layer, each phantom apart.

NEMA XR-25 wants CTDIvol accumulated *at each position*: two scans of different places do not add up, and
bolus monitoring, which irradiates one place again and again, does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_MOST_SEGMENTS = 512  # of the dose profile; beyond that neighbours are joined at the higher dose
_LOCATION_STEP = 1.0  # mm


@dataclass(frozen=True, slots=True)
class PhantomDose:
    """Delivered on one phantom: CTDIvol in mGy by position, and DLP in mGy.cm.

    ``segments``: disjoint (from mm, to mm, mGy), in order. ``anywhere``: CTDIvol of commands without
    locations, which may have met any position.
    """

    segments: tuple[tuple[float, float, float], ...] = ()
    anywhere: float = 0.0
    dlp: float = 0.0

    @property
    def peak(self) -> float:
        """The highest CTDIvol that any one position may have received."""
        return self.anywhere + max((s[2] for s in self.segments), default=0.0)

    def plus(self, start: float | None, end: float | None, ctdivol: float, dlp: float) -> PhantomDose:
        """After one more command; without locations its dose counts everywhere."""
        if start is None or end is None:
            return PhantomDose(self.segments, self.anywhere + ctdivol, self.dlp + dlp)
        low, high = _rounded(min(start, end)), _rounded(max(start, end))
        high = max(high, low + _LOCATION_STEP)  # a table that stands still irradiates a place, not a point
        return PhantomDose(_added(self.segments, low, high, ctdivol), self.anywhere, self.dlp + dlp)


@dataclass(frozen=True, slots=True)
class DoseState:
    """What one examination has received so far, each phantom apart."""

    phantoms: Mapping[str, PhantomDose] = field(default_factory=dict)


def _rounded(location: float) -> float:
    return round(location / _LOCATION_STEP) * _LOCATION_STEP


def _added(
    segments: tuple[tuple[float, float, float], ...], low: float, high: float, dose: float
) -> tuple[tuple[float, float, float], ...]:
    """The profile with ``dose`` added between ``low`` and ``high``: disjoint, in order."""
    result: list[tuple[float, float, float]] = []
    at = low
    for start, end, value in segments:
        if end <= low or start >= high:
            if start >= high and at < high:
                result.append((at, high, dose))
                at = high
            result.append((start, end, value))
            continue
        if start < low:
            result.append((start, low, value))
        if at < start:
            result.append((at, start, dose))
        result.append((max(start, low), min(end, high), value + dose))
        at = min(end, high)
        if end > high:
            result.append((high, end, value))
    if at < high:
        result.append((at, high, dose))
    return tuple(result) if len(result) <= _MOST_SEGMENTS else _joined(result)


def _joined(segments: list[tuple[float, float, float]]) -> tuple[tuple[float, float, float], ...]:
    """Neighbours in pairs, each at the higher dose: the state stays small and no dose is forgotten."""
    pairs = [segments[i : i + 2] for i in range(0, len(segments), 2)]
    return tuple((p[0][0], p[-1][1], max(s[2] for s in p)) for p in pairs)
