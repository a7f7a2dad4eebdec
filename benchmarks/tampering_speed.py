"""Images per second of training: Scanward's presets against the reference arrangement in plain eager float32.

All arrangements train in one process, a few steps of each in turn, on phantoms, so that whatever else the machine does
falls on all alike; figures are medians over the rounds, ratios medians of the ratios within a round. `reference-64` (or
`reference`, by --size) is CycleGAN's own arrangement: eager, float32, batch 1, identity mapping loss. The rows
named "reference, ..." are the same networks with one option of execution changed. What the faster arrangements cost in
quality is measured by `tampering_phantoms --images`.

  python -m benchmarks.tampering_speed
  python -m benchmarks.tampering_speed --size 256 --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import parser, quickly, save, sayer
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering.batches import Batches
from scanward.tampering.prepared import Selection, prepare
from scanward.tampering.presets import Preset, change, find
from scanward.tampering.state import State
from scanward.tampering.training import Losses, steps

NAME = "tampering_speed"
BASE = "reference"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument("--size", type=int, default=64, help="rows and columns: 64, 128 or 256")
    made.add_argument("--rounds", type=int, default=7, help="times that every arrangement has its turn")
    made.add_argument("--seconds", type=float, default=3.0, help="of one turn")
    made.add_argument("--threads", type=int, default=2, help="threads of the CPU")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = made.parse_args(argv)
    quickly(arguments, rounds=1, seconds=0.1, size=32)
    return arguments


def arrangements(size: int, device: str) -> dict[str, Preset]:
    """What is compared, by name; the first is what all others are measured against."""
    reference = find("reference-64" if size <= 128 else "reference")
    ours = find({64: "scanward-64", 128: "scanward-128", 256: "scanward-256"}.get(size, "scanward-64"))
    fit = {"rows": str(size), "columns": str(size), "optimiser.steps": "1000000", "optimiser.epochs": "0"}
    base = change(reference, fit)
    plain = {
        "execution.precision": "float32",
        "execution.channels_last": "false",
        "execution.compile": "false",
    }
    found = {
        BASE: base,
        "reference, channels last": change(base, {"execution.channels_last": "true"}),
        "reference, bfloat16": change(base, {"execution.precision": "bfloat16"}),
        "reference, batch 4": change(base, {"optimiser.batch": "4"}),
        "reference, no identity mapping": change(base, {"losses.identity_mapping": "0"}),
        f"{ours.name}, eager float32": change(ours, fit | plain),
        f"{ours.name}, compiled": change(ours, fit | plain | {"execution.compile": "true"}),
    }
    if device != "cpu":
        found["reference, all of execution"] = change(
            base,
            {
                "execution.channels_last": "true",
                "execution.precision": "bfloat16",
                "execution.compile": "true",
            },
        )
        found[ours.name] = change(ours, fit)
    return found


def turn(training: Iterator[Losses], preset: Preset, seconds: float, device: str) -> float:
    """Images per second of one turn: a batch has that many of either domain."""
    began = time.perf_counter()
    done = 0
    while time.perf_counter() - began < seconds or done == 0:
        next(training)
        done += 1
        if device != "cpu":
            torch.cuda.synchronize()
    return done * preset.optimiser.batch / (time.perf_counter() - began)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    say = sayer()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    compared = arrangements(arguments.size, arguments.device)
    speeds: dict[str, list[float]] = {name: [] for name in compared}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "phantoms"
        write_phantoms(data, patients=24, rows=arguments.size, columns=arguments.size, seed=5)
        turns: dict[str, Iterator[Losses]] = {}
        for name, preset in compared.items():
            prepared = prepare(data, preset, Selection(), Path(folder) / "prepared")
            state = State(preset, preset.optimiser.steps, 0, device)
            turns[name] = steps(state, Batches(prepared, preset, 0, device), preset)
            try:
                for _ in range(2):  # memory is taken and code compiled on the first steps
                    next(turns[name])
            except (RuntimeError, OSError) as error:
                # torch.compile needs a C++ compiler on a CPU; without one the row is left out, and said so
                say(f"{name}: left out, {type(error).__name__}")
                del turns[name], speeds[name]
                continue
            say(f"{name}: ready")
        for index in range(arguments.rounds):
            for name, training in turns.items():
                speeds[name].append(turn(training, compared[name], arguments.seconds, arguments.device))
            say(f"round {index + 1} of {arguments.rounds}")
    rows = []
    for name, values in speeds.items():
        ratios = [value / base for value, base in zip(values, speeds[BASE], strict=True)]
        rows.append(
            {
                "name": name,
                "images_per_second": statistics.median(values),
                "ratio": statistics.median(ratios),
                "ratio_least": min(ratios),
                "ratio_most": max(ratios),
                "parameters": _parameters(compared[name]),
            }
        )
    return {"device": arguments.device, "size": arguments.size, "rows": rows}


def _parameters(preset: Preset) -> int:
    state = State(preset, 1, 0, torch.device("cpu"))
    networks = (state.insert, state.remove, state.judge_cancer, state.judge_healthy)
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def report(told: dict[str, Any]) -> str:
    """The section of the results page."""
    lines = [
        f"Training at {told['size']} x {told['size']} px on {told['device']}, images (of either domain) per second.",
        "",
        "| arrangement | parameters | images/s | ratio (least to most of the rounds) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['parameters']:,} | {row['images_per_second']:.2f} | "
        f"{row['ratio']:.2f} ({row['ratio_least']:.2f} to {row['ratio_most']:.2f}) |"
        for row in told["rows"]
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save, print."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    told = run(arguments)
    save(arguments, NAME, words, told)
    if not arguments.json:
        print(report(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
