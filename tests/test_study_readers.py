"""Three readers at once in real browsers, 300 cases each, with everything that goes wrong in between.

One loses the network in the middle of a case and reads on without it; another's browser is closed in the middle of a
case and he goes on at another computer; the third goes back, changes answers and sets marks; and the server is killed
and started again while all three read. What is exported is compared with a list of what was pressed, kept here.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from _study import small_study
from _study_pages import PASSWORD, ServerProcess, add_accounts
from scanward.reading.exporting import export, history
from scanward.reading.opened import open_study

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")
CASES = 300
PATIENCE = 60_000  # ms, against hanging; the server takes some seconds to come back
WHERE = """([last, views]) => {
    const view = document.querySelector("#page")?.dataset.view;
    const token = document.querySelector("#picture")?.dataset.token ?? "";
    return views.includes(view) && (view !== "case" || token !== last) ? {view, token} : null;
}"""


@dataclass
class Pressed:
    """What was pressed on one case: the last ratings, how often they were given anew, marks that were set."""

    ratings: dict[str, int]
    revisions: int = 0
    marks: list[tuple[float, float]] = field(default_factory=list)


class ReaderAtWork:
    """A reader who presses keys and remembers which."""

    def __init__(self, name: str, plan: list[str], browser: Any, server: ServerProcess) -> None:
        self.name = name
        self.plan = plan  # his tokens, in order
        self.fetched: set[str] = set()
        self.browser = browser
        self.server = server
        self.random = random.Random(name)
        self.pressed: dict[str, Pressed] = {}
        self.order: list[str] = []
        self.last = ""

    async def sit_down(self) -> None:
        """At a computer he was never at before: a browser context shares nothing with the one before."""
        self.context = await self.browser.new_context(viewport={"width": 640, "height": 480})
        self.context.set_default_timeout(PATIENCE)
        await self.open_page()
        await self.page.fill("#name", self.name)
        await self.page.fill("#password", PASSWORD)
        await self.page.keyboard.press("Enter")
        self.last = ""

    async def open_page(self) -> None:
        self.page = await self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfinished", lambda request: self.fetched.add(request.url.rpartition("/")[2]))
        await self.page.goto(f"{self.server.address}/study/read")

    async def stand_up(self) -> None:
        assert self.errors == []
        await self.context.close()

    async def where(self, *views: str) -> tuple[str, str]:
        """(view, token) as soon as another case is on the screen, or one of ``views``."""
        handle = await self.page.wait_for_function(WHERE, arg=[self.last, ["case", *views]], polling=10)
        found = await handle.json_value()
        return found["view"], found["token"]

    async def ahead(self, cases: int) -> None:
        """Until the page has the pictures of the next ``cases`` in store."""
        here = len(self.order)
        wanted = set(self.plan[here + 1 : here + 1 + cases])
        async with asyncio.timeout(PATIENCE / 1000):
            while not wanted <= self.fetched:
                await asyncio.sleep(0.02)

    def rating(self) -> int:
        return self.random.randint(1, 5)

    async def lesion(self, rating: int) -> None:
        await self.page.keyboard.press(str(rating))

    async def manipulation(self, rating: int) -> None:
        await self.page.keyboard.press("67890"[rating - 1])

    async def save(self, token: str, ratings: dict[str, int]) -> None:
        await self.page.keyboard.press("Enter")
        self.note(token, ratings)

    def note(self, token: str, ratings: dict[str, int]) -> None:
        assert token not in self.pressed
        self.pressed[token] = Pressed(ratings)
        self.order.append(token)
        self.last = token

    async def read_case(self, token: str) -> None:
        ratings = {"lesion": self.rating(), "manipulation": self.rating()}
        await self.lesion(ratings["lesion"])
        await self.manipulation(ratings["manipulation"])
        await self.save(token, ratings)

    async def waiting(self, number: int) -> None:
        """Until the page says that so many answers wait to be sent."""
        await self.page.wait_for_function(
            "n => document.querySelector('#waiting').dataset.waiting === String(n)", arg=number
        )

    async def read_all(self, special: Callable[[int, str], Any]) -> None:
        """Read until everything is read. ``special`` may read a case in its own way: then it says so."""
        while True:
            view, token = await self.where("session-end", "finished")
            if view == "finished":
                break
            if view == "session-end":
                await self.page.keyboard.press("Enter")  # its button has the focus
                await self.page.wait_for_selector("#page[data-view=case]")
                continue
            if not await special(len(self.order), token):
                await self.read_case(token)
        await self.waiting(0)
        await self.stand_up()


class LosesTheNetwork(ReaderAtWork):
    """In the middle of case 100, for three cases; and once more for as long as the page has pictures."""

    async def special(self, number: int, token: str) -> bool:
        if number not in {100, 200}:
            return False
        rating = self.rating()
        await self.lesion(rating)
        await self.ahead(2)  # nobody else reads ten a second
        await self.context.set_offline(True)
        other = self.rating()
        await self.manipulation(other)
        await self.save(token, {"lesion": rating, "manipulation": other})
        read = 1
        for _ in range(2 if number == 100 else 10):
            view, token = await self.where("offline")
            if view == "offline":
                break
            await self.read_case(token)
            read += 1
        assert 3 <= read <= 5
        await self.waiting(read)
        await self.context.set_offline(False)
        await self.waiting(0)
        return True


class ChangesComputer(ReaderAtWork):
    """His browser is gone in the middle of case 120; at the other computer his click is there."""

    async def special(self, number: int, token: str) -> bool:
        if number != 120:
            return False
        rating = self.rating()
        async with self.page.expect_response(f"**/study/api/drafts/{token}") as saved:
            await self.lesion(rating)
        assert (await saved.value).status == 200
        await self.stand_up()
        await self.sit_down()
        _, there = await self.where()
        assert there == token
        assert await self.page.is_checked(f"#question-lesion input[value='{rating}']")
        other = self.rating()
        await self.manipulation(other)
        await self.save(token, {"lesion": rating, "manipulation": other})
        return True


class GoesBack(ReaderAtWork):
    """Every 25th case he changes the answer before; every 40th he sets a mark."""

    async def special(self, number: int, token: str) -> bool:
        if number % 40 == 7:
            for key in ("k", "ArrowRight", "Space", "k"):
                await self.page.keyboard.press(key)
            marks = await self.page.evaluate("window.__view.marks")
            assert len(marks) == 1
            await self.read_case(token)
            self.pressed[token].marks = [tuple(mark) for mark in marks]
            return True
        if number % 25 != 10:
            return False
        before, self.last = self.order[-1], token
        await self.page.keyboard.press("b")
        _, there = await self.where()
        assert there == before
        changed = self.pressed[before]
        rating = changed.ratings["lesion"] % 5 + 1  # another one
        await self.lesion(rating)
        changed.ratings = changed.ratings | {"lesion": rating}
        changed.revisions += 1
        self.last = before
        await self.page.keyboard.press("Enter")
        _, there = await self.where()
        assert there == token
        await self.read_case(token)
        return True


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def everything(server: ServerProcess, plans: dict[str, list[str]]) -> list[ReaderAtWork]:
    async with chromium() as browser:
        kinds = {"R01": LosesTheNetwork, "R02": ChangesComputer, "R03": GoesBack}
        readers: list[Any] = [kind(name, plans[name], browser, server) for name, kind in kinds.items()]

        async def work(reader: Any) -> None:
            await reader.sit_down()
            await reader.read_all(reader.special)

        async def kill_the_server() -> None:
            while min(len(reader.order) for reader in readers) < 130:  # nobody is changing computers now
                await asyncio.sleep(0.02)
            server.kill()
            await asyncio.sleep(1.0)  # all three meet a server that is not there
            await asyncio.to_thread(server.start)

        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(work(reader))
            group.create_task(kill_the_server())
    return readers


def plans_of(folder: Path) -> dict[str, list[str]]:
    """Each reader's tokens in his order."""
    return {
        reader.name: [case.token for session in reader.sessions for case in session.cases]
        for reader in open_study(folder).protocol.readers
    }


