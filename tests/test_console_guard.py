"""The whole of it: host, guard and gantry; a console elsewhere, over TLS; a browser's requests over HTTP."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from _console import events_of, served_console, settings_in, until
from _guard import ANNA, policy_text
from _guard_site import SIGMA, GuardSite, hello, load_line, patient
from _stream import Authority, Gantry, host, plain_gantry
from _trained import Trained
from _web import CHEAP, sign_in
from scanward.guard.operators import Act, ActKind, signed
from scanward.web.accounts import Accounts


class Watching:
    """What a page hears, in a thread of its own."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.states: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self.client.stream("GET", "/api/events") as answer:
                self.states.extend(data for kind, data in events_of(answer.iter_lines()) if kind == "scanner")
        except httpx.HTTPError:
            return  # the console was ended

    def seen(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first state heard from now on (the newest included) of which ``found`` holds."""
        place = max(0, len(self.states) - 1)

        def look() -> dict[str, Any] | None:
            return next((state for state in self.states[place:] if found(state)), None)

        state: dict[str, Any] = until(look, lambda: self.states[-1:])
        return state


@contextmanager
def browser(config: Path, password: str) -> Iterator[tuple[httpx.Client, str]]:
    """A console in a process of its own, and anna signed in to it: a client, and the token of her page."""
    with (
        served_console(config) as (address, _),
        httpx.Client(base_url=address, timeout=60.0) as client,
    ):
        yield client, sign_in(client, "anna", password)  # type: ignore[arg-type]


def act_of(client: httpx.Client, token: str, act: Act) -> Any:
    """Take a ticket, sign, send."""
    headers = {"X-CSRF-Token": token}
    ticket = client.post("/api/scanners/ct1/tickets", json={}, headers=headers).json()
    said = {
        "act": act.kind.value,
        "operator": act.operator,
        "request": act.request,
        "shown": act.shown,
        "reason": act.reason,
    }
    document = {
        "ticket": ticket["ticket"],
        "act": said,
        "signature": signed(act, ticket["nonce"], ticket["policy"], ANNA),
    }
    return client.post("/api/scanners/ct1/acts", json=document, headers=headers)


def test_a_console_elsewhere_releases_refuses_and_outlives_the_guard(
    small_bundle: Trained, tmp_path: Path
) -> None:
    examination = next(e for e in small_bundle.examinations() if e.commands[0].device.model == SIGMA.model)
    text = re.sub(r"alert_(CTDIvol|DLP) = \d+", r"alert_\1 = 0.01", patient(policy_text()))  # all are held
    authority = Authority(tmp_path / "ca")
    ours, theirs = authority.files("guard-1"), authority.files("console-1")

    def guard_listens(site: GuardSite, port: int) -> None:
        table = (
            f'socket = "c.sock"\nlisten = "127.0.0.1:{port}"\ncertificate = "{ours.certificate}"\n'
            f'key = "{ours.key}"\nauthority = "{ours.authority}"\nnames = ["console-1"]'
        )
        old = site.config.read_text()
        site.config.write_text(re.sub(r'socket = "c.sock"(\nlisten(.|\n)*)?', table, old))

    def console_at(port: int) -> Path:
        return settings_in(
            tmp_path,
            f'[web]\nlisten = "127.0.0.1:0"\n[[scanner]]\nid = "ct1"\nname = "CT 1"\n'
            f'control = "127.0.0.1:{port}"\n[scanner.tls]\ncertificate = "{theirs.certificate}"\n'
            f'key = "{theirs.key}"\nauthority = "{theirs.authority}"\nname = "guard-1"\n',
        ).path

    async def scene() -> None:
        gantry = Gantry(hello=hello, answer=plain_gantry)
        site = GuardSite.make(tmp_path / "site", await gantry.start(), small_bundle, policy=text)
        guard_listens(site, 0)
        await asyncio.to_thread(site.start)
        port = int(site.said[-1].rpartition("consoles to port ")[2])
        guard_listens(site, port)  # at the same place after its restart
        config = console_at(port)
        with Accounts(config.parent / "state" / "accounts.sqlite", CHEAP) as accounts:
            password = accounts.add("anna", ["operator"])
        assert password is not None
        try:
            with browser(config, password) as (client, token):
                page = Watching(client)
                await gantry.wait("hello", 2)
                async with host(site.port, hello=hello) as played:
                    await site.wait_for("judge_ready")
                    played.say(load_line("L1", examination.commands, "1.1"))
                    assert b'"held"' in await played.hear()
                    held = (await asyncio.to_thread(page.seen, lambda s: s["held"]))["held"]
                    assert (held["shown_ok"], held["id"]) == (True, "L1")
                    assert len(held["chain"]) == len(examination.commands)
                    act = Act(ActKind.RELEASE, "anna", held["request"], held["digest"], "agreed")
                    answer = await asyncio.to_thread(act_of, client, token, act)
                    assert answer.json() == {"done": True, "reason": ""}
                    assert b'"loaded"' in await played.hear_until(b'"loaded"')
                    await asyncio.to_thread(page.seen, lambda s: s["held"] is None)
                    played.say(load_line("L2", examination.commands, "1.1"))
                    held = (await asyncio.to_thread(page.seen, lambda s: s["held"]))["held"]
                    act = Act(ActKind.REFUSE, "anna", held["request"], held["digest"], "not ordered")
                    answer = await asyncio.to_thread(act_of, client, token, act)
                    assert answer.json() == {"done": True, "reason": ""}
                    assert b"not ordered" in await played.hear_until(b'"refused"')
                    await asyncio.to_thread(site.stop, signal.SIGKILL)
                    down = await asyncio.to_thread(page.seen, lambda s: s["link"] == "down")
                    assert down["link_reason"]
                answer = await asyncio.to_thread(act_of_nobody, client, token)
                assert answer.status_code == 503
                await asyncio.to_thread(site.start)
                up = await asyncio.to_thread(page.seen, lambda s: s["link"] == "up")
                assert (up["held"], up["local"]) == (None, False)
        finally:
            await asyncio.to_thread(site.stop)
            await gantry.close()
        said = [(one["operator"], one["reason"]) for one in site.of("operator")]
        assert said == [("anna", "agreed"), ("anna", "not ordered")]
        assert "Traceback" not in (config.parent / "console.err").read_text()

    asyncio.run(scene())


def act_of_nobody(client: httpx.Client, token: str) -> Any:
    """A ticket while no guard is there."""
    return client.post("/api/scanners/ct1/tickets", json={}, headers={"X-CSRF-Token": token})
