"""A study out of an archive: C-GET over one association, or C-MOVE to an acceptor of ours (PS3.4 annex C).

What arrives is handed over as it came (`Incoming`): each SOP class is asked for in contexts of one transfer syntax
each as far as an association has room for them, so that the archive need convert nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import LinkError
from scanward.transport.dicom import (
    EXPLICIT,
    IMPLICIT,
    SUCCESS,
    Incoming,
    Peer,
    Reply,
    _entity,
    _socket_maker,
    _where,
    title_problem,
)
from scanward.transport.dicom_front import Front, Inner
from scanward.transport.dicom_raw import MOST_CONTEXTS

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root, as the two below
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING: Final = frozenset((0xFF00, 0xFF01))
_WARNING: Final = 0xB000  # sub-operations complete, one or more failures or warnings

# In the order of preference: as stored without loss, then the lossy ones, then what anybody can send.
SYNTAXES: Final = (
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first order
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near lossless
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # explicit big endian, retired
    EXPLICIT,
    IMPLICIT,
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the archive says it has done: objects sent, failed, and sent with a warning."""

    completed: int
    failed: int
    warned: int


Pending = Callable[[int, int], None]
"""Told after each answer: objects sent so far and objects that remain, as the archive counts."""


def proposals(classes: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Contexts for a C-GET, at most 127: one for each class and syntax, or one for the rest where room is short."""
    room = (MOST_CONTEXTS - 1) // max(1, len(classes[: MOST_CONTEXTS - 1]))
    made: list[tuple[str, tuple[str, ...]]] = []
    for each in classes[: MOST_CONTEXTS - 1]:
        alone = len(SYNTAXES) if room >= len(SYNTAXES) else room - 1
        made += [(each, (syntax,)) for syntax in SYNTAXES[:alone]]
        if alone < len(SYNTAXES):
            # What was not asked for alone, the uncompressed ones first: every archive can send those.
            rest = [syntax for syntax in SYNTAXES[alone:] if syntax not in (EXPLICIT, IMPLICIT)]
            made.append((each, (EXPLICIT, IMPLICIT, *rest)))
    return made


class Retriever:
    """Asks an archive for objects.

    Parameters
    ----------
    title : str
        Our AE title.
    """

    def __init__(self, title: str, *, bounds: DicomBounds = DICOM_BOUNDS) -> None:
        if problem := title_problem(title):
            raise LinkError(problem, repr(title), "give one")
        self._title, self._bounds = title, bounds

    def get(
        self,
        peer: Peer,
        query: Any,
        classes: tuple[str, ...],
        store: Callable[[Incoming], Reply],
        pending: Pending = lambda done, left: None,
    ) -> Tally:
        """C-GET: ``store`` is called for each object, in the thread of this call.

        Raises
        ------
        LinkError
            No association, a failure, no end.
        """
        from pynetdicom import build_context, build_role, evt

        contexts = [build_context(GET, [EXPLICIT, IMPLICIT])]
        contexts += [build_context(each, list(syntaxes)) for each, syntaxes in proposals(classes)]
        roles = [build_role(each, scp_role=True) for each in dict.fromkeys(classes[: MOST_CONTEXTS - 1])]

        def stored(event: Any) -> int:
            return _taken(event, peer, store)

        with self._association(peer, contexts, roles, [(evt.EVT_C_STORE, stored)]) as association:
            return self._followed(association.send_c_get(query, GET), peer, pending)

    def move(
        self, peer: Peer, query: Any, destination: str, pending: Pending = lambda done, left: None
    ) -> Tally:
        """C-MOVE to the AE ``destination``, which must be known to the archive; LinkError as for `get`."""
        from pynetdicom import build_context

        contexts = [build_context(MOVE, [EXPLICIT, IMPLICIT])]
        with self._association(peer, contexts, [], []) as association:
            return self._followed(association.send_c_move(query, destination, MOVE), peer, pending)

    def _followed(self, answers: Iterator[tuple[Any, Any]], peer: Peer, pending: Pending) -> Tally:
        todo = "look at the archive's log"
        until = time.monotonic() + self._bounds.association_seconds
        for status, _ in answers:
            code = status.get("Status")
            if code is None:
                raise LinkError("no answer, or the association was lost", _where(peer), todo)
            counted = [
                int(status.get(f"NumberOf{word}Suboperations") or 0)
                for word in ("Completed", "Failed", "Warning", "Remaining")
            ]
            pending(counted[0] + counted[2], counted[3])
            if code in _PENDING:
                if time.monotonic() > until:
                    raise LinkError("the retrieval does not end", _where(peer), todo)
                continue
            if code in (SUCCESS, _WARNING):
                return Tally(*counted[:3])
            raise LinkError(
                f"the archive answers with status {code:#06x}", _where(peer), _TODO.get(code, todo)
            )
        raise LinkError("the retrieval ended without a status", _where(peer), todo)

    @contextmanager
    def _association(
        self, peer: Peer, contexts: list[Any], roles: list[Any], handlers: list[Any]
    ) -> Iterator[Any]:
        entity = _entity(self._title, self._bounds)
        fronts: list[Front] = []
        entity._create_socket = _socket_maker(peer, self._bounds, fronts)
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.title,
            max_pdu=self._bounds.pdu_bytes - 6,
            ext_neg=roles,
            evt_handlers=handlers,
        )
        try:
            operations = {str(each.abstract_syntax) for each in association.accepted_contexts}
            if not association.is_established or str(contexts[0].abstract_syntax) not in operations:
                why = "rejected" if association.is_rejected else "not reached"
                if association.rejected_contexts:
                    why = "it does not serve this operation"
                elif fronts and fronts[0].detail:
                    why = f"{why}: {fronts[0].detail}"
                what = f"no association with {peer.title} ({why})"
                raise LinkError(what, _where(peer), "check address, AE titles and that it runs")
            yield association
            if association.is_established:
                association.release()
        finally:
            if association.is_established:
                association.abort()
            for front in fronts:
                front.close()
            for front in fronts:
                front.join(5.0)
            if association.ident is not None:
                association.join(5.0)
            association.dul.kill_dul()
            if association.dul.ident is not None:
                association.dul.join(5.0)


_TODO: Final = {
    0xA801: "enter our AE title, address and port in the archive: it does not know the destination",
    0xA702: "the archive cannot send: look whether it reaches our address and port, and at its log",
}


def _taken(event: Any, peer: Peer, store: Callable[[Incoming], Reply]) -> int:
    """EVT_C_STORE, an intervention: its return value is the answer."""
    request: Any = event.request
    data = request.DataSet.getvalue() if request.DataSet is not None else b""
    incoming = Incoming(
        str(request.AffectedSOPClassUID or ""),
        str(request.AffectedSOPInstanceUID or ""),
        peer.title,
        _where(peer),
        str(event.context.transfer_syntax),
        data,
    )
    inner = getattr(event.assoc.dul.socket, "socket", None)
    with inner.front.working() if isinstance(inner, Inner) else nullcontext():
        return store(incoming).status
