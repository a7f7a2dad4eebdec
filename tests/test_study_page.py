"""The reading page in Chromium: everything by keyboard, nothing lost, nothing told that a reader must not know.

Greys are in `test_study_page_greys`, accessibility in `test_study_page_access`, three readers at once in
`test_study_readers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import Seat, chromium, drafts, plan, ratings, taken
from _study_pages import PASSWORD, ServerProcess, add_accounts
from scanward.reading.opened import Study, open_study, read_key

READERS = 16
OFFLINE = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED")
SIGNED_OUT = (
    "status of 401",
    "status of 403",
)  # 403: the anti-forgery token of before; a new one is asked for


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Sixteen readers, for each test one that has read nothing: two practice cases, two sessions of four."""
    folder = small_study(
        tmp_path_factory.mktemp("page"),
        readers=READERS,
        cases=8,
        practice=2,
        confidence=True,
        rows=60,
        columns=50,
    )
    add_accounts(folder, {f"R{number:02d}": "reader" for number in range(1, READERS + 1)} | {"lead": "lead"})
    return open_study(folder)


@pytest.fixture(scope="module")
def server(study: Study) -> Iterator[ServerProcess]:
    with ServerProcess(study.folder) as started:
        yield started


def test_from_sign_in_to_the_second_case_by_keyboard_alone(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    tokens = plan(study, "R01")
    with Seat(browser, server, "R01") as seat:
        page = seat.page
        page.goto(f"{server.address}/study/")
        page.wait_for_function(
            "document.activeElement.id === 'name'"
        )  # a busy browser focuses after the load
        page.keyboard.type("R01")
        seat.press("Tab")
        page.keyboard.type(PASSWORD)
        seat.press("Enter")
        page.wait_for_selector("#start")
        assert page.inner_text("#now-title") == "Practice"
        for _ in range(12):
            seat.press("Tab")
            if seat.focus() == "start":
                break
        seat.press("Enter")
        assert seat.case() == tokens[0]
        assert page.is_visible("#practice")
        assert "not part of the study" in page.inner_text("#practice")
        assert page.inner_text("#session-name") == "Practice"
        assert page.inner_text("#progress") == "0 of 2 practice cases answered"

        seat.press("Enter")  # nothing is answered: told, and led to the question
        assert page.inner_text("#status").startswith("Not yet answered: How suspicious")
        assert seat.focus() == "lesion-1"
        seat.press("ArrowRight", "ArrowRight")  # a radio group like any other
        assert seat.chosen("lesion") == 2 or seat.chosen("lesion") == 3
        seat.press("Enter")
        assert page.inner_text("#status").startswith("Not yet answered: How likely")
        seat.press("Space")
        assert seat.chosen("manipulation") == 1
        seat.press("8")  # ratings from anywhere
        assert seat.chosen("manipulation") == 3
        seat.press("4", "Shift+5")
        assert (seat.chosen("lesion"), seat.chosen("manipulation")) == (4, 5)
        seat.press("c", "3")  # confidence, then the digits are the first question's again
        assert seat.chosen("confidence") == 3
        assert seat.focus() == "picture"
        seat.press("k", "ArrowRight", "ArrowDown", "Space", "Shift+ArrowLeft", "k")
        (mark,) = seat.state["marks"]
        assert page.inner_text("#mark-list li").startswith(f"{int(mark[0])}, {int(mark[1])}")
        for _ in range(30):  # every control is in the order of Tab: on to the button that removes the mark
            seat.press("Tab")
            if page.evaluate("document.activeElement.dataset.mark") == "0":
                break
        seat.press("Enter")
        assert seat.state["marks"] == []
        page.focus("#picture")
        seat.press("k", "ArrowLeft", "Space")
        (mark,) = seat.state["marks"]
        seat.press("Escape", "Enter")
        assert seat.case() == tokens[1]
        assert page.inner_text("#progress") == "1 of 2 practice cases answered"
        assert (seat.chosen("lesion"), seat.chosen("confidence"), seat.state["marks"]) == (None, None, [])

        seat.press("2", "b")  # back: the answer is there and may be changed
        assert seat.case() == tokens[0]
        assert page.is_visible("#revising")
        assert (seat.chosen("lesion"), seat.chosen("manipulation"), seat.chosen("confidence")) == (4, 5, 3)
        assert seat.state["marks"] == [mark]
        seat.press("n")  # or left as it was
        assert seat.case() == tokens[1]
        assert seat.chosen("lesion") == 2  # what was begun is there
        seat.press("Backspace")
        seat.case()
        seat.press("1", "Enter")
        assert seat.case() == tokens[1]
        seat.press("p")
        seat.view("paused")
        assert seat.focus() == "go-on"
        page.wait_for_timeout(120)
        seat.press("Enter")
        seat.view("case")
        assert (seat.chosen("lesion"), seat.state["token"]) == (2, tokens[1])
        seat.press("?")
        assert page.is_visible("#help-dialog")
        seat.press("3")  # keys behind it do nothing
        assert seat.chosen("lesion") == 2
        seat.press("Escape")
        assert page.is_hidden("#help-dialog")
        assert seat.focus() == "picture"
        seat.press("7", "Enter")
        seat.view("session-end")
        assert page.inner_text("#screen-title") == "Practice is over"
        assert page.inner_text("#screen-text").startswith("What follows counts.")
        seat.press("Enter")
        assert seat.case() == tokens[2]
        assert page.is_hidden("#practice")
        assert page.inner_text("#session-name") == "Session 1 of 2"
        assert page.inner_text("#progress") == "0 of 4 in this session, 0 of 8 in all"

    first, again, second = taken(study.folder, "R01")
    assert [row["answer"]["token"] for row in (first, again, second)] == [tokens[0], tokens[0], tokens[1]]
    assert [row["answer"]["revision"] for row in (first, again, second)] == [0, 1, 0]
    assert [ratings(row) for row in (first, again, second)] == [(4, 5), (1, 5), (2, 2)]
    assert [row["answer"]["confidence"] for row in (first, again, second)] == [3, 3, None]
    assert [row["answer"]["marks"] for row in (first, again, second)] == [[mark], [mark], []]
    assert second["answer"]["away"] >= 0.1  # the pause


def test_times_and_acts_are_recorded(browser: Browser, server: ServerProcess, study: Study) -> None:
    with Seat(browser, server, "R02") as seat:
        seat.read()
        seat.page.wait_for_timeout(300)
        seat.press("2", "w", "w", "i", "o", "m", "3", "k", "Space", "Space", "k")
        seat.press("p")
        seat.view("paused")
        seat.page.wait_for_timeout(400)
        seat.press("Enter")
        seat.view("case")
        window = seat.window()
        seat.next("6")
        seat.saved()
    (row,) = taken(study.folder, "R02")
    answer = row["answer"]
    acts = [(act["what"], act["value"]) for act in answer["acts"]]
    at = [act["at"] for act in answer["acts"]]
    assert acts[0][0] == "shown"
    assert acts[-1] == ("save", "")
    told = [what for what, _ in acts]
    for what in ("window", "invert", "zoom", "magnifier", "mark", "unmark", "pause", "resume"):
        assert what in told, what
    assert [act for act in acts if act[0] in ("lesion", "manipulation")] == [
        ("lesion", "2 key"), ("lesion", "3 key"), ("manipulation", "1 key")
    ]  # fmt: skip
    assert at == sorted(at)
    assert at[0] < 300 <= at[told.index("lesion")]
    assert at[told.index("resume")] - at[told.index("pause")] >= 400
    assert answer["away"] >= 0.4
    assert answer["seconds"] >= 0.3
    assert answer["seconds"] + answer["away"] == pytest.approx(at[-1] / 1000, abs=0.05)
    assert tuple(answer["window"]) == window


def test_all_read_says_so(browser: Browser, server: ServerProcess, study: Study) -> None:
    tokens = plan(study, "R08")
    with Seat(browser, server, "R08") as seat:
        seat.through_practice()
        for _ in range(3):
            seat.next("3", "8")
        seat.press("3", "8", "Enter")
        seat.view("session-end")
        assert seat.page.inner_text("#screen-title") == "Session 1 is complete"
        assert "Session 2 has 4 cases" in seat.page.inner_text("#screen-text")
        seat.press("Enter")
        seat.case()
        for _ in range(3):
            seat.next("3", "8")
        seat.press("3", "8", "Enter")
        seat.view("finished")
        assert "All your answers are saved" in seat.page.inner_text("#screen-text")
        seat.press("Enter")
        seat.page.wait_for_url("**/study/")
        assert seat.page.inner_text("#now-title") == "You have read all cases"
        seat.page.goto(f"{server.address}/study/read")
        seat.view("finished")
        assert drafts(seat) == []
    assert [row["answer"]["token"] for row in taken(study.folder, "R08")] == tokens


STATE = {
    "": "study reader simulated questions settings session progress case next answered draft waiting finished paused",
    "study": "title sha256",
    "questions": "identifier text labels",
    "settings": "confidence marks go_back",
    "session": "number of practice",
    "progress": "answered cases session_answered session_cases",
    "case": "token rows columns bits window revision url",
    "next": "token rows columns bits window revision url",
    "draft": "ratings confidence marks window seconds away sequence",
    "answer": "identifier token revision ratings confidence marks seconds away window answered_at acts",
}
WORDS = re.compile(
    r"pathology|modification|no.cancer|\bcancer|\btruth|\btwin|\b[CP]\d{4}\b|woman-\d|key\.json",
    re.IGNORECASE,
)


def test_nothing_that_comes_to_the_browser_tells_the_truth(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    """Every byte that the browser is sent, all that it keeps, all that stands in its page."""
    tokens = plan(study, "R09")
    key = read_key(study)
    secrets = {
        part
        for one in key.truths
        for part in (one.case, one.patient, one.picture, one.source, one.source_sha256)
    }
    secrets |= {part for one in study.protocol.pictures for part in (one.identifier, one.sha256)}
    secrets |= {study.protocol.key_sha256, key.secret}
    secrets |= set(study.places) - set(tokens[:6])  # of other readers and of the session that is not open yet
    secrets.discard("")
    with Seat(browser, server, "R09") as seat:
        seat.listen()
        seat.through_practice()
        seat.next("2", "7")
        seat.press("4", "b")
        seat.case()
        seat.press("1", "k", "Space", "k", "w", "Enter")
        assert seat.case() == tokens[3]
        seat.ahead(*tokens[4:6])
        seat.saved()
        here = [json.dumps(seat.kept()), seat.page.content(), json.dumps(seat.state)]
        seat.page.goto(f"{server.address}/study/")
        seat.page.wait_for_selector("#start")
        here.append(seat.page.content())
        heard = list(seat.bodies)
    assert sum("/study/api/pictures/" in url for url, _, _ in heard) == 6
    assert sum("/study/api/state" in url for url, _, _ in heard) >= 2
    texts = [body.decode() for _, kind, body in heard if "octet-stream" not in kind]
    assert sum(len(text) for text in texts) > 50_000  # pages and modules are among them
    for text in (*texts, *here):
        assert not WORDS.search(text), WORDS.search(text)
        assert not [one for one in secrets if one in text]
    for url, kind, body in heard:
        if "/study/api/state" in url or "/study/api/cases/" in url:
            known("", json.loads(body))
        if "octet-stream" in kind:  # bare grey values, nothing before or after them
            place = study.places[url.rpartition("/")[2]]
            assert body == study.picture_path(place.picture).read_bytes()


def known(name: str, told: Any) -> None:
    """Nothing but the names of the contract, at any depth."""
    for one in told if isinstance(told, list) else [told]:
        if isinstance(one, dict) and name in STATE:
            names = set(STATE[name].split()) | ({"answer"} if name == "" else set())
            assert set(one) <= names, (name, set(one) - names)
            for part, value in one.items():
                known(part, value)


def test_one_window_at_a_time_reads(browser: Browser, server: ServerProcess, study: Study) -> None:
    with Seat(browser, server, "R10") as seat:
        token = seat.read()
        seat.press("2")
        seat.saved()
        first, seat.page = seat.page, seat.new_page()
        seat.page.goto(f"{server.address}/study/read")
        seat.view("elsewhere")
        assert seat.focus() == "here"
        seat.press("Enter")
        assert seat.view("case") == token
        assert seat.chosen("lesion") == 2
        first.wait_for_selector("#page[data-view=elsewhere]")


def test_single_keys_can_be_turned_off(browser: Browser, server: ServerProcess, study: Study) -> None:
    """WCAG 2.1.4: speech input types letters; what needs the focus goes on working."""
    with Seat(browser, server, "R14") as seat:
        page = seat.page
        seat.read()
        seat.press("?")
        page.focus("#single-keys")
        seat.press("Space", "Escape")
        seat.press("1", "6", "i", "w")
        assert (seat.chosen("lesion"), seat.chosen("manipulation"), seat.state["invert"]) == (
            None,
            None,
            False,
        )
        page.reload()
        seat.view("case")
        seat.press("4")
        assert seat.chosen("lesion") is None  # the choice is kept
        page.focus("#lesion-1")
        seat.press("ArrowRight")
        page.focus("#manipulation-1")
        seat.press("Space")
        page.focus("#picture")
        seat.press("ArrowRight")
        assert seat.state["pan"] != [25, 30]
        seat.press("Enter")
        seat.case()
        seat.saved()
    (row,) = taken(study.folder, "R14")
    assert ratings(row) == (2, 1)
