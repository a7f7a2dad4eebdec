"""Both ends of a stream link for tests: a gantry and a host played by hand, and certificates of a test authority."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scanward.commands.model import Device
from scanward.commands.wire import FromGantry, FromHost, Hello
from scanward.links.base import Side
from scanward.transport.tls import TlsFiles

DEVICE = Device("Acme", "CT 64", "SN-1", "v1")
HELLO = (
    b'{"type":"hello","protocol":1,"channel":"%s","device":{"Manufacturer":"Acme",'
    b'"ManufacturerModelName":"CT 64","DeviceSerialNumber":"SN-1","SoftwareVersions":"v1"}}\n'
)
BEAT = b'{"type":"heartbeat"}\n'
WAIT = 10.0  # s; generous, against hanging alone


def hello(channel: str = "commands") -> bytes:
    """Either end's first line."""
    return HELLO % channel.encode()


async def beat(writer: asyncio.StreamWriter) -> None:
    """A heart: until cancelled, or nobody is there."""
    while not writer.is_closing():
        writer.write(BEAT)
        await asyncio.sleep(0.5)


@dataclass
class Ear:
    """A sink that remembers. ``said`` holds everything, in order, as (what, ...) tuples."""

    said: list[tuple[object, ...]] = field(default_factory=list)

    def host_up(self, connection: int, hello: Hello) -> None:
        self.said.append(("host_up", connection, hello))

    def host_lost(self, connection: int, reason: str) -> None:
        self.said.append(("host_lost", connection, reason))

    def host_said(self, connection: int, message: FromHost) -> None:
        self.said.append(("host_said", connection, message))

    def gantry_up(self, hello: Hello) -> None:
        self.said.append(("gantry_up", hello))

    def gantry_lost(self, reason: str) -> None:
        self.said.append(("gantry_lost", reason))

    def gantry_said(self, message: FromGantry) -> None:
        self.said.append(("gantry_said", message))

    def malformed(self, side: Side, reason: str, digest: str) -> None:
        self.said.append(("malformed", side, reason, digest))

    def of(self, what: str) -> list[tuple[object, ...]]:
        return [each[1:] for each in self.said if each[0] == what]

    async def wait(self, what: str, count: int = 1) -> tuple[object, ...]:
        """Until ``count`` of them were said; the last of these."""
        async with asyncio.timeout(WAIT):
            while len(self.of(what)) < count:
                await asyncio.sleep(0.005)
        return self.of(what)[count - 1]


class Gantry:
    """Listens, answers hellos, beats its heart, keeps every line. Not an emulator: it has no mind."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        hello: Callable[[str], bytes] = hello,
        answer: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.lines: list[tuple[str, bytes]] = []  # (channel, line)
        self.writers: dict[str, asyncio.StreamWriter] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self._context = context
        self._hello = hello
        self._answer = answer  # to every line of the commands connection; b"" for none
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def got(self, kind: str) -> list[bytes]:
        return [line for _, line in self.lines if b'"type":"%s"' % kind.encode() in line]

    async def wait(self, kind: str, count: int = 1) -> bytes:
        async with asyncio.timeout(WAIT):
            while len(self.got(kind)) < count:
                await asyncio.sleep(0.005)
        return self.got(kind)[count - 1]

    def say(self, line: bytes, channel: str = "commands") -> None:
        self.writers[channel].write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        heart: asyncio.Task[None] | None = None
        try:
            first = await reader.readline()
            channel = "stop" if b'"channel":"stop"' in first else "commands"
            self.writers[channel] = writer
            self.lines.append((channel, first))
            writer.write(self._hello(channel))
            if channel == "commands":
                heart = asyncio.get_running_loop().create_task(beat(writer))
            while line := await reader.readline():
                await self.reading.wait()
                self.lines.append((channel, line))
                if self._answer is not None and channel == "commands":
                    writer.write(self._answer(line))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            if heart is not None:
                heart.cancel()
            writer.transport.abort()
            self._tasks.discard(task)


class Host:
    """One connection of a host: ``say`` bytes, ``hear`` lines (heartbeats left out)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> bytes:
        """The next line, b"" at the end."""
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    line = await self.reader.readline()
                except OSError:
                    return b""
                if line != BEAT:
                    return line

    async def hear_until(self, kind: bytes) -> bytes:
        """The next line that holds ``kind``, b"" when the connection ends before."""
        while line := await self.hear():
            if kind in line:
                return line
        return b""


@asynccontextmanager
async def host(
    port: int,
    channel: str | None = "commands",
    context: ssl.SSLContext | None = None,
    hello: Callable[[str], bytes] = hello,
) -> AsyncIterator[Host]:
    """A host that has said hello on ``channel`` (None: that has said nothing yet)."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="" if context else None, limit=1 << 20
    )
    played = Host(reader, writer)
    heart: asyncio.Task[None] | None = None
    try:
        if channel is not None:
            played.say(hello(channel))
            assert b'"hello"' in await played.hear()
            if channel == "commands":
                heart = asyncio.get_running_loop().create_task(beat(writer))
        yield played
    finally:
        if heart is not None:
            heart.cancel()
        writer.transport.abort()
        await asyncio.sleep(0)


def plain_gantry(line: bytes) -> bytes:
    """Says what it holds, begins at once and ends at once: enough for a guard to go through an examination."""
    said = json.loads(line)
    match said["type"]:
        case "load":
            chain = [element["parameters"] for element in said["chain"]]
            return json.dumps({"type": "loaded", "load": said["id"], "chain": chain}).encode() + b"\n"
        case "trigger":
            whose = {"load": said["load"], "element": said["element"]}
            return b"".join(json.dumps({"type": t, **whose}).encode() + b"\n" for t in ("started", "done"))
        case "stop":
            return b'{"type":"stopped"}\n'
    return b""


# --- certificates


class Authority:
    """Signs certificates for tests; ``files(name)`` gives those of one machine."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.path = folder / "authority.pem"
        self._write(self.path, self._signed(self._name, self._key.public_key(), name, 3650, True))

    def files(self, name: str, days: float = 30.0) -> TlsFiles:
        """Certificate and key of a machine called ``name``; ``days`` below zero: expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        self._write(certificate, self._signed(subject, key.public_key(), name, days, False))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        private.chmod(0o600)
        return TlsFiles(certificate, private, self.path)

    def _signed(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, name: str, days: float, authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=60))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), False)
            .sign(self._key, hashes.SHA256())
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
