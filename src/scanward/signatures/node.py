"""A DICOM node that signs what a modality sends, or verifies what an archive is about to take, and hands it on.

One association in, one association out: the next hop is called with the contexts that the sender was granted, and the
sender is answered with the next hop's own status, after it came. The node keeps nothing: while the next hop is away
every object is answered with a failure (0xA700), so that whoever has it keeps it.

What is told (`Tell`) names objects by SOP Instance UID and never a patient; a next hop's error comment goes to the
sender alone, for it may quote what the object says.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

from scanward.errors import SettingsError
from scanward.signatures.node_quarantine import Quarantine
from scanward.signatures.node_settings import NodeSettings
from scanward.signatures.node_work import NO_CONTEXT, OUT_OF_RESOURCES, Outcome, Work
from scanward.transport.dicom import SUCCESS, Acceptor, Incoming, Reply, Tell
from scanward.transport.dicom_raw import RawAssociation

# Statuses that mean that the next hop has the object (PS3.4 B.2.3): success and its warnings.
_TAKEN = frozenset((SUCCESS, 0xB000, 0xB006, 0xB007))


class _Session:
    """The association onward of one association inward; objects of one go one after the other."""

    def __init__(self, onward: RawAssociation) -> None:
        self.onward = onward
        self.lock = threading.Lock()

    def close(self) -> None:
        with self.lock:
            self.onward.close()


class Node:
    """Listens, works, hands on.

    Parameters
    ----------
    settings : NodeSettings
    work : callable
        `node_work.signing` or `node_work.verifying`.
    quarantine : Quarantine, optional
        Where outcomes with ``keep`` go.
    tell : callable, optional
        Told of every object and every connection: kind and facts, from any thread.
    """

    def __init__(
        self,
        settings: NodeSettings,
        work: Work,
        *,
        quarantine: Quarantine | None = None,
        tell: Tell = lambda kind, facts: None,
    ) -> None:
        bounds = settings.bounds
        if not 1 <= bounds.associations <= bounds.most_associations:
            raise SettingsError(
                f"{bounds.associations} associations", "--associations", f"1 to {bounds.most_associations}"
            )
        self._settings, self._work, self._quarantine, self._tell = settings, work, quarantine, tell
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._in_work = 0
        self._stopping = False
        self._busy = threading.BoundedSemaphore(bounds.busy)
        self._counts: Counter[str] = Counter()
        self._acceptor = Acceptor(
            settings.listen,
            settings.title,
            callers=settings.callers,
            classes=frozenset(),
            store=self._stored,
            hosts=settings.hosts,
            context=settings.tls.server if settings.tls else None,
            bounds=settings.dicom_bounds(),
            tell=self._connection,
            everything=True,
        )

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._acceptor.port

    def counts(self) -> Mapping[str, int]:
        """How many objects were received, and what became of them, since the start."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def start(self) -> None:
        """Begin to listen; LinkError when the address cannot be had."""
        self._acceptor.start()

    def close(self) -> None:
        """Take nothing new, let objects in work end (`NodeBounds.stop_seconds` at most), then end every connection."""
        until = time.monotonic() + self._settings.bounds.stop_seconds
        with self._idle:
            self._stopping = True
            while self._in_work and (left := until - time.monotonic()) > 0:
                self._idle.wait(left)
        self._acceptor.close()
        with self._lock:
            left_over, self._sessions = list(self._sessions.values()), {}
        for session in left_over:
            session.close()

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one object

    def _stored(self, incoming: Incoming) -> Reply:
        with self._lock:
            if self._stopping:
                return Reply(OUT_OF_RESOURCES, "the node is stopping")
            self._in_work += 1
            self._counts["received"] += 1
        try:
            return self._handled(incoming)
        finally:
            with self._idle:
                self._in_work -= 1
                self._idle.notify_all()

    def _handled(self, incoming: Incoming) -> Reply:
        if len(incoming.data) > self._settings.bounds.object_bytes:
            self._told("refused", incoming, "too large", OUT_OF_RESOURCES)
            return Reply(OUT_OF_RESOURCES, f"more than {self._settings.bounds.object_bytes} bytes")
        with self._busy:
            outcome = self._work(incoming)
        self._count(outcome.word)
        if outcome.onward is None:
            return self._refused(incoming, outcome)
        if incoming.gone():  # nobody would learn what became of it, and the sender still has it
            self._told("abandoned", incoming, outcome.word, None)
            return Reply(OUT_OF_RESOURCES, "the sender is gone")
        return self._handed_on(incoming, outcome, outcome.onward)

    def _refused(self, incoming: Incoming, outcome: Outcome) -> Reply:
        reply = outcome.reply or Reply(OUT_OF_RESOURCES, outcome.word)
        kept = None
        if outcome.keep is not None and self._quarantine is not None:
            report = {
                "found": outcome.word,
                "from": incoming.calling,
                "peer": incoming.peer,
                "sop_class": incoming.sop_class,
                "sop_instance": incoming.sop_instance,
                "syntax": incoming.syntax,
                "report": outcome.report,
            }
            kept = self._quarantine.keep(outcome.keep, report)
            self._count("quarantined" if kept else "not quarantined: no room")
        self._told("refused", incoming, outcome.word, reply.status, kept=kept)
        return reply

    def _handed_on(self, incoming: Incoming, outcome: Outcome, data: memoryview) -> Reply:
        session = self._session(incoming)
        with session.lock:
            sent = session.onward.store(incoming.sop_class, incoming.sop_instance, incoming.syntax, data)
        if incoming.gone():  # its end may have been told before there was anything to end
            self._end(incoming.peer)
        if sent.reply is None:
            self._told("not handed on", incoming, outcome.word, OUT_OF_RESOURCES, why=sent.why)
            return Reply(OUT_OF_RESOURCES, f"next hop: {sent.why}")
        status = sent.reply.status
        if outcome.flagged and status in _TAKEN:
            self._count("flagged")
        kind = "handed on" if status in _TAKEN else "not handed on"
        why = sent.why or ("" if status in _TAKEN else "the next hop's own status")
        if status == NO_CONTEXT and not sent.begun:
            why = "the next hop does not take this class in this syntax"
        self._told(kind, incoming, outcome.word, status, why=why, flagged=outcome.flagged or None)
        return sent.reply

    def _session(self, incoming: Incoming) -> _Session:
        """The association onward for this one inward; opened with its first object."""
        with self._lock:
            session = self._sessions.get(incoming.peer)
            if session is None:
                own = (incoming.sop_class, incoming.syntax)
                onward = RawAssociation(
                    self._settings.title,
                    self._settings.onward,
                    (own, *incoming.contexts),
                    bounds=self._settings.dicom_bounds(),
                )
                session = self._sessions[incoming.peer] = _Session(onward)
            return session

    # --- what is told

    def _connection(self, kind: str, facts: Mapping[str, object]) -> None:
        """A connection ended or was refused at the door; what was opened for it onward ends too."""
        self._count("connections")
        self._tell(kind.removeprefix("dicom-").replace("-", " "), facts)
        self._end(str(facts.get("peer", "")))

    def _end(self, peer: str) -> None:
        """End what was opened onward for a connection."""
        with self._lock:
            session = self._sessions.pop(peer, None)
        if session is not None:
            session.close()

    def _count(self, word: str) -> None:
        with self._lock:
            self._counts[word] += 1

    def _told(
        self, kind: str, incoming: Incoming, word: str, status: int | None, **more: str | bool | None
    ) -> None:
        self._count(kind)
        facts: dict[str, object] = {
            "sop_instance": incoming.sop_instance,
            "from": incoming.calling,
            "peer": incoming.peer,
            "syntax": incoming.syntax,
            "bytes": len(incoming.data),
            "found": word,
            "status": None if status is None else f"{status:#06x}",
        }
        self._tell(kind, facts | {key: value for key, value in more.items() if value not in (None, "")})
