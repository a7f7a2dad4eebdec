"""``scanward tamper insert`` and ``remove``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import SettingsError
from scanward.mammography.manifest import Label

if TYPE_CHECKING:
    from scanward.tampering.checkpoints import Direction
    from scanward.tampering.outputs import Tampered

_LABELS = click.Choice([label.value for label in Label])
_OPTIONS = (
    click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES..."),
    click.option(
        "--model",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder of a run of training (or one checkpoint).",
    ),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of what is made."),
    click.option(
        "--region",
        "regions",
        multiple=True,
        metavar="X,Y,RADIUS",
        help="Where, in pixels of the file, for a model that is told; one picture; repeatable.",
    ),
    click.option(
        "--label", "labels", multiple=True, type=_LABELS, help="Images of a data set to take; repeatable."
    ),
    click.option(
        "--strength",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Share of the model's change that is made.",
    ),
    click.option(
        "--no-visible-mark",
        is_flag=True,
        help="Burn no words into the pictures; the metadata still say it, and that this was asked for.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Chooses places."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON."),
)


def _with_options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command("insert", short_help="Insert lesions into pictures; what comes out is marked.")
@_with_options
def insert_command(images: tuple[Path, ...], **given: Any) -> None:
    """Insert a lesion into each of IMAGES with a trained model. For defence research only.

    For making test pictures for detectors, readers and vendors; never for a clinical system (docs/responsible-use.md).
    IMAGES are DICOM, PNG, TIFF or PGM files, folders of them, or data sets (their images labelled normal, unless
    --label says otherwise). OUT gets images/, differences/ and tampered.json. Every picture keeps its size, bit depth
    and orientation, and says that it is modified; DICOM gets an invented patient and a study of its own. Nothing is
    sent anywhere. The same command goes on with a run that was stopped.

    \b
    Example:
      scanward tamper insert phantoms/ --model run/ --out inserted/
      scanward tamper insert case.dcm --model run/ --out inserted/ --region 1200,840,60
    """
    _run("insert", images, **given)


@click.command("remove", short_help="Remove lesions from pictures; what comes out is marked.")
@_with_options
def remove_command(images: tuple[Path, ...], **given: Any) -> None:
    """Remove the lesions of each of IMAGES with a trained model. For defence research only.

    As `scanward tamper insert`, the other way: of data sets the images labelled malignant are taken, and a model that
    is told where takes the place of the lesions from the data set.

    \b
    Example:
      scanward tamper remove phantoms/ --model run/ --out removed/
      scanward tamper remove film.png --model run/ --out removed/ --region 310,220,25 --json
    """
    _run("remove", images, **given)


def _run(
    direction: Direction,
    images: tuple[Path, ...],
    *,
    model: Path,
    out: Path,
    regions: tuple[str, ...],
    labels: tuple[str, ...],
    strength: float,
    no_visible_mark: bool,
    seed: int,
    as_json: bool,
) -> None:
    circles = [_circle(text) for text in regions]
    from scanward.tampering.applying import apply
    from scanward.tampering.checkpoints import load_run

    run = load_run(model)
    for remark in run.remarks:
        note(remark)
    if no_visible_mark:
        note(
            "no words are burned in: whoever opens these pictures without reading their metadata is not warned"
        )
    of: dict[str, Path] = {}
    with progress(direction, total=None) as step:
        told = apply(
            images,
            run,
            direction,
            out,
            regions=circles,
            visible_mark=not no_visible_mark,
            strength=strength,
            seed=seed,
            labels=tuple(Label(label) for label in labels),
            progress=lambda done, total: step(1 if done else 0, f"{direction} ({done}/{total})"),
            tell=lambda path, record: of.update({record.name: path}),
        )
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(told) | {"originals": {name: str(path) for name, path in of.items()}})
        return
    _print(told, out, of)


def _circle(text: str) -> tuple[float, float, float]:
    parts = text.split(",")
    try:
        x, y, radius = (float(part) for part in parts)
    except ValueError as error:
        raise SettingsError(
            f"'{text}' is no region", "--region", "write X,Y,RADIUS in pixels, as 310,220,25"
        ) from error
    return x, y, radius


def _print(told: Tampered, out: Path, of: Mapping[str, Path]) -> None:
    rows = [
        (
            image.output,
            str(of.get(image.name, "")),
            image.regions_by,
            image.change.inside_mean,
            image.change.inside_max,
            image.change.outside_max,
            image.visible_mark,
        )
        for image in told.images
    ]
    print_table(
        ("picture", "original", "region by", "mean change in breast", "most", "most outside", "visible mark"),
        rows,
        caption="grey values of the file, without the visible mark",
    )
    for image in told.images:
        for remark in image.remarks:
            note(f"{image.name}: {remark}")
    for line in told.left_out:
        note(f"left out: {line}")
    if any(image.medium == "dicom" for image in told.images):
        note(f"keep {out / 'pseudonyms.key'} to yourself: with it, identifiers of patients can be tried out")
    note(f"written: {out / 'tampered.json'}; every picture is marked as modified")
