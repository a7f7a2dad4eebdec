"""``scanward benchmark``: the whole way from options to a report, and what it says when it cannot."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import _benchmark_toys as toy
from scanward.cli.main import cli
from scanward.learning.benchmark import openings
from scanward.learning.benchmark import plan as planning
from scanward.learning.benchmark.store import Store
from scanward.recordings.writing import write_table
from scanward.simulation import Site

WITHIN = 300.0  # s after which a process of a test hangs
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["_benchmark_toys"])


@pytest.fixture(autouse=True)
def small(own_home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        toy.in_place(patch)
        yield


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds: tests of something else do without."""
    monkeypatch.setattr("scanward.learning.benchmark.report.write", lambda results, out: [])


def scanward(*words: object, answer: str = "") -> Result:
    return CliRunner().invoke(cli, ["benchmark", *map(str, words)], input=answer)


def told(out: Path) -> Any:
    return json.loads((out / "results.json").read_text())


def refused(*words: object, answer: str = "") -> str:
    """One line about bad input, and nothing else."""
    result = scanward(*words, answer=answer)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


def test_from_nothing_to_a_report_and_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = scanward("--out", out)
    assert result.exit_code == 0, result.output
    assert "recurring protocols" in result.stdout
    assert "SIMULATED" in result.stdout
    assert f"written: {out / 'report.html'}" in result.stderr
    for name in ("report.md", "report.html"):
        assert "SIMULATED" in (out / name).read_text()
    found = told(out)
    assert found["command"] == "scanward benchmark --size small"
    assert str(tmp_path) not in json.dumps(found)
    assert found["finished"]
    assert set(found["levels"][0]["methods"]) == {"Scanward", "oracle", "length"}
    assert found["comparisons"]["primary"]["ours"] == "Scanward"
    assert {one["method"] for one in found["smallest"]} <= {"Scanward", "oracle", "length"}
    before = (out / "results.json").read_bytes()
    assert scanward("--out", out, "--quiet").stderr == ""
    assert (out / "results.json").read_bytes() == before
    (out / "report.html").unlink()
    result = scanward("report", out, "--json")
    assert json.loads(result.stdout) == found
    assert (out / "report.html").exists()
    assert (out / "results.json").read_bytes() == before


@pytest.mark.usefixtures("no_report")
def test_methods_by_name_and_kind_are_added_to_those_there(tmp_path: Path) -> None:
    scanward("--out", tmp_path, "--methods", "length")
    result = scanward("--out", tmp_path, "--methods", "ceiling", "--methods", "ROTATION")
    assert result.exit_code == 0, result.output
    assert [m["name"] for m in told(tmp_path)["methods"]] == ["length", "oracle", "rotation"]
    assert "perhaps: length" in refused("--out", tmp_path, "--methods", "lenght")


def test_the_list_names_every_method_and_measures_nothing(tmp_path: Path) -> None:
    result = scanward("--list", "--out", tmp_path / "out", "--json")
    assert [m["name"] for m in json.loads(result.stdout)["methods"]] == [m.name for m in toy.ALL]
    assert not (tmp_path / "out").exists()
    assert "length" in scanward("--list", "--methods", "unsupervised").stdout
    assert "oracle" not in scanward("--list", "--methods", "unsupervised").stdout


@pytest.mark.usefixtures("no_report")
def test_another_plan_in_the_same_folder_is_refused_unless_fresh(tmp_path: Path) -> None:
    scanward("--out", tmp_path, "--methods", "length")
    said = refused("--out", tmp_path, "--methods", "length", "--seed", "5")
    assert "begun with another plan (differs in seed)" in said
    assert "--fresh" in said
    result = scanward("--out", tmp_path, "--methods", "length", "--seed", "5", "--fresh")
    assert result.exit_code == 0, result.output
    assert told(tmp_path)["command"].endswith("--seed 5 --methods length")


def test_a_failing_method_is_told_and_the_status_says_so(tmp_path: Path) -> None:
    result = scanward("--out", tmp_path, "--methods", "length", "--methods", "breaking")
    assert result.exit_code == 1
    assert "failed: breaking, " in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: 2 methods failed, the first: breaking")
    assert "length" in result.stdout
    assert [m[2] for m in told(tmp_path)["missing"]] == ["breaking", "breaking"]
    assert "LinAlgError" in (tmp_path / "report.md").read_text()


