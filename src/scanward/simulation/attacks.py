"""A catalogue of attacks: one command of a clean examination changed, all that depends on it made to fit.

Every attack works on simulated and on recorded commands: it touches only fields that are present, rounds as
the device rounds, and answers None when it cannot be applied. What each family does is said in its function;
effect sizes are constants below, fixed with the site. The *null* attack goes through the same motions and
changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Command, Context, Examination, Told, Value
from scanward.simulation.constants import MAX_RANGE_MM
from scanward.simulation.donors import CURRENTS, Donors, effective_mas, kind_of, recompute
from scanward.simulation.elements import LOCALIZER, STATIONARY

TOLERANCE = 0.10  # how far a dose attack may end from its factor
RANGE_FACTOR, RANGE_AT_LEAST = 3.0, 1.8
ROTATION_AT_LEAST = 1.25
TILT_LOW, TILT_HIGH, TILT_MAX = 10.0, 25.0, 30.0
MIXED_LOW, MIXED_HIGH = 3, 7
MIXABLE = (
    "KVP", "XRayTubeCurrentInmA", "RevolutionTime", "SpiralPitchFactor", "TotalCollimationWidth",
    "ScanLength", "AcquisitionStartLocation", "FilterType", "FocalSpots", "TableHeight",
    "PatientPosition", "SliceThickness", "ConvolutionKernel", "ContrastBolusAgent",
    "DataCollectionDiameter", "ReconstructionDiameter", "GantryDetectorTilt",
    "ExposureModulationType", "NoiseIndex", "QualityReferenceMAs", "AECMaximumTubeCurrent",
    "AECMinimumTubeCurrent", "CTDIwPhantomType", "NumberOfRotations",
)  # fmt: skip

Parameters = dict[str, Value]
Change = Callable[[Examination, int, np.random.Generator, Donors], Examination | None]
Eligible = Callable[[Examination, int], bool]


@dataclass(frozen=True)
class Attack:
    """One attack of the catalogue.

    ``breaks`` names the consistency identities it means to break ("dose": the dose figures no longer follow
    from the current).
    """

    name: str
    family: str
    about: str
    change: Change
    allowed: Eligible
    breaks: tuple[str, ...] = ()

    def eligible(self, examination: Examination) -> list[int]:
        """Indices at which this attack makes sense."""
        return [i for i in range(len(examination.commands)) if self.allowed(examination, i)]

    def apply(
        self,
        examination: Examination,
        index: int,
        rng: np.random.Generator,
        donors: Donors | Sequence[Examination],
    ) -> Examination | None:
        """A whole new examination with the command at ``index`` attacked; None when that cannot be done.

        Give ``donors`` as a ``Donors`` when attacking many: a plain sequence is indexed anew each time.
        """
        if not 0 <= index < len(examination.commands) or not self.allowed(examination, index):
            return None
        return self.change(examination, index, rng, Donors.of(donors))

    def attacked_indices(self, before: Examination, after: Examination, index: int) -> tuple[int, ...]:
        """Which commands of ``after`` are the attacked ones (for the null attack: the one chosen)."""
        if self.family == "null":
            return (index,)
        old: dict[tuple[str | None, float], Command] = {(c.event, c.order): c for c in before.commands}
        changed = []
        for i, command in enumerate(after.commands):
            known = old.get((command.event, command.order))
            same = known is not None and known.parameters == command.parameters
            if not same or (known is not None and known.context.parts != command.context.parts):
                changed.append(i)
        return tuple(changed)


def put(examination: Examination, index: int, told: Parameters) -> Examination:
    commands = list(examination.commands)
    commands[index] = replace(commands[index], parameters=told)
    return replace(examination, commands=tuple(commands))


def number(told: Parameters, name: str) -> float | None:
    value = told.get(name)
    return value if isinstance(value, float) else None


def set_current(command: Command, told: Parameters, ma: float, donors: Donors) -> None:
    """A new mean current; its recorded extremes follow, and AEC limits give way only as far as they must."""
    old = number(told, "XRayTubeCurrentInmA")
    ma = donors.rounded(command, "XRayTubeCurrentInmA", ma)
    for name in CURRENTS[1:]:
        value = number(told, name)
        if value is not None and old:
            top = donors.top_current(command, number(told, "KVP"))
            told[name] = donors.rounded(command, name, min(value * ma / old, top))
    told["XRayTubeCurrentInmA"] = ma
    low, high = number(told, "AECMinimumTubeCurrent"), number(told, "AECMaximumTubeCurrent")
    if low is not None and low > ma:
        told["AECMinimumTubeCurrent"] = ma
    if high is not None and high < ma:
        told["AECMaximumTubeCurrent"] = ma


# --- families ---------------------------------------------------------------------------------------------
def _dose(factor: float) -> Change:
    def change(
        examination: Examination, index: int, rng: np.random.Generator, donors: Donors
    ) -> Examination | None:
        """Dose times a factor by the current; what the tube cannot give, by rotation time, then pitch."""
        command = examination.commands[index]
        told = dict(command.parameters)
        ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")
        if ma is None:  # a recording that holds only dose figures
            return _dose_figures(examination, index, factor, donors)
        top = max(donors.top_current(command, kvp), ma)
        need = factor * ma / top
        for name, larger in (("RevolutionTime", True), ("SpiralPitchFactor", False)):
            value = number(told, name)
            if need <= 1 + TOLERANCE / 2 or value is None:
                continue
            options = [o for o in donors.options(command, name) if (o > value if larger else o < value)]
            options = options if larger else options[::-1]
            gains = [(o / value if larger else value / o, o) for o in options]
            enough = [g for g in gains if g[0] >= need]
            if gains:
                gain, told[name] = enough[0] if enough else gains[-1]
                need /= gain
        before = effective_mas(command.parameters)
        scale = effective_mas(told)
        assert before is not None
        assert scale is not None
        set_current(command, told, min(top, ma * factor * before / scale), donors)
        reached = effective_mas(told)
        if reached is None or abs(reached / before / factor - 1) > TOLERANCE:
            return None
        return put(examination, index, recompute(command, told, donors))

    return change


def _dose_figures(examination: Examination, index: int, factor: float, donors: Donors) -> Examination | None:
    command = examination.commands[index]
    told, names = dict(command.parameters), ("Exposure", "CTDIvol", "DLP")
    present = [n for n in names if number(told, n) is not None]
    for name in present:
        told[name] = donors.rounded(command, name, float(command.parameters[name]) * factor)
    return put(examination, index, told) if present else None


def _ma_alone(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Current x3 (at least x2 where the tube ends), every dose figure left as it was."""
    command = examination.commands[index]
    told = dict(command.parameters)
    ma = number(told, "XRayTubeCurrentInmA")
    if ma is None or not ({"CTDIvol", "DLP", "Exposure"} & told.keys()):
        return None
    new = min(3 * ma, donors.top_current(command, number(told, "KVP")))
    if new < 2 * ma:
        return None
    set_current(command, told, new, donors)
    return put(examination, index, told)


