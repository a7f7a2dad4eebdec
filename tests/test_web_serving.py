"""A site in a real process: TLS, names, slow clients, many connections, stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from _web import accounts_in, certificate_in, csrf_of_page, served
from scanward.errors import LinkError, SettingsError
from scanward.web import front, serving
from scanward.web.serving import certificate_hosts, is_loopback, serve, tls_context
from scanward.web.site import Site, build

GOOD = "a long enough passphrase"
DEADLINE = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("serving")
    with accounts_in(made) as accounts:
        accounts.add("R01", ["reader"], GOOD)
    certificate_in(made)
    return made


@pytest.fixture(scope="module")
def tls(folder: Path) -> Iterator[str]:
    with served(
        folder, "--tls", str(folder / "site-certificate.crt"), str(folder / "site-private.txt")
    ) as site:
        yield site[0]


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "site-certificate.crt"))


# --- TLS


def test_signing_in_over_tls(folder: Path, tls: str) -> None:
    assert tls.startswith("https://127.0.0.1:")
    with httpx.Client(base_url=tls, verify=trusting(folder), follow_redirects=False) as client:
        asked = client.get("/home")
        assert asked.headers["location"] == "/sign-in?next=/home"
        page = client.get(asked.headers["location"])
        assert "strict-transport-security" not in page.headers  # an address of loopback
        answer = client.post(
            "/sign-in",
            data={"csrf_token": csrf_of_page(page.text), "name": "R01", "password": GOOD, "next": "/home"},
            headers={"origin": tls, "sec-fetch-site": "same-origin"},
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/home")
        assert all("Secure" in value for value in answer.headers.get_list("set-cookie"))
        assert "Home of R01" in client.get("/home").text
        assert client.get("/home", headers={"host": "study.example"}).status_code in {200, 303}
        assert client.get("/home", headers={"host": "other.example"}).status_code == 400
        named = client.get("/sign-in", headers={"host": "study.example:8443"})
        assert named.headers["strict-transport-security"]


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("//")[2].partition(":")
    return host, int(port)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(folder: Path, tls: str, version: ssl.TLSVersion) -> None:
    context = trusting(folder)
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(address_of(tls), DEADLINE) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        cipher = wrapped.cipher()
    assert cipher is not None
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_nothing_older_is(folder: Path) -> None:
    context = tls_context(folder / "site-certificate.crt", folder / "site-private.txt")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all("ECDHE" in c["name"] or c["protocol"] == "TLSv1.3" for c in context.get_ciphers())
    assert not any(
        word in c["name"] for c in context.get_ciphers() for word in ("CBC", "SHA-", "RC4", "NULL")
    )


def test_plain_http_to_tls_is_no_answer(tls: str) -> None:
    with socket.create_connection(address_of(tls), DEADLINE) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in raw.recv(1000)


def test_a_certificate_tells_its_hosts(folder: Path) -> None:
    hosts = certificate_hosts(folder / "site-certificate.crt")
    assert hosts == ["localhost", "study.example", "127.0.0.1", "[::1]"]
    for path in (folder / "site-private.txt", folder / "nothing"):
        with pytest.raises(LinkError):
            certificate_hosts(path)


# --- what is refused before anything is served


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    with accounts_in(tmp_path) as accounts:
        yield build(Site("study", accounts))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "study.example", "", "localhost.evil.example"]
)
def test_plain_http_is_for_loopback(app: Any, host: str) -> None:
    with pytest.raises(SettingsError, match="plain HTTP"):
        serve(app, host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_what_is_loopback(host: str) -> None:
    assert is_loopback(host)


def test_a_certificate_alone_is_not_enough(app: Any, folder: Path) -> None:
    with pytest.raises(SettingsError):
        serve(app, "127.0.0.1", 0, folder / "site-certificate.crt")
    with pytest.raises(SettingsError):
        serve(app, "127.0.0.1", 0, None, folder / "site-private.txt")
    for certificate, key in (("site-private.txt", "site-private.txt"), ("none", "none")):
        with pytest.raises(LinkError, match="certificate or its key"):
            serve(app, "127.0.0.1", 0, folder / certificate, folder / key)


def test_an_address_that_cannot_be_had(app: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LinkError, match="cannot listen"):
        serve(app, "127.0.0.1", taken.getsockname()[1])
    for port in (-1, 70_000):
        with pytest.raises(SettingsError, match="not a port"):
            serve(app, "127.0.0.1", port)


# --- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_progress_ends_before_the_server(folder: Path, number: signal.Signals) -> None:
    answers: list[str] = []
    with served(folder) as (address, process):
        asking = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{address}/slow", timeout=DEADLINE).text)
        )
        asking.start()
        deadline = time.monotonic() + DEADLINE
        while not _connected(address) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(number)
        asking.join(DEADLINE)
        out, _ = process.communicate(timeout=DEADLINE)
    assert answers == ["done"]
    if number is signal.SIGTERM:
        assert process.returncode == 0
        assert "stopped" in out


def _connected(address: str) -> bool:
    """Whether somebody holds a connection to this address (Linux tells)."""
    port = f":{address_of(address)[1]:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines[1:])


# --- behind a proxy


@pytest.mark.parametrize(
    ("options", "seen"), [((), "127.0.0.1 http"), (("--behind-proxy",), "203.0.113.5 https")]
)
def test_a_proxy_is_believed_only_where_there_is_one(
    folder: Path, options: tuple[str, ...], seen: str
) -> None:
    with served(folder, *options) as (address, _):
        headers = {"x-forwarded-for": "198.51.100.66, 203.0.113.5", "x-forwarded-proto": "https"}
        assert httpx.get(f"{address}/where", headers=headers, timeout=DEADLINE).text == seen


def test_a_bug_tells_the_log_and_not_the_browser(folder: Path) -> None:
    with served(folder) as (address, process):
        answer = httpx.get(f"{address}/fail", timeout=DEADLINE)
        assert answer.status_code == 500
        assert "a bug" not in answer.text
        assert "content-security-policy" in answer.headers
        assert "server" not in answer.headers
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=DEADLINE)
    assert "ValueError: a bug" in told


# --- clients that take their time: the same server in this process, with shorter bounds


@pytest.fixture
def hasty(app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server with little patience: where it listens."""
    small = dataclasses.replace(
        serving.WEB_BOUNDS,
        header_seconds=0.3,
        body_seconds=0.3,
        send_seconds=0.3,
        keep_alive_seconds=1.0,
        connections_each=4,
    )
    monkeypatch.setattr(serving, "WEB_BOUNDS", small)
    monkeypatch.setattr(front, "WEB_BOUNDS", small)
    monkeypatch.setattr(serving._Patience, "limit_each", 4)
    found: list[str] = []
    servers: list[uvicorn.Server] = []
    ready = threading.Event()
    real = serving._Server

    class Kept(real):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            servers.append(self)

    monkeypatch.setattr(serving, "_Server", Kept)

    async def front_with_large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(12):
                await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    def told(address: str) -> None:
        found.append(address)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(front_with_large, "127.0.0.1", 0), kwargs={"on_ready": told}
    )
    thread.start()
    try:
        assert ready.wait(DEADLINE)
        yield address_of(found[0])
    finally:
        servers[0].should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def ends(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection; TimeoutError when it does not."""
    connection.settimeout(DEADLINE)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def test_whoever_says_nothing_is_cut(hasty: tuple[str, int]) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        assert ends(connection) == b""


def drip(connection: socket.socket, text: bytes, over: float) -> None:
    """Send one byte at a time until the other side has had enough."""
    end = time.monotonic() + over
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            connection.sendall(text[:1])
            text = text[1:] or text
            time.sleep(0.05)


def test_a_head_that_drips_is_cut(hasty: tuple[str, int]) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        dripping = threading.Thread(
            target=drip,
            args=(connection, b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1000, 5.0),
        )
        dripping.start()
        assert ends(connection) == b""
        dripping.join()


def test_a_second_head_that_drips_is_cut_too(hasty: tuple[str, int]) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        connection.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        dripping = threading.Thread(
            target=drip, args=(connection, b"GET / HTTP/1.1\r\nX: " + b"a" * 1000, 5.0)
        )
        dripping.start()
        assert b"HTTP/1.1" not in ends(connection)
        dripping.join()


def test_a_body_that_drips_gets_408(hasty: tuple[str, int]) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        connection.sendall(b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        dripping = threading.Thread(target=drip, args=(connection, b"a" * 1000, 5.0))
        dripping.start()
        answer = ends(connection)
        dripping.join()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"what":"the request took too long to arrive"' in answer


def test_whoever_does_not_take_his_answer_is_cut(hasty: tuple[str, int]) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(DEADLINE)
        connection.connect(hasty)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.5)
        assert len(ends(connection)) < 11 << 20


def test_one_address_holds_a_few_connections(hasty: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            held = stack.enter_context(socket.create_connection(hasty, DEADLINE))
            held.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in held.recv(65536)
        fifth = stack.enter_context(socket.create_connection(hasty, DEADLINE))
        with contextlib.suppress(ConnectionError):
            fifth.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ends(fifth) == b""


def test_a_large_head_is_refused(hasty: tuple[str, int]) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (serving.WEB_BOUNDS.header_bytes + 9)
            )
        assert ends(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "request_line",
    [b"rubbish\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"],
)
def test_what_is_no_http_is_refused(hasty: tuple[str, int], request_line: bytes) -> None:
    with socket.create_connection(hasty, DEADLINE) as connection:
        connection.sendall(request_line)
        answer = ends(connection)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))


def test_ambiguous_lengths_are_refused(hasty: tuple[str, int]) -> None:
    """Request smuggling: a proxy in front and we must not disagree where a request ends."""
    for headers in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: +5\r\n",
    ):
        with socket.create_connection(hasty, DEADLINE) as connection:
            connection.sendall(b"POST /api/x HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\nabcde")
            assert ends(connection)[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 501"}
