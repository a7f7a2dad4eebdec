"""From CT slices to acquisitions.

What is one acquisition: the same study, device and Irradiation Event UID. Without that UID: the same study,
device, Acquisition Number and settings (some makers count acquisitions anew in every series), in series whose
acquisition times overlap; without an Acquisition Number a series stands alone. Several reconstructions of one
acquisition are one command, not several. Derived images (reformats, screens) add nothing of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from scanward.codecs.image_headers import NUMBERS, SliceHeader
from scanward.codecs.values import tidy
from scanward.commands import Command, Context, Mode, Origin, Role, Source, Told, Value

# These follow the tube current from slice to slice: their mean speaks for the acquisition.
_VARYING = ("XRayTubeCurrentInmA", "Exposure", "ExposureTimeInms", "CTDIvol")
# Two sets of images that differ in one of these were not made by one acquisition.
_SETTINGS = ("KVP", "RevolutionTime", "SpiralPitchFactor", "TotalCollimationWidth", "GantryDetectorTilt")

_T = TypeVar("_T", float, str)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What became of one acquisition: a command, or the reason why not, and how many slices it has."""

    origin: Origin
    command: Command | None
    reason: str = ""
    slices: int = 0
    reconstructions: int = 0


def acquisitions(slices: Iterable[SliceHeader]) -> list[Acquisition]:
    """Group slices into acquisitions, one command of each, ordered by the first file of each.

    A slice that comes twice (the same SOP Instance UID) counts once. The result does not depend on the order
    of ``slices``. All values have the role performed: modulation is over when an image is written.
    """
    unique: dict[str, SliceHeader] = {}
    for one in sorted(slices, key=lambda s: (s.origin.path, s.origin.row, s.instance)):
        unique.setdefault(one.instance, one)
    groups: dict[tuple[object, ...], list[list[SliceHeader]]] = {}
    for series in _by(unique.values(), _series_key):
        first = series[0]
        if first.event is not None:
            key: tuple[object, ...] = (first.study, first.device, first.event)
        elif first.acquisition is not None:
            key = (first.study, first.device, first.acquisition, _settings(first))
        else:
            key = (first.study, first.device, "series", first.series, _settings(first))
        groups.setdefault(key, []).append(series)
    done = []
    for parts in groups.values():
        together = [parts] if parts[0][0].event is not None else _overlapping(parts)
        done += [_acquisition(reconstructions) for reconstructions in together]
    return sorted(done, key=lambda a: (a.origin.path, a.origin.row))


def _by(
    slices: Iterable[SliceHeader], key: Callable[[SliceHeader], tuple[object, ...]]
) -> list[list[SliceHeader]]:
    groups: dict[tuple[object, ...], list[SliceHeader]] = {}
    for one in slices:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _settings(one: SliceHeader) -> tuple[object, ...]:
    return (one.localizer, *(one.numbers.get(name) for name in _SETTINGS))


def _series_key(one: SliceHeader) -> tuple[object, ...]:
    parted = () if one.event is not None else _settings(one)
    return (one.study, one.device, one.series, one.event, one.acquisition, one.derived, parted)


def _overlapping(parts: list[list[SliceHeader]]) -> list[list[list[SliceHeader]]]:
    """Series whose acquisition times overlap belong together; a series without times joins the first."""
    timed, untimed = [], []
    for part in parts:
        times = [one.acquired_at for one in part if one.acquired_at is not None]
        if times:
            timed.append((min(times), max(times), part))
        else:
            untimed.append(part)
    groups: list[list[list[SliceHeader]]] = []
    end = -math.inf
    for start, stop, part in sorted(timed, key=lambda entry: (*entry[:2], entry[2][0].origin.path)):
        if groups and start <= end:
            groups[-1].append(part)
        else:
            groups.append([part])
        end = max(end, stop)
    if untimed:
        groups = [[*groups[0], *untimed], *groups[1:]] if groups else [untimed]
    return groups


def _acquisition(series: list[list[SliceHeader]]) -> Acquisition:
    everything = [one for part in series for one in part]
    origin = min((one.origin for one in everything), key=lambda o: (o.path, o.row))
    original = [part for part in series if not part[0].derived]
    if not original:
        return Acquisition(
            origin, None, "derived images only, without those they were made from", len(everything)
        )
    # The reconstruction with the most slices speaks: overlapping ones must not weigh twice.
    main = max(original, key=lambda part: (len(part), [-ord(c) for c in part[0].series]))
    parameters = _parameters(main, [one for part in original for one in part])
    if not any(name in parameters for name in NUMBERS):
        return Acquisition(origin, None, "no machine field is present", len(everything), len(original))
    first = main[0]
    times = [one.acquired_at for part in original for one in part if one.acquired_at is not None]
    sources = {"WaterEquivalentDiameter": Source.LOCALIZER}
    context = Context({n: (Told(v, sources.get(n, Source.HOST)),) for n, v in first.context.items()})
    command = Command(
        parameters=parameters,
        context=context,
        device=first.device,
        role=Role.PERFORMED,
        examination=first.examination,
        acquired_at=min(times, default=None),
        order=first.acquisition or 0.0,
        event=first.event,
        mode=Mode.QA if any(one.mode is Mode.QA for one in everything) else Mode.CLINICAL,
        origin=origin,
    )
    return Acquisition(origin, command, "", len(everything), len(original))


def _parameters(main: list[SliceHeader], every: list[SliceHeader]) -> dict[str, Value]:
    parameters: dict[str, Value] = {}
    for name in dict.fromkeys(name for one in main for name in one.numbers):
        values = [one.numbers[name] for one in main if name in one.numbers]
        if name in _VARYING:
            parameters[name] = tidy(math.fsum(values) / len(values))
        else:
            parameters[name] = _commonest(values)
    currents = [one.numbers["XRayTubeCurrentInmA"] for one in every if "XRayTubeCurrentInmA" in one.numbers]
    if currents:
        parameters["MinimumXRayTubeCurrent"] = min(currents)
        parameters["MaximumXRayTubeCurrent"] = max(currents)
    for name in dict.fromkeys(name for one in main for name in one.texts):
        parameters[name] = _commonest([one.texts[name] for one in main if name in one.texts])
    length = _length(main)
    if length is not None:
        parameters["ScanLength"] = tidy(length)
    return parameters


def _commonest(values: list[_T]) -> _T:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _length(main: list[SliceHeader]) -> float | None:
    """Imaged length in mm: from the first to the last slice, and one slice thickness for their two halves."""
    if main[0].localizer:
        return max((one.length for one in main if one.length is not None), default=None)
    positions = [one.z for one in main if one.z is not None]
    thickness = main[0].numbers.get("SliceThickness")
    if not positions or thickness is None:
        return None
    return max(positions) - min(positions) + thickness
