"""A simulated hospital: its scanners, protocols, patients and people, examination by examination."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from scanward.commands import Command, Context, Device, Examination, Mode, Origin, Role, Source, Told, Value
from scanward.errors import SettingsError
from scanward.simulation import choices
from scanward.simulation import constants as k
from scanward.simulation.constants import MODELS, Model
from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL, STATIONARY, ProtocolSpec
from scanward.simulation.patients import Patient, draw_patient
from scanward.simulation.physics import Element, consequences, fit_element, length_step, max_ma, round_to
from scanward.simulation.protocols import PROTOCOLS

FORECAST = dict.fromkeys(
    ("XRayTubeCurrentInmA", "Exposure", "CTDIvol", "DLP", "ExposureTimeInms"), Role.FORECAST
)
DAY = 86400.0


@dataclass(slots=True)
class Lying:
    """What stays the same within an examination: how the patient lies, and how high."""

    lying: tuple[bool, bool]
    table_height: float
    size_known: bool = False
    last: int = -1
    repeats: int = 0
    sent: list[int] = field(default_factory=list)


class Site:
    """One simulated site, wholly determined by its seed.

    Parameters
    ----------
    seed : int
        Two sites of different seeds differ in dose habits and in everything drawn.
    aec_spread : float
        Standard deviation of log mA that automatic exposure control leaves unexplained.
    models : sequence of Model
        The scanners, in the order of ``constants.DEVICE_SHARE``.
    include_qa : bool
        Each morning every scanner measures a water phantom (``Mode.QA``) before patients come.
    shares : sequence of float, optional
        How examinations are shared among the models; one of share 0 stands there and is not used.
    """

    def __init__(
        self,
        seed: int = 0,
        aec_spread: float = k.AEC_SPREAD,
        models: Sequence[Model] = MODELS,
        protocols: Sequence[ProtocolSpec] = PROTOCOLS,
        include_qa: bool = False,
        shares: Sequence[float] | None = None,
    ) -> None:
        if not models or not protocols:
            raise SettingsError("a site without scanners or protocols", "", "give at least one of each")
        if not 0 < aec_spread < 1:
            raise SettingsError(
                f"aec_spread {aec_spread} makes no sense", "", "give a spread of log mA in (0, 1)"
            )
        if shares is None:
            shares = (*k.DEVICE_SHARE, *[k.DEVICE_SHARE[-1]] * len(models))[: len(models)]
        if len(shares) != len(models) or min(shares) < 0 or not sum(shares) > 0:
            raise SettingsError("shares that do not fit the scanners", "", "give one of at least 0 for each")
        self.seed, self.aec_spread, self.include_qa = seed, aec_spread, include_qa
        self.models, self.protocols = tuple(models), tuple(protocols)
        self.devices = tuple(
            Device(m.manufacturer, m.name, self._hash("device", i), m.software) for i, m in enumerate(models)
        )
        taste = np.random.default_rng((seed, 7)).normal(
            0.0, k.SITE_DOSE_SPREAD, (len(models), len(protocols))
        )
        self.elements: dict[tuple[int, int], tuple[Element, ...]] = {}
        for d, model in enumerate(self.models):
            for p, protocol in enumerate(self.protocols):
                name = _protocol_name(model, protocol, p)
                self.elements[d, p] = tuple(
                    fit_element(spec, protocol, name, i, model, math.exp(taste[d, p]))
                    for i, spec in enumerate(protocol.elements)
                )
        self._device_edges = _edges(shares)
        self._protocol_edges = [
            _edges(
                [
                    p.weight * (night * (p.emergency + 0.05) + (1 - night) * (1 - 0.5 * p.emergency))
                    for p in protocols
                ]
            )
            for night in (0.0, 1.0)
        ]
        hours = np.cumsum(k.HOUR_WEIGHTS)
        self._hours = np.concatenate([[0.0], hours / hours[-1]])

    def _hash(self, *what: object) -> str:
        text = "/".join(str(w) for w in ("simulated", self.seed, *what))
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()

    # --- examinations ---------------------------------------------------------------------------------
    def examinations(self, count: int, start: int = 0) -> list[Examination]:
        """Examinations ``start`` to ``start + count``, in order of time; an index always is the same one."""
        if count < 0 or start < 0:
            raise SettingsError("a negative number of examinations", "", "give count and start of at least 0")
        return [self.examination(index) for index in range(start, start + count)]

    def arrival(self, index: int, jitter: float) -> float:
        """Seconds since the site's first midnight; days are alike, hours are not."""
        day, slot = divmod(index, k.EXAMINATIONS_PER_DAY)
        at = float(np.interp((slot + jitter) / k.EXAMINATIONS_PER_DAY, self._hours, np.arange(25.0)))
        return day * DAY + at * 3600

    def examination(self, index: int) -> Examination:
        """One examination by its number."""
        rng = np.random.default_rng((self.seed, 1, index))
        if self.include_qa and index % k.EXAMINATIONS_PER_DAY < len(self.models):
            return self._qa(index, rng)
        time = self.arrival(index, rng.random())
        hour = time % DAY / 3600
        night = hour < 7 or hour >= 20
        d = bisect(self._device_edges, rng.random())
        p = bisect(self._protocol_edges[night], rng.random())
        protocol, elements = self.protocols[p], self.elements[d, p]
        patient = draw_patient(protocol, rng)
        adult = patient.age >= 18
        urgent = rng.random() < protocol.emergency
        unknown = adult and urgent and rng.random() < k.UNKNOWN_PATIENT_RATE
        told = self._told(protocol, elements[0].protocol_name, patient, unknown, rng)
        free = choices.team_factor(hour)
        state = Lying(
            _pick_lying(choices.lying_options(elements[0], free), rng.random()),
            round(rng.normal(elements[0].model.table_height, k.TABLE_HEIGHT_SPREAD_MM)),
        )
        identifier, commands = self._hash("examination", index), list[Command]()
        while True:
            law = choices.next_law(elements, state.last, state.repeats, not adult, free)
            u, chosen = rng.random(), -1
            for j, probability in law:
                u -= probability
                if u < 0:
                    chosen = int(j)
                    break
            if chosen < 0 and commands:
                break
            if chosen < 0:
                continue  # everything skipped: the examination never happened, another took its place
            if commands and rng.random() < k.CANCEL_RATE / 2:
                break
            retake = chosen == state.last
            state.repeats = state.repeats + 1 if retake else 0
            state.last = chosen
            element = elements[chosen]
            parameters = self._draw(element, patient, unknown, retake, state, free, rng)
            parts = dict(told)
            parts["ProtocolElementName"] = (Told(element.spec.name, Source.HOST),)
            if state.size_known and not unknown:
                parts["WaterEquivalentDiameter"] = (Told(float(patient.size), Source.LOCALIZER),)
            if element.spec.kind == LOCALIZER:
                state.size_known = True
            if commands:
                median = k.RETAKE_PAUSE_S if retake else k.SCAN_PAUSE_S
                median = k.LOCALIZER_PAUSE_S if elements[state.last].spec.kind == LOCALIZER else median
                time += median * math.exp(rng.normal(0.0, 0.4))
            commands.append(
                self._command(parameters, Context(parts), d, identifier, time, index, len(commands))
            )
            time += float(parameters.get("ExposureTimeInms", 0.0)) / 1000
        return Examination(identifier, tuple(commands))

    def _command(
        self,
        parameters: dict[str, Value],
        context: Context,
        d: int,
        identifier: str,
        time: float,
        index: int,
        order: int,
        mode: Mode = Mode.CLINICAL,
    ) -> Command:
        return Command(
            parameters=parameters,
            context=context,
            device=self.devices[d],
            role=Role.COMMANDED,
            roles={name: role for name, role in FORECAST.items() if name in parameters},
            examination=identifier,
            acquired_at=round(time, 1),
            order=float(order),
            event=self._hash("event", index, order),
            mode=mode,
            origin=Origin(f"simulated-site-{self.seed}", index * 100 + order),
        )

    def _told(
        self, protocol: ProtocolSpec, name: str, patient: Patient, unknown: bool, rng: np.random.Generator
    ) -> dict[str, tuple[Told, ...]]:
        told: dict[str, tuple[Told, ...]] = {
            "ProtocolName": (Told(name, Source.HOST),),
            "BodyPartExamined": (Told(protocol.body_part, Source.HOST),),
            "RequestedProcedureDescription": (Told(protocol.procedure, Source.WORKLIST),),
        }
        no_weight, no_height = rng.random(2) < (k.WEIGHT_MISSING_RATE, k.HEIGHT_MISSING_RATE)
        if not unknown:
            told["PatientAge"] = (Told(patient.age, Source.WORKLIST),)
            told["PatientSex"] = (Told(patient.sex, Source.WORKLIST),)
            if not no_weight:
                told["PatientWeight"] = (Told(float(patient.weight), Source.WORKLIST),)
            if not no_height:
                told["PatientSize"] = (Told(float(patient.height), Source.WORKLIST),)
        return told

    # --- one command ----------------------------------------------------------------------------------
    def _draw(
        self,
        element: Element,
        patient: Patient,
        unknown: bool,
        retake: bool,
        state: Lying,
        free: float,
        rng: np.random.Generator,
    ) -> dict[str, Value]:
        """Draw every choice of one scan and compute what follows from it."""
        model, spec, size = element.model, element.spec, float(patient.size)
        u = rng.random(12)
        z = rng.standard_normal(5)
        kvp = _pick(choices.kvp_options(element, size, free), u[0])
        rotation = _pick(choices.rotation_options(element, size, free), u[1])
        low, high = choices.aec_limits(element, kvp)
        manual = u[2] < choices.manual_rate(element, free)
        if not spec.aec:
            ma = element.reference_ma
        elif manual:
            ma = math.exp(choices.manual_mean(element, size) + k.MANUAL_SPREAD * z[0])
            ma = max(10.0, round_to(ma, choices.manual_step(ma)))
            ma = min(ma, max_ma(model, kvp))
        else:
            ma = math.exp(choices.aec_mean(element, size, kvp, rotation) + self.aec_spread * z[0])
            ma = min(max(round_to(min(max(ma, low), high), model.ma_step), low), high)
        law = choices.length_law(element, None if unknown else patient.age, patient.sex, retake, free)
        _, mean, spread = law[min(bisect(list(accumulate(w for w, _, _ in law)), u[3]), len(law) - 1)]
        step = length_step(element)
        length = max(step, round_to(math.exp(mean + spread * z[1]), step))
        if (retake and u[4] < k.MOVED_RETAKE_RATE) or (
            not retake and state.last > 0 and u[4] < k.MOVED_RATE * free
        ):
            state.table_height = round(model.table_height + k.TABLE_HEIGHT_SPREAD_MM * z[3])
        feet, prone = state.lying
        if u[5] < k.TURNED_RATE and element.protocol.region in ("chest", "abdomen"):
            feet, prone = feet, not prone
        rotations = float(spec.rotations or k.MONITOR_MIN_ROTATIONS + int(rng.poisson(k.MONITOR_MEAN_EXTRA)))
        sign = -1.0 if feet else 1.0
        begin = round_to(sign * (spec.start + k.START_SPREAD_MM * z[2]), 0.5)
        out: dict[str, Value] = {
            "AcquisitionType": spec.kind,
            "KVP": kvp,
            "XRayTubeCurrentInmA": float(ma),
            "SingleCollimationWidth": element.single,
            "TotalCollimationWidth": element.total,
            "ScanLength": float(length),
            "AcquisitionStartLocation": begin,
            "AcquisitionEndLocation": round_to(begin - sign * length, 0.5),
            "FilterType": element.filter_type,
            "FocalSpots": "SMALL" if spec.kernel in ("bone", "lung") else "LARGE",
            "TableHeight": float(state.table_height),
            "PatientPosition": choices.position(element, (feet, prone)),
            "SliceThickness": spec.slice_mm,
            "ConvolutionKernel": element.kernel,
            "GantryDetectorTilt": _pick(choices.tilt_options(element, free), u[6]),
            "ExposureModulationType": model.aec_name if spec.aec and not manual else "NONE",
            "ContrastBolusAgent": "IODINE" if spec.contrast else "NONE",
        }
        if spec.aec and not manual:
            out["AECMinimumTubeCurrent"], out["AECMaximumTubeCurrent"] = low, high
            out[model.aec_reference] = float(element.noise_reference)
        if spec.kind != LOCALIZER:
            fov = _pick(choices.fov_options(element, size, free), u[7])
            recon = choices.recon_mean(element, size) + k.RECON_SPREAD_MM * z[4]
            out["DataCollectionDiameter"] = fov
            out["ReconstructionDiameter"] = float(min(round(recon), fov))
            out["RevolutionTime"] = rotation
        if spec.kind == SPIRAL and element.pitch is not None:
            out["SpiralPitchFactor"] = element.pitch
        if spec.kind == STATIONARY:
            out["NumberOfRotations"] = rotations
        if spec.kind != LOCALIZER or model.localizer_dose_per_ma is not None:
            out["CTDIwPhantomType"] = element.phantom
        out.update(consequences(model, out))
        return out

    def _qa(self, index: int, rng: np.random.Generator) -> Examination:
        """A water phantom before the day begins: no patient, always the same technique."""
        d = index % k.EXAMINATIONS_PER_DAY
        p = next(
            i for i, s in enumerate(self.protocols) if any(e.kind in (SPIRAL, SEQUENCED) for e in s.elements)
        )
        element = next(e for e in self.elements[d, p] if e.spec.kind in (SPIRAL, SEQUENCED))
        state = Lying((False, False), round(element.model.table_height))
        patient = Patient(40.0, "M", 1.7, 70.0, k.REFERENCE_SIZE[element.protocol.region])
        parameters = self._draw(element, patient, True, False, state, 0.0, rng)
        parts = {
            "ProtocolName": (Told("Daily QA Water Phantom", Source.HOST),),
            "ProtocolElementName": (Told("Water", Source.HOST),),
        }
        time = index // k.EXAMINATIONS_PER_DAY * DAY + 10.0 + 240.0 * d
        identifier = self._hash("examination", index)
        return Examination(
            identifier, (self._command(parameters, Context(parts), d, identifier, time, index, 0, Mode.QA),)
        )


def _protocol_name(model: Model, protocol: ProtocolSpec, index: int) -> str:
    """The maker's way of writing a protocol's name."""
    return model.style.format(area=protocol.region, index=index, index2=index % 7 + 1, name=protocol.name)


def _edges(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [x / total for x in accumulate(weights)][:-1]


def _pick(law: choices.Law, u: float) -> float:
    for value, probability in law:
        u -= probability
        if u < 0:
            return value
    return law[0][0]


def _pick_lying(law: list[tuple[tuple[bool, bool], float]], u: float) -> tuple[bool, bool]:
    for value, probability in law:
        u -= probability
        if u < 0:
            return value
    return law[0][0]


__all__ = ["Lying", "Site"]
