"""An evaluation from folders to a folder: data sets and runs in, tables, figures and marked sheets out.

::

    OUT/evaluation.json          every figure with its interval
    OUT/evaluation.md            the same as tables
    OUT/figure-NAME.png          ROC curves before and after, what is left of lesions
    OUT/sheet-NAME.png           genuine, modified, change, truth; marked as modified
    OUT/classifiers/             trained classifiers, taken again for the same pictures and settings
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scanward.errors import InputError, SettingsError
from scanward.mammography.manifest import Label, read_manifest
from scanward.tampering.checkpoints import Run, load_run
from scanward.tampering.evaluation.classifiers import TrainSettings
from scanward.tampering.evaluation.confirm import Seen, confirm
from scanward.tampering.evaluation.controls import controls
from scanward.tampering.evaluation.loading import load_data, tamper_of
from scanward.tampering.evaluation.plots import draw_figure, draw_sheet
from scanward.tampering.evaluation.processing import DEFAULT, PLAIN
from scanward.tampering.evaluation.report import markdown
from scanward.tampering.evaluation.results import LEAST_AUC, Confirmation, Settings
from scanward.tampering.prepared import Selection

Tick = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. Empty labels and processings mean the usual ones."""

    data: Path
    models: tuple[Path, ...]
    out: Path
    learn_data: Path | None = None
    healthy: tuple[Label, ...] = ()
    cancer: tuple[Label, ...] = ()
    processings: tuple[str, ...] = ()
    resamples: int = 2000
    epochs: int = 16
    all_controls: bool = True
    seed: int = 0
    least_auc: float = LEAST_AUC


def evaluate(request: Request, tick: Tick | None = None) -> tuple[Confirmation, tuple[str, ...]]:
    """Evaluate runs, write everything, and give the result and remarks.

    Raises
    ------
    SettingsError
        Runs of different sizes or frames, or names that cannot be told apart.
    InputError, DecodeError, LeakError
        Data or runs that cannot be used; a folder that cannot be made.
    LearningError
        A classifier or generator that gives no numbers.
    """
    say = tick or (lambda _what, _share: None)
    runs = _runs(request.models)
    first = next(iter(runs.values()))
    phantom = read_manifest(request.data).phantom
    others = tuple(name for name in request.processings if name != PLAIN)
    settings = Settings(
        training=TrainSettings(epochs=request.epochs, seed=request.seed),
        processings=(PLAIN, *others) if request.processings else DEFAULT,
        resamples=request.resamples,
        least_auc=request.least_auc,
        seed=request.seed,
    )
    _make_folder(request.out)
    default = Selection()
    data = load_data(
        request.data,
        first,
        Selection(healthy=request.healthy or default.healthy, cancer=request.cancer or default.cancer),
        learn_from=request.learn_data,
        others=tuple(runs.values())[1:],
        seed=request.seed,
        progress=lambda done, total: say("reading pictures", done / max(total, 1)),
    )
    beside = controls(data.learn, data.test, seed=request.seed)
    tampers = [tamper_of(run, name) for name, run in runs.items()]
    kept: list[Seen] = []
    told = confirm(
        data,
        [*tampers, *(beside if request.all_controls else beside[:1])],
        settings,
        cache=request.out / "classifiers",
        progress=say,
        seen=lambda one: kept.append(one),
    )
    for one in kept:
        if one.name == "identity":
            continue
        name = re.sub(r"[^A-Za-z0-9._-]", "_", one.name)
        draw_figure(one, request.out / f"figure-{name}.png", phantom=phantom)
        draw_sheet(one, data.test, request.out / f"sheet-{name}.png", phantom=phantom)
    _write(request.out / "evaluation.json", msgspec.json.format(msgspec.json.encode(told), indent=1))
    _write(request.out / "evaluation.md", f"# Evaluation\n\n{markdown(told)}\n".encode())
    return told, tuple(f"{name}: {remark}" for name, run in runs.items() for remark in run.remarks)


def _runs(models: tuple[Path, ...]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for path in models:
        run = load_run(path)
        name = run.preset.name if len(models) == 1 else f"{run.preset.name} ({path.name})"
        if name in runs:
            raise SettingsError(
                f"two models are called '{name}'", "--model", "give folders of different names"
            )
        runs[name] = run
    first = next(iter(runs.values())).preset
    for name, run in runs.items():
        preset = run.preset
        if (preset.rows, preset.columns, preset.framing, preset.views) != (
            first.rows,
            first.columns,
            first.framing,
            first.views,
        ):
            raise SettingsError(
                f"'{name}' sees pictures otherwise than the first model", "--model", "evaluate it by itself"
            )
    return runs


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", str(out), "give another --out") from error


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)
