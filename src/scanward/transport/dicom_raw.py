"""Objects to a peer byte for byte: what `scanward.transport.dicom.Caller` encodes, this hands on as it is.

One `RawAssociation` stands for one sender's: it proposes the presentation contexts that the sender was granted, each
with its one transfer syntax, so that nothing can be converted on the way.

Sources: PS3.7 9.1.1 (C-STORE), PS3.8 9.3.2 (contexts).
"""

from __future__ import annotations

import io
import time
from typing import Any, Final

from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import LinkError
from scanward.transport.dicom import Peer, Reply, Sent, _entity, _socket_maker, _where, comment_of
from scanward.transport.dicom_front import Front

MOST_CONTEXTS: Final = 128  # of one association (PS3.8 9.3.2.2: odd numbers from 1 to 255)
_PAUSE: Final = 0.0005  # s between looks at whether the library's own thread stands still


class RawAssociation:
    """An association for stores, opened by the first; use from one thread at a time.

    Parameters
    ----------
    title : str
        Our AE title.
    peer : Peer
    contexts : sequence of (SOP class, transfer syntax)
        What to propose; the first 128 different ones.
    """

    def __init__(
        self,
        title: str,
        peer: Peer,
        contexts: tuple[tuple[str, str], ...],
        *,
        bounds: DicomBounds = DICOM_BOUNDS,
    ) -> None:
        self._title, self._peer, self._bounds = title, peer, bounds
        self.contexts = tuple(dict.fromkeys(contexts))[:MOST_CONTEXTS]
        self._association: Any = None
        self._fronts: list[Front] = []
        self._message = 0

    @property
    def open(self) -> bool:
        """Whether the association stands."""
        return self._association is not None and bool(self._association.is_established)

    def store(self, sop_class: str, sop_instance: str, syntax: str, data: bytes | memoryview) -> Sent:
        """Send one data set as it is, and wait for the answer. Never raises for what the peer does.

        A refused context is a reply of our own: 0x0122, with ``begun`` False.
        """
        if not self.open:
            try:
                self._begin()
            except LinkError as error:
                return Sent(None, False, error.what)
        number = self._context(sop_class, syntax) if self.open else None
        if number is None:
            reason = f"{self._peer.title} does not take this class in this syntax"
            return Sent(Reply(0x0122, comment_of(reason)), False, "no presentation context")
        try:
            answer = self._ask(number, sop_class, sop_instance, data)
        except (RuntimeError, ValueError) as error:
            self.close()
            return Sent(None, True, type(error).__name__)
        if answer is None:
            self.close()
            return Sent(None, True, "no answer to the object")
        comment = comment_of(str(getattr(answer, "ErrorComment", None) or ""))
        return Sent(Reply(int(answer.Status), comment), True)

    def close(self) -> None:
        """Release the association, abort it when that does not succeed, and wait for its threads."""
        association, self._association = self._association, None
        if association is None:
            return
        if association.is_established:
            association.release()
        if association.is_established:
            association.abort()
        for front in self._fronts:
            front.close()
        for front in self._fronts:
            front.join(5.0)
        if association.ident is not None:
            association.join(5.0)
        association.dul.kill_dul()
        if association.dul.ident is not None:
            association.dul.join(5.0)
        self._fronts.clear()

    # --- steps

    def _begin(self) -> None:
        self.close()
        entity = _entity(self._title, self._bounds)
        from pynetdicom import build_context

        entity._create_socket = _socket_maker(self._peer, self._bounds, self._fronts)
        proposed = [build_context(sop_class, [syntax]) for sop_class, syntax in self.contexts]
        association = self._association = entity.associate(
            self._peer.host,
            self._peer.port,
            contexts=proposed,
            ae_title=self._peer.title,
            max_pdu=self._bounds.pdu_bytes - 6,
        )
        if association.is_established:
            return
        taken_none = bool(association.rejected_contexts) and not association.accepted_contexts
        why = "rejected" if association.is_rejected else "not reached"
        if self._fronts and self._fronts[0].detail:
            why = f"{why}: {self._fronts[0].detail}"
        self.close()
        if taken_none:  # no failure of the network: the answer to every object is a refused context
            return
        what = f"no association with {self._peer.title} ({why})"
        raise LinkError(what, _where(self._peer), "check address, AE titles and that it runs")

    def _context(self, sop_class: str, syntax: str) -> int | None:
        for each in self._association.accepted_contexts:
            if (str(each.abstract_syntax), str(each.transfer_syntax[0])) == (sop_class, syntax):
                return int(each.context_id)
        return None

    def _ask(self, number: int, sop_class: str, sop_instance: str, data: bytes | memoryview) -> Any:
        """Send the request as ``Association.send_c_store`` does, save that the data set is given encoded."""
        from pynetdicom.dimse_primitives import C_STORE

        association = self._association
        self._message = self._message % 65535 + 1
        request = C_STORE()
        request.MessageID = self._message
        request.Priority = 0
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = sop_instance
        request.DataSet = io.BytesIO(data)
        # The library's thread must stand still while we read the answer, or it reads it.
        association._reactor_checkpoint.clear()
        until = time.monotonic() + self._bounds.send_seconds
        while not association._is_paused:
            if time.monotonic() > until or not association.is_alive():
                return None
            time.sleep(_PAUSE)
        try:
            association.dimse.send_msg(request, number)
            _, answer = association.dimse.get_msg(block=True)
        finally:
            association._reactor_checkpoint.set()
        if not isinstance(answer, C_STORE) or answer.Status is None:
            return None
        if answer.MessageIDBeingRespondedTo != self._message:
            return None
        return answer
