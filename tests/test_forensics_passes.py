"""A detector's training that is cut off goes on from its last pass and ends as one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scanward.errors import LearningError
from scanward.forensics.families import GENUINE, Sample, samples
from scanward.forensics.passes import FILE
from scanward.forensics.training import Network
from scanward.mammography.phantom_sets import write_phantoms

EPOCHS = 3


class CutOff(Exception):
    """As good as the power failing between two passes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("passes") / "women"
    write_phantoms(out, patients=14, rows=48, columns=48, seed=97, prevalence=0.5)
    return out


@pytest.fixture(scope="module")
def taken(data: Path) -> list[Sample]:
    return list(samples(data, [GENUINE, "copy-move"]))


@pytest.fixture(scope="module")
def whole(taken: list[Sample]) -> Network:
    return Network(epochs=EPOCHS, width=8, batch=8).fit(taken)


def weights(network: Network) -> dict[str, torch.Tensor]:
    assert network.network is not None
    return network.network.state_dict()


def same(one: Network, other: Network) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def cut(taken: list[Sample], keep: Path, after: int) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == after:
            raise CutOff

    with pytest.raises(CutOff):
        Network(epochs=EPOCHS, width=8, batch=8, keep=keep, progress=stop).fit(taken)


def shown(taken: list[Sample], keep: Path, **how: int) -> tuple[Network, list[int]]:
    """What a training ends with, and the passes it was told of."""
    told: list[int] = []
    settings = {"epochs": EPOCHS, "width": 8, "batch": 8, **how}
    made = Network(
        **settings,
        keep=keep,
        progress=lambda done, total, loss: told.append(done),  # type: ignore[arg-type]
    )
    return made.fit(taken), told


@pytest.mark.parametrize("after", [1, 2])
def test_it_goes_on_and_ends_alike(taken: list[Sample], whole: Network, tmp_path: Path, after: int) -> None:
    keep = tmp_path / "run" / FILE
    cut(taken, keep, after)
    made, told = shown(taken, keep)
    assert told == list(range(after + 1, EPOCHS + 1))
    assert same(made, whole)


def test_what_was_kept_of_another_training_is_not_gone_on_with(
    taken: list[Sample], whole: Network, tmp_path: Path
) -> None:
    keep = tmp_path / FILE
    cut(taken, keep, 1)
    _, told = shown(taken, keep, seed=5)
    assert told == [1, 2, 3]
    cut(taken, keep, 1)
    _, told = shown(taken[:-1], keep)
    assert told == [1, 2, 3]


def test_what_was_damaged_is_not_gone_on_with(taken: list[Sample], whole: Network, tmp_path: Path) -> None:
    keep = tmp_path / FILE
    cut(taken, keep, 1)
    good = keep.read_bytes()
    for damaged in (
        b"",
        good[: len(good) // 2],
        good[:100] + bytes([good[100] ^ 1]) + good[101:],
        good[:-900] + bytes([good[-900] ^ 1]) + good[-899:],
    ):
        keep.write_bytes(damaged)
        made, told = shown(taken, keep)
        assert told == [1, 2, 3]
        assert same(made, whole)


def test_a_folder_that_cannot_be_written_is_told(taken: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LearningError, match="cannot be kept"):
        shown(taken, tmp_path / "file" / FILE)


def test_chance_outside_is_as_it_was(taken: list[Sample], tmp_path: Path) -> None:
    keep = tmp_path / FILE
    cut(taken, keep, 1)
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    shown(taken, keep)
    assert torch.equal(torch.rand(3), wanted)


def test_the_command_is_killed_and_given_again(data: Path, tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        return [
            *(sys.executable, "-c", "from scanward.cli import main; main()", "detect", "train"),
            *("--data", str(data), "--out", str(out), "--epochs", "12", "--classical", "1", "--json"),
        ]

    out = tmp_path / "cut"
    process = subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not (out / FILE).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    _, errors = process.communicate()
    assert (out / FILE).exists(), errors.decode()
    assert not (out / "detector.safetensors").exists()
    ends = []
    for folder in (out, tmp_path / "whole"):
        done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        ends.append(json.loads(done.stdout)["fingerprint"])
        assert not (folder / FILE).exists()
    assert ends[0] == ends[1]
