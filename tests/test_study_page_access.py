"""Accessibility of a study's pages in Chromium, what stands between sessions, and the lead's page.

axe-core in light and dark, 320 px of width (WCAG 1.4.10), 24 px of every control (2.5.8), reduced motion; every key
that the help names does what it says there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import Seat, chromium, taken
from _study_pages import ServerProcess, add_accounts
from scanward.reading.opened import Study, open_study
from scanward.reading.protocol import LESION, MANIPULATION, Question

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SEVEN = Question(identifier="lesion", text="How suspicious is it?", labels=tuple("abcdefg"))
THIRD = Question(identifier="quality", text="How good is the picture?", labels=("bad", "fair", "good"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def _served(base: Any, *, name: str, readers: int, **options: Any) -> Iterator[tuple[Study, ServerProcess]]:
    folder = small_study(base, readers=readers, rows=60, columns=50, name=name, **options)
    add_accounts(folder, {f"R{number:02d}": "reader" for number in range(1, readers + 1)} | {"lead": "lead"})
    with ServerProcess(folder) as started:
        yield open_study(folder), started


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Study, ServerProcess]]:
    """Two questions of five labels, confidence, practice; four weeks between sessions of two cases."""
    base = tmp_path_factory.mktemp("plain")
    options = {"cases": 4, "practice": 2, "confidence": True, "washout_days": 28.0, "session_cases": 2}
    yield from _served(base, name="study", readers=8, **options)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Study, ServerProcess]]:
    """Three questions, the first of seven labels; no going back, no marks."""
    base = tmp_path_factory.mktemp("asking")
    questions = (SEVEN, MANIPULATION, THIRD)
    yield from _served(
        base, name="study", readers=2, cases=4, questions=questions, go_back=False, marks=False
    )


def accessible(page: Any) -> None:
    found: Any = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 10  # it really looked


@pytest.mark.parametrize(("scheme", "reader"), [("light", "R01"), ("dark", "R02")])
def test_pages_are_accessible(
    browser: Browser, plain: tuple[Study, ServerProcess], scheme: str, reader: str
) -> None:
    _, server = plain
    with Seat(browser, server, reader, color_scheme=scheme, reduced_motion="reduce") as seat:
        page = seat.page
        page.goto(f"{server.address}/study/")
        accessible(page)
        seat.sign_in("/study/")
        page.wait_for_selector("#start")
        accessible(page)
        page.goto(f"{server.address}/study/read")
        seat.case()
        seat.press("k", "Space")
        accessible(page)
        seat.press("k", "?")
        page.wait_for_selector("#help-dialog[open]")
        accessible(page)
        seat.press("Escape", "p")
        seat.view("paused")
        accessible(page)
        moving = page.evaluate(
            """[...document.querySelectorAll("*")].filter((e) => { const s = getComputedStyle(e);
                 return [s.transitionDuration, s.animationDuration].some((d) => parseFloat(d) > 0); }).length"""
        )
        assert moving == 0  # reduced motion: nothing moves
        assert page.evaluate("document.getAnimations().filter((a) => a.playState === 'running').length") == 0
    with Seat(browser, server, "lead", color_scheme=scheme) as seat:
        seat.sign_in("/study/lead")
        seat.page.wait_for_selector("#overview tbody tr:nth-child(8)")
        accessible(seat.page)
        row = seat.page.inner_text(f"#overview tbody tr:nth-child({int(reader[1:])})")
        assert re.match(rf"{reader}\s+practice, paused\s+0 of 4", re.sub(r"\s+", " ", row))
        assert seat.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 19, 23)"
        )


CONTROLS = """() => [...document.querySelectorAll("button, a, input, canvas[tabindex], summary")]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.closest("[inert]"))
    .map((e) => { const b = e.getBoundingClientRect();
        return [e.id || e.textContent.trim(), b.left + scrollX, b.right + scrollX, b.width, b.height]; })"""


def test_a_narrow_window_keeps_every_control(browser: Browser, plain: tuple[Study, ServerProcess]) -> None:
    _, server = plain
    with Seat(browser, server, "R03") as seat:
        page = seat.page
        seat.read()
        seat.press("k", "Space", "k")
        wide = {name for name, *_ in page.evaluate(CONTROLS)}
        page.set_viewport_size({"width": 320, "height": 640})
        page.evaluate("() => new Promise(requestAnimationFrame)")
        narrow = page.evaluate(CONTROLS)
        assert {name for name, *_ in narrow} == wide
        assert {"save", "back", "pause", "help", "one-to-one", "window-width", "lesion-5", "picture"} <= wide
        for name, left, right, width, height in narrow:
            assert left >= -1 or name == "Skip to the content", name
            assert right <= 321, name
            assert min(width, height) >= 24 or name in ("Skip to the content", "Overview of the study"), name
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        for name in ("#save", "#mark-list button", "#lesion-5"):  # and can be scrolled to and pressed
            page.click(name)
        assert seat.chosen("lesion") == 5
        page.wait_for_function(
            "document.activeElement.id === 'picture'"
        )  # after a click the keys are the picture's
        for there in ("/study/", "/study/read"):
            page.goto(f"{server.address}{there}")
            page.wait_for_load_state()
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, there


def test_washout_says_when_the_next_session_opens(
    browser: Browser, plain: tuple[Study, ServerProcess]
) -> None:
    study, server = plain
    with Seat(browser, server, "R04", timezone_id="UTC") as seat:
        page = seat.page
        seat.through_practice()
        seat.next()
        seat.press("2", "7", "Enter")
        seat.view("washout")
        last = datetime.fromisoformat(taken(study.folder, "R04")[-1]["received_at"])
        opens = last + timedelta(days=28)
        assert page.inner_text("#screen-title") == "Session 1 is complete"
        assert f"{opens.day} {opens:%B %Y} at {opens:%H:%M}" in page.inner_text("#screen-text")
        accessible(page)
        page.goto(f"{server.address}/study/read")  # no picture is to be had before that
        seat.view("washout")
        assert seat.state["token"] is None
        assert page.inner_text("#screen-title") == "No session is open"
        seat.press("Enter")
        page.wait_for_url("**/study/")
        assert page.inner_text("#now-title") == "No session is open now"
        assert f"{opens.day} {opens:%B %Y}" in page.inner_text(".now time")
        assert page.query_selector("#start") is None


def test_the_lead_sees_progress_and_no_ratings(browser: Browser, plain: tuple[Study, ServerProcess]) -> None:
    study, server = plain
    with Seat(browser, server, "R05") as reader, Seat(browser, server, "lead") as lead:
        lead.sign_in("/study/lead")
        row = "#overview tbody tr:nth-child(5)"
        assert "practice" in lead.page.inner_text(row)
        before = lead.page.inner_text("#overview")
        reader.through_practice()
        reader.next("5", "0")
        reader.saved()
        lead.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # or after 15 s
        lead.page.wait_for_function(
            "row => document.querySelector(row).innerText.includes('session 1 of 2')", arg=row
        )
        assert "1 of 4" in lead.page.inner_text(row)
        assert lead.page.inner_text("#overview") != before
        words = lead.page.content()
        assert not re.search(r"genuine|definitely|lesion|manipulation", words)
        assert not [token for token in study.places if token in words]


# --- every key of the help


Check = Callable[[Seat], None]


def _back_and_leave(seat: Seat) -> None:
    here = seat.token
    for key in ("b", "Backspace"):
        seat.press(key)
        assert seat.case() != here
        seat.press("n")
        assert seat.case() == here


def _arrows(seat: Seat) -> None:
    for key, axis, sign in (
        ("ArrowRight", 0, 1),
        ("ArrowLeft", 0, -1),
        ("ArrowDown", 1, 1),
        ("ArrowUp", 1, -1),
    ):
        seat.press("f", "o", "+", "+", "+")
        moved = []
        for press in (key, f"Shift+{key}"):
            before = seat.state["pan"]
            seat.press(press)
            after = seat.state["pan"]
            assert (after[axis] - before[axis]) * sign > 0
            assert after[1 - axis] == before[1 - axis]
            moved.append(abs(after[axis] - before[axis]))
            seat.press("f", "o", "+", "+", "+")
        assert moved[1] > moved[0]
    seat.press("f")


def _windows(keys: str, which: int, signs: tuple[int, int], small: bool = False) -> Check:
    def check(seat: Seat) -> None:
        for key, sign in zip(keys, signs, strict=True):
            seat.press("r")
            before = seat.window()
            seat.press(key)
            big = seat.window()[which] - before[which]
            assert big * sign > 0
            assert seat.window()[1 - which] == before[1 - which]
            if small:
                seat.press("r", f"Shift+{key.upper()}")
                assert 0 < (seat.window()[which] - before[which]) * sign < big * sign
        seat.press("r")

    return check


def _small(seat: Seat) -> None:
    _windows("we", 1, (-1, 1), small=True)(seat)
    _windows("sd", 0, (1, -1), small=True)(seat)


def _reset(seat: Seat) -> None:
    first = seat.window()
    seat.press("w", "s", "s")
    assert seat.window() != first
    seat.press("r")
    assert seat.window() == first


def _toggle(key: str, name: str) -> Check:
    def check(seat: Seat) -> None:
        for expected in (True, False):
            seat.press(key)
            assert bool(seat.state[name]) is expected

    return check


def _zoom(seat: Seat) -> None:
    whole = seat.state["zoom"]
    seat.press("+")
    assert seat.state["zoom"] > whole
    seat.press("-", "-")
    assert seat.state["zoom"] < whole
    seat.press("f")


def _fit_and_one(seat: Seat) -> None:
    seat.press("f")
    whole = seat.state["zoom"]
    seat.press("o")
    assert seat.state["zoom"] == 1 != whole
    seat.press("f")
    assert seat.state["zoom"] == whole


def _help(seat: Seat) -> None:
    seat.press("?")
    assert seat.page.is_visible("#help-dialog")
    seat.press("?")
    assert seat.page.is_hidden("#help-dialog")


def _pause(seat: Seat) -> None:
    seat.press("p")
    seat.view("paused")
    seat.press("Enter")
    seat.view("case")


def _rates(question: str, keys: list[str]) -> Check:
    def check(seat: Seat) -> None:
        for rating, key in enumerate(keys, 1):
            seat.press(*key.split(" "))
            assert seat.chosen(question) == rating, key

    return check


def _second(seat: Seat) -> None:
    _rates("manipulation", list("67890"))(seat)
    _rates("manipulation", [f"Shift+{digit}" for digit in range(1, 6)])(seat)


def _next_question(seat: Seat) -> None:
    seat.press("1", "6", "q")
    assert seat.focus() == "lesion-1"
    seat.press("ArrowRight")
    assert seat.chosen("lesion") == 2
    seat.press("q")
    assert seat.focus() == "manipulation-1"
    seat.page.focus("#picture")


def _place(seat: Seat, across: int = 0, down: int = 0) -> tuple[float, float]:
    box = seat.page.locator("#picture").bounding_box()
    return box["x"] + box["width"] / 2 + across, box["y"] + box["height"] / 2 + down


def _drag(seat: Seat, across: int, down: int, button: str = "left") -> None:
    mouse = seat.page.mouse
    mouse.move(*_place(seat))
    mouse.down(button=button)
    mouse.move(*_place(seat, across, down), steps=3)
    mouse.up(button=button)


def _drag_window(seat: Seat) -> None:
    centre, width = seat.window()
    _drag(seat, 60, -40)
    assert seat.window()[0] < centre  # up: brighter
    assert seat.window()[1] > width
    seat.press("r")


def _drag_picture(seat: Seat) -> None:
    for shift, button in ((True, "left"), (False, "right")):
        seat.press("f")
        before, window = seat.state["pan"], seat.window()
        if shift:
            seat.page.keyboard.down("Shift")
        _drag(seat, 50, 30, button)
        seat.page.keyboard.up("Shift")
        zoom = seat.state["zoom"]
        assert seat.state["pan"] == pytest.approx([before[0] - 50 / zoom, before[1] - 30 / zoom])
        assert seat.window() == window
    seat.press("f")


def _wheel(seat: Seat) -> None:
    zoom, origin = seat.state["zoom"], seat.state["origin"]
    seat.page.mouse.move(*_place(seat, 40, 30))
    box = seat.page.locator("#picture").bounding_box()
    at = (box["width"] / 2 + 40, box["height"] / 2 + 30)
    under = [origin[i] + at[i] / zoom for i in (0, 1)]
    seat.page.mouse.wheel(0, -200)
    seat.page.wait_for_function("zoom => window.__view.zoom > zoom", arg=zoom)
    state = seat.state
    now = [state["origin"][i] + at[i] / state["zoom"] for i in (0, 1)]
    assert now == pytest.approx(under, abs=1 / state["zoom"])
    seat.press("f")


def _double(seat: Seat) -> None:
    whole = seat.state["zoom"]
    seat.page.mouse.dblclick(*_place(seat))
    assert seat.state["zoom"] == 1
    seat.page.mouse.dblclick(*_place(seat))
    assert seat.state["zoom"] == whole


def _marking(seat: Seat) -> None:
    assert seat.state["cursor"] is None
    seat.press("k")
    first = seat.state["cursor"]
    assert first is not None
    seat.press("ArrowRight", "ArrowDown")
    second = seat.state["cursor"]
    assert second[0] > first[0]
    assert second[1] > first[1]
    seat.press("Shift+ArrowLeft")
    assert seat.state["cursor"] == [second[0] - 1, second[1]]
    seat.press("Space")
    assert len(seat.state["marks"]) == 1
    seat.press("Space")
    assert seat.state["marks"] == []
    seat.press("Space", *["ArrowUp"] * 3, "Space", "Delete")
    (left,) = seat.state["marks"]
    assert left == pytest.approx([second[0] - 1, second[1]], abs=0.1)
    seat.press("Delete", "k")
    assert (seat.state["marks"], seat.state["cursor"]) == ([], None)


def _ctrl_click(seat: Seat) -> None:
    for number in (1, 0):
        seat.page.keyboard.down("Control")
        seat.page.mouse.click(*_place(seat, 10, 10))
        seat.page.keyboard.up("Control")
        assert len(seat.state["marks"]) == number


def _save(seat: Seat) -> None:
    seat.next("2", "8")


CHECKS: dict[tuple[str, str], Check] = {
    ("1–5", "answer the first question"): _rates("lesion", list("12345")),
    ("6 7 8 9 0 Shift + 1–5", "answer the second question"): _second,
    ("q", "go to the next question; arrow keys choose there"): _next_question,
    ("c 1–5", "confidence"): _rates("confidence", [f"c {digit}" for digit in range(1, 6)]),
    ("Enter", "save and go on"): _save,
    ("b Backspace", "back to the case before"): _back_and_leave,
    ("n", "leave that answer as it was"): _back_and_leave,
    ("p", "pause"): _pause,
    ("w e", "window narrower, wider"): _windows("we", 1, (-1, 1)),
    ("s d", "window's centre up (darker), down (brighter)"): _windows("sd", 0, (1, -1)),
    ("Shift + w e s d", "the same in small steps"): _small,
    ("r", "the window the picture came with"): _reset,
    ("i", "invert"): _toggle("i", "invert"),
    ("+ -", "zoom in, out"): _zoom,
    ("f", "whole picture"): _fit_and_one,
    ("o", "1:1, one picture pixel on one screen pixel"): _fit_and_one,
    ("← ↑ → ↓", "move the picture (with Shift: further)"): _arrows,
    ("m", "magnifier"): _toggle("m", "magnifier"),
    ("?", "this help"): _help,
    ("drag", "window: across for its width, up for brighter"): _drag_window,
    ("Shift + drag right button", "move the picture"): _drag_picture,
    ("wheel", "zoom at the pointer"): _wheel,
    ("double click", "1:1 there; again: whole picture"): _double,
    ("k", "mark mode, on and off"): _marking,
    ("← ↑ → ↓", "in mark mode: move the cross (with Shift: one pixel)"): _marking,
    ("Space", "in mark mode: set a mark, or remove the one there"): _marking,
    ("Delete", "in mark mode: remove the last mark"): _marking,
    ("Ctrl + click", "set a mark, or remove the one there"): _ctrl_click,
}
ROWS = """() => [...document.querySelectorAll("#help-keys dt")].map((term) => [
    [...term.querySelectorAll("kbd")].map((key) => key.textContent).join(" "), term.nextElementSibling.textContent])"""


def test_every_key_of_the_help_does_what_it_says(
    browser: Browser, plain: tuple[Study, ServerProcess]
) -> None:
    _, server = plain
    with Seat(browser, server, "R06") as seat:
        seat.read()
        seat.press("?")
        rows = [tuple(row) for row in seat.page.evaluate(ROWS)]
        seat.press("Escape")
        assert sorted(rows) == sorted(CHECKS)  # what the help names is what is tried here
        for check in dict.fromkeys(CHECKS.values()):
            check(seat)


def test_keys_of_longer_scales_and_more_questions(
    browser: Browser, asking: tuple[Study, ServerProcess]
) -> None:
    study, server = asking
    with Seat(browser, server, "R01") as seat:
        page = seat.page
        page.goto(f"{server.address}/study/")
        seat.sign_in("/study/")
        assert "Keys 1 to 7 answer the first question, with Shift the second;" in re.sub(
            r"\s+", " ", page.inner_text("main")
        )
        page.goto(f"{server.address}/study/read")
        seat.case()
        seat.press("?")
        rows = dict(map(tuple, page.evaluate(ROWS)))
        seat.press("Escape")
        assert rows["1–7"] == "answer the first question"
        assert rows["Shift + 1–5"] == "answer the second question"
        assert rows["q"] == "go to the next question; digits and arrow keys choose there"
        assert not {"b Backspace", "k", "n", "Ctrl + click"} & set(rows)
        shown = page.locator("#question-manipulation kbd").all_inner_texts()
        assert shown == [f"⇧{digit}" for digit in range(1, 6)]
        _rates("lesion", list("1234567"))(seat)
        _rates("manipulation", [f"Shift+{digit}" for digit in range(1, 6)])(seat)
        assert seat.chosen("lesion") == 7  # 6 and 7 are the first question's here
        _rates("quality", [f"q q q {digit}" for digit in range(1, 4)])(seat)
        assert seat.focus() == "picture"
        seat.press("b", "k", "Enter")  # neither of the first two in this study
        seat.case()
        seat.saved()
        assert page.is_hidden("#back")
        assert page.is_hidden("#marks")
    (row,) = taken(study.folder, "R01")
    assert row["answer"]["ratings"] == {"lesion": 7, "manipulation": 5, "quality": 3}


def test_the_questions_are_those_of_the_published_study(plain: tuple[Study, ServerProcess]) -> None:
    assert plain[0].protocol.design.questions == (LESION, MANIPULATION)
