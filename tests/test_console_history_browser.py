"""History and audit in Chromium, out of the real process: axe-core in light and dark, keyboard, hostile names."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from _audit import KEY
from _console import console_toml, served_console
from _console_history import EPOCH, Log, Scanner
from _guard import answer, element
from _web import CHEAP
from scanward.commands import LayerName, Severity
from scanward.guard.operators import Act, ActKind
from scanward.web.accounts import Accounts

ODD = answer({LayerName.CONTEXT_FREE: (Severity.ALERT, "CTDIvol")}, within=False)
HOSTILE = '"><img src=x onerror=alert(2)><script>alert(1)</script>' + "x" * 200
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
LISTENER = """
window.__violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
SHOTS = os.environ.get("SCANWARD_SCREENSHOTS")  # a folder, for whoever wants to look


def written(folder: Path) -> None:
    """Three weeks that ends now: sixty examinations, three alerted on one day; an emergency; a hostile name."""
    log = Log(folder / "audit")
    log.seconds = time.time() - EPOCH - 20 * 86_400.0
    scanner = Scanner(log)
    log.write("judge_ready", {"bundle": "b" * 64, "version": 3, "budget": 0.02})
    for number in range(60):
        log.seconds += 86_400.0 / 3
        scanner.judge = [ODD] if number in (30, 31, 32, 41) else [answer()]
        if number in (31, 32):
            log.seconds -= 86_400.0 / 3 - 60.0  # the same day
        name = HOSTILE if number == 41 else f"Thorax routine {number % 4}"
        scanner.load(
            element(40.0 + number, ProtocolName=name, BodyPartExamined="CHEST"), examination=f"{number:016x}"
        )
        scanner.pass_time(10_000.0)  # nobody answers
    scanner.judge = [ODD]
    assert scanner.desk.act(Act(ActKind.EMERGENCY, "anna"), "anna") == ""
    scanner.load(element(7.0, ProtocolName="Head"), examination="f" * 16)
    log.checkpoint()
    log.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address, and the password of petra, who is a physicist."""
    folder = tmp_path_factory.mktemp("console")
    written(folder)
    (folder / "audit.pub").write_bytes(KEY.verify_key.pem())
    more = 'audit = "audit"\naudit_keys = ["audit.pub"]\n'
    (folder / "console.toml").write_text(console_toml({"ct1": folder / "nobody.sock"}, more), "utf-8")
    (folder / "state").mkdir()
    with Accounts(folder / "state" / "accounts.sqlite", CHEAP) as accounts:
        password = accounts.add("petra", ["physicist"])
    assert password is not None
    with served_console(folder / "console.toml") as (address, _):
        yield address.rstrip("/"), password


@pytest.fixture(params=["light", "dark"])
def page(chromium: Browser, console: tuple[str, str], request: pytest.FixtureRequest) -> Iterator[Page]:
    address, password = console
    context: BrowserContext = chromium.new_context(color_scheme=request.param, base_url=address)
    context.set_default_timeout(30_000)
    context.add_init_script(LISTENER)
    made = context.new_page()
    wrong: list[str] = []
    made.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on(
        "request", lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url)
    )
    made.goto("/sign-in?next=/history")
    made.fill("#name", "petra")
    made.fill("#password", password)
    made.keyboard.press("Enter")
    made.wait_for_url(lambda url: "/sign-in" not in url)
    yield made
    assert wrong == []
    context.close()


def accessible(page: Page, name: str, scheme: str = "") -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"{name}{scheme}.png", full_page=True)
    found: Any = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10  # it really looked
    assert page.evaluate("window.__violations") == []


def settled(page: Page, path: str, word: str) -> None:
    """Until the import has come so far."""
    for _ in range(100):
        page.goto(path)
        if word in page.content():
            return
        time.sleep(0.1)
    raise AssertionError(f"{word!r} did not appear on {path}")


def test_history_is_searched_by_keyboard_and_shows_what_is_odd(
    page: Page, request: pytest.FixtureRequest
) -> None:
    scheme = f"-{request.node.callspec.params['page']}"
    settled(page, "/history", "61 found")
    accessible(page, "history", scheme)
    expect(page.get_by_text("More than the budget explains")).to_be_visible()
    page.focus("#verdict")
    page.keyboard.type("AL")
    page.get_by_role("button", name="Show", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "verdict=ALERT" in url)
    expect(page.get_by_text("5 found")).to_be_visible()
    expect(page.locator("table.commands tbody tr")).to_have_count(5)
    assert page.locator("img").count() == 0  # the hostile name is text
    page.locator("table.commands tbody tr", has_text="onerror").get_by_role("link").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>alert(1)</script>")
    expect(page.get_by_text("▲ yes")).to_be_visible()
    accessible(page, "history-command", scheme)
    page.goto("/history/notes")
    accessible(page, "history-notes", scheme)


def test_audit_says_who_broke_the_glass(page: Page, request: pytest.FixtureRequest) -> None:
    settled(page, "/audit", "whole and signed")
    expect(page.get_by_text("▲ UNEXPLAINED").first).to_be_visible()
    accessible(page, "audit", f"-{request.node.callspec.params['page']}")
    page.get_by_role("button", name="Verify the log").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/audit#log-ct1")
    page.get_by_role("link", name="1 command").first.click()
    expect(page.get_by_text("1 found")).to_be_visible()
