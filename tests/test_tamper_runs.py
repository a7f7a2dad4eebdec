"""Runs that are killed at any moment end with the same weights, curve and sheets; several processes train as one."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from _tamper import Commands, arguments, domains, phantoms, tiny
from scanward.tampering import checkpoints
from scanward.tampering.batches import Batches
from scanward.tampering.state import State
from scanward.tampering.training import steps

STEPS = 14  # two rows of the curve (`_tamper` makes them of five steps), and four steps of the next
HANGING = 120  # s after which a process counts as hung


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return phantoms(place / "phantoms")


@pytest.fixture(scope="module")
def commands(place: Path) -> Iterator[Commands]:
    with Commands(place) as made:
        yield made


def words(data: Path, run: Path, *, count: int = STEPS, every: str = "0.02") -> list[str | Path]:
    options = arguments(optimiser__ema="0.9", augmentation__share="0.5", augmentation__rotate="5")
    return [
        *("tamper", "train", "--data", data, "--preset", "scanward-64", *options, "--steps", str(count)),
        *("--out", run, "--threads", "1", "--save-seconds", every, "--sheet-steps", "7", "--device", "cpu"),
    ]


@pytest.fixture(scope="module")
def undisturbed(place: Path, data: Path, commands: Commands) -> Path:
    status, said = commands.run(words(data, place / "undisturbed", every="1000"))
    assert status == 0, said
    return place / "undisturbed"


def everything(run: Path) -> dict[str, object]:
    tensors, facts, path, remarks = checkpoints.newest(run)
    assert remarks == []
    return {
        "step": facts.step,
        "path": path.name,
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "curve": (run / "curve.csv").read_bytes(),
        "sheets": {sheet.name: sheet.read_bytes() for sheet in run.glob("sheet-*.png")},
        "drawn": (run / "curves.png").exists(),
    }


def same(run: Path, wanted: Path) -> None:
    found, right = everything(run), everything(wanted)
    assert found.keys() == right.keys()
    for name, value in right.items():
        assert found[name] == value, name
    assert len(checkpoints.checkpoints(run)) <= checkpoints.KEPT


def test_the_undisturbed_run_is_whole(undisturbed: Path) -> None:
    found = everything(undisturbed)
    assert found["step"] == STEPS
    assert found["drawn"]
    assert sorted(found["sheets"]) == ["sheet-000000007.png", "sheet-000000014.png"]  # type: ignore[call-overload]
    assert (undisturbed / "curve.csv").read_text().splitlines()[-1].startswith("10,")
    assert not list(undisturbed.rglob("*.part"))


def test_killed_at_random_moments_it_ends_with_the_same_weights(
    place: Path, data: Path, commands: Commands, undisturbed: Path
) -> None:
    run, chance = place / "random", random.Random(7)
    killed, begun_at = 0, set()
    for _ in range(60):
        pid, log = commands.start(words(data, run))
        if killed < 4:
            # the moment is counted from a new checkpoint, so that each attempt gets a little further
            before, deadline = _newest(run), time.monotonic() + HANGING
            while _newest(run) == before and time.monotonic() < deadline and _alive(pid):
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            os.kill(pid, signal.SIGKILL)
        status = commands.wait(pid)
        if status == 0:
            break
        assert status == -signal.SIGKILL, log.read_text()
        killed += 1
        begun_at.add(_newest(run))
    assert killed >= 3
    assert len(begun_at) >= 3
    same(run, undisturbed)


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("half written", 3),
        ("fsync", 5),  # written, not in place
        (
            "before replace",
            6 + 3 * 2,
        ),  # the prepared pictures are put in place first, then three of each save
        ("after replace", 6 + 3 * 2 + 2),
        ("after replace", 2),  # of the prepared pictures
    ],
)
def test_killed_while_it_writes_it_ends_with_the_same_weights(
    place: Path, data: Path, commands: Commands, undisturbed: Path, moment: str, count: int
) -> None:
    run = place / f"writing-{moment}-{count}"
    status, said = commands.run(words(data, run, every="0"), die=(moment, count, run))
    assert status == -signal.SIGKILL, said
    if checkpoints.checkpoints(run):
        for path in checkpoints.checkpoints(run):
            checkpoints.read(path)  # whole or not there
    status, said = commands.run(words(data, run, every="1000"))
    assert status == 0, said
    same(run, undisturbed)


def test_killed_before_its_last_sheet_it_draws_it(
    place: Path, data: Path, commands: Commands, undisturbed: Path
) -> None:
    run = place / "sheets"
    # prepared pictures 6, sheet of step 7, and of the last save curve, sums and checkpoint
    status, said = commands.run(words(data, run, every="1000"), die=("after replace", 6 + 1 + 3, run))
    assert status == -signal.SIGKILL, said
    assert _newest(run) == checkpoints.name_of(STEPS)
    assert not (run / f"sheet-{STEPS:09d}.png").exists()
    assert commands.run(words(data, run))[0] == 0
    same(run, undisturbed)


def test_a_second_process_is_refused_while_one_trains(place: Path, data: Path, commands: Commands) -> None:
    run = place / "locked"
    pid, _ = commands.start(words(data, run, count=100_000))
    try:
        deadline = time.monotonic() + HANGING
        while not _newest(run) and time.monotonic() < deadline:
            time.sleep(0.01)
        status, said = commands.run(words(data, run, count=100_000))
        assert status == 2
        assert "another process is training here" in " ".join(said.split())
    finally:
        os.kill(pid, signal.SIGKILL)
        commands.wait(pid)
    # the lock went with the process: it can be gone on from, for other options it is refused by name
    status, said = commands.run(words(data, run))
    assert status == 2
    assert "other options of preset scanward-64" in " ".join(said.split())


def test_a_run_that_is_done_stays_as_it_is(data: Path, commands: Commands, undisturbed: Path) -> None:
    before = everything(undisturbed)
    status, said = commands.run([*words(data, undisturbed), "--json"])
    assert status == 0, said
    assert f'"begun_at": {STEPS}' in said
    assert everything(undisturbed) == before


def _newest(run: Path) -> str:
    found = checkpoints.checkpoints(run)
    return found[-1].name if found else ""


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def _several(commands: Commands, command: list[str | Path], world: int = 2) -> list[tuple[int, Path]]:
    """What torchrun does: one process for each rank, told by the environment who it is."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(), "WORLD_SIZE": str(world)}
    return [
        commands.start(command, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(world)
    ]


def test_two_processes_learn_as_one_with_the_double_batch(
    place: Path, commands: Commands, data: Path
) -> None:
    """One step: the mean of the gradients of two batches is the gradient of both together, where losses are means."""
    run = place / "two-one"
    options = arguments(optimiser__batch="2", optimiser__pool="50", augmentation__share="0")
    command: list[str | Path] = [
        *("tamper", "train", "--data", data, "--preset", "reference-64", *options, "--steps", "1"),
        *("--out", run, "--threads", "1", "--sheet-steps", "0", "--seed", "3"),
    ]
    started = _several(commands, command)
    statuses = [commands.wait(pid) for pid, _ in started]
    assert statuses == [0, 0], "\n".join(log.read_text() for _, log in started)
    assert "trained" in started[0][1].read_text()
    assert "trained" not in started[1][1].read_text()  # one speaks for all
    tensors, facts, _, _ = checkpoints.newest(run)
    assert facts.world == 2

    from scanward.tampering.prepared import Selection, prepare

    double = tiny(
        name="reference-64",
        optimiser__batch="4",
        optimiser__pool="50",
        augmentation__share="0",
        optimiser__steps="1",
    )
    state = State(double, 1, 3, torch.device("cpu"))
    fresh = {name: tensor.clone() for name, tensor in state.tensors().items()}
    prepared = prepare(data, double, Selection(), run / "prepared")
    for _ in steps(state, Batches(prepared, double, 3, torch.device("cpu")), double):
        pass
    moments = 0
    for name, tensor in state.tensors().items():
        if name.endswith("exp_avg"):  # a tenth of the gradient of the first step
            # a bias before a norm has no gradient but rounding
            assert torch.allclose(tensors[name], tensor, rtol=1e-3, atol=1e-6), name
            moments += int(float(tensor.abs().max()) > 1e-5)
    assert moments > 10
    weights = "insert.head.0.weight"
    assert torch.allclose(tensors[weights], state.tensors()[weights], atol=1e-6)
    assert not torch.equal(tensors[weights], fresh[weights])


def test_two_processes_killed_and_gone_on_with_end_the_same(
    place: Path, commands: Commands, data: Path
) -> None:
    """Under a real torchrun: the death of one ends all, without a broken checkpoint; the same command goes on."""
    whole, run = place / "two", place / "two-killed"
    started = _several(commands, words(data, whole, count=10, every="1000"))
    assert [commands.wait(pid) for pid, _ in started] == [0, 0], started[0][1].read_text()

    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
         "--master-port", _free_port(), "-m", "scanward.cli", *map(str, words(data, run, count=10, every="0"))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    deadline = time.monotonic() + HANGING
    while not _newest(run) and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    ranks = _children(launcher.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    assert launcher.wait(HANGING) != 0
    assert not any(_alive(pid) for pid in ranks)
    assert _newest(run) < checkpoints.name_of(10)
    for path in checkpoints.checkpoints(run):
        checkpoints.read(path)

    # with one process it is another training
    status, said = commands.run(words(data, run, count=10))
    assert status == 2
    assert "2 processes" in " ".join(said.split())
    started = _several(commands, words(data, run, count=10, every="1000"))
    assert [commands.wait(pid) for pid, _ in started] == [0, 0], started[0][1].read_text()
    (mine, _, _, _), (right, _, _, _) = checkpoints.newest(run), checkpoints.newest(whole)
    assert mine.keys() == right.keys()
    assert all(torch.equal(mine[name], right[name]) for name in right)


def test_a_process_that_loses_the_others_says_so(place: Path, commands: Commands, data: Path) -> None:
    run = place / "two-lost"
    started = _several(commands, words(data, run, count=100_000))
    deadline = time.monotonic() + HANGING
    while not _newest(run) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(started[1][0], signal.SIGKILL)
    assert commands.wait(started[1][0]) == -signal.SIGKILL
    assert commands.wait(started[0][0]) == 1
    said = " ".join(started[0][1].read_text().split())
    assert "another process of this run ended" in said
    assert "Traceback" not in said
    for path in checkpoints.checkpoints(run):
        checkpoints.read(path)


def test_epochs_are_counted_over_all_processes() -> None:
    from scanward.tampering.running import total_steps

    preset = tiny(name="reference", optimiser__epochs="3", optimiser__batch="2")
    assert total_steps(preset, domains(20, 5)) == 3 * 10
    assert total_steps(preset, domains(20, 5), world=2) == 3 * 5
    assert total_steps(preset, domains(5, 21)) == 3 * 11


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()]
