"""The reading page in Chromium: everything by keyboard, nothing lost, nothing told that a reader must not know.

Greys are in `test_study_page_greys`, accessibility in `test_study_page_access`, three readers at once in
`test_study_readers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import Seat, chromium, taken
from _study_pages import PASSWORD, ServerProcess, add_accounts, wait_for
from scanward.reading.opened import Study, open_study, read_key
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


def plan(study: Study, reader: str) -> list[str]:
    """The tokens of a reader in the order of the protocol."""
    return [case.token for session in study.readers[reader].sessions for case in session.cases]


def draft_of(study: Study, reader: str, token: str) -> Any:
    """What the server keeps of a case that was begun."""
    with Store(study.answers, study.sha256) as store:
        return store.draft(reader, token)


def ratings(row: dict[str, Any]) -> tuple[int, int]:
    return row["answer"]["ratings"]["lesion"], row["answer"]["ratings"]["manipulation"]


def test_from_sign_in_to_the_second_case_by_keyboard_alone(
    browser: Browser, server: ServerProcess, study: Study
) -> None:
    tokens = plan(study, "R01")
    with Seat(browser, server, "R01") as seat:
        page = seat.page
        page.goto(f"{server.address}/study/")
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
        page.goto("about:blank")
        # the network is back, and the server takes no answers yet: all that is known of them is this browser's
        page.route("**/study/api/answers/*", lambda route: route.abort())
        seat.context.set_offline(False)
        page.goto(f"{server.address}/study/read")
        seat.token = ""
        assert seat.case() == tokens[2]
        seat.waiting(2)
        assert page.inner_text("#progress") == "2 of 4 in this session, 2 of 8 in all"
        assert seat.chosen("lesion") == 4
        assert len(taken(study.folder, "R03")) == 2  # practice
        page.unroute("**/study/api/answers/*")
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

        def lose(route: Any) -> None:
            route.fetch()  # the server has it, and the page never hears of it
            route.abort()

        seat.read()
        seat.ahead(tokens[1])
        page.route("**/study/api/answers/*", lose)
        assert seat.next("2", "7") == tokens[1]
        for _ in range(100):  # in the browser's time, not asleep: the route above needs this thread
            if taken(study.folder, "R15"):
                break
            page.wait_for_timeout(20)
        page.unroute("**/study/api/answers/*")
        page.route("**/study/api/answers/*", lambda route: route.abort())
        page.reload()
        assert seat.view("case") == tokens[1]
        seat.waiting(1)
        assert page.inner_text("#progress") == "1 of 2 practice cases answered"
        page.unroute("**/study/api/answers/*")
        seat.press("3")
        seat.saved()
        assert page.inner_text("#progress") == "1 of 2 practice cases answered"
        seat.forgive(*OFFLINE)
    (row,) = taken(study.folder, "R15")
    assert (row["answer"]["token"], ratings(row)) == (tokens[0], (2, 2))


def drafts(seat: Seat) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = seat.kept()["bases"]["scanward-study"]["drafts"]
    return found


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


def sign_out(study: Study, reader: str) -> None:
    """End every session of a reader on the server's side, as its lead or its clock would."""
    with Accounts(study.accounts) as accounts:
        assert accounts.sign_out_everywhere(reader) > 0


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
