"""``scanward mammo inspect``: what a data set holds, and whether it is still what was imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward.cli.output import note, print_json, print_table, progress
from scanward.errors import InputError

if TYPE_CHECKING:
    from scanward.mammography.inspecting import Summary

_SHOWN = 20  # odd records of one sort shown; --json has them all


@click.command("inspect", short_help="Show what a data set holds.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--verify", is_flag=True, help="Read every picture back and compare it with the manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print counts, leaks and odd records as JSON.")
def inspect_command(folder: Path, verify: bool, as_json: bool) -> None:
    """Show images, patients, lesions, leaks and the books of the data set in DIR.

    A leak is one picture under two patients: a split by patient cannot keep it apart. With --verify a picture
    that is not what was imported fails the command.

    \b
    Example:
      scanward mammo inspect mias/
      scanward mammo inspect mias/ --verify --json
    """
    from scanward.mammography.inspecting import check, summarise
    from scanward.mammography.manifest import read_manifest

    manifest = read_manifest(folder)
    summary = summarise(manifest)
    found = None
    if verify:
        with progress("verifying", total=len(manifest.images)) as step:
            found = check(folder, manifest, step)
        if found.wrong:
            name, why = found.wrong[0]
            raise InputError(
                f"{len(found.wrong)} of {len(manifest.images)} images are not what was imported ({name}: {why})",
                str(folder),
                "import the data set again",
            )
    if as_json:
        facts = summary.as_json()
        if found is not None:
            facts["verified"] = found.verified
            facts["strangers"] = found.strangers
        print_json(facts)
        return
    show(summary)
    if found is not None:
        note(f"{found.verified} images are what was imported")
        for name in found.strangers[:_SHOWN]:
            note(f"not in the manifest: {name}")


def show(summary: Summary) -> None:
    """Tables of a data set: images by label, laterality and view; the books; what was odd; leaks."""
    manifest = summary.manifest
    what = "phantoms, no human being" if manifest.phantom else f"licence: {manifest.licence}"
    (rows, columns), (most_rows, most_columns) = summary.sizes
    print_table(
        ("label", "laterality", "view", "images", "patients", "lesions"),
        summary.rows,
        title=f"{len(manifest.images)} images of {summary.patients} patients ({manifest.kind}; {what})",
        caption=f"{rows} x {columns} to {most_rows} x {most_columns} pixels, "
        f"{', '.join(map(str, summary.bits))} bits; {sum(summary.lesions.values())} lesions, {summary.located} located",
    )
    books = manifest.books
    print_table(
        ("listed", "imported", "rejected", "missing", "duplicate"),
        [(books.listed, books.imported, books.rejected, books.missing, books.duplicate)],
        title="Books",
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for odd in manifest.odd:
        reasons.setdefault((odd.what, odd.why), []).append(odd.where)
    if reasons:
        often = sorted(reasons.items(), key=lambda item: -len(item[1]))
        print_table(
            ("what", "why", "records", "the first"),
            [(what, why, len(where), where[0]) for (what, why), where in often[:_SHOWN]],
            title="Odd records",
            caption="" if len(often) <= _SHOWN else f"and {len(often) - _SHOWN} other reasons: see --json",
        )
    for group in summary.leaks[:_SHOWN]:
        note(f"leak: one picture under {len(group)} patients: {', '.join(group)}")
