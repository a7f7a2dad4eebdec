"""Nothing is lost: no network, no session, no disk, no receipt, another computer, another reader, in Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import Seat, chromium, drafts, plan, ratings, taken
from _study_pages import PASSWORD, ServerProcess, add_accounts, wait_for
from scanward.reading.opened import Study, open_study
from scanward.reading.store import Store
from scanward.web.accounts import Accounts

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


def draft_of(study: Study, reader: str, token: str) -> Any:
    """What the server keeps of a case that was begun."""
    with Store(study.answers, study.sha256) as store:
        return store.draft(reader, token)


def sign_out(study: Study, reader: str) -> None:
    """End every session of a reader on the server's side, as its lead or its clock would."""
    with Accounts(study.accounts) as accounts:
        assert accounts.sign_out_everywhere(reader) > 0


def test_an_offline_queue_survives_a_reload_and_is_sent(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    tokens = plan(study, "R03")[2:]
    with Seat(browser, server, "R03") as seat:
        page = seat.page
        assert seat.through_practice() == tokens[0]
        seat.ahead(*tokens[1:4])
        seat.saved()
        seat.context.set_offline(True)
        assert [seat.next("2", "7"), seat.next("3", "8")] == tokens[1:3]
        seat.waiting(2)
        assert page.inner_text("#waiting-text").startswith("2 answers kept on this computer")
        seat.press("4", "w")  # and a case that is begun
        page.wait_for_function("async () => (await indexedDB.databases()).length === 1")
        wait_for(lambda: any(d["draft"]["ratings"] == {"lesion": 4} for d in drafts(seat)))
        with pytest.raises(Exception, match="ERR_INTERNET_DISCONNECTED"):
            page.reload()
        page.close()
        page = seat.page = seat.new_page()
        # The network is back, and no answer is acknowledged yet: what waits is what this browser kept. (One may reach
        # the server from the page that closes; sent twice it counts once.)
        seat.context.route("**/study/api/answers/*", lambda route: route.abort())
        seat.context.set_offline(False)
        page.goto(f"{server.address}/study/read")
        seat.token = ""
        assert seat.case() == tokens[2]
        page.wait_for_selector("#waiting[data-waiting='1'], #waiting[data-waiting='2']")
        waits = int(page.get_attribute("#waiting", "data-waiting") or 0)
        assert waits + len(taken(study.folder, "R03")[2:]) >= 2
        assert page.inner_text("#progress") == "2 of 4 in this session, 2 of 8 in all"
        assert seat.chosen("lesion") == 4
        seat.context.unroute("**/study/api/answers/*")
        seat.press("0")  # whatever is new is a reason to try at once
        seat.saved()
        rows = taken(study.folder, "R03")[2:]
        assert [(row["answer"]["token"], ratings(row)) for row in rows] == [
            (tokens[0], (2, 2)),
            (tokens[1], (3, 3)),
        ]
        assert seat.kept()["bases"]["scanward-study"]["answers"] == []
        seat.next("Shift+1")
        seat.saved()
        seat.forgive(*OFFLINE)
    (last,) = taken(study.folder, "R03")[4:]
    assert (last["answer"]["token"], ratings(last)) == (tokens[2], (4, 1))


def test_an_answer_whose_receipt_was_lost_counts_once(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    tokens = plan(study, "R15")
    with Seat(browser, server, "R15") as seat:
        page = seat.page

        mode, lost = ["lose"], []

        def between(route: Any) -> None:
            if mode == ["let pass"]:
                route.continue_()
                return
            if mode == ["lose"]:
                route.fetch()  # the server has it, and the page never hears of it
                mode[0] = "stop"
                lost.append(route.request.url)
            route.abort()

        seat.read()
        seat.ahead(tokens[1])
        page.route("**/study/api/answers/*", between)
        assert seat.next("2", "7") == tokens[1]
        while not lost:
            page.wait_for_timeout(20)  # in the browser's time: the route needs this thread
        page.reload()
        assert seat.view("case") == tokens[1]
        seat.waiting(1)
        assert page.inner_text("#progress") == "1 of 2 practice cases answered"
        mode[0] = "let pass"
        seat.press("3")
        seat.saved()
        assert page.inner_text("#progress") == "1 of 2 practice cases answered"
        seat.forgive(*OFFLINE)
    (row,) = taken(study.folder, "R15")
    assert (row["answer"]["token"], ratings(row)) == (tokens[0], (2, 2))


def test_what_was_begun_is_there_at_another_computer(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    with Seat(browser, server, "R04") as seat:
        token = seat.read()
        seat.page.wait_for_timeout(200)
        seat.press("w", "k", "ArrowUp", "Space", "k", "3")
        marks, window = seat.state["marks"], seat.window()
        wait_for(lambda: draft_of(study, "R04", token) is not None and draft_of(study, "R04", token).marks)
        wait_for(lambda: draft_of(study, "R04", token).ratings == {"lesion": 3})
    with Seat(browser, server, "R04") as seat:
        assert seat.read() == token
        assert (seat.chosen("lesion"), seat.chosen("manipulation")) == (3, None)
        assert seat.state["marks"] == marks
        assert seat.window() == window
        seat.next("9")
        seat.saved()
    (row,) = taken(study.folder, "R04")
    assert ratings(row) == (3, 4)
    assert row["answer"]["seconds"] >= 0.2  # those at the first computer too


def test_a_session_that_ends_in_the_middle_of_a_case_loses_nothing(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    tokens = plan(study, "R05")
    with Seat(browser, server, "R05") as seat:
        page = seat.page
        seat.read()
        seat.ahead(tokens[1])
        seat.press("2")
        seat.saved()
        sign_out(study, "R05")
        seat.press("8")  # the server does not take this click
        seat.view("signed-out")
        assert "Sign in again as R05" in page.inner_text("#screen-text")
        assert seat.focus() == "sign-in"
        seat.press("Enter")
        page.fill("#name", "R05")
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        seat.token = ""
        assert seat.case() == tokens[0]
        assert (seat.chosen("lesion"), seat.chosen("manipulation")) == (2, 3)
        seat.saved()
        sign_out(study, "R05")
        seat.press("Enter")  # nor this answer
        seat.view("signed-out")
        assert "1 answer is kept on this computer" in page.inner_text("#screen-text")
        assert taken(study.folder, "R05") == []
        other = seat.new_page()  # signed in elsewhere: the page goes on without being loaded anew
        seat.sign_in("/study/", other)
        other.close()
        page.click("#try")
        assert seat.case() == tokens[1]
        seat.saved()
        seat.forgive(*SIGNED_OUT)
    (row,) = taken(study.folder, "R05")
    assert (row["answer"]["token"], ratings(row)) == (tokens[0], (2, 3))


def test_answers_are_never_sent_as_another_reader(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    token = plan(study, "R06")[0]
    with Seat(browser, server, "R06") as seat:
        page = seat.page
        seat.read()
        seat.press("5", "0")
        seat.saved()
        sign_out(study, "R06")
        seat.press("Enter")
        seat.view("signed-out")
        seat.name = "R07"
        other = seat.new_page()
        seat.sign_in("/study/", other)
        page.click("#try")
        seat.view("other-reader")
        assert page.inner_text("#screen-title") == "Signed in as R07"
        page.goto(f"{server.address}/study/read")  # R07 reads in this browser: R06's answer stays where it is
        seat.token = ""
        assert seat.case() == plan(study, "R07")[0]
        assert page.get_attribute("#waiting", "data-waiting") == "0"
        seat.press("1", "6", "Enter")
        seat.case()
        seat.saved()
        assert taken(study.folder, "R06") == []
        other.click("text=Sign out")
        other.wait_for_url("**/sign-in*")
        seat.name = "R06"
        seat.token = ""
        seat.sign_in()
        seat.case()
        seat.saved()
        seat.forgive(*SIGNED_OUT)
    assert [(row["answer"]["token"], ratings(row)) for row in taken(study.folder, "R06")] == [(token, (5, 5))]
    assert [row["answer"]["token"] for row in taken(study.folder, "R07")] == plan(study, "R07")[:1]


def test_a_refused_answer_is_kept_told_and_can_be_taken_away(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    told = {"error": "no", "what": "a rating out of range", "where": "ratings.lesion", "todo": "1 to 5"}
    with Seat(browser, server, "R11") as seat:
        page = seat.page
        token = seat.read()
        page.route("**/study/api/answers/*", lambda route: route.fulfill(status=422, json=told))
        seat.next("4", "9")
        page.wait_for_selector("#refused:not([hidden])")
        assert "a rating out of range" in page.inner_text("#refused-text")
        page.unroute("**/study/api/answers/*")
        page.reload()
        page.wait_for_selector("#refused:not([hidden])")
        with page.expect_download() as loaded:
            page.click("#refused-save")
        (kept,) = json.loads(Path(loaded.value.path()).read_text())
        assert kept["answer"]["token"] == token
        assert kept["answer"]["ratings"] == {"lesion": 4, "manipulation": 4}
        assert seat.view("case") == token  # the server has no answer to it: it is asked again
        seat.forgive("status of 422")
    assert taken(study.folder, "R11") == []


PRIVATE = "Object.defineProperty(window, 'indexedDB', {value: undefined})"
FULL = """() => { IDBObjectStore.prototype.add = () => { throw new DOMException("full", "QuotaExceededError"); }; }"""


@pytest.mark.parametrize(("reader", "full"), [("R12", False), ("R13", True)], ids=["private", "disk full"])
def test_a_browser_that_keeps_nothing_reads_and_says_so(
    browser: Browser, server: ServerProcess, study: Study, reader: str, full: bool
) -> None:
    tokens = plan(study, reader)
    with Seat(browser, server, reader) as seat:
        if not full:
            seat.context.add_init_script(PRIVATE)
        seat.read()
        assert seat.page.is_visible("#fleeting") is not full
        if full:
            seat.ahead(tokens[1])
            seat.page.evaluate(FULL)
        seat.next("2", "9")
        assert seat.page.is_visible("#fleeting")
        seat.saved()
    (row,) = taken(study.folder, reader)
    assert (row["answer"]["token"], ratings(row)) == (tokens[0], (2, 4))
