"""The file of answers: what counts, what is kept, and what survives a killed process, a full or a locked disk."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanward.config import AnswerBounds
from scanward.errors import InputError, ScanwardError
from scanward.reading.progress import position
from scanward.reading.protocol import Answer, Clicked, Reader, Session, Shown
from scanward.reading.store import Draft, Kept, Standing, Store, moment, stamp

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
HASH = "a" * 64


def answer(token: str = "t1", revision: int = 0, lesion: int = 3, **more: object) -> Answer:
    given = {"identifier": str(uuid.uuid4()), "seconds": 4.5, "ratings": {"lesion": lesion}, **more}
    return Answer(token=token, revision=revision, **given)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store(tmp_path / "answers.sqlite", HASH, bounds=AnswerBounds(busy_seconds=0.05)) as store:
        yield store


# --- which answer counts


def test_an_answer_comes_back_as_it_was_given(store: Store) -> None:
    given = answer(
        marks=((1.5, 2.0),),
        confidence=4,
        away=1.25,
        window=(2048.0, 4096.0),
        acts=(Clicked(at=12.5, what="rating", value="lesion 3"),),
        answered_at="2026-03-01T10:30:00+01:00",
    )
    assert store.put_answer("R01", 1, given, NOW) is Kept.SAVED
    row = store.current("R01", "t1")
    assert row is not None
    assert (row.answer, row.session, row.standing) == (given, 1, Standing.COUNTS)
    assert moment(row.received_at) == NOW
    assert store.answered("R01") == {"t1": NOW}
    assert store.answered("R02") == {}


def test_sent_twice_it_counts_once(store: Store) -> None:
    given = answer()
    assert store.put_answer("R01", 1, given, NOW) is Kept.SAVED
    later = NOW + timedelta(hours=1)
    assert store.put_answer("R01", 1, given, later) is Kept.DUPLICATE
    assert len(list(store.every_answer())) == 1
    assert store.answered("R01") == {"t1": NOW}


def test_another_content_under_the_same_identifier_is_refused(store: Store) -> None:
    given = answer()
    store.put_answer("R01", 1, given, NOW)
    other = answer(identifier=given.identifier, lesion=4)
    assert store.put_answer("R01", 1, other, NOW) is Kept.TAKEN
    assert [row.answer for row in store.every_answer()] == [given]
    # of another reader it is another answer: nobody can take an identifier away from somebody else
    assert store.put_answer("R02", 1, other, NOW) is Kept.SAVED


def test_of_two_pages_the_first_counts_and_both_are_kept(store: Store) -> None:
    first, second = answer(lesion=2), answer(lesion=5)
    assert store.put_answer("R01", 1, first, NOW) is Kept.SAVED
    assert store.put_answer("R01", 1, second, NOW) is Kept.CONFLICT
    assert store.put_answer("R01", 1, second, NOW) is Kept.DUPLICATE
    row = store.current("R01", "t1")
    assert row is not None
    assert row.answer == first
    assert [(row.answer, row.standing) for row in store.every_answer()] == [
        (first, Standing.COUNTS),
        (second, Standing.CONFLICT),
    ]


def test_the_highest_revision_is_the_answer(store: Store) -> None:
    given = [answer(revision=n, lesion=n + 1) for n in range(3)]
    for one in (given[0], given[2], given[1]):  # the last arrives after what replaced it
        store.put_answer("R01", 1, one, NOW)
    row = store.current("R01", "t1")
    assert row is not None
    assert row.answer == given[2]
    assert [row.standing for row in store.every_answer()] == ["counts", "counts", "conflict"]


def test_after_a_later_session_has_begun_a_revision_is_late(store: Store) -> None:
    store.put_answer("R01", 1, answer("t1"), NOW)
    assert store.put_answer("R01", 1, answer("t1", revision=1), NOW) is Kept.SAVED
    store.put_answer("R02", 2, answer("u2"), NOW)  # another reader's session ends nothing
    assert store.put_answer("R01", 1, answer("t1", revision=2), NOW) is Kept.SAVED
    store.put_answer("R01", 2, answer("t2"), NOW)
    assert store.put_answer("R01", 1, answer("t1", revision=3), NOW) is Kept.CONFLICT
    row = store.current("R01", "t1")
    assert row is not None
    assert row.answer.revision == 2
    assert list(store.every_answer())[-1].standing is Standing.LATE


@given(st.lists(st.tuples(st.sampled_from(["t1", "t2"]), st.integers(0, 3)), max_size=12))
@settings(max_examples=30)
def test_whatever_comes_in_whatever_order_all_is_kept_and_one_counts(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[str, int]]
) -> None:
    """Against a model written apart: a list, and for each case the highest revision so far."""
    highest: dict[str, Answer] = {}
    everything = []
    with Store(tmp_path_factory.mktemp("store") / "answers.sqlite", HASH) as store:
        for token, revision in sent:
            one = answer(token, revision)
            kept = store.put_answer("R01", 1, one, NOW)
            everything.append(one)
            before = highest.get(token)
            if before is None or revision > before.revision:
                highest[token] = one
                assert kept is Kept.SAVED
            else:
                assert kept is Kept.CONFLICT
        assert [row.answer for row in store.every_answer()] == everything
        for token, one in highest.items():
            row = store.current("R01", token)
            assert row is not None
            assert row.answer == one
        assert store.answered("R01").keys() == highest.keys()


# --- drafts and events


def test_the_draft_with_the_highest_number_wins(store: Store) -> None:
    for sequence, lesion in ((1, 2), (3, 4), (2, 5)):
        store.put_draft("R01", "t1", Draft(ratings={"lesion": lesion}, sequence=sequence), NOW)
    draft = store.draft("R01", "t1")
    assert draft is not None
    assert (draft.sequence, draft.ratings) == (3, {"lesion": 4})
    assert store.draft("R02", "t1") is None
    store.put_draft("R01", "t1", Draft(ratings={"lesion": 1}, sequence=3), NOW)  # another computer went on
    draft = store.draft("R01", "t1")
    assert draft is not None
    assert draft.ratings == {"lesion": 1}


def test_drafts_of_one_case_are_bounded(tmp_path: Path) -> None:
    with Store(tmp_path / "answers.sqlite", HASH, bounds=AnswerBounds(drafts=2)) as store:
        for sequence in (1, 2):
            store.put_draft("R01", "t1", Draft(sequence=sequence), NOW)
        with pytest.raises(InputError, match="drafts of one case"):
            store.put_draft("R01", "t1", Draft(sequence=3), NOW)
        store.put_draft("R01", "t2", Draft(sequence=1), NOW)


def test_answers_to_one_case_are_bounded(tmp_path: Path) -> None:
    with Store(tmp_path / "answers.sqlite", HASH, bounds=AnswerBounds(answers=2)) as store:
        first = answer()
        for one in (first, answer()):
            store.put_answer("R01", 1, one, NOW)
        with pytest.raises(InputError, match="answers of one case"):
            store.put_answer("R01", 1, answer(revision=1), NOW)
        assert store.put_answer("R01", 1, first, NOW) is Kept.DUPLICATE
        store.put_answer("R01", 1, answer("t2"), NOW)
        store.put_answer("R02", 1, answer(), NOW)
        assert [(one.reader, one.token, one.standing, one.seconds) for one in store.given()] == [
            ("R01", "t1", "counts", 4.5),
            ("R01", "t1", "conflict", 4.5),
            ("R01", "t2", "counts", 4.5),
            ("R02", "t1", "counts", 4.5),
        ]


def test_events_are_kept_in_order_and_bounded(tmp_path: Path) -> None:
    with Store(tmp_path / "answers.sqlite", HASH, bounds=AnswerBounds(events_kept=2)) as store:
        for value in ("yes", "no", "yes"):
            store.add_event("R01", "paused", value, NOW)
        assert [event.value for event in store.events("R01", "paused")] == ["yes", "no"]
        last = store.last_event("R01", "paused")
        assert last is not None
        assert last.value == "no"
        assert store.last_event("R01", "other") is None
        assert store.last_seen() == {"R01": stamp(NOW)}


# --- the file


def test_nothing_is_ever_changed_or_removed(store: Store) -> None:
    store.put_answer("R01", 1, answer(), NOW)
    store.put_draft("R01", "t1", Draft(sequence=1), NOW)
    store.add_event("R01", "paused", "yes", NOW)
    other = sqlite3.connect(store.path)
    try:
        for table in ("answers", "drafts", "events", "facts"):
            column = "value" if table in {"events", "facts"} else "body"
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = 'x'"):
                with pytest.raises(sqlite3.IntegrityError, match="append only"):
                    other.execute(statement)
    finally:
        other.close()


def test_answers_of_another_protocol_are_refused_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with Store(path, HASH) as store:
        store.put_answer("R01", 1, answer(), NOW)
    with pytest.raises(InputError, match="another protocol"):
        Store(path, "b" * 64)
    with Store(path, HASH) as store:
        assert len(list(store.every_answer())) == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"no database at all" * 100, "CREATE TABLE other (x)"])
def test_what_is_no_file_of_answers_is_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "answers.sqlite"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        other = sqlite3.connect(path)
        other.execute(content)
        other.close()
    with pytest.raises(ScanwardError):
        Store(path, HASH)
    with pytest.raises(ScanwardError, match="nothing can be saved"):
        Store(tmp_path / "nowhere" / "answers.sqlite", HASH)


def test_a_locked_file_is_said_and_taken_again_later(store: Store) -> None:
    first, second = answer("t1"), answer("t2")
    store.put_answer("R01", 1, first, NOW)
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ScanwardError, match="nothing can be saved now") as raised:
            store.put_answer("R01", 1, second, NOW)
        assert not isinstance(raised.value, InputError)  # the page tries again; it is not the answer's fault
        assert store.answered("R01").keys() == {"t1"}  # reading goes on meanwhile
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert store.put_answer("R01", 1, second, NOW) is Kept.SAVED


def test_a_full_disk_is_said_and_loses_nothing(store: Store) -> None:
    """SQLite's own limit on pages stands for the disk: the same error, from the same place."""
    store.put_answer("R01", 1, answer("t0"), NOW)
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    saved = {"t0"}
    acts = tuple(Clicked(at=1.0, what="x" * 100, value="y" * 100) for _ in range(10))

    def fill() -> None:
        for number in range(1, 1000):
            store.put_answer("R01", 1, answer(f"t{number}", acts=acts), NOW)
            saved.add(f"t{number}")

    with pytest.raises(ScanwardError, match="full"):
        fill()
    assert 1 < len(saved) < 1000
    assert store.answered("R01").keys() == saved
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert store.put_answer("R01", 1, answer("after"), NOW) is Kept.SAVED


