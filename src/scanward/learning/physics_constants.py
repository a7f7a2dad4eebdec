"""Learn which identities a device holds, on what its constants depend, and how far they stray.

For each device model and acquisition type, for each identity of `layers/identities.py`:

1. every row gives an interval of the statistic (rounding of measured figures, learned per field);
2. the key starts from tube voltage and phantom (doses) or nothing, and takes the field that explains most of
   the spread as long as one does (collimation, filter, focal spot, pitch, any site parameter of few values);
3. each cell's constant is a weighted median; its tolerance the largest excess beyond rounding among its rows,
   with a margin. Up to 5 % odd rows are left out of that; a cell that strays further is recorded as not
   holding;
4. of alternatives (Exposure with or without pitch) the one that strays least is kept.

An identity whose spread in training is above 5 % is dropped and reported: it would only cry wolf.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanward.commands import FIELDS, Command, Value
from scanward.layers.identities import IDENTITIES, RANGE, Identity, Learned
from scanward.layers.physics import PhysicsLayer
from scanward.layers.ranges import number_of, token
from scanward.learning.device_profile import by_device, by_type, clinical

# Figures that a device computes or measures and then rounds; settings from a list are exact.
MEASURED = (
    "CTDIvol",
    "DLP",
    "XRayTubeCurrentInmA",
    "MaximumXRayTubeCurrent",
    "MinimumXRayTubeCurrent",
    "Exposure",
    "ExposureTimeInms",
    "TableFeedPerRotation",
    "TableSpeed",
    "ScanLength",
)
ENOUGH = 3  # examinations (rows, where examinations are unknown) of a cell
ODD_SHARE = 0.05  # rows that may be odd before a cell is said not to hold
ODD_LOG = 0.10  # a row this far off (10 %) and far outside the others' spread is odd
DROP_LOG = 0.05  # spread in training above which an identity is dropped
MARGIN = 1.5  # on the largest excess seen
LEAST_LOG = 0.01  # tolerance is never narrower than 1 %
LEAST_OFFSET_MM = 3.0
FEW_EXAMINATIONS = 10  # with fewer than this, rows are taken for witnesses after all
FEW_LOG = 0.10  # divided by the number of examinations: what few cannot tell
_SELECTION_ROWS = 4000
_MOST_LEVELS = 4
_MOST_VALUES = 64

_KEY_CANDIDATES = (
    "TotalCollimationWidth",
    "FilterType",
    "FocalSpots",
    "SingleCollimationWidth",
    "DataCollectionDiameter",
    "SpiralPitchFactor",
    "RevolutionTime",
    "KVPSourceB",
    "NumberOfXRaySources",
    "ExposureModulationType",
    "SliceThickness",
)
_DOSE_KEY = ("FilterType", "TotalCollimationWidth", "FocalSpots")
_RANGE_KEY = (
    "SpiralPitchFactor",
    "TotalCollimationWidth",
)  # over-range: turns at both ends
_NEVER_KEY = frozenset({"AcquisitionType", "PatientPosition", "ContrastBolusAgent", "ConvolutionKernel"})

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class _Rows:
    """Rows on which a statistic exists: its interval, middle, and the commands' positions."""

    low: Floats
    high: Floats
    index: NDArray[np.int64]
    share_zero: float
    size: float  # a typical length for offsets, 1 for ratios

    @property
    def middle(self) -> Floats:
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class _Fit:
    learned: Learned
    spread: float  # 95 % of rows stray less than this, in log (ratio) or share of the length (offset)
    rows: int


def learn_physics(commands: Iterable[Command]) -> PhysicsLayer:
    """The physics layer of the devices in ``commands``; LearningError when there is no clinical command.

    Deterministic; a few per cent of odd rows change no constant by more than rounding.
    """
    learned: dict[str, dict[str, tuple[Learned, ...]]] = {}
    dropped: list[str] = []
    for device, group in by_device(clinical(commands)).items():
        halves = _halves(group)
        learned[device] = {}
        for kind, rows in by_type(group).items():
            kept, lost = _learn_type(rows, halves)
            learned[device][kind] = kept
            dropped += [f"{device} {kind or 'any type'}: {text}" for text in lost]
    return PhysicsLayer(learned, tuple(dropped))


