"""X-ray radiation dose reports -> commands. Pure: a data set in, one result for each irradiation event out.

Covers TID 10011-10015 in X-Ray Radiation Dose SR, Enhanced SR and Comprehensive SR, and the TID 10040 family
in Enhanced X-Ray Radiation Dose SR as far as ``rdsr_enhanced`` says. What is kept, converted and corrected:
``docs/recordings-dose-reports.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pydicom

from scanward.codecs import rdsr_concepts as concept
from scanward.codecs.dicom_files import items_of, open_dicom, text_of, unreadable_elements
from scanward.codecs.exposure_dose import decode_exposure_dose, is_exposure_dose
from scanward.codecs.qa import looks_like_qa
from scanward.codecs.rdsr_draft import Decoded, DoseReport, Draft, EventRejected
from scanward.codecs.rdsr_enhanced import read_summary, summaries
from scanward.codecs.rdsr_events import read_event
from scanward.codecs.rdsr_quirks import apply_quirks, quirk_notes
from scanward.codecs.sr_tree import Item, read_tree
from scanward.codecs.subject import Pseudonym, Subject, subject_of
from scanward.codecs.values import parse_moment
from scanward.commands import Command, Device, Mode, Origin, Role
from scanward.errors import DecodeError

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"
ENHANCED_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.76"
GENERAL_SR = ("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33")


def is_dose_report(ds: pydicom.Dataset) -> bool:
    """Whether ``ds`` is a radiation dose report: by its SOP class, or by the title of a general SR."""
    sop_class = text_of(ds, "SOPClassUID")
    if sop_class in (DOSE_SR, ENHANCED_DOSE_SR):
        return True
    if sop_class not in GENERAL_SR:
        return False
    title = next(items_of(ds, "ConceptNameCodeSequence"), None)
    return title is not None and text_of(title, "CodeValue") == concept.REPORT


def decode_dose_file(data: bytes | Path, *, path: str, pseudonym: Pseudonym) -> DoseReport:
    """Open and decode a dose report or a secondary capture with an Exposure Dose Sequence.

    Raises DecodeError for everything else, and for what cannot be read.
    """
    ds = open_dicom(data, name=path)
    if is_dose_report(ds):
        return decode_dose_report(ds, path=path, pseudonym=pseudonym)
    if is_exposure_dose(ds):
        return decode_exposure_dose(ds, path=path, pseudonym=pseudonym)
    raise DecodeError("not a dose report", path, "give X-Ray Radiation Dose SR objects")


def decode_dose_report(ds: pydicom.Dataset, *, path: str, pseudonym: Pseudonym) -> DoseReport:
    """All irradiation events of a report, in document order.

    Parameters
    ----------
    ds : Dataset
        From ``open_dicom``, with ``is_dose_report`` true.
    path : str
        Goes into ``Command.origin``, with the 0-based number of the event, and into errors.
    pseudonym : function of str to str
        Keyed hash for StudyInstanceUID (``examination``), Irradiation Event UID (``event``; the same event in
        a cumulative report has the same hash) and serial number. Called with nothing else.

    Returns
    -------
    DoseReport
        One ``Decoded`` per event: a command of role PERFORMED (dose check forecasts FORECAST, configured
        values COMMANDED), or a reason. ``acquired_at`` is seconds on the device's own wall clock.

    Raises
    ------
    DecodeError
        No CT irradiation events, or a tree that no genuine report has.
    """
    subject = subject_of(ds, pseudonym)
    root = read_tree(ds, name=path)
    shared = _shared(root, subject)
    notes: Counter[str] = Counter()
    readers = _readers(root)
    if not readers:
        what = "the dose report holds no CT irradiation events"
        if any(item.name.key == concept.PROJECTION_EVENT for item in root.walk()):
            what += " (it is one of projection X-ray)"
        raise DecodeError(what, path, "leave it out of the recordings")
    drafts: list[tuple[Draft, str]] = []
    rules: dict[str, int] = {}
    for row, read in enumerate(readers):
        draft, reason = Draft(row, screen_read=shared.screen_read), ""
        try:
            read(draft)
            draft.manufacturer = draft.manufacturer or subject.device.manufacturer or shared.manufacturer
            for name in apply_quirks(draft):
                rules[name] = rules.get(name, 0) + 1
            if not draft.parameters:
                raise EventRejected("the event holds no parameters")
        except EventRejected as error:
            reason = str(error)
        notes.update(draft.notes)
        drafts.append((draft, reason))
    texts = [*subject.qa_texts, *shared.texts, *(text for draft, _ in drafts for text in draft.texts)]
    mode = Mode.QA if looks_like_qa(texts) else Mode.CLINICAL
    results = tuple(
        Decoded(
            draft.row, None if reason else _command(draft, subject, shared, mode, path, pseudonym), reason
        )
        for draft, reason in drafts
    )
    return DoseReport(results, _notes(ds, shared, len(drafts), rules, notes))


def _notes(
    ds: pydicom.Dataset, shared: Draft, events: int, rules: dict[str, int], notes: Counter[str]
) -> tuple[str, ...]:
    said = [*quirk_notes(rules), *notes]
    announced = shared.number("events")
    if announced is not None and announced != events:
        said.append(f"the report announces {announced:g} irradiation events and holds {events}")
    if unreadable_elements(ds):
        said.append(f"elements that cannot be decoded were left out: {', '.join(unreadable_elements(ds))}")
    return tuple(said)


def _readers(root: Item) -> list[Callable[[Draft], None]]:
    """One reader for each event, of whichever template family the report is made from."""

    def classic(event: Item) -> Callable[[Draft], None]:
        return lambda draft: read_event(event, draft)

    events = root.walk(skip=frozenset((concept.CT_ACQUISITION,)))
    found = [classic(item) for item in events if item.name.key == concept.CT_ACQUISITION]
    return found or [
        lambda draft, event=event: read_summary(event, root, draft)  # type: ignore[misc]
        for event in summaries(root)
    ]


def _shared(root: Item, subject: Subject) -> Draft:
    """What the report says above its events: start, recording device, how it was made, how many events."""
    shared = Draft(-1)
    for item in root.walk(skip=frozenset((concept.CT_ACQUISITION, concept.EVENT_SUMMARY))):
        key = item.name.key
        if key == concept.IRRADIATION_STARTED and shared.started is None:
            shared.started = parse_moment(item.text)
        elif key == concept.OBSERVER_MAKER:
            shared.manufacturer = item.text
        elif key == concept.OBSERVER_MODEL:
            shared.model = item.text
        elif key == concept.DOSE_INFORMATION_SOURCE and item.code.key == concept.SCREEN_READ:
            shared.screen_read = True
        elif key == concept.COMMENT:
            shared.texts.append(item.text)
        elif key == "113812" and len(item.numbers) == 1:
            shared.parameters["events"] = item.numbers[0]
    shared.started = subject.began if shared.started is None else shared.started
    return shared


def _command(
    draft: Draft, subject: Subject, shared: Draft, mode: Mode, path: str, pseudonym: Pseudonym
) -> Command:
    for name in ("DoseCheckAlertReasonForProceeding", "DoseCheckNotificationReasonForProceeding"):
        reason = draft.parameters.get(name)
        if isinstance(reason, str):
            draft.parameters[name] = subject.without_names(reason)
    device = Device(
        draft.manufacturer or subject.device.manufacturer or shared.manufacturer,
        draft.model or subject.device.model or shared.model,
        pseudonym(draft.serial) if draft.serial else subject.device.serial,
        subject.device.software,
    )
    return Command(
        parameters=dict(draft.parameters),
        context=subject.context(draft.context, draft.sources),
        device=device,
        role=Role.PERFORMED,
        roles={name: role for name, role in draft.roles.items() if name in draft.parameters},
        examination=subject.examination,
        acquired_at=shared.started if draft.started is None else draft.started,
        order=float(draft.row),
        event=pseudonym(draft.uid) if draft.uid else None,
        mode=mode,
        origin=Origin(path, draft.row),
    )
