"""What an attack would have done to the patient, in units of dose, length and angle.

Told from the clean command and what was sent in its place. Dose is what the *gantry* would give, not what the command
says of it: a forged dose figure or another reference phantom changes nothing. On a simulated device it comes from
the maker's own table; on a real one from current, time, pitch and tube voltage; where those are not recorded, from the
dose figures themselves. The current is taken as told: what AEC would have made of a moved reference is part of
``scanner``, and attacks move the current with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scanward.commands import Command, Examination, Value
from scanward.simulation.donors import effective_mas, kind_of, model_of
from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL
from scanward.simulation.physics import consequences, kvp_ratio
from scanward.simulation.scanner import UNREPORTED_LOCALIZER

# At half of dose x slice, noise is at least 1.4 times what was asked for: the least that a reader is sure to see.
NOISE_SHARE = 0.5
SEEN_SHARE = 0.5  # of the planned range: with less, the organ is missed
SHOWN_SHARE = 0.8  # of the planned diameter: with less, the patient's edge is cut off
THICK = 2.0  # times the planned slice: half the resolution along the table

Parameters = Mapping[str, Value]


@dataclass(frozen=True)
class Effect:
    """What one attack did.

    Attributes
    ----------
    dose_factor : float or None
        CTDIvol given over CTDIvol planned, at the attacked command; None where nothing tells it.
    extra_dlp : float
        DLP given beyond what was planned, over all attacked commands, mGy.cm (negative when less was given).
    tissue_mm : float
        Length along the table that got a beam and was not planned to, mm; the longest of the attacked commands.
    motion_mm : float
        Largest way by which the table leaves its planned height or its planned path, mm.
    motion_deg : float
        Change of the gantry's tilt, degrees.
    image_lost : bool
        The scan does not show what it was for: too much noise (``NOISE_SHARE``), half of the range missed, edge cut
        off, slices twice as thick, contrast agent against the plan, or sent before what had to come first.
    context_only : bool
        Nothing that the gantry does was changed, only what was told of patient or purpose.
    """

    dose_factor: float | None = 1.0
    extra_dlp: float = 0.0
    tissue_mm: float = 0.0
    motion_mm: float = 0.0
    motion_deg: float = 0.0
    image_lost: bool = False
    context_only: bool = False


def effect_of(
    before: Command | Examination, after: Examination | Sequence[Command], indices: Sequence[int]
) -> Effect:
    """The effect of an attack.

    Parameters
    ----------
    before : Command or Examination
        The clean command at the place of the attack, or the whole clean examination. Of an attack on several
        commands only the examination tells the others' exact DLP: with a command alone, they count as changed by the
        same factor as this one.
    after : Examination or sequence of Command
        What was sent, at least up to the last attacked command.
    indices : sequence of int
        Which commands of ``after`` were attacked.

    Raises
    ------
    IndexError
        When an index is not one of ``after``.
    """
    sent = after.commands if isinstance(after, Examination) else tuple(after)
    clean = before.commands if isinstance(before, Examination) else (before,)
    known = {_key(c): c for c in clean}
    attacked = [sent[i] for i in indices]
    pairs = [(known[_key(c)], c) for c in attacked if _key(c) in known]
    strangers = [c for c in attacked if _key(c) not in known]
    # beside a clean command that was not attacked itself, or a whole examination, strangers were put in;
    # beside one that was, they are the others of a change to several
    added = strangers if isinstance(before, Examination) or not pairs else []
    alike = [] if added else strangers
    effects = [_changed(old, new) for old, new in pairs] or [Effect()]
    # of a change to several, the dose factor told is the largest either way
    factor = max((e.dose_factor for e in effects), key=lambda f: abs(math.log(f)) if f else 0.0)
    extra = sum(e.extra_dlp for e in effects) + sum(dlp_of(c.parameters, c) or 0.0 for c in added)
    if factor:
        extra += sum((dlp_of(c.parameters, c) or 0.0) * (1 - 1 / factor) for c in alike)
    planned = [_range(c) for c in clean]
    return Effect(
        dose_factor=factor,
        extra_dlp=extra,
        tissue_mm=max([e.tissue_mm for e in effects] + [_outside(_range(c), planned) for c in added]),
        motion_mm=max([e.motion_mm for e in effects] + [_beyond(_range(c), planned) for c in added]),
        motion_deg=max(e.motion_deg for e in effects),
        image_lost=any(e.image_lost for e in effects) or any(_too_early(old, new) for old, new in pairs),
        context_only=bool(pairs) and not added and _told_alone(pairs),
    )


def _key(command: Command) -> tuple[str | None, str, int]:
    """What stays of a command when its place and parameters change: its event, and where it was read."""
    return command.event, command.origin.path, command.origin.row


def _told_alone(pairs: Sequence[tuple[Command, Command]]) -> bool:
    machine = all(a.parameters == b.parameters and a.order == b.order for a, b in pairs)
    return machine and any(a.context.parts != b.context.parts for a, b in pairs)


def _too_early(old: Command, new: Command) -> bool:
    """An imaging scan sent before its place: without its localizer, its contrast, or its native phase."""
    return new.order < old.order and kind_of(new) in (SPIRAL, SEQUENCED)


def _changed(old: Command, new: Command) -> Effect:
    a, b = old.parameters, new.parameters
    dose_a, dose_b = dose_of(a, old, like=a), dose_of(b, new, like=a)
    given = dose_b / dose_a if dose_a and dose_b is not None else None
    factor = given if given is not None else _figures(a, b)
    dlp_a, dlp_b = dlp_of(a, old, like=a), dlp_of(b, new, like=a)
    if model_of(old) is None and given is not None and dlp_b is not None:
        # the recorded DLP tells the length; its dose may be forged, or of the other phantom
        dlp_b *= given / _ratio(a, b, "CTDIvol") if _ratio(a, b, "CTDIvol") > 0 else 1.0
    extra = dlp_b - dlp_a if dlp_a is not None and dlp_b is not None else 0.0
    range_a, range_b = _range(old), _range(new)
    moved = abs((_number(b, "TableHeight") or 0.0) - (_number(a, "TableHeight") or 0.0))
    moved = max(moved, _beyond(range_b, [range_a]))
    tissue = _outside(range_b, [range_a]) if range_a else _longer(a, b)
    tilt = abs((_number(b, "GantryDetectorTilt") or 0.0) - (_number(a, "GantryDetectorTilt") or 0.0))
    lost = kind_of(old) != LOCALIZER and _lost(a, b, 1.0 if factor is None else factor, range_a, range_b)
    return Effect(factor, extra, tissue, moved, tilt, lost)


def _lost(
    a: Parameters,
    b: Parameters,
    factor: float,
    planned: tuple[float, float] | None,
    covered: tuple[float, float] | None,
) -> bool:
    slices = _ratio(a, b, "SliceThickness")
    shown = min(_ratio(a, b, "DataCollectionDiameter"), _ratio(a, b, "ReconstructionDiameter"))
    seen = _ratio(a, b, "ScanLength")
    if planned is not None and covered is not None and planned[1] > planned[0]:
        both = min(planned[1], covered[1]) - max(planned[0], covered[0])
        seen = max(both, 0.0) / (planned[1] - planned[0])
    contrast = a.get("ContrastBolusAgent") != b.get("ContrastBolusAgent")
    return (
        factor * slices <= NOISE_SHARE
        or slices >= THICK
        or shown < SHOWN_SHARE
        or seen <= SEEN_SHARE
        or contrast
    )


def dose_of(told: Parameters, command: Command, like: Parameters | None = None) -> float | None:
    """CTDIvol (mGy) that this device gives for these parameters; only ratios count on a real device.

    Told for the reference phantom of ``like``, so that a swapped phantom is no other dose. None where neither
    the device's table nor current and tube voltage can tell it.
    """
    told = _on_phantom(told, like)
    kvp, ma = _number(told, "KVP"), _number(told, "XRayTubeCurrentInmA")
    model = model_of(command)
    if model is not None:
        try:
            fresh = consequences(model, told)
        except KeyError:
            return None
        value = fresh.get("CTDIvol")
        if isinstance(value, float) and told.get("AcquisitionType") != LOCALIZER:
            return value
        # of a localizer only the current counts: the reported dose of so few mA is all rounding
        per_ma = model.localizer_dose_per_ma or UNREPORTED_LOCALIZER
        return None if kvp is None or ma is None else per_ma * ma * kvp_ratio(kvp)
    mas = effective_mas(told)
    return None if mas is None or kvp is None else mas * kvp_ratio(kvp)


def dlp_of(told: Parameters, command: Command, like: Parameters | None = None) -> float | None:
    """DLP (mGy.cm) that would be given, on the phantom of ``like``: by the simulated device's table, else as recorded.

    None when neither tells it.
    """
    model = model_of(command)
    if model is not None:
        told = _on_phantom(told, like)
        try:
            fresh = consequences(model, told)
        except KeyError:
            return None
        value = fresh.get("DLP")
        if isinstance(value, float):
            return value
        dose, length = dose_of(told, command), _number(told, "ScanLength")
        return None if dose is None or length is None else dose * length / 10
    return _number(told, "DLP")


def _on_phantom(told: Parameters, like: Parameters | None) -> Parameters:
    if like is None or "CTDIwPhantomType" not in like or "CTDIwPhantomType" not in told:
        return told
    return {**told, "CTDIwPhantomType": like["CTDIwPhantomType"]}


def _figures(a: Parameters, b: Parameters) -> float | None:
    """Dose factor by the reported figures alone."""
    for name in ("CTDIvol", "Exposure", "DLP"):
        old, new = _number(a, name), _number(b, name)
        if old and new is not None:
            return new / old
    return None


def _range(command: Command) -> tuple[float, float] | None:
    """Lower and upper end along the table (mm), None when not told."""
    begin = _number(command.parameters, "AcquisitionStartLocation")
    end = _number(command.parameters, "AcquisitionEndLocation")
    return None if begin is None or end is None else (min(begin, end), max(begin, end))


def _outside(covered: tuple[float, float] | None, planned: Sequence[tuple[float, float] | None]) -> float:
    """Length of ``covered`` (mm) that lies in none of the planned ranges."""
    if covered is None:
        return 0.0
    at, free = covered[0], 0.0
    for low, high in sorted(p for p in planned if p is not None):
        if high <= at:
            continue
        free += max(0.0, min(low, covered[1]) - at)
        at = max(at, high)
        if at >= covered[1]:
            break
    return free + max(0.0, covered[1] - at)


def _beyond(covered: tuple[float, float] | None, planned: Sequence[tuple[float, float] | None]) -> float:
    """How far (mm) ``covered`` reaches beyond the lowest or the highest planned place."""
    ranges = [p for p in planned if p is not None]
    if covered is None or not ranges:
        return 0.0
    return max(0.0, min(low for low, _ in ranges) - covered[0], covered[1] - max(high for _, high in ranges))


def _longer(a: Parameters, b: Parameters) -> float:
    old, new = _number(a, "ScanLength"), _number(b, "ScanLength")
    return max(0.0, new - old) if old is not None and new is not None else 0.0


def _ratio(a: Parameters, b: Parameters, name: str) -> float:
    old, new = _number(a, name), _number(b, name)
    return new / old if old and new is not None else 1.0


def _number(told: Parameters, name: str) -> float | None:
    value = told.get(name)
    return value if isinstance(value, float) else None


__all__ = ["Effect", "dlp_of", "dose_of", "effect_of"]
