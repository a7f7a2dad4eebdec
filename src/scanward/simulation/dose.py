"""Where the dose of one patient went: per phantom, in bins of 10 mm along the table, never summed over phantoms.

CTDIvol is a figure of a phantom. What was given on the 16 cm phantom and what was given on the 32 cm phantom are
kept apart, as dose reports keep them (PS3.16 TID 10011: accumulated per phantom; IEC 60601-2-44 for CTDIvol and
DLP). Within one phantom, doses of scans that cover the same place add up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

BIN_MM = 10.0
MOST_BINS = 1_000  # of one scan: 10 m of table, which no scanner has


@dataclass
class Ledger:
    """Dose of one patient: ``bins[phantom_cm][k]`` is the CTDIvol (mGy) of k x 10 mm to (k + 1) x 10 mm."""

    bins: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))

    def add(self, phantom_cm: int, low: float, high: float, ctdivol: float) -> None:
        """One scan of ``ctdivol`` (mGy) from ``low`` to ``high`` (mm); bins at its ends get their share.

        Raises
        ------
        ValueError
            When a figure is not finite, the dose negative, the range reversed, or longer than any table.
        """
        if not all(map(math.isfinite, (low, high, ctdivol))) or ctdivol < 0 or high < low:
            raise ValueError(f"no scan: {ctdivol} mGy from {low} to {high} mm")
        if high - low > MOST_BINS * BIN_MM:
            raise ValueError(f"{high - low} mm is longer than any table")
        first, last = math.floor(low / BIN_MM), math.ceil(high / BIN_MM)
        for place in range(first, last):
            covered = min(high, (place + 1) * BIN_MM) - max(low, place * BIN_MM)
            if covered > 0 and ctdivol > 0:
                self.bins[phantom_cm][place] += ctdivol * covered / BIN_MM

    def peak(self, phantom_cm: int) -> float:
        """The largest dose of one place (mGy) on this phantom."""
        return max(self.bins.get(phantom_cm, {}).values(), default=0.0)

    def dlp(self, phantom_cm: int) -> float:
        """Dose times length (mGy.cm) on this phantom."""
        return sum(self.bins.get(phantom_cm, {}).values()) * BIN_MM / 10

    def phantoms(self) -> tuple[int, ...]:
        """Phantoms on which anything was given."""
        return tuple(sorted(cm for cm, bins in self.bins.items() if bins))

    def as_json(self) -> dict[str, dict[str, float]]:
        """Peak (mGy) and DLP (mGy.cm) by phantom (cm)."""
        return {
            str(cm): {"peak_mGy": round(self.peak(cm), 3), "DLP_mGy_cm": round(self.dlp(cm), 3)}
            for cm in self.phantoms()
        }
