"""Recordings that are too few for 0.5 %: each set has the smallest budget that its calibration can express."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from _benchmark_results import results
from scanward.learning.benchmark import report
from scanward.learning.benchmark.answers import Attacked, Told
from scanward.learning.benchmark.assembling import Part
from scanward.learning.benchmark.comparisons import Primary, compare
from scanward.learning.benchmark.figures import AttackFacts
from scanward.learning.benchmark.plan import BUDGETS, RECORDED_BUDGETS
from scanward.learning.benchmark.report_blocks import Drawing, Table
from scanward.learning.benchmark.report_view import View
from scanward.learning.benchmark.worlds import Level


def part(*calibrate: int, simulated: bool = False) -> Part:
    worlds = tuple({"calibrate": n, "simulated": simulated} for n in calibrate)
    return Part(Level.RECURRING, "mine", worlds, {})


@pytest.mark.parametrize(
    ("calibrate", "budgets"),
    [
        ((199,), BUDGETS),  # 1 / 200 = 0.5 %
        ((198,), (0.01,)),
        ((2_500, 99), (0.01,)),  # the world with fewest decides
        ((98,), (0.02,)),
        ((48,), (0.05,)),
        ((18,), (0.10,)),
        ((3,), (0.10,)),  # none can be expressed: the largest is asked for, and stays without a figure
    ],
)
def test_the_smallest_budget_that_every_world_can_express(
    calibrate: tuple[int, ...], budgets: tuple[float, ...]
) -> None:
    assert part(*calibrate).budgets(BUDGETS) == budgets
    assert (
        part(*calibrate, simulated=True).budgets(BUDGETS) == BUDGETS
    )  # a plan of simulated sites is kept to
    assert set(budgets) <= {*BUDGETS, *RECORDED_BUDGETS}


def test_each_level_is_compared_at_its_own_budget() -> None:
    rng = np.random.default_rng(1)

    def told(calibrate: int, shift: float) -> Told:
        units = np.arange(300)
        attacked = Attacked(rng.normal(size=80) + shift, np.zeros(80, bool), rng.integers(0, 300, 80))
        return Told(
            rng.normal(size=calibrate), rng.normal(size=300), np.zeros(300, bool), units, {"one": attacked}
        )

    facts = {"one": AttackFacts("known", "family", "about", None)}
    levels = {
        name: {"Scanward": [told(n, 6.0)], "kNN": [told(n, 0.0)]}
        for name, n in {"many": 400, "few": 60}.items()
    }
    found = compare(levels, facts, Primary("kNN", "many"), budgets={"few": 0.05}, draws=200)
    assert found["primary"]["endpoint"] == "mean detection at 0.5 % false alerts"
    assert [row["endpoint"] for row in found["others"]] == ["mean detection at 5 % false alerts"]
    assert found["others"][0]["claim"]
    assert not compare(levels, facts, Primary("kNN", "many"), draws=200)["others"]  # 60 cannot express 0.5 %


def test_the_report_names_the_budget_of_each_level() -> None:
    told = results(methods=5)
    recorded: dict[str, Any] = told["levels"][-1]
    recorded["budget"] = 0.05
    for method in recorded["methods"].values():
        for figures in ("detection", "clean"):
            method[figures] = {"0.05": method[figures]["0.005"]}
    view = View(told)
    assert [level.budget for level in view.levels[-2:]] == ["0.005", "0.05"]
    assert view.levels[-1].detection("Scanward") is not None
    blocks = list(report.blocks(view))
    captions = [b.caption for b in blocks if isinstance(b, Table | Drawing) and "covid_ctset" in b.caption]
    assert any("at a budget of 5 %" in c for c in captions)
    assert not any("0.5 %" in c for c in captions)
    for block in blocks:
        if isinstance(block, Drawing) and "covid" in block.name:
            block.draw()
