"""Evaluation from folders to a folder: phantoms and a run in, tables, figures and marked sheets out; the command."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from house import REPOSITORY
from scanward.cli.main import cli
from scanward.errors import InputError, LeakError, SettingsError
from scanward.mammography.manifest import read_manifest, write_manifest
from scanward.mammography.phantom_sets import write_phantoms
from scanward.mammography.pictures import read_picture
from scanward.tampering.checkpoints import hashed, load_run
from scanward.tampering.evaluation.evaluating import Request, evaluate
from scanward.tampering.evaluation.loading import load_data, load_pictures, tamper_of
from scanward.tampering.evaluation.report import markdown
from scanward.tampering.evaluation.results import Confirmation
from scanward.tampering.marking import mark_masks
from scanward.tampering.prepared import Selection
from scanward.tampering.presets import PRESETS, Preset, change
from scanward.tampering.running import Settings, train

sys.path.insert(0, str(REPOSITORY))  # the benchmarks are no package of the product

from benchmarks import tampering_phantoms
from benchmarks.common import plain

SIDE = 32


def _preset(**options: str) -> Preset:
    small = {"rows": str(SIDE), "columns": str(SIDE), "generator.filters": "4", "generator.blocks": "1"}
    small |= {"discriminator.filters": "4", "discriminator.layers": "1", "optimiser.steps": "1"}
    return change(PRESETS["reference-64"], small | options)


def _phantoms(out: Path, patients: int, seed: int) -> Path:
    write_phantoms(
        out,
        patients=patients,
        rows=SIDE,
        columns=SIDE,
        seed=seed,
        prevalence=1.0,
        both_breasts=True,
        contrast=2.0,
    )
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of phantom women, and two runs that were trained on neither (hardly trained at all)."""
    base = tmp_path_factory.mktemp("evaluation")
    _phantoms(base / "data", 60, 1)
    _phantoms(base / "other", 20, 2)
    _phantoms(base / "trained-on", 4, 3)
    settings = Settings(threads=1, sheet_steps=0)
    for name, options in (("run", {}), ("masked", {"generator.mask_channel": "true"})):
        train(base / "trained-on", _preset(**options), base / name, settings=settings)
    return base


@pytest.fixture(scope="module")
def result(folder: Path) -> tuple[Confirmation, Path]:
    """Both runs, with classifiers that had hardly time to learn."""
    out = folder / "out"
    request = Request(
        data=folder / "data",
        models=(folder / "run", folder / "masked"),
        out=out,
        processings=("jpeg-75",),
        epochs=2,
        resamples=100,
    )
    told, _ = evaluate(request)
    return told, out


def test_phantoms_come_with_their_truth(folder: Path) -> None:
    manifest = read_manifest(folder / "other")
    pictures = load_pictures(folder / "other", manifest.images, _preset(), Selection())
    assert len(pictures) == 40
    assert pictures.cancer.sum() == 20
    assert pictures.twinned.all()
    assert pictures.pectoral.any()
    change = np.abs(pictures.x - pictures.twin)
    assert (change[~pictures.breast] == 0).all()
    for i in range(40):
        assert change[i][pictures.region[i]].mean() > 5 * change[i][~pictures.region[i]].mean()
    # the twin is shown at the picture's own scale: healthy tissue does not move
    far = ~pictures.region & pictures.breast & (change < 0.02)
    assert far.sum() > 0.5 * pictures.breast.sum()


