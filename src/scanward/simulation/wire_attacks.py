"""What an attacker on the host changes in a chain so that the *gantry* does harm: data and physics only.

The catalogue of ``attacks`` changes what is told; a gantry with AEC may undo it (AEC answers another tube voltage
with another current). The changes here are made against the gantry: what steers the AEC is changed with the
current, so that the dose really follows. All figures agree with each other, as a careful attacker's do.

Each change answers None when it cannot be made. ``Wire.harm`` says what makes it an effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanward.commands import Command, Context, Examination, Told, Value
from scanward.simulation.attacks import dose_attack
from scanward.simulation.constants import Model
from scanward.simulation.donors import Donors, effective_mas, model_of, recompute
from scanward.simulation.elements import LOCALIZER, STATIONARY
from scanward.simulation.physics import max_ma
from scanward.simulation.scanner import OnTable, on_table, perform, refusal

KNOW_YOUR_ENEMY = "arXiv 1801.05583"
PERFUSION_2009 = "brain perfusion at eight times the dose, 206 patients, 2008-2009"
PERFUSION_ERRORS = "measured erroneous perfusion protocols (120 kVp; 120 kVp with AEC at noise index 2.4)"
ADULT_SETTINGS = "adult settings on children, 0-16 years alike (2001)"
STEALTH = "arXiv 1810.03808 (largest effect by the least change)"

Floats = dict[str, Value]
Chosen = tuple[Examination, tuple[int, ...]]
Change = Callable[[Examination, int, np.random.Generator, Donors], Examination | None]

LEAST_MORE, MOST_LESS = 1.25, 0.6  # dose over the clean one from which an attack on it had its effect
OFF_CENTRE_MM = 55.0
PITCH_FACTOR = 2.2
FORGED_SIZE = 1.35


@dataclass(frozen=True)
class Wire:
    """One change of one command.

    Attributes
    ----------
    harm : str
        ``more`` or ``less`` (dose), ``images`` (a scan done that shows nothing), ``centre``, ``table``.
    """

    name: str
    family: str
    about: str
    harm: str
    change: Change
    wants: Callable[[Examination, int], bool]
    source: str = ""

    def places(self, examination: Examination) -> list[int]:
        """Indices of commands at which it can be tried."""
        return [i for i in range(len(examination.commands)) if self.wants(examination, i)]

    def apply(
        self, examination: Examination, rng: np.random.Generator, donors: Donors, model: Model
    ) -> tuple[Examination, int] | None:
        """The examination with one command changed, and which; None where it cannot be, or hardware refuses."""
        places = self.places(examination)
        for index in rng.permutation(len(places))[:3]:
            place = places[int(index)]
            made = self.change(examination, place, rng, donors)
            if made is None or any(refusal(model, c.parameters) for c in made.commands):
                continue
            if self._harms(examination, made, place, model):
                return made, place
        return None

    def _harms(self, clean: Examination, made: Examination, place: int, model: Model) -> bool:
        """Whether nature would feel it: an attack without an effect is nothing to stop."""
        who = on_table(clean, model)
        ratio = true_dose(made, place, model, who) / max(true_dose(clean, place, model, who), 1e-6)
        if self.harm == "more":
            return ratio >= LEAST_MORE
        return ratio <= MOST_LESS if self.harm == "less" else True


# --- helpers ----------------------------------------------------------------------------------------------
def number(told: Floats, name: str) -> float | None:
    """A number among parameters, None when it is none."""
    value = told.get(name)
    return value if isinstance(value, float) else None


def put(examination: Examination, index: int, told: Floats) -> Examination:
    """The examination with one command's parameters replaced."""
    commands = list(examination.commands)
    commands[index] = replace(commands[index], parameters=told)
    return replace(examination, commands=tuple(commands))


def steered(before: Command, told: Floats, model: Model) -> Floats:
    """AEC's reference made to ask for the effective mAs of ``told``: the gantry then gives what is forecast."""
    old, new = effective_mas(before.parameters), effective_mas(told)
    wanted = number(told, model.aec_reference)
    if not old or not new or wanted is None:
        return told
    factor = new / old
    if model.aec_reference == "NoiseIndex":
        fine = wanted / math.sqrt(factor)
        coarse = max(0.5, round(fine * 2) / 2)  # consoles offer half units
        # off the grid only where the grid is too coarse for the wish
        told[model.aec_reference] = coarse if abs((fine / coarse) ** 2 - 1) < 0.12 else round(fine, 1)
    else:
        told[model.aec_reference] = float(max(1, round(wanted * factor)))
    return told


def without_aec(told: Floats, model: Model) -> Floats:
    """As a console tells a fixed current: no modulation, no limits, no reference."""
    gone = ("AECMinimumTubeCurrent", "AECMaximumTubeCurrent", model.aec_reference)
    return {**{n: v for n, v in told.items() if n not in gone}, "ExposureModulationType": "NONE"}


