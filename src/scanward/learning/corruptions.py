"""Recorded commands, spoilt on purpose: what the combiner learns to tell from the genuine ones.

These are not attacks. Each is a general way in which a recording can stop being what it was: a value taken from
another command, a block of figures scaled, a context exchanged, a command that does not belong. They are made
from the site's own clean recordings, know nothing of ``scanward.simulation``, and are drawn broadly, so that
what is learned is *how operators deviate*, not what an attacker does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanward.commands import FIELDS, Command, Context, Examination, Group, Source, Told, Value

DOSE: tuple[str, ...] = (
    "XRayTubeCurrentInmA",
    "MaximumXRayTubeCurrent",
    "MinimumXRayTubeCurrent",
    "Exposure",
    "CTDIvol",
    "DLP",
)
DOSE += ("XRayTubeCurrentInmASourceB", "MaximumXRayTubeCurrentSourceB")
LENGTH = ("ScanLength", "ExposureTimeInms", "DLP")
TIME = ("ExposureTimeInms", "RevolutionTime")
PLACE_WEIGHTS = {"PatientPosition": 3.0, "GantryDetectorTilt": 1.0, "TableHeight": 0.7}
# What reaches the patient is spoilt more often than what only reconstructs.
SETTINGS = frozenset(
    {
        "KVP",
        "RevolutionTime",
        "SpiralPitchFactor",
        "TotalCollimationWidth",
        "DataCollectionDiameter",
        "CTDIwPhantomType",
        "FilterType",
        "PatientPosition",
        "GantryDetectorTilt",
    }
)
SETTING_WEIGHT = 4.0
LEAST_CHANGE = 0.2  # a change of the logarithm smaller than this teaches nothing

Spoiler = Callable[["Workshop", Examination, int, np.random.Generator], "Spoilt | None"]


@dataclass(frozen=True)
class Spoilt:
    """An examination with one spoilt command."""

    examination: Examination
    index: int
    kind: str


class Workshop:
    """What the spoilers draw from: the clean commands of the same site."""

    def __init__(self, examinations: Sequence[Examination]) -> None:
        self.examinations = list(examinations)
        self.by_type: dict[tuple[str, str], list[Command]] = defaultdict(list)
        self.by_device: dict[str, list[Command]] = defaultdict(list)
        values: dict[tuple[str, str], set[Value]] = defaultdict(set)
        output: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for examination in examinations:
            for command in examination.commands:
                key = command.device.key
                self.by_type[key, command.text("AcquisitionType") or ""].append(command)
                self.by_device[key].append(command)
                for name, value in command.parameters.items():
                    if len(values[key, name]) < 200:
                        values[key, name].add(value)
                ratio = _output(command)
                if ratio is not None:
                    output[_output_key(command)].append(ratio)
        self.values = {k: sorted(v, key=str) for k, v in values.items()}
        self.output = {k: float(np.median(v)) for k, v in output.items()}

    def rescaled(self, old: Command, parameters: dict[str, Value]) -> dict[str, Value]:
        """Dose figures made to follow changed settings, by what this site's recordings say of its tube output."""
        new = replace(old, parameters=parameters)
        before, after = self.output.get(_output_key(old)), self.output.get(_output_key(new))
        if before is None or after is None:
            return parameters
        factor = math.exp(after - before) * _effective(parameters) / max(_effective(old.parameters), 1e-9)
        for name in ("CTDIvol", "DLP"):
            value = parameters.get(name)
            if isinstance(value, float) and math.isfinite(factor):
                parameters[name] = _like(value, value * factor)
        exposure = parameters.get("Exposure")
        if isinstance(exposure, float):
            share = _effective(parameters) / max(_effective(old.parameters), 1e-9)
            parameters["Exposure"] = _like(exposure, exposure * share)
        return parameters

    def donor(self, command: Command, rng: np.random.Generator, *, same_type: bool) -> Command:
        """Another command of the device."""
        pool = (
            self.by_type.get((command.device.key, command.text("AcquisitionType") or ""))
            if same_type
            else None
        )
        pool = pool or self.by_device.get(command.device.key) or [command]
        return pool[int(rng.integers(len(pool)))]


def _effective(parameters: object) -> float:
    get = parameters.get  # type: ignore[attr-defined]
    current, time, pitch = get("XRayTubeCurrentInmA"), get("RevolutionTime"), get("SpiralPitchFactor")
    out = current if isinstance(current, float) and current > 0 else 1.0
    out *= time if isinstance(time, float) and time > 0 else 1.0
    return float(out / (pitch if isinstance(pitch, float) and pitch > 0 else 1.0))


