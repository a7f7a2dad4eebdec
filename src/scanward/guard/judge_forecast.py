"""What one acquisition will deliver, as the judge sees it: the host's figure is believed only where physics allows.

The constants are the bundle's (`layers.physics`): CTDIvol per effective mAs, DLP per CTDIvol and length.
"""

from __future__ import annotations

from dataclasses import replace

from scanward.commands import PHANTOM_DIAMETER_CM, Command
from scanward.guard.ipc import ForecastShape
from scanward.guard.profile import effective_mas, phantom_cm
from scanward.layers.form import FormLayer
from scanward.layers.limits import LimitsLayer, region_told, youngest
from scanward.layers.onion import Onion
from scanward.layers.physics import PhysicsLayer
from scanward.layers.ranges import acquisition_type, number_of


def forecast(onion: Onion, command: Command) -> ForecastShape | None:
    """CTDIvol (mGy), DLP (mGy.cm), phantom (cm) and range (mm) of ``command``; None when no figure can be had.

    A stated figure below what physics implies is replaced by the most that physics implies: a forged dose does
    not make room under a cap. Where nothing is stated and nothing implied, the most that the device was ever
    recorded giving is assumed.
    """
    physics = next((r for r in onion.rules if isinstance(r, PhysicsLayer)), None)
    ctdivol = _believed(physics, command, "CTDIvol")
    if ctdivol is None and not _never_told(onion, command):
        ctdivol = _recorded(onion, command)
    if ctdivol is None:
        return None
    parameters = {**command.parameters, "CTDIvol": ctdivol}
    dlp = _believed(physics, replace(command, parameters=parameters), "DLP")
    start = number_of(parameters.get("AcquisitionStartLocation"))
    end = number_of(parameters.get("AcquisitionEndLocation"))
    length = number_of(parameters.get("ScanLength"))
    if length is None and start is not None and end is not None:
        length = abs(end - start)
    width = number_of(parameters.get("TotalCollimationWidth")) or 0.0
    dlp = max(dlp or 0.0, ctdivol * max(length or 0.0, width) / 10.0 if dlp is None else 0.0)
    known = start is not None and end is not None
    phantom = phantom_cm(command)
    return ForecastShape(
        ctdivol,
        dlp,
        phantom,
        min(start, end) if known and start is not None and end is not None else None,
        max(start, end) if known and start is not None and end is not None else None,
        *_notification(onion, command, phantom),
    )


def _notification(onion: Onion, command: Command, phantom: int) -> tuple[float | None, float | None]:
    """Notification values of CTDIvol (mGy) and DLP (mGy.cm) as the limits layer compares with them: to be shown."""
    limits = next((r for r in onion.rules if isinstance(r, LimitsLayer)), None)
    name = next((name for name, cm in PHANTOM_DIAMETER_CM.items() if cm == phantom), "")
    found = limits.notification(region_told(command), name, youngest(command)) if limits and name else None
    return (found.ctdivol, found.dlp) if found else (None, None)


def _believed(physics: PhysicsLayer | None, command: Command, name: str) -> float | None:
    stated = number_of(command.parameters.get(name))
    stated = None if stated is None or stated < 0 else stated
    implied = physics.implied(command, name) if physics is not None else None
    if implied is None:
        return stated
    return stated if stated is not None and stated >= implied[0] else implied[1]


def _never_told(onion: Onion, command: Command) -> bool:
    """Whether it is a localizer of a device whose localizers never tell a dose: the device profile foretells it.

    Their makers report none (a few hundredths of a mGy). Taken for the largest dose ever recorded, every
    localizer would be held.
    """
    if acquisition_type(command) != "CONSTANT_ANGLE" or effective_mas(command) is None:
        return False
    for rule in onion.rules:
        if isinstance(rule, FormLayer):
            only = next(iter(rule.devices.values())) if len(rule.devices) == 1 else None
            device = rule.devices.get(command.device.key, only)
            kind = (
                device.types.get("constant_angle") or device.types.get("CONSTANT_ANGLE") if device else None
            )
            return kind is not None and "CTDIvol" not in kind.fields
    return False


def _recorded(onion: Onion, command: Command) -> float | None:
    """The largest CTDIvol that the device was recorded giving, in any type of acquisition."""
    for rule in onion.rules:
        if isinstance(rule, FormLayer):
            only = next(iter(rule.devices.values())) if len(rule.devices) == 1 else None
            device = rule.devices.get(command.device.key, only)
            seen = device.pooled.fields.get("CTDIvol") if device else None
            return seen.high if seen else None
    return None
