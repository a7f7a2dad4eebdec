"""The device profile: what the hardware can do at most, which motions there are, what a dose costs. Pure.

It is the relay's own knowledge, signed by the site: absolute maxima and a dose forecast that need no judge. So it
holds while the judge is dead, in emergency access and in shadow mode. No numpy, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from scanward.commands import FIELDS, PHANTOM_DIAMETER_CM, Command, Device, Field, Kind
from scanward.commands.wire import Axis, Motion
from scanward.guard.events import Envelope, Forecast

CURRENTS = ("XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "AECMaximumTubeCurrent")
PHANTOMS = {" ".join(name.split()).casefold(): cm for name, cm in PHANTOM_DIAMETER_CM.items()}
_NARROW = 1e-9  # relative slack of a comparison: a figure that went through text and back is the same figure


@dataclass(frozen=True, slots=True)
class AxisRange:
    """How far and how fast one axis may be moved; mm and mm/s, or degrees and degrees/s."""

    low: float
    high: float
    speed: float


@dataclass(frozen=True, slots=True)
class DoseRate:
    """Upper bound of CTDIvol per effective mAs (mGy/mAs) up to one tube voltage, on one phantom."""

    kvp: float
    phantom: int  # cm
    ctdivol_per_mas: float


@dataclass(frozen=True, slots=True)
class Excess:
    """Something that the hardware, or the form of a command, does not allow."""

    field: str
    reason: str


@dataclass(frozen=True)
class DeviceProfile:
    """What one scanner can do.

    Attributes
    ----------
    ranges : mapping of field name to Envelope
        Absolute, in the field's DICOM unit: outside it nothing passes, in any mode, by anybody.
    required : tuple of str
        Fields without which an acquisition cannot be checked here.
    axes : mapping of Axis to AxisRange
        An axis that is not named is not moved.
    runtime : mapping of field name to Envelope
        What the gantry lets change at the trigger, as widest difference from what was loaded.
    dose : tuple of DoseRate
        Empty: only the dose that the command itself states is known.
    """

    version: int
    device: Device
    digest: str
    ranges: Mapping[str, Envelope] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    axes: Mapping[Axis, AxisRange] = field(default_factory=dict)
    runtime: Mapping[str, Envelope] = field(default_factory=dict)
    dose: tuple[DoseRate, ...] = ()

    @cached_property
    def _rates(self) -> dict[int, tuple[DoseRate, ...]]:
        phantoms = {rate.phantom for rate in self.dose}
        return {
            p: tuple(sorted((r for r in self.dose if r.phantom == p), key=lambda r: r.kvp)) for p in phantoms
        }

    def excess(self, command: Command) -> Excess | None:
        """The first thing about ``command`` that no gantry of this profile may be told; None when there is none.

        Checked without the judge: every parameter is text or a finite number, in the range of the dictionary
        and of this profile; what is required is there.
        """
        parameters = command.parameters
        for name in self.required:
            if name not in parameters:
                return Excess(name, "is missing, and without it nothing can be checked")
        for name, value in parameters.items():
            known = FIELDS.get(name)
            if isinstance(value, str):
                if known is not None and known.kind is Kind.NUMBER:
                    return Excess(name, "is text where a number is needed")
                continue
            if type(value) is not float or not math.isfinite(value):
                return Excess(name, "is not a finite number")
            if not _plausible(known, value):
                return Excess(name, f"{value:g} is beyond any scanner")
            own = self.ranges.get(name)
            if own is not None and not within(value, own):
                unit = f" {known.unit}" if known and known.unit else ""
                return Excess(
                    name, f"{value:g}{unit} is beyond this device ({own.low:g} to {own.high:g}{unit})"
                )
        return None

    def unbounded(self, command: Command) -> Excess | None:
        """What keeps the dose of ``command`` from being bounded here; None when it is bounded.

        Asked where no judge answers: leaving out the rotation time must not be a way around the caps. A localizer
        may tell none; its tube stands still and its dose is a few hundredths of a mGy.
        """
        if not self.dose or effective_mas(command, worst=True) is not None or _localizer(command):
            return None
        name = "RevolutionTime" if _number(command, "RevolutionTime") is None else CURRENTS[0]
        return Excess(name, "is missing, and without it (and without a judge) its dose has no bound")

    def moves(self, motion: Motion) -> Excess | None:
        """What is wrong with a motion; None when it is inside its axis' range and speed."""
        if not (math.isfinite(motion.target) and math.isfinite(motion.speed)):
            return Excess(motion.axis, "is not a finite number")
        axis = self.axes.get(motion.axis)
        if axis is None:
            return Excess(motion.axis, "is no axis of this device")
        if not axis.low <= motion.target <= axis.high:
            return Excess(motion.axis, f"target {motion.target:g} is beyond {axis.low:g} to {axis.high:g}")
        if not 0 < motion.speed <= axis.speed:
            return Excess(motion.axis, f"speed {motion.speed:g} is beyond {axis.speed:g}")
        return None

    def forecast(self, command: Command, *, worst: bool = False) -> Forecast:
        """What one acquisition delivers: the larger of what it states and of what tube and time make of it.

        CTDIvol = rate(KVP, phantom) x effective mAs (IEC 60601-2-44: over pitch, or over increment), DLP =
        CTDIvol x scan length. Without a phantom it is the head phantom's figure under phantom 0, which is
        compared with the strictest cap. ``worst``: exposure control drives the tube to its limit throughout.
        """
        phantom = phantom_cm(command)
        stated = max(_number(command, "CTDIvol") or 0.0, 0.0)
        mas = effective_mas(command, worst=worst)
        kvp = _number(command, "KVP")
        rate = self._rate(kvp, phantom) if kvp is not None else None
        ctdivol = max(stated, rate * mas if rate is not None and mas is not None else 0.0)
        low, high = _number(command, "AcquisitionStartLocation"), _number(command, "AcquisitionEndLocation")
        length = _number(command, "ScanLength")
        if low is not None and high is not None:
            length = max(length or 0.0, abs(high - low))
        width = _number(command, "TotalCollimationWidth") or 0.0
        dlp = max(_number(command, "DLP") or 0.0, ctdivol * max(length or 0.0, width) / 10.0, 0.0)
        known = low is not None and high is not None
        return Forecast(
            ctdivol,
            dlp,
            phantom,
            min(low, high) if known and low is not None and high is not None else math.nan,
            max(low, high) if known and low is not None and high is not None else math.nan,
        )

    def _rate(self, kvp: float, phantom: int) -> float | None:
        """The rate of the least tube voltage listed that is not below ``kvp`` (dose grows with it)."""
        rates = self._rates.get(phantom or 16, ())
        for rate in rates:
            if kvp <= rate.kvp * (1 + _NARROW):
                return rate.ctdivol_per_mas
        return rates[-1].ctdivol_per_mas * (kvp / rates[-1].kvp) ** 3 if rates else None


