"""What an attacker on the host can know: other people's commands, the device's own limits and its rounding.

Everything is read from clean examinations of the same devices, so that attacks work on real recordings too;
for a simulated device the maker's own limits and dose table are used as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM, Command, Examination, Value
from scanward.simulation import constants as k
from scanward.simulation.constants import MODELS, Model
from scanward.simulation.elements import LOCALIZER, SPIRAL
from scanward.simulation.new_models import NEW_MODELS
from scanward.simulation.physics import consequences, kvp_ratio, max_ma

CURRENTS = ("XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "MinimumXRayTubeCurrent")
COLLIMATION = ("SingleCollimationWidth", "TotalCollimationWidth")  # mm; changed together
_STEPS = (50.0, 25.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 1e-4, 1e-6)
_ROUNDED = (
    *CURRENTS, "Exposure", "ExposureTimeInms", "CTDIvol", "DLP", "ScanLength", "TableSpeed",
    "TableFeedPerRotation",
    "AcquisitionStartLocation", "AcquisitionEndLocation", "AECMaximumTubeCurrent", "AECMinimumTubeCurrent",
    "GantryDetectorTilt", "TableHeight", "NoiseIndex", "QualityReferenceMAs",
)  # fmt: skip
_SEEN = ("SliceThickness", "ConvolutionKernel", "FilterType", "ContrastBolusAgent")
_OPTIONS = ("KVP", "RevolutionTime", "SpiralPitchFactor", "DataCollectionDiameter")
_MODELS = {f"{m.manufacturer.casefold()}|{m.name.casefold()}": m for m in (*MODELS, *NEW_MODELS)}

Place = tuple[int, int]  # examination, command


def model_of(command: Command) -> Model | None:
    """The simulated model a command was sent to, None for a real device."""
    return _MODELS.get(command.device.key)


class Donors:
    """Clean examinations, indexed for attacks.

    Parameters
    ----------
    examinations : sequence of Examination
        Commands of the devices under attack; the attacked examination need not be among them.
    """

    def __init__(self, examinations: Sequence[Examination]) -> None:
        self.examinations = tuple(examinations)
        self._by_kind: dict[tuple[str, str], list[Place]] = defaultdict(list)
        self._values: dict[tuple[str, str, str], set[float]] = defaultdict(set)
        self._top: dict[tuple[str, float], float] = defaultdict(float)
        self._options: dict[tuple[str, str], set[float]] = defaultdict(set)
        self._seen: dict[tuple[str, str, str], set[Value]] = defaultdict(set)
        self._beams: dict[tuple[str, str], set[tuple[float, float]]] = defaultdict(set)
        self.children: list[int] = []
        self.adults: list[int] = []
        for e, examination in enumerate(self.examinations):
            if not examination.commands:
                continue
            age = examination.commands[0].number("PatientAge")
            if age is not None:
                (self.children if age < 13 else self.adults if age >= 18 else []).append(e)
            for c, command in enumerate(examination.commands):
                self._learn(command, (e, c))
        self._steps: dict[tuple[str, str, str], float] = {}

    @staticmethod
    def of(donors: Donors | Sequence[Examination]) -> Donors:
        """``donors`` itself when it is one already: index once, attack often."""
        return donors if isinstance(donors, Donors) else Donors(donors)

    def _learn(self, command: Command, place: Place) -> None:
        key, kind = command.device.key, kind_of(command)
        self._by_kind[key, kind].append(place)
        for name in _ROUNDED:
            value = command.parameters.get(name)
            if isinstance(value, float):
                seen = self._values[key, kind, name]
                if len(seen) < 200:
                    seen.add(value)
        for name in _OPTIONS:
            value = command.parameters.get(name)
            if isinstance(value, float):
                self._options[key, name].add(value)
        for name in _SEEN:
            if (value := command.parameters.get(name)) is not None:
                self._seen[key, kind, name].add(value)
        single, total = (command.parameters.get(name) for name in COLLIMATION)
        if isinstance(single, float) and isinstance(total, float):
            self._beams[key, kind].add((single, total))
        kvp = command.parameters.get("KVP")
        for name in (*CURRENTS, "AECMaximumTubeCurrent"):
            value = command.parameters.get(name)
            if isinstance(value, float) and isinstance(kvp, float):
                self._top[key, kvp] = max(self._top[key, kvp], value)

    def command(self, place: Place) -> Command:
        """The command at a place."""
        return self.examinations[place[0]].commands[place[1]]

    def alike(self, command: Command) -> list[Place]:
        """Places of commands of the same device and acquisition type."""
        return self._by_kind[command.device.key, kind_of(command)]

    def pick(
        self,
        command: Command,
        rng: np.random.Generator,
        wanted: Sequence[int] | None = None,
        tries: int = 200,
    ) -> Iterable[Command]:
        """Random commands of the same device and type, optionally out of the examinations ``wanted``."""
        pool = self.alike(command)
        if wanted is not None:
            allowed = set(wanted)
            pool = [place for place in pool if place[0] in allowed]
        for _ in range(tries if pool else 0):
            yield self.command(pool[int(rng.integers(len(pool)))])

    def options(self, command: Command, name: str) -> list[float]:
        """Values of a field that the device offers, from small to large."""
        model = model_of(command)
        if model is not None:
            own = {
                "KVP": model.kvps,
                "RevolutionTime": model.rotations,
                "SpiralPitchFactor": model.pitches,
                "DataCollectionDiameter": model.fields_of_view,
            }
            return list(own[name])
        seen = set(self._options[command.device.key, name])
        if name == "KVP" and len(seen) < 2:
            seen |= {80.0, 100.0, 120.0, 140.0}  # what CT tubes commonly offer
        return sorted(seen)

    def seen(self, command: Command, name: str) -> list[Value]:
        """Values that commands of the same device and type had in a field, in a fixed order."""
        return sorted(
            self._seen.get((command.device.key, kind_of(command), name), ()), key=lambda v: (str(type(v)), v)
        )

    def beams(self, command: Command) -> list[tuple[float, float]]:
        """(SingleCollimationWidth, TotalCollimationWidth) of commands of the same device and type (mm)."""
        return sorted(self._beams.get((command.device.key, kind_of(command)), ()))

    def top_current(self, command: Command, kvp: float | None) -> float:
        """The largest current at a tube voltage: the maker's, or the largest ever seen (mA)."""
        model = model_of(command)
        if model is not None and kvp is not None:
            return max_ma(model, kvp)
        tops = [v for (key, at), v in self._top.items() if key == command.device.key and kvp in (None, at)]
        return max(
            tops or [v for (key, _), v in self._top.items() if key == command.device.key] or [math.inf]
        )

    def rounded(self, command: Command, name: str, value: float) -> float:
        """A value on the grid on which this device reports this field."""
        key = (command.device.key, kind_of(command), name)
        if key not in self._steps:
            seen = self._values.get(key, set())
            own = command.parameters.get(name)
            seen = seen if len(seen) >= 20 or not isinstance(own, float) else seen | {own}
            self._steps[key] = next((s for s in _STEPS if all(_on_grid(v, s) for v in seen)), 0.0)
            if len(seen) < 20 and self._steps[key] > 0:  # a few values lie on a coarse grid by chance
                self._steps[key] = min(self._steps[key], _FINE.get(name, 0.01))
        step = self._steps[key]
        return float(round(round(value / step) * step, 9)) if step else float(value)


