"""The demonstration of the images wing: phantoms, a CycleGAN trained on them, lesions put in and taken out, figures.

::

    OUT/plan.json            what was asked: the same command goes on here, another one is refused
    OUT/phantoms/            sets of phantom women who have nobody in common
    OUT/run/                 the training run (`scanward.tampering.running`)
    OUT/inserted/, removed/  a few larger phantoms with a lesion put in, and taken out; marked as modified
    OUT/evaluation/          tables, figures and marked sheets (`scanward.tampering.evaluation.evaluating`)
    OUT/demo-images.json     all that was found

A part that is whole is taken as it is, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from scanward import __version__
from scanward.errors import InputError, SettingsError
from scanward.mammography.manifest import MANIFEST
from scanward.mammography.phantom_sets import write_phantoms
from scanward.tampering.applying import apply
from scanward.tampering.checkpoints import Direction, load_run
from scanward.tampering.evaluation.evaluating import Request, evaluate
from scanward.tampering.evaluation.results import Confirmation
from scanward.tampering.presets import Preset, change, find, fingerprint
from scanward.tampering.running import Settings, Trained, train

NOTICE = (
    "Phantoms, drawn by a program: no patient, no mammogram. For research into defence against tampering. "
    "Scanward is not a medical device."
)
PRESET = "scanward-64"
SETS = ("generator", "classifiers", "test", "shown", "detector")
SHOWN = 8  # women of the fourth set
DETECTOR = 3  # times as many women for the last set: a detector needs them
SHOWN_SIDE = 128  # px of their pictures: large enough for the mark to be read
CONTRAST = 1.25  # of lesions, times the usual: so that classifiers learn them in the time there is
EPOCHS = 14  # passes of a classifier at most; `tamper evaluate` takes 16
RESAMPLES = 1000
# A classifier's score must survive each of these, so that no code hidden in the picture passes for a lesion.
PROCESSINGS = ("none", "blur-1", "jpeg-75")
MODIFIED: dict[Direction, str] = {"insert": "inserted", "remove": "removed"}
THREADS = 2
FOUND = "demo-images.json"
SAVE_SECONDS = 20.0  # what stopping costs at most
LEAST_PATIENTS = 10  # below it a part of the classifiers' split may be empty
MOST_SEED = (1 << 32) // len(SETS) - 1  # a set's seed is one word


class Step(Protocol):
    """What a progress bar hands out (as ``cli.output.progress`` does)."""

    def __call__(self, advance: float = 1, description: str | None = None) -> None:
        """Move on by ``advance`` pieces of work."""
        ...


Progress = Callable[[str, float | None], AbstractContextManager[Step]]


@contextmanager
def silent(description: str, total: float | None = None) -> Iterator[Step]:
    """No progress bar."""
    yield lambda advance=1, description=None: None


@dataclass(frozen=True)
class Plan:
    """What to draw and to train: ``patients`` women in each of the three sets, both breasts, a lesion in one."""

    patients: int = 500
    steps: int = 600
    seed: int = 0

    def check(self) -> None:
        """SettingsError when there is too little to learn from, or no such seed."""
        if self.patients < LEAST_PATIENTS:
            raise SettingsError(
                f"{self.patients} women",
                "--patients",
                f"give {LEAST_PATIENTS} or more: a part would be empty",
            )
        if not 0 <= self.seed <= MOST_SEED:
            raise SettingsError(f"seed {self.seed}", "--seed", f"give 0 to {MOST_SEED}")

    @property
    def preset(self) -> Preset:
        """The arrangement that is trained."""
        return change(find(PRESET), {"optimiser.steps": str(self.steps)})

    def as_json(self) -> dict[str, Any]:
        """As it stands in plan.json: what must be the same for a run to go on."""
        return {**asdict(self), "preset": fingerprint(self.preset), "scanward": __version__}


@dataclass
class Shown:
    """Everything the demonstration found and wrote."""

    plan: Plan
    trained: Trained
    found: Confirmation
    files: list[Path]
    seconds: dict[str, float] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # what others found in it

    def as_json(self) -> dict[str, Any]:
        """The shape of ``scanward demo-images --json`` and of ``demo-images.json``."""
        facts = self.trained.facts
        return {
            "phantom": facts.phantom,
            "notice": NOTICE,
            "plan": asdict(self.plan),
            "training": {
                "run": str(self.trained.run),
                "checkpoint": self.trained.checkpoint.name,
                "preset": facts.preset.name,
                "step": facts.step,
                "begun_at": self.trained.begun_at,
                "healthy": facts.healthy,
                "cancer": facts.cancer,
            },
            "evaluation": self.found.as_json(),
            **self.more,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "files": [str(path) for path in self.files],
        }


def demonstrate(
    plan: Plan, out: Path, progress: Progress = silent, note: Callable[[str], None] = lambda _: None
) -> Shown:
    """Draw, train, modify, evaluate, or go on with that; everything below ``out``.

    Raises
    ------
    SettingsError
        A plan that cannot be carried out; ``out`` holds something else, or a demonstration with other options.
    InputError, LearningError
        See `scanward.tampering.running.train` and `scanward.tampering.evaluation.evaluating.evaluate`.
    """
    plan.check()
    if _claim(plan, out):
        note(f"going on with what {out} holds; remove it to begin anew")
    seconds: dict[str, float] = {}

    note(
        f"drawing three sets of {plan.patients} phantom women, {women_of(plan, 'detector')} for a "
        f"detector, and {SHOWN} "
        "to look at"
    )
    with timed(seconds, "phantoms"):
        data = {name: _phantoms(plan, out, name, progress) for name in SETS}

    note(f"training {PRESET}, {plan.steps} steps")
    with timed(seconds, "training"):
        trained = _train(plan, data["generator"], out / "run", progress)
    for remark in trained.remarks:
        note(remark)

    note("inserting and removing lesions")
    with timed(seconds, "applying"):
        for direction, folder in MODIFIED.items():
            _apply(data["shown"], out, direction, folder, progress)

    note("training two classifiers on genuine phantoms of other women, and asking them")
    with timed(seconds, "evaluation"):
        found = _evaluate(plan, data, out, progress)

    shown = Shown(plan, trained, found, [*_files(out), out / FOUND], seconds)
    write_found(shown, out)
    return shown


def write_found(shown: Shown, out: Path) -> None:
    """Write demo-images.json, whole or not at all; InputError where it cannot be."""
    _write(out / FOUND, shown.as_json())


def _claim(plan: Plan, out: Path) -> bool:
    """Make the folder, or find that it holds this very plan. True when there is something to go on with."""
    kept = out / "plan.json"
    wanted = plan.as_json()
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = kept.exists()
        if not there and any(out.iterdir()):
            raise SettingsError("OUT holds something else", str(out), "name an empty folder")
        text = kept.read_bytes() if there else b""
    except OSError as error:
        raise InputError(f"cannot be used: {error.strerror}", str(out), "give another --out") from error
    if not there:
        _write(kept, wanted)
        return False
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError(
            "not a plan of ours", str(kept), "remove the folder, or give another --out"
        ) from error
    differ = [name for name in wanted if found.get(name) != wanted[name]]
    if differ:
        raise SettingsError(
            f"a demonstration with another {' and '.join(differ)} is there",
            str(out),
            "remove it to begin anew, give another --out, or the same options to go on with it",
        )
    return True


def women_of(plan: Plan, name: str) -> int:
    """How many women a set has."""
    if name == "shown":
        return SHOWN
    return plan.patients * (DETECTOR if name == "detector" else 1)


def _phantoms(plan: Plan, out: Path, name: str, progress: Progress) -> Path:
    """One of the sets, drawn unless it is whole. Women of different seeds have nothing in common."""
    folder = out / "phantoms" / name
    women = women_of(plan, name)
    rows, columns = (SHOWN_SIDE, SHOWN_SIDE) if name == "shown" else (plan.preset.rows, plan.preset.columns)
    if not (folder / MANIFEST).exists():
        folder.parent.mkdir(exist_ok=True)
        with progress(f"phantoms: {name}", 2 * women) as step:
            write_phantoms(
                folder,
                patients=women,
                rows=rows,
                columns=columns,
                seed=len(SETS) * plan.seed + SETS.index(name),
                prevalence=1.0,
                both_breasts=True,
                contrast=CONTRAST,
                progress=lambda _done, _total: step(),
            )
    return folder


def _train(plan: Plan, data: Path, run: Path, progress: Progress) -> Trained:
    settings = Settings(
        seed=plan.seed, device="cpu", threads=THREADS, save_seconds=SAVE_SECONDS, sheet_steps=200
    )
    with progress("training", plan.steps) as step:
        counted = 0

        def training(done: int, total: int, losses: dict[str, float]) -> None:
            nonlocal counted
            told = " ".join(f"{name} {losses[name]:.2f}" for name in ("insert", "remove") if name in losses)
            step(done - counted, f"training {told}".rstrip())
            counted = done

        return train(data, plan.preset, run, None, settings, progress=training)


def _apply(data: Path, out: Path, direction: Direction, folder: str, progress: Progress) -> None:
    with progress(folder, SHOWN) as step:
        reached = 0

        def tick(done: int, total: int) -> None:
            nonlocal reached
            step(done - reached)
            reached = done

        apply([data], load_run(out / "run"), direction, out / folder, progress=tick)


def _evaluate(plan: Plan, data: dict[str, Path], out: Path, progress: Progress) -> Confirmation:
    request = Request(
        data=data["test"],
        learn_data=data["classifiers"],
        models=(out / "run",),
        out=out / "evaluation",
        processings=PROCESSINGS,
        epochs=EPOCHS,
        resamples=RESAMPLES,
        seed=plan.seed,
    )
    with progress("evaluating", 1.0) as step:
        said, reached = "", 0.0

        def tick(what: str, share: float) -> None:  # every piece of work fills the bar anew
            nonlocal said, reached
            step(share - reached, what)
            said, reached = what, share

        found, _ = evaluate(request, tick)
    return found


def _files(out: Path) -> list[Path]:
    """What there is to look at."""
    patterns = ["evaluation/*.md", "evaluation/*.json", "evaluation/*.png", "run/*.png", "run/*.md"]
    patterns += [f"{folder}/images/*.png" for folder in MODIFIED.values()]
    return sorted(path for pattern in patterns for path in out.glob(pattern))


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long it took under ``name``."""
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


def _write(path: Path, told: dict[str, Any]) -> None:
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror}", str(path), "give another --out") from error
