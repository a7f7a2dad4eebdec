"""How probable the simulator makes one clean command: the exact law, factor by factor.

Each factor is the simulator's own law: the element that comes next (next, skipped to, repeated),
tube voltage, rotation time, current (AEC with its limits and rounding, or set by hand), field of
view, diameter, range, start, tilt, position and table height given what came before, rotations, and
the constants and identities that never vary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scanward.commands import Value
from scanward.simulation import choices
from scanward.simulation import constants as k
from scanward.simulation.elements import LOCALIZER, STATIONARY
from scanward.simulation.physics import Element, consequences, length_step, max_ma

NEVER = -40.0  # log probability of what the simulator never does
TOLERANCE = 1.6  # rounding units by which a derived figure may differ

Factors = dict[str, float]


@dataclass
class Memory:
    """What the oracle remembers of an examination."""

    sizes: list[tuple[float, float]]  # (mm, log weight)
    free: float
    last: int = -1
    repeats: int = 0
    doubt: float = 0.0  # log probability of the repeats so far: a second repeat is judged with the first
    height: float | None = None
    creep: float = 0.0  # nats by which all scans so far at 1.25 times their dose beat the clean law
    lying: list[tuple[tuple[bool, bool], float]] = field(default_factory=list)


def phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def log_of(p: float) -> float:
    return max(math.log(p), NEVER) if p > 0 else NEVER


def log_sum(logs: Iterable[float]) -> float:
    values = list(logs)
    top = max(values, default=-math.inf)
    return top + math.log(sum(math.exp(v - top) for v in values)) if top > -math.inf else -math.inf


def mass(mixture: choices.Mixture, low: float, high: float) -> float:
    """Mass of a mixture of normals on the log scale between two positive bounds."""
    a = math.log(low) if low > 0 else -math.inf
    b = math.log(high) if high < math.inf else math.inf
    return sum(p * (phi((b - m) / s) - phi((a - m) / s)) for p, m, s in mixture)


def chance(law: choices.Law, value: float) -> float:
    return sum(p for v, p in law if abs(v - value) < 1e-9)


_ALWAYS = (
    "KVP", "XRayTubeCurrentInmA", "ScanLength", "AcquisitionStartLocation", "AcquisitionEndLocation",
    "TableHeight",
    "GantryDetectorTilt", "TotalCollimationWidth",
)  # fmt: skip
_IMAGING = (*_ALWAYS, "RevolutionTime", "DataCollectionDiameter", "ReconstructionDiameter", "CTDIvol", "DLP")


def needed(element: Element) -> tuple[str, ...]:
    """Fields without which a command of the simulator is not one."""
    if element.spec.kind == LOCALIZER:
        return _ALWAYS
    return (*_IMAGING, "NumberOfRotations") if element.spec.kind == STATIONARY else _IMAGING


def number(told: Mapping[str, Value], name: str) -> float:
    """A numeric field; not-a-number when absent, which ``_needed`` has ruled out for those that matter."""
    value = told.get(name)
    return value if isinstance(value, float) else math.nan


class Likelihood:
    """The clean law of one site's commands; ``aec_spread`` is the only number it needs of the site."""

    def __init__(self, aec_spread: float) -> None:
        self.aec_spread = aec_spread

    def _sequence(
        self, elements: tuple[Element, ...], element: Element, memory: Memory, child: bool
    ) -> float:
        law = choices.next_law(elements, memory.last, memory.repeats, child, memory.free)
        # an examination is never empty, so the first command surely comes; later ones compete with the end
        surely = sum(p for _, p in law) if memory.last < 0 else 1 / (1 - k.CANCEL_RATE / 2)
        return log_of(chance(law, float(element.index)) / surely) if surely > 0 else NEVER

    def _differing(self, element: Element, told: Mapping[str, Value]) -> set[str]:
        """Which of the fields that never vary within a protocol element have another value than it gives them."""
        spec = element.spec
        same: dict[str, Value] = {
            "AcquisitionType": spec.kind,
            "SingleCollimationWidth": element.single,
            "TotalCollimationWidth": element.total,
            "FilterType": element.filter_type,
            "FocalSpots": "SMALL" if spec.kernel in ("bone", "lung") else "LARGE",
            "SliceThickness": spec.slice_mm,
            "ConvolutionKernel": element.kernel,
            "ContrastBolusAgent": "IODINE" if spec.contrast else "NONE",
        }
        if element.pitch is not None:
            same["SpiralPitchFactor"] = element.pitch
        return {name for name, value in same.items() if told.get(name) != value}

    # --- factors that do not depend on size ---------------------------------------------------------------
    def _shared(
        self,
        element: Element,
        told: Mapping[str, Value],
        memory: Memory,
        age: float | None,
        sex: str | None,
        retake: bool,
    ) -> Factors:
        spec, model = element.spec, element.model
        wrong = self._differing(element, told)
        phantom = spec.kind == LOCALIZER or told.get("CTDIwPhantomType") == element.phantom
        out = {
            "constants": 0.0 if not wrong else NEVER,
            "phantom": 0.0 if phantom else NEVER,
            "identities": 0.0 if not self._broken(element, told) else NEVER,
            "tilt": log_of(
                chance(choices.tilt_options(element, memory.free), number(told, "GantryDetectorTilt"))
            ),
            "length": log_of(self._length(element, number(told, "ScanLength"), memory, age, sex, retake)),
            "rotations": 0.0,
        }
        if spec.kind == STATIONARY:
            out["rotations"] = log_of(choices.monitor_probability(element, number(told, "NumberOfRotations")))
        height = number(told, "TableHeight")
        fresh = phi((height + 0.5 - model.table_height) / k.TABLE_HEIGHT_SPREAD_MM) - phi(
            (height - 0.5 - model.table_height) / k.TABLE_HEIGHT_SPREAD_MM
        )
        if memory.height is None:
            out["height"] = log_of(fresh)
        else:
            moved = k.MOVED_RETAKE_RATE if retake else k.MOVED_RATE * memory.free * (element.index > 0)
            out["height"] = log_of(moved * fresh + (1 - moved) * (height == memory.height))
        if not memory.lying:
            memory.lying = [(v, math.log(p)) for v, p in choices.lying_options(element, memory.free)]
        out["position"] = self._position(element, told, memory.lying)
        out["start"] = self._start(element, told, str(told.get("PatientPosition", "")).startswith("FF"))
        return out

    def _length(
        self,
        element: Element,
        length: float,
        memory: Memory,
        age: float | None,
        sex: str | None,
        retake: bool,
        scale: float = 1.0,
    ) -> float:
        if element.spec.kind == STATIONARY:
            return float(length == round(element.spec.length * scale))
        step = length_step(element)
        low = 0.0 if length <= step else (length - step / 2) / scale
        return mass(
            choices.length_law(element, age, sex, retake, memory.free), low, (length + step / 2) / scale
        )

    def _lying_weights(
        self, element: Element, told: Mapping[str, Value], lying: list[tuple[tuple[bool, bool], float]]
    ) -> list[float]:
        seen, out = told.get("PatientPosition"), []
        turned = k.TURNED_RATE if element.protocol.region in ("chest", "abdomen") else 0.0
        for (feet, prone), weight in lying:
            p = (1 - turned) * (choices.position(element, (feet, prone)) == seen)
            p += turned * (choices.position(element, (feet, not prone)) == seen)
            out.append(weight + log_of(p))
        return out

    def _position(
        self, element: Element, told: Mapping[str, Value], lying: list[tuple[tuple[bool, bool], float]]
    ) -> float:
        return max(NEVER, log_sum(self._lying_weights(element, told, lying)) - log_sum(w for _, w in lying))

    def _start(self, element: Element, told: Mapping[str, Value], feet: bool) -> float:
        sign = -1.0 if feet else 1.0
        begin, end = number(told, "AcquisitionStartLocation"), number(told, "AcquisitionEndLocation")
        if abs(begin - sign * number(told, "ScanLength") - end) > 0.75:
            return NEVER
        z = (sign * begin - element.spec.start) / k.START_SPREAD_MM
        return log_of(0.5 / k.START_SPREAD_MM * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))

    def _broken(self, element: Element, told: Mapping[str, Value]) -> int:
        """How many derived figures do not follow from what was told."""
        try:
            fresh = consequences(element.model, told)
        except KeyError:
            return 1
        unit = {
            "CTDIvol": 0.01,
            "DLP": 10.0**-element.model.dlp_decimals,
            "Exposure": 1.0,
            "ExposureTimeInms": 10.0,
        }
        return sum(
            abs(number(told, n) - float(v)) > TOLERANCE * unit.get(n, 0.05) + 0.002 * abs(float(v))
            for n, v in fresh.items()
        )

    # --- factors that depend on size ------------------------------------------------------------------------
    def _sized(self, element: Element, told: Mapping[str, Value], size: float, free: float) -> Factors:
        kvp = number(told, "KVP")
        rotation = number(told, "RevolutionTime") if element.spec.kind != LOCALIZER else element.rotation
        out = {
            "kvp": log_of(chance(choices.kvp_options(element, size, free), kvp)),
            "rotation": log_of(chance(choices.rotation_options(element, size, free), rotation)),
            **self._current(element, told, size, free, number(told, "XRayTubeCurrentInmA"), kvp, rotation),
            "fov": 0.0,
            "recon": 0.0,
        }
        if element.spec.kind != LOCALIZER:
            fov = number(told, "DataCollectionDiameter")
            out["fov"] = log_of(chance(choices.fov_options(element, size, free), fov))
            out["recon"] = self._recon(element, told, size, fov)
        return out

    def _recon(self, element: Element, told: Mapping[str, Value], size: float, fov: float) -> float:
        shown, mean = number(told, "ReconstructionDiameter"), choices.recon_mean(element, size)
        if shown >= fov:
            return log_of(1 - phi((fov - 0.5 - mean) / k.RECON_SPREAD_MM)) if shown == fov else NEVER
        s = k.RECON_SPREAD_MM
        return log_of(phi((shown + 0.5 - mean) / s) - phi((shown - 0.5 - mean) / s))

    def _current(
        self,
        element: Element,
        told: Mapping[str, Value],
        size: float,
        free: float,
        ma: float,
        kvp: float,
        rotation: float,
        unit: float = 1.0,
    ) -> Factors:
        """Whether AEC is on, its limits, and the current; ``unit`` is the rounding step over the usual."""
        model, spec = element.model, element.spec
        off, rate = told.get("ExposureModulationType") == "NONE", choices.manual_rate(element, free)
        if not spec.aec:
            good = (
                abs(ma - element.reference_ma)
                <= 0.5 * model.ma_step * max(unit, 1e-9) - 1e-9 + (unit == 1) * 1e-6
            )
            fixed = abs(ma - element.reference_ma) < 1e-6 if unit == 1 else good
            return {"aec": 0.0 if off else NEVER, "limits": 0.0, "current": 0.0 if fixed else NEVER}
        top = max_ma(model, kvp) if kvp in k.KVP_RATIO else model.max_ma
        if off:
            mixture: choices.Mixture = [(1.0, choices.manual_mean(element, size), k.MANUAL_SPREAD)]
            step = choices.manual_step(ma) * unit
            p = mass(mixture, ma - step / 2 if ma > 10 else 0.0, ma + step / 2 if ma < top else math.inf)
            round_number = unit != 1 or ma == top or abs(ma / step - round(ma / step)) < 1e-6
            free_limits = "AECMaximumTubeCurrent" not in told
            return {
                "aec": log_of(rate),
                "limits": 0.0 if free_limits else NEVER,
                "current": log_of(p) if round_number else NEVER,
            }
        low, high = (
            choices.aec_limits(element, kvp) if kvp in k.KVP_RATIO else (element.aec_min, element.aec_max)
        )
        stated = (told.get("AECMinimumTubeCurrent"), told.get("AECMaximumTubeCurrent"))
        noise = told.get(model.aec_reference) == element.noise_reference
        name = told.get("ExposureModulationType") == model.aec_name
        mixture = [(1.0, choices.aec_mean(element, size, kvp, rotation), self.aec_spread)]
        half = model.ma_step * unit / 2
        if ma < low - half or ma > high + half:
            p = 0.0
        else:
            p = mass(
                mixture, ma - half if ma - half > low else 0.0, ma + half if ma + half < high else math.inf
            )
        return {
            "aec": log_of(1 - rate) if name else NEVER,
            "limits": 0.0 if stated == (low, high) and noise else NEVER,
            "current": log_of(p),
        }

    def _unlimited(
        self, element: Element, told: Mapping[str, Value], size: float, free: float, ma: float, kvp: float,
        rotation: float, unit: float,
    ) -> Factors:  # fmt: skip
        """The current's factors before a dose attack raised it: limits gave way as far as they had to."""
        before = dict(told)
        low, high = choices.aec_limits(element, kvp) if kvp in k.KVP_RATIO else (0.0, 0.0)
        now = number(told, "XRayTubeCurrentInmA")
        if told.get("AECMaximumTubeCurrent") == max(now, high):
            before["AECMaximumTubeCurrent"] = high
        if told.get("AECMinimumTubeCurrent") == min(now, low):
            before["AECMinimumTubeCurrent"] = low
        return self._current(element, before, size, free, ma, kvp, rotation, unit)