def test_a_report_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no benchmark was run here" in refused("report", tmp_path)
    Store.open(tmp_path, planning.make("small"))
    assert "nothing has been measured" in refused("report", tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    assert "no plan of this version" in refused("report", tmp_path)
    (tmp_path / "plan.json").write_text("[]")
    assert "no JSON object" in refused("report", tmp_path)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--sites", "3"], "3 sites"),
        (["--sites", "0"], "nothing to measure"),
        (["--spread", "1"], "--spread"),
        (["--why", "x"], "nothing is opened"),
        (["--yes"], "nothing is opened"),
        (["--recordings", "none.csv"], "none.csv"),
        (["--dialect", "a.toml", "--dialect", "b.toml", "--recordings", "x"], "2 dialects for 1 recordings"),
        (["--dialect", "a.toml"], "1 dialects for 0 recordings"),
        (["--seed", "5", "report", "."], "--seed is an option of a run"),
        (["repotr"], "no such command"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, words: list[str], problem: str) -> None:
    given = words if words[-1] in (".", "repotr") else ["--out", str(tmp_path / "out"), *words]
    assert problem.lower() in refused(*given).lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_report")
def test_recordings_are_measured_beside_and_known_again(tmp_path: Path) -> None:
    table, out = tmp_path / "mine.csv", tmp_path / "out"
    commands = [c for e in Site(toy.SITE).examinations(120) for c in e.commands]
    write_table(commands, table)
    given = ("--out", out, "--recordings", table, "--methods", "length", "--methods", "oracle")
    result = scanward(*given)
    assert result.exit_code == 0, result.output
    found = told(out)
    sets = {(one["set"], one["level"]) for one in found["levels"]}
    assert ("mine", toy.LATER) in sets
    assert str(tmp_path) not in json.dumps(found)
    by_set = {one["set"]: one for one in found["levels"]}
    assert "oracle" not in by_set["mine"]["methods"]  # it knows simulated sites alone
    assert by_set["mine"]["simulated"]  # a table of simulated commands stays told as such
    table.write_text(table.read_text() + "\n")
    assert "another plan (differs in recorded)" in refused(*given)


# --- locked sites


@pytest.mark.usefixtures("no_report")
def test_locked_sites_are_opened_once_and_only_when_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("--final", "--out", out, "--methods", "length")
    assert scanward(*given, answer="n\n").exit_code == 130
    assert openings.read() == []
    assert not out.exists()
    result = scanward(*given, answer="")  # nobody answers
    assert result.exit_code == 2
    assert openings.read() == []
    result = scanward(*given, answer="y\n")
    assert result.exit_code == 0, result.output
    (opening,) = openings.read()
    assert opening.sites == (toy.SITE + 2,)
    assert opening.attacks == len(planning.make("small", final=True).held_out) > 0
    found = told(out)
    assert found["final"]
    groups = {facts["group"] for facts in found["levels"][0]["attacks"].values()}
    assert groups == {"null", "known", "held out", "curve"}
    assert scanward(*given).exit_code == 0  # goes on: no question, no second record
    assert openings.read() == [opening]
    other = ("--final", "--yes", "--out", tmp_path / "other", "--methods", "length")
    assert "was opened before" in refused(*other)
    assert not (tmp_path / "other").exists()
    assert "was opened before" in refused(*given, "--fresh", "--seed", "3", "--yes")
    shown = json.loads(scanward("openings", "--json").stdout)["openings"]
    assert [o["plan_sha256"] for o in shown] == [opening.plan_sha256]
    assert opening.plan_sha256[:12] in scanward("openings").stdout


@pytest.mark.usefixtures("no_report")
def test_development_never_touches_locked_sites_or_attacks(tmp_path: Path) -> None:
    result = scanward("--out", tmp_path, "--methods", "length", "--sites", "2")
    assert result.exit_code == 0, result.output
    found = told(tmp_path)
    assert {w["seed"] for w in found["plan"]["simulated"]} == set(planning.DEVELOPMENT_SITES)
    assert "held out" not in {f["group"] for one in found["levels"] for f in one["attacks"].values()}
    assert openings.read() == []


# --- interrupted


@pytest.mark.usefixtures("no_report")
def test_interrupted_everything_is_kept_and_it_says_how_to_go_on(tmp_path: Path) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    words = ("benchmark", "--out", str(out), "--methods", "length", "--methods", "was shown")
    process = FORKS.Process(target=toy.command_apart, args=(words, said))
    process.start()
    end = time.monotonic() + WITHIN
    while process.is_alive() and len(list(out.rglob("length*.npz"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(WITHIN)
    assert process.exitcode == 130
    process.close()
    assert "give the same options again to go on" in said.read_text()
    before = {p: p.read_bytes() for p in out.rglob("length*.npz")}
    assert len(before) == 2
    assert not list(out.rglob("was-shown*"))
    assert "not measured yet" in json.dumps(json.loads(scanward("report", out, "--json").stdout)["missing"])
    assert scanward(*words[1:]).exit_code == 0
    assert {p: p.read_bytes() for p in out.rglob("length*.npz")} == before
    assert told(out)["finished"]
