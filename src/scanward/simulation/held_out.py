"""Held-out attacks: families that no detector was developed against, for the final table alone.

They are made like those of ``attacks`` (same type, same tests): one command changed and all that depends on it made to
fit, on simulated and on recorded commands, with only the fields that are there. Attacks on the chain and on
the context are in ``held_out_chains``. Effect sizes were set by what would harm a patient or cost a second scan,
said at each constant, before any detector was run on them.

Left out on purpose: a localizer (or any other element) simply not sent. Operators do that themselves in one scan of
eighty, so no judge of commands could tell it at a budget of one in two hundred; ``order_changed`` is its visible
relation.
"""

from __future__ import annotations

import numpy as np

from scanward.commands import Examination
from scanward.simulation import held_out_chains as chains
from scanward.simulation.attacks import Attack, Parameters, exposing, imaging, number, put, set_current
from scanward.simulation.donors import COLLIMATION, Donors, kind_of, model_of, recompute
from scanward.simulation.elements import LOCALIZER

OFF = "NONE"  # ExposureModulationType without modulation (PS3.3 C.8.15.3.8)
STEERING = ("AECMinimumTubeCurrent", "AECMaximumTubeCurrent", "NoiseIndex", "QualityReferenceMAs")

# Twice the dose: the patient gets a second scan for nothing; half again is the least that is worth an attacker's risk.
OFF_FACTOR, OFF_AT_LEAST = 2.0, 1.5
OFF_STEP, OFF_STEP_LOW, OFF_LOW_MA = 25.0, 10.0, 100.0  # whoever sets a current by hand takes a round one
REFERENCE_FACTOR, REFERENCE_AT_LEAST = 2.0, 1.5
# A third of the current: 1.7 times the noise. Low contrast (an early stroke, a liver metastasis) is lost in it.
CAPPED_FACTOR = 0.35
# Dose up or down by this much at least: down, the image suffers; up, the patient does.
PITCH_AT_LEAST = 1.4
# A beam half again as wide or as narrow: the scan outlasts the breath and the bolus, or its slices get too thick.
BEAM_AT_LEAST = 1.5
# The localizer magnifies a patient 40 mm off the centre enough for 20 to 35 % of dose, and the bow-tie filter no
# longer fits (``scanner.magnified``); beyond 80 mm a large patient touches the gantry's cover.
OFF_CENTRE_LOW_MM, OFF_CENTRE_HIGH_MM = 40.0, 80.0
HEIGHT_LIMITS_MM = (-400.0, 400.0)  # of table travel, whatever the maker counts from
# Half to all of the range: the organ asked for is missed by half at least, another one gets its dose.
SHIFT_LOW, SHIFT_HIGH = 0.5, 1.0
TRAVEL_MM = 2000.0  # of the table either way
# Slices half or twice as thick at least: 1.4 times the noise or half the resolution, with a kernel made for others.
SLICE_AT_LEAST = 2.0
# Four times on one place: monitoring that goes on after the bolus, perfusion at four times the dose of the skin. In
# the perfusion accidents of 2008-2009 (206 patients) it was eight.
ROTATIONS_FACTOR = 4.0
# A localizer with the current of a scan: three times its own dose at least, to lens, thyroid and breast.
LOCALIZER_AT_LEAST = 3.0

Rng = np.random.Generator


