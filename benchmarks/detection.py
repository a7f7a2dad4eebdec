"""Detection on the simulated site: ours, the oracle's ceiling, the baselines, at one budget of false alerts.

Train on the earlier examinations, attack single commands of the later ones (all else clean). Every detector
is calibrated by the same conformal rule on the same examinations. Intervals: 95 %, bootstrap over
examinations within each site.

  python -m benchmarks.detection --spread 0.05 0.12 0.20 --seeds 101 102 103 --jobs 2
  python -m benchmarks.detection --quick
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ablation
from benchmarks.attacked import (
    attacked,
    baseline_threshold,
    clean_alerts,
    judged,
    seen_by_baseline,
    seen_by_oracle,
    summed,
)
from benchmarks.common import FINAL_SEEDS, options_of, parser, percent, quickly, save, sayer, table, ticker
from benchmarks.smallest import smallest_doses
from scanward.learning.baselines import tune
from scanward.learning.evaluate import Parts, Threshold, parts
from scanward.learning.fit import Settings, fit
from scanward.learning.resampling import Floats, interval, mean_known, shares, weights
from scanward.simulation import ATTACKS, Donors, Site
from scanward.simulation.oracle import Oracle

NULL = "null"


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser("detection", __doc__)
    made.add_argument(
        "--spread", type=float, nargs="+", default=[0.05, 0.12, 0.20], help="AEC residual spreads"
    )
    made.add_argument("--seeds", type=int, nargs="+", default=[FINAL_SEEDS[0]], help="sites")
    made.add_argument(
        "--examinations", type=int, default=8000, help="earlier ones, to train and calibrate on"
    )
    made.add_argument("--test", type=int, default=2000, help="later ones, clean and to be attacked")
    made.add_argument("--per-attack", type=int, default=300, help="attacked commands of each kind and site")
    made.add_argument(
        "--budget", type=float, default=0.005, help="share of clean examinations that may alert"
    )
    made.add_argument("--rounds", type=int, default=Settings().rounds, help="trees of the combiner")
    made.add_argument("--steps", type=int, default=Settings().steps, help="steps of the deep layers")
    made.add_argument("--fit-seed", type=int, default=0, help="seed of the learning itself")
    made.add_argument("--jobs", type=int, default=1, help="sites learned at the same time")
    made.add_argument(
        "--cells",
        type=Path,
        help="folder where finished sites are kept: an interrupted run goes on from there",
    )
    made.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    made.add_argument(
        "--baselines-at", type=float, nargs="+", help="spreads at which the baselines are run (default: all)"
    )
    made.add_argument("--no-smallest", action="store_true", help="leave the smallest dose factors out")
    made.add_argument(
        "--ablate", action="store_true", help="also leave out each layer and each kind of spoilt command"
    )
    arguments = made.parse_args(argv)
    quickly(
        arguments, spread=[0.12], seeds=[101], examinations=400, test=150, per_attack=20, budget=0.02,
        rounds=60, steps=60,
    )  # fmt: skip
    return arguments


def kept_cell(arguments: argparse.Namespace, spread: float, seed: int) -> dict[str, Any]:
    """The same as ``cell``; with ``--cells``, out of its folder where this very site was measured before."""
    if arguments.cells is None:
        return cell(arguments, spread, seed)
    asked = {k: v for k, v in options_of(arguments).items() if k not in ("spread", "seeds", "jobs", "cells")}
    at = arguments.cells / f"{spread:g}-{seed}.pickle"
    if at.exists():
        kept: tuple[dict[str, Any], dict[str, Any]] = pickle.loads(at.read_bytes())  # our own, from this run
        if kept[0] == asked:
            return kept[1]
    found = cell(arguments, spread, seed)
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_bytes(pickle.dumps((asked, found)))
    return found


def cell(arguments: argparse.Namespace, spread: float, seed: int) -> dict[str, Any]:
    """One site: hits of each detector and examinations they belong to, as arrays; nothing summarised yet."""
    say = sayer()
    name = f"site {seed}, spread {spread:g}: "
    site = Site(seed, aec_spread=spread)
    everything = site.examinations(arguments.examinations + arguments.test)
    train, test = everything[: arguments.examinations], everything[arguments.examinations :]
    settings = Settings(
        budget=arguments.budget,
        seed=arguments.fit_seed,
        rounds=arguments.rounds,
        steps=arguments.steps,
        workers=0 if arguments.jobs == 1 else 1,
    )
    onion = fit(train, settings, ticker(say, name)).onion
    divided = parts(train)
    oracle = Oracle(site)
    ceiling = Threshold.of((oracle.scores(e) for e in divided.calibrate), arguments.budget)
    say(f"{name}clean later examinations")
    clean = clean_alerts(onion, test)
    clean["oracle"] = [any(ceiling.alerts(s) for s in oracle.scores(e)) for e in test]
    donors = Donors(train)
    hits: dict[str, dict[str, Floats]] = {}
    counts: dict[str, Floats] = {}
    cases = {}
    for attack in ATTACKS.values():
        count = arguments.test if attack.name == NULL else arguments.per_attack
        cases[attack.name] = made = attacked(attack, test, donors, count, seed)
        found, _ = judged(onion, made)
        found["oracle"] = seen_by_oracle(oracle, ceiling, made)
        hits[attack.name] = {who: summed(len(test), made, told) for who, told in found.items()}
        counts[attack.name] = summed(len(test), made, [True] * len(made))
        ours, best = (sum(found[who]) / max(len(made), 1) for who in ("ours", "oracle"))
        say(f"{name}{attack.name}: {len(made)} attacked, ours {ours:.3f}, oracle {best:.3f}")
    out: dict[str, Any] = {"spread": spread, "seed": seed, "clean": clean, "hits": hits, "counts": counts}
    out["tuning"] = []
    if not arguments.no_baselines and spread in (arguments.baselines_at or arguments.spread):
        _baselines(arguments, divided, test, cases, out, ticker(say, name))
    if not arguments.no_smallest:
        say(f"{name}smallest dose factors")
        out["smallest"] = smallest_doses(onion, oracle, ceiling, test, donors, arguments.per_attack, seed)
    if arguments.ablate:
        out["ablation"] = ablation.measure(divided, test, cases, settings, ticker(say, name))
    return out


def _baselines(
    arguments: argparse.Namespace,
    divided: Parts,
    test: Sequence[Any],
    cases: Any,
    out: dict[str, Any],
    tick: Any,
) -> None:
    """Adds every baseline's hits and its clean alerts to ``out``."""
    for baseline in tune(divided.learn, seed=arguments.fit_seed, tick=tick):
        who = f"{baseline.name}, {'with' if baseline.context else 'without'} context"
        threshold = baseline_threshold(baseline, divided.calibrate, arguments.budget)
        for attack, made in cases.items():
            found = seen_by_baseline(baseline, threshold, made)
            out["hits"][attack][who] = summed(len(test), made, found)
        scores = [baseline.score(e.commands) for e in test]
        out["clean"][who] = [any(threshold.alerts(s) for s in told) for told in scores]
        out["tuning"].append(
            {"name": who, "chosen": dict(baseline.chosen), "compared": [list(c) for c in baseline.compared]}
        )