def _tube_voltage(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Another tube voltage of the device at the same current; the dose figures follow the voltage."""
    command = examination.commands[index]
    told = dict(command.parameters)
    ma, kvp = number(told, "XRayTubeCurrentInmA"), number(told, "KVP")
    others = [v for v in donors.options(command, "KVP") if v != kvp]
    others = [v for v in others if ma is None or ma <= donors.top_current(command, v)]
    if kvp is None or not others:
        return None
    told["KVP"] = others[int(rng.integers(len(others)))]
    return put(examination, index, recompute(command, told, donors))


def _range(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Range x3, at most the table's 2 m; DLP, time and end location follow."""
    command = examination.commands[index]
    told = dict(command.parameters)
    length, dlp = number(told, "ScanLength"), number(told, "DLP")
    if length is None:
        if dlp is None:
            return None
        told["DLP"] = donors.rounded(command, "DLP", RANGE_FACTOR * dlp)
        return put(examination, index, told)
    new = donors.rounded(command, "ScanLength", min(RANGE_FACTOR * length, MAX_RANGE_MM))
    if kind_of(command) == "SEQUENCED" and (total := number(told, "TotalCollimationWidth")):
        new = float(round(int(new / total + 1e-6) * total, 6))
    if new < RANGE_AT_LEAST * length:
        return None
    told["ScanLength"] = new
    return put(examination, index, recompute(command, told, donors))


def _rotation(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Another rotation time at the same current: dose, time and speed follow; AEC does not compensate."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value = number(told, "RevolutionTime")
    if not value:
        return None
    options = [
        o for o in donors.options(command, "RevolutionTime") if max(o / value, value / o) >= ROTATION_AT_LEAST
    ]
    if not options:
        return None
    told["RevolutionTime"] = options[int(rng.integers(len(options)))]
    return put(examination, index, recompute(command, told, donors))


def _tilt(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """The gantry tilted 10 to 25 degrees further, either way."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value = number(told, "GantryDetectorTilt")
    if value is None:
        return None
    by = round(rng.uniform(TILT_LOW, TILT_HIGH) * 2) / 2 * (1 if rng.random() < 0.5 else -1)
    new = value + by if abs(value + by) <= TILT_MAX else value - by
    told["GantryDetectorTilt"] = float(new)
    return put(examination, index, told)


def _phantom_or_field(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """The other reference phantom (dose figures rescaled to it), or another field of view of the device."""
    command = examination.commands[index]
    told = dict(command.parameters)
    swaps: list[str] = []
    if told.get("CTDIwPhantomType") in (HEAD_PHANTOM, BODY_PHANTOM) and kind_of(command) != LOCALIZER:
        swaps.append("phantom")
    field = number(told, "DataCollectionDiameter")
    others = [
        v for v in donors.options(command, "DataCollectionDiameter") if field is not None and v != field
    ]
    if others:
        swaps.append("field")
    if not swaps:
        return None
    if swaps[int(rng.integers(len(swaps)))] == "phantom":
        told["CTDIwPhantomType"] = BODY_PHANTOM if told["CTDIwPhantomType"] == HEAD_PHANTOM else HEAD_PHANTOM
        return put(examination, index, recompute(command, told, donors))
    new = others[int(rng.integers(len(others)))]
    told["DataCollectionDiameter"] = new
    shown = number(told, "ReconstructionDiameter")
    if shown is not None:
        told["ReconstructionDiameter"] = min(shown, new)
    return put(examination, index, told)


def _mixed(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Three to six primary fields of another command of the same device and type; dependants fit."""
    command = examination.commands[index]
    count = int(rng.integers(MIXED_LOW, MIXED_HIGH))
    for other in donors.pick(command, rng, tries=50):
        if other.examination == command.examination:
            continue
        names = [
            n
            for n in MIXABLE
            if n in command.parameters
            and n in other.parameters
            and command.parameters[n] != other.parameters[n]
        ]
        if len(names) < count:
            continue
        told = dict(command.parameters)
        for i in rng.permutation(len(names))[:count]:
            told[names[i]] = other.parameters[names[i]]
            if names[i] == "TotalCollimationWidth" and "SingleCollimationWidth" in other.parameters:
                told["SingleCollimationWidth"] = other.parameters["SingleCollimationWidth"]
        ma = number(told, "XRayTubeCurrentInmA")
        if ma is not None:
            set_current(command, told, min(ma, donors.top_current(command, number(told, "KVP"))), donors)
        shown, field = number(told, "ReconstructionDiameter"), number(told, "DataCollectionDiameter")
        if shown is not None and field is not None:
            told["ReconstructionDiameter"] = min(shown, field)
        return put(examination, index, recompute(command, told, donors))
    return None


def objective_of(command: Command) -> tuple[str | None, ...]:
    procedure, body = command.text("RequestedProcedureDescription"), command.text("BodyPartExamined")
    return (procedure, body) if procedure or body else (command.text("ProtocolName"),)


def _wrong_objective(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """A whole, correct command of another objective, sent under this examination's context."""
    command = examination.commands[index]
    mine = objective_of(command)
    if not any(mine):
        return None
    for other in donors.pick(command, rng):
        theirs = objective_of(other)
        if all(a != b for a, b in zip(mine, theirs, strict=False)) and all(theirs):
            return put(examination, index, dict(other.parameters))
    return None


def _adult_on_child(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """An adult's command for the same body part (or protocol) sent to a child under the child's context."""
    command = examination.commands[index]
    body = command.text("BodyPartExamined") or command.text("ProtocolName")
    for other in donors.pick(command, rng, donors.adults):
        if body is not None and body in (other.text("BodyPartExamined"), other.text("ProtocolName")):
            return put(examination, index, dict(other.parameters))
    return None


def _position(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Head first becomes feet first or the reverse, or supine becomes prone or the reverse."""
    command = examination.commands[index]
    told = dict(command.parameters)
    value = told.get("PatientPosition")
    if not isinstance(value, str) or len(value) != 3 or value[:2] not in ("HF", "FF") or value[2] not in "SP":
        return None
    if rng.random() < 0.5:
        told["PatientPosition"] = ("FF" if value[:2] == "HF" else "HF") + value[2]
    else:
        told["PatientPosition"] = value[:2] + ("P" if value[2] == "S" else "S")
    return put(examination, index, told)


FORGEABLE = ("PatientAge", "PatientSex", "PatientSize", "PatientWeight")


def _forged_patient(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """A child's data for an adult's or the reverse, in every part that host and network can forge.

    The whole examination is told of it. The localizer's own measurement (water-equivalent diameter) stays:
    it does not pass through the host's forms.
    """
    command = examination.commands[index]
    age = command.number("PatientAge")
    if age is None:
        return None
    pool = donors.children if age >= 16 else donors.adults
    names = [n for n in FORGEABLE if n in command.context.parts]
    for _ in range(200 if pool else 0):
        other = donors.examinations[pool[int(rng.integers(len(pool)))]].commands[0]
        if any(other.context.get(n) is None for n in names):
            continue
        commands = []
        for c in examination.commands:
            parts = dict(c.context.parts)
            for name in names:
                value = other.context.get(name)
                if name in parts and value is not None:
                    parts[name] = tuple(Told(value, told.source) for told in parts[name])
            commands.append(replace(c, context=Context(parts)))
        return replace(examination, commands=tuple(commands))
    return None


def _again(command: Command, last: Command, order: float, pause: float) -> Command:
    event = hashlib.blake2b(f"{command.event}/{order}".encode(), digest_size=10).hexdigest()
    at = None if last.acquired_at is None else round(last.acquired_at + pause, 1)
    return replace(command, acquired_at=at, order=order, event=event)


def _repeat(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """The same command sent again after the examination is over; the last one is sent twice more."""
    commands = list(examination.commands)
    for _ in range(2 if index == len(commands) - 1 else 1):
        pause = float(rng.uniform(30, 120))
        commands.append(_again(commands[index], commands[-1], commands[-1].order + 1, pause))
    return replace(examination, commands=tuple(commands))


def _null(
    examination: Examination, index: int, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    """Nothing: the same choice, the same re-computation and re-rounding."""
    command = examination.commands[index]
    told = dict(command.parameters)
    ma = number(told, "XRayTubeCurrentInmA")
    if ma is not None:
        set_current(command, told, ma, donors)
    return put(examination, index, recompute(command, told, donors))


# --- where each makes sense -------------------------------------------------------------------------------
def _any(examination: Examination, index: int) -> bool:
    return True


def exposing(examination: Examination, index: int) -> bool:
    return kind_of(examination.commands[index]) != LOCALIZER


def imaging(examination: Examination, index: int) -> bool:
    return kind_of(examination.commands[index]) not in (LOCALIZER, STATIONARY)


def _moving(examination: Examination, index: int) -> bool:
    return kind_of(examination.commands[index]) != STATIONARY


def _of_child(examination: Examination, index: int) -> bool:
    age = examination.commands[index].number("PatientAge")
    return age is not None and age < 13 and imaging(examination, index)


def _known_patient(examination: Examination, index: int) -> bool:
    return examination.commands[index].number("PatientAge") is not None


def dose_attack(factor: float) -> Attack:
    """The dose attack at any factor (those of the catalogue are 0.3, 1.5, 3 and 8)."""
    return Attack(
        f"dose_x{factor:g}", "dose", f"dose x{factor:g}, all figures consistent", _dose(factor), exposing
    )


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("null", "null", "nothing changed, same construction", _null, exposing),
        Attack("dose_x0.3", "dose", "dose x0.3, all figures consistent", _dose(0.3), exposing),
        Attack("dose_x1.5", "dose", "dose x1.5, all figures consistent", _dose(1.5), exposing),
        Attack("dose_x3", "dose", "dose x3, all figures consistent", _dose(3.0), exposing),
        Attack("dose_x8", "dose", "dose x8, all figures consistent", _dose(8.0), exposing),
        Attack(
            "ma_x3_dose_kept",
            "forged dose",
            "mA x3, dose figures as they were",
            _ma_alone,
            exposing,
            ("dose",),
        ),
        Attack("tube_voltage", "technique", "another kV at the same mA", _tube_voltage, exposing),
        Attack("range_x3", "range", "three times the range, up to 2 m", _range, _moving),
        Attack("rotation_time", "technique", "another rotation time at the same mA", _rotation, exposing),
        Attack("tilt", "mechanical", "gantry tilted 10-25 degrees", _tilt, _any, ()),
        Attack("phantom_or_fov", "swap", "phantom or field of view swapped", _phantom_or_field, exposing),
        Attack("mixed_fields", "mixed", "3-6 fields of another command", _mixed, exposing),
        Attack("wrong_objective", "context", "right command, wrong objective", _wrong_objective, imaging),
        Attack("adult_on_child", "context", "adult settings on a child", _adult_on_child, _of_child),
        Attack("position", "mechanical", "head/feet or prone/supine swapped", _position, _any),
        Attack(
            "forged_patient",
            "context",
            "another patient's age, sex and size",
            _forged_patient,
            _known_patient,
        ),
        Attack("repeat", "procedure", "the same command a time too many", _repeat, _any),
    )
}