def _aec_off(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """AEC switched off, a round fixed current of twice what AEC chose (at least half again where the tube ends)."""
    command = examination.commands[index]
    told = dict(command.parameters)
    ma = number(told, "XRayTubeCurrentInmA")
    if ma is None:
        return None
    top = donors.top_current(command, number(told, "KVP"))
    wanted = OFF_FACTOR * ma
    step = OFF_STEP if wanted >= OFF_LOW_MA else OFF_STEP_LOW
    wanted = min(round(wanted / step) * step, top)
    if wanted < OFF_AT_LEAST * ma:
        return None
    told["ExposureModulationType"] = OFF
    for name in STEERING:
        told.pop(name, None)
    set_current(command, told, wanted, donors)
    return put(examination, index, recompute(command, told, donors))


def _aec_reference(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The AEC's reference moved to twice the dose; the current follows, within its own limits and the tube's.

    Noise goes with the inverse root of dose: a noise index falls by the root of two, quality reference mAs double.
    """
    command = examination.commands[index]
    told = dict(command.parameters)
    ma = number(told, "XRayTubeCurrentInmA")
    name = "NoiseIndex" if "NoiseIndex" in told else "QualityReferenceMAs"
    old = number(told, name)
    if ma is None or not old:
        return None
    power = -2.0 if name == "NoiseIndex" else 1.0
    new = donors.rounded(command, name, old * REFERENCE_FACTOR ** (1 / power))
    if new <= 0 or new == old:
        return None
    high = number(told, "AECMaximumTubeCurrent")
    top = min(donors.top_current(command, number(told, "KVP")), high if high is not None else np.inf)
    wanted = min(ma * (new / old) ** power, top)
    if wanted < REFERENCE_AT_LEAST * ma:
        return None
    told[name] = new
    set_current(command, told, wanted, donors)
    return put(examination, index, recompute(command, told, donors))


def _aec_capped(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The AEC's upper limit pulled down to a third of the current, which ends there: an image full of noise."""
    command = examination.commands[index]
    told = dict(command.parameters)
    ma, high = number(told, "XRayTubeCurrentInmA"), number(told, "AECMaximumTubeCurrent")
    if ma is None or high is None:
        return None
    cap = donors.rounded(command, "AECMaximumTubeCurrent", CAPPED_FACTOR * ma)
    if not 0 < cap < 0.5 * ma:
        return None
    told["AECMaximumTubeCurrent"] = cap
    set_current(command, told, cap, donors)
    return put(examination, index, recompute(command, told, donors))


def _pitch(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Another pitch of the device at the same current: feed, speed, time and dose follow."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value = number(told, "SpiralPitchFactor")
    if not value:
        return None
    options = [
        o
        for o in donors.options(command, "SpiralPitchFactor")
        if o > 0 and max(o / value, value / o) >= PITCH_AT_LEAST
    ]
    if not options:
        return None
    told["SpiralPitchFactor"] = options[int(rng.integers(len(options)))]
    return put(examination, index, recompute(command, told, donors))


def _collimation(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Another beam width at the same pitch: feed, speed, time and (by over-beaming) dose follow."""
    command = examination.commands[index]
    told = dict(command.parameters)
    total = number(told, "TotalCollimationWidth")
    if not total:
        return None
    beams = [b for b in donors.beams(command) if max(b[1] / total, total / b[1]) >= BEAM_AT_LEAST]
    if not beams or any(name not in told for name in COLLIMATION):
        return None
    told.update(zip(COLLIMATION, beams[int(rng.integers(len(beams)))], strict=True))
    thickness, single = number(told, "SliceThickness"), number(told, "SingleCollimationWidth")
    if thickness is not None and single is not None and thickness < single:
        told["SliceThickness"] = single  # no slice is thinner than the detector's row
    out = recompute(command, told, donors)
    if model_of(command) is None:  # a real device: by the ratio of the widths
        width = float(out["TotalCollimationWidth"]) / total
        for name, factor in (
            ("TableFeedPerRotation", width),
            ("TableSpeed", width),
            ("ExposureTimeInms", 1 / width),
        ):
            if (was := number(out, name)) is not None:
                out[name] = donors.rounded(command, name, was * factor)
    return put(examination, index, out)


def _bow_tie(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The bow-tie filter shaped for another body: the dose to the skin and the noise at the edge are wrong."""
    command = examination.commands[index]
    told = dict(command.parameters)
    others = [v for v in donors.seen(command, "FilterType") if v != told.get("FilterType")]
    if not others:
        return None
    told["FilterType"] = others[int(rng.integers(len(others)))]
    return put(examination, index, recompute(command, told, donors))


def _off_centre(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The table 40 to 80 mm too high or too low."""
    command = examination.commands[index]
    told = dict(command.parameters)
    height = number(told, "TableHeight")
    if height is None:
        return None
    by = float(rng.uniform(OFF_CENTRE_LOW_MM, OFF_CENTRE_HIGH_MM)) * (1 if rng.random() < 0.5 else -1)
    low, high = HEIGHT_LIMITS_MM
    # a maker that counts from elsewhere has its own zero: only a height within the travel is kept within it
    inside = low <= height <= high
    new = height + by if not inside or low <= height + by <= high else height - by
    told["TableHeight"] = donors.rounded(command, "TableHeight", new)
    return put(examination, index, told)


def _other_organ(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """The whole range moved along the table by half to all of its length; the length stays."""
    command = examination.commands[index]
    told = dict(command.parameters)
    begin, end = number(told, "AcquisitionStartLocation"), number(told, "AcquisitionEndLocation")
    length = number(told, "ScanLength") or (abs(end - begin) if None not in (begin, end) else 0.0)  # type: ignore[operator]
    if begin is None or not length:
        return None
    by = float(rng.uniform(SHIFT_LOW, SHIFT_HIGH)) * length * (1 if rng.random() < 0.5 else -1)
    by = donors.rounded(command, "AcquisitionStartLocation", begin + by) - begin
    for shift in (by, -by):
        if max(abs(v + shift) for v in (begin, end if end is not None else begin)) <= TRAVEL_MM:
            for name in ("AcquisitionStartLocation", "AcquisitionEndLocation"):
                if (was := number(told, name)) is not None:
                    told[name] = donors.rounded(command, name, was + shift)
            return put(examination, index, recompute(command, told, donors))
    return None


def _contrast(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Contrast agent told where there should be none, or none told where it belongs.

    The one is given to somebody who was not asked about kidneys and allergies, the other makes the scan useless.
    """
    command = examination.commands[index]
    told = dict(command.parameters)
    others = [v for v in donors.seen(command, "ContrastBolusAgent") if v != told.get("ContrastBolusAgent")]
    if not others:
        return None
    told["ContrastBolusAgent"] = others[int(rng.integers(len(others)))]
    return put(examination, index, told)


def _image_quality(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """A kernel made for another tissue, and slices at least twice as thick or half as thin; dose stays."""
    command = examination.commands[index]
    told = dict(command.parameters)
    kernels = [v for v in donors.seen(command, "ConvolutionKernel") if v != told.get("ConvolutionKernel")]
    thickness, least = number(told, "SliceThickness"), number(told, "SingleCollimationWidth") or 0.0
    slices = [
        v
        for v in donors.seen(command, "SliceThickness")
        if isinstance(v, float)
        and thickness
        and v >= least
        and v > 0
        and max(v / thickness, thickness / v) >= SLICE_AT_LEAST
    ]
    changed = False
    for name, options in (("ConvolutionKernel", kernels), ("SliceThickness", slices)):
        if name in told and options:
            told[name], changed = options[int(rng.integers(len(options)))], True
    return put(examination, index, told) if changed else None


def _rotations(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """Four times as many rotations on one place: time and dose follow."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value = number(told, "NumberOfRotations")
    if not value:
        return None
    told["NumberOfRotations"] = float(round(ROTATIONS_FACTOR * value))
    return put(examination, index, recompute(command, told, donors))


def _localizer_current(examination: Examination, index: int, rng: Rng, donors: Donors) -> Examination | None:
    """A localizer with the largest current of the examination's scans, or of another patient's on this device."""
    command = examination.commands[index]
    told: Parameters = dict(command.parameters)
    ma = number(told, "XRayTubeCurrentInmA")
    if not ma:
        return None
    top = donors.top_current(command, number(told, "KVP"))
    others = [c for c in examination.commands if kind_of(c) != LOCALIZER]
    for _ in range(50):
        currents = [v for c in others if (v := number(dict(c.parameters), "XRayTubeCurrentInmA")) is not None]
        new = min(max(currents, default=0.0), top)
        if new >= LOCALIZER_AT_LEAST * ma:
            set_current(command, told, new, donors)
            return put(examination, index, recompute(command, told, donors))
        if not donors.examinations:
            return None
        other = donors.examinations[int(rng.integers(len(donors.examinations)))]
        others = [c for c in other.commands if c.device.key == command.device.key and kind_of(c) != LOCALIZER]
    return None


# --- where each makes sense -------------------------------------------------------------------------------
def _modulated(examination: Examination, index: int) -> bool:
    told = examination.commands[index].parameters
    return told.get("ExposureModulationType", OFF) != OFF and exposing(examination, index)


def _steered(examination: Examination, index: int) -> bool:
    told = examination.commands[index].parameters
    return ("NoiseIndex" in told or "QualityReferenceMAs" in told) and exposing(examination, index)


def _limited(examination: Examination, index: int) -> bool:
    return "AECMaximumTubeCurrent" in examination.commands[index].parameters and exposing(examination, index)


def _helical(examination: Examination, index: int) -> bool:
    return "SpiralPitchFactor" in examination.commands[index].parameters and exposing(examination, index)


def _in_one_place(examination: Examination, index: int) -> bool:
    return "NumberOfRotations" in examination.commands[index].parameters and exposing(examination, index)


def _localizing(examination: Examination, index: int) -> bool:
    return kind_of(examination.commands[index]) == LOCALIZER


HELD_OUT: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("aec_off", "AEC off", "AEC off, twice the current, fixed", _aec_off, _modulated),
        Attack(
            "aec_reference_moved",
            "AEC reference",
            "noise index or reference mAs moved to twice the dose",
            _aec_reference,
            _steered,
        ),
        Attack("aec_capped", "AEC limits", "AEC's upper limit at a third", _aec_capped, _limited),
        Attack("pitch", "pitch", "another pitch at the same mA", _pitch, _helical),
        Attack("collimation", "collimation", "another beam width at the same pitch", _collimation, _helical),
        Attack("bow_tie", "bow tie", "the filter for another body", _bow_tie, exposing),
        Attack("off_centre", "centring", "table 40-80 mm off the centre", _off_centre, exposing),
        Attack("other_organ", "other organ", "range moved by half to all of it", _other_organ, imaging),
        Attack("contrast", "contrast", "contrast told where none, or the reverse", _contrast, exposing),
        Attack("image_quality", "image", "another kernel and slice thickness", _image_quality, imaging),
        Attack("rotations_x4", "rotations", "four times the rotations", _rotations, _in_one_place),
        Attack(
            "localizer_current", "localizer", "a localizer at a scan's mA", _localizer_current, _localizing
        ),
        Attack("dose_creep", "creep", "every scan x1.25", chains.dose_creep, chains.of_several),
        Attack("order_changed", "order", "sent before its predecessor", chains.swapped, chains.follows),
        Attack(
            "foreign_element", "foreign element", "another protocol's scan put in", chains.foreign, imaging
        ),
        Attack(
            "renamed_protocol",
            "renamed",
            "right commands under another protocol's names",
            chains.renamed_protocol,
            chains.named,
        ),
        Attack(
            "renamed_body_part", "renamed part", "another body part told", chains.renamed_part, chains.of_part
        ),
        Attack("forged_weight", "weight", "weight x1.6 or /1.6", chains.forged_weight, chains.weighed),
        Attack("forged_age", "age", "a child told six years older", chains.forged_age, chains.of_child),
    )
}  # fmt: skip

__all__ = ["HELD_OUT"]