def _learn_type(
    commands: Sequence[Command], halves: dict[str, float]
) -> tuple[tuple[Learned, ...], list[str]]:
    columns = _columns(commands)
    keys = _Keys(commands)
    groups: dict[str, list[tuple[Identity, _Rows, _Fit | None]]] = defaultdict(list)
    for identity in IDENTITIES:
        rows = _statistics(identity, columns, halves)
        if len(rows.index) >= ENOUGH:
            groups[identity.group].append((identity, rows, _fit(identity, rows, keys, halves)))
    kept: list[Learned] = []
    lost: list[str] = []
    for group, tried in groups.items():
        most = max(len(rows.index) for _, rows, _ in tried)
        fits = [fit for _, rows, fit in tried if fit is not None and len(rows.index) >= 0.8 * most]
        if fits:
            # within a fifth of a per cent the earlier alternative, the better physics, is kept
            best = min(fit.spread for fit in fits)
            kept.append(next(fit for fit in fits if fit.spread <= best + 0.002).learned)
        else:
            lost.append(f"{group} does not hold ({most} rows)")
    return tuple(kept), lost


def _columns(commands: Sequence[Command]) -> dict[str, Floats]:
    """Every numeric field the identities speak of: float64 (n,), NaN where missing."""
    names = {name for identity in IDENTITIES for name in identity.fields}
    columns = {name: np.full(len(commands), np.nan) for name in sorted(names)}
    for row, command in enumerate(commands):
        for name, value in command.parameters.items():
            if name in names:
                number = number_of(value)
                if number is not None:
                    columns[name][row] = number
    return columns


def _halves(commands: Sequence[Command]) -> dict[str, float]:
    """Half a rounding step of each measured field; 0 when it is not rounded to 4 decimals or fewer."""
    halves: dict[str, float] = {}
    for name in MEASURED:
        found = (number_of(c.parameters.get(name)) for c in commands)
        values = np.array([v for v in found if v is not None])
        if len(values) == 0:
            continue
        for decimals in range(5):
            scaled = values * 10.0**decimals
            if np.mean(np.abs(scaled - np.round(scaled)) <= 1e-6 * np.maximum(1.0, np.abs(scaled))) >= 0.995:
                halves[name] = 0.5 * 10.0**-decimals
                break
    return halves


def _statistics(identity: Identity, columns: dict[str, Floats], halves: dict[str, float]) -> _Rows:
    """The same interval arithmetic as the layer's, over all rows; ratios in log."""
    names = [name for name, _ in identity.terms]
    there = np.all([np.isfinite(columns[n]) for n in names], axis=0)
    minus = _minus(identity, columns)
    there &= np.isfinite(minus)
    positive = there & np.all([columns[n] > 0 for n in names], axis=0)
    if identity.minus:
        positive &= minus >= 0
    low, high = np.ones(len(there)), np.ones(len(there))
    with np.errstate(all="ignore"):
        for name, exponent in identity.terms:
            half = halves.get(name, 0.0)
            least, most = np.maximum(columns[name] - half, 0.0), columns[name] + half
            low, high = (low * least, high * most) if exponent > 0 else (low / most, high / least)
        if identity.minus:
            half = halves.get(identity.minus, 0.0)
            low = low * identity.scale - (minus + half) / identity.per
            high = high * identity.scale - (minus - half) / identity.per
        else:
            low, high = np.log(low), np.log(high)
    usable = np.flatnonzero(positive & np.isfinite(low) & np.isfinite(high))
    zeros = float(there.sum() - positive.sum()) / max(int(there.sum()), 1)
    size = 1.0
    if identity.minus and len(usable):
        size = max(float(np.median(minus[usable])) / identity.per, 20.0 / identity.per)
    return _Rows(low[usable], high[usable], usable, zeros, size)


def _minus(identity: Identity, columns: dict[str, Floats]) -> Floats:
    if identity.minus == RANGE:
        return np.abs(columns["AcquisitionEndLocation"] - columns["AcquisitionStartLocation"])
    if identity.minus:
        return columns[identity.minus]
    return np.zeros(len(next(iter(columns.values()))))


