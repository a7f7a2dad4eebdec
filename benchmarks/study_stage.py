"""A reader study of phantoms, served to a real browser: what the screenshots and the timing of the viewer stand on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanward.mammography.phantom_sets import draw_phantoms
from scanward.reading.creating import build
from scanward.reading.planning import Case
from scanward.reading.protocol import Arm, Design, Modification, Pathology, Sessions
from scanward.reading.sources import Original, Source, Twin
from scanward.web.accounts import Accounts

PASSWORD = "seven words that nobody else has"
SECRET = bytes(range(32))  # the same study every time: nobody reads it
CREATED = "2026-01-01T00:00:00+00:00"
PATIENCE = 120_000  # ms, against hanging


def _source(picture: NDArray[np.uint16], where: str) -> Source:
    return Source(
        where=where, sha256=hashlib.sha256(picture.tobytes()).hexdigest(), read=lambda: (picture, 16)
    )


def phantoms(women: int, rows: int, columns: int, seed: int = 5) -> list[Original]:
    """Phantom breasts of ``rows`` x ``columns`` px, half with a lesion, each with its twin in the other state."""
    found = []
    for drawn in draw_phantoms(patients=women, rows=rows, columns=columns, seed=seed):
        ill = bool(drawn.shown.lesions)
        way = Modification.REMOVE if ill else Modification.INSERT
        pathology = Pathology.CANCER if ill else Pathology.NO_CANCER
        twin = Twin(_source(drawn.twin.picture, f"{drawn.name}-modified.png"), way)
        found.append(
            Original(
                case=Case(drawn.name, drawn.patient, pathology),
                source=_source(drawn.shown.picture, f"{drawn.name}.png"),
                twins={"": twin},
            )
        )
    return found


def study_of(
    folder: Path,
    originals: Sequence[Original],
    arms: Sequence[Arm],
    *,
    readers: int,
    women: int,
    title: str,
    practice: int = 0,
    cases: int = 100,
    washout_days: float = 28.0,
) -> Path:
    """A frozen study in ``folder``, with an account for each of its readers and for a lead."""
    design = Design(
        title=title,
        readers=readers,
        patients=women,
        practice=practice,
        arms=tuple(arms),
        sessions=Sessions(cases=cases, washout_days=washout_days, block=2),
    )
    build(list(originals), design, folder, phantom=True, secret=SECRET, created=CREATED)
    with Accounts(folder / "accounts.sqlite") as accounts:
        for number in range(1, readers + 1):
            accounts.add(f"R{number:02d}", ["reader"], PASSWORD)
        accounts.add("miriam", ["lead"], PASSWORD)
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """``scanward study serve`` in a process of its own; its address, http://127.0.0.1:PORT."""
    command = [sys.executable, "-m", "scanward.cli", "study", "serve", str(folder), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told: dict[str, Any] = json.loads(process.stdout.readline())
            yield str(told["address"]).removesuffix("/").removesuffix("/study")
        finally:
            process.terminate()


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Debian's Chromium without a screen."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("no chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Any, address: str, name: str, there: str = "/study/") -> None:
    """Sign ``name`` in and go ``there``."""
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}{there}")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}{there}")


def case_shown(page: Any, last: str = "") -> str:
    """Wait for another case than ``last``; its token."""
    found = page.wait_for_function(
        """last => document.querySelector("#page").dataset.view === "case"
             && document.querySelector("#picture").dataset.token !== last
             && document.querySelector("#picture").dataset.token""",
        arg=last,
    )
    return str(found.json_value())


def read_cases(page: Any, number: int, rating: Callable[[int], tuple[str, str]]) -> None:
    """Answer ``number`` cases by keyboard: ``rating(i)`` gives the two keys of case i."""
    last = ""
    for i in range(number):
        last = case_shown(page, last)
        for key in (*rating(i), "Enter"):
            page.keyboard.press(key)
    page.wait_for_selector("#waiting[data-waiting='0']")
