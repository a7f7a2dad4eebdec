"""Milliseconds that the reading page takes to draw a mammogram of 4000 x 3000 px and 16 bits, in headless Chromium.

A change of the window paints what was sampled before; a change of the zoom samples the picture anew. Measured by the
page itself, from the start of its drawing to the end of putImageData; the browser's own composition is not in it.

  python -m benchmarks.study_viewer
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parser, quickly, save, sayer, table
from benchmarks.study_stage import case_shown, chromium, phantoms, serving, sign_in, study_of
from scanward.reading.protocol import Arm

NAME = "study_viewer"
SIZE = {"width": 1920, "height": 1200}
DRAWN = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
    () => done(window.__view.ms))))"""


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--rows", type=int, default=4000)
    made.add_argument("--columns", type=int, default=3000)
    made.add_argument("--rounds", type=int, default=30)
    arguments = made.parse_args(argv)
    quickly(arguments, rows=400, columns=300, rounds=3)
    return arguments


def timed(page: Any, rounds: int, *keys: str) -> dict[str, float]:
    """Median, least and most ms of the drawing after each of ``keys``, pressed in turn ``rounds`` times."""
    found = []
    for number in range(rounds):
        page.keyboard.press(keys[number % len(keys)])
        found.append(float(page.evaluate(DRAWN)))
    return {"median": statistics.median(found), "least": min(found), "most": max(found)}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one large picture, change window and zoom, tell the times."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = options(argv)
    say = sayer()
    # enlarged from small phantoms: what is timed depends on the size alone
    arms = [Arm(name="full", rows=arguments.rows, columns=arguments.columns, bits=16)]
    told: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = study_of(
            Path(made) / "study", phantoms(2, 512, 384), arms, readers=1, women=2, title="Large pictures"
        )
        with serving(folder) as address, chromium() as browser:
            page = browser.new_context(viewport=SIZE).new_page()
            sign_in(page, address, "R01", "/study/read")
            case_shown(page)
            canvas = page.evaluate(
                "(() => { const c = document.querySelector('#picture'); return [c.width, c.height]; })()"
            )
            told["window, whole picture"] = timed(page, arguments.rounds, "w", "e")
            page.keyboard.press("o")
            page.evaluate(DRAWN)
            told["window, 1:1"] = timed(page, arguments.rounds, "w", "e")
            told["move, 1:1"] = timed(page, arguments.rounds, "ArrowLeft", "ArrowRight")
            told["zoom, whole picture and 1:1 in turn"] = timed(page, arguments.rounds, "f", "o")
    say(table(["drawing", "median ms", "most"], [
        [name, f"{one['median']:.1f}", f"{one['most']:.1f}"] for name, one in told.items()
    ]))  # fmt: skip
    save(arguments, NAME, argv, {"canvas": canvas, "drawings": told})
    return 0


if __name__ == "__main__":
    sys.exit(main())