def _output(command: Command) -> float | None:
    dose = command.number("CTDIvol")
    return math.log(dose / _effective(command.parameters)) if dose is not None and dose > 0.2 else None


def _output_key(command: Command) -> tuple[str, ...]:
    names = ("KVP", "CTDIwPhantomType", "TotalCollimationWidth", "FilterType", "AcquisitionType")
    return (command.device.key, *(command.text(n) or "" for n in names))


def _like(old: float, new: float) -> float:
    """``new`` rounded as ``old`` is: a spoilt figure must not be told by its digits."""
    text = f"{old:.10g}"
    digits = len(text.split(".")[1]) if "." in text else 0
    if digits == 0 and old == round(old, -1) and old >= 20 and new >= 20:
        return float(round(new / 5.0) * 5) if old % 10 else float(round(new))
    return round(new, digits)


def _put(examination: Examination, index: int, command: Command) -> Examination:
    commands = list(examination.commands)
    commands[index] = command
    return Examination(examination.identifier, tuple(commands))


def _spoilt(e: Examination, i: int, parameters: dict[str, Value], kind: str) -> Spoilt | None:
    old = e.commands[i]
    if parameters == dict(old.parameters):
        return None
    return Spoilt(_put(e, i, replace(old, parameters=parameters)), i, kind)


def _factor(rng: np.random.Generator, low: float, high: float) -> float:
    while True:
        step = float(rng.uniform(math.log(low), math.log(high)))
        if abs(step) >= LEAST_CHANGE:
            return math.exp(step)


