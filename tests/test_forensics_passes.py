"""A detector's training that is cut off goes on from its last pass and ends as one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scanward.errors import LearningError
from scanward.forensics.families import GENUINE, Sample, samples
from scanward.forensics.passes import Passes
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


def cut(taken: list[Sample], keep: Path, after: int) -> Path:
    """Train, be cut off; the file that is left."""

    def stop(done: int, total: int, loss: float) -> None:
        if done == after:
            raise CutOff

    with pytest.raises(CutOff):
        Network(epochs=EPOCHS, width=8, batch=8, keep=keep, progress=stop).fit(taken)
    (left,) = keep.glob("training-*")
    return left


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


@pytest.mark.parametrize("after", [1, 2, 3])
def test_it_goes_on_and_ends_alike(taken: list[Sample], whole: Network, tmp_path: Path, after: int) -> None:
    cut(taken, tmp_path / "run", after)
    made, told = shown(taken, tmp_path / "run")
    assert told == list(range(after + 1, EPOCHS + 1))
    assert same(made, whole)
    assert made.passes is not None
    (tmp_path / "run" / f"{made.passes.path.name}.part").write_bytes(b"of a kill")
    made.passes.forget()
    assert not list((tmp_path / "run").iterdir())


def test_trainings_of_other_pictures_settings_and_threads_keep_their_own(
    taken: list[Sample], tmp_path: Path
) -> None:
    first = cut(taken, tmp_path, 1)
    before = first.read_bytes()
    for pictures, how in ((taken, {"seed": 5}), (taken[:-1], {}), (taken, {"batch": 4})):
        _, told = shown(pictures, tmp_path, **how)
        assert told == [1, 2, 3]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        _, told = shown(taken, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert told == [1, 2, 3]
    assert first.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 5
    assert shown(taken, tmp_path)[1] == [2, 3]


def test_what_was_damaged_is_not_gone_on_with(taken: list[Sample], whole: Network, tmp_path: Path) -> None:
    left = cut(taken, tmp_path, 1)
    good = left.read_bytes()
    damaged = [b"", good[: len(good) // 2], good[:-900] + bytes([good[-900] ^ 1]) + good[-899:]]
    header = good.index(b"training")
    for words in (rb"\"done\": 1", rb"\"weight_decay\": 0.01", rb"\"last_epoch\": "):
        at = good.index(words, header) + len(words) - 1
        damaged.append(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    for each in damaged:
        left.write_bytes(each)
        made, told = shown(taken, tmp_path)
        assert told == [1, 2, 3]
        assert same(made, whole)


@pytest.mark.parametrize("told", ["[]", "null", "[" * 100_000, "{}", '{"what": 3}'])
def test_what_is_no_state_is_not_gone_on_with(
    taken: list[Sample], whole: Network, tmp_path: Path, told: str
) -> None:
    left = cut(taken, tmp_path, 1)
    save_file({"network.x": torch.zeros(2)}, left, {"training": told, "sha256": "0"})
    made, passes = shown(taken, tmp_path)
    assert passes == [1, 2, 3]
    assert same(made, whole)


def test_a_state_that_somebody_made_is_an_error_and_no_half_of_a_network(
    taken: list[Sample], tmp_path: Path
) -> None:
    passes = Passes(tmp_path, "ab" * 32)
    small = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(small.parameters())
    falling = torch.optim.lr_scheduler.ConstantLR(adam)
    passes.keep(1, small, adam, falling)
    other = torch.nn.Linear(3, 2)
    with pytest.raises(LearningError, match="does not fit"):
        passes.resume(other, torch.optim.Adam(other.parameters()), falling)


def test_a_folder_that_cannot_be_written_is_told(taken: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LearningError, match="cannot be kept"):
        shown(taken, tmp_path / "file" / "run")


def test_chance_outside_is_as_it_was(taken: list[Sample], tmp_path: Path) -> None:
    keep = tmp_path
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
    while (
        not list(out.glob("training-*.safetensors"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.kill()
    _, errors = process.communicate()
    assert list(out.glob("training-*.safetensors")), errors.decode()
    assert not (out / "detector.safetensors").exists()
    ends = []
    for folder in (out, tmp_path / "whole"):
        done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        ends.append(json.loads(done.stdout)["fingerprint"])
        assert {p.name for p in folder.iterdir()} == {"detector.safetensors", "model-card.md", "roc.png"}
    assert ends[0] == ends[1]
