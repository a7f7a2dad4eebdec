"""The page Now in Chromium: guards in strange hands, servers that say no, dialogs under somebody's hands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect, sync_playwright

from _console_now import Room, holding, room
from _guard import ANNA
from scanward.guard.control_lines import plain


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path, "ct1", "ct2") as made:
        yield made
        made.close()


def test_what_cannot_be_drawn_leaves_nothing_of_the_hold_before_it(here: Room, chromium: Browser) -> None:
    guard = here.guards["ct1"]
    page = here.sign_in(chromium, "anna")
    here.open_key(page, ANNA)
    expect(page.locator("#key-state")).to_contain_text("Your key is open")
    held = here.hold()
    holding(page)
    expect(page.locator("#objections")).to_contain_text("61.3")
    shown: Any = plain(held)
    shown["findings"] = [None]  # the same commands, which the digest is of
    guard.run(lambda: guard.bench.desk.told("held", shown))  # and so say its later states
    expect(page.locator("#warnings")).to_contain_text("cannot be shown here")
    for place in ("#objections", "#reason-shown", "#everything"):
        expect(page.locator(place)).to_be_empty()
    expect(page.locator("#release")).to_be_disabled()
    page.keyboard.press("r")
    expect(page.locator("#reason-dialog")).to_be_hidden()
    # Nobody else's hold is harder to see for it.
    here.hold("ct2")
    expect(page.locator(".tab", has_text="ct2")).to_contain_text("HOLD")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#objections")).to_contain_text("61.3")
    expect(page.locator("#release")).to_be_enabled()


def test_asking_for_emergency_access_is_taken_away_by_no_news(here: Room, chromium: Browser) -> None:
    bench = here.guards["ct1"].bench
    page = here.sign_in(chromium, "anna")
    here.open_key(page, ANNA)
    expect(page.locator("#key-state")).to_contain_text("Your key is open")
    expect(page.locator('.tab[aria-current="true"]')).to_contain_text("Scanner ct1")
    expect(page.locator("#status")).to_have_text("● Nothing on hold")
    page.keyboard.press("e")
    page.keyboard.type("bleeding, ")
    here.hold("ct2")
    expect(page.locator(".tab", has_text="ct2")).to_contain_text("HOLD")
    here.hold("ct1")
    expect(page.locator(".tab", has_text="ct1")).to_contain_text("HOLD")
    page.keyboard.type("no time")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("Emergency access is on.")
    (begun,) = bench.recorded("emergency_begin")
    assert (begun["operator"], begun["reason"]) == ("anna", "bleeding, no time")
    assert not here.guards["ct2"].bench.recorded("emergency_begin")


def test_a_page_asks_again_for_a_stream_that_is_refused(here: Room, chromium: Browser) -> None:
    page = here.sign_in(chromium, "anna")
    here.open_key(page, ANNA)
    expect(page.locator("#key-state")).to_contain_text("Your key is open")
    refused: list[int] = []

    def no(route: Route) -> None:
        refused.append(1)
        route.fulfill(status=502, body="a proxy in front of a console that is being started")

    page.route("**/api/events", no)
    page.reload()
    expect(page.locator("#alive")).to_be_visible(timeout=15_000)
    assert refused
    page.unroute("**/api/events")
    here.hold()
    expect(page.locator("#status")).to_have_text("▲ ON HOLD", timeout=15_000)
    expect(page.locator("#ended")).to_be_hidden()
    expect(page.locator("#alive")).to_be_hidden()


def test_a_page_whose_sign_in_ended_says_so_and_asks_no_more(here: Room, chromium: Browser) -> None:
    page = here.sign_in(chromium, "anna")
    expect(page.locator("#status")).to_have_text("● Nothing on hold")
    other = page.context.new_page()
    other.goto("/account")
    other.get_by_role("button", name="Sign out everywhere").click()
    expect(page.locator("#ended")).to_contain_text("You are signed out", timeout=15_000)
