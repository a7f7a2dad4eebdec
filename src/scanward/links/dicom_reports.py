"""The receiver of dose reports: stored unreviewed, told to the guard as delivered dose, never trained on as it is.

Accepts X-Ray Radiation Dose SR, Enhanced SR and Comprehensive SR with that title, Enhanced X-Ray Radiation Dose SR,
and Secondary Captures with an Exposure Dose Sequence. What cannot be decoded, holds no CT events, or is not what
its class says is refused and not stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from scanward.codecs.dicom_files import open_dicom, text_of
from scanward.codecs.exposure_dose import decode_exposure_dose, is_exposure_dose
from scanward.codecs.rdsr import decode_dose_report, is_dose_report
from scanward.codecs.rdsr_draft import DoseReport
from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import DecodeError, InputError, ScanwardError
from scanward.links.dicom import NOT_ITS_CLASS, NOT_UNDERSTOOD, MismatchError, Recorder
from scanward.links.dicom_delivered import Delivered, delivered
from scanward.links.dicom_objects import as_file
from scanward.recordings.quarantine import Quarantine
from scanward.transport.dicom import SUCCESS, Incoming, Reply

REPORT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.88.67",  # X-Ray Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.88.76",  # Enhanced X-Ray Radiation Dose SR
        "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    }
)
NO_ROOM = 0xA700


class ReportReceiver:
    """Answers C-STORE requests for dose reports.

    Parameters
    ----------
    quarantine : Quarantine
    pseudonym : callable
        Keyed hash of an identifier (`Pseudonyms.of`).
    record : Recorder
        A report that cannot be recorded is not answered with success: the sender sends it again.
    feed : callable, optional
        Told the delivered doses of every report stored; it decides what they raise.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        pseudonym: Callable[[str], str],
        record: Recorder,
        feed: Callable[[tuple[Delivered, ...]], None] = lambda doses: None,
        bounds: DicomBounds = DICOM_BOUNDS,
    ) -> None:
        self._quarantine, self._pseudonym = quarantine, pseudonym
        self._record, self._feed, self._bounds = record, feed, bounds
        self._lock = threading.Lock()

    def __call__(self, incoming: Incoming) -> Reply:
        """The answer to one request: success only when the report is durable on disk and recorded."""
        facts: dict[str, object] = {
            "calling": incoming.calling[:16],
            "peer": incoming.peer,
            "sop_class": incoming.sop_class[:64],
            "bytes": len(incoming.data),
        }
        try:
            return self._answer(incoming, facts)
        except MismatchError as error:
            return self._refuse(facts, NOT_ITS_CLASS, error)
        except DecodeError as error:
            return self._refuse(facts, NOT_UNDERSTOOD, error)
        except ScanwardError as error:
            return self._refuse(facts, NO_ROOM, error)

    def _answer(self, incoming: Incoming, facts: dict[str, object]) -> Reply:
        if incoming.sop_class not in REPORT_CLASSES:
            raise MismatchError("not a class of dose reports", incoming.sop_class)
        if len(incoming.data) > self._bounds.report_bytes:
            raise InputError("larger than any dose report", todo=f"at most {self._bounds.report_bytes} bytes")
        data = as_file(incoming)
        report = self._decoded(incoming, data)
        doses = delivered(report)
        name = f"{self._pseudonym(incoming.sop_instance)}.dcm"
        facts.update(file=name, events=len(report.results), doses=len(doses))
        with self._lock:
            new = self._quarantine.keep(name, data)
            self._record("dicom-report", {**facts, "new": new})
        self._feed(doses)
        return Reply(SUCCESS)

    def _decoded(self, incoming: Incoming, data: bytes) -> DoseReport:
        dataset = open_dicom(data, name="received object")
        claimed = (incoming.sop_class, incoming.sop_instance)
        if (text_of(dataset, "SOPClassUID"), text_of(dataset, "SOPInstanceUID")) != claimed:
            raise MismatchError("the data set is not the object that the request names")
        if is_dose_report(dataset):
            return decode_dose_report(dataset, path="received object", pseudonym=self._pseudonym)
        if is_exposure_dose(dataset):
            return decode_exposure_dose(dataset, path="received object", pseudonym=self._pseudonym)
        raise MismatchError("not a dose report", incoming.sop_class)

    def _refuse(self, facts: Mapping[str, object], status: int, error: ScanwardError) -> Reply:
        try:
            self._record("dicom-report-refused", {**facts, "status": status, "why": error.what})
        except ScanwardError:
            # It is refused either way, and the writer says itself that it cannot write.
            return Reply(status, error.what)
        return Reply(status, error.what)
