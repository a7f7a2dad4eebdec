"""The oracle: a judge that knows the simulator exactly, the ceiling for every detector.

What it knows: every constant and law of the simulator, the site's own protocols with fitted
defaults, the AEC spread, which shift is on duty, and the catalogue's effect sizes. What it does
not: the random draws, who was attacked, a patient's size before the localizer or when no patient
data came (it then sums over sizes, and learns from each command it sees). It does not use that a
replayed command equals the earlier one to the last digit.

A command's clean likelihood is a product of factors (``likelihood``). An attack replaces some by
what it does to them: its exact inverse where there is one (dose, voltage, rotation, range), a
declared broad density where not (fields mixed, other objective). Score = log of the mean over
attack families of p(command | attack) minus log p(command | clean); patient data are judged against
the size that the localizer saw. The held-out families (``oracle_held_out``) add to that mean, each with
a declared small weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from scanward.commands import Command, Examination, Value
from scanward.simulation import choices
from scanward.simulation import constants as k
from scanward.simulation.elements import LOCALIZER, SEQUENCED
from scanward.simulation.likelihood import NEVER, Factors, Memory, log_of, log_sum, needed, number
from scanward.simulation.oracle_held_out import WEIGHT, HeldOutLaws
from scanward.simulation.patients import age_law, draw_patient, size_law
from scanward.simulation.physics import Element, length_step
from scanward.simulation.site import DAY, Site

BROAD = {  # declared densities of fields changed without a known inverse
    "constants": math.log(0.02),
    "identities": math.log(1e-4),
    "limits": math.log(0.05),
    "aec": math.log(0.1),
}
MIX_SHARES = (0.03, 0.3)  # share of factors that a broad attack changes: few, or many


class Oracle(HeldOutLaws):
    """Judges examinations of one ``Site`` with everything there is to know about it."""

    def __init__(self, site: Site, samples: int = 400) -> None:
        super().__init__(site.aec_spread)
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
        """One score per command, in nats; higher is more suspicious. Unknown protocols score ``-NEVER``."""
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
        if any(not isinstance(told.get(n), float) for n in needed(element)):
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
        shared["objective"] = self._objective(element, command)
        crept: list[tuple[float, float]] = []
        attacked: list[float] = []
        clean: list[float] = []
        for mm, weight in memory.sizes:
            factors = {**shared, **self._sized(element, told, mm, memory.free)}
            base = sum(factors.values())
            clean.append(weight + base)
            families = self._families(element, told, mm, factors, memory, age, sex, retake)
            held_out = log_sum(self._held_out(element, told, mm, factors, memory)) + WEIGHT
            known = log_sum(families) - math.log(max(len(families), 1))
            attacked.append(weight + base + log_sum([known, held_out]))
            if element.spec.kind != LOCALIZER:
                crept.append((clean[-1], self._creep(element, told, mm, factors, memory.free)))
        context = self._context(element, command)
        score = log_sum(attacked) - log_sum(clean)
        score = log_sum([score, context - math.log(16)]) if context is not None else score
        score = log_sum([score, *(ratio + WEIGHT for ratio in self._forged(element, command))])
        if crept:
            self._remember_creep(memory, crept)
        memory.doubt = memory.doubt + sequence if retake else 0.0
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

    @staticmethod
    def _objective(element: Element, command: Command) -> float:
        """Body part and procedure are the protocol's own, always."""
        told = (command.text("BodyPartExamined"), command.text("RequestedProcedureDescription"))
        return 0.0 if told == (element.protocol.body_part, element.protocol.procedure) else NEVER

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
        ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")

        def instead(**new: float) -> None:
            out.append(sum(value - factors[name] for name, value in new.items()))

        broad = self._broad(element, told, factors, size, memory, age, sex, retake)
        out += [
            sum(
                log_sum([math.log(1 - share) + v, math.log(share) + broad[n]]) - v
                for n, v in factors.items()
                if n in broad
            )
            for share in MIX_SHARES
        ]
        # a repeat too many: anything sent before, once more
        if element.index <= memory.last:
            out.append(math.log(0.5 / (memory.last + 1)) - factors["sequence"] - memory.doubt)
        instead(tilt=math.log(1 / 62))
        instead(position=math.log(0.5))
        feet = str(told.get("PatientPosition", "")).startswith("FF")
        instead(position=math.log(0.5), start=self._start(element, told, not feet))
        instead(
            length=log_of(self._length(element, number(told, "ScanLength"), memory, age, sex, retake, 3.0))
        )
        if spec.kind == LOCALIZER:
            return out
        rotation = number(told, "RevolutionTime")
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

    def _recon_any(self, element: Element, told: Mapping[str, Value], size: float) -> float:
        """Diameter given that the field was swapped after it was chosen."""
        shown = number(told, "ReconstructionDiameter")
        if shown == number(told, "DataCollectionDiameter"):
            return self._recon(element, told, size, shown)
        return self._recon(element, told, size, math.inf)

    def _broad(
        self, element: Element, told: Mapping[str, Value], factors: Factors, size: float, memory: Memory,
        age: float | None, sex: str | None, retake: bool,
    ) -> Factors:  # fmt: skip
        """Declared densities of a field taken from somewhere else."""
        model = element.model
        ma, length = max(number(told, "XRayTubeCurrentInmA"), 1.0), max(number(told, "ScanLength"), 1.0)
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
        ratio = log_of(other) - max(NEVER, age_law(element.protocol, age))
        size = command.number("WaterEquivalentDiameter")
        if size is not None:
            mean, spread = self._conditional(element, command, age, sex)
            x = math.log(size)
            own = -((x - mean) ** 2) / (2 * spread**2) - math.log(spread)
            population = self._population[element.protocol.name]
            any_of = log_sum(-((x - m) ** 2) / (2 * 0.06**2) - math.log(0.06) for m in population)
            ratio += any_of - math.log(len(population)) - max(NEVER, own)
        return ratio

    def _remember(
        self, element: Element, told: Mapping[str, Value], memory: Memory, retake: bool, clean: list[float]
    ) -> None:
        memory.repeats = memory.repeats + 1 if retake else 0
        memory.last = element.index
        memory.height = number(told, "TableHeight")
        weights = self._lying_weights(element, told, memory.lying)
        top = max(weights)
        if top > NEVER:
            memory.lying = [(v, max(w - top, NEVER)) for (v, _), w in zip(memory.lying, weights, strict=True)]
        top = max(clean)
        if top > NEVER:  # an impossible command teaches nothing about the patient
            memory.sizes = [(s, max(w - top, -20.0)) for (s, _), w in zip(memory.sizes, clean, strict=True)]


if __name__ == "__main__":  # pragma: no cover - the same check is a test
    from scanward.simulation.check import main

    main()
