"""The examination in progress, as screens are shown it: whose it is, what for, and its dose against the caps. Pure.

What names a patient (``label``) goes to screens and nowhere else: nothing here is recorded, and no hold holds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanward.commands import PATIENT_FIELDS, Command, Context, Mode, Source, Told, Value
from scanward.commands.wire import Load
from scanward.config import CONTROL_BOUNDS, ControlBounds
from scanward.errors import LinkError
from scanward.guard.core import GateCore
from scanward.guard.events import Caps, Finding
from scanward.guard.ledger import Ledger, repeated
from scanward.guard.objections import clipped
from scanward.guard.policy import Policy, informed, youngest

OBJECTIVE = ("BodyPartExamined", "RequestedProcedureDescription", "ProtocolName")
LABELS = ("AccessionNumber", "PatientName", "PatientID")
_TOLD_EACH = 8  # different values of one part that are shown; an honest one has two


@dataclass(frozen=True)
class Course:
    """What is known of the examination that the host loaded last.

    Attributes
    ----------
    left : tuple of (Finding, int), or None
        What is loaded and not given yet: each element with the times it may still be triggered, and once more what is
        under way; None while it is not judged.
    ledgers : sequence of Ledger
        Of examination and patient: what was delivered before.
    parts : mapping
        What the guard's own sources say, in the shape of a context.
    label : mapping
        Of the names in ``LABELS`` those that are known, in clear; ``label_source`` says who told them.
    """

    load: Load
    mode: Mode
    left: tuple[tuple[Finding, int], ...] | None
    ledgers: Sequence[Ledger]
    parts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    label: Mapping[str, str] = field(default_factory=dict, repr=False)
    label_source: str = ""


class Names:
    """Who examinations are of, in clear, in memory alone: what the worklist said, else what the host did.

    ``reveal`` gives the original of a hashed identifier (`links.identifiers`); None: the host's word is not shown.
    """

    def __init__(self, bounds: ControlBounds = CONTROL_BOUNDS) -> None:
        self.reveal: Callable[[str], str] | None = None
        self._most = bounds.labels
        self._labels: OrderedDict[str, dict[str, str]] = OrderedDict()

    def told(self, examination: str, label: Mapping[str, str]) -> None:
        """What the worklist said of an examination."""
        self._labels[examination] = dict(label)
        self._labels.move_to_end(examination)
        while len(self._labels) > self._most:
            self._labels.popitem(last=False)

    def of(self, load: Load) -> tuple[dict[str, str], str]:
        """The names of a load, and who told them."""
        label = self._labels.get(load.examination) if load.examination else None
        if label:
            return label, Source.WORKLIST.value
        try:
            told = self.reveal(load.patient) if self.reveal is not None and load.patient else ""
        except LinkError:
            told = ""  # said long ago
        return ({"PatientID": told}, Source.HOST.value) if told else ({}, "")

    def forget(self) -> None:
        """Know nobody any more."""
        self._labels.clear()


def course_of(
    gate: GateCore, parts: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], names: Names
) -> Course | None:
    """The course of the load that came last; None when there is none. ``parts`` are by examination."""
    load = gate.latest
    if load is None:
        return None
    left: list[tuple[Finding, int]] | None = []
    head = next((item for item in gate.queue if item.load is load), None)
    armed = gate.armed
    if head is not None:
        left = [(f, load.triggers) for f in head.findings] if head.findings else None
    elif armed is not None and armed.load is load:
        left = [(f, load.triggers - used) for f, used in zip(armed.findings, armed.used, strict=False)]
    if gate.beam is not None and left is not None:
        shot = gate.beam
        under_way = shot.armed.findings[shot.trigger.element : shot.trigger.element + 1]
        left.extend((finding, 1) for finding in under_way)
    return Course(
        load,
        gate.mode,
        None if left is None else tuple((f, n) for f, n in left if n > 0),
        gate.ledgers_of(load),
        parts.get(load.examination, {}),
        *names.of(load),
    )


def shown(course: Course, policy: Policy, bounds: ControlBounds = CONTROL_BOUNDS) -> dict[str, Any]:
    """The ``examination`` event of docs/control.md. Every text of it is bounded."""
    context = _context(course)
    disagree = context.disagreements()
    alert, absolute = policy.caps(course.mode, youngest(Command({}, context)))
    return {
        "examination": course.load.examination,
        "label": {n: clipped(course.label[n], bounds) for n in LABELS if course.label.get(n)},
        "label_source": course.label_source if any(course.label.get(n) for n in LABELS) else "",
        "objective": {n: clipped(context.get(n), bounds) for n in OBJECTIVE if context.get(n) is not None},
        "patient": {n: _told(context.parts[n], bounds) for n in PATIENT_FIELDS if n in context.parts},
        "told": {n: _told(context.parts[n], bounds) for n in OBJECTIVE if n in context.parts},
        "disagree": sorted(n for n in disagree if n in (*PATIENT_FIELDS, *OBJECTIVE, *LABELS)),
        "dose": list(_doses(course, alert, absolute)),
        "sent": max((len(ledger.sent) for ledger in course.ledgers), default=0),
    }


def _context(course: Course) -> Context:
    """Everything that anybody told of the load: the guard's own sources first, each value of a source once."""
    parts: dict[str, list[Told]] = {}
    for element in informed(course.load, course.parts).chain:
        for name, said in element.command.context.parts.items():
            parts.setdefault(name, []).extend(said)
    own_first = {n: sorted(told, key=lambda t: t.source is Source.HOST) for n, told in parts.items()}
    return Context({name: tuple(dict.fromkeys(told)) for name, told in own_first.items() if told})