class _Keys:
    """Key values of the commands, coded once per field."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        names = {c.examination or f"command {row}": 0 for row, c in enumerate(commands)}
        codes = {name: code for code, name in enumerate(names)}
        self.units = np.array([codes[c.examination or f"command {r}"] for r, c in enumerate(commands)])
        if len(names) < FEW_EXAMINATIONS:
            self.units = np.arange(len(commands))
        self._coded: dict[str, tuple[Codes, list[Value | None]]] = {}
        self.candidates = self._candidates()

    def coded(self, name: str) -> tuple[Codes, list[Value | None]]:
        """(n,) codes and the values they stand for."""
        if name not in self._coded:
            values: dict[Value | None, int] = {}
            codes = np.empty(len(self._commands), np.int64)
            for row, command in enumerate(self._commands):
                codes[row] = values.setdefault(token(command.parameters.get(name)), len(values))
            self._coded[name] = (codes, list(values))
        return self._coded[name]

    def _candidates(self) -> tuple[str, ...]:
        """The dictionary's, and site parameters: any category or number of few values."""
        seen = sorted({name for command in self._commands for name in command.parameters})
        sites = [n for n in seen if n not in FIELDS and n not in _NEVER_KEY]
        names = [n for n in (*_KEY_CANDIDATES, *sites) if n in seen]
        return tuple(n for n in names if 2 <= len(self.coded(n)[1]) <= _MOST_VALUES)


def _fit(identity: Identity, rows: _Rows, keys: _Keys, halves: dict[str, float]) -> _Fit | None:
    if identity.upper_only:
        # an order: rounding and AEC overshoot may pass it by a little, which is learned too
        high = math.exp(max(0.03, 1.02 * float(np.quantile(rows.low, 0.999))))
        if high > 1.25:
            return None
        bound = Learned(identity.name, (), 0, {(): (0.0, high)}, halves, rows.share_zero > 0.001)
        return _Fit(bound, 0.0, len(rows.index))
    base = ("KVP", "CTDIwPhantomType") if identity.dose else ()
    chosen = _levels(identity, rows, keys, base)
    # what a dose or an over-range is known to depend on stays in the key even where training shows no need: a
    # combination never recorded is then judged by a coarser constant, and more widely
    depends = _DOSE_KEY if identity.dose else _RANGE_KEY if identity.is_offset else ()
    known = tuple(n for n in depends if n not in chosen and n in keys.candidates)
    levels = (*chosen, *known)
    cells: dict[tuple[Value | None, ...], tuple[float, float] | None] = {}
    strays = np.full(len(rows.index), np.inf)
    valid = 0
    for depth in range(len(base), len(levels) + 1):
        for key, members in _cells(levels[:depth], keys, rows.index):
            # scans of one examination repeat one protocol: they are one witness
            units = len(np.unique(keys.units[rows.index[members]]))
            if units < ENOUGH:
                continue
            cell, excess = _cell(identity, rows, members, units)
            cells[key] = cell
            if cell is not None:
                strays[members] = excess
                valid += len(members) if depth == len(levels) else 0
            elif depth == len(levels):
                strays[members] = np.inf
    _withdraw_parents(cells, len(base))
    _widen_only_children(cells, len(base))
    held = np.isfinite(strays)
    if not any(cells.values()) or float(np.mean(held)) < 0.2:
        return None
    learned = Learned(identity.name, levels, len(base), cells, halves, rows.share_zero > 0.001)
    # rows left without a constant count against an alternative
    spread = float(np.quantile(strays[held], 0.95)) / rows.size + 0.05 * float(np.mean(~held))
    # nor does an alternative win by a key that another does without
    spread += 0.003 * (len(chosen) - len(base))
    return _Fit(learned, spread, len(rows.index))


def _withdraw_parents(cells: dict[tuple[Value | None, ...], tuple[float, float] | None], base: int) -> None:
    """A coarser constant stands in for keys never seen: not where it would be wrong for a key that was.

    A pitch used in one scan of thirty looks like odd rows among the others until it has a cell of its own.
    """
    for key in sorted(cells, key=len, reverse=True):
        child = cells[key]
        if child is None or len(key) <= base:
            continue
        for shorter in range(len(key) - 1, base - 1, -1):
            parent = cells.get(key[:shorter])
            if parent is not None and (child[0] > parent[1] or child[1] < parent[0]):
                cells[key[:shorter]] = None


def _widen_only_children(
    cells: dict[tuple[Value | None, ...], tuple[float, float] | None], base: int
) -> None:
    """A coarser constant that rests on one finer key alone knows nothing of another: there it is as wide as all are.

    A pitch that was only ever used with the narrow beam does not tell the over-range of the wide one.
    """
    finest = max(map(len, cells), default=0)
    whole: dict[tuple[Value | None, ...], tuple[float, float]] = {}
    for key, cell in cells.items():
        if len(key) == finest and cell is not None:
            low, high = whole.get(key[:base], cell)
            whole[key[:base]] = min(low, cell[0]), max(high, cell[1])
    children = Counter(key[:-1] for key in cells if len(key) > base)
    for key, cell in list(cells.items()):
        if len(key) < finest and cell is not None and children[key] == 1 and key[:base] in whole:
            low, high = whole[key[:base]]
            cells[key] = min(low, cell[0]), max(high, cell[1])


