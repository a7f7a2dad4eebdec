"""``scanward mammo import``: a published data set, or a folder of one's own, into Scanward's form."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanward import keys
from scanward.cli.mammo_inspect import show
from scanward.cli.output import note, print_json, progress
from scanward.errors import SettingsError

if TYPE_CHECKING:
    from scanward.mammography.importing import Told


class _WithKinds(click.Command):
    """A command whose help lists the kinds; they are loaded when the help is asked for, not before."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from scanward.mammography.kinds import KINDS
        from scanward.mammography.labels import COLUMNS

        with formatter.section("Kinds and the layout of SRC"):
            formatter.write_dl([(kind.name, f"{kind.title}: {kind.layout}") for kind in KINDS.values()])
        with formatter.section("Columns of --labels"):
            formatter.write_dl(list(COLUMNS.items()))


@click.command("import", cls=_WithKinds, short_help="Import a data set of mammograms.")
@click.argument("kind")
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--labels", type=click.Path(path_type=Path), help="CSV of labels, for dicom and pictures.")
@click.option(
    "--site-key",
    "site_key_path",
    type=click.Path(path_type=Path),
    help="Key that patients and file names are hashed with, for dicom and pictures "
    "(scanward keys new --site-key).  [default: a random one, thrown away]",
)
@click.option(
    "--curves",
    type=click.Choice(("curves", "all", "none")),
    default="curves",
    show_default=True,
    help="VOI transformations to apply: those that bend (tables, sigmoids), linear windows too, or none.",
)
@click.option("--force", is_flag=True, help="Replace a data set that lies in OUT.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write what became of each file as CSV, by its own name: may name people.",
)
@click.option(
    "--workers", type=click.IntRange(0, 64), help="Processes that read pictures.  [default: by cores]"
)
@click.option("--json", "as_json", is_flag=True, help="Print counts, books and odd records as JSON.")
def import_command(
    kind: str,
    src: Path,
    out: Path,
    labels: Path | None,
    site_key_path: Path | None,
    curves: str,
    force: bool,
    report: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Import the data set in SRC into the folder OUT: 16-bit pictures, breasts, lesions and one manifest.

    Every picture is turned so that the chest wall is on the left and dense tissue is bright; all its bits are
    kept. Every image of the source is accounted for: listed = imported + rejected + missing + duplicate.
    Patients and file names of the plain kinds (dicom, pictures) become keyed hashes. Nothing else of a DICOM
    header is kept but what docs/mammography.md lists.

    \b
    Example:
      scanward mammo import mias downloads/mini-mias/ mias/
      scanward mammo import dicom export/ ours/ --labels labels.csv --site-key site.sitekey
      scanward mammo import pictures scans/ ours/ --labels labels.csv --json
    """
    from scanward.mammography.importing import import_dataset
    from scanward.mammography.inspecting import summarise
    from scanward.mammography.kinds import find

    which = find(kind, labels)
    site_key = keys.load_site_key(site_key_path) if site_key_path else None
    if report is not None and report.exists() and not force:
        raise SettingsError("--report: the file exists", str(report), "give another name, or --force")
    if which.identifying and site_key is None:
        note(
            "no --site-key: patients and files are hashed with a random key that is thrown away. "
            "Importing again gives other pseudonyms."
        )
    with _reporting(report) as tell, progress("importing") as step:

        def advance(done: int, total: int | None) -> None:
            step(1, "importing" if total is None else f"importing ({total} images)")

        manifest = import_dataset(
            which,
            src,
            out,
            site_key=site_key,
            force=force,
            curves=curves,  # type: ignore[arg-type]  # click.Choice lets nothing else through
            workers=min(4, len(os.sched_getaffinity(0))) if workers is None else workers,
            progress=advance,
            tell=tell,
        )
    summary = summarise(manifest)
    if as_json:
        print_json(summary.as_json())
        return
    show(summary)
    note(f"data set written to {out}")
    if manifest.cite:
        note(f"cite: {manifest.cite}")


@contextmanager
def _reporting(path: Path | None) -> Iterator[Callable[[Told], None] | None]:
    """Where to tell what became of each file: a CSV that its owner alone can read, or nowhere."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        os.fchmod(file.fileno(), 0o600)
        writer = csv.writer(file)
        writer.writerow(("name", "file", "outcome", "why"))

        def tell(told: Told) -> None:
            writer.writerow([_harmless(cell) for cell in (told.name, told.where, told.fate, told.why)])

        yield tell


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal for a command: file names are anybody's."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cell)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
