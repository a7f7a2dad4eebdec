"""The DICOM link as one service: receives, judges, forwards, stores, records. For a process of its own.

pynetdicom's threads live here and nowhere else: nothing of this shares a process with the relay between host and
gantry. Three processes: this one (sockets, no data set of a protocol is decoded here), the judge of protocols, and
the audit writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from scanward.commands import LayerName, Objection, Opinion, Outcome, Severity
from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import ScanwardError
from scanward.guard.dicom_config import DicomSettings
from scanward.guard.events import Finding
from scanward.guard.policy_terms import ModePolicy
from scanward.guard.protocol_process import JudgeProcess
from scanward.guard.protocol_verdict import decide
from scanward.links.dicom import PROTOCOL_CLASSES, REFUSED, Holding, Judged, ProtocolGate, Recorder
from scanward.links.dicom_delivered import Delivered
from scanward.links.dicom_objects import as_file
from scanward.links.dicom_reports import REPORT_CLASSES, ReportReceiver
from scanward.links.dicom_worklist import Worklist
from scanward.recordings.pseudonyms import Pseudonyms
from scanward.recordings.quarantine import open_quarantine
from scanward.transport.dicom import Acceptor, Caller, Incoming, Reply, Sent

_BURST = 100.0  # records about connections at once; one a second thereafter


class DicomService:
    """Everything behind one listening port. Use as a context manager.

    Parameters
    ----------
    settings : DicomSettings
    holding : Holding or None
        Where operators decide; None: what alerts is refused at once.
    mode : ModePolicy or None
        The site's policy for clinical mode; None: as grave as the gravest objection.
    shadow : bool
        The policy's ``unsafe_shadow``.
    record : Recorder
        Durable when it returns (`DurableRecorder`).
    feed : callable, optional
        Told delivered doses.
    """

    def __init__(
        self,
        settings: DicomSettings,
        record: Recorder,
        *,
        holding: Holding | None = None,
        mode: ModePolicy | None = None,
        shadow: bool = False,
        feed: Callable[[tuple[Delivered, ...]], None] = lambda doses: None,
        bounds: DicomBounds = DICOM_BOUNDS,
    ) -> None:
        self.settings, self.bounds = settings, bounds
        self._holding, self._mode, self._shadow = holding, mode, shadow
        self._record, self._feed = record, feed
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._room, self._told_at, self._untold = _BURST, time.monotonic(), 0
        self._routes: dict[str, tuple[frozenset[str], Callable[[Incoming], Reply]]] = {}
        self._judge: JudgeProcess | None = None
        self._caller = Caller(settings.title, bounds=bounds)
        self.worklist = Worklist(self._caller, settings.worklist) if settings.worklist else None
        self.acceptor: Acceptor | None = None

    def __enter__(self) -> DicomService:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self.acceptor is not None
        return self.acceptor.port

    def _open(self) -> None:
        settings = self.settings
        if settings.protocols is not None:
            self._judge = JudgeProcess(settings.protocols.judge, bounds=self.bounds)
            self._stack.callback(self._judge.close)
            self._judge.start()
            gate = ProtocolGate(self._judged, self._forwarded, self._record, self._holding, self.bounds)
            self._routes |= dict.fromkeys(PROTOCOL_CLASSES, (settings.protocols.callers, gate))
        if settings.reports is not None:
            pseudonyms = Pseudonyms(settings.reports.site_key)
            quarantine = open_quarantine(settings.reports.folder, self.bounds)
            receiver = ReportReceiver(quarantine, pseudonyms.of, self._record, self._feed, self.bounds)
            self._routes |= dict.fromkeys(REPORT_CLASSES, (settings.reports.callers, receiver))
        callers = frozenset().union(*(callers for callers, _ in self._routes.values()))
        self._record("dicom-start", {"title": settings.title, "weakenings": list(settings.weakenings)})
        self.acceptor = Acceptor(
            settings.listen,
            settings.title,
            callers=callers,
            classes=frozenset(self._routes),
            store=self._store,
            hosts=settings.hosts,
            context=settings.tls.server if settings.tls else None,
            bounds=self.bounds,
            tell=self._tell,
        )
        self._stack.callback(self.acceptor.close)
        self.acceptor.start()

    def _store(self, incoming: Incoming) -> Reply:
        callers, answer = self._routes[incoming.sop_class]  # only these classes are negotiated
        if incoming.calling not in callers:
            facts = {"calling": incoming.calling, "peer": incoming.peer, "sop_class": incoming.sop_class}
            self._tell("dicom-refused", {**facts, "status": REFUSED, "why": "not for this caller"})
            return Reply(REFUSED, "this caller may not send such objects")
        return answer(incoming)

    def _tell(self, kind: str, facts: Mapping[str, object]) -> None:
        """Record what has happened already; that it cannot be recorded is told by the writer itself.

        Whoever connects ten thousand times must not fill the log: beyond a trickle only the number is kept.
        """
        with self._lock:
            now = time.monotonic()
            self._room = min(self._room + (now - self._told_at), _BURST)
            self._told_at = now
            if self._room < 1.0:
                self._untold += 1
                return
            self._room -= 1.0
            untold, self._untold = self._untold, 0
        try:
            self._record(kind, {**facts, "untold": untold} if untold else facts)
        except ScanwardError:
            return

    # --- protocols

    def _judged(self, incoming: Incoming) -> Judged:
        assert self._judge is not None
        at = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        answer = self._judge.ask({"at": at}, as_file(incoming))
        opinions = tuple(opinion_from_json(o) for o in answer.opinions)
        finding: Finding = decide(opinions, self._mode, shadow=self._shadow)
        return Judged(
            finding.verdict,
            finding.reason,
            answer.sop_class,
            answer.sop_instance,
            answer.name,
            answer.digest,
            answer.forward,
            finding.layer,
            finding.fields,
            answer.chain,
        )

    def _forwarded(self, sop_class: str, file: bytes) -> Sent:
        assert self.settings.protocols is not None
        return self._caller.store(self.settings.protocols.scanner, sop_class, file)


def opinion_from_json(plain: Mapping[str, Any]) -> Opinion:
    """The inverse of `protocol_child.opinion_to_json`."""
    objections = tuple(
        Objection(o["field"], o["reason"], o["found"], o["expected"], severity=Severity(o["severity"]))
        for o in plain["objections"]
    )
    return Opinion(
        LayerName(plain["layer"]), Outcome(plain["outcome"]), objections, reason=str(plain["reason"])
    )
