"""Training on what cannot be trained on: each a clear error of ours, and what was there before stays whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from msgspec.structs import replace

from _tamper import Commands, arguments, phantoms, tiny
from scanward.cli.main import cli
from scanward.errors import DecodeError, InputError, LeakError, LearningError, ScanwardError, SettingsError
from scanward.mammography.manifest import Label, Manifest, read_manifest, write_manifest
from scanward.mammography.pictures import read_picture, write_picture
from scanward.mammography.splits import Split, split_by_patient
from scanward.tampering import checkpoints, curve, training
from scanward.tampering.prepared import Selection, prepare
from scanward.tampering.presets import change, find
from scanward.tampering.running import Settings, train

QUICK = Settings(device="cpu", threads=1, save_seconds=0, sheet_steps=0)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture
def data(genuine: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(genuine, tmp_path / "data"))


def rewritten(data: Path, **changes: object) -> Manifest:
    """The data set with something else said of every image."""
    manifest = read_manifest(data)
    made = replace(manifest, images=tuple(replace(image, **changes) for image in manifest.images))
    write_manifest(data, made)
    return made


def refused(kind: type[ScanwardError], said: str, data: Path, run: Path, **options: str) -> ScanwardError:
    with pytest.raises(kind, match=said) as found:
        train(data, tiny(optimiser__steps="4", **options), run, settings=QUICK)
    assert not checkpoints.checkpoints(run)
    assert found.value.what
    assert found.value.todo
    return found.value


def test_corrupt_pixels(genuine: Path, data: Path, tmp_path: Path) -> None:
    image = read_manifest(data).images[2]
    path = data / image.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    error = refused(DecodeError, "not a readable PNG", data, tmp_path / "run")
    assert image.name in error.where
    path.write_bytes(content[:100])
    refused(DecodeError, "not a readable PNG", data, tmp_path / "run")
    path.unlink()
    refused(InputError, "no such picture", data, tmp_path / "run")
    shutil.copy(genuine / image.file, path)  # mended, the same folder can be trained in
    assert train(data, tiny(optimiser__steps="1"), tmp_path / "run", settings=QUICK).facts.step == 1


def test_a_picture_that_is_another_one_is_found(data: Path, tmp_path: Path) -> None:
    image = read_manifest(data).images[0]
    pixels = read_picture(data / image.file)
    write_picture(data / image.file, (pixels // 2).astype(np.uint16))
    refused(DecodeError, "not those that were imported", data, tmp_path / "run")


def test_unlabelled_data(data: Path, tmp_path: Path) -> None:
    rewritten(data, label=Label.UNKNOWN, lesions=())
    error = refused(InputError, "domain healthy and the domain cancer", data, tmp_path / "run")
    assert "6 unknown" in error.where


@pytest.mark.parametrize(("label", "missing"), [(Label.NORMAL, "cancer"), (Label.MALIGNANT, "healthy")])
def test_one_domain(data: Path, tmp_path: Path, label: Label, missing: str) -> None:
    rewritten(data, label=label)
    refused(InputError, f"the domain {missing} has no image", data, tmp_path / "run")


def test_no_picture_of_the_preset_s_views(data: Path, tmp_path: Path) -> None:
    refused(InputError, "in view CC", data, tmp_path / "run", views='["CC"]')


def test_no_lesion_has_a_place_and_the_preset_needs_one(data: Path, tmp_path: Path) -> None:
    manifest = rewritten(data)
    nowhere = [
        replace(i, lesions=tuple(replace(x, raster=None, circle=None, outline=()) for x in i.lesions))
        for i in manifest.images
    ]
    write_manifest(data, replace(manifest, images=tuple(nowhere)))
    error = refused(InputError, "where its lesion lies", data, tmp_path / "run")
    assert "mask_channel" in error.todo
    free = change(
        find("scanward-64-free"), {"optimiser.steps": "1", "generator.filters": "2", "generator.blocks": "0"}
    )
    assert train(data, free, tmp_path / "free", settings=QUICK).facts.step == 1


def test_a_patient_in_two_parts_of_the_split(data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data)
    split = split_by_patient(manifest, {"train": 0.5, "test": 0.5})
    both = {**split.parts, "test": (*split.parts["test"], split.parts["train"][0])}
    for wrong in (replace(split, parts=both),):
        with pytest.raises(LeakError, match=split.parts["train"][0]):
            train(data, tiny(), tmp_path / "run", Selection(part="train"), QUICK, split=wrong)
    with pytest.raises(SettingsError, match="no part 'tain'"):
        train(data, tiny(), tmp_path / "run", Selection(part="tain"), QUICK, split=split)
    made = prepare(data, tiny(), Selection(part="train"), tmp_path / "prepared", split=split)
    assert made.patients() == set(split.parts["train"])
    assert isinstance(split, Split)


def test_a_label_in_both_domains(data: Path, tmp_path: Path) -> None:
    both = Selection(healthy=(Label.NORMAL,), cancer=(Label.NORMAL, Label.MALIGNANT))
    with pytest.raises(SettingsError, match="both domains"):
        train(data, tiny(), tmp_path / "run", both, QUICK)


def test_prepared_pictures_that_are_cut_off(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(data, tiny(optimiser__steps="1"), run, settings=QUICK)
    left = checkpoints.checkpoints(run)[0].read_bytes()
    path = next((run / "prepared").glob("cancer-*-grey.raw"))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="cut off"):
        train(data, tiny(optimiser__steps="1"), run, settings=QUICK)
    assert checkpoints.checkpoints(run)[0].read_bytes() == left


def test_a_loss_that_is_no_number(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates far too high from the fourth step on: training ends, and what was saved is whole."""
    calls = 0

    def far_too_high(adam: torch.optim.Optimizer, rate: float) -> None:
        nonlocal calls
        calls += 1  # twice in a step
        adam.param_groups[0]["lr"] = rate if calls <= 6 else 1e30

    monkeypatch.setattr(training, "_set_rate", far_too_high)
    run = tmp_path / "run"
    with pytest.raises(LearningError, match="diverged") as found:
        train(data, tiny(name="reference-64", optimiser__steps="60"), run, settings=QUICK)
    assert "earlier checkpoints are whole" in found.value.todo
    assert checkpoints.newest(run)[1].step >= 3
    for path in checkpoints.checkpoints(run):
        tensors, _ = checkpoints.read(path)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_devices_that_are_not_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, said in (
        ("cuda", "no CUDA"),
        ("cuda:1", "no CUDA"),
        ("gpu", "no such device"),
        ("meta", "no training"),
    ):
        with pytest.raises(SettingsError, match=said):
            train(data, tiny(), tmp_path / "run", settings=Settings(device=device))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("RANK", "-1"), ("LOCAL_RANK", "")]
)
def test_an_environment_that_is_no_torchrun(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        train(data, tiny(), tmp_path / "run", settings=QUICK)


def test_folders_that_cannot_be_trained_in(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("something else")
    for run in (file, file / "below"):
        with pytest.raises(InputError, match="cannot be made"):
            train(data, tiny(), run, settings=QUICK)
    assert file.read_text() == "something else"
    run = tmp_path / "locked"
    (run / "lock").mkdir(parents=True)  # as root, modes alone would keep nobody out
    with pytest.raises(InputError, match="cannot be written to"):
        train(data, tiny(), run, settings=QUICK)
    run = tmp_path / "prepared"
    run.mkdir()
    (run / "prepared").write_text("a file")
    with pytest.raises(LearningError, match="prepared pictures cannot be written"):
        train(data, tiny(), run, settings=QUICK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o555)
    with pytest.raises(InputError, match="cannot be written to"):
        train(data, tiny(), run, settings=QUICK)


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set here"):
        train(tmp_path, tiny(), tmp_path / "run", settings=QUICK)


def test_a_damaged_curve_costs_its_rows_and_never_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "LOG_EVERY", 3)
    run, preset = tmp_path / "run", tiny(optimiser__steps="9")
    train(data, preset, run, settings=replace_stop(3))
    damages = (b"\x00\xff\xfe\n", b"step,insert\n3,many\n,\n4\n", b'"' * 300_000, b"")
    for step, damage in enumerate(damages, start=4):
        (run / "curve.csv").write_bytes(damage)
        (run / "curve.open.json").write_bytes(damage)
        assert train(data, preset, run, settings=replace_stop(step)).facts.step == step
    train(data, preset, run, settings=QUICK)
    assert (run / "curve.csv").read_text().splitlines()[-1].startswith("9,")


def replace_stop(stop_at: int) -> Settings:
    return Settings(device="cpu", threads=1, save_seconds=1000, sheet_steps=0, stop_at=stop_at)


# --- disk full: a bound on file sizes gives the same errors, at a place that can be chosen


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("commands")) as made:
        yield made


