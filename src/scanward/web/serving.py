"""A site on a socket: uvicorn with TLS, patient with nobody.

Plain HTTP is served on loopback alone, or behind a proxy that speaks TLS. What uvicorn leaves open is closed here: how
long a TLS handshake, a request's head and the taking of an answer may last, and how many connections one address may
hold.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from cryptography import x509
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from scanward.config import KEY_BOUNDS, WEB_BOUNDS
from scanward.errors import LinkError, SettingsError

_CERTIFICATE_BYTES: Final = KEY_BOUNDS.file_bytes * 16  # a chain


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(certificate: Path, key: Path, passphrase: bytes | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later with this certificate (and chain) and key, PEM; LinkError when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; forward secret, authenticated
    try:
        # A callable, so that OpenSSL never asks on a terminal that nobody watches.
        context.load_cert_chain(certificate, key, lambda: passphrase or b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise LinkError(
            f"the certificate or its key cannot be used: {reason}",
            str(certificate),
            "give PEM files that fit",
        ) from error
    return context


def certificate_hosts(certificate: Path) -> list[str]:
    """The names and addresses that a certificate is for, as `Site.hosts` wants them; LinkError for none."""
    try:
        with certificate.open("rb") as file:
            found = x509.load_pem_x509_certificate(file.read(_CERTIFICATE_BYTES))
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise LinkError(
            "a certificate without names", str(certificate), "give one with a subject alternative name"
        ) from error
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if "*" not in name]
    addresses = names.get_values_for_type(x509.IPAddress)
    return hosts + [f"[{one}]" if one.version == 6 else str(one) for one in addresses]


class _Loop(asyncio.SelectorEventLoop):
    """Gives up TLS handshakes sooner than asyncio's minute."""

    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = WEB_BOUNDS.handshake_seconds
            options["ssl_shutdown_timeout"] = WEB_BOUNDS.handshake_seconds
        return await super().create_server(*arguments, **options)


class _Patience(H11Protocol):
    """One connection, cut when its request's head or the taking of its answer lasts too long."""

    limit_each = WEB_BOUNDS.connections_each
    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        ours = sum(
            isinstance(other, _Patience) and other.address == self.address for other in self.connections
        )
        if ours > self.limit_each or len(self.connections) > 2 * WEB_BOUNDS.connections:
            transport.abort()
            return
        self._watch()

    @property
    def address(self) -> str:
        """Who is at the other end."""
        return self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        answered = cycle is None or cycle.response_complete
        if answered and str(self.conn.their_state) == "IDLE":
            self._watch()  # and no later byte begins the time anew
        else:
            self._unwatch()

    def on_response_complete(self) -> None:
        self._unwatch()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(WEB_BOUNDS.handshake_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(WEB_BOUNDS.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _watch(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(WEB_BOUNDS.header_seconds, self.transport.abort)

    def _unwatch(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class _BehindProxy(_Patience):
    """All connections come from the proxy."""

    limit_each = WEB_BOUNDS.connections


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping
        self._serving: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._serving = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._serving is not None and not self.should_exit:
            self._serving.call_soon_threadsafe(self._stopping)  # we may be in the midst of anything
        super().handle_exit(sig, frame)


def serve(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    passphrase: bytes | None = None,
    behind_proxy: bool = False,
    proxies: Sequence[str] = ("127.0.0.1", "::1"),
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress end first. Blocks.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    certificate, key : Path, optional
        PEM files for TLS. Without them only loopback is served, or, with ``behind_proxy``, any address: then a proxy
        at one of ``proxies`` speaks TLS, and its X-Forwarded-For and X-Forwarded-Proto are believed.
    on_ready : callable, optional
        Called with the address (``https://127.0.0.1:8443``) as soon as connections are taken.
    on_stop : callable, optional
        Called in the event loop when a signal asks us to stop: answers without an end (event streams) have to end now.

    Raises
    ------
    SettingsError
        Plain HTTP on an address that others can reach; a certificate without its key.
    LinkError
        The address is in use or not ours; the certificate cannot be used.
    """
    if (certificate is None) != (key is None):
        raise SettingsError(
            "a certificate without its key, or a key alone", "", "give both --certificate and --key"
        )
    if certificate is None and not behind_proxy and not is_loopback(host):
        raise SettingsError(
            "plain HTTP where others can reach it",
            host,
            "give --certificate and --key, or --behind-proxy where a proxy speaks TLS",
        )
    if not 0 <= port <= 65535:  # getaddrinfo would take the rest of a division for it
        raise SettingsError("not a port", str(port), "give a number from 1 to 65535, or 0 for a free one")
    config = uvicorn.Config(
        app,
        http=_BehindProxy if behind_proxy else _Patience,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips=list(proxies),
        limit_concurrency=WEB_BOUNDS.connections,
        timeout_keep_alive=int(WEB_BOUNDS.keep_alive_seconds),
        timeout_graceful_shutdown=int(WEB_BOUNDS.stop_seconds),
        h11_max_incomplete_event_size=WEB_BOUNDS.header_bytes,
    )
    config.load()
    if certificate is not None and key is not None:
        config.ssl = tls_context(certificate, key, passphrase)
    listening = _listen(host, port)
    taken = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    address = f"{'https' if certificate else 'http'}://{shown}:{taken}"
    server = _Server(config, lambda: on_ready(address) if on_ready else None, on_stop or _nothing)
    before = _let_terminate()
    try:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(server.serve(sockets=[listening]))
    finally:
        listening.close()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _nothing() -> None:
    pass


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With its protocol named: asyncio sets TCP_NODELAY on no other, and every answer would wait 40 ms.
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise LinkError(
            f"no address to listen on: {error}", f"{host}:{port}", "check --host and --port"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(WEB_BOUNDS.connections)
    except (OSError, OverflowError) as error:
        listening.close()
        raise LinkError(f"cannot listen: {error}", f"{host}:{port}", "check --host and --port") from error
    return listening


def _let_terminate() -> Any:
    """uvicorn stops gracefully on SIGTERM and then raises it again, which would end us as killed."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def nothing(number: int, frame: FrameType | None) -> None:
        pass

    return signal.signal(signal.SIGTERM, nothing)
