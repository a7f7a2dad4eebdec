"""A training run from command to model: begins or goes on, saves, draws, and leaves a folder that explains itself.

::

    RUN/checkpoint-*.safetensors   the two newest
    RUN/curve.csv                  losses, mean over every 50 steps
    RUN/curves.png                 the same, drawn
    RUN/sheet-000004000.png        genuine, altered, change, back again; marked as modified
    RUN/model-card.md              what it is, of what, for what
    RUN/prepared/                  the pictures at the model's size
    RUN/lock                       held while a process trains here
"""

from __future__ import annotations

import csv
import datetime
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import torch
import torch.distributed as dist

from scanward import __version__
from scanward.errors import InputError, LearningError, SettingsError
from scanward.mammography.splits import Split
from scanward.tampering import checkpoints
from scanward.tampering.batches import Batches
from scanward.tampering.checkpoints import Facts
from scanward.tampering.prepared import Prepared, Selection, prepare
from scanward.tampering.presets import Preset
from scanward.tampering.sheets import draw_curves, draw_sheet
from scanward.tampering.state import State
from scanward.tampering.training import Losses, steps

LOG_EVERY = 50  # steps of which one row of the curve is the mean
CURVE = "curve.csv"


class Progress(Protocol):
    """Told of every step: how many are done of how many, and the latest mean losses."""

    def __call__(self, done: int, total: int, losses: Losses) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is made; what it learns is in the preset."""

    seed: int = 0
    device: str = "auto"
    threads: int | None = None  # of the CPU; None: all cores
    save_seconds: float = 120.0  # between checkpoints: what a kill costs at most
    sheet_steps: int = 1000  # between sample sheets; 0: none but the last
    stop_at: int | None = (
        None  # stop after this step with a checkpoint, as if killed: for tests and schedulers
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """What a call of `train` did."""

    run: Path
    checkpoint: Path
    facts: Facts
    begun_at: int  # step
    seconds: float
    remarks: tuple[str, ...]


def train(
    data: Path,
    preset: Preset,
    run: Path,
    selection: Selection | None = None,
    settings: Settings | None = None,
    *,
    split: Split | None = None,
    progress: Progress | None = None,
    preparing: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a preset on a data set, or go on with what was begun in ``run``.

    Raises
    ------
    InputError
        Data that cannot be used, or a run that was begun with other options.
    LeakError
        A split with a patient in two parts.
    LearningError
        A loss that is not finite, or a disk that is full: earlier checkpoints are whole.
    """
    settings = settings or Settings()
    preset.check()
    with ExitStack() as stack:
        rank, world, device = stack.enter_context(_processes(settings))
        _make_folder(run)
        if rank == 0:
            stack.enter_context(_alone(run))
            prepared = prepare(
                data, preset, selection or Selection(), run / "prepared", split=split, progress=preparing
            )
        if world > 1:
            dist.barrier()
            if rank > 0:  # finds what rank 0 made
                prepared = prepare(data, preset, selection or Selection(), run / "prepared", split=split)
        return _train(prepared, preset, run, settings, progress, rank=rank, world=world, device=device)


