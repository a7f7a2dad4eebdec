"""``scanward detect`` and ``scanward detect train``: what they write, tell and refuse, and never a traceback."""

from __future__ import annotations

import csv
import json
import re
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pydicom import dcmread

from _mammo import save
from _tamper_dicom import mammogram
from scanward.cli.detect import _source
from scanward.cli.main import cli
from scanward.errors import LearningError, SettingsError
from scanward.forensics.card import write_card
from scanward.forensics.evaluation import Scores
from scanward.forensics.examining import Detector
from scanward.forensics.fetching import ByGet, ByMove
from scanward.forensics.fetching_web import WebArchive
from scanward.forensics.making import Making, train
from scanward.mammography.phantom_sets import write_phantoms


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["detect", *map(str, arguments)])
    assert "Traceback" not in result.output
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def women(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detect") / "women"
    write_phantoms(out, patients=14, rows=48, columns=48, seed=91, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detect") / "others"
    write_phantoms(out, patients=2, rows=48, columns=48, seed=92, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def model(women: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detect-model") / "detector"
    result = run("train", "--data", women, "--out", out, "--epochs", 1, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["least_false_alarms"] == pytest.approx(1 / (told["women"]["calibrate"] + 1))
    assert told["women"]["learn"] + told["women"]["weigh"] + told["women"]["calibrate"] == 14
    assert "the least false-alarm rate" in result.stderr
    assert {p.name for p in out.iterdir()} == {"detector.safetensors", "model-card.md", "roc.png"}
    return out


def test_a_card_tells_what_was_measured_on_women_not_learned_from(model: Path) -> None:
    card = (model / "model-card.md").read_text("utf-8")
    facts = Detector.load(model).facts
    assert Detector.load(model).fingerprint in card
    assert f"of {facts.counts['weigh']} women whom neither opinion learned from" in card
    for family in facts.families:
        row = re.search(rf"^\| `{family}` \| 2 \| ([01]\.\d+) \| ([01]\.\d+) \|$", card, re.MULTILINE)
        assert row, card
        assert all(0 <= float(figure) <= 1 for figure in row.groups())
    assert "Never for care, screening or diagnosis" in card
    assert not any(woman in card for woman in facts.women)
    with Image.open(model / "roc.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5


@pytest.mark.parametrize("name", ["$_$", "$\\foo$", "a\udcffb", "乳", "a|b](x)`![p", "<b>"])
def test_no_name_of_a_generator_spoils_the_card(model: Path, tmp_path: Path, name: str) -> None:
    detector = Detector.load(model)
    family = f"generator:{name}"
    detector.facts = msgspec.structs.replace(detector.facts, families=(family,), generators={name: "ab" * 32})
    detector.weighed = Scores(
        np.array(["genuine"] * 4 + [family] * 4), np.array(list("abcdabcd")), np.arange(8.0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card = write_card(tmp_path, detector).read_text("utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith("| `generator:")]
    assert row.count("|") == 5
    assert row.count("`") == 2
    assert "found at 25 % false alarms" in card  # of four genuine pictures no smaller share can be told
    assert (tmp_path / "roc.png").stat().st_size > 1000


def test_generators_of_one_name_are_all_learned_from(women: Path, tmp_path: Path) -> None:
    asked: list[dict[str, Path]] = []

    def stop(data: Path, runs: dict[str, Path], *_: object, **__: object) -> None:
        asked.append(runs)
        raise LearningError("enough", "here", "stop")

    paths = [tmp_path / folder for folder in ("q/x-3", "p/x", "r/x", "s/x", "t/x-3")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("scanward.forensics.making.train", stop)
        options = [word for path in paths for word in ("--runs", path)]
        assert run("train", "--data", women, "--out", tmp_path / "out", *options).exit_code != 0
    assert sorted(asked[0].values()) == sorted(paths)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_learned(
    women: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        result = run("train", "--data", women, "--out", out)
        assert result.exit_code == 2
        assert "cannot be written" in result.stderr
        assert "training" not in result.stderr


def test_only_a_training_writes_a_card(model: Path, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="only a training measures"):
        write_card(tmp_path, Detector.load(model))
    assert not list(tmp_path.iterdir())


def test_fewer_classical_forgeries_are_learned_from_where_asked(women: Path, tmp_path: Path) -> None:
    whole = train(women, {}, Making(epochs=1))
    few = train(women, {}, Making(epochs=1, classical=1))
    assert few.facts.families == whole.facts.families
    assert few.fingerprint != whole.fingerprint
    assert few.weighed is not None
    assert whole.weighed is not None
    assert few.weighed.family.tolist() == whole.weighed.family.tolist()  # what is measured stays whole


def test_pictures_are_examined_and_all_that_was_found_is_written(
    model: Path, others: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    result = run(
        others, "--model", model, "--false-alarms", 0.4, "--out", out, "--csv", tmp_path / "f.csv", "--json"
    )
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert told == json.loads((out / "detect.json").read_text())
    assert told["examined"] == len(told["images"]) == 2
    assert told["alarms"] == sum(i["p_value"] <= 0.4 for i in told["images"])
    assert "phantoms" in result.stderr
    for image in told["images"]:
        assert 0 < image["p_value"] <= 1
        assert image["probability"] is None
        assert image["words"]
        with Image.open(image["heat"]) as heat:
            assert max(heat.size) >= 512
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["p_value"]) for r in rows] == [i["p_value"] for i in told["images"]]
    assert rows[0]["words"].startswith(("Alarm", "No alarm"))
    plain = run(others, "--model", model, "--false-alarms", 0.4, "--prior", 0.1)
    assert plain.exit_code == 0
    assert "likelihood ratio" in plain.stdout


def test_dicom_gets_a_heat_map_and_a_report_beside_it(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = save(mammogram(), folder / "a.dcm")
    out = tmp_path / "out"
    result = run(folder, "--model", model, "--false-alarms", 0.4, "--out", out, "--dicom", "--json")
    assert result.exit_code == 0, result.output
    (image,) = json.loads(result.stdout)["images"]
    heat, report = dcmread(image["dicom_heat"]), dcmread(image["dicom_report"])
    original = dcmread(source)
    assert heat.StudyInstanceUID == report.StudyInstanceUID == original.StudyInstanceUID
    assert heat.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID


def test_whom_it_learned_from_is_refused(model: Path, women: Path) -> None:
    result = run(women, "--model", model, "--false-alarms", 0.4, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "LeakError"


def test_one_bad_file_costs_no_other_its_result(model: Path, others: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = next((others / "images").iterdir())
    (folder / "good.png").write_bytes(good.read_bytes())
    (folder / "cut.png").write_bytes(good.read_bytes()[:200])
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "black.png")
    result = run(folder, "--model", model, "--false-alarms", 0.4, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["examined"], len(told["failed"])) == (1, 2)
    (folder / "good.png").unlink()
    result = run(folder, "--model", model, "--false-alarms", 0.4, "--json")
    assert result.exit_code == 2
    assert "none of 2" in json.loads(result.stdout)["what"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to examine"),
        (("a.png", "--study", "1.2"), "pictures and a study"),
        (("--study", "1.2"), "belong together"),
        (("a.png", "--dicom"), "needs a folder"),
        (("a.png", "--from", "A@b:1"), "belong together"),
        (("a.png", "--model", "/nowhere"), "no detector here"),
        (("train", "--data", "/nowhere", "--out", "new"), "/nowhere"),
        (("train", "--data", "/nowhere", "--out", "new", "--part", "x"), "needs a split"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments) if arguments else run("--json")
    assert result.exit_code == 2
    assert says in result.output


def test_a_rate_that_it_cannot_express_is_refused(model: Path, others: Path) -> None:
    result = run(others, "--model", model)  # 0.01
    assert result.exit_code == 2
    assert "cannot be expressed" in result.stderr


def test_archives_are_named_as_they_are_asked() -> None:
    got = _source("ORTHANC@127.0.0.1:4242", None, "US")
    assert isinstance(got, ByGet)
    assert (got.archive.host, got.archive.port, got.archive.title, got.title) == (
        "127.0.0.1",
        4242,
        "ORTHANC",
        "US",
    )
    moved = _source("ORTHANC@127.0.0.1:4242", "127.0.0.1:11112", "US")
    assert isinstance(moved, ByMove)
    assert moved.listen == ("127.0.0.1", 11112)
    assert isinstance(_source("http://127.0.0.1:8042/dicom-web", None, "US"), WebArchive)
    for archive, move in (("x", None), ("A@b:99999", None), ("A@b:1", "b"), ("http://a", "b:1")):
        with pytest.raises(SettingsError):
            _source(archive, move, "US")
