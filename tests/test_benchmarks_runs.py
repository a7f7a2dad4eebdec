"""The benchmarks run, on tiny sizes with a judge that is already trained, and write what the page is made of."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _trained import LATER, SEED, TRAINED, Trained
from house import REPOSITORY
from scanward.bundle import read
from scanward.commands import Examination, LayerName
from scanward.errors import LearningError
from scanward.keys import VerifyKey
from scanward.layers.onion import Onion
from scanward.learning.baselines import tune
from scanward.learning.combiner import Samples, samples
from scanward.learning.corruptions import Workshop
from scanward.learning.evaluate import Parts, Threshold
from scanward.learning.fit import Fitted, Settings
from scanward.simulation import ATTACKS, Donors, Site
from scanward.simulation.oracle import Oracle

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks import ablation, calibration, detection, latency, pages, run_all, throughput
from benchmarks.attacked import (
    attacked,
    baseline_threshold,
    clean_alerts,
    judged,
    seen_by_baseline,
    seen_by_oracle,
    summed,
)
from benchmarks.common import command_line, percent, plain, table
from benchmarks.smallest import smallest_doses

MODULES = (calibration, detection, latency, throughput)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(SEED)


@pytest.fixture(scope="module")
def train(site: Site) -> list[Examination]:
    return site.examinations(TRAINED)


@pytest.fixture(scope="module")
def later(site: Site) -> list[Examination]:
    return site.examinations(LATER, TRAINED)


@pytest.fixture(scope="module")
def onion(small_bundle: Trained) -> Onion:
    return Onion.from_part(read(small_bundle.model, trusted=[VerifyKey.load(small_bundle.trust)]).part)


@pytest.fixture(scope="module")
def donors(train: list[Examination]) -> Donors:
    return Donors(train)


# --- attacked commands


@pytest.mark.parametrize("name", ["null", "dose_x3", "repeat", "forged_patient", "adult_on_child"])
def test_attacks_are_repeatable_and_lie_in_clean_examinations(
    name: str, later: list[Examination], donors: Donors
) -> None:
    cases = attacked(ATTACKS[name], later, donors, 30, 5)
    assert cases == attacked(ATTACKS[name], later, donors, 30, 5)
    assert 0 < len(cases) <= 30
    for case in cases:
        clean = later[case.unit].commands
        assert max(case.indices) == len(case.commands) - 1
        for i, command in enumerate(case.commands[: len(clean)]):
            assert (command == clean[i]) or i in case.indices
    if name != "adult_on_child":  # one an examination as long as there are enough of them
        assert len({case.unit for case in cases}) == len(cases)


def test_the_same_commands_meet_every_dose_factor(later: list[Examination], donors: Donors) -> None:
    chosen = [
        {(c.unit, c.indices) for c in attacked(ATTACKS[name], later, donors, 1000, 5)}
        for name in ("dose_x0.3", "dose_x1.5")
    ]
    assert len(chosen[0] & chosen[1]) > 0.9 * min(map(len, chosen))


def test_hits_are_summed_by_examination(later: list[Examination], donors: Donors, onion: Onion) -> None:
    cases = attacked(ATTACKS["dose_x8"], later, donors, 20, 5)
    found, kept = judged(onion, cases)
    assert [len(k) for k in kept] == [len(c.indices) for c in cases]
    for a, b, c in zip(found["ours"], found["learned"], found["rules"], strict=True):
        assert a == (b or c)
    told = summed(len(later), cases, found["ours"])
    assert told.shape == (len(later),)
    assert told.sum() == sum(found["ours"]) > 0


def test_everybody_is_held_to_the_same_rule(
    site: Site, train: list[Examination], later: list[Examination], donors: Donors
) -> None:
    learn, calibrate = train[:60], train[60:180]
    oracle = Oracle(site)
    limit = Threshold.of((oracle.scores(e) for e in calibrate), 0.05)
    cases = attacked(ATTACKS["dose_x8"], later, donors, 20, 5)
    assert all(seen_by_oracle(oracle, limit, cases))
    baseline = tune(learn, names=["kNN"], contexts=[True])[0]
    threshold = baseline_threshold(baseline, calibrate, 0.05)
    largest = sorted(max(baseline.score(e.commands)) for e in calibrate)
    assert threshold.calibration.scores == pytest.approx(largest)
    assert len(seen_by_baseline(baseline, threshold, cases)) == len(cases)
    clean = [threshold.alerts(s - 1e-6) for s in largest]
    assert sum(clean) <= 0.05 * (len(calibrate) + 1)


# --- whole runs with a judge that is there


@pytest.fixture
def already_trained(monkeypatch: pytest.MonkeyPatch, onion: Onion) -> None:
    def few(learn: Any, *, seed: int, tick: Any) -> Any:
        return tune(learn[:60], names=["HBOS", "kNN"], seed=seed, tick=tick)

    for module in (detection, calibration):
        monkeypatch.setattr(module, "fit", lambda *_: Fitted(onion))
    monkeypatch.setattr(detection, "tune", few)


def test_detection_runs_and_tells_everything(
    already_trained: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "detection.json"
    words = ["--spread", "0.12", "--seeds", str(SEED), "--examinations", str(TRAINED), "--test", "25"]
    words += ["--per-attack", "3", "--budget", "0.01", "--out", str(out), "--no-smallest"]
    detection.main(words)
    assert "mean of attacks" in capsys.readouterr().out
    told = json.loads(out.read_text())
    one = told["spreads"][0]
    assert set(one["attacks"]) == set(ATTACKS)
    assert one["clean_examinations"] == 25
    assert {"ours", "oracle", "kNN, with context", "HBOS, without context"} <= set(one["mean"])
    real = [a for n, a in one["attacks"].items() if n != "null" and a["attacked"]]
    for who in ("ours", "oracle", "kNN, with context"):
        assert one["mean"][who]["value"] == pytest.approx(np.mean([a[who]["value"] for a in real]))
        assert one["mean"][who]["low"] <= one["mean"][who]["value"] <= one["mean"][who]["high"]
    assert one["mean_ratio"]["value"] == pytest.approx(
        one["mean"]["ours"]["value"] / one["mean"]["oracle"]["value"]
    )
    page = pages.detection(told)
    assert all(f"`{name}`" in page for name in ATTACKS)
    assert "kNN, with context" in page


def test_calibration_counts_groups(
    already_trained: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibration.json"
    calibration.main(
        ["--seed", str(SEED), "--origins", "2", "--window", "100", "--test", "30", "--out", str(out)]
    )
    assert "children" in capsys.readouterr().out
    told = json.loads(out.read_text())
    assert told["groups"]["all"]["examinations"] == 60
    assert len(told["by_origin"]) == 2
    assert told["groups"]["all"]["learned"]["value"] == pytest.approx(np.mean(told["by_origin"]))
    assert "2 origins" in pages.origins(told)


def test_clean_alerts_add_up(onion: Onion, later: list[Examination]) -> None:
    told = clean_alerts(onion, later[:20])
    assert [a or b for a, b in zip(told["rules"], told["learned"], strict=True)] == told["any"]


def test_the_smallest_dose_is_where_detection_rises(
    site: Site, onion: Onion, train: list[Examination], later: list[Examination], donors: Donors
) -> None:
    oracle = Oracle(site)
    ceiling = Threshold.of((oracle.scores(e) for e in train[:120]), 0.01)
    told = plain(smallest_doses(onion, oracle, ceiling, later[:15], donors, 8, 3))
    for direction in ("more", "less"):
        curve = told[direction]
        distance = [abs(math.log(f)) for f in curve["factors"]]
        assert distance == sorted(distance)
        assert len(curve["ours_detection"]) == len(curve["factors"]) == len(curve["attacked"])
        oracle_found = curve["oracle"]["value"]
        assert oracle_found is None or 0.1 <= oracle_found <= 8.0


def test_latency_measures_both(onion: Onion, train: list[Examination], later: list[Examination]) -> None:
    told = latency.measure(onion, train[:40], later, 30)
    assert told["decision"]["count"] == told["isolation_forest_row"]["count"] >= 30
    assert told["decision"]["p50_us"] <= told["decision"]["p99_us"]
    assert told["ratio_of_medians"] == pytest.approx(
        told["decision"]["p50_us"] / told["isolation_forest_row"]["p50_us"]
    )
    assert set(told["layers"]) == {*(str(n) for n in LayerName), "combiner"}
    assert "IsolationForest" in latency.report(told)


def test_dose_reports_are_built_and_read(tmp_path: Path) -> None:
    told = throughput.dose_reports(4, 1, tmp_path / "reports")
    assert told["files"] == 4
    assert told["one_process"]["files_per_second"] > 0


def test_judge_is_measured_as_a_user_runs_it(small_bundle: Trained, tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_bytes(small_bundle.later.read_bytes())
    (tmp_path / "site.toml").write_bytes(small_bundle.dialect.read_bytes())
    rows = len(small_bundle.later.read_text().splitlines()) - 1
    told = throughput.judge(tmp_path, small_bundle.model, small_bundle.trust, rows)
    assert sum(told["verdicts"].values()) == rows
    assert 30 < told["peak_megabytes"] < 4000
    with pytest.raises(RuntimeError, match="verdicts for"):
        throughput.judge(tmp_path, small_bundle.model, small_bundle.trust, rows + 1)


# --- ablation


def test_a_layer_or_a_kind_is_left_out_of_the_samples() -> None:
    names = ("cf.a", "cs.b", "cs.c", "proc.d")
    found = Samples(
        names, np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0, 1, 1]), ("clean", "x", "y")
    )
    less = ablation.without_layer(found, LayerName.CONTEXT_SENSITIVE)
    assert less.names == ("cf.a", "proc.d")
    assert less.rows.tolist() == [[0, 3], [4, 7], [8, 11]]
    kinds = ablation.without_kind(found, "x")
    assert kinds.kinds == ("clean", "y")
    assert kinds.labels.tolist() == [0, 1]
    with pytest.raises(LearningError):
        ablation.without_layer(less, LayerName.CONTEXT_SENSITIVE)


def test_ablation_tells_each_part(
    monkeypatch: pytest.MonkeyPatch,
    onion: Onion,
    train: list[Examination],
    later: list[Examination],
    donors: Donors,
) -> None:
    layers = (onion.context_free, onion.context_sensitive, onion.procedure)
    found = samples(layers, train[45:60], Workshop(train[:45]))
    monkeypatch.setattr(ablation, "crosswise", lambda *_: (layers, found, []))
    monkeypatch.setattr(ablation, "SPOILERS", {"dose": None})
    cases = {n: attacked(ATTACKS[n], later, donors, 3, 5) for n in ("null", "tilt", "dose_x8")}
    divided = Parts(tuple(train[:60]), tuple(train[60:80]))
    told = ablation.measure(divided, later[:5], cases, Settings(0.05, rounds=5), lambda *_: None)
    assert set(told) == {
        "nothing left out", "learned layers alone", "without spoilt 'dose'", *(f"without {n}" for n in LayerName),
    }  # fmt: skip
    whole = told["nothing left out"]
    for name in ("form", "physics", "limits", "protocol_book"):  # fewer rules cannot find more
        assert all(told[f"without {name}"]["attacks"][a] <= whole["attacks"][a] for a in cases)
    assert whole["mean"] == pytest.approx((whole["attacks"]["tilt"] + whole["attacks"]["dose_x8"]) / 2)


# --- options, result files, the page


@pytest.mark.parametrize("module", [*MODULES, run_all])
def test_help_teaches_with_an_example(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        module.options(["--help"])
    assert f"python -m {module.__name__} --quick" in capsys.readouterr().out


@pytest.mark.parametrize("module", MODULES)
def test_quick_is_smaller(module: Any) -> None:
    usual, quick = vars(module.options([])), vars(module.options(["--quick"]))
    smaller = [n for n, v in usual.items() if isinstance(v, int) and not isinstance(v, bool) and quick[n] < v]
    assert smaller


def test_a_command_is_told_without_this_machines_folders() -> None:
    words = ["--quick", "--out", "/somewhere/x.json", "--data=/elsewhere", "--seeds", "1", "2", "--json"]
    assert command_line("detection", words) == "python -m benchmarks.detection --quick --seeds 1 2"


def test_figures_are_told_with_their_intervals() -> None:
    assert percent({"value": 0.931, "low": 0.9, "high": 0.95}) == "93.1 % (90.0 to 95.0)"
    assert percent({"value": None, "low": None, "high": None}) == "-"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert plain({"x": np.float64("nan"), "y": np.int64(3), "z": (np.bool_(True),)}) == {
        "x": None, "y": 3, "z": [True],
    }  # fmt: skip


def test_the_page_has_a_place_for_every_section_and_is_written_from_files(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text("utf-8")
    assert run_all.written(page, tmp_path) == page  # no file, no change
    told = {
        "command": "python -m benchmarks.calibration --origins 1",
        "machine": {"cores": 2, "processor": "x", "system": "y", "python": "3", "packages": {"numpy": "2"}},
        "options": {"origins": 1, "window": 9, "test": 8},
        "budget": 0.5,
        "by_origin": [0.25],
        "origins_within_budget": 1,
        "groups": {
            "all": {
                "examinations": 8,
                **{w: {"value": 0.25, "low": 0, "high": 1} for w in ("learned", "rules", "any")},
            }
        },
    }
    (tmp_path / "calibration.json").write_text(json.dumps(told))
    once = run_all.written(page, tmp_path)
    assert "    python -m benchmarks.calibration --origins 1\n" in once
    assert "| all | 8 | 25.00 % (0.00 to 100.00) |" in once
    assert run_all.written(once, tmp_path) == once
    with pytest.raises(ValueError, match="no place for 'benchmark'"):
        run_all.written("nothing", tmp_path)
