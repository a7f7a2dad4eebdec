"""Layer 3, limits: dose checks in the manner of NEMA XR-25, and the device's own maxima.

*Notification*: one command's forward estimate against the value of its region, phantom and age band.
*Alert*: what was delivered plus this command, CTDIvol at each position and DLP per examination, each phantom
apart: a figure on the 16 cm phantom is never added to, or compared with, one on the 32 cm phantom.
*Device*: more than the device was ever recorded doing (with the margin of `ranges.ceiling`) halts; a CTDIvol
far under the least it was recorded giving alerts: a picture that shows nothing is a second scan.
*Information*: diagnostic reference levels and statutory phantom values. They speak of groups of patients and
of phantoms; beside one patient they are shown and never counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanward.commands import (
    BODY_PHANTOM,
    FIELDS,
    HEAD_PHANTOM,
    PHANTOM_DIAMETER_CM,
    Command,
    LayerName,
    Objection,
    Opinion,
    Outcome,
    Severity,
)
from scanward.errors import BundleError
from scanward.layers.base import Part
from scanward.layers.delivered import DoseState, PhantomDose
from scanward.layers.ranges import acquisition_type, ceiling, folded, number_of, shown
from scanward.layers.reference import (
    ADULT_AGE,
    TORSO,
    XR25_ALERT_CTDIVOL,
    DoseFigure,
    notification_values,
    reference_levels,
    region_of,
    statutory_values,
)

MANY = 500  # examinations from which on the largest value seen is taken for the device's maximum
FLOOR_FACTOR = 3.0  # below a third of the least CTDIvol recorded (more where few were seen): nothing is seen


@dataclass(frozen=True, slots=True)
class AlertValues:
    """Alert values per age: CTDIvol in mGy, DLP in mGy.cm (None: the site has set none)."""

    age_low: float
    age_high: float
    ctdivol: float = XR25_ALERT_CTDIVOL
    dlp: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """Largest value recorded of each field, least CTDIvol per type and phantom; how many examinations."""

    maxima: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    floors: Mapping[str, tuple[float, int]] = field(default_factory=dict)


# The XR-25 default is one value; a site that treats children sets a lower one here.
DEFAULT_ALERTS = (AlertValues(0.0, ADULT_AGE), AlertValues(ADULT_AGE, 131.0))


class LimitsLayer:
    """Doses of one command and of the examination so far. State: DoseState.

    Parameters
    ----------
    devices : mapping of ``Device.key`` to DeviceLimits
    notifications : per region, phantom and age band; a site edits these
    alerts : per age band
    jurisdiction : whose diagnostic reference levels are shown ("US", "UK"), "" for none
    notes : what learning changed or found, for the report of training
    """

    name = LayerName.LIMITS

    def __init__(
        self,
        devices: Mapping[str, DeviceLimits],
        notifications: tuple[DoseFigure, ...] | None = None,
        alerts: tuple[AlertValues, ...] = DEFAULT_ALERTS,
        jurisdiction: str = "US",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.devices = dict(devices)
        self.notifications = notification_values() if notifications is None else tuple(notifications)
        self.alerts = tuple(alerts)
        self.jurisdiction = jurisdiction
        self.notes = tuple(notes)
        levels = (f for f in reference_levels() if f.jurisdiction == jurisdiction)
        self._information = _by_region((*levels, *statutory_values()))
        self._notify = _by_region(self.notifications)
        self._maxima = {
            key: tuple((name, ceiling(high, n), _sure(n)) for name, (high, n) in device.maxima.items())
            for key, device in devices.items()
        }
        self._floors = {
            key: {name: floor(low, n) for name, (low, n) in device.floors.items()}
            for key, device in devices.items()
        }
        self._only = next(iter(devices)) if len(devices) == 1 else None

    def start(self) -> DoseState:
        """Nothing delivered yet."""
        return _NOTHING_YET

    def judge(self, state: DoseState, command: Command) -> tuple[Opinion, DoseState]:
        """Compare doses and device maxima; the new state holds this command's dose as delivered."""
        parameters = command.parameters
        objections: list[Objection] = []
        key = command.device.key
        if key == "|" and self._only is not None:
            key = self._only
        maxima = self._maxima.get(key)
        for name, high, severity in maxima or ():
            value = parameters.get(name)
            if type(value) is float and value > high:
                objections.append(_above_device(name, value, high, severity))
        ctdivol = number_of(parameters.get("CTDIvol"))
        dlp = number_of(parameters.get("DLP"))
        phantom = parameters.get("CTDIwPhantomType")
        dosed = (ctdivol is not None and ctdivol >= 0) or (dlp is not None and dlp >= 0)
        if not dosed or not isinstance(phantom, str) or not phantom.strip():
            if objections:
                return Opinion(self.name, Outcome.OBJECT, tuple(objections)), state
            reason = "a dose without its phantom is compared with nothing" if dosed else "no dose stated"
            return (
                Opinion(self.name, Outcome.ABSTAIN, reason=reason) if dosed or not maxima else _PASS
            ), state
        # However a host spells it, one phantom is one account: doses must not be spread over spellings.
        phantom = _PHANTOMS.get(folded(phantom), folded(phantom))
        new = self._judge_dose(
            state, command, key, phantom, max(ctdivol or 0.0, 0.0), max(dlp or 0.0, 0.0), objections
        )
        if not objections:
            return _PASS, new
        counted = any(o.severity > Severity.INFORMATION for o in objections)
        return Opinion(self.name, Outcome.OBJECT if counted else Outcome.PASS, tuple(objections)), new

    def _judge_dose(
        self,
        state: DoseState,
        command: Command,
        key: str,
        phantom: str,
        ctdivol: float,
        dlp: float,
        objections: list[Objection],
    ) -> DoseState:
        parameters = command.parameters
        before = state.phantoms.get(phantom, _NO_DOSE)
        start = number_of(parameters.get("AcquisitionStartLocation"))
        end = number_of(parameters.get("AcquisitionEndLocation"))
        after = before.plus(start, end, ctdivol, dlp)
        age = youngest(command)
        region = region_told(command)
        found = self.notification(region, phantom, age)
        if found is not None and found.ctdivol is not None and ctdivol > found.ctdivol:
            objections.append(_notified(found, ctdivol, found.ctdivol))
        if found is not None and found.dlp is not None and dlp > found.dlp:
            reason = f"above the notification value for {found.region}"
            objections.append(_above("DLP", reason, dlp, found.dlp))
        for alert in self.alerts:
            if alert.age_low <= age < alert.age_high:
                if after.peak >= alert.ctdivol:
                    reason = "delivered plus forecast CTDIvol at one position reaches the alert value"
                    objections.append(_above("CTDIvol", reason, after.peak, alert.ctdivol, Severity.HALT))
                if alert.dlp is not None and after.dlp >= alert.dlp:
                    reason = "delivered plus forecast DLP of the examination reaches the alert value"
                    objections.append(_above("DLP", reason, after.dlp, alert.dlp, Severity.HALT))
        floors = self._floors.get(key)
        if floors and "CTDIvol" in parameters:
            least = floors.get(f"{acquisition_type(command)}|{folded(phantom)}", 0.0)
            if ctdivol < least:
                reason = "far less dose than this device was ever recorded giving: nothing would be seen"
                expected = f"at least {shown(least)} mGy"
                objections.append(Objection("CTDIvol", reason, ctdivol, expected, low=least))
        objections.extend(
            _informed(level, ctdivol)
            for level in self._information.get((region, phantom), ())
            if level.ctdivol is not None and ctdivol > level.ctdivol and level.age_low <= age < level.age_high
        )
        return DoseState({**state.phantoms, phantom: after})

    def notification(self, region: str, phantom: str, age: float) -> DoseFigure | None:
        """The notification value that applies: of the region, else the phantom's usual one; None if none."""
        for name in (region, *_wider(region, phantom)):
            for each in self._notify.get((name, phantom), ()):
                if each.age_low <= age < each.age_high:
                    return each
        return None

    def part(self) -> Part:
        """All values as plain JSON; notification and alert values are for the site to edit."""
        return Part(
            {
                "devices": {
                    key: {
                        "maxima": {n: list(v) for n, v in device.maxima.items()},
                        "floors": {n: list(v) for n, v in device.floors.items()},
                    }
                    for key, device in self.devices.items()
                },
                "notifications": [
                    [f.region, f.phantom, f.age_low, f.age_high, f.ctdivol, f.dlp, f.source]
                    for f in self.notifications
                ],
                "alerts": [[a.age_low, a.age_high, a.ctdivol, a.dlp] for a in self.alerts],
                "jurisdiction": self.jurisdiction,
                "notes": list(self.notes),
            }
        )

    @classmethod
    def from_part(cls, part: Part) -> LimitsLayer:
        """The layer that ``part`` describes; BundleError when it describes none."""
        settings: dict[str, Any] = part.settings
        try:
            devices = {
                str(key): DeviceLimits(_pairs(device["maxima"]), _pairs(device["floors"]))
                for key, device in settings["devices"].items()
            }
            notifications = tuple(
                DoseFigure(str(r), str(p), float(a), float(b), _maybe(c), _maybe(d), source=str(s))
                for r, p, a, b, c, d, s in settings["notifications"]
            )
            alerts = tuple(
                AlertValues(float(a), float(b), float(c), _maybe(d)) for a, b, c, d in settings["alerts"]
            )
            notes = tuple(str(n) for n in settings["notes"])
            return cls(devices, notifications, alerts, str(settings["jurisdiction"]), notes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                "the limits layer's settings are damaged", "layer limits", "train the bundle again"
            ) from error