def total_steps(preset: Preset, prepared: Prepared) -> int:
    """Steps of a run: the preset's, or its epochs through the larger domain."""
    optimiser = preset.optimiser
    if optimiser.epochs == 0:
        return optimiser.steps
    per_epoch = -(-max(len(prepared.healthy), len(prepared.cancer)) // optimiser.batch)
    return optimiser.epochs * per_epoch


def _train(
    prepared: Prepared,
    preset: Preset,
    run: Path,
    settings: Settings,
    progress: Progress | None,
    *,
    rank: int,
    world: int,
    device: torch.device,
) -> Trained:
    total = total_steps(preset, prepared)
    state = State(preset, total, settings.seed, device, world)
    facts = _facts(prepared, preset, settings.seed, world)
    remarks: list[str] = []
    if checkpoints.checkpoints(run):
        tensors, found, path, remarks = checkpoints.newest(run)
        checkpoints.same_training(found, facts, run)
        state.load(tensors, found.step, path, rank)
        del tensors
    begun_at, began = state.step, time.monotonic()
    path = checkpoints.checkpoints(run)[-1] if state.step else run / checkpoints.name_of(0)
    batches = Batches(prepared, preset, settings.seed, device)
    end = min(total, settings.stop_at or total)
    curve = _Curve(run / CURVE, state.step) if rank == 0 else None
    next_save = time.monotonic() + settings.save_seconds

    def save() -> Path:
        tensors = state.tensors()  # every rank takes part
        if rank > 0:
            return run / checkpoints.name_of(state.step)
        if curve is not None:
            curve.flush()
        return checkpoints.write(run, tensors, _at(facts, state.step))

    for losses in steps(state, batches, preset, rank=rank, world=world) if state.step < end else ():
        if curve is not None:
            curve.add(state.step, losses)
            if progress is not None:
                progress(state.step, total, curve.latest)
        last = state.step >= end
        due = time.monotonic() >= next_save
        if world > 1:  # one clock decides for all: rank 0's
            word = torch.tensor(float(due), device=device)
            dist.broadcast(word, 0)
            due = bool(word)
        if due or last:
            path = save()
            next_save = time.monotonic() + settings.save_seconds
        if rank == 0 and (last or (settings.sheet_steps and state.step % settings.sheet_steps == 0)):
            draw_sheet(state, batches, preset, run / f"sheet-{state.step:09d}.png", phantom=prepared.phantom)
        if last:
            break
    if rank == 0:
        draw_curves(run / CURVE, run / "curves.png")
    return Trained(run, path, _at(facts, state.step), begun_at, time.monotonic() - began, tuple(remarks))


def _at(facts: Facts, step: int) -> Facts:
    return msgspec.structs.replace(facts, step=step)


def _facts(prepared: Prepared, preset: Preset, seed: int, world: int) -> Facts:
    return Facts(
        preset=preset,
        step=0,
        seed=seed,
        world=world,
        data=prepared.fingerprint,
        kind=prepared.kind,
        phantom=prepared.phantom,
        healthy=len(prepared.healthy),
        cancer=len(prepared.cancer),
        patients=checkpoints.hashed(prepared.patients()),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        scanward=__version__,
        torch=str(torch.__version__),
    )


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", str(run), "give another --out") from error


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold the run's lock: two trainings in one folder would overwrite each other."""
    with (run / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another process is training here", str(run), "wait for it, or give another --out"
            ) from error
        yield


@contextmanager
def _processes(settings: Settings) -> Iterator[tuple[int, int, torch.device]]:
    """Rank, number of processes and device; under torchrun joins the group it describes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError("there is no CUDA device", "--device", "use --device cpu")
    if name == "cuda":
        name = f"cuda:{local}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"no such device '{name}'", "--device", "use auto, cpu or cuda") from error
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // world))
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield rank, world, device
    finally:
        torch.set_num_threads(before)
        if world > 1:
            dist.destroy_process_group()


class _Curve:
    """Losses as CSV, a mean per `LOG_EVERY` steps; rows after the checkpoint that is gone on from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        if step and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if _step_of(row) <= step]
        self._sums: Losses = {}
        self._count = 0
        self.latest: Losses = {}

    def add(self, step: int, losses: Losses) -> None:
        if losses:
            self._count += 1
            for name, value in losses.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        if step % LOG_EVERY == 0 and self._count:
            self.latest = {name: value / self._count for name, value in self._sums.items()}
            self._rows.append({"step": str(step)} | {name: f"{v:.6g}" for name, v in self.latest.items()})
            self._sums, self._count = {}, 0

    def flush(self) -> None:
        if not self._rows:
            return
        draft = self._path.with_suffix(".part")
        try:
            with draft.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self._rows[-1]), extrasaction="ignore", restval="")
                writer.writeheader()
                writer.writerows(self._rows)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise LearningError(
                f"the curve cannot be written: {error.strerror}",
                str(self._path),
                "make room and run the same command again: it goes on from the last checkpoint",
            ) from error


def _step_of(row: dict[str, str]) -> int:
    try:
        return int(row.get("step") or 0)
    except ValueError:
        return 0
