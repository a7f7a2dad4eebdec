"""A console to test against: in this process, or the real one in a process of its own. Guards are `Running` ones.

::

    with running(folder / "ct1.sock") as guard, Desk(folder, {"ct1": guard.path}) as desk:   # in this process
        anna = desk.browser("anna", "operator")
        anna.state("ct1"), anna.act("ct1", ActKind.RELEASE, ANNA, reason="why")

    with desk_folder(...), served_console(config) as (address, process):                     # the real process
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from _web import CHEAP, client_of, sign_in
from scanward.console.app import build_console, open_console
from scanward.console.settings import ConsoleSettings, parse_settings
from scanward.console.shared import Console
from scanward.guard.operators import Act, ActKind, signed
from scanward.keys import SigningKey
from scanward.web.accounts import Accounts

PATIENCE_S = 30.0  # against hanging; nothing is measured with it


def console_toml(sockets: Mapping[str, Path | str], more: str = "", each: str = "") -> str:
    """A console.toml on loopback. ``each`` stands in every [[scanner]], ``more`` at the end."""
    scanners = "".join(
        f'[[scanner]]\nid = "{name}"\nname = "Scanner {name}"\ncontrol = "{path}"\n{each}\n'
        for name, path in sockets.items()
    )
    return f'[web]\nlisten = "127.0.0.1:0"\nstate = "state"\n{scanners}{more}'


def settings_in(folder: Path, text: str) -> ConsoleSettings:
    """The settings of a console.toml that is written to ``folder``."""
    (folder / "console.toml").write_text(text, "utf-8")
    (folder / "state").mkdir(exist_ok=True)
    return parse_settings(text.encode(), folder / "console.toml")


def until(found: Callable[[], Any], what: object = "") -> Any:
    """The first true value of ``found``."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < end, what or "it did not happen"
        time.sleep(0.02)


class Browser:
    """Somebody signed in, with the token that his page has."""

    def __init__(self, client: Any, name: str, password: str) -> None:
        self.client, self.name = client, name
        self.headers = {"X-CSRF-Token": sign_in(client, name, password)}

    def get(self, path: str) -> Any:
        """Whatever answers."""
        return self.client.get(path)

    def post(self, path: str, document: Any) -> Any:
        """JSON, as a page sends it."""
        return self.client.post(path, content=json.dumps(document), headers=self.headers)

    def form(self, path: str, **fields: str) -> Any:
        """A form, as a page sends it."""
        return self.client.post(path, data={"csrf_token": self.headers["X-CSRF-Token"], **fields})

    def state(self, scanner: str) -> dict[str, Any]:
        """A scanner as his page gets it."""
        found = self.get("/api/state").json()["scanners"]
        return next(one for one in found if one["id"] == scanner)

    def held(self, scanner: str) -> dict[str, Any]:
        """What is on hold, as soon as something is."""
        found: dict[str, Any] = until(lambda: self.state(scanner)["held"])
        return found

    def ticket(self, scanner: str) -> dict[str, Any]:
        """A ticket; the answer must be 201."""
        answer = self.post(f"/api/scanners/{scanner}/tickets", {})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def send(
        self, scanner: str, ticket: Mapping[str, Any], act: Act, key: SigningKey, /, **changes: Any
    ) -> Any:
        """Sign and send an act; ``changes`` replace parts of what is sent after it is signed."""
        document = {
            "ticket": ticket["ticket"],
            "act": {
                "act": act.kind.value,
                "operator": act.operator,
                "request": act.request,
                "shown": act.shown,
                "reason": act.reason,
                "minutes": act.minutes,
                "mode": act.mode.value,
            },
            "signature": signed(act, ticket["nonce"], ticket["policy"], key),
        }
        return self.post(f"/api/scanners/{scanner}/acts", document | changes)

    def act(self, scanner: str, kind: ActKind, key: SigningKey, reason: str = "seen and needed") -> Any:
        """Decide what is on hold, in one's own name."""
        held = self.held(scanner)
        act = Act(kind, self.name, held["request"], held["digest"], reason)
        return self.send(scanner, self.ticket(scanner), act, key)


class Desk:
    """A console in this process, served to clients without a socket of its own."""

    def __init__(self, folder: Path, sockets: Mapping[str, Path], more: str = "") -> None:
        self.settings = settings_in(folder, console_toml(sockets, more))
        self._stack = ExitStack()
        self._passwords: dict[str, str] = {}
        self.accounts = self._stack.enter_context(Accounts(self.settings.web.accounts, CHEAP))
        self.console: Console = open_console(self.settings, self.accounts)
        self.app = build_console(self.console)
        self._first: Any = None

    def __enter__(self) -> Self:
        self._first = self._stack.enter_context(client_of(self.app))  # its loop serves the console
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stranger(self) -> Any:
        """A client that nobody signed in with."""
        client = client_of(self.app)
        assert self._first is not None
        client.portal = self._first.portal  # the same loop: connections to guards belong to it
        return client

    def browser(self, name: str, *roles: str) -> Browser:
        """Somebody with an account; it is made when there is none."""
        if name not in self._passwords:
            made = self.accounts.add(name, roles)
            assert made is not None
            self._passwords[name] = made
        return Browser(self.stranger(), name, self._passwords[name])

    def run(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` in the loop that serves the console."""
        assert self._first is not None
        return self._first.portal.call(call)


@contextmanager
def served_console(config: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``scanward console --config``: its address, and the process."""
    with (
        (config.parent / "console.err").open("ab") as errors,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from scanward.cli import main; main()",
                *("console", "--config", str(config), "--json"),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (config.parent / "console.err").read_text()
            yield json.loads(line)["address"], process
        finally:
            process.kill()


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events out of a stream's lines."""
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))