_PASS = Opinion(LayerName.LIMITS, Outcome.PASS)
_NO_DOSE = PhantomDose()
_NOTHING_YET = DoseState()


_PHANTOMS = {folded(name): name for name in PHANTOM_DIAMETER_CM}
OLDEST = 130.0  # years


def floor(low: float, count: int) -> float:
    """A CTDIvol under which a command gives less than ever recorded by far."""
    return low / (FLOOR_FACTOR + 6.0 / math.sqrt(max(count, 1)))


def youngest(command: Command) -> float:
    """The youngest age that any source told: no source can raise a child's limits. Nobody told: an adult."""
    told = command.context.parts.get("PatientAge", ())
    ages = [age for each in told if (age := number_of(each.value)) is not None and age >= 0]
    # An age beyond all bands must not fall out of them.
    return min(min(ages, default=40.0), OLDEST)


def region_told(command: Command) -> str:
    """Region from what the command says it is for, "" when it says nothing known."""
    for name in ("ProtocolElementName", "ProtocolName", "BodyPartExamined", "RequestedProcedureDescription"):
        value = command.value(name)
        if isinstance(value, str):
            region = region_of(folded(value))
            if region:
                return region
    return ""


def _wider(region: str, phantom: str) -> tuple[str, ...]:
    """Where no value speaks of the region itself: the phantom's usual one, except for limbs and spines.

    How a heart was gated is not told, so the higher of the two cardiac values is an adult's; a child's heart
    and a child's perfusion have a torso's and a head's, whatever the protocol calls itself.
    """
    if phantom == HEAD_PHANTOM:
        if region in ("", "head", "brain perfusion"):
            return ("head",)
        return ("torso",) if region in TORSO else ()
    if phantom == BODY_PHANTOM:
        if region == "cardiac":
            return ("cardiac retrospective", "torso")
        return ("torso",) if region == "" or region in TORSO else ()
    return ()