_FINE = {
    **dict.fromkeys((*CURRENTS, "Exposure", "ExposureTimeInms", "AECMaximumTubeCurrent", "ScanLength"), 1.0),
    "TableHeight": 1.0, "NoiseIndex": 0.5, "QualityReferenceMAs": 1.0,
    "GantryDetectorTilt": 0.5, "AcquisitionStartLocation": 0.5, "AcquisitionEndLocation": 0.5,
}  # fmt: skip


def _on_grid(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) * step < 1e-7


def kind_of(command: Command) -> str:
    """AcquisitionType, empty when not recorded."""
    return command.text("AcquisitionType") or ""


def effective_mas(told: Mapping[str, Value]) -> float | None:
    """mA x s / pitch x rotations, missing factors counted as 1; None without a current."""
    ma = told.get("XRayTubeCurrentInmA")
    if not isinstance(ma, float):
        return None
    value = ma
    for name, power in (("RevolutionTime", 1), ("SpiralPitchFactor", -1), ("NumberOfRotations", 1)):
        factor = told.get(name)
        if isinstance(factor, float) and factor > 0:
            value *= factor**power
    return value


def recompute(command: Command, told: dict[str, Value], donors: Donors) -> dict[str, Value]:
    """Make the dependent figures of ``told`` agree with its primary fields; only fields present are touched.

    On a simulated device by the maker's own table, on a real one by the ratio of new to old.
    """
    model = model_of(command)
    out = dict(told)
    if model is not None:
        try:
            fresh = consequences(model, told)
        except KeyError:
            fresh = {}
        out.update({name: value for name, value in fresh.items() if name in told})
        if fresh:
            return _with_end(command, out, donors)
    old = command.parameters
    before, after = effective_mas(old), effective_mas(told)
    ratio = after / before if before and after else 1.0
    dose = ratio * _ratio(old, told, "KVP", kvp_ratio) * _phantom_ratio(old, told)
    run = _ratio(old, told, "ScanLength")
    rotation, pitch = _ratio(old, told, "RevolutionTime"), _ratio(old, told, "SpiralPitchFactor")
    ctdi, dlp, length = old.get("CTDIvol"), old.get("DLP"), old.get("ScanLength")
    beam = run
    if isinstance(ctdi, float) and isinstance(dlp, float) and isinstance(length, float) and ctdi > 0:
        covered = dlp / ctdi * 10  # the beam's length: over-ranging does not grow with the range
        beam = (covered + length * (run - 1)) / covered if covered > 0 else run
    exposure = ratio if _exposure_is_effective(old) else ratio * pitch
    factors = {
        "CTDIvol": dose,
        "DLP": dose * beam,
        "Exposure": exposure,
        "ExposureTimeInms": rotation / pitch * beam if kind_of(command) != LOCALIZER else run,
        "TableFeedPerRotation": pitch,
        "TableSpeed": pitch / rotation,
    }
    for name, factor in factors.items():
        value = old.get(name)
        if isinstance(value, float) and name in told and abs(factor - 1) > 1e-9:
            out[name] = donors.rounded(command, name, value * factor)
    return _with_end(command, out, donors)


