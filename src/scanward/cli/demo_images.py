"""``scanward demo-images``: the images wing at once, on phantoms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from scanward.tampering.demonstration import Shown
    from scanward.tampering.evaluation.results import TamperResult


@click.command("demo-images", short_help="Try the images wing on phantoms.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("scanward-demo-images"),
    show_default=True,
    help="Folder for phantoms, the run, modified phantoms and the evaluation.",
)
@click.option(
    "--patients",
    type=click.IntRange(10, 10_000),
    default=500,
    show_default=True,
    help="Phantom women in each of the three sets.",
)
@click.option(
    "--steps", type=click.IntRange(1, 1_000_000), default=600, show_default=True, help="Steps of training."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**30 - 1), default=0, show_default=True, help="Other phantom women."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
def demo_images_command(out: Path, patients: int, steps: int, seed: int, as_json: bool) -> None:
    """Train a CycleGAN on phantoms, insert and remove lesions, and ask independent classifiers and the truth.

    Phantoms are mammograms drawn by a program: each is known with and without its lesion, and no patient is behind
    any. Three sets of phantom women share nobody: the generator learns from one, two classifiers learn from another,
    and the third is modified and judged. Controls run beside the generator, one of which does nothing. Every
    modified picture says that it is modified.

    Needs no network, no GPU and no data; some ten minutes on two cores. Stopped with Ctrl-C, the same command goes on
    where it was; other options want another --out. For research into defence.

    \b
    Example:
      scanward demo-images
      scanward demo-images --patients 100 --steps 100 --out /tmp/quick
      scanward demo-images --json | jq .evaluation.tampers[0].verdict
    """
    # Threads that wait for each other should sleep: spinning, two of them on a busy machine take ten times as long.
    # Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from scanward.tampering.demonstration import NOTICE, Plan, demonstrate

    note(NOTICE)
    try:
        shown = demonstrate(Plan(patients=patients, steps=steps, seed=seed), out, progress, note)
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on from what {out} holds")
        raise
    if as_json:
        print_json(shown.as_json())
        return
    _print(shown)
    _print_files(out)
    click.echo(NOTICE)


def _print(shown: Shown) -> None:
    from scanward.tampering.evaluation.report import percent
    from scanward.tampering.evaluation.report import shown as figure

    found = shown.found
    tampers = [found.find(name) for name in (shown.trained.facts.preset.name, "inpaint-paste", "identity")]
    test = found.parts["test"]
    print_table(
        ("modified by", "classifier", "AUC genuine", "after removal", "after insertion", "after both"),
        [
            (
                _title(tamper),
                classifier.name,
                figure(classifier.genuine["none"]),
                *(
                    figure(tamper.find(classifier.name, condition).auc)
                    for condition in ("removed", "inserted", "both")
                ),
            )
            for tamper in tampers
            for classifier in found.classifiers
        ],
        title=f"Phantoms: cancer detection by classifiers, {test.healthy} healthy and {test.cancer} ill breasts "
        "(AUC with 95 % interval)",
        caption=found.why_not,
    )
    rows = []
    for tamper in tampers:
        rows.append((_title(tamper), "the truth", percent(tamper.removed), percent(tamper.plausible)))
        for classifier in found.classifiers:
            by = tamper.of_classifier(classifier.name)
            rows.append((_title(tamper), classifier.name, percent(by.removed), percent(by.inserted)))
    print_table(
        ("modified by", "says", "lesions removed", "lesions inserted"),
        rows,
        title="Phantoms: shares of lesions that are gone, and of healthy breasts that have one now (95 % interval)",
        caption="by the truth: little of the lesion's light is left; one blob is there like genuine lesions. "
        "By a classifier: no longer seen; plausible and seen",
    )
    for tamper in tampers:
        click.echo(f"{_title(tamper)}: {tamper.verdict}")
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in shown.seconds.items())
    click.echo(f"\nTook {sum(shown.seconds.values()):.0f} s: {took}.")


def _title(tamper: TamperResult) -> str:
    if tamper.kind == "generator":
        return f"CycleGAN {tamper.name}"
    return "control: nothing done" if tamper.name == "identity" else f"control: {tamper.name}"


def _print_files(out: Path) -> None:
    click.echo(f"Genuine, modified, change: {out / 'evaluation'}/sheet-*.png, {out / 'run'}/sheet-*.png.")
    click.echo(
        f"Tables and curves: {out / 'evaluation' / 'evaluation.md'}, figure-*.png, {out / 'run' / 'curves.png'}."
    )
    click.echo(f"Modified phantoms, each marked: {out / 'inserted'}, {out / 'removed'}.")
    click.echo("Next: scanward tamper --help, docs/tampering.md")
