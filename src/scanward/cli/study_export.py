"""``scanward study export``: what readers answered, with the truth, as a table."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click

from scanward.cli.output import note, print_json


@click.command("export", short_help="Write what was read as a tidy table, one row a rating.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="CSV file; standard output where none is given.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="The study's key, where it is kept elsewhere than in STUDY.",
)
@click.option("--practice", is_flag=True, help="Practice cases too; they are never to be analysed.")
@click.option(
    "--history",
    "history_out",
    type=click.Path(path_type=Path),
    help="JSON lines file of every answer ever taken, with revisions, conflicts and acts; no truth in it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON; needs --out.")
def export_command(
    study: Path, out: Path | None, key: Path | None, practice: bool, history_out: Path | None, as_json: bool
) -> None:
    """Write what was read in STUDY as a table: one row a rating, with reader, treatment, case, truth and rating.

    Opens the study's key, so the table tells the truth of every picture: keep it from readers until all have read.
    May be run while the study is served.

    \b
    Example:
      scanward study export study/ --out ratings.csv
      scanward study export study/ --out ratings.csv --history history.jsonl
    """
    from scanward.errors import SettingsError
    from scanward.reading import exporting

    if as_json and out is None:
        raise SettingsError("both a table and JSON on standard output", "--json", "give --out too")
    table = exporting.export(study, key=key, practice=practice)
    if out is not None:
        exporting.write_table(table, out)
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)
    if history_out is not None:
        exporting.write_lines(exporting.history(study), history_out)
    if as_json:
        print_json(
            {
                "out": str(out),
                "rows": len(table.rows),
                "answers": table.answers,
                "unanswered": table.unanswered,
                "conflicts": table.conflicts,
                "late": table.late,
                "history": str(history_out) if history_out else None,
            }
        )
    if table.unanswered:
        cases = "case is" if table.unanswered == 1 else "cases are"
        note(f"{table.unanswered} {cases} not answered: the study is not finished")
    if table.conflicts or table.late:
        note(
            f"{table.conflicts} answers given twice and {table.late} given late do not count; --history shows them"
        )
    if out is not None:
        note(f"written: {out}, {len(table.rows)} ratings; it tells the truth of every picture")
