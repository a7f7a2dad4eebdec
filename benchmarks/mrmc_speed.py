"""Milliseconds of the MRMC analyses, against plain peers that follow the formulae with loops over cases.

A study of the size of Van Dyke's (2 treatments, 5 readers, 69 + 45 cases, ratings 1 to 5), simulated, and one of 5
treatments, 20 readers and 2,500 + 2,500 cases, continuous. The peers are what one writes from the formulae with numpy
and SciPy: the jackknife takes the area from ranks anew without each case, DeLong's and the unbiased covariances come
from the matrix of all pairs, cell by cell and pair of cells by pair of cells. Where a peer is too slow on the large
study a part is timed and multiplied.

  python -m benchmarks.mrmc_speed
  python -m benchmarks.mrmc_speed --large-treatments 2 --large-readers 5
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.common import parser, quickly, save, sayer, table
from scanward.reading.mrmc.covariances import estimate
from scanward.reading.mrmc.dbm import dbm
from scanward.reading.mrmc.empirical import EmpiricalAUC
from scanward.reading.mrmc.obuchowski_rockette import obuchowski_rockette
from scanward.reading.mrmc.ratings import Ratings
from scanward.reading.mrmc.results import Covariance
from scanward.reading.mrmc.roe_metz import simulate, structure
from scanward.reading.mrmc.ustatistics import one_shot

NAME = "mrmc_speed"
AIM_MS = 50.0  # of a whole analysis of the small study
SAMPLED = 20  # cases of the large study whose leaving out the jackknife peer is timed with
Floats = NDArray[np.float64]
Timed = Callable[[Ratings], object]


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    made = parser(NAME, __doc__)
    made.add_argument(
        "--rounds", type=int, default=15, help="times that every analysis of the small study is timed"
    )
    made.add_argument("--large-rounds", type=int, default=3, help="the same for the large study")
    made.add_argument("--large-treatments", type=int, default=5)
    made.add_argument("--large-readers", type=int, default=20)
    made.add_argument("--large-cases", type=int, default=2500, help="of each truth")
    arguments = made.parse_args(argv)
    quickly(arguments, rounds=1, large_rounds=1, large_treatments=2, large_readers=3, large_cases=60)
    return arguments


def ours() -> dict[str, Timed]:
    """Every method from ratings to tests and intervals."""
    auc = EmpiricalAUC()
    found: dict[str, Timed] = {
        f"OR, {method}": lambda x, method=method: obuchowski_rockette(estimate(x, auc, method))  # type: ignore[misc]
        for method in (Covariance.JACKKNIFE, Covariance.DELONG, Covariance.UNBIASED)
    }
    found["DBM"] = lambda x: dbm(x, auc)
    found["U, one-shot"] = one_shot
    found["all five"] = lambda x: [found[name](x) for name in list(found) if name != "all five"]
    return found


def _kernel(x: Ratings, t: int, r: int) -> Floats:
    """psi of all pairs of one cell: (positives, negatives)."""
    gap = x.score[t, r, x.truth][:, None] - x.score[t, r, ~x.truth][None, :]
    found: Floats = (gap > 0) + 0.5 * (gap == 0)
    return found


def _areas(score: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Of all cells, from ranks."""
    positives = truth.sum()
    ranks = stats.rankdata(score.reshape(-1, len(truth)), axis=1)
    above = ranks[:, truth].sum(axis=1) - positives * (positives + 1) / 2
    found: Floats = above / (positives * (len(truth) - positives))
    return found


def peer_jackknife(x: Ratings, cases: Sequence[int] | None = None) -> Floats:
    """Covariances of all cells by leaving out one case after the other (only ``cases``, for timing)."""
    left = []
    for case in range(len(x.cases)) if cases is None else cases:
        kept = np.arange(len(x.cases)) != case
        left.append(_areas(x.score[:, :, kept], x.truth[kept]))
    found = np.array(left)
    count = len(found)
    covariance: Floats = (count - 1) / count * (found - found.mean(axis=0)).T @ (found - found.mean(axis=0))
    return covariance


def peer_delong(x: Ratings) -> Floats:
    """DeLong's covariances out of the matrices of all pairs."""
    of_positive, of_negative = [], []
    for t in range(len(x.treatments)):
        for r in range(len(x.readers)):
            kernel = _kernel(x, t, r)
            of_positive.append(kernel.mean(axis=1))
            of_negative.append(kernel.mean(axis=0))
    positive, negative = np.array(of_positive), np.array(of_negative)
    covariance: Floats = np.cov(positive) / positive.shape[1] + np.cov(negative) / negative.shape[1]
    return covariance


def peer_unbiased(x: Ratings) -> Floats:
    """The unbiased covariances, pair of cells by pair of cells."""
    cells = [(t, r) for t in range(len(x.treatments)) for r in range(len(x.readers))]
    found = np.zeros((len(cells), len(cells)))
    for a, one in enumerate(cells):
        first = _kernel(x, *one)
        for b, other in enumerate(cells[: a + 1]):
            second = _kernel(x, *other)
            apart = (
                first.sum() * second.sum()
                - first.sum(axis=0) @ second.sum(axis=0)
                - first.sum(axis=1) @ second.sum(axis=1)
                + (first * second).sum()
            )
            n1, n0 = first.shape
            found[a, b] = found[b, a] = first.mean() * second.mean() - apart / (n1 * (n1 - 1) * n0 * (n0 - 1))
    return found


