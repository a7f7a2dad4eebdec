"""What dose reports say was delivered, for a guard that keeps accounts. Pure.

A report comes after the scan, from the network. So it may only *raise* what the guard holds as delivered: a forged
report that says less changes nothing, one that says more makes the guard stricter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scanward.codecs.rdsr_draft import DoseReport
from scanward.commands import PHANTOM_DIAMETER_CM, Mode

_PHANTOMS = {" ".join(name.split()).casefold(): cm for name, cm in PHANTOM_DIAMETER_CM.items()}


@dataclass(frozen=True, slots=True)
class Delivered:
    """Dose of one irradiation event.

    Attributes
    ----------
    examination : str
        Keyed hash of Study Instance UID.
    ctdivol, dlp : float
        mGy and mGy.cm, 0.0 where the report tells none.
    phantom : int
        16 or 32 cm; 0 when it is not told: such a figure is compared with nothing by name.
    event : str
        Keyed hash of Irradiation Event UID, "" when there is none: cumulative reports repeat events.
    """

    examination: str
    ctdivol: float
    dlp: float
    phantom: int
    event: str = ""


def delivered(report: DoseReport) -> tuple[Delivered, ...]:
    """Every clinical event with a dose, each event once; nothing of QA, nor of a report without examination."""
    found: dict[str, Delivered] = {}
    for number, command in enumerate(report.commands):
        ctdivol, dlp = _figure(command.number("CTDIvol")), _figure(command.number("DLP"))
        if command.mode is not Mode.CLINICAL or command.examination is None or not (ctdivol > 0 or dlp > 0):
            continue
        phantom = _PHANTOMS.get(" ".join((command.text("CTDIwPhantomType") or "").split()).casefold(), 0)
        one = Delivered(command.examination, ctdivol, dlp, phantom, command.event or "")
        key = one.event or f"#{number}"
        before = found.get(key)
        if before is None or (one.ctdivol, one.dlp) > (before.ctdivol, before.dlp):
            found[key] = one
    return tuple(found.values())


def _figure(told: float | None) -> float:
    """A dose that is told; what is negative or no number takes nothing from what others tell."""
    return told if told is not None and told > 0 else 0.0


def totals(doses: Iterable[Delivered]) -> dict[tuple[str, int], tuple[float, float]]:
    """(examination, phantom) -> (largest CTDIvol of one event in mGy, sum of DLP in mGy.cm).

    CTDIvol of events at different places is not summed: where they overlap is not known from every report, and
    the largest is what one place has had at least.
    """
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for dose in doses:
        ctdivol, dlp = found.get((dose.examination, dose.phantom), (0.0, 0.0))
        found[dose.examination, dose.phantom] = max(ctdivol, dose.ctdivol), dlp + dose.dlp
    return found


def to_raise(
    told: Mapping[tuple[str, int], tuple[float, float]], held: Mapping[tuple[str, int], tuple[float, float]]
) -> tuple[Delivered, ...]:
    """What must be added to the accounts ``held`` so that they are nowhere below ``told``; never negative."""
    found = []
    for (examination, phantom), (ctdivol, dlp) in sorted(told.items()):
        has_ctdivol, has_dlp = held.get((examination, phantom), (0.0, 0.0))
        more = max(ctdivol - has_ctdivol, 0.0), max(dlp - has_dlp, 0.0)
        if any(figure > 0 for figure in more):
            found.append(Delivered(examination, *more, phantom))
    return tuple(found)


class Accounts:
    """What reports told of each examination so far, each irradiation event once; the oldest examinations go.

    An event that is told again counts with the larger of its figures. Events without UID are told apart by their
    figures and their number among equals in one report: a cumulative report repeats them, in its order.
    """

    def __init__(self, examinations: int, events: int) -> None:
        self._most, self._events = examinations, events
        self._told: OrderedDict[str, dict[tuple[str, int], Delivered]] = OrderedDict()

    def add(self, doses: Iterable[Delivered]) -> tuple[Delivered, ...]:
        """Count one report's doses; the new totals of each examination and phantom that it names."""
        named: set[str] = set()
        equals: dict[tuple[str, str], int] = {}
        for dose in doses:
            name = dose.event or f"{dose.ctdivol!r} {dose.dlp!r}"
            nth = 0
            if not dose.event:
                nth = equals[dose.examination, name] = equals.get((dose.examination, name), 0) + 1
            self._count(dose, (f"{name} {dose.phantom}", nth))
            named.add(dose.examination)
        return tuple(dose for examination in sorted(named) for dose in self._totals(examination))

    def _count(self, dose: Delivered, key: tuple[str, int]) -> None:
        events = self._told.setdefault(dose.examination, {})
        self._told.move_to_end(dose.examination)
        if len(self._told) > self._most:
            self._told.popitem(last=False)
        before = events.get(key)
        if before is not None:
            larger = max(before.ctdivol, dose.ctdivol), max(before.dlp, dose.dlp)
            dose = Delivered(dose.examination, *larger, dose.phantom, dose.event)
        elif len(events) >= self._events:  # counted all the same, though told again it counts again
            key = ("more", dose.phantom)
            before = events.get(key, Delivered(dose.examination, 0.0, 0.0, dose.phantom))
            figures = max(before.ctdivol, dose.ctdivol), before.dlp + dose.dlp
            dose = Delivered(dose.examination, *figures, dose.phantom)
        events[key] = dose

    def all(self) -> tuple[Delivered, ...]:
        """Totals of every examination, the one longest unheard of first."""
        return tuple(dose for examination in self._told for dose in self._totals(examination))

    def _totals(self, examination: str) -> tuple[Delivered, ...]:
        # Empty where this very report named more examinations than are kept.
        told = totals(self._told.get(examination, {}).values())
        return tuple(Delivered(e, *figures, phantom) for (e, phantom), figures in sorted(told.items()))
