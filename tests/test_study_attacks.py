"""Attacks on a running study: what would lose an answer, tell a truth or take the machine down."""

from __future__ import annotations

import sqlite3
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from _study import small_study
from _study_browser import Seat, chromium
from _study_pages import ServerProcess, add_accounts
from scanward.errors import ScanwardError
from scanward.reading.exporting import export
from scanward.reading.opened import open_study
from scanward.reading.protocol import Answer, Clicked
from scanward.reading.store import Store

HASH = "a" * 64
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def answer(token: str = "t", acts: tuple[Clicked, ...] = ()) -> Answer:
    return Answer(
        identifier=str(uuid.uuid4()),
        token=token,
        revision=0,
        ratings={"lesion": 2, "manipulation": 4},
        seconds=3.0,
        acts=acts,
    )


# --- answers


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("other", ["R02", "lead"])
def test_who_signs_in_meanwhile_in_the_same_browser_takes_no_answer(
    browser: Browser, tmp_path: Path, other: str
) -> None:
    """R01 reads on without a network; when it is back, the browser holds somebody else's session. With that cookie the
    server says 403, and with that session's token 404 (R02) or 403 (lead): it would never take the answer."""
    folder = small_study(tmp_path, readers=2, cases=8, rows=20, columns=20)
    add_accounts(folder, {"R01": "reader", "R02": "reader", "lead": "lead"})
    with ServerProcess(folder) as server, Seat(browser, server, "R01") as seat:
        token = seat.read()
        (mine,) = (one for one in seat.context.cookies() if one["name"].endswith("session"))
        seat.ahead(*(case.token for case in open_study(folder).session("R01", 1).cases[1:3]))
        seat.context.set_offline(True)
        seat.press("5", "0", "Enter")
        seat.case()
        seat.waiting(1)
        with Seat(browser, server, other) as elsewhere:
            elsewhere.sign_in("/study/")
            (theirs,) = (one for one in elsewhere.context.cookies() if one["name"].endswith("session"))
        seat.context.add_cookies([theirs])
        seat.context.set_offline(False)
        seat.view("signed-out")
        seat.waiting(1)
        assert seat.page.get_attribute("#page", "data-view") == "signed-out"
        seat.context.add_cookies([mine])
        seat.page.click("#try")
        seat.saved()
        seat.forgive("status of 40[0-9]", "ERR_INTERNET_DISCONNECTED")
    with Store(folder / "answers.sqlite", open_study(folder).sha256) as store:
        assert [(row.reader, row.answer.token) for row in store.every_answer()] == [("R01", token)]


@pytest.mark.parametrize("name", ["answers.sqlite", "answers.sqlite-wal"])
@pytest.mark.parametrize("instead", ["nothing", "a copy"])
def test_an_answer_is_not_said_to_be_saved_in_a_file_that_is_gone(
    tmp_path: Path, name: str, instead: str
) -> None:
    """Deleted or replaced under the server, a file is written on without an error, and gone when the server ends."""
    path = tmp_path / name
    with Store(tmp_path / "answers.sqlite", HASH) as store:
        store.put_answer("R01", 1, answer("first"), NOW)
        aside = path.rename(tmp_path / "aside")
        if instead == "a copy":
            path.write_bytes(aside.read_bytes())
        with pytest.raises(ScanwardError, match="deleted or replaced"):
            store.put_answer("R01", 1, answer("second"), NOW)
        path.unlink(missing_ok=True)
        aside.rename(path)  # brought back in time, nothing was lost
        last = answer("third")
        store.put_answer("R01", 1, last, NOW)
    with Store(tmp_path / "answers.sqlite", HASH) as store:
        assert [row.answer.token for row in store.every_answer()] == ["first", "second", "third"]


def test_the_file_may_be_opened_by_others_at_the_same_time(tmp_path: Path) -> None:
    """An export, a second server and a backup open and close it: it stays the file it was."""
    path = tmp_path / "answers.sqlite"
    with Store(path, HASH) as store:
        for number in range(3):
            with Store(path, HASH) as other:
                other.put_answer("R02", 1, answer(), NOW)
            sqlite3.connect(path).close()
            store.put_answer("R01", 1, answer(f"t{number}"), NOW)
        assert len(list(store.every_answer())) == 6


# --- export


def test_a_large_study_is_exported_in_little_memory(tmp_path: Path) -> None:
    """Acts are most of an answer and no part of the table: 2 GB of them in a study of 20 readers and 2,000 pictures."""
    folder = small_study(tmp_path, readers=1, cases=200, rows=16, columns=16)
    study = open_study(folder)
    acts = tuple(Clicked(at=float(number), what="window", value=f"{number} 4000") for number in range(1000))
    with Store(study.answers, study.sha256) as store:
        store._writer.execute("PRAGMA synchronous = OFF")
        for session in study.readers["R01"].sessions:
            for shown in session.cases:
                store.put_answer("R01", session.number, answer(shown.token, acts), NOW)
    tracemalloc.start()
    try:
        table = export(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table.rows) == 400
    assert peak < 20 << 20, f"{peak} bytes; all 200 answers with their acts take some 40 MB"
