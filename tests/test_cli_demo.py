"""``scanward demo``: a small one from the first examination to the last plot, through the command itself."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy.stats import binom

from scanward import bundle
from scanward.calibration import Calibration
from scanward.cli.main import cli
from scanward.emulator import demonstration
from scanward.emulator.attacks import ATTACKS as ON_THE_WIRE
from scanward.errors import SettingsError
from scanward.keys import VerifyKey
from scanward.layers.onion import Onion
from scanward.learning import context_free, context_sensitive, demo, folds
from scanward.learning.demo_trials import expected_range, interval, threshold_of
from scanward.simulation import ATTACKS

BUDGET = 0.04
ARGUMENTS = ["demo", "--examinations", "160", "--budget", str(BUDGET), "--seed", "3", "--quiet"]
PLOTS = ("detection", "scores", "calibration", "dose")
SECOND_HALF = ("scanner", "attacks", "clean", "first_verdict_s", "seconds_guarded", "unexpected", "can")
# On the wire: refused by the gate or by rules, whatever a judge with so little training thinks.
WIRED = (
    "perfusion_x8",
    "signal_disruption",
    "mechanical_table",
    "denial_of_service",
    "duplicate_keys",
    "change_at_trigger",
    "replay_triggers",
    "stop_storm",
)


@dataclass(frozen=True)
class Ran:
    """One small demonstration."""

    out: Path
    stdout: str
    found: dict[str, Any]


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Few steps, fields and attacked examinations: the way through is tested, not how well it judges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "STEPS", 30)
        patch.setattr(demo, "LATER", 120)
        patch.setattr(demo, "ATTACKED", 20)
        patch.setattr(demo, "FOR_EACH_FACTOR", 5)
        patch.setattr(demo, "CURVE", (0.3, 0.8, 1.5, 8.0))
        patch.setattr(demonstration, "CLEAN", 6)
        patch.setattr(demonstration, "TIMES", 1)
        patch.setattr(demonstration, "ATTACKS", {name: ON_THE_WIRE[name] for name in WIRED})
        patch.setattr(
            folds, "MANY_FOLDS", 2, raising=False
        )  # what is not there any more need not be made small
        patch.setattr(context_sensitive, "CONDITIONALS", 1, raising=False)
        patch.setattr(context_sensitive, "CLASSIFIED", ("BodyPartExamined", "PatientSex"), raising=False)
        patch.setattr(context_free, "MODELS", 1, raising=False)
        yield


def run(out: Path, *more: str) -> str:
    result = CliRunner().invoke(cli, [*ARGUMENTS, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def ran(small: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("demo") / "shown"
    stdout = run(out)
    return Ran(out, stdout, json.loads((out / "demo.json").read_text("utf-8")))


@pytest.mark.slow
def test_every_file_is_there_and_says_that_it_is_simulated(ran: Ran) -> None:
    for name in PLOTS:
        assert (ran.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (ran.out / f"{name}.svg").read_text("utf-8")
        assert svg.rstrip().endswith("</svg>")
        assert "Simulated data" in svg
    assert {Path(p).name for p in ran.found["files"]} >= {f"{n}.svg" for n in PLOTS} | {
        "demo.csv",
        "demo.json",
    }
    assert ran.found["simulated"] is True
    rows = list(csv.DictReader((ran.out / "demo.csv").read_text("utf-8").splitlines()))
    assert [r["attack"] for r in rows] == list(ATTACKS)
    assert {r["simulated"] for r in rows} == {"yes"}


@pytest.mark.slow
def test_the_table_has_every_attack_and_the_last_lines_say_what_comes_next(ran: Ran) -> None:
    for attack in ATTACKS.values():
        assert re.search(rf"│ {re.escape(attack.name)} +│ {re.escape(attack.about)} ", ran.stdout), (
            attack.name
        )
    assert "Simulated attacks" in ran.stdout
    assert "scanward train" in ran.stdout
    assert str(ran.out) in ran.stdout.replace("\n", "")
    assert "not a medical device" in ran.stdout.splitlines()[-1]


@pytest.mark.slow
def test_figures_agree_with_each_other(ran: Ran) -> None:
    found = ran.found
    assert [a["attack"] for a in found["judged_attacks"]] == list(ATTACKS)
    for a in found["judged_attacks"]:
        assert 0 <= a["detected"] <= a["tried"] <= 20
        assert sum(a["caught_by"].values()) == a["detected"]
        assert (a["example"] is None) == (a["detected"] == 0)
        if a["tried"]:
            assert a["low"] <= a["share"] == a["detected"] / a["tried"] <= a["high"]
        if a["example"]:
            assert a["example"]["verdict"] in ("ALERT", "HALT")
            assert a["example"]["reason"]
    real = [a for a in found["judged_attacks"] if a["family"] != "null" and a["tried"]]
    assert found["mean"]["detected"] == pytest.approx(sum(a["share"] for a in real) / len(real))
    # The physics layer learns its constants from a few commands: forged dose figures never get past it.
    forged = next(a for a in found["judged_attacks"] if a["attack"] == "ma_x3_dose_kept")
    assert forged["share"] > 0.8
    assert forged["layer"] == "physics"
    assert found["mean"]["oracle"] > 0.8
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert [d["factor"] for d in found["dose"]] == [0.3, 0.8, 1.5, 8.0]
    shares = [c["observed"] for c in found["calibration_curve"]]
    assert shares == sorted(shares)


@pytest.mark.slow
def test_with_the_guard_inline_attacks_are_stopped_and_clean_examinations_pass(ran: Ran) -> None:
    attacks = {a["name"]: a for a in ran.found["attacks"]}
    assert list(attacks) == [*WIRED, "stealth"]
    assert ran.found["unexpected"] == []
    for name in WIRED:
        told = attacks[name]
        assert told["tried"] == told["effective"] == 1, name
        assert told["stopped"] == (0 if told["by_design"] else 1), told
        assert bool(told["layer"]) or told["by_design"] or name == "denial_of_service", told
    perfusion = attacks["perfusion_x8"]
    assert perfusion["dose_without_mGy"] > 4 * perfusion["dose_ordered_mGy"]
    assert perfusion["dose_with_mGy"] < 1.01 * perfusion["dose_ordered_mGy"]
    clean = ran.found["clean"]
    assert clean["examinations"] == 6
    assert clean["lost"] == 0
    assert clean["released"] == clean["commands"]
    assert clean["alerted"] <= clean["commands"]
    assert 0 < clean["added_latency_ms"]["p50"] <= clean["added_latency_ms"]["p99"]


@pytest.mark.slow
def test_the_second_scenario_runs_over_canopen_where_its_libraries_are(ran: Ran) -> None:
    can = ran.found["can"]
    if demonstration.missing():
        assert "not installed" in can["skipped"]
        return
    clean = can["clean"]
    assert clean["released"] == clean["commands"] > 0
    attacks = {a["name"]: a for a in can["attacks"]}
    assert attacks["write_after_arming"]["stopped"] == 1
    assert attacks["forbidden_frames"]["stopped"] == attacks["forbidden_frames"]["tried"] == 5


@pytest.mark.slow
def test_the_guard_s_log_is_kept_and_verifies(ran: Ran) -> None:
    result = CliRunner().invoke(
        cli, ["audit", "verify", str(ran.out / "guard/audit"), "--key", str(ran.out / "guard/audit.pub")]
    )
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_the_null_attack_and_clean_examinations_stay_within_what_chance_allows(ran: Ran) -> None:
    null = next(a for a in ran.found["judged_attacks"] if a["attack"] == "null")
    assert null["tried"] == 20
    assert null["detected"] <= binom.ppf(0.9999, null["tried"], 2 * BUDGET)
    alerts = ran.found["false_alerts"]
    assert alerts["examinations"] == 120
    assert alerts["by_the_calibrated_number"] <= alerts["alerts"]
    assert alerts["alerts"] <= alerts["by_the_calibrated_number"] + alerts["by_rule_layers"]
    units = ran.found["training"]["calibration_examinations"]
    # The learned number's promise, at one in ten thousand.
    k = math.floor(BUDGET * (units + 1))
    from scipy.stats import betabinom

    assert alerts["by_the_calibrated_number"] <= betabinom(120, k, units + 1 - k).ppf(0.9999)


@pytest.mark.slow
def test_the_bundle_is_signed_and_reads_back(ran: Ran) -> None:
    key = VerifyKey.load(ran.out / "demo.pub")
    read = bundle.read(ran.out / "bundle", trusted=[key])
    assert read.manifest.digest == ran.found["bundle"]["digest"]
    assert Onion.from_part(read.part).budget == BUDGET


@pytest.mark.slow
def test_one_alert_is_explained_in_words(ran: Ran) -> None:
    text = "\n".join(ran.found["explanation"])
    assert "Simulated examination" in text
    assert "Verdict ALERT" in text or "Verdict HALT" in text
    for layer in ("form", "physics", "limits", "protocol_book"):
        assert f"  {layer}: " in text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures_and_json_goes_to_standard_output(
    ran: Ran, tmp_path: Path
) -> None:
    again = json.loads(run(tmp_path / "again", "--json", "--no-guard"))
    first = dict(ran.found)
    for changing in ("seconds", "latency_ms", "bundle", "files"):
        assert again.pop(changing)
        assert first.pop(changing)
    for of_the_second_half in SECOND_HALF:
        assert first.pop(of_the_second_half) is not None
    assert again == first


# --- without a whole run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--examinations", "792"], "--examinations"),
        (["--examinations", "100", "--budget", "0.03"], "give at least 129"),
        (["--budget", "0"], "--budget"),
        (["--budget", "nan"], "--budget"),
        (["--examinations", "3"], "--examinations"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["demo", *arguments, "--out", str(out)])
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert not out.exists()


def test_the_least_number_of_examinations_is_enough() -> None:
    demo.Plan(793, 0.005).check()
    with pytest.raises(SettingsError):
        demo.Plan(792, 0.005).check()


def test_the_threshold_is_where_the_p_value_enters_the_budget() -> None:
    for units in (19, 20, 99, 101):
        calibration = Calibration.of([float(i) for i in range(units)])
        for budget in (0.05, 0.051, 0.1, 0.33):
            limit = threshold_of(calibration, budget)
            assert calibration.p_value(limit) > budget
            assert calibration.p_value(math.nextafter(limit, math.inf)) <= budget


def test_intervals_hold_what_they_should() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    low, high = interval(50, 100)
    assert low == pytest.approx(0.4038, abs=1e-3)  # Wilson's interval of 50 of 100
    assert high == pytest.approx(0.5962, abs=1e-3)
    low, high = expected_range(0.01, 99, 1000)
    assert low <= 10 <= high
    assert expected_range(0.001, 99, 1000) == (0.0, 0.0)  # a budget that 99 units cannot express
