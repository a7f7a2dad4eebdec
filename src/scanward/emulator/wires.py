"""Lines over TCP for the emulated ends: open, send, receive within bounds, close. Bytes only."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scanward.config import STREAM_BOUNDS
from scanward.errors import SettingsError

CONNECT_S = 10.0
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Tls:
    """One end's own certificate and key, and the authority that signed the other end's (all PEM files)."""

    certificate: Path
    key: Path
    authority: Path
    name: str = "localhost"  # that the other end's certificate must bear, for the end that connects

    def server(self) -> ssl.SSLContext:
        """TLS 1.3, the other end's certificate required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def client(self) -> ssl.SSLContext:
        """TLS 1.3, the other end's certificate and name required."""
        return self._loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"no certificate, key or authority that can be used ({error})",
                f"{self.certificate}, {self.key}, {self.authority}",
                "give three PEM files that belong together",
            ) from error
        return context


@dataclass(eq=False)
class Lines:
    """One connection, line by line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: bool = False  # the other end has left: what is sent now would be lost

    async def next(self) -> bytes | None:
        """The next line with its line feed; None at the end, on a broken connection, or on an endless line."""
        try:
            line = await self.reader.readline()
        except (ValueError, OSError, ssl.SSLError):
            line = b""
        self.gone = not line.endswith(b"\n")
        return None if self.gone else line

    def send(self, line: bytes) -> None:
        """Send; a connection that is going away loses it, as a wire would."""
        if not self.gone and not self.writer.is_closing():
            self.writer.write(line)

    @property
    def peer(self) -> str:
        """Address of the other end, empty when unknown."""
        name = self.writer.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) and name else ""

    async def close(self) -> None:
        """Close and wait for it, not for ever."""
        self.writer.close()
        with suppress(OSError, ssl.SSLError, asyncio.TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.writer.wait_closed()

    def abort(self) -> None:
        """Drop at once, without a word: as a cable that was pulled."""
        self.writer.transport.abort()


async def connect(host: str, port: int, tls: Tls | None = None) -> Lines:
    """Connect; SettingsError when nobody answers there or the certificates do not fit."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                host, port, limit=STREAM_BOUNDS.line_bytes,
                ssl=tls.client() if tls else None, server_hostname=tls.name if tls else None,
            )  # fmt: skip
    except (OSError, ssl.SSLError, TimeoutError) as error:
        raise SettingsError(
            f"no connection ({str(error) or type(error).__name__})",
            f"{host}:{port}",
            "start the other end first, and check address and certificates",
        ) from error
    return Lines(reader, writer)


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` as its two parts; SettingsError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"'{text}' is no address", "HOST:PORT", "write it like 127.0.0.1:11112")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether an address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
