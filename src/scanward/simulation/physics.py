"""What the simulated scanner computes from what it is told: dose, time, table, rounded as real ones round.

This is the simulator's own physics; the judging layers have theirs, and neither imports the other.
"""

from __future__ import annotations

import math
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
    beam_factor: float
    rotation: float
    pitch: float | None
    filter_type: str
    phantom: str
    kernel: str
    noise_reference: float
    child: bool

    @property
    def dose_constant(self) -> float:
        """mGy per mAs at 120 kV for this element's beam (width, filter, phantom)."""
        factor = self.beam_factor * self.model.filters[self.spec.filter_kind][1]
        return self.model.mgy_per_100_mas / 100 * factor * phantom_factor(self.phantom)


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
    single, total, beam = model.collimations[width]
    rotation = nearest(model.rotations, spec.rotation)
    pitch = nearest(model.pitches, spec.pitch) if spec.kind == SPIRAL else None
    phantom, dose = HEAD_PHANTOM if spec.head_phantom else BODY_PHANTOM, spec.dose * site_factor
    if child and phantom == BODY_PHANTOM and model.child_body_phantom == HEAD_PHANTOM:
        phantom, dose = HEAD_PHANTOM, dose * k.HEAD_OVER_BODY
    element = Element(
        spec, protocol, name, model, index, "head" if spec.head_phantom else protocol.region,
        kvp, model.localizer_ma, 0.0, 0.0, single, total, beam, rotation, pitch,
        model.filters[spec.filter_kind][0], phantom, model.kernels[spec.kernel], 0.0, child,
    )  # fmt: skip
    if spec.kind == LOCALIZER:
        return element
    limit = max_ma(model, kvp)
    mas = dose / (element.dose_constant * k.KVP_RATIO[kvp]) / max(spec.rotations, 1)
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


def derived(
    element: Element,
    kvp: float,
    ma: float,
    rotation: float,
    length: float,
    rotations: float,
    phantom: str,
    dose_noise: float = 1.0,
) -> dict[str, Value]:
    """Everything that follows: feed, speed, time, exposure, CTDIvol, DLP, each with its device's rounding.

    ``dose_noise`` is the tiny factor by which a device's own table differs from smooth physics.
    """
    model, spec, out = element.model, element.spec, dict[str, Value]()
    ratio = k.KVP_RATIO[kvp]
    if spec.kind == LOCALIZER:
        out["TableSpeed"] = k.LOCALIZER_SPEED_MM_S
        seconds = length / k.LOCALIZER_SPEED_MM_S
        out["ExposureTimeInms"] = round_to(seconds * 1000, 10)
        out["Exposure"] = float(round(ma * seconds))
        if model.localizer_dose_per_ma is not None:
            out["CTDIvol"] = round(model.localizer_dose_per_ma * ma * ratio, 2)
            out["DLP"] = round(float(out["CTDIvol"]) * length / 10, model.dlp_decimals)
            out["CTDIwPhantomType"] = phantom
        return out
    per_mas = (
        element.dose_constant / phantom_factor(element.phantom) * phantom_factor(phantom) * ratio * dose_noise
    )
    mas = ma * rotation
    if spec.kind == SPIRAL:
        assert element.pitch is not None
        feed = round(element.pitch * element.total, 2)
        over = model.overrange[0] * feed + model.overrange[1] * element.total
        out["TableFeedPerRotation"] = feed
        out["TableSpeed"] = round(feed / rotation, 1)
        beam_length = length + max(over, 0.0)
        seconds, effective = beam_length / feed * rotation, mas / element.pitch
        out["Exposure"] = float(round(effective if model.exposure_is_effective else mas))
    elif spec.kind == SEQUENCED:
        over, effective = 0.0, mas
        out["TableFeedPerRotation"] = element.total
        seconds = length / element.total * rotation
        out["Exposure"] = float(round(mas))
    else:
        over, effective = 0.0, mas * rotations
        seconds = rotations * rotation
        out["NumberOfRotations"] = rotations
        out["Exposure"] = float(round(mas))
    out["ExposureTimeInms"] = round_to(seconds * 1000, 10)
    ctdi = per_mas * effective
    out["CTDIvol"] = round(ctdi, k.CTDI_DECIMALS)
    out["DLP"] = round(ctdi * max(length + over, element.total * 0.5) / 10, model.dlp_decimals)
    out["CTDIwPhantomType"] = phantom
    return out
