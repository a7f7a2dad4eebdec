"""What dose reports say was delivered, for a guard that keeps accounts. Pure.

A report comes after the scan, from the network. So it may only *raise* what the guard holds as delivered: a forged
report that says less changes nothing, one that says more makes the guard stricter.
"""

from __future__ import annotations

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
        ctdivol, dlp = command.number("CTDIvol") or 0.0, command.number("DLP") or 0.0
        if command.mode is not Mode.CLINICAL or command.examination is None or not (ctdivol > 0 or dlp > 0):
            continue
        phantom = _PHANTOMS.get(" ".join((command.text("CTDIwPhantomType") or "").split()).casefold(), 0)
        one = Delivered(command.examination, ctdivol, dlp, phantom, command.event or "")
        key = one.event or f"#{number}"
        before = found.get(key)
        if before is None or (one.ctdivol, one.dlp) > (before.ctdivol, before.dlp):
            found[key] = one
    return tuple(found.values())


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
