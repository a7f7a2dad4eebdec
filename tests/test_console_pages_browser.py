"""Every page of the console that a person reads, by axe-core in light and dark, out of the real process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from _console_now import Room, room
from _web import CHEAP
from scanward.web.accounts import Accounts

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PAGES = {
    "eva": ["/alerts", "/alerts?sent=1", "/accounts", "/configuration", "/account"],
    "petra": ["/alerts", "/history", "/history/notes", "/device", "/device/ct1", "/audit", "/now"],
    "anna": ["/alerts", "/now", "/account"],
}


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
def here(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("console")
    with room(folder, "ct1") as made:
        with Accounts(folder / "state" / "accounts.sqlite", CHEAP) as accounts:
            password = accounts.add("eva", ["administrator"])
        assert password is not None
        object.__setattr__(made, "passwords", {**made.passwords, "eva": password})
        made.hold()  # something to read
        yield made
        made.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", list(PAGES))
def test_every_page_can_be_read_by_everybody(here: Room, chromium: Browser, name: str, scheme: str) -> None:
    page = here.sign_in(chromium, name, scheme, path="/home")
    for path in PAGES[name]:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        found: Any = Axe().run(page, options=RULES)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        assert len(found.response["passes"]) > 10, path  # it really looked
