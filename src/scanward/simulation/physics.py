"""What the simulated scanner computes from what it is told: dose, time, table, rounded as real ones round.

This is the simulator's own physics; the judging layers have theirs, and neither imports the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Value
from scanward.simulation import constants as k
from scanward.simulation.constants import Model
from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL, ElementSpec, ProtocolSpec
from scanward.simulation.patients import is_child_protocol


@dataclass(frozen=True)
class Element:
    """One protocol element fitted to one scanner: every default resolved."""

    spec: ElementSpec
    protocol: ProtocolSpec
    protocol_name: str
    model: Model
    index: int
    region: str  # whose size its AEC follows
    kvp: float
    reference_ma: float  # after AEC at the reference size; the fixed current when AEC is off
    aec_min: float
    aec_max: float
    single: float
    total: float
    rotation: float
    pitch: float | None
    filter_type: str
    phantom: str
    kernel: str
    noise_reference: float
    child: bool


def phantom_factor(phantom: str) -> float:
    """Dose in this phantom over dose in the body phantom."""
    return k.HEAD_OVER_BODY if phantom == HEAD_PHANTOM else 1.0


def max_ma(model: Model, kvp: float) -> float:
    """What tube and generator can give at a tube voltage (mA, rounded down to the model's step)."""
    limit = min(model.max_ma, model.max_kw * 1000 / kvp)
    return math.floor(limit / model.ma_step + 1e-9) * model.ma_step


def nearest(options: tuple[float, ...], wanted: float) -> float:
    """The option nearest to a wish."""
    return min(options, key=lambda x: abs(x - wanted))


def round_to(value: float, step: float) -> float:
    """Rounded to a step, without the dust of binary fractions."""
    return float(round(round(value / step) * step, 6))


def fit_element(
    spec: ElementSpec, protocol: ProtocolSpec, name: str, index: int, model: Model, site_factor: float
) -> Element:
    """Resolve a protocol element on a scanner; ``site_factor`` is the site's own taste in dose."""
    child = is_child_protocol(protocol)
    kvp = model.localizer_kvp if spec.kind == LOCALIZER else nearest(model.kvps, spec.kvp)
    width = 0 if spec.kind == LOCALIZER else (1 if spec.kind == SEQUENCED and spec.width == 2 else spec.width)
    single, total, _ = model.collimations[width]
    rotation = nearest(model.rotations, spec.rotation)
    pitch = nearest(model.pitches, spec.pitch) if spec.kind == SPIRAL else None
    phantom, dose = HEAD_PHANTOM if spec.head_phantom else BODY_PHANTOM, spec.dose * site_factor
    if child and phantom == BODY_PHANTOM and model.child_body_phantom == HEAD_PHANTOM:
        phantom, dose = HEAD_PHANTOM, dose * k.HEAD_OVER_BODY
    element = Element(
        spec, protocol, name, model, index, "head" if spec.head_phantom else protocol.region,
        kvp, model.localizer_ma, 0.0, 0.0, single, total, rotation, pitch,
        model.filters[spec.filter_kind][0], phantom, model.kernels[spec.kernel], 0.0, child,
    )  # fmt: skip
    if spec.kind == LOCALIZER:
        return element
    limit = max_ma(model, kvp)
    constant = dose_constant(model, element.filter_type, total, phantom)
    mas = dose / (constant * k.KVP_RATIO[kvp]) / max(spec.rotations, 1)
    current = mas * (pitch or 1.0) / rotation
    # a technique the tube cannot follow for larger patients is given more time, then a lower pitch
    while not child and current > 0.55 * limit:
        slower = [r for r in model.rotations if r > rotation]
        lower = [p for p in model.pitches if pitch is not None and p < pitch and p > 0.3]
        if slower:
            current, rotation = current * rotation / slower[0], slower[0]
        elif lower and pitch is not None:
            current, pitch = current * lower[-1] / pitch, lower[-1]
        else:
            current = 0.55 * limit
    low = k.AEC_MIN_FACTOR * (0.3 if child else 1.0)
    fields = {
        "rotation": rotation,
        "pitch": pitch,
        "reference_ma": current if spec.aec else max(model.ma_step, round_to(current, model.ma_step)),
        "aec_min": max(10.0, round_to(low * current, 10.0)),
        "aec_max": min(limit, round_to(k.AEC_MAX_FACTOR * current, 10.0)),
        "noise_reference": round_to(k.NOISE_INDEX_AT_REFERENCE * math.sqrt(7.5 / max(dose, 0.1)), 0.5)
        if model.aec_reference == "NoiseIndex"
        else float(round(mas)),
    }
    return Element(**{**element.__dict__, **fields})


def length_step(element: Element) -> float:
    """The step of ScanLength: whole rotations when sequenced, else the maker's."""
    return element.total if element.spec.kind == SEQUENCED else element.model.length_step


def consequences(model: Model, told: Mapping[str, Value]) -> dict[str, Value]:
    """Everything that follows from what a scanner was told: feed, speed, time, exposure, CTDIvol, DLP.

    ``told`` holds the primary fields of one command; each result has its device's rounding. Raises KeyError
    when a primary field of this acquisition type is missing.
    """
    kind, out = told["AcquisitionType"], dict[str, Value]()
    ma, ratio, length = (
        _number(told, "XRayTubeCurrentInmA"),
        kvp_ratio(_number(told, "KVP")),
        _number(told, "ScanLength"),
    )
    if kind == LOCALIZER:
        seconds = length / k.LOCALIZER_SPEED_MM_S
        out["TableSpeed"] = k.LOCALIZER_SPEED_MM_S
        out["ExposureTimeInms"] = round_to(seconds * 1000, 10)
        out["Exposure"] = float(round(ma * seconds))
        if model.localizer_dose_per_ma is not None:
            ctdi = round(model.localizer_dose_per_ma * ma * ratio, k.CTDI_DECIMALS)
            out["CTDIvol"], out["DLP"] = ctdi, round(ctdi * length / 10, model.dlp_decimals)
        return out
    total, rotation = _number(told, "TotalCollimationWidth"), _number(told, "RevolutionTime")
    constant = dose_constant(model, str(told["FilterType"]), total, str(told["CTDIwPhantomType"]))
    mas, over = ma * rotation, 0.0
    if kind == SPIRAL:
        pitch = _number(told, "SpiralPitchFactor")
        feed = round(pitch * total, 2)
        over = model.overrange[0] * feed + model.overrange[1] * total
        out["TableFeedPerRotation"], out["TableSpeed"] = feed, round(feed / rotation, 1)
        seconds, effective = (length + max(over, 0.0)) / feed * rotation, mas / pitch
        out["Exposure"] = float(round(effective if model.exposure_is_effective else mas))
    elif kind == SEQUENCED:
        out["TableFeedPerRotation"] = total
        seconds, effective = length / total * rotation, mas
        out["Exposure"] = float(round(mas))
    else:
        rotations = _number(told, "NumberOfRotations")
        seconds, effective = rotations * rotation, mas * rotations
        out["Exposure"] = float(round(mas))
    out["ExposureTimeInms"] = round_to(seconds * 1000, 10)
    ctdi = constant * ratio * effective
    out["CTDIvol"] = round(ctdi, k.CTDI_DECIMALS)
    out["DLP"] = round(ctdi * max(length + over, total * 0.5) / 10, model.dlp_decimals)
    return out


def _number(told: Mapping[str, Value], name: str) -> float:
    value = told[name]
    if not isinstance(value, float):
        raise KeyError(name)
    return value


def kvp_ratio(kvp: float) -> float:
    """Dose at a tube voltage over that at 120 kV: the table, and kV^3 between its rows."""
    known = k.KVP_RATIO.get(kvp)
    return known if known is not None else (kvp / 120) ** 3


def dose_constant(model: Model, filter_type: str, total: float, phantom: str) -> float:
    """mGy per mAs at 120 kV for a beam: collimation, filter, phantom. Unknown ones count as the widest, 1."""
    beam = next((factor for _, width, factor in model.collimations if width == total), 1.0)
    shaped = next((factor for name, factor in model.filters.values() if name == filter_type), 1.0)
    return model.mgy_per_100_mas / 100 * beam * shaped * phantom_factor(phantom)
