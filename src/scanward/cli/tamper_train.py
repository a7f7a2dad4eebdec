"""``scanward tamper train`` and ``presets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import SettingsError
from scanward.mammography.manifest import Label

if TYPE_CHECKING:
    from scanward.tampering.presets import Preset

_LABELS = click.Choice([label.value for label in Label if label is not Label.UNKNOWN])


@click.command("presets", short_help="Show the arrangements that can be trained.")
@click.option("--json", "as_json", is_flag=True, help="Print every option of every preset as JSON.")
def presets_command(as_json: bool) -> None:
    """Show the arrangements that `scanward tamper train --preset` knows.

    Every option can be changed with --set; --json lists them all.

    \b
    Example:
      scanward tamper presets
      scanward tamper presets --json | jq .reference
    """
    import msgspec

    from scanward.tampering.presets import PRESETS

    if as_json:
        print_json({name: msgspec.to_builtins(preset) for name, preset in PRESETS.items()})
        return
    print_table(
        ("preset", "pixels", "about"),
        [(p.name, f"{p.rows} x {p.columns}", p.about) for p in PRESETS.values()],
    )


@click.command("train", short_help="Train a CycleGAN on a data set.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Data set (scanward mammo import|phantom)."
)
@click.option("--preset", "preset_name", required=True, help="Arrangement; see scanward tamper presets.")
@click.option("--out", "run", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Change an option; repeatable."
)
@click.option("--steps", type=click.IntRange(1), help="Steps in place of the preset's.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of it all."
)
@click.option(
    "--healthy", multiple=True, type=_LABELS, help="Labels of the healthy domain.  [default: normal]"
)
@click.option(
    "--cancer", multiple=True, type=_LABELS, help="Labels of the cancer domain.  [default: malignant]"
)
@click.option(
    "--drop-birads", multiple=True, type=click.IntRange(0, 6), help="Leave this BI-RADS category out."
)
@click.option(
    "--split", "split_path", type=click.Path(path_type=Path), help="Split by patient (scanward mammo split)."
)
@click.option("--part", help="Part of the split to learn from.  [default: train]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the CPU.  [default: all cores]")
@click.option(
    "--save-seconds",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="Time between checkpoints: what a kill costs at most.",
)
@click.option(
    "--sheet-steps",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Steps between sample sheets; 0 draws the last one only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was trained as JSON.")
def train_command(
    data: Path,
    preset_name: str,
    run: Path,
    assignments: tuple[str, ...],
    steps: int | None,
    seed: int,
    healthy: tuple[str, ...],
    cancer: tuple[str, ...],
    drop_birads: tuple[int, ...],
    split_path: Path | None,
    part: str | None,
    device: str,
    threads: int | None,
    save_seconds: float,
    sheet_steps: int,
    as_json: bool,
) -> None:
    """Train a CycleGAN that inserts and removes lesions, into the folder RUN. For defence research only.

    The same command goes on with a run that was stopped or killed, from its last checkpoint; on one CPU it then
    ends with the same weights. Look at the sheets (RUN/sheet-*.png): the losses say little. With several GPUs:
    torchrun --nproc-per-node N -m scanward.cli tamper train ...

    \b
    Example:
      scanward mammo phantom phantoms/ --patients 400
      scanward tamper train --data phantoms/ --preset scanward-64 --out run/
      scanward tamper train --data inbreast/ --preset becker2019-512 --drop-birads 3 --out run/ --device cuda
      scanward tamper train --data mias/ --preset scanward-128 --split folds.json --part train --out run/
    """
    from scanward.tampering.prepared import Selection
    from scanward.tampering.running import Settings, train

    preset = _preset(preset_name, assignments, steps)
    if part is not None and split_path is None:
        raise SettingsError("--part needs a split", "--part", "give --split FILE")
    split = None
    if split_path is not None:
        from scanward.mammography.splits import read_split

        split = read_split(split_path)
    selection = Selection(
        healthy=tuple(Label(label) for label in healthy) or (Label.NORMAL,),
        cancer=tuple(Label(label) for label in cancer) or (Label.MALIGNANT,),
        part=(part or "train") if split is not None else None,
        birads_not=drop_birads,
    )
    settings = Settings(
        seed=seed, device=device, threads=threads, save_seconds=save_seconds, sheet_steps=sheet_steps
    )
    total = preset.optimiser.steps if not preset.optimiser.epochs else None
    with progress("training", total=total) as step:
        counted = 0

        def preparing(done: int, total: int) -> None:
            step(0, f"preparing pictures ({done}/{total})")

        def training(done: int, total: int, losses: dict[str, float]) -> None:
            nonlocal counted
            shown = " ".join(f"{name} {losses[name]:.2f}" for name in ("insert", "remove") if name in losses)
            step(done - counted, f"step {done}/{total} {shown}")
            counted = done

        trained = train(
            data, preset, run, selection, settings, split=split, progress=training, preparing=preparing
        )
    if trained.rank > 0:  # under torchrun one process speaks for all
        return
    for remark in trained.remarks:
        note(remark)
    result: dict[str, Any] = {
        "run": str(trained.run),
        "checkpoint": trained.checkpoint.name,
        "preset": trained.facts.preset.name,
        "step": trained.facts.step,
        "begun_at": trained.begun_at,
        "seconds": round(trained.seconds, 1),
        "healthy": trained.facts.healthy,
        "cancer": trained.facts.cancer,
        "phantom": trained.facts.phantom,
        "remarks": list(trained.remarks),
    }
    if as_json:
        print_json(result)
        return
    print_table(("", "trained"), [(name, str(value)) for name, value in result.items() if name != "remarks"])


def _preset(name: str, assignments: tuple[str, ...], steps: int | None) -> Preset:
    from scanward.tampering.presets import change, find

    wanted: dict[str, str] = {}
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(
                f"'{assignment}' sets nothing", "--set", "write OPTION=VALUE, as optimiser.batch=4"
            )
        wanted[option] = value
    if steps is not None:
        wanted |= {"optimiser.steps": str(steps), "optimiser.epochs": "0"}
    return change(find(name), wanted)
