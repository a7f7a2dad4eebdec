"""What every benchmark shares: its options, its result file, its clock, its progress."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "bench"
# Detectors were developed on site 11 alone; figures that are published come from other sites.
DEVELOPMENT_SEED = 11
FINAL_SEEDS = (101, 102, 103)
Say = Callable[[str], None]
# Options that only say where files lie: they are no part of a command that a reader types.
PATHS = ("--out", "--data", "--cells", "--folder", "--model")


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks have: --quick, --seed, --out, --json."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures little")
    made.add_argument("--out", type=Path, default=OUT / f"{name}.json", help="where the result goes")
    made.add_argument("--json", action="store_true", help="print the result instead of a table")
    return made


def quickly(arguments: argparse.Namespace, **sizes: Any) -> None:
    """With --quick, these sizes in place of whatever the option says."""
    if arguments.quick:
        for name, value in sizes.items():
            setattr(arguments, name, value)


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, as it goes into the result file: no path among it."""
    return {
        k: v
        for k, v in sorted(vars(arguments).items())
        if k not in ("out", "json")
        and not any(isinstance(one, Path) for one in (v if isinstance(v, list) else [v]))
    }


def command_line(name: str, argv: Sequence[str]) -> str:
    """The command that makes these figures, without options that only say where files lie."""
    kept: list[str] = []
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in PATHS:
            skip = True
        elif not word.startswith((*(f"{path}=" for path in PATHS), "--json")):
            kept.append(word)
    return " ".join([f"python -m benchmarks.{name}", *kept])


def machine() -> dict[str, Any]:
    """Where it was measured: enough to compare, nothing that names a host."""
    packages = ("numpy", "scikit-learn", "lightgbm", "onnxruntime", "torch")
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def plain(value: Any) -> Any:
    """For JSON: numpy's numbers become Python's, what is not finite null; objects speak by ``as_json``."""
    if hasattr(value, "as_json"):
        return plain(value.as_json())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def save(arguments: argparse.Namespace, name: str, argv: Sequence[str], result: Mapping[str, Any]) -> None:
    """The result with its command, options and machine; printed too with --json."""
    told = {
        "benchmark": name,
        "command": command_line(name, argv),
        "options": options_of(arguments),
        "machine": machine(),
        **result,
    }
    text = json.dumps(plain(told), indent=1, allow_nan=False) + "\n"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    part = arguments.out.with_suffix(".tmp")
    part.write_text(text, "utf-8")
    part.replace(arguments.out)
    if arguments.json:
        print(text, end="")


def sayer() -> Say:
    """Lines on standard error, each with the seconds since the start."""
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {line}", file=sys.stderr, flush=True)

    return say


def ticker(say: Say, prefix: str = "") -> Callable[[str, float], None]:
    """A ``tick`` for ``fit`` that says each stage once."""
    said: set[str] = set()  # stages of several processes come mixed

    def tick(what: str, _share: float) -> None:
        if what not in said:
            said.add(what)
            say(f"{prefix}{what}")

    return tick


def percent(told: Mapping[str, float | None] | None, digits: int = 1) -> str:
    """``93.1 % (91.0 to 95.2)``; a dash where nothing was measured."""
    if told is None or told.get("value") is None:
        return "-"
    text = f"{100 * _known(told['value']):.{digits}f} %"
    if told.get("low") is None or told.get("high") is None:
        return text
    return f"{text} ({100 * _known(told['low']):.{digits}f} to {100 * _known(told['high']):.{digits}f})"


def figure(told: Mapping[str, float | None] | None, digits: int = 2) -> str:
    """``0.93 (0.91 to 0.95)``; a dash where nothing was measured."""
    if told is None or told.get("value") is None:
        return "-"
    text = f"{_known(told['value']):.{digits}f}"
    if told.get("low") is None or told.get("high") is None:
        return text
    return f"{text} ({_known(told['low']):.{digits}f} to {_known(told['high']):.{digits}f})"


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
