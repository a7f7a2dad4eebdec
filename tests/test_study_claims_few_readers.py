"""Three readers who agree by luck: "nobody can tell" is claimed of readers in general only where it holds of these."""

from __future__ import annotations

import numpy as np
import pytest

from scanward.reading.analysing import Request, analyse
from scanward.reading.mrmc.decisions import Aim
from scanward.reading.mrmc.results import Covariance, Interval, Random
from scanward.reading.mrmc.table import Table, parse_table

REQUEST = Request(
    methods=("OR",),
    covariances=(Covariance.JACKKNIFE,),
    merits=("empirical",),
    equivalence=(0.45, 0.55),
)


def guesses(seed: int, *, readers: int = 3, cases: int = 60) -> Table:
    """Readers who guess: ratings from 1 to 5 that have nothing to do with the truth."""
    random = np.random.default_rng(seed)
    lines = ["reader,treatment,case,truth,rating"]
    lines += [
        f"R{reader},low,C{case},{case % 2},{random.integers(1, 6)}"
        for reader in range(readers)
        for case in range(cases)
    ]
    return as_table(lines)


def as_table(lines: list[str]) -> Table:
    return parse_table(("\n".join(lines) + "\n").encode(), source="made.csv")


def widths(seed: int) -> tuple[Interval, Interval]:
    """The intervals that speak of all readers and of these."""
    result = analyse(guesses(seed), REQUEST)
    analyses = {one.random: one for one in result.findings[0].measured[0].analyses}
    return analyses[Random.BOTH].treatments[0], analyses[Random.CASES].treatments[0]


def lucky(seed: int) -> bool:
    """Readers who agree with each other more than their cases allow, on an area near one half."""
    general, these = widths(seed)
    return general.se < 0.6 * these.se and abs(general.estimate - 0.5) < 0.03


LUCKY = [seed for seed in range(60) if lucky(seed)][:3]


def test_luck_exists() -> None:
    """Otherwise the tests below would ask nothing."""
    assert len(LUCKY) == 3


@pytest.mark.parametrize("seed", LUCKY)
def test_the_wider_interval_decides_an_equivalence(seed: int) -> None:
    general, these = widths(seed)
    result = analyse(guesses(seed), REQUEST)
    (decision,) = result.decisions
    assert decision.aim is Aim.EQUIVALENCE
    assert decision.se == these.se > general.se
    assert "cases random" in decision.by
    assert not decision.shown  # 60 cases cannot show an area within 0.05 of one half
    assert any("readers fixed" in warning for warning in result.warnings)


def test_false_claims_of_equivalence_stay_below_alpha() -> None:
    """An area of 0.45 is not equivalent: the claim is false, and made in at most 5 % (here of 200 studies)."""
    random = np.random.default_rng(3)
    shift = -0.178  # normal ratings: area Phi(shift / sqrt 2) = 0.45
    claimed = 0
    for _ in range(200):
        lines = ["reader,treatment,case,truth,rating"]
        for reader in range(3):
            ratings = random.normal(0, 1, 200) + shift * (np.arange(200) % 2)
            lines += [f"R{reader},low,C{case},{case % 2},{rating}" for case, rating in enumerate(ratings)]
        claimed += analyse(as_table(lines), REQUEST).decisions[0].shown
    assert claimed <= 18  # 5 % of 200, and 2.6 standard deviations above