def agree(x: Ratings) -> float:
    """The largest difference between a peer's covariances and ours."""
    auc = EmpiricalAUC()
    pairs = (
        (Covariance.JACKKNIFE, peer_jackknife),
        (Covariance.DELONG, peer_delong),
        (Covariance.UNBIASED, peer_unbiased),
    )
    return max(
        float(np.abs(estimate(x, auc, method).covariance.reshape(peer(x).shape) - peer(x)).max())
        for method, peer in pairs
    )


class Clock:
    """Seconds of runs by study and name: by the wall, and of the processor, which other work does not lengthen."""

    def __init__(self) -> None:
        self.wall: dict[str, dict[str, list[float]]] = {"small": {}, "large": {}}
        self.processor: dict[str, dict[str, list[float]]] = {"small": {}, "large": {}}

    def time(self, size: str, name: str, run: Timed, x: Ratings, times: float = 1.0) -> None:
        """Once more; ``times``: how many times the whole is of what is run."""
        began = time.perf_counter(), time.process_time()
        run(x)
        for kept, start, now in zip(
            (self.wall, self.processor), began, (time.perf_counter(), time.process_time()), strict=True
        ):
            kept[size].setdefault(name, []).append(times * (now - start))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    say = sayer()
    of = structure("HH", 0.855)
    rng = np.random.default_rng(1993)
    small = simulate(of, (1.5, 1.8), 5, 69, 45, rng, categories=5)
    peers: dict[str, Timed] = {
        "peer: jackknife by loop": peer_jackknife,
        "peer: DeLong by pairs": peer_delong,
        "peer: unbiased by pairs": peer_unbiased,
    }
    differs = agree(small)
    clock = Clock()
    for round_ in range(
        arguments.rounds + 1
    ):  # all in turn, so that whatever else the machine does falls on all
        if round_ == 1:
            clock = Clock()  # the first round only warms up
        for name, method in (ours() | peers).items():
            clock.time("small", name, method, small)
    say("small study")
    large = simulate(
        of,
        [1.5] * arguments.large_treatments,
        arguments.large_readers,
        arguments.large_cases,
        arguments.large_cases,
        rng,
    )
    for name, method in ours().items():
        for _ in range(arguments.large_rounds):
            clock.time("large", name, method, large)
        say(f"large study: {name}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    some = list(range(min(SAMPLED, len(large.cases))))
    clock.time(
        "large",
        "peer: jackknife by loop",
        lambda x: peer_jackknife(x, some),
        large,
        len(large.cases) / len(some),
    )
    clock.time("large", "peer: DeLong by pairs", peer_delong, large)
    narrow = large.select(treatments=large.treatments[:1], readers=large.readers[:3])
    cells = arguments.large_treatments * arguments.large_readers
    clock.time("large", "peer: unbiased by pairs", peer_unbiased, narrow, cells * (cells + 1) / 12)
    say("large study: peers")
    return {
        "seconds": clock.wall,
        "processor_seconds": clock.processor,
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores"),
        "peers_differ": differs,
        "memory_mib": memory,
    }


# Against which peer a method is measured: the one that takes the same covariances.
AGAINST = {
    "OR, jackknife": "peer: jackknife by loop",
    "DBM": "peer: jackknife by loop",
    "OR, delong": "peer: DeLong by pairs",
    "OR, unbiased": "peer: unbiased by pairs",
    "U, one-shot": "peer: unbiased by pairs",
}


def report(told: dict[str, Any]) -> str:
    """For docs/results.md."""
    asked, seconds = told["options"], told["seconds"]
    whole = 1000 * statistics.median(seconds["small"]["all five"])
    large = (
        f"{asked['large_treatments']} treatments, {asked['large_readers']} readers, "
        f"{asked['large_cases']:,} + {asked['large_cases']:,} cases"
    )
    rows = []
    for name in seconds["small"]:
        row = [name]
        for size, unit in (("small", 1000.0), ("large", 1.0)):
            took, worked = (statistics.median(told[k][size][name]) for k in ("seconds", "processor_seconds"))
            peer = AGAINST.get(name)
            ratio = f"{statistics.median(told['processor_seconds'][size][peer]) / worked:.3g}" if peer else ""
            row += [f"{unit * took:.3g}", f"{unit * worked:.3g}", ratio]
        rows.append(row)
    head = ["from ratings to tests and intervals"]
    head += ["small, ms", "of processor", "peer / this", "large, s", "of processor", "peer / this"]
    verdict = "reached" if whole <= AIM_MS else "not reached"
    return "\n\n".join(
        [
            "Small: the size of Van Dyke's study (2 treatments, 5 readers, 69 + 45 cases, ratings 1 to 5), simulated; "
            f"medians of {asked['rounds']} rounds. Large: {large}, continuous; medians of {asked['large_rounds']}. "
            f"Threads: {told['threads']}. All five methods on the small study within {AIM_MS:g} ms: {verdict}, "
            f"{whole:.1f} ms. Memory of the process after all methods on the large study: "
            f"{told['memory_mib']:.0f} MiB.",
            table(head, rows),
            "Where time by the wall exceeds that of the processor, the machine was busy with other work; ratios are "
            "of processor time. Peers take the covariances alone, with numpy and SciPy, but case by case or pair by "
            f"pair; theirs differ from ours by at most {told['peers_differ']:.0e}. On the large study the jackknife "
            f"peer left out {SAMPLED} of the cases and the unbiased peer took three cells; their times are "
            "multiplied up to the whole.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and save."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = options(words)
    result = run(arguments)
    save(arguments, NAME, words, result)
    if not arguments.json:
        print(report({"options": vars(arguments), **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