def words(data: Path, run: Path, *more: str) -> list[str | Path]:
    return [
        *("tamper", "train", "--data", data, "--preset", "scanward-64", *arguments(), "--steps", "4"),
        *(
            "--out",
            run,
            "--threads",
            "1",
            "--device",
            "cpu",
            "--save-seconds",
            "0",
            "--sheet-steps",
            "0",
            *more,
        ),
    ]


@pytest.mark.parametrize(("bytes_left", "said"), [(500, "prepared pictures"), (9_000, "checkpoint")])
def test_a_full_disk(genuine: Path, tmp_path: Path, commands: Commands, bytes_left: int, said: str) -> None:
    run = tmp_path / "run"
    if said != "prepared pictures":  # there is something to lose
        train(genuine, tiny(optimiser__steps="4"), run, settings=replace_stop(2))
    before = {path: path.read_bytes() for path in checkpoints.checkpoints(run)}
    status, printed = commands.run(words(genuine, run), file_size=bytes_left)
    assert status == 1
    flat = " ".join(printed.split())
    assert said in flat
    assert "make room" in flat
    assert "Traceback" not in flat
    assert {path: path.read_bytes() for path in checkpoints.checkpoints(run)} == before
    status, printed = commands.run(words(genuine, run))  # there is room again
    assert status == 0, printed
    assert checkpoints.newest(run)[1].step == 4


