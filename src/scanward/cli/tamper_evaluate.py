"""``scanward tamper evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.mammography.manifest import Label

if TYPE_CHECKING:
    from scanward.tampering.evaluation.results import Confirmation

_LABELS = click.Choice([label.value for label in Label if label is not Label.UNKNOWN])


@click.command("evaluate", short_help="Ask independent classifiers, and the truth, what a model did.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Data set (scanward mammo import|phantom)."
)
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of a run (or one checkpoint); repeatable.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the report, figures and classifiers.",
)
@click.option(
    "--learn-data",
    type=click.Path(path_type=Path),
    help="Data set of other patients that the classifiers learn from.  [default: a part of --data]",
)
@click.option(
    "--healthy", multiple=True, type=_LABELS, help="Labels of the healthy domain.  [default: normal]"
)
@click.option(
    "--cancer", multiple=True, type=_LABELS, help="Labels of the cancer domain.  [default: malignant]"
)
@click.option(
    "--processing",
    "processings",
    multiple=True,
    metavar="NAME",
    help="none, blur-SIGMA, jpeg-QUALITY or noise-SIGMA; repeatable.  [default: six of them]",
)
@click.option(
    "--resamples",
    type=click.IntRange(100, 100_000),
    default=2000,
    show_default=True,
    help="Bootstrap draws of whole patients.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Passes of a classifier at most.",
)
@click.option(
    "--least-auc",
    type=click.FloatRange(0.5, 1.0),
    default=0.9,
    show_default=True,
    help="AUC on genuine pictures that a classifier needs to be asked; below 0.9 nothing is claimed.",
)
@click.option("--no-controls", is_flag=True, help="Leave blur, inpainting and the truth out; identity stays.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of it all."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def evaluate_command(
    data: Path,
    models: tuple[Path, ...],
    out: Path,
    learn_data: Path | None,
    healthy: tuple[str, ...],
    cancer: tuple[str, ...],
    processings: tuple[str, ...],
    resamples: int,
    epochs: int,
    least_auc: float,
    no_controls: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Does a model insert and remove lesions so that independent classifiers, and on phantoms the truth, agree?

    Two classifiers learn from genuine pictures of patients that neither the model nor the test knows. One whose AUC
    on genuine test pictures is below 0.90 is not asked. Controls run beside the model: nothing, blur, inpainting and,
    on phantoms, the truth. OUT gets evaluation.json, evaluation.md, a figure and a marked sheet for each.

    \b
    Example:
      scanward tamper evaluate --data phantoms/ --model run/ --out evaluation/
      scanward tamper evaluate --data test/ --learn-data other/ --model run-1/ --model run-2/ --out evaluation/
    """
    from scanward.tampering.evaluation.evaluating import Request, evaluate

    request = Request(
        data=data,
        models=models,
        out=out,
        learn_data=learn_data,
        healthy=tuple(Label(label) for label in healthy),
        cancer=tuple(Label(label) for label in cancer),
        processings=processings,
        resamples=resamples,
        epochs=epochs,
        least_auc=least_auc,
        all_controls=not no_controls,
        seed=seed,
    )
    with progress("reading pictures", total=1.0) as step:
        shares: dict[str, float] = {}

        def tick(what: str, share: float) -> None:
            before = shares.get(what, 0.0) if shares.keys() == {what} else 0.0
            if before == 0.0 and shares.keys() != {what}:
                step(-sum(shares.values()), what)
                shares.clear()
            shares[what] = share
            step(share - before, what)

        told, remarks = evaluate(request, tick)
    for remark in remarks:
        note(remark)
    if as_json:
        print_json(told.as_json())
        return
    _print(told)
    note(f"written: {out / 'evaluation.md'}, evaluation.json, figures and marked sheets")


def _print(told: Confirmation) -> None:
    from scanward.tampering.evaluation import report

    print_table(*report.detection_rows(told), title="AUC, healthy against cancer")
    print_table(*report.processing_rows(told), title="AUC genuine - both modified, after processing")
    print_table(*report.lesion_rows(told), title="lesions")
    print_table(*report.cost_rows(told), title="what else was changed")
    rows = [(t.name, t.verdict, report.objections(t)) for t in told.tampers]
    print_table(("modified by", "verdict", "insertions refused"), rows, caption=told.why_not)
