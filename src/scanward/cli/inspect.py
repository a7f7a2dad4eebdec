"""``scanward inspect``: what a recording holds, before anything is learned from it."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from scanward import keys
from scanward.cli.output import escape, note, print_json, print_table, progress, quiet
from scanward.errors import SettingsError
from scanward.recordings import Dialect, Duplicate, Recording, Rejected, load_dialect
from scanward.recordings.drafting import draft_text
from scanward.recordings.survey import ColumnSurvey, FieldSurvey, Survey, survey

_SHOWN_REASONS = 10


@click.command("inspect", short_help="Show what a recording holds.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--dialect", "dialect_path", type=click.Path(path_type=Path), help="How the tables are to be read (TOML)."
)
@click.option(
    "--write-dialect",
    "out",
    type=click.Path(path_type=Path),
    help="Write a dialect of the first table, guesses included, to edit.",
)
@click.option("--force", is_flag=True, help="Let --write-dialect and --report replace an existing file.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write every rejected and duplicate entry as CSV."
)
@click.option(
    "--site-key",
    "site_key_path",
    type=click.Path(path_type=Path),
    help="Key that identifiers are hashed with (scanward keys new --site-key).",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that read DICOM.  [default: by cores]")
@click.option("--json", "as_json", is_flag=True, help="Print books, columns, fields and devices as JSON.")
def inspect_command(
    paths: tuple[Path, ...],
    dialect_path: Path | None,
    out: Path | None,
    force: bool,
    report: Path | None,
    site_key_path: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Show columns, fields, devices, examinations and the books of recordings.

    PATH is a file or a folder (read recursively): dose reports, CT images, CSV, TSV, JSON Lines or Parquet
    tables. Every row, event and acquisition is counted: read = commands + duplicates + rejected. Columns that
    are not known get a guess of field and unit, which is never used unless a dialect says so.

    \b
    Example:
      scanward inspect recordings/
      scanward inspect export.csv --write-dialect site.toml
      scanward inspect export.csv --dialect site.toml --report rejected.csv
      scanward inspect recordings/ --json
    """
    for target, option in ((out, "--write-dialect"), (report, "--report")):
        if target is not None and target.exists() and not force:
            raise SettingsError(f"{option}: the file exists", str(target), "give another name, or --force")
    dialect: Dialect | None = load_dialect(dialect_path) if dialect_path else None
    site_key = keys.load_site_key(site_key_path) if site_key_path else None
    with progress("reading") as step:

        def advance(done: int, total: int) -> None:
            step(1, f"reading ({total} files)")

        found = survey(list(paths), dialect=dialect, site_key=site_key, progress=advance, workers=workers)
    if report is not None:
        write_report(report, found.recording)
    if out is not None:
        _write(out, draft_text(found))
    if as_json:
        print_json(found.as_json())
        return
    _show(found)
    if out is not None:
        note(f"dialect written to {out}: check every line, then give it as --dialect {out}")


def write_report(path: Path, recording: Recording) -> None:
    """Every entry that is no command, as CSV: path, row, outcome, reason."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "row", "outcome", "reason"))
        for entry in recording.entries:
            if isinstance(entry, Rejected):
                writer.writerow((entry.origin.path, entry.origin.row, "rejected", entry.reason))
            elif isinstance(entry, Duplicate):
                reason = "the same irradiation event was read elsewhere"
                writer.writerow((entry.origin.path, entry.origin.row, "duplicate", reason))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)


def _show(found: Survey) -> None:
    by_table: dict[str, list[ColumnSurvey]] = {}
    for column in found.columns:
        by_table.setdefault(column.table, []).append(column)
    for table, columns in by_table.items():
        print_table(
            ("column", "field", "unit", "role", "missing %", "values", "guess"),
            [_column_row(column) for column in columns],
            title=f"Columns of {table}",
        )
    facts = found.as_json()
    fields = found.fields()
    if fields:
        print_table(
            ("field", "unit", "group", "role", "missing %", "values"),
            [_field_row(one) for one in fields],
            title="Fields of the commands",
        )
    if facts["devices"]:
        print_table(
            ("manufacturer", "model", "software", "commands"),
            [(d["manufacturer"], d["model"], d["software"], d["commands"]) for d in facts["devices"]],
            title="Devices",
        )
    examinations = facts["examinations"]
    rows: list[tuple[object, ...]] = [
        ("examinations", examinations["known"]),
        ("commands without examination", examinations["commands_without"]),
        ("most commands in one examination", examinations["longest"]),
    ]
    rows += [(f"mode {mode}", count) for mode, count in facts["modes"].items()]
    rows += [(f"role {role}", count) for role, count in facts["roles"].items()]
    print_table(("what", "count"), rows, title="Examinations, modes, roles")
    books = facts["books"]
    print_table(
        ("files", "read", "commands", "duplicates", "rejected"),
        [tuple(books[name] for name in ("files", "read", "commands", "duplicates", "rejected"))],
        title="Books (read = commands + duplicates + rejected)",
    )
    if books["reasons"]:
        shown = list(books["reasons"].items())
        more = len(shown) - _SHOWN_REASONS
        print_table(
            ("rejected because", "count"),
            shown[:_SHOWN_REASONS],
            caption=f"and {more} more reasons: see --report or --json" if more > 0 else "",
        )
    for text in facts["notes"]:
        note(f"note: {text}")
    if found.problem is not None and not quiet():
        click.echo(f"note: {escape(found.problem.what)}: {escape(found.problem.todo)}", err=True)


def _values(low: float | None, high: float | None, top: tuple[tuple[str, int], ...]) -> str:
    if low is not None and high is not None:
        return f"{low:g}" if low == high else f"{low:g} .. {high:g}"
    return ", ".join(f"{value} ({count})" for value, count in top)


def _column_row(column: ColumnSurvey) -> tuple[object, ...]:
    values = "(never shown)" if column.identifying else _values(column.low, column.high, column.top)
    guess = column.guess
    guessed = ""
    if guess is not None:
        guessed = f"{guess.field}{f' in {guess.unit}' if guess.unit else ''}? ({guess.why})"
    missing = round(100 * column.missing, 1)
    return (column.column, ", ".join(column.fields), column.unit, column.role, missing, values, guessed)


def _field_row(one: FieldSurvey) -> tuple[object, ...]:
    missing = round(100 * one.missing, 1)
    return (
        one.field,
        one.unit,
        one.group,
        ", ".join(one.roles),
        missing,
        _values(one.low, one.high, one.top),
    )
