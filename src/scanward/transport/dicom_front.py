"""What stands between a DICOM peer's socket and the library: whole, bounded PDUs or nothing (PS3.8 9.3).

pynetdicom believes a PDU's length field (up to 4 GiB), waits without end for the rest of a PDU, puts an object
together in memory whatever its size, and shakes hands for TLS in the thread that accepts. So it never sees the
peer's socket: a front, one thread for each connection, reads the peer, checks every PDU's header before a byte
of its body is kept, and hands whole PDUs on over a socket pair. What breaks a bound is answered with A-ABORT
(PS3.8 9.3.8) and both ends are closed.

Clocks: the TLS handshake, the association's first PDU, every PDU from its first byte to its last, silence when
it is the peer's turn, a peer that does not take what it is sent, and the association altogether.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum

from scanward.config import DICOM_BOUNDS, DicomBounds
from scanward.errors import DecodeError

A_ASSOCIATE_RQ, A_ASSOCIATE_RJ, P_DATA_TF = 0x01, 0x03, 0x04
ABORT = bytes.fromhex("07000000000400000200")  # by the provider, reason not specified
REJECT_FULL = bytes.fromhex("03000000000400020302")  # transient, local limit exceeded (PS3.8 table 9-21)

_TYPES = frozenset(range(1, 8))
_FIXED = frozenset((0x03, 0x05, 0x06, 0x07))  # reject, release (both ways), abort: a body of 4 bytes
_CHUNK = 64 << 10  # bytes read at once
_TICK = 0.25  # s; how late a passed deadline is noticed
_LINGER = 2.0  # s a peer has to close after we did


class Ended(StrEnum):
    """Why a connection ended: goes into the audit record."""

    PEER = "closed by the peer"
    US = "closed by us"
    REJECTED = "association rejected"
    TLS = "TLS handshake failed"
    MALFORMED = "not DICOM"
    TOO_LARGE = "too many bytes"
    SLOW = "too slow"
    IDLE = "silent for too long"
    TOO_LONG = "association lasted too long"


class PduReader:
    """Bytes in, whole PDUs out; counts messages. No I/O, no clock.

    Parameters
    ----------
    bounds : DicomBounds
    window : int or None
        How many messages may wait for an answer (PS3.7 D.3.3.3: one, unless more is negotiated, which we do
        not); None where the answers themselves come this way.
    """

    def __init__(self, bounds: DicomBounds = DICOM_BOUNDS, window: int | None = None) -> None:
        self._bounds, self._window = bounds, window
        self._buffer = bytearray()
        self._command = bytearray()
        self._unanswered = 0  # bytes of data PDUs since the last answer
        self._waiting = 0  # messages complete and not answered
        self.messages = 0  # complete messages seen

    @property
    def partial(self) -> bool:
        """Whether a PDU has begun and is not complete."""
        return bool(self._buffer)

    def answered(self, messages: int) -> None:
        """So many messages were sent back: the peer may send as much again."""
        if messages:
            self._unanswered = 0
            self._waiting = max(0, self._waiting - messages)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every PDU that ``data`` completes.

        Raises
        ------
        DecodeError
            An unknown type, a length that no PDU of that type has, fragments that do not fill their PDU, more
            data or more requests than may go unanswered.
        """
        self._buffer += data
        while len(self._buffer) >= 6:
            kind, length = self._buffer[0], struct.unpack_from(">L", self._buffer, 2)[0]
            self._refuse(kind, length)
            if len(self._buffer) < 6 + length:
                return
            pdu = bytes(self._buffer[: 6 + length])
            del self._buffer[: 6 + length]
            if kind == P_DATA_TF:
                self._unanswered += len(pdu)
                if self._unanswered > self._bounds.unanswered_bytes:
                    most = self._bounds.unanswered_bytes
                    raise DecodeError(
                        f"more than {most} bytes unanswered", "P-DATA-TF", "send smaller objects"
                    )
                self._fragments(pdu)
            yield pdu

    def _refuse(self, kind: int, length: int) -> None:
        if kind not in _TYPES:
            raise DecodeError(f"no PDU has type {kind:#04x}", "PDU header", "speak DICOM to this port")
        if kind in _FIXED:
            most = 4
        elif kind == P_DATA_TF:
            most = self._bounds.pdu_bytes
        else:
            most = self._bounds.association_pdu_bytes
        if length > most:
            raise DecodeError(
                f"a PDU of type {kind:#04x} claims {length} bytes", "PDU header", f"at most {most} are read"
            )

    def _fragments(self, pdu: bytes) -> None:
        """Walk the presentation data values (PS3.8 9.3.5.1, annex E) and count the messages they end."""
        at = 6
        while at < len(pdu):
            length = struct.unpack_from(">L", pdu, at)[0] if len(pdu) - at >= 6 else 0
            at += 4
            if not 2 <= length <= len(pdu) - at:
                raise DecodeError("no PDU has fragments that do not fill it", "P-DATA-TF", "send whole ones")
            control = pdu[at + 1]
            if control & 1:
                self._command += pdu[at + 2 : at + length]
                if len(self._command) > self._bounds.association_pdu_bytes:
                    raise DecodeError("no command set is that long", "P-DATA-TF", "send a genuine one")
            if control & 2:
                if control & 1:
                    field, has_data = _command(bytes(self._command))
                    self._command.clear()
                    ended = not has_data and field != _CANCEL
                else:
                    ended = True
                if ended:
                    self._count()
            at += length

    def _count(self) -> None:
        self.messages += 1
        self._waiting += 1
        if self._window is not None and self._waiting > self._window:
            raise DecodeError("a request before the answer to the last", "P-DATA-TF", "wait for the answer")


