"""Syslog: messages of RFC 5424, over TLS with octet counting (RFC 5425, RFC 9662) or, unsafely, plain TCP (RFC 6587).

Neither transport acknowledges: what was written to the socket may still be lost with the connection. A log
is therefore known to be witnessed only once the server's file was compared, `scanward audit verify --witness`.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from scanward.audit import Checkpoint
from scanward.config import SHIPPING_BOUNDS, ShippingBounds
from scanward.errors import AuditError, InputError, ShippingError
from scanward.shipping.events import SECURITY_ALERT, Event, Meaning, Source

TLS_PORT: Final = 6514  # RFC 5425 section 4.1
_FACILITY: Final = 10  # security/authorization, as DICOM PS3.15 A.6 asks
_SEVERITY: Final = {0: 5, 4: 4, 8: 3, 12: 2}  # outcome of an event -> notice, warning, error, critical
_NOTICE: Final = Meaning(SECURITY_ALERT)
_BOM: Final = b"\xef\xbb\xbf"
_NOT_PRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def message(
    *, severity: int, time: str, source: Source, message_id: str, text: str, xml: bool = False
) -> bytes:
    """One RFC 5424 message, without framing. ``text`` goes in as UTF-8 behind a byte order mark."""
    head = " ".join(
        (
            f"<{_FACILITY * 8 + severity}>1",
            time,
            _name(source.host, 255),
            _name("scanward", 48),
            _name(source.name, 128),
            _name(message_id, 32),
            "-",
        )
    )
    body = text.encode("utf-8", errors="backslashreplace")
    if not xml:
        # A receiver that writes lines must not be made to write two (or to steer a terminal): JSON has no
        # control characters in it, and whatever else comes is escaped.
        body = re.sub(rb"[\x00-\x1f\x7f]", lambda m: b"\\u%04x" % m.group()[0], body)
    return head.encode("ascii") + b" " + _BOM + body


def record_message(event: Event, source: Source) -> bytes:
    """A record as JSON: ``log``, ``seq``, ``hash`` and the record itself; a checkpoint as its line."""
    if event.is_checkpoint:
        text = event.text
    else:
        told = {"log": event.log_id, "seq": event.seq, "hash": event.hash, "record": event.text}
        with suppress(ValueError):
            told["record"] = json.loads(event.text)
        text = json.dumps(told, ensure_ascii=True)
    severity = _SEVERITY[event.meaning.outcome]
    return message(severity=severity, time=event.time, source=source, message_id=event.kind, text=text)


def dicom_message(xml: str, event: Event, source: Source) -> bytes:
    """A DICOM audit message in syslog: MSGID ``DICOM+RFC3881`` (IHE ITI TF-2 3.20.4.1.2.1)."""
    severity = _SEVERITY[event.meaning.outcome]
    return message(
        severity=severity, time=event.time, source=source, message_id="DICOM+RFC3881", text=xml, xml=True
    )


def _name(text: str, limit: int) -> str:
    """PRINTUSASCII of at most ``limit`` characters; ``-`` for nothing (RFC 5424 section 6)."""
    return _NOT_PRINTABLE.sub("?", text)[:limit] or "-"


class SyslogSender:
    """One connection to a syslog server; a context manager. Not for more than one thread."""

    def __init__(
        self,
        host: str,
        port: int = TLS_PORT,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        unsafe_plaintext: bool = False,
        bounds: ShippingBounds = SHIPPING_BOUNDS,
    ) -> None:
        """``ca`` signs the server's certificate, which must name ``host``; without, the system's own.

        ``certificate`` and ``key`` (PEM) are shown to a server that asks. ``unsafe_plaintext`` sends without TLS:
        anybody on the way can read and change it.
        """
        self.host, self.port, self._bounds = host, port, bounds
        self._context = None if unsafe_plaintext else client_context(ca, certificate, key)
        self._socket: socket.socket | None = None
        self.connections = 0  # made so far: what was sent over an earlier one may not have been read

    def __enter__(self) -> SyslogSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Frame and send one message; ShippingError when it cannot be.

        It connects when there is no connection. A connection that the server closed in between is noticed
        before anything is written into it.
        """
        if len(data) > self._bounds.syslog_bytes:
            raise ShippingError(
                f"a message of {len(data)} bytes; {self._bounds.syslog_bytes} are sent at most",
                self._where,
                "export it as FHIR",
            )
        try:
            sock = self._connected()
            sock.sendall(b"%d " % len(data) + data)
        except OSError as error:
            self.close()
            raise ShippingError(
                f"the syslog server cannot be reached: {_words(error)}",
                self._where,
                "check host, port and certificates",
            ) from error

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port}"

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._closed_by_peer(self._socket):
            self.close()
        if self._socket is None:
            self.connections += 1
            plain = socket.create_connection((self.host, self.port), self._bounds.connect_s)
            try:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._socket = (
                    self._context.wrap_socket(plain, server_hostname=self.host) if self._context else plain
                )
            except OSError:
                plain.close()
                raise
        return self._socket

    def _closed_by_peer(self, sock: socket.socket) -> bool:
        """A syslog server never says anything: an end of file is all that can come."""
        sock.settimeout(0)
        try:
            return sock.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            sock.settimeout(self._bounds.connect_s)

    def close(self) -> bool:
        """Say goodbye (so that the server has read everything when it answers) and close.

        False when it broke the connection instead: it has not read everything. True says only that it did not.
        """
        sock, self._socket = self._socket, None
        if sock is None:
            return True
        whole = True
        try:
            sock.settimeout(self._bounds.connect_s)
            if isinstance(sock, ssl.SSLSocket):
                sock = sock.unwrap()
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        except (ConnectionResetError, BrokenPipeError):
            whole = False
        except (OSError, ValueError):
            pass  # no goodbye in return, or none in time: it has broken nothing
        sock.close()
        return whole


class SyslogWitness:
    """A syslog server as witness (`scanward.audit.witness.Keeper`)."""

    def __init__(self, sender: SyslogSender, source: Source) -> None:
        self._sender, self._source = sender, source

    def keep(self, checkpoint: Checkpoint) -> None:
        """Send one; AuditError when it cannot be. Syslog does not acknowledge: see the module."""
        event_time = Event(
            checkpoint.log_id.hex(), checkpoint.seq, "", "", checkpoint.wall_ns, "", _NOTICE
        ).time
        data = message(
            severity=5,
            time=event_time,
            source=self._source,
            message_id="audit.checkpoint",
            text=checkpoint.line,
        )
        try:
            self._sender.send(data)
        except ShippingError as error:
            raise AuditError(error.what, error.where, error.todo) from error


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server's name checked; InputError for files that are no certificates."""
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            context.load_cert_chain(str(certificate), str(key) if key else None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificates cannot be used: {_words(error)}",
            ", ".join(str(p) for p in (ca, certificate, key) if p),
            "give PEM files: the CA of the server, and your certificate with its key",
        ) from error
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
