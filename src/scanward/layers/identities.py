"""The identities that layer 2 may test, and what is learned of each: definitions alone, shared with learning.

Sources: IEC 60601-2-44 for CTDIvol over pitch and over increment; PS3.3 C.8.15.3 for table feed and speed;
PS3.16 TID 10013 for the figures a dose report carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanward.commands import Value


@dataclass(frozen=True, slots=True)
class Identity:
    """A statistic that a device may hold constant.

    ``terms``: (field, +1 or -1). A ratio is their product; an offset is
    ``scale * product(terms) - minus``, with ``minus`` the name of a length in mm divided by ``per`` (or
    ``"|range|"``: the distance between start and end location).
    ``group``: alternatives, of which learning keeps one. ``dose``: the constant depends on KVP and phantom.
    ``upper_only``: an order (mean <= maximum), not an equality.
    """

    name: str
    group: str
    terms: tuple[tuple[str, int], ...]
    says: str
    minus: str = ""
    scale: float = 1.0
    per: float = 1.0
    dose: bool = False
    upper_only: bool = False

    @property
    def is_offset(self) -> bool:
        """Whether the statistic is a difference."""
        return bool(self.minus)

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that take part, the dependent one first."""
        names = tuple(name for name, _ in self.terms)
        if self.minus == RANGE:
            return (*names, "AcquisitionStartLocation", "AcquisitionEndLocation")
        return (*names, self.minus) if self.minus else names


RANGE = "|range|"


def _ratio(
    name: str, group: str, says: str, fields: str, dose: bool = False, order: bool = False
) -> Identity:
    """``fields``: numerator names, "/", denominator names, separated by spaces."""
    above, _, below = fields.partition("/")
    terms = tuple((f, 1) for f in above.split()) + tuple((f, -1) for f in below.split())
    return Identity(name, group, terms, says, dose=dose, upper_only=order)


_MA, _T, _P, _N = "XRayTubeCurrentInmA", "RevolutionTime", "SpiralPitchFactor", "NumberOfRotations"
_C, _FEED, _V, _X = "TotalCollimationWidth", "TableFeedPerRotation", "TableSpeed", "ExposureTimeInms"
_E, _D, _AEC = "Exposure", "CTDIvol", "AECMaximumTubeCurrent"

