"""The device page in Chromium, out of the real process: axe-core in light and dark, keyboard, no script at all."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from _audit import KEY as LOG_KEY
from _console import console_toml, served_console
from _console_device import DAY, KEY, UNITS, bundle_in, insert, rows_of, world
from _console_history import EPOCH, Log, Scanner
from _web import CHEAP
from scanward.bundle import read
from scanward.commands import Command
from scanward.console.history_store import HistoryStore
from scanward.web.accounts import Accounts

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SHOTS = os.environ.get("SCANWARD_SCREENSHOTS")  # a folder, for whoever wants to look
LISTENER = """
window.__violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
# What lies beyond the right edge, save in a region of its own that scrolls.
OVER = """[...document.querySelectorAll("main *")].filter((one) =>
  one.getBoundingClientRect().right > 321 && !one.closest("[role=region]")).map((one) => one.outerHTML.slice(0, 200))"""


def written(folder: Path) -> None:
    """Four weeks of a site in shadow mode; in the last one doses rose, and examinations look stranger."""
    digest = read(bundle_in(folder / "model"), trusted=[KEY.verify_key]).manifest.digest
    log = Log(folder / "audit")
    log.seconds = time.time() - EPOCH - 2 * DAY
    Scanner(log)
    log.write("judge_ready", {"bundle": digest, "version": 7, "budget": 0.05})
    log.write(
        "drift",
        {"kind": "site_dose", "where": "", "reason": "the dose of all protocols is 1.4 times the usual"},
    )
    log.checkpoint()
    log.close()
    now, rng = time.time(), random.Random(1)

    def more(command: Command) -> Command:
        if "CTDIvol" not in command.parameters:
            return command
        dose = 8.0 * float(command.parameters["CTDIvol"])
        return replace(command, parameters={**command.parameters, "CTDIvol": dose})

    later = world().later
    rows = rows_of(later, now - 28 * DAY + 60, now - 7 * DAY, bundle=digest)
    rows += rows_of(later, now - 7 * DAY + 60, now - DAY, more, bundle=digest)
    told: dict[str, float] = {}
    for n, row in enumerate(rows):
        late = row["at"] > now - 7 * DAY
        row["examination"] += "late" if late else ""
        rank = int(rng.random() ** (4.0 if late else 1.0) * (UNITS + 1))
        row["p_value"] = told.setdefault(row["examination"], (1 + rank) / (UNITS + 1))
        row["seq"] = n
        if row["p_value"] <= 0.05:
            row |= {
                "verdict": "ALERT",
                "layer": "context_sensitive",
                "fields": '["CTDIvol"]',
                "outcome": "shadow",
            }
    (folder / "state").mkdir()
    store = HistoryStore(folder / "state" / "history.sqlite")
    insert(store, rows)
    store.close()


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
    (folder / "audit.pub").write_bytes(LOG_KEY.verify_key.pem())
    (folder / "site.pub").write_bytes(KEY.verify_key.pem())
    more = 'audit = "audit"\naudit_keys = ["audit.pub"]\nbundle = "model"\nbundle_keys = ["site.pub"]\n'
    (folder / "console.toml").write_text(console_toml({"ct1": folder / "nobody.sock"}, more), "utf-8")
    with Accounts(folder / "state" / "accounts.sqlite", CHEAP) as accounts:
        password = accounts.add("petra", ["physicist"])
    assert password is not None
    with served_console(folder / "console.toml") as (address, _):
        yield address.rstrip("/"), password


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drift_is_read_by_everybody(chromium: Browser, console: tuple[str, str], scheme: Any) -> None:
    address, password = console
    context = chromium.new_context(color_scheme=scheme, base_url=address)
    context.set_default_timeout(30_000)
    context.add_init_script(LISTENER)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url)
    )
    page.goto("/sign-in?next=/device")
    page.fill("#name", "petra")
    page.fill("#password", password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/device")  # the address before ends with it, too
    for _ in range(100):  # until the import has come so far
        if page.get_by_text("it is the one that judges").count():
            break
        time.sleep(0.1)
        page.reload()
    expect(page.get_by_text("it is the one that judges")).to_be_visible()
    accessible(page, f"device-{scheme}")
    page.get_by_role("link", name="Drift of Scanner ct1").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/device/ct1")
    expect(page.get_by_text("Moved beyond what chance explains: CTDIvol")).to_be_visible()
    expect(page.get_by_text("NOT like the calibration")).to_be_visible()
    expect(page.get_by_text("passed on because of shadow mode alone")).to_be_visible()
    if scheme == "light":  # some 500 bins: once is enough
        page.get_by_text("The numbers, and every field's bins").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("rowheader", name="CTDIvol (mGy)")).to_be_visible()
    accessible(page, f"device-drift-{scheme}")
    page.set_viewport_size({"width": 320, "height": 800})  # 1.4.10: nothing scrolls both ways
    wide = page.evaluate(OVER)
    assert wide == []
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("link", name="1", exact=True).click()
    page.wait_for_url("**weeks=1*")
    expect(page.get_by_text("Moved beyond what chance explains: CTDIvol")).to_be_visible()
    assert wrong == []
    context.close()


def accessible(page: Page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    found: Any = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10  # it really looked
    assert page.evaluate("window.__violations") == []