def _by_region(figures: tuple[DoseFigure, ...]) -> dict[tuple[str, str], tuple[DoseFigure, ...]]:
    """(region, phantom) -> figures; one per age band and source: the highest where several share it."""
    best: dict[tuple[str, str, float, float, str], DoseFigure] = {}
    for each in figures:
        if each.phantom and (each.ctdivol is not None or each.dlp is not None):
            key = (each.region, each.phantom, each.age_low, each.age_high, each.source)
            other = best.get(key)
            if other is None or (each.ctdivol or 0.0) > (other.ctdivol or 0.0):
                best[key] = each
    table: dict[tuple[str, str], tuple[DoseFigure, ...]] = {}
    for each in best.values():
        place = (each.region, each.phantom)
        table[place] = (*table.get(place, ()), each)
    return table


def _sure(count: int) -> Severity:
    return Severity.HALT if count >= MANY else Severity.ALERT


def _above_device(name: str, value: float, high: float, severity: Severity) -> Objection:
    unit = FIELDS[name].unit if name in FIELDS else ""
    reason = "more than this device was ever recorded doing"
    expected = f"at most {shown(high)} {unit}".rstrip()
    return Objection(name, reason, value, expected, high=high, severity=severity)


def _above(
    name: str, reason: str, value: float, high: float, severity: Severity = Severity.ALERT
) -> Objection:
    expected = f"under {shown(high)} {FIELDS[name].unit}"
    return Objection(name, reason, value, expected, high=high, severity=severity)


def _notified(figure: DoseFigure, value: float, high: float) -> Objection:
    child = f", {figure.age_low:g} to {figure.age_high:g} years" if figure.age_high < 131 else ""
    return _above("CTDIvol", f"above the notification value for {figure.region}{child}", value, high)


def _informed(level: DoseFigure, value: float) -> Objection:
    kind = (
        f"diagnostic reference level ({level.jurisdiction})"
        if level.jurisdiction
        else "statutory phantom value"
    )
    reason = f"above the {kind} for {level.exam or level.region}, which is no limit for one patient"
    return _above("CTDIvol", reason, value, level.ctdivol or 0.0, Severity.INFORMATION)


def _pairs(settings: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    return {str(name): (float(value), int(count)) for name, (value, count) in settings.items()}


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