@pytest.mark.parametrize(
    ("blocked", "said"),
    [
        ("curve.open.json.part", "curve cannot be written"),
        ("sheet-000000004.png.part", "picture cannot be written"),
        ("checkpoint-000000004.part", "checkpoint cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told(genuine: Path, tmp_path: Path, blocked: str, said: str) -> None:
    """A folder in the way of each file in turn: whatever else the disk refuses ends in the same place."""
    run = tmp_path / "run"
    preset = tiny(optimiser__steps="4")
    train(genuine, preset, run, settings=replace_stop(2))
    (run / blocked).mkdir()
    before = {path: path.read_bytes() for path in checkpoints.checkpoints(run)}
    with pytest.raises(LearningError, match=said) as found:
        train(genuine, preset, run, settings=Settings(device="cpu", threads=1, save_seconds=1000))
    assert "make room" in found.value.todo
    for path, content in before.items():
        assert path.read_bytes() == content
    (run / blocked).rmdir()
    assert train(genuine, preset, run, settings=QUICK).facts.step == 4
    assert (run / "sheet-000000004.png").exists()


# --- the command line


def invoked(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["tamper", "train", *map(str, words)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--preset", "none"), "no preset 'none'"),
        (("--preset", "reference", "--set", "rows"), "sets nothing"),
        (("--preset", "reference", "--set", "rows=17"), "multiples of 4"),
        (("--preset", "reference", "--part", "train"), "--part needs a split"),
        (("--preset", "reference", "--split", "/nowhere.json"), "/nowhere.json"),
        (("--preset", "reference", "--steps", "0"), "0 is not in the range"),
        (("--preset", "reference", "--cancer", "unknown"), "'unknown' is not one of"),
    ],
)
def test_commands_that_make_no_sense(data: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = invoked("--data", data, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()
