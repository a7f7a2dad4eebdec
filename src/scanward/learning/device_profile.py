"""What a device was recorded doing: extremes, categories, required fields (form); maxima, floors (limits).

Nothing is fitted here. Odd rows are kept out of the extremes only where they are impossible (outside the form
range): a range that forgot a real large patient would halt the next one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scanward.commands import FIELDS, Command, Kind, Mode
from scanward.errors import LearningError
from scanward.layers.form import DeviceProfile, FieldProfile, FormLayer, TypeProfile
from scanward.layers.limits import DeviceLimits, LimitsLayer, region_told, youngest
from scanward.layers.ranges import acquisition_type, folded, number_of
from scanward.layers.reference import DoseFigure, notification_values

# A field is required when at most one command in 200 of its type lacks it.
REQUIRED_SHARE = 0.995

# Hardware maxima. One tube has one largest current, by whatever name a record tells of it.
_CURRENTS = (
    "XRayTubeCurrentInmA",
    "XRayTubeCurrentInmASourceB",
    "MaximumXRayTubeCurrent",
    "MaximumXRayTubeCurrentSourceB",
    "AECMaximumTubeCurrent",
)
_MAXIMA = (
    "KVP",
    "KVPSourceB",
    "RevolutionTime",
    "SpiralPitchFactor",
    "TotalCollimationWidth",
    "TableFeedPerRotation",
    "TableSpeed",
)
# A default notification value that more of a site's own recordings exceed than this is not that site's value.
NOTIFIED_SHARE = 0.001
MOST_RAISED = 3.0  # times the default; above it, the site itself must set the value


def clinical(commands: Iterable[Command]) -> list[Command]:
    """QA and service commands stay out of clinical fitting (DESIGN.md section 4)."""
    kept = [c for c in commands if c.mode is Mode.CLINICAL]
    if not kept:
        raise LearningError(
            "no clinical command to learn from", "the recordings", "add recordings, or check their mode"
        )
    return kept


def by_device(commands: Sequence[Command]) -> dict[str, list[Command]]:
    """Commands of each device model, in the order of the models' keys."""
    groups: dict[str, list[Command]] = defaultdict(list)
    for command in commands:
        groups[command.device.key].append(command)
    return {key: groups[key] for key in sorted(groups)}


def by_type(commands: Sequence[Command]) -> dict[str, list[Command]]:
    """Commands of each acquisition type ("" where none is given)."""
    groups: dict[str, list[Command]] = defaultdict(list)
    for command in commands:
        groups[acquisition_type(command)].append(command)
    return {key: groups[key] for key in sorted(groups)}


def learn_form(commands: Iterable[Command]) -> FormLayer:
    """The form layer of the devices in ``commands``; LearningError when there is no clinical command."""
    kept = clinical(commands)
    devices: dict[str, DeviceProfile] = {}
    for key, group in by_device(kept).items():
        kinds = _kinds(group)
        types = {kind: _profile(rows, kinds) for kind, rows in by_type(group).items()}
        software = tuple(sorted({c.device.software for c in group if c.device.software}))
        devices[key] = DeviceProfile(types, _profile(group, kinds), software)
    return FormLayer(devices, tuple(sorted({c.role.value for c in kept})))


def learn_limits(commands: Iterable[Command], jurisdiction: str = "US") -> LimitsLayer:
    """The limits layer of the devices in ``commands``; LearningError when there is no clinical command.

    Maxima and floors are the device's; notification values are the published defaults, raised (with a
    note, to be reviewed) where more than ``NOTIFIED_SHARE`` of the site's own recordings exceed one.
    """
    kept = clinical(commands)
    devices = {key: _limits(group) for key, group in by_device(kept).items()}
    defaults = LimitsLayer(devices, jurisdiction=jurisdiction)
    doses: dict[DoseFigure, list[float]] = defaultdict(list)
    for command in kept:
        dose, phantom = (
            number_of(command.parameters.get("CTDIvol")),
            command.parameters.get("CTDIwPhantomType"),
        )
        if dose is None or not isinstance(phantom, str):
            continue
        figure = defaults.notification(region_told(command), phantom, youngest(command))
        if figure is not None:
            doses[figure].append(dose)
    figures, notes = [], []
    for figure in notification_values():
        raised, note = _raised(figure, doses.get(figure, []))
        figures.append(raised)
        notes += [note] if note else []
    return LimitsLayer(devices, tuple(figures), jurisdiction=jurisdiction, notes=tuple(notes))