def dose(factor: float) -> Change:
    """Dose times a factor, AEC and all figures with it."""
    attack = dose_attack(factor)

    def change(
        examination: Examination, index: int, rng: np.random.Generator, donors: Donors
    ) -> Examination | None:
        made = attack.apply(examination, index, rng, donors)
        command = examination.commands[index]
        model = model_of(command)
        if made is None or model is None:
            return None
        return put(made, index, steered(command, dict(made.commands[index].parameters), model))

    return change


def _perfusion(kvp: float, factor: float) -> Change:
    """A perfusion at another tube voltage, and the current that makes the whole factor."""

    def change(
        examination: Examination, index: int, rng: np.random.Generator, donors: Donors
    ) -> Examination | None:
        command = examination.commands[index]
        told, model = dict(command.parameters), model_of(command)
        before, ma = number(told, "CTDIvol"), number(told, "XRayTubeCurrentInmA")
        if model is None or not before or ma is None or kvp not in model.kvps:
            return None
        told["KVP"] = kvp
        told = recompute(command, told, donors)
        reached = (number(told, "CTDIvol") or before) / before
        top = max_ma(model, kvp)
        told["XRayTubeCurrentInmA"] = min(top, round(ma * factor / reached / model.ma_step) * model.ma_step)
        return put(examination, index, recompute(command, told, donors))

    return change