def _levels(identity: Identity, rows: _Rows, keys: _Keys, base: tuple[str, ...]) -> tuple[str, ...]:
    """Greedy: the field that explains most of the spread, while there is spread to explain."""
    step = max(1, len(rows.index) // _SELECTION_ROWS)
    pick = np.arange(0, len(rows.index), step)
    index, middle = rows.index[pick], rows.middle[pick]
    half = (rows.high - rows.low)[pick] / 2
    levels = base
    spread = _unexplained(levels, keys, index, middle, half)
    aim = LEAST_LOG / 2 if not identity.is_offset else LEAST_OFFSET_MM / 2 / identity.per
    taken = {name for name, _ in identity.terms} if not identity.is_offset else {"CTDIvol", "DLP"}
    exact = {"SpiralPitchFactor", "RevolutionTime", "TotalCollimationWidth"}
    candidates = [n for n in keys.candidates if n not in taken - exact]
    while spread[0] > aim and len(levels) < len(base) + _MOST_LEVELS:
        scored = [
            (_unexplained((*levels, n), keys, index, middle, half), i)
            for i, n in enumerate(candidates)
            if n not in levels
        ]
        if not scored:
            break
        best, which = min(scored, key=lambda s: (s[0][1], s[1]))
        if best[1] > 0.8 * spread[1]:
            break
        levels, spread = (*levels, candidates[which]), best
    return levels


def _unexplained(
    levels: tuple[str, ...], keys: _Keys, index: NDArray[np.int64], middle: Floats, half: Floats
) -> tuple[float, float]:
    """How far rows stray from their cell's median (the whole's, where a cell is sparse): 90 %, mean.

    The mean says which field helps when it takes several of them to settle the tail.
    """
    stray = np.abs(middle - np.median(middle))
    for _, members in _cells(levels, keys, index):
        if len(members) >= ENOUGH:
            stray[members] = np.abs(middle[members] - np.median(middle[members]))
    excess = np.maximum(stray - half, 0.0)
    return float(np.quantile(excess, 0.9)), float(np.mean(np.minimum(excess, 50.0)))


def _cells(
    levels: tuple[str, ...], keys: _Keys, index: NDArray[np.int64]
) -> list[tuple[tuple[Value | None, ...], NDArray[np.int64]]]:
    """Key -> positions in ``index``, in the order of first appearance."""
    if not levels:
        return [((), np.arange(len(index)))]
    coded = [keys.coded(name) for name in levels]
    table = np.stack([codes[index] for codes, _ in coded], axis=1)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(inverse.reshape(-1), minlength=len(unique)))
    parts = np.split(order, ends[:-1])
    return [
        (tuple(values[code] for code, (_, values) in zip(row, coded, strict=True)), part)
        for row, part in zip(unique, parts, strict=True)
    ]


def _cell(
    identity: Identity, rows: _Rows, members: NDArray[np.int64], units: int
) -> tuple[tuple[float, float] | None, Floats]:
    """The cell's interval (None when it does not hold) and how far each row strays beyond rounding."""
    low, high = rows.low[members], rows.high[members]
    per = identity.per if identity.is_offset else 1.0
    least = LEAST_OFFSET_MM / per if identity.is_offset else LEAST_LOG
    odd_at = max(30.0 / per, 0.1 * rows.size) if identity.is_offset else ODD_LOG
    allowed = max(least, DROP_LOG * rows.size) if identity.is_offset else DROP_LOG
    centre = _weighted_median((low + high) / 2, 1.0 / (0.2 * least + (high - low)))
    excess = np.maximum(np.maximum(low - centre, centre - high), 0.0)
    usual = float(np.quantile(excess, 1.0 - 2 * ODD_SHARE))
    odd = excess > max(odd_at, 6.0 * usual)
    if np.mean(odd) > ODD_SHARE or float(np.quantile(excess[~odd], 0.95)) > allowed:
        return None, excess
    few = (FEW_LOG * (rows.size if identity.is_offset else 1.0)) / units
    tolerance = MARGIN * float(excess[~odd].max()) + least + few
    if identity.is_offset:
        return (centre - tolerance, centre + tolerance), excess
    return (math.exp(centre - tolerance), math.exp(centre + tolerance)), excess


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(total, 0.5 * total[-1]))])


__all__ = ["MEASURED", "learn_physics"]