# Within a group the first that holds as well as any other is kept.
IDENTITIES: tuple[Identity, ...] = (
    _ratio(
        "exposure_over_pitch", "exposure", "Exposure = mA x rotation time / pitch", f"{_E} {_P} / {_MA} {_T}"
    ),
    _ratio(
        "exposure_rotations",
        "exposure",
        "Exposure = mA x rotation time x rotations",
        f"{_E} / {_MA} {_T} {_N}",
    ),
    _ratio("exposure_per_rotation", "exposure", "Exposure = mA x rotation time", f"{_E} / {_MA} {_T}"),
    _ratio("exposure_beam_on", "exposure", "Exposure = mA x exposure time", f"{_E} / {_MA} {_X}"),
    _ratio("exposure_pitch_only", "exposure", "Exposure is proportional to mA / pitch", f"{_E} {_P} / {_MA}"),
    _ratio("exposure_current", "exposure", "Exposure is proportional to mA", f"{_E} / {_MA}"),
    _ratio("feed", "feed", "table feed = pitch x collimation", f"{_FEED} / {_P} {_C}"),
    _ratio("speed", "speed", "table speed = feed / rotation time", f"{_V} {_T} / {_FEED}"),
    _ratio("speed_feed", "speed", "table speed is proportional to feed", f"{_V} / {_FEED}"),
    _ratio(
        "speed_pitch",
        "speed_pitch",
        "table speed = pitch x collimation / rotation time",
        f"{_V} {_T} / {_P} {_C}",
    ),
    _ratio("time_rotation", "time", "exposure time = rotation time", f"{_X} / {_T}"),
    _ratio("time_rotations", "time", "exposure time = rotations x rotation time", f"{_X} / {_T} {_N}"),
    Identity(
        "time_speed",
        "time",
        ((_X, 1), (_V, 1)),
        "exposure time x table speed = length + over-range",
        minus="ScanLength",
        scale=1e-3,
    ),
    Identity(
        "time_pitch",
        "time",
        ((_X, 1), (_P, 1), (_C, 1), (_T, -1)),
        "exposure time x pitch x collimation / rotation time = length + over-range",
        minus="ScanLength",
        scale=1e-3,
    ),
    Identity(
        "length", "length", (("ScanLength", 1),), "length = distance of start and end location", minus=RANGE
    ),
    _ratio(
        "dose_over_pitch",
        "dose",
        "CTDIvol per effective mAs is the device's",
        f"{_D} {_P} / {_MA} {_T}",
        True,
    ),
    _ratio(
        "dose_increment",
        "dose",
        "CTDIvol per mAs x collimation / increment is the device's",
        f"{_D} {_FEED} / {_MA} {_T} {_C}",
        True,
    ),
    _ratio(
        "dose_rotations",
        "dose",
        "CTDIvol per mAs of all rotations is the device's",
        f"{_D} / {_MA} {_T} {_N}",
        True,
    ),
    _ratio("dose_per_rotation", "dose", "CTDIvol per mAs is the device's", f"{_D} / {_MA} {_T}", True),
    _ratio("dose_beam_on", "dose", "CTDIvol per beam-on mAs is the device's", f"{_D} / {_MA} {_X}", True),
    _ratio("dose_pitch_only", "dose", "CTDIvol per mA / pitch is the device's", f"{_D} {_P} / {_MA}", True),
    _ratio("dose_current", "dose", "CTDIvol per mA is the device's", f"{_D} / {_MA}", True),
    _ratio("dose_exposure", "dose_exposure", "CTDIvol per Exposure is the device's", f"{_D} / {_E}", True),
    _ratio(
        "dose_exposure_pitch",
        "dose_exposure",
        "CTDIvol per Exposure / pitch is the device's",
        f"{_D} {_P} / {_E}",
        True,
    ),
    _ratio(
        "dose_aec_pitch",
        "dose_aec",
        "forecast CTDIvol follows the AEC's highest effective mAs",
        f"{_D} {_P} / {_AEC} {_T}",
        True,
    ),
    _ratio(
        "dose_aec", "dose_aec", "forecast CTDIvol follows the AEC's highest mAs", f"{_D} / {_AEC} {_T}", True
    ),
    Identity(
        "dlp",
        "dlp",
        (("DLP", 1), (_D, -1)),
        "DLP = CTDIvol x (length + over-range)",
        minus="ScanLength",
        per=10.0,
    ),
    Identity(
        "dlp_range",
        "dlp",
        (("DLP", 1), (_D, -1)),
        "DLP = CTDIvol x (start to end + over-range)",
        minus=RANGE,
        per=10.0,
    ),
    _ratio(
        "mean_below_maximum",
        "order_max",
        "mean mA <= maximum mA",
        f"{_MA} / MaximumXRayTubeCurrent",
        order=True,
    ),
    _ratio(
        "minimum_below_mean",
        "order_min",
        "minimum mA <= mean mA",
        f"MinimumXRayTubeCurrent / {_MA}",
        order=True,
    ),
    _ratio(
        "aec_limits", "order_aec", "AEC minimum <= AEC maximum", f"AECMinimumTubeCurrent / {_AEC}", order=True
    ),
    _ratio("mean_below_aec", "order_aec_max", "mean mA <= AEC maximum", f"{_MA} / {_AEC}", order=True),
)
BY_NAME = {identity.name: identity for identity in IDENTITIES}


@dataclass(frozen=True, slots=True)
class Learned:
    """One identity as it holds for one device model and acquisition type.

    ``levels``: key fields, the most telling first. ``cells``: key prefix (values of the first k fields) to
    the statistic's interval, or None where it was tried and does not hold. ``base``: shortest prefix that may
    stand in. ``halves``: half a rounding step per measured field. ``skip_zero``: zero means "not given" here.
    """

    identity: str
    levels: tuple[str, ...]
    base: int
    cells: Mapping[tuple[Value | None, ...], tuple[float, float] | None]
    halves: Mapping[str, float]
    skip_zero: bool = False


def as_json(learned: Learned) -> dict[str, Any]:
    """A learned identity as plain JSON: a cell is [key values, low, high], or [key values] where it fails."""
    return {
        "identity": learned.identity,
        "levels": list(learned.levels),
        "base": learned.base,
        "cells": [[list(key), *(cell or ())] for key, cell in learned.cells.items()],
        "halves": dict(learned.halves),
        "skip_zero": learned.skip_zero,
    }


def from_json(settings: dict[str, Any]) -> Learned:
    """The inverse of ``as_json``; ValueError, KeyError or TypeError where it is none."""
    if settings["identity"] not in BY_NAME:
        raise ValueError(settings["identity"])
    cells: dict[tuple[Value | None, ...], tuple[float, float] | None] = {}
    for key, *cell in settings["cells"]:
        cells[tuple(_key_value(k) for k in key)] = (float(cell[0]), float(cell[1])) if cell else None
    halves = {str(n): float(h) for n, h in settings["halves"].items()}
    levels = tuple(str(name) for name in settings["levels"])
    return Learned(
        str(settings["identity"]), levels, int(settings["base"]), cells, halves, bool(settings["skip_zero"])
    )


def _key_value(value: object) -> Value | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"not a key value: {value!r}")
