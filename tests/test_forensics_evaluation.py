"""Figures of detection: against counting by hand, intervals by woman, places, and the attacker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from house import REPOSITORY
from scanward.errors import LeakError, SettingsError
from scanward.forensics.baselines import Spectrum
from scanward.forensics.evaluation import (
    Row,
    Scores,
    check_disjoint_women,
    found_at,
    heat_threshold,
    iou,
    pixel_auc,
    regions_of,
    rows_of,
    scored,
    worst,
)
from scanward.forensics.families import GENUINE, Sample
from scanward.tampering.evaluation.bootstrap import Draws, Estimate

SMALL = st.lists(st.integers(0, 12), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(SMALL, SMALL, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_found_at_is_what_counting_gives(genuine: list[int], forged: list[int], share: float) -> None:
    g, f = np.array(genuine, float), np.array(forged, float)
    draws = Draws.of([str(i) for i in range(len(g) + len(f))], resamples=3)
    rows = np.arange(len(g)), np.arange(len(g), len(g) + len(f))
    found = found_at(draws, (rows[0], g), (rows[1], f), share)[0]
    best = max(float((f > t).mean()) for t in (*g, *f, np.inf, -np.inf) if (g > t).mean() <= share + 1e-12)
    # the least admissible threshold is one of the genuine scores; nothing lower is admissible
    assert found == pytest.approx(best)


def _scores(shift: float, women: int = 40, seed: int = 0) -> Scores:
    random = np.random.default_rng(seed)
    patient = np.repeat([f"w{i}" for i in range(women)], 2)
    family = np.tile([GENUINE, "splicing"], women)
    return Scores(family, patient, random.normal(size=2 * women) + shift * (family != GENUINE))


def test_rows_have_intervals_that_hold_the_value() -> None:
    (row,) = rows_of("m", _scores(1.0), families=["splicing"], learned=[], false_alarms=0.1, resamples=200)
    assert row.unseen
    assert row.women == 40
    for estimate in (row.auc, row.found):
        assert estimate.value is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low < estimate.high
    assert row.auc.value == pytest.approx(0.76, abs=0.1)


def test_what_is_told_apart_whole_has_an_interval_by_women() -> None:
    (row,) = rows_of("m", _scores(99.0), families=["splicing"], learned=["splicing"], false_alarms=0.1)
    assert row.auc.value == 1.0
    assert row.found.value == 1.0
    assert not row.unseen
    assert row.found.low is not None
    assert 0.85 < row.found.low < 1.0


def test_all_forged_leaves_controls_out() -> None:
    random = np.random.default_rng(1)
    family = np.repeat([GENUINE, "a", "b", "cycle:x"], 20)
    scores = Scores(family, np.tile([f"w{i}" for i in range(20)], 4), random.normal(size=80))
    rows = rows_of("m", scores, families=["a", "b", "cycle:x"], learned=["a"], false_alarms=0.1, resamples=20)
    by = {r.family: r for r in rows}
    assert by["all forged"].pictures == 40
    assert not by["all forged"].unseen
    assert by["b"].unseen
    found = worst(rows)
    assert found is not None
    assert found.family == "b"


def test_pixels_and_overlap_by_hand() -> None:
    breast = np.ones((4, 4), bool)
    breast[0] = False
    region = np.zeros((4, 4), bool)
    region[1, :2] = True
    heat = np.zeros((4, 4), np.float32)
    heat[1, :2], heat[2, 0] = (0.9, 0.3), 0.5
    assert pixel_auc(heat, region, breast) == pytest.approx(19 / 20)
    assert iou(heat, region, breast, 0.4) == pytest.approx(1 / 3)
    assert np.isnan(pixel_auc(heat, breast, breast))
    heat[0] = 1.0  # outside the breast nothing counts
    assert iou(heat, region, breast, 0.2) == pytest.approx(2 / 3)


def _placed(patient: str, seed: int) -> Sample:
    random = np.random.default_rng(seed)
    region = np.zeros((16, 16), bool)
    row, column = random.integers(0, 12, 2)
    region[row : row + 4, column : column + 4] = True
    picture = random.integers(0, 1000, (16, 16)) + 4000 * region
    return Sample(picture.astype(np.uint16), np.ones((16, 16), bool), region, "splicing", patient, "n")


def test_a_heat_map_that_knows_is_perfect_and_its_threshold_comes_from_others() -> None:
    def heat(sample: Sample) -> np.ndarray:
        return (sample.picture / 65535).astype(np.float32)

    level = heat_threshold(heat, [_placed(f"v{i}", i) for i in range(5)])
    told = regions_of(heat, [_placed(f"t{i}", 50 + i) for i in range(6)], level, resamples=50)
    area, union = told["splicing"]
    assert area.value == 1.0
    assert union.value is not None
    assert union.value > 0.9
    with pytest.raises(SettingsError, match="no forged"):
        heat_threshold(heat, [])


def test_women_in_both_parts_are_refused() -> None:
    check_disjoint_women(["a"], ["b"])
    with pytest.raises(LeakError, match="1 women"):
        check_disjoint_women(["a", "b"], ["b", "c"])


def test_a_score_that_is_no_number_is_refused() -> None:
    class Broken(Spectrum):
        def score(self, picture: object, breast: object) -> float:
            return float("nan")

    with pytest.raises(SettingsError, match="no numbers"):
        scored(Broken(), [_placed("a", 1)])


def test_worst_is_among_the_unseen() -> None:
    def row(family: str, value: float, unseen: bool) -> Row:
        made = Estimate(value=value)
        return Row(method="m", family=family, unseen=unseen, pictures=1, women=1, auc=made, found=made)

    found = worst([row("a", 0.5, False), row("b", 0.7, True), row("c", 0.6, True), row("cycle:x", 0.1, True)])
    assert found is not None
    assert found.family == "c"
    assert worst([]) is None


def test_the_attacker_learns_to_be_scored_lower(tmp_path: Path) -> None:
    from scanward.forensics.evaluation_attack import Ground, attack
    from scanward.mammography.manifest import read_manifest
    from scanward.mammography.phantom_sets import write_phantoms
    from scanward.mammography.pictures import load
    from scanward.tampering.checkpoints import load_run
    from scanward.tampering.presets import change, find
    from scanward.tampering.running import Settings, train

    data = tmp_path / "women"
    write_phantoms(data, patients=8, rows=32, columns=32, seed=81, prevalence=1.0, both_breasts=True)
    preset = change(
        find("scanward-64"), {"rows": "32", "columns": "32", "optimiser.steps": "2", "optimiser.epochs": "0"}
    )
    train(data, preset, tmp_path / "run", None, Settings(threads=1, device="cpu"))
    run = load_run(tmp_path / "run")

    class Brightness(Spectrum):
        """Finds whatever is brighter than it was: what a generator can learn to avoid."""

        def score(self, picture: np.ndarray, breast: np.ndarray) -> float:
            return float(picture[breast].mean()) / 1000

    ground = []
    for image in read_manifest(data).images:
        picture, breast = load(data, image)
        region = np.zeros_like(breast)
        middle = np.argwhere(breast).mean(axis=0).astype(int)
        region[middle[0] - 3 : middle[0] + 4, middle[1] - 3 : middle[1] + 4] = True
        ground.append(Ground(picture, breast, region & breast, "insert"))
    before = {k: v.clone() for k, v in run.generator("insert").state_dict().items()}
    told: list[float] = []

    class Asked(Brightness):
        def score(self, picture: np.ndarray, breast: np.ndarray) -> float:
            told.append(super().score(picture, breast))
            return told[-1]

    done = attack(run, Asked(), ground, rounds=3, fit_steps=60, steps=25, keep=0.0, batch=8, width=8, seed=1)
    count = len(ground)
    assert done.queries == len(told) == 4 * count
    first, last = np.mean(told[count : 2 * count]), np.mean(told[-count:])
    assert last < first, "what the detector looks for is less"
    after = run.generator("insert").state_dict()
    assert all(bool((before[k] == after[k]).all()) for k in before), "the first generator stays as it was"
    moved = done.run.generator("insert").state_dict()
    assert any(not bool((before[k] == moved[k]).all()) for k in before)


def test_the_section_of_the_results_says_what_was_measured_and_of_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))  # the benchmarks are no package of the product
    import msgspec
    from benchmarks.forensics import added, report

    def row(method: str, family: str, value: float, unseen: bool) -> dict[str, object]:
        made = Estimate(value=value, low=value - 0.1, high=value)
        told = Row(method=method, family=family, unseen=unseen, pictures=9, women=5, auc=made, found=made)
        return msgspec.to_builtins(told)

    about = {
        "kind": "Phantoms", "false_alarms": 0.01, "genuine": 7, "women": 5, "learned_from": 3, "generators": "known",
        "options": {},
    }  # fmt: skip
    one = about | {
        "rows": [row("ours", "generator:known", 0.8, False), row("ours", "splicing", 0.6, True)],
        "attack": [
            {"method": "ours", "steps": 6, "queries": 4, "kept": 0.5, "fit": 0.9,
             "row": row("ours", "generator:attacker", 0.4, True)}
        ],
    }  # fmt: skip
    other = about | {"rows": [row("spectrum", "generator:known", 0.55, False)], "attack": []}
    both = report(added(other, one))
    assert "| `generator:known` | learned | 0.800 (0.700 to 0.800) | 0.550 (0.450 to 0.550) |" in both
    assert "`splicing`, AUC 0.600" in both
    assert "0.800 (0.700 to 0.800) before, 0.400 (0.300 to 0.400) after" in both
    with pytest.raises(ValueError, match="genuine differs"):
        added(other | {"genuine": 8}, one)
    without = about | {"learned_from": 2, "rows": [row("ours", "splicing", 0.7, True)], "attack": []}
    told = report(added(without, one))
    assert "each method learned from 3 pictures" in told
    assert "ours (without each group, learned from 2 pictures)" in told
    assert "`splicing`, AUC 0.700" in told
    with pytest.raises(ValueError, match="learned_from differs"):
        added(other | {"learned_from": 2}, one)
