"""What is in the scan room besides the gantry: patient, injector, and somebody who can clear a safe state.

The room is the test bench's own knowledge. Nothing of it crosses the link between host and gantry, so no attack
can change it and no guard can read it: whatever is scored is scored here, by the gantry's own physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanward.commands import Value
from scanward.simulation.dose import Ledger
from scanward.simulation.scanner import CLEARANCE_MM, CONTRAST_STAYS_S, OnTable


@dataclass(frozen=True, slots=True)
class Acquired:
    """One scan that took place, whole or in part.

    Attributes
    ----------
    parameters : mapping
        As performed: what the gantry was told, with AEC's current and the figures that follow.
    dlp : float
        mGy.cm on the phantom of ``phantom_cm``; ``ctdivol`` likewise in mGy.
    in_contrast : bool or None
        Whether the middle of the beam met the contrast; None for a scan that wants none.
    off_centre : float
        How far the patient lay above (+) or below (-) the isocentre, mm.
    begun : float
        Seconds on the gantry's clock.
    """

    load: str
    element: int
    parameters: Mapping[str, Value]
    ctdivol: float
    dlp: float
    phantom_cm: int
    low: float
    high: float
    seconds: float
    begun: float
    aborted: bool = False
    in_contrast: bool | None = None
    off_centre: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For the room's report."""
        return {name: getattr(self, name) for name in self.__slots__} | {"parameters": dict(self.parameters)}


@dataclass
class Room:
    """Patient, injector, and what happened to them. Times are seconds on the gantry's clock."""

    who: OnTable = field(default_factory=OnTable)
    ledger: Ledger = field(default_factory=Ledger)
    acquired: list[Acquired] = field(default_factory=list)
    collisions: list[str] = field(default_factory=list)
    injector_armed: bool = False  # starts together with the first scan that wants contrast
    injected_at: float | None = None
    measured: float | None = None  # mm; what the last localizer made of the patient's size

    def enter(self, who: OnTable) -> None:
        """Another patient lies down: dose, contrast and localizer begin anew."""
        self.who, self.ledger = who, Ledger()
        self.acquired, self.collisions = [], []
        self.injector_armed, self.injected_at, self.measured = False, None, None

    def inject(self, now: float) -> None:
        """The injector begins."""
        self.injected_at, self.injector_armed = now, False

    @property
    def arrival(self) -> float | None:
        """When the contrast is in the monitored vessel; None while nothing was injected."""
        return None if self.injected_at is None else self.injected_at + self.who.transit

    def enhanced(self, at: float) -> bool:
        """Whether the vessel is full of contrast."""
        arrival = self.arrival
        return arrival is not None and arrival <= at <= arrival + CONTRAST_STAYS_S

    def raised_to(self, height: float, why: str) -> None:
        """The table is at a height (mm): beyond the clearance of the bore, the patient is hit."""
        off = height - self.who.centre
        if abs(off) > CLEARANCE_MM:
            self.collisions.append(f"{why}: table {off:+.0f} mm from the patient's centre")

    def record(self, done: Acquired) -> None:
        """A scan took place: its dose went into the patient."""
        self.acquired.append(done)
        self.ledger.add(done.phantom_cm, done.low, done.high, done.ctdivol)

    def report(self) -> dict[str, Any]:
        """Everything that happened to the patient on the table."""
        return {
            "dose": self.ledger.as_json(),
            "acquired": [a.as_json() for a in self.acquired],
            "collisions": list(self.collisions),
            "injected": self.injected_at is not None,
        }
