"""The words protocols are written in: element and protocol before they are fitted to a scanner."""

from __future__ import annotations

from dataclasses import dataclass

LOCALIZER, SPIRAL, SEQUENCED, STATIONARY = "CONSTANT_ANGLE", "SPIRAL", "SEQUENCED", "STATIONARY"


@dataclass(frozen=True)
class ElementSpec:
    """One entry of a protocol before it is fitted to a scanner. mGy, kV, mm, s."""

    name: str
    kind: str
    dose: float = 0.0
    kvp: float = 120.0
    length: float = 300.0
    start: float = 0.0
    width: int = 2  # index into the model's collimations
    rotation: float = 0.5
    pitch: float = 1.0
    slice_mm: float = 1.0
    kernel: str = "soft"
    filter_kind: str = "body"
    contrast: bool = False
    aec: bool = True
    rotations: int = 0  # stationary: fixed number; 0 = until the bolus arrives
    prone: bool = False
    head_phantom: bool = False


@dataclass(frozen=True)
class ProtocolSpec:
    """A protocol before it is fitted to a scanner.

    ``ages`` are the patients it is meant for: (0, 0) adults only, (low, high) children, (0, 200) all.
    ``weight`` is its relative frequency.
    """

    name: str
    procedure: str
    body_part: str
    region: str
    weight: float
    elements: tuple[ElementSpec, ...]
    ages: tuple[float, float] = (0.0, 0.0)
    emergency: float = 0.15
    feet_first: bool = False
