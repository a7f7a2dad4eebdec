"""Screenshots of the reader study's pages, for the documentation: docs/figures/study-*.png.

A study of twelve phantoms is made, served and read by keyboard in Chromium, and its pages are photographed as they are.

  python -m benchmarks.study_screenshots
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Say, sayer
from benchmarks.study_stage import case_shown, chromium, phantoms, read_cases, serving, sign_in, study_of
from scanward.reading.protocol import Arm

FIGURES = ROOT / "docs" / "figures"
SIZE = {"width": 1440, "height": 900}
COLOURS = 240  # of a PNG with a palette
MOST = 300_000  # bytes of one figure
ARMS = (Arm(name="high", rows=512, columns=408, bits=12),)
TITLE = "Can readers tell modified mammograms from genuine ones?"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.study_screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=FIGURES, help="where the pictures go")
    return made.parse_args(argv)


def photograph(page: Any, path: Path, say: Say) -> None:
    """What the window shows, as a PNG of few colours."""
    from PIL import Image

    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as shot:
        few = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    say(f"{path.name} {size // 1000} kB")
    if size >= MOST:
        raise SystemExit(f"{path.name} has {size} bytes, over {MOST}")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the study, read some of it, photograph the pages."""
    arguments = options(sys.argv[1:] if argv is None else argv)
    say = sayer()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        folder = study_of(
            Path(made) / "study", phantoms(8, 512, 408), ARMS,
            readers=3, women=6, practice=2, cases=6, title=TITLE,
        )  # fmt: skip
        say("made the study")
        with serving(folder) as address, chromium() as browser:

            def page_of(name: str, there: str, scheme: str = "light") -> Any:
                page = browser.new_context(
                    viewport=SIZE, color_scheme=scheme, locale="en-GB", timezone_id="UTC"
                ).new_page()
                sign_in(page, address, name, there)
                return page

            first = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
            first.goto(f"{address}/study/")
            photograph(first, out / "study-sign-in.png", say)

            other = page_of("R02", "/study/read")
            read_cases(other, 2, lambda i: ("2", "7"))
            other.click("#go-on")
            read_cases(other, 4, lambda i: (str(1 + i), "67890"[i]))

            page = page_of("R01", "/study/read")
            read_cases(page, 2, lambda i: ("3", "8"))
            page.click("#go-on")
            last = case_shown(page)
            home = page.context.new_page()
            home.goto(f"{address}/study/")
            photograph(home, out / "study-home.png", say)
            home.close()
            for key in ("2", "9", "Enter"):
                page.keyboard.press(key)
            last = case_shown(page, last)
            for key in ("4", "7", "k", *["ArrowRight"] * 6, *["ArrowUp"] * 3, "Space", "k"):
                page.keyboard.press(key)
            page.wait_for_selector("#mark-list li")
            page.wait_for_selector("#waiting[data-state='saved']")
            photograph(page, out / "study-read.png", say)
            page.keyboard.press("?")
            photograph(page, out / "study-help.png", say)
            page.keyboard.press("Escape")
            page.keyboard.press("Enter")
            case_shown(page, last)
            read_cases(page, 4, lambda i: (str(1 + i), "67890"[i]))
            page.wait_for_selector("#page[data-view='washout']")
            photograph(page, out / "study-washout.png", say)
            lead = page_of("miriam", "/study/lead")
            photograph(lead, out / "study-lead.png", say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