CHILD = """
import sys, uuid
from datetime import datetime, UTC
from pathlib import Path
from scanward.reading.protocol import Answer
from scanward.reading.store import Store
store = Store(Path(sys.argv[1]), "a" * 64)
for number in range(100_000):
    given = Answer(identifier=str(uuid.uuid4()), token=f"t{number}", revision=0, ratings={"lesion": 3}, seconds=1.0)
    store.put_answer("R01", 1, given, datetime.now(UTC))
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    told = -1
    for _ in range(3):  # the second and the third begin on what the killed one left
        with subprocess.Popen(
            [sys.executable, "-c", CHILD.replace("range(100_000)", f"range({told + 1}, 100_000)"), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            for _ in range(random.Random(told).randint(5, 40)):
                told = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
        with Store(path, HASH) as store:
            found = store.answered("R01")
            assert {f"t{n}" for n in range(told + 1)} <= found.keys()
            assert len(found) <= told + 2  # at most the one that was durable and not yet told
            told = len(found) - 1


def test_a_row_is_durable_before_it_is_acknowledged(store: Store) -> None:
    """What a power cut would show and no test can: SQLite is told to wait for the disk (2 is FULL)."""
    for connection in (store._writer, store._reader):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.put_answer("R01", 1, answer(), NOW)
    assert not store._writer.in_transaction


def test_many_threads_write_and_read_at_once(store: Store) -> None:
    """Eight threads, each a reader; another process's connection reads on."""
    failed: list[BaseException] = []

    def read_cases(reader: str) -> None:
        try:
            for number in range(20):
                store.put_answer(reader, 1, answer(f"{reader}-{number}"), NOW)
                assert len(store.answered(reader)) == number + 1
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that can
            failed.append(error)

    patient = AnswerBounds(busy_seconds=30.0)
    store.bounds = patient
    threads = [threading.Thread(target=read_cases, args=(f"R{n:02d}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    with Store(store.path, HASH, bounds=patient) as other:
        assert len(list(other.every_answer())) <= 160
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(list(other.every_answer())) == 160


# --- where a reader stands


def plan(*sizes: int) -> Reader:
    """Session 0 is practice; tokens are s0c1, s0c2, ..."""
    return Reader(
        name="R01",
        sessions=tuple(
            Session(
                number=n, cases=tuple(Shown(token=f"s{n}c{c}", picture=f"p{c}") for c in range(1, size + 1))
            )
            for n, size in enumerate(sizes)
        ),
    )


DAY = timedelta(days=1)


def test_practice_comes_first_and_needs_no_washout() -> None:
    reader = plan(1, 2, 2)
    here = position(reader, {}, NOW, washout=28 * DAY)
    assert here.session is not None
    assert here.case is not None
    assert (here.session.number, here.case.token, here.answered, here.cases) == (0, "s0c1", 0, 4)
    here = position(reader, {"s0c1": NOW}, NOW, washout=28 * DAY)
    assert here.case is not None
    assert (here.case.token, [s.token for s in here.following]) == ("s1c1", ["s1c2"])


def test_washout_runs_from_the_last_first_answer_to_the_second() -> None:
    reader = plan(0, 2, 2)
    answered = {"s1c2": NOW, "s1c1": NOW + DAY}
    for after, waits in ((timedelta(0), True), (28 * DAY - timedelta(seconds=1), True), (28 * DAY, False)):
        here = position(reader, answered, NOW + DAY + after, washout=28 * DAY)
        assert (here.session is None) is waits
        assert here.until == (NOW + 29 * DAY if waits else None)
        assert not here.finished
        assert here.holds("s2c1") is not waits
        assert not here.holds("s1c1")


def test_a_session_that_was_begun_stays_open_when_the_clock_is_set_back() -> None:
    reader = plan(0, 1, 2)
    answered = {"s1c1": NOW, "s2c1": NOW + 28 * DAY}
    here = position(reader, answered, NOW + DAY, washout=28 * DAY)
    assert here.case is not None
    assert here.case.token == "s2c2"


def test_finished_is_when_nothing_is_left() -> None:
    reader = plan(1, 1, 1)
    answered = {f"s{n}c1": NOW for n in range(3)}
    here = position(reader, answered, NOW, washout=DAY)
    assert (here.finished, here.session, here.case, here.answered, here.cases) == (True, None, None, 2, 2)


def test_without_washout_sessions_follow_at_once() -> None:
    here = position(plan(0, 1, 1), {"s1c1": NOW}, NOW, washout=timedelta(0))
    assert here.case is not None
    assert here.case.token == "s2c1"


@given(st.integers(0, 3), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms())
def test_answering_what_is_asked_leads_through_everything_in_order(
    practice: int, sizes: list[int], chance: random.Random
) -> None:
    reader = plan(practice, *sizes)
    answered: dict[str, datetime] = {}
    now, order = NOW, []
    for _ in range(1000):
        here = position(reader, answered, now, washout=DAY)
        if here.finished:
            break
        if here.case is None:
            assert here.until is not None
            assert now < here.until <= now + DAY
            now = here.until
            continue
        assert here.session_answered + 1 + len(here.following) == here.session_cases
        answered[here.case.token] = now
        order.append(here.case.token)
        now += timedelta(seconds=chance.randint(0, 100))
    assert order == [shown.token for session in reader.sessions for shown in session.cases]