_CANCEL = 0x0FFF
_NO_DATA = 0x0101


def _command(encoded: bytes) -> tuple[int, bool]:
    """Command Field (0000,0100), and whether a data set follows ((0000,0800) is not 0101H): PS3.7 E.1."""
    field, kind, at = 0, _NO_DATA + 1, 0
    while len(encoded) - at >= 8:
        group, element, length = struct.unpack_from("<HHL", encoded, at)
        at += 8
        if length == 2 and len(encoded) - at >= 2 and group == 0:
            value = struct.unpack_from("<H", encoded, at)[0]
            field = value if element == 0x0100 else field
            kind = value if element == 0x0800 else kind
        at += length
    return field, kind != _NO_DATA


class Inner(socket.socket):
    """The library's end of the socket pair; knows its front."""

    front: Front


class Front:
    """One connection: the peer's socket outside, the library's inside.

    Parameters
    ----------
    peer : socket.socket
        Connected; owned by the front from here on.
    peer_name : str
        For errors and records.
    context : SSLContext, optional
        Wrap the peer's socket in TLS; the handshake happens in the front's own thread.
    server_hostname : str, optional
        When we are the client: the name that the peer's certificate must carry. None: we are the server.
    opened : callable, optional
        Told once, from the front's thread, when the peer has sent a whole A-ASSOCIATE-RQ: before that the library
        need not know of it. A peer that begins with anything else is ended.
    ended : callable, optional
        Told once, from the front's thread: the front itself, with ``reason`` and counts set.
    """

    def __init__(
        self,
        peer: socket.socket,
        peer_name: str,
        *,
        bounds: DicomBounds = DICOM_BOUNDS,
        context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        opened: Callable[[Front], None] | None = None,
        ended: Callable[[Front], None] | None = None,
    ) -> None:
        self.peer_name = peer_name
        self.reason = Ended.US
        self.detail = ""
        self.received = self.sent = 0  # bytes
        self.gone = threading.Event()  # nobody is there to hear an answer
        self.finished = threading.Event()
        self._bounds, self._context, self._hostname = bounds, context, server_hostname
        self._opened, self._ended = opened, ended
        self._peer = peer
        self._is_server = server_hostname is None
        self._working = 0
        self._touched = time.monotonic()
        with suppress(OSError):  # whole messages are written: to wait for more costs 40 ms each
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours, theirs = socket.socketpair()
        self._ours = ours
        self.inner = Inner(fileno=theirs.detach())
        self.inner.front = self
        self._thread = threading.Thread(target=self._run, name=f"dicom-front-{peer_name}", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While inside, it is not the peer's turn: its silence is no reason to end."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._touched = time.monotonic()

    def close(self) -> None:
        """End the connection from any thread; the front's own thread closes the sockets."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def join(self, timeout: float) -> None:
        """Wait for the front's thread."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # --- the thread

    def _run(self) -> None:
        try:
            if self._handshake():
                self._relay()
        finally:
            self.gone.set()
            # The library closes its own end, once it has it.
            inner = [self.inner] if self._opened is not None else []
            for each in (self._peer, self._ours, *inner):
                with suppress(OSError):
                    each.close()
            self.finished.set()
            if self._ended is not None:
                self._ended(self)

    def _handshake(self) -> bool:
        if self._context is None:
            return True
        try:
            # A handshake's parts each have this timeout; together they are few.
            self._peer.settimeout(self._bounds.handshake_seconds)
            self._peer = self._context.wrap_socket(
                self._peer, server_side=self._is_server, server_hostname=self._hostname
            )
        except (OSError, ValueError) as error:  # ssl.SSLError and timeouts are OSErrors
            self.reason, self.detail = Ended.TLS, str(error)[:200]
            return False
        return True

    def _relay(self) -> None:
        # What we send is ours: larger PDUs than we accept are right where the peer asked for them.
        free = replace(self._bounds, unanswered_bytes=sys.maxsize, pdu_bytes=1 << 30)
        back = PduReader(free)
        reader = PduReader(self._bounds, window=1 if self._is_server else None)
        self._peer.setblocking(False)
        self._ours.setblocking(False)
        began = self._touched = time.monotonic()
        pdu_began = send_began = 0.0
        inward, outward = bytearray(), bytearray()
        first = True  # nothing of the association has arrived yet
        while True:
            now = time.monotonic()
            late = self._late(now, began, pdu_began, send_began, first)
            if late is not None:
                return self._abort(late)
            # Read only what can be handed on: a slow library holds the peer back, not our memory.
            reading = [each for each, to in ((self._peer, inward), (self._ours, outward)) if not to]
            writing = [each for each, what in ((self._ours, inward), (self._peer, outward)) if what]
            pending = isinstance(self._peer, ssl.SSLSocket) and self._peer in reading and self._peer.pending()
            can_read, can_write, _ = select.select(reading, writing, [], 0 if pending else _TICK)
            if pending and self._peer not in can_read:
                can_read.append(self._peer)
            try:
                if self._ours in can_read:
                    data = self._ours.recv(_CHUNK)
                    if not data:
                        return self._linger(outward)
                    if data[0] == A_ASSOCIATE_RJ:
                        self.reason = Ended.REJECTED
                    outward += data
                    before = back.messages
                    for _ in back.feed(data):
                        pass
                    reader.answered(back.messages - before)
                    send_began = now
                if self._ours in can_write:
                    del inward[: self._ours.send(inward)]
            except BlockingIOError:
                pass
            except OSError:
                return self._linger(outward)
            try:
                if self._peer in can_read:
                    data = self._peer.recv(_CHUNK)
                    if not data:
                        self.reason = self.reason if self.reason is Ended.REJECTED else Ended.PEER
                        return self._hand_on(inward)
                    first = False
                    self.received += len(data)
                    self._touched = now
                    was_partial = reader.partial
                    whole = b"".join(reader.feed(data))
                    if whole and self._opened is not None:
                        if whole[0] != A_ASSOCIATE_RQ:
                            raise DecodeError("no PDU may come before the association", "PDU header", "")
                        self._opened(self)
                        self._opened = None
                    inward += whole
                    # A new PDU may begin with the end of the one before: then its clock starts now.
                    if not reader.partial:
                        pdu_began = 0.0
                    elif whole or not was_partial:
                        pdu_began = now
                if self._peer in can_write:
                    count = self._peer.send(outward)
                    self.sent += count
                    self._touched = send_began = now
                    del outward[:count]
                if not outward:
                    send_began = 0.0
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except DecodeError as error:
                broken = Ended.MALFORMED if "no PDU" in error.what else Ended.TOO_LARGE
                self.detail = str(error)
                return self._abort(broken)
            except OSError as error:
                self.reason, self.detail = Ended.PEER, str(error)[:200]
                return None

    def _late(self, now: float, began: float, pdu: float, send: float, first: bool) -> Ended | None:
        bounds = self._bounds
        if now - began > bounds.association_seconds:
            return Ended.TOO_LONG
        if pdu and now - pdu > bounds.pdu_seconds:
            return Ended.SLOW
        if send and now - send > bounds.send_seconds:
            return Ended.SLOW
        if self._working:
            return None
        if first and self._is_server and now - began > bounds.negotiation_seconds:
            return Ended.IDLE
        return Ended.IDLE if now - self._touched > bounds.idle_seconds else None

    def _abort(self, reason: Ended) -> None:
        self.reason = reason
        with suppress(OSError):
            self._peer.send(ABORT)

    def _hand_on(self, inward: bytearray) -> None:
        """The peer is gone: the library still gets what was whole, so that it sees why (A-ABORT, release)."""
        with suppress(OSError):
            self._ours.settimeout(1.0)
            self._ours.sendall(inward)

    def _linger(self, outward: bytearray) -> None:
        """The library is done: the peer still gets what it was sent, and a moment to close first."""
        with suppress(OSError):
            self._peer.settimeout(_LINGER)
            self._peer.sendall(outward)
            self.sent += len(outward)
            self._peer.shutdown(socket.SHUT_WR)
            until = time.monotonic() + _LINGER
            while time.monotonic() < until and self._peer.recv(_CHUNK):
                pass
