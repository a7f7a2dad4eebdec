"""The addresses of a served study: who may what, what is kept, what is never told. No key lies beside the study."""

from __future__ import annotations

import json
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _study import small_study
from _study_pages import Browser, Served, served
from scanward.errors import InputError, SettingsError
from scanward.reading.app import open_desk
from scanward.reading.opened import open_study
from scanward.reading.protocol import Arm, Protocol

API = "/study/api"
ADDRESSES = (
    ("GET", "/study/"),
    ("GET", "/study/read"),
    ("GET", f"{API}/state"),
    ("GET", f"{API}/pictures/x"),
    ("GET", f"{API}/cases/x"),
    ("PUT", f"{API}/drafts/x"),
    ("PUT", f"{API}/answers/x"),
    ("POST", f"{API}/pause"),
    ("GET", "/study/lead"),
    ("GET", "/study/lead/api/overview"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two readers, two sessions of 4 cases and 2 practice cases, 28 days apart."""
    return small_study(
        tmp_path_factory.mktemp("api"), readers=2, cases=8, rows=20, columns=24, practice=2, washout_days=28.0
    )


@pytest.fixture
def study(made: Path) -> Iterator[Served]:
    with served(made) as there:
        yield there
    for path in made.glob("*.sqlite*"):
        path.unlink()


def protocol(there: Served) -> Protocol:
    return open_study(there.folder).protocol


def tokens(there: Served, reader: str, number: int) -> list[str]:
    return [shown.token for shown in open_study(there.folder).session(reader, number).cases]


def answer(token: str, revision: int = 0, **more: Any) -> dict[str, Any]:
    given = {
        "identifier": str(uuid.uuid4()),
        "token": token,
        "revision": revision,
        "ratings": {"lesion": 2, "manipulation": 4},
        "seconds": 3.25,
    }
    return given | more


def put(browser: Browser, given: dict[str, Any]) -> Any:
    return browser.send("PUT", f"{API}/answers/{given['identifier']}", given)


def read_session(browser: Browser) -> list[dict[str, Any]]:
    """Answer all cases of the open session, as the page would."""
    number = browser.state()["session"]["number"]
    told = []
    while (state := browser.state())["session"] and state["session"]["number"] == number:
        given = answer(state["case"]["token"])
        assert put(browser, given).status_code == 200
        told.append(given)
    return told


def refused(response: Any, status: int) -> dict[str, str]:
    """The body of a refusal, in the house's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, str] = response.json()
    assert set(body) == {"error", "what", "where", "todo"}
    assert body["what"]
    return body


# --- who may


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nobody_gets_anything_without_signing_in(study: Served, method: str, path: str) -> None:
    response = study.client.request(method, path, follow_redirects=False)
    if "/api/" in path:
        refused(response, 401)
    else:
        assert response.status_code == 303
        assert response.headers["location"].startswith("/sign-in")


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_readers_and_leads_stay_in_their_places(study: Served, method: str, path: str) -> None:
    who = "R01" if "lead" in path else "lead"
    response = study.browser(who).send(method, path, {"paused": True})
    assert response.status_code == (200 if path == "/study/" else 403)


def test_an_account_that_is_no_reader_of_the_protocol_reads_nothing(study: Served) -> None:
    study.site.accounts.add("R77", ["reader"], now=study.clock().timestamp())
    browser = study.browser("R77")
    for method, path in ADDRESSES[2:8]:
        refused(browser.send(method, path, {"paused": True}), 403)


@pytest.mark.parametrize(("method", "path"), [a for a in ADDRESSES if a[0] != "GET"])
def test_what_changes_something_needs_the_pages_token(study: Served, method: str, path: str) -> None:
    browser = study.browser("R01")
    for token in ("", "x", study.browser("R02").csrf):
        refused(browser.send(method, path, {"paused": True}, headers={"x-csrf-token": token}), 403)
    assert browser.state()["paused"] is False


# --- reading


def test_the_state_is_all_the_page_needs(study: Served) -> None:
    state = study.browser("R01").state()
    case = protocol(study).readers[0].sessions[0].cases[0]
    picture = next(p for p in protocol(study).pictures if p.identifier == case.picture)
    assert state["case"] == {
        "token": case.token,
        "rows": 20,
        "columns": 24,
        "bits": 12,
        "window": list(picture.window),
        "revision": 0,
        "url": f"/study/api/pictures/{case.token}",
    }
    assert [one["token"] for one in state["next"]] == tokens(study, "R01", 0)[1:]
    assert {name: state[name] for name in state if name not in {"case", "next", "questions"}} == {
        "study": {"title": "A small study", "sha256": open_study(study.folder).sha256},
        "reader": "R01",
        "simulated": False,
        "settings": {"confidence": False, "marks": True, "go_back": True},
        "session": {"number": 0, "of": 2, "practice": True},
        "progress": {"answered": 0, "cases": 8, "session_answered": 0, "session_cases": 2},
        "answered": [],
        "draft": None,
        "waiting": None,
        "finished": False,
        "paused": False,
    }
    assert [q["identifier"] for q in state["questions"]] == ["lesion", "manipulation"]
    assert all(len(q["labels"]) == 5 for q in state["questions"])


def test_a_picture_is_its_grey_values_and_nothing_else(study: Served) -> None:
    browser = study.browser("R01")
    shown = protocol(study).readers[0].sessions[0].cases[0]
    response = browser.get(f"{API}/pictures/{shown.token}")
    assert response.content == (study.folder / "pictures" / f"{shown.picture}.raw").read_bytes()
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["content-length"] == str(20 * 24 * 2)
    zipped = browser.get(f"{API}/pictures/{shown.token}", headers={"accept-encoding": "gzip, br, zstd"})
    assert zipped.headers.items() == response.headers.items()


def test_a_reader_walks_through_his_sessions_and_washout_is_the_servers(study: Served) -> None:
    browser = study.browser("R01")
    assert [one["token"] for one in read_session(browser)] == tokens(study, "R01", 0)
    assert browser.state()["session"]["number"] == 1
    study.clock.move(minutes=10)
    assert [one["token"] for one in read_session(browser)] == tokens(study, "R01", 1)
    state = browser.state()
    assert (state["session"], state["case"], state["next"], state["finished"]) == (None, None, [], False)
    assert state["waiting"]["until"] == "2026-03-30T08:10:00.000Z"
    assert state["progress"] == {"answered": 4, "cases": 8, "session_answered": 0, "session_cases": 0}
    study.clock.move(days=28, seconds=-1)
    browser.sign_in()
    assert browser.state()["waiting"] is not None
    refused(browser.get(f"{API}/pictures/{tokens(study, 'R01', 2)[0]}"), 404)
    refused(put(browser, answer(tokens(study, "R01", 2)[0])), 404)
    study.clock.move(seconds=1)
    assert browser.state()["session"]["number"] == 2
    read_session(browser)
    state = browser.state()
    assert (state["finished"], state["waiting"], state["progress"]["answered"]) == (True, None, 8)


def test_only_a_rehearsal_may_do_without_washout(made: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="washout belongs"):
        open_desk(made, no_washout=True)
    rehearsal = small_study(tmp_path, readers=1, cases=4, washout_days=28.0, simulated=True)
    with served(rehearsal, no_washout=True) as there:
        browser = there.browser("R01")
        for _ in range(2):
            read_session(browser)
        assert browser.state()["finished"]


def test_going_on_at_another_computer_finds_the_draft(study: Served) -> None:
    browser = study.browser("R01")
    token = browser.state()["case"]["token"]
    draft = {
        "ratings": {"lesion": 4},
        "marks": [[1.5, 2.0]],
        "window": [2000.0, 3000.0],
        "seconds": 7.5,
        "away": 0.0,
        "confidence": None,
        "sequence": 3,
    }
    assert browser.send("PUT", f"{API}/drafts/{token}", draft).json() == {"saved": True}
    assert (
        browser.send("PUT", f"{API}/drafts/{token}", draft | {"sequence": 2, "ratings": {}}).status_code
        == 200
    )
    assert study.browser("R01").state()["draft"] == draft
    assert study.browser("R02").state()["draft"] is None
    put(browser, answer(token))
    assert study.browser("R01").state()["draft"] is None


def test_pausing_is_kept_by_the_server(study: Served) -> None:
    browser = study.browser("R01")
    for paused in (True, True, False):
        assert browser.send("POST", f"{API}/pause", {"paused": paused}).json() == {"paused": paused}
        assert study.browser("R01").state()["paused"] is paused
    assert study.browser("R02").state()["paused"] is False


# --- answers


def test_sent_twice_is_kept_once_and_said(study: Served) -> None:
    browser = study.browser("R01")
    given = answer(browser.state()["case"]["token"])
    first, second = put(browser, given).json(), put(browser, given).json()
    assert first == {
        "saved": True,
        "duplicate": False,
        "conflict": False,
        "progress": {"answered": 0, "cases": 8, "session_answered": 1, "session_cases": 2},
    }
    assert second == first | {"duplicate": True}
    refused(put(browser, given | {"seconds": 9.0}), 409)
    assert browser.state()["answered"] == [given["token"]]


def test_two_computers_one_case_both_are_kept_and_the_first_counts(study: Served) -> None:
    one, other = study.browser("R01"), study.browser("R01")
    token = one.state()["case"]["token"]
    first, second = answer(token), answer(token, ratings={"lesion": 5, "manipulation": 5})
    assert put(one, first).json()["conflict"] is False
    assert put(other, second).json() | {"progress": None} == {
        "saved": True,
        "duplicate": False,
        "conflict": True,
        "progress": None,
    }
    assert one.get(f"{API}/cases/{token}").json()["answer"]["ratings"] == first["ratings"]


def test_an_answer_may_be_revised_within_its_session(study: Served) -> None:
    browser = study.browser("R01")
    token = browser.state()["case"]["token"]
    told = browser.get(f"{API}/cases/{token}").json()
    assert (told["answer"], told["case"]["revision"]) == (None, 0)
    put(browser, answer(token))
    told = browser.get(f"{API}/cases/{token}").json()
    assert (told["answer"]["revision"], told["case"]["revision"]) == (0, 1)
    put(browser, answer(token, 1, ratings={"lesion": 1, "manipulation": 1}))
    assert browser.get(f"{API}/cases/{token}").json()["answer"]["ratings"] == {"lesion": 1, "manipulation": 1}
    # the last revision of a session may be on its way while the session ends: it is taken all the same
    last = browser.state()["case"]["token"]
    put(browser, answer(last))
    assert put(browser, answer(last, 1)).json()["conflict"] is False
    refused(browser.get(f"{API}/cases/{last}"), 404)
    put(browser, answer(browser.state()["case"]["token"]))
    assert put(browser, answer(last, 2)).json()["conflict"] is True


def test_where_answers_are_final_there_is_no_way_back(tmp_path: Path) -> None:
    with served(small_study(tmp_path, readers=1, cases=4, go_back=False)) as there:
        browser = there.browser("R01")
        token = browser.state()["case"]["token"]
        assert browser.get(f"{API}/cases/{token}").status_code == 200
        assert put(browser, answer(token)).status_code == 200
        refused(browser.get(f"{API}/cases/{token}"), 404)
        assert refused(put(browser, answer(token, 1)), 422)["where"] == "revision"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a question left out": ({"ratings": {"lesion": 3}}, "ratings.manipulation"),
    "a question of another study": ({"ratings": {"lesion": 3, "manipulation": 3, "x": 3}}, "ratings"),
    "a rating of 0": ({"ratings": {"lesion": 0, "manipulation": 3}}, "ratings.lesion"),
    "a rating of 6": ({"ratings": {"lesion": 3, "manipulation": 6}}, "ratings.manipulation"),
    "a rating between": ({"ratings": {"lesion": 2.5, "manipulation": 3}}, "body"),
    "a rating that is true": ({"ratings": {"lesion": True, "manipulation": 3}}, "body"),
    "an enormous rating": ({"ratings": {"lesion": 10**40, "manipulation": 3}}, "ratings.lesion"),
    "a confidence nobody asked for": ({"confidence": 3}, "confidence"),
    "a negative time": ({"seconds": -1.0}, "seconds"),
    "a time beyond all": ({"away": 1e300}, "away"),
    "a mark beside the picture": ({"marks": [[25.0, 1.0]]}, "marks"),
    "too many marks": ({"marks": [[1.0, 1.0]] * 101}, "marks"),
    "an enormous window": ({"window": [1e9, 1.0]}, "window"),
    "an enormous revision": ({"revision": 10**6}, "revision"),
    "a negative revision": ({"revision": -1}, "revision"),
    "a word too many": ({"truth": 1}, "body"),
    "too many acts": ({"acts": [{"at": 1.0, "what": "x", "value": ""}] * 5001}, "acts"),
    "an act like a book": ({"acts": [{"at": 1.0, "what": "x" * 201, "value": ""}]}, "acts"),
    "no time at all": ({"answered_at": "x" * 201}, "answered_at"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_answer_is_refused_and_says_where(study: Served, what: str) -> None:
    browser = study.browser("R01")
    changed, where = WRONG[what]
    given = answer(browser.state()["case"]["token"]) | changed
    assert refused(put(browser, given), 422)["where"] == where
    assert browser.state()["answered"] == []


@pytest.mark.parametrize(
    "identifier", ["x", "A" * 36, "../../x", "0" * 36, "B1A89F38-4B53-4D3A-A31F-870E222D4784"]
)
def test_an_identifier_is_a_uuid(study: Served, identifier: str) -> None:
    browser = study.browser("R01")
    given = answer(browser.state()["case"]["token"], identifier=identifier)
    assert put(browser, given).status_code in {404, 422}
    given = answer(given["token"])
    response = browser.send("PUT", f"{API}/answers/{uuid.uuid4()}", given)
    assert refused(response, 422)["where"] == "identifier"


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["lesion", "manipulation", "1"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
FIELDS = st.sampled_from(
    "identifier token revision ratings confidence marks seconds away window acts answered_at sequence paused".split()  # noqa: SIM905
)
BODIES = st.one_of(
    st.binary(max_size=64),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"\xff", b'"\\ud800"', b"[" * 5000, b'{"a":' * 5000, b"1e999", b"NaN", b"-0"]),
)


@pytest.fixture(scope="module")
def hostile(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    folder = small_study(tmp_path_factory.mktemp("hostile"), readers=1, cases=4, confidence=True)
    with served(folder) as there:
        browser = there.browser("R01")
        yield browser, browser.state()["case"]["token"]


@given(BODIES, st.dictionaries(FIELDS, VALUES, max_size=4), st.sampled_from(["draft", "answer", "pause"]))
@settings(max_examples=150)
def test_hostile_bodies_are_refused_in_our_shape(
    hostile: tuple[Browser, str], body: bytes, changed: dict[str, Any], kind: str
) -> None:
    browser, token = hostile
    identifier = str(uuid.uuid4())
    whole: dict[str, Any] = {"draft": {"sequence": 1}, "pause": {"paused": True}}.get(
        kind, answer(token, identifier=identifier)
    )
    method, path = {
        "draft": ("PUT", f"{API}/drafts/{token}"),
        "answer": ("PUT", f"{API}/answers/{identifier}"),
        "pause": ("POST", f"{API}/pause"),
    }[kind]
    for sent in (body, json.dumps(whole | changed).encode()):
        response = browser.send(method, path, sent)
        if response.status_code != 200:
            assert response.status_code in {404, 413, 422}, (response.status_code, response.text, sent)
            refused(response, response.status_code)
    assert browser.get(f"{API}/state").status_code == 200


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_hostile_tokens_do_not_exist(hostile: tuple[Browser, str], token: str) -> None:
    browser, _ = hostile
    for path in (f"{API}/pictures/", f"{API}/cases/"):
        response = browser.get(path + quote(token, safe="", errors="replace"))
        refused(response, 404)


def test_a_body_without_end_is_refused(study: Served) -> None:
    browser = study.browser("R01")
    token = browser.state()["case"]["token"]
    for size in (600 << 10, 2 << 20):
        refused(browser.send("PUT", f"{API}/drafts/{token}", b" " * size), 413)


# --- what nobody is told


def test_no_case_of_another_reader_or_of_another_session_exists(study: Served) -> None:
    browser = study.browser("R01")
    read_session(browser)  # practice: session 1 is open now
    nowhere = "f" * len(tokens(study, "R01", 1)[0])
    bodies = set()
    for token in (
        nowhere,
        *tokens(study, "R02", 1),
        *tokens(study, "R02", 0),
        *tokens(study, "R01", 2),
        *tokens(study, "R01", 0),
    ):
        for path in (f"{API}/pictures/{token}", f"{API}/cases/{token}"):
            response = browser.get(path)
            bodies.add(response.text.replace(token, ""))
            refused(response, 404)
        if token not in tokens(study, "R01", 0):
            refused(browser.send("PUT", f"{API}/drafts/{token}", {"sequence": 1}), 404)
            refused(put(browser, answer(token)), 404)
    assert len(bodies) == 1  # nor is it told whether it is a token at all
    for token in tokens(study, "R01", 1):
        assert browser.get(f"{API}/pictures/{token}").status_code == 200


def shape(value: Any) -> Any:
    """A JSON value with its words and figures replaced by their kinds and lengths."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return (type(value).__name__, len(value)) if isinstance(value, str) else type(value).__name__


def truths(there: Served) -> dict[str, dict[str, Any]]:
    key = json.loads((there.folder.parent / f"{there.folder.name}-key.json").read_text())
    return {truth["picture"]: truth for truth in key["truths"]}


ARMS = (Arm(name="low", rows=16, columns=16, bits=8), Arm(name="high", rows=24, columns=20, bits=12))


def test_genuine_and_modified_look_the_same_in_every_answer(tmp_path: Path) -> None:
    """Every header and every shape, over all pictures of an arm; only tokens and grey values differ."""
    with served(small_study(tmp_path, readers=1, cases=16, practice=2, arms=ARMS)) as there:
        known = truths(there)
        browser = there.browser("R01")
        pictures = {
            shown.token: shown.picture for s in protocol(there).readers[0].sessions for shown in s.cases
        }
        arms = {picture.identifier: picture.arm for picture in protocol(there).pictures}
        seen: dict[str, dict[bool, set[str]]] = {"low": {}, "high": {}}
        while (case := browser.state()["case"]) is not None:
            picture = pictures[case["token"]]
            modified = known[picture]["modification"] != "none"
            got = browser.get(case["url"])
            told = browser.get(f"{API}/cases/{case['token']}")
            saved = put(browser, answer(case["token"]))
            page = browser.get("/study/read")
            facts = [
                [h for h in got.headers.items() if h[0] != "date"],
                [h for h in told.headers.items() if h[0] not in {"date", "content-length"}],
                [h for h in saved.headers.items() if h[0] not in {"date", "content-length"}],
                [h for h in page.headers.items() if h[0] not in {"date", "content-length"}],
                shape(case),
                shape(told.json()),
                shape(saved.json()),
                got.headers["content-length"],
            ]
            seen[arms[picture]].setdefault(modified, set()).add(json.dumps(facts))
        for of in seen.values():
            assert set(of) == {False, True}
            assert len(of[False] | of[True]) == 1


def test_no_word_of_the_truth_is_in_anything_the_server_says(study: Served) -> None:
    known = truths(study)
    words = {"insert", "remove", "cancer", "genuine", "pathology"}
    words |= {truth[name] for truth in known.values() for name in ("case", "patient", "picture")}
    words |= {truth["source_sha256"] for truth in known.values()} | {
        p.sha256 for p in protocol(study).pictures
    }
    browser, lead = study.browser("R01"), study.browser("lead")
    said = []
    for _ in range(2):
        while (case := browser.state()["case"]) is not None:
            for path in ("/study/", "/study/read", f"{API}/state", f"{API}/cases/{case['token']}"):
                response = browser.get(path)
                assert response.status_code == 200
                said.append(response.text.replace("definitely genuine", "").replace("probably genuine", ""))
                said.append(str(response.headers))
            said.append(put(browser, answer(case["token"])).text)
        said += [lead.get(path).text for path in ("/study/", "/study/lead", "/study/lead/api/overview")]
        study.clock.move(days=30)
        browser.sign_in()
        lead.sign_in()
    assert browser.state()["finished"]
    assert len(said) > 50
    found = {word for word in words for text in said if word in text}
    assert found == set()


_opened: list[str] | None = None


def _listen(event: str, values: tuple[Any, ...]) -> None:
    if _opened is not None and event in {"open", "os.open"} and values and isinstance(values[0], str | bytes):
        _opened.append(str(values[0]))


def test_the_server_opens_one_picture_and_never_the_key(tmp_path: Path) -> None:
    """Told by the interpreter itself, with a key lying there and readable."""
    global _opened
    folder = small_study(tmp_path, readers=1, cases=4)
    sys.addaudithook(_listen)  # cannot be taken away again; silent outside this test
    _opened = []
    try:
        with served(folder) as there:
            (tmp_path / "study-key.json").rename(folder / "key.json")
            browser, lead = there.browser("R01"), there.browser("lead")
            assert lead.get("/study/lead").status_code == 200
            del _opened[:]
            while (case := browser.state()["case"]) is not None:
                before = len(_opened)
                assert browser.get(case["url"]).status_code == 200
                raw = [name for name in _opened[before:] if "study" in name]
                assert len(raw) == 1  # each picture costs the same
                assert raw[0].endswith(".raw")
                put(browser, answer(case["token"]))
            assert lead.get("/study/lead/api/overview").status_code == 200
            assert len(_opened) > 0
            assert [name for name in _opened if name.endswith("key.json")] == []
            (folder / "key.json").rename(tmp_path / "study-key.json")
    finally:
        _opened = None


# --- the lead


def test_the_overview_counts(study: Served) -> None:
    browser, lead = study.browser("R01"), study.browser("lead")
    read_session(browser)
    token = browser.state()["case"]["token"]
    put(browser, answer(token, seconds=10.0))
    study.clock.move(minutes=1)
    put(study.browser("R01"), answer(token))
    put(browser, answer(token, 1))
    put(browser, answer(browser.state()["case"]["token"], seconds=20.0))
    browser.send("POST", f"{API}/pause", {"paused": True})
    told = lead.get("/study/lead/api/overview").json()
    one, two = told["readers"]
    assert (one["reader"], one["answered"], one["cases"], one["session"], one["of"]) == ("R01", 2, 8, 1, 2)
    assert (one["conflicts"], one["revisions"], one["paused"], one["median_seconds"]) == (1, 1, True, 15.0)
    assert one["last_seen"] == "2026-03-02T08:01:00.000Z"
    assert one["cases_per_hour"] == 60.0
    assert [(s["number"], s["answered"], s["cases"]) for s in one["sessions"]] == [
        (0, 2, 2),
        (1, 2, 4),
        (2, 0, 4),
    ]
    assert one["sessions"][0]["finished_at"] == one["sessions"][1]["opened_at"] == "2026-03-02T08:00:00.000Z"
    assert (two["answered"], two["last_seen"], two["median_seconds"]) == (0, None, None)
    assert [(c["reader"], c["session"], c["position"], c["standing"]) for c in told["conflicts"]] == [
        ("R01", 1, 1, "conflict")
    ]


def test_the_overview_does_not_depend_on_any_rating(made: Path) -> None:
    """Two studies read alike but for the ratings look the same to the lead, to the last letter."""
    seen = []
    for lesion in (1, 5):
        with served(made) as there:
            browser, lead = there.browser("R01"), there.browser("lead")
            read_session(browser)
            token = browser.state()["case"]["token"]
            for revision in (0, 0, 1):
                ratings = {"lesion": lesion, "manipulation": 6 - lesion}
                put(browser, answer(token, revision, ratings=ratings, marks=[[lesion, 1]]))
            seen.append(lead.get("/study/lead/api/overview").json())
        for path in made.glob("*.sqlite*"):
            path.unlink()
    assert seen[0] == seen[1]


def test_an_address_without_its_slash_leads_there(study: Served) -> None:
    response = study.browser("R01").get("/study")
    assert (response.status_code, response.headers["location"]) == (303, "/study/")


def test_the_first_page_shows_a_reader_his_sessions(study: Served) -> None:
    browser = study.browser("R01")
    page = browser.get("/study/")
    assert page.status_code == 200
    assert "/study/read" in page.text
    assert "/study/lead" not in page.text
    lead = study.browser("lead").get("/study/")
    assert "/study/lead" in lead.text
    assert study.browser("lead").get("/study/lead").status_code == 200


# --- when the disk fails


@pytest.mark.parametrize("trouble", ["locked", "full"])
def test_what_cannot_be_saved_is_503_and_saved_later(made: Path, trouble: str) -> None:
    with served(made) as there:
        browser = there.browser("R01")
        token = browser.state()["case"]["token"]
        given = answer(token)
        store = there.desk.store
        other = sqlite3.connect(store.path, isolation_level=None)
        try:
            if trouble == "locked":
                store._writer.execute("PRAGMA busy_timeout = 50")
                other.execute("BEGIN IMMEDIATE")
            else:
                (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
                store._writer.execute(f"PRAGMA max_page_count = {pages}")
                given["acts"] = [{"at": 1.0, "what": "x" * 100, "value": "y"}] * 200
            for path, body in (
                (f"{API}/answers/{given['identifier']}", given),
                (f"{API}/drafts/{token}", {"sequence": 1}),
            ):
                if trouble == "full" and "drafts" in path:
                    continue  # a small one may still find room
                told = refused(browser.send("PUT", path, body), 503)
                assert str(there.folder) not in json.dumps(told)
            assert browser.state()["case"]["token"] == token  # the page still loads
            if trouble == "locked":
                other.execute("ROLLBACK")
            store._writer.execute("PRAGMA max_page_count = 1000000")
            assert put(browser, given).json()["duplicate"] is False
            assert browser.state()["answered"] == [token]
        finally:
            other.close()
    for path in made.glob("*.sqlite*"):
        path.unlink()


def test_a_picture_that_was_changed_is_shown_to_nobody(tmp_path: Path) -> None:
    with served(small_study(tmp_path, readers=1, cases=4)) as there:
        browser = there.browser("R01")
        shown = protocol(there).readers[0].sessions[0].cases[0]
        path = there.folder / "pictures" / f"{shown.picture}.raw"
        data = bytearray(path.read_bytes())
        data[5] ^= 1
        path.write_bytes(data)
        told = refused(browser.get(f"{API}/pictures/{shown.token}"), 503)
        assert shown.picture not in json.dumps(told)
        path.unlink()
        refused(browser.get(f"{API}/pictures/{shown.token}"), 503)
        with pytest.raises(InputError, match="a picture is missing"):
            open_study(there.folder)
