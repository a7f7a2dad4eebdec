"""What the tests of alerting share: receivers on loopback, a desk with quick couriers, and a desk to be killed.

Run as ``python _alerting.py FOLDER PORT COUNT``: takes COUNT alerts for a webhook at PORT, prints "taken" once they are
on disk, and sends them until it is killed.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scanward.config import ALERTING_BOUNDS, SHIPPING_BOUNDS
from scanward.console.alerting.alert import Alert, Severity
from scanward.console.alerting.desk import Desk
from scanward.console.alerting.rules import AlertSettings, Route, To
from scanward.console.alerting.senders import open_sender

PATIENCE_S = 30.0  # against hanging; nothing is measured with it
QUICK = replace(
    ALERTING_BOUNDS,
    first_wait=0.01,
    longest_wait=0.05,
    fresh_wait=0.02,
    write_seconds=0.0,
    retry_write=0.02,
    stop_seconds=10.0,
)
SHIPPING = replace(SHIPPING_BOUNDS, connect_s=5.0)
SOURCE = "console.example"


class Clock:
    """s since 1970, moved by hand."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def alert(
    cause: str, kind: str = "halted", scanner: str = "ct1", at: float = 1_790_000_000.0, **more: Any
) -> Alert:
    """An alert of one cause."""
    return Alert(scanner, scanner and f"Scanner {scanner}", kind, cause, f"reason {cause}", at, **more)


def route(name: str = "hook", to: To = To.WEBHOOK, **more: Any) -> Route:
    """A route that takes everything."""
    return Route(name, to, frozenset(), frozenset(), frozenset(), Severity.INFORMATION, **more)


def webhook(port: int, name: str = "hook", **more: Any) -> Route:
    """To a receiver on loopback without TLS."""
    return route(name, url=f"http://127.0.0.1:{port}/in", unsafe_plaintext=True, **more)


@contextmanager
def desk_of(
    folder: Path, *routes: Route, bounds: Any = QUICK, clock: Callable[[], float] = time.time
) -> Iterator[Desk]:
    """A desk at work."""
    settings = AlertSettings(routes)
    senders = {one.name: open_sender(one, SOURCE, bounds, SHIPPING) for one in routes}
    desk = Desk(folder, settings, senders, clock, bounds)
    desk.start()
    try:
        yield desk
    finally:
        desk.close()


def until(found: Callable[[], Any], what: object = "") -> Any:
    """The first true value of ``found``."""
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end, what or "it did not happen"
        time.sleep(0.01)
    return value


class Hook(ThreadingHTTPServer):
    """A webhook's receiver: ``got`` is what it acknowledged, by key; ``status`` and ``pause`` are its mood."""

    daemon_threads = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _HookHandler)
        self.got: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.tried: list[str] = []
        self.status: Callable[[dict[str, Any]], int] = lambda _: 200
        self.pause = 0.0
        self.guard = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def causes(self) -> list[str]:
        """The reasons that were acknowledged, each as often as it was."""
        with self.guard:
            return [str(document["text"]) for _, document, _ in self.got]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        time.sleep(self.server.pause)
        status = self.server.status(document)
        with self.server.guard:
            self.server.tried.append(key)
            if status == 200:
                self.server.got.append((key, document, dict(self.headers)))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hook(port: int = 0) -> Iterator[Hook]:
    """A running `Hook`."""
    server = Hook(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


class MailServer:
    """An SMTP server (RFC 5321) with STARTTLS and AUTH, one thread for each connection. ``letters`` is what it took."""

    def __init__(self, certificate: tuple[Path, Path] | None, *, starttls: bool = True) -> None:
        self.letters: list[tuple[str, list[str], bytes, bool]] = []
        self.logins: list[bytes] = []
        self.refused: set[str] = set()
        self.busy = 0  # letters to be refused for now
        self._context: ssl.SSLContext | None = None
        self._starttls = starttls
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        with suppress(OSError):
            self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        secure, sender, recipients = False, "", []
        try:
            file = sock.makefile("rb")
            sock.sendall(b"220 here\r\n")
            while line := file.readline():
                word = line.strip().upper().split(b" ")[0]
                if word == b"EHLO":
                    offers = [b"250-here"]
                    if self._context and self._starttls and not secure:
                        offers.append(b"250-STARTTLS")
                    sock.sendall(b"\r\n".join([*offers, b"250 AUTH PLAIN"]) + b"\r\n")
                elif word == b"STARTTLS" and self._context:
                    sock.sendall(b"220 go\r\n")
                    file.close()
                    sock = self._context.wrap_socket(sock, server_side=True)
                    file, secure = sock.makefile("rb"), True
                elif word == b"AUTH":
                    self.logins.append(base64.b64decode(line.split()[2]))
                    sock.sendall(b"235 yes\r\n")
                elif word == b"MAIL":
                    sender, recipients = line.decode().partition("<")[2].partition(">")[0], []
                    sock.sendall(b"250 ok\r\n")
                elif word == b"RCPT":
                    who = line.decode().partition("<")[2].partition(">")[0]
                    known = who not in self.refused
                    if known:
                        recipients.append(who)
                    sock.sendall(b"250 ok\r\n" if known else b"550 nobody of that name\r\n")
                elif word == b"DATA":
                    sock.sendall(b"354 go\r\n")
                    letter = b""
                    while (line := file.readline()) not in (b".\r\n", b""):
                        letter += line
                    if self.busy:
                        self.busy -= 1
                        sock.sendall(b"451 later\r\n")
                        continue
                    self.letters.append((sender, recipients, letter, secure))
                    sock.sendall(b"250 taken\r\n")
                elif word == b"QUIT":
                    sock.sendall(b"221 bye\r\n")
                    return
                else:
                    sock.sendall(b"250 ok\r\n")
        finally:
            file.close()
            sock.close()

    def close(self) -> None:
        """Stop listening and wait for the connections to end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


def main() -> None:
    folder, port, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with desk_of(folder, webhook(port), bounds=replace(QUICK, burst=10 * count)) as desk:
        desk.take(*(alert(f"cause {number}.") for number in range(count)))
        until(lambda: len(desk.spool.newest(10 * count)) >= count)
        print("taken", flush=True)
        time.sleep(PATIENCE_S)


if __name__ == "__main__":
    main()
