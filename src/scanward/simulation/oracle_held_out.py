"""What the oracle knows of the held-out attacks: how probable each makes a command, exactly or nearly so.

Attacks on the order of an examination and whole foreign elements need nothing here: a command that comes after a later
one, or that its protocol does not have, is impossible already. ``WEIGHT`` is what one held-out family weighs against
the mean of the known ones, so that what operators do themselves is not suspected twenty times over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scanward.commands import Command, Value
from scanward.simulation import choices
from scanward.simulation import constants as k
from scanward.simulation import held_out as h
from scanward.simulation import held_out_chains as hc
from scanward.simulation.elements import LOCALIZER, SPIRAL, STATIONARY
from scanward.simulation.likelihood import (
    NEVER,
    Factors,
    Likelihood,
    Memory,
    log_of,
    log_sum,
    mass,
    number,
    phi,
)
from scanward.simulation.patients import age_law, size_law
from scanward.simulation.physics import Element, max_ma

# One in forty was tried first; at an AEC spread of 0.20 it raised the threshold (one more of 3,000 clean examinations
# above it), and `repeat` fell from 93 to 89 %. At one in a hundred no known attack loses.
WEIGHT = math.log(1 / 100)
CREEP_LIMIT = 12.0  # nats that the creep so far may weigh: an impossible command must not condemn the next
BEAM = {"SingleCollimationWidth", "TotalCollimationWidth", "SliceThickness"}
IMAGE = {"ConvolutionKernel", "SliceThickness"}
MONTHS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the years that a forged age of an infant may come from


class HeldOutLaws(Likelihood):
    """Log of p(command | attack) / p(command | clean) for every held-out family, at one size."""

    def _held_out(
        self,
        element: Element,
        told: Mapping[str, Value],
        size: float,
        factors: Factors,
        memory: Memory,
    ) -> list[float]:
        out: list[float] = []
        ma, kvp, free = number(told, "XRayTubeCurrentInmA"), number(told, "KVP"), memory.free

        def instead(**new: float) -> None:
            out.append(sum(value - factors[name] for name, value in new.items()))

        if factors["objective"] <= NEVER:
            instead(objective=math.log(0.05))
        if element.spec.kind == LOCALIZER:
            ratio = ma / element.reference_ma if element.reference_ma else 0.0
            if ratio >= h.LOCALIZER_AT_LEAST * 0.95:
                instead(current=math.log(0.01))
            return out
        rotation = number(told, "RevolutionTime")
        instead(height=self._off_centre(element, told, memory))
        instead(start=self._other_organ(element, told))
        wrong = self._differing(element, told)
        if wrong:
            instead(constants=self._wrong_constants(element, wrong))
        if element.spec.kind == STATIONARY:
            before = number(told, "NumberOfRotations") / h.ROTATIONS_FACTOR
            instead(rotations=log_of(choices.monitor_probability(element, before)))
        if element.spec.aec:
            out += self._steering(element, told, size, factors, free, ma, kvp, rotation)
        out.append(memory.creep + self._creep(element, told, size, factors, free))
        return out

    # --- one family each ------------------------------------------------------------------------------------
    def _off_centre(self, element: Element, told: Mapping[str, Value], memory: Memory) -> float:
        low, high = h.OFF_CENTRE_LOW_MM, h.OFF_CENTRE_HIGH_MM
        height = number(told, "TableHeight")
        centre = element.model.table_height if memory.height is None else memory.height
        spread = k.TABLE_HEIGHT_SPREAD_MM if memory.height is None else 0.5
        off = abs(height - centre)
        return log_of(0.5 / (high - low) * (phi((off - low) / spread) - phi((off - high) / spread)))

    def _other_organ(self, element: Element, told: Mapping[str, Value]) -> float:
        feet = str(told.get("PatientPosition", "")).startswith("FF")
        sign, length = (-1.0 if feet else 1.0), number(told, "ScanLength")
        begin, end = number(told, "AcquisitionStartLocation"), number(told, "AcquisitionEndLocation")
        if element.spec.kind == STATIONARY or length <= 0 or abs(begin - sign * length - end) > 0.75:
            return NEVER
        low, high = h.SHIFT_LOW * length, h.SHIFT_HIGH * length
        off, spread = abs(sign * begin - element.spec.start), k.START_SPREAD_MM
        within = phi((off - low) / spread) - phi((off - high) / spread)
        return log_of(0.5 * 0.5 / (high - low) * within)

    def _wrong_constants(self, element: Element, wrong: set[str]) -> float:
        model = element.model
        if wrong == {"SpiralPitchFactor"}:
            return math.log(1 / max(1, len(model.pitches) - 1))
        if element.spec.kind == SPIRAL and "TotalCollimationWidth" in wrong <= BEAM:
            return math.log(1 / len(model.collimations))
        if wrong == {"FilterType"}:
            return math.log(1 / max(1, len(model.filters) - 1))
        if wrong == {"ContrastBolusAgent"}:
            return 0.0
        return math.log(1 / 30) if wrong <= IMAGE else NEVER

    def _steering(
        self, element: Element, told: Mapping[str, Value], size: float, factors: Factors, free: float,
        ma: float, kvp: float, rotation: float,
    ) -> list[float]:  # fmt: skip
        """AEC off, its reference moved, its limit pulled down: the current AEC would have chosen, by its law."""
        model, out = element.model, list[float]()
        known = kvp in k.KVP_RATIO
        top = max_ma(model, kvp) if known else model.max_ma
        low, high = choices.aec_limits(element, kvp) if known else (element.aec_min, element.aec_max)
        on = log_of(1 - choices.manual_rate(element, free))
        law: choices.Mixture = [(1.0, choices.aec_mean(element, size, kvp, rotation), self.aec_spread)]

        def chose(least: float, most: float) -> float:
            """Log of the chance that AEC chose between these, its limits gathering what lies beyond them."""
            if most <= low or least > high:
                return NEVER
            return log_of(mass(law, least if least > low else 0.0, most if most <= high else math.inf))

        if told.get("ExposureModulationType") == h.OFF:
            step = h.OFF_STEP if ma >= h.OFF_LOW_MA else h.OFF_STEP_LOW
            most = top / h.OFF_AT_LEAST if ma >= top else (ma + step / 2) / h.OFF_FACTOR
            got = chose((ma - step / 2) / h.OFF_FACTOR, most)
            limits = 0.0 if "AECMaximumTubeCurrent" not in told else NEVER
            out.append(on + limits + got - sum(factors[n] for n in ("aec", "limits", "current")))
            return out
        new, cap = number(told, model.aec_reference), number(told, "AECMaximumTubeCurrent")
        old = element.noise_reference
        power = -2.0 if model.aec_reference == "NoiseIndex" else 1.0
        half = model.ma_step / 2
        if new > 0 and old > 0 and new != old and cap == high:
            factor = (new / old) ** power
            if h.REFERENCE_AT_LEAST * 0.9 <= factor <= h.REFERENCE_FACTOR * 1.35:
                got = chose((ma - half) / factor, high if ma + half >= high else (ma + half) / factor)
                out.append(got - factors["limits"] - factors["current"])
        if new == old and cap < high and ma <= cap + half:
            reach = 10.0 / h.CAPPED_FACTOR  # limits are written in tens
            got = chose(ma / h.CAPPED_FACTOR - reach, ma / h.CAPPED_FACTOR + reach)
            out.append(got - factors["limits"] - factors["current"])
        return out

    def _creep(
        self, element: Element, told: Mapping[str, Value], size: float, factors: Factors, free: float
    ) -> float:
        """This scan at 1.25 times its dose: the current before it, with the limits that gave way put back."""
        ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")
        was = self._unlimited(
            element, told, size, free, ma / hc.CREEP_FACTOR, kvp, number(told, "RevolutionTime"),
            1 / hc.CREEP_FACTOR,
        )  # fmt: skip
        return sum(value - factors[name] for name, value in was.items())

    def _remember_creep(self, memory: Memory, weighed: list[tuple[float, float]]) -> None:
        """``weighed``: of each size, log p(command | clean) and log p(command | creep) over it."""
        clean = log_sum(c for c, _ in weighed)
        creep = log_sum(c + r for c, r in weighed)
        total = memory.creep + max(-CREEP_LIMIT, min(CREEP_LIMIT, creep - clean))
        memory.creep = max(-CREEP_LIMIT, min(CREEP_LIMIT, total))

    # --- what is told of the patient ------------------------------------------------------------------------
    def _forged(self, element: Element, command: Command) -> list[float]:
        """Log ratios of the weight alone, or a child's age alone, being forged; empty without age and sex."""
        age, sex = command.number("PatientAge"), command.text("PatientSex")
        if age is None or sex not in k.HEIGHT_M:
            return []
        known = [command.number(n) for n in ("PatientSize", "PatientWeight", "WaterEquivalentDiameter")]
        at = [i for i, v in enumerate(known) if v is not None and v > 0]
        logs = np.array([math.log(v) for v in known if v is not None and v > 0])
        out: list[float] = []
        own = _density(element, age, sex, at, logs)
        if 1 in at:
            shift = np.zeros(len(at))
            shift[at.index(1)] = math.log(hc.WEIGHT_FACTOR)
            either = [_density(element, age, sex, at, logs + s * shift) for s in (-1.0, 1.0)]
            out.append(log_sum(either) - math.log(2) - own)
        younger = age - hc.YEARS_OLDER
        if 0 <= younger < hc.CHILD_YEARS:
            ages = [younger] if younger >= 2 else [younger + m for m in MONTHS]
            then = log_sum(
                max(NEVER, age_law(element.protocol, a)) + _density(element, a, sex, at, logs) for a in ages
            ) - math.log(len(ages))
            out.append(then - max(NEVER, age_law(element.protocol, age)) - own)
        return out


def _density(element: Element, age: float, sex: str, at: list[int], logs: NDArray[np.float64]) -> float:
    """Log density of those of log height, weight and size that are known, given age and sex."""
    if not at:
        return 0.0
    mean, cov = size_law(element.protocol.region, age, sex)
    part = cov[np.ix_(at, at)]
    off = logs - mean[at]
    _, size = np.linalg.slogdet(part)
    return float(max(NEVER, -0.5 * (off @ np.linalg.solve(part, off) + size)))
