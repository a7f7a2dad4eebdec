"""``scanward demo-images``: the images wing at once, on phantoms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from scanward.cli.demo_images_caught import Caught
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
    """Train a CycleGAN on phantoms, insert and remove lesions, and ask who notices.

    Phantoms are mammograms drawn by a program: each is known with and without its lesion, and no patient is behind
    any. Sets of phantom women share nobody: the generator learns from one, two classifiers learn from another, and
    a third is modified and judged. Controls run beside the generator, one of which does nothing. Every
    modified picture says that it is modified.

    Who notices is asked of classifiers and of the truth, of SIMULATED readers, of a detector that learned from a
    fourth set of women, and of DICOM signatures: the report (OUT/report.html) shows it with pictures.

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
    from scanward.cli.demo_images_caught import catch
    from scanward.cli.demo_images_report import write_report
    from scanward.tampering.demonstration import NOTICE, SETS, Plan, demonstrate, timed, write_found

    note(NOTICE)
    try:
        shown = demonstrate(Plan(patients=patients, steps=steps, seed=seed), out, progress, note)
        data = {name: out / "phantoms" / name for name in SETS}
        with timed(shown.seconds, "noticing"):
            caught = catch(shown.plan, data, out / "run", out / "detector", progress, note)
        shown.more["caught"] = caught.as_json()
        shown.files.insert(0, write_report(shown, caught, out))
        write_found(shown, out)
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on from what {out} holds")
        raise
    if as_json:
        print_json(shown.as_json())
        return
    _print(shown)
    _print_caught(caught)
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


def _print_caught(caught: Caught) -> None:
    print_table(
        ("who looks", "figure", "95 % interval"),
        [
            ("readers, SIMULATED", "AUC", str(caught.readers)),
            ("the detector", "AUC", str(caught.detector)),
            ("", "modified pictures found", str(caught.found)),
            ("", f"genuine women alarmed at ({caught.false_alarms:.2g} set)", str(caught.alarmed)),
        ],
        title=f"Phantoms: who tells {caught.modified} modified from {caught.genuine} genuine pictures",
    )
    print_table(
        ("signed pictures", "should be", "scanward verify says"),
        [
            (case.name, case.expected, ", ".join(f"{what} ({n})" for what, n in case.said.items()))
            for case in caught.signatures
        ],
        title="Phantoms: signatures",
    )
    for text in caught.words:
        click.echo(text)


def _title(tamper: TamperResult) -> str:
    if tamper.kind == "generator":
        return f"CycleGAN {tamper.name}"
    return "control: nothing done" if tamper.name == "identity" else f"control: {tamper.name}"


def _print_files(out: Path) -> None:
    click.echo(f"Report with pictures: {out / 'report.html'}")
    click.echo(f"Genuine, modified, change: {out / 'evaluation'}/sheet-*.png, {out / 'run'}/sheet-*.png.")
    click.echo(
        f"Tables and curves: {out / 'evaluation' / 'evaluation.md'}, figure-*.png, {out / 'run' / 'curves.png'}."
    )
    click.echo(f"Modified phantoms, each marked: {out / 'inserted'}, {out / 'removed'}.")
    click.echo("Next: scanward tamper --help, docs/tampering.md")