def _told(told: Sequence[Told], bounds: ControlBounds) -> list[dict[str, Value | None]]:
    return [{"value": clipped(t.value, bounds), "source": t.source.value} for t in told[:_TOLD_EACH]]


def _doses(course: Course, alert: Caps, absolute: Caps) -> Iterator[dict[str, Any]]:
    """One row for each phantom that was dosed, or will be. Of two accounts the larger: that one meets the cap first."""
    left = course.left or ()
    phantoms = {finding.forecast.phantom for finding, _ in left}
    for ledger in course.ledgers:
        phantoms |= {*ledger.dlp, *ledger.ctdivol, *ledger.everywhere}
    for phantom in sorted(phantoms):
        own = [(f, n) for f, n in left if f.forecast.phantom == phantom]
        ahead = [_ahead(ledger, phantom, own) for ledger in course.ledgers]
        judged = course.left is not None
        yield {
            "phantom": phantom,
            "ctdivol": max((ledger.peak(phantom) for ledger in course.ledgers), default=0.0),
            "dlp": max((ledger.dlp.get(phantom, 0.0) for ledger in course.ledgers), default=0.0),
            "forecast_ctdivol": max((x.peak(phantom) for x in ahead), default=0.0) if judged else None,
            "forecast_dlp": max((x.dlp.get(phantom, 0.0) for x in ahead), default=0.0) if judged else None,
            "alert_ctdivol": _cap(alert.ctdivol, phantom),
            "alert_dlp": _cap(alert.dlp, phantom),
            "absolute_ctdivol": _cap(absolute.ctdivol, phantom),
            "absolute_dlp": _cap(absolute.dlp, phantom),
            **_nearest(own),
        }


def _cap(caps: Mapping[int, float], phantom: int) -> float | None:
    """The cap of a phantom; of one without a cap the lowest, as the gate compares (`Ledger.over`)."""
    return caps.get(phantom, min(caps.values(), default=None))


def _ahead(ledger: Ledger, phantom: int, own: Sequence[tuple[Finding, int]]) -> Ledger:
    """The account of one phantom once everything loaded was given."""
    made = Ledger(
        [],
        {phantom: dict(ledger.ctdivol.get(phantom, {}))},
        {phantom: ledger.everywhere.get(phantom, 0.0)},
        {phantom: ledger.dlp.get(phantom, 0.0)},
    )
    for finding, times in own:
        made.add(*repeated((finding.forecast,), times))
    return made


def _nearest(own: Sequence[tuple[Finding, int]]) -> dict[str, float | None]:
    """Forecast and notification value of the element that comes nearest to its own, else of the largest."""

    def share(finding: Finding) -> tuple[float, float]:
        dose, value = finding.forecast, finding.notification
        shares = [
            part / limit
            for part, limit in ((dose.ctdivol, value and value.ctdivol), (dose.dlp, value and value.dlp))
            if limit
        ]
        return max(shares, default=0.0), dose.ctdivol

    most = max((finding for finding, _ in own), key=share, default=None)
    value = most.notification if most else None
    return {
        "element_ctdivol": most.forecast.ctdivol if most else None,
        "element_dlp": most.forecast.dlp if most else None,
        "notification_ctdivol": value.ctdivol if value else None,
        "notification_dlp": value.dlp if value else None,
    }
