"""Enhanced X-Ray Radiation Dose reports (TID 10040): events and techniques are apart, and joined by time.

TID 10042 (one container for each event and source, or for several sources together: "1 and 2") carries the
event's identity, times, type and dose. TID 10043 describes the irradiation independently of events, in spans
of time for each source; its techniques (10045) and filtrations (10046) belong to the events that they
overlap. Geometry (10047-10052) says nothing that a CT command has a word for and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from scanward.codecs import rdsr_concepts as concept
from scanward.codecs.rdsr_draft import Draft, EventRejected
from scanward.codecs.rdsr_events import read_filters, read_number, read_text
from scanward.codecs.rdsr_units import UnitError, convert
from scanward.codecs.sr_tree import Item
from scanward.codecs.values import parse_moment

_COMPUTED_TOMOGRAPHY = ("SRT:P5-08000", "SCT:77477000")
_FIELDS_OF_B = ("KVP", "XRayTubeCurrentInmA", "MaximumXRayTubeCurrent", "RevolutionTime")


@dataclass(slots=True)
class Summary:
    """The TID 10042 containers of one irradiation event."""

    uid: str
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Span:
    begin: float | None
    end: float | None
    source: str

    def overlaps(self, other: _Span) -> bool:
        if self.begin is None or self.end is None or other.begin is None or other.end is None:
            return True  # a report without times: everything belongs to everything
        shared = min(self.end, other.end) - max(self.begin, other.begin)
        momentary = self.begin == self.end or other.begin == other.end
        return shared > 0 or (shared == 0 and momentary)


def summaries(root: Item) -> list[Summary]:
    """The events of a report, in document order, each with all its containers."""
    found: dict[str, Summary] = {}
    for item in root.walk(skip=frozenset((concept.EVENT_SUMMARY,))):
        if item.name.key == concept.EVENT_SUMMARY:
            named = item.find(concept.EVENT_UID)
            uid = named.text if named else ""
            found.setdefault(uid or f"#{len(found)}", Summary(uid)).items.append(item)
    return list(found.values())


def read_summary(event: Summary, root: Item, draft: Draft) -> None:
    """Fill ``draft`` from one event and the techniques that overlap it. EventRejected when it is not CT."""
    spans = [_span(item, None) for item in event.items]
    begins = [span.begin for span in spans if span.begin is not None]
    ends = [span.end for span in spans if span.end is not None]
    for item in event.items:
        for part in item.walk():
            if part.kind == "NUM":
                read_number(part, draft)
            else:
                read_text(part, draft)
    draft.started = min(begins, default=None)
    sources = sorted({name for span in spans for name in _names(span.source)})
    whole = _Span(draft.started, max(ends, default=None), "")
    _read_techniques(root, whole, sources, draft)
    is_ct = (
        "CTDIvol" in draft.parameters or "DLP" in draft.parameters or "AcquisitionType" in draft.parameters
    )
    if not is_ct and not any(i.code.key in _COMPUTED_TOMOGRAPHY for i in root.children):
        raise EventRejected("not an event of computed tomography")


def _read_techniques(root: Item, event: _Span, sources: list[str], draft: Draft) -> None:
    numbers: dict[tuple[str, str], list[float]] = {}
    filters = []
    for item, span in _spans(root):
        named = set(_names(span.source))
        if not span.overlaps(event) or (sources and named and named.isdisjoint(sources)):
            continue
        if item.name.key == concept.FILTRATION:
            filters.append(item)
            continue
        for name, value in _measured(item):
            for source in named or {""}:
                numbers.setdefault((source, name), []).append(value)
    tubes = sorted({source for source, _ in numbers})
    if len(tubes) > 2:
        draft.notes.append(f"{len(tubes)} X-ray sources: only the first two have fields")
    for place, tube in enumerate(tubes[:2]):
        for (source, name), found in numbers.items():
            if source != tube or (place == 1 and name not in _FIELDS_OF_B):
                continue
            full_name = name + "SourceB" * place
            if len(set(found)) == 1:
                draft.set_number(full_name, found[0])
            elif found:
                draft.several[full_name] = tuple(found)
    count = max(len(tubes), len(sources))
    if count and "NumberOfXRaySources" not in draft.parameters:
        draft.parameters["NumberOfXRaySources"] = float(count)
    read_filters(filters, draft)


def _measured(technique: Item) -> Iterator[tuple[str, float]]:
    """Numbers of a technique, whether single (NUM) or as they ran (a column of a TABLE)."""
    for item in technique.walk():
        if item.kind == "NUM" and item.name.key in concept.SOURCE_NUMBERS:
            aside = Draft(0)
            aside.take(item, *concept.SOURCE_NUMBERS[item.name.key])
            for name, value in aside.parameters.items():
                if isinstance(value, float):
                    yield name, value
            for name, several in aside.several.items():
                yield from ((name, value) for value in several)
        for column in item.columns:
            if column.name.key not in concept.SOURCE_NUMBERS:
                continue
            name, unit = concept.SOURCE_NUMBERS[column.name.key]
            aside = Draft(0)
            for number in column.numbers:
                try:
                    value = convert(number, column.unit, unit)
                except UnitError as error:
                    raise EventRejected(f"{name}: {error}") from error
                aside.parameters.clear()
                aside.set_number(name, value)  # for its checks
                yield name, value


def _spans(root: Item) -> Iterator[tuple[Item, _Span]]:
    """Techniques and filtrations with their times; those of the enclosing details where they have none."""
    inner = frozenset((concept.TECHNIQUE, concept.FILTRATION))
    for details in root.walk(skip=frozenset((concept.IRRADIATION_DETAILS, concept.EVENT_SUMMARY))):
        if details.name.key == concept.IRRADIATION_DETAILS:
            outer = _span(details, None)
            for item in details.walk(skip=inner):
                if item.name.key in inner:
                    yield item, _span(item, outer)


def _span(item: Item, outer: _Span | None) -> _Span:
    begin, end, source = (item.find(k) for k in (concept.STARTED, concept.ENDED, concept.SOURCE_ID))
    return _Span(
        parse_moment(begin.text) if begin else (outer.begin if outer else None),
        parse_moment(end.text) if end else (outer.end if outer else None),
        source.text if source else "",
    )


def _names(source: str) -> list[str]:
    """``1 and 2`` names two sources."""
    return [name for name in re.split(r"\s*(?:,|&|\+|/|\band\b)\s*|\s+", source.strip()) if name]