def phantom_cm(command: Command) -> int:
    """Diameter in cm of the phantom that the command's dose speaks of; 0 where it names none we know."""
    name = command.parameters.get("CTDIwPhantomType")
    return PHANTOMS.get(" ".join(name.split()).casefold(), 0) if isinstance(name, str) else 0


def effective_mas(command: Command, *, worst: bool = False) -> float | None:
    """mAs per slice: mA x RevolutionTime, over pitch (spiral), times rotations (stationary). None if not told.

    Two tubes add up. ``worst`` takes the largest current that any field permits, else the commanded one where
    there is one.
    """
    named = [(n, mA) for n in CURRENTS if (mA := _number(command, n)) is not None]
    if not named:
        return None
    current = max(mA for _, mA in named) if worst else named[0][1]
    time = _number(command, "RevolutionTime")
    if time is None:
        return _still(command, current)
    mas = current * time
    second = _number(command, "XRayTubeCurrentInmASourceB")
    if second is not None:
        mas += second * (_number(command, "RevolutionTimeSourceB") or time)
    kind = command.parameters.get("AcquisitionType")
    kind = " ".join(kind.split()).casefold() if isinstance(kind, str) else ""
    pitch = _number(command, "SpiralPitchFactor")
    width, feed = _number(command, "TotalCollimationWidth"), _number(command, "TableFeedPerRotation")
    rotations = _number(command, "NumberOfRotations")
    if pitch is not None and pitch > 0:
        mas /= pitch
    elif "spiral" not in kind and "helical" not in kind and rotations is not None and not feed:
        mas *= max(rotations, 1.0)  # the table stands still: every rotation meets the same place
    elif width and feed and feed > 0:
        mas *= width / feed
    return mas


def _still(command: Command, current: float) -> float | None:
    """mAs per slice of a localizer: the tube stands, and every slice is in the beam for width / TableSpeed."""
    width, speed = _number(command, "TotalCollimationWidth"), _number(command, "TableSpeed")
    if command.parameters.get("AcquisitionType") != "CONSTANT_ANGLE" or not width or not speed or speed <= 0:
        return None
    return current * width / speed


def within(value: float, envelope: Envelope) -> bool:
    """Whether ``value`` lies in ``envelope``, the rounding of a decimal text forgiven."""
    slack = _NARROW * max(abs(envelope.low), abs(envelope.high), 1.0)
    return envelope.low - slack <= value <= envelope.high + slack


def serves(bound: Device, device: Device) -> bool:
    """Whether something bound to ``bound`` may be used with ``device``: model, and serial where both tell one."""
    same = not bound.serial or not device.serial or bound.serial == device.serial
    return bound.key == device.key and same


def _localizer(command: Command) -> bool:
    kind = command.parameters.get("AcquisitionType")
    return isinstance(kind, str) and " ".join(kind.split()).casefold() == "constant_angle"


def _plausible(known: Field | None, value: float) -> bool:
    return known is None or known.low is None or known.high is None or known.low <= value <= known.high


def _number(command: Command, name: str) -> float | None:
    value = command.parameters.get(name)
    return value if isinstance(value, float) and math.isfinite(value) else None