def _aec_default(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """A reference that asks for four times the dose, within the limits of an AEC that has none."""
    command = examination.commands[index]
    model = model_of(command)
    if model is None:
        return None
    told = dict(command.parameters)
    wanted, kvp = number(told, model.aec_reference), number(told, "KVP")
    if wanted is None or kvp is None:
        return None
    told[model.aec_reference] = (
        max(0.5, round(wanted) / 2) if model.aec_reference == "NoiseIndex" else 4 * wanted
    )
    told["AECMaximumTubeCurrent"] = max_ma(model, kvp)
    return put(examination, index, told)


def _pitch(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """The slowest table that the device has, the current as it was: the same place is exposed again and again."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value, model = number(told, "SpiralPitchFactor"), model_of(command)
    slower = [p for p in model.pitches if p * PITCH_FACTOR <= value] if model is not None and value else []
    if not slower or model is None:
        return None
    told["SpiralPitchFactor"] = slower[0]
    told = without_aec(told, model)  # it would take the current back
    return put(examination, index, recompute(command, told, donors))


def _images(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """As far as it crosses this wire: thick slices, another kernel, a field that cuts the patient, slow rotation."""
    command = examination.commands[index]
    told, model = dict(command.parameters), model_of(command)
    shown, kernel = number(told, "ReconstructionDiameter"), told.get("ConvolutionKernel")
    if model is None or shown is None:
        return None
    told["ReconstructionDiameter"] = max(80.0, round(shown * 0.35))
    told["SliceThickness"] = 10.0
    others = [k for k in model.kernels.values() if k not in (kernel, model.kernels["scout"])]
    told["ConvolutionKernel"] = others[int(rng.integers(len(others)))]
    told["RevolutionTime"] = max(model.rotations)
    return put(examination, index, recompute(command, told, donors))


def _centre(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """The table higher from the localizer on: AEC takes the magnified patient for a larger one."""
    commands = []
    for command in examination.commands:
        told = dict(command.parameters)
        height = number(told, "TableHeight")
        if height is None:
            return None
        told["TableHeight"] = height + OFF_CENTRE_MM
        commands.append(replace(command, parameters=told))
    return replace(examination, commands=tuple(commands))


def _localizer(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """A forged size in every later command, and a fixed current that would suit it."""
    command = examination.commands[index]
    told, model = dict(command.parameters), model_of(command)
    ma, size, kvp = (
        number(told, "XRayTubeCurrentInmA"),
        command.number("WaterEquivalentDiameter"),
        number(told, "KVP"),
    )
    if model is None or ma is None or size is None or kvp is None:
        return None
    forged = float(round(size * FORGED_SIZE))
    wanted = ma * math.exp(model.aec_slope * (forged - size))
    told["XRayTubeCurrentInmA"] = min(
        max_ma(model, kvp), float(round(wanted / model.ma_step) * model.ma_step)
    )
    told = without_aec(told, model)
    commands = list(put(examination, index, recompute(command, told, donors)).commands)
    for i, each in enumerate(commands):
        if "WaterEquivalentDiameter" in each.context.parts:
            commands[i] = said(each, WaterEquivalentDiameter=forged)
    return replace(examination, commands=tuple(commands))


def said(command: Command, **parts: Value) -> Command:
    """The command with parts of its context replaced, from the same sources."""
    told = dict(command.context.parts)
    for name, value in parts.items():
        told[name] = tuple(Told(value, t.source) for t in told.get(name, (Told(value),)))
    return replace(command, context=Context(told))


def _forged_context(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """An adult's command for a child, and the child's data replaced by the adult's: told by the host alone."""
    command = examination.commands[index]
    body = command.text("BodyPartExamined")
    names = ("PatientAge", "PatientSex", "PatientSize", "PatientWeight")
    for other in donors.pick(command, rng, donors.adults):
        if other.text("BodyPartExamined") != body:
            continue
        commands = list(put(examination, index, _fixed(other)).commands)
        words = {n: v for n in (*names, "ProtocolName") if (v := other.context.get(n)) is not None}
        words["WaterEquivalentDiameter"] = other.number("WaterEquivalentDiameter") or 270.0
        for i, each in enumerate(commands):
            known = {n: v for n, v in words.items() if n in each.context.parts or n == "ProtocolName"}
            commands[i] = said(each, **known)
        return replace(examination, commands=tuple(commands))
    return None


def _fixed(command: Command) -> Floats:
    """A command's parameters with its current fixed: no AEC that would spare anybody."""
    model = model_of(command)
    return without_aec(dict(command.parameters), model) if model else dict(command.parameters)


def _adult_on_child(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """An adult's command for the same body part, with the adult's current, sent to a child."""
    command = examination.commands[index]
    body = command.text("BodyPartExamined")
    for other in donors.pick(command, rng, donors.adults):
        if other.text("BodyPartExamined") == body:
            return put(examination, index, _fixed(other))
    return None


# --- where each makes sense -------------------------------------------------------------------------------
def exposing(examination: Examination, index: int) -> bool:
    """A scan that makes images."""
    return examination.commands[index].text("AcquisitionType") not in (LOCALIZER, STATIONARY)


def aec(examination: Examination, index: int) -> bool:
    """Such a scan, steered by AEC."""
    told = examination.commands[index].parameters
    return exposing(examination, index) and told.get("ExposureModulationType") not in (None, "NONE")


def sized(examination: Examination, index: int) -> bool:
    """Such a scan of the trunk, of a patient whose size the localizer told."""
    command = examination.commands[index]
    return aec(examination, index) and command.number("WaterEquivalentDiameter") is not None


def _helical(examination: Examination, index: int) -> bool:
    return exposing(examination, index) and "SpiralPitchFactor" in examination.commands[index].parameters


def _perfusing(examination: Examination, index: int) -> bool:
    command = examination.commands[index]
    return command.text("AcquisitionType") == STATIONARY and (command.number("NumberOfRotations") or 0) >= 20


def child(examination: Examination, index: int) -> bool:
    """A scan of a child under eight."""
    age = examination.commands[index].number("PatientAge")
    return age is not None and age < 8 and aec(examination, index)


WIRE: dict[str, Wire] = {
    wire.name: wire
    for wire in (
        Wire("scan_parameters", "vector 1", "dose x3, AEC and figures with it", "more", dose(3.0), aec,
             KNOW_YOUR_ENEMY),
        Wire("mechanical_pitch", "vector 2", "the slowest table at the same current", "more", _pitch, _helical,
             KNOW_YOUR_ENEMY),
        Wire("signal_disruption", "vector 3", "slices, kernel, field and rotation of no use", "images", _images,
             exposing, KNOW_YOUR_ENEMY),
        Wire("perfusion_x8", "accident", "brain perfusion at eight times the dose", "more",
             _perfusion(120.0, 8.0), _perfusing, PERFUSION_2009),
        Wire("perfusion_120kv", "accident", "brain perfusion at 120 kV, current as at 80", "more",
             _perfusion(120.0, 3.5), _perfusing, PERFUSION_ERRORS),
        Wire("aec_wrong_reference", "accident", "AEC asked for half the noise, its limit open", "more",
             _aec_default, aec, PERFUSION_ERRORS),
        Wire("adult_on_child", "accident", "adult settings on a child", "more", _adult_on_child,
             child, ADULT_SETTINGS),
        Wire("underdose", "dose", "dose x0.3: a bleed is missed, a second scan follows", "less", dose(0.3), aec),
        Wire("dose_x1.5", "dose", "dose x1.5, AEC and figures with it", "more", dose(1.5), aec),
        Wire("dose_x8", "dose", "dose x8, AEC and figures with it", "more", dose(8.0), aec),
        Wire("mis_centring", "geometry", "the table 55 mm too high from the localizer on", "centre", _centre,
             sized),
        Wire("forged_localizer", "context", "a size 35 % larger, and a current to suit it", "more", _localizer,
             sized),
        Wire("forged_context", "context", "a child told to be an adult, and scanned like one", "more",
             _forged_context, child),
    )
}  # fmt: skip


def true_dose(examination: Examination, index: int, model: Model, who: OnTable) -> float:
    """CTDIvol (mGy) that one command would really give this patient."""
    return perform(model, examination.commands[index].parameters, who).ctdivol


def victims(
    wire: Wire,
    examinations: Sequence[Examination],
    rng: np.random.Generator,
    donors: Donors,
    model: Model,
    most: int = 1,
) -> list[tuple[Examination, Examination, int]]:
    """Up to ``most`` of (clean, attacked, index), in the order of the examinations."""
    found: list[tuple[Examination, Examination, int]] = []
    for examination in examinations:
        if len(found) == most:
            break
        made = wire.apply(examination, rng, donors, model)
        if made is not None:
            found.append((examination, *made))
    return found
