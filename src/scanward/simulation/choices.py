"""How operators and automatic exposure control choose: small laws, drawn by the site and read by the oracle.

Each discrete law is a list of (value, probability) with the default first; each continuous one is a mixture
of normals on a stated scale. The same functions serve every protocol, so that how people deviate can be
learned from common protocols and applied to rare ones.
"""

from __future__ import annotations

import math
from itertools import pairwise

from scanward.simulation import constants as k
from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL, STATIONARY
from scanward.simulation.patients import mean_log_height
from scanward.simulation.physics import Element, max_ma

Law = list[tuple[float, float]]
Mixture = list[tuple[float, float, float]]  # (probability, mean, spread)
FOV_MARGIN = 1.18  # assumption: the widest width of a patient over the water-equivalent diameter


def team_factor(hour: float) -> float:
    """How freely the shift on duty deviates: night, day, evening."""
    return k.TEAM_FACTOR[0 if hour < 7 else 1 if hour < 15 else 2 if hour < 22 else 0]


def relative_size(element: Element, size: float) -> float:
    """Log of a patient's size over what the protocol is used to."""
    usual = k.REFERENCE_SIZE[element.protocol.region]
    if element.child:
        usual *= 0.55 + 0.45 * min(1.0, sum(element.protocol.ages) / 2 / 18)
        if element.protocol.region == "head":
            usual = k.REFERENCE_SIZE["head"] * (0.75 if element.protocol.ages[1] <= 1 else 0.92)
    return math.log(size / usual)


def _habit(x: float) -> float:
    return 1 / (1 + math.exp(-2 * x))


def kvp_options(element: Element, size: float, free: float) -> Law:
    """One step up for the large, one step down for the small and with contrast; small rates either way."""
    options, kvp = element.model.kvps, element.kvp
    at, law = options.index(kvp), list[tuple[float, float]]()
    z = relative_size(element, size) / k.KVP_SIZE_SCALE
    aec = element.spec.aec
    up = k.KVP_ANY_RATE + (k.KVP_UP_RATE * _habit(z - 1) if aec else 0.0)
    down = k.KVP_ANY_RATE + (k.KVP_DOWN_RATE * _habit(-z - 1 + 0.7 * element.spec.contrast) if aec else 0.0)
    if at + 1 < len(options):
        law.append((options[at + 1], up * free))
    if at > 0:
        law.append((options[at - 1], down * free))
    return [(kvp, 1 - sum(p for _, p in law)), *law]


def rotation_options(element: Element, size: float, free: float) -> Law:
    """One step slower for the large, so that the tube can follow; AEC lowers the current in return."""
    slower = [r for r in element.model.rotations if r > element.rotation]
    if element.spec.kind not in (SPIRAL, SEQUENCED) or not element.spec.aec or not slower:
        return [(element.rotation, 1.0)]
    p = k.SLOW_ROTATION_RATE * free * _habit(relative_size(element, size) / k.KVP_SIZE_SCALE - 1)
    return [(element.rotation, 1 - p), (slower[0], p)]


def default_fov(element: Element, size: float) -> float:
    """The smallest field that holds the patient; heads and limbs use the smallest."""
    options = element.model.fields_of_view
    if element.region in ("head", "limb"):
        return options[0]
    fitting = [
        f
        for f in options[1 if element.region == "neck" and not element.child else 0 :]
        if f >= FOV_MARGIN * size
    ]
    return fitting[0] if fitting else options[-1]


def fov_options(element: Element, size: float, free: float) -> Law:
    """One step up for those who nearly did not fit, one down for those who nearly fit; else seldom."""
    options = element.model.fields_of_view
    usual = default_fov(element, size)
    at, law = options.index(usual), list[tuple[float, float]]()
    sized = element.region not in ("head", "limb")
    if at + 1 < len(options):
        tight = sized and FOV_MARGIN * size > 0.93 * usual
        law.append((options[at + 1], free * (k.FOV_RATE if tight else k.FOV_ANY_RATE)))
    if at > 0:
        roomy = sized and FOV_MARGIN * size < 1.07 * options[at - 1]
        law.append((options[at - 1], free * (k.FOV_RATE if roomy else k.FOV_ANY_RATE)))
    return [(usual, 1 - sum(p for _, p in law)), *law]


def recon_mean(element: Element, size: float) -> float:
    """Mean reconstructed diameter (mm)."""
    if element.region == "head":
        return 0.5 * size + 140
    return 1.2 * size if element.region != "limb" else 1.3 * size


def aec_mean(element: Element, size: float, kvp: float, rotation: float) -> float:
    """Mean of log mA that AEC asks for, before its limits."""
    model = element.model
    deviation = size - k.REFERENCE_SIZE[element.protocol.region]
    if element.region != element.protocol.region:
        deviation *= 0.15  # a head in a trunk protocol: the measured size says little of it
    return (
        math.log(element.reference_ma)
        + model.aec_slope * deviation
        - model.aec_kvp_power * math.log(kvp / element.kvp)
        - math.log(rotation / element.rotation)
    )


