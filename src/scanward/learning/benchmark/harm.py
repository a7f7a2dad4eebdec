"""How much harm the attacks let through would have done: misses weighted by what they do to the patient.

A detector that misses only what harms nobody is better than one that misses as often whatever it is. Each kind of
harm is summed apart, for mGy cm of dose and mm of motion have no common unit, and each is told as the share of that
kind's whole harm that was let through: 0 when every harmful case was caught, 1 when none was.

    dose    DLP beyond what was planned, mGy cm. The excess risk of cancer is taken to grow with dose without a
            threshold (ICRP 103, 2007, A.4), and DLP is dose times length; a dose that is too low harms by the image.
    tissue  length of the body irradiated outside what was planned, mm: whatever the dose, none of it was asked for.
    motion  how far something moves that should not: mm of the table, and degrees of the gantry as the arc that they
            make at its opening (``RADIUS``), where a patient can be touched.
    image   the examination does not answer what was asked and is done again (or a bleed is missed): 1 or 0.

Every attack counts equally within a kind whatever its number of cases: a case is weighted by 1 / cases of its attack
in its world. Attacks that deceive about the context alone do no harm by themselves and count in none of the four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from scanward.errors import LearningError
from scanward.learning.benchmark.answers import Attacked, Floats, Told
from scanward.learning.benchmark.drawn import Mean, Stratum, alerted, share, together

HARMS = ("dose", "tissue", "motion", "image")
RADIUS = 350.0  # mm: half the opening of common gantries (700 to 800 mm), rounded down

Effects = Mapping[str, Mapping[str, Floats]]


def harms(effects: Mapping[str, Floats]) -> Floats:
    """Harm of each case of one attack, shape (4, M), in the order of ``HARMS``; what is not known counts as none."""
    units = np.asarray(effects["unit"])

    def column(name: str) -> Floats:
        given = np.asarray(effects.get(name, np.zeros(len(units))), dtype=np.float64)
        return np.where(np.isfinite(given), np.maximum(given, 0.0), 0.0)

    motion = (
        np.abs(_signed(effects, "motion_mm")) + np.abs(np.radians(_signed(effects, "motion_deg"))) * RADIUS
    )
    of_context = column("context_only") > 0
    told = np.stack([column("extra_dlp"), column("tissue_mm"), motion, column("image_lost")])
    out: Floats = np.where(of_context[None, :], 0.0, told)
    return out


def _signed(effects: Mapping[str, Floats], name: str) -> Floats:
    given = np.asarray(effects.get(name, np.zeros(len(effects["unit"]))), dtype=np.float64)
    out: Floats = np.where(np.isfinite(given), given, 0.0)
    return out


def matched(attack: str, cases: Attacked, effects: Mapping[str, Floats]) -> None:
    """Refuse effects that are not of these very cases.

    Raises
    ------
    LearningError
    """
    if not np.array_equal(np.asarray(effects["unit"]), cases.units):
        raise LearningError(
            "effects and answers are of different cases", attack, "measure this world anew in an empty folder"
        )


def add_missed(
    means: Mapping[str, Mean],
    world: int,
    stratum: Stratum,
    told: Told,
    attacks: Sequence[str],
    effects: Effects,
    threshold: Floats,
) -> None:
    """Add one world's share of harm let through to ``means`` (one for each of ``HARMS``).

    A kind that no case of this world does is left out. Effects are looked up for attacks that have them.
    """
    names = [a for a in attacks if a in effects and a in told.attacks and len(told.attacks[a].units)]
    if not names:
        return
    for name in names:
        matched(name, told.attacks[name], effects[name])
    scores, objects, units, _ = together(told.attacks, names)
    amounts = np.concatenate([harms(effects[n]) / len(told.attacks[n].units) for n in names], axis=1)
    everything = np.zeros(len(scores), np.bool_)
    all_of_it = stratum.caught(scores, ~everything, units, threshold, amounts)
    missed = share(all_of_it - stratum.caught(scores, objects, units, threshold, amounts), all_of_it)
    hit = alerted(scores, objects, threshold)
    for kind, of, drawn in zip(HARMS, amounts, missed, strict=True):
        harmful = of > 0
        if harmful.any():
            # Rounding of sums of parts that are no whole numbers: 0 and 1 are 0 and 1.
            drawn = np.clip(np.where(np.abs(drawn) < 1e-9, 0.0, drawn), 0.0, 1.0)
            if not (~hit & harmful).any():
                drawn[0] = 0.0
            means[kind].add(world, drawn, units[harmful], ~hit[harmful], _effective(units, of))


def _effective(units: Floats | np.ndarray, amounts: Floats) -> float:
    """Examinations that an interval of a weighted share may count on: Kish, Survey Sampling, 1965, 11.7."""
    each = np.bincount(np.asarray(units, np.int64), amounts)
    total = float(each.sum())
    return total * total / float((each * each).sum()) if total > 0 and math.isfinite(total) else 0.0
