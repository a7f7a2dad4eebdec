"""DICOM associations, both ways, over pynetdicom (the extra ``dicom``): objects as bytes, statuses as numbers.

Only *intervention* handlers are bound: what a notification handler raises is logged and forgotten, and a guard
that hangs on one is fail-open. Every socket is behind a `Front`, which the library cannot tell from a peer.
pynetdicom runs threads and keeps module-wide settings: this module belongs into a process of its own.

Sources: PS3.7 (DIMSE, statuses in annex C), PS3.8 (associations), PS3.4 B.2.3 (C-STORE statuses).
"""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import LinkError
from scanward.transport.dicom_front import REJECT_FULL, Front, Inner

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
SYNTAXES = (EXPLICIT, IMPLICIT)

SUCCESS = 0x0000
MAX_COMMENT = 64  # characters of Error Comment (0000,0902), an LO

Tell = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One C-STORE request.

    ``data`` is the data set alone, in ``syntax``, byte for byte as it came; ``gone()`` says whether nobody waits for
    the answer any more. ``contexts`` are all that its association may send: SOP class and transfer syntax.
    """

    sop_class: str
    sop_instance: str
    calling: str
    peer: str
    syntax: str
    data: bytes
    gone: Callable[[], bool] = field(default=lambda: False, compare=False)
    contexts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, and a comment of at most 64 characters that people may read."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an object that was to be sent.

    ``reply`` is None when there was no answer; ``begun`` says whether a byte of the object may have gone out:
    with no reply, nobody knows then whether the peer has it.
    """

    reply: Reply | None
    begun: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity to call. ``context`` for TLS, with the name its certificate must carry."""

    host: str
    port: int
    title: str
    context: ssl.SSLContext | None = None
    name: str = ""


def comment_of(text: str) -> str:
    """``text`` as an Error Comment: printable ASCII without backslash, at most 64 characters."""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= MAX_COMMENT else f"{plain[: MAX_COMMENT - 3]}..."


def title_problem(title: str) -> str:
    """What is wrong with an AE title (PS3.5 6.2: 1 to 16 characters, no backslash), empty when nothing is."""
    if not 1 <= len(title.strip()) <= 16 or any(not " " <= c <= "~" or c == "\\" for c in title):
        return "an AE title has 1 to 16 printable characters without backslash"
    return ""


class Acceptor:
    """Listens for C-STORE and C-ECHO.

    Parameters
    ----------
    address : (host, port)
        Port 0 takes a free one; see ``port``.
    title : str
        Our AE title; associations for another one are rejected.
    callers : collection of str
        AE titles that may call. Empty is refused: a title is no proof, but its absence is no door either.
    classes : collection of str
        SOP classes to accept, each in explicit and implicit little endian.
    store : callable
        Answers a request; runs in the association's thread and may take its time. What it raises, pynetdicom
        answers with 0xC211, a failure.
    hosts : collection of str, optional
        Peer addresses that may connect; empty: any.
    context : SSLContext, optional
        TLS; mutual when it requires a certificate.
    tell : callable, optional
        Told of every connection's end and of every refusal at the door: kind and facts.
    everything : bool
        Take every storage class, private ones too, in the first transfer syntax that the peer proposes for it. The
        library knows this for a whole process only: the last acceptor started decides.
    """

    def __init__(
        self,
        address: tuple[str, int],
        title: str,
        *,
        callers: frozenset[str],
        classes: frozenset[str],
        store: Callable[[Incoming], Reply],
        hosts: frozenset[str] = frozenset(),
        context: ssl.SSLContext | None = None,
        bounds: DicomBounds = DICOM_BOUNDS,
        tell: Tell = lambda kind, facts: None,
        everything: bool = False,
    ) -> None:
        for each in (title, *callers):
            if problem := title_problem(each):
                raise LinkError(problem, repr(each), "write it as the peer is configured")
        if not callers:
            raise LinkError("nobody may call", "callers", "name the AE titles of the senders")
        self.address, self.title, self.hosts = address, title, hosts
        self.context, self.bounds, self.tell = context, bounds, tell
        self._callers, self._classes, self._store = callers, classes, store
        self._everything = everything
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen, in threads; LinkError when the address cannot be had."""
        from pynetdicom import _config, evt

        entity = _entity(self.title, self.bounds)
        _config.UNRESTRICTED_STORAGE_SERVICE = self._everything
        entity.require_called_aet = True
        entity.require_calling_aet = sorted(self._callers)
        entity.maximum_associations = 4 * self.bounds.associations  # the door counts, and counts better
        # The request is there when the library begins: what it waits for then is its own threads.
        entity.acse_timeout = min(self.bounds.negotiation_seconds, 2.0)
        for each in (*sorted(self._classes), VERIFICATION):
            entity.add_supported_context(each, list(SYNTAXES))
        handlers = [(evt.EVT_C_STORE, self._stored), (evt.EVT_C_ECHO, _echoed)]
        try:
            self._server = _server_class()(self, entity, handlers)
        except OSError as error:
            where = f"{self.address[0]}:{self.address[1]}"
            raise LinkError(f"cannot listen ({error.strerror})", where, "choose another address") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name=f"dicom-{self.title}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, end every connection, and wait for their threads."""
        if self._server is None:
            return
        self._server.shutdown()
        for front in self._server.fronts():
            front.close()
        for front in self._server.fronts():
            front.join(5.0)
        for association in self._server.active_associations:
            association.join(5.0)
        if self._thread is not None:
            self._thread.join(5.0)

    def __enter__(self) -> Acceptor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stored(self, event: Any) -> Any:
        """EVT_C_STORE, an intervention: its return value is the answer."""
        from pydicom.dataset import Dataset

        request: Any = event.request
        inner = getattr(event.assoc.dul.socket, "socket", None)
        front = inner.front if isinstance(inner, Inner) else None
        if front is None:  # the peer went away before we began
            return 0xA700
        data = request.DataSet.getvalue() if request.DataSet is not None else b""
        accepted = event.assoc.accepted_contexts
        with front.working():
            reply = self._store(
                Incoming(
                    str(request.AffectedSOPClassUID or ""),
                    str(request.AffectedSOPInstanceUID or ""),
                    str(event.assoc.requestor.ae_title).strip(),
                    front.peer_name,
                    str(event.context.transfer_syntax),
                    data,
                    front.gone.is_set,
                    tuple((str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in accepted),
                )
            )
        answer = Dataset()
        answer.Status = reply.status
        if reply.comment:
            answer.ErrorComment = comment_of(reply.comment)
        return answer


def _echoed(event: Any) -> int:
    return SUCCESS


class Caller:
    """Calls peers: stores, finds, echoes. Each call is an association of its own.

    Parameters
    ----------
    title : str
        Our AE title.
    """

    def __init__(self, title: str, *, bounds: DicomBounds = DICOM_BOUNDS) -> None:
        if problem := title_problem(title):
            raise LinkError(problem, repr(title), "give one")
        self._title, self._bounds = title, bounds

    def store(self, peer: Peer, sop_class: str, file: bytes) -> Sent:
        """Send one object (a PS3.10 file of our own making), once, and wait for the answer.

        Never raises for what the peer does or fails to do: that is in the result.
        """
        from pydicom import dcmread

        dataset = dcmread(io.BytesIO(file))
        begun = False
        try:
            with self._association(peer, sop_class, SYNTAXES) as association:
                begun = True
                try:
                    answer = association.send_c_store(dataset)
                except (RuntimeError, ValueError) as error:  # not established any more, no context accepted
                    return Sent(None, False, str(error)[:200])
        except LinkError as error:
            return Sent(None, begun, error.what)
        status = answer.get("Status")
        if not isinstance(status, int):
            return Sent(None, True, "no answer to the object")
        return Sent(Reply(status, comment_of(str(answer.get("ErrorComment") or ""))), True)

    def echo(self, peer: Peer) -> None:
        """C-ECHO; LinkError when the peer does not answer with success."""
        with self._association(peer, VERIFICATION, SYNTAXES) as association:
            status = association.send_c_echo().get("Status")
        if status != SUCCESS:
            raise LinkError(f"C-ECHO was answered with {status}", _where(peer), "look at the peer's log")

    def find(self, peer: Peer, sop_class: str, query: Any) -> tuple[bytes, ...]:
        """All matches of a C-FIND, each as the bytes of a PS3.10 file.

        Parameters
        ----------
        query : pydicom.Dataset
            The identifier.

        Raises
        ------
        LinkError
            No association, a failure, more matches than bounds allow, or no end within the time.
        """
        found: list[bytes] = []
        until = time.monotonic() + self._bounds.answer_seconds
        with self._association(peer, sop_class, (IMPLICIT, EXPLICIT)) as association:
            for status, match in association.send_c_find(query, sop_class):
                code = status.get("Status")
                if code == SUCCESS:
                    return tuple(found)
                if code not in (0xFF00, 0xFF01):
                    said = "no answer" if code is None else f"status {code:#06x}"
                    raise LinkError(f"the query failed: {said}", _where(peer), "look at the peer's log")
                if len(found) >= self._bounds.matches:
                    what = f"more than {self._bounds.matches} matches"
                    raise LinkError(what, _where(peer), "ask for one patient or study")
                if time.monotonic() > until:
                    raise LinkError("the query does not end", _where(peer), "look at the peer's log")
                if match is not None:
                    found.append(_file_of(match, sop_class, association.accepted_contexts[0]))
        raise LinkError("the query ended without a status", _where(peer), "look at the peer's log")

    @contextmanager
    def _association(self, peer: Peer, sop_class: str, syntaxes: tuple[str, ...]) -> Iterator[Any]:
        entity = _entity(self._title, self._bounds)
        entity.add_requested_context(sop_class, list(syntaxes))
        fronts: list[Front] = []
        entity._create_socket = _socket_maker(peer, self._bounds, fronts)
        association = entity.associate(
            peer.host, peer.port, ae_title=peer.title, max_pdu=self._bounds.pdu_bytes - 6
        )
        try:
            if not association.is_established:
                why = "rejected" if association.is_rejected else "not reached"
                if fronts and fronts[0].detail:
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


def _where(peer: Peer) -> str:
    return f"{peer.title} at {peer.host}:{peer.port}"


def _file_of(match: Any, sop_class: str, context: Any) -> bytes:
    """A match as a file: elements that were not looked at are copied as they came."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = context.transfer_syntax[0]
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")  # a match has none, and a file must
    match.file_meta = meta
    out = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcmwrite(out, match, enforce_file_format=True)
    except Exception as error:
        # pydicom raises whatever a hostile element makes it raise; all of it means: this answer is no answer.
        raise LinkError(f"a match that is no data set ({type(error).__name__})", "C-FIND", "") from error
    return out.getvalue()


# --- the library, made ours


def _entity(title: str, bounds: DicomBounds) -> Any:
    """An application entity with our clocks; the library's own logging and its handlers off."""
    from pynetdicom import AE, _config

    _config.LOG_HANDLER_LEVEL = "none"  # its handlers are notifications, and write names into logs
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    logger = logging.getLogger("pynetdicom")
    if not any(isinstance(h, logging.NullHandler) for h in logger.handlers):
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    entity = AE(title)
    entity.maximum_pdu_size = bounds.pdu_bytes - 6
    entity.acse_timeout = bounds.negotiation_seconds
    entity.dimse_timeout = bounds.answer_seconds
    entity.connection_timeout = bounds.connect_seconds
    entity.network_timeout = None  # silence is the front's to judge: it knows whose turn it is
    return entity


def _server_class() -> Any:
    """The server, made when it is needed: the library is optional."""
    from pynetdicom.transport import AssociationServer, RequestHandler

    class Handler(RequestHandler):
        def handle(self) -> None:
            association = self._create_association()
            association.daemon = association.dul.daemon = True
            association.start()

    class Server(AssociationServer):
        request_queue_size = 64  # the library's 5 lets honest callers wait for seconds behind a burst

        def __init__(self, acceptor: Acceptor, entity: Any, handlers: list[Any]) -> None:
            self.acceptor = acceptor
            self._fronts: list[Front] = []
            self._lock = threading.Lock()
            contexts = entity.supported_contexts
            super().__init__(
                entity, acceptor.address, acceptor.title, contexts, None, handlers, request_handler=Handler
            )
            entity._servers.append(self)

        def fronts(self) -> list[Front]:
            """Connections that have not ended."""
            with self._lock:
                return list(self._fronts)

        def _handle_request_noblock(self) -> None:
            """Accept one connection, or turn it away. The library sees it once it has asked for an association."""
            assert self.socket is not None
            try:
                raw, address = self.socket.accept()
            except OSError:
                return
            peer, bounds = f"{address[0]}:{address[1]}", self.acceptor.bounds
            raw.settimeout(bounds.send_seconds)
            refused = ""
            # Threads of associations that are about to end count as well: nobody may pile them up.
            busy = max(len(self.fronts()), len(self.active_associations))
            if self.acceptor.hosts and address[0] not in self.acceptor.hosts:
                refused = "not one of the hosts that may connect"
            elif busy >= bounds.associations:
                refused = "too many associations"
                if self.acceptor.context is None:
                    with suppress(OSError):
                        raw.send(REJECT_FULL)
            if refused:
                raw.close()
                self.acceptor.tell("dicom-refused-at-door", {"peer": peer, "reason": refused})
                return
            front = Front(
                raw,
                peer,
                bounds=bounds,
                context=self.acceptor.context,
                opened=lambda front: self.finish_request(front.inner, address),
                ended=self._ended,
            )
            with self._lock:
                self._fronts.append(front)
            front.start()

        def _ended(self, front: Front) -> None:
            with self._lock:
                self._fronts.remove(front)
            facts = {"peer": front.peer_name, "reason": str(front.reason), "detail": front.detail}
            counts = {"received_bytes": front.received, "sent_bytes": front.sent}
            self.acceptor.tell("dicom-association-ended", {**facts, **counts})

    return Server


def _socket_maker(peer: Peer, bounds: DicomBounds, fronts: list[Front]) -> Callable[..., Any]:
    """What ``AE.associate`` makes its socket with: one that connects through a front."""
    from pynetdicom.transport import AssociationSocket

    class Socket(AssociationSocket):
        def _create_socket(self, address: Any) -> Any:
            return None

        def connect(self, primitive: Any) -> None:
            """AE-1 of PS3.8 9.2.1: connect, then confirm (Evt2) or report that it failed (Evt17)."""
            try:
                raw = socket.create_connection((peer.host, peer.port), bounds.connect_seconds)
            except OSError:
                primitive.result = "Evt17"
            else:
                name = (peer.name or peer.host) if peer.context else ""
                front = Front(raw, _where(peer), bounds=bounds, context=peer.context, server_hostname=name)
                fronts.append(front)
                front.start()
                self.socket = front.inner
                self._is_connected = True
                primitive.result = "Evt2"
            self.provider_queue.put(primitive)
            self._ready.set()

    def make(association: Any, address: Any, tls_args: Any) -> Any:
        association.daemon = association.dul.daemon = True
        return Socket(association, address=address)

    return make
