"""``scanward demo-images``: a tiny one from the first phantom to the last table, and what running it again does."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from house import REPOSITORY
from scanward.cli import demo_images_caught, demo_images_signed
from scanward.cli.main import cli
from scanward.errors import InputError, SettingsError
from scanward.mammography.manifest import read_manifest
from scanward.tampering import demonstration
from scanward.tampering.checkpoints import checkpoints, hashed, load_run
from scanward.tampering.demonstration import Plan, demonstrate
from scanward.tampering.evaluation import evaluating
from scanward.tampering.marking import marks_of
from scanward.tampering.presets import PRESETS

ARGUMENTS = ["demo-images", "--patients", "10", "--steps", "2", "--seed", "4"]


@dataclass(frozen=True)
class Ran:
    """One tiny demonstration."""

    out: Path
    stdout: str
    stderr: str

    @property
    def found(self) -> dict[str, Any]:
        """What it wrote down."""
        found: dict[str, Any] = json.loads((self.out / "demo-images.json").read_bytes())
        return found


def _drawn(seen: object, path: Path, *, phantom: bool) -> None:
    assert phantom
    path.write_bytes(b"a figure: drawing six takes longer than all the rest")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Few passes and pictures: the way through is tested here, not how well it goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstration, "EPOCHS", 1)
        patch.setattr(demonstration, "RESAMPLES", 100)
        patch.setattr(demonstration, "PROCESSINGS", ("none", "blur-1"))
        patch.setattr(demonstration, "SHOWN", 2)
        patch.setattr(demonstration, "THREADS", 1)
        patch.setattr(demo_images_caught, "EPOCHS", 1)
        patch.setattr(evaluating, "draw_figure", _drawn)
        patch.setitem(os.environ, "OMP_WAIT_POLICY", "PASSIVE")  # set by the command, taken back here
        yield


def run(out: Path, *more: str, arguments: list[str] = ARGUMENTS) -> Ran:
    result = CliRunner().invoke(cli, [*arguments, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return Ran(out, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def ran(small: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("demo-images") / "shown")


def test_it_says_that_all_is_phantoms_first_and_last(ran: Ran) -> None:
    assert ran.stderr.splitlines()[0] == demonstration.NOTICE
    assert ran.stdout.splitlines()[-1] == demonstration.NOTICE
    assert "Phantoms" in demonstration.NOTICE
    assert "defence" in demonstration.NOTICE
    assert ran.found["phantom"] is True


def test_the_sets_share_no_woman(ran: Ran) -> None:
    women = [read_manifest(ran.out / "phantoms" / name).patients() for name in demonstration.SETS]
    assert [len(some) for some in women] == [10, 10, 10, demonstration.SHOWN, 30]
    assert len(set().union(*women)) == sum(len(some) for some in women)
    parts = ran.found["evaluation"]["parts"]
    assert parts["test"]["patients"] == 10
    assert parts["learn"]["patients"] + parts["validate"]["patients"] == 10


def test_every_file_is_there(ran: Ran) -> None:
    files = {Path(path) for path in ran.found["files"]}
    assert all(path.stat().st_size for path in files)
    names = {str(path.relative_to(ran.out)) for path in files}
    assert names >= {
        "demo-images.json",
        "evaluation/evaluation.md",
        "evaluation/evaluation.json",
        "evaluation/sheet-scanward-64.png",
        "evaluation/figure-scanward-64.png",
        "run/sheet-000000002.png",
    }


@pytest.mark.parametrize("direction", ["inserted", "removed"])
def test_modified_phantoms_are_marked_and_no_genuine_one_is(ran: Ran, direction: str) -> None:
    pictures = sorted((ran.out / direction / "images").iterdir())
    assert len(pictures) == demonstration.SHOWN
    for picture in pictures:
        said = marks_of(picture)
        assert said["Synthetic"] == "YES"
        assert said["Visible-Mark"] == "YES"
        assert f"lesion {direction}" in said["Description"]
    for sheet in [*ran.out.glob("run/sheet-*.png"), *ran.out.glob("evaluation/sheet-*.png")]:
        assert marks_of(sheet)["Visible-Mark"] == "YES", sheet
    genuine = sorted((ran.out / "phantoms" / "shown" / "images").iterdir())
    assert len(genuine) == 2 * demonstration.SHOWN
    assert [marks_of(path) for path in genuine] == [{}] * len(genuine)


def test_the_tables_show_model_and_controls(ran: Ran) -> None:
    for name in ("CycleGAN scanward-64", "control: nothing done", "control: inpaint-paste"):
        for says in ("plain", "smooth", "the truth"):
            assert re.search(rf"│ {name} +│ {says} ", ran.stdout), (name, says)
    # By the truth, and so with classifiers as poor as these: who does nothing removes and inserts nothing.
    nothing = r"0 % \(0 to \d+\)"
    assert re.search(rf"control: nothing done +│ the truth +│ {nothing} +│ {nothing}", ran.stdout)
    for place in ("evaluation.md", "inserted", "removed", "sheet-*.png"):
        assert place in ran.stdout


def test_the_same_command_goes_on_and_tells_it_as_json(ran: Ran) -> None:
    checkpoint = ran.out / "run" / "checkpoint-000000002.safetensors"
    before, written = ran.found, checkpoint.stat().st_mtime_ns
    again = run(ran.out, "--json")
    assert "going on" in again.stderr
    found = json.loads(again.stdout)
    assert found == ran.found
    assert found["plan"] == {"patients": 10, "steps": 2, "seed": 4}
    assert found["training"]["begun_at"] == found["training"]["step"] == 2
    assert checkpoint.stat().st_mtime_ns == written
    for told in (before, found):
        for tamper in told["evaluation"]["tampers"]:
            assert tamper.pop("seconds") >= 0
    assert found["evaluation"] == before["evaluation"]
    assert found["files"] == before["files"]
    assert [t["name"] for t in found["evaluation"]["tampers"]][:2] == ["scanward-64", "identity"]
    assert set(found["seconds"]) == {"phantoms", "training", "applying", "evaluation", "noticing"}


@pytest.mark.parametrize("change", [["--steps", "3"], ["--patients", "11"], ["--seed", "5"]])
def test_another_plan_is_refused_by_name(ran: Ran, change: list[str]) -> None:
    result = CliRunner().invoke(cli, [*ARGUMENTS, *change, "--out", str(ran.out)])
    assert result.exit_code == 2
    assert f"another {change[0].removeprefix('--')}" in result.stderr
    assert "remove it" in result.stderr


class _EnoughError(Exception):
    """Raised where a test has seen what it came for."""


def test_stopped_while_training_it_goes_on_and_ends_with_the_same_weights(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def ctrl_c(what: str, total: float | None = None) -> Iterator[demonstration.Step]:
        steps = iter(range(1, 1000))

        def step(advance: float = 1, description: str | None = None) -> None:
            if what == "training" and next(steps) == 2:
                raise KeyboardInterrupt

        yield step

    def enough(*_: Any, **__: Any) -> None:
        raise _EnoughError

    out = tmp_path / "out"
    monkeypatch.setattr(demonstration, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as pressed:
        pressed.setattr("scanward.cli.demo_images.progress", ctrl_c)
        result = CliRunner().invoke(cli, [*ARGUMENTS, "--out", str(out)])
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    assert [path.name for path in checkpoints(out / "run")] == ["checkpoint-000000001.safetensors"]
    assert not (out / "inserted").exists()

    monkeypatch.setattr(demonstration, "apply", enough)
    with pytest.raises(_EnoughError):
        demonstrate(Plan(10, 2, 4), out)
    assert load_run(out / "run").step == 2
    assert load_run(out / "run").fingerprint == load_run(ran.out / "run").fingerprint


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(SettingsError, match="something else"):
        demonstrate(Plan(10, 2), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_spoilt_plan_is_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(InputError, match="not a plan"):
        demonstrate(Plan(10, 2), tmp_path)


def test_out_that_is_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        demonstrate(Plan(10, 2), tmp_path / "file")


@pytest.mark.parametrize("plan", [Plan(9, 2), Plan(10, 2, -1), Plan(10, 2, demonstration.MOST_SEED + 1)])
def test_plans_that_cannot_be_drawn_are_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        demonstrate(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the page


def options(tree: dict[str, Any], stem: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from options(value, f"{stem}{name}.")
        else:
            yield f"{stem}{name}"


def test_the_page_names_every_preset_and_every_option() -> None:
    page = (REPOSITORY / "docs/tampering.md").read_text("utf-8")
    names = {option for preset in PRESETS.values() for option in options(msgspec.to_builtins(preset))}
    names -= {"name", "about"}
    assert len(names) > 30
    assert sorted(name for name in names | set(PRESETS) if f"`{name}`" not in page) == []


# --- who notices


def test_signatures_catch_all_that_was_done_and_the_table_says_so(ran: Ran) -> None:
    said = {case["what"]: case["said"] for case in ran.found["caught"]["signatures"]}
    count = demo_images_caught.PICTURES
    assert all(sum(counts.values()) >= count for counts in said.values())
    assert {what: set(counts) for what, counts in said.items()} == {
        "as it was signed": {"genuine"},
        "picture modified, signature kept": {"altered"},
        "another name, signature kept": {"altered"},
        "picture modified, signature taken out": {"unsigned"},
        "picture modified, signed by the forger": {"untrusted"},
        "never signed": {"unsigned"},
    }
    assert re.search(r"picture modified, signature kept +│ altered +│ altered \(\d+\)", ran.stdout)


def test_the_report_has_every_picture_with_words_and_opens_alone(ran: Ran) -> None:
    page = (ran.out / "report.html").read_text("utf-8")
    texts = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]+)"', page)
    assert page.count("<img") == len(texts) >= demo_images_caught.PICTURES
    assert all("four pictures of one phantom breast" in text for text in texts)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert demonstration.NOTICE in page
    assert page.count("SIMULATED") >= 2
    assert {Path(path).name for path in ran.found["files"]} >= {"report.html", "demo-images.json"}


def test_no_figure_is_dressed_up(ran: Ran) -> None:
    caught = ran.found["caught"]
    auc = caught["detector"]["auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]
    assert caught["readers"]["simulated"] is True
    assert caught["women"] == 10
    assert caught["genuine"] == 20
    for text in caught["words"]:
        assert text in " ".join(ran.stdout.split("\n"))


@pytest.mark.parametrize(
    ("readers", "detector", "said", "not_said"),
    [
        ((0.5, 0.4, 0.6), (0.9, 0.85, 0.95), "told them, ahead of the readers (AUC", "did not tell them"),
        ((0.5, 0.4, 0.6), (0.58, 0.52, 0.64), "by less than chance may explain", "did not tell them"),
        ((0.7, 0.6, 0.8), (0.65, 0.6, 0.7), "no better than the readers", "ahead"),
        ((0.5, 0.4, 0.6), (0.52, 0.45, 0.6), "did not tell them beyond chance", "ahead"),
        (
            (0.2, 0.1, 0.3),
            (0.9, 0.8, 1.0),
            "did not tell modified pictures from genuine ones beyond",
            "chance",
        ),
        ((0.5, 0.4, 0.6), (math.nan, math.nan, math.nan), "did not tell them beyond chance", "ahead"),
    ],
)
def test_words_depend_on_figures(
    readers: tuple[float, float, float],
    detector: tuple[float, float, float],
    said: str,
    not_said: str,
) -> None:
    made = demo_images_caught.Figure
    half = made(0.5, 0.4, 0.6)
    case = demo_images_signed.Case("as it was signed", "genuine", {"altered": 1, "genuine": 5})
    caught = demo_images_caught.Caught(
        10, 20, 20, made(*readers), made(*detector), half, half, 0.05, {"learn": 5}, (case,), ()
    )
    text = " ".join(caught.words)
    assert said in text
    assert not_said not in caught.words[1]
    assert "Signatures did NOT do what they should" in text
    assert "did NOT" in replace(caught, signatures=()).words[2]  # none was asked for
    assert "chance explains" not in text
    assert ("did not tell modified" in caught.words[0]) is (readers[1] <= 0.5)
    json.dumps(caught.as_json(), allow_nan=False)


@pytest.mark.parametrize("change", ["women", "generators"])
def test_a_detector_of_something_else_is_not_taken_for_its_own(ran: Ran, tmp_path: Path, change: str) -> None:
    """One that learned from women of the test would look better than it is."""
    from scanward.forensics import detector_files
    from scanward.forensics.examining import Detector

    def taken(folder: Path) -> Detector:
        return demo_images_caught._detector(
            Plan(10, 2, 4),
            ran.out / "phantoms" / "detector",
            ran.out / "run",
            folder,
            demonstration.silent,
            lambda _: None,
        )

    own = taken(ran.out / "detector")
    seen = set(read_manifest(ran.out / "phantoms" / "test").patients())
    other = {"women": (*own.facts.women, *hashed(seen)), "generators": {"demonstration": "0" * 64}}
    facts = msgspec.structs.replace(own.facts, **{change: other[change]})
    detector_files.write(tmp_path, own._tensors(), facts)
    with pytest.raises(SettingsError, match="did not learn from these phantoms"):
        taken(tmp_path)


def test_pictures_in_the_report_are_marked(ran: Ran) -> None:
    """The modified panel differs from the bare modified picture by the words burned in."""
    from scanward.forensics.families import Sample
    from scanward.forensics.figures import draw_pair

    breast = np.ones((64, 64), np.bool_)
    picture = np.full((64, 64), 20_000, np.uint16)
    picture[0, 0] = 60_000
    genuine = Sample(picture, breast, ~breast, "genuine", "w", "p")
    modified = Sample(picture, breast, breast, demo_images_caught.GENERATOR, "w", "p", cancer=True)
    heat = np.zeros((64, 64), np.float32)
    axes = draw_pair(genuine, modified, heat).axes
    shown = [np.asarray(axis.images[0].get_array()) for axis in axes]
    assert np.array_equal(shown[0], picture.repeat(4, 0).repeat(4, 1))
    assert (shown[1] != shown[0]).sum() > 500
    assert axes[1].get_title() == "MODIFIED"
