"""``scanward mammo phantom`` and ``split``: data sets that need no human being, and splits by patient."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scanward.cli.mammo_inspect import show
from scanward.cli.output import note, print_json, print_table, progress
from scanward.config import PHANTOM_BOUNDS
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.mammography.manifest import Manifest
    from scanward.mammography.splits import Split

_DEFAULT_PARTS = "train=0.7,test=0.3"
_SEED = click.IntRange(0, 2**32 - 1)


@click.command("phantom", short_help="Make a data set of phantoms.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--patients", required=True, type=click.IntRange(1, PHANTOM_BOUNDS.patients), help="Women to draw."
)
@click.option(
    "--size",
    default="64",
    show_default=True,
    metavar="PIXELS",
    help="Pixels of a picture: one number, or ROWSxCOLUMNS.",
)
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Which women: another seed, others.")
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of women with a malignant lesion.",
)
@click.option(
    "--benign",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of women with a benign lesion.",
)
@click.option(
    "--contrast",
    type=click.FloatRange(PHANTOM_BOUNDS.contrast_least, PHANTOM_BOUNDS.contrast),
    default=1.0,
    show_default=True,
    help="Brightness of lesions, as a multiple of the usual one.",
)
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice(("MLO", "CC")),
    help="View to draw; repeatable.  [default: MLO]",
)
@click.option(
    "--both-breasts", is_flag=True, help="Draw both breasts of each woman, a lesion in one of them."
)
@click.option("--force", is_flag=True, help="Replace a data set that lies in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print counts and books as JSON.")
def phantom_command(
    out: Path,
    patients: int,
    size: str,
    seed: int,
    prevalence: float,
    benign: float,
    contrast: float,
    views: tuple[str, ...],
    both_breasts: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Draw mammograms of phantom women into the folder OUT: a data set that no human being went into.

    Lesions, their places and the same breast without them are known exactly. OUT is like any data set of mammo
    import, with the truth beside it (healthy/, lesioned/). The same options give the same pixels.

    \b
    Example:
      scanward mammo phantom phantoms/ --patients 200
      scanward mammo phantom phantoms/ --patients 1000 --size 128 --seed 7
      scanward mammo phantom phantoms/ --patients 60 --view MLO --view CC --both-breasts --benign 0.2
    """
    from scanward.mammography.inspecting import summarise
    from scanward.mammography.phantom_sets import write_phantoms

    rows, columns = _size(size)
    total = patients * len(views or ("MLO",)) * (2 if both_breasts else 1)
    with progress("drawing", total=total) as step:
        manifest = write_phantoms(
            out,
            patients=patients,
            rows=rows,
            columns=columns,
            seed=seed,
            prevalence=prevalence,
            benign=benign,
            contrast=contrast,
            views=views or ("MLO",),
            both_breasts=both_breasts,
            force=force,
            progress=lambda done, total: step(),
        )
    summary = summarise(manifest)
    if as_json:
        print_json(summary.as_json())
        return
    show(summary)
    note(f"phantoms written to {out}")


@click.command("split", short_help="Split a data set by patient.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write the split to.")
@click.option(
    "--parts", metavar="NAME=SHARE,...", help=f"Parts and their shares.  [default: {_DEFAULT_PARTS}]"
)
@click.option("--folds", type=click.IntRange(2, 1000), help="Equal parts fold-1, fold-2, ... instead.")
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Seed of the draw.")
@click.option("--force", is_flag=True, help="Replace the file of --out.")
@click.option("--json", "as_json", is_flag=True, help="Print patients and images of each part as JSON.")
def split_command(
    folder: Path,
    out: Path,
    parts: str | None,
    folds: int | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Split the data set in DIR by patient: all pictures of a woman fall to one part, always.

    Parts are alike in the patients' worst labels. Patients who share a picture stay together. The same data set and
    seed give the same split, in whatever order its images are listed.

    \b
    Example:
      scanward mammo split mias/ --out split.json
      scanward mammo split mias/ --out split.json --parts generator=0.5,classifier=0.25,test=0.25 --seed 1
      scanward mammo split mias/ --out folds.json --folds 5
    """
    from scanward.mammography.manifest import read_manifest
    from scanward.mammography.splits import folds_by_patient, split_by_patient, write_split

    if parts is not None and folds is not None:
        raise SettingsError("both parts and folds", "--parts, --folds", "give one of them")
    if out.is_dir() or (out.exists() and not force):
        raise SettingsError(
            "a folder is there" if out.is_dir() else "the file exists",
            str(out),
            "give the name of a file" if out.is_dir() else "give another name, or --force",
        )
    shares = _shares(parts or _DEFAULT_PARTS)
    manifest = read_manifest(folder)
    made = folds_by_patient(manifest, folds, seed) if folds else split_by_patient(manifest, shares, seed)
    write_split(out, made)
    facts = _facts(manifest, made)
    if as_json:
        print_json({"split": str(out), "manifest": made.manifest, "seed": seed, "parts": facts})
        return
    labels = sorted({label for part in facts for label in part["labels"]})
    print_table(
        ("part", "patients", "images", *labels),
        [
            (
                part["part"],
                part["patients"],
                part["images"],
                *(part["labels"].get(label, 0) for label in labels),
            )
            for part in facts
        ],
        title=f"{sum(part['patients'] for part in facts)} patients of {manifest.kind} (labels count images)",
    )
    note(f"split written to {out}")


def _facts(manifest: Manifest, made: Split) -> list[dict[str, Any]]:
    part_of = made.part_of()
    images = Counter(part_of[image.patient] for image in manifest.images)
    labels = Counter((part_of[image.patient], image.label.value) for image in manifest.images)
    return [
        {
            "part": name,
            "patients": len(patients),
            "images": images[name],
            "labels": {label: count for (part, label), count in sorted(labels.items()) if part == name},
        }
        for name, patients in made.parts.items()
    ]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text)
    if not found:
        raise SettingsError(
            f"{text!r} is no size", "--size", "give pixels, as 128, or ROWSxCOLUMNS, as 512x408"
        )
    return int(found[1]), int(found[2] or found[1])


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for assignment in text.split(","):
        name, _, share = (word.strip() for word in assignment.partition("="))
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name) or not re.fullmatch(r"[0-9]*\.?[0-9]+", share):
            raise SettingsError(
                f"{assignment!r} is no part", "--parts", f"write NAME=SHARE, as {_DEFAULT_PARTS}"
            )
        if name in shares:
            raise SettingsError(f"the part {name!r} twice", "--parts", "name each part once")
        shares[name] = float(share)
    return shares
