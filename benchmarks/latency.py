"""How long one decision takes: all layers, one core, bundle loaded, against one row of a scikit-learn forest.

The commands of an examination are judged one after the other, as a guard judges a chain when it is loaded;
between two examinations one IsolationForest(100) call for each of these commands scores its row (``score_samples``,
the call alone), so that both meet the same machine. The first decision of a chain finds caches that something else
has used, and is told apart. Then each layer by itself, which costs more than in the whole: there the trees of two
layers are asked in one run.

  python -m benchmarks.latency --examinations 2000 --decisions 4000
  python -m benchmarks.latency --quick
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundled import bundled
from benchmarks.common import FINAL_SEEDS, parser, plain, quickly, save, sayer, table
from scanward.commands import Examination
from scanward.layers.combiner import features_of
from scanward.layers.onion import Onion
from scanward.learning.baselines import FeatureTable
from scanward.learning.fit import Settings
from scanward.simulation import Site

WARM_UP = 50  # decisions before the clock counts


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("latency", __doc__)
    made.add_argument("--seed", type=int, default=FINAL_SEEDS[0], help="the site")
    made.add_argument("--examinations", type=int, default=2000, help="to learn from")
    made.add_argument("--decisions", type=int, default=4000, help="commands that are timed")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--rounds", type=int, default=Settings().rounds, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=Settings().steps, help="steps of the deep layers")
    arguments = made.parse_args(argv)
    quickly(arguments, examinations=300, decisions=300, budget=0.02, rounds=60, steps=40)
    return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    say = sayer()
    site = Site(arguments.seed)
    train = site.examinations(arguments.examinations)
    later = site.examinations(arguments.decisions, start=arguments.examinations)
    settings = Settings(arguments.budget, rounds=arguments.rounds, steps=arguments.steps)
    with tempfile.TemporaryDirectory() as folder:
        say("learning, writing and reading the bundle")
        onion = bundled(train, settings, Path(folder))
    one_core = pin()
    say("timing decisions")
    result = measure(onion, train, later, arguments.decisions)
    result["one_core"] = one_core
    save(arguments, "latency", argv, result)
    told: dict[str, Any] = plain(result)
    if not arguments.json:
        print(report(told))
    return told


def pin() -> bool:
    """Keep this process on one core where the system allows it."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return True


def measure(
    onion: Onion, train: Sequence[Examination], later: Sequence[Examination], decisions: int
) -> dict[str, Any]:
    """Times in microseconds: of whole decisions and of forest calls, interleaved, then of each layer."""
    from sklearn.ensemble import IsolationForest

    commands = [c for e in train for c in e.commands]
    columns = FeatureTable.learn(commands, context=True)
    forest = IsolationForest(n_estimators=100, random_state=0).fit(columns.rows(commands))
    ours, theirs, first = [], [], []
    clock = time.perf_counter_ns
    gc.collect()
    for examination in later:
        rows = [columns.rows([command]) for command in examination.commands]
        state = onion.start()
        for i, command in enumerate(examination.commands):
            a = clock()
            _, state = onion.judge(state, command)
            ours.append(clock() - a)
            first.append(i == 0)
        for row in rows:
            a = clock()
            forest.score_samples(row)
            theirs.append(clock() - a)
        if len(ours) >= decisions + WARM_UP:
            break
    us, them = np.array(ours[WARM_UP:]) / 1e3, np.array(theirs[WARM_UP:]) / 1e3
    return {
        "decision": quantiles(us),
        "first_of_a_chain": quantiles(us[np.array(first[WARM_UP:])]),
        "isolation_forest_row": quantiles(them),
        "ratio_of_medians": float(np.median(us) / np.median(them)),
        "layers": by_layer(onion, later, min(decisions, 1000)),
    }


def by_layer(onion: Onion, later: Sequence[Examination], decisions: int) -> dict[str, dict[str, float]]:
    """Each layer's own time, in the order of the onion; encoding a command counts to the first that asks."""
    names = [layer.name.value for layer in onion.layers]
    times: dict[str, list[int]] = {name: [] for name in (*names, "combiner")}
    clock = time.perf_counter_ns
    for examination in later:
        states = list(onion.start())
        for command in examination.commands:
            opinions = []
            for i, layer in enumerate(onion.layers):
                start = clock()
                opinion, states[i] = layer.judge(states[i], command)
                times[names[i]].append(clock() - start)
                opinions.append(opinion)
            start = clock()
            onion.combiner.score(features_of(opinions))
            times["combiner"].append(clock() - start)
        if len(times["combiner"]) >= decisions + WARM_UP:
            break
    return {name: quantiles(np.array(told[WARM_UP:]) / 1e3) for name, told in times.items()}


def quantiles(times: Any) -> dict[str, float]:
    """Median, 99th percentile (microseconds) and how many."""
    return {
        "p50_us": float(np.median(times)),
        "p99_us": float(np.quantile(times, 0.99)),
        "count": len(times),
    }


def report(told: dict[str, Any]) -> str:
    """For people."""
    pairs = [("one decision, all layers", told["decision"])]
    pairs.append(("of a chain, its first", told["first_of_a_chain"]))
    pairs += [(f"of it: {name}", t) for name, t in told["layers"].items()]
    pairs.append(("one IsolationForest(100).score_samples row", told["isolation_forest_row"]))
    rows = [[name, f"{t['p50_us']:.0f}", f"{t['p99_us']:.0f}", str(t["count"])] for name, t in pairs]
    rows.append(["decision / forest row, medians", f"{told['ratio_of_medians']:.2f}", "", ""])
    return table(["what", "p50 (us)", "p99 (us)", "measured"], rows)


if __name__ == "__main__":
    main()
