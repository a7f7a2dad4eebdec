"""A reader at a browser, for tests of the reading page: what he presses, what is on his screen, what the server has."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Playwright, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from _study_pages import PASSWORD, ServerProcess
from scanward.reading.exporting import history

PATIENCE = 30_000  # ms, against hanging
Grey = NDArray[np.int64]

LISTENER = """
window.__violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
WHERE = """([last, view]) => {
    const page = document.querySelector("#page");
    const token = document.querySelector("#picture")?.dataset.token ?? "";
    return page?.dataset.view === view && (view !== "case" || token !== last) ? {token} : null;
}"""
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
PIXELS = """() => {
    const canvas = document.querySelector("#picture");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
    return [canvas.width, canvas.height, btoa(text)];
}"""
KEPT = """async () => {
    const found = {local: {...localStorage}, session: {...sessionStorage}, bases: {}, caches: await caches.keys()};
    const done = (request) => new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
    for (const {name} of await indexedDB.databases()) {
        const base = await done(indexedDB.open(name));
        found.bases[name] = {};
        for (const store of base.objectStoreNames) {
            found.bases[name][store] = await done(base.transaction(store).objectStore(store).getAll());
        }
        base.close();
    }
    return found;
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    playwright: Playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Seat:
    """A browser of its own (a context shares nothing with another) in which ``name`` reads."""

    def __init__(self, browser: Browser, server: ServerProcess, name: str, **options: Any) -> None:
        self.server = server
        self.name = name
        options.setdefault("viewport", {"width": 960, "height": 560})
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(LISTENER)
        self.wrong: list[str] = []
        self.bodies: list[tuple[str, str, bytes]] = []  # address, type, content of all that came
        self.fetched: set[str] = set()  # last parts of the addresses of all that came
        self.page = self.new_page()
        self.token = ""

    def __enter__(self) -> Seat:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                assert self.trespasses() == []
                assert self.wrong == [], self.wrong
        finally:
            self.context.close()

    def new_page(self) -> Any:
        page = self.context.new_page()
        page.on("console", lambda told: self.wrong.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._ours(request.url))
        page.on("requestfinished", lambda request: self.fetched.add(request.url.rpartition("/")[2]))
        return page

    def _ours(self, url: str) -> None:
        if not url.startswith((f"{self.server.address}/", "data:", "blob:")):
            self.wrong.append(f"a request to {url}")

    def forgive(self, *expected: str) -> None:
        """Take what the browser writes into its console of a failed request from the list of wrongs."""
        pattern = re.compile("|".join(expected))
        self.wrong[:] = [text for text in self.wrong if not pattern.search(text)]

    def trespasses(self) -> list[str]:
        """What went against the content policy, on all pages that are open."""
        return [one for page in self.context.pages for one in page.evaluate("window.__violations ?? []")]

    def listen(self) -> None:
        """Keep the content of every answer from now on."""

        def keep(response: Any) -> None:
            if response.status < 300:
                kind = response.headers.get("content-type", "")
                self.bodies.append((response.url, kind, response.body()))

        self.page.on("requestfinished", lambda request: keep(request.response()))

    # --- going places

    def sign_in(self, there: str = "/study/read", page: Any = None) -> None:
        page = page or self.page
        page.goto(f"{self.server.address}{there}")
        page.fill("#name", self.name)
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/sign-in" not in url)

    def read(self) -> str:
        """Sign in and wait for the first case."""
        self.sign_in()
        return self.case()

    def view(self, view: str, last: str = "") -> str:
        """Wait for a view (of another case than ``last``); the token of the case, if it is one."""
        handle = self.page.wait_for_function(WHERE, arg=[last, view], polling=10)
        return str(handle.json_value()["token"])

    def case(self) -> str:
        """Wait for another case than the last."""
        self.token = self.view("case", self.token)
        return self.token

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def next(self, *keys: str) -> str:
        """Answer the case with these keys, save, wait for the next one; its token."""
        self.press(*(keys or ("1", "6")), "Enter")
        return self.case()

    def through_practice(self) -> str:
        """Read the two practice cases; the token of the first that counts."""
        self.read()
        self.next()
        self.press("1", "6", "Enter")
        self.view("session-end")
        self.press("Enter")
        return self.case()

    def ahead(self, *tokens: str) -> None:
        """Until the pictures of these cases are in store."""
        for _ in range(PATIENCE // 20):
            if self.fetched.issuperset(tokens):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("pictures were not fetched ahead of their turn")

    def go_to(self, study: Any, bits: int) -> str:
        """Answer cases until one of so many bits is on the screen; its token."""
        for _ in range(40):
            if study.places[self.token].picture.bits == bits:
                return self.token
            self.press("1", "6", "Enter")
            self.page.wait_for_function(
                "last => !['case', 'loading'].includes(document.querySelector('#page').dataset.view)"
                " || ![undefined, last].includes(document.querySelector('#picture').dataset.token)",
                arg=self.token,
                polling=10,
            )
            if self.page.get_attribute("#page", "data-view") == "sending":
                self.view("session-end")
            if self.page.get_attribute("#page", "data-view") == "session-end":
                self.press("Enter")
            self.case()
        raise AssertionError(f"no case of {bits} bits")

    # --- what is there

    @property
    def state(self) -> dict[str, Any]:
        """The state the page tells."""
        told: dict[str, Any] = self.page.evaluate("window.__view")
        return told

    def shown(self) -> NDArray[np.uint8]:
        """What is on the canvas: (rows, columns, 4), after the next drawing."""
        self.page.evaluate(DRAWN)
        width, height, text = self.page.evaluate(PIXELS)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def window(self) -> tuple[float, float]:
        """The window as the page states it to the reader."""
        self.page.evaluate(DRAWN)
        return float(self.page.input_value("#window-centre")), float(self.page.input_value("#window-width"))

    def chosen(self, question: str) -> int | None:
        found = self.page.query_selector(f"#question-{question} input:checked")
        return int(found.get_attribute("value")) if found else None

    def waiting(self, number: int) -> None:
        """Until so many answers wait to be sent."""
        try:
            self.page.wait_for_selector(f"#waiting[data-waiting='{number}']")
        except PlaywrightTimeout:
            there = self.page.evaluate("({...document.querySelector('#waiting').dataset})")
            kept = self.kept()["bases"].get("scanward-study", {}).get("answers")
            raise AssertionError(f"not {number} answers wait: {there}, kept {kept}") from None

    def saved(self) -> None:
        """Until nothing waits, drafts included."""
        self.page.wait_for_selector("#waiting[data-waiting='0'][data-state='saved']")

    def kept(self) -> dict[str, Any]:
        """All that the browser keeps of the site."""
        found: dict[str, Any] = self.page.evaluate(KEPT)
        return found

    def focus(self) -> str:
        found: str = self.page.evaluate(
            "document.activeElement.id || document.activeElement.textContent.trim()"
        )
        return found


def taken(folder: Path, reader: str) -> list[dict[str, Any]]:
    """Every answer that the server has of a reader, in order."""
    return [row for row in map(_plain, history(folder)) if row["reader"] == reader]


def _plain(row: Any) -> dict[str, Any]:
    return json.loads(row) if isinstance(row, (str, bytes)) else row


def plan(study: Any, reader: str) -> list[str]:
    """The tokens of a reader in the order of the protocol."""
    return [case.token for session in study.readers[reader].sessions for case in session.cases]


def ratings(row: dict[str, Any]) -> tuple[int, int]:
    return row["answer"]["ratings"]["lesion"], row["answer"]["ratings"]["manipulation"]


def drafts(seat: Seat) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = seat.kept()["bases"]["scanward-study"]["drafts"]
    return found


def raw(study: Any, token: str) -> Grey:
    """The stored values of a case, from the study's own file."""
    picture = study.places[token].picture
    data = study.picture_path(picture).read_bytes()
    return np.frombuffer(data, "<u2").reshape(picture.rows, picture.columns).astype(np.int64)