def test_films_get_places_for_lesions_that_are_always_the_same(folder: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    shutil.copytree(folder / "other", films)
    for truth in ("healthy", "lesioned"):
        shutil.rmtree(films / truth)
    images = read_manifest(films).images
    first = load_pictures(films, images, _preset(), Selection())
    again = load_pictures(films, images[::-1][::-1], _preset(), Selection())
    assert not first.twinned.any()
    assert first.region[~first.cancer].any((1, 2)).all()
    assert (first.region & ~first.breast).sum() <= 0.1 * first.region.sum()
    assert np.array_equal(first.region, again.region)


def test_parts_are_by_patient_and_without_whom_the_model_knows(folder: Path) -> None:
    run = load_run(folder / "run")
    data = load_data(folder / "data", run)
    parts = [set(p.patients) for p in (data.learn, data.validate, data.test)]
    assert sum(len(p) for p in parts) == len(set.union(*parts)) == 60
    apart = load_data(folder / "data", run, learn_from=folder / "other")
    assert len(apart.test) == 120
    assert set(apart.learn.patients) | set(apart.validate.patients) == set(
        read_manifest(folder / "other").patients()
    )


def test_nobody_is_tested_whom_the_model_was_trained_on(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder / "run")
    with pytest.raises(InputError, match="trained on every patient"):
        load_data(folder / "trained-on", run)
    some = frozenset(read_manifest(folder / "data").patients().keys() - {"nobody"})
    half = sorted(some)[:30]
    knows = msgspec.structs.replace(run.facts, patients=hashed(set(half)))
    object.__setattr__(run, "facts", knows)
    data = load_data(folder / "data", run)
    everybody = {*data.learn.patients, *data.validate.patients, *data.test.patients}
    assert everybody == some - set(half)
    with pytest.raises(LeakError):
        load_data(folder / "data", load_run(folder / "run"), learn_from=folder / "data")


def test_a_model_of_one_view_is_shown_that_view(folder: Path) -> None:
    run = load_run(folder / "run")
    object.__setattr__(run, "facts", msgspec.structs.replace(run.facts, preset=_preset(views='["CC"]')))
    with pytest.raises(InputError, match="view CC"):
        load_data(folder / "data", run)


def test_generators_of_a_run_are_evaluated_as_they_are(folder: Path) -> None:
    for name, told in (("run", False), ("masked", True)):
        tamper = tamper_of(load_run(folder / name))
        assert (tamper.told, tamper.kind) == (told, "generator")


def test_everything_is_written(result: tuple[Confirmation, Path]) -> None:
    told, out = result
    assert msgspec.json.decode((out / "evaluation.json").read_bytes(), type=Confirmation) == told
    assert [t.name for t in told.tampers][:2] == ["reference-64 (run)", "reference-64 (masked)"]
    assert [t.kind for t in told.tampers][-1] == "truth"
    text = (out / "evaluation.md").read_text()
    assert text == f"# Evaluation\n\n{markdown(told)}\n"
    for tamper in told.tampers:
        assert f"`{tamper.name}`" in text
    assert len(list((out / "classifiers").glob("*.safetensors"))) == 2
    names = {p.name for p in out.glob("*.png")}
    assert {"figure-truth.png", "sheet-truth.png", "figure-reference-64__run_.png"} <= names
    assert not list(out.rglob("*.part"))


def test_weak_classifiers_are_said_to_be_weak(result: tuple[Confirmation, Path]) -> None:
    """Two passes over 54 pictures teach nobody: the tables must not hold figures by such classifiers."""
    told, out = result
    assert not told.assessable
    text = (out / "evaluation.md").read_text()
    assert "Not assessable" in text
    assert told.find("truth").verdict == "not assessable"
    row = next(line for line in text.splitlines() if line.startswith("| truth | plain |"))
    assert row.count(" - |") >= 5


def test_sheets_of_pictures_are_marked(result: tuple[Confirmation, Path]) -> None:
    _, out = result
    for path in out.glob("sheet-*.png"):
        sheet = read_picture(path)
        letters, outline = mark_masks(sheet.shape, "MODIFIED PHANTOMS")
        assert letters.sum() > 500
        assert sheet[letters].min() > sheet[outline].max()


def test_the_page_is_written_from_the_result_file(result: tuple[Confirmation, Path]) -> None:
    told = {
        "confirmation": json.loads(json.dumps(plain(result[0]))),
        "training": [{"preset": "reference-64", "seed": 3, "steps": 1}],
        "options": {"size": SIDE, "contrast": 2.0, "women": 4},
    }
    page = tampering_phantoms.report(told)
    assert "`reference-64` seed 3 (1 steps)" in page
    assert page.endswith(markdown(result[0]))


def test_two_models_that_see_differently_are_refused(folder: Path, tmp_path: Path) -> None:
    train(
        folder / "trained-on",
        _preset(rows="40"),
        tmp_path / "taller",
        settings=Settings(threads=1, sheet_steps=0),
    )
    request = Request(
        data=folder / "data", models=(folder / "run", tmp_path / "taller"), out=tmp_path / "out"
    )
    with pytest.raises(SettingsError, match="otherwise than"):
        evaluate(request)
    with pytest.raises(SettingsError, match="two models"):
        evaluate(replace(request, models=(folder / "run", folder / "run")))


def test_the_same_pictures_under_other_names_are_a_leak(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(folder / "data", copied)
    manifest = read_manifest(copied)
    renamed = tuple(msgspec.structs.replace(image, patient=f"x{image.patient}") for image in manifest.images)
    write_manifest(copied, msgspec.structs.replace(manifest, images=renamed))
    with pytest.raises(LeakError, match="picture"):
        load_data(folder / "data", load_run(folder / "run"), learn_from=copied)


def test_the_command_prints_tables_and_json(folder: Path, result: tuple[Confirmation, Path]) -> None:
    _, out = result
    words = ["tamper", "evaluate", "--data", str(folder / "data"), "--model", str(folder / "run")]
    words += [
        "--out",
        str(out),
        "--epochs",
        "2",
        "--resamples",
        "100",
        "--processing",
        "none",
        "--no-controls",
    ]
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("classifiers/*")}
    printed = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert printed.exit_code == 0, printed.output
    for word in ("identity", "genuine - both", "lesions removed", "cycle error", "below 0.9: plain, smooth"):
        assert word in printed.output
    told = CliRunner().invoke(cli, [*words, "--json", "--quiet"], catch_exceptions=False)
    assert json.loads(told.stdout)["format"] == "scanward-confirmation-1"
    # the classifiers of the same pictures were taken again, none was trained
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("classifiers/*")} == before


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--data", "nowhere", "--model", "run"], 2),
        (["--data", "data", "--model", "nowhere"], 2),
        (["--data", "data", "--model", "run", "--processing", "magic"], 2),
        (["--data", "trained-on", "--model", "run"], 2),
    ],
)
def test_bad_input_is_one_line(folder: Path, tmp_path: Path, words: list[str], status: int) -> None:
    given = [w if w.startswith("-") or w in ("magic",) else str(folder / w) for w in words]
    done = CliRunner().invoke(cli, ["tamper", "evaluate", "--out", str(tmp_path / "out"), *given])
    assert done.exit_code == status
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