def aec_limits(element: Element, kvp: float) -> tuple[float, float]:
    """The AEC limits sent with a command: the element's, within what the tube gives at this voltage."""
    top = min(element.aec_max, max_ma(element.model, kvp))
    return min(element.aec_min, top), top


def manual_step(ma: float) -> float:
    """People choose round numbers."""
    return k.MANUAL_STEP if ma >= 100 else 10.0


def manual_mean(element: Element, size: float) -> float:
    """Mean of log mA when an operator sets it: by eye, so half as size-minded as AEC."""
    return 0.5 * (aec_mean(element, size, element.kvp, element.rotation) + math.log(element.reference_ma))


def manual_rate(element: Element, free: float) -> float:
    """How often AEC is switched off."""
    return k.MANUAL_RATE * free if element.spec.aec else 0.0


def length_law(element: Element, age: float | None, sex: str | None, retake: bool, free: float) -> Mixture:
    """Log of ScanLength: stature, then lengthened or shortened, and shorter on a retake."""
    if element.spec.kind == STATIONARY:
        return [(1.0, math.log(element.spec.length), 1e-6)]
    mean = math.log(element.spec.length)
    if age is not None and age < 18:
        stature = mean_log_height(age, sex or "M") - mean_log_height(30.0, sex or "M")
        mean += stature * (0.3 if element.region == "head" else 0.9)
    odd = min(0.2, k.RANGE_RATE * free)
    law = [
        (1 - odd, mean, k.LENGTH_SPREAD),
        (odd / 2, mean + k.RANGE_LOG, k.RANGE_SPREAD),
        (odd / 2, mean - k.RANGE_LOG, k.RANGE_SPREAD),
    ]
    if not retake or element.spec.kind == LOCALIZER:
        return law
    short = k.RETAKE_SHORT_SHARE
    return [(p * (1 - short), m, s) for p, m, s in law] + [
        (short, mean + k.RETAKE_SHORT_LOG, k.RETAKE_SHORT_SPREAD)
    ]


def tilt_options(element: Element, free: float) -> Law:
    """Sequenced heads are tilted away from the orbits now and then; nothing else is."""
    if not (element.spec.kind == SEQUENCED and element.region == "head" and element.model.tilts):
        return [(0.0, 1.0)]
    count = round((k.TILT_HIGH - k.TILT_LOW) / k.TILT_STEP) + 1
    p = k.TILT_RATE * free
    tilted = [(-(k.TILT_LOW + i * k.TILT_STEP), p / count) for i in range(count)]
    return [(0.0, 1 - p), *tilted]


def monitor_probability(element: Element, rotations: float) -> float:
    """Rotations of one stationary element: fixed, or three and a Poisson number until the bolus arrives."""
    if element.spec.rotations:
        return float(rotations == element.spec.rotations)
    extra = rotations - k.MONITOR_MIN_ROTATIONS
    if extra < 0 or extra != int(extra):
        return 0.0
    mean = k.MONITOR_MEAN_EXTRA
    return math.exp(extra * math.log(mean) - mean - math.lgamma(extra + 1))


def lying_options(element: Element, free: float) -> list[tuple[tuple[bool, bool], float]]:
    """(feet first, prone) of an examination, default first; the trunk is sometimes the other way round."""
    usual = element.protocol.feet_first
    if element.protocol.region not in ("chest", "abdomen"):
        return [((usual, False), 1.0)]
    a, b = k.FEET_FIRST_RATE * free, k.PRONE_RATE * free
    return [((usual, False), 1 - a - b), ((not usual, False), a), ((usual, True), b)]


def position(element: Element, lying: tuple[bool, bool]) -> str:
    """PatientPosition of an element, given how the patient lies."""
    feet, prone = lying
    return ("FF" if feet else "HF") + ("P" if prone or element.spec.prone else "S")


def retake_rate(element: Element, child: bool, repeats: int, free: float) -> float:
    """How often the element just sent is sent once more."""
    if repeats >= 2:
        return 0.0
    if repeats == 1:
        return k.RETAKE_AGAIN_RATE
    factor = (k.RETAKE_CHILD_FACTOR if child else 1.0) * (
        k.RETAKE_HEAD_FACTOR if element.region == "head" else 1.0
    )
    return k.RETAKE_RATE * factor * free


def next_law(elements: tuple[Element, ...], at: int, repeats: int, child: bool, free: float) -> Law:
    """Which element comes next (index), given the last one's index (-1 at the start) and its repeats so far.

    Probabilities sum to less than one: the rest is the end of the examination.
    """
    law, left = list[tuple[float, float]](), 1.0
    if at >= 0:
        again = retake_rate(elements[at], child, repeats, free)
        law.append((float(at), again))
        left -= again
    for j in range(at + 1, len(elements)):
        law.append((float(j), left * (1 - k.SKIP_RATE * free)))
        left *= k.SKIP_RATE * free
    return law


def is_sorted(values: tuple[float, ...]) -> bool:
    """Whether a model's options are listed from small to large, as the one-step laws need."""
    return all(a < b for a, b in pairwise(values))