def greys(values: Grey, centre: float, width: float, invert: bool = False) -> Grey:
    """DICOM PS3.3 C.11.2.1.2.1 for an output of 0 to 255, half up, in whole numbers: no rounding but the stated one.

    ``centre`` and ``width`` are multiples of a half, as the page states them.
    """
    twice, double = round(2 * centre), round(2 * width)
    assert (twice, double) == (2 * centre, 2 * width)
    low = twice - 1 - (double // 2 - 1)  # 2 * (c - 0.5 - (w - 1) / 2) for whole w
    assert double % 2 == 0
    high = twice - 1 + (double // 2 - 1)
    span = double // 2 - 1
    inside = (
        (255 * (2 * values - twice + double // 2) + span) // (2 * span) if span else np.zeros_like(values)
    )
    shown = np.where(2 * values <= low, 0, np.where(2 * values > high, 255, inside))
    return 255 - shown if invert else shown


def nearest(
    values: Grey, centre: tuple[float, float], zoom: int, width: int, height: int
) -> tuple[Grey, NDArray[np.bool_]]:
    """(height, width): the stored value of the picture's pixel under each screen pixel, and whether there is one.

    ``centre`` (x, y) of the picture lies in the middle of the screen, moved to whole screen pixels.
    """
    rows, columns = values.shape
    found = []
    for middle, size, most in ((centre[1], height, rows), (centre[0], width, columns)):
        first = int(np.floor(middle * zoom - size / 2 + 0.5))  # screen pixels from the picture's edge
        at = (first + np.arange(size)) // zoom
        found.append((np.clip(at, 0, most - 1), (at >= 0) & (at < most)))
    (down, in_rows), (across, in_columns) = found
    return values[np.ix_(down, across)], in_rows[:, None] & in_columns[None, :]
