"""What the three outer layers share: reading values, naming acquisition types, and margins around extremes.

A learned extreme is the largest value *seen*, never the largest *possible*: the fewer commands it was learned
from, the wider the margin. All margins of form and limits are computed here and nowhere else; what is stored
in a bundle are the extremes and counts themselves, so that a reader can check them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scanward.commands import FIELDS, Command, Group, Value

SPIRAL = "SPIRAL"
SEQUENCED = "SEQUENCED"
STATIONARY = "STATIONARY"
CONSTANT_ANGLE = "CONSTANT_ANGLE"
FREE = "FREE"

# Positions: an extreme of 3 mm says nothing of 10 mm, so margins are lengths, not shares of the value.
POSITIONS = frozenset(
    {
        "TableHeight",
        "AcquisitionStartLocation",
        "AcquisitionEndLocation",
        "GantryDetectorTilt",
        "TubeAngle",
        "EstimatedDoseSaving",
    }
)
_POSITION_MARGIN = {"GantryDetectorTilt": 2.0, "TubeAngle": 5.0, "EstimatedDoseSaving": 10.0}

# Doses and currents follow the patient's size over more than a decade: their margins are factors.
SCALED = frozenset(
    {
        "XRayTubeCurrentInmA",
        "XRayTubeCurrentInmASourceB",
        "MaximumXRayTubeCurrent",
        "MaximumXRayTubeCurrentSourceB",
        "MinimumXRayTubeCurrent",
        "AECMinimumTubeCurrent",
        "AECMaximumTubeCurrent",
        "QualityReferenceMAs",
        "Exposure",
        "CTDIvol",
        "DLP",
        "ScanLength",
        "ExposureTimeInms",
        "NumberOfRotations",
    }
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Two tiers around what was seen: outside ``low..high`` alerts, outside ``hard_low..hard_high`` halts."""

    low: float
    high: float
    hard_low: float
    hard_high: float


def number_of(value: object) -> float | None:
    """A finite number, or None: text, booleans, NaN and infinities are not numbers here."""
    if type(value) is float or type(value) is int:
        return float(value) if math.isfinite(value) else None
    return None


@lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """Text as it is compared: white space and case do not matter."""
    return " ".join(text.split()).casefold()


def token(value: object) -> Value | None:
    """A parameter as part of a key: folded text, or a number rounded to five decimals."""
    if type(value) is float:
        return round(value, 5)
    if isinstance(value, str):
        return folded(value)
    return float(value) if type(value) is int else None


@lru_cache(maxsize=512)
def _type_named(text: str) -> str:
    words = text.casefold().replace("_", " ")
    for name, marks in (
        (SPIRAL, ("spiral", "helical")),
        (CONSTANT_ANGLE, ("constant angle", "scout", "topogram", "localizer", "surview", "scanogram")),
        (STATIONARY, ("stationary", "cine", "monitoring")),
        (SEQUENCED, ("sequence", "axial")),
        (FREE, ("free",)),
    ):
        if any(mark in words for mark in marks):
            return name
    return " ".join(text.split()).upper()


def acquisition_type(command: Command) -> str:
    """Acquisition Type (0018,9302) as a defined term, whatever spelling was read; "" when not given.

    Code meanings of PS3.16 CID 10013 ("Spiral Acquisition") and consoles' words ("Helical") are understood.
    """
    value = command.parameters.get("AcquisitionType")
    return _type_named(value) if isinstance(value, str) else ""


def bounds(name: str, low: float, high: float, count: int) -> Bounds:
    """Margins around the extremes of ``count`` recorded values of one field.

    Positions: a quarter of the span (all of it for start and end locations), more when few were seen, and at
    least 20 mm (2 degrees of tilt).
    Doses, currents, lengths: a factor of 1.35, more when few were seen; halt beyond a factor 3.
    Everything else (settings from a maker's list): a tenth of the span and 2 %, more when few were seen; halt
    beyond the span on either side, or half the value.
    """
    few = 1.0 / math.sqrt(max(count, 1))
    span = high - low
    if name in POSITIONS:
        least = _POSITION_MARGIN.get(name, 20.0)
        # where a scan lies follows the protocol: a new protocol lies elsewhere, and harms nobody by that
        share = 1.0 if name.endswith("Location") else 0.25
        soft = max((share + few) * span, least * (1 + 3 * few))
        hard = max((3.0 + 10.0 * few) * span, 10.0 * least)
        return Bounds(low - soft, high + soft, low - hard, high + hard)
    if name in SCALED and low >= 0:
        soft = 1.35 + 2.0 * few
        hard = max(3.0, 1.5 * soft)
        return Bounds(low / soft, high * soft, low / (3.0 * hard), high * hard)
    size = max(abs(low), abs(high))
    soft = (0.1 + few) * span + (0.02 + 0.2 * few) * size
    hard = max(span, 0.5 * size, 2.0 * soft)
    return Bounds(low - soft, high + soft, low - hard, high + hard)


def ceiling(high: float, count: int) -> float:
    """A device's own maximum: the largest value seen and 5 %, more when few were seen."""
    return high * (1.05 + 0.5 / math.sqrt(max(count, 1)))


def is_patient_field(name: str) -> bool:
    """Fields whose absence never counts against a command."""
    field = FIELDS.get(name)
    return field is not None and field.group is Group.PATIENT


def shown(value: Any) -> str:
    """A number for people: four significant digits, no trailing zeros."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
