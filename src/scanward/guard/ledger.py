"""What one examination has been sent and has received: history, and dose per phantom and place. Pure.

CTDIvol adds up where ranges overlap (per 10 mm of z), DLP per examination, and neither ever over phantoms
(IEC 60601-2-44; NEMA XR-25: the alert is on delivered plus forecast).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scanward.commands import Command
from scanward.guard.events import Caps, Forecast

BIN_MM = 10.0  # z resolution; a collimation is rarely narrower than this
WIDEST = 400  # bins; 4 m, longer than any table


@dataclass(slots=True)
class Ledger:
    """One examination (or patient). ``everywhere`` holds CTDIvol whose place is not known."""

    sent: list[Command] = field(default_factory=list)
    ctdivol: dict[int, dict[int, float]] = field(default_factory=dict)  # phantom -> bin -> mGy
    everywhere: dict[int, float] = field(default_factory=dict)  # phantom -> mGy
    dlp: dict[int, float] = field(default_factory=dict)  # phantom -> mGy.cm

    @property
    def empty(self) -> bool:
        """Whether nothing was sent or delivered."""
        return not (self.sent or self.ctdivol or self.everywhere or self.dlp)

    def add(self, dose: Forecast) -> None:
        """Count a dose as delivered (NaN and negative figures count as nothing here; form refuses them)."""
        if dose.dlp > 0:
            self.dlp[dose.phantom] = self.dlp.get(dose.phantom, 0.0) + dose.dlp
        if dose.ctdivol > 0:
            places = bins(dose)
            if places is None:
                self.everywhere[dose.phantom] = self.everywhere.get(dose.phantom, 0.0) + dose.ctdivol
            else:
                row = self.ctdivol.setdefault(dose.phantom, {})
                for place in places:
                    row[place] = row.get(place, 0.0) + dose.ctdivol

    def peak(self, phantom: int) -> float:
        """Largest CTDIvol at any z (mGy)."""
        return self.everywhere.get(phantom, 0.0) + max(self.ctdivol.get(phantom, {}).values(), default=0.0)

    def over(self, doses: tuple[Forecast, ...], caps: Caps) -> str:
        """What delivered plus ``doses`` exceeds of ``caps``, as a sentence; empty when nothing.

        A dose of a phantom without a cap is compared with the lowest one: leaving the phantom out must not
        be a way around the caps.
        """
        ahead = Ledger(
            [], {p: dict(row) for p, row in self.ctdivol.items()}, dict(self.everywhere), dict(self.dlp)
        )
        for dose in doses:
            if not (math.isfinite(dose.ctdivol) and math.isfinite(dose.dlp)):
                return "a dose that is not a number cannot be compared with its cap"
            ahead.add(dose)
        for phantom in {dose.phantom for dose in doses}:
            for name, unit, caps_of, value in (
                ("CTDIvol", "mGy", caps.ctdivol, ahead.peak(phantom)),
                ("DLP", "mGy.cm", caps.dlp, ahead.dlp.get(phantom, 0.0)),
            ):
                cap = caps_of.get(phantom, min(caps_of.values(), default=0.0))
                if value > cap:
                    return (
                        f"{name} delivered and forecast {value:.4g} {unit} ({phantom} cm) exceeds {cap:.4g}"
                    )
        return ""


def repeated(doses: tuple[Forecast, ...], times: int) -> tuple[Forecast, ...]:
    """Each dose ``times`` over, in the same place: a session of a thousand triggers is no thousand sums."""
    return tuple(replace(d, ctdivol=d.ctdivol * times, dlp=d.dlp * times) for d in doses)


def bins(dose: Forecast) -> range | None:
    """The 10 mm places that a dose covers; None when its range is not known or not sensible."""
    if not (math.isfinite(dose.z_low) and math.isfinite(dose.z_high)):
        return None
    low, high = sorted((dose.z_low, dose.z_high))
    first, last = math.floor(low / BIN_MM), math.floor(high / BIN_MM)
    return range(first, last + 1) if last - first < WIDEST else None


class Ledgers:
    """Ledgers by examination or patient, the least recently used forgotten beyond ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, Ledger] = OrderedDict()

    def of(self, key: str) -> Ledger:
        """The ledger of ``key``, a new one when there is none."""
        return self.together((key,))[0]

    def together(self, keys: Sequence[str]) -> list[Ledger]:
        """The ledgers of all ``keys``: none of them makes another of them forgotten."""
        for key in keys:
            self._held.setdefault(key, Ledger())
            self._held.move_to_end(key)
        while len(self._held) > max(self._limit, len(keys)):
            # One without dose goes first: naming new examinations must not make an old one forgotten.
            others = [k for k in self._held if k not in keys]
            del self._held[next((k for k in others if self._held[k].empty), others[0])]
        return [self._held[key] for key in keys]

    def keys(self) -> tuple[str, ...]:
        """Whose ledgers are held, least recently used first."""
        return tuple(self._held)
