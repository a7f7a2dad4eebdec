"""What is known of single makers' reports, as named rules. Every rule that changed anything is told.

A rule needs evidence in the event itself wherever there can be any: a maker's name alone never changes a
number. ``docs/recordings-dose-reports.md`` lists them all (a test holds it to this registry).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from scanward.codecs.rdsr_draft import Draft
from scanward.codecs.values import tidy

LONGEST_EXPOSURE_S = 250.0  # no single CT event is that long; 4DCT and perfusion stay below 200 s
LONGEST_ROTATION_S = 10.0  # the form's own bound of RevolutionTime
_SAME = 0.03  # relative difference below which two figures that were rounded once are the same


@dataclass(frozen=True, slots=True)
class Quirk:
    """One rule: ``apply`` changes the draft and answers whether it did."""

    name: str
    about: str
    source: str
    apply: Callable[[Draft], bool]


def _maker(draft: Draft, *names: str) -> bool:
    return draft.manufacturer.strip().casefold().startswith(names)


def _drop(draft: Draft, *names: str) -> bool:
    present = [name for name in names if name in draft.parameters]
    for name in present:
        del draft.parameters[name]
    return bool(present)


def _expected_seconds(draft: Draft) -> float | None:
    """How long the beam must have been on, from the geometry of a spiral."""
    length, rotation = draft.number("ScanLength"), draft.number("RevolutionTime")
    pitch, width = draft.number("SpiralPitchFactor"), draft.number("TotalCollimationWidth")
    if length is None or rotation is None or not pitch or not width or rotation > LONGEST_ROTATION_S:
        return None
    return length / (pitch * width) * rotation


def _philips_milliseconds(draft: Draft) -> bool:
    if not _maker(draft, "philips"):
        return False
    done = False
    for name in ("RevolutionTime", "RevolutionTimeSourceB"):
        rotation = draft.number(name)
        if rotation is not None and draft.units.get(name) == "s" and rotation > LONGEST_ROTATION_S:
            draft.parameters[name] = tidy(rotation / 1000)
            done = True
    exposure = draft.number("ExposureTimeInms")
    if exposure is None or draft.units.get("ExposureTimeInms") != "s":
        return done
    seconds, expected = exposure / 1000, _expected_seconds(draft)
    # With geometry to go by, the reading nearer to it wins; the two are a factor of 1000 apart.
    wrong = seconds > expected * 31.6 if expected else seconds > LONGEST_EXPOSURE_S
    if wrong:
        draft.parameters["ExposureTimeInms"] = tidy(seconds)
    return done or wrong


def _screen_read(draft: Draft) -> bool:
    return draft.screen_read and (
        "KVP" not in draft.parameters or "XRayTubeCurrentInmA" not in draft.parameters
    )


def _exposure_without_pitch(draft: Draft) -> bool:
    exposure, current = draft.number("Exposure"), draft.number("XRayTubeCurrentInmA")
    rotation, pitch = draft.number("RevolutionTime"), draft.number("SpiralPitchFactor")
    if not exposure or not current or not rotation or not pitch or abs(pitch - 1) <= 2 * _SAME:
        return False
    if abs(exposure / (current * rotation) - 1) > _SAME:
        return False
    draft.parameters["Exposure"] = tidy(exposure / pitch)
    return True


def _ge_scout_collimation(draft: Draft) -> bool:
    width, length = draft.number("TotalCollimationWidth"), draft.number("ScanLength")
    if not _maker(draft, "ge") or draft.parameters.get("AcquisitionType") != "CONSTANT_ANGLE":
        return False
    return width is not None and width == length and _drop(draft, "TotalCollimationWidth")


def _ge_helical_collimation(draft: Draft) -> bool:
    width, length = draft.number("TotalCollimationWidth"), draft.number("ScanLength")
    pitch, rotation = draft.number("SpiralPitchFactor"), draft.number("RevolutionTime")
    exposure = draft.number("ExposureTimeInms")
    if not _maker(draft, "ge") or draft.parameters.get("AcquisitionType") != "SPIRAL":
        return False
    if not width or not length or not pitch or not rotation or not exposure:
        return False
    beam = length * rotation / (exposure / 1000 * pitch)  # what the table must have moved over per rotation
    return beam > 2 * width and _drop(draft, "TotalCollimationWidth")


_SIEMENS = re.compile(r"internal technical scan parameters\s*:", re.IGNORECASE)


def _siemens_comment(draft: Draft) -> bool:
    match = _SIEMENS.search(draft.comment)
    if match is None:
        return False
    pairs = (part.partition("=") for part in draft.comment[match.end() :].split(","))
    said = {name.strip().casefold(): value.strip() for name, _, value in pairs if value.strip()}
    for name, wanted in (
        ("organ characteristic", "ProtocolOrganCharacteristic"),
        ("body size", "ProtocolBodySize"),
        ("body region", "ProtocolBodyRegion"),
        ("x-ray modulation type", "ExposureModulationType"),
    ):
        if said.get(name):
            draft.parameters.setdefault(wanted, said[name])
    tin = [name for name, value in said.items() if name.startswith("sn filter") and value.casefold() == "yes"]
    if tin:
        draft.parameters.setdefault("FilterMaterial", "TIN")
    return bool(said)


def _several_numbers(draft: Draft) -> bool:
    if not draft.several:
        return False
    for name, numbers in draft.several.items():
        if name in draft.parameters:
            continue
        if len(set(numbers)) == 1:
            draft.parameters[name] = numbers[0]
        elif name == "XRayTubeCurrentInmA":
            draft.parameters[name] = tidy(sum(numbers) / len(numbers))
            draft.parameters.setdefault("MinimumXRayTubeCurrent", min(numbers))
            draft.parameters.setdefault("MaximumXRayTubeCurrent", max(numbers))
    draft.several.clear()
    return True


def _localizer_without_dose(draft: Draft) -> bool:
    zero = [n for n in ("CTDIvol", "DLP") if draft.number(n) == 0.0]
    return draft.parameters.get("AcquisitionType") == "CONSTANT_ANGLE" and _drop(draft, *zero)


def _zero_collimation(draft: Draft) -> bool:
    zero = [n for n in ("SingleCollimationWidth", "TotalCollimationWidth") if draft.number(n) == 0.0]
    return _drop(draft, *zero)


QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        "several-numbers",
        "a measurement with several numbers: equal ones count as one, tube currents become mean, minimum and "
        "maximum, anything else is left out",
        "NumericValue (0040,A30A) has VM 1-n, which TID 10013 makes no use of",
        _several_numbers,
    ),
    Quirk(
        "philips-ms-under-s",
        "Philips: times written in milliseconds under the unit s are divided by 1000 where, as seconds, they "
        "contradict the geometry of the spiral or last longer than any CT event",
        "recorded Philips reports (11912 s); OpenREM issue 201",
        _philips_milliseconds,
    ),
    Quirk(
        "screen-read-without-tube",
        "reports made from a picture of the dose screen (PixelMed) have no KVP or tube current: left missing",
        "Source of Dose Information 113868 in recorded GE and Toshiba reports made by PixelMed",
        _screen_read,
    ),
    Quirk(
        "exposure-without-pitch",
        "Exposure that equals mA x rotation time on a spiral is divided by the pitch: Exposure is kept as "
        "effective mAs for all makers",
        "makers differ in whether Exposure (0018,1152) includes the pitch",
        _exposure_without_pitch,
    ),
    Quirk(
        "ge-scout-collimation",
        "GE: a localizer whose total collimation equals its scanning length has no collimation",
        "recorded GE Optima CT660 report (560 mm)",
        _ge_scout_collimation,
    ),
    Quirk(
        "ge-helical-collimation",
        "GE: a total collimation less than half of what the table moved per rotation is left out",
        "recorded GE Optima CT660 report (5 mm written, 34 to 36 mm moved)",
        _ge_helical_collimation,
    ),
    Quirk(
        "siemens-technical-comment",
        "Siemens: the comment 'Internal technical scan parameters' gives body size, region, organ, "
        "modulation and tin filter",
        "recorded Siemens Definition Flash and Confidence reports",
        _siemens_comment,
    ),
    Quirk(
        "dose-check-codes-shifted",
        "dose check notification codes two too high are read by their meaning",
        "a public writer that uses 113911 for 'DLP Notification Value Configured'",
        lambda draft: "dose-check-codes-shifted" in draft.flags,
    ),
    Quirk(
        "localizer-without-dose",
        "a CTDIvol or DLP of 0 on a localizer means that none was worked out: left out",
        "recorded Philips Brilliance 16P secondary capture",
        _localizer_without_dose,
    ),
    Quirk(
        "zero-collimation",
        "a collimation of 0 mm means that none was given: left out",
        "recorded Spectrum Dynamics report",
        _zero_collimation,
    ),
)


def apply_quirks(draft: Draft) -> tuple[str, ...]:
    """Run every rule in the order of the registry; the names of those that did something."""
    return tuple(quirk.name for quirk in QUIRKS if quirk.apply(draft))


def quirk_notes(applied: dict[str, int]) -> tuple[str, ...]:
    """One sentence per rule that was applied, with the number of events."""
    about = {quirk.name: quirk.about for quirk in QUIRKS}
    return tuple(
        f"rule {name} ({count} event{'s' * (count > 1)}): {about[name]}" for name, count in applied.items()
    )
