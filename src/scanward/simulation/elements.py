"""The words protocols are written in: element and protocol before they are fitted to a scanner."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def scout(name: str = "Topogram", length: float = 400.0, start: float = 20.0) -> ElementSpec:
    """A localizer; lengths and starts in mm."""
    return ElementSpec(name, LOCALIZER, length=length, start=start, width=0, kernel="scout", aec=False)


def spiral(name: str, dose: float, length: float, start: float = 0.0, **more: object) -> ElementSpec:
    """A helical scan of so much dose (mGy) over so much length (mm)."""
    return replace(ElementSpec(name, SPIRAL, dose=dose, length=length, start=start), **more)  # type: ignore[arg-type]


def head(name: str, dose: float, **more: object) -> ElementSpec:
    """A helical scan of the head, judged on the 16 cm phantom."""
    spec = spiral(name, dose, 165, -5, width=1, rotation=1.0, pitch=0.55, slice_mm=3.0, kernel="brain")
    return replace(spec, filter_kind="head", head_phantom=True, **more)  # type: ignore[arg-type]


def bolus(start: float, dose: float = 1.1) -> tuple[ElementSpec, ElementSpec]:
    """Pre-monitoring and monitoring of a contrast bolus at one place (mm)."""
    # REF: pre-monitoring 40 mA, 0.5 s, 10 mm, 1.2 mGy per rotation, then monitoring until arrival
    pre = ElementSpec(
        "PreMonitoring",
        STATIONARY,
        dose,
        length=10,
        start=start,
        width=0,
        slice_mm=5.0,
        aec=False,
        rotations=1,
    )
    return pre, replace(pre, name="Monitoring", rotations=0, contrast=True)


SCOUT_HEAD = scout("Topogram Head", 250, 30)
SCOUT_LATERAL = scout("Topogram Lateral", 250, 30)
SCOUT_CHEST = scout("Topogram Chest", 420, 30)
SCOUT_BODY = scout("Topogram Body", 650, 30)
SCOUT_ABDOMEN = scout("Topogram Abdomen", 500, -170)
ABDOMEN = {"rotation": 0.5, "pitch": 0.9, "slice_mm": 3.0}
LUNG = {"kernel": "lung", "slice_mm": 1.5, "pitch": 1.2}
CTA = {"kernel": "vessel", "slice_mm": 1.0, "contrast": True, "kvp": 100.0, "pitch": 1.2}
