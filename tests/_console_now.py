"""The page Now in Chromium, out of the real console process, against a real gate and control channel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from _console import console_toml, served_console
from _guard import Bench, answer, element, policy, policy_text
from _web import CHEAP
from scanward.commands import LayerName, Objection, Opinion, Outcome, Severity
from scanward.guard.policy import Policy
from scanward.guard.policy_terms import ElementAnswer
from scanward.keys import SigningKey
from scanward.web.accounts import Accounts
from test_guard_control import Running, running

LISTENER = """
window.__violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
SHOTS = os.environ.get("SCANWARD_SCREENSHOTS")  # a folder, for whoever wants to look
SECRET = "a passphrase of a key"
TWO = """
[two_persons]
layers = ["physics"]
"""


def site(two: bool = False) -> Policy:
    """The example policy, with or without findings that need two persons."""
    return policy(policy_text() + (TWO if two else ""))


def odd(layer: LayerName = LayerName.CONTEXT_FREE) -> ElementAnswer:
    """A judge that objects to dose and tube current of a command, as a learned layer or a rule would."""
    said = answer({layer: (Severity.ALERT, "CTDIvol")}, within=layer not in (LayerName.CONTEXT_FREE,))
    found = (
        Objection(
            "CTDIvol", "is far above what this protocol gives", 61.3, "6 to 9 mGy", 9.1, severity=Severity.ALERT
        ),
        Objection(
            "XRayTubeCurrentInmA", "is far above what a child needs", 640.0, "60 to 110 mA", 7.4,
            severity=Severity.ALERT,
        ),
    )  # fmt: skip
    opinions = tuple(
        Opinion(o.layer, Outcome.OBJECT, found, 12.0, 0.0007) if o.layer is layer else o
        for o in said.opinions
    )
    return replace(said, opinions=opinions, p_value=0.0004)


@dataclass
class Room:
    """Guards, a console and people."""

    address: str
    folder: Path
    guards: Mapping[str, Running]
    passwords: Mapping[str, str]
    console: Any = None
    wrong: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def hold(self, scanner: str = "ct1", said: ElementAnswer | None = None, **changes: Any) -> dict[str, Any]:
        """The host loads something odd; what the guard tells of it."""
        guard = self.guards[scanner]

        def now() -> dict[str, Any]:
            guard.bench.judge = [said or odd()]
            guard.bench.load(element(7.0, CTDIvol=61.3, XRayTubeCurrentInmA=640.0, **changes))
            return guard.bench.told("held")[-1]

        found: dict[str, Any] = guard.run(now)
        return found

    def sign_in(self, chromium: Browser, name: str, scheme: Any = "light", path: str = "/now") -> Page:
        """A browser of one's own."""
        context = chromium.new_context(
            color_scheme=scheme, base_url=self.address, viewport={"width": 1600, "height": 1100}
        )
        context.set_default_timeout(30_000)
        context.add_init_script(LISTENER)
        self.contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: self.wrong.append(f"a dialog: {dialog.message}"))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda asked: self._ours(asked.url))
        page.goto(f"/sign-in?next={path}")
        page.fill("#name", name)
        page.fill("#password", self.passwords[name])
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    def _ours(self, url: str) -> None:
        if not url.startswith((self.address, "data:")):
            self.wrong.append(f"a request to {url}")

    def open_key(self, page: Page, key: SigningKey, passphrase: str = SECRET) -> None:
        """Choose the key's file and open it."""
        path = self.folder / f"{key.fingerprint[:8]}.key"
        path.write_bytes(key.pem(SECRET.encode()))
        page.set_input_files("#key-file", path)
        page.fill("#passphrase", passphrase)
        page.keyboard.press("Enter")

    def close(self) -> None:
        """All browsers; nothing went wrong in any."""
        for context in self.contexts:
            for page in context.pages:
                self.wrong += page.evaluate("window.__violations ?? []")
            context.close()
        self.contexts.clear()
        assert self.wrong == []


@contextmanager
def room(folder: Path, *scanners: str, two: bool = False) -> Iterator[Room]:
    """A console process over guards of these names; anna, bert and carl are operators, petra a physicist."""
    with ExitStack() as stack:
        guards = {
            name: stack.enter_context(running(folder / f"{name}.sock", Bench(site(two)))) for name in scanners
        }
        (folder / "console.toml").write_text(console_toml({n: g.path for n, g in guards.items()}), "utf-8")
        (folder / "state").mkdir()
        passwords = {}
        with Accounts(folder / "state" / "accounts.sqlite", CHEAP) as accounts:
            for name, role in (
                ("anna", "operator"),
                ("bert", "operator"),
                ("carl", "operator"),
                ("petra", "physicist"),
            ):
                made = accounts.add(name, [role])
                assert made is not None
                passwords[name] = made
        address, process = stack.enter_context(served_console(folder / "console.toml"))
        yield Room(address.rstrip("/"), folder, guards, passwords, process)


def shot(page: Page, name: str) -> None:
    """A screenshot, for whoever asked for one."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def holding(page: Page) -> None:
    """Until the hold is on the page."""
    expect(page.locator("#status")).to_have_text("▲ ON HOLD")
