"""A study served for tests: in this process under a clock that can be set, or as a real process that can be killed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from _web import CHEAP, TestClient, accounts_in
from scanward.reading.answering import Desk
from scanward.reading.app import open_desk, study_site
from scanward.web.accounts import Accounts
from scanward.web.sessions import csrf_of
from scanward.web.site import Site, build

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


@dataclass
class Clock:
    """The server's time, which stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@dataclass
class Browser:
    """Somebody signed in, without the cost of a hash: the session is begun on the server's side."""

    client: TestClient
    site: Site
    app: Any
    name: str
    csrf: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.sign_in()

    def sign_in(self) -> None:
        account = self.site.accounts.get(self.name)
        assert account is not None
        token = self.app.state.sessions.begin(account, self.site.clock())
        self.client.cookies.clear()
        self.client.cookies.set(self.site.cookie("session"), token)
        self.csrf = csrf_of(token)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, follow_redirects=False, **more)

    def send(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"x-csrf-token": self.csrf, "content-type": "application/json"} | more.pop("headers", {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.request(
            method, path, content=content, headers=headers, follow_redirects=False, **more
        )

    def state(self) -> dict[str, Any]:
        answer = self.get("/study/api/state")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told


@dataclass
class Served:
    """A study in this process. `browser` gives one signed-in browser after another."""

    folder: Path
    desk: Desk
    site: Site
    app: Any
    client: TestClient
    clock: Clock

    def browser(self, name: str) -> Browser:
        # a client of its own, for cookies of its own; the application runs once
        client = TestClient(self.app, base_url="http://localhost")
        return Browser(client, self.site, self.app, name)


@contextmanager
def served(folder: Path, *, leads: tuple[str, ...] = ("lead",), **options: Any) -> Iterator[Served]:
    """Serve a study here, with an account for each reader and lead. The key is taken away first: nobody needs it."""
    clock = Clock()
    (folder / "key.json").rename(folder.parent / f"{folder.name}-key.json")
    desk = open_desk(folder, clock=clock, **options)
    site = study_site(desk, accounts_in(folder))
    try:
        readers = [reader["name"] for reader in json.loads((folder / "protocol.json").read_text())["readers"]]
        for name in readers:
            site.accounts.add(name, ["reader"], PASSWORD, now=clock().timestamp())
        for name in leads:
            site.accounts.add(name, ["lead"], PASSWORD, now=clock().timestamp())
        app = build(site)
        with TestClient(app, base_url="http://localhost") as client:
            yield Served(folder, desk, site, app, client, clock)
    finally:
        desk.store.close()
        site.accounts.close()
        (folder.parent / f"{folder.name}-key.json").rename(folder / "key.json")


def add_accounts(folder: Path, names: dict[str, str], password: str = PASSWORD) -> None:
    """Accounts by name and role."""
    with Accounts(folder / "accounts.sqlite", CHEAP) as accounts:
        for name, role in names.items():
            accounts.add(name, [role], password)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class ServerProcess:
    """``scanward study serve`` as readers meet it; `kill` is SIGKILL, `start` serves at the same address again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None
        self.told: dict[str, Any] = {}

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, patience: float = 60.0) -> None:
        """Start, and wait until connections are taken."""
        with (self.folder.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "scanward.cli", "study", "serve", str(self.folder)),
                    *("--port", str(self.port), "--json", *self.options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], patience)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("{"):
            self.kill()
            raise AssertionError(f"the server did not start: {line!r} {self.log()}")
        self.told = json.loads(line)
        if "address" not in self.told:
            self.kill()
            raise AssertionError(f"the server did not start: {line!r}")

    def log(self) -> str:
        return (self.folder.parent / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """As a power cut would end it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As its keeper would."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def wait_for(true: Any, patience: float = 30.0, every: float = 0.05) -> None:
    """Until ``true()`` is; AssertionError after ``patience`` seconds."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every)