def _raised(figure: DoseFigure, doses: Sequence[float]) -> tuple[DoseFigure, str]:
    value = figure.ctdivol
    if value is None or not doses:
        return figure, ""
    above = sum(dose > value for dose in doses)
    if above <= NOTIFIED_SHARE * len(doses):
        return figure, ""
    ordered = sorted(doses)
    usual = (1.1 + 1.0 / math.sqrt(len(ordered))) * ordered[
        min(int((1 - NOTIFIED_SHARE) * len(ordered)), len(ordered) - 1)
    ]
    new = round(min(max(usual, value), MOST_RAISED * value), 1)
    who = f"{figure.region}, {figure.age_low:g} to {figure.age_high:g} years"
    why = f"{above} of {len(doses)} exceed it"
    note = f"notification value for {who} raised from {value:g} to {new:g} mGy: {why}"
    return replace(figure, ctdivol=new, source=f"{figure.source}; raised to the site's recordings"), note


def _limits(commands: Sequence[Command]) -> DeviceLimits:
    """Maxima over all acquisition types; floors of CTDIvol per type and phantom."""
    maxima: dict[str, float] = {}
    floors: dict[str, float] = {}
    units: dict[str, set[str]] = defaultdict(set)
    for row, command in enumerate(commands):
        unit = command.examination or f"command {row}"
        for name in (*_MAXIMA, *_CURRENTS):
            number = number_of(command.parameters.get(name))
            if number is None or not _possible(name, number):
                continue
            for named in _CURRENTS if name in _CURRENTS else (name,):
                maxima[named] = max(maxima.get(named, 0.0), number)
                units[named].add(unit)
        dose, phantom = (
            number_of(command.parameters.get("CTDIvol")),
            command.parameters.get("CTDIwPhantomType"),
        )
        if dose is not None and dose > 0 and isinstance(phantom, str):
            place = f"{acquisition_type(command)}|{folded(phantom)}"
            floors[place] = min(floors.get(place, math.inf), dose)
            units[place].add(unit)
    return DeviceLimits(
        {n: (maxima[n], len(units[n])) for n in sorted(maxima)},
        {n: (floors[n], len(units[n])) for n in sorted(floors)},
    )


def _kinds(commands: Sequence[Command]) -> dict[str, Kind]:
    """Kind of every parameter seen: from the dictionary, else what nearly all its values are."""
    numbers: Counter[str] = Counter()
    all_of: Counter[str] = Counter()
    for command in commands:
        for name, value in command.parameters.items():
            all_of[name] += 1
            numbers[name] += number_of(value) is not None
    kinds: dict[str, Kind] = {}
    for name, count in all_of.items():
        known = FIELDS.get(name)
        mostly = Kind.NUMBER if numbers[name] >= 0.95 * count else Kind.CATEGORY
        kinds[name] = known.kind if known else mostly
    return kinds


def _profile(commands: Sequence[Command], kinds: dict[str, Kind]) -> TypeProfile:
    present: Counter[str] = Counter()
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    # Commands of one examination repeat each other: what counts is in how many examinations a thing was seen.
    units: dict[str, set[str]] = defaultdict(set)
    categories: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    voltages: Counter[float] = Counter()
    for row, command in enumerate(commands):
        unit = command.examination or f"command {row}"
        for name, value in command.parameters.items():
            present[name] += 1
            number = number_of(value)
            if kinds[name] is Kind.CATEGORY:
                text = value if isinstance(value, str) else f"{value:g}"
                if text.strip() and text.lower() != "nan":
                    categories[name][folded(text)].add(unit)
                    units[name].add(unit)
            elif number is not None and _possible(name, number):
                units[name].add(unit)
                lows[name] = min(lows.get(name, math.inf), number)
                highs[name] = max(highs.get(name, -math.inf), number)
                if name == "KVP":
                    voltages[number] += 1
    fields = {n: FieldProfile(Kind.NUMBER, len(units[n]), lows[n], highs[n]) for n in sorted(lows)}
    for name in sorted(categories):
        seen = {value: len(of) for value, of in sorted(categories[name].items())}
        fields[name] = FieldProfile(Kind.CATEGORY, len(units[name]), values=seen)
    count = len(commands)
    missing = {n: count - present[n] for n in sorted(present) if present[n] >= REQUIRED_SHARE * count}
    return TypeProfile(count, fields, missing, tuple(sorted(voltages)))


def _possible(name: str, number: float) -> bool:
    known = FIELDS.get(name)
    return known is None or known.low is None or known.high is None or known.low <= number <= known.high
