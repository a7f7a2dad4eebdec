"""The oracle's own examination: the share of each attack it finds at a budget of clean ones flagged."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scanward.commands import Examination
from scanward.simulation.attacks import ATTACKS, Attack
from scanward.simulation.constants import AEC_SPREAD
from scanward.simulation.donors import Donors
from scanward.simulation.held_out import HELD_OUT
from scanward.simulation.oracle import Oracle
from scanward.simulation.site import Site


@dataclass(frozen=True)
class Checked:
    """Share of attacked examinations found, how many there were, and what one command took (ms of CPU)."""

    found: dict[str, float]
    tried: dict[str, int]
    threshold: float
    milliseconds: float


def check(
    seed: int = 0,
    examinations: int = 3000,
    attacked: int = 200,
    budget: float = 0.005,
    spread: float = AEC_SPREAD,
    catalogue: Mapping[str, Attack] = ATTACKS,
) -> Checked:
    """Threshold the maximum over an examination's commands on one half, attack later examinations."""
    site = Site(seed, aec_spread=spread)
    oracle, donors = Oracle(site), Donors(site.examinations(1500))
    clean = site.examinations(examinations, start=1500)
    begun = time.process_time()
    worst = np.array([max(oracle.scores(e)) for e in clean])
    took = time.process_time() - begun
    threshold = float(np.quantile(worst, 1 - budget, method="higher"))
    later = site.examinations(max(20 * attacked, 400), start=1500 + examinations)
    found: dict[str, float] = {}
    tried: dict[str, int] = {}
    for number, attack in enumerate(catalogue.values()):
        rng = np.random.default_rng((seed, 23, number))
        hits: list[bool] = []
        for examination in later:
            if len(hits) == attacked:
                break
            changed = _one(examination, attack, rng, donors)
            if changed is not None:
                hits.append(max(oracle.scores(changed)) > threshold)
        found[attack.name] = float(np.mean(hits)) if hits else float("nan")
        tried[attack.name] = len(hits)
    commands = sum(len(e.commands) for e in clean)
    return Checked(found, tried, threshold, 1000 * took / commands)


def _one(
    examination: Examination, attack: Attack, rng: np.random.Generator, donors: Donors
) -> Examination | None:
    places = attack.eligible(examination)
    return attack.apply(examination, places[int(rng.integers(len(places)))], rng, donors) if places else None


def main(arguments: list[str] | None = None) -> None:
    """Print the table of what the oracle finds."""
    parser = argparse.ArgumentParser(prog="python -m scanward.simulation.oracle", description=__doc__)
    parser.add_argument(
        "--examinations", type=int, default=3000, help="clean examinations that set the threshold"
    )
    parser.add_argument("--attacked", type=int, default=200, help="attacked examinations of each kind")
    parser.add_argument("--budget", type=float, default=0.005, help="share of clean examinations flagged")
    parser.add_argument("--spread", type=float, default=AEC_SPREAD, help="AEC residual spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="the held-out attacks in place of the known")
    told = parser.parse_args(arguments)
    catalogue = {"null": ATTACKS["null"], **HELD_OUT} if told.held_out else ATTACKS
    result = check(told.seed, told.examinations, told.attacked, told.budget, told.spread, catalogue)
    lines = [f"{name:20} {result.found[name]:7.1%} of {result.tried[name]}" for name in catalogue]
    real = [v for name, v in result.found.items() if name != "null" and v == v]
    lines.append(f"{'mean of attacks':20} {np.mean(real):7.1%}")
    lines.append(f"threshold {result.threshold:.2f} nats at a budget of {told.budget:.2%}")
    lines.append(f"{result.milliseconds:.2f} ms of CPU per command")
    print("\n".join(lines))  # noqa: T201 - this is the command's output


if __name__ == "__main__":  # pragma: no cover
    main()
