"""A whole study out of an archive into a folder: by C-GET, by C-MOVE, or by DICOMweb (QIDO-RS and WADO-RS).

Every object is written as it came, one file each, named by its SOP Instance UID; what belongs to another study, or is
not what the archive says it is, is refused. A study that does not come whole is an error, never a shorter answer.

Sources: PS3.4 C.4.2 (C-MOVE), C.4.3 (C-GET); PS3.18 10.4 (WADO-RS), 10.6 (QIDO-RS).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanward.config import DICOM_BOUNDS, FETCH_BOUNDS, DicomBounds, FetchBounds
from scanward.errors import InputError, LinkError
from scanward.forensics.fetching_folder import Landing
from scanward.forensics.fetching_web import WebArchive, fetch_by_web
from scanward.transport.dicom import Acceptor, Caller, Peer
from scanward.transport.dicom_part10 import is_uid
from scanward.transport.dicom_retrieve import FIND, Retriever, Tally

Progress = Callable[[int, int | None], None]
"""Told after each object: how many there are, and of how many (None: not known)."""

# Asked for where an archive does not say which classes a study has: pictures and what stands beside them.
_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1.2",  # Digital Mammography, for presentation
    "1.2.840.10008.5.1.4.1.1.1.2.1",  # and for processing
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # Breast Tomosynthesis
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound
    "1.2.840.10008.5.1.4.1.1.11.1",  # Presentation State
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.50",  # Mammography CAD SR
)


@dataclass(frozen=True, slots=True)
class ByGet:
    """C-GET: the archive answers on our own association; nothing of ours is called.

    ``title`` is our AE title.
    """

    archive: Peer
    title: str


@dataclass(frozen=True, slots=True)
class ByMove:
    """C-MOVE: the archive calls us back at ``listen``, which it must have entered for our ``title``.

    ``caller`` is the title that it calls with, where that is not the one it is called by; ``listening`` is told the
    port, before anything is asked. ``context``: TLS for what the archive sends (`Peer` has that for what we ask).
    """

    archive: Peer
    title: str
    listen: tuple[str, int]
    caller: str = ""
    context: ssl.SSLContext | None = field(default=None, compare=False)
    listening: Callable[[int], None] = field(default=lambda port: None, compare=False)


Source = ByGet | ByMove | WebArchive


def fetch_study(
    source: Source,
    study_uid: str,
    out: Path,
    *,
    progress: Progress = lambda done, total: None,
    bounds: FetchBounds = FETCH_BOUNDS,
) -> tuple[Path, ...]:
    """Fetch every object of a study.

    Parameters
    ----------
    source : ByGet, ByMove or WebArchive
    study_uid : str
        Study Instance UID.
    out : Path
        A folder that is empty, or is not there yet.
    progress : callable, optional
        Told after each object.

    Returns
    -------
    tuple of Path
        The files, by name.

    Raises
    ------
    InputError
        No UID, a folder that holds something, or no such study.
    LinkError
        The archive cannot be reached, refuses, sends more than bounds allow, or not everything. What came by then
        stays in ``out``.
    """
    if not is_uid(study_uid):
        raise InputError(
            "not a Study Instance UID", repr(study_uid)[:80], "give digits and points, 64 at most"
        )
    landing = Landing(out, study_uid, bounds, progress)
    if isinstance(source, WebArchive):
        fetch_by_web(source, study_uid, landing, bounds)
    else:
        _by_association(source, study_uid, landing, bounds)
    return landing.files()


def _by_association(source: ByGet | ByMove, study: str, landing: Landing, bounds: FetchBounds) -> None:
    limits = _limits(bounds)
    expected, classes = _study(source, study, limits)
    if expected is not None and expected > bounds.instances:
        raise LinkError(
            f"a study of {expected} objects, where {bounds.instances} are taken", study, "this is no study"
        )
    landing.total = expected
    try:
        if isinstance(source, ByGet):
            retriever = Retriever(source.title, bounds=limits)
            tally = retriever.get(source.archive, _query(study), classes, landing.store)
        else:
            tally = _move(source, study, landing, bounds, limits, expected)
    except LinkError:
        landing.refuse_troubles()  # what we refused is the cause, the archive's status its echo
        raise
    _refuse_incomplete(tally, landing, expected, study)


def _move(
    source: ByMove,
    study: str,
    landing: Landing,
    bounds: FetchBounds,
    limits: DicomBounds,
    expected: int | None,
) -> Tally:
    acceptor = Acceptor(
        source.listen,
        source.title,
        callers=frozenset({source.caller or source.archive.title}),
        classes=frozenset(),
        store=landing.store,
        context=source.context,
        bounds=limits,
        everything=True,
    )
    with acceptor:
        source.listening(acceptor.port)
        tally = Retriever(source.title, bounds=limits).move(source.archive, _query(study), source.title)
        # Some archives answer first and send afterwards.
        due = max(tally.completed + tally.warned, expected or 0)
        seen, since = landing.count, time.monotonic()
        while landing.count < due and not tally.failed and time.monotonic() - since < bounds.linger_seconds:
            time.sleep(0.05)
            if landing.count != seen:
                seen, since = landing.count, time.monotonic()
    return tally


def _refuse_incomplete(tally: Tally, landing: Landing, expected: int | None, study: str) -> None:
    landing.refuse_troubles()
    sent = tally.completed + tally.warned
    if tally.failed or landing.count < max(sent, expected or 0):
        of = max(sent + tally.failed, expected or 0)
        raise LinkError(
            f"{landing.count} of {of} objects came", study, "look at the archive's log, then fetch it anew"
        )


def _limits(bounds: FetchBounds) -> DicomBounds:
    return replace(
        DICOM_BOUNDS,
        unanswered_bytes=bounds.object_bytes + bounds.object_bytes // 64 + (1 << 20),
        connect_seconds=bounds.connect_seconds,
        answer_seconds=bounds.answer_seconds,
        idle_seconds=bounds.answer_seconds,
        association_seconds=bounds.whole_seconds,
    )


def _query(study: str) -> object:
    from pydicom import Dataset

    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study
    return query


def _study(source: ByGet | ByMove, study: str, limits: DicomBounds) -> tuple[int | None, tuple[str, ...]]:
    """How many objects the archive says the study has (None: it does not say), and of which classes."""
    import io

    from pydicom import dcmread

    query = _query(study)
    query.NumberOfStudyRelatedInstances = ""  # type: ignore[attr-defined]
    query.SOPClassesInStudy = ""  # type: ignore[attr-defined]
    found = Caller(source.title, bounds=limits).find(source.archive, FIND, query)
    if not found:
        raise InputError("the archive has no such study", study, "check the Study Instance UID")
    try:
        match = dcmread(io.BytesIO(found[0]))
        told = str(match.get("NumberOfStudyRelatedInstances") or "")
        value = match.get("SOPClassesInStudy") or ()
        classes = tuple(str(one) for one in ([value] if isinstance(value, str) else value))
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise LinkError(f"an answer that cannot be read ({type(error).__name__})", study, "") from error
    number = int(told) if told.isascii() and told.isdigit() and len(told) < 10 else None
    return number, tuple(one for one in classes if is_uid(one)) or _CLASSES