def _with_end(command: Command, out: dict[str, Value], donors: Donors) -> dict[str, Value]:
    """Move the end of the range to where the length puts it, in the direction it had."""
    begin, end = out.get("AcquisitionStartLocation"), out.get("AcquisitionEndLocation")
    length, old_begin = out.get("ScanLength"), command.parameters.get("AcquisitionStartLocation")
    old_end, old_length = (
        command.parameters.get("AcquisitionEndLocation"),
        command.parameters.get("ScanLength"),
    )
    if not all(isinstance(v, float) for v in (begin, end, length, old_begin, old_end, old_length)):
        return out
    assert isinstance(begin, float) and isinstance(length, float)  # noqa: PT018 - for the type checker
    assert isinstance(old_begin, float) and isinstance(old_end, float)  # noqa: PT018
    if (begin, length) != (old_begin, old_length):
        sign = -1.0 if old_end < old_begin else 1.0
        out["AcquisitionEndLocation"] = donors.rounded(
            command, "AcquisitionEndLocation", begin + sign * length
        )
    return out


def _ratio(old: Mapping[str, Value], new: Mapping[str, Value], name: str, law: object = None) -> float:
    a, b = old.get(name), new.get(name)
    if not isinstance(a, float) or not isinstance(b, float) or a <= 0 or b <= 0:
        return 1.0
    return kvp_ratio(b) / kvp_ratio(a) if law is not None else b / a


def _phantom_ratio(old: Mapping[str, Value], new: Mapping[str, Value]) -> float:
    a, b = old.get("CTDIwPhantomType"), new.get("CTDIwPhantomType")
    if a == b or {a, b} != {HEAD_PHANTOM, BODY_PHANTOM}:
        return 1.0
    return k.HEAD_OVER_BODY if b == HEAD_PHANTOM else 1 / k.HEAD_OVER_BODY


def _exposure_is_effective(told: Mapping[str, Value]) -> bool:
    """Whether Exposure holds the pitch (one maker) or not (another), read off the command itself."""
    ma, seconds = told.get("XRayTubeCurrentInmA"), told.get("RevolutionTime")
    pitch, exposure = told.get("SpiralPitchFactor"), told.get("Exposure")
    if not all(isinstance(v, float) and v > 0 for v in (ma, seconds, pitch, exposure)):
        return True
    assert isinstance(ma, float) and isinstance(seconds, float)  # noqa: PT018
    assert isinstance(pitch, float) and isinstance(exposure, float)  # noqa: PT018
    return abs(ma * seconds / pitch - exposure) <= abs(ma * seconds - exposure)


__all__ = ["CURRENTS", "SPIRAL", "Donors", "effective_mas", "kind_of", "model_of", "recompute"]