def ratings_of(folder: Path) -> dict[tuple[str, str], dict[str, int]]:
    """What was exported: ratings by reader and picture."""
    table = export(folder)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        found.setdefault((row["reader"], row["picture"]), {})[row["question"]] = int(row["rating"])
    return found


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: Debian has it in the package chromium")
def test_a_locked_database_and_a_closed_window_lose_nothing(tmp_path: Path) -> None:
    """The server cannot save and says 503; then the window is closed with answers that were never sent."""
    folder = small_study(tmp_path, readers=1, cases=16, rows=48, columns=40, washout_days=0.0)
    add_accounts(folder, {"R01": "reader"})
    plan = plans_of(folder)["R01"]

    async def work(server: ServerProcess) -> ReaderAtWork:
        async with chromium() as browser:
            reader = ReaderAtWork("R01", plan, browser, server)
            await reader.sit_down()
            _, token = await reader.where()
            other = sqlite3.connect(folder / "answers.sqlite", isolation_level=None)
            try:
                other.execute("BEGIN IMMEDIATE")
                async with reader.page.expect_response("**/study/api/answers/*") as tried:
                    await reader.read_case(token)
                assert (await tried.value).status == 503
                await reader.waiting(1)
                other.execute("ROLLBACK")
            finally:
                other.close()
            await reader.waiting(0)
            for _ in range(2):
                await reader.read_case((await reader.where())[1])
            await reader.where()
            await reader.ahead(2)
            await reader.context.set_offline(True)
            for _ in range(2):
                await reader.read_case((await reader.where())[1])
            await reader.waiting(2)
            assert reader.errors == []
            await reader.page.close()
            await reader.context.set_offline(False)
            await reader.open_page()

            async def nothing(number: int, token: str) -> bool:
                return False

            await reader.read_all(nothing)
        return reader

    with ServerProcess(folder) as server:
        reader = asyncio.run(work(server))
        assert "nothing can be saved now" in server.log()
    assert reader.order == plan
    pictures = {token: place.picture.identifier for token, place in open_study(folder).places.items()}
    assert ratings_of(folder) == {
        ("R01", pictures[token]): pressed.ratings for token, pressed in reader.pressed.items()
    }


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: Debian has it in the package chromium")
def test_three_readers_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = small_study(tmp_path, readers=3, cases=CASES, rows=48, columns=40, washout_days=0.0)
    add_accounts(folder, {f"R{n:02d}": "reader" for n in (1, 2, 3)})
    study = open_study(folder)
    shown = {
        reader.name: [case for session in reader.sessions for case in session.cases]
        for reader in study.protocol.readers
    }
    plans = plans_of(folder)
    with ServerProcess(folder) as server:
        readers = asyncio.run(everything(server, plans))
    expected = []
    for reader in readers:
        assert reader.order == plans[reader.name]
        for case in shown[reader.name]:
            pressed = reader.pressed[case.token]
            marks = ";".join(f"{x:g} {y:g}" for x, y in pressed.marks)
            expected += [
                (reader.name, case.picture, question, str(rating), str(pressed.revisions), marks)
                for question, rating in pressed.ratings.items()
            ]
    table = export(folder)
    assert (table.answers, table.unanswered, table.conflicts, table.late) == (3 * CASES, 0, 0, 0)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    names = ("reader", "picture", "question", "rating", "revisions", "marks")
    assert [tuple(row[name] for name in names) for row in rows] == expected
    assert all(float(row["seconds"]) > 0 for row in rows)
    revised = sum(pressed.revisions for reader in readers for pressed in reader.pressed.values())
    assert revised > 5
    assert len(list(history(folder))) == 3 * CASES + revised
