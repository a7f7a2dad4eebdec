"""What a device was recorded doing: extremes, categories, required fields (form), maxima and floors (limits).

Nothing is fitted here. Odd rows are kept out of the extremes only where they are impossible (outside the form
range): a range that forgot a real large patient would halt the next one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from scanward.commands import FIELDS, Command, Kind, Mode
from scanward.errors import LearningError
from scanward.layers.form import DeviceProfile, FieldProfile, FormLayer, TypeProfile
from scanward.layers.ranges import acquisition_type, folded, number_of

# A field is required when at most one command in 200 of its type lacks it.
REQUIRED_SHARE = 0.995


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