def summary(cells: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """One spread: every figure with its interval; examinations are drawn anew within each site."""
    names = [a for a in ATTACKS if a in cells[0]["hits"]]
    strata = [k for k, c in enumerate(cells) for _ in c["clean"]["any"]]
    drawn = weights(len(strata), seed=seed, strata=strata)
    counts = np.stack([np.concatenate([c["counts"][a] for c in cells]) for a in names])

    def rates(who: str) -> Floats:
        return shares(
            drawn, np.stack([np.concatenate([c["hits"][a][who] for c in cells]) for a in names]), counts
        )

    real = [i for i, a in enumerate(names) if a != NULL and counts[i].sum() > 0]
    whose = list(cells[0]["hits"][names[0]])
    all_rates = {who: rates(who) for who in whose}
    ours, best = all_rates["ours"], all_rates["oracle"]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(best > 0, ours / best, np.nan)
        # A draw in which nothing of an attack came counts without it.
        means = {who: mean_known(r[:, real], axis=1) for who, r in all_rates.items()}
        mean_ratio = means["ours"] / means["oracle"]
    attacks = {}
    for i, name in enumerate(names):
        attacks[name] = {
            "attacked": int(counts[i].sum()),
            "examinations": int((counts[i] > 0).sum()),
            "ratio": interval(ratio[:, i]),
            **{who: interval(r[:, i]) for who, r in all_rates.items()},
        }
    ones = np.ones((1, len(strata)))
    clean = {}
    for who in cells[0]["clean"]:
        told = np.concatenate([np.asarray(c["clean"][who], float) for c in cells])[None, :]
        clean[who] = interval(shares(drawn, told, ones)[:, 0])
    return {
        "spread": cells[0]["spread"],
        "seeds": [c["seed"] for c in cells],
        "clean_examinations": len(strata),
        "clean_alerts": clean,
        "attacks": attacks,
        "mean": {who: interval(m) for who, m in means.items()},
        "mean_ratio": interval(mean_ratio),
        "worst_ratio": min((float(ratio[0, i]), names[i]) for i in real),
        "per_site": [_site(c, names) for c in cells],
        "smallest": [c["smallest"] for c in cells if "smallest" in c],
        "ablation": [c["ablation"] for c in cells if "ablation" in c],
        "tuning": [c["tuning"] for c in cells],
    }


def _site(told: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Means of one site, so that sites can be compared."""
    rates = {
        who: [
            float(told["hits"][a][who].sum() / told["counts"][a].sum())
            for a in names
            if a != NULL and told["counts"][a].sum()
        ]
        for who in ("ours", "learned", "rules", "oracle")
    }
    means = {who: float(np.mean(r)) for who, r in rates.items()}
    clean = {who: float(np.mean(told["clean"][who])) for who in ("any", "rules", "learned", "oracle")}
    ratio = means["ours"] / means["oracle"] if means["oracle"] else None
    return {"seed": told["seed"], "mean": means, "ratio": ratio, "clean_alerts": clean}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, save."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = options(argv)
    wanted = [(spread, seed) for spread in arguments.spread for seed in arguments.seeds]
    if arguments.jobs > 1 and len(wanted) > 1:
        # Spawned, not forked: neither torch nor ONNX Runtime survives a fork of its threads.
        with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
            cells = list(pool.map(kept_cell, [arguments] * len(wanted), *zip(*wanted, strict=True)))
    else:
        cells = [kept_cell(arguments, spread, seed) for spread, seed in wanted]
    result = {
        "split": "train on the first examinations of each site in order of time, test on those after them; "
        "of the training examinations the last quarter calibrates every detector and teaches none",
        "spreads": [summary([c for c in cells if c["spread"] == s]) for s in arguments.spread],
    }
    save(arguments, "detection", argv, result)
    from benchmarks.common import plain

    told: dict[str, Any] = plain(result)
    if not arguments.json:
        for one in told["spreads"]:
            print(report(one))
    return told


def report(one: dict[str, Any]) -> str:
    """One spread for people: a table of attacks."""
    rows = [
        [
            name,
            str(a["attacked"]),
            *(percent(a[w]) for w in ("ours", "learned", "oracle")),
            percent(a["ratio"]),
        ]
        for name, a in one["attacks"].items()
    ]
    mean = one["mean"]
    rows.append(
        [
            "mean of attacks",
            "",
            *(percent(mean[w]) for w in ("ours", "learned", "oracle")),
            percent(one["mean_ratio"]),
        ]
    )
    head = ["attack", "attacked", "ours", "learned layers alone", "oracle", "ours / oracle"]
    return f"spread {one['spread']:g}\n{table(head, rows)}\n"


if __name__ == "__main__":
    main()
