"""The oracle: a judge that knows the simulator exactly, the ceiling for every detector.

What it knows: every constant and law of the simulator (``choices``, ``constants``, ``patients``, ``physics``), the
site's own protocols with their fitted defaults, the AEC spread, which shift is on duty, and the catalogue's effect
sizes. What it does not: the random numbers, who was attacked, a patient's size before the localizer or when no
patient data came (it then sums over sizes, and learns from each command it sees).

A command's clean likelihood is a product of factors, each the simulator's own law: the element that comes next
(next, skipped to, repeated), tube voltage, rotation time, current (AEC with its limits and rounding, or set by
hand), field of view, reconstructed diameter, range, start, tilt, position and table height given what came before,
rotations, and the constants and identities that never vary. An attack replaces some factors by what it does to
them: its exact inverse where there is one (dose, voltage, rotation, range), a declared broad density where not
(fields mixed, other objective). Score = log of the mean over attack families of p(command | attack) minus
log p(command | clean); patient data are judged against the size that the localizer saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from scanward.commands import Command, Examination, Value
from scanward.simulation import choices
from scanward.simulation import constants as k
from scanward.simulation.elements import LOCALIZER, SEQUENCED, STATIONARY
from scanward.simulation.patients import age_law, draw_patient, size_law
from scanward.simulation.physics import Element, consequences, length_step, max_ma
from scanward.simulation.site import DAY, Site

NEVER = -40.0  # log probability of what the simulator never does
BROAD = {  # declared densities of fields changed without a known inverse
    "constants": math.log(0.02),
    "identities": math.log(1e-4),
    "limits": math.log(0.05),
    "aec": math.log(0.1),
}
MIX_SHARES = (0.03, 0.3)  # share of factors that a broad attack changes: few, or many
TOLERANCE = 1.6  # rounding units by which a derived figure may differ

Factors = dict[str, float]


@dataclass
class Memory:
    """What the oracle remembers of an examination."""

    sizes: list[tuple[float, float]]  # (mm, log weight)
    free: float
    last: int = -1
    repeats: int = 0
    height: float | None = None
    lying: list[tuple[tuple[bool, bool], float]] = field(default_factory=list)


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _log(p: float) -> float:
    return max(math.log(p), NEVER) if p > 0 else NEVER


def _sum(logs: Iterable[float]) -> float:
    values = list(logs)
    top = max(values, default=-math.inf)
    return top + math.log(sum(math.exp(v - top) for v in values)) if top > -math.inf else -math.inf


def _mass(mixture: choices.Mixture, low: float, high: float) -> float:
    """Mass of a mixture of normals on the log scale between two positive bounds."""
    a = math.log(low) if low > 0 else -math.inf
    b = math.log(high) if high < math.inf else math.inf
    return sum(p * (_phi((b - m) / s) - _phi((a - m) / s)) for p, m, s in mixture)


def _of(law: choices.Law, value: float) -> float:
    return sum(p for v, p in law if abs(v - value) < 1e-9)


class Oracle:
    """Judges examinations of one ``Site`` with everything there is to know about it."""

    def __init__(self, site: Site, samples: int = 400) -> None:
        self.site = site
        rng = np.random.default_rng((site.seed, 11))
        self._elements: dict[tuple[str, str], tuple[Element, ...]] = {}
        self._sizes: dict[str, list[float]] = {}
        everyone = []
        for (d, _), elements in site.elements.items():
            self._elements[site.devices[d].key, elements[0].protocol_name] = elements
        for protocol in site.protocols:
            people = [draw_patient(protocol, rng) for _ in range(samples)]
            adults = sorted(p.size for p in people if p.age >= 18)
            usual = adults or sorted(p.size for p in people)
            self._sizes[protocol.name] = [usual[int((i + 0.5) / 24 * len(usual))] for i in range(24)]
            everyone += [(p.age, protocol.weight) for p in people]
        total = sum(w for _, w in everyone)
        self._ages = np.zeros(140)
        for age, weight in everyone:
            self._ages[int(age)] += weight / total
        self._population: dict[str, list[float]] = {}
        for protocol in site.protocols:
            people = [draw_patient(protocol, rng) for _ in range(samples)]
            self._population[protocol.name] = [math.log(p.size) for p in people]

    # --- public ---------------------------------------------------------------------------------------
    def scores(self, examination: Examination) -> list[float]:
        """One score per command, in nats; higher is more suspicious. An unknown protocol scores ``-NEVER``."""
        if not examination.commands:
            return []
        first = examination.commands[0]
        hour = (first.acquired_at or 0.0) % DAY / 3600
        memory = Memory([], choices.team_factor(hour))
        return [self._judge(command, memory) for command in examination.commands]

    # --- one command ------------------------------------------------------------------------------------
    def _judge(self, command: Command, memory: Memory) -> float:
        elements = self._elements.get((command.device.key, command.text("ProtocolName") or ""))
        name = command.text("ProtocolElementName")
        found = [e for e in elements or () if e.spec.name == name]
        if elements is None or not found:
            return -NEVER
        element, told = found[0], command.parameters
        if any(not isinstance(told.get(n), float) for n in _needed(element)):
            return -NEVER
        age, sex = command.number("PatientAge"), command.text("PatientSex")
        size = command.number("WaterEquivalentDiameter")
        if size is not None:
            memory.sizes = [(size, 0.0)]
        elif not memory.sizes:
            memory.sizes = self._prior(element, command)
        child = age is not None and age < 18
        sequence = self._sequence(elements, element, memory, child)
        retake = element.index == memory.last
        shared = self._shared(element, told, memory, age, sex, retake)
        shared["sequence"] = sequence
        attacked: list[float] = []
        clean: list[float] = []
        for mm, weight in memory.sizes:
            factors = {**shared, **self._sized(element, told, mm, memory.free)}
            base = sum(factors.values())
            clean.append(weight + base)
            families = self._families(element, told, mm, factors, memory, age, sex, retake)
            attacked.append(weight + base + _sum(families) - math.log(max(len(families), 1)))
        context = self._context(element, command)
        score = _sum(attacked) - _sum(clean)
        score = _sum([score, context - math.log(16)]) if context is not None else score
        self._remember(element, told, memory, retake, clean)
        return score

    def _prior(self, element: Element, command: Command) -> list[tuple[float, float]]:
        """Sizes (mm) a patient may have before the localizer told, from whatever the worklist said."""
        age, sex = command.number("PatientAge"), command.text("PatientSex")
        if age is None or sex not in k.HEIGHT_M:
            return [(s, 0.0) for s in self._sizes[element.protocol.name]]
        mean, spread = self._conditional(element, command, age, sex)
        return [(math.exp(mean + z * spread), -z * z / 2) for z in (-2, -1.33, -0.67, 0, 0.67, 1.33, 2)]

    def _conditional(self, element: Element, command: Command, age: float, sex: str) -> tuple[float, float]:
        """Mean and spread of log size given age, sex and whatever is known of height and weight."""
        mean, cov = size_law(element.protocol.region, age, sex)
        known = [
            (i, math.log(v))
            for i, v in enumerate((command.number("PatientSize"), command.number("PatientWeight")))
            if v is not None and v > 0
        ]
        if not known:
            return float(mean[2]), math.sqrt(float(cov[2, 2]))
        at = [i for i, _ in known]
        gain = np.linalg.solve(cov[np.ix_(at, at)], cov[at, 2])
        shift = float(gain @ (np.array([v for _, v in known]) - mean[at]))
        return float(mean[2]) + shift, math.sqrt(max(1e-6, float(cov[2, 2] - gain @ cov[at, 2])))

    def _sequence(
        self, elements: tuple[Element, ...], element: Element, memory: Memory, child: bool
    ) -> float:
        law = choices.next_law(elements, memory.last, memory.repeats, child, memory.free)
        total = sum(p for _, p in law)
        return _log(_of(law, float(element.index)) / total) if total > 0 else NEVER

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
        wrong = sum(told.get(name) != value for name, value in same.items())
        phantom = spec.kind == LOCALIZER or told.get("CTDIwPhantomType") == element.phantom
        out = {
            "constants": 0.0 if not wrong else NEVER,
            "phantom": 0.0 if phantom else NEVER,
            "identities": 0.0 if not self._broken(element, told) else NEVER,
            "tilt": _log(
                _of(choices.tilt_options(element, memory.free), _number(told, "GantryDetectorTilt"))
            ),
            "length": _log(self._length(element, _number(told, "ScanLength"), memory, age, sex, retake)),
            "rotations": 0.0,
        }
        if spec.kind == STATIONARY:
            out["rotations"] = _log(choices.monitor_probability(element, _number(told, "NumberOfRotations")))
        height = _number(told, "TableHeight")
        fresh = _phi((height + 0.5 - model.table_height) / k.TABLE_HEIGHT_SPREAD_MM) - _phi(
            (height - 0.5 - model.table_height) / k.TABLE_HEIGHT_SPREAD_MM
        )
        if memory.height is None:
            out["height"] = _log(fresh)
        else:
            moved = k.MOVED_RETAKE_RATE if retake else k.MOVED_RATE * memory.free * (element.index > 0)
            out["height"] = _log(moved * fresh + (1 - moved) * (height == memory.height))
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
        return _mass(
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
            out.append(weight + _log(p))
        return out

    def _position(
        self, element: Element, told: Mapping[str, Value], lying: list[tuple[tuple[bool, bool], float]]
    ) -> float:
        return max(NEVER, _sum(self._lying_weights(element, told, lying)) - _sum(w for _, w in lying))

    def _start(self, element: Element, told: Mapping[str, Value], feet: bool) -> float:
        sign = -1.0 if feet else 1.0
        begin, end = _number(told, "AcquisitionStartLocation"), _number(told, "AcquisitionEndLocation")
        if abs(begin - sign * _number(told, "ScanLength") - end) > 0.75:
            return NEVER
        z = (sign * begin - element.spec.start) / k.START_SPREAD_MM
        return _log(0.5 / k.START_SPREAD_MM * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))

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
            abs(_number(told, n) - float(v)) > TOLERANCE * unit.get(n, 0.05) + 0.002 * abs(float(v))
            for n, v in fresh.items()
        )

    # --- factors that depend on size ------------------------------------------------------------------------
    def _sized(self, element: Element, told: Mapping[str, Value], size: float, free: float) -> Factors:
        kvp = _number(told, "KVP")
        rotation = _number(told, "RevolutionTime") if element.spec.kind != LOCALIZER else element.rotation
        out = {
            "kvp": _log(_of(choices.kvp_options(element, size, free), kvp)),
            "rotation": _log(_of(choices.rotation_options(element, size, free), rotation)),
            **self._current(element, told, size, free, _number(told, "XRayTubeCurrentInmA"), kvp, rotation),
            "fov": 0.0,
            "recon": 0.0,
        }
        if element.spec.kind != LOCALIZER:
            fov = _number(told, "DataCollectionDiameter")
            out["fov"] = _log(_of(choices.fov_options(element, size, free), fov))
            out["recon"] = self._recon(element, told, size, fov)
        return out

    def _recon(self, element: Element, told: Mapping[str, Value], size: float, fov: float) -> float:
        shown, mean = _number(told, "ReconstructionDiameter"), choices.recon_mean(element, size)
        if shown >= fov:
            return _log(1 - _phi((fov - 0.5 - mean) / k.RECON_SPREAD_MM)) if shown == fov else NEVER
        s = k.RECON_SPREAD_MM
        return _log(_phi((shown + 0.5 - mean) / s) - _phi((shown - 0.5 - mean) / s))

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
        """Whether AEC is on, its limits, and the current; ``unit`` is the rounding step over the device's own."""
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
            p = _mass(mixture, ma - step / 2 if ma > 10 else 0.0, ma + step / 2 if ma < top else math.inf)
            round_number = unit != 1 or ma == top or abs(ma / step - round(ma / step)) < 1e-6
            free_limits = "AECMaximumTubeCurrent" not in told
            return {
                "aec": _log(rate),
                "limits": 0.0 if free_limits else NEVER,
                "current": _log(p) if round_number else NEVER,
            }
        low, high = (
            choices.aec_limits(element, kvp) if kvp in k.KVP_RATIO else (element.aec_min, element.aec_max)
        )
        stated = (told.get("AECMinimumTubeCurrent"), told.get("AECMaximumTubeCurrent"))
        noise = told.get(model.aec_reference) == element.noise_reference
        name = told.get("ExposureModulationType") == model.aec_name
        mixture = [(1.0, choices.aec_mean(element, size, kvp, rotation), self.site.aec_spread)]
        half = model.ma_step * unit / 2
        if ma < low - half or ma > high + half:
            p = 0.0
        else:
            p = _mass(
                mixture, ma - half if ma - half > low else 0.0, ma + half if ma + half < high else math.inf
            )
        return {
            "aec": _log(1 - rate) if name else NEVER,
            "limits": 0.0 if stated == (low, high) and noise else NEVER,
            "current": _log(p),
        }

    # --- attacks ------------------------------------------------------------------------------------------
    def _families(
        self,
        element: Element,
        told: Mapping[str, Value],
        size: float,
        factors: Factors,
        memory: Memory,
        age: float | None,
        sex: str | None,
        retake: bool,
    ) -> list[float]:
        """Log of p(command | attack) / p(command | clean) for every family that applies, at one size."""
        out: list[float] = []
        model, spec, free = element.model, element.spec, memory.free
        ma, kvp = _number(told, "XRayTubeCurrentInmA"), _number(told, "KVP")

        def instead(**new: float) -> None:
            out.append(sum(value - factors[name] for name, value in new.items()))

        broad = self._broad(element, told, factors, size, memory, age, sex, retake)
        for share in MIX_SHARES:
            out.append(
                sum(
                    _sum([math.log(1 - share) + v, math.log(share) + broad[n]]) - v
                    for n, v in factors.items()
                    if n in broad
                )
            )
        # a repeat too many: anything sent before, once more
        instead(sequence=math.log(0.5 / max(1, memory.last + 1)) if element.index <= memory.last else NEVER)
        instead(tilt=math.log(1 / 62))
        instead(position=math.log(0.5), start=self._start_either(element, told, memory))
        instead(
            length=_log(self._length(element, _number(told, "ScanLength"), memory, age, sex, retake, 3.0))
        )
        if spec.kind == LOCALIZER:
            return out
        rotation = _number(told, "RevolutionTime")
        instead(phantom=math.log(0.5))
        fields = len(model.fields_of_view) - 1
        if fields:
            recon = self._recon_any(element, told, size)
            instead(fov=math.log(1 / fields), recon=recon)
        usual = element.rotation
        if rotation != usual:
            current = self._current(element, told, size, free, ma, kvp, usual)["current"]
            instead(rotation=math.log(1 / max(1, len(model.rotations) - 1)), current=current)
        if kvp != element.kvp:
            was = self._current(element, told, size, free, ma, element.kvp, rotation)
            instead(kvp=math.log(1 / (len(model.kvps) - 1)), **was)
        pitch = told.get("SpiralPitchFactor")
        slower = rotation / usual if rotation > usual else 1.0
        lower = (
            element.pitch / pitch
            if isinstance(pitch, float) and element.pitch and pitch < element.pitch
            else 1.0
        )
        for factor in (0.3, 1.5, 3.0, 8.0):
            if slower > 1 or lower > 1:  # the tube could not follow: time and pitch gave the rest
                was = self._unlimited(
                    element, told, size, free, ma * slower * lower / factor, kvp, usual, 1 / factor
                )
                instead(rotation=math.log(0.9), constants=0.0 if lower > 1 else factors["constants"], **was)
            was = self._unlimited(element, told, size, free, ma / factor, kvp, rotation, 1 / factor)
            instead(**was)
        was = self._unlimited(element, told, size, free, ma / 3, kvp, rotation, 1 / 3)
        instead(identities=math.log(0.9) if self._broken(element, told) else NEVER, **was)
        return out

    def _unlimited(
        self, element: Element, told: Mapping[str, Value], size: float, free: float, ma: float, kvp: float,
        rotation: float, unit: float,
    ) -> Factors:  # fmt: skip
        """The current's factors before a dose attack raised it: limits gave way as far as they had to."""
        before = dict(told)
        low, high = choices.aec_limits(element, kvp) if kvp in k.KVP_RATIO else (0.0, 0.0)
        now = _number(told, "XRayTubeCurrentInmA")
        if told.get("AECMaximumTubeCurrent") == max(now, high):
            before["AECMaximumTubeCurrent"] = high
        if told.get("AECMinimumTubeCurrent") == min(now, low):
            before["AECMinimumTubeCurrent"] = low
        return self._current(element, before, size, free, ma, kvp, rotation, unit)

    def _start_either(self, element: Element, told: Mapping[str, Value], memory: Memory) -> float:
        """Start given that the position was swapped, which may have left it to point the other way."""
        feet = str(told.get("PatientPosition", "")).startswith("FF")
        return _sum([math.log(0.5) + self._start(element, told, f) for f in (feet, not feet)])

    def _recon_any(self, element: Element, told: Mapping[str, Value], size: float) -> float:
        """Diameter given that the field was swapped after it was chosen."""
        shown = _number(told, "ReconstructionDiameter")
        if shown == _number(told, "DataCollectionDiameter"):
            return self._recon(element, told, size, shown)
        return self._recon(element, told, size, math.inf)

    def _broad(
        self, element: Element, told: Mapping[str, Value], factors: Factors, size: float, memory: Memory,
        age: float | None, sex: str | None, retake: bool,
    ) -> Factors:  # fmt: skip
        """Declared densities of a field taken from somewhere else."""
        model = element.model
        ma, length = max(_number(told, "XRayTubeCurrentInmA"), 1.0), max(_number(told, "ScanLength"), 1.0)
        wide: Callable[[float, float, float], float] = lambda x, mean, step: (  # noqa: E731
            math.log(min(1.0, step / x)) - (math.log(x / mean) / 0.8) ** 2 / 2 - math.log(0.8 * 2.5)
        )
        out = dict(BROAD)
        out["kvp"] = math.log(1 / len(model.kvps))
        out["rotation"] = math.log(1 / len(model.rotations))
        out["current"] = wide(ma, 220.0, model.ma_step)
        out["fov"] = math.log(1 / len(model.fields_of_view))
        out["recon"] = math.log(1 / 300)
        out["phantom"] = math.log(0.3)
        out["length"] = wide(length, 320.0, length_step(element) if element.spec.kind != SEQUENCED else 20.0)
        out["start"] = math.log(0.5 / 500)
        out["tilt"] = math.log(0.01)
        out["position"] = math.log(0.15)
        out["height"] = math.log(1 / 60)
        out["rotations"] = math.log(1 / 15)
        return {name: value for name, value in out.items() if name in factors}

    # --- patient data ---------------------------------------------------------------------------------------
    def _context(self, element: Element, command: Command) -> float | None:
        """Log ratio of the patient data being forged to being this patient's; None when there are none."""
        age, sex = command.number("PatientAge"), command.text("PatientSex")
        if age is None or sex not in k.HEIGHT_M:
            return None
        other = float(self._ages[int(min(max(age, 0), 139))])
        ratio = _log(other if age >= 2 else other) - max(NEVER, age_law(element.protocol, age))
        size = command.number("WaterEquivalentDiameter")
        if size is not None:
            mean, spread = self._conditional(element, command, age, sex)
            x = math.log(size)
            own = -((x - mean) ** 2) / (2 * spread**2) - math.log(spread)
            population = self._population[element.protocol.name]
            any_of = _sum(-((x - m) ** 2) / (2 * 0.06**2) - math.log(0.06) for m in population)
            ratio += any_of - math.log(len(population)) - max(NEVER, own)
        return ratio

    def _remember(
        self, element: Element, told: Mapping[str, Value], memory: Memory, retake: bool, clean: list[float]
    ) -> None:
        memory.repeats = memory.repeats + 1 if retake else 0
        memory.last = element.index
        memory.height = _number(told, "TableHeight")
        weights = self._lying_weights(element, told, memory.lying)
        top = max(weights)
        if top > NEVER:
            memory.lying = [(v, max(w - top, NEVER)) for (v, _), w in zip(memory.lying, weights, strict=True)]
        top = max(clean)
        if top > NEVER:  # an impossible command teaches nothing about the patient
            memory.sizes = [(s, max(w - top, -20.0)) for (s, _), w in zip(memory.sizes, clean, strict=True)]


_ALWAYS = (
    "KVP", "XRayTubeCurrentInmA", "ScanLength", "AcquisitionStartLocation", "AcquisitionEndLocation", "TableHeight",
    "GantryDetectorTilt", "TotalCollimationWidth",
)  # fmt: skip
_IMAGING = (*_ALWAYS, "RevolutionTime", "DataCollectionDiameter", "ReconstructionDiameter", "CTDIvol", "DLP")


def _needed(element: Element) -> tuple[str, ...]:
    """Fields without which a command of the simulator is not one."""
    if element.spec.kind == LOCALIZER:
        return _ALWAYS
    return (*_IMAGING, "NumberOfRotations") if element.spec.kind == STATIONARY else _IMAGING


def _number(told: Mapping[str, Value], name: str) -> float:
    """A numeric field; not-a-number when absent, which ``_needed`` has ruled out for those that matter."""
    value = told.get(name)
    return value if isinstance(value, float) else math.nan


if __name__ == "__main__":  # pragma: no cover - the same check is a test
    from scanward.simulation.check import main

    main()
