"""How much gets through: ``scanward judge`` on a large table, its peak memory, and dose reports read.

``judge`` runs as a user runs it, in processes of its own; the memory is that of its largest process. Dose
reports are built from the standard's templates (tests/dicom_builders), in a temporary folder.

  python -m benchmarks.throughput --rows 100000 --reports 1000
  python -m benchmarks.throughput --quick
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundled import signed
from benchmarks.common import FINAL_SEEDS, ROOT, parser, plain, quickly, save, sayer, table
from scanward.commands import Command
from scanward.learning.fit import Settings
from scanward.recordings import examinations, load_dialect, read
from scanward.recordings.writing import write_table
from scanward.simulation import Site

# Started small: a process counts the memory of whoever started it until it has become itself.
LAUNCH = """
import json, resource, subprocess, sys, time
start = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": done.returncode, "error": done.stderr[-2000:],
    "seconds": time.monotonic() - start,
    "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * UNIT}))
""".replace("UNIT", "1" if sys.platform == "darwin" else "1024")
JUDGE = "import sys; from scanward.cli import main; sys.exit(main())"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("throughput", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="the site")
    made.add_argument("--examinations", type=int, default=1000, help="to learn from")
    made.add_argument("--rows", type=int, default=100_000, help="commands in the table")
    made.add_argument("--reports", type=int, default=1000, help="dose-report files")
    made.add_argument("--repeats", type=int, default=3, help="times that the reports are read (median)")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--rounds", type=int, default=Settings().rounds, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=Settings().steps, help="steps of the deep layers")
    arguments = made.parse_args(argv)
    quickly(arguments, examinations=300, rows=1000, reports=60, repeats=1, budget=0.02, rounds=60, steps=40)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("reading dose reports")
        reports = dose_reports(arguments.reports, arguments.repeats, folder / "reports")
        say("learning")
        site = Site(arguments.seed)
        settings = Settings(arguments.budget, rounds=arguments.rounds, steps=arguments.steps)
        # Learned from a table too: reading hashes the serial numbers that bind a bundle to its devices.
        early = [c for e in site.examinations(arguments.examinations) for c in e.commands]
        write_table(early, folder / "early.csv", folder / "early.toml")
        recorded = read([folder / "early.csv"], dialect=load_dialect(folder / "early.toml")).commands
        model, trust = signed(examinations(recorded), settings, folder)
        say(f"writing a table of {arguments.rows} rows")
        later: list[Command] = []
        start = arguments.examinations
        while len(later) < arguments.rows:
            later += [c for e in site.examinations(1000, start=start) for c in e.commands]
            start += 1000
        write_table(later[: arguments.rows], folder / "later.csv", folder / "site.toml")
        say("judging")
        judged = judge(folder, model, trust, arguments.rows)
    result = {"judge": judged, "dose_reports": reports}
    save(arguments, "throughput", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


def judge(folder: Path, model: Path, trust: Path, rows: int) -> dict[str, Any]:
    """One run of ``scanward judge`` on ``folder/later.csv``: rows a second, memory, verdicts.

    RuntimeError with its own words when it fails, or when a row got no verdict.
    """
    verdicts = folder / "verdicts.csv"
    words = [
        *(sys.executable, "-c", JUDGE, "judge", str(folder / "later.csv"), "--model", str(model)),
        *("--dialect", str(folder / "site.toml"), "--trust", str(trust), "--out", str(verdicts)),
        *("--versions", str(folder / "versions.json"), "--quiet"),
    ]
    environment = {
        **os.environ,
        "XDG_DATA_HOME": str(folder / "home"),
        "XDG_STATE_HOME": str(folder / "home"),
    }
    told = json.loads(
        subprocess.run(
            [sys.executable, "-c", LAUNCH, *words],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            env=environment,
        ).stdout
    )
    if told["status"] != 0:
        raise RuntimeError(f"scanward judge failed: {told['error']}")
    with verdicts.open(encoding="utf-8", newline="") as file:
        counts = Counter(row["verdict"] for row in csv.DictReader(file))
    if sum(counts.values()) != rows:
        raise RuntimeError(f"{sum(counts.values())} verdicts for {rows} rows")
    return {
        "rows": rows,
        "seconds": told["seconds"],
        "cpu_seconds": told["cpu_seconds"],
        "rows_per_second": rows / told["seconds"],
        "peak_megabytes": told["peak_bytes"] / 1e6,
        "verdicts": dict(counts),
    }


def dose_reports(count: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Files a second for reports of one to five irradiation events, by one process and by what pays."""
    sys.path.insert(0, str(ROOT / "tests"))
    from dicom_builders.dose_reports import event, report, to_bytes

    folder.mkdir()
    rng = np.random.default_rng(0)
    events = 0
    for i in range(count):
        number = int(rng.integers(1, 6))
        made = [
            event(uid_value=f"1.2.{i + 1}.{k + 1}", started=f"2020010203{k:02d}05") for k in range(number)
        ]
        header = {"SOPInstanceUID": f"1.2.9.{i + 1}", "StudyInstanceUID": f"1.2.8.{i + 1}"}
        (folder / f"{i:06d}.dcm").write_bytes(to_bytes(report(*made, **header)))
        events += number
    out: dict[str, Any] = {"files": count, "events": events}
    for name, workers in (("one_process", 1), ("chosen_by_itself", None)):
        seconds = []
        for _ in range(repeats):
            start = time.monotonic()
            recording = read([folder], workers=workers)
            seconds.append(time.monotonic() - start)
            if len(recording.commands) != events:
                raise RuntimeError(f"{len(recording.commands)} commands read of {events} events")
        out[name] = {
            "seconds": float(np.median(seconds)),
            "files_per_second": count / float(np.median(seconds)),
        }
    return out


def report(told: dict[str, Any]) -> str:
    """For people."""
    judged, reports = told["judge"], told["dose_reports"]
    rows = [
        [
            "`scanward judge`, start to end",
            f"{judged['rows']} rows",
            f"{judged['rows_per_second']:.0f} rows/s",
        ],
        ["its largest process", "", f"{judged['peak_megabytes']:.0f} MB"],
    ]
    rows += [
        [
            f"dose reports read, {name.replace('_', ' ')}",
            f"{reports['files']} files",
            f"{reports[name]['files_per_second']:.0f} files/s",
        ]
        for name in ("one_process", "chosen_by_itself")
    ]
    return table(["what", "size", "measured"], rows)


if __name__ == "__main__":
    main()
