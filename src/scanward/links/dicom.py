"""The gate for DICOM objects meant for a scanner: held until judged, forwarded once or refused, answered last.

One call for each C-STORE request, in the association's own thread; what it returns is the answer. It answers
only when there is a verdict *and* the scanner's own status, and never says success unless the scanner did:

    released, and the scanner answered    the scanner's status and comment
    refused                               0x0124 Refused: Not Authorised, and why (0000,0902)
    not a data set                        0xC000 Cannot understand
    not what its class or UID says        0xA900 Data Set does not match SOP Class
    the scanner cannot be reached         0xA700 Out of Resources
    the scanner did not answer            0x0110 Processing failure: it may have the object or not

Whatever is raised on the way is a refusal. What was forwarded and not answered is *unknown*: nothing is sent
again on our own account, and the same instance coming again waits for the operator, who is told.

Sources: PS3.4 B.2.3, PS3.7 C.5.17 (0124H), C.5.2 (0110H).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from scanward.commands import Verdict
from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import DecodeError, ScanwardError
from scanward.links.dicom_objects import check_uid
from scanward.transport.dicom import Incoming, Reply, Sent

DEFINED_PROTOCOL = "1.2.840.10008.5.1.4.1.1.200.1"
PROTOCOL_APPROVAL = "1.2.840.10008.5.1.4.1.1.200.3"
PROTOCOL_CLASSES = frozenset({DEFINED_PROTOCOL, PROTOCOL_APPROVAL})

REFUSED, NOT_UNDERSTOOD, NOT_ITS_CLASS = 0x0124, 0xC000, 0xA900
UNREACHABLE, UNKNOWN = 0xA700, 0x0110

_POLL = 0.05  # s between looks at whether the sender is still there


class Recorder(Protocol):
    """Where acts are recorded. Returns when the record is durable, and raises when it is not (AuditError)."""

    def __call__(self, kind: str, data: Mapping[str, object]) -> None:
        """Record one act; ``data`` is plain JSON."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge and the policy say of one object.

    ``forward`` is the object in our own encoding: what goes to the scanner if anything does. ``digest`` names
    the content that was judged, whatever the encoding. ``chain`` is what it lets a scanner do at most, element by
    element, for the operator's screen: ``{"command": ..., "auto": false}`` as the stream codec writes commands.
    """

    verdict: Verdict
    reason: str
    sop_class: str
    sop_instance: str
    name: str
    digest: str
    forward: bytes
    layer: str = ""
    fields: tuple[str, ...] = ()
    chain: tuple[Mapping[str, object], ...] = ()


class MismatchError(DecodeError):
    """A data set that is not what the request says it is."""


Judge = Callable[[Incoming], Judged]
"""Must answer within its deadline or raise a ScanwardError; any exception is a refusal."""
Forward = Callable[[str, bytes], Sent]


@dataclass(frozen=True, slots=True)
class Held:
    """An object that waits for the operator, for people to look at."""

    id: int
    calling: str
    peer: str
    judged: Judged
    seconds: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator said. ``who`` is the operator as authenticated by whoever took the act."""

    release: bool
    who: str
    reason: str


