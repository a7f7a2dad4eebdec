"""Receivers for the tests of shipping: certificates, a TLS server that keeps what it gets, an HTTPS server."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificates(folder: Path, *, name: str = "localhost") -> tuple[Path, Path, Path]:
    """A CA and a server certificate for ``name``: paths of the CA, the certificate, its key (PEM)."""
    now = datetime.now(UTC)
    made = []
    issuer_key, issuer_name = None, None
    for common in ("test CA", name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer_key is None, path_length=None), critical=True)
        )
        if issuer_key:
            names: list[x509.GeneralName] = [x509.DNSName(name)]
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
            if name == "localhost":
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            else:
                builder = builder.add_extension(x509.SubjectAlternativeName(names[:1]), critical=False)
        made.append((builder.sign(issuer_key or key, hashes.SHA256()), key))
        issuer_key, issuer_name = issuer_key or key, issuer_name or subject
    paths = folder / "ca.pem", folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(made[0][0].public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(made[1][0].public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        made[1][1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Collector:
    """A TLS (or plain) server that keeps every byte of every connection."""

    def __init__(self, certificate: tuple[Path, Path] | None) -> None:
        self.streams: list[bytearray] = []
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.close_after = -1  # bytes after which a connection is cut
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        stream = bytearray()
        sock = plain
        try:
            plain.settimeout(20)
            if self._context:
                sock = self._context.wrap_socket(plain, server_side=True)
            self.streams.append(stream)
            while data := sock.recv(65536):
                stream += data
                if 0 <= self.close_after <= len(stream):
                    break
            if isinstance(sock, ssl.SSLSocket):
                with suppress(OSError):
                    sock = sock.unwrap()
        except OSError:
            pass
        finally:
            sock.close()

    def close(self) -> None:
        """Stop listening and wait for the connections to end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(30)


class Posted(ThreadingHTTPServer):
    """An HTTP server that keeps what is posted, and answers with ``statuses`` one after the other, then 200."""

    daemon_threads = False

    def __init__(self, certificate: tuple[Path, Path] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses our certificate is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Posted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.bodies.append((self.path, headers, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def posted(certificate: tuple[Path, Path] | None = None) -> Iterator[Posted]:
    """A running `Posted`."""
    server = Posted(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