def _field(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """One to four values taken from another command."""
    old = e.commands[i]
    donor = w.donor(old, rng, same_type=bool(rng.random() < 0.7))
    names = [n for n in old.parameters if n in donor.parameters and donor.parameters[n] != old.parameters[n]]
    if not names:
        return None
    picked = rng.choice(len(names), size=min(len(names), int(rng.integers(1, 5))), replace=False)
    parameters = dict(old.parameters)
    for at in picked:
        parameters[names[at]] = donor.parameters[names[at]]
    if rng.random() < 0.5:
        parameters = w.rescaled(old, parameters)
    return _spoilt(e, i, parameters, "field")


def _value(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """One setting changed to any other value the device knows; dose figures follow, or the current makes up for it."""
    old = e.commands[i]
    names = [
        n
        for n in old.parameters
        if n not in DOSE and n not in LENGTH and 2 <= len(w.values.get((old.device.key, n), ())) <= 40
    ]
    if not names:
        return None
    weight = np.array([SETTING_WEIGHT if n in SETTINGS else 1.0 for n in names])
    name = names[int(rng.choice(len(names), p=weight / weight.sum()))]
    choices = [v for v in w.values[old.device.key, name] if v != old.parameters[name]]
    parameters = dict(old.parameters)
    before = old.parameters[name]
    parameters[name] = after = choices[int(rng.integers(len(choices)))]
    if isinstance(before, float) and isinstance(after, float) and rng.random() < 0.75:
        if (
            name in ("RevolutionTime", "SpiralPitchFactor")
            and before > 0
            and after > 0
            and rng.random() < 0.5
        ):
            share = before / after if name == "RevolutionTime" else after / before
            current = parameters.get("XRayTubeCurrentInmA")
            if isinstance(current, float):
                parameters["XRayTubeCurrentInmA"] = _like(current, current * share)
        parameters = w.rescaled(old, parameters)
        _follow(old, parameters)
    elif name == "CTDIwPhantomType" or rng.random() < 0.5:
        parameters = w.rescaled(old, parameters)
    return _spoilt(e, i, parameters, "value")


def _follow(old: Command, parameters: dict[str, Value]) -> None:
    """Table and times follow rotation, pitch and collimation."""
    pitch, width = parameters.get("SpiralPitchFactor"), parameters.get("TotalCollimationWidth")
    was_pitch, was_width = (
        old.parameters.get("SpiralPitchFactor"),
        old.parameters.get("TotalCollimationWidth"),
    )
    time, was_time = parameters.get("RevolutionTime"), old.parameters.get("RevolutionTime")

    def ratio(new: Value | None, before: Value | None) -> float:
        both = isinstance(new, float) and isinstance(before, float) and before > 0
        return new / before if both else 1.0  # type: ignore[operator]

    feed = ratio(pitch, was_pitch) * ratio(width, was_width)
    turn = ratio(time, was_time)
    for name, factor in (
        ("TableFeedPerRotation", feed),
        ("TableSpeed", feed / turn),
        ("ExposureTimeInms", turn / feed),
    ):
        value = parameters.get(name)
        if isinstance(value, float) and value == old.parameters.get(name):
            parameters[name] = _like(value, value * factor)


def _dose(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """All dose figures scaled together; now and then the reference the device works from is scaled with them."""
    old = e.commands[i]
    # Half of the time a change that is hard to see: what is easy needs few examples.
    factor = _factor(rng, 1 / 6, 10) if rng.random() < 0.5 else _factor(rng, 0.45, 2.2)
    largest = max(
        (v for v in w.values.get((old.device.key, "XRayTubeCurrentInmA"), ()) if isinstance(v, float)),
        default=math.inf,
    )
    current = old.number("XRayTubeCurrentInmA")
    if current is not None and current > 0:
        factor = min(factor, largest / current)
    if abs(math.log(max(factor, 1e-9))) < LEAST_CHANGE:
        return None
    parameters = dict(old.parameters)
    for name in DOSE:
        value = parameters.get(name)
        if isinstance(value, float):
            parameters[name] = _like(value, value * factor)
    if rng.random() < 0.25:
        reference, noise = parameters.get("QualityReferenceMAs"), parameters.get("NoiseIndex")
        if isinstance(reference, float):
            parameters["QualityReferenceMAs"] = _like(reference, reference * factor)
        if isinstance(noise, float):
            parameters["NoiseIndex"] = _like(noise, noise / math.sqrt(factor))
    return _spoilt(e, i, parameters, "dose")


def _figure(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """One number alone scaled."""
    old = e.commands[i]
    names = [n for n, v in old.parameters.items() if isinstance(v, float) and v > 0]
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    value = old.parameters[name]
    parameters = dict(old.parameters)
    parameters[name] = _like(float(value), float(value) * _factor(rng, 0.2, 5))
    return _spoilt(e, i, parameters, "figure")


def _range(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """A longer or shorter range, all that follows with it."""
    old = e.commands[i]
    factor = _factor(rng, 0.25, 4.5)
    parameters = dict(old.parameters)
    for name in LENGTH:
        value = parameters.get(name)
        if isinstance(value, float):
            parameters[name] = _like(value, value * factor)
    start, end = parameters.get("AcquisitionStartLocation"), parameters.get("AcquisitionEndLocation")
    if isinstance(start, float) and isinstance(end, float):
        extra = (end - start) * (factor - 1)
        share = float(rng.choice([0.0, 0.0, 0.5, 1.0]))
        parameters["AcquisitionStartLocation"] = _like(start, start - extra * share)
        parameters["AcquisitionEndLocation"] = _like(end, end + extra * (1 - share))
    return _spoilt(e, i, parameters, "range")


def _place(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """Another position, tilt or table height."""
    old = e.commands[i]
    names = [n for n in PLACE_WEIGHTS if n in old.parameters]
    if not names:
        return None
    weight = np.array([PLACE_WEIGHTS[n] for n in names])
    name = names[int(rng.choice(len(names), p=weight / weight.sum()))]
    parameters = dict(old.parameters)
    value = parameters[name]
    if name == "PatientPosition" and isinstance(value, str):
        flips = [value.replace("HF", "FF") if "HF" in value else value.replace("FF", "HF")]
        flips.append(value[:-1] + ("P" if value.endswith("S") else "S"))
        parameters[name] = flips[int(rng.integers(len(flips)))]
    elif isinstance(value, float):
        width = 30.0 if name == "GantryDetectorTilt" else 120.0
        parameters[name] = _like(value, value + float(rng.uniform(-width, width)))
        if name == "GantryDetectorTilt":
            parameters[name] = float(round(float(rng.uniform(-30, 30)) * 2) / 2)
    return _spoilt(e, i, parameters, "place")


def _stranger(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """A whole command of another examination, with or without its labels, for this patient and this objective."""
    old = e.commands[i]
    donor = w.donor(old, rng, same_type=bool(rng.random() < 0.8))
    if rng.random() < 0.5:
        # Half of the time one for the same part of the body: nearer, harder to tell.
        for _ in range(20):
            if donor.text("BodyPartExamined") == old.text("BodyPartExamined"):
                break
            donor = w.donor(old, rng, same_type=True)
    if donor.text("ProtocolName") == old.text("ProtocolName") and donor.text("ProtocolName") is not None:
        return None
    parts = dict(old.context.parts)
    draw = rng.random()
    labels: tuple[str, ...] = ("ProtocolElementName", "ProtocolName", "BodyPartExamined")
    labels = labels if draw < 0.5 else labels[:1] if draw < 0.65 else ()
    for name in labels:
        if name in donor.context.parts:
            parts[name] = donor.context.parts[name]
    spoilt = replace(old, parameters=donor.parameters, roles=donor.roles, context=Context(parts))
    return Spoilt(_put(e, i, spoilt), i, "stranger")


def _patient(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """Somebody else's particulars, for the whole examination or from here on."""
    other = w.examinations[int(rng.integers(len(w.examinations)))].commands[-1]
    keep_measured = rng.random() < 0.7
    first = 0 if rng.random() < 0.7 else i
    moved = [
        n
        for n, told in other.context.parts.items()
        if (FIELDS[n].group if n in FIELDS else None) == Group.PATIENT
        and not (keep_measured and any(t.source is Source.LOCALIZER for t in told))
    ]
    if not moved or not _unlike(e.commands[-1], other):
        return None
    if rng.random() < 0.3:
        moved = [moved[int(rng.integers(len(moved)))]]
    commands = list(e.commands)
    for at in range(first, len(commands)):
        parts = dict(commands[at].context.parts)
        for name in moved:
            if name in parts or rng.random() < 0.5:
                parts[name] = other.context.parts[name]
        commands[at] = replace(commands[at], context=Context(parts))
    if commands[i].context == e.commands[i].context:
        return None
    return Spoilt(Examination(e.identifier, tuple(commands)), i, "patient")


def _unlike(one: Command, other: Command) -> bool:
    """Two patients who differ enough for an exchange to teach something: by age, size or sex and size."""
    for name, ratio in (
        ("PatientAge", 1.8),
        ("PatientWeight", 1.35),
        ("PatientSize", 1.15),
        ("WaterEquivalentDiameter", 1.25),
    ):
        a, b = one.number(name), other.number(name)
        if a is not None and b is not None and abs(math.log(max(a, 0.5) / max(b, 0.5))) > math.log(ratio):
            return True
    return False


def _objective(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """The objective of another examination over this one."""
    other = w.examinations[int(rng.integers(len(w.examinations)))].commands[-1]
    names = [
        n
        for n in ("RequestedProcedureDescription", "StudyDescription", "BodyPartExamined")
        if n in e.commands[i].context.parts
    ]
    parts = dict(e.commands[i].context.parts)
    for name in names:
        if name in other.context.parts and rng.random() < 0.8:
            parts[name] = (Told(other.context.parts[name][0].value, parts[name][0].source),)
    if parts == dict(e.commands[i].context.parts):
        return None
    return Spoilt(_put(e, i, replace(e.commands[i], context=Context(parts))), i, "objective")


def _again(w: Workshop, e: Examination, i: int, rng: np.random.Generator) -> Spoilt | None:
    """The command sent once, twice or three times more, at once or at the end."""
    if e.commands[i].examination is None:
        return None
    commands = list(e.commands)
    copies = int(rng.integers(1, 4))
    at = len(commands) - 1 if rng.random() < 0.35 else i
    gap = float(rng.uniform(5, 90))
    for k in range(copies):
        before = commands[at + k]
        moved = before.acquired_at + gap if before.acquired_at is not None else None
        copy = replace(e.commands[i], acquired_at=moved, event=None)
        commands.insert(at + k + 1, copy)
    return Spoilt(Examination(e.identifier, tuple(commands)), at + copies, "again")


SPOILERS: dict[str, Spoiler] = {
    "field": _field,
    "value": _value,
    "dose": _dose,
    "figure": _figure,
    "range": _range,
    "place": _place,
    "stranger": _stranger,
    "patient": _patient,
    "objective": _objective,
    "again": _again,
}


# How often each kind is drawn: kinds that are hard to tell get more examples.
WEIGHTS = {
    "field": 1.2,
    "value": 2.0,
    "dose": 1.4,
    "figure": 0.6,
    "range": 1.0,
    "place": 1.2,
    "stranger": 1.2,
    "patient": 1.2,
    "objective": 0.5,
    "again": 0.8,
}


def spoil(
    workshop: Workshop, examination: Examination, index: int, kind: str, rng: np.random.Generator
) -> Spoilt | None:
    """One spoilt examination, or None when this kind cannot be made of it."""
    return SPOILERS[kind](workshop, examination, index, rng)