class Holding:
    """Objects on hold, and what operators say of them. Thread-safe; authenticates nobody.

    Parameters
    ----------
    changed : callable, optional
        Told whenever something is held or no longer held, outside the lock.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Condition()
        self._held: dict[int, Held] = {}
        self._said: dict[int, Decision] = {}
        self._next = 1
        self._changed = changed

    def held(self) -> tuple[Held, ...]:
        """What waits, oldest first."""
        with self._lock:
            return tuple(self._held.values())

    def say(self, number: int, decision: Decision) -> bool:
        """An operator's word on held object ``number``; False when it does not wait (any more)."""
        with self._lock:
            if number not in self._held or number in self._said:
                return False
            self._said[number] = decision
            self._lock.notify_all()
            return True

    def wait(
        self, incoming: Incoming, judged: Judged, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> Decision | None:
        """Hold until somebody decides; None when nobody did in time, or the sender is gone."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._held[number] = Held(number, incoming.calling, incoming.peer, judged, seconds)
        self._changed()
        until = clock() + seconds
        try:
            with self._lock:
                while number not in self._said:
                    if incoming.gone() or clock() >= until:
                        return None
                    self._lock.wait(_POLL)
                return self._said[number]
        finally:
            with self._lock:
                del self._held[number]
                self._said.pop(number, None)
            self._changed()


class ProtocolGate:
    """Answers C-STORE requests for protocols and approvals.

    Parameters
    ----------
    judge : callable
        See `Judge`.
    forward : callable
        Sends one object to the scanner, once.
    record : Recorder
    holding : Holding or None
        None: nobody can release, so what alerts is refused at once.
    bounds : DicomBounds
    """

    def __init__(
        self,
        judge: Judge,
        forward: Forward,
        record: Recorder,
        holding: Holding | None = None,
        bounds: DicomBounds = DICOM_BOUNDS,
    ) -> None:
        self._judge, self._forward, self._record = judge, forward, record
        self._holding, self._bounds = holding, bounds
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self._outcomes: OrderedDict[str, tuple[str, bool]] = OrderedDict()  # UID -> digest, outcome known

    def __call__(self, incoming: Incoming) -> Reply:
        """The answer to one request. Raises nothing; a request that cannot be recorded is refused all the same."""
        facts = _facts(incoming)
        with self._lock:
            busy = incoming.sop_instance in self._in_hand
            self._in_hand.add(incoming.sop_instance)
        try:
            if busy:
                return self._refuse(facts, REFUSED, "the same instance is in hand already")
            return self._answer(incoming, facts)
        except MismatchError as error:
            return self._refuse(facts, NOT_ITS_CLASS, error.what)
        except DecodeError as error:
            return self._refuse(facts, NOT_UNDERSTOOD, error.what)
        except ScanwardError as error:
            return self._refuse(facts, REFUSED, error.what)
        except Exception as error:  # noqa: BLE001 - a bug in here must refuse, be recorded, and not end the thread
            return self._refuse(facts, REFUSED, f"the guard failed ({type(error).__name__})")
        finally:
            if not busy:
                with self._lock:
                    self._in_hand.discard(incoming.sop_instance)

    def _answer(self, incoming: Incoming, facts: dict[str, object]) -> Reply:
        for uid in (incoming.sop_class, incoming.sop_instance):
            check_uid(uid)
        if incoming.sop_class not in PROTOCOL_CLASSES:
            raise MismatchError("not a class that is forwarded", incoming.sop_class)
        if len(incoming.data) > self._bounds.protocol_bytes:
            raise DecodeError("larger than any protocol", todo=f"at most {self._bounds.protocol_bytes} bytes")
        judged = self._judge(incoming)
        if (judged.sop_class, judged.sop_instance) != (incoming.sop_class, incoming.sop_instance):
            raise MismatchError("the data set is not the object that the request names")
        judged = self._weighed(judged)
        facts.update(
            name=judged.name,
            digest=judged.digest,
            verdict=str(judged.verdict),
            layer=judged.layer,
            fields=list(judged.fields),
            reason=judged.reason,
        )
        if judged.verdict is Verdict.HALT:
            return self._refuse(facts, REFUSED, judged.reason)
        if judged.verdict is Verdict.ALERT:
            decision = self._decide(incoming, judged, facts)
            if decision is None or not decision.release:
                nobody = "nobody released it in time" if self._holding else "no operator can release it"
                why = nobody if decision is None else "refused by the operator"
                return self._refuse(facts, REFUSED, f"{why}: {judged.reason}")
            facts.update(operator=decision.who, operator_reason=decision.reason)
        if incoming.gone():
            return self._refuse(facts, REFUSED, "the sender gave it up")
        # Durable before it goes out: raises when it is not, and then nothing goes out.
        self._record("dicom-release", dict(facts))
        return self._send(incoming, judged, facts)

    def _weighed(self, judged: Judged) -> Judged:
        """One UID, one content; and what may have arrived already is for the operator to send again."""
        with self._lock:
            known = self._outcomes.get(judged.sop_instance)
        if known is None or judged.verdict is Verdict.HALT:
            return judged
        if known[0] != judged.digest:
            reason = "another content under a UID that was forwarded before"
            return replace(
                judged, verdict=Verdict.HALT, layer="form", fields=("SOPInstanceUID",), reason=reason
            )
        if known[1]:
            return judged
        reason = f"it was sent before and may have arrived. {judged.reason}".strip()
        return replace(judged, verdict=Verdict.ALERT, reason=reason)

    def _decide(self, incoming: Incoming, judged: Judged, facts: dict[str, object]) -> Decision | None:
        if self._holding is None:
            return None
        self._record("dicom-held", dict(facts))
        return self._holding.wait(incoming, judged, self._bounds.hold_seconds)

    def _send(self, incoming: Incoming, judged: Judged, facts: dict[str, object]) -> Reply:
        if incoming.gone():
            return self._refuse(facts, REFUSED, "the sender gave it up")
        with self._lock:
            before = self._outcomes.get(judged.sop_instance)
        self._remember(judged, known=False)
        sent = self._forward(judged.sop_class, judged.forward)
        if sent.reply is None and not sent.begun:
            self._restore(judged, before)
            return self._refuse(facts, UNREACHABLE, f"the scanner cannot be reached: {sent.why}")
        if sent.reply is None or sent.reply.status >= 0xFE00:  # cancel and pending are no answers to C-STORE
            self._tell("dicom-outcome-unknown", {**facts, "why": sent.why})
            return Reply(UNKNOWN, "No answer from the scanner: it may have the object or not")
        self._remember(judged, known=True)
        status = sent.reply.status
        self._tell("dicom-forwarded", {**facts, "status": status, "comment": sent.reply.comment})
        return sent.reply

    def _remember(self, judged: Judged, *, known: bool) -> None:
        with self._lock:
            self._outcomes[judged.sop_instance] = (judged.digest, known)
            self._outcomes.move_to_end(judged.sop_instance)
            while len(self._outcomes) > self._bounds.remembered:
                self._outcomes.popitem(last=False)

    def _restore(self, judged: Judged, before: tuple[str, bool] | None) -> None:
        with self._lock:
            if before is None:
                self._outcomes.pop(judged.sop_instance, None)
            else:
                self._outcomes[judged.sop_instance] = before

    def _refuse(self, facts: dict[str, object], status: int, why: str) -> Reply:
        self._tell("dicom-refused", {**facts, "status": status, "why": why})
        return Reply(status, why)

    def _tell(self, kind: str, data: Mapping[str, object]) -> None:
        """Record what has happened already: a full log changes nothing about it."""
        try:
            self._record(kind, data)
        except ScanwardError:
            # The writer says itself that it cannot write; the answer to the sender must not depend on it.
            return


def _facts(incoming: Incoming) -> dict[str, object]:
    return {
        "calling": incoming.calling[:16],
        "peer": incoming.peer,
        "sop_class": incoming.sop_class[:64],
        "sop_instance": incoming.sop_instance[:64],
        "bytes": len(incoming.data),
    }
