"""A training run from command to model: begins or goes on, saves, draws, and leaves a folder that explains itself.

::

    RUN/checkpoint-*.safetensors   the two newest
    RUN/curve.csv                  losses, mean over every 50 steps; curve.open.json: sums of the next row
    RUN/curves.png                 the same, drawn
    RUN/sheet-000004000.png        genuine, altered, change, back again; marked as modified
    RUN/model-card.md              what it is, of what, for what
    RUN/prepared/                  the pictures at the model's size
    RUN/lock                       held while a process trains here
"""

from __future__ import annotations

import datetime
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import torch

from scanward import __version__
from scanward.errors import InputError, LearningError
from scanward.mammography.manifest import read_manifest
from scanward.mammography.splits import Split
from scanward.tampering import checkpoints
from scanward.tampering.batches import Batches
from scanward.tampering.checkpoints import Facts
from scanward.tampering.curve import Curve
from scanward.tampering.model_card import CARD, write_model_card
from scanward.tampering.prepared import Prepared, Selection, prepare
from scanward.tampering.presets import Preset
from scanward.tampering.processes import decided, joined, wait
from scanward.tampering.sheets import draw_curves, draw_sheet
from scanward.tampering.state import State
from scanward.tampering.training import Losses, steps

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
    rank: int = 0  # of this process under torchrun


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
        rank, world, device = stack.enter_context(joined(settings.device, settings.threads))
        _make_folder(run)
        if rank == 0:
            stack.enter_context(_alone(run))
            prepared = prepare(
                data, preset, selection or Selection(), run / "prepared", split=split, progress=preparing
            )
        wait(world)
        if rank > 0:  # finds what rank 0 made
            prepared = prepare(data, preset, selection or Selection(), run / "prepared", split=split)
        trained = _train(prepared, preset, run, settings, progress, rank=rank, world=world, device=device)
        if rank == 0:
            manifest = read_manifest(data)
            with _disk(run / CARD):
                write_model_card(run, licence=manifest.licence, cite=manifest.cite)
        return trained


def total_steps(preset: Preset, prepared: Prepared, world: int = 1) -> int:
    """Steps of a run: the preset's, or its epochs through the larger domain; each process takes a batch of its own."""
    optimiser = preset.optimiser
    if optimiser.epochs == 0:
        return optimiser.steps
    per_epoch = -(-max(len(prepared.healthy), len(prepared.cancer)) // (optimiser.batch * world))
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
    total = total_steps(preset, prepared, world)
    state = State(preset, total, settings.seed, device, world)
    facts = _facts(prepared, preset, settings.seed, world)
    remarks: list[str] = []
    path = run / checkpoints.name_of(0)
    if checkpoints.checkpoints(run):
        tensors, found, path, remarks = checkpoints.newest(run)
        checkpoints.same_training(found, facts, run)
        state.load(tensors, found.step, path, rank)
        del tensors
    begun_at, began = state.step, time.monotonic()
    batches = Batches(prepared, preset, settings.seed, device)
    end = min(total, settings.stop_at or total)
    curve = Curve(run / CURVE, state.step) if rank == 0 else None
    next_save = time.monotonic() + settings.save_seconds

    def save() -> Path:
        state.refuse_spoilt()
        tensors = state.tensors()  # every rank takes part
        if rank > 0:
            return run / checkpoints.name_of(state.step)
        if curve is not None:
            curve.flush(state.step)
        return checkpoints.write(run, tensors, _at(facts, state.step))

    def draw() -> None:
        drawn = run / f"sheet-{state.step:09d}.png"
        if rank == 0 and (
            state.step >= end or (settings.sheet_steps and not state.step % settings.sheet_steps)
        ):
            with _disk(drawn):
                draw_sheet(state, batches, preset, drawn, phantom=prepared.phantom)

    if state.step and not (run / f"sheet-{state.step:09d}.png").exists():
        draw()  # killed between checkpoint and sheet
    for losses in steps(state, batches, preset, rank=rank, world=world) if state.step < end else ():
        if curve is not None:
            curve.add(state.step, losses)
            if progress is not None:
                progress(state.step, total, curve.latest)
        last = state.step >= end
        if decided(last or time.monotonic() >= next_save, world, device):
            path = save()
            next_save = time.monotonic() + settings.save_seconds
        draw()
        if last:
            break
    if rank == 0:
        with _disk(run / "curves.png"):
            draw_curves(run / CURVE, run / "curves.png")
    return Trained(
        run, path, _at(facts, state.step), begun_at, time.monotonic() - began, tuple(remarks), rank
    )


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
        pictures=tuple(sorted(prepared.pictures)),
    )


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", str(run), "give another --out") from error


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold the run's lock: two trainings in one folder would overwrite each other."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((run / "lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another process is training here", str(run), "wait for it, or give another --out"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot be written to: {error.strerror}", str(run), "give another --out"
            ) from error
        yield


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Whatever the disk refuses to hold beside checkpoints."""
    try:
        yield
    except OSError as error:
        raise LearningError(
            f"the picture cannot be written: {error.strerror}",
            str(path),
            "make room and run the same command again: it goes on from the last checkpoint",
        ) from error
