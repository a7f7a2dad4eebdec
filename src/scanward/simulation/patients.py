"""Patients: age, sex, height, weight and water-equivalent diameter, jointly log-normal given age and sex.

Log-normal throughout, so that every conditional is exact and the oracle can use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.simulation import constants as k
from scanward.simulation.elements import ProtocolSpec

ADULT = 18.0


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient as the worklist and the localizer know them; years, m, kg, mm."""

    age: float
    sex: str
    height: float
    weight: float
    size: float  # water-equivalent diameter of the scanned region, as the localizer measured it


def mean_log_height(age: float, sex: str) -> float:
    """Mean of log height (m). Children: 0.50 m at birth, 0.75 m at one year, then 6 cm a year. assumption:"""
    adult = math.log(k.HEIGHT_M[sex])
    if age >= ADULT:
        return adult
    return min(adult, math.log(0.50 + 0.25 * age if age < 1 else 0.75 + 0.06 * (age - 1)))


def mean_log_weight(age: float, sex: str) -> float:
    """Mean of log weight (kg): 3.5 kg at birth, 10 at one year, 2 (age + 4) to ten, then 65. assumption:"""
    if age >= ADULT:
        return math.log(k.BMI_MEDIAN) + 2 * mean_log_height(age, sex)
    if age < 1:
        return math.log(3.5 + 6.5 * age)
    return math.log(2 * (age + 4) if age < 10 else 28 + (age - 10) * 4.6)


def _head_size(age: float, sex: str) -> float:
    adult = 176.0 if sex == "M" else 169.0  # assumption
    return adult * (1 - 0.36 * math.exp(-age / 2.2)) if age < ADULT else adult


def size_law(region: str, age: float, sex: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance (3, 3) of (log height, log weight, log size in mm) given age and sex."""
    h, w = mean_log_height(age, sex), mean_log_weight(age, sex)
    vh = k.HEIGHT_SPREAD**2
    if age >= ADULT:
        vw, chw = k.BMI_SPREAD**2 + 4 * vh, 2 * vh
    else:
        vw, chw = k.CHILD_WEIGHT_SPREAD**2 + vh, vh
    noise = k.LOCALIZER_SIZE_NOISE**2
    if region in ("head", "limb"):
        mean = _head_size(age, sex) if region == "head" else 115.0 * math.exp(0.6 * (h - math.log(1.7)))
        spread = k.HEAD_SIZE_SPREAD if region == "head" else k.LIMB_SIZE_SPREAD
        cov = np.array([[vh, chw, 0.0], [chw, vw, 0.0], [0.0, 0.0, spread**2 + noise]])
        return np.array([h, w, math.log(mean)]), cov
    factor = {"abdomen": 1.0, "chest": k.CHEST_FACTOR, "neck": k.NECK_FACTOR}[region]
    # a cylinder of the abdomen's area: size = 1000 sqrt(4 weight / (pi 1000 height fill))
    s = math.log(1000 * factor) + 0.5 * (math.log(4 / (math.pi * 1000 * k.BODY_FILL)) + w - h)
    chs, cws = 0.5 * (chw - vh), 0.5 * (vw - chw)
    vs = 0.25 * (vw + vh - 2 * chw) + k.SIZE_SPREAD**2 + noise
    return np.array([h, w, s]), np.array([[vh, chw, chs], [chw, vw, cws], [chs, cws, vs]])


def is_child_protocol(protocol: ProtocolSpec) -> bool:
    """Whether a protocol is meant for children alone."""
    return 0 < protocol.ages[1] < 100


def draw_patient(protocol: ProtocolSpec, rng: np.random.Generator) -> Patient:
    """A patient of those for whom a protocol is used."""
    low, high = protocol.ages
    if is_child_protocol(protocol):
        age = rng.uniform(low, high)
    elif high > 100 and rng.random() < k.CHILD_SHARE_OF_ALL_AGE_PROTOCOLS:
        age = rng.uniform(0.0, 16.0)
    else:
        age = -1.0
        while not k.ADULT_AGE_LIMITS[0] <= age <= k.ADULT_AGE_LIMITS[1]:
            age = rng.normal(k.ADULT_AGE_MEAN, k.ADULT_AGE_SPREAD)
    age = math.floor(age) if age >= 2 else math.floor(age * 12) / 12  # months under two years
    sex = "M" if rng.random() < 0.52 else "F"  # assumption
    mean, cov = size_law(protocol.region, age, sex)
    h, w, s = mean + np.linalg.cholesky(cov) @ rng.standard_normal(3)
    return Patient(
        float(age),
        sex,
        round(math.exp(h), 2),
        round(math.exp(w), 1 if age < ADULT else 0),
        round(math.exp(s)),
    )


def age_law(protocol: ProtocolSpec, age: float) -> float:
    """Log density (per year) of a patient's age in a protocol's population; -inf where it never is."""

    def adult() -> float:
        a, b = k.ADULT_AGE_LIMITS
        if not a <= age <= b:
            return 0.0
        z = (age + 0.5 - k.ADULT_AGE_MEAN) / k.ADULT_AGE_SPREAD
        return math.exp(-z * z / 2) / (k.ADULT_AGE_SPREAD * math.sqrt(2 * math.pi)) / 0.977

    low, high = protocol.ages
    if is_child_protocol(protocol):
        density = 1 / (high - low) if low - 1e-9 <= age < high else 0.0
    elif high > 100:
        share = k.CHILD_SHARE_OF_ALL_AGE_PROTOCOLS
        density = share / 16.0 if age < 16 else (1 - share) * adult()
    else:
        density = adult()
    return math.log(density) if density > 0 else -math.inf
