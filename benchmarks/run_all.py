"""Every benchmark one after the other, and docs/results.md out of their result files.

No figure of that page is typed by hand: each section between its marks is written from
``build/bench/NAME.json`` with the command that makes it. A section whose file is absent stays as it is.

  python -m benchmarks.run_all               # everything, some two hours on two cores
  python -m benchmarks.run_all --quick       # tiny sizes, under a quarter of an hour; leaves the page alone
  python -m benchmarks.run_all --only latency throughput
  python -m benchmarks.run_all --page        # only write the page again
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import calibration, detection, latency, throughput
from benchmarks.common import OUT, ROOT, sayer
from benchmarks.pages import SECTIONS

PAGE = ROOT / "docs" / "results.md"


def late(name: str) -> Callable[[Sequence[str]], Any]:
    """The main of a benchmark of the guard: its module, with peers and extras, is wanted by its own run alone."""
    return lambda argv: importlib.import_module(f"benchmarks.{name}").main(argv)


# What is timed goes first, alone and on a cool machine.
RUNS: dict[str, tuple[Callable[[Sequence[str]], Any], list[str]]] = {
    "latency": (latency.main, []),
    "throughput": (throughput.main, []),
    "tampering_speed": (late("tampering_speed"), []),
    "benchmark": (late("published"), []),  # of a run of scanward benchmark, which takes a night
    "detection": (detection.main, ["--examinations", "6000", "--per-attack", "200", "--jobs", "2"]),
    "benchmark_recordings": (late("published"), []),  # the same, of recordings
    "calibration": (calibration.main, []),
    "audit": (late("audit"), []),
    "guard_latency": (late("guard_latency"), []),
    "can_relay": (late("can_relay"), []),
    "dicom_link": (late("dicom_link"), []),
    "guard_clean": (late("guard_clean"), ["--seconds", "600"]),
    "guard_faults": (late("guard_faults"), ["--seconds", "300", "--repeats", "2"]),
    "guard_attacks": (late("guard_attacks"), []),
    "guard_soak": (late("guard_soak"), ["--seconds", "600"]),  # a million commands: by hand
    "tampering_phantoms": (late("tampering_phantoms"), []),
    "tampering_quality": (late("tampering_quality"), []),
    "tampering_films": (late("tampering_films"), []),
    "forensics": (late("forensics"), ["--phantoms"]),
    "forensics_mias": (late("forensics"), ["--mias"]),
    "mrmc_speed": (late("mrmc_speed"), []),
    "console_history": (late("console_history"), []),
    "signatures": (late("signatures"), ["--mutations", "100000"]),
    "dicom_node": (late("dicom_node"), []),
    "mrmc_monte_carlo": (late("mrmc_monte_carlo"), []),
}


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.run_all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="tiny sizes, the page is left alone")
    made.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="these benchmarks")
    made.add_argument("--page", action="store_true", help="run nothing, write the page from the result files")
    made.add_argument("--folder", type=Path, default=OUT, help="where the result files lie")
    return made.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked, then write the page."""
    arguments = options(sys.argv[1:] if argv is None else argv)
    say = sayer()
    if not arguments.page:
        folder = arguments.folder / "quick" if arguments.quick else arguments.folder
        for name in (n for n in RUNS if n in arguments.only):
            run, words = RUNS[name]
            say(f"=== {name}")
            words = ["--quick"] if arguments.quick else words
            run([*words, "--out", str(folder / f"{name}.json")])
    if not arguments.quick:
        page = written(PAGE.read_text("utf-8"), arguments.folder, arguments.only)
        PAGE.write_text(page, "utf-8")
        say(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def written(page: str, folder: Path, names: Sequence[str] = tuple(SECTIONS)) -> str:
    """The page with every section of ``names`` whose result file is there written anew.

    A section stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``. ValueError when the page has
    no such place for a section.
    """
    for name, section in SECTIONS.items():
        marks = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not marks.search(page):
            raise ValueError(f"docs/results.md has no place for '{name}'")
        path = folder / f"{name}.json"
        if name not in names or not path.is_file():
            continue
        told = json.loads(path.read_text("utf-8"))
        head = f"\n    {told['command']}\n\n{_machine(told)}\n\n"
        text = f"{head}{section(told)}\n\n"
        page = marks.sub(lambda found, text=text: found.group(1) + text + found.group(2), page)
    return page


def _machine(told: dict[str, Any]) -> str:
    machine = told["machine"]
    packages = ", ".join(f"{n} {v}" for n, v in machine["packages"].items())
    return (
        f"Measured on {machine['cores']} cores ({machine['processor']}, {machine['system']}), Python "
        f"{machine['python']}, {packages}."
    )


if __name__ == "__main__":
    sys.exit(main())
