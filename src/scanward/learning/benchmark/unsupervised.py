"""Unsupervised detectors as methods of the benchmark, each with the context columns and without them.

The detectors, their four candidates and how one is chosen are those of ``learning.baselines``. All methods with
context share one table of rows, all without it another; a command is judged by itself, whatever came before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scanward.commands import Command
from scanward.learning.baseline_detectors import BASELINES, Baseline
from scanward.learning.baselines import Ground, HeldBack, Tuned, choose, held_back_commands, lay_out
from scanward.learning.benchmark.answers import Answer, Kind, Learned, Method, Tick
from scanward.learning.benchmark.pyod_detectors import PYOD
from scanward.learning.benchmark.sharing import Last
from scanward.learning.benchmark.worlds import World

NO_CONTEXT = ", no context"

_held_back: Last[HeldBack] = Last()
_ground: Last[Ground] = Last()


def ground_of(world: World, seed: int, *, context: bool) -> Ground:
    """Rows of a world, laid out anew unless it was the last one asked for."""

    def lay() -> Ground:
        held_back = _held_back.of(world, seed, lambda: held_back_commands(world.learn, seed))
        return lay_out(world.learn, held_back, context=context)

    return _ground.of(world, (seed, context), lay)


@dataclass(frozen=True)
class RowScorer:
    """A detector of rows that judges each command by itself."""

    tuned: Tuned

    def answer(self, histories: Sequence[Sequence[Command]]) -> list[list[Answer]]:
        """Scores alone: a detector has no rules. A command that stands in many histories is scored once."""
        commands = {id(c): c for h in histories for c in h}
        told = dict(zip(commands, self.tuned.score(list(commands.values())), strict=True))
        return [[Answer(told[id(c)]) for c in h] for h in histories]


def learning(baseline: Baseline, *, context: bool) -> Callable[[World, int, Tick], Learned]:
    """How a method of one baseline learns."""

    def learn(world: World, seed: int, tick: Tick) -> Learned:
        ground = ground_of(world, seed, context=context)
        steps = len(baseline.grid) + 1
        began = time.perf_counter()
        tuned = choose(baseline, ground, seed, lambda n: tick(f"{baseline.name}: {n} of {steps}", n / steps))
        facts = {
            "chosen": dict(tuned.chosen),
            "compared": [[dict(c), told] for c, told in tuned.compared],
            "rows": len(ground.rows),
            "columns": ground.table.width,
            "seconds": round(time.perf_counter() - began, 2),
        }
        return Learned(RowScorer(tuned), facts)

    return learn


def row_methods(
    baselines: Iterable[Baseline], kind: Kind, abouts: dict[str, str], group: str
) -> tuple[Method, ...]:
    """A method with context and one without for each baseline; those of one table share their rows."""
    found = list(baselines)
    return tuple(
        Method(
            name=b.name + ("" if context else NO_CONTEXT),
            kind=kind,
            learn=learning(b, context=context),
            context=context,
            about=abouts[b.name],
            group=group + ("" if context else NO_CONTEXT),
        )
        for context in (True, False)
        for b in found
    )


ABOUTS = {
    "IsolationForest": "how few random cuts isolate a command (Liu, Ting, Zhou, ICDM 2008)",
    "LOF": "density against that of the neighbours (Breunig et al., SIGMOD 2000)",
    "kNN": "distance to the k-th nearest clean command (Ramaswamy et al., SIGMOD 2000)",
    "ECOD": "tails of each field's empirical distribution (Li et al., TKDE 2022)",
    "HBOS": "heights of each field's histogram (Goldstein, Dengel, KI 2012)",
    "one-class SVM": "outside of a Gaussian-kernel boundary (Schölkopf et al., Neural Computation 2001)",
    "PCA": "what the major components cannot explain (after Shyu et al., ICDM 2003)",
    "robust covariance": "minimum covariance determinant (Rousseeuw, Van Driessen, Technometrics 1999)",
    "COPOD": "tails of an empirical copula (Li et al., ICDM 2020)",
    "CBLOF": "distance to the nearest large cluster (He, Xu, Deng, Pattern Recognition Letters 2003)",
    "INNE": "isolation by spheres around clean commands (Bandaragoda et al., Comput Intell 2018)",
    "LODA": "histograms of sparse random projections (Pevný, Machine Learning 2016)",
    "KDE": "kernel density on principal components (Latecki, Lazarevic, Pokrajac, MLDM 2007)",
    "GMM": "mixture of Gaussians on principal components (Reynolds, 2009)",
    "ABOD": "spread of the angles to the neighbours (Kriegel, Schubert, Zimek, KDD 2008)",
    "sampling": "distance to the nearest of a few clean commands (Sugiyama, Borgwardt, NeurIPS 2013)",
    "kernel PCA": "what a kernel's components cannot explain (Hoffmann, Pattern Recognition 2007)",
}
DETECTORS: dict[str, Baseline] = {
    **{name: b for name, b in BASELINES.items() if name != "autoencoder"},  # that one stands among the deep
    **PYOD,
}
UNSUPERVISED: tuple[Method, ...] = row_methods(
    DETECTORS.values(), Kind.UNSUPERVISED, ABOUTS, "unsupervised rows"
)
